/* test_events.c - events: kept over a restart, told once, damped, bounded, asked for */
#include "coord_world.h"

#include "core/coord_events.h"

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* The answer to this question; the caller finishes m. */
static struct rec_events *ask(struct world *w, const char *nodes, const char *kind, struct msg *m)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg q;

	msg_init(&q, MSG_events_get);
	q.u.events_get.rid = 3;
	q.u.events_get.nodes = nodes;
	q.u.events_get.kind = kind;
	say(w, l, &q);
	assert_true(last_to(w, l, MSG_events, m));
	link_down(w, l);
	return &m->u.events;
}

static size_t count(struct world *w, const char *nodes, const char *kind)
{
	struct msg m;
	size_t n = ask(w, nodes, kind, &m)->n_events;

	msg_finish(&m);
	return n;
}

static void assert_last(struct world *w, const char *kind, const char *severity, const char *text)
{
	struct msg m;
	struct rec_events *v = ask(w, NULL, kind, &m);

	assert_true(v->n_events > 0);
	assert_string_equal(v->events[v->n_events - 1].severity, severity);
	if (strstr(v->events[v->n_events - 1].text, text) == NULL)
		fail_msg("'%s' is not in '%s'", text, v->events[v->n_events - 1].text);
	msg_finish(&m);
}

static size_t rows_of(const struct world *w, int table)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_rows; i++)
		n += w->rows[i].table == table && w->rows[i].json != NULL;
	return n;
}

static void port(struct world *w, uint64_t link, const char *state)
{
	struct rec_source s = { .name = "verbs", .ok = true };
	struct rec_port p = { .device = "mlx5_2", .port = 1, .state = state, .phys_state = "LinkUp", .link_layer = "InfiniBand" };
	struct msg m;

	MSG_SET(&p, port, lid, 7);
	MSG_SET(&p, port, sm_lid, 1);
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	m.u.readings.ports = &p;
	m.u.readings.n_ports = 1;
	say(w, link, &m);
}

/* As node_up(), by an agent that reads its hardware. */
static uint64_t node_up_probing(struct world *w, const char *name, const char *boot)
{
	uint64_t l = link_up(w, WHO_NODE, name, "agent");
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = name;
	m.u.node_register.boot_id = boot;
	m.u.node_register.incarnation = l;
	m.u.node_register.peer_port = 7000;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	MSG_SET(&m.u.node_register, node_register, probe, true);
	say(w, l, &m);
	return l;
}

static void a_node_that_goes_and_comes_is_told_once_each_time_also_over_a_restart(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");

	assert_int_equal(count(w, "gpu01", "node.ok"), 1);
	tick(w, 3000);
	store(w);
	restart(w);
	a = node_up(w, "gpu01");
	tick(w, 1500);
	assert_int_equal(count(w, "gpu01", "node"), 1); /* it is as it was told */
	link_down(w, a);
	assert_int_equal(count(w, "gpu01", "node.down"), 1);
	tick(w, 1500);
	store(w);
	restart(w);
	tick(w, 10000);
	assert_int_equal(count(w, "gpu01", "node"), 2);
	node_up_held(w, "gpu01", "boot-2", 0, NULL, NULL, 0, 0);
	assert_int_equal(count(w, "gpu01", "node.rebooted"), 1);
	assert_int_equal(count(w, "gpu01", "node.ok"), 2);
}

static void a_node_that_does_not_come_back_after_our_restart_is_told_as_down(void **state)
{
	struct world *w = *state;

	node_up(w, "gpu01");
	node_up(w, "gpu02");
	tick(w, 1500);
	store(w);
	restart(w);
	node_up(w, "gpu02");
	tick(w, 10000);
	assert_int_equal(count(w, "gpu02", "node.down"), 0);
	assert_int_equal(count(w, "gpu01", "node.down"), 1);
	assert_last(w, "node.down", "bad", "has not come back");
}

