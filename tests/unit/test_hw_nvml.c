/* test_hw_nvml.c - GPUs through a library like NVIDIA's: well, lost, mismatched, old, absent */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hw/nvidia_pci.h"
#include "hw/nvml.h"
#include "hw/usernames.h"
#include "tests/unit/tree.h"

#define TEST(name) static void name(void **state)

static char root[64], library[4096], control[128];
static struct hw_options options;
static void *source;
static struct hw_readings r;

static int setup(void **state)
{
	tree_make(root);
	snprintf(control, sizeof control, "%s/fake", root);
	snprintf(library, sizeof library, "%s", tree_fake("libnvml.so"));
	setenv("FAKE_NVML", control, 1);
	options = (struct hw_options){ .sysfs = root, .nvml = library };
	source = NULL;
	return 0;
}

static void forget(void)
{
	arena_finish(&r.arena);
	memset(&r, 0, sizeof r);
}

static int teardown(void **state)
{
	forget();
	if (source)
		hw_nvml.close(source);
	tree_remove(root);
	return 0;
}

static void show(const char *text)
{
	tree_file(root, "fake", text);
}

static void begin_anew(void)
{
	hw_nvml.close(source);
	source = NULL;
}

static const struct hw_source *poll_gpus(void)
{
	forget();
	if (!source)
		source = hw_nvml.open(&options);
	hw_nvml.poll(source, &r);
	assert_int_equal(r.n_sources, 1);
	assert_string_equal(r.sources[0].name, "nvml");
	return &r.sources[0];
}

static void expect_not_ok(const char *words)
{
	assert_false(poll_gpus()->ok);
	assert_int_equal(r.n_gpus, 0);
	if (!strstr(r.sources[0].text, words))
		fail_msg("\"%s\" does not say \"%s\"", r.sources[0].text, words);
}

TEST(eight_healthy_gpus_come_in_the_order_of_the_bus)
{
	char pci[HW_PCI_SIZE];

	show("count 8");
	tree_file(root, "bus/pci/devices/0000:10:00.0/numa_node", "1");
	assert_true(poll_gpus()->ok);
	assert_string_equal(r.sources[0].text, "driver 580.95.05");
	assert_int_equal(r.n_gpus, 8);
	for (unsigned i = 0; i < 8; i++) {
		const struct hw_gpu *g = &r.gpus[i];

		snprintf(pci, sizeof pci, "0000:%x0:00.0", i + 1);
		assert_string_equal(g->pci, pci);
		assert_int_equal(g->uuid[strlen(g->uuid) - 1], '7' - (int)i); /* NVML's order is another */
		assert_string_equal(g->name, "NVIDIA Pretence 80GB");
		assert_int_equal(g->mem_total.v, 80ull << 30);
		assert_int_equal(g->mem_used.v, 1ull << 30);
		assert_int_equal(g->temp_c.v, 47 - i);
		assert_int_equal(g->power_mw.v, 70007 - i);
		assert_int_equal(g->power_limit_mw.v, 700000);
		assert_true(g->util.known);
		assert_int_equal(g->ecc_corrected.v, 5);
		assert_true(g->ecc_uncorrected.known && g->ecc_uncorrected.v == 0);
		assert_true(g->xids.known && g->xids.v == 0);
		assert_false(g->xid.known);
		assert_string_equal(g->text, "");
		assert_int_equal(g->n_procs, 0);
		assert_int_equal(g->numa.known, i == 0);
	}
	assert_int_equal(r.gpus[0].numa.v, 1);
}

