/* cmd_job.c - nodectl job ID */
#include <inttypes.h>

#include "client/commands.h"
#include "client/render.h"

static int run(struct ctl *c)
{
	const char *text;
	struct gathered answer;
	struct msg m;
	struct out *o;
	struct buf b;
	int r;

	if (!c->argc)
		return ctl_usage(c, "which job? nodectl jobs lists them");
	r = ctl_operands(c, &text, 1);

	msg_init(&m, MSG_jobs_get);
	if (r == CTL_GO)
		r = ctl_job_id(c, text, &m.u.jobs_get.job);
	if (r == CTL_GO)
		r = ctl_ask_jobs(c, &m, &answer);
	if (r != CTL_GO)
		return r;
	if (!answer.all.u.jobs.n_jobs) {
		gather_finish(&answer);
		return ctl_fail(EXIT_REFUSED, "there is no job %" PRIu64 "; nodectl jobs --all lists them",
				m.u.jobs_get.job);
	}
	o = ctl_out(c, &b);
	render_job(o, &answer.all.u.jobs.jobs[0], answer.all.u.jobs.wall_ms);
	r = ctl_print(o, &b);
	gather_finish(&answer);
	return r;
}

const struct command cmd_job = {
	.verb = "job",
	.args = "ID",
	.brief = "one job: its state, its ranks, why it ended",
	.run = run,
};
