/* scenario.c - what happens in a run: who submits what, and what goes wrong when */
#include "tests/sim/scenario.h"

#include <string.h>

int64_t scn_ms(struct sim *s, int64_t lo, int64_t hi)
{
	return rng_range(&s->w.rng, lo * 1000, hi * 1000) * 1000;
}

struct client *scn_submit(struct sim *s, uint32_t nnodes, uint32_t ppn)
{
	uint32_t host = (uint32_t)rng_below(&s->w.rng, s->n_agents);
	struct client *k = client_add(s, host, scn_ms(s, 0, 1500));

	k->plan->nnodes = nnodes;
	k->plan->ppn = ppn;
	if (nnodes > 1 || rng_chance(&s->w.rng, 500))
		k->plan->hosts = nnodes == 4   ? "n[1-4]"
				 : nnodes == 3 ? "n[1-3]"
				 : nnodes == 2 ? "n1,n2"
					       : "n1";
	return k;
}

void scn_spice(struct sim *s, struct plan *p)
{
	p->stubborn = rng_chance(&s->w.rng, 300) ? 400 : 0;
	p->leftover = rng_chance(&s->w.rng, 300) ? 300 : 0;
}

void scn_fails(struct sim *s, struct plan *p, int rank, uint32_t code)
{
	p->fail_rank = rank;
	p->fail_code = code;
	p->fail_ms = rng_range(&s->w.rng, 5, 1500);
	p->run_ms = 60000; /* the others would hang on in a collective */
}

void scn_fault(struct sim *s, int64_t lo_ms, int64_t hi_ms, enum fault_kind kind,
			   uint32_t host, int64_t lasts)
{
	if (rng_chance(&s->w.rng, 500))
		fault_at(s, scn_ms(s, lo_ms, hi_ms), kind, host, lasts);
	else
		fault_at_action(s, (uint64_t)rng_range(&s->w.rng, 1, kind == FT_COORD_CRASH ? 60 : 30),
				kind, host, lasts);
}

/* ---- without faults ------------------------------------------------------------- */

static void one(struct sim *s)
{
	scn_submit(s, 1, 1);
}

static void two_by_two(struct sim *s)
{
	scn_spice(s, scn_submit(s, 2, 2)->plan);
}

static void rank_fails(struct sim *s)
{
	struct client *k = scn_submit(s, 4, 1);

	scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	if (rng_chance(&s->w.rng, 300))
		k->plan->fail_sig = 11;
	scn_spice(s, k->plan);
}

static void missing_command(struct sim *s)
{
	struct client *k = scn_submit(s, 3, 2);

	k->plan->missing_host = (int)rng_below(&s->w.rng, 3);
}

static void unstartable(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->plan->unstartable = 400;
	k->plan->run_ms = rng_chance(&s->w.rng, 500) ? 300 : 30000;
	scn_spice(s, k->plan);
}

static void kill_running(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->plan->run_ms = 60000;
	k->kill_in = "running";
	k->kill_after = scn_ms(s, 0, 600);
	scn_spice(s, k->plan);
}

static void kill_preparing(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	k->plan->run_ms = 60000;
	k->kill_in = "preparing";
	k->kill_after = scn_ms(s, 0, 60);
}

static void time_limit(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->plan->run_ms = 60000;
	k->plan->time_s = (uint32_t)rng_range(&s->w.rng, 1, 4);
	scn_spice(s, k->plan);
}

static void two_jobs(struct sim *s)
{
	scn_spice(s, scn_submit(s, 2, 1)->plan);
	scn_spice(s, scn_submit(s, 2, 2)->plan);
}

/* ---- people come and go ------------------------------------------------------------ */

static void client_vanishes(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->vanish_after = scn_ms(s, 1, 2000);
	if (rng_chance(&s->w.rng, 300))
		scn_fails(s, k->plan, 1, 3);
}

/* Two connections, one client id; the agent or the coordinator may fall in between. */
static void duplicate_submit(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1), *twin;

	k->twice = rng_chance(&s->w.rng, 500);
	twin = client_add(s, (uint32_t)rng_below(&s->w.rng, s->n_agents), scn_ms(s, 0, 1500));
	*twin->plan = *k->plan;
	strcpy(twin->client_id, k->client_id);
	twin->plan_no = k->plan_no;
	twin->plan = k->plan;
	if (rng_chance(&s->w.rng, 400))
		fault_at(s, scn_ms(s, 100, 2000), FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
}

static void local_watcher(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	k->local_watch = true;
	if (rng_chance(&s->w.rng, 400)) {
		k->plan->run_ms = 30000;
		k->kill_in = "running";
		k->kill_after = scn_ms(s, 0, 300);
	}
}

/* ---- nodes and daemons fall ----------------------------------------------------------- */

