/* bisect.c - see bisect.h */
#include "nccl/bisect.h"

#include <assert.h>
#include <stdlib.h>

enum phase { PAIRS, SUSPECTS, LINKS, GROUPS, OVER };
enum state { UNTRIED, GOOD, SUSPECT, BAD, UNSURE };
#define NOBODY UINT32_MAX

struct node {
	enum state state;
	uint32_t bad_with; /* a good node with which it was bad */
	double got; /* ... and how much that was */
	uint32_t tried; /* how many good partners it has had: moves on to others */
	bool busy; /* in this round */
};

/* Two nodes that were bad together. */
struct link {
	uint32_t a, b;
	double got;
};

struct bisect {
	uint32_t n;
	double floor, usual;
	enum phase phase;
	struct node *node;
	uint32_t *members; /* of the round */
	struct bisect_group *groups;
	double *got; /* of the round's groups */
	size_t n_groups;
	struct link *links; /* bad pairs of the first round */
	size_t n_links;
	uint32_t size; /* of the groups */
	uint32_t rounds;
	struct bisect_finding *findings;
	size_t n_findings, max_findings;
};

struct bisect *bisect_create(uint32_t n, double floor_gbps)
{
	struct bisect *b = calloc(1, sizeof *b);

	assert(n > 0);
	if (b == NULL)
		return NULL;
	b->n = n;
	b->floor = floor_gbps;
	b->max_findings = (size_t)n * 2 + 2;
	b->node = calloc(n, sizeof *b->node);
	b->members = calloc(n, sizeof *b->members);
	b->groups = calloc(n, sizeof *b->groups);
	b->got = calloc(n, sizeof *b->got);
	b->links = calloc(n, sizeof *b->links);
	b->findings = calloc(b->max_findings, sizeof *b->findings);
	if (!b->node || !b->members || !b->groups || !b->got || !b->links || !b->findings) {
		bisect_destroy(b);
		return NULL;
	}
	for (uint32_t i = 0; i < n; i++)
		b->node[i].bad_with = NOBODY;
	return b;
}

void bisect_destroy(struct bisect *b)
{
	if (b == NULL)
		return;
	free(b->node);
	free(b->members);
	free(b->groups);
	free(b->got);
	free(b->links);
	free(b->findings);
	free(b);
}

static void find(struct bisect *b, struct bisect_finding f)
{
	f.usual = b->usual;
	if (b->n_findings < b->max_findings)
		b->findings[b->n_findings++] = f;
}

static double limit(const struct bisect *b)
{
	return b->floor > 0 ? b->floor : BISECT_RATIO * b->usual;
}

static bool is_bad(const struct bisect *b, double got)
{
	return got < 0 || got < limit(b);
}

static int by_size(const void *x, const void *y)
{
	const double *a = x, *c = y;

	return *a < *c ? -1 : *a > *c;
}

/* The upper quartile of what worked. */
static double upper_quartile(const double *v, size_t n, double *sorted)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (v[i] >= 0)
			sorted[k++] = v[i];
	if (k == 0)
		return 0;
	qsort(sorted, k, sizeof *sorted, by_size);
	return sorted[(k * 3) / 4 < k ? (k * 3) / 4 : k - 1];
}

/* ---- making a round ------------------------------------------------------------ */

static void begin_round(struct bisect *b)
{
	b->n_groups = 0;
	for (uint32_t i = 0; i < b->n; i++)
		b->node[i].busy = false;
}

static uint32_t used(const struct bisect *b)
{
	return b->n_groups ? b->groups[b->n_groups - 1].at + b->groups[b->n_groups - 1].n : 0;
}

static void add_pair(struct bisect *b, uint32_t x, uint32_t y)
{
	uint32_t at = used(b);

	b->members[at] = x;
	b->members[at + 1] = y;
	b->node[x].busy = b->node[y].busy = true;
	b->groups[b->n_groups] = (struct bisect_group){ at, 2 };
	b->got[b->n_groups++] = -1;
}

/* A good node that is free in this round: not the one it was bad with. */
static uint32_t partner_for(const struct bisect *b, uint32_t suspect)
{
	const struct node *s = &b->node[suspect];

	for (uint32_t i = 0; i < b->n; i++) {
		uint32_t k = (suspect + 1 + s->tried + i) % b->n;

		if (b->node[k].state == GOOD && k != s->bad_with && !b->node[k].busy)
			return k;
	}
	return NOBODY;
}

static void pair_suspects(struct bisect *b)
{
	for (uint32_t i = 0; i < b->n; i++) {
		struct node *s = &b->node[i];
		uint32_t with = NOBODY;

		if ((s->state == SUSPECT || s->state == UNTRIED) && !s->busy)
			with = partner_for(b, i);
		if (with != NOBODY) {
			s->tried++;
			add_pair(b, i, with);
		}
	}
}

/* Bad pairs whose both ends are cleared by others. */
static void pair_links(struct bisect *b)
{
	for (size_t i = 0; i < b->n_links; i++) {
		const struct link *l = &b->links[i];

		if (b->node[l->a].state == GOOD && b->node[l->b].state == GOOD && !b->node[l->a].busy &&
		    !b->node[l->b].busy)
			add_pair(b, l->a, l->b);
	}
}

