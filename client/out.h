/* out.h - one way to say things, two renderings: text for people, JSON for programs
 *
 * A command builds a document with start, attr, data and end; whether that
 * becomes tables or one JSON object is the writer's affair. An attribute with
 * no title is left out of the text, one with no key is left out of the JSON.
 *
 *   OUT_OBJECT   text: "title  value" lines        JSON: {}
 *   OUT_TABLE    text: a table, a column a title   JSON: [] of OUT_ROW
 *   OUT_ROW      one line of a table               JSON: {}
 *   OUT_LINES    data() are paragraphs with "! "   JSON: [] of strings
 *
 * What is started within a row is for programs only.
 *
 * In such a paragraph two blanks part clauses ("what it is  fix: what to do"):
 * a clause that fits one line is not torn.
 */
#ifndef NA_CLIENT_OUT_H
#define NA_CLIENT_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

enum out_form { OUT_OBJECT, OUT_TABLE, OUT_ROW, OUT_LINES };
enum out_tone { OUT_PLAIN, OUT_GOOD, OUT_WARN, OUT_BAD, OUT_DIM };
enum out_kind { OUT_STR, OUT_INT, OUT_UINT, OUT_NUM, OUT_BOOL, OUT_NULL, OUT_STRS, OUT_NUMS };

#define OUT_RIGHT 1u /* flush right */
#define OUT_SHRINK 2u /* may be cut when the table is too wide */
#define OUT_WRAP 8u /* of the last column: what does not fit goes on below */
#define OUT_SPARE 4u /* may be left out then, the last one first */

struct out_attr {
	const char *key, *title;
	enum out_kind kind;
	enum out_tone tone;
	unsigned flags;
	const char *s;
	int64_t i;
	uint64_t u;
	double d;
	bool b;
	const char *const *strs;
	size_t n; /* OUT_NUMS: strings of decimal digits, numbers in the JSON */
};

struct out;
struct out_ops {
	void (*start)(struct out *o, const char *key, enum out_form form);
	void (*attr)(struct out *o, const struct out_attr *a);
	/* A sentence: a line of its own in the text, a string in the JSON (under
	 * 'key', or an element of OUT_LINES; neither: text only). */
	void (*data)(struct out *o, const char *key, const char *text, enum out_tone tone);
	void (*end)(struct out *o);
	void (*destroy)(struct out *o);
};

struct out {
	const struct out_ops *ops;
	struct buf *b; /* rendered so far; borrowed */
};

struct out *out_text_create(struct buf *b, unsigned columns, bool colour);
/* Each document is one line. */
struct out *out_json_create(struct buf *b);

/* All of these do nothing when o is NULL, so that a failed create needs one check at the end. */
void out_start(struct out *o, const char *key, enum out_form form);
void out_end(struct out *o);
void out_destroy(struct out *o);
void out_data(struct out *o, const char *key, const char *text);
/* An element of OUT_LINES; the tone is that of its "!". */
void out_line(struct out *o, enum out_tone tone, const char *text);
void out_attr(struct out *o, const struct out_attr *a);

/* The usual attributes. Strings are copied; NULL is null in JSON and "-" in text. */
void out_str(struct out *o, const char *key, const char *title, const char *s);
void out_uint(struct out *o, const char *key, const char *title, uint64_t v);
void out_int(struct out *o, const char *key, const char *title, int64_t v);
void out_num(struct out *o, const char *key, const char *title, double v);
void out_bool(struct out *o, const char *key, const char *title, bool v);
void out_null(struct out *o, const char *key);
void out_nums(struct out *o, const char *key, const char *title, const char *const *s, size_t n);
void out_strs(struct out *o, const char *key, const char *title, const char *const *s, size_t n);
/* Text only, for values that people read in another form than programs. */
void out_cell(struct out *o, const char *title, unsigned flags, enum out_tone tone, const char *fmt,
	      ...) __attribute__((format(printf, 5, 6)));

#endif
