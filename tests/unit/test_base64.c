/* test_base64.c - base64 and hex have one spelling for each value */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/base64.h"

#define TEST(name) static void name(void **state)

TEST(known_pairs_encode_and_decode)
{
	static const char *const pairs[][2] = {
		{ "", "" },	    { "f", "Zg==" },	    { "fo", "Zm8=" },
		{ "foo", "Zm9v" },  { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" },
		{ "\xFF\xEF\xBE", "/+++" },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		uint8_t out[16];
		struct buf b;
		long n;

		buf_init(&b);
		base64_encode(&b, pairs[i][0], strlen(pairs[i][0]));
		assert_string_equal(buf_str(&b), pairs[i][1]);
		n = base64_decode(b.data, b.len, out);
		assert_int_equal(n, strlen(pairs[i][0]));
		assert_memory_equal(out, pairs[i][0], (size_t)n);
		buf_finish(&b);
	}
}

TEST(all_lengths_and_bytes_survive_the_round_trip)
{
	uint8_t bytes[256], out[300];
	struct buf b;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	buf_init(&b);
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		buf_reset(&b);
		base64_encode(&b, bytes + sizeof(bytes) - n, n);
		assert_int_equal(base64_decode(b.data, b.len, out), n);
		assert_memory_equal(out, bytes + sizeof(bytes) - n, n);
	}
	buf_finish(&b);
}

TEST(everything_else_is_refused)
{
	static const char *const flawed[] = {
		"Z",	    "Zg",	"Zg=",	    "Zg===",	"=",	    "====",	"Z===",
		"Zh==", /* unused bits */
		"Zm9=", /* unused bits */
		"Zg==Zg==", /* padding in the middle */
		"Zm9v\n",   "Zm9 ",	"Zm9-",	    "Zm9_",	"Z=g=",	    "Zm=v",
	};
	uint8_t out[16];

	for (size_t i = 0; i < sizeof(flawed) / sizeof(flawed[0]); i++)
		assert_int_equal(base64_decode(flawed[i], strlen(flawed[i]), out), -EINVAL);
	assert_int_equal(base64_decode("Zm\0v", 4, out), -EINVAL);
}

TEST(hex_takes_both_cases_and_the_exact_length)
{
	uint8_t out[4] = { 0 };
	char text[9];

	hex_encode(text, "\x00\x9f\xa0\xff", 4);
	assert_string_equal(text, "009fa0ff");
	assert_int_equal(hex_decode("009FA0ff", out, 4), 0);
	assert_memory_equal(out, "\x00\x9f\xa0\xff", 4);
	assert_int_equal(hex_decode("009fa0f", out, 4), -EINVAL);
	assert_int_equal(hex_decode("009fa0ff0", out, 4), -EINVAL);
	assert_int_equal(hex_decode("009fa0fg", out, 4), -EINVAL);
	assert_int_equal(hex_decode("", out, 4), -EINVAL);
	assert_int_equal(hex_decode("", out, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_pairs_encode_and_decode),
		cmocka_unit_test(all_lengths_and_bytes_survive_the_round_trip),
		cmocka_unit_test(everything_else_is_refused),
		cmocka_unit_test(hex_takes_both_cases_and_the_exact_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
