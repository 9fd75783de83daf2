/* check.c - what must hold after every event
 *
 * The numbers are those of facts/security.md, "Invariants to test". What is
 * compared is what the simulated world saw (which processes ran where, what
 * was durable when, what a client was told), never a core's own opinion.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define SLACK (6 * SECOND) /* for messages, reaping and files, beyond the grace */

struct jobrec *check_job(struct sim *s, uint64_t job)
{
	static struct jobrec nobody;

	if (job > 0 && job < JOBS_MAX)
		return &s->jobs[job];
	sim_fail(s, "job numbers are handed out one after the other (%" PRIu64 ")", job);
	return &nobody;
}

static bool is_final(const char *state)
{
	return strcmp(state, "done") == 0 || strcmp(state, "failed") == 0 ||
	       strcmp(state, "lost") == 0;
}

/* ---- what is durable -------------------------------------------------------------- */

static void job_row(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);

	for (uint32_t i = 0; i < JOBS_MAX && !j->seen; i++)
		if (s->jobs[i].seen && !s->jobs[i].pruned && strcmp(s->jobs[i].client_id, r->client_id) == 0)
			sim_fail(s, "4: one client id makes one job (%s: jobs %u and %" PRIu64 ")",
				 r->client_id, i, r->job);
	if (j->final[0] != '\0' &&
	    (strcmp(j->final, r->state) != 0 || j->exit_code != r->exit_code))
		sim_fail(s, "5: a final state never changes (job %" PRIu64 ": %s %u, then %s %u)", r->job,
			 j->final, j->exit_code, r->state, r->exit_code);
	again_stored(s, j, r);
	ranks_row(s, r);
	hang_row(s, r);
	if (!j->seen)
		j->since = s->w.now;
	j->seen = true;
	j->attempt = r->attempt;
	snprintf(j->client_id, sizeof(j->client_id), "%s", r->client_id);
	j->plan = plan_of_hash(s, r->spec_hash.p);
	if (r->ending != NULL && r->ending_code == 124 && !j->time_limited) {
		due_limit_reached(s, r->job, j);
		j->time_limited = true;
	}
	if (!is_final(r->state) || j->final[0] != '\0')
		return;
	snprintf(j->final, sizeof(j->final), "%s", r->state);
	if (strcmp(r->state, "done") == 0 && r->start_wall_ms == 0) /* its output would be taken for none */
		sim_fail(s, "a job that has done its work was started at some time (job %" PRIu64 ")", r->job);
	cause_over(s, r);
	j->exit_code = r->exit_code;
	j->over_at = s->w.now;
	check_below(s, r);
	s->n_final[r->state[0] == 'd' ? 0 : r->state[0] == 'f' ? 1 : 2]++;
}

static void node_row(struct sim *s, const struct row *now)
{
	struct msg m;

	if (now->json == NULL || msg_decode(now->json, now->len, &m, NULL) < 0)
		return;
	policy_row(s, &m.u.row_node);
	msg_finish(&m);
}

static uint32_t kept_jobs(const struct sim *s)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < JOBS_MAX; i++)
		n += s->jobs[i].final[0] != '\0' && !s->jobs[i].pruned;
	return n;
}

/* Only what is over, and more than 'history' are. */
static void job_deleted(struct sim *s, const char *key)
{
	struct jobrec *j = check_job(s, strtoull(key, NULL, 10));

	if (s->history == 0 || j->final[0] == '\0')
		sim_fail(s, "3: a job that was acknowledged stays known (job %s deleted)", key);
	j->pruned = true;
	if (kept_jobs(s) < s->history)
		sim_fail(s, "of jobs that are over as many are kept as was said (job %s deleted, %u are left of %u)", key,
			 kept_jobs(s), s->history);
}

void check_row(struct sim *s, const struct row *now)
{
	struct msg m;

	if (now->table == TABLE_EVENT)
		events_row(s, now);
	if (now->table == TABLE_NODE && s->policy)
		node_row(s, now);
	if (now->table != TABLE_JOB)
		return;
	if (now->json == NULL) {
		job_deleted(s, now->key);
		return;
	}
	if (msg_decode(now->json, now->len, &m, NULL) < 0) {
		sim_fail(s, "rows can be read back (%s)", now->key);
		return;
	}
	job_row(s, &m.u.row_job);
	msg_finish(&m);
}

/* Decoding all that is sent would take too long. */
static bool worth_a_look(const char *text, size_t len)
{
	static const char *const begins[] = { "submitted", "forget", "node_registered", "status",
					      "prepare", "start" };

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
		size_t n = strlen(begins[i]);

		if (len > 6 + n && memcmp(text + 6, begins[i], n) == 0)
			return true;
	}
	return false;
}

