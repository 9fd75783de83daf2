/* agent_role.c - the agent: starts everything, steps the core, ends
 *
 * One loop, one thread, one pool of worker threads for what may block. At rest
 * it wakes for the heartbeat only: one timer carries the core's next deadline.
 *
 * SIGTERM leaves jobs to their shims, unless this is a standalone cluster
 * (end_jobs_on_term). Ending needs no clean-up: whatever we hold is either on
 * disk, in /run, or vanishes with the process as it should.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/proc.h"
#include "io/bulk.h"
#include "io/files.h"
#include "io/launcher_client.h"
#include "io/ports.h"
#include "io/probe.h"
#include "io/sockets.h"
#include "io/spools.h"

#define STOP_UNREGISTERED_MS 5000
#define SETTLE_MS 3000 /* a job's cgroup is waited for up to 2 s (chores.c) */
#define SPECS_OLD_MS 3600000

/* ---- small things everybody here uses ---------------------------------- */

/* The core's step is incomplete, or an answer it waits for could not be kept:
 * going on would be a guess. Jobs stay with their shims; the next start finds
 * everything again. */
void agent_no_memory(void)
{
	log_error("out of memory; the agent restarts, running jobs are not touched");
	_exit(71);
}

void *agent_alloc(size_t n)
{
	void *p = calloc(1, n);

	if (p == NULL)
		agent_no_memory();
	return p;
}

void agent_exit(struct agent_io *io, int code)
{
	io->exit_code = code;
	uv_stop(&io->loop);
}

/* ---- what io keeps of jobs ---------------------------------------------- */

struct job_io *job_io_find(struct agent_io *io, uint64_t job, uint32_t attempt)
{
	list_foreach(l, &io->jobs) {
		struct job_io *j = list_entry(l, struct job_io, at);

		if (j->job == job && j->attempt == attempt)
			return j;
	}
	return NULL;
}

struct job_io *job_io_get(struct agent_io *io, uint64_t job, uint32_t attempt)
{
	struct job_io *j = job_io_find(io, job, attempt);

	if (j != NULL)
		return j;
	j = agent_alloc(sizeof(*j));
	j->job = job;
	j->attempt = attempt;
	list_append(&io->jobs, &j->at);
	io->n_jobs++;
	return j;
}

void job_io_drop(struct agent_io *io, uint64_t job, uint32_t attempt)
{
	struct job_io *j = job_io_find(io, job, attempt);

	if (j == NULL)
		return;
	list_remove(&j->at);
	io->n_jobs--;
	spec_unref(j->spec);
	lost_finish(&j->lost);
	free(j);
}

/* ---- the step ------------------------------------------------------------ */

static void on_deadline(void *arg)
{
	struct agent_event ev = { .type = AEV_DEADLINE };

	agent_feed(arg, &ev);
}

static void tell_ready(struct agent_io *io)
{
	if (io->told_ready || !agent_registered(io->core))
		return;
	io->told_ready = true;
	log_info("node %s is registered", io->id.node);
	ready_tell(io->opts->ready_fd, "registered\n");
}

void agent_tell_status(struct agent_io *io)
{
	bool launcher = io->opts->single_user || launcher_client_up(io->launcher);

	notify_status(&io->notify, "%s %s:%u, %u job%s%s",
		      agent_registered(io->core) ? "registered with" : "not registered: looking for",
		      io->id.coord_host, io->id.coord_port, io->n_jobs, io->n_jobs == 1 ? "" : "s",
		      launcher ? "" : "; nodeagent-launcher is away: no job can be started here");
}

static void check_stop(struct agent_io *io)
{
	if (io->stopping && agent_idle(io->core) &&
	    (agent_registered(io->core) || io->n_jobs == 0 || io->stop_waited))
		agent_exit(io, 0);
}

void agent_feed(struct agent_io *io, struct agent_event *ev)
{
	assert(!io->stepping);
	io->stepping = true;
	ev->now = clock_mono();
	ev->boot_ms = clock_boot_ms();
	ev->wall_us = clock_wall_us();
	ev->wall_ms = ev->wall_us / 1000;
	random_fill(ev->random, sizeof(ev->random));
	if (agent_step(io->core, ev, &io->acts) != 0 || io->acts.failed)
		agent_no_memory();
	if (io->acts.invalid > 0)
		log_error("%u message(s) broke their own limits and were left out: a bug",
			  io->acts.invalid);
	for (size_t i = 0; i < io->acts.n; i++)
		perform_agent(io, &io->acts.v[i]);
	actions_reset(&io->acts);
	io->stepping = false;
	bulk_kick(io->bulk);
	spools_kick(io->spools);
	deadline_arm(&io->deadline, agent_deadline(io->core));
	tell_ready(io);
	agent_tell_status(io);
	check_stop(io);
}

