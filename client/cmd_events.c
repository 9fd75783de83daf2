/* cmd_events.c - nodectl events [-f]: what happened in the cluster */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/since.h"
#include "client/status.h"
#include "client/term.h"
#include "common/hostlist.h"
#include "proto/features.h"

#define NEWEST 30 /* without anything said */
#define PAGE 500 /* as in messages.def */
#define AGAIN_MS 1000
#define TIME_WIDTH 21u /* and two blanks */

enum { FOLLOW = 1, SINCE, HOSTS, KIND, JOB, LIMIT };
static const struct opt opts[] = {
	{ FOLLOW, 'f', "follow", NULL, "go on with those that come, until ^C" },
	{ SINCE, 0, "since", "TIME", "from then on: 10m (ago), 14:05, 2026-11-25" },
	{ HOSTS, 'w', "hosts", "LIST", "of these nodes only" },
	{ KIND, 'k', "kind", "KIND", "of this kind only: job.failed; or all that begin so: node, verdict, job" },
	{ JOB, 'j', "job", "ID", "of this job only" },
	{ LIMIT, 'n', "limit", "N", "the newest N only (30, unless a time is given)" },
	{ 0 },
};

struct wish {
	struct msg m;
	uint64_t limit; /* 0: all */
	bool follow, any; /* any: one line is printed at least */
};

/* ---- printing ---------------------------------------------------------------------- */

static void add_time(struct buf *b, int64_t wall_ms)
{
	time_t t = (time_t)(wall_ms / 1000);
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
	buf_adds(b, text);
}

static void clean(struct buf *b, const char *s)
{
	term_add_clean(b, s, strlen(s));
}

static void add_plain(struct buf *b, const struct rec_event_info *e)
{
	add_time(b, e->wall_ms);
	buf_addf(b, "  %-4.4s  ", e->severity);
	clean(b, e->kind);
	buf_addf(b, "%*s  ", (int)(strlen(e->kind) < 16 ? 16 - strlen(e->kind) : 0), "");
	clean(b, e->node ? e->node : "-");
	buf_adds(b, "  ");
	clean(b, e->text);
}

/* One line, however long: events are read by grep, too. On a terminal of so many columns (0: it is none) it goes
 * on below, under the severity, which alone is coloured. */
static void add_line(struct buf *b, const struct rec_event_info *e, unsigned columns, bool colour)
{
	const char *on = !colour || columns < TIME_WIDTH + 4 ? "" :
			 strcmp(e->severity, "bad") == 0	  ? "\x1b[31m" :
			 strcmp(e->severity, "warn") == 0	  ? "\x1b[33m" :
								    "";
	struct buf plain, lines;
	const char *s;

	buf_init(&plain);
	buf_init(&lines);
	add_plain(&plain, e);
	if (columns > 0)
		term_add_wrapped(&lines, buf_str(&plain), "", columns < 60 ? "    " : "                     ", columns);
	else
		buf_addf(&lines, "%s\n", buf_str(&plain));
	s = buf_str(&lines);
	if (*on) {
		buf_addf(b, "%.*s%s%.4s\x1b[0m", (int)TIME_WIDTH, s, on, s + TIME_WIDTH);
		s += TIME_WIDTH + 4;
	}
	buf_adds(b, s);
	buf_finish(&lines);
	buf_finish(&plain);
}

static void json_event(struct out *o, const struct rec_event_info *e)
{
	out_uint(o, "id", NULL, e->id);
	out_int(o, "time_ms", NULL, e->wall_ms);
	out_str(o, "kind", NULL, e->kind);
	out_str(o, "severity", NULL, e->severity);
	out_str(o, "node", NULL, e->node);
	if (MSG_HAS(e, event_info, job))
		out_uint(o, "job", NULL, e->job);
	else
		out_null(o, "job");
	out_str(o, "text", NULL, e->text);
}

static int print_stream(struct ctl *c, const struct rec_events *v)
{
	unsigned columns = isatty(1) ? term_columns(1) : 0;
	bool colour = term_colour(1);
	struct buf b;
	int r = 0;

	buf_init(&b);
	for (size_t i = 0; i < v->n_events; i++) {
		struct out *o = c->json ? out_json_create(&b) : NULL;

		if (!c->json) {
			add_line(&b, &v->events[i], columns, colour);
			continue;
		}
		out_start(o, NULL, OUT_OBJECT);
		json_event(o, &v->events[i]);
		out_end(o);
		out_destroy(o);
	}
	if (b.len > 0)
		r = ctl_write(&b);
	buf_finish(&b);
	return r;
}