/* Its state is among the first words. */
static bool tells_an_end(const char *text, size_t len)
{
	static const char *const ends[] = { "\"state\":\"done\"", "\"state\":\"failed\"", "\"state\":\"lost\"" };
	size_t n = len < 120 ? len : 120;

	for (size_t i = 0; i < 3 && len > 16 && memcmp(text + 6, "job_update", 10) == 0; i++)
		if (memmem(text, n, ends[i], strlen(ends[i])) != NULL)
			return true;
	return false;
}

/* What the coordinator says may be said only when it is on disk. */
void check_sent(struct sim *s, struct conn *c, int side, const char *text, size_t len)
{
	const struct proc *to = c->end[1 - side].proc;
	struct msg m;

	if ((!worth_a_look(text, len) && !tells_an_end(text, len)) || msg_decode(text, len, &m, NULL) < 0)
		return;
	if (m.type == MSG_node_registered)
		silence_registered(s, c);
	if (m.type == MSG_status)
		silence_shown(s, &m.u.status);
	if (m.type == MSG_start)
		due_start_sent(s, m.u.start.job);
	if (m.type == MSG_job_update && m.u.job_update.n_job == 1 && is_final(m.u.job_update.job[0].state) &&
	    check_job(s, m.u.job_update.job[0].job)->final[0] == '\0')
		sim_fail(s, "5: an end is told only when it is on disk (job %" PRIu64 ")", m.u.job_update.job[0].job);
	if (m.type == MSG_submitted && !check_job(s, m.u.submitted.job)->seen)
		sim_fail(s, "3: a submit is acknowledged only when it is on disk (job %" PRIu64 ")",
			 m.u.submitted.job);
	if (m.type == MSG_prepare && check_job(s, m.u.prepare.job)->attempt < m.u.prepare.attempt)
		sim_fail(s, "1: nodes are asked to prepare only when their choice is on disk (job %" PRIu64
			    ", attempt %u)", m.u.prepare.job, m.u.prepare.attempt);
	/* of one that never was there it may have been told to keep the specification */
	if (m.type == MSG_forget && to->kind == PK_AGENT && m.u.forget.job < JOBS_MAX &&
	    s->jobs[m.u.forget.job].seen && s->jobs[m.u.forget.job].final[0] == '\0' &&
	    s->jobs[m.u.forget.job].attempt <= m.u.forget.attempt && !s->jobs[m.u.forget.job].between)
		sim_fail(s, "8: a node is told to forget a job only when its end is on disk (job %" PRIu64
			    ")", m.u.forget.job);
	msg_finish(&m);
}

static void in_memory(void *arg, const struct rec_row_job *r)
{
	struct sim *s = arg;
	struct jobrec *j = check_job(s, r->job);

	j->in_memory = true;
	gpus_look_job(s, r);
	hang_look_job(s, r);
	due_look_job(s, r);
	silence_look_job(s, r);
	if (j->final[0] != '\0' && (strcmp(j->final, r->state) != 0 || j->exit_code != r->exit_code))
		sim_fail(s, "5: a final state never changes (job %" PRIu64 ": %s %u on disk, %s %u in "
			    "memory)", r->job, j->final, j->exit_code, r->state, r->exit_code);
}

void check_coord(struct sim *s)
{
	uint32_t i;

	for (i = 0; i < JOBS_MAX && i < 32; i++)
		s->jobs[i].in_memory = false;
	gpus_look(s);
	coord_each_job(s->coord.core, in_memory, s);
	gpus_looked(s);
	queue_looked(s);
	due_looked(s);
	for (i = 0; i < JOBS_MAX && i < 32; i++)
		if (s->jobs[i].seen && !s->jobs[i].in_memory && (s->history == 0 || s->jobs[i].final[0] == '\0'))
			sim_fail(s, "3: a job on disk is known to the coordinator (job %u)", i);
}

/* ---- what ran ------------------------------------------------------------------------ */

static void mark(struct sim *s, uint64_t job, uint32_t attempt, uint32_t host, bool shim)
{
	struct jobrec *j = check_job(s, job);
	struct ready_mark *m;

	for (m = j->marks; m != NULL; m = m->next)
		if (m->attempt == attempt && m->host == host && m->shim == shim)
			return;
	m = world_alloc(&s->w, sizeof(*m));
	m->attempt = attempt;
	m->host = host;
	m->shim = shim;
	m->next = j->marks;
	j->marks = m;
}

