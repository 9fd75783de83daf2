/* adopt.c - what an earlier life of this agent left: found at start, before anything else
 *
 * RUN/shims/JOB.ATTEMPT.held names a job that this node holds. Its shim is
 * alive when its socket answers; else it may have left its final report in the
 * spool; else it was killed and what it left is swept (the core decides).
 * Records of another boot are of no use: all their processes are gone. So are
 * all of them where RUN/boot, in which each agent notes the boot it runs
 * in before it makes any, names another one.
 *
 * A record of this boot that cannot be read proves nothing. Where its latch was
 * taken ranks were started, and they count as alive until the host is rebooted or an
 * administrator takes the node out.
 *
 * Blocks: a few small files, before the loop runs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/spool.h"
#include "io/files.h"
#include "io/ports.h"
#include "io/shims.h"

static bool other_boot_noted; /* all that is here was made in another boot */

/* What has no descriptor left, or a disk that does not answer, cannot tell who lives here, and must not guess. */
static void give_up_without_resources(const char *what)
{
	if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != EIO)
		return;
	log_error("cannot read %s: %s; no job is touched, the agent ends to be started again (raise "
		  "LimitNOFILE, or nofile of its user)", what, strerror(errno));
	exit(1);
}

static char *read_small(int dir, const char *name, size_t max, size_t *ret_n)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	ssize_t n = -1;
	char *p = NULL;

	if (fd < 0) {
		give_up_without_resources(name);
		return NULL;
	}
	errno = 0; /* a file that is no file of ours leaves it so */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size <= max &&
	    (p = malloc((size_t)st.st_size + 1)) != NULL)
		n = read(fd, p, (size_t)st.st_size);
	if (n < 0)
		give_up_without_resources(name);
	close(fd);
	if (n < 0) {
		free(p);
		return NULL;
	}
	p[n] = 0;
	*ret_n = (size_t)n;
	return p;
}

/* "JOB.ATTEMPT.suffix" */
static bool parse_name(const char *name, uint64_t *job, uint32_t *attempt, const char **suffix)
{
	char *end;
	unsigned long a;

	errno = 0;
	*job = strtoull(name, &end, 10);
	if (errno != 0 || end == name || *end != '.' || name[0] == '-')
		return false;
	name = end + 1;
	a = strtoul(name, &end, 10);
	if (errno != 0 || end == name || *end != '.' || a > 65535)
		return false;
	*attempt = (uint32_t)a;
	*suffix = end + 1;
	return true;
}

/* The shim's final report. The file is the user's: decoded like any stranger's message. */
static bool read_status(struct agent_io *io, uint64_t job, uint32_t attempt, struct msg *ret)
{
	char name[SPOOL_NAME_MAX], path[600];
	size_t n;
	char *p = NULL;
	int dir, rc = -ENOENT;

	spool_name(name, job, attempt);
	snprintf(path, sizeof(path), "%s/%s", io->opts->spool_dir, name);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0) {
		give_up_without_resources(path);
	} else {
		p = read_small(dir, "status", FRAME_MAX, &n);
		close(dir);
	}
	if (p != NULL)
		rc = msg_decode(p, n, ret, NULL);
	free(p);
	if (rc != 0)
		return false;
	if (ret->type == MSG_shim_ended)
		return true;
	msg_finish(ret);
	return false;
}

static void take_ports(struct agent_io *io, const struct rec_row_held *h)
{
	const char *at = h->ports;
	char name[48], *old = NULL, *end;
	size_t n;

	if (at == NULL) { /* held by an agent that kept them in a file of their own */
		shims_file(h->job, h->attempt, "ports", name);
		at = old = read_small(io->shims_dir, name, 65536, &n);
	}
	for (; at != NULL; at = end) {
		unsigned long port = strtoul(at, &end, 10);

		if (end == at)
			break;
		if (port > 0 && port < 65536)
			ports_retake(io->ports, h->job, h->attempt, (uint32_t)port);
	}
	free(old);
}

/* The spool's expected owner and ranks come from the prepare message in the record. */
static bool note_owner(struct agent_io *io, const struct rec_row_held *h)
{
	struct msg p;
	struct job_io *j;

	if (msg_decode((const char *)h->prepare.p, h->prepare.n, &p, NULL) != 0)
		return false;
	if (p.type == MSG_prepare) {
		j = job_io_get(io, h->job, h->attempt);
		j->uid = p.u.prepare.uid;
		j->uid_known = true;
		j->rank_base = p.u.prepare.rank_base;
		j->nprocs = p.u.prepare.nprocs;
		if (h->cgroup != NULL)
			snprintf(j->leaf, sizeof(j->leaf), "%s", h->cgroup);
	}
	msg_finish(&p);
	return true;
}

