/* test_trainer.c - would a restart of this training begin at step 0? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/trainer.h"
#include "common/json.h"

#define TEST(name) static void name(void **state)
#define ARGV(...) ((char *const[]){ __VA_ARGS__, NULL })

static struct buf said;

static int setup(void **state)
{
	buf_init(&said);
	return 0;
}

static int teardown(void **state)
{
	buf_finish(&said);
	return 0;
}

static size_t judge(const char *yaml, char *const *more)
{
	struct trainer t = { 0 };
	struct err e;

	buf_reset(&said);
	assert_int_equal(trainer_read(&t, yaml, strlen(yaml), &e), 0);
	if (more)
		trainer_arguments(&t, more, true);
	return trainer_judge(&t, "conf.yaml", &said);
}

static void assert_said(const char *text)
{
	if (strcmp(buf_str(&said), text) != 0)
		fail_msg("said: %s", buf_str(&said));
}

TEST(a_training_that_goes_on_by_itself_is_let_pass)
{
	assert_int_equal(judge("stage: sft\noutput_dir: a\nsave_steps: 100\nmax_steps: 1000\n", NULL), 0);
	assert_int_equal(judge("", NULL), 0);
	assert_int_equal(judge("overwrite_output_dir: false\nsave_only_model: no\n", NULL), 0);
	assert_int_equal(judge("overwrite_output_dir: true\nresume_from_checkpoint: true\n", NULL), 0);
	assert_int_equal(judge("save_steps: 0.1\nmax_steps: 5\n", NULL), 0); /* a tenth of them */
	assert_int_equal(judge("save_strategy: epoch\nsave_steps: 500\nmax_steps: 100\n", NULL), 0);
	assert_int_equal(judge("do_train: false\noverwrite_output_dir: true\n", NULL), 0);
}

TEST(each_reason_is_told_with_its_line_and_a_remedy)
{
	assert_int_equal(judge("stage: sft\n\noverwrite_output_dir: true\n", NULL), 1);
	assert_said("a restart would begin at step 0: overwrite_output_dir: true in conf.yaml:3 (checkpoints in output_dir "
		    "are not looked for); set it to false, or leave out --max-restarts\n");
	assert_int_equal(judge("save_only_model: True", NULL), 1);
	assert_said("a restart would begin at step 0: save_only_model: True in conf.yaml:1 (no optimizer state is saved); "
		    "set it to false, or leave out --max-restarts\n");
	assert_int_equal(judge("save_strategy: no", NULL), 1);
	assert_non_null(strstr(buf_str(&said), "save_strategy: no in conf.yaml:1 (no checkpoint is saved)"));
	assert_int_equal(judge("save_strategy: 'no'", NULL), 1);
	assert_int_equal(judge("save_steps: 500\nmax_steps: 300", NULL), 1);
	assert_non_null(strstr(buf_str(&said), "save_steps: 500 in conf.yaml:1 (no checkpoint is saved before"));
	assert_int_equal(judge("max_steps: 300", NULL), 1);
	assert_non_null(strstr(buf_str(&said), "step 500, the default of save_steps"));
	assert_int_equal(judge("resume_from_checkpoint: a/checkpoint-5\noverwrite_output_dir: yes", NULL), 1);
	assert_int_equal(strncmp(buf_str(&said), "each restart would begin at this checkpoint again: ", 51), 0);
	assert_int_equal(judge("resume_from_checkpoint: false", NULL), 1);
	assert_int_equal(judge("stage: ppo\nfinetuning_type: full", NULL), 1);
	assert_int_equal(judge("stage: ppo\nfinetuning_type: lora", NULL), 0);
}

TEST(all_reasons_are_told)
{
	assert_int_equal(judge("overwrite_output_dir: true\nsave_only_model: true\nsave_strategy: steps\n"
			       "save_steps: 1000\nmax_steps: 10\n", NULL), 3);
	assert_non_null(strstr(buf_str(&said), "conf.yaml:1 "));
	assert_non_null(strstr(buf_str(&said), "conf.yaml:2 "));
	assert_non_null(strstr(buf_str(&said), "conf.yaml:4 "));
}

TEST(what_stands_behind_the_file_wins)
{
	assert_int_equal(judge("overwrite_output_dir: true\n", ARGV("overwrite_output_dir=false")), 0);
	assert_int_equal(judge("overwrite_output_dir: false\n", ARGV("x=1", "overwrite_output_dir=true")), 1);
	assert_non_null(strstr(buf_str(&said), "overwrite_output_dir: true on the command line ("));
	assert_int_equal(judge("save_only_model: true\n", ARGV("save_only_model=")), 0); /* null */
}

