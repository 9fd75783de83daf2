/* test_cgroup.c - kernels without cgroup.kill: only members are signalled, whatever pids a list holds
 *
 * The list is a file of ours that also names strangers, as a list would whose
 * pids have changed hands since it was read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "common/left.h"
#include "launcher/cgroup.c" /* its 'base' is set here */

#define REAL "/sys/fs/cgroup/unified/nodeagent-test-cgroup"

static char dir[] = "/tmp/test_cgroup.XXXXXX";

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

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static bool ended(pid_t pid)
{
	siginfo_t si = { 0 };

	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT), 0);
	return si.si_pid == pid;
}

static void finish(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void list(pid_t a, pid_t b)
{
	char path[128], text[64];

	snprintf(path, sizeof path, "%s/nodeagent-7.1/cgroup.procs", dir);
	snprintf(text, sizeof text, "%d\n%d\n", (int)a, (int)b);
	put(path, text);
}

static int setup(void **state)
{
	char path[128];

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/nodeagent-7.1", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	base = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return base < 0;
}

static int teardown(void **state)
{
	char path[160];

	close(base);
	snprintf(path, sizeof path, "%s/nodeagent-7.1/cgroup.procs", dir);
	unlink(path);
	snprintf(path, sizeof path, "%s/nodeagent-7.1", dir);
	rmdir(path);
	rmdir(dir);
	return 0;
}

static void a_pid_that_is_in_the_list_but_not_in_the_cgroup_is_left_alone(void **state)
{
	pid_t stranger = child();
	struct proc_id left;

	list(stranger, 1);
	assert_int_equal(cgroup_kill(7, 1, &left), 2);
	assert_false(ended(stranger));
	assert_true(left.pid != 0); /* the list still names somebody: told, and left alone */
	finish(stranger);
}

static void a_member_is_killed_a_stranger_beside_it_is_not(void **state)
{
	pid_t member, stranger;
	struct proc_id left;
	char text[24];

	if (mkdir(REAL, 0755) < 0 && errno != EEXIST)
		skip();
	if (mkdir(REAL "/nodeagent-7.1", 0755) < 0 && errno != EEXIST)
		skip();
	member = child();
	stranger = child();
	snprintf(text, sizeof text, "%d", (int)member);
	put(REAL "/nodeagent-7.1/cgroup.procs", text);
	assert_true(left_in_cgroup(member, "nodeagent-7.1"));
	assert_true(left_in_cgroup(member, "nodeagent-test-cgroup"));
	assert_false(left_in_cgroup(member, "nodeagent-7"));
	assert_false(left_in_cgroup(member, "nodeagent-7.11"));
	assert_false(left_in_cgroup(stranger, "nodeagent-7.1"));
	list(member, stranger);
	cgroup_kill(7, 1, &left);
	assert_true(ended(member));
	assert_false(ended(stranger));
	finish(member);
	finish(stranger);
	rmdir(REAL "/nodeagent-7.1");
	rmdir(REAL);
}

static void what_hides_in_a_cgroup_beneath_is_killed(void **state)
{
	struct proc_id left;
	char text[24];
	int dir_fd, n;
	pid_t member;
	bool gone;

	if (mkdir(REAL, 0755) < 0 && errno != EEXIST)
		skip();
	if (mkdir(REAL "/nodeagent-7.1", 0755) < 0 && errno != EEXIST)
		skip();
	dir_fd = open(REAL, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (faccessat(dir_fd, "nodeagent-7.1/cgroup.kill", F_OK, 0) < 0 || mkdir(REAL "/nodeagent-7.1/own", 0755) < 0) {
		close(dir_fd);
		skip();
	}
	member = child();
	snprintf(text, sizeof text, "%d", (int)member);
	put(REAL "/nodeagent-7.1/own/cgroup.procs", text);
	n = cgroup_kill_in(dir_fd, "nodeagent-7.1", 300, &left);
	gone = ended(member);
	finish(member);
	assert_int_equal(n, 1);
	assert_true(gone);
	assert_int_equal(cgroup_kill_in(dir_fd, "nodeagent-7.1", 300, &left), 0);
	close(dir_fd);
	rmdir(REAL "/nodeagent-7.1/own");
	rmdir(REAL "/nodeagent-7.1");
	rmdir(REAL);
}

static void lines_of_those_who_are_left_come_back_as_they_went(void **state)
{
	char lines[200] = "";
	struct proc_id me = { getpid(), 0 }, gone = { getpid(), 1 };
	struct left l = { 0 };
	const char *at;

	assert_int_equal(proc_start_time(me.pid, &me.start_time), 0);
	left_add(lines, sizeof lines, &gone); /* another start time: dead */
	assert_string_equal(lines, "");
	left_add(lines, sizeof lines, &me);
	left_add(lines, sizeof lines, &me);
	at = left_next(lines, &l);
	assert_non_null(at);
	assert_int_equal(l.id.pid, me.pid);
	assert_int_equal(l.id.start_time, me.start_time);
	assert_int_equal(strncmp(l.text, "state R (running)", 17), 0);
	assert_non_null(left_next(at, &l));
	for (int i = 0; i < 10; i++)
		left_add(lines, sizeof lines, &me); /* as many as there is room for, and whole */
	assert_int_equal(lines[strlen(lines) - 1], '\n');
	assert_null(left_next("", &l));
	assert_null(left_next("1 5 state\n", &l));
	assert_null(left_next("x\n", &l));
	assert_null(left_next("12\n", &l));
	assert_null(left_next("12 7 no end", &l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pid_that_is_in_the_list_but_not_in_the_cgroup_is_left_alone),
		cmocka_unit_test(a_member_is_killed_a_stranger_beside_it_is_not),
		cmocka_unit_test(what_hides_in_a_cgroup_beneath_is_killed),
		cmocka_unit_test(lines_of_those_who_are_left_come_back_as_they_went),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
