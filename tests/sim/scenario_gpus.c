/* scenario_gpus.c - jobs that want GPUs, and hosts whose GPUs come and go */
#include "tests/sim/scenario.h"

static uint32_t gpus_of(const struct agent_actor *a)
{
	return a->share_of > 1 ? a->gpus->n / a->share_of : a->gpus->n;
}

static struct client *gpu_job(struct sim *s, uint32_t nnodes, int gpus, int64_t lo_ms, int64_t hi_ms)
{
	static const char *const lists[] = { NULL, "n1", "n[1-2]", "n[1-3]", "n[1-4]" };
	uint32_t host = (uint32_t)rng_below(&s->w.rng, s->n_agents);
	struct client *k = client_add(s, host, scn_ms(s, lo_ms, hi_ms));

	for (uint32_t i = 0; i < nnodes; i++) /* more than there are would be waited for without end */
		if (gpus > (int)gpus_of(&s->agents[i]))
			gpus = (int)gpus_of(&s->agents[i]);
	k->plan->nnodes = nnodes;
	k->plan->gpus = gpus;
	k->plan->run_ms = rng_range(&s->w.rng, 20, 6000);
	if (rng_chance(&s->w.rng, 300))
		k->plan->hosts = lists[nnodes];
	return k;
}

/* What one asks for: all, none, or some; now and then also of what strangers use. */
static struct client *some_gpu_job(struct sim *s, uint32_t most, int64_t lo_ms, int64_t hi_ms)
{
	struct client *k = gpu_job(s, (uint32_t)rng_range(&s->w.rng, 1, s->n_agents < 3 ? s->n_agents : 3),
				   (int)rng_range(&s->w.rng, -1, most), lo_ms, hi_ms);

	k->plan->ppn = (uint32_t)rng_range(&s->w.rng, 1, 2);
	k->plan->busy_gpus = rng_chance(&s->w.rng, 150);
	k->plan->immediate = rng_chance(&s->w.rng, 100);
	return k;
}

/* When all is healed, all GPUs of all nodes are to be had again. */
static void all_of_it_at_last(struct sim *s)
{
	struct client *k = client_add(s, (uint32_t)rng_below(&s->w.rng, s->n_agents),
				      s->heal_at + scn_ms(s, 18000, 25000));

	k->plan->nnodes = s->n_agents;
	k->plan->run_ms = 50;
	k->late = true;
}

static void gpu_fault(struct sim *s, int64_t lo_ms, int64_t hi_ms, int64_t lasts_ms)
{
	static const struct {
		enum fault_kind kind;
		unsigned weight;
	} rows[] = {
		{ FT_GPU_GONE, 6 },	 { FT_GPU_STRANGER, 5 }, { FT_GPU_LOST, 3 },
		{ FT_GPU_UNCLEAR, 1 },	 { FT_PROBE_SILENT, 2 }, { FT_PROBE_OUT, 2 },
		{ FT_DRIVER_BROKEN, 2 }, { FT_DRIVER_ABSENT, 2 },
	};
	uint64_t at_weight = rng_below(&s->w.rng, 23);
	size_t i = 0;

	while (at_weight >= rows[i].weight)
		at_weight -= rows[i++].weight;
	scn_fault(s, lo_ms, hi_ms, rows[i].kind, (uint32_t)rng_below(&s->w.rng, s->n_agents),
		  scn_ms(s, 100, rows[i].kind == FT_PROBE_SILENT ? 3 * lasts_ms : lasts_ms));
}

/* Two hosts, jobs that do not all fit at once. */
void scn_gpus(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 2, 3);

	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 2);
	for (int i = 0; i < jobs; i++)
		some_gpu_job(s, 2, 0, 3000);
	gpu_fault(s, 500, 5000, 4000);
	all_of_it_at_last(s);
}

/* Virtual nodes have the GPUs of one host between them: what is one's own
 * shifts with the indices, and their agents hear of it at different times. */
void scn_gpus_shared(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 2, 5), faults = (int)rng_range(&s->w.rng, 1, 3);

	gpus_host(s, 0, rng_chance(&s->w.rng, 400) ? 2 : 4); /* of two, one may be the last */
	gpus_share(s, 0, 0, 0, 2);
	gpus_share(s, 0, 1, 1, 2);
	s->node_lost_ms = 120000;
	for (int i = 0; i < jobs; i++)
		some_gpu_job(s, 2, 0, 8000);
	for (int i = 0; i < faults; i++)
		scn_fault(s, 500, 8000, rng_chance(&s->w.rng, 600) ? FT_GPU_GONE : FT_GPU_STRANGER, 0,
			  scn_ms(s, 300, 8000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 500, 8000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2),
			  scn_ms(s, 50, 3000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 500, 8000, FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
	all_of_it_at_last(s);
}

/* A job waits for more GPUs than there are just now; they come again while a
 * stranger uses one, or are held by another job all the while. */
void scn_gpus_return(struct sim *s)
{
	int64_t gone = scn_ms(s, 1300, 2000), lasts = scn_ms(s, 2500, 5000);
	struct client *held, *first, *second;

	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 2);
	if (rng_chance(&s->w.rng, 700)) {
		held = gpu_job(s, 1, 1, 50, 300);
		held->plan->hosts = "n1";
		held->plan->run_ms = rng_range(&s->w.rng, 8000, 15000);
	}
	first = gpu_job(s, 1, 2, 2500, 3500);
	second = gpu_job(s, 1, 1, 3700, 9000);
	first->plan->hosts = second->plan->hosts = "n1";
	fault_at(s, gone, FT_GPU_GONE, 0, lasts);
	if (rng_chance(&s->w.rng, 400))
		fault_at(s, gone + lasts - scn_ms(s, 0, 900), FT_GPU_STRANGER, 0, scn_ms(s, 3000, 9000));
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 500, 6000, FT_COORD_CRASH, 0, scn_ms(s, 50, 2000));
	all_of_it_at_last(s);
}

