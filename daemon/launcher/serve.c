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
#include "common/left.h"
#include "common/orphans.h"
#include "common/proc.h"
#include "launcher/cgroup.h"
#include "launcher/fix_sm.h"

#define CONNS 8
#define CHILDREN 256
#define CHILD_MS 10000
#define SWEEP_MS 3000
#define KILL_MS 5000 /* no new round after that */
#define PAUSE_MS 20 /* before the second round; then twice as long each time */
#define PAUSE_MAX_MS 200
#define CLEAN_MS 3000
#define REMOVE_MS 60000 /* much output takes long; what is left is asked for again */
#define FIX_MS (SM_RESTART_MS + SM_ENABLE_MS + 4000)

/* What a child says before it ends, or, without an error in a launch, before it becomes
 * a shim: a child that dies earlier has said nothing, and its end can be seen later than
 * that its pipe is closed. */
struct report {
	int32_t error;
	uint32_t result;
	char text[LAUNCHER_TEXT_MAX]; /* as in launcher_reply */
};

struct worker {
	pid_t pid;
	int report; /* -1: free */
	unsigned conn;
	uint64_t serial; /* of the connection */
	mono_t deadline;
	bool going; /* has said that it becomes a shim: the pipe's end means that it is one */
	struct launcher_request req;
	uint32_t killed; /* by this request so far, orphans apart */
	struct orphan_sweep sweep;
	unsigned pause_ms; /* ahead of the next round */
};

/* A child that became a shim, until its job is cleaned: what it leaves is younger. */
struct shim {
	struct proc_id id;
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
	struct shim *shims;
	size_t n_shims, cap_shims;
	pid_t *children; /* all that we have forked and not reaped */
	size_t n_children, cap_children;
	struct orphans orphans;
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

/* Where the lines of left.h are in a text, and how much room there is. */
static char *lines_of(char *text, size_t *ret_room)
{
	size_t n = strlen(text) + 1;

	*ret_room = n < LAUNCHER_TEXT_MAX ? LAUNCHER_TEXT_MAX - n : 0;
	return text + n;
}

/* 'text' may have lines of left.h behind it when 'whole'. */
static void reply_with(unsigned conn, uint64_t serial, const struct launcher_request *q, int error,
		       uint32_t result, const char *text, bool whole)
{
	struct launcher_reply r = { .version = LAUNCHER_VERSION,
				    .op = q->op,
				    .id = q->id,
				    .error = error < 0 ? -error : error,
				    .result = result };

	if (whole)
		memcpy(r.text, text, sizeof r.text);
	else
		snprintf(r.text, sizeof r.text, "%s", text ? text : "");
	if (q->op == LAUNCHER_FIX_SM)
		fix_sm_end(q, r.error, result, r.text);
	if (*r.text && q->op == LAUNCHER_FIX_SM)
		log_warn("fix sm: %s", r.text);
	else if (*r.text)
		log_job(LOG_LVL_WARN, q->job, q->attempt, "%s", r.text);
	if (L.conns[conn] < 0 || L.serials[conn] != serial)
		return; /* whoever asked is gone; the shim's socket tells the next agent */
	if (send(L.conns[conn], &r, sizeof r, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof r)
		drop_conn(conn);
}

static void reply(unsigned conn, uint64_t serial, const struct launcher_request *q, int error,
		  uint32_t result, const char *text)
{
	reply_with(conn, serial, q, error, result, text, false);
}

/* ---- children -------------------------------------------------------- */

static void say_left_and_exit(int fd, int error, uint32_t result, const char *text,
			      const struct proc_id *left)
{
	struct report r = { .error = error, .result = result };
	size_t room;
	char *lines;

	snprintf(r.text, sizeof r.text, "%s", text);
	lines = lines_of(r.text, &room);
	if (left && room > 0)
		left_add(lines, room, left);
	if (write(fd, &r, sizeof r) < 0)
		_exit(2);
	_exit(error ? 1 : 0);
}

static void say_and_exit(int fd, int error, uint32_t result, const char *text)
{
	say_left_and_exit(fd, error, result, text, NULL);
}

static void child_launch(const struct launcher_request *q, const int *fds, int report)
{
	struct err e = { 0 };
	int r = launch_child(L.policy, q, fds[0], fds[1], &report, &e);

	if (r == 0) {
		if (write(report, &(struct report){ 0 }, sizeof(struct report)) < 0)
			_exit(2);
		r = launch_execute(L.policy, q, &e);
	}
	say_and_exit(report, r, 0, e.text);
}

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000L }, NULL);
}

