/* test_coord_gpus.c - who is given which GPUs of which nodes, by what the coordinator sends and shows */
#include "gpu_world.h"

#define TEST(name) static void name(void **state)

/* ---- GPUs --------------------------------------------------------------------------- */

TEST(a_job_gets_all_GPUs_of_its_nodes_by_default)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 8), b = box(w, "gpu02", 8);
	struct rec_job_info *i;
	struct msg m;

	want(w, a, 2, NULL, -1, false);
	assert_string_equal(given(w, a), "0,1,2,3,4,5,6,7");
	assert_string_equal(given(w, b), "0,1,2,3,4,5,6,7");
	i = job_one(w, &m);
	assert_int_equal(i->n_gpus, 2);
	assert_string_equal(i->gpus[1], "0,1,2,3,4,5,6,7");
	msg_finish(&m);
}

TEST(GPUs_belong_to_one_job_at_a_time_and_the_third_job_waits)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);

	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "0");
	run(w, a);
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "1");
	run(w, a);
	w->wall_ms += 3 * 3600000;
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "none");
	assert_string_equal(why(w, 3), "queued: waiting for 1 node with 1 free GPU, 0 of 3 can be used: gpu01 "
				       "runs job 1 of li since 3 h; gpu02 is down; gpu03 is down");
	w->job = 2;
	end_well(w, a);
	assert_string_equal(given(w, a), "1");
}

TEST(a_driver_that_hangs_gives_no_GPUs_and_the_node_shows_no_count)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);
	struct rec_node_info *n;
	struct msg m;

	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1, .stuck = true });
	want(w, a, 1, NULL, 1, true);
	assert_string_equal(given(w, a), "none");
	n = show(w, "gpu01", &m);
	assert_false(MSG_HAS(n, node_info, gpus));
	assert_string_equal(n->state, "degraded");
	msg_finish(&m);
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1 });
	store(w);
	assert_string_equal(given(w, a), "0");
}

TEST(a_GPU_whose_processes_are_not_known_is_given_to_those_who_want_busy_ones)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);

	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1, .unasked = 1 });
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "1");
	run(w, a);
	want(w, a, 1, NULL, 1, true);
	assert_string_equal(given(w, a), "0");
	end_well(w, a);
	w->job = 1;
	end_well(w, a);
	want(w, a, 1, NULL, 2, false);
	assert_non_null(strstr(why(w, 3), "gpu01 are used by processes of no job, or it is not known by which"));
}

TEST(none_are_asked_for_none_are_given_and_the_node_is_shared)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);

	want(w, a, 1, NULL, -1, false);
	run(w, a);
	want(w, a, 1, NULL, 0, false);
	assert_string_equal(given(w, a), "");
}

/* The driver may be there again when the ranks start. */
TEST(where_there_were_GPUs_they_are_hidden_while_no_driver_is_there)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");

	read_gpus(w, a, &(struct box){ .absent = true, .stranger = -1 });
	want(w, a, 1, NULL, 0, false);
	assert_string_equal(given(w, a), "-");
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1 });
	read_gpus(w, a, &(struct box){ .absent = true, .stranger = -1 });
	want(w, a, 1, NULL, 0, false);
	assert_string_equal(given(w, a), "");
	want(w, a, 1, NULL, -1, false);
	assert_string_equal(given(w, a), "");
}

TEST(a_node_without_GPUs_is_shared_and_GPUs_are_not_spoken_of)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");

	store(w);
	for (int k = 0; k < 2; k++) {
		want(w, a, 1, NULL, -1, false);
		assert_string_equal(given(w, a), "-");
		run(w, a);
	}
}

TEST(more_GPUs_than_any_node_has_is_refused_at_once)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);
	struct msg m;

	box(w, "gpu02", 4);
	box(w, "gpu03", 4);
	want(w, a, 3, NULL, 4, false);
	assert_true(last_to(w, a, MSG_refused, &m));
	assert_non_null(strstr(m.u.refused.text, "3 nodes with 4 GPUs each were asked for, but this "
						 "cluster has 2 of that size"));
	msg_finish(&m);
	want(w, a, 1, NULL, 8, false);
	assert_true(last_to(w, a, MSG_refused, &m));
	assert_non_null(strstr(m.u.refused.text, "1 node with 8 GPUs was asked for, but this cluster has 0 of that size"));
	msg_finish(&m);
}

