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

static void note_gpus(struct node *n);

static void forget_readings(struct node *n)
{
	if (n->have_readings)
		msg_finish(&n->readings);
	memset(&n->readings, 0, sizeof(n->readings));
	n->have_readings = n->gpu_procs = false;
	n->gpus_all = 0;
}

void readings_on(struct coord *c, struct node *n, const struct msg *m)
{
	uint64_t free_before = node_gpus_free(c, n, false);
	enum gpu_truth truth_before = node_gpu_truth(n);
	struct msg copy;
	int r = msg_copy(m, &copy);

	if (r == -ENOMEM)
		c->oom = true;
	if (r < 0)
		return;
	forget_readings(n);
	n->readings = copy;
	n->have_readings = true;
	n->readings_at = c->now;
	n->awaits_first = false;
	note_gpus(n);
	if (node_gpus_free(c, n, false) != free_before || node_gpu_truth(n) != truth_before)
		c->have_dirty = true; /* somebody may have waited for these */
}

/* The same session registers again when its addresses change: its readings stay. */
void readings_registered(struct coord *c, struct node *n, bool probe, bool again)
{
	if (again && n->probe == probe)
		return;
	forget_readings(n);
	n->ever_gpus = false;
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

/* What a driver that is being exchanged says for a moment is not believed while
 * a job holds GPUs there. A probe that never gets to speak of GPUs is no reason
 * to keep a node from which no GPU was ever heard. */
enum gpu_truth node_gpu_truth(const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	const struct rec_source *s = r != NULL ? readings_source(r, "nvml") : NULL;
	bool held = n->gpus_held != 0;

	if (!n->probe)
		return held ? GPU_UNKNOWN : GPU_NONE;
	if (s == NULL)
		return held || n->ever_gpus || n->awaits_first ? GPU_UNKNOWN : GPU_NONE;
	if (s->absent)
		return held ? GPU_UNKNOWN : GPU_NONE;
	return s->ok ? GPU_SOME : GPU_UNKNOWN;
}

const char *node_gpus_why(const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	const struct rec_source *s = r != NULL ? readings_source(r, "nvml") : NULL;

	if (s == NULL && r != NULL)
		s = readings_source(r, "probe");
	if (s != NULL && s->text != NULL)
		return s->text;
	return "its probe has said nothing yet";
}

uint64_t node_gpus(const struct node *n)
{
	return node_gpu_truth(n) == GPU_SOME ? n->gpus_all : 0;
}

/* Once for each reading: scheduling asks for it again and again. */
static void note_gpus(struct node *n)
{
	const struct rec_readings *r = &n->readings.u.readings;

	n->gpus_all = 0;
	n->gpu_procs = false;
	for (size_t i = 0; i < r->n_gpus; i++) {
		if (!r->gpus[i].shared_out && r->gpus[i].text == NULL)
			n->gpus_all |= bit(r->gpus[i].index);
		n->gpu_procs = n->gpu_procs || r->gpus[i].n_procs > 0;
	}
	n->ever_gpus = n->ever_gpus || n->gpus_all != 0;
}

/* In use by somebody who does not hold it. What is left of a job that was given
 * up counts too; a reading that is older than the proof that all of a job is
 * dead here does not. */
static bool is_stranger(struct coord *c, const struct node *n, const struct rec_gpu *g,
			const struct rec_gpu_proc *p)
{
	struct job *j = MSG_HAS(p, gpu_proc, job) ? job_find(c, p->job) : NULL;
	const struct place *at;
	uint32_t i;

	at = j != NULL ? job_place_of(j, n, &i) : NULL;
	if (at == NULL)
		return true;
	if (at->phase == PL_ENDED)
		return mono_before(at->ended_at, n->readings_at);
	return at->phase == PL_LOST || !(at->gpus & bit(g->index));
}

uint64_t node_gpus_strange(struct coord *c, const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	uint64_t mask = 0;

	for (size_t i = 0; r != NULL && n->gpu_procs && i < r->n_gpus; i++)
		for (size_t k = 0; k < r->gpus[i].n_procs; k++)
			if (is_stranger(c, n, &r->gpus[i], &r->gpus[i].procs[k]))
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

void place_ended(struct coord *c, struct place *p)
{
	p->phase = PL_ENDED;
	p->ended_at = c->now;
}

void place_hold(struct place *p)
{
	p->node->gpus_held |= p->gpus;
}

void place_release(struct place *p)
{
	p->node->gpus_held &= ~p->gpus;
}
