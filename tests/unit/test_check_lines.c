/* test_check_lines.c - what a check of NCCL shows beside expectation and baseline, also of lines that somebody else wrote */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client/check_nccl.h"

static void add(struct check_lines *c, const char *line)
{
	assert_true(check_lines_add(c, line, strlen(line)));
}

/* Of 80 columns; lines are freed. */
static void assert_shows(struct check_lines *c, const char *const *words)
{
	struct buf b, j;

	buf_init(&b);
	buf_init(&j);
	check_lines_text(c, &b, 80, false);
	for (; *words != NULL; words++)
		if (strstr(buf_str(&b), *words) == NULL)
			fail_msg("'%s' is not in:\n%s", *words, buf_str(&b));
	for (const char *at = buf_str(&b), *end; (end = strchr(at, '\n')) != NULL; at = end + 1)
		assert_true(end - at <= 80);
	assert_null(strchr(buf_str(&b), '\x1b'));
	check_lines_json(c, &j);
	assert_int_equal(json_scan(j.data, j.len - 1, NULL), 0);
	buf_finish(&b);
	buf_finish(&j);
	check_lines_finish(c);
}

static void what_is_expected_and_what_was_before_stand_beside_the_figures(void **state)
{
	struct check_lines c = { .expect_inside = 255, .expect_between = 35 };

	(void)state;
	add(&c, "{\"kind\":\"result\",\"scope\":\"inside\",\"node\":\"gpu01\",\"op\":\"all_reduce\",\"busbw\":280.5}");
	add(&c, "{\"kind\":\"result\",\"scope\":\"inside\",\"node\":\"gpu02\",\"op\":\"all_reduce\",\"busbw\":281}");
	add(&c, "{\"kind\":\"result\",\"scope\":\"between\",\"op\":\"all_reduce\",\"busbw\":28}");
	add(&c, "{\"kind\":\"end\",\"ok\":true,\"seconds\":3.25}");
	add(&c, "{\"kind\":\"baseline\",\"scope\":\"inside\",\"nodes\":\"gpu01\",\"verdict\":\"ok\",\"limit\":0.9,\"kept\":true,\"counts\":true,"
		"\"ops\":[{\"op\":\"all_reduce\",\"busbw\":280.5,\"baseline\":284,\"ratio\":0.988}]}");
	add(&c, "{\"kind\":\"baseline\",\"scope\":\"between\",\"nodes\":\"gpu[01-02]\",\"verdict\":\"none\",\"limit\":0.9,\"kept\":true,\"counts\":false,\"ops\":[]}");
	assert_shows(&c, (const char *const[]){ "BUSBW GB/S  IN A NODE  OF BASELINE  BETWEEN NODES\n", "all_reduce      280.5         99 %           28.0\n",
						"expected of all_reduce at least: in a node 255.0 (110 % reached), between nodes\n  35.0 (80 % reached)\n",
						"no baseline\n  yet: between gpu[01-02]; this run is kept, and counts in part", "ok, data exact; 3.2 s", NULL });
}

static void lines_of_somebody_else_break_nothing(void **state)
{
	struct check_lines c = { .n = 0 };

	(void)state;
	add(&c, "{\"kind\":\"baseline\"}");
	add(&c, "{\"kind\":\"baseline\",\"scope\":\"inside\",\"nodes\":7,\"ops\":{\"a\":1},\"limit\":\"x\"}");
	add(&c, "{\"kind\":\"baseline\",\"scope\":\"between\",\"nodes\":\"\\u001b[2Jx\",\"verdict\":\"none\",\"other\":\"\\u001b[2J\",\"ops\":[1,null,{}]}");
	add(&c, "{\"kind\":\"finding\",\"severity\":\"bad\",\"scope\":\"inside\",\"node\":\"\\u001b\",\"text\":\"\\u001b\"}");
	assert_shows(&c, (const char *const[]){ "baseline: ", "BAD", NULL });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_expected_and_what_was_before_stand_beside_the_figures),
		cmocka_unit_test(lines_of_somebody_else_break_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
