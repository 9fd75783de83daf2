/* test_reading.c - rates, clocks and memory as people see them */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client/reading.h"

#define TEST(name) static void name(void **state)

static struct buf b;

static int setup(void **state)
{
	buf_init(&b);
	return 0;
}

static int teardown(void **state)
{
	buf_finish(&b);
	return 0;
}

static const char *rate(struct rec_port p)
{
	buf_reset(&b);
	reading_rate(&b, &p);
	return buf_str(&b);
}

TEST(a_rate_is_lanes_times_speed)
{
	const uint64_t has = MSG_BIT(port, rate_mbps);

	assert_string_equal(rate((struct rec_port){ .has = has, .state = "Active", .rate_mbps = 200000,
						    .lanes = 4, .speed = "HDR" }),
			    "200 Gb/s 4X HDR");
	assert_string_equal(rate((struct rec_port){ .has = has, .state = "Active", .rate_mbps = 2500,
						    .lanes = 1, .speed = "SDR" }),
			    "2.5 Gb/s 1X SDR");
	assert_string_equal(rate((struct rec_port){ .has = has, .state = "Initializing", .rate_mbps = 56000 }),
			    "56 Gb/s");
	assert_string_equal(rate((struct rec_port){ .has = has, .rate_mbps = 100000, .lanes = 2, .speed = "HDR" }),
			    "100 Gb/s 2X HDR");
}

TEST(a_rate_that_says_nothing_is_not_shown)
{
	const uint64_t has = MSG_BIT(port, rate_mbps);

	assert_string_equal(rate((struct rec_port){ .state = "Active" }), "?");
	assert_string_equal(rate((struct rec_port){ .state = NULL }), "?");
	assert_string_equal(rate((struct rec_port){ .has = has, .state = "Down", .rate_mbps = 10000, .lanes = 4,
						    .speed = "SDR" }),
			    "-");
	assert_string_equal(rate((struct rec_port){ .state = "Down" }), "-");
}

static const uint64_t known = MSG_BIT(node_info, skew_us) | MSG_BIT(node_info, skew_error_us);

static const char *skew(int64_t us)
{
	const struct rec_node_info n = { .has = known, .skew_us = us };

	buf_reset(&b);
	reading_skew(&b, &n);
	return buf_str(&b);
}

TEST(a_clocks_difference_has_a_sign_and_a_fitting_unit)
{
	assert_string_equal(skew(412), "+0.4ms");
	assert_string_equal(skew(-230), "-0.2ms");
	assert_string_equal(skew(0), "+0.0ms");
	assert_string_equal(skew(99949), "+99.9ms");
	assert_string_equal(skew(99950), "+100ms");
	assert_string_equal(skew(-340000), "-340ms");
	assert_string_equal(skew(-2100000), "-2.1s");
	assert_string_equal(skew(90 * 1000000), "+90.0s");
	assert_string_equal(skew(-INT64_C(780) * 1000000), "-13m");
	assert_string_equal(skew(INT64_C(28800) * 1000000), "+8.0h"); /* local time in the hardware clock */
	assert_string_equal(skew(INT64_C(300000) * 1000000), "+3d");
	assert_string_equal(skew(INT64_MIN), "-106751991d");
}

TEST(which_clock_is_marked_is_the_coordinators_word)
{
	struct rec_node_info n = { .has = known, .skew_us = 900000000 };

	assert_false(reading_skew_bad(&n));
	MSG_SET(&n, node_info, clock_synced, false);
	assert_false(reading_skew_bad(&n));
	n.skew_us = 1;
	MSG_SET(&n, node_info, skew_bad, true);
	assert_true(reading_skew_bad(&n));
	buf_reset(&b);
	reading_skew(&b, &n);
	assert_string_equal(buf_str(&b), "+0.0ms!");
	n.has &= ~MSG_BIT(node_info, skew_us); /* there is nothing to mark */
	assert_false(reading_skew_bad(&n));
}

static const char *about(const struct rec_node_info *n)
{
	buf_reset(&b);
	reading_skew_about(&b, n);
	return buf_str(&b);
}

TEST(clocks_about_equally_wrong_look_the_same)
{
	struct rec_node_info n = { .has = known, .skew_us = -9999 };

	assert_string_equal(about(&n), "<10ms");
	n.skew_us = 10000;
	assert_string_equal(about(&n), "<100ms");
	MSG_SET(&n, node_info, skew_bad, true);
	n.skew_us = -600000;
	assert_string_equal(about(&n), "<1s!");
	n.skew_us = INT64_C(7200) * 1000000;
	assert_string_equal(about(&n), ">1h!");
}

TEST(a_reference_and_an_unknown_clock_have_no_number)
{
	const struct rec_node_info ref = { .skew_ref = true, .has = known, .skew_us = 1 }, none = { .has = 0 };

	assert_string_equal(about(&ref), "ref");
	assert_string_equal(about(&none), "?");
	assert_false(reading_skew_bad(&ref));
	assert_false(reading_skew_bad(&none));
	buf_reset(&b);
	reading_skew(&b, &none);
	assert_string_equal(buf_str(&b), "?");
}

