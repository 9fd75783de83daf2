/* test_hostlist.c - lists of node names are read, refused with a caret, and written short */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/hostlist.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)

static void expect_names(const char *text, const char *want)
{
	struct hostlist h;
	struct err e;
	struct buf b;

	buf_init(&b);
	if (hostlist_parse(text, &h, &e))
		fail_msg("%s: %s", text, e.text);
	for (size_t i = 0; i < h.count; i++) {
		assert_true(node_name_valid(h.names[i]));
		buf_addf(&b, "%s%s", i ? " " : "", h.names[i]);
	}
	assert_string_equal(buf_str(&b), want);
	hostlist_finish(&h);
	buf_finish(&b);
}

/* The first bad byte is number 'at'. */
static void expect_flaw(const char *text, int code, size_t at, const char *what)
{
	struct hostlist h = { .count = 77 };
	struct err e;
	char *list, *caret;

	assert_int_equal(hostlist_parse(text, &h, &e), code);
	assert_int_equal(h.count, 77);
	list = strchr(e.text, '\n');
	assert_non_null(list);
	caret = strchr(++list, '\n');
	assert_non_null(caret);
	caret++;
	assert_non_null(strstr(e.text, what));
	assert_int_equal(strspn(caret, " "), at);
	assert_string_equal(caret + at, "^");
}

TEST(names_ranges_and_several_groups_expand_in_order)
{
	expect_names("login", "login");
	expect_names("b,a", "b a");
	expect_names("gpu[1-3]", "gpu1 gpu2 gpu3");
	expect_names("gpu[01-03,20],login", "gpu01 gpu02 gpu03 gpu20 login");
	expect_names("r[1-2]n[01-02]", "r1n01 r1n02 r2n01 r2n02");
	expect_names("[1-2]x[3,5]-ib.cluster_1", "1x3-ib.cluster_1 1x5-ib.cluster_1 "
						 "2x3-ib.cluster_1 2x5-ib.cluster_1");
	expect_names("n[7]", "n7");
}

TEST(zero_padding_is_kept)
{
	expect_names("n[08-11]", "n08 n09 n10 n11");
	expect_names("n[8-11]", "n8 n9 n10 n11");
	expect_names("n[0-2]", "n0 n1 n2");
	expect_names("n[00-02]", "n00 n01 n02");
	expect_names("n[007,7]", "n007 n7");
	expect_names("n[099-101]", "n099 n100 n101");
}

TEST(a_name_that_occurs_twice_counts_at_its_first_place)
{
	expect_names("b,a,b", "b a");
	expect_names("n[2-3],n[1-4]", "n2 n3 n1 n4");
	expect_names("n1,n01", "n1 n01");
	expect_names("a,a,a,a", "a");
}

TEST(a_caret_stands_under_the_first_bad_byte)
{
	expect_flaw(",a", -EINVAL, 0, "missing");
	expect_flaw("a,,b", -EINVAL, 2, "missing");
	expect_flaw("a,", -EINVAL, 2, "missing");
	expect_flaw("a b", -EINVAL, 1, "white space");
	expect_flaw("gpU1", -EINVAL, 2, "lower-case");
	expect_flaw("-a", -EINVAL, 0, "begins with");
	expect_flaw("a,.b", -EINVAL, 2, "begins with");
	expect_flaw("a/b", -EINVAL, 1, "only");
	expect_flaw("a\xC3\xA4", -EINVAL, 1, "only");
	expect_flaw("a]", -EINVAL, 1, "no [");
	expect_flaw("a[", -EINVAL, 2, "missing");
	expect_flaw("a[1", -EINVAL, 3, "missing");
	expect_flaw("a[]", -EINVAL, 2, "number");
	expect_flaw("a[1,]", -EINVAL, 4, "number");
	expect_flaw("a[1-]", -EINVAL, 4, "number");
	expect_flaw("a[1-2-3]", -EINVAL, 5, "comma");
	expect_flaw("a[1[2]]", -EINVAL, 3, "comma");
	expect_flaw("a[3-1]", -EINVAL, 4, "backwards");
	expect_flaw("a[01-100]", -EINVAL, 5, "width");
	expect_flaw("a[1-02]", -EINVAL, 4, "width");
	expect_flaw("a[1234567890123456789]", -EINVAL, 2, "too long");
}

