/* coord_base.c - how fast 'check nccl' found nodes, and what a run is compared with
 *
 * A set is what may be compared with its like: inside of a node or between such
 * nodes, so many ranks on such GPUs, arrays of such a size, under the same NCCL_
 * variables, NCCL and driver. How the data went is none of it: a fall from InfiniBand
 * to sockets must not begin a baseline of its own. Each set is a row on disk with its
 * last runs and its baseline (common/nccl_base.h); the sets are at most SETS_MAX, the one
 * that was checked longest ago goes.
 *
 * Whose word counts: a run is what somebody's nodectl says, and nobody can tell from
 * here whether it happened. So only administrators' runs are kept and told as events; all
 * others are compared, and leave no trace.
 *
 * A set that is new is compared with that of the same nodes whose conditions are the
 * nearest, else with other nodes of its kind: this is told as a warning. A run that is
 * slow then does not begin a baseline either, unless it is said to ('anew'): else a new
 * node that is slow would be as it should be from its second run on.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/nccl_base.h"

#define SETS_MAX 4096u
#define RUNS_MAX 8u /* as in messages.def: NCCL_BASE_RUNS good ones, and others */
#define OPS_MAX 16u /* as in messages.def */
#define PEERS_MIN 3u
#define PEERS_MAX 64u
#define PAGE 32u

struct kept_base {
	uint64_t key;
	struct msg row; /* row_base, its own memory */
};

static const struct rec_nccl_set *set_of(const struct kept_base *k)
{
	return &k->row.u.row_base.set[0];
}

