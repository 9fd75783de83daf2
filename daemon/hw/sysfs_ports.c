/* sysfs_ports.c - see sysfs_ports.h
 *
 * Every file may be absent (ibsim's tree has few), say "N/A", fail or vanish
 * together with its device: one bad file costs its field and leaves a remark,
 * never the port. Reading state, phys_state, rate, lid or sm_lid makes the
 * driver ask the device, each on its own; the others are the kernel's memory. */
#include "hw/sysfs_ports.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PKEYS_MAX 128
#define GIDS_MAX 1024 /* entries looked at: mlx5 has 256 for a port with RoCE, soft RoCE 1024 */

static bool is_device(const char *name)
{
	return name[0] != '.';
}

static bool is_port(const char *name)
{
	uint64_t v;

	return name[0] != '0' && text_number(name, 255, &v);
}

int sysfs_devices(const struct sysfs *fs, sysfs_name *out, size_t max)
{
	int class = sysfs_dir(fs, fs->root, "class/infiniband"), n;

	if (class < 0)
		return class;
	n = sysfs_list(class, ".", is_device, out, max);
	close(class);
	return n;
}

int sysfs_device(const struct sysfs *fs, const char *device)
{
	char path[32 + sizeof(sysfs_name)];

	snprintf(path, sizeof path, "class/infiniband/%s", device);
	return sysfs_dir(fs, fs->root, path);
}

size_t sysfs_port_numbers(int device_fd, uint32_t out[HW_PORTS_MAX])
{
	sysfs_name names[HW_PORTS_MAX];
	int n = sysfs_list(device_fd, "ports", is_port, names, HW_PORTS_MAX);
	uint64_t v;

	for (int i = 0; i < n; i++)
		out[i] = text_number(names[i], 255, &v) ? (uint32_t)v : 0;
	return n > 0 ? (size_t)n : 0;
}

static int port_dir(const struct sysfs *fs, int device_fd, uint32_t port)
{
	char path[32];

	snprintf(path, sizeof path, "ports/%u", port);
	return sysfs_dir(fs, device_fd, path);
}

/* ---- what the device is asked --------------------------------------------- */

static bool take_state(struct hw_port *p, const char *text)
{
	p->state = text_state(text);
	return p->state;
}

static bool take_phys(struct hw_port *p, const char *text)
{
	p->phys_state = text_phys_state(text);
	return p->phys_state;
}

static bool take_rate(struct hw_port *p, const char *text)
{
	struct port_rate r;

	if (!text_rate(text, &r))
		return false;
	p->rate_mbps = hw_u32(r.mbps);
	p->lanes = hw_u32(r.lanes);
	p->speed = r.speed;
	return true;
}

static bool take_lid_into(struct hw_u32 *ret, const char *text)
{
	uint64_t v;

	if (!text_number(text, 65535, &v))
		return false;
	*ret = hw_u32((uint32_t)v);
	return true;
}

static bool take_lid(struct hw_port *p, const char *text)
{
	return take_lid_into(&p->lid, text);
}

static bool take_sm_lid(struct hw_port *p, const char *text)
{
	return take_lid_into(&p->sm_lid, text);
}

static const struct {
	const char *name;
	enum port_ask ask;
	bool (*take)(struct hw_port *p, const char *text);
} asked_files[] = {
	{ "state", ASK_STATE, take_state },	{ "phys_state", ASK_PHYS, take_phys },
	{ "rate", ASK_RATE, take_rate },	{ "lid", ASK_LID, take_lid },
	{ "sm_lid", ASK_SM_LID, take_sm_lid },
};

static void ask_file(int port_fd, struct port_row *row, size_t i, mono_t now)
{
	const char *name = asked_files[i].name;
	char text[SYSFS_TEXT];
	int n;

	if (!port_may_ask(row, asked_files[i].ask, now))
		return;
	n = sysfs_read(port_fd, name, text, sizeof text);
	/* absent costs the driver nothing: no need to ask less */
	port_asked(row, asked_files[i].ask, n < 0 && n != -ENOENT ? n : 0, now);
	if (n == -ENOENT && asked_files[i].ask == ASK_STATE)
		hw_remark(row->p.text, sizeof row->p.text, "%s: absent", name);
	if (n >= 0 && !asked_files[i].take(&row->p, text))
		hw_remark(row->p.text, sizeof row->p.text, "%s: \"%.32s\" is not understood", name, text);
}

static void read_gid(int port_fd, struct hw_port *p)
{
	char text[SYSFS_TEXT];
	bool used;

	if (sysfs_read(port_fd, "gids/0", text, sizeof text) > 0 && text_gid(text, &used))
		memcpy(p->gid, text, 40);
}

/* ---- what changes seldom -------------------------------------------------- */

static void copy_file(int at, const char *name, char *out, size_t size)
{
	char text[SYSFS_TEXT];

	if (sysfs_read(at, name, text, sizeof text) > 0)
		hw_copy(out, size, text);
}

static void read_layer(int port_fd, struct hw_port *p)
{
	char text[SYSFS_TEXT];
	int n = sysfs_read(port_fd, "link_layer", text, sizeof text);

	/* kernels before 2.6.37 and ibsim know InfiniBand only */
	p->link_layer = n == -ENOENT ? "InfiniBand" : text_link_layer(text);
}

