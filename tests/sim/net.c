/* net.c - see net.h */
#include "tests/sim/net.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

static int64_t delay(struct sim *s, const struct conn *c)
{
	if (c->host < 0)
		return rng_range(&s->w.rng, 5000, 120000);
	if (rng_chance(&s->w.rng, s->slow_net ? 100 : 5))
		return rng_range(&s->w.rng, 5 * MS, 300 * MS);
	return rng_range(&s->w.rng, 50000, 2 * MS);
}

/* Does the cable hold up what goes to end d? */
static bool cut(const struct sim *s, const struct conn *c, int d)
{
	/* being up is known to both sides once the handshake is done */
	if (c->host < 0 || c->dir[d].own || (c->dir[d].head != NULL && c->dir[d].head->what == NET_UP))
		return false;
	return c->end[d].proc->kind == PK_COORD ? s->agents[c->host].cut_up
						: s->agents[c->host].cut_down;
}

static void schedule(struct sim *s, struct conn *c, int d)
{
	struct net_dir *q = &c->dir[d];

	if (q->pumping || q->head == NULL || cut(s, c, d))
		return;
	q->pumping = true;
	world_at(&s->w, q->head->at, EV_PUMP, c->end[d].proc, (uint64_t)d, c);
}

static void enqueue(struct sim *s, struct conn *c, int d, enum net_what what, const char *text,
		    size_t len, int64_t wait)
{
	struct net_dir *q = &c->dir[d];
	struct netmsg *m;

	if (c->end[d].gone || c->end[d].life != c->end[d].proc->life)
		return;
	m = world_alloc(&s->w, sizeof(*m));
	m->what = what;
	m->text = text;
	m->len = len;
	m->at = s->w.now + wait > q->last_at ? s->w.now + wait : q->last_at;
	q->last_at = m->at;
	if (q->head == NULL)
		q->head = m;
	else
		q->tail->next = m;
	q->tail = m;
	schedule(s, c, d);
}

static void number(struct sim *s, struct proc *p, struct conn *c, int side)
{
	if (p->n_links + 1 >= p->cap_links) {
		size_t cap = p->cap_links ? p->cap_links * 2 : 16;
		struct conn **v = world_alloc(&s->w, cap * sizeof(struct conn *));

		if (p->n_links > 0)
			memcpy(v, p->links, (p->n_links + 1) * sizeof(struct conn *));
		p->links = v;
		p->cap_links = cap;
	}
	c->end[side].proc = p;
	c->end[side].life = p->life;
	c->end[side].link = ++p->n_links;
	p->links[p->n_links] = c;
}

struct conn *net_open(struct sim *s, enum conn_kind kind, struct proc *from, struct proc *to,
		      int host)
{
	struct conn *c = world_alloc(&s->w, sizeof(*c));

	c->kind = kind;
	c->id = ++s->n_conns;
	c->host = host;
	c->next = s->conns;
	s->conns = c;
	number(s, from, c, 0);
	number(s, to, c, 1);
	enqueue(s, c, 0, NET_UP, "", 0, delay(s, c));
	enqueue(s, c, 1, NET_UP, "", 0, delay(s, c));
	return c;
}

struct conn *net_of_link(struct proc *p, uint64_t link, int *ret_side)
{
	struct conn *c = link >= 1 && link <= p->n_links ? p->links[link] : NULL;

	if (c == NULL)
		return NULL;
	*ret_side = c->end[0].proc == p && c->end[0].link == link ? 0 : 1;
	return c;
}

void net_send(struct sim *s, struct conn *c, int side, const char *text, size_t len)
{
	enqueue(s, c, 1 - side, NET_MSG, world_copy(&s->w, text, len), len, delay(s, c));
}

/* What is on its way is lost, but not the news that there is a connection. */
static void drop_queue(struct net_dir *q)
{
	q->tail = q->head != NULL && q->head->what == NET_UP ? q->head : NULL;
	q->head = q->tail;
	if (q->head != NULL)
		q->head->next = NULL;
	q->last_at = q->head != NULL ? q->head->at : 0;
}

