/* check.h - cwd and command, looked at as the user, before the job is 'ready'
 *
 * Blocks like any look at a file: a dead network mount stops the shim here,
 * where nothing runs yet; the agent's own deadline notices.
 *
 * Sentences do not name the node: the coordinator, who has heard several, does.
 */
#ifndef NA_SHIM_CHECK_H
#define NA_SHIM_CHECK_H

#include <stdint.h>

#include "common/err.h"
#include "proto/spec.h"

/* Changes into spec->cwd. 0 or -errno and a sentence. */
int check_cwd(const struct spec *spec, struct err *e);

/* Finds argv[0] in the PATH of the job's environment, or as a path when it
 * has a slash, relative to the present directory. 0 and a path to execve
 * (caller frees); or -errno, *ret_code 126 or 127 as shells do, and a sentence. */
int check_command(const struct spec *spec, char **ret_path, uint32_t *ret_code, struct err *e);

/* What the kernel passes to a program at most: all of it, and one argument or variable. */
struct room {
	size_t all, one;
};
void check_room_here(struct room *ret);
/* Whether execve would take them, before anything is started. -E2BIG and a sentence. */
int check_room(const struct room *room, const char *path, const char *const *argv,
	       const char *const *env, struct err *e);

#endif
