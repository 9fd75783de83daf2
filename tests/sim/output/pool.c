/* pool.c - what stands for bulk_pool.c: a link for each peer, dialled when one is wanted */
#include "tests/sim/output/flow.h"

#include <stdlib.h>
#include <string.h>

struct pool_link {
	struct list at;
	struct pool *pool;
	struct host *to;
	struct link *link;
	bool up;
	struct list users;
};

struct pool {
	struct bulk *b;
	struct list links;
	uint32_t sids;
};

struct pool *pool_create(struct bulk *b)
{
	struct pool *p = calloc(1, sizeof(*p));

	p->b = b;
	list_init(&p->links);
	return p;
}

static void all_down(struct pool_link *l, const char *why)
{
	struct list users;

	list_remove(&l->at);
	list_init(&users);
	while (!list_empty(&l->users)) {
		struct pool_user *u = list_entry(l->users.next, struct pool_user, at);

		list_remove(&u->at);
		list_append(&users, &u->at);
		u->link = NULL;
	}
	free(l);
	while (!list_empty(&users)) {
		struct pool_user *u = list_entry(users.next, struct pool_user, at);

		list_remove(&u->at);
		u->ops->down(u, why);
	}
}

static struct pool_link *find(struct pool *p, const struct host *to)
{
	list_foreach(e, &p->links)
		if (list_entry(e, struct pool_link, at)->to == to)
			return list_entry(e, struct pool_link, at);
	return NULL;
}

/* Dialled, or somebody came to a link that is up. */
static void on_up(struct event *e)
{
	struct host *h = e->b, *to = e->a;
	struct pool_link *l = h->life == e->x && h->up ? find(h->io->bulk->pool, to) : NULL;
	struct conn *c;

	if (l == NULL)
		return;
	if (!l->up && (!to->up || to->cut_off || h->cut_off)) {
		all_down(l, "connection refused");
		return;
	}
	if (!l->up) {
		c = conn_new(to, LINK_PEER);
		memcpy(c->key, h->key, sizeof(c->key));
		l->link = wire_new(L_POOL, l, L_AGENT, c);
		c->link = link_peer(l->link);
		c->id = c->link->id;
		l->up = true;
	}
	for (struct list *u = l->users.next; u != &l->users;) {
		struct pool_user *user = list_entry(u, struct pool_user, at);

		u = u->next;
		if (user->told_up)
			continue;
		user->told_up = true;
		user->ops->up(user);
	}
}

void pool_attach(struct pool *p, const struct rec_peer *peer, struct pool_user *u)
{
	struct host *h = p->b->io->core->h, *to = host_of_key(peer->key.p);
	struct pool_link *l = find(p, to);

	if (l == NULL) {
		l = calloc(1, sizeof(*l));
		l->pool = p;
		l->to = to;
		list_init(&l->users);
		list_append(&p->links, &l->at);
	}
	u->link = l;
	u->sid = ++p->sids;
	u->told_up = false;
	list_append(&l->users, &u->at);
	later((int64_t)chance(permille(100) ? 1000 : 5), on_up, to, h->life)->b = h;
}

void pool_detach(struct pool_user *u)
{
	if (u->link != NULL)
		list_remove(&u->at);
	u->link = NULL;
}

struct link *pool_link(const struct pool_user *u)
{
	return u->link != NULL ? u->link->link : NULL;
}

const char *pool_address(const struct pool_user *u)
{
	return "";
}

void pool_revoke(struct pool *p, const uint8_t key[32])
{
}

void pool_mute(struct pool *p)
{
	list_foreach(e, &p->links) {
		struct pool_link *l = list_entry(e, struct pool_link, at);

		if (l->link != NULL)
			link_forget(l->link);
	}
}

/* 'never': the process ends. */
mono_t pool_tick(struct pool *p, mono_t t)
{
	if (!mono_is_never(t))
		return MONO_NEVER;
	list_foreach_safe(e, &p->links) {
		list_remove(e);
		free(list_entry(e, struct pool_link, at));
	}
	free(p);
	return MONO_NEVER;
}

static struct pool_user *user_of(struct pool_link *l, uint32_t sid)
{
	list_foreach(e, &l->users)
		if (list_entry(e, struct pool_user, at)->sid == sid)
			return list_entry(e, struct pool_user, at);
	return NULL;
}

void pool_frame(struct link *l, struct event *e)
{
	struct pool_link *p = l->owner;
	struct host *h = p->pool->b->io->core->h;
	struct pool_user *u;
	struct msg m;

	if (e->x) {
		u = user_of(p, e->h.sid);
		if (u != NULL)
			u->ops->data(u, &e->h, e->data, e->n);
		host_kick(h);
		return;
	}
	if (msg_decode(e->data, e->n, &m, NULL) != 0)
		broken("an agent cannot read what a peer says");
	u = user_of(p, m.type == MSG_follow_end ? m.u.follow_end.sid : m.type == MSG_refused ? m.u.refused.rid : 0);
	if (u != NULL)
		u->ops->json(u, &m);
	msg_finish(&m);
	host_kick(h);
}

void pool_down(struct link *l)
{
	struct pool_link *p = l->owner;
	struct host *h = p->pool->b->io->core->h;

	l->owner = NULL;
	all_down(p, "the link broke");
	host_kick(h);
}
