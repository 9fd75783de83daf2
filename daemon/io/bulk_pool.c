/* bulk_pool.c - links to other agents, for bulk only
 *
 *   dialling (its addresses in turn) -> greeting (hello) -> up -> closed
 *
 * One link for each peer's key, dialled when something is wanted of it and
 * shared by all that want; closed when nobody has wanted it for a minute.
 *
 * Does not try again by itself: those who want know best when.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "io/bulk_private.h"

#define DIAL_MS 3000 /* for each address */
#define GREET_MS 10000
#define IDLE_MS 60000

struct pool_link {
	struct list at;
	struct pool *pool;
	struct arena arena;
	struct rec_peer peer;
	size_t next_addr;
	struct link *link;
	bool connected; /* TLS proved the key */
	bool up;
	bool closing;
	mono_t until; /* greeting: give up; up without users: close */
	struct list users;
	uint32_t next_sid;
	char why[512];
};

struct pool {
	struct bulk *b;
	struct list links;
	uv_idle_t idle; /* tells 'up' to those who came to a link that is up */
};

static const struct link_callbacks callbacks;

static struct pool_user *user_of(struct pool_link *l, uint32_t sid)
{
	list_foreach(e, &l->users) {
		struct pool_user *u = list_entry(e, struct pool_user, at);

		if (u->sid == sid)
			return u;
	}
	return NULL;
}

static void tell_up(struct pool_link *l)
{
	struct list *e = l->users.next;

	while (l->up && e != &l->users) {
		struct pool_user *u = list_entry(e, struct pool_user, at);

		e = e->next;
		if (u->told_up)
			continue;
		u->told_up = true;
		u->ops->up(u);
		e = l->users.next; /* the callback may have changed the list */
	}
}

static void pool_link_free(struct pool_link *l)
{
	list_remove(&l->at);
	arena_finish(&l->arena);
	free(l);
}

/* Each user is detached before it is told: it may attach anew at once. */
static void tell_down(struct pool_link *l, const char *why)
{
	while (!list_empty(&l->users)) {
		struct pool_user *u = list_entry(l->users.next, struct pool_user, at);

		list_remove(&u->at);
		u->link = NULL;
		u->ops->down(u, why);
	}
}

static bool dial_next(struct pool_link *l)
{
	struct pool *p = l->pool;
	const char *ip;

	l->connected = false;
	if (l->next_addr >= l->peer.n_addrs)
		return false;
	ip = l->peer.addrs[l->next_addr++].ip;
	l->link = link_dial_tls(&p->b->io->loop, p->b->io->tls, ip, (uint16_t)l->peer.port,
				l->peer.key.p, DIAL_MS, &callbacks, l);
	if (l->link == NULL)
		agent_no_memory();
	return true;
}

static void on_up(struct link *link, void *arg)
{
	struct pool_link *l = arg;
	struct msg m;

	l->connected = true;
	l->until = mono_add_ms(clock_mono(), GREET_MS);
	bulk_due(l->pool->b, l->until);
	link_set_max(link, FRAME_MAX);
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = NA_SOFTWARE;
	m.u.hello.role = "peer";
	m.u.hello.node = l->pool->b->io->id.node;
	conn_send(link, &m);
}

static void welcomed(struct pool_link *l, const struct rec_welcome *w)
{
	struct err e;

	if (proto_compatible(NA_PROTO, w->proto, l->peer.node, &e) != 0) {
		snprintf(l->why, sizeof(l->why), "%.500s", e.text);
		link_close(l->link, l->why);
		return;
	}
	l->up = true;
	l->until = MONO_NEVER;
	if (list_empty(&l->users)) { /* they have left meanwhile */
		l->until = mono_add_ms(clock_mono(), IDLE_MS);
		bulk_due(l->pool->b, l->until);
	}
	tell_up(l);
}

static void deal_out(struct pool_link *l, const struct msg *m)
{
	struct pool_user *u = NULL;

	switch (m->type) {
	case MSG_welcome:
		if (!l->up)
			welcomed(l, &m->u.welcome);
		return;
	case MSG_refused:
		if (m->u.refused.rid == 0) {
			snprintf(l->why, sizeof(l->why), "%.500s", m->u.refused.text);
			link_close(l->link, l->why);
			return;
		}
		u = user_of(l, m->u.refused.rid);
		break;
	case MSG_credit:
		u = user_of(l, m->u.credit.sid);
		break;
	case MSG_follow_end:
		u = user_of(l, m->u.follow_end.sid);
		break;
	default:
		return;
	}
	if (u != NULL)
		u->ops->json(u, m);
}

static void on_json(struct link *link, const char *text, size_t n, void *arg)
{
	struct pool_link *l = arg;
	struct msg m;
	struct err e;
	int rc = msg_decode(text, n, &m, &e);

	if (rc == 0) {
		deal_out(l, &m);
		msg_finish(&m);
	} else if (rc != -ENOTSUP) {
		snprintf(l->why, sizeof(l->why), "a malformed message: %.400s", e.text);
		link_close(link, l->why);
	}
}

static void on_data(struct link *link, const struct data_header *h, const char *p, size_t n, void *arg)
{
	struct pool_user *u = user_of(arg, h->sid);

	if (u != NULL) /* else it has left meanwhile */
		u->ops->data(u, h, p, n);
}