TEST(values_are_what_yaml_makes_of_them)
{
	assert_int_equal(judge("overwrite_output_dir: 'false'\n", NULL), 1); /* a string, and true for Python */
	assert_int_equal(judge("overwrite_output_dir: on\n", NULL), 1);
	assert_int_equal(judge("overwrite_output_dir: ~\n", NULL), 0);
	assert_int_equal(judge("overwrite_output_dir: ${oc.env:X}\n", NULL), 0); /* not known here */
	assert_int_equal(judge("a: &a true\noverwrite_output_dir: *a\n", NULL), 0); /* neither */
	assert_int_equal(judge("overwrite_output_dir: true\noverwrite_output_dir: [1]\n", NULL), 0);
	assert_int_equal(judge("x: {overwrite_output_dir: true}\ny: [save_only_model, {save_only_model: true}]\n", NULL), 0);
	assert_int_equal(judge("{\"overwrite_output_dir\": true}", NULL), 1);
	assert_int_equal(judge("a: 1\n---\noverwrite_output_dir: true\n", NULL), 0); /* a second document */
	assert_int_equal(judge("- overwrite_output_dir\n- true\n", NULL), 0);
	assert_int_equal(judge("overwrite_output_dir\n", NULL), 0);
}

TEST(what_is_no_yaml_is_named_with_its_line)
{
	struct trainer t = { 0 };
	const char *bad = "a: 1\nb: [1, 2\nc: }\n";
	struct err e;

	assert_int_equal(trainer_read(&t, bad, strlen(bad), &e), -EINVAL);
	assert_int_equal(strncmp(e.text, "line 3: ", 8), 0);
	assert_int_equal(trainer_read(&t, "\xff\xfe\xff", 3, &e), -EINVAL);
	assert_int_equal(strncmp(e.text, "line ", 5), 0);
}

TEST(bytes_that_are_no_text_are_named_with_their_line)
{
	const char *gbk = "a: 1\n# \xc4\xe3\nb: 2\n";
	struct trainer t = { 0 };
	struct err e;

	assert_int_equal(trainer_read(&t, gbk, strlen(gbk), &e), -EINVAL);
	assert_int_equal(strncmp(e.text, "line 2: ", 8), 0);
}

/* libyaml would take a minute and a half for this. */
TEST(a_file_of_brackets_takes_no_time)
{
	struct trainer t = { 0 };
	char *text = malloc(TRAINER_FILE_MAX);
	struct err e;

	assert_non_null(text);
	memset(text, '{', TRAINER_FILE_MAX);
	alarm(20);
	assert_int_equal(trainer_read(&t, text, TRAINER_FILE_MAX, &e), -E2BIG);
	memset(text, ' ', TRAINER_FILE_MAX);
	for (size_t i = 0; i + 8 < TRAINER_FILE_MAX; i += 8)
		memcpy(text + i, "{a: }{}\n", 8);
	trainer_read(&t, text, TRAINER_FILE_MAX, &e);
	alarm(0);
	free(text);
}

TEST(a_value_is_told_in_one_line_of_whole_characters)
{
	char yaml[200];

	assert_int_equal(judge("save_only_model: \"a\\nb\\e[2Jc\"\n", NULL), 1);
	assert_non_null(strstr(buf_str(&said), "save_only_model: a?b?[2Jc in conf.yaml:1"));
	assert_ptr_equal(strchr(buf_str(&said), '\n'), buf_str(&said) + said.len - 1);
	snprintf(yaml, sizeof yaml, "save_only_model: xx");
	for (size_t n = strlen(yaml); n + 2 < sizeof yaml; n += 2)
		memcpy(yaml + n, "\xc3\xa4", 3); /* 126 bytes end within one */
	assert_int_equal(judge(yaml, NULL), 1);
	assert_true(utf8_valid(buf_str(&said), said.len));
}

