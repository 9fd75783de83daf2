/* test_elastic.c - what torchrun and its workers leave in writing */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/elastic.h"

#define ONE(n, rank, local, code, pid)                                                             \
	"[" n "]:\n  time      : 2026-11-25_17:26:58\n  host      : here\n  rank      : " rank       \
	" (local_rank: " local ")\n  exitcode  : " code " (pid: " pid ")  (WHY)\n  error_file: <N/A>\n" \
	"  traceback : Signal received\n"
#define ROOT "------\nRoot Cause (first observed failure):\n"

static void a_summary_names_each_failure_and_the_root(void **state)
{
	static const char text[] = "Failures:\n" ONE("1", "4", "0", "-15", "11") ROOT ONE("0", "5", "1", "-9", "12") "=====\n";
	struct elastic_failure f[4];

	assert_int_equal(elastic_failures(text, sizeof text - 1, f, 4), 2);
	assert_true(f[0].rank == 4 && f[0].local_rank == 0 && f[0].code == -15 && f[0].pid == 11 && !f[0].root);
	assert_true(f[1].rank == 5 && f[1].local_rank == 1 && f[1].code == -9 && f[1].pid == 12 && f[1].root);
	assert_int_equal(elastic_failures(text, sizeof text - 1, f, 1), 1);
}

static void only_the_last_summary_counts(void **state)
{
	static const char text[] = "Failures:\n" ROOT ONE("0", "5", "1", "-9", "12") "Failures:\n  <NO_OTHER_FAILURES>\n" ROOT ONE(
		"0", "7", "0", "3", "99");
	struct elastic_failure f[4];

	assert_int_equal(elastic_failures(text, sizeof text - 1, f, 4), 1);
	assert_true(f[0].rank == 7 && f[0].code == 3 && f[0].pid == 99 && f[0].root);
}

static void labels_and_colours_around_it(void **state)
{
	static const char text[] = "[gpu01:0] \x1b[31mFailures:\n[gpu01:0] [0]:\n[gpu01:0]   rank      : 2 (local_rank: 2)\r\n"
				   "[gpu01:0]   exitcode  : 1 (pid: 77)\n";
	struct elastic_failure f[4];

	assert_int_equal(elastic_failures(text, sizeof text - 1, f, 4), 1);
	assert_true(f[0].rank == 2 && f[0].code == 1 && f[0].pid == 77);
}

static void what_is_no_summary_gives_nothing(void **state)
{
	static const char *const texts[] = { "", "rank : 3\n", "  exitcode  : 1 (pid: 3)\n", "  rank : x (local_rank: 1)\n exitcode : 1 (pid: 3)",
					     "  rank : 99999999999 (local_rank: 0)\n  exitcode : 1 (pid: 2)\n",
					     "  rank : 1 (local_rank: -4)\n  exitcode : 1 (pid: 2)\n" };
	struct elastic_failure f[4];

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		assert_int_equal(elastic_failures(texts[i], strlen(texts[i]), f, 4), 0);
}

static void file_says(const char *json, const char *want, int line)
{
	struct traceback t;

	elastic_error_file(json, strlen(json), &t);
	if (strcmp(t.text, want) != 0 || (t.kind == TRACEBACK_NONE) != (*want == '\0'))
		fail_msg("line %d: '%s' instead of '%s'", line, t.text, want);
}
#define FILE_SAYS(json, want) file_says(json, want, __LINE__)

static void an_error_file(void **state)
{
	FILE_SAYS("{\"message\": {\"message\": \"ValueError: x\", \"extraInfo\": {\"py_callstack\": \"Traceback (most recent call "
		  "last):\\n  File \\\"/a/train.py\\\", line 7, in main\\nKeyError: 1\\n\\nDuring handling of the above exception, "
		  "another exception occurred:\\n\\nTraceback (most recent call last):\\n  File \\\"/a/train.py\\\", line 9, in "
		  "main\\nValueError: x\\n\", \"timestamp\": \"1\"}}}", "KeyError: 1 at train.py:7");
	FILE_SAYS("{\"message\": {\"message\": \"ValueError: x\"}}", "ValueError: x");
	FILE_SAYS("{\"message\": \"SignalException: caught\"}", "SignalException: caught");
	FILE_SAYS("{\"message\": {\"message\": \"RuntimeError: one\\ntwo\\n\", \"errorCode\": 1}}", "RuntimeError: one");
	FILE_SAYS("{\"message\": {\"message\": \"\\u001b[31mred\"}}", "red");
}

static void an_error_file_that_is_none(void **state)
{
	FILE_SAYS("", "");
	FILE_SAYS("{", "");
	FILE_SAYS("[]", "");
	FILE_SAYS("{\"message\": 3}", "");
	FILE_SAYS("{\"message\": {}}", "");
	FILE_SAYS("{\"message\": {\"message\": [\"x\"], \"extraInfo\": \"y\"}}", "");
	FILE_SAYS("{\"message\": {\"message\": \"\"}}", "");
	FILE_SAYS("{\"message\": \"a\", \"message\": \"b\"}", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_summary_names_each_failure_and_the_root),
		cmocka_unit_test(only_the_last_summary_counts),
		cmocka_unit_test(labels_and_colours_around_it),
		cmocka_unit_test(what_is_no_summary_gives_nothing),
		cmocka_unit_test(an_error_file),
		cmocka_unit_test(an_error_file_that_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
