/* spawn.c - see spawn.h
 *
 * vfork: the child runs in our memory until it execs, so starting costs the
 * same whatever our size. It calls nothing but system calls, changes no memory
 * but 'sp', and all signals are blocked around it, so no handler of ours runs
 * in it. Everything else of ours is close-on-exec.
 */
#include "io/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct spawning {
	const char *path;
	char *const *argv;
	char *const *env;
	const struct spawn_fd *map;
	const int *from; /* copies above every target: no dup2 overwrites a source */
	size_t n;
	int null;
	struct rlimit nofile;
	volatile int error;
};

static void default_signals(void)
{
	struct sigaction sa;
	sigset_t none;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = SIG_DFL;
	for (int i = 1; i < NSIG; i++)
		sigaction(i, &sa, NULL); /* fails for KILL and STOP, which are as they are */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child(struct spawning *sp)
{
	setsid();
	umask(022);
	for (int i = 0; i < 3; i++)
		if (dup2(sp->null, i) < 0)
			goto failed;
	for (size_t i = 0; i < sp->n; i++)
		if (dup2(sp->from[i], sp->map[i].to) < 0) /* dup2's copy is not close-on-exec */
			goto failed;
	if (sp->nofile.rlim_max != 0)
		setrlimit(RLIMIT_NOFILE, &sp->nofile); /* what is open stays open */
	default_signals();
	execve(sp->path, sp->argv, sp->env);
failed:
	sp->error = errno;
	_exit(127);
}

static pid_t __attribute__((noinline)) start(struct spawning *sp)
{
	pid_t pid = vfork();

	if (pid == 0)
		child(sp);
	return pid;
}

/* Descriptors above all targets; -errno, then the first *n are open. */
static int raise_fds(const struct spawn_fd *map, size_t n, int *from, size_t *done)
{
	int base = 3;

	for (size_t i = 0; i < n; i++)
		if (map[i].to >= base)
			base = map[i].to + 1;
	for (*done = 0; *done < n; (*done)++) {
		from[*done] = fcntl(map[*done].from, F_DUPFD_CLOEXEC, base);
		if (from[*done] < 0)
			return -errno;
	}
	return base;
}

int spawn_program(const char *path, char *const argv[], char *const env[], const struct spawn_fd *map,
		  size_t n, uint64_t nofile_cur, uint64_t nofile_max, pid_t *ret, struct err *e)
{
	struct spawning sp = { .path = path, .argv = argv, .env = env, .map = map, .n = n,
			       .nofile = { nofile_cur, nofile_max } };
	int *from = calloc(n + 1, sizeof(*from)), null = -1, rc;
	sigset_t all, old;
	size_t open_n = 0;
	pid_t pid = -1;

	if (from == NULL)
		return err_set(e, ENOMEM, "out of memory");
	rc = raise_fds(map, n, from, &open_n);
	if (rc >= 0)
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (rc >= 0 && null >= 0) {
		sp.null = fcntl(null, F_DUPFD_CLOEXEC, rc);
		sp.from = from;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		pid = start(&sp);
		rc = pid < 0 ? -errno : -sp.error;
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		close(sp.null);
	} else if (rc >= 0) {
		rc = -errno;
	}
	if (pid > 0 && rc != 0)
		waitpid(pid, NULL, 0);
	for (size_t i = 0; i < open_n; i++)
		close(from[i]);
	if (null >= 0)
		close(null);
	free(from);
	if (rc != 0)
		return err_set(e, rc, "cannot start %s: %s", path, strerror(-rc));
	*ret = pid;
	return 0;
}
