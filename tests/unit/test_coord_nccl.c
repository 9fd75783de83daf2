/* test_coord_nccl.c - what jobs' NCCL said, kept by the coordinator, and when its RAS is asked */
#include "coord_world.h"

#include "core/coord_internal.h"

static const char *hca[] = { "mlx5_0:1" };

static void told(struct world *w, uint64_t link, struct rec_nccl_state *s)
{
	struct msg m;

	msg_init(&m, MSG_job_nccl);
	m.u.job_nccl.job = 1;
	m.u.job_nccl.attempt = 1;
	m.u.job_nccl.nccl = s;
	m.u.job_nccl.n_nccl = 1;
	say(w, link, &m);
}

static struct rec_nccl_state over_ib(void)
{
	struct rec_nccl_state s = { .version = "2.28.9", .net = "IB", .hcas = hca, .n_hcas = 1 };

	MSG_SET(&s, nccl_state, procs, 1);
	MSG_SET(&s, nccl_state, inits, 1);
	MSG_SET(&s, nccl_state, inits_done, 1);
	return s;
}

static struct rec_nccl_state over_tcp(void)
{
	struct rec_nccl_state s = { .version = "2.28.9", .net = "Socket", .socket_if = "eth0", .no_ib_device = true };

	return s;
}

static void port_is(struct world *w, uint64_t link, const char *state)
{
	struct rec_source source = { .name = "verbs", .ok = true };
	struct rec_port port = { .device = "mlx5_0", .port = 1, .state = state, .link_layer = "InfiniBand" };
	struct msg m;

	msg_init(&m, MSG_readings);
	m.u.readings.sources = &source;
	m.u.readings.n_sources = 1;
	m.u.readings.ports = &port;
	m.u.readings.n_ports = 1;
	say(w, link, &m);
}

static bool story_has(const struct rec_job_info *j, const char *text)
{
	unsigned n = 0;

	for (size_t i = 0; i < j->n_story; i++)
		n += strstr(j->story[i].text, text) != NULL;
	assert_true(n < 2); /* told once */
	return n == 1;
}

static void both_end(struct world *w, uint64_t a, uint64_t b)
{
	ranks(w, a, 0, "exited", 0);
	ranks(w, b, 1, "exited", 0);
	ended(w, a, 0, "exited", 0, false);
	ended(w, b, 1, "exited", 0, false);
	store(w);
}

static void the_reason_is_that_of_the_moment_and_outlives_job_and_coordinator(void **state)
{
	struct world *w = *state;
	struct rec_nccl_state s = over_tcp();
	const struct rec_job_info *j;
	struct msg m;
	uint64_t a, b;

	running_pair(w, &a, &b);
	j = job_one(w, &m);
	assert_int_equal(j->n_nccl + j->n_nccl_nodes, 0);
	msg_finish(&m);
	port_is(w, a, "Initializing");
	told(w, a, &s);
	told(w, b, &s);
	port_is(w, a, "Active"); /* well again */
	told(w, a, &s);
	j = job_one(w, &m);
	assert_int_equal(j->n_nccl, 1);
	assert_string_equal(j->nccl->brief, "NCCL 2.28.9, SOCKET! eth0");
	assert_true(j->nccl->socket);
	assert_string_equal(j->nccl->reason, "port");
	assert_non_null(strstr(j->nccl->why, "mlx5_0 is Initializing"));
	assert_int_equal(j->n_nccl_nodes, 2);
	assert_true(story_has(j, "NCCL runs over TCP"));
	msg_finish(&m);
	both_end(w, a, b);
	restart(w);
	j = job_one(w, &m);
	assert_string_equal(j->state, "done");
	assert_string_equal(j->nccl->reason, "port");
	assert_int_equal(j->n_nccl_nodes, 0);
	msg_finish(&m);
}

static const char *late(struct world *w)
{
	static char out[161];
	struct msg m;
	const struct rec_job_info *j = job_one(w, &m);

	snprintf(out, sizeof(out), "%s", j->n_nccl > 0 && j->nccl->late != NULL ? j->nccl->late : "");
	msg_finish(&m);
	return out;
}

/* Which ranks do what is for its owner. */
static void others_see_no_rank(struct world *w, uint64_t node)
{
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 9;
	MSG_SET(&m.u.status_get, status_get, uid, 1001);
	say(w, node, &m);
	assert_true(last_to(w, node, MSG_status, &m));
	assert_int_equal(m.u.status.n_jobs, 1);
	assert_int_equal(m.u.status.jobs->n_nccl, 1);
	assert_null(m.u.status.jobs->nccl->late);
	msg_finish(&m);
}

