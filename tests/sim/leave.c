/* leave.c - daemons that are asked to stop, as SIGTERM does in a standalone cluster
 *
 * An agent ends its jobs first: it leaves only when nothing of them lives, and
 * within their grace (and when it cannot register, not before 5 s). A
 * coordinator leaves at once; what its store was asked for is written first.
 */
#include <inttypes.h>

#include "tests/sim/sim.h"

#define WAIT_REGISTERED (5 * SECOND) /* as daemon/io/agent_role.c */

enum { LV_BEGIN, LV_WAITED, LV_LATE };

/* A process that is stopped hears of it when it goes on. */
void leave_agent(struct sim *s, struct agent_actor *a, int64_t down_ns)
{
	if (!a->proc.up || a->leaving)
		return;
	a->leave_down = down_ns;
	world_at(&s->w, s->w.now, EV_LEAVE, &a->proc, LV_BEGIN, NULL);
}

void leave_coord(struct sim *s, int64_t down_ns)
{
	simcoord_leave(s, down_ns);
}

/* Its jobs are ended by that, whoever runs them elsewhere. */
static void note_job(void *arg, uint64_t job, uint32_t attempt, const char *phase)
{
	(void)attempt;
	(void)phase;
	check_job(arg, job)->kill_asked = true;
}

static struct shim_actor *shim_here(struct sim *s, const struct agent_actor *a, uint32_t i)
{
	struct shim_actor *h = s->shims[i];

	return h->host == a->idx && h->boot == a->boot ? h : NULL;
}

static int64_t ends_within(struct sim *s, struct agent_actor *a)
{
	int64_t longest = 0;

	for (uint32_t i = 0; i < s->n_shims; i++) {
		struct shim_actor *h = shim_here(s, a, i);

		if (h == NULL || (!h->proc.up && simshim_alive(h) == 0))
			continue;
		if (h->plan->grace_ms * MS > longest)
			longest = h->plan->grace_ms * MS;
		check_leaves(s, h, h->plan->grace_ms * MS);
	}
	return longest;
}

static void begin(struct sim *s, struct agent_actor *a)
{
	struct agent_event ev = { .type = AEV_STOP };
	int64_t grace;

	LINE(&s->w, a->name, "is asked to end its jobs and to stop");
	a->leaving = true;
	a->leave_waited = false;
	agent_each_job(a->core, note_job, s);
	grace = ends_within(s, a);
	world_at(&s->w, s->w.now + WAIT_REGISTERED, EV_LEAVE, &a->proc, LV_WAITED, NULL);
	world_at(&s->w, s->w.now + WAIT_REGISTERED + grace + 15 * SECOND, EV_LEAVE, &a->proc, LV_LATE,
		 NULL);
	simagent_feed(s, a, &ev);
}

/* What was stopped, or cannot write how it ended, may take longer. */
static bool excused(struct sim *s, struct agent_actor *a)
{
	int64_t since = s->w.now - 25 * SECOND;

	if (a->proc.resume_at > since || s->disk_was_full)
		return true;
	for (uint32_t i = 0; i < s->n_shims; i++)
		if (shim_here(s, a, i) != NULL && s->shims[i]->proc.resume_at > since)
			return true;
	return false;
}

void leave_event(struct sim *s, struct agent_actor *a, const struct event *e)
{
	switch (e->a) {
	case LV_BEGIN:
		begin(s, a);
		break;
	case LV_WAITED:
		a->leave_waited = true;
		leave_if_idle(s, a);
		break;
	case LV_LATE:
		if (!excused(s, a))
			sim_fail(s, "6: an agent that is asked to stop leaves within the grace of its jobs (%s)",
				 a->name);
		break;
	}
}

void leave_if_idle(struct sim *s, struct agent_actor *a)
{
	if (!a->leaving || !a->proc.up || s->failed || !agent_idle(a->core) ||
	    (!agent_registered(a->core) && !a->leave_waited))
		return;
	LINE(&s->w, a->name, "LEAVES");
	for (uint32_t i = 0; i < s->n_shims; i++) {
		const struct shim_actor *h = shim_here(s, a, i);

		if (h != NULL && simshim_alive(h) > 0)
			sim_fail(s, "6: an agent leaves only when nothing of its jobs lives (job %" PRIu64
				    " on %s: %u processes)", h->job, a->name, simshim_alive(h));
	}
	simagent_gone(s, a, a->leave_down);
}
