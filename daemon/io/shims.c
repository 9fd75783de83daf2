/* shims.c - from a prepared job to a running shim; its records in RUN/shims
 *
 *   JOB.ATTEMPT.held   what this node holds, and the ports leased for it (row_held): made
 *                      first, removed by ACT_CLEAN
 *   JOB.ATTEMPT.sock   where the shim listens
 *   JOB.ATTEMPT.latch  ranks may have been started: taken before the shim is told to go
 *
 * One work item makes everything, the process included; the loop only connects
 * afterwards. With a launcher, the spool and the process are its work.
 *
 * Not promised: that a shim which was started is reached. Then the launch
 * fails and the shim is ended; should that fail too, it leaves by itself when no
 * agent comes.
 */
#include "io/shims.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/left.h"
#include "common/log.h"
#include "common/orphans.h"
#include "common/proc.h"
#include "common/spool.h"
#include "io/files.h"
#include "io/launcher_client.h"
#include "io/ports.h"
#include "io/spawn.h"
#include "io/sockets.h"
#include "io/specs.h"

struct child {
	struct list at;
	pid_t pid;
	uint64_t job;
};

/* One launch. What the pool thread needs is copied; it touches nothing else of io
 * than what never changes (paths, own_uid, boot_id, nofile). */
struct launch {
	uv_work_t req;
	struct agent_io *io;
	uint64_t ticket, job, lineage;
	uint32_t attempt, uid, nprocs, rank_base;
	char user[65], cookie[65];
	char leaf[LEAF_PATH_MAX]; /* its cgroup; "": none */
	char *prepare_json;
	struct buf ports;
	struct spec_blob *spec;
	int memfd, listener;
	pid_t pid;
	uint64_t start_time; /* 0: not our child */
	int rc;
	bool retry;
	bool aside; /* the launcher was asked to clear the way */
	struct err e;
};

void shims_file(uint64_t job, uint32_t attempt, const char *suffix, char out[48])
{
	snprintf(out, 48, "%" PRIu64 ".%u.%s", job, attempt, suffix);
}

enum shim_answer shims_socket_ask(const struct agent_io *io, uint64_t job, uint32_t attempt)
{
	char path[108];
	int fd;

	shims_socket_path(io, job, attempt, path);
	fd = socket_unix_connect(path);
	if (fd >= 0) {
		close(fd);
		return SHIM_LISTENS;
	}
	return fd == -ECONNREFUSED || fd == -ENOENT ? SHIM_GONE : SHIM_UNSURE;
}

void shims_socket_path(const struct agent_io *io, uint64_t job, uint32_t attempt, char out[108])
{
	/* fits: shims_start() chose a path that leaves room */
	snprintf(out, 108, "%.74s/%" PRIu64 ".%u.sock", io->shims_path, job, attempt);
}

static int write_file(int dir, const char *name, const void *p, size_t n)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t w;

	if (fd < 0)
		return -errno;
	w = write(fd, p, n); /* a small file at once, or the disk is full */
	close(fd);
	if (w == (ssize_t)n)
		return 0;
	w = w < 0 ? -errno : -ENOSPC;
	unlinkat(dir, name, 0);
	return (int)w;
}

/* ---- on the pool thread ------------------------------------------------- */

/* Its exclusive creation also keeps a launch from happening twice. */
static int make_held(struct launch *l)
{
	char name[48];
	struct msg m;
	struct buf b;
	int rc;

	msg_init(&m, MSG_row_held);
	m.u.row_held.job = l->job;
	m.u.row_held.attempt = l->attempt;
	m.u.row_held.boot_id = l->io->boot_id;
	m.u.row_held.lineage = l->lineage;
	m.u.row_held.cookie = l->cookie;
	if (l->ports.len > 0)
		m.u.row_held.ports = buf_str(&l->ports);
	if (l->leaf[0] != '\0')
		m.u.row_held.cgroup = l->leaf;
	m.u.row_held.prepare = (struct bytes){ (const uint8_t *)l->prepare_json, strlen(l->prepare_json) };
	buf_init(&b);
	rc = msg_encode(&m, &b, &l->e);
	shims_file(l->job, l->attempt, "held", name);
	if (rc == 0) {
		rc = write_file(l->io->shims_dir, name, b.data, b.len);
		if (rc != 0)
			err_set(&l->e, rc, "cannot write %s/shims/%s: %s", l->io->opts->run_dir, name,
				strerror(-rc));
	}
	buf_finish(&b);
	return rc;
}