static void an_event_costs_a_jobs_start_no_write_of_its_own(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	size_t before;

	store(w);
	tick(w, 2000);
	store(w);
	before = rows_of(w, TABLE_EVENT);
	submit(w, a, "c1", 1);
	assert_int_equal(w->n_queue, 1);
	store(w);
	prepared(w, a, true);
	ranks(w, a, 0, "running", 0);
	assert_int_equal(w->n_queue, 0);
	assert_int_equal(count(w, NULL, "job.started"), 1);
	ended(w, a, 0, "exited", 3, false);
	assert_true(w->n_queue > 0); /* the end, and the event of the start with it */
	store(w);
	assert_int_equal(rows_of(w, TABLE_EVENT), before + 1);
	tick(w, 1500);
	store(w);
	assert_int_equal(rows_of(w, TABLE_EVENT), before + 2);
	assert_last(w, "job.failed", "warn", "failed, exit code 3; first on gpu01");
}

/* nodectl jobs calls all of these failed; who asks for those that failed by themselves finds them by one word. */
static void a_job_that_ran_into_a_limit_has_failed_and_one_that_was_killed_was_ended(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct msg m;

	for (int killed = 0; killed < 2; killed++) {
		store(w);
		msg_init(&m, MSG_submit);
		m.u.submit.rid = 9;
		m.u.submit.client_id = killed ? "c2" : "c1";
		m.u.submit.command = "train";
		m.u.submit.nnodes = 1;
		m.u.submit.spec_hash = (struct bytes){ (const uint8_t *)"0123456789abcdef0123456789abcdef", 32 };
		m.u.submit.spec_size = 10;
		m.u.submit.time_s = 2;
		MSG_SET(&m.u.submit, submit, uid, 1000);
		say(w, a, &m);
		store(w);
		prepared(w, a, true);
		store(w);
		ranks(w, a, 0, "running", 0);
		if (killed) {
			msg_init(&m, MSG_kill);
			m.u.kill.rid = 5;
			m.u.kill.job = w->job;
			MSG_SET(&m.u.kill, kill, uid, 1000);
			say(w, a, &m);
		} else {
			tick(w, 2100);
		}
		store(w);
		ended(w, a, 0, "killed", 15, true);
		store(w);
		tick(w, 1500);
		store(w);
		if (killed)
			assert_last(w, "job.ended", "info", "was ended, exit code");
		else
			assert_last(w, "job.failed", "warn", "failed, exit code");
		w->job++;
	}
	assert_int_equal(count(w, "gpu01", "job.failed"), 0); /* it is not to blame */
}

static void the_end_of_a_job_is_told_also_if_we_died_before_it_could_be(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");

	store(w);
	submit(w, a, "c1", 1);
	store(w);
	prepared(w, a, true);
	ranks(w, a, 0, "running", 0);
	tick(w, 1500);
	store(w);
	ended(w, a, 0, "exited", 0, false);
	store_one(w);
	assert_int_equal(count(w, NULL, "job.done"), 1);
	w->n_queue = 0;
	restart(w);
	assert_int_equal(count(w, NULL, "job.done"), 1);
	tick(w, 1500);
	store(w);
	restart(w);
	assert_int_equal(count(w, NULL, "job.done"), 1);
	assert_int_equal(count(w, NULL, "job.started"), 1);
}

static void a_verdict_that_comes_and_goes_is_told_and_not_again_after_a_restart(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up_probing(w, "gpu01", "boot-1");

	port(w, a, "Active");
	assert_int_equal(count(w, NULL, "verdict"), 0);
	port(w, a, "Initializing");
	port(w, a, "Initializing");
	assert_int_equal(count(w, "gpu01", "verdict.came"), 1);
	assert_last(w, "verdict.came", "bad", "mlx5_2");
	tick(w, 1500);
	store(w);
	restart(w);
	a = node_up_probing(w, "gpu01", "boot-1");
	assert_int_equal(count(w, NULL, "verdict"), 1);
	port(w, a, "Initializing");
	assert_int_equal(count(w, NULL, "verdict"), 1);
	port(w, a, "Active");
	assert_int_equal(count(w, NULL, "verdict.gone"), 1);
	assert_last(w, "verdict.gone", "info", "no more: gpu01 mlx5_2: mlx5_2 Initializing");
	tick(w, 1500);
	store(w);
	restart(w);
	a = node_up_probing(w, "gpu01", "boot-1");
	port(w, a, "Active");
	assert_int_equal(count(w, NULL, "verdict"), 2);
}