TEST(links_clocks_and_replaced_rows_are_read)
{
	const struct hw_gpu *g;

	show("count 1\nset 0 72 throttle\nset 0 2 pstate\nset 0 1 gen\nset 0 8 width\nset 0 3 remapu\nset 0 1 pending\n"
	     "set 0 8 links\nset 0 0 persist\nset 0 2 fabric\nset 0 5 fabricstatus\nset 0 1 mig\nset 0 0 eccmode\nset 0 3 compute");
	poll_gpus();
	g = &r.gpus[0];
	assert_int_equal(g->throttle.v, 72);
	assert_int_equal(g->pstate.v, 2);
	assert_true(g->pcie_gen.v == 1 && g->pcie_gen_max.v == 5 && g->pcie_width.v == 8 && g->pcie_width_max.v == 16);
	assert_true(g->remap_uncorrected.v == 3 && g->remap_corrected.known && g->remap_pending && !g->remap_failed);
	assert_true(g->nvlinks.v == 8 && g->nvlinks_all.v == NVML_LINKS_MAX);
	assert_true(g->persistence.known && g->persistence.v == 0);
	assert_true(g->fabric.known && g->fabric.v == 2 && g->fabric_status.v == 5);
	assert_true(g->mig.known && g->mig.v == 1 && g->ecc_on.known && g->ecc_on.v == 0 && g->compute_mode.v == 3);
	assert_int_equal(g->slow_c.v, 95);
	assert_string_equal(r.sources[0].version, "580.95.05");
	assert_string_equal(g->note, "");
	show("count 1\nset 0 8 throttle\nmem 0 900");
	poll_gpus();
	g = &r.gpus[0];
	assert_int_equal(g->mem_used.v, 900ull << 20);
	assert_true(g->throttle.v == 72 && g->nvlinks.v == 8); /* what costs much is not asked each time */
}

TEST(links_and_rows_are_read_again_at_once_after_an_xid_that_is_a_fault)
{
	int wake = eventfd(0, 0);

	show("count 1\nset 0 18 links");
	poll_gpus();
	show("count 1\nset 0 17 links\nset 0 1 pending\nxid 0 31");
	assert_true(hw_nvml.wait(source, wake, 10000));
	poll_gpus();
	assert_true(r.gpus[0].xid.v == 31 && r.gpus[0].nvlinks.v == 18); /* a program's: programs may make many */
	show("count 1\nset 0 17 links\nset 0 1 pending\nxid 0 31\nxid 0 74");
	assert_true(hw_nvml.wait(source, wake, 10000));
	poll_gpus();
	assert_true(r.gpus[0].xid.v == 74 && r.gpus[0].nvlinks.v == 17 && r.gpus[0].remap_pending);
	show("count 1\nset 0 16 links\nxid 0 31\nxid 0 74");
	usleep(3600000); /* it is watched for some time */
	poll_gpus();
	assert_int_equal(r.gpus[0].nvlinks.v, 16);
	close(wake);
}

TEST(a_storm_of_xids_is_no_storm_of_questions)
{
	int wake = eventfd(0, 0);

	show("count 1\nset 0 18 links");
	poll_gpus();
	show("count 1\nset 0 17 links\nxid 0 74");
	assert_true(hw_nvml.wait(source, wake, 10000));
	poll_gpus();
	assert_int_equal(r.gpus[0].nvlinks.v, 17);
	show("count 1\nset 0 16 links\nxid 0 74\nxid 0 74");
	assert_true(hw_nvml.wait(source, wake, 10000));
	poll_gpus();
	assert_true(r.gpus[0].xids.v == 2 && r.gpus[0].nvlinks.v == 17);
	usleep(3600000);
	poll_gpus();
	assert_int_equal(r.gpus[0].nvlinks.v, 16);
	close(wake);
}

TEST(nothing_is_told_of_a_session_that_is_over)
{
	show("count 2");
	poll_gpus();
	assert_true(r.gpus[0].temp_c.known && r.gpus[1].temp_c.known);
	show("count 2\nfail 1 1 memory"); /* uninitialised */
	poll_gpus();
	assert_false(r.gpus[0].temp_c.known || r.gpus[0].nvlinks.known || r.gpus[1].temp_c.known || r.gpus[1].nvlinks.known);
	show("count 2");
	poll_gpus();
	assert_true(r.gpus[0].temp_c.known && r.gpus[1].temp_c.known);
}

TEST(all_is_read_again_when_a_reset_is_seen)
{
	show("count 1\nset 0 5 ecc\nset 0 1 pending\nset 0 16 links");
	poll_gpus();
	show("count 1\nset 0 0 ecc\nset 0 1 remapu\nset 0 18 links");
	poll_gpus();
	poll_gpus();
	assert_true(!r.gpus[0].remap_pending && r.gpus[0].remap_uncorrected.v == 1 && r.gpus[0].nvlinks.v == 18);
}

