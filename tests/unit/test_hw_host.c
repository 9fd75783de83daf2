/* test_hw_host.c - what the host says of the NVIDIA driver, from trees like /proc and /sys */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hw/hw.h"

#define TEST(name) static void name(void **state)

static char dir[64];

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/na_host_XXXXXX");
	return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

static void folder(const char *name)
{
	char cmd[200];

	snprintf(cmd, sizeof(cmd), "mkdir -p '%s/%s'", dir, name);
	assert_int_equal(system(cmd), 0);
}

static void put(const char *name, const char *text)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* One look; of the arena nothing is used afterwards. */
static struct hw_host look(void)
{
	char proc[100], sys[100];
	struct hw_options o = { .proc = proc, .sysfs = sys };
	struct hw_readings r = { .n_ports = 0 };
	struct hw_host h;
	void *s;

	snprintf(proc, sizeof(proc), "%s/proc", dir);
	snprintf(sys, sizeof(sys), "%s/sys", dir);
	arena_init(&r.arena);
	s = hw_host.open(&o);
	assert_non_null(s);
	hw_host.poll(s, &r);
	assert_non_null(r.host);
	h = *r.host;
	hw_host.close(s);
	arena_finish(&r.arena);
	return h;
}

TEST(without_the_driver_nothing_is_known_of_what_it_leans_on)
{
	struct hw_host h;

	folder("proc");
	folder("sys");
	h = look();
	assert_false(h.peermem.known || h.nvswitch.known || h.fabricmanager.known || h.open_modules.known);
}

/* As /proc/driver/nvidia/version has it, of closed and of open modules. */
TEST(modules_switches_and_the_fabric_manager_are_found)
{
	struct hw_host h;

	folder("proc/driver/nvidia");
	folder("sys");
	put("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Tue Mar  5\nGCC version: 11.4\n");
	h = look();
	assert_true(h.open_modules.known && h.open_modules.v == 0);
	assert_true(h.peermem.known && h.peermem.v == 0);
	assert_true(h.nvswitch.known && h.nvswitch.v == 0);
	assert_false(h.fabricmanager.known);
	put("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n");
	folder("sys/module/nvidia_peermem");
	folder("proc/driver/nvidia-nvswitch/devices/0000:05:00.0");
	folder("proc/4711");
	put("proc/4711/comm", "nv-something\n");
	h = look();
	assert_true(h.open_modules.v == 1 && h.peermem.v == 1 && h.nvswitch.v == 1);
	assert_true(h.fabricmanager.known && h.fabricmanager.v == 0);
	put("proc/4711/comm", "nv-fabricmanage\n");
	h = look();
	assert_true(h.fabricmanager.known && h.fabricmanager.v == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(without_the_driver_nothing_is_known_of_what_it_leans_on, setup, teardown),
		cmocka_unit_test_setup_teardown(modules_switches_and_the_fabric_manager_are_found, setup, teardown),
	};

	return cmocka_run_group_tests_name("hw_host", tests, NULL, NULL);
}
