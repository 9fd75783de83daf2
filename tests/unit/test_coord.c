/* test_coord.c - the coordinator's core, by the messages it sends */
#include <errno.h>

#include "coord_world.h"

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

static void join_with(struct world *w, const char *key, const char *name, const char *token,
		      enum msg_type expect)
{
	uint64_t l = link_up(w, WHO_STRANGER, key, "join");
	char id[33];
	uint8_t secret[32];
	struct msg m;

	assert_int_equal(sscanf(token, "na1.%16[0-9a-f].", id), 1);
	for (int i = 0; i < 32; i++) {
		unsigned v;

		assert_int_equal(sscanf(strchr(token + 4, '.') + 1 + 2 * i, "%2x", &v), 1);
		secret[i] = (uint8_t)v;
	}
	msg_init(&m, MSG_join);
	m.u.join.token_id = id;
	m.u.join.secret = (struct bytes){ secret, 32 };
	m.u.join.node = name;
	say(w, l, &m);
	store(w);
	assert_true(was_told(w, l, expect));
	link_down(w, l);
}

/* uid_min, if any: for a node that may submit. */
static void token_for(struct world *w, const uint32_t *uid_min, char out[160])
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_token_create);
	m.u.token_create.rid = 3;
	m.u.token_create.submit = true;
	if (uid_min)
		MSG_SET(&m.u.token_create, token_create, uid_min, *uid_min);
	say(w, l, &m);
	assert_false(was_told(w, l, MSG_token)); /* not before it is on disk */
	store(w);
	assert_true(last_to(w, l, MSG_token, &m));
	snprintf(out, 160, "%s", m.u.token.token);
	msg_finish(&m);
	link_down(w, l);
}

