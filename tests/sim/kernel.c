/* kernel.c - see kernel.h */
#include "tests/sim/kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/proc_sys.h"
#include "tests/sim/sim.h"

#define PROCS_MAX 256
#define FIRST_PID 300
#define FEW_PIDS 24
#define PIDS 100000
#define STRANGER_LIVES (3 * SECOND)

struct kproc {
	uint32_t pid, parent, group;
	uint64_t start; /* in its boot; no two are equal */
	bool zombie;
	struct shim_actor *shim; /* NULL: a stranger */
	struct worker *worker; /* NULL: the shim itself */
	int64_t since;
};

static struct {
	struct sim *s;
	struct kproc v[NODES_MAX][PROCS_MAX];
	size_t n[NODES_MAX];
	uint32_t next[NODES_MAX];
	uint64_t ticks;
	uint32_t host, self;
	int64_t paused_ms;
} K;

struct kernel_stats kernel_stats;

static struct kproc *find(uint32_t host, uint32_t pid)
{
	for (size_t i = 0; i < K.n[host]; i++)
		if (K.v[host][i].pid == pid)
			return &K.v[host][i];
	return NULL;
}

static struct kproc *find_start(uint32_t host, uint64_t start)
{
	for (size_t i = 0; i < K.n[host]; i++)
		if (K.v[host][i].start == start)
			return &K.v[host][i];
	return NULL;
}

static void drop(uint32_t host, struct kproc *p)
{
	*p = K.v[host][--K.n[host]];
}

static void old_strangers_go(struct sim *s, uint32_t host)
{
	for (size_t i = 0; i < K.n[host];) {
		struct kproc *p = &K.v[host][i];

		if (p->shim == NULL && s->w.now - p->since > STRANGER_LIVES)
			drop(host, p);
		else
			i++;
	}
}

static struct kproc *add(struct sim *s, uint32_t host, uint32_t pid)
{
	struct kproc *p;

	if (K.n[host] == PROCS_MAX) {
		sim_fail(s, "a simulated host has room for its processes");
		return NULL;
	}
	p = &K.v[host][K.n[host]++];
	*p = (struct kproc){ .pid = pid, .parent = 1, .group = pid, .start = ++K.ticks, .since = s->w.now };
	return p;
}

void kernel_begin(struct sim *s)
{
	K.s = s;
	memset(K.n, 0, sizeof(K.n));
	K.ticks = 0;
	for (int i = 0; i < NODES_MAX; i++)
		K.next[i] = FIRST_PID;
}

void kernel_reboot(struct sim *s, uint32_t host)
{
	(void)s;
	K.n[host] = 0;
	K.next[host] = FIRST_PID;
}

/* Readings of GPUs name processes by pid, long after they have gone. */
static uint32_t new_pid(struct sim *s, uint32_t host)
{
	uint32_t span = s->gpus ? PIDS : FEW_PIDS;

	for (uint32_t i = 0;; i++) {
		uint32_t pid = FIRST_PID + (K.next[host]++ - FIRST_PID) % (i < span ? span : PIDS);

		if (find(host, pid) == NULL) {
			kernel_stats.reused += K.next[host] - FIRST_PID > span;
			return pid;
		}
	}
}

uint32_t kernel_fork(struct sim *s, struct shim_actor *h, struct worker *w, uint32_t parent)
{
	struct kproc *p, *of = find(h->host, parent);
	bool in_group = of != NULL && of->worker != NULL && rng_chance(&s->w.rng, 700);
	uint32_t group = in_group ? of->group : 0;

	old_strangers_go(s, h->host);
	p = add(s, h->host, new_pid(s, h->host));
	if (p == NULL)
		return 0;
	kernel_stats.forks++;
	p->shim = h;
	p->worker = w;
	p->parent = parent;
	p->group = in_group ? group : p->pid;
	return p->pid;
}

