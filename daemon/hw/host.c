/* host.c - clock, memory and CPUs of the host */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include "hw/mounts.h"
#include "hw/port_text.h"
#include "hw/sm.h"
#include "hw/sysfs.h"

#define PERIOD_MS 1500

struct host_source {
	const char *sysfs, *proc;
	struct mounts *mounts; /* NULL: no memory */
	mono_t daemons_due;
	struct hw_u32 fabricmanager; /* as of the last look */
	sysfs_name fabricmanager_pid;
	const char *sm; /* as sysfs, NULL unless it was given */
	bool no_limits; /* of jobs are not known here */
};

static void *host_open(const struct hw_options *o)
{
	struct host_source *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->sysfs = o->sysfs ? o->sysfs : "/sys";
	s->sm = o->sysfs;
	s->no_limits = o->others_start_jobs;
	s->proc = o->proc ? o->proc : "/proc";
	s->mounts = mounts_new();
	return s;
}

static void host_close(void *source)
{
	struct host_source *s = source;

	mounts_free(s->mounts);
	free(s);
}

/* Asks the kernel without changing anything, which needs no privilege. A clock
 * that nobody disciplines has STA_UNSYNC set and the state TIME_ERROR (adjtimex(2)). */
static void read_clock(struct hw_host *h)
{
	struct timex t = { .modes = 0 };
	int state = adjtimex(&t);

	if (state < 0)
		return; /* some sandboxes forbid it */
	h->clock_known = true;
	h->clock_synced = state != TIME_ERROR && !(t.status & STA_UNSYNC);
	if (h->clock_synced && t.esterror >= 0)
		h->clock_error_us = hw_u64((uint64_t)t.esterror);
}

/* "MemTotal:       16318480 kB" */
static struct hw_u64 field_kb(const char *text, const char *name)
{
	const char *p = strstr(text, name);
	unsigned long long kb;

	if (!p || sscanf(p + strlen(name), " %llu kB", &kb) != 1 || kb > UINT64_MAX / 1024)
		return (struct hw_u64){ 0 };
	return hw_u64(kb * 1024);
}

/* "HugePages_Total:       0" */
static struct hw_u64 field(const char *text, const char *name)
{
	const char *p = strstr(text, name);
	unsigned long long v;

	return p && sscanf(p + strlen(name), " %llu", &v) == 1 ? hw_u64(v) : (struct hw_u64){ 0 };
}

static void read_memory(const char *proc, struct hw_host *h)
{
	char path[PATH_MAX], text[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/meminfo", proc);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof text - 1); /* the kernel gives all at once */
	close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	h->mem_total = field_kb(text, "MemTotal:");
	h->mem_available = field_kb(text, "MemAvailable:");
	h->hugepages = field(text, "HugePages_Total:");
	h->hugepages_free = field(text, "HugePages_Free:");
	h->hugepage_size = field_kb(text, "Hugepagesize:");
}

static bool is_node(const char *name)
{
	uint64_t v;

	return strncmp(name, "node", 4) == 0 && text_number(name + 4, 65535, &v);
}

static void count_nodes(const char *root, struct hw_host *h)
{
	sysfs_name names[HW_NUMA_MAX];
	struct sysfs fs;
	int dir, n;

	if (sysfs_open(&fs, root) < 0)
		return;
	dir = sysfs_dir(&fs, fs.root, "devices/system/node");
	n = sysfs_list(dir, ".", is_node, names, HW_NUMA_MAX);
	if (n > 0)
		h->numa_nodes = hw_u32((uint32_t)n);
	if (dir >= 0)
		close(dir);
	sysfs_close(&fs);
}

/* ---- limits of jobs -------------------------------------------------------- */

/* The probe lowers its own; whoever started it (the agent) hands its to the jobs. */
static struct hw_u64 limit_of(int what, bool hard)
{
	struct rlimit r;
	rlim_t v;

	if (prlimit(getppid(), (__rlimit_resource_t)what, NULL, &r) < 0)
		return (struct hw_u64){ 0 };
	v = hard ? r.rlim_max : r.rlim_cur;
	return hw_u64(v == RLIM_INFINITY ? UINT64_MAX : (uint64_t)v);
}

static void read_limits(struct hw_host *h)
{
	h->memlock = limit_of(RLIMIT_MEMLOCK, false);
	h->nofile = limit_of(RLIMIT_NOFILE, true);
	h->nproc = limit_of(RLIMIT_NPROC, false);
}

/* ---- what the NVIDIA driver leans on ---------------------------------------- */

#define DAEMONS_MS 30000

static bool there(const char *root, const char *name)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", root, name);
	return stat(path, &st) == 0;
}

