/* ports_source.c - the source of ports: what class/infiniband lists, read by verbs or from there
 *
 * The kernel's list is the list of devices, whoever reads their ports. Verbs is
 * better, since it has events; where a device cannot be opened (a container
 * without its file in /dev, no user's driver for it) its ports are read from
 * sysfs, and the source "verbs" says why. With a root of the caller's own, verbs
 * would tell of other hardware than the tree: it is not used. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hw/sysfs_ports.h"
#include "hw/verbs_ports.h"

#define DEVICES_MAX HW_PORTS_MAX
#define WATCH_MS 660 /* port to verdict is to be below 1 s */

struct ports_source {
	const struct hw_options *o;
	const char *root; /* of sysfs */
	struct sysfs fs;
	struct verbs *verbs; /* NULL: not to be used */
	struct ports ports;
	sysfs_name names[DEVICES_MAX]; /* the kernel's list */
	size_t n;
	sysfs_name asked[DEVICES_MAX]; /* without those that are excluded */
	size_t n_asked;
};

static void *ports_open(const struct hw_options *o)
{
	struct ports_source *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->o = o;
	s->root = o->sysfs ? o->sysfs : "/sys";
	s->fs.root = -1;
	s->verbs = o->sysfs ? NULL : verbs_new();
	return s;
}

static void ports_close(void *source)
{
	struct ports_source *s = source;

	sysfs_close(&s->fs);
	ports_finish(&s->ports);
	verbs_free(s->verbs);
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

static void read_port(struct ports_source *s, int device_fd, struct port_row *row, mono_t now)
{
	const char *why;

	if (excluded(s->o, row->p.device)) {
		show_excluded(s, device_fd, row);
		return;
	}
	if (!s->verbs || !verbs_has(s->verbs, row->p.device, &why) ||
		 !verbs_port(s->verbs, &s->fs, device_fd, row, now))
		sysfs_port(&s->fs, device_fd, row, now);
	sysfs_port_counters(&s->fs, device_fd, row, now);
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
		read_port(s, fd, row, now);
	}
	close(fd);
}

/* ---- what the sources' lines say ------------------------------------------ */

static void say_sysfs(struct ports_source *s, int devices, struct hw_source *ret)
{
	const char *root = s->root;

	if (devices == -ENOENT && faccessat(s->fs.root, "class", R_OK, 0) == 0)
		hw_say(ret, "sysfs", true, "no RDMA device: %.128s/class/infiniband is absent", root);
	else if (devices < 0)
		hw_say(ret, "sysfs", false, "%.128s/class/infiniband cannot be read: %s", root,
		       strerror(-devices));
	else if (devices == 0)
		hw_say(ret, "sysfs", true, "no RDMA device: %.128s/class/infiniband is empty", root);
	else
		hw_say(ret, "sysfs", true, "%.128s", root);
	if (s->ports.full)
		hw_remark(ret->text, sizeof ret->text, "only the first %d ports are shown", HW_PORTS_MAX);
}

/* How many are read by verbs. */
static size_t say_verbs(struct ports_source *s, struct hw_source *ret)
{
	size_t open = 0;
	const char *why;

	hw_say(ret, "verbs", true, NULL);
	for (size_t i = 0; i < s->n_asked; i++) {
		if (verbs_has(s->verbs, s->asked[i], &why))
			open++;
		else
			hw_remark(ret->text, sizeof ret->text, "%s: %s", s->asked[i], why);
	}
	ret->ok = open > 0;
	if (s->ports.full)
		hw_remark(ret->text, sizeof ret->text, "only the first %d ports are shown", HW_PORTS_MAX);
	return open;
}

static void say(struct ports_source *s, int devices, struct hw_readings *ret)
{
	size_t open = 0;

	if (s->verbs && s->n_asked > 0)
		open = say_verbs(s, &ret->sources[ret->n_sources++]);
	if (open == 0 || open < s->n_asked)
		say_sysfs(s, devices, &ret->sources[ret->n_sources++]);
}

/* ---- the source ----------------------------------------------------------- */

/* Verbs is told of those only that may be asked something. */
static void open_devices(struct ports_source *s, mono_t now)
{
	s->n_asked = 0;
	for (size_t i = 0; i < s->n; i++)
		if (!excluded(s->o, s->names[i]))
			memcpy(s->asked[s->n_asked++], s->names[i], sizeof(sysfs_name));
	verbs_sync(s->verbs, &s->fs, s->asked, s->n_asked, now);
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
	s->n = n > 0 ? (size_t)n : 0;
	if (s->verbs)
		open_devices(s, now);
	ports_begin(&s->ports);
	for (size_t i = 0; i < s->n; i++)
		read_device(s, s->names[i], now);
	ports_end(&s->ports);
	say(s, n, ret);
	if (ports_publish(&s->ports, ret) < 0)
		hw_say(&ret->sources[0], "sysfs", false, "out of memory");
}

/* Sysfs has no events: between polls the states alone are looked at, of ports
 * that answer. */
static bool is_watched(const struct ports_source *s, const struct port_row *row)
{
	const char *why;

	return !row->p.excluded && row->asks[ASK_STATE].error == 0 &&
	       !(s->verbs && verbs_has(s->verbs, row->p.device, &why));
}

static bool any_watched(const struct ports_source *s)
{
	for (size_t i = 0; i < s->ports.n; i++)
		if (is_watched(s, &s->ports.rows[i]))
			return true;
	return false;
}

static bool state_changed(const struct ports_source *s)
{
	for (size_t i = 0; i < s->ports.n; i++)
		if (is_watched(s, &s->ports.rows[i]) &&
		    sysfs_port_state(&s->fs, &s->ports.rows[i].p) != s->ports.rows[i].p.state)
			return true;
	return false;
}

/* False: the time is over. */
static bool wait_some(struct ports_source *s, int wake_fd, int ms)
{
	struct pollfd f = { .fd = wake_fd, .events = POLLIN };

	return (s->verbs && verbs_wait(s->verbs, &s->ports, wake_fd, ms)) || poll(&f, 1, s->verbs ? 0 : ms) > 0;
}

static bool ports_wait(void *source, int wake_fd, int timeout_ms)
{
	struct ports_source *s = source;

	for (; timeout_ms > WATCH_MS && any_watched(s); timeout_ms -= WATCH_MS)
		if (wait_some(s, wake_fd, WATCH_MS) || state_changed(s))
			return true;
	return wait_some(s, wake_fd, timeout_ms);
}

const struct hw_ops hw_ports = {
	.name = "sysfs",
	.period_ms = 2000,
	.open = ports_open,
	.poll = ports_poll,
	.wait = ports_wait,
	.close = ports_close,
};
