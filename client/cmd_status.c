/* cmd_status.c - nodectl status [--watch]: the cluster on one page */
#include <string.h>
#include <unistd.h>

#include "client/attention.h"
#include "client/node_json.h"
#include "client/nodes.h"
#include "client/render.h"
#include "client/status.h"
#include "client/term.h"
#include "client/watch.h"

enum { WATCH = 1 };
static const struct opt opts[] = {
	{ WATCH, 0, "watch", NULL, "again twice a second, until ^C" },
	{ 0 },
};

static void count_jobs(struct buf *b, const struct rec_status *s)
{
	size_t running = 0, queued = 0;

	for (size_t i = 0; i < s->n_jobs; i++) {
		queued += strcmp(s->jobs[i].state, "queued") == 0;
		running += strcmp(s->jobs[i].state, "queued") != 0 && !render_job_over(&s->jobs[i]);
	}
	render_count(b, running, "job running", "jobs running");
	if (queued)
		buf_addf(b, ", %zu queued", queued);
}

/* One part more of a line that breaks between parts only. */
static void add_part(struct buf *line, struct buf *part, unsigned columns, unsigned *used)
{
	unsigned w = term_width(buf_str(part));

	if (*used && *used + 3 + w > columns) {
		buf_adds(line, "\n  ");
		*used = 2 + w;
	} else {
		buf_adds(line, *used ? " | " : "");
		*used += w + (*used ? 3 : 0);
	}
	buf_adds(line, buf_str(part));
	buf_reset(part);
}

static void headline(struct out *o, const struct rec_status *s, unsigned columns)
{
	struct buf line, part;
	unsigned used = 0;

	buf_init(&line);
	buf_init(&part);
	buf_addf(&part, "%s: ", s->cluster);
	nodes_count(&part, s);
	add_part(&line, &part, columns, &used);
	nodes_gpus(&part, s);
	if (part.len)
		add_part(&line, &part, columns, &used);
	count_jobs(&part, s);
	add_part(&line, &part, columns, &used);
	out_data(o, NULL, buf_str(&line));
	buf_finish(&line);
	buf_finish(&part);
}

/* Whether a row for each node would be too many: see nodes.h. A page that is
 * not for a screen has no end. */
static bool too_many(const struct rec_status *s)
{
	size_t attention = 0, lines;

	if (s->n_nodes > NODES_ALONE)
		return true;
	for (size_t i = 0; i < s->n_nodes; i++)
		attention += s->nodes[i].n_attention;
	lines = s->n_nodes + 3 + (s->n_jobs ? s->n_jobs + 2 : 0) + (attention ? attention + 1 : 0);
	return isatty(1) && lines >= term_lines(1);
}

static void text(struct out *o, const struct rec_status *s)
{
	struct nodes_view view = { .group = too_many(s), .columns = term_columns(1) };

	headline(o, s, view.columns);
	nodes_table(o, s, &view);
}

static void json(struct out *o, const struct rec_status *s)
{
	out_str(o, "cluster", NULL, s->cluster);
	out_str(o, "coordinator", NULL, s->coordinator);
	out_int(o, "time_ms", NULL, s->wall_ms);
	out_start(o, "nodes", OUT_TABLE);
	for (size_t i = 0; i < s->n_nodes; i++) {
		out_start(o, NULL, OUT_ROW);
		node_json(o, &s->nodes[i], false);
		out_end(o);
	}
	out_end(o);
}

static void page(const struct ctl *c, struct out *o, const struct rec_status *s)
{
	if (c->json)
		json(o, s);
	else
		text(o, s);
	render_jobs(o, s->jobs, s->n_jobs, s->wall_ms);
	attention_lines(o, s);
}

static int once(const struct ctl *c, const struct status_wish *wish)
{
	struct gathered g;
	struct out *o;
	struct buf b;
	int r = status_get(c, wish, &g);

	if (r != CTL_GO)
		return r;
	o = ctl_out(c, &b);
	page(c, o, &g.all.u.status);
	gather_finish(&g);
	return ctl_print(o, &b);
}

static int run(struct ctl *c)
{
	struct status_wish wish = { .detail = false };
	struct opts o;
	const char *value;
	bool again = false;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == OPT_OPERAND)
			return ctl_usage(c, "\"%s\" is one word too many; for one node: nodectl node %s", value,
					 value);
		again = true;
	}
	if (again && !c->json && !isatty(1))
		return ctl_usage(c, "--watch draws on a terminal; for programs: nodectl --json status --watch");
	wish.detail = c->json; /* people get sums */
	return again ? watch_status(c, &wish, page) : once(c, &wish);
}

const struct command cmd_status = {
	.verb = "status",
	.args = "[--watch]",
	.brief = "nodes, jobs, and what needs attention",
	.help = "Shows a row for each node and job, and what needs a person, the worst first. Where there are many "
		"nodes, those in the same state share a row; nodectl nodes lists each.",
	.opts = opts,
	.run = run,
};
