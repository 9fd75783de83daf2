/* gpu_world.h - coord_world.h with nodes that have GPUs, and jobs that want them */
#ifndef NA_TESTS_GPU_WORLD_H
#define NA_TESTS_GPU_WORLD_H

#include "coord_world.h"

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

UNUSED static struct box last_read;

UNUSED static void read_gpus(struct world *w, uint64_t link, const struct box *x)
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

/* Registers a node, with a job that runs there, or 0. What the disk is asked for is not answered yet. */
UNUSED static void box_asking(struct world *w, const char *name, const char *boot, uint64_t job, uint64_t *ret)
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
	*ret = l;
}

/* A registered node whose probe has not spoken yet. */
UNUSED static uint64_t box_of(struct world *w, const char *name, const char *boot, uint64_t job)
{
	uint64_t l;

	box_asking(w, name, boot, job, &l);
	store(w);
	return l;
}

UNUSED static uint64_t box_holding(struct world *w, const char *name, uint64_t job)
{
	char boot[37];

	snprintf(boot, sizeof(boot), "boot-of-%s", name);
	return box_of(w, name, boot, job);
}

UNUSED static uint64_t silent_box(struct world *w, const char *name)
{
	return box_holding(w, name, 0);
}

UNUSED static uint64_t box(struct world *w, const char *name, uint32_t gpus)
{
	uint64_t l = silent_box(w, name);

	read_gpus(w, l, &(struct box){ .gpus = gpus, .stranger = -1 });
	return l;
}

UNUSED static uint32_t limit_s; /* of the jobs that are asked for */

/* gpus -1: all. What the disk is asked for is not answered yet. */
UNUSED static void ask(struct world *w, uint64_t link, uint32_t nnodes, const char *hosts, int gpus, bool busy)
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
UNUSED static void want(struct world *w, uint64_t link, uint32_t nnodes, const char *hosts, int gpus, bool busy)
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
UNUSED static const char *given(struct world *w, uint64_t link)
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
UNUSED static void run(struct world *w, uint64_t link)
{
	prepared(w, link, true);
	ranks(w, link, 0, "running", 0);
}

UNUSED static void end_unseen(struct world *w, uint64_t link)
{
	ended(w, link, 0, "exited", 0, false);
	store(w);
	store(w);
}

/* ... and the next reading shows its GPUs as they were. */
UNUSED static void end_well(struct world *w, uint64_t link)
{
	end_unseen(w, link);
	tick(w, 1);
	if (last_read.of_job == w->job)
		last_read.stranger = -1;
	read_gpus(w, link, &last_read);
	store(w);
}

UNUSED static const char *why(struct world *w, uint64_t job)
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
UNUSED static int64_t starts_in_s(struct world *w, uint64_t job)
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
UNUSED static void tick_alive(struct world *w, uint64_t link, int64_t ms)
{
	for (; ms > 0; ms -= 1000) {
		struct msg m;

		msg_init(&m, MSG_ping);
		say(w, link, &m);
		tick(w, 1000);
	}
}

UNUSED static void kill_first(struct world *w, uint64_t link)
{
	struct msg m;

	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, link, &m);
	store(w);
}

UNUSED static void want_for(struct world *w, uint64_t link, int gpus, uint32_t s)
{
	limit_s = s;
	want(w, link, 1, NULL, gpus, false);
	limit_s = 0;
}

UNUSED static struct rec_node_info *show(struct world *w, const char *node, struct msg *m)
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

#endif