static int make_socket(struct launch *l)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	shims_socket_path(l->io, l->job, l->attempt, sa.sun_path);
	unlink(sa.sun_path); /* of a launch that did not get as far as this one */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(&l->e, errno, "cannot make a socket: %s", strerror(errno));
	if (bind(fd, (void *)&sa, sizeof(sa)) != 0 || listen(fd, 16) != 0) {
		err_set(&l->e, errno, "cannot listen on %s: %s", sa.sun_path, strerror(errno));
		close(fd);
		return l->e.code;
	}
	l->listener = fd;
	return 0;
}

static int make_memfd(struct launch *l)
{
	int fd = memfd_create("nodeagent-spec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t done = 0;

	if (fd < 0)
		return err_set(&l->e, errno, "memfd_create: %s", strerror(errno));
	while (done < l->spec->n) {
		ssize_t w = write(fd, l->spec->p + done, l->spec->n - done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			break;
		done += (size_t)w;
	}
	if (done < l->spec->n || lseek(fd, 0, SEEK_SET) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
		err_set(&l->e, errno ? errno : ENOMEM, "cannot fill the specification's memory: %s",
			strerror(errno));
		close(fd);
		return l->e.code;
	}
	l->memfd = fd;
	return 0;
}

/* The held record is ours alone, so a spool of this name is another cluster's
 * (job numbers begin anew with a new one): it is moved aside, not lost. */
static int make_spool(struct launch *l, int *ret_dir)
{
	int root = spool_open(l->io->opts->spool_dir, (gid_t)-1, &l->e), rc;

	if (root < 0)
		return root;
	rc = spool_begin(root, l->job, l->attempt, ret_dir, &l->e);
	if (rc == -EEXIST) {
		rc = spool_aside(root, l->job, l->attempt, clock_wall_ms(), &l->e);
		if (rc == 0)
			rc = spool_begin(root, l->job, l->attempt, ret_dir, &l->e);
	}
	close(root);
	return rc;
}

/* PROTOCOL.md's table of descriptors. */
static int start_process(struct launch *l, int dir)
{
	int procs = l->leaf[0] != '\0' ? leaf_make(l->leaf) : -1, rc;
	struct spawn_fd map[] = { { l->memfd, 3 }, { l->listener, 4 }, { dir, 7 }, { procs, SPAWN_CGROUP } };
	char cookie[96], agent[48], job[24], attempt[12], nprocs[12];
	char *argv[] = { (char *)"nodeagent-shim", job, attempt, nprocs, NULL };
	char *env[] = { cookie, agent, NULL };

	snprintf(cookie, sizeof(cookie), "NODEAGENT_COOKIE=%s", l->cookie);
	snprintf(agent, sizeof(agent), "NODEAGENT_AGENT_UID=%u", l->io->own_uid);
	snprintf(job, sizeof(job), "%" PRIu64, l->job);
	snprintf(attempt, sizeof(attempt), "%u", l->attempt);
	snprintf(nprocs, sizeof(nprocs), "%u", l->nprocs);
	rc = spawn_program(l->io->shim_path, argv, env, map, procs >= 0 ? 4 : 3, l->io->nofile.cur,
			   l->io->nofile.max, &l->pid, &l->e);
	if (procs >= 0)
		close(procs);
	if (rc != 0)
		leaf_remove(l->leaf, 0);
	else if (l->leaf[0] != '\0' && (procs < 0 || !left_in_cgroup(l->pid, strrchr(l->leaf, '/') != NULL ?
									 strrchr(l->leaf, '/') + 1 : l->leaf)))
		log_job(LOG_LVL_WARN, l->job, l->attempt, "could not be put into cgroup /%s%s%s; it runs without", l->leaf,
			procs < 0 ? ": " : "", procs < 0 ? strerror(-procs) : "");
	return rc;
}

static int launch_as_self(struct launch *l)
{
	int dir, rc;

	rc = users_check(l->uid, l->user, &l->e);
	if (rc != 0)
		return rc;
	l->retry = true; /* what fails from here on is this node's fault */
	rc = make_spool(l, &dir);
	if (rc != 0)
		return rc;
	rc = start_process(l, dir);
	close(dir);
	if (rc == 0)
		proc_start_time(l->pid, &l->start_time); /* it is there until the loop reaps it */
	return rc;
}

void shims_remove_files(struct agent_io *io, uint64_t job, uint32_t attempt)
{
	/* held before latch: a held record without its latch would mean "may be started" */
	/* "ports" was a file of its own in 0.1.0 before it came into "held" */
	static const char *const suffixes[] = { "sock", "held", "ports", "latch" };
	char name[48];

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		shims_file(job, attempt, suffixes[i], name);
		unlinkat(io->shims_dir, name, 0);
	}
}

static void launch_work(uv_work_t *req)
{
	struct launch *l = list_entry(req, struct launch, req);

	if (l->io->opts->single_user && l->uid != l->io->own_uid) {
		l->rc = err_set(&l->e, EPERM, "this agent runs without root and starts jobs of uid %u only",
				l->io->own_uid);
		return;
	}
	l->retry = true;
	if (l->io->opts->single_user)
		leaf_path(l->leaf, l->job, l->attempt, l->cookie);
	l->rc = make_held(l);
	if (l->rc != 0)
		return;
	if ((l->rc = make_socket(l)) == 0 && (l->rc = make_memfd(l)) == 0 &&
	    l->io->opts->single_user) {
		l->retry = false;
		l->rc = launch_as_self(l);
	}
	if (l->rc != 0)
		shims_remove_files(l->io, l->job, l->attempt);
}

/* ---- on the loop ---------------------------------------------------------- */

static void launch_free(struct launch *l)
{
	if (l->memfd >= 0)
		close(l->memfd);
	if (l->listener >= 0)
		close(l->listener);
	spec_unref(l->spec);
	buf_finish(&l->ports);
	free(l->prepare_json);
	free(l);
}

static void launched(struct launch *l)
{
	struct job_io *j;
	struct child *c;

	if (l->rc != 0) {
		log_job(LOG_LVL_WARN, l->job, l->attempt, "cannot be started here: %s", l->e.text);
		agent_done(l->io, l->ticket, l->rc, l->retry, l->e.text);
		launch_free(l);
		return;
	}
	j = job_io_get(l->io, l->job, l->attempt);
	snprintf(j->cookie, sizeof(j->cookie), "%s", l->cookie);
	snprintf(j->leaf, sizeof(j->leaf), "%s", l->leaf);
	j->started.pid = l->pid;
	proc_start_time(l->pid, &j->started.start_time);
	if (l->io->opts->single_user) {
		c = agent_alloc(sizeof(*c));
		c->pid = l->pid;
		c->job = l->job;
		list_append(&l->io->children, &c->at);
		j->shim = (struct proc_id){ l->pid, l->start_time };
		shims_reap(l->io); /* its SIGCHLD may have come before we knew it */
	}
	log_job(LOG_LVL_INFO, l->job, l->attempt, "shim %d started for %s", (int)l->pid, l->user);
	conns_dial_shim(l->io, l->job, l->attempt, l->ticket, (uint32_t)l->pid);
	launch_free(l);
}

static void ask_aside(struct launch *l);

static void launcher_answered(void *arg, int error, uint32_t result, const char *text)
{
	struct launch *l = arg;

	if (error == -EEXIST && !l->aside) { /* see make_spool() */
		ask_aside(l);
		return;
	}
	l->rc = error;
	l->pid = (pid_t)result;
	/* a user that is refused or unknown here is not the node's fault */
	l->retry = error != -EPERM && error != -EACCES && error != -ENOENT;
	if (error != 0) {
		err_set(&l->e, error, "%s", text);
		shims_remove_files(l->io, l->job, l->attempt); /* two or three names in /run */
	}
	launched(l);
}

static void ask_launcher(struct launch *l)
{
	struct launcher_request r = { .op = LAUNCHER_LAUNCH, .job = l->job, .attempt = l->attempt,
				      .uid = l->uid, .nprocs = l->nprocs, .rank_base = l->rank_base };
	int fds[2] = { l->memfd, l->listener };

	/* both fit: the core's limits are the launcher's (an over-long name is refused there) */
	snprintf(r.user, sizeof(r.user), "%.*s", (int)sizeof(r.user) - 1, l->user);
	snprintf(r.cookie, sizeof(r.cookie), "%.*s", (int)sizeof(r.cookie) - 1, l->cookie);
	launcher_client_ask(l->io->launcher, &r, fds, launcher_answered, l);
}

static void aside_answered(void *arg, int error, uint32_t result, const char *text)
{
	struct launch *l = arg;

	if (error == 0)
		ask_launcher(l);
	else
		launcher_answered(l, error, result, text);
}

static void ask_aside(struct launch *l)
{
	struct launcher_request r = { .op = LAUNCHER_ASIDE, .job = l->job, .attempt = l->attempt };

	l->aside = true;
	launcher_client_ask(l->io->launcher, &r, NULL, aside_answered, l);
}

static void launch_after(uv_work_t *req, int status)
{
	struct launch *l = list_entry(req, struct launch, req);

	if (l->rc == 0 && !l->io->opts->single_user)
		ask_launcher(l);
	else
		launched(l);
}

void shims_spawn(struct agent_io *io, const struct action *a)
{
	const struct rec_prepare *p = a->prepare;
	struct job_io *j = job_io_get(io, a->job, a->attempt);
	struct launch *l = agent_alloc(sizeof(*l));

	l->io = io;
	l->ticket = a->ticket;
	l->job = a->job;
	l->attempt = a->attempt;
	l->lineage = a->lineage;
	l->uid = j->uid = p->uid;
	j->uid_known = true;
	l->nprocs = p->nprocs;
	l->rank_base = p->rank_base;
	l->memfd = l->listener = -1;
	snprintf(l->user, sizeof(l->user), "%s", p->user);
	snprintf(l->cookie, sizeof(l->cookie), "%s", a->cookie);
	l->prepare_json = strdup(a->prepare_json);
	buf_init(&l->ports);
	ports_text(io->ports, a->job, a->attempt, &l->ports);
	l->spec = j->spec;
	j->spec = NULL;
	j->rank_base = p->rank_base;
	j->nprocs = p->nprocs;
	if (l->prepare_json == NULL)
		agent_no_memory();
	if (l->spec == NULL) {
		agent_done(io, a->ticket, -ENOENT, true, "the specification was not fetched");
		launch_free(l);
		return;
	}
	uv_queue_work(&io->loop, &l->req, launch_work, launch_after);
}

/* Only pids that we started and have not reaped: they cannot be anyone else's. */
void shims_reap(struct agent_io *io)
{
	list_foreach_safe(e, &io->children) {
		struct child *c = list_entry(e, struct child, at);
		int status;

		if (waitpid(c->pid, &status, WNOHANG) == 0)
			continue;
		log_debug("shim of job %" PRIu64 " (pid %d) has ended", c->job, (int)c->pid);
		list_remove(&c->at);
		free(c);
	}
	if (io->launcher != NULL)
		launcher_client_reap(io->launcher);
}

/* Orphans that came to us are reaped by nobody else. Those that we have started
 * are left to whoever has; one behind them is reaped next time, or by a sweep. */
void shims_reap_orphans(void)
{
	for (;;) {
		siginfo_t si = { 0 };
		uint64_t start = 0;

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) != 0 || si.si_pid == 0)
			return;
		proc_start_time(si.si_pid, &start);
		if (spawn_may_be_ours(si.si_pid, start))
			return;
		waitpid(si.si_pid, NULL, WNOHANG);
	}
}

