/* sm_unit.c - see sm_unit.h */
#include "common/sm_unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/proc_sys.h"

#define LOOK_MS 50 /* without pidfd (before Linux 5.3) */
#define DEAD_MS 1000 /* after SIGKILL */

static const char *const names[] = { [SM_OPENSM] = "opensm", [SM_OPENSMD] = "opensmd" };
static const char *const services[] = { [SM_OPENSM] = "opensm.service", [SM_OPENSMD] = "opensmd.service" };

struct child {
	pid_t pid;
	int pidfd; /* -1: none */
	int out; /* -1: at its end */
	char line[SM_LAST_MAX + 1];
	size_t n;
	struct sm_ran *ran;
};

const char *sm_unit_name(uint32_t unit)
{
	return unit >= SM_OPENSM && unit <= SM_OPENSMD ? names[unit] : NULL;
}

uint32_t sm_unit_of(const char *name)
{
	for (uint32_t i = SM_OPENSM; i <= SM_OPENSMD; i++)
		if (name && strcmp(names[i], name) == 0)
			return i;
	return 0;
}

/* ---- in the child --------------------------------------------------------------- */

static void close_from(unsigned first)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, ~0u, 0) == 0)
		return;
#endif
	for (unsigned fd = first; fd < 65536; fd++)
		close((int)fd);
}

static void become(const char *verb, uint32_t unit, int out, pid_t parent)
{
	char *argv[] = { (char *)"systemctl", (char *)"--no-ask-password", (char *)verb, (char *)services[unit], NULL };
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", (char *)"SYSTEMD_COLORS=0",
			(char *)"SYSTEMD_PAGER=", NULL };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(127);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || chdir("/") < 0)
		_exit(127);
	close_from(3);
	umask(022);
	execve(SM_SYSTEMCTL, argv, env);
	dprintf(2, "%s: %s\n", SM_SYSTEMCTL, strerror(errno));
	_exit(127);
}

/* ---- in the parent --------------------------------------------------------------- */

static void end_line(struct child *c)
{
	if (c->n > 0) {
		memcpy(c->ran->last, c->line, c->n);
		c->ran->last[c->n] = '\0';
	}
	c->n = 0;
}

/* All that is there now. The end of the file does not mean that it has ended, nor the reverse: what it
 * has started may hold the pipe. */
static void read_output(struct child *c)
{
	char text[512];
	ssize_t n;

	while (c->out >= 0 && (n = read(c->out, text, sizeof text)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] == '\n')
				end_line(c);
			else if (c->n < SM_LAST_MAX)
				c->line[c->n++] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
		}
	}
	if (c->out >= 0)
		close(c->out);
	c->out = -1;
}

/* 1 it has ended, 0 the time is over, or -errno: it is not ours to wait for. */
static int wait_end(struct child *c, int64_t until_ms, int *ret_status)
{
	for (;;) {
		struct pollfd p[2] = { { .fd = c->pidfd, .events = POLLIN }, { .fd = c->out, .events = POLLIN } };
		int64_t left = until_ms - proc_sys_ms();
		pid_t got;

		read_output(c);
		got = waitpid(c->pid, ret_status, WNOHANG);
		if (got == c->pid) {
			read_output(c);
			end_line(c);
			return 1;
		}
		if (got < 0 && errno != EINTR)
			return -errno;
		if (left <= 0)
			return 0;
		poll(p, 2, (int)(c->pidfd < 0 && left > LOOK_MS ? LOOK_MS : left));
	}
}

/* It is our child and not reaped: neither pidfd nor pid can be anybody else. */
static void end_it(struct child *c)
{
	int status;

	if (c->pidfd < 0 || proc_sys_pidfd_signal(c->pidfd, SIGKILL) < 0)
		kill(c->pid, SIGKILL);
	wait_end(c, proc_sys_ms() + DEAD_MS, &status);
}

static int begin(struct child *c, const char *verb, uint32_t unit, struct err *e)
{
	pid_t parent = getpid();
	int out[2];

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_set(e, errno, "cannot run %s: %s", SM_SYSTEMCTL, strerror(errno));
	c->pid = fork();
	if (c->pid == 0)
		become(verb, unit, out[1], parent);
	close(out[1]);
	if (c->pid < 0) {
		close(out[0]);
		return err_set(e, errno, "cannot run %s: %s", SM_SYSTEMCTL, strerror(errno));
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK); /* ours only */
	c->out = out[0];
	c->pidfd = proc_sys_pidfd(c->pid);
	return 0;
}

static int run(const char *verb, uint32_t unit, int ms, struct sm_ran *ran, struct err *e)
{
	struct child c = { .ran = ran };
	int status = 0, r = begin(&c, verb, unit, e);

	if (r < 0)
		return r;
	r = wait_end(&c, proc_sys_ms() + ms, &status);
	if (r == 0)
		end_it(&c);
	if (c.pidfd >= 0)
		proc_sys_pidfd_close(c.pidfd);
	if (c.out >= 0)
		close(c.out);
	if (r == 0)
		return err_set(e, ETIME, "systemctl %s %s did not end within %d s and was ended; systemd may go on with it", verb,
			       names[unit], ms / 1000);
	if (r < 0)
		return err_set(e, r, "%s cannot be waited for: %s", SM_SYSTEMCTL, strerror(-r));
	ran->code = WIFSIGNALED(status) ? 128u + (uint32_t)WTERMSIG(status) : (uint32_t)WEXITSTATUS(status);
	return 0;
}

int sm_unit_restart(uint32_t unit, bool enable, struct sm_ran *ret, struct err *e)
{
	int r;

	memset(ret, 0, sizeof *ret);
	if (!sm_unit_name(unit))
		return err_set(e, EINVAL, "there is no subnet manager number %u", unit);
	r = run("restart", unit, SM_RESTART_MS, ret, e);
	if (r < 0 || ret->code != 0 || !enable)
		return r;
	memset(ret, 0, sizeof *ret);
	ret->enabling = true;
	return run("enable", unit, SM_ENABLE_MS, ret, e);
}
