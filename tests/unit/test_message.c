/* test_message.c - messages keep their bytes, their limits and their meaning */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- golden bytes: what peers of every version send and expect ---------- */

static const char *strs_ras[] = { "10.0.0.2:28028", "10.0.0.2:28029" };
static struct rec_rank_state two_ranks[2], ended_ranks[2], timed_rank, one_rank, launcher;
static struct rec_worker two_workers[2];
static struct rec_grown two_outs[2];

static void fill_records(void)
{
	two_ranks[0] = (struct rec_rank_state){
		.rank = 8, .state = "running", .pid = 4712, .start_wall_ms = 1700000000123
	};
	two_ranks[1] = (struct rec_rank_state){ .rank = 9,
						.state = "exited",
						.pid = 4713,
						.start_wall_ms = 1700000000124,
						.end_wall_ms = 1700000009999,
						.tail = { (const uint8_t *)"traceback\n", 10 },
						.lost_bytes = 4096 };
	MSG_SET(&two_ranks[1], rank_state, code, 0);
	ended_ranks[0] = (struct rec_rank_state){
		.rank = 8, .state = "killed", .pid = 4712, .sig = 9, .core = true, .ours = true
	};
	ended_ranks[1] = (struct rec_rank_state){
		.rank = 9, .state = "failed", .code = 127, .text = "no such file"
	};
	timed_rank = (struct rec_rank_state){ .rank = 9,
					      .state = "killed",
					      .pid = 4713,
					      .sig = 9,
					      .end_wall_ms = 1700000009999,
					      .end_us = 1700000009999876,
					      .end_mono_us = 86400000001,
					      .cause = "by the kernel's OOM killer" };
	one_rank = (struct rec_rank_state){ .rank = 0, .state = "running", .pid = 100 };
	two_workers[0] = (struct rec_worker){ .rank = 5, .local_rank = 1, .pid = 4720, .state = "killed", .sig = 9,
					      .end_us = 1700000009999123, .end_mono_us = 5000123,
					      .exception = "ValueError: bad at train.py:42" };
	two_workers[1] = (struct rec_worker){ .rank = 4, .pid = 4719, .state = "running" };
	launcher = (struct rec_rank_state){ .rank = 1, .state = "exited", .pid = 4711, .code = 1,
					    .exception = "ValueError: bad at train.py:42", .workers = two_workers,
					    .n_workers = 2, .workers_found = 2, .workers_alive = 1 };
	two_outs[0] = (struct rec_grown){ .local = 0, .fd = 1, .size = 5000000000 };
	two_outs[1] = (struct rec_grown){ .local = 7, .fd = 2, .size = 0, .eof = true, .lost = 12 };
}

