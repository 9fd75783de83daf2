/* test_coord_gpus.c - readings, GPUs and the queue, by what the coordinator sends and shows */
#include "coord_world.h"

#define TEST(name) static void name(void **state)

/* ---- nodes with GPUs ---------------------------------------------------------- */

struct box {
	uint32_t gpus;
	int unreadable; /* GPU that is, counted from 1; 0: none */
	bool absent; /* the driver is */
	bool broken; /* the driver is */
	bool stuck; /* the driver hangs: GPUs are known, and nothing of them */
	int unasked; /* GPU whose processes are not told, counted from 1 */
	int stranger; /* GPU with a process of nobody's, or -1 */
	uint64_t of_job; /* ... or of this job's */
	const char *uuids; /* a letter each: "ABD"; NULL: none have one */
	bool odd_ones_mine; /* a virtual node: the even ones are another's */
};

static struct box last_read;

static void read_gpus(struct world *w, uint64_t link, const struct box *x)
{
	struct rec_source s = { .name = "nvml", .ok = !x->broken && !x->absent && !x->stuck,
				.text = x->broken ? "versions differ" : NULL, .absent = x->absent };
	struct rec_gpu_proc p = { .pid = 99, .user = "wang", .name = "python" };
	struct rec_gpu g[16];
	char uuid[16][8];
	struct msg m;

	last_read = *x;
	memset(g, 0, sizeof(g));
	if (x->of_job != 0)
		MSG_SET(&p, gpu_proc, job, x->of_job);
	for (uint32_t i = 0; i < x->gpus; i++) {
		g[i].index = i;
		g[i].procs = &p;
		g[i].n_procs = (int)i == x->stranger;
		g[i].text = (int)i == x->unreadable - 1 ? "busy" : x->stuck ? "not read for 40 s" : NULL;
		if (x->stuck || (int)i == x->unasked - 1)
			MSG_SET(&g[i], gpu, procs_unknown, true);
		if (x->uuids != NULL) {
			snprintf(uuid[i], sizeof(uuid[i]), "GPU-%c", x->uuids[i]);
			g[i].uuid = uuid[i];
		}
		if (x->odd_ones_mine && i % 2 == 0)
			MSG_SET(&g[i], gpu, shared_out, true);
	}
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	m.u.readings.gpus = g;
	m.u.readings.n_gpus = x->broken || x->absent ? 0 : x->gpus;
	say(w, link, &m);
}

