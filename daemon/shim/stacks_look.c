/* stacks_look.c - what the child does: threads and their system calls, and the tools; see stacks.h
 *
 * It is a process of its own, so it may block, and what it allocates goes with it.
 */
#include "shim/stacks.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/proc.h"

#define SAID "[nodeagent] "
#define THREADS_MAX 1024
#define GROUPS_MAX 24
#define LINES_MAX 400 /* of one tool */
#define FRAMES_MAX 12

static int out_fd;
static int64_t until_ms;

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void put(const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(out_fd, p, n);

		if (w < 0 && errno != EINTR)
			_exit(0); /* nobody listens */
		p += w > 0 ? w : 0;
		n -= w > 0 ? (size_t)w : 0;
	}
}

/* One line, whatever is in it. */
__attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	char text[1024] = SAID;
	size_t n = sizeof SAID - 1;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - n - 1, fmt, ap);
	va_end(ap);
	for (char *c = text; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = *c == '\t' ? ' ' : '?';
	n = strlen(text);
	text[n++] = '\n';
	put(text, n);
}

/* ---- system calls ------------------------------------------------------------- */

static const struct {
	long nr;
	const char *name;
	bool fd; /* its first argument is one */
} calls[] = {
	{ SYS_futex, "futex", false },	     { SYS_read, "read", true },	 { SYS_write, "write", true },
	{ SYS_pread64, "pread", true },	     { SYS_pwrite64, "pwrite", true },	 { SYS_readv, "readv", true },
	{ SYS_writev, "writev", true },	     { SYS_fsync, "fsync", true },	 { SYS_fdatasync, "fdatasync", true },
	{ SYS_ppoll, "ppoll", false },	     { SYS_pselect6, "pselect", false }, { SYS_epoll_pwait, "epoll_pwait", false },
	{ SYS_nanosleep, "nanosleep", false }, { SYS_clock_nanosleep, "clock_nanosleep", false },
	{ SYS_recvfrom, "recv", true },	     { SYS_recvmsg, "recvmsg", true },	 { SYS_sendto, "send", true },
	{ SYS_sendmsg, "sendmsg", true },    { SYS_connect, "connect", true },	 { SYS_accept, "accept", true },
	{ SYS_accept4, "accept", true },     { SYS_wait4, "wait4", false },	 { SYS_waitid, "waitid", false },
	{ SYS_ioctl, "ioctl", true },	     { SYS_openat, "openat", false },	 { SYS_close, "close", true },
	{ SYS_flock, "flock", true },	     { SYS_fcntl, "fcntl", true },	 { SYS_getdents64, "getdents", true },
	{ SYS_munmap, "munmap", false },     { SYS_mmap, "mmap", false },	 { SYS_exit_group, "exit_group", false },
	{ SYS_fstat, "fstat", true },	     { SYS_msync, "msync", false },	 { SYS_ftruncate, "ftruncate", true },
	{ SYS_rt_sigtimedwait, "sigtimedwait", false },
#ifdef SYS_poll
	{ SYS_poll, "poll", false },	     { SYS_select, "select", false },	 { SYS_epoll_wait, "epoll_wait", false },
	{ SYS_open, "open", false },	     { SYS_stat, "stat", false },	 { SYS_pause, "pause", false },
#endif
};

/* The name of what it is open on: of the link, nothing is asked of its file system. */
static void add_file(pid_t pid, unsigned long fd, char *out, size_t size)
{
	char link[48], name[200];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/%d/fd/%lu", (int)pid, fd);
	n = readlink(link, name, sizeof name - 1);
	if (n <= 0)
		return;
	name[n] = '\0';
	snprintf(out + strlen(out), size - strlen(out), " of %s", name);
}

/* "read of /data/x in nfs_wait_bit_killable" */
static void thread_line(pid_t pid, const char *tid, char *out, size_t size)
{
	char name[64], text[256], wchan[65] = "";
	unsigned long fd = 0;
	long nr = -1;

	out[0] = '\0';
	snprintf(name, sizeof name, "task/%.16s/syscall", tid);
	if (proc_read_file(pid, name, text, sizeof text) > 0) {
		if (strncmp(text, "running", 7) == 0) {
			snprintf(out, size, "running");
			return;
		}
		if (sscanf(text, "%ld %lx", &nr, &fd) >= 1 && nr >= 0) {
			size_t i = 0;

			while (i < sizeof calls / sizeof calls[0] && calls[i].nr != nr)
				i++;
			if (i < sizeof calls / sizeof calls[0])
				snprintf(out, size, "%s", calls[i].name);
			else
				snprintf(out, size, "system call %ld", nr);
			if (i < sizeof calls / sizeof calls[0] && calls[i].fd)
				add_file(pid, fd, out, size);
		}
	}
	snprintf(name, sizeof name, "task/%.16s/wchan", tid);
	if (proc_read_file(pid, name, wchan, sizeof wchan) > 0 && strcmp(wchan, "0") != 0)
		snprintf(out + strlen(out), size - strlen(out), "%sin %.64s", *out ? " " : "", wchan);
	if (!*out)
		snprintf(out, size, "nothing is known of it");
}

