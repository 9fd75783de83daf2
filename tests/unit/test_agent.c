/* test_agent.c - the agent's core, by the actions it asks for */
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

#define COORD 100
#define SHIM 200
#define CLIENT 300

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
static int64_t boot_ms(const struct world *w)
{
	return 50000 + w->now.ns / 1000000;
}

static void feed(struct world *w, struct agent_event *ev)
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

static void forget(struct world *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->seen[i].text);
	w->n = 0;
}

/* How often this message went to this link. */
static int count(struct world *w, uint64_t link, enum msg_type t)
{
	char key[64];
	int n = 0;

	snprintf(key, sizeof(key), "\"t\":\"%s\"", msg_name(t));
	for (size_t i = 0; i < w->n; i++)
		n += w->seen[i].type == ACT_SEND && w->seen[i].link == link &&
		     strstr(w->seen[i].text, key) != NULL;
	return n;
}

static bool last(struct world *w, uint64_t link, enum msg_type t, struct msg *ret)
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

static uint64_t ticket_of(struct world *w, enum action_type t)
{
	for (size_t i = w->n; i-- > 0;)
		if (w->seen[i].type == t)
			return w->seen[i].ticket;
	return 0;
}

static bool asked(struct world *w, enum action_type t)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->seen[i].type == t)
			return true;
	return false;
}

static void tick(struct world *w, int64_t ms)
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

static void say(struct world *w, uint64_t link, struct msg *m)
{
	struct agent_event ev = { .type = AEV_MESSAGE, .link = link, .msg = m };

	feed(w, &ev);
}

static void up(struct world *w, uint64_t link, enum agent_link_kind kind)
{
	struct agent_event ev = { .type = AEV_LINK_UP, .link = link, .kind = kind };

	ev.uid = 1000;
	ev.user = "li";
	ev.job = 1;
	ev.attempt = 1;
	feed(w, &ev);
}

static void down(struct world *w, uint64_t link)
{
	struct agent_event ev = { .type = AEV_LINK_DOWN, .link = link, .text = "reset" };

	feed(w, &ev);
}

static void connect_as(struct world *w, uint64_t link)
{
	static const char *known[] = { "restarts", "spares", "time", "from tomorrow" };
	struct msg m;

	tick(w, 20000);
	assert_true(asked(w, ACT_DIAL));
	up(w, link, LINK_COORD);
	msg_init(&m, MSG_welcome);
	m.u.welcome.proto = NA_PROTO;
	m.u.welcome.software = "t";
	m.u.welcome.lineage = 42;
	m.u.welcome.features = known;
	m.u.welcome.n_features = w->old_coordinator ? 0 : 4;
	say(w, link, &m);
	msg_init(&m, MSG_node_registered);
	m.u.node_registered.node = "gpu01";
	say(w, link, &m);
	assert_true(agent_registered(w->a));
}

static void connect_coord(struct world *w)
{
	connect_as(w, COORD);
}

static int setup_cold(void **state)
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

static int setup(void **state)
{
	setup_cold(state);
	connect_coord(*state);
	forget(*state);
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	agent_destroy(w->a);
	forget(w);
	actions_finish(&w->acts);
	free(w);
	return 0;
}

static void fill_prepare(struct msg *m, struct rec_peer *src, uint32_t uid)
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

static void prepare(struct world *w, uint32_t uid)
{
	struct rec_peer src;
	struct msg m;

	fill_prepare(&m, &src, uid);
	say(w, COORD, &m);
}

static void done(struct world *w, enum action_type t, int error)
{
	static const char *const ras[] = { "127.0.0.1:1", "127.0.0.1:2" };
	struct agent_event ev = { .type = AEV_DONE, .ticket = ticket_of(w, t), .error = error,
				  .text = error != 0 ? "it went wrong" : NULL, .master_port = 20000, .ras = ras,
				  .n_ras = 2 };

	assert_int_not_equal(ev.ticket, 0);
	feed(w, &ev);
}

static void shim_hello(struct world *w, const char *phase)
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

static void shim_ready(struct world *w, bool ok)
{
	struct msg m;

	msg_init(&m, MSG_shim_ready);
	m.u.shim_ready.ok = ok;
	m.u.shim_ready.text = ok ? NULL : "cwd /x does not exist";
	say(w, SHIM, &m);
}

static void to_ready(struct world *w)
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

static void start(struct world *w)
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

static void shim_ranks(struct world *w, enum msg_type t, const char *state, uint32_t code)
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

static void to_running(struct world *w)
{
	to_ready(w);
	start(w);
	done(w, ACT_LATCH, 0);
	shim_ranks(w, MSG_ranks, "running", 0);
}

static void end(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_end);
	m.u.end.job = 1;
	m.u.end.attempt = 1;
	m.u.end.grace_ms = 1000;
	say(w, COORD, &m);
}

static void do_forget(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_forget);
	m.u.forget.job = 1;
	m.u.forget.attempt = 1;
	say(w, COORD, &m);
}

/* ---- the coordinator's link --------------------------------------------------- */

static void it_dials_again_with_growing_pauses(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_DIAL_FAILED, .text = "connection refused" };
	int dials = 0;

	for (int i = 0; i < 60; i++) {
		forget(w);
		tick(w, 1000);
		if (asked(w, ACT_DIAL)) {
			dials++;
			feed(w, &ev);
		}
	}
	assert_in_range(dials, 6, 20);
}

static void a_silent_coordinator_is_dialled_anew_and_no_job_is_touched(void **state)
{
	struct world *w = *state;

	to_running(w);
	forget(w);
	tick(w, 6500);
	assert_false(agent_registered(w->a));
	assert_true(asked(w, ACT_CLOSE));
	assert_int_equal(count(w, SHIM, MSG_shim_end), 0);
	down(w, COORD);
	forget(w);
	connect_coord(w);
	assert_int_equal(count(w, COORD, MSG_node_register), 1);
}

static void what_happened_meanwhile_is_told_at_registration(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_running(w);
	down(w, COORD);
	shim_ranks(w, MSG_shim_ended, "exited", 7);
	forget(w);
	connect_coord(w);
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_int_equal(m.u.node_register.n_held, 1);
	assert_string_equal(m.u.node_register.held[0].phase, "ended");
	assert_int_equal(m.u.node_register.held[0].ranks[1].code, 7);
	assert_int_equal(m.u.node_register.lineage, 42);
	msg_finish(&m);
}

/* ---- a job's life ---------------------------------------------------------------- */

static void ready_is_said_only_when_the_shim_has_checked(void **state)
{
	struct world *w = *state;
	struct msg m;

	prepare(w, 1000);
	done(w, ACT_FETCH, 0);
	done(w, ACT_LEASE, 0);
	up(w, SHIM, LINK_SHIM);
	shim_hello(w, "setup");
	assert_int_equal(count(w, COORD, MSG_prepared), 0);
	shim_ready(w, true);
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_true(m.u.prepared.ok);
	assert_int_equal(m.u.prepared.master_port, 20000);
	msg_finish(&m);
}

static void prepare_twice_makes_one_shim(void **state)
{
	struct world *w = *state;
	size_t n = 0;

	to_ready(w);
	prepare(w, 1000);
	for (size_t i = 0; i < w->n; i++)
		n += w->seen[i].type == ACT_SPAWN;
	assert_int_equal(n, 1);
	assert_int_equal(count(w, COORD, MSG_prepared), 2);
}

static void the_latch_comes_before_go_and_start_twice_goes_once(void **state)
{
	struct world *w = *state;

	to_ready(w);
	start(w);
	assert_int_equal(count(w, SHIM, MSG_shim_go), 0);
	done(w, ACT_LATCH, 0);
	assert_int_equal(count(w, SHIM, MSG_shim_go), 1);
	start(w);
	shim_ranks(w, MSG_ranks, "running", 0);
	start(w);
	assert_int_equal(count(w, SHIM, MSG_shim_go), 1);
}

/* The shim was stopped, has found the order too old, and says again that it is ready. */
static void an_order_is_renewed_only_while_its_session_lasts(void **state)
{
	struct world *w = *state;
	struct msg m;
	int64_t first;

	to_ready(w);
	start(w);
	done(w, ACT_LATCH, 0);
	assert_true(last(w, SHIM, MSG_shim_go, &m));
	first = m.u.shim_go.until_mono_ms;
	assert_int_equal(first, w->now.ns / 1000000 + 3000);
	msg_finish(&m);
	tick(w, 2000);
	shim_hello(w, "ready");
	assert_int_equal(count(w, SHIM, MSG_shim_go), 2);
	assert_true(last(w, SHIM, MSG_shim_go, &m));
	assert_int_equal(m.u.shim_go.until_mono_ms, first); /* the coordinator has said nothing since */
	msg_finish(&m);
	tick(w, 1500); /* its time is over, though the session is not */
	shim_hello(w, "ready");
	assert_int_equal(count(w, SHIM, MSG_shim_go), 2);
	start(w); /* a new order: the latch is ours */
	assert_int_equal(count(w, SHIM, MSG_shim_go), 3);
	forget(w);

	down(w, COORD);
	shim_hello(w, "ready");
	assert_int_equal(count(w, SHIM, MSG_shim_go), 0);
	connect_coord(w);
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_string_equal(m.u.node_register.held[0].phase, "ready");
	msg_finish(&m);
	start(w);
	assert_int_equal(count(w, SHIM, MSG_shim_go), 1);
}

static void who_finds_the_latch_taken_starts_nothing(void **state)
{
	struct world *w = *state;

	to_ready(w);
	start(w);
	done(w, ACT_LATCH, -EEXIST);
	assert_int_equal(count(w, SHIM, MSG_shim_go), 0);
	assert_int_equal(count(w, SHIM, MSG_shim_end), 1);
}