static uint32_t marks(const struct jobrec *j, uint32_t attempt, bool shim)
{
	uint32_t n = 0;

	for (const struct ready_mark *m = j->marks; m != NULL; m = m->next)
		n += m->attempt == attempt && m->shim == shim;
	return n;
}

void check_shim_ready(struct sim *s, const struct shim_actor *h)
{
	mark(s, h->job, h->attempt, h->host, true);
}

void check_start(struct sim *s, struct shim_actor *h)
{
	const struct jobrec *j = check_job(s, h->job);

	for (const struct exec *x = s->execs; x != NULL; x = x->next)
		if (x->job == h->job && x->attempt == h->attempt && x->rank >= h->rank_base &&
		    x->rank < h->rank_base + h->nprocs)
			sim_fail(s, "1: no rank of an attempt is started twice (job %" PRIu64
				    ", attempt %u, rank %u: on %s, and now on %s)",
				 h->job, h->attempt, x->rank, s->agents[x->host].name,
				 s->agents[h->host].name);
	if (j->final[0] != '\0')
		sim_fail(s, "2: a job that is over is not started (job %" PRIu64 " is %s)", h->job,
			 j->final);
	if (marks(j, h->attempt, true) < h->nnodes)
		sim_fail(s, "barrier: nothing starts before all nodes are ready (job %" PRIu64
			    ": %u of %u)", h->job, marks(j, h->attempt, true), h->nnodes);
	again_started(s, h);
	if (h->rank_base != h->node_rank * h->nprocs)
		sim_fail(s, "each rank belongs to one node");
}

static bool something_ended(const struct sim *s, uint64_t job)
{
	for (const struct exec *x = s->execs; x != NULL; x = x->next)
		if (x->job == job && (x->end == EX_SIGNALLED || x->end == EX_VANISHED ||
				      (x->end == EX_EXITED && x->code != 0)))
			return true;
	return false;
}

void check_signal(struct sim *s, struct shim_actor *h, int sig)
{
	const struct jobrec *j = check_job(s, h->job);
	uint32_t ranks = 0;

	for (uint32_t i = 0; i < h->nprocs; i++)
		ranks += h->workers[i].alive;
	if (ranks == 0)
		return;
	due_signal(s, h, sig);
	if (s->no_kills)
		sim_fail(s, "9: a coordinator that does not know a job ends none of it (job %" PRIu64
			    ", signal %d)", h->job, sig);
	else if (!hang_ends(s, h) && !j->kill_asked && !j->time_limited && !j->lost_allowed && !s->loss_allowed &&
		 j->plan != NULL && j->plan->time_s == 0 && !something_ended(s, h->job))
		sim_fail(s, "8: no job is ended without a cause (job %" PRIu64 ", signal %d)", h->job,
			 sig);
}

/* ---- ends in time (6, 7) ------------------------------------------------------------- */

struct deferred {
	enum { DF_END, DF_SHIM_END, DF_SHIM_DIED } what;
	struct shim_actor *shim;
	struct agent_actor *agent;
	uint32_t life;
	int64_t since, wait;
};

static void defer(struct sim *s, int what, struct shim_actor *h, uint32_t life, int64_t wait)
{
	struct deferred *d = world_alloc(&s->w, sizeof(*d));

	d->what = what;
	d->shim = h;
	d->agent = &s->agents[h->host];
	d->life = life;
	d->since = s->w.now;
	d->wait = wait;
	world_at(&s->w, s->w.now + wait, EV_CHECK, NULL, 0, d);
}

void check_leaves(struct sim *s, struct shim_actor *h, int64_t grace)
{
	defer(s, DF_END, h, s->agents[h->host].proc.life, grace + SLACK);
}

void check_shim_told(struct sim *s, struct shim_actor *h, uint32_t grace_ms)
{
	if (h->told_end)
		return;
	h->told_end = true;
	defer(s, DF_SHIM_END, h, h->proc.life, grace_ms * MS + SLACK);
}

void check_shim_died(struct sim *s, struct shim_actor *h)
{
	if (simshim_alive(h) > 0)
		defer(s, DF_SHIM_DIED, h, s->agents[h->host].proc.life, 10 * SECOND);
}

static void end_is_known(struct sim *s, uint32_t host, const struct rec_end *e)
{
	struct shim_actor *h = simshim_find(s, host, e->job, e->attempt);

	/* what it finds in its socket after a stop is of a session that is over */
	if (h != NULL && s->agents[host].proc.resume_at < s->w.now - 10 * SECOND)
		defer(s, DF_END, h, s->agents[host].proc.life, e->grace_ms * MS + SLACK);
}

static bool undisturbed(const struct deferred *d)
{
	return d->agent->proc.up && d->agent->proc.life == d->life &&
	       d->agent->proc.resume_at <= d->since;
}

