/* json.h - strict JSON in, plain JSON out
 *
 * cJSON accepts more than JSON (duplicate keys, trailing bytes, \u0000,
 * invalid UTF-8, 1e999, 01) and ignores case. json_parse() first scans the
 * text itself and hands only clean text to cJSON. Read members with
 * cJSON_GetObjectItemCaseSensitive only; never use Compare, Duplicate, Utils.
 */
#ifndef NA_COMMON_JSON_H
#define NA_COMMON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "common/buf.h"
#include "common/err.h"

#define JSON_DEPTH_MAX 16

/* 0 when text[0..len) is one strict JSON value: depth <= 16, valid UTF-8, no
 * NUL byte or \u0000, no lone surrogate escape, no duplicate key in an object
 * (after unescaping), numbers as RFC 8259 and finite; else -EINVAL. Runs in
 * O(len log len). */
int json_scan(const char *text, size_t len, struct err *e);
/* json_scan + cJSON. NULL on error; caller frees with cJSON_Delete. */
cJSON *json_parse(const char *text, size_t len, struct err *e);
bool utf8_valid(const char *p, size_t len); /* no surrogates, no overlong forms, <= U+10FFFF */

/* Writer: appends to a buf, puts commas by itself. Depth <= 16. */
struct jw {
	struct buf *b;
	unsigned depth;
	bool comma[JSON_DEPTH_MAX + 2];
};
void jw_init(struct jw *w, struct buf *b);
void jw_obj(struct jw *w); /* { */
void jw_end_obj(struct jw *w);
void jw_arr(struct jw *w); /* [ */
void jw_end_arr(struct jw *w);
void jw_key(struct jw *w, const char *key);
void jw_str(struct jw *w, const char *s); /* invalid UTF-8 bytes become U+FFFD; NULL -> null */
void jw_strn(struct jw *w, const char *s, size_t n);
void jw_int(struct jw *w, int64_t v);
void jw_uint(struct jw *w, uint64_t v);
void jw_dbl(struct jw *w, double v); /* not finite -> null */
void jw_bool(struct jw *w, bool v);
void jw_null(struct jw *w);

#endif