static void who_has_not_come_to_the_initialisation_is_named(void **state)
{
	struct world *w = *state;
	struct rec_nccl_state s = over_ib();
	uint64_t a, b;

	running_pair(w, &a, &b);
	s.inits_done = 0;
	told(w, a, &s);
	assert_string_equal(late(w), "rank 1 on gpu02");
	others_see_no_rank(w, a);
	s.unread = "the job sets NCCL_DEBUG_FILE"; /* then it may be there, unseen */
	told(w, b, &s);
	assert_string_equal(late(w), "");
	s.unread = NULL;
	told(w, b, &s); /* both are in it */
	assert_string_equal(late(w), "");
	s.procs = 8;
	told(w, a, &s);
	assert_string_equal(late(w), "7 of 8 processes of gpu02");
	s.inits_done = s.inits;
	told(w, a, &s);
	s.procs = 1;
	told(w, b, &s); /* all that was begun is made */
	assert_string_equal(late(w), "");
}

static void who_does_not_hold_the_job_is_not_listened_to(void **state)
{
	struct world *w = *state;
	struct rec_nccl_state s = over_tcp();
	const struct rec_job_info *j;
	struct msg m;
	uint64_t a, b, other;

	running_pair(w, &a, &b);
	other = node_up(w, "gpu03");
	told(w, other, &s);
	j = job_one(w, &m);
	assert_int_equal(j->n_nccl, 0);
	msg_finish(&m);
	both_end(w, a, b);
	told(w, a, &s); /* too late */
	j = job_one(w, &m);
	assert_int_equal(j->n_nccl, 0);
	msg_finish(&m);
}

/* 1: its RAS was asked; 2: the flight recorder of its ranks; 3: both. */
static int asked_of(struct world *w, uint64_t link)
{
	static const enum msg_type types[] = { MSG_ras_get, MSG_flight_get };
	struct msg m;
	int what = 0;

	for (int i = 0; i < 2; i++)
		if (last_to(w, link, types[i], &m)) {
			what += i + 1;
			msg_finish(&m);
		}
	return what;
}

static bool asked(struct world *w, uint64_t a, uint64_t b)
{
	bool yes = asked_of(w, a) == 1 || asked_of(w, b) == 1;

	forget_sent(w);
	return yes;
}

static void trouble(struct world *w, uint64_t link, struct rec_nccl_state *s)
{
	s->trouble = "completion";
	MSG_SET(s, nccl_state, number, 12);
	told(w, link, s);
}

static void ras_is_asked_on_suspicion_only_and_of_one_node(void **state)
{
	struct world *w = *state;
	struct rec_nccl_state s = over_ib(), t = over_ib();
	struct rec_ras_count counts[2] = { { .rank = 0, .host = "10.0.0.1", .pid = 5 }, { .rank = 1, .host = "10.0.0.2", .pid = 6 } };
	struct rec_ras_state r = { .version = "2.28.9", .counts = counts, .n_counts = 2, .coll = "all-reduce", .behind_host = "10.9.9.9" };
	const struct rec_job_info *j;
	struct msg m;
	uint64_t a, b;

	running_pair(w, &a, &b);
	told(w, a, &s);
	told(w, b, &s);
	assert_false(asked(w, a, b));
	trouble(w, a, &s);
	assert_true(asked(w, a, b));
	trouble(w, b, &t); /* a moment later */
	assert_false(asked(w, a, b));
	MSG_SET(&r, ras_state, behind_rank, 1);
	MSG_SET(&r, ras_state, count, 215);
	MSG_SET(&r, ras_state, most, 216);
	MSG_SET(&r, ras_state, n_behind, 1);
	msg_init(&m, MSG_ras);
	m.u.ras.job = m.u.ras.attempt = 1;
	m.u.ras.ras = &r;
	m.u.ras.n_ras = 1;
	say(w, a, &m);
	j = job_one(w, &m);
	assert_int_equal(j->n_ras, 1);
	assert_string_equal(j->ras->words, "rank 1 of its communicator (10.9.9.9, pid 0) has launched 215 all-reduces, others 216");
	assert_int_equal(j->ras->n_counts, 0);
	assert_non_null(strstr(j->nccl->trouble, "completion status 12"));
	assert_true(story_has(j, "NCCL: gpu01"));
	msg_finish(&m);
}

/* As hang.c's caller would: within a step, so many ms after the last one. */
static void suspect(struct world *w, int64_t ms, bool hang)
{
	w->c->now = mono_add_ms(w->c->now, ms);
	w->c->out = &w->acts;
	ras_suspect(w->c, job_find(w->c, 1), hang);
	take_actions(w);
	w->c->out = NULL;
}

