/* agent_stuck.c - processes of jobs that outlive SIGKILL, or may not be signalled, until they are gone
 *
 * The coordinator keeps new jobs away from this node while there are some, and
 * keeps the list: this agent may be restarted. It says who has come and who has
 * gone, looks every two seconds, and forgets what it was told to. What a shim says is
 * looked at first (ACT_CONFIRM): its user may make it say anything.
 */
#include "core/agent_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 2000

static void fill(struct stuck *s, struct rec_stuck_proc *r)
{
	memset(r, 0, sizeof(*r));
	r->pid = s->pid;
	r->start_time = s->start_time;
	if (s->has_job)
		MSG_SET(r, stuck_proc, job, s->job);
	r->name = s->name;
	r->text = s->text;
	if (s->foreign)
		MSG_SET(r, stuck_proc, foreign, true);
}

static void tell(struct agent *a, struct stuck *v, size_t n, bool gone)
{
	struct rec_stuck_proc r[STUCK_MAX];
	struct msg m;

	if (n == 0 || a->session != SE_READY)
		return;
	for (size_t i = 0; i < n; i++)
		fill(&v[i], &r[i]);
	msg_init(&m, MSG_stuck);
	if (gone) {
		m.u.stuck.gone = r;
		m.u.stuck.n_gone = n;
	} else {
		m.u.stuck.procs = r;
		m.u.stuck.n_procs = n;
	}
	session_send(a, &m);
}

static bool known(const struct agent *a, const struct rec_stuck_proc *r)
{
	for (size_t i = 0; i < a->n_stuck; i++)
		if (a->stuck[i].pid == r->pid && a->stuck[i].start_time == r->start_time)
			return true;
	return false;
}

static void add(struct agent *a, const struct rec_stuck_proc *r, const uint64_t *job)
{
	struct stuck *s = &a->stuck[a->n_stuck];

	if (a->n_stuck == STUCK_MAX || known(a, r))
		return;
	memset(s, 0, sizeof(*s));
	s->pid = r->pid;
	s->start_time = r->start_time;
	s->has_job = job != NULL || MSG_HAS(r, stuck_proc, job);
	s->job = job != NULL ? *job : r->job;
	s->foreign = r->foreign;
	snprintf(s->name, sizeof(s->name), "%s", r->name != NULL ? r->name : "?");
	snprintf(s->text, sizeof(s->text), "%s", r->text != NULL ? r->text : "its state is not known");
	a->n_stuck++;
	a->ticket_stuck = 0; /* an answer under way counts the places otherwise */
	a->stuck_at = mono_min(a->stuck_at, mono_add_ms(a->now, LOOK_MS));
}

void stuck_met(struct agent *a, uint64_t job, const struct rec_stuck_proc *v, size_t n)
{
	size_t before = a->n_stuck;

	for (size_t i = 0; i < n; i++)
		add(a, &v[i], &job);
	tell(a, &a->stuck[before], a->n_stuck - before, false);
}

void stuck_registered(struct agent *a)
{
	tell(a, a->stuck, a->n_stuck, false);
}

void stuck_on_watch(struct agent *a, const struct rec_stuck_watch *w)
{
	if (w->instead) {
		a->n_stuck = 0;
		a->ticket_stuck = 0;
	}
	for (size_t i = 0; i < w->n_procs; i++)
		add(a, &w->procs[i], NULL);
}

/* ---- what a shim says ------------------------------------------------------------------ */

/* "process 4711 (python) cannot be killed: state D (disk sleep) in nfs_wait" */
static void put_into_words(struct agent *a, struct ajob *j, const struct rec_stuck_proc *v, size_t n, const char *also,
			   const char *doubt)
{
	char text[500], first[300] = "", more[32] = "";

	if (n > 0)
		snprintf(first, sizeof(first), "process %u (%.64s) cannot be killed: %.128s", v[0].pid,
			 v[0].name != NULL ? v[0].name : "?", v[0].text != NULL ? v[0].text : "its state is not known");
	if (n > 1)
		snprintf(more, sizeof(more), ", and %zu more", n - 1);
	snprintf(text, sizeof(text), "%s%s%s%.160s%s", first, more, n > 0 && also != NULL ? "; " : "",
		 also != NULL ? also : "", doubt);
	free(j->end_text);
	j->end_text = agent_strdup(a, text);
}

