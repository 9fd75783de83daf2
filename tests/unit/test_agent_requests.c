/* test_agent_requests.c - what clients ask of an agent, and specifications on their way */
#include "agent_world.h"

#define CLIENT 300

/* ---- clients ------------------------------------------------------------------------------ */

static void client_hello(struct world *w)
{
	struct msg m;

	up(w, CLIENT, LINK_CLIENT);
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = "t";
	m.u.hello.role = "client";
	say(w, CLIENT, &m);
	assert_int_equal(count(w, CLIENT, MSG_welcome), 1);
}

static void a_client_cannot_say_who_it_is(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 0);
	m.u.kill.user = "root";
	say(w, CLIENT, &m);
	assert_true(last(w, COORD, MSG_kill, &m));
	assert_int_equal(m.u.kill.uid, 1000);
	assert_string_equal(m.u.kill.user, "li");
	msg_finish(&m);
}

static void ask_plan(struct world *w)
{
	struct rec_submit s = { .rid = 1, .client_id = "plan", .command = "true", .spec_size = 1, .user = "root" };
	struct msg m;

	MSG_SET(&s, submit, uid, 0);
	msg_init(&m, MSG_plan_get);
	m.u.plan_get.rid = 6;
	m.u.plan_get.submit = &s;
	m.u.plan_get.n_submit = 1;
	say(w, CLIENT, &m);
}

static void a_plan_is_asked_for_the_one_who_asks_and_its_answer_comes_back(void **state)
{
	struct world *w = *state;
	struct msg m, answer;

	client_hello(w);
	ask_plan(w);
	assert_true(last(w, COORD, MSG_plan_get, &m));
	assert_int_equal(m.u.plan_get.submit[0].uid, 1000);
	assert_string_equal(m.u.plan_get.submit[0].user, "li");
	msg_init(&answer, MSG_plan);
	answer.u.plan.rid = m.u.plan_get.rid;
	answer.u.plan.text = "it would wait";
	msg_finish(&m);
	say(w, COORD, &answer);
	assert_true(last(w, CLIENT, MSG_plan, &m));
	assert_int_equal(m.u.plan.rid, 6);
	msg_finish(&m);
}

static void a_request_waits_for_the_coordinator_and_then_gives_up_with_a_sentence(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	down(w, COORD);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 7;
	m.u.kill.job = 1;
	say(w, CLIENT, &m);
	tick(w, 29000);
	assert_int_equal(count(w, CLIENT, MSG_refused), 0);
	tick(w, 2000);
	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, 7);
	assert_non_null(strstr(m.u.refused.text, "head:7070"));
	msg_finish(&m);
}

static void ask_status(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 7;
	say(w, CLIENT, &m);
}

static void assert_away(struct world *w, const char *words)
{
	struct msg m;

	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_string_equal(m.u.refused.code, "unavailable");
	assert_non_null(strstr(m.u.refused.text, words));
	assert_non_null(strstr(m.u.refused.text, "node gpu01 itself holds no job"));
	msg_finish(&m);
}

static void who_wants_to_know_what_is_wrong_waits_two_seconds(void **state)
{
	struct world *w = *state;

	client_hello(w);
	down(w, COORD);
	ask_status(w);
	tick(w, 1900);
	assert_int_equal(count(w, CLIENT, MSG_refused), 0);
	tick(w, 200);
	assert_away(w, "no connection to the coordinator at head:7070 (");
}

static void dial_fails(struct world *w)
{
	struct agent_event ev = { .type = AEV_DIAL_FAILED, .text = "connection refused" };

	feed(w, &ev);
}

/* The link has been down for long: it is tried once more, and then told. */
static void a_link_that_is_known_to_be_down_is_tried_at_once_and_told_then(void **state)
{
	struct world *w = *state;

	client_hello(w);
	down(w, COORD);
	for (int i = 0; i < 8; i++) { /* until the pauses are long */
		forget(w);
		tick(w, 20000);
		assert_true(asked(w, ACT_DIAL));
		dial_fails(w);
	}
	tick(w, 1500);
	forget(w);
	ask_status(w);
	assert_true(asked(w, ACT_DIAL));
	assert_int_equal(count(w, CLIENT, MSG_refused), 0);
	dial_fails(w);
	tick(w, 1);
	assert_away(w, "connection refused");
}

/* Stopped, or behind a cable that is out: no word since somebody asked. */
static void a_coordinator_that_is_silent_is_told_before_its_link_is_given_up(void **state)
{
	struct world *w = *state;

	client_hello(w);
	ask_status(w);
	tick(w, 2900);
	assert_int_equal(count(w, CLIENT, MSG_refused), 0);
	tick(w, 200);
	assert_away(w, "did not answer within 3 s");
}

