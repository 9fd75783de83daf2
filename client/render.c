/* render.c - jobs as rows and details, see render.h */
#include "client/render.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/job_gpus.h"
#include "client/net_plan.h"
#include "client/job_nccl.h"
#include "client/job_progress.h"
#include "client/story.h"
#include "client/streams.h"
#include "common/hostlist.h"
#include "proto/workers.h"

void render_age(struct buf *b, uint64_t ms)
{
	uint64_t s = ms / 1000;

	if (s < 120)
		buf_addf(b, "%" PRIu64 "s", s);
	else if (s < 7200)
		buf_addf(b, "%" PRIu64 "m", s / 60);
	else if (s < 172800)
		buf_addf(b, "%" PRIu64 "h", s / 3600);
	else
		buf_addf(b, "%" PRIu64 "d", s / 86400);
}

void render_waiting(struct buf *b, const char *why)
{
	static const char waiting[] = "waiting for ";
	size_t n = sizeof(waiting) - 1;

	if (strncmp(why, waiting, n) == 0)
		buf_addf(b, " for %s", why + n);
	else
		buf_addf(b, ": %s", why);
}

void render_start_by(struct buf *b, const struct rec_job_info *j, int64_t wall_ms)
{
	time_t t = (time_t)(j->start_by_wall_ms / 1000), now = (time_t)(wall_ms / 1000);
	struct tm then, today;
	char text[40];

	if (!MSG_HAS(j, job_info, start_by_wall_ms) || !localtime_r(&t, &then) || !localtime_r(&now, &today))
		return;
	if (strftime(text, sizeof(text), then.tm_yday == today.tm_yday ? "%H:%M" : "%F %H:%M", &then))
		buf_addf(b, "may start at %s at the latest", text);
}

