/* scenario_leave.c - nodes that are taken out of the cluster, and daemons that are asked to stop */
#include "tests/sim/scenario.h"

/* What may hold up the news, or make somebody forget it. */
static void something_else(struct sim *s)
{
	uint32_t host = (uint32_t)rng_below(&s->w.rng, s->n_agents);

	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 300, 9000, FT_COORD_CRASH, 0, scn_ms(s, 50, 4000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 300, 6000, FT_CUT, host, scn_ms(s, 100, 15000));
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 300, 6000, FT_AGENT_CRASH, host, scn_ms(s, 50, 6000));
	if (rng_chance(&s->w.rng, 200))
		fault_at(s, scn_ms(s, 0, 6000), FT_DISK_FULL, 0, scn_ms(s, 500, 4000));
}

static void leaves(struct sim *s, int64_t back_after)
{
	struct client *k = scn_submit(s, 2, 1);
	uint32_t host = (uint32_t)rng_below(&s->w.rng, s->n_agents);

	k->plan->run_ms = rng_range(&s->w.rng, 100, 20000);
	s->loss_allowed = s->removal = true;
	admin_add(s, 0);
	admin_removes(s, host, scn_ms(s, 200, 7000), back_after);
	something_else(s);
}

/* For good. */
void scn_node_removed(struct sim *s)
{
	leaves(s, 0);
	if (s->heal_at < 20 * SECOND)
		s->heal_at = 20 * SECOND;
}

/* As after a quarantine: removed, and joined again with the key that it still
 * has. A job that comes later finds everything as if nothing had been. */
void scn_node_rejoins(struct sim *s)
{
	struct client *k;

	leaves(s, scn_ms(s, 10, 12000));
	k = client_add(s, (uint32_t)rng_below(&s->w.rng, s->n_agents), scn_ms(s, 50000, 60000));
	k->plan->nnodes = s->n_agents;
	k->late = true;
	s->heal_at = 49 * SECOND;
}

/* ---- runs of check nccl ---------------------------------------------------------------- */

void scn_runs_kept(struct sim *s)
{
	scn_submit(s, 1, 1);
	s->loss_allowed = true;
	admin_add(s, 0);
	admin_checks(s, scn_ms(s, 100, 2000));
	for (int i = 0; i < 2; i++)
		scn_fault(s, 300, 9000, rng_chance(&s->w.rng, 500) ? FT_COORD_POWER : FT_COORD_CRASH, 0, scn_ms(s, 50, 4000));
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, scn_ms(s, 0, 6000), FT_DISK_FULL, 0, scn_ms(s, 500, 4000));
}

/* ---- asked to stop ------------------------------------------------------------------- */

static void job_that_may_be_cut_short(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->plan->run_ms = rng_range(&s->w.rng, 100, 20000);
	if (rng_chance(&s->w.rng, 200))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	scn_spice(s, k->plan);
}

/* One agent, in any moment of a job's life; it comes back. */
void scn_agent_leaves(struct sim *s)
{
	uint32_t host = (uint32_t)rng_below(&s->w.rng, 2);

	job_that_may_be_cut_short(s);
	if (rng_chance(&s->w.rng, 300))
		job_that_may_be_cut_short(s);
	scn_fault(s, 200, 6000, FT_AGENT_LEAVE, host, scn_ms(s, 100, 8000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 200, 6000, FT_COORD_CRASH, 0, scn_ms(s, 50, 8000));
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 200, 6000, FT_CUT, host, scn_ms(s, 100, 8000));
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 200, 6000, FT_AGENT_CRASH, host, scn_ms(s, 50, 3000));
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 200, 6000, FT_SHIM_KILL, host, 0);
}

/* A standalone cluster: all its agents end their jobs, then the coordinator
 * goes too; all of it is started again. */
void scn_all_leave(struct sim *s)
{
	int64_t at = scn_ms(s, 200, 6000), down = scn_ms(s, 10000, 20000);

	job_that_may_be_cut_short(s);
	for (uint32_t i = 0; i < s->n_agents; i++)
		fault_at(s, at + scn_ms(s, 0, 300), FT_AGENT_LEAVE, i, down);
	fault_at(s, at + scn_ms(s, 300, 9000), FT_COORD_LEAVE, 0, scn_ms(s, 1000, 15000));
	s->heal_at += 10 * SECOND;
}
