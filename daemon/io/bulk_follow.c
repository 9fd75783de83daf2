/* bulk_follow.c - a client's 'follow', fanned out to all nodes of the job
 *
 *   a follow waits until its client may (the coordinator has answered its
 *   watch) and the job has nodes; then one part for each node:
 *
 *   linking --> streaming --> done
 *      ^            |
 *      '-- waiting <'   the link broke, or the node said no: again after
 *                       100 ms .. 10 s, at exactly the offsets reached
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
#include "io/bulk_private.h"

#define CAP_MAX (4u << 20)
#define FOLLOWS_MAX 16 /* of one client */
#define PERMIT_MS 40000 /* longer than a watch may wait for the coordinator */
#define LAST_TRIES 4 /* once the job is over */
#define SEEN_MAX 256

enum part_state { PT_WAITING, PT_LINKING, PT_STREAMING, PT_DONE };

struct progress {
	uint32_t rank;
	uint8_t fd;
	bool eof;
	uint64_t offset;
};

struct part {
	struct follow *f;
	struct rec_peer peer; /* in the follow's arena */
	enum part_state state;
	struct pool_user user;
	struct serve *serve; /* this very node */
	uint64_t outstanding; /* granted, not come yet */
	mono_t retry_at;
	uint32_t delay_ms;
	unsigned tries;
	char why[400];
	struct progress *seen; /* by rank, then fd */
	size_t n_seen, cap_seen;
};

struct follow {
	struct list at;
	struct bulk *b;
	struct conn *client;
	uint32_t sid;
	uint64_t job;
	uint32_t attempt; /* being followed; 0: none yet */
	bool fixed; /* the client named the attempt */
	bool live, from_end;
	char (*ranks)[9];
	const char **rank_list;
	size_t n_ranks;
	struct rec_follow_from *from;
	size_t n_from;
	mono_t permit_until;

	bool started;
	struct arena arena; /* the parts' peers */
	struct part *parts;
	size_t n_parts, left;
	uint64_t cap, unacked, outstanding;
	size_t turn; /* who is granted next */
	bool full; /* the client's link holds enough */
	struct buf missing;
	unsigned n_missing;
};

/* What job_updates have said in passing. */
struct seen_job {
	struct list at;
	uint64_t job;
	bool over, ran;
	uint32_t procs_per_node;
};


/* ---- watched jobs ---------------------------------------------------------- */

static struct seen_job *seen_find(struct bulk *b, uint64_t job)
{
	list_foreach(e, &b->seen) {
		struct seen_job *s = list_entry(e, struct seen_job, at);

		if (s->job == job)
			return s;
	}
	return NULL;
}

static bool job_over(struct bulk *b, uint64_t job)
{
	const struct seen_job *s = seen_find(b, job);

	return s != NULL && s->over;
}

static bool never_ran(struct bulk *b, uint64_t job)
{
	const struct seen_job *s = seen_find(b, job);

	return s != NULL && s->over && !s->ran;
}

static struct seen_job *seen_get(struct bulk *b, uint64_t job)
{
	struct seen_job *s = seen_find(b, job);

	if (s != NULL) {
		list_remove(&s->at); /* to the young end */
	} else if (b->n_seen >= SEEN_MAX) {
		s = list_entry(b->seen.next, struct seen_job, at);
		list_remove(&s->at);
		memset(s, 0, sizeof(*s));
	} else {
		s = agent_alloc(sizeof(*s));
		b->n_seen++;
	}
	s->job = job;
	list_append(&b->seen, &s->at);
	return s;
}

/* Nodes that could not be reached get a last chance now. */
static void hurry(struct follow *f)
{
	for (size_t i = 0; i < f->n_parts; i++)
		if (f->parts[i].state == PT_WAITING) {
			f->parts[i].tries = 0;
			f->parts[i].delay_ms = 0;
			f->parts[i].retry_at = clock_mono();
			bulk_due(f->b, f->parts[i].retry_at);
		}
}

void follow_job_update(struct bulk *b, const struct rec_job_update *u)
{
	const struct rec_job_info *j = u->job;
	struct seen_job *s;
	bool was;

	if (u->n_job != 1)
		return;
	s = seen_get(b, j->job);
	was = s->over;
	s->over = u->settled || strcmp(j->state, "done") == 0 || strcmp(j->state, "failed") == 0 ||
		  strcmp(j->state, "lost") == 0;
	s->ran = s->ran || MSG_HAS(j, job_info, start_wall_ms) || strcmp(j->state, "running") == 0;
	s->procs_per_node = MSG_HAS(j, job_info, procs_per_node) ? j->procs_per_node : 1;
	if (was || !s->over)
		return;
	list_foreach(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (f->job == j->job && f->started)
			hurry(f);
	}
}

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
	return f->from_end ? offered : 0;
}

