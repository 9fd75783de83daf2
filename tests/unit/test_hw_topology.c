/* test_hw_topology.c - distances and NUMA nodes of a machine with two sockets
 *
 * golden/two_sockets.xml: on socket 0 a switch with GPU 13 and mlx5_0, a second
 * switch behind it with GPU 17, another root port with mlx5_1, another host
 * bridge with GPU 21; on socket 1 GPU 81, a BMC's display and an NVSwitch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "hw/topology.h"

#define TEST(name) static void name(void **state)
#define XML "tests/unit/golden/two_sockets.xml"
#define GPU13 "0000:13:00.0"
#define GPU17 "0000:17:00.0"
#define GPU21 "0000:21:00.0"
#define GPU81 "0000:81:00.0"

static struct hw_readings r;

static int setup(void **state)
{
	topology_read(XML, &r);
	return 0;
}

static int teardown(void **state)
{
	arena_finish(&r.arena);
	memset(&r, 0, sizeof r);
	return 0;
}

static const char *how(const char *a, const char *b)
{
	for (size_t i = 0; i < r.n_affinity; i++) {
		const struct hw_affinity *f = &r.affinity[i];

		if ((!strcmp(f->a, a) && !strcmp(f->b, b)) || (!strcmp(f->a, b) && !strcmp(f->b, a)))
			return f->how;
	}
	return "none";
}

TEST(distances_are_in_the_words_of_nvidia_smi)
{
	assert_true(r.sources[0].ok);
	assert_int_equal(r.n_affinity, 15); /* 4 GPUs and 2 RDMA devices, each pair once */
	assert_string_equal(how(GPU13, "mlx5_0"), "PIX");
	assert_string_equal(how(GPU13, GPU17), "PXB");
	assert_string_equal(how(GPU17, "mlx5_0"), "PXB");
	assert_string_equal(how(GPU13, "mlx5_1"), "PHB");
	assert_string_equal(how("mlx5_0", "mlx5_1"), "PHB");
	assert_string_equal(how(GPU13, GPU21), "NODE");
	assert_string_equal(how(GPU21, "mlx5_1"), "NODE");
	assert_string_equal(how(GPU13, GPU81), "SYS");
	assert_string_equal(how(GPU81, "mlx5_0"), "SYS");
}

TEST(only_gpus_and_rdma_devices_count)
{
	assert_string_equal(how(GPU81, "0000:82:00.0"), "none");
	assert_string_equal(how(GPU81, "0000:83:00.0"), "none");
	assert_string_equal(how(GPU13, "ib0"), "none");
}

TEST(numa_nodes_have_cpus_and_memory)
{
	assert_int_equal(r.n_numa, 2);
	assert_int_equal(r.numa[0].numa, 0);
	assert_string_equal(r.numa[0].cpus, "0-1");
	assert_int_equal(r.numa[0].mem.v, 1ull << 30);
	assert_int_equal(r.numa[1].numa, 1);
	assert_string_equal(r.numa[1].cpus, "2-3");
	assert_int_equal(r.numa[1].mem.v, 2ull << 30);
}

TEST(a_topology_that_cannot_be_read_says_so)
{
	teardown(NULL);
	topology_read("/nonexistent.xml", &r);
	assert_false(r.sources[0].ok);
	assert_int_equal(r.n_affinity, 0);
	assert_int_equal(r.n_numa, 0);
}

TEST(this_host_has_memory_and_cpus)
{
	teardown(NULL);
	topology_read(NULL, &r);
	assert_true(r.sources[0].ok);
	assert_true(r.n_numa >= 1);
	assert_true(r.numa[0].cpus[0] != '\0');
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(distances_are_in_the_words_of_nvidia_smi),
		CASE(only_gpus_and_rdma_devices_count),
		CASE(numa_nodes_have_cpus_and_memory),
		CASE(a_topology_that_cannot_be_read_says_so),
		CASE(this_host_has_memory_and_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
