/* test_spec.c - a specification keeps its bytes exactly */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/spec.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)
#define GOOD "NASPEC1\n\0\0\0\2\0\0\0\1/tmp\0ls\0-l\0A=b\0"

static char *argv_ls[] = { (char *)"ls", (char *)"-l", NULL };
static char *env_ab[] = { (char *)"A=b", NULL };

TEST(the_encoding_has_these_bytes)
{
	struct buf b;

	buf_init(&b);
	assert_int_equal(spec_encode("/tmp", argv_ls, env_ab, &b, NULL), 0);
	assert_int_equal(b.len, sizeof(GOOD) - 1);
	assert_memory_equal(b.data, GOOD, b.len);
	buf_finish(&b);
}

TEST(odd_but_legal_strings_survive)
{
	char *argv[] = { (char *)"", (char *)"a b\n\xFF", (char *)"", NULL };
	char *env[] = { (char *)"A=", (char *)"A==b=", (char *)"\xFF=\x01", NULL };
	struct spec s;
	struct buf b;

	buf_init(&b);
	assert_int_equal(spec_encode("/", argv, env, &b, NULL), 0);
	assert_int_equal(spec_decode(b.data, b.len, &s, NULL), 0);
	assert_string_equal(s.cwd, "/");
	assert_int_equal(s.argc, 3);
	assert_int_equal(s.envc, 3);
	for (int i = 0; i < 3; i++) {
		assert_string_equal(s.argv[i], argv[i]);
		assert_string_equal(s.env[i], env[i]);
	}
	assert_null(s.argv[3]);
	assert_null(s.env[3]);
	spec_finish(&s);
	buf_finish(&b);
}

TEST(an_empty_environment_is_fine)
{
	char *none[] = { NULL };
	struct spec s;
	struct buf b;

	buf_init(&b);
	assert_int_equal(spec_encode("/", argv_ls, none, &b, NULL), 0);
	assert_int_equal(spec_decode(b.data, b.len, &s, NULL), 0);
	assert_int_equal(s.envc, 0);
	assert_null(s.env[0]);
	spec_finish(&s);
	buf_reset(&b);
	assert_int_equal(spec_encode("/", argv_ls, NULL, &b, NULL), 0);
	buf_finish(&b);
}

TEST(what_cannot_be_a_job_is_refused)
{
	char *none[] = { NULL };
	char *no_eq[] = { (char *)"A=b", (char *)"secret", NULL };
	char *no_name[] = { (char *)"=secret", NULL };
	struct buf b;
	struct err e;

	buf_init(&b);
	assert_int_equal(spec_encode("tmp", argv_ls, env_ab, &b, &e), -EINVAL);
	assert_int_equal(spec_encode("", argv_ls, env_ab, &b, &e), -EINVAL);
	assert_int_equal(spec_encode("/", none, env_ab, &b, &e), -EINVAL);
	assert_int_equal(spec_encode("/", argv_ls, no_eq, &b, &e), -EINVAL);
	assert_null(strstr(e.text, "secret"));
	assert_int_equal(spec_encode("/", argv_ls, no_name, &b, &e), -EINVAL);
	assert_null(strstr(e.text, "secret"));
	assert_int_equal(b.len, 0);
	buf_finish(&b);
}

/* NAME=xxxx... of n bytes with its NUL */
static char *variable(const char *name, size_t n)
{
	char *text = malloc(n);

	memset(text, 'x', n);
	memcpy(text, name, strlen(name));
	text[strlen(name)] = '=';
	text[n - 1] = '\0';
	return text;
}

TEST(too_much_names_the_size_the_limit_and_the_largest_variables_without_values)
{
	char *env[] = { variable("SMALL", 100),	     variable("SECOND", 600000),
			variable("TINY", 50),	     variable("FIRST\n", 1500000),
			variable("THIRD", 200000),   variable("FOURTH", 199999), NULL };
	struct buf b;
	struct err e;

	buf_init(&b);
	assert_int_equal(spec_encode("/", argv_ls, env, &b, &e), -E2BIG);
	assert_string_equal(e.text, "command and environment take 2500173 bytes, but at most 2097152 "
				    "are allowed; pass less with --clean-env or --env, or put it into "
				    "a file; the largest: FIRST? (1500000 bytes), SECOND (600000 "
				    "bytes), THIRD (200000 bytes)");
	assert_int_equal(b.len, 0);
	for (size_t i = 0; env[i]; i++)
		free(env[i]);
	buf_finish(&b);
}

