/* test_coord.c - the coordinator's core, by the messages it sends */
#include "coord_jobs.h"

/* ---- nodes ----------------------------------------------------------------- */

static void a_node_is_ok_then_unreachable_when_silent_then_ok_again(void **state)
{
	struct world *w = *state;
	uint64_t l = node_up(w, "gpu01");
	char s[32];
	struct msg m;

	assert_string_equal(state_of(w, "gpu01", s), "ok");
	tick(w, 3400);
	assert_string_equal(state_of(w, "gpu01", s), "ok");
	tick(w, 500);
	assert_string_equal(state_of(w, "gpu01", s), "unreachable");
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	say(w, l, &m);
	assert_string_equal(state_of(w, "gpu01", s), "ok");
}

static void a_node_that_is_heard_once_more_is_shown_silent_as_soon_again(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct msg m;
	char s[32];

	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	tick(w, 4000);
	say(w, a, &m);
	assert_string_equal(state_of(w, "gpu01", s), "ok");
	tick(w, 4000);
	assert_string_equal(state_of(w, "gpu01", s), "unreachable");
}

static void a_dead_agent_is_down_at_once(void **state)
{
	struct world *w = *state;
	uint64_t l = node_up(w, "gpu01");
	char s[32];

	link_down(w, l);
	assert_string_equal(state_of(w, "gpu01", s), "down");
}

static void two_live_sessions_of_two_boots_are_quarantined(void **state)
{
	struct world *w = *state;
	uint64_t old = node_up_held(w, "gpu01", "boot-1", 0, NULL, NULL, 0, 0);
	char s[32];
	struct msg m;

	node_up_held(w, "gpu01", "boot-2", 0, NULL, NULL, 0, 0);
	assert_string_equal(state_of(w, "gpu01", s), "ok");
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	say(w, old, &m); /* may have been on its way */
	assert_string_equal(state_of(w, "gpu01", s), "ok");
	tick(w, 1100);
	say(w, old, &m);
	assert_string_equal(state_of(w, "gpu01", s), "quarantined");
	assert_true(last_to(w, old, MSG_refused, &m));
	assert_non_null(strstr(m.u.refused.text, "two machines"));
	assert_non_null(strstr(m.u.refused.text, "'nodectl node-remove gpu01'"));
	msg_finish(&m);
}

/* Registers as gpu01, of the same boot. */
static uint64_t agent_of(struct world *w, uint64_t incarnation)
{
	uint64_t l = link_up(w, WHO_NODE, "gpu01", "agent");
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = "gpu01";
	m.u.node_register.boot_id = "boot-1";
	m.u.node_register.incarnation = incarnation;
	m.u.node_register.peer_port = 7000;
	say(w, l, &m);
	return l;
}

static void two_agents_of_one_boot_with_one_key_are_quarantined(void **state)
{
	struct world *w = *state;
	uint64_t l[8], again;
	struct msg m;
	char s[32];

	for (int i = 0; i < 4; i++) {
		l[i] = agent_of(w, 70 + i % 2);
		assert_true(was_told(w, l[i], MSG_node_registered));
		tick(w, 300);
	}
	assert_true(last_to(w, l[0], MSG_refused, &m));
	assert_string_equal(m.u.refused.code, "replaced");
	assert_non_null(strstr(m.u.refused.text, "gpu01"));
	msg_finish(&m);
	assert_non_null(strstr(w->log, "took the place of a connected one"));
	assert_string_equal(state_of(w, "gpu01", s), "ok");

	again = agent_of(w, 70); /* its third return */
	assert_string_equal(state_of(w, "gpu01", s), "quarantined");
	for (int i = 0; i < 2; i++) {
		assert_true(last_to(w, i ? again : l[3], MSG_refused, &m));
		assert_string_equal(m.u.refused.code, "denied");
		assert_non_null(strstr(m.u.refused.text, "two agents on its host"));
		msg_finish(&m);
	}
	assert_non_null(strstr(w->log, "ok -> quarantined (two agents on its host use its key)"));
	again = agent_of(w, 71);
	assert_true(was_told(w, again, MSG_refused));
}

static void agents_that_are_restarted_are_not_taken_for_copies(void **state)
{
	struct world *w = *state;
	char s[32];

	for (int i = 0; i < 20; i++) {
		agent_of(w, 70 + i / 2); /* each also connects a second time: its link was cut */
		tick(w, 300);
	}
	assert_string_equal(state_of(w, "gpu01", s), "ok");
}

