/* test_coord_restart.c - when a job is started again, where, and how long it waits for that */
#include "coord_world.h"

#define LOST_S 120 /* node_lost_ms, and the lease */
#define GRACE_S 2
#define MARGIN_S 5

static const uint8_t spec[32] = { 1 };

struct wish {
	uint32_t nnodes, max_restarts, spares;
	bool any;
	uint32_t time_s;
};

static void submit_wish(struct world *w, uint64_t link, struct wish x)
{
	struct msg m;

	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = "c1";
	m.u.submit.nnodes = x.nnodes;
	m.u.submit.max_restarts = x.max_restarts;
	m.u.submit.spares = x.spares;
	m.u.submit.restart_any = x.any;
	m.u.submit.time_s = x.time_s;
	MSG_SET(&m.u.submit, submit, grace_ms, 1000 * GRACE_S);
	m.u.submit.command = "true";
	m.u.submit.spec_hash = (struct bytes){ spec, 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	m.u.submit.user = "li";
	say(w, link, &m);
	store(w);
}

static void says_prepared(struct world *w, uint64_t link, uint32_t attempt, bool leased)
{
	struct msg m;

	msg_init(&m, MSG_prepared);
	m.u.prepared.job = w->job;
	m.u.prepared.attempt = attempt;
	m.u.prepared.ok = true;
	m.u.prepared.master_port = 20000;
	m.u.prepared.proof_port = 40000;
	m.u.prepared.leased = leased;
	say(w, link, &m);
}

/* Attempt 1 runs on gpu01 and gpu02; gpu03 is there. */
static void run_pair(struct world *w, struct wish x, bool leased, uint64_t l[3])
{
	l[0] = node_up(w, "gpu01");
	l[1] = node_up(w, "gpu02");
	l[2] = node_up(w, "gpu03");
	store(w);
	submit_wish(w, l[0], x);
	for (int i = 0; i < 2; i++)
		says_prepared(w, l[i], 1, leased);
	proved(w, l[1], true, true);
	proved(w, l[0], false, true);
	store(w);
	ranks(w, l[0], 0, "running", 0);
	ranks(w, l[1], 1, "running", 0);
	assert_job(w, "running", -1);
	forget_sent(w);
}

static void ping(struct world *w, uint64_t l)
{
	struct msg m;

	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	say(w, l, &m);
}

/* Second by second; gpu02 says nothing. */
static void gpu02_silent(struct world *w, const uint64_t l[3], int seconds)
{
	for (int i = 0; i < seconds; i++) {
		tick(w, 1000);
		ping(w, l[0]);
		ping(w, l[2]);
		store(w);
	}
}

static bool asked_to_prepare(struct world *w, uint64_t link, uint32_t attempt)
{
	struct msg m;
	bool yes = last_to(w, link, MSG_prepare, &m);

	if (!yes)
		return false;
	yes = m.u.prepare.attempt == attempt;
	msg_finish(&m);
	return yes;
}

static void assert_why(struct world *w, const char *words)
{
	struct msg m;
	struct rec_job_info *i = job_one(w, &m);

	assert_non_null(i->why);
	if (strstr(i->why, words) == NULL)
		fail_msg("'%s' is not in '%s'", words, i->why);
	msg_finish(&m);
}

static void gpu02_is_lost(struct world *w, const uint64_t l[3])
{
	gpu02_silent(w, l, LOST_S + 1);
	assert_true(was_told(w, l[0], MSG_end));
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	assert_job(w, "restarting", -1);
	assert_false(asked_to_prepare(w, l[0], 2));
}

static void a_silent_node_is_waited_for_until_its_lease_and_grace_have_passed(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 1, 0, false, 0 }, true, l);
	gpu02_is_lost(w, l);
	assert_why(w, "surely ended on node gpu02");
	gpu02_silent(w, l, GRACE_S + MARGIN_S - 2);
	assert_false(asked_to_prepare(w, l[0], 2));
	gpu02_silent(w, l, 2);
	assert_true(asked_to_prepare(w, l[0], 2));
	assert_true(asked_to_prepare(w, l[2], 2));
}

static void who_keeps_no_lease_is_waited_for_until_it_speaks(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 1, 0, false, 0 }, false, l);
	gpu02_is_lost(w, l);
	gpu02_silent(w, l, 10 * LOST_S);
	assert_false(asked_to_prepare(w, l[0], 2));
	assert_why(w, "keeps no lease");
	node_up_held(w, "gpu02", "boot-1", 1, "running", "running", 1, 0);
	store(w);
	assert_false(asked_to_prepare(w, l[0], 2));
	ended(w, w->next_link, 1, "killed", 0, true);
	store(w);
	assert_true(asked_to_prepare(w, l[0], 2));
	assert_false(asked_to_prepare(w, w->next_link, 2)); /* it is left out */
}

