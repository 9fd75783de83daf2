/* test_conf.c - a configuration file is taken whole or refused with file and line */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/conf.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)

struct settings {
	char *name;
	bool on;
	uint32_t count, wait_ms;
	uint64_t size;
};

#define KEY(section, key, kind, field, min, max)                                                   \
	{ section, key, kind, offsetof(struct settings, field), min, max, "help" }
static const struct conf_key table[] = {
	KEY("node", "name", CONF_STR, name, 0, 0),
	KEY("node", "on", CONF_BOOL, on, 0, 0),
	KEY("limits", "count", CONF_UINT, count, 1, 100),
	KEY("limits", "wait", CONF_MS, wait_ms, 10, 86400000),
	KEY("limits", "size", CONF_SIZE, size, 1, UINT64_MAX),
	{ .section = NULL },
};

static char path[64];

static int load_bytes(const char *text, size_t len, struct settings *s, struct err *e)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
	return conf_load(path, table, s, e);
}

static void refuses(const char *text, unsigned line, const char *what)
{
	struct settings s = { .count = 42 }, before = s;
	char where[80];
	struct err e = { 0 };

	assert_int_equal(load_bytes(text, strlen(text), &s, &e), -EINVAL);
	snprintf(where, sizeof(where), "%s:%u: ", path, line);
	if (strncmp(e.text, where, strlen(where)) != 0 || !strstr(e.text, what))
		fail_msg("'%s': says '%s', not %s...%s", text, e.text, where, what);
	assert_memory_equal(&s, &before, sizeof(s));
}

TEST(every_kind_of_value_is_read_and_absent_keys_keep_theirs)
{
	static const char text[] = "# comment\n; comment\n\n[node]\nname = gpu 01 ; not this\n on=Yes\n"
				   "[limits]\nwait: 2m\nsize = 10M\n";
	struct settings s = { .count = 7 };

	assert_int_equal(load_bytes(text, strlen(text), &s, NULL), 0);
	assert_string_equal(s.name, "gpu 01");
	assert_true(s.on);
	assert_int_equal(s.count, 7);
	assert_int_equal(s.wait_ms, 120000);
	assert_int_equal(s.size, 10u << 20);
	free(s.name);
}