TEST(arguments_that_are_too_much_are_named_by_their_place)
{
	char *big = variable("X", 2500000), *path = variable("PATH", 412);
	char *argv[] = { "ls", "-l", big, NULL }, *env[] = { path, NULL };
	struct buf b;
	struct err e;

	buf_init(&b);
	assert_int_equal(spec_encode("/", argv, env, &b, &e), -E2BIG);
	assert_non_null(strstr(e.text, "; the largest: argument 2 (2500000 bytes)"));
	assert_null(strstr(e.text, "PATH"));
	free(big);
	free(path);
	buf_finish(&b);
}

TEST(exactly_the_limit_is_allowed)
{
	size_t fixed = sizeof(GOOD) - 1 - strlen("A=b") - 1;
	char *env[] = { variable("A", SPEC_MAX - fixed), NULL };
	struct spec s;
	struct buf b;

	buf_init(&b);
	assert_int_equal(spec_encode("/tmp", argv_ls, env, &b, NULL), 0);
	assert_int_equal(b.len, SPEC_MAX);
	assert_int_equal(spec_decode(b.data, b.len, &s, NULL), 0);
	spec_finish(&s);
	free(env[0]);
	env[0] = variable("A", SPEC_MAX - fixed + 1);
	assert_int_equal(spec_encode("/tmp", argv_ls, env, &b, NULL), -E2BIG);
	free(env[0]);
	buf_finish(&b);
}

static void refuses(const char *blob, size_t len)
{
	struct spec s = { .argc = 99 };
	char *copy = malloc(len ? len : 1);

	memcpy(copy, blob, len);
	assert_int_equal(spec_decode(copy, len, &s, NULL), -EINVAL);
	assert_int_equal(s.argc, 99);
	free(copy);
}

#define REFUSES(blob) refuses(blob, sizeof(blob) - 1)

TEST(every_flaw_of_a_blob_is_refused)
{
	REFUSES("");
	REFUSES("NASPEC2\n\0\0\0\2\0\0\0\1/tmp\0ls\0-l\0A=b\0");
	REFUSES("NASPEC1\n\0\0\0\2\0\0\0\1tmp\0ls\0-l\0A=b\0"); /* relative */
	REFUSES("NASPEC1\n\0\0\0\2\0\0\0\1/tmp\0ls\0-l\0Ab\0"); /* no '=' */
	REFUSES("NASPEC1\n\0\0\0\2\0\0\0\1/tmp\0ls\0-l\0=b\0"); /* no name */
	REFUSES("NASPEC1\n\0\0\0\2\0\0\0\1/tmp\0ls\0-l\0A=b\0x"); /* something follows */
	REFUSES("NASPEC1\n\0\0\0\2\0\0\0\1/tmp\0ls\0-l\0A=b\0\0");
	REFUSES("NASPEC1\n\0\0\0\3\0\0\0\1/tmp\0ls\0-l\0A=b\0"); /* one too few */
	REFUSES("NASPEC1\n\0\0\0\0\0\0\0\3/tmp\0A=1\0B=2\0C=3\0"); /* no command */
	REFUSES("NASPEC1\n\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF/tmp\0ls\0-l\0A=b\0");
	for (size_t n = 0; n < sizeof(GOOD) - 1; n++)
		refuses(GOOD, n);
}

TEST(a_blob_over_the_limit_is_refused)
{
	char *blob = calloc(1, SPEC_MAX + 1);

	memcpy(blob, GOOD, sizeof(GOOD) - 1);
	refuses(blob, SPEC_MAX + 1);
	free(blob);
}

TEST(every_failing_malloc_is_reported_and_nothing_leaks)
{
	EACH_FAILING_MALLOC({
		struct spec s;
		struct buf b;
		int rc;

		buf_init(&b);
		rc = spec_encode("/tmp", argv_ls, env_ab, &b, NULL);
		assert_true(rc == 0 || rc == -ENOMEM);
		rc = spec_decode(GOOD, sizeof(GOOD) - 1, &s, NULL);
		assert_true(rc == 0 || rc == -ENOMEM);
		if (rc == 0)
			spec_finish(&s);
		buf_finish(&b);
	});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_encoding_has_these_bytes),
		cmocka_unit_test(odd_but_legal_strings_survive),
		cmocka_unit_test(an_empty_environment_is_fine),
		cmocka_unit_test(what_cannot_be_a_job_is_refused),
		cmocka_unit_test(
			too_much_names_the_size_the_limit_and_the_largest_variables_without_values),
		cmocka_unit_test(arguments_that_are_too_much_are_named_by_their_place),
		cmocka_unit_test(exactly_the_limit_is_allowed),
		cmocka_unit_test(every_flaw_of_a_blob_is_refused),
		cmocka_unit_test(a_blob_over_the_limit_is_refused),
		cmocka_unit_test(every_failing_malloc_is_reported_and_nothing_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