static void child_kill(const struct worker *w, int report)
{
	const struct launcher_request *q = &w->req;
	char who[48], text[96];
	struct proc_id left, member;
	int seen, swept;
	uint32_t n;

	pause_ms(w->pause_ms);
	seen = cgroup_kill(q->job, q->attempt, &member);
	swept = proc_sweep_env("NODEAGENT_COOKIE", q->cookie, SWEEP_MS, &left);
	n = seen > 0 ? (uint32_t)seen : 0;
	if (swept >= 0 && member.pid != 0 && !proc_dead(member.pid, member.start_time)) {
		left = member;
		swept = -ETIME;
	}
	if (swept == -ETIME) {
		proc_tell(left.pid, left.start_time, who);
		snprintf(text, sizeof text, "%s could not be ended", who);
		say_left_and_exit(report, swept, n, text, &left);
	}
	if (swept < 0)
		say_and_exit(report, swept, n, "the job's processes could not be looked for");
	say_and_exit(report, 0, n + (uint32_t)swept, "");
}

/* The shim has said goodbye and is on its way out. */
static void child_clean(const struct launcher_request *q, int report)
{
	mono_t end = mono_add_ms(now(), CLEAN_MS);
	int r;

	while ((r = cgroup_remove(q->job, q->attempt)) == -EBUSY && !mono_due(end, now()))
		pause_ms(PAUSE_MS);
	say_and_exit(report, r, 0, r < 0 ? strerror(-r) : "");
}

static void child_aside(const struct launcher_request *q, int report)
{
	struct err e = { 0 };
	int r = launch_aside(L.policy, q, &e);

	say_and_exit(report, r, 0, e.text);
}

static void child_remove(const struct launcher_request *q, int report)
{
	struct err e = { 0 };
	int r = launch_remove(L.policy, q, &e);

	say_and_exit(report, r, 0, e.text);
}

static void child_fix_sm(const struct launcher_request *q, int report)
{
	char text[LAUNCHER_TEXT_MAX] = "";
	uint32_t result = 0;
	int r = fix_sm_run(q, &result, text, sizeof text);

	say_and_exit(report, r, result, text);
}

static void begin_child(const struct worker *w, const int *fds, int report)
{
	const struct launcher_request *q = &w->req;

	if (q->op == LAUNCHER_LAUNCH && fds)
		child_launch(q, fds, report);
	else if (q->op == LAUNCHER_KILL)
		child_kill(w, report);
	else if (q->op == LAUNCHER_ASIDE)
		child_aside(q, report);
	else if (q->op == LAUNCHER_REMOVE)
		child_remove(q, report);
	else if (q->op == LAUNCHER_FIX_SM)
		child_fix_sm(q, report);
	else
		child_clean(q, report);
}

/* 'p' with room for one more than n; NULL: no memory. */
static void *grown(void *p, size_t n, size_t *cap, size_t size)
{
	void *more;

	if (n < *cap)
		return p;
	more = reallocarray(p, 2 * *cap + 64, size);
	if (more)
		*cap = 2 * *cap + 64;
	return more;
}

static struct shim *find_shim(const struct launcher_request *q)
{
	for (size_t i = 0; i < L.n_shims; i++)
		if (L.shims[i].job == q->job && L.shims[i].attempt == q->attempt)
			return &L.shims[i];
	return NULL;
}

/* Without a note (no memory) its orphans are found by the cookie only. */
static void note_shim(const struct worker *w)
{
	struct shim *all = grown(L.shims, L.n_shims, &L.cap_shims, sizeof *L.shims), *s;
	uint64_t start;

	if (all)
		L.shims = all;
	if (!all || proc_start_time(w->pid, &start) < 0)
		return;
	s = find_shim(&w->req); /* of another cluster */
	if (!s)
		s = &L.shims[L.n_shims++];
	*s = (struct shim){ { w->pid, start }, w->req.job, w->req.attempt };
}

static void forget_shim(const struct launcher_request *q)
{
	struct shim *s = find_shim(q);

	if (s)
		*s = L.shims[--L.n_shims];
}

static void forget(pid_t pid)
{
	for (size_t i = 0; i < CHILDREN; i++)
		if (L.workers[i].pid == pid)
			L.workers[i].pid = 0;
	for (size_t i = 0; i < L.n_children; i++)
		if (L.children[i] == pid)
			L.children[i--] = L.children[--L.n_children];
}

