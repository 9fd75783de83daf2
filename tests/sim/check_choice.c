/* check_choice.c - which nodes a job gets, when, and where its ranks meet
 *
 * When nodes are chosen for an attempt: they are of the host list, none is drained,
 * the first attempt has its spares, and one that follows a failure has waited. When ranks
 * start: all of the attempt are told one address, that of its rank 0's node, and a
 * port that this node has leased for this attempt.
 */
#include <inttypes.h>
#include <string.h>

#include "common/hostlist.h"
#include "tests/sim/sim.h"

static const struct agent_actor *named(const struct sim *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (strcmp(s->agents[i].name, name) == 0)
			return &s->agents[i];
	return NULL;
}

static void look_at_nodes(struct sim *s, const struct rec_row_job *r, const struct plan *p)
{
	struct hostlist h = { 0 };

	if (p->hosts != NULL && hostlist_parse(p->hosts, &h, NULL) < 0)
		return;
	for (size_t i = 0; i < r->n_places; i++) {
		const struct agent_actor *a = named(s, r->places[i].node);

		if (p->hosts != NULL && !hostlist_has(&h, r->places[i].node))
			sim_fail(s, "a job runs on nodes of its host list only (job %" PRIu64 ": %s is not in %s)", r->job,
				 r->places[i].node, p->hosts);
		if (a != NULL && a->drained)
			sim_fail(s, "28: a node that is drained gets no new job (job %" PRIu64 " on %s)", r->job, a->name);
	}
	hostlist_finish(&h);
	if (r->attempt == 1 && r->n_kept != p->spares)
		sim_fail(s, "a job has its spares when it starts (job %" PRIu64 ": %zu of %u)", r->job, r->n_kept, p->spares);
}

/* 1, 2, 4 ... 60 s. At once only where another node will do instead of a bad one, the first time. */
static int64_t backoff(const struct rec_row_job *r)
{
	uint32_t n = r->attempt - 2;
	bool blamed = r->n_attempts > 0 && r->attempts[r->n_attempts - 1].guilty != NULL;

	if (n == 0 && blamed)
		return 0;
	return n < 6 ? (INT64_C(1) << n) * SECOND : 60 * SECOND;
}

static void look_at_time(struct sim *s, const struct rec_row_job *r, const struct jobrec *j)
{
	if (r->attempt < 2 || j->between_life != s->coord.proc.life || s->w.now - j->between_at >= backoff(r))
		return;
	sim_fail(s, "who has failed waits before it is tried again (job %" PRIu64 ", attempt %u: %.3f s of %.3f s)", r->job,
		 r->attempt, (double)(s->w.now - j->between_at) / 1e9, (double)backoff(r) / 1e9);
}

/* Asked to be stored. */
void choice_row(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);

	if (strcmp(r->state, "preparing") != 0 || r->attempt == j->looked_attempt)
		return;
	j->looked_attempt = r->attempt;
	look_at_nodes(s, r, plan_of_hash(s, r->spec_hash.p));
	look_at_time(s, r, j);
	if (j->kill_confirmed != 0 && r->attempt > j->kill_attempt)
		sim_fail(s, "a job whose kill was confirmed is not tried again (job %" PRIu64 ", attempt %u)", r->job,
			 r->attempt);
}

/* On disk: it is over, and another attempt follows. */
void choice_between(struct sim *s, struct jobrec *j, const struct rec_row_job *r)
{
	if (!r->between || j->between)
		return;
	j->between_at = s->w.now;
	j->between_life = s->coord.proc.life;
}

/* A coordinator has read its rows: what was chosen and is not among them is chosen again. */
void choice_begins(struct sim *s)
{
	for (uint32_t i = 1; i < JOBS_MAX; i++)
		s->jobs[i].looked_attempt = s->jobs[i].attempt;
}

/* ---- where they meet ------------------------------------------------------------------------ */

/* Node rank 0 has told that it holds this port; more than once when its agent was restarted. */
void choice_port(struct sim *s, const struct rec_prepared *p)
{
	struct jobrec *j = check_job(s, p->job);

	if (!p->ok || p->master_port == 0 || p->attempt < j->port_attempt)
		return;
	if (p->attempt > j->port_attempt)
		j->n_ports = 0;
	j->port_attempt = p->attempt;
	j->ports[j->n_ports++ % MASTER_PORTS] = p->master_port;
}

static const struct shim_actor *rank_0_of(const struct sim *s, const struct shim_actor *h)
{
	for (uint32_t i = 0; i < s->n_shims; i++)
		if (s->shims[i]->job == h->job && s->shims[i]->attempt == h->attempt && s->shims[i]->node_rank == 0)
			return s->shims[i];
	return NULL;
}

/* Told to a shim that starts its ranks. */
void choice_go(struct sim *s, const struct shim_actor *h, const struct rec_shim_go *go)
{
	struct jobrec *j = check_job(s, h->job);
	const struct shim_actor *zero = rank_0_of(s, h);
	const char *addr = h->nnodes == 1 ? "127.0.0.1" : zero != NULL ? s->agents[zero->host].ip : "?";
	bool leased = false;

	for (uint32_t i = 0; j->port_attempt == h->attempt && i < j->n_ports && i < MASTER_PORTS; i++)
		leased = leased || j->ports[i] == go->master_port;
	if (!leased)
		sim_fail(s, "ranks meet at a port that is leased for their attempt (job %" PRIu64 ", attempt %u: %u)", h->job,
			 h->attempt, go->master_port);
	if (strcmp(go->master_addr, addr) != 0)
		sim_fail(s, "ranks meet at the node of rank 0 (job %" PRIu64 ", attempt %u: %s, not %s)", h->job, h->attempt,
			 go->master_addr, addr);
	if (j->met_attempt == h->attempt && j->met_port != go->master_port)
		sim_fail(s, "all ranks of an attempt meet at one port (job %" PRIu64 ", attempt %u: %u and %u)", h->job,
			 h->attempt, j->met_port, go->master_port);
	j->met_attempt = h->attempt;
	j->met_port = go->master_port;
}

static bool proves(const struct rec_prove *m, const char *kind, const char *node, bool other)
{
	for (size_t i = 0; i < m->n_targets; i++)
		if (strcmp(m->targets[i].kind, kind) == 0 && (strcmp(m->targets[i].node, node) == 0) != other)
			return true;
	return false;
}

/* This node is asked to try connections: to rank 0, and to another node. */
void choice_prove(struct sim *s, const struct agent_actor *a, const struct rec_prove *m)
{
	const struct shim_actor *h = simshim_find(s, a->idx, m->job, m->attempt);
	const struct shim_actor *zero = h != NULL ? rank_0_of(s, h) : NULL;

	if (zero == NULL || h->nnodes == 1)
		return;
	if (h->node_rank != 0 && !proves(m, "master", s->agents[zero->host].name, false))
		sim_fail(s, "each node proves that it reaches rank 0 (job %" PRIu64 ": %s)", m->job, a->name);
	if (!proves(m, "ephemeral", a->name, true))
		sim_fail(s, "each node proves that it reaches another one (job %" PRIu64 ": %s)", m->job, a->name);
}
