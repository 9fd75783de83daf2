/* gpus.c - GPUs of simulated hosts, what befalls them, and the probe that reads them
 *
 * Each agent has a probe of its own. It reads at some moment and is heard at a
 * later one, usually soon, sometimes seconds after; between two readings lie up
 * to three seconds, in which it knows nothing. A process of a job has its shim
 * among its ancestors; what a dead shim has left has not.
 *
 * A GPU that is lost is still listed, with the reason, but CUDA counts on
 * without it; one that is gone is not listed either. Both change what an index
 * means, and so does their return.
 */
#include "tests/sim/gpus.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

#define PROCS_MAX 24
#define GPU_TOTAL UINT64_C(80000000000)
#define GPU_BASE UINT64_C(600000000) /* the driver's own */
#define GPU_FULL UINT64_C(40000000000)

enum { PROBE_READS, PROBE_TELLS };

struct snapshot {
	struct msg m;
	uint32_t order;
	int64_t read_at;
	const char *out; /* there is none, and why */
};

void gpus_host(struct sim *s, uint32_t host, uint32_t n)
{
	struct agent_actor *a = &s->agents[host];

	a->gpus = world_alloc(&s->w, sizeof(*a->gpus));
	a->gpus->n = n;
	a->gpus->order = 1;
	for (uint32_t i = 0; i < n; i++)
		snprintf(a->gpus->v[i].uuid, sizeof(a->gpus->v[i].uuid),
			 "GPU-%08x-0000-4000-8000-%012x", host + 1, 0xa0 + i);
	s->gpus = true;
}

void gpus_share(struct sim *s, uint32_t with, uint32_t host, uint32_t share, uint32_t of)
{
	struct agent_actor *a = &s->agents[host], *b = &s->agents[with];

	a->gpus = b->gpus;
	a->share = share;
	a->share_of = of;
	memcpy(a->boot_id, b->boot_id, sizeof(a->boot_id));
}

uint32_t gpus_bit(const struct agent_actor *a, const char *uuid, size_t len)
{
	const struct gpu_host *g = a->gpus;

	for (uint32_t i = 0; g != NULL && i < g->n; i++)
		if (strlen(g->v[i].uuid) == len && memcmp(g->v[i].uuid, uuid, len) == 0)
			return 1u << i;
	return 0;
}

uint32_t gpus_mask(const struct agent_actor *a, const char *uuids)
{
	uint32_t mask = 0;

	for (const char *x = uuids; x != NULL && *x != '\0'; x += strcspn(x, ","), x += *x == ',')
		mask |= gpus_bit(a, x, strcspn(x, ","));
	return mask;
}

/* ---- what befalls them ------------------------------------------------------------- */

uint32_t gpus_some(struct sim *s, uint32_t host)
{
	const struct gpu_host *g = s->agents[host].gpus;

	return g != NULL ? (uint32_t)rng_below(&s->w.rng, g->n) : 0;
}

static void reorder(struct gpu_host *g, bool *what, bool on)
{
	g->order += *what != on;
	*what = on;
}

void gpus_fault(struct sim *s, uint32_t host, uint32_t gpu, int kind, bool on)
{
	struct agent_actor *a = &s->agents[host];
	struct gpu_host *g = a->gpus;

	if (g == NULL)
		return;
	switch (kind) {
	case FT_GPU_STRANGER:
		s->strangers = true;
		g->v[gpu].stranger = on ? 3000000 + s->next_pid++ : 0;
		break;
	case FT_GPU_LOST:
		reorder(g, &g->v[gpu].lost, on);
		break;
	case FT_GPU_GONE:
		reorder(g, &g->v[gpu].gone, on);
		break;
	case FT_GPU_UNCLEAR:
		g->v[gpu].unclear = on;
		break;
	case FT_DRIVER_BROKEN:
		g->broken = on;
		break;
	case FT_DRIVER_ABSENT:
		reorder(g, &g->absent, on);
		break;
	case FT_PROBE_SILENT:
		a->probe_silent = on;
		break;
	case FT_PORT_BAD:
		g->port_bad = on;
		break;
	case FT_PROBE_OUT:
		a->probe_out = on;
		break;
	default:
		break;
	}
}

