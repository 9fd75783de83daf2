/* coord_verdicts.c - what a node's readings mean, and since when that is so
 *
 * Readings seldom tell when a thing began: then it is as old as our knowledge
 * of it. So a node is judged whenever readings come and whenever somebody asks,
 * and of each verdict the first time is kept as long as it is passed again.
 *
 * A verdict that comes or goes is an event; what the events have told is known
 * after a restart, too. Not promised: that times are then better than those of
 * the events; and a node that goes
 * and returns with the same trouble is taken to have had it meanwhile.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

struct seen {
	uint64_t key;
	int64_t since_wall_ms;
	bool clock, gpu; /* what it is about; else ports and the rest */
	char what[160]; /* as its end is told */
};

#define SEEN_MAX 128 /* kept of a node at most */

/* FNV-1a of what the verdict is about and of its kind. */
uint64_t verdict_key(const struct verdicts *v, size_t i)
{
	const char *const parts[] = { v->v[i].subject, v->kind[i].noun != NULL ? v->kind[i].noun : "",
				      v->kind[i].is };
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t k = 0; k < 3; k++)
		for (const char *s = parts[k];; s++) {
			h = (h ^ (uint8_t)*s) * UINT64_C(1099511628211);
			if (*s == '\0')
				break; /* counted: "ab","c" is not "a","bc" */
		}
	return h;
}

static const struct seen *find(const struct node *n, uint64_t key)
{
	for (size_t i = 0; i < n->n_seen; i++)
		if (n->seen[i].key == key)
			return &n->seen[i];
	return NULL;
}

static bool judged(const struct node *n, bool clock, bool gpu)
{
	const struct rec_readings *r = node_readings(n);

	if (clock)
		return n->has_skew;
	return r != NULL && !verdict_is_out(r, gpu ? "nvml" : "verbs", gpu ? "nvml" : "sysfs");
}

static bool of_clock(struct verdict_kind k)
{
	return k.noun == NULL && strcmp(k.is, "clock") == 0;
}

static bool of_gpu(struct verdict_kind k)
{
	return k.noun != NULL && strcmp(k.noun, "GPU") == 0;
}

bool verdict_judged(const struct node *n, struct verdict_kind k)
{
	return judged(n, of_clock(k), of_gpu(k));
}

/* Was there anything to judge it by? What could not be judged may still be so. */
static bool was_judged(const struct node *n, const struct seen *s)
{
	return judged(n, s->clock, s->gpu);
}

static size_t count_unjudged(const struct node *n)
{
	size_t k = 0;

	for (size_t i = 0; i < n->n_seen; i++)
		k += !was_judged(n, &n->seen[i]);
	return k;
}

static const char *src_of(const struct seen *s)
{
	return s->clock ? "clock" : s->gpu ? "gpu" : NULL;
}

/* Those that are a person's word, or have events of their own, are told where they are made. */
static bool told_elsewhere(const struct verdicts *v, size_t i)
{
	static const char *const kinds[] = { "drained", "unkillable", "unfit", "quarantined" };

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		if (v->kind[i].noun == NULL && strcmp(v->kind[i].is, kinds[k]) == 0)
			return true;
	return false;
}

static void tell_new(struct coord *c, const struct node *n, const struct verdicts *v, size_t i, struct seen *s,
		     const struct seen *before)
{
	const struct rec_attention *x = &v->v[i];

	if (told_elsewhere(v, i))
		return;
	snprintf(s->what, sizeof(s->what), "%.70s: %.80s", x->subject, x->brief != NULL ? x->brief : v->kind[i].is);
	utf8_scrub(s->what);
	if (before == NULL)
		events_verdict(c, n, s->key, true, src_of(s), x, s->what);
}

static void tell_gone(struct coord *c, const struct node *n, const struct seen *s)
{
	if (s->what[0] != '\0')
		events_verdict(c, n, s->key, false, src_of(s), NULL, s->what);
}