/* Who was told 'starting' after a reconnect must hear that it did not. */
static void an_order_that_outlived_its_session_is_told_to_the_new_one(void **state)
{
	struct world *w = *state;
	const uint64_t again = 77; /* links have numbers of their own */
	struct msg m;

	to_ready(w);
	start(w);
	done(w, ACT_LATCH, 0);
	down(w, COORD);
	connect_as(w, again);
	assert_true(last(w, again, MSG_node_register, &m));
	assert_string_equal(m.u.node_register.held[0].phase, "starting");
	msg_finish(&m);
	forget(w);
	shim_hello(w, "ready");
	assert_int_equal(count(w, SHIM, MSG_shim_go), 0);
	assert_true(last(w, again, MSG_node_register, &m));
	assert_string_equal(m.u.node_register.held[0].phase, "ready");
	msg_finish(&m);
}

static void a_latch_that_cannot_be_taken_starts_nothing(void **state)
{
	struct world *w = *state;

	to_ready(w);
	start(w);
	done(w, ACT_LATCH, -ENOSPC);
	assert_int_equal(count(w, SHIM, MSG_shim_go), 0);
	assert_int_equal(count(w, SHIM, MSG_shim_end), 1);
}

static void another_users_job_is_refused_with_a_sentence(void **state)
{
	struct world *w = *state;
	struct msg m;

	prepare(w, 1001);
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_false(m.u.prepared.ok);
	assert_non_null(strstr(m.u.prepared.text, "1001"));
	msg_finish(&m);
	assert_false(asked(w, ACT_FETCH));
}

static void a_failed_fetch_is_told_and_end_is_answered(void **state)
{
	struct world *w = *state;
	struct msg m;

	prepare(w, 1000);
	done(w, ACT_FETCH, -EIO);
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_string_equal(m.u.prepared.text, "it went wrong");
	msg_finish(&m);
	end(w);
	assert_int_equal(count(w, COORD, MSG_ended), 1);
	do_forget(w);
	assert_true(asked(w, ACT_CLEAN));
}

static void end_reaches_the_shim_and_ended_the_coordinator(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_running(w);
	end(w);
	assert_int_equal(count(w, SHIM, MSG_shim_end), 1);
	assert_int_equal(count(w, COORD, MSG_ended), 0);
	shim_ranks(w, MSG_shim_ended, "killed", 0);
	assert_true(last(w, COORD, MSG_ended, &m));
	assert_int_equal(m.u.ended.n_ranks, 2);
	msg_finish(&m);
	assert_false(asked(w, ACT_CLEAN));
	do_forget(w);
	assert_true(asked(w, ACT_CLEAN));
	assert_int_equal(count(w, SHIM, MSG_shim_bye), 1);
}

static void end_while_the_shim_is_being_started_still_ends_it(void **state)
{
	struct world *w = *state;

	prepare(w, 1000);
	done(w, ACT_FETCH, 0);
	done(w, ACT_LEASE, 0);
	end(w);
	assert_int_equal(count(w, COORD, MSG_ended), 0);
	up(w, SHIM, LINK_SHIM);
	shim_hello(w, "setup");
	assert_int_equal(count(w, SHIM, MSG_shim_end), 1);
	assert_int_equal(count(w, SHIM, MSG_shim_setup), 0);
}

/* ---- GPUs ---------------------------------------------------------------------- */

/* A letter for each GPU: "GPU-A"; small: it fell off the bus; '-': it has no name. */
static void read_gpus(struct world *w, const char *letters)
{
	struct agent_event ev = { .type = AEV_READINGS };
	struct rec_gpu g[8];
	char uuid[8][8];
	struct msg m;

	memset(g, 0, sizeof(g));
	msg_init(&m, MSG_readings);
	m.u.readings.gpus = g;
	for (uint32_t i = 0; letters[i] != '\0'; i++) {
		bool lost = letters[i] >= 'a';

		snprintf(uuid[i], sizeof(uuid[i]), "GPU-%c", letters[i] - (lost ? 32 : 0));
		g[i] = (struct rec_gpu){ .index = i, .uuid = letters[i] != '-' ? uuid[i] : NULL,
					 .text = lost ? "fell off the bus" : NULL };
		m.u.readings.n_gpus++;
	}
	ev.msg = &m;
	feed(w, &ev);
}

/* What the ranks of a job that was given these get in CUDA_VISIBLE_DEVICES. */
static const char *visible(struct world *w, const char *gpus, const char *ids)
{
	static char out[64];
	struct rec_peer src;
	struct msg m;

	fill_prepare(&m, &src, 1000);
	m.u.prepare.gpus = gpus;
	m.u.prepare.gpu_ids = ids;
	say(w, COORD, &m);
	if (ticket_of(w, ACT_FETCH) == 0)
		return "refused";
	done(w, ACT_FETCH, 0);
	done(w, ACT_LEASE, 0);
	up(w, SHIM, LINK_SHIM);
	done(w, ACT_SPAWN, 0);
	shim_hello(w, "setup");
	assert_true(last(w, SHIM, MSG_shim_setup, &m));
	snprintf(out, sizeof(out), "%s", m.u.shim_setup.gpus != NULL ? m.u.shim_setup.gpus : "absent");
	msg_finish(&m);
	return out;
}

static void ranks_see_their_GPUs_by_the_indices_of_now(void **state)
{
	read_gpus(*state, "BCD");
	assert_string_equal(visible(*state, "1,3", "GPU-B,GPU-D"), "0,2");
}

static void ranks_see_them_by_name_beside_one_that_fell_off_the_bus(void **state)
{
	read_gpus(*state, "aBCD");
	assert_string_equal(visible(*state, "1,3", "GPU-B,GPU-D"), "GPU-B,GPU-D");
}

static void GPUs_without_a_name_go_by_index(void **state)
{
	read_gpus(*state, "--");
	assert_string_equal(visible(*state, "1", "#1"), "1");
}

/* Its indices may be out of date, its names are not. */
static void without_readings_the_coordinators_names_count(void **state)
{
	assert_string_equal(visible(*state, "1,3", "GPU-B,GPU-D"), "GPU-B,GPU-D");
}

static void without_readings_and_names_its_indices_do(void **state)
{
	assert_string_equal(visible(*state, "1,3", "#1,#3"), "1,3");
}

static void GPUs_that_nobody_had_seen_are_hidden_from_a_job_that_was_given_none(void **state)
{
	struct world *w = *state;
	struct msg m;

	read_gpus(w, "");
	assert_string_equal(visible(w, NULL, NULL), "absent");
	shim_ready(w, true);
	read_gpus(w, "AB");
	start(w);
	done(w, ACT_LATCH, 0);
	assert_true(last(w, SHIM, MSG_shim_go, &m));
	assert_string_equal(m.u.shim_go.gpus, "");
	msg_finish(&m);
}

static void what_a_probe_that_has_ended_cannot_say_is_hidden_as_well(void **state)
{
	struct agent_event gone = { .type = AEV_READINGS, .text = "the probe has ended" };
	struct world *w = *state;
	struct msg m;

	read_gpus(w, "");
	assert_string_equal(visible(w, NULL, NULL), "absent");
	shim_ready(w, true);
	feed(w, &gone);
	start(w);
	done(w, ACT_LATCH, 0);
	assert_true(last(w, SHIM, MSG_shim_go, &m));
	assert_string_equal(m.u.shim_go.gpus, "");
	msg_finish(&m);
}

static void indices_that_shift_before_the_start_are_told_with_it(void **state)
{
	struct world *w = *state;
	struct msg m;

	read_gpus(w, "ABCD");
	assert_string_equal(visible(w, "1,3", "GPU-B,GPU-D"), "1,3");
	shim_ready(w, true);
	read_gpus(w, "BCD");
	start(w);
	done(w, ACT_LATCH, 0);
	assert_true(last(w, SHIM, MSG_shim_go, &m));
	assert_string_equal(m.u.shim_go.gpus, "0,2");
	msg_finish(&m);
}

static void a_job_whose_GPU_is_gone_is_refused(void **state)
{
	struct world *w = *state;
	struct msg m;

	read_gpus(w, "ACD");
	assert_string_equal(visible(w, "0,1", "GPU-A,GPU-B"), "refused");
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_non_null(strstr(m.u.prepared.text, "not there any more (GPU-A,GPU-B)"));
	msg_finish(&m);
}

static void a_GPU_that_has_lost_its_name_is_held_by_index(void **state)
{
	struct world *w = *state;
	struct rec_peer src;
	struct msg m;

	read_gpus(w, "AB");
	assert_string_equal(visible(w, "0", "GPU-A"), "0");
	read_gpus(w, "-B");
	forget(w);
	fill_prepare(&m, &src, 1000);
	m.u.prepare.job = 2;
	m.u.prepare.gpus = "0";
	m.u.prepare.gpu_ids = "#0";
	say(w, COORD, &m);
	assert_false(asked(w, ACT_FETCH));
}

static void no_driver(struct world *w)
{
	struct agent_event ev = { .type = AEV_READINGS };
	struct rec_source s = { .name = "nvml", .absent = true };
	struct msg m;

	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	ev.msg = &m;
	feed(w, &ev);
}

static void pong(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_pong);
	MSG_SET(&m.u.pong, pong, sent_mono_us, w->now.ns / 1000 - 200);
	MSG_SET(&m.u.pong, pong, came_mono_us, 5000000);
	say(w, COORD, &m);
}

/* One GPU and one port, and what the kernel's log has told. */
static void read_host(struct world *w, uint32_t xids, const char *port, struct rec_happening *v, size_t n)
{
	struct agent_event ev = { .type = AEV_READINGS };
	struct rec_source s = { .name = "nvml", .ok = true };
	struct rec_gpu g = { .index = 3, .uuid = "GPU-3", .pci = "0000:17:00.0", .xid = 79 };
	struct rec_port p = { .device = "mlx5_0", .port = 1, .state = port };
	struct msg m;

	MSG_SET(&g, gpu, xids, xids);
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.gpus = &g;
	m.u.readings.ports = &p;
	m.u.readings.n_sources = m.u.readings.n_gpus = m.u.readings.n_ports = 1;
	m.u.readings.happenings = v;
	m.u.readings.n_happenings = n;
	ev.msg = &m;
	feed(w, &ev);
}

