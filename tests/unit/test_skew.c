/* test_skew.c - clock offsets from NTP's four times */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "core/skew.h"

#define TEST(name) static void name(void **state)

static const mono_t T0 = { 1000000000000 };

/* One exchange: our clock is 'off' ahead, the ways take 'out' and 'in' microseconds. */
static void exchange(struct skew *s, int64_t off, int64_t out, int64_t in, mono_t now)
{
	int64_t theirs = 1700000000000000, sent = theirs + off;

	skew_add(s, sent, theirs + out, theirs + out + 50, theirs + out + 50 + in + off, now);
}

static int64_t offset(const struct skew *s, mono_t now, uint64_t *ret_error)
{
	int64_t v = 0;

	assert_true(skew_get(s, now, &v, ret_error));
	return v;
}

TEST(equal_ways_give_the_exact_offset_and_half_the_trip_as_error)
{
	struct skew s = { .n = 0 };
	uint64_t e;

	exchange(&s, 2000000, 200, 200, T0);
	assert_int_equal(offset(&s, T0, &e), 2000000);
	assert_in_range(e, 200, 202);
}

TEST(the_truth_lies_within_the_error_whatever_the_ways_take)
{
	for (int64_t out = 0; out < 5000; out += 250)
		for (int64_t in = 0; in < 5000; in += 250)
			for (int64_t off = -3000000; off <= 3000000; off += 750000) {
				struct skew s = { .n = 0 };
				uint64_t e;

				exchange(&s, off, out, in, T0);
				assert_true((uint64_t)llabs(offset(&s, T0, &e) - off) <= e);
			}
}

TEST(the_quickest_exchange_counts_until_it_is_old)
{
	struct skew s = { .n = 0 };
	mono_t later = mono_add_ms(T0, 1000);
	uint64_t e;

	exchange(&s, 0, 100, 100, T0);
	exchange(&s, 0, 9000, 100, later);
	assert_int_equal(offset(&s, later, &e), 0);
	assert_in_range(e, 100 + 15, 100 + 17); /* 15 us of drift in a second */
	assert_true(llabs(offset(&s, mono_add_ms(T0, 600000), &e)) <= 4450);
	assert_in_range(e, 4500, 14000); /* after ten minutes the younger one is better */
}

TEST(a_clock_that_was_set_is_believed_at_once)
{
	struct skew s = { .n = 0 };
	uint64_t e;

	for (int i = 0; i < 20; i++)
		exchange(&s, 300, 100, 100, T0);
	exchange(&s, 3600000000, 150, 150, T0); /* an hour */
	assert_int_equal(offset(&s, T0, &e), 3600000000);
	assert_in_range(e, 150, 152);
}

TEST(times_that_make_no_sense_are_dropped)
{
	struct skew s = { .n = 0 };
	int64_t v;
	uint64_t e;

	assert_false(skew_get(&s, T0, &v, &e));
	skew_add(&s, 100, 50, 40, 120, T0); /* answered before it came */
	skew_add(&s, 100, 50, 60, 90, T0); /* back before it was sent */
	skew_add(&s, 0, 50, 60, 100000000, T0); /* a minute and more on the way */
	skew_add(&s, INT64_MIN, INT64_MAX, INT64_MAX, INT64_MAX, T0);
	skew_add(&s, INT64_MAX, INT64_MIN, INT64_MIN, INT64_MAX, T0);
	skew_add(&s, 0, INT64_MIN, INT64_MAX, 1, T0);
	skew_add(&s, -(INT64_C(1) << 62), INT64_MIN, INT64_MAX, INT64_C(1) << 61, T0);
	assert_false(skew_get(&s, T0, &v, &e));
}

/* Of two monotonic clocks: a moment of ours by theirs, before and after the sample. */
TEST(a_moment_is_told_by_the_other_clock)
{
	struct skew s = { 0 };
	int64_t theirs;
	uint64_t error;

	assert_false(skew_map(&s, T0, &theirs, &error));
	skew_add(&s, T0.ns / 1000 - 400, 5000000, 5000000, T0.ns / 1000, T0);
	assert_true(skew_map(&s, T0, &theirs, &error));
	assert_int_equal(theirs, 5000200);
	assert_int_equal(error, 201);
	assert_true(skew_map(&s, mono_add_ms(T0, -10000), &theirs, &error));
	assert_int_equal(theirs, 5000200 - 10000000);
	assert_int_equal(error, 201 + 150); /* 15 ppm */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_moment_is_told_by_the_other_clock),
		cmocka_unit_test(equal_ways_give_the_exact_offset_and_half_the_trip_as_error),
		cmocka_unit_test(the_truth_lies_within_the_error_whatever_the_ways_take),
		cmocka_unit_test(the_quickest_exchange_counts_until_it_is_old),
		cmocka_unit_test(a_clock_that_was_set_is_believed_at_once),
		cmocka_unit_test(times_that_make_no_sense_are_dropped),
	};

	return cmocka_run_group_tests_name("skew", tests, NULL, NULL);
}
