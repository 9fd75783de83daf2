/* agent_readings.c - what this node's probe reads: kept, completed, passed on
 *
 * The probe knows devices and processes; whose job a process belongs to is
 * known here: its shim is among its ancestors (the shim reaps all that a job
 * leaves behind, so this holds for double forks as well).
 *
 * A probe that says nothing is no probe: its readings are withdrawn, so that
 * nobody takes old values for the present.
 */
#include "core/agent_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define STALE_MS 30000 /* it speaks every 10 s */
#define READ_FIRST_MS 20 /* after our 'ended': a reading from before that says nothing */
#define READ_PAUSE_MS 100
#define READ_PAUSE_MAX_MS 8000

/* ---- whose process ---------------------------------------------------------------- */

static const struct ajob *job_of_pid(const struct agent *a, uint32_t pid)
{
	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (j->shim_pid == pid)
			return j;
		for (uint32_t i = 0; i < j->prepare.u.prepare.nprocs; i++)
			if (j->ranks[i].pid == pid && strcmp(j->ranks[i].state, "running") == 0)
				return j;
	}
	return NULL;
}

static void find_job(const struct agent *a, struct rec_gpu_proc *p)
{
	const struct ajob *j = job_of_pid(a, p->pid);

	for (size_t i = 0; j == NULL && i < p->n_ancestors; i++)
		j = job_of_pid(a, (uint32_t)strtoul(p->ancestors[i], NULL, 10));
	if (j != NULL)
		MSG_SET(p, gpu_proc, job, j->job);
	p->n_ancestors = 0; /* nobody else's business */
}

static bool is_port(const struct rec_readings *r, const char *device)
{
	for (size_t i = 0; i < r->n_ports; i++)
		if (strcmp(r->ports[i].device, device) == 0)
			return true;
	return false;
}

/* The topology stays here; of it the coordinator wants this. */
static const char *nics_of(const struct rec_readings *r, uint32_t index, char out[512])
{
	char gpu[16];
	size_t len = 0;

	snprintf(gpu, sizeof(gpu), "gpu%u", index);
	out[0] = '\0';
	for (size_t i = 0; i < r->n_topology && len < 480; i++) {
		const struct rec_affinity *x = &r->topology[i];
		const char *nic = strcmp(x->a, gpu) == 0 ? x->b : strcmp(x->b, gpu) == 0 ? x->a : NULL;

		if (nic != NULL && strlen(nic) < 32 && is_port(r, nic))
			len += (size_t)snprintf(out + len, 512 - len, "%s%s:%s", len > 0 ? "," : "", nic, x->how);
	}
	return len > 0 && len < 512 ? out : NULL;
}

static void complete(const struct agent *a, struct arena *ar, struct rec_readings *r)
{
	char nics[512];

	for (size_t i = 0; i < r->n_gpus; i++) {
		struct rec_gpu *g = &r->gpus[i];

		if (a->conf.gpu_share_of > 1 && g->index % a->conf.gpu_share_of != a->conf.gpu_share)
			MSG_SET(g, gpu, shared_out, true);
		for (size_t k = 0; k < g->n_procs; k++)
			find_job(a, &g->procs[k]);
		if (nics_of(r, g->index, nics) != NULL)
			g->nics = arena_strdup(ar, nics);
	}
}

/* ---- kept and passed on -------------------------------------------------------------- */

/* What is said again after a registration has grown older here. */
static struct rec_source *aged(struct agent *a, const struct rec_readings *r)
{
	struct rec_source *v = arena_memdup(&a->out->arena, r->sources, r->n_sources * sizeof(*v));

	for (size_t i = 0; v != NULL && i < r->n_sources; i++)
		if (MSG_HAS(&v[i], source, age_ms))
			v[i].age_ms += (uint64_t)mono_sub_ms(a->now, a->readings_kept);
	if (v == NULL)
		a->oom = true;
	return v;
}

