/* job_progress.c - see job_progress.h */
#include "client/job_progress.h"

#include <inttypes.h>
#include <string.h>

#include "client/render.h"

const struct rec_job_progress *job_progress(const struct rec_job_info *j)
{
	return j->n_progress ? &j->progress[0] : NULL;
}

const struct rec_train_step *job_step(const struct rec_job_info *j)
{
	const struct rec_job_progress *p = job_progress(j);

	return p && p->n_step ? &p->step[0] : NULL;
}

bool job_phase_counts(const struct rec_job_info *j)
{
	static const char *const worth[] = { "tokenising", "training", "checkpointing", "hung" };
	const struct rec_job_progress *p = job_progress(j);

	for (size_t i = 0; p && p->phase && i < sizeof(worth) / sizeof(worth[0]); i++)
		if (strcmp(p->phase, worth[i]) == 0)
			return true;
	return false;
}

static void opt_uint(struct out *o, const char *key, bool known, uint64_t v)
{
	if (known)
		out_uint(o, key, NULL, v);
	else
		out_null(o, key);
}

void job_progress_json(struct out *o, const struct rec_job_info *j)
{
	const struct rec_job_progress *p = job_progress(j);
	const struct rec_train_step *s = job_step(j);

	out_str(o, "on_hang", NULL, j->on_hang ? j->on_hang : "report");
	out_bool(o, "hang_stacks", NULL, j->hang_stacks);
	out_str(o, "phase", NULL, p ? p->phase : NULL);
	out_str(o, "phase_note", NULL, p ? p->note : NULL);
	out_str(o, "hang", NULL, p ? p->hang : NULL);
	out_str(o, "hang_fix", NULL, p ? p->fix : NULL);
	out_str(o, "hang_threads", NULL, p ? p->threads : NULL);
	opt_uint(o, "hang_since_ms", p && MSG_HAS(p, job_progress, hang_wall_ms), p ? (uint64_t)p->hang_wall_ms : 0);
	opt_uint(o, "step", s, s ? s->step : 0);
	opt_uint(o, "steps", s && s->steps, s ? s->steps : 0);
	out_str(o, "loss", NULL, s ? s->loss : NULL);
	opt_uint(o, "left_s", s && MSG_HAS(s, train_step, left_s), s ? s->left_s : 0);
	opt_uint(o, "step_age_ms", s && MSG_HAS(s, train_step, age_ms), s ? s->age_ms : 0);
	out_str(o, "step_from", NULL, s ? s->source : NULL);
}

static void add_step(struct buf *b, const struct rec_train_step *s)
{
	buf_addf(b, "%" PRIu64, s->step);
	if (s->steps)
		buf_addf(b, "/%" PRIu64, s->steps);
}

/* What was left when it was said. */
static bool add_left(struct buf *b, const struct rec_train_step *s)
{
	uint64_t gone_s = s->age_ms / 1000;

	if (!MSG_HAS(s, train_step, left_s))
		return false;
	render_duration(b, 1000 * (s->left_s > gone_s ? s->left_s - gone_s : 0));
	return true;
}

void job_step_cells(struct out *o, const struct rec_job_info *j)
{
	const struct rec_train_step *s = job_step(j);
	struct buf b;

	buf_init(&b);
	if (s)
		add_step(&b, s);
	out_cell(o, "STEP", 0, OUT_PLAIN, "%s", s ? buf_str(&b) : "-");
	out_cell(o, "LOSS", 0, OUT_PLAIN, "%.6s", s && s->loss ? s->loss : "-");
	buf_reset(&b);
	out_cell(o, "LEFT", 0, OUT_PLAIN, "%s", s && add_left(&b, s) ? buf_str(&b) : "-");
	buf_finish(&b);
}

void job_hang_text(struct buf *b, const struct rec_job_info *j)
{
	const struct rec_job_progress *p = job_progress(j);

	if (!p || !p->hang)
		return;
	buf_addf(b, "hangs: %s", p->hang);
	if (j->on_hang)
		buf_addf(b, "; --on-hang %s: it is %s half a minute after this was seen, unless it goes on", j->on_hang,
			 strcmp(j->on_hang, "restart") == 0 ? "started again" : "ended");
	if (p->fix)
		buf_addf(b, "  fix: %s", p->fix);
}

