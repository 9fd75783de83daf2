/* check_load.c - what a coordinator has read is what was written
 *
 * Each job in its memory, written again before anything has happened, gives the row that
 * was read: a field that is stored and not read, or read and not kept, would be forgotten by the
 * second restart at the latest. Left out is what is meant to differ: why it waits now, and what is reckoned
 * by the clock of the moment.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

struct read_rows {
	struct sim *s;
	const struct row *rows;
	const char *rule;
};

static const struct row *row_of(const struct row *rows, uint64_t job)
{
	for (; rows != NULL; rows = rows->next)
		if (rows->table == TABLE_JOB && strtoull(rows->key, NULL, 10) == job)
			return rows;
	return NULL;
}

static void leave_out_times(struct rec_rank_state *r)
{
	r->has &= ~(MSG_BIT(rank_state, at_us) | MSG_BIT(rank_state, at_error_us));
	r->at_us = 0;
	r->at_error_us = 0;
}

/* Of one that is over nobody asks for that any more; its GPUs matter while they are not as before. */
static void leave_out_of_history(struct rec_row_job *r)
{
	r->hosts = r->exclude = r->ending = NULL;
	r->has &= ~MSG_BIT(row_job, first_settled);
	r->first_settled = false;
	r->n_kept = 0;
	for (size_t i = 0; i < r->n_places; i++)
		r->places[i].gpu_ids = r->places[i].gpu_base = NULL;
}

/* Encoded, without what may differ; false: no memory. */
static bool plain(struct rec_row_job *r, struct buf *b)
{
	struct msg m;

	if (strcmp(r->state, "done") == 0 || strcmp(r->state, "failed") == 0 || strcmp(r->state, "lost") == 0)
		leave_out_of_history(r);
	r->why = NULL;
	r->clock_boot = NULL;
	r->has &= ~(MSG_BIT(row_job, clock_us) | MSG_BIT(row_job, ran_ms));
	r->clock_us = 0;
	r->ran_ms = 0;
	if (strcmp(r->state, "running") == 0)
		r->state = "preparing";
	for (size_t i = 0; i < r->n_ranks; i++)
		leave_out_times(&r->ranks[i]);
	for (size_t i = 0; i < r->n_first; i++)
		leave_out_times(&r->first[i]);
	msg_init(&m, MSG_row_job);
	m.u.row_job = *r;
	return msg_encode(&m, b, NULL) == 0;
}

static void compare(void *arg, const struct rec_row_job *r)
{
	const struct read_rows *x = arg;
	const struct row *row = row_of(x->rows, r->job);
	struct rec_row_job again = *r;
	struct buf a, b;
	struct msg m;
	size_t k = 0;

	if (row == NULL || msg_decode(row->json, row->len, &m, NULL) < 0) {
		sim_fail(x->s, "%s (job %" PRIu64 " is not on disk)", x->rule, r->job);
		return;
	}
	buf_init(&a);
	buf_init(&b);
	if (plain(&m.u.row_job, &a) && plain(&again, &b) && (a.len != b.len || memcmp(a.data, b.data, a.len) != 0)) {
		while (k < a.len && k < b.len && a.data[k] == b.data[k])
			k++;
		k = k > 30 ? k - 30 : 0;
		sim_fail(x->s, "%s (job %" PRIu64 ": ...%.60s... on disk, ...%.60s... in memory)", x->rule, r->job,
			 a.len > k ? (const char *)a.data + k : "", b.len > k ? (const char *)b.data + k : "");
	}
	buf_finish(&a);
	buf_finish(&b);
	msg_finish(&m);
}

void load_looked(struct sim *s, const struct row *rows)
{
	struct read_rows x = { s, rows, "what was read is what was written" };

	coord_each_job(s->coord.core, compare, &x);
}

void load_quiet(struct sim *s)
{
	struct read_rows x = { s, s->coord.rows, "25: once all is at rest, what the coordinator knows is on disk" };

	coord_each_job(s->coord.core, compare, &x);
}
