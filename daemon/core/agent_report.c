/* agent_report.c - states of this node's ranks, and what the coordinator is told
 *
 * States only go forward: waiting -> running -> exited | killed | failed | lost.
 * A report that cannot be sent now is not queued: registration carries it.
 */
#include "core/agent_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "proto/frame.h"
#include "proto/workers.h"

#define WORDS_MAX 400000 /* bytes of a message that may be words; a frame is 1 MiB */
#define OTHERS_MAX 131072 /* ... what else is in a registration: keys, specifications, addresses */
#define RANK_BYTES 200 /* ... and what there is of each rank without words */
#define WORKER_BYTES 150 /* one in a message, without words */

static bool over(const struct local_rank *r)
{
	return strcmp(r->state, "waiting") != 0 && strcmp(r->state, "running") != 0;
}

static void update_one(struct agent *a, struct local_rank *r, const struct rec_rank_state *s)
{
	uint8_t *tail;

	if (s->lost_bytes > r->lost_bytes)
		r->lost_bytes = s->lost_bytes;
	below_take(&r->below, s);
	if (over(r) || (strcmp(r->state, "running") == 0 && strcmp(s->state, "waiting") == 0))
		return;
	snprintf(r->state, sizeof(r->state), "%s", s->state);
	r->pid = s->pid != 0 ? s->pid : r->pid;
	r->code = s->code;
	r->sig = s->sig;
	r->core = s->core;
	r->ours = s->ours;
	r->start_wall_ms = s->start_wall_ms != 0 ? s->start_wall_ms : r->start_wall_ms;
	r->end_wall_ms = s->end_wall_ms;
	r->end_us = s->end_us;
	r->end_mono_us = s->end_mono_us;
	r->late_us = s->late_us;
	if (s->cause != NULL && r->cause == NULL)
		r->cause = agent_strdup(a, s->cause);
	if (s->text != NULL && r->text == NULL)
		r->text = agent_strdup(a, s->text);
	if (s->tail.n == 0 || r->tail.n != 0)
		return;
	tail = malloc(s->tail.n);
	if (tail == NULL)
		return; /* a report without its last lines is better than none */
	memcpy(tail, s->tail.p, s->tail.n);
	r->tail = (struct bytes){ tail, s->tail.n };
}

void report_update(struct agent *a, struct ajob *j, const struct rec_rank_state *v, size_t n)
{
	const struct rec_prepare *p = &j->prepare.u.prepare;

	for (size_t i = 0; i < n; i++)
		if (v[i].rank >= p->rank_base && v[i].rank - p->rank_base < p->nprocs)
			update_one(a, &j->ranks[v[i].rank - p->rank_base], &v[i]);
}

void report_rest(struct agent *a, struct ajob *j, const char *state, uint32_t code,
		 const char *text)
{
	for (uint32_t i = 0; i < j->prepare.u.prepare.nprocs; i++) {
		struct local_rank *r = &j->ranks[i];

		if (over(r))
			continue;
		snprintf(r->state, sizeof(r->state), "%s", state);
		r->code = code;
		r->below.status_unknown = strcmp(state, "lost") == 0;
		r->end_wall_ms = a->ev->wall_ms;
		free(r->text);
		r->text = text != NULL ? strndup(text, 500) : NULL;
		if (r->text != NULL)
			utf8_scrub(r->text);
	}
}

/* When it ended, by the coordinator's clock. */
static void put_time(const struct agent *a, const struct local_rank *r, struct rec_rank_state *s)
{
	uint64_t error;
	int64_t at;

	s->end_us = r->end_us;
	s->end_mono_us = r->end_mono_us;
	if (r->late_us != 0)
		MSG_SET(s, rank_state, late_us, r->late_us);
	if (r->end_mono_us <= 0 || r->end_mono_us > INT64_MAX / 1000 ||
	    !skew_map(&a->mono_skew, (mono_t){ r->end_mono_us * 1000 }, &at, &error))
		return;
	MSG_SET(s, rank_state, at_mono_us, at);
	MSG_SET(s, rank_state, at_error_us, error);
}