#define FILL(name, type, ...)                                                                      \
	static void fill_##name(struct msg *m)                                                     \
	{                                                                                          \
		struct rec_##type value = { __VA_ARGS__ };                                         \
                                                                                                   \
		msg_init(m, MSG_##type);                                                           \
		m->u.type = value;                                                                 \
	}

FILL(shim_hello, shim_hello, .proto = 1, .job = UINT64_MAX, .attempt = 2, .pid = 4711,
     .start_time = 123456789, .phase = "running", .ranks = two_ranks, .n_ranks = 2)
FILL(shim_hello_started, shim_hello, .proto = 1, .job = 7, .attempt = 1, .pid = 99, .start_time = 1,
     .phase = "running", .ranks = two_ranks, .n_ranks = 1, .master_addr = "10.0.0.1",
     .master_port = 20000)
FILL(shim_hello_failed, shim_hello, .proto = 1, .job = 7, .attempt = 1, .pid = 99, .start_time = 1,
     .phase = "failed", .text = "cannot enter \"/home/ann\": permission denied")
FILL(shim_setup, shim_setup, .rank_base = 8, .nprocs = 8, .world = 16, .node_rank = 1, .nnodes = 2,
     .grace_ms = 30000, .node = "gpu02", .name = "pretrain-7b", .per_node = true,
     .with_stdin = true, .lease_ms = 60000)
FILL(shim_setup_short, shim_setup, .nprocs = 1, .world = 1, .nnodes = 1, .node = "gpu01")
FILL(shim_ready, shim_ready, .ok = true)
FILL(shim_ready_not, shim_ready, .ok = false, .code = 127, .text = "python3: no such command")
FILL(shim_go, shim_go, .master_addr = "10.0.0.1", .master_port = 29500, .ifname = "ib0",
     .ras = strs_ras, .n_ras = 2)
FILL(shim_end, shim_end, .grace_ms = 30000)
FILL(shim_grown, shim_grown, .outs = two_outs, .n_outs = 2)
FILL(shim_arm, shim_arm, .has = 0)
FILL(shim_stdin, shim_stdin, .credit = 65536)
FILL(shim_stdin_closed, shim_stdin, .closed = true)
FILL(shim_ended, shim_ended, .ranks = ended_ranks, .n_ranks = 2, .orphans = 3,
     .text = "3 processes left behind were killed")
FILL(shim_ended_timed, shim_ended, .ranks = &timed_rank, .n_ranks = 1)
FILL(shim_ended_none, shim_ended, .ranks = NULL)
FILL(shim_bye, shim_bye, .has = 0)
FILL(shim_bye_settled, shim_bye, .settled = true)
FILL(shim_ranks, ranks, .job = 12, .attempt = 1, .ranks = &one_rank, .n_ranks = 1)
FILL(shim_ranks_workers, ranks, .job = 12, .attempt = 1, .ranks = &launcher, .n_ranks = 1)
FILL(hello, hello, .proto = 1000, .software = "0.1.0", .role = "agent", .node = "gpu01")
FILL(refused, refused, .rid = UINT32_MAX, .code = "denied",
     .text = "job 7 is not yours:\n\"\\\x07\xC3\xA4\xE2\x82\xAC\x7f/")
FILL(ended, ended, .job = 0)

#define GOLDEN(name) { #name, fill_##name }
static const struct {
	const char *file;
	void (*fill)(struct msg *m);
} golden[] = {
	GOLDEN(shim_hello),	  GOLDEN(shim_hello_failed), GOLDEN(shim_setup),
	GOLDEN(shim_hello_started),
	GOLDEN(shim_setup_short), GOLDEN(shim_ready),	     GOLDEN(shim_ready_not),
	GOLDEN(shim_go),	  GOLDEN(shim_end),	     GOLDEN(shim_grown),
	GOLDEN(shim_arm),	  GOLDEN(shim_stdin),	     GOLDEN(shim_stdin_closed),
	GOLDEN(shim_ended),	  GOLDEN(shim_ended_none),   GOLDEN(shim_bye),
	GOLDEN(shim_bye_settled), GOLDEN(shim_ended_timed),
	GOLDEN(shim_ranks),	  GOLDEN(shim_ranks_workers), GOLDEN(hello),	     GOLDEN(refused),
	GOLDEN(ended),
};

/* The file's bytes, NUL-terminated; the caller frees. */
static char *read_golden(const char *name, size_t *ret_len)
{
	char here[] = __FILE__, path[256], *text = calloc(1, 65536);
	FILE *f;

	snprintf(path, sizeof(path), "%s/golden/%s.json", dirname(here), name);
	f = fopen(path, "r");
	if (!f)
		fail_msg("cannot read %s (run from the top of the repository)", path);
	*ret_len = fread(text, 1, 65535, f);
	fclose(f);
	return text;
}

static void decode_golden(const char *name, struct msg *m)
{
	struct err e;
	size_t len;
	char *text = read_golden(name, &len);

	if (msg_decode(text, len, m, &e))
		fail_msg("%s: %s", name, e.text);
	free(text);
}

TEST(messages_are_encoded_byte_for_byte_as_ever)
{
	for (size_t i = 0; i < COUNT(golden); i++) {
		size_t len;
		char *text = read_golden(golden[i].file, &len);
		struct msg m;
		struct err e;
		struct buf b;

		buf_init(&b);
		golden[i].fill(&m);
		if (msg_encode(&m, &b, &e))
			fail_msg("%s: %s", golden[i].file, e.text);
		assert_string_equal(buf_str(&b), text);
		buf_finish(&b);
		free(text);
	}
}

TEST(what_was_decoded_is_encoded_as_it_came)
{
	for (size_t i = 0; i < COUNT(golden); i++) {
		size_t len;
		char *text = read_golden(golden[i].file, &len);
		struct msg m;
		struct buf b;

		buf_init(&b);
		decode_golden(golden[i].file, &m);
		assert_int_equal(msg_encode(&m, &b, NULL), 0);
		assert_string_equal(buf_str(&b), text);
		msg_finish(&m);
		buf_finish(&b);
		free(text);
	}
}

TEST(the_shims_hello_has_these_fields)
{
	const struct rec_shim_hello *h;
	const struct rec_rank_state *r;
	struct msg m;

	decode_golden("shim_hello", &m);
	h = &m.u.shim_hello;
	assert_int_equal(m.type, MSG_shim_hello);
	assert_int_equal(h->proto, 1);
	assert_true(h->job == UINT64_MAX);
	assert_int_equal(h->attempt, 2);
	assert_int_equal(h->pid, 4711);
	assert_int_equal(h->start_time, 123456789);
	assert_string_equal(h->phase, "running");
	assert_null(h->text);
	assert_int_equal(h->n_ranks, 2);
	r = &h->ranks[0];
	assert_int_equal(r->rank, 8);
	assert_string_equal(r->state, "running");
	assert_false(MSG_HAS(r, rank_state, code));
	assert_false(MSG_HAS(r, rank_state, end_wall_ms));
	r = &h->ranks[1];
	assert_true(MSG_HAS(r, rank_state, code));
	assert_int_equal(r->code, 0);
	assert_true(r->start_wall_ms == 1700000000124);
	assert_true(r->end_wall_ms == 1700000009999);
	assert_int_equal(r->tail.n, 10);
	assert_memory_equal(r->tail.p, "traceback\n", 10);
	assert_int_equal(r->lost_bytes, 4096);
	msg_finish(&m);
}

TEST(the_shims_setup_and_go_have_these_fields)
{
	const struct rec_shim_setup *s;
	const struct rec_shim_go *g;
	struct msg m;

	decode_golden("shim_setup", &m);
	s = &m.u.shim_setup;
	assert_int_equal(s->rank_base, 8);
	assert_int_equal(s->nprocs, 8);
	assert_int_equal(s->world, 16);
	assert_int_equal(s->node_rank, 1);
	assert_int_equal(s->nnodes, 2);
	assert_int_equal(s->grace_ms, 30000);
	assert_string_equal(s->node, "gpu02");
	assert_string_equal(s->name, "pretrain-7b");
	assert_true(s->per_node && s->with_stdin);
	assert_int_equal(s->lease_ms, 60000);
	msg_finish(&m);

	decode_golden("shim_setup_short", &m);
	s = &m.u.shim_setup;
	assert_true(MSG_HAS(s, shim_setup, grace_ms));
	assert_false(MSG_HAS(s, shim_setup, lease_ms));
	assert_null(s->name);
	msg_finish(&m);

	decode_golden("shim_go", &m);
	g = &m.u.shim_go;
	assert_string_equal(g->master_addr, "10.0.0.1");
	assert_int_equal(g->master_port, 29500);
	assert_string_equal(g->ifname, "ib0");
	assert_int_equal(g->n_ras, 2);
	assert_string_equal(g->ras[1], "10.0.0.2:28029");
	msg_finish(&m);
}

TEST(the_shims_reports_have_these_fields)
{
	const struct rec_shim_grown *g;
	const struct rec_shim_ended *d;
	struct msg m;

	decode_golden("shim_grown", &m);
	g = &m.u.shim_grown;
	assert_int_equal(g->n_outs, 2);
	assert_int_equal(g->outs[0].fd, 1);
	assert_true(g->outs[0].size == 5000000000 && !g->outs[0].eof);
	assert_true(g->outs[1].local == 7 && g->outs[1].eof && g->outs[1].lost == 12);
	msg_finish(&m);

	decode_golden("shim_ended", &m);
	d = &m.u.shim_ended;
	assert_int_equal(d->n_ranks, 2);
	assert_true(d->ranks[0].sig == 9 && d->ranks[0].core && d->ranks[0].ours);
	assert_true(d->ranks[1].code == 127 && !d->ranks[1].ours);
	assert_int_equal(d->orphans, 3);
	msg_finish(&m);

	decode_golden("shim_stdin_closed", &m);
	assert_true(m.u.shim_stdin.closed && m.u.shim_stdin.credit == 0);
	msg_finish(&m);
	decode_golden("shim_ready_not", &m);
	assert_true(!m.u.shim_ready.ok && m.u.shim_ready.code == 127);
	msg_finish(&m);
}

/* ---- decoding ------------------------------------------------------------ */

static int decode(const char *text, struct msg *m, struct err *e)
{
	return msg_decode(text, strlen(text), m, e);
}

static void refuses(const char *text, int code, const char *where)
{
	struct msg m;
	struct err e;
	int rc = decode(text, &m, &e);

	if (rc != code)
		fail_msg("%s: %d, not %d", text, rc, code);
	if (!strstr(e.text, where))
		fail_msg("%s: says '%s', not '%s'", text, e.text, where);
	assert_int_equal(e.code, code);
	assert_null(m.arena.head); /* nothing needs msg_finish */
}

TEST(members_may_come_in_any_order_with_unknown_ones_between)
{
	struct msg m;

	assert_int_equal(decode("{\"seq\":\"5\",\"new\":{\"seq\":[1]},\"t\":\"ping\"}", &m, NULL), 0);
	assert_int_equal(m.type, MSG_ping);
	assert_int_equal(m.u.ping.seq, 5);
	msg_finish(&m);
	assert_int_equal(decode("{\"attempt\":3,\"z\":0,\"job\":\"1\",\"t\":\"forget\"}", &m, NULL), 0);
	assert_int_equal(m.u.forget.attempt, 3);
	assert_int_equal(m.u.forget.job, 1);
	msg_finish(&m);
}

TEST(an_unknown_message_is_told_apart_from_a_bad_one)
{
	refuses("{\"t\":\"levitate\",\"x\":1}", -ENOTSUP, "levitate");
	refuses("{\"t\":\"Ping\",\"seq\":\"1\"}", -ENOTSUP, "Ping");
	refuses("{\"t\":\"none\"}", -ENOTSUP, "none");
	refuses("{\"t\":\"rank_state\",\"rank\":1,\"state\":\"x\"}", -ENOTSUP, "rank_state");
	refuses("{\"seq\":\"1\"}", -EINVAL, "\"t\"");
	refuses("{\"T\":\"ping\",\"seq\":\"1\"}", -EINVAL, "\"t\"");
	refuses("{\"t\":5}", -EINVAL, "\"t\"");
	refuses("[\"ping\"]", -EINVAL, "\"t\"");
	refuses("\"ping\"", -EINVAL, "\"t\"");
	refuses("{\"t\":\"ping\"", -EINVAL, "JSON");
	refuses("", -EINVAL, "JSON");
	refuses("{\"t\":\"ping\",\"seq\":\"1\",\"seq\":\"2\"}", -EINVAL, "twice");
}

TEST(a_required_field_that_is_absent_or_null_is_named)
{
	refuses("{\"t\":\"ping\"}", -EINVAL, "ping.seq: is required");
	refuses("{\"t\":\"ping\",\"SEQ\":\"1\"}", -EINVAL, "ping.seq: is required");
	refuses("{\"t\":\"ping\",\"seq\":null}", -EINVAL, "ping.seq: is required");
	refuses("{\"t\":\"ranks\",\"job\":\"1\",\"attempt\":1,\"ranks\":[{\"rank\":1,\"state\":\"x\"},"
		"{\"rank\":2}]}",
		-EINVAL, "ranks.ranks[1].state: is required");
	refuses("{\"t\":\"ended\",\"job\":\"1\",\"attempt\":1}", -EINVAL, "ended.ranks");
}

TEST(an_optional_null_is_as_good_as_absent)
{
	struct msg m;

	assert_int_equal(decode("{\"t\":\"refused\",\"rid\":null,\"code\":\"a\",\"text\":\"b\"}", &m,
				NULL), 0);
	assert_false(MSG_HAS(&m.u.refused, refused, rid));
	msg_finish(&m);
}

TEST(whole_numbers_within_the_limit_are_taken)
{
	struct msg m;

	assert_int_equal(decode("{\"t\":\"shim_end\",\"grace_ms\":86400000}", &m, NULL), 0);
	msg_finish(&m);
	assert_int_equal(decode("{\"t\":\"unfollow\",\"sid\":4294967295}", &m, NULL), 0);
	assert_true(m.u.unfollow.sid == UINT32_MAX);
	msg_finish(&m);
	assert_int_equal(decode("{\"t\":\"shim_end\",\"grace_ms\":1e3}", &m, NULL), 0);
	assert_int_equal(m.u.shim_end.grace_ms, 1000);
	msg_finish(&m);
}

TEST(other_numbers_are_refused)
{
	static const char *const values[] = { "86400001", "-1",	  "1.5",    "\"1\"", "true",
					      "[]",	  "{}",	  "1e300",  "4294967296",
					      "4294967295.5", "-0.1", "0.9999999999" };
	char text[80];

	for (size_t i = 0; i < COUNT(values); i++) {
		snprintf(text, sizeof(text), "{\"t\":\"shim_end\",\"grace_ms\":%s}", values[i]);
		refuses(text, -EINVAL, "shim_end.grace_ms: must be");
	}
}

TEST(large_numbers_are_strict_strings_of_digits)
{
	static const char *const flawed[] = { "1",     "\"\"",	"\"-1\"", "\"+1\"",  "\" 1\"",
					      "\"1 \"", "\"01\"", "\"0x1\"", "\"1e3\"", "true",
					      "\"18446744073709551616\"",
					      "\"99999999999999999999999\"" };
	char text[80];
	struct msg m;

	for (size_t i = 0; i < COUNT(flawed); i++) {
		snprintf(text, sizeof(text), "{\"t\":\"ping\",\"seq\":%s}", flawed[i]);
		refuses(text, -EINVAL, "ping.seq: must be");
	}
	assert_int_equal(decode("{\"t\":\"ping\",\"seq\":\"18446744073709551615\"}", &m, NULL), 0);
	assert_true(m.u.ping.seq == UINT64_MAX);
	msg_finish(&m);
	assert_int_equal(decode("{\"t\":\"ping\",\"seq\":\"0\"}", &m, NULL), 0);
	msg_finish(&m);
}

TEST(signed_numbers_reach_both_ends)
{
	static const char *const flawed[] = { "9223372036854775808", "-9223372036854775809", "-0",
					      "-",		     "--1",		     "-01" };
	static const int64_t good[] = { INT64_MIN, INT64_MAX, -1, 0, 1 };
	char text[80];
	struct msg m;

	for (size_t i = 0; i < COUNT(flawed); i++) {
		snprintf(text, sizeof(text), "{\"t\":\"jobs\",\"rid\":1,\"wall_ms\":\"%s\"}", flawed[i]);
		refuses(text, -EINVAL, "jobs.wall_ms: must be");
	}
	for (size_t i = 0; i < COUNT(good); i++) {
		snprintf(text, sizeof(text), "{\"t\":\"jobs\",\"rid\":1,\"wall_ms\":\"%lld\"}",
			 (long long)good[i]);
		assert_int_equal(decode(text, &m, NULL), 0);
		assert_true(m.u.jobs.wall_ms == good[i]);
		assert_true(MSG_HAS(&m.u.jobs, jobs, wall_ms));
		msg_finish(&m);
	}
}

TEST(strings_and_bytes_over_their_limit_or_of_the_wrong_kind_are_refused)
{
	char text[400], fill[200];

	memset(fill, 'x', sizeof(fill));
	snprintf(text, sizeof(text), "{\"t\":\"joined\",\"node\":\"%.65s\",\"cluster\":\"c\"}", fill);
	refuses(text, -EINVAL, "joined.node: 65 bytes, at most 64");
	refuses("{\"t\":\"joined\",\"node\":5,\"cluster\":\"c\"}", -EINVAL, "joined.node: must be");
	memset(fill, 'A', sizeof(fill));
	snprintf(text, sizeof(text), "{\"t\":\"revoke\",\"key\":\"%.44s\"}", fill);
	refuses(text, -EINVAL, "revoke.key: more than 32");
	snprintf(text, sizeof(text), "{\"t\":\"revoke\",\"key\":\"%.48s\"}", fill);
	refuses(text, -EINVAL, "revoke.key: more than 32");
	refuses("{\"t\":\"revoke\",\"key\":\"AB\"}", -EINVAL, "revoke.key: must be");
	refuses("{\"t\":\"revoke\",\"key\":[1]}", -EINVAL, "revoke.key: must be");
	refuses("{\"t\":\"shim_ready\",\"ok\":1}", -EINVAL, "shim_ready.ok: must be");
	refuses("{\"t\":\"shim_ready\",\"ok\":\"true\"}", -EINVAL, "shim_ready.ok: must be");
}

TEST(lists_have_the_right_elements_and_not_too_many)
{
	struct buf b;
	struct msg m;

	refuses("{\"t\":\"shim_ended\",\"ranks\":{}}", -EINVAL, "shim_ended.ranks: must be");
	refuses("{\"t\":\"shim_ended\",\"ranks\":[1]}", -EINVAL, "shim_ended.ranks: element 0");
	refuses("{\"t\":\"shim_ended\",\"ranks\":[null]}", -EINVAL, "shim_ended.ranks: element 0");
	refuses("{\"t\":\"shim_go\",\"master_addr\":\"a\",\"master_port\":1,\"ras\":[\"x\",null]}",
		-EINVAL, "shim_go.ras: must be");
	refuses("{\"t\":\"job_update\",\"rid\":1,\"job\":[{\"job\":\"1\",\"state\":\"x\","
		"\"ranks\":[{\"rank\":1,\"state\":\"x\",\"sig\":65}]}]}",
		-EINVAL, "job_update.job[0].ranks[0].sig");

	buf_init(&b);
	buf_adds(&b, "{\"t\":\"follow\",\"sid\":1,\"job\":\"1\",\"credit\":1,\"ranks\":[\"0\"");
	for (int i = 1; i < 4096; i++)
		buf_adds(&b, ",\"0\"");
	buf_adds(&b, "]}");
	assert_int_equal(decode(buf_str(&b), &m, NULL), 0);
	assert_int_equal(m.u.follow.n_ranks, 4096);
	msg_finish(&m);
	b.len -= 2;
	buf_adds(&b, ",\"0\"]}");
	refuses(buf_str(&b), -EINVAL, "follow.ranks: 4097 elements, at most 4096");
	buf_finish(&b);
}

/* ---- encoding ------------------------------------------------------------ */

static void cannot_encode(const struct msg *m, const char *where)
{
	struct err e;
	struct buf b;

	buf_init(&b);
	buf_adds(&b, "before");
	assert_int_equal(msg_encode(m, &b, &e), -EINVAL);
	assert_string_equal(buf_str(&b), "before");
	if (!strstr(e.text, where))
		fail_msg("says '%s', not '%s'", e.text, where);
	buf_finish(&b);
}

static void encodes(const struct msg *m, const char *want)
{
	struct buf b;

	buf_init(&b);
	assert_int_equal(msg_encode(m, &b, NULL), 0);
	assert_string_equal(buf_str(&b), want);
	buf_finish(&b);
}

TEST(an_optional_zero_is_left_out_unless_it_was_set)
{
	struct msg m;

	msg_init(&m, MSG_shim_stdin);
	encodes(&m, "{\"t\":\"shim_stdin\",\"credit\":0}");
	MSG_SET(&m.u.shim_stdin, shim_stdin, closed, false);
	encodes(&m, "{\"t\":\"shim_stdin\",\"credit\":0,\"closed\":false}");
	msg_init(&m, MSG_jobs);
	MSG_SET(&m.u.jobs, jobs, wall_ms, 0);
	m.u.jobs.has |= MSG_BIT(jobs, jobs);
	encodes(&m, "{\"t\":\"jobs\",\"rid\":0,\"wall_ms\":\"0\"}");
}

TEST(an_empty_optional_string_is_not_the_same_as_none)
{
	struct msg m;

	msg_init(&m, MSG_ok);
	encodes(&m, "{\"t\":\"ok\",\"rid\":0}");
	m.u.ok.text = "";
	encodes(&m, "{\"t\":\"ok\",\"rid\":0,\"text\":\"\"}");
}

TEST(what_the_peer_would_refuse_is_not_sent)
{
	struct rec_rank_state ranks[2] = { { .rank = 1, .state = "x" }, { .rank = 2 } };
	char big[2000];
	struct msg m;

	memset(big, 'x', sizeof(big));
	big[1025] = '\0';
	msg_init(&m, MSG_refused);
	m.u.refused.code = "busy";
	cannot_encode(&m, "refused.text: is required");
	m.u.refused.text = big;
	cannot_encode(&m, "refused.text: 1025 bytes, at most 1024");

	msg_init(&m, MSG_ranks);
	m.u.ranks.attempt = 65536;
	cannot_encode(&m, "ranks.attempt: 65536, at most 65535");
	m.u.ranks.attempt = 1;
	m.u.ranks.n_ranks = 2;
	cannot_encode(&m, "ranks.ranks: 2 elements, but no pointer");
	m.u.ranks.ranks = ranks;
	cannot_encode(&m, "ranks.ranks[1].state: is required");
	m.u.ranks.n_ranks = 4097;
	cannot_encode(&m, "ranks.ranks: 4097 elements, at most 4096");

	msg_init(&m, MSG_revoke);
	cannot_encode(&m, "revoke.key: is required");
	m.u.revoke.key = (struct bytes){ (const uint8_t *)big, 33 };
	cannot_encode(&m, "revoke.key: 33 bytes, at most 32");
}

TEST(bytes_that_are_not_utf8_count_as_they_are_sent)
{
	char text[65];
	struct msg m;

	memset(text, '\xFF', 64);
	text[64] = '\0';
	msg_init(&m, MSG_joined);
	m.u.joined.cluster = "c";
	m.u.joined.node = text;
	cannot_encode(&m, "joined.node: 192 bytes, at most 64");
	text[1] = '\0';
	encodes(&m, "{\"t\":\"joined\",\"node\":\"\xEF\xBF\xBD\",\"cluster\":\"c\"}");
}

/* All types at their emptiest; full ones are the work of tests/fuzz/fuzz_message.c. */
TEST(every_message_has_a_name_and_none_is_taken_for_another)
{
	for (int t = MSG_none + 1; t < MSG_TYPE_COUNT; t++) {
		const char *name = msg_name((enum msg_type)t);
		char text[80];
		struct msg m;
		int rc;

		snprintf(text, sizeof(text), "{\"t\":\"%s\"}", name);
		rc = decode(text, &m, NULL);
		assert_int_not_equal(rc, -ENOTSUP);
		if (rc == 0) {
			assert_int_equal(m.type, t);
			msg_finish(&m);
		}
	}
	assert_string_equal(msg_name(MSG_none), "none");
	assert_string_equal(msg_name(MSG_TYPE_COUNT), "none");
}

/* ---- sizes, versions, memory ---------------------------------------------- */

TEST(a_frame_full_of_ranks_survives)
{
	struct rec_rank_state *ranks = calloc(4096, sizeof(*ranks));
	struct msg m, back;
	struct buf b;

	for (uint32_t i = 0; i < 4096; i++)
		ranks[i] = (struct rec_rank_state){ .rank = i, .state = "exited", .pid = i + 2,
						    .code = i % 256, .start_wall_ms = 1700000000000 + i,
						    .end_wall_ms = -(int64_t)i };
	msg_init(&m, MSG_ended);
	m.u.ended.job = 1;
	m.u.ended.ranks = ranks;
	m.u.ended.n_ranks = 4096;
	buf_init(&b);
	assert_int_equal(msg_encode(&m, &b, NULL), 0);
	assert_true(b.len <= FRAME_MAX);
	assert_int_equal(msg_decode(b.data, b.len, &back, NULL), 0);
	assert_int_equal(back.u.ended.n_ranks, 4096);
	for (uint32_t i = 0; i < 4096; i++) {
		const struct rec_rank_state *r = &back.u.ended.ranks[i];

		assert_true(r->rank == i && r->pid == i + 2 && r->code == i % 256);
		assert_true(r->start_wall_ms == ranks[i].start_wall_ms);
		assert_true(r->end_wall_ms == ranks[i].end_wall_ms);
		assert_string_equal(r->state, "exited");
	}
	msg_finish(&back);
	buf_finish(&b);
	free(ranks);
}

TEST(neighbouring_minor_versions_work_together)
{
	struct err e;

	assert_int_equal(proto_compatible(1000, 1000, "gpu01", NULL), 0);
	assert_int_equal(proto_compatible(1000, 1001, "gpu01", NULL), 0);
	assert_int_equal(proto_compatible(1001, 1000, "gpu01", NULL), 0);
	assert_int_equal(proto_compatible(1000, 1002, "gpu01", &e), -EPROTO);
	assert_string_equal(e.text, "gpu01 speaks protocol 1.2, this side 1.0: "
				    "upgrade nodeagent on this side");
	assert_int_equal(proto_compatible(2000, 1999, "gpu01", &e), -EPROTO);
	assert_string_equal(e.text, "gpu01 speaks protocol 1.999, this side 2.0: "
				    "upgrade nodeagent on gpu01");
}

TEST(every_failing_malloc_is_reported_and_nothing_leaks)
{
	size_t len;
	char *text = read_golden("shim_hello", &len);

	EACH_FAILING_MALLOC({
		struct err e;
		struct msg m;
		struct buf b;
		int rc;

		buf_init(&b);
		rc = msg_decode(text, len, &m, &e);
		if (rc == 0) {
			rc = msg_encode(&m, &b, &e);
			msg_finish(&m);
		}
		if (rc) {
			assert_int_equal(rc, -ENOMEM);
			assert_int_equal(e.code, -ENOMEM);
		} else {
			assert_string_equal(buf_str(&b), text);
		}
		buf_finish(&b);
	});
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_encoded_byte_for_byte_as_ever),
		cmocka_unit_test(what_was_decoded_is_encoded_as_it_came),
		cmocka_unit_test(the_shims_hello_has_these_fields),
		cmocka_unit_test(the_shims_setup_and_go_have_these_fields),
		cmocka_unit_test(the_shims_reports_have_these_fields),
		cmocka_unit_test(members_may_come_in_any_order_with_unknown_ones_between),
		cmocka_unit_test(an_unknown_message_is_told_apart_from_a_bad_one),
		cmocka_unit_test(a_required_field_that_is_absent_or_null_is_named),
		cmocka_unit_test(an_optional_null_is_as_good_as_absent),
		cmocka_unit_test(whole_numbers_within_the_limit_are_taken),
		cmocka_unit_test(other_numbers_are_refused),
		cmocka_unit_test(large_numbers_are_strict_strings_of_digits),
		cmocka_unit_test(signed_numbers_reach_both_ends),
		cmocka_unit_test(strings_and_bytes_over_their_limit_or_of_the_wrong_kind_are_refused),
		cmocka_unit_test(lists_have_the_right_elements_and_not_too_many),
		cmocka_unit_test(an_optional_zero_is_left_out_unless_it_was_set),
		cmocka_unit_test(an_empty_optional_string_is_not_the_same_as_none),
		cmocka_unit_test(what_the_peer_would_refuse_is_not_sent),
		cmocka_unit_test(bytes_that_are_not_utf8_count_as_they_are_sent),
		cmocka_unit_test(every_message_has_a_name_and_none_is_taken_for_another),
		cmocka_unit_test(a_frame_full_of_ranks_survives),
		cmocka_unit_test(neighbouring_minor_versions_work_together),
		cmocka_unit_test(every_failing_malloc_is_reported_and_nothing_leaks),
	};

	fail_malloc_cjson();
	fill_records();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
