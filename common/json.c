/* json.c - lets only clean JSON through to cJSON
 *
 * The scan is a plain recursive descent, at most JSON_DEPTH_MAX deep. Keys of
 * all open objects lie on one stack; when an object closes, its part of the
 * stack is sorted and neighbours are compared.
 *
 * Stricter than RFC 8259 in one point besides those in json.h: a number has
 * at most NUMBER_MAX characters, because cJSON reads no more of it.
 */
#include "common/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/utf8.h"

#define NUMBER_MAX 63
#define KEYS_FIRST 64
#define SORT_ABOVE 12 /* fewer keys are compared pair by pair */

struct key {
	const char *p; /* into the text, or unescaped in the arena */
	size_t n;
};

struct scan {
	const char *text, *p, *end;
	struct err *e;
	struct key *keys; /* first, or on the heap */
	size_t nkeys, cap;
	struct arena names;
	struct key first[KEYS_FIRST];
};

static int scan_value(struct scan *s, unsigned depth);

static int bad(struct scan *s, const char *what)
{
	return err_set(s->e, EINVAL, "not valid JSON at byte %zu: %s", (size_t)(s->p - s->text), what);
}

static int no_memory(struct scan *s)
{
	return err_set(s->e, ENOMEM, "out of memory while reading JSON");
}

static void skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
		s->p++;
}

static bool next_is(struct scan *s, char c)
{
	return s->p < s->end && *s->p == c;
}

static int hex4(const char *p, unsigned *ret)
{
	unsigned v = 0;

	for (int i = 0; i < 4; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = v << 4 | (unsigned)((c | 0x20) - 'a' + 10);
		else
			return -EINVAL;
	}
	*ret = v;
	return 0;
}

/* At the four digits of a \u escape; a pair of surrogates is taken whole. */
static int scan_unicode(struct scan *s)
{
	unsigned high, low;

	if (s->end - s->p < 4 || hex4(s->p, &high))
		return bad(s, "\\u needs four hex digits");
	if (high == 0)
		return bad(s, "\\u0000 is not allowed");
	if (high < 0xD800 || high > 0xDFFF) {
		s->p += 4;
		return 0;
	}
	if (high > 0xDBFF || s->end - s->p < 10 || s->p[4] != '\\' || s->p[5] != 'u' ||
	    hex4(s->p + 6, &low) || low < 0xDC00 || low > 0xDFFF)
		return bad(s, "half of a surrogate pair");
	s->p += 10;
	return 0;
}

/* At the byte after a backslash. */
static int scan_escape(struct scan *s)
{
	if (s->p == s->end)
		return bad(s, "the string does not end");
	switch (*s->p) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		s->p++;
		return 0;
	case 'u':
		s->p++;
		return scan_unicode(s);
	default:
		return bad(s, "unknown escape");
	}
}

/* At the opening quote; leaves p after the closing one. */
static int scan_string(struct scan *s, bool *ret_escaped)
{
	*ret_escaped = false;
	s->p++;
	while (s->p < s->end && *s->p != '"') {
		unsigned char c = (unsigned char)*s->p;
		size_t n = 1;
		int rc;

		if (c == '\\') {
			*ret_escaped = true;
			s->p++;
			rc = scan_escape(s);
			if (rc)
				return rc;
			continue;
		}
		if (c < 0x20)
			return bad(s, "control character in a string");
		if (c >= 0x80)
			n = utf8_seq(s->p, (size_t)(s->end - s->p));
		if (n == 0)
			return bad(s, "not UTF-8");
		s->p += n;
	}
	if (s->p == s->end)
		return bad(s, "the string does not end");
	s->p++;
	return 0;
}

static size_t scan_digits(struct scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return (size_t)(s->p - from);
}

