/* agent_world.h - an agent's core with what it has sent and asked for, for tests */
#ifndef NA_TESTS_AGENT_WORLD_H
#define NA_TESTS_AGENT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/agent.h"
#include "proto/frame.h"

#define UNUSED __attribute__((unused)) /* not every test needs all of it */

#define COORD 100

#define SHIM 200

struct seen {
	enum action_type type;
	uint64_t link, ticket;
	char *text;
};

struct world {
	struct agent *a;
	struct actions acts;
	mono_t now;
	struct seen seen[1024];
	size_t n;
	bool old_coordinator; /* it names no features */
};

/* CLOCK_BOOTTIME is ahead: the machine was suspended. */
UNUSED static int64_t boot_ms(const struct world *w)
{
	return 50000 + w->now.ns / 1000000;
}

UNUSED static void feed(struct world *w, struct agent_event *ev)
{
	ev->now = w->now;
	ev->wall_ms = 1700000000000;
	ev->boot_ms = boot_ms(w);
	memset(ev->random, 5, sizeof(ev->random));
	assert_int_equal(agent_step(w->a, ev, &w->acts), 0);
	agent_check(w->a);
	for (size_t i = 0; i < w->acts.n; i++) {
		struct action *x = &w->acts.v[i];

		assert_true(w->n < 1024);
		w->seen[w->n].type = x->type;
		w->seen[w->n].link = x->link;
		w->seen[w->n].ticket = x->ticket;
		w->seen[w->n++].text = x->type == ACT_SEND ? strndup(x->text, x->len) : NULL;
	}
	actions_reset(&w->acts);
}

UNUSED static void forget(struct world *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->seen[i].text);
	w->n = 0;
}

/* How often this message went to this link. */
UNUSED static int count(struct world *w, uint64_t link, enum msg_type t)
{
	char key[64];
	int n = 0;

	snprintf(key, sizeof(key), "\"t\":\"%s\"", msg_name(t));
	for (size_t i = 0; i < w->n; i++)
		n += w->seen[i].type == ACT_SEND && w->seen[i].link == link &&
		     strstr(w->seen[i].text, key) != NULL;
	return n;
}

UNUSED static bool last(struct world *w, uint64_t link, enum msg_type t, struct msg *ret)
{
	for (size_t i = w->n; i-- > 0;) {
		if (w->seen[i].type != ACT_SEND || w->seen[i].link != link)
			continue;
		assert_int_equal(msg_decode(w->seen[i].text, strlen(w->seen[i].text), ret, NULL), 0);
		if (ret->type == t)
			return true;
		msg_finish(ret);
	}
	return false;
}

UNUSED static uint64_t ticket_of(struct world *w, enum action_type t)
{
	for (size_t i = w->n; i-- > 0;)
		if (w->seen[i].type == t)
			return w->seen[i].ticket;
	return 0;
}

UNUSED static bool asked(struct world *w, enum action_type t)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->seen[i].type == t)
			return true;
	return false;
}

UNUSED static void tick(struct world *w, int64_t ms)
{
	mono_t end = mono_add_ms(w->now, ms);

	for (int i = 0; i < 1000; i++) {
		struct agent_event ev = { .type = AEV_DEADLINE };
		mono_t next = agent_deadline(w->a);

		if (mono_before(end, next) || mono_is_never(next))
			break;
		w->now = mono_before(w->now, next) ? next : mono_add_ms(w->now, 1);
		feed(w, &ev);
	}
	w->now = end;
}

UNUSED static void say(struct world *w, uint64_t link, struct msg *m)
{
	struct agent_event ev = { .type = AEV_MESSAGE, .link = link, .msg = m };

	feed(w, &ev);
}

UNUSED static void up(struct world *w, uint64_t link, enum agent_link_kind kind)
{
	struct agent_event ev = { .type = AEV_LINK_UP, .link = link, .kind = kind };

	ev.uid = 1000;
	ev.user = "li";
	ev.job = 1;
	ev.attempt = 1;
	feed(w, &ev);
}