TEST(what_is_not_known_is_not_given_out)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");
	char s[32];

	want(w, a, 1, "gpu01", -1, false);
	assert_string_equal(given(w, a), "none");
	assert_non_null(strstr(why(w, 1), "the GPUs of gpu01 are not known yet"));
	read_gpus(w, a, &(struct box){ .broken = true });
	assert_non_null(strstr(why(w, 1), "the GPUs of gpu01 are not known"));
	assert_string_equal(state_of(w, "gpu01", s), "degraded");
	forget_sent(w);
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1 });
	store(w);
	assert_string_equal(given(w, a), "0,1");
	want(w, a, 1, "gpu01", 0, false); /* who wants none does not mind */
	assert_string_equal(given(w, a), "");
}

TEST(a_strangers_GPU_is_left_out_unless_allowed)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");

	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = 0 });
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "1");
	run(w, a);
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "none");
	want(w, a, 1, NULL, 1, true); /* behind the one that waits */
	assert_string_equal(given(w, a), "none");
	assert_non_null(strstr(why(w, 3), "an earlier job waits for gpu01"));
}

TEST(a_reading_older_than_a_jobs_end_says_nothing_of_its_GPU)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);

	want(w, a, 1, NULL, 1, false);
	run(w, a);
	read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = 0, .of_job = 1 });
	end_unseen(w, a);
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "none"); /* its memory may not be back */
	assert_non_null(strstr(why(w, 2), "the memory of GPUs of gpu01 is not back since job 1 has ended"));
	tick(w, 1);
	read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = -1 });
	store(w);
	assert_string_equal(given(w, a), "0");
}

TEST(the_GPU_of_a_worker_below_a_launcher_is_named)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);
	struct rec_worker k = { .rank = 1, .local_rank = 1, .pid = 99, .state = "killed", .sig = 6 };
	struct rec_rank_state r = { .state = "running", .pid = 50, .workers = &k, .n_workers = 1, .workers_found = 2 };
	struct msg m;

	want(w, a, 1, NULL, 2, false);
	run(w, a);
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = 1, .of_job = 1 }); /* pid 99 */
	msg_init(&m, MSG_ranks);
	m.u.ranks.job = m.u.ranks.attempt = 1;
	m.u.ranks.ranks = &r;
	m.u.ranks.n_ranks = 1;
	say(w, a, &m);
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1 }); /* it is gone; the launcher gives up later */
	r.state = "exited";
	MSG_SET(&r, rank_state, code, 1);
	say(w, a, &m);
	store(w);
	assert_non_null(strstr(why(w, 1), "rank 1 (gpu01, GPU 1, below the launcher, pid 99) was killed by signal 6"));
}

TEST(what_a_lost_job_left_running_is_in_use)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);

	want(w, a, 1, NULL, 1, false);
	run(w, a);
	link_down(w, a);
	tick(w, 121000); /* given up, not proved dead */
	store(w);
	store(w);
	a = silent_box(w, "gpu01");
	read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = 0, .of_job = 1 });
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "none");
	tick(w, 1);
	read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = -1 });
	store(w);
	assert_string_equal(given(w, a), "0");
}

/* Its only node is not heard any more; that this is its end is not on disk yet. */
static void given_up(struct world *w, uint64_t node)
{
	link_down(w, node);
	tick(w, 119000);
	store(w);
	tick(w, 2000);
	assert_true(w->n_queue > 0);
	assert_non_null(strstr(w->queue[w->n_queue - 1].rows[0].json, "\"state\":\"lost\""));
}

/* Its last word is older than the job's end on disk, and none other comes. */
TEST(a_node_that_is_back_while_its_lost_job_is_saved_has_its_GPUs_again)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);

	want(w, a, 1, NULL, 1, false);
	run(w, a);
	given_up(w, a);
	box_asking(w, "gpu01", "boot-of-gpu01", 0, &a);
	store(w);
	tick(w, 1);
	read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = -1 });
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "0");
}

TEST(what_lives_on_while_its_lost_job_is_saved_keeps_its_GPUs)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);

	want(w, a, 1, NULL, 1, false);
	run(w, a);
	given_up(w, a);
	box_asking(w, "gpu01", "boot-of-gpu01", 1, &a);
	store(w);
	tick(w, 1);
	read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = -1 });
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "none");
}