/* The fraction and the exponent, both optional. */
static int scan_number_tail(struct scan *s, bool *ret_exponent)
{
	if (next_is(s, '.')) {
		s->p++;
		if (scan_digits(s) == 0)
			return bad(s, "no digit after the decimal point");
	}
	*ret_exponent = next_is(s, 'e') || next_is(s, 'E');
	if (*ret_exponent) {
		s->p++;
		if (next_is(s, '+') || next_is(s, '-'))
			s->p++;
		if (scan_digits(s) == 0)
			return bad(s, "no digit in the exponent");
	}
	return 0;
}

static int scan_number(struct scan *s)
{
	char copy[NUMBER_MAX + 1];
	const char *from = s->p;
	bool exponent = false;
	size_t n;
	int rc;

	if (*s->p == '-')
		s->p++;
	n = next_is(s, '0');
	if (n)
		s->p++;
	else if (scan_digits(s) == 0)
		return bad(s, "a value must begin here");
	rc = scan_number_tail(s, &exponent);
	if (rc)
		return rc;

	n = (size_t)(s->p - from);
	if (n > NUMBER_MAX)
		return bad(s, "the number is too long");
	if (exponent) { /* without one, 63 digits are always finite */
		memcpy(copy, from, n);
		copy[n] = '\0';
		if (!isfinite(strtod(copy, NULL)))
			return bad(s, "the number is too large");
	}
	return 0;
}

static int scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return bad(s, "a value must begin here");
	s->p += n;
	return 0;
}

static size_t put_utf8(char *to, unsigned v)
{
	if (v < 0x80) {
		to[0] = (char)v;
		return 1;
	}
	if (v < 0x800) {
		to[0] = (char)(0xC0 | v >> 6);
		to[1] = (char)(0x80 | (v & 63));
		return 2;
	}
	if (v < 0x10000) {
		to[0] = (char)(0xE0 | v >> 12);
		to[1] = (char)(0x80 | (v >> 6 & 63));
		to[2] = (char)(0x80 | (v & 63));
		return 3;
	}
	to[0] = (char)(0xF0 | v >> 18);
	to[1] = (char)(0x80 | (v >> 12 & 63));
	to[2] = (char)(0x80 | (v >> 6 & 63));
	to[3] = (char)(0x80 | (v & 63));
	return 4;
}

/* Unescapes one \u escape (p after the 'u') that the scan has passed. */
static const char *unescape_unicode(const char *p, char **to)
{
	unsigned v = 0, low = 0;

	hex4(p, &v);
	p += 4;
	if (v >= 0xD800 && v <= 0xDFFF) {
		hex4(p + 2, &low);
		p += 6;
		v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
	}
	*to += put_utf8(*to, v);
	return p;
}

/* Unescapes a key that the scan has passed; the result is never longer. */
static int unescape(struct scan *s, struct key *k)
{
	static const char from[] = "bfnrt", into[] = "\b\f\n\r\t";
	const char *p = k->p, *end = k->p + k->n;
	char *out = arena_alloc(&s->names, k->n), *to = out;

	if (!out)
		return no_memory(s);
	while (p < end) {
		const char *special;

		if (*p != '\\') {
			*to++ = *p++;
			continue;
		}
		p += 2;
		if (p[-1] == 'u') {
			p = unescape_unicode(p, &to);
			continue;
		}
		special = strchr(from, p[-1]);
		*to++ = special ? into[special - from] : p[-1];
	}
	k->p = out;
	k->n = (size_t)(to - out);
	return 0;
}

static int push_key(struct scan *s, struct key k)
{
	struct key *more;

	if (s->nkeys == s->cap) {
		more = s->keys == s->first ? NULL : s->keys;
		more = realloc(more, 2 * s->cap * sizeof(*more));
		if (!more)
			return no_memory(s);
		if (s->keys == s->first)
			memcpy(more, s->first, sizeof(s->first));
		s->keys = more;
		s->cap *= 2;
	}
	s->keys[s->nkeys++] = k;
	return 0;
}