void readings_send(struct agent *a)
{
	struct msg m;

	if (!a->have_readings || a->session != SE_READY)
		return;
	msg_init(&m, MSG_readings);
	m.u.readings = a->readings.u.readings;
	m.u.readings.sources = aged(a, &a->readings.u.readings);
	if (m.u.readings.sources == NULL)
		return;
	m.u.readings.n_topology = 0;
	m.u.readings.n_numa = 0;
	m.u.readings.n_happenings = 0;
	act_send(a->out, a->coord_link, &m);
}

static void keep(struct agent *a, const struct msg *m)
{
	struct msg copy;
	int r = msg_copy(m, &copy);

	if (r == -ENOMEM)
		a->oom = true;
	if (r < 0)
		return;
	readings_free(a);
	a->readings = copy;
	a->have_readings = true;
	a->readings_kept = a->now;
	complete(a, &a->readings.arena, &a->readings.u.readings);
	readings_send(a);
}

/* No readings, and why. */
static void withdraw(struct agent *a, const char *why)
{
	struct rec_source s = { .name = "probe" };
	char text[256];
	struct msg m;

	snprintf(text, sizeof(text), "%s", why);
	s.text = utf8_scrub(text);
	msg_init(&m, MSG_readings);
	m.u.readings.sources = &s;
	m.u.readings.n_sources = 1;
	keep(a, &m);
	a->readings_until = MONO_NEVER;
}

void readings_on_event(struct agent *a)
{
	if (a->ev->msg == NULL) {
		withdraw(a, a->ev->text != NULL ? a->ev->text : "the probe is not running");
		return;
	}
	if (a->ev->msg->type != MSG_readings)
		return;
	happened_on_readings(a, &a->ev->msg->u.readings);
	keep(a, a->ev->msg);
	a->readings_until = mono_add_ms(a->now, STALE_MS);
}

/* The probe speaks by itself only when processes come and go, and each 10 s. The
 * driver gives memory back some time after: it is asked at once, and some times more. */
void readings_wanted(struct agent *a)
{
	if (!a->have_readings || a->readings.u.readings.n_gpus == 0)
		return;
	a->read_at = mono_add_ms(a->now, READ_FIRST_MS);
	a->read_pause_ms = READ_PAUSE_MS;
}

static void ask_probe(struct agent *a)
{
	if (!mono_due(a->read_at, a->now))
		return;
	act_add(a->out, ACT_READ);
	a->read_at = a->read_pause_ms <= READ_PAUSE_MAX_MS ? mono_add_ms(a->now, a->read_pause_ms) : MONO_NEVER;
	a->read_pause_ms *= 2;
}

void readings_deadlines_agent(struct agent *a)
{
	ask_probe(a);
	if (mono_due(a->readings_until, a->now))
		withdraw(a, "the probe has said nothing for 30 s (a driver call that hangs?)");
}

void readings_free(struct agent *a)
{
	if (a->have_readings)
		msg_finish(&a->readings);
	a->have_readings = false;
}

void readings_topology(struct agent *a, const struct rec_topology_get *g)
{
	struct msg m;

	msg_init(&m, MSG_topology);
	m.u.topology.rid = g->rid;
	if (a->have_readings) {
		m.u.topology.topology = a->readings.u.readings.topology;
		m.u.topology.n_topology = a->readings.u.readings.n_topology;
		m.u.topology.numa = a->readings.u.readings.numa;
		m.u.topology.n_numa = a->readings.u.readings.n_numa;
	}
	session_send(a, &m);
}

/* ---- binding ---------------------------------------------------------------------------- */

static bool in_list(const char *list, uint32_t index)
{
	while (list != NULL && *list != '\0') {
		char *end;

		if (strtoul(list, &end, 10) == index && end != list)
			return true;
		list = *end == ',' ? end + 1 : "";
	}
	return false;
}

/* A GPU of the list lies on this NUMA node. */
static bool has_gpu(const struct rec_readings *r, const char *gpus, uint32_t numa)
{
	for (size_t i = 0; i < r->n_gpus; i++)
		if (in_list(gpus, r->gpus[i].index) && r->gpus[i].numa == numa)
			return true;
	return false;
}

static bool all_numa_known(const struct rec_readings *r, const char *gpus)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_gpus; i++) {
		if (!in_list(gpus, r->gpus[i].index))
			continue;
		if (!MSG_HAS(&r->gpus[i], gpu, numa))
			return false;
		n++;
	}
	return n > 0;
}

