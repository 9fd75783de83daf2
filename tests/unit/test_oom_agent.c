/* test_oom_agent.c - every allocation of an agent's core fails once, in the middle of everything
 *
 * A coordinator, a shim, a client and the io around the core play their parts in
 * one job: prepared, proved, latched, started, ended, forgotten. In run k the
 * k-th allocation of the core fails. A step that lacks memory ends the process:
 * nothing that it wanted is done, links and what was on the way are gone, the
 * next one adopts what is in the run directory. The shim lives on. In the end:
 * the shim was told to go once, the coordinator knows the true code, the client
 * was answered, and nothing is held any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/agent.h"
#include "tests/unit/failmalloc.h"

#define QUEUE 256
#define ROUNDS 3000
#define CODE 7

enum { NO_SHIM, SHIM_IS_SETUP, SHIM_IS_READY, SHIM_IS_RUNNING, SHIM_IS_ENDED };

struct in {
	struct agent_event ev; /* pointers in it are to what follows, or static */
	char *json;
};

struct world {
	struct agent *a;
	struct actions acts;
	mono_t now;
	uint64_t next_link, coord, shim_link, client;
	size_t n_in;
	struct in in[QUEUE];
	/* the run directory */
	char *prepare; /* the held record's */
	char cookie[65];
	bool held, latched;
	/* the shim */
	int shim;
	unsigned goes;
	/* what the coordinator knows */
	bool submitted, ended, forgotten;
	uint32_t code;
	/* the client */
	bool told, refused;
	unsigned deaths, random;
};

static const uint8_t hash[32] = { 1 };

/* ---- what is on the way -------------------------------------------------------- */

static void push(struct world *w, const struct agent_event *ev, const struct msg *m)
{
	struct in *in = &w->in[w->n_in++];
	struct buf b;

	assert_true(w->n_in < QUEUE);
	*in = (struct in){ .ev = *ev };
	if (m == NULL)
		return;
	buf_init(&b);
	assert_int_equal(msg_encode(m, &b, NULL), 0);
	in->json = buf_steal(&b, NULL);
}

static void say(struct world *w, uint64_t link, const struct msg *m)
{
	struct agent_event ev = { .type = AEV_MESSAGE, .link = link, .spec_hash = link == w->client ? hash : NULL, .spec_size = 10 };

	if (link != 0)
		push(w, &ev, m);
}

static void drop_all(struct world *w)
{
	for (size_t i = 0; i < w->n_in; i++)
		free(w->in[i].json);
	w->n_in = 0;
}

/* ---- the shim -------------------------------------------------------------------- */

static void fill_ranks(const struct world *w, struct rec_rank_state r[2])
{
	memset(r, 0, 2 * sizeof(*r));
	for (int i = 0; i < 2; i++) {
		r[i].rank = (uint32_t)i;
		r[i].state = w->shim == SHIM_IS_ENDED ? "exited" : w->shim == SHIM_IS_RUNNING ? "running" : "waiting";
		if (w->shim >= SHIM_IS_RUNNING)
			r[i].pid = 11;
		if (w->shim == SHIM_IS_ENDED) {
			MSG_SET(&r[i], rank_state, code, CODE);
			r[i].tail = (struct bytes){ (const uint8_t *)"Error\n", 6 };
		}
	}
}

static void shim_says(struct world *w, enum msg_type t)
{
	static const char *const phases[] = { "", "setup", "ready", "running", "ended" };
	struct rec_rank_state r[2];
	struct msg m;

	fill_ranks(w, r);
	msg_init(&m, t);
	if (t == MSG_shim_hello)
		m.u.shim_hello = (struct rec_shim_hello){ .proto = NA_SHIM_PROTO, .job = 1, .attempt = 1, .pid = 99, .phase = phases[w->shim],
							  .ranks = r, .n_ranks = w->shim >= SHIM_IS_RUNNING ? 2 : 0 };
	else if (t == MSG_shim_ready)
		m.u.shim_ready.ok = true;
	else if (t == MSG_ranks)
		m.u.ranks = (struct rec_ranks){ .job = 1, .attempt = 1, .ranks = r, .n_ranks = 2 };
	else
		m.u.shim_ended = (struct rec_shim_ended){ .ranks = r, .n_ranks = 2 };
	if (t == MSG_shim_hello && w->shim >= SHIM_IS_RUNNING)
		m.u.shim_hello.master_addr = "10.0.0.1", m.u.shim_hello.master_port = 20000;
	say(w, w->shim_link, &m);
}

