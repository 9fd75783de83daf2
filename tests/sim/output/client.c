/* client.c - who reads: what client/session.c does, around the real streams; and what must hold of what was seen */
#include "tests/sim/output/flow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREDIT (4u << 20)
#define LATE_MS 10000

struct seen { /* of one stream of one attempt */
	uint64_t next;
	uint64_t gap; /* told, and not come to yet */
	uint64_t lost;
};

struct client {
	unsigned i;
	bool used, live, over_at_start;
	uint32_t fixed;
	struct host *host;
	struct streams st;
	struct link *link;
	uint32_t ids, rid, sid, attempt, first;
	bool settled, output_over, refollow, done, said, resumed;
	bool told_rest[ATTEMPTS + 1], shown[ATTEMPTS + 1];
	int64_t idle_since;
	struct rec_job_info info;
	struct rec_attempt_info past[ATTEMPTS + 1];
	struct seen seen[ATTEMPTS + 1][HOSTS * PPN][2];
};

static struct client clients[CLIENTS];
struct flow_counts counts;

/* ---- what was seen --------------------------------------------------------------- */

static uint64_t number(const char *line, const char *key)
{
	const char *p = strstr(line, key);

	if (p == NULL)
		broken("no %s in %s", key, line);
	return strtoull(p + strlen(key), NULL, 10);
}

/* Behind a hole the stream goes on within a line, and that rest of a line is left out with it. */
static uint64_t behind_hole(const struct seen *s, const struct truth *t)
{
	uint64_t at = s->next + s->gap;
	const char *nl = s->gap && at < t->most ? memchr(t->p + at, '\n', t->most - at) : NULL;

	return !s->gap ? at : nl != NULL ? (uint64_t)(nl - t->p) + 1 : t->most;
}

static void on_line(struct client *c, struct seen *s, const struct truth *t, const char *line, const char *name)
{
	const char *text = strstr(line, "\"text\":\"") + 8, *end = strchr(text, '"');
	bool whole = strstr(end, "\"partial\":true") == NULL;
	uint64_t at = number(line, "\"offset\":");
	size_t n = (size_t)(end - text);

	if (at < s->next)
		broken("reader %u: %s: offset %" PRIu64 " again, it was at %" PRIu64, c->i, name, at, s->next);
	if (at != s->next + s->gap && at != behind_hole(s, t))
		broken("reader %u: %s: goes on at %" PRIu64 " after %" PRIu64 ", with %" PRIu64 " bytes told as missing", c->i, name,
		       at, s->next, s->gap);
	if (at + n + whole > t->most || memcmp(t->p + at, text, n) != 0 || (whole && t->p[at + n] != '\n'))
		broken("reader %u: %s: at %" PRIu64 " there is something else than \"%.*s\"", c->i, name, at, n < 60 ? (int)n : 60, text);
	counts.bytes += n + whole;
	s->next = at + n + whole;
	s->gap = 0;
}

static void on_event(struct client *c, const char *line)
{
	uint64_t rank = number(line, "\"rank\":");
	bool err = strstr(line, "\"stream\":\"stderr\"") != NULL;
	char name[64];
	struct seen *s;

	if (rank >= HOSTS * PPN || c->attempt == 0 || c->attempt > ATTEMPTS)
		broken("reader %u: of rank %" PRIu64 ", attempt %u: %s", c->i, rank, c->attempt, line);
	s = &c->seen[c->attempt][rank][err];
	snprintf(name, sizeof(name), "attempt %u rank %u %s", c->attempt, (unsigned)rank, err ? "stderr" : "stdout");
	if (strstr(line, "\"event\":\"output\"")) {
		on_line(c, s, &hosts[rank / PPN].truth[c->attempt][2 * (rank % PPN) + err], line, name);
	} else if (strstr(line, "were lost")) {
		s->lost += number(line, "\"bytes\":");
		counts.losses++;
	} else if (strstr(line, "were given back")) {
		s->gap += number(line, "\"bytes\":");
		counts.gaps++;
	} else {
		broken("reader %u: %s: %s", c->i, name, line);
	}
}

static void drain(struct client *c)
{
	struct buf *b = &c->st.sinks[0].out.buf;
	char *p, *nl;

	if (b->len == 0)
		return;
	p = strndup(b->data, b->len);
	buf_reset(b);
	for (char *line = p; (nl = strchr(line, '\n')) != NULL; line = nl + 1) {
		*nl = '\0';
		on_event(c, line);
	}
	free(p);
}