static void a_full_term_is_counted_after_a_restart_of_the_coordinator(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 1, 0, false, 0 }, true, l);
	gpu02_is_lost(w, l);
	gpu02_silent(w, l, GRACE_S + MARGIN_S - 2);
	restart(w);
	l[0] = node_up(w, "gpu01");
	l[2] = node_up(w, "gpu03");
	store(w);
	gpu02_silent(w, l, LOST_S);
	assert_false(asked_to_prepare(w, l[0], 2));
	gpu02_silent(w, l, GRACE_S + MARGIN_S + 2);
	assert_true(asked_to_prepare(w, l[0], 2));
}

static void another_boot_is_proof_enough(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 1, 0, false, 0 }, false, l);
	link_down(w, l[1]);
	node_up_held(w, "gpu02", "boot-2", 0, NULL, NULL, 0, 0);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	assert_true(asked_to_prepare(w, l[0], 2));
	assert_true(asked_to_prepare(w, l[2], 2));
	assert_false(asked_to_prepare(w, w->next_link, 2));
}

static void the_next_attempt_is_on_disk_before_anybody_hears_of_it(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 1, 0, false, 0 }, true, l);
	link_down(w, l[1]);
	node_up_held(w, "gpu02", "boot-2", 0, NULL, NULL, 0, 0);
	store(w);
	w->disk_full = true;
	ended(w, l[0], 0, "killed", 0, true);
	gpu02_silent(w, l, 5);
	assert_false(asked_to_prepare(w, l[0], 2));
	assert_false(was_told(w, l[0], MSG_forget));
	w->disk_full = false;
	gpu02_silent(w, l, 3);
	assert_true(was_told(w, l[0], MSG_forget));
	assert_true(asked_to_prepare(w, l[0], 2));
}

static void gpu02_says_stuck(struct world *w, uint64_t link, bool foreign, bool gone)
{
	struct rec_stuck_proc p = { .pid = 4711, .start_time = 99, .name = "sudo",
				    .text = "state S (sleeping) in do_wait; it runs as uid 0, and may not be signalled" };
	struct msg m;

	MSG_SET(&p, stuck_proc, job, 1);
	if (foreign)
		MSG_SET(&p, stuck_proc, foreign, true);
	msg_init(&m, MSG_stuck);
	m.u.stuck.procs = m.u.stuck.gone = &p;
	m.u.stuck.n_procs = !gone;
	m.u.stuck.n_gone = gone;
	say(w, link, &m);
	store(w);
}

/* Rank 1 has failed, and a process of it is left on gpu02. */
static void ends_with_one_left(struct world *w, bool foreign, uint64_t l[3])
{
	run_pair(w, (struct wish){ 2, 3, 0, true, 0 }, true, l);
	gpu02_says_stuck(w, l[1], foreign, false);
	ended(w, l[1], 1, "exited", 7, false);
	store(w);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	assert_job(w, "restarting", -1);
	tick(w, 1500);
	store(w);
}

static void what_became_another_users_lives_and_no_attempt_starts_beside_it(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	ends_with_one_left(w, true, l);
	assert_false(asked_to_prepare(w, l[0], 2));
	assert_why(w, "process 4711 (sudo) of the one before lives on node gpu02 as another user");
	restart(w); /* that it lives is on disk */
	l[0] = node_up_held(w, "gpu01", "boot-1", 1, "ended", "killed", 0, 0);
	l[1] = node_up_held(w, "gpu02", "boot-1", 1, "ended", "exited", 1, 7);
	l[2] = node_up(w, "gpu03");
	store(w);
	for (int i = 0; i < 200; i++) {
		tick(w, 1000);
		for (int k = 0; k < 3; k++)
			ping(w, l[k]);
		store(w);
	}
	assert_false(asked_to_prepare(w, l[0], 2));
	assert_why(w, "lives on node gpu02 as another user");
	gpu02_says_stuck(w, l[1], true, true);
	tick(w, 10);
	store(w);
	tick(w, 1500);
	store(w);
	assert_true(asked_to_prepare(w, l[0], 2));
}

/* In state D it runs nothing any more; its node gets no part of the next attempt. */
static void what_waits_to_die_holds_up_no_attempt_elsewhere(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	ends_with_one_left(w, false, l);
	assert_true(asked_to_prepare(w, l[0], 2) && asked_to_prepare(w, l[2], 2));
	assert_false(asked_to_prepare(w, l[1], 2));
}

