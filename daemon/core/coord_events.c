/* coord_events.c - what happened in the cluster: kept, told once, found again; see coord_events.h */
#include "core/coord_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/utf8.h"

#define DAY_MS INT64_C(86400000)
#define LOOK_MS 3600000
#define SAVE_MS 1000
#define SAVE_ROWS 64u /* in one transaction */
#define FLAPS_MAX 4096u
#define ID_GAP 4096u /* ids that a crash may have taken with it are not given out again */
#define PAGE 500u /* as in messages.def */

struct kept_event {
	struct rec_event_info i; /* strings behind it */
	uint64_t ticket; /* on its way to disk; 0: it is not */
	bool stored;
};

struct flap {
	uint64_t about;
	mono_t at[FLAP_TIMES]; /* of the last changes, a ring */
	unsigned n; /* changes so far */
	bool flapping;
	struct kept_event *last; /* flapping: as it is now, not told */
};

/* ---- one event ------------------------------------------------------------------- */

static char *put(char **at, const char *s)
{
	char *p = *at;

	if (s == NULL)
		return NULL;
	*at = stpcpy(p, s) + 1;
	return p;
}

static size_t room(const char *s)
{
	return s != NULL ? strlen(s) + 1 : 0;
}

static struct kept_event *event_copy(struct coord *c, const struct rec_event_info *i)
{
	struct kept_event *k = calloc(1, sizeof(*k) + room(i->kind) + room(i->severity) + room(i->node) +
					     room(i->text) + room(i->src) + room(i->brief));
	char *at = (char *)(k + 1);

	if (k == NULL) {
		c->oom = true;
		return NULL;
	}
	k->i = *i;
	k->i.kind = put(&at, i->kind);
	k->i.severity = put(&at, i->severity);
	k->i.node = put(&at, i->node);
	k->i.text = put(&at, i->text);
	k->i.src = put(&at, i->src);
	k->i.brief = put(&at, i->brief);
	return k;
}

static int append(struct coord *c, struct kept_event *k)
{
	struct event_log *g = &c->log;

	if (g->n == g->cap) {
		size_t cap = g->cap > 0 ? 2 * g->cap : 64;
		struct kept_event **v = realloc(g->v, cap * sizeof(struct kept_event *));

		if (v == NULL) {
			c->oom = true;
			return -ENOMEM;
		}
		g->v = v;
		g->cap = cap;
	}
	g->v[g->n++] = k;
	return 0;
}

/* For the hook: plain JSON, a line. */
static void tell_hook(struct coord *c, const struct rec_event_info *i)
{
	struct action *a;
	struct jw w;
	struct buf b;

	if (!c->conf.hook)
		return;
	buf_init(&b);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_key(&w, "id");
	jw_uint(&w, i->id);
	jw_key(&w, "time_ms");
	jw_int(&w, i->wall_ms);
	jw_key(&w, "cluster");
	jw_str(&w, c->cluster);
	jw_key(&w, "kind");
	jw_str(&w, i->kind);
	jw_key(&w, "severity");
	jw_str(&w, i->severity);
	jw_key(&w, "node");
	jw_str(&w, i->node);
	jw_key(&w, "job");
	if (i->job != 0)
		jw_uint(&w, i->job);
	else
		jw_null(&w);
	jw_key(&w, "text");
	jw_str(&w, i->text);
	jw_end_obj(&w);
	buf_addc(&b, '\n');
	a = act_add(c->out, ACT_EVENT);
	a->text = arena_memdup(&c->out->arena, b.data != NULL ? b.data : "", b.len);
	a->len = b.len;
	if (a->text == NULL || buf_failed(&b))
		c->oom = true;
	buf_finish(&b);
}