/* ---- events for a later turn ---------------------------------------------- */

static void on_idle(uv_idle_t *h)
{
	struct agent_io *io = h->data;
	struct list now;

	list_init(&now);
	while (!list_empty(&io->later)) {
		struct list *l = io->later.next;

		list_remove(l);
		list_append(&now, l);
	}
	uv_idle_stop(h);
	while (!list_empty(&now)) {
		struct later *l = list_entry(now.next, struct later, at);

		list_remove(&l->at);
		agent_feed(io, &l->ev);
		arena_finish(&l->arena);
		free(l);
	}
}

struct later *agent_later_new(enum agent_event_type type)
{
	struct later *l = agent_alloc(sizeof(*l));

	arena_init(&l->arena);
	l->ev.type = type;
	return l;
}

void agent_later(struct agent_io *io, struct later *l)
{
	list_append(&io->later, &l->at);
	uv_idle_start(&io->idle, on_idle);
}

static struct later *done_new(uint64_t ticket, const char *text)
{
	struct later *l = agent_later_new(AEV_DONE);

	l->ev.ticket = ticket;
	if (text != NULL && (l->ev.text = arena_strdup(&l->arena, text)) == NULL)
		agent_no_memory();
	return l;
}

void agent_done(struct agent_io *io, uint64_t ticket, int error, bool retry, const char *text)
{
	const char *why = text != NULL ? text : strerror(-error);
	struct later *l = done_new(ticket, error != 0 ? why : NULL);

	l->ev.error = error;
	l->ev.retry = retry;
	agent_later(io, l);
}

void agent_done_so_far(struct agent_io *io, uint64_t ticket, int error, uint32_t result, const char *text)
{
	struct later *l = done_new(ticket, error != 0 && text == NULL ? strerror(-error) : text);

	l->ev.error = error;
	l->ev.result = result;
	agent_later(io, l);
}

void agent_done_well(struct agent_io *io, uint64_t ticket, uint32_t result, const char *text)
{
	struct later *l = done_new(ticket, text);

	l->ev.result = result;
	agent_later(io, l);
}

/* ---- signals, the parent --------------------------------------------------- */

static void on_stop_timer(uv_timer_t *t)
{
	struct agent_io *io = t->data;

	io->stop_waited = true;
	check_stop(io);
}

static void on_term(uv_signal_t *s, int signum)
{
	struct agent_io *io = s->data;
	struct agent_event ev = { .type = AEV_STOP };

	log_info("signal %d: %s", signum,
		 io->opts->end_jobs_on_term ? "ending jobs" : "leaving; jobs go on with their shims");
	notify_send(&io->notify, "STOPPING=1");
	if (!io->opts->end_jobs_on_term) {
		agent_exit(io, 0);
		return;
	}
	if (io->stopping)
		return;
	io->stopping = true;
	uv_timer_start(&io->stop_timer, on_stop_timer, STOP_UNREGISTERED_MS, 0);
	agent_feed(io, &ev);
}

static void on_child(uv_signal_t *s, int signum)
{
	shims_reap(s->data);
	probe_reap(s->data);
	shims_reap_orphans();
}

static void watch_signals(struct agent_io *io)
{
	struct {
		uv_signal_t *h;
		uv_signal_cb cb;
		int signum;
	} rows[] = { { &io->sig_term, on_term, SIGTERM },
		     { &io->sig_int, on_term, SIGINT },
		     { &io->sig_child, on_child, SIGCHLD } };

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* write says EFBIG: no worse than a full disk */
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uv_signal_init(&io->loop, rows[i].h);
		rows[i].h->data = io;
		uv_signal_start(rows[i].h, rows[i].cb, rows[i].signum);
	}
	parent_watch(&io->loop, &io->parent, io->opts->parent_fd);
}

/* ---- start ------------------------------------------------------------------ */

