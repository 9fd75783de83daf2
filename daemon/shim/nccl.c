/* nccl.c - see nccl.h */
#include "shim/nccl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/nccl_log.h"
#include "shim/env.h"

#define FAR_FD 4021
#define PIPE_BYTES (1 << 20) /* what NCCL writes at its begin fits, should we be stopped */
#define READ_MAX (256u << 10)
#define LINE_BYTES 4096
#define TELL_MS 200 /* its begin is some hundred lines: told once */
#define AGAIN_MS 1000
#define PROCS_MAX 128 /* counted one by one; more are not */

struct nccl {
	int fds[2];
	char path[64];
	char line[LINE_BYTES]; /* the begin of one that is not complete */
	size_t len;
	bool skipping; /* the rest of one that was too long */
	struct nccl_log log;
	uint32_t pids[PROCS_MAX];
	uint32_t n_pids;
	uint32_t trouble_pid;
	int64_t trouble_wall_ms, net_wall_ms;
	mono_t due;
	bool said, told; /* anything at all */
	const char *unread; /* why nothing will be */
	bool in_env[3], ours[3]; /* of 'watched' */
	char conf[4096]; /* /etc/nccl.conf */
	bool container, no_dev;
};

static const char *const watched[] = { "NCCL_IB_DISABLE", "NCCL_NET", "NCCL_IB_HCA" };

/* In another pid namespace our number may be another process's, whose descriptor of this number would be opened, and cut:
 * nobody there has one that high. */
static void far_away(struct nccl *n)
{
	int fd = fcntl(n->fds[1], F_DUPFD_CLOEXEC, FAR_FD);

	if (fd < 0) /* the limit is below */
		return;
	close(n->fds[1]);
	n->fds[1] = fd;
}

struct nccl *nccl_create(void)
{
	struct nccl *n = calloc(1, sizeof *n);

	if (!n)
		return NULL;
	if (pipe2(n->fds, O_CLOEXEC) < 0) {
		free(n);
		return NULL;
	}
	far_away(n);
	fcntl(n->fds[0], F_SETFL, O_NONBLOCK); /* the writers' end, opened anew, has flags of its own */
	fcntl(n->fds[0], F_SETPIPE_SZ, PIPE_BYTES);
	snprintf(n->path, sizeof n->path, "/proc/%d/fd/%d", (int)getpid(), n->fds[1]);
	n->due = MONO_NEVER;
	return n;
}

void nccl_destroy(struct nccl *n)
{
	if (!n)
		return;
	close(n->fds[0]);
	close(n->fds[1]);
	free(n);
}

int nccl_fd(const struct nccl *n)
{
	return n->fds[0];
}

const char *nccl_path(const struct nccl *n)
{
	return n->path;
}

/* ---- where a variable comes from --------------------------------------------------- */