static void node_reboots(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->plan->run_ms = 6000;
	scn_spice(s, k->plan);
	scn_fault(s, 500, 6000, FT_REBOOT, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 4000, 30000));
}

static void agent_restarts(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);
	int n = (int)rng_range(&s->w.rng, 1, 3);

	k->plan->run_ms = rng_range(&s->w.rng, 100, 5000);
	if (rng_chance(&s->w.rng, 400))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	for (int i = 0; i < n; i++)
		scn_fault(s, 200, 5000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, s->n_agents),
			 scn_ms(s, 20, 2500));
}

static void coordinator_restarts(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);
	int n = (int)rng_range(&s->w.rng, 1, 3);

	k->plan->run_ms = rng_range(&s->w.rng, 100, 5000);
	if (rng_chance(&s->w.rng, 400))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	for (int i = 0; i < n; i++)
		scn_fault(s, 200, 5000, rng_chance(&s->w.rng, 500) ? FT_COORD_CRASH : FT_COORD_POWER, 0,
			  scn_ms(s, 20, 5000));
}

static void shim_killed(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->plan->run_ms = 5000;
	k->plan->leftover = 500;
	scn_fault(s, 500, 5000, FT_SHIM_KILL, (uint32_t)rng_below(&s->w.rng, 2), 0);
	if (rng_chance(&s->w.rng, 400))
		scn_fault(s, 500, 5000, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2),
			 scn_ms(s, 50, 2000));
}

/* ---- the network ------------------------------------------------------------------------- */

static enum fault_kind some_cut(struct sim *s)
{
	return FT_CUT + rng_below(&s->w.rng, 3);
}

static void black_hole_short(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	s->node_lost_ms = 60000;
	k->plan->run_ms = rng_range(&s->w.rng, 100, 20000);
	if (rng_chance(&s->w.rng, 300))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	scn_fault(s, 300, 6000, some_cut(s), (uint32_t)rng_below(&s->w.rng, 2),
		 scn_ms(s, 50, 15000));
}

static void black_hole_long(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	k->plan->run_ms = rng_range(&s->w.rng, 1000, 90000);
	scn_spice(s, k->plan);
	scn_fault(s, 300, 6000, some_cut(s), (uint32_t)rng_below(&s->w.rng, 2),
		 scn_ms(s, s->node_lost_ms + 1000, s->node_lost_ms + 40000));
}

static void resets(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);
	int n = (int)rng_range(&s->w.rng, 1, 8);

	if (rng_chance(&s->w.rng, 300))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	s->slow_net = true;
	for (int i = 0; i < n; i++)
		scn_fault(s, 100, 5000, FT_RESET, (uint32_t)rng_below(&s->w.rng, 2), 0);
}

/* SIGSTOP for longer than the coordinator waits: what it finds in its socket
 * when it goes on is of another time (16). */
static void stopped_agent(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	k->plan->run_ms = rng_range(&s->w.rng, 100, 4000);
	scn_fault(s, 300, 3000, FT_STOP_AGENT, (uint32_t)rng_below(&s->w.rng, 2),
		 scn_ms(s, 100, s->node_lost_ms + 20000));
}

static void stopped_coordinator(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	k->plan->run_ms = rng_range(&s->w.rng, 100, 8000);
	scn_fault(s, 300, 3000, FT_STOP_COORD, 0, scn_ms(s, 100, s->node_lost_ms + 20000));
}

static void queued(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	fault_at(s, 0, FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2), scn_ms(s, 3000, 20000));
	s->loss_allowed = false;
	if (rng_chance(&s->w.rng, 300)) {
		k->kill_in = "queued";
		k->kill_after = scn_ms(s, 0, 2000);
	}
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, scn_ms(s, 1000, 9000), FT_COORD_CRASH, 0, scn_ms(s, 50, 3000));
}

/* ---- disks and clocks ----------------------------------------------------------------------- */

static void disk_full(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	if (rng_chance(&s->w.rng, 300))
		k->kill_in = "running";
	fault_at(s, scn_ms(s, 0, 2500), rng_chance(&s->w.rng, 600) ? FT_DISK_FULL : FT_DISK_BAD, 0,
		 scn_ms(s, 500, 12000));
	if (rng_chance(&s->w.rng, 400))
		fault_at(s, scn_ms(s, 500, 6000), rng_chance(&s->w.rng, 500) ? FT_COORD_CRASH : FT_COORD_POWER,
			 0, scn_ms(s, 50, 2000));
}

static void wall_clock(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 2);

	s->no_events = true;
	if (rng_chance(&s->w.rng, 400))
		k->plan->time_s = 3;
	if (rng_chance(&s->w.rng, 400))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	k->plan->run_ms = 8000;
	for (int i = 0; i < 6; i++)
		fault_at(s, scn_ms(s, 0, 6000), FT_WALL_JUMP, 0, 0);
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, scn_ms(s, 1000, 5000), FT_COORD_CRASH, 0, scn_ms(s, 50, 2000));
}

