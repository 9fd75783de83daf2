/* main.c - nodeagent-shim JOB ATTEMPT NPROCS: holds one attempt of a job on one node
 *
 * Started once per job and node, on the way to the first step of training: so
 * little is done before shim_hello. It depends on nobody: the agent may die,
 * be upgraded, come back; the ranks, their output and their exit codes are
 * kept here. Nothing wakes it while nothing happens, but for a look at a launcher's
 * workers now and then (workers.c), and at what the ranks do (pulse.c).
 *
 * What happens is decided in machine.c; this file turns the system's events
 * into the machine's, and perform.c its actions into system calls. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/proc.h"
#include "shim/host.h"

#define ROUND_READ (1u << 20) /* of one stream before the others have their turn */
#define SMALL_ROUND (64u << 10)
#define BUSY_NS 2000000 /* rounds closer than this are one burst */
#define PAUSE_NS 1000000

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

/* ---- children -------------------------------------------------------- */

static bool find_rank(const struct host *h, pid_t pid, uint32_t *ret)
{
	for (uint32_t i = 0; i < h->nprocs; i++)
		if (shim_rank_pid(h->machine, i) == pid) {
			*ret = i;
			return true;
		}
	return false;
}

/* All that a dead rank wrote is in its pipes now; with it the tail is complete. */
static void drain_rank(struct host *h, struct shim_rank_event *re)
{
	int64_t wall_ms = host_wall_ms();

	host_read(h, 2 * re->local, wall_ms, 0);
	host_read(h, 2 * re->local + 1, wall_ms, 0);
	re->tail = output_tail(h->out, re->local);
	re->lost = output_lost(h->out, re->local);
	re->below = below_rank(h, re);
}

/* Itself, or the worker that its end comes of. */
static bool by_kill(const struct host *h, int status)
{
	return (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || below_by_kill(h);
}

/* The counts do not name the victim: of several that ended at once it may be any. */
static void add_causes(struct host *h, size_t n)
{
	bool killed = false, bad = false;

	for (size_t i = 0; i < n; i++) {
		killed = killed || by_kill(h, h->reaped[i].status);
		bad = bad || h->reaped[i].status != 0;
	}
	if (!bad)
		return;
	if (!oom_say(&h->oom, "", killed, h->cause, sizeof h->cause))
		n = 0;
	for (size_t i = 0; i < n; i++)
		if (h->reaped[i].status != 0 && by_kill(h, h->reaped[i].status) == killed)
			h->reaped[i].cause = h->cause;
	oom_look(&h->oom, "");
}

static bool any_rank(const struct host *h)
{
	for (uint32_t i = 0; i < h->nprocs; i++)
		if (shim_rank_pid(h->machine, i))
			return true;
	return false;
}

static void reap(struct host *h)
{
	struct shim_event ev = { .type = SEV_REAPED, .ranks = h->reaped };
	uint32_t local;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!find_rank(h, pid, &local))
			below_reaped(h, pid, status);
		else if (ev.n_ranks < h->nprocs)
			h->reaped[ev.n_ranks++] = (struct shim_rank_event){ .local = local,
									    .status = status,
									    .ended = host_now(),
									    .late_us = lateness_us(&h->late),
									    .end_us = host_wall_us() };
	ev.gone = pid < 0 && errno == ECHILD;
	if (ev.n_ranks)
		job_nccl_tell(h, true); /* its last words may be the cause */
	add_causes(h, ev.n_ranks);
	for (size_t i = 0; i < ev.n_ranks; i++)
		drain_rank(h, &h->reaped[i]);
	ev.orphans = sweep_hits(h->sweep);
	if (ev.gone || ev.n_ranks)
		host_step(h, ev);
	if (ev.n_ranks && !any_rank(h)) /* who looks at stacks is our child, and not to be taken for a rest of the job */
		job_stacks_end(h);
	host_step_closed(h);
}

static void on_signals(struct host *h)
{
	struct signalfd_siginfo si[8];
	bool term = false;
	ssize_t n;

	while ((n = read(h->signals, si, sizeof si)) > 0)
		for (size_t i = 0; i < (size_t)n / sizeof si[0]; i++)
			term = term || si[i].ssi_signo == SIGTERM;
	reap(h);
	if (term)
		host_step(h, (struct shim_event){ .type = SEV_TERM });
}

/* ---- the agent ------------------------------------------------------- */