UNUSED static void down(struct world *w, uint64_t link)
{
	struct agent_event ev = { .type = AEV_LINK_DOWN, .link = link, .text = "reset" };

	feed(w, &ev);
}

UNUSED static void connect_as(struct world *w, uint64_t link)
{
	static const char *known[] = { "restarts", "spares", "time", "net", "from tomorrow" };
	struct msg m;

	tick(w, 20000);
	assert_true(asked(w, ACT_DIAL));
	up(w, link, LINK_COORD);
	msg_init(&m, MSG_welcome);
	m.u.welcome.proto = NA_PROTO;
	m.u.welcome.software = "t";
	m.u.welcome.lineage = 42;
	m.u.welcome.features = known;
	m.u.welcome.n_features = w->old_coordinator ? 0 : 5;
	say(w, link, &m);
	msg_init(&m, MSG_node_registered);
	m.u.node_registered.node = "gpu01";
	say(w, link, &m);
	assert_true(agent_registered(w->a));
}

UNUSED static void connect_coord(struct world *w)
{
	connect_as(w, COORD);
}

UNUSED static int setup_cold(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct agent_conf conf = { .node = "gpu01", .boot_id = "boot-1", .coordinator = "head:7070",
				   .incarnation = 1, .peer_port = 7, .single_user = true,
				   .own_uid = 1000 };
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct agent_event ev = { .type = AEV_ADDRS, .addrs = &addr, .n_addrs = 1 };

	w->now = (mono_t){ 1000000000 };
	actions_init(&w->acts);
	w->a = agent_create(&conf, w->now);
	feed(w, &ev);
	*state = w;
	return 0;
}

UNUSED static int setup(void **state)
{
	setup_cold(state);
	connect_coord(*state);
	forget(*state);
	return 0;
}

UNUSED static int teardown(void **state)
{
	struct world *w = *state;

	agent_destroy(w->a);
	forget(w);
	actions_finish(&w->acts);
	free(w);
	return 0;
}

UNUSED static void fill_prepare(struct msg *m, struct rec_peer *src, uint32_t uid)
{
	static const uint8_t hash[32] = { 1 };

	memset(src, 0, sizeof(*src));
	src->node = "head";
	src->key = (struct bytes){ hash, 32 };
	src->port = 1;
	msg_init(m, MSG_prepare);
	m->u.prepare.job = 1;
	m->u.prepare.attempt = 1;
	m->u.prepare.boot_id = "boot-1";
	m->u.prepare.uid = uid;
	m->u.prepare.user = "li";
	m->u.prepare.spec_hash = (struct bytes){ hash, 32 };
	m->u.prepare.spec_size = 10;
	m->u.prepare.source = src;
	m->u.prepare.n_source = 1;
	m->u.prepare.nnodes = 1;
	m->u.prepare.nprocs = 2;
	m->u.prepare.world = 2;
	m->u.prepare.grace_ms = 5000;
}

UNUSED static void prepare(struct world *w, uint32_t uid)
{
	struct rec_peer src;
	struct msg m;

	fill_prepare(&m, &src, uid);
	say(w, COORD, &m);
}

UNUSED static void done(struct world *w, enum action_type t, int error)
{
	static const char *const ras[] = { "127.0.0.1:1", "127.0.0.1:2" };
	struct agent_event ev = { .type = AEV_DONE, .ticket = ticket_of(w, t), .error = error,
				  .text = error != 0 ? "it went wrong" : NULL, .master_port = 20000, .ras = ras,
				  .n_ras = 2 };

	assert_int_not_equal(ev.ticket, 0);
	feed(w, &ev);
}

UNUSED static void shim_hello(struct world *w, const char *phase)
{
	struct msg m;

	msg_init(&m, MSG_shim_hello);
	m.u.shim_hello.proto = NA_SHIM_PROTO;
	m.u.shim_hello.job = 1;
	m.u.shim_hello.attempt = 1;
	m.u.shim_hello.pid = 99;
	m.u.shim_hello.phase = phase;
	say(w, SHIM, &m);
}