static void complain(struct client *c, const char *text)
{
	trace("reader %u is told: %s", c->i, text);
	if (strstr(text, "shows the one before"))
		c->told_rest[c->attempt] = true;
	if (strstr(text, "started")) /* that there is nothing: check_client() looks whether it is true */
		return;
	if (strstr(text, "it sent") || strstr(text, "gap"))
		broken("reader %u is told: %s", c->i, text);
	c->said = true;
	counts.missing++;
}

/* ---- as client/session.c ------------------------------------------------------------- */

static void follow(struct client *c)
{
	struct msg m;

	msg_init(&m, MSG_follow);
	m.u.follow.from = streams_from(&c->st, 8192, &m.u.follow.n_from);
	m.u.follow.sid = c->sid = ++c->ids;
	m.u.follow.job = JOB;
	m.u.follow.live = c->live;
	m.u.follow.holes = true;
	if (c->fixed)
		MSG_SET(&m.u.follow, follow, attempt, c->fixed);
	if (c->attempt && m.u.follow.n_from)
		MSG_SET(&m.u.follow, follow, from_attempt, c->attempt);
	m.u.follow.credit = CREDIT;
	c->st.owed = 0;
	c->refollow = false;
	conn_send(c->link, &m);
	free(m.u.follow.from);
}

static void begin(struct client *c)
{
	struct msg m;

	c->idle_since = now;
	msg_init(&m, MSG_watch);
	m.u.watch.rid = c->rid = ++c->ids;
	m.u.watch.job = JOB;
	m.u.watch.attempt = c->fixed;
	conn_send(c->link, &m);
	if (!c->output_over)
		follow(c);
}

static void on_dial(struct event *e)
{
	struct client *c = e->a;
	struct conn *conn;

	if (c->done || c->link != NULL)
		return;
	if (!c->host->up) {
		later(50 + (int64_t)chance(900), on_dial, c, 0);
		return;
	}
	conn = conn_new(c->host, LINK_CLIENT);
	c->link = wire_new(L_CLIENT, c, L_AGENT, conn);
	conn->link = link_peer(c->link);
	conn->id = conn->link->id;
	begin(c);
}

void client_down(struct link *l)
{
	struct client *c = l->owner;

	c->link = NULL;
	c->resumed = c->attempt != 0;
	counts.resumed++;
	later(50, on_dial, c, 0);
}

static void finish(struct client *c)
{
	c->done = true;
	streams_end(&c->st);
	drain(c);
	if (c->link != NULL)
		link_forget(c->link);
	c->link = NULL;
	trace("reader %u is through", c->i);
}

static void on_update(struct client *c, const struct rec_job_update *u)
{
	if (u->rid != c->rid)
		return;
	if (u->settled && !c->settled)
		c->idle_since = now;
	c->settled = c->settled || u->settled;
	fill_info(&c->info, c->past, u->job->attempt); /* it outlives the message */
	streams_job(&c->st, &c->info);
	if (c->refollow && (c->settled || strcmp(u->job->state, "running") == 0))
		follow(c);
}

/* As session_say_missed(). */
static void say_missed(struct client *c, uint32_t next)
{
	for (uint32_t a = c->resumed && !streams_all_ended(&c->st) ? c->attempt : c->attempt + 1; a < next; a++)
		c->told_rest[a] = true;
}

static void on_attempt(struct client *c, uint32_t attempt, const char *missing)
{
	if (missing != NULL) {
		trace("reader %u is told of attempt %u: %s", c->i, c->attempt, missing);
		c->told_rest[c->attempt] = true;
	}
	trace("reader %u is shown attempt %u", c->i, attempt);
	if (c->attempt && attempt != c->attempt) {
		say_missed(c, attempt);
		streams_restart(&c->st);
		drain(c);
	}
	c->attempt = attempt;
	c->shown[attempt] = true;
	if (c->first == 0)
		c->over_at_start = job.over[attempt];
	c->first = c->first ? c->first : attempt;
	c->resumed = false;
}