static void adopt(struct agent_io *io, const struct rec_row_held *h)
{
	struct agent_event ev = { .type = AEV_ADOPT, .job = h->job, .attempt = h->attempt, .held = h };
	struct msg ended;
	bool has_ended = false;
	char name[48];
	struct stat st;

	shims_file(h->job, h->attempt, "latch", name);
	ev.latched = fstatat(io->shims_dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	ev.alive = shims_socket_ask(io, h->job, h->attempt) != SHIM_GONE;
	if (!ev.alive)
		has_ended = read_status(io, h->job, h->attempt, &ended);
	if (has_ended)
		ev.ended = &ended.u.shim_ended;
	take_ports(io, h);
	log_job(LOG_LVL_INFO, h->job, h->attempt, "held here: %s",
		ev.alive ? "its shim is alive" : has_ended ? "it has ended" : "its shim is dead");
	agent_feed(io, &ev);
	if (ev.alive)
		conns_dial_shim(io, h->job, h->attempt, 0, h->shim_pid);
	if (has_ended)
		msg_finish(&ended);
}

/* Nothing was started before the latch was taken. */
static bool was_started(struct agent_io *io, uint64_t job, uint32_t attempt)
{
	char name[48];
	struct stat st;

	shims_file(job, attempt, "latch", name);
	return fstatat(io->shims_dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

static void unreadable(struct agent_io *io, const char *name, uint64_t job, uint32_t attempt)
{
	struct agent_event ev = { .type = AEV_ADOPT, .job = job, .attempt = attempt };

	if (was_started(io, job, attempt)) {
		log_job(LOG_LVL_ERROR, job, attempt, "was started here, and its record %s/shims/%s cannot be read: it counts "
			"as alive until this host is rebooted, or the node is taken out (nodectl node-remove --force)",
			io->opts->run_dir, name);
		agent_feed(io, &ev);
	} else if (shims_socket_ask(io, job, attempt) != SHIM_GONE) {
		log_job(LOG_LVL_ERROR, job, attempt, "has a shim here, but its record %s/shims/%s cannot be read; "
			"nothing of it was started, and it leaves by itself", io->opts->run_dir, name);
	} else {
		log_job(LOG_LVL_INFO, job, attempt, "its record is removed: not readable, and nothing was started");
		shims_remove_files(io, job, attempt);
	}
}

static void other_boot(struct agent_io *io, uint64_t job, uint32_t attempt)
{
	log_job(LOG_LVL_INFO, job, attempt, "its record is removed: of another boot");
	shims_remove_files(io, job, attempt);
}

static void adopt_record(struct agent_io *io, const char *name, uint64_t job, uint32_t attempt)
{
	size_t n = 0;
	char *p = other_boot_noted ? NULL : read_small(io->shims_dir, name, FRAME_MAX, &n);
	struct msg m;
	bool decoded = p != NULL && msg_decode(p, n, &m, NULL) == 0;
	bool good = decoded && m.type == MSG_row_held && m.u.row_held.job == job && m.u.row_held.attempt == attempt;

	free(p);
	if (other_boot_noted || (good && strcmp(m.u.row_held.boot_id, io->boot_id) != 0))
		other_boot(io, job, attempt);
	else if (good && note_owner(io, &m.u.row_held))
		adopt(io, &m.u.row_held);
	else
		unreadable(io, name, job, attempt);
	if (decoded)
		msg_finish(&m);
}

/* Files whose held record is gone: a clean-up was cut short. */
static void remove_orphan(struct agent_io *io, const char *name, uint64_t job, uint32_t attempt)
{
	char held[48];
	struct stat st;

	shims_file(job, attempt, "held", held);
	if (fstatat(io->shims_dir, held, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
		unlinkat(io->shims_dir, name, 0);
}

/* Whatever hinders us: who cannot list what is here would register as holding nothing,
 * and living jobs would be ended for it. */
static void give_up_unread(const struct agent_io *io)
{
	log_error("cannot read %s/shims: %s; no job is touched, the agent ends to be started again", io->opts->run_dir,
		  strerror(errno));
	exit(1);
}

static void each_name(struct agent_io *io,
		      void (*f)(struct agent_io *, const char *, uint64_t, uint32_t), bool held)
{
	int fd = openat(io->shims_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (d == NULL)
		give_up_unread(io);
	while (errno = 0, (de = readdir(d)) != NULL) {
		uint64_t job;
		uint32_t attempt;
		const char *suffix;

		if (parse_name(de->d_name, &job, &attempt, &suffix) &&
		    (strcmp(suffix, "held") == 0) == held)
			f(io, de->d_name, job, attempt);
	}
	if (errno != 0)
		give_up_unread(io);
	closedir(d);
}

/* Is the note here of this boot? Without a note nothing is concluded. */
static bool look_at_boot(struct agent_io *io)
{
	int run = open(io->opts->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t n = 0;
	char *p = run >= 0 ? read_small(run, "boot", 64, &n) : NULL;
	bool same = p != NULL && strcmp(p, io->boot_id) == 0;

	other_boot_noted = p != NULL && n == strlen(io->boot_id) && !same;
	free(p);
	if (run >= 0)
		close(run);
	return same;
}

static void note_boot(struct agent_io *io)
{
	char path[600];
	struct err e;

	snprintf(path, sizeof(path), "%s/boot", io->opts->run_dir);
	if (file_save(path, io->boot_id, strlen(io->boot_id), 0600, &e) == 0)
		return;
	log_warn("%s; a record that cannot be read will count as alive over a reboot", e.text);
	if (unlink(path) != 0 && errno != ENOENT)
		give_up_unread(io);
}

/* Another boot's records go before its note does: an end in between must not leave them as this one's. */
void adopt_all(struct agent_io *io)
{
	bool same = look_at_boot(io);

	if (!same && !other_boot_noted)
		note_boot(io);
	each_name(io, adopt_record, true);
	each_name(io, remove_orphan, false);
	if (other_boot_noted)
		note_boot(io);
}
