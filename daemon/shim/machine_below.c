/* machine_below.c - what the machine keeps of the processes below a rank, and what it makes of them */
#include "shim/machine_internal.h"

#include <stdlib.h>
#include <string.h>

#include "proto/workers.h"

static void take_exception(struct shim *s, struct rank *r, const char *text)
{
	char *copy;

	if (!text || (r->exception && strcmp(r->exception, text) == 0))
		return;
	if (r->phase == RANK_EXITED && r->code == 0)
		return;
	if (!r->exception && s->n_exceptions == SHIM_TAILS)
		return;
	copy = strdup(text);
	if (!copy)
		return;
	s->n_exceptions += !r->exception;
	free(r->exception);
	r->exception = copy;
}

/* Without memory the former list stays: a report that is a little old is better than none. */
void below_rank_take(struct shim *s, struct rank *r, const struct shim_below *b)
{
	struct rec_worker *copy;
	size_t n;

	if (!b)
		return;
	copy = workers_dup(b->workers, b->n_workers, &n);
	if (copy || b->n_workers == 0) {
		free(r->workers);
		r->workers = copy;
		r->n_workers = n;
		r->found = b->found;
		r->alive = b->alive;
	}
	if (!r->ours)
		take_exception(s, r, b->exception);
	r->dirty = true;
}

/* A worker had ended before any signal of ours: the launcher's end comes of that,
 * and its time is the worker's. Launchers take up to 30 s to give up. */
static void blame_worker(struct rank *r)
{
	const struct rec_worker *w = workers_first(r->workers, r->n_workers);

	if (!w || (r->phase == RANK_EXITED && r->code == 0))
		return;
	r->ours = false;
	if (!w->end_mono_us || w->end_mono_us * 1000 > r->ended.ns)
		return; /* torchrun's word: when it was is not known */
	r->ended = (mono_t){ w->end_mono_us * 1000 };
	r->late_us = 0;
	r->end_us = w->end_us;
	r->end_wall_ms = w->end_us / 1000;
}

void below_rank_ended(struct shim *s, struct rank *r, const struct shim_below *b)
{
	below_rank_take(s, r, b);
	blame_worker(r);
	if (!r->ours) /* after all */
		take_exception(s, r, b ? b->exception : NULL);
	else /* it had raised, and not ended: others may have waited for it in vain */
		take_exception(s, r, b ? b->spoken : NULL);
}