static bool say_kernel_stack(pid_t pid, const char *tid)
{
	char name[64], text[4096], *save = NULL;
	int n = 0;

	snprintf(name, sizeof name, "task/%.16s/stack", tid);
	if (proc_read_file(pid, name, text, sizeof text) <= 0)
		return false;
	for (char *line = strtok_r(text, "\n", &save); line && n < FRAMES_MAX; line = strtok_r(NULL, "\n", &save), n++)
		say("      %s", strncmp(line, "[<0>] ", 6) == 0 ? line + 6 : line);
	return true;
}

struct group {
	char line[320], tid[17];
	unsigned n;
};

/* Its main thread comes first; hundreds of others wait in few places. False: no kernel stack could be read. */
static bool say_threads(pid_t pid)
{
	static struct group g[GROUPS_MAX];
	unsigned others = 0;
	size_t n = 0;
	char path[32], line[320];
	bool stack = false;
	struct dirent *d;
	DIR *tasks;

	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	for (int i = 0; tasks && i < THREADS_MAX && (d = readdir(tasks)) != NULL; i++) {
		size_t k = 0;

		if (!isdigit((unsigned char)d->d_name[0]))
			continue;
		thread_line(pid, d->d_name, line, sizeof line);
		while (k < n && strcmp(g[k].line, line) != 0)
			k++;
		if (k == n && n < GROUPS_MAX) {
			g[n].n = 0;
			snprintf(g[n].tid, sizeof g[n].tid, "%.16s", d->d_name);
			memcpy(g[n++].line, line, sizeof line);
		}
		if (k < n)
			g[k].n++;
		else
			others++;
	}
	if (tasks)
		closedir(tasks);
	for (size_t k = 0; k < n; k++) {
		say("   %u thread%s (%s%s): %s", g[k].n, g[k].n == 1 ? "" : "s", g[k].tid, g[k].n == 1 ? "" : " ...", g[k].line);
		stack = say_kernel_stack(pid, g[k].tid) || stack;
	}
	if (others)
		say("   %u threads more", others);
	return stack;
}

/* ---- tools ----------------------------------------------------------------------- */

static bool is_program(const char *dir, size_t len, const char *name, char *out, size_t size)
{
	return len > 0 && (size_t)snprintf(out, size, "%.*s/%s", (int)len, dir, name) < size && out[0] == '/' && access(out, X_OK) == 0;
}

/* On the job's PATH, or beside what the process runs: a conda environment has both. */
static bool find_tool(pid_t pid, const char *path, const char *name, char *out, size_t size)
{
	char link[32], exe[512];
	ssize_t n;

	for (const char *p = path; p && *p; p += strcspn(p, ":"), p += *p == ':')
		if (is_program(p, strcspn(p, ":"), name, out, size))
			return true;
	snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
	n = readlink(link, exe, sizeof exe - 1);
	if (n <= 0)
		return false;
	exe[n] = '\0';
	return strrchr(exe, '/') && is_program(exe, (size_t)(strrchr(exe, '/') - exe), name, out, size);
}

static void exec_tool(const char *tool, char *const *argv, int fd)
{
	char *const env[] = { "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "DEBUGINFOD_URLS=", "HOME=/nonexistent", NULL };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	for (int i = 3; i < 64; i++)
		close(i);
	execve(tool, argv, env);
	_exit(127);
}

/* Says its lines until it ends, or time is up: then true, and it is killed. */
static bool say_lines(int fd, int64_t end)
{
	char line[600];
	size_t n = 0;
	int lines = 0;

	while (true) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = end - now_ms();
		char c[4096];
		ssize_t r;

		if (left <= 0)
			return true;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		r = read(fd, c, sizeof c);
		for (ssize_t i = 0; i < r; i++) {
			if (c[i] != '\n' && n < sizeof line - 1) {
				line[n++] = c[i];
				continue;
			}
			line[n] = '\0';
			if (n > 0 && lines++ < LINES_MAX)
				say("   %s", line);
			n = 0;
		}
		if (r <= 0 && !(r < 0 && errno == EINTR))
			break;
	}
	if (lines > LINES_MAX)
		say("   %d lines more", lines - LINES_MAX);
	return false;
}

/* After SIGKILL for a second, or it hangs in the kernel itself: then it is left alone. */
static int wait_for(pid_t pid, int ms)
{
	int status;

	for (; ms >= 0; ms -= 20) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		poll(NULL, 0, 20);
	}
	return -1;
}

static char state_of(pid_t pid)
{
	struct proc_stat st;

	return proc_read(pid, &st) == 0 ? st.state : '?';
}

