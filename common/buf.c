/* buf.c - a growing byte buffer
 *
 * Capacity doubles, so appends cost O(1) on average. After a failed
 * allocation what was there stays readable, but is not to be trusted as
 * whole: buf_failed() tells until buf_reset() or buf_finish().
 */
#include "common/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST 64

void buf_init(struct buf *b)
{
	memset(b, 0, sizeof(*b));
}

void buf_finish(struct buf *b)
{
	free(b->data);
	buf_init(b);
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

bool buf_failed(const struct buf *b)
{
	return b->failed;
}

/* Smallest capacity worth asking for that holds 'need'; 0 when there is none. */
static size_t grown_cap(size_t cap, size_t need)
{
	size_t next = cap ? cap : BUF_FIRST;

	while (next < need) {
		if (next > SIZE_MAX / 4)
			return 0;
		next *= 2;
	}
	return next;
}

static bool grow(struct buf *b, size_t n)
{
	size_t cap = n > SIZE_MAX / 2 - b->len ? 0 : grown_cap(b->cap, b->len + n);
	char *data = cap ? realloc(b->data, cap) : NULL;

	if (!data) {
		b->failed = true;
		return false;
	}

	b->data = data;
	b->cap = cap;
	return true;
}

char *buf_reserve(struct buf *b, size_t n)
{
	if (b->failed)
		return NULL;
	if ((b->cap - b->len < n || !b->data) && !grow(b, n))
		return NULL;
	return b->data + b->len;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	char *to;

	if (n == 0)
		return;
	to = buf_reserve(b, n);
	if (!to)
		return;

	memcpy(to, p, n);
	b->len += n;
}

void buf_adds(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c)
{
	char *to = buf_reserve(b, 1);

	if (!to)
		return;
	*to = c;
	b->len++;
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	size_t room = BUF_FIRST;

	for (;;) {
		char *to = buf_reserve(b, room);
		va_list ap;
		int n;

		if (!to)
			return;
		va_start(ap, fmt);
		n = vsnprintf(to, b->cap - b->len, fmt, ap);
		va_end(ap);
		if (n < 0) {
			b->failed = true;
			return;
		}
		if ((size_t)n < b->cap - b->len) {
			b->len += (size_t)n;
			return;
		}
		room = (size_t)n + 1;
	}
}

void buf_drop(struct buf *b, size_t n)
{
	assert(n <= b->len);
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

const char *buf_str(struct buf *b)
{
	char *end = buf_reserve(b, 1);

	if (!end)
		return "";
	*end = '\0';
	return b->data;
}

char *buf_steal(struct buf *b, size_t *ret_len)
{
	char *end = buf_reserve(b, 1);
	char *data;

	if (!end)
		return NULL;
	*end = '\0';
	data = b->data;
	if (ret_len)
		*ret_len = b->len;
	buf_init(b);
	return data;
}
