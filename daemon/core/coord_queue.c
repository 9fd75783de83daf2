/* coord_queue.c - until when GPUs are held, and what may run in the meantime
 *
 * Who waits for GPUs keeps its nodes from those who come later, but not idle
 * for nothing: jobs with a time limit surely end at a known moment, so it is
 * known when at the latest the one that waits can start. What surely ends
 * before may run on its nodes until then (EASY backfill); what may not, waits
 * behind it. The moment counts what a limit leaves open: the time to prepare,
 * the grace, and until GPUs are seen to be free.
 *
 * The promise is of the latest moment. That a job may end long before its limit
 * counts for nothing here: whoever wants to be let in says how long it takes.
 * A node that fails, or a stranger's process on a GPU, breaks the promise; and
 * a job without a limit in the way gives none: then nobody may pass. A node that is
 * away for a moment, as when its agent is upgraded, lets nobody in (coord_place.c).
 */
#include "core/coord_internal.h"

#include <stdlib.h>

#define AFTER_MS 15000 /* killed, reported, and a reading that shows its GPUs free: one comes each 10 s */

/* A job's GPUs on one node. */
struct hold {
	const struct node *node;
	uint64_t gpus;
	mono_t until;
};

static mono_t limit_from(const struct job *j, mono_t start)
{
	return mono_add_ms(start, 1000 * (int64_t)j->time_s + j->grace_ms + AFTER_MS);
}

mono_t job_would_end(const struct coord *c, const struct job *j)
{
	if (j->time_s == 0 || j->max_restarts > 0) /* between attempts it may wait for long */
		return MONO_NEVER;
	return limit_from(j, mono_add_ms(c->now, c->conf.prepare_ms));
}

/* When the GPUs of a job that has its nodes are free at the latest. */
static mono_t surely_over(struct coord *c, struct job *j)
{
	if (job_over(j))
		return mono_add_ms(c->now, AFTER_MS);
	if (restart_possible(j)) /* another attempt may follow, and keeps its nodes */
		return MONO_NEVER;
	if (j->state == JOB_ENDING) {
		if (mono_is_never(j->end_by)) /* it was being ended when this coordinator began */
			j->end_by = mono_add_ms(c->now, j->grace_ms + AFTER_MS);
		return j->end_by;
	}
	if (j->time_s == 0 || j->recovering) /* how long it has run its nodes will tell */
		return MONO_NEVER;
	if (!mono_is_never(j->run_until))
		return mono_add_ms(j->run_until, j->grace_ms + AFTER_MS);
	return mono_is_never(j->prepare_until) ? job_would_end(c, j) : limit_from(j, j->prepare_until);
}

/* ---- who holds what -------------------------------------------------------------- */

static int by_node_and_time(const void *a, const void *b)
{
	const struct hold *x = a, *y = b;

	if (x->node != y->node)
		return (uintptr_t)x->node < (uintptr_t)y->node ? -1 : 1;
	return mono_before(x->until, y->until) ? -1 : mono_before(y->until, x->until);
}

static void add_holds(struct coord *c, const struct place *v, size_t n, mono_t until)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].gpus != 0)
			c->holds[c->n_holds++] = (struct hold){ v[i].node, v[i].gpus, until };
}

/* Once for a pass, when the first one waits. Without memory nothing is known to
 * end: then nobody may pass. */
static void note_holds(struct coord *c)
{
	size_t n = 0;

	list_foreach(e, &c->jobs) {
		const struct job *j = list_entry(e, struct job, all);

		n += j->saved ? 0 : j->n_places + j->n_kept;
	}
	free(c->holds);
	c->n_holds = 0;
	c->holds = malloc((n + 1) * sizeof(*c->holds));
	c->know_holds = true;
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (c->holds == NULL || j->saved)
			continue;
		if (!j->between) /* else they are those of an attempt that is over */
			add_holds(c, j->places, j->n_places, surely_over(c, j));
		add_holds(c, j->kept, j->n_kept, surely_over(c, j));
	}
	if (c->n_holds > 0)
		qsort(c->holds, c->n_holds, sizeof(*c->holds), by_node_and_time);
}

static size_t first_hold(const struct coord *c, const struct node *n)
{
	size_t lo = 0, hi = c->n_holds;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if ((uintptr_t)c->holds[mid].node < (uintptr_t)n)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Their job is over, and a reading will show them free soon. */
static uint32_t count_left(const struct node *n, uint64_t *ret)
{
	*ret = node_gpus(n) & n->gpus_left & ~n->gpus_kept & ~n->gpus_held;
	return (uint32_t)__builtin_popcountll(*ret);
}

mono_t node_free_at(struct coord *c, const struct node *n, uint64_t free, uint32_t want)
{
	uint64_t all = node_gpus(n), left;

	if ((uint32_t)__builtin_popcountll(free) >= want)
		return c->now;
	if (count_left(n, &left) > 0 && (uint32_t)__builtin_popcountll(free | left) >= want)
		return mono_add_ms(c->now, AFTER_MS);
	free |= left;
	if (!c->know_holds)
		note_holds(c);
	for (size_t i = first_hold(c, n); i < c->n_holds && c->holds[i].node == n; i++) {
		free |= c->holds[i].gpus & all;
		if ((uint32_t)__builtin_popcountll(free) >= want)
			return c->holds[i].until;
	}
	return MONO_NEVER; /* strangers' processes, or jobs on other nodes of its host */
}

void queue_begin(struct coord *c)
{
	for (size_t i = 0; i < c->n_nodes; i++)
		c->nodes[i]->kept_from = MONO_NEVER;
	c->know_holds = false;
}

void queue_free(struct coord *c)
{
	free(c->holds);
}
