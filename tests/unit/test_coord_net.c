/* test_coord_net.c - NCCL's settings on their way to the nodes: chosen at the start, the same for all, kept, anew for each attempt */
#include "coord_jobs.h"
#include "gpu_world.h"

static const uint8_t spec[32] = { 1 };

/* Two ports; of the second one this state. */
static void read_ports(struct world *w, uint64_t link, const char *first, const char *second)
{
	struct rec_source s = { .name = "sysfs", .ok = true };
	struct rec_port p[2] = { { .device = "mlx5_0", .port = 1, .state = first, .link_layer = "InfiniBand" },
				 { .device = "mlx5_1", .port = 1, .state = second, .link_layer = "InfiniBand" } };
	struct msg m;

	msg_init(&m, MSG_readings);
	m.u.readings = (struct rec_readings){ .sources = &s, .n_sources = 1, .ports = p, .n_ports = 2 };
	say(w, link, &m);
}

static void read_named(struct world *w, uint64_t link, const char *name)
{
	struct rec_source s = { .name = "sysfs", .ok = true };
	struct rec_port p = { .device = name, .port = 1, .state = "Active", .link_layer = "InfiniBand" };
	struct msg m;

	msg_init(&m, MSG_readings);
	m.u.readings = (struct rec_readings){ .sources = &s, .n_sources = 1, .ports = &p, .n_ports = 1 };
	say(w, link, &m);
}

static void fill(struct rec_submit *s, const char *net, uint32_t restarts)
{
	static const char *yours[] = { "NCCL_DEBUG" };

	*s = (struct rec_submit){ .rid = 9, .client_id = "c1", .nnodes = 2, .command = "true", .spec_size = 10, .user = "li",
				  .spec_hash = { spec, 32 }, .net = net, .net_yours = yours, .n_net_yours = 1 };
	s->max_restarts = restarts;
	MSG_SET(s, submit, gpus_per_node, 0);
	MSG_SET(s, submit, uid, 1000);
}

static void submit_net(struct world *w, uint64_t link, const char *net, uint32_t restarts)
{
	struct msg m;

	msg_init(&m, MSG_submit);
	fill(&m.u.submit, net, restarts);
	say(w, link, &m);
	store(w);
}

/* gpu01 and gpu02 with these second ports. */
static void two_nodes(struct world *w, uint64_t l[2], const char *first, const char *second)
{
	l[0] = node_up(w, "gpu01");
	l[1] = node_up(w, "gpu02");
	read_ports(w, l[0], "Active", "Active");
	read_ports(w, l[1], first, second);
	store(w);
}

static void prepare_and_prove(struct world *w, const uint64_t l[2])
{
	prepared(w, l[0], true);
	prepared(w, l[1], true);
	proved(w, l[1], true, true);
	proved(w, l[0], false, true);
	store(w);
}

/* What the last 'start' to this link brings, joined by blanks; "none" when there was no start. */
static const char *started_with(struct world *w, uint64_t link, char out[512])
{
	struct msg m;

	strcpy(out, "none");
	if (!last_to(w, link, MSG_start, &m))
		return out;
	out[0] = '\0';
	for (size_t i = 0; i < m.u.start.n_env; i++)
		snprintf(out + strlen(out), 512 - strlen(out), "%s%s", i ? " " : "", m.u.start.env[i]);
	msg_finish(&m);
	return out;
}

static void all_nodes_are_told_the_same_and_the_job_shows_it(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	char text[512];
	uint64_t l[2];
	struct msg m;

	two_nodes(w, l, "Active", "Down");
	submit_net(w, l[0], NULL, 0);
	prepare_and_prove(w, l);
	assert_string_equal(started_with(w, l[0], text), "NCCL_IB_HCA==mlx5_0:1");
	assert_string_equal(started_with(w, l[1], text), "NCCL_IB_HCA==mlx5_0:1");
	i = job_one(w, &m);
	assert_int_equal(i->n_net, 1);
	assert_string_equal(i->net->text, "InfiniBand: 1 port on each node");
	assert_string_equal(i->net->sets[0].name, "NCCL_IB_HCA");
	assert_string_equal(i->net->sets[i->net->n_sets - 1].name, "NCCL_DEBUG");
	assert_true(i->net->sets[i->net->n_sets - 1].yours);
	assert_int_equal(i->n_notices, 1);
	assert_non_null(strstr(i->notices[0], "gpu02: mlx5_1 Down, 1 of 2 Active"));
	msg_finish(&m);
}

