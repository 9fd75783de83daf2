/* bulk_part.c - one node's part of a client's 'follow'
 *
 *   linking --> streaming --> done
 *      ^            |
 *      '-- waiting <'   the link broke, or the node said no: again after
 *                       20 ms .. 10 s, at exactly the offsets reached
 *
 * Credit. 'cap' bytes (what the client offered, at most 4 MiB) may be under way
 * to the client: granted to nodes and not come yet, or sent to the client and
 * not credited back. With several nodes no more than half of it is granted
 * ahead, evenly, so that silent nodes cannot hold all of it: what a client has
 * got is always enough to be worth a credit message (it may keep up to a
 * quarter back). A client that credits without reading meets the limit of its
 * link's queue.
 *
 * A node's frames are checked: ranks of its own, offsets without a gap, no more
 * than was granted.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "io/bulk_follow.h"

#define LAST_TRIES 7 /* once the job is over: 1.3 s and what dialling takes */
#define LOG_MS 640 /* a node that lets us in a moment later is not worth a line */
#define SILENCE_MS 5000 /* once the job is over: a node that says nothing for so long is given up */

/* ---- how far a stream has come ----------------------------------------------- */

static struct progress *progress_of(struct part *p, uint32_t rank, uint8_t fd)
{
	size_t lo = 0, hi = p->n_seen;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct progress *g = &p->seen[mid];

		if (g->rank < rank || (g->rank == rank && g->fd < fd))
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < p->n_seen && p->seen[lo].rank == rank && p->seen[lo].fd == fd)
		return &p->seen[lo];
	if (p->n_seen == p->cap_seen) {
		p->cap_seen = p->cap_seen ? p->cap_seen * 2 : 4;
		p->seen = realloc(p->seen, p->cap_seen * sizeof(*p->seen));
		if (p->seen == NULL)
			agent_no_memory();
	}
	memmove(p->seen + lo + 1, p->seen + lo, (p->n_seen - lo) * sizeof(*p->seen));
	p->n_seen++;
	p->seen[lo] = (struct progress){ .rank = rank, .fd = fd, .offset = UINT64_MAX };
	return &p->seen[lo];
}

/* Where the first byte of a stream that we know nothing of must lie. */
static uint64_t first_offset(const struct follow *f, const struct progress *g, uint64_t offered)
{
	for (size_t i = 0; i < f->n_from; i++)
		if (f->from[i].rank == g->rank && f->from[i].fd == g->fd)
			return f->from[i].offset;
	return f->from_end || f->tail || f->since_wall_ms || f->offset ? offered : 0;
}

/* NULL, or what is wrong with the frame. *ret_skip: seen before, not to be passed on. */
static const char *check_frame(struct part *p, const struct data_header *h, size_t n, bool *ret_skip)
{
	uint32_t each = follow_procs_per_node(p->f->b, p->f->job);
	struct progress *g;

	*ret_skip = false;
	if (h->fd != 1 && h->fd != 2)
		return "it sent something that is not output";
	if (each > 0 && h->rank / each != (uint32_t)(p - p->f->parts))
		return "it sent output of a rank that is not its own";
	if (n > p->outstanding)
		return "it sent more than it was allowed";
	if (h->flags & DATA_LOST)
		return NULL;
	g = progress_of(p, h->rank, h->fd);
	if (g->offset == UINT64_MAX)
		g->offset = first_offset(p->f, g, h->offset);
	*ret_skip = g->eof;
	if (h->flags & DATA_GIVEN) {
		if (n > 0 || h->offset < g->offset)
			return "it sent output that it says is gone";
		g->offset = h->offset;
		return NULL;
	}
	if (g->eof)
		return n > 0 ? "it sent output after the end" : NULL;
	if (h->offset != g->offset)
		return "its output has a gap";
	g->offset += n;
	g->eof = (h->flags & DATA_EOF) != 0;
	return NULL;
}

/* ---- credit ---------------------------------------------------------------------- */

static uint64_t share(const struct follow *f)
{
	return f->left <= 1 ? f->cap : f->cap / 2 / f->left ? f->cap / 2 / f->left : 1;
}

/* How much this node may be given now; 0: not worth a message. */
static uint64_t due_grant(const struct follow *f, const struct part *p)
{
	uint64_t s = share(f), used = f->unacked + f->outstanding;
	uint64_t room = f->cap > used ? f->cap - used : 0;
	uint64_t want = p->outstanding < s ? s - p->outstanding : 0;

	if (want < (s + 3) / 4)
		return 0;
	return want < room ? want : room;
}

