/* test_sm_find.c - where the subnet manager is: on a host, on which of several, on a switch, or nobody knows */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/sm_find.h"

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define GID "fe80:0000:0000:0000:a088:c203:00ab:0001"

static struct arena arena;
static struct sm_found found;
static struct rec_port ports[4];
static struct rec_host hosts[4];
static struct sm_node nodes[4];
static char names[4][8];

static int setup(void **state)
{
	arena_init(&arena);
	memset(nodes, 0, sizeof nodes);
	return 0;
}

static int teardown(void **state)
{
	arena_finish(&arena);
	return 0;
}

/* gpu0I with a port that is in this state and has these LIDs; sm: NULL: no service. */
static void node(unsigned i, const char *state, uint32_t lid, uint32_t sm_lid, const char *sm, bool running, bool enabled)
{
	snprintf(names[i], sizeof names[i], "gpu0%u", i + 1);
	ports[i] = (struct rec_port){ .device = "mlx5_0", .port = 1, .state = state, .lid = lid, .sm_lid = sm_lid, .gid = GID,
				      .link_layer = "InfiniBand" };
	hosts[i] = (struct rec_host){ .sm = sm, .sm_running = running, .sm_enabled = enabled };
	nodes[i] = (struct sm_node){ names[i], &hosts[i], &ports[i], 1 };
}

static const char *chosen(size_t n, const char *wanted)
{
	assert_true(sm_find(&arena, nodes, n, wanted, &found));
	assert_true((found.node == NULL) == (found.why != NULL));
	return found.node != NULL ? found.node->name : "-";
}

static void because(const char *words)
{
	if (found.why == NULL || strstr(found.why, words) == NULL)
		fail_msg("'%s' is not in '%s'", words, found.why != NULL ? found.why : "(chosen)");
}

static void line(size_t i, const char *text)
{
	assert_true(i < found.n_lines);
	assert_string_equal(found.lines[i], text);
}

static void the_only_one_there_is(void **state)
{
	node(0, "Active", 1, 1, "opensm", false, true);
	node(1, "Initializing", 0, 0, NULL, false, false);
	assert_string_equal(chosen(2, NULL), "gpu01");
	assert_true(found.master);
	assert_int_equal(found.n_lines, 1);
	line(0, "opensm on gpu01: NOT running, enabled, the last master (LID 1, mlx5_0)");
}

static void of_two_that_run_the_master(void **state)
{
	node(0, "Active", 3, 5, "opensm", true, true);
	node(1, "Active", 5, 5, "opensmd", true, false);
	node(2, "Initializing", 0, 0, NULL, false, false);
	assert_string_equal(chosen(3, NULL), "gpu02");
	line(0, "opensm on gpu01: running, enabled");
	line(1, "opensmd on gpu02: running, not enabled for the next boot, the master (LID 5, mlx5_0)");
	assert_string_equal(chosen(3, "gpu01"), "gpu01"); /* as was said */
	assert_false(found.master);
}

static void of_two_of_which_nothing_tells_none(void **state)
{
	node(0, "Initializing", 0, 0, "opensm", true, true);
	node(1, "Initializing", 0, 0, "opensm", true, true);
	assert_string_equal(chosen(2, NULL), "-");
	because("several nodes have a subnet manager (gpu01, gpu02)");
	hosts[1].sm_running = false;
	assert_string_equal(chosen(2, NULL), "gpu01"); /* the one that runs */
	hosts[0].sm_running = false;
	hosts[0].sm_enabled = false;
	assert_string_equal(chosen(2, NULL), "gpu02"); /* the one that is meant to */
}

static void on_a_switch_it_is_not_restarted_here(void **state)
{
	node(0, "Active", 3, 9, "opensm", false, false);
	node(1, "Active", 4, 9, NULL, false, false);
	assert_string_equal(chosen(2, NULL), "-");
	because("the ports name LID 9 as their subnet manager's, which no node here has: it is on a switch");
	because("nodectl fix sm -w gpu01");
	assert_string_equal(chosen(2, "gpu01"), "gpu01");
	hosts[0].sm = NULL;
	assert_string_equal(chosen(2, NULL), "-");
	because("it is on a switch");
	assert_null(strstr(found.why, "-w "));
	nodes[1].host = NULL; /* it may be there: its readings have not come */
	assert_string_equal(chosen(2, NULL), "-");
	because("which no node here has that tells of its ports now");
}