TEST(links_of_a_gpu_that_tells_no_events_are_read_soon)
{
	show("count 1\nfail 0 3 events\nset 0 18 links");
	poll_gpus();
	show("count 1\nfail 0 3 events\nset 0 17 links");
	usleep(3600000);
	poll_gpus();
	assert_int_equal(r.gpus[0].nvlinks.v, 17);
}

TEST(links_are_read_soon_where_waiting_for_events_fails)
{
	int wake = eventfd(0, 0);

	show("count 1\nfail 0 999 wait\nset 0 18 links");
	for (int i = 0; i < 2; i++) {
		poll_gpus();
		hw_nvml.wait(source, wake, 100);
	}
	show("count 1\nfail 0 999 wait\nset 0 17 links");
	usleep(3600000);
	poll_gpus();
	assert_int_equal(r.gpus[0].nvlinks.v, 17);
	show("count 1\nset 0 16 links");
	hw_nvml.wait(source, wake, 100);
	poll_gpus();
	hw_nvml.wait(source, wake, 100);
	show("count 1\nset 0 15 links");
	usleep(3600000);
	poll_gpus();
	assert_true(r.gpus[0].nvlinks.v > 15); /* they are heard again */
	close(wake);
}

TEST(what_is_read_again_and_fails_is_missing_and_told_once)
{
	show("count 2\nfail 0 3 events\nset 0 1 pending\nset 1 2 fabric");
	poll_gpus();
	assert_true(r.gpus[1].remap_corrected.known && r.gpus[1].remap_pending && r.gpus[0].fabric.v == 2);
	for (int i = 0; i < 2; i++) {
		show("count 2\nfail 0 3 events\nset 0 1 pending\nfail 0 999 rows\nset 1 2 fabric\nfail 1 999 fabric");
		usleep(3600000);
		poll_gpus();
		assert_false(r.gpus[1].remap_corrected.known || r.gpus[1].remap_pending || r.gpus[0].fabric.known);
		assert_string_equal(r.gpus[1].note, "remapped rows: error 999");
		assert_string_equal(r.gpus[0].note, "NVLink fabric: error 999");
	}
}

TEST(a_gpu_without_links_has_none)
{
	show("count 1");
	poll_gpus();
	assert_true(r.gpus[0].nvlinks.known && r.gpus[0].nvlinks.v == 0 && r.gpus[0].nvlinks_all.v == 0);
	assert_string_equal(r.gpus[0].note, "");
}

TEST(a_lost_gpu_keeps_its_row_and_says_why)
{
	show("count 4");
	poll_gpus();
	show("count 4\nlost 1 15");
	poll_gpus();
	assert_true(r.sources[0].ok);
	assert_int_equal(r.n_gpus, 4);
	assert_string_equal(r.gpus[2].pci, "0000:30:00.0");
	assert_string_equal(r.gpus[2].uuid, "GPU-00000000-0000-0000-0000-000000000001");
	assert_non_null(strstr(r.gpus[2].text, "fell off the bus"));
	assert_false(r.gpus[2].mem_total.known);
	assert_false(r.gpus[2].temp_c.known);
	for (int i = 0; i < 4; i++)
		if (i != 2)
			assert_true(r.gpus[i].temp_c.known && !r.gpus[i].text[0]);
	show("count 4"); /* it was reset */
	poll_gpus();
	assert_true(r.gpus[2].temp_c.known);
	assert_string_equal(r.gpus[2].text, "");
}

static void expect_text(const char *text, const char *words)
{
	if (!strstr(text, words))
		fail_msg("\"%s\" does not say \"%s\"", text, words);
}

