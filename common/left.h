/* left.h - processes that outlive SIGKILL: who they are, and why
 *
 * Either it has reached them and they cannot die (state D), or they became another
 * user's (sudo) and whoever ends the job may not signal them: 'foreign'.
 *
 * They are passed from who has met them (a sweep, the launcher, the shim) to the
 * agent as lines "PID START_TIME TEXT", for the launcher speaks no JSON. The text
 * is made where it can be seen: what a process waits for is told to root and to
 * its own user only.
 */
#ifndef NA_COMMON_LEFT_H
#define NA_COMMON_LEFT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/proc.h"

#define LEFT_TEXT_MAX 128

struct left {
	struct proc_id id;
	char text[LEFT_TEXT_MAX]; /* "state D (disk sleep) in nfs_wait_bit_killable" */
};

/* Appends its line to the NUL-terminated lines; nothing when there is no room, or
 * when it is dead. */
void left_add(char *lines, size_t size, const struct proc_id *p);
/* The next line; NULL when there is none that makes sense. */
const char *left_next(const char *lines, struct left *ret);
/* As left_tell_state(); of a foreign one also as whom it runs. */
void left_tell(const struct proc_id *p, char *out, size_t size);
/* We may not signal it. */
bool left_foreign(const struct proc_id *p);
/* "state D (disk sleep) in nfs_wait_bit_killable", "state S (sleeping)" */
void left_tell_state(pid_t pid, char *out, size_t size);
/* Is it in the cgroup (v2) whose directory has this name, or beneath it? As far
 * as /proc tells. */
bool left_in_cgroup(pid_t pid, const char *name);

#endif
