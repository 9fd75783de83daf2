/* compose.c - see compose.h
 *
 * A value over a limit of the protocol is left out: one odd value must not cost
 * the message. Texts fit by the size of their arrays. Everything is borrowed
 * from the readings or lives in the message's arena.
 *
 * Of a source that hangs only what does not change is told (names, addresses):
 * old values look like present ones. */
#include "probe/compose.h"

#include <errno.h>
#include <string.h>

#include "common/gpu_odd.h"
#include "proto/frame.h"
#include "proto/message.h"

struct composer {
	struct msg m;
	mono_t now;
	bool all; /* what is never still, too */
	bool topology, procs;
	bool no_memory;
};

/* records have the fields of hw.h by the same names */
#define PUT(rec, name, from, field, max)                                                           \
	do {                                                                                       \
		if ((from)->field.known && (from)->field.v <= (max))                               \
			MSG_SET(rec, name, field, (from)->field.v);                                \
	} while (0)
#define PUT_TEXT(rec, from, field) ((rec)->field = (from)->field[0] ? (from)->field : NULL)

static void *rows(struct composer *c, size_t n, size_t size)
{
	void *p = arena_alloc(&c->m.arena, n * size);

	c->no_memory = c->no_memory || !p;
	return p;
}

/* ---- sources -------------------------------------------------------------- */

static void put_source(struct composer *c, const struct source *src, const struct hw_source *line)
{
	struct rec_readings *r = &c->m.u.readings;
	struct rec_source *to = &r->sources[r->n_sources++];

	to->name = line ? line->name : src->ops->name;
	if (src->stuck)
		to->text = src->in_kernel ?
			"hangs inside the kernel, where nothing ends it, so it cannot be started anew; "
			"see dmesg, and reboot" :
			"does not answer: its driver or a device hangs";
	else if (!line)
		to->text = src->late ? "not read yet: its driver takes long to start, or hangs" : "not read yet";
	else if (src->late)
		to->text = "has not answered for some seconds: its driver or a device may hang";
	else
		PUT_TEXT(to, line, text);
	if (src->late)
		MSG_SET(to, source, late, true);
	if (!line && !src->stuck && !src->again)
		MSG_SET(to, source, starting, true);
	to->ok = line && line->ok && !src->stuck;
	if (line && !src->stuck)
		PUT_TEXT(to, line, version);
	if (line && line->absent && !src->stuck)
		MSG_SET(to, source, absent, true);
	if (c->all && src->taken)
		MSG_SET(to, source, age_ms, (uint64_t)mono_sub_ms(c->now, src->taken_at));
}

static void put_sources(struct composer *c, const struct sources *s)
{
	struct rec_readings *r = &c->m.u.readings;

	r->sources = rows(c, 2 * s->n + 1, sizeof *r->sources);
	if (!r->sources)
		return;
	for (size_t i = 0; i < s->n; i++) {
		const struct source *src = &s->list[i];

		if (!src->taken || src->taken->n_sources == 0)
			put_source(c, src, NULL);
		for (size_t k = 0; src->taken && k < src->taken->n_sources; k++)
			put_source(c, src, &src->taken->sources[k]);
	}
}

/* Of a device whose source hangs. Nothing that counts up is material. */
static const char *put_stuck(struct composer *c, const struct source *src)
{
	const char *text = "not read, its source hangs";

	if (c->all)
		text = arena_printf(&c->m.arena, "not read for %lld s, its source hangs",
				    (long long)mono_sub_ms(c->now, src->taken_at) / 1000);
	c->no_memory = c->no_memory || !text;
	return text;
}

/* ---- gpus ----------------------------------------------------------------- */

static void put_ancestors(struct composer *c, const struct hw_gpu_proc *p, struct rec_gpu_proc *to)
{
	const char **v = rows(c, p->n_ancestors, sizeof *v);

	for (size_t i = 0; v && i < p->n_ancestors; i++) {
		v[i] = arena_printf(&c->m.arena, "%u", p->ancestors[i]);
		c->no_memory = c->no_memory || !v[i];
	}
	to->ancestors = v;
	to->n_ancestors = v ? p->n_ancestors : 0;
}

static void put_procs(struct composer *c, const struct hw_gpu *g, struct rec_gpu *to)
{
	to->procs = rows(c, g->n_procs, sizeof *to->procs);
	if (!to->procs)
		return;
	to->n_procs = g->n_procs;
	for (size_t i = 0; i < g->n_procs; i++) {
		const struct hw_gpu_proc *p = &g->procs[i];
		struct rec_gpu_proc *rp = &to->procs[i];

		rp->pid = p->pid;
		PUT(rp, gpu_proc, p, uid, 4294967294u);
		PUT_TEXT(rp, p, user);
		PUT_TEXT(rp, p, name);
		put_ancestors(c, p, rp);
		if (c->all)
			PUT(rp, gpu_proc, p, mem, UINT64_MAX);
	}
}