TEST(a_value_that_cannot_be_read_is_missing_and_no_more)
{
	show("count 2\nfail 0 999 temp\nfail 0 10 power\nfail 0 3 util\nfail 0 999 memory\nfail 0 2 ecc\n"
	     "fail 0 999 limit");
	poll_gpus();
	assert_string_equal(r.gpus[1].text, "");
	expect_text(r.gpus[1].note, "temperature: error 999; power: error 10");
	expect_text(r.gpus[1].note, "memory: error 999");
	assert_null(strstr(r.gpus[1].note, "utilisation")); /* not supported: no error */
	assert_false(r.gpus[1].temp_c.known || r.gpus[1].power_mw.known || r.gpus[1].util.known);
	assert_false(r.gpus[1].mem_used.known || r.gpus[1].ecc_uncorrected.known);
	assert_true(r.gpus[1].procs_known);
	assert_string_equal(r.gpus[0].note, "");
	show("count 2");
	begin_anew();
	poll_gpus();
	assert_string_equal(r.gpus[1].note, "");
	assert_true(r.gpus[1].temp_c.known);
}

TEST(trouble_that_any_call_tells_of_is_the_gpus)
{
	show("count 2\nfail 0 15 temp");
	poll_gpus();
	expect_text(r.gpus[1].text, "fell off the bus");
	assert_false(r.gpus[1].procs_known);
	assert_string_equal(r.gpus[0].text, "");
}

TEST(processes_that_are_not_told_are_not_none)
{
	show("count 2\nfail 0 999 procs");
	poll_gpus();
	assert_true(r.gpus[0].procs_known);
	assert_false(r.gpus[1].procs_known);
	expect_text(r.gpus[1].text, "which processes use it: error 999");
	show("count 2\nfail 0 3 procs"); /* not supported */
	poll_gpus();
	assert_false(r.gpus[1].procs_known);
	assert_string_equal(r.gpus[1].text, "");
	assert_string_equal(r.gpus[1].note, "");
}

TEST(a_gpu_without_an_address_cannot_be_had_until_it_has_one)
{
	show("count 2\nfail 0 999 pci");
	poll_gpus();
	assert_int_equal(r.n_gpus, 2);
	expect_text(r.gpus[1].text, "error 999");
	assert_string_equal(r.gpus[0].text, "");
	show("count 2");
	poll_gpus();
	poll_gpus();
	assert_string_equal(r.gpus[0].text, "");
	assert_string_equal(r.gpus[1].text, "");
	assert_string_equal(r.gpus[1].pci, "0000:20:00.0");
}

TEST(a_gpu_that_does_not_tell_its_name_cannot_be_had)
{
	show("count 2\nfail 0 999 uuid");
	poll_gpus();
	assert_int_equal(r.n_gpus, 2);
	assert_true(r.gpus[1].text[0] != '\0');
	assert_string_equal(r.gpus[0].text, "");
	assert_true(r.gpus[0].uuid[0] != '\0');
}

TEST(a_gpu_lost_before_we_came_has_the_address_that_is_left)
{
	char path[64];

	for (int i = 1; i <= 4; i++) {
		snprintf(path, sizeof path, "bus/pci/devices/0000:%d0:00.0/vendor", i);
		tree_file(root, path, "0x10de");
		snprintf(path, sizeof path, "bus/pci/devices/0000:%d0:00.0/class", i);
		tree_file(root, path, "0x030200");
	}
	tree_file(root, "bus/pci/devices/0000:05:00.0/vendor", "0x10de"); /* an NVSwitch */
	tree_file(root, "bus/pci/devices/0000:05:00.0/class", "0x068000");
	tree_file(root, "bus/pci/devices/0000:06:00.0/vendor", "0x8086");
	tree_file(root, "bus/pci/devices/0000:06:00.0/class", "0x030000");
	show("count 4\nlost 2 15");
	poll_gpus();
	assert_int_equal(r.n_gpus, 4);
	assert_string_equal(r.gpus[1].pci, "0000:20:00.0");
	assert_non_null(strstr(r.gpus[1].text, "fell off the bus"));
	assert_true(r.gpus[0].temp_c.known && r.gpus[2].temp_c.known && r.gpus[3].temp_c.known);
	show("count 4"); /* back: found at one poll, listed anew at the next */
	poll_gpus();
	poll_gpus();
	assert_true(r.gpus[1].temp_c.known);
	assert_string_equal(r.gpus[1].text, "");
}

TEST(other_troubles_have_their_own_words)
{
	show("count 2");
	poll_gpus();
	show("count 2\nlost 0 16\nlost 1 999");
	poll_gpus();
	assert_non_null(strstr(r.gpus[0].text, "error 999"));
	assert_non_null(strstr(r.gpus[1].text, "needs a reset"));
}

