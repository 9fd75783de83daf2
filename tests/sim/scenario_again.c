/* scenario_again.c - jobs that are started again when a node is lost or a rank fails */
#include "tests/sim/scenario.h"

static struct client *submit(struct sim *s, uint32_t nnodes, uint32_t ppn, uint32_t restarts)
{
	struct client *k = scn_submit(s, nnodes, ppn);

	k->plan->max_restarts = restarts;
	s->leases = true;
	if (s->n_agents > nnodes)
		k->plan->hosts = NULL; /* there is somewhere else to go */
	return k;
}

static uint32_t some_host(struct sim *s)
{
	return (uint32_t)rng_below(&s->w.rng, s->n_agents);
}

/* Its host comes back soon, late, or with the job's old shims still there. */
void scn_again_node(struct sim *s)
{
	struct client *k = submit(s, 2, 2, 3);

	k->plan->run_ms = rng_range(&s->w.rng, 2000, 8000);
	scn_spice(s, k->plan);
	scn_fault(s, 800, 6000, FT_REBOOT, some_host(s), scn_ms(s, 4000, 60000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 8000, 30000, FT_REBOOT, some_host(s), scn_ms(s, 4000, 30000));
}

/* Its ranks are alive all the time, and nobody hears of them: they end by
 * themselves before others take their places. */
void scn_again_silent(struct sim *s)
{
	struct client *k = submit(s, 2, 1, 2);
	uint32_t host = (uint32_t)rng_below(&s->w.rng, 2);

	k->plan->run_ms = rng_range(&s->w.rng, 20000, 90000);
	scn_spice(s, k->plan);
	scn_fault(s, 800, 5000, (enum fault_kind)(FT_CUT + rng_below(&s->w.rng, 3)), host,
		  scn_ms(s, s->node_lost_ms - 3000, s->node_lost_ms + 60000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 2000, 15000, FT_AGENT_CRASH, host, scn_ms(s, 50, 30000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 2000, 30000, FT_RESET, host, 0);
	s->old_shims = rng_chance(&s->w.rng, 200);
}

/* Shim, agent, or both are stopped while the lease passes. */
void scn_again_stopped(struct sim *s)
{
	struct client *k = submit(s, 2, 1, 2);
	uint32_t host = (uint32_t)rng_below(&s->w.rng, 2);
	int64_t at = scn_ms(s, 1500, 5000), most = s->node_lost_ms + 60000;

	k->plan->run_ms = rng_range(&s->w.rng, 20000, 90000);
	scn_spice(s, k->plan);
	if (rng_chance(&s->w.rng, 800))
		fault_at(s, at + scn_ms(s, 0, 3000), FT_STOP_SHIM, host, scn_ms(s, 1000, most));
	if (rng_chance(&s->w.rng, 600))
		fault_at(s, at + scn_ms(s, 0, 3000), FT_STOP_AGENT, host, scn_ms(s, 1000, most));
	if (rng_chance(&s->w.rng, 600))
		fault_at(s, at + scn_ms(s, 0, 3000), FT_CUT, host, scn_ms(s, 1000, most));
	if (rng_chance(&s->w.rng, 200))
		fault_at(s, at + scn_ms(s, 0, 20000), FT_STOP_COORD, 0, scn_ms(s, 100, 20000));
}

/* The coordinator falls while one attempt follows the other. */
void scn_again_coord(struct sim *s)
{
	struct client *k = submit(s, 2, 1, 4);
	int n = (int)rng_range(&s->w.rng, 1, 3);

	k->plan->run_ms = rng_range(&s->w.rng, 2000, 10000);
	scn_fault(s, 800, 4000, rng_chance(&s->w.rng, 500) ? FT_REBOOT : FT_CUT, (uint32_t)rng_below(&s->w.rng, 2),
		  scn_ms(s, 4000, s->node_lost_ms + 40000));
	for (int i = 0; i < n; i++)
		scn_fault(s, 1000, s->node_lost_ms + 20000, FT_COORD_CRASH, 0, scn_ms(s, 20, 5000));
	if (rng_chance(&s->w.rng, 300))
		s->slow_store = 400;
	if (rng_chance(&s->w.rng, 200))
		fault_at(s, scn_ms(s, 1000, 20000), FT_DISK_FULL, 0, scn_ms(s, 500, 8000));
}

/* Longer than any lease, with nothing in its way but restarts that nobody notices. */
void scn_again_long(struct sim *s)
{
	struct client *k = submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 1, 2);

	k->plan->run_ms = rng_range(&s->w.rng, 3000 + (int64_t)s->node_lost_ms, 3 * (int64_t)s->node_lost_ms);
	if (rng_chance(&s->w.rng, 600))
		scn_fault(s, 1500, s->node_lost_ms, rng_chance(&s->w.rng, 500) ? FT_COORD_CRASH : FT_AGENT_CRASH, some_host(s),
			  scn_ms(s, 20, 1500));
}

/* The coordinator is away for longer than any lease: all ends by itself, is found so by
 * agents that were started anew, with shims or their files only, and is started again. */
void scn_again_headless(struct sim *s)
{
	struct client *k = submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 1, 3);
	int64_t from = scn_ms(s, 2000, 5000), away = scn_ms(s, s->node_lost_ms + 8000, s->node_lost_ms + 25000);

	k->plan->run_ms = rng_range(&s->w.rng, 60000, 90000);
	if (rng_chance(&s->w.rng, 500)) { /* it is still ending when the coordinator is back */
		k->plan->stubborn = 1000;
		k->plan->grace_ms = (uint32_t)rng_range(&s->w.rng, 5000, 25000);
	}
	fault_at(s, from, FT_COORD_CRASH, 0, away);
	for (uint32_t i = 0; i < s->n_agents; i++) {
		int64_t at = from + scn_ms(s, 1000, s->node_lost_ms + 6000), down = scn_ms(s, 50, 15000);

		if (!rng_chance(&s->w.rng, 600))
			continue;
		fault_at(s, at, FT_AGENT_CRASH, i, down);
		if (rng_chance(&s->w.rng, 500))
			fault_at(s, at + down / 2, FT_SHIM_KILL, i, 0);
	}
}

/* A node is lost, the coordinator falls, and the attempt elsewhere fails too: the node stays left out. */
void scn_again_barred(struct sim *s)
{
	struct client *k = submit(s, 2, 1, 3);

	scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 2), 7);
	k->plan->fail_ms = rng_range(&s->w.rng, 4000, 8000);
	k->plan->fail_attempts = 3;
	k->plan->run_ms = 20000;
	k->plan->restart_any = true;
	fault_at(s, scn_ms(s, 1500, 3500), FT_REBOOT, some_host(s), scn_ms(s, 1000, 2500));
	for (int64_t n = rng_range(&s->w.rng, 2, 3); n > 0; n--)
		fault_at(s, scn_ms(s, 3000, 16000), rng_chance(&s->w.rng, 600) ? FT_COORD_CRASH : FT_COORD_POWER, 0,
			 scn_ms(s, 20, 2000));
}

