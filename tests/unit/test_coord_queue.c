/* test_coord_queue.c - who waits for GPUs, who may pass, and what restarts and removed nodes do to those who wait */
#include "gpu_world.h"

#define TEST(name) static void name(void **state)

/* ---- the queue ------------------------------------------------------------------------ */

TEST(a_large_job_is_not_overtaken_by_small_ones)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);

	want(w, a, 1, NULL, 1, false);
	run(w, a);
	want(w, a, 1, NULL, 2, false); /* waits for both */
	assert_string_equal(given(w, a), "none");
	want(w, a, 1, NULL, 1, false); /* GPU 1 is free, but ... */
	assert_string_equal(given(w, a), "none");
	want(w, a, 1, NULL, 0, false); /* no GPU, no queue */
	assert_string_equal(given(w, a), "");
	forget_sent(w);
	w->job = 1;
	end_well(w, a);
	assert_string_equal(given(w, a), "0,1");
	assert_non_null(strstr(why(w, 3), "queued: "));
}

/* A limit of 600 s: 10 s of grace and 15 s until its GPU is seen to be free come
 * after; 30 s to prepare before. */
TEST(what_surely_ends_before_the_first_could_start_runs_in_the_meantime)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 4);

	want_for(w, a, 1, 600);
	run(w, a);
	want_for(w, a, 4, 0); /* waits for all */
	assert_int_equal(starts_in_s(w, 2), 625);
	want_for(w, a, 1, 571); /* ends after 30 + 571 + 25 s: too late */
	assert_string_equal(given(w, a), "none");
	assert_non_null(strstr(why(w, 3), "an earlier job waits for gpu01 and may start before this one ends"));
	assert_int_equal(starts_in_s(w, 3), -1);
	want_for(w, a, 1, 570);
	assert_string_equal(given(w, a), "1");
	want_for(w, a, 1, 0); /* nobody knows when that would end */
	assert_string_equal(given(w, a), "none");
	assert_int_equal(starts_in_s(w, 2), 625);
}

TEST(what_has_no_limit_gives_no_promise_and_nobody_passes)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);

	want_for(w, a, 1, 0);
	run(w, a);
	want_for(w, a, 2, 0);
	assert_int_equal(starts_in_s(w, 2), -1);
	want_for(w, a, 1, 1);
	assert_string_equal(given(w, a), "none");
}

TEST(a_limit_that_runs_lets_ever_shorter_jobs_pass)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);

	want_for(w, a, 1, 100);
	run(w, a);
	want_for(w, a, 2, 0);
	tick_alive(w, a, 60000);
	assert_int_equal(starts_in_s(w, 2), 65);
	want_for(w, a, 1, 11); /* 30 + 11 + 25 */
	assert_string_equal(given(w, a), "none");
	want_for(w, a, 1, 10);
	assert_string_equal(given(w, a), "1");
}

TEST(who_is_being_ended_is_over_after_its_grace)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);

	want_for(w, a, 1, 0);
	run(w, a);
	want_for(w, a, 2, 0);
	kill_first(w, a);
	assert_int_equal(starts_in_s(w, 2), 25);
	tick_alive(w, a, 5000);
	assert_int_equal(starts_in_s(w, 2), 20);
}

/* The second one's start depends on how long the first one runs. */
TEST(only_the_first_in_line_is_promised_a_start)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);

	want_for(w, a, 2, 100);
	run(w, a);
	want_for(w, a, 2, 0);
	want_for(w, a, 2, 50);
	assert_int_equal(starts_in_s(w, 2), 125);
	assert_int_equal(starts_in_s(w, 3), -1);
}

/* 30 s; later it counts as gone for now. */
TEST(a_node_whose_agent_is_restarted_costs_nobody_his_place)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2), b = box(w, "gpu02", 2);

	want(w, a, 1, "gpu02", 1, false);
	run(w, b);
	want(w, a, 2, NULL, 2, false);
	link_down(w, b);
	tick_alive(w, a, 1000);
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "none");
	b = box_holding(w, "gpu02", 1); /* back; its probe has not spoken */
	assert_string_equal(given(w, a), "none");
	read_gpus(w, b, &(struct box){ .gpus = 2, .stranger = 0, .of_job = 1 });
	assert_string_equal(given(w, a), "none");
	link_down(w, b);
	tick_alive(w, a, 28000);
	assert_string_equal(given(w, a), "none");
	tick_alive(w, a, 3000);
	store(w);
	assert_string_equal(given(w, a), "0");
}

