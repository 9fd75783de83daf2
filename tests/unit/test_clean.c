/* test_clean.c - GPUs that a job has left are given on when they are seen to be as before */
#include "coord_world.h"

#define TEST(name) static void name(void **state)
#define GB UINT64_C(1000000000)

struct seen {
	uint64_t used[2]; /* bytes of its two GPUs; UNKNOWN: not read */
	uint64_t proc_of; /* GPU 0 has a process of this job; 0: of nobody's; NOBODY: none */
	uint64_t age_ms;
};

#define UNKNOWN UINT64_MAX
#define NOBODY UINT64_MAX

static void read_gpus(struct world *w, uint64_t link, struct seen x)
{
	struct rec_source s = { .name = "nvml", .ok = true };
	struct rec_gpu_proc p = { .pid = 99, .name = "python" };
	struct rec_gpu g[2];
	struct msg m;

	memset(g, 0, sizeof(g));
	MSG_SET(&s, source, age_ms, x.age_ms);
	if (x.proc_of != 0)
		MSG_SET(&p, gpu_proc, job, x.proc_of);
	for (uint32_t i = 0; i < 2; i++) {
		g[i].index = i;
		g[i].uuid = i == 0 ? "GPU-A" : "GPU-B";
		MSG_SET(&g[i], gpu, mem_total, 80 * GB);
		if (x.used[i] != UNKNOWN)
			MSG_SET(&g[i], gpu, mem_used, x.used[i]);
		g[i].procs = &p;
		g[i].n_procs = i == 0 && x.proc_of != NOBODY;
	}
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	m.u.readings.gpus = g;
	m.u.readings.n_gpus = 2;
	say(w, link, &m);
	store(w);
}

static void both(struct world *w, uint64_t link, uint64_t used)
{
	tick(w, 1);
	read_gpus(w, link, (struct seen){ { used, used }, NOBODY, 0 });
}

static uint64_t box_holding(struct world *w, uint64_t job)
{
	uint64_t l = link_up(w, WHO_NODE, "gpu01", "agent");
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct rec_rank_state rs = { .state = "running" };
	struct rec_held h = { .job = job, .attempt = 1, .phase = "running", .ranks = &rs, .n_ranks = 1,
			      .master_addr = "10.0.0.1", .master_port = 20000 };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = "gpu01";
	m.u.node_register.boot_id = "boot-of-gpu01";
	m.u.node_register.incarnation = l;
	m.u.node_register.peer_port = 7000;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	m.u.node_register.held = &h;
	m.u.node_register.n_held = job != 0;
	MSG_SET(&m.u.node_register, node_register, probe, true);
	say(w, l, &m);
	store(w);
	return l;
}

static void want(struct world *w, uint64_t link, uint32_t gpus, uint64_t job)
{
	static const uint8_t hash[32] = { 1 };
	static int serial;
	char id[24];
	struct msg m;

	snprintf(id, sizeof(id), "c%d", ++serial);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = id;
	m.u.submit.hosts = "gpu01";
	m.u.submit.command = "train";
	m.u.submit.spec_hash = (struct bytes){ hash, 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	m.u.submit.user = "li";
	MSG_SET(&m.u.submit, submit, gpus_per_node, gpus);
	forget_sent(w);
	say(w, link, &m);
	store(w);
	w->job = job;
}

static bool is_given(struct world *w, uint64_t link, uint64_t job)
{
	struct msg m;
	bool yes = last_to(w, link, MSG_prepare, &m);

	if (yes) {
		yes = m.u.prepare.job == job;
		msg_finish(&m);
	}
	return yes;
}

static void run(struct world *w, uint64_t link)
{
	prepared(w, link, true);
	ranks(w, link, 0, "running", 0);
}

static void end(struct world *w, uint64_t link)
{
	tick(w, 1);
	ended(w, link, 0, "exited", 0, false);
	store(w);
	store(w);
}

/* Job 1 has had both GPUs, of which 'base' bytes were in use before, and is over. */
static uint64_t left(struct world *w, uint64_t base)
{
	uint64_t a = box_holding(w, 0);

	both(w, a, base);
	want(w, a, 2, 1);
	assert_true(is_given(w, a, 1));
	run(w, a);
	both(w, a, 70 * GB);
	end(w, a);
	return a;
}

static bool attention(struct world *w, const char *text)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	bool found = false;
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 1;
	m.u.status_get.node = "gpu01";
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_status, &m));
	for (size_t i = 0; i < m.u.status.nodes[0].n_attention; i++)
		found = found || strstr(m.u.status.nodes[0].attention[i].text, text) != NULL;
	msg_finish(&m);
	link_down(w, l);
	return found;
}

TEST(a_GPU_is_given_on_only_when_its_memory_is_back)
{
	struct world *w = *state;
	uint64_t a = left(w, GB / 2);

	want(w, a, 2, 2);
	assert_false(is_given(w, a, 2));
	both(w, a, 12 * GB); /* no process any more, but the driver is slow */
	assert_false(is_given(w, a, 2));
	tick(w, 1);
	read_gpus(w, a, (struct seen){ { GB / 2, 12 * GB }, NOBODY, 0 });
	assert_false(is_given(w, a, 2)); /* one of them is not enough */
	both(w, a, GB / 2 + 700 * GB / 1000); /* within 1 % of its memory */
	assert_true(is_given(w, a, 2));
}

