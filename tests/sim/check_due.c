/* check_due.c - what must happen by when, once there is a reason for it
 *
 *   a rank has failed by itself     all of its attempt are gone, a grace later
 *   a kill was confirmed            the same, and nothing of that job is begun any more
 *   the time limit has passed       the same; and not before it has
 *   nodes were chosen               the job runs, or ends, within the time to prepare
 *   an agent hears nobody           it does not count itself as registered
 *   a rank was told to end          it has its grace before SIGKILL
 *   a shim is at its end            its status file is there
 *   a node can reach us again       it does
 *
 * Times run from the last moment at which anything was in the way: a process that was
 * down or stopped, a link that was cut, a disk that was full. What is alive is
 * known from the processes themselves.
 */
#include <inttypes.h>
#include <signal.h>
#include <string.h>

#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

#define SLACK (8 * SECOND) /* messages, reaping, slow disks and slow networks */
#define LOOK (500 * MS)
#define HEARD_WITHIN (3 * SECOND)
#define HALF_OPEN (8 * SECOND) /* silence_ms is 5 s */

/* ---- is anything in the way? --------------------------------------------------------- */

void due_disturbed(struct sim *s, int64_t lasts)
{
	if (s->w.now + lasts > s->unwell_at)
		s->unwell_at = s->w.now + lasts;
}

static bool host_out(const struct sim *s, uint32_t host)
{
	return s->agents[host].dead || removed_host(s, host);
}

static bool host_well(const struct sim *s, const struct agent_actor *a)
{
	return a->proc.up && a->proc.resume_at <= s->w.now && !a->cut_up && !a->cut_down && !a->leaving &&
	       a->session != NULL && !a->session->end[1].gone && !a->session->end[1].closing &&
	       s->w.now - a->heard < HEARD_WITHIN &&
	       (!s->launchers || (a->launcher.up && a->launcher.resume_at <= s->w.now));
}

static bool all_well(const struct sim *s)
{
	if (disk_is_bad())
		return false;
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (!host_out(s, i) && !host_well(s, &s->agents[i]))
			return false;
	for (uint32_t i = 0; i < s->n_shims; i++)
		if (s->shims[i]->proc.up && s->shims[i]->proc.resume_at > s->w.now)
			return false;
	return true;
}

/* ---- who is alive, and since when it should not be ------------------------------------- */

/* A shim of this attempt (0: of any) some of whose processes are alive, and could be ended. */
static struct shim_actor *lives(struct sim *s, uint64_t job, uint32_t attempt)
{
	for (uint32_t i = 0; i < s->n_shims; i++) {
		struct shim_actor *h = s->shims[i];

		if (h->job == job && (attempt == 0 || h->attempt == attempt) && !host_out(s, h->host) &&
		    h->boot == s->agents[h->host].boot && stuck_mortal(s, h) > 0)
			return h;
	}
	return NULL;
}

static bool late(const struct sim *s, int64_t since, int64_t wait)
{
	return s->w.now - (since > s->unwell_at ? since : s->unwell_at) > wait + SLACK;
}

static bool failed_by_itself(const struct exec *x)
{
	return x->unstartable || (!x->signalled && (x->end == EX_SIGNALLED || (x->end == EX_EXITED && x->code != 0)));
}

static void look_at_failed(struct sim *s)
{
	for (const struct exec *x = s->execs; x != NULL; x = x->next) {
		const struct jobrec *j = check_job(s, x->job);

		if (x->reaped_at == 0 || !failed_by_itself(x) || j->plan == NULL || s->agents[x->host].boot != x->boot ||
		    !late(s, x->reaped_at, j->plan->grace_ms * MS) || lives(s, x->job, x->attempt) == NULL)
			continue;
		sim_fail(s, "the first rank to fail ends all others (job %" PRIu64 ", attempt %u: rank %u failed %d s ago)",
			 x->job, x->attempt, x->rank, (int)((s->w.now - x->reaped_at) / SECOND));
		return;
	}
}

static int64_t grace_of(const struct jobrec *j)
{
	uint32_t ms = j->plan->grace_ms;

	return (j->kill_grace_ms != 0 && j->kill_grace_ms < ms ? j->kill_grace_ms : ms) * MS;
}

