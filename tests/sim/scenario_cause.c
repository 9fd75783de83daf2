/* scenario_cause.c - ranks of several nodes that fail at about the same time
 *
 * Every host's clocks show something else (simagent_setup). Which end came
 * first is known here: check_cause.c compares it with what is named.
 */
#include "tests/sim/scenario.h"

static struct client *two_fail(struct sim *s, int64_t apart_us)
{
	struct client *k = scn_submit(s, 3, 2);
	int first = (int)rng_below(&s->w.rng, 6);

	scn_fails(s, k->plan, first, 7);
	/* mostly on another node */
	k->plan->also_fails = (first + (int)rng_range(&s->w.rng, 1, 5)) % 6;
	k->plan->also_us = rng_range(&s->w.rng, -apart_us, apart_us);
	if (k->plan->fail_ms * 1000 + k->plan->also_us < 0)
		k->plan->also_us = 0;
	return k;
}

/* So close together that their reports may come in either order. */
void scn_first_cause(struct sim *s)
{
	two_fail(s, rng_chance(&s->w.rng, 500) ? 4000 : 400000);
	s->sharp = s->crash.n == 0;
}

/* The node of the first one is cut off when it ends, and for so long that the
 * job is settled without it; then it is heard, mostly before the job is over. */
static void settled_without(struct sim *s, struct plan *p)
{
	p->also_fails = (p->fail_rank + (int)rng_range(&s->w.rng, 2, 4)) % 6; /* on another node */
	p->also_us = rng_range(&s->w.rng, 1000, 300000);
	p->fail_ms = rng_range(&s->w.rng, 2500, 3500);
	p->stubborn = 0;
	s->slow_store = rng_chance(&s->w.rng, 300) ? 500 : 20;
	fault_at(s, scn_ms(s, 2000, 2400), FT_CUT, (uint32_t)p->fail_rank / 2, scn_ms(s, 6000, 9000));
	if (rng_chance(&s->w.rng, 400))
		fault_at(s, scn_ms(s, 4000, 8000), FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
}

/* What was named is on disk when the coordinator is killed, and its clock is set
 * while it is away; the other end was earlier, or not, and is reported afterwards. */
void scn_clock_set(struct sim *s)
{
	struct plan *p = client_add(s, (uint32_t)rng_below(&s->w.rng, 3), scn_ms(s, 50, 150))->plan;
	int64_t crash = rng_range(&s->w.rng, 2500, 2900);

	p->nnodes = 3;
	p->ppn = 2;
	p->hosts = "n[1-3]";
	scn_fails(s, p, (int)rng_below(&s->w.rng, 6), 7);
	p->fail_ms = 2000;
	p->also_fails = (p->fail_rank + (int)rng_range(&s->w.rng, 2, 4)) % 6; /* on another node */
	p->also_us = rng_range(&s->w.rng, -400000, 100000);
	p->grace_ms = 5000;
	fault_at(s, scn_ms(s, 1500, 1700), FT_CUT, (uint32_t)p->also_fails / 2, scn_ms(s, 2000, 3000));
	fault_at(s, crash * MS, rng_chance(&s->w.rng, 800) ? FT_COORD_CRASH : FT_COORD_POWER, 0,
		 scn_ms(s, 400, 900));
	fault_at(s, (crash + rng_range(&s->w.rng, 50, 300)) * MS, FT_WALL_JUMP, 0, 0);
}

/* The report of the first one comes late: its node cannot speak. */
void scn_first_cause_late(struct sim *s)
{
	static const enum fault_kind ways[] = { FT_CUT, FT_CUT_UP, FT_STOP_AGENT, FT_RESET, FT_AGENT_CRASH,
						FT_COORD_CRASH, FT_WALL_JUMP };
	struct client *k = two_fail(s, 700000);
	int n = (int)rng_range(&s->w.rng, 1, 2);

	k->plan->stubborn = rng_chance(&s->w.rng, 500) ? 700 : 0; /* it takes the whole grace to end them */
	if (rng_chance(&s->w.rng, 300))
		k->plan->grace_ms = 8000; /* long enough for its node to be shown silent */
	if (rng_chance(&s->w.rng, 600)) {
		settled_without(s, k->plan);
		return;
	}
	for (int i = 0; i < n; i++)
		scn_fault(s, 300, 3000, ways[rng_below(&s->w.rng, 7)], (uint32_t)rng_below(&s->w.rng, 3),
			  scn_ms(s, 100, 9000));
}