static void what_the_log_says_is_told_once_with_the_rank_and_the_time(void **state)
{
	struct world *w = *state;
	struct rec_happening h = { .kind = "oom", .text = "it was ended", .mono_us = 0 };
	struct msg m;

	to_running(w);
	pong(w);
	h.mono_us = w->now.ns / 1000 - 1000;
	MSG_SET(&h, happening, pid, 12);
	read_host(w, 0, "Active", &h, 1);
	read_host(w, 0, "Active", &h, 1); /* each reading carries the last ones again */
	assert_int_equal(count(w, COORD, MSG_happened), 1);
	assert_true(last(w, COORD, MSG_happened, &m));
	assert_int_equal(m.u.happened.happenings->job, 1);
	assert_int_equal(m.u.happened.happenings->rank, 1);
	assert_int_equal(m.u.happened.happenings->at_mono_us, 5000100 - 1000);
	assert_int_equal(m.u.happened.happenings->at_error_us, 101);
	msg_finish(&m);
	assert_true(last(w, COORD, MSG_readings, &m));
	assert_int_equal(m.u.readings.n_happenings, 0);
	msg_finish(&m);
}

/* The kernel names the worker that died, not the launcher that we have started. */
static void what_the_log_says_of_a_launchers_worker_is_its_jobs(void **state)
{
	struct world *w = *state;
	struct rec_worker v[2] = { { .rank = 4, .pid = 4711, .state = "killed" }, { .rank = 5, .pid = 4712, .state = "running" } };
	struct rec_rank_state r = { .rank = 1, .state = "running", .pid = 12, .workers = v, .n_workers = 2 };
	struct rec_happening h = { .kind = "fault", .text = "segmentation fault of pid 4711", .mono_us = 0 };
	struct msg m;

	to_running(w);
	MSG_SET(&v[0], worker, sig, 11);
	MSG_SET(&r, rank_state, workers_found, 2);
	msg_init(&m, MSG_ranks);
	m.u.ranks.job = m.u.ranks.attempt = 1;
	m.u.ranks.ranks = &r;
	m.u.ranks.n_ranks = 1;
	say(w, SHIM, &m);
	pong(w);
	h.mono_us = w->now.ns / 1000 - 1000;
	MSG_SET(&h, happening, pid, 4711);
	read_host(w, 0, "Active", &h, 1);
	assert_true(last(w, COORD, MSG_happened, &m));
	assert_int_equal(m.u.happened.happenings->job, 1);
	assert_int_equal(m.u.happened.happenings->rank, 1);
	msg_finish(&m);
}

static void what_differs_between_readings_is_told(void **state)
{
	struct world *w = *state;
	struct rec_happening h = { .kind = "xid", .text = "Xid 79 on the GPU at 0000:17:00", .pci = "0000:17:00" };
	struct msg m;

	read_host(w, 1, "Active", NULL, 0); /* it was so before we looked */
	assert_int_equal(count(w, COORD, MSG_happened), 0);
	read_host(w, 2, "Active", NULL, 0);
	assert_int_equal(count(w, COORD, MSG_happened), 1);
	assert_true(last(w, COORD, MSG_happened, &m));
	assert_string_equal(m.u.happened.happenings->text, "Xid 79 on GPU 3");
	assert_string_equal(m.u.happened.happenings->gpu_id, "GPU-3");
	msg_finish(&m);
	h.mono_us = w->now.ns / 1000;
	MSG_SET(&h, happening, xid, 79);
	read_host(w, 2, "Active", &h, 1); /* the log tells of the same */
	assert_int_equal(count(w, COORD, MSG_happened), 1);
	read_host(w, 2, "Down", &h, 1);
	assert_int_equal(count(w, COORD, MSG_happened), 2);
	assert_true(last(w, COORD, MSG_happened, &m));
	assert_string_equal(m.u.happened.happenings->text, "port mlx5_0/1 went down");
	msg_finish(&m);
	pong(w); /* clocks are compared for the first time: now it can be told when */
	assert_int_equal(count(w, COORD, MSG_happened), 3);
	assert_true(last(w, COORD, MSG_happened, &m));
	assert_int_equal(m.u.happened.n_happenings, 2);
	msg_finish(&m);
}

static void where_no_GPU_was_ever_seen_the_variable_is_left_alone(void **state)
{
	no_driver(*state);
	assert_string_equal(visible(*state, NULL, NULL), "absent");
}

/* GPUs were there when it was placed, and may be again when its ranks look. */
static void a_driver_that_is_away_for_a_moment_shows_nothing(void **state)
{
	no_driver(*state);
	assert_string_equal(visible(*state, "", NULL), "");
}

static void who_holds_none_sees_none(void **state)
{
	read_gpus(*state, "AB");
	assert_string_equal(visible(*state, "", NULL), "");
}

static void a_GPU_is_held_by_name_not_by_index(void **state)
{
	struct world *w = *state;
	struct rec_peer src;
	struct msg m;

	read_gpus(w, "ABC");
	assert_string_equal(visible(w, "1", "GPU-B"), "1");
	read_gpus(w, "BC");
	forget(w);
	fill_prepare(&m, &src, 1000);
	m.u.prepare.job = 2;
	m.u.prepare.gpus = "1"; /* C now, B's number before */
	m.u.prepare.gpu_ids = "GPU-C";
	say(w, COORD, &m);
	assert_true(asked(w, ACT_FETCH));
	forget(w);
	m.u.prepare.job = 3;
	m.u.prepare.gpus = "0";
	m.u.prepare.gpu_ids = "GPU-B";
	say(w, COORD, &m);
	assert_false(asked(w, ACT_FETCH));
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_non_null(strstr(m.u.prepared.text, "job 1 still holds GPUs"));
	msg_finish(&m);
}

static void a_killed_shim_means_sweep_and_lost_ranks(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_running(w);
	down(w, SHIM);
	assert_true(asked(w, ACT_SWEEP));
	assert_int_equal(count(w, COORD, MSG_ended), 0);
	done(w, ACT_SWEEP, 0);
	assert_true(last(w, COORD, MSG_ended, &m));
	assert_string_equal(m.u.ended.ranks[0].state, "lost");
	msg_finish(&m);
}

static void a_failed_sweep_is_repeated_before_ended_is_said(void **state)
{
	struct world *w = *state;

	to_running(w);
	down(w, SHIM);
	done(w, ACT_SWEEP, -EBUSY);
	assert_int_equal(count(w, COORD, MSG_ended), 0);
	forget(w);
	tick(w, 1500);
	assert_true(asked(w, ACT_SWEEP));
	done(w, ACT_SWEEP, 0);
	assert_int_equal(count(w, COORD, MSG_ended), 1);
}

/* As a failed sweep says it: a second apart, from the first one on. */
static void sweep_for(struct world *w, int error, int seconds)
{
	struct msg m;

	msg_init(&m, MSG_ping);
	for (int i = 0; i < seconds; i++) {
		done(w, ACT_SWEEP, error);
		assert_int_equal(count(w, COORD, MSG_ended), 0);
		forget(w);
		say(w, COORD, &m); /* or its link counts as dead */
		tick(w, 1000);
		assert_true(asked(w, ACT_SWEEP));
	}
}

static void one_that_cannot_be_ended_is_named_after_30_s_and_the_job_ends(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_running(w);
	down(w, SHIM);
	sweep_for(w, -ETIME, 30);
	done(w, ACT_SWEEP, -ETIME);
	assert_true(last(w, COORD, MSG_ended, &m));
	assert_string_equal(m.u.ended.ranks[0].state, "lost");
	assert_string_equal(m.u.ended.text, "the shim was killed; it went wrong");
	msg_finish(&m);
}

static void while_nobody_can_look_the_job_does_not_end(void **state)
{
	struct world *w = *state;

	to_running(w);
	down(w, SHIM);
	sweep_for(w, -EPIPE, 100);
	sweep_for(w, -ETIMEDOUT, 20);
	done(w, ACT_SWEEP, 0);
	assert_int_equal(count(w, COORD, MSG_ended), 1);
}

static void whom_a_sweep_has_left_alive_is_told(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_DONE, .result = 2, .text = "pid 7 (x, state S) was left alone" };
	struct msg m;

	to_running(w);
	down(w, SHIM);
	ev.ticket = ticket_of(w, ACT_SWEEP);
	feed(w, &ev);
	assert_true(last(w, COORD, MSG_ended, &m));
	assert_string_equal(m.u.ended.text, "the shim was killed; 2 processes it left were ended; "
			    "pid 7 (x, state S) was left alone");
	msg_finish(&m);
}

static void shim_stuck(struct world *w)
{
	struct rec_stuck_proc p = { .pid = 4711, .start_time = 99, .name = "python",
				    .text = "state D (disk sleep) in nfs_wait_bit_killable" };
	struct msg m;

	msg_init(&m, MSG_shim_stuck);
	m.u.shim_stuck.procs = &p;
	m.u.shim_stuck.n_procs = 1;
	say(w, SHIM, &m);
}

/* The answer to the last look: who of two lives. */
static void looked(struct world *w, uint32_t alive)
{
	struct agent_event ev = { .type = AEV_DONE, .result = alive };

	ev.ticket = ticket_of(w, ACT_LOOK);
	assert_true(ev.ticket != 0);
	feed(w, &ev);
}