/* The rest of what was on its way to this end is never read. */
static void tell_own(struct sim *s, struct conn *c, int side, const char *why, int64_t wait)
{
	struct net_dir *q = &c->dir[side];

	drop_queue(q);
	q->own = true;
	q->pumping = false;
	enqueue(s, c, side, NET_DOWN, why, 0, wait);
}

void net_close(struct sim *s, struct conn *c, int side, const char *why)
{
	if (c->end[side].closing || c->end[side].gone)
		return;
	c->end[side].closing = true;
	enqueue(s, c, 1 - side, NET_DOWN, "closed by the other side", 0, delay(s, c));
	tell_own(s, c, side, world_printf(&s->w, "%s", why),
		 cut(s, c, 1 - side) ? 2 * SECOND : rng_range(&s->w.rng, 1000, 2 * MS));
}

void net_reset(struct sim *s, struct conn *c, const char *why)
{
	for (int i = 0; i < 2; i++)
		if (!c->end[i].gone)
			tell_own(s, c, i, why, rng_range(&s->w.rng, 1000, 400 * MS));
}

void net_refuse(struct sim *s, struct conn *c)
{
	c->end[1].gone = true;
	enqueue(s, c, 0, NET_DOWN, "connection refused", 0, delay(s, c));
}

void net_proc_died(struct sim *s, struct proc *p, bool silent)
{
	for (struct conn *c = s->conns; c != NULL; c = c->next) {
		for (int i = 0; i < 2; i++) {
			if (c->end[i].proc != p || c->end[i].life != p->life || c->end[i].gone)
				continue;
			c->end[i].gone = true;
			if (silent && c->host >= 0) {
				c->orphan = true;
				if (cut(s, c, 1 - i) || rng_chance(&s->w.rng, 300))
					drop_queue(&c->dir[1 - i]); /* it had not left the host */
				continue;
			}
			if (rng_chance(&s->w.rng, 300))
				drop_queue(&c->dir[1 - i]); /* unread input: the kernel resets */
			enqueue(s, c, 1 - i, NET_DOWN, "connection reset", 0, delay(s, c));
		}
	}
}

/* Who still has this connection hears that the other end knows it no more. */
static void orphan_told(struct sim *s, struct conn *c)
{
	for (int i = 0; i < 2; i++)
		if (!c->end[i].gone)
			enqueue(s, c, i, NET_DOWN, "connection reset by peer", 0,
				rng_range(&s->w.rng, MS, SECOND));
	c->orphan = false;
}

void net_host_back(struct sim *s, int host)
{
	for (struct conn *c = s->conns; c != NULL; c = c->next)
		if (c->host == host && c->orphan && c->end[0].gone)
			orphan_told(s, c);
}

void net_coord_back(struct sim *s)
{
	for (struct conn *c = s->conns; c != NULL; c = c->next)
		if (c->orphan && c->end[1].gone)
			orphan_told(s, c);
}

void net_host_reset(struct sim *s, int host)
{
	for (struct conn *c = s->conns; c != NULL; c = c->next)
		if (c->host == host && !c->orphan)
			net_reset(s, c, "connection reset by peer");
}

void net_healed(struct sim *s, int host)
{
	for (struct conn *c = s->conns; c != NULL; c = c->next) {
		if (c->host != host)
			continue;
		for (int i = 0; i < 2; i++) {
			if (c->dir[i].head != NULL && c->dir[i].head->at < s->w.now)
				c->dir[i].head->at = s->w.now + rng_range(&s->w.rng, MS, 300 * MS);
			schedule(s, c, i);
		}
	}
}

/* ---- arrival ------------------------------------------------------------------- */

