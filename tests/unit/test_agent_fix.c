/* test_agent_fix.c - an agent told to have the subnet manager restarted: passed to the launcher, whose word is passed back */
#include "agent_world.h"

#define L(f) cmocka_unit_test_setup_teardown(f, setup_launcher, teardown)

static int setup_launcher(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct agent_conf conf = { .node = "gpu01", .boot_id = "boot-1", .coordinator = "head:7070", .incarnation = 1, .peer_port = 7,
				   .uid_max = 60000 };
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct agent_event ev = { .type = AEV_ADDRS, .addrs = &addr, .n_addrs = 1 };

	w->now = (mono_t){ 1000000000 };
	actions_init(&w->acts);
	w->a = agent_create(&conf, w->now);
	feed(w, &ev);
	connect_coord(w);
	forget(w);
	*state = w;
	return 0;
}

static void order(struct world *w, uint32_t rid, uint32_t unit)
{
	struct msg m;

	msg_init(&m, MSG_sm_fix);
	m.u.sm_fix.rid = rid;
	MSG_SET(&m.u.sm_fix, sm_fix, unit, unit);
	say(w, COORD, &m);
}

static void launcher_says(struct world *w, int error, uint32_t result, const char *text)
{
	struct agent_event ev = { .type = AEV_DONE, .ticket = ticket_of(w, ACT_FIX_SM), .error = error, .result = result, .text = text };

	assert_int_not_equal(ev.ticket, 0);
	feed(w, &ev);
}

static void told(struct world *w, uint32_t rid, bool restarted, const char *code, const char *words)
{
	struct msg m;

	assert_true(last(w, COORD, MSG_sm_fixed, &m));
	assert_int_equal(m.u.sm_fixed.rid, rid);
	assert_int_equal(m.u.sm_fixed.restarted, restarted);
	assert_string_equal(m.u.sm_fixed.code != NULL ? m.u.sm_fixed.code : "", code);
	assert_non_null(strstr(m.u.sm_fixed.text != NULL ? m.u.sm_fixed.text : "", words));
	msg_finish(&m);
	forget(w);
}

static void the_launchers_word_is_passed_back(void **state)
{
	static const struct {
		int error;
		uint32_t result;
		const char *text, *code, *words;
		bool restarted;
	} rows[] = {
		{ 0, 0, "", "", "", true },
		{ 0, 5, "systemctl restart opensm ended with 5: masked", "failed", "masked", false },
		{ 0, 256, "", "", "", true },
		{ 0, 256 + 1, "systemctl enable opensm ended with 1", "failed", "enable", true },
		{ -EPERM, 0, "root allows it there with: touch", "off", "touch", false },
		{ -EPROTO, 0, "the launcher does not know operation 6", "old", "is older than its agent", false },
		{ -EPIPE, 0, "it has died", "unknown", "on gpu01 has ended meanwhile; whether it was carried out: systemctl status opensm", false },
		{ -ENOENT, 0, "does not know this order", "unknown", "order", false },
		{ -EAGAIN, 0, "does not run", "no-launcher", "not run", false },
		{ -EBUSY, 0, "already", "busy", "already", false },
		{ -ETIME, 0, "did not end within 20 s", "late", "20 s", false },
		{ -ETIME, 256, "systemctl enable opensm did not end within 10 s", "late", "10 s", true },
		{ -ETIMEDOUT, 0, "could not be ended", "late", "ended", false },
		{ -EINVAL, 0, "malformed", "old", "is older than its agent", false },
	};
	struct world *w = *state;

	for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		order(w, i + 1, 1);
		launcher_says(w, rows[i].error, rows[i].result, rows[i].text);
		told(w, i + 1, rows[i].restarted, rows[i].code, rows[i].words);
	}
}

static void one_at_a_time(void **state)
{
	struct world *w = *state;

	order(w, 1, 2);
	order(w, 2, 2);
	told(w, 2, false, "busy", "already");
}

static void tell(struct world *w, uint32_t rid, uint64_t number, bool only)
{
	struct msg m;

	msg_init(&m, MSG_sm_fix);
	m.u.sm_fix.rid = rid;
	MSG_SET(&m.u.sm_fix, sm_fix, unit, 1);
	MSG_SET(&m.u.sm_fix, sm_fix, order, number);
	MSG_SET(&m.u.sm_fix, sm_fix, tell, only);
	say(w, COORD, &m);
}

static void what_became_of_an_order_is_asked_of_the_launcher(void **state)
{
	static const int errors[] = { -EAGAIN, -EPROTO, -EINVAL, -EPIPE };
	struct world *w = *state;

	tell(w, 1, 77, false);
	tell(w, 2, 77, true); /* the session was another when it began */
	launcher_says(w, 0, 0, "");
	told(w, 2, true, "", "");
	tell(w, 3, 77, true);
	for (size_t i = 0; i < w->acts.n; i++)
		if (w->acts.v[i].type == ACT_FIX_SM)
			assert_true(w->acts.v[i].tell && w->acts.v[i].order == 77);
	launcher_says(w, 0, 5, "masked");
	told(w, 3, false, "failed", "masked");
	for (size_t i = 0; i < 4; i++) { /* who cannot be asked has not said no */
		tell(w, 4, 78, true);
		launcher_says(w, errors[i], 0, "words");
		told(w, 4, false, "unknown", "whether it was carried out: systemctl status opensm");
	}
}

static void an_order_that_names_nothing_asks_nobody(void **state)
{
	struct world *w = *state;

	order(w, 1, 0);
	told(w, 1, false, "failed", "no subnet manager");
	order(w, 2, 3);
	assert_false(asked(w, ACT_FIX_SM));
	told(w, 2, false, "failed", "no subnet manager");
}

static void an_agent_of_one_user_has_no_launcher_and_says_what_to_type(void **state)
{
	struct world *w = *state;

	order(w, 1, 1);
	assert_false(asked(w, ACT_FIX_SM));
	told(w, 1, false, "no-launcher", "type there, as root: systemctl restart opensm");
}

/* Its client is told so at once, not after half a minute. */
static void an_older_coordinator_is_not_asked(void **state)
{
	struct world *w = *state;
	struct msg m;

	up(w, 7, LINK_CLIENT);
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = "t";
	m.u.hello.role = "client";
	say(w, 7, &m);
	msg_init(&m, MSG_sm_fix);
	m.u.sm_fix.rid = 3;
	MSG_SET(&m.u.sm_fix, sm_fix, look, true);
	say(w, 7, &m);
	assert_int_equal(count(w, COORD, MSG_sm_fix), 0);
	assert_true(last(w, 7, MSG_refused, &m));
	assert_non_null(strstr(m.u.refused.text, "does not know 'nodectl fix sm'"));
	msg_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		L(the_launchers_word_is_passed_back),
		L(what_became_of_an_order_is_asked_of_the_launcher),
		L(one_at_a_time),
		L(an_order_that_names_nothing_asks_nobody),
		T(an_agent_of_one_user_has_no_launcher_and_says_what_to_type),
		L(an_older_coordinator_is_not_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
