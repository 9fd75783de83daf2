/* test_cordon.c - nodes that get no new jobs: drained, or with a process that cannot be killed */
#include "coord_world.h"

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void drain(struct world *w, const char *nodes, const char *why, bool resume, enum msg_type expect)
{
	uint64_t adm = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_node_drain);
	m.u.node_drain.rid = 4;
	m.u.node_drain.nodes = nodes;
	m.u.node_drain.why = why;
	m.u.node_drain.resume = resume;
	say(w, adm, &m);
	assert_true(expect != MSG_ok || !was_told(w, adm, MSG_ok)); /* not before it is on disk */
	store(w);
	assert_true(was_told(w, adm, expect));
	link_down(w, adm);
}

/* What is shown of a node; the caller finishes m. */
static struct rec_node_info *shown(struct world *w, const char *node, struct msg *m)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg q;

	msg_init(&q, MSG_status_get);
	q.u.status_get.rid = 1;
	q.u.status_get.node = node;
	say(w, l, &q);
	assert_true(last_to(w, l, MSG_status, m));
	link_down(w, l);
	for (size_t i = 0; i < m->u.status.n_nodes; i++)
		if (strcmp(m->u.status.nodes[i].name, node) == 0)
			return &m->u.status.nodes[i];
	fail_msg("%s is not shown", node);
	return NULL;
}

static bool is_cordoned(struct world *w, const char *node, const char *text)
{
	struct msg m;
	struct rec_node_info *n = shown(w, node, &m);
	bool yes = n->cordon != NULL && (text == NULL || strstr(n->cordon, text) != NULL);

	msg_finish(&m);
	return yes;
}

/* One more, or (0) 4711 is gone. */
static void stuck(struct world *w, uint64_t link, uint32_t pid)
{
	struct rec_stuck_proc p = { .pid = pid, .start_time = 99, .name = "python",
				    .text = "state D (disk sleep) in nfs_wait_bit_killable" };
	struct msg m;

	MSG_SET(&p, stuck_proc, job, 17);
	msg_init(&m, MSG_stuck);
	m.u.stuck.procs = &p;
	m.u.stuck.n_procs = pid != 0;
	if (pid == 0) {
		p.pid = 4711;
		m.u.stuck.gone = &p;
		m.u.stuck.n_gone = 1;
	}
	say(w, link, &m);
	store(w);
}

static void assert_waits(struct world *w, const char *why)
{
	struct msg m;
	struct rec_job_info *i = job_one(w, &m);

	assert_string_equal(i->state, "queued");
	assert_non_null(i->why);
	if (strstr(i->why, why) == NULL)
		fail_msg("'%s' is not in '%s'", why, i->why);
	msg_finish(&m);
}

static void a_drained_node_gets_no_new_job_and_who_waits_is_told_why(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");

	drain(w, "gpu02", "new NIC", false, MSG_ok);
	submit(w, a, "c1", 2);
	store(w);
	assert_waits(w, "gpu02 gets no new jobs: it is drained by uid 1000: new NIC");
	assert_false(was_told(w, b, MSG_prepare));
	drain(w, "gpu02", NULL, true, MSG_ok);
	store(w);
	assert_true(was_told(w, b, MSG_prepare));
}

static void what_runs_on_a_drained_node_goes_on(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	forget_sent(w);
	drain(w, "gpu[01-02]", "", false, MSG_ok);
	tick(w, 10000);
	assert_false(was_told(w, a, MSG_end));
	assert_false(was_told(w, b, MSG_end));
	assert_job(w, "running", -1);
}

static void a_drain_outlives_the_coordinator(void **state)
{
	struct world *w = *state;
	struct msg m;
	struct rec_node_info *n;

	node_up(w, "gpu02");
	drain(w, "gpu02", "bad fan", false, MSG_ok);
	restart(w);
	node_up(w, "gpu02");
	n = shown(w, "gpu02", &m);
	assert_non_null(strstr(n->cordon, "bad fan"));
	assert_true(n->drained);
	assert_int_equal(n->n_attention, 1);
	assert_string_equal(n->attention[0].severity, "warn");
	assert_string_equal(n->attention[0].brief, "drained: bad fan");
	assert_string_equal(n->attention[0].text, "drained by uid 1000: bad fan; no new jobs there, running ones go on");
	assert_string_equal(n->state, "ok");
	msg_finish(&m);
	drain(w, "gpu02", NULL, true, MSG_ok);
	restart(w);
	assert_false(is_cordoned(w, "gpu02", NULL));
}

