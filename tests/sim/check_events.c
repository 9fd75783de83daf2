/* check_events.c - events on the disk (26): none twice for one transition
 *
 * Of each attempt of a job that it started is told once, and of each job one end.
 * Of two neighbours among the states of a node the second is another one, and
 * of a verdict coming and going alternate: over crashes, too. That those on
 * the disk stay there is checked with all other rows (store.c). Where a write
 * has failed a later event may be on the disk before an earlier one: then the
 * neighbours are not judged.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

struct told {
	struct told *next;
	uint64_t id, job, about;
	uint32_t attempt;
	char kind[33], node[65];
};

static bool ends_job(const char *kind)
{
	return strcmp(kind, "job.done") == 0 || strcmp(kind, "job.failed") == 0 || strcmp(kind, "job.lost") == 0 ||
	       strcmp(kind, "job.ended") == 0;
}

static void check_job_told(struct sim *s, const struct told *n)
{
	bool end = ends_job(n->kind);

	for (const struct told *t = s->told; t != NULL; t = t->next) {
		if (t->job != n->job || n->job == 0)
			continue;
		if (end && ends_job(t->kind))
			sim_fail(s, "26: of job %llu one end is told (%s, then %s)", (unsigned long long)n->job, t->kind,
				 n->kind);
		if (!end && t->attempt == n->attempt && strcmp(t->kind, n->kind) == 0)
			sim_fail(s, "26: no event twice for one transition (%s of job %llu.%u)", n->kind,
				 (unsigned long long)n->job, n->attempt);
	}
}

#define ID_GAP 4096u /* as in coord_events.c: what a coordinator leaves out when it starts */

/* The next number on the disk, at most 'to'. */
static uint64_t next_id(const struct sim *s, uint64_t from, uint64_t to)
{
	for (const struct told *t = s->told; t != NULL; t = t->next)
		if (t->id > from && t->id < to)
			to = t->id;
	return to;
}

/* Is all there that was numbered between the two? What a failed write holds up comes later. */
static bool is_whole(const struct sim *s, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t next = next_id(s, from, to);

		if (next != from + 1 && next != from + ID_GAP)
			return false;
		from = next;
	}
	return true;
}

static void check_neighbours(struct sim *s, const struct told *n)
{
	const struct told *last = NULL;

	for (const struct told *t = s->told; t != NULL; t = t->next)
		if (t->about == n->about && strcmp(t->node, n->node) == 0 && t->id < n->id && (last == NULL || t->id > last->id))
			last = t;
	if (last != NULL && is_whole(s, last->id, n->id) && strcmp(last->kind, n->kind) == 0 && strcmp(n->kind, "flapping") != 0)
		sim_fail(s, "26: no event twice for one transition (%s of %s)", n->kind, n->node);
}

/* Of two neighbours among the cordons of a node the second is the other one. */
static void check_cordon(struct sim *s, const struct told *n)
{
	const struct told *last = NULL;

	s->n_cordons_told++;
	for (const struct told *t = s->told; t != NULL; t = t->next)
		if ((strcmp(t->kind, "cordon") == 0 || strcmp(t->kind, "uncordon") == 0) && strcmp(t->node, n->node) == 0 &&
		    t->id < n->id && (last == NULL || t->id > last->id))
			last = t;
	if (last == NULL ? strcmp(n->kind, "uncordon") == 0 : strcmp(last->kind, n->kind) == 0)
		sim_fail(s, "27: a node is left out, and taken in again, and each is told once (%s of %s)", n->kind, n->node);
}

void policy_row(struct sim *s, const struct rec_row_node *r)
{
	for (uint32_t i = 0; i < s->n_agents; i++) {
		if (strcmp(r->node, s->agents[i].name) != 0 || s->unfit[i] == (r->unfit != NULL))
			continue;
		s->unfit[i] = r->unfit != NULL;
		s->n_cordons++;
	}
}

void policy_outcome(struct sim *s)
{
	if (s->policy && !s->disk_was_full && s->n_cordons != s->n_cordons_told)
		sim_fail(s, "27: of each time that a node is left out, or taken in, it is told (%u on disk, %u events)",
			 s->n_cordons, s->n_cordons_told);
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (s->policy && s->unfit[i])
			sim_fail(s, "27: what is mended gets jobs again (%s)", s->agents[i].name);
}

#define TOLD_WITHIN (5 * SECOND) /* they are written once a second */

static bool on_disk(const struct sim *s, uint64_t job, bool end)
{
	for (const struct told *t = s->told; t != NULL; t = t->next)
		if (t->job == job && (end ? ends_job(t->kind) : strcmp(t->kind, "job.started") == 0))
			return true;
	return false;
}

/* Of what was told to have started it is told that it is over, whoever died meanwhile. */
void events_outcome(struct sim *s)
{
	for (uint32_t i = 1; i < JOBS_MAX && !s->no_events; i++)
		if (s->jobs[i].final[0] != '\0' && s->w.now - s->jobs[i].over_at > TOLD_WITHIN &&
		    s->w.now - s->unwell_at > TOLD_WITHIN && on_disk(s, i, false) && !on_disk(s, i, true))
			sim_fail(s, "26: of each job that was told to have started its end is told (job %u)", i);
}

void events_row(struct sim *s, const struct row *now)
{
	struct told *n;
	struct msg m;

	if (now->json == NULL)
		return; /* too many, or too old */
	if (msg_decode(now->json, now->len, &m, NULL) < 0 || m.u.row_event.n_event != 1) {
		sim_fail(s, "rows can be read back (event %s)", now->key);
		return;
	}
	n = world_alloc(&s->w, sizeof(*n));
	n->id = m.u.row_event.event->id;
	n->job = m.u.row_event.event->job;
	n->about = m.u.row_event.event->about;
	n->attempt = m.u.row_event.event->attempt;
	snprintf(n->kind, sizeof(n->kind), "%s", m.u.row_event.event->kind);
	if (m.u.row_event.event->node != NULL)
		snprintf(n->node, sizeof(n->node), "%s", m.u.row_event.event->node);
	msg_finish(&m);
	for (const struct told *t = s->told; t != NULL; t = t->next)
		if (t->id == n->id)
			return; /* it was under way when the coordinator died, and is found to be there */
	if (n->job != 0)
		check_job_told(s, n);
	else if (n->about != 0)
		check_neighbours(s, n);
	else if (strcmp(n->kind, "cordon") == 0 || strcmp(n->kind, "uncordon") == 0)
		check_cordon(s, n);
	n->next = s->told;
	s->told = n;
}
