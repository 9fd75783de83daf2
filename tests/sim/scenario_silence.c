/* scenario_silence.c - nodes that are not heard, and somebody who looks
 *
 * Silence of any length around the two limits: the 4 s after which it is
 * shown, and node_lost_ms, before which it does nothing (check_silence.c).
 */
#include "tests/sim/scenario.h"

static int64_t some_length(struct sim *s)
{
	int64_t lost = s->node_lost_ms;

	switch (rng_below(&s->w.rng, 4)) {
	case 0:
		return scn_ms(s, 500, 5000);
	case 1:
		return scn_ms(s, 4000, lost - 1000);
	case 2:
		return scn_ms(s, lost - 2000, lost + 2000);
	default:
		return scn_ms(s, lost + 1000, lost + 20000);
	}
}

/* Every way to be silent. */
void scn_silent_node(struct sim *s)
{
	static const enum fault_kind ways[] = { FT_CUT, FT_CUT_UP, FT_CUT_DOWN, FT_STOP_AGENT,
						FT_AGENT_CRASH, FT_STOP_COORD, FT_COORD_CRASH };
	struct client *k = scn_submit(s, 2, 2);
	int n = (int)rng_range(&s->w.rng, 1, 2);

	admin_add(s, 0);
	k->plan->run_ms = rng_range(&s->w.rng, 1000, 60000);
	if (rng_chance(&s->w.rng, 300))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	for (int i = 0; i < n; i++)
		scn_fault(s, 300, 8000, ways[rng_below(&s->w.rng, 7)],
			  (uint32_t)rng_below(&s->w.rng, s->n_agents), some_length(s));
}

/* All of them, again and again, mostly without a job: nothing but their own
 * silence makes the coordinator look. */
void scn_all_silent(struct sim *s)
{
	static const enum fault_kind ways[] = { FT_CUT, FT_CUT_UP, FT_STOP_AGENT };

	admin_add(s, 0);
	if (rng_chance(&s->w.rng, 200))
		scn_submit(s, 1, 1)->plan->run_ms = rng_range(&s->w.rng, 1000, 20000);
	for (uint32_t host = 0; host < s->n_agents; host++)
		for (int i = 0; i < 3; i++)
			fault_at(s, scn_ms(s, 500, 25000), ways[rng_below(&s->w.rng, 3)], host,
				 scn_ms(s, 2000, 9000));
}

/* More than half of the nodes fall silent, for longer than one node may: it is the network. */
void scn_most_silent(struct sim *s)
{
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 3), 1);
	int64_t at = scn_ms(s, 2000, 4000), lasts = scn_ms(s, s->node_lost_ms + 2000, s->node_lost_ms + 20000);
	uint32_t not_this = rng_chance(&s->w.rng, 500) ? (uint32_t)rng_below(&s->w.rng, s->n_agents) : s->n_agents;

	k->plan->run_ms = rng_range(&s->w.rng, 30000, 70000);
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (i != not_this)
			fault_at(s, at + scn_ms(s, 0, 900), rng_chance(&s->w.rng, 700) ? FT_CUT : FT_CUT_UP, i, lasts);
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, at + scn_ms(s, 0, s->node_lost_ms), FT_COORD_CRASH, 0, scn_ms(s, 20, 3000));
}
