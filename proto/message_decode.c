/* message_decode.c - messages from JSON
 *
 * Fields are looked up by exact name, beginning after the last one found:
 * senders write them in table order, so a lookup is mostly one comparison.
 * Everything a message points to is copied into its arena.
 */
#include "proto/message_table.h"

#include <errno.h>
#include <string.h>

#include "common/base64.h"
#include "common/json.h"

struct dec {
	struct arena *arena;
	struct err *e;
};

static int decode_record(struct dec *c, const struct path *p, const struct record *r,
			 const cJSON *json, void *base);

static int get_u32(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		   uint32_t *ret)
{
	double v = json->valuedouble;

	if (!cJSON_IsNumber(json))
		return msgt_flaw(c->e, p, f, "must be a number");
	if (!(v >= 0 && v <= f->max) || v != (uint32_t)v)
		return msgt_flaw(c->e, p, f, "must be a whole number from 0 to %u", f->max);
	*ret = (uint32_t)v;
	return 0;
}

/* Decimal digits without a leading zero, at most 2^64-1. */
static bool parse_digits(const char *text, uint64_t *ret)
{
	uint64_t v = 0;

	if (!*text || (text[0] == '0' && text[1]))
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return false;
	}
	*ret = v;
	return true;
}

static int get_u64(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		   uint64_t *ret)
{
	if (!cJSON_IsString(json) || !parse_digits(json->valuestring, ret))
		return msgt_flaw(c->e, p, f, "must be a string of decimal digits below 2^64");
	return 0;
}

static int get_i64(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		   int64_t *ret)
{
	const char *text = cJSON_IsString(json) ? json->valuestring : "";
	bool minus = *text == '-';
	uint64_t v;

	if (!parse_digits(text + minus, &v) || (minus && v == 0) ||
	    v > (uint64_t)INT64_MAX + minus)
		return msgt_flaw(c->e, p, f, "must be a string of decimal digits within 64 bits");
	*ret = minus ? -(int64_t)(v - 1) - 1 : (int64_t)v;
	return 0;
}

static int get_bool(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		    bool *ret)
{
	if (!cJSON_IsBool(json))
		return msgt_flaw(c->e, p, f, "must be true or false");
	*ret = cJSON_IsTrue(json);
	return 0;
}

static int get_str(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		   const char **ret)
{
	size_t n;

	if (!cJSON_IsString(json))
		return msgt_flaw(c->e, p, f, "must be a string");
	n = strlen(json->valuestring);
	if (n > f->max)
		return msgt_flaw(c->e, p, f, "%zu bytes, at most %u are allowed", n, f->max);
	*ret = arena_memdup(c->arena, json->valuestring, n);
	return *ret ? 0 : msgt_no_memory(c->e);
}

static int get_bytes(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		     struct bytes *ret)
{
	const char *text = cJSON_IsString(json) ? json->valuestring : NULL;
	size_t len = text ? strlen(text) : 0;
	uint8_t *to;
	long n;

	if (!text)
		return msgt_flaw(c->e, p, f, "must be a base64 string");
	if (len > ((size_t)f->max + 2) / 3 * 4)
		return msgt_flaw(c->e, p, f, "more than %u bytes", f->max);
	to = arena_alloc(c->arena, len / 4 * 3 + 1);
	if (!to)
		return msgt_no_memory(c->e);
	n = base64_decode(text, len, to);
	if (n < 0)
		return msgt_flaw(c->e, p, f, "must be a base64 string");
	if ((size_t)n > f->max)
		return msgt_flaw(c->e, p, f, "more than %u bytes", f->max);
	ret->p = to;
	ret->n = (size_t)n;
	return 0;
}

static int get_strs(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		    const char **into)
{
	for (const cJSON *one = json->child; one; one = one->next, into++) {
		int rc = get_str(c, p, f, one, into);

		if (rc)
			return rc;
	}
	return 0;
}

static int get_recs(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		    char *into)
{
	const struct record *sub = msgt_record(f->sub);
	struct path here = { p, f->name, 0 };

	for (const cJSON *one = json->child; one; one = one->next, into += sub->size) {
		int rc = decode_record(c, &here, sub, one, into);

		if (rc)
			return rc;
		here.index++;
	}
	return 0;
}