static void shim_up(struct world *w)
{
	struct agent_event ev = { .type = AEV_LINK_UP, .link = ++w->next_link, .kind = LINK_SHIM, .job = 1, .attempt = 1 };

	w->shim_link = ev.link;
	push(w, &ev, NULL);
	shim_says(w, MSG_shim_hello);
	if (w->shim == SHIM_IS_ENDED)
		shim_says(w, MSG_shim_ended);
}

static void to_shim(struct world *w, const struct msg *m)
{
	switch (m->type) {
	case MSG_shim_setup:
		if (w->shim == SHIM_IS_SETUP)
			w->shim = SHIM_IS_READY;
		shim_says(w, MSG_shim_ready);
		break;
	case MSG_shim_go:
		w->goes++;
		assert_true(w->latched);
		if (w->shim == SHIM_IS_READY)
			w->shim = SHIM_IS_RUNNING;
		shim_says(w, MSG_ranks);
		break;
	case MSG_shim_bye:
		w->shim = NO_SHIM;
		w->shim_link = 0;
		break;
	default:
		break;
	}
}

/* ---- the coordinator ------------------------------------------------------------------ */

static void say_prepare(struct world *w)
{
	struct rec_addr addr = { .ip = "10.0.0.2", .ifname = "eth0" };
	struct rec_peer src = { .node = "gpu01", .key = { hash, 32 }, .addrs = &addr, .n_addrs = 1, .port = 1 };
	struct msg m;

	msg_init(&m, MSG_prepare);
	m.u.prepare = (struct rec_prepare){ .job = 1, .attempt = 1, .boot_id = "boot-1", .uid = 1000, .user = "li", .spec_hash = { hash, 32 },
					    .spec_size = 10, .source = &src, .n_source = 1, .nnodes = 2, .nprocs = 2, .world = 4,
					    .grace_ms = 5000, .name = "pretrain", .copies = &src, .n_copies = 1 };
	MSG_SET(&m.u.prepare, prepare, keep, true);
	say(w, w->coord, &m);
}

/* It is the spare of another job. */
static void say_keep(struct world *w)
{
	static const uint8_t other[32] = { 2 };
	struct rec_addr addr = { .ip = "10.0.0.2", .ifname = "eth0" };
	struct rec_peer copy = { .node = "gpu02", .key = { hash, 32 }, .addrs = &addr, .n_addrs = 1, .port = 2 };
	struct msg m;

	msg_init(&m, MSG_spec_keep);
	m.u.spec_keep = (struct rec_spec_keep){ .job = 2, .hash = { other, 32 }, .size = 10, .uid = 1000,
						.copies = &copy, .n_copies = 1 };
	say(w, w->coord, &m);
}

static void say_prove(struct world *w)
{
	struct rec_addr addr = { .ip = "10.0.0.2" };
	struct rec_proof target = { .kind = "ephemeral", .node = "gpu02", .addrs = &addr, .n_addrs = 1, .port = 40000 };
	struct msg m;

	msg_init(&m, MSG_prove);
	m.u.prove = (struct rec_prove){ .job = 1, .attempt = 1, .targets = &target, .n_targets = 1 };
	say(w, w->coord, &m);
}

static void say_start(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_start);
	m.u.start = (struct rec_start){ .job = 1, .attempt = 1, .boot_id = "boot-1", .master_addr = "10.0.0.1", .master_port = 20000, .ifname = "eth0" };
	say(w, w->coord, &m);
}

