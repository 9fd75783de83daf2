/* cmd_logs.c - nodectl logs ID: a job's output from its begin */
#include <inttypes.h>
#include <stdlib.h>

#include "client/commands.h"

#define RANKS_MAX 4096 /* that message 'follow' can name */

enum { FOLLOW = 1, RANK, LABEL, NO_LABEL };
static const struct opt opts[] = {
	{ FOLLOW, 'f', "follow", NULL, "go on until the job has ended" },
	{ RANK, 'r', "rank", "RANKS", "only these: 3 or 0-3,7 (may be repeated)" },
	{ LABEL, 0, "label", NULL, "begin each line with [node:rank]" },
	{ NO_LABEL, 0, "no-label", NULL, "never do (default: when there is more than one rank)" },
	{ 0 },
};

struct wish {
	struct session_conf conf;
	struct span *ranks;
	char path[4096]; /* of the socket */
};

static int parse(struct ctl *c, struct wish *w)
{
	struct opts o;
	const char *value;
	struct err e;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == FOLLOW)
			w->conf.live = true;
		else if (id == LABEL || id == NO_LABEL)
			w->conf.labels = id == LABEL ? LABELS_ON : LABELS_OFF;
		else if (id == RANK && opts_spans("--rank", value, &w->ranks, &w->conf.n_ranks, &e) < 0)
			return ctl_usage(c, "%s", e.text);
		else if (id == OPT_OPERAND && w->conf.job)
			return ctl_usage(c, "one job at a time: nodectl logs ID");
		else if (id == OPT_OPERAND && (r = ctl_job_id(c, value, &w->conf.job)) != CTL_GO)
			return r;
	}
	return w->conf.job ? CTL_GO : ctl_usage(c, "which job? nodectl jobs lists them");
}

/* Ranks that the job has, and few enough to be named. */
static int check_ranks(const struct wish *w, const struct rec_job_info *j)
{
	uint64_t n = 0;

	for (size_t i = 0; i < w->conf.n_ranks; i++) {
		if (j->world && w->ranks[i].last >= j->world)
			return ctl_fail(EXIT_REFUSED, "job %" PRIu64 " has no rank %u: its ranks are 0-%u", j->job,
					w->ranks[i].last, j->world - 1);
		n += (uint64_t)w->ranks[i].last - w->ranks[i].first + 1;
	}
	if (n > RANKS_MAX)
		return ctl_fail(EXIT_USAGE, "at most %u ranks can be picked; leave --rank out for all",
				RANKS_MAX);
	return CTL_GO;
}

static int show(struct ctl *c, struct wish *w, struct link *l)
{
	struct gathered answer;
	struct msg m;
	int r;

	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.rid = link_id(l);
	m.u.jobs_get.job = w->conf.job;
	r = ctl_gather(l, &m, m.u.jobs_get.rid, MSG_jobs, &answer);
	if (r != CTL_GO)
		return r;
	if (!answer.all.u.jobs.n_jobs)
		r = ctl_fail(EXIT_REFUSED, "there is no job %" PRIu64 "; nodectl jobs --all lists them",
			     w->conf.job);
	if (r == CTL_GO)
		r = check_ranks(w, &answer.all.u.jobs.jobs[0]);
	if (r == CTL_GO)
		r = ctl_path(c, w->path, sizeof(w->path));
	if (r == CTL_GO) {
		w->conf.path = w->path;
		w->conf.json = c->json;
		w->conf.ranks = w->ranks;
		w->conf.info = &answer.all.u.jobs.jobs[0];
		r = session_run(&w->conf, l);
	}
	gather_finish(&answer);
	return r;
}

static int run(struct ctl *c)
{
	struct wish w = { 0 };
	struct link l;
	int r = parse(c, &w);

	if (r == CTL_GO)
		r = ctl_connect(c, &l);
	if (r == CTL_GO) {
		r = show(c, &w, &l);
		link_close(&l);
	}
	free(w.ranks);
	return r;
}

const struct command cmd_logs = {
	.verb = "logs",
	.args = "[-f] [--rank RANKS] [--label|--no-label] ID",
	.brief = "a job's output from its begin",
	.opts = opts,
	.run = run,
};
