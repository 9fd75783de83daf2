/* test_coord_again.c - what a coordinator that was started again knows, and who waits */
#include "coord_jobs.h"

/* ---- restart of the coordinator ---------------------------------------------------- */

static void a_running_job_survives_the_coordinator(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	assert_job(w, "recovering", -1);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ended", "exited", 1, 7);
	store(w);
	assert_true(was_told(w, a, MSG_end));
	ended(w, a, 0, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 7);
	assert_true(was_told(w, b, MSG_forget));
}

static void a_part_that_was_ended_while_the_coordinator_was_away_ends_the_job(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	w->ours = true; /* its agent was told to stop; the rank exits well on TERM */
	a = node_up_held(w, "gpu01", "boot-1", 1, "ended", "exited", 0, 0);
	w->ours = false;
	b = node_up_held(w, "gpu02", "boot-1", 1, "running", "running", 1, 0);
	store(w);
	assert_true(was_told(w, b, MSG_end));
	ended(w, b, 1, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 143);
}

/* One node stands ready, for its start was lost; the other one could not tell yet, and then all was over there. */
static void a_part_that_is_over_when_its_shim_speaks_leaves_no_job_recovering_for_ever(void **state)
{
	struct rec_rank_state r = { .rank = 0, .state = "exited", .start_wall_ms = 777 };
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true;
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	a = node_up_held(w, "gpu01", "boot-1", 1, "starting", "waiting", 0, 0);
	w->no_master = false;
	assert_job(w, "recovering", -1);
	MSG_SET(&r, rank_state, code, 0);
	msg_init(&m, MSG_ended);
	m.u.ended.job = w->job;
	m.u.ended.attempt = 1;
	m.u.ended.ranks = &r;
	m.u.ended.n_ranks = 1;
	say(w, a, &m);
	store(w);
	forget_sent(w);
	node_up_held(w, "gpu01", "boot-1", 1, "ended", "exited", 0, 0);
	store(w);
	assert_true(was_told(w, b, MSG_start));
	ranks(w, b, 1, "running", 0);
	ended(w, b, 1, "exited", 0, false);
	store(w);
	assert_job(w, "done", 0);
}

/* The row with 'running' never came to the disk, and the shims were stopped until their ranks' end:
 * only that tells when they were started. */
static void a_job_of_which_only_the_end_is_heard_was_started_all_the_same(void **state)
{
	struct world *w = *state;
	struct rec_rank_state r = { .state = "exited", .start_wall_ms = 777 };
	struct rec_job_info *i;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true; /* their agents have not heard their shims */
	a = node_up_held(w, "gpu01", "boot-1", 1, "starting", "waiting", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "starting", "waiting", 1, 0);
	w->no_master = false;
	assert_job(w, "recovering", -1);
	MSG_SET(&r, rank_state, code, 0);
	for (r.rank = 0; r.rank < 2; r.rank++) {
		msg_init(&m, MSG_ended);
		m.u.ended.job = w->job;
		m.u.ended.attempt = 1;
		m.u.ended.ranks = &r;
		m.u.ended.n_ranks = 1;
		say(w, r.rank == 0 ? a : b, &m);
	}
	store(w);
	i = job_one(w, &m);
	assert_non_null(i);
	assert_string_equal(i->state, "done");
	assert_int_equal(i->start_wall_ms, 777);
	msg_finish(&m);
}

static void a_rank_that_exits_well_because_its_node_stops_has_not_done_its_work(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	ended(w, a, 0, "exited", 0, true);
	store(w);
	assert_true(was_told(w, b, MSG_end));
	ended(w, b, 1, "exited", 0, true);
	store(w);
	assert_job(w, "failed", 143);
}

static void a_half_started_job_is_started_everywhere_after_a_restart(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	assert_true(was_told(w, b, MSG_start));
	assert_job(w, "running", -1);
}

static void a_node_whose_shim_has_not_spoken_yet_is_waited_for(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "preparing", "waiting", 1, 0);
	store(w);
	assert_false(was_told(w, a, MSG_end));
	assert_job(w, "running", -1);
	forget_sent(w);
	link_down(w, b);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	assert_true(was_told(w, b, MSG_start));
}

