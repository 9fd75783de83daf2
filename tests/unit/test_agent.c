/* test_agent.c - the agent's core, by the actions it asks for */
#include "agent_world.h"

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

static void say_pulse(struct world *w, uint64_t job, uint64_t idle_ms)
{
	struct rec_rank_pulse r = { .rank = 0, .state = "S" };
	struct rec_train_step s = { .step = 5 };
	struct msg m;

	MSG_SET(&r, rank_pulse, idle_ms, idle_ms);
	MSG_SET(&s, train_step, age_ms, 100);
	msg_init(&m, MSG_pulse);
	m.u.pulse.job = job;
	m.u.pulse.attempt = 1;
	m.u.pulse.ranks = &r;
	m.u.pulse.n_ranks = 1;
	m.u.pulse.step = &s;
	m.u.pulse.n_step = 1;
	say(w, SHIM, &m);
}

static void what_ranks_do_is_passed_on_and_told_again_grown_older(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_running(w);
	say_pulse(w, 77, 6000); /* whatever number the shim gives */
	assert_true(last(w, COORD, MSG_pulse, &m));
	assert_true(m.u.pulse.job == 1 && m.u.pulse.ranks[0].idle_ms == 6000);
	msg_finish(&m);
	down(w, COORD);
	forget(w);
	tick(w, 1000);
	connect_as(w, COORD + 1);
	assert_true(last(w, COORD + 1, MSG_pulse, &m));
	assert_true(m.u.pulse.ranks[0].idle_ms >= 7000 && m.u.pulse.step[0].age_ms >= 1100);
	msg_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		T(a_copy_is_kept_until_its_job_is_over),
		T(a_copy_that_comes_while_a_list_is_on_its_way_is_told_once_more),
		T(a_copy_that_cannot_be_kept_does_not_stop_the_job),
		T(who_holds_a_copy_may_nothing_by_that),
		T(a_spare_fetches_once_and_tells_each_time),
		T(what_lies_on_disk_is_told_at_the_registration),
		T(stopping_ends_the_jobs_and_then_is_idle),
		T(what_ranks_do_is_passed_on_and_told_again_grown_older),
		T(a_coordinator_that_wants_fewer_heartbeats_is_given_longer),
	};

	return cmocka_run_group_tests_name("agent", tests, NULL, NULL);
}
