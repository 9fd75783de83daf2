/* coord_clean.c - GPUs that a job has left, until they are seen to be as before
 *
 *   given out -> (job over) -> left -> clean, free again
 *                               |        ^
 *                               +-> kept +     LEFT_MS have passed: needs a person
 *
 * The driver gives memory back some time after a process has gone, and now and
 * then never. So a GPU that a job has had is free again only when a reading
 * that was taken after the job's end shows none of its processes, and as much
 * memory in use as before the job, give or take. Before LEFT_MS that is nobody's
 * fault; later the node shows it, with the remedy, and a reading that shows it
 * clean frees it all the same.
 *
 * The memory in use before is stored with the place. After a restart the GPUs of
 * jobs that are over are looked at once more.
 *
 * Not promised: that what was used before the job was nobody's leftover.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEFT_MS 30000
#define RECENT_MS 3600000 /* an end that is longer ago is so long ago */
#define SLACK_BYTES (UINT64_C(64) << 20) /* the driver's own tables grow a little */
#define SLACK_PART 100 /* ... or with the GPU: 1 % */

static uint64_t bit(uint32_t slot)
{
	return UINT64_C(1) << slot;
}

static const struct rec_gpu *reading_of(const struct node *n, uint32_t slot)
{
	const struct rec_readings *r = node_readings(n);

	for (size_t i = 0; r != NULL && n->slots[slot].here && i < r->n_gpus; i++)
		if (r->gpus[i].index == n->slots[slot].index)
			return &r->gpus[i];
	return NULL;
}

/* When the GPUs were read; the driver's answer may be older than the message. */
static mono_t read_at(const struct node *n)
{
	const struct rec_source *s = readings_source(&n->readings.u.readings, "nvml");

	if (s != NULL && MSG_HAS(s, source, age_ms) && s->age_ms < 86400000)
		return mono_add_ms(n->readings_at, -(int64_t)s->age_ms);
	return n->readings_at;
}

/* ---- before a job -------------------------------------------------------------- */

static const struct rec_gpu *reading_named(const struct node *n, const char *id, size_t len)
{
	int slot = gpu_slot_named(n, id, len);

	return slot >= 0 ? reading_of(n, (uint32_t)slot) : NULL;
}

/* The newest one: virtual nodes of a host read the same GPUs at different times. */
static const struct rec_gpu *newest_reading(const struct coord *c, const struct node *n, const char *id, size_t len)
{
	const struct rec_gpu *g = reading_named(n, id, len);
	const struct node *from = n;

	for (size_t i = 0; n->gpus_shared && i < c->n_nodes; i++) {
		const struct node *x = c->nodes[i];
		const struct rec_gpu *other = strcmp(x->boot_id, n->boot_id) == 0 ? reading_named(x, id, len) : NULL;

		if (other == NULL || (g != NULL && !mono_before(read_at(from), read_at(x))))
			continue;
		g = other;
		from = x;
	}
	return g;
}

/* What its GPUs have in use now; it is stored with the place, "-" for unknown. */
char *clean_note(struct coord *c, struct place *p)
{
	struct buf b;

	buf_init(&b);
	for (const char *x = p->gpu_ids; x != NULL && *x != '\0'; x += strcspn(x, ","), x += *x == ',') {
		const struct rec_gpu *g = newest_reading(c, p->node, x, strcspn(x, ","));

		buf_addf(&b, "%s", b.len > 0 ? "," : "");
		if (g != NULL && MSG_HAS(g, gpu, mem_used))
			buf_addf(&b, "%llu", (unsigned long long)g->mem_used);
		else
			buf_addf(&b, "-");
	}
	return buf_steal(&b, NULL);
}

/* ---- after it --------------------------------------------------------------------- */

static void leave(struct node *n, int slot, const char *base, uint64_t job, mono_t since, int64_t wall_ms)
{
	struct gpu_slot *s = &n->slots[slot];
	char *end;

	s->left_by = job;
	s->left_since = since;
	s->left_wall_ms = wall_ms;
	s->base = base != NULL ? strtoull(base, &end, 10) : 0;
	s->has_base = base != NULL && *base >= '0' && *base <= '9';
	n->gpus_left |= bit((uint32_t)slot);
	n->gpus_kept &= ~bit((uint32_t)slot);
}

