/* test_hook.c - the hook program: told in order, one at a time, in time or killed, its failures told once */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/hook.h"

#define TEST(name) static void name(void **state)

static char dir[64];
static uv_loop_t loop;
static uv_timer_t until;
static struct hook *h;
static char told[4][512];
static int n_told;

static void on_told(void *arg, const char *text)
{
	snprintf(told[n_told++ % 4], sizeof(told[0]), "%s", text != NULL ? text : "well");
}

static void path_of(char *out, const char *name)
{
	snprintf(out, 128, "%s/%s", dir, name);
}

static void begin(const char *script)
{
	char path[128];
	struct err e;
	FILE *f;

	strcpy(dir, "/tmp/na-hook-XXXXXX");
	assert_non_null(mkdtemp(dir));
	path_of(path, "hook");
	f = fopen(path, "w");
	fprintf(f, "#!/bin/sh\ncd %s\n%s\n", dir, script);
	fclose(f);
	chmod(path, 0700);
	signal(SIGPIPE, SIG_IGN);
	n_told = 0;
	uv_loop_init(&loop);
	uv_timer_init(&loop, &until);
	assert_int_equal(hook_create(&loop, path, on_told, NULL, &h, &e), 0);
}

static void end(void)
{
	char cmd[128];

	hook_close(h);
	uv_close((uv_handle_t *)&until, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
}

static void nothing(uv_timer_t *t)
{
}

static void read_log(char *out, size_t size)
{
	char path[128];
	size_t n = 0;
	FILE *f;

	path_of(path, "log");
	f = fopen(path, "r");
	if (f != NULL) {
		n = fread(out, 1, size - 1, f);
		fclose(f);
	}
	out[n] = '\0';
}

/* Until the log says all that, or there was so much news; ten seconds at most. */
static void await(const char *log, int news)
{
	char text[4096] = "";

	for (int i = 0; i < 500; i++) {
		read_log(text, sizeof(text));
		if (strcmp(text, log) == 0 && n_told >= news)
			return;
		uv_timer_start(&until, nothing, 20, 0);
		uv_run(&loop, UV_RUN_ONCE);
	}
	fail_msg("the log is '%s', %d times news", text, n_told);
}

static void push(const char *text)
{
	hook_push(h, text, strlen(text));
}

TEST(each_event_is_a_line_on_its_standard_input_one_after_the_other)
{
	begin("read -r x; sleep 0.1; echo $x $(env | grep -c -v -e ^PATH -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD) >>log");
	push("one\n");
	push("two\n");
	push("three\n");
	await("one 0\ntwo 0\nthree 0\n", 0); /* and nothing but PATH in its environment */
	assert_int_equal(n_told, 0);
	end();
}

TEST(failures_are_told_once_and_that_they_are_over)
{
	begin("read -r x; echo $x >>log; [ $x = good ]");
	push("bad\n");
	push("bad\n");
	push("good\n");
	push("good\n");
	await("bad\nbad\ngood\ngood\n", 1);
	for (int i = 0; i < 100 && strcmp(told[(n_told - 1) % 4], "well") != 0; i++) {
		uv_timer_start(&until, nothing, 20, 0);
		uv_run(&loop, UV_RUN_ONCE);
	}
	assert_string_equal(told[(n_told - 1) % 4], "well");
	assert_true(n_told <= 2); /* and not four times */
	end();
}

TEST(one_that_hangs_is_killed_with_its_children)
{
	char text[64];

	begin("(sleep 1; echo late >>log) & sleep 1000");
	hook_limit(h, 300);
	push("x\n");
	await("", 1);
	assert_non_null(strstr(told[0], "did not end"));
	usleep(1300000);
	read_log(text, sizeof(text));
	assert_string_equal(text, "");
	end();
}

TEST(the_end_does_not_wait_for_one_that_runs)
{
	uint64_t from = uv_hrtime();

	begin("sleep 1000");
	push("x\n");
	usleep(200000);
	end();
	assert_true(uv_hrtime() - from < UINT64_C(3000000000));
}

/* As in state D: it has got its SIGKILL and does not end, while this tracer lives. 0: nobody may be traced here. */
static pid_t make_immortal(void)
{
	char text[64] = "", is;
	pid_t pid, tracer;
	int p[2];

	for (int i = 0; i < 500 && text[0] == '\0'; i++) {
		usleep(10000);
		read_log(text, sizeof(text));
	}
	pid = (pid_t)atoi(text);
	assert_true(pid > 1);
	assert_int_equal(pipe(p), 0);
	tracer = fork(); /* a tracer that is its parent would be told of each stop as of an end */
	if (tracer == 0) {
		is = ptrace(PTRACE_SEIZE, pid, NULL, (void *)PTRACE_O_TRACEEXIT) == 0;
		if (write(p[1], &is, 1) == 1)
			pause();
		_exit(0);
	}
	assert_true(tracer > 0 && read(p[0], &is, 1) == 1);
	close(p[0]);
	close(p[1]);
	if (is)
		return tracer;
	kill(tracer, SIGKILL);
	waitpid(tracer, NULL, 0);
	return 0;
}

static void let_die(pid_t tracer)
{
	if (tracer > 0) {
		kill(tracer, SIGKILL);
		waitpid(tracer, NULL, 0);
	}
}

TEST(one_that_cannot_be_killed_is_told_and_no_other_is_run)
{
	char text[64];
	pid_t tracer;

	begin("[ -s log ] && { echo more >>log; exit; }; echo $$ >log; exec sleep 1000");
	push("x\n");
	tracer = make_immortal();
	if (tracer == 0) {
		end();
		skip();
	}
	hook_limit(h, 300);
	read_log(text, sizeof(text));
	await(text, 1);
	assert_non_null(strstr(told[0], "cannot be killed"));
	push("y\n"); /* is not told to another one */
	usleep(300000);
	await(text, 1);
	let_die(tracer);
	usleep(300000); /* it is gone: */
	push("z\n");
	strcat(text, "more\n");
	await(text, 2);
	assert_string_equal(told[1], "well");
	end();
}

TEST(an_end_waits_shortly_for_one_that_cannot_be_killed)
{
	uint64_t from;
	pid_t tracer;

	begin("echo $$ >log; exec sleep 1000");
	push("x\n");
	tracer = make_immortal();
	from = uv_hrtime();
	hook_close(h);
	h = NULL;
	assert_true(uv_hrtime() - from < UINT64_C(5000000000));
	let_die(tracer);
	end();
}

TEST(too_many_are_dropped_and_told)
{
	begin("sleep 0.3");
	for (int i = 0; i < HOOK_QUEUE + 50; i++)
		push("x\n");
	await("", 1);
	assert_non_null(strstr(told[0], "is too slow: "));
	end();
}

TEST(a_program_that_is_not_there_is_told)
{
	char path[128];

	begin("true");
	path_of(path, "hook");
	unlink(path);
	push("x\n");
	await("", 1);
	assert_non_null(strstr(told[0], "cannot start"));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_event_is_a_line_on_its_standard_input_one_after_the_other),
		cmocka_unit_test(failures_are_told_once_and_that_they_are_over),
		cmocka_unit_test(one_that_hangs_is_killed_with_its_children),
		cmocka_unit_test(the_end_does_not_wait_for_one_that_runs),
		cmocka_unit_test(one_that_cannot_be_killed_is_told_and_no_other_is_run),
		cmocka_unit_test(an_end_waits_shortly_for_one_that_cannot_be_killed),
		cmocka_unit_test(too_many_are_dropped_and_told),
		cmocka_unit_test(a_program_that_is_not_there_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
