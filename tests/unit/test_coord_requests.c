/* test_coord_requests.c - who may ask a coordinator what, its log, specifications and peers */
#include "coord_jobs.h"

/* ---- who may --------------------------------------------------------------------------- */

static void a_plain_node_starts_jobs_on_itself_only(void **state)
{
	struct world *w = *state;
	uint64_t b;

	node_up(w, "gpu01");
	b = node_up(w, "gpu02");
	submit_as(w, b, "c1", 1, "gpu01", 1000);
	assert_true(was_told(w, b, MSG_refused));
	submit_as(w, b, "c2", 2, NULL, 1000);
	store(w);
	assert_false(was_told(w, b, MSG_submitted));
	submit_as(w, b, "c3", 1, NULL, 1000);
	store(w);
	assert_true(was_told(w, b, MSG_submitted));
	assert_true(was_told(w, b, MSG_prepare));
}

static void no_node_may_speak_for_root(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");

	submit_as(w, a, "c1", 1, NULL, 0);
	submit_as(w, b, "c2", 1, NULL, 0);
	store(w);
	assert_true(was_told(w, a, MSG_refused));
	assert_true(was_told(w, b, MSG_refused));
	assert_false(was_told(w, a, MSG_submitted));
}

static void kill_is_for_the_owner(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1001);
	say(w, a, &m);
	assert_false(was_told(w, b, MSG_end));
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, a, &m);
	assert_false(was_told(w, a, MSG_ok));
	store(w);
	assert_true(was_told(w, b, MSG_end));
	assert_true(was_told(w, a, MSG_ok));
	ended(w, a, 0, "killed", 0, true);
	ended(w, b, 1, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 143);
}

static void a_job_that_waits_is_cancelled_and_told_so(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct msg m;

	node_up(w, "gpu02");
	link_down(w, node_up(w, "gpu03"));
	submit(w, a, "c1", 3);
	store(w);
	assert_job(w, "queued", -1);
	msg_init(&m, MSG_kill);
	m.u.kill.rid = 5;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, a, &m);
	store(w);
	assert_true(last_to(w, a, MSG_ok, &m));
	assert_string_equal(m.u.ok.text, "job 1: it waited for its nodes: it is cancelled, no rank had been started");
	msg_finish(&m);
	assert_job(w, "failed", 143);
}

static void a_node_that_jobs_hold_is_removed_by_force_only(void **state)
{
	struct world *w = *state;
	uint64_t a, b, adm;
	struct msg m;

	running_pair(w, &a, &b);
	adm = link_up(w, WHO_LOCAL, NULL, "client");
	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 4;
	m.u.node_remove.node = "gpu02";
	say(w, adm, &m);
	assert_true(last_to(w, adm, MSG_refused, &m));
	assert_string_equal(m.u.refused.text, "node gpu02 is in use by job 1, so nothing was done; end what runs there "
					      "('nodectl kill'), or take it out all the same: nodectl node-remove "
					      "--force gpu02");
	msg_finish(&m);
	assert_job(w, "running", -1);
	remove_node(w, "gpu02", MSG_ok);
	assert_int_equal(w->closed[w->n_closed - 1], b);
}

static void ended_losing(struct world *w, uint64_t l, uint32_t rank, uint64_t lost, const char *text)
{
	struct rec_rank_state r = { .rank = rank, .state = "exited", .pid = 9, .lost_bytes = lost };
	struct msg m;

	MSG_SET(&r, rank_state, code, 0);
	msg_init(&m, MSG_ended);
	m.u.ended.job = 1;
	m.u.ended.attempt = 1;
	m.u.ended.ranks = &r;
	m.u.ended.n_ranks = 1;
	m.u.ended.text = text;
	say(w, l, &m);
}

/* The node's own words where it has any: it knows where the disk is full. */
static void output_that_was_lost_is_told_once_for_each_node(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	ended_losing(w, a, 0, 42, "42 bytes of output were lost, for there was no room in /spool");
	ended_losing(w, b, 1, 7, NULL);
	store(w);
	i = job_one(w, &m);
	assert_int_equal(i->n_notices, 2);
	assert_string_equal(i->notices[0], "node gpu01: 42 bytes of output were lost, for there was no room in /spool");
	assert_string_equal(i->notices[1], "node gpu02: 7 bytes of output were lost, for there was no room in its "
					   "spool directory; remove files there");
	msg_finish(&m);
}

