/* check_end.c - when a run is over, and whether its outcomes are the right ones
 *
 * Once faults have stopped everything must come to rest: each client is told,
 * each job has a final state, nothing lives on any node and no record is left.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

/* a shim that nobody speaks to leaves by itself */
#define BYE_NS ((SHIM_ABSENT_MS + SHIM_BYE_MS) * MS + 20 * SECOND)

/* Was its submit sent twice? The one that is overtaken while the job is being
 * stored is never answered: its specification stays until the next registration. */
static bool sent_twice(const struct sim *s, uint32_t plan)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_clients; i++)
		if (s->clients[i].plan_no == plan)
			n += s->clients[i].twice || s->clients[i].crashed ? 2 : 1;
	return n > 1 || s->request_ms < 30000; /* one that was given up is sent again, too */
}

static bool has_specs(const struct sim *s, const struct agent_actor *a)
{
	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		if (a->specs[i] && !sent_twice(s, i))
			return true;
	return false;
}

/* Another node that this one still lets in. */
static const struct agent_actor *let_in(const struct sim *s, const struct agent_actor *a)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (agent_peer_allowed(a->core, s->agents[i].key))
			return &s->agents[i];
	return NULL;
}

/* Nothing is to be expected of it any more. */
static bool out_host(const struct sim *s, uint32_t host)
{
	return removed_host(s, host) || s->agents[host].dead;
}

/* The one that had its command and environment is lost for good, and no other has ever had them. */
static bool spec_lost(const struct sim *s, const struct client *k)
{
	if (!s->agents[k->agent].dead)
		return false;
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (!s->agents[i].dead && s->agents[i].had_spec[k->plan_no])
			return false;
	return true;
}

/* Its attempt may still run on a host that is lost for good, for all that the coordinator
 * knows since its restart: nobody has told it of a lease there. */
static bool never_gone(const struct sim *s, const struct jobrec *j)
{
	for (uint32_t h = 0; s->coord.proc.life > 1 && h < s->n_agents; h++)
		if (s->agents[h].dead && (j->unleased >> h & 1))
			return true;
	return false;
}

/* A job waits for the host that is lost for good, and rightly so: nothing comes to its end any more. */
static bool all_waits(const struct sim *s)
{
	for (uint32_t i = 1; i < JOBS_MAX; i++)
		for (uint32_t k = 0; s->jobs[i].seen && s->jobs[i].final[0] == '\0' && k < s->n_clients; k++)
			if (s->clients[k].plan == s->jobs[i].plan &&
			    (spec_lost(s, &s->clients[k]) || never_gone(s, &s->jobs[i])))
				return true;
	return false;
}

/* Nodes that it wants were taken out: it waits for others, which do not come here. Not so
 * one whose code was told already: that one comes to its end when its node counts as lost. */
static bool waits_for_ever(const struct sim *s, const struct client *k)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_agents; i++)
		if (!out_host(s, i) &&
		    (k->plan->hosts == NULL || strstr(k->plan->hosts, s->agents[i].name) != NULL))
			n++;
	return s->removal && k->job < JOBS_MAX && !k->settled && s->jobs[k->job].final[0] == '\0' &&
	       n < k->plan->nnodes + k->plan->spares;
}

static bool job_waits_for_ever(const struct sim *s, uint64_t job)
{
	for (uint32_t i = 0; i < s->n_clients; i++)
		if (s->clients[i].job == job && waits_for_ever(s, &s->clients[i]))
			return true;
	return false;
}

static bool keeps_specs(const struct sim *s, uint32_t host)
{
	for (uint32_t i = 0; i < s->n_clients; i++)
		if (s->clients[i].agent == host && waits_for_ever(s, &s->clients[i]))
			return true;
	return false;
}