TEST(an_absent_file_is_told_apart)
{
	struct settings s;
	struct err e;

	assert_int_equal(conf_load("/nonexistent/file", table, &s, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/file"));
	assert_int_equal(conf_load("/tmp", table, &s, &e), -EISDIR);
	assert_non_null(strstr(e.text, "/tmp:"));
}

TEST(an_empty_file_and_a_missing_last_newline_are_fine)
{
	struct settings s = { .count = 7 };

	assert_int_equal(load_bytes("", 0, &s, NULL), 0);
	assert_int_equal(load_bytes("[limits]\ncount=9", 16, &s, NULL), 0);
	assert_int_equal(s.count, 9);
	assert_int_equal(load_bytes("\xEF\xBB\xBF[limits]\r\ncount=8\r\n", 22, &s, NULL), 0);
	assert_int_equal(s.count, 8);
}

TEST(unknown_sections_keys_and_bad_values_are_refused_with_file_and_line)
{
	refuses("[node]\nname = a\ncolour = red\n", 3, "unknown key 'colour' in section [node]");
	refuses("\n[colour]\n", 2, "unknown section [colour]");
	refuses("\xEF\xBB\xBF[colour]\n", 1, "unknown section [colour]");
	refuses("[Node]\n", 1, "unknown section");
	refuses("[node]\nNAME = a\n", 2, "unknown key");
	refuses("[node]\ncount = 1\n", 2, "unknown key");
	refuses("name = a\n", 1, "before any section");
	refuses("[node]\nname\n", 2, "key = value");
	refuses("[node\n", 1, "]");
	refuses("[node] x\n", 1, "follows");
	refuses("[node]\nname =\n", 2, "empty");
	refuses("[node]\non = maybe\n", 2, "'maybe'");
	refuses("[limits]\ncount = -1\n", 2, "whole number");
	refuses("[limits]\ncount = 101\n", 2, "from 1 to 100");
	refuses("[limits]\nwait = 5\n", 2, "duration");
	refuses("[limits]\nwait = 5 s\n", 2, "duration");
	refuses("[limits]\nwait = 2d\n", 2, "from 10ms to 1d");
	refuses("[limits]\nsize = 1X\n", 2, "size");
	refuses("[limits]\ncount = 1\ncount = 2\n", 3, "already");
	refuses("[node]\nname = a\n[limits]\nsize = 0\n", 4, "out of range");
}

TEST(a_line_that_inih_would_cut_is_refused)
{
	char text[9000];
	struct settings s = { 0 };
	size_t n;

	strcpy(text, "[node]\nname = ");
	n = strlen(text);
	memset(text + n, 'x', 3000);
	strcpy(text + n + 3000, "\n[limits]\ncount = 3\n");
	assert_int_equal(load_bytes(text, strlen(text), &s, NULL), 0);
	assert_int_equal(strlen(s.name), 3000);
	assert_int_equal(s.count, 3);
	free(s.name);

	memset(text + n, 'x', 8000);
	strcpy(text + n + 8000, "\n");
	refuses(text, 2, "too long");
	memset(text + n, ' ', 8000); /* what is cut off is a key of its own */
	strcpy(text + n + 4200, "on = yes\n");
	text[n] = 'x';
	refuses(text, 2, "too long");
}

TEST(every_length_around_the_limit_is_taken_whole_or_refused)
{
	for (size_t len = 4060; len < 4120; len++) {
		char text[5000];
		struct settings s = { 0 };

		strcpy(text, "[node]\nname=");
		memset(text + 12, 'x', len);
		strcpy(text + 12 + len, "\n");
		if (load_bytes(text, strlen(text), &s, NULL) == 0)
			assert_int_equal(strlen(s.name), len);
		else
			assert_true(len > 4070);
		free(s.name);
	}
}

TEST(a_nul_byte_is_refused)
{
	struct settings s = { 0 };
	struct err e;

	assert_int_equal(load_bytes("[node]\nname=a\0b\n", 16, &s, &e), -EINVAL);
	assert_non_null(strstr(e.text, "NUL"));
}

TEST(an_indented_line_does_not_continue_the_value)
{
	refuses("[node]\nname = a\n  b\n", 3, "key = value");
}

static int ms(const char *text, uint32_t *ret)
{
	return conf_parse_ms(text, 0, UINT64_MAX, ret, NULL);
}

TEST(durations_have_units)
{
	uint32_t v = 0;

	assert_int_equal(ms("250ms", &v), 0);
	assert_int_equal(v, 250);
	assert_int_equal(ms("4s", &v), 0);
	assert_int_equal(v, 4000);
	assert_int_equal(ms("2m", &v), 0);
	assert_int_equal(v, 120000);
	assert_int_equal(ms("1h", &v), 0);
	assert_int_equal(v, 3600000);
	assert_int_equal(ms("1d", &v), 0);
	assert_int_equal(v, 86400000);
	assert_int_equal(ms("0", &v), 0);
	assert_int_equal(v, 0);
	v = 5;
	assert_int_equal(ms("", &v), -EINVAL);
	assert_int_equal(ms("s", &v), -EINVAL);
	assert_int_equal(ms("1.5s", &v), -EINVAL);
	assert_int_equal(ms("-1s", &v), -EINVAL);
	assert_int_equal(ms("+1s", &v), -EINVAL);
	assert_int_equal(ms(" 1s", &v), -EINVAL);
	assert_int_equal(ms("1S", &v), -EINVAL);
	assert_int_equal(ms("50d", &v), -EINVAL); /* over 32 bits */
	assert_int_equal(ms("99999999999999999999d", &v), -EINVAL);
	assert_int_equal(v, 5);
}

TEST(sizes_are_powers_of_1024)
{
	uint64_t v = 0;
	uint32_t u = 5;
	struct err e;

	assert_int_equal(conf_parse_size("4096", 0, UINT64_MAX, &v, NULL), 0);
	assert_int_equal(v, 4096);
	assert_int_equal(conf_parse_size("64K", 0, UINT64_MAX, &v, NULL), 0);
	assert_int_equal(v, 65536);
	assert_int_equal(conf_parse_size("1T", 0, UINT64_MAX, &v, NULL), 0);
	assert_int_equal(v, UINT64_C(1) << 40);
	assert_int_equal(conf_parse_size("18446744073709551615", 0, UINT64_MAX, &v, NULL), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(conf_parse_size("18446744073709551616", 0, UINT64_MAX, &v, NULL), -EINVAL);
	assert_int_equal(conf_parse_size("16777216T", 0, UINT64_MAX, &v, NULL), -EINVAL);
	assert_int_equal(conf_parse_size("1k", 0, UINT64_MAX, &v, NULL), -EINVAL);
	assert_int_equal(conf_parse_size("3K", 4096, 1 << 20, &v, &e), -EINVAL);
	assert_non_null(strstr(e.text, "from 4K to 1M"));
	assert_int_equal(conf_parse_uint("4294967296", 0, UINT64_MAX, &u, NULL), -EINVAL);
	assert_int_equal(conf_parse_uint("4294967295", 0, UINT64_MAX, &u, NULL), 0);
	assert_true(u == UINT32_MAX);
}

TEST(every_failing_malloc_is_reported_and_nothing_leaks)
{
	static const char text[] = "[node]\nname = abc\n[limits]\ncount = 3\n";
	struct settings s = { 0 };

	assert_int_equal(load_bytes(text, strlen(text), &s, NULL), 0);
	free(s.name);
	EACH_FAILING_MALLOC({
		s.name = NULL;
		int rc = conf_load(path, table, &s, NULL);

		if (rc)
			assert_int_equal(rc, -ENOMEM);
		free(s.name);
	});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_value_is_read_and_absent_keys_keep_theirs),
		cmocka_unit_test(an_absent_file_is_told_apart),
		cmocka_unit_test(an_empty_file_and_a_missing_last_newline_are_fine),
		cmocka_unit_test(unknown_sections_keys_and_bad_values_are_refused_with_file_and_line),
		cmocka_unit_test(a_line_that_inih_would_cut_is_refused),
		cmocka_unit_test(every_length_around_the_limit_is_taken_whole_or_refused),
		cmocka_unit_test(a_nul_byte_is_refused),
		cmocka_unit_test(an_indented_line_does_not_continue_the_value),
		cmocka_unit_test(durations_have_units),
		cmocka_unit_test(sizes_are_powers_of_1024),
		cmocka_unit_test(every_failing_malloc_is_reported_and_nothing_leaks),
	};
	int fd, rc;

	snprintf(path, sizeof(path), "/tmp/test_conf.XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return 1;
	close(fd);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return rc;
}
