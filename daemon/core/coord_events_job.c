/* coord_events_job.c - events of jobs: started, hung, restarted, and how they ended
 *
 * Neither command nor cause: they may hold what is the user's alone. */
#include "core/coord_internal.h"

#include <stdio.h>
#include <string.h>

static const char *nodes_text(const struct job *j, char *out, size_t size)
{
	story_nodes(j, out, size);
	return out;
}

/* As a shell says it: no such command, or none that can be run. No node's fault. */
static bool unstartable(const struct rank *r)
{
	return r->state == RK_FAILED || (r->state == RK_EXITED && (r->code == 126 || r->code == 127));
}

/* The node whose rank ended it; NULL: none of them did. */
static const char *first_node(const struct job *j)
{
	uint32_t rank;

	if (j->cause_node[0] != '\0')
		return j->cause_node;
	if (j->first < 0 || j->n_places == 0 || unstartable(&j->ranks[j->first]))
		return NULL;
	rank = j->rank_no != NULL ? j->rank_no[j->first] : (uint32_t)j->first;
	return rank / j->ppn < j->n_places ? j->places[rank / j->ppn].node->name : NULL;
}

static void started(struct coord *c, const struct job *j)
{
	char nodes[200];

	if (events_has_job(c, "job.started", j->id, j->attempt))
		return;
	events_add(c, &(struct event_in){ .kind = "job.started", .severity = "info", .job = j->id, .attempt = j->attempt },
		   "job %llu of %s started on %s%s", (unsigned long long)j->id, j->user,
		   nodes_text(j, nodes, sizeof(nodes)), j->attempt > 1 ? ", again" : "");
}

static void restarted(struct coord *c, const struct job *j)
{
	const struct past *p = j->n_past > 0 ? &j->past[j->n_past - 1] : NULL;
	const char *node = p != NULL && p->attempt == j->attempt && p->guilty[0] != '\0' ? p->guilty : first_node(j);

	if (events_has_job(c, "job.restarted", j->id, j->attempt))
		return;
	events_add(c, &(struct event_in){ .kind = "job.restarted", .severity = "warn", .job = j->id,
					  .attempt = j->attempt, .node = node,
					  .has_user = node != NULL && !j->node_failed, .by_user = j->uid },
		   "attempt %u of job %llu of %s is over, another one follows", j->attempt,
		   (unsigned long long)j->id, j->user);
	if (node != NULL)
		policy_on_failure(c, node);
}

static bool end_told(const struct coord *c, const struct job *j)
{
	static const char *const ends[] = { "job.done", "job.failed", "job.lost", "job.ended" };

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (events_has_job(c, ends[i], j->id, 0))
			return true;
	return false;
}

/* A limit, --on-hang, or it could not be started: no rank is to blame, and no node. */
static void over(struct coord *c, const struct job *j, int64_t wall_ms)
{
	bool asked = j->cause == END_USER, blameless = j->cause == END_OTHER && j->first < 0;
	const char *kind = j->state == JOB_DONE ? "job.done" : j->state == JOB_LOST ? "job.lost" :
			   asked ? "job.ended" : "job.failed";
	struct event_in in = { .kind = kind, .job = j->id, .attempt = j->attempt, .wall_ms = wall_ms };
	bool bad = j->state != JOB_DONE && !asked;

	if (end_told(c, j))
		return;
	in.severity = bad ? "warn" : "info";
	in.node = bad && !blameless ? first_node(j) : NULL;
	in.has_user = in.node != NULL && !restart_node_failed(j);
	in.by_user = j->uid;
	events_add(c, &in, "job %llu of %s %s, exit code %u%s%s", (unsigned long long)j->id, j->user,
		   j->state == JOB_DONE ? "is done" : j->state == JOB_LOST ? "is lost" : asked ? "was ended" : "failed",
		   j->exit_code, in.node != NULL ? "; first on " : "", in.node != NULL ? in.node : "");
	if (in.node != NULL && wall_ms == 0)
		policy_on_failure(c, in.node);
}

/* Who and where in the code may be the user's alone: nodectl why. */
void events_hang(struct coord *c, const struct job *j, const char *node)
{
	if (events_has_job(c, "job.hung", j->id, j->attempt))
		return;
	events_add(c, &(struct event_in){ .kind = "job.hung", .severity = "warn", .job = j->id, .attempt = j->attempt, .node = node },
		   "job %llu of %s hangs%s%s: nodectl why %llu", (unsigned long long)j->id, j->user,
		   node != NULL ? "; it waits for a rank on " : "", node != NULL ? node : "", (unsigned long long)j->id);
}

void events_job(struct coord *c, const struct job *j)
{
	if (j->saved)
		over(c, j, 0);
	else if (strcmp(j->logged, "running") == 0)
		started(c, j);
	else if (strcmp(j->logged, "restarting") == 0)
		restarted(c, j);
}

void events_jobs_loaded(struct coord *c)
{
	list_foreach(e, &c->jobs) {
		const struct job *j = list_entry(e, struct job, all);

		if (j->saved && events_has_job(c, "job.started", j->id, 0))
			over(c, j, j->end_wall_ms);
	}
}