static const struct rec_gpu *gpu_named(const struct rec_readings *r, const char *id, size_t len)
{
	char by_index[16];

	for (size_t i = 0; i < r->n_gpus; i++) {
		const char *name = r->gpus[i].uuid;

		snprintf(by_index, sizeof(by_index), "#%u", r->gpus[i].index);
		if (*id == '#')
			name = by_index;
		if (name != NULL && strlen(name) == len && memcmp(name, id, len) == 0)
			return &r->gpus[i];
	}
	return NULL;
}

/* CUDA may count on without a GPU that failed and that the driver still lists:
 * then names are given, else indices, which more programs understand. */
static bool by_name(const struct rec_readings *r, const char *ids)
{
	for (size_t i = 0; i < r->n_gpus; i++)
		if (r->gpus[i].text != NULL)
			return strchr(ids, '#') == NULL;
	return false;
}

bool readings_gpus(struct agent *a, struct arena *ar, const struct rec_prepare *p,
		   struct job_gpus *ret)
{
	const struct rec_readings *r = &a->readings.u.readings;
	const char *list = "";

	*ret = (struct job_gpus){ p->gpus, p->gpus };
	if (p->gpu_ids == NULL)
		return true;
	/* The probe is being started anew: the coordinator's word must do. How it
	 * counted may be out of date by now, what it named is not. */
	if (!a->have_readings || r->n_gpus == 0) {
		if (strchr(p->gpu_ids, '#') == NULL)
			ret->visible = p->gpu_ids;
		return true;
	}
	for (const char *x = p->gpu_ids; *x != '\0'; x += strcspn(x, ","), x += *x == ',') {
		const struct rec_gpu *g = gpu_named(r, x, strcspn(x, ","));

		if (g == NULL)
			return false;
		list = arena_printf(ar, "%s%s%u", list, *list != '\0' ? "," : "", g->index);
		if (list == NULL)
			return false;
	}
	ret->indices = list;
	ret->visible = by_name(r, p->gpu_ids) ? p->gpu_ids : list;
	return true;
}

/* CUDA_VISIBLE_DEVICES as of now; NULL: GPUs are not managed here. */
/* The probe has looked, and there are none; it has not ended since, and its driver does answer. */
static bool surely_none(const struct agent *a)
{
	const struct rec_readings *r = &a->readings.u.readings;

	for (size_t i = 0; i < r->n_sources; i++) {
		const struct rec_source *x = &r->sources[i];

		if (!x->ok && !x->absent && (strcmp(x->name, "nvml") == 0 || strcmp(x->name, "probe") == 0))
			return false;
	}
	return r->n_gpus == 0;
}

const char *readings_visible(struct agent *a, const struct rec_prepare *p, const char **ret_indices)
{
	struct job_gpus gpus;
	bool there = readings_gpus(a, &a->out->arena, p, &gpus);

	*ret_indices = gpus.indices;
	if (p->gpus == NULL && (a->have_readings ? !surely_none(a) : a->conf.probe))
		return ""; /* there were none when it was placed; now there are, or nobody can say */
	return there ? gpus.visible : p->gpu_ids; /* gone since: CUDA says so */
}

/* The CPUs near the job's GPUs; NULL: leave it alone, since all are near, or
 * nobody knows. */
const char *readings_cpus(struct agent *a, struct arena *ar, const char *gpus)
{
	const struct rec_readings *r = &a->readings.u.readings;
	const char *cpus = "";
	size_t used = 0;

	if (!a->have_readings || gpus == NULL || !all_numa_known(r, gpus))
		return NULL;
	for (size_t i = 0; i < r->n_numa; i++) {
		const struct rec_numa *n = &r->numa[i];

		if (n->cpus == NULL || n->cpus[0] == '\0' || !has_gpu(r, gpus, n->numa))
			continue;
		cpus = arena_printf(ar, "%s%s%s", cpus, used++ ? "," : "", n->cpus);
		if (cpus == NULL)
			return NULL;
	}
	return used > 0 && used < r->n_numa && strlen(cpus) <= 1024 ? cpus : NULL;
}
