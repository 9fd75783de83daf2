/* check_below.c - what a shim has told of the workers below a rank is in its job's history
 *
 * Each rank of ours is a launcher with one worker: it runs while the rank does,
 * and when the rank exits with a code of its own, so had the worker before.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

#define FIRST_WORKER 1000 /* its rank is this and the number of ours */

static const char said[] = "ValueError: the worker's own";

const struct shim_below *below_make(struct sim *s, uint32_t rank, bool over, int status, bool signalled)
{
	struct rec_worker *w = world_alloc(&s->w, sizeof(*w));
	struct shim_below *b = world_alloc(&s->w, sizeof(*b));
	bool exited = over && (status & 0x7f) == 0;

	if (over && !(exited && status != 0))
		return NULL; /* the rank itself is the cause */
	*w = (struct rec_worker){ .rank = FIRST_WORKER + rank, .pid = 7, .state = over ? "exited" : "running",
				  .ours = over && signalled };
	if (over) {
		MSG_SET(w, worker, code, (uint32_t)status >> 8);
		w->exception = said;
	}
	*b = (struct shim_below){ .workers = w, .n_workers = 1, .found = 1, .alive = !over,
				  .exception = over ? said : NULL };
	return b;
}

static bool told(const struct rec_rank_state *r)
{
	const struct rec_worker *w = r->workers;

	return r->n_workers == 1 && w->rank == FIRST_WORKER + r->rank && strcmp(w->state, "exited") == 0 &&
	       w->code == r->code && r->exception != NULL && strcmp(r->exception, said) == 0;
}

/* A row that is final. With a full disk the status file does without. */
void check_below(struct sim *s, const struct rec_row_job *row)
{
	for (size_t i = 0; i < row->n_ranks && !s->disk_was_full; i++) {
		const struct rec_rank_state *r = &row->ranks[i];

		if (strcmp(r->state, "exited") == 0 && r->code != 0 && !r->ours && !told(r))
			sim_fail(s, "what is known of the workers below a rank is kept (job %" PRIu64 ", rank %u)",
				 row->job, r->rank);
	}
}