static void on_message(struct host *h, const struct frame *f)
{
	struct shim_event ev = { .type = SEV_MESSAGE };
	struct msg m;
	int r = msg_decode(f->data, f->len, &m, NULL);

	if (r == -ENOTSUP)
		return; /* a newer agent's: not for us */
	if (r < 0) {
		channel_close(&h->conn);
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
		return;
	}

	ev.msg = &m;
	if (m.type == MSG_shim_arm)
		h->armed = true;
	else if (m.type == MSG_ras_get)
		job_ras_asked(h);
	else if (m.type == MSG_flight_get)
		job_flight_asked(h);
	else if (m.type == MSG_stacks_get)
		job_stacks_asked(h);
	else if (m.type == MSG_shim_spool)
		output_keep(h->out, m.u.shim_spool.keep);
	else
		host_step(h, ev);
	msg_finish(&m);
}

static void on_data(struct host *h, const struct frame *f)
{
	struct data_header d;
	const char *p;
	size_t n;
	int r = frame_get_data(f, &d, &p, &n, NULL);

	if (r == 0 && d.fd == 0)
		r = feed_add(&h->feed, p, n, d.flags & DATA_EOF);
	if (r < 0) {
		channel_close(&h->conn);
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
	}
}

static void on_conn(struct host *h, uint32_t events)
{
	uint64_t serial = h->conn.serial;
	struct frame f;
	bool up = h->conn.fd >= 0;

	if (up && (events & EPOLLOUT))
		up = channel_flush(&h->conn);
	if (up && (events & ~EPOLLOUT))
		up = channel_receive(&h->conn);
	while (up && h->conn.fd >= 0 && h->conn.serial == serial && !h->done) {
		int r = channel_next(&h->conn, &f);

		if (r == 0)
			break;
		if (r < 0)
			up = false;
		else if (f.type == FRAME_JSON)
			on_message(h, &f);
		else
			on_data(h, &f);
	}
	if (!up)
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
}

static void on_listen(struct host *h)
{
	const struct timespec pause = { 0, 20000000 };

	if (h->conn.fd >= 0)
		on_conn(h, EPOLLIN); /* what the former agent said last still counts */
	if (h->done)
		return;
	errno = 0;
	if (!channel_accept(&h->conn, FD_LISTEN, h->agent_uid)) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			nanosleep(&pause, NULL); /* it stays pending: do not spin */
		return;
	}

	h->armed = false;
	h->conn_out = false;
	if (host_poll(h, h->conn.fd, POLL_CONN, 0, EPOLLIN) < 0) {
		channel_close(&h->conn);
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
		return;
	}
	output_forget_reports(h->out);
	if (h->pulse)
		pulse_tell_again(h->pulse);
	host_step(h, (struct shim_event){ .type = SEV_AGENT_UP });
	h->nccl_anew = true;
	host_grant(h, true);
}

static void report_growth(struct host *h)
{
	struct msg m;
	struct rec_grown *outs;
	size_t n = 2 * (size_t)h->nprocs;

	if (!h->armed || h->conn.fd < 0 || !output_changed(h->out))
		return;
	outs = calloc(n, sizeof *outs);
	if (!outs)
		return; /* the next round tries again */

	msg_init(&m, MSG_shim_grown);
	m.u.shim_grown.outs = outs;
	m.u.shim_grown.n_outs = output_report(h->out, outs, n);
	h->armed = false;
	if (!channel_send_msg(&h->conn, &m))
		host_step(h, (struct shim_event){ .type = SEV_AGENT_DOWN });
	free(outs);
}

/* ---- the loop -------------------------------------------------------- */

static void poll_writing(struct host *h, int fd, enum poll_kind kind, uint32_t base, bool want,
			 bool *is)
{
	struct epoll_event ev = { .events = base | (want ? (uint32_t)EPOLLOUT : 0),
				  .data.u64 = (uint64_t)kind << 32 };

	if (fd >= 0 && want != *is && epoll_ctl(h->ep, EPOLL_CTL_MOD, fd, &ev) == 0)
		*is = want;
}

static void on_feed(struct host *h, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP))
		feed_close(&h->feed); /* nobody reads any more */
	else
		feed_flush(&h->feed);
	host_grant(h, h->feed.fd < 0);
}

