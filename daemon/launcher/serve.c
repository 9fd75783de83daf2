/* serve.c - see serve.h */
#include "launcher/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/mono.h"
#include "common/proc.h"
#include "launcher/cgroup.h"

#define CONNS 8
#define CHILDREN 256
#define CHILD_MS 10000
#define SWEEP_MS 5000
#define CLEAN_MS 3000

/* What a child says before it ends; nothing at all when it became a shim. */
struct report {
	int32_t error;
	uint32_t result;
	char text[LAUNCHER_TEXT_MAX];
};

struct worker {
	pid_t pid, former; /* not reaped yet; 'former' has reported and is on its way out */
	int report; /* -1: free */
	unsigned conn;
	uint64_t serial; /* of the connection */
	mono_t deadline;
	struct launcher_request req;
	uint32_t killed; /* by this request so far */
	struct buf hit; /* see proc_sweep_orphans() */
};

/* A child that became a shim; for telling orphans from it. */
struct shim {
	pid_t pid;
	uint64_t job;
	uint32_t attempt;
};

static struct {
	const struct policy *policy;
	const struct notify *notify;
	mono_t alive; /* when to say so again */
	bool stopping;
	int listener; /* -1: none */
	int signals;
	int conns[CONNS]; /* -1: free */
	uint64_t serials[CONNS];
	uint64_t serial;
	struct worker workers[CHILDREN];
	struct shim *shims; /* not reaped yet */
	size_t n_shims, cap_shims;
	bool subreaper; /* without cgroups: what a dead shim leaves comes to us */
} L;

static mono_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_t){ (int64_t)t.tv_sec * 1000000000 + t.tv_nsec };
}

/* ---- replies --------------------------------------------------------- */

static void drop_conn(unsigned c)
{
	close(L.conns[c]);
	L.conns[c] = -1;
}

