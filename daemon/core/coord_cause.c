/* coord_cause.c - states of ranks, and whose end was the first cause
 *
 * A rank's end is known to lie between two moments of our monotonic clock,
 * which nobody sets: what its agent has measured by its own one, else its wall
 * clock less the node's skew, each with an error; never before the ranks were
 * started nor after we heard of it. Where that makes no sense (somebody set a
 * wall clock meanwhile) only these two bounds hold.
 * Ranks of one host have one clock, and no error between them but what their
 * shims say: how much later than the end they may have come to see it.
 *
 * The first is the one that had surely ended first. Where that is in doubt it
 * is one that was lost, or of which the host knows why it ended, else one that ended unlike the
 * others: those that lose their peer end alike. All that may have come
 * before it are named with it. The first REPORTED bad end ends the job at
 * once; until somebody is told that the job is settled, a report of an earlier
 * end makes a better first. Then it stays, whatever is reported later.
 *
 * Not promised: more than when its shim has reaped a rank, and how long that
 * waited for a processor. A shim that was stopped (SIGSTOP) meanwhile reaps
 * late, and nobody can tell by how much; nor when the ranks of a shim died
 * that was killed itself: between the start and now.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONG_AGO_US INT64_C(315360000000000) /* ten years: longer than any job */
#define WALL_ERROR_US 1000 /* end_wall_ms of an old shim: it is cut to milliseconds */

static const char *const state_names[] = { "waiting", "running", "exited", "killed", "failed", "lost" };

const char *rank_state_name(int state)
{
	return state_names[state];
}

int rank_state_from(const char *s)
{
	for (int i = 0; i < 6; i++)
		if (strcmp(state_names[i], s) == 0)
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

/* ---- when ------------------------------------------------------------------------ */

int64_t cause_now_us(const struct coord *c)
{
	if (c->ev != NULL && c->ev->wall_us != 0)
		return c->ev->wall_us;
	return 1000 * c->wall_ms;
}

static int64_t mono_us(const struct coord *c)
{
	return c->now.ns / 1000;
}

/* What to add to a moment of our monotonic clock for the wall clock as it is now. */
static int64_t wall_base_us(const struct coord *c)
{
	return cause_now_us(c) - mono_us(c);
}

/* No time before it comes in question; before our host was started, too. */
static int64_t started_us(const struct job *j)
{
	return mono_is_never(j->started_at) ? -LONG_AGO_US : j->started_at.ns / 1000;
}

/* What the clocks say: a moment of ours and its error; false: nothing. */
static bool measured(const struct coord *c, const struct node *n, const struct rec_rank_state *s,
		     int64_t *at, int64_t *error)
{
	int64_t end = s->end_us;

	if (MSG_HAS(s, rank_state, at_mono_us) && s->at_error_us < INT64_MAX / 4) {
		*at = s->at_mono_us;
		*error = (int64_t)s->at_error_us;
		return true;
	}
	if (!n->has_skew || n->skew_error_us >= INT64_MAX / 4 || (s->end_us == 0 && s->end_wall_ms == 0))
		return false;
	if (end == 0 && __builtin_mul_overflow(s->end_wall_ms, 1000, &end))
		return false;
	*error = (int64_t)n->skew_error_us + (s->end_us != 0 ? 0 : WALL_ERROR_US);
	return !__builtin_sub_overflow(end, n->skew_us, at) && !__builtin_sub_overflow(*at, wall_base_us(c), at);
}

static void by_mono(struct rank *r, int64_t base)
{
	r->lo_us -= base;
	r->hi_us -= base;
	r->by_wall = false;
}

/* Of a host that has been started since only the wall clock's word is left. It
 * may have been set meanwhile, which shows only when an end is still to come. */
static void by_our_wall(const struct coord *c, struct rank *r)
{
	by_mono(r, wall_base_us(c));
	r->rough = true;
	if (r->lo_us > mono_us(c))
		r->lo_us = -LONG_AGO_US;
	if (r->hi_us > mono_us(c))
		r->hi_us = mono_us(c);
}

void cause_first_event(struct coord *c)
{
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		for (uint32_t i = 0; i < j->n_ranks && !job_over(j); i++)
			if (j->ranks[i].by_wall)
				by_our_wall(c, &j->ranks[i]);
	}
}

