/* check_queue.c - the first in line is not delayed by those who came later, and equals keep their order
 *
 * When a job becomes the first that waits for GPUs, and all that hold some have
 * a time limit, the moment is known when these are over at the latest. By then
 * it has its nodes, whoever was let in after it. The moment reckoned here is
 * later than the coordinator's own: of every job in its way the whole limit counts.
 * Nodes that are not heard, or whose GPUs are not known, stop the clock.
 */
#include <inttypes.h>
#include <string.h>

#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

#define PREPARE_S 30
#define FREE_S 15 /* until GPUs are seen to be free */
#define MARGIN (30 * SECOND) /* restarts, silence, slow disks */

/* As in check_gpus.c: in the coordinator's memory, with nodes of its own. */
static bool holds(const struct jobrec *j)
{
	return j->in_memory && j->nodes_held != 0 && j->final[0] == '\0' && j->plan != NULL;
}

static bool holds_gpus(const struct sim *s, const struct jobrec *j)
{
	for (uint32_t k = 0; holds(j) && k < s->n_agents; k++)
		if ((j->nodes_held >> k & 1) != 0 && j->gpus_held[k] != 0)
			return true;
	return false;
}

/* When all that hold GPUs now are over; 0: nobody knows. */
static int64_t all_over(const struct sim *s)
{
	uint32_t longest = 0;

	for (uint32_t i = 1; i < 32; i++) {
		const struct jobrec *j = &s->jobs[i];

		if (!holds_gpus(s, j))
			continue;
		if (j->plan->time_s == 0)
			return 0;
		if (j->plan->time_s + j->plan->grace_ms / 1000 > longest)
			longest = j->plan->time_s + j->plan->grace_ms / 1000;
	}
	return s->w.now + (PREPARE_S + 1 + longest + FREE_S) * SECOND + MARGIN;
}

/* Every node is there and tells of its GPUs: else who waits may wait longer. */
static bool all_well(const struct sim *s)
{
	if (disk_is_bad() || !s->coord.proc.up)
		return false;
	for (uint32_t i = 0; i < s->n_agents; i++) {
		const struct agent_actor *a = &s->agents[i];

		if (a->session == NULL || s->w.now - a->heard > 3 * SECOND || !a->told_gpus.ok ||
		    a->told_gpus.strange != 0)
			return false;
	}
	return true;
}

static bool equals(const struct plan *a, const struct plan *b)
{
	return a->nnodes == b->nnodes && a->ppn == b->ppn && a->gpus == b->gpus && a->time_s == b->time_s &&
	       a->grace_ms == b->grace_ms && a->max_restarts == b->max_restarts && a->spares == b->spares &&
	       a->busy_gpus == b->busy_gpus && a->hosts == NULL && b->hosts == NULL && a->gpus != 0;
}

/* Job i has just got its nodes: none like it, and older, still waits. */
static void in_order(struct sim *s, uint32_t i)
{
	for (uint32_t k = 1; k < i; k++)
		if (s->jobs[k].in_memory && s->jobs[k].queued && s->jobs[k].seen && !s->jobs[k].kill_asked &&
		    !gpus_source_away(s, &s->jobs[k]) && equals(s->jobs[k].plan, s->jobs[i].plan))
			sim_fail(s, "of two jobs that want the same the older one comes first (job %u waits, job "
				    "%u has its nodes)", k, i);
}

static void look_at_first(struct sim *s, uint32_t i)
{
	struct jobrec *j = &s->jobs[i];

	if (j->over_by == 0)
		j->over_by = all_over(s);
	if (j->over_by != 0 && s->w.now > j->over_by)
		sim_fail(s, "the first in line starts when those before it are over, whoever came later (job %u "
			    "waits, %d s too long)", i, (int)((s->w.now - j->over_by) / SECOND));
}

void queue_looked(struct sim *s)
{
	bool first = true, well = s->gpus && all_well(s);

	for (uint32_t i = 1; s->gpus && i < 32; i++) {
		struct jobrec *j = &s->jobs[i];

		if (holds(j) && !j->was_placed)
			in_order(s, i);
		j->was_placed = holds(j);
		if (!j->in_memory || !j->queued || !well || j->kill_asked) {
			j->over_by = 0;
			continue;
		}
		if (j->plan->gpus != 0 && first)
			look_at_first(s, i);
		else
			j->over_by = 0;
		first = first && j->plan->gpus == 0;
	}
}