TEST(what_was_in_use_before_the_job_is_not_waited_for)
{
	struct world *w = *state;
	uint64_t a = left(w, 9 * GB);

	want(w, a, 2, 2);
	both(w, a, 9 * GB);
	assert_true(is_given(w, a, 2));
}

TEST(a_reading_from_before_the_end_counts_for_nothing)
{
	struct world *w = *state;
	uint64_t a = left(w, GB);

	want(w, a, 2, 2);
	tick(w, 500);
	read_gpus(w, a, (struct seen){ { GB, GB }, NOBODY, 2000 }); /* it was read two seconds ago */
	assert_false(is_given(w, a, 2));
	tick(w, 500);
	read_gpus(w, a, (struct seen){ { GB, GB }, NOBODY, 100 });
	assert_true(is_given(w, a, 2));
}

TEST(a_process_of_the_job_keeps_its_GPU)
{
	struct world *w = *state;
	uint64_t a = left(w, GB);

	want(w, a, 1, 2);
	tick(w, 1);
	read_gpus(w, a, (struct seen){ { GB, 70 * GB }, 1, 0 });
	assert_false(is_given(w, a, 2));
	both(w, a, GB);
	assert_true(is_given(w, a, 2));
}

TEST(after_30_s_it_is_told_with_a_remedy_and_freed_by_itself)
{
	struct world *w = *state;
	uint64_t a = left(w, GB);
	struct msg m;

	want(w, a, 2, 2);
	for (int i = 0; i < 31; i++) {
		msg_init(&m, MSG_ping);
		say(w, a, &m);
		both(w, a, 12 * GB);
		assert_false(attention(w, "ended") && i < 28);
		tick(w, 1000);
	}
	assert_true(attention(w, "it still holds 12.0 GB, more than 30 s after job 1 ended; no process owns it"));
	assert_non_null(strstr(w->log, "node gpu01: GPU 0 is kept back: job 1 has ended 30 s ago"));
	both(w, a, GB);
	assert_false(attention(w, "it still holds"));
	assert_true(is_given(w, a, 2));
	assert_non_null(strstr(w->log, "node gpu01: GPU 1 is as before job 1 again"));
}

TEST(a_node_that_tells_no_memory_goes_by_processes)
{
	struct world *w = *state;
	uint64_t a = box_holding(w, 0);

	both(w, a, UNKNOWN);
	want(w, a, 2, 1);
	run(w, a);
	end(w, a);
	want(w, a, 2, 2);
	both(w, a, UNKNOWN);
	assert_true(is_given(w, a, 2));
}

TEST(a_job_that_never_started_leaves_nothing)
{
	struct world *w = *state;
	uint64_t a = box_holding(w, 0);

	both(w, a, GB);
	want(w, a, 2, 1);
	prepared(w, a, false);
	end(w, a);
	want(w, a, 2, 2);
	assert_true(is_given(w, a, 2));
}

TEST(the_coordinator_may_be_restarted_while_the_job_runs_and_after_it)
{
	struct world *w = *state;
	uint64_t a = box_holding(w, 0);

	both(w, a, GB);
	want(w, a, 2, 1);
	run(w, a);
	store(w);
	restart(w);
	a = box_holding(w, 1);
	both(w, a, 70 * GB);
	end(w, a);
	restart(w); /* what was in use before is on disk */
	a = box_holding(w, 0);
	both(w, a, 12 * GB);
	want(w, a, 2, 2);
	assert_false(is_given(w, a, 2));
	both(w, a, GB);
	assert_true(is_given(w, a, 2));
}

static unsigned times_released(struct world *w)
{
	struct rec_job_info *i;
	unsigned told = 0;
	struct msg m;

	w->job = 1;
	i = job_one(w, &m);
	for (size_t k = 0; k < i->n_story; k++)
		told += strstr(i->story[k].text, "GPUs released") != NULL;
	msg_finish(&m);
	return told;
}

/* Its row names its GPUs no more: by index, too, none of them is waited for after a restart. */
TEST(when_all_are_back_the_jobs_story_says_so_once)
{
	struct world *w = *state;
	uint64_t a = left(w, GB);

	both(w, a, 12 * GB);
	both(w, a, GB);
	both(w, a, GB);
	assert_int_equal(times_released(w), 1);
	for (int i = 0; i < 4; i++) {
		tick(w, 15000);
		store(w);
	}
	restart(w);
	a = box_holding(w, 0);
	tick(w, 1000);
	both(w, a, GB);
	assert_int_equal(times_released(w), 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_GPU_is_given_on_only_when_its_memory_is_back),
		T(what_was_in_use_before_the_job_is_not_waited_for),
		T(a_reading_from_before_the_end_counts_for_nothing),
		T(a_process_of_the_job_keeps_its_GPU),
		T(after_30_s_it_is_told_with_a_remedy_and_freed_by_itself),
		T(a_node_that_tells_no_memory_goes_by_processes),
		T(a_job_that_never_started_leaves_nothing),
		T(the_coordinator_may_be_restarted_while_the_job_runs_and_after_it),
		T(when_all_are_back_the_jobs_story_says_so_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
