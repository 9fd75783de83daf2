/* gather.c - answers that come in pieces, see gather.h */
#include "client/gather.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool has_more(const struct msg *m)
{
	if (m->type == MSG_checks)
		return m->u.checks.more;
	return m->type == MSG_status ? m->u.status.more : m->type == MSG_jobs && m->u.jobs.more;
}

static bool keep(struct gathered *g, const struct msg *m)
{
	struct msg *more = realloc(g->pieces, (g->n + 1) * sizeof(*more));

	if (!more)
		return false;
	more[g->n++] = *m;
	g->pieces = more;
	return true;
}

static struct rec_job_info *job_list(struct msg *m, size_t **ret_n)
{
	if (m->type == MSG_status) {
		*ret_n = &m->u.status.n_jobs;
		return m->u.status.jobs;
	}
	*ret_n = &m->u.jobs.n_jobs;
	return m->u.jobs.jobs;
}

/* The ranks of a job that has come again are appended to those it has. */
static bool add_ranks(struct arena *a, struct rec_job_info *to, const struct rec_job_info *from)
{
	struct rec_rank_state *ranks = arena_alloc(a, (to->n_ranks + from->n_ranks + 1) * sizeof(*ranks));

	if (!ranks)
		return false;
	if (to->n_ranks)
		memcpy(ranks, to->ranks, to->n_ranks * sizeof(*ranks));
	if (from->n_ranks)
		memcpy(ranks + to->n_ranks, from->ranks, from->n_ranks * sizeof(*ranks));
	to->ranks = ranks;
	to->n_ranks += from->n_ranks;
	return true;
}

static bool merge_jobs(struct gathered *g)
{
	size_t total = 0, *n, *n_all;
	struct rec_job_info *jobs;

	for (size_t i = 0; i < g->n; i++) {
		job_list(&g->pieces[i], &n);
		total += *n;
	}
	jobs = arena_alloc(&g->all.arena, (total + 1) * sizeof(*jobs));
	if (!jobs)
		return false;
	if (g->all.type == MSG_status)
		g->all.u.status.jobs = jobs;
	else
		g->all.u.jobs.jobs = jobs;
	job_list(&g->all, &n_all);
	*n_all = 0;
	for (size_t i = 0; i < g->n; i++) {
		const struct rec_job_info *from = job_list(&g->pieces[i], &n);

		for (size_t k = 0; k < *n; k++) {
			if (!*n_all || jobs[*n_all - 1].job != from[k].job)
				jobs[(*n_all)++] = from[k];
			else if (!add_ranks(&g->all.arena, &jobs[*n_all - 1], &from[k]))
				return false;
		}
	}
	return true;
}

static bool merge_nodes(struct gathered *g)
{
	struct rec_status *all = &g->all.u.status;
	struct rec_node_info *nodes;
	size_t total = 0;

	for (size_t i = 0; i < g->n; i++)
		total += g->pieces[i].u.status.n_nodes;
	nodes = arena_alloc(&g->all.arena, (total + 1) * sizeof(*nodes));
	if (!nodes)
		return false;
	all->nodes = nodes;
	all->n_nodes = 0;
	for (size_t i = 0; i < g->n; i++) {
		const struct rec_status *s = &g->pieces[i].u.status;

		if (s->n_nodes)
			memcpy(nodes + all->n_nodes, s->nodes, s->n_nodes * sizeof(*nodes));
		all->n_nodes += s->n_nodes;
	}
	return true;
}

/* The last piece has the counts. */
static bool merge_checks(struct gathered *g)
{
	struct rec_checks *all = &g->all.u.checks;
	struct rec_check_row *rows;
	size_t total = 0;

	for (size_t i = 0; i < g->n; i++)
		total += g->pieces[i].u.checks.n_rows;
	rows = arena_alloc(&g->all.arena, (total + 1) * sizeof(*rows));
	if (!rows)
		return false;
	*all = g->pieces[g->n - 1].u.checks;
	all->rows = rows;
	all->n_rows = 0;
	for (size_t i = 0; i < g->n; i++) {
		const struct rec_checks *k = &g->pieces[i].u.checks;

		if (k->n_rows)
			memcpy(rows + all->n_rows, k->rows, k->n_rows * sizeof(*rows));
		all->n_rows += k->n_rows;
	}
	return true;
}

/* The usual answer is one piece and is taken as it is. */
static bool merge(struct gathered *g)
{
	g->all = g->pieces[0];
	arena_init(&g->all.arena);
	if (g->n == 1)
		return true;
	if (g->all.type == MSG_checks)
		return merge_checks(g);
	return merge_jobs(g) && (g->all.type != MSG_status || merge_nodes(g));
}

int gather_call(struct link *l, const struct msg *request, uint32_t rid, enum msg_type want,
		struct gathered *ret, struct err *e)
{
	struct gathered g = { 0 };
	struct msg m;
	int r = link_call(l, request, rid, want, &m, e);

	while (r == 0) {
		bool more = has_more(&m);

		if (!keep(&g, &m)) {
			msg_finish(&m);
			r = err_set(e, ENOMEM, "out of memory");
			break;
		}
		if (!more)
			break;
		r = link_answer(l, rid, want, &m, e);
	}
	assert(r < 0 || g.n);
	if (r == 0 && !merge(&g))
		r = err_set(e, ENOMEM, "out of memory");
	if (r < 0)
		gather_finish(&g);
	else
		*ret = g;
	return r;
}

void gather_finish(struct gathered *g)
{
	for (size_t i = 0; i < g->n; i++)
		msg_finish(&g->pieces[i]);
	free(g->pieces);
	arena_finish(&g->all.arena);
	memset(g, 0, sizeof(*g));
}