/* A pid is free: somebody else may get it. */
static void freed(struct sim *s, uint32_t host, uint32_t pid, uint32_t chance)
{
	if (!rng_chance(&s->w.rng, chance) || K.n[host] > PROCS_MAX / 2)
		return;
	add(s, host, pid);
}

static void orphan_children(struct sim *s, uint32_t host, uint32_t pid, const struct shim_actor *h)
{
	bool shim_there = h != NULL && h->pid != pid && find(host, h->pid) != NULL;

	for (size_t i = 0; i < K.n[host]; i++) {
		struct kproc *p = &K.v[host][i];

		if (p->parent == pid)
			p->parent = shim_there ? h->pid : 1;
	}
	(void)s;
}

/* Zombies of init are gone at once. */
static void init_reaps(struct sim *s, uint32_t host)
{
	for (size_t i = 0; i < K.n[host];) {
		struct kproc *p = &K.v[host][i];
		uint32_t pid = p->pid;

		if (!p->zombie || p->parent != 1) {
			i++;
			continue;
		}
		drop(host, p);
		freed(s, host, pid, 400);
	}
}

void kernel_exit(struct sim *s, uint32_t host, uint32_t pid)
{
	struct kproc *p = find(host, pid);
	const struct kproc *parent;
	bool by_rank;

	if (p == NULL || p->shim == NULL || p->zombie)
		return;
	parent = find(host, p->parent);
	by_rank = parent != NULL && parent->worker != NULL; /* a rank reaps its children */
	p->zombie = true;
	if (by_rank)
		p->parent = 1;
	orphan_children(s, host, pid, p->shim);
	init_reaps(s, host);
}

void kernel_reap(struct sim *s, uint32_t host, uint32_t pid)
{
	struct kproc *p = find(host, pid);

	if (p == NULL || !p->zombie)
		return;
	drop(host, p);
	freed(s, host, pid, 400);
}

uint64_t kernel_start_time(struct sim *s, uint32_t host, uint32_t pid)
{
	const struct kproc *p = find(host, pid);

	(void)s;
	return p != NULL ? p->start : 0;
}

void kernel_as(struct sim *s, uint32_t host, uint32_t pid)
{
	K.s = s;
	K.host = host;
	K.self = pid;
	K.paused_ms = 0;
}

/* ---- meanwhile ---------------------------------------------------------------------- */

/* Whoever nobody waits for may go at any time, and a stranger has his pid. */
static void meanwhile(void)
{
	struct sim *s = K.s;
	uint32_t host = K.host;

	if (s == NULL || s->gpus || !rng_chance(&s->w.rng, 20))
		return;
	for (size_t i = 0; i < K.n[host]; i++) {
		struct kproc *p = &K.v[host][i];
		const struct kproc *parent = find(host, p->parent);
		uint32_t pid = p->pid;

		if (p->worker == NULL || p->zombie || !simshim_may_go(s, p->shim, p->worker) ||
		    !(p->parent == 1 || (parent != NULL && parent->worker != NULL)) ||
		    !rng_chance(&s->w.rng, 500))
			continue;
		LINE(&s->w, "kernel", "pid %u goes, and is somebody else", pid);
		kernel_stats.changed_hands++;
		simshim_goes(s, p->shim, p->worker);
		p = find(host, pid);
		if (p != NULL && p->shim != NULL)
			drop(host, p);
		if (find(host, pid) == NULL)
			freed(s, host, pid, 1000);
		return;
	}
}

/* ---- system calls -------------------------------------------------------------------- */

pid_t proc_sys_self(void)
{
	return (pid_t)K.self;
}

pid_t proc_sys_group(pid_t pid)
{
	const struct kproc *p = find(K.host, (uint32_t)pid);

	return p != NULL ? (pid_t)p->group : -1;
}

/* Of proc(5), the fields that proc.c looks at. */
static ssize_t stat_line(const struct kproc *p, char *out, size_t size)
{
	return snprintf(out, size, "%u (%s) %c %u %u %u 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %" PRIu64 " 0\n", p->pid,
			p->shim == NULL	    ? "stranger"
			: p->worker == NULL ? "nodeagent-shim"
					    : "python",
			p->zombie ? 'Z' : 'S', p->parent, p->group, p->group, p->start);
}