/* Leases, spools and clients each hold descriptors. Jobs get the limit that we
 * were started with (shims.c restores it). */
static void raise_nofile(struct agent_io *io)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return;
	io->nofile.cur = r.rlim_cur;
	io->nofile.max = r.rlim_max;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}

/* A coordinator that is away, or too old to tell which specifications its jobs need. */
static void on_specs_old(uv_timer_t *t)
{
	struct agent_io *io = t->data;

	if (!agent_specs_known(io->core))
		specs_drop_old(io->specs);
}

static void spec_found(void *arg, const uint8_t hash[32])
{
	agent_spec_found(arg, hash);
}

static int make_core(struct agent_io *io, struct err *e)
{
	char where[300];
	struct agent_conf c = { .node = io->id.node, .boot_id = io->boot_id, .coordinator = where,
				.peer_port = io->peer_port, .heartbeat_ms = 1000, .silence_ms = 5000,
				.request_ms = 30000, .backoff_min_ms = 200, .backoff_max_ms = 15000,
				.single_user = io->opts->single_user, .own_uid = io->own_uid,
				.allow_root = io->opts->allow_root, .uid_min = io->opts->uid_min,
				.uid_max = io->opts->uid_max, .gpu_share = io->opts->gpu_share,
				.no_nccl_log = io->opts->no_nccl_log, .no_ras = io->opts->no_ras,
				.gpu_share_of = io->opts->gpu_share_of, .pulse_ms = io->opts->pulse_ms, .spool_dir = io->opts->spool_dir };

	snprintf(where, sizeof(where), "%s:%u", io->id.coord_host, io->id.coord_port);
	c.cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	c.probe = probe_create(io);
	random_fill(&c.incarnation, sizeof(c.incarnation));
	io->core = agent_create(&c, clock_mono());
	if (io->core == NULL)
		return err_set(e, ENOMEM, "out of memory");
	specs_each(io->specs, spec_found, io->core);
	return 0;
}

static void init_handles(struct agent_io *io)
{
	deadline_init(&io->loop, &io->deadline, on_deadline, io);
	uv_timer_init(&io->loop, &io->stop_timer);
	uv_idle_init(&io->loop, &io->idle);
	uv_timer_init(&io->loop, &io->specs_old);
	conns_init(io);
	io->stop_timer.data = io->idle.data = io->specs_old.data = io;
	list_init(&io->later);
	list_init(&io->uploaders);
	list_init(&io->jobs);
	list_init(&io->children);
	actions_init(&io->acts);
}

#define FOR_CLIENTS "nodectl.sock" /* `nodectl --dir DIR` looks for it there, as a standalone cluster has it */

static void clients_path(const struct agent_opts *o, char path[PATH_MAX])
{
	if (o->socket_path != NULL)
		snprintf(path, PATH_MAX, "%s", o->socket_path);
	else
		snprintf(path, PATH_MAX, "%s/agent.sock", o->run_dir);
}

/* Our socket is to be DIR/nodectl.sock itself, however its path is written. */
static bool listens_at_the_link(const struct agent_opts *o)
{
	char path[PATH_MAX], at[PATH_MAX], dir[PATH_MAX];
	char *slash;

	clients_path(o, path);
	slash = strrchr(path, '/');
	if (strcmp(slash != NULL ? slash + 1 : path, FOR_CLIENTS) != 0)
		return false;
	if (slash != NULL)
		slash[slash == path] = '\0';
	return realpath(slash != NULL ? path : ".", at) != NULL && realpath(o->dir, dir) != NULL &&
	       strcmp(at, dir) == 0;
}

/* What an earlier life left at DIR/nodectl.sock, with another --socket than now:
 * a link where we want to listen, or a socket where there is to be a link. */
static void clear_link(const struct agent_opts *o, mode_t type)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/" FOR_CLIENTS, o->dir);
	if (lstat(path, &st) != 0 || (st.st_mode & S_IFMT) != type)
		return;
	fd = socket_unix_connect(path);
	if (fd >= 0)
		close(fd);
	else if (fd != -EAGAIN) /* else it is somebody's who serves it */
		unlink(path);
}