static bool same_text(const char *a, const char *b)
{
	return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

/* ---- which set --------------------------------------------------------------------- */

static uint64_t hash_text(uint64_t h, const char *s)
{
	for (s = s != NULL ? s : "";; s++) {
		h = (h ^ (uint8_t)*s) * UINT64_C(1099511628211);
		if (*s == '\0')
			return h;
	}
}

static uint64_t key_of(const struct rec_nccl_set *s)
{
	const char *const texts[] = { s->scope, s->nodes, s->gpu, s->env, s->nccl, s->driver };
	uint64_t h = UINT64_C(14695981039346656037);
	char numbers[24];

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		h = hash_text(h, texts[i]);
	snprintf(numbers, sizeof(numbers), "%u %u", s->ranks, s->mib);
	return hash_text(h, numbers);
}

/* The first place with this key or a higher one. */
static size_t place_of_key(const struct coord *c, uint64_t key)
{
	size_t low = 0, high = c->base.n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (c->base.v[mid].key < key)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct kept_base *find(const struct coord *c, uint64_t key)
{
	size_t at = place_of_key(c, key);

	return at < c->base.n && c->base.v[at].key == key ? &c->base.v[at] : NULL;
}

static unsigned conditions_alike(const struct rec_nccl_set *a, const struct rec_nccl_set *b)
{
	return (unsigned)same_text(a->gpu, b->gpu) + same_text(a->env, b->env) + same_text(a->nccl, b->nccl) +
	       same_text(a->driver, b->driver);
}

static bool same_conditions(const struct rec_nccl_set *a, const struct rec_nccl_set *b)
{
	return conditions_alike(a, b) == 4;
}

static bool same_size(const struct rec_nccl_set *a, const struct rec_nccl_set *b)
{
	return a->ranks == b->ranks && a->mib == b->mib && strcmp(a->scope, b->scope) == 0;
}

static int64_t last_of(const struct rec_nccl_set *s, bool good, const struct rec_nccl_run **ret)
{
	for (size_t i = s->n_runs; i-- > 0;)
		if (s->runs[i].good || !good) {
			if (ret != NULL)
				*ret = &s->runs[i];
			return s->runs[i].wall_ms;
		}
	return 0;
}

/* ---- kept ----------------------------------------------------------------------------- */

static int insert(struct coord *c, size_t at, uint64_t key, const struct msg *row)
{
	struct base_log *g = &c->base;
	struct msg copy;
	int r;

	if (g->n == g->cap) {
		size_t cap = g->cap > 0 ? 2 * g->cap : 16;
		struct kept_base *v = realloc(g->v, cap * sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		g->v = v;
		g->cap = cap;
	}
	r = msg_copy(row, &copy);
	if (r < 0)
		return r;
	memmove(&g->v[at + 1], &g->v[at], (g->n - at) * sizeof(*g->v));
	g->v[at] = (struct kept_base){ .key = key, .row = copy };
	g->n++;
	return 0;
}

static void drop(struct coord *c, size_t at)
{
	struct base_log *g = &c->base;

	msg_finish(&g->v[at].row);
	memmove(&g->v[at], &g->v[at + 1], (--g->n - at) * sizeof(*g->v));
}

int base_load(struct coord *c, const struct msg *row, struct err *e)
{
	const struct rec_row_base *r = &row->u.row_base;
	uint64_t key;

	if (r->n_set != 1)
		return err_set(e, EINVAL, "a stored run of check nccl makes no sense");
	key = key_of(&r->set[0]);
	if (find(c, key) != NULL)
		return 0;
	return insert(c, place_of_key(c, key), key, row);
}

void base_free(struct coord *c)
{
	for (size_t i = 0; i < c->base.n; i++)
		msg_finish(&c->base.v[i].row);
	free(c->base.v);
	memset(&c->base, 0, sizeof(c->base));
}

static void row(struct coord *c, struct action *p, const struct kept_base *k, bool out)
{
	char key[24];

	snprintf(key, sizeof(key), "%016" PRIx64, k->key);
	act_row(c->out, p, TABLE_BASE, key, out ? NULL : &k->row);
}

/* The one checked longest ago goes, never 'but'. */
static void evict(struct coord *c, struct action *p, uint64_t but)
{
	struct base_log *g = &c->base;
	size_t oldest = g->n;

	for (size_t i = 0; i < g->n; i++)
		if (g->v[i].key != but && (oldest == g->n || last_of(set_of(&g->v[i]), false, NULL) <
								     last_of(set_of(&g->v[oldest]), false, NULL)))
			oldest = i;
	if (g->n <= SETS_MAX || oldest == g->n)
		return;
	row(c, p, &g->v[oldest], true);
	drop(c, oldest);
}

static void keep_row(struct coord *c, struct action *p, uint64_t key, struct rec_nccl_set *s)
{
	struct kept_base *k = find(c, key);
	struct msg m;

	msg_init(&m, MSG_row_base);
	m.u.row_base.set = s;
	m.u.row_base.n_set = 1;
	if (k == NULL) {
		if (insert(c, place_of_key(c, key), key, &m) < 0) {
			c->oom = true;
			return;
		}
		evict(c, p, key);
		k = find(c, key);
	} else {
		struct msg copy;

		if (msg_copy(&m, &copy) < 0) { /* s may point into what is there */
			c->oom = true;
			return;
		}
		msg_finish(&k->row);
		k->row = copy;
	}
	row(c, p, k, false);
}

/* ---- compared -------------------------------------------------------------------------- */

static uint32_t speed_in(const struct rec_nccl_speed *v, size_t n, const char *op)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i].op, op) == 0)
			return v[i].mb_s;
	return 0;
}

static void add_difference(char *text, size_t size, const char *what, const char *was, const char *is)
{
	size_t at = strlen(text);

	if (!same_text(was, is))
		snprintf(text + at, size - at, "%s%s%.60s then, %.60s now", at > 0 ? "; " : "", what,
			 was != NULL && *was != '\0' ? was : "none", is != NULL && *is != '\0' ? is : "none");
}

/* A copy: a run that is kept takes the place of what it is compared with. */
static void tell_base(struct arena *a, const struct rec_nccl_set *s, struct rec_nccl_told *t)
{
	const struct rec_nccl_run *last = NULL;

	t->base = arena_memdup(a, s->base, s->n_base * sizeof(*t->base));
	t->n_base = t->base != NULL ? s->n_base : 0;
	for (size_t i = 0; i < t->n_base; i++)
		t->base[i].op = arena_strdup(a, s->base[i].op);
	t->good = s->good;
	last_of(s, true, &last);
	if (last != NULL) {
		MSG_SET(t, nccl_told, last_wall_ms, last->wall_ms);
		t->how = last->how != NULL ? arena_strdup(a, last->how) : NULL;
	}
}

/* More alike, or as much so and newer. */
static bool is_nearer(const struct rec_nccl_set *x, const struct rec_nccl_set *best, const struct rec_nccl_set *s)
{
	unsigned a = conditions_alike(x, s), b = best != NULL ? conditions_alike(best, s) : 0;

	return best == NULL || a > b || (a == b && last_of(x, true, NULL) > last_of(best, true, NULL));
}

