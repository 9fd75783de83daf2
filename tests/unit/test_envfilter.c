/* test_envfilter.c - what of the caller's environment a job gets */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "client/envfilter.h"

#define TEST(name) static void name(void **state)
#define VARS(...) ((char *const[]){ __VA_ARGS__, NULL })

static struct envset set;
static struct err e;

static int filter(char *const *vars, const char *const *choices, size_t n, bool clean)
{
	memset(&set, 0, sizeof(set));
	return envfilter(vars, choices, n, clean, &set, &e);
}

static bool has(char **list, const char *text)
{
	for (; list && *list; list++)
		if (strcmp(*list, text) == 0)
			return true;
	return false;
}

TEST(most_variables_are_passed_on_as_they_are)
{
	assert_int_equal(filter(VARS("A=1", "PATH=/bin", "EMPTY=", "X=a=b", "GBK=\xb2\xe2"), NULL, 0, false), 0);
	assert_int_equal(set.count, 5);
	assert_true(has(set.env, "X=a=b"));
	assert_true(has(set.env, "GBK=\xb2\xe2"));
	assert_int_equal(set.n_dropped, 0);
	envset_finish(&set);
}

TEST(what_belongs_to_this_session_or_another_launcher_is_dropped_and_named)
{
	assert_int_equal(filter(VARS("SSH_CLIENT=1", "XDG_RUNTIME_DIR=x", "DISPLAY=:0", "LD_PRELOAD=x.so", "RANK=3",
				     "LOCAL_RANK=1", "GROUP_RANK=1", "SLURM_JOB_ID=9", "OMPI_COMM_WORLD_RANK=1",
				     "PMI_RANK=2", "NOTIFY_SOCKET=x", "NODEAGENT_DIR=/x", "MASTER_PORT=1", "KEPT=1"),
				NULL, 0, false), 0);
	assert_int_equal(set.count, 1);
	assert_int_equal(set.n_dropped, 13);
	assert_string_equal(set.dropped[0], "SSH_CLIENT");
	envset_finish(&set);
}

TEST(names_that_only_begin_alike_are_kept)
{
	assert_int_equal(filter(VARS("RANKING=1", "MY_RANK=1", "DISPLAYS=1", "LD_LIBRARY_PATH=/x", "NNODES_MAX=1",
				     "NCCL_DEBUG=INFO", "CUDA_VISIBLE_DEVICES=0"), NULL, 0, false), 0);
	assert_int_equal(set.count, 7);
	envset_finish(&set);
}

TEST(an_option_sets_replaces_and_the_last_one_wins)
{
	const char *choices[] = { "A=2", "B=x", "A=3", "RANK=9" };

	assert_int_equal(filter(VARS("A=1", "RANK=1"), choices, 4, false), 0);
	assert_int_equal(set.count, 3);
	assert_true(has(set.env, "A=3") && has(set.env, "B=x") && has(set.env, "RANK=9"));
	assert_int_equal(set.n_set, 3);
	assert_int_equal(set.n_dropped, 0);
	envset_finish(&set);
}

TEST(a_name_alone_passes_on_what_would_be_dropped)
{
	const char *choices[] = { "DISPLAY" };

	assert_int_equal(filter(VARS("DISPLAY=:0", "SSH_TTY=x"), choices, 1, false), 0);
	assert_true(has(set.env, "DISPLAY=:0"));
	assert_int_equal(set.n_set, 0);
	assert_int_equal(set.n_dropped, 1);
	envset_finish(&set);
}

TEST(a_name_that_is_not_there_is_a_sentence)
{
	const char *choices[] = { "NOBODY" };

	assert_int_equal(filter(VARS("A=1"), choices, 1, false), -EINVAL);
	assert_non_null(strstr(e.text, "NOBODY"));
}

TEST(an_option_without_a_name_is_refused)
{
	const char *choices[] = { "=x" };

	assert_int_equal(filter(VARS("A=1"), choices, 1, false), -EINVAL);
}

TEST(a_clean_environment_keeps_only_the_basics)
{
	const char *choices[] = { "WANTED", "MORE=1" };

	assert_int_equal(filter(VARS("HOME=/h", "PATH=/bin", "LC_ALL=C", "TERM=xterm", "OTHER=1", "WANTED=2"), choices,
				2, true), 0);
	assert_int_equal(set.count, 6);
	assert_true(has(set.env, "WANTED=2") && has(set.env, "MORE=1") && has(set.env, "LC_ALL=C"));
	assert_true(has(set.dropped, "OTHER"));
	envset_finish(&set);
}

TEST(odd_entries_are_left_out)
{
	assert_int_equal(filter(VARS("=x", "NOVALUE", "", "A=1", "A=2"), NULL, 0, false), 0);
	assert_int_equal(set.count, 1);
	assert_string_equal(set.env[0], "A=1");
	envset_finish(&set);
}

TEST(an_empty_environment_is_an_environment)
{
	char *const none[] = { NULL };

	assert_int_equal(filter(none, NULL, 0, false), 0);
	assert_int_equal(set.count, 0);
	assert_true(envset_put(&set, "PWD", "/x"));
	assert_true(envset_put(&set, "PWD", "/y"));
	assert_int_equal(set.count, 1);
	assert_string_equal(set.env[0], "PWD=/y");
	assert_null(set.env[1]);
	envset_finish(&set);
}

TEST(secrets_are_known_by_their_names)
{
	assert_true(env_is_secret("HF_TOKEN", 8));
	assert_true(env_is_secret("WANDB_API_KEY", 13));
	assert_true(env_is_secret("DB_PASSWORD", 11));
	assert_false(env_is_secret("PATH", 4));
	assert_false(env_is_secret("NCCL_DEBUG", 10));
}

/* 19.6 s when each one was looked for among all before it. */
TEST(a_hundred_thousand_variables_are_no_trouble)
{
	enum { N = 100000 };
	char **vars = calloc(N + 2, sizeof(*vars));
	const char *choices[] = { "V_000007=chosen", "V_099999", "NEW=1" };
	struct timespec from, to;

	for (int i = 0; i < N; i++)
		assert_true(asprintf(&vars[i], "V_%06d=%d", i, i) > 0);
	vars[N] = strdup("V_000003=again");
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	assert_int_equal(filter(vars, choices, 3, false), 0);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	assert_true(to.tv_sec - from.tv_sec <= 2);
	assert_int_equal(set.count, N + 1);
	assert_true(has(set.env, "V_000003=3"));
	assert_true(has(set.env, "V_000007=chosen"));
	assert_true(has(set.env, "V_099999=99999"));
	assert_null(set.env[set.count]);
	envset_finish(&set);
	for (int i = 0; i <= N; i++)
		free(vars[i]);
	free(vars);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(most_variables_are_passed_on_as_they_are),
		cmocka_unit_test(what_belongs_to_this_session_or_another_launcher_is_dropped_and_named),
		cmocka_unit_test(names_that_only_begin_alike_are_kept),
		cmocka_unit_test(an_option_sets_replaces_and_the_last_one_wins),
		cmocka_unit_test(a_name_alone_passes_on_what_would_be_dropped),
		cmocka_unit_test(a_name_that_is_not_there_is_a_sentence),
		cmocka_unit_test(an_option_without_a_name_is_refused),
		cmocka_unit_test(a_clean_environment_keeps_only_the_basics),
		cmocka_unit_test(odd_entries_are_left_out),
		cmocka_unit_test(an_empty_environment_is_an_environment),
		cmocka_unit_test(secrets_are_known_by_their_names),
		cmocka_unit_test(a_hundred_thousand_variables_are_no_trouble),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