/* A registered node whose probe has not spoken yet, with a job that runs there, or 0. */
static uint64_t box_of(struct world *w, const char *name, const char *boot, uint64_t job)
{
	uint64_t l = link_up(w, WHO_NODE, name, "agent");
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct rec_rank_state rs = { .state = "running" };
	struct rec_held h = { .job = job, .attempt = 1, .phase = "running", .ranks = &rs, .n_ranks = 1,
			      .master_addr = "10.0.0.1", .master_port = 20000 };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = name;
	m.u.node_register.boot_id = boot;
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

static uint64_t box_holding(struct world *w, const char *name, uint64_t job)
{
	char boot[37];

	snprintf(boot, sizeof(boot), "boot-of-%s", name);
	return box_of(w, name, boot, job);
}

static uint64_t silent_box(struct world *w, const char *name)
{
	return box_holding(w, name, 0);
}

static uint64_t box(struct world *w, const char *name, uint32_t gpus)
{
	uint64_t l = silent_box(w, name);

	read_gpus(w, l, &(struct box){ .gpus = gpus, .stranger = -1 });
	return l;
}

static uint32_t limit_s; /* of the jobs that are asked for */

/* gpus -1: all. What the disk is asked for is not answered yet. */
static void ask(struct world *w, uint64_t link, uint32_t nnodes, const char *hosts, int gpus, bool busy)
{
	static const uint8_t hash[32] = { 1 };
	static int serial;
	char id[24];
	struct msg m;

	snprintf(id, sizeof(id), "c%d", ++serial);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = id;
	m.u.submit.nnodes = nnodes;
	m.u.submit.hosts = hosts;
	m.u.submit.command = "train";
	m.u.submit.spec_hash = (struct bytes){ hash, 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	m.u.submit.user = "li";
	if (gpus >= 0)
		MSG_SET(&m.u.submit, submit, gpus_per_node, (uint32_t)gpus);
	m.u.submit.busy_gpus = busy;
	m.u.submit.time_s = limit_s;
	MSG_SET(&m.u.submit, submit, grace_ms, 10000);
	forget_sent(w);
	say(w, link, &m);
}

/* Remembers the job's number. */
static void want(struct world *w, uint64_t link, uint32_t nnodes, const char *hosts, int gpus, bool busy)
{
	struct msg m;

	ask(w, link, nnodes, hosts, gpus, busy);
	store(w);
	w->job = 0;
	if (last_to(w, link, MSG_submitted, &m)) {
		w->job = m.u.submitted.job;
		msg_finish(&m);
	}
}

/* GPUs in the last 'prepare' to this node: "none" when there was no such order, "-" when it names none. */
static const char *given(struct world *w, uint64_t link)
{
	static char out[64];
	struct msg m;

	strcpy(out, "none");
	if (last_to(w, link, MSG_prepare, &m)) {
		snprintf(out, sizeof(out), "%s", m.u.prepare.gpus != NULL ? m.u.prepare.gpus : "-");
		msg_finish(&m);
	}
	return out;
}

/* The job of w->job, which has one rank on this node, runs and ends. */
static void run(struct world *w, uint64_t link)
{
	prepared(w, link, true);
	ranks(w, link, 0, "running", 0);
}

static void end_unseen(struct world *w, uint64_t link)
{
	ended(w, link, 0, "exited", 0, false);
	store(w);
	store(w);
}

/* ... and the next reading shows its GPUs as they were. */
static void end_well(struct world *w, uint64_t link)
{
	end_unseen(w, link);
	tick(w, 1);
	if (last_read.of_job == w->job)
		last_read.stranger = -1;
	read_gpus(w, link, &last_read);
	store(w);
}

static const char *why(struct world *w, uint64_t job)
{
	static char out[512];
	struct rec_job_info *i;
	struct msg m;

	w->job = job;
	i = job_one(w, &m);
	assert_non_null(i);
	snprintf(out, sizeof(out), "%s: %s", i->state, i->why != NULL ? i->why : "");
	msg_finish(&m);
	return out;
}

/* Seconds until it can start at the latest; -1: nobody knows. */
static int64_t starts_in_s(struct world *w, uint64_t job)
{
	struct rec_job_info *i;
	int64_t s = -1;
	struct msg m;

	w->job = job;
	i = job_one(w, &m);
	assert_non_null(i);
	if (MSG_HAS(i, job_info, start_by_wall_ms))
		s = (i->start_by_wall_ms - w->wall_ms) / 1000;
	msg_finish(&m);
	return s;
}

/* Its node is heard all the time. */
static void tick_alive(struct world *w, uint64_t link, int64_t ms)
{
	for (; ms > 0; ms -= 1000) {
		struct msg m;

		msg_init(&m, MSG_ping);
		say(w, link, &m);
		tick(w, 1000);
	}
}

static void kill_first(struct world *w, uint64_t link)
{
	struct msg m;

	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, link, &m);
	store(w);
}

static void want_for(struct world *w, uint64_t link, int gpus, uint32_t s)
{
	limit_s = s;
	want(w, link, 1, NULL, gpus, false);
	limit_s = 0;
}

static struct rec_node_info *show(struct world *w, const char *node, struct msg *m)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");

	msg_init(m, MSG_status_get);
	m->u.status_get.rid = 1;
	m->u.status_get.node = node;
	say(w, l, m);
	assert_true(last_to(w, l, MSG_status, m));
	assert_int_equal(m->u.status.n_nodes, 1);
	link_down(w, l);
	return m->u.status.nodes;
}

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
				       "runs job 1 of li since 3 h, gpu02 is down, gpu03 is down");
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

/* ---- clocks and topology -------------------------------------------------------------------- */

TEST(a_ping_is_answered_with_the_times_of_its_coming)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);
	struct rec_node_info *i;
	struct msg m;

	msg_init(&m, MSG_ping);
	m.u.ping.seq = 5;
	MSG_SET(&m.u.ping, ping, sent_us, 1234567);
	MSG_SET(&m.u.ping, ping, skew_us, -2100000);
	MSG_SET(&m.u.ping, ping, skew_error_us, 300);
	say(w, a, &m);
	assert_true(last_to(w, a, MSG_pong, &m));
	assert_int_equal(m.u.pong.sent_us, 1234567);
	assert_true(MSG_HAS(&m.u.pong, pong, came_us) && MSG_HAS(&m.u.pong, pong, answered_us));
	msg_finish(&m);
	i = show(w, "gpu01", &m);
	assert_int_equal(i->skew_us, -2100000);
	assert_string_equal(i->state, "degraded");
	assert_int_equal(i->n_attention, 1);
	msg_finish(&m);
}

/* A port that was so when the probe began, and of which no time is known. */
static void read_port(struct world *w, uint64_t link, const char *state, int64_t since)
{
	struct rec_source s = { .name = "sysfs", .ok = true };
	struct rec_port p = { .device = "mlx5_1", .port = 1, .state = state, .phys_state = "LinkUp" };
	struct msg m;

	if (since != 0)
		MSG_SET(&p, port, since_wall_ms, since);
	msg_init(&m, MSG_readings);
	m.u.readings = (struct rec_readings){ .sources = &s, .n_sources = 1, .ports = &p, .n_ports = 1 };
	say(w, link, &m);
}