/* Before the first readings have come it counts as what could not be judged. */
void verdicts_told(struct coord *c, struct node *n, uint64_t key, int64_t wall_ms, const char *src, const char *brief)
{
	struct seen *s = (struct seen *)find(n, key);

	if (wall_ms == 0) {
		if (s != NULL)
			*s = n->seen[--n->n_seen];
		return;
	}
	if (s != NULL || n->n_seen == SEEN_MAX)
		return;
	s = realloc(n->seen, (n->n_seen + 1) * sizeof(*s));
	if (s == NULL) {
		c->oom = true;
		return;
	}
	n->seen = s;
	s += n->n_seen++;
	*s = (struct seen){ .key = key, .since_wall_ms = wall_ms };
	s->clock = src != NULL && strcmp(src, "clock") == 0;
	s->gpu = src != NULL && strcmp(src, "gpu") == 0;
	snprintf(s->what, sizeof(s->what), "%s", brief != NULL ? brief : "");
}

/* Without memory the old knowledge stays. */
static void remember(struct coord *c, struct node *n, struct verdicts *v)
{
	size_t room = v->n + count_unjudged(n), k = v->n;
	struct seen *seen = room > 0 ? calloc(room, sizeof(*seen)) : NULL;

	if (room > 0 && seen == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < v->n; i++) {
		struct rec_attention *x = &v->v[i];
		const struct seen *before;

		seen[i].key = verdict_key(v, i);
		seen[i].clock = of_clock(v->kind[i]);
		seen[i].gpu = of_gpu(v->kind[i]);
		before = find(n, seen[i].key);
		seen[i].since_wall_ms = before != NULL ? before->since_wall_ms : c->wall_ms;
		if (MSG_HAS(x, attention, since_wall_ms) && x->since_wall_ms <= c->wall_ms)
			seen[i].since_wall_ms = x->since_wall_ms;
		MSG_SET(x, attention, since_wall_ms, seen[i].since_wall_ms);
		tell_new(c, n, v, i, &seen[i], before);
	}
	for (size_t i = 0; i < n->n_seen; i++) {
		bool again = false;

		for (size_t m = 0; m < v->n; m++)
			again = again || seen[m].key == n->seen[i].key;
		if (!again && k < SEEN_MAX && !was_judged(n, &n->seen[i]))
			seen[k++] = n->seen[i];
		else if (!again)
			tell_gone(c, n, &n->seen[i]);
	}
	free(n->seen);
	n->seen = seen;
	n->n_seen = k;
}

static struct verdict_in clock_in(const struct coord *c, const struct node *n)
{
	return (struct verdict_in){ .node = n->name, .readings = node_readings(n), .has_skew = n->has_skew,
				    .is_ref = node_is_ref(c, n), .skew_us = n->skew_us,
				    .skew_error_us = n->skew_error_us };
}

static uint64_t indices_of(const struct node *n, uint64_t slots)
{
	const struct rec_readings *r = node_readings(n);
	uint64_t mask = 0;

	for (size_t i = 0; slots != 0 && r != NULL && i < r->n_gpus; i++)
		if (r->gpus[i].index < 64 && slots & node_gpu_bit(n, &r->gpus[i]))
			mask |= UINT64_C(1) << r->gpus[i].index;
	return mask;
}

bool verdicts_of(struct arena *a, struct coord *c, struct node *n, struct verdicts *ret, struct checks *rows)
{
	struct verdict_in in = clock_in(c, n);

	in.strange_gpus = indices_of(n, node_gpus_strange(c, n));
	in.held_gpus = indices_of(n, n->gpus_held);
	in.rows = rows;
	checks_fill(c, n, &in);
	verdict_node(a, &in, ret);
	hold_verdicts(a, c, n, ret);
	sm_verdicts(a, c, n, ret);
	policy_on_verdicts(c, n, ret);
	clean_verdicts(a, n, ret);
	cordon_verdicts(a, n, ret);
	remember(c, n, ret);
	n->clock_off = verdict_clock_off(&in);
	return n->clock_off;
}

/* Pings come each second, readings seldom. */
void verdicts_on_skew(struct coord *c, struct node *n)
{
	struct verdict_in in = clock_in(c, n);

	if (verdict_clock_off(&in) != n->clock_off)
		verdicts_note(c, n);
}

void verdicts_note(struct coord *c, struct node *n)
{
	struct verdicts v;
	struct arena a;

	arena_init(&a);
	verdicts_of(&a, c, n, &v, NULL);
	arena_finish(&a);
}
