/* bulk.c - deals out what comes in to the parts of bulk; who may do what is asked here
 *
 * One timer for all retries and time limits; it is armed only while there are
 * some, so an agent without readers is not woken.
 */
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "io/bulk_private.h"

#define SERVES_MAX 1024 /* readers of this node's spool, in all */
#define TRIM_MS 2000
#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 10000

/* ---- small things ------------------------------------------------------- */

bool bulk_own_key(const struct bulk *b, struct bytes key)
{
	return key.n == KEY_HASH && memcmp(key.p, tls_own_key(b->io->tls), KEY_HASH) == 0;
}

static const char *copy_text(struct arena *ar, const char *s)
{
	char *p = arena_strdup(ar, s != NULL ? s : "");

	if (p == NULL)
		agent_no_memory();
	return p;
}

void bulk_copy_peer(struct arena *ar, const struct rec_peer *p, struct rec_peer *ret)
{
	uint8_t key[KEY_HASH] = { 0 };

	if (p->key.n == KEY_HASH) /* else: a key that nobody has */
		memcpy(key, p->key.p, KEY_HASH);
	*ret = (struct rec_peer){ .node = copy_text(ar, p->node), .port = p->port };
	ret->key.p = arena_memdup(ar, key, KEY_HASH);
	ret->key.n = KEY_HASH;
	ret->addrs = arena_alloc(ar, (p->n_addrs + 1) * sizeof(*ret->addrs));
	if (ret->key.p == NULL || ret->addrs == NULL)
		agent_no_memory();
	for (size_t i = 0; i < p->n_addrs; i++)
		ret->addrs[ret->n_addrs++].ip = copy_text(ar, p->addrs[i].ip);
}

uint32_t bulk_backoff(uint32_t *delay_ms)
{
	if (*delay_ms == 0)
		*delay_ms = BACKOFF_MIN_MS;
	else
		*delay_ms = *delay_ms * 2 < BACKOFF_MAX_MS ? *delay_ms * 2 : BACKOFF_MAX_MS;
	return *delay_ms;
}

/* ---- the tick -------------------------------------------------------------- */

/* What the allocator kept of the big buffers goes back to the kernel. */
static mono_t trim(struct bulk *b, mono_t now)
{
	bool idle = list_empty(&b->follows) && list_empty(&b->serves);

	if (!b->used || !idle) {
		b->trim_at = MONO_NEVER;
		return MONO_NEVER;
	}
	if (mono_is_never(b->trim_at))
		b->trim_at = mono_add_ms(now, TRIM_MS);
	if (!mono_due(b->trim_at, now))
		return b->trim_at;
	b->used = false;
	b->trim_at = MONO_NEVER;
	malloc_trim(0);
	return MONO_NEVER;
}

static void on_tick(void *arg)
{
	struct bulk *b = arg;
	mono_t now = clock_mono(), next;

	next = follow_tick(b, now);
	next = mono_min(next, serve_tick(b, now));
	next = mono_min(next, fetch_tick(b, now));
	next = mono_min(next, pool_tick(b->pool, now));
	next = mono_min(next, trim(b, now));
	bulk_due(b, next);
}

/* Only ever earlier: the tick itself finds out what comes after. */
void bulk_due(struct bulk *b, mono_t at)
{
	if (mono_before(at, b->tick.armed))
		deadline_arm(&b->tick, at);
}

/* ---- from links ---------------------------------------------------------------- */

static unsigned count_serves(struct bulk *b)
{
	unsigned n = 0;

	list_foreach(e, &b->serves)
		n++;
	return n;
}

static void follow_from_peer(struct bulk *b, struct conn *c, const struct rec_follow *f)
{
	if (!agent_peer_may(b->io->core, c->key, f->job))
		conn_refuse(c->link, f->sid, "denied",
			    "node %s has not been told to show you the output of job %" PRIu64,
			    b->io->id.node, f->job);
	else if (serve_find(b, c, f->sid) != NULL || f->sid == 0)
		conn_refuse(c->link, f->sid, "bad-request", "follow: sid 0, or in use");
	else if (count_serves(b) >= SERVES_MAX)
		conn_refuse(c->link, f->sid, "busy", "node %s serves too many readers", b->io->id.node);
	else
		serve_start(b, c, f->sid, NULL, f);
}