/* Takes k over: from here on it is an event that was told. */
static void tell(struct coord *c, struct kept_event *k)
{
	struct event_log *g = &c->log;

	k->i.id = g->next_id;
	if (append(c, k) < 0) {
		free(k);
		return;
	}
	g->next_id++;
	if (g->n_unsaved++ == 0)
		g->save_at = mono_add_ms(c->now, SAVE_MS);
	if (strcmp(k->i.kind, "hook.failed") != 0)
		tell_hook(c, &k->i);
}

/* ---- flapping -------------------------------------------------------------------- */

static void flap_drop(struct event_log *g, size_t i)
{
	free(g->flaps[i].last);
	g->flaps[i] = g->flaps[--g->n_flaps];
}

static mono_t last_change(const struct flap *f)
{
	return f->at[(f->n - 1) % FLAP_TIMES];
}

static struct flap *flap_of(struct coord *c, uint64_t about)
{
	struct event_log *g = &c->log;
	struct flap *v;
	size_t oldest = 0;

	for (size_t i = 0; i < g->n_flaps; i++) {
		if (g->flaps[i].about == about)
			return &g->flaps[i];
		if (mono_before(last_change(&g->flaps[i]), last_change(&g->flaps[oldest])))
			oldest = i;
	}
	if (g->n_flaps == FLAPS_MAX)
		flap_drop(g, oldest);
	v = realloc(g->flaps, (g->n_flaps + 1) * sizeof(*v));
	if (v == NULL) {
		c->oom = true;
		return NULL;
	}
	g->flaps = v;
	v += g->n_flaps++;
	*v = (struct flap){ .about = about };
	if (g->n_flaps == 1)
		g->flaps_at = mono_add_ms(c->now, FLAP_MS);
	return v;
}

static struct kept_event *say_flapping(struct coord *c, const struct kept_event *k, int64_t ms)
{
	struct rec_event_info i = k->i;
	char text[512];

	snprintf(text, sizeof(text), "%.300s; it has changed %u times in %" PRId64 " s, and is told again when it has been "
		 "the same for %d min", k->i.text, FLAP_TIMES, ms / 1000, FLAP_MS / 60000);
	i.kind = "flapping";
	i.severity = "warn";
	i.text = utf8_scrub(text);
	i.src = i.brief = NULL;
	return event_copy(c, &i);
}

/* k may be kept back (then it is this one's), or another one be told in its place. NULL: nothing to tell. */
static struct kept_event *damp(struct coord *c, struct kept_event *k)
{
	struct flap *f = flap_of(c, k->i.about);
	mono_t oldest;

	if (f == NULL)
		return k;
	oldest = f->n >= FLAP_TIMES - 1 ? f->at[(f->n + 1) % FLAP_TIMES] : MONO_NEVER;
	f->at[f->n++ % FLAP_TIMES] = c->now;
	if (!f->flapping && (mono_is_never(oldest) || mono_due(mono_add_ms(oldest, FLAP_MS), c->now)))
		return k;
	free(f->last);
	f->last = k;
	if (f->flapping)
		return NULL;
	f->flapping = true;
	return say_flapping(c, k, mono_sub_ms(c->now, oldest));
}

static void flaps_look(struct coord *c)
{
	struct event_log *g = &c->log;

	if (g->n_flaps == 0)
		return;
	if (mono_before(c->now, g->flaps_at)) {
		coord_wake_at(c, g->flaps_at);
		return;
	}
	g->flaps_at = MONO_NEVER;
	for (size_t i = 0; i < g->n_flaps;) {
		struct flap *f = &g->flaps[i];
		mono_t quiet = mono_add_ms(last_change(f), FLAP_MS);

		if (!mono_due(quiet, c->now)) {
			g->flaps_at = mono_min(g->flaps_at, quiet);
			i++;
			continue;
		}
		if (f->flapping && f->last != NULL) {
			f->last->i.wall_ms = c->wall_ms - FLAP_MS;
			tell(c, f->last);
			f->last = NULL;
		}
		flap_drop(g, i);
	}
	if (g->n_flaps > 0)
		coord_wake_at(c, g->flaps_at);
}

