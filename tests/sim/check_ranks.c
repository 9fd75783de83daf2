/* check_ranks.c - what is kept of ranks is what became of them, in this attempt */
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "tests/sim/sim.h"

static const struct exec *exec_of(const struct sim *s, const struct rec_row_job *r, uint32_t rank)
{
	for (const struct exec *x = s->execs; x != NULL; x = x->next)
		if (x->job == r->job && x->attempt == r->attempt && x->rank == rank)
			return x;
	return NULL;
}

static void look_at(struct sim *s, const struct rec_row_job *r, const struct rec_rank_state *k)
{
	const struct exec *x = exec_of(s, r, k->rank);
	bool exited = strcmp(k->state, "exited") == 0, killed = strcmp(k->state, "killed") == 0;
	bool obeys = exited || (killed && (k->sig == SIGTERM || k->sig == SIGKILL));

	if (!exited && !killed && strcmp(k->state, "failed") != 0)
		return;
	if (x == NULL || x->end == EX_RUNNING)
		sim_fail(s, "the end of a rank is that of its own attempt (job %" PRIu64 ", attempt %u, rank %u is %s, and %s)",
			 r->job, r->attempt, k->rank, k->state, x == NULL ? "has never run" : "runs");
	else if (x->signalled && obeys && !k->ours)
		sim_fail(s, "who was told to end, and does, has not failed by itself (job %" PRIu64 ", attempt %u, rank %u)", r->job,
			 r->attempt, k->rank);
	else if (x->end == EX_SIGNALLED && killed && k->sig != x->sig)
		sim_fail(s, "a rank's signal is the one it had (job %" PRIu64 ", attempt %u, rank %u: %u, not %u)", r->job,
			 r->attempt, k->rank, k->sig, x->sig);
	else if (x->end == EX_EXITED && exited && k->code != x->code)
		sim_fail(s, "a rank's code is the one it had (job %" PRIu64 ", attempt %u, rank %u: %u, not %u)", r->job,
			 r->attempt, k->rank, k->code, x->code);
}

/* On disk now. */
void ranks_row(struct sim *s, const struct rec_row_job *r)
{
	bool over = strcmp(r->state, "done") == 0 || strcmp(r->state, "failed") == 0 || strcmp(r->state, "lost") == 0;

	for (size_t i = 0; i < r->n_ranks; i++)
		look_at(s, r, &r->ranks[i]);
	for (size_t i = 0; over && i < r->n_sums; i++)
		if (strcmp(r->sums[i].state, "running") == 0)
			sim_fail(s, "a job is over when all its ranks are (job %" PRIu64 ", attempt %u: %u run)", r->job,
				 r->attempt, r->sums[i].n);
}
