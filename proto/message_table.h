/* message_table.h - what messages.def says, as data (private to proto/message*.c)
 *
 * Every record and message is a row of fields; encoder and decoder know
 * nothing else. Each struct rec_* begins with its 'has' bits.
 */
#ifndef NA_PROTO_MESSAGE_TABLE_H
#define NA_PROTO_MESSAGE_TABLE_H

#include "proto/message.h"

enum kind { K_U32, K_U64, K_I64, K_BOOL, K_STR, K_BYTES, K_STRS, K_RECS };

struct field {
	const char *name;
	enum kind kind;
	bool req;
	size_t at; /* offset of the value */
	size_t count_at; /* STRS, RECS: of the number of elements */
	uint32_t max; /* U32: value; STR, BYTES, STRS: bytes */
	uint32_t n; /* STRS, RECS: elements */
	unsigned sub; /* RECS: index into records[] */
};

struct record {
	const char *name;
	const struct field *fields;
	unsigned nfields;
	size_t size;
	uint64_t required; /* bits of REQ fields */
};

/* Where we are: "status" then "jobs[3]" then "ranks[0]". */
struct path {
	const struct path *up;
	const char *name;
	size_t index;
};

/* The message or record number i; a field's 'sub' is such a number. */
const struct record *msgt_record(unsigned i);
/* The row of a message type. */
const struct record *msgt_of(enum msg_type type);

/* Fill *e: -EINVAL and "message.field: what" (fmt); -ENOMEM. */
int msgt_flaw(struct err *e, const struct path *p, const struct field *f, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int msgt_no_memory(struct err *e);

#endif
