/* check_cause.c - which rank was first, and which one is named
 *
 * The truth is when ranks ended, by the one clock of the world.
 * Of two ends the earlier one is named, or it is said that it may have been
 * the earlier one; and what is said about its time is true. Where clocks are compared all the time, that is said only
 * of ends that were close together. What was told as settled stays.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define CLOSE (18 * MS) /* two errors, each half of a round trip that takes up to 4 ms, some drift, and 5 ms of lateness twice */

static const struct exec *exec_of(const struct sim *s, const struct rec_row_job *r, uint32_t rank)
{
	for (const struct exec *x = s->execs; x != NULL; x = x->next)
		if (x->job == r->job && x->attempt == r->attempt && x->rank == rank)
			return x->reaped_at != 0 ? x : NULL;
	return NULL;
}

static bool counts(const struct rec_rank_state *k, bool ours)
{
	bool bad = strcmp(k->state, "killed") == 0 || strcmp(k->state, "failed") == 0 ||
		   (strcmp(k->state, "exited") == 0 && k->code != 0);

	return bad && (ours || !k->ours);
}

static uint32_t code_of(const struct rec_rank_state *k)
{
	if (strcmp(k->state, "failed") == 0 && k->code == 0)
		return 127;
	return strcmp(k->state, "killed") == 0 ? 128 + k->sig : strcmp(k->state, "lost") == 0 ? 255 : k->code;
}

/* What is told of its time, in the world's ns; false: not much. */
static bool told_time(const struct sim *s, const struct rec_rank_state *k, int64_t *at, int64_t *error)
{
	*at = (k->at_us - (world_wall_us(&s->w) - s->w.now / 1000)) * 1000;
	*error = (int64_t)k->at_error_us * 1000 + 2000; /* three are cut to microseconds */
	return MSG_HAS(k, rank_state, at_us) && !s->jumped && k->at_error_us < 1000000;
}

static void check_time(struct sim *s, const struct rec_row_job *r, const struct rec_rank_state *k,
		       const struct exec *x)
{
	int64_t at, error;

	if (told_time(s, k, &at, &error) && llabs(at - x->reaped_at) > error)
		sim_fail(s, "an end is within the error that is told (job %" PRIu64 ", rank %u: %.6f s from it, "
			    "error %.6f s)", r->job, k->rank, (double)(at - x->reaped_at) / 1e9,
			 (double)error / 1e9);
}

/* Not where the coordinator's host was started anew: of what it wrote down before that only
 * its wall clock's word is left, which is not compared. */
static bool surely_before(const struct sim *s, const struct rec_rank_state *a, const struct rec_rank_state *b)
{
	int64_t at_a, at_b, error_a, error_b;

	return s->coord.boots == 0 && told_time(s, a, &at_a, &error_a) && told_time(s, b, &at_b, &error_b) &&
	       at_a + error_a < at_b - error_b;
}

static void compare(struct sim *s, const struct rec_row_job *r, const struct exec *first,
		    const struct rec_rank_state *k)
{
	const struct exec *x = exec_of(s, r, k->rank);
	int64_t apart = x != NULL ? x->reaped_at - first->reaped_at : 0;

	if (x == NULL)
		return;
	check_time(s, r, k, x);
	if (x == first)
		return;
	if (surely_before(s, k, &r->first[0]))
		sim_fail(s, "an end that was surely before that of the first is named in its place (job %" PRIu64
			    ": rank %u, rank %u)", r->job, first->rank, k->rank);
	if (apart < 0 && !k->maybe_first)
		sim_fail(s, "the first rank to end is named (job %" PRIu64 ": rank %u, but rank %u was %.6f s "
			    "before it)", r->job, first->rank, k->rank, (double)-apart / 1e9);
	if (s->sharp && k->maybe_first && llabs(apart) > CLOSE)
		sim_fail(s, "two ends are in doubt only when they are close (job %" PRIu64 ": ranks %u and %u, "
			    "%.6f s apart)", r->job, first->rank, k->rank, (double)llabs(apart) / 1e9);
}

void cause_over(struct sim *s, const struct rec_row_job *r)
{
	const struct jobrec *j = check_job(s, r->job);
	const struct exec *first;

	if (j->told_settled && j->told_first != (r->n_first > 0 ? (int64_t)r->first->rank : -1))
		sim_fail(s, "a first cause that was told as settled stays (job %" PRIu64 ": rank %" PRId64
			    ", then %" PRId64 ")", r->job, j->told_first,
			 r->n_first > 0 ? (int64_t)r->first->rank : -1);
	/* told early, while a node was silent: who was not heard by then does not count */
	if (r->n_first == 0 || r->first_settled)
		return;
	first = exec_of(s, r, r->first->rank);
	if (first != NULL && code_of(r->first) != r->exit_code)
		sim_fail(s, "a job's code is that of the rank that is named as the first (job %" PRIu64 ": %u, rank %u had %u)",
			 r->job, r->exit_code, r->first->rank, code_of(r->first));
	for (size_t i = 0; first != NULL && i < r->n_ranks; i++)
		if (counts(&r->ranks[i], r->first->ours))
			compare(s, r, first, &r->ranks[i]);
}

void cause_told(struct sim *s, const struct rec_job_info *i)
{
	struct jobrec *j = check_job(s, i->job);
	int64_t first = i->n_first > 0 ? (int64_t)i->first->rank : -1;

	if (j->told_settled && j->told_first != first)
		sim_fail(s, "a first cause that was told as settled stays (job %" PRIu64 ": rank %" PRId64
			    ", then %" PRId64 ")", i->job, j->told_first, first);
	j->told_settled = true;
	j->told_first = first;
}