static void note_why(struct pool_link *l, const char *why)
{
	size_t n = strlen(l->why);
	const char *ip = l->peer.addrs[l->next_addr - 1].ip;
	bool v6 = strchr(ip, ':') != NULL;

	if (n < sizeof(l->why) - 80)
		snprintf(l->why + n, sizeof(l->why) - n, "%s%s%s%s:%u: %s", n ? "; " : "", v6 ? "[" : "",
			 ip, v6 ? "]" : "", l->peer.port, why);
}

static void on_down(struct link *link, const char *why, void *arg)
{
	struct pool_link *l = arg;
	bool refused = l->connected && !l->up && l->why[0] == 0;

	l->link = NULL;
	if (!l->connected && !l->closing) {
		note_why(l, why);
		if (!list_empty(&l->users) && dial_next(l))
			return;
	} else if (refused) {
		/* its key was right: other addresses lead to the same agent */
		snprintf(l->why, sizeof(l->why), "%.60s:%u: it does not let us in (%.300s)",
			 l->peer.addrs[l->next_addr - 1].ip, l->peer.port, why);
	}
	list_remove(&l->at); /* who attaches from now on dials anew */
	tell_down(l, l->why[0] ? l->why : why);
	pool_link_free(l);
}

static const struct link_callbacks callbacks = {
	.on_up = on_up,
	.on_json = on_json,
	.on_data = on_data,
	.on_down = on_down,
};

/* ---- for users -------------------------------------------------------------- */

static struct pool_link *find(struct pool *p, struct bytes key)
{
	list_foreach(e, &p->links) {
		struct pool_link *l = list_entry(e, struct pool_link, at);

		if (!l->closing && memcmp(l->peer.key.p, key.p, 32) == 0)
			return l;
	}
	return NULL;
}

static void on_idle(uv_idle_t *h)
{
	struct pool *p = h->data;

	uv_idle_stop(h);
	list_foreach_safe(e, &p->links) {
		struct pool_link *l = list_entry(e, struct pool_link, at);

		if (l->link == NULL && l->peer.n_addrs == 0) {
			list_remove(&l->at);
			tell_down(l, l->why[0] ? l->why : "the coordinator does not know its address");
			pool_link_free(l);
		} else {
			tell_up(l);
		}
	}
}

static struct pool_link *link_new(struct pool *p, const struct rec_peer *peer)
{
	struct pool_link *l = agent_alloc(sizeof(*l));

	l->pool = p;
	l->next_sid = 1;
	l->until = MONO_NEVER;
	list_init(&l->users);
	list_append(&p->links, &l->at);
	bulk_copy_peer(&l->arena, peer, &l->peer);
	if (agent_peer_revoked(p->b->io->core, peer->key.p)) {
		snprintf(l->why, sizeof(l->why), "it was removed from the cluster");
		l->peer.n_addrs = 0;
	}
	if (!dial_next(l))
		uv_idle_start(&p->idle, on_idle);
	return l;
}

void pool_attach(struct pool *p, const struct rec_peer *peer, struct pool_user *u)
{
	struct pool_link *l = find(p, peer->key);

	if (l == NULL)
		l = link_new(p, peer);
	u->link = l;
	u->sid = l->next_sid++;
	u->told_up = false;
	list_append(&l->users, &u->at);
	l->until = l->up ? MONO_NEVER : l->until;
	if (l->up)
		uv_idle_start(&p->idle, on_idle);
}

void pool_detach(struct pool_user *u)
{
	struct pool_link *l = u->link;

	if (l == NULL)
		return;
	u->link = NULL;
	list_remove(&u->at);
	if (list_empty(&l->users) && l->up) {
		l->until = mono_add_ms(clock_mono(), IDLE_MS);
		bulk_due(l->pool->b, l->until);
	}
}

struct link *pool_link(const struct pool_user *u)
{
	return u->link != NULL && u->link->up ? u->link->link : NULL;
}

const char *pool_address(const struct pool_user *u)
{
	return u->link != NULL && u->link->link != NULL ? link_address(u->link->link) : "";
}

static void shut(struct pool_link *l, const char *why)
{
	if (l->closing || l->link == NULL)
		return;
	l->closing = true;
	if (l->why[0] == 0)
		snprintf(l->why, sizeof(l->why), "%s", why);
	link_close(l->link, why);
}

void pool_revoke(struct pool *p, const uint8_t key[32])
{
	list_foreach(e, &p->links) {
		struct pool_link *l = list_entry(e, struct pool_link, at);

		if (memcmp(l->peer.key.p, key, 32) == 0)
			shut(l, "its key was revoked");
	}
}

mono_t pool_tick(struct pool *p, mono_t now)
{
	mono_t next = MONO_NEVER;

	list_foreach(e, &p->links) {
		struct pool_link *l = list_entry(e, struct pool_link, at);

		if (l->closing)
			continue;
		if (mono_due(l->until, now))
			shut(l, l->up ? "not used for a minute" : "it did not answer our hello within 10 s");
		else
			next = mono_min(next, l->until);
	}
	return next;
}

struct pool *pool_create(struct bulk *b)
{
	struct pool *p = agent_alloc(sizeof(*p));

	p->b = b;
	list_init(&p->links);
	uv_idle_init(&b->io->loop, &p->idle);
	p->idle.data = p;
	return p;
}
