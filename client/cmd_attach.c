/* cmd_attach.c - nodectl attach ID: like launch, for a job that exists */
#include "client/commands.h"

enum { LABEL = 1, NO_LABEL };
static const struct opt opts[] = {
	{ LABEL, 0, "label", NULL, "begin each line with [node:rank]" },
	{ NO_LABEL, 0, "no-label", NULL, "never do (default: when the job has more than one rank)" },
	{ 0 },
};

static int run(struct ctl *c)
{
	struct session_conf conf = { .to_end = true, .live = true, .from_end = true };
	char path[4096];
	struct opts o;
	struct link l;
	const char *value;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id != OPT_OPERAND)
			conf.labels = id == LABEL ? LABELS_ON : LABELS_OFF;
		else if (conf.job)
			return ctl_usage(c, "one job at a time: nodectl attach ID");
		else if ((r = ctl_job_id(c, value, &conf.job)) != CTL_GO)
			return r;
	}
	if (!conf.job)
		return ctl_usage(c, "which job? nodectl jobs lists them");
	if ((r = ctl_path(c, path, sizeof(path))) != CTL_GO || (r = ctl_connect(c, &l)) != CTL_GO)
		return r;
	conf.path = path;
	conf.json = c->json;
	return session_run(&conf, &l);
}

const struct command cmd_attach = {
	.verb = "attach",
	.args = "[--label|--no-label] ID",
	.brief = "follow a job from now on, as if this terminal had launched it",
	.help = "Shows a job's output from now on and ends with its exit code. ^C tells what runs; a second one "
		"within 3 s ends the job. ^\\ leaves and lets the job run, and so do SIGTERM and SIGHUP. What was "
		"written before: nodectl logs ID.",
	.opts = opts,
	.run = run,
};
