/* lost.c - see lost.h */
#include "io/lost.h"

#include <stdlib.h>

static uint64_t total(const struct lost *l)
{
	uint64_t n = 0;

	for (uint32_t i = 0; l->ranks != NULL && i < l->n; i++)
		n += l->ranks[i].all;
	return n;
}

/* Counts only grow; who tells the older one was overtaken. */
static bool rank_lost(struct lost *l, uint32_t local, uint64_t bytes)
{
	if (l->ranks == NULL || local >= l->n || bytes <= l->ranks[local].all)
		return false;
	l->ranks[local].all = bytes;
	return true;
}

static bool stream_lost(struct lost *l, uint32_t local, uint32_t fd, uint64_t bytes)
{
	uint64_t *of = l->ranks != NULL && local < l->n ? l->ranks[local].of : NULL;

	if (of == NULL || fd == 0 || bytes <= of[fd - 1])
		return false;
	of[fd - 1] = bytes;
	return rank_lost(l, local, of[0] + of[1]);
}

/* The first rank that has lost something since, by its local number; -1: none. */
static int64_t take_ranks(struct lost *l, uint32_t rank_base, const struct rec_rank_state *v, size_t n)
{
	int64_t first = -1;

	for (size_t i = 0; i < n; i++)
		if (v[i].rank >= rank_base && rank_lost(l, v[i].rank - rank_base, v[i].lost_bytes) && first < 0)
			first = v[i].rank - rank_base;
	return first;
}

static int64_t take(struct lost *l, uint32_t rank_base, const struct msg *m)
{
	int64_t first = -1;

	if (m->type == MSG_shim_ended)
		return take_ranks(l, rank_base, m->u.shim_ended.ranks, m->u.shim_ended.n_ranks);
	if (m->type == MSG_ranks)
		return take_ranks(l, rank_base, m->u.ranks.ranks, m->u.ranks.n_ranks);
	for (size_t i = 0; m->type == MSG_shim_grown && i < m->u.shim_grown.n_outs; i++) {
		const struct rec_grown *g = &m->u.shim_grown.outs[i];

		if (stream_lost(l, g->local, g->fd, g->lost) && first < 0)
			first = g->local;
	}
	return first;
}

enum lost_say lost_step(struct lost *l, uint32_t nprocs, uint32_t rank_base, const struct msg *m, mono_t now,
			uint64_t *ret)
{
	uint64_t before;
	int64_t first;

	if (l->ranks == NULL && nprocs > 0 && (l->ranks = calloc(nprocs, sizeof(*l->ranks))) != NULL)
		l->n = nprocs;
	before = total(l);
	first = take(l, rank_base, m);
	if (first >= 0)
		l->at = now;
	if (first >= 0 && !l->losing) {
		l->losing = true;
		l->before = before;
		*ret = rank_base + (uint64_t)first;
		return LOST_BEGINS;
	}
	if (!l->losing || (m->type != MSG_shim_ended && (m->type != MSG_shim_grown || first >= 0 ||
							 mono_sub_ms(now, l->at) < LOST_QUIET_MS)))
		return LOST_NOTHING;
	l->losing = false;
	*ret = total(l) - l->before;
	return LOST_ENDS;
}

void lost_finish(struct lost *l)
{
	free(l->ranks);
	*l = (struct lost){ 0 };
}
