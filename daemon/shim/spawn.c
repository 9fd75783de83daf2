/* spawn.c - see spawn.h
 *
 * setsid per rank: its group is signalled with one kill(), and no rank can
 * reach another's terminal or group. The parent-death signal takes the ranks
 * along when the shim itself is killed; it is cleared for setuid programs, and
 * does not reach their children: cgroup or sweep of the agent's do.
 *
 * Every descriptor of the shim is close-on-exec; all signals have their default
 * action in the shim already (it blocks and polls them), so the child has to
 * clear its mask only. */
#include "shim/spawn.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cpulist.h"

#define STACK_SIZE (64u << 10)

struct spawn {
	char *path;
	const char *const *argv;
	const char **sh_argv; /* sh PATH ARGS: for a script without "#!" */
	struct rlimit nofile;
	cpu_set_t *cpus; /* NULL: not bound */
	size_t cpus_size;
	void *stack;
	/* of the rank being started */
	char **env;
	int fds[3];
	pid_t parent;
	volatile int error;
};

static size_t count(const char *const *argv)
{
	size_t n = 0;

	while (argv[n])
		n++;
	return n;
}

struct spawn *spawn_create(const char *path, const char *const *argv, const struct rlimit *nofile,
			   const char *cpus)
{
	struct spawn *s = calloc(1, sizeof *s);
	size_t argc = count(argv);

	if (!s)
		return NULL;

	s->argv = argv;
	s->nofile = *nofile;
	s->cpus = cpus ? cpulist_parse(cpus, &s->cpus_size) : NULL;
	s->path = strdup(path);
	s->sh_argv = calloc(argc + 2, sizeof *s->sh_argv);
	s->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (s->stack == MAP_FAILED)
		s->stack = NULL;
	if (!s->path || !s->sh_argv || !s->stack) {
		spawn_destroy(s);
		return NULL;
	}

	s->sh_argv[0] = "/bin/sh";
	s->sh_argv[1] = s->path;
	memcpy(s->sh_argv + 2, argv + 1, (argc - 1) * sizeof *argv);
	return s;
}

void spawn_destroy(struct spawn *s)
{
	if (!s)
		return;

	free(s->path);
	free(s->sh_argv);
	if (s->cpus)
		CPU_FREE(s->cpus);
	if (s->stack)
		munmap(s->stack, STACK_SIZE);
	free(s);
}

/* Shares our memory: system calls only. */
__attribute__((no_sanitize("address", "undefined"))) static int child(void *arg)
{
	struct spawn *s = arg;
	sigset_t none;

	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != s->parent)
		_exit(127); /* the shim died before the line above */
	for (int i = 0; i < 3; i++)
		if (dup2(s->fds[i], i) < 0)
			goto fail;
	setrlimit(RLIMIT_NOFILE, &s->nofile);
	if (s->cpus) /* fails in a cpuset without any of them: then it is not bound */
		sched_setaffinity(0, s->cpus_size, s->cpus);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(s->path, (char **)s->argv, s->env);
	if (errno == ENOEXEC)
		execve(s->sh_argv[0], (char **)s->sh_argv, s->env);
fail:
	s->error = errno ? errno : EINVAL;
	_exit(127);
}

pid_t spawn_rank(struct spawn *s, char **env, const int fds[3])
{
	pid_t pid;

	s->env = env;
	memcpy(s->fds, fds, sizeof s->fds);
	s->parent = getpid();
	s->error = 0;
	pid = clone(child, (char *)s->stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, s);
	if (pid < 0)
		return -errno;
	if (s->error) {
		waitpid(pid, NULL, 0);
		return -s->error;
	}
	return pid;
}