static bool is_pid(const char *name)
{
	uint64_t v;

	return name[0] != '0' && text_number(name, 4194304, &v);
}

/* a comm has 15 bytes: nv-fabricmanage(r) */
static bool is_fabricmanager(int proc, const char *pid)
{
	char path[16 + sizeof(sysfs_name)], comm[SYSFS_TEXT];

	snprintf(path, sizeof path, "%.64s/comm", pid);
	return sysfs_read(proc, path, comm, sizeof comm) > 0 && strncmp(comm, "nv-fabricmanage", 15) == 0;
}

/* A look through all processes, every 30 s and only where there are NVSwitches. */
static struct hw_u32 find_fabricmanager(const char *proc, sysfs_name ret_pid)
{
	static sysfs_name pids[4096]; /* the source has one thread */
	int fd = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC), n;
	bool found = false;

	if (fd < 0)
		return (struct hw_u32){ 0 };
	n = sysfs_list(fd, ".", is_pid, pids, sizeof pids / sizeof pids[0]);
	for (int i = 0; i < n && !found; i++) {
		found = is_fabricmanager(fd, pids[i]);
		if (found)
			memcpy(ret_pid, pids[i], sizeof(sysfs_name));
	}
	close(fd);
	if (!found && n == (int)(sizeof pids / sizeof pids[0]))
		return (struct hw_u32){ 0 }; /* there were more */
	return hw_u32(found);
}

static bool still_there(const char *proc, const char *pid)
{
	int fd = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool yes = fd >= 0 && is_fabricmanager(fd, pid);

	if (fd >= 0)
		close(fd);
	return yes;
}

static bool is_any(const char *name)
{
	return name[0] != '.';
}

/* The folder is always there when the module is loaded; each switch has one in it. */
static bool has_switches(const char *proc)
{
	char path[PATH_MAX];
	sysfs_name name;

	snprintf(path, sizeof path, "%s/driver/nvidia-nvswitch/devices", proc);
	return sysfs_list(AT_FDCWD, path, is_any, &name, 1) > 0;
}

static void read_nvidia(struct host_source *s, struct hw_host *h)
{
	char path[PATH_MAX], text[SYSFS_TEXT];

	if (!there(s->proc, "driver/nvidia/version"))
		return;
	h->peermem = hw_u32(there(s->sysfs, "module/nvidia_peermem"));
	h->nvswitch = hw_u32(has_switches(s->proc));
	snprintf(path, sizeof path, "%s/driver/nvidia/version", s->proc);
	if (sysfs_read(AT_FDCWD, path, text, sizeof text) > 0)
		h->open_modules = hw_u32(strstr(text, "Open Kernel Module") != NULL);
	if (h->nvswitch.v && s->fabricmanager.known && s->fabricmanager.v && !still_there(s->proc, s->fabricmanager_pid))
		s->daemons_due = (mono_t){ 0 }; /* it has ended: that is to be known at once */
	if (h->nvswitch.v && mono_due(s->daemons_due, hw_now())) {
		s->fabricmanager = find_fabricmanager(s->proc, s->fabricmanager_pid);
		s->daemons_due = mono_add_ms(hw_now(), DAEMONS_MS);
	}
	if (h->nvswitch.v)
		h->fabricmanager = s->fabricmanager;
}

static void read_mounts(struct host_source *s, struct arena *a, struct hw_host *h)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/self/mountinfo", s->proc);
	if (s->mounts)
		mounts_poll(s->mounts, path, a, h);
}

static void host_poll(void *source, struct hw_readings *ret)
{
	struct host_source *s = source;
	struct hw_source *line = &ret->sources[ret->n_sources++];
	struct hw_host *h = arena_alloc(&ret->arena, sizeof *h);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (!h) {
		hw_say(line, "host", false, "out of memory");
		return;
	}
	if (cpus > 0)
		h->cpus = hw_u32((uint32_t)cpus);
	count_nodes(s->sysfs, h);
	read_memory(s->proc, h);
	read_clock(h);
	if (!s->no_limits)
		read_limits(h);
	read_nvidia(s, h);
	read_mounts(s, &ret->arena, h);
	sm_read(s->sm, h);
	ret->host = h;
	hw_say(line, "host", true, NULL);
}

const struct hw_ops hw_host = {
	.name = "host",
	.period_ms = PERIOD_MS,
	.open = host_open,
	.poll = host_poll,
	.close = host_close,
};