/* Its agent was restarted, and cannot say what became of it. */
static void what_a_node_cannot_tell_of_is_not_taken_for_gone(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 3, 0, true, 0 }, true, l);
	link_down(w, l[1]);
	w->no_master = true;
	l[1] = node_up_held(w, "gpu02", "boot-1", 1, "starting", NULL, 0, 0);
	ended(w, l[0], 0, "exited", 7, false);
	store(w);
	assert_true(was_told(w, l[1], MSG_end));
	for (int i = 0; i < 300; i++) {
		tick(w, 1000);
		for (int k = 0; k < 3; k++)
			ping(w, l[k]);
		store(w);
	}
	assert_job(w, "ending", -1);
	assert_false(asked_to_prepare(w, l[0], 2));
	link_down(w, l[1]);
	node_up_held(w, "gpu02", "boot-2", 0, NULL, NULL, 0, 0);
	store(w);
	tick(w, 1500);
	store(w);
	assert_true(asked_to_prepare(w, l[0], 2));
}

/* The coordinator dies with the order to start, and the node with it: its lease is known all the same. */
static void who_keeps_a_lease_is_on_disk_before_the_start(void **state)
{
	struct world *w = *state;
	uint64_t l[3] = { node_up(w, "gpu01"), 0, node_up(w, "gpu03") };

	store(w);
	submit_wish(w, l[0], (struct wish){ 1, 1, 0, false, 0 });
	says_prepared(w, l[0], 1, true);
	assert_false(was_told(w, l[0], MSG_start));
	store_one(w);
	assert_true(was_told(w, l[0], MSG_start));
	assert_int_equal(w->n_queue, 1); /* since when it runs: that never comes to the disk */
	for (size_t k = 0; k < w->queue[0].n; k++)
		free(w->queue[0].rows[k].json);
	restart(w);
	l[2] = node_up(w, "gpu03");
	gpu02_silent(w, (uint64_t[]){ l[2], 0, l[2] }, LOST_S + GRACE_S + MARGIN_S + 3);
	assert_why(w, "attempt 2 of 2; node gpu01 is left out; waiting for node gpu01 (down), where it was submitted");
}

static void nothing_starts_while_leases_cannot_be_stored(void **state)
{
	struct world *w = *state;
	uint64_t l = node_up(w, "gpu01");

	store(w);
	submit_wish(w, l, (struct wish){ 1, 1, 0, false, 0 });
	w->disk_full = true;
	says_prepared(w, l, 1, true);
	store(w);
	tick(w, 1500);
	ping(w, l);
	store(w);
	assert_false(was_told(w, l, MSG_start));
	w->disk_full = false;
	tick(w, 1500);
	ping(w, l);
	store(w);
	assert_true(was_told(w, l, MSG_start));
}

static void a_failed_rank_is_the_jobs_own_affair_unless_any_was_said(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t l[3];
	struct msg m;

	run_pair(w, (struct wish){ 2, 3, 0, false, 0 }, true, l);
	ended(w, l[1], 1, "exited", 7, false);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 7);
	i = job_one(w, &m);
	assert_int_equal(i->n_notices, 1);
	assert_string_equal(i->notices[0],
			    "not started again: a process failed, and --restart-on is \"node\"; with --restart-on any it would be");
	msg_finish(&m);
}

/* "any" would not have brought another attempt either. */
static void what_any_would_not_help_is_no_matter_of_restart_on(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t l[3];
	struct msg m;

	run_pair(w, (struct wish){ 2, 3, 0, false, 0 }, true, l);
	ended(w, l[1], 1, "exited", 127, false);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 127);
	i = job_one(w, &m);
	assert_int_equal(i->n_notices, 0);
	msg_finish(&m);
}

static void a_failed_rank_is_tried_again_after_a_while_and_on_the_same_nodes(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t l[3];
	struct msg m;

	run_pair(w, (struct wish){ 2, 1, 0, true, 0 }, true, l);
	ended(w, l[1], 1, "exited", 7, false);
	store(w);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	assert_job(w, "restarting", -1);
	assert_why(w, "restarting in 1 s: attempt 2 of 2");
	i = job_one(w, &m);
	assert_false(MSG_HAS(i, job_info, start_by_wall_ms)); /* it does not wait in the queue */
	assert_string_equal(i->story[i->n_story - 1].text, "attempt 1 is over (exit code 7); attempt 2 in 1.0 s");
	msg_finish(&m);
	assert_false(asked_to_prepare(w, l[0], 2));
	tick(w, 1001);
	store(w);
	assert_true(asked_to_prepare(w, l[0], 2) && asked_to_prepare(w, l[1], 2));
	assert_false(asked_to_prepare(w, l[2], 2));
}

/* gpu01 tries an ephemeral port of gpu02, or gpu02 rank 0's. */
static void cannot_reach(struct world *w, uint64_t from, const char *kind)
{
	struct rec_proof_result r = { .kind = kind, .node = "x", .text = "connection refused" };
	struct msg m;

	msg_init(&m, MSG_proved);
	m.u.proved.job = w->job;
	m.u.proved.attempt = 1;
	m.u.proved.results = &r;
	m.u.proved.n_results = 1;
	say(w, from, &m);
	store(w);
}