static void a_rank_that_cannot_be_killed_ends_the_job_and_is_told_until_it_is_gone(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_running(w);
	shim_stuck(w);
	assert_true(last(w, COORD, MSG_ended, &m));
	assert_string_equal(m.u.ended.ranks[0].state, "lost");
	assert_string_equal(m.u.ended.text, "process 4711 (python) cannot be killed: state D (disk sleep) in "
			    "nfs_wait_bit_killable");
	msg_finish(&m);
	assert_true(last(w, COORD, MSG_stuck, &m));
	assert_int_equal(m.u.stuck.procs[0].pid, 4711);
	assert_int_equal(m.u.stuck.procs[0].job, 1);
	msg_finish(&m);
	forget(w);
	shim_stuck(w); /* said again: nothing new */
	assert_int_equal(count(w, COORD, MSG_stuck), 0);
	tick(w, 2000);
	looked(w, 1);
	assert_int_equal(count(w, COORD, MSG_stuck), 0);
	tick(w, 2000);
	looked(w, 0);
	assert_true(last(w, COORD, MSG_stuck, &m));
	assert_int_equal(m.u.stuck.n_procs, 0);
	assert_int_equal(m.u.stuck.gone[0].pid, 4711);
	assert_int_equal(m.u.stuck.gone[0].start_time, 99);
	msg_finish(&m);
	forget(w);
	tick(w, 4000);
	assert_false(asked(w, ACT_LOOK)); /* nobody is looked for */
}

static void what_outlives_a_sweep_is_told_before_the_job_ends_there(void **state)
{
	struct world *w = *state;
	struct rec_stuck_proc p = { .pid = 4711, .start_time = 99, .name = "python", .foreign = true };
	struct agent_event ev = { .type = AEV_DONE, .error = -ETIME, .text = "pid 4711 could not be ended", .stuck = &p,
				  .n_stuck = 1 };
	bool told = false;

	to_running(w);
	down(w, SHIM);
	sweep_for(w, -ETIME, 30);
	ev.ticket = ticket_of(w, ACT_SWEEP);
	feed(w, &ev);
	for (size_t i = 0; i < w->n; i++) {
		if (w->seen[i].text != NULL && strstr(w->seen[i].text, "\"t\":\"stuck\"") != NULL)
			told = strstr(w->seen[i].text, "\"foreign\":true") != NULL;
		if (w->seen[i].text != NULL && strstr(w->seen[i].text, "\"t\":\"ended\"") != NULL)
			assert_true(told);
	}
	assert_true(told);
}

static void docker_in_a_job_is_told_once_and_looked_for_less_and_less(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_DONE };
	struct msg m;

	to_running(w);
	forget(w);
	tick(w, 1000);
	ev.ticket = ticket_of(w, ACT_CONTAINERS);
	assert_true(ev.ticket != 0);
	feed(w, &ev); /* none */
	assert_int_equal(count(w, COORD, MSG_notice), 0);
	forget(w);
	tick(w, 1900);
	assert_false(asked(w, ACT_CONTAINERS));
	tick(w, 200);
	ev.ticket = ticket_of(w, ACT_CONTAINERS);
	ev.result = 2;
	ev.text = "docker run x";
	feed(w, &ev);
	assert_true(last(w, COORD, MSG_notice, &m));
	assert_non_null(strstr(m.u.notice.text, "rank 1 runs 'docker run x': what is in the container"));
	msg_finish(&m);
	forget(w);
	tick(w, 4000);
	assert_false(asked(w, ACT_CONTAINERS));
}

static void watch_stuck(struct world *w, uint32_t pid, bool instead)
{
	struct rec_stuck_proc p = { .pid = pid, .start_time = 99 };
	struct msg m;

	msg_init(&m, MSG_stuck_watch);
	m.u.stuck_watch.procs = &p;
	m.u.stuck_watch.n_procs = pid != 0;
	m.u.stuck_watch.instead = instead;
	say(w, COORD, &m);
}

static void those_whom_the_coordinator_has_stored_are_looked_for(void **state)
{
	struct world *w = *state;
	struct msg m;

	watch_stuck(w, 4711, false);
	tick(w, 2000);
	watch_stuck(w, 4712, false); /* the list has changed: that look says nothing of it */
	looked(w, 0);
	assert_int_equal(count(w, COORD, MSG_stuck), 0);
	tick(w, 2000);
	looked(w, 2); /* the second lives */
	assert_true(last(w, COORD, MSG_stuck, &m));
	assert_int_equal(m.u.stuck.n_gone, 1);
	assert_int_equal(m.u.stuck.gone[0].pid, 4711);
	msg_finish(&m);
	watch_stuck(w, 0, true); /* an administrator wants no more of it */
	forget(w);
	tick(w, 4000);
	assert_false(asked(w, ACT_LOOK));
}

static void the_shim_of_a_job_that_was_given_up_is_let_go_when_it_ends(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_running(w);
	shim_stuck(w);
	msg_init(&m, MSG_forget);
	m.u.forget.job = 1;
	m.u.forget.attempt = 1;
	say(w, COORD, &m);
	forget(w);
	msg_init(&m, MSG_shim_ended);
	say(w, SHIM, &m);
	assert_true(last(w, SHIM, MSG_shim_bye, &m));
	assert_true(m.u.shim_bye.settled);
	msg_finish(&m);
}

static void output_that_was_lost_is_told_once_with_the_place(void **state)
{
	struct world *w = *state;
	struct rec_rank_state r[2] = { { .rank = 0, .state = "exited", .pid = 11, .lost_bytes = 40 },
				       { .rank = 1, .state = "exited", .pid = 12, .lost_bytes = 2 } };
	struct msg m;

	to_running(w);
	msg_init(&m, MSG_shim_ended);
	m.u.shim_ended.ranks = r;
	m.u.shim_ended.n_ranks = 2;
	m.u.shim_ended.text = "1 process outlived the ranks and was ended";
	say(w, SHIM, &m);
	assert_true(last(w, COORD, MSG_ended, &m));
	assert_string_equal(m.u.ended.text,
			    "1 process outlived the ranks and was ended; 42 bytes of output of 2 processes "
			    "were lost, for there was no room in its spool directory; remove files there");
	msg_finish(&m);
}

static void a_revoked_source_may_nothing_more(void **state)
{
	struct world *w = *state;
	static const uint8_t hash[32] = { 1 };
	struct msg m;

	to_running(w);
	assert_true(agent_peer_may(w->a, hash, 1));
	msg_init(&m, MSG_revoke);
	m.u.revoke.key = (struct bytes){ hash, 32 };
	say(w, COORD, &m);
	assert_true(asked(w, ACT_REVOKE));
	assert_false(agent_peer_may(w->a, hash, 1));
	assert_false(agent_peer_allowed(w->a, hash));
}

/* ---- peers -------------------------------------------------------------------------- */

static const uint8_t ann[32] = { 0xa1 }, bob[32] = { 0xb0 };

/* The coordinator names at most two keys for a job. */
static void allow(struct world *w, uint64_t job, const uint8_t *k1, const uint8_t *k2, bool whole)
{
	struct rec_peer v[2] = { { .node = "a", .port = 1 }, { .node = "b", .port = 1 } };
	struct msg m;

	v[0].key = (struct bytes){ k1, 32 };
	v[1].key = (struct bytes){ k2, 32 };
	msg_init(&m, MSG_allow);
	m.u.allow.job = job;
	m.u.allow.peers = v;
	m.u.allow.n_peers = (k1 != NULL) + (k2 != NULL);
	m.u.allow.whole = whole;
	say(w, COORD, &m);
}

static void revoke(struct world *w, const uint8_t key[32])
{
	struct msg m;

	msg_init(&m, MSG_revoke);
	m.u.revoke.key = (struct bytes){ key, 32 };
	say(w, COORD, &m);
}

/* With the coordinator answering: the session stays. */
static void live(struct world *w, int seconds)
{
	struct msg m;

	msg_init(&m, MSG_pong);
	for (int i = 0; i < seconds; i++) {
		tick(w, 1000);
		say(w, COORD, &m);
	}
}

static void a_withdrawn_peer_is_out_after_a_while_and_what_it_reads_is_cut(void **state)
{
	struct world *w = *state;

	allow(w, 5, ann, bob, true);
	allow(w, 5, bob, NULL, true);
	live(w, 25);
	assert_true(agent_peer_may(w->a, ann, 5)); /* bridges a restart of the coordinator */
	assert_false(asked(w, ACT_PEER_OUT));
	live(w, 10);
	assert_false(agent_peer_may(w->a, ann, 5));
	assert_false(agent_peer_allowed(w->a, ann));
	assert_true(asked(w, ACT_PEER_OUT));
	assert_true(agent_peer_may(w->a, bob, 5));
	assert_false(agent_peer_may(w->a, bob, 6));
	allow(w, 5, NULL, NULL, true);
	live(w, 35);
	assert_false(agent_peer_allowed(w->a, bob));
}

static void who_is_not_named_after_a_registration_is_out_and_who_is_notices_nothing(void **state)
{
	struct world *w = *state;

	allow(w, 5, ann, bob, true);
	allow(w, 6, ann, NULL, true);
	down(w, COORD);
	connect_coord(w);
	allow(w, 5, ann, NULL, true);
	assert_true(agent_peer_may(w->a, bob, 5));
	live(w, 35);
	assert_true(agent_peer_may(w->a, ann, 5));
	assert_false(agent_peer_may(w->a, bob, 5));
	assert_false(agent_peer_may(w->a, ann, 6));
}

static void without_a_coordinator_nobody_is_put_out(void **state)
{
	struct world *w = *state;

	allow(w, 5, ann, NULL, true);
	down(w, COORD);
	tick(w, 60000);
	assert_true(agent_peer_may(w->a, ann, 5));
}

static void the_end_of_a_job_does_not_put_its_readers_out(void **state)
{
	struct world *w = *state;

	allow(w, 1, ann, NULL, true);
	do_forget(w);
	live(w, 35);
	assert_true(agent_peer_may(w->a, ann, 1));
	allow(w, 2, bob, NULL, false); /* an older coordinator never withdraws */
	assert_true(agent_peer_may(w->a, bob, 2));
	allow(w, 1, ann, NULL, false);
	do_forget(w);
	assert_false(agent_peer_may(w->a, ann, 1));
}

