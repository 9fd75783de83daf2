/* test_since.c - moments in the past, as people write them */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/since.h"

/* 2026-11-25 12:00:00 UTC */
#define NOON INT64_C(1795608000000)

static int64_t since(const char *text)
{
	int64_t ms = -1;
	struct err e;

	return since_parse("--since", text, NOON, &ms, &e) == 0 ? ms : -1;
}

static void so_long_ago(void **state)
{
	assert_int_equal(since("10m"), NOON - 600000);
	assert_int_equal(since("1h30m"), NOON - 5400000);
	assert_int_equal(since("2d"), NOON - 172800000);
	assert_int_equal(since("36000d"), 1); /* before there were any */
}

static void the_last_time_it_was_so_late(void **state)
{
	assert_int_equal(since("11:30"), NOON - 1800000);
	assert_int_equal(since("12:00:00"), NOON);
	assert_int_equal(since("12:30"), NOON + 1800000 - 86400000);
}

static void a_day_and_a_time_of_it(void **state)
{
	assert_int_equal(since("2026-11-25"), NOON - 43200000);
	assert_int_equal(since("2026-11-24 12:00"), NOON - 86400000);
	assert_int_equal(since("2026-11-25T11:59:58"), NOON - 2000);
}

static int64_t in_berlin(const char *text, int64_t now_ms)
{
	int64_t ms = -1;
	struct err e;
	int r;

	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	r = since_parse("--since", text, now_ms, &ms, &e);
	setenv("TZ", "UTC", 1);
	tzset();
	return r == 0 ? ms : -1;
}

static void clocks_that_leap_change_no_other_day(void **state)
{
	/* 2026-03-29, 01:30 in Berlin; at 02:00 it will be 03:00 */
	const int64_t night = INT64_C(1774744200000);

	assert_int_equal(in_berlin("01:00", night), night - 1800000);
	assert_int_equal(in_berlin("02:30", night), night - 23 * 3600000);
	assert_int_equal(in_berlin("03:30", night), night - 22 * 3600000);
	/* at 12:00 it was an hour less since the evening before */
	assert_int_equal(in_berlin("23:00", night + 34200000), night - 9000000);
	assert_int_equal(in_berlin("2026-03-29 12:00", night), night + 34200000);
	assert_int_equal(in_berlin("2026-07-01", night), INT64_C(1782856800000));
}

static void what_is_no_time_is_refused(void **state)
{
	static const char *const bad[] = { "", "10", "25:00", "2026-13-01", "yesterday", "2026-11-25 ", "1-2", "-5m",
					   "2026-02-31", "2026-04-31 12:00", "26-2-1", "1969-12-31" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(since(bad[i]), -1);
}

static int utc(void **state)
{
	setenv("TZ", "UTC", 1);
	tzset();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(so_long_ago),
		cmocka_unit_test(the_last_time_it_was_so_late),
		cmocka_unit_test(a_day_and_a_time_of_it),
		cmocka_unit_test(clocks_that_leap_change_no_other_day),
		cmocka_unit_test(what_is_no_time_is_refused),
	};

	return cmocka_run_group_tests_name("since", tests, utc, NULL);
}