/* Attempt 1 is prepared on gpu01 and gpu02, and their connections are tried. */
static void try_pair(struct world *w, uint32_t max_restarts, uint64_t l[3])
{
	l[0] = node_up(w, "gpu01");
	l[1] = node_up(w, "gpu02");
	l[2] = node_up(w, "gpu03");
	store(w);
	submit_wish(w, l[0], (struct wish){ .nnodes = 2, .max_restarts = max_restarts });
	says_prepared(w, l[0], 1, true);
	says_prepared(w, l[1], 1, true);
	store(w);
}

/* Its silence is not known yet when the other one tells that it cannot be reached. */
static void a_node_that_dies_while_connections_are_tried_is_a_lost_node(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	try_pair(w, 3, l);
	cannot_reach(w, l[0], "ephemeral");
	assert_job(w, "preparing", -1);
	gpu02_silent(w, l, 10);
	assert_why(w, "node gpu02 was lost while the connections between the nodes were tried");
	ended(w, l[0], 0, "killed", 0, true);
	gpu02_silent(w, l, LOST_S + 1);
	assert_true(asked_to_prepare(w, l[0], 2));
	assert_true(asked_to_prepare(w, l[2], 2));
}

static void that_of_rank_0_too(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	try_pair(w, 3, l);
	link_down(w, l[0]);
	cannot_reach(w, l[1], "master");
	tick(w, 1);
	store(w);
	assert_why(w, "node gpu01 was lost while the connections between the nodes were tried");
	ended(w, l[1], 1, "killed", 0, true);
	for (int i = 0; i < LOST_S + 1; i++) {
		tick(w, 1000);
		ping(w, l[1]);
		ping(w, l[2]);
		store(w);
	}
	assert_job(w, "restarting", -1);
	assert_why(w, "waiting for node gpu01 (down), where it was submitted");
}

static void who_lives_and_cannot_be_reached_is_the_networks_affair(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	try_pair(w, 3, l);
	cannot_reach(w, l[0], "ephemeral");
	for (int i = 0; i < 5; i++) {
		ping(w, l[1]);
		gpu02_silent(w, l, 1);
	}
	assert_why(w, "node gpu01 cannot reach an ephemeral port of node x (connection refused)");
	ended(w, l[0], 0, "killed", 0, true);
	ended(w, l[1], 1, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 1);
}

static void who_may_not_restart_is_told_at_once(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	try_pair(w, 0, l);
	cannot_reach(w, l[0], "ephemeral");
	assert_job(w, "ending", -1);
}

static void what_cannot_be_executed_is_not_tried_again(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 3, 0, true, 0 }, true, l);
	ended(w, l[1], 1, "exited", 126, false);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 126);
}

static void begins_nccl(struct world *w, uint64_t link)
{
	struct rec_nccl_state s = { .version = "2.28.9", .net = "IB" };
	struct msg m;

	MSG_SET(&s, nccl_state, procs, 1);
	MSG_SET(&s, nccl_state, inits, 1);
	msg_init(&m, MSG_job_nccl);
	m.u.job_nccl.job = m.u.job_nccl.attempt = 1;
	m.u.job_nccl.nccl = &s;
	m.u.job_nccl.n_nccl = 1;
	say(w, link, &m);
}

/* Rank 0 waits for rank 1 in NCCL's initialisation; of the attempt after that nothing can be stored. */
static void an_attempt_that_began_in_vain_may_be_killed_when_the_next_one_is_not_stored(void **state)
{
	struct world *w = *state;
	uint64_t l[3];
	struct msg m;

	run_pair(w, (struct wish){ 2, 3, 0, true, 0 }, true, l);
	begins_nccl(w, l[0]);
	ended(w, l[1], 1, "exited", 7, false);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	w->disk_full = true;
	tick(w, 1001);
	store(w);
	w->disk_full = false;
	assert_false(asked_to_prepare(w, l[0], 2));
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 3;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, l[0], &m);
	store(w);
	assert_true(was_told(w, l[0], MSG_ok));
}

static void a_kill_between_two_attempts_is_the_end(void **state)
{
	struct world *w = *state;
	uint64_t l[3];
	struct msg m;

	run_pair(w, (struct wish){ 2, 3, 0, true, 0 }, true, l);
	ended(w, l[1], 1, "exited", 7, false);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 3;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, l[0], &m);
	assert_false(was_told(w, l[0], MSG_ok));
	store(w);
	assert_true(last_to(w, l[0], MSG_ok, &m));
	assert_string_equal(m.u.ok.text, "job 1: it waited for its restart: it is cancelled, no rank was running");
	msg_finish(&m);
	assert_job(w, "failed", 143);
	assert_why(w, "ended by its owner; it waited for its restart: it is cancelled, no rank was running");
	tick(w, 100 * 1000);
	store(w);
	assert_false(asked_to_prepare(w, l[0], 2));
}

