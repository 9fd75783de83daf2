/* specs.h - jobs' specifications: stored where they were submitted, fetched where they run
 *
 * STATE/specs/HASH holds what was submitted here: an acknowledged job needs it
 * until it ends, whatever restarts meanwhile. Kept 7 days, then removed at
 * start. What is fetched for a launch stays in memory only.
 */
#ifndef NA_IO_SPECS_H
#define NA_IO_SPECS_H

#include <uv.h>

#include "common/err.h"
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

/* Makes STATE/specs (0700); removes old ones on the thread pool. */
int specs_create(uv_loop_t *loop, const char *state_dir, struct specs **ret, struct err *e);
void specs_destroy(struct specs *s); /* at exit */

/* rc 0 and a blob (borrowed: spec_ref it), or -errno and a sentence. */
typedef void (*specs_cb)(void *arg, int rc, struct spec_blob *b, const char *text);
/* Takes 'p' (malloc'ed). Answers when it is on disk. */
void specs_store(struct specs *s, char *p, size_t n, specs_cb cb, void *arg);
/* Memory, then disk; -ENOENT when it is not here (or not whole). */
void specs_load(struct specs *s, const uint8_t hash[32], specs_cb cb, void *arg);
/* Checks what came from elsewhere: takes 'p'; -EBADMSG when it is not 'hash'. */
void specs_verify(struct specs *s, char *p, size_t n, const uint8_t hash[32], specs_cb cb, void *arg);

#endif