/* NULL, or what is wrong with the frame. *ret_skip: seen before, not to be passed on. */
static const char *check_frame(struct part *p, const struct data_header *h, size_t n, bool *ret_skip)
{
	const struct seen_job *s = seen_find(p->f->b, p->f->job);
	struct progress *g;

	*ret_skip = false;
	if (h->fd != 1 && h->fd != 2)
		return "it sent something that is not output";
	if (s != NULL && s->procs_per_node > 0 &&
	    h->rank / s->procs_per_node != (uint32_t)(p - p->f->parts))
		return "it sent output of a rank that is not its own";
	if (n > p->outstanding)
		return "it sent more than it was allowed";
	if (h->flags & DATA_LOST)
		return NULL;
	g = progress_of(p, h->rank, h->fd);
	if (g->offset == UINT64_MAX)
		g->offset = first_offset(p->f, g, h->offset);
	*ret_skip = g->eof;
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

static void grant(struct follow *f)
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
	if (f->n_missing++ >= 4 || f->missing.len > 600)
		return;
	buf_addf(&f->missing, "%soutput of node %s is missing: %.250s", f->missing.len ? "; " : "",
		 p->peer.node, p->why);
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
	bool over = job_over(f->b, f->job);

	drop_outstanding(p);
	pool_detach(&p->user);
	p->serve = NULL;
	snprintf(p->why, sizeof(p->why), "%s", why);
	if (p->delay_ms == 0)
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
				  .live = f->live, .from_end = f->from_end, .credit = (uint32_t)g };
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
	if (skip)
		return;
	out.sid = f->sid;
	rc = link_send_data(f->client->link, &out, d, n);
	if (rc >= 0)
		part_sent(p, n, rc);
	grant(f);
}

static void user_down(struct pool_user *u, const char *why)
{
	part_failed(list_entry(u, struct part, user), why);
}

static const struct pool_user_ops part_ops = { user_up, user_json, user_data, user_down };

