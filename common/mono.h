/* mono.h - monotonic time that cannot be mixed up with wall-clock time
 *
 * A mono_t is a moment on CLOCK_MONOTONIC (or on a simulator's virtual
 * clock); only differences mean anything. Wall-clock times are int64_t
 * milliseconds since 1970 and are always called *_wall_ms.
 */
#ifndef NA_COMMON_MONO_H
#define NA_COMMON_MONO_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
	int64_t ns;
} mono_t;

#define MONO_NEVER ((mono_t){ INT64_MAX })

static inline mono_t mono_add_ms(mono_t t, int64_t ms)
{
	return (mono_t){ t.ns + ms * 1000000 };
}

/* Milliseconds from b to a, rounded towards zero. */
static inline int64_t mono_sub_ms(mono_t a, mono_t b)
{
	return (a.ns - b.ns) / 1000000;
}

static inline bool mono_before(mono_t a, mono_t b)
{
	return a.ns < b.ns;
}

/* True when the moment 't' has come. MONO_NEVER never comes. */
static inline bool mono_due(mono_t t, mono_t now)
{
	return t.ns != INT64_MAX && t.ns <= now.ns;
}

static inline mono_t mono_min(mono_t a, mono_t b)
{
	return a.ns < b.ns ? a : b;
}

static inline bool mono_is_never(mono_t t)
{
	return t.ns == INT64_MAX;
}

#endif
