/* check_gpus.c - GPUs belong to one job at a time, in order, and none is forgotten
 *
 * When nodes are chosen: none whose memory is not back since a job left it; no GPU is taken that another unfinished job has, or
 * that a stranger uses as far as the coordinator was told (unless the job wants
 * such ones), or of a node whose GPUs it was told nothing about; and no earlier
 * job that waits for that node is overtaken by one without a time limit. When ranks start: they see GPUs of
 * their own only, whatever an index means by then. While a job waits: the first
 * one, when it fits, is not left waiting, so nothing may be held for nobody.
 *
 * Between a reading and the start of a rank an index may come to mean another
 * GPU, and nobody can know. So what is asked of an agent is that it acts upon
 * what it was told: with a reading that is out of date nothing is judged.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

#define FITS_FOR (8 * SECOND) /* and it was not placed: it never will be */
#define HEARD_WITHIN (3 * SECOND) /* such a node is usable */

static uint32_t count(uint32_t mask)
{
	return (uint32_t)__builtin_popcount(mask);
}

/* ---- what the coordinator was told ---------------------------------------------------- */

static void told_gpu(struct agent_actor *a, const struct rec_gpu *g)
{
	struct told_gpus *t = &a->told_gpus;
	uint32_t bit = gpus_bit(a, g->uuid, strlen(g->uuid));

	if (g->text == NULL)
		t->usable |= bit;
	if (g->text == NULL && !g->shared_out)
		t->mine |= bit;
	if (g->procs_unknown)
		t->strange |= bit;
	for (size_t i = 0; i < g->n_procs; i++)
		if (!MSG_HAS(&g->procs[i], gpu_proc, job))
			t->strange |= bit;
	if (g->n_procs > 0 || g->procs_unknown)
		t->used |= bit;
	if (MSG_HAS(g, gpu, mem_used) && g->mem_used > 2000000000)
		t->full |= bit;
}

void gpus_told(struct sim *s, const struct conn *c, const struct rec_readings *r)
{
	struct agent_actor *a = &s->agents[c->end[0].proc->idx];

	if (!s->gpus || c->end[0].proc->kind != PK_AGENT || a->session != c)
		return;
	memset(&a->told_gpus, 0, sizeof(a->told_gpus));
	a->told_gpus.read_at = a->read_at; /* of a later one, when this one was long under way */
	for (size_t i = 0; i < r->n_sources; i++)
		if (strcmp(r->sources[i].name, "nvml") == 0) {
			a->told_gpus.any = true;
			a->told_gpus.ok = r->sources[i].ok;
			a->told_gpus.absent = r->sources[i].absent;
			if (MSG_HAS(&r->sources[i], source, age_ms) &&
			    s->w.now - (int64_t)r->sources[i].age_ms * MS < a->told_gpus.read_at)
				a->told_gpus.read_at = s->w.now - (int64_t)r->sources[i].age_ms * MS;
		}
	for (size_t i = 0; i < r->n_gpus; i++)
		told_gpu(a, &r->gpus[i]);
}

void gpus_registered(struct sim *s, struct conn *c)
{
	struct agent_actor *a = &s->agents[c->end[0].proc->idx];

	if (a->session != c)
		memset(&a->told_gpus, 0, sizeof(a->told_gpus));
}

static bool usable(const struct sim *s, const struct agent_actor *a)
{
	return a->session != NULL && !a->session->end[1].gone && !a->session->end[1].closing &&
	       s->w.now - a->heard < HEARD_WITHIN;
}

/* ---- what it holds ----------------------------------------------------------------------- */

static bool is_final(const char *state)
{
	return strcmp(state, "done") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "lost") == 0;
}

static struct agent_actor *agent_named(struct sim *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (strcmp(s->agents[i].name, name) == 0)
			return &s->agents[i];
	return NULL;
}

void gpus_look(struct sim *s)
{
	for (uint32_t i = 0; s->gpus && i < JOBS_MAX && i < 32; i++) {
		s->jobs[i].queued = false;
		s->jobs[i].nodes_held = 0;
	}
}