static void a_registration_names_the_keys_that_may_come_in(void **state)
{
	struct world *w = *state;
	struct msg m;
	int seen = 0;

	to_running(w); /* its source has key 1 */
	allow(w, 5, ann, bob, true);
	allow(w, 6, ann, NULL, true);
	down(w, COORD);
	forget(w);
	connect_coord(w);
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_int_equal(m.u.node_register.n_keys, 3);
	for (size_t i = 0; i < 3; i++)
		seen += m.u.node_register.keys[i].key.p[0];
	assert_int_equal(seen, 1 + 0xa1 + 0xb0);
	msg_finish(&m);
}

static void a_revoked_key_is_out_at_once_and_in_again_when_it_is_named_again(void **state)
{
	struct world *w = *state;

	allow(w, 5, ann, bob, true);
	revoke(w, ann);
	assert_false(agent_peer_allowed(w->a, ann));
	assert_true(agent_peer_may(w->a, bob, 5));
	allow(w, 5, ann, bob, true); /* enrolled again, with the key it had */
	assert_true(agent_peer_may(w->a, ann, 5));
}

static void the_table_of_peers_has_an_end_and_fading_ones_go_first(void **state)
{
	enum { EACH = 4096, MAX = 65536 };
	struct world *w = *state;
	static uint8_t keys[EACH][32];
	static struct rec_peer v[EACH];
	struct agent_event ev = { .type = AEV_MESSAGE, .link = COORD };
	struct msg m;

	msg_init(&m, MSG_allow);
	m.u.allow.peers = v;
	m.u.allow.n_peers = EACH;
	m.u.allow.whole = true;
	ev.msg = &m;
	for (int i = 0; i < EACH; i++) {
		memcpy(keys[i], &i, sizeof(i));
		v[i] = (struct rec_peer){ .node = "n", .key = { keys[i], 32 }, .port = 1 };
	}
	for (uint64_t job = 1; job <= MAX / EACH; job++) {
		m.u.allow.job = job;
		feed(w, &ev);
	}
	allow(w, 99, ann, NULL, true);
	assert_false(agent_peer_may(w->a, ann, 99));
	m.u.allow.job = 1;
	m.u.allow.n_peers = 1;
	ev.now = w->now;
	assert_int_equal(agent_step(w->a, &ev, &w->acts), 0); /* more actions than feed() keeps */
	actions_reset(&w->acts);
	allow(w, 99, ann, NULL, true);
	assert_true(agent_peer_may(w->a, ann, 99));
	assert_true(agent_peer_may(w->a, keys[0], 1));
	assert_false(agent_peer_may(w->a, keys[9], 1));
	assert_true(agent_peer_may(w->a, keys[9], 2));
}

static void a_job_is_forgotten_only_when_nothing_lives(void **state)
{
	struct world *w = *state;

	to_running(w);
	do_forget(w);
	assert_false(asked(w, ACT_CLEAN));
	assert_int_equal(count(w, SHIM, MSG_shim_bye), 0);
}

/* ---- adoption ------------------------------------------------------------------------ */

static void adopt(struct world *w, bool latched, bool alive)
{
	struct rec_peer src;
	struct msg m;
	struct buf b;
	struct rec_row_held h = { .job = 1, .attempt = 1, .boot_id = "boot-1", .lineage = 42,
				  .cookie = "c0ffee" };
	struct agent_event ev = { .type = AEV_ADOPT, .held = &h, .latched = latched,
				  .alive = alive };

	fill_prepare(&m, &src, 1000);
	buf_init(&b);
	assert_int_equal(msg_encode(&m, &b, NULL), 0);
	h.prepare = (struct bytes){ (uint8_t *)b.data, b.len };
	feed(w, &ev);
	buf_finish(&b);
}

static void adopt_ended_launcher(struct world *w, uint64_t job)
{
	static char words[901];
	static uint8_t tail[4096];
	struct rec_worker v[8] = { { 0 } };
	struct rec_rank_state rank = { .rank = 0, .state = "exited", .pid = 11, .exception = words, .workers = v,
				       .n_workers = 8, .tail = { tail, sizeof(tail) }, .end_mono_us = 1000 };
	struct rec_shim_ended ended = { .ranks = &rank, .n_ranks = 1 };
	struct rec_row_held h = { .job = job, .attempt = 1, .boot_id = "boot-1", .lineage = 42, .cookie = "c0ffee" };
	struct agent_event ev = { .type = AEV_ADOPT, .held = &h, .latched = true, .ended = &ended };
	struct rec_peer src;
	struct msg m;
	struct buf b;

	memset(words, 'x', 900);
	MSG_SET(&rank, rank_state, code, 1);
	MSG_SET(&rank, rank_state, workers_found, 8);
	for (uint32_t i = 0; i < 8; i++) {
		v[i] = (struct rec_worker){ .rank = i, .pid = 4000000 + i, .state = "exited", .exception = words,
					    .end_us = 1700000000000000, .end_mono_us = 17000000000000 };
		MSG_SET(&v[i], worker, code, 1);
	}
	fill_prepare(&m, &src, 1000);
	m.u.prepare.job = job;
	m.u.prepare.nprocs = m.u.prepare.world = 1;
	buf_init(&b);
	assert_int_equal(msg_encode(&m, &b, NULL), 0);
	h.prepare = (struct bytes){ (uint8_t *)b.data, b.len };
	feed(w, &ev);
	buf_finish(&b);
}

/* Or the coordinator would never hear this node again. */
static void all_that_is_held_fits_a_registration(void **state)
{
	struct world *w = *state;
	const struct rec_held *last_one;
	const char *text = NULL;
	struct msg m;

	for (uint64_t i = 1; i <= 128; i++)
		adopt_ended_launcher(w, i);
	connect_coord(w);
	for (size_t i = 0; i < w->n; i++)
		if (w->seen[i].text != NULL && strstr(w->seen[i].text, "node_register") != NULL)
			text = w->seen[i].text;
	assert_non_null(text);
	assert_in_range(strlen(text), 100000, FRAME_MAX - 65536); /* some room for keys and addresses */
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_int_equal(m.u.node_register.n_held, 128);
	last_one = &m.u.node_register.held[127];
	assert_int_equal(last_one->ranks[0].n_workers, 8);
	assert_non_null(last_one->ranks[0].workers[0].exception);
	assert_null(last_one->ranks[0].workers[1].exception);
	assert_non_null(last_one->ranks[0].exception);
	msg_finish(&m);
}

static void an_adopted_running_shim_is_told_as_running(void **state)
{
	struct world *w = *state;
	struct msg m;

	adopt(w, true, true);
	up(w, SHIM, LINK_SHIM);
	shim_hello(w, "running");
	connect_coord(w);
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_string_equal(m.u.node_register.held[0].phase, "running");
	msg_finish(&m);
	assert_int_equal(count(w, SHIM, MSG_shim_end), 0);
}

static void an_adopted_shim_knows_what_it_was_started_with(void **state)
{
	struct world *w = *state;
	struct msg m;

	adopt(w, true, true);
	up(w, SHIM, LINK_SHIM);
	msg_init(&m, MSG_shim_hello);
	m.u.shim_hello.proto = NA_SHIM_PROTO;
	m.u.shim_hello.job = 1;
	m.u.shim_hello.attempt = 1;
	m.u.shim_hello.pid = 99;
	m.u.shim_hello.phase = "running";
	m.u.shim_hello.master_addr = "10.0.0.7";
	m.u.shim_hello.master_port = 20011;
	MSG_SET(&m.u.shim_hello, shim_hello, run_ms, 7654321);
	say(w, SHIM, &m);
	connect_coord(w);
	assert_true(last(w, COORD, MSG_node_register, &m));
	/* for how long it has run, too: no wall clock is asked */
	assert_in_range(m.u.node_register.held[0].run_ms, 7654321, 7714321);
	assert_string_equal(m.u.node_register.held[0].master_addr, "10.0.0.7");
	assert_int_equal(m.u.node_register.held[0].master_port, 20011);
	msg_finish(&m);
}

static void a_shim_that_speaks_late_is_told_of_again(void **state)
{
	struct world *w = *state;
	struct msg m;

	adopt(w, true, true);
	connect_coord(w);
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_string_equal(m.u.node_register.held[0].phase, "starting");
	assert_null(m.u.node_register.held[0].master_addr);
	msg_finish(&m);
	forget(w);
	up(w, SHIM, LINK_SHIM);
	shim_hello(w, "running");
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_string_equal(m.u.node_register.held[0].phase, "running");
	msg_finish(&m);
}

static void a_dead_shim_found_at_start_is_swept(void **state)
{
	struct world *w = *state;

	adopt(w, true, false);
	assert_true(asked(w, ACT_SWEEP));
}

/* Its record could not be read: nothing that is asked of it is answered with its death. */
static void what_is_not_known_is_never_told_as_gone(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_ADOPT, .job = 1, .attempt = 1 };
	struct rec_peer src;
	struct msg m;

	feed(w, &ev);
	connect_coord(w);
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_int_equal(m.u.node_register.n_held, 1);
	assert_string_equal(m.u.node_register.held[0].phase, "starting");
	assert_null(m.u.node_register.held[0].master_addr); /* the coordinator waits for a word of the shim */
	msg_finish(&m);
	assert_true(last(w, COORD, MSG_notice, &m));
	assert_non_null(strstr(m.u.notice.text, "whether its processes live is not known"));
	msg_finish(&m);
	forget(w);
	end(w);
	tick(w, 2000);
	assert_int_equal(count(w, COORD, MSG_ended), 0);
	do_forget(w);
	fill_prepare(&m, &src, 1000);
	m.u.prepare.attempt = 2;
	say(w, COORD, &m);
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_false(m.u.prepared.ok);
	assert_string_equal(m.u.prepared.text, "another attempt of the job is there");
	msg_finish(&m);
	ev = (struct agent_event){ .type = AEV_STOP };
	feed(w, &ev);
	assert_true(agent_idle(w->a)); /* nobody here can end it */
}

