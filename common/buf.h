/* buf.h - a growing byte buffer
 *
 * An allocation failure makes the buffer "failed": later appends are ignored
 * and buf_failed() tells. So a long chain of appends needs one check.
 */
#ifndef NA_COMMON_BUF_H
#define NA_COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* not NUL-terminated unless buf_str() was called */
	size_t len;
	size_t cap;
	bool failed;
};

void buf_init(struct buf *b);
void buf_finish(struct buf *b); /* frees; leaves an empty, usable buffer */
void buf_reset(struct buf *b); /* len = 0, keeps memory, clears failed */
bool buf_failed(const struct buf *b);
/* Room for n more bytes; NULL on failure. Follow with b->len += written. */
char *buf_reserve(struct buf *b, size_t n);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Drops n bytes from the front (n <= len). */
void buf_drop(struct buf *b, size_t n);
/* NUL-terminates (not counted in len) and returns data; "" when failed or empty. */
const char *buf_str(struct buf *b);
/* Takes the memory out (caller frees with free()), NUL-terminated; NULL when failed. */
char *buf_steal(struct buf *b, size_t *ret_len);

#endif