/* "0000:0000:0000:0000:0000:ffff:c0a8:0101" is 192.168.1.1. Each address has an
 * entry for RoCE v1 and one for v2, which is the one that can be routed. */
static bool is_v2(int port_fd, const char *name, const char *gid)
{
	char path[40], text[SYSFS_TEXT];

	if (strncmp(gid, "0000:0000:0000:0000:0000:ffff:", 30) != 0)
		return false;
	snprintf(path, sizeof path, "gid_attrs/types/%.15s", name);
	return sysfs_read(port_fd, path, text, sizeof text) > 0 && strcmp(text, "RoCE v2") == 0;
}

/* Entries are numbered without gaps. Those of other network namespaces are
 * EINVAL: not ours. */
static void count_gids(int port_fd, struct hw_port *p)
{
	int dir = openat(port_fd, "gids", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	char name[16], text[SYSFS_TEXT];
	uint32_t in_use = 0;
	bool used;

	p->gids = p->gid_v2 = (struct hw_u32){ 0 };
	if (dir < 0)
		return;
	for (int i = 0; i < GIDS_MAX && n != -ENOENT; i++) {
		snprintf(name, sizeof name, "%d", i);
		n = sysfs_read(dir, name, text, sizeof text);
		if (n <= 0 || !text_gid(text, &used) || !used)
			continue;
		in_use++;
		if (!p->gid_v2.known && p->link_layer && strcmp(p->link_layer, "Ethernet") == 0 && is_v2(port_fd, name, text))
			p->gid_v2 = hw_u32((uint32_t)i);
	}
	close(dir);
	p->gids = hw_u32(in_use);
}

/* The interface whose dev_port (since Linux 3.15) is the port's number less 1. */
static void netdev_of_device(int netdevs, struct hw_port *p)
{
	sysfs_name names[16];
	char path[16 + sizeof(sysfs_name)], text[SYSFS_TEXT];
	int n = sysfs_list(netdevs, ".", is_device, names, 16);
	uint64_t v;

	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%.64s/dev_port", names[i]);
		if (sysfs_read(netdevs, path, text, sizeof text) > 0 && text_number(text, 255, &v) &&
		    v + 1 == p->port) {
			hw_copy(p->netdev, sizeof p->netdev, names[i]);
			return;
		}
	}
}

static void read_netdev(const struct sysfs *fs, int device_fd, int port_fd, struct hw_port *p)
{
	int netdevs;

	p->netdev[0] = '\0';
	/* RoCE: the interface that carries GID 0; EINVAL for InfiniBand */
	copy_file(port_fd, "gid_attrs/ndevs/0", p->netdev, sizeof p->netdev);
	if (p->netdev[0])
		return;
	netdevs = sysfs_dir(fs, device_fd, "device/net");
	if (netdevs < 0)
		return;
	netdev_of_device(netdevs, p);
	close(netdevs);
}

void sysfs_port_place(const struct sysfs *fs, int device_fd, struct hw_port *p)
{
	int parent = sysfs_dir(fs, device_fd, "device");
	char path[PATH_MAX];
	ssize_t n;

	p->pci[0] = '\0';
	p->numa = (struct hw_u32){ 0 };
	if (parent >= 0) {
		p->numa = sysfs_numa(parent);
		if (sysfs_real(parent, path) == 0)
			text_pci(path, p->pci);
		close(parent);
		return;
	}
	n = readlinkat(device_fd, "device", path, sizeof path - 1);
	if (n > 0) { /* part of a tree was copied */
		path[n] = '\0';
		text_pci(path, p->pci);
	}
}

/* False: there is no such entry. */
static bool pkey_of(int dir, uint32_t i, uint32_t *ret)
{
	char text[SYSFS_TEXT], name[16];
	uint64_t v;
	int n;

	snprintf(name, sizeof name, "%u", i);
	n = sysfs_read(dir, name, text, sizeof text);
	*ret = n > 0 && text_number(text, 65535, &v) ? (uint32_t)v : 0;
	return n != -ENOENT;
}

/* Partition keys: entries are numbered without gaps, empty ones are 0x0000. The
 * manager fills them from the front, so that between complete looks ('most' is
 * what the table may hold) those in use and the next one suffice. */