static void make_groups(struct bisect *b)
{
	for (uint32_t at = 0; at < b->n; at += b->size) {
		uint32_t n = b->n - at < b->size ? b->n - at : b->size;

		for (uint32_t i = 0; i < n; i++)
			b->members[at + i] = at + i;
		if (n < 2)
			continue;
		b->groups[b->n_groups] = (struct bisect_group){ at, n };
		b->got[b->n_groups++] = -1;
	}
}

/* ---- what a round has told ---------------------------------------------------------- */

static void mark(struct bisect *b, uint32_t node, enum state s)
{
	b->node[node].state = s;
}

static void after_pairs(struct bisect *b)
{
	double *sorted = calloc(b->n_groups + 1, sizeof *sorted);
	bool any_good = false;

	if (sorted != NULL)
		b->usual = upper_quartile(b->got, b->n_groups, sorted);
	free(sorted);
	for (size_t k = 0; k < b->n_groups; k++) {
		uint32_t x = b->members[b->groups[k].at], y = b->members[b->groups[k].at + 1];
		bool bad = is_bad(b, b->got[k]);

		mark(b, x, bad ? SUSPECT : GOOD);
		mark(b, y, bad ? SUSPECT : GOOD);
		any_good = any_good || !bad;
		if (bad)
			b->links[b->n_links++] = (struct link){ x, y, b->got[k] };
	}
	b->phase = SUSPECTS;
	if (any_good || b->n_groups == 0)
		return;
	find(b, (struct bisect_finding){ .kind = BISECT_ALL, .size = 2, .got = b->got[0] });
	b->phase = OVER;
}

/* s was bad with a good node for the second time, or good. */
static void judge_suspect(struct bisect *b, uint32_t i, uint32_t with, double got)
{
	struct node *s = &b->node[i];

	if (!is_bad(b, got)) {
		if (s->bad_with != NOBODY)
			find(b, (struct bisect_finding){ .kind = BISECT_LINK, .a = i, .b = s->bad_with, .got = s->got });
		s->state = GOOD;
	} else if (s->bad_with == NOBODY) {
		s->bad_with = with;
		s->got = got;
		s->state = SUSPECT;
	} else {
		s->state = BAD;
		find(b, (struct bisect_finding){ .kind = BISECT_NODE, .a = i, .got = got });
	}
}

static void after_suspects(struct bisect *b)
{
	for (size_t k = 0; k < b->n_groups; k++)
		judge_suspect(b, b->members[b->groups[k].at], b->members[b->groups[k].at + 1], b->got[k]);
}

static void after_links(struct bisect *b)
{
	for (size_t k = 0; k < b->n_groups; k++) {
		uint32_t x = b->members[b->groups[k].at], y = b->members[b->groups[k].at + 1];

		if (is_bad(b, b->got[k]))
			find(b, (struct bisect_finding){ .kind = BISECT_LINK, .a = x, .b = y, .got = b->got[k] });
	}
	b->phase = GROUPS;
}

static void after_groups(struct bisect *b)
{
	for (size_t k = 0; k < b->n_groups; k++) {
		if (!is_bad(b, b->got[k]))
			continue;
		find(b, (struct bisect_finding){ .kind = BISECT_FABRIC, .size = b->size, .got = b->got[k],
						 .a = b->members[b->groups[k].at],
						 .b = b->members[b->groups[k].at + b->groups[k].n - 1] });
		b->phase = OVER;
	}
}

static void take_results(struct bisect *b)
{
	switch (b->phase) {
	case PAIRS:
		after_pairs(b);
		break;
	case SUSPECTS:
		after_suspects(b);
		break;
	case LINKS:
		after_links(b);
		break;
	case GROUPS:
		after_groups(b);
		break;
	case OVER:
		break;
	}
}

/* No good node is left that it has not been bad with. */
static void give_up_suspects(struct bisect *b)
{
	for (uint32_t i = 0; i < b->n; i++) {
		struct node *s = &b->node[i];

		if (s->state != SUSPECT)
			continue;
		s->state = UNSURE;
		find(b, (struct bisect_finding){ .kind = BISECT_UNSURE, .a = i, .got = s->got });
	}
}

static void plan(struct bisect *b)
{
	begin_round(b);
	if (b->phase == SUSPECTS) {
		pair_suspects(b);
		if (b->n_groups > 0)
			return;
		give_up_suspects(b);
		b->phase = LINKS;
	}
	if (b->phase == LINKS) {
		pair_links(b);
		if (b->n_groups > 0)
			return;
		b->phase = GROUPS;
	}
	if (b->phase == GROUPS && b->n_findings == 0 && b->size < b->n) {
		b->size = b->size == 0 ? 4 : b->size * 2;
		if (b->n > 2)
			make_groups(b);
	}
}

struct bisect_round bisect_next(struct bisect *b)
{
	if (b->rounds == 0) {
		for (uint32_t i = 0; i + 1 < b->n; i += 2)
			add_pair(b, i, i + 1);
	} else {
		take_results(b);
		plan(b);
	}
	if (b->n_groups > 0)
		b->rounds++;
	return (struct bisect_round){ b->members, b->groups, b->n_groups };
}

void bisect_tell(struct bisect *b, size_t k, double gbps)
{
	assert(k < b->n_groups);
	b->got[k] = gbps;
}

uint32_t bisect_rounds(const struct bisect *b)
{
	return b->rounds;
}

size_t bisect_findings(const struct bisect *b, const struct bisect_finding **ret)
{
	*ret = b->findings;
	return b->n_findings;
}
