/* actor_admin.c - the administrator, at the coordinator's own socket
 *
 * Asks for the status several times a second for as long as the run lasts, and
 * again when it was answered. What it is shown is compared with what was said
 * when (check_silence.c). May take a node out of the cluster, ask again until
 * that is confirmed, and have the same machine join again, with its old key.
 * May drain one, and resume it when that was confirmed. May tell of runs of 'check nccl', the next when the one before is kept: what
 * was told as kept counts for ever (27).
 */
#include <stdio.h>
#include <string.h>

#include "common/base64.h"
#include "tests/sim/sim.h"

#define RUNS 12u

enum { AD_CONNECT, AD_ASK, AD_REMOVE, AD_TOKEN, AD_JOIN, AD_RUN, AD_DRAIN, AD_RESUME };

struct admin {
	struct conn *conn, *join_conn;
	uint32_t rid, remove_rid, token_rid;
	uint32_t host; /* that is taken out */
	int64_t back_after;
	bool to_remove, removed, want_token, need_token, joined;
	bool checks, checks_begun; /* nccl */
	bool drains, want_drain, drained, want_resume, resumed; /* 'host' */
	uint32_t drain_rid, resume_rid;
	int64_t resume_after;
	uint32_t run_rid, runs_kept, runs_told; /* RUNS in all; told: it may have been kept, too */
	char token_id[33];
	uint8_t secret[32];
};

static void again_in(struct sim *s, uint64_t what, int64_t lo, int64_t hi)
{
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, lo, hi), EV_ADMIN, &s->admin_proc, what, NULL);
}

void admin_add(struct sim *s, int64_t at)
{
	s->admin = world_alloc(&s->w, sizeof(*s->admin));
	s->admin_proc.kind = PK_ADMIN;
	proc_start(&s->admin_proc);
	world_at(&s->w, at, EV_ADMIN, &s->admin_proc, AD_CONNECT, NULL);
}

void admin_removes(struct sim *s, uint32_t host, int64_t at, int64_t back_after)
{
	s->admin->host = host;
	s->admin->to_remove = true;
	s->admin->back_after = back_after;
	world_at(&s->w, at, EV_ADMIN, &s->admin_proc, AD_REMOVE, NULL);
}

void admin_checks(struct sim *s, int64_t at)
{
	s->admin->checks = true;
	world_at(&s->w, at, EV_ADMIN, &s->admin_proc, AD_RUN, NULL);
}

/* Gives it jobs again so long after it was told that none come there. */
void admin_drains(struct sim *s, uint32_t host, int64_t at, int64_t resume_after)
{
	s->admin->host = host;
	s->admin->drains = true;
	s->admin->resume_after = resume_after;
	world_at(&s->w, at, EV_ADMIN, &s->admin_proc, AD_DRAIN, NULL);
}

bool admin_done(const struct sim *s)
{
	const struct admin *k = s->admin;

	if (k != NULL && k->drains && !k->resumed)
		return false;
	if (k != NULL && k->checks && k->runs_kept < RUNS)
		return false;
	return k == NULL || !k->to_remove || (k->removed && (k->back_after == 0 || k->joined));
}

const uint8_t *admin_key(const struct sim *s)
{
	return s->agents[s->admin->host].key;
}

/* ---- what is asked --------------------------------------------------------------- */

static void send_msg(struct sim *s, struct conn *c, const struct msg *m)
{
	struct buf b;

	buf_init(&b);
	if (msg_encode(m, &b, NULL) < 0)
		sim_fail(s, "the administrator's own %s can be encoded", msg_name(m->type));
	else if (c != NULL)
		net_send(s, c, 0, b.data, b.len);
	buf_finish(&b);
}

static void ask(struct sim *s)
{
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = ++s->admin->rid;
	send_msg(s, s->admin->conn, &m);
}

static void ask_to_remove(struct sim *s)
{
	struct admin *k = s->admin;
	struct msg m;

	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = k->remove_rid = ++k->rid;
	m.u.node_remove.node = s->agents[k->host].name;
	MSG_SET(&m.u.node_remove, node_remove, force, true);
	send_msg(s, k->conn, &m);
}