/* SIGKILL was sent again and again for half a minute. That is the word of a program of
 * the job's user, good for that user's job; not enough to keep others away from here. */
void stuck_claimed(struct agent *a, struct ajob *j, const struct rec_shim_stuck *s)
{
	struct rec_stuck_proc *v;
	struct action *x;

	if (!ajob_alive(j) || j->phase == AJ_SWEEPING || j->ticket_confirm != 0 || (s->n_procs == 0 && s->text == NULL))
		return;
	put_into_words(a, j, s->procs, s->n_procs, s->text, "; this node's agent did not see that itself");
	v = arena_alloc(&a->out->arena, (s->n_procs + 1) * sizeof(*v));
	x = ajob_action(a, j, ACT_CONFIRM, &j->ticket_confirm);
	x->shim_pid = j->shim_pid;
	for (size_t i = 0; v != NULL && i < s->n_procs; i++) {
		v[i] = s->procs[i];
		v[i].text = s->procs[i].text != NULL ? arena_strdup(&a->out->arena, s->procs[i].text) : NULL;
		v[i].name = NULL;
	}
	x->procs = v;
	x->n_procs = v != NULL ? s->n_procs : 0;
}

/* What became another user's the launcher can end, and a cgroup of ours: with it goes the
 * shim, which has told all it knows. Not answered to the job, which is over; whether
 * they live is looked for in any case. */
static void end_foreign(struct agent *a, struct ajob *j, const struct rec_stuck_proc *v, size_t n)
{
	uint64_t unheard;

	for (size_t i = 0; i < n; i++)
		if (v[i].foreign) {
			ajob_action(a, j, ACT_SWEEP, &unheard);
			return;
		}
}

/* Those whom the agent has seen itself. The shim goes on; the job need not wait for
 * it, and nobody gets work here meanwhile. When its shim is dead, a sweep ends it. */
void stuck_confirmed(struct agent *a, struct ajob *j)
{
	const struct rec_stuck_proc *v = a->ev->stuck;
	size_t n = a->ev->error == 0 ? a->ev->n_stuck : 0;

	j->ticket_confirm = 0;
	stuck_met(a, j->job, v, n);
	if (!ajob_alive(j) || j->phase == AJ_SWEEPING)
		return;
	if (n > 0)
		put_into_words(a, j, v, n, NULL, "");
	report_rest(a, j, "lost", 0, j->end_text != NULL ? j->end_text : "it cannot be killed");
	ajob_ended(a, j);
	end_foreign(a, j, v, n);
}

void stuck_deadlines(struct agent *a)
{
	struct rec_stuck_proc *v;
	struct action *x;

	if (!mono_due(a->stuck_at, a->now))
		return;
	a->stuck_at = a->n_stuck > 0 ? mono_add_ms(a->now, LOOK_MS) : MONO_NEVER;
	v = a->n_stuck > 0 ? arena_alloc(&a->out->arena, a->n_stuck * sizeof(*v)) : NULL;
	if (v == NULL)
		return;
	x = act_add(a->out, ACT_LOOK);
	for (size_t i = 0; i < a->n_stuck; i++)
		v[i] = (struct rec_stuck_proc){ .pid = a->stuck[i].pid, .start_time = a->stuck[i].start_time };
	x->procs = v;
	x->n_procs = a->n_stuck;
	a->ticket_stuck = x->ticket = ++a->next_ticket;
}

/* The answer to a look: bit i is set while process i lives. */
bool stuck_on_done(struct agent *a)
{
	struct stuck gone[STUCK_MAX];
	size_t kept = 0, n_gone = 0;

	if (a->ev->ticket == 0 || a->ev->ticket != a->ticket_stuck)
		return false;
	a->ticket_stuck = 0;
	for (size_t i = 0; a->ev->error == 0 && i < a->n_stuck; i++) {
		if (a->ev->result >> i & 1)
			a->stuck[kept++] = a->stuck[i];
		else
			gone[n_gone++] = a->stuck[i];
	}
	if (a->ev->error == 0)
		a->n_stuck = kept;
	tell(a, gone, n_gone, true);
	return true;
}