static void running_and_losing(struct world *w, uint64_t l, uint32_t rank, uint64_t lost)
{
	struct rec_rank_state r = { .rank = rank, .state = "running", .pid = 9, .lost_bytes = lost };
	struct msg m;

	msg_init(&m, MSG_ranks);
	m.u.ranks.job = 1;
	m.u.ranks.attempt = 1;
	m.u.ranks.ranks = &r;
	m.u.ranks.n_ranks = 1;
	say(w, l, &m);
}

/* It may run for days yet. */
static void output_that_is_being_lost_is_told_at_once(void **state)
{
	struct world *w = *state;
	struct rec_job_info *i;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	running_and_losing(w, b, 1, 0);
	i = job_one(w, &m);
	assert_int_equal(i->n_notices, 0);
	msg_finish(&m);
	running_and_losing(w, b, 1, 7);
	running_and_losing(w, b, 1, 900);
	i = job_one(w, &m);
	assert_int_equal(i->n_notices, 1);
	assert_string_equal(i->notices[0], "node gpu02: there is no room in its spool directory: output of the job is being lost; "
					   "remove files there");
	msg_finish(&m);
}

static void kill_again(struct world *w, uint64_t a, uint32_t grace_ms)
{
	struct msg m;

	msg_init(&m, MSG_kill);
	m.u.kill.rid = 6;
	m.u.kill.job = 1;
	MSG_SET(&m.u.kill, kill, uid, 1000);
	MSG_SET(&m.u.kill, kill, grace_ms, grace_ms);
	say(w, a, &m);
}

static void a_second_kill_shortens_the_grace(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	kill_again(w, a, 60000); /* the job's own is 30 s: its owner may want longer */
	kill_again(w, a, 45000);
	assert_false(was_told(w, b, MSG_end)); /* nor does the second one overtake the disk */
	store(w);
	ended(w, a, 0, "killed", 0, true);
	kill_again(w, a, 50000); /* promised less already */
	store(w);
	assert_true(last_to(w, b, MSG_end, &m));
	assert_int_equal(m.u.end.grace_ms, 45000);
	msg_finish(&m);
	kill_again(w, a, 0);
	assert_true(last_to(w, b, MSG_end, &m));
	assert_int_equal(m.u.end.grace_ms, 0);
	msg_finish(&m);
	assert_true(last_to(w, a, MSG_end, &m)); /* its part is over */
	assert_int_equal(m.u.end.grace_ms, 45000);
	msg_finish(&m);
	ended(w, b, 1, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 143);
}

/* ---- log ------------------------------------------------------------------------------------- */

static void each_transition_of_a_node_is_one_line(void **state)
{
	struct world *w = *state;
	uint64_t l = node_up(w, "gpu01");
	struct coord_event gone = { .type = CEV_LINK_DOWN, .text = "closed by the other side" };
	struct msg m;

	assert_string_equal(w->log, "node gpu01: down -> ok (registered from 10.0.0.1)\n");
	w->log[0] = '\0';
	tick(w, 5000);
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	say(w, l, &m);
	gone.link = l;
	feed(w, &gone);
	assert_string_equal(w->log, "node gpu01: ok -> unreachable (silent for 3.5 s)\n"
				    "node gpu01: unreachable -> ok (heard again after 5.0 s)\n"
				    "node gpu01: ok -> down (closed by the other side)\n");
	w->log[0] = '\0';
	remove_node(w, "gpu01", MSG_ok);
	assert_string_equal(w->log, "node gpu01: down -> removed (its key is out)\n");
}

static void each_transition_of_a_job_is_one_line_without_its_command(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	w->log[0] = '\0';
	ended(w, b, 1, "exited", 7, false);
	store(w);
	ended(w, a, 0, "killed", 0, true);
	store(w);
	assert_string_equal(w->log, "job 1: running -> ending\n"
				    "job 1: ending -> failed (exit code 7)\n");
	w->log[0] = '\0';
	submit_as(w, a, "c2", 1, "gpu03", 1000);
	store(w);
	restart(w);
	assert_string_equal(w->log, "job 2: new -> queued (of li, from gpu01: 1 node, 1 process each)\n");
}