TEST(a_job_that_was_started_before_GPUs_were_counted_keeps_what_it_uses)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");

	store(w);
	want(w, a, 1, NULL, -1, false);
	run(w, a);
	link_down(w, a);
	a = box_of(w, "gpu01", "boot-1", 1); /* the agent was upgraded */
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = 0, .of_job = 1 });
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "1");
}

TEST(one_bad_reading_ends_no_job_that_was_accepted)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 4);

	want(w, a, 1, NULL, 4, false);
	run(w, a);
	want(w, a, 1, NULL, 4, false);
	read_gpus(w, a, &(struct box){ .gpus = 4, .unreadable = 3, .stranger = -1 });
	store(w);
	assert_non_null(strstr(why(w, 2), "queued: "));
	read_gpus(w, a, &(struct box){ .absent = true }); /* the library is being exchanged */
	store(w);
	want(w, a, 1, "gpu01", -1, false);
	assert_string_equal(given(w, a), "none"); /* all are held: it must not see them */
	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1 });
	forget_sent(w);
	w->job = 1;
	end_well(w, a);
	assert_string_equal(given(w, a), "0,1,2,3");
}

TEST(a_default_job_prefers_nodes_with_GPUs)
{
	struct world *w = *state;
	uint64_t head = node_up(w, "gpu01"), b = box(w, "gpu02", 8);

	store(w);
	want(w, head, 1, NULL, -1, false);
	assert_string_equal(given(w, b), "0,1,2,3,4,5,6,7");
	run(w, b);
	want(w, head, 1, NULL, -1, false); /* waits, and does not run where there are none */
	assert_string_equal(given(w, head), "none");
	assert_string_equal(given(w, b), "none");
	want(w, head, 1, "gpu01", -1, false);
	assert_string_equal(given(w, head), "-");
}

TEST(a_job_that_cannot_run_anyway_holds_up_nobody)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 4), b = box(w, "gpu02", 4), c = box(w, "gpu03", 4);

	link_down(w, c);
	for (int i = 0; i < 16; i++) { /* it is not back soon */
		tick_alive(w, a, 1000);
		tick_alive(w, b, 1000);
	}
	want(w, a, 3, NULL, 4, false);
	assert_string_equal(given(w, a), "none");
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given(w, a), "0");
	want(w, a, 1, "gpu02", -1, false);
	assert_string_equal(given(w, b), "0,1,2,3");
}

TEST(a_probe_that_cannot_speak_of_GPUs_does_not_mean_that_there_are_none)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");
	struct rec_source s = { .name = "probe", .text = "it ended with code 3" };
	struct msg m;

	want(w, a, 1, "gpu01", -1, false);
	assert_string_equal(given(w, a), "none");
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	say(w, a, &m);
	store(w);
	assert_string_equal(given(w, a), "none");
	assert_non_null(strstr(why(w, 1), "it ended with code 3"));
	want(w, a, 1, "gpu01", 2, false); /* waits as well; not refused for having none */
	assert_int_not_equal(w->job, 0);
	assert_string_equal(given(w, a), "none");
	want(w, a, 1, "gpu01", 0, false);
	assert_string_equal(given(w, a), "");
}

/* The agent was restarted while the probe did not work: what the last session
 * said is forgotten, and the GPUs are still there. */
TEST(a_new_session_whose_probe_fails_gives_no_GPU_twice)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 4);
	struct rec_source s = { .name = "probe", .text = "it ended with code 9" };
	struct msg m;

	link_down(w, a);
	a = silent_box(w, "gpu01");
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	say(w, a, &m);
	want(w, a, 1, NULL, -1, false);
	assert_string_equal(given(w, a), "none");
	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1 });
	store(w);
	assert_string_equal(given(w, a), "0,1,2,3");
}

static uint32_t busy(struct world *w, const char *node)
{
	struct msg m;
	uint32_t n = show(w, node, &m)->gpus_busy;

	msg_finish(&m);
	return n;
}

/* ---- names ----------------------------------------------------------------------- */

static const char *given_ids(struct world *w, uint64_t link)
{
	static char out[64];
	struct msg m;

	strcpy(out, "none");
	if (last_to(w, link, MSG_prepare, &m)) {
		snprintf(out, sizeof(out), "%s", m.u.prepare.gpu_ids != NULL ? m.u.prepare.gpu_ids : "-");
		msg_finish(&m);
	}
	return out;
}

