/* test_err.c - an error carries a code and a sentence */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/err.h"

#define TEST(name) static void name(void **state)

TEST(returns_the_negative_code_whatever_its_sign)
{
	struct err e;

	assert_int_equal(err_set(&e, EINVAL, "x"), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_int_equal(err_set(&e, -EINVAL, "x"), -EINVAL);
	assert_int_equal(err_set(NULL, ENOENT, "%d", 1), -ENOENT);
}

TEST(a_text_may_be_built_from_the_old_text)
{
	struct err e;

	err_set(&e, EIO, "disk %s", "full");
	err_set(&e, e.code, "cannot write: %s", e.text);
	assert_string_equal(e.text, "cannot write: disk full");
	assert_int_equal(e.code, -EIO);
}

TEST(a_long_text_is_cut_between_characters)
{
	char text[ERR_TEXT_MAX + 100];
	struct err e;

	for (size_t i = 0; i + 2 < sizeof(text); i += 2)
		memcpy(text + i, "\xC3\xA4", 3);
	err_set(&e, EIO, "%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 2);
	err_set(&e, EIO, "-%s", text);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(returns_the_negative_code_whatever_its_sign),
		cmocka_unit_test(a_text_may_be_built_from_the_old_text),
		cmocka_unit_test(a_long_text_is_cut_between_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
