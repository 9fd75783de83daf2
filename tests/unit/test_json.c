/* test_json.c - only strict JSON gets in, only plain JSON gets out */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/json.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Scans a copy without NUL, so that a byte read too far is noticed. */
static int scan(const char *text, size_t len, struct err *e)
{
	char *copy = malloc(len ? len : 1);
	int rc;

	memcpy(copy, text, len);
	rc = json_scan(copy, len, e);
	if (rc == 0) {
		cJSON *json = json_parse(copy, len, e);

		assert_non_null(json);
		cJSON_Delete(json);
	}
	free(copy);
	return rc;
}

static void accepts(const char *text)
{
	struct err e;

	if (scan(text, strlen(text), &e))
		fail_msg("%s: %s", text, e.text);
}

static void refuses(const char *text, const char *why)
{
	struct err e;

	if (scan(text, strlen(text), &e) != -EINVAL)
		fail_msg("accepted: %s", text);
	if (!strstr(e.text, why))
		fail_msg("%s: says '%s', not '%s'", text, e.text, why);
	assert_null(json_parse(text, strlen(text), NULL));
}

TEST(all_forms_of_values_are_accepted)
{
	static const char *const good[] = {
		"{}", "[]", "null", "true", "false", "0", "-0", "\"\"", " \t\r\n1 \t\r\n", "[1,2,[3]]",
		"{\"a\":1,\"b\":{\"a\":2}}", "[{\"a\":1},{\"a\":1}]", "1.5e+10", "-1E-400", "0.0", "1e308",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"", "\"\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80 \x7f\"",
		"{\"\":0}", "[ ]", "{ }", "{ \"a\" : 1 , \"b\" : [ ] }",
	};

	for (size_t i = 0; i < COUNT(good); i++)
		accepts(good[i]);
}

TEST(what_is_not_json_is_refused)
{
	static const char *const flawed[][2] = {
		{ "", "too early" },	     { " ", "too early" },	   { "[", "too early" },
		{ "{", "must begin" },	     { "[1", "comma" },		   { "[1,", "too early" },
		{ "[1,]", "must begin" },    { "[,1]", "must begin" },	   { "{\"a\"", "colon" },
		{ "{\"a\":", "too early" },  { "{\"a\":1", "comma" },	   { "{\"a\":1,}", "quotes" },
		{ "{a:1}", "quotes" },	     { "{1:1}", "quotes" },	   { "[1}", "comma" },
		{ "{\"a\":1]", "comma" },    { "1 2", "follows" },	   { "{}x", "follows" },
		{ "nul", "must begin" },     { "True", "must begin" },	   { "NaN", "must begin" },
		{ "'a'", "must begin" },     { "// x\n1", "must begin" },  { "\xEF\xBB\xBF{}", "must begin" },
		{ "01", "follows" },	     { "-", "must begin" },	   { "+1", "must begin" },
		{ ".5", "must begin" },	     { "1.", "decimal point" },	   { "1.e5", "decimal point" },
		{ "1e", "exponent" },	     { "1e+", "exponent" },	   { "0x10", "follows" },
		{ "1e999", "too large" },    { "-1e309", "too large" },	   { "\"a", "does not end" },
		{ "\"a\\", "does not end" }, { "\"\\x41\"", "escape" },	   { "\"\\u12\"", "hex" },
		{ "\"\\u12g4\"", "hex" },    { "\"\\u0000\"", "u0000" },   { "\"\n\"", "control" },
		{ "\"\t\"", "control" },     { "\"\\ud800\"", "surrogate" },
		{ "\"\\udc00\"", "surrogate" }, { "\"\\ud800\\ud800\"", "surrogate" },
		{ "\"\\ud800\\n\"", "surrogate" }, { "\"\\ud800x\"", "surrogate" },
	};

	for (size_t i = 0; i < COUNT(flawed); i++)
		refuses(flawed[i][0], flawed[i][1]);
}

TEST(a_nul_byte_is_refused_everywhere)
{
	assert_int_equal(scan("\"a\0b\"", 5, NULL), -EINVAL);
	assert_int_equal(scan("{}\0", 3, NULL), -EINVAL);
	assert_int_equal(scan("\0{}", 3, NULL), -EINVAL);
	assert_int_equal(scan("[1,\0]", 5, NULL), -EINVAL);
}