TEST(a_long_list_is_cut_around_the_place)
{
	char text[400];
	struct hostlist h;
	struct err e;
	char *list, *caret;

	for (size_t at = 0; at < 300; at++) {
		for (size_t i = 0; i < 300; i++)
			text[i] = i % 10 == 9 ? ',' : 'a';
		strcpy(text + 299, "z");
		text[at] = '!';
		assert_int_equal(hostlist_parse(text, &h, &e), -EINVAL);
		list = strchr(e.text, '\n') + 1;
		caret = strchr(list, '\n') + 1;
		assert_int_equal(caret - list - 1, 60);
		assert_int_equal(list[strlen(caret) - 1], '!');
	}
}

TEST(too_many_names_are_refused_before_memory_is_taken)
{
	expect_flaw("n[0-999999999]", -E2BIG, 0, "65536");
	expect_flaw("a,n[0-65535]", -E2BIG, 2, "65536");
	expect_flaw("a[0-999999999999999999]b[0-999999999999999999]", -E2BIG, 0, "65536");
	expect_flaw("[1-99][1-99][1-99][1-99][1-99][1-99][1-99][1-99]", -E2BIG, 0, "65536");
	expect_flaw("[0-999999999999999999,0-999999999999999999]", -E2BIG, 0, "65536");
	fail_malloc_at(0);
	expect_flaw("n[0-999999999]", -E2BIG, 0, "65536");
	assert_false(fail_malloc_off());
}

TEST(exactly_the_limit_is_allowed)
{
	struct hostlist h;

	assert_int_equal(hostlist_parse("n[0-65535]", &h, NULL), 0);
	assert_int_equal(h.count, 65536);
	assert_true(hostlist_has(&h, "n65535"));
	assert_false(hostlist_has(&h, "n65536"));
	hostlist_sort(&h);
	assert_true(hostlist_has_sorted(&h, "n65535") && hostlist_has_sorted(&h, "n1") && hostlist_has_sorted(&h, "n999"));
	assert_false(hostlist_has_sorted(&h, "n65536") || hostlist_has_sorted(&h, "a") || hostlist_has_sorted(&h, "z"));
	hostlist_finish(&h);
}

TEST(a_name_has_at_most_64_characters)
{
	char text[80] = { 0 };
	struct hostlist h;

	memset(text, 'a', 64);
	assert_true(node_name_valid(text));
	expect_names(text, text);
	strcpy(text + 63, "[1-10]");
	assert_int_equal(hostlist_parse(text, &h, NULL), -EINVAL);
	strcpy(text + 63, "[9]");
	text[62] = 'b';
	assert_int_equal(hostlist_parse(text, &h, NULL), 0);
	assert_int_equal(strlen(h.names[0]), 64);
	hostlist_finish(&h);
}

TEST(node_names_are_checked)
{
	char text[66] = { 0 };

	assert_true(node_name_valid("a"));
	assert_true(node_name_valid("0"));
	assert_true(node_name_valid("gpu-01.rack_2"));
	assert_false(node_name_valid(NULL));
	assert_false(node_name_valid(""));
	assert_false(node_name_valid(".."));
	assert_false(node_name_valid("-a"));
	assert_false(node_name_valid("A"));
	assert_false(node_name_valid("a/b"));
	assert_false(node_name_valid("a\n"));
	memset(text, 'a', 65);
	assert_false(node_name_valid(text));
}

TEST(digits_in_names_compare_as_numbers)
{
	assert_true(node_name_cmp("gpu2", "gpu10") < 0);
	assert_true(node_name_cmp("gpu10", "gpu2") > 0);
	assert_true(node_name_cmp("a1b2", "a1b10") < 0);
	assert_true(node_name_cmp("a", "b") < 0);
	assert_true(node_name_cmp("a", "a1") < 0);
	assert_true(node_name_cmp("a01", "a1") < 0);
	assert_true(node_name_cmp("a1", "a01") > 0);
	assert_true(node_name_cmp("a01b2", "a1b1") > 0);
	assert_int_equal(node_name_cmp("a1", "a1"), 0);
	assert_true(node_name_cmp("n99999999999999999999998", "n99999999999999999999999") < 0);
}

