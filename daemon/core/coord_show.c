/* coord_show.c - the list of jobs, and one job in full
 *
 * An answer is sent in pieces that fit a frame by their bytes: the first holds
 * what there is of the job once, all of them ranks. What is so large that even
 * the first one would not fit is cut, and the job's notices say so.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ONCE_BYTES (768u << 10) /* of a job without its ranks: the rest of a frame is for one rank */
#define STORY_LEAST 16 /* moments that are shown in any case: the last ones */

static void jobs_begin(struct coord *c, struct msg *m, uint32_t rid)
{
	msg_init(m, MSG_jobs);
	m->u.jobs.rid = rid;
	m->u.jobs.wall_ms = c->wall_ms;
	m->u.jobs.filtered = true;
}

static bool among(const char *const *v, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i], s) == 0)
			return true;
	return n == 0;
}

static bool is_asked_for(const struct job *j, const struct rec_jobs_get *g)
{
	/* as nodectl jobs shows it */
	const char *state = j->state == JOB_FAILED && j->cause == END_USER ? "ended" : job_shown_state(j);
	char id[24];

	if (!j->stored || (!g->all && job_over(j)) || (g->user != NULL && strcmp(g->user, j->user) != 0))
		return false;
	if (job_over(j) && MSG_HAS(g, jobs_get, since_wall_ms) && j->end_wall_ms < g->since_wall_ms)
		return false;
	snprintf(id, sizeof(id), "%llu", (unsigned long long)j->id);
	return among(g->states, g->n_states, state) && among(g->ids, g->n_ids, id);
}

/* Newest first. */
static void list_jobs(struct coord *c, struct clink *l, const struct rec_jobs_get *g)
{
	size_t bytes = 0, left = g->limit != 0 ? g->limit : SIZE_MAX;
	struct rec_job_info *info;
	struct arena a;
	struct msg m;

	arena_init(&a);
	jobs_begin(c, &m, g->rid);
	for (struct list *e = c->jobs.prev; e != &c->jobs && left > 0; e = e->prev) {
		struct job *j = list_entry(e, struct job, all);

		if (!is_asked_for(j, g))
			continue;
		left--;
		if (m.u.jobs.n_jobs == JOBS_A_PIECE || bytes > PIECE_BYTES) {
			m.u.jobs.more = true;
			act_send(c->out, l->id, &m);
			arena_finish(&a);
			jobs_begin(c, &m, g->rid);
			bytes = 0;
		}
		if (m.u.jobs.jobs == NULL)
			m.u.jobs.jobs = arena_alloc(&a, JOBS_A_PIECE * sizeof(*m.u.jobs.jobs));
		if (m.u.jobs.jobs == NULL)
			break;
		info = &m.u.jobs.jobs[m.u.jobs.n_jobs++];
		fill_brief(&a, c, j, may_touch_job(l, asker(l, g->uid), j), info);
		bytes += job_weight(info);
	}
	act_send(c->out, l->id, &m);
	arena_finish(&a);
}

/* ---- how long it gets ------------------------------------------------------------------- */

static size_t rank_weight(const struct rec_rank_state *r)
{
	size_t n = 500 + text_weight(r->text) + text_weight(r->exception) + text_weight(r->cause) +
		   text_weight(r->node) + r->tail.n / 3 * 4 + 8;

	for (size_t i = 0; i < r->n_workers; i++)
		n += 250 + text_weight(r->workers[i].exception);
	return n;
}

static size_t ranks_weight(const struct rec_rank_state *v, size_t n)
{
	size_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += rank_weight(&v[i]);
	return all;
}

static size_t texts_weight(const char *const *v, size_t n)
{
	size_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += 3 + text_weight(v[i]);
	return all;
}

static size_t net_weight(const struct rec_net_plan *p, size_t n)
{
	size_t all = 0;

	for (size_t k = 0; n > 0 && k < p->n_sets; k++)
		all += 80 + text_weight(p->sets[k].name) + text_weight(p->sets[k].value) + text_weight(p->sets[k].why) +
		       text_weight(p->sets[k].nodes);
	return n == 0 ? 0 : all + 100 + text_weight(p->text) + texts_weight(p->yours, p->n_yours);
}