TEST(a_driver_that_does_not_start_says_why)
{
	show("init 18");
	expect_not_ok("is another version than its library: the driver was updated; reboot");
}

TEST(a_driver_that_is_not_loaded)
{
	show("init 9");
	expect_not_ok("its library is there, its kernel module is not");
}

TEST(a_library_that_is_not_there)
{
	options.nvml = "/nonexistent/libnvidia-ml.so.1";
	tree_file(root, "bus/pci/devices/0000:17:00.0/vendor", "0x10de");
	tree_file(root, "bus/pci/devices/0000:17:00.0/class", "0x030200");
	expect_not_ok("cannot be loaded");
	assert_non_null(strstr(r.sources[0].text, "the PCI bus shows 1 GPU"));
}

TEST(an_old_driver_has_less)
{
	snprintf(library, sizeof library, "%s", tree_fake("libnvml-old.so"));
	show("count 2\nproc 0 1 4096");
	assert_true(poll_gpus()->ok);
	assert_int_equal(r.n_gpus, 2);
	assert_string_equal(r.gpus[1].pci, "0000:20:00.0"); /* of the second version's struct */
	assert_true(r.gpus[0].temp_c.known);
	assert_false(r.gpus[0].ecc_corrected.known);
	assert_false(r.gpus[0].xids.known);
	assert_int_equal(r.gpus[1].n_procs, 1);
	/* and without events waiting is only sleeping */
	int wake = eventfd(1, 0);
	assert_false(hw_nvml.wait(source, wake, 10000));
	close(wake);
}

TEST(a_driver_that_is_too_old_is_named_so)
{
	snprintf(library, sizeof library, "%s", tree_fake("libnvml-older.so"));
	show("count 2");
	expect_not_ok("too old: its library has no nvmlDeviceGetCount_v2");
}

TEST(a_driver_exchanged_beneath_us_is_opened_again)
{
	int wake = eventfd(0, 0);

	show("count 2");
	poll_gpus();
	show("count 2\nxid 0 31");
	assert_true(hw_nvml.wait(source, wake, 10000));
	close(wake);
	show("init 18\ncount 2");
	expect_not_ok("another version");
	show("count 2\nxid 0 31");
	((struct nvml_source *)source)->retry = (mono_t){ 0 }; /* the pause between tries is over */
	assert_true(poll_gpus()->ok);
	assert_int_equal(r.n_gpus, 2);
	assert_int_equal(r.gpus[1].xids.v, 1); /* what was counted stays counted */
	assert_int_equal(r.gpus[1].xid.v, 31);
	assert_int_equal(r.gpus[0].xids.v, 0);
}

TEST(gpus_that_come_are_listed)
{
	show("count 2");
	poll_gpus();
	show("count 3");
	assert_true(poll_gpus()->ok);
	assert_int_equal(r.n_gpus, 3);
	assert_true(r.gpus[2].xids.known);
}

TEST(xids_are_events_and_are_counted)
{
	int wake = eventfd(0, 0);
	int64_t before = hw_wall_ms();

	show("count 2");
	poll_gpus();
	show("count 2\nxid 1 79\nxid 1 48");
	assert_true(hw_nvml.wait(source, wake, 10000));
	poll_gpus();
	assert_int_equal(r.gpus[0].xids.v, 2);
	assert_int_equal(r.gpus[0].xid.v, 48);
	assert_true(r.gpus[0].xid_wall_ms >= before);
	assert_int_equal(r.gpus[1].xids.v, 0);
	assert_false(hw_nvml.wait(source, wake, 60)); /* none left */
	close(wake);
}

TEST(what_a_program_brings_about_hides_no_fault)
{
	int wake = eventfd(0, 0);

	show("count 2");
	poll_gpus();
	assert_true(r.gpus[0].xid_faults.known && r.gpus[0].xid_faults.v == 0);
	show("count 2\nxid 1 79\nxid 1 45\nxid 0 31");
	assert_true(hw_nvml.wait(source, wake, 10000));
	poll_gpus();
	assert_int_equal(r.gpus[0].xid.v, 45);
	assert_int_equal(r.gpus[0].xids.v, 2);
	assert_int_equal(r.gpus[0].xid_faults.v, 1);
	assert_int_equal(r.gpus[0].xid_fault.v, 79);
	assert_int_equal(r.gpus[1].xids.v, 1);
	assert_int_equal(r.gpus[1].xid_faults.v, 0);
	assert_false(r.gpus[1].xid_fault.known);
	close(wake);
}

