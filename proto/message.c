/* message.c - the tables made from messages.def, and small things around them
 *
 * The encoder is in message_encode.c, the decoder in message_decode.c. What is
 * encoded can always be decoded: the same limits hold on both sides. Neither
 * knows whether values make sense; that is the receiver's business.
 */
#include "proto/message_table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- tables: passes over messages.def, each with its own EACH ---------- */

#define REQ true
#define OPT false
#define U32(r, f, max, req) EACH(r, f, K_U32, req, f, max, 0, none)
#define U64(r, f, req) EACH(r, f, K_U64, req, f, 0, 0, none)
#define I64(r, f, req) EACH(r, f, K_I64, req, f, 0, 0, none)
#define BOOL(r, f, req) EACH(r, f, K_BOOL, req, f, 0, 0, none)
#define STR(r, f, max, req) EACH(r, f, K_STR, req, f, max, 0, none)
#define BYTES(r, f, max, req) EACH(r, f, K_BYTES, req, f, max, 0, none)
#define STRS(r, f, n, max, req) EACH(r, f, K_STRS, req, n_##f, max, n, none)
#define RECS(r, f, sub, n, req) EACH(r, f, K_RECS, req, n_##f, 0, n, sub)
#define MESSAGE(n) RECORD(n)

/* a number for each record and message */
#define RECORD(n) R_##n,
#define END(n)
#define EACH(...)
enum record_id {
	R_none,
#include "proto/messages.def"
};
#undef RECORD
#undef END
#undef EACH

/* the fields of each */
#define RECORD(n)                                                                                  \
	_Static_assert(MSGF_##n##_COUNT <= 64, "bits in 'has'");                                   \
	static const struct field fields_##n[] = {
#define EACH(r, f, kind, req, count, max, n, sub)                                                  \
	{ #f, kind, req, offsetof(struct rec_##r, f), offsetof(struct rec_##r, count), max, n,     \
	  R_##sub },
#define END(n)                                                                                     \
	{                                                                                          \
		NULL, K_U32, false, 0, 0, 0, 0, 0                                                  \
	}                                                                                          \
	}                                                                                          \
	;
#include "proto/messages.def"
#undef RECORD
#undef EACH
#undef END

/* the records themselves */
#define RECORD(n) [R_##n] = { #n, fields_##n, MSGF_##n##_COUNT, sizeof(struct rec_##n), 0
#define EACH(r, f, kind, req, count, max, n, sub) | (uint64_t)(req) << MSGF_##r##_##f
#define END(n) },
static const struct record records[] = {
#include "proto/messages.def"
};
#undef RECORD
#undef MESSAGE
#undef EACH
#undef END

/* which of them are messages */
#define RECORD(n)
#define MESSAGE(n) [MSG_##n] = R_##n,
#define EACH(...)
#define END(n)
static const uint8_t record_of[MSG_TYPE_COUNT] = {
#include "proto/messages.def"
};
_Static_assert(sizeof(records) / sizeof(records[0]) <= UINT8_MAX, "record_of is too narrow");

const struct record *msgt_record(unsigned i)
{
	return &records[i];
}

const struct record *msgt_of(enum msg_type type)
{
	return &records[record_of[type]];
}

static size_t path_text(const struct path *p, char *out, size_t size)
{
	size_t n = 0;

	if (p->up) {
		n = path_text(p->up, out, size);
		n += (size_t)snprintf(out + n, size - n, ".%s[%zu]", p->name, p->index);
	} else {
		n = (size_t)snprintf(out, size, "%s", p->name);
	}
	return n < size ? n : size - 1;
}

/* -EINVAL and "message.field: what" */
int msgt_flaw(struct err *e, const struct path *p, const struct field *f, const char *fmt, ...)
{
	char where[256], what[256];
	va_list ap;

	path_text(p, where, sizeof(where));
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(e, EINVAL, "%s.%s: %s", where, f->name, what);
}

int msgt_no_memory(struct err *e)
{
	return err_set(e, ENOMEM, "out of memory for a message");
}

void msg_init(struct msg *m, enum msg_type type)
{
	memset(m, 0, sizeof(*m));
	m->type = type;
}

void msg_finish(struct msg *m)
{
	arena_finish(&m->arena);
}

int msg_copy(const struct msg *m, struct msg *ret)
{
	struct buf b;
	int r;

	buf_init(&b);
	r = msg_encode(m, &b, NULL);
	if (r == 0)
		r = msg_decode(b.data, b.len, ret, NULL);
	buf_finish(&b);
	return r;
}

const char *msg_name(enum msg_type type)
{
	if (type <= MSG_none || type >= MSG_TYPE_COUNT)
		return "none";
	return msgt_of(type)->name;
}

int proto_compatible(uint32_t ours, uint32_t theirs, const char *them, struct err *e)
{
	uint32_t low = ours < theirs ? ours : theirs, high = ours < theirs ? theirs : ours;
	const char *old = ours < theirs ? "this side" : them;

	if (ours / 1000 == theirs / 1000 && high - low <= 1)
		return 0;
	return err_set(e, EPROTO,
		       "%s speaks protocol %u.%u, this side %u.%u: upgrade nodeagent on %s", them,
		       theirs / 1000, theirs % 1000, ours / 1000, ours % 1000, old);
}