size_t report_fill(struct arena *ar, struct agent *a, const struct ajob *j,
		   struct rec_rank_state **ret)
{
	const struct rec_prepare *p = &j->prepare.u.prepare;
	struct rec_rank_state *v = arena_alloc(ar, p->nprocs * sizeof(*v) + 1);
	size_t tails = 0;

	*ret = v;
	for (uint32_t i = 0; v != NULL && i < p->nprocs; i++) {
		const struct local_rank *r = &j->ranks[i];

		v[i].rank = p->rank_base + i;
		v[i].state = r->state;
		v[i].pid = r->pid;
		if (over(r))
			MSG_SET(&v[i], rank_state, code, r->code);
		v[i].sig = r->sig;
		v[i].core = r->core;
		v[i].ours = r->ours;
		v[i].start_wall_ms = r->start_wall_ms;
		v[i].end_wall_ms = r->end_wall_ms;
		v[i].lost_bytes = r->lost_bytes;
		v[i].text = r->text;
		v[i].cause = r->cause;
		put_time(a, r, &v[i]);
		if (r->tail.n != 0 && tails++ < 16)
			v[i].tail = r->tail;
		below_fill(&r->below, true, &v[i]);
	}
	if (v == NULL) /* nobody may hear of an end without its codes */
		a->oom = true;
	return v != NULL ? p->nprocs : 0;
}

/* ---- what fits a registration --------------------------------------------------------- */

static size_t text_size(const char *s)
{
	return s != NULL ? strlen(s) : 0;
}

static size_t words_of(const struct rec_rank_state *r)
{
	size_t n = r->tail.n * 4 / 3 + text_size(r->exception) + text_size(r->text) + text_size(r->cause) +
		   r->n_workers * WORKER_BYTES;

	for (size_t i = 0; i < r->n_workers; i++)
		n += text_size(r->workers[i].exception);
	return n;
}

/* The first bad one is the cause, or tells it: it keeps its exception. Of the others that goes, or
 * they go altogether. */
static void spare_workers(struct arena *ar, struct rec_rank_state *r, bool only_first)
{
	const struct rec_worker *first = workers_first(r->workers, r->n_workers);
	struct rec_worker *v;
	size_t n = 0;

	if (r->n_workers == 0)
		return;
	v = arena_alloc(ar, r->n_workers * sizeof(*v));
	for (size_t i = 0; v != NULL && i < r->n_workers; i++) {
		if (only_first && &r->workers[i] != first)
			continue;
		v[n] = r->workers[i];
		if (&r->workers[i] != first)
			v[n].exception = NULL;
		n++;
	}
	r->workers = v;
	r->n_workers = n;
}

static void leave_out(struct arena *ar, struct rec_rank_state *r, int what)
{
	if (what == 0)
		r->tail = (struct bytes){ NULL, 0 };
	else if (what == 1)
		spare_workers(ar, r, true);
	else if (what == 2)
		r->exception = NULL;
	else
		r->text = r->cause = NULL;
}

static size_t words_of_all(const struct rec_held *held, size_t n, size_t *ret_max)
{
	size_t words = 0, ranks = 0;

	for (size_t i = 0; i < n; i++) {
		ranks += held[i].n_ranks;
		for (size_t k = 0; k < held[i].n_ranks; k++)
			words += words_of(&held[i].ranks[k]);
	}
	*ret_max = ranks * RANK_BYTES + OTHERS_MAX < FRAME_MAX ? FRAME_MAX - OTHERS_MAX - ranks * RANK_BYTES : 0;
	*ret_max = *ret_max < WORDS_MAX ? *ret_max : WORDS_MAX;
	return words;
}