void cause_fill_clock(const struct coord *c, const struct job *j, struct rec_row_job *r)
{
	if (c->boot_id[0] == '\0' || job_over(j) || r->n_first + r->n_ranks == 0)
		return;
	for (uint32_t i = 0; i < j->n_ranks; i++)
		if (j->ranks[i].rough)
			return;
	r->clock_boot = c->boot_id;
	MSG_SET(r, row_job, clock_us, wall_base_us(c));
}

void cause_loaded(struct coord *c, struct job *j, const struct rec_row_job *r)
{
	if (job_over(j) || r->clock_boot == NULL || strcmp(r->clock_boot, c->boot_id) != 0 ||
	    llabs(r->clock_us) > INT64_MAX / 4)
		return;
	for (uint32_t i = 0; i < j->n_ranks; i++)
		if (j->ranks[i].by_wall)
			by_mono(&j->ranks[i], r->clock_us);
}

static int64_t late_of(const struct rec_rank_state *s)
{
	return s->late_us < (uint64_t)LONG_AGO_US ? (int64_t)s->late_us : LONG_AGO_US;
}

/* A later word may bring what the first one did not have: a clock that was compared since. */
static void note_time(struct coord *c, const struct job *j, const struct node *n, struct rank *r,
		      const struct rec_rank_state *s)
{
	int64_t at, error, from, to, lo, hi;

	if (r->timed)
		return;
	if (r->hi_us == 0 || r->hi_us == INT64_MAX / 2) {
		r->lo_us = started_us(j);
		r->hi_us = mono_us(c);
	}
	lo = r->rough ? started_us(j) : r->lo_us;
	hi = r->rough ? mono_us(c) : r->hi_us;
	if (s->end_mono_us != 0) {
		r->mono_us = s->end_mono_us;
		r->late_us = late_of(s);
	}
	if (!measured(c, n, s, &at, &error) || __builtin_sub_overflow(at, error + r->late_us, &from) ||
	    __builtin_add_overflow(at, error, &to) || to < lo || from > hi)
		return;
	r->lo_us = from > lo ? from : lo;
	r->hi_us = to < hi ? to : hi;
	r->timed = true;
	r->rough = false;
}

/* Read from disk: as it was found then; its node may know it better. By which
 * clock cause_loaded() or, when it is known what time it is now, cause_first_event() tells. */
static void load_time(struct rank *r, const struct rec_rank_state *s)
{
	r->mono_us = s->end_mono_us;
	r->late_us = late_of(s);
	r->hi_us = INT64_MAX / 2;
	if (!MSG_HAS(s, rank_state, at_us) || s->at_error_us > INT64_MAX / 4 || s->at_us < 0 ||
	    s->at_us > INT64_MAX / 4)
		return;
	r->lo_us = s->at_us - (int64_t)s->at_error_us;
	r->hi_us = s->at_us + (int64_t)s->at_error_us;
	r->by_wall = true;
}

void cause_fill_time(const struct coord *c, const struct rank *r, struct rec_rank_state *s)
{
	int64_t base = r->by_wall ? 0 : wall_base_us(c);

	s->end_mono_us = r->mono_us;
	if (r->late_us != 0)
		MSG_SET(s, rank_state, late_us, (uint64_t)r->late_us);
	if (!rank_is_over(r) || r->hi_us == 0 || r->hi_us > INT64_MAX / 4)
		return;
	MSG_SET(s, rank_state, at_us, base + r->lo_us + (r->hi_us - r->lo_us) / 2);
	MSG_SET(s, rank_state, at_error_us, (uint64_t)(r->hi_us - r->lo_us + 1) / 2);
}

/* Lost with its node: after its last word, and before now. Where that is what it says
 * now (it was rebooted, it does not know the job), after its last word before it came back.
 * Who has missed the job since we were started has said nothing before that. */
void cause_lost_time(struct coord *c, const struct job *j, uint32_t i, struct rank *r)
{
	const struct node *n = j->places[i].node;
	mono_t word = n->spoke.ns == c->now.ns ? n->spoke_before : n->spoke;
	int64_t started = started_us(j);

	if (j->places[i].missing)
		word.ns = 0;
	r->lo_us = word.ns != 0 && word.ns / 1000 > started ? word.ns / 1000 : started;
	r->hi_us = mono_us(c);
}