static void link_for_clients(const struct agent_opts *o)
{
	char path[PATH_MAX], target[PATH_MAX], dir[PATH_MAX];
	const char *from = target;
	size_t n;
	struct err e;

	if (o->dir == NULL || listens_at_the_link(o))
		return;
	clients_path(o, path);
	if (realpath(path, target) == NULL || realpath(o->dir, dir) == NULL) {
		log_warn("%s: %s", path, strerror(errno));
		return;
	}
	n = strlen(dir);
	if (strncmp(target, dir, n) == 0 && target[n] == '/')
		from = target + n + 1; /* a directory may be moved */
	clear_link(o, S_IFSOCK);
	if (file_link(from, o->dir, FOR_CLIENTS, &e) < 0)
		log_warn("%s: nodectl needs --socket %s here", e.text, path);
}

static int start(struct agent_io *io, struct err *e)
{
	const struct agent_opts *o = io->opts;
	struct specs_limits limits = { .total = o->specs_max, .user = o->specs_user_max };
	int rc;

	if ((rc = identity_load(o->state_dir, &io->id, e)) != 0 ||
	    (rc = tls_context_create(o->state_dir, &io->tls, e)) != 0)
		return rc;
	log_node(io->id.node);
	if ((rc = proc_boot_id(io->boot_id)) != 0)
		return err_set(e, rc, "cannot read the kernel's boot id: %s", strerror(-rc));
	if ((rc = shims_start(io, e)) != 0 ||
	    (rc = ports_create(&io->loop, o->port_min, o->port_max, &io->ports, e)) != 0 ||
	    (rc = specs_create(&io->loop, o->state_dir, &limits, &io->specs, e)) != 0)
		return rc;
	users_create(io, &io->users);
	if ((rc = bulk_create(io, &io->bulk)) != 0)
		return err_set(e, rc, "out of memory");
	spools_create(io, &io->spools);
	if (!o->single_user && (rc = launcher_client_create(io, &io->launcher, e)) != 0)
		return rc;
	if (o->dir != NULL && listens_at_the_link(o))
		clear_link(o, S_IFLNK);
	/* the clients' socket first: it tells when another agent runs here */
	if ((rc = conns_listen_clients(io, e)) != 0 || (rc = conns_listen_peers(io, e)) != 0)
		return rc;
	link_for_clients(o);
	return make_core(io, e);
}

/* Addresses, then what an earlier life left, before anything else happens. */
static void begin(struct agent_io *io)
{
	struct agent_event ev = { .type = AEV_DEADLINE };

	conns_tell_addrs(io);
	adopt_all(io);
	probe_begin(io);
	agent_feed(io, &ev);
	uv_timer_start(&io->specs_old, on_specs_old, SPECS_OLD_MS, SPECS_OLD_MS);
	/* Ready means: clients are answered and jobs are held. A coordinator that is
	 * away must not fail the unit. */
	notify_start(&io->notify_timer, &io->loop, &io->notify);
}

/* Handles are not closed one by one: the process ends now. Memory is given back
 * for the leak checkers' sake, as far as it is not a handle's. */
static void finish(struct agent_io *io)
{
	if (io->listen_clients != NULL)
		link_listener_close(io->listen_clients); /* unlinks the socket */
	if (io->listen_peers != NULL)
		link_listener_close(io->listen_peers);
	launcher_client_destroy(io->launcher);
	probe_end(io);
}

int agent_run(const struct agent_opts *o)
{
	static struct agent_io the_agent; /* static: what is still reachable at exit is no leak */
	struct agent_io *io = &the_agent;
	struct err e;

	memset(io, 0, sizeof(*io));
	io->opts = o;
	io->own_uid = getuid();
	notify_init(&io->notify);
	raise_nofile(io);
	/* 256 KiB buffers come and go at hundreds of MB/s: not by mmap and munmap.
	 * What is left at the top goes back to the kernel when bulk falls idle. */
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 16 << 20);
	mallopt(M_ARENA_MAX, 1);
	if (loop_begin(&io->loop, &e) != 0) {
		log_error("%s", e.text);
		return 1;
	}
	init_handles(io);
	if (start(io, &e) != 0) {
		log_error("%s", e.text);
		finish(io);
		return 1;
	}
	watch_signals(io);
	begin(io);
	uv_run(&io->loop, UV_RUN_DEFAULT);
	if (!pool_settle(&io->loop, SETTLE_MS))
		log_warn("a file system or a name service does not answer: what was asked of it is left undone");
	finish(io);
	return io->exit_code;
}