static void new_token(struct world *w, char out[160])
{
	token_for(w, NULL, out);
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

static void remove_node(struct world *w, const char *name, enum msg_type expect)
{
	uint64_t adm = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = 4;
	m.u.node_remove.node = name;
	MSG_SET(&m.u.node_remove, node_remove, force, true);
	say(w, adm, &m);
	store(w);
	assert_true(was_told(w, adm, expect));
	link_down(w, adm);
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

/* ---- restart of the coordinator ---------------------------------------------------- */

static void a_running_job_survives_the_coordinator(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	assert_job(w, "recovering", -1);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ended", "exited", 1, 7);
	store(w);
	assert_true(was_told(w, a, MSG_end));
	ended(w, a, 0, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 7);
	assert_true(was_told(w, b, MSG_forget));
}

static void a_part_that_was_ended_while_the_coordinator_was_away_ends_the_job(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	w->ours = true; /* its agent was told to stop; the rank exits well on TERM */
	a = node_up_held(w, "gpu01", "boot-1", 1, "ended", "exited", 0, 0);
	w->ours = false;
	b = node_up_held(w, "gpu02", "boot-1", 1, "running", "running", 1, 0);
	store(w);
	assert_true(was_told(w, b, MSG_end));
	ended(w, b, 1, "killed", 0, true);
	store(w);
	assert_job(w, "failed", 143);
}

/* The row with 'running' never came to the disk, and the shims were stopped until their ranks' end:
 * only that tells when they were started. */
static void a_job_of_which_only_the_end_is_heard_was_started_all_the_same(void **state)
{
	struct world *w = *state;
	struct rec_rank_state r = { .state = "exited", .start_wall_ms = 777 };
	struct rec_job_info *i;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true; /* their agents have not heard their shims */
	a = node_up_held(w, "gpu01", "boot-1", 1, "starting", "waiting", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "starting", "waiting", 1, 0);
	w->no_master = false;
	assert_job(w, "recovering", -1);
	MSG_SET(&r, rank_state, code, 0);
	for (r.rank = 0; r.rank < 2; r.rank++) {
		msg_init(&m, MSG_ended);
		m.u.ended.job = w->job;
		m.u.ended.attempt = 1;
		m.u.ended.ranks = &r;
		m.u.ended.n_ranks = 1;
		say(w, r.rank == 0 ? a : b, &m);
	}
	store(w);
	i = job_one(w, &m);
	assert_non_null(i);
	assert_string_equal(i->state, "done");
	assert_int_equal(i->start_wall_ms, 777);
	msg_finish(&m);
}

static void a_rank_that_exits_well_because_its_node_stops_has_not_done_its_work(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	ended(w, a, 0, "exited", 0, true);
	store(w);
	assert_true(was_told(w, b, MSG_end));
	ended(w, b, 1, "exited", 0, true);
	store(w);
	assert_job(w, "failed", 143);
}

static void a_half_started_job_is_started_everywhere_after_a_restart(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	assert_true(was_told(w, b, MSG_start));
	assert_job(w, "running", -1);
}

static void a_node_whose_shim_has_not_spoken_yet_is_waited_for(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "preparing", "waiting", 1, 0);
	store(w);
	assert_false(was_told(w, a, MSG_end));
	assert_job(w, "running", -1);
	forget_sent(w);
	link_down(w, b);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	assert_true(was_told(w, b, MSG_start));
}

static void what_was_taken_for_started_and_stands_ready_is_started(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true;
	(void)node_up_held(w, "gpu02", "boot-1", 1, "starting", "waiting", 1, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	w->no_master = false;
	(void)node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	store(w);
	assert_job(w, "running", -1);
	assert_true(was_told(w, b, MSG_start));
}

/* Its agent was told to start, and knows the address; its shim has found the order too old. */
static void what_was_told_as_starting_and_stands_ready_is_started(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	(void)node_up_held(w, "gpu02", "boot-1", 1, "starting", "waiting", 1, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	(void)node_up_held(w, "gpu01", "boot-1", 1, "ended", "exited", 0, 0);
	store(w);
	assert_job(w, "running", -1);
	assert_true(was_told(w, b, MSG_start));
}

static void a_node_that_cannot_tell_yet_whether_it_has_started_is_waited_for(void **state)
{
	struct world *w = *state;
	uint64_t a, b;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true;
	a = node_up_held(w, "gpu01", "boot-1", 1, "starting", "waiting", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	store(w);
	assert_false(was_told(w, b, MSG_end));
	assert_false(was_told(w, b, MSG_start));
	assert_job(w, "recovering", -1);
	/* The latch was taken, and it has not gone: nobody has. */
	a = node_up_held(w, "gpu01", "boot-1", 1, "ready", "waiting", 0, 0);
	assert_true(was_told(w, a, MSG_prepare));
	assert_true(was_told(w, b, MSG_prepare));
}

static void a_half_started_job_ends_when_nobody_knows_where_rank_0_listens(void **state)
{
	struct world *w = *state;
	uint64_t a, b;
	struct msg m;

	running_pair(w, &a, &b);
	restart(w);
	w->no_master = true;
	a = node_up_held(w, "gpu01", "boot-1", 1, "running", "running", 0, 0);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	store(w);
	assert_false(was_told(w, b, MSG_start));
	assert_false(was_told(w, b, MSG_prepare));
	assert_true(was_told(w, a, MSG_end));
	assert_true(last_to(w, b, MSG_end, &m));
	assert_non_null(strstr(m.u.end.why, "where its rank 0 listens"));
	msg_finish(&m);
}

static void a_job_nobody_has_started_is_prepared_again(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");

	submit(w, a, "c1", 2);
	store(w);
	restart(w);
	a = node_up_held(w, "gpu01", "boot-1", 1, "ready", "waiting", 0, 0);
	assert_false(was_told(w, a, MSG_prepare));
	b = node_up(w, "gpu02");
	assert_true(was_told(w, a, MSG_prepare));
	assert_true(was_told(w, b, MSG_prepare));
	assert_false(was_told(w, a, MSG_start));
}

static void a_job_of_another_lineage_is_left_alone(void **state)
{
	struct world *w = *state;
	uint64_t l = link_up(w, WHO_NODE, "gpu01", "agent");
	struct rec_addr addr = { .ip = "10.0.0.1" };
	struct rec_held h = { .job = 1, .attempt = 1, .phase = "running" };
	struct msg m;

	msg_init(&m, MSG_node_register);
	m.u.node_register.node = "gpu01";
	m.u.node_register.boot_id = "boot-1";
	m.u.node_register.peer_port = 1;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	m.u.node_register.held = &h;
	m.u.node_register.n_held = 1;
	MSG_SET(&m.u.node_register, node_register, lineage, 43);
	say(w, l, &m);
	assert_false(was_told(w, l, MSG_end));
	assert_false(was_told(w, l, MSG_forget));
}

/* Found by simulation; tests/sim/planted/left-ready.patch plants it again. */
static void what_is_alive_at_a_place_that_is_over_is_ended_and_then_forgotten(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");

	submit(w, a, "c1", 2);
	store(w);
	prepared(w, a, true);
	prepared(w, b, false);
	store(w);
	ended(w, b, 1, "waiting", 0, false);
	link_down(w, b);
	b = node_up_held(w, "gpu02", "boot-1", 1, "ready", "waiting", 1, 0);
	assert_true(was_told(w, b, MSG_end));
	assert_false(was_told(w, b, MSG_start));
	forget_sent(w);
	ended(w, b, 1, "waiting", 0, false);
	assert_false(was_told(w, b, MSG_forget));
	ended(w, a, 0, "waiting", 0, false);
	store(w);
	assert_true(was_told(w, b, MSG_forget));
	assert_job(w, "failed", 127);
}

static void a_stored_job_without_processes_makes_no_sense(void **state)
{
	struct world *w = *state;
	char *digit, *json = NULL;
	struct msg m;
	struct err e;

	submit(w, node_up(w, "gpu01"), "c1", 1);
	store(w);
	for (size_t i = 0; i < w->n_rows; i++)
		if (w->rows[i].table == TABLE_JOB)
			json = w->rows[i].json;
	assert_non_null(json);
	digit = strstr(json, "\"procs_per_node\":1") + strlen("\"procs_per_node\":");
	*digit = '0';
	coord_destroy(w->c);
	begin(w);
	assert_int_equal(msg_decode(json, strlen(json), &m, &e), 0);
	assert_int_equal(coord_load(w->c, &m, &e), -EINVAL);
	assert_string_equal(e.text, "stored job 1 makes no sense");
	msg_finish(&m);
}

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

/* ---- waiting ----------------------------------------------------------------------------- */

static void a_job_waits_for_nodes_and_says_so(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");
	struct rec_job_info *i;
	struct msg m;

	submit(w, a, "c1", 3);
	store(w);
	i = job_one(w, &m);
	assert_string_equal(i->state, "queued");
	assert_non_null(strstr(i->why, "waiting for 3 nodes"));
	msg_finish(&m);
	node_up(w, "gpu02");
	assert_false(was_told(w, a, MSG_prepare));
	node_up(w, "gpu03");
	assert_false(was_told(w, a, MSG_prepare)); /* the choice is not on disk yet */
	store(w);
	assert_true(was_told(w, a, MSG_prepare));
}

static void nothing_is_prepared_before_the_choice_of_nodes_is_on_disk(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b;

	submit_as(w, a, "c1", 2, "gpu[01-02]", 1000);
	store(w);
	assert_job(w, "queued", -1);
	b = node_up(w, "gpu02");
	link_down(w, b);
	b = node_up(w, "gpu02"); /* a disk is slower than a network */
	assert_false(was_told(w, a, MSG_prepare));
	assert_false(was_told(w, b, MSG_prepare));
	store(w);
	assert_true(was_told(w, a, MSG_prepare));
	assert_true(was_told(w, b, MSG_prepare));
}

static void more_nodes_than_there_are_is_refused(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01");

	submit(w, a, "c1", 4);
	assert_true(was_told(w, a, MSG_refused));
	submit_as(w, a, "c2", 0, "gpu99", 1000);
	store(w);
	assert_false(was_told(w, a, MSG_submitted));
}

static void a_node_that_does_not_get_ready_is_named(void **state)
{
	struct world *w = *state;
	uint64_t a = node_up(w, "gpu01"), b = node_up(w, "gpu02");
	struct msg m;

	submit(w, a, "c1", 2);
	store(w);
	prepared(w, a, true);
	msg_init(&m, MSG_ping);
	m.u.ping.seq = 1;
	for (int i = 0; i < 31; i++) {
		tick(w, 1000);
		say(w, a, &m);
		say(w, b, &m);
	}
	store(w);
	assert_true(last_to(w, b, MSG_end, &m));
	assert_non_null(strstr(m.u.end.why, "gpu02"));
	assert_null(strstr(m.u.end.why, "gpu01"));
	msg_finish(&m);
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

static void watch(struct world *w, uint64_t link, uint32_t rid)
{
	struct msg m;

	msg_init(&m, MSG_watch);
	m.u.watch.rid = rid;
	m.u.watch.job = 1;
	MSG_SET(&m.u.watch, watch, uid, 1000);
	say(w, link, &m);
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

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

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
		T(a_node_is_ok_then_unreachable_when_silent_then_ok_again),
		T(a_node_that_is_heard_once_more_is_shown_silent_as_soon_again),
		T(a_dead_agent_is_down_at_once),
		T(two_live_sessions_of_two_boots_are_quarantined),
		T(two_agents_of_one_boot_with_one_key_are_quarantined),
		T(agents_that_are_restarted_are_not_taken_for_copies),
		T(a_stranger_may_only_join),
		T(a_token_lets_in_one_node_once),
		T(a_node_speaks_for_root_only_when_its_token_says_so),
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
		T(a_running_job_survives_the_coordinator),
		T(a_part_that_was_ended_while_the_coordinator_was_away_ends_the_job),
		T(a_job_of_which_only_the_end_is_heard_was_started_all_the_same),
		T(a_rank_that_exits_well_because_its_node_stops_has_not_done_its_work),
		T(a_half_started_job_is_started_everywhere_after_a_restart),
		T(a_node_whose_shim_has_not_spoken_yet_is_waited_for),
		T(what_was_taken_for_started_and_stands_ready_is_started),
		T(what_was_told_as_starting_and_stands_ready_is_started),
		T(a_node_that_cannot_tell_yet_whether_it_has_started_is_waited_for),
		T(a_half_started_job_ends_when_nobody_knows_where_rank_0_listens),
		T(a_job_nobody_has_started_is_prepared_again),
		T(a_job_of_another_lineage_is_left_alone),
		T(what_is_alive_at_a_place_that_is_over_is_ended_and_then_forgotten),
		T(a_stored_job_without_processes_makes_no_sense),
		T(a_plain_node_starts_jobs_on_itself_only),
		T(no_node_may_speak_for_root),
		T(kill_is_for_the_owner),
		T(a_job_that_waits_is_cancelled_and_told_so),
		T(a_node_that_jobs_hold_is_removed_by_force_only),
		T(a_second_kill_shortens_the_grace),
		T(output_that_was_lost_is_told_once_for_each_node),
		T(a_job_waits_for_nodes_and_says_so),
		T(nothing_is_prepared_before_the_choice_of_nodes_is_on_disk),
		T(more_nodes_than_there_are_is_refused),
		T(a_node_that_does_not_get_ready_is_named),
		T(the_jobs_nodes_may_fetch_its_specification_until_it_is_over),
		T(a_reader_of_an_ended_job_is_let_in_only_while_it_watches),
		T(a_registering_node_is_told_of_those_who_watch_now),
		T(a_placement_that_cannot_be_saved_lets_nobody_in),
		T(keys_that_left_the_cluster_are_revoked_whoever_removed_them),
		T(a_node_enrolled_again_with_its_key_is_not_revoked),
		T(each_transition_of_a_node_is_one_line),
		T(each_transition_of_a_job_is_one_line_without_its_command),
		T(a_lost_node_is_logged_once),
		T(excluded_nodes_are_named_only_when_some_are),
		T(an_excluded_node_that_is_not_there_is_named_at_submit),
		T(only_the_submitting_node_is_told_that_a_job_is_over_and_only_when_saved),
		T(a_registering_node_is_told_its_unfinished_jobs),
		T(a_repeated_submit_says_whether_its_specification_is_needed),
		T(the_watches_of_one_connection_are_counted),
	};

	return cmocka_run_group_tests_name("coord", tests, NULL, NULL);
}
