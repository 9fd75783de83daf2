/* test_policy.c - nodes that are left out by themselves, and never too many of them */
#include "coord_world.h"

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static struct coord_conf policy = { .address = "head:7070", .sha256 = fake_sha };

/* The same cluster with this policy, from what is on disk. */
static void with(struct world *w, bool cordon, uint32_t after)
{
	struct msg m;

	policy.cordon_on_bad = cordon;
	policy.quarantine_after = after;
	coord_destroy(w->c);
	forget_sent(w);
	w->c = coord_create(&policy, w->now);
	msg_init(&m, MSG_row_cluster);
	m.u.row_cluster.cluster = "lab";
	m.u.row_cluster.lineage = 42;
	m.u.row_cluster.next_job = 1;
	load(w, &m);
	for (size_t i = 0; i < w->n_rows; i++) {
		if (w->rows[i].json == NULL)
			continue;
		assert_int_equal(msg_decode(w->rows[i].json, strlen(w->rows[i].json), &m, NULL), 0);
		load(w, &m);
		msg_finish(&m);
	}
	w->n_queue = 0;
	coord_loaded(w->c, &w->acts);
	take_actions(w);
}

static uint64_t up(struct world *w, const char *name)
{
	uint64_t l = link_up(w, WHO_NODE, name, "agent");
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = name;
	m.u.node_register.boot_id = "boot-1";
	m.u.node_register.incarnation = l;
	m.u.node_register.peer_port = 7000;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	MSG_SET(&m.u.node_register, node_register, probe, true);
	say(w, l, &m);
	return l;
}

static void port(struct world *w, uint64_t link, const char *state)
{
	struct rec_source s[2] = { { .name = "verbs", .ok = true }, { .name = "nvml", .ok = false, .absent = true } };
	struct rec_port p = { .device = "mlx5_2", .port = 1, .state = state, .phys_state = "LinkUp",
			      .link_layer = "InfiniBand" };
	struct msg m;

	MSG_SET(&p, port, lid, 7);
	MSG_SET(&p, port, sm_lid, 1);
	msg_init(&m, MSG_readings);
	m.u.readings.sources = s;
	m.u.readings.n_sources = 2;
	m.u.readings.ports = &p;
	m.u.readings.n_ports = 1;
	say(w, link, &m);
	store(w);
}

/* What is said of why this node gets no new jobs; "" when it does. */
static const char *cordon(struct world *w, const char *node, char out[600])
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 1;
	m.u.status_get.node = node;
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_status, &m));
	link_down(w, l);
	snprintf(out, 600, "%s", m.u.status.nodes[0].cordon != NULL ? m.u.status.nodes[0].cordon : "");
	msg_finish(&m);
	return out;
}

static size_t events(struct world *w, const char *kind)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;
	size_t n;

	msg_init(&m, MSG_events_get);
	m.u.events_get.rid = 3;
	m.u.events_get.kind = kind;
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_events, &m));
	link_down(w, l);
	n = m.u.events.n_events;
	msg_finish(&m);
	return n;
}

static void resume(struct world *w, const char *node)
{
	uint64_t adm = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_node_drain);
	m.u.node_drain.rid = 4;
	m.u.node_drain.nodes = node;
	m.u.node_drain.resume = true;
	say(w, adm, &m);
	store(w);
	link_down(w, adm);
}

static void an_unfit_node_is_left_out_until_it_has_been_well_for_a_while(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	char text[600];

	with(w, true, 0);
	a = up(w, "gpu01");
	b = up(w, "gpu02");
	port(w, a, "Active");
	port(w, b, "Initializing");
	assert_string_equal(cordon(w, "gpu01", text), "");
	assert_string_equal(cordon(w, "gpu02", text), "it is unfit for jobs: gpu02 mlx5_2: mlx5_2 Initializing");
	port(w, b, "Active");
	assert_string_not_equal(cordon(w, "gpu02", text), "");
	with(w, true, 0); /* it is on disk */
	assert_string_not_equal(cordon(w, "gpu02", text), "");
	up(w, "gpu01");
	b = up(w, "gpu02");
	port(w, b, "Active");
	tick(w, 1000);
	port(w, b, "Active");
	assert_string_not_equal(cordon(w, "gpu02", text), "");
	w->now = mono_add_ms(w->now, 301000);
	b = up(w, "gpu02");
	port(w, b, "Active");
	assert_string_equal(cordon(w, "gpu02", text), "");
	assert_int_equal(events(w, "cordon"), 1);
	assert_int_equal(events(w, "uncordon"), 1);
}