static void read_pkeys(int port_fd, struct port_row *row, uint32_t most)
{
	int dir = openat(port_fd, "pkeys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct hw_port *p = &row->p;
	uint32_t in_use = 0, used = 0, v;
	size_t len = 0;

	p->pkey = p->pkeys = (struct hw_u32){ 0 };
	p->pkey_table[0] = '\0';
	for (uint32_t i = 0; dir >= 0 && i < most && pkey_of(dir, i, &v); i++) {
		if (i == 0)
			p->pkey = hw_u32(v);
		if (i < HW_PKEYS_SHOWN)
			len += (size_t)snprintf(p->pkey_table + len, sizeof p->pkey_table - len, "%s%x", i ? "," : "", v);
		in_use += v != 0;
		used = v != 0 ? i + 1 : used;
	}
	while (len > 2 && strcmp(p->pkey_table + len - 2, ",0") == 0)
		p->pkey_table[len -= 2] = '\0'; /* the empty ones behind the last */
	if (p->pkey.known)
		p->pkeys = hw_u32(in_use);
	row->pkeys_used = used;
	if (dir >= 0)
		close(dir);
}

/* Has the first entry lost its address, or the one that RoCE is to use? */
static bool gid_gone(int port_fd, const struct hw_port *p)
{
	char path[32], name[16], text[SYSFS_TEXT];
	bool used;

	if (p->gids.known && p->gids.v > 0 && sysfs_read(port_fd, "gids/0", text, sizeof text) > 0 && text_gid(text, &used) && !used)
		return true;
	if (!p->gid_v2.known)
		return false;
	snprintf(name, sizeof name, "%u", p->gid_v2.v);
	snprintf(path, sizeof path, "gids/%s", name);
	return sysfs_read(port_fd, path, text, sizeof text) <= 0 || !text_gid(text, &used) || !used || !is_v2(port_fd, name, text);
}

static void read_slow(const struct sysfs *fs, int device_fd, int port_fd, struct port_row *row, mono_t now)
{
	struct hw_port *p = &row->p;
	bool whole = mono_due(row->pkeys_due, now);

	p->fw[0] = p->board[0] = '\0';
	copy_file(device_fd, "fw_ver", p->fw, sizeof p->fw);
	copy_file(device_fd, "board_id", p->board, sizeof p->board);
	if (!p->board[0])
		copy_file(device_fd, "hca_type", p->board, sizeof p->board);
	sysfs_port_place(fs, device_fd, p);
	read_layer(port_fd, p);
	read_netdev(fs, device_fd, port_fd, p);
	count_gids(port_fd, p);
	read_pkeys(port_fd, row, whole ? PKEYS_MAX : row->pkeys_used + 1);
	if (whole)
		row->pkeys_due = mono_add_ms(now, PORT_PKEYS_MS);
}

/* None of this asks the device: the kernel has it. */
static void read_soon(int device_fd, int port_fd, struct port_row *row)
{
	copy_file(device_fd, "fw_ver", row->p.fw, sizeof row->p.fw);
	read_layer(port_fd, &row->p);
	read_pkeys(port_fd, row, row->pkeys_used + 1);
	if (gid_gone(port_fd, &row->p))
		count_gids(port_fd, &row->p);
}

void sysfs_port_counters(const struct sysfs *fs, int device_fd, struct port_row *row, mono_t now)
{
	int port_fd;

	if (!mono_due(row->counters.due, now))
		return;
	port_fd = port_dir(fs, device_fd, row->p.port);
	if (port_fd < 0)
		return;
	counters_read(&row->counters, port_fd, row->p.pci, now);
	close(port_fd);
}

void sysfs_port_slow(const struct sysfs *fs, int device_fd, struct port_row *row, mono_t now)
{
	int port_fd;

	if (!mono_due(row->slow_due, now) && !mono_due(row->soon_due, now))
		return;
	port_fd = port_dir(fs, device_fd, row->p.port);
	if (port_fd < 0)
		return;
	if (mono_due(row->slow_due, now)) {
		read_slow(fs, device_fd, port_fd, row, now);
		row->slow_due = mono_add_ms(now, PORT_SLOW_MS);
	} else {
		read_soon(device_fd, port_fd, row);
	}
	row->soon_due = mono_add_ms(now, PORT_SOON_MS);
	close(port_fd);
}

/* ---- a port --------------------------------------------------------------- */

const char *sysfs_port_state(const struct sysfs *fs, const struct hw_port *p)
{
	char path[64 + sizeof(sysfs_name)], text[SYSFS_TEXT];

	/* in one go, for it is asked often: where a link leads is looked at by who reads the port then */
	snprintf(path, sizeof path, "class/infiniband/%s/ports/%u/state", p->device, p->port);
	return sysfs_read(fs->root, path, text, sizeof text) > 0 ? text_state(text) : NULL;
}

bool sysfs_port_rate(const struct sysfs *fs, int device_fd, uint32_t port, struct port_rate *ret)
{
	int port_fd = port_dir(fs, device_fd, port);
	char text[SYSFS_TEXT];
	bool ok;

	if (port_fd < 0)
		return false;
	ok = sysfs_read(port_fd, "rate", text, sizeof text) > 0 && text_rate(text, ret);
	close(port_fd);
	return ok;
}

void sysfs_port(const struct sysfs *fs, int device_fd, struct port_row *row, mono_t now)
{
	int port_fd = port_dir(fs, device_fd, row->p.port);

	if (port_fd < 0) {
		hw_remark(row->p.text, sizeof row->p.text, "%s", sysfs_why(port_fd));
		return;
	}
	for (size_t i = 0; i < sizeof asked_files / sizeof asked_files[0]; i++)
		ask_file(port_fd, row, i, now);
	read_gid(port_fd, &row->p);
	close(port_fd);
	port_state_known(row);
	sysfs_port_slow(fs, device_fd, row, now);
}
