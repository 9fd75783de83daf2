/* once_failed.c - seeds that have failed once: every sweep begins with them
 *
 * A seed is a history only for as long as its scenario draws the same numbers
 * from it. So each of these faults has a unit test of its own, and is planted
 * again by tests/sim/planted: when that is found by the first few seeds no
 * longer, a new seed belongs here.
 */
#include "tests/sim/sim.h"

const struct once_failed once_failed[] = {
	/* left-ready; test_coord_again: what_is_alive_at_a_place_that_is_over_is_ended_and_then_forgotten */
	{ "no-ports", 47 },
	{ "chaos", 2449 },
	/* master-forgotten; test_agent_adopt: an_adopted_shim_knows_what_it_was_started_with */
	{ "start-interrupted", 121 },
	{ "start-interrupted", 422 },
	{ "chaos", 10291 },
	/* end-overtakes; test_coord_again: a_part_that_is_over_when_its_shim_speaks_leaves_no_job_recovering_for_ever */
	{ "stopped-shim", 227568 },
	/* test_coord_requests: a_job_that_was_never_saved_lets_nobody_in */
	{ "chaos", 3090042 },
	/* unspoken-lost; test_coord_again: a_node_whose_shim_has_not_spoken_yet_is_waited_for */
	{ "stopped-shim", 106 },
	{ "stopped-shim", 1429 },
	{ "chaos", 8583 },
	/* unknown-started; test_coord_again: a_node_that_cannot_tell_yet_whether_it_has_started_is_waited_for
	 * and what_was_taken_for_started_and_stands_ready_is_started */
	{ "chaos", 502370 },
	{ "stopped-shim", 261 },
	/* ready-taken-for-started; test_coord_again: what_was_told_as_starting_and_stands_ready_is_started */
	{ "chaos", 100312 },
	{ "chaos", 200500 },
	{ "stopped-shim", 200026 },
	/* heard-once-more; test_coord: a_node_that_is_heard_once_more_is_shown_silent_as_soon_again */
	{ "all-silent", 1005 },
	{ "all-silent", 1125 },
	/* sweep-by-number; test_proc: a_signal_needs_the_right_start_time */
	{ "shim-killed", 1256 },
	{ "shim-killed", 176 },
	/* unleased-trusted; test_coord_restart: who_keeps_no_lease_is_waited_for_until_it_speaks */
	{ "again-silent", 1022 },
	/* cut-short-unseen; test_coord_again: a_part_that_was_ended_while_the_coordinator_was_away_ends_the_job */
	{ "agent-leaves", 7 },
	{ "agent-leaves", 32 },
	/* own-absence; test_coord: a_coordinator_that_was_stopped_has_not_heard_anybody */
	{ "silent-node", 193 },
	/* old-order, old-order-renewed; test_shim_machine: an_order_that_comes_late_starts_nothing,
	 * test_agent: an_order_is_renewed_only_while_its_session_lasts */
	{ "old-order", 2 },
	/* overtaken-unstored; test_coord_queue: a_job_is_not_overtaken_while_it_is_being_stored and
	 * a_job_whose_choice_cannot_be_saved_is_not_overtaken */
	{ "gpus", 2313 },
	/* absent-driver-shows-all; test_coord_gpus:
	 * where_there_were_GPUs_they_are_hidden_while_no_driver_is_there, test_agent_gpus:
	 * GPUs_that_nobody_had_seen_are_hidden_from_a_job_that_was_given_none */
	{ "gpus-chaos", 396 },
	/* shifted-at-start; test_agent_gpus: indices_that_shift_before_the_start_are_told_with_it */
	{ "gpus-chaos", 948 },
	/* more-not-free; test_coord_queue:
	 * who_waits_is_asked_again_when_there_are_more_GPUs_but_no_more_free_ones */
	{ "gpus-chaos", 1224 },
	/* first-word-overtakes; test_coord_queue:
	 * a_job_in_a_nodes_first_word_after_a_silence_does_not_overtake_those_who_waited_for_it */
	{ "gpus-chaos", 1936 },
	/* given-up-watch; test_agent_requests: a_watch_that_is_given_up_is_taken_back */
	{ "gpus-chaos", 122596 },
	/* sibling-unlooked; test_coord_gpus: one_job_on_two_virtual_nodes_gets_no_GPU_twice */
	{ "gpus-shared", 415 },
	/* sibling-seen-by-reading; test_coord_gpus:
	 * a_virtual_node_leaves_what_its_sibling_holds_under_a_new_index */
	{ "gpus-shared", 4395 },
	/* driver-unread-at-start; found by this seed only */
	{ "gpus-driver", 58 },
	/* wal-unsettled; found by the first seeds of its own scenario */
	{ "power", 214 },
	{ "power", 1018 },
	/* sibling-seen-by-reading, once more */
	{ "gpus-shared", 102 },
	/* more-not-free, once more */
	{ "gpus-return", 184 },
	/* first-word-overtakes, master-forgotten, given-up-watch, once more */
	{ "gpus-chaos", 20630 },
	{ "start-interrupted", 20014 },
	{ "impatient", 20022 },
	/* refused-in-file */
	{ "power", 1498 },
	/* own-absence, once more */
	{ "silent-node", 559 },
	/* wal-unsettled: watched-chaos 8565 as it was then; now scenario power finds it */
	/* ready-taken-for-started, sibling-seen-by-reading, status-unread: once more, since
	 * there are workers, memory that comes back and records that are read again */
	{ "stopped-shim", 7101697 },
	{ "gpus-shared", 6100816 },
	{ "agent-leaves", 6104485 },
	/* jobs that are started again: what was told meanwhile, records that stayed, GPUs that were kept */
	{ "again-kill", 11 },
	{ "again-kill", 487 },
	{ "again-chaos", 1101 },
	{ "again-chaos", 3006 },
	{ "again-chaos", 3695 },
	{ "again-gpus", 128 },
	{ "again-gpus", 1767 },
	{ "again-gpus", 3011 },
	/* test_coord_gpus: a_node_that_is_back_while_its_lost_job_is_saved_has_its_GPUs_again */
	{ "gpus-chaos", 277428 },
	{ "gpus-chaos", 513140 },
	/* test_coord_requests: a_node_that_was_told_of_a_job_that_is_not_taken_is_told_that_it_is_over */
	{ "gpus-chaos", 339340 },
	/* test_coord_queue: a_node_whose_agent_is_restarted_costs_nobody_his_place */
	{ "queue", 708615 },
	/* ended-by-number, number-given-twice; test_coord_history: who_ended_first_goes_first_not_who_came_first and
	 * the_number_of_a_job_that_has_gone_is_not_given_again */
	{ "history", 4 },
	{ "history", 39 },
	/* lapse-unsaid; test_shim_lease: whose_agent_ends_it_for_its_lease_says_so */
	{ "again-headless", 8 },
	{ "again-headless", 56 },
	/* saved-in-vain-let-in; test_coord_requests:
	 * a_job_that_was_never_saved_lets_nobody_in */
	{ "saved-in-vain", 29 },
	/* more-not-free, once more */
	{ "gpus-return", 216 },
	/* test_coord_requests: an_end_that_is_not_on_disk_is_confirmed_to_nobody */
	{ "gpus-chaos", 6476 },
	/* found by the first seeds of their own scenarios: killed-restarts, limit-forgotten, limit-of-one-attempt,
	 * drain-forgotten, most-silent-lost, kill-confirmed-early, hello-news-only, grace-uncounted */
	{ "again-kill", 4 },
	{ "time-restarts", 1 },
	{ "time-restarts", 2 },
	{ "drained", 1 },
	{ "most-silent", 1 },
	{ "kill-stored", 58 },
	{ "agent-restarts", 8 },
	{ "queue-graces", 2 },
};

const size_t n_once_failed = sizeof(once_failed) / sizeof(once_failed[0]);