static void half_of_the_nodes_always_stay_and_that_is_told(void **state)
{
	struct world *w = *state;
	char text[600];
	uint64_t v[3];

	with(w, true, 0);
	v[0] = up(w, "gpu01");
	port(w, v[0], "Initializing");
	assert_string_equal(cordon(w, "gpu01", text), "");
	assert_int_equal(events(w, "cordon.not"), 1);
	v[1] = up(w, "gpu02");
	v[2] = up(w, "gpu03");
	for (int i = 0; i < 6; i++)
		port(w, v[i % 3], "Initializing");
	assert_int_equal((*cordon(w, "gpu01", text) != '\0') + (*cordon(w, "gpu02", text) != '\0') +
				 (*cordon(w, "gpu03", text) != '\0'), 1);
	assert_int_equal(events(w, "cordon.not"), 3); /* once each */
}

static void by_default_nobody_is_left_out_and_what_would_be_is_told_once(void **state)
{
	struct world *w = *state;
	char text[600];
	uint64_t a;

	up(w, "gpu02");
	a = up(w, "gpu01");
	port(w, a, "Initializing");
	port(w, a, "Initializing");
	assert_string_equal(cordon(w, "gpu01", text), "");
	assert_int_equal(events(w, "cordon.off"), 1);
}

static void a_resumed_node_gets_jobs_in_spite_of_the_same_verdict(void **state)
{
	struct world *w = *state;
	char text[600];
	uint64_t b;

	with(w, true, 0);
	up(w, "gpu01");
	b = up(w, "gpu02");
	port(w, b, "Initializing");
	assert_string_not_equal(cordon(w, "gpu02", text), "");
	resume(w, "gpu02");
	port(w, b, "Initializing");
	assert_string_equal(cordon(w, "gpu02", text), "");
	store(w);
	with(w, true, 0); /* after a restart, too */
	up(w, "gpu01");
	b = up(w, "gpu02");
	port(w, b, "Initializing");
	assert_string_equal(cordon(w, "gpu02", text), "");
	port(w, b, "Active");
	store(w);
	with(w, true, 0);
	up(w, "gpu01");
	b = up(w, "gpu02");
	port(w, b, "Initializing");
	assert_string_not_equal(cordon(w, "gpu02", text), "");
}

static void fail_as(struct world *w, uint64_t link, uint32_t code, uint32_t uid)
{
	char id[16];

	snprintf(id, sizeof(id), "q%llu", (unsigned long long)w->job);
	submit_as(w, link, id, 1, "gpu01", uid);
	store(w);
	prepared(w, link, true);
	store(w);
	ranks(w, link, 0, "running", 0);
	ended(w, link, 0, "exited", code, false);
	store(w);
	w->job++;
}

/* Of a user of its own each. */
static void fail_on(struct world *w, uint64_t link, uint32_t code)
{
	fail_as(w, link, code, 2000 + (uint32_t)w->job);
}

/* A program that fails wherever it runs is no node's fault, however often its user tries. */
static void one_users_failures_count_once(void **state)
{
	struct world *w = *state;
	char text[600];
	uint64_t a;

	with(w, false, 3);
	a = node_up(w, "gpu01");
	node_up(w, "gpu02");
	store(w);
	for (int i = 0; i < 6; i++)
		fail_as(w, a, 1, 1000);
	fail_as(w, a, 1, 1001);
	assert_string_equal(cordon(w, "gpu01", text), "");
	fail_as(w, a, 139, 1000);
	assert_string_equal(cordon(w, "gpu01", text), "");
	fail_as(w, a, 1, 1002);
	assert_string_equal(cordon(w, "gpu01", text), "it is quarantined: 3 jobs failed there within 60 min (7, 8, 9)");
}

static void a_node_where_jobs_fail_is_quarantined_until_resume(void **state)
{
	struct world *w = *state;
	char text[600];
	uint64_t a;

	with(w, false, 3);
	a = node_up(w, "gpu01");
	node_up(w, "gpu02");
	store(w);
	fail_on(w, a, 1);
	fail_on(w, a, 127); /* no such command: nobody's fault but its user's */
	fail_on(w, a, 0);
	fail_on(w, a, 3);
	assert_string_equal(cordon(w, "gpu01", text), "");
	fail_on(w, a, 1);
	assert_string_equal(cordon(w, "gpu01", text), "it is quarantined: 3 jobs failed there within 60 min (1, 4, 5)");
	assert_int_equal(events(w, "quarantine"), 1);
	with(w, false, 3);
	assert_string_not_equal(cordon(w, "gpu01", text), "");
	a = node_up(w, "gpu01");
	node_up(w, "gpu02");
	resume(w, "gpu01");
	assert_string_equal(cordon(w, "gpu01", text), "");
	fail_on(w, a, 1);
	fail_on(w, a, 1);
	assert_string_equal(cordon(w, "gpu01", text), ""); /* those before count no more */
	w->wall_ms += 3700000;
	fail_on(w, a, 1);
	assert_string_equal(cordon(w, "gpu01", text), ""); /* nor those of an hour ago */
}