void gpus_look_job(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);

	if (!s->gpus)
		return;
	j->plan = plan_of_hash(s, r->spec_hash.p);
	j->source = agent_named(s, r->submit_node);
	j->queued = strcmp(r->state, "queued") == 0;
	j->again = j->queued && r->attempt > 0;
	if (is_final(r->state) && j->final[0] != '\0')
		return;
	for (size_t i = 0; i < r->n_places; i++) {
		const struct agent_actor *a = agent_named(s, r->places[i].node);

		if (a == NULL)
			continue;
		j->nodes_held |= 1u << a->idx;
		j->gpus_held[a->idx] = gpus_mask(a, r->places[i].gpu_ids);
	}
	for (size_t i = 0; i < r->n_kept; i++) {
		const struct agent_actor *a = agent_named(s, r->kept[i].node);

		if (a == NULL)
			continue;
		j->nodes_held |= 1u << a->idx;
		j->gpus_held[a->idx] = gpus_mask(a, r->kept[i].gpu_ids);
	}
}

/* Of this host, by jobs other than this one. */
static uint32_t held_by_others(const struct sim *s, uint64_t job, const struct agent_actor *a)
{
	uint32_t mask = 0;

	for (uint32_t i = 1; i < 32; i++)
		for (uint32_t k = 0; i != job && s->jobs[i].in_memory && k < s->n_agents; k++)
			if ((s->jobs[i].nodes_held >> k & 1) != 0 && s->agents[k].gpus == a->gpus)
				mask |= s->jobs[i].gpus_held[k];
	return mask;
}

/* ---- who waits, and for what ---------------------------------------------------------------- */

/* "n[1-3]": all host lists of these scenarios begin with n1. */
static bool listed(const struct plan *p, const struct agent_actor *a)
{
	return p->hosts == NULL || a->idx < p->nnodes;
}

static bool big_enough(const struct sim *s, const struct plan *p, const struct agent_actor *a)
{
	uint32_t has = count(a->told_gpus.mine);

	return listed(p, a) && usable(s, a) && a->told_gpus.ok &&
	       has >= (p->gpus < 0 ? 1 : (uint32_t)p->gpus);
}

/* Virtual nodes that have not all heard of a shift take the same GPU for theirs. */
static bool in_dispute(const struct sim *s, const struct agent_actor *a)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (&s->agents[i] != a && s->agents[i].gpus == a->gpus &&
		    (s->agents[i].told_gpus.mine & a->told_gpus.mine) != 0)
			return true;
	return false;
}

/* Whose job's end no reading has shown yet: they may be full. Where it was over
 * long before the coordinator heard of it, only what was read since then counts. */
static uint32_t unseen(const struct sim *s, const struct agent_actor *a)
{
	uint32_t mask = 0;

	for (uint32_t i = 0; i < a->gpus->n; i++)
		if (a->gpus->v[i].left_at >= a->told_gpus.read_at)
			mask |= 1u << i;
	for (uint32_t i = 1; i < 32; i++)
		for (uint32_t k = 0; s->jobs[i].over_at >= a->told_gpus.read_at && k < s->n_agents; k++)
			if (s->jobs[i].final[0] != '\0' && s->agents[k].gpus == a->gpus)
				mask |= s->jobs[i].gpus_held[k];
	return mask;
}

static bool fits(const struct sim *s, uint64_t job, const struct agent_actor *a)
{
	const struct plan *p = s->jobs[job].plan;
	uint32_t mine = a->told_gpus.mine, free;

	if (p->gpus == 0)
		return listed(p, a) && usable(s, a);
	if (!big_enough(s, p, a) || in_dispute(s, a))
		return false;
	free = mine & ~held_by_others(s, job, a) & ~a->told_gpus.used & ~a->told_gpus.full & ~unseen(s, a);
	return p->gpus < 0 ? free == mine : count(free) >= (uint32_t)p->gpus;
}

/* Who cannot be given its command is not started, and keeps nobody waiting. */
bool gpus_source_away(const struct sim *s, const struct jobrec *j)
{
	return j->source == NULL || !usable(s, j->source);
}