TEST(only_well_formed_utf8_is_accepted)
{
	static const char *const flawed[] = {
		"\x80", "\xBF", "\xC0\xAF", "\xC1\xBF", "\xC2", "\xC2\x41", "\xE0\x9F\xBF", "\xE0\x80",
		"\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
		"\xFF", "\xE2\x82", "\xF0\x9F\x98", "\xF8\x88\x80\x80\x80",
	};
	static const char *const good[] = { "", "a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
					    "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
					    "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF" };
	char text[32];

	for (size_t i = 0; i < COUNT(flawed); i++) {
		assert_false(utf8_valid(flawed[i], strlen(flawed[i])));
		snprintf(text, sizeof(text), "\"%s\"", flawed[i]);
		refuses(text, "UTF-8");
		snprintf(text, sizeof(text), "{\"%s\":1}", flawed[i]);
		refuses(text, "UTF-8");
	}
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_true(utf8_valid(good[i], strlen(good[i])));
		snprintf(text, sizeof(text), "\"%s\"", good[i]);
		accepts(text);
	}
}

TEST(a_key_may_occur_once_however_it_is_spelled)
{
	refuses("{\"a\":1,\"a\":2}", "twice");
	refuses("{\"a\":1,\"b\":2,\"\\u0061\":3}", "twice");
	refuses("{\"\\/\":1,\"/\":2}", "twice");
	refuses("{\"\\n\":1,\"\\u000a\":2}", "twice");
	refuses("{\"\xF0\x9F\x98\x80\":1,\"\\ud83d\\ude00\":2}", "twice");
	refuses("{\"\xC3\xA4\":1,\"\\u00E4\":2}", "twice");
	refuses("{\"\xE2\x82\xAC\":1,\"\\u20ac\":2}", "twice");
	refuses("{\"\":1,\"\":2}", "twice");
	refuses("[{\"x\":{\"a\":1,\"b\":{\"a\":1},\"a\":1}}]", "twice");
	accepts("{\"a\":1,\"A\":2,\"aa\":3,\"b\":{\"a\":1}}");
}

TEST(a_repeated_key_among_many_is_found)
{
	for (unsigned twin = 0; twin < 300; twin += 13) {
		struct buf b;
		struct jw w;

		buf_init(&b);
		jw_init(&w, &b);
		jw_obj(&w);
		for (unsigned i = 0; i < 300; i++) {
			char key[16];

			snprintf(key, sizeof(key), "key%u", i * 7919 % 300);
			jw_key(&w, key);
			jw_obj(&w);
			jw_key(&w, "key1");
			jw_uint(&w, i);
			jw_end_obj(&w);
		}
		jw_end_obj(&w);
		assert_int_equal(scan(b.data, b.len, NULL), 0);
		b.len--;
		buf_addf(&b, ",\"ke\\u0079%u\":1}", twin);
		assert_int_equal(scan(b.data, b.len, NULL), -EINVAL);
		buf_finish(&b);
	}
}