void check_deferred(struct sim *s, const struct event *e)
{
	const struct deferred *d = e->p;
	uint32_t n = stuck_mortal(s, d->shim);

	if (n == 0)
		return;
	if (d->shim->proc.up && d->shim->proc.resume_at > d->since) {
		/* stopped meanwhile: its time runs from when it goes on */
		defer(s, d->what, d->shim, d->life, d->shim->proc.resume_at - s->w.now + d->wait);
		return;
	}
	if (d->what == DF_SHIM_END && d->shim->proc.life == d->life)
		sim_fail(s, "6: nothing lives longer than the grace after its shim was told to end it "
			    "(job %" PRIu64 " on %s: %u processes)",
			 d->shim->job, d->agent->name, n);
	if (d->what == DF_END && undisturbed(d))
		sim_fail(s, "6: nothing lives longer than the grace after its agent was told of the end "
			    "(job %" PRIu64 " on %s: %u processes)",
			 d->shim->job, d->agent->name, n);
	if (d->what != DF_SHIM_DIED)
		return;
	if (undisturbed(d))
		sim_fail(s, "7: nothing lives long after its shim was killed (job %" PRIu64
			    " on %s: %u processes)", d->shim->job, d->agent->name, n);
	else
		check_shim_died(s, d->shim);
}

/* ---- what is said ----------------------------------------------------------------------- */

static void to_agent(struct sim *s, uint32_t host, const struct msg *m)
{
	if (m->type == MSG_end)
		end_is_known(s, host, &m->u.end);
	if (m->type == MSG_prepare)
		repeat_soon(s, &s->agents[host], m->u.prepare.job, m->u.prepare.attempt);
	if (m->type == MSG_prove)
		choice_prove(s, &s->agents[host], &m->u.prove);
	if (m->type == MSG_start) {
		const struct jobrec *j = check_job(s, m->u.start.job);

		if (j->plan != NULL && marks(j, m->u.start.attempt, false) < j->plan->nnodes)
			sim_fail(s, "barrier: start is sent only when all nodes have said they are ready "
				    "(job %" PRIu64 ": %u of %u)", m->u.start.job,
				 marks(j, m->u.start.attempt, false), j->plan->nnodes);
		/* it may come late, to an agent that was stopped: of that attempt nothing is known any more */
		if (j->plan != NULL && j->plan->nnodes > 1 && j->proved_attempt <= m->u.start.attempt &&
		    (j->proved_attempt != m->u.start.attempt ||
		     (uint32_t)__builtin_popcount(j->proved_by) < j->plan->nnodes))
			sim_fail(s, "start is sent only when all nodes have reached each other in this attempt (job %"
				    PRIu64 ", attempt %u)", m->u.start.job, m->u.start.attempt);
	}
}

static void held_marks(struct sim *s, uint32_t host, const struct rec_node_register *r)
{
	for (size_t i = 0; i < r->n_held; i++)
		if (strcmp(r->held[i].phase, "preparing") != 0 && strcmp(r->held[i].phase, "gone") != 0)
			mark(s, r->held[i].job, r->held[i].attempt, host, false);
}

static void note_proof(struct jobrec *j, uint32_t attempt, uint32_t host)
{
	if (attempt < j->proved_attempt)
		return;
	if (attempt != j->proved_attempt)
		j->proved_by = 0;
	j->proved_attempt = attempt;
	j->proved_by |= 1u << host;
}

static void refused(struct jobrec *j, const struct rec_prepared *p)
{
	j->prepare_failed = true;
	if (p->retry)
		j->retry_attempt = p->attempt;
}

static void from_agent(struct sim *s, uint32_t host, const struct msg *m)
{
	switch (m->type) {
	case MSG_prepared:
		choice_port(s, &m->u.prepared);
		if (m->u.prepared.ok)
			mark(s, m->u.prepared.job, m->u.prepared.attempt, host, false);
		else
			refused(check_job(s, m->u.prepared.job), &m->u.prepared);
		if (m->u.prepared.text != NULL && strstr(m->u.prepared.text, "still holds GPUs") != NULL)
			sim_fail(s, "GPUs are not given out while what is left of a job may use them (job %" PRIu64
				    ": %s)", m->u.prepared.job, m->u.prepared.text);
		break;
	case MSG_proved:
		note_proof(check_job(s, m->u.proved.job), m->u.proved.attempt, host);
		for (size_t i = 0; i < m->u.proved.n_results; i++)
			if (m->u.proved.results[i].n_reached == 0)
				check_job(s, m->u.proved.job)->prepare_failed = true;
		break;
	case MSG_ranks:
		silence_told(s, m->u.ranks.job, m->u.ranks.attempt, m->u.ranks.ranks, m->u.ranks.n_ranks);
		break;
	case MSG_ended:
		silence_told(s, m->u.ended.job, m->u.ended.attempt, m->u.ended.ranks, m->u.ended.n_ranks);
		break;
	case MSG_node_register:
		held_marks(s, host, &m->u.node_register);
		break;
	case MSG_kill:
		check_job(s, m->u.kill.job)->kill_asked = true;
		break;
	default:
		break;
	}
}

