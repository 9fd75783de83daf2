/* test_hw_text.c - what is said in sysfs is understood, or is unknown */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "hw/port_text.h"

#define TEST(name) static void name(void **state)

TEST(states_are_in_ibstats_words)
{
	assert_string_equal(text_state("1: DOWN"), "Down");
	assert_string_equal(text_state("2: INIT"), "Initializing");
	assert_string_equal(text_state("3: ARMED"), "Armed");
	assert_string_equal(text_state("4: ACTIVE"), "Active");
	assert_string_equal(text_state("5: ACTIVE_DEFER"), "ActiveDefer");
	assert_null(text_state("0: NOP"));
	assert_null(text_state("6: LATER"));
	assert_null(text_state("ACTIVE"));
	assert_null(text_state("4"));
	assert_null(text_state(""));
	assert_null(text_state("4294967300: ACTIVE")); /* 4 after a wrap */
	assert_null(text_state("-252: ACTIVE"));
}

TEST(physical_states_go_by_their_numbers)
{
	static const char *const names[] = { "Sleep",  "Polling",	    "Disabled", "Training",
					     "LinkUp", "LinkErrorRecovery", "PhyTest" };
	char text[32];

	for (int i = 1; i <= 7; i++) {
		snprintf(text, sizeof text, "%d: whatever", i);
		assert_string_equal(text_phys_state(text), names[i - 1]);
	}
	assert_null(text_phys_state("0: x"));
	assert_null(text_phys_state("8: x"));
	assert_null(text_phys_state("N/A"));
}

static void expect_rate(const char *text, uint32_t mbps, uint32_t lanes, const char *speed)
{
	struct port_rate r;

	assert_true(text_rate(text, &r));
	assert_int_equal(r.mbps, mbps);
	assert_int_equal(r.lanes, lanes);
	if (speed)
		assert_string_equal(r.speed, speed);
	else
		assert_null(r.speed);
}

TEST(rates_of_all_generations)
{
	expect_rate("2.5 Gb/sec (1X SDR)", 2500, 1, "SDR");
	expect_rate("10 Gb/sec (4X SDR)", 10000, 4, "SDR");
	expect_rate("10 Gb/sec (4X)", 10000, 4, NULL);
	expect_rate("20 Gb/sec (4X DDR)", 20000, 4, "DDR");
	expect_rate("40 Gb/sec (4X QDR)", 40000, 4, "QDR");
	expect_rate("40 Gb/sec (4X FDR10)", 40000, 4, "FDR10");
	expect_rate("56 Gb/sec (4X FDR)", 56000, 4, "FDR");
	expect_rate("100 Gb/sec (4X EDR)", 100000, 4, "EDR");
	expect_rate("100 Gb/sec (2X HDR)", 100000, 2, "HDR");
	expect_rate("200 Gb/sec (4X HDR)", 200000, 4, "HDR");
	expect_rate("200 Gb/sec (2X NDR)", 200000, 2, "NDR");
	expect_rate("400 Gb/sec (4X NDR)", 400000, 4, "NDR");
	expect_rate("800 Gb/sec (4X XDR)", 800000, 4, "XDR");
	expect_rate("300 Gb/sec (12X EDR)", 300000, 12, "EDR");
	expect_rate("1600 Gb/sec (4X QXR)", 1600000, 4, NULL); /* a generation to come */
}

TEST(a_rate_that_is_not_understood_is_unknown)
{
	static const char *const bad[] = {
		"",		     "N/A",		  "0 Gb/sec (4X EDR)",
		"100",		     "100 Gb/sec",	  "100 Gb/sec (3X EDR)",
		"100 Gb/sec (0X)",   "100 Gb/sec (4X EDR", "100 Gb/sec (4X EDR) ",
		"100Gb/sec (4X EDR)", "-100 Gb/sec (4X EDR)", "100.55 Gb/sec (4X EDR)",
		"99999999999999999999 Gb/sec (4X EDR)", "100 Gb/sec (4XEDR)",
	};
	struct port_rate r = { .mbps = 7 };

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(text_rate(bad[i], &r));
	assert_int_equal(r.mbps, 7); /* untouched */
}