/* Since when the node's trouble is so; 0: there is none. */
static int64_t since_of(struct world *w, const char *brief)
{
	struct msg m;
	const struct rec_node_info *i = show(w, "gpu01", &m);
	int64_t since = i->brief_since_wall_ms;

	assert_int_equal(i->n_attention, brief != NULL);
	if (brief != NULL) {
		assert_string_equal(i->brief, brief);
		assert_string_equal(i->attention[0].brief, brief);
		assert_int_equal(i->attention[0].since_wall_ms, since);
	}
	msg_finish(&m);
	return since;
}

TEST(trouble_is_as_old_as_the_readings_say_or_as_our_knowledge_of_it)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");
	int64_t first = w->wall_ms;

	read_port(w, a, "Initializing", 0);
	w->wall_ms += 180000;
	assert_int_equal(since_of(w, "mlx5_1 Initializing"), first); /* nobody had asked until now */
	read_port(w, a, "Initializing", 0);
	w->wall_ms += 60000;
	assert_int_equal(since_of(w, "mlx5_1 Initializing"), first);
	read_port(w, a, "Active", 0);
	assert_int_equal(since_of(w, NULL), 0);
	read_port(w, a, "Initializing", 0); /* again: another time */
	assert_int_equal(since_of(w, "mlx5_1 Initializing"), w->wall_ms);
	read_port(w, a, "Initializing", w->wall_ms - 5000);
	assert_int_equal(since_of(w, "mlx5_1 Initializing"), w->wall_ms - 5000);
	read_port(w, a, "Down", w->wall_ms + 5000); /* the future is not believed */
	assert_int_equal(since_of(w, "mlx5_1 Down"), w->wall_ms);
}

TEST(a_wrong_clock_is_as_old_as_the_ping_that_told_it)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);
	int64_t first = w->wall_ms;

	for (unsigned k = 0; k < 3; k++, w->wall_ms += 1000) {
		struct msg m;

		msg_init(&m, MSG_ping);
		m.u.ping.seq = k;
		MSG_SET(&m.u.ping, ping, skew_us, -2100000 - 200000 * (int64_t)k);
		MSG_SET(&m.u.ping, ping, skew_error_us, 300);
		say(w, a, &m);
	}
	assert_int_equal(since_of(w, "clock 2.5 s off"), first);
}

TEST(what_a_new_session_has_not_told_yet_is_as_old_as_before)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);
	int64_t first = w->wall_ms;
	struct msg m;

	for (int session = 0; session < 2; session++) {
		msg_init(&m, MSG_ping);
		MSG_SET(&m.u.ping, ping, skew_us, -2500000);
		MSG_SET(&m.u.ping, ping, skew_error_us, 300);
		say(w, a, &m);
		assert_int_equal(since_of(w, "clock 2.5 s off"), first);
		w->wall_ms += 3600000;
		link_down(w, a);
		a = silent_box(w, "gpu01");
		assert_non_null(show(w, "gpu01", &m)); /* somebody looks in between */
		msg_finish(&m);
		read_gpus(w, a, &(struct box){ .gpus = 1, .stranger = -1 });
	}
}

/* Errors as large as the skew itself, a kernel that steers the clock and one that does not. */
TEST(a_clock_is_marked_exactly_when_an_attention_tells_of_it)
{
	static const struct {
		int64_t skew;
		uint64_t error;
		bool synced, bad;
	} cases[] = { { 150000, 400000, false, false }, { 150000, 400, false, true }, { 150000, 400, true, false },
		      { -2100000, 300, true, true }, { 600000, 200000, true, false } };
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1);
	struct rec_source s = { .name = "nvml", .ok = true };
	struct rec_host h = { .cpus = 4 };
	struct msg m;

	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct rec_node_info *i;

		MSG_SET(&h, host, clock_synced, cases[k].synced);
		msg_init(&m, MSG_readings);
		m.u.readings = (struct rec_readings){ .sources = &s, .n_sources = 1, .host = &h, .n_host = 1 };
		say(w, a, &m);
		msg_init(&m, MSG_ping);
		m.u.ping.seq = k;
		MSG_SET(&m.u.ping, ping, skew_us, cases[k].skew);
		MSG_SET(&m.u.ping, ping, skew_error_us, cases[k].error);
		say(w, a, &m);
		i = show(w, "gpu01", &m);
		assert_true(MSG_HAS(i, node_info, skew_bad));
		assert_int_equal(i->skew_bad, cases[k].bad);
		assert_int_equal(i->n_attention, cases[k].bad);
		msg_finish(&m);
	}
}