/* ---- states -------------------------------------------------------------------------- */

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
	if (c->ev != NULL && below_pid(&r->below) != 0 && !j->first_settled) /* while it is remembered who used what */
		evidence_gpu(r, &j->places[node_rank]);
	if (rank_is_over(r) && state == (int)r->state && c->ev != NULL && !j->first_settled)
		note_time(c, j, j->places[node_rank].node, r, s);
	if (rank_is_over(r) || state < (int)r->state)
		return;
	r->state = state;
	r->pid = s->pid != 0 ? s->pid : r->pid;
	r->code = s->code;
	r->sig = s->sig;
	r->ours = s->ours;
	r->core = s->core;
	r->start_wall_ms = s->start_wall_ms != 0 ? s->start_wall_ms : r->start_wall_ms;
	/* That it was told to start may not have been stored: a full disk, a restart, a shim that
	 * was stopped until its end. What ran has output, and is not to look as if it never did. */
	if (j->start_wall_ms == 0)
		j->start_wall_ms = r->start_wall_ms;
	r->end_wall_ms = s->end_wall_ms;
	r->maybe_first = s->maybe_first;
	if (s->text != NULL && r->text == NULL)
		r->text = coord_strdup(c, s->text);
	if (s->cause != NULL && r->cause == NULL)
		r->cause = coord_strdup(c, s->cause);
	if (MSG_HAS(s, rank_state, gpu)) {
		r->has_gpu = true;
		r->gpu = s->gpu;
	}
	copy_tail(c, r, s->tail);
	if (!rank_is_over(r))
		return;
	if (c->ev == NULL) {
		load_time(r, s);
		return;
	}
	note_time(c, j, j->places[node_rank].node, r, s);
	evidence_gpu(r, &j->places[node_rank]);
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

/* ---- who was first ---------------------------------------------------------------------- */

static const struct place *place_of_rank(const struct job *j, uint32_t i)
{
	return &j->places[i / j->ppn];
}

/* Virtual nodes of one host, and ranks of one node: the same monotonic clock. */
static bool same_clock(const struct job *j, uint32_t a, uint32_t b)
{
	return j->ranks[a].mono_us != 0 && j->ranks[b].mono_us != 0 &&
	       strcmp(place_of_rank(j, a)->boot_id, place_of_rank(j, b)->boot_id) == 0;
}

/* As far as is known: by the last moment at which it can have happened. */
static bool earlier(const struct job *j, uint32_t a, uint32_t b)
{
	if (same_clock(j, a, b))
		return j->ranks[a].mono_us < j->ranks[b].mono_us;
	return j->ranks[a].hi_us < j->ranks[b].hi_us;
}

static bool surely_later(const struct job *j, uint32_t a, uint32_t b)
{
	if (same_clock(j, a, b))
		return j->ranks[a].mono_us - j->ranks[a].late_us > j->ranks[b].mono_us;
	if (a / j->ppn == b / j->ppn && j->ranks[a].state == RK_LOST && j->ranks[b].state != RK_LOST)
		return true; /* what told of the one lived, and knew of no end of the other */
	if (j->ranks[a].rough || j->ranks[b].rough)
		return false; /* as long as no clock was compared since */
	return j->ranks[a].lo_us > j->ranks[b].hi_us;
}

static bool is_candidate(const struct rank *r, bool also_ours)
{
	return rank_bad(r) && (also_ours || !r->ours);
}

/* One of all the ways to end: exited by code, killed by signal, and three more. */
#define WAYS (256 + 65 + 3)

static size_t way_of(const struct rank *r)
{
	switch (r->state) {
	case RK_EXITED:
		return r->code % 256;
	case RK_KILLED:
		return 256 + r->sig % 65;
	default:
		return 256 + 65 + (size_t)r->state % 3;
	}
}

/* Nothing that happens to another rank takes a node away. */
static bool known_why(const struct rank *r)
{
	return r->cause != NULL || r->state == RK_LOST;
}

