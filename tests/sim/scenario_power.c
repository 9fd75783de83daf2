/* scenario_power.c - what was not synced is lost, and people who are killed
 *
 * A coordinator that is killed in the middle of a commit leaves in the page
 * cache what is not on the disk; the next one reads it, and a power failure
 * soon after shows whether it answered for what it had read.
 */
#include "tests/sim/scenario.h"

static uint64_t actions(struct sim *s, int64_t lo, int64_t hi)
{
	return (uint64_t)rng_range(&s->w.rng, lo, hi);
}

static void job(struct sim *s)
{
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 1);

	k->plan->run_ms = rng_range(&s->w.rng, 20, 4000);
	if (rng_chance(&s->w.rng, 200))
		scn_fails(s, k->plan, 0, 7);
}

void scn_power(struct sim *s)
{
	uint64_t first = actions(s, 1, 40);

	for (int64_t n = rng_range(&s->w.rng, 1, 3); n > 0; n--)
		job(s);
	fault_at_action(s, first, FT_COORD_CRASH, 0, scn_ms(s, 20, 800));
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, scn_ms(s, 0, 3000), FT_DISK_BAD, 0, scn_ms(s, 100, 2000));
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, scn_ms(s, 100, 3000), FT_CLIENT_CRASH, 0, scn_ms(s, 20, 500));
	fault_at_action(s, first + actions(s, 1, 30), FT_COORD_POWER, 0, scn_ms(s, 100, 3000));
	if (rng_chance(&s->w.rng, 300))
		fault_at_action(s, first + actions(s, 10, 60), FT_COORD_POWER, 0, scn_ms(s, 100, 3000));
}

/* A node's host is started anew while the coordinator is away, and its job is being ended. */
void scn_reboot_unheard(struct sim *s)
{
	struct client *k = scn_submit(s, 2, (uint32_t)rng_range(&s->w.rng, 1, 2));
	int64_t at = scn_ms(s, 1000, 4500);

	k->plan->run_ms = 6000;
	k->plan->grace_ms = 6000;
	k->plan->stubborn = 1000;
	if (rng_chance(&s->w.rng, 700)) {
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 2), 7);
		k->plan->fail_ms = rng_range(&s->w.rng, 200, 2500);
	}
	fault_at(s, at, FT_REBOOT, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 3000, 6000));
	fault_at(s, at + scn_ms(s, -500, 2500), FT_COORD_CRASH, 0, scn_ms(s, 500, 5000));
}

/* Each comes back with its client id and asks once more for what it asked for. */
void scn_clients_crash(struct sim *s)
{
	int64_t n = rng_range(&s->w.rng, 1, 3);
	struct client *k = NULL;

	for (int64_t i = 0; i < n; i++)
		k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 1);
	k->twice = rng_chance(&s->w.rng, 200);
	k->local_watch = rng_chance(&s->w.rng, 200);
	if (rng_chance(&s->w.rng, 300)) {
		k->plan->run_ms = 20000;
		k->kill_in = rng_chance(&s->w.rng, 500) ? "running" : "preparing";
		k->kill_after = scn_ms(s, 0, 500);
	}
	for (int64_t i = rng_range(&s->w.rng, 1, 4); i > 0; i--)
		fault_at(s, scn_ms(s, 50, 4000), FT_CLIENT_CRASH, (uint32_t)rng_below(&s->w.rng, 4),
			 scn_ms(s, 5, 2500));
	if (rng_chance(&s->w.rng, 500))
		scn_fault(s, 200, 3000, rng_chance(&s->w.rng, 500) ? FT_COORD_CRASH : FT_COORD_POWER, 0,
			  scn_ms(s, 20, 2000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 200, 3000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, s->n_agents),
			  scn_ms(s, 20, 2000));
}

/* Agents give up soon what they have asked a slow coordinator for, and are asked again. */
void scn_impatient(struct sim *s)
{
	s->request_ms = (uint32_t)rng_range(&s->w.rng, 300, 1500);
	s->slow_net = true;
	for (int64_t n = rng_range(&s->w.rng, 1, 2); n > 0; n--) {
		struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 2), 1);

		k->plan->run_ms = rng_range(&s->w.rng, 1000, 9000);
		if (rng_chance(&s->w.rng, 300))
			k->kill_in = "running";
	}
	for (int64_t n = rng_range(&s->w.rng, 2, 6); n > 0; n--)
		scn_fault(s, 100, 8000, rng_chance(&s->w.rng, 700) ? FT_STOP_COORD : FT_RESET,
			  (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 200, 2500));
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 500, 6000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 20, 2000));
}