static void give(struct part *p, uint64_t n)
{
	struct follow *f = p->f;
	struct msg m;

	f->outstanding += n;
	p->outstanding += n;
	if (p->serve != NULL) {
		serve_credit(p->serve, n); /* may send, and end the part */
		return;
	}
	msg_init(&m, MSG_credit);
	m.u.credit.sid = p->user.sid;
	m.u.credit.bytes = (uint32_t)n;
	conn_send(pool_link(&p->user), &m);
}

void follow_grant(struct follow *f)
{
	for (size_t i = 0, n = f->n_parts; i < n && !f->full; i++) {
		struct part *p = &f->parts[f->turn++ % n];
		uint64_t g = p->state == PT_STREAMING ? due_grant(f, p) : 0;

		if (g > 0)
			give(p, g);
	}
}

/* ---- parts ------------------------------------------------------------------------ */

static void drop_outstanding(struct part *p)
{
	p->f->outstanding -= p->outstanding;
	p->outstanding = 0;
}

static void note_missing(struct follow *f, const struct part *p)
{
	size_t n = strlen(p->peer.node);
	/* its own sentence begins with its name: not twice */
	bool named = strncmp(p->why, "node ", 5) == 0 && strncmp(p->why + 5, p->peer.node, n) == 0 && p->why[5 + n] == ' ';

	if (f->n_missing++ >= 4 || f->missing.len > 600)
		return;
	buf_addf(&f->missing, "%soutput of node %s is missing: %s%.250s", f->missing.len ? "; " : "", p->peer.node,
		 named ? "it" : "", p->why + (named ? 5 + n : 0));
}

static void part_done(struct part *p)
{
	struct follow *f = p->f;

	drop_outstanding(p);
	pool_detach(&p->user);
	if (p->serve != NULL)
		serve_stop(p->serve);
	p->serve = NULL;
	p->state = PT_DONE;
	free(p->seen);
	p->seen = NULL;
	p->n_seen = p->cap_seen = 0;
	f->left--;
	/* soon, not from inside: the follow ends, or the others' shares grow */
	bulk_due(f->b, clock_mono());
}

/* Again later, at the same place; or, when there is no later, it is missing. */
static void part_failed(struct part *p, const char *why)
{
	struct follow *f = p->f;
	bool over = follow_attempt_over(f->b, f->job, f->attempt);

	drop_outstanding(p);
	pool_detach(&p->user);
	p->serve = NULL;
	snprintf(p->why, sizeof(p->why), "%s", why);
	if (p->delay_ms == LOG_MS)
		log_info("output of job %" PRIu64 " from %s: %s", f->job, p->peer.node, why);
	if ((!f->live || over) && ++p->tries >= LAST_TRIES) {
		note_missing(f, p);
		part_done(p);
		return;
	}
	p->state = PT_WAITING;
	p->retry_at = mono_add_ms(clock_mono(), bulk_backoff(&p->delay_ms));
	bulk_due(f->b, p->retry_at);
}

/* The request to a node; its 'from' is malloc'ed. */
static void request(struct part *p, struct rec_follow *r)
{
	struct follow *f = p->f;
	uint64_t g = due_grant(f, p);

	*r = (struct rec_follow){ .sid = p->user.sid, .job = f->job, .attempt = f->attempt,
				  .ranks = f->rank_list, .n_ranks = f->n_ranks,
				  .live = f->live, .from_end = f->from_end, .credit = (uint32_t)g,
				  .holes = f->holes, .fds = f->fds, .offset = f->offset, .tail = f->tail,
				  .since_wall_ms = f->since_wall_ms };
	r->has = MSG_BIT(follow, attempt);
	f->outstanding += g;
	p->outstanding += g;
	r->from = agent_alloc((f->n_from + p->n_seen + 1) * sizeof(*r->from));
	/* ours come last: the reader takes the last one named */
	for (size_t i = 0; i < f->n_from; i++)
		r->from[r->n_from++] = f->from[i];
	for (size_t i = 0; i < p->n_seen; i++)
		if (p->seen[i].offset != UINT64_MAX)
			r->from[r->n_from++] = (struct rec_follow_from){
				.rank = p->seen[i].rank, .fd = p->seen[i].fd, .offset = p->seen[i].offset
			};
	if (r->n_from > 8192) { /* never with our own clients */
		memmove(r->from, r->from + (r->n_from - 8192), 8192 * sizeof(*r->from));
		r->n_from = 8192;
	}
}

static void user_up(struct pool_user *u)
{
	struct part *p = list_entry(u, struct part, user);
	struct msg m;

	p->state = PT_STREAMING;
	p->heard = clock_mono();
	msg_init(&m, MSG_follow);
	request(p, &m.u.follow);
	conn_send(pool_link(u), &m);
	free(m.u.follow.from);
}

