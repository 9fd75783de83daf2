/* stacks.c - the child that looks at stacks, seen from the shim; see stacks.h */
#include "shim/stacks.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/proc.h"

#define MARK '\001' /* begins a piece; then its local rank in digits, and a line feed */

struct stacks {
	pid_t pid;
	uint64_t start_time;
	int fd;
	struct buf text;
	size_t at; /* of the next piece */
};

/* Ours are pipes of ranks and the agent's connection: who is at their other ends must not wait for us. */
static void close_others(int keep)
{
	struct rlimit r;

#ifdef SYS_close_range
	if (syscall(SYS_close_range, 0u, (unsigned)keep - 1, 0u) == 0 && syscall(SYS_close_range, (unsigned)keep + 1, ~0u, 0u) == 0)
		return;
#endif
	for (int fd = getrlimit(RLIMIT_NOFILE, &r) == 0 ? (int)r.rlim_cur : 1024; fd-- > 0;)
		if (fd != keep)
			close(fd);
}

__attribute__((noreturn)) static void child(int fd, const struct stacks_target *v, size_t n, const char *path, pid_t shim)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != shim)
		_exit(1);
	close_others(fd);
	for (int i = 0; i < 3; i++)
		open("/dev/null", O_RDWR);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	alarm(STACKS_MS / 1000 + 2);
	stacks_collect(fd, v, n, path);
	_exit(0);
}

struct stacks *stacks_begin(const struct stacks_target *v, size_t n, const char *path)
{
	struct stacks *s = calloc(1, sizeof *s);
	pid_t shim = getpid();
	int fds[2];

	if (!s || pipe2(fds, O_CLOEXEC) < 0) {
		free(s);
		return NULL;
	}
	buf_init(&s->text);
	s->fd = fds[0];
	s->pid = fork();
	if (s->pid == 0)
		child(fds[1], v, n, path, shim);
	close(fds[1]);
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
	if (s->pid > 0 && proc_start_time(s->pid, &s->start_time) == 0)
		return s;
	close(s->fd);
	free(s);
	return NULL;
}

void stacks_destroy(struct stacks *s)
{
	if (!s)
		return;
	proc_signal(s->pid, s->start_time, SIGKILL);
	close(s->fd);
	buf_finish(&s->text);
	free(s);
}

int stacks_fd(const struct stacks *s)
{
	return s->fd;
}

pid_t stacks_pid(const struct stacks *s)
{
	return s->pid;
}

bool stacks_read(struct stacks *s)
{
	char bytes[16384];
	ssize_t n;

	while ((n = read(s->fd, bytes, sizeof bytes)) > 0)
		if (s->text.len < STACKS_BYTES)
			buf_add(&s->text, bytes, (size_t)n);
	return n == 0 || (errno != EAGAIN && errno != EINTR);
}

/* One that was cut in the middle of a line is told up to there. */
bool stacks_next(struct stacks *s, uint32_t *ret_local, const char **ret, size_t *ret_n)
{
	const char *p = s->text.data, *end = p + s->text.len, *at, *next;

	if (!p || buf_failed(&s->text) || s->at >= s->text.len || p[s->at] != MARK)
		return false;
	at = p + s->at + 1;
	next = memchr(at, '\n', (size_t)(end - at));
	if (!next)
		return false;
	*ret_local = (uint32_t)strtoul(at, NULL, 10);
	*ret = at = next + 1;
	next = memchr(at, MARK, (size_t)(end - at));
	if (!next)
		for (next = end; next > at && next[-1] != '\n';)
			next--;
	*ret_n = (size_t)(next - at);
	s->at = (size_t)(next - p);
	return *ret_n > 0;
}