static void a_spare_is_held_and_takes_the_place_of_the_lost_one(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t l[3];
	struct msg m;

	run_pair(w, (struct wish){ 2, 1, 1, false, 0 }, true, l);
	i = job_one(w, &m);
	assert_int_equal(i->n_spares, 1);
	assert_string_equal(i->spares[0], "gpu03");
	msg_finish(&m);
	link_down(w, l[1]);
	node_up_held(w, "gpu02", "boot-2", 0, NULL, NULL, 0, 0);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	assert_true(asked_to_prepare(w, l[2], 2));
	i = job_one(w, &m);
	assert_int_equal(i->n_spares, 0);
	assert_int_equal(i->restarts, 1);
	assert_int_equal(i->n_attempts, 1);
	assert_string_equal(i->attempts[0].guilty, "gpu02");
	assert_string_equal(i->barred[0], "gpu02");
	msg_finish(&m);
}

static void a_restarted_coordinator_goes_on_between_two_attempts(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 3, 0, true, 0 }, true, l);
	ended(w, l[1], 1, "exited", 7, false);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	restart(w);
	assert_job(w, "restarting", -1);
	l[0] = node_up_held(w, "gpu01", "boot-1", 1, "ended", "killed", 0, 0);
	l[1] = node_up(w, "gpu02");
	store(w);
	assert_true(was_told(w, l[0], MSG_forget));
	tick(w, 1500);
	store(w);
	assert_true(asked_to_prepare(w, l[0], 2) && asked_to_prepare(w, l[1], 2));
}

/* Attempt 1 of a job with a limit of 100 s has run for 60 s when its rank fails. */
static uint64_t fails_after_a_minute(struct world *w)
{
	uint64_t l = node_up(w, "gpu01");

	store(w);
	submit_wish(w, l, (struct wish){ 1, 3, 0, true, 100 });
	says_prepared(w, l, 1, true);
	store(w);
	ranks(w, l, 0, "running", 0);
	for (int i = 0; i < 60; i++) {
		tick(w, 1000);
		ping(w, l);
	}
	ranks(w, l, 0, "exited", 7);
	store(w);
	assert_job(w, "ending", -1);
	return l;
}

static void assert_forty_seconds_left(struct world *w, uint64_t l)
{
	struct msg m;

	store(w); /* that the attempt is over */
	store(w);
	tick(w, 1500);
	store(w);
	assert_true(asked_to_prepare(w, l, 2));
	says_prepared(w, l, 2, true);
	store(w);
	for (int i = 0; i < 38; i++) {
		tick(w, 1000);
		ping(w, l);
	}
	store(w);
	assert_false(was_told(w, l, MSG_end));
	for (int i = 0; i < 3; i++) {
		tick(w, 1000);
		ping(w, l);
	}
	store(w);
	assert_true(last_to(w, l, MSG_end, &m));
	assert_int_equal(m.u.end.attempt, 2);
	assert_non_null(strstr(m.u.end.why, "time limit of 100 s"));
	msg_finish(&m);
}

static void the_time_of_an_attempt_counts_though_the_coordinator_restarts_while_it_ends(void **state)
{
	struct world *w = *state;

	fails_after_a_minute(w);
	w->wall_ms += 1000000; /* the wall clock may say what it likes */
	restart(w);
	assert_forty_seconds_left(w, node_up_held(w, "gpu01", "boot-1", 1, "ended", "exited", 0, 7));
}

static void the_time_of_an_attempt_counts_though_it_ended_while_there_was_no_coordinator(void **state)
{
	struct world *w = *state;
	struct row *r = NULL;
	uint64_t l = node_up(w, "gpu01");

	store(w);
	submit_wish(w, l, (struct wish){ 1, 3, 0, true, 100 });
	says_prepared(w, l, 1, true);
	store(w);
	tick(w, 60000);
	store(w);
	for (size_t i = 0; i < w->n_rows; i++)
		if (w->rows[i].table == TABLE_JOB)
			r = &w->rows[i];
	assert_non_null(r);
	assert_null(strstr(r->json, "ran_ms"));
	restart(w); /* no word of its node about how long: by the wall clock */
	assert_forty_seconds_left(w, node_up_held(w, "gpu01", "boot-1", 1, "ended", "exited", 0, 7));
}

static void a_node_that_was_told_to_stop_its_jobs_ends_them_for_good(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 3, 0, true, 0 }, true, l);
	ended(w, l[1], 1, "killed", 0, true);
	store(w);
	assert_true(was_told(w, l[0], MSG_end));
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	store(w);
	assert_job(w, "failed", 143);
	assert_why(w, "node gpu02 ended its part of the job: nodeagentd was stopped there");
	tick(w, 100 * 1000);
	store(w);
	assert_false(asked_to_prepare(w, l[0], 2));
}