static int key_cmp(const void *pa, const void *pb)
{
	const struct key *a = pa, *b = pb;

	if (a->n != b->n)
		return a->n < b->n ? -1 : 1;
	return memcmp(a->p, b->p, a->n);
}

/* Keys from 'first' on belong to the object that closes now. */
static int check_unique(struct scan *s, size_t first)
{
	struct key *k = s->keys + first;
	size_t n = s->nkeys - first;
	bool sorted = n > SORT_ABOVE;

	if (sorted)
		qsort(k, n, sizeof(*k), key_cmp);
	for (size_t i = 1; i < n; i++) {
		for (size_t j = sorted ? i - 1 : 0; j < i; j++) {
			if (key_cmp(&k[i], &k[j]) == 0)
				return bad(s, "a key occurs twice in the object that ends here");
		}
	}
	s->nkeys = first;
	return 0;
}

/* "key": with the space around it. */
static int scan_key(struct scan *s)
{
	struct key k = { .p = s->p + 1 };
	bool escaped;
	int rc;

	if (!next_is(s, '"'))
		return bad(s, "a key in double quotes must begin here");
	rc = scan_string(s, &escaped);
	if (rc)
		return rc;
	k.n = (size_t)(s->p - 1 - k.p);
	if (escaped)
		rc = unescape(s, &k);
	if (!rc)
		rc = push_key(s, k);
	if (rc)
		return rc;

	skip_space(s);
	if (!next_is(s, ':'))
		return bad(s, "a colon must follow the key");
	s->p++;
	return 0;
}

/* Members or elements, at least one, separated by commas. */
static int scan_members(struct scan *s, unsigned depth, bool object)
{
	for (;;) {
		int rc = 0;

		skip_space(s);
		if (object)
			rc = scan_key(s);
		if (!rc)
			rc = scan_value(s, depth);
		if (rc)
			return rc;

		skip_space(s);
		if (!next_is(s, ','))
			return 0;
		s->p++;
	}
}

/* At the opening brace or bracket. */
static int scan_container(struct scan *s, unsigned depth, bool object)
{
	char close = object ? '}' : ']';
	size_t first = s->nkeys;
	int rc;

	if (depth > JSON_DEPTH_MAX)
		return bad(s, "nested too deeply");
	s->p++;
	skip_space(s);
	if (!next_is(s, close)) {
		rc = scan_members(s, depth, object);
		if (rc)
			return rc;
	}
	if (!next_is(s, close))
		return bad(s, object ? "a comma or } must follow" : "a comma or ] must follow");
	s->p++;
	return object ? check_unique(s, first) : 0;
}

static int scan_value(struct scan *s, unsigned depth)
{
	bool escaped;

	skip_space(s);
	if (s->p == s->end)
		return bad(s, "the text ends too early");
	switch (*s->p) {
	case '{':
		return scan_container(s, depth + 1, true);
	case '[':
		return scan_container(s, depth + 1, false);
	case '"':
		return scan_string(s, &escaped);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		return scan_number(s);
	}
}

int json_scan(const char *text, size_t len, struct err *e)
{
	struct scan s = { .text = text, .p = text, .end = text + len, .e = e, .cap = KEYS_FIRST };
	int rc;

	s.keys = s.first;
	rc = scan_value(&s, 0);
	skip_space(&s);
	if (!rc && s.p != s.end)
		rc = bad(&s, "something follows the value");
	if (s.keys != s.first)
		free(s.keys);
	arena_finish(&s.names);
	return rc;
}

cJSON *json_parse(const char *text, size_t len, struct err *e)
{
	cJSON *json;

	if (json_scan(text, len, e))
		return NULL;
	json = cJSON_ParseWithLengthOpts(text, len, NULL, 0);
	if (!json) /* the text is clean, so only memory can have been short */
		err_set(e, ENOMEM, "out of memory while reading JSON");
	return json;
}