static void credit(struct bulk *b, struct conn *c, const struct rec_credit *m)
{
	struct serve *s;

	if (c->kind == LINK_CLIENT) {
		follow_credit(b, c, m);
		return;
	}
	s = serve_find(b, c, m->sid);
	if (s != NULL) /* else it has ended meanwhile */
		serve_credit(s, m->bytes);
}

static void unfollow(struct bulk *b, struct conn *c, uint32_t sid)
{
	struct serve *s = c->kind == LINK_PEER ? serve_find(b, c, sid) : NULL;

	if (c->kind == LINK_CLIENT)
		follow_close(b, c, sid);
	if (s != NULL)
		serve_stop(s);
	stdin_close(b, c, sid);
}

void bulk_message(struct bulk *b, struct conn *c, const struct msg *m)
{
	switch (m->type) {
	case MSG_follow:
		if (c->kind == LINK_CLIENT)
			follow_open(b, c, &m->u.follow);
		else
			follow_from_peer(b, c, &m->u.follow);
		break;
	case MSG_credit:
		credit(b, c, &m->u.credit);
		break;
	case MSG_unfollow:
		unfollow(b, c, m->u.unfollow.sid);
		break;
	case MSG_stdin_open:
		stdin_open(b, c, &m->u.stdin_open);
		break;
	case MSG_spec_get:
		if (c->kind == LINK_PEER)
			fetch_serve(b, c, &m->u.spec_get);
		else
			conn_refuse(c->link, m->u.spec_get.sid, "denied", "only agents may fetch specifications");
		break;
	case MSG_shim_grown:
		serve_grown(b, c, &m->u.shim_grown);
		break;
	case MSG_shim_stdin:
		stdin_shim(b, c, &m->u.shim_stdin);
		break;
	default:
		break; /* follow_end makes no sense from this side */
	}
}

void bulk_data(struct bulk *b, struct conn *c, const struct data_header *h, const char *p, size_t n)
{
	/* for a sid that is no more: sent before the sender knew */
	stdin_data(b, c, h, p, n);
}

void bulk_conn_drained(struct bulk *b, struct conn *c)
{
	serve_drained(b, c);
	follow_drained(b, c);
}

void bulk_conn_gone(struct bulk *b, struct conn *c)
{
	if (c->kind == LINK_SHIM) {
		stdin_shim_gone(b, c);
		return;
	}
	follow_conn_gone(b, c);
	serve_conn_gone(b, c);
	stdin_conn_gone(b, c);
	bulk_due(b, clock_mono());
}

void bulk_shim_up(struct bulk *b, struct conn *c)
{
	serve_shim_up(b, c);
}

void bulk_job_update(struct bulk *b, const struct rec_job_update *u)
{
	follow_job_update(b, u);
}

void bulk_kick(struct bulk *b)
{
	follow_kick(b);
	serve_kick(b);
}

void bulk_revoke(struct bulk *b, const uint8_t key[32])
{
	pool_revoke(b->pool, key);
}

void bulk_peer_out(struct bulk *b, struct conn *c, uint64_t job)
{
	serve_peer_out(b, c, job);
	stdin_peer_out(b, c, job);
}

/* ---- life ------------------------------------------------------------------------- */

int bulk_create(struct agent_io *io, struct bulk **ret)
{
	struct bulk *b = agent_alloc(sizeof(*b));

	b->io = io;
	list_init(&b->follows);
	list_init(&b->serves);
	list_init(&b->sources);
	list_init(&b->feeds);
	list_init(&b->fetches);
	list_init(&b->seen);
	b->trim_at = MONO_NEVER;
	deadline_init(&io->loop, &b->tick, on_tick, b);
	uv_idle_init(&io->loop, &b->more);
	b->more.data = b;
	b->pool = pool_create(b);
	*ret = b;
	return 0;
}