static void part_begin(struct part *p)
{
	struct follow *f = p->f;
	struct rec_follow r;

	if (!bulk_own_key(f->b, p->peer.key)) {
		p->state = PT_LINKING;
		p->user.ops = &part_ops;
		pool_attach(f->b->pool, &p->peer, &p->user);
		return;
	}
	p->state = PT_STREAMING;
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

/* ---- follows --------------------------------------------------------------------------- */

static void drop_parts(struct follow *f)
{
	for (size_t i = 0; i < f->n_parts; i++) {
		pool_detach(&f->parts[i].user);
		if (f->parts[i].serve != NULL)
			serve_stop(f->parts[i].serve);
		free(f->parts[i].seen);
	}
	free(f->parts);
	f->parts = NULL;
	f->n_parts = f->left = 0;
	f->outstanding = 0;
	arena_finish(&f->arena);
	f->started = false;
}

static void tell_nodes_to_stop(struct follow *f)
{
	struct msg m;

	for (size_t i = 0; i < f->n_parts; i++) {
		struct part *p = &f->parts[i];

		if (p->state != PT_STREAMING || p->serve != NULL || pool_link(&p->user) == NULL)
			continue;
		msg_init(&m, MSG_unfollow);
		m.u.unfollow.sid = p->user.sid;
		conn_send(pool_link(&p->user), &m);
	}
}

static void follow_free(struct follow *f)
{
	tell_nodes_to_stop(f);
	drop_parts(f);
	list_remove(&f->at);
	buf_finish(&f->missing);
	free(f->ranks);
	free(f->rank_list);
	free(f->from);
	free(f);
}

/* All nodes are done. While the job lives on, another attempt of it may come.
 * A text (even an empty one) means: this is the end in any case. */
static void follow_finish(struct follow *f, const char *text)
{
	struct msg m;

	if (text == NULL && f->live && !f->fixed && !job_over(f->b, f->job)) {
		drop_parts(f);
		return;
	}
	if (f->n_missing > 4)
		buf_addf(&f->missing, "; and that of %u more nodes", f->n_missing - 4);
	msg_init(&m, MSG_follow_end);
	m.u.follow_end.sid = f->sid;
	m.u.follow_end.text = text != NULL && text[0] != 0 ? text
			      : f->missing.len > 0	   ? buf_str(&f->missing)
							   : NULL;
	conn_send(f->client->link, &m);
	follow_free(f);
}

static void follow_start(struct follow *f, const struct rec_peer *peers, size_t n, uint32_t attempt)
{
	if (f->attempt != 0 && attempt > f->attempt) { /* another attempt's offsets begin anew */
		free(f->from);
		f->from = NULL;
		f->n_from = 0;
		f->from_end = false;
	}
	f->attempt = attempt;
	f->started = f->b->used = true;
	f->turn = 0;
	f->parts = agent_alloc(n * sizeof(*f->parts));
	f->n_parts = f->left = n;
	for (size_t i = 0; i < n; i++) {
		f->parts[i].f = f;
		f->parts[i].retry_at = MONO_NEVER;
		bulk_copy_peer(&f->arena, &peers[i], &f->parts[i].peer);
	}
	for (size_t i = 0; i < n; i++)
		part_begin(&f->parts[i]); /* ends nothing from inside */
}

/* May be called at any time; starts, ends or leaves a follow that waits. */
static void try_start(struct follow *f)
{
	const struct rec_peer *peers;
	uint32_t attempt = 0;
	size_t n;

	if (!agent_client_may(f->b->io->core, f->client->id, f->job)) {
		if (!mono_due(f->permit_until, clock_mono()))
			return;
		conn_refuse(f->client->link, f->sid, "denied", "job %" PRIu64 " is not watched by you",
			    f->job);
		follow_free(f);
		return;
	}
	n = agent_job_peers(f->b->io->core, f->client->id, f->job, &peers, &attempt);
	if (n > 0 && !never_ran(f->b, f->job) && (f->fixed ? f->attempt == attempt :
						  f->attempt == 0 || attempt > f->attempt))
		follow_start(f, peers, n, attempt);
	else if (job_over(f->b, f->job))
		follow_finish(f, f->fixed && attempt != 0 && f->attempt != attempt ?
				 "only the output of the last attempt can be shown" : "");
}

static unsigned count_of(struct bulk *b, const struct conn *client)
{
	unsigned n = 0;

	list_foreach(e, &b->follows)
		n += list_entry(e, struct follow, at)->client == client;
	return n;
}

static struct follow *follow_find(struct bulk *b, const struct conn *client, uint32_t sid)
{
	list_foreach(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (f->client == client && f->sid == sid)
			return f;
	}
	return NULL;
}

static void copy_request(struct follow *f, const struct rec_follow *r)
{
	f->ranks = agent_alloc((r->n_ranks + 1) * sizeof(*f->ranks));
	f->rank_list = agent_alloc((r->n_ranks + 1) * sizeof(*f->rank_list));
	for (size_t i = 0; i < r->n_ranks; i++) {
		snprintf(f->ranks[i], sizeof(*f->ranks), "%s", r->ranks[i]);
		f->rank_list[f->n_ranks++] = f->ranks[i];
	}
	f->from = agent_alloc((r->n_from + 1) * sizeof(*f->from));
	if (r->n_from > 0)
		memcpy(f->from, r->from, r->n_from * sizeof(*f->from));
	f->n_from = r->n_from;
}

void follow_open(struct bulk *b, struct conn *client, const struct rec_follow *r)
{
	struct follow *f;

	if (r->sid == 0 || r->credit == 0 || follow_find(b, client, r->sid) != NULL) {
		conn_refuse(client->link, r->sid, "bad-request", "follow: sid 0, sid in use, or no credit");
		return;
	}
	if (count_of(b, client) >= FOLLOWS_MAX) {
		conn_refuse(client->link, r->sid, "busy", "at most %u outputs at a time on one connection",
			    FOLLOWS_MAX);
		return;
	}
	f = agent_alloc(sizeof(*f));
	f->b = b;
	f->client = client;
	f->sid = r->sid;
	f->job = r->job;
	f->fixed = MSG_HAS(r, follow, attempt) && r->attempt != 0;
	f->attempt = f->fixed ? r->attempt : 0;
	f->live = r->live;
	f->from_end = r->from_end;
	f->cap = r->credit < CAP_MAX ? r->credit : CAP_MAX;
	f->permit_until = mono_add_ms(clock_mono(), PERMIT_MS);
	copy_request(f, r);
	list_append(&b->follows, &f->at);
	bulk_due(b, f->permit_until);
	try_start(f);
}

bool follow_credit(struct bulk *b, struct conn *client, const struct rec_credit *c)
{
	struct follow *f = follow_find(b, client, c->sid);

	if (f == NULL)
		return false;
	/* only what was sent can be given back */
	f->unacked -= c->bytes < f->unacked ? c->bytes : f->unacked;
	grant(f);
	return true;
}

void follow_close(struct bulk *b, struct conn *client, uint32_t sid)
{
	struct follow *f = follow_find(b, client, sid);

	if (f != NULL)
		follow_free(f);
}

void follow_kick(struct bulk *b)
{
	list_foreach_safe(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (!f->started)
			try_start(f);
		else if (never_ran(b, f->job))
			follow_finish(f, ""); /* it ended while being prepared: nothing was written */
	}
}

void follow_drained(struct bulk *b, const struct conn *client)
{
	list_foreach_safe(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (f->client != client || !f->full)
			continue;
		f->full = false;
		grant(f);
	}
}

void follow_conn_gone(struct bulk *b, const struct conn *client)
{
	list_foreach_safe(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (f->client == client)
			follow_free(f);
	}
}

/* Retries that are due; the next that will be. */
static mono_t follow_retry(struct follow *f, mono_t now)
{
	mono_t next = MONO_NEVER;

	for (size_t i = 0; i < f->n_parts; i++) {
		struct part *p = &f->parts[i];

		if (p->state != PT_WAITING)
			continue;
		if (mono_due(p->retry_at, now))
			part_begin(p);
		else
			next = mono_min(next, p->retry_at);
	}
	return next;
}

mono_t follow_tick(struct bulk *b, mono_t now)
{
	mono_t next = MONO_NEVER;

	list_foreach_safe(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (f->started && f->left == 0) {
			follow_finish(f, NULL);
		} else if (f->started) {
			next = mono_min(next, follow_retry(f, now));
			grant(f);
		} else if (mono_due(f->permit_until, now)) {
			try_start(f);
		} else {
			next = mono_min(next, f->permit_until);
		}
	}
	return next;
}