static void a_stranger_may_only_join(void **state)
{
	struct world *w = *state;
	uint64_t l = link_up(w, WHO_STRANGER, "evil", "agent");

	assert_true(was_told(w, l, MSG_refused));
	assert_int_equal(w->closed[w->n_closed - 1], l);
}

/* A node that jobs hold is taken out by force only: what is advised works. */
static void who_is_to_remove_a_node_with_jobs_is_told_of_force(void **state)
{
	struct world *w = *state;
	uint64_t old, to;
	char token[160];
	struct msg m;

	running_pair(w, &old, &to);
	new_token(w, token);
	join_with(w, "k9", "gpu01", token, MSG_refused);
	assert_true(last_to(w, w->next_link, MSG_refused, &m));
	assert_non_null(strstr(m.u.refused.text, "nodectl node-remove --force gpu01"));
	msg_finish(&m);
	node_up_held(w, "gpu01", "boot-2", 0, NULL, NULL, 0, 0);
	tick(w, 1100);
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	say(w, old, &m);
	assert_true(last_to(w, old, MSG_refused, &m));
	assert_non_null(strstr(m.u.refused.text, "'nodectl node-remove --force gpu01'"));
	msg_finish(&m);
}

static bool may_submit_as(struct world *w, const char *node, const uint32_t *uid_min, uint32_t uid)
{
	char token[160];
	uint64_t l;

	token_for(w, uid_min, token);
	join_with(w, node, node, token, MSG_joined);
	l = node_up(w, node);
	submit_as(w, l, node, 1, NULL, uid);
	store(w);
	return was_told(w, l, MSG_submitted);
}

static void who_may_not_submit_is_told_what_would_let_him(void **state)
{
	struct world *w = *state;
	uint64_t l = node_up(w, "gpu01");
	struct msg m;

	submit_as(w, l, "gpu01", 1, NULL, 0);
	assert_true(last_to(w, l, MSG_refused, &m));
	assert_non_null(strstr(m.u.refused.text, "'nodectl node-remove gpu01', 'nodectl token create --submit --uids 0-59999', and "
						 "'nodeagentd join' there; root's jobs run only on nodes with allow_root = yes"));
	msg_finish(&m);
}

static void a_node_speaks_for_root_only_when_its_token_says_so(void **state)
{
	struct world *w = *state;
	const uint32_t zero = 0, one = 1;

	assert_true(may_submit_as(w, "gpu11", NULL, 1000));
	assert_false(may_submit_as(w, "gpu12", NULL, 0));
	assert_false(may_submit_as(w, "gpu13", NULL, 999));
	assert_false(may_submit_as(w, "gpu14", &one, 0));
	assert_true(may_submit_as(w, "gpu15", &zero, 0));
}

static void a_token_lets_in_one_node_once(void **state)
{
	struct world *w = *state;
	char token[160], s[32], wrong[160];

	new_token(w, token);
	snprintf(wrong, sizeof(wrong), "%s", token);
	wrong[strlen(wrong) - 1] ^= 1;
	join_with(w, "k9", "gpu09", wrong, MSG_refused);
	join_with(w, "k9", "gpu01", token, MSG_refused); /* the name is taken */
	join_with(w, "k9", "gpu09", token, MSG_joined);
	join_with(w, "k9", "gpu09", token, MSG_joined); /* asked again: its answer was lost */
	join_with(w, "k8", "gpu08", token, MSG_refused); /* used up */
	assert_string_equal(state_of(w, "gpu09", s), "down");
	restart(w);
	assert_string_equal(state_of(w, "gpu09", s), "down");
}

static void a_token_expires(void **state)
{
	struct world *w = *state;
	char token[160];

	new_token(w, token);
	tick(w, 3601 * 1000);
	join_with(w, "k9", "gpu09", token, MSG_refused);
}

static void a_removed_node_is_cut_off(void **state)
{
	struct world *w = *state;
	uint64_t l = node_up(w, "gpu02"), adm = link_up(w, WHO_LOCAL, NULL, "client");
	uint8_t key[32];
	struct msg m;

	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 4;
	m.u.node_remove.node = "gpu02";
	say(w, adm, &m);
	assert_int_equal(w->closed[w->n_closed - 1], l);
	key_of("gpu02", key);
	assert_false(coord_find_key(w->c, key));
	store(w);
	assert_true(was_told(w, adm, MSG_ok));
}