/* The job that holds the GPU in this row of 'nodectl gpus', or 0. */
static uint64_t holder_of(struct world *w, const char *node, uint32_t row)
{
	struct msg m;
	struct rec_node_info *i = show(w, node, &m);
	uint64_t job;

	assert_true(row < i->n_gpu_list);
	job = MSG_HAS(&i->gpu_list[row], gpu, job) ? i->gpu_list[row].job : 0;
	msg_finish(&m);
	return job;
}

TEST(a_GPU_is_held_by_its_name_when_indices_shift)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");

	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1, .uuids = "ABCD" });
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given_ids(w, a), "GPU-A");
	run(w, a);
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given_ids(w, a), "GPU-B");
	run(w, a);
	read_gpus(w, a, &(struct box){ .gpus = 3, .stranger = -1, .uuids = "BCD" });
	assert_int_equal(holder_of(w, "gpu01", 0), 2);
	assert_int_equal(holder_of(w, "gpu01", 1), 0);
	assert_int_equal(busy(w, "gpu01"), 1);
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given_ids(w, a), "GPU-C");
	assert_string_equal(given(w, a), "1");
	run(w, a);
	/* it comes back: still the first job's */
	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1, .uuids = "ABCD" });
	assert_int_equal(holder_of(w, "gpu01", 0), 1);
	assert_int_equal(holder_of(w, "gpu01", 1), 2);
	assert_int_equal(holder_of(w, "gpu01", 2), 3);
	want(w, a, 1, NULL, -1, false); /* all: waits for three jobs */
	assert_string_equal(given(w, a), "none");
}

TEST(names_survive_the_coordinator)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");

	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1, .uuids = "ABCD" });
	want(w, a, 1, NULL, 2, false);
	run(w, a);
	store(w);
	restart(w);
	a = box_holding(w, "gpu01", w->job);
	read_gpus(w, a, &(struct box){ .gpus = 3, .stranger = -1, .uuids = "BCD" });
	store(w);
	assert_int_equal(holder_of(w, "gpu01", 0), 1);
	assert_int_equal(holder_of(w, "gpu01", 1), 0);
	want(w, a, 1, NULL, 2, false);
	assert_string_equal(given_ids(w, a), "GPU-C,GPU-D");
	assert_int_equal(busy(w, "gpu01"), 3);
	run(w, a);
	end_well(w, a);
	assert_int_equal(busy(w, "gpu01"), 1);
}

/* As an older coordinator stored it, and as GPUs without a UUID always are. */
TEST(what_is_held_by_index_gets_its_name_from_the_first_reading)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 4);

	want(w, a, 1, NULL, 2, false);
	assert_string_equal(given_ids(w, a), "#0,#1");
	run(w, a);
	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1, .uuids = "ABCD" });
	read_gpus(w, a, &(struct box){ .gpus = 3, .stranger = -1, .uuids = "BCD" });
	assert_int_equal(holder_of(w, "gpu01", 0), 1);
	assert_int_equal(holder_of(w, "gpu01", 1), 0);
}

TEST(a_name_that_is_none_harms_nobody)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");

	read_gpus(w, a, &(struct box){ .gpus = 3, .stranger = -1, .uuids = ",#\n" });
	want(w, a, 1, NULL, 3, false);
	assert_string_equal(given_ids(w, a), "#0,#1,#2");
}

TEST(a_virtual_node_leaves_what_its_sibling_holds_under_a_new_index)
{
	struct world *w = *state;
	uint64_t a = box_of(w, "gpu01", "boot", 0), b = box_of(w, "gpu02", "boot", 0);

	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1, .uuids = "ABCD", .odd_ones_mine = true });
	want(w, a, 1, "gpu01", -1, false);
	assert_string_equal(given_ids(w, a), "GPU-B,GPU-D");
	run(w, a);
	/* gpu02 was told 0, 2; now A is gone, and C and D have the numbers 1 and 2 */
	read_gpus(w, b, &(struct box){ .gpus = 3, .stranger = -1, .uuids = "CDB", .odd_ones_mine = true });
	want(w, b, 1, "gpu02", 1, false);
	assert_string_equal(given_ids(w, b), "none");
	assert_non_null(strstr(why(w, 2), "jobs on other nodes of its host hold GPUs of gpu02"));
	/* and when only one is left, which is nobody else's now */
	read_gpus(w, b, &(struct box){ .gpus = 1, .stranger = -1, .uuids = "B" });
	want(w, b, 1, "gpu02", 1, true);
	assert_string_equal(given_ids(w, b), "none");
}