static void say_forget(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_forget);
	m.u.forget = (struct rec_forget){ .job = 1, .attempt = 1 };
	MSG_SET(&m.u.forget, forget, over, true);
	say(w, w->coord, &m);
	w->forgotten = true;
}

static void note_end(struct world *w, const struct rec_rank_state *r, size_t n)
{
	if (w->ended)
		return;
	assert_int_equal(n, 2);
	assert_string_equal(r[0].state, "exited");
	assert_int_equal(r[0].code, CODE);
	w->ended = true;
	w->code = r[0].code;
}

static void answer_registration(struct world *w, const struct rec_node_register *r)
{
	const char *phase = r->n_held > 0 ? r->held[0].phase : "none";
	struct rec_peer peer = { .node = "gpu02", .key = { hash, 32 }, .port = 2 };
	struct msg m;

	msg_init(&m, MSG_node_registered);
	m.u.node_registered.node = "gpu01";
	say(w, w->coord, &m);
	msg_init(&m, MSG_allow);
	m.u.allow = (struct rec_allow){ .job = 1, .peers = &peer, .n_peers = 1 };
	say(w, w->coord, &m);
	if (strcmp(phase, "none") == 0)
		assert_false(w->latched); /* it would be held */
	if (w->submitted && !w->ended && (strcmp(phase, "none") == 0 || strcmp(phase, "preparing") == 0 || strcmp(phase, "ready") == 0))
		say_prepare(w);
	if (strcmp(phase, "ended") == 0)
		note_end(w, r->held[0].ranks, r->held[0].n_ranks);
	if (w->ended && r->n_held > 0)
		say_forget(w);
}

static void say_submitted(struct world *w, uint32_t rid)
{
	struct msg m;

	msg_init(&m, MSG_submitted);
	m.u.submitted.rid = rid;
	m.u.submitted.job = 1;
	say(w, w->coord, &m);
	if (!w->submitted)
		say_prepare(w);
	w->submitted = true;
}

static void say_jobs(struct world *w, uint32_t rid)
{
	struct msg m;

	msg_init(&m, MSG_jobs);
	m.u.jobs.rid = rid;
	say(w, w->coord, &m);
}

static void to_coordinator(struct world *w, const struct msg *m)
{
	struct msg a;

	switch (m->type) {
	case MSG_hello:
		msg_init(&a, MSG_welcome);
		a.u.welcome = (struct rec_welcome){ .proto = NA_PROTO, .software = "t", .lineage = 42, .node = "coordinator" };
		say(w, w->coord, &a);
		break;
	case MSG_node_register:
		answer_registration(w, &m->u.node_register);
		break;
	case MSG_submit:
		say_submitted(w, m->u.submit.rid);
		break;
	case MSG_jobs_get:
		say_jobs(w, m->u.jobs_get.rid);
		break;
	case MSG_ping:
		msg_init(&a, MSG_pong);
		a.u.pong.seq = m->u.ping.seq;
		say(w, w->coord, &a);
		break;
	case MSG_prepared:
		if (m->u.prepared.ok)
			say_prove(w);
		else
			say_prepare(w); /* out of memory for this one request */
		break;
	case MSG_proved:
		say_keep(w);
		say_start(w);
		break;
	case MSG_ended:
		note_end(w, m->u.ended.ranks, m->u.ended.n_ranks);
		say_forget(w);
		break;
	default:
		break;
	}
}

/* ---- the client ---------------------------------------------------------------------------- */

static void client_asks(struct world *w)
{
	struct msg m;

	if (!w->told) {
		msg_init(&m, MSG_submit);
		m.u.submit = (struct rec_submit){ .rid = 1, .client_id = "one", .command = "true", .spec_size = 10 };
		say(w, w->client, &m);
	}
	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.rid = 2;
	say(w, w->client, &m);
}

static void client_up(struct world *w)
{
	struct agent_event ev = { .type = AEV_LINK_UP, .link = ++w->next_link, .kind = LINK_CLIENT, .uid = 1000, .user = "li" };
	struct msg m;

	w->client = ev.link;
	push(w, &ev, NULL);
	msg_init(&m, MSG_hello);
	m.u.hello = (struct rec_hello){ .proto = NA_PROTO, .software = "t", .role = "client" };
	say(w, w->client, &m);
	client_asks(w);
}

