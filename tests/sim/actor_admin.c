/* actor_admin.c - who keeps an eye on the nodes, at the coordinator's own socket
 *
 * Asks for the status several times a second for as long as the run lasts, and
 * again when it was answered.
 * What it is shown is compared with what was said when (check_silence.c).
 */
#include "tests/sim/sim.h"

enum { AD_CONNECT, AD_ASK };

struct admin {
	struct conn *conn;
	uint32_t rid;
};

void admin_add(struct sim *s, int64_t at)
{
	s->admin = world_alloc(&s->w, sizeof(*s->admin));
	s->admin_proc.kind = PK_ADMIN;
	proc_start(&s->admin_proc);
	world_at(&s->w, at, EV_ADMIN, &s->admin_proc, AD_CONNECT, NULL);
}

static void again_in(struct sim *s, uint64_t what, int64_t lo, int64_t hi)
{
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, lo, hi), EV_ADMIN, &s->admin_proc, what, NULL);
}

static void send_msg(struct sim *s, const struct msg *m)
{
	struct buf b;

	buf_init(&b);
	if (msg_encode(m, &b, NULL) < 0)
		sim_fail(s, "the administrator's own %s can be encoded", msg_name(m->type));
	else
		net_send(s, s->admin->conn, 0, b.data, b.len);
	buf_finish(&b);
}

static void ask(struct sim *s)
{
	struct msg m;

	if (s->admin->conn == NULL)
		return;
	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = ++s->admin->rid;
	send_msg(s, &m);
}

void admin_event(struct sim *s, const struct event *e)
{
	const struct proc *to = &s->coord.proc;

	if (e->a == AD_ASK)
		ask(s);
	else if (!to->up || to->resume_at > s->w.now)
		again_in(s, AD_CONNECT, 50 * MS, 300 * MS);
	else
		s->admin->conn = net_open(s, CONN_LOCAL, &s->admin_proc, &s->coord.proc, -1);
}

void admin_link_up(struct sim *s, struct conn *c)
{
	struct msg m;

	(void)c;
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = NA_SOFTWARE;
	m.u.hello.role = "client";
	send_msg(s, &m);
}

void admin_link_down(struct sim *s, struct conn *c)
{
	(void)c;
	s->admin->conn = NULL;
	again_in(s, AD_CONNECT, 50 * MS, 300 * MS);
}

void admin_message(struct sim *s, struct conn *c, const struct msg *m)
{
	(void)c;
	if (m->type == MSG_welcome)
		ask(s);
	else if (m->type == MSG_status)
		again_in(s, AD_ASK, 50 * MS, 400 * MS);
}
