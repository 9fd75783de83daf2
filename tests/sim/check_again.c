/* check_again.c - attempts of a job follow each other: one at a time, counted, elsewhere
 *
 * What lives is known from the processes themselves, on all hosts, not from
 * what the coordinator believes.
 */
#include <inttypes.h>
#include <string.h>

#include "tests/sim/sim.h"

#define HEARD_WITHIN (3 * SECOND) /* such a node is usable */

static uint32_t ranks_alive(const struct shim_actor *h)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < h->nprocs; i++)
		n += h->workers[i].alive;
	return n;
}

/* Else a coordinator that dies now would never know when the ranks are gone for sure. */
static void leased_on_disk(struct sim *s, const struct shim_actor *h)
{
	const struct jobrec *j = check_job(s, h->job);

	if (h->plan->max_restarts > 0 && !s->old_shims && j->leased_attempt != h->attempt)
		sim_fail(s, "that its shims keep a lease is on disk before a rank may run (job %" PRIu64 ", attempt %u)",
			 h->job, h->attempt);
}

/* What a rank left behind where its shim was killed is swept when its agent
 * is there again: nobody can do it before. */
void again_started(struct sim *s, const struct shim_actor *h)
{
	for (uint32_t i = 0; i < s->n_shims; i++) {
		struct shim_actor *o = s->shims[i];

		if (o->job != h->job || o->attempt == h->attempt || !o->started)
			continue;
		if (ranks_alive(o) > 0 || (o->proc.up && stuck_mortal(s, o) > 0))
			sim_fail(s, "1: an attempt starts only when the one before is gone (job %" PRIu64
				    ", attempts %u and %u)", h->job, o->attempt, h->attempt);
	}
	leased_on_disk(s, h);
	if (h->attempt > h->plan->max_restarts + 1)
		sim_fail(s, "a job is started again as often as its user has said (job %" PRIu64 ": attempt %u)",
			 h->job, h->attempt);
}

/* It was on disk that it is: a coordinator that is started anew knows it, too. */
static bool is_barred(struct sim *s, const struct rec_row_job *r, const char *node)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (strcmp(s->agents[i].name, node) == 0)
			return (check_job(s, r->job)->barred >> i & 1) != 0;
	return false;
}

static void note_barred(struct sim *s, struct jobrec *j, const struct rec_row_job *r)
{
	for (size_t i = 0; i < r->n_barred; i++)
		for (uint32_t k = 0; k < s->n_agents; k++)
			if (strcmp(r->barred[i], s->agents[k].name) == 0)
				j->barred |= 1u << k;
}

static bool usable(const struct sim *s, const struct agent_actor *a)
{
	return a->session != NULL && !a->session->end[1].gone && !a->session->end[1].closing &&
	       s->w.now - a->heard < HEARD_WITHIN && !a->may_be_drained;
}

/* Is a node used where it has failed, while enough others are there? Asked when
 * the choice is made. */
static void choice(struct sim *s, const struct rec_row_job *r)
{
	const struct plan *p = plan_of_hash(s, r->spec_hash.p);
	uint32_t others = 0;

	for (uint32_t i = 0; i < s->n_agents; i++)
		others += usable(s, &s->agents[i]) && !is_barred(s, r, s->agents[i].name) &&
			  (p->hosts == NULL || i < p->nnodes);
	for (size_t i = 0; i < r->n_places; i++)
		if (is_barred(s, r, r->places[i].node) && others >= p->nnodes)
			sim_fail(s, "a node where an attempt has failed is left out when others will do (job %" PRIu64
				    ", attempt %u on %s)", r->job, r->attempt, r->places[i].node);
}

void again_row(struct sim *s, const struct store_row *row)
{
	struct jobrec *j;
	struct msg m;

	if (!s->leases || s->gpus || row->table != TABLE_JOB || row->json == NULL ||
	    msg_decode(row->json, row->len, &m, NULL) < 0)
		return;
	j = check_job(s, m.u.row_job.job);
	if (strcmp(m.u.row_job.state, "preparing") == 0 && m.u.row_job.attempt != j->chosen_attempt) {
		j->chosen_attempt = m.u.row_job.attempt;
		choice(s, &m.u.row_job);
	}
	msg_finish(&m);
}

