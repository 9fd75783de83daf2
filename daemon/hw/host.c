/* host.c - clock, memory and CPUs of the host */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timex.h>
#include <unistd.h>

#include "hw/port_text.h"
#include "hw/sysfs.h"

#define PERIOD_MS 5000

struct host_source {
	const char *sysfs, *proc;
};

static void *host_open(const struct hw_options *o)
{
	struct host_source *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->sysfs = o->sysfs ? o->sysfs : "/sys";
	s->proc = o->proc ? o->proc : "/proc";
	return s;
}

static void host_close(void *source)
{
	free(source);
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

static void read_memory(const char *proc, struct hw_host *h)
{
	char path[PATH_MAX], text[512];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "%s/meminfo", proc);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof text - 1); /* both are among the first three lines */
	close(fd);
	if (n <= 0)
		return;
	text[n] = '\0';
	h->mem_total = field_kb(text, "MemTotal:");
	h->mem_available = field_kb(text, "MemAvailable:");
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

static void host_poll(void *source, struct hw_readings *ret)
{
	const struct host_source *s = source;
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