static void submit_restartable(struct world *w, uint32_t rid)
{
	static const uint8_t spec[32] = { 1 };
	struct agent_event ev = { .type = AEV_MESSAGE, .link = CLIENT, .spec_hash = spec, .spec_size = 10 };
	struct msg m;

	msg_init(&m, MSG_submit);
	m.u.submit.rid = rid;
	m.u.submit.client_id = rid == 3 ? "one" : "two";
	m.u.submit.command = "true";
	m.u.submit.spec_size = 10;
	m.u.submit.max_restarts = 3;
	ev.msg = &m;
	feed(w, &ev);
}

static void assert_unknown(struct world *w, uint32_t rid, const char *also)
{
	char want[400];
	struct msg m;

	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, rid);
	assert_string_equal(m.u.refused.code, "version");
	snprintf(want, sizeof(want), "the coordinator at head:7070 (version t) is older than this program and does not say that "
		 "it knows --max-restarts, so it might ignore it: leave it out, or have the coordinator updated (what runs goes "
		 "on meanwhile)%s", also);
	assert_string_equal(m.u.refused.text, want);
	msg_finish(&m);
}

/* A field that it does not know is dropped there, and the job would not be restarted. */
static void what_an_older_coordinator_would_ignore_is_refused(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	submit_restartable(w, 3);
	assert_int_equal(count(w, COORD, MSG_submit), 1);
	down(w, COORD); /* before it was answered; and an older one comes */
	w->old_coordinator = true;
	connect_coord(w);
	assert_int_equal(count(w, COORD, MSG_submit), 1);
	assert_unknown(w, 3, "; it was asked before, and whether it has taken the job: nodectl jobs");
	submit_restartable(w, 4);
	assert_int_equal(count(w, COORD, MSG_submit), 1);
	assert_unknown(w, 4, "");
	ask_plan(w);
	assert_int_equal(count(w, COORD, MSG_plan_get), 0);
	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, 6);
	assert_string_equal(m.u.refused.code, "version");
	msg_finish(&m);
	down(w, COORD); /* while nobody is there it waits */
	submit_restartable(w, 5);
	w->old_coordinator = false;
	connect_coord(w);
	assert_int_equal(count(w, COORD, MSG_submit), 2);
}

/* Or the coordinator keeps it for as long as the session lasts, and this node as one that may read. */
static void a_watch_that_is_given_up_is_taken_back(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	down(w, COORD);
	msg_init(&m, MSG_watch);
	m.u.watch.rid = 7;
	m.u.watch.job = 1;
	say(w, CLIENT, &m);
	tick(w, 9000);
	connect_coord(w); /* after 20 s */
	assert_int_equal(count(w, COORD, MSG_watch), 1);
	assert_int_equal(count(w, COORD, MSG_unwatch), 0);
	tick(w, 2000);
	assert_int_equal(count(w, CLIENT, MSG_refused), 1);
	assert_int_equal(count(w, COORD, MSG_unwatch), 1);
}

static void update(struct world *w, uint32_t rid, const char *node, bool more)
{
	static const uint8_t key[32] = { 9 };
	struct rec_addr at = { .ip = "10.0.0.7" };
	struct rec_peer p = { .node = node, .key = { key, 32 }, .addrs = &at, .n_addrs = 1, .port = 7000 };
	struct rec_job_info job = { .job = 1, .state = "running", .user = "li", .command = "true", .nnodes = 2, .world = 2 };
	struct msg m;

	msg_init(&m, MSG_job_update);
	m.u.job_update.rid = rid;
	m.u.job_update.job = &job;
	m.u.job_update.n_job = 1;
	m.u.job_update.peers = &p;
	m.u.job_update.n_peers = 1;
	m.u.job_update.more = more;
	say(w, COORD, &m);
}

/* The client, who asks for its output then, hears of the job when all are there. */
static void peers_that_come_in_pieces_are_put_together(void **state)
{
	struct world *w = *state;
	const struct rec_peer *v;
	uint32_t attempt, rid;
	struct msg m;

	client_hello(w);
	msg_init(&m, MSG_watch);
	m.u.watch.rid = 7;
	m.u.watch.job = 1;
	say(w, CLIENT, &m);
	assert_true(last(w, COORD, MSG_watch, &m));
	rid = m.u.watch.rid;
	msg_finish(&m);
	update(w, rid, "gpu05", true);
	assert_int_equal(count(w, CLIENT, MSG_job_update), 0);
	update(w, rid, "gpu06", false);
	assert_int_equal(count(w, CLIENT, MSG_job_update), 1);
	assert_int_equal(agent_job_peers(w->a, CLIENT, 1, &v, &attempt), 2);
	assert_string_equal(v[0].node, "gpu05");
	assert_string_equal(v[1].node, "gpu06");
	update(w, rid, "gpu07", false); /* another attempt's */
	assert_int_equal(agent_job_peers(w->a, CLIENT, 1, &v, &attempt), 1);
	assert_string_equal(v[0].node, "gpu07");
}