void gpus_heal(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		for (int kind = FT_GPU_STRANGER; kind < FT_END; kind++)
			for (uint32_t k = 0; s->agents[i].gpus != NULL && k < s->agents[i].gpus->n; k++)
				gpus_fault(s, i, k, kind, false);
}

void gpus_rebooted(struct agent_actor *a)
{
	for (uint32_t i = 0; a->gpus != NULL && i < a->gpus->n; i++)
		a->gpus->v[i].stranger = 0, a->gpus->v[i].full_until = 0;
}

/* Its memory comes back soon, or later, or much later. */
void gpus_left(struct sim *s, const struct shim_actor *h)
{
	struct gpu_host *g = s->agents[h->host].gpus;
	int64_t lag;

	if (g == NULL || !h->started || h->gpus == 0)
		return;
	lag = rng_range(&s->w.rng, 0, rng_chance(&s->w.rng, 700) ? 200 * MS : 3 * SECOND);
	if (s->gpus_linger && rng_chance(&s->w.rng, 60))
		lag = rng_range(&s->w.rng, 15 * SECOND, 50 * SECOND);
	for (uint32_t i = 0; i < g->n; i++) {
		if (!(h->gpus >> i & 1))
			continue;
		g->v[i].left_at = s->w.now;
		if (g->v[i].full_until < s->w.now + lag)
			g->v[i].full_until = s->w.now + lag;
	}
}

/* ---- reading ------------------------------------------------------------------------- */

static void add_proc(struct sim *s, struct rec_gpu *g, uint32_t pid, uint32_t parent)
{
	struct rec_gpu_proc *p = &g->procs[g->n_procs];

	if (g->n_procs == PROCS_MAX)
		return;
	g->n_procs++;
	p->pid = pid;
	p->user = parent > 1 ? "ann" : "eve";
	p->name = "python";
	p->ancestors = world_alloc(&s->w, 3 * sizeof(*p->ancestors));
	if (pid % 2 == 0) /* not its child */
		p->ancestors[p->n_ancestors++] = world_printf(&s->w, "%u", pid + 1000000);
	if (parent > 1)
		p->ancestors[p->n_ancestors++] = world_printf(&s->w, "%u", parent);
	p->ancestors[p->n_ancestors++] = "1";
}

/* All of a job's processes here use all of its GPUs. */
static void add_procs(struct sim *s, const struct agent_actor *a, uint32_t gpu, struct rec_gpu *r)
{
	for (uint32_t i = 0; i < s->n_shims; i++) {
		const struct shim_actor *h = s->shims[i];

		if (s->agents[h->host].gpus != a->gpus || !h->started || !(h->gpus >> gpu & 1))
			continue;
		for (uint32_t k = 0; k < h->n_workers; k++)
			if (h->workers[k].alive)
				add_proc(s, r, h->workers[k].pid, h->proc.up ? h->pid : 1);
	}
	if (a->gpus->v[gpu].stranger != 0)
		add_proc(s, r, a->gpus->v[gpu].stranger, 1);
}

/* Processes of jobs fill it; the driver may be slow to give that back. */
static uint64_t mem_used(const struct sim *s, const struct agent_actor *a, uint32_t gpu)
{
	for (uint32_t i = 0; i < s->n_shims; i++) {
		const struct shim_actor *h = s->shims[i];

		if (s->agents[h->host].gpus == a->gpus && h->started && (h->gpus >> gpu & 1) && simshim_alive(h) > 0)
			return GPU_FULL;
	}
	return s->w.now < a->gpus->v[gpu].full_until ? GPU_FULL : GPU_BASE;
}

static void read_gpu(struct sim *s, const struct agent_actor *a, uint32_t gpu, struct rec_readings *to)
{
	const struct sim_gpu *g = &a->gpus->v[gpu];
	struct rec_gpu *r = &to->gpus[to->n_gpus];

	r->index = (uint32_t)to->n_gpus++;
	r->uuid = g->uuid;
	r->procs = world_alloc(&s->w, PROCS_MAX * sizeof(*r->procs));
	if (g->lost || a->gpus->broken) {
		r->text = "fell off the bus";
	} else {
		MSG_SET(r, gpu, mem_total, GPU_TOTAL);
		MSG_SET(r, gpu, mem_used, mem_used(s, a, gpu));
		if (!g->unclear)
			add_procs(s, a, gpu, r);
	}
	if (r->text != NULL || g->unclear)
		MSG_SET(r, gpu, procs_unknown, true);
}

