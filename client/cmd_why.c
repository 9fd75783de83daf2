/* cmd_why.c - nodectl why ID: how it is with a job, and why */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/commands.h"
#include "client/render.h"
#include "client/term.h"

/* "14:05:30" of today, or "Nov 24 14:05". */
static void when(char *out, size_t size, int64_t ms, int64_t now_ms)
{
	time_t t = (time_t)(ms / 1000), now = (time_t)(now_ms / 1000);
	struct tm then, today;

	out[0] = '\0';
	if (localtime_r(&t, &then) && localtime_r(&now, &today))
		strftime(out, size, then.tm_yday == today.tm_yday && then.tm_year == today.tm_year ? "%T" : "%b %d %H:%M", &then);
}

static void line(struct buf *b, const char *label, const char *text, unsigned columns)
{
	char first[16];

	snprintf(first, sizeof(first), "  %-8s ", label);
	term_add_wrapped(b, text, first, "           ", columns);
}

static void add_seen(struct buf *b, const struct rec_fact *f, int64_t now_ms, unsigned columns)
{
	char at[40] = "";
	struct buf t;

	if (MSG_HAS(f, fact, wall_ms))
		when(at, sizeof(at), f->wall_ms, now_ms);
	buf_init(&t);
	buf_adds(&t, f->text);
	if (f->source || at[0])
		buf_addf(&t, " (%s%s%s)", f->source ? f->source : "", f->source && at[0] ? ", " : "", at);
	line(b, "seen", buf_str(&t), columns);
	buf_finish(&t);
}

static int text(const struct rec_explanation *e, int64_t now_ms)
{
	unsigned columns = term_columns(1);
	struct buf b;
	int r;

	buf_init(&b);
	term_add_wrapped(&b, e->verdict, "", "", columns);
	for (size_t i = 0; i < e->n_seen; i++)
		add_seen(&b, &e->seen[i], now_ms, columns);
	for (size_t i = 0; i < e->n_unknown; i++)
		line(&b, "unknown", e->unknown[i], columns);
	for (size_t i = 0; i < e->n_todo; i++)
		line(&b, "do", e->todo[i], columns);
	r = write_all(1, b.data, b.len);
	buf_finish(&b);
	return r < 0 ? ctl_fail(EXIT_REFUSED, "cannot write: %s", strerror(-r)) : 0;
}

static void list(struct out *o, const char *key, const char *const *v, size_t n)
{
	out_strs(o, key, NULL, v, n);
}

static int json(const struct ctl *c, const struct rec_job_info *j)
{
	const struct rec_explanation *e = j->explained;
	struct buf b;
	struct out *o = ctl_out(c, &b);

	out_uint(o, "job", NULL, j->job);
	out_str(o, "state", NULL, j->state);
	out_str(o, "verdict", NULL, e->verdict);
	out_start(o, "seen", OUT_TABLE);
	for (size_t i = 0; i < e->n_seen; i++) {
		out_start(o, NULL, OUT_ROW);
		out_str(o, "text", NULL, e->seen[i].text);
		out_str(o, "source", NULL, e->seen[i].source);
		if (MSG_HAS(&e->seen[i], fact, wall_ms))
			out_int(o, "at_ms", NULL, e->seen[i].wall_ms);
		else
			out_null(o, "at_ms");
		out_end(o);
	}
	out_end(o);
	list(o, "unknown", (const char *const *)e->unknown, e->n_unknown);
	list(o, "do", (const char *const *)e->todo, e->n_todo);
	return ctl_print(o, &b);
}

static int run(struct ctl *c)
{
	struct gathered answer;
	const struct rec_job_info *j;
	const char *id;
	struct msg m;
	int r = ctl_operands(c, &id, 1);

	msg_init(&m, MSG_jobs_get);
	MSG_SET(&m.u.jobs_get, jobs_get, explain, true);
	if (r == CTL_GO)
		r = ctl_job_id(c, id, &m.u.jobs_get.job);
	if (r == CTL_GO)
		r = ctl_ask_jobs(c, &m, &answer);
	if (r != CTL_GO)
		return r;
	j = answer.all.u.jobs.jobs;
	if (!answer.all.u.jobs.n_jobs)
		r = ctl_fail(EXIT_REFUSED, "there is no job %" PRIu64 "; nodectl jobs --all lists them", m.u.jobs_get.job);
	else if (!j->n_explained)
		r = ctl_fail(EXIT_REFUSED, "the coordinator is of an older version and explains no jobs; nodectl job %s shows what it "
			     "knows", id);
	else
		r = c->json ? json(c, j) : text(j->explained, answer.all.u.jobs.wall_ms);
	gather_finish(&answer);
	return r;
}

const struct command cmd_why = {
	.verb = "why",
	.args = "ID",
	.brief = "how it is with a job, and why: in words",
	.help = "One paragraph, then what was seen (by whom, when), what is not known, and what to do. Of jobs that wait, run, "
		"are slow, or have ended.",
	.run = run,
};
