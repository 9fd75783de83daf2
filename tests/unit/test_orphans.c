/* test_orphans.c - whom a subreaper ends when a shim of its was killed, and whom not */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/left.h"
#include "common/orphans.h"

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif

#define TEST(name) static void name(void **state)

static pid_t ours;

static bool is_ours(pid_t pid, uint64_t start_time)
{
	return pid == ours;
}

static void wait_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

static struct proc_id id_of(pid_t pid)
{
	struct proc_id id = { pid, 0 };

	assert_int_equal(proc_start_time(pid, &id.start_time), 0);
	return id;
}

static bool dead(struct proc_id id)
{
	return proc_dead(id.pid, id.start_time);
}

static void end(struct proc_id id)
{
	kill(id.pid, SIGKILL);
	waitpid(id.pid, NULL, 0);
}

static struct proc_id spawn_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return id_of(pid);
}

/* A shim that has a child, which gets out of its session ('own_session') or
 * not, and dies. Both are told. */
static struct proc_id make_orphan(bool own_session, struct proc_id *ret_shim)
{
	struct proc_id shim;
	pid_t pid, orphan = 0;
	int p[2];

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		orphan = fork();
		if (orphan == 0) {
			if (own_session)
				setsid();
			orphan = getpid();
			alarm(60); /* when a test fails */
			if (write(p[1], &orphan, sizeof(orphan)) < 0)
				_exit(1);
			for (;;)
				pause();
		}
		pause();
		_exit(0);
	}
	assert_int_equal(read(p[0], &orphan, sizeof(orphan)), sizeof(orphan));
	shim = id_of(pid);
	end(shim);
	close(p[0]);
	close(p[1]);
	if (ret_shim)
		*ret_shim = shim;
	return id_of(orphan);
}

