/* test_coord_fix.c - the coordinator asked to have the subnet manager restarted: who may, who does it, what is told */
#include "coord_world.h"

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static bool tells; /* its agent tells what became of an order */
static uint64_t agent; /* that registers; 0: a new one each time */

/* A node whose agent knows how to (or not), with opensm that does not run. */
static uint64_t manager(struct world *w, const char *name, bool fixes)
{
	uint64_t l = link_up(w, WHO_NODE, name, "agent");
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct rec_source s = { .name = "host", .ok = true };
	struct rec_host h = { .sm = "opensm" };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = name;
	m.u.node_register.boot_id = "boot-1";
	m.u.node_register.incarnation = agent != 0 ? agent : l;
	m.u.node_register.peer_port = 7000;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	m.u.node_register.software = "0.1.0";
	MSG_SET(&m.u.node_register, node_register, probe, true);
	if (fixes)
		MSG_SET(&m.u.node_register, node_register, fixes_sm, true);
	if (tells)
		MSG_SET(&m.u.node_register, node_register, tells_fix, true);
	say(w, l, &m);
	MSG_SET(&h, host, sm_running, false);
	MSG_SET(&h, host, sm_enabled, true);
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	m.u.readings.host = &h;
	m.u.readings.n_host = 1;
	say(w, l, &m);
	store(w);
	return l;
}

static void ask(struct world *w, uint64_t link, const char *node, bool look, bool enable)
{
	struct msg m;

	msg_init(&m, MSG_sm_fix);
	m.u.sm_fix.rid = 5;
	m.u.sm_fix.node = node;
	MSG_SET(&m.u.sm_fix, sm_fix, look, look);
	MSG_SET(&m.u.sm_fix, sm_fix, enable, enable);
	MSG_SET(&m.u.sm_fix, sm_fix, unit, 2); /* a client's word: not heard */
	say(w, link, &m);
	store(w); /* an order is on disk before it is given */
}

/* Its rid in an order to this node; 0: there is none. */
static uint32_t ordered(struct world *w, uint64_t node, bool enable)
{
	struct msg m;
	uint32_t rid;

	if (!last_to(w, node, MSG_sm_fix, &m))
		return 0;
	assert_int_equal(m.u.sm_fix.unit, 1);
	assert_int_equal(m.u.sm_fix.enable, enable);
	assert_null(m.u.sm_fix.node);
	rid = m.u.sm_fix.rid;
	msg_finish(&m);
	return rid;
}

static void report(struct world *w, uint64_t node, uint32_t rid, bool restarted, const char *code, const char *text)
{
	struct msg m;

	msg_init(&m, MSG_sm_fixed);
	m.u.sm_fixed.rid = rid;
	MSG_SET(&m.u.sm_fixed, sm_fixed, restarted, restarted);
	m.u.sm_fixed.code = code;
	m.u.sm_fixed.text = text;
	m.u.sm_fixed.node = "gpu03"; /* whose word it is the link says */
	say(w, node, &m);
	store(w);
}

static void answered(struct world *w, uint64_t link, bool restarted, const char *code, const char *words)
{
	struct msg m;

	assert_true(last_to(w, link, MSG_sm_fixed, &m));
	assert_int_equal(m.u.sm_fixed.rid, 5);
	assert_int_equal(m.u.sm_fixed.restarted, restarted);
	assert_string_equal(m.u.sm_fixed.code != NULL ? m.u.sm_fixed.code : "", code);
	if (strstr(m.u.sm_fixed.text != NULL ? m.u.sm_fixed.text : "", words) == NULL)
		fail_msg("'%s' is not in '%s'", words, m.u.sm_fixed.text);
	msg_finish(&m);
}

/* The texts of all events of this kind, a line each. */
static const char *events(struct world *w, char out[2048])
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	size_t len = 0;
	struct msg m;

	msg_init(&m, MSG_events_get);
	m.u.events_get.rid = 3;
	m.u.events_get.kind = "fix";
	say(w, l, &m);
	assert_true(last_to(w, l, MSG_events, &m));
	link_down(w, l);
	out[0] = '\0';
	for (size_t i = 0; i < m.u.events.n_events; i++)
		len += (size_t)snprintf(out + len, 2048 - len, "%s %s: %s\n", m.u.events.events[i].node, m.u.events.events[i].severity,
					m.u.events.events[i].text);
	msg_finish(&m);
	return out;
}

