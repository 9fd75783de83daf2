/* bulk_follow.c - a client's 'follow', fanned out to all nodes of the job
 *
 * A follow waits until its client may (the coordinator has answered its watch)
 * and the job has nodes; then bulk_part.c follows each of them. It ends when
 * all nodes have, with a sentence when some output is missing. A job that lives
 * on then may get another attempt: the follow waits for it, and says when it
 * goes over to it. A node that is lost does not hold it up: it is given its last
 * chance when its attempt is over, as it is when the job is.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "io/bulk_follow.h"

#define CAP_MAX (4u << 20)
#define FOLLOWS_MAX 16 /* of one client */
#define PERMIT_MS 40000 /* longer than a watch may wait for the coordinator */
#define SEEN_MAX 256
#define NEVER_MAX 33 /* as many earlier attempts as a job's record has, and the last one */

/* What job_updates have said in passing. */
struct seen_job {
	struct list at;
	uint64_t job;
	bool over;
	uint32_t procs_per_node;
	uint32_t attempt;
	bool between; /* that one is over, and another one follows */
	uint32_t never[NEVER_MAX]; /* attempts that ended before a rank of theirs was started */
	size_t n_never;
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

bool follow_job_over(struct bulk *b, uint64_t job)
{
	const struct seen_job *s = seen_find(b, job);

	return s != NULL && s->over;
}

bool follow_attempt_over(struct bulk *b, uint64_t job, uint32_t attempt)
{
	const struct seen_job *s = seen_find(b, job);

	return s != NULL && (s->over || s->attempt > attempt || (s->attempt == attempt && s->between));
}

/* Nothing was ever written. Of each attempt on its own: one that ran is not to be
 * taken for one that did not because a later one never came so far. */
static bool never_ran(struct bulk *b, uint64_t job, uint32_t attempt)
{
	const struct seen_job *s = seen_find(b, job);

	for (size_t i = 0; s != NULL && i < s->n_never; i++)
		if (s->never[i] == attempt)
			return true;
	return false;
}

static uint32_t seen_attempt(struct bulk *b, uint64_t job)
{
	const struct seen_job *s = seen_find(b, job);

	return s != NULL ? s->attempt : 0;
}

static void note_never(struct seen_job *s, uint32_t attempt)
{
	if (s->n_never < NEVER_MAX)
		s->never[s->n_never++] = attempt;
}

/* One who watches an earlier attempt is told of it as if it were the job's. */
static uint32_t last_attempt(const struct rec_job_info *j)
{
	return j->attempt != 0 && MSG_HAS(j, job_info, restarts) ? j->restarts + 1 : j->attempt;
}

/* The job's own start is that of its last attempt; what it says of earlier ones is in their records. */
static void note_starts(struct seen_job *s, const struct rec_job_info *j)
{
	bool told = false;

	s->n_never = 0;
	for (size_t i = 0; i < j->n_attempts; i++) {
		told = told || j->attempts[i].attempt == s->attempt;
		if (!MSG_HAS(&j->attempts[i], attempt_info, start_wall_ms))
			note_never(s, j->attempts[i].attempt);
	}
	if (s->over && !told && !MSG_HAS(j, job_info, start_wall_ms) && strcmp(j->state, "done") != 0)
		note_never(s, s->attempt);
}

uint32_t follow_procs_per_node(struct bulk *b, uint64_t job)
{
	const struct seen_job *s = seen_find(b, job);

	return s != NULL ? s->procs_per_node : 0;
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

/* Nodes that could not be reached get a last chance now; the others must speak. */
static void hurry(struct follow *f)
{
	mono_t now = clock_mono();

	for (size_t i = 0; i < f->n_parts; i++)
		part_hurry(&f->parts[i], now);
	bulk_due(f->b, now);
}

void follow_job_update(struct bulk *b, const struct rec_job_update *u)
{
	const struct rec_job_info *j = u->job;
	struct seen_job *s;
	uint32_t over_before;
	bool was;

	if (u->n_job != 1)
		return;
	s = seen_get(b, j->job);
	was = s->over;
	over_before = s->attempt + s->between; /* attempts below this were over */
	s->attempt = last_attempt(j);
	s->between = strcmp(j->state, "restarting") == 0;
	s->over = u->settled || strcmp(j->state, "done") == 0 || strcmp(j->state, "failed") == 0 ||
		  strcmp(j->state, "lost") == 0;
	note_starts(s, j);
	s->procs_per_node = MSG_HAS(j, job_info, procs_per_node) ? j->procs_per_node : 1;
	list_foreach(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (f->job == j->job && f->started && !was && f->attempt >= over_before &&
		    follow_attempt_over(b, f->job, f->attempt))
			hurry(f);
	}
}

/* ---- follows --------------------------------------------------------------------------- */

static void try_start(struct follow *f);

/* What could not be had, and why; NULL: nothing. */
static const char *missing(struct follow *f)
{
	if (f->n_missing > 4)
		buf_addf(&f->missing, "; and that of %u more nodes", f->n_missing - 4);
	return f->missing.len > 0 ? buf_str(&f->missing) : NULL;
}

static void drop_parts(struct follow *f)
{
	for (size_t i = 0; i < f->n_parts; i++)
		part_stop(&f->parts[i]);
	free(f->parts);
	f->parts = NULL;
	f->n_parts = f->left = 0;
	f->outstanding = 0;
	arena_finish(&f->arena);
	f->started = false;
}

static void follow_free(struct follow *f)
{
	drop_parts(f);
	list_remove(&f->at);
	buf_finish(&f->missing);
	free(f->ranks);
	free(f->rank_list);
	free(f->from);
	free(f);
}

/* All nodes are done. While the job lives on, another attempt of it may come; and it may
 * have come, and ended, while these were still being heard.
 * A text (even an empty one) means: this is the end in any case. */
static void follow_finish(struct follow *f, const char *text)
{
	struct msg m;

	if (text == NULL && f->live && !f->fixed &&
	    (!follow_job_over(f->b, f->job) || seen_attempt(f->b, f->job) > f->attempt)) {
		drop_parts(f);
		try_start(f);
		return;
	}
	msg_init(&m, MSG_follow_end);
	m.u.follow_end.sid = f->sid;
	m.u.follow_end.text = text != NULL && text[0] != 0 ? text : missing(f);
	conn_send(f->client->link, &m);
	follow_free(f);
}

static void follow_start(struct follow *f, const struct rec_peer *peers, size_t n, uint32_t attempt)
{
	struct msg m;

	if (f->from_attempt != 0 && attempt != f->from_attempt) { /* another attempt's offsets begin anew */
		free(f->from);
		f->from = NULL;
		f->n_from = 0;
		f->from_end = false;
		f->offset = f->tail = 0;
	}
	f->attempt = f->from_attempt = attempt;
	if (!f->fixed) {
		msg_init(&m, MSG_follow_attempt);
		m.u.follow_attempt.sid = f->sid;
		m.u.follow_attempt.attempt = attempt;
		m.u.follow_attempt.missing = missing(f);
		conn_send(f->client->link, &m);
		buf_reset(&f->missing); /* said: the connection may not last until the end */
		f->n_missing = 0;
	}
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
		part_begin(&f->parts[i]);
}

/* Why there is nothing to show of this attempt, for one who asked for its output and not for
 * the job's end: "" to those, who are told of that. */
static void say_nothing(const struct follow *f, uint32_t attempt, size_t n_peers, char *text, size_t size)
{
	bool over = follow_job_over(f->b, f->job);
	int n;

	text[0] = '\0';
	if (f->live && !f->fixed)
		return;
	if (n_peers > 0 && f->fixed && f->attempt != attempt)
		snprintf(text, size, "only the output of the last attempt can be shown");
	else if (n_peers > 0 && never_ran(f->b, f->job, attempt)) {
		n = snprintf(text, size, "attempt %" PRIu32 " of job %" PRIu64 " was never started: it has no output", attempt,
			     f->job);
		if (attempt > 1 && !f->fixed)
			snprintf(text + n, size - (size_t)n, "; 'nodectl logs --attempt %" PRIu32 " %" PRIu64
				 "' shows the one before", attempt - 1, f->job);
	} else if (!over)
		snprintf(text, size, "job %" PRIu64 " was not started yet: there is no output", f->job);
	else if (never_ran(f->b, f->job, attempt))
		snprintf(text, size, "job %" PRIu64 " was never started: it has no output", f->job);
	else
		snprintf(text, size, "which nodes hold the output of job %" PRIu64 " is not known here", f->job);
}

/* May be called at any time; starts, ends or leaves a follow that waits. */
static void try_start(struct follow *f)
{
	const struct rec_peer *peers;
	uint32_t attempt = 0;
	char text[250];
	bool never;
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
	if (n == 0)
		attempt = seen_attempt(f->b, f->job);
	never = never_ran(f->b, f->job, attempt);
	if (n > 0 && !never && (f->fixed ? f->attempt == attempt : f->attempt == 0 || attempt > f->attempt)) {
		follow_start(f, peers, n, attempt);
	} else if (follow_job_over(f->b, f->job) || !f->live || (f->fixed && never)) {
		say_nothing(f, attempt, n, text, sizeof(text));
		follow_finish(f, text);
	}
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
	f->from_attempt = r->from_attempt;
	f->live = r->live;
	f->from_end = r->from_end;
	f->holes = r->holes;
	f->offset = r->offset;
	f->tail = r->tail;
	f->since_wall_ms = r->since_wall_ms;
	f->fds = r->fds;
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
	follow_grant(f);
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
		else if (never_ran(b, f->job, f->attempt))
			follow_finish(f, NULL); /* it ended while being prepared: nothing was written */
	}
}

void follow_drained(struct bulk *b, const struct conn *client)
{
	list_foreach_safe(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (f->client != client || !f->full)
			continue;
		f->full = false;
		follow_grant(f);
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

mono_t follow_tick(struct bulk *b, mono_t now)
{
	mono_t next = MONO_NEVER;

	list_foreach_safe(e, &b->follows) {
		struct follow *f = list_entry(e, struct follow, at);

		if (f->started && f->left == 0) {
			follow_finish(f, NULL);
		} else if (f->started) {
			for (size_t i = 0; i < f->n_parts; i++)
				next = mono_min(next, part_tick(&f->parts[i], now));
			follow_grant(f);
		} else if (mono_due(f->permit_until, now)) {
			try_start(f);
		} else {
			next = mono_min(next, f->permit_until);
		}
	}
	return next;
}