/* gpu01, where the job was submitted, is lost. */
static void submit_node_is_lost(struct world *w, const uint64_t l[3])
{
	link_down(w, l[0]);
	for (int i = 0; i < LOST_S + 1; i++) {
		tick(w, 1000);
		ping(w, l[1]);
		ping(w, l[2]);
		store(w);
	}
	ended(w, l[1], 1, "killed", 0, true);
	store(w);
	for (int i = 0; i < GRACE_S + MARGIN_S + 1; i++) {
		tick(w, 1000);
		ping(w, l[1]);
		ping(w, l[2]);
		store(w);
	}
}

static void no_attempt_begins_before_the_node_with_the_command_is_back(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	run_pair(w, (struct wish){ 2, 3, 0, false, 0 }, true, l);
	submit_node_is_lost(w, l);
	assert_job(w, "restarting", -1);
	assert_why(w, "waiting for node gpu01 (down), where it was submitted");
	assert_false(asked_to_prepare(w, l[2], 2));
	l[0] = node_up_held(w, "gpu01", "boot-2", 0, NULL, NULL, 0, 0);
	store(w);
	assert_true(asked_to_prepare(w, l[1], 2) && asked_to_prepare(w, l[2], 2));
}

static void a_job_whose_command_was_taken_out_of_the_cluster_ends(void **state)
{
	struct world *w = *state;
	uint64_t l[3];
	struct msg m;

	run_pair(w, (struct wish){ 2, 3, 0, false, 0 }, true, l);
	submit_node_is_lost(w, l);
	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 3;
	m.u.node_remove.node = "gpu01";
	MSG_SET(&m.u.node_remove, node_remove, force, true);
	say(w, link_up(w, WHO_LOCAL, NULL, "client"), &m);
	store(w);
	store(w);
	assert_job(w, "failed", 1);
	assert_why(w, "node gpu01, where it was submitted, was taken out of the cluster");
}

/* ---- copies of the specification ------------------------------------------------ */

static void says_kept_of(struct world *w, uint64_t link, const uint8_t hash[32])
{
	struct msg m;

	msg_init(&m, MSG_spec_kept);
	m.u.spec_kept.job = w->job;
	m.u.spec_kept.hash = (struct bytes){ hash, 32 };
	say(w, link, &m);
}

static void says_kept(struct world *w, uint64_t link)
{
	says_kept_of(w, link, spec);
}

/* The last 'allow' for this node names the other one, as all who are no watchers for the specification only. */
static bool lets_in(struct world *w, uint64_t link, const char *name)
{
	struct msg m;
	bool yes = false;

	if (!last_to(w, link, MSG_allow, &m))
		return false;
	for (size_t i = 0; i < m.u.allow.n_peers; i++)
		yes = yes || (strcmp(m.u.allow.peers[i].node, name) == 0 && m.u.allow.peers[i].spec_only);
	msg_finish(&m);
	return yes;
}

/* Where the node of this link is sent for the specification: "gpu02 (gpu01)", the source in brackets if it is last. */
static const char *sent_to(struct world *w, uint64_t link)
{
	static char text[200];
	struct rec_prepare *p;
	struct msg m;
	size_t n = 0;

	assert_true(last_to(w, link, MSG_prepare, &m));
	p = &m.u.prepare;
	assert_int_equal(p->n_source, 1);
	text[0] = '\0';
	if (!p->copies_first)
		n += (size_t)snprintf(text, sizeof(text), "%s", p->source[0].node);
	for (size_t i = 0; i < p->n_copies; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n > 0 ? " " : "", p->copies[i].node);
	if (p->copies_first)
		snprintf(text + n, sizeof(text) - n, " (%s)", p->source[0].node);
	msg_finish(&m);
	return text;
}

static void a_copy_will_do_when_the_node_with_the_command_is_lost(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	w->keeps_specs = true;
	run_pair(w, (struct wish){ 2, 3, 0, false, 0 }, true, l);
	says_kept(w, l[1]);
	submit_node_is_lost(w, l);
	assert_true(asked_to_prepare(w, l[1], 2) && asked_to_prepare(w, l[2], 2));
	assert_string_equal(sent_to(w, l[2]), "gpu02 (gpu01)");
	assert_true(lets_in(w, l[1], "gpu03"));
	assert_false(lets_in(w, l[2], "gpu02")); /* it has none to hand out */
}

