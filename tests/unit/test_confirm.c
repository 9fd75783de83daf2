/* test_confirm.c - what a shim says of processes that cannot be killed is looked at */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/confirm.h"

#define TEST(name) static void name(void **state)

static const char *const in_nfs = "Name:\tpython\nState:\tD (disk sleep)\nTgid:\t7\nUid:\t1001\t1001\t1001\t1001\n"
				  "SigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n";

static struct confirm_thread parse(const char *text)
{
	struct confirm_thread t = { 0 };

	assert_true(confirm_parse(text, &t));
	return t;
}

TEST(a_thread_in_state_D_that_has_got_its_SIGKILL_counts)
{
	struct confirm_thread t[3] = { parse(in_nfs), parse(in_nfs), parse(in_nfs) };

	assert_int_equal(t[0].uid, 1001);
	assert_true(t[0].killed && t[0].state == 'D');
	assert_true(confirm_killed(t, 3));
	t[0].state = 'Z'; /* its first thread has gone, others hang */
	assert_true(confirm_killed(t, 3));
	t[1].killed = false;
	assert_false(confirm_killed(t, 3));
	t[1].killed = true;
	t[1].state = 't';
	assert_false(confirm_killed(t, 3));
}

TEST(who_was_not_killed_or_is_dead_does_not_count)
{
	struct confirm_thread t = parse("Name:\tpython\nState:\tD (disk sleep)\nUid:\t1001\t1001\t1001\t1001\n"
					"SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n");

	assert_false(confirm_killed(&t, 1)); /* SIGTERM only */
	t = parse(in_nfs);
	t.state = 'X';
	assert_false(confirm_killed(&t, 1));
	assert_false(confirm_killed(&t, 0));
	assert_false(confirm_parse("Name:\tpython\n", &t));
}

TEST(of_the_shims_words_only_where_it_waits_is_taken)
{
	char out[128];

	confirm_text(out, sizeof(out), "state D (disk sleep)", "state D (disk sleep) in nfs_wait_bit_killable");
	assert_string_equal(out, "state D (disk sleep) in nfs_wait_bit_killable");
	confirm_text(out, sizeof(out), "state D (disk sleep)", "ha in \033[2Jha");
	assert_string_equal(out, "state D (disk sleep)");
	confirm_text(out, sizeof(out), "state D (disk sleep)", "x in nfs_wait\nroot was here");
	assert_string_equal(out, "state D (disk sleep) in nfs_wait");
	confirm_text(out, sizeof(out), "state D in a", "x in b");
	assert_string_equal(out, "state D in a");
	confirm_text(out, sizeof(out), "state D", NULL);
	assert_string_equal(out, "state D");
}

/* ---- with real processes --------------------------------------------------------------- */

static pid_t child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static struct confirm_job ours(void)
{
	struct confirm_job j = { .uid = getuid(), .cgroup = "", .cookie = "" };

	j.shim.pid = j.said = getpid();
	assert_int_equal(proc_start_time(getpid(), &j.shim.start_time), 0);
	return j;
}

static bool holds(const struct confirm_job *j, pid_t pid, uint64_t start, bool foreign)
{
	struct rec_stuck_proc claim = { .pid = (uint32_t)pid, .start_time = start, .foreign = foreign,
					.text = "state D (disk sleep) in nfs_wait" }, seen;
	struct arena a;
	bool r;

	arena_init(&a);
	r = confirm_stuck(j, &claim, &a, &seen);
	arena_finish(&a);
	return r;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST(a_process_of_the_job_that_could_be_killed_is_not_stuck)
{
	struct confirm_job j = ours();
	pid_t pid = child();
	uint64_t start;

	assert_int_equal(proc_start_time(pid, &start), 0);
	assert_false(holds(&j, pid, start, false));
	assert_false(holds(&j, pid, start, true)); /* nor another user's */
	end(pid);
	assert_false(holds(&j, pid, start, false));
}

TEST(a_stranger_is_never_the_jobs)
{
	struct confirm_job j = ours();
	uint64_t start = 0;

	proc_start_time(getppid(), &start);
	assert_false(holds(&j, getppid(), start, false));
	assert_false(holds(&j, getppid(), start, true));
	proc_start_time(1, &start);
	assert_false(holds(&j, 1, start, true));
	assert_false(holds(&j, 0, 0, false));
	assert_false(holds(&j, 4194304, 99, false));
}

/* It has got its SIGKILL and lives; so it is in order, whoever keeps it from dying. */
TEST(one_that_a_tracer_holds_is_not_the_nodes_fault)
{
	struct confirm_job j = ours();
	pid_t pid = child();
	struct proc_stat st = { 0 };
	uint64_t start;

	assert_int_equal(proc_start_time(pid, &start), 0);
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)PTRACE_O_TRACEEXIT) != 0) {
		end(pid);
		skip();
	}
	kill(pid, SIGKILL);
	for (int i = 0; i < 2000 && st.state != 't'; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		assert_int_equal(proc_read(pid, &st), 0);
	}
	assert_int_equal(st.state, 't');
	assert_false(holds(&j, pid, start, false));
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_in_state_D_that_has_got_its_SIGKILL_counts),
		cmocka_unit_test(who_was_not_killed_or_is_dead_does_not_count),
		cmocka_unit_test(of_the_shims_words_only_where_it_waits_is_taken),
		cmocka_unit_test(a_process_of_the_job_that_could_be_killed_is_not_stuck),
		cmocka_unit_test(a_stranger_is_never_the_jobs),
		cmocka_unit_test(one_that_a_tracer_holds_is_not_the_nodes_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
