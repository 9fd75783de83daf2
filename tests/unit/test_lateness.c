/* test_lateness.c - how long an end may have waited until it is seen */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shim/lateness.h"

#define MS 1000000

static mono_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_t){ (int64_t)t.tv_sec * 1000000000 + t.tv_nsec };
}

static void spin(int ms)
{
	int64_t end = now().ns + (int64_t)ms * MS;

	while (now().ns < end)
		;
}

static void nap(int ms)
{
	struct timespec t = { 0, (long)ms * MS };

	nanosleep(&t, NULL);
}

static void setup(struct lateness *l)
{
	lateness_open(l);
	if (l->fd < 0)
		skip(); /* a kernel without /proc/self/schedstat */
}

static void a_process_that_works_may_be_late_by_that_time(void **state)
{
	struct lateness l;

	(void)state;
	setup(&l);
	lateness_mark(&l, now());
	spin(30);
	assert_in_range(lateness_us(&l), 20000, 10000000);
	lateness_close(&l);
}

static void sleep_is_no_lateness(void **state)
{
	struct lateness l;
	uint64_t us;

	(void)state;
	setup(&l);
	for (int i = 0; i < 3; i++) {
		lateness_mark(&l, now());
		nap(100);
	}
	us = lateness_us(&l);
	assert_in_range(us, LATENESS_LEAST_US, 90000); /* two naps, and what a loaded host made of them */
	lateness_close(&l);
}

/* The end may have come while the round before was at work. */
static void the_round_before_counts(void **state)
{
	struct lateness l;

	(void)state;
	setup(&l);
	lateness_mark(&l, now());
	spin(30);
	lateness_mark(&l, now());
	assert_in_range(lateness_us(&l), 20000, 10000000);
	spin(2);
	lateness_mark(&l, now());
	nap(2);
	lateness_mark(&l, now());
	assert_in_range(lateness_us(&l), LATENESS_LEAST_US, 19000);
	lateness_close(&l);
}

static void without_counts_the_least_is_said(void **state)
{
	struct lateness l = { .fd = -1 };

	(void)state;
	lateness_mark(&l, now());
	assert_int_equal(lateness_us(&l), LATENESS_LEAST_US);
	lateness_close(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_that_works_may_be_late_by_that_time),
		cmocka_unit_test(sleep_is_no_lateness),
		cmocka_unit_test(the_round_before_counts),
		cmocka_unit_test(without_counts_the_least_is_said),
	};

	return cmocka_run_group_tests_name("lateness", tests, NULL, NULL);
}
