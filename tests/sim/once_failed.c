/* once_failed.c - seeds that have failed once: every sweep begins with them
 *
 * A seed is a history only for as long as its scenario draws the same numbers
 * from it. So each of these faults has a unit test of its own, and is planted
 * again by tests/sim/planted: when that is found by the first few seeds no
 * longer, a new seed belongs here.
 */
#include "tests/sim/sim.h"

const struct once_failed once_failed[] = {
	/* left-ready; test_coord: what_is_alive_at_a_place_that_is_over_is_ended_and_then_forgotten */
	{ "no-ports", 47 },
	{ "chaos", 2449 },
	/* master-forgotten; test_agent: an_adopted_shim_knows_what_it_was_started_with */
	{ "start-interrupted", 121 },
	{ "start-interrupted", 422 },
	{ "chaos", 10291 },
	/* unspoken-lost; test_coord: a_node_whose_shim_has_not_spoken_yet_is_waited_for */
	{ "stopped-shim", 106 },
	/* unknown-started; test_coord: a_node_that_cannot_tell_yet_whether_it_has_started_is_waited_for
	 * and what_was_taken_for_started_and_stands_ready_is_started */
	{ "chaos", 502370 },
	{ "stopped-shim", 9762 },
	/* heard-once-more; test_coord: a_node_that_is_heard_once_more_is_shown_silent_as_soon_again */
	{ "all-silent", 13 },
	/* cut-short-unseen; test_coord: a_part_that_was_ended_while_the_coordinator_was_away_ends_the_job */
	{ "agent-leaves", 7 },
	/* own-absence; test_coord: a_coordinator_that_was_stopped_has_not_heard_anybody */
	{ "silent-node", 193 },
	/* old-order, old-order-renewed; test_shim_machine: an_order_that_comes_late_starts_nothing,
	 * test_agent: an_order_is_renewed_only_while_its_session_lasts */
	{ "old-order", 2 },
};

const size_t n_once_failed = sizeof(once_failed) / sizeof(once_failed[0]);
