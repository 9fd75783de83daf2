/* since.h - a moment in the past, as people write it */
#ifndef NA_CLIENT_SINCE_H
#define NA_CLIENT_SINCE_H

#include <stdint.h>

#include "common/err.h"

/* "10m" or "2d": so long ago; "14:05": the last time it was so late;
 * "2026-11-25", "2026-11-25 14:05:30" (or with a T): in the local time zone.
 * 'what' names the option in the sentence. 0 or -EINVAL. */
int since_parse(const char *what, const char *text, int64_t now_ms, int64_t *ret_wall_ms, struct err *e);

#endif