static void what_was_taken_for_started_and_stands_ready_is_started(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true;
	(void)node_up_held(w, "gpu02", "boot-1", 1, "starting", "waiting", 1, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	w->no_master = false;
	(void)node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	store(w);
	assert_job(w, "running", -1);
	assert_true(was_told(w, b, MSG_start));
}

/* Its agent was told to start, and knows the address; its shim has found the order too old. */
static void what_was_told_as_starting_and_stands_ready_is_started(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	(void)node_up_held(w, "gpu02", "boot-1", 1, "starting", "waiting", 1, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	(void)node_up_held(w, "gpu01", "boot-1", 1, "ended", "exited", 0, 0);
	store(w);
	assert_job(w, "running", -1);
	assert_true(was_told(w, b, MSG_start));
}

static void a_node_that_cannot_tell_yet_whether_it_has_started_is_waited_for(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true;
	a = node_up_held(w, "gpu01", "boot-1", 1, "starting", "waiting", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	store(w);
	assert_false(was_told(w, b, MSG_end));
	assert_false(was_told(w, b, MSG_start));
	assert_job(w, "recovering", -1);
	/* The latch was taken, and it has not gone: nobody has. */
	a = node_up_held(w, "gpu01", "boot-1", 1, "ready", "waiting", 0, 0);
	assert_true(was_told(w, a, MSG_prepare));
	assert_true(was_told(w, b, MSG_prepare));
}

static void a_half_started_job_ends_when_nobody_knows_where_rank_0_listens(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true;
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	store(w);
	assert_false(was_told(w, b, MSG_start));
	assert_false(was_told(w, b, MSG_prepare));
	assert_true(was_told(w, a, MSG_end));
	assert_true(last_to(w, b, MSG_end, &m));
	assert_non_null(strstr(m.u.end.why, "where its rank 0 listens"));
	msg_finish(&m);
}

static void a_job_nobody_has_started_is_prepared_again(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");

	submit(w, a, "c1", 2);
	store(w);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "ready", "waiting", 0, 0);
	assert_false(was_told(w, a, MSG_prepare));
	b = node_up(w, "gpu02");
	assert_true(was_told(w, a, MSG_prepare));
	assert_true(was_told(w, b, MSG_prepare));
	assert_false(was_told(w, a, MSG_start));
}

static void a_job_of_another_lineage_is_left_alone(void **state)
{
	struct world *w = *state;
	uint64_t l = link_up(w, WHO_NODE, "gpu01", "agent");
	struct rec_addr addr = { .ip = "10.0.0.1" };
	struct rec_held h = { .job = 1, .attempt = 1, .phase = "running" };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = "gpu01";
	m.u.node_register.boot_id = "boot-1";
	m.u.node_register.peer_port = 1;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	m.u.node_register.held = &h;
	m.u.node_register.n_held = 1;
	MSG_SET(&m.u.node_register, node_register, lineage, 43);
	say(w, l, &m);
	assert_false(was_told(w, l, MSG_end));
	assert_false(was_told(w, l, MSG_forget));
}

/* Found by simulation; tests/sim/planted/left-ready.patch plants it again. */
static void what_is_alive_at_a_place_that_is_over_is_ended_and_then_forgotten(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");

	submit(w, a, "c1", 2);
	store(w);
	prepared(w, a, true);
	prepared(w, b, false);
	store(w);
	ended(w, b, 1, "waiting", 0, false);
	link_down(w, b);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	assert_true(was_told(w, b, MSG_end));
	assert_false(was_told(w, b, MSG_start));
	forget_sent(w);
	ended(w, b, 1, "waiting", 0, false);
	assert_false(was_told(w, b, MSG_forget));
	ended(w, a, 0, "waiting", 0, false);
	store(w);
	assert_true(was_told(w, b, MSG_forget));
	assert_job(w, "failed", 127);
}

static void a_stored_job_without_processes_makes_no_sense(void **state)
{
	struct world *w = *state;
	char *digit, *json = NULL;
	struct msg m;
	struct err e;

	submit(w, node_up(w, "gpu01"), "c1", 1);
	store(w);
	for (size_t i = 0; i < w->n_rows; i++)
		if (w->rows[i].table == TABLE_JOB)
			json = w->rows[i].json;
	assert_non_null(json);
	digit = strstr(json, "\"procs_per_node\":1") + strlen("\"procs_per_node\":");
	*digit = '0';
	coord_destroy(w->c);
	begin(w);
	assert_int_equal(msg_decode(json, strlen(json), &m, &e), 0);
	assert_int_equal(coord_load(w->c, &m, &e), -EINVAL);
	assert_string_equal(e.text, "stored job 1 makes no sense");
	msg_finish(&m);
}

/* ---- waiting ----------------------------------------------------------------------------- */

static void a_job_waits_for_nodes_and_says_so(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct rec_job_info *i;
	struct msg m;

	submit(w, a, "c1", 3);
	store(w);
	i = job_one(w, &m);
	assert_string_equal(i->state, "queued");
	assert_non_null(strstr(i->why, "waiting for 3 nodes"));
	msg_finish(&m);
	node_up(w, "gpu02");
	assert_false(was_told(w, a, MSG_prepare));
	node_up(w, "gpu03");
	assert_false(was_told(w, a, MSG_prepare)); /* the choice is not on disk yet */
	store(w);
	assert_true(was_told(w, a, MSG_prepare));
}

static void nothing_is_prepared_before_the_choice_of_nodes_is_on_disk(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b;

	submit_as(w, a, "c1", 2, "gpu[01-02]", 1000);
	store(w);
	assert_job(w, "queued", -1);
	b = node_up(w, "gpu02");
	link_down(w, b);
	b = node_up(w, "gpu02"); /* a disk is slower than a network */
	assert_false(was_told(w, a, MSG_prepare));
	assert_false(was_told(w, b, MSG_prepare));
	store(w);
	assert_true(was_told(w, a, MSG_prepare));
	assert_true(was_told(w, b, MSG_prepare));
}

static void more_nodes_than_there_are_is_refused(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");

	submit(w, a, "c1", 4);
	assert_true(was_told(w, a, MSG_refused));
	submit_as(w, a, "c2", 0, "gpu99", 1000);
	store(w);
	assert_false(was_told(w, a, MSG_submitted));
}

static void a_node_that_does_not_get_ready_is_named(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");
	struct msg m;

	submit(w, a, "c1", 2);
	store(w);
	prepared(w, a, true);
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	for (int i = 0; i < 31; i++) {
		tick(w, 1000);
		say(w, a, &m);
		say(w, b, &m);
	}
	store(w);
	assert_true(last_to(w, b, MSG_end, &m));
	assert_non_null(strstr(m.u.end.why, "gpu02"));
	assert_null(strstr(m.u.end.why, "gpu01"));
	msg_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_running_job_survives_the_coordinator),
		T(a_part_that_was_ended_while_the_coordinator_was_away_ends_the_job),
		T(a_part_that_is_over_when_its_shim_speaks_leaves_no_job_recovering_for_ever),
		T(a_job_of_which_only_the_end_is_heard_was_started_all_the_same),
		T(a_rank_that_exits_well_because_its_node_stops_has_not_done_its_work),
		T(a_half_started_job_is_started_everywhere_after_a_restart),
		T(a_node_whose_shim_has_not_spoken_yet_is_waited_for),
		T(what_was_taken_for_started_and_stands_ready_is_started),
		T(what_was_told_as_starting_and_stands_ready_is_started),
		T(a_node_that_cannot_tell_yet_whether_it_has_started_is_waited_for),
		T(a_half_started_job_ends_when_nobody_knows_where_rank_0_listens),
		T(a_job_nobody_has_started_is_prepared_again),
		T(a_job_of_another_lineage_is_left_alone),
		T(what_is_alive_at_a_place_that_is_over_is_ended_and_then_forgotten),
		T(a_stored_job_without_processes_makes_no_sense),
		T(a_job_waits_for_nodes_and_says_so),
		T(nothing_is_prepared_before_the_choice_of_nodes_is_on_disk),
		T(more_nodes_than_there_are_is_refused),
		T(a_node_that_does_not_get_ready_is_named),
	};

	return cmocka_run_group_tests_name("coord again", tests, NULL, NULL);
}