static void to_client(struct world *w, const struct msg *m)
{
	if (m->type == MSG_submitted) {
		assert_int_equal(m->u.submitted.job, 1);
		w->told = true;
	}
	w->refused = w->refused || m->type == MSG_refused; /* asked again when there is nothing else to do */
}

/* ---- the io around the core ------------------------------------------------------------------- */

static void done(struct world *w, const struct action *a, int error)
{
	static const char *const ras[] = { "127.0.0.1:1", "127.0.0.1:2" };
	static const char *const reached[] = { "10.0.0.2" };
	static const struct rec_proof_result result = { .kind = "ephemeral", .node = "gpu02", .reached = (const char **)reached, .n_reached = 1 };
	struct agent_event ev = { .type = AEV_DONE, .ticket = a->ticket, .error = error, .text = error != 0 ? "it was taken" : NULL,
				  .master_port = 20000, .proof_port = 40000, .ras = ras, .n_ras = 2, .ifname = "eth0",
				  .results = &result, .n_results = a->type == ACT_PROVE,
				  .result = a->type == ACT_FETCH || a->type == ACT_KEEP_SPEC };

	push(w, &ev, NULL);
}

static void spawn(struct world *w, const struct action *a)
{
	assert_false(w->held);
	w->held = true;
	free(w->prepare);
	w->prepare = strdup(a->prepare_json);
	snprintf(w->cookie, sizeof(w->cookie), "%s", a->cookie);
	w->shim = SHIM_IS_SETUP;
	done(w, a, 0);
	shim_up(w);
}

static void dial(struct world *w)
{
	struct agent_event ev = { .type = AEV_LINK_UP, .link = ++w->next_link, .kind = LINK_COORD };

	w->coord = ev.link;
	push(w, &ev, NULL);
}

static void deliver(struct world *w, const struct action *a)
{
	struct msg m;

	assert_int_equal(msg_decode(a->text, a->len, &m, NULL), 0);
	if (a->link == w->coord)
		to_coordinator(w, &m);
	else if (a->link == w->shim_link)
		to_shim(w, &m);
	else if (a->link == w->client)
		to_client(w, &m);
	msg_finish(&m);
}

static void perform_one(struct world *w, const struct action *a)
{
	switch (a->type) {
	case ACT_SEND:
		deliver(w, a);
		break;
	case ACT_DIAL:
		dial(w);
		break;
	case ACT_SPAWN:
		spawn(w, a);
		break;
	case ACT_LATCH:
		done(w, a, w->latched ? -EEXIST : 0);
		w->latched = true;
		break;
	case ACT_FETCH:
	case ACT_KEEP_SPEC:
	case ACT_LEASE:
	case ACT_PROVE:
	case ACT_SWEEP:
		done(w, a, 0);
		break;
	case ACT_CLEAN:
		w->held = w->latched = false;
		break;
	default:
		break;
	}
}

static void perform(struct world *w)
{
	for (size_t i = 0; i < w->acts.n; i++)
		perform_one(w, &w->acts.v[i]);
	actions_reset(&w->acts);
}

static void begin(struct world *w);

static void die(struct world *w)
{
	w->deaths++;
	actions_reset(&w->acts);
	agent_destroy(w->a);
	w->a = NULL;
	drop_all(w);
	w->coord = w->shim_link = w->client = 0;
}

/* False: the process has ended. */
static bool step(struct world *w, struct agent_event *ev)
{
	int r;

	ev->now = w->now;
	ev->wall_us = 1700000000000000 + w->now.ns / 1000;
	ev->wall_ms = ev->wall_us / 1000;
	memset(ev->random, (int)++w->random, sizeof(ev->random));
	fail_malloc_hold(false);
	r = agent_step(w->a, ev, &w->acts);
	fail_malloc_hold(true);
	assert_true(r == 0 || r == -ENOMEM);
	if (r != 0 || w->acts.failed) {
		die(w);
		return false;
	}
	agent_check(w->a);
	assert_int_equal(w->acts.invalid, 0);
	perform(w);
	return true;
}

