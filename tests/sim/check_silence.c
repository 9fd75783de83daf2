/* check_silence.c - what silence may do: be shown in 4 s, and nothing else for long
 *
 * When a node's last word came is known from what was delivered. A node that
 * was silent for longer than 4 s is not shown as 'ok', and one that was just
 * heard is. A rank is given up only on proof (its host has another boot, its
 * shim is gone) or after node_lost_ms of silence: never before. While the
 * coordinator was stopped itself it heard nobody, and that is no silence.
 */
#include <inttypes.h>
#include <string.h>

#include "tests/sim/sim.h"

#define SHOWN_AFTER (4 * SECOND) /* longer silence is shown */
#define NOT_SHOWN_BEFORE (3 * SECOND) /* heartbeats come every second */
/* A stopped coordinator knows how late a deadline was (3.5 s apart), from 1 s on. */
#define ABSENCE_SLACK (4500 * MS)

static int64_t awake(const struct sim *s)
{
	return s->w.now - s->coord.stopped;
}

static bool long_enough(const struct sim *s, const struct agent_actor *a)
{
	int64_t lost = (int64_t)s->node_lost_ms * MS;

	return s->w.now - a->heard >= lost && awake(s) - a->heard_awake >= lost - ABSENCE_SLACK;
}

static void heard_now(struct sim *s, struct agent_actor *a)
{
	if (long_enough(s, a))
		a->back_at = s->w.now;
	a->heard = s->w.now;
	a->heard_awake = awake(s);
}

void silence_begins(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_agents; i++) {
		s->agents[i].session = NULL;
		heard_now(s, &s->agents[i]);
	}
}

static struct agent_actor *agent_at(struct sim *s, const struct conn *c)
{
	const struct proc *p = c->end[0].proc;

	return p->kind == PK_AGENT ? &s->agents[p->idx] : NULL;
}

void silence_word(struct sim *s, const struct conn *c)
{
	struct agent_actor *a = agent_at(s, c);

	if (a != NULL && a->session == c)
		heard_now(s, a);
}

void silence_registered(struct sim *s, struct conn *c)
{
	struct agent_actor *a = agent_at(s, c);

	if (a == NULL)
		return;
	gpus_registered(s, c);
	a->session = c;
	a->ever = true;
	heard_now(s, a);
}

/* A coordinator that was stopped itself looks at its clock before it answers,
 * but it reads what was said to it first. */
static int64_t silent_for(const struct sim *s, const struct agent_actor *a)
{
	int64_t from = a->heard > s->coord.proc.resume_at ? a->heard : s->coord.proc.resume_at;

	return s->w.now - from;
}

static bool connected(const struct agent_actor *a)
{
	return a->session != NULL && !a->session->end[1].gone && !a->session->end[1].closing;
}

static void shown(struct sim *s, const struct agent_actor *a, const char *state)
{
	bool ok = strcmp(state, "ok") == 0 || strcmp(state, "degraded") == 0; /* its clock is off */

	if (removed_host(s, a->idx))
		sim_fail(s, "a node that was removed is not shown (%s: %s)", a->name, state);
	if (ok && !connected(a))
		sim_fail(s, "a node that is not connected is not shown as ok (%s)", a->name);
	if (ok && silent_for(s, a) > SHOWN_AFTER)
		sim_fail(s, "a node that is silent for more than 4 s is shown unreachable (%s: ok after "
			    "%.3f s)", a->name, (double)silent_for(s, a) / 1e9);
	if (!ok && connected(a) && s->w.now - a->heard < NOT_SHOWN_BEFORE &&
	    strcmp(state, "quarantined") != 0)
		sim_fail(s, "a node that was heard is shown as ok (%s: %s)", a->name, state);
}

void silence_shown(struct sim *s, const struct rec_status *m)
{
	for (size_t i = 0; i < m->n_nodes; i++)
		for (uint32_t k = 0; k < s->n_agents; k++)
			if (strcmp(s->agents[k].name, m->nodes[i].name) == 0)
				shown(s, &s->agents[k], m->nodes[i].state);
}

/* ---- what is given up -------------------------------------------------------------- */

static bool proved(struct sim *s, const struct agent_actor *a, const struct rec_row_job *r,
		   const char *boot_id)
{
	const struct shim_actor *h = simshim_find(s, a->idx, r->job, r->attempt);

	return strcmp(boot_id, a->boot_id) != 0 || h == NULL || !h->proc.up || h->gave_up;
}