static uint64_t stranger(struct world *w)
{
	struct coord_event ev = { .type = CEV_LINK_UP, .link = ++w->next_link, .who = WHO_LOCAL, .uid = 1000 };
	struct msg m;

	feed(w, &ev);
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = "test";
	m.u.hello.role = "client";
	say(w, w->next_link, &m);
	return w->next_link;
}

static void everybody_may_ask_where_it_is(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), other = manager(w, "gpu02", true), l = stranger(w);
	struct msg m;

	ask(w, l, "gpu02", true, false);
	assert_true(last_to(w, l, MSG_sm_fixed, &m));
	assert_string_equal(m.u.sm_fixed.node, "gpu02");
	assert_string_equal(m.u.sm_fixed.unit, "opensm");
	assert_false(m.u.sm_fixed.running);
	assert_true(m.u.sm_fixed.enabled);
	assert_null(m.u.sm_fixed.code);
	assert_int_equal(m.u.sm_fixed.n_found, 2);
	msg_finish(&m);
	ask(w, n, "gpu01", true, false); /* over an agent, too */
	answered(w, n, false, "", "");
	ask(w, l, NULL, true, false);
	answered(w, l, false, "none", "several nodes have a subnet manager");
	ask(w, l, "gpu09", true, false);
	assert_true(was_told(w, l, MSG_refused));
	assert_int_equal(ordered(w, n, false), 0);
	assert_int_equal(ordered(w, other, false), 0);
}

static void restarting_is_the_administrators(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), l = stranger(w);
	char text[2048];

	ask(w, l, NULL, false, false);
	assert_true(was_told(w, l, MSG_refused));
	ask(w, n, NULL, false, false); /* what an agent passes on is nobody's own word */
	assert_true(was_told(w, n, MSG_refused));
	assert_int_equal(ordered(w, n, false), 0);
	assert_string_equal(events(w, text), "");
}

static void the_node_is_told_two_numbers_and_its_answer_is_an_event(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), other = node_up(w, "gpu02"), l = link_up(w, WHO_LOCAL, NULL, "client");
	uint32_t rid;
	char text[2048];

	ask(w, l, NULL, false, true);
	rid = ordered(w, n, true);
	assert_int_not_equal(rid, 0);
	assert_false(was_told(w, l, MSG_sm_fixed));
	assert_true(coord_link_waits(w->c, l));
	report(w, other, rid, true, NULL, NULL); /* another node's word */
	report(w, n, rid + 1, true, NULL, NULL);
	assert_false(was_told(w, l, MSG_sm_fixed));
	report(w, n, rid, true, NULL, NULL);
	answered(w, l, true, "", "");
	assert_false(coord_link_waits(w->c, l));
	assert_string_equal(events(w, text), "gpu01 info: opensm was restarted and enabled, as uid 1000 asked\n");
	forget_sent(w);
	report(w, n, rid, true, NULL, NULL); /* said twice */
	assert_false(was_told(w, l, MSG_sm_fixed));
}

static void what_went_wrong_is_told_also_when_nobody_waits(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), l = link_up(w, WHO_LOCAL, NULL, "client");
	char text[2048];

	ask(w, l, NULL, false, false);
	link_down(w, l);
	report(w, n, ordered(w, n, false), false, "off", "it is not allowed there");
	assert_string_equal(events(w, text), "gpu01 warn: opensm was not restarted, as uid 1000 asked: it is not allowed there\n");
}

