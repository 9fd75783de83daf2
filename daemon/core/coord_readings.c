/* coord_readings.c - what each node's probe reads, its clock, and its GPUs
 *
 * Of each node the last readings are kept as they came (5-8 KB with 8 GPUs and
 * 9 ports), with its link only: they are not stored, an agent sends them again
 * when it registers. GPUs are counted by index, 64 of a node at most.
 *
 * Not known is not none: a node whose probe is silent or whose driver is
 * broken gets no job that wants GPUs, and shows "?".
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_MS 5000 /* a registered agent's first readings are waited for so long */

void node_free(struct node *n)
{
	msg_finish(&n->readings);
	free(n->addrs);
	free(n);
}

/* Own copy: what a message points to goes with it. */
static int copy_msg(const struct msg *m, struct msg *ret)
{
	struct buf b;
	int r;

	buf_init(&b);
	r = msg_encode(m, &b, NULL);
	if (r == 0)
		r = msg_decode(b.data, b.len, ret, NULL);
	buf_finish(&b);
	return r;
}

static void forget_readings(struct node *n)
{
	if (n->have_readings)
		msg_finish(&n->readings);
	memset(&n->readings, 0, sizeof(n->readings));
	n->have_readings = false;
}

void readings_on(struct coord *c, struct node *n, const struct msg *m)
{
	uint64_t free_before = node_gpus_free(c, n, false);
	enum gpu_truth truth_before = node_gpu_truth(n);
	struct msg copy;

	if (copy_msg(m, &copy) < 0) {
		c->oom = true;
		return;
	}
	forget_readings(n);
	n->readings = copy;
	n->have_readings = true;
	n->readings_at = c->now;
	n->awaits_first = false;
	if (node_gpus_free(c, n, false) != free_before || node_gpu_truth(n) != truth_before)
		c->have_dirty = true; /* somebody may have waited for these */
}

void readings_registered(struct coord *c, struct node *n, bool probe)
{
	forget_readings(n);
	n->has_skew = false;
	n->probe = n->awaits_first = probe;
	n->first_until = mono_add_ms(c->now, FIRST_MS);
	if (probe)
		coord_wake_at(c, n->first_until);
}

void readings_deadlines(struct coord *c)
{
	for (size_t i = 0; i < c->n_nodes; i++) {
		struct node *n = c->nodes[i];

		if (!n->awaits_first)
			continue;
		if (mono_due(n->first_until, c->now)) {
			n->awaits_first = false;
			c->have_dirty = true;
		} else {
			coord_wake_at(c, n->first_until);
		}
	}
}

const struct rec_readings *node_readings(const struct node *n)
{
	return n->have_readings && n->link != NULL ? &n->readings.u.readings : NULL;
}

const struct rec_source *readings_source(const struct rec_readings *r, const char *name)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if (strcmp(r->sources[i].name, name) == 0)
			return &r->sources[i];
	return NULL;
}

/* ---- clocks -------------------------------------------------------------------- */

void readings_on_ping(struct coord *c, struct node *n, const struct rec_ping *p)
{
	if (!MSG_HAS(p, ping, skew_us) || !MSG_HAS(p, ping, skew_error_us))
		return;
	n->has_skew = true;
	n->skew_us = p->skew_us;
	n->skew_error_us = p->skew_error_us;
}

bool node_is_ref(const struct coord *c, const struct node *n)
{
	return c->boot_id[0] != '\0' && strcmp(c->boot_id, n->boot_id) == 0;
}

/* ---- GPUs ------------------------------------------------------------------------ */

static uint64_t bit(uint32_t index)
{
	return index < 64 ? UINT64_C(1) << index : 0;
}

enum gpu_truth node_gpu_truth(const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	const struct rec_source *s = r != NULL ? readings_source(r, "nvml") : NULL;

	if (!n->probe)
		return GPU_NONE;
	if (s == NULL) /* not yet, or it has no word to say on GPUs */
		return GPU_UNKNOWN;
	return s->ok ? GPU_SOME : s->absent ? GPU_NONE : GPU_UNKNOWN;
}

uint64_t node_gpus(const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	uint64_t mask = 0;

	for (size_t i = 0; r != NULL && node_gpu_truth(n) == GPU_SOME && i < r->n_gpus; i++)
		if (!r->gpus[i].shared_out && r->gpus[i].text == NULL)
			mask |= bit(r->gpus[i].index);
	return mask;
}

/* A process of a job whose part here is over is dead already; the reading is
 * only older than that. */
static bool is_stranger(struct coord *c, const struct node *n, const struct rec_gpu_proc *p)
{
	struct job *j = MSG_HAS(p, gpu_proc, job) ? job_find(c, p->job) : NULL;
	uint32_t at;

	return j == NULL || job_place_of(j, n, &at) == NULL;
}

uint64_t node_gpus_strange(struct coord *c, const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	uint64_t mask = 0;

	for (size_t i = 0; r != NULL && i < r->n_gpus; i++)
		for (size_t k = 0; k < r->gpus[i].n_procs; k++)
			if (is_stranger(c, n, &r->gpus[i].procs[k]))
				mask |= bit(r->gpus[i].index);
	return mask & node_gpus(n);
}

uint64_t node_gpus_free(struct coord *c, const struct node *n, bool strangers_too)
{
	uint64_t mask = node_gpus(n) & ~n->gpus_held;

	return strangers_too ? mask : mask & ~node_gpus_strange(c, n);
}

uint64_t gpus_lowest(uint64_t mask, uint32_t n)
{
	uint64_t taken = 0;

	for (; n > 0 && mask != 0; n--) {
		taken |= mask & -mask;
		mask &= mask - 1;
	}
	return taken;
}

const char *gpus_text(struct arena *a, uint64_t mask)
{
	char text[256] = "";
	size_t len = 0;

	for (uint32_t i = 0; i < 64; i++)
		if (mask >> i & 1)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u",
						len ? "," : "", i);
	return arena_strdup(a, text);
}

uint64_t gpus_parse(const char *text)
{
	uint64_t mask = 0;

	while (text != NULL && *text >= '0' && *text <= '9') {
		char *end;

		mask |= bit((uint32_t)strtoul(text, &end, 10));
		text = *end == ',' ? end + 1 : end;
	}
	return mask;
}

void place_hold(struct place *p)
{
	p->node->gpus_held |= p->gpus;
}

void place_release(struct place *p)
{
	p->node->gpus_held &= ~p->gpus;
}
