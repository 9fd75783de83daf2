/* verbs_ports.c - see verbs_ports.h
 *
 * Events say that something has changed and never what it is now: each of them
 * only makes the port be read at once. They do not repeat, so ports are read
 * every few seconds as well. */
#include "hw/verbs_ports.h"

#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hw/sysfs_ports.h"

#define DEVICES_MAX HW_PORTS_MAX
#define REOPEN_MS 30000 /* between tries to open what could not be opened */
#define COMING_MS 2000 /* the first few of them: udev may be making its node */
#define COMING_TRIES 5
#define SPEED_NDR 128 /* also what kernels tell a library that has no room for XDR */

struct device {
	char name[sizeof(sysfs_name)];
	struct ibv_context *ctx; /* NULL: not open */
	const char *why; /* it is not */
	unsigned tries;
	mono_t retry;
	char fw[65];
	bool broken; /* it said that it died, or stopped answering */
	bool named;
};

struct verbs {
	struct device devices[DEVICES_MAX];
	size_t n;
	struct pollfd fds[DEVICES_MAX + 1];
};

struct verbs *verbs_new(void)
{
	return calloc(1, sizeof(struct verbs));
}

static void close_device(struct device *d)
{
	if (d->ctx)
		ibv_close_device(d->ctx);
	d->ctx = NULL;
	d->broken = false;
}

void verbs_free(struct verbs *v)
{
	if (!v)
		return;
	for (size_t i = 0; i < v->n; i++)
		close_device(&v->devices[i]);
	free(v);
}

static struct device *find(const struct verbs *v, const char *name)
{
	for (size_t i = 0; i < v->n; i++)
		if (strcmp(v->devices[i].name, name) == 0)
			return (struct device *)&v->devices[i];
	return NULL;
}

bool verbs_has(const struct verbs *v, const char *device, const char **ret_why)
{
	const struct device *d = find(v, device);

	*ret_why = d && d->why ? d->why : "not opened yet";
	return d && d->ctx && !d->broken;
}

/* ---- opening -------------------------------------------------------------- */

static const char *why_not(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
		return "no permission for its file in /dev/infiniband";
	case ENOENT:
	case ENXIO:
		return "its file in /dev/infiniband is absent here (a container without it?)";
	case ENOSYS:
		return "the kernel's module ib_uverbs is not loaded";
	default:
		return "libibverbs cannot open it";
	}
}

static void open_device(struct device *d, struct ibv_device *dev)
{
	struct ibv_device_attr attr;

	errno = 0;
	d->ctx = ibv_open_device(dev);
	if (!d->ctx) {
		d->why = why_not(errno);
		return;
	}
	d->why = NULL;
	d->tries = 0;
	fcntl(d->ctx->async_fd, F_SETFL, fcntl(d->ctx->async_fd, F_GETFL) | O_NONBLOCK);
	if (ibv_query_device(d->ctx, &attr) == 0)
		hw_copy(d->fw, sizeof d->fw, attr.fw_ver);
}

static bool is_uverbs(const char *name)
{
	return strncmp(name, "uverbs", 6) == 0;
}

/* The library lists no device whose file it cannot see, and says nothing of why. */
static bool lacks_file(const struct sysfs *fs, const char *device)
{
	sysfs_name names[DEVICES_MAX];
	int class = sysfs_dir(fs, fs->root, "class/infiniband_verbs"), n;
	char path[32 + sizeof(sysfs_name)], text[SYSFS_TEXT];
	bool lacks = false;

	n = sysfs_list(class, ".", is_uverbs, names, DEVICES_MAX);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%.64s/ibdev", names[i]);
		if (sysfs_read(class, path, text, sizeof text) <= 0 || strcmp(text, device) != 0)
			continue;
		snprintf(path, sizeof path, "/dev/infiniband/%.64s", names[i]);
		lacks = access(path, F_OK) < 0;
	}
	if (class >= 0)
		close(class);
	return lacks;
}

static const char *why_not_listed(const struct sysfs *fs, const char *device)
{
	return lacks_file(fs, device) ? why_not(ENOENT) :
					"libibverbs has no driver for it (package ibverbs-providers)";
}

