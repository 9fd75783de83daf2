/* test_oom_proto.c - every allocation of the encoder, the decoder and the copier of every message fails once
 *
 * Each message is filled from messages.def: every field set, every list with two
 * elements, sub-records filled the same way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "proto/message.h"
#include "tests/unit/failmalloc.h"

static const uint8_t some_bytes[4] = { 0, 255, 7, 1 };
static const char *two_strings[2] = { "a\"b", "\xE5\xAD\x97" };

/* Sub-records of sub-records: as deep as the messages are, from static memory of two each. */
#define RECORD(n) static void fill_##n(struct rec_##n *m);
#define MESSAGE(n) static void fill_##n(struct rec_##n *m);
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

#define RECORD(n)                                     \
	static void fill_##n(struct rec_##n *m)       \
	{                                             \
		memset(m, 0, sizeof(*m));
#define MESSAGE(n) RECORD(n)
#define END(n) }
#define U32(r, f, max, req) MSG_SET(m, r, f, 1);
#define U64(r, f, req) MSG_SET(m, r, f, UINT64_MAX);
#define I64(r, f, req) MSG_SET(m, r, f, INT64_MIN);
#define BOOL(r, f, req) MSG_SET(m, r, f, true);
#define STR(r, f, max, req) m->f = "x\n";
#define BYTES(r, f, max, req) m->f = (struct bytes){ some_bytes, 4 };
#define STRS(r, f, n, max, req)                  \
	m->f = two_strings;                      \
	m->n_##f = 2 < (n) ? 2 : (n);
#define RECS(r, f, sub, n, req)                                           \
	{                                                                 \
		static struct rec_##sub v[2];                             \
                                                                          \
		fill_##sub(&v[0]);                                        \
		v[1] = v[0];                                              \
		m->f = v;                                                 \
		m->n_##f = 2 < (n) ? 2 : (n);                             \
	}
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

static void fill(struct msg *m, enum msg_type t)
{
	msg_init(m, t);
	switch (t) {
#define RECORD(n)
#define MESSAGE(n)                         \
	case MSG_##n:                      \
		fill_##n(&m->u.n);         \
		break;
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
	default:
		fail_msg("no such message");
	}
}

static void expect(int r, const struct err *e, const char *name)
{
	if (r == 0)
		return;
	if (r != -ENOMEM || e->code != -ENOMEM || e->text[0] == '\0')
		fail_msg("%s: %d, \"%s\"", name, r, e->text);
}

static long encode_each(const struct msg *m)
{
	long n = 0;

	EACH_FAILING_MALLOC({
		struct buf b;
		struct err e = { 0 };

		buf_init(&b);
		expect(msg_encode(m, &b, &e), &e, msg_name(m->type));
		buf_finish(&b);
		n++;
	});
	return n - 1;
}

static long decode_each(const char *text, size_t len, const char *name)
{
	long n = 0;

	EACH_FAILING_MALLOC({
		struct msg m;
		struct err e = { 0 };
		int r = msg_decode(text, len, &m, &e);

		expect(r, &e, name);
		if (r == 0)
			msg_finish(&m);
		else
			assert_null(m.arena.head); /* nothing needs msg_finish */
		n++;
	});
	return n - 1;
}

static long copy_each(const struct msg *m)
{
	long n = 0;

	EACH_FAILING_MALLOC({
		struct msg copy;
		int r = msg_copy(m, &copy);

		assert_true(r == 0 || r == -ENOMEM);
		if (r == 0)
			msg_finish(&copy);
		n++;
	});
	return n - 1;
}

static void every_allocation_of_every_message_may_fail(void **state)
{
	long encoded = 0, decoded = 0, copied = 0;

	for (int t = MSG_none + 1; t < MSG_TYPE_COUNT; t++) {
		struct msg m;
		struct buf b;
		struct err e = { 0 };

		fill(&m, (enum msg_type)t);
		buf_init(&b);
		if (msg_encode(&m, &b, &e) != 0)
			fail_msg("%s: %s", msg_name(m.type), e.text);
		encoded += encode_each(&m);
		decoded += decode_each(b.data, b.len, msg_name(m.type));
		copied += copy_each(&m);
		buf_finish(&b);
	}
	print_message("%d messages: %ld allocations of encoding, %ld of decoding, %ld of copying have failed\n", MSG_TYPE_COUNT - 1,
		      encoded, decoded, copied);
	assert_true(encoded > MSG_TYPE_COUNT && decoded > 10 * MSG_TYPE_COUNT && copied > 10 * MSG_TYPE_COUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_of_every_message_may_fail),
	};

	fail_malloc_cjson();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