void check_message(struct sim *s, struct conn *c, int side, const struct msg *m)
{
	const struct proc *from = c->end[1 - side].proc, *to = c->end[side].proc;

	if (c->kind == CONN_LOCAL && m->type == MSG_kill)
		check_job(s, m->u.kill.job)->kill_asked = true;
	if (c->kind != CONN_CONTROL)
		return;
	if (to->kind == PK_COORD)
		silence_word(s, c);
	if (to->kind == PK_COORD && m->type == MSG_readings)
		gpus_told(s, c, &m->u.readings);
	if (from->kind == PK_AGENT && to->kind == PK_COORD)
		from_agent(s, from->idx, m);
	else if (from->kind == PK_COORD && to->kind == PK_AGENT) {
		removed_told(s, c);
		to_agent(s, to->idx, m);
	}
}

/* ---- what clients are told ------------------------------------------------------------------ */

void check_acked(struct sim *s, struct client *k, uint64_t job)
{
	struct jobrec *j = check_job(s, job);

	if (!j->seen || strcmp(j->client_id, k->client_id) != 0)
		sim_fail(s, "3: what is acknowledged is on disk (client %u, job %" PRIu64 ")", k->idx, job);
	if (k->acked_job != 0 && k->acked_job != job)
		sim_fail(s, "4: a retried submit is the same job (client %u: %" PRIu64 " and %" PRIu64 ")",
			 k->idx, k->acked_job, job);
	j->acked = true;
}

static int order_of(const char *state)
{
	static const char *const names[] = { "queued", "preparing", "ready", "running", "ending" };

	if (strcmp(state, "restarting") == 0)
		return 4;
	for (int i = 0; i < 5; i++)
		if (strcmp(names[i], state) == 0)
			return i;
	return 5;
}

static bool has_started(const struct sim *s, uint64_t job)
{
	for (const struct exec *x = s->execs; x != NULL; x = x->next)
		if (x->job == job)
			return true;
	return false;
}

/* An attempt may be taken back only while it was being prepared; from
 * running to preparing only when the coordinator's 'start' died with it. */
static bool goes_back(const struct sim *s, const struct client *k,
		      const struct rec_job_info *i)
{
	if (k->rank_of_state < 0 || strcmp(i->state, "recovering") == 0)
		return false;
	if (k->rank_of_state == 5)
		return strcmp(k->state, i->state) != 0;
	if (i->attempt != k->attempt)
		return i->attempt < k->attempt && k->rank_of_state > 1;
	return order_of(i->state) < k->rank_of_state &&
	       (k->coord_life == s->coord.proc.life || k->rank_of_state == 5 ||
		has_started(s, i->job));
}

void check_told(struct sim *s, struct client *k, const struct rec_job_update *u)
{
	const struct rec_job_info *i = &u->job[0];
	const struct jobrec *j = check_job(s, i->job);

	if (i->job != k->job)
		sim_fail(s, "a watcher is told about its own job");
	if (goes_back(s, k, i))
		sim_fail(s, "5: what a client sees goes forward (job %" PRIu64 ": attempt %u %s, then "
			    "attempt %u %s)", i->job, k->attempt, k->state, i->attempt, i->state);
	if (strcmp(i->state, "recovering") == 0)
		return; /* a new coordinator does not know yet */
	k->rank_of_state = order_of(i->state);
	k->attempt = i->attempt;
	k->coord_life = s->coord.proc.life;
	snprintf(k->state, sizeof(k->state), "%s", i->state);
	if (!u->settled)
		return;
	k->settled = true;
	k->exit_code = i->exit_code;
	cause_told(s, i);
	if (!MSG_HAS(i, job_info, exit_code))
		sim_fail(s, "a settled job has an exit code (job %" PRIu64 ")", i->job);
	if (!s->no_progress_checks && is_final(i->state) && (strcmp(j->final, i->state) != 0 || j->exit_code != i->exit_code))
		sim_fail(s, "a final state that is told as settled is on disk (job %" PRIu64 ": %s)",
			 i->job, i->state);
}