/* The same nodes under other conditions, the nearest of them. */
static bool tell_other_conditions(struct arena *a, const struct coord *c, const struct rec_nccl_set *s,
				  struct rec_nccl_told *t)
{
	const struct rec_nccl_set *best = NULL;
	char text[300] = "";

	for (size_t i = 0; i < c->base.n; i++) {
		const struct rec_nccl_set *x = set_of(&c->base.v[i]);

		if (x->n_base > 0 && same_size(x, s) && strcmp(x->nodes, s->nodes) == 0 && !same_conditions(x, s) &&
		    is_nearer(x, best, s))
			best = x;
	}
	if (best == NULL)
		return false;
	add_difference(text, sizeof(text), "NCCL ", best->nccl, s->nccl);
	add_difference(text, sizeof(text), "driver ", best->driver, s->driver);
	add_difference(text, sizeof(text), "", best->gpu, s->gpu);
	add_difference(text, sizeof(text), "settings ", best->env, s->env);
	tell_base(a, best, t);
	t->other = arena_strdup(a, text);
	return true;
}

/* Nodes of this kind, at most PEERS_MAX: anybody may ask, so it must not take long. */
static size_t find_peers(const struct coord *c, const struct rec_nccl_set *s, const struct rec_nccl_set *ret[PEERS_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < c->base.n && n < PEERS_MAX; i++) {
		const struct rec_nccl_set *x = set_of(&c->base.v[i]);

		if (x->n_base > 0 && same_size(x, s) && same_conditions(x, s))
			ret[n++] = x;
	}
	return n;
}

/* The inside of a node that is new: the median of those of its kind. */
static bool tell_peers(struct arena *a, const struct coord *c, const struct rec_nccl_set *s, struct rec_nccl_told *t)
{
	const struct rec_nccl_set *peers[PEERS_MAX];
	const struct rec_nccl_run *run = &s->runs[0];
	size_t n_peers = strcmp(s->scope, "inside") == 0 ? find_peers(c, s, peers) : 0;

	if (n_peers < PEERS_MIN || (t->base = arena_alloc(a, OPS_MAX * sizeof(*t->base))) == NULL)
		return false;
	for (size_t k = 0; k < run->n_speeds; k++) {
		uint32_t n = 0, v[PEERS_MAX];

		for (size_t i = 0; i < n_peers; i++) {
			v[n] = speed_in(peers[i]->base, peers[i]->n_base, run->speeds[k].op);
			n += v[n] > 0;
		}
		if (n >= PEERS_MIN)
			t->base[t->n_base++] = (struct rec_nccl_speed){ .op = run->speeds[k].op, .mb_s = nccl_base_median(v, n) };
	}
	if (t->n_base > 0)
		t->other = arena_printf(a, "it is new, and compared with %zu other nodes of its kind", n_peers);
	return t->n_base > 0;
}

/* Between other nodes of this kind: no figure to compare with, but worth a word. */
static void tell_other_nodes(struct arena *a, const struct coord *c, const struct rec_nccl_set *s, struct rec_nccl_told *t)
{
	const struct rec_nccl_set *best = NULL;

	for (size_t i = 0; i < c->base.n && strcmp(s->scope, "between") == 0; i++) {
		const struct rec_nccl_set *x = set_of(&c->base.v[i]);

		if (x->n_base > 0 && strcmp(x->scope, s->scope) == 0 && x->mib == s->mib && same_conditions(x, s) &&
		    (best == NULL || last_of(x, true, NULL) > last_of(best, true, NULL)))
			best = x;
	}
	if (best != NULL)
		t->other = arena_printf(a, "there is one of %.200s", best->nodes);
}

static void tell_one(struct arena *a, const struct coord *c, const struct rec_nccl_set *s, struct rec_nccl_told *t)
{
	const struct kept_base *k = find(c, key_of(s));

	memset(t, 0, sizeof(*t));
	if (k != NULL && set_of(k)->n_base > 0)
		tell_base(a, set_of(k), t);
	else if (!tell_other_conditions(a, c, s, t) && !tell_peers(a, c, s, t))
		tell_other_nodes(a, c, s, t);
}

/* ---- a run that is kept ------------------------------------------------------------------ */

