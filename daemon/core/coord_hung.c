/* coord_hung.c - the last hang of a job, as it was known, kept with the job and on disk
 *
 * Evidence goes with the ranks (coord_hang.c), and a job that hung is mostly killed: what was known must
 * not be gone with it. Kept is the verdict as it was told first, and as it was when the job was ended, with
 * what NCCL's RAS or the flight recorders had counted; also when it went on again.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hang.h"

struct past_hang {
	uint32_t attempt;
	int64_t wall_ms, over_wall_ms; /* since; it went on again: 0 it did not */
	char text[513], fix[257], threads[257], node[65], counts[513];
	bool has_rank, flight;
	uint32_t rank;
	int64_t counts_wall_ms;
};

static struct past_hang *past_of(struct coord *c, struct job *j)
{
	if (j->past_hang == NULL)
		j->past_hang = calloc(1, sizeof(*j->past_hang));
	if (j->past_hang == NULL)
		c->oom = true;
	return j->past_hang;
}

void hung_free(struct job *j)
{
	free(j->past_hang);
	j->past_hang = NULL;
}

void hung_note(struct coord *c, struct job *j, const struct hang_out *out, const char *node, const char *threads)
{
	struct past_hang *p = past_of(c, j);

	if (p == NULL)
		return;
	if (p->attempt != j->attempt || p->over_wall_ms != 0)
		memset(p, 0, sizeof(*p)); /* another one */
	p->attempt = j->attempt;
	p->wall_ms = j->hung_wall_ms;
	snprintf(p->text, sizeof(p->text), "%s", out->text);
	snprintf(p->fix, sizeof(p->fix), "%s", out->fix);
	snprintf(p->threads, sizeof(p->threads), "%s", threads);
	snprintf(p->node, sizeof(p->node), "%s", node);
	p->has_rank = out->has_rank;
	p->rank = out->rank;
}

void hung_over(struct coord *c, struct job *j)
{
	if (j->past_hang != NULL && j->past_hang->attempt == j->attempt)
		j->past_hang->over_wall_ms = c->wall_ms;
}

void hung_counts(struct coord *c, struct job *j)
{
	struct past_hang *p = j->past_hang;
	struct rec_job_info i = { 0 };

	ras_fill_info(&c->out->arena, j, &i);
	if (p == NULL || p->attempt != j->attempt || i.n_ras == 0 || i.ras->words == NULL)
		return;
	snprintf(p->counts, sizeof(p->counts), "%s", i.ras->words);
	p->counts_wall_ms = i.ras->wall_ms;
	p->flight = i.ras->flight;
}

/* ---- told, and kept on disk ------------------------------------------------------------ */

static const char *or_null(const char *s)
{
	return s[0] != '\0' ? s : NULL;
}

struct rec_past_hang *hung_fill(struct arena *a, const struct job *j)
{
	const struct past_hang *p = j->past_hang;
	struct rec_past_hang *r = p != NULL && p->attempt != 0 ? arena_alloc(a, sizeof(*r)) : NULL;

	if (r == NULL)
		return NULL;
	*r = (struct rec_past_hang){ .attempt = p->attempt, .text = p->text, .fix = or_null(p->fix), .threads = or_null(p->threads),
				     .node = or_null(p->node), .counts = or_null(p->counts), .wall_ms = p->wall_ms };
	if (p->has_rank)
		MSG_SET(r, past_hang, rank, p->rank);
	if (p->over_wall_ms != 0)
		MSG_SET(r, past_hang, over_wall_ms, p->over_wall_ms);
	if (r->counts != NULL) {
		MSG_SET(r, past_hang, counts_wall_ms, p->counts_wall_ms);
		MSG_SET(r, past_hang, flight, p->flight);
	}
	return r;
}

static void take(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from != NULL ? from : "");
}

void hung_load(struct coord *c, struct job *j, const struct rec_past_hang *r)
{
	struct past_hang *p = past_of(c, j);

	if (p == NULL)
		return;
	p->attempt = r->attempt;
	p->wall_ms = r->wall_ms;
	p->over_wall_ms = r->over_wall_ms;
	p->has_rank = MSG_HAS(r, past_hang, rank);
	p->rank = r->rank;
	p->flight = r->flight;
	p->counts_wall_ms = r->counts_wall_ms;
	take(p->text, sizeof(p->text), r->text);
	take(p->fix, sizeof(p->fix), r->fix);
	take(p->threads, sizeof(p->threads), r->threads);
	take(p->node, sizeof(p->node), r->node);
	take(p->counts, sizeof(p->counts), r->counts);
}
