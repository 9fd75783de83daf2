/* cmd_jobs.c - nodectl jobs [--all] [ID...]: a list, of all or of some */
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/commands.h"
#include "client/render.h"
#include "client/since.h"

#define IDS_MAX 1000 /* that message 'jobs_get' can name */
#define STATES_MAX 16

enum { ALL = 1, USER, STATE, SINCE, LIMIT };
static const struct opt opts[] = {
	{ ALL, 'a', "all", NULL, "jobs that have ended, too" },
	{ USER, 'u', "user", "NAME", "of this user only" },
	{ STATE, 's', "state", "STATES", "in these states only: failed,lost (may be repeated)" },
	{ SINCE, 0, "since", "TIME", "that have not ended before: 10m (ago), 14:05, 2026-11-25" },
	{ LIMIT, 'n', "limit", "N", "the newest N only" },
	{ 0 },
};

struct wish {
	struct msg m;
	const char *ids[IDS_MAX], *states[STATES_MAX];
	char state_words[STATES_MAX][17];
};

/* ---- names of what is not there ------------------------------------------ */

static bool has_id(const struct rec_jobs *jobs, const char *id)
{
	char text[24];

	for (size_t i = 0; i < jobs->n_jobs; i++) {
		snprintf(text, sizeof(text), "%" PRIu64, jobs->jobs[i].job);
		if (strcmp(text, id) == 0)
			return true;
	}
	return false;
}

/* "there are no jobs 999, 1000" */
static int no_such_ids(const struct rec_jobs *jobs, const struct rec_jobs_get *g)
{
	struct buf b;
	size_t n = 0;
	int r = CTL_GO;

	buf_init(&b);
	for (size_t i = 0; i < g->n_ids; i++)
		if (!has_id(jobs, g->ids[i]))
			buf_addf(&b, "%s%s", n++ ? ", " : "", g->ids[i]);
	if (n)
		r = ctl_fail(EXIT_REFUSED, "there %s %s; nodectl jobs --all lists them", n > 1 ? "are no jobs" : "is no job",
			     buf_str(&b));
	buf_finish(&b);
	return r;
}

/* Of those that were named, states, users and times may have left some out: asked again by name alone. */
static int check_ids(struct ctl *c, const struct rec_jobs *jobs, const struct rec_jobs_get *g)
{
	bool all = !g->user && !g->n_states && !g->limit && !MSG_HAS(g, jobs_get, since_wall_ms);
	struct gathered answer;
	struct msg m;
	int r;

	if (!g->n_ids || all)
		return no_such_ids(jobs, g);
	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.all = true;
	m.u.jobs_get.ids = g->ids;
	m.u.jobs_get.n_ids = g->n_ids;
	r = ctl_ask_jobs(c, &m, &answer);
	if (r != CTL_GO)
		return r;
	r = no_such_ids(&answer.all.u.jobs, g);
	gather_finish(&answer);
	return r;
}

/* Who is known neither here nor by a job, as users of other nodes are. */
static int check_user(struct ctl *c, const struct rec_jobs *jobs, const struct rec_jobs_get *g)
{
	struct gathered answer;
	struct msg m;
	int r;

	if (!g->user || jobs->n_jobs || getpwnam(g->user))
		return CTL_GO;
	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.all = true;
	m.u.jobs_get.user = g->user;
	m.u.jobs_get.limit = 1;
	r = ctl_ask_jobs(c, &m, &answer);
	if (r != CTL_GO)
		return r;
	if (!answer.all.u.jobs.n_jobs)
		r = ctl_fail(EXIT_REFUSED, "there is no user \"%s\" on this host, and no job of such a user; "
			     "nodectl jobs --all shows whose jobs there are", g->user);
	gather_finish(&answer);
	return r;
}

/* ---- the list ------------------------------------------------------------- */

static void say_none(struct out *o, const struct rec_jobs_get *g)
{
	char text[160];

	if (g->n_states || g->n_ids || MSG_HAS(g, jobs_get, since_wall_ms))
		snprintf(text, sizeof(text), "no such jobs");
	else if (g->user)
		snprintf(text, sizeof(text), "no jobs of %s%s", g->user, g->all ? "" :
			 "; with --all those that have ended");
	else
		snprintf(text, sizeof(text), g->all ? "no jobs yet" :
			 "no jobs; nodectl jobs --all shows those that have ended");
	out_data(o, NULL, text);
}

static int print_jobs(const struct ctl *c, const struct rec_jobs *jobs, const struct rec_jobs_get *g)
{
	struct buf b;
	struct out *o = ctl_out(c, &b);

	if (!jobs->n_jobs)
		say_none(o, g);
	render_jobs(o, jobs->jobs, jobs->n_jobs, jobs->wall_ms);
	return ctl_print(o, &b);
}