static void reply(unsigned conn, uint64_t serial, const struct launcher_request *q, int error,
		  uint32_t result, const char *text)
{
	struct launcher_reply r = { .version = LAUNCHER_VERSION,
				    .op = q->op,
				    .id = q->id,
				    .error = error < 0 ? -error : error,
				    .result = result };

	snprintf(r.text, sizeof r.text, "%s", text ? text : "");
	if (error)
		log_job(LOG_LVL_WARN, q->job, q->attempt, "%s", r.text);
	if (L.conns[conn] < 0 || L.serials[conn] != serial)
		return; /* whoever asked is gone; the shim's socket tells the next agent */
	if (send(L.conns[conn], &r, sizeof r, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof r)
		drop_conn(conn);
}

/* ---- children -------------------------------------------------------- */

static void say_and_exit(int fd, int error, uint32_t result, const char *text)
{
	struct report r = { .error = error, .result = result };

	snprintf(r.text, sizeof r.text, "%s", text);
	if (write(fd, &r, sizeof r) < 0)
		_exit(2);
	_exit(error ? 1 : 0);
}

static void child_launch(const struct launcher_request *q, const int *fds, int report)
{
	struct err e = { 0 };
	int r = launch_child(L.policy, q, fds[0], fds[1], &report, &e);

	say_and_exit(report, r, 0, e.text);
}

static void child_kill(const struct launcher_request *q, int report)
{
	int seen = cgroup_kill(q->job, q->attempt);
	int swept = proc_sweep_env("NODEAGENT_COOKIE", q->cookie, SWEEP_MS);
	uint32_t n = seen > 0 ? (uint32_t)seen : 0;

	if (swept < 0)
		say_and_exit(report, swept, n, "processes of the job could not be killed in time");
	say_and_exit(report, 0, n + (uint32_t)swept, "");
}

/* The shim has said goodbye and is on its way out. */
static void child_clean(const struct launcher_request *q, int report)
{
	const struct timespec pause = { 0, 20000000 };
	mono_t end = mono_add_ms(now(), CLEAN_MS);
	int r;

	while ((r = cgroup_remove(q->job, q->attempt)) == -EBUSY && !mono_due(end, now()))
		nanosleep(&pause, NULL);
	say_and_exit(report, r, 0, r < 0 ? strerror(-r) : "");
}

static void child_aside(const struct launcher_request *q, int report)
{
	struct err e = { 0 };
	int r = launch_aside(L.policy, q, &e);

	say_and_exit(report, r, 0, e.text);
}

static void begin_child(const struct launcher_request *q, const int *fds, int report)
{
	if (q->op == LAUNCHER_LAUNCH && fds)
		child_launch(q, fds, report);
	else if (q->op == LAUNCHER_KILL)
		child_kill(q, report);
	else if (q->op == LAUNCHER_ASIDE)
		child_aside(q, report);
	else
		child_clean(q, report);
}

/* Not one note may be missing: without memory no child is taken for an orphan any more. */
static void note_shim(const struct worker *w)
{
	struct shim *more;

	if (L.n_shims == L.cap_shims) {
		more = reallocarray(L.shims, 2 * L.cap_shims + 64, sizeof *more);
		if (!more) {
			L.subreaper = false;
			return;
		}
		L.shims = more;
		L.cap_shims = 2 * L.cap_shims + 64;
	}
	L.shims[L.n_shims++] = (struct shim){ w->pid, w->req.job, w->req.attempt };
}

static void forget(pid_t pid)
{
	for (size_t i = 0; i < CHILDREN; i++) {
		if (L.workers[i].pid == pid)
			L.workers[i].pid = 0;
		if (L.workers[i].former == pid)
			L.workers[i].former = 0;
	}
	for (size_t i = 0; i < L.n_shims; i++)
		if (L.shims[i].pid == pid)
			L.shims[i--] = L.shims[--L.n_shims];
}

/* We reap: the pid of a child that we know cannot be anybody else's. */
static bool is_mine(void *arg, pid_t pid, uint64_t start_time)
{
	for (size_t i = 0; i < CHILDREN; i++)
		if (L.workers[i].pid == pid || L.workers[i].former == pid)
			return true;
	for (size_t i = 0; i < L.n_shims; i++)
		if (L.shims[i].pid == pid)
			return true;
	return false;
}

static bool shim_lives(const struct launcher_request *q)
{
	uint64_t start;

	for (size_t i = 0; i < L.n_shims; i++)
		if (L.shims[i].job == q->job && L.shims[i].attempt == q->attempt)
			return proc_start_time(L.shims[i].pid, &start) == 0 &&
			       !proc_dead(L.shims[i].pid, start);
	return false;
}

/* What a dead shim left has come to us, whatever its environment; this pass is
 * the loop's own, for only here it is known who our children are. True: look again. */
static bool orphans_left(struct worker *w)
{
	return L.subreaper &&
	       (proc_sweep_orphans(is_mine, NULL, &w->hit, &w->killed) > 0 || shim_lives(&w->req));
}

static struct worker *free_worker(void)
{
	for (size_t i = 0; i < CHILDREN; i++)
		if (L.workers[i].report < 0)
			return &L.workers[i];
	return NULL;
}

/* Fills in w->pid and w->report; fds: with a launch. NULL, or what is wrong (errno). */
static const char *fork_worker(struct worker *w, const int *fds)
{
	int report[2];

	if (pipe2(report, O_CLOEXEC) < 0)
		return "the launcher is out of descriptors";
	w->former = w->pid;
	w->pid = fork();
	if (w->pid == 0)
		begin_child(&w->req, fds, report[1]);
	close(report[1]);
	w->report = report[0];
	if (w->pid > 0)
		return NULL;
	close(report[0]);
	w->report = -1;
	w->pid = 0;
	return "the launcher cannot fork";
}

static void start_worker(unsigned conn, const struct launcher_request *q, const int *fds)
{
	struct worker *w = free_worker();
	const char *wrong;

	if (!w) {
		reply(conn, L.serials[conn], q, EBUSY, 0, "too many launches at once on this node");
		return;
	}
	*w = (struct worker){ .pid = w->pid, /* the last one may be on its way out */
			      .report = -1,
			      .conn = conn,
			      .serial = L.serials[conn],
			      .deadline = mono_add_ms(now(), CHILD_MS),
			      .req = *q };
	buf_init(&w->hit);
	wrong = fork_worker(w, fds);
	if (wrong)
		reply(conn, L.serials[conn], q, errno, 0, wrong);
}

static bool still_runs(pid_t pid)
{
	siginfo_t si = { 0 };

	return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) == 0 && si.si_pid == 0;
}