static void up(struct sim *s, struct conn *c, int i)
{
	switch (c->end[i].proc->kind) {
	case PK_COORD:
		simcoord_link_up(s, c);
		break;
	case PK_AGENT:
		simagent_link_up(s, &s->agents[c->end[i].proc->idx], c, i);
		break;
	case PK_SHIM:
		simshim_link_up(s, s->shims[c->end[i].proc->idx], c);
		break;
	case PK_CLIENT:
		client_link_up(s, &s->clients[c->end[i].proc->idx], c);
		break;
	case PK_ROGUE:
		rogue_link_up(s, c);
		break;
	case PK_ADMIN:
		admin_link_up(s, c);
		break;
	case PK_LAUNCHER:
		break;
	}
}

static void down(struct sim *s, struct conn *c, int i, const char *why)
{
	switch (c->end[i].proc->kind) {
	case PK_COORD:
		simcoord_link_down(s, c);
		break;
	case PK_AGENT:
		simagent_link_down(s, &s->agents[c->end[i].proc->idx], c, i, why);
		break;
	case PK_SHIM:
		simshim_link_down(s, s->shims[c->end[i].proc->idx], c);
		break;
	case PK_CLIENT:
		client_link_down(s, &s->clients[c->end[i].proc->idx], c);
		break;
	case PK_ROGUE:
		rogue_link_down(s, c);
		break;
	case PK_ADMIN:
		admin_link_down(s, c);
		break;
	case PK_LAUNCHER:
		break;
	}
}

static void message(struct sim *s, struct conn *c, int i, const struct msg *m)
{
	switch (c->end[i].proc->kind) {
	case PK_COORD:
		simcoord_message(s, c, m);
		break;
	case PK_AGENT:
		simagent_message(s, &s->agents[c->end[i].proc->idx], c, i, m);
		break;
	case PK_SHIM:
		simshim_message(s, s->shims[c->end[i].proc->idx], c, m);
		break;
	case PK_CLIENT:
		client_message(s, &s->clients[c->end[i].proc->idx], c, m);
		break;
	case PK_ROGUE:
		rogue_message(s, c, m);
		break;
	case PK_ADMIN:
		admin_message(s, c, m);
		break;
	case PK_LAUNCHER:
		break;
	}
}

static void arrive(struct sim *s, struct conn *c, int i, const struct netmsg *n)
{
	struct err e;
	struct msg m;
	int r = msg_decode(n->text, n->len, &m, &e);

	LINE(&s->w, proc_name(s, c->end[i].proc), "<- #%u.%llu %.*s", c->id,
	     (unsigned long long)c->end[i].link, (int)(n->len < 3900 ? n->len : 3900), n->text);
	if (r < 0) {
		sim_fail(s, "what %s sends can be decoded by %s (%s: %.*s)",
			 proc_name(s, c->end[1 - i].proc), proc_name(s, c->end[i].proc), e.text,
			 (int)(n->len < 200 ? n->len : 200), n->text);
		return;
	}
	world_mix(&s->w, m.type);
	world_mix_bytes(&s->w, n->text, n->len);
	check_message(s, c, i, &m);
	message(s, c, i, &m);
	msg_finish(&m);
}

static void deliver(struct sim *s, struct conn *c, int i, const struct netmsg *n)
{
	struct net_end *e = &c->end[i];

	if (e->gone || (e->closing && n->what != NET_DOWN))
		return;
	switch (n->what) {
	case NET_UP:
		e->up = true;
		LINE(&s->w, proc_name(s, e->proc), "link #%u.%llu up", c->id,
		     (unsigned long long)e->link);
		up(s, c, i);
		break;
	case NET_MSG:
		arrive(s, c, i, n);
		break;
	case NET_DOWN:
		e->gone = true;
		LINE(&s->w, proc_name(s, e->proc), "link #%u.%llu down: %s", c->id,
		     (unsigned long long)e->link, n->text);
		if (e->up)
			down(s, c, i, n->text);
		break;
	}
}

void net_pump(struct sim *s, struct conn *c, int d)
{
	struct net_dir *q = &c->dir[d];
	struct netmsg *m = q->head;

	q->pumping = false;
	if (m == NULL || cut(s, c, d))
		return;
	if (m->at > s->w.now) {
		schedule(s, c, d);
		return;
	}
	q->head = m->next;
	schedule(s, c, d);
	deliver(s, c, d, m);
}