static void open_one(const struct sysfs *fs, struct device *d, struct ibv_device **list, int n,
		     int error, mono_t now)
{
	d->why = error ? why_not(error) : NULL;
	for (int i = 0; list && i < n; i++)
		if (strcmp(ibv_get_device_name(list[i]), d->name) == 0)
			open_device(d, list[i]);
	if (d->ctx)
		return;
	if (!d->why)
		d->why = why_not_listed(fs, d->name);
	d->retry = mono_add_ms(now, d->tries < COMING_TRIES ? COMING_MS : REOPEN_MS);
	d->tries += d->tries < COMING_TRIES;
}

static bool to_open(const struct device *d, mono_t now)
{
	return !d->ctx && mono_due(d->retry, now);
}

static void open_all(struct verbs *v, const struct sysfs *fs, mono_t now)
{
	struct ibv_device **list = NULL;
	int n = 0, error = 0;
	bool any = false;

	for (size_t i = 0; i < v->n; i++)
		any = any || to_open(&v->devices[i], now);
	if (!any)
		return; /* listing costs more than all the rest */
	errno = 0;
	list = ibv_get_device_list(&n);
	if (!list)
		error = errno ? errno : EIO;
	for (size_t i = 0; i < v->n; i++)
		if (to_open(&v->devices[i], now))
			open_one(fs, &v->devices[i], list, n, error, now);
	if (list)
		ibv_free_device_list(list);
}

/* Some drivers (soft RoCE of Linux 6.1) cannot take a device from under those
 * who hold it open: the kernel removes uverbsN and then waits for us, without an
 * event, and with it `rdma link del` or `rmmod`. */
static bool is_leaving(const struct sysfs *fs, const struct device *d)
{
	char path[32 + IBV_SYSFS_NAME_MAX];

	if (!d->ctx)
		return false;
	snprintf(path, sizeof path, "class/infiniband_verbs/%s", d->ctx->device->dev_name);
	return faccessat(fs->root, path, F_OK, 0) < 0;
}

static void drop_unnamed(struct verbs *v, const struct sysfs *fs)
{
	size_t kept = 0;

	for (size_t i = 0; i < v->n; i++) {
		struct device *d = &v->devices[i];

		if (d->broken || !d->named || is_leaving(fs, d))
			close_device(d);
		if (!d->named)
			continue;
		if (kept != i)
			v->devices[kept] = *d;
		kept++;
	}
	v->n = kept;
}

void verbs_sync(struct verbs *v, const struct sysfs *fs, const sysfs_name *names, size_t n,
		mono_t now)
{
	for (size_t i = 0; i < v->n; i++)
		v->devices[i].named = false;
	for (size_t i = 0; i < n; i++) {
		struct device *d = find(v, names[i]);

		if (d)
			d->named = true;
	}
	drop_unnamed(v, fs); /* first: another device may have got a name of old */
	for (size_t i = 0; i < n && v->n < DEVICES_MAX; i++) {
		struct device *d = find(v, names[i]);

		if (d)
			continue;
		d = &v->devices[v->n++];
		*d = (struct device){ .named = true };
		memcpy(d->name, names[i], sizeof d->name);
	}
	open_all(v, fs, now);
}

/* ---- a port --------------------------------------------------------------- */