static void begin(struct orphans *o)
{
	orphans_init(o, is_ours);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

static void finish(struct orphans *o)
{
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	orphans_finish(o);
	ours = 0;
}

static void pass_until_done(struct orphans *o, struct orphan_sweep *s, int ms)
{
	for (; orphans_pass(o, s) > 0; ms -= 5) {
		assert_true(ms > 0);
		wait_ms(5);
	}
}

TEST(what_a_dead_shim_has_left_is_killed_once_and_reaped_and_our_own_left_alone)
{
	struct orphan_sweep s = { .killed = 0 };
	struct proc_id mine, orphan;
	struct orphans o;
	char text[200];

	begin(&o);
	assert_null(o.doubt);
	orphan = make_orphan(true, &s.shim);
	mine = spawn_sleeper();
	ours = mine.pid;
	assert_int_equal(orphans_pass(&o, &s), 1);
	pass_until_done(&o, &s, 5000);
	assert_int_equal(s.killed, 1);
	assert_true(dead(orphan));
	assert_int_equal(waitpid(orphan.pid, NULL, WNOHANG), -1);
	assert_false(dead(mine));
	orphans_tell(&o, &s, text, sizeof(text));
	assert_string_equal(text, "");
	end(mine);
	finish(&o);
}

TEST(who_is_older_than_the_shim_or_in_our_session_is_a_stranger)
{
	struct orphan_sweep s = { .killed = 0 };
	struct proc_id older, ours_session;
	struct orphans o;
	char text[200];

	begin(&o);
	older = make_orphan(true, NULL);
	wait_ms(30); /* start times are in hundredths of a second */
	ours_session = make_orphan(false, &s.shim);
	assert_int_equal(orphans_pass(&o, &s), 0);
	assert_false(dead(older));
	assert_false(dead(ours_session));
	orphans_tell(&o, &s, text, sizeof(text));
	assert_string_equal(text, "");
	s.shim.start_time = 0; /* a shim of an earlier life */
	assert_int_equal(orphans_pass(&o, &s), 0);
	assert_false(dead(older));
	end(older);
	end(ours_session);
	finish(&o);
}

TEST(a_child_that_we_were_started_with_makes_us_leave_orphans_alone)
{
	struct proc_id child = spawn_sleeper(), orphan;
	struct orphan_sweep s = { .killed = 0 }, other = { .killed = 0 };
	struct orphans o;
	char text[400], expected[64];

	begin(&o);
	orphan = make_orphan(true, &s.shim);
	assert_int_equal(orphans_pass(&o, &s), 0);
	wait_ms(20);
	assert_int_equal(orphans_pass(&o, &s), 0);
	assert_false(dead(child));
	assert_false(dead(orphan));
	orphans_tell(&o, &s, text, sizeof(text));
	snprintf(expected, sizeof(expected), "pid %d (test_orphans, state S) may be of the job", (int)orphan.pid);
	assert_ptr_equal(strstr(text, expected), text);
	assert_non_null(strstr(text, "process that had other children"));
	assert_null(strstr(text, "; "));
	other.shim = s.shim;
	other.shim.start_time++;
	orphans_tell(&o, &other, text, sizeof(text));
	assert_string_equal(text, "");
	end(orphan);
	end(child);
	finish(&o);
}

TEST(a_zombie_that_we_were_started_with_is_nobodys_parent)
{
	struct proc_id child = spawn_sleeper();
	struct orphans o;

	kill(child.pid, SIGKILL);
	while (!dead(child))
		wait_ms(1);
	begin(&o);
	assert_null(o.doubt);
	waitpid(child.pid, NULL, 0);
	finish(&o);
}

TEST(process_1_leaves_orphans_alone)
{
	struct orphans o;
	int status;
	pid_t pid;

	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWPID) != 0)
			_exit(77);
		pid = fork();
		if (pid == 0) {
			orphans_init(&o, is_ours);
			_exit(o.doubt != NULL && strstr(o.doubt, "process 1") ? 0 : 1);
		}
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("a PID namespace is not allowed here\n");
		skip();
	}
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* From here on signals through pidfds do nothing, and 'error' is what is said of it. */
static int disarm(unsigned error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_send_signal, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* In a child, for the filter stays. */
static void in_child(void (*f)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		f();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void check(bool ok)
{
	if (!ok)
		_exit(1);
}

static void immortal(void)
{
	struct orphan_sweep first = { .killed = 0 }, second = { .killed = 0 };
	struct proc_id a, b;
	struct orphans o;
	char text[300], expected[80];

	begin(&o);
	a = make_orphan(true, &first.shim);
	if (disarm(0))
		_exit(77);
	check(orphans_pass(&o, &first) == 1);
	b = make_orphan(true, &second.shim);
	second.shim.start_time = first.shim.start_time; /* as if both had begun at once */
	check(orphans_pass(&o, &second) == 2); /* 'a' may be the second one's as well */
	wait_ms(1100);
	check(orphans_pass(&o, &first) == 1);
	end(b);
	check(orphans_pass(&o, &second) == 0 && second.killed == 1);
	orphans_tell(&o, &second, text, sizeof(text));
	check(text[0] == '\0');
	orphans_tell(&o, &first, text, sizeof(text));
	snprintf(expected, sizeof(expected), "pid %d (test_orphans, state S) could not be ended", (int)a.pid);
	check(strcmp(text, expected) == 0);
	end(a);
}

TEST(one_that_cannot_be_ended_holds_up_the_sweep_that_met_it_first_and_no_other)
{
	in_child(immortal);
}

static void refused(void)
{
	struct orphan_sweep s = { .killed = 0 };
	struct proc_id orphan;
	struct orphans o;
	struct left left;
	char text[300], lines[1000] = "";

	begin(&o);
	orphan = make_orphan(true, &s.shim);
	if (disarm(EPERM))
		_exit(77);
	check(orphans_pass(&o, &s) == 0 && s.killed == 0);
	orphans_tell(&o, &s, text, sizeof(text));
	check(strstr(text, "could not be ended: Operation not permitted") != NULL);
	orphans_left(&o, &s, lines, sizeof(lines));
	check(left_next(lines, &left) != NULL && left.id.pid == orphan.pid && left_foreign(&left.id));
	snprintf(text, sizeof(text), "; it runs as uid %u, and may not be signalled", geteuid());
	check(strncmp(left.text, "state ", 6) == 0 && strstr(left.text, text) != NULL);
	end(orphan);
	check(orphans_pass(&o, &s) == 0 && s.killed == 0);
	orphans_tell(&o, &s, text, sizeof(text));
	check(text[0] == '\0');
}

TEST(one_that_may_not_be_signalled_holds_up_nobody_and_is_named)
{
	in_child(refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_dead_shim_has_left_is_killed_once_and_reaped_and_our_own_left_alone),
		cmocka_unit_test(who_is_older_than_the_shim_or_in_our_session_is_a_stranger),
		cmocka_unit_test(a_child_that_we_were_started_with_makes_us_leave_orphans_alone),
		cmocka_unit_test(a_zombie_that_we_were_started_with_is_nobodys_parent),
		cmocka_unit_test(process_1_leaves_orphans_alone),
		cmocka_unit_test(one_that_cannot_be_ended_holds_up_the_sweep_that_met_it_first_and_no_other),
		cmocka_unit_test(one_that_may_not_be_signalled_holds_up_nobody_and_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