static void a_lost_node_is_logged_once(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;
	char *lost;

	running_pair(w, &a, &b);
	node_up(w, "gpu03");
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	for (int i = 0; i < 125; i++) {
		tick(w, 1000);
		say(w, a, &m);
		say(w, a + 2, &m);
	}
	lost = strstr(w->log, "node gpu02: unreachable -> lost (not heard for 120.0 s)\n");
	assert_non_null(lost);
	assert_null(strstr(strchr(lost, '\n'), "-> lost (not heard"));
	w->log[0] = '\0';
	node_up(w, "gpu02");
	assert_string_equal(w->log, "node gpu02: lost -> ok (registered from 10.0.0.1)\n");
}

static void excluded_nodes_are_named_only_when_some_are(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct msg m;

	submit(w, a, "c1", 4);
	assert_true(last_to(w, a, MSG_refused, &m));
	assert_string_equal(m.u.refused.text, "4 nodes were asked for, but this cluster has 3");
	msg_finish(&m);
	submit_as(w, a, "c2", 3, "gpu[01-02]", 1000);
	assert_true(last_to(w, a, MSG_refused, &m));
	assert_string_equal(m.u.refused.text, "3 nodes were asked for, but the host list has 2");
	msg_finish(&m);
	submit_excluding(w, a, "c3", 3, "gpu03");
	assert_true(last_to(w, a, MSG_refused, &m));
	assert_string_equal(m.u.refused.text,
			    "3 nodes were asked for, but this cluster less the excluded ones has 2");
	msg_finish(&m);
}

static void an_excluded_node_that_is_not_there_is_named_at_submit(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b;
	struct msg m;

	submit_excluding(w, a, "c1", 1, "gpu02,nosuch");
	assert_true(last_to(w, a, MSG_refused, &m));
	assert_string_equal(m.u.refused.code, "bad-request");
	assert_string_equal(m.u.refused.text, "no node named nosuch, which is to be left out (-x), in the "
					      "cluster lab; 'nodectl nodes' lists them");
	msg_finish(&m);
	/* and one that leaves while the job waits does not end it */
	b = link_up(w, WHO_LOCAL, NULL, "client");
	link_down(w, a);
	a = node_up(w, "gpu01");
	submit_excluding(w, a, "c2", 2, "gpu03");
	store(w);
	assert_job(w, "queued", -1);
	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 5;
	m.u.node_remove.node = "gpu03";
	say(w, b, &m);
	store(w);
	assert_job(w, "queued", -1);
}

/* ---- specifications ------------------------------------------------------------------------ */

/* How many unfinished jobs this registered node was told to keep specifications for; -1: not told. */
static int told_used(struct world *w, uint64_t link)
{
	struct msg m;
	int n;

	if (!last_to(w, link, MSG_specs_used, &m))
		return -1;
	n = (int)m.u.specs_used.n_uses;
	assert_false(m.u.specs_used.more);
	for (int i = 0; i < n; i++)
		assert_int_equal(m.u.specs_used.uses[i].hash.p[0], 1);
	msg_finish(&m);
	return n;
}

static bool told_over(struct world *w, uint64_t link)
{
	struct msg m;
	bool yes = last_to(w, link, MSG_forget, &m);

	if (!yes)
		return false;
	yes = m.u.forget.over;
	msg_finish(&m);
	return yes;
}

static void only_the_submitting_node_is_told_that_a_job_is_over_and_only_when_saved(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	ended(w, a, 0, "exited", 0, false);
	ended(w, b, 1, "exited", 0, false);
	assert_false(was_told(w, a, MSG_forget));
	store(w);
	assert_true(told_over(w, a));
	assert_true(was_told(w, b, MSG_forget));
	assert_false(told_over(w, b));
}

static void a_registering_node_is_told_its_unfinished_jobs(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	assert_int_equal(told_used(w, a), 0);
	link_down(w, a);
	link_down(w, b);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "running", "running", 1, 0);
	assert_int_equal(told_used(w, a), 1);
	assert_int_equal(told_used(w, b), 0); /* it runs there, but came from elsewhere */
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	assert_int_equal(told_used(w, a), 1);
	b = node_up_held(w, "gpu02", "boot-1", 1, "running", "running", 1, 0);
	ended(w, b, 1, "exited", 0, false);
	link_down(w, a); /* away when the job ends */
	a = node_up_held(w, "gpu01", "boot-1", 1, "ended", "exited", 0, 0);
	link_down(w, a);
	store(w);
	a = node_up(w, "gpu01");
	assert_int_equal(told_used(w, a), 0);
}