void due_kill_confirmed(struct sim *s, uint64_t job)
{
	struct jobrec *j = check_job(s, job);

	if (j->kill_confirmed != 0)
		return;
	j->kill_confirmed = s->w.now;
	j->kill_attempt = j->attempt;
}

static void look_at_killed(struct sim *s, uint64_t job, const struct jobrec *j)
{
	if (j->kill_confirmed != 0 && late(s, j->kill_confirmed, grace_of(j)) && lives(s, job, 0) != NULL)
		sim_fail(s, "a kill that was confirmed ends the job (job %" PRIu64 ": %d s ago)", job,
			 (int)((s->w.now - j->kill_confirmed) / SECOND));
}

static void look_at_asked(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_clients; i++)
		if (!s->clients[i].over && s->clients[i].kill_sent != 0 && late(s, s->clients[i].kill_sent, 0))
			sim_fail(s, "who asks for the end of a job is answered (client %u: nothing for %d s)", i,
				 (int)((s->w.now - s->clients[i].kill_sent) / SECOND));
}

/* ---- the time limit ----------------------------------------------------------------------- */

static void span(const struct sim *s, uint64_t job, uint32_t attempt, int64_t *from, int64_t *to)
{
	*from = *to = 0;
	for (const struct exec *x = s->execs; x != NULL; x = x->next) {
		if (x->job != job || x->attempt != attempt)
			continue;
		if (*from == 0 || x->began < *from)
			*from = x->began;
		if (x->over_at > *to)
			*to = x->over_at;
	}
}

/* Of all attempts together: those before have run at least so long. */
static void look_at_limit(struct sim *s, uint64_t job, const struct jobrec *j)
{
	int64_t from, to, used = 0, limit = j->plan->time_s * SECOND;

	for (uint32_t i = 1; i < j->attempt; i++) {
		span(s, job, i, &from, &to);
		used += to > from ? to - from : 0;
	}
	span(s, job, j->attempt, &from, &to);
	if (from != 0 && limit > 0 && late(s, from + limit - used, j->plan->grace_ms * MS) &&
	    lives(s, job, j->attempt) != NULL)
		sim_fail(s, "a job is ended when its time limit has passed (job %" PRIu64 ", attempt %u: %d s too late)", job,
			 j->attempt, (int)((s->w.now - from - limit + used) / SECOND));
}

void due_start_sent(struct sim *s, uint64_t job)
{
	struct jobrec *j = check_job(s, job);

	if (j->start_sent == 0)
		j->start_sent = s->w.now;
}

/* It says on disk that the limit was reached. Where both were restarted it is counted by the wall clock. */
void due_limit_reached(struct sim *s, uint64_t job, const struct jobrec *j)
{
	if (j->plan == NULL || (s->jumped && s->coord.proc.life > 1))
		return;
	if (j->plan->time_s == 0 || j->start_sent == 0 || s->w.now - j->start_sent < j->plan->time_s * SECOND - MS)
		sim_fail(s, "no job is ended for its time limit before that (job %" PRIu64 ": %u s, %.3f s after its start)",
			 job, j->plan->time_s, j->start_sent == 0 ? 0 : (double)(s->w.now - j->start_sent) / 1e9);
}

/* ---- preparing ------------------------------------------------------------------------------ */

void due_look_job(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);
	uint32_t attempt = strcmp(r->state, "preparing") == 0 ? r->attempt : 0;

	/* with a full disk it was never one, and another has its number */
	if (attempt != j->preparing || r->submit_wall_ms != j->submit_wall_ms)
		j->preparing_since = s->w.now;
	j->submit_wall_ms = r->submit_wall_ms;
	j->preparing = attempt;
}

/* A coordinator that was restarted waits for a node that is out until it counts as lost. */
static void look_at_prepared(struct sim *s, uint64_t job, const struct jobrec *j)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (host_out(s, i))
			return;
	if (j->in_memory && j->preparing != 0 && late(s, j->preparing_since, s->prepare_ms * MS))
		sim_fail(s, "what is not ready in time is ended (job %" PRIu64 ": prepared for %d s)", job,
			 (int)((s->w.now - j->preparing_since) / SECOND));
}