TEST(a_held_GPU_that_loses_its_name_is_still_held)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");

	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1, .uuids = "AB" });
	want(w, a, 1, NULL, 1, false);
	run(w, a);
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1, .uuids = "?B" });
	assert_int_equal(busy(w, "gpu01"), 1);
	assert_int_equal(holder_of(w, "gpu01", 0), 1);
	want(w, a, 1, NULL, 1, false);
	assert_string_equal(given_ids(w, a), "GPU-B");
	run(w, a);
	read_gpus(w, a, &(struct box){ .gpus = 2, .stranger = -1, .uuids = "AB" });
	assert_int_equal(holder_of(w, "gpu01", 0), 1);
	assert_int_equal(holder_of(w, "gpu01", 1), 2);
}

TEST(one_job_on_two_virtual_nodes_gets_no_GPU_twice)
{
	struct world *w = *state;
	uint64_t a = box_of(w, "gpu01", "boot", 0), b = box_of(w, "gpu02", "boot", 0);

	/* gpu02 has heard that indices have shifted, gpu01 has not */
	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1, .uuids = "ABCD", .odd_ones_mine = true });
	read_gpus(w, b, &(struct box){ .gpus = 4, .stranger = -1, .uuids = "EBFD", .odd_ones_mine = true });
	want(w, a, 2, "gpu[01-02]", 2, false);
	assert_string_equal(given_ids(w, a), "none");
	assert_string_equal(why(w, 1), "queued: waiting for gpu02: GPUs of its host have just come or gone, "
				       "and not all virtual nodes there have noticed");
	want(w, a, 1, NULL, 1, false); /* it waits as others do */
	assert_string_equal(given_ids(w, a), "none");
	forget_sent(w);
	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1, .uuids = "BEDF", .odd_ones_mine = true });
	store(w);
	assert_string_equal(given_ids(w, a), "GPU-E,GPU-F");
	assert_string_equal(given_ids(w, b), "GPU-B,GPU-D");
}

TEST(a_node_with_too_much_to_show_is_shown_without_it)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01"), l;
	struct rec_source s = { .name = "nvml", .ok = true };
	struct rec_gpu_proc p[64];
	struct rec_gpu g[128];
	char ugly[65];
	struct msg m;

	memset(ugly, 1, 64);
	ugly[64] = '\0';
	memset(p, 0, sizeof(p));
	memset(g, 0, sizeof(g));
	for (uint32_t i = 0; i < 64; i++)
		p[i] = (struct rec_gpu_proc){ .pid = i + 1, .name = ugly };
	for (uint32_t i = 0; i < 128; i++)
		g[i] = (struct rec_gpu){ .index = i, .procs = p, .n_procs = 64 };
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	m.u.readings.gpus = g;
	m.u.readings.n_gpus = 128;
	say(w, a, &m);
	l = link_up(w, WHO_LOCAL, NULL, "client");
	forget_sent(w);
	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 1;
	m.u.status_get.detail = true;
	say(w, l, &m);
	for (size_t i = 0; i < w->n_sent; i++)
		assert_true(strlen(w->sent[i].text) < 900000);
	assert_true(last_to(w, l, MSG_status, &m));
	assert_int_equal(m.u.status.nodes[0].n_gpu_list, 128);
	assert_non_null(strstr(m.u.status.nodes[0].note, "more devices or processes"));
	msg_finish(&m);
}

TEST(a_session_that_registers_again_keeps_its_readings)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 2);
	struct rec_addr addr = { .ip = "10.0.0.9" };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = "gpu01";
	m.u.node_register.boot_id = "boot-1";
	m.u.node_register.incarnation = a;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	MSG_SET(&m.u.node_register, node_register, probe, true);
	say(w, a, &m);
	assert_int_equal(show(w, "gpu01", &m)->gpus, 2);
	msg_finish(&m);
}