void shims_abandon(struct agent_io *io, uint64_t job, uint32_t attempt)
{
	struct launcher_request r = { .op = LAUNCHER_KILL, .job = job, .attempt = attempt };
	const struct job_io *j = job_io_find(io, job, attempt);

	if (j == NULL || j->cookie[0] == '\0')
		return;
	if (io->launcher != NULL) {
		snprintf(r.cookie, sizeof(r.cookie), "%.*s", (int)sizeof(r.cookie) - 1, j->cookie);
		launcher_client_ask(io->launcher, &r, NULL, NULL, NULL);
		return;
	}
	list_foreach(e, &io->children) /* not reaped, so the pid is still its own */
		if (list_entry(e, struct child, at)->pid == j->shim.pid)
			kill(j->shim.pid, SIGTERM);
}

/* ---- start ------------------------------------------------------------------ */

int program_find(const char *wanted, const char *name, char *out, size_t size, struct err *e)
{
	static const char *const places[] = { "", "../libexec/nodeagent/", "../libexec/" };
	char self[384];
	ssize_t n;
	char *slash;

	if (wanted != NULL) {
		snprintf(out, size, "%s", wanted);
		return 0;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return err_set(e, errno, "/proc/self/exe: %s", strerror(errno));
	self[n] = 0;
	slash = strrchr(self, '/');
	slash[1] = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(out, size, "%s%s%s", self, places[i], name);
		if (access(out, X_OK) == 0)
			return 0;
	}
	return err_set(e, ENOENT, "%s is neither beside this program (%s) nor in ../libexec/nodeagent: make install puts it there", name, self);
}

int shims_start(struct agent_io *io, struct err *e)
{
	char path[512];
	int rc = program_find(io->opts->shim_path, "nodeagent-shim", io->shim_path,
			      sizeof(io->shim_path), e);

	/* With a launcher the shims are its children. */
	if (io->opts->single_user)
		leaf_find();
	if (io->opts->single_user)
		chores_start();
	if (io->opts->single_user && prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
		log_warn("cannot become a child subreaper: %s", strerror(errno));
	if (rc != 0)
		return rc;
	snprintf(path, sizeof(path), "%s/shims", io->opts->run_dir);
	rc = dir_make_all(path, 0700, e);
	if (rc != 0)
		return rc;
	io->shims_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (io->shims_dir < 0)
		return err_set(e, errno, "%s: %s", path, strerror(errno));
	/* a socket's name has 107 bytes; a long run directory is named by descriptor */
	if (strlen(path) <= 74)
		snprintf(io->shims_path, sizeof(io->shims_path), "%s", path);
	else
		snprintf(io->shims_path, sizeof(io->shims_path), "/proc/self/fd/%d", io->shims_dir);
	return 0;
}