static void one_at_a_time_and_not_for_ever(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), l = link_up(w, WHO_LOCAL, NULL, "client"), k = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg ping;
	char text[2048];

	ask(w, l, NULL, false, false);
	ask(w, k, NULL, false, false);
	answered(w, k, false, "busy", "is being restarted already");
	for (int i = 0; i < 45; i++) { /* it is heard, and says nothing of that */
		msg_init(&ping, MSG_ping);
		ping.u.ping.seq = 1;
		say(w, n, &ping);
		tick(w, 1000);
	}
	answered(w, l, false, "late", "gpu01 has not answered within 40 s");
	store(w);
	assert_non_null(strstr(events(w, text), "gpu01 warn: opensm may or may not have been restarted, as uid 1000 asked: gpu01 has not answered"));
	ask(w, k, NULL, false, false);
	assert_true(ordered(w, n, false) > 1);
}

static void an_old_agent_and_an_absent_one_are_named(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", false), l = link_up(w, WHO_LOCAL, NULL, "client");

	ask(w, l, NULL, false, false);
	answered(w, l, false, "old", "the agent on gpu01 (version 0.1.0) is older");
	assert_int_equal(ordered(w, n, false), 0);
	link_down(w, n);
	ask(w, l, NULL, false, false);
	answered(w, l, false, "none", ""); /* its readings went with it */
}

static void a_node_may_leave_while_it_is_waited_for(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	ask(w, l, NULL, false, false);
	assert_true(ordered(w, n, false) > 0);
	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 6;
	m.u.node_remove.node = "gpu01";
	MSG_SET(&m.u.node_remove, node_remove, force, true);
	say(w, l, &m);
	store(w);
	tick(w, 45000);
	answered(w, l, false, "late", "gpu01 has not answered");
}

static void an_order_is_given_when_it_is_on_disk(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_sm_fix);
	m.u.sm_fix.rid = 5;
	say(w, l, &m);
	assert_int_equal(ordered(w, n, false), 0);
	store(w);
	assert_true(ordered(w, n, false) > 0);
}

/* Asked for what became of its order, and not to carry it out again: its number, and our rid of now. */
static uint64_t is_asked_again(struct world *w, uint64_t node, uint32_t *ret_rid)
{
	struct msg m;
	uint64_t order;

	assert_true(last_to(w, node, MSG_sm_fix, &m));
	assert_true(m.u.sm_fix.tell);
	order = m.u.sm_fix.order;
	*ret_rid = m.u.sm_fix.rid;
	msg_finish(&m);
	return order;
}

static uint64_t order_of(struct world *w, uint64_t node)
{
	struct msg m;
	uint64_t order;

	assert_true(last_to(w, node, MSG_sm_fix, &m));
	assert_false(m.u.sm_fix.tell);
	order = m.u.sm_fix.order;
	msg_finish(&m);
	return order;
}

static void an_agent_that_was_restarted_meanwhile_is_asked_and_its_answer_told(void **state)
{
	struct world *w = *state;
	uint64_t n, l = link_up(w, WHO_LOCAL, NULL, "client"), order;
	uint32_t rid;
	char text[2048];

	tells = true;
	n = manager(w, "gpu01", true);
	ask(w, l, NULL, false, false);
	order = order_of(w, n);
	assert_int_not_equal(order, 0);
	link_down(w, n);
	n = manager(w, "gpu01", true);
	assert_int_equal(is_asked_again(w, n, &rid), order);
	assert_false(was_told(w, l, MSG_sm_fixed));
	report(w, n, rid, true, NULL, NULL);
	answered(w, l, true, "", "");
	assert_string_equal(events(w, text), "gpu01 info: opensm was restarted, as uid 1000 asked\n");
	link_down(w, n);
	n = manager(w, "gpu01", true);
	assert_false(was_told(w, n, MSG_sm_fix)); /* it is over */
	tells = false;
}

static void what_came_too_late_for_the_client_is_an_event_when_the_node_is_back(void **state)
{
	struct world *w = *state;
	uint64_t n, l = link_up(w, WHO_LOCAL, NULL, "client"), order;
	uint32_t rid;
	char text[2048];

	tells = true;
	n = manager(w, "gpu01", true);
	ask(w, l, NULL, false, true);
	order = order_of(w, n);
	link_down(w, n);
	tick(w, 45000);
	store(w);
	answered(w, l, false, "late", "is not reachable: what became of it is an event");
	n = manager(w, "gpu01", true);
	assert_int_equal(is_asked_again(w, n, &rid), order);
	report(w, n, rid, false, "failed", "masked");
	assert_non_null(strstr(events(w, text), "gpu01 warn: opensm was not restarted (and enabled), as uid 1000 asked before: masked"));
	assert_non_null(strstr(text, "may or may not"));
	forget_sent(w);
	ask(w, l, NULL, false, true); /* it stands in nobody's way */
	assert_true(order_of(w, n) != order);
	tells = false;
}