/* Xids 79 and 31 of GPU 0 of ours, 31 of GPU 1, which this file shows; then what it becomes. */
static void after_xids(const char *was, const char *becomes, uint32_t xids, uint32_t faults)
{
	int wake = eventfd(0, 0);
	char text[200];

	snprintf(text, sizeof text, "count 2\n%s", strstr(was, "pending") ? was : ""); /* it is read every 3.5 s only */
	show(text);
	poll_gpus();
	snprintf(text, sizeof text, "count 2\n%sxid 1 79\nxid 1 31\nxid 0 31", was);
	show(text);
	assert_true(hw_nvml.wait(source, wake, 10000));
	poll_gpus();
	assert_int_equal(r.gpus[0].xids.v, 2);
	snprintf(text, sizeof text, "count 2\n%sxid 1 79\nxid 1 31\nxid 0 31", becomes);
	show(text);
	usleep(3600000); /* links and rows are read again */
	poll_gpus();
	assert_int_equal(r.gpus[0].xids.v, xids);
	assert_int_equal(r.gpus[0].xid_faults.v, faults);
	assert_int_equal(r.gpus[0].xid.known, xids > 0);
	assert_int_equal(r.gpus[0].xid_fault.known, faults > 0);
	assert_int_equal(r.gpus[1].xids.v, 1); /* it was not reset */
	close(wake);
}

TEST(xids_of_a_gpu_that_was_lost_are_gone_with_its_reset)
{
	after_xids("lost 1 15\n", "", 0, 0);
}

TEST(xids_are_gone_when_a_row_that_waited_for_a_reset_is_replaced)
{
	after_xids("set 1 1 pending\n", "set 1 1 remapu\n", 0, 0);
}

TEST(xids_are_gone_when_errors_of_ecc_begin_anew)
{
	after_xids("set 1 5 ecc\n", "set 1 1 ecc\n", 0, 0);
}

TEST(xids_stay_where_nothing_tells_of_a_reset)
{
	after_xids("set 1 5 ecc\ntemp 1 50\n", "set 1 6 ecc\nset 1 1 pending\nfail 1 999 temp\n", 2, 1);
}

TEST(waiting_ends_when_it_is_woken)
{
	int wake = eventfd(1, 0);
	mono_t begin = hw_now();

	show("count 2");
	poll_gpus();
	assert_false(hw_nvml.wait(source, wake, 30000));
	assert_true(mono_sub_ms(hw_now(), begin) < 2000);
	close(wake);
}

TEST(processes_have_owner_name_and_memory)
{
	char text[256];
	const struct hw_gpu_proc *p;
	const struct passwd *pw = getpwuid(geteuid());

	snprintf(text, sizeof text, "count 1\nproc 0 %d 1000\nproc 0 4194000 -\nproc 0 %d 24\nproc 0 0 1",
		 getpid(), getpid());
	show(text);
	poll_gpus();
	assert_int_equal(r.gpus[0].n_procs, 2);
	p = &r.gpus[0].procs[0];
	assert_int_equal(p->pid, getpid());
	assert_true(p->uid.known);
	assert_int_equal(p->uid.v, geteuid());
	assert_string_equal(p->user, pw ? pw->pw_name : "");
	assert_string_equal(p->name, "test_hw_nvml");
	assert_int_equal(p->mem.v, 1024); /* two contexts of one process */
	p = &r.gpus[0].procs[1];
	assert_int_equal(p->pid, 4194000); /* of another pid namespace, or gone */
	assert_false(p->uid.known);
	assert_false(p->mem.known);
	assert_string_equal(p->name, "");
}

TEST(no_more_than_64_processes_of_a_gpu_are_kept)
{
	char text[4096] = "count 1";

	for (int i = 0; i < 100; i++)
		sprintf(text + strlen(text), "\nproc 0 %d 1", 4000000 + i);
	show(text);
	poll_gpus();
	assert_int_equal(r.gpus[0].n_procs, 64);
}