/* What it registered with was heard before the disk failed. */
static void a_node_that_was_told_of_a_job_that_is_not_taken_is_told_that_it_is_over(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct msg m;

	store(w);
	submit(w, a, "c1", 1);
	link_down(w, a);
	a = node_up(w, "gpu01");
	assert_true(last_to(w, a, MSG_specs_used, &m));
	assert_int_equal(m.u.specs_used.n_uses, 1);
	msg_finish(&m);
	w->disk_full = true;
	store(w);
	assert_true(last_to(w, a, MSG_forget, &m));
	assert_int_equal(m.u.forget.job, 1);
	assert_true(m.u.forget.over);
	msg_finish(&m);
}

/* It waited; its end cannot be saved. Whoever asks once more is not told that it has ended before it is on disk. */
static void an_end_that_is_not_on_disk_is_confirmed_to_nobody(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct rec_job_info *i;
	struct msg m;

	submit(w, a, "c1", 2); /* gpu02 is not there */
	store(w);
	kill_again(w, a, 100);
	w->disk_full = true;
	store(w);
	assert_true(last_to(w, a, MSG_refused, &m));
	assert_string_equal(m.u.refused.code, "unavailable");
	msg_finish(&m);
	forget_sent(w);
	kill_again(w, a, 100);
	assert_false(was_told(w, a, MSG_ok));
	w->disk_full = false;
	store(w);
	assert_true(was_told(w, a, MSG_ok));
	restart(w);
	w->job = 1;
	i = job_one(w, &m);
	assert_string_equal(i->state, "failed");
	msg_finish(&m);
}

static void a_repeated_submit_says_whether_its_specification_is_needed(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	submit(w, a, "c1", 2);
	assert_true(last_to(w, a, MSG_submitted, &m));
	assert_false(m.u.submitted.spec_unused);
	msg_finish(&m);
	submit_as(w, b, "c1", 1, "gpu02", 1000); /* the same one, through another node */
	assert_true(last_to(w, b, MSG_submitted, &m));
	assert_true(m.u.submitted.spec_unused);
	msg_finish(&m);
	ended(w, a, 0, "exited", 0, false);
	ended(w, b, 1, "exited", 0, false);
	store(w);
	submit(w, a, "c1", 2);
	assert_true(last_to(w, a, MSG_submitted, &m));
	assert_true(m.u.submitted.spec_unused);
	msg_finish(&m);
}

/* ---- peers ----------------------------------------------------------------------------------- */

/* Whom this link was last told to let in for job 1: "gpu01,gpu03", "nobody", or "not told". */
static const char *allowed(struct world *w, uint64_t link, char out[128])
{
	struct msg m;

	strcpy(out, "not told");
	if (!last_to(w, link, MSG_allow, &m))
		return out;
	assert_true(m.u.allow.whole);
	assert_int_equal(m.u.allow.job, 1);
	strcpy(out, m.u.allow.n_peers == 0 ? "nobody" : "");
	for (size_t i = 0; i < m.u.allow.n_peers; i++)
		sprintf(out + strlen(out), "%s%s", i ? "," : "", m.u.allow.peers[i].node);
	msg_finish(&m);
	return out;
}

static void unwatch(struct world *w, uint64_t link, uint32_t rid)
{
	struct msg m;

	msg_init(&m, MSG_unwatch);
	m.u.unwatch.rid = rid;
	say(w, link, &m);
}

/* Job 1 of gpu01 on gpu02 alone, over and saved. */
static void ended_elsewhere(struct world *w, uint64_t *a, uint64_t *b)
{
	*a = node_up(w, "gpu01");
	*b = node_up(w, "gpu02");
	store(w);
	submit_as(w, *a, "c1", 1, "gpu02", 1000);
	store(w);
	prepared(w, *b, true);
	ranks(w, *b, 0, "running", 0);
	ended(w, *b, 0, "exited", 0, false);
	store(w);
}

