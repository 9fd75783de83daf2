/* story.c - see story.h */
#include "client/story.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/render.h"
#include "client/streams.h"

#define ERROR_SHOWN_US 50 /* below it nobody asks */
#define ERROR_MAX_US 60000000 /* above it there is no time to speak of */
#define DAY_US (86400 * INT64_C(1000000))
#define KEPT_FIRST 32 /* moments were dropped behind these, see coord_story.c */

void story_error(struct buf *b, uint64_t error_us)
{
	if (error_us < 1000000)
		buf_addf(b, "\xC2\xB1%.1fms", (double)error_us / 1000);
	else
		buf_addf(b, "\xC2\xB1%.1fs", (double)error_us / 1e6);
}

/* ---- the first, and those that may have been it ---------------------------------------- */

static void name(struct buf *b, const struct rec_job_info *j, const struct rec_rank_state *r)
{
	const char *node = r->node ? r->node : streams_node(j, r->rank);

	buf_addf(b, "rank %u (%s", r->rank, node ? node : "?");
	if (MSG_HAS(r, rank_state, gpu))
		buf_addf(b, ", GPU %u", r->gpu);
	if (r->pid)
		buf_addf(b, ", pid %u", r->pid);
	buf_adds(b, ") ");
	render_rank_end(b, r);
	if (r->cause)
		buf_addf(b, ": %s", r->cause);
}

/* By how much they may have come before the first one. */
static bool left_open(const struct rec_job_info *j, uint64_t *ret_us)
{
	const struct rec_rank_state *f = j->first;
	int64_t last, open = 0;

	if (!MSG_HAS(f, rank_state, at_us) || f->at_error_us > ERROR_MAX_US)
		return false;
	last = f->at_us + (int64_t)f->at_error_us;
	for (size_t i = 0; i < j->n_either; i++) {
		const struct rec_rank_state *r = &j->either[i];

		if (!MSG_HAS(r, rank_state, at_us) || r->at_error_us > ERROR_MAX_US)
			return false;
		if (last - (r->at_us - (int64_t)r->at_error_us) > open)
			open = last - (r->at_us - (int64_t)r->at_error_us);
	}
	*ret_us = (uint64_t)open;
	return true;
}

static void add_either(struct buf *b, const struct rec_job_info *j)
{
	uint64_t open;

	name(b, j, &j->either[0]);
	if (j->n_either > 1)
		buf_addf(b, ", and %zu other%s: each", j->n_either - 1, j->n_either == 2 ? "" : "s");
	else
		buf_adds(b, ":");
	buf_adds(b, " may have been first");
	if (left_open(j, &open) && open < 1000000)
		buf_addf(b, ", the clocks leave %.1f ms open", (double)open / 1000);
	else if (left_open(j, &open))
		buf_addf(b, ", the clocks leave %.1f s open", (double)open / 1e6);
}

void story_say_cause(const struct rec_job_info *j, void (*say)(void *arg, const char *line), void *arg)
{
	struct buf b;

	buf_init(&b);
	if (j->n_first && j->first->cause) {
		buf_addf(&b, "  cause   %s", j->first->cause);
		say(arg, buf_str(&b));
	}
	if (j->n_first && j->n_either) {
		buf_reset(&b);
		buf_adds(&b, "  or      ");
		add_either(&b, j);
		say(arg, buf_str(&b));
	}
	if (j->others) {
		buf_reset(&b);
		buf_addf(&b, "  others  %s", j->others);
		say(arg, buf_str(&b));
	}
	buf_finish(&b);
}

bool story_says_why(const struct rec_job_info *j)
{
	char begin[32];

	if (!j->n_first || !j->why ||
	    (strcmp(j->first->state, "exited") != 0 && strcmp(j->first->state, "killed") != 0))
		return false;
	snprintf(begin, sizeof(begin), "rank %u (", j->first->rank);
	return strncmp(j->why, begin, strlen(begin)) == 0;
}

void story_cause(struct out *o, const struct rec_job_info *j)
{
	const char *cause = j->n_first ? j->first->cause : NULL;
	struct buf b;

	out_str(o, "cause", cause ? "cause" : NULL, cause);
	buf_init(&b);
	if (j->n_first && j->n_either)
		add_either(&b, j);
	out_str(o, "either", b.len ? "or" : NULL, b.len ? buf_str(&b) : NULL);
	out_str(o, "others", j->others ? "others" : NULL, j->others);
	buf_finish(&b);
}

/* ---- the timeline ------------------------------------------------------------------------ */

static void add_when(struct buf *b, int64_t us, bool date)
{
	time_t t = (time_t)(us / 1000000);
	struct tm tm;
	char text[40];

	if (!localtime_r(&t, &tm) || !strftime(text, sizeof(text), date ? "%m-%d %T" : "%T", &tm))
		return;
	buf_adds(b, text);
	if (!date)
		buf_addf(b, ".%03d", (int)(us % 1000000 / 1000));
}

/* A clock that was set back makes it negative: then it is not told. */
static void add_after(struct buf *b, int64_t us)
{
	if (us < 0)
		buf_addc(b, '-');
	else if (us < 100000000)
		buf_addf(b, "%.3fs", (double)us / 1e6);
	else
		render_duration(b, (uint64_t)us / 1000);
}

static void moment_row(struct out *o, const struct rec_moment *m, int64_t from, bool date)
{
	struct buf b;

	buf_init(&b);
	out_start(o, NULL, OUT_ROW);
	out_int(o, "at_us", NULL, m->wall_us);
	out_uint(o, "error_us", NULL, m->error_us);
	add_when(&b, m->wall_us, date);
	out_cell(o, "WHEN", 0, OUT_PLAIN, "%s", buf_str(&b));
	buf_reset(&b);
	add_after(&b, m->wall_us - from);
	if (m->error_us >= ERROR_SHOWN_US && m->error_us < ERROR_MAX_US) {
		buf_addc(&b, ' ');
		story_error(&b, m->error_us);
	}
	out_cell(o, "AFTER", 0, OUT_PLAIN, "%s", buf_str(&b));
	out_str(o, "node", NULL, m->node);
	out_cell(o, "WHERE", OUT_SHRINK, OUT_PLAIN, "%s", m->node ? m->node : "");
	out_attr(o, &(struct out_attr){ .key = "text", .title = "WHAT", .kind = OUT_STR, .s = m->text,
					.flags = OUT_WRAP });
	out_end(o);
	buf_finish(&b);
}

void story_table(struct out *o, const struct rec_job_info *j)
{
	int64_t from = j->n_story ? j->story[0].wall_us : 0, to = from;
	struct buf b;

	for (size_t i = 0; i < j->n_story; i++)
		to = j->story[i].wall_us > to ? j->story[i].wall_us : to;
	out_start(o, "story", OUT_TABLE);
	for (size_t i = 0; i < j->n_story; i++)
		moment_row(o, &j->story[i], from, to - from > DAY_US);
	out_end(o);
	out_uint(o, "story_dropped", NULL, j->story_dropped);
	if (!j->story_dropped || j->n_story <= KEPT_FIRST)
		return;
	buf_init(&b);
	buf_addf(&b, "%u moments after ", j->story_dropped);
	add_when(&b, j->story[KEPT_FIRST - 1].wall_us, to - from > DAY_US);
	buf_adds(&b, " were not kept: a job has 64.");
	out_data(o, NULL, buf_str(&b));
	buf_finish(&b);
}
