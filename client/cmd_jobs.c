/* cmd_jobs.c - nodectl jobs [--all] */
#include "client/commands.h"
#include "client/render.h"

enum { ALL = 1 };
static const struct opt opts[] = {
	{ ALL, 'a', "all", NULL, "jobs that have ended, too" },
	{ 0 },
};

static int print_jobs(const struct ctl *c, const struct rec_jobs *jobs, bool all)
{
	struct buf b;
	struct out *o = ctl_out(c, &b);

	if (!jobs->n_jobs)
		out_data(o, NULL, all ? "no jobs yet" : "no jobs; nodectl jobs --all shows those that have ended");
	render_jobs(o, jobs->jobs, jobs->n_jobs, jobs->wall_ms);
	return ctl_print(o, &b);
}

static int run(struct ctl *c)
{
	struct opts o;
	struct gathered answer;
	struct msg m;
	const char *value;
	int id, out;

	msg_init(&m, MSG_jobs_get);
	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &out)) != OPT_END) {
		if (out != CTL_GO)
			return out;
		if (id == OPT_OPERAND)
			return ctl_usage(c, "for one job: nodectl job %s", value);
		m.u.jobs_get.all = true;
	}
	out = ctl_ask_jobs(c, &m, &answer);
	if (out != CTL_GO)
		return out;
	out = print_jobs(c, &answer.all.u.jobs, m.u.jobs_get.all);
	gather_finish(&answer);
	return out;
}

const struct command cmd_jobs = {
	.verb = "jobs",
	.args = "[--all]",
	.brief = "jobs that wait or run",
	.opts = opts,
	.run = run,
};
