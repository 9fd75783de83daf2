/* scenario_leave.c - nodes that are taken out of the cluster */
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