/* ---- adding ------------------------------------------------------------------------ */

void events_add(struct coord *c, const struct event_in *in, const char *fmt, ...)
{
	struct rec_event_info i = { .kind = in->kind, .severity = in->severity, .node = in->node, .src = in->src };
	char text[512], brief[192];
	struct kept_event *k;
	va_list ap;

	if (c->conf.no_events)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	i.text = utf8_scrub(text);
	if (in->brief != NULL) {
		snprintf(brief, sizeof(brief), "%s", in->brief);
		i.brief = utf8_scrub(brief);
	}
	i.wall_ms = in->wall_ms != 0 ? in->wall_ms : c->wall_ms;
	if (in->job != 0)
		MSG_SET(&i, event_info, job, in->job);
	if (in->attempt != 0)
		MSG_SET(&i, event_info, attempt, in->attempt);
	if (in->about != 0)
		MSG_SET(&i, event_info, about, in->about);
	if (in->has_user)
		MSG_SET(&i, event_info, by_user, in->by_user);
	k = event_copy(c, &i);
	if (k != NULL && in->about != 0)
		k = damp(c, k);
	if (k != NULL)
		tell(c, k);
}

static uint64_t hash_of(const char *a, const char *b)
{
	const char *const parts[] = { a, b };
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t k = 0; k < 2; k++)
		for (const char *s = parts[k];; s++) {
			h = (h ^ (uint8_t)*s) * UINT64_C(1099511628211);
			if (*s == '\0')
				break;
		}
	return h != 0 ? h : 1;
}

static const struct node_kind {
	const char *state, *kind, *severity;
} node_kinds[] = {
	{ "ok", "node.ok", "info" },	       { "unreachable", "node.unreachable", "warn" },
	{ "down", "node.down", "bad" },	       { "lost", "node.lost", "bad" },
	{ "removed", "node.removed", "info" }, { "quarantined", "node.twins", "bad" },
};

static const struct node_kind *node_kind(const char *state, const char *kind)
{
	for (size_t i = 0; i < sizeof(node_kinds) / sizeof(node_kinds[0]); i++)
		if (strcmp(state != NULL ? node_kinds[i].state : node_kinds[i].kind, state != NULL ? state : kind) == 0)
			return &node_kinds[i];
	return NULL;
}

void events_node(struct coord *c, struct node *n, const char *state, const char *why)
{
	const struct node_kind *k = node_kind(state, NULL);

	if (k == NULL || (n->told != NULL && strcmp(n->told, k->kind) == 0))
		return;
	n->told = k->kind;
	events_add(c, &(struct event_in){ .kind = k->kind, .severity = k->severity, .node = n->name,
					  .about = hash_of(n->name, "state") }, "%s", why);
}

void events_verdict(struct coord *c, const struct node *n, uint64_t key, bool came, const char *src,
		    const struct rec_attention *x, const char *brief)
{
	struct event_in in = { .kind = came ? "verdict.came" : "verdict.gone", .node = n->name, .src = src,
			       .severity = came ? x->severity : "info", .about = hash_of(n->name, "") ^ key,
			       .brief = came ? brief : NULL };

	if (in.about == 0)
		in.about = 1;
	if (came)
		events_add(c, &in, "%s: %s", x->subject, x->text);
	else
		events_add(c, &in, "no more: %s", brief);
}

/* ---- looking back ----------------------------------------------------------------- */

bool events_has_job(const struct coord *c, const char *kind, uint64_t job, uint32_t attempt)
{
	for (size_t i = c->log.n; i-- > 0;) {
		const struct rec_event_info *x = &c->log.v[i]->i;

		if (x->job == job && (attempt == 0 || x->attempt == attempt) && strcmp(x->kind, kind) == 0)
			return true;
	}
	return false;
}