TEST(a_job_is_not_overtaken_while_it_is_being_stored)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2), b = silent_box(w, "gpu02");

	want(w, a, 1, "gpu01", 1, false);
	run(w, a);
	ask(w, a, 1, "gpu01", 2, false);
	read_gpus(w, b, &(struct box){ .broken = true, .stranger = -1 }); /* all who wait are looked at */
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "none");
}

TEST(a_job_whose_choice_cannot_be_saved_is_not_overtaken)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");

	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = 0 });
	want(w, a, 1, NULL, 2, false);
	w->disk_full = true;
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1 });
	store(w);
	w->disk_full = false;
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "none");
	tick(w, 2000);
	store(w);
	assert_string_equal(given(w, a), "0,1");
}

/* The disk fails what it was asked for first, and has not done the rest yet. */
static void fail_first(struct world *w)
{
	struct coord_event ev = { .type = CEV_STORED, .ticket = w->queue[0].ticket, .error = -28 };

	for (size_t k = 0; k < w->queue[0].n; k++)
		free(w->queue[0].rows[k].json);
	memmove(&w->queue[0], &w->queue[1], --w->n_queue * sizeof(w->queue[0]));
	feed(w, &ev);
}

TEST(what_a_job_had_that_was_not_saved_goes_to_who_waits)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1), b = silent_box(w, "gpu02");

	read_gpus(w, b, &(struct box){ .broken = true, .stranger = -1 });
	want(w, a, 2, "gpu[01-02]", 1, false);
	ask(w, a, 1, "gpu01", 1, false);
	read_gpus(w, b, &(struct box){ .gpus = 1, .stranger = -1 });
	assert_non_null(strstr(why(w, 1), "gpu01 runs job 2"));
	fail_first(w);
	store(w);
	assert_string_equal(given(w, a), "0");
	assert_string_equal(given(w, b), "0");
}

TEST(who_waits_is_asked_again_when_there_are_more_GPUs_but_no_more_free_ones)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");

	want(w, a, 1, "gpu01", 2, false);
	read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = -1, .uuids = "B" });
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = 1, .uuids = "BC" });
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "none");
}

TEST(a_job_in_a_nodes_first_word_after_a_silence_does_not_overtake_those_who_waited_for_it)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1), b = box(w, "gpu02", 1);

	tick(w, 5000);
	want(w, a, 2, "gpu[01-02]", 1, false);
	assert_string_equal(given(w, a), "none");
	want(w, b, 1, "gpu02", 1, false);
	assert_string_equal(given(w, a), "0");
	assert_non_null(strstr(why(w, 1), "preparing: "));
	assert_non_null(strstr(why(w, 2), "queued: "));
}

TEST(who_waits_for_one_node_holds_up_nobody_elsewhere)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1), b = box(w, "gpu02", 1);

	want(w, a, 1, "gpu01", 1, false);
	run(w, a);
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "none");
	want(w, a, 1, "gpu02", 1, false);
	assert_string_equal(given(w, b), "0");
}

TEST(immediate_is_refused_with_the_reason)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);
	static const uint8_t hash[32] = { 1 };
	struct msg m;

	want(w, a, 1, NULL, 1, false);
	run(w, a);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = "now";
	m.u.submit.command = "train";
	m.u.submit.hosts = "gpu01";
	m.u.submit.spec_hash = (struct bytes){ hash, 32 };
	m.u.submit.spec_size = 10;
	m.u.submit.immediate = true;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	MSG_SET(&m.u.submit, submit, gpus_per_node, 2);
	say(w, a, &m);
	assert_true(last_to(w, a, MSG_refused, &m));
	assert_string_equal(m.u.refused.code, "busy");
	assert_non_null(strstr(m.u.refused.text, "not now: 1 node with 2 free GPUs asked for"));
	assert_non_null(strstr(m.u.refused.text, "gpu01 runs job 1 of li"));
	msg_finish(&m);
	/* who was refused waits for nothing: the other GPU is free */
	forget_sent(w);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 10;
	m.u.submit.client_id = "now too";
	m.u.submit.command = "train";
	m.u.submit.spec_hash = (struct bytes){ hash, 32 };
	m.u.submit.spec_size = 10;
	m.u.submit.immediate = true;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	MSG_SET(&m.u.submit, submit, gpus_per_node, 1);
	say(w, a, &m);
	store(w);
	assert_string_equal(given(w, a), "1");
}

