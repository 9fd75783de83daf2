/* test_buf.c - a buffer grows, fails softly and gives its memory away */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)

TEST(appends_of_all_kinds_make_one_text)
{
	struct buf b;

	buf_init(&b);
	buf_adds(&b, "one");
	buf_addc(&b, ' ');
	buf_add(&b, "two!", 3);
	buf_addf(&b, " %d %s", 3, "four");
	assert_string_equal(buf_str(&b), "one two 3 four");
	assert_int_equal(b.len, 14);
	buf_finish(&b);
}

TEST(a_formatted_text_of_any_length_fits)
{
	char text[1000];
	struct buf b;

	buf_init(&b);
	for (size_t n = 0; n < sizeof(text); n++) {
		memset(text, 'a', n);
		text[n] = '\0';
		buf_reset(&b);
		buf_addf(&b, "%s", text);
		assert_int_equal(b.len, n);
		assert_string_equal(buf_str(&b), text);
	}
	buf_finish(&b);
}

TEST(an_empty_buffer_is_an_empty_text)
{
	struct buf b;
	size_t len = 9;
	char *text;

	buf_init(&b);
	assert_string_equal(buf_str(&b), "");
	buf_add(&b, NULL, 0);
	buf_finish(&b);
	text = buf_steal(&b, &len);
	assert_string_equal(text, "");
	assert_int_equal(len, 0);
	free(text);
}

TEST(dropping_from_the_front_keeps_the_rest)
{
	struct buf b;

	buf_init(&b);
	buf_adds(&b, "abcdef");
	buf_drop(&b, 0);
	buf_drop(&b, 2);
	assert_string_equal(buf_str(&b), "cdef");
	buf_drop(&b, 4);
	assert_int_equal(b.len, 0);
	buf_finish(&b);
}

TEST(stealing_leaves_a_usable_buffer)
{
	struct buf b;
	size_t len;
	char *text;

	buf_init(&b);
	buf_adds(&b, "mine");
	text = buf_steal(&b, &len);
	buf_adds(&b, "yours");
	assert_string_equal(text, "mine");
	assert_int_equal(len, 4);
	assert_string_equal(buf_str(&b), "yours");
	free(text);
	buf_finish(&b);
}

TEST(a_failed_buffer_stays_failed_until_reset)
{
	struct buf b;

	buf_init(&b);
	buf_adds(&b, "kept");
	fail_malloc_at(0);
	assert_null(buf_reserve(&b, 1000));
	fail_malloc_off();
	buf_adds(&b, "ignored");
	buf_addf(&b, "%d", 1);
	buf_addc(&b, 'c');
	assert_true(buf_failed(&b));
	assert_int_equal(b.len, 4);
	assert_string_equal(buf_str(&b), "");
	assert_null(buf_steal(&b, NULL));
	buf_reset(&b);
	buf_adds(&b, "again");
	assert_string_equal(buf_str(&b), "again");
	buf_finish(&b);
}

TEST(an_impossible_size_fails_without_overflow)
{
	struct buf b;

	buf_init(&b);
	buf_adds(&b, "x");
	assert_null(buf_reserve(&b, SIZE_MAX));
	buf_reset(&b);
	assert_null(buf_reserve(&b, SIZE_MAX / 2));
	buf_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(appends_of_all_kinds_make_one_text),
		cmocka_unit_test(a_formatted_text_of_any_length_fits),
		cmocka_unit_test(an_empty_buffer_is_an_empty_text),
		cmocka_unit_test(dropping_from_the_front_keeps_the_rest),
		cmocka_unit_test(stealing_leaves_a_usable_buffer),
		cmocka_unit_test(a_failed_buffer_stays_failed_until_reset),
		cmocka_unit_test(an_impossible_size_fails_without_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
