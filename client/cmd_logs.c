/* cmd_logs.c - nodectl logs ID: a job's output, from its begin or from anywhere */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "client/commands.h"
#include "client/since.h"

#define RANKS_MAX 4096 /* that message 'follow' can name */
#define TAIL_MAX 1000000 /* the same */

enum { FOLLOW = 1, RANK, LABEL, NO_LABEL, TAIL, HEAD, FROM, SINCE, ATTEMPT, STDOUT, STDERR };
static const struct opt opts[] = {
	{ FOLLOW, 'f', "follow", NULL, "go on until the job has ended" },
	{ RANK, 'r', "rank", "RANKS", "only these: 3 or 0-3,7 (may be repeated)" },
	{ TAIL, 'n', "tail", "N", "begin N lines before the end of each rank's output and error" },
	{ HEAD, 0, "head", "N", "the first N lines of each only" },
	{ SINCE, 0, "since", "TIME", "begin there: 10m (ago), 14:05, \"2026-11-25 14:05\"" },
	{ FROM, 0, "from", "BYTES", "begin at this offset of each (--json shows where lines begin)" },
	{ ATTEMPT, 0, "attempt", "N", "of the job (default: the last one)" },
	{ STDOUT, 0, "stdout", NULL, "standard output only" },
	{ STDERR, 0, "stderr", NULL, "standard error only" },
	{ LABEL, 0, "label", NULL, "begin each line with [node:rank]" },
	{ NO_LABEL, 0, "no-label", NULL, "never do (default: when there is more than one rank)" },
	{ 0 },
};

struct wish {
	struct session_conf conf;
	struct span *ranks;
	char path[4096]; /* of the socket */
	int begins; /* places named where to begin */
};

static int64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The options that say where to begin, and how much. CTL_GO, or an exit code. */
static int take_begin(struct ctl *c, struct wish *w, const struct opts *o, int id, const char *value)
{
	uint64_t v = 0;
	struct err e;
	int r = 0;

	if (id == TAIL)
		r = opts_uint(o->shown, value, 1, TAIL_MAX, &v, &e), w->conf.tail = (uint32_t)v;
	else if (id == HEAD)
		r = opts_uint("--head", value, 1, UINT32_MAX, &w->conf.head, &e);
	else if (id == FROM)
		r = opts_uint("--from", value, 0, UINT64_MAX, &w->conf.offset, &e);
	else if (id == ATTEMPT)
		r = opts_uint("--attempt", value, 1, 65535, &v, &e), w->conf.attempt = (uint32_t)v;
	else
		r = since_parse("--since", value, wall_ms(), &w->conf.since_wall_ms, &e);
	w->begins += r == 0 && (id == TAIL || id == FROM || id == SINCE);
	return r < 0 ? ctl_usage(c, "%s", e.text) : CTL_GO;
}

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
		else if (id == STDOUT || id == STDERR)
			w->conf.fds |= id == STDOUT ? 1 : 2;
		else if (id >= TAIL && id <= ATTEMPT && (r = take_begin(c, w, &o, id, value)) != CTL_GO)
			return r;
		else if (id == RANK && opts_spans("--rank", value, &w->ranks, &w->conf.n_ranks, &e) < 0)
			return ctl_usage(c, "%s", e.text);
		else if (id == OPT_OPERAND && w->conf.job)
			return ctl_usage(c, "one job at a time: nodectl logs ID");
		else if (id == OPT_OPERAND && (r = ctl_job_id(c, value, &w->conf.job)) != CTL_GO)
			return r;
	}
	if (w->begins > 1)
		return ctl_usage(c, "--tail, --from and --since each say where to begin: one of them");
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
	.args = "[-f] [--rank RANKS] [--tail N | --since TIME | --from BYTES] [--head N] ... ID",
	.brief = "a job's output from its begin, or from anywhere",
	.help = "Works on every node that may submit jobs of yours, on the job's submit node, and on the job's own "
		"node when it has only one. What is not there any more, or on a node that cannot be reached, is named.",
	.opts = opts,
	.run = run,
};