TEST(a_status_of_many_troubled_nodes_and_ugly_jobs_comes_in_pieces_that_fit)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1), l;
	uint64_t all[] = { a, box(w, "gpu02", 1), box(w, "gpu03", 1) };
	char ugly[257];
	struct rec_port p[200];
	struct rec_source s = { .name = "sysfs", .ok = true };
	struct msg m;

	memset(ugly, 1, 256);
	ugly[256] = '\0';
	memset(p, 0, sizeof(p));
	for (int i = 0; i < 200; i++)
		p[i] = (struct rec_port){ .device = "mlx5_0", .port = (uint32_t)i, .text = ugly };
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	m.u.readings.ports = p;
	m.u.readings.n_ports = 200;
	for (int i = 0; i < 3; i++)
		say(w, all[i], &m);
	for (int i = 0; i < 60; i++)
		want(w, a, 1, "gpu02", -1, false); /* its GPUs are not known: they wait */
	l = link_up(w, WHO_LOCAL, NULL, "client");
	forget_sent(w);
	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 1;
	m.u.status_get.detail = true;
	say(w, l, &m);
	assert_true(w->n_sent >= 2);
	for (size_t i = 0; i < w->n_sent; i++)
		assert_true(strlen(w->sent[i].text) < 900000);
}

TEST(whole_nodes_stay_whole)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 8), b = box(w, "gpu02", 8);

	want(w, a, 1, "gpu02", 1, false);
	run(w, b);
	want(w, a, 1, NULL, 1, false); /* gpu02 has fewer free ones that suffice */
	assert_string_equal(given(w, b), "1");
	run(w, b);
	want(w, a, 1, NULL, 8, false);
	assert_string_equal(given(w, a), "0,1,2,3,4,5,6,7");
}

/* ---- keeping count ------------------------------------------------------------------------ */

TEST(GPUs_come_back_on_every_way_out)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 4);

	want(w, a, 1, NULL, 2, false);
	assert_int_equal(busy(w, "gpu01"), 2);
	prepared(w, a, false); /* refused while preparing */
	ended(w, a, 0, "waiting", 0, false);
	store(w);
	store(w);
	assert_int_equal(busy(w, "gpu01"), 0);
	w->disk_full = true;
	want(w, a, 1, NULL, 2, false); /* could not be saved */
	assert_int_equal(w->job, 0);
	assert_int_equal(busy(w, "gpu01"), 0);
	w->disk_full = false;
	want(w, a, 1, NULL, 2, false);
	run(w, a);
	end_well(w, a);
	assert_int_equal(busy(w, "gpu01"), 0);
}

TEST(what_a_running_job_holds_survives_the_coordinator)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 4);

	want(w, a, 1, NULL, 3, false);
	run(w, a);
	store(w);
	restart(w);
	a = box_holding(w, "gpu01", w->job);
	read_gpus(w, a, &(struct box){ .gpus = 4, .stranger = -1 });
	store(w);
	assert_non_null(strstr(why(w, 1), "running"));
	assert_int_equal(busy(w, "gpu01"), 3);
	end_well(w, a);
	assert_int_equal(busy(w, "gpu01"), 0);
}

TEST(a_node_without_GPUs_and_ports_is_shown_as_well)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");
	struct rec_node_info *i;
	struct msg m;

	read_gpus(w, a, &(struct box){ .gpus = 0 });
	i = show(w, "gpu01", &m);
	assert_int_equal(i->n_gpu_list, 0);
	assert_int_equal(i->n_sources, 1);
	assert_true(MSG_HAS(i, node_info, gpus));
	msg_finish(&m);
}

/* '0'..'9': so many are shown; '?': unknown; '-': nobody has looked. */
static char shown_gpus(struct world *w)
{
	struct msg m;
	const struct rec_node_info *i = show(w, "gpu01", &m);
	char c = i->gpus_unknown ? '?' : MSG_HAS(i, node_info, gpus) ? (char)('0' + i->gpus) : '-';

	assert_false(i->gpus_unknown && MSG_HAS(i, node_info, gpus));
	assert_int_equal(MSG_HAS(i, node_info, gpus_busy), MSG_HAS(i, node_info, gpus));
	msg_finish(&m);
	return c;
}