static void an_adopted_ready_job_leases_anew_before_it_is_prepared(void **state)
{
	struct world *w = *state;

	adopt(w, false, true);
	up(w, SHIM, LINK_SHIM);
	shim_hello(w, "ready");
	connect_coord(w);
	forget(w);
	prepare(w, 1000);
	assert_int_equal(count(w, COORD, MSG_prepared), 0);
	done(w, ACT_LEASE, 0);
	assert_int_equal(count(w, COORD, MSG_prepared), 1);
}

/* ---- clients ------------------------------------------------------------------------------ */

static void client_hello(struct world *w)
{
	struct msg m;

	up(w, CLIENT, LINK_CLIENT);
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = "t";
	m.u.hello.role = "client";
	say(w, CLIENT, &m);
	assert_int_equal(count(w, CLIENT, MSG_welcome), 1);
}

static void a_client_cannot_say_who_it_is(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 0);
	m.u.kill.user = "root";
	say(w, CLIENT, &m);
	assert_true(last(w, COORD, MSG_kill, &m));
	assert_int_equal(m.u.kill.uid, 1000);
	assert_string_equal(m.u.kill.user, "li");
	msg_finish(&m);
}

static void a_request_waits_for_the_coordinator_and_then_gives_up_with_a_sentence(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	down(w, COORD);
	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 7;
	say(w, CLIENT, &m);
	tick(w, 29000);
	assert_int_equal(count(w, CLIENT, MSG_refused), 0);
	tick(w, 2000);
	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, 7);
	assert_non_null(strstr(m.u.refused.text, "head:7070"));
	msg_finish(&m);
}

static void submit_restartable(struct world *w, uint32_t rid)
{
	static const uint8_t spec[32] = { 1 };
	struct agent_event ev = { .type = AEV_MESSAGE, .link = CLIENT, .spec_hash = spec, .spec_size = 10 };
	struct msg m;

	msg_init(&m, MSG_submit);
	m.u.submit.rid = rid;
	m.u.submit.client_id = rid == 3 ? "one" : "two";
	m.u.submit.command = "true";
	m.u.submit.spec_size = 10;
	m.u.submit.max_restarts = 3;
	ev.msg = &m;
	feed(w, &ev);
}

static void assert_unknown(struct world *w, uint32_t rid)
{
	struct msg m;

	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, rid);
	assert_string_equal(m.u.refused.code, "version");
	assert_string_equal(m.u.refused.text, "the coordinator at head:7070 (version t) does not know --max-restarts and "
			    "would ignore it: leave it out, or have the coordinator updated");
	msg_finish(&m);
}

/* A field that it does not know is dropped there, and the job would not be restarted. */
static void what_an_older_coordinator_would_ignore_is_refused(void **state)
{
	struct world *w = *state;

	client_hello(w);
	submit_restartable(w, 3);
	assert_int_equal(count(w, COORD, MSG_submit), 1);
	down(w, COORD); /* before it was answered; and an older one comes */
	w->old_coordinator = true;
	connect_coord(w);
	assert_int_equal(count(w, COORD, MSG_submit), 1);
	assert_unknown(w, 3);
	submit_restartable(w, 4);
	assert_int_equal(count(w, COORD, MSG_submit), 1);
	assert_unknown(w, 4);
	down(w, COORD); /* while nobody is there it waits */
	submit_restartable(w, 5);
	w->old_coordinator = false;
	connect_coord(w);
	assert_int_equal(count(w, COORD, MSG_submit), 2);
}

/* Or the coordinator keeps it for as long as the session lasts, and this node as one that may read. */
static void a_watch_that_is_given_up_is_taken_back(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	down(w, COORD);
	msg_init(&m, MSG_watch);
	m.u.watch.rid = 7;
	m.u.watch.job = 1;
	say(w, CLIENT, &m);
	tick(w, 9000);
	connect_coord(w); /* after 20 s */
	assert_int_equal(count(w, COORD, MSG_watch), 1);
	assert_int_equal(count(w, COORD, MSG_unwatch), 0);
	tick(w, 2000);
	assert_int_equal(count(w, CLIENT, MSG_refused), 1);
	assert_int_equal(count(w, COORD, MSG_unwatch), 1);
}

/* It may have read the order before it was stopped, and go on with it later. */
static void of_an_unanswered_submit_it_is_said_that_it_may_have_been_taken(void **state)
{
	static const uint8_t spec[32] = { 7 };
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_MESSAGE, .link = CLIENT, .spec_hash = spec, .spec_size = 10 };
	struct msg m;

	client_hello(w);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 3;
	m.u.submit.client_id = "id";
	m.u.submit.command = "true";
	m.u.submit.spec_size = 10;
	ev.msg = &m;
	feed(w, &ev);
	down(w, COORD);
	m.u.submit.rid = 4;
	m.u.submit.client_id = "never sent";
	tick(w, 1000);
	feed(w, &ev);
	tick(w, 29500);
	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, 3);
	assert_non_null(strstr(m.u.refused.text, "whether it took the job is not known: nodectl jobs"));
	msg_finish(&m);
	tick(w, 1000);
	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, 4);
	assert_null(strstr(m.u.refused.text, "not known"));
	msg_finish(&m);
}

static void a_request_is_sent_again_after_a_reconnect(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 7;
	say(w, CLIENT, &m);
	down(w, COORD);
	forget(w);
	connect_coord(w);
	assert_int_equal(count(w, COORD, MSG_status_get), 1);
	assert_true(last(w, COORD, MSG_status_get, &m));
	{
		struct msg s;

		msg_init(&s, MSG_status);
		s.u.status.rid = m.u.status_get.rid;
		s.u.status.cluster = "lab";
		msg_finish(&m);
		say(w, COORD, &s);
	}
	assert_true(last(w, CLIENT, MSG_status, &m));
	assert_int_equal(m.u.status.rid, 7);
	msg_finish(&m);
}

static void one_client_cannot_flood_the_coordinator(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	for (uint32_t i = 1; i <= 100; i++) {
		msg_init(&m, MSG_jobs_get);
		m.u.jobs_get.rid = i;
		say(w, CLIENT, &m);
	}
	assert_int_equal(count(w, COORD, MSG_jobs_get), 16);
	assert_int_equal(count(w, CLIENT, MSG_refused), 36);
}

/* ---- specifications --------------------------------------------------------------------- */

static const uint8_t spec_a[32] = { 0xa }, spec_b[32] = { 0xb };

/* What the coordinator still runs for this node: 'n' jobs numbered from 1, all with one hash. */
static void specs_used(struct world *w, size_t n, const uint8_t hash[32], bool more)
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

/* rid as the coordinator sees it. */
static uint32_t submit(struct world *w, const uint8_t hash[32])
{
	struct msg m;
	struct agent_event ev = { .type = AEV_MESSAGE, .link = CLIENT, .msg = &m, .spec_hash = hash,
				  .spec_size = 10 };
	uint32_t rid;

	msg_init(&m, MSG_submit);
	m.u.submit.rid = 3;
	m.u.submit.client_id = "id";
	m.u.submit.command = "true";
	m.u.submit.spec_size = 10;
	feed(w, &ev);
	if (!last(w, COORD, MSG_submit, &m))
		return 0;
	rid = m.u.submit.rid;
	msg_finish(&m);
	return rid;
}

static void submitted(struct world *w, uint32_t rid, uint64_t job, bool unused)
{
	struct msg m;

	msg_init(&m, MSG_submitted);
	m.u.submitted.rid = rid;
	m.u.submitted.job = job;
	m.u.submitted.spec_unused = unused;
	say(w, COORD, &m);
}

static void job_over(struct world *w, uint64_t job)
{
	struct msg m;

	msg_init(&m, MSG_forget);
	m.u.forget.job = job;
	m.u.forget.attempt = 1;
	m.u.forget.over = true;
	say(w, COORD, &m);
}

static void nothing_is_dropped_before_the_coordinator_has_named_its_jobs(void **state)
{
	struct world *w = *state;

	client_hello(w);
	assert_true(agent_spec_needed(w->a, spec_a));
	submitted(w, submit(w, spec_a), 1, false);
	job_over(w, 1);
	assert_false(asked(w, ACT_DROP_SPEC));
	specs_used(w, 1, spec_a, true);
	assert_true(agent_spec_needed(w->a, spec_b)); /* the rest may name it */
	assert_false(asked(w, ACT_TIDY_SPECS));
	specs_used(w, 0, NULL, false);
	assert_true(asked(w, ACT_TIDY_SPECS));
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_false(agent_spec_needed(w->a, spec_b));
}

static void the_last_job_that_uses_a_specification_takes_it_along(void **state)
{
	struct world *w = *state;

	client_hello(w);
	specs_used(w, 2, spec_a, false);
	submitted(w, submit(w, spec_a), 3, false);
	job_over(w, 1);
	job_over(w, 3);
	do_forget(w); /* of an attempt: means nothing here */
	assert_false(asked(w, ACT_DROP_SPEC));
	job_over(w, 2);
	assert_true(asked(w, ACT_DROP_SPEC));
	assert_false(agent_spec_needed(w->a, spec_a));
}

static void a_refused_or_superfluous_submit_keeps_nothing(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	specs_used(w, 0, NULL, false);
	msg_init(&m, MSG_refused);
	MSG_SET(&m.u.refused, refused, rid, submit(w, spec_a));
	m.u.refused.code = "bad-request";
	m.u.refused.text = "no";
	assert_true(agent_spec_needed(w->a, spec_a));
	say(w, COORD, &m);
	assert_false(agent_spec_needed(w->a, spec_a));
	submitted(w, submit(w, spec_b), 7, true);
	assert_false(agent_spec_needed(w->a, spec_b));
}

