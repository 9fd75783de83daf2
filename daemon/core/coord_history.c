/* coord_history.c - what is kept of jobs that are over, and for how long
 *
 * Of a job that is over the coordinator keeps, in memory and on disk, what people ask
 * about later: when, where, whose, how it ended, and how many of its ranks ended
 * how. Of a few ranks all are kept, of many the first cause and those that ended
 * badly by themselves, HISTORY_RANKS at most.
 *
 * Ended jobs beyond history_jobs go, those first that ended first: a job of weeks is older
 * than all that came after it, and is asked about when it has ended. In which order they
 * ended the wall clock tells after a restart only. Those that ended more
 * than history_days ago go, too. Days are the wall clock's: with a wrong one they go too
 * early, which is why by default none are set.
 */
#include "core/coord_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)
#define PRUNE_ROWS 100u /* in one transaction */
#define LOOK_MS 3600000

/* ---- ranks ---------------------------------------------------------------------- */

static bool same_end(const struct rank_sum *a, const struct rank *b)
{
	return a->state == (int)b->state && a->code == b->code && a->sig == b->sig && a->ours == b->ours;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* What is worth a line of its own later: 0 first, 3 not at all. */
static int interest(const struct job *j, size_t i)
{
	const struct rank *r = &j->ranks[i];

	if ((int64_t)i == j->first)
		return 0;
	if ((rank_bad(r) && !r->ours) || r->maybe_first)
		return 1;
	return r->lost_bytes > 0 ? 2 : 3;
}

size_t history_pick(const struct job *j, uint32_t ret[HISTORY_RANKS])
{
	size_t n = 0;

	if (j->rank_no != NULL || j->n_ranks <= HISTORY_RANKS) {
		for (n = 0; n < j->n_ranks; n++)
			ret[n] = (uint32_t)n;
		return n;
	}
	for (int want = 0; want < 3; want++)
		for (size_t i = 0; i < j->n_ranks && n < HISTORY_RANKS; i++)
			if (interest(j, i) == want)
				ret[n++] = (uint32_t)i;
	qsort(ret, n, sizeof(*ret), by_number);
	return n;
}

/* Beyond HISTORY_SUMS kinds of ends the rest is not told apart: it counts as the last one's. */
static size_t count_ends(const struct job *j, struct rank_sum v[HISTORY_SUMS])
{
	size_t n = 0, k;

	for (size_t i = 0; i < j->n_ranks; i++) {
		const struct rank *r = &j->ranks[i];

		for (k = 0; k < n && !same_end(&v[k], r); k++)
			;
		if (k == n && n < HISTORY_SUMS)
			v[n++] = (struct rank_sum){ .state = (int)r->state, .code = r->code, .sig = r->sig,
						    .ours = r->ours };
		v[k < n ? k : n - 1].n++;
	}
	return n;
}

size_t history_fill_sums(struct arena *a, const struct job *j, struct rec_rank_sum **ret)
{
	struct rank_sum v[HISTORY_SUMS];
	const struct rank_sum *s = v;
	size_t n;

	if (j->sums != NULL) {
		s = j->sums;
		n = j->n_sums;
	} else {
		n = count_ends(j, v);
	}
	*ret = arena_alloc(a, n * sizeof(**ret) + 1);
	if (*ret == NULL)
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct rec_rank_sum *r = &(*ret)[i];

		*r = (struct rec_rank_sum){ .state = rank_state_name(s[i].state), .n = s[i].n, .ours = s[i].ours,
					    .sig = s[i].sig };
		if (s[i].state == RK_EXITED || s[i].state == RK_FAILED)
			MSG_SET(r, rank_sum, code, s[i].code);
	}
	return n;
}

/* ---- squeezing --------------------------------------------------------------------- */

static void keep_others(struct job *j)
{
	struct arena a;
	const char *text;

	arena_init(&a);
	text = why_others(&a, j);
	j->others = text != NULL ? strdup(text) : NULL;
	arena_finish(&a);
}

/* Only the n picked ones stay. Without memory all do. */
static void keep_ranks(struct job *j, const uint32_t *pick, size_t n)
{
	struct rank *v = calloc(n + 1, sizeof(*v));
	uint32_t *no = calloc(n + 1, sizeof(*no));
	int64_t first = -1;
	size_t k = 0;

	if (v == NULL || no == NULL) {
		free(v);
		free(no);
		return;
	}
	for (size_t i = 0; i < j->n_ranks; i++) {
		if (k == n || pick[k] != i) {
			rank_finish(&j->ranks[i]);
			continue;
		}
		if (j->first == (int64_t)i)
			first = (int64_t)k;
		v[k] = j->ranks[i];
		no[k++] = j->rank_no != NULL ? j->rank_no[i] : (uint32_t)i;
	}
	free(j->ranks);
	free(j->rank_no);
	j->ranks = v;
	j->rank_no = no;
	j->n_ranks = n;
	j->first = first;
}

static void keep_sums(struct job *j)
{
	struct rank_sum v[HISTORY_SUMS];
	size_t n = count_ends(j, v);

	j->sums = malloc((n + 1) * sizeof(*j->sums));
	if (j->sums == NULL)
		return;
	memcpy(j->sums, v, n * sizeof(*v));
	j->n_sums = n;
}