/* Signals first: what our own TERM did not cause should not look as if. */
static size_t one_round(struct host *h, const struct epoll_event *ev, int n)
{
	int64_t wall_ms = host_wall_ms();
	size_t moved = 0;

	for (int i = 0; i < n; i++)
		if (ev[i].data.u64 >> 32 == POLL_SIGNALS)
			on_signals(h);
	for (int i = 0; i < n && !h->done; i++) {
		uint32_t index = (uint32_t)ev[i].data.u64;

		switch (ev[i].data.u64 >> 32) {
		case POLL_STREAM:
			moved += host_read(h, index, wall_ms, ROUND_READ);
			break;
		case POLL_LISTEN:
			on_listen(h);
			break;
		case POLL_CONN:
			on_conn(h, ev[i].events);
			break;
		case POLL_FEED:
			on_feed(h, ev[i].events);
			break;
		case POLL_WORKER:
			below_ended(h, index);
			break;
		case POLL_READER:
			below_read(h);
			break;
		case POLL_NCCL:
			nccl_read(h->nccl_said, host_now(), wall_ms);
			break;
		case POLL_STACKS:
			job_stacks_read(h);
			break;
		case POLL_RAS:
			ras_ready(h->ras, host_now());
			break;
		case POLL_FLIGHT:
			job_flight_ready(h);
			break;
		default:
			break;
		}
	}
	host_step_closed(h);
	return moved;
}

/* Many small writes: let some gather in the pipes (which hold far more) rather
 * than wake for each of them and take the rank's core. The first is moved at once. */
static void gather(size_t moved, mono_t *last)
{
	const struct timespec pause = { 0, PAUSE_NS };
	mono_t now = host_now();

	if (moved < SMALL_ROUND && now.ns - last->ns < BUSY_NS)
		nanosleep(&pause, NULL);
	*last = now;
}

static int timeout_ms(const struct host *h)
{
	mono_t at = mono_min(shim_deadline(h->machine), mono_min(below_due(h), vitals_due(h))), now = host_now();
	int64_t ms;

	if (h->conn.fd >= 0) /* else nobody is there to be told */
		at = mono_min(at, job_nccl_due(h));

	if (mono_is_never(at))
		return -1;
	if (mono_due(at, now))
		return 0;
	ms = (at.ns - now.ns + 999999) / 1000000;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void loop(struct host *h)
{
	struct epoll_event ev[64];
	mono_t last = { 0 };

	while (!h->done) {
		lateness_mark(&h->late, host_now());
		int n = epoll_wait(h->ep, ev, 64, timeout_ms(h));
		size_t moved = n > 0 ? one_round(h, ev, n) : 0;

		if (!h->done && mono_due(shim_deadline(h->machine), host_now()))
			host_step(h, (struct shim_event){ .type = SEV_DEADLINE });
		if (!h->done && mono_due(below_due(h), host_now()))
			below_look(h);
		below_tell(h);
		job_nccl_tell(h, false);
		if (!h->done && mono_due(vitals_due(h), host_now()))
			vitals_look(h);
		host_step_closed(h);
		output_flush_stamps(h->out);
		report_growth(h);
		host_grant(h, false);
		poll_writing(h, h->conn.fd, POLL_CONN, EPOLLIN, h->conn.want_write, &h->conn_out);
		poll_writing(h, h->feed.fd, POLL_FEED, 0, feed_waiting(&h->feed), &h->feed_out);
		if (moved)
			gather(moved, &last);
	}
}

/* ---- start ----------------------------------------------------------- */

static int die(const char *what)
{
	fprintf(stderr, "nodeagent-shim: %s\n", what);
	return 1;
}

static void close_on_exec(void)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
		return;
#endif
	for (int fd = 3, max = (int)sysconf(_SC_OPEN_MAX); fd < max; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* The ranks start from what a login gives: no signal ignored or blocked. */
static int take_signals(void)
{
	static const unsigned long kernel_dfl[4]; /* handler, flags, restorer, mask */
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t set;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	/* The C library keeps these two from us; whoever started the agent may
	 * have left them ignored (seen with signal 32). Zeroes mean SIG_DFL. */
	for (int sig = 32; sig <= 33; sig++)
		syscall(SYS_rt_sigaction, sig, kernel_dfl, NULL, (size_t)8);
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE); /* blocked: write says EPIPE */
	sigaddset(&set, SIGXFSZ); /* blocked: write says EFBIG */
	sigprocmask(SIG_SETMASK, &set, NULL);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	sigdelset(&set, SIGPIPE);
	sigdelset(&set, SIGXFSZ);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void raise_nofile(struct host *h)
{
	rlim_t need = FD_OUTPUT + 4 * (rlim_t)h->nprocs + 64;
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &h->nofile) < 0)
		return;
	r = h->nofile;
	if (r.rlim_cur < need)
		r.rlim_cur = need < r.rlim_max ? need : r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}

static bool parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	char *end;
	unsigned long long v;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || *end || v < min || v > max)
		return false;
	*ret = v;
	return true;
}

