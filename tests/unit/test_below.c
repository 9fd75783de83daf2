/* test_below.c - what agent and coordinator keep of the processes below a rank */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/below.h"
#include "tests/unit/failmalloc.h"

static struct rec_worker three[] = {
	{ .rank = 5, .pid = 11, .state = "killed", .sig = 9, .exception = "ValueError: x" },
	{ .rank = 4, .pid = 12, .state = "killed", .sig = 15, .ours = true },
	{ .rank = 6, .pid = 13, .state = "running" },
};

static struct rec_rank_state state_of(struct rec_worker *v, size_t n)
{
	struct rec_rank_state s = { .rank = 1, .state = "running", .workers = v, .n_workers = n };

	MSG_SET(&s, rank_state, workers_found, 3);
	MSG_SET(&s, rank_state, workers_alive, 1);
	return s;
}

static void a_report_replaces_the_one_before(void **state)
{
	struct rec_rank_state s = state_of(three, 3), out = { .rank = 1 };
	struct below b = { .found = 0 };

	below_take(&b, &s);
	below_fill(&b, true, &out);
	assert_int_equal(out.n_workers, 3);
	assert_string_equal(out.workers[0].exception, "ValueError: x");
	assert_ptr_not_equal(out.workers[0].exception, three[0].exception);
	assert_true(out.workers_found == 3 && out.workers_alive == 1);
	below_fill(&b, false, &out); /* for history */
	assert_int_equal(out.n_workers, 2);
	s = state_of(three + 2, 1);
	s.exception = "KeyError: 1";
	below_take(&b, &s);
	assert_true(b.n_workers == 1 && b.workers[0].rank == 6);
	assert_string_equal(b.exception, "KeyError: 1");
	/* an old shim, or one that has nothing new to say */
	below_take(&b, &(struct rec_rank_state){ .rank = 1, .state = "exited" });
	assert_int_equal(b.n_workers, 1);
	assert_non_null(b.exception);
	below_free(&b);
}

static const char *said(struct rec_worker *v, size_t n)
{
	static char text[256];
	struct rec_rank_state s = state_of(v, n);
	struct below b = { .found = 0 };

	below_take(&b, &s);
	if (!below_say(&b, "gpu02", "", text, sizeof text))
		snprintf(text, sizeof text, "nothing");
	below_free(&b);
	return text;
}

static void the_first_bad_one_is_said(void **state)
{
	struct rec_worker w = { .rank = 7, .pid = 3, .state = "unknown" };

	assert_string_equal(said(three, 3), "rank 5 (gpu02, below the launcher, pid 11) was killed by signal 9");
	assert_string_equal(said(three + 1, 2), "nothing"); /* ours, and one that lives */
	assert_string_equal(said(&w, 1), "rank 7 (gpu02, below the launcher, pid 3) ended, exit status unknown");
	w.state = "exited";
	assert_string_equal(said(&w, 1), "nothing");
	w.code = 3;
	assert_string_equal(said(&w, 1), "rank 7 (gpu02, below the launcher, pid 3) exited with code 3");
}

static void its_GPU_and_pid_are_its_own(void **state)
{
	struct rec_rank_state s = state_of(three, 3);
	struct below b = { .found = 0 };
	char text[256];

	below_take(&b, &s);
	assert_int_equal(below_pid(&b), 11);
	assert_true(below_say(&b, "gpu02", ", GPU 3", text, sizeof text));
	assert_string_equal(text, "rank 5 (gpu02, GPU 3, below the launcher, pid 11) was killed by signal 9");
	below_free(&b);
	assert_int_equal(below_pid(&b), 0);
}

static void a_long_exception_is_cut_with_the_text(void **state)
{
	struct below b = { .exception = (char[]){ "ValueError: a long story" } };
	char text[24] = "rank 3 ended";

	below_say_exception(&b, text, sizeof text);
	assert_string_equal(text, "rank 3 ended: ValueErro");
	b.exception = NULL;
	below_say_exception(&b, text, sizeof text);
	assert_string_equal(text, "rank 3 ended: ValueErro");
}

static void more_than_a_message_holds_is_cut_off(void **state)
{
	struct rec_worker v[WORKERS_MAX + 4];
	struct rec_worker *copy;
	size_t n;

	for (size_t i = 0; i < WORKERS_MAX + 4; i++)
		v[i] = (struct rec_worker){ .rank = (uint32_t)i, .state = "running" };
	copy = workers_dup(v, WORKERS_MAX + 4, &n);
	assert_true(copy && n == WORKERS_MAX && copy[WORKERS_MAX - 1].rank == WORKERS_MAX - 1);
	free(copy);
	assert_null(workers_dup(v, 0, &n));
	assert_int_equal(n, 0);
}

static void without_memory_the_former_report_stays(void **state)
{
	EACH_FAILING_MALLOC({
		struct rec_rank_state s = state_of(three, 3);
		struct below b = { .found = 0 };

		s.exception = "KeyError: 1";
		below_take(&b, &s);
		s = state_of(three + 2, 1);
		below_take(&b, &s);
		assert_true(b.n_workers == 0 || b.n_workers == 1 || b.n_workers == 3);
		assert_true((b.n_workers == 0) == (b.workers == NULL));
		below_free(&b);
	});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_report_replaces_the_one_before),
		cmocka_unit_test(the_first_bad_one_is_said),
		cmocka_unit_test(its_GPU_and_pid_are_its_own),
		cmocka_unit_test(a_long_exception_is_cut_with_the_text),
		cmocka_unit_test(more_than_a_message_holds_is_cut_off),
		cmocka_unit_test(without_memory_the_former_report_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