/* Waits for GPUs of this node among others, and could have all that it wants. */
static bool waits_for(const struct sim *s, uint32_t job, const struct agent_actor *a)
{
	const struct plan *p = s->jobs[job].plan;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_agents; i++)
		n += big_enough(s, p, &s->agents[i]);
	return p->gpus != 0 && n >= p->nnodes + p->spares && big_enough(s, p, a) && !gpus_source_away(s, &s->jobs[job]);
}

static void look_at_waiting(struct sim *s, uint32_t job, bool first)
{
	struct jobrec *j = &s->jobs[job];
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_agents; i++)
		n += fits(s, job, &s->agents[i]);
	if (n < j->plan->nnodes + j->plan->spares || j->again || (!first && j->plan->gpus != 0) || disk_is_bad() ||
	    !j->seen || gpus_source_away(s, j))
		j->fits_since = 0;
	else if (j->fits_since == 0)
		j->fits_since = s->w.now;
	else if (s->w.now - j->fits_since > FITS_FOR)
		sim_fail(s, "a job that is the first to wait, and fits, is started (job %u: after %d s)",
			 job, (int)((s->w.now - j->fits_since) / SECOND));
}

void gpus_looked(struct sim *s)
{
	bool first = true;

	for (uint32_t i = 1; s->gpus && i < 32; i++)
		first = first && !(s->jobs[i].in_memory && s->jobs[i].again);
	for (uint32_t i = 1; s->gpus && i < 32; i++) {
		struct jobrec *j = &s->jobs[i];

		if (!j->in_memory || !j->queued) {
			j->fits_since = 0;
			continue;
		}
		look_at_waiting(s, i, first);
		first = first && j->plan->gpus == 0;
	}
}

/* ---- when nodes are chosen ------------------------------------------------------------------- */

/* What virtual nodes of its host have read last, each of the same GPUs: full by all of them. */
static uint32_t full_for_all(const struct sim *s, const struct agent_actor *a)
{
	uint32_t full = a->told_gpus.full;

	for (uint32_t i = 0; i < s->n_agents; i++)
		if (s->agents[i].gpus == a->gpus && s->agents[i].told_gpus.any)
			full &= s->agents[i].told_gpus.full;
	return full;
}

static void look_at_place(struct sim *s, const struct rec_row_job *r, const struct rec_row_place *p)
{
	const struct agent_actor *a = agent_named(s, p->node);
	const struct plan *plan = plan_of_hash(s, r->spec_hash.p);
	const struct told_gpus *t = &a->told_gpus;
	uint32_t mask = gpus_mask(a, p->gpu_ids), names = 0;

	for (const char *x = p->gpu_ids; x != NULL && *x != '\0'; x += strcspn(x, ","), x += *x == ',')
		names++;
	if (names != count(mask))
		sim_fail(s, "GPUs are given by name (job %" PRIu64 " on %s: %s)", r->job, a->name,
			 p->gpu_ids);
	if (plan->gpus != 0 && !t->ok && !t->absent)
		sim_fail(s, "where GPUs are not known, no job that wants some is placed (job %" PRIu64
			    " on %s)", r->job, a->name);
	if ((mask & ~t->mine) != 0 || (plan->gpus >= 0 && count(mask) != (uint32_t)plan->gpus) ||
	    (plan->gpus < 0 && t->ok && mask != t->mine))
		sim_fail(s, "a job gets as many GPUs as it wants, of those that are there (job %" PRIu64
			    " on %s: %x of %x)", r->job, a->name, mask, t->mine);
	if ((mask & t->strange) != 0 && !plan->busy_gpus)
		sim_fail(s, "a GPU that a stranger is known to use is not given (job %" PRIu64
			    " on %s: %x, strangers on %x)", r->job, a->name, mask, t->strange);
	if (!s->strangers && (mask & full_for_all(s, a) & ~t->strange) != 0)
		sim_fail(s, "a GPU whose memory is not back since a job has left it is given to nobody (job %" PRIu64
			    " on %s: %x of %x)", r->job, a->name, mask & full_for_all(s, a), mask);
	if ((mask & held_by_others(s, r->job, a)) != 0)
		sim_fail(s, "a GPU is given to one job at a time (job %" PRIu64 " on %s: %x, others have %x)",
			 r->job, a->name, mask, held_by_others(s, r->job, a));
	/* with a limit one may pass: check_queue.c */
	for (uint32_t i = 1; i < r->job && i < 32 && mask != 0 && plan->time_s == 0; i++)
		if (s->jobs[i].in_memory && s->jobs[i].queued && !s->jobs[i].again && r->attempt == 1 &&
		    waits_for(s, i, a))
			sim_fail(s, "who waits for GPUs of a node is not overtaken there (job %u waits, job "
				    "%" PRIu64 " gets some of %s)", i, r->job, a->name);
}

