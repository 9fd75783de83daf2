/* test_agent_adopt.c - shims that an agent finds again, leases, and nodes that prove each other */
#include "agent_world.h"

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

static void who_may_fetch_the_specification_may_not_read_or_feed_the_job(void **state)
{
	struct rec_peer v = { .node = "a", .port = 1, .key = { ann, 32 }, .spec_only = true };
	struct world *w = *state;
	struct msg m;

	msg_init(&m, MSG_allow);
	m.u.allow = (struct rec_allow){ .job = 5, .peers = &v, .n_peers = 1, .whole = true };
	say(w, COORD, &m);
	assert_true(agent_peer_may_fetch(w->a, ann, 5) && agent_peer_allowed(w->a, ann));
	assert_false(agent_peer_may(w->a, ann, 5) || agent_peer_may_fetch(w->a, ann, 6));
	allow(w, 5, ann, NULL, true); /* it watches now */
	assert_true(agent_peer_may(w->a, ann, 5));
	say(w, COORD, &m);
	live(w, 25);
	assert_true(agent_peer_may(w->a, ann, 5)); /* as above */
	live(w, 10);
	assert_false(agent_peer_may(w->a, ann, 5));
	assert_true(agent_peer_may_fetch(w->a, ann, 5));
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

static void what_many_ranks_say_of_themselves_fits_too(void **state)
{
	struct world *w = *state;
	static struct rec_rank_state ranks[4096];
	static char words[501];
	struct rec_shim_ended ended = { .ranks = ranks, .n_ranks = 4096 };
	struct rec_row_held h = { .job = 7, .attempt = 1, .boot_id = "boot-1", .lineage = 42, .cookie = "c0ffee" };
	struct agent_event ev = { .type = AEV_ADOPT, .held = &h, .latched = true, .ended = &ended };
	const char *text = NULL;
	struct rec_peer src;
	struct msg m;
	struct buf b;

	memset(words, 'x', 500);
	for (uint32_t i = 0; i < 4096; i++)
		ranks[i] = (struct rec_rank_state){ .rank = i, .state = "failed", .text = words };
	fill_prepare(&m, &src, 1000);
	m.u.prepare.job = 7;
	m.u.prepare.nprocs = m.u.prepare.world = 4096;
	buf_init(&b);
	assert_int_equal(msg_encode(&m, &b, NULL), 0);
	h.prepare = (struct bytes){ (uint8_t *)b.data, b.len };
	feed(w, &ev);
	buf_finish(&b);
	connect_coord(w);
	for (size_t i = 0; i < w->n; i++)
		if (w->seen[i].text != NULL && strstr(w->seen[i].text, "node_register") != NULL)
			text = w->seen[i].text;
	assert_non_null(text);
	assert_in_range(strlen(text), 100000, FRAME_MAX - 131072); /* room for keys, addresses and specifications */
	text = NULL;
	msg_init(&m, MSG_end);
	m.u.end.job = 7;
	m.u.end.attempt = 1;
	say(w, COORD, &m);
	for (size_t i = 0; i < w->n; i++)
		if (w->seen[i].text != NULL && strstr(w->seen[i].text, "\"ended\"") != NULL)
			text = w->seen[i].text;
	assert_non_null(text);
	assert_in_range(strlen(text), 100000, FRAME_MAX);
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
		T(who_may_fetch_the_specification_may_not_read_or_feed_the_job),
		T(a_withdrawn_peer_is_out_after_a_while_and_what_it_reads_is_cut),
		T(who_is_not_named_after_a_registration_is_out_and_who_is_notices_nothing),
		T(without_a_coordinator_nobody_is_put_out),
		T(the_end_of_a_job_does_not_put_its_readers_out),
		T(a_registration_names_the_keys_that_may_come_in),
		T(a_revoked_key_is_out_at_once_and_in_again_when_it_is_named_again),
		T(the_table_of_peers_has_an_end_and_fading_ones_go_first),
		T(a_job_is_forgotten_only_when_nothing_lives),
		COLD(all_that_is_held_fits_a_registration),
		COLD(what_many_ranks_say_of_themselves_fits_too),
		COLD(an_adopted_running_shim_is_told_as_running),
		COLD(an_adopted_shim_knows_what_it_was_started_with),
		COLD(a_shim_that_speaks_late_is_told_of_again),
		COLD(a_dead_shim_found_at_start_is_swept),
		COLD(what_is_not_known_is_never_told_as_gone),
		COLD(an_adopted_ready_job_leases_anew_before_it_is_prepared),
		T(a_lease_counts_from_when_the_answered_word_was_sent),
		T(when_the_lease_passes_the_ranks_are_ended),
		T(a_stopped_agent_finds_the_lease_passed_before_it_reads_on),
		T(an_older_shim_is_told_nothing_of_leases_and_the_agent_keeps_them),
		T(a_job_that_is_not_started_again_runs_without_the_coordinator),
		T(no_attempt_is_prepared_beside_a_living_one),
	};

	return cmocka_run_group_tests_name("agent adopt", tests, NULL, NULL);
}