/* ---- asking ------------------------------------------------------------------------ */

static int ask(struct link *l, struct wish *w, uint32_t limit, struct msg *ret)
{
	struct rec_events_get *g = &w->m.u.events_get;

	g->rid = link_id(l);
	MSG_SET(g, events_get, limit, limit);
	return ctl_call(l, &w->m, g->rid, MSG_events, ret);
}

/* From here on only what comes behind it. */
static void go_on(struct wish *w, const struct rec_events *v)
{
	MSG_SET(&w->m.u.events_get, events_get, after, v->last);
}

static int show(struct ctl *c, struct out *o, const struct rec_events *v)
{
	if (o == NULL)
		return print_stream(c, v);
	for (size_t i = 0; i < v->n_events; i++) {
		out_start(o, NULL, OUT_ROW);
		json_event(o, &v->events[i]);
		out_end(o);
	}
	return 0;
}

/* All pages there are now. */
static int pages(struct ctl *c, struct link *l, struct wish *w, struct out *o)
{
	uint32_t limit = w->limit > 0 && w->limit < PAGE ? (uint32_t)w->limit : PAGE;
	bool more = true;
	int r = 0;

	while (r == 0 && more) {
		struct msg m;

		r = ask(l, w, limit, &m);
		if (r != CTL_GO)
			return r;
		more = m.u.events.more;
		w->any = w->any || m.u.events.n_events > 0;
		go_on(w, &m.u.events);
		r = show(c, o, &m.u.events);
		msg_finish(&m);
		limit = PAGE;
	}
	return r;
}

/* Nodes and jobs that are gone have events: only where there are none is it asked whether there is such a node or
 * job. 0 or the exit code after the sentence. */
static int check_names(const struct ctl *c, const struct wish *w)
{
	const struct rec_events_get *want = &w->m.u.events_get;
	struct hostlist h = { 0 };
	struct gathered g;
	struct msg m;
	int r = CTL_GO;

	if (want->nodes && hostlist_parse(want->nodes, &h, NULL) == 0 &&
	    (r = status_get(c, &(struct status_wish){ 0 }, &g)) == CTL_GO) {
		for (size_t i = 0; i < h.count && r == CTL_GO; i++)
			if (!status_node(&g.all.u.status, h.names[i]))
				r = status_no_node(c, &g.all.u.status, h.names[i]);
		gather_finish(&g);
	}
	hostlist_finish(&h);
	if (r != CTL_GO || !MSG_HAS(want, events_get, job))
		return r == CTL_GO ? 0 : r;
	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.job = want->job;
	r = ctl_ask_jobs(c, &m, &g);
	if (r != CTL_GO)
		return r;
	r = g.all.u.jobs.n_jobs ? 0 : ctl_fail(EXIT_REFUSED, "there is no job %" PRIu64 "; nodectl jobs --all lists them", want->job);
	gather_finish(&g);
	return r;
}

static int once(struct ctl *c, struct link *l, struct wish *w)
{
	struct out *o;
	struct buf b;
	int r;

	if (!c->json) {
		r = pages(c, l, w, NULL);
		if (r == 0 && !w->any)
			r = check_names(c, w);
		if (r == 0 && !w->any)
			puts("no such events");
		return r;
	}
	o = ctl_out(c, &b);
	out_start(o, "events", OUT_TABLE);
	r = pages(c, l, w, o);
	out_end(o);
	if (r != 0) {
		out_destroy(o);
		buf_finish(&b);
		return r;
	}
	r = ctl_print(o, &b);
	return r == 0 && !w->any ? check_names(c, w) : r;
}

static int run_wish(struct ctl *c, struct wish *w)
{
	struct link l;
	int r = ctl_connect(c, &l);

	if (r != CTL_GO)
		return r;
	if (!(l.features & FEATURE_EVENTS)) {
		link_close(&l);
		return ctl_fail(EXIT_REFUSED, "the agent here (version %s) does not know events: have it updated", l.software);
	}
	r = w->follow ? pages(c, &l, w, NULL) : once(c, &l, w);
	while (w->follow && r == 0) {
		struct pollfd p = { .fd = 1 };

		if (poll(&p, 1, AGAIN_MS) > 0 && p.revents & (POLLERR | POLLHUP))
			break; /* nobody reads any more */
		r = pages(c, &l, w, NULL);
	}
	link_close(&l);
	return r;
}

