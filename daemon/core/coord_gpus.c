/* coord_gpus.c - the GPUs of a node, and who holds them
 *
 * An index is no name: it shifts when a GPU before it falls off the bus or comes
 * back. So each node has a table of slots, one for each GPU that was seen or is
 * held (64 at most), found again by UUID; masks are of slots, and a reading only
 * says which index a slot has now. A GPU without a UUID goes by "#index".
 *
 * Not known is not none: a node whose probe is silent or whose driver is
 * broken gets no job that wants GPUs, and shows "?".
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX 64
#define NO_SLOT (-1)

/* ---- slots ------------------------------------------------------------------------ */

static uint64_t bit(int slot)
{
	return slot >= 0 ? UINT64_C(1) << slot : 0;
}

static int slot_find(const struct node *n, const char *id, size_t len)
{
	for (uint32_t i = 0; i < n->n_slots; i++)
		if (strlen(n->slots[i].id) == len && memcmp(n->slots[i].id, id, len) == 0)
			return (int)i;
	return NO_SLOT;
}

/* One that nobody holds and no reading shows, or a new one. */
static int slot_new(struct coord *c, struct node *n)
{
	struct gpu_slot *v;

	for (uint32_t i = 0; i < n->n_slots; i++)
		if (!n->slots[i].here && !((n->gpus_held | n->gpus_left) & bit((int)i)))
			return (int)i;
	if (n->n_slots == SLOTS_MAX)
		return NO_SLOT;
	v = realloc(n->slots, (n->n_slots + 1) * sizeof(*v));
	if (v == NULL) {
		c->oom = true;
		return NO_SLOT;
	}
	n->slots = v;
	return (int)n->n_slots++;
}

int gpu_slot_take(struct coord *c, struct node *n, const char *id, size_t len)
{
	int slot = slot_find(n, id, len);

	if (len >= sizeof(n->slots[0].id))
		return NO_SLOT;
	if (slot == NO_SLOT && (slot = slot_new(c, n)) != NO_SLOT) {
		n->slots[slot] = (struct gpu_slot){ 0 };
		memcpy(n->slots[slot].id, id, len);
	}
	return slot;
}

static int slot_of(const struct node *n, const struct rec_gpu *g)
{
	for (uint32_t i = 0; i < n->n_slots; i++)
		if (n->slots[i].here && n->slots[i].index == g->index)
			return (int)i;
	return NO_SLOT;
}

/* As drivers write it; what else an agent may say is no name. */
static bool is_uuid(const char *s)
{
	return s != NULL && *s != '\0' &&
	       s[strspn(s, "0123456789-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")] == '\0';
}

/* Held, had this index, and no reading shows it: a GPU that has just lost its name. */
static int slot_missed(const struct node *n, uint32_t index)
{
	for (uint32_t i = 0; i < n->n_slots; i++)
		if (n->gpus_held & bit((int)i) && !n->slots[i].here && n->slots[i].index == index)
			return (int)i;
	return NO_SLOT;
}

/* A job that was stored by index only holds what has that index at first. */
static int slot_of_reading(struct coord *c, struct node *n, const struct rec_gpu *g)
{
	char by_index[16];
	int slot;

	snprintf(by_index, sizeof(by_index), "#%u", g->index);
	if (!is_uuid(g->uuid)) {
		slot = slot_missed(n, g->index);
		return slot != NO_SLOT ? slot : gpu_slot_take(c, n, by_index, strlen(by_index));
	}
	slot = slot_find(n, by_index, strlen(by_index));
	if (slot == NO_SLOT || slot_find(n, g->uuid, strlen(g->uuid)) != NO_SLOT)
		return gpu_slot_take(c, n, g->uuid, strlen(g->uuid));
	snprintf(n->slots[slot].id, sizeof(n->slots[slot].id), "%s", g->uuid);
	return slot;
}

void gpus_forget(struct node *n)
{
	for (uint32_t i = 0; i < n->n_slots; i++)
		n->slots[i].here = false;
	n->gpus_all = 0;
	n->gpu_procs = false;
}

/* Once for each reading: scheduling asks for it again and again. */
void gpus_note(struct coord *c, struct node *n)
{
	const struct rec_readings *r = &n->readings.u.readings;

	for (size_t i = 0; i < r->n_gpus; i++) {
		const struct rec_gpu *g = &r->gpus[i];
		int slot = slot_of_reading(c, n, g);

		if (slot == NO_SLOT)
			continue;
		n->slots[slot].here = true;
		n->slots[slot].index = g->index;
		if (!g->shared_out && g->text == NULL)
			n->gpus_all |= bit(slot);
		n->gpu_procs = n->gpu_procs || g->n_procs > 0 || g->procs_unknown;
	}
}