static bool is_state(const char *word)
{
	static const char *const states[] = { "queued", "preparing",  "running",    "ending", "restarting",
					      "done",	"recovering", "failed", "lost", "ended" };

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (strcmp(states[i], word) == 0)
			return true;
	return false;
}

/* "failed,lost" */
static int take_states(const struct ctl *c, struct wish *w, const char *text)
{
	struct rec_jobs_get *g = &w->m.u.jobs_get;

	for (const char *p = text;; p++) {
		size_t n = strcspn(p, ",");
		char *word;

		if (g->n_states == STATES_MAX)
			return ctl_usage(c, "--state: at most %u states", STATES_MAX);
		word = w->state_words[g->n_states];
		snprintf(word, sizeof(w->state_words[0]), "%.*s", (int)(n < 16 ? n : 16), p);
		if (!is_state(word))
			return ctl_usage(c, "--state: \"%.*s\" is no state of a job: queued preparing running "
					    "ending restarting recovering done failed lost ended", (int)n, p);
		w->states[g->n_states++] = word;
		p += n;
		if (!*p)
			return CTL_GO;
	}
}

static int take_since(const struct ctl *c, struct wish *w, const char *text)
{
	struct timespec t;
	struct err e;

	clock_gettime(CLOCK_REALTIME, &t);
	if (since_parse("--since", text, (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000,
			&w->m.u.jobs_get.since_wall_ms, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	w->m.u.jobs_get.has |= MSG_BIT(jobs_get, since_wall_ms);
	return CTL_GO;
}

static int take_id(struct ctl *c, struct wish *w, const char *text)
{
	struct rec_jobs_get *g = &w->m.u.jobs_get;
	uint64_t id;
	int r = ctl_job_id(c, text, &id);

	if (r != CTL_GO)
		return r;
	if (g->n_ids == IDS_MAX)
		return ctl_usage(c, "at most %u jobs can be named", IDS_MAX);
	w->ids[g->n_ids++] = text;
	return CTL_GO;
}

static int take(struct ctl *c, struct wish *w, const struct opts *o, int id, const char *value)
{
	struct rec_jobs_get *g = &w->m.u.jobs_get;
	uint64_t limit = 0;
	struct err e;
	int r = CTL_GO;

	if (id == OPT_OPERAND)
		r = take_id(c, w, value);
	else if (id == STATE)
		r = take_states(c, w, value);
	else if (id == SINCE)
		r = take_since(c, w, value);
	else if (id == USER)
		g->user = value;
	else if (id == LIMIT && opts_uint(o->shown, value, 1, 1000000, &limit, &e) < 0)
		r = ctl_usage(c, "%s", e.text);
	if (id == LIMIT)
		g->limit = (uint32_t)limit;
	/* whoever asks for some asks for those that have ended, too */
	g->all = g->all || id == ALL || id == OPT_OPERAND || id == STATE || id == SINCE;
	return r;
}

static int ask(struct ctl *c, struct wish *w)
{
	struct rec_jobs_get *g = &w->m.u.jobs_get;
	struct gathered answer;
	int r = ctl_ask_jobs(c, &w->m, &answer);

	if (r != CTL_GO)
		return r;
	if (!answer.all.u.jobs.filtered && (g->user || g->n_states || g->n_ids || g->limit || g->since_wall_ms))
		r = ctl_fail(EXIT_REFUSED, "the coordinator is of an older version and cannot pick jobs: nodectl "
			     "jobs --all lists them all");
	else
		r = check_user(c, &answer.all.u.jobs, g);
	if (r == CTL_GO) {
		int named = check_ids(c, &answer.all.u.jobs, g);

		if (named == CTL_GO || answer.all.u.jobs.n_jobs) /* what is there is shown all the same */
			r = print_jobs(c, &answer.all.u.jobs, g);
		r = named == CTL_GO || r > 0 ? r : named;
	}
	gather_finish(&answer);
	return r;
}

static int run(struct ctl *c)
{
	struct wish *w = calloc(1, sizeof(*w));
	const char *value;
	struct opts o;
	int id, r;

	if (!w)
		return ctl_fail(EXIT_REFUSED, "out of memory");
	msg_init(&w->m, MSG_jobs_get);
	w->m.u.jobs_get.ids = w->ids;
	w->m.u.jobs_get.states = w->states;
	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r == CTL_GO)
			r = take(c, w, &o, id, value);
		if (r != CTL_GO) {
			free(w);
			return r;
		}
	}
	r = ask(c, w);
	free(w);
	return r;
}

const struct command cmd_jobs = {
	.verb = "jobs",
	.args = "[--all] [--user NAME] [--state STATES] [--since TIME] [--limit N] [ID...]",
	.brief = "jobs that wait or run, or have ended",
	.help = "The newest first. Whoever asks for states, a time or ids asks for jobs that have ended, too.",
	.opts = opts,
	.run = run,
};