/* We reap: the pid of a child that we know cannot be anybody else's. */
static bool is_mine(pid_t pid, uint64_t start_time)
{
	for (size_t i = 0; i < L.n_children; i++)
		if (L.children[i] == pid)
			return true;
	return false;
}

/* What a dead shim left has come to us, whatever its environment; this pass is
 * the loop's own, for only here it is known who our children are. True: another
 * round. Else w is at its end, and r tells who lives on. */
static bool another_round(struct worker *w, struct report *r)
{
	struct proc_id *shim = &w->sweep.shim;
	bool late = mono_sub_ms(w->deadline, now()) < CHILD_MS - KILL_MS, lives;
	char who[48], left[360] = "", *lines;
	size_t room;
	int orphans = 0;

	w->killed += r->result;
	if (L.subreaper) {
		orphans = orphans_pass(&L.orphans, &w->sweep);
		orphans_tell(&L.orphans, &w->sweep, left, sizeof left);
	}
	r->result = w->killed + w->sweep.killed;
	lives = L.subreaper && shim->start_time && !proc_dead(shim->pid, shim->start_time);
	if (!r->error && (orphans > 0 || lives) && !late)
		return true;
	if (!r->error && !orphans && lives) {
		proc_tell(shim->pid, shim->start_time, who);
		snprintf(left, sizeof left, "%s could not be ended", who);
	}
	if (!r->error)
		r->error = orphans < 0 ? orphans : orphans || lives ? -ETIME : 0;
	if (!*r->text) {
		memset(r->text, 0, sizeof r->text);
		snprintf(r->text, sizeof r->text, "%s", left);
		lines = lines_of(r->text, &room);
		if (L.subreaper)
			orphans_left(&L.orphans, &w->sweep, lines, room);
		if (lives)
			left_add(lines, room, shim);
	}
	return false;
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
	pid_t *all = grown(L.children, L.n_children, &L.cap_children, sizeof *L.children);
	int report[2];

	if (!all)
		return "the launcher is out of memory";
	L.children = all;
	if (pipe2(report, O_CLOEXEC) < 0)
		return "the launcher is out of descriptors";
	w->pid = fork();
	if (w->pid == 0)
		begin_child(w, fds, report[1]);
	close(report[1]);
	w->report = report[0];
	if (w->pid > 0) {
		L.children[L.n_children++] = w->pid;
		return NULL;
	}
	close(report[0]);
	w->report = -1;
	w->pid = 0;
	return "the launcher cannot fork";
}

static void start_worker(unsigned conn, const struct launcher_request *q, const int *fds)
{
	const struct shim *s = find_shim(q);
	struct worker *w = free_worker();
	const char *wrong;

	if (!w) {
		reply(conn, L.serials[conn], q, EBUSY, 0, "too many launches at once on this node");
		return;
	}
	*w = (struct worker){ .report = -1,
			      .conn = conn,
			      .serial = L.serials[conn],
			      .deadline = mono_add_ms(now(), q->op == LAUNCHER_REMOVE ? REMOVE_MS :
							     q->op == LAUNCHER_FIX_SM ? FIX_MS : CHILD_MS),
			      .req = *q };
	if (s && q->op == LAUNCHER_KILL)
		w->sweep.shim = s->id;
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
	bool launched = n == 0 && w->going;

	if (n == (ssize_t)sizeof r && w->req.op == LAUNCHER_LAUNCH && r.error == 0) {
		w->going = true;
		return;
	}
	close(w->report);
	w->report = -1;
	if (launched && still_runs(w->pid)) {
		note_shim(w);
		log_job(LOG_LVL_INFO, w->req.job, w->req.attempt, "shim %ld for uid %u",
			(long)w->pid, w->req.uid);
		reply(w->conn, w->serial, &w->req, 0, (uint32_t)w->pid, NULL);
	} else if (n == (ssize_t)sizeof r) {
		r.text[sizeof r.text - 1] = '\0';
		if (w->req.op == LAUNCHER_KILL && another_round(w, &r)) {
			w->pause_ms = !w->pause_ms ? PAUSE_MS :
				      2 * w->pause_ms < PAUSE_MAX_MS ? 2 * w->pause_ms : PAUSE_MAX_MS;
			if (!fork_worker(w, NULL))
				return;
			r.error = -EAGAIN;
		}
		reply_with(w->conn, w->serial, &w->req, r.error, r.result, r.text, true);
	} else {
		reply(w->conn, w->serial, &w->req, EIO, 0,
		      launched ? "the shim ended at once" : "the launcher's child died");
	}
}

