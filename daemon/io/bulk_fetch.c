/* bulk_fetch.c - specifications, from the nodes that have them
 *
 * Here (memory, disk), or by a peer link from the node where the job was
 * submitted or from one that keeps a copy: in the coordinator's order, round
 * and round, within 15 s. One that does not answer for 4 s is left for the next.
 * Each may hear of us a moment after we hear of the job, so a refusal is no last
 * word; one that sends something else is not asked again. Whatever comes is
 * compared with the hash, which came from the coordinator: nobody else can change it.
 *
 * A peer that may speak about a job can ask for any hash: 256 bits that only
 * the job's nodes were told.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/bulk_private.h"
#include "proto/spec.h"

#define FETCH_MS 15000
#define STUCK_MS 4000
#define PIECE (256u << 10)
#define SOURCES_MAX 10

struct fetch {
	struct list at;
	struct bulk *b;
	struct arena arena;
	struct fetch_source {
		struct rec_peer peer;
		bool bad;
	} from[SOURCES_MAX];
	unsigned n_from, now; /* which is asked */
	uint64_t job;
	uint8_t hash[32];
	uint32_t size;
	mono_t until, retry_at, stuck_at;
	uint32_t delay_ms;
	struct pool_user user;
	char *p;
	size_t n;
	char why[512];
	specs_cb cb;
	void *arg;
};

static void fetch_free(struct fetch *f)
{
	pool_detach(&f->user);
	list_remove(&f->at);
	arena_finish(&f->arena);
	free(f->p);
	free(f);
}

/* Without a source: what was found here says it all. */
static void fetch_fail(struct fetch *f, int error, const char *why)
{
	const struct rec_peer *p = f->n_from > 0 ? &f->from[f->now].peer : NULL;
	const struct rec_addr *a = p != NULL && p->n_addrs > 0 ? &p->addrs[0] : NULL;
	char text[900], more[60] = "";

	if (f->n_from > 1)
		snprintf(more, sizeof(more), " (the last of %u nodes that have it)", f->n_from);
	if (p != NULL)
		snprintf(text, sizeof(text), SPEC_NOT_FETCHED "%s (%s:%u)%s: %s", p->node,
			 a != NULL ? a->ip : "no address", p->port, more, why);
	else
		snprintf(text, sizeof(text), SPEC_NOT_FETCHED "%s itself: %s", f->b->io->id.node, why);
	f->cb(f->arg, error, NULL, text);
	fetch_free(f);
}

/* False: none is left that could be asked. */
static bool next_source(struct fetch *f)
{
	for (unsigned i = 1; i <= f->n_from; i++) {
		unsigned k = (f->now + i) % f->n_from;

		if (f->from[k].bad)
			continue;
		if (k <= f->now) /* all were asked: a pause */
			f->retry_at = mono_add_ms(clock_mono(), bulk_backoff(&f->delay_ms));
		else
			f->retry_at = clock_mono();
		f->now = k;
		return true;
	}
	return false;
}

/* The next one, unless it is too late. */
static void fetch_retry(struct fetch *f, int error, const char *why)
{
	snprintf(f->why, sizeof(f->why), "%s", why);
	pool_detach(&f->user);
	free(f->p);
	f->p = NULL;
	f->n = 0;
	f->stuck_at = MONO_NEVER;
	if (next_source(f))
		bulk_due(f->b, f->retry_at);
	else
		fetch_fail(f, error, why);
}

/* It has sent something else. */
static void fetch_bad(struct fetch *f, int error, const char *why)
{
	f->from[f->now].bad = true;
	fetch_retry(f, error, why);
}

static void fetch_begin(struct fetch *f)
{
	f->stuck_at = f->n_from > 1 ? mono_add_ms(clock_mono(), STUCK_MS) : MONO_NEVER;
	bulk_due(f->b, f->stuck_at);
	pool_attach(f->b->pool, &f->from[f->now].peer, &f->user);
}

static void verified(void *arg, int rc, struct spec_blob *b, const char *text)
{
	struct fetch *f = arg;

	if (rc == -EBADMSG) {
		f->until = mono_add_ms(clock_mono(), FETCH_MS);
		fetch_bad(f, rc, text);
		return;
	}
	if (rc != 0) {
		fetch_fail(f, rc, text);
		return;
	}
	f->cb(f->arg, 0, b, NULL);
	fetch_free(f);
}

static void on_up(struct pool_user *u)
{
	struct fetch *f = list_entry(u, struct fetch, user);
	struct msg m;

	f->p = malloc(f->size + 1);
	if (f->p == NULL) {
		fetch_retry(f, -ENOMEM, "out of memory");
		return;
	}
	f->n = 0;
	msg_init(&m, MSG_spec_get);
	m.u.spec_get.sid = u->sid;
	m.u.spec_get.job = f->job;
	m.u.spec_get.hash = (struct bytes){ f->hash, 32 };
	conn_send(pool_link(u), &m);
}

static void on_json(struct pool_user *u, const struct msg *m)
{
	if (m->type == MSG_refused)
		fetch_retry(list_entry(u, struct fetch, user), -EACCES, m->u.refused.text);
}

static void on_data(struct pool_user *u, const struct data_header *h, const char *p, size_t n)
{
	struct fetch *f = list_entry(u, struct fetch, user);
	char *whole;

	if (h->fd != 3 || h->offset != f->n || n > f->size - f->n) {
		fetch_bad(f, -EPROTO, "it sent something else");
		return;
	}
	memcpy(f->p + f->n, p, n);
	f->n += n;
	if (!mono_is_never(f->stuck_at))
		f->stuck_at = mono_add_ms(clock_mono(), STUCK_MS);
	if (!(h->flags & DATA_EOF))
		return;
	if (f->n != f->size) {
		fetch_bad(f, -EPROTO, "it sent less than there should be");
		return;
	}
	pool_detach(&f->user);
	f->until = f->stuck_at = MONO_NEVER; /* the pool thread answers in any case */
	whole = f->p;
	f->p = NULL;
	specs_verify(f->b->io->specs, whole, f->n, f->hash, verified, f);
}

