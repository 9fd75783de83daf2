/* scenario_hang.c - ranks that freeze (hang.c), and nodes that are left out by themselves */
#include "tests/sim/scenario.h"

static struct client *submit(struct sim *s, uint32_t nnodes, uint32_t ppn)
{
	struct client *k = scn_submit(s, nnodes, ppn);

	k->plan->pulses = true;
	k->plan->others_wait = rng_chance(&s->w.rng, 500);
	return k;
}

static void freezes(struct sim *s, struct plan *p, int64_t lo_ms, int64_t hi_ms)
{
	p->freeze_rank = (uint32_t)rng_below(&s->w.rng, p->nnodes * p->ppn);
	p->freeze_ms = rng_range(&s->w.rng, lo_ms, hi_ms);
	p->freeze_in_disk = rng_chance(&s->w.rng, 500);
}

/* It goes on after a while, and the job comes to its end. */
static void thaws(struct sim *s, struct plan *p, int64_t after_ms)
{
	p->thaw_ms = p->freeze_ms + after_ms;
	p->run_ms = p->thaw_ms + rng_range(&s->w.rng, 8000, 20000);
	s->heal_at = (p->thaw_ms + 1000) * MS; /* all of it is looked at */
}

void scn_hang(struct sim *s)
{
	struct plan *p = submit(s, 2, (uint32_t)rng_range(&s->w.rng, 1, 3))->plan;

	freezes(s, p, 100, 20000);
	thaws(s, p, rng_range(&s->w.rng, 31000, 60000));
}

/* One rank works for minutes, and the others wait for it. */
void scn_hang_none(struct sim *s)
{
	struct plan *p = submit(s, 2, 2)->plan;

	p->others_wait = rng_chance(&s->w.rng, 900);
	p->run_ms = rng_range(&s->w.rng, 60000, 200000);
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 2000, 60000, FT_COORD_CRASH, 0, scn_ms(s, 50, 5000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 2000, 60000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 50, 5000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 2000, 60000, FT_STOP_SHIM, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 1000, 40000));
}

/* Coordinator and agents fall around the moment at which it is told. */
void scn_hang_restart(struct sim *s)
{
	struct plan *p = submit(s, 2, 1)->plan;
	int n = (int)rng_range(&s->w.rng, 1, 3);
	int64_t at;

	freezes(s, p, 100, 5000);
	at = p->freeze_ms;
	s->node_lost_ms = 60000;
	thaws(s, p, rng_range(&s->w.rng, 90000, 120000));
	for (int i = 0; i < n; i++)
		fault_at(s, scn_ms(s, at + 2000, at + 40000), rng_chance(&s->w.rng, 600) ? FT_COORD_CRASH : FT_COORD_POWER, 0,
			 scn_ms(s, 50, 5000));
	if (rng_chance(&s->w.rng, 400))
		fault_at(s, scn_ms(s, at + 2000, at + 40000), rng_chance(&s->w.rng, 500) ? FT_AGENT_CRASH : FT_CUT,
			 (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 50, 8000));
	s->heal_at = (at + 50000) * MS;
}

/* --on-hang restart, and the node of the rank is lost, or its agent, about then. */
void scn_hang_acts(struct sim *s)
{
	struct plan *p = submit(s, 2, 1)->plan;
	uint32_t host;
	int64_t at;

	freezes(s, p, 100, 5000);
	host = rng_chance(&s->w.rng, 700) ? p->freeze_rank : 1 - p->freeze_rank;
	p->freeze_attempts = (uint32_t)rng_range(&s->w.rng, 1, 2);
	p->on_hang = "restart";
	p->max_restarts = 6;
	p->stubborn = rng_chance(&s->w.rng, 300) ? 400 : 0;
	p->run_ms = rng_range(&s->w.rng, 6000, 12000);
	s->leases = true;
	at = p->freeze_ms + 35000; /* told after 10 to 30 s, acted upon 30 s later */
	if (rng_chance(&s->w.rng, 700))
		fault_at(s, scn_ms(s, at, at + 30000), rng_chance(&s->w.rng, 400) ? FT_CUT : rng_chance(&s->w.rng, 500) ? FT_AGENT_CRASH : FT_STOP_AGENT,
			 host, scn_ms(s, 1000, s->node_lost_ms + 40000));
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, scn_ms(s, at, at + 30000), FT_REBOOT, host, scn_ms(s, 4000, 40000));
	if (rng_chance(&s->w.rng, 400))
		fault_at(s, scn_ms(s, at, at + 30000), FT_COORD_CRASH, 0, scn_ms(s, 50, 5000));
}

/* Ports go bad and are mended while the coordinator falls: each cordon is told once. */
void scn_policy(struct sim *s)
{
	struct client *k = scn_submit(s, 1, 1);
	int n = (int)rng_range(&s->w.rng, 1, 3);

	k->plan->hosts = NULL;
	k->plan->gpus = 0;
	s->policy = true;
	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 1);
	for (int i = 0; i < n; i++)
		fault_at(s, scn_ms(s, 1500, 20000), FT_PORT_BAD, (uint32_t)rng_below(&s->w.rng, s->n_agents),
			 scn_ms(s, 2000, 15000));
	for (int64_t i = rng_range(&s->w.rng, 0, 3); i > 0; i--)
		scn_fault(s, 1500, 30000, rng_chance(&s->w.rng, 600) ? FT_COORD_CRASH : FT_COORD_POWER, 0, scn_ms(s, 50, 4000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 1500, 20000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, s->n_agents), scn_ms(s, 50, 4000));
	s->heal_at += 15 * SECOND; /* what is mended is taken in again, and that is told */
}
