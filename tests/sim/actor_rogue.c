/* actor_rogue.c - a node that lies, or a second machine with a node's key
 *
 * The liar is an enrolled node of its own ("zevil"): it registers, claims to
 * hold other nodes' jobs and reports about them. Nothing it says may change a
 * job that is not placed on it. The clone has node n1's key and another boot.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

enum { RG_CONNECT, RG_SPEAK };

struct rogue {
	enum rogue_role role;
	struct conn *conn;
	bool registered, refused;
	uint32_t said;
};

static const uint8_t evil_key[32] = { 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee };

void rogue_add(struct sim *s, enum rogue_role role, int64_t at)
{
	s->rogue = world_alloc(&s->w, sizeof(*s->rogue));
	s->rogue->role = role;
	s->rogue_proc.kind = PK_ROGUE;
	proc_start(&s->rogue_proc);
	world_at(&s->w, at, EV_ROGUE, &s->rogue_proc, RG_CONNECT, NULL);
}

const uint8_t *rogue_key(const struct sim *s)
{
	return s->rogue->role == ROGUE_LIAR ? evil_key : s->agents[0].key;
}

bool rogue_quiet(struct sim *s)
{
	return s->rogue == NULL || s->rogue->refused || s->rogue->said >= 40;
}

/* Two live machines with one key, of two boots: nobody knows which is the right one. */
void rogue_outcome(struct sim *s)
{
	if (s->rogue == NULL || s->rogue->role != ROGUE_CLONE || s->n_faults > 0 || s->crash.n > 0)
		return;
	if (!s->rogue->refused || agent_registered(s->agents[0].core))
		sim_fail(s, "of two live sessions of one node with different boots both are shut out (%s is %s, the other one %s)",
			 s->agents[0].name, agent_registered(s->agents[0].core) ? "in" : "out", s->rogue->refused ? "out" : "in");
}

static void send_msg(struct sim *s, const struct msg *m)
{
	struct buf b;

	if (s->rogue->conn == NULL)
		return;
	buf_init(&b);
	if (msg_encode(m, &b, NULL) == 0)
		net_send(s, s->rogue->conn, 0, b.data, b.len);
	buf_finish(&b);
}

static const char *name_of(const struct sim *s)
{
	return s->rogue->role == ROGUE_LIAR ? "zevil" : s->agents[0].name;
}

/* A rank of any of the first jobs, in any state. */
static struct rec_rank_state lie(struct sim *s)
{
	static const char *const states[] = { "running", "exited", "killed", "failed", "lost", "waiting" };
	struct rec_rank_state r = { 0 };

	r.rank = (uint32_t)rng_below(&s->w.rng, 6);
	r.state = states[rng_below(&s->w.rng, 6)];
	MSG_SET(&r, rank_state, code, (uint32_t)rng_below(&s->w.rng, 256));
	r.sig = 9;
	r.end_wall_ms = 1;
	return r;
}

static void send_register(struct sim *s)
{
	static const char *const phases[] = { "ready", "starting", "running", "ended", "gone" };
	struct rec_addr addr = { .ip = "10.0.0.66" };
	struct rec_rank_state rank = lie(s);
	struct rec_held held[2] = { { .job = 1, .attempt = 1 }, { .job = 2, .attempt = 1 } };
	struct msg m;
	struct rec_node_register *r = &m.u.node_register;

	for (int i = 0; i < 2; i++) {
		held[i].phase = phases[rng_below(&s->w.rng, 5)];
		held[i].ranks = &rank;
		held[i].n_ranks = 1;
	}
	msg_init(&m, MSG_node_register);
	r->node = name_of(s);
	r->boot_id = "deadbeef-0000-4000-8000-000000000000";
	r->incarnation = 4711;
	r->peer_port = 7199;
	r->addrs = &addr;
	r->n_addrs = 1;
	r->held = held;
	r->n_held = s->rogue->role == ROGUE_LIAR ? 2 : 0;
	send_msg(s, &m);
}

static void send_lie(struct sim *s)
{
	struct rec_rank_state rank = lie(s);
	uint64_t job = 1 + rng_below(&s->w.rng, 2);
	struct msg m;

	switch (rng_below(&s->w.rng, 4)) {
	case 0:
		msg_init(&m, MSG_prepared);
		m.u.prepared.job = job;
		m.u.prepared.attempt = 1;
		m.u.prepared.ok = rng_chance(&s->w.rng, 500);
		break;
	case 1:
		msg_init(&m, MSG_proved);
		m.u.proved.job = job;
		m.u.proved.attempt = 1;
		break;
	case 2:
		msg_init(&m, MSG_ranks);
		m.u.ranks.job = job;
		m.u.ranks.attempt = 1;
		m.u.ranks.ranks = &rank;
		m.u.ranks.n_ranks = 1;
		break;
	default:
		msg_init(&m, MSG_ended);
		m.u.ended.job = job;
		m.u.ended.attempt = 1;
		m.u.ended.ranks = &rank;
		m.u.ended.n_ranks = 1;
	}
	send_msg(s, &m);
}

static void speak(struct sim *s)
{
	struct msg m;

	if (s->rogue->conn == NULL || !s->rogue->registered)
		return;
	if (s->rogue->role == ROGUE_LIAR)
		send_lie(s);
	msg_init(&m, MSG_ping);
	m.u.ping.seq = ++s->rogue->said;
	send_msg(s, &m);
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, 20 * MS, 300 * MS), EV_ROGUE, &s->rogue_proc,
		 RG_SPEAK, NULL);
}

void rogue_event(struct sim *s, const struct event *e)
{
	if (e->a == RG_SPEAK) {
		speak(s);
		return;
	}
	if (!s->coord.proc.up)
		world_at(&s->w, s->w.now + 300 * MS, EV_ROGUE, &s->rogue_proc, RG_CONNECT, NULL);
	else
		s->rogue->conn = net_open(s, CONN_CONTROL, &s->rogue_proc, &s->coord.proc, -1);
}

void rogue_link_up(struct sim *s, struct conn *c)
{
	struct msg m;

	(void)c;
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = NA_SOFTWARE;
	m.u.hello.role = "agent";
	m.u.hello.node = name_of(s);
	send_msg(s, &m);
}

void rogue_link_down(struct sim *s, struct conn *c)
{
	(void)c;
	s->rogue->conn = NULL;
	s->rogue->registered = false;
	if (!rogue_quiet(s))
		world_at(&s->w, s->w.now + 500 * MS, EV_ROGUE, &s->rogue_proc, RG_CONNECT, NULL);
}

void rogue_message(struct sim *s, struct conn *c, const struct msg *m)
{
	(void)c;
	switch (m->type) {
	case MSG_welcome:
		send_register(s);
		break;
	case MSG_node_registered:
		s->rogue->registered = true;
		speak(s);
		break;
	case MSG_refused:
		s->rogue->refused = true;
		break;
	case MSG_start:
	case MSG_prepare:
		/* A clone holds the key, so it may be asked; the liar is never one of the job's nodes. */
		if (s->rogue->role == ROGUE_LIAR)
			sim_fail(s, "nothing is asked of a node that is not the job's");
		break;
	default:
		break;
	}
}