/* Executing the shim closes the pipe without a word. */
static void worker_done(struct worker *w)
{
	struct report r;
	ssize_t n = read(w->report, &r, sizeof r);
	bool launched = n == 0 && w->req.op == LAUNCHER_LAUNCH;

	close(w->report);
	w->report = -1;
	if (launched && still_runs(w->pid)) {
		note_shim(w);
		log_job(LOG_LVL_INFO, w->req.job, w->req.attempt, "shim %ld for uid %u",
			(long)w->pid, w->req.uid);
		reply(w->conn, w->serial, &w->req, 0, (uint32_t)w->pid, NULL);
	} else if (n == (ssize_t)sizeof r) {
		r.text[sizeof r.text - 1] = '\0';
		if (w->req.op == LAUNCHER_KILL)
			w->killed += r.result;
		if (w->req.op == LAUNCHER_KILL && !r.error && orphans_left(w) && !fork_worker(w, NULL))
			return; /* until nobody is left, or it is late */
		if (w->req.op == LAUNCHER_KILL)
			r.result = w->killed;
		reply(w->conn, w->serial, &w->req, r.error, r.result, r.text);
	} else {
		reply(w->conn, w->serial, &w->req, EIO, 0,
		      launched ? "the shim ended at once" : "the launcher's child died");
	}
	buf_finish(&w->hit);
}

static void worker_late(struct worker *w)
{
	kill(w->pid, SIGKILL);
	close(w->report);
	w->report = -1;
	reply(w->conn, w->serial, &w->req, ETIMEDOUT, 0,
	      w->req.op == LAUNCHER_LAUNCH
		      ? "the look-up of the user did not end within 10 s on this node"
		      : "the job's processes did not die within 10 s");
	buf_finish(&w->hit);
}

/* Until it is reaped a pid stays ours; reaping waits for the report to be read. */
static void reap(void)
{
	for (size_t i = 0; i < CHILDREN; i++) {
		struct pollfd p = { .fd = L.workers[i].report, .events = POLLIN };

		if (p.fd >= 0 && poll(&p, 1, 0) > 0)
			worker_done(&L.workers[i]);
	}
	for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;)
		forget(pid);
}

static void stop(uint32_t signum)
{
	if (L.stopping)
		return;
	log_info("signal %u: leaving; shims and jobs go on", signum);
	L.stopping = true;
	notify_send(L.notify, "STOPPING=1");
}

static void on_signals(void)
{
	struct signalfd_siginfo si;

	while (read(L.signals, &si, sizeof si) == (ssize_t)sizeof si)
		if (si.ssi_signo != SIGCHLD)
			stop(si.ssi_signo);
	reap();
}

/* ---- requests -------------------------------------------------------- */

static void take_fds(struct msghdr *m, int fds[2], int *n)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (int i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + (size_t)i * sizeof fd, sizeof fd);
			if (*n < 2)
				fds[*n] = fd;
			else
				close(fd);
			(*n)++;
		}
	}
}

static void handle(unsigned conn, const struct launcher_request *q, const int *fds, int n_fds)
{
	struct err e = { 0 };
	int r = 0;

	if (q->version != LAUNCHER_VERSION)
		r = err_set(&e, EPROTO, "launcher and agent are of different versions (%u and %u): "
			    "restart both", LAUNCHER_VERSION, q->version);
	else if (n_fds != (q->op == LAUNCHER_LAUNCH ? 2 : 0))
		r = err_set(&e, EPROTO, "the request carries %d descriptors", n_fds);
	else if (q->op == LAUNCHER_LAUNCH)
		r = launch_allowed(L.policy, q, &e);
	else if (q->op == LAUNCHER_KILL)
		r = launch_check_cookie(q, &e);
	else if (q->op == LAUNCHER_CLEAN)
		r = cgroup_remove(q->job, q->attempt);
	else if (q->op != LAUNCHER_ASIDE)
		r = err_set(&e, EPROTO, "the launcher does not know operation %u", q->op);

	if (q->op == LAUNCHER_CLEAN ? r == -EBUSY : r == 0)
		start_worker(conn, q, fds);
	else
		reply(conn, L.serials[conn], q, r, 0, r && !*e.text ? strerror(-r) : e.text);
}