/* Of two that may both have been the first: which tells more? */
static bool tells_more(const struct rank *a, const struct rank *b, const uint32_t n[WAYS])
{
	if (known_why(a) != known_why(b))
		return known_why(a);
	return n[way_of(a)] < n[way_of(b)];
}

/* The one that is named already, unless another one was earlier or tells more. */
int64_t cause_find(const struct job *j, bool also_ours)
{
	uint32_t n[WAYS] = { 0 };
	int64_t first = j->first, best;

	for (uint32_t i = 0; i < j->n_ranks; i++) {
		if (!is_candidate(&j->ranks[i], also_ours))
			continue;
		n[way_of(&j->ranks[i])]++;
		if (first < 0 || earlier(j, i, (uint32_t)first))
			first = i;
	}
	best = first;
	for (uint32_t i = 0; first >= 0 && i < j->n_ranks; i++)
		if (is_candidate(&j->ranks[i], also_ours) && !surely_later(j, i, (uint32_t)first) &&
		    tells_more(&j->ranks[i], &j->ranks[best], n))
			best = i;
	return best;
}

/* Those that may have come before the first one: the clocks do not tell. */
void cause_mark_either(struct job *j)
{
	bool ours;

	if (j->first < 0 || j->first_settled)
		return;
	ours = j->ranks[j->first].ours;

	for (uint32_t i = 0; i < j->n_ranks; i++)
		j->ranks[i].maybe_first = (int64_t)i != j->first && is_candidate(&j->ranks[i], ours) &&
					  !surely_later(j, i, (uint32_t)j->first);
}

/* While the job is being ended: an earlier end was reported later. */
void cause_improve(struct coord *c, struct job *j)
{
	int64_t best;
	char text[400];

	if (j->first < 0 || j->first_settled || job_over(j))
		return;
	best = cause_find(j, j->ranks[j->first].ours);
	if (best != j->first) {
		cause_say(j, (uint32_t)j->first, text, sizeof(text));
		if (surely_later(j, (uint32_t)j->first, (uint32_t)best))
			job_tell(c, j, NULL, 0, 0, "an earlier end was reported: %s, but was not the first", text);
		else
			job_tell(c, j, NULL, 0, 0, "another end may have been the first, and tells more: %s", text);
		j->first = best;
		cause_tell_death(c, j, (uint32_t)best);
		job_changed(c, j);
	}
	cause_mark_either(j);
}

/* Nothing that a client is told as settled may change: before that the first
 * is on disk as one that stays, even when a silent node knows better. */
void cause_settle(struct coord *c, struct job *j)
{
	struct pending *pd;

	struct action *p;

	if (j->first < 0 || j->first_settled || !job_may_settle(j) || !mono_is_never(j->settle_at))
		return;
	cause_mark_either(j);
	evidence_attach(c, j);
	j->settling = j->first_settled = true; /* in the row; told when that is on disk */
	p = coord_persist(c, &pd);
	persist_job(c, p, j);
	pd->kind = PD_SETTLE;
	pd->job = j->id;
}

void cause_settled(struct coord *c, struct job *j, int error)
{
	j->settling = false;
	if (error == 0) {
		job_changed(c, j);
		return;
	}
	if (job_over(j))
		return;
	j->first_settled = false;
	j->settle_at = mono_add_ms(c->now, SAVE_RETRY_MS);
	coord_wake_at(c, j->settle_at);
}

void cause_deadline(struct coord *c, struct job *j)
{
	if (mono_is_never(j->settle_at))
		return;
	if (!mono_due(j->settle_at, c->now)) {
		coord_wake_at(c, j->settle_at);
		return;
	}
	j->settle_at = MONO_NEVER;
	job_changed(c, j);
}

void cause_tell_death(struct coord *c, struct job *j, uint32_t i)
{
	const struct rank *r = &j->ranks[i];
	char text[400];

	cause_say(j, i, text, sizeof(text));
	if (r->timed)
		job_tell(c, j, place_of_rank(j, i)->node->name,
			 wall_base_us(c) + r->lo_us + (r->hi_us - r->lo_us) / 2,
			 (uint64_t)(r->hi_us - r->lo_us + 1) / 2, "%s", text);
	else
		job_tell(c, j, place_of_rank(j, i)->node->name, 0, 0, "%s; when is not known", text);
}