static void a_submit_whose_client_has_left_keeps_its_specification(void **state)
{
	struct world *w = *state;
	uint32_t rid;

	client_hello(w);
	specs_used(w, 0, NULL, false);
	rid = submit(w, spec_a);
	down(w, CLIENT);
	assert_true(agent_spec_needed(w->a, spec_a));
	submitted(w, rid, 5, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	job_over(w, 5);
	assert_false(agent_spec_needed(w->a, spec_a));
}

static void a_submit_that_was_never_sent_keeps_nothing(void **state)
{
	struct world *w = *state;

	client_hello(w);
	specs_used(w, 0, NULL, false);
	down(w, COORD);
	submit(w, spec_a);
	assert_true(agent_spec_needed(w->a, spec_a));
	down(w, CLIENT);
	assert_false(agent_spec_needed(w->a, spec_a));
	assert_true(asked(w, ACT_DROP_SPEC));
}

static void a_job_that_ended_while_we_were_away_is_not_in_the_next_list(void **state)
{
	struct world *w = *state;

	client_hello(w);
	specs_used(w, 1, spec_a, false);
	down(w, COORD);
	connect_coord(w);
	assert_true(agent_spec_needed(w->a, spec_a));
	submit(w, spec_b); /* the list that is on its way cannot know of it */
	specs_used(w, 0, NULL, false);
	assert_false(agent_spec_needed(w->a, spec_a));
	assert_true(agent_spec_needed(w->a, spec_b));
}

static void of_two_registrations_only_the_answer_to_the_second_counts(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_ADDRS };
	uint32_t rid;

	client_hello(w);
	rid = submit(w, spec_a);
	assert_int_not_equal(rid, 0);
	down(w, CLIENT);
	feed(w, &ev); /* registers anew; the answer to the first is on its way */
	specs_used(w, 0, NULL, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_false(asked(w, ACT_TIDY_SPECS));
	specs_used(w, 1, spec_a, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_true(asked(w, ACT_TIDY_SPECS));
}

/* ---- copies of specifications ---------------------------------------------------------- */

static const uint8_t copy_key[32] = { 0xcc };

/* Of a job that may be started again. */
static void prepare_to_keep(struct world *w)
{
	struct rec_peer src, copy = { .node = "gpu07", .key = { copy_key, 32 }, .port = 7001 };
	struct msg m;

	fill_prepare(&m, &src, 1000);
	m.u.prepare.spec_hash = (struct bytes){ spec_a, 32 };
	m.u.prepare.copies = &copy;
	m.u.prepare.n_copies = 1;
	MSG_SET(&m.u.prepare, prepare, keep, true);
	say(w, COORD, &m);
}

static void copied(struct world *w, enum action_type t, uint32_t result)
{
	struct agent_event ev = { .type = AEV_DONE, .ticket = ticket_of(w, t), .result = result,
				  .text = result == 0 ? "no room" : NULL };

	assert_int_not_equal(ev.ticket, 0);
	feed(w, &ev);
}

static void keep_spec(struct world *w)
{
	struct rec_peer copy = { .node = "gpu07", .key = { copy_key, 32 }, .port = 7001 };
	struct msg m;

	msg_init(&m, MSG_spec_keep);
	m.u.spec_keep.job = 1;
	m.u.spec_keep.hash = (struct bytes){ spec_a, 32 };
	m.u.spec_keep.size = 10;
	m.u.spec_keep.uid = 1000;
	m.u.spec_keep.copies = &copy;
	m.u.spec_keep.n_copies = 1;
	say(w, COORD, &m);
}

/* The hashes that the last registration has told, in bytes. */
static size_t told_held(struct world *w)
{
	struct agent_event ev = { .type = AEV_ADDRS };
	struct msg m;
	size_t n;

	feed(w, &ev); /* registers anew */
	assert_true(last(w, COORD, MSG_node_register, &m));
	assert_true(m.u.node_register.keeps_specs);
	n = m.u.node_register.specs.n;
	msg_finish(&m);
	return n;
}

static void a_copy_is_kept_until_its_job_is_over(void **state)
{
	struct world *w = *state;

	specs_used(w, 0, NULL, false);
	prepare_to_keep(w);
	assert_true(agent_spec_needed(w->a, spec_a)); /* from now on: it is being written */
	copied(w, ACT_FETCH, 1);
	assert_int_equal(count(w, COORD, MSG_spec_kept), 1);
	do_forget(w); /* the attempt */
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_int_equal(told_held(w), 32);
	specs_used(w, 1, spec_a, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_false(asked(w, ACT_DROP_SPEC));
	job_over(w, 1);
	assert_true(asked(w, ACT_DROP_SPEC));
	assert_false(agent_spec_needed(w->a, spec_a));
	assert_int_equal(told_held(w), 0);
}

static void a_copy_that_comes_while_a_list_is_on_its_way_is_told_once_more(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_ADDRS };

	specs_used(w, 0, NULL, false);
	prepare_to_keep(w);
	feed(w, &ev); /* registers: it is not here yet */
	copied(w, ACT_FETCH, 1);
	specs_used(w, 0, NULL, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_int_equal(count(w, COORD, MSG_spec_kept), 2);
	assert_int_equal(told_held(w), 32);
	specs_used(w, 0, NULL, false); /* the job was over meanwhile */
	assert_false(agent_spec_needed(w->a, spec_a));
}

/* A full disk is no reason not to run. */
static void a_copy_that_cannot_be_kept_does_not_stop_the_job(void **state)
{
	struct world *w = *state;

	specs_used(w, 0, NULL, false);
	prepare_to_keep(w);
	copied(w, ACT_FETCH, 0);
	done(w, ACT_LEASE, 0);
	assert_true(asked(w, ACT_SPAWN));
	assert_int_equal(count(w, COORD, MSG_spec_kept), 0);
	assert_false(agent_spec_needed(w->a, spec_a));
	assert_int_equal(told_held(w), 0);
}

static void who_holds_a_copy_may_nothing_by_that(void **state)
{
	struct world *w = *state;

	prepare_to_keep(w);
	assert_false(agent_peer_may(w->a, copy_key, 1));
	assert_false(agent_peer_allowed(w->a, copy_key));
}

static void a_spare_fetches_once_and_tells_each_time(void **state)
{
	struct world *w = *state;

	specs_used(w, 0, NULL, false);
	keep_spec(w);
	keep_spec(w);
	assert_int_equal(ticket_of(w, ACT_KEEP_SPEC), 1);
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_int_equal(count(w, COORD, MSG_spec_kept), 0);
	copied(w, ACT_KEEP_SPEC, 1);
	assert_int_equal(count(w, COORD, MSG_spec_kept), 1);
	keep_spec(w);
	assert_int_equal(count(w, COORD, MSG_spec_kept), 2);
	job_over(w, 1);
	assert_false(agent_spec_needed(w->a, spec_a));
}

static void what_lies_on_disk_is_told_at_the_registration(void **state)
{
	struct world *w = *state;

	agent_spec_found(w->a, spec_a);
	agent_spec_found(w->a, spec_b);
	agent_spec_found(w->a, spec_a);
	assert_int_equal(told_held(w), 64);
	specs_used(w, 0, NULL, false); /* to the registration before */
	assert_true(agent_spec_needed(w->a, spec_b));
	specs_used(w, 1, spec_a, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_false(agent_spec_needed(w->a, spec_b));
}

static void stopping_ends_the_jobs_and_then_is_idle(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_STOP };

	to_running(w);
	feed(w, &ev);
	assert_false(agent_idle(w->a));
	assert_int_equal(count(w, SHIM, MSG_shim_end), 1);
	shim_ranks(w, MSG_shim_ended, "killed", 0);
	assert_int_equal(count(w, SHIM, MSG_shim_bye), 1);
	do_forget(w);
	assert_true(agent_idle(w->a));
}

/* Words come ten seconds apart: five of silence are nothing. */
static void a_coordinator_that_wants_fewer_heartbeats_is_given_longer(void **state)
{
	struct world *w = *state;
	struct msg m;

	tick(w, 20000);
	up(w, COORD, LINK_COORD);
	msg_init(&m, MSG_welcome);
	m.u.welcome.proto = NA_PROTO;
	m.u.welcome.software = "t";
	m.u.welcome.lineage = 42;
	MSG_SET(&m.u.welcome, welcome, heartbeat_ms, 10000);
	say(w, COORD, &m);
	msg_init(&m, MSG_node_registered);
	m.u.node_registered.node = "gpu01";
	say(w, COORD, &m);
	forget(w);
	tick(w, 29000);
	assert_true(agent_registered(w->a));
	assert_int_equal(count(w, COORD, MSG_ping), 2);
	tick(w, 2000);
	assert_false(agent_registered(w->a));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define COLD(f) cmocka_unit_test_setup_teardown(f, setup_cold, teardown)

/* ---- leases ------------------------------------------------------------------------------ */

#define LEASE_MS 20000

static void prepare_leased(struct world *w, uint32_t attempt)
{
	struct rec_peer src;
	struct msg m;

	fill_prepare(&m, &src, 1000);
	m.u.prepare.attempt = attempt;
	MSG_SET(&m.u.prepare, prepare, lease_ms, LEASE_MS);
	MSG_SET(&m.u.prepare, prepare, max_restarts, 3);
	say(w, COORD, &m);
}

/* Its shim speaks this version. */
static void to_leased(struct world *w, uint32_t proto)
{
	struct msg m;

	prepare_leased(w, 1);
	done(w, ACT_FETCH, 0);
	done(w, ACT_LEASE, 0);
	up(w, SHIM, LINK_SHIM);
	done(w, ACT_SPAWN, 0);
	msg_init(&m, MSG_shim_hello);
	m.u.shim_hello.proto = proto;
	m.u.shim_hello.job = m.u.shim_hello.attempt = 1;
	m.u.shim_hello.pid = 99;
	m.u.shim_hello.phase = "setup";
	say(w, SHIM, &m);
	shim_ready(w, true);
	start(w);
	done(w, ACT_LATCH, 0);
	shim_ranks(w, MSG_ranks, "running", 0);
}

static void answer_ping(struct world *w, uint64_t seq)
{
	struct msg m;

	msg_init(&m, MSG_pong);
	m.u.pong.seq = seq;
	say(w, COORD, &m);
}

static uint64_t last_ping(struct world *w)
{
	uint64_t seq;
	struct msg m;

	assert_true(last(w, COORD, MSG_ping, &m));
	seq = m.u.ping.seq;
	msg_finish(&m);
	return seq;
}

static void a_lease_counts_from_when_the_answered_word_was_sent(void **state)
{
	struct world *w = *state;
	int64_t sent;
	struct msg m;

	to_leased(w, NA_SHIM_PROTO);
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_true(m.u.prepared.leased);
	msg_finish(&m);
	assert_true(last(w, SHIM, MSG_shim_go, &m));
	assert_true(m.u.shim_go.lease_boot_ms == boot_ms(w) + LEASE_MS); /* it has just registered */
	msg_finish(&m);
	for (int i = 0; i < 4; i++) {
		tick(w, 1001);
		answer_ping(w, last_ping(w));
	}
	forget(w);
	do { /* not each answer is worth a message */
		tick(w, 1001);
		sent = boot_ms(w);
		w->now = mono_add_ms(w->now, 700); /* the answer is on its way */
		answer_ping(w, last_ping(w));
	} while (count(w, SHIM, MSG_shim_lease) == 0);
	assert_true(last(w, SHIM, MSG_shim_lease, &m));
	assert_true(m.u.shim_lease.until_boot_ms <= sent + LEASE_MS);
	assert_true(m.u.shim_lease.until_boot_ms >= sent - 1002 + LEASE_MS);
	msg_finish(&m);
}

static void when_the_lease_passes_the_ranks_are_ended(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_leased(w, NA_SHIM_PROTO);
	down(w, COORD);
	tick(w, LEASE_MS - 1);
	assert_int_equal(count(w, SHIM, MSG_shim_end), 0);
	tick(w, 1);
	assert_int_equal(count(w, SHIM, MSG_shim_end), 1);
	shim_ranks(w, MSG_shim_ended, "killed", 0);
	forget(w);
	connect_as(w, COORD + 100);
	assert_true(last(w, COORD + 100, MSG_node_register, &m));
	assert_true(m.u.node_register.held[0].lapsed);
	msg_finish(&m);
}

static void a_stopped_agent_finds_the_lease_passed_before_it_reads_on(void **state)
{
	struct world *w = *state;

	to_leased(w, NA_SHIM_PROTO);
	tick(w, 1000);
	forget(w);
	tick(w, 1000);
	w->now = mono_add_ms(w->now, 2 * LEASE_MS);
	answer_ping(w, last_ping(w)); /* it lay in its socket */
	assert_int_equal(count(w, SHIM, MSG_shim_end), 1);
	assert_int_equal(count(w, SHIM, MSG_shim_lease), 0);
}

static void an_older_shim_is_told_nothing_of_leases_and_the_agent_keeps_them(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_leased(w, 1);
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_false(m.u.prepared.leased);
	msg_finish(&m);
	assert_true(last(w, SHIM, MSG_shim_go, &m));
	assert_false(MSG_HAS(&m.u.shim_go, shim_go, lease_boot_ms));
	msg_finish(&m);
	tick(w, 1000);
	answer_ping(w, last_ping(w));
	assert_int_equal(count(w, SHIM, MSG_shim_lease), 0);
	down(w, COORD);
	tick(w, LEASE_MS + 1000);
	assert_int_equal(count(w, SHIM, MSG_shim_end), 1);
}

static void a_job_that_is_not_started_again_runs_without_the_coordinator(void **state)
{
	struct world *w = *state;

	to_running(w);
	down(w, COORD);
	tick(w, 100 * LEASE_MS);
	assert_int_equal(count(w, SHIM, MSG_shim_end), 0);
}

static void no_attempt_is_prepared_beside_a_living_one(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_leased(w, NA_SHIM_PROTO);
	prepare_leased(w, 2);
	assert_true(last(w, COORD, MSG_prepared, &m));
	assert_int_equal(m.u.prepared.attempt, 2);
	assert_false(m.u.prepared.ok);
	assert_true(m.u.prepared.retry);
	msg_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_lease_counts_from_when_the_answered_word_was_sent),
		T(when_the_lease_passes_the_ranks_are_ended),
		T(a_stopped_agent_finds_the_lease_passed_before_it_reads_on),
		T(an_older_shim_is_told_nothing_of_leases_and_the_agent_keeps_them),
		T(a_job_that_is_not_started_again_runs_without_the_coordinator),
		T(no_attempt_is_prepared_beside_a_living_one),
		COLD(it_dials_again_with_growing_pauses),
		T(a_silent_coordinator_is_dialled_anew_and_no_job_is_touched),
		T(what_happened_meanwhile_is_told_at_registration),
		T(ready_is_said_only_when_the_shim_has_checked),
		T(prepare_twice_makes_one_shim),
		T(the_latch_comes_before_go_and_start_twice_goes_once),
		T(an_order_is_renewed_only_while_its_session_lasts),
		T(who_finds_the_latch_taken_starts_nothing),
		T(an_order_that_outlived_its_session_is_told_to_the_new_one),
		T(a_latch_that_cannot_be_taken_starts_nothing),
		T(another_users_job_is_refused_with_a_sentence),
		T(a_failed_fetch_is_told_and_end_is_answered),
		T(end_reaches_the_shim_and_ended_the_coordinator),
		T(end_while_the_shim_is_being_started_still_ends_it),
		T(ranks_see_their_GPUs_by_the_indices_of_now),
		T(ranks_see_them_by_name_beside_one_that_fell_off_the_bus),
		T(GPUs_without_a_name_go_by_index),
		T(what_the_log_says_is_told_once_with_the_rank_and_the_time),
		T(what_the_log_says_of_a_launchers_worker_is_its_jobs),
		T(what_differs_between_readings_is_told),
		T(without_readings_the_coordinators_names_count),
		T(without_readings_and_names_its_indices_do),
		T(indices_that_shift_before_the_start_are_told_with_it),
		T(GPUs_that_nobody_had_seen_are_hidden_from_a_job_that_was_given_none),
		T(what_a_probe_that_has_ended_cannot_say_is_hidden_as_well),
		T(a_job_whose_GPU_is_gone_is_refused),
		T(a_GPU_that_has_lost_its_name_is_held_by_index),
		T(where_no_GPU_was_ever_seen_the_variable_is_left_alone),
		T(a_driver_that_is_away_for_a_moment_shows_nothing),
		T(who_holds_none_sees_none),
		T(a_GPU_is_held_by_name_not_by_index),
		T(a_killed_shim_means_sweep_and_lost_ranks),
		T(a_failed_sweep_is_repeated_before_ended_is_said),
		T(one_that_cannot_be_ended_is_named_after_30_s_and_the_job_ends),
		T(while_nobody_can_look_the_job_does_not_end),
		T(whom_a_sweep_has_left_alive_is_told),
		T(a_rank_that_cannot_be_killed_ends_the_job_and_is_told_until_it_is_gone),
		T(what_outlives_a_sweep_is_told_before_the_job_ends_there),
		T(docker_in_a_job_is_told_once_and_looked_for_less_and_less),
		T(those_whom_the_coordinator_has_stored_are_looked_for),
		T(the_shim_of_a_job_that_was_given_up_is_let_go_when_it_ends),
		T(output_that_was_lost_is_told_once_with_the_place),
		T(a_revoked_source_may_nothing_more),
		T(a_withdrawn_peer_is_out_after_a_while_and_what_it_reads_is_cut),
		T(who_is_not_named_after_a_registration_is_out_and_who_is_notices_nothing),
		T(without_a_coordinator_nobody_is_put_out),
		T(the_end_of_a_job_does_not_put_its_readers_out),
		T(a_registration_names_the_keys_that_may_come_in),
		T(a_revoked_key_is_out_at_once_and_in_again_when_it_is_named_again),
		T(the_table_of_peers_has_an_end_and_fading_ones_go_first),
		T(a_job_is_forgotten_only_when_nothing_lives),
		COLD(all_that_is_held_fits_a_registration),
		COLD(an_adopted_running_shim_is_told_as_running),
		COLD(an_adopted_shim_knows_what_it_was_started_with),
		COLD(a_shim_that_speaks_late_is_told_of_again),
		COLD(a_dead_shim_found_at_start_is_swept),
		COLD(an_adopted_ready_job_leases_anew_before_it_is_prepared),
		COLD(what_is_not_known_is_never_told_as_gone),
		T(a_client_cannot_say_who_it_is),
		T(a_request_waits_for_the_coordinator_and_then_gives_up_with_a_sentence),
		T(what_an_older_coordinator_would_ignore_is_refused),
		T(a_watch_that_is_given_up_is_taken_back),
		T(of_an_unanswered_submit_it_is_said_that_it_may_have_been_taken),
		T(a_request_is_sent_again_after_a_reconnect),
		T(one_client_cannot_flood_the_coordinator),
		T(nothing_is_dropped_before_the_coordinator_has_named_its_jobs),
		T(the_last_job_that_uses_a_specification_takes_it_along),
		T(a_refused_or_superfluous_submit_keeps_nothing),
		T(a_submit_whose_client_has_left_keeps_its_specification),
		T(a_submit_that_was_never_sent_keeps_nothing),
		T(a_job_that_ended_while_we_were_away_is_not_in_the_next_list),
		T(of_two_registrations_only_the_answer_to_the_second_counts),
		T(a_copy_is_kept_until_its_job_is_over),
		T(a_copy_that_comes_while_a_list_is_on_its_way_is_told_once_more),
		T(a_copy_that_cannot_be_kept_does_not_stop_the_job),
		T(who_holds_a_copy_may_nothing_by_that),
		T(a_spare_fetches_once_and_tells_each_time),
		T(what_lies_on_disk_is_told_at_the_registration),
		T(stopping_ends_the_jobs_and_then_is_idle),
		T(a_coordinator_that_wants_fewer_heartbeats_is_given_longer),
	};

	return cmocka_run_group_tests_name("agent", tests, NULL, NULL);
}
