/* bulk_stdin.c - standard input: client -> its agent -> node rank 0's agent -> shim
 *
 * Bytes are sent on at once and are held nowhere: the shim's credit is the
 * client's. A link that breaks on the way loses bytes nobody can name, so the
 * input is closed with a sentence and never taken up again.
 *
 *   near end  a client here, the job's first node elsewhere: 'user' is set
 *   far end   the job's first node is this one; 'conn' is a client or a peer
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/bulk_private.h"

struct feed {
	struct list at;
	struct bulk *b;
	struct conn *conn;
	uint32_t sid;
	uint64_t job;
	uint32_t attempt;
	uint64_t credit; /* that 'conn' holds */
	bool near;
	struct pool_user user;
	uint64_t offset;
};

static struct feed *feed_find(struct bulk *b, const struct conn *c, uint32_t sid)
{
	list_foreach(e, &b->feeds) {
		struct feed *f = list_entry(e, struct feed, at);

		if (f->conn == c && f->sid == sid)
			return f;
	}
	return NULL;
}

/* Who feeds this job here. */
static struct feed *feeder(struct bulk *b, uint64_t job, uint32_t attempt)
{
	list_foreach(e, &b->feeds) {
		struct feed *f = list_entry(e, struct feed, at);

		if (!f->near && f->job == job && f->attempt == attempt)
			return f;
	}
	return NULL;
}

/* Also when its client has left: the far end may serve another one then. */
static void feed_free(struct feed *f)
{
	struct msg m;

	if (f->near && pool_link(&f->user) != NULL) {
		msg_init(&m, MSG_unfollow);
		m.u.unfollow.sid = f->user.sid;
		conn_send(pool_link(&f->user), &m);
	}
	pool_detach(&f->user);
	list_remove(&f->at);
	free(f);
}

static void feed_refuse(struct feed *f, const char *text)
{
	conn_refuse(f->conn->link, f->sid, "unavailable", "%s", text);
	feed_free(f);
}

/* Quietly: most programs end without reading all of their input. */
static void feed_over(struct feed *f)
{
	struct msg end;

	msg_init(&end, MSG_follow_end);
	end.u.follow_end.sid = f->sid;
	conn_send(f->conn->link, &end);
	feed_free(f);
}

static void tell_credit(struct feed *f, uint64_t n)
{
	struct msg m;

	msg_init(&m, MSG_credit);
	m.u.credit.sid = f->sid;
	m.u.credit.bytes = (uint32_t)n;
	f->credit += n;
	conn_send(f->conn->link, &m);
}

static struct feed *feed_new(struct bulk *b, struct conn *c, const struct rec_stdin_open *m,
			     uint32_t attempt)
{
	struct feed *f = agent_alloc(sizeof(*f));

	f->b = b;
	f->conn = c;
	f->sid = m->sid;
	f->job = m->job;
	f->attempt = attempt;
	list_append(&b->feeds, &f->at);
	return f;
}

/* ---- far end ------------------------------------------------------------ */

static void open_here(struct bulk *b, struct conn *c, const struct rec_stdin_open *m, uint32_t attempt)
{
	struct source *o;
	uint32_t base, n;

	if (!agent_local_ranks(b->io->core, m->job, attempt, &base, &n) || base != 0 ||
	    source_shim(b, m->job, attempt) == NULL) {
		conn_refuse(c->link, m->sid, "not-found", "rank 0 of job %" PRIu64 " does not run on %s now",
			    m->job, b->io->id.node);
		return;
	}
	if (feeder(b, m->job, attempt) != NULL) {
		conn_refuse(c->link, m->sid, "busy",
			    "the standard input of job %" PRIu64 " is already connected to another client",
			    m->job);
		return;
	}
	o = source_get(b, m->job, attempt);
	if (o->stdin_closed) {
		conn_refuse(c->link, m->sid, "unavailable", "rank 0 of job %" PRIu64
			    " has no standard input, or has closed it", m->job);
		return;
	}
	tell_credit(feed_new(b, c, m, attempt), o->stdin_credit);
}

/* The shim takes more, or no more. */
void stdin_shim(struct bulk *b, struct conn *shim, const struct rec_shim_stdin *m)
{
	struct source *o = source_get(b, shim->job, shim->attempt);
	struct feed *f = feeder(b, shim->job, shim->attempt);

	o->stdin_credit += m->credit;
	o->stdin_closed = o->stdin_closed || m->closed;
	if (f == NULL)
		return;
	if (m->closed)
		feed_over(f);
	else if (o->stdin_credit > f->credit)
		tell_credit(f, o->stdin_credit - f->credit);
}

void stdin_shim_gone(struct bulk *b, const struct conn *shim)
{
	struct source *o = source_find(b, shim->job, shim->attempt);
	struct feed *f = feeder(b, shim->job, shim->attempt);

	if (o != NULL)
		o->stdin_credit = 0; /* a new connection is granted anew */
	if (f == NULL)
		return;
	if (source_over(b, shim->job, shim->attempt))
		feed_over(f);
	else
		feed_refuse(f, "the connection to the job's shim was lost");
}