static bool has(const uint64_t *v, size_t n, uint64_t x)
{
	for (size_t i = 0; i < n; i++)
		if (v[i] == x)
			return true;
	return false;
}

#define FAILURES_MAX 64u

size_t events_failures(const struct coord *c, const char *node, int64_t since_wall_ms, uint64_t *ret, size_t n)
{
	uint64_t users[FAILURES_MAX];
	size_t k = 0, n_users = 0;

	for (size_t i = c->log.n; i-- > 0 && k < n;) {
		const struct rec_event_info *x = &c->log.v[i]->i;

		if (x->node == NULL || strcmp(x->node, node) != 0)
			continue;
		if (strcmp(x->kind, "node.resume") == 0)
			break;
		if (x->wall_ms < since_wall_ms || x->job == 0 || has(ret, k, x->job) ||
		    (strcmp(x->kind, "job.failed") != 0 && strcmp(x->kind, "job.restarted") != 0))
			continue;
		if (MSG_HAS(x, event_info, by_user)) {
			if (n_users == FAILURES_MAX || has(users, n_users, x->by_user))
				continue;
			users[n_users++] = x->by_user;
		}
		ret[k++] = x->job;
	}
	return k;
}

/* ---- on disk ---------------------------------------------------------------------- */

static void row(struct coord *c, struct action *p, const struct kept_event *k, bool out)
{
	struct rec_event_info i = k->i;
	char key[24];
	struct msg m;

	snprintf(key, sizeof(key), "%" PRIu64, i.id);
	msg_init(&m, MSG_row_event);
	m.u.row_event.event = &i;
	m.u.row_event.n_event = 1;
	act_row(c->out, p, TABLE_EVENT, key, out ? NULL : &m);
}

static size_t too_many(const struct coord *c)
{
	return c->log.n > c->conf.events_keep ? c->log.n - c->conf.events_keep : 0;
}

static bool too_old(const struct coord *c, const struct kept_event *k)
{
	return c->conf.events_days != 0 && k->i.wall_ms < c->wall_ms - c->conf.events_days * DAY_MS;
}

/* The oldest go, some in each transaction that writes new ones. One that is on its way to disk stays. */
static void prune(struct coord *c, struct action *p, size_t most)
{
	struct event_log *g = &c->log;
	size_t n = 0, many = too_many(c);

	while (n < most && n < g->n && g->v[n]->ticket == 0 && (n < many || too_old(c, g->v[n]))) {
		if (g->v[n]->stored)
			row(c, p, g->v[n], true);
		else
			g->n_unsaved--;
		free(g->v[n++]);
	}
	if (n > 0)
		memmove(g->v, g->v + n, (g->n - n) * sizeof(*g->v));
	g->n -= n;
}

static void save(struct coord *c, struct action *p)
{
	struct event_log *g = &c->log;
	size_t rows = 0, i = g->n;

	for (size_t left = g->n_unsaved; i > 0 && left > 0; i--)
		left -= !g->v[i - 1]->stored && g->v[i - 1]->ticket == 0;
	for (; i < g->n && rows < SAVE_ROWS; i++) {
		if (g->v[i]->ticket != 0 || g->v[i]->stored)
			continue;
		row(c, p, g->v[i], false);
		g->v[i]->ticket = p->ticket;
		g->n_unsaved--;
		g->n_flying++;
		rows++;
	}
	prune(c, p, 2 * SAVE_ROWS);
}

static struct action *written_anyway(const struct coord *c)
{
	for (size_t i = c->out->n; i-- > 0;)
		if (c->out->v[i].type == ACT_PERSIST && c->out->v[i].ticket != 0)
			return &c->out->v[i];
	return NULL;
}

static void prune_by_age(struct coord *c)
{
	struct event_log *g = &c->log;
	struct pending *pd;

	if (c->conf.events_days == 0)
		return;
	if (!mono_before(c->now, g->prune_at)) {
		g->prune_at = mono_add_ms(c->now, LOOK_MS);
		if (g->n > 0 && g->v[0]->ticket == 0 && too_old(c, g->v[0]))
			prune(c, coord_persist(c, &pd), 4 * SAVE_ROWS);
	}
	coord_wake_at(c, g->prune_at);
}