TEST(a_topology_is_asked_of_the_node_and_waited_for_in_vain_only_so_long)
{
	struct world *w = *state;
	uint64_t a = box(w, "gpu01", 1), l = link_up(w, WHO_LOCAL, NULL, "client");
	struct rec_affinity x = { .a = "gpu0", .b = "mlx5_0", .how = "PIX" };
	struct msg m;
	uint32_t rid;

	for (int answered = 1; answered >= 0; answered--) {
		forget_sent(w);
		msg_init(&m, MSG_status_get);
		m.u.status_get.rid = 7;
		m.u.status_get.node = "gpu01";
		m.u.status_get.topology = true;
		say(w, l, &m);
		assert_false(was_told(w, l, MSG_status));
		assert_true(last_to(w, a, MSG_topology_get, &m));
		rid = m.u.topology_get.rid;
		msg_finish(&m);
		msg_init(&m, MSG_topology);
		m.u.topology.rid = rid;
		m.u.topology.topology = &x;
		m.u.topology.n_topology = 1;
		if (answered)
			say(w, a, &m);
		else
			tick(w, 5000);
		assert_true(last_to(w, l, MSG_status, &m));
		assert_int_equal(m.u.status.rid, 7);
		assert_int_equal(m.u.status.nodes[0].n_topology, (size_t)answered);
		msg_finish(&m);
	}
}

TEST(a_node_that_is_removed_while_its_topology_is_asked_for_harms_nobody)
{
	struct world *w = *state;
	uint64_t l;
	struct msg m;

	box(w, "gpu02", 1);
	l = link_up(w, WHO_LOCAL, NULL, "client");
	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 7;
	m.u.status_get.node = "gpu02";
	m.u.status_get.topology = true;
	say(w, l, &m);
	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 8;
	m.u.node_remove.node = "gpu02";
	say(w, l, &m);
	store(w);
	tick(w, 6000);
	assert_true(was_told(w, l, MSG_status));
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

	want(w, a, 2, "gpu[01-02]", 1, false);
	assert_string_equal(given(w, a), "none");
	want(w, a, 1, "gpu01", 1, false);
	assert_string_equal(given(w, a), "0");
	run(w, a);
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
		T(who_has_not_enough_nodes_for_its_spares_keeps_none_from_others),
		T(who_waits_for_a_node_that_is_removed_is_not_ended),
		T(a_job_goes_on_without_a_node_of_its_host_list_that_was_removed),
		T(what_an_older_job_holds_is_not_taken_for_left_by_a_younger_one_after_a_restart),
		T(what_a_node_says_of_old_attempts_does_not_fill_the_memory),
		T(what_a_lost_node_held_is_free_when_it_says_the_end_after_the_jobs),
		T(what_a_lost_job_left_running_is_in_use),
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
		T(a_large_job_is_not_overtaken_by_small_ones),
		T(what_surely_ends_before_the_first_could_start_runs_in_the_meantime),
		T(what_has_no_limit_gives_no_promise_and_nobody_passes),
		T(a_limit_that_runs_lets_ever_shorter_jobs_pass),
		T(who_is_being_ended_is_over_after_its_grace),
		T(only_the_first_in_line_is_promised_a_start),
		T(a_job_is_not_overtaken_while_it_is_being_stored),
		T(a_job_whose_choice_cannot_be_saved_is_not_overtaken),
		T(what_a_job_had_that_was_not_saved_goes_to_who_waits),
		T(who_waits_is_asked_again_when_there_are_more_GPUs_but_no_more_free_ones),
		T(a_job_in_a_nodes_first_word_after_a_silence_does_not_overtake_those_who_waited_for_it),
		T(who_waits_for_one_node_holds_up_nobody_elsewhere),
		T(immediate_is_refused_with_the_reason),
		T(GPUs_come_back_on_every_way_out),
		T(what_a_running_job_holds_survives_the_coordinator),
		T(a_node_without_GPUs_and_ports_is_shown_as_well),
		T(GPUs_of_a_node_that_went_are_not_shown_as_free),
		T(GPUs_that_a_probe_cannot_count_are_unknown_and_never_none),
		T(a_ping_is_answered_with_the_times_of_its_coming),
		T(trouble_is_as_old_as_the_readings_say_or_as_our_knowledge_of_it),
		T(a_wrong_clock_is_as_old_as_the_ping_that_told_it),
		T(what_a_new_session_has_not_told_yet_is_as_old_as_before),
		T(a_clock_is_marked_exactly_when_an_attention_tells_of_it),
		T(a_topology_is_asked_of_the_node_and_waited_for_in_vain_only_so_long),
		T(a_node_that_is_removed_while_its_topology_is_asked_for_harms_nobody),
	};

	return cmocka_run_group_tests_name("coord gpus", tests, NULL, NULL);
}