static int get_list(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		    char *base)
{
	size_t size = f->kind == K_STRS ? sizeof(char *) : msgt_record(f->sub)->size, n = 0;
	void *list;

	if (!cJSON_IsArray(json))
		return msgt_flaw(c->e, p, f, "must be an array");
	for (const cJSON *one = json->child; one; one = one->next)
		n++;
	if (n > f->n)
		return msgt_flaw(c->e, p, f, "%zu elements, at most %u are allowed", n, f->n);
	list = arena_alloc(c->arena, n * size);
	if (!list)
		return msgt_no_memory(c->e);
	*(void **)(void *)(base + f->at) = list;
	*(size_t *)(void *)(base + f->count_at) = n;
	return f->kind == K_STRS ? get_strs(c, p, f, json, list) : get_recs(c, p, f, json, list);
}

static int get_value(struct dec *c, const struct path *p, const struct field *f, const cJSON *json,
		     char *base)
{
	void *at = base + f->at;

	switch (f->kind) {
	case K_U32:
		return get_u32(c, p, f, json, at);
	case K_U64:
		return get_u64(c, p, f, json, at);
	case K_I64:
		return get_i64(c, p, f, json, at);
	case K_BOOL:
		return get_bool(c, p, f, json, at);
	case K_STR:
		return get_str(c, p, f, json, at);
	case K_BYTES:
		return get_bytes(c, p, f, json, at);
	default:
		return get_list(c, p, f, json, base);
	}
}

/* Index of the field of that name, or nfields; tries 'hint' first. */
static unsigned find_field(const struct record *r, const char *name, unsigned hint)
{
	for (unsigned n = 0; n < r->nfields; n++) {
		unsigned i = hint + n < r->nfields ? hint + n : hint + n - r->nfields;

		if (strcmp(r->fields[i].name, name) == 0)
			return i;
	}
	return r->nfields;
}

static int check_required(struct dec *c, const struct path *p, const struct record *r, uint64_t has)
{
	uint64_t absent = r->required & ~has;

	if (!absent)
		return 0;
	return msgt_flaw(c->e, p, &r->fields[__builtin_ctzll(absent)], "is required");
}

static int decode_record(struct dec *c, const struct path *p, const struct record *r,
			 const cJSON *json, void *base)
{
	uint64_t has = 0;
	unsigned next = 0;

	if (!cJSON_IsObject(json)) {
		const struct field self = { .name = p->name };

		return msgt_flaw(c->e, p->up, &self, "element %zu must be an object", p->index);
	}
	for (const cJSON *one = json->child; one; one = one->next) {
		unsigned i = find_field(r, one->string, next);
		int rc;

		if (i == r->nfields || cJSON_IsNull(one)) /* unknown, or as good as absent */
			continue;
		rc = get_value(c, p, &r->fields[i], one, base);
		if (rc)
			return rc;
		has |= UINT64_C(1) << i;
		next = i + 1 < r->nfields ? i + 1 : 0;
	}
	*(uint64_t *)base = has;
	return check_required(c, p, r, has);
}

static enum msg_type find_type(const char *name)
{
	for (int t = MSG_none + 1; t < MSG_TYPE_COUNT; t++) {
		if (strcmp(msgt_of((enum msg_type)t)->name, name) == 0)
			return (enum msg_type)t;
	}
	return MSG_none;
}

static int decode_json(const cJSON *json, struct msg *m, struct err *e)
{
	const cJSON *t = cJSON_GetObjectItemCaseSensitive(json, "t");
	struct dec c = { .arena = &m->arena, .e = e };
	struct path top = { .up = NULL };
	const struct record *r;

	if (!cJSON_IsObject(json) || !cJSON_IsString(t))
		return err_set(e, EINVAL, "a message must be an object whose \"t\" is its name");
	m->type = find_type(t->valuestring);
	if (m->type == MSG_none)
		return err_set(e, ENOTSUP, "unknown message '%.64s'", t->valuestring);
	r = msgt_of(m->type);
	top.name = r->name;
	return decode_record(&c, &top, r, json, &m->u);
}

int msg_decode(const char *text, size_t len, struct msg *ret, struct err *e)
{
	struct err inner = { .code = 0 };
	cJSON *json;
	int rc;

	msg_init(ret, MSG_none);
	json = json_parse(text, len, &inner);
	rc = json ? decode_json(json, ret, &inner) : inner.code;
	cJSON_Delete(json);
	if (rc) {
		arena_finish(&ret->arena);
		msg_init(ret, MSG_none);
		return err_set(e, rc, "%s", inner.text);
	}
	return 0;
}