/* All of it but its ranks. */
static size_t once_weight(const struct rec_job_info *i)
{
	size_t n = 2000 + job_weight(i) + ranks_weight(i->first, i->n_first) + ranks_weight(i->either, i->n_either) +
		   texts_weight(i->node_names, i->n_node_names) + texts_weight(i->gpus, i->n_gpus) +
		   texts_weight(i->notices, i->n_notices) + texts_weight(i->barred, i->n_barred) +
		   texts_weight(i->spares, i->n_spares) + text_weight(i->others) + 100 * i->n_sums +
		   net_weight(i->net, i->n_net);

	if (i->n_explained > 0)
		n += 24 * 1200 + 16 * 600; /* more than it can hold, but for odd characters */
	for (size_t k = 0; k < i->n_attempts; k++)
		n += 250 + text_weight(i->attempts[k].nodes) + text_weight(i->attempts[k].why);
	for (size_t k = 0; k < i->n_story; k++)
		n += 150 + text_weight(i->story[k].node) + text_weight(i->story[k].text);
	return n;
}

static void say_cut(struct arena *a, struct rec_job_info *i, const char *what)
{
	const char **v = arena_alloc(a, (i->n_notices + 1) * sizeof(*v));

	if (v == NULL)
		return;
	if (i->n_notices > 0)
		memcpy(v, i->notices, i->n_notices * sizeof(*v));
	if (i->n_notices == 16) /* the last one gives way */
		i->n_notices--;
	v[i->n_notices++] = what;
	i->notices = v;
}

/* What can be had otherwise goes first. */
static void cut(struct arena *a, struct rec_job_info *i)
{
	if (once_weight(i) <= ONCE_BYTES)
		return;
	i->n_gpus = 0;
	if (once_weight(i) > ONCE_BYTES)
		i->n_node_names = 0; /* 'nodes' is the same as a host list, where that is short */
	if (once_weight(i) > ONCE_BYTES && i->n_story > STORY_LEAST) {
		i->story_dropped += (uint32_t)(i->n_story - STORY_LEAST);
		i->story += i->n_story - STORY_LEAST;
		i->n_story = STORY_LEAST;
	}
	say_cut(a, i, i->n_node_names > 0 ? "an answer cannot hold all there is: the GPUs of its nodes are not shown" :
		"an answer cannot hold all there is: the GPUs and names of its nodes, and moments of its story, may not be "
		"shown");
}

/* ---- one job ---------------------------------------------------------------------------- */

/* As many ranks from v as fit beside 'once' bytes: one at least. */
static size_t a_piece(const struct rec_rank_state *v, size_t n, size_t once)
{
	size_t k = 0, bytes = once;

	while (k < n && (k == 0 || bytes + rank_weight(&v[k]) <= PIECE_BYTES))
		bytes += rank_weight(&v[k++]);
	return k;
}

static void show_job(struct coord *c, struct clink *l, uint32_t rid, struct job *j, bool explain)
{
	struct rec_job_info info;
	struct rec_rank_state *all;
	size_t n, from = 0, once;
	struct arena a;
	struct msg m;

	arena_init(&a);
	fill_job(&a, c, j, true, &info);
	all = info.ranks;
	n = info.n_ranks;
	story_fill(&a, j, &info.story, &info.n_story);
	info.story_dropped = j->story.dropped;
	if (explain)
		explain_fill(&a, c, j, &info);
	cut(&a, &info);
	once = once_weight(&info);
	do {
		jobs_begin(c, &m, rid);
		info.ranks = all + from;
		info.n_ranks = a_piece(all + from, n - from, once);
		from += info.n_ranks;
		m.u.jobs.jobs = &info;
		m.u.jobs.n_jobs = 1;
		m.u.jobs.more = from < n;
		act_send(c->out, l->id, &m);
		info = (struct rec_job_info){ .job = info.job, .state = info.state }; /* once is enough */
		once = 0;
	} while (from < n);
	arena_finish(&a);
}

void answer_jobs(struct coord *c, struct clink *l, const struct rec_jobs_get *g)
{
	struct job *j;
	uint32_t uid;

	if (!MSG_HAS(g, jobs_get, job)) {
		list_jobs(c, l, g);
		return;
	}
	if (!request_uid(c, l, g->rid, MSG_HAS(g, jobs_get, uid), g->uid, &uid))
		return;
	j = job_find(c, g->job);
	if (refuse_job(c, l, g->rid, g->job, j, uid))
		return;
	show_job(c, l, g->rid, j, g->explain);
}
