/* scenario_queue.c - jobs that wait for GPUs, and others that may pass them */
#include "tests/sim/scenario.h"

static struct client *job(struct sim *s, uint32_t nnodes, int gpus, uint32_t time_s, int64_t run_ms,
			  int64_t lo_ms, int64_t hi_ms)
{
	struct client *k = client_add(s, (uint32_t)rng_below(&s->w.rng, s->n_agents), scn_ms(s, lo_ms, hi_ms));

	k->plan->nnodes = nnodes;
	k->plan->gpus = gpus;
	k->plan->time_s = time_s;
	k->plan->run_ms = run_ms;
	return k;
}

/* Some hold GPUs for a known time, one waits for all of them, and some come
 * after: short ones that fit before it, and long ones that do not. */
void scn_queue(struct sim *s)
{
	int holders = (int)rng_range(&s->w.rng, 1, 2), later = (int)rng_range(&s->w.rng, 1, 3);
	uint32_t limit = (uint32_t)rng_range(&s->w.rng, 4, 15);

	s->node_lost_ms = 120000;
	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 2);
	for (int i = 0; i < holders; i++)
		job(s, 1, 1, limit, rng_range(&s->w.rng, 2000, 20000), 1500, 2000);
	job(s, s->n_agents, 2, rng_chance(&s->w.rng, 500) ? 10 : 0, rng_range(&s->w.rng, 100, 5000), 2500, 3000);
	for (int i = 0; i < later; i++) {
		if (rng_chance(&s->w.rng, 500))
			job(s, 1, 1, (uint32_t)rng_range(&s->w.rng, 1, 8), rng_range(&s->w.rng, 100, 9000), 3500, 9000);
		else
			job(s, 1, 1, rng_chance(&s->w.rng, 700) ? 400 : 0, 150000, 3500, 9000);
	}
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 3000, 12000, FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 3000, 12000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, s->n_agents),
			  scn_ms(s, 50, 3000));
	s->heal_at = 500 * SECOND;
}

/* Many of a kind, on fewer GPUs. */
void scn_queue_equals(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 3, 6);
	uint32_t limit = rng_chance(&s->w.rng, 500) ? 5 : 0;

	s->slow_store = rng_chance(&s->w.rng, 300) ? 500 : 0;
	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 1);
	for (int i = 0; i < jobs; i++)
		job(s, (uint32_t)rng_range(&s->w.rng, 1, s->n_agents), 1, limit,
		    rng_range(&s->w.rng, 20, 3000), 0, 4000);
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 500, 6000, FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 500, 6000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, s->n_agents),
			  scn_ms(s, 50, 3000));
}

/* Who is let in before the first one may need long beyond its limit: a long grace, or attempt
 * after attempt. */
void scn_queue_graces(struct sim *s)
{
	uint32_t limit = (uint32_t)rng_range(&s->w.rng, 60, 100);
	struct client *k;

	s->node_lost_ms = 120000;
	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 2);
	job(s, 1, 1, limit, rng_range(&s->w.rng, 20000, 90000), 1500, 2000);
	job(s, s->n_agents, 2, 0, rng_range(&s->w.rng, 100, 5000), 2500, 3000);
	k = job(s, 1, 1, limit / 3, 400000, 3500, 9000);
	if (rng_chance(&s->w.rng, 500)) {
		k->plan->grace_ms = (uint32_t)rng_range(&s->w.rng, 120000, 200000);
		k->plan->stubborn = 1000;
	} else {
		s->leases = true;
		scn_fails(s, k->plan, 0, 7);
		k->plan->fail_ms = 20;
		k->plan->restart_any = true;
		k->plan->max_restarts = 9;
	}
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 3000, 30000, FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
	s->heal_at = 500 * SECOND;
}

/* Two wait, the second one also for a node that is free much later; who comes then fits before
 * the second one's moment, and not before the first one's. */
void scn_queue_two(struct sim *s)
{
	uint32_t soon = (uint32_t)rng_range(&s->w.rng, 3, 6), late = soon + (uint32_t)rng_range(&s->w.rng, 135, 150);

	s->node_lost_ms = 120000;
	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 2);
	job(s, 1, 1, soon, 300000, 1500, 1700)->plan->hosts = "n1";
	job(s, 1, 2, late, 400000, 1800, 2000); /* the other node */
	job(s, 1, 2, rng_chance(&s->w.rng, 500) ? 20 : 0, rng_range(&s->w.rng, 100, 5000), 2500, 2700)->plan->hosts = "n1";
	job(s, 2, 2, 0, rng_range(&s->w.rng, 100, 5000), 2900, 3300);
	job(s, 1, 1, (uint32_t)rng_range(&s->w.rng, 90, 105), 300000, 3500, 6000);
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 3000, 12000, FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
	s->heal_at = 100 * SECOND;
}