/* Its host was booted, and its own port lost the LID that the others still name. */
static void a_manager_whose_port_waits_itself_is_not_taken_for_a_switch(void **state)
{
	node(0, "Initializing", 0, 0, "opensm", false, false);
	node(1, "Active", 4, 1, NULL, false, false);
	assert_string_equal(chosen(2, NULL), "gpu01");
	ports[0].lid = 7; /* what is left from before its link was down says nothing */
	ports[0].sm_lid = 8;
	assert_string_equal(chosen(2, NULL), "gpu01");
}

static void one_that_was_started_by_hand_is_named(void **state)
{
	node(0, "Active", 1, 1, NULL, false, false);
	node(1, "Initializing", 0, 0, NULL, false, false);
	assert_string_equal(chosen(2, NULL), "-");
	because("the subnet manager is on gpu01, but not as the service opensm or opensmd");
	line(0, "gpu01: the ports name its LID 1 (mlx5_0) as their subnet manager's, and no service is installed there");
}

static void of_nothing_known_it_says_so(void **state)
{
	node(0, "Initializing", 0, 0, NULL, false, false);
	assert_string_equal(chosen(1, NULL), "-");
	because("no node has opensm or opensmd installed as a service");
	assert_string_equal(chosen(1, "gpu01"), "-");
	because("neither opensm nor opensmd is installed as a service on gpu01");
	assert_string_equal(chosen(0, NULL), "-");
	nodes[0].host = NULL;
	nodes[0].n_ports = 0;
	assert_string_equal(chosen(1, NULL), "-");
}

static void another_fabric_and_ethernet_name_nobody(void **state)
{
	struct sm_named named;

	node(0, "Active", 1, 1, "opensm", true, true);
	node(1, "Active", 2, 3, NULL, false, false);
	node(2, "Active", 3, 3, "opensm", true, true);
	ports[1].gid = ports[2].gid = "fe80:0000:0000:0001:a088:c203:00ab:0002";
	assert_string_equal(chosen(3, NULL), "-"); /* each is the master of its own */
	because("several nodes have a subnet manager (gpu01, gpu03)");
	ports[2].gid = GID; /* the LID is the same, the fabric is not */
	sm_named(&nodes[1], 1, &named);
	assert_int_equal(named.n, 1);
	assert_null(sm_master_port(&named, &nodes[2]));
	ports[2].gid = ports[1].gid;
	assert_ptr_equal(sm_master_port(&named, &nodes[2]), &ports[2]);
	node(0, "Active", 0, 0, NULL, false, false);
	ports[0].link_layer = "Ethernet";
	ports[0].sm_lid = 4;
	assert_string_equal(chosen(1, NULL), "-");
	because("no node has opensm");
	ports[0].link_layer = NULL; /* absent: InfiniBand */
	ports[0].sm_lid = 0xffff; /* none */
	assert_string_equal(chosen(1, NULL), "-");
	because("no node has opensm");
}

static void many_nodes_are_told_as_far_as_there_is_room(void **state)
{
	static struct sm_node many[100];

	node(0, "Initializing", 0, 0, "opensm", true, true);
	for (size_t i = 0; i < 100; i++)
		many[i] = nodes[0];
	assert_true(sm_find(&arena, many, 100, NULL, &found));
	assert_int_equal(found.n_lines, SM_LINES_MAX);
	because(" ...)");
	assert_true(strlen(found.why) < 1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_only_one_there_is),
		T(of_two_that_run_the_master),
		T(of_two_of_which_nothing_tells_none),
		T(on_a_switch_it_is_not_restarted_here),
		T(a_manager_whose_port_waits_itself_is_not_taken_for_a_switch),
		T(one_that_was_started_by_hand_is_named),
		T(of_nothing_known_it_says_so),
		T(another_fabric_and_ethernet_name_nobody),
		T(many_nodes_are_told_as_far_as_there_is_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
