/* test_label.c - the output of many ranks in one stream, no line cut, no byte lost */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/label.h"

#define TEST(name) static void name(void **state)

static struct label_out out;
static struct label_stream a, b, plain;

static int setup(void **state)
{
	label_out_init(&out, false);
	label_stream_init(&a, "[n1:0] ");
	label_stream_init(&b, "[n2:1] ");
	label_stream_init(&plain, NULL);
	return 0;
}

static int teardown(void **state)
{
	label_out_finish(&out);
	label_stream_finish(&a);
	label_stream_finish(&b);
	label_stream_finish(&plain);
	return 0;
}

static void feed(struct label_stream *s, const char *text)
{
	label_feed(&out, s, text, strlen(text));
}

static void expect(const char *want)
{
	assert_string_equal(buf_str(&out.buf), want);
}

TEST(each_line_gets_its_label)
{
	feed(&a, "one\ntwo\n");
	feed(&b, "three\n\n");
	expect("[n1:0] one\n[n1:0] two\n[n2:1] three\n[n2:1] \n");
}

TEST(a_line_in_pieces_is_never_cut_by_another_rank)
{
	feed(&a, "on");
	feed(&b, "tw");
	feed(&a, "e\nmore");
	feed(&b, "o\n");
	feed(&a, "!\n");
	expect("[n1:0] one\n[n2:1] two\n[n1:0] more!\n");
}

TEST(a_carriage_return_ends_a_line_and_is_kept)
{
	feed(&a, "10%\r20%\rdone\n");
	expect("[n1:0] 10%\r[n1:0] 20%\r[n1:0] done\n");
}

TEST(a_dos_line_end_is_one_end_even_across_pieces)
{
	feed(&a, "one\r\ntwo\r");
	feed(&a, "\nthree\r");
	feed(&a, "four\n");
	expect("[n1:0] one\r\n[n1:0] two\r\n[n1:0] three\r[n1:0] four\n");
}

TEST(a_last_line_without_end_gets_one_only_with_a_label)
{
	feed(&a, "half");
	label_eof(&out, &a);
	feed(&plain, "half");
	label_eof(&out, &plain);
	expect("[n1:0] half\nhalf");
}

TEST(a_line_ended_by_a_carriage_return_gets_no_newline_at_the_end)
{
	feed(&a, "99%\r");
	label_eof(&out, &a);
	expect("[n1:0] 99%\r");
}

TEST(nothing_is_added_at_the_end_of_an_empty_stream)
{
	label_eof(&out, &a);
	expect("");
}

TEST(a_prompt_shown_early_is_closed_when_another_rank_speaks)
{
	out.terminal = true;
	feed(&a, "name? ");
	label_show(&out, &a);
	feed(&b, "hello\n");
	feed(&a, "li\n");
	expect("[n1:0] name? \n[n2:1] hello\n[n1:0] li\n");
}

TEST(a_prompt_shown_early_goes_on_when_nobody_else_speaks)
{
	out.terminal = true;
	feed(&a, "name? ");
	label_show(&out, &a);
	feed(&a, "li");
	feed(&a, "\nnext\n");
	expect("[n1:0] name? li\n[n1:0] next\n");
}

TEST(on_a_terminal_what_a_carriage_return_left_is_cleared_before_it_is_written_over)
{
	out.terminal = true;
	feed(&a, "a long bar\rshort\n");
	feed(&a, "bar\r");
	label_show(&out, &a);
	feed(&b, "x\n");
	expect("[n1:0] a long bar\r\033[K[n1:0] short\n[n1:0] bar\r\033[K[n2:1] x\n");
}

TEST(in_a_file_nothing_is_cleared)
{
	feed(&a, "a long bar\rshort\n");
	expect("[n1:0] a long bar\r[n1:0] short\n");
}

TEST(a_newline_after_a_shown_carriage_return_belongs_to_it)
{
	out.terminal = true;
	feed(&a, "bar\r");
	label_show(&out, &a);
	feed(&a, "\nnext\n");
	expect("[n1:0] bar\r\n[n1:0] next\n");
}

TEST(a_line_over_a_mebibyte_is_cut_only_when_another_rank_speaks)
{
	size_t n = LABEL_HELD_MAX + 10;
	char *big = malloc(n);

	memset(big, 'x', n);
	label_feed(&out, &a, big, n);
	assert_int_equal(out.buf.len, n + 7);
	feed(&a, "yy");
	feed(&b, "hello\n");
	feed(&a, "zz\n");
	assert_string_equal(buf_str(&out.buf) + n + 7, "yy\n[n2:1] hello\n[n1:0] zz\n");
	free(big);
}