TEST(a_clocks_sentence_says_which_way_and_how_sure)
{
	struct rec_node_info n = { .has = known, .skew_us = -2100000, .skew_error_us = 150 };

	MSG_SET(&n, node_info, clock_synced, false);
	reading_clock(&b, &n);
	assert_string_equal(buf_str(&b), "2.1 s behind the coordinator's (+-0.1 ms), not synchronised by NTP");
	n = (struct rec_node_info){ .has = MSG_BIT(node_info, skew_us), .skew_us = 400 };
	buf_reset(&b);
	reading_clock(&b, &n);
	assert_string_equal(buf_str(&b), "0.4 ms ahead of the coordinator's");
}

static const char *gpu(void (*reading)(struct buf *, const struct rec_gpu *), struct rec_gpu g)
{
	buf_reset(&b);
	reading(&b, &g);
	return buf_str(&b);
}

TEST(memory_and_power_show_what_is_known)
{
	const uint64_t used = MSG_BIT(gpu, mem_used), total = MSG_BIT(gpu, mem_total);
	const uint64_t now = MSG_BIT(gpu, power_mw), limit = MSG_BIT(gpu, power_limit_mw);
	const uint64_t h100 = 85520809984;

	assert_string_equal(gpu(reading_memory, (struct rec_gpu){ .has = used | total, .mem_used = 536870912,
								  .mem_total = h100 }),
			    "0.5/80 GiB");
	assert_string_equal(gpu(reading_memory, (struct rec_gpu){ .has = total, .mem_total = h100 }), "?/80 GiB");
	assert_string_equal(gpu(reading_memory, (struct rec_gpu){ .has = used, .mem_used = 0 }), "0.0/? GiB");
	assert_string_equal(gpu(reading_memory, (struct rec_gpu){ .has = 0 }), "?");
	assert_string_equal(gpu(reading_power, (struct rec_gpu){ .has = now | limit, .power_mw = 61499,
								 .power_limit_mw = 400000 }),
			    "61/400W");
	assert_string_equal(gpu(reading_power, (struct rec_gpu){ .has = now, .power_mw = 61500 }), "62W");
	assert_string_equal(gpu(reading_power, (struct rec_gpu){ .has = limit, .power_limit_mw = 400000 }),
			    "?/400W");
	assert_string_equal(gpu(reading_power, (struct rec_gpu){ .has = 0 }), "?");
}

static const char *bytes(uint64_t n)
{
	buf_reset(&b);
	reading_bytes(&b, n);
	return buf_str(&b);
}

TEST(bytes_have_the_unit_that_people_compare)
{
	assert_string_equal(bytes(UINT64_C(512) << 20), "512 MiB");
	assert_string_equal(bytes(UINT64_C(3) << 29), "1.5 GiB");
	assert_string_equal(bytes(UINT64_C(31) << 30), "31 GiB");
	assert_string_equal(bytes(0), "0 MiB");
}

TEST(ranges_are_taken_off_a_list_one_by_one)
{
	const char *list = "0-3,7,9-9";
	unsigned a = 99, z = 99;

	assert_true(reading_range(&list, &a, &z));
	assert_int_equal(a * 100 + z, 3);
	assert_true(reading_range(&list, &a, &z));
	assert_int_equal(a * 100 + z, 707);
	assert_true(reading_range(&list, &a, &z));
	assert_int_equal(a * 100 + z, 909);
	assert_false(reading_range(&list, &a, &z));
}

TEST(ranges_from_elsewhere_do_no_harm)
{
	static const char *const lists[] = { "", "x", "-1", "3-", "5-1", "0-99999999999999999999", ",", "1,,2" };

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const char *list = lists[i];
		unsigned a, z, rounds = 0;

		while (reading_range(&list, &a, &z)) {
			assert_true(a <= z && z - a < 65536);
			assert_true(++rounds < 10);
		}
	}
}

TEST(ages_are_told_roughly_where_many_share_one)
{
	static const struct {
		uint64_t ms;
		const char *want;
	} cases[] = { { 59999, "<1m" }, { 60000, "<10m" }, { 3599999, "<1h" }, { 3600000, "<1d" }, { 86400000, ">1d" } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_reset(&b);
		reading_age_about(&b, cases[i].ms);
		assert_string_equal(buf_str(&b), cases[i].want);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_rate_is_lanes_times_speed),
		T(a_rate_that_says_nothing_is_not_shown),
		T(a_clocks_difference_has_a_sign_and_a_fitting_unit),
		T(which_clock_is_marked_is_the_coordinators_word),
		T(clocks_about_equally_wrong_look_the_same),
		T(a_reference_and_an_unknown_clock_have_no_number),
		T(a_clocks_sentence_says_which_way_and_how_sure),
		T(memory_and_power_show_what_is_known),
		T(bytes_have_the_unit_that_people_compare),
		T(ranges_are_taken_off_a_list_one_by_one),
		T(ranges_from_elsewhere_do_no_harm),
		T(ages_are_told_roughly_where_many_share_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