/* Who was there before our restart, and has not come back as all others have. */
static void ask_back(struct coord *c)
{
	mono_t t = mono_add_ms(c->began, c->conf.unreachable_ms);

	if (c->log.asked_back)
		return;
	if (!mono_due(t, c->now)) {
		coord_wake_at(c, t);
		return;
	}
	c->log.asked_back = true;
	for (size_t i = 0; i < c->n_nodes; i++)
		if (c->nodes[i]->link == NULL && !c->nodes[i]->quarantined && c->nodes[i]->told != NULL &&
		    strcmp(c->nodes[i]->told, "node.lost") != 0)
			events_node(c, c->nodes[i], "down", "it has not come back since the coordinator was restarted");
}

void events_flush(struct coord *c)
{
	struct event_log *g = &c->log;
	struct action *p;
	struct pending *pd;

	ask_back(c);
	flaps_look(c);
	prune_by_age(c);
	if (g->n_unsaved == 0)
		return;
	p = written_anyway(c);
	if (p == NULL && mono_due(g->save_at, c->now))
		p = coord_persist(c, &pd);
	if (p != NULL) {
		save(c, p);
		g->save_at = mono_add_ms(c->now, SAVE_MS);
	}
	if (g->n_unsaved > 0)
		coord_wake_at(c, g->save_at);
}

void events_stop(struct coord *c)
{
	struct pending *pd;

	for (size_t left = SIZE_MAX; c->log.n_unsaved > 0 && c->log.n_unsaved < left;) {
		left = c->log.n_unsaved;
		save(c, coord_persist(c, &pd));
	}
}

void events_stored(struct coord *c, uint64_t ticket, int error)
{
	struct event_log *g = &c->log;

	for (size_t i = g->n, left = g->n_flying; i-- > 0 && left > 0;) {
		left -= g->v[i]->ticket != 0;
		if (g->v[i]->ticket != ticket)
			continue;
		g->v[i]->ticket = 0;
		g->n_flying--;
		g->v[i]->stored = error == 0;
		if (error != 0 && g->n_unsaved++ == 0)
			g->save_at = mono_add_ms(c->now, SAVE_RETRY_MS);
	}
}

int events_load(struct coord *c, const struct rec_row_event *r, struct err *e)
{
	struct kept_event *k;

	if (r->n_event != 1)
		return err_set(e, EINVAL, "a stored event makes no sense");
	k = event_copy(c, &r->event[0]);
	if (k == NULL || append(c, k) < 0) {
		free(k);
		return -ENOMEM;
	}
	k->stored = true;
	return 0;
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = (*(struct kept_event *const *)a)->i.id, y = (*(struct kept_event *const *)b)->i.id;

	return x < y ? -1 : x > y;
}

/* What the events say last of each node's state and verdicts is what was told. */
static void find_told(struct coord *c)
{
	for (size_t i = 0; i < c->log.n; i++) {
		const struct rec_event_info *x = &c->log.v[i]->i;
		struct node *n = x->node != NULL ? node_find(c, x->node) : NULL;
		const struct node_kind *k = node_kind(NULL, x->kind);

		if (n == NULL && x->node != NULL)
			n = node_removed_find(c, x->node); /* it may join again */
		if (n == NULL)
			continue;
		if (k != NULL)
			n->told = k->kind;
		else if (strcmp(x->kind, "verdict.came") == 0)
			verdicts_told(c, n, x->about ^ hash_of(n->name, ""), x->wall_ms, x->src, x->brief);
		else if (strcmp(x->kind, "verdict.gone") == 0)
			verdicts_told(c, n, x->about ^ hash_of(n->name, ""), 0, NULL, NULL);
	}
}

