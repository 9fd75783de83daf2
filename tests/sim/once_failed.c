/* once_failed.c - seeds that have failed once: every sweep begins with them
 *
 * A seed is a history only for as long as its scenario draws the same numbers
 * from it. So each of these has a unit test of its own as well, named beside
 * it; and who changes what a scenario draws breaks the code again to see that
 * the seed still finds it, or takes it out.
 */
#include "tests/sim/sim.h"

const struct once_failed once_failed[] = {
	/* test_coord: what_is_alive_at_a_place_that_is_over_is_ended_and_then_forgotten */
	{ "chaos", 561827 },
	/* test_agent: an_adopted_shim_knows_what_it_was_started_with */
	{ "chaos", 26038 },
	{ "chaos", 42400 },
};

const size_t n_once_failed = sizeof(once_failed) / sizeof(once_failed[0]);