static void ask_to_drain(struct sim *s, bool resume)
{
	struct admin *k = s->admin;
	struct msg m;

	msg_init(&m, MSG_node_drain);
	m.u.node_drain.rid = ++k->rid;
	m.u.node_drain.nodes = s->agents[k->host].name;
	if (resume) {
		k->want_resume = true;
		k->resume_rid = k->rid;
		MSG_SET(&m.u.node_drain, node_drain, resume, true);
		s->agents[k->host].drained = false; /* whether or not we shall hear of it */
	} else {
		k->want_drain = s->agents[k->host].may_be_drained = true;
		k->drain_rid = k->rid;
		m.u.node_drain.why = "new NIC";
	}
	send_msg(s, k->conn, &m);
}

static void ask_for_token(struct sim *s)
{
	struct admin *k = s->admin;
	struct msg m;

	k->want_token = true;
	msg_init(&m, MSG_token_create);
	m.u.token_create.rid = k->token_rid = ++k->rid;
	m.u.token_create.submit = true;
	send_msg(s, k->conn, &m);
}

/* All are as fast: each counts. */
static void tell_run(struct sim *s)
{
	struct admin *k = s->admin;
	struct rec_nccl_speed speed = { .op = "all_reduce", .mb_s = 280000 };
	struct rec_nccl_run run = { .good = true, .speeds = &speed, .n_speeds = 1 };
	struct rec_nccl_set set = { .scope = "inside", .nodes = "n1", .ranks = 8, .mib = 128, .runs = &run, .n_runs = 1 };
	struct msg m;

	if (k->conn == NULL)
		return; /* when it is there again */
	msg_init(&m, MSG_base_put);
	m.u.base_put.rid = k->run_rid = ++k->rid;
	m.u.base_put.sets = &set;
	m.u.base_put.n_sets = 1;
	MSG_SET(&m.u.base_put, base_put, keep, true);
	k->runs_told++;
	send_msg(s, k->conn, &m);
}

static void say_hello(struct sim *s, struct conn *c, const char *role)
{
	struct msg m;

	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = NA_SOFTWARE;
	m.u.hello.role = role;
	send_msg(s, c, &m);
}

static void ask_to_join(struct sim *s)
{
	struct admin *k = s->admin;
	struct msg m;

	removed_back(s, k->host); /* whether or not we shall hear that it is in */
	msg_init(&m, MSG_join);
	m.u.join.token_id = k->token_id;
	m.u.join.secret = (struct bytes){ k->secret, 32 };
	m.u.join.node = s->agents[k->host].name;
	send_msg(s, k->join_conn, &m);
}

/* ---- events ------------------------------------------------------------------------ */

static struct conn *dial(struct sim *s, uint64_t what, enum conn_kind kind, int host)
{
	struct proc *to = &s->coord.proc;

	if (to->up && to->resume_at <= s->w.now)
		return net_open(s, kind, &s->admin_proc, to, host);
	again_in(s, what, 50 * MS, 300 * MS);
	return NULL;
}

void admin_event(struct sim *s, const struct event *e)
{
	struct admin *k = s->admin;

	switch (e->a) {
	case AD_CONNECT:
		k->conn = dial(s, AD_CONNECT, CONN_LOCAL, -1);
		break;
	case AD_ASK:
		ask(s);
		break;
	case AD_REMOVE:
		if (!k->removed)
			ask_to_remove(s);
		break;
	case AD_TOKEN:
		ask_for_token(s);
		break;
	case AD_RUN:
		k->checks_begun = true;
		tell_run(s);
		break;
	case AD_DRAIN:
	case AD_RESUME:
		ask_to_drain(s, e->a == AD_RESUME);
		break;
	case AD_JOIN:
		k->join_conn = dial(s, AD_JOIN, CONN_CONTROL, (int)k->host);
		break;
	}
}

void admin_link_up(struct sim *s, struct conn *c)
{
	say_hello(s, c, c == s->admin->join_conn ? "join" : "client");
}

void admin_link_down(struct sim *s, struct conn *c)
{
	struct admin *k = s->admin;

	if (c == k->join_conn) {
		k->join_conn = NULL;
		if (!k->joined)
			again_in(s, k->need_token ? AD_TOKEN : AD_JOIN, 200 * MS, SECOND);
		k->need_token = false;
		return;
	}
	k->conn = NULL;
	again_in(s, AD_CONNECT, 50 * MS, 300 * MS);
}

/* ---- answers ------------------------------------------------------------------------- */

static void is_removed(struct sim *s)
{
	struct admin *k = s->admin;

	if (k->removed)
		return;
	k->removed = true;
	removed_now(s, k->host);
	if (k->back_after != 0)
		again_in(s, AD_TOKEN, k->back_after, k->back_after);
}