/* ---- restarts -------------------------------------------------------------------- */

/* Two nodes and a spare, one GPU on each; the job may restart. */
static void ask_spare(struct world *w, uint64_t link, const char *hosts)
{
	static const uint8_t hash[32] = { 1 };
	struct msg m;

	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = "spare";
	m.u.submit.nnodes = 2;
	m.u.submit.spares = 1;
	m.u.submit.max_restarts = 3;
	m.u.submit.hosts = hosts;
	m.u.submit.command = "train";
	m.u.submit.spec_hash = (struct bytes){ hash, 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	m.u.submit.user = "li";
	MSG_SET(&m.u.submit, submit, gpus_per_node, 1);
	MSG_SET(&m.u.submit, submit, grace_ms, 2000);
	forget_sent(w);
	say(w, link, &m);
	store(w);
}

static void drain(struct world *w, const char *node)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_node_drain);
	m.u.node_drain.rid = 3;
	m.u.node_drain.nodes = node;
	say(w, l, &m);
	store(w);
}

TEST(a_node_that_never_had_as_many_is_not_waited_for)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2), b = box(w, "gpu02", 1);

	box(w, "gpu03", 2);
	drain(w, "gpu03");
	want(w, a, 2, NULL, 2, false);
	link_down(w, b);
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "0");
}

TEST(who_has_not_enough_nodes_for_its_spares_keeps_none_from_others)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);

	box(w, "gpu02", 1);
	box(w, "gpu03", 1);
	drain(w, "gpu03");
	ask_spare(w, a, NULL);
	assert_non_null(strstr(why(w, 1), "queued: waiting for 3 nodes"));
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "0");
}

/* One GPU on each of two nodes. */
static void run_two(struct world *w, uint64_t a, uint64_t b)
{
	prepared(w, a, true);
	prepared(w, b, true);
	proved(w, b, true, true);
	proved(w, a, false, true);
	store(w);
	ranks(w, a, 0, "running", 0);
	ranks(w, b, 1, "running", 0);
}

static void killed_there(struct world *w, uint64_t link, uint32_t rank)
{
	ended(w, link, rank, "killed", 0, true);
	store(w);
	store(w);
}

TEST(what_a_lost_node_held_is_free_when_it_says_the_end_after_the_jobs)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1), b = box(w, "gpu02", 1), d = box(w, "gpu03", 1);

	want(w, a, 2, "gpu[01-02]", 1, false);
	run_two(w, a, b);
	link_down(w, b);
	for (int i = 0; i < 122; i++) {
		tick_alive(w, a, 1000);
		tick_alive(w, d, 1);
		store(w);
	}
	b = box_holding(w, "gpu02", 1);
	assert_true(was_told(w, b, MSG_end));
	read_gpus(w, b, &(struct box){ .gpus = 1, .stranger = 0, .of_job = 1 });
	killed_there(w, a, 0);
	assert_non_null(strstr(why(w, 1), "lost: "));
	want(w, a, 1, "gpu02", 1, false);
	tick(w, 1000);
	read_gpus(w, b, &(struct box){ .gpus = 1, .stranger = -1 });
	store(w);
	assert_string_equal(given(w, b), "none");
	w->job = 1;
	killed_there(w, b, 1);
	tick(w, 1000);
	read_gpus(w, b, &(struct box){ .gpus = 1, .stranger = -1 });
	store(w);
	assert_string_equal(given(w, b), "0");
}

/* An agent that speaks of ever more attempts of an old job; as many as it may hold are noted. */
TEST(what_a_node_says_of_old_attempts_does_not_fill_the_memory)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);

	want(w, a, 1, NULL, 1, false);
	run(w, a);
	end_well(w, a);
	for (uint32_t k = 0; k < 200; k++) {
		struct msg m;

		msg_init(&m, MSG_ranks);
		m.u.ranks.job = 1;
		m.u.ranks.attempt = 100 + k;
		say(w, a, &m);
	}
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "none");
	for (uint32_t k = 0; k < 128; k++) {
		struct msg m;

		msg_init(&m, MSG_ended);
		m.u.ended.job = 1;
		m.u.ended.attempt = 100 + k;
		say(w, a, &m);
		store(w);
		if (k == 126)
			assert_string_equal(given(w, a), "none");
	}
	assert_string_equal(given(w, a), "0");
}