/* Others would tell it the hash, and that is all one needs to ask for the environment. */
static void who_claims_a_copy_without_the_hash_is_not_sent_the_jobs_nodes(void **state)
{
	static const uint8_t guess[32] = { 7 };
	struct world *w = *state;
	uint64_t l[3];

	w->keeps_specs = true;
	run_pair(w, (struct wish){ 2, 3, 0, false, 0 }, true, l);
	says_kept_of(w, l[2], guess);
	says_kept(w, l[1]);
	submit_node_is_lost(w, l);
	assert_true(asked_to_prepare(w, l[1], 2) && asked_to_prepare(w, l[2], 2));
	assert_string_equal(sent_to(w, l[1]), " (gpu01)");
	assert_false(lets_in(w, l[2], "gpu02"));
}

static void who_keeps_no_copies_gets_no_attempt_that_depends_on_one(void **state)
{
	struct world *w = *state;
	uint64_t l[3];

	w->keeps_specs = true;
	l[0] = node_up(w, "gpu01");
	l[1] = node_up(w, "gpu02");
	w->keeps_specs = false;
	l[2] = node_up(w, "gpu03");
	store(w);
	submit_wish(w, l[0], (struct wish){ 2, 3, 0, false, 0 });
	for (int i = 0; i < 2; i++)
		says_prepared(w, l[i], 1, true);
	proved(w, l[1], true, true);
	proved(w, l[0], false, true);
	store(w);
	ranks(w, l[0], 0, "running", 0);
	ranks(w, l[1], 1, "running", 0);
	says_kept(w, l[1]);
	submit_node_is_lost(w, l);
	assert_job(w, "restarting", -1);
	assert_false(asked_to_prepare(w, l[2], 2)); /* of an older version: it would ask gpu01 only */
	l[0] = node_up_held(w, "gpu01", "boot-2", 0, NULL, NULL, 0, 0);
	store(w);
	assert_true(asked_to_prepare(w, l[2], 2));
	assert_string_equal(sent_to(w, l[2]), "gpu01");
}

static void a_copy_outlives_the_removal_of_the_node_with_the_command(void **state)
{
	struct world *w = *state;
	uint64_t l[3];
	struct msg m;

	w->keeps_specs = true;
	run_pair(w, (struct wish){ 2, 3, 0, false, 0 }, true, l);
	says_kept(w, l[1]);
	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 3;
	m.u.node_remove.node = "gpu01";
	m.u.node_remove.force = true;
	say(w, link_up(w, WHO_LOCAL, NULL, "client"), &m);
	store(w);
	submit_node_is_lost(w, l);
	for (int i = 0; i < LOST_S; i++) {
		tick(w, 1000);
		ping(w, l[1]);
		ping(w, l[2]);
		store(w);
	}
	assert_true(asked_to_prepare(w, l[2], 2));
	assert_true(last_to(w, l[2], MSG_prepare, &m));
	assert_int_equal(m.u.prepare.source[0].n_addrs, 0); /* nobody is sent there any more */
	assert_true(m.u.prepare.copies_first);
	msg_finish(&m);
}

/* The coordinator remembers nothing of copies: their nodes tell it. */
static void copies_are_told_anew_after_a_restart_of_the_coordinator(void **state)
{
	struct world *w = *state;
	struct msg m;
	uint64_t l[3];

	w->keeps_specs = true;
	run_pair(w, (struct wish){ 2, 3, 0, false, 0 }, true, l);
	says_kept(w, l[1]);
	submit_node_is_lost(w, l);
	restart(w);
	forget_sent(w);
	l[2] = node_up(w, "gpu03");
	w->has_spec = spec;
	l[1] = node_up(w, "gpu02");
	store(w);
	assert_true(last_to(w, l[1], MSG_specs_used, &m)); /* and keep it */
	assert_int_equal(m.u.specs_used.n_uses, 1);
	msg_finish(&m);
	assert_true(last_to(w, l[2], MSG_specs_used, &m));
	assert_int_equal(m.u.specs_used.n_uses, 0);
	msg_finish(&m);
}

static void a_spare_gets_a_copy_ahead_of_time_and_gives_it_back(void **state)
{
	struct world *w = *state;
	struct msg m;
	uint64_t l[3];

	w->keeps_specs = true;
	l[0] = node_up(w, "gpu01");
	l[1] = node_up(w, "gpu02");
	l[2] = node_up(w, "gpu03");
	store(w);
	submit_wish(w, l[0], (struct wish){ 2, 1, 1, false, 0 });
	assert_true(lets_in(w, l[0], "gpu02") && lets_in(w, l[0], "gpu03"));
	assert_false(was_told(w, l[1], MSG_spec_keep));
	assert_true(last_to(w, l[2], MSG_spec_keep, &m));
	assert_int_equal(m.u.spec_keep.n_copies, 1);
	assert_string_equal(m.u.spec_keep.copies[0].node, "gpu01");
	assert_memory_equal(m.u.spec_keep.hash.p, spec, 32);
	msg_finish(&m);
	says_kept(w, l[2]);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, l[0], &m);
	store(w);
	ended(w, l[0], 0, "killed", 0, true);
	ended(w, l[1], 1, "killed", 0, true);
	store(w);
	for (int i = 0; i < 3; i++) {
		assert_true(last_to(w, l[i], MSG_forget, &m));
		assert_true(m.u.forget.over);
		msg_finish(&m);
	}
	assert_false(lets_in(w, l[0], "gpu03"));
	forget_sent(w);
	says_kept(w, l[2]); /* one that took long */
	assert_true(was_told(w, l[2], MSG_forget));
}

