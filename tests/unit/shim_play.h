/* shim_play.h - plays a shim's life and writes its trace: one line an event, what it asks for after "->"
 *
 * A message that the machine sends is shown by its type and what matters in it. */
#ifndef NA_TESTS_SHIM_PLAY_H
#define NA_TESTS_SHIM_PLAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "shim/machine.h"

#define UNUSED __attribute__((unused)) /* not every test needs all of it */

#define EXIT(code) ((code) << 8)
#define GRACE 5000
#define BOOTED 50000 /* CLOCK_BOOTTIME is so far ahead: the machine was suspended */

struct play {
	struct shim *s;
	mono_t now;
	struct buf trace;
	bool exited;
	int starts;
};

UNUSED static struct shim *fresh(uint32_t nprocs)
{
	return shim_create(12, 3, nprocs, 4711, 99, (mono_t){ 0 });
}

UNUSED static void play_init(struct play *p, uint32_t nprocs)
{
	*p = (struct play){ .s = fresh(nprocs) };
	buf_init(&p->trace);
	assert_non_null(p->s);
}

UNUSED static void play_finish(struct play *p)
{
	shim_destroy(p->s);
	buf_finish(&p->trace);
}

UNUSED static void show_ranks(struct buf *b, const struct rec_rank_state *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		buf_addf(b, " %u:%s", v[i].rank, v[i].state);
		if (MSG_HAS(&v[i], rank_state, code))
			buf_addf(b, "=%u", v[i].code);
		if (MSG_HAS(&v[i], rank_state, sig))
			buf_addf(b, "=%u", v[i].sig);
		if (v[i].ours)
			buf_adds(b, "/ours");
		if (v[i].lost_bytes)
			buf_addf(b, "/lost%u", (unsigned)v[i].lost_bytes);
		if (v[i].tail.n)
			buf_addf(b, "/\"%.*s\"", (int)v[i].tail.n, (const char *)v[i].tail.p);
		if (v[i].exception)
			buf_addf(b, "!%s", v[i].exception);
		if (v[i].workers_found)
			buf_addf(b, "[%u/%u", v[i].workers_alive, v[i].workers_found);
		for (size_t k = 0; k < v[i].n_workers; k++)
			buf_addf(b, " %u:%s", v[i].workers[k].rank, v[i].workers[k].state);
		if (v[i].workers_found)
			buf_adds(b, "]");
	}
}

UNUSED static uint64_t hello_run_ms; /* of the last shim_hello */

UNUSED static void show_message(struct buf *b, const char *text, size_t len)
{
	struct msg m;

	assert_int_equal(msg_decode(text, len, &m, NULL), 0);
	buf_addf(b, "%s", msg_name(m.type));
	switch (m.type) {
	case MSG_shim_hello:
		buf_addf(b, "{%s", m.u.shim_hello.phase);
		show_ranks(b, m.u.shim_hello.ranks, m.u.shim_hello.n_ranks);
		if (m.u.shim_hello.master_addr)
			buf_addf(b, " at %s:%u", m.u.shim_hello.master_addr,
				 m.u.shim_hello.master_port);
		assert_int_equal(MSG_HAS(&m.u.shim_hello, shim_hello, run_ms), m.u.shim_hello.master_addr != NULL);
		hello_run_ms = m.u.shim_hello.run_ms;
		buf_addf(b, "}");
		break;
	case MSG_shim_ready:
		buf_addf(b, "{%s", m.u.shim_ready.ok ? "ok" : "no");
		if (!m.u.shim_ready.ok)
			buf_addf(b, " %u '%s'", m.u.shim_ready.code, m.u.shim_ready.text);
		buf_addf(b, "}");
		break;
	case MSG_ranks:
		buf_addf(b, "{");
		show_ranks(b, m.u.ranks.ranks, m.u.ranks.n_ranks);
		buf_addf(b, "}");
		break;
	case MSG_shim_ended:
		buf_addf(b, "{");
		show_ranks(b, m.u.shim_ended.ranks, m.u.shim_ended.n_ranks);
		if (m.u.shim_ended.text)
			buf_addf(b, " '%s'", m.u.shim_ended.text);
		buf_addf(b, "}");
		break;
	default:
		break;
	}
	msg_finish(&m);
}