static void the_jobs_nodes_may_fetch_its_specification_until_it_is_over(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");
	char s[128];

	store(w);
	submit_as(w, a, "c1", 1, "gpu02", 1000);
	store(w);
	assert_string_equal(allowed(w, a, s), "gpu02");
	link_down(w, a);
	a = node_up(w, "gpu01"); /* it has forgotten whom it may let in */
	assert_string_equal(allowed(w, a, s), "gpu02");
	prepared(w, b, true);
	ranks(w, b, 0, "running", 0);
	ended(w, b, 0, "exited", 0, false);
	assert_string_equal(allowed(w, a, s), "gpu02");
	store(w);
	assert_string_equal(allowed(w, a, s), "nobody");
}

/* It registered again while the job was being saved, which failed: nobody ever says that it is over. */
static void a_job_that_was_never_saved_lets_nobody_in(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	char s[128];

	node_up(w, "gpu02");
	store(w);
	submit_as(w, a, "c1", 1, "gpu02", 1000);
	link_down(w, a);
	a = node_up(w, "gpu01");
	assert_string_equal(allowed(w, a, s), "not told");
	w->disk_full = true;
	store(w);
	w->disk_full = false;
	assert_string_equal(allowed(w, a, s), "not told");
}

/* As above, with the choice of nodes for a job that waited. */
static void a_choice_of_nodes_that_was_not_saved_lets_nobody_in(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");
	char s[128];

	store(w);
	link_down(w, b);
	submit_as(w, a, "c1", 1, "gpu02", 1000);
	store(w);
	assert_string_equal(allowed(w, a, s), "not told");
	b = node_up(w, "gpu02");
	assert_int_not_equal(w->n_queue, 0);
	link_down(w, a);
	a = node_up(w, "gpu01");
	assert_string_equal(allowed(w, a, s), "gpu02");
	w->disk_full = true;
	store(w);
	w->disk_full = false;
	assert_string_equal(allowed(w, a, s), "nobody");
}

static void a_reader_of_an_ended_job_is_let_in_only_while_it_watches(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	char s[128];

	ended_elsewhere(w, &a, &b);
	assert_string_equal(allowed(w, b, s), "not told");
	watch(w, a, 7);
	watch(w, a, 8);
	assert_string_equal(allowed(w, b, s), "gpu01");
	unwatch(w, a, 7);
	assert_string_equal(allowed(w, b, s), "gpu01");
	unwatch(w, a, 8);
	assert_string_equal(allowed(w, b, s), "nobody");
	watch(w, a, 9);
	assert_string_equal(allowed(w, b, s), "gpu01");
	link_down(w, a);
	assert_string_equal(allowed(w, b, s), "nobody");
}

static void a_registering_node_is_told_of_those_who_watch_now(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	char s[128];

	ended_elsewhere(w, &a, &b);
	watch(w, a, 7);
	link_down(w, b);
	b = node_up(w, "gpu02");
	assert_string_equal(allowed(w, b, s), "gpu01");
	link_down(w, b);
	unwatch(w, a, 7);
	b = node_up(w, "gpu02");
	assert_string_equal(allowed(w, b, s), "not told"); /* so the agent lets it fade */
	restart(w);
	b = node_up(w, "gpu02");
	assert_string_equal(allowed(w, b, s), "not told");
	a = node_up(w, "gpu01");
	watch(w, a, 7);
	assert_string_equal(allowed(w, b, s), "gpu01");
}

static void a_placement_that_cannot_be_saved_lets_nobody_in(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b;
	char s[128];
	struct msg m;

	store(w);
	submit_as(w, a, "c1", 1, "gpu02", 1000);
	store(w);
	b = node_up(w, "gpu02");
	watch(w, a, 7); /* while the choice is on its way to the disk */
	assert_string_equal(allowed(w, b, s), "gpu01");
	w->disk_full = true;
	store(w);
	assert_string_equal(allowed(w, b, s), "nobody");
	w->disk_full = false;
	forget_sent(w);
	tick(w, 1100);
	store(w);
	assert_string_equal(allowed(w, b, s), "gpu01");
	assert_true(last_to(w, a, MSG_job_update, &m));
	assert_string_equal(m.u.job_update.job[0].state, "preparing");
	msg_finish(&m);
}

