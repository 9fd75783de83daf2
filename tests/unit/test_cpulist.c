/* test_cpulist.c - "0-31,64-95" */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "common/cpulist.h"

#define TEST(name) static void name(void **state)

static int count(const char *text, long has)
{
	size_t size;
	cpu_set_t *s = cpulist_parse(text, &size);
	int n = s != NULL ? CPU_COUNT_S(size, s) : -1;

	if (s != NULL && has >= 0)
		assert_true(CPU_ISSET_S((size_t)has, size, s));
	if (s != NULL)
		CPU_FREE(s);
	return n;
}

TEST(ranges_and_single_ones_are_read)
{
	assert_int_equal(count("0", 0), 1);
	assert_int_equal(count("0-31,64-95", 95), 64);
	assert_int_equal(count("1,3,5-6,8191", 8191), 5);
	assert_int_equal(count("3,3,2-4", 2), 3);
}

TEST(what_is_no_list_is_refused)
{
	static const char *const bad[] = { "",	 ",",	 "1,",	  ",1",	  "a",	   "1-",
					   "5-3", "-1", "8192", "0-8192", "1 2", "99999999999999999999" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(count(bad[i], -1), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_and_single_ones_are_read),
		cmocka_unit_test(what_is_no_list_is_refused),
	};

	return cmocka_run_group_tests_name("cpulist", tests, NULL, NULL);
}