/* One more node is held, and takes the place of the one that is lost at once. */
void scn_again_spare(struct sim *s)
{
	struct client *k = submit(s, 2, 1, 2), *other;

	k->plan->spares = 1;
	k->plan->run_ms = rng_range(&s->w.rng, 1500, 6000);
	scn_fault(s, 800, 5000, FT_REBOOT, some_host(s), scn_ms(s, 4000, 60000));
	if (rng_chance(&s->w.rng, 400)) {
		other = submit(s, 1, 1, rng_chance(&s->w.rng, 500) ? 1 : 0);
		other->plan->run_ms = 5000;
	}
}

/* The node where it was submitted, often that of rank 0, is lost for good: what is
 * to be run is known elsewhere. */
void scn_again_submitter(struct sim *s)
{
	uint32_t nnodes = (uint32_t)rng_range(&s->w.rng, 1, 2);
	struct client *k = submit(s, nnodes, 1, 3);

	k->agent = rng_chance(&s->w.rng, 700) ? 0 : some_host(s);
	k->plan->hosts = NULL;
	k->plan->spares = nnodes == 1 ? 1 : (uint32_t)rng_below(&s->w.rng, 2);
	k->plan->run_ms = rng_range(&s->w.rng, 8000, 15000);
	scn_spice(s, k->plan);
	s->must_end_well = true;
	fault_at(s, scn_ms(s, 1500, 7000), FT_HOST_LOST, k->agent, 20 * SECOND);
	s->heal_at += (int64_t)s->node_lost_ms * MS + 40 * SECOND;
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 1000, s->node_lost_ms + 10000, FT_COORD_CRASH, 0, scn_ms(s, 20, 5000));
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 1000, s->node_lost_ms + 10000, FT_AGENT_CRASH, some_host(s), scn_ms(s, 20, 5000));
	if (rng_chance(&s->w.rng, 100)) /* the next one, too */
		scn_fault(s, 1000, s->node_lost_ms + 10000, FT_REBOOT, some_host(s), scn_ms(s, 4000, 9000));
}