static void read_port(struct world *w, uint64_t link, const char *device, uint32_t mbps)
{
	struct rec_source s = { .name = "sysfs", .ok = true };
	struct rec_port p = { .device = device, .port = 1, .state = "Active", .link_layer = "InfiniBand", .board = "MT_1" };
	struct msg m;

	MSG_SET(&p, port, rate_mbps, mbps);
	MSG_SET(&p, port, lanes, 4);
	msg_init(&m, MSG_readings);
	m.u.readings = (struct rec_readings){ .sources = &s, .n_sources = 1, .ports = &p, .n_ports = 1 };
	say(w, link, &m);
	store(w);
}

static void read_rate(struct world *w, uint64_t link, uint32_t mbps)
{
	read_port(w, link, "mlx5_0", mbps);
}

/* As rdma-core's udev rules do, or a new kernel: the old name is not missed, now nor after a restart. */
static void a_port_with_a_new_name_is_not_gone(void **state)
{
	struct world *w = *state;
	uint64_t l = node_up(w, "gpu02");
	struct msg m;

	read_port(w, l, "mlx5_0", 400000);
	for (int i = 0; i < 2; i++) {
		read_port(w, l, "ibp23s0", 400000);
		assert_int_equal(shown(w, "gpu02", &m)->n_attention, 0);
		msg_finish(&m);
		restart(w);
		l = node_up(w, "gpu02");
	}
}

static bool is_slow(struct world *w)
{
	struct msg m;
	struct rec_node_info *n = shown(w, "gpu02", &m);
	bool yes = false;

	for (size_t i = 0; i < n->n_attention; i++)
		yes = yes || strstr(n->attention[i].text, "it was at 400 Gb/s before") != NULL;
	msg_finish(&m);
	return yes;
}

static void a_restart_makes_no_degraded_port_the_new_normal_and_resume_does(void **state)
{
	struct world *w = *state;
	uint64_t l = node_up(w, "gpu02");

	read_rate(w, l, 400000);
	assert_false(is_slow(w));
	restart(w);
	l = node_up(w, "gpu02");
	read_rate(w, l, 200000); /* it trained down while the coordinator was away */
	assert_true(is_slow(w));
	restart(w);
	l = node_up(w, "gpu02");
	read_rate(w, l, 200000);
	assert_true(is_slow(w));
	drain(w, "gpu02", NULL, true, MSG_ok);
	assert_false(is_slow(w));
	restart(w);
	l = node_up(w, "gpu02");
	read_rate(w, l, 200000);
	assert_false(is_slow(w));
}

static void drained_again_without_a_word_it_keeps_its_reason(void **state)
{
	struct world *w = *state;
	struct rec_node_info *n;
	int64_t since;
	struct msg m;

	node_up(w, "gpu02");
	drain(w, "gpu02", "bad fan", false, MSG_ok);
	n = shown(w, "gpu02", &m);
	since = n->cordon_since_wall_ms;
	msg_finish(&m);
	tick(w, 3000);
	drain(w, "gpu02", NULL, false, MSG_ok);
	restart(w);
	node_up(w, "gpu02");
	n = shown(w, "gpu02", &m);
	assert_string_equal(n->attention[0].brief, "drained: bad fan");
	assert_true(n->cordon_since_wall_ms == since);
	msg_finish(&m);
	drain(w, "gpu02", "new fan", false, MSG_ok);
	n = shown(w, "gpu02", &m);
	assert_string_equal(n->attention[0].brief, "drained: new fan");
	msg_finish(&m);
}

static void draining_is_the_administrators_and_of_known_nodes_only(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct msg m;

	drain(w, "gpu[01-99]", "x", false, MSG_refused);
	assert_false(is_cordoned(w, "gpu01", NULL)); /* all or none */
	drain(w, "gpu[", "x", false, MSG_refused);
	forget_sent(w);
	msg_init(&m, MSG_node_drain);
	m.u.node_drain.rid = 9;
	m.u.node_drain.nodes = "gpu01";
	say(w, a, &m); /* passed on by an agent */
	assert_true(was_told(w, a, MSG_refused));
	assert_false(is_cordoned(w, "gpu01", NULL));
}

static void a_drain_that_cannot_be_saved_is_said_so(void **state)
{
	struct world *w = *state;

	node_up(w, "gpu01");
	w->disk_full = true;
	drain(w, "gpu01", "x", false, MSG_refused);
	w->disk_full = false;
}

static void a_node_with_a_process_that_cannot_be_killed_gets_no_job_until_it_is_gone(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");
	struct rec_node_info *n;
	struct msg m;

	stuck(w, b, 4711);
	submit(w, a, "c1", 2);
	store(w);
	assert_waits(w, "process 4711 (python) of job 17 cannot be killed: state D (disk sleep) in nfs_wait_bit_killable");
	n = shown(w, "gpu02", &m);
	assert_string_equal(n->attention[0].severity, "bad");
	assert_non_null(strstr(n->attention[0].fix, "nodectl resume gpu02"));
	assert_false(n->drained);
	msg_finish(&m);
	stuck(w, b, 0);
	store(w);
	assert_true(was_told(w, b, MSG_prepare));
}