/* The operation that is furthest below, all_reduce where others are as bad; NULL: none is slow. */
static const struct rec_nccl_speed *slowest(const struct rec_nccl_told *was, const struct rec_nccl_run *run, uint32_t percent,
					    uint32_t *ret_base)
{
	const struct rec_nccl_speed *worst = NULL;

	for (size_t i = 0; i < run->n_speeds; i++) {
		uint32_t base = speed_in(was->base, was->n_base, run->speeds[i].op);

		uint64_t much = strcmp(run->speeds[i].op, "all_reduce") == 0 ? 101 : 99; /* hundredths */

		if (!nccl_base_slow(run->speeds[i].mb_s, base, percent) ||
		    (worst != NULL && (double)run->speeds[i].mb_s * *ret_base * 100 >= (double)worst->mb_s * base * (double)much))
			continue;
		worst = &run->speeds[i];
		*ret_base = base;
	}
	return worst;
}

static void tell_event(struct coord *c, const struct rec_nccl_set *s, uint64_t key, const struct rec_nccl_speed *worst,
		       uint32_t base)
{
	bool inside = strcmp(s->scope, "inside") == 0;
	struct event_in in = { .kind = worst != NULL ? "nccl.slow" : "nccl.ok", .about = key != 0 ? key : 1,
			       .severity = worst != NULL ? "bad" : "info", .node = inside && node_name_valid(s->nodes) ? s->nodes : NULL };

	if (worst != NULL)
		events_add(c, &in, "check nccl %s %.200s: %s %.1f GB/s, %" PRIu64 " %% of its baseline of %.1f",
			   inside ? "inside" : "between", s->nodes, worst->op, worst->mb_s / 1000.0,
			   ((uint64_t)worst->mb_s * 200 / base + 1) / 2, base / 1000.0);
	else
		events_add(c, &in, "check nccl %s %.200s: as fast as its baseline again", inside ? "inside" : "between", s->nodes);
}

/* Too many: the oldest of those that do not count, unless these are few. */
static void trim(struct rec_nccl_run *v, size_t *n)
{
	size_t out = *n, bad = 0;

	if (*n <= RUNS_MAX)
		return;
	for (size_t i = 0; i < *n; i++)
		bad += !v[i].good;
	for (size_t i = *n; i-- > 0;)
		if (v[i].good == (bad <= RUNS_MAX - NCCL_BASE_RUNS))
			out = i;
	memmove(&v[out], &v[out + 1], (--*n - out) * sizeof(*v));
}

/* With its newest run, which is good, among s->runs. */
static void raise_base(struct rec_nccl_set *s, struct rec_nccl_speed *base)
{
	const struct rec_nccl_run *run = &s->runs[s->n_runs - 1];

	for (size_t k = 0; k < run->n_speeds; k++) {
		uint32_t v[NCCL_BASE_RUNS], before = speed_in(s->base, s->n_base, run->speeds[k].op);
		size_t n = 0, at = 0;

		for (size_t i = s->n_runs; i-- > 0 && n < NCCL_BASE_RUNS;) {
			v[n] = s->runs[i].good ? speed_in(s->runs[i].speeds, s->runs[i].n_speeds, run->speeds[k].op) : 0;
			n += v[n] > 0;
		}
		while (at < s->n_base && strcmp(base[at].op, run->speeds[k].op) != 0)
			at++;
		if (n == 0 || at == OPS_MAX)
			continue;
		s->n_base = at == s->n_base ? at + 1 : s->n_base;
		base[at] = (struct rec_nccl_speed){ .op = run->speeds[k].op, .mb_s = nccl_base_next(before, v, n) };
	}
}

