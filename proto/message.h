/* message.h - messages as structs, made from messages.def
 *
 * Strings and arrays of a decoded message live in the message's arena and
 * die with msg_finish(). To encode, fill a struct with pointers of your own.
 */
#ifndef NA_PROTO_MESSAGE_H
#define NA_PROTO_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/err.h"

/* Protocol version of agent, peer and client links: major*1000 + minor. One
 * minor version of difference works both ways; see proto_compatible(). */
#define NA_PROTO 1000
#define NA_SHIM_PROTO 2 /* 2: it keeps leases */
#define NA_SOFTWARE "0.1.0"
#define NA_STANDALONE "standalone" /* the name of every standalone cluster */

struct bytes {
	const uint8_t *p;
	size_t n;
};

/* Sub-records are pointed to before or after they are defined. */
#define RECORD(n) struct rec_##n;
#define MESSAGE(n) struct rec_##n;
#define END(n)
#define U32(r, f, max, req)
#define U64(r, f, req)
#define I64(r, f, req)
#define BOOL(r, f, req)
#define STR(r, f, max, req)
#define BYTES(r, f, max, req)
#define STRS(r, f, n, max, req)
#define RECS(r, f, sub, n, req)
#include "proto/messages.def"
#undef RECORD
#undef MESSAGE
#undef END
#undef U32
#undef U64
#undef I64
#undef BOOL
#undef STR
#undef BYTES
#undef STRS
#undef RECS

#define RECORD(n)                                                                        \
	struct rec_##n {                                                                 \
		uint64_t has; /* bit MSG_BIT(rec, field): present when decoded */
#define MESSAGE(n) RECORD(n)
#define END(n)                                                                           \
	}                                                                                \
	;
#define U32(r, f, max, req) uint32_t f;
#define U64(r, f, req) uint64_t f;
#define I64(r, f, req) int64_t f;
#define BOOL(r, f, req) bool f;
#define STR(r, f, max, req) const char *f;
#define BYTES(r, f, max, req) struct bytes f;
#define STRS(r, f, n, max, req)                                                          \
	const char **f;                                                                  \
	size_t n_##f;
#define RECS(r, f, sub, n, req)                                                          \
	struct rec_##sub *f;                                                             \
	size_t n_##f;
#include "proto/messages.def"
#undef RECORD
#undef MESSAGE
#undef END
#undef U32
#undef U64
#undef I64
#undef BOOL
#undef STR
#undef BYTES
#undef STRS
#undef RECS

/* Field numbers: MSG_HAS(&m->u.submit, submit, nnodes) */
#define RECORD(n) enum {
#define MESSAGE(n) RECORD(n)
#define END(n)                                                                           \
	MSGF_##n##_COUNT                                                                 \
	}                                                                                \
	;
#define U32(r, f, max, req) MSGF_##r##_##f,
#define U64(r, f, req) MSGF_##r##_##f,
#define I64(r, f, req) MSGF_##r##_##f,
#define BOOL(r, f, req) MSGF_##r##_##f,
#define STR(r, f, max, req) MSGF_##r##_##f,
#define BYTES(r, f, max, req) MSGF_##r##_##f,
#define STRS(r, f, n, max, req) MSGF_##r##_##f,
#define RECS(r, f, sub, n, req) MSGF_##r##_##f,
#include "proto/messages.def"
#undef RECORD
#undef MESSAGE
#undef END
#undef U32
#undef U64
#undef I64
#undef BOOL
#undef STR
#undef BYTES
#undef STRS
#undef RECS

#define MSG_BIT(rec, field) (UINT64_C(1) << MSGF_##rec##_##field)
#define MSG_HAS(p, rec, field) (((p)->has & MSG_BIT(rec, field)) != 0)
/* Sets an optional scalar so that it is sent even when it is 0 or false. */
#define MSG_SET(p, rec, field, value) ((p)->field = (value), (p)->has |= MSG_BIT(rec, field))

#define MSG_QUIET                                                                        \
	/* the field macros, all empty: passes that look at records only */
#define RECORD(n)
#define END(n)
#define U32(r, f, max, req)
#define U64(r, f, req)
#define I64(r, f, req)
#define BOOL(r, f, req)
#define STR(r, f, max, req)
#define BYTES(r, f, max, req)
#define STRS(r, f, n, max, req)
#define RECS(r, f, sub, n, req)
#define MESSAGE(n) MSG_##n,
enum msg_type {
	MSG_none,
#include "proto/messages.def"
	MSG_TYPE_COUNT
};
#undef MESSAGE
#define MESSAGE(n) struct rec_##n n;
struct msg {
	enum msg_type type;
	struct arena arena; /* what a decoded message points to */
	union {
#include "proto/messages.def"
	} u;
};
#undef MESSAGE
#undef RECORD
#undef END
#undef U32
#undef U64
#undef I64
#undef BOOL
#undef STR
#undef BYTES
#undef STRS
#undef RECS
#undef MSG_QUIET

/* Zeroes *m and sets its type. */
void msg_init(struct msg *m, enum msg_type type);
/* Frees what a decoded message holds; harmless on a message of your own. */
void msg_finish(struct msg *m);
/* A deep copy with memory of its own. 0; -ENOMEM; -EINVAL when it breaks its own limits. */
int msg_copy(const struct msg *m, struct msg *ret);
/* Appends the JSON text of *m (no frame). 0, -EINVAL when a REQ pointer field
 * is NULL or a limit is exceeded (text names the field), -ENOMEM. */
int msg_encode(const struct msg *m, struct buf *b, struct err *e);
/* Decodes text; *ret is msg_init'ed by the call. 0; -EINVAL (not JSON, a
 * required field absent, wrong kind or over a limit: the text names the
 * field); -ENOTSUP (well-formed, but a message type this version does not
 * know: ignore or refuse); -ENOMEM. On failure nothing needs msg_finish. */
int msg_decode(const char *text, size_t len, struct msg *ret, struct err *e);
const char *msg_name(enum msg_type type);
/* 0 when two protocol versions work together; else -EPROTO and a sentence
 * that says which side to upgrade ("this side" speaks 'ours'). */
int proto_compatible(uint32_t ours, uint32_t theirs, const char *them, struct err *e);

#endif