static void the_last_nodes_are_not_quarantined(void **state)
{
	struct world *w = *state;
	char text[600];
	uint64_t a;

	with(w, false, 2);
	a = node_up(w, "gpu01");
	store(w);
	fail_on(w, a, 1);
	fail_on(w, a, 1);
	assert_string_equal(cordon(w, "gpu01", text), "");
	assert_int_equal(events(w, "quarantine.not"), 1);
}

static uint32_t sm_lid = 1; /* of manager()'s ports, whose own is 7 */
static const char *layer = "InfiniBand"; /* of the same */

/* A host with this manager, and a port in this state. */
static void manager(struct world *w, uint64_t link, bool running, bool enabled, const char *state)
{
	struct rec_source s[2] = { { .name = "verbs", .ok = true }, { .name = "host", .ok = true } };
	struct rec_port p = { .device = "mlx5_2", .port = 1, .state = state, .phys_state = "LinkUp",
			      .link_layer = layer };
	struct rec_host h = { .sm = "opensm" };
	struct msg m;

	MSG_SET(&p, port, lid, 7);
	MSG_SET(&p, port, sm_lid, sm_lid);
	MSG_SET(&h, host, sm_running, running);
	MSG_SET(&h, host, sm_enabled, enabled);
	msg_init(&m, MSG_readings);
	m.u.readings.sources = s;
	m.u.readings.n_sources = 2;
	m.u.readings.ports = &p;
	m.u.readings.n_ports = 1;
	m.u.readings.host = &h;
	m.u.readings.n_host = 1;
	say(w, link, &m);
	store(w);
}

/* The texts and remedies of all that is said of a node. */
static const char *said(struct world *w, const char *node, char out[4096])
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	size_t len = 0;
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 1;
	m.u.status_get.node = node;
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_status, &m));
	link_down(w, l);
	out[0] = '\0';
	for (size_t i = 0; i < m.u.status.nodes[0].n_attention; i++)
		len += (size_t)snprintf(out + len, 4096 - len, "%s [%s]\n", m.u.status.nodes[0].attention[i].text,
					m.u.status.nodes[0].attention[i].fix);
	msg_finish(&m);
	return out;
}

static void a_port_that_waits_names_the_host_of_its_subnet_manager(void **state)
{
	struct world *w = *state;
	char text[4096];
	uint64_t a = up(w, "gpu01"), b = up(w, "gpu02");

	port(w, b, "Initializing");
	assert_non_null(strstr(said(w, "gpu02", text), "systemctl status opensm")); /* nobody knows where it is */
	port(w, a, "Active"); /* it names LID 1, which is nobody's */
	assert_non_null(strstr(said(w, "gpu02", text), "[Active ports name LID 1 as the subnet manager's, and no node has it"));
	manager(w, a, false, true, "Active");
	assert_non_null(strstr(said(w, "gpu02", text), "[opensm on gpu01 is not running: nodectl fix sm]"));
	manager(w, a, true, true, "Active");
	assert_non_null(strstr(said(w, "gpu02", text), "[opensm on gpu01 runs, and this port is left out"));
	assert_string_equal(said(w, "gpu01", text), "");
	manager(w, a, true, false, "Active");
	assert_non_null(strstr(said(w, "gpu01", text), "opensm runs, but is not enabled"));
	manager(w, a, true, true, "Active");
	manager(w, b, true, true, "Active");
	assert_non_null(strstr(said(w, "gpu01", text), "runs here (this is not the master, by the ports' SM LID), and on 1 other node:"));
	sm_lid = 7;
	manager(w, a, true, true, "Active");
	assert_non_null(strstr(said(w, "gpu01", text), "runs here (this is the master, by the ports' SM LID), and on 1 other node:"));
	sm_lid = 1;
}

/* Debian's package of opensm enables it, and other packages bring it along. */
static void where_all_ports_are_ethernet_no_subnet_manager_is_missed(void **state)
{
	struct world *w = *state;
	char text[4096];
	uint64_t a = up(w, "gpu01"), b = up(w, "gpu02");

	layer = "Ethernet";
	manager(w, a, false, true, "Active");
	assert_string_equal(said(w, "gpu01", text), "");
	layer = "InfiniBand";
	manager(w, b, false, false, "Active"); /* one port on another node is enough */
	assert_non_null(strstr(said(w, "gpu01", text), "opensm is enabled here and does not run, nor does one on another node"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_unfit_node_is_left_out_until_it_has_been_well_for_a_while),
		T(half_of_the_nodes_always_stay_and_that_is_told),
		T(by_default_nobody_is_left_out_and_what_would_be_is_told_once),
		T(a_resumed_node_gets_jobs_in_spite_of_the_same_verdict),
		T(one_users_failures_count_once),
		T(a_node_where_jobs_fail_is_quarantined_until_resume),
		T(the_last_nodes_are_not_quarantined),
		T(a_port_that_waits_names_the_host_of_its_subnet_manager),
		T(where_all_ports_are_ethernet_no_subnet_manager_is_missed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
