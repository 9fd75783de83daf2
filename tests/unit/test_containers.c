/* test_containers.c - who has a daemon start containers, found below a process */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/containers.h"

#define TEST(name) static void name(void **state)
#define WORDS(s) s, sizeof(s)

static char text[128];

static bool starts(const char *words, size_t n)
{
	return container_command(words, n, text, sizeof(text));
}

TEST(commands_that_start_something_are_known)
{
	assert_true(starts(WORDS("docker\0run\0--gpus\0all\0train:1")));
	assert_string_equal(text, "docker run --gpus all train:1");
	assert_true(starts(WORDS("/usr/bin/docker\0--context\0x\0run\0i")));
	assert_true(starts(WORDS("/bin/sh\0/home/li/bin/docker\0start\0c")));
	assert_true(starts(WORDS("docker\0compose\0up")));
	assert_true(starts(WORDS("docker-compose\0up\0-d")));
	assert_true(starts(WORDS("nerdctl\0run\0i")));
	assert_false(starts(WORDS("docker\0ps\0-a")));
	assert_false(starts(WORDS("docker\0logs\0c")));
	assert_false(starts(WORDS("podman\0run\0i"))); /* its containers are its own children */
	assert_false(starts(WORDS("python\0train.py\0--docker\0run")));
	assert_false(starts("", 0));
	assert_true(starts(WORDS("docker\0run\0\x1b[31m\0\xff")));
	assert_string_equal(text, "docker run ?[31m ?");
}

TEST(values_that_are_nobodys_business_are_not_told)
{
	assert_true(starts(WORDS("docker\0run\0-e\0HF_TOKEN=hf_abc\0--gpus=all\0i")));
	assert_string_equal(text, "docker run -e HF_TOKEN=... --gpus=all i");
	assert_true(starts(WORDS("docker\0run\0-eA=b\0--env=WANDB_API_KEY=x\0--env=A\0i\0--lr=1")));
	assert_string_equal(text, "docker run -eA=... --env=... --env=... i --lr=1");
	assert_true(starts(WORDS("docker\0run\0i\0--hf_token\0hf_abc\0--api-key=x\0--tokenizer\0q")));
	assert_null(strstr(text, "hf_abc"));
	assert_null(strstr(text, "=x"));
}

TEST(long_commands_are_cut)
{
	char line[1000] = "docker\0run\0";

	memset(line + 11, 'x', 900);
	assert_true(starts(line, 912));
	assert_int_equal(strlen(text), sizeof(text) - 1);
}

TEST(a_client_is_found_below_its_rank)
{
	char dir[] = "/tmp/test_containers.XXXXXX", path[64], mark[64];
	struct container_client c;
	pid_t rank, other, roots[2];
	FILE *f;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/docker", dir);
	snprintf(mark, sizeof mark, "%s/up", dir);
	f = fopen(path, "we");
	fprintf(f, "#!/bin/sh\n: >%s\nsleep 2\n", mark);
	fclose(f);
	chmod(path, 0755);
	other = fork();
	if (other == 0) {
		pause();
		_exit(0);
	}
	rank = fork();
	if (rank == 0) {
		pid_t shell = fork(); /* a script between */

		if (shell == 0) {
			execl(path, "docker", "run", "--rm", "train", (char *)NULL);
			_exit(9);
		}
		waitpid(shell, NULL, 0);
		_exit(0);
	}
	for (int i = 0; i < 500 && access(mark, F_OK) != 0; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	roots[0] = other;
	roots[1] = rank;
	assert_int_equal(container_find(getpid(), roots, 2, &c), 1);
	assert_int_equal(c.below, rank);
	assert_string_equal(c.text, "docker run --rm train");
	assert_int_equal(container_find(getpid(), roots, 1, &c), 1);
	assert_int_equal(c.below, 0);
	assert_int_equal(container_find(other, roots, 2, &c), 0);
	kill(c.pid, SIGKILL);
	waitpid(rank, NULL, 0);
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	unlink(path);
	unlink(mark);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_that_start_something_are_known),
		cmocka_unit_test(values_that_are_nobodys_business_are_not_told),
		cmocka_unit_test(long_commands_are_cut),
		cmocka_unit_test(a_client_is_found_below_its_rank),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
