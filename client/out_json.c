/* out_json.c - documents as JSON, and what both writers share; see out.h */
#include "client/out.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"

#define DEPTH 8

struct out_json {
	struct out out;
	struct jw w;
	enum out_form form[DEPTH];
	unsigned depth;
};

static bool in_array(const struct out_json *j)
{
	enum out_form f = j->depth ? j->form[j->depth - 1] : OUT_OBJECT;

	return f == OUT_TABLE || f == OUT_LINES;
}

static void json_start(struct out *o, const char *key, enum out_form form)
{
	struct out_json *j = (struct out_json *)o;

	if (j->depth && !in_array(j))
		jw_key(&j->w, key);
	j->form[j->depth++] = form;
	if (in_array(j))
		jw_arr(&j->w);
	else
		jw_obj(&j->w);
}

static void json_end(struct out *o)
{
	struct out_json *j = (struct out_json *)o;

	if (in_array(j))
		jw_end_arr(&j->w);
	else
		jw_end_obj(&j->w);
	if (--j->depth)
		return;
	buf_addc(o->b, '\n');
	jw_init(&j->w, o->b); /* the next document */
}

static void json_value(struct jw *w, const struct out_attr *a)
{
	switch (a->kind) {
	case OUT_STR:
		jw_str(w, a->s);
		break;
	case OUT_INT:
		jw_int(w, a->i);
		break;
	case OUT_UINT:
		jw_uint(w, a->u);
		break;
	case OUT_NUM:
		jw_dbl(w, a->d);
		break;
	case OUT_BOOL:
		jw_bool(w, a->b);
		break;
	case OUT_NULL:
		jw_null(w);
		break;
	case OUT_STRS:
	case OUT_NUMS:
		jw_arr(w);
		for (size_t i = 0; i < a->n; i++)
			if (a->kind == OUT_STRS)
				jw_str(w, a->strs[i]);
			else
				jw_uint(w, strtoull(a->strs[i], NULL, 10));
		jw_end_arr(w);
		break;
	}
}

static void json_attr(struct out *o, const struct out_attr *a)
{
	struct out_json *j = (struct out_json *)o;

	if (!a->key)
		return;
	jw_key(&j->w, a->key);
	json_value(&j->w, a);
}

static void json_data(struct out *o, const char *key, const char *text, enum out_tone tone)
{
	struct out_json *j = (struct out_json *)o;

	if (!key && !in_array(j))
		return;
	if (key)
		jw_key(&j->w, key);
	jw_str(&j->w, text);
}

static void json_destroy(struct out *o)
{
	free(o);
}

struct out *out_json_create(struct buf *b)
{
	static const struct out_ops ops = { json_start, json_attr, json_data, json_end,
					    json_destroy };
	struct out_json *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->out = (struct out){ &ops, b };
	jw_init(&j->w, b);
	return &j->out;
}

void out_start(struct out *o, const char *key, enum out_form form)
{
	if (o)
		o->ops->start(o, key, form);
}

void out_end(struct out *o)
{
	if (o)
		o->ops->end(o);
}

void out_destroy(struct out *o)
{
	if (o)
		o->ops->destroy(o);
}

void out_data(struct out *o, const char *key, const char *text)
{
	if (o)
		o->ops->data(o, key, text, OUT_PLAIN);
}

void out_line(struct out *o, enum out_tone tone, const char *text)
{
	if (o)
		o->ops->data(o, NULL, text, tone);
}

void out_attr(struct out *o, const struct out_attr *a)
{
	if (o)
		o->ops->attr(o, a);
}

void out_str(struct out *o, const char *key, const char *title, const char *s)
{
	out_attr(o, &(struct out_attr){ .key = key, .title = title, .kind = s ? OUT_STR : OUT_NULL, .s = s });
}

void out_uint(struct out *o, const char *key, const char *title, uint64_t v)
{
	out_attr(o, &(struct out_attr){ .key = key, .title = title, .kind = OUT_UINT, .u = v });
}

void out_int(struct out *o, const char *key, const char *title, int64_t v)
{
	out_attr(o, &(struct out_attr){ .key = key, .title = title, .kind = OUT_INT, .i = v });
}

void out_num(struct out *o, const char *key, const char *title, double v)
{
	out_attr(o, &(struct out_attr){ .key = key, .title = title, .kind = OUT_NUM, .d = v });
}

void out_null(struct out *o, const char *key)
{
	out_attr(o, &(struct out_attr){ .key = key, .kind = OUT_NULL });
}

void out_bool(struct out *o, const char *key, const char *title, bool v)
{
	out_attr(o, &(struct out_attr){ .key = key, .title = title, .kind = OUT_BOOL, .b = v });
}

void out_strs(struct out *o, const char *key, const char *title, const char *const *s, size_t n)
{
	out_attr(o, &(struct out_attr){ .key = key, .title = title, .kind = OUT_STRS, .strs = s, .n = n });
}

void out_nums(struct out *o, const char *key, const char *title, const char *const *s, size_t n)
{
	out_attr(o, &(struct out_attr){ .key = key, .title = title, .kind = OUT_NUMS, .strs = s, .n = n });
}

void out_cell(struct out *o, const char *title, unsigned flags, enum out_tone tone, const char *fmt,
	      ...)
{
	char text[4200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	out_attr(o, &(struct out_attr){ .title = title, .kind = OUT_STR, .tone = tone, .flags = flags,
					.s = text });
}
