/* test_proc.c - signals reach the process that was meant, and no other */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/proc.h"
#include "common/proc_sys.h"

#define TEST(name) static void name(void **state)

static void wait_a_ms(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

/* A child that sleeps until a signal ends it. */
static pid_t spawn_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	return pid;
}

static uint64_t start_of(pid_t pid)
{
	uint64_t start = 0;

	assert_int_equal(proc_start_time(pid, &start), 0);
	return start;
}

TEST(a_process_has_a_start_time_and_a_gone_one_has_none)
{
	pid_t pid = spawn_sleeper();
	uint64_t start = 1;

	assert_true(start_of(getpid()) > 0);
	assert_true(start_of(pid) >= start_of(getpid()));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(proc_start_time(pid, &start), -ESRCH);
	assert_int_equal(proc_start_time(0, &start), -ESRCH);
	assert_int_equal(proc_start_time(-1, &start), -ESRCH);
	assert_int_equal(start, 1);
}

TEST(a_name_full_of_brackets_and_spaces_does_not_confuse)
{
	uint64_t before = start_of(getpid());

	prctl(PR_SET_NAME, ") R 1 (x) ) ");
	assert_int_equal(start_of(getpid()), before);
	prctl(PR_SET_NAME, "test_proc");
}

TEST(the_boot_id_has_36_characters)
{
	char id[37] = { 0 };

	assert_int_equal(proc_boot_id(id), 0);
	assert_int_equal(strlen(id), 36);
	assert_int_equal(strspn(id, "0123456789abcdef-"), 36);
}

TEST(a_signal_needs_the_right_start_time)
{
	pid_t pid = spawn_sleeper();
	uint64_t start = start_of(pid);
	int status;

	assert_int_equal(proc_signal(pid, start + 1, SIGKILL), -ESRCH);
	assert_int_equal(proc_signal(pid, start, 0), 0);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(proc_signal(pid, start, SIGTERM), 0);
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	assert_int_equal(proc_signal(pid, start, SIGTERM), -ESRCH);
}

TEST(the_first_process_and_groups_are_never_signalled)
{
	uint64_t start;

	assert_int_equal(proc_signal(0, 0, 0), -ESRCH);
	assert_int_equal(proc_signal(-1, 0, 0), -ESRCH);
	assert_int_equal(proc_signal(-getpid(), 0, 0), -ESRCH);
	if (proc_start_time(1, &start) == 0)
		assert_int_equal(proc_signal(1, start, 0), -ESRCH);
}

/* From here on the system call fails as on a kernel that has none. */
static int forbid(int number)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = 4, .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Runs in a process of its own: 0 when signals work without 'number'. */
static int signals_without(int number)
{
	pid_t pid = fork();
	uint64_t start;
	int status;

	if (pid == 0) {
		for (;;)
			pause();
	}
	if (proc_start_time(pid, &start))
		return 2;
	if (forbid(number)) {
		kill(pid, SIGKILL);
		return 77;
	}
	if (proc_signal(pid, start + 1, SIGKILL) != -ESRCH || waitpid(pid, &status, WNOHANG) != 0)
		return 3;
	if (proc_signal(pid, start, SIGKILL) != 0 || waitpid(pid, &status, 0) != pid)
		return 4;
	return proc_signal(pid, start, SIGKILL) == -ESRCH ? 0 : 5;
}

TEST(old_kernels_without_pidfd_work_too)
{
	static const int calls[] = { SYS_pidfd_open, SYS_pidfd_send_signal };

	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(signals_without(calls[i]));
		waitpid(pid, &status, 0);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77)
			skip(); /* no seccomp here */
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

TEST(a_zombie_is_dead)
{
	pid_t pid = spawn_sleeper();
	uint64_t start = start_of(pid);

	assert_false(proc_dead(pid, start));
	assert_true(proc_dead(pid, start + 1));
	kill(pid, SIGKILL);
	for (int i = 0; i < 1000 && !proc_dead(pid, start); i++)
		wait_a_ms();
	assert_true(proc_dead(pid, start));
	assert_int_equal(start_of(pid), start); /* not reaped yet */
	waitpid(pid, NULL, 0);
	assert_true(proc_dead(pid, start));
	assert_true(proc_dead(0, 0));
}

static void *wait_forever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

TEST(a_process_lives_on_in_its_other_threads)
{
	pid_t pid = fork();
	char path[64], text[256] = "";
	uint64_t start;

	if (pid == 0) {
		pthread_t thread;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_create(&thread, NULL, wait_forever, NULL);
		pthread_exit(NULL);
	}
	start = start_of(pid);
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	for (int i = 0; i < 2000 && !strstr(text, ") Z "); i++) {
		int fd = open(path, O_RDONLY);

		assert_true(read(fd, text, sizeof(text) - 1) > 0);
		close(fd);
		wait_a_ms();
	}
	assert_non_null(strstr(text, ") Z "));
	assert_false(proc_dead(pid, start));
	assert_int_equal(proc_signal(pid, start, SIGKILL), 0);
	waitpid(pid, NULL, 0);
}

/* A child with 'width' children, each with one child; all sleep. */
static pid_t spawn_tree(int width)
{
	int ready[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		for (int i = 0; i < width; i++) {
			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				spawn_sleeper();
				if (write(ready[1], "x", 1) != 1)
					_exit(1);
				for (;;)
					pause();
			}
		}
		for (;;)
			pause();
	}
	for (int i = 0; i < width; i++)
		assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