/* Of gauges, which are never still, it is of interest at once when they pass what
 * a check may judge by: 1, 2 ... in their place. */
static uint64_t band(uint64_t v, uint64_t low, uint64_t lower)
{
	return v >= low ? 0 : v >= lower ? 1 : 2;
}

#define GIB (UINT64_C(1) << 30)

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t mount_band(const struct hw_mount *m)
{
	if (strcmp(m->path, "/dev/shm") == 0)
		return band(m->available.v, GIB, GIB / 16);
	return band(m->available.v, least(20 * GIB, m->total.v / 20), least(GIB, m->total.v / 100));
}

static void put_gauges(const struct hw_gpu *g, struct rec_gpu *to)
{
	PUT(to, gpu, g, mem_used, UINT64_MAX);
	PUT(to, gpu, g, temp_c, 1000u);
	PUT(to, gpu, g, power_mw, 10000000u);
	PUT(to, gpu, g, util, 100u);
	PUT(to, gpu, g, ecc_corrected, UINT64_MAX);
	PUT(to, gpu, g, pstate, 15u);
	PUT(to, gpu, g, pcie_gen, 15u);
	PUT_TEXT(to, g, note);
}

/* Of what is never still only that is material which is not as it should be: in place of the value stands whether it
 * is so. */
static void put_odd_gauges(const struct hw_gpu *g, struct rec_gpu *to)
{
	uint32_t slow = g->slow_c.known && g->slow_c.v > 0 ? g->slow_c.v : GPU_SLOW_C;
	bool busy = g->util.known && g->util.v >= GPU_BUSY_UTIL;

	if (g->temp_c.known && g->temp_c.v + GPU_NEAR_C >= slow)
		MSG_SET(to, gpu, temp_c, 1 + (uint32_t)(g->temp_c.v >= slow));
	if (busy && g->pstate.known && g->pstate.v >= GPU_DEEP_PSTATE)
		MSG_SET(to, gpu, pstate, 1);
	if (busy && g->pcie_gen.known && g->pcie_gen_max.known && g->pcie_gen.v < g->pcie_gen_max.v)
		MSG_SET(to, gpu, pcie_gen, g->pcie_gen.v);
	if (g->procs_known && g->n_procs == 0 && g->mem_used.known && g->mem_used.v >> 30 >= GPU_LEFT_GIB)
		MSG_SET(to, gpu, mem_used, 1);
}

/* What is wrong with it for a while: of interest at once. Of why its clocks are
 * held down that is what is not usual: heat, hardware, power brake. */
#define THROTTLE_ODD UINT64_C(0xe8)

static void put_health(struct composer *c, const struct hw_gpu *g, struct rec_gpu *to)
{
	if (g->throttle.known)
		MSG_SET(to, gpu, throttle, c->all ? g->throttle.v : g->throttle.v & THROTTLE_ODD);
	PUT(to, gpu, g, pcie_gen_max, 15u);
	PUT(to, gpu, g, pcie_width, 64u);
	PUT(to, gpu, g, pcie_width_max, 64u);
	PUT(to, gpu, g, remap_corrected, 4294967294u);
	PUT(to, gpu, g, remap_uncorrected, 4294967294u);
	if (g->remap_uncorrected.known) {
		MSG_SET(to, gpu, remap_pending, g->remap_pending);
		MSG_SET(to, gpu, remap_failed, g->remap_failed);
	}
	PUT(to, gpu, g, nvlinks, 64u);
	PUT(to, gpu, g, nvlinks_all, 64u);
	if (g->persistence.known)
		MSG_SET(to, gpu, persistence, g->persistence.v != 0);
	PUT(to, gpu, g, slow_c, 1000u);
	PUT(to, gpu, g, fabric, 15u);
	PUT(to, gpu, g, fabric_status, 65535u);
	if (g->mig.known)
		MSG_SET(to, gpu, mig, g->mig.v != 0);
	if (g->ecc_on.known)
		MSG_SET(to, gpu, ecc_on, g->ecc_on.v != 0);
	PUT(to, gpu, g, compute_mode, 15u);
}

