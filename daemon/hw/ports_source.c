/* ports_source.c - the source of ports: what class/infiniband lists, read from there
 *
 * The list of the kernel is the list of devices, whoever reads their ports. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hw/sysfs_ports.h"

#define DEVICES_MAX HW_PORTS_MAX

struct ports_source {
	const struct hw_options *o;
	const char *root; /* of sysfs */
	struct sysfs fs;
	struct ports ports;
	sysfs_name names[DEVICES_MAX];
};

static void *ports_open(const struct hw_options *o)
{
	struct ports_source *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->o = o;
	s->root = o->sysfs ? o->sysfs : "/sys";
	s->fs.root = -1;
	return s;
}

static void ports_close(void *source)
{
	struct ports_source *s = source;

	sysfs_close(&s->fs);
	ports_finish(&s->ports);
	free(s);
}

static bool excluded(const struct hw_options *o, const char *device)
{
	for (size_t i = 0; i < o->n_exclude; i++)
		if (strcmp(o->exclude[i], device) == 0)
			return true;
	return false;
}

/* Shown, so that nobody wonders where it went, but not asked anything. */
static void show_excluded(struct ports_source *s, int device_fd, struct port_row *row)
{
	row->p.excluded = true;
	sysfs_port_place(&s->fs, device_fd, &row->p);
}

static void read_device(struct ports_source *s, const char *device, mono_t now)
{
	int fd = sysfs_device(&s->fs, device);
	uint32_t numbers[HW_PORTS_MAX];
	size_t n;

	if (fd < 0)
		return; /* it has just gone, or is a link that leads elsewhere */
	n = sysfs_port_numbers(fd, numbers);
	for (size_t i = 0; i < n; i++) {
		struct port_row *row = port_row(&s->ports, device, numbers[i]);

		if (!row)
			break;
		if (excluded(s->o, device))
			show_excluded(s, fd, row);
		else
			sysfs_port(&s->fs, fd, row, now);
	}
	close(fd);
}

static void say_sysfs(struct ports_source *s, int devices, struct hw_source *ret)
{
	const char *root = s->root;

	if (devices == -ENOENT && faccessat(s->fs.root, "class", R_OK, 0) == 0)
		hw_say(ret, "sysfs", true, "no RDMA device: %.128s/class/infiniband is absent", root);
	else if (devices < 0)
		hw_say(ret, "sysfs", false, "%.128s/class/infiniband cannot be read: %s", root,
		       strerror(-devices));
	else if (s->ports.full)
		hw_say(ret, "sysfs", true, "%.128s; only the first %d ports are shown", root, HW_PORTS_MAX);
	else
		hw_say(ret, "sysfs", true, "%.128s", root);
}

static void ports_poll(void *source, struct hw_readings *ret)
{
	struct ports_source *s = source;
	mono_t now = hw_now();
	int n;

	/* opened anew: the root may be a link that now leads to another tree */
	sysfs_close(&s->fs);
	n = sysfs_open(&s->fs, s->root);
	if (n == 0)
		n = sysfs_devices(&s->fs, s->names, DEVICES_MAX);
	ports_begin(&s->ports);
	for (int i = 0; i < n; i++)
		read_device(s, s->names[i], now);
	ports_end(&s->ports);
	say_sysfs(s, n, &ret->sources[ret->n_sources++]);
	if (ports_publish(&s->ports, ret) < 0)
		hw_say(&ret->sources[0], "sysfs", false, "out of memory");
}

const struct hw_ops hw_ports = {
	.name = "sysfs",
	.period_ms = 2000,
	.open = ports_open,
	.poll = ports_poll,
	.close = ports_close,
};