/* The driver comes while ranks run that were given none of its GPUs. */
void scn_gpus_driver(struct sim *s)
{
	int64_t from = scn_ms(s, 0, 3000);

	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 2);
	for (int64_t n = rng_range(&s->w.rng, 1, 3); n > 0; n--)
		gpu_job(s, (uint32_t)rng_range(&s->w.rng, 1, 2), (int)rng_range(&s->w.rng, -1, 1), 200, 6000);
	fault_at(s, from, rng_chance(&s->w.rng, 700) ? FT_DRIVER_ABSENT : FT_DRIVER_BROKEN, 0,
		 scn_ms(s, 1000, 6000));
	if (rng_chance(&s->w.rng, 500))
		scn_fault(s, 500, 6000, rng_chance(&s->w.rng, 500) ? FT_AGENT_CRASH : FT_COORD_CRASH, 0,
			  scn_ms(s, 50, 3000));
	all_of_it_at_last(s);
}

void scn_gpus_chaos(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 2, 6), gpu_faults = (int)rng_range(&s->w.rng, 0, 6);
	int faults = (int)rng_range(&s->w.rng, 0, 4);

	s->slow_net = rng_chance(&s->w.rng, 200);
	s->gpus_linger = rng_chance(&s->w.rng, 300);
	if (rng_chance(&s->w.rng, 500))
		s->node_lost_ms = 120000;
	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, (uint32_t)rng_range(&s->w.rng, 1, GPUS_MAX));
	for (int i = 0; i < jobs; i++) {
		struct client *k = some_gpu_job(s, 3, 0, 12000);

		scn_spice(s, k->plan);
		if (rng_chance(&s->w.rng, 150))
			scn_fails(s, k->plan, 0, 7);
		if (rng_chance(&s->w.rng, 200)) {
			k->kill_in = rng_chance(&s->w.rng, 400)	  ? "queued"
				     : rng_chance(&s->w.rng, 500) ? "running"
								  : "preparing";
			k->kill_after = scn_ms(s, 0, 3000);
		}
	}
	for (int i = 0; i < gpu_faults; i++)
		gpu_fault(s, 200, 14000, 9000);
	for (int i = 0; i < faults; i++)
		fault_random(s, rng_chance(&s->w.rng, 700) ? scn_ms(s, 0, 15000) : -1);
	all_of_it_at_last(s);
}

/* Jobs that are started again keep the GPUs of their good nodes and of spares. */
void scn_again_gpus(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 1, 3), faults = (int)rng_range(&s->w.rng, 1, 3);

	s->leases = true;
	for (uint32_t i = 0; i < s->n_agents; i++)
		gpus_host(s, i, 2);
	for (int i = 0; i < jobs; i++) {
		struct client *k = gpu_job(s, (uint32_t)rng_range(&s->w.rng, 1, s->n_agents - 1),
					   (int)rng_range(&s->w.rng, -1, 2), 0, 6000);

		k->plan->run_ms = rng_range(&s->w.rng, 500, 15000);
		k->plan->max_restarts = (uint32_t)rng_range(&s->w.rng, 0, 3);
		if (k->plan->hosts == NULL && k->plan->max_restarts > 0)
			k->plan->spares = rng_chance(&s->w.rng, 400);
		scn_spice(s, k->plan);
		if (rng_chance(&s->w.rng, 300)) {
			scn_fails(s, k->plan, 0, 7);
			k->plan->fail_attempts = 1;
			k->plan->restart_any = true;
		}
		if (rng_chance(&s->w.rng, 150))
			k->kill_in = rng_chance(&s->w.rng, 500) ? "restarting" : "running";
	}
	for (int i = 0; i < faults; i++)
		if (rng_chance(&s->w.rng, 400))
			gpu_fault(s, 500, 10000, 9000);
		else
			scn_fault(s, 800, 12000, rng_chance(&s->w.rng, 500) ? FT_REBOOT : FT_CUT,
				  (uint32_t)rng_below(&s->w.rng, s->n_agents),
				  scn_ms(s, 4000, s->node_lost_ms + 30000));
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 800, 20000, FT_COORD_CRASH, 0, scn_ms(s, 50, 4000));
	all_of_it_at_last(s);
}
