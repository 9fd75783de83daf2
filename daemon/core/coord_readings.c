/* coord_readings.c - what each node's probe reads, and its clock
 *
 * Of each node the last readings are kept as they came (5-8 KB with 8 GPUs and
 * 9 ports), with its link only: they are not stored, an agent sends them again
 * when it registers. What they say of GPUs is in coord_gpus.c.
 */
#include "core/coord_internal.h"
#include "core/nccl_ports.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_MS 5000 /* a registered agent's first readings are waited for so long */

void node_free(struct node *n)
{
	msg_finish(&n->readings);
	free(n->addrs);
	free(n->slots);
	free(n->seen);
	free(n->stuck);
	node_drain_free(n);
	policy_free(n);
	free(n->events);
	checks_node_finish(n);
	free(n->stale);
	free(n->tallied.v);
	free(n);
}

static void forget_readings(struct coord *c, struct node *n)
{
	if (n->have_readings)
		msg_finish(&n->readings);
	memset(&n->readings, 0, sizeof(n->readings));
	c->readings_seen++;
	n->have_readings = false;
	n->tally_old = true;
	n->ports_are = PORTS_UNKNOWN;
	gpus_forget(n);
}

void readings_on(struct coord *c, struct node *n, const struct msg *m)
{
	uint64_t free_before = node_gpus_free(c, n, false);
	uint64_t all_before = node_gpus(n), strange_before = node_gpus_strange(c, n);
	enum gpu_truth truth_before = node_gpu_truth(n);
	uint8_t ports_before = n->ports_are;
	int r;

	forget_readings(c, n); /* first: the new ones fit where the old ones were */
	r = msg_copy(m, &n->readings);
	if (r == -ENOMEM)
		c->oom = true;
	if (r < 0)
		return;
	n->have_readings = true;
	n->readings_at = c->now;
	n->awaits_first = false;
	n->ports_are = ports_are(&n->readings.u.readings);
	gpus_note(c, n);
	clean_look(c, n);
	checks_note(c, n);
	n->ever_gpus = n->ever_gpus || n->gpus_all != 0;
	n->ever_ports = n->ever_ports || n->readings.u.readings.n_ports > 0;
	verdicts_note(c, n);
	/* of virtual nodes' GPUs it counts which they are, not only how many */
	if (node_gpus_free(c, n, false) != free_before || node_gpus(n) != all_before ||
	    ((node_gpus_strange(c, n) ^ strange_before) & n->gpus_held) != 0 || /* kept for another attempt */
	    n->ports_are != ports_before || node_gpu_truth(n) != truth_before || truth_before == GPU_UNKNOWN || n->gpus_shared)
		c->have_dirty = true; /* somebody may have waited for these, or wants to know why not */
}

/* The same session registers again when its addresses change: its readings stay. */
void readings_registered(struct coord *c, struct node *n, bool probe, bool again)
{
	if (again && n->probe == probe)
		return;
	forget_readings(c, n);
	n->ever_gpus = n->ever_ports = false;
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
	verdicts_on_skew(c, n);
}

bool node_is_ref(const struct coord *c, const struct node *n)
{
	return c->boot_id[0] != '\0' && strcmp(c->boot_id, n->boot_id) == 0;
}
