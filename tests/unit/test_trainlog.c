/* test_trainlog.c - a training's own log: whose run it tells of, and what is not read */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/trainlog.h"
#include "tests/unit/tree.h"

#define TEST(name) static void name(void **state)

static char root[64], path[96];

static void add(int step)
{
	FILE *f = fopen(path, "a");

	assert_non_null(f);
	fprintf(f, "{\"current_steps\": %d, \"total_steps\": 1200, \"loss\": 2.5}\n", step);
	fclose(f);
}

/* The last of some looks: each begins a read, and tells what the one before has found. */
static bool look(struct trainlog *t, struct progress *ret)
{
	bool any = false;

	for (int i = 0; i < 5; i++) {
		any = trainlog_look(t, ret);
		usleep(30000);
	}
	return any;
}

TEST(what_an_earlier_run_has_left_tells_nothing)
{
	struct trainlog *t;
	struct progress p;

	add(1200);
	t = trainlog_create(path);
	assert_false(look(t, &p));
	add(10);
	assert_true(look(t, &p));
	assert_int_equal(p.step, 10);
	trainlog_destroy(t);
}

TEST(one_that_comes_later_is_of_this_run)
{
	struct trainlog *t = trainlog_create(path);
	struct progress p;

	assert_false(look(t, &p));
	add(1);
	assert_true(look(t, &p));
	assert_int_equal(p.step, 1);
	add(2);
	assert_true(look(t, &p));
	assert_int_equal(p.step, 2);
	trainlog_destroy(t);
}

TEST(neither_a_link_nor_a_pipe_is_read)
{
	struct trainlog *t = trainlog_create(path);
	struct progress p;
	char other[128];

	assert_false(look(t, &p));
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_false(look(t, &p));
	assert_int_equal(unlink(path), 0);
	add(7);
	snprintf(other, sizeof other, "%s.real", path);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	assert_false(look(t, &p));
	trainlog_destroy(t);
}

static int setup(void **state)
{
	tree_make(root);
	snprintf(path, sizeof path, "%s/trainer_log.jsonl", root);
	return 0;
}

static int teardown(void **state)
{
	tree_remove(root);
	return 0;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_an_earlier_run_has_left_tells_nothing),
		CASE(one_that_comes_later_is_of_this_run),
		CASE(neither_a_link_nor_a_pipe_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