static bool parse_args(struct host *h, int argc, char **argv)
{
	const char *uid = getenv("NODEAGENT_AGENT_UID");
	uint64_t v;

	if (argc != 4 || !parse(argv[1], 0, UINT64_MAX, &h->job))
		return false;
	if (!parse(argv[2], 0, 65535, &v))
		return false;
	h->attempt = (uint32_t)v;
	if (!parse(argv[3], 1, 4096, &v))
		return false;
	h->nprocs = (uint32_t)v;
	h->cookie = getenv("NODEAGENT_COOKIE");
	h->agent_uid = uid && parse(uid, 0, UINT32_MAX - 1, &v) ? (uid_t)v : (uid_t)-1;
	return true;
}

/* Asked before anything is opened here, which might get that number. */
static int spool_dir(void)
{
	struct stat st;

	return fstat(FD_SPOOL, &st) == 0 && S_ISDIR(st.st_mode) ? FD_SPOOL : -1;
}

static bool have_descriptors(const struct host *h)
{
	const int fds[] = { FD_SPEC, FD_LISTEN, FD_STATUS, FD_STAMPS, FD_OUTPUT,
			    FD_OUTPUT + 2 * (int)h->nprocs - 1 };
	size_t n = h->spool_fd >= 0 ? 2 : sizeof fds / sizeof fds[0];

	for (size_t i = 0; i < n; i++)
		if (fcntl(fds[i], F_GETFD) < 0)
			return false;
	/* 0, 1 and 2 are ours to have open, so that no pipe lands there */
	while (true) {
		int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

		if (fd < 0)
			return false;
		if (fd > 2)
			return close(fd) == 0;
	}
}

static bool prepare(struct host *h)
{
	uint64_t start = 0;

	proc_start_time(getpid(), &start);
	channel_init(&h->conn);
	feed_init(&h->feed);
	arena_init(&h->setup_arena);
	arena_init(&h->scratch);
	h->out = h->spool_fd >= 0 ? output_create_in(h->nprocs, h->spool_fd)
				  : output_create(h->nprocs, FD_OUTPUT, FD_STAMPS);
	if (h->out)
		output_watched(h->out, h->ep);
	h->sweep = sweep_create();
	oom_begin(&h->oom, "");
	h->machine = shim_create(h->job, h->attempt, h->nprocs, (uint32_t)getpid(), start,
				 host_now());
	h->started = calloc(h->nprocs, sizeof *h->started);
	h->reaped = calloc(h->nprocs, sizeof *h->reaped);
	h->closed = calloc(3 * (size_t)h->nprocs, sizeof *h->closed);
	h->lost_said = calloc(h->nprocs, sizeof *h->lost_said);
	return h->out && h->sweep && h->machine && h->started && h->reaped && h->closed && h->lost_said;
}

static void finish(struct host *h)
{
	channel_finish(&h->conn);
	feed_finish(&h->feed);
	below_finish(h);
	job_nccl_finish(h);
	job_stacks_end(h);
	vitals_finish(h);
	shim_destroy(h->machine);
	output_destroy(h->out);
	sweep_destroy(h->sweep);
	spec_finish(&h->spec);
	arena_finish(&h->setup_arena);
	free(h->blob);
	free(h->path);
	lateness_close(&h->late);
	free(h->started);
	free(h->reaped);
	free(h->closed);
	free(h->lost_said);
}

int main(int argc, char **argv)
{
	struct host h = { 0 };
	int rc = 1;

	if (!parse_args(&h, argc, argv))
		return die("usage: nodeagent-shim JOB ATTEMPT NPROCS (started by the agent)");
	h.spool_fd = spool_dir();
	h.status_fd = h.spool_fd >= 0 ? -1 : FD_STATUS;
	if (!have_descriptors(&h))
		return die("the descriptors that the agent passes are not there");

	close_on_exec();
	setsid();
	h.signals = take_signals();
	h.ep = epoll_create1(EPOLL_CLOEXEC);
	raise_nofile(&h);
	lateness_open(&h.late);
	fcntl(FD_LISTEN, F_SETFL, O_NONBLOCK);
	if (prepare(&h) && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 &&
	    host_poll(&h, h.signals, POLL_SIGNALS, 0, EPOLLIN) == 0 &&
	    host_poll(&h, FD_LISTEN, POLL_LISTEN, 0, EPOLLIN) == 0) {
		loop(&h);
		rc = 0;
	}
	finish(&h);
	return rc ? die("cannot set itself up") : 0;
}
