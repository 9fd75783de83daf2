/* test_oom.c - whether the OOM killer has struck, from trees of files as the kernel shows them */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "shim/oom.h"
#include "tests/unit/tree.h"

#define TEST(name) static void name(void **state)

static char text[256];

static const char *said(struct oom *o, const char *root, bool killed)
{
	return oom_say(o, root, killed, text, sizeof text) ? text : "";
}

TEST(a_count_is_found_at_the_beginning_of_its_line)
{
	uint64_t n = 0;

	assert_true(oom_count("low 0\noom 3\noom_kill 2\noom_group_kill 0\n", &n));
	assert_int_equal(n, 2);
	assert_true(oom_count("oom_kill_disable 0\nunder_oom 0\noom_kill 18446744073709551615\n", &n));
	assert_int_equal(n, UINT64_MAX);
	assert_false(oom_count("nr_oom_kill 2\n", &n));
	assert_false(oom_count("oom_kill -1\n", &n));
	assert_false(oom_count("oom_kill 99999999999999999999\n", &n));
	assert_false(oom_count("", &n));
}

TEST(our_cgroup_is_that_of_the_memory_controller)
{
	char own[64];
	bool v1;

	assert_true(oom_own_cgroup("9:cpu:/a\n4:cpuset,memory:/m/x\n0::/u\n", own, sizeof own, &v1));
	assert_string_equal(own, "/m/x");
	assert_true(v1);
	assert_true(oom_own_cgroup("0::/system.slice/nodeagent-3.1\n", own, sizeof own, &v1));
	assert_string_equal(own, "/system.slice/nodeagent-3.1");
	assert_false(v1);
	assert_false(oom_own_cgroup("0::/../other\n0", own, sizeof own, &v1));
	assert_false(oom_own_cgroup("9:cpu:/a\n", own, sizeof own, &v1));
	assert_false(oom_own_cgroup("nonsense", own, sizeof own, &v1));
}

TEST(a_kill_in_our_cgroup_is_told_with_its_limit)
{
	char root[64];
	struct oom o;

	tree_make(root);
	tree_file(root, "proc/self/cgroup", "0::/a/b\n");
	tree_file(root, "proc/vmstat", "pgfault 1\noom_kill 4\n");
	tree_file(root, "sys/fs/cgroup/a/memory.events", "oom 0\noom_kill 1\n");
	tree_file(root, "sys/fs/cgroup/a/memory.max", "536870912\n");
	oom_begin(&o, root);
	assert_string_equal(said(&o, root, true), "sent by neither nodeagent nor the kernel's OOM killer");
	assert_string_equal(said(&o, root, false), "");
	tree_file(root, "proc/vmstat", "pgfault 1\noom_kill 5\n");
	assert_string_equal(said(&o, root, true), "perhaps by the kernel's OOM killer, which has struck on this host "
						"meanwhile");
	tree_file(root, "sys/fs/cgroup/a/memory.events", "oom 1\noom_kill 2\n");
	assert_string_equal(said(&o, root, true),
			    "by the kernel's OOM killer, for its cgroup was out of memory (its limit is 512 MiB)");
	assert_string_equal(said(&o, root, false),
			    "the kernel's OOM killer has ended a process of its cgroup (its limit is 512 MiB)");
	oom_look(&o, root);
	assert_string_equal(said(&o, root, false), "");
	tree_remove(root);
}

TEST(version_1_of_cgroups_has_other_names)
{
	char root[64];
	struct oom o;

	tree_make(root);
	tree_file(root, "proc/self/cgroup", "4:memory:/j\n0::/\n");
	tree_file(root, "sys/fs/cgroup/memory/j/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
	tree_file(root, "sys/fs/cgroup/memory/j/memory.limit_in_bytes", "9223372036854771712\n");
	oom_begin(&o, root);
	tree_file(root, "sys/fs/cgroup/memory/j/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
	assert_string_equal(said(&o, root, true), "by the kernel's OOM killer, for its cgroup was out of memory");
	tree_remove(root);
}

TEST(what_is_not_counted_is_said_to_be_unknown)
{
	char root[64];
	struct oom o;

	tree_make(root);
	oom_begin(&o, root);
	assert_string_equal(said(&o, root, true),
			    "not sent by nodeagent; whether by the kernel's OOM killer is not known");
	assert_string_equal(said(&o, root, false), "");
	tree_remove(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_count_is_found_at_the_beginning_of_its_line),
		cmocka_unit_test(our_cgroup_is_that_of_the_memory_controller),
		cmocka_unit_test(a_kill_in_our_cgroup_is_told_with_its_limit),
		cmocka_unit_test(version_1_of_cgroups_has_other_names),
		cmocka_unit_test(what_is_not_counted_is_said_to_be_unknown),
	};

	return cmocka_run_group_tests_name("oom", tests, NULL, NULL);
}