TEST(without_labels_a_file_gets_no_byte_that_no_rank_wrote)
{
	struct label_stream other;

	label_stream_init(&other, NULL);
	feed(&plain, "half");
	label_eof(&out, &plain);
	feed(&other, "line\n");
	expect("halfline\n");
	label_stream_finish(&other);
}

TEST(our_own_lines_begin_on_a_line_of_their_own)
{
	feed(&plain, "half");
	label_eof(&out, &plain);
	label_line(&out, "job 1 done");
	feed(&a, "bar\rx");
	label_line(&out, "told");
	expect("half\njob 1 done\n[n1:0] bar\r\ntold\n");
}

TEST(a_long_label_is_cut_and_still_works)
{
	char name[200];
	struct label_stream s;

	memset(name, 'n', sizeof(name) - 1);
	name[199] = '\0';
	label_stream_init(&s, name);
	feed(&s, "x\ny\n");
	assert_int_equal(out.buf.len, 2 * (LABEL_MAX - 1 + 2));
	feed(&s, "");
	label_stream_finish(&s);
}

/* ---- any bytes in any pieces -------------------------------------------- */

static uint32_t seed;
static uint32_t chance(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

/* Takes the labels off again: what follows a line end begins with a label. */
static void strip(const struct buf *in, struct buf got[2])
{
	const char *p = in->data, *end = p + in->len;

	while (p < end) {
		int who = memcmp(p, "[n1:0] ", 7) == 0 ? 0 : 1;

		assert_memory_equal(p, who ? "[n2:1] " : "[n1:0] ", 7);
		p += 7;
		while (p < end) {
			buf_addc(&got[who], *p);
			if (*p++ == '\n' || (p[-1] == '\r' && (p == end || *p != '\n')))
				break;
		}
	}
}

TEST(labels_taken_off_give_back_the_exact_bytes)
{
	static const char letters[] = "ab\n\r\n\r\n.......";

	for (seed = 1; seed < 4000; seed += 13) {
		struct buf sent[2], got[2];
		uint32_t start = seed;

		setup(NULL);
		for (int i = 0; i < 2; i++) {
			buf_init(&sent[i]);
			buf_init(&got[i]);
		}
		for (int k = 0; k < 60; k++) {
			uint32_t who = chance(2), n = chance(chance(8) ? 9 : 300);
			char piece[300];

			for (uint32_t i = 0; i < n; i++)
				piece[i] = letters[chance(sizeof(letters) - 1)];
			buf_add(&sent[who], piece, n);
			label_feed(&out, who ? &b : &a, piece, n);
		}
		for (int i = 0; i < 2; i++) {
			if (sent[i].len && sent[i].data[sent[i].len - 1] != '\n' &&
			    sent[i].data[sent[i].len - 1] != '\r')
				buf_addc(&sent[i], '\n');
			label_eof(&out, i ? &b : &a);
		}
		strip(&out.buf, got);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(got[i].len, sent[i].len);
			if (sent[i].len)
				assert_memory_equal(got[i].data, sent[i].data, sent[i].len);
			buf_finish(&sent[i]);
			buf_finish(&got[i]);
		}
		teardown(NULL);
		seed = start;
	}
	setup(NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(each_line_gets_its_label),
		T(a_line_in_pieces_is_never_cut_by_another_rank),
		T(a_carriage_return_ends_a_line_and_is_kept),
		T(a_dos_line_end_is_one_end_even_across_pieces),
		T(a_last_line_without_end_gets_one_only_with_a_label),
		T(a_line_ended_by_a_carriage_return_gets_no_newline_at_the_end),
		T(nothing_is_added_at_the_end_of_an_empty_stream),
		T(a_prompt_shown_early_is_closed_when_another_rank_speaks),
		T(a_prompt_shown_early_goes_on_when_nobody_else_speaks),
		T(on_a_terminal_what_a_carriage_return_left_is_cleared_before_it_is_written_over),
		T(in_a_file_nothing_is_cleared),
		T(a_newline_after_a_shown_carriage_return_belongs_to_it),
		T(a_line_over_a_mebibyte_is_cut_only_when_another_rank_speaks),
		T(without_labels_a_file_gets_no_byte_that_no_rank_wrote),
		T(our_own_lines_begin_on_a_line_of_their_own),
		T(a_long_label_is_cut_and_still_works),
		T(labels_taken_off_give_back_the_exact_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