/* A place that was given up may be written down later, with the rest of its job. */
static void given_up(struct sim *s, const struct rec_row_job *r, uint32_t rank)
{
	int64_t since = check_job(s, r->job)->since;
	const struct rec_row_place *p = &r->places[rank / r->procs_per_node];

	for (uint32_t i = 0; i < s->n_agents; i++) {
		const struct agent_actor *a = &s->agents[i];

		if (strcmp(a->name, p->node) != 0 || proved(s, a, r, p->boot_id) ||
		    long_enough(s, a) || a->back_at > since)
			continue;
		sim_fail(s, "silence alone touches no job before node_lost_timeout (job %" PRIu64
			    ", rank %u on %s: lost after %.3f s)",
			 r->job, rank, a->name, (double)(s->w.now - a->heard) / 1e9);
	}
}

static bool most_are_gone(const struct sim *s);

static void look_at_lost(struct sim *s, const struct rec_row_job *r, uint64_t lost)
{
	const struct jobrec *j = check_job(s, r->job);

	for (uint32_t rank = 0; rank < 64; rank++) {
		const struct rec_row_place *p = rank / r->procs_per_node < r->n_places ? &r->places[rank / r->procs_per_node] : NULL;

		if ((lost >> rank & 1) == 0 || p == NULL)
			continue;
		if ((j->told_over >> rank & 1) != 0)
			sim_fail(s, "8: how a rank ended stays known when its node is lost (job %" PRIu64 ", rank %u)", r->job, rank);
		for (uint32_t i = 0; i < s->n_agents; i++)
			if (strcmp(s->agents[i].name, p->node) == 0 && !proved(s, &s->agents[i], r, p->boot_id) &&
			    s->w.now - s->agents[i].heard > SECOND && most_are_gone(s))
				sim_fail(s, "11: when most nodes are silent no job is given up (job %" PRIu64 ", rank %u on %s)",
					 r->job, rank, p->node);
	}
}

/* More than half are silent for so long: the fault is the coordinator's own, or the network's
 * (11). When it was stopped it knows how long not to the second. */
static bool most_are_gone(const struct sim *s)
{
	int64_t lost = (int64_t)s->node_lost_ms * MS + (s->coord.stopped > 0 ? ABSENCE_SLACK : 0);
	uint32_t gone = 0, all = 0;

	for (uint32_t i = 0; i < s->n_agents; i++) {
		const struct agent_actor *a = &s->agents[i];

		if (removed_host(s, i) || !a->ever)
			continue; /* enrolled, but never came */
		all++;
		gone += s->w.now - a->heard >= lost && awake(s) - a->heard_awake >= lost;
	}
	return s->rogue == NULL && all > 1 && 2 * gone > all;
}

/* In the coordinator's memory, after each of its steps: what has been given up in this one? */
void silence_look_job(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);
	uint64_t lost = 0;

	for (size_t i = 0; i < r->n_ranks; i++)
		if (strcmp(r->ranks[i].state, "lost") == 0 && r->ranks[i].rank < 64)
			lost |= UINT64_C(1) << r->ranks[i].rank;
	if (j->memory_attempt != r->attempt || j->memory_life != s->coord.proc.life)
		j->memory_lost = j->told_over = 0;
	else if (j->seen && j->final[0] == '\0')
		look_at_lost(s, r, lost & ~j->memory_lost);
	j->memory_attempt = r->attempt;
	j->memory_life = s->coord.proc.life;
	j->memory_lost |= lost;
}

/* Came to the coordinator. */
void silence_told(struct sim *s, uint64_t job, uint32_t attempt, const struct rec_rank_state *v, size_t n)
{
	struct jobrec *j = check_job(s, job);

	for (size_t i = 0; i < n && s->rogue == NULL && attempt == j->memory_attempt && j->memory_life == s->coord.proc.life; i++)
		if (v[i].rank < 64 && (strcmp(v[i].state, "exited") == 0 || strcmp(v[i].state, "killed") == 0))
			j->told_over |= UINT64_C(1) << v[i].rank & ~j->memory_lost;
}

static void look_at_job(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);

	if (j->attempt != r->attempt)
		j->lost_ranks = 0;
	for (size_t i = 0; i < r->n_ranks; i++) {
		uint32_t rank = r->ranks[i].rank;

		if (strcmp(r->ranks[i].state, "lost") != 0 || (j->lost_ranks >> rank & 1) != 0 ||
		    rank / r->procs_per_node >= r->n_places)
			continue;
		j->lost_ranks |= UINT64_C(1) << rank;
		given_up(s, r, rank);
	}
}

void silence_row(struct sim *s, const struct store_row *r)
{
	struct msg m;

	if (r->table != TABLE_JOB || r->json == NULL || msg_decode(r->json, r->len, &m, NULL) < 0)
		return;
	look_at_job(s, &m.u.row_job);
	choice_row(s, &m.u.row_job);
	msg_finish(&m);
}