static void keep(struct coord *c, struct action *p, const struct clink *l, const struct rec_nccl_set *set,
		 const struct rec_nccl_told *told, const struct rec_base_put *r)
{
	uint64_t key = key_of(set);
	const struct kept_base *k = find(c, key);
	const struct rec_nccl_set *was = k != NULL && !r->anew ? set_of(k) : NULL;
	struct rec_nccl_run runs[RUNS_MAX + 1], *run;
	struct rec_nccl_speed base[OPS_MAX];
	struct rec_nccl_set s = *set;
	uint32_t of = 0;
	const struct rec_nccl_speed *worst = r->anew ? NULL : slowest(told, &set->runs[0], r->percent, &of);

	s.runs = runs;
	s.base = base;
	s.n_base = was != NULL ? was->n_base : 0;
	s.good = was != NULL ? was->good : 0;
	s.n_runs = was != NULL ? was->n_runs : 0;
	if (s.n_runs > 0)
		memcpy(runs, was->runs, s.n_runs * sizeof(*runs));
	if (s.n_base > 0)
		memcpy(base, was->base, s.n_base * sizeof(*base));
	run = &runs[s.n_runs++];
	*run = set->runs[0];
	MSG_SET(run, nccl_run, wall_ms, c->wall_ms);
	run->by = l->user[0] != '\0' ? l->user : NULL;
	run->good = run->good && worst == NULL;
	if (run->good) {
		s.good++;
		raise_base(&s, base);
	}
	trim(runs, &s.n_runs);
	s.slow = worst != NULL && told->other == NULL;
	if (s.slow != (k != NULL && set_of(k)->slow))
		tell_event(c, &s, key, s.slow ? worst : NULL, of);
	keep_row(c, p, key, &s);
}

/* ---- asked ------------------------------------------------------------------------------- */

void base_on_put(struct coord *c, struct clink *l, const struct rec_base_put *r)
{
	struct rec_nccl_told *v = arena_alloc(&c->out->arena, r->n_sets * sizeof(*v) + 1);
	struct pending *pd;
	struct action *p;
	struct msg m;

	for (size_t i = 0; i < r->n_sets; i++)
		if (r->sets[i].n_runs != 1) {
			coord_refuse(c, l, r->rid, "bad-request", "each set of a check has one run");
			return;
		}
	if (v == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < r->n_sets; i++)
		tell_one(&c->out->arena, c, &r->sets[i], &v[i]);
	msg_init(&m, MSG_base_told);
	m.u.base_told.rid = r->rid;
	m.u.base_told.told = v;
	m.u.base_told.n_told = r->n_sets;
	m.u.base_told.kept = r->keep && r->n_sets > 0 && l->who == WHO_LOCAL && l->admin;
	if (!m.u.base_told.kept) {
		act_send(c->out, l->id, &m);
		return;
	}
	p = coord_persist(c, &pd);
	reply_when_stored(c, pd, l, r->rid, &m); /* encoded here and now: what it points to changes below */
	for (size_t i = 0; i < r->n_sets; i++)
		keep(c, p, l, &r->sets[i], &v[i], r);
}

static bool is_meant(const struct rec_nccl_set *s, const struct hostlist *h)
{
	struct hostlist in;
	struct err e;
	bool yes = false;

	if (h == NULL || hostlist_has_sorted(h, s->nodes))
		return true;
	if (hostlist_parse(s->nodes, &in, &e) < 0)
		return false; /* too many to be named */
	for (size_t i = 0; i < in.count && !yes; i++)
		yes = hostlist_has_sorted(h, in.names[i]);
	hostlist_finish(&in);
	return yes;
}

static void answer(struct coord *c, struct clink *l, const struct rec_base_get *g, const struct hostlist *h)
{
	struct rec_nccl_set *v = arena_alloc(&c->out->arena, PAGE * sizeof(*v));
	struct msg m;

	if (v == NULL) {
		c->oom = true;
		return;
	}
	msg_init(&m, MSG_base_list);
	m.u.base_list.rid = g->rid;
	m.u.base_list.sets = v;
	for (size_t i = 0; i < c->base.n && !m.u.base_list.more; i++) {
		const struct kept_base *k = &c->base.v[i];

		if ((MSG_HAS(g, base_get, after) && k->key <= g->after) || !is_meant(set_of(k), h))
			continue;
		if (m.u.base_list.n_sets == PAGE) {
			m.u.base_list.more = true;
			break;
		}
		MSG_SET(&m.u.base_list, base_list, last, k->key);
		v[m.u.base_list.n_sets++] = *set_of(k);
	}
	act_send(c->out, l->id, &m);
}

void base_answer(struct coord *c, struct clink *l, const struct rec_base_get *g)
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
	hostlist_sort(&h);
	if (h.count > JOB_NODES_MAX) /* each is looked for in each set, and nobody else is served meanwhile */
		coord_refuse(c, l, g->rid, "bad-request", "%zu nodes are too many at a time: %u at most", h.count, JOB_NODES_MAX);
	else
		answer(c, l, g, &h);
	hostlist_finish(&h);
}
