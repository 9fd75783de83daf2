/* agent_happened.c - what happened on this host and may be why a process ended
 *
 * From the kernel's log (the probe reads it), and from what differs between
 * two readings: an Xid was counted, a port is not active any more. The
 * coordinator is told at once; the last ones are told again once clocks were
 * compared in a new session, for it may be a new coordinator.
 */
#include "core/agent_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define SAME_US 3000000 /* the log and NVML tell of the same thing so close together */
#define AGAIN_US 120000000 /* older ones are told no more */

static struct rec_happening record(const struct agent *a, const struct agent_happening *h)
{
	struct rec_happening r = { .kind = h->kind, .text = h->text, .mono_us = h->mono_us };
	uint64_t error;
	int64_t at;

	if (h->pid != 0)
		MSG_SET(&r, happening, pid, h->pid);
	if (h->job != 0)
		MSG_SET(&r, happening, job, h->job);
	if (h->has_rank)
		MSG_SET(&r, happening, rank, h->rank);
	if (h->xid != 0)
		MSG_SET(&r, happening, xid, h->xid);
	r.gpu_id = h->gpu_id[0] != '\0' ? h->gpu_id : NULL;
	r.device = h->device[0] != '\0' ? h->device : NULL;
	if (h->mono_us > 0 && h->mono_us < INT64_MAX / 1000 &&
	    skew_map(&a->mono_skew, (mono_t){ h->mono_us * 1000 }, &at, &error)) {
		MSG_SET(&r, happening, at_mono_us, at);
		MSG_SET(&r, happening, at_error_us, error);
	}
	return r;
}

static void tell(struct agent *a, const struct agent_happening *v, size_t n)
{
	struct rec_happening r[HAPPENINGS_MAX];
	struct msg m;

	for (size_t i = 0; i < n; i++)
		r[i] = record(a, &v[i]);
	msg_init(&m, MSG_happened);
	m.u.happened.happenings = r;
	m.u.happened.n_happenings = n;
	if (n > 0)
		session_send(a, &m);
}

void happened_again(struct agent *a)
{
	size_t i = 0;

	while (i < a->n_happened && a->happened[i].mono_us < a->now.ns / 1000 - AGAIN_US)
		i++;
	tell(a, &a->happened[i], a->n_happened - i);
}

static bool is_same(const struct agent_happening *x, const struct agent_happening *y)
{
	return strcmp(x->kind, y->kind) == 0 && x->xid == y->xid && strcmp(x->gpu_id, y->gpu_id) == 0 &&
	       strcmp(x->device, y->device) == 0 && (x->xid != 0 || x->device[0] != '\0') &&
	       llabs(x->mono_us - y->mono_us) < SAME_US;
}

static void add(struct agent *a, struct agent_happening *h)
{
	for (size_t i = 0; i < a->n_happened; i++) {
		if (is_same(&a->happened[i], h))
			return;
		if (a->happened[i].mono_us == h->mono_us) /* it names it */
			h->mono_us++;
	}
	utf8_scrub(h->text);
	if (a->n_happened == HAPPENINGS_MAX)
		memmove(&a->happened[0], &a->happened[1], --a->n_happened * sizeof(*h));
	a->happened[a->n_happened++] = *h;
	tell(a, h, 1);
}

/* ---- whose, and which ----------------------------------------------------------------- */

/* The rank, or a worker of the launcher that it is. */
static bool is_of(const struct local_rank *r, uint32_t pid)
{
	bool found = r->pid == pid;

	for (size_t i = 0; !found && i < r->below.n_workers; i++)
		found = r->below.workers[i].pid == pid;
	return found;
}

/* It is dead by now: known are the ranks and those below, and who used a GPU a moment ago. */
static void find_process(const struct agent *a, struct agent_happening *h)
{
	const struct rec_readings *r = a->have_readings ? &a->readings.u.readings : NULL;

	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		for (uint32_t i = 0; h->pid != 0 && i < j->prepare.u.prepare.nprocs; i++)
			if (is_of(&j->ranks[i], h->pid)) {
				h->job = j->job;
				h->has_rank = true;
				h->rank = j->prepare.u.prepare.rank_base + i;
			}
	}
	for (size_t i = 0; h->job == 0 && r != NULL && i < r->n_gpus; i++)
		for (size_t k = 0; k < r->gpus[i].n_procs; k++)
			if (h->pid != 0 && r->gpus[i].procs[k].pid == h->pid)
				h->job = r->gpus[i].procs[k].job;
}

static void put_gpu(const struct rec_gpu *g, struct agent_happening *h)
{
	if (g->uuid != NULL)
		snprintf(h->gpu_id, sizeof(h->gpu_id), "%s", g->uuid);
	else
		snprintf(h->gpu_id, sizeof(h->gpu_id), "#%u", g->index);
	snprintf(h->text, sizeof(h->text), "Xid %u on GPU %u", h->xid, g->index);
}

static void find_device(const struct rec_readings *r, const char *pci, struct agent_happening *h)
{
	size_t n = pci != NULL ? strlen(pci) : 0;

	for (size_t i = 0; n > 0 && h->xid != 0 && i < r->n_gpus; i++)
		if (r->gpus[i].pci != NULL && strncmp(r->gpus[i].pci, pci, n) == 0) /* the log has no function */
			put_gpu(&r->gpus[i], h);
	for (size_t i = 0; n > 0 && strcmp(h->kind, "port") == 0 && i < r->n_ports; i++)
		if (r->ports[i].pci != NULL && strncmp(r->ports[i].pci, pci, n) == 0) {
			snprintf(h->device, sizeof(h->device), "%s/%u", r->ports[i].device, r->ports[i].port);
			snprintf(h->text, sizeof(h->text), "port %s went down", h->device);
		}
}