static void what_flaps_is_told_once_and_then_how_it_ended(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up_probing(w, "gpu01", "boot-1");

	for (int i = 0; i < 20; i++) {
		port(w, a, i % 2 == 0 ? "Initializing" : "Active");
		tick(w, 5000);
		a = node_up_probing(w, "gpu01", "boot-1");
	}
	assert_int_equal(count(w, NULL, "verdict"), 5); /* it came for the third time: since then it is held (coord_hold.c) */
	assert_int_equal(count(w, NULL, "flapping"), count(w, NULL, "node") > 3);
	tick(w, FLAP_MS + 1000);
	a = node_up_probing(w, "gpu01", "boot-1");
	port(w, a, "Active");
	assert_int_equal(count(w, NULL, "verdict"), 6);
	assert_int_equal(count(w, NULL, "verdict.gone"), 3);
}

static void events_are_bounded_and_survive_a_full_disk(void **state)
{
	struct world *w = *state;

	node_up(w, "gpu01");
	w->disk_full = true;
	for (uint32_t i = 0; i < EVENTS_KEEP / 50; i++) {
		uint64_t adm = link_up(w, WHO_LOCAL, NULL, "client");
		struct msg m;

		msg_init(&m, MSG_node_drain);
		m.u.node_drain.rid = 4;
		m.u.node_drain.nodes = "gpu01";
		m.u.node_drain.why = i % 2 == 0 ? "x" : NULL;
		m.u.node_drain.resume = i % 2 == 1;
		say(w, adm, &m);
		link_down(w, adm);
		store(w);
	}
	assert_int_equal(rows_of(w, TABLE_EVENT), 0);
	w->disk_full = false;
	for (int i = 0; i < 20; i++) {
		tick(w, 1500);
		store(w);
	}
	assert_true(rows_of(w, TABLE_EVENT) > EVENTS_KEEP / 50);
	restart(w);
	assert_int_equal(count(w, "gpu01", "node.drain"), EVENTS_KEEP / 100);
	assert_int_equal(count(w, "gpu02", "node.drain"), 0);
	assert_int_equal(count(w, NULL, "node.dr"), 0); /* whole words */
}

static void what_was_not_written_yet_is_when_the_coordinator_stops(void **state)
{
	struct world *w = *state;

	node_up(w, "gpu01");
	store(w);
	link_down(w, w->next_link);
	assert_int_equal(count(w, NULL, "node.down"), 1);
	coord_stopping(w->c, &w->acts);
	take_actions(w);
	store(w);
	restart(w);
	assert_int_equal(count(w, NULL, "node.down"), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_node_that_goes_and_comes_is_told_once_each_time_also_over_a_restart),
		T(a_node_that_does_not_come_back_after_our_restart_is_told_as_down),
		T(an_event_costs_a_jobs_start_no_write_of_its_own),
		T(a_job_that_ran_into_a_limit_has_failed_and_one_that_was_killed_was_ended),
		T(the_end_of_a_job_is_told_also_if_we_died_before_it_could_be),
		T(a_verdict_that_comes_and_goes_is_told_and_not_again_after_a_restart),
		T(what_flaps_is_told_once_and_then_how_it_ended),
		T(events_are_bounded_and_survive_a_full_disk),
		T(what_was_not_written_yet_is_when_the_coordinator_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