void job_progress_lines(struct out *o, const struct rec_job_info *j)
{
	const struct rec_job_progress *p = job_progress(j);
	const struct rec_train_step *s = job_step(j);
	struct buf b;

	buf_init(&b);
	if (p && p->phase) {
		buf_adds(&b, p->phase);
		if (p->note)
			buf_addf(&b, ": %s", p->note);
		out_str(o, NULL, "phase", buf_str(&b));
	}
	buf_reset(&b);
	if (s) {
		add_step(&b, s);
		if (s->loss)
			buf_addf(&b, ", loss %s", s->loss);
		if (MSG_HAS(s, train_step, left_s)) {
			buf_adds(&b, ", ");
			add_left(&b, s);
			buf_adds(&b, " left");
		}
		if (s->age_ms >= 60000) {
			buf_adds(&b, " (told ");
			render_age(&b, s->age_ms);
			buf_adds(&b, " ago)");
		}
		out_str(o, NULL, "step", buf_str(&b));
	}
	buf_reset(&b);
	job_hang_text(&b, j);
	if (b.len)
		out_attr(o, &(struct out_attr){ .title = "hang", .kind = OUT_STR, .tone = OUT_BAD, .s = buf_str(&b) + 7 });
	if (p && p->hang && p->threads)
		out_str(o, NULL, "threads", p->threads);
	if (j->hang_stacks)
		out_str(o, NULL, "on hang", !j->on_hang ? "stacks" : strcmp(j->on_hang, "kill") == 0 ? "stacks, kill" : "stacks, restart");
	else
		out_str(o, NULL, j->on_hang ? "on hang" : NULL, j->on_hang);
	buf_finish(&b);
}

bool job_rank_hangs(const struct rec_job_info *j, uint32_t rank)
{
	const struct rec_job_progress *p = job_progress(j);

	return p && p->hang && MSG_HAS(p, job_progress, hang_rank) && p->hang_rank == rank;
}

void job_past_hang(struct out *o, const struct rec_job_info *j)
{
	const struct rec_past_hang *p = j->n_past_hang ? &j->past_hang[0] : NULL;
	int64_t to = p && MSG_HAS(p, past_hang, over_wall_ms) ? p->over_wall_ms : j->end_wall_ms;
	struct buf b;

	out_str(o, "hung", NULL, p ? p->text : NULL);
	opt_uint(o, "hung_attempt", p, p ? p->attempt : 0);
	opt_uint(o, "hung_rank", p && MSG_HAS(p, past_hang, rank), p ? p->rank : 0);
	out_str(o, "hung_node", NULL, p ? p->node : NULL);
	out_str(o, "hung_threads", NULL, p ? p->threads : NULL);
	out_str(o, "hung_counts", NULL, p ? p->counts : NULL);
	opt_uint(o, "hung_since_ms", p, p ? (uint64_t)p->wall_ms : 0);
	opt_uint(o, "hung_until_ms", p && MSG_HAS(p, past_hang, over_wall_ms), p ? (uint64_t)p->over_wall_ms : 0);
	if (!p || (job_progress(j) && job_progress(j)->hang))
		return;
	buf_init(&b);
	if (p->attempt != j->attempt)
		buf_addf(&b, "in attempt %u: ", p->attempt);
	buf_adds(&b, p->text);
	if (to > p->wall_ms && (p->attempt == j->attempt || MSG_HAS(p, past_hang, over_wall_ms))) {
		buf_adds(&b, MSG_HAS(p, past_hang, over_wall_ms) ? "; it went on again after " : "; until its end, for ");
		render_duration(&b, (uint64_t)(to - p->wall_ms));
	}
	out_attr(o, &(struct out_attr){ .title = "hung", .kind = OUT_STR, .tone = OUT_WARN, .s = buf_str(&b) });
	buf_finish(&b);
}