/* What is still to come, or NULL. */
static const char *waiting_for(struct sim *s, int64_t *ret_patience)
{
	static char text[160];

	*ret_patience = 0;
	if (!admin_done(s))
		return "the administrator's wishes are done";
	if (all_waits(s))
		return NULL;
	for (uint32_t i = 0; i < s->n_clients; i++)
		if (!s->clients[i].over && !out_host(s, s->clients[i].agent) &&
		    !waits_for_ever(s, &s->clients[i])) {
			snprintf(text, sizeof(text), "client %u (job %" PRIu64 ") is told it is over", i,
				 s->clients[i].job);
			return text;
		}
	for (uint32_t i = 1; i < JOBS_MAX && i < 64; i++)
		if (s->jobs[i].seen && s->jobs[i].final[0] == '\0' && !job_waits_for_ever(s, i)) {
			snprintf(text, sizeof(text), "job %u reaches a final state", i);
			return text;
		}
	for (uint32_t i = 0; i < s->n_shims; i++)
		if (simshim_alive(s->shims[i]) > 0 && !out_host(s, s->shims[i]->host)) {
			snprintf(text, sizeof(text), "nothing of job %" PRIu64 " lives on %s (%u processes)",
				 s->shims[i]->job, s->agents[s->shims[i]->host].name,
				 simshim_alive(s->shims[i]));
			return text;
		}
	for (uint32_t i = 0; i < s->n_agents; i++) {
		const struct agent_actor *a = &s->agents[i];

		if (out_host(s, i))
			continue; /* nobody tells it anything any more */
		if (!a->proc.up || !agent_registered(a->core) || a->files != NULL) {
			snprintf(text, sizeof(text), "%s is %s", a->name,
				 a->files != NULL ? "rid of its records" : "registered");
			return text;
		}
	}
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (!out_host(s, i) && !keeps_specs(s, i) && has_specs(s, &s->agents[i])) {
			snprintf(text, sizeof(text), "%s is rid of specifications", s->agents[i].name);
			return text;
		}
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (s->policy && s->unfit[i] && !out_host(s, i)) { /* 27; a coordinator that was restarted looks for a while first */
			snprintf(text, sizeof(text), "what is mended gets jobs again (%s)", s->agents[i].name);
			return text;
		}
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (!out_host(s, i) && let_in(s, &s->agents[i]) != NULL) {
			snprintf(text, sizeof(text), "%s lets %s in no more", s->agents[i].name,
				 let_in(s, &s->agents[i])->name);
			return text;
		}
	for (uint32_t i = 0; i < s->n_shims; i++)
		if (s->shims[i]->proc.up && !out_host(s, s->shims[i]->host)) {
			snprintf(text, sizeof(text), "the shim of job %" PRIu64 " leaves %s",
				 s->shims[i]->job, s->agents[s->shims[i]->host].name);
			*ret_patience = BYE_NS;
			return text;
		}
	if (s->coord.proc.up && coord_writes(s->coord.core))
		return "the coordinator has written what it knows";
	return NULL;
}

bool check_quiet(struct sim *s)
{
	int64_t patience;

	if (s->no_progress_checks)
		return rogue_quiet(s) && s->w.now > s->heal_at + 20 * SECOND;
	return rogue_quiet(s) && waiting_for(s, &patience) == NULL;
}

void check_liveness(struct sim *s)
{
	int64_t patience;
	const char *what = waiting_for(s, &patience);

	if (what != NULL && s->w.now < s->give_up_at + patience)
		return;
	if (!s->no_progress_checks && what != NULL)
		sim_fail(s, "25: once faults stop, %s (within %d s)", what,
			 (int)((s->w.now - s->heal_at) / SECOND));
	s->finished = true;
}

/* More than that only while somebody watches one. */
static void history_outcome(struct sim *s)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < 32; i++)
		n += s->jobs[i].in_memory && s->jobs[i].final[0] != '\0';
	if (s->history != 0 && n > s->history + 1)
		sim_fail(s, "jobs that are over are kept as long as was said (%u of %u)", n, s->history);
}

static bool failed_by_itself(const struct exec *x)
{
	return x->unstartable || (!x->signalled && (x->end == EX_SIGNALLED ||
						    (x->end == EX_EXITED && x->code != 0)));
}

