/* test_progress.c - steps, loss and time left out of bars and logs */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "common/progress.h"

#define TEST(name) static void name(void **state)

static bool bar(const char *text, struct progress *g)
{
	return progress_bar(text, strlen(text), g);
}

static bool log_of(const char *text, struct progress *g)
{
	return progress_trainer_log(text, strlen(text), g);
}

static int64_t seconds(const char *text)
{
	return progress_seconds(text, strlen(text));
}

TEST(times_are_read)
{
	assert_int_equal(seconds("37:18"), 37 * 60 + 18);
	assert_int_equal(seconds("2:37:18"), 9438);
	assert_int_equal(seconds("1 day, 2:37:18"), 86400 + 9438);
	assert_int_equal(seconds("12 days, 0:00:01.123456"), 12 * 86400 + 1);
	assert_int_equal(seconds("?"), -1);
	assert_int_equal(seconds(""), -1);
	assert_int_equal(seconds("18"), -1);
	assert_int_equal(seconds("1:2:3:4"), -1);
	assert_int_equal(seconds("99999999999999999999:00"), -1);
	assert_int_equal(seconds("1 day 2:00:00"), -1);
	assert_int_equal(seconds("37:18x"), -1);
}

TEST(the_last_bar_counts)
{
	struct progress g = { .step = 0 };

	assert_true(bar("  0%|          | 0/1200 [00:00<?, ?it/s]\r 28%|##8       | 340/1200 [1:02:11<2:37:18, 10.98s/it]", &g));
	assert_int_equal(g.step, 340);
	assert_int_equal(g.steps, 1200);
	assert_true(g.has_left && g.bar);
	assert_int_equal(g.left_s, 9438);
}

TEST(a_bar_that_has_just_begun_does_not_know_what_is_left)
{
	struct progress g = { .step = 7 };

	assert_true(bar("  0%|          | 0/1200 [00:00<?, ?it/s]", &g));
	assert_int_equal(g.step, 0);
	assert_false(g.has_left);
}

TEST(a_bar_with_words_and_blocks_is_read)
{
	struct progress g;

	assert_true(bar("Running tokenizer (num_proc=128):  50%|\xe2\x96\x88\xe2\x96\x88   | 500/1000 [00:10<00:11, 45.2 examples/s]\n", &g));
	assert_int_equal(g.step, 500);
	assert_int_equal(g.left_s, 11);
}

TEST(what_is_no_bar_is_none)
{
	struct progress g = { .step = 99 };

	assert_false(bar("", &g));
	assert_false(bar("|", &g));
	assert_false(bar("a | 3/4 [00:01<00:01]", &g)); /* no percent */
	assert_false(bar(" 12%|#  | 12.3M/1.2G [00:01<00:10, 100MB/s]", &g)); /* a download */
	assert_false(bar(" 28%|##8  | 340/1200 [1:02:11<2:37", &g)); /* cut */
	assert_false(bar(" 28%|##8  | 1400/1200 [1:02:11<2:37:18, 1s/it]", &g));
	assert_false(bar(" 28%|\n##8  | 340/1200 [1:02:11<2:37:18, 1s/it]", &g)); /* of two lines */
	assert_false(bar(" 28%|##| 99999999999999999999/99999999999999999999 [0:1<0:1, 1s/it]", &g));
	assert_int_equal(g.step, 99);
}

TEST(the_loss_is_read_as_it_was_written)
{
	char loss[24] = "";
	const char *text = "{'loss': 9.1, 'epoch': 0.1}\n{'loss': 1.3104, 'grad_norm': 0.5}\n{'eval_loss': 7.0}\n";

	assert_true(progress_loss(text, strlen(text), loss));
	assert_string_equal(loss, "1.3104");
	text = "{'loss': '0.5', 'epoch': 1}";
	assert_true(progress_loss(text, strlen(text), loss));
	assert_string_equal(loss, "0.5");
	text = "{'loss': nan, 'epoch': 1}";
	assert_true(progress_loss(text, strlen(text), loss));
	assert_string_equal(loss, "nan");
	text = "{'loss': hello}";
	assert_false(progress_loss(text, strlen(text), loss));
	text = "{'loss': 123456789012345678901234567890, }";
	assert_false(progress_loss(text, strlen(text), loss));
	assert_string_equal(loss, "nan");
}

#define LINE(step, loss)                                                                                             \
	"{\"current_steps\": " #step ", \"total_steps\": 1200, \"loss\": " #loss ", \"lr\": 5e-06, \"epoch\": 0.85,"  \
	" \"percentage\": 28.33, \"elapsed_time\": \"1:02:11\", \"remaining_time\": \"2:37:18\"}\n"

TEST(the_last_whole_line_of_a_trainer_log_counts)
{
	struct progress g;

	assert_true(log_of("ent_steps\": 3}\n" LINE(330, 1.5) LINE(340, 1.3104) "{\"current_steps\": 350, \"tot", &g));
	assert_int_equal(g.step, 340);
	assert_int_equal(g.steps, 1200);
	assert_string_equal(g.loss, "1.3104");
	assert_int_equal(g.left_s, 9438);
	assert_false(g.bar);
}

TEST(an_evaluation_does_not_hide_the_loss)
{
	struct progress g;

	assert_true(log_of(LINE(340, 1.3104) "{\"current_steps\": 345, \"total_steps\": 1200, \"eval_loss\": 2.0}\n", &g));
	assert_int_equal(g.step, 345);
	assert_string_equal(g.loss, "1.3104");
}

TEST(what_is_no_trainer_log_is_none)
{
	struct progress g = { .step = 99 };

	assert_false(log_of("", &g));
	assert_false(log_of("\n\n\n", &g));
	assert_false(log_of(LINE(x, 1), &g));
	assert_false(log_of("{\"current_steps\": 5", &g));
	assert_false(log_of("{\"current_steps\": -5, \"total_steps\": 1}\n", &g));
	assert_int_equal(g.step, 99);
	assert_true(log_of("{\"current_steps\": 5, \"total_steps\": 1, \"loss\": {}, \"remaining_time\": \"}\n", &g));
	assert_true(g.step == 5 && g.steps == 0 && !g.loss[0] && !g.has_left);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_read),
		cmocka_unit_test(the_last_bar_counts),
		cmocka_unit_test(a_bar_that_has_just_begun_does_not_know_what_is_left),
		cmocka_unit_test(a_bar_with_words_and_blocks_is_read),
		cmocka_unit_test(what_is_no_bar_is_none),
		cmocka_unit_test(the_loss_is_read_as_it_was_written),
		cmocka_unit_test(the_last_whole_line_of_a_trainer_log_counts),
		cmocka_unit_test(an_evaluation_does_not_hide_the_loss),
		cmocka_unit_test(what_is_no_trainer_log_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
