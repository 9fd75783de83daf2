/* scenario.h - what the scenarios of several files share
 *
 *   scenario.c          the list; runs without faults, with single faults, chaos
 *   scenario_restart.c  restarts at the worst moments
 *   scenario_silence.c  nodes that are not heard
 *   scenario_gpus.c     jobs on GPUs
 *   scenario_queue.c    jobs that wait for them
 *   scenario_power.c    power failures, people who are killed
 *   stuck.c             processes that cannot be killed
 *   scenario_again.c    jobs that are started again
 *   scenario_cause.c    ranks of several nodes that fail at about the same time
 *   scenario_hang.c     ranks that freeze, nodes that are left out
 *   scenario_rules.c    drains, time limits, graces, history
 *   scenario_leave.c    nodes that are taken out, daemons that are asked to stop
 */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include "tests/sim/sim.h"

int64_t scn_ms(struct sim *s, int64_t lo, int64_t hi); /* some time between, in ns */
/* A job on nodes n1.., some of them before the agents have registered. */
struct client *scn_submit(struct sim *s, uint32_t nnodes, uint32_t ppn);
void scn_spice(struct sim *s, struct plan *p); /* some ranks ignore TERM or leave something behind */
void scn_fails(struct sim *s, struct plan *p, int rank, uint32_t code);
/* At some time, or right after something has happened. */
void scn_fault(struct sim *s, int64_t lo_ms, int64_t hi_ms, enum fault_kind kind, uint32_t host,
	       int64_t lasts);

void scn_first_cause(struct sim *s);
void scn_first_cause_late(struct sim *s);
void scn_clock_set(struct sim *s);
void scn_start_interrupted(struct sim *s);
void scn_stopped_shim(struct sim *s);
void scn_old_order(struct sim *s);
void scn_slow_store(struct sim *s);
void scn_no_ports(struct sim *s);
void scn_silent_node(struct sim *s);
void scn_all_silent(struct sim *s);
void scn_most_silent(struct sim *s);
void scn_node_removed(struct sim *s);
void scn_node_rejoins(struct sim *s);
void scn_agent_leaves(struct sim *s);
void scn_all_leave(struct sim *s);
void scn_runs_kept(struct sim *s);
void scn_drained(struct sim *s);
void scn_time_restarts(struct sim *s);
void scn_kill_hurried(struct sim *s);
void scn_history(struct sim *s);
void scn_queue_graces(struct sim *s);
void scn_queue_two(struct sim *s);
void scn_again_long(struct sim *s);
void scn_launcher_away(struct sim *s);
void scn_queue(struct sim *s);
void scn_queue_equals(struct sim *s);
void scn_dies_unseen(struct sim *s);
void scn_launcher(struct sim *s);
void scn_impatient(struct sim *s);
void scn_power(struct sim *s);
void scn_reboot_unheard(struct sim *s);
void scn_clients_crash(struct sim *s);
void scn_undying(struct sim *s);
void scn_gpus(struct sim *s);
void scn_gpus_shared(struct sim *s);
void scn_gpus_return(struct sim *s);
void scn_gpus_driver(struct sim *s);
void scn_gpus_chaos(struct sim *s);
void scn_again_node(struct sim *s);
void scn_again_silent(struct sim *s);
void scn_again_stopped(struct sim *s);
void scn_again_coord(struct sim *s);
void scn_again_spare(struct sim *s);
void scn_again_barred(struct sim *s);
void scn_again_headless(struct sim *s);
void scn_kill_stored(struct sim *s);
void scn_saved_in_vain(struct sim *s);
void scn_again_any(struct sim *s);
void scn_again_submitter(struct sim *s);
void scn_again_preparing(struct sim *s);
void scn_again_kill(struct sim *s);
void scn_again_repeats(struct sim *s);
void scn_again_chaos(struct sim *s);
void scn_hang(struct sim *s);
void scn_hang_none(struct sim *s);
void scn_hang_restart(struct sim *s);
void scn_hang_acts(struct sim *s);
void scn_policy(struct sim *s);
void scn_again_gpus(struct sim *s); /* scenario_gpus.c */

#endif