static uint32_t mtu_bytes(enum ibv_mtu mtu)
{
	return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

/* The library tells XDR as NDR when its struct has no room for more, and a
 * speed that is newer than the kernel as nothing: sysfs has the kernel's words. */
static void take_rate(const struct sysfs *fs, int device_fd, const struct ibv_port_attr *a,
		      struct hw_port *p)
{
	uint32_t lanes = port_lanes(a->active_width);
	struct port_rate r, told;
	bool ok = port_rate_of(a->active_speed, lanes, &r);

	if (!ok || a->active_speed == SPEED_NDR)
		if (sysfs_port_rate(fs, device_fd, p->port, &told) && (!ok || told.mbps > r.mbps)) {
			r = told;
			ok = true;
		}
	if (!ok)
		return;
	p->rate_mbps = hw_u32(r.mbps);
	p->lanes = hw_u32(r.lanes);
	p->speed = r.speed;
}

static void take_gid(struct ibv_context *ctx, struct hw_port *p)
{
	union ibv_gid gid;
	char *out = p->gid;

	if (ibv_query_gid(ctx, (uint8_t)p->port, 0, &gid) != 0)
		return;
	for (int i = 0; i < 16; i += 2, out += 5)
		snprintf(out, 6, "%02x%02x%s", gid.raw[i], gid.raw[i + 1], i < 14 ? ":" : "");
}

static void take_attr(const struct ibv_port_attr *a, struct hw_port *p)
{
	uint32_t mtu = mtu_bytes(a->active_mtu);

	p->state = port_state_name(a->state);
	p->phys_state = port_phys_name(a->phys_state);
	p->lid = hw_u32(a->lid);
	p->sm_lid = hw_u32(a->sm_lid);
	if (mtu)
		p->mtu = hw_u32(mtu);
}

static void take_layer(const struct ibv_port_attr *a, struct hw_port *p)
{
	if (a->link_layer == IBV_LINK_LAYER_INFINIBAND)
		p->link_layer = "InfiniBand";
	else if (a->link_layer == IBV_LINK_LAYER_ETHERNET)
		p->link_layer = "Ethernet";
}

bool verbs_port(struct verbs *v, const struct sysfs *fs, int device_fd, struct port_row *row,
		mono_t now)
{
	struct device *d = find(v, row->p.device);
	struct ibv_port_attr a;
	int r;

	if (!d || !d->ctx || !port_may_ask(row, ASK_VERBS, now))
		return false;
	memset(&a, 0, sizeof a);
	r = ibv_query_port(d->ctx, (uint8_t)row->p.port, &a);
	port_asked(row, ASK_VERBS, -r, now);
	if (r != 0) {
		d->broken = r == EIO || r == ENODEV; /* unplugged, or its firmware died */
		return false;
	}
	take_attr(&a, &row->p);
	port_state_known(row);
	sysfs_port_slow(fs, device_fd, row, now);
	take_layer(&a, &row->p); /* its word counts for more than the file's */
	take_rate(fs, device_fd, &a, &row->p);
	take_gid(d->ctx, &row->p);
	if (!row->p.fw[0])
		memcpy(row->p.fw, d->fw, sizeof row->p.fw);
	return true;
}

/* ---- events --------------------------------------------------------------- */

/* Of its addresses or partition keys: what is else read seldom. */
static void tables_changed(struct ports *ps, const char *device)
{
	for (size_t i = 0; i < ps->n; i++)
		if (strcmp(ps->rows[i].p.device, device) == 0)
			ps->rows[i].slow_due = ps->rows[i].pkeys_due = (mono_t){ 0 };
}

static bool take_events(struct device *d, struct ports *ps)
{
	struct ibv_async_event ev;
	bool any = false;

	while (ibv_get_async_event(d->ctx, &ev) == 0) {
		if (ev.event_type == IBV_EVENT_DEVICE_FATAL)
			d->broken = true;
		if (ev.event_type == IBV_EVENT_GID_CHANGE || ev.event_type == IBV_EVENT_PKEY_CHANGE)
			tables_changed(ps, d->name);
		ibv_ack_async_event(&ev);
		any = true;
	}
	return any;
}

/* The descriptor of a device that was unplugged is always readable: it must not
 * be waited for again. */
static bool look_at(struct device *d, short revents, struct ports *ps)
{
	bool any = (revents & POLLIN) && take_events(d, ps);

	if (revents & (POLLERR | POLLHUP | POLLNVAL))
		d->broken = any = true;
	return any;
}

bool verbs_wait(struct verbs *v, struct ports *ps, int wake_fd, int timeout_ms)
{
	bool any = false;

	v->fds[0] = (struct pollfd){ .fd = wake_fd, .events = POLLIN };
	for (size_t i = 0; i < v->n; i++) {
		const struct device *d = &v->devices[i];

		/* a negative descriptor is passed over */
		v->fds[i + 1] = (struct pollfd){
			.fd = d->ctx && !d->broken ? d->ctx->async_fd : -1,
			.events = POLLIN,
		};
	}
	if (poll(v->fds, v->n + 1, timeout_ms) <= 0)
		return false;
	for (size_t i = 0; i < v->n; i++)
		if (v->fds[i + 1].revents)
			any = look_at(&v->devices[i], v->fds[i + 1].revents, ps) || any;
	return any;
}