static bool adopt(struct world *w)
{
	struct rec_row_held h = { .job = 1, .attempt = 1, .boot_id = "boot-1", .lineage = 42, .cookie = w->cookie,
				  .prepare = { (const uint8_t *)w->prepare, strlen(w->prepare) } };
	struct agent_event ev = { .type = AEV_ADOPT, .job = 1, .attempt = 1, .held = &h, .latched = w->latched,
				  .alive = w->shim != NO_SHIM };

	if (!step(w, &ev))
		return false;
	if (w->shim != NO_SHIM)
		shim_up(w);
	return true;
}

static bool try_begin(struct world *w)
{
	struct agent_conf conf = { .node = "gpu01", .boot_id = "boot-1", .coordinator = "head:7070", .incarnation = ++w->random,
				   .peer_port = 7, .single_user = true, .own_uid = 1000 };
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct agent_event ev = { .type = AEV_ADDRS, .addrs = &addr, .n_addrs = 1 };

	fail_malloc_hold(false);
	w->a = agent_create(&conf, w->now);
	fail_malloc_hold(true);
	if (w->a == NULL) {
		w->deaths++;
		return false;
	}
	if (!step(w, &ev) || (w->held && !adopt(w)))
		return false;
	client_up(w);
	return true;
}

static void begin(struct world *w)
{
	while (!try_begin(w))
		;
}

/* ---- a life ---------------------------------------------------------------------------------------- */

static bool over(const struct world *w)
{
	return w->told && w->ended && w->forgotten && !w->held && w->shim == NO_SHIM;
}

/* Nothing is on its way: time passes. */
static void wait_for_something(struct world *w)
{
	struct agent_event ev = { .type = AEV_DEADLINE };

	if (w->shim == SHIM_IS_RUNNING) {
		w->shim = SHIM_IS_ENDED;
		shim_says(w, MSG_shim_ended);
	} else if (w->refused) {
		w->refused = false;
		client_asks(w);
	}
	w->now = mono_add_ms(w->now, 300);
	if (mono_due(agent_deadline(w->a), w->now))
		step(w, &ev);
}

static void one_round(struct world *w)
{
	struct in in;
	struct msg m;

	if (w->a == NULL)
		begin(w);
	if (w->n_in == 0) {
		wait_for_something(w);
		return;
	}
	in = w->in[0];
	memmove(&w->in[0], &w->in[1], --w->n_in * sizeof(in));
	if (in.json != NULL) {
		assert_int_equal(msg_decode(in.json, strlen(in.json), &m, NULL), 0);
		in.ev.msg = &m;
	}
	step(w, &in.ev);
	if (in.json != NULL)
		msg_finish(&m);
	free(in.json);
}

static unsigned life(void)
{
	struct world *w = calloc(1, sizeof(*w));
	unsigned deaths, rounds = 0;

	w->now = (mono_t){ 1000000000 };
	actions_init(&w->acts);
	begin(w);
	while (!over(w) && ++rounds < ROUNDS)
		one_round(w);
	if (!over(w))
		fail_msg("not over after %u rounds and %u deaths: told %d ended %d forgotten %d held %d shim %d", rounds, w->deaths,
			 w->told, w->ended, w->forgotten, w->held, w->shim);
	assert_int_equal(w->code, CODE);
	assert_true(w->goes >= 1);
	deaths = w->deaths;
	agent_destroy(w->a);
	drop_all(w);
	free(w->prepare);
	actions_finish(&w->acts);
	free(w);
	return deaths;
}

static void each_allocation_of_an_agents_life_may_fail(void **state)
{
	unsigned deaths, n = fail_malloc_lives(life, "an agent's", &deaths);

	assert_true(n >= 100);
	assert_true(deaths > 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_of_an_agents_life_may_fail),
	};

	fail_malloc_cjson();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
