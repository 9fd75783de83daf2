/* message_encode.c - messages to JSON
 *
 * Fields in table order. Refuses what the decoder would refuse, so a message
 * that leaves can be read by the peer. On failure the buffer is as before.
 */
#include "proto/message_table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/base64.h"
#include "common/json.h"
#include "common/utf8.h"

struct enc {
	struct jw w;
	struct buf text; /* base64 on its way */
	struct err *e;
};

static int encode_record(struct enc *c, const struct path *p, const struct record *r,
			 const void *base);

/* Length as it will be on the wire: a byte that is not UTF-8 takes three. */
static size_t wire_len(const char *s)
{
	size_t len = strlen(s), total = 0;

	if (utf8_valid(s, len))
		return len;
	while (len > 0) {
		size_t n = utf8_seq(s, len), step = n ? n : 1;

		total += n ? n : strlen(UTF8_REPLACEMENT);
		s += step;
		len -= step;
	}
	return total;
}

static int put_str(struct enc *c, const struct path *p, const struct field *f, const char *s)
{
	size_t n;

	if (!s)
		return msgt_flaw(c->e, p, f, "is required");
	n = wire_len(s);
	if (n > f->max)
		return msgt_flaw(c->e, p, f, "%zu bytes, at most %u are allowed", n, f->max);
	jw_str(&c->w, s);
	return 0;
}

static int put_bytes(struct enc *c, const struct path *p, const struct field *f,
		     const struct bytes *v)
{
	if (!v->p)
		return msgt_flaw(c->e, p, f, "is required");
	if (v->n > f->max)
		return msgt_flaw(c->e, p, f, "%zu bytes, at most %u are allowed", v->n, f->max);
	buf_reset(&c->text);
	base64_encode(&c->text, v->p, v->n);
	if (buf_failed(&c->text))
		return msgt_no_memory(c->e);
	jw_strn(&c->w, c->text.data, c->text.len);
	return 0;
}

static int put_strs(struct enc *c, const struct path *p, const struct field *f,
		    const char *const *v, size_t n)
{
	int rc = 0;

	jw_arr(&c->w);
	for (size_t i = 0; i < n && !rc; i++)
		rc = put_str(c, p, f, v[i]);
	jw_end_arr(&c->w);
	return rc;
}

static int put_recs(struct enc *c, const struct path *p, const struct field *f, const char *v,
		    size_t n)
{
	const struct record *sub = msgt_record(f->sub);
	int rc = 0;

	jw_arr(&c->w);
	for (size_t i = 0; i < n && !rc; i++) {
		const struct path here = { p, f->name, i };

		rc = encode_record(c, &here, sub, v + i * sub->size);
	}
	jw_end_arr(&c->w);
	return rc;
}

static int put_list(struct enc *c, const struct path *p, const struct field *f, const char *base)
{
	const void *v = *(const void *const *)(const void *)(base + f->at);
	size_t n = *(const size_t *)(const void *)(base + f->count_at);

	if (n > 0 && !v)
		return msgt_flaw(c->e, p, f, "%zu elements, but no pointer to them", n);
	if (n > f->n)
		return msgt_flaw(c->e, p, f, "%zu elements, at most %u are allowed", n, f->n);
	return f->kind == K_STRS ? put_strs(c, p, f, v, n) : put_recs(c, p, f, v, n);
}

static int put_u32(struct enc *c, const struct path *p, const struct field *f, uint32_t v)
{
	if (v > f->max)
		return msgt_flaw(c->e, p, f, "%u, at most %u is allowed", v, f->max);
	jw_uint(&c->w, v);
	return 0;
}

static void put_u64(struct enc *c, uint64_t v)
{
	char text[24];

	jw_strn(&c->w, text, (size_t)snprintf(text, sizeof(text), "%llu", (unsigned long long)v));
}

static void put_i64(struct enc *c, int64_t v)
{
	char text[24];

	jw_strn(&c->w, text, (size_t)snprintf(text, sizeof(text), "%lld", (long long)v));
}

/* True for a value that an OPT field leaves out: 0, false, NULL, no elements. */
static bool is_empty(const struct field *f, const char *base)
{
	const void *at = base + f->at;

	switch (f->kind) {
	case K_U32:
		return *(const uint32_t *)at == 0;
	case K_U64:
	case K_I64:
		return *(const uint64_t *)at == 0;
	case K_BOOL:
		return !*(const bool *)at;
	case K_STR:
		return !*(const char *const *)at;
	case K_BYTES:
		return !((const struct bytes *)at)->p || ((const struct bytes *)at)->n == 0;
	default:
		return *(const size_t *)(const void *)(base + f->count_at) == 0;
	}
}

static bool is_scalar(const struct field *f)
{
	return f->kind <= K_BOOL;
}

static int put_value(struct enc *c, const struct path *p, const struct field *f, const char *base)
{
	const void *at = base + f->at;

	switch (f->kind) {
	case K_U32:
		return put_u32(c, p, f, *(const uint32_t *)at);
	case K_U64:
		put_u64(c, *(const uint64_t *)at);
		return 0;
	case K_I64:
		put_i64(c, *(const int64_t *)at);
		return 0;
	case K_BOOL:
		jw_bool(&c->w, *(const bool *)at);
		return 0;
	case K_STR:
		return put_str(c, p, f, *(const char *const *)at);
	case K_BYTES:
		return put_bytes(c, p, f, at);
	default:
		return put_list(c, p, f, base);
	}
}

static int encode_fields(struct enc *c, const struct path *p, const struct record *r,
			 const void *base)
{
	uint64_t has = *(const uint64_t *)base; /* the first member of every record */

	for (unsigned i = 0; i < r->nfields; i++) {
		const struct field *f = &r->fields[i];
		bool marked = is_scalar(f) && (has >> i & 1);
		int rc;

		if (!f->req && !marked && is_empty(f, base))
			continue;
		jw_key(&c->w, f->name);
		rc = put_value(c, p, f, base);
		if (rc)
			return rc;
	}
	return 0;
}

static int encode_record(struct enc *c, const struct path *p, const struct record *r,
			 const void *base)
{
	int rc;

	jw_obj(&c->w);
	rc = encode_fields(c, p, r, base);
	jw_end_obj(&c->w);
	return rc;
}

int msg_encode(const struct msg *m, struct buf *b, struct err *e)
{
	const struct path top = { NULL, msg_name(m->type), 0 };
	struct enc c = { .e = e };
	size_t from = b->len;
	int rc;

	assert(m->type > MSG_none && m->type < MSG_TYPE_COUNT);
	jw_init(&c.w, b);
	jw_obj(&c.w);
	jw_key(&c.w, "t");
	jw_str(&c.w, top.name);
	rc = encode_fields(&c, &top, msgt_of(m->type), &m->u);
	jw_end_obj(&c.w);
	buf_finish(&c.text);
	if (!rc && buf_failed(b))
		rc = msgt_no_memory(e);
	if (rc && !buf_failed(b))
		b->len = from; /* nothing half done stays */
	return rc;
}
