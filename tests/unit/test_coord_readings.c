/* test_coord_readings.c - clocks, ports and topologies that nodes tell of, and how old trouble is */
#include "gpu_world.h"

#define TEST(name) static void name(void **state)

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

/* Its last words of the node's trouble; "" when there is none. */
static const char *brief_of(struct world *w, char out[129])
{
	struct msg m;
	const struct rec_node_info *i = show(w, "gpu01", &m);

	snprintf(out, 129, "%s", i->brief != NULL ? i->brief : "");
	msg_finish(&m);
	return out;
}

TEST(what_comes_and_goes_is_held_until_it_has_been_away_for_long)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01");
	char out[129];

	for (int i = 0; i < 3; i++) {
		assert_string_equal(brief_of(w, out), ""); /* once or twice: well is well */
		read_port(w, a, "Initializing", 0);
		assert_string_equal(brief_of(w, out), "mlx5_1 Initializing");
		w->now = mono_add_ms(w->now, 60000);
		read_port(w, a, "Active", 0);
	}
	assert_string_equal(brief_of(w, out), "mlx5_1 Initializing, on and off");
	w->now = mono_add_ms(w->now, 299000);
	read_port(w, a, "Active", 0);
	assert_string_equal(brief_of(w, out), "mlx5_1 Initializing, on and off");
	w->now = mono_add_ms(w->now, 2000);
	assert_string_equal(brief_of(w, out), "");
	w->now = mono_add_ms(w->now, 3600000); /* long after it is a first time again */
	read_port(w, a, "Initializing", 0);
	read_port(w, a, "Active", 0);
	assert_string_equal(brief_of(w, out), "");
}

static void ask_checks(struct world *w, uint64_t l, const char *nodes, const char *id, bool all, struct msg *ret)
{
	msg_init(ret, MSG_checks_get);
	ret->u.checks_get.rid = 5;
	ret->u.checks_get.nodes = nodes;
	ret->u.checks_get.id = id;
	ret->u.checks_get.all = all;
	say(w, l, ret);
}

TEST(nodes_of_which_nothing_is_read_are_counted)
{
	static const struct {
		const char *source;
		bool ok, absent;
		uint32_t of_gpus, of_ports, at_all;
	} cases[] = { { "nvml", true, false, 0, 0, 0 }, { "nvml", false, false, 1, 0, 0 }, { "nvml", false, true, 0, 0, 0 },
		      { "verbs", false, false, 0, 1, 0 }, { "sysfs", true, false, 0, 0, 0 }, { "probe", false, false, 1, 1, 1 } };
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01"), l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	ask_checks(w, l, NULL, NULL, false, &m);
	assert_true(last_to(w, l, MSG_checks, &m));
	assert_true(m.u.checks.nodes == 3 && m.u.checks.unread == 3);
	msg_finish(&m);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rec_source s = { .name = cases[i].source, .ok = cases[i].ok, .text = "so it is" };
		const char *const ids[] = { "gpu.", "ib.", NULL };
		const uint32_t want[] = { cases[i].of_gpus, cases[i].of_ports, cases[i].at_all };

		if (cases[i].absent)
			MSG_SET(&s, source, absent, true);
		msg_init(&m, MSG_readings);
		m.u.readings = (struct rec_readings){ .sources = &s, .n_sources = 1 };
		say(w, a, &m);
		for (size_t k = 0; k < 3; k++) {
			ask_checks(w, l, "gpu01", ids[k], false, &m);
			assert_true(last_to(w, l, MSG_checks, &m));
			if (m.u.checks.unread != want[k])
				fail_msg("case %zu, %s: %u not read", i, ids[k] != NULL ? ids[k] : "all", m.u.checks.unread);
			msg_finish(&m);
		}
	}
}

TEST(checks_are_told_with_their_verdicts_and_counted)
{
	struct world *w = *state;
	uint64_t a = silent_box(w, "gpu01"), l;
	int64_t first = w->wall_ms;
	size_t unknown, rows;
	struct msg m;

	read_port(w, a, "Initializing", 0);
	w->wall_ms += 5000;
	l = link_up(w, WHO_LOCAL, NULL, "client");
	ask_checks(w, l, "gpu01", "ib.state", false, &m);
	assert_true(last_to(w, l, MSG_checks, &m));
	assert_int_equal(m.u.checks.n_rows, 1);
	assert_string_equal(m.u.checks.rows[0].verdict, "bad");
	assert_string_equal(m.u.checks.rows[0].what, "mlx5_1");
	assert_int_equal(m.u.checks.rows[0].since_wall_ms, first);
	assert_true(m.u.checks.bad == 1 && m.u.checks.ok == 0 && m.u.checks.nodes == 1);
	msg_finish(&m);
	ask_checks(w, l, NULL, "node.reachable", true, &m);
	assert_true(last_to(w, l, MSG_checks, &m));
	assert_int_equal(m.u.checks.n_rows, 3); /* gpu02 and gpu03 never came */
	assert_true(m.u.checks.bad == 2 && m.u.checks.ok == 1);
	msg_finish(&m);
	ask_checks(w, l, "gpu01", NULL, false, &m);
	assert_true(last_to(w, l, MSG_checks, &m));
	unknown = m.u.checks.unknown;
	rows = m.u.checks.n_rows;
	assert_true(unknown > 0);
	msg_finish(&m);
	msg_init(&m, MSG_checks_get);
	m.u.checks_get.rid = 6;
	m.u.checks_get.nodes = "gpu01";
	MSG_SET(&m.u.checks_get, checks_get, no_unknown, true);
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_checks, &m));
	assert_int_equal(m.u.checks.unknown, unknown); /* counted, and not listed */
	assert_int_equal(m.u.checks.n_rows, rows - unknown);
	msg_finish(&m);
	forget_sent(w);
	ask_checks(w, l, "gpu09", NULL, false, &m);
	assert_false(was_told(w, l, MSG_checks));
	assert_true(was_told(w, l, MSG_refused));
	forget_sent(w);
	ask_checks(w, l, NULL, "ib.nonsense", false, &m);
	assert_true(was_told(w, l, MSG_refused) && !was_told(w, l, MSG_checks));
	/* three comings: held, and the check is not called ok */
	for (int i = 0; i < 3; i++) {
		read_port(w, a, "Active", 0);
		read_port(w, a, "Initializing", 0);
	}
	read_port(w, a, "Active", 0);
	ask_checks(w, l, "gpu01", "ib.state", true, &m);
	assert_true(last_to(w, l, MSG_checks, &m));
	assert_int_equal(m.u.checks.n_rows, 1);
	assert_string_equal(m.u.checks.rows[0].verdict, "bad");
	assert_non_null(strstr(m.u.checks.rows[0].text, "comes and goes"));
	msg_finish(&m);
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

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_ping_is_answered_with_the_times_of_its_coming),
		T(trouble_is_as_old_as_the_readings_say_or_as_our_knowledge_of_it),
		T(what_comes_and_goes_is_held_until_it_has_been_away_for_long),
		T(nodes_of_which_nothing_is_read_are_counted),
		T(checks_are_told_with_their_verdicts_and_counted),
		T(a_wrong_clock_is_as_old_as_the_ping_that_told_it),
		T(what_a_new_session_has_not_told_yet_is_as_old_as_before),
		T(a_clock_is_marked_exactly_when_an_attention_tells_of_it),
		T(a_topology_is_asked_of_the_node_and_waited_for_in_vain_only_so_long),
		T(a_node_that_is_removed_while_its_topology_is_asked_for_harms_nobody),
	};

	return cmocka_run_group_tests_name("coord readings", tests, NULL, NULL);
}