static void to_shim(struct feed *f, const struct data_header *h, const char *p, size_t n)
{
	struct source *o = source_get(f->b, f->job, f->attempt);
	struct conn *shim = source_shim(f->b, f->job, f->attempt);
	struct data_header out = { .sid = 0, .rank = 0, .fd = 0, .flags = h->flags & DATA_EOF,
				   .offset = f->offset };

	if (shim == NULL) {
		feed_refuse(f, "the job's shim is not connected");
		return;
	}
	o->stdin_credit -= n < o->stdin_credit ? n : o->stdin_credit;
	f->offset += n;
	/* Within honest credit the queue stays far below this. */
	if (link_send_data(shim->link, &out, p, n) == 1) {
		feed_refuse(f, "the job's shim grants more input than it takes");
		return;
	}
	if (h->flags & DATA_EOF) {
		o->stdin_closed = true;
		feed_free(f);
	}
}

void stdin_peer_out(struct bulk *b, const struct conn *c, uint64_t job)
{
	list_foreach_safe(e, &b->feeds) {
		struct feed *f = list_entry(e, struct feed, at);

		if (f->conn == c && f->job == job)
			feed_refuse(f, "nobody on your node watches this job any more");
	}
}

/* ---- near end ------------------------------------------------------------- */

static void near_up(struct pool_user *u)
{
	struct feed *f = list_entry(u, struct feed, user);
	struct msg m;

	msg_init(&m, MSG_stdin_open);
	m.u.stdin_open.sid = u->sid;
	m.u.stdin_open.job = f->job;
	MSG_SET(&m.u.stdin_open, stdin_open, attempt, f->attempt);
	conn_send(pool_link(u), &m);
}

static void near_json(struct pool_user *u, const struct msg *m)
{
	struct feed *f = list_entry(u, struct feed, user);

	if (m->type == MSG_credit)
		tell_credit(f, m->u.credit.bytes);
	else if (m->type == MSG_refused)
		feed_refuse(f, m->u.refused.text);
	else if (m->type == MSG_follow_end)
		feed_over(f);
}

static void near_data(struct pool_user *u, const struct data_header *h, const char *p, size_t n)
{
}

static void near_down(struct pool_user *u, const char *why)
{
	feed_refuse(list_entry(u, struct feed, user), why);
}

static const struct pool_user_ops near_ops = { near_up, near_json, near_data, near_down };

static void to_peer(struct feed *f, const struct data_header *h, const char *p, size_t n)
{
	struct data_header out = *h;

	out.sid = f->user.sid;
	out.rank = 0;
	if (pool_link(&f->user) != NULL && link_send_data(pool_link(&f->user), &out, p, n) == 1) {
		feed_refuse(f, "the job's node grants more input than it takes");
		return;
	}
	if (h->flags & DATA_EOF)
		feed_free(f);
}

/* ---- both ------------------------------------------------------------------- */

static void open_for_client(struct bulk *b, struct conn *c, const struct rec_stdin_open *m)
{
	const struct rec_peer *peers;
	uint32_t attempt;
	struct feed *f;

	if (!agent_client_may(b->io->core, c->id, m->job)) {
		conn_refuse(c->link, m->sid, "denied", "job %" PRIu64 " is not watched by you", m->job);
		return;
	}
	if (agent_job_peers(b->io->core, c->id, m->job, &peers, &attempt) == 0) {
		conn_refuse(c->link, m->sid, "not-found", "job %" PRIu64 " has no nodes yet", m->job);
		return;
	}
	if (bulk_own_key(b, peers[0].key)) {
		open_here(b, c, m, attempt);
		return;
	}
	f = feed_new(b, c, m, attempt);
	f->near = true;
	f->user.ops = &near_ops;
	pool_attach(b->pool, &peers[0], &f->user);
}

void stdin_open(struct bulk *b, struct conn *c, const struct rec_stdin_open *m)
{
	if (m->sid == 0 || feed_find(b, c, m->sid) != NULL) {
		conn_refuse(c->link, m->sid, "bad-request", "stdin_open: sid 0, or in use");
		return;
	}
	if (c->kind == LINK_CLIENT)
		open_for_client(b, c, m);
	else if (agent_peer_may(b->io->core, c->key, m->job))
		open_here(b, c, m, m->attempt);
	else
		conn_refuse(c->link, m->sid, "denied", "node %s has not been told to let you feed job %" PRIu64,
			    b->io->id.node, m->job);
}

bool stdin_data(struct bulk *b, struct conn *c, const struct data_header *h, const char *p, size_t n)
{
	struct feed *f = feed_find(b, c, h->sid);

	if (f == NULL)
		return false;
	if (h->fd != 0 || n > f->credit) {
		feed_refuse(f, "more input was sent than allowed");
		return true;
	}
	f->credit -= n;
	if (f->near)
		to_peer(f, h, p, n);
	else
		to_shim(f, h, p, n);
	return true;
}

void stdin_conn_gone(struct bulk *b, const struct conn *c)
{
	list_foreach_safe(e, &b->feeds) {
		struct feed *f = list_entry(e, struct feed, at);

		if (f->conn == c)
			feed_free(f);
	}
}

void stdin_close(struct bulk *b, const struct conn *c, uint32_t sid)
{
	struct feed *f = feed_find(b, c, sid);

	if (f != NULL)
		feed_free(f);
}
