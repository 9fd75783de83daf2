/* test_agent_gpus.c - which GPUs ranks see, and what readings say of them */
#include "agent_world.h"

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

static int64_t xid_at; /* when the last one came */

/* One GPU and one port, and what the kernel's log has told. */
static void read_host(struct world *w, uint32_t xids, const char *port, struct rec_happening *v, size_t n)
{
	struct agent_event ev = { .type = AEV_READINGS };
	struct rec_source s = { .name = "nvml", .ok = true };
	struct rec_gpu g = { .index = 3, .uuid = "GPU-3", .pci = "0000:17:00.0", .xid = 79 };
	struct rec_port p = { .device = "mlx5_0", .port = 1, .state = port };
	struct msg m;

	MSG_SET(&g, gpu, xids, xids);
	if (xid_at != 0)
		MSG_SET(&g, gpu, xid_wall_ms, xid_at);
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

/* The probe forgets with a reset what was counted before. */
static void an_Xid_after_a_reset_of_the_GPU_is_told_though_the_count_is_no_greater(void **state)
{
	struct world *w = *state;

	xid_at = 1000;
	read_host(w, 1, "Active", NULL, 0);
	read_host(w, 1, "Active", NULL, 0);
	assert_int_equal(count(w, COORD, MSG_happened), 0);
	xid_at = 2000;
	read_host(w, 1, "Active", NULL, 0);
	assert_int_equal(count(w, COORD, MSG_happened), 1);
	xid_at = 0;
	read_host(w, 0, "Active", NULL, 0);
	assert_int_equal(count(w, COORD, MSG_happened), 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(ranks_see_their_GPUs_by_the_indices_of_now),
		T(ranks_see_them_by_name_beside_one_that_fell_off_the_bus),
		T(GPUs_without_a_name_go_by_index),
		T(without_readings_the_coordinators_names_count),
		T(without_readings_and_names_its_indices_do),
		T(GPUs_that_nobody_had_seen_are_hidden_from_a_job_that_was_given_none),
		T(what_a_probe_that_has_ended_cannot_say_is_hidden_as_well),
		T(indices_that_shift_before_the_start_are_told_with_it),
		T(a_job_whose_GPU_is_gone_is_refused),
		T(a_GPU_that_has_lost_its_name_is_held_by_index),
		T(what_the_log_says_is_told_once_with_the_rank_and_the_time),
		T(what_the_log_says_of_a_launchers_worker_is_its_jobs),
		T(what_differs_between_readings_is_told),
		T(an_Xid_after_a_reset_of_the_GPU_is_told_though_the_count_is_no_greater),
		T(where_no_GPU_was_ever_seen_the_variable_is_left_alone),
		T(a_driver_that_is_away_for_a_moment_shows_nothing),
		T(who_holds_none_sees_none),
		T(a_GPU_is_held_by_name_not_by_index),
	};

	return cmocka_run_group_tests_name("agent gpus", tests, NULL, NULL);
}