/* Job 1 has got the GPU after job 2. */
TEST(what_an_older_job_holds_is_not_taken_for_left_by_a_younger_one_after_a_restart)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1), b = silent_box(w, "gpu02");

	read_gpus(w, b, &(struct box){ .broken = true, .stranger = -1 });
	want(w, a, 2, "gpu[01-02]", 1, false);
	assert_string_equal(given(w, a), "none");
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "0");
	run(w, a);
	last_read = (struct box){ .gpus = 1, .stranger = -1 };
	end_well(w, a);
	w->job = 1;
	read_gpus(w, b, &(struct box){ .gpus = 1, .stranger = -1 });
	store(w);
	run_two(w, a, b);
	store(w);
	restart(w);
	a = box_holding(w, "gpu01", 1);
	for (int i = 0; i < 40; i++) {
		read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = 0, .of_job = 1 });
		tick_alive(w, a, 1000);
		store(w);
	}
	assert_null(strstr(w->log, "is kept back"));
}

static void remove_node(struct world *w, const char *node)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 3;
	m.u.node_remove.node = node;
	MSG_SET(&m.u.node_remove, node_remove, force, true);
	say(w, l, &m);
	store(w);
	store(w);
}

TEST(who_waits_for_a_node_that_is_removed_is_not_ended)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);

	silent_box(w, "gpu02");
	want(w, a, 2, "gpu[01-02]", 1, false);
	assert_non_null(strstr(why(w, 1), "queued: "));
	remove_node(w, "gpu02");
	assert_non_null(strstr(why(w, 1), "queued: waiting for 2 nodes with 1 free GPU, 1 of 1 can be used: "
					  "others that it may use have left the cluster"));
}

TEST(a_job_goes_on_without_a_node_of_its_host_list_that_was_removed)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1), b = box(w, "gpu02", 1), d = box(w, "gpu03", 1);

	ask_spare(w, a, "gpu[01-03]");
	w->job = 1;
	run_two(w, a, b);
	link_down(w, b);
	for (int i = 0; i < 122; i++) {
		tick_alive(w, a, 1000);
		tick_alive(w, d, 1);
		store(w);
	}
	killed_there(w, a, 0);
	remove_node(w, "gpu02");
	for (int i = 0; i < 100 && strcmp(given(w, d), "0") != 0; i++) {
		tick_alive(w, a, 1000);
		tick_alive(w, d, 1);
		store(w);
		read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = -1 });
		store(w);
	}
	assert_string_equal(given(w, d), "0");
	assert_non_null(strstr(why(w, 1), "preparing: "));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_large_job_is_not_overtaken_by_small_ones),
		T(what_surely_ends_before_the_first_could_start_runs_in_the_meantime),
		T(what_has_no_limit_gives_no_promise_and_nobody_passes),
		T(a_limit_that_runs_lets_ever_shorter_jobs_pass),
		T(who_is_being_ended_is_over_after_its_grace),
		T(only_the_first_in_line_is_promised_a_start),
		T(a_node_whose_agent_is_restarted_costs_nobody_his_place),
		T(a_node_that_never_had_as_many_is_not_waited_for),
		T(a_job_is_not_overtaken_while_it_is_being_stored),
		T(a_job_whose_choice_cannot_be_saved_is_not_overtaken),
		T(what_a_job_had_that_was_not_saved_goes_to_who_waits),
		T(who_waits_is_asked_again_when_there_are_more_GPUs_but_no_more_free_ones),
		T(a_job_in_a_nodes_first_word_after_a_silence_does_not_overtake_those_who_waited_for_it),
		T(who_waits_for_one_node_holds_up_nobody_elsewhere),
		T(immediate_is_refused_with_the_reason),
		T(who_has_not_enough_nodes_for_its_spares_keeps_none_from_others),
		T(what_a_lost_node_held_is_free_when_it_says_the_end_after_the_jobs),
		T(what_a_node_says_of_old_attempts_does_not_fill_the_memory),
		T(what_an_older_job_holds_is_not_taken_for_left_by_a_younger_one_after_a_restart),
		T(who_waits_for_a_node_that_is_removed_is_not_ended),
		T(a_job_goes_on_without_a_node_of_its_host_list_that_was_removed),
	};

	return cmocka_run_group_tests_name("coord queue", tests, NULL, NULL);
}
