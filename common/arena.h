/* arena.h - memory that is freed all at once: one message, one step
 *
 * Allocations are zeroed and aligned for any type. NULL on failure.
 */
#ifndef NA_COMMON_ARENA_H
#define NA_COMMON_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
	struct arena_block *head;
};

void arena_init(struct arena *a);
void arena_finish(struct arena *a); /* frees everything; the arena is usable again */
void *arena_alloc(struct arena *a, size_t n);
char *arena_strdup(struct arena *a, const char *s);
void *arena_memdup(struct arena *a, const void *p, size_t n); /* one NUL byte after it */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