void report_fit(struct arena *ar, struct rec_held *held, size_t n)
{
	size_t words, max;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < held[i].n_ranks; k++)
			spare_workers(ar, &held[i].ranks[k], false);
	words = words_of_all(held, n, &max);
	for (int what = 0; what < 4; what++)
		for (size_t i = 0; i < n && words > max; i++)
			for (size_t k = 0; k < held[i].n_ranks && (what < 3 || words > max); k++) {
				words -= words_of(&held[i].ranks[k]);
				leave_out(ar, &held[i].ranks[k], what);
				words += words_of(&held[i].ranks[k]);
			}
}

void report_prepared(struct agent *a, struct ajob *j)
{
	struct msg m;
	struct rec_prepared *p = &m.u.prepared;

	msg_init(&m, MSG_prepared);
	p->job = j->job;
	p->attempt = j->attempt;
	p->ok = j->phase != AJ_FAILED;
	if (!p->ok) {
		p->text = j->fail_text != NULL ? j->fail_text : "cannot prepare";
		p->retry = j->fail_retry;
		MSG_SET(p, prepared, code, j->fail_code != 0 ? j->fail_code : 1);
	} else {
		p->master_port = j->master_port;
		p->proof_port = j->proof_port;
		if (lease_kept(j))
			MSG_SET(p, prepared, leased, true);
	}
	session_send(a, &m);
}

void report_ranks(struct agent *a, struct ajob *j, const struct rec_ranks *r)
{
	const struct rec_prepare *p = &j->prepare.u.prepare;
	struct arena ar;
	struct msg m;

	arena_init(&ar);
	msg_init(&m, MSG_ranks);
	m.u.ranks.job = j->job;
	m.u.ranks.attempt = j->attempt;
	m.u.ranks.ranks = r->n_ranks > 0 ? arena_memdup(&ar, r->ranks, r->n_ranks * sizeof(*r->ranks)) : NULL;
	m.u.ranks.n_ranks = m.u.ranks.ranks != NULL ? r->n_ranks : 0;
	a->oom = a->oom || m.u.ranks.n_ranks != r->n_ranks;
	for (size_t i = 0; i < m.u.ranks.n_ranks; i++) {
		struct rec_rank_state *s = &m.u.ranks.ranks[i];

		if (s->rank >= p->rank_base && s->rank - p->rank_base < p->nprocs)
			put_time(a, &j->ranks[s->rank - p->rank_base], s);
	}
	session_send(a, &m);
	arena_finish(&ar);
}

static bool any_timed(const struct ajob *j)
{
	for (uint32_t i = 0; i < j->prepare.u.prepare.nprocs; i++)
		if (j->ranks[i].end_mono_us != 0)
			return true;
	return false;
}

/* The registration could not tell it yet: no clock was compared with this coordinator's. */
void report_times(struct agent *a)
{
	list_foreach(e, &a->jobs) {
		struct ajob *j = list_entry(e, struct ajob, all);
		struct rec_ranks r = { 0 };
		struct arena ar;

		if (!any_timed(j))
			continue;
		if (j->phase == AJ_ENDED) {
			report_ended(a, j);
			continue;
		}
		arena_init(&ar);
		r.n_ranks = report_fill(&ar, a, j, &r.ranks);
		report_ranks(a, j, &r);
		arena_finish(&ar);
	}
}

void report_ended(struct agent *a, struct ajob *j)
{
	struct rec_held h = { 0 };
	struct arena ar;
	struct msg m;
	size_t max;

	arena_init(&ar);
	msg_init(&m, MSG_ended);
	m.u.ended.job = j->job;
	m.u.ended.attempt = j->attempt;
	m.u.ended.text = j->end_text;
	if (j->lapsed)
		MSG_SET(&m.u.ended, ended, lapsed, true);
	m.u.ended.n_ranks = report_fill(&ar, a, j, &m.u.ended.ranks);
	h.ranks = m.u.ended.ranks;
	h.n_ranks = m.u.ended.n_ranks;
	if (words_of_all(&h, 1, &max) > max)
		report_fit(&ar, &h, 1); /* in place */
	session_send(a, &m);
	arena_finish(&ar);
}