static void a_key_that_is_out_is_out_for_those_who_were_away(void **state)
{
	struct world *w = *state;
	uint8_t key[32];
	uint64_t a;
	struct msg m;

	node_up(w, "gpu02");
	remove_node(w, "gpu02", MSG_ok);
	remove_node(w, "gpu02", MSG_ok); /* its answer may have been lost */
	remove_node(w, "gpu99", MSG_refused);
	restart(w);
	a = node_up(w, "gpu01");
	assert_true(last_to(w, a, MSG_revoke, &m));
	key_of("gpu02", key);
	assert_memory_equal(m.u.revoke.key.p, key, 32);
	msg_finish(&m);
}

static void a_removal_that_could_not_be_saved_is_asked_for_again(void **state)
{
	struct world *w = *state;
	uint8_t key[32];

	w->disk_full = true;
	remove_node(w, "gpu02", MSG_refused);
	w->disk_full = false;
	remove_node(w, "gpu02", MSG_ok);
	restart(w);
	key_of("gpu02", key);
	assert_false(coord_find_key(w->c, key));
}

/* As after a quarantine: the machine still has its key, and its jobs. */
static void a_removed_node_joins_again_as_if_it_had_never_left(void **state)
{
	struct world *w = *state;
	char token[160];
	uint64_t a, b;

	running_pair(w, &a, &b);
	remove_node(w, "gpu02", MSG_ok);
	link_down(w, b);
	new_token(w, token);
	join_with(w, "gpu02", "gpu02", token, MSG_joined);
	b = node_up_held(w, "gpu02", "boot-1", 1, "running", "running", 1, 0);
	assert_false(was_told(w, b, MSG_end));
	assert_job(w, "running", -1);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	assert_false(was_told(w, a, MSG_revoke));
}

static void nobody_is_handed_the_key_of_a_removed_node(void **state)
{
	static const uint8_t nobody[32];
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	remove_node(w, "gpu02", MSG_ok);
	msg_init(&m, MSG_watch);
	m.u.watch.rid = 77;
	m.u.watch.job = 1;
	MSG_SET(&m.u.watch, watch, uid, 1000);
	say(w, a, &m);
	assert_true(last_to(w, a, MSG_job_update, &m));
	assert_int_equal(m.u.job_update.n_peers, 2);
	assert_memory_equal(m.u.job_update.peers[1].key.p, nobody, 32);
	assert_int_equal(m.u.job_update.peers[1].n_addrs, 0);
	msg_finish(&m);
}

/* ---- launching --------------------------------------------------------------- */

static void nothing_is_said_or_prepared_before_the_submit_is_on_disk(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");

	submit(w, a, "c1", 1);
	assert_false(was_told(w, a, MSG_submitted));
	assert_false(was_told(w, a, MSG_prepare));
	store(w);
	assert_true(was_told(w, a, MSG_submitted));
	assert_true(was_told(w, a, MSG_prepare));
}

static void a_submit_that_cannot_be_saved_is_refused_and_leaves_nothing(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct msg m;

	store(w);
	w->disk_full = true;
	submit(w, a, "c1", 1);
	store(w);
	assert_true(was_told(w, a, MSG_refused));
	assert_false(was_told(w, a, MSG_prepare));
	assert_null(job_one(w, &m));
}

static void a_retried_submit_is_one_job(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct msg m;

	submit(w, a, "c1", 1);
	submit(w, a, "c1", 1);
	store(w);
	submit(w, a, "c1", 1);
	restart(w);
	a = node_up(w, "gpu01");
	submit(w, a, "c1", 1);
	store(w);
	assert_true(last_to(w, a, MSG_submitted, &m));
	assert_int_equal(m.u.submitted.job, 1);
	msg_finish(&m);
}

static void nobody_starts_before_all_are_ready_and_proved(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");
	struct msg m;

	submit(w, a, "c1", 2);
	store(w);
	prepared(w, a, true);
	assert_false(was_told(w, a, MSG_prove));
	prepared(w, b, true);
	assert_true(was_told(w, b, MSG_prove));
	assert_false(was_told(w, a, MSG_prove)); /* rank 0's node listens until the others are done */
	proved(w, b, true, true);
	assert_true(was_told(w, a, MSG_prove));
	assert_false(was_told(w, a, MSG_start));
	proved(w, a, false, true);
	assert_true(last_to(w, b, MSG_start, &m));
	assert_string_equal(m.u.start.master_addr, "10.0.0.1");
	assert_int_equal(m.u.start.master_port, 20000);
	msg_finish(&m);
	assert_true(was_told(w, a, MSG_start));
}