/* It may have read the order before it was stopped, and go on with it later. */
static void of_an_unanswered_submit_it_is_said_that_it_may_have_been_taken(void **state)
{
	static const uint8_t spec[32] = { 7 };
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_MESSAGE, .link = CLIENT, .spec_hash = spec, .spec_size = 10 };
	struct msg m;

	client_hello(w);
	msg_init(&m, MSG_submit);
	m.u.submit.rid = 3;
	m.u.submit.client_id = "id";
	m.u.submit.command = "true";
	m.u.submit.spec_size = 10;
	ev.msg = &m;
	feed(w, &ev);
	down(w, COORD);
	m.u.submit.rid = 4;
	m.u.submit.client_id = "never sent";
	tick(w, 1000);
	feed(w, &ev);
	tick(w, 29500);
	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, 3);
	assert_non_null(strstr(m.u.refused.text, "whether it took the job is not known: nodectl jobs"));
	msg_finish(&m);
	tick(w, 1000);
	assert_true(last(w, CLIENT, MSG_refused, &m));
	assert_int_equal(m.u.refused.rid, 4);
	assert_null(strstr(m.u.refused.text, "not known"));
	msg_finish(&m);
}

static void a_request_is_sent_again_after_a_reconnect(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 7;
	m.u.kill.job = 1;
	say(w, CLIENT, &m);
	down(w, COORD);
	forget(w);
	connect_coord(w);
	assert_int_equal(count(w, COORD, MSG_kill), 1);
	assert_true(last(w, COORD, MSG_kill, &m));
	{
		struct msg s;

		msg_init(&s, MSG_ok);
		s.u.ok.rid = m.u.kill.rid;
		msg_finish(&m);
		say(w, COORD, &s);
	}
	assert_true(last(w, CLIENT, MSG_ok, &m));
	assert_int_equal(m.u.ok.rid, 7);
	msg_finish(&m);
}

static void one_client_cannot_flood_the_coordinator(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	for (uint32_t i = 1; i <= 100; i++) {
		msg_init(&m, MSG_jobs_get);
		m.u.jobs_get.rid = i;
		say(w, CLIENT, &m);
	}
	assert_int_equal(count(w, COORD, MSG_jobs_get), 16);
	assert_int_equal(count(w, CLIENT, MSG_refused), 36);
}

/* ---- specifications --------------------------------------------------------------------- */

/* rid as the coordinator sees it. */
static uint32_t submit(struct world *w, const uint8_t hash[32])
{
	struct msg m;
	struct agent_event ev = { .type = AEV_MESSAGE, .link = CLIENT, .msg = &m, .spec_hash = hash,
				  .spec_size = 10 };
	uint32_t rid;

	msg_init(&m, MSG_submit);
	m.u.submit.rid = 3;
	m.u.submit.client_id = "id";
	m.u.submit.command = "true";
	m.u.submit.spec_size = 10;
	feed(w, &ev);
	if (!last(w, COORD, MSG_submit, &m))
		return 0;
	rid = m.u.submit.rid;
	msg_finish(&m);
	return rid;
}

static void submitted(struct world *w, uint32_t rid, uint64_t job, bool unused)
{
	struct msg m;

	msg_init(&m, MSG_submitted);
	m.u.submitted.rid = rid;
	m.u.submitted.job = job;
	m.u.submitted.spec_unused = unused;
	say(w, COORD, &m);
}

static void nothing_is_dropped_before_the_coordinator_has_named_its_jobs(void **state)
{
	struct world *w = *state;

	client_hello(w);
	assert_true(agent_spec_needed(w->a, spec_a));
	submitted(w, submit(w, spec_a), 1, false);
	job_over(w, 1);
	assert_false(asked(w, ACT_DROP_SPEC));
	specs_used(w, 1, spec_a, true);
	assert_true(agent_spec_needed(w->a, spec_b)); /* the rest may name it */
	assert_false(asked(w, ACT_TIDY_SPECS));
	specs_used(w, 0, NULL, false);
	assert_true(asked(w, ACT_TIDY_SPECS));
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_false(agent_spec_needed(w->a, spec_b));
}