static void each_node_is_told_its_own_names(void **state)
{
	struct world *w = *state;
	char text[512];
	uint64_t l[2];

	two_nodes(w, l, "Active", "Active");
	read_named(w, l[0], "mlx5_0");
	read_named(w, l[1], "ib0");
	submit_net(w, l[0], NULL, 0);
	prepare_and_prove(w, l);
	assert_string_equal(started_with(w, l[0], text), "NCCL_IB_HCA==mlx5_0:1");
	assert_string_equal(started_with(w, l[1], text), "NCCL_IB_HCA==ib0:1");
}

static void readings_of_the_start_count_not_those_of_the_submit(void **state)
{
	struct world *w = *state;
	char text[512];
	uint64_t l[2];

	two_nodes(w, l, "Active", "Active");
	submit_net(w, l[0], "ib", 0);
	prepared(w, l[0], true);
	read_ports(w, l[1], "Initializing", "Active");
	prepare_and_prove(w, l);
	assert_string_equal(started_with(w, l[1], text), "NCCL_NET=IB NCCL_IB_HCA==mlx5_1:1");
}

static void ib_without_a_port_is_refused_before_any_rank_is_started(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	char text[512];
	uint64_t l[2];
	struct msg m;

	two_nodes(w, l, "Down", "Initializing");
	submit_net(w, l[0], "ib", 0);
	prepare_and_prove(w, l);
	assert_string_equal(started_with(w, l[0], text), "none");
	assert_true(was_told(w, l[0], MSG_end) && was_told(w, l[1], MSG_end));
	ended(w, l[0], 0, "waiting", 0, true);
	ended(w, l[1], 1, "waiting", 0, true);
	store(w);
	assert_job(w, "failed", 1);
	i = job_one(w, &m);
	assert_non_null(strstr(i->why, "--net ib: gpu02 has no Active port (mlx5_0 Down, mlx5_1 Initializing)"));
	msg_finish(&m);
}

static void a_restarted_coordinator_says_the_same_again(void **state)
{
	struct world *w = *state;
	char text[512];
	uint64_t l[2];

	two_nodes(w, l, "Active", "Down");
	submit_net(w, l[0], "ib", 1); /* of one that may restart the row is written at the start */
	prepare_and_prove(w, l);
	restart(w);
	l[0] = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	read_ports(w, l[0], "Active", "Active");
	l[1] = node_up_held(w, "gpu02", "boot-1", 1, "ready", NULL, 0, 0);
	store(w);
	assert_string_equal(started_with(w, l[1], text), "NCCL_NET=IB NCCL_IB_HCA==mlx5_0:1");
}

static void one_that_was_restarted_before_it_could_write_keeps_to_ib(void **state)
{
	struct world *w = *state;
	char text[512];
	uint64_t l[2];

	two_nodes(w, l, "Active", "Down");
	submit_net(w, l[0], "ib", 0);
	w->disk_full = true; /* nothing of the start gets there */
	prepare_and_prove(w, l);
	w->disk_full = false;
	restart(w);
	l[0] = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	l[1] = node_up_held(w, "gpu02", "boot-1", 1, "ready", NULL, 0, 0);
	assert_string_equal(started_with(w, l[1], text), "NCCL_NET=IB");
}

static void a_word_that_is_not_known_is_refused(void **state)
{
	struct world *w = *state;
	uint64_t l[2];
	struct msg m;

	two_nodes(w, l, "Active", "Active");
	submit_net(w, l[0], "carrier", 0);
	assert_true(last_to(w, l[0], MSG_refused, &m));
	assert_non_null(strstr(m.u.refused.text, "--net carrier is not known"));
	msg_finish(&m);
}

static void prepared_and_proved(struct world *w, uint64_t link, uint32_t attempt, bool first)
{
	const char *ip = "10.0.0.1";
	struct rec_proof_result r[2] = { { .kind = "ephemeral", .node = "x", .reached = &ip, .n_reached = 1 },
					 { .kind = "master", .node = "gpu01", .reached = &ip, .n_reached = 1 } };
	struct msg m;

	msg_init(&m, MSG_prepared);
	m.u.prepared = (struct rec_prepared){ .job = 1, .attempt = attempt, .ok = true, .master_port = 20000, .proof_port = 40000 };
	say(w, link, &m);
	if (first)
		return; /* it is asked last */
	msg_init(&m, MSG_proved);
	m.u.proved = (struct rec_proved){ .job = 1, .attempt = attempt, .results = r, .n_results = 2, .ifname = "ib0" };
	say(w, link, &m);
}