static void look_at_choice(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);

	if (strcmp(r->state, "preparing") != 0 || r->attempt == j->placed_attempt)
		return;
	j->placed_attempt = r->attempt;
	for (size_t i = 0; i < r->n_places; i++)
		if (agent_named(s, r->places[i].node) != NULL)
			look_at_place(s, r, &r->places[i]);
}

void gpus_row(struct sim *s, const struct store_row *r)
{
	struct msg m;

	if (!s->gpus || r->table != TABLE_JOB || r->json == NULL ||
	    msg_decode(r->json, r->len, &m, NULL) < 0)
		return;
	look_at_choice(s, &m.u.row_job);
	msg_finish(&m);
}

/* ---- when ranks start --------------------------------------------------------------------- */

void gpus_go_sent(struct sim *s, struct shim_actor *h)
{
	h->go_order = s->agents[h->host].order_known;
}

/* The n-th that CUDA counts now. */
static uint32_t counted(const struct gpu_host *g, uint32_t n)
{
	for (uint32_t i = 0; i < g->n && !g->absent; i++)
		if (!g->v[i].gone && !g->v[i].lost && n-- == 0)
			return 1u << i;
	return 0;
}

/* As CUDA reads the list. */
static uint32_t seen(const struct agent_actor *a, const char *visible)
{
	uint32_t mask = 0;

	for (uint32_t i = 0; visible == NULL && i < a->gpus->n; i++)
		mask |= counted(a->gpus, i);
	for (const char *x = visible; x != NULL && *x != '\0'; x += strcspn(x, ","), x += *x == ',') {
		uint32_t n = 0;

		if (*x < '0' || *x > '9') {
			mask |= a->gpus->absent ? 0 : gpus_bit(a, x, strcspn(x, ","));
			continue;
		}
		for (const char *d = x; *d >= '0' && *d <= '9'; d++)
			n = 10 * n + (uint32_t)(*d - '0');
		mask |= counted(a->gpus, n);
	}
	return mask;
}

/* What its agent knew when it gave the order to start is how it is now; or it
 * knew nothing, and should not have taken indices for granted. */
static bool could_know(const struct gpu_host *g, const struct shim_actor *h)
{
	return h->go_order == g->order || h->go_order == 0;
}

void gpus_started(struct sim *s, struct shim_actor *h)
{
	const struct agent_actor *a = &s->agents[h->host];

	if (a->gpus == NULL)
		return;
	h->gpus = could_know(a->gpus, h) ? seen(a, h->visible) : h->gpus_given;
	LINE(&s->w, a->name, "job %" PRIu64 " sees GPUs %x (%s), given %x", h->job, h->gpus,
	     h->visible != NULL ? h->visible : "(all)", h->gpus_given);
	if ((h->gpus & ~h->gpus_given) != 0)
		sim_fail(s, "ranks see the GPUs that their job was given (job %" PRIu64
			    " on %s: sees %x, given %x)", h->job, a->name, h->gpus, h->gpus_given);
	for (uint32_t i = 0; i < s->n_shims; i++) {
		const struct shim_actor *o = s->shims[i];

		if (o != h && s->agents[o->host].gpus == a->gpus && o->started && simshim_alive(o) > 0 &&
		    (o->gpus & h->gpus) != 0)
			sim_fail(s, "no GPU is seen from two places at the same time (%s: %x of jobs %" PRIu64
				    " and %" PRIu64 ")", a->name, o->gpus & h->gpus, o->job, h->job);
	}
}