UNUSED static void show_action(struct play *p, const struct shim_action *a)
{
	buf_addf(&p->trace, " %s", shim_action_name(a->type));
	if (a->type == SACT_SIGNAL || a->type == SACT_SWEEP)
		buf_addf(&p->trace, " %s", a->sig == SIGKILL ? "KILL" : "TERM");
	if (a->text) {
		buf_adds(&p->trace, " ");
		show_message(&p->trace, a->text, a->len);
	}
	buf_adds(&p->trace, ";");
	p->exited = p->exited || a->type == SACT_EXIT;
	p->starts += a->type == SACT_START;
}

/* Feeds an event; the answers are the test's to give. Returns the trace line. */
UNUSED static const char *feed(struct play *p, struct shim_event ev)
{
	struct shim_actions acts;

	buf_reset(&p->trace);
	ev.now = p->now;
	ev.wall_ms = 1700000000000 + p->now.ns / 1000000;
	ev.boot_ms = BOOTED + p->now.ns / 1000000;
	shim_actions_init(&acts);
	shim_step(p->s, &ev, &acts);
	shim_check(p->s);
	for (size_t i = 0; i < acts.n; i++)
		show_action(p, &acts.v[i]);
	shim_actions_finish(&acts);
	return buf_str(&p->trace);
}

UNUSED static const char *on(struct play *p, enum shim_event_type type)
{
	return feed(p, (struct shim_event){ .type = type });
}

UNUSED static const char *say(struct play *p, const struct msg *m)
{
	return feed(p, (struct shim_event){ .type = SEV_MESSAGE, .msg = m });
}

UNUSED static const char *setup(struct play *p, uint32_t nprocs)
{
	struct msg m;

	msg_init(&m, MSG_shim_setup);
	m.u.shim_setup = (struct rec_shim_setup){ .rank_base = 8, .nprocs = nprocs, .world = 16,
						  .nnodes = 2, .grace_ms = GRACE, .node = "n1" };
	return say(p, &m);
}

UNUSED static const char *simple(struct play *p, enum msg_type type)
{
	struct msg m;

	msg_init(&m, type);
	if (type == MSG_shim_go)
		m.u.shim_go.master_addr = "10.0.0.1", m.u.shim_go.master_port = 20000;
	return say(p, &m);
}

UNUSED static const char *bye_settled(struct play *p)
{
	struct msg m;

	msg_init(&m, MSG_shim_bye);
	MSG_SET(&m.u.shim_bye, shim_bye, settled, true);
	return say(p, &m);
}

UNUSED static const char *end(struct play *p, uint32_t grace_ms)
{
	struct msg m;

	msg_init(&m, MSG_shim_end);
	m.u.shim_end.grace_ms = grace_ms;
	return say(p, &m);
}

UNUSED static const char *started(struct play *p, uint32_t nprocs)
{
	struct shim_rank_event re[64] = { { 0 } };

	for (uint32_t i = 0; i < nprocs; i++)
		re[i] = (struct shim_rank_event){ .local = i, .pid = 100 + (int)i };
	return feed(p, (struct shim_event){ .type = SEV_STARTED, .ranks = re, .n_ranks = nprocs });
}

UNUSED static const char *reaped(struct play *p, uint32_t local, int status, bool gone)
{
	struct shim_rank_event re = { .local = local, .status = status };

	return feed(p, (struct shim_event){ .type = SEV_REAPED, .ranks = &re, .n_ranks = 1,
					    .gone = gone });
}

UNUSED static const char *gone(struct play *p, uint32_t orphans)
{
	return feed(p, (struct shim_event){ .type = SEV_REAPED, .gone = true, .orphans = orphans });
}

UNUSED static const char *closed(struct play *p, uint32_t local, uint32_t streams)
{
	struct shim_rank_event re = { .local = local, .streams = streams };

	return feed(p, (struct shim_event){ .type = SEV_CLOSED, .ranks = &re, .n_ranks = 1 });
}

/* To the next deadline, which must be ms milliseconds away. */
UNUSED static const char *deadline(struct play *p, int64_t ms)
{
	assert_int_equal(mono_sub_ms(shim_deadline(p->s), p->now), ms);
	p->now = shim_deadline(p->s);
	return on(p, SEV_DEADLINE);
}

UNUSED static void to_running(struct play *p, uint32_t nprocs)
{
	play_init(p, nprocs);
	on(p, SEV_AGENT_UP);
	setup(p, nprocs);
	on(p, SEV_CHECKED);
	simple(p, MSG_shim_go);
	started(p, nprocs);
	assert_int_equal(shim_phase(p->s), SHIM_RUNNING);
}

#define T(text, wanted) assert_string_equal(text, wanted)

#endif