/* A host is lost for good while the job is being prepared: fetching, spawning, proving. */
void scn_again_preparing(struct sim *s)
{
	int64_t at = scn_ms(s, 100, 1500);
	struct client *k = client_add(s, some_host(s), at);

	k->plan->nnodes = (uint32_t)rng_range(&s->w.rng, 2, 3);
	k->plan->ppn = 1;
	k->plan->max_restarts = 3;
	k->plan->run_ms = rng_range(&s->w.rng, 500, 3000);
	s->leases = true;
	s->must_end_well = true;
	s->prove_fails = 0;
	fault_at(s, at + scn_ms(s, 15, 120), FT_HOST_LOST, some_host(s), 20 * SECOND);
	s->heal_at += (int64_t)s->node_lost_ms * MS + 40 * SECOND;
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 1000, 6000, FT_COORD_CRASH, 0, scn_ms(s, 20, 5000));
}

/* A rank fails in the first attempts; with some luck the last one is good. */
void scn_again_any(struct sim *s)
{
	struct client *k = submit(s, 2, 2, (uint32_t)rng_range(&s->w.rng, 1, 3));

	scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), rng_chance(&s->w.rng, 150) ? 127 : 7);
	k->plan->fail_attempts = (uint32_t)rng_range(&s->w.rng, 1, 3);
	k->plan->run_ms = k->plan->fail_ms + rng_range(&s->w.rng, 100, 3000);
	k->plan->restart_any = rng_chance(&s->w.rng, 850);
	scn_spice(s, k->plan);
	if (rng_chance(&s->w.rng, 200))
		k->plan->time_s = (uint32_t)rng_range(&s->w.rng, 2, 6);
	if (rng_chance(&s->w.rng, 200))
		k->vanish_after = scn_ms(s, 1, 4000);
}

/* What was said of the attempts before is said once more, see repeat.c. */
void scn_again_repeats(struct sim *s)
{
	struct client *k = submit(s, 2, (uint32_t)rng_range(&s->w.rng, 1, 2), 3);

	s->repeats = true;
	scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 2), 7);
	k->plan->fail_ms = rng_range(&s->w.rng, 100, 1500);
	k->plan->fail_attempts = (uint32_t)rng_range(&s->w.rng, 1, 3);
	k->plan->run_ms = k->plan->fail_ms + rng_range(&s->w.rng, 100, 3000);
	k->plan->restart_any = true;
	k->plan->stubborn = rng_chance(&s->w.rng, 300) ? 500 : 0;
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 500, 6000, rng_chance(&s->w.rng, 500) ? FT_RESET : FT_AGENT_CRASH, some_host(s),
			  scn_ms(s, 20, 2000));
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 500, 6000, FT_COORD_CRASH, 0, scn_ms(s, 20, 2000));
}

/* Killed between two attempts, or while the one before is still ending. */
void scn_again_kill(struct sim *s)
{
	struct client *k = submit(s, 2, 1, 3);

	scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 2), 9);
	k->plan->restart_any = true;
	k->plan->stubborn = 300;
	k->kill_in = rng_chance(&s->w.rng, 600) ? "restarting" : "ending";
	k->kill_after = scn_ms(s, 0, 1200);
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 800, 6000, FT_COORD_CRASH, 0, scn_ms(s, 20, 3000));
}

/* Several such jobs and all kinds of faults. */
void scn_again_chaos(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 1, 3), faults = (int)rng_range(&s->w.rng, 1, 6);

	s->slow_net = rng_chance(&s->w.rng, 200);
	for (int i = 0; i < jobs; i++) {
		struct client *k = submit(s, (uint32_t)rng_range(&s->w.rng, 1, 3), (uint32_t)rng_range(&s->w.rng, 1, 2),
					  (uint32_t)rng_range(&s->w.rng, 0, 4));

		k->plan->run_ms = rng_range(&s->w.rng, 100, 30000);
		k->plan->restart_any = rng_chance(&s->w.rng, 400);
		k->plan->spares = rng_chance(&s->w.rng, 200) && k->plan->max_restarts > 0;
		if (k->plan->nnodes + k->plan->spares > s->n_agents)
			k->plan->spares = 0;
		scn_spice(s, k->plan);
		if (rng_chance(&s->w.rng, 250)) {
			scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 3), 7);
			k->plan->fail_attempts = (uint32_t)rng_range(&s->w.rng, 1, 2);
		}
		if (rng_chance(&s->w.rng, 150)) {
			k->kill_in = rng_chance(&s->w.rng, 500) ? "running" : "restarting";
			k->kill_after = scn_ms(s, 0, 3000);
		}
	}
	if (rng_chance(&s->w.rng, 200))
		s->fetch_fails = s->lease_fails = s->spawn_fails = s->prove_fails = 60;
	for (int i = 0; i < faults; i++)
		fault_random(s, rng_chance(&s->w.rng, 700) ? scn_ms(s, 0, 30000) : -1);
}
