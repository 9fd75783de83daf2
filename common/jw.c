/* jw.c - the JSON writer of json.h
 *
 * No checks of its own beyond assert(): the caller writes key and value in
 * turn. A failed buffer stays failed; ask it once at the end.
 */
#include "common/json.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

/* Bytes that stand for themselves inside a string (ASCII only). */
static const bool plain[256] = {
	[' '] = true,
	['!'] = true,
	['#' ... '['] = true,
	[']' ... 0x7F] = true,
};

void jw_init(struct jw *w, struct buf *b)
{
	memset(w, 0, sizeof(*w));
	w->b = b;
}

/* The comma before a key or an element, if one is due. */
static void separate(struct jw *w)
{
	if (w->comma[w->depth])
		buf_addc(w->b, ',');
	w->comma[w->depth] = true;
}

static void open_level(struct jw *w, char c)
{
	separate(w);
	buf_addc(w->b, c);
	assert(w->depth < JSON_DEPTH_MAX);
	w->comma[++w->depth] = false;
}

static void close_level(struct jw *w, char c)
{
	assert(w->depth > 0);
	w->depth--;
	buf_addc(w->b, c);
}

void jw_obj(struct jw *w)
{
	open_level(w, '{');
}

void jw_end_obj(struct jw *w)
{
	close_level(w, '}');
}

void jw_arr(struct jw *w)
{
	open_level(w, '[');
}

void jw_end_arr(struct jw *w)
{
	close_level(w, ']');
}

/* One byte below 0x20, or a quote or backslash. */
static void add_escaped(struct buf *b, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t", into[] = "\"\\bfnrt";
	const char *at = memchr(from, c, sizeof(from) - 1); /* not its end: \0 is a byte like others */

	if (at)
		buf_add(b, (char[]){ '\\', into[at - from] }, 2);
	else
		buf_addf(b, "\\u%04x", c);
}

static void add_string(struct buf *b, const char *s, size_t len)
{
	buf_addc(b, '"');
	while (len > 0) {
		size_t run = 0, n;

		while (run < len && plain[(unsigned char)s[run]])
			run++;
		buf_add(b, s, run);
		s += run;
		len -= run;
		if (len == 0)
			break;
		n = utf8_seq(s, len);
		if (n == 1)
			add_escaped(b, (unsigned char)*s);
		else if (n == 0)
			buf_adds(b, UTF8_REPLACEMENT);
		else
			buf_add(b, s, n);
		s += n ? n : 1;
		len -= n ? n : 1;
	}
	buf_addc(b, '"');
}

void jw_key(struct jw *w, const char *key)
{
	separate(w);
	add_string(w->b, key, strlen(key));
	buf_addc(w->b, ':');
	w->comma[w->depth] = false; /* the value follows at once */
}

void jw_strn(struct jw *w, const char *s, size_t n)
{
	separate(w);
	add_string(w->b, s, n);
}

void jw_str(struct jw *w, const char *s)
{
	if (s)
		jw_strn(w, s, strlen(s));
	else
		jw_null(w);
}

void jw_uint(struct jw *w, uint64_t v)
{
	char text[20];
	size_t at = sizeof(text);

	do {
		text[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	separate(w);
	buf_add(w->b, text + at, sizeof(text) - at);
}

void jw_int(struct jw *w, int64_t v)
{
	if (v >= 0) {
		jw_uint(w, (uint64_t)v);
		return;
	}
	separate(w);
	buf_addc(w->b, '-');
	w->comma[w->depth] = false;
	jw_uint(w, -(uint64_t)v);
}

/* The shorter of 15 and 17 digits that reads back as the same number. */
void jw_dbl(struct jw *w, double v)
{
	char text[40];

	if (!isfinite(v)) {
		jw_null(w);
		return;
	}
	snprintf(text, sizeof(text), "%.15g", v);
	if (strtod(text, NULL) != v)
		snprintf(text, sizeof(text), "%.17g", v);
	separate(w);
	buf_adds(w->b, text);
}

void jw_bool(struct jw *w, bool v)
{
	separate(w);
	buf_adds(w->b, v ? "true" : "false");
}

void jw_null(struct jw *w)
{
	separate(w);
	buf_adds(w->b, "null");
}