static void who_cannot_fetch_the_command_is_not_left_out(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t l[3];
	struct msg m;

	run_pair(w, (struct wish){ 2, 3, 0, true, 0 }, true, l);
	ended(w, l[1], 1, "exited", 7, false);
	ended(w, l[0], 0, "killed", 0, true);
	store(w);
	tick(w, 1001);
	store(w);
	assert_true(asked_to_prepare(w, l[1], 2));
	msg_init(&m, MSG_prepared);
	m.u.prepared.job = 1;
	m.u.prepared.attempt = 2;
	MSG_SET(&m.u.prepared, prepared, code, 1);
	m.u.prepared.text = "could not fetch the job's specification from node gpu01 (10.0.0.1:7000): no answer "
			    "within 15 s";
	say(w, l[1], &m);
	store(w);
	for (uint32_t k = 0; k < 2; k++) {
		struct rec_rank_state rs = { .rank = k, .state = "waiting" };

		msg_init(&m, MSG_ended);
		m.u.ended.job = 1;
		m.u.ended.attempt = 2;
		m.u.ended.ranks = &rs;
		m.u.ended.n_ranks = 1;
		say(w, l[k], &m);
	}
	store(w);
	i = job_one(w, &m);
	assert_string_equal(i->state, "restarting");
	assert_int_equal(i->n_barred, 0);
	msg_finish(&m);
	tick(w, 2001);
	store(w);
	assert_true(asked_to_prepare(w, l[0], 3) && asked_to_prepare(w, l[1], 3));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_silent_node_is_waited_for_until_its_lease_and_grace_have_passed),
		T(who_keeps_no_lease_is_waited_for_until_it_speaks),
		T(a_full_term_is_counted_after_a_restart_of_the_coordinator),
		T(another_boot_is_proof_enough),
		T(the_next_attempt_is_on_disk_before_anybody_hears_of_it),
		T(a_failed_rank_is_the_jobs_own_affair_unless_any_was_said),
		T(what_any_would_not_help_is_no_matter_of_restart_on),
		T(a_failed_rank_is_tried_again_after_a_while_and_on_the_same_nodes),
		T(a_node_that_dies_while_connections_are_tried_is_a_lost_node),
		T(that_of_rank_0_too),
		T(who_lives_and_cannot_be_reached_is_the_networks_affair),
		T(who_may_not_restart_is_told_at_once),
		T(what_cannot_be_executed_is_not_tried_again),
		T(who_keeps_a_lease_is_on_disk_before_the_start),
		T(what_a_node_cannot_tell_of_is_not_taken_for_gone),
		T(what_became_another_users_lives_and_no_attempt_starts_beside_it),
		T(what_waits_to_die_holds_up_no_attempt_elsewhere),
		T(nothing_starts_while_leases_cannot_be_stored),
		T(a_node_that_was_told_to_stop_its_jobs_ends_them_for_good),
		T(no_attempt_begins_before_the_node_with_the_command_is_back),
		T(a_job_whose_command_was_taken_out_of_the_cluster_ends),
		T(a_copy_will_do_when_the_node_with_the_command_is_lost),
		T(who_claims_a_copy_without_the_hash_is_not_sent_the_jobs_nodes),
		T(who_keeps_no_copies_gets_no_attempt_that_depends_on_one),
		T(a_copy_outlives_the_removal_of_the_node_with_the_command),
		T(copies_are_told_anew_after_a_restart_of_the_coordinator),
		T(a_spare_gets_a_copy_ahead_of_time_and_gives_it_back),
		T(who_cannot_fetch_the_command_is_not_left_out),
		T(a_kill_between_two_attempts_is_the_end),
		T(an_attempt_that_began_in_vain_may_be_killed_when_the_next_one_is_not_stored),
		T(a_spare_is_held_and_takes_the_place_of_the_lost_one),
		T(a_restarted_coordinator_goes_on_between_two_attempts),
		T(the_time_of_an_attempt_counts_though_the_coordinator_restarts_while_it_ends),
		T(the_time_of_an_attempt_counts_though_it_ended_while_there_was_no_coordinator),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
