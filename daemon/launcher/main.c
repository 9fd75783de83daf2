/* main.c - nodeagent-launcher: root's part, as small as it can be
 *
 *   nodeagent-launcher --spool DIR (--fd N | --socket PATH) --shim PATH
 *                      [--agent-user NAME] [--uid-min N] [--uid-max N] [--allow-root]
 *                      [--fix-sm FILE]
 *
 * Reads fixed-size packets (launcher.h) from the agent's user or root, over a
 * Unix socket, and nothing else: no JSON, no path, no specification. Each
 * LAUNCH and KILL is done by a forked child under a deadline, so a name
 * service that hangs delays nobody, least of all a KILL.
 *
 * Not promised: that a launched shim is a child that is waited for. It is ours
 * by accident of fork and is reaped when it ends; a launcher that is restarted
 * leaves it alone (KillMode=process). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "launcher/cgroup.h"
#include "launcher/fix_sm.h"
#include "launcher/serve.h"

static struct notify notify;
static struct policy policy = { .uid_min = 1000, .uid_max = 59999, .fix_sm = FIX_SM_FILE };
static bool only_connection; /* started with one connected socket: leave with it */

static int fatal(const char *fmt, const char *what)
{
	char text[512];

	snprintf(text, sizeof text, fmt, what);
	log_error("%s", text);
	return 1;
}

static bool number(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool listen_on(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	mode_t old;
	int fd, r;

	if (strlen(path) >= sizeof a.sun_path)
		return false;
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	unlink(path);
	old = umask(0111); /* who may use it is decided by SO_PEERCRED */
	r = bind(fd, (struct sockaddr *)&a, sizeof a);
	umask(old);
	serve_listener(fd);
	return fd >= 0 && r == 0 && listen(fd, 16) == 0;
}

static bool use_fd(uint32_t fd)
{
	int on = 0;
	socklen_t len = sizeof on;

	if (getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) < 0)
		return false;
	fcntl((int)fd, F_SETFD, FD_CLOEXEC);
	if (on) {
		serve_listener((int)fd);
		return true;
	}
	only_connection = true;
	return serve_connection((int)fd);
}

static bool find_agent(const char *user)
{
	struct passwd *pw = getpwnam(user);

	if (!pw)
		return false;
	policy.agent_uid = pw->pw_uid;
	policy.agent_gid = pw->pw_gid;
	return true;
}

struct options {
	const char *socket, *agent_user;
	uint32_t fd;
	bool have_fd;
};

static bool parse_options(int argc, char **argv, struct options *o)
{
	static const struct option table[] = {
		{ "spool", 1, NULL, 's' },	{ "fd", 1, NULL, 'f' },
		{ "socket", 1, NULL, 'p' },	{ "agent-user", 1, NULL, 'u' },
		{ "uid-min", 1, NULL, 'm' },	{ "uid-max", 1, NULL, 'M' },
		{ "allow-root", 0, NULL, 'R' }, { "shim", 1, NULL, 'S' },
		{ "fix-sm", 1, NULL, 'F' },	{ NULL, 0, NULL, 0 },
	};
	bool ok = true;

	for (int c; ok && (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
		if (c == 's')
			policy.spool = optarg;
		else if (c == 'f')
			ok = o->have_fd = number(optarg, &o->fd);
		else if (c == 'p')
			o->socket = optarg;
		else if (c == 'u')
			o->agent_user = optarg;
		else if (c == 'm')
			ok = number(optarg, &policy.uid_min);
		else if (c == 'M')
			ok = number(optarg, &policy.uid_max);
		else if (c == 'R')
			policy.allow_root = true;
		else if (c == 'S')
			policy.shim = optarg;
		else if (c == 'F')
			policy.fix_sm = optarg;
		else
			ok = false;
	}
	return ok && optind == argc && policy.spool && policy.shim && o->have_fd != (o->socket != NULL);
}

int main(int argc, char **argv)
{
	struct options o = { .agent_user = "nodeagent" };
	struct err e;

	log_setup("launcher", LOG_LVL_INFO);
	notify_init(&notify);
	clearenv();
	umask(077);
	if (!parse_options(argc, argv, &o))
		return fatal("%s", "usage: nodeagent-launcher --spool DIR "
				   "(--fd N | --socket PATH) --shim PATH [--agent-user NAME] "
				   "[--uid-min N] [--uid-max N] [--allow-root] [--fix-sm FILE]");
	if (geteuid() != 0)
		return fatal("%s", "must be started by root; "
				   "without root the agent runs jobs as itself");
	if (!find_agent(o.agent_user))
		return fatal("the agent's user '%s' does not exist", o.agent_user);
	if (launch_check_shim(policy.shim, &e) < 0)
		return fatal("%s", e.text);
	if (launch_check_spool(policy.spool, &e) < 0)
		return fatal("%s", e.text);
	if (cgroup_find(&e) < 0)
		log_warn("%s: jobs get no cgroup; what they leave is found by cookie and parent",
			 e.text);
	cgroup_remove_empty();
	if (serve_init(&policy, &notify) < 0 || !(o.have_fd ? use_fd(o.fd) : listen_on(o.socket)))
		return fatal("cannot use the socket %s", o.socket ? o.socket : "given by --fd");

	notify_send(&notify, "READY=1");
	notify_status(&notify, "listening for the agent (%s, uid %u)", o.agent_user,
		      (unsigned)policy.agent_uid);
	while (!serve_stopped() && (!only_connection || !serve_idle()))
		serve_round();
	return 0;
}