/* What was known once stays known: else a dead node would be waited for without end. */
static void note_leased(struct sim *s, struct jobrec *j, const struct rec_row_job *r)
{
	if (r->attempt != j->attempt || !j->seen)
		j->leased = 0;
	j->unleased = 0;
	for (size_t i = 0; i < r->n_places; i++)
		for (uint32_t k = 0; k < s->n_agents; k++) {
			if (strcmp(r->places[i].node, s->agents[k].name) != 0)
				continue;
			if (r->places[i].leased)
				j->leased |= 1u << k;
			else if ((j->leased >> k & 1) != 0)
				sim_fail(s, "that a shim keeps a lease stays known (job %" PRIu64 ", attempt %u on %s)", r->job,
					 r->attempt, r->places[i].node);
			else
				j->unleased |= 1u << k;
		}
}

/* On disk now. */
void again_stored(struct sim *s, struct jobrec *j, const struct rec_row_job *r)
{
	bool all_leased;

	if (r->attempt < j->attempt)
		sim_fail(s, "1: numbers of attempts only grow (job %" PRIu64 ": %u, then %u)", r->job, j->attempt,
			 r->attempt);
	if (r->attempt > r->max_restarts + 1)
		sim_fail(s, "a job has as many attempts as its user has allowed (job %" PRIu64 ": %u)", r->job,
			 r->attempt);
	choice_between(s, j, r);
	note_barred(s, j, r);
	j->between = r->between;
	all_leased = r->n_places > 0;
	for (size_t i = 0; i < r->n_places; i++)
		all_leased = all_leased && r->places[i].leased;
	if (all_leased)
		j->leased_attempt = r->attempt;
	note_leased(s, j, r);
}

/* A rank of this attempt has failed by itself, with this code, and could be run. */
static bool a_rank_failed(const struct sim *s, uint64_t job, const struct jobrec *j)
{
	for (const struct exec *x = s->execs; x != NULL; x = x->next)
		if (x->job == job && x->attempt == j->attempt && !x->signalled && !x->unstartable && x->end == EX_EXITED &&
		    x->code == j->exit_code && x->code != 0 && x->code != 126 && x->code != 127)
			return true;
	return false;
}

static bool has_run(const struct sim *s, uint64_t job, uint32_t attempt)
{
	for (const struct exec *x = s->execs; x != NULL; x = x->next)
		if (x->job == job && x->attempt == attempt)
			return true;
	return false;
}

/* It could have been tried once more, and nobody was against it. */
static bool had_another(const struct sim *s, const struct jobrec *j)
{
	return strcmp(j->final, "failed") == 0 && j->attempt <= j->plan->max_restarts && !j->kill_asked && !j->time_limited &&
	       !s->removal && !s->reason_lost && j->plan->unstartable == 0;
}

/* Lost, and it was to be started again: then it is. */
void again_outcome(struct sim *s, uint64_t job, const struct jobrec *j)
{
	if (had_another(s, j) && j->plan->restart_any && a_rank_failed(s, job, j))
		sim_fail(s, "a job that may be started again is, when a rank has failed and it was to be (job %" PRIu64
			    ": attempt %u of %u, code %u)", job, j->attempt, j->plan->max_restarts + 1, j->exit_code);
	if (had_another(s, j) && j->exit_code == 1 && j->retry_attempt == j->attempt && !has_run(s, job, j->attempt) &&
	    j->plan->missing_host < 0)
		sim_fail(s, "a job that may be started again is, when a node could not take it (job %" PRIu64 ": attempt %u of %u)",
			 job, j->attempt, j->plan->max_restarts + 1);
	if (had_another(s, j) && j->exit_code == 143)
		sim_fail(s, "a job that may be started again is, when a node has ended it by itself (job %" PRIu64
			    ": attempt %u of %u)", job, j->attempt, j->plan->max_restarts + 1);
	if (strcmp(j->final, "lost") == 0 && j->attempt <= j->plan->max_restarts && !j->kill_asked &&
	    j->plan->unstartable == 0)
		sim_fail(s, "a job that may be started again is not lost with a node (job %" PRIu64
			    ": attempt %u of %u)", job, j->attempt, j->plan->max_restarts + 1);
}
