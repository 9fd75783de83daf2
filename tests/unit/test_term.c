/* test_term.c - widths of texts, cutting, wrapping, and what may not reach a terminal */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/opts.h"
#include "client/term.h"

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

TEST(chinese_characters_are_two_columns_wide)
{
	assert_int_equal(term_width("abc"), 3);
	assert_int_equal(term_width("\xe8\xae\xad\xe7\xbb\x83"), 4); /* xun lian */
	assert_int_equal(term_width("\xed\x95\x9c\xea\xb8\x80x"), 5); /* han geul x */
	assert_int_equal(term_width("\xf0\x9f\x98\x80"), 2);
}

TEST(combining_marks_take_no_column)
{
	assert_int_equal(term_width("e\xcc\x81"), 1);
	assert_int_equal(term_width("\xe2\x80\x8b"), 0);
}

TEST(bytes_that_are_not_utf8_are_one_column_each)
{
	assert_int_equal(term_width("\xb2\xe2"), 2);
	assert_int_equal(term_width("\xc0\x80"), 2); /* overlong */
	assert_int_equal(term_width("\xed\xa0\x80"), 3); /* a surrogate */
	assert_int_equal(term_width("\xe8\xae"), 2); /* cut short */
}

TEST(a_cut_never_splits_a_wide_character)
{
	unsigned used;

	assert_int_equal(term_fit("\xe8\xae\xad\xe7\xbb\x83", 3, &used), 3);
	assert_int_equal(used, 2);
	assert_int_equal(term_add_cut(&b, "\xe8\xae\xad\xe7\xbb\x83\xe8\xae\xad\xe7\xbb\x83", 7), 6);
	assert_string_equal(buf_str(&b), "\xe8\xae\xad\xe7\xbb\x83..");
	buf_reset(&b);
	for (unsigned columns = 0; columns < 5; columns++) /* "12m" would be another time */
		assert_int_equal(term_add_cut(&b, "12m30", columns), columns);
	assert_string_equal(buf_str(&b), "...1..12..");
}

TEST(control_characters_do_not_reach_the_terminal)
{
	term_add_clean(&b, "a\033[31mb\tc\x7f\xc2\x9b", 12);
	assert_string_equal(buf_str(&b), "a?[31mb c??");
}

TEST(paragraphs_are_broken_at_blanks)
{
	term_add_wrapped(&b, "one two three four", "! ", "  ", 11);
	assert_string_equal(buf_str(&b), "! one two\n  three\n  four\n");
}

TEST(a_word_longer_than_the_line_is_cut)
{
	term_add_wrapped(&b, "abcdefghij k", "", "", 4);
	assert_string_equal(buf_str(&b), "abcd\nefgh\nij k\n");
}

TEST(an_empty_paragraph_is_an_empty_line)
{
	term_add_wrapped(&b, "", "! ", "  ", 10);
	assert_string_equal(buf_str(&b), "\n");
}

TEST(width_comes_from_columns_where_there_is_no_terminal)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	setenv("COLUMNS", "133", 1);
	assert_int_equal(term_columns(fds[1]), 133);
	setenv("COLUMNS", "wide", 1);
	assert_int_equal(term_columns(fds[1]), 80);
	setenv("COLUMNS", "3", 1);
	assert_int_equal(term_columns(fds[1]), 20);
	unsetenv("COLUMNS");
	assert_int_equal(term_columns(fds[1]), 80);
	assert_false(term_colour(fds[1]));
	close(fds[0]);
	close(fds[1]);
}

TEST(the_nearest_word_is_found_and_only_if_it_is_near)
{
	const char *const words[] = { "launch", "logs", "status", "node", "nodes", NULL };

	assert_string_equal(opts_nearest("launhc", words), "launch");
	assert_string_equal(opts_nearest("stat", words), "status");
	assert_string_equal(opts_nearest("log", words), "logs");
	assert_string_equal(opts_nearest("nodse", words), "nodes");
	assert_null(opts_nearest("frobnicate", words));
	assert_null(opts_nearest("x", words));
	assert_null(opts_nearest("a-word-that-is-longer-than-any-command-could-be", words));
}

TEST(lengths_of_time_are_read_with_their_units)
{
	uint64_t ms = 0;
	struct err e;

	assert_int_equal(opts_duration("--time", "1h30m", 1u << 30, &ms, &e), 0);
	assert_int_equal(ms, 5400000);
	assert_int_equal(opts_duration("--time", "250ms", 1u << 30, &ms, &e), 0);
	assert_int_equal(ms, 250);
	assert_true(opts_duration("--time", "60", 1u << 30, &ms, &e) < 0);
	assert_true(opts_duration("--time", "", 1u << 30, &ms, &e) < 0);
	assert_true(opts_duration("--time", "1w", 1u << 30, &ms, &e) < 0);
	assert_true(opts_duration("--time", "999999999999d", 1u << 30, &ms, &e) < 0);
	assert_true(opts_duration("--time", "-1s", 1u << 30, &ms, &e) < 0);
	assert_int_equal(ms, 250);
}

TEST(lengths_of_time_are_read_as_Slurm_writes_them)
{
	static const struct {
		const char *text;
		uint64_t s;
	} good[] = {
		{ "01:30", 90 },	  { "90:00", 5400 },	{ "1:30:00", 5400 },   { "12:00:00", 43200 },
		{ "1-12", 129600 },	  { "1-0:30", 88200 },	{ "2-01:02:03", 176523 },
	};
	static const char *const bad[] = { "1:", ":30", "1:2:3:4", "1-", "-1:00", "1-1-1", "1:-2", "1:2-3", "1 :2" };
	uint64_t ms;
	struct err e;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(opts_duration("--time", good[i].text, UINT64_C(365) * 86400000, &ms, &e), 0);
		assert_int_equal(ms, good[i].s * 1000);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(opts_duration("--time", bad[i], UINT64_C(365) * 86400000, &ms, &e) < 0);
	assert_true(opts_duration("--time", "999-00:00:00", UINT64_C(365) * 86400000, &ms, &e) < 0);
	assert_non_null(strstr(e.text, "too long"));
}

TEST(lists_of_ranks_are_read_or_refused)
{
	static const char *const bad[] = { "", "x", "1-", "3-1", "1,,2", "1,", "-1", "99999999999", "1 2" };
	struct span *list = NULL;
	size_t n = 0;
	struct err e;

	assert_int_equal(opts_spans("--rank", "0-3,7", &list, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(list[0].last, 3);
	assert_int_equal(list[1].first, 7);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(opts_spans("--rank", bad[i], &list, &n, &e) < 0);
	free(list);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(chinese_characters_are_two_columns_wide),
		T(combining_marks_take_no_column),
		T(bytes_that_are_not_utf8_are_one_column_each),
		T(a_cut_never_splits_a_wide_character),
		T(control_characters_do_not_reach_the_terminal),
		T(paragraphs_are_broken_at_blanks),
		T(a_word_longer_than_the_line_is_cut),
		T(an_empty_paragraph_is_an_empty_line),
		T(width_comes_from_columns_where_there_is_no_terminal),
		T(the_nearest_word_is_found_and_only_if_it_is_near),
		T(lengths_of_time_are_read_with_their_units),
		T(lengths_of_time_are_read_as_Slurm_writes_them),
		T(lists_of_ranks_are_read_or_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