TEST(nesting_ends_at_sixteen)
{
	accepts("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]");
	refuses("[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "deep");
	accepts("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":"
		"{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}}}}}}}}");
	refuses("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":"
		"{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}}}}}}}}}", "deep");
}

TEST(a_number_longer_than_cjson_reads_is_refused)
{
	char text[80];

	memset(text, '1', sizeof(text));
	text[63] = '\0';
	accepts(text);
	text[63] = '1';
	text[64] = '\0';
	refuses(text, "too long");
}

TEST(a_megabyte_of_keys_or_brackets_is_quick)
{
	size_t len = 1 << 20;
	char *text = malloc(len + 32);
	clock_t start = clock();
	struct buf b;

	memset(text, '[', len);
	assert_int_equal(json_scan(text, len, NULL), -EINVAL);
	free(text);

	buf_init(&b);
	buf_adds(&b, "{\"\":0");
	for (unsigned i = 0; b.len < len; i++)
		buf_addf(&b, ",\"%x\":0", i);
	buf_addc(&b, '}');
	assert_int_equal(json_scan(b.data, b.len, NULL), 0);
	buf_finish(&b);
	assert_true(clock() - start < CLOCKS_PER_SEC);
}

TEST(the_writer_puts_commas_and_escapes_by_itself)
{
	struct buf b;
	struct jw w;

	buf_init(&b);
	jw_init(&w, &b);
	jw_obj(&w);
	jw_key(&w, "a\"b");
	jw_arr(&w);
	jw_int(&w, INT64_MIN);
	jw_int(&w, -1);
	jw_uint(&w, UINT64_MAX);
	jw_dbl(&w, 0.1);
	jw_dbl(&w, 1.0 / 3);
	jw_dbl(&w, INFINITY);
	jw_dbl(&w, NAN);
	jw_bool(&w, true);
	jw_bool(&w, false);
	jw_null(&w);
	jw_str(&w, NULL);
	jw_arr(&w);
	jw_end_arr(&w);
	jw_obj(&w);
	jw_end_obj(&w);
	jw_end_arr(&w);
	jw_key(&w, "s");
	jw_str(&w, "\"\\\b\f\n\r\t\x01\x1f/\x7f\xC3\xA4");
	jw_key(&w, "n");
	jw_strn(&w, "cut here", 3);
	jw_end_obj(&w);
	assert_string_equal(buf_str(&b),
			    "{\"a\\\"b\":[-9223372036854775808,-1,18446744073709551615,0.1,"
			    "0.33333333333333331,null,null,true,false,null,null,[],{}],"
			    "\"s\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f/\x7f\xC3\xA4\",\"n\":\"cut\"}");
	assert_int_equal(scan(b.data, b.len, NULL), 0);
	buf_finish(&b);
}

TEST(a_byte_of_zero_is_escaped_like_others)
{
	struct buf b;
	struct jw w;

	buf_init(&b);
	jw_init(&w, &b);
	jw_strn(&w, "a\0b\0", 4);
	assert_string_equal(buf_str(&b), "\"a\\u0000b\\u0000\"");
	buf_finish(&b);
}
TEST(bytes_that_are_not_utf8_become_replacement_characters)
{
	struct buf b;
	struct jw w;

	buf_init(&b);
	jw_init(&w, &b);
	jw_str(&w, "a\xFF\xC3");
	assert_string_equal(buf_str(&b), "\"a\xEF\xBF\xBD\xEF\xBF\xBD\"");
	buf_reset(&b);
	jw_init(&w, &b);
	jw_str(&w, "\xE2\x82x");
	assert_string_equal(buf_str(&b), "\"\xEF\xBF\xBD\xEF\xBF\xBDx\"");
	buf_finish(&b);
}

TEST(whatever_is_written_is_strict_json)
{
	struct buf b;
	struct jw w;

	buf_init(&b);
	srand(3);
	for (int round = 0; round < 2000; round++) {
		char s[64];
		size_t n = (size_t)rand() % sizeof(s);

		for (size_t i = 0; i < n; i++) {
			s[i] = (char)(rand() % 3 ? rand() : 0x80 + rand() % 0x80);
			s[i] = s[i] ? s[i] : 'x';
		}
		buf_reset(&b);
		jw_init(&w, &b);
		jw_strn(&w, s, n);
		assert_int_equal(scan(b.data, b.len, NULL), 0);
	}
	buf_finish(&b);
}

TEST(every_failing_malloc_is_reported_and_nothing_leaks)
{
	char text[2048] = "{\"\\u0061\":1";

	for (int i = 0; i < 100; i++)
		snprintf(text + strlen(text), 16, ",\"k%d\":[]", i);
	strcat(text, "}");
	EACH_FAILING_MALLOC({
		struct err e = { 0 };
		cJSON *json = json_parse(text, strlen(text), &e);

		if (!json)
			assert_int_equal(e.code, -ENOMEM);
		cJSON_Delete(json);
	});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_forms_of_values_are_accepted),
		cmocka_unit_test(what_is_not_json_is_refused),
		cmocka_unit_test(a_nul_byte_is_refused_everywhere),
		cmocka_unit_test(only_well_formed_utf8_is_accepted),
		cmocka_unit_test(a_key_may_occur_once_however_it_is_spelled),
		cmocka_unit_test(a_repeated_key_among_many_is_found),
		cmocka_unit_test(nesting_ends_at_sixteen),
		cmocka_unit_test(a_number_longer_than_cjson_reads_is_refused),
		cmocka_unit_test(a_megabyte_of_keys_or_brackets_is_quick),
		cmocka_unit_test(the_writer_puts_commas_and_escapes_by_itself),
		cmocka_unit_test(a_byte_of_zero_is_escaped_like_others),
		cmocka_unit_test(bytes_that_are_not_utf8_become_replacement_characters),
		cmocka_unit_test(whatever_is_written_is_strict_json),
		cmocka_unit_test(every_failing_malloc_is_reported_and_nothing_leaks),
	};

	fail_malloc_cjson();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