static void on_conn(unsigned c)
{
	struct launcher_request q;
	struct iovec iov = { &q, sizeof q };
	char control[CMSG_SPACE(8 * sizeof(int))] __attribute__((aligned(8)));
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof control };
	ssize_t n = recvmsg(L.conns[c], &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	int fds[2] = { -1, -1 }, n_fds = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		take_fds(&m, fds, &n_fds);
	if (n != (ssize_t)sizeof q || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		drop_conn(c); /* closed, or not our protocol */
	else
		handle(c, &q, fds, n_fds);
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static bool peer_allowed(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	if (cred.uid == 0 || cred.uid == L.policy->agent_uid)
		return true;
	log_warn("refused a connection of uid %u", (unsigned)cred.uid);
	return false;
}

bool serve_connection(int fd)
{
	unsigned c = 0, oldest = 0;

	if (!peer_allowed(fd)) {
		close(fd);
		return false;
	}
	for (c = 0; c < CONNS && L.conns[c] >= 0; c++)
		if (L.serials[c] < L.serials[oldest])
			oldest = c;
	if (c == CONNS) {
		c = oldest; /* of a former agent that never closed */
		drop_conn(c);
	}
	L.conns[c] = fd;
	L.serials[c] = ++L.serial;
	return true;
}

/* ---- loop ------------------------------------------------------------ */

static int wait_ms(void)
{
	mono_t first = L.alive;

	for (size_t i = 0; i < CHILDREN; i++)
		if (L.workers[i].report >= 0)
			first = mono_min(first, L.workers[i].deadline);
	if (mono_is_never(first))
		return -1;
	return mono_due(first, now()) ? 0 : (int)mono_sub_ms(first, now()) + 1;
}

/* From the loop, so that it proves that the loop turns. */
static void say_alive(void)
{
	mono_t t = now();

	if (!mono_due(L.alive, t))
		return;
	notify_send(L.notify, "WATCHDOG=1");
	L.alive = mono_add_ms(t, (int64_t)L.notify->watchdog_ms / 2);
}

void serve_round(void)
{
	struct pollfd p[2 + CONNS + CHILDREN];
	nfds_t n = 2 + CONNS + CHILDREN;

	say_alive();
	p[0] = (struct pollfd){ .fd = L.signals, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = L.stopping ? -1 : L.listener, .events = POLLIN };
	for (unsigned i = 0; i < CONNS; i++)
		p[2 + i] = (struct pollfd){ .fd = L.stopping ? -1 : L.conns[i], .events = POLLIN };
	for (size_t i = 0; i < CHILDREN; i++)
		p[2 + CONNS + i] = (struct pollfd){ .fd = L.workers[i].report, .events = POLLIN };
	if (poll(p, n, wait_ms()) < 0)
		return;

	for (size_t i = 0; i < CHILDREN; i++) {
		struct worker *w = &L.workers[i];

		if (w->report >= 0 && p[2 + CONNS + i].revents)
			worker_done(w);
		else if (w->report >= 0 && mono_due(w->deadline, now()))
			worker_late(w);
	}
	if (p[0].revents)
		on_signals();
	for (unsigned i = 0; i < CONNS; i++)
		if (p[2 + i].revents && L.conns[i] >= 0)
			on_conn(i);
	if (p[1].revents) {
		int fd = accept4(L.listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			serve_connection(fd);
	}
}

static bool at_work(void)
{
	for (size_t i = 0; i < CHILDREN; i++)
		if (L.workers[i].report >= 0)
			return true;
	return false;
}

bool serve_idle(void)
{
	for (unsigned i = 0; i < CONNS; i++)
		if (L.conns[i] >= 0)
			return false;
	return !at_work();
}

bool serve_stopped(void)
{
	return L.stopping && !at_work();
}

/* ---- start ----------------------------------------------------------- */

void serve_listener(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK); /* who left meanwhile is not waited for */
	L.listener = fd;
}

int serve_init(const struct policy *policy, const struct notify *notify)
{
	sigset_t set;

	L.policy = policy;
	L.notify = notify;
	L.alive = notify->watchdog_ms > 1 ? now() : MONO_NEVER;
	L.listener = -1;
	memset(L.conns, -1, sizeof L.conns);
	for (size_t i = 0; i < CHILDREN; i++)
		L.workers[i].report = -1;
	L.subreaper = !cgroup_found() && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	L.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return L.signals < 0 ? -errno : 0;
}