static void expect_why(struct world *w, const char *words)
{
	struct msg m;
	struct rec_job_info *i = job_one(w, &m);

	if (words == NULL)
		assert_null(i->why);
	else
		assert_non_null(strstr(i->why != NULL ? i->why : "", words));
	msg_finish(&m);
}

static void who_is_not_ready_soon_is_named_with_what_it_does(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");

	submit(w, a, "c1", 2);
	store(w);
	tick(w, 1900);
	expect_why(w, NULL);
	tick(w, 200);
	expect_why(w, "waiting for gpu01 and 1 more to be ready: its shim is being started");
	prepared(w, a, true);
	expect_why(w, "waiting for gpu02 to be ready: it fetches command and environment from gpu01 (can it reach that one?)");
	prepared(w, b, true);
	expect_why(w, NULL);
	proved(w, b, true, true);
	proved(w, a, false, true);
	ranks(w, a, 0, "running", 0);
	expect_why(w, NULL);
}

static void an_unreachable_rank_zero_is_named(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");
	struct msg m;
	struct rec_job_info *i;

	submit(w, a, "c1", 2);
	store(w);
	prepared(w, a, true);
	prepared(w, b, true);
	proved(w, b, true, false);
	ended(w, a, 0, "waiting", 0, false);
	ended(w, b, 1, "waiting", 0, false);
	store(w);
	i = job_one(w, &m);
	assert_string_equal(i->state, "failed");
	assert_non_null(strstr(i->why, "gpu02 cannot reach node gpu01"));
	assert_non_null(strstr(i->why, "connection refused"));
	msg_finish(&m);
}

static void a_refusal_to_prepare_gives_its_code_and_sentence(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");

	submit(w, a, "c1", 2);
	store(w);
	prepared(w, a, true);
	prepared(w, b, false);
	store(w);
	assert_true(was_told(w, a, MSG_end));
	ended(w, a, 0, "waiting", 0, false);
	ended(w, b, 1, "waiting", 0, false);
	store(w);
	assert_job(w, "failed", 127);
	assert_true(was_told(w, a, MSG_forget));
}

static void the_first_bad_rank_decides(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	ranks(w, b, 1, "exited", 7);
	assert_false(was_told(w, a, MSG_end)); /* the decision is not on disk yet */
	store(w);
	assert_true(was_told(w, a, MSG_end));
	ended(w, b, 1, "exited", 7, false);
	ended(w, a, 0, "killed", 0, true);
	assert_false(was_told(w, a, MSG_forget)); /* not before the end is on disk */
	store(w);
	assert_job(w, "failed", 7);
	assert_true(was_told(w, a, MSG_forget));
}

static void all_good_is_done(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	ended(w, a, 0, "exited", 0, false);
	assert_job(w, "running", -1);
	ended(w, b, 1, "exited", 0, false);
	store(w);
	assert_job(w, "done", 0);
}

static void a_node_speaks_for_its_own_ranks_only(void **state)
{
	struct world *w = *state;
	uint64_t a, b, c;

	running_pair(w, &a, &b);
	c = node_up(w, "gpu03");
	ranks(w, b, 0, "exited", 9); /* rank 0 is gpu01's */
	ranks(w, c, 0, "exited", 9); /* gpu03 has no part in it */
	assert_job(w, "running", -1);
}

static void ended_states_never_change(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	ended(w, a, 0, "exited", 0, false);
	ended(w, b, 1, "exited", 0, false);
	ranks(w, b, 1, "exited", 9);
	ended(w, b, 1, "exited", 9, false);
	store(w);
	ended(w, b, 1, "exited", 9, false);
	store(w);
	assert_job(w, "done", 0);
}

static void a_torn_character_in_a_sentence_harms_nobody(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	char text[1024] = "x";
	struct msg m;

	for (int i = 0; i < 300; i++)
		strcat(text, "\xe7\x8c\xab");
	submit(w, a, "c1", 1);
	store(w);
	msg_init(&m, MSG_prepared);
	m.u.prepared.job = 1;
	m.u.prepared.attempt = 1;
	m.u.prepared.text = text;
	say(w, a, &m); /* feed() fails the test when the step fails */
	assert_int_equal(w->acts.invalid, 0);
	store(w);
	ended(w, a, 0, "waiting", 0, false);
	store(w);
	restart(w);
	assert_job(w, "failed", 1);
}

/* ---- silence and loss ------------------------------------------------------------ */

