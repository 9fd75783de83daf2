/* scenario_rules.c - what administrators and owners have said, over restarts: drains, limits, graces, history */
#include "tests/sim/scenario.h"

static uint32_t some_host(struct sim *s)
{
	return (uint32_t)rng_below(&s->w.rng, s->n_agents);
}

static void coord_falls(struct sim *s, int64_t lo_ms, int64_t hi_ms)
{
	scn_fault(s, lo_ms, hi_ms, rng_chance(&s->w.rng, 500) ? FT_COORD_CRASH : FT_COORD_POWER, 0, scn_ms(s, 20, 4000));
}

static struct client *late_job(struct sim *s)
{
	struct client *k = client_add(s, some_host(s), s->heal_at + scn_ms(s, 18000, 25000));

	k->plan->nnodes = s->n_agents;
	k->plan->run_ms = 50;
	k->late = true;
	return k;
}

/* A node is drained while jobs come, some of them started again, and taken in again. */
void scn_drained(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 2, 5);
	uint32_t host = some_host(s);

	admin_add(s, 0);
	admin_drains(s, host, scn_ms(s, 200, 3000), scn_ms(s, 3000, 9000));
	for (int i = 0; i < jobs; i++) {
		struct client *k = client_add(s, some_host(s), scn_ms(s, 0, 9000));

		k->plan->nnodes = (uint32_t)rng_range(&s->w.rng, 1, s->n_agents);
		if (!rng_chance(&s->w.rng, 400))
			continue;
		s->leases = true;
		k->plan->max_restarts = 2;
		k->plan->restart_any = true;
		scn_fails(s, k->plan, 0, 7);
		k->plan->fail_attempts = 1;
		k->plan->run_ms = 2000;
	}
	for (int64_t i = rng_range(&s->w.rng, 0, 3); i > 0; i--)
		coord_falls(s, 300, 9000);
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 300, 9000, rng_chance(&s->w.rng, 500) ? FT_AGENT_CRASH : FT_REBOOT, host, scn_ms(s, 50, 6000));
	if (rng_chance(&s->w.rng, 200))
		fault_at(s, scn_ms(s, 0, 6000), FT_DISK_FULL, 0, scn_ms(s, 500, 4000));
	s->heal_at = 13 * SECOND;
	late_job(s);
}

/* A limit for all attempts together, whoever is started anew meanwhile. */
void scn_time_restarts(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	k->plan->run_ms = 150000;
	k->plan->time_s = (uint32_t)rng_range(&s->w.rng, 5, 20);
	scn_spice(s, k->plan);
	if (rng_chance(&s->w.rng, 600)) {
		s->leases = true;
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 2), 7);
		k->plan->fail_ms = rng_range(&s->w.rng, 6000, 10000);
		k->plan->fail_attempts = (uint32_t)rng_range(&s->w.rng, 2, 3);
		k->plan->time_s = (uint32_t)(k->plan->fail_ms * k->plan->fail_attempts / 1000) + (uint32_t)rng_range(&s->w.rng, 3, 9);
		k->plan->max_restarts = 4;
		k->plan->restart_any = true;
		k->plan->run_ms = 150000;
	}
	s->node_lost_ms = 60000;
	for (int64_t i = rng_range(&s->w.rng, 0, 3); i > 0; i--)
		coord_falls(s, 1000, 30000);
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 1000, 30000, rng_chance(&s->w.rng, 700) ? FT_AGENT_CRASH : FT_CUT, (uint32_t)rng_below(&s->w.rng, 2),
			  scn_ms(s, 50, 8000));
}

/* A long grace, and somebody who does not want to wait for its end. */
void scn_kill_hurried(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	k->plan->grace_ms = (uint32_t)rng_range(&s->w.rng, 20000, 40000);
	k->plan->stubborn = 700;
	k->kill_in = rng_chance(&s->w.rng, 700) ? "ending" : "running";
	k->kill_after = scn_ms(s, 0, 4000);
	if (rng_chance(&s->w.rng, 800))
		k->kill_grace_ms = (uint32_t)rng_range(&s->w.rng, 1, 3000);
	if (rng_chance(&s->w.rng, 300))
		coord_falls(s, 1000, 8000);
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 1000, 8000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 50, 3000));
}

/* The store is slow, and the coordinator falls when it has been asked to end a job. */
void scn_kill_stored(struct sim *s)
{
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 1);

	s->slow_store = 700;
	k->plan->run_ms = 60000;
	k->kill_in = rng_chance(&s->w.rng, 800) ? "running" : "preparing";
	k->kill_after = scn_ms(s, 0, 500);
	if (rng_chance(&s->w.rng, 400)) { /* its only node is silent: there is nobody to wait for */
		int64_t at = scn_ms(s, 2000, 3000);

		k->plan->nnodes = 1;
		k->plan->hosts = "n1";
		k->agent = 1;
		k->kill_in = "running";
		k->kill_after = scn_ms(s, 5500, 7000);
		s->node_lost_ms = 60000;
		fault_at(s, at, FT_CUT, 0, scn_ms(s, 8000, 12000));
		fault_at(s, scn_ms(s, 6000, 10000), FT_COORD_CRASH, 0, scn_ms(s, 20, 3000));
	}
	fault_at_action(s, (uint64_t)rng_range(&s->w.rng, 15, 60), rng_chance(&s->w.rng, 500) ? FT_COORD_CRASH : FT_COORD_POWER, 0,
			scn_ms(s, 20, 3000));
}

/* More jobs than are kept when they are over. */
void scn_history(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 4, 7);

	s->history = (uint32_t)rng_range(&s->w.rng, 1, 3);
	for (int i = 0; i < jobs; i++) {
		struct client *k = client_add(s, some_host(s), scn_ms(s, 0, 12000));

		k->plan->nnodes = (uint32_t)rng_range(&s->w.rng, 1, 2);
		k->plan->run_ms = rng_range(&s->w.rng, 20, 9000);
		if (rng_chance(&s->w.rng, 200))
			k->vanish_after = scn_ms(s, 1, 2000);
	}
	for (int64_t i = rng_range(&s->w.rng, 0, 2); i > 0; i--)
		coord_falls(s, 500, 14000);
	if (rng_chance(&s->w.rng, 200))
		fault_at(s, scn_ms(s, 0, 9000), FT_DISK_FULL, 0, scn_ms(s, 500, 4000));
	s->heal_at = 20 * SECOND;
	late_job(s);
}

/* Jobs that come while nothing can be saved, and connections that break meanwhile: who was
 * told of such a job hears that it was not taken. */
void scn_saved_in_vain(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);
	int64_t at = scn_ms(s, 0, 500);

	k->plan->hosts = NULL;
	k->plan->run_ms = 300;
	s->slow_store = 900;
	fault_at(s, at, rng_chance(&s->w.rng, 500) ? FT_DISK_FULL : FT_DISK_BAD, 0, scn_ms(s, 1500, 4000));
	for (int i = 0; i < 6; i++)
		fault_at(s, at + scn_ms(s, 300, 4000), FT_RESET, rng_chance(&s->w.rng, 700) ? k->agent : 1 - k->agent, 0);
}
