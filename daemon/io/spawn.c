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
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/proc.h"

/* What we have started, for as long as it is there. One lock around the start
 * and the note of it: who finds a new child in /proc waits here for the note. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct own {
	pid_t pid;
	uint64_t start;
} *own;
static size_t n_own, cap_own;
static bool own_unknown; /* no memory for a note: no child is taken for an orphan any more */

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
	for (size_t i = 0; i < sp->n; i++) /* from here on nothing of it can hide */
		if (sp->map[i].to == SPAWN_CGROUP && write(sp->from[i], "0", 1) < 0)
			errno = 0;
	for (size_t i = 0; i < sp->n; i++)
		if (sp->map[i].to != SPAWN_CGROUP && dup2(sp->from[i], sp->map[i].to) < 0) /* dup2's copy is not close-on-exec */
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

static void forget_the_gone(void)
{
	size_t kept = 0;

	for (size_t i = 0; i < n_own; i++) {
		uint64_t start;

		if (proc_start_time(own[i].pid, &start) == 0 && start == own[i].start)
			own[kept++] = own[i];
	}
	n_own = kept;
}

/* The child has not been reaped: its pid is its own. */
static void note(pid_t pid)
{
	struct own o = { .pid = pid };
	bool looked = n_own == cap_own;

	if (looked)
		forget_the_gone();
	/* Less than half is in use after this: it is not looked through at every start. */
	if (looked && 2 * n_own >= cap_own) {
		struct own *more = realloc(own, (2 * cap_own + 64) * sizeof(*own));

		if (more != NULL) {
			own = more;
			cap_own = 2 * cap_own + 64;
		}
	}
	if (n_own == cap_own || proc_start_time(pid, &o.start) != 0)
		own_unknown = true;
	else
		own[n_own++] = o;
}

static bool noted(pid_t pid, uint64_t start_time)
{
	bool found = own_unknown;

	for (size_t i = 0; !found && i < n_own; i++)
		found = own[i].pid == pid && own[i].start == start_time;
	return found;
}

bool spawn_is_ours(pid_t pid, uint64_t start_time)
{
	bool found;

	pthread_mutex_lock(&lock);
	found = noted(pid, start_time);
	pthread_mutex_unlock(&lock);
	return found;
}

bool spawn_may_be_ours(pid_t pid, uint64_t start_time)
{
	bool found;

	if (pthread_mutex_trylock(&lock) != 0)
		return true;
	found = noted(pid, start_time);
	pthread_mutex_unlock(&lock);
	return found;
}

size_t spawn_notes(void)
{
	size_t n;

	pthread_mutex_lock(&lock);
	n = n_own;
	pthread_mutex_unlock(&lock);
	return n;
}

static int start_and_note(struct spawning *sp, pid_t *ret)
{
	int rc;

	pthread_mutex_lock(&lock);
	*ret = start(sp);
	rc = *ret < 0 ? -errno : -sp->error;
	if (*ret > 0 && rc != 0)
		waitpid(*ret, NULL, 0);
	else if (*ret > 0)
		note(*ret);
	pthread_mutex_unlock(&lock);
	return rc;
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
		rc = start_and_note(&sp, &pid);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		close(sp.null);
	} else if (rc >= 0) {
		rc = -errno;
	}
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