static void another_attempt_goes_elsewhere_and_chooses_anew(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t l[2], third;
	char text[512];
	struct msg m;

	two_nodes(w, l, "Down", "Active");
	third = node_up(w, "gpu03");
	read_ports(w, third, "Down", "Active");
	store(w);
	submit_net(w, l[0], "ib", 1);
	read_ports(w, l[1], "Down", "Down");
	prepare_and_prove(w, l); /* gpu02 has no port: its fault */
	ended(w, l[0], 0, "waiting", 0, true);
	ended(w, l[1], 1, "waiting", 0, true);
	store(w);
	tick(w, 1000);
	store(w);
	assert_true(was_told(w, third, MSG_prepare));
	prepared_and_proved(w, l[0], 2, true);
	prepared_and_proved(w, third, 2, false);
	msg_init(&m, MSG_proved);
	m.u.proved = (struct rec_proved){ .job = 1, .attempt = 2 };
	say(w, l[0], &m);
	store(w);
	assert_string_equal(started_with(w, l[0], text), "NCCL_NET=IB NCCL_IB_HCA==mlx5_1:1");
	assert_string_equal(started_with(w, third, text), "NCCL_NET=IB NCCL_IB_HCA==mlx5_1:1");
	i = job_one(w, &m);
	assert_int_equal(i->attempt, 2);
	assert_string_equal(i->net->text, "InfiniBand: 1 port on each node, as asked for with --net ib");
	msg_finish(&m);
}

/* ---- placing ----------------------------------------------------------------------------------- */

static void submit_n(struct world *w, uint64_t link, const char *client, const char *net, uint32_t nnodes)
{
	struct msg m;

	msg_init(&m, MSG_submit);
	fill(&m.u.submit, net, 0);
	m.u.submit.client_id = client;
	m.u.submit.nnodes = nnodes;
	say(w, link, &m);
	store(w);
}

static void nodes_whose_ports_are_well_come_first(void **state)
{
	struct world *w = *state;
	uint64_t l[2], third;

	two_nodes(w, l, "Active", "Down");
	read_ports(w, l[0], "Initializing", "Initializing");
	third = node_up(w, "gpu03");
	read_ports(w, third, "Active", "Active");
	store(w);
	submit_n(w, l[0], "a", NULL, 2);
	assert_true(was_told(w, l[1], MSG_prepare) && was_told(w, third, MSG_prepare));
	assert_false(was_told(w, l[0], MSG_prepare));
	submit_n(w, l[0], "b", NULL, 1); /* of a single node nobody minds: the one with the fewest jobs */
	assert_true(was_told(w, l[0], MSG_prepare));
	submit_n(w, l[0], "c", "ib", 1); /* but it asked for them */
	w->job = 3;
	assert_job(w, "preparing", -1);
}

/* Two GPUs and a port in this state. */
static void read_both(struct world *w, uint64_t link, const char *port)
{
	struct rec_source s[2] = { { .name = "sysfs", .ok = true }, { .name = "nvml", .ok = true } };
	struct rec_port p = { .device = "mlx5_0", .port = 1, .state = port, .link_layer = "InfiniBand" };
	struct rec_gpu g[2] = { { .index = 0 }, { .index = 1 } };
	struct msg m;

	msg_init(&m, MSG_readings);
	m.u.readings = (struct rec_readings){ .sources = s, .n_sources = 2, .ports = &p, .n_ports = 1, .gpus = g, .n_gpus = 2 };
	say(w, link, &m);
}

static void submit_gpus(struct world *w, uint64_t link, const char *client, const char *hosts)
{
	struct msg m;

	msg_init(&m, MSG_submit);
	fill(&m.u.submit, "ib", 0);
	m.u.submit.client_id = client;
	m.u.submit.nnodes = 1;
	m.u.submit.hosts = hosts;
	MSG_SET(&m.u.submit, submit, gpus_per_node, 2);
	say(w, link, &m);
	store(w);
}