static void user_json(struct pool_user *u, const struct msg *m)
{
	struct part *p = list_entry(u, struct part, user);

	if (m->type == MSG_follow_end) {
		part_ended(p, m->u.follow_end.text);
	} else if (m->type == MSG_refused) {
		part_failed(p, m->u.refused.text);
	}
}

static void user_data(struct pool_user *u, const struct data_header *h, const char *d, size_t n)
{
	struct part *p = list_entry(u, struct part, user);
	struct follow *f = p->f;
	struct data_header out = *h;
	const char *bad;
	bool skip;
	int rc;

	if (p->state != PT_STREAMING)
		return;
	bad = check_frame(p, h, n, &skip);
	if (bad != NULL) {
		log_warn("node %s: %s", p->peer.node, bad);
		p->tries = LAST_TRIES;
		snprintf(p->why, sizeof(p->why), "%s", bad);
		note_missing(f, p);
		part_done(p);
		return;
	}
	p->delay_ms = 0;
	p->tries = 0;
	p->heard = clock_mono();
	if (skip)
		return;
	out.sid = f->sid;
	rc = link_send_data(f->client->link, &out, d, n);
	if (rc >= 0)
		part_sent(p, n, rc);
	follow_grant(f);
}

static void user_down(struct pool_user *u, const char *why)
{
	part_failed(list_entry(u, struct part, user), why);
}

static const struct pool_user_ops part_ops = { user_up, user_json, user_data, user_down };

void part_begin(struct part *p)
{
	struct follow *f = p->f;
	struct rec_follow r;

	if (!bulk_own_key(f->b, p->peer.key)) {
		p->state = PT_LINKING;
		p->heard = p->tries == 0 ? clock_mono() : p->heard;
		p->user.ops = &part_ops;
		pool_attach(f->b->pool, &p->peer, &p->user);
		return;
	}
	p->state = PT_STREAMING;
	p->heard = clock_mono();
	request(p, &r);
	p->serve = serve_start(f->b, f->client, f->sid, p, &r);
	free(r.from);
}

/* ---- told by the local serve -------------------------------------------------------- */

void part_sent(struct part *p, size_t n, int link_full)
{
	struct follow *f = p->f;

	p->outstanding -= n;
	f->outstanding -= n;
	f->unacked += n;
	if (link_full == 1)
		f->full = true;
}

void part_ended(struct part *p, const char *text)
{
	if (text != NULL && text[0] != 0) {
		snprintf(p->why, sizeof(p->why), "%s", text);
		note_missing(p->f, p);
	}
	part_done(p);
}

void part_refused(struct part *p, const char *text)
{
	serve_stop(p->serve);
	part_failed(p, text);
}

/* ---- told by the whole -------------------------------------------------------------- */

void part_stop(struct part *p)
{
	struct msg m;

	if (p->state == PT_STREAMING && p->serve == NULL && pool_link(&p->user) != NULL) {
		msg_init(&m, MSG_unfollow);
		m.u.unfollow.sid = p->user.sid;
		conn_send(pool_link(&p->user), &m);
	}
	pool_detach(&p->user);
	if (p->serve != NULL)
		serve_stop(p->serve);
	free(p->seen);
}

void part_hurry(struct part *p, mono_t now)
{
	p->heard = now;
	if (p->state != PT_WAITING)
		return;
	p->tries = 0;
	p->delay_ms = 0;
	p->retry_at = now;
}

/* The job is over, and a node that could speak does not: stopped, or cut off.
 * One that waits for the client's credit is not to blame. */
static mono_t check_silent(struct part *p, mono_t now)
{
	mono_t until = mono_add_ms(p->heard, SILENCE_MS);

	if (p->serve != NULL || !follow_attempt_over(p->f->b, p->f->job, p->f->attempt))
		return MONO_NEVER;
	if (!mono_due(until, now))
		return until;
	if (p->outstanding == 0 && p->state == PT_STREAMING)
		return mono_add_ms(now, SILENCE_MS);
	snprintf(p->why, sizeof(p->why), "it has not answered for %d s", SILENCE_MS / 1000);
	note_missing(p->f, p);
	part_done(p);
	return MONO_NEVER;
}

mono_t part_tick(struct part *p, mono_t now)
{
	if (p->state == PT_DONE)
		return MONO_NEVER;
	if (p->state != PT_WAITING)
		return check_silent(p, now);
	if (!mono_due(p->retry_at, now))
		return p->retry_at;
	part_begin(p);
	return MONO_NEVER;
}