/* The log's address in the words of people: " (GPU 3)". */
static void name_device(const struct rec_readings *r, const char *pci, struct agent_happening *h)
{
	size_t len = strlen(h->text);

	for (size_t i = 0; pci != NULL && i < r->n_gpus; i++)
		if (r->gpus[i].pci != NULL && strcmp(r->gpus[i].pci, pci) == 0) {
			snprintf(h->text + len, sizeof(h->text) - len, " (GPU %u)", r->gpus[i].index);
			snprintf(h->gpu_id, sizeof(h->gpu_id), "%s", r->gpus[i].uuid != NULL ? r->gpus[i].uuid : "");
			return;
		}
	for (size_t i = 0; pci != NULL && i < r->n_ports; i++)
		if (r->ports[i].pci != NULL && strcmp(r->ports[i].pci, pci) == 0) {
			snprintf(h->text + len, sizeof(h->text) - len, " (%.64s)", r->ports[i].device);
			snprintf(h->device, sizeof(h->device), "%s", r->ports[i].device);
			return;
		}
}

static bool ends_processes(const char *kind)
{
	static const char *const kinds[] = { "oom", "xid", "fault", "port" };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kind, kinds[i]) == 0)
			return true;
	return false;
}

/* ---- the kernel's log --------------------------------------------------------------------- */

static void from_log(struct agent *a, const struct rec_readings *r, const struct rec_happening *x)
{
	struct agent_happening h = { .mono_us = x->mono_us, .pid = x->pid, .xid = x->xid };

	if (strcmp(x->kind, "oom-job") == 0) { /* comes just before the line that says it was done */
		a->oom_pid = x->pid;
		a->oom_job = x->job;
		return;
	}
	snprintf(h.kind, sizeof(h.kind), "%s", x->kind);
	snprintf(h.text, sizeof(h.text), "%s", x->text);
	if (strcmp(h.kind, "oom") == 0 && x->pid == a->oom_pid)
		h.job = a->oom_job;
	find_process(a, &h);
	if (x->device != NULL)
		snprintf(h.device, sizeof(h.device), "%s", x->device);
	if (ends_processes(h.kind))
		find_device(r, x->pci, &h);
	else
		name_device(r, x->pci, &h);
	add(a, &h);
}

/* ---- what differs between readings ----------------------------------------------------------- */

/* The probe tells when, by the wall clock: as long ago as that says now, within reason. */
static int64_t when(const struct agent *a, int64_t wall_ms)
{
	int64_t ago;

	if (wall_ms == 0 || __builtin_sub_overflow(a->ev->wall_ms, wall_ms, &ago) || ago < 0 || ago > 10000)
		ago = 0;
	return a->now.ns / 1000 - 1000 * ago;
}

/* A reset of the GPU makes the count begin anew: then the time of the last one tells. */
static bool same_xids(const struct rec_gpu *was, const struct rec_gpu *is)
{
	return was != NULL && is->xids <= was->xids && is->xid_wall_ms <= was->xid_wall_ms;
}

static void xids(struct agent *a, const struct rec_gpu *was, const struct rec_gpu *is)
{
	struct agent_happening h = { .kind = "xid", .xid = is->xid };

	if (!MSG_HAS(is, gpu, xids) || is->xids == 0 || same_xids(was, is))
		return;
	h.mono_us = when(a, is->xid_wall_ms);
	put_gpu(is, &h);
	add(a, &h);
}

static void ports(struct agent *a, const struct rec_port *was, const struct rec_port *is)
{
	struct agent_happening h = { .kind = "port" };

	if (is->excluded || was->state == NULL || is->state == NULL || strcmp(was->state, "Active") != 0 ||
	    strcmp(is->state, "Active") == 0)
		return;
	h.mono_us = when(a, is->since_wall_ms);
	snprintf(h.device, sizeof(h.device), "%s/%u", is->device, is->port);
	if (strcmp(is->state, "Down") == 0)
		snprintf(h.text, sizeof(h.text), "port %s went down", h.device);
	else
		snprintf(h.text, sizeof(h.text), "port %s went from Active to %s", h.device, is->state);
	add(a, &h);
}

static const struct rec_gpu *same_gpu(const struct rec_readings *r, const struct rec_gpu *g)
{
	for (size_t i = 0; i < r->n_gpus; i++)
		if (g->uuid != NULL && r->gpus[i].uuid != NULL ? strcmp(r->gpus[i].uuid, g->uuid) == 0 :
								 r->gpus[i].index == g->index)
			return &r->gpus[i];
	return NULL;
}

static void compare(struct agent *a, const struct rec_readings *was, const struct rec_readings *is)
{
	for (size_t i = 0; i < is->n_gpus; i++)
		xids(a, same_gpu(was, &is->gpus[i]), &is->gpus[i]);
	for (size_t i = 0; i < is->n_ports; i++)
		for (size_t k = 0; k < was->n_ports; k++)
			if (strcmp(was->ports[k].device, is->ports[i].device) == 0 &&
			    was->ports[k].port == is->ports[i].port)
				ports(a, &was->ports[k], &is->ports[i]);
}

void happened_on_readings(struct agent *a, const struct rec_readings *r)
{
	for (size_t i = 0; i < r->n_happenings; i++) {
		if (r->happenings[i].mono_us <= a->log_mono_us)
			continue; /* told again with every reading */
		a->log_mono_us = r->happenings[i].mono_us;
		from_log(a, r, &r->happenings[i]);
	}
	/* Withdrawn ones have no GPUs: what is there again has not happened then. */
	if (a->have_readings && a->readings.u.readings.n_gpus + a->readings.u.readings.n_ports > 0)
		compare(a, &a->readings.u.readings, r);
}
