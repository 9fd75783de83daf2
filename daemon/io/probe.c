/* probe.c - keeps nodeagent-probe running and hears what it reads
 *
 *   starting -> running -> (killed | died | stuck) -> waiting -> starting ...
 *
 * The probe is where driver calls may hang. It speaks at least every 10 s; one
 * that has been silent for HANG_MS is killed and another is started. While the
 * kernel does not let it die (a driver call that cannot be interrupted) no
 * second one is started: it would hang as well, and the next one, and the next.
 *
 * One source that hangs keeps it from nothing else, so it goes on, and ends by
 * itself, as stuck, when its patience is over and it can end at all. The next
 * one gets twice the patience if that did not help: meanwhile the other sources
 * are read. What it said last stands until the next one speaks: there the
 * source's readings are unknown already, and the others' are a few seconds old.
 *
 * Its pid is our child's and not reaped before on_gone: nobody else's.
 */
#include "io/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "io/shims.h"
#include "io/spawn.h"

#define PROBE_FD 3
#define HANG_MS 15000
#define AGAIN_MS 1000 /* doubled for each death in a row */
#define AGAIN_MAX_MS 60000
#define SETTLED_MS 60000
#define STUCK_CODE 3 /* how a probe ends whose patience is over */
#define PATIENCE_MAX_MS 3600000

struct probe {
	struct agent_io *io;
	char path[512];
	uv_work_t req;
	uv_timer_t timer; /* to be started again; or has hung */
	uv_pipe_t *pipe;
	struct frame_reader in;
	pid_t pid; /* 0: none */
	bool killed;
	bool heard; /* so it knows the signal of probe_ask() */
	unsigned deaths;
	uint64_t patience_ms; /* of the one that runs */
	bool again; /* the one before was ended for a source that hung */
	mono_t born;
	/* the pool thread's */
	pid_t started_pid;
	int write_fd;
	struct err e;
	int rc;
};

static void start(struct probe *p);

static void withdraw(struct probe *p, const char *why)
{
	struct agent_event ev = { .type = AEV_READINGS, .text = why };

	agent_feed(p->io, &ev);
}

/* ---- hearing ------------------------------------------------------------------- */

static void on_timer(uv_timer_t *t)
{
	struct probe *p = t->data;
	char why[160];

	if (p->pid == 0) {
		start(p);
		return;
	}
	snprintf(why, sizeof(why), p->killed ?
		 "the probe (pid %d) hangs in a driver call and cannot even be killed" :
		 "the probe (pid %d) has not answered for 15 s; it is started anew", (int)p->pid);
	if (!p->killed)
		log_error("%s", why);
	p->killed = true;
	kill(p->pid, SIGKILL);
	uv_timer_start(&p->timer, on_timer, HANG_MS, 0);
	withdraw(p, why);
}

static void pipe_closed(uv_handle_t *h)
{
	free(h);
}

/* What it says makes no sense, or it has closed its end: it has to go. */
static void give_up(struct probe *p)
{
	if (p->pipe != NULL)
		uv_close((uv_handle_t *)p->pipe, pipe_closed);
	p->pipe = NULL;
	if (p->pid > 0)
		kill(p->pid, SIGKILL);
	p->killed = true;
}

static bool hear(struct probe *p, const struct frame *f)
{
	struct agent_event ev = { .type = AEV_READINGS };
	struct err e;
	struct msg m;
	int rc = f->type == FRAME_JSON ? msg_decode(f->data, f->len, &m, &e) : -EPROTO;

	if (rc == -ENOTSUP)
		return true; /* a newer probe's word */
	if (rc != 0) {
		log_error("nodeagent-probe said something malformed: %s",
			  f->type == FRAME_JSON ? e.text : "no message");
		return false;
	}
	ev.msg = &m;
	p->heard = true;
	uv_timer_start(&p->timer, on_timer, HANG_MS, 0);
	agent_feed(p->io, &ev);
	msg_finish(&m);
	return true;
}

static void room(uv_handle_t *h, size_t n, uv_buf_t *buf)
{
	struct probe *p = h->data;
	size_t have = 0;
	char *space = frame_reader_space(&p->in, 16384, &have);

	*buf = uv_buf_init(space, (unsigned)have);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct probe *p = s->data;
	struct frame f;
	int r = 0;

	if (n > 0)
		frame_reader_got(&p->in, (size_t)n);
	while (n > 0 && p->pipe != NULL && (r = frame_next(&p->in, &f, NULL)) == 1)
		if (!hear(p, &f)) {
			r = -EPROTO;
			break;
		}
	if (n < 0 || r < 0)
		give_up(p);
}

/* ---- starting ------------------------------------------------------------------- */

static void start_work(uv_work_t *req)
{
	struct probe *p = list_entry(req, struct probe, req);
	const struct agent_opts *o = p->io->opts;
	struct spawn_fd map = { p->write_fd, PROBE_FD };
	char patience[24];
	char *argv[16] = { (char *)"nodeagent-probe", (char *)"--fd", (char *)"3" };
	char *env[] = { (char *)"PATH=/usr/bin:/bin", NULL };
	int n = 3;

	snprintf(patience, sizeof(patience), "%llu", (unsigned long long)(p->patience_ms / 1000));
	argv[n++] = (char *)"--patience";
	argv[n++] = patience;
	if (p->again)
		argv[n++] = (char *)"--again";
	if (!o->single_user)
		argv[n++] = (char *)"--launcher";
	if (o->sysfs_root != NULL) {
		argv[n++] = (char *)"--sysfs-root";
		argv[n++] = (char *)(uintptr_t)o->sysfs_root;
	}
	if (o->exclude_ports != NULL) {
		argv[n++] = (char *)"--exclude";
		argv[n++] = (char *)(uintptr_t)o->exclude_ports;
	}
	if (o->kmsg != NULL) {
		argv[n++] = (char *)"--kmsg";
		argv[n++] = (char *)(uintptr_t)o->kmsg;
	}
	if (o->nvml != NULL) {
		argv[n++] = (char *)"--nvml";
		argv[n++] = (char *)(uintptr_t)o->nvml;
	}
	p->rc = spawn_program(p->path, argv, env, &map, 1, 1024, 1024, &p->started_pid, &p->e);
	close(p->write_fd);
}