TEST(numbers_are_whole_and_in_range)
{
	uint64_t v;

	assert_true(text_number("0x1a", 65535, &v) && v == 26);
	assert_true(text_number("0XFFFF", 65535, &v) && v == 65535);
	assert_true(text_number("12", 12, &v) && v == 12);
	assert_true(text_number("18446744073709551615", UINT64_MAX, &v) && v == UINT64_MAX);
	assert_false(text_number("18446744073709551616", UINT64_MAX, &v));
	assert_false(text_number("13", 12, &v));
	assert_false(text_number("0x10000", 65535, &v));
	assert_false(text_number("", 9, &v));
	assert_false(text_number("0x", 9, &v));
	assert_false(text_number("1 ", 9, &v));
	assert_false(text_number("-1", 9, &v));
	assert_false(text_number("9", 5, &v));
}

TEST(gids_have_one_form)
{
	bool used = false;

	assert_true(text_gid("fe80:0000:0000:0000:a088:c203:00ab:1234", &used));
	assert_true(used);
	assert_true(text_gid("0000:0000:0000:0000:0000:0000:0000:0000", &used));
	assert_false(used);
	assert_false(text_gid("fe80::1", &used));
	assert_false(text_gid("fe80:0000:0000:0000:a088:c203:00ab:12345", &used));
	assert_false(text_gid("fe80:0000:0000:0000:a088:c203:00ab:123g", &used));
	assert_false(text_gid("", &used));
}

TEST(the_last_pci_address_of_a_path_counts)
{
	char pci[HW_PCI_SIZE];

	assert_true(text_pci("../../../0000:17:00.0", pci));
	assert_string_equal(pci, "0000:17:00.0");
	assert_true(text_pci("/sys/devices/pci0000:10/0000:10:01.0/0000:11:00.1/infiniband/mlx5_1", pci));
	assert_string_equal(pci, "0000:11:00.1");
	assert_true(text_pci("10000:e1:00.0", pci)); /* behind a VMD controller */
	assert_string_equal(pci, "10000:e1:00.0");
	assert_false(text_pci("../../virtual", pci));
	assert_false(text_pci("", pci));
	assert_false(text_pci("0000:17:00.9", pci));
	assert_false(text_pci("000:17:00.0", pci));
	assert_false(text_pci("0000:17:00.00", pci));
	assert_false(text_pci("123456789:17:00.0", pci));
}

TEST(verbs_numbers_have_the_same_words)
{
	struct port_rate r;

	assert_string_equal(port_state_name(4), "Active");
	assert_null(port_state_name(0));
	assert_null(port_state_name(99));
	assert_int_equal(port_lanes(2), 4);
	assert_int_equal(port_lanes(16), 2);
	assert_int_equal(port_lanes(3), 0);
	assert_true(port_rate_of(256, 4, &r));
	assert_int_equal(r.mbps, 800000);
	assert_string_equal(r.speed, "XDR");
	assert_true(port_rate_of(64, 2, &r)); /* a split HDR port */
	assert_int_equal(r.mbps, 100000);
	assert_false(port_rate_of(512, 4, &r));
	assert_false(port_rate_of(0, 4, &r));
	assert_false(port_rate_of(32, 0, &r));
}

TEST(link_layers)
{
	assert_string_equal(text_link_layer("InfiniBand"), "InfiniBand");
	assert_string_equal(text_link_layer("Ethernet"), "Ethernet");
	assert_string_equal(text_link_layer("Unknown"), "Unspecified"); /* link_layer_show() of the kernel */
	assert_null(text_link_layer("Wireless"));
	assert_null(text_link_layer(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states_are_in_ibstats_words),
		cmocka_unit_test(physical_states_go_by_their_numbers),
		cmocka_unit_test(rates_of_all_generations),
		cmocka_unit_test(a_rate_that_is_not_understood_is_unknown),
		cmocka_unit_test(numbers_are_whole_and_in_range),
		cmocka_unit_test(gids_have_one_form),
		cmocka_unit_test(the_last_pci_address_of_a_path_counts),
		cmocka_unit_test(verbs_numbers_have_the_same_words),
		cmocka_unit_test(link_layers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