/* But for the slots in 'others'. */
static void leave_all(struct coord *c, struct place *p, uint64_t others, uint64_t job, mono_t since, int64_t wall_ms)
{
	const char *base = p->gpu_base;

	for (const char *x = p->gpu_ids; x != NULL && *x != '\0'; x += strcspn(x, ","), x += *x == ',') {
		int slot = gpu_slot_take(c, p->node, x, strcspn(x, ","));

		if (slot >= 0 && !(others & bit((uint32_t)slot)))
			leave(p->node, slot, base, job, since, wall_ms);
		if (base != NULL)
			base += strcspn(base, ","), base += *base == ',';
	}
}

static bool has_proc_of(const struct rec_gpu *g, uint64_t job)
{
	for (size_t i = 0; i < g->n_procs; i++)
		if (MSG_HAS(&g->procs[i], gpu_proc, job) && g->procs[i].job == job)
			return true;
	return false;
}

/* A process that is said to be nobody's may be the job's: its agent forgets jobs
 * that are over. So the memory counts where it is told, else that there is none. */
static bool is_clean(const struct gpu_slot *s, const struct rec_gpu *g)
{
	uint64_t slack = g->mem_total / SLACK_PART > SLACK_BYTES ? g->mem_total / SLACK_PART : SLACK_BYTES;

	if (has_proc_of(g, s->left_by))
		return false;
	if (s->has_base)
		return MSG_HAS(g, gpu, mem_used) && g->mem_used <= s->base + slack;
	return g->n_procs == 0 && !g->procs_unknown;
}

bool clean_awaited(const struct job *j)
{
	for (size_t i = 0; i < j->n_places; i++) {
		const struct node *n = j->places[i].node;

		for (uint32_t k = 0; k < n->n_slots; k++)
			if (n->gpus_left & bit(k) && n->slots[k].left_by == j->id)
				return true;
	}
	return false;
}

/* The last of its GPUs on that node is free again; on all: its row needs no GPUs any more. */
static void tell_released(struct coord *c, const struct node *n, uint64_t id, mono_t since)
{
	struct job *j = job_find(c, id);

	for (uint32_t i = 0; i < n->n_slots; i++)
		if (n->gpus_left & bit(i) && n->slots[i].left_by == id)
			return;
	if (j == NULL)
		return;
	job_tell(c, j, n->name, 0, 0, "GPUs released: their memory is back, %.1f s after its end",
		 (double)mono_sub_ms(c->now, since) / 1000);
	if (!j->saved || !j->gpus_left || clean_awaited(j))
		return;
	j->gpus_left = false;
	history_squeeze(j);
}

static void released(struct coord *c, struct node *n, uint32_t slot)
{
	const struct gpu_slot *s = &n->slots[slot];

	if (n->gpus_kept & bit(slot))
		act_log(c->out, 0, "node %s: GPU %u is as before job %llu again", n->name, s->index,
			(unsigned long long)s->left_by);
	n->gpus_left &= ~bit(slot);
	n->gpus_kept &= ~bit(slot);
	c->have_dirty = true;
	tell_released(c, n, s->left_by, s->left_since);
}

/* Jobs are read from disk before we know the time. */
static void date_end(const struct coord *c, struct gpu_slot *s)
{
	int64_t ago_ms = c->wall_ms - s->left_wall_ms;

	if (s->left_wall_ms == 0)
		return;
	s->left_since = mono_add_ms(c->now, ago_ms > RECENT_MS ? -RECENT_MS : ago_ms > 0 ? -ago_ms : 0);
	s->left_wall_ms = 0;
}

/* After each reading. Without one that tells of GPUs they are given to nobody in any case. */
void clean_look(struct coord *c, struct node *n)
{
	mono_t at;

	if (n->gpus_left == 0 || node_gpu_truth(n) != GPU_SOME)
		return;
	at = read_at(n);
	for (uint32_t i = 0; i < n->n_slots; i++) {
		const struct rec_gpu *g = n->gpus_left & bit(i) ? reading_of(n, i) : NULL;

		date_end(c, &n->slots[i]);
		if (g != NULL && g->text == NULL && mono_before(n->slots[i].left_since, at) && is_clean(&n->slots[i], g))
			released(c, n, i);
	}
}

/* The place's job is over, and is on disk. 'started': its processes may have used them. */
void clean_begin(struct coord *c, struct place *p, uint64_t job, bool started)
{
	if (!started || p->gpu_ids == NULL || p->node->removed)
		return;
	leave_all(c, p, 0, job, p->phase == PL_ENDED ? p->ended_at : c->now, 0);
	coord_wake_at(c, mono_add_ms(c->now, LEFT_MS));
	clean_look(c, p->node);
}