void client_frame(struct link *l, struct event *e)
{
	struct client *c = l->owner;
	struct msg m;

	if (e->x) {
		if (e->h.sid != c->sid || c->output_over)
			return;
		if (c->fixed)
			c->attempt = c->fixed;
		c->idle_since = now;
		streams_data(&c->st, &e->h, e->data, e->n, (mono_t){ now });
		drain(c);
		return;
	}
	if (msg_decode(e->data, e->n, &m, NULL) != 0)
		broken("a client cannot read what it is told: %.*s", (int)e->n, e->data);
	if (m.type == MSG_job_update) {
		on_update(c, &m.u.job_update);
	} else if (m.type == MSG_follow_attempt && m.u.follow_attempt.sid == c->sid) {
		on_attempt(c, m.u.follow_attempt.attempt, m.u.follow_attempt.missing);
	} else if (m.type == MSG_follow_end && m.u.follow_end.sid == c->sid) {
		c->output_over = true;
		trace("reader %u: the output is over", c->i);
		if (m.u.follow_end.text != NULL && m.u.follow_end.text[0])
			complain(c, m.u.follow_end.text);
		if (c->live && c->attempt && !c->fixed)
			say_missed(c, c->info.attempt > c->attempt ? c->info.attempt : c->attempt + 1);
	} else if (m.type == MSG_refused && m.u.refused.rid == c->sid) {
		c->refollow = !c->settled && c->live;
		if (!c->refollow) {
			c->output_over = true;
			complain(c, m.u.refused.text);
		}
	}
	msg_finish(&m);
}

static void on_tick(struct event *e)
{
	struct client *c = e->a;
	struct msg m;

	if (c->done)
		return;
	if (c->st.owed >= CREDIT / 4 && c->link != NULL && !c->output_over) {
		msg_init(&m, MSG_credit);
		m.u.credit.sid = c->sid;
		m.u.credit.bytes = (uint32_t)c->st.owed;
		c->st.owed = 0;
		conn_send(c->link, &m);
	}
	if (c->output_over) {
		finish(c);
		return;
	}
	if (c->settled && c->link != NULL && now - c->idle_since >= LATE_MS * MS) {
		complain(c, "some output has not arrived");
		finish(c);
		return;
	}
	later(1 + (int64_t)chance(permille(50) ? 500 : 20), on_tick, c, 0);
}

void client_start(unsigned i, bool live, uint32_t fixed)
{
	struct client *c = &clients[i];

	*c = (struct client){ .i = i, .used = true, .live = live, .fixed = fixed, .host = &hosts[chance(HOSTS)] };
	c->over_at_start = fixed && job.over[fixed];
	trace("reader %u begins on host %u: %s, attempt %u", i, c->host->i, live ? "live" : "what is there", fixed);
	streams_init(&c->st, LABELS_AUTO, true);
	fill_info(&c->info, c->past, fixed ? fixed : job.attempt);
	streams_job(&c->st, &c->info);
	later(0, on_dial, c, 0);
	later(1, on_tick, c, 0);
}

void clients_begin(void)
{
	memset(clients, 0, sizeof(clients));
}

void clients_end(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i].used)
			streams_finish(&clients[i].st);
}

bool clients_done(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i].used && !clients[i].done)
			return false;
	return true;
}

/* ---- at the end: all of it, or it was said --------------------------------------------------- */

static void check_stream(const struct client *c, uint32_t attempt, uint32_t rank, bool err)
{
	const struct seen *s = &c->seen[attempt][rank][err];
	const struct host *h = &hosts[rank / PPN];
	const struct truth *t = &h->truth[attempt][2 * (rank % PPN) + err];

	if (s->lost > t[err ? -1 : 0].lost && h->shims[attempt] != NULL && !h->shim_killed[attempt])
		broken("reader %u: attempt %u rank %u: told of %" PRIu64 " bytes lost, there were %" PRIu64, c->i, attempt, rank, s->lost,
		       t[err ? -1 : 0].lost);
	if (behind_hole(s, t) >= t->n || c->said || c->told_rest[attempt])
		return;
	broken("reader %u: attempt %u rank %u %s: %" PRIu64 " of %zu bytes, and nothing was said", c->i, attempt, rank,
	       err ? "stderr" : "stdout", s->next + s->gap, t->n);
}

static void check_client(const struct client *c)
{
	uint32_t from = c->fixed ? c->fixed : c->first, to = c->fixed ? c->fixed : c->live ? job.attempt : c->first;

	if (!c->live && !c->over_at_start)
		return; /* it was to see what was there just then */
	for (uint32_t a = from; a != 0 && a <= to; a++)
		for (uint32_t r = 0; r < HOSTS * PPN; r++) {
			check_stream(c, a, r, false);
			check_stream(c, a, r, true);
		}
}

void clients_check(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i].used)
			check_client(&clients[i]);
}

bool clients_were_told(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i].said)
			return true;
	return false;
}