static void a_stuck_process_is_known_after_a_restart_and_looked_for(void **state)
{
	struct world *w = *state;
	uint64_t b = node_up(w, "gpu02");
	struct msg m;

	stuck(w, b, 4711);
	restart(w);
	assert_true(is_cordoned(w, "gpu02", "4711"));
	b = node_up(w, "gpu02");
	assert_true(last_to(w, b, MSG_stuck_watch, &m));
	assert_int_equal(m.u.stuck_watch.n_procs, 1);
	assert_int_equal(m.u.stuck_watch.procs[0].pid, 4711);
	assert_int_equal(m.u.stuck_watch.procs[0].start_time, 99);
	msg_finish(&m);
	stuck(w, b, 0);
	restart(w);
	assert_false(is_cordoned(w, "gpu02", NULL));
}

static void each_of_several_is_counted_and_all_must_go(void **state)
{
	struct world *w = *state;
	uint64_t b = node_up(w, "gpu02");

	stuck(w, b, 4711);
	stuck(w, b, 4712);
	stuck(w, b, 4712); /* said again */
	assert_true(is_cordoned(w, "gpu02", ", and 1 more"));
	stuck(w, b, 0);
	assert_true(is_cordoned(w, "gpu02", "process 4712"));
	stuck(w, b, 0); /* it is gone already: nothing changes */
	assert_true(is_cordoned(w, "gpu02", "process 4712"));
}

static void a_reboot_ends_what_nothing_could_end(void **state)
{
	struct world *w = *state;
	uint64_t b = node_up(w, "gpu02");

	stuck(w, b, 4711);
	link_down(w, b);
	node_up_held(w, "gpu02", "another-boot", 0, NULL, NULL, 0, 0);
	store(w);
	assert_false(is_cordoned(w, "gpu02", NULL));
	restart(w);
	assert_false(is_cordoned(w, "gpu02", NULL));
}

static void a_drain_stays_when_the_process_is_gone_and_resume_ends_both(void **state)
{
	struct world *w = *state;
	uint64_t b = node_up(w, "gpu02");
	struct msg m;

	stuck(w, b, 4711);
	drain(w, "gpu02", "look at it", false, MSG_ok);
	stuck(w, b, 0);
	assert_true(is_cordoned(w, "gpu02", "look at it"));
	stuck(w, b, 4711);
	forget_sent(w);
	drain(w, "gpu02", NULL, true, MSG_ok);
	assert_false(is_cordoned(w, "gpu02", NULL));
	assert_true(last_to(w, b, MSG_stuck_watch, &m)); /* the agent need not tell of it again */
	assert_true(m.u.stuck_watch.instead);
	assert_int_equal(m.u.stuck_watch.n_procs, 0);
	msg_finish(&m);
}

static void what_a_node_notices_is_told_once(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	struct msg m;
	uint64_t a, b;

	running_pair(w, &a, &b);
	for (int k = 0; k < 2; k++) { /* its agent may be restarted */
		msg_init(&m, MSG_notice);
		m.u.notice.job = 1;
		m.u.notice.attempt = 1;
		m.u.notice.text = "rank 0 runs 'docker run x'";
		say(w, a, &m);
	}
	i = job_one(w, &m);
	assert_int_equal(i->n_notices, 1);
	assert_string_equal(i->notices[0], "node gpu01: rank 0 runs 'docker run x'");
	msg_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_drained_node_gets_no_new_job_and_who_waits_is_told_why),
		T(what_runs_on_a_drained_node_goes_on),
		T(a_drain_outlives_the_coordinator),
		T(a_restart_makes_no_degraded_port_the_new_normal_and_resume_does),
		T(a_port_with_a_new_name_is_not_gone),
		T(drained_again_without_a_word_it_keeps_its_reason),
		T(draining_is_the_administrators_and_of_known_nodes_only),
		T(a_drain_that_cannot_be_saved_is_said_so),
		T(a_node_with_a_process_that_cannot_be_killed_gets_no_job_until_it_is_gone),
		T(a_stuck_process_is_known_after_a_restart_and_looked_for),
		T(each_of_several_is_counted_and_all_must_go),
		T(a_reboot_ends_what_nothing_could_end),
		T(what_a_node_notices_is_told_once),
		T(a_drain_stays_when_the_process_is_gone_and_resume_ends_both),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