/* An accepted job waits when ports go bad before its turn, and goes on when they are mended. */
static void with_net_ib_an_accepted_job_waits_for_nodes_with_ports(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t l[2];
	struct msg m;

	l[0] = box(w, "gpu01", 2);
	l[1] = box(w, "gpu02", 2);
	read_both(w, l[0], "Active");
	read_both(w, l[1], "Initializing");
	store(w);
	submit_gpus(w, l[0], "a", "gpu01");
	submit_gpus(w, l[0], "b", NULL); /* gpu02 is free, but without a port */
	w->job = 2;
	assert_job(w, "queued", -1);
	i = job_one(w, &m);
	assert_non_null(strstr(i->why, "waiting for 1 node with 2 free GPUs and an Active port"));
	assert_non_null(strstr(i->why, "gpu01 runs job 1"));
	assert_non_null(strstr(i->why, "gpu02 has no Active port (mlx5_0 Initializing)"));
	msg_finish(&m);
	read_both(w, l[0], "Down"); /* now none has one: it waits on */
	store(w);
	assert_job(w, "queued", -1);
	read_both(w, l[1], "Active");
	store(w);
	assert_job(w, "preparing", -1);
}

/* ---- plans ------------------------------------------------------------------------------------ */

static bool ask_plan(struct world *w, uint64_t link, const char *net, uint32_t nnodes, struct msg *ret)
{
	struct rec_submit s;
	struct msg m;

	fill(&s, net, 0);
	s.nnodes = nnodes;
	s.spec_hash = (struct bytes){ NULL, 0 };
	msg_init(&m, MSG_plan_get);
	m.u.plan_get.rid = 77;
	m.u.plan_get.submit = &s;
	m.u.plan_get.n_submit = 1;
	say(w, link, &m);
	return last_to(w, link, MSG_plan, ret);
}

static void a_plan_tells_and_takes_nothing(void **state)
{
	struct world *w = *state;
	uint64_t l[2];
	struct msg m;

	two_nodes(w, l, "Active", "Down");
	for (int i = 0; i < 3; i++) {
		assert_true(ask_plan(w, l[0], "ib", 2, &m));
		assert_int_equal(m.u.plan.rid, 77);
		assert_string_equal(m.u.plan.nodes, "gpu[01-02]");
		assert_string_equal(m.u.plan.net->sets[1].value, "=mlx5_0:1");
		assert_int_equal(m.u.plan.n_notices, 1);
		assert_null(m.u.plan.text);
		msg_finish(&m);
	}
	assert_int_equal(w->n_queue, 0);
	assert_false(was_told(w, l[0], MSG_prepare));
	submit_net(w, l[0], NULL, 0);
	assert_true(was_told(w, l[0], MSG_prepare));
	w->job = 1; /* no number was used up */
	assert_job(w, "preparing", -1);
}

static void a_plan_says_why_it_would_wait_or_not_start(void **state)
{
	struct world *w = *state;
	uint64_t l[2];
	struct msg m;

	two_nodes(w, l, "Down", "Down");
	assert_true(ask_plan(w, l[0], "ib", 2, &m));
	assert_non_null(strstr(m.u.plan.text, "gpu02 has no Active port"));
	assert_non_null(m.u.plan.nodes);
	msg_finish(&m);
	assert_true(ask_plan(w, l[0], NULL, 3, &m));
	assert_non_null(strstr(m.u.plan.text, "gpu03 is down"));
	assert_null(m.u.plan.nodes);
	msg_finish(&m);
	assert_true(ask_plan(w, l[0], NULL, 9, &m));
	assert_non_null(strstr(m.u.plan.text, "9 nodes were asked for"));
	msg_finish(&m);
}

static void a_plain_node_may_not_ask_about_others(void **state)
{
	struct world *w = *state;
	uint64_t l[2];
	struct msg m;

	two_nodes(w, l, "Active", "Active");
	assert_false(ask_plan(w, l[1], NULL, 2, &m));
	assert_true(last_to(w, l[1], MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, 77);
	assert_string_equal(m.u.refused.code, "denied");
	msg_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(all_nodes_are_told_the_same_and_the_job_shows_it),
		T(each_node_is_told_its_own_names),
		T(readings_of_the_start_count_not_those_of_the_submit),
		T(ib_without_a_port_is_refused_before_any_rank_is_started),
		T(a_restarted_coordinator_says_the_same_again),
		T(one_that_was_restarted_before_it_could_write_keeps_to_ib),
		T(another_attempt_goes_elsewhere_and_chooses_anew),
		T(a_word_that_is_not_known_is_refused),
		T(nodes_whose_ports_are_well_come_first),
		T(with_net_ib_an_accepted_job_waits_for_nodes_with_ports),
		T(a_plan_tells_and_takes_nothing),
		T(a_plan_says_why_it_would_wait_or_not_start),
		T(a_plain_node_may_not_ask_about_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