static void drop(char **text)
{
	free(*text);
	*text = NULL;
}

static void squeeze_places(struct job *j)
{
	for (size_t i = 0; i < j->n_places; i++) {
		if (!j->gpus_left) {
			drop(&j->places[i].gpu_ids);
			drop(&j->places[i].gpu_base);
		}
		drop(&j->places[i].proof_text);
		j->places[i].boot_id[0] = '\0';
	}
}

void history_squeeze(struct job *j)
{
	uint32_t pick[HISTORY_RANKS];
	size_t n = history_pick(j, pick);

	if (j->sums == NULL) {
		keep_sums(j);
		keep_others(j);
	}
	if (j->sums != NULL && j->rank_no == NULL)
		keep_ranks(j, pick, n);
	squeeze_places(j);
	drop(&j->hosts);
	drop(&j->exclude);
	if (j->why != NULL)
		drop(&j->ending);
	nccl_squeeze(j);
	ras_free(j); /* who was behind is in its story */
	story_fit(j);
}

/* ---- from disk ------------------------------------------------------------------------ */

/* Of a row that has counts its ranks are the picked ones. */
void history_load(struct coord *c, struct job *j, const struct rec_row_job *r)
{
	uint32_t pick[HISTORY_RANKS];
	size_t n = 0;

	if (r->n_sums == 0) {
		history_squeeze(j);
		return;
	}
	j->sums = calloc(r->n_sums, sizeof(*j->sums));
	if (j->sums == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < r->n_sums; i++) {
		int state = rank_state_from(r->sums[i].state);

		if (state < 0)
			continue;
		j->sums[j->n_sums++] = (struct rank_sum){
			.state = state, .code = r->sums[i].code, .sig = r->sums[i].sig, .ours = r->sums[i].ours,
			.n = r->sums[i].n,
		};
	}
	for (size_t i = 0; i < r->n_ranks && n < HISTORY_RANKS; i++)
		if (r->ranks[i].rank < j->n_ranks && (n == 0 || pick[n - 1] < r->ranks[i].rank))
			pick[n++] = r->ranks[i].rank;
	j->others = coord_strdup(c, r->others);
	keep_ranks(j, pick, n);
	history_squeeze(j);
}

/* ---- how long ----------------------------------------------------------------------------- */

static bool too_many(const struct coord *c)
{
	return c->n_ended > c->conf.history;
}

static bool too_old(const struct coord *c, const struct job *j)
{
	return c->conf.history_days != 0 && j->end_wall_ms < c->wall_ms - c->conf.history_days * DAY_MS;
}

void history_add(struct coord *c, struct job *j)
{
	list_append(&c->ended, &j->of_ended);
	c->n_ended++;
}

static int by_end(const void *a, const void *b)
{
	const struct job *x = *(struct job *const *)a, *y = *(struct job *const *)b;

	if (x->end_wall_ms != y->end_wall_ms)
		return x->end_wall_ms < y->end_wall_ms ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Without memory they stay as they were read. */
void history_loaded(struct coord *c)
{
	struct job **v = malloc((c->n_ended + 1) * sizeof(struct job *));
	size_t n = 0;

	if (v == NULL)
		return;
	list_foreach(e, &c->ended)
		v[n++] = list_entry(e, struct job, of_ended);
	qsort(v, n, sizeof(struct job *), by_end);
	for (size_t i = 0; i < n; i++) {
		list_remove(&v[i]->of_ended);
		list_append(&c->ended, &v[i]->of_ended);
	}
	free(v);
}

/* But not who has left GPUs that are not clean yet: after a restart its row tells of them. Nor
 * who has just ended, whatever the clock says: his end is told later in this step. */
void history_prune(struct coord *c, const struct job *just_ended)
{
	struct action *p = NULL;
	struct pending *pd;
	char key[24];

	list_foreach_safe(e, &c->ended) {
		struct job *j = list_entry(e, struct job, of_ended);

		if (!too_many(c) && c->conf.history_days == 0)
			return;
		if (j == just_ended || !list_empty(&j->watches) || (!too_many(c) && !too_old(c, j)))
			continue;
		if (j->gpus_left && clean_awaited(j))
			continue;
		if (p == NULL || p->n_rows >= PRUNE_ROWS) {
			p = coord_persist(c, &pd);
			persist_cluster(c, p); /* with the newest row its number would go, and be given again */
		}
		snprintf(key, sizeof(key), "%" PRIu64, j->id);
		act_row(c->out, p, TABLE_JOB, key, NULL);
		c->n_ended--;
		job_free(c, j);
	}
}

/* With days set it is looked at once an hour, too: nothing may end for long. */
void history_deadline(struct coord *c)
{
	if (c->conf.history_days == 0)
		return;
	if (!mono_before(c->now, c->prune_at)) {
		c->prune_at = mono_add_ms(c->now, LOOK_MS);
		history_prune(c, NULL);
	}
	coord_wake_at(c, c->prune_at);
}