/* ---- what is known of them ------------------------------------------------------------ */

/* What a driver that is being exchanged says for a moment is not believed while
 * a job holds GPUs there. A probe that cannot speak of GPUs does not mean that
 * there are none: only a driver that is not there does. */
enum gpu_truth node_gpu_truth(const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	const struct rec_source *s = r != NULL ? readings_source(r, "nvml") : NULL;
	bool none = !n->probe || (s != NULL && s->absent);

	if (none)
		return n->gpus_held != 0 ? GPU_UNKNOWN : GPU_NONE;
	return s != NULL && s->ok ? GPU_SOME : GPU_UNKNOWN;
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

/* In use by somebody who does not hold it. What is left of a job that was given
 * up counts too; a reading that is older than the proof that all of a job is
 * dead here does not. */
static bool is_stranger(struct coord *c, const struct node *n, int slot, const struct rec_gpu_proc *p)
{
	struct job *j = MSG_HAS(p, gpu_proc, job) ? job_find(c, p->job) : NULL;
	const struct place *at;
	uint32_t i;

	at = j != NULL ? job_place_of(j, n, &i) : NULL;
	if (at == NULL)
		return true;
	if (at->phase == PL_ENDED)
		return mono_before(at->ended_at, n->readings_at);
	return at->phase == PL_LOST || !(at->gpus & bit(slot));
}

uint64_t node_gpus_strange(struct coord *c, const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	uint64_t mask = 0;

	for (size_t i = 0; r != NULL && n->gpu_procs && i < r->n_gpus; i++) {
		int slot = slot_of(n, &r->gpus[i]);

		if (r->gpus[i].procs_unknown) /* nobody can say that it is free */
			mask |= bit(slot);
		for (size_t k = 0; k < r->gpus[i].n_procs; k++)
			if (is_stranger(c, n, slot, &r->gpus[i].procs[k]))
				mask |= bit(slot);
	}
	return mask & node_gpus(n);
}

/* Not by what they read: a host may have one GPU left, and it is nobody else's then. */
void gpus_find_siblings(struct coord *c, struct node *n)
{
	for (size_t i = 0; i < c->n_nodes; i++)
		if (c->nodes[i] != n && strcmp(c->nodes[i]->boot_id, n->boot_id) == 0)
			n->gpus_shared = c->nodes[i]->gpus_shared = true;
}

/* Virtual nodes have the GPUs of their host between them, by index: when that
 * shifts, one of them sees as its own what another one's job holds. */
static uint64_t held_by_siblings(struct coord *c, const struct node *n)
{
	uint64_t mask = 0;

	for (size_t i = 0; n->gpus_shared && i < c->n_nodes; i++) {
		const struct node *x = c->nodes[i];

		if (x == n || (x->gpus_held | x->gpus_left) == 0 || strcmp(x->boot_id, n->boot_id) != 0)
			continue;
		for (uint32_t k = 0; k < x->n_slots; k++)
			if ((x->gpus_held | x->gpus_left) & bit((int)k))
				mask |= bit(slot_find(n, x->slots[k].id, strlen(x->slots[k].id)));
	}
	return mask;
}

uint64_t node_gpus_free(struct coord *c, const struct node *n, bool strangers_too)
{
	uint64_t mask = node_gpus(n) & ~n->gpus_held & ~n->gpus_left & ~held_by_siblings(c, n);

	return strangers_too ? mask : mask & ~node_gpus_strange(c, n);
}

uint64_t node_gpu_bit(const struct node *n, const struct rec_gpu *g)
{
	return bit(slot_of(n, g));
}

/* ---- giving out ------------------------------------------------------------------------ */

static int lowest(const struct node *n, uint64_t mask)
{
	int best = NO_SLOT;

	for (uint32_t i = 0; i < n->n_slots; i++)
		if (mask & bit((int)i) && (best < 0 || n->slots[i].index < n->slots[best].index))
			best = (int)i;
	return best;
}

/* NULL on ENOMEM */
static char *list(const struct node *n, uint64_t mask, bool ids)
{
	struct buf b;
	int slot;

	buf_init(&b);
	for (; (slot = lowest(n, mask)) != NO_SLOT; mask &= ~bit(slot)) {
		buf_addf(&b, "%s", b.len > 0 ? "," : "");
		if (ids)
			buf_addf(&b, "%s", n->slots[slot].id);
		else
			buf_addf(&b, "%u", n->slots[slot].index);
	}
	return buf_steal(&b, NULL);
}

int place_take_gpus(struct coord *c, struct place *p, uint64_t mask, uint32_t want)
{
	p->gpus = 0;
	for (int slot; want > 0 && (slot = lowest(p->node, mask)) != NO_SLOT; want--) {
		p->gpus |= bit(slot);
		mask &= ~bit(slot);
	}
	place_hold(p);
	if (p->gpus == 0)
		return 0;
	p->gpus_text = list(p->node, p->gpus, false);
	p->gpu_ids = list(p->node, p->gpus, true);
	p->gpu_base = clean_note(c, p);
	clean_forget(p->node, p->gpus);
	return p->gpus_text != NULL && p->gpu_ids != NULL && p->gpu_base != NULL ? 0 : -ENOMEM;
}

int gpu_slot_named(const struct node *n, const char *id, size_t len)
{
	return slot_find(n, id, len);
}

/* As stored; without 'ids' (a row of an older program) by index. */
int place_load_gpus(struct place *p, const char *text, const char *ids)
{
	struct buf b;

	if (text == NULL || *text == '\0')
		return 0;
	buf_init(&b);
	for (const char *x = text; ids == NULL && *x != '\0'; x += strcspn(x, ","), x += *x == ',')
		buf_addf(&b, "%s#%.*s", b.len > 0 ? "," : "", (int)strcspn(x, ","), x);
	if (ids != NULL)
		buf_addf(&b, "%s", ids);
	p->gpus_text = strdup(text);
	p->gpu_ids = buf_steal(&b, NULL);
	return p->gpus_text != NULL && p->gpu_ids != NULL ? 0 : -ENOMEM;
}

/* After a restart: its node is known again. */
void place_hold_loaded(struct coord *c, struct place *p)
{
	for (const char *x = p->gpu_ids; x != NULL && *x != '\0';) {
		size_t len = strcspn(x, ",");

		p->gpus |= bit(gpu_slot_take(c, p->node, x, len));
		place_hold(p); /* or the next one gets the same slot */
		x += len + (x[len] == ',');
	}
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

/* Nobody has said that it is gone: who is next would meet it there. */
void place_release_final(struct place *p)
{
	if (p->phase == PL_LOST && !p->gone)
		p->node->gpus_ghost |= p->gpus;
	else
		place_release(p);
}

/* Its node came back before the job was over, and says now that all of it has ended there. */
void place_gone_late(struct coord *c, struct place *p)
{
	uint64_t mine = p->gpus & p->node->gpus_ghost;

	if (p->phase != PL_LOST || p->gone)
		return;
	p->gone = true;
	p->node->gpus_held &= ~mine;
	p->node->gpus_ghost &= ~mine;
	c->have_dirty = true; /* somebody may wait for them */
}

void gpus_told_anew(struct coord *c, struct node *n)
{
	n->gpus_held &= ~n->gpus_ghost;
	n->gpus_ghost = 0;
	free(n->stale);
	n->stale = NULL;
	n->n_stale = 0;
	(void)c;
}

void gpus_stale(struct coord *c, struct node *n, uint64_t job, uint32_t attempt)
{
	struct stale *v;

	for (size_t i = 0; i < n->n_stale; i++)
		if (n->stale[i].job == job && n->stale[i].attempt == attempt)
			return;
	if (n->n_stale == NODE_JOBS_MAX)
		return; /* no agent holds more: what it says beyond is not kept */
	v = realloc(n->stale, (n->n_stale + 1) * sizeof(*v));
	if (v == NULL) {
		c->oom = true;
		return;
	}
	n->stale = v;
	v[n->n_stale++] = (struct stale){ job, attempt };
}

void gpus_stale_ended(struct coord *c, struct node *n, uint64_t job, uint32_t attempt)
{
	for (size_t i = 0; i < n->n_stale; i++) {
		if (n->stale[i].job != job || n->stale[i].attempt != attempt)
			continue;
		n->stale[i] = n->stale[--n->n_stale];
		c->have_dirty = true; /* somebody may wait for it */
		return;
	}
}

void places_free(struct place *v, size_t n)
{
	for (size_t i = 0; v != NULL && i < n; i++) {
		free(v[i].gpus_text);
		free(v[i].gpu_base);
		free(v[i].gpu_ids);
		free(v[i].proof_text);
	}
	free(v);
}