/* An Xid that has come has come, whoever hangs now. */
static void put_xids(const struct hw_gpu *g, struct rec_gpu *to)
{
	PUT(to, gpu, g, xids, 4294967294u);
	PUT(to, gpu, g, xid, 65535u);
	if (g->xid.known)
		MSG_SET(to, gpu, xid_wall_ms, g->xid_wall_ms);
	PUT(to, gpu, g, xid_faults, 4294967294u);
	PUT(to, gpu, g, xid_fault, 65535u);
	if (g->xid_fault.known)
		MSG_SET(to, gpu, xid_fault_wall_ms, g->xid_fault_wall_ms);
}

static void put_gpu_now(struct composer *c, const struct hw_gpu *g, struct rec_gpu *to)
{
	PUT(to, gpu, g, mem_total, UINT64_MAX);
	PUT(to, gpu, g, power_limit_mw, 10000000u);
	PUT(to, gpu, g, ecc_uncorrected, UINT64_MAX);
	PUT_TEXT(to, g, text);
	put_health(c, g, to);
	if (c->all)
		put_gauges(g, to);
	else
		put_odd_gauges(g, to);
	if (c->procs && g->n_procs > 0)
		put_procs(c, g, to);
}

static void put_gpu(struct composer *c, const struct source *src, const struct hw_gpu *g,
		    struct rec_gpu *to)
{
	PUT_TEXT(to, g, uuid);
	PUT_TEXT(to, g, name);
	PUT_TEXT(to, g, pci);
	PUT(to, gpu, g, numa, 65535u);
	put_xids(g, to);
	if (src->stuck)
		to->text = put_stuck(c, src);
	else
		put_gpu_now(c, g, to);
	/* also when they are too many for the frame */
	if (src->stuck || !g->procs_known || (!c->procs && g->n_procs > 0))
		MSG_SET(to, gpu, procs_unknown, true);
}

static void put_gpus(struct composer *c, const struct source *src)
{
	const struct hw_readings *from = src->taken;
	struct rec_readings *r = &c->m.u.readings;

	if (from->n_gpus == 0)
		return;
	r->gpus = rows(c, from->n_gpus, sizeof *r->gpus);
	if (!r->gpus)
		return;
	r->n_gpus = from->n_gpus;
	for (size_t i = 0; i < from->n_gpus; i++) {
		r->gpus[i].index = (uint32_t)i;
		put_gpu(c, src, &from->gpus[i], &r->gpus[i]);
	}
}

/* ---- ports ---------------------------------------------------------------- */

/* Without what counts up by itself. */
static void put_counters(struct composer *c, const struct hw_port *p, struct rec_port *to)
{
	PUT_TEXT(to, p, counters_text);
	if (c->all)
		PUT(to, port, p, counters_s, 3600u);
	if (c->all) {
		PUT(to, port, p, rx_bytes, UINT64_MAX);
		PUT(to, port, p, tx_bytes, UINT64_MAX);
	}
	if (p->n_counters == 0 || !(to->counters = rows(c, p->n_counters, sizeof *to->counters)))
		return;
	to->n_counters = p->n_counters;
	for (size_t i = 0; i < p->n_counters; i++) {
		to->counters[i].name = p->counters[i].name;
		PUT(&to->counters[i], counter, &p->counters[i], value, UINT64_MAX);
		PUT(&to->counters[i], counter, &p->counters[i], delta, UINT64_MAX);
		if (p->counters[i].stuck)
			MSG_SET(&to->counters[i], counter, stuck, true);
		PUT_TEXT(&to->counters[i], &p->counters[i], text);
	}
}

static void put_port_now(struct composer *c, const struct hw_port *p, struct rec_port *to)
{
	to->state = p->state;
	to->phys_state = p->phys_state;
	to->speed = p->speed;
	PUT(to, port, p, rate_mbps, 4294967294u);
	PUT(to, port, p, lanes, 64u);
	PUT(to, port, p, lid, 65535u);
	PUT(to, port, p, sm_lid, 65535u);
	PUT(to, port, p, gids, 65535u);
	PUT(to, port, p, gid_v2, 65535u);
	PUT(to, port, p, mtu, 65535u);
	PUT_TEXT(to, p, gid);
	PUT_TEXT(to, p, text);
	to->since_wall_ms = p->since_wall_ms;
	PUT(to, port, p, losses, 65535u);
	PUT(to, port, p, pkey, 65535u);
	PUT(to, port, p, pkeys, 65535u);
	PUT_TEXT(to, p, pkey_table);
	put_counters(c, p, to);
}

static void put_port(struct composer *c, const struct source *src, const struct hw_port *p,
		     struct rec_port *to)
{
	to->device = p->device;
	to->port = p->port;
	to->link_layer = p->link_layer;
	PUT(to, port, p, numa, 65535u);
	PUT_TEXT(to, p, fw);
	PUT_TEXT(to, p, board);
	PUT_TEXT(to, p, pci);
	PUT_TEXT(to, p, netdev);
	to->excluded = p->excluded;
	if (!src->stuck)
		put_port_now(c, p, to);
	else if (!p->excluded)
		to->text = put_stuck(c, src);
}