static void later(struct probe *p)
{
	int64_t ms = AGAIN_MS;

	if (mono_sub_ms(clock_mono(), p->born) > SETTLED_MS)
		p->deaths = 0;
	for (unsigned i = 0; i < p->deaths && ms < AGAIN_MAX_MS; i++)
		ms *= 2;
	p->deaths++;
	uv_timer_start(&p->timer, on_timer, (uint64_t)(ms < AGAIN_MAX_MS ? ms : AGAIN_MAX_MS), 0);
}

static void started(uv_work_t *req, int status)
{
	struct probe *p = list_entry(req, struct probe, req);

	p->pid = p->rc == 0 ? p->started_pid : 0;
	if (p->rc != 0) {
		give_up(p);
		withdraw(p, p->e.text);
		later(p);
		return;
	}
	if (p->pipe == NULL) /* given up meanwhile */
		kill(p->pid, SIGKILL);
	log_debug("nodeagent-probe runs as pid %d", (int)p->pid);
	uv_timer_start(&p->timer, on_timer, HANG_MS, 0);
	probe_reap(p->io); /* its SIGCHLD may have come before we knew it */
}

/* Not blocking on our side: the probe's writes may, and then it hangs there. */
static void start(struct probe *p)
{
	int fds[2];

	p->killed = p->heard = false;
	p->born = clock_mono();
	frame_reader_finish(&p->in);
	frame_reader_init(&p->in, FRAME_MAX);
	if (pipe2(fds, O_CLOEXEC) != 0) {
		withdraw(p, "no descriptor left for the probe's pipe");
		later(p);
		return;
	}
	p->write_fd = fds[1];
	p->pipe = agent_alloc(sizeof(*p->pipe));
	p->pipe->data = p;
	uv_pipe_init(&p->io->loop, p->pipe, 0);
	if (uv_pipe_open(p->pipe, fds[0]) != 0 ||
	    uv_read_start((uv_stream_t *)p->pipe, room, on_read) != 0) {
		close(fds[1]);
		give_up(p);
		withdraw(p, "the probe's pipe cannot be read");
		later(p);
		return;
	}
	uv_queue_work(&p->io->loop, &p->req, start_work, started);
}

/* ---- its end ---------------------------------------------------------------------- */

/* One that was well for a time, before its source hung, starts from the beginning. */
static void on_stuck(struct probe *p)
{
	int64_t lived = mono_sub_ms(clock_mono(), p->born);

	p->pid = 0;
	give_up(p);
	if (lived > 2 * (int64_t)p->patience_ms + SETTLED_MS)
		p->patience_ms = p->io->opts->probe_patience_ms;
	else if (p->patience_ms < PATIENCE_MAX_MS)
		p->patience_ms *= 2;
	p->again = true;
	log_warn("nodeagent-probe has given up a source that hangs; it is started anew, and the next "
		 "one does so after %llu s", (unsigned long long)(p->patience_ms / 1000));
	uv_timer_start(&p->timer, on_timer, AGAIN_MS, 0);
}

static void on_gone(struct probe *p, int status)
{
	char why[128];

	if (WIFEXITED(status) && WEXITSTATUS(status) == STUCK_CODE) {
		on_stuck(p);
		return;
	}
	if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "nodeagent-probe was killed by signal %d; it is started anew",
			 WTERMSIG(status));
	else
		snprintf(why, sizeof(why), "nodeagent-probe ended with code %d; it is started anew",
			 WEXITSTATUS(status));
	log_warn("%s", why);
	p->again = false;
	p->pid = 0;
	give_up(p);
	withdraw(p, why);
	later(p);
}

void probe_reap(struct agent_io *io)
{
	struct probe *p = io->probe;
	int status;

	if (p != NULL && p->pid > 0 && waitpid(p->pid, &status, WNOHANG) == p->pid)
		on_gone(p, status);
}

bool probe_create(struct agent_io *io)
{
	struct probe *p;
	struct err e;

	if (io->opts->no_probe)
		return false;
	p = agent_alloc(sizeof(*p));
	if (program_find(NULL, "nodeagent-probe", p->path, sizeof(p->path), &e) != 0) {
		log_warn("%s: GPUs and InfiniBand ports are not watched", e.text);
		free(p);
		return false;
	}
	p->io = io;
	p->patience_ms = io->opts->probe_patience_ms;
	frame_reader_init(&p->in, FRAME_MAX);
	uv_timer_init(&io->loop, &p->timer);
	p->timer.data = p;
	io->probe = p;
	return true;
}

void probe_begin(struct agent_io *io)
{
	if (io->probe != NULL)
		start(io->probe);
}

/* A reading of the GPUs, now, changed or not. */
void probe_ask(struct agent_io *io)
{
	const struct probe *p = io->probe;

	if (p != NULL && p->pid > 0 && p->heard && !p->killed)
		kill(p->pid, SIGUSR1);
}

void probe_end(struct agent_io *io)
{
	if (io->probe != NULL && io->probe->pid > 0)
		kill(io->probe->pid, SIGKILL);
}