TEST(aliases_are_never_followed)
{
	struct trainer t = { 0 };
	struct buf b;
	struct err e;

	buf_init(&b);
	buf_adds(&b, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
	for (int i = 1; i < 40; i++)
		buf_addf(&b, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1, i - 1,
			 i - 1, i - 1, i - 1);
	buf_adds(&b, "save_only_model: true\n");
	assert_int_equal(trainer_read(&t, b.data, b.len, &e), 0);
	assert_int_equal(t.v[TK_ONLY_MODEL].line, 41);
	buf_finish(&b);
}

TEST(trainers_are_found_in_the_command_line)
{
	assert_int_equal(trainer_find(ARGV("llamafactory-cli", "train", "a.yaml")), 2);
	assert_int_equal(trainer_find(ARGV("/opt/env/bin/llamafactory-cli", "train", "a.yaml")), 2);
	assert_int_equal(trainer_find(ARGV("env", "A=1", "lmf", "train", "a.yaml")), 4);
	assert_int_equal(trainer_find(ARGV("python", "-m", "llamafactory.cli", "train", "a.yaml")), 4);
	assert_int_equal(trainer_find(ARGV("torchrun", "--nnodes", "2", "src/train.py", "a.json")), 4);
	assert_int_equal(trainer_find(ARGV("llamafactory-cli", "export", "a.yaml")), 0);
	assert_int_equal(trainer_find(ARGV("torchrun", "train.py", "--lr", "1")), 0);
	assert_int_equal(trainer_find(ARGV("llamafactory-cli")), 0);
}

TEST(options_in_place_of_a_file_are_read_too)
{
	buf_reset(&said);
	assert_int_equal(trainer_warn(ARGV("llamafactory-cli", "train", "--stage", "sft", "--overwrite_output_dir", "--save_steps",
					   "5"), "/", &said), 1);
	assert_non_null(strstr(buf_str(&said), "overwrite_output_dir: true on the command line"));
	assert_int_equal(trainer_warn(ARGV("llamafactory-cli", "train", "--overwrite_output_dir", "False",
					   "--save_only_model=true"), "/", &said), 1);
	assert_int_equal(trainer_warn(ARGV("llamafactory-cli", "train"), "/", &said), 0);
}

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

TEST(the_file_is_read_from_the_jobs_directory_and_what_cannot_be_read_is_left_alone)
{
	char dir[] = "/tmp/test_trainer.XXXXXX", path[64];
	char *const argv[] = { "llamafactory-cli", "train", "c.yaml", NULL };

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/c.yaml", dir);
	assert_int_equal(trainer_warn(argv, dir, &said), 0); /* it is not there */
	put(path, "overwrite_output_dir: true\n");
	assert_int_equal(trainer_warn(argv, dir, &said), 1);
	assert_non_null(strstr(buf_str(&said), "in c.yaml:1"));
	assert_int_equal(trainer_warn(argv, "/nonexistent", &said), 0);
	put(path, "a: [\n");
	buf_reset(&said);
	assert_int_equal(trainer_warn(argv, dir, &said), 1);
	assert_int_equal(strncmp(buf_str(&said), "c.yaml is no YAML: line 2: ", 26), 0);
	assert_int_equal(truncate(path, TRAINER_FILE_MAX + 1), 0);
	assert_int_equal(trainer_warn(argv, dir, &said), 0);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(trainer_warn(argv, dir, &said), 0);
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(trainer_warn(argv, dir, &said), 0); /* nor waited for */
	unlink(path);
	rmdir(dir);
}

TEST(json_is_read_as_python_writes_it)
{
	char dir[] = "/tmp/test_trainer.XXXXXX", path[64];
	char *const argv[] = { "llamafactory-cli", "train", "c.json", NULL };

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/c.json", dir);
	put(path, "{\n\t\"system\": \"\\ud83d\\ude00 \\\\ud800 \\u00e4\\/\",\n\t\"save_only_model\": true\n}\n");
	assert_int_equal(trainer_warn(argv, dir, &said), 1);
	assert_non_null(strstr(buf_str(&said), "save_only_model: true in c.json:3"));
	put(path, "{\"a\": ");
	buf_reset(&said);
	assert_int_equal(trainer_warn(argv, dir, &said), 1);
	assert_int_equal(strncmp(buf_str(&said), "c.json is no JSON: line ", 24), 0);
	unlink(path);
	rmdir(dir);
}

static void expect_log(const char *want, const char *dir, const char *const *argv)
{
	char *got = trainer_log((char *const *)argv, dir);

	if (want)
		assert_string_equal(got, want);
	else
		assert_null(got);
	free(got);
}

static void the_trainers_log_is_in_its_output_directory(void **state)
{
	char dir[] = "/tmp/na-trainer-XXXXXX", path[64];
	FILE *f;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/c.yaml", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("stage: sft\noutput_dir: saves/x\n", f);
	fclose(f);
	expect_log("saves/x/trainer_log.jsonl", dir, (const char *const[]){ "llamafactory-cli", "train", "c.yaml", NULL });
	expect_log("/data/y/trainer_log.jsonl", dir,
		   (const char *const[]){ "llamafactory-cli", "train", "c.yaml", "output_dir=/data/y", NULL });
	expect_log("z/trainer_log.jsonl", dir,
		   (const char *const[]){ "llamafactory-cli", "train", "--stage", "sft", "--output_dir", "z", NULL });
	expect_log(NULL, dir, (const char *const[]){ "llamafactory-cli", "train", "gone.yaml", NULL });
	expect_log(NULL, dir, (const char *const[]){ "llamafactory-cli", "train", "--stage", "sft", NULL });
	expect_log(NULL, dir, (const char *const[]){ "python3", "other.py", "--output_dir", "z", NULL });
	unlink(path);
	rmdir(dir);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_training_that_goes_on_by_itself_is_let_pass),
		T(each_reason_is_told_with_its_line_and_a_remedy),
		T(all_reasons_are_told),
		T(what_stands_behind_the_file_wins),
		T(values_are_what_yaml_makes_of_them),
		T(what_is_no_yaml_is_named_with_its_line),
		T(bytes_that_are_no_text_are_named_with_their_line),
		T(a_file_of_brackets_takes_no_time),
		T(a_value_is_told_in_one_line_of_whole_characters),
		T(json_is_read_as_python_writes_it),
		T(aliases_are_never_followed),
		T(trainers_are_found_in_the_command_line),
		T(options_in_place_of_a_file_are_read_too),
		T(the_file_is_read_from_the_jobs_directory_and_what_cannot_be_read_is_left_alone),
		cmocka_unit_test(the_trainers_log_is_in_its_output_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