/* A tracer that dies while its victim stops leaves it stopped. */
static void set_going(const struct stacks_target *t, char before)
{
	if (before == 'T')
		return;
	for (int i = 0; i < 10 && state_of(t->pid) == 'T'; i++) {
		proc_signal(t->pid, t->start_time, SIGCONT);
		poll(NULL, 0, 50);
	}
}

static void run_tool(const struct stacks_target *t, const char *tool, char *const *argv)
{
	int64_t end = now_ms() + STACKS_TOOL_MS;
	char before = state_of(t->pid);
	int fds[2], status;
	pid_t pid;

	if (pipe(fds) < 0)
		return;
	pid = fork();
	if (pid == 0)
		exec_tool(tool, argv, fds[1]);
	close(fds[1]);
	if (pid > 0 && say_lines(fds[0], end < until_ms ? end : until_ms)) {
		say("   %s took too long, and was ended", tool);
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	close(fds[0]);
	status = pid > 0 ? wait_for(pid, 1000) : -1;
	if (status > 0 && WIFEXITED(status))
		say("   %s has failed with code %d", tool, WEXITSTATUS(status));
	set_going(t, before);
}

static bool beside_is_forbidden(void)
{
	char text[16] = "0";
	int fd = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (read(fd, text, sizeof text - 1) <= 0)
		text[0] = '0';
	close(fd);
	return text[0] != '0' && geteuid() != 0;
}

/* Tools that stop it. */
static void stop_and_look(const struct stacks_target *t, const char *path)
{
	char tool[600], pid[16], state = state_of(t->pid);

	snprintf(pid, sizeof pid, "%d", (int)t->pid);
	if (state == 'D' || state == 'T' || state == 't') {
		say("   no stacks of its code: it is in state %c, where eu-stack and gdb would wait, and py-spy is not on the job's PATH", state);
	} else if (beside_is_forbidden()) {
		say("   no stacks of its code: this host lets nobody but root look into a process from beside it (kernel.yama.ptrace_scope)");
	} else if (find_tool(t->pid, path, "eu-stack", tool, sizeof tool)) {
		say("  %s -p %s:", tool, pid);
		run_tool(t, tool, (char *const[]){ "eu-stack", "-n", "48", "-p", pid, NULL });
	} else if (find_tool(t->pid, path, "gdb", tool, sizeof tool)) {
		say("  %s -p %s:", tool, pid);
		run_tool(t, tool, (char *const[]){ "gdb", "-batch", "-nx", "-iex", "set pagination off", "-iex",
						   "set auto-load off", "-ex", "thread apply all backtrace 48", "-p", pid, NULL });
	} else {
		say("   no stacks of its code: neither py-spy nor eu-stack nor gdb is on the job's PATH");
	}
}

static bool is_python(pid_t pid)
{
	char path[40], exe[PATH_MAX];
	const char *name;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
	n = readlink(path, exe, sizeof exe - 1);
	if (n <= 0)
		return false;
	exe[n] = '\0';
	name = strrchr(exe, '/');
	return name && strncmp(name + 1, "python", 6) == 0;
}

static void look_into(const struct stacks_target *t, const char *path)
{
	char tool[600], pid[16];

	snprintf(pid, sizeof pid, "%d", (int)t->pid);
	if (!find_tool(t->pid, path, "py-spy", tool, sizeof tool)) {
		if (is_python(t->pid))
			say("   lines of Python are shown where py-spy is installed in the job's environment: pip install py-spy");
		stop_and_look(t, path);
		return;
	}
	say("  %s dump --nonblocking --pid %s:", tool, pid);
	run_tool(t, tool, (char *const[]){ "py-spy", "dump", "--nonblocking", "--pid", pid, NULL });
}

/* ---- one process -------------------------------------------------------------------- */

static void look_at(const struct stacks_target *t, const char *path)
{
	char mark[24];
	pid_t below[64];
	int n, kids;

	n = snprintf(mark, sizeof mark, "\001%u\n", t->local);
	put(mark, (size_t)n);
	if (proc_dead(t->pid, t->start_time)) {
		say("rank %u (pid %d) is over", t->rank, (int)t->pid);
		return;
	}
	if (now_ms() >= until_ms) {
		say("no time was left to look at rank %u (pid %d)", t->rank, (int)t->pid);
		return;
	}
	kids = proc_descendants(t->pid, below, 64);
	say("rank %u (pid %d, state %c), asked for by --on-hang stacks:", t->rank, (int)t->pid, state_of(t->pid));
	if (kids > 0)
		say("   %d process%s below it not looked at", kids, kids == 1 ? " is" : "es are");
	if (!say_threads(t->pid))
		say("   no kernel stacks: only root may read them");
	look_into(t, path);
}

void stacks_collect(int fd, const struct stacks_target *v, size_t n, const char *path)
{
	out_fd = fd;
	until_ms = now_ms() + STACKS_MS;
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < n; i++)
		look_at(&v[i], path);
}
