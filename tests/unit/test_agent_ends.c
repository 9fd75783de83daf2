/* test_agent_ends.c - how jobs end on a node, and what of them is left or was lost */
#include "agent_world.h"

/* ---- ends ------------------------------------------------------------------------- */

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

/* ... and the agent sees it, or does not. */
static void confirmed(struct world *w, bool foreign, bool so)
{
	struct rec_stuck_proc p = { .pid = 4711, .start_time = 99, .name = "python",
				    .text = "state D (disk sleep) in nfs_wait_bit_killable" };
	struct agent_event ev = { .type = AEV_DONE, .stuck = &p, .n_stuck = so };

	if (foreign)
		MSG_SET(&p, stuck_proc, foreign, true);
	ev.ticket = ticket_of(w, ACT_CONFIRM);
	if (ev.ticket != 0)
		feed(w, &ev);
}

static void shim_claims(struct world *w, bool foreign)
{
	struct rec_stuck_proc p = { .pid = 4711, .start_time = 99, .name = "python",
				    .text = "state D (disk sleep) in nfs_wait_bit_killable" };
	struct msg m;

	if (foreign)
		MSG_SET(&p, stuck_proc, foreign, true);
	msg_init(&m, MSG_shim_stuck);
	m.u.shim_stuck.procs = &p;
	m.u.shim_stuck.n_procs = 1;
	say(w, SHIM, &m);
}

static void shim_stuck_by(struct world *w, bool foreign)
{
	shim_claims(w, foreign);
	confirmed(w, foreign, true);
}

static void shim_stuck(struct world *w)
{
	shim_stuck_by(w, false);
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

static void what_a_shim_says_alone_keeps_no_jobs_away(void **state)
{
	struct world *w = *state;
	struct msg m;

	to_running(w);
	shim_claims(w, false);
	assert_int_equal(count(w, COORD, MSG_stuck), 0);
	assert_int_equal(count(w, COORD, MSG_ended), 0);
	confirmed(w, false, false);
	assert_int_equal(count(w, COORD, MSG_stuck), 0);
	assert_true(last(w, COORD, MSG_ended, &m)); /* its own job is over all the same */
	assert_string_equal(m.u.ended.text, "process 4711 (python) cannot be killed: state D (disk sleep) in "
			    "nfs_wait_bit_killable; this node's agent did not see that itself");
	msg_finish(&m);
	forget(w);
	tick(w, 4000);
	assert_false(asked(w, ACT_LOOK));
}

static void a_shim_that_dies_while_its_word_is_looked_at_is_swept_first(void **state)
{
	struct world *w = *state;

	to_running(w);
	shim_claims(w, false);
	down(w, SHIM);
	confirmed(w, false, true);
	assert_int_equal(count(w, COORD, MSG_stuck), 1);
	assert_int_equal(count(w, COORD, MSG_ended), 0);
	done(w, ACT_SWEEP, 0);
	assert_int_equal(count(w, COORD, MSG_ended), 1);
}

static void what_the_shim_may_not_signal_is_ended_by_who_may(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_DONE };

	to_running(w);
	shim_stuck_by(w, true);
	assert_int_equal(count(w, COORD, MSG_stuck), 1);
	assert_int_equal(count(w, COORD, MSG_ended), 1);
	ev.ticket = ticket_of(w, ACT_SWEEP);
	assert_true(ev.ticket != 0);
	forget(w);
	feed(w, &ev);
	down(w, SHIM);
	assert_false(asked(w, ACT_SWEEP));
	assert_int_equal(count(w, COORD, MSG_ended), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_killed_shim_means_sweep_and_lost_ranks),
		T(a_failed_sweep_is_repeated_before_ended_is_said),
		T(one_that_cannot_be_ended_is_named_after_30_s_and_the_job_ends),
		T(while_nobody_can_look_the_job_does_not_end),
		T(whom_a_sweep_has_left_alive_is_told),
		T(a_rank_that_cannot_be_killed_ends_the_job_and_is_told_until_it_is_gone),
		T(what_outlives_a_sweep_is_told_before_the_job_ends_there),
		T(what_a_shim_says_alone_keeps_no_jobs_away),
		T(a_shim_that_dies_while_its_word_is_looked_at_is_swept_first),
		T(what_the_shim_may_not_signal_is_ended_by_who_may),
		T(docker_in_a_job_is_told_once_and_looked_for_less_and_less),
		T(those_whom_the_coordinator_has_stored_are_looked_for),
		T(the_shim_of_a_job_that_was_given_up_is_let_go_when_it_ends),
		T(output_that_was_lost_is_told_once_with_the_place),
		T(a_revoked_source_may_nothing_more),
	};

	return cmocka_run_group_tests_name("agent ends", tests, NULL, NULL);
}