static uint32_t code_of(const struct exec *x)
{
	return x->end == EX_SIGNALLED ? 128 + x->sig : x->code;
}

/* May this job, which is not 'done', have ended with this code? */
static bool code_explained(const struct sim *s, uint64_t job, const struct jobrec *j)
{
	bool any = false;

	for (const struct exec *x = s->execs; x != NULL; x = x->next) {
		if (x->job != job || x->attempt != j->attempt)
			continue;
		any = true;
		if (failed_by_itself(x) && code_of(x) == j->exit_code)
			return true;
	}
	if (j->kill_asked && (j->exit_code == 143 || j->plan->max_restarts > 0)) /* while an attempt was ending */
		return true;
	if (j->plan->time_s != 0 && j->exit_code == 124)
		return true;
	if (j->prepare_failed && !any)
		return j->exit_code == 1 || j->exit_code == (j->plan->missing_host >= 0 ? 127 : 1);
	return !any && s->n_faults > 0 && j->exit_code == 1; /* not ready in time */
}

static void outcome(struct sim *s, uint64_t job, const struct jobrec *j)
{
	uint32_t good = 0, world = j->plan->nnodes * j->plan->ppn;

	for (const struct exec *x = s->execs; x != NULL; x = x->next)
		good += x->job == job && x->attempt == j->attempt && x->end == EX_EXITED && x->code == 0 && !x->unstartable;
	if (strcmp(j->final, "done") == 0) {
		if (j->exit_code != 0 || good < world)
			sim_fail(s, "a job is done only when every rank has exited with 0 (job %" PRIu64
				    ": code %u, %u of %u)", job, j->exit_code, good, world);
		return;
	}
	again_outcome(s, job, j);
	if (s->must_end_well && s->crash.n == 0 && s->n_faults <= 1)
		sim_fail(s, "a job whose submit node is lost goes on elsewhere (job %" PRIu64 ": %s with %u in attempt "
			    "%u)", job, j->final, j->exit_code, j->attempt);
	if (s->loss_allowed || j->lost_allowed)
		return;
	if (strcmp(j->final, "lost") == 0)
		sim_fail(s, "8: nothing was lost, so no job is lost (job %" PRIu64 ")", job);
	else if (s->reason_lost)
		return; /* an end is acted upon even when it cannot be stored: a crash loses the reason */
	else if (!code_explained(s, job, j))
		sim_fail(s, "8: a job's code is that of the first rank that failed (job %" PRIu64
			    ": %s with %u)", job, j->final, j->exit_code);
}

static void client_outcome(struct sim *s, const struct client *k)
{
	const struct jobrec *j = check_job(s, k->acked_job != 0 ? k->acked_job : 1);

	if (k->refused[0] != '\0' && !k->plan->immediate && !(s->removal && !k->late) &&
	    !(s->gpus && !k->late && k->plan->gpus > 0)) /* so many GPUs may not have been there */
		sim_fail(s, "a submit that makes sense is taken (client %u: %s)", k->idx, k->refused);
	if (k->late && s->crash.n == 0 && (!k->settled || strcmp(j->final, "done") != 0))
		sim_fail(s, "once all is healed, a job runs as if nothing had been (client %u: %s)", k->idx,
			 j->final);
	if (k->acked_job == 0 || !k->settled)
		return;
	if (k->exit_code != j->exit_code)
		sim_fail(s, "a client is told the code that is kept (client %u: %u, on disk %u)", k->idx,
			 k->exit_code, j->exit_code);
}

void check_outcomes(struct sim *s)
{
	policy_outcome(s);
	rogue_outcome(s);
	events_outcome(s);
	if (s->no_progress_checks)
		return;
	if (s->coord.proc.up)
		load_quiet(s);
	history_outcome(s);
	for (uint32_t i = 1; i < JOBS_MAX; i++)
		if (s->jobs[i].seen && s->jobs[i].final[0] != '\0')
			outcome(s, i, &s->jobs[i]);
	for (uint32_t i = 0; i < s->n_clients; i++)
		client_outcome(s, &s->clients[i]);
}