static void put_ports(struct composer *c, const struct source *src)
{
	const struct hw_readings *from = src->taken;
	struct rec_readings *r = &c->m.u.readings;

	if (from->n_ports == 0)
		return;
	r->ports = rows(c, from->n_ports, sizeof *r->ports);
	if (!r->ports)
		return;
	r->n_ports = from->n_ports;
	for (size_t i = 0; i < from->n_ports; i++)
		put_port(c, src, &from->ports[i], &r->ports[i]);
}

/* ---- host and topology ---------------------------------------------------- */

/* How full they are is never still; that one hangs is of interest. */
static void put_mounts(struct composer *c, const struct hw_host *h, struct rec_host *to)
{
	size_t n = h->n_mounts < 32 ? h->n_mounts : 32;

	if (n == 0 || !(to->mounts = rows(c, n, sizeof *to->mounts)))
		return;
	to->n_mounts = n;
	for (size_t i = 0; i < n; i++) {
		const struct hw_mount *m = &h->mounts[i];
		struct rec_mount *x = &to->mounts[i];

		x->path = m->path;
		PUT_TEXT(x, m, type);
		PUT_TEXT(x, m, text);
		if (m->hung)
			MSG_SET(x, mount, hung, true);
		if (m->hung && c->all)
			MSG_SET(x, mount, wait_ms, m->wait_ms);
		PUT(x, mount, m, total, UINT64_MAX);
		if (c->all)
			PUT(x, mount, m, available, UINT64_MAX);
		else if (m->available.known && m->total.known && mount_band(m) > 0)
			MSG_SET(x, mount, available, mount_band(m));
		if (c->all) {
			PUT(x, mount, m, inodes, UINT64_MAX);
			PUT(x, mount, m, inodes_free, UINT64_MAX);
		} else if (m->inodes.known && m->inodes_free.v < m->inodes.v / 100) {
			MSG_SET(x, mount, inodes_free, 0);
		}
	}
}

static void put_memory_band(const struct hw_host *h, struct rec_host *to)
{
	uint64_t b = h->mem_available.known && h->mem_total.known ?
			     band(h->mem_available.v, least(8 * GIB, h->mem_total.v / 20), h->mem_total.v / 100) : 0;

	if (b > 0)
		MSG_SET(to, host, mem_available, b);
}

#define PUT_BOOL(rec, name, from, field)                                                           \
	do {                                                                                       \
		if ((from)->field.known)                                                           \
			MSG_SET(rec, name, field, (from)->field.v != 0);                           \
	} while (0)

static void put_host(struct composer *c, const struct source *src)
{
	const struct hw_host *h = src->taken->host;
	struct rec_readings *r = &c->m.u.readings;
	struct rec_host *to = rows(c, 1, sizeof *to);

	if (!to)
		return;
	r->host = to;
	r->n_host = 1;
	PUT(to, host, h, cpus, 65535u);
	PUT(to, host, h, numa_nodes, 65535u);
	PUT(to, host, h, mem_total, UINT64_MAX);
	to->sm = h->sm;
	if (h->sm) {
		MSG_SET(to, host, sm_running, h->sm_running);
		MSG_SET(to, host, sm_enabled, h->sm_enabled);
	}
	if (src->stuck)
		return;
	PUT(to, host, h, memlock, UINT64_MAX);
	PUT(to, host, h, nofile, UINT64_MAX);
	PUT(to, host, h, nproc, UINT64_MAX);
	PUT(to, host, h, hugepages, UINT64_MAX);
	PUT(to, host, h, hugepage_size, UINT64_MAX);
	PUT_BOOL(to, host, h, peermem);
	PUT_BOOL(to, host, h, open_modules);
	PUT_BOOL(to, host, h, fabricmanager);
	PUT_BOOL(to, host, h, nvswitch);
	put_mounts(c, h, to);
	if (h->clock_known)
		MSG_SET(to, host, clock_synced, h->clock_synced);
	if (!c->all) {
		put_memory_band(h, to);
		return;
	}
	PUT(to, host, h, mem_available, UINT64_MAX);
	PUT(to, host, h, hugepages_free, UINT64_MAX);
	PUT(to, host, h, clock_error_us, UINT64_MAX);
}