UNUSED static void shim_ready(struct world *w, bool ok)
{
	struct msg m;

	msg_init(&m, MSG_shim_ready);
	m.u.shim_ready.ok = ok;
	m.u.shim_ready.text = ok ? NULL : "cwd /x does not exist";
	say(w, SHIM, &m);
}

UNUSED static void to_ready(struct world *w)
{
	prepare(w, 1000);
	done(w, ACT_FETCH, 0);
	assert_false(asked(w, ACT_SPAWN));
	done(w, ACT_LEASE, 0);
	up(w, SHIM, LINK_SHIM);
	done(w, ACT_SPAWN, 0);
	shim_hello(w, "setup");
	shim_ready(w, true);
}

UNUSED static void start(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_start);
	m.u.start.job = 1;
	m.u.start.attempt = 1;
	m.u.start.boot_id = "boot-1";
	m.u.start.master_addr = "127.0.0.1";
	m.u.start.master_port = 20000;
	say(w, COORD, &m);
}

UNUSED static void shim_ranks(struct world *w, enum msg_type t, const char *state, uint32_t code)
{
	struct rec_rank_state r[2] = { { .rank = 0, .state = state, .pid = 11 },
				       { .rank = 1, .state = state, .pid = 12 } };
	struct msg m;

	MSG_SET(&r[0], rank_state, code, code);
	MSG_SET(&r[1], rank_state, code, code);
	msg_init(&m, t);
	if (t == MSG_ranks) {
		m.u.ranks.job = 1;
		m.u.ranks.attempt = 1;
		m.u.ranks.ranks = r;
		m.u.ranks.n_ranks = 2;
	} else {
		m.u.shim_ended.ranks = r;
		m.u.shim_ended.n_ranks = 2;
	}
	say(w, SHIM, &m);
}

UNUSED static void to_running(struct world *w)
{
	to_ready(w);
	start(w);
	done(w, ACT_LATCH, 0);
	shim_ranks(w, MSG_ranks, "running", 0);
}

UNUSED static void end(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_end);
	m.u.end.job = 1;
	m.u.end.attempt = 1;
	m.u.end.grace_ms = 1000;
	say(w, COORD, &m);
}

UNUSED static void do_forget(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_forget);
	m.u.forget.job = 1;
	m.u.forget.attempt = 1;
	say(w, COORD, &m);
}

UNUSED static void pong(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_pong);
	MSG_SET(&m.u.pong, pong, sent_mono_us, w->now.ns / 1000 - 200);
	MSG_SET(&m.u.pong, pong, came_mono_us, 5000000);
	say(w, COORD, &m);
}

UNUSED static void revoke(struct world *w, const uint8_t key[32])
{
	struct msg m;

	msg_init(&m, MSG_revoke);
	m.u.revoke.key = (struct bytes){ key, 32 };
	say(w, COORD, &m);
}

UNUSED static const uint8_t spec_a[32] = { 0xa }, spec_b[32] = { 0xb };

/* What the coordinator still runs for this node: 'n' jobs numbered from 1, all with one hash. */
UNUSED static void specs_used(struct world *w, size_t n, const uint8_t hash[32], bool more)
{
	struct rec_spec_use v[4] = { 0 };
	struct msg m;

	for (size_t i = 0; i < n; i++) {
		v[i].job = i + 1;
		v[i].hash = (struct bytes){ hash, 32 };
	}
	msg_init(&m, MSG_specs_used);
	m.u.specs_used.uses = v;
	m.u.specs_used.n_uses = n;
	m.u.specs_used.more = more;
	say(w, COORD, &m);
}

UNUSED static void job_over(struct world *w, uint64_t job)
{
	struct msg m;

	msg_init(&m, MSG_forget);
	m.u.forget.job = job;
	m.u.forget.attempt = 1;
	m.u.forget.over = true;
	say(w, COORD, &m);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#define COLD(f) cmocka_unit_test_setup_teardown(f, setup_cold, teardown)

#endif