static void on_down(struct pool_user *u, const char *why)
{
	fetch_retry(list_entry(u, struct fetch, user), -EHOSTUNREACH, why);
}

static const struct pool_user_ops ops = { on_up, on_json, on_data, on_down };

/* Not here. Then from others; when we are the only one, from nowhere. */
static void looked_here(void *arg, int rc, struct spec_blob *b, const char *text)
{
	struct fetch *f = arg;

	if (rc == 0) {
		f->cb(f->arg, 0, b, NULL);
		fetch_free(f);
	} else if (f->n_from == 0) {
		fetch_fail(f, rc, text);
	} else {
		f->until = mono_add_ms(clock_mono(), FETCH_MS);
		bulk_due(f->b, f->until);
		fetch_begin(f);
	}
}

/* Who has left the cluster is told without an address. */
static void add_source(struct fetch *f, const struct rec_peer *p)
{
	if (f->n_from < SOURCES_MAX && p->n_addrs > 0 && !bulk_own_key(f->b, p->key))
		bulk_copy_peer(&f->arena, p, &f->from[f->n_from++].peer);
}

static void add_sources(struct fetch *f, const struct rec_prepare *p)
{
	for (size_t i = 0; !p->copies_first && i < p->n_source; i++)
		add_source(f, &p->source[i]);
	for (size_t i = 0; i < p->n_copies; i++)
		add_source(f, &p->copies[i]);
	for (size_t i = 0; p->copies_first && i < p->n_source; i++)
		add_source(f, &p->source[i]);
}

void bulk_fetch_spec(struct bulk *b, const struct rec_prepare *p, specs_cb cb, void *arg)
{
	struct fetch *f;

	if (p->spec_size > SPEC_MAX || p->spec_hash.n != 32) {
		cb(arg, -EINVAL, NULL, "the order to prepare names no usable specification");
		return;
	}
	f = agent_alloc(sizeof(*f));
	f->b = b;
	f->job = p->job;
	f->size = p->spec_size;
	memcpy(f->hash, p->spec_hash.p, 32);
	add_sources(f, p);
	f->until = MONO_NEVER; /* the pool thread answers in any case: looked_here() */
	f->retry_at = f->stuck_at = MONO_NEVER;
	f->user.ops = &ops;
	f->cb = cb;
	f->arg = arg;
	snprintf(f->why, sizeof(f->why), "no answer within 15 s");
	list_append(&b->fetches, &f->at);
	specs_load(b->io->specs, f->hash, looked_here, f);
}

mono_t fetch_tick(struct bulk *b, mono_t now)
{
	mono_t next = MONO_NEVER;

	list_foreach_safe(e, &b->fetches) {
		struct fetch *f = list_entry(e, struct fetch, at);

		if (mono_due(f->until, now)) {
			fetch_fail(f, -ETIMEDOUT, f->why);
			continue;
		}
		if (mono_due(f->stuck_at, now)) {
			fetch_retry(f, -ETIMEDOUT, "no answer within 4 s");
			continue; /* the tick is set anew */
		}
		if (mono_due(f->retry_at, now)) {
			f->retry_at = MONO_NEVER;
			fetch_begin(f);
		}
		next = mono_min(next, mono_min(f->until, mono_min(f->retry_at, f->stuck_at)));
	}
	return next;
}

/* ---- the other side ---------------------------------------------------------- */

struct asked {
	struct agent_io *io;
	uint64_t conn;
	uint32_t sid;
};

static void send_pieces(struct link *l, uint32_t sid, const struct spec_blob *b)
{
	struct data_header h = { .sid = sid, .fd = 3 };
	size_t off = 0;

	do {
		size_t n = b->n - off < PIECE ? b->n - off : PIECE;

		h.offset = off;
		h.flags = off + n == b->n ? DATA_EOF : 0;
		link_send_data(l, &h, b->p + off, n);
		off += n;
	} while (off < b->n);
}

static void loaded(void *arg, int rc, struct spec_blob *b, const char *text)
{
	struct asked *a = arg;
	struct conn *c = conn_find(a->io, a->conn);

	if (c != NULL && c->link != NULL && rc == 0)
		send_pieces(c->link, a->sid, b);
	else if (c != NULL && c->link != NULL)
		conn_refuse(c->link, a->sid, rc == -ENOENT ? "not-found" : "internal",
			    "node %s does not hold it: %s", a->io->id.node, text);
	free(a);
}

void fetch_serve(struct bulk *b, struct conn *peer, const struct rec_spec_get *m)
{
	struct asked *a;

	if (!agent_peer_may_fetch(b->io->core, peer->key, m->job)) {
		conn_refuse(peer->link, m->sid, "denied",
			    "node %s has not been told that you take part in job %" PRIu64,
			    b->io->id.node, m->job);
		return;
	}
	if (m->hash.n != 32 || link_queued(peer->link) > LINK_HIGH) {
		conn_refuse(peer->link, m->sid, "busy", "too much is asked for at once");
		return;
	}
	a = agent_alloc(sizeof(*a));
	*a = (struct asked){ b->io, peer->id, m->sid };
	specs_load(b->io->specs, m->hash.p, loaded, a);
}