/* ---- who comes back ---------------------------------------------------------------------------- */

#define BACK_WITHIN (27 * SECOND) /* the longest pause between attempts, and one of those that nobody answers */

static bool kept_away(const struct sim *s, const struct agent_actor *a)
{
	return host_well(s, a) || !a->proc.up || a->proc.resume_at > s->w.now || a->cut_up || a->cut_down || a->leaving ||
	       s->coord.proc.resume_at > s->w.now - SECOND || a->away_life != s->coord.proc.life;
}

static void look_at_away(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_agents && s->rogue == NULL; i++) {
		struct agent_actor *a = &s->agents[i];

		if (host_out(s, i) || kept_away(s, a) || (a->session != NULL && s->w.now - a->heard < HEARD_WITHIN))
			a->away_since = s->w.now;
		else if (s->w.now - a->away_since > BACK_WITHIN + SLACK)
			sim_fail(s, "25: a node that can reach the coordinator is back soon (%s: away for %d s)", a->name,
				 (int)((s->w.now - a->away_since) / SECOND));
		a->away_life = s->coord.proc.life;
	}
}

/* ---- what became of it is on its host's disk ------------------------------------------------- */

static void look_at_files(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_shims; i++) {
		struct shim_actor *h = s->shims[i];
		int64_t from;

		if (!h->proc.up || shim_phase(h->core) != SHIM_ENDED)
			continue;
		if (h->over_at == 0)
			h->over_at = s->w.now;
		from = h->over_at > s->disk_well_at ? h->over_at : s->disk_well_at;
		if (late(s, from, SHIM_REWRITE_MS * MS) && !simagent_has_status(s, h->host, h->job, h->attempt))
			sim_fail(s, "14: how a job ended is written down when there is room again (job %" PRIu64 " on %s)", h->job,
				 s->agents[h->host].name);
	}
}

/* After each step of the coordinator. */
void due_looked(struct sim *s)
{
	if (!all_well(s))
		due_disturbed(s, 0);
	for (uint32_t i = 1; i < 32; i++)
		if (!s->jobs[i].in_memory)
			s->jobs[i].preparing = 0; /* its number may be another one's later */
	if (s->no_progress_checks || s->w.now < s->due_at)
		return;
	s->due_at = s->w.now + LOOK;
	look_at_failed(s);
	look_at_away(s);
	look_at_files(s);
	look_at_asked(s);
	for (uint32_t i = 1; i < 32 && !s->failed; i++) {
		const struct jobrec *j = &s->jobs[i];

		if (!j->seen || j->plan == NULL)
			continue;
		look_at_killed(s, i, j);
		look_at_limit(s, i, j);
		look_at_prepared(s, i, j);
	}
}

/* ---- signals ---------------------------------------------------------------------------------- */

/* Of a shim, to ranks that are alive. One that was stopped meanwhile is late with the first. */
void due_signal(struct sim *s, struct shim_actor *h, int sig)
{
	const struct jobrec *j = check_job(s, h->job);
	int64_t had = h->term_at != 0 ? s->w.now - h->term_at : 0;

	if (sig == SIGTERM && h->term_at == 0)
		h->term_at = s->w.now;
	if (sig != SIGKILL || h->proc.resume_at > 0 || j->plan == NULL || had >= grace_of(j) - 100 * MS)
		return;
	sim_fail(s, "6: who is told to end has his grace (job %" PRIu64 " on %s: killed after %.3f s of %.3f s)", h->job,
		 s->agents[h->host].name, (double)had / 1e9, (double)grace_of(j) / 1e9);
}

/* ---- half-open links ---------------------------------------------------------------------------- */

/* After each of its steps. */
void due_heard(struct sim *s, const struct agent_actor *a)
{
	int64_t from = a->told > a->proc.resume_at ? a->told : a->proc.resume_at;

	if (a->core != NULL && agent_registered(a->core) && s->w.now - from > HALF_OPEN)
		sim_fail(s, "16: an agent that hears nothing does not take its link for alive (%s: nothing for %d s)", a->name,
			 (int)((s->w.now - from) / SECOND));
}