ssize_t proc_sys_file(const char *path, char *out, size_t size)
{
	const struct kproc *p;
	char name[16];
	unsigned pid;

	meanwhile();
	if (sscanf(path, "/proc/%u/%15s", &pid, name) != 2)
		return -ENOENT;
	p = find(K.host, pid);
	if (p == NULL || strcmp(name, "stat") != 0)
		return -ENOENT;
	return stat_line(p, out, size);
}

int proc_sys_environ(pid_t pid, struct buf *b)
{
	const struct kproc *p;

	meanwhile();
	p = find(K.host, (uint32_t)pid);
	buf_reset(b);
	if (p == NULL)
		return -ENOENT;
	buf_add(b, "HOME=/", 7);
	if (p->shim != NULL) {
		buf_adds(b, "NODEAGENT_COOKIE=");
		buf_add(b, p->shim->cookie, strlen(p->shim->cookie) + 1);
	}
	return 0;
}

struct list_of_pids {
	size_t n, at;
	uint32_t v[PROCS_MAX];
};

void *proc_sys_list(void)
{
	struct list_of_pids *l = malloc(sizeof(*l));

	if (l == NULL)
		return NULL;
	l->at = 0;
	l->n = K.n[K.host];
	for (size_t i = 0; i < l->n; i++)
		l->v[i] = K.v[K.host][i].pid;
	return l;
}

pid_t proc_sys_next(void *list)
{
	struct list_of_pids *l = list;

	return l->at < l->n ? (pid_t)l->v[l->at++] : 0;
}

void proc_sys_list_close(void *list)
{
	free(list);
}

/* The descriptor is the start time: it stays with that process. */
int proc_sys_pidfd(pid_t pid)
{
	const struct kproc *p;

	meanwhile();
	p = find(K.host, (uint32_t)pid);
	return p != NULL ? (int)p->start + 100 : -ESRCH;
}

static void deliver(struct kproc *p, int sig)
{
	struct sim *s = K.s;

	kernel_stats.signals++;
	if (p->shim == NULL)
		sim_fail(s, "23: no signal reaches a process that is not the recorded one (signal %d to a stranger "
			    "with pid %u on %s)", sig, p->pid, s->agents[K.host].name);
	else if (p->zombie)
		return;
	else if (p->worker == NULL)
		simshim_hit(s, p->shim, sig);
	else
		simshim_signal(s, p->shim, p->worker, sig);
}

int proc_sys_pidfd_signal(int fd, int sig)
{
	struct kproc *p = find_start(K.host, (uint64_t)fd - 100);

	if (p == NULL)
		return -ESRCH;
	deliver(p, sig);
	return 0;
}

void proc_sys_pidfd_close(int fd)
{
	(void)fd;
}

int proc_sys_kill(pid_t pid, int sig)
{
	uint32_t group[PROCS_MAX];
	size_t n = 0;

	meanwhile();
	if (pid > 0) {
		struct kproc *p = find(K.host, (uint32_t)pid);

		if (p == NULL)
			return -ESRCH;
		deliver(p, sig);
		return 0;
	}
	for (size_t i = 0; i < K.n[K.host]; i++)
		if (K.v[K.host][i].group == (uint32_t)-pid)
			group[n++] = K.v[K.host][i].pid;
	for (size_t i = 0; i < n; i++) {
		struct kproc *p = find(K.host, group[i]);

		if (p != NULL)
			deliver(p, sig);
	}
	return n > 0 ? 0 : -ESRCH;
}

int64_t proc_sys_ms(void)
{
	return (K.s != NULL ? K.s->w.now / MS : 0) + K.paused_ms;
}

void proc_sys_pause(long ns)
{
	K.paused_ms += ns / 1000000 > 0 ? ns / 1000000 : 1;
}
