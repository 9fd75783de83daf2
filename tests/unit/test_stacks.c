/* test_stacks.c - where the threads of processes are, seen from beside them, without harm */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/proc.h"
#include "shim/stacks.h"

#define TEST(name) static void name(void **state)

static char dir[] = "/tmp/na-stacks-XXXXXX";

/* One that sleeps in read() of a pipe that nobody writes. */
static struct stacks_target begin(uint32_t rank)
{
	struct stacks_target t = { .rank = rank, .local = rank % 2 };
	int fds[2];
	char c;

	assert_int_equal(pipe(fds), 0);
	t.pid = fork();
	if (t.pid == 0) {
		close(fds[1]);
		while (read(fds[0], &c, 1) != 1)
			pause();
		_exit(0);
	}
	close(fds[0]); /* the other end stays open: it waits */
	assert_int_equal(proc_start_time(t.pid, &t.start_time), 0);
	poll(NULL, 0, 50);
	return t;
}

static void end(const struct stacks_target *t)
{
	kill(t->pid, SIGKILL);
	waitpid(t->pid, NULL, 0);
}

static void tool(const char *name, const char *script)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(script, f);
	fclose(f);
	chmod(path, 0700);
}

static void no_tools(void)
{
	char path[128];
	static const char *const names[] = { "py-spy", "eu-stack", "gdb" };

	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		unlink(path);
	}
}

/* All that is said of these, in text[local]; the time it took, ms. */
static long look(const struct stacks_target *v, size_t n, char text[2][65536])
{
	struct stacks *s = stacks_begin(v, n, dir);
	struct timespec a, b;
	uint32_t local;
	const char *p;
	size_t len;
	pid_t pid;

	text[0][0] = text[1][0] = '\0';
	assert_non_null(s);
	pid = stacks_pid(s);
	clock_gettime(CLOCK_MONOTONIC, &a);
	while (!stacks_read(s)) {
		struct pollfd f = { .fd = stacks_fd(s), .events = POLLIN };

		assert_int_equal(poll(&f, 1, 30000), 1);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	while (stacks_next(s, &local, &p, &len)) {
		assert_true(local < 2 && p[len - 1] == '\n');
		strncat(text[local], p, len < 60000 ? len : 60000);
	}
	stacks_destroy(s);
	waitpid(pid, NULL, 0);
	return (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000;
}

static void has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("no '%s' in:\n%s", part, text);
}

static char text[2][65536];

TEST(threads_are_told_with_what_they_wait_in_and_on_what)
{
	struct stacks_target v[2] = { begin(4), begin(5) };

	no_tools();
	look(v, 2, text);
	has(text[0], "[nodeagent] rank 4 (pid ");
	has(text[0], "state S), asked for by --on-hang stacks:");
	has(text[0], "1 thread (");
	has(text[0], "read of pipe:[");
	has(text[0], "no stacks of its code: ");
	has(text[1], "[nodeagent] rank 5 (pid ");
	for (const char *p = text[1]; *p != '\0'; p = strchr(p, '\n') + 1)
		assert_int_equal(strncmp(p, "[nodeagent] ", 12), 0);
	end(&v[0]);
	end(&v[1]);
}

TEST(py_spy_is_asked_and_never_stops_it)
{
	struct stacks_target t = begin(0);

	tool("py-spy", "#!/bin/sh\necho \"$@\"\nprintf 'Thread 1 (idle): \"Main\\001Thread\"\\n    train (train.py:3)\\n'\necho oops >&2\nexit 3\n");
	tool("gdb", "#!/bin/sh\necho gdb was here\n");
	look(&t, 1, text);
	has(text[0], "/py-spy dump --nonblocking --pid ");
	has(text[0], "[nodeagent]    dump --nonblocking --pid ");
	has(text[0], "[nodeagent]    Thread 1 (idle): \"Main?Thread\"\n[nodeagent]        train (train.py:3)\n[nodeagent]    oops\n");
	has(text[0], "has failed with code 3");
	assert_null(strstr(text[0], "gdb was here"));
	end(&t);
}

TEST(a_tool_that_hangs_is_ended_and_what_it_has_stopped_goes_on)
{
	struct stacks_target t = begin(0);
	struct proc_stat st;
	long ms;

	no_tools();
	tool("eu-stack", "#!/bin/sh\necho begun\nkill -STOP $4\nexec /bin/sleep 60\n");
	ms = look(&t, 1, text);
	has(text[0], "begun");
	has(text[0], "took too long, and was ended");
	assert_true(ms >= STACKS_TOOL_MS && ms < STACKS_TOOL_MS + 4000);
	assert_int_equal(proc_read(t.pid, &st), 0);
	assert_true(st.state == 'S');
	end(&t);
}

TEST(one_that_is_stopped_is_left_so_and_no_tool_waits_for_it)
{
	struct stacks_target t = begin(0);
	struct proc_stat st;

	no_tools();
	tool("gdb", "#!/bin/sh\necho gdb was here\n");
	kill(t.pid, SIGSTOP);
	look(&t, 1, text);
	has(text[0], "it is in state T, where eu-stack and gdb would wait");
	assert_int_equal(proc_read(t.pid, &st), 0);
	assert_true(st.state == 'T');
	end(&t);
}

TEST(one_that_is_over_or_another_is_not_looked_at)
{
	struct stacks_target t = begin(0), other = t;

	other.start_time++;
	look(&other, 1, text);
	has(text[0], "is over");
	end(&t);
	look(&t, 1, text);
	has(text[0], "is over");
}

TEST(who_looks_is_ended_with_the_rest)
{
	struct stacks_target t = begin(0);
	struct stacks *s;
	int status;
	pid_t pid;

	no_tools();
	tool("py-spy", "#!/bin/sh\nexec /bin/sleep 60\n");
	s = stacks_begin(&t, 1, dir);
	assert_non_null(s);
	pid = stacks_pid(s);
	poll(NULL, 0, 200);
	stacks_destroy(s);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_are_told_with_what_they_wait_in_and_on_what),
		cmocka_unit_test(py_spy_is_asked_and_never_stops_it),
		cmocka_unit_test(a_tool_that_hangs_is_ended_and_what_it_has_stopped_goes_on),
		cmocka_unit_test(one_that_is_stopped_is_left_so_and_no_tool_waits_for_it),
		cmocka_unit_test(one_that_is_over_or_another_is_not_looked_at),
		cmocka_unit_test(who_looks_is_ended_with_the_rest),
	};
	int r;

	if (mkdtemp(dir) == NULL)
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	no_tools();
	rmdir(dir);
	return r;
}