/* It gets them now: what was before is over. */
void clean_forget(struct node *n, uint64_t slots)
{
	n->gpus_left &= ~slots;
	n->gpus_kept &= ~slots;
}

/* Read from disk: an old job's GPUs may still be full. What unfinished jobs hold is
 * known by now: that was clean when they got it, and one of them may be older than the
 * job that had it before. */
void clean_loaded(struct coord *c, struct job *j)
{
	for (size_t i = 0; j->between && j->n_past > 0 && i < j->n_kept; i++)
		leave_all(c, &j->kept[i], 0, j->id, c->now, j->past[j->n_past - 1].end_wall_ms);
	for (size_t i = 0; i < j->n_places; i++) {
		struct place *p = &j->places[i];

		if (job_over(j) && j->end_wall_ms != 0 && j->start_wall_ms != 0 && p->gpu_ids != NULL && !p->node->removed)
			leave_all(c, p, p->node->gpus_held, j->id, c->now, j->end_wall_ms);
	}
}

/* ---- too long --------------------------------------------------------------------- */

static void note_kept(struct coord *c, struct node *n, uint32_t slot)
{
	const struct rec_gpu *g = reading_of(n, slot);

	n->gpus_kept |= bit(slot);
	c->have_dirty = true;
	act_log(c->out, 0, "node %s: GPU %u is kept back: job %llu has ended %d s ago, and %s", n->name,
		n->slots[slot].index, (unsigned long long)n->slots[slot].left_by, LEFT_MS / 1000,
		g != NULL && MSG_HAS(g, gpu, mem_used) ? "its memory is not back" : "no reading shows it");
}

void clean_deadlines(struct coord *c)
{
	for (size_t k = 0; k < c->n_nodes; k++) {
		struct node *n = c->nodes[k];

		for (uint32_t i = 0; (n->gpus_left & ~n->gpus_kept) != 0 && i < n->n_slots; i++) {
			mono_t until = mono_add_ms(n->slots[i].left_since, LEFT_MS);

			if (!((n->gpus_left & ~n->gpus_kept) & bit(i)))
				continue;
			if (mono_due(until, c->now))
				note_kept(c, n, i);
			else
				coord_wake_at(c, until);
		}
	}
}

static const char *how_much(struct arena *a, const struct rec_gpu *g)
{
	return arena_printf(a, "%.1f GB", (double)g->mem_used / 1e9);
}

static const char *whose(struct arena *a, const struct rec_gpu *g)
{
	if (g->procs_unknown)
		return "it is not known by which process";
	if (g->n_procs == 0)
		return "no process owns it";
	return arena_printf(a, "process %u has it", g->procs[0].pid);
}

static void judge(struct arena *a, const struct node *n, uint32_t slot, struct verdicts *v)
{
	const struct rec_gpu *g = reading_of(n, slot);
	const struct gpu_slot *s = &n->slots[slot];
	struct rec_attention *x = &v->v[v->n];

	if (g == NULL || !MSG_HAS(g, gpu, mem_used) || v->n == VERDICTS_MAX)
		return; /* that it cannot be read is told elsewhere */
	*x = (struct rec_attention){ .severity = "bad" };
	x->subject = arena_printf(a, "%s GPU %u", n->name, g->index);
	x->brief = arena_printf(a, "GPU %u not released", g->index);
	x->text = arena_printf(a, "it still holds %s, more than %d s after job %llu ended; %s. It is given to no job",
			       how_much(a, g), LEFT_MS / 1000, (unsigned long long)s->left_by, whose(a, g));
	x->fix = arena_printf(a, "with nodeagentd stopped on %s: nvidia-smi --gpu-reset -i %u; else reboot it", n->name,
			      g->index);
	v->kind[v->n] = (struct verdict_kind){ .noun = "GPU", .is = "not released" };
	v->n += x->subject != NULL && x->text != NULL;
}

void clean_verdicts(struct arena *a, const struct node *n, struct verdicts *v)
{
	for (uint32_t i = 0; n->gpus_kept != 0 && i < n->n_slots; i++)
		if (n->gpus_kept & bit(i))
			judge(a, n, i, v);
}

/* Why it is not free: the job that has left one of these; 0: none. */
uint64_t clean_left_by(const struct node *n)
{
	for (uint32_t i = 0; n->gpus_left != 0 && i < n->n_slots; i++)
		if (n->gpus_left & bit(i))
			return n->slots[i].left_by;
	return 0;
}
