/* test_out.c - one document, two renderings */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client/out.h"
#include "client/render.h"
#include "client/term.h"
#include "common/json.h"

#define TEST(name) static void name(void **state)

static struct buf b;

static int setup(void **state)
{
	buf_init(&b);
	return 0;
}

static int teardown(void **state)
{
	buf_finish(&b);
	return 0;
}

static void row(struct out *o, const char *name, const char *note, uint64_t age)
{
	out_start(o, NULL, OUT_ROW);
	out_str(o, "name", "NODE", name);
	out_uint(o, "age_s", NULL, age);
	out_cell(o, "AGE", OUT_RIGHT, OUT_PLAIN, "%us", (unsigned)age);
	out_attr(o, &(struct out_attr){ .key = "note", .title = "NOTE", .kind = OUT_STR, .s = note,
					.flags = OUT_SHRINK });
	out_end(o);
}

static void document(struct out *o)
{
	out_start(o, NULL, OUT_OBJECT);
	out_data(o, NULL, "lab: 2 nodes");
	out_start(o, "nodes", OUT_TABLE);
	row(o, "gpu01", "", 2);
	row(o, "\xe8\xae\xad\xe7\xbb\x83", "a note that is rather long, longer than the line", 135);
	out_end(o);
	out_start(o, "attention", OUT_LINES);
	out_data(o, NULL, "something is wrong with the second node");
	out_end(o);
	out_end(o);
	out_destroy(o);
}

TEST(text_is_a_headline_a_table_and_attention)
{
	document(out_text_create(&b, 36, false));
	assert_string_equal(buf_str(&b), "lab: 2 nodes\n\n"
					 "NODE    AGE  NOTE\n"
					 "gpu01    2s\n"
					 "\xe8\xae\xad\xe7\xbb\x83   135s  a note that is rather..\n\n"
					 "! something is wrong with the second\n"
					 "  node\n");
}

TEST(json_is_one_line_with_the_same_content)
{
	struct err e;

	document(out_json_create(&b));
	assert_string_equal(buf_str(&b),
			    "{\"nodes\":[{\"name\":\"gpu01\",\"age_s\":2,\"note\":\"\"},"
			    "{\"name\":\"\xe8\xae\xad\xe7\xbb\x83\",\"age_s\":135,\"note\":\"a note that is rather long, "
			    "longer than the line\"}],"
			    "\"attention\":[\"something is wrong with the second node\"]}\n");
	assert_int_equal(json_scan(b.data, b.len - 1, &e), 0);
}

TEST(colour_is_only_added_where_it_is_wanted)
{
	struct out *o = out_text_create(&b, 80, true);

	out_start(o, NULL, OUT_OBJECT);
	out_start(o, "t", OUT_TABLE);
	out_start(o, NULL, OUT_ROW);
	out_attr(o, &(struct out_attr){ .title = "S", .kind = OUT_STR, .s = "ok", .tone = OUT_GOOD });
	out_end(o);
	out_end(o);
	out_end(o);
	out_destroy(o);
	assert_non_null(strstr(buf_str(&b), "\033[32mok\033[0m"));
}