void events_loaded(struct coord *c)
{
	struct event_log *g = &c->log;

	if (g->n > 0)
		qsort(g->v, g->n, sizeof(*g->v), by_id);
	g->next_id = g->n > 0 ? g->v[g->n - 1]->i.id + ID_GAP : 1;
	find_told(c);
}

void events_free(struct coord *c)
{
	struct event_log *g = &c->log;

	for (size_t i = 0; i < g->n; i++)
		free(g->v[i]);
	while (g->n_flaps > 0)
		flap_drop(g, g->n_flaps - 1);
	free(g->v);
	free(g->flaps);
	memset(g, 0, sizeof(*g));
}

/* ---- asked for --------------------------------------------------------------------- */

static bool kind_fits(const char *kind, const char *want)
{
	size_t n = strlen(want);

	return strncmp(kind, want, n) == 0 && (kind[n] == '\0' || kind[n] == '.');
}

static bool fits(const struct rec_event_info *i, const struct rec_events_get *g, const struct hostlist *h)
{
	return (!MSG_HAS(g, events_get, after) || i->id > g->after) &&
	       (!MSG_HAS(g, events_get, since_wall_ms) || i->wall_ms >= g->since_wall_ms) &&
	       (g->kind == NULL || kind_fits(i->kind, g->kind)) &&
	       (!MSG_HAS(g, events_get, job) || i->job == g->job) &&
	       (h == NULL || (i->node != NULL && hostlist_has_sorted(h, i->node)));
}

/* The place of the first one to be told. */
static size_t begin_of(const struct coord *c, const struct rec_events_get *g, const struct hostlist *h, size_t limit)
{
	size_t i = c->log.n, n = 0;

	if (MSG_HAS(g, events_get, after))
		return 0;
	while (i > 0 && n < limit)
		n += fits(&c->log.v[--i]->i, g, h);
	return i;
}

static void answer(struct coord *c, struct clink *l, const struct rec_events_get *g, const struct hostlist *h)
{
	size_t limit = g->limit != 0 && g->limit < PAGE ? g->limit : PAGE;
	struct rec_event_info *v = arena_alloc(&c->out->arena, limit * sizeof(*v));
	struct msg m;

	if (v == NULL) {
		c->oom = true;
		return;
	}
	msg_init(&m, MSG_events);
	m.u.events.rid = g->rid;
	m.u.events.events = v;
	m.u.events.wall_ms = c->wall_ms;
	MSG_SET(&m.u.events, events, last, c->log.n > 0 ? c->log.v[c->log.n - 1]->i.id : 0);
	for (size_t i = begin_of(c, g, h, limit); i < c->log.n; i++) {
		const struct rec_event_info *x = &c->log.v[i]->i;

		if (!fits(x, g, h))
			continue;
		if (m.u.events.n_events == limit) {
			m.u.events.more = true;
			m.u.events.last = v[limit - 1].id;
			break;
		}
		v[m.u.events.n_events] = *x;
		v[m.u.events.n_events].has &= ~(MSG_BIT(event_info, about) | MSG_BIT(event_info, by_user));
		v[m.u.events.n_events].about = 0;
		v[m.u.events.n_events].src = v[m.u.events.n_events].brief = NULL;
		m.u.events.n_events++;
	}
	act_send(c->out, l->id, &m);
}

void events_answer(struct coord *c, struct clink *l, const struct rec_events_get *g)
{
	struct hostlist h;
	struct err e;

	if (g->nodes == NULL) {
		answer(c, l, g, NULL);
		return;
	}
	if (hostlist_parse(g->nodes, &h, &e) < 0) {
		coord_refuse(c, l, g->rid, "bad-request", "%s", e.text);
		return;
	}
	hostlist_sort(&h); /* each event is looked for in it */
	answer(c, l, g, &h);
	hostlist_finish(&h);
}
