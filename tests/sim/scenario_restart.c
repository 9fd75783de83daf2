/* scenario_restart.c - restarts at the worst moments of a job's life */
#include "tests/sim/scenario.h"

/* One node does not hear the order to start, and all who know where rank 0
 * listens are restarted before it does. */
static void one_has_started(struct sim *s)
{
	fault_at_action(s, (uint64_t)rng_range(&s->w.rng, 8, 24), FT_CUT_DOWN, 1, scn_ms(s, 1500, 6000));
	fault_at(s, scn_ms(s, 1000, 4000), FT_COORD_CRASH, 0, scn_ms(s, 50, 2000));
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, scn_ms(s, 1000, 4000), FT_REBOOT, 0, scn_ms(s, 2500, 5000));
	else
		fault_at(s, scn_ms(s, 1000, 4000), FT_AGENT_CRASH, 0, scn_ms(s, 50, 2000));
}

/* Coordinator and agents fall while a job is being started: some have, some
 * have not, and who comes back must be told where its rank 0 listens. */
void scn_start_interrupted(struct sim *s)
{
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 2, 3), 1);
	int n = (int)rng_range(&s->w.rng, 1, 3);

	k->plan->run_ms = rng_range(&s->w.rng, 3000, 20000);
	if (rng_chance(&s->w.rng, 500)) {
		one_has_started(s);
		return;
	}
	fault_at_action(s, (uint64_t)rng_range(&s->w.rng, 20, 45), FT_COORD_CRASH, 0,
			scn_ms(s, 50, 6000));
	for (int i = 0; i < n; i++)
		scn_fault(s, 500, 6000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, s->n_agents),
			  scn_ms(s, 50, 4000));
}

/* Between an agent's word that all is ready and the order to start lie a few of
 * its actions. It falls there, with its shim stopped, and then the coordinator:
 * nobody who comes back knows whether that node has started. */
static void stopped_at_the_start(struct sim *s)
{
	uint32_t host = (uint32_t)rng_below(&s->w.rng, 2);
	uint64_t action = (uint64_t)rng_range(&s->w.rng, 8, 30);

	fault_at_action(s, action, FT_STOP_SHIM, host, scn_ms(s, 5000, 30000));
	fault_at_action(s, action, FT_AGENT_CRASH, host, scn_ms(s, 50, 3000));
	fault_at(s, scn_ms(s, 400, 3000), FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
}

/* Its ranks go on, nothing is ended because it does not answer, and it tells
 * all when it goes on. */
void scn_stopped_shim(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->plan->run_ms = rng_range(&s->w.rng, 100, 10000);
	if (rng_chance(&s->w.rng, 300))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	if (rng_chance(&s->w.rng, 300))
		k->kill_in = "running";
	scn_spice(s, k->plan);
	if (rng_chance(&s->w.rng, 300)) {
		stopped_at_the_start(s);
		return;
	}
	scn_fault(s, 300, 5000, FT_STOP_SHIM, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 100, 30000));
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 300, 5000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2),
			  scn_ms(s, 50, 3000));
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 300, 5000, FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
}

/* A shim is stopped just before its order to start comes, and its node is cut
 * off right after, for so long that its ranks are lost: the job may be over when
 * the shim goes on and reads the order. */
void scn_old_order(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);
	uint32_t host = (uint32_t)rng_below(&s->w.rng, 2);
	uint64_t action = (uint64_t)rng_range(&s->w.rng, 8, 24);
	int64_t lost = s->node_lost_ms;

	k->plan->run_ms = rng_range(&s->w.rng, 100, 10000);
	fault_at_action(s, action, FT_STOP_SHIM, host, scn_ms(s, 1000, lost + 20000));
	fault_at_action(s, action + (uint64_t)rng_range(&s->w.rng, 1, 4), FT_CUT, host,
			scn_ms(s, 3000, lost + 30000));
}

/* A job waits for a node; while its choice is being written, nodes come again
 * and the coordinator falls. */
void scn_slow_store(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);
	int64_t at = scn_ms(s, 1600, 3000);

	k->plan->run_ms = rng_range(&s->w.rng, 100, 3000);
	s->slow_store = 500;
	fault_at(s, 0, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2), at);
	for (int i = 0; i < 4; i++)
		fault_at(s, at + scn_ms(s, 0, 1500), FT_RESET, (uint32_t)rng_below(&s->w.rng, 2), 0);
	fault_at(s, at + scn_ms(s, 0, 3000), FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
}

/* An agent that was restarted must lease its ports anew, and gets none. */
void scn_no_ports(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);
	int n = (int)rng_range(&s->w.rng, 2, 4);

	k->plan->run_ms = 3000;
	s->lease_fails = 300;
	if (rng_chance(&s->w.rng, 700)) /* preparing takes long: there is time for a restart */
		fault_at(s, scn_ms(s, 0, 1500), FT_CUT_DOWN, 1, scn_ms(s, 1000, 20000));
	for (int i = 0; i < n; i++)
		scn_fault(s, 500, 9000, FT_AGENT_CRASH, 0, scn_ms(s, 50, 3000));
}

/* Its shim dies while its agent is away: only the latch tells the next one
 * that ranks may have run. */
void scn_dies_unseen(struct sim *s)
{
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 1);
	int64_t at = scn_ms(s, 1600, 3500), down = scn_ms(s, 200, 3000);

	k->plan->hosts = k->plan->nnodes == 1 ? "n1" : "n1,n2";
	k->plan->run_ms = rng_range(&s->w.rng, 100, 9000);
	k->plan->leftover = rng_chance(&s->w.rng, 300) ? 500 : 0;
	fault_at(s, at, FT_AGENT_CRASH, 0, down);
	fault_at(s, at + rng_range(&s->w.rng, 0, down), FT_SHIM_KILL, 0, 0);
	if (rng_chance(&s->w.rng, 400))
		fault_at(s, scn_ms(s, 1000, 6000), FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
}

/* Launchers die and are stopped while shims are being started and swept. */
void scn_launcher(struct sim *s)
{
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 2);

	s->launchers = true;
	k->plan->run_ms = rng_range(&s->w.rng, 100, 6000);
	scn_spice(s, k->plan);
	for (int64_t n = rng_range(&s->w.rng, 1, 4); n > 0; n--)
		scn_fault(s, 50, 3000, rng_chance(&s->w.rng, 700) ? FT_LAUNCHER_CRASH : FT_STOP_LAUNCHER,
			  (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 10, 2500));
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 100, 4000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 20, 2000));
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 1000, 5000, FT_SHIM_KILL, (uint32_t)rng_below(&s->w.rng, 2), 0);
}

/* A shim is killed, and who could end what it leaves is away. */
void scn_launcher_away(struct sim *s)
{
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 2);
	uint32_t host = rng_chance(&s->w.rng, 700) ? 0 : (uint32_t)rng_below(&s->w.rng, 2);
	int64_t at = scn_ms(s, 2000, 5000);

	s->launchers = true;
	k->plan->run_ms = rng_range(&s->w.rng, 5000, 9000);
	k->plan->leftover = 700;
	fault_at(s, at, rng_chance(&s->w.rng, 700) ? FT_LAUNCHER_CRASH : FT_STOP_LAUNCHER, host, scn_ms(s, 500, 6000));
	/* or it dies while it does so */
	fault_at(s, rng_chance(&s->w.rng, 500) ? at - scn_ms(s, 0, 40) : at + scn_ms(s, 0, 1500), FT_SHIM_KILL, host, 0);
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, at + scn_ms(s, -500, 3000), FT_AGENT_CRASH, host, scn_ms(s, 20, 3000));
}
