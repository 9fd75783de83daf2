/* specs.h - jobs' specifications: stored where they were submitted, fetched where they run
 *
 * STATE/specs/HASH.UID holds what was submitted here, and copies for jobs that may
 * be started again: an acknowledged job needs it until it ends, whatever restarts
 * meanwhile. Which ones are needed the agent's core knows (agent_spec_needed());
 * what is not may go. All files of one user, and all of all users, are limited.
 * What is fetched for a job that will not be started again stays in memory only.
 */
#ifndef NA_IO_SPECS_H
#define NA_IO_SPECS_H

#include <uv.h>

#include "common/err.h"
#include "io/specs_disk.h"
#include "proto/message.h"

struct specs;
struct spec_blob {
	unsigned refs;
	uint8_t hash[32];
	size_t n;
	char *p;
};
struct spec_blob *spec_ref(struct spec_blob *b);
void spec_unref(struct spec_blob *b); /* NULL is fine */

/* Makes STATE/specs (0700) and reads it: before the loop runs. */
int specs_create(uv_loop_t *loop, const char *state_dir, const struct specs_limits *limits,
		 struct specs **ret, struct err *e);
void specs_destroy(struct specs *s); /* at exit */

/* All that lie on disk: before the loop runs. */
void specs_each(struct specs *s, void (*f)(void *arg, const uint8_t hash[32]), void *arg);

/* rc 0 and a blob (borrowed: spec_ref it), or -errno and a sentence. */
typedef void (*specs_cb)(void *arg, int rc, struct spec_blob *b, const char *text);
/* Takes 'p' (malloc'ed). Answers when it is on disk; then it is held, and stays
 * whatever is dropped, until specs_release(). -EDQUOT: beyond a limit. */
void specs_store(struct specs *s, char *p, size_t n, uint32_t uid, specs_cb cb, void *arg);
/* Once for each store that went well. Not needed: dropped at once. */
void specs_release(struct specs *s, const uint8_t hash[32], bool needed);
/* Removed, unless it is held. */
void specs_drop(struct specs *s, const uint8_t hash[32]);
/* All others are removed, but for those that are held. Takes 'wanted' (malloc'ed, n of them). */
void specs_keep_only(struct specs *s, uint8_t (*wanted)[32], size_t n);
/* Those that were stored more than 7 days ago are removed. */
void specs_drop_old(struct specs *s);
/* Memory, then disk; -ENOENT when it is not here (or not whole). */
void specs_load(struct specs *s, const uint8_t hash[32], specs_cb cb, void *arg);
/* Checks what came from elsewhere: takes 'p'; -EBADMSG when it is not 'hash'. */
void specs_verify(struct specs *s, char *p, size_t n, const uint8_t hash[32], specs_cb cb, void *arg);

#endif