static void read_port(struct sim *s, const struct agent_actor *a, struct rec_readings *r, struct rec_source *src)
{
	struct rec_port *p = world_alloc(&s->w, sizeof(*p));

	*src = (struct rec_source){ .name = "verbs", .ok = true };
	*p = (struct rec_port){ .device = "mlx5_0", .port = 1, .state = a->gpus->port_bad ? "Initializing" : "Active",
				.phys_state = "LinkUp", .link_layer = "InfiniBand" };
	MSG_SET(p, port, lid, 7);
	MSG_SET(p, port, sm_lid, 1);
	r->ports = p;
	r->n_ports = 1;
	r->n_sources++;
}

static void read_all(struct sim *s, const struct agent_actor *a, struct snapshot *to)
{
	const struct gpu_host *g = a->gpus;
	struct rec_readings *r = &to->m.u.readings;
	struct rec_source *src = world_alloc(&s->w, 2 * sizeof(*src));

	msg_init(&to->m, MSG_readings);
	to->order = g->order;
	to->read_at = s->w.now;
	src->name = "nvml";
	src->ok = !g->broken && !g->absent;
	src->text = g->absent ? "no driver" : g->broken ? "driver and library differ" : "driver 580";
	if (g->absent)
		MSG_SET(src, source, absent, true);
	r->sources = src;
	r->n_sources = 1;
	if (s->policy)
		read_port(s, a, r, &src[1]);
	r->gpus = world_alloc(&s->w, GPUS_MAX * sizeof(*r->gpus));
	for (uint32_t i = 0; i < g->n && !g->absent; i++)
		if (!g->v[i].gone)
			read_gpu(s, a, i, r);
}

/* ---- the probe ------------------------------------------------------------------------- */

static void reads_in(struct sim *s, struct agent_actor *a, int64_t lo, int64_t hi)
{
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, lo, hi), EV_PROBE, &a->proc, PROBE_READS, NULL);
}

void gpus_probe_starts(struct sim *s, struct agent_actor *a)
{
	a->order_known = 0;
	a->probe_out_told = false;
	if (a->gpus != NULL && a->proc.up)
		reads_in(s, a, 5 * MS, 1500 * MS);
}

static void reads(struct sim *s, struct agent_actor *a)
{
	struct snapshot *n = world_alloc(&s->w, sizeof(*n));
	bool late = rng_chance(&s->w.rng, 100);

	if (a->probe_silent || (a->probe_out && a->probe_out_told)) {
		reads_in(s, a, 200 * MS, SECOND);
		return;
	}
	a->probe_out_told = a->probe_out;
	if (a->probe_out)
		n->out = "the probe has ended";
	else
		read_all(s, a, n);
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS, (late ? 4000 : 40) * MS), EV_PROBE, &a->proc,
		 PROBE_TELLS, n);
}

static void tells(struct sim *s, struct agent_actor *a, const struct snapshot *n)
{
	struct agent_event ev = { .type = AEV_READINGS, .text = n->out };

	if (n->out == NULL) {
		struct rec_source *src = n->m.u.readings.sources;

		MSG_SET(src, source, age_ms, (uint64_t)((s->w.now - n->read_at + MS - 1) / MS));
		ev.msg = &n->m;
	}
	LINE(&s->w, a->name, "its probe: %s", n->out != NULL ? n->out : "readings");
	a->order_known = n->out != NULL ? 0 : n->order;
	a->read_at = n->read_at;
	reads_in(s, a, 50 * MS, 3 * SECOND);
	simagent_feed(s, a, &ev);
}

void gpus_probe_event(struct sim *s, struct agent_actor *a, const struct event *e)
{
	if (e->a == PROBE_READS)
		reads(s, a);
	else
		tells(s, a, e->p);
}