static void silence_touches_no_job_before_the_lost_timeout(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	node_up(w, "gpu03");
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	for (int i = 0; i < 118; i++) {
		tick(w, 1000);
		say(w, a, &m);
		say(w, w->next_link, &m);
	}
	assert_job(w, "running", -1);
	for (int i = 0; i < 4; i++) {
		tick(w, 1000);
		say(w, a, &m);
		say(w, w->next_link, &m);
	}
	store(w);
	assert_true(was_told(w, a, MSG_end));
	ended(w, a, 0, "killed", 0, true);
	store(w);
	assert_job(w, "lost", 255);
}

static void a_coordinator_that_was_stopped_has_not_heard_anybody(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	node_up(w, "gpu03");
	w->now = mono_add_ms(w->now, 300 * 1000);
	/* What was said to its sockets meanwhile; gpu02's agent was restarted, and waits. */
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	say(w, a, &m);
	say(w, w->next_link, &m);
	link_down(w, b);
	tick(w, 3000);
	node_up_held(w, "gpu02", "boot-1", 1, "running", "running", 1, 0);
	tick(w, 1000);
	assert_false(was_told(w, a, MSG_end));
	assert_job(w, "running", -1);
}

static void when_most_nodes_fall_silent_nothing_is_failed(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	node_up(w, "gpu03");
	tick(w, 300 * 1000);
	assert_job(w, "running", -1);
}

static void another_boot_loses_the_ranks_at_once(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	link_down(w, b);
	assert_job(w, "running", -1);
	node_up_held(w, "gpu02", "boot-2", 0, NULL, NULL, 0, 0);
	ended(w, a, 0, "killed", 0, true);
	store(w);
	assert_job(w, "lost", 255);
}

static void a_client_may_leave_when_all_reachable_nodes_are_clean(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	node_up(w, "gpu03");
	msg_init(&m, MSG_watch);
	m.u.watch.rid = 77;
	m.u.watch.job = 1;
	MSG_SET(&m.u.watch, watch, uid, 1000);
	say(w, a, &m);
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	for (int i = 0; i < 5; i++) {
		tick(w, 1000);
		say(w, a, &m);
	}
	ranks(w, a, 0, "exited", 3);
	ended(w, a, 0, "exited", 3, false);
	store(w);
	assert_true(last_to(w, a, MSG_job_update, &m));
	assert_true(m.u.job_update.settled);
	assert_int_equal(m.u.job_update.job[0].exit_code, 3);
	msg_finish(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_node_is_ok_then_unreachable_when_silent_then_ok_again),
		T(a_node_that_is_heard_once_more_is_shown_silent_as_soon_again),
		T(a_dead_agent_is_down_at_once),
		T(two_live_sessions_of_two_boots_are_quarantined),
		T(who_is_to_remove_a_node_with_jobs_is_told_of_force),
		T(two_agents_of_one_boot_with_one_key_are_quarantined),
		T(agents_that_are_restarted_are_not_taken_for_copies),
		T(a_stranger_may_only_join),
		T(who_may_not_submit_is_told_what_would_let_him),
		T(a_node_speaks_for_root_only_when_its_token_says_so),
		T(a_token_lets_in_one_node_once),
		T(a_token_expires),
		T(a_removed_node_is_cut_off),
		T(a_key_that_is_out_is_out_for_those_who_were_away),
		T(a_removal_that_could_not_be_saved_is_asked_for_again),
		T(a_removed_node_joins_again_as_if_it_had_never_left),
		T(nobody_is_handed_the_key_of_a_removed_node),
		T(nothing_is_said_or_prepared_before_the_submit_is_on_disk),
		T(a_submit_that_cannot_be_saved_is_refused_and_leaves_nothing),
		T(a_retried_submit_is_one_job),
		T(nobody_starts_before_all_are_ready_and_proved),
		T(who_is_not_ready_soon_is_named_with_what_it_does),
		T(an_unreachable_rank_zero_is_named),
		T(a_refusal_to_prepare_gives_its_code_and_sentence),
		T(the_first_bad_rank_decides),
		T(all_good_is_done),
		T(a_node_speaks_for_its_own_ranks_only),
		T(ended_states_never_change),
		T(a_torn_character_in_a_sentence_harms_nobody),
		T(silence_touches_no_job_before_the_lost_timeout),
		T(a_coordinator_that_was_stopped_has_not_heard_anybody),
		T(when_most_nodes_fall_silent_nothing_is_failed),
		T(another_boot_loses_the_ranks_at_once),
		T(a_client_may_leave_when_all_reachable_nodes_are_clean),
	};

	return cmocka_run_group_tests_name("coord", tests, NULL, NULL);
}
