/* coord_cause.c - states of ranks, and whose end was the first cause */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int rank_state_from(const char *s)
{
	static const char *const names[] = { "waiting", "running", "exited", "killed", "failed", "lost" };

	for (int i = 0; i < 6; i++)
		if (strcmp(names[i], s) == 0)
			return i;
	return -1;
}

bool rank_is_over(const struct rank *r)
{
	return r->state >= RK_EXITED;
}

bool rank_bad(const struct rank *r)
{
	return rank_is_over(r) && !(r->state == RK_EXITED && r->code == 0);
}

static void copy_tail(struct coord *c, struct rank *r, struct bytes tail)
{
	uint8_t *p;

	if (tail.n == 0 || r->tail.n != 0)
		return;
	p = malloc(tail.n);
	if (p == NULL) {
		c->oom = true;
		return;
	}
	memcpy(p, tail.p, tail.n);
	r->tail = (struct bytes){ p, tail.n };
}

/* Only forward: a rank that is over stays as it is. */
void job_update_rank(struct coord *c, struct job *j, uint32_t node_rank,
		     const struct rec_rank_state *s)
{
	int state = rank_state_from(s->state);
	struct rank *r;

	if (state < 0 || s->rank / j->ppn != node_rank || s->rank >= j->n_ranks)
		return;
	r = &j->ranks[s->rank];
	if (s->lost_bytes > r->lost_bytes)
		r->lost_bytes = s->lost_bytes;
	below_take(&r->below, s);
	if (rank_is_over(r) || state < (int)r->state)
		return;
	r->state = state;
	r->pid = s->pid != 0 ? s->pid : r->pid;
	r->code = s->code;
	r->sig = s->sig;
	r->ours = s->ours;
	r->core = s->core;
	r->start_wall_ms = s->start_wall_ms != 0 ? s->start_wall_ms : r->start_wall_ms;
	r->end_wall_ms = s->end_wall_ms;
	if (s->text != NULL && r->text == NULL)
		r->text = coord_strdup(c, s->text);
	copy_tail(c, r, s->tail);
}

uint32_t rank_code(const struct rank *r)
{
	if (r->state == RK_KILLED)
		return 128 + r->sig;
	if (r->state == RK_LOST)
		return EXIT_LOST;
	if (r->state == RK_FAILED)
		return r->code != 0 ? r->code : 127;
	return r->code;
}

/* "rank 3 (gpu02, pid 4711) exited with code 7" */
void cause_say(const struct job *j, uint32_t i, char *out, size_t size)
{
	const struct rank *r = &j->ranks[i];
	const char *node = j->places[i / j->ppn].node->name;

	if (below_say(&r->below, node, out, size)) {
		below_say_exception(&r->below, out, size);
		return;
	}
	switch (r->state) {
	case RK_KILLED:
		snprintf(out, size, "rank %u (%s, pid %u) was killed by signal %u%s", i, node, r->pid,
			 r->sig, r->core ? " and dumped core" : "");
		break;
	case RK_FAILED:
		snprintf(out, size, "rank %u (%s) could not start: %s", i, node,
			 r->text != NULL ? r->text : "unknown reason");
		break;
	case RK_LOST:
		snprintf(out, size, "rank %u (%s) was lost: %s", i, node,
			 r->text != NULL ? r->text : "its node is gone");
		if (r->below.status_unknown)
			snprintf(out + strlen(out), size - strlen(out), "; exit status unknown");
		break;
	default:
		snprintf(out, size, "rank %u (%s, pid %u) exited with code %u", i, node, r->pid,
			 r->code);
	}
	below_say_exception(&r->below, out, size);
}

/* The first bad rank that did not die of our own signal, by end time then
 * number (the nodes' clocks; ordering by measured offsets comes later). */
int64_t cause_find(const struct job *j, bool also_ours)
{
	int64_t best = -1;

	for (uint32_t i = 0; i < j->n_ranks; i++) {
		const struct rank *r = &j->ranks[i];

		if (!rank_bad(r) || (r->ours && !also_ours))
			continue;
		if (best < 0 || (r->end_wall_ms != 0 && r->end_wall_ms < j->ranks[best].end_wall_ms))
			best = i;
	}
	return best;
}