/* ---- those who are not what they say ---------------------------------------------------------- */

/* The coordinator comes back with an empty database of another lineage (9). */
static void other_lineage(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	k->plan->run_ms = rng_range(&s->w.rng, 3000, 20000);
	s->no_kills = s->no_progress_checks = true;
	s->loss_allowed = true;
	fault_at(s, scn_ms(s, 2000, 5000), FT_LINEAGE, 0, 0);
	if (rng_chance(&s->w.rng, 500))
		fault_at(s, scn_ms(s, 5000, 9000), FT_AGENT_CRASH, (uint32_t)rng_below(&s->w.rng, 2),
			 scn_ms(s, 50, 2000));
	s->heal_at += 10 * SECOND;
}

static void liar(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	k->plan->hosts = "n1,n2";
	k->plan->run_ms = 4000;
	if (rng_chance(&s->w.rng, 300))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 2), 7);
	rogue_add(s, ROGUE_LIAR, scn_ms(s, 100, 1500));
	if (rng_chance(&s->w.rng, 300))
		fault_at(s, scn_ms(s, 1000, 4000), FT_COORD_CRASH, 0, scn_ms(s, 50, 2000));
}

static void clone(struct sim *s)
{
	struct client *k = scn_submit(s, 2, 1);

	k->plan->run_ms = 3000;
	s->no_progress_checks = s->loss_allowed = true;
	s->heal_at = 10 * SECOND;
	rogue_add(s, ROGUE_CLONE, scn_ms(s, 200, 3000));
}

/* ---- everything at once -------------------------------------------------------------------------- */

static void chaos_job(struct sim *s)
{
	struct client *k = scn_submit(s, (uint32_t)rng_range(&s->w.rng, 1, 4),
				  (uint32_t)rng_range(&s->w.rng, 1, 3));

	k->plan->run_ms = rng_range(&s->w.rng, 10, 15000);
	k->plan->unstartable = rng_chance(&s->w.rng, 100) ? 200 : 0;
	scn_spice(s, k->plan);
	if (rng_chance(&s->w.rng, 250))
		scn_fails(s, k->plan, (int)rng_below(&s->w.rng, 4), 7);
	if (rng_chance(&s->w.rng, 100))
		k->plan->missing_host = (int)rng_below(&s->w.rng, 4);
	if (rng_chance(&s->w.rng, 150))
		k->plan->time_s = (uint32_t)rng_range(&s->w.rng, 1, 6);
	if (rng_chance(&s->w.rng, 200)) {
		k->kill_in = rng_chance(&s->w.rng, 500) ? "running" : "preparing";
		k->kill_after = scn_ms(s, 0, 3000);
	}
	if (rng_chance(&s->w.rng, 150))
		k->vanish_after = scn_ms(s, 1, 4000);
	k->twice = rng_chance(&s->w.rng, 100);
	k->local_watch = rng_chance(&s->w.rng, 100);
}

static void chaos(struct sim *s)
{
	int jobs = (int)rng_range(&s->w.rng, 1, 3), faults = (int)rng_range(&s->w.rng, 1, 8);

	s->slow_net = rng_chance(&s->w.rng, 300);
	if (rng_chance(&s->w.rng, 300))
		s->node_lost_ms = 120000;
	for (int i = 0; i < jobs; i++)
		chaos_job(s);
	if (rng_chance(&s->w.rng, 200))
		s->fetch_fails = s->lease_fails = s->spawn_fails = s->prove_fails = 60;
	for (int i = 0; i < faults; i++)
		fault_random(s, rng_chance(&s->w.rng, 700) ? scn_ms(s, 0, 15000) : -1);
}

static void watched_chaos(struct sim *s)
{
	chaos(s);
	admin_add(s, 0);
	if (rng_chance(&s->w.rng, 300))
		scn_fault(s, 200, 12000, FT_AGENT_LEAVE, (uint32_t)rng_below(&s->w.rng, s->n_agents),
			  scn_ms(s, 50, 8000));
	if (rng_chance(&s->w.rng, 200))
		scn_fault(s, 200, 12000, FT_COORD_LEAVE, 0, scn_ms(s, 50, 5000));
}