/* The topology knows GPUs by their addresses, the message by their numbers. */
static const char *device_name(struct composer *c, const char *name)
{
	const struct rec_readings *r = &c->m.u.readings;

	if (!strchr(name, ':'))
		return name;
	for (size_t i = 0; i < r->n_gpus; i++)
		if (r->gpus[i].pci && strcmp(r->gpus[i].pci, name) == 0)
			return arena_printf(&c->m.arena, "gpu%zu", i);
	return NULL; /* not one of ours */
}

static void put_affinity(struct composer *c, const struct hw_readings *from)
{
	struct rec_readings *r = &c->m.u.readings;
	size_t n = from->n_affinity < 8192 ? from->n_affinity : 8192;

	if (n == 0)
		return;
	r->topology = rows(c, n, sizeof *r->topology);
	for (size_t i = 0; r->topology && i < n; i++) {
		struct rec_affinity *to = &r->topology[r->n_topology];

		to->a = device_name(c, from->affinity[i].a);
		to->b = device_name(c, from->affinity[i].b);
		to->how = from->affinity[i].how;
		if (to->a && to->b)
			r->n_topology++;
	}
}

static void put_numa(struct composer *c, const struct hw_readings *from)
{
	struct rec_readings *r = &c->m.u.readings;

	if (from->n_numa == 0)
		return;
	r->numa = rows(c, from->n_numa, sizeof *r->numa);
	if (!r->numa)
		return;
	r->n_numa = from->n_numa;
	for (size_t i = 0; i < from->n_numa; i++) {
		r->numa[i].numa = from->numa[i].numa;
		PUT_TEXT(&r->numa[i], &from->numa[i], cpus);
		PUT(&r->numa[i], numa, &from->numa[i], mem, UINT64_MAX);
	}
}

/* ---- the message ---------------------------------------------------------- */

static void put_events(struct composer *c, const struct source *src)
{
	const struct hw_readings *from = src->taken;
	struct rec_readings *r = &c->m.u.readings;

	if (from->n_events == 0)
		return;
	r->happenings = rows(c, from->n_events, sizeof *r->happenings);
	if (!r->happenings)
		return;
	r->n_happenings = from->n_events;
	for (size_t i = 0; i < from->n_events; i++) {
		const struct hw_event *e = &from->events[i];
		struct rec_happening *to = &r->happenings[i];

		to->kind = e->kind;
		to->text = e->text;
		to->mono_us = e->mono_us;
		PUT(to, happening, e, pid, 4194304u);
		PUT(to, happening, e, xid, 65535u);
		PUT(to, happening, e, job, UINT64_MAX);
		PUT_TEXT(to, e, pci);
		PUT_TEXT(to, e, device);
	}
}

static void put_readings(struct composer *c, const struct source *src)
{
	put_events(c, src);
	put_gpus(c, src);
	put_ports(c, src);
	if (src->taken->host)
		put_host(c, src);
}

static int encode(const struct sources *s, struct composer *c, struct buf *ret, struct err *e)
{
	int r;

	msg_init(&c->m, MSG_readings);
	put_sources(c, s);
	for (size_t i = 0; i < s->n; i++)
		if (s->list[i].taken)
			put_readings(c, &s->list[i]);
	for (size_t i = 0; c->topology && i < s->n; i++)
		if (s->list[i].taken) {
			put_affinity(c, s->list[i].taken); /* now that all GPUs have numbers */
			put_numa(c, s->list[i].taken);
		}
	r = c->no_memory ? err_set(e, ENOMEM, "out of memory") : msg_encode(&c->m, ret, e);
	msg_finish(&c->m);
	return r;
}

int compose(const struct sources *s, enum compose_what what, mono_t now, struct buf *ret,
	    struct err *e)
{
	size_t from = ret->len;

	for (int less = 0; less < 3; less++) {
		struct composer c = {
			.now = now,
			.all = what == COMPOSE_ALL,
			.topology = less < 1,
			.procs = less < 2,
		};
		int r = encode(s, &c, ret, e);

		if (r < 0)
			return r;
		if (ret->len - from <= FRAME_MAX)
			return 0;
		ret->len = from;
	}
	return err_set(e, EMSGSIZE, "the readings do not fit into a frame");
}

static uint64_t mix(uint64_t h, const char *text)
{
	do /* FNV-1a, the NUL included */
		h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	while (*text++);
	return h;
}

uint64_t compose_devices(const struct sources *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s->n; i++) {
		const struct hw_readings *r = s->list[i].taken;

		for (size_t k = 0; r && k < r->n_gpus; k++)
			h = mix(h, r->gpus[k].pci);
		for (size_t k = 0; r && k < r->n_ports; k++)
			h = mix(h, r->ports[k].device);
	}
	return h;
}