TEST(no_line_is_wider_than_asked_for)
{
	for (unsigned width = 20; width < 100; width++) {
		char *line, *save = NULL;

		buf_reset(&b);
		document(out_text_create(&b, width, false));
		buf_str(&b);
		for (line = strtok_r(b.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
			assert_true(term_width(line) <= width);
	}
}

static void wide_table(struct out *o)
{
	out_start(o, NULL, OUT_OBJECT);
	out_start(o, "t", OUT_TABLE);
	out_start(o, NULL, OUT_ROW);
	out_cell(o, "NODE", OUT_SHRINK, OUT_PLAIN, "gpu01");
	out_cell(o, "LID", OUT_SPARE, OUT_PLAIN, "1234567");
	out_cell(o, "STATE", 0, OUT_PLAIN, "Active");
	out_cell(o, "FW", OUT_SPARE, OUT_PLAIN, "20.38.1002");
	out_cell(o, "NOTE", OUT_SHRINK, OUT_PLAIN, "sixteen letters!");
	out_end(o);
	out_end(o);
	out_end(o);
	out_destroy(o);
}

TEST(a_text_with_hardly_any_room_goes_below)
{
	struct out *o = out_text_create(&b, 30, false);

	out_start(o, NULL, OUT_OBJECT);
	out_start(o, "checks", OUT_TABLE);
	out_start(o, NULL, OUT_ROW);
	out_cell(o, "VERDICT", 0, OUT_PLAIN, "BAD");
	out_cell(o, "CHECK", 0, OUT_PLAIN, "ib.fw_mismatch");
	out_cell(o, "", OUT_WRAP, OUT_PLAIN, "another firmware than that of its like");
	out_end(o);
	out_end(o);
	out_end(o);
	out_destroy(o);
	assert_string_equal(buf_str(&b), "VERDICT  CHECK\n"
					 "BAD      ib.fw_mismatch\n"
					 "    another firmware than that\n"
					 "    of its like\n");
}

TEST(columns_that_can_be_spared_go_first_from_the_right)
{
	static const struct {
		unsigned columns;
		const char *want;
	} cases[] = {
		{ 52, "NODE   LID      STATE   FW          NOTE\n"
		      "gpu01  1234567  Active  20.38.1002  sixteen letters!\n" },
		{ 51, "NODE   LID      STATE   NOTE\ngpu01  1234567  Active  sixteen letters!\n" },
		{ 39, "NODE   STATE   NOTE\ngpu01  Active  sixteen letters!\n" },
		{ 30, "NODE   STATE   NOTE\ngpu01  Active  sixteen lette..\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_reset(&b);
		wide_table(out_text_create(&b, cases[i].columns, false));
		assert_string_equal(buf_str(&b), cases[i].want);
	}
}

static void nested(struct out *o)
{
	out_start(o, NULL, OUT_OBJECT);
	out_start(o, "gpus", OUT_TABLE);
	for (unsigned i = 0; i < 2; i++) {
		out_start(o, NULL, OUT_ROW);
		out_uint(o, "index", "GPU", i);
		out_start(o, "processes", OUT_TABLE);
		out_start(o, NULL, OUT_ROW);
		out_uint(o, "pid", "PID", 7);
		out_data(o, "text", "a word");
		out_end(o);
		out_end(o);
		out_num(o, "power_w", "POWER", 61.5);
		out_null(o, "job");
		out_end(o);
	}
	out_end(o);
	out_end(o);
	out_destroy(o);
}

TEST(what_stands_within_a_row_is_for_programs_only)
{
	nested(out_text_create(&b, 80, false));
	assert_string_equal(buf_str(&b), "GPU  POWER\n0    61.5\n1    61.5\n");
	buf_reset(&b);
	nested(out_json_create(&b));
	assert_string_equal(buf_str(&b),
			    "{\"gpus\":[{\"index\":0,\"processes\":[{\"pid\":7,\"text\":\"a word\"}],\"power_w\":61.5,"
			    "\"job\":null},{\"index\":1,\"processes\":[{\"pid\":7,\"text\":\"a word\"}],\"power_w\":61.5,"
			    "\"job\":null}]}\n");
}

static const char *line(unsigned columns, bool colour, const char *text)
{
	struct out *o;

	buf_reset(&b);
	o = out_text_create(&b, columns, colour);
	out_start(o, NULL, OUT_OBJECT);
	out_start(o, "attention", OUT_LINES);
	out_line(o, OUT_BAD, text);
	out_end(o);
	out_end(o);
	out_destroy(o);
	return buf_str(&b);
}

TEST(a_clause_is_not_torn_when_it_fits_a_line)
{
	const char *text = "gpu03: no manager  fix: restart opensm";

	assert_string_equal(line(40, false, text), "! gpu03: no manager  fix: restart opensm\n");
	assert_string_equal(line(39, false, text), "! gpu03: no manager\n  fix: restart opensm\n");
	assert_string_equal(line(20, false, text), "! gpu03: no manager\n  fix: restart\n  opensm\n");
	assert_string_equal(line(24, false, "a long first clause here  b  c"),
			    "! a long first clause\n  here  b  c\n");
	assert_string_equal(line(40, true, "x  y"), "\033[1;31m!\033[0m x  y\n");
	assert_string_equal(line(40, true, ""), "\n");
}

TEST(pairs_go_on_under_their_values)
{
	struct out *o = out_text_create(&b, 24, false);

	out_start(o, NULL, OUT_OBJECT);
	out_str(o, NULL, "job", "18");
	out_str(o, NULL, "command", "python train.py --lr 0.1");
	out_end(o);
	out_destroy(o);
	assert_string_equal(buf_str(&b), "job      18\ncommand  python train.py\n         --lr 0.1\n");
}

TEST(names_from_elsewhere_cannot_drive_the_terminal)
{
	struct out *o = out_text_create(&b, 80, false);

	out_start(o, NULL, OUT_OBJECT);
	out_data(o, NULL, "\033]0;evil\007");
	out_str(o, NULL, "name", "x\033[2Jy");
	out_end(o);
	out_destroy(o);
	assert_null(strchr(buf_str(&b), '\033'));
}

TEST(absent_values_are_null_and_a_dash)
{
	struct out *o = out_json_create(&b);

	out_start(o, NULL, OUT_OBJECT);
	out_str(o, "a", "a", NULL);
	out_nums(o, "jobs", "jobs", (const char *const[]){ "18446744073709551615", "2" }, 2);
	out_bool(o, "yes", NULL, true);
	out_end(o);
	out_destroy(o);
	assert_string_equal(buf_str(&b), "{\"a\":null,\"jobs\":[18446744073709551615,2],\"yes\":true}\n");
}

TEST(a_stream_is_a_document_a_line)
{
	struct out *o = out_json_create(&b);

	for (int i = 0; i < 2; i++) {
		out_start(o, NULL, OUT_OBJECT);
		out_int(o, "i", NULL, -i);
		out_end(o);
	}
	out_destroy(o);
	assert_string_equal(buf_str(&b), "{\"i\":0}\n{\"i\":-1}\n");
}

TEST(out_of_memory_is_survived)
{
	document(NULL);
	assert_int_equal(b.len, 0);
}

static const char *age(uint64_t ms)
{
	buf_reset(&b);
	render_age(&b, ms);
	return buf_str(&b);
}

static const char *duration(uint64_t ms)
{
	buf_reset(&b);
	render_duration(&b, ms);
	return buf_str(&b);
}

TEST(times_are_short)
{
	assert_string_equal(age(1999), "1s");
	assert_string_equal(age(180000), "3m");
	assert_string_equal(age(4 * 3600000), "4h");
	assert_string_equal(age(UINT64_C(5) * 86400000), "5d");
	assert_string_equal(duration(340), "0.3s");
	assert_string_equal(duration(42000), "42s");
	assert_string_equal(duration(372000), "6m12s");
	assert_string_equal(duration(11400000), "3h10m");
	assert_string_equal(duration(UINT64_C(52) * 3600000), "2d4h");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(text_is_a_headline_a_table_and_attention),
		T(json_is_one_line_with_the_same_content),
		T(colour_is_only_added_where_it_is_wanted),
		T(no_line_is_wider_than_asked_for),
		T(a_text_with_hardly_any_room_goes_below),
		T(columns_that_can_be_spared_go_first_from_the_right),
		T(what_stands_within_a_row_is_for_programs_only),
		T(a_clause_is_not_torn_when_it_fits_a_line),
		T(pairs_go_on_under_their_values),
		T(names_from_elsewhere_cannot_drive_the_terminal),
		T(absent_values_are_null_and_a_dash),
		T(a_stream_is_a_document_a_line),
		T(out_of_memory_is_survived),
		T(times_are_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