/* gpu02 registers, letting in gpu01 and gpu03. Which of them is revoked: 1, 3, or 0 for neither. */
static int revoked_for(struct world *w)
{
	uint64_t l = link_up(w, WHO_NODE, "gpu02", "agent");
	struct rec_key_hash keys[2] = { 0 };
	uint8_t key[2][32];
	struct msg m;
	int which;

	key_of("gpu01", key[0]);
	key_of("gpu03", key[1]);
	keys[0].key = (struct bytes){ key[0], 32 };
	keys[1].key = (struct bytes){ key[1], 32 };
	msg_init(&m, MSG_node_register);
	m.u.node_register.node = "gpu02";
	m.u.node_register.boot_id = "boot-1";
	m.u.node_register.incarnation = l;
	m.u.node_register.peer_port = 7000;
	m.u.node_register.keys = keys;
	m.u.node_register.n_keys = 2;
	say(w, l, &m);
	which = last_to(w, l, MSG_revoke, &m) ? m.u.revoke.key.p[4] - '0' : 0;
	if (which != 0)
		msg_finish(&m);
	link_down(w, l);
	return which;
}

static void keys_that_left_the_cluster_are_revoked_whoever_removed_them(void **state)
{
	struct world *w = *state;

	assert_int_equal(revoked_for(w), 0);
	remove_node(w, "gpu03", MSG_ok);
	assert_int_equal(revoked_for(w), 3);
	restart(w);
	assert_int_equal(revoked_for(w), 3);
}

static void a_node_enrolled_again_with_its_key_is_not_revoked(void **state)
{
	struct world *w = *state;
	char token[160];

	remove_node(w, "gpu03", MSG_ok);
	new_token(w, token);
	join_with(w, "gpu03", "gpu03", token, MSG_joined);
	assert_int_equal(revoked_for(w), 0);
}

static void the_watches_of_one_connection_are_counted(void **state)
{
	struct world *w = *state;
	uint64_t a, b, l;
	struct msg m;

	running_pair(w, &a, &b);
	l = link_up(w, WHO_LOCAL, NULL, "client");
	for (uint32_t i = 1; i <= 64; i++)
		watch(w, l, i);
	assert_true(was_told(w, l, MSG_job_update));
	assert_false(was_told(w, l, MSG_refused));
	watch(w, l, 65);
	assert_true(last_to(w, l, MSG_refused, &m));
	assert_string_equal(m.u.refused.code, "busy");
	assert_int_equal(m.u.refused.rid, 65);
	msg_finish(&m);
	forget_sent(w);
	unwatch(w, l, 3);
	watch(w, l, 66);
	assert_false(was_told(w, l, MSG_refused));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_plain_node_starts_jobs_on_itself_only),
		T(no_node_may_speak_for_root),
		T(kill_is_for_the_owner),
		T(a_job_that_waits_is_cancelled_and_told_so),
		T(a_node_that_jobs_hold_is_removed_by_force_only),
		T(output_that_is_being_lost_is_told_at_once),
		T(output_that_was_lost_is_told_once_for_each_node),
		T(a_second_kill_shortens_the_grace),
		T(each_transition_of_a_node_is_one_line),
		T(each_transition_of_a_job_is_one_line_without_its_command),
		T(a_lost_node_is_logged_once),
		T(excluded_nodes_are_named_only_when_some_are),
		T(an_excluded_node_that_is_not_there_is_named_at_submit),
		T(only_the_submitting_node_is_told_that_a_job_is_over_and_only_when_saved),
		T(a_registering_node_is_told_its_unfinished_jobs),
		T(a_node_that_was_told_of_a_job_that_is_not_taken_is_told_that_it_is_over),
		T(an_end_that_is_not_on_disk_is_confirmed_to_nobody),
		T(a_repeated_submit_says_whether_its_specification_is_needed),
		T(the_jobs_nodes_may_fetch_its_specification_until_it_is_over),
		T(a_job_that_was_never_saved_lets_nobody_in),
		T(a_choice_of_nodes_that_was_not_saved_lets_nobody_in),
		T(a_reader_of_an_ended_job_is_let_in_only_while_it_watches),
		T(a_registering_node_is_told_of_those_who_watch_now),
		T(a_placement_that_cannot_be_saved_lets_nobody_in),
		T(keys_that_left_the_cluster_are_revoked_whoever_removed_them),
		T(a_node_enrolled_again_with_its_key_is_not_revoked),
		T(the_watches_of_one_connection_are_counted),
	};

	return cmocka_run_group_tests_name("coord requests", tests, NULL, NULL);
}