/* ---- the command line ---------------------------------------------------------------- */

static int take_since(const struct ctl *c, struct wish *w, const char *text)
{
	struct timespec t;
	struct err e;

	clock_gettime(CLOCK_REALTIME, &t);
	if (since_parse("--since", text, (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000,
			&w->m.u.events_get.since_wall_ms, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	w->m.u.events_get.has |= MSG_BIT(events_get, since_wall_ms);
	return CTL_GO;
}

static int take_hosts(const struct ctl *c, struct wish *w, const char *text)
{
	struct hostlist h;
	struct err e;

	if (hostlist_parse(text, &h, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	hostlist_finish(&h);
	w->m.u.events_get.nodes = text;
	return CTL_GO;
}

/* Those of the manual page. */
static bool is_kind(const char *text)
{
	static const char *const kinds[] = {
		"node.ok", "node.unreachable", "node.down", "node.lost", "node.rebooted", "node.joined", "node.removed",
		"node.twins", "node.drain", "node.resume", "node.stuck", "node.unstuck", "verdict.came", "verdict.gone",
		"cordon", "cordon.off", "cordon.not", "uncordon", "fix.sm", "quarantine", "quarantine.not", "nccl.slow",
		"nccl.ok", "hook.failed", "hook.ok", "job.started", "job.hung", "job.restarted", "job.done", "job.failed",
		"job.lost", "job.ended", "flapping",
	};
	size_t n = strlen(text);

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strncmp(kinds[i], text, n) == 0 && (kinds[i][n] == '\0' || kinds[i][n] == '.'))
			return n > 0;
	return false;
}

static int take_kind(const struct ctl *c, struct wish *w, const char *text)
{
	if (!is_kind(text))
		return ctl_usage(c, "--kind: \"%.64s\" is no kind of event: there are node, verdict, cordon, uncordon, fix, quarantine, "
				    "nccl, hook, job, flapping, and single ones (node.down): see man nodectl-events", text);
	w->m.u.events_get.kind = text;
	return CTL_GO;
}

static int take(struct ctl *c, struct wish *w, const struct opts *o, int id, const char *value)
{
	uint64_t job;
	struct err e;
	int r = CTL_GO;

	if (id == FOLLOW)
		w->follow = true;
	else if (id == SINCE)
		r = take_since(c, w, value);
	else if (id == HOSTS)
		r = take_hosts(c, w, value);
	else if (id == KIND)
		r = take_kind(c, w, value);
	else if (id == LIMIT && opts_uint(o->shown, value, 1, PAGE, &w->limit, &e) < 0)
		r = ctl_usage(c, "%s", e.text);
	else if (id == JOB && (r = ctl_job_id(c, value, &job)) == CTL_GO)
		MSG_SET(&w->m.u.events_get, events_get, job, job);
	else if (id == OPT_OPERAND)
		r = ctl_usage(c, "\"%s\" is one word too many: nodectl %s %s", value, c->cmd->verb, c->cmd->args);
	return r;
}

static int run(struct ctl *c)
{
	struct wish w = { .limit = 0 };
	const char *value;
	struct opts o;
	int id, r;

	msg_init(&w.m, MSG_events_get);
	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r == CTL_GO)
			r = take(c, &w, &o, id, value);
		if (r != CTL_GO)
			return r;
	}
	if (w.limit == 0 && MSG_HAS(&w.m.u.events_get, events_get, since_wall_ms))
		MSG_SET(&w.m.u.events_get, events_get, after, 0); /* all of them, the oldest first */
	else if (w.limit == 0)
		w.limit = NEWEST;
	return run_wish(c, &w);
}

const struct command cmd_events = {
	.verb = "events",
	.args = "[-f] [--since TIME] [-w LIST] [--kind KIND] [--job ID] [-n N]",
	.brief = "what happened in the cluster",
	.help = "The newest events, the oldest of them first: nodes that came and went, verdicts on them, drained "
		"nodes, and how jobs began and ended. One line each: time, severity, kind, node, text. With -f those that "
		"come are printed within two seconds.",
	.opts = opts,
	.run = run,
};
