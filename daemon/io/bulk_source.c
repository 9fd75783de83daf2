/* bulk_source.c - a job's output on this node, as its shim tells of it
 *
 * What the shim says is kept for as long as the job is here: it says each thing
 * once, and readers come later.
 */
#include <stdlib.h>
#include <string.h>

#include "io/bulk_private.h"

struct source *source_find(struct bulk *b, uint64_t job, uint32_t attempt)
{
	list_foreach(e, &b->sources) {
		struct source *o = list_entry(e, struct source, at);

		if (o->job == job && o->attempt == attempt)
			return o;
	}
	return NULL;
}

struct source *source_get(struct bulk *b, uint64_t job, uint32_t attempt)
{
	struct source *o = source_find(b, job, attempt);

	if (o != NULL)
		return o;
	o = agent_alloc(sizeof(*o));
	o->job = job;
	o->attempt = attempt;
	list_append(&b->sources, &o->at);
	return o;
}

struct conn *source_shim(struct bulk *b, uint64_t job, uint32_t attempt)
{
	uint64_t id = agent_shim_link(b->io->core, job, attempt);
	struct conn *c = id != 0 ? conn_find(b->io, id) : NULL;

	return c != NULL && c->link != NULL ? c : NULL;
}

void source_arm(struct bulk *b, struct source *o)
{
	struct conn *shim = source_shim(b, o->job, o->attempt);
	struct msg m;

	if (o->armed || shim == NULL)
		return;
	o->armed = true;
	msg_init(&m, MSG_shim_arm);
	conn_send(shim->link, &m);
}

struct over {
	uint64_t job;
	uint32_t attempt;
	bool alive;
};

static void look_at_job(void *arg, uint64_t job, uint32_t attempt, const char *phase)
{
	struct over *o = arg;

	if (job == o->job && attempt == o->attempt)
		o->alive = strcmp(phase, "ended") != 0 && strcmp(phase, "gone") != 0;
}

bool source_over(struct bulk *b, uint64_t job, uint32_t attempt)
{
	struct over o = { job, attempt, false };

	agent_each_job(b->io->core, look_at_job, &o);
	return !o.alive;
}

bool source_known(struct bulk *b, uint64_t job, uint32_t attempt)
{
	uint32_t base, n;

	return agent_local_ranks(b->io->core, job, attempt, &base, &n);
}

void source_note(struct source *o, const struct rec_grown *g)
{
	size_t i = 2 * (size_t)g->local + g->fd - 1;
	struct source_out *v;

	if (i >= o->n_outs) {
		size_t n = i + 1 > 2 * o->n_outs ? i + 1 : 2 * o->n_outs;

		v = realloc(o->outs, n * sizeof(*v));
		if (v == NULL)
			agent_no_memory();
		memset(v + o->n_outs, 0, (n - o->n_outs) * sizeof(*v));
		o->outs = v;
		o->n_outs = n;
	}
	o->outs[i].size = g->size;
	o->outs[i].eof = o->outs[i].eof || g->eof;
	if (g->lost > o->outs[i].lost)
		o->outs[i].lost = g->lost;
	if (g->given > o->outs[i].given)
		o->outs[i].given = g->given;
}

/* Sources of jobs that are gone from here, unless somebody still reads. */
void source_drop_unused(struct bulk *b)
{
	list_foreach_safe(e, &b->sources) {
		struct source *o = list_entry(e, struct source, at);

		if (source_known(b, o->job, o->attempt) || serve_reads(b, o->job, o->attempt))
			continue;
		list_remove(&o->at);
		free(o->outs);
		free(o);
	}
}