static void expect_format(const char *list, const char *want)
{
	char copy[256], *names[64], *text;
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", list);
	for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
		names[n++] = p;
	text = hostlist_format((const char *const *)names, n);
	assert_string_equal(text, want);
	free(text);
}

TEST(names_are_written_short_and_in_natural_order)
{
	expect_format("", "");
	expect_format("a", "a");
	expect_format("gpu1 gpu2 gpu3 a", "a,gpu[1-3]");
	expect_format("gpu10 gpu9 gpu8", "gpu[8-10]");
	expect_format("gpu08 gpu09 gpu10", "gpu[08-10]");
	expect_format("gpu1 gpu3 gpu4 gpu9", "gpu[1,3-4,9]");
	expect_format("gpu1 gpu1 gpu1", "gpu1");
	expect_format("r1n1 r1n2 r1n3 r2n1 r2n2 r2n3", "r1n[1-3],r2n[1-3]");
	expect_format("g1-ib g2-ib g3-ib g1 g2 g3", "g[1-3],g[1-3]-ib");
	expect_format("node98 node99 node100 node101", "node[98-101]");
	expect_format("n1 n2", "n1,n2"); /* shorter than n[1-2] */
	expect_format("gpu1 gpu2", "gpu[1-2]");
	expect_format("gpu1 gpu2 gpu01 gpu02", "gpu[1-2,01-02]");
	expect_format("n99999999999999999998 n99999999999999999999",
		      "n99999999999999999998,n99999999999999999999");
}

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Random sets of names come back from their own text. */
TEST(what_is_written_reads_back_as_the_same_set)
{
	srand(7);
	for (int round = 0; round < 500; round++) {
		static const char *const heads[] = { "n", "gpu", "r1-n", "" };
		char store[40][32], *names[40], *text;
		struct hostlist back;
		size_t n = 1 + (size_t)rand() % 40, unique = 0;

		for (size_t i = 0; i < n; i++) {
			snprintf(store[i], sizeof(store[i]), "%s%0*d%s", heads[rand() % 4],
				 rand() % 3, rand() % 30, rand() % 4 ? "" : "-ib");
			names[i] = store[i];
		}
		text = hostlist_format((const char *const *)names, n);
		assert_int_equal(hostlist_parse(text, &back, NULL), 0);
		qsort(names, n, sizeof(*names), name_cmp);
		for (size_t i = 0; i < n; i++) {
			assert_true(hostlist_has(&back, names[i]));
			unique += i == 0 || strcmp(names[i], names[i - 1]) != 0;
		}
		assert_int_equal(back.count, unique);
		hostlist_finish(&back);
		free(text);
	}
}

TEST(every_failing_malloc_is_reported_and_nothing_leaks)
{
	EACH_FAILING_MALLOC({
		struct hostlist h;
		struct err e;
		int rc = hostlist_parse("r[1-3]n[01-04],a,r1n01", &h, &e);

		if (rc == 0)
			hostlist_finish(&h);
		else
			assert_int_equal(rc, -ENOMEM);
	});
	EACH_FAILING_MALLOC({
		static const char *const names[] = { "gpu1", "gpu2", "gpu3", "login" };

		free(hostlist_format(names, 4));
	});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_ranges_and_several_groups_expand_in_order),
		cmocka_unit_test(zero_padding_is_kept),
		cmocka_unit_test(a_name_that_occurs_twice_counts_at_its_first_place),
		cmocka_unit_test(a_caret_stands_under_the_first_bad_byte),
		cmocka_unit_test(a_long_list_is_cut_around_the_place),
		cmocka_unit_test(too_many_names_are_refused_before_memory_is_taken),
		cmocka_unit_test(exactly_the_limit_is_allowed),
		cmocka_unit_test(a_name_has_at_most_64_characters),
		cmocka_unit_test(node_names_are_checked),
		cmocka_unit_test(digits_in_names_compare_as_numbers),
		cmocka_unit_test(names_are_written_short_and_in_natural_order),
		cmocka_unit_test(what_is_written_reads_back_as_the_same_set),
		cmocka_unit_test(every_failing_malloc_is_reported_and_nothing_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