/* A communicator that is being made, an older NCCL, a node that has said nothing, a rank that may be missing. */
static void ras_is_not_asked_where_that_could_harm_the_job(void **state)
{
	static const char *const why[] = { "a communicator is being made on gpu02", "is older than 2.28.7",
					   "NCCL on gpu02 has not said that it is ready", "nccl#1762", NULL };
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	for (int i = 0; i < 5; i++) {
		struct rec_nccl_state s = over_ib(), t = over_ib();
		struct job *j = job_find(w->c, 1);
		const char *text;
		struct arena ar;

		t.inits = i == 0 ? 2 : 1;
		if (i == 1)
			s.version = t.version = "2.21.5";
		if (i == 2)
			t = (struct rec_nccl_state){ .version = "2.28.9" };
		if (i >= 3)
			s.inits = s.inits_done = t.inits = t.inits_done = 3;
		if (i == 3)
			ranks(w, b, 1, "exited", 0);
		if (i == 4)
			s.version = t.version = "2.29.2";
		told(w, a, &s);
		told(w, b, &t);
		arena_init(&ar);
		text = nccl_ras_forbidden(&ar, j);
		if (!text != !why[i] || (text && !strstr(text, why[i])))
			fail_msg("%d: %s", i, text ? text : "allowed");
		forget_sent(w);
		suspect(w, 60000 * (i + 1), false); /* the clock goes back with the next word */
		assert_int_equal(asked(w, a, b), !why[i]);
		arena_finish(&ar);
	}
}

/* What the recorders on one node say: 'mine' is one rank; seq 0: it wrote no dump. */
static void recorded(struct world *w, uint64_t link, uint32_t mine, uint64_t seq, const char *text)
{
	struct rec_ras_count x = { .rank = mine, .pid = 77, .missing = seq == 0, .op = seq != 0 ? "all_reduce" : NULL };
	struct rec_ras_state s = { .text = text, .counts = &x, .n_counts = text == NULL };
	struct msg m;

	if (seq != 0)
		MSG_SET(&x, ras_count, seq, seq);
	MSG_SET(&s, ras_state, flight, true);
	msg_init(&m, MSG_ras);
	m.u.ras.job = m.u.ras.attempt = 1;
	m.u.ras.ras = &s;
	m.u.ras.n_ras = 1;
	say(w, link, &m);
}

static void an_old_nccl(struct world *w, uint64_t *a, uint64_t *b)
{
	struct rec_nccl_state s = over_ib();

	s.version = "2.21.5";
	running_pair(w, a, b);
	told(w, *a, &s);
	told(w, *b, &s);
	forget_sent(w);
	suspect(w, 60000, false);
	assert_int_equal(asked_of(w, *a), 2);
	assert_int_equal(asked_of(w, *b), 2);
}

static void assert_ras(struct world *w, const char *words, const char *text)
{
	struct msg m;
	const struct rec_job_info *j = job_one(w, &m);

	assert_int_equal(j->n_ras, words != NULL || text != NULL);
	if (words != NULL)
		assert_string_equal(j->ras->words, words);
	else if (text != NULL)
		assert_non_null(strstr(j->ras->text, text));
	msg_finish(&m);
}

static void where_ras_may_not_be_asked_the_flight_recorders_of_all_nodes_are(void **state)
{
	struct world *w = *state;
	const struct rec_ras_state *r;
	uint64_t a, b;
	uint32_t polls;
	mono_t at;

	an_old_nccl(w, &a, &b);
	recorded(w, a, 0, 61, NULL);
	assert_ras(w, NULL, "is older than 2.28.7"); /* half of it is nothing */
	recorded(w, b, 1, 60, NULL);
	assert_ras(w, "rank 1 on gpu02 has enqueued 60 collectives, others 61", NULL);
	r = ras_last(job_find(w->c, 1), &polls, &at);
	assert_true(r->flight && r->n_counts == 2 && r->counts[0].seq == 60 && polls == 1);
	suspect(w, 120000, false); /* the clock goes back with the next word */
	recorded(w, b, 1, 60, NULL);
	recorded(w, a, 0, 61, NULL);
	ras_last(job_find(w->c, 1), &polls, &at);
	assert_int_equal(polls, 2);
	suspect(w, 180000, false);
	recorded(w, a, 0, 62, NULL);
	recorded(w, b, 1, 62, NULL);
	assert_ras(w, "all ranks have enqueued equally many collectives in the default group", NULL);
}