void render_duration(struct buf *b, uint64_t ms)
{
	uint64_t s = ms / 1000;

	if (s < 10)
		buf_addf(b, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
	else if (s < 60)
		buf_addf(b, "%" PRIu64 "s", s);
	else if (s < 3600)
		buf_addf(b, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
	else if (s < 86400)
		buf_addf(b, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
	else
		buf_addf(b, "%" PRIu64 "d%" PRIu64 "h", s / 86400, s / 3600 % 24);
}

void render_count(struct buf *b, uint64_t n, const char *one, const char *many)
{
	buf_addf(b, "%" PRIu64 " %s", n, n == 1 ? one : many);
}

enum out_tone render_tone(const char *state)
{
	static const struct {
		const char *state;
		enum out_tone tone;
	} tones[] = {
		{ "ok", OUT_GOOD },	   { "unreachable", OUT_WARN }, { "down", OUT_BAD },
		{ "quarantined", OUT_BAD }, { "degraded", OUT_WARN },	{ "Active", OUT_GOOD },
		{ "Down", OUT_BAD },	   { "running", OUT_GOOD },	{ "failed", OUT_BAD },
		{ "lost", OUT_BAD },	   { "ending", OUT_WARN },	{ "queued", OUT_DIM },
		{ "killed", OUT_BAD },    { "restarting", OUT_WARN },
	};

	for (size_t i = 0; i < sizeof(tones) / sizeof(tones[0]); i++)
		if (strcmp(state, tones[i].state) == 0)
			return tones[i].tone;
	return OUT_PLAIN;
}

static void state_attr(struct out *o, const char *title, const char *state)
{
	out_attr(o, &(struct out_attr){ .key = "state", .title = title, .kind = OUT_STR, .s = state,
					.tone = render_tone(state) });
}

static void cut_attr(struct out *o, const char *key, const char *title, const char *s)
{
	out_attr(o, &(struct out_attr){ .key = key, .title = title, .kind = s ? OUT_STR : OUT_NULL,
					.s = s, .flags = OUT_SHRINK });
}

/* A number that may be unknown. */
static void opt_uint(struct out *o, const char *key, bool known, uint64_t v)
{
	if (known)
		out_uint(o, key, NULL, v);
	else
		out_str(o, key, NULL, NULL);
}

static void opt_time(struct out *o, const char *key, int64_t wall_ms)
{
	if (wall_ms)
		out_int(o, key, NULL, wall_ms);
	else
		out_str(o, key, NULL, NULL);
}

/* What its owner wanted is no failure to people. */
const char *render_job_state(const struct rec_job_info *j)
{
	return j->asked ? "ended" : j->state;
}

static enum out_tone state_tone(const struct rec_job_info *j)
{
	return j->asked ? OUT_PLAIN : render_tone(j->state);
}

bool render_job_over(const struct rec_job_info *j)
{
	return strcmp(j->state, "done") == 0 || strcmp(j->state, "failed") == 0 ||
	       strcmp(j->state, "lost") == 0;
}

uint64_t render_job_ms(const struct rec_job_info *j, int64_t wall_ms)
{
	int64_t from = j->start_wall_ms ? j->start_wall_ms : j->submit_wall_ms;
	int64_t to = j->end_wall_ms ? j->end_wall_ms : wall_ms;

	return from && to > from ? (uint64_t)(to - from) : 0;
}

/* Names, if the server did not send them one by one. */
static void nodes_attr(struct out *o, const struct rec_job_info *j)
{
	struct hostlist h;
	struct err e;

	if (j->n_node_names || !j->nodes || !*j->nodes || hostlist_parse(j->nodes, &h, &e) < 0) {
		out_strs(o, "nodes", NULL, j->node_names, j->n_node_names);
		return;
	}
	out_strs(o, "nodes", NULL, (const char *const *)h.names, h.count);
	hostlist_finish(&h);
}

/* What rows and details have in common in JSON. */
static void job_numbers(struct out *o, const struct rec_job_info *j)
{
	nodes_attr(o, j);
	opt_uint(o, "nnodes", j->nnodes, j->nnodes);
	opt_uint(o, "world", j->world, j->world);
	opt_uint(o, "running", MSG_HAS(j, job_info, running), j->running);
	opt_uint(o, "exit_code", MSG_HAS(j, job_info, exit_code), j->exit_code);
	opt_time(o, "submit_ms", j->submit_wall_ms);
	opt_time(o, "start_ms", j->start_wall_ms);
	opt_time(o, "end_ms", j->end_wall_ms);
	opt_time(o, "start_by_ms", j->start_by_wall_ms);
	out_str(o, "name", NULL, j->name);
	opt_uint(o, "uid", MSG_HAS(j, job_info, uid), j->uid);
	job_gpus_json(o, j);
	job_progress_json(o, j);
}

/* "14:05:30" of today, or "Nov 24 14:05". */
static void end_cell(struct out *o, const struct rec_job_info *j, int64_t wall_ms)
{
	time_t t = (time_t)(j->end_wall_ms / 1000), now = (time_t)(wall_ms / 1000);
	struct tm then, today;
	char text[40] = "-";

	if (j->end_wall_ms && localtime_r(&t, &then) && localtime_r(&now, &today))
		strftime(text, sizeof(text), then.tm_yday == today.tm_yday && then.tm_year == today.tm_year ?
			 "%T" : "%b %d %H:%M", &then);
	out_cell(o, "ENDED", 0, OUT_PLAIN, "%s", text);
}

/* What the list has in some job and so shows of all. */
struct columns {
	bool gpus, over, names, net, phases, steps;
};

static void job_row(struct out *o, const struct rec_job_info *j, int64_t wall_ms, const struct columns *w)
{
	struct buf b;

	buf_init(&b);
	out_start(o, NULL, OUT_ROW);
	out_uint(o, "job", "JOB", j->job);
	cut_attr(o, "user", "USER", j->user);
	job_numbers(o, j);
	if (j->nodes && *j->nodes)
		out_cell(o, "NODES", OUT_SHRINK, OUT_PLAIN, "%s", j->nodes);
	else
		out_cell(o, "NODES", OUT_SHRINK, OUT_DIM, "(%u)", j->nnodes);
	if (w->phases) {
		const struct rec_job_progress *p = job_progress(j);
		const char *phase = p && p->phase ? p->phase : j->state;

		out_str(o, "state", NULL, j->state);
		out_cell(o, "PHASE", 0, strcmp(phase, "hung") == 0 ? OUT_BAD : render_tone(j->state), "%s", phase);
	} else {
		out_str(o, "state", NULL, j->state);
		out_cell(o, "STATE", 0, state_tone(j), "%s", render_job_state(j));
	}
	if (j->asked)
		out_bool(o, "asked", NULL, true);
	if (w->over && MSG_HAS(j, job_info, exit_code))
		out_cell(o, "CODE", OUT_RIGHT, OUT_PLAIN, "%u", j->exit_code);
	else if (w->over)
		out_cell(o, "CODE", OUT_RIGHT, OUT_PLAIN, "-");
	if (MSG_HAS(j, job_info, running) && j->running != j->world && !render_job_over(j))
		out_cell(o, "RANKS", 0, OUT_PLAIN, "%u/%u", j->running, j->world);
	else
		out_cell(o, "RANKS", 0, OUT_PLAIN, "%u", j->world);
	if (w->gpus && j->n_gpus)
		out_cell(o, "GPUS", 0, OUT_PLAIN, "%u", job_gpus_count(j));
	else if (w->gpus)
		out_cell(o, "GPUS", 0, OUT_PLAIN, "-");
	if (w->net)
		job_nccl_cell(o, j);
	job_nccl_json(o, j, false);
	if (w->steps)
		job_step_cells(o, j);
	render_duration(&b, render_job_ms(j, wall_ms));
	out_cell(o, "TIME", 0, OUT_PLAIN, "%s", buf_str(&b));
	if (w->over)
		end_cell(o, j, wall_ms);
	if (w->names)
		out_cell(o, "NAME", OUT_SHRINK, OUT_PLAIN, "%s", j->name ? j->name : "-");
	cut_attr(o, "command", "COMMAND", j->command);
	out_str(o, "why", NULL, j->why);
	out_end(o);
	buf_finish(&b);
}

void render_jobs(struct out *o, const struct rec_job_info *jobs, size_t n, int64_t wall_ms)
{
	struct columns w = { 0 };

	for (size_t i = 0; i < n; i++) {
		w.gpus |= jobs[i].n_gpus > 0;
		w.over |= render_job_over(&jobs[i]);
		w.names |= jobs[i].name != NULL;
		w.net |= job_nccl_known(&jobs[i]);
		w.phases |= job_phase_counts(&jobs[i]) || job_step(&jobs[i]);
		w.steps |= job_step(&jobs[i]) != NULL;
	}
	out_start(o, "jobs", OUT_TABLE);
	for (size_t i = 0; i < n; i++)
		job_row(o, &jobs[i], wall_ms, &w);
	out_end(o);
}

/* Not sigabbrev_np(): glibc before 2.32 has none. */
static const char *signal_name(uint32_t sig)
{
	static const struct {
		uint32_t sig;
		const char *name;
	} names[] = {
		{ SIGHUP, "SIGHUP" },	{ SIGINT, "SIGINT" },	{ SIGQUIT, "SIGQUIT" },
		{ SIGILL, "SIGILL" },	{ SIGTRAP, "SIGTRAP" }, { SIGABRT, "SIGABRT" },
		{ SIGBUS, "SIGBUS" },	{ SIGFPE, "SIGFPE" },	{ SIGKILL, "SIGKILL" },
		{ SIGUSR1, "SIGUSR1" }, { SIGSEGV, "SIGSEGV" }, { SIGUSR2, "SIGUSR2" },
		{ SIGPIPE, "SIGPIPE" }, { SIGALRM, "SIGALRM" }, { SIGTERM, "SIGTERM" },
		{ SIGXCPU, "SIGXCPU" }, { SIGXFSZ, "SIGXFSZ" }, { SIGSYS, "SIGSYS" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].sig == sig)
			return names[i].name;
	return NULL;
}

void render_rank_end(struct buf *b, const struct rec_rank_state *r)
{
	if (strcmp(r->state, "exited") == 0) {
		buf_addf(b, "exited with code %u", r->code);
	} else if (strcmp(r->state, "killed") == 0) {
		const char *name = signal_name(r->sig);

		buf_addf(b, "was killed by signal %u", r->sig);
		if (name)
			buf_addf(b, " (%s)", name);
		if (r->core)
			buf_adds(b, ", core dumped");
	} else if (strcmp(r->state, "failed") == 0) {
		buf_adds(b, "could not start");
		if (r->text)
			buf_addf(b, ": %s", r->text);
	} else if (strcmp(r->state, "lost") == 0) {
		buf_adds(b, r->status_unknown ? "was lost, exit status unknown" : "was lost with its node");
	} else {
		buf_adds(b, "ended");
	}
}

static void worker_end(struct buf *b, const struct rec_worker *w)
{
	struct rec_rank_state r = { .state = w->state, .code = w->code, .sig = w->sig, .core = w->core };

	if (strcmp(w->state, "unknown") == 0)
		buf_adds(b, "ended, exit status unknown");
	else
		render_rank_end(b, &r);
}

void render_culprit(struct buf *b, const struct rec_job_info *j, const struct rec_rank_state *r)
{
	const char *node = r->node ? r->node : streams_node(j, r->rank);
	const struct rec_worker *w = workers_first(r->workers, r->n_workers);

	buf_addf(b, "rank %u (%s", w ? w->rank : r->rank, node ? node : "?");
	if (w && MSG_HAS(w, worker, local_rank))
		buf_addf(b, ", local rank %u", w->local_rank);
	if (MSG_HAS(r, rank_state, gpu))
		buf_addf(b, ", GPU %u", r->gpu);
	if (w ? w->pid : r->pid)
		buf_addf(b, ", pid %u", w ? w->pid : r->pid);
	buf_adds(b, w ? ", below the launcher) " : ") ");
	if (w)
		worker_end(b, w);
	else
		render_rank_end(b, r);
}

static void worker_row(struct out *o, const char *node, const struct rec_worker *w, bool hangs)
{
	out_start(o, NULL, OUT_ROW);
	out_attr(o, &(struct out_attr){ .key = "rank", .title = "RANK", .kind = OUT_UINT, .u = w->rank,
					.flags = OUT_RIGHT });
	cut_attr(o, "node", "NODE", node);
	out_attr(o, &(struct out_attr){ .key = "local_rank", .title = "LOCAL", .kind = OUT_UINT, .u = w->local_rank,
					.flags = OUT_RIGHT });
	if (hangs && strcmp(w->state, "running") == 0) {
		out_str(o, "state", NULL, w->state);
		out_cell(o, "STATE", 0, OUT_BAD, "hangs");
	} else {
		state_attr(o, "STATE", w->state);
	}
	out_bool(o, "hangs", NULL, hangs);
	out_attr(o, &(struct out_attr){ .key = "pid", .title = "PID", .kind = OUT_UINT, .u = w->pid,
					.flags = OUT_RIGHT });
	opt_uint(o, "code", MSG_HAS(w, worker, code), w->code);
	opt_uint(o, "signal", w->sig, w->sig);
	if (strcmp(w->state, "killed") == 0)
		out_cell(o, "END", 0, OUT_PLAIN, "signal %u%s", w->sig, w->ours ? " (ours)" : "");
	else if (strcmp(w->state, "exited") == 0)
		out_cell(o, "END", 0, OUT_PLAIN, "code %u", w->code);
	else
		out_cell(o, "END", 0, OUT_PLAIN, "-");
	out_bool(o, "ours", NULL, w->ours);
	out_str(o, "exception", NULL, w->exception);
	out_end(o);
}

/* Ranks below torchrun and its like: those that ended badly, and those that live. */
static void workers_table(struct out *o, const struct rec_job_info *j)
{
	out_start(o, "workers", OUT_TABLE);
	for (size_t i = 0; i < j->n_ranks; i++) {
		const struct rec_rank_state *r = &j->ranks[i];

		for (size_t k = 0; k < r->n_workers; k++)
			worker_row(o, r->node ? r->node : streams_node(j, r->rank), &r->workers[k], job_rank_hangs(j, r->workers[k].rank));
	}
	out_end(o);
}

/* "63 were ended by us" */
static void add_sum(struct buf *b, const struct rec_rank_sum *s)
{
	buf_addf(b, "%s%u ", b->len ? ", " : "", s->n);
	if (s->ours)
		buf_adds(b, s->n == 1 ? "was ended by us" : "were ended by us");
	else if (strcmp(s->state, "exited") == 0)
		buf_addf(b, "exited with code %u", s->code);
	else if (strcmp(s->state, "killed") == 0)
		buf_addf(b, "%s killed by signal %u", s->n == 1 ? "was" : "were", s->sig);
	else if (strcmp(s->state, "failed") == 0)
		buf_adds(b, "could not start");
	else if (strcmp(s->state, "lost") == 0)
		buf_addf(b, "%s lost with %s", s->n == 1 ? "was" : "were", s->n == 1 ? "its node" : "their nodes");
	else
		buf_adds(b, "never started");
}

/* "1 exited with code 7, 63 were ended by us": the rarest first, that is the one. */
static void sums_line(struct out *o, const struct rec_job_info *j)
{
	bool done[16] = { 0 };
	struct buf b;

	buf_init(&b);
	for (size_t k = 0; k < j->n_sums && k < 16; k++) {
		size_t best = 0;

		while (done[best]) /* k of them are */
			best++;
		for (size_t i = best + 1; i < j->n_sums && i < 16; i++)
			if (!done[i] && j->sums[i].n < j->sums[best].n)
				best = i;
		done[best] = true;
		add_sum(&b, &j->sums[best]);
	}
	if (b.len && j->n_ranks < j->world)
		buf_addf(&b, " (%zu of %u kept one by one)", j->n_ranks, j->world);
	out_str(o, NULL, b.len ? "ends" : NULL, buf_str(&b));
	buf_finish(&b);
}

/* The same for programs. */
static void sums_json(struct out *o, const struct rec_job_info *j)
{
	out_start(o, "ends", OUT_TABLE);
	for (size_t i = 0; i < j->n_sums; i++) {
		const struct rec_rank_sum *s = &j->sums[i];

		out_start(o, NULL, OUT_ROW);
		out_str(o, "state", NULL, s->state);
		out_uint(o, "ranks", NULL, s->n);
		opt_uint(o, "code", MSG_HAS(s, rank_sum, code), s->code);
		opt_uint(o, "signal", s->sig, s->sig);
		out_bool(o, "ours", NULL, s->ours);
		out_end(o);
	}
	out_end(o);
}

static void rank_row(struct out *o, const struct rec_job_info *j, const struct rec_rank_state *r)
{
	const char *node = r->node ? r->node : streams_node(j, r->rank);
	bool exited = MSG_HAS(r, rank_state, code), killed = MSG_HAS(r, rank_state, sig);
	bool hangs = r->n_workers == 0 && strcmp(r->state, "running") == 0 && job_rank_hangs(j, r->rank);

	out_start(o, NULL, OUT_ROW);
	out_attr(o, &(struct out_attr){ .key = "rank", .title = "RANK", .kind = OUT_UINT, .u = r->rank,
					.flags = OUT_RIGHT });
	cut_attr(o, "node", "NODE", node);
	out_str(o, "state", NULL, r->state);
	out_cell(o, "STATE", 0, hangs ? OUT_BAD : render_tone(r->state), "%s", hangs ? "hangs" :
		 render_job_over(j) && strcmp(r->state, "waiting") == 0 ? "not started" : r->state);
	opt_uint(o, "pid", r->pid, r->pid);
	opt_uint(o, "code", exited, r->code);
	opt_uint(o, "signal", killed && r->sig, r->sig);
	if (r->pid)
		out_cell(o, "PID", OUT_RIGHT, OUT_PLAIN, "%u", r->pid);
	else
		out_cell(o, "PID", OUT_RIGHT, OUT_PLAIN, "-");
	if (killed && r->sig)
		out_cell(o, "END", 0, OUT_PLAIN, "signal %u%s", r->sig, r->ours ? " (ours)" : "");
	else if (exited && strcmp(r->state, "running") != 0)
		out_cell(o, "END", 0, OUT_PLAIN, "code %u", r->code);
	else
		out_cell(o, "END", 0, OUT_PLAIN, "-");
	out_bool(o, "ours", NULL, r->ours);
	out_bool(o, "hangs", NULL, hangs);
	out_bool(o, "status_unknown", NULL, r->status_unknown);
	out_str(o, "exception", NULL, r->exception);
	opt_uint(o, "workers_found", MSG_HAS(r, rank_state, workers_found), r->workers_found);
	opt_uint(o, "workers_alive", MSG_HAS(r, rank_state, workers_found), r->workers_alive);
	out_str(o, "cause", NULL, r->cause);
	opt_uint(o, "gpu", MSG_HAS(r, rank_state, gpu), r->gpu);
	out_bool(o, "maybe_first", NULL, r->maybe_first);
	opt_time(o, "end_us", r->at_us);
	opt_uint(o, "end_error_us", r->at_us != 0, r->at_error_us);
	out_attr(o, &(struct out_attr){ .key = "text", .title = "NOTE", .kind = OUT_STR,
					.s = r->text ? r->text : "", .flags = OUT_WRAP });
	out_end(o);
}

static void time_line(struct out *o, const char *title, int64_t wall_ms)
{
	time_t t = (time_t)(wall_ms / 1000);
	struct tm tm;
	char text[40];

	if (!wall_ms || !localtime_r(&t, &tm) || !strftime(text, sizeof(text), "%F %T", &tm))
		return;
	out_str(o, NULL, title, text);
}

static void first_line(struct out *o, const struct rec_job_info *j)
{
	struct buf b;

	if (!j->n_first)
		return;
	buf_init(&b);
	render_culprit(&b, j, j->first);
	out_str(o, "first", "first", buf_str(&b));
	out_str(o, "exception", j->first->exception ? "exception" : NULL, j->first->exception);
	buf_finish(&b);
}

/* When the first attempt began; 0: there was one only, or of many the first is not kept. */
static int64_t first_start(const struct rec_job_info *j)
{
	const struct rec_attempt_info *a = j->n_attempts ? &j->attempts[0] : NULL;

	return j->restarts && a && a->attempt == 1 ? a->start_wall_ms : 0;
}

/* Of a job that was started again its whole time, and that of its last attempt. */
static void times_text(struct out *o, const struct rec_job_info *j, int64_t wall_ms)
{
	int64_t first = first_start(j), to = j->end_wall_ms ? j->end_wall_ms : wall_ms;
	struct buf b;

	time_line(o, "started", first ? first : j->start_wall_ms);
	time_line(o, first ? "again" : "", first ? j->start_wall_ms : 0);
	time_line(o, "ended", j->end_wall_ms);
	if (!j->start_wall_ms && !first && render_job_over(j))
		return;
	buf_init(&b);
	render_duration(&b, first && to > first ? (uint64_t)(to - first) : render_job_ms(j, wall_ms));
	if (first && j->start_wall_ms) {
		buf_addf(&b, " (attempt %u: ", j->attempt);
		render_duration(&b, render_job_ms(j, wall_ms));
		buf_addc(&b, ')');
	}
	out_str(o, NULL, j->start_wall_ms || first ? "time" : "waiting", buf_str(&b));
	buf_finish(&b);
}

static void job_text(struct out *o, const struct rec_job_info *j, int64_t wall_ms)
{
	struct buf b;

	buf_init(&b);
	buf_addf(&b, "%" PRIu64 " %s", j->job, render_job_state(j));
	out_attr(o, &(struct out_attr){ .title = "job", .kind = OUT_STR, .s = buf_str(&b), .tone = state_tone(j) });
	if (j->name)
		out_str(o, NULL, "name", j->name);
	out_str(o, NULL, "command", j->command);
	out_str(o, NULL, "user", j->user);
	if (j->nodes && *j->nodes)
		out_str(o, NULL, "nodes", j->nodes);
	buf_reset(&b);
	render_count(&b, j->world, "process on ", "processes on ");
	render_count(&b, j->nnodes, "node", "nodes");
	if (MSG_HAS(j, job_info, running) && !render_job_over(j))
		buf_addf(&b, ", %u running", j->running);
	out_str(o, NULL, "ranks", buf_str(&b));
	buf_reset(&b);
	job_gpus_text(&b, j);
	out_str(o, NULL, b.len ? "GPUs" : NULL, buf_str(&b));
	time_line(o, "submitted", j->submit_wall_ms);
	times_text(o, j, wall_ms);
	job_progress_lines(o, j);
	job_past_hang(o, j);
	if (MSG_HAS(j, job_info, exit_code))
		out_uint(o, NULL, "exit code", j->exit_code);
	buf_reset(&b);
	render_start_by(&b, j, wall_ms);
	out_str(o, NULL, b.len ? "queue" : NULL, buf_str(&b));
	buf_finish(&b);
}

static bool any_guilty(const struct rec_job_info *j)
{
	for (size_t i = 0; i < j->n_attempts; i++)
		if (j->attempts[i].guilty && *j->attempts[i].guilty)
			return true;
	return false;
}

static void attempt_row(struct out *o, const struct rec_attempt_info *a, bool guilty)
{
	struct buf b;

	buf_init(&b);
	out_start(o, NULL, OUT_ROW);
	out_uint(o, "attempt", "ATTEMPT", a->attempt);
	cut_attr(o, "nodes", "NODES", a->nodes);
	opt_time(o, "start_ms", a->start_wall_ms);
	opt_time(o, "end_ms", a->end_wall_ms);
	if (a->start_wall_ms && a->end_wall_ms > a->start_wall_ms)
		render_duration(&b, (uint64_t)(a->end_wall_ms - a->start_wall_ms));
	out_cell(o, "TIME", 0, OUT_PLAIN, "%s", b.len ? buf_str(&b) : "-");
	out_uint(o, "exit_code", "CODE", a->exit_code);
	cut_attr(o, "guilty", guilty ? "LEFT OUT" : NULL, a->guilty ? a->guilty : "");
	out_attr(o, &(struct out_attr){ .key = "why", .title = "WHY", .kind = a->why ? OUT_STR : OUT_NULL,
					.s = a->why, .flags = OUT_WRAP });
	out_end(o);
	buf_finish(&b);
}

static void names_line(struct out *o, const char *key, const char *title, const char *const *v, size_t n)
{
	char *text = n ? hostlist_format(v, n) : NULL;

	out_strs(o, key, NULL, v, n);
	if (text)
		out_str(o, NULL, title, text);
	free(text);
}

static void restarts(struct out *o, const struct rec_job_info *j)
{
	struct buf b;

	opt_uint(o, "restarts", j->max_restarts, j->restarts);
	opt_uint(o, "max_restarts", MSG_HAS(j, job_info, max_restarts), j->max_restarts);
	if (!j->max_restarts)
		return;
	buf_init(&b);
	buf_addf(&b, "%u of %u, when %s", j->restarts, j->max_restarts,
		 j->restart_any ? "a node or a process fails" : "a node is lost");
	out_str(o, NULL, "restarts", buf_str(&b));
	out_str(o, "restart_on", NULL, j->restart_any ? "any" : "node");
	names_line(o, "barred", "left out", j->barred, j->n_barred);
	names_line(o, "spares", "held", j->spares, j->n_spares);
	out_start(o, "attempts", OUT_TABLE);
	for (size_t i = 0; i < j->n_attempts; i++)
		attempt_row(o, &j->attempts[i], any_guilty(j));
	out_end(o);
	buf_finish(&b);
}

void render_job(struct out *o, const struct rec_job_info *j, int64_t wall_ms)
{
	out_uint(o, "job", NULL, j->job);
	out_str(o, "state", NULL, j->state);
	if (j->asked)
		out_bool(o, "asked", NULL, true);
	out_str(o, "user", NULL, j->user);
	out_str(o, "command", NULL, j->command);
	opt_uint(o, "attempt", MSG_HAS(j, job_info, attempt), j->attempt);
	opt_uint(o, "procs_per_node", j->procs_per_node, j->procs_per_node);
	job_numbers(o, j);
	job_text(o, j, wall_ms);
	first_line(o, j);
	story_cause(o, j);
	job_nccl_lines(o, j);
	job_nccl_json(o, j, true);
	out_str(o, "why", j->why && !(render_job_over(j) && story_says_why(j)) ? "why" : NULL, j->why);
	out_str(o, "master", j->master ? "master" : NULL, j->master);
	out_str(o, "submit_node", NULL, j->submit_node);
	opt_uint(o, "time_limit_s", j->time_s, j->time_s);
	restarts(o, j);
	sums_line(o, j);
	sums_json(o, j);
	net_plan_render(o, j->n_net ? j->net : NULL, j->nnodes == 1, NULL);
	out_start(o, "ranks", OUT_TABLE);
	for (size_t i = 0; i < j->n_ranks; i++)
		rank_row(o, j, &j->ranks[i]);
	out_end(o);
	workers_table(o, j);
	story_table(o, j);
	out_start(o, "notices", OUT_LINES);
	for (size_t i = 0; i < j->n_notices; i++)
		out_data(o, NULL, j->notices[i]);
	out_end(o);
}