static void a_coordinator_that_was_restarted_meanwhile_asks_and_tells(void **state)
{
	struct world *w = *state;
	uint64_t n, l = link_up(w, WHO_LOCAL, NULL, "client"), order;
	uint32_t rid;
	char text[2048];

	tells = true;
	n = manager(w, "gpu01", true);
	ask(w, l, NULL, false, false);
	order = order_of(w, n);
	restart(w);
	n = manager(w, "gpu01", true);
	assert_int_equal(is_asked_again(w, n, &rid), order);
	restart(w); /* once more, before the answer */
	n = manager(w, "gpu01", true);
	assert_int_equal(is_asked_again(w, n, &rid), order);
	report(w, n, rid, false, "unknown", "look there");
	assert_string_equal(events(w, text), "gpu01 warn: opensm may or may not have been restarted, as uid 1000 asked before: look there\n");
	restart(w);
	n = manager(w, "gpu01", true);
	assert_false(was_told(w, n, MSG_sm_fix));
	tells = false;
}

static void of_an_older_agent_it_is_not_known_and_said(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), l = link_up(w, WHO_LOCAL, NULL, "client");
	char text[2048];

	ask(w, l, NULL, false, false);
	link_down(w, n);
	forget_sent(w);
	n = manager(w, "gpu01", true);
	assert_false(was_told(w, n, MSG_sm_fix));
	answered(w, l, false, "unknown", "was away meanwhile; look there: systemctl status opensm");
	assert_non_null(strstr(events(w, text), "may or may not have been restarted"));
}

static void an_older_agent_whose_connection_was_lost_goes_on_and_is_waited_for(void **state)
{
	struct world *w = *state;
	uint64_t n, l = link_up(w, WHO_LOCAL, NULL, "client");
	uint32_t rid;
	char text[2048];

	agent = 77;
	n = manager(w, "gpu01", true);
	ask(w, l, NULL, false, false);
	rid = ordered(w, n, false);
	link_down(w, n);
	n = manager(w, "gpu01", true);
	assert_false(was_told(w, l, MSG_sm_fixed));
	report(w, n, rid, true, NULL, NULL);
	answered(w, l, true, "", "");
	assert_string_equal(events(w, text), "gpu01 info: opensm was restarted, as uid 1000 asked\n");
	agent = 0;
}

static void one_that_is_refused_for_being_too_often_is_no_event(void **state)
{
	struct world *w = *state;
	uint64_t n = manager(w, "gpu01", true), l = link_up(w, WHO_LOCAL, NULL, "client");
	char text[2048];

	ask(w, l, NULL, false, false);
	report(w, n, ordered(w, n, false), false, "busy", "it may be tried again in 300 s");
	answered(w, l, false, "busy", "again in 300 s");
	assert_string_equal(events(w, text), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_order_is_given_when_it_is_on_disk),
		T(an_agent_that_was_restarted_meanwhile_is_asked_and_its_answer_told),
		T(what_came_too_late_for_the_client_is_an_event_when_the_node_is_back),
		T(a_coordinator_that_was_restarted_meanwhile_asks_and_tells),
		T(of_an_older_agent_it_is_not_known_and_said),
		T(an_older_agent_whose_connection_was_lost_goes_on_and_is_waited_for),
		T(one_that_is_refused_for_being_too_often_is_no_event),
		T(everybody_may_ask_where_it_is),
		T(restarting_is_the_administrators),
		T(the_node_is_told_two_numbers_and_its_answer_is_an_event),
		T(what_went_wrong_is_told_also_when_nobody_waits),
		T(one_at_a_time_and_not_for_ever),
		T(an_old_agent_and_an_absent_one_are_named),
		T(a_node_may_leave_while_it_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