TEST(GPUs_of_a_node_that_went_are_not_shown_as_free)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 4);

	assert_int_equal(shown_gpus(w), '4');
	link_down(w, a);
	assert_int_equal(shown_gpus(w), '?');
}

TEST(GPUs_that_a_probe_cannot_count_are_unknown_and_never_none)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");
	struct rec_source s = { .name = "probe", .text = "it ended with code 3" };
	struct rec_node_info *i;
	struct msg m;

	assert_int_equal(shown_gpus(w), '?'); /* it has not spoken yet */
	read_gpus(w, a, &(struct box){ .broken = true });
	assert_int_equal(shown_gpus(w), '?');
	read_gpus(w, a, &(struct box){ .absent = true });
	assert_int_equal(shown_gpus(w), '0');
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	say(w, a, &m);
	assert_int_equal(shown_gpus(w), '?');
	i = show(w, "gpu01", &m);
	assert_true(i->ports_unknown && !MSG_HAS(i, node_info, ports));
	msg_finish(&m);
	s = (struct rec_source){ .name = "sysfs", .ok = true };
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	say(w, a, &m);
	assert_int_equal(shown_gpus(w), '?'); /* it speaks of ports only */
	i = show(w, "gpu01", &m);
	assert_true(!i->ports_unknown && MSG_HAS(i, node_info, ports));
	msg_finish(&m);
	link_down(w, a);
	assert_int_equal(shown_gpus(w), '-'); /* none were ever seen there */
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_job_gets_all_GPUs_of_its_nodes_by_default),
		T(GPUs_belong_to_one_job_at_a_time_and_the_third_job_waits),
		T(a_driver_that_hangs_gives_no_GPUs_and_the_node_shows_no_count),
		T(a_GPU_whose_processes_are_not_known_is_given_to_those_who_want_busy_ones),
		T(none_are_asked_for_none_are_given_and_the_node_is_shared),
		T(where_there_were_GPUs_they_are_hidden_while_no_driver_is_there),
		T(a_node_without_GPUs_is_shared_and_GPUs_are_not_spoken_of),
		T(more_GPUs_than_any_node_has_is_refused_at_once),
		T(what_is_not_known_is_not_given_out),
		T(a_strangers_GPU_is_left_out_unless_allowed),
		T(a_reading_older_than_a_jobs_end_says_nothing_of_its_GPU),
		T(the_GPU_of_a_worker_below_a_launcher_is_named),
		T(what_a_lost_job_left_running_is_in_use),
		T(a_node_that_is_back_while_its_lost_job_is_saved_has_its_GPUs_again),
		T(what_lives_on_while_its_lost_job_is_saved_keeps_its_GPUs),
		T(a_job_that_was_started_before_GPUs_were_counted_keeps_what_it_uses),
		T(one_bad_reading_ends_no_job_that_was_accepted),
		T(a_default_job_prefers_nodes_with_GPUs),
		T(a_job_that_cannot_run_anyway_holds_up_nobody),
		T(a_probe_that_cannot_speak_of_GPUs_does_not_mean_that_there_are_none),
		T(a_new_session_whose_probe_fails_gives_no_GPU_twice),
		T(a_GPU_is_held_by_its_name_when_indices_shift),
		T(names_survive_the_coordinator),
		T(what_is_held_by_index_gets_its_name_from_the_first_reading),
		T(a_name_that_is_none_harms_nobody),
		T(a_virtual_node_leaves_what_its_sibling_holds_under_a_new_index),
		T(a_held_GPU_that_loses_its_name_is_still_held),
		T(one_job_on_two_virtual_nodes_gets_no_GPU_twice),
		T(a_node_with_too_much_to_show_is_shown_without_it),
		T(a_session_that_registers_again_keeps_its_readings),
		T(a_status_of_many_troubled_nodes_and_ugly_jobs_comes_in_pieces_that_fit),
		T(whole_nodes_stay_whole),
		T(GPUs_come_back_on_every_way_out),
		T(what_a_running_job_holds_survives_the_coordinator),
		T(a_node_without_GPUs_and_ports_is_shown_as_well),
		T(GPUs_of_a_node_that_went_are_not_shown_as_free),
		T(GPUs_that_a_probe_cannot_count_are_unknown_and_never_none),
	};

	return cmocka_run_group_tests_name("coord gpus", tests, NULL, NULL);
}