static void the_last_job_that_uses_a_specification_takes_it_along(void **state)
{
	struct world *w = *state;

	client_hello(w);
	specs_used(w, 2, spec_a, false);
	submitted(w, submit(w, spec_a), 3, false);
	job_over(w, 1);
	job_over(w, 3);
	do_forget(w); /* of an attempt: means nothing here */
	assert_false(asked(w, ACT_DROP_SPEC));
	job_over(w, 2);
	assert_true(asked(w, ACT_DROP_SPEC));
	assert_false(agent_spec_needed(w->a, spec_a));
}

static void a_refused_or_superfluous_submit_keeps_nothing(void **state)
{
	struct world *w = *state;
	struct msg m;

	client_hello(w);
	specs_used(w, 0, NULL, false);
	msg_init(&m, MSG_refused);
	MSG_SET(&m.u.refused, refused, rid, submit(w, spec_a));
	m.u.refused.code = "bad-request";
	m.u.refused.text = "no";
	assert_true(agent_spec_needed(w->a, spec_a));
	say(w, COORD, &m);
	assert_false(agent_spec_needed(w->a, spec_a));
	submitted(w, submit(w, spec_b), 7, true);
	assert_false(agent_spec_needed(w->a, spec_b));
}

static void a_submit_whose_client_has_left_keeps_its_specification(void **state)
{
	struct world *w = *state;
	uint32_t rid;

	client_hello(w);
	specs_used(w, 0, NULL, false);
	rid = submit(w, spec_a);
	down(w, CLIENT);
	assert_true(agent_spec_needed(w->a, spec_a));
	submitted(w, rid, 5, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	job_over(w, 5);
	assert_false(agent_spec_needed(w->a, spec_a));
}

static void a_submit_that_was_never_sent_keeps_nothing(void **state)
{
	struct world *w = *state;

	client_hello(w);
	specs_used(w, 0, NULL, false);
	down(w, COORD);
	submit(w, spec_a);
	assert_true(agent_spec_needed(w->a, spec_a));
	down(w, CLIENT);
	assert_false(agent_spec_needed(w->a, spec_a));
	assert_true(asked(w, ACT_DROP_SPEC));
}

static void a_job_that_ended_while_we_were_away_is_not_in_the_next_list(void **state)
{
	struct world *w = *state;

	client_hello(w);
	specs_used(w, 1, spec_a, false);
	down(w, COORD);
	connect_coord(w);
	assert_true(agent_spec_needed(w->a, spec_a));
	submit(w, spec_b); /* the list that is on its way cannot know of it */
	specs_used(w, 0, NULL, false);
	assert_false(agent_spec_needed(w->a, spec_a));
	assert_true(agent_spec_needed(w->a, spec_b));
}

static void of_two_registrations_only_the_answer_to_the_second_counts(void **state)
{
	struct world *w = *state;
	struct agent_event ev = { .type = AEV_ADDRS };
	uint32_t rid;

	client_hello(w);
	rid = submit(w, spec_a);
	assert_int_not_equal(rid, 0);
	down(w, CLIENT);
	feed(w, &ev); /* registers anew; the answer to the first is on its way */
	specs_used(w, 0, NULL, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_false(asked(w, ACT_TIDY_SPECS));
	specs_used(w, 1, spec_a, false);
	assert_true(agent_spec_needed(w->a, spec_a));
	assert_true(asked(w, ACT_TIDY_SPECS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_client_cannot_say_who_it_is),
		T(a_plan_is_asked_for_the_one_who_asks_and_its_answer_comes_back),
		T(a_request_waits_for_the_coordinator_and_then_gives_up_with_a_sentence),
		T(who_wants_to_know_what_is_wrong_waits_two_seconds),
		T(a_link_that_is_known_to_be_down_is_tried_at_once_and_told_then),
		T(a_coordinator_that_is_silent_is_told_before_its_link_is_given_up),
		T(what_an_older_coordinator_would_ignore_is_refused),
		T(a_watch_that_is_given_up_is_taken_back),
		T(peers_that_come_in_pieces_are_put_together),
		T(of_an_unanswered_submit_it_is_said_that_it_may_have_been_taken),
		T(a_request_is_sent_again_after_a_reconnect),
		T(one_client_cannot_flood_the_coordinator),
		T(nothing_is_dropped_before_the_coordinator_has_named_its_jobs),
		T(the_last_job_that_uses_a_specification_takes_it_along),
		T(a_refused_or_superfluous_submit_keeps_nothing),
		T(a_submit_whose_client_has_left_keeps_its_specification),
		T(a_submit_that_was_never_sent_keeps_nothing),
		T(a_job_that_ended_while_we_were_away_is_not_in_the_next_list),
		T(of_two_registrations_only_the_answer_to_the_second_counts),
	};

	return cmocka_run_group_tests_name("agent requests", tests, NULL, NULL);
}
