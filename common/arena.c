/* arena.c - memory that is freed all at once
 *
 * A chain of zeroed blocks, newest first; each block is about twice as large
 * as the one before, up to BLOCK_MAX. A request that does not fit gets a
 * block of its own size. Nothing can be given back singly.
 */
#include "common/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_FIRST ((size_t)512)
#define BLOCK_MAX ((size_t)64 * 1024)

struct arena_block {
	struct arena_block *next;
	size_t used, size; /* of data */
	alignas(max_align_t) unsigned char data[];
};

void arena_init(struct arena *a)
{
	a->head = NULL;
}

void arena_finish(struct arena *a)
{
	struct arena_block *next;

	for (struct arena_block *b = a->head; b; b = next) {
		next = b->next;
		free(b);
	}
	a->head = NULL;
}

static struct arena_block *block_new(struct arena *a, size_t size)
{
	struct arena_block *b = calloc(1, sizeof(*b) + size);

	if (!b)
		return NULL;
	b->size = size;
	b->next = a->head;
	a->head = b;
	return b;
}

/* A new block at the head with room for n bytes. A large request goes behind
 * a head that still has room, so the room is not lost. */
static void *alloc_slow(struct arena *a, size_t n)
{
	size_t size = a->head ? a->head->size * 2 : BLOCK_FIRST;
	struct arena_block *old = a->head, *b;

	if (size > BLOCK_MAX)
		size = BLOCK_MAX;
	b = block_new(a, n > size ? n : size);
	if (!b)
		return NULL;

	b->used = n;
	if (old && n > size / 2 && b->size - n < old->size - old->used) {
		a->head = old;
		b->next = old->next;
		old->next = b;
	}
	return b->data;
}

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->head;
	void *p;

	if (n > SIZE_MAX / 2)
		return NULL;
	n = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (n == 0)
		n = alignof(max_align_t);
	if (!b || b->size - b->used < n)
		return alloc_slow(a, n);

	p = b->data + b->used;
	b->used += n;
	return p;
}

void *arena_memdup(struct arena *a, const void *p, size_t n)
{
	char *copy = n < SIZE_MAX / 2 ? arena_alloc(a, n + 1) : NULL;

	if (copy && n > 0)
		memcpy(copy, p, n);
	return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_memdup(a, s, strlen(s));
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	text = arena_alloc(a, (size_t)n + 1);
	if (!text)
		return NULL;

	va_start(ap, fmt);
	vsnprintf(text, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return text;
}