/* Asked a second time, because the answer was lost or it could not be saved,
 * "there is no such node" says what it seems to say. */
static void on_refused(struct sim *s, struct conn *c, const struct rec_refused *r)
{
	struct admin *k = s->admin;

	LINE(&s->w, "admin", "refused: %s %s", r->code, r->text);
	if (c == k->join_conn)
		k->need_token = true; /* used up, and its answer lost: it says to make another one */
	else if (r->rid == k->remove_rid && strcmp(r->code, "not-found") == 0)
		is_removed(s);
	else if (r->rid == k->remove_rid)
		again_in(s, AD_REMOVE, 300 * MS, SECOND);
	else if (r->rid == k->run_rid)
		again_in(s, AD_RUN, 300 * MS, SECOND);
	else if (r->rid == k->drain_rid || r->rid == k->resume_rid)
		again_in(s, r->rid == k->drain_rid ? AD_DRAIN : AD_RESUME, 300 * MS, SECOND);
	else if (r->rid == k->token_rid)
		again_in(s, AD_TOKEN, 300 * MS, SECOND);
}

static void is_drained(struct sim *s)
{
	struct admin *k = s->admin;

	if (k->drained)
		return;
	k->drained = true;
	s->agents[k->host].drained = true;
	LINE(&s->w, s->agents[k->host].name, "is DRAINED");
	again_in(s, AD_RESUME, k->resume_after, k->resume_after);
}

static void is_resumed(struct sim *s)
{
	s->admin->resumed = true;
	s->agents[s->admin->host].may_be_drained = false;
}

static void on_token(struct sim *s, const struct rec_token *r)
{
	struct admin *k = s->admin;
	char secret[65];

	if (!k->want_token || sscanf(r->token, "na1.%32[0-9a-f].%64[0-9a-f]", k->token_id, secret) != 2)
		return;
	k->want_token = false;
	hex_decode(secret, k->secret, 32);
	again_in(s, AD_JOIN, MS, 50 * MS);
}

/* It tells what there was before this run. */
static void on_run_kept(struct sim *s, const struct rec_base_told *r)
{
	struct admin *k = s->admin;
	uint32_t good = r->n_told == 1 ? r->told[0].good : 0;

	if (!r->kept || good < k->runs_kept || good >= k->runs_told)
		sim_fail(s, "27: a run that was told as kept stays (%u of them, %u are known, %u were told)", k->runs_kept, good,
			 k->runs_told);
	if (++k->runs_kept < RUNS)
		again_in(s, AD_RUN, 50 * MS, 800 * MS);
}

/* What was asked on a connection that broke is asked again. */
static void on_welcome(struct sim *s, struct conn *c)
{
	struct admin *k = s->admin;

	if (c == k->join_conn) {
		ask_to_join(s);
		return;
	}
	if (!k->drains) /* that is looked at elsewhere */
		ask(s);
	if (k->remove_rid != 0 && !k->removed)
		ask_to_remove(s);
	if (k->want_drain && !k->drained)
		ask_to_drain(s, false);
	if (k->want_resume && !k->resumed)
		ask_to_drain(s, true);
	if (k->want_token)
		ask_for_token(s);
	if (k->checks_begun && k->runs_kept < RUNS)
		tell_run(s);
}

void admin_message(struct sim *s, struct conn *c, const struct msg *m)
{
	switch (m->type) {
	case MSG_welcome:
		on_welcome(s, c);
		break;
	case MSG_status:
		again_in(s, AD_ASK, 50 * MS, 400 * MS);
		break;
	case MSG_ok:
		if (m->u.ok.rid == s->admin->remove_rid && s->admin->to_remove)
			is_removed(s);
		else if (m->u.ok.rid == s->admin->drain_rid && s->admin->drains)
			is_drained(s);
		else if (m->u.ok.rid == s->admin->resume_rid && s->admin->drains)
			is_resumed(s);
		break;
	case MSG_refused:
		on_refused(s, c, &m->u.refused);
		break;
	case MSG_base_told:
		if (m->u.base_told.rid == s->admin->run_rid)
			on_run_kept(s, &m->u.base_told);
		break;
	case MSG_token:
		on_token(s, &m->u.token);
		break;
	case MSG_joined:
		s->admin->joined = true;
		break;
	default:
		break;
	}
}