TEST(gpus_that_are_not_ours_are_not_counted)
{
	show("count 4\nrefuse 0\nrefuse 3");
	poll_gpus();
	assert_int_equal(r.n_gpus, 2);
	assert_string_equal(r.gpus[0].pci, "0000:20:00.0");
	assert_non_null(strstr(r.sources[0].text, "2 more GPUs may not be used from here"));
}

TEST(addresses_are_ordered_by_domain_first)
{
	assert_true(pci_order("0000:ff:00.0", "10000:01:00.0") < 0);
	assert_true(pci_order("0000:1a:00.0", "0000:20:00.0") < 0);
	assert_true(pci_order("0000:9a:00.0", "0000:a0:00.0") < 0);
	assert_true(pci_order("", "0000:a0:00.0") > 0);
	assert_int_equal(pci_order("", ""), 0);
}

TEST(names_of_users_are_kept)
{
	struct usernames *u = usernames_new();
	char name[65];

	usernames_get(u, 0, name, sizeof name);
	assert_string_equal(name, "root");
	usernames_get(u, 0, name, sizeof name);
	assert_string_equal(name, "root");
	for (uint32_t uid = 4000000000; uid < 4000000300; uid++) /* more than are kept */
		usernames_get(u, uid, name, sizeof name);
	assert_string_equal(name, "");
	usernames_get(u, 0, name, sizeof name);
	assert_string_equal(name, "root");
	usernames_get(NULL, 0, name, sizeof name);
	assert_string_equal(name, "");
	usernames_free(u);
	usernames_free(NULL);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(eight_healthy_gpus_come_in_the_order_of_the_bus),
		CASE(links_clocks_and_replaced_rows_are_read),
		CASE(links_and_rows_are_read_again_at_once_after_an_xid_that_is_a_fault),
		CASE(a_storm_of_xids_is_no_storm_of_questions),
		CASE(nothing_is_told_of_a_session_that_is_over),
		CASE(all_is_read_again_when_a_reset_is_seen),
		CASE(links_of_a_gpu_that_tells_no_events_are_read_soon),
		CASE(links_are_read_soon_where_waiting_for_events_fails),
		CASE(what_is_read_again_and_fails_is_missing_and_told_once),
		CASE(a_gpu_without_links_has_none),
		CASE(xids_of_a_gpu_that_was_lost_are_gone_with_its_reset),
		CASE(xids_are_gone_when_a_row_that_waited_for_a_reset_is_replaced),
		CASE(xids_are_gone_when_errors_of_ecc_begin_anew),
		CASE(xids_stay_where_nothing_tells_of_a_reset),
		CASE(a_lost_gpu_keeps_its_row_and_says_why),
		CASE(a_value_that_cannot_be_read_is_missing_and_no_more),
		CASE(trouble_that_any_call_tells_of_is_the_gpus),
		CASE(processes_that_are_not_told_are_not_none),
		CASE(a_gpu_without_an_address_cannot_be_had_until_it_has_one),
		CASE(a_gpu_that_does_not_tell_its_name_cannot_be_had),
		CASE(a_gpu_lost_before_we_came_has_the_address_that_is_left),
		CASE(other_troubles_have_their_own_words),
		CASE(a_driver_that_does_not_start_says_why),
		CASE(a_driver_that_is_not_loaded),
		CASE(a_library_that_is_not_there),
		CASE(an_old_driver_has_less),
		CASE(a_driver_that_is_too_old_is_named_so),
		CASE(a_driver_exchanged_beneath_us_is_opened_again),
		CASE(gpus_that_come_are_listed),
		CASE(xids_are_events_and_are_counted),
		CASE(what_a_program_brings_about_hides_no_fault),
		CASE(waiting_ends_when_it_is_woken),
		CASE(processes_have_owner_name_and_memory),
		CASE(no_more_than_64_processes_of_a_gpu_are_kept),
		CASE(gpus_that_are_not_ours_are_not_counted),
		CASE(addresses_are_ordered_by_domain_first),
		CASE(names_of_users_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