static void worker_late(struct worker *w)
{
	if (w->pid > 0) /* else it is reaped, and a child of its holds the pipe */
		kill(w->pid, SIGKILL);
	close(w->report);
	w->report = -1;
	reply(w->conn, w->serial, &w->req, ETIMEDOUT, 0,
	      w->req.op == LAUNCHER_LAUNCH
		      ? "the look-up of the user did not end within 10 s on this node"
	      : w->req.op == LAUNCHER_REMOVE ? "removing its output took longer than a minute"
	      : w->req.op == LAUNCHER_FIX_SM ? "systemctl could not be ended"
		      : "the job's processes did not die within 10 s");
}

static bool has_word(const struct worker *w)
{
	struct pollfd p = { .fd = w->report, .events = POLLIN };

	return w->report >= 0 && poll(&p, 1, 0) > 0;
}

/* Until it is reaped a pid stays ours; reaping waits for the report to be read. */
static void reap(void)
{
	for (size_t i = 0; i < CHILDREN; i++)
		while (has_word(&L.workers[i]))
			worker_done(&L.workers[i]);
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

/* Without cgroups nothing else tells. One that is over may be a former cluster's. */
static bool shim_lives(const struct launcher_request *q)
{
	const struct shim *s = find_shim(q);

	return s && !proc_dead(s->id.pid, s->id.start_time);
}

static struct worker *fixing(void)
{
	for (size_t i = 0; i < CHILDREN; i++)
		if (L.workers[i].report >= 0 && L.workers[i].req.op == LAUNCHER_FIX_SM)
			return &L.workers[i];
	return NULL;
}

/* An order that is known is not carried out again: an agent that was restarted asks what became of it. */
static bool tell_fix_sm(unsigned conn, const struct launcher_request *q)
{
	const struct fix_sm_past *past = fix_sm_past(q->job);
	struct worker *w = fixing();

	if (past) {
		reply(conn, L.serials[conn], q, past->error, past->result, past->text);
		return true;
	}
	if (!w || q->job == 0 || w->req.job != q->job)
		return false;
	w->conn = conn;
	w->serial = L.serials[conn];
	w->req.id = q->id;
	return true;
}

/* One at a time, and one that went well is in the log: it is root's act. */
static int allow_fix_sm(const struct launcher_request *q, struct err *e)
{
	int r;

	if (q->rank_base & LAUNCHER_FIX_TELL)
		return err_set(e, ENOENT, "nodeagent-launcher on this node does not know this order: it never came there, or the launcher "
			       "was restarted as well; whether it was carried out: systemctl status %s", sm_unit_name(q->nprocs));
	r = fix_sm_allowed(L.policy, e);
	if (r == 0 && fixing())
		return err_set(e, EBUSY, "the subnet manager is being restarted on this node already");
	if (r == 0)
		r = fix_sm_begin(q, now(), e);
	if (r == 0)
		log_info("fix sm: systemctl restart %s%s, asked for by the agent", sm_unit_name(q->nprocs),
			 (q->rank_base & 1) ? " and enable" : "");
	return r;
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
	else if (q->op == LAUNCHER_FIX_SM && fix_sm_formed(q, &e) == 0 && tell_fix_sm(conn, q))
		return;
	else if (q->op == LAUNCHER_FIX_SM)
		r = e.code ? -e.code : allow_fix_sm(q, &e);
	else if (q->op == LAUNCHER_CLEAN)
		r = cgroup_remove(q->job, q->attempt), forget_shim(q);
	else if (q->op == LAUNCHER_REMOVE && !q->nprocs && find_shim(q))
		r = err_set(&e, EBUSY, "job %llu.%u is not cleaned up yet", (unsigned long long)q->job, q->attempt);
	else if (q->op == LAUNCHER_ASIDE && shim_lives(q))
		r = err_set(&e, EBUSY, "job %llu.%u still lives on this node", (unsigned long long)q->job, q->attempt);
	else if (q->op != LAUNCHER_ASIDE && q->op != LAUNCHER_REMOVE)
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
	orphans_init(&L.orphans, is_mine);
	L.subreaper = !cgroup_found() && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
	if (L.subreaper && L.orphans.doubt)
		log_info("without cgroups, orphans of killed shims that have not their job's cookie are named and left "
			 "alone, for this launcher cannot tell whose they are: %s", L.orphans.doubt);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	L.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return L.signals < 0 ? -errno : 0;
}