static void a_recorder_that_writes_nothing_is_named(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	an_old_nccl(w, &a, &b);
	recorded(w, a, 0, 61, NULL);
	recorded(w, b, 1, 0, NULL);
	assert_ras(w, "rank 1 on gpu02 does not answer (1 of 2 ranks do not)", NULL);
}

/* A shim that is older says nothing. */
static void what_one_node_says_counts_at_the_next_question(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	an_old_nccl(w, &a, &b);
	recorded(w, a, 0, 61, NULL);
	suspect(w, 120000, false);
	assert_ras(w, "1 rank has enqueued equally many collectives in the default group; of 1 node nothing is known", NULL);
}

/* A rank that is stopped writes no dump: its shim waits for one longer than it takes until the next suspicion. */
static void the_node_whose_rank_is_stopped_is_waited_for(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	an_old_nccl(w, &a, &b);
	recorded(w, a, 0, 61, NULL);
	recorded(w, b, 1, 61, NULL);
	suspect(w, 120000, true); /* the clock goes back with the next word */
	forget_sent(w);
	recorded(w, a, 0, 61, NULL);
	suspect(w, 125000, true);
	assert_int_equal(asked_of(w, a) + asked_of(w, b), 0);
	assert_ras(w, "all ranks have enqueued equally many collectives in the default group", NULL);
	recorded(w, b, 1, 0, NULL);
	assert_ras(w, "rank 1 on gpu02 does not answer (1 of 2 ranks do not)", NULL);
}

/* One node's two answers are not those of two nodes. */
static void an_answer_that_comes_late_stands_for_no_other_node(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	an_old_nccl(w, &a, &b);
	recorded(w, a, 0, 61, NULL);
	recorded(w, a, 0, 61, NULL);
	assert_ras(w, NULL, "is older than 2.28.7");
	recorded(w, b, 1, 60, NULL);
	assert_ras(w, "rank 1 on gpu02 has enqueued 60 collectives, others 61", NULL);
}

/* A job that hangs before its ranks have made a recorder is asked again when they may have. */
static void a_job_without_recorder_is_asked_once_in_a_minute(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	an_old_nccl(w, &a, &b);
	w->now = mono_add_ms(w->now, 60000); /* as for suspect() */
	recorded(w, a, 0, 0, "the recorder is off");
	recorded(w, b, 1, 0, "the recorder is off");
	assert_ras(w, NULL, "the recorder is off");
	forget_sent(w);
	suspect(w, 35000, false);
	assert_int_equal(asked_of(w, a) + asked_of(w, b), 0);
	suspect(w, 30000, false);
	assert_int_equal(asked_of(w, a) + asked_of(w, b), 4);
	recorded(w, a, 0, 61, NULL);
	recorded(w, b, 1, 0, "no rank reads a FIFO"); /* those there have ended */
	assert_ras(w, "1 rank has enqueued equally many collectives in the default group; of 1 node nothing is known", NULL);
}

static void what_nobody_asked_for_is_not_heard(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	recorded(w, a, 0, 61, NULL);
	assert_ras(w, NULL, NULL);
	recorded(w, a, 16777215, 61, NULL);
}

static void a_suspected_hang_is_asked_about_every_5_s_six_times(void **state)
{
	struct world *w = *state;
	struct rec_nccl_state s = over_ib();
	unsigned n = 0;
	uint64_t a, b;

	running_pair(w, &a, &b);
	told(w, a, &s);
	told(w, b, &s);
	for (int at = 0; at < 55; at++) {
		forget_sent(w);
		suspect(w, 1000, true);
		n += asked(w, a, b);
	}
	assert_int_equal(n, 6); /* 0 5 10 15 20 25; 55 would be the next one */
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_reason_is_that_of_the_moment_and_outlives_job_and_coordinator),
		T(who_has_not_come_to_the_initialisation_is_named),
		T(who_does_not_hold_the_job_is_not_listened_to),
		T(ras_is_asked_on_suspicion_only_and_of_one_node),
		T(ras_is_not_asked_where_that_could_harm_the_job),
		T(a_suspected_hang_is_asked_about_every_5_s_six_times),
		T(where_ras_may_not_be_asked_the_flight_recorders_of_all_nodes_are),
		T(a_recorder_that_writes_nothing_is_named),
		T(what_one_node_says_counts_at_the_next_question),
		T(the_node_whose_rank_is_stopped_is_waited_for),
		T(an_answer_that_comes_late_stands_for_no_other_node),
		T(a_job_without_recorder_is_asked_once_in_a_minute),
		T(what_nobody_asked_for_is_not_heard),
	};

	return cmocka_run_group_tests_name("coord_nccl", tests, NULL, NULL);
}