TEST(all_descendants_are_found_children_first)
{
	pid_t root = spawn_tree(3), found[8] = { 0 };

	assert_int_equal(proc_descendants(root, found, 8), 6);
	for (int i = 0; i < 6; i++) {
		assert_true(found[i] > 1);
		for (int k = 0; k < i; k++)
			assert_true(found[k] != found[i]);
	}
	assert_int_equal(proc_descendants(found[0], found + 6, 2), 1); /* a child has a child */
	assert_int_equal(proc_descendants(found[5], NULL, 0), 0); /* a grandchild has none */

	found[1] = 0;
	assert_int_equal(proc_descendants(root, found, 1), 6); /* more than there is room for */
	assert_int_equal(found[1], 0);
	kill(root, SIGKILL);
	waitpid(root, NULL, 0);
}

TEST(a_zombie_is_no_descendant)
{
	pid_t pid = spawn_sleeper(), found[4];
	uint64_t start = start_of(pid);

	assert_int_equal(proc_descendants(getpid(), found, 4), 1);
	assert_int_equal(found[0], pid);
	kill(pid, SIGKILL);
	while (!proc_dead(pid, start))
		wait_a_ms();
	assert_int_equal(proc_descendants(getpid(), found, 4), 0);
	waitpid(pid, NULL, 0);
}

/* exec's sleep with one variable in its environment. */
static pid_t spawn_with_env(const char *variable)
{
	int done[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe2(done, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		char *env[] = { (char *)"A=1", (char *)variable, (char *)"Z=1", NULL };
		char *argv[] = { (char *)"sleep", (char *)"60", NULL };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execve("/bin/sleep", argv, env);
		_exit(127);
	}
	close(done[1]);
	assert_int_equal(read(done[0], &c, 1), 0); /* closed by exec */
	close(done[0]);
	return pid;
}

TEST(a_sweep_kills_exactly_the_holders_of_the_variable)
{
	pid_t holders[3], other, longer;
	int status;

	for (int i = 0; i < 3; i++)
		holders[i] = spawn_with_env("TEST_PROC_COOKIE=4711");
	other = spawn_with_env("XTEST_PROC_COOKIE=4711");
	longer = spawn_with_env("TEST_PROC_COOKIE=47110");
	assert_int_equal(proc_sweep_env("TEST_PROC_COOKIE", "4711", 5000, NULL), 3);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(waitpid(holders[i], &status, 0), holders[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	assert_int_equal(waitpid(other, &status, WNOHANG), 0);
	assert_int_equal(waitpid(longer, &status, WNOHANG), 0);
	assert_int_equal(proc_sweep_env("TEST_PROC_COOKIE", "4711", 0, NULL), 0);
	kill(other, SIGKILL);
	kill(longer, SIGKILL);
	waitpid(other, NULL, 0);
	waitpid(longer, NULL, 0);
}

/* Calls n bytes of zeroes its environment, as any process may. */
static bool call_environment(size_t n)
{
	char text[2048], *p, *word, *save = NULL;
	char *area = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t v[53] = { 0 };
	ssize_t got = proc_read_file(getpid(), "stat", text, sizeof(text));
	struct prctl_mm_map m = { .exe_fd = (uint32_t)-1 };

	p = got > 0 ? strrchr(text, ')') : NULL;
	if (area == MAP_FAILED || !p)
		return false;
	word = strtok_r(p + 1, " ", &save);
	for (int i = 3; word && i < 53; word = strtok_r(NULL, " ", &save))
		v[i++] = strtoull(word, NULL, 10);
	m.start_code = v[26], m.end_code = v[27], m.start_stack = v[28];
	m.start_data = v[45], m.end_data = v[46], m.start_brk = v[47], m.brk = (uintptr_t)sbrk(0);
	m.arg_start = v[48], m.arg_end = v[49];
	m.env_start = (uintptr_t)area, m.env_end = (uintptr_t)area + n;
	return prctl(PR_SET_MM, PR_SET_MM_MAP, &m, sizeof(m), 0) == 0;
}

TEST(an_environment_without_end_is_not_read_to_its_end)
{
	pid_t pid;
	int ready[2];
	struct buf b;
	char c = 0;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c = call_environment(64u << 20) ? 'y' : 'n';
		_exit(write(ready[1], &c, 1) == 1 && pause());
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	buf_init(&b);
	assert_int_equal(proc_sys_environ(pid, &b), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (c == 'n') { /* a kernel without CONFIG_CHECKPOINT_RESTORE */
		buf_finish(&b);
		skip();
	}
	assert_true(b.len > 6u << 20); /* exec() may give so much */
	assert_true(b.len <= 9u << 20);
	buf_finish(&b);
}

TEST(a_sweep_spares_the_sweeper)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) { /* exec'ed again with the variable: see main */
		char *argv[] = { (char *)"test_proc", (char *)"sweep", NULL };
		char *env[] = { (char *)"TEST_PROC_SELF=1", NULL };

		execve("/proc/self/exe", argv, env);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_has_a_start_time_and_a_gone_one_has_none),
		cmocka_unit_test(a_name_full_of_brackets_and_spaces_does_not_confuse),
		cmocka_unit_test(the_boot_id_has_36_characters),
		cmocka_unit_test(a_signal_needs_the_right_start_time),
		cmocka_unit_test(the_first_process_and_groups_are_never_signalled),
		cmocka_unit_test(old_kernels_without_pidfd_work_too),
		cmocka_unit_test(a_zombie_is_dead),
		cmocka_unit_test(a_process_lives_on_in_its_other_threads),
		cmocka_unit_test(all_descendants_are_found_children_first),
		cmocka_unit_test(a_zombie_is_no_descendant),
		cmocka_unit_test(a_sweep_kills_exactly_the_holders_of_the_variable),
		cmocka_unit_test(an_environment_without_end_is_not_read_to_its_end),
		cmocka_unit_test(a_sweep_spares_the_sweeper),
	};

	if (argc > 1)
		return proc_sweep_env("TEST_PROC_SELF", "1", 0, NULL) == 0 ? 0 : 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