/* Local, small and root's; ~/.nccl.conf may lie on a network file system that hangs, so it is known by exclusion. */
static void read_conf(struct nccl *n)
{
	int fd = open("/etc/nccl.conf", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t r = fd >= 0 ? read(fd, n->conf, sizeof n->conf - 1) : 0;

	n->conf[r > 0 ? r : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

static bool conf_sets(const char *conf, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = conf; p; p = strchr(p, '\n')) {
		p += strspn(p, " \t\r\n");
		if (strncmp(p, name, len) == 0 && (p[len] == '=' || p[len] == ' '))
			return true;
	}
	return false;
}

void nccl_env(struct nccl *n, const char *const *env, const char *const *ranks)
{
	for (int i = 0; i < 3; i++) {
		n->in_env[i] = env_get(env, watched[i]) != NULL;
		n->ours[i] = !n->in_env[i] && env_get(ranks, watched[i]) != NULL;
	}
	read_conf(n);
}

void nccl_unread(struct nccl *n, const char *why, mono_t now)
{
	n->unread = why;
	n->due = now;
}

/* The first of these that NCCL has read. */
static const char *set_by(const struct nccl *n)
{
	const struct nccl_log *l = &n->log;
	int i = l->ib_disabled ? 0 : l->net_asked ? 1 : l->ib_hca[0] ? 2 : -1;

	if (i < 0)
		return NULL;
	return n->in_env[i]		      ? "the job's environment" :
	       n->ours[i]		      ? "nodeagent (--net)" :
	       conf_sets(n->conf, watched[i]) ? "/etc/nccl.conf" :
						"~/.nccl.conf, or the program itself";
}

/* ---- who writes ---------------------------------------------------------------------- */

/* Has it a file system of its own, and is InfiniBand there? A process that is not to be seen tells nothing. */
static void look_at(struct nccl *n, uint32_t pid)
{
	char path[80], own[64], its[64];
	ssize_t a, b;

	snprintf(path, sizeof path, "/proc/%u/ns/mnt", pid);
	a = readlink("/proc/self/ns/mnt", own, sizeof own);
	b = readlink(path, its, sizeof its);
	if (a <= 0 || b <= 0 || (a == b && memcmp(own, its, (size_t)a) == 0))
		return;
	n->container = true;
	snprintf(path, sizeof path, "/proc/%u/root/dev/infiniband", pid);
	if (access("/dev/infiniband", F_OK) == 0 && access(path, F_OK) < 0 && errno == ENOENT)
		n->no_dev = true;
}

static void count_pid(struct nccl *n, uint32_t pid)
{
	for (uint32_t i = 0; i < n->n_pids; i++)
		if (n->pids[i] == pid)
			return;
	if (!pid || n->n_pids == PROCS_MAX)
		return;
	n->pids[n->n_pids++] = pid;
	look_at(n, pid);
}

/* ---- lines ----------------------------------------------------------------------------- */

static void on_line(struct nccl *n, const char *text, size_t len, mono_t now, int64_t wall_ms)
{
	enum nccl_trouble before = n->log.trouble;
	bool had_net = n->log.net[0] != '\0';
	uint32_t pid = nccl_log_pid(text, len);

	count_pid(n, pid);
	if (!nccl_log_line(&n->log, text, len))
		return;
	n->said = true;
	if (!had_net && n->log.net[0])
		n->net_wall_ms = wall_ms;
	if (n->log.trouble != before) {
		n->trouble_pid = pid;
		n->trouble_wall_ms = wall_ms;
	}
	if (mono_is_never(n->due))
		n->due = mono_add_ms(now, n->told ? AGAIN_MS : TELL_MS);
}

static void on_bytes(struct nccl *n, const char *p, size_t len, mono_t now, int64_t wall_ms)
{
	while (len) {
		const char *nl = memchr(p, '\n', len);
		size_t k = nl ? (size_t)(nl - p) : len, fits = sizeof n->line - n->len;

		if (!n->skipping) {
			memcpy(n->line + n->len, p, k < fits ? k : fits);
			n->len += k < fits ? k : fits;
		}
		n->skipping = n->skipping || k > fits;
		if (nl) {
			on_line(n, n->line, n->len, now, wall_ms);
			n->len = 0;
			n->skipping = false;
			k++;
		}
		p += k;
		len -= k;
	}
}

void nccl_read(struct nccl *n, mono_t now, int64_t wall_ms)
{
	char bytes[16384];
	size_t all = 0;
	ssize_t r;

	while (all < READ_MAX && (r = read(n->fds[0], bytes, sizeof bytes)) > 0) {
		on_bytes(n, bytes, (size_t)r, now, wall_ms);
		all += (size_t)r;
	}
}

mono_t nccl_due(const struct nccl *n)
{
	return n->due;
}

uint32_t nccl_trouble_pid(const struct nccl *n)
{
	return n->log.trouble != NCCL_FINE ? n->trouble_pid : 0;
}

/* ---- what is told ------------------------------------------------------------------------ */

static const char *text(const char *s)
{
	return s[0] ? s : NULL;
}

static void fill_trouble(const struct nccl *n, struct rec_nccl_state *r)
{
	const struct nccl_log *l = &n->log;

	if (l->trouble == NCCL_FINE)
		return;
	r->trouble = nccl_trouble_name(l->trouble);
	if (l->number > 0 && l->number <= 65535)
		MSG_SET(r, nccl_state, number, (uint32_t)l->number);
	r->dev = text(l->dev);
	r->peer = text(l->peer);
	r->text = text(l->text);
	MSG_SET(r, nccl_state, trouble_wall_ms, n->trouble_wall_ms);
}

static void fill_limit(struct rec_nccl_state *r)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_MEMLOCK, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY)
		MSG_SET(r, nccl_state, memlock, lim.rlim_cur);
}

/* Strings are of n: borrowed until it reads again. */
bool nccl_tell(struct nccl *n, struct arena *a, struct rec_nccl_state *r)
{
	const struct nccl_log *l = &n->log;

	n->due = MONO_NEVER;
	n->told = true;
	if (n->unread) {
		*r = (struct rec_nccl_state){ .unread = n->unread };
		return true;
	}
	if (!n->said)
		return false;
	*r = (struct rec_nccl_state){ .version = text(l->version), .net = text(l->net), .bootstrap = text(l->bootstrap),
				      .socket_if = text(l->socket_if), .roce = l->roce, .no_ib_device = l->no_ib_device,
				      .ib_disabled = l->ib_disabled, .net_asked = text(l->net_wanted),
				      .ib_hca = text(l->ib_hca), .ib_why = text(l->ib_why), .set_by = set_by(n),
				      .container = n->container, .no_dev = n->no_dev };
	r->hcas = arena_alloc(a, (l->n_hcas + 1) * sizeof *r->hcas);
	if (!r->hcas)
		return false;
	for (; r->n_hcas < l->n_hcas; r->n_hcas++)
		r->hcas[r->n_hcas] = l->hcas[r->n_hcas];
	MSG_SET(r, nccl_state, procs, n->n_pids);
	MSG_SET(r, nccl_state, p2p, l->p2p);
	MSG_SET(r, nccl_state, shm, l->shm);
	MSG_SET(r, nccl_state, sends_net, l->sends_net);
	MSG_SET(r, nccl_state, gdr, l->gdr);
	MSG_SET(r, nccl_state, inits, l->inits);
	MSG_SET(r, nccl_state, inits_done, l->inits_done);
	if (n->net_wall_ms)
		MSG_SET(r, nccl_state, net_wall_ms, n->net_wall_ms);
	fill_trouble(n, r);
	fill_limit(r);
	return true;
}
