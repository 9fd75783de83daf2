/* test_pool.c - what was queued for libuv's threads is done before the process leaves, or it is said that it is not */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <unistd.h>

#include "io/loop_util.h"

#define WORKS 24

static atomic_uint done, nap_us;

static void work(uv_work_t *req)
{
	(void)req;
	usleep(nap_us);
	done++;
}

static void start(uv_loop_t *loop, uv_work_t reqs[WORKS], unsigned us)
{
	assert_int_equal(uv_loop_init(loop), 0);
	done = 0;
	nap_us = us;
	for (unsigned i = 0; i < WORKS; i++)
		assert_int_equal(uv_queue_work(loop, &reqs[i], work, NULL), 0);
}

static void finish(uv_loop_t *loop)
{
	uv_run(loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(loop), 0);
}

static void all_that_was_queued_is_done(void **state)
{
	static uv_work_t reqs[WORKS];
	uv_loop_t loop;

	(void)state;
	start(&loop, reqs, 20000);
	assert_true(pool_settle(&loop, 20000));
	assert_int_equal(done, WORKS);
	finish(&loop);
}

static void what_does_not_come_to_an_end_is_not_waited_for(void **state)
{
	static uv_work_t reqs[WORKS];
	uint64_t begin;
	uv_loop_t loop;

	(void)state;
	start(&loop, reqs, 1000000);
	begin = uv_hrtime();
	assert_false(pool_settle(&loop, 200));
	assert_true(uv_hrtime() - begin < 5000000000);
	assert_true(done < WORKS);
	nap_us = 0; /* those that have not begun */
	finish(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_that_was_queued_is_done),
		cmocka_unit_test(what_does_not_come_to_an_end_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