/* Chaos is the last one, and chaos with GPUs the one before: see scenario_of() in main.c. */
const struct scenario scenarios[] = {
	{ "one", 1, one, true },
	{ "two-by-two", 2, two_by_two, true },
	{ "rank-fails", 4, rank_fails, true },
	{ "missing-command", 3, missing_command, true },
	{ "unstartable", 2, unstartable, true },
	{ "kill-running", 2, kill_running, true },
	{ "kill-preparing", 2, kill_preparing, true },
	{ "time-limit", 2, time_limit, true },
	{ "two-jobs", 3, two_jobs, true },
	{ "client-vanishes", 2, client_vanishes, true },
	{ "duplicate-submit", 2, duplicate_submit, true },
	{ "local-watcher", 2, local_watcher, true },
	{ "node-reboots", 2, node_reboots, true },
	{ "agent-restarts", 2, agent_restarts, true },
	{ "reboot-unheard", 2, scn_reboot_unheard, false },
	{ "coordinator-restarts", 2, coordinator_restarts, true },
	{ "shim-killed", 2, shim_killed, true },
	{ "black-hole-short", 2, black_hole_short, true },
	{ "black-hole-long", 2, black_hole_long, true },
	{ "resets", 2, resets, true },
	{ "stopped-agent", 2, stopped_agent, true },
	{ "stopped-coordinator", 3, stopped_coordinator, true },
	{ "queued", 2, queued, true },
	{ "disk-full", 2, disk_full, true },
	{ "wall-clock", 2, wall_clock, true },
	{ "other-lineage", 2, other_lineage, false },
	{ "liar", 2, liar, true },
	{ "clone", 2, clone, false },
	{ "start-interrupted", 3, scn_start_interrupted, true },
	{ "no-ports", 2, scn_no_ports, true },
	{ "slow-store", 2, scn_slow_store, true },
	{ "stopped-shim", 2, scn_stopped_shim, true },
	{ "old-order", 2, scn_old_order, true },
	{ "silent-node", 3, scn_silent_node, false },
	{ "all-silent", 2, scn_all_silent, true },
	{ "most-silent", 3, scn_most_silent, false },
	{ "node-removed", 3, scn_node_removed, true },
	{ "node-rejoins", 3, scn_node_rejoins, false },
	{ "queue", 2, scn_queue, false },
	{ "queue-equals", 2, scn_queue_equals, true },
	{ "queue-graces", 1, scn_queue_graces, false },
	{ "queue-two", 2, scn_queue_two, false },
	{ "drained", 3, scn_drained, false },
	{ "time-restarts", 2, scn_time_restarts, false },
	{ "kill-hurried", 2, scn_kill_hurried, false },
	{ "kill-stored", 2, scn_kill_stored, true },
	{ "saved-in-vain", 2, scn_saved_in_vain, false },
	{ "history", 2, scn_history, false },
	{ "agent-leaves", 3, scn_agent_leaves, true },
	{ "all-leave", 2, scn_all_leave, true },
	{ "runs-kept", 1, scn_runs_kept, true },
	{ "undying", 3, scn_undying, false },
	{ "again-node", 3, scn_again_node, true },
	{ "again-silent", 3, scn_again_silent, false },
	{ "again-stopped", 3, scn_again_stopped, false },
	{ "again-coord", 3, scn_again_coord, false },
	{ "again-spare", 4, scn_again_spare, true },
	{ "again-barred", 3, scn_again_barred, false },
	{ "again-long", 3, scn_again_long, false },
	{ "again-headless", 2, scn_again_headless, false },
	{ "again-submitter", 4, scn_again_submitter, true },
	{ "again-preparing", 4, scn_again_preparing, false },
	{ "again-any", 2, scn_again_any, true },
	{ "again-repeats", 2, scn_again_repeats, false },
	{ "again-kill", 2, scn_again_kill, true },
	{ "again-chaos", 4, scn_again_chaos, false },
	{ "again-gpus", 3, scn_again_gpus, false },
	{ "first-cause", 3, scn_first_cause, true },
	{ "first-cause-late", 3, scn_first_cause_late, false },
	{ "clock-set", 3, scn_clock_set, false },
	{ "gpus", 2, scn_gpus, true },
	{ "gpus-shared", 2, scn_gpus_shared, false },
	{ "gpus-return", 2, scn_gpus_return, false },
	{ "gpus-driver", 2, scn_gpus_driver, false },
	{ "dies-unseen", 2, scn_dies_unseen, true },
	{ "launcher", 2, scn_launcher, true },
	{ "launcher-away", 2, scn_launcher_away, true },
	{ "impatient", 2, scn_impatient, true },
	{ "power", 2, scn_power, true },
	{ "clients-crash", 2, scn_clients_crash, true },
	{ "hang", 2, scn_hang, true },
	{ "hang-none", 2, scn_hang_none, false },
	{ "hang-restart", 2, scn_hang_restart, false },
	{ "hang-acts", 2, scn_hang_acts, false },
	{ "policy", 3, scn_policy, true },
	{ "watched-chaos", 4, watched_chaos, false },
	{ "gpus-chaos", 3, scn_gpus_chaos, false },
	{ "chaos", 4, chaos, true },
};

const size_t n_scenarios = sizeof(scenarios) / sizeof(scenarios[0]);
