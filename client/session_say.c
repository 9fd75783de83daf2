/* session_say.c - what a session tells its user, on standard error
 *
 * In JSON mode the same things are objects on standard output; only what
 * begins with "nodectl: " is said on standard error as well. */
#include "client/session_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/out.h"
#include "client/job_progress.h"
#include "client/render.h"
#include "client/story.h"
#include "client/term.h"
#include "common/last_line.h"
#include "proto/workers.h"

#define TAIL_LINES 10
#define NODES_NAMED 8
#define AGENT_WAITS_MS 30000 /* as PROTOCOL.md says */
#define NUMBERS_MS 30000 /* a wait of which only numbers have changed is told so seldom */

static int64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void say_clean(struct session *s, const char *prefix, const char *text)
{
	struct buf b;

	buf_init(&b);
	buf_addf(&b, "%s%s", prefix, text);
	streams_tell(&s->streams, buf_str(&b));
	buf_finish(&b);
}

void session_say(struct session *s, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	if (s->conf->json)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say_clean(s, "", text);
}

void session_complain(struct session *s, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say_clean(s, "nodectl: ", text);
}

/* ---- JSON -------------------------------------------------------------- */

static struct out *json_begin(struct buf *b, const char *event)
{
	struct out *o;

	buf_init(b);
	o = out_json_create(b);
	out_start(o, NULL, OUT_OBJECT);
	if (event)
		out_str(o, "event", NULL, event);
	return o;
}

static void json_done(struct session *s, struct out *o, struct buf *b)
{
	out_end(o);
	out_destroy(o);
	streams_json(&s->streams, b);
	buf_finish(b);
}

static void json_state(struct session *s)
{
	struct buf b;
	struct out *o = json_begin(&b, "state");

	out_uint(o, "job", NULL, s->info->job);
	out_str(o, "state", NULL, s->info->state);
	out_str(o, "why", NULL, s->info->why);
	out_strs(o, "nodes", NULL, s->info->node_names, s->info->n_node_names);
	json_done(s, o, &b);
}

/* ---- moments ----------------------------------------------------------- */

void session_say_submitted(struct session *s)
{
	struct out *o;
	struct buf b;

	if (s->conf->json) {
		o = json_begin(&b, s->conf->detach ? NULL : "submitted");
		out_uint(o, "job", NULL, s->job);
		json_done(s, o, &b);
		return;
	}
	if (s->conf->detach) { /* the id is the result */
		buf_init(&b);
		buf_addf(&b, "job %" PRIu64 "\n", s->job);
		streams_json(&s->streams, &b);
		buf_finish(&b);
		if (!s->streams.same)
			session_say(s, "job %" PRIu64, s->job);
		return;
	}
	session_say(s, "job %" PRIu64 "%s", s->job,
		    isatty(2) ? "  (goes on if this terminal closes)" : "");
}

static bool is_waiting(const struct rec_job_info *j)
{
	return strcmp(j->state, "queued") == 0 || strcmp(j->state, "preparing") == 0 ||
	       strcmp(j->state, "ready") == 0 || strcmp(j->state, "restarting") == 0;
}

static void say_waits(struct session *s, const struct rec_job_info *j, const char *why)
{
	struct buf b;

	buf_init(&b);
	render_waiting(&b, why);
	if (MSG_HAS(j, job_info, start_by_wall_ms))
		buf_adds(&b, "; ");
	render_start_by(&b, j, wall_ms());
	session_say(s, "job %" PRIu64 " waits%s", j->job, buf_str(&b));
	buf_finish(&b);
}

/* The agent keeps a request for AGENT_WAITS_MS while its coordinator is away, and refuses it then. */
void session_say_slow(struct session *s, mono_t now)
{
	int64_t left = AGENT_WAITS_MS - mono_sub_ms(now, s->live_since);
	time_t until = (time_t)((wall_ms() + left) / 1000);
	struct tm tm;
	char at[16] = "?";

	if (localtime_r(&until, &tm))
		strftime(at, sizeof(at), "%T", &tm);
	session_complain(s, "the coordinator does not answer; waiting for it until %s (%d s)%s", at,
			 (int)((left + 999) / 1000), s->job ? "" : ", to take the job");
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Numbers that stand alone ("at most 12 s") may differ, those of names ("gpu03") may not.
 * Of 'told' only the first 'max' bytes are there. */
static bool same_but_numbers(const char *told, const char *why, size_t max)
{
	const char *p = told;

	while (*p && *why) {
		if (is_digit(*p) && is_digit(*why) && (p == told || p[-1] == ' ' || p[-1] == '.')) {
			p += strspn(p, "0123456789");
			why += strspn(why, "0123456789");
		} else if (*p++ != *why++) {
			return false;
		}
	}
	return !*p && (!*why || (size_t)(p - told) == max);
}

/* What the job waits for, once that is worth a line, and when it has changed. */
void session_say_waiting(struct session *s, mono_t now)
{
	const struct rec_job_info *j = s->info;
	const char *why;

	if (!j || !s->conf->to_end)
		return;
	why = j->why ? j->why : "";
	if (strcmp(j->state, s->told_state) == 0) {
		if (strncmp(why, s->told_why, sizeof(s->told_why) - 1) == 0)
			return;
		if (is_waiting(j) && same_but_numbers(s->told_why, why, sizeof(s->told_why) - 1) &&
		    !mono_due(mono_add_ms(s->told_at, NUMBERS_MS), now)) {
			s->say_again_at = mono_add_ms(s->told_at, NUMBERS_MS);
			return;
		}
	}
	s->told_at = now;
	s->say_again_at = MONO_NEVER;
	if (s->conf->json)
		json_state(s);
	else if (is_waiting(j) && *why && !s->killing && strncmp(why, s->told_why, sizeof(s->told_why) - 1) != 0)
		say_waits(s, j, why);
	else if (!is_waiting(j) && *s->told_why && strcmp(j->state, "running") == 0 && j->nodes)
		session_say(s, "job %" PRIu64 " runs on %s", j->job, j->nodes);
	snprintf(s->told_why, sizeof(s->told_why), "%s", is_waiting(j) ? why : "");
	snprintf(s->told_state, sizeof(s->told_state), "%s", j->state);
}

static void why_over(struct buf *b, const struct rec_attempt_info *a)
{
	if (a && a->guilty)
		buf_addf(b, "node %s was lost or failed (%s)", a->guilty, a->why ? a->why : "?");
	else
		buf_adds(b, a && a->why ? a->why : "it was ended");
}

/* Before it is told what the next attempt waits for. */
static void say_over(struct session *s, const struct rec_job_info *j, const struct rec_attempt_info *a)
{
	struct buf b;

	if (!s->conf->to_end || s->conf->json || s->told_end >= j->attempt)
		return;
	buf_init(&b);
	if (a && a->attempt == j->attempt) {
		why_over(&b, a);
	} else if (j->n_first) { /* it waits until all of it is surely gone */
		render_culprit(&b, j, j->first);
		if (strcmp(j->first->state, "lost") == 0 && j->first->text)
			buf_addf(&b, ": %s", j->first->text);
	}
	if (*buf_str(&b)) {
		session_say(s, "job %" PRIu64 ": %s", j->job, buf_str(&b));
		s->told_end = j->attempt;
	}
	buf_finish(&b);
}

/* "job 18: restarting (1 of 3) on gpu[01-02,05]"; with the reason, if that is not told yet */
static void say_restart(struct session *s, const struct rec_job_info *j, const struct rec_attempt_info *a)
{
	struct buf b;

	buf_init(&b);
	if (!a || s->told_end < a->attempt) {
		why_over(&b, a);
		buf_adds(&b, "; ");
	}
	session_say(s, "job %" PRIu64 ": %srestarting (%u of %u) on %s", j->job, buf_str(&b), j->attempt - 1,
		    j->max_restarts, j->nodes);
	buf_finish(&b);
}

static void json_restart(struct session *s, const struct rec_job_info *j, const struct rec_attempt_info *a)
{
	struct buf b;
	struct out *o = json_begin(&b, "restart");

	out_uint(o, "job", NULL, j->job);
	out_uint(o, "attempt", NULL, j->attempt);
	out_uint(o, "max_restarts", NULL, j->max_restarts);
	out_str(o, "why", NULL, a ? a->why : NULL);
	out_str(o, "guilty", NULL, a ? a->guilty : NULL);
	out_strs(o, "nodes", NULL, j->node_names, j->n_node_names);
	json_done(s, o, &b);
}

void session_say_restart(struct session *s)
{
	const struct rec_job_info *j = s->info;
	const struct rec_attempt_info *a = j->n_attempts ? &j->attempts[j->n_attempts - 1] : NULL;

	if (strcmp(j->state, "restarting") == 0) {
		say_over(s, j, a);
		return;
	}
	if (!j->nodes || !*j->nodes || j->attempt <= s->told_attempt)
		return;
	if (s->told_attempt && s->conf->to_end && s->conf->json)
		json_restart(s, j, a);
	else if (s->told_attempt && s->conf->to_end)
		say_restart(s, j, a);
	s->told_attempt = j->attempt;
}

/* "gpu01: ranks 0-7, gpu02: ranks 8-15"; long jobs by their host list. */
static void ranks_by_node(struct buf *b, const struct rec_job_info *j)
{
	uint32_t each = j->procs_per_node ? j->procs_per_node : 1;

	if (!j->n_node_names || j->n_node_names > NODES_NAMED) {
		buf_addf(b, "on %s", j->nodes && *j->nodes ? j->nodes : "its nodes");
		return;
	}
	for (size_t i = 0; i < j->n_node_names; i++) {
		uint32_t first = (uint32_t)i * each;

		buf_addf(b, "%s%s: ", i ? ", " : "", j->node_names[i]);
		if (each == 1)
			buf_addf(b, "rank %u", first);
		else
			buf_addf(b, "ranks %u-%u", first, first + each - 1);
	}
}

void session_say_running(struct session *s, const char *then)
{
	const struct rec_job_info *j = s->info;
	struct buf b;

	buf_init(&b);
	if (s->job)
		buf_addf(&b, "job %" PRIu64 " ", s->job);
	else
		buf_adds(&b, "the job has no number yet: it ");
	if (!j || is_waiting(j)) {
		size_t n = j ? strlen(j->state) : 0;

		if (j && j->why && strncmp(j->why, j->state, n) == 0) /* "restarting in 2 s: ..." */
			buf_addf(&b, "is %s", j->why);
		else
			buf_addf(&b, "is %s%s%s", j ? j->state : "submitted", j && j->why && *j->why ? ": " : "",
				 j && j->why ? j->why : "");
	} else {
		if (MSG_HAS(j, job_info, running))
			buf_addf(&b, "runs %u of %u ranks (", j->running, j->world);
		else
			buf_addf(&b, "is %s (", j->state);
		ranks_by_node(&b, j);
		buf_adds(&b, ")");
		if (j->start_wall_ms) {
			buf_adds(&b, " for ");
			render_duration(&b, render_job_ms(j, wall_ms()));
		}
	}
	session_say(s, "%s", buf_str(&b));
	session_say(s, "%s", then);
	buf_finish(&b);
}

/* ---- the end ----------------------------------------------------------- */

int session_job_code(const struct rec_job_info *j)
{
	if (!j)
		return EXIT_REFUSED;
	if (MSG_HAS(j, job_info, exit_code))
		return (int)j->exit_code;
	return strcmp(j->state, "done") == 0 ? 0 : EXIT_REFUSED;
}

/* Without the sequences that colour it or move the cursor: they would be shown as
 * "?[31m". */
static void add_plain(struct buf *b, const char *p, size_t n)
{
	struct buf plain;

	buf_init(&plain);
	for (size_t i = 0, end; i < n; i = end) {
		const char *esc = memchr(p + i, 27, n - i);

		end = esc ? (size_t)(esc - p) : n;
		buf_add(&plain, p + i, end - i);
		if (!esc)
			break;
		if (end + 1 < n && p[end + 1] == '[') {
			for (end += 2; end < n && p[end] >= ' ' && p[end] < '@'; end++)
				;
			end += end < n && p[end] >= '@' && p[end] <= '~';
		} else {
			buf_addc(&plain, p[end++]);
		}
	}
	term_add_clean(b, buf_str(&plain), plain.len);
	buf_finish(&plain);
}

/* The last lines a rank wrote, indented. */
/* Its last line says just that: a program's own word, not a traceback's end with the place added. */
static bool tail_has(const struct bytes *tail, const char *text)
{
	char line[LAST_LINE_SIZE];

	last_line((const char *)tail->p, tail->n, line);
	return strcmp(line, text) == 0;
}

static void say_tail(struct session *s, const struct bytes *tail)
{
	const char *p = (const char *)tail->p, *end = p + tail->n, *from = end;
	unsigned lines = 0;

	if (tail->n && end[-1] == '\n')
		from--;
	while (from > p && lines < TAIL_LINES) {
		const char *nl = memrchr(p, '\n', (size_t)(from - p));

		lines++;
		from = nl ? nl : p;
		if (!nl)
			break;
	}
	if (from < end && *from == '\n')
		from++;
	while (from < end) {
		const char *nl = memchr(from, '\n', (size_t)(end - from));
		const char *stop = nl ? nl : end, *shown = memrchr(from, '\r', (size_t)(stop - from));
		struct buf b;

		/* of a progress bar only its last state; "\r\n" is a line end */
		if (shown && shown + 1 == stop) {
			stop = shown;
			shown = memrchr(from, '\r', (size_t)(stop - from));
		}
		buf_init(&b);
		buf_adds(&b, "  ");
		add_plain(&b, shown ? shown + 1 : from, (size_t)(stop - (shown ? shown + 1 : from)));
		streams_say(&s->streams, buf_str(&b));
		buf_finish(&b);
		from = nl ? nl + 1 : end;
	}
}

static const char *verdict(const struct rec_job_info *j)
{
	if (strcmp(j->state, "lost") == 0)
		return "LOST";
	if (j->asked)
		return "ended";
	return session_job_code(j) ? "FAILED" : "done";
}

static void say_line(void *arg, const char *line)
{
	session_say(arg, "%s", line);
}

/* " (attempt 6, after 5 of 5 restarts; 1h12m in all)" */
static void add_attempts(struct buf *b, const struct rec_job_info *j)
{
	const struct rec_attempt_info *a = j->n_attempts ? &j->attempts[0] : NULL;
	/* of many attempts the oldest are not kept */
	int64_t from = a && a->attempt == 1 && a->start_wall_ms ? a->start_wall_ms : j->submit_wall_ms;

	if (!j->restarts)
		return;
	buf_addf(b, " (attempt %u, after %u of %u restart%s", j->attempt, j->restarts, j->max_restarts,
		 j->max_restarts == 1 ? "" : "s");
	if (from && j->end_wall_ms > from) {
		buf_adds(b, "; ");
		render_duration(b, (uint64_t)(j->end_wall_ms - from));
		buf_adds(b, " in all");
	}
	buf_addc(b, ')');
}

static void say_verdict(struct session *s, const struct rec_job_info *j)
{
	const struct rec_rank_state *r = j->n_first ? j->first : NULL;
	struct buf b;

	buf_init(&b);
	buf_addf(&b, "job %" PRIu64 " %s", j->job, verdict(j));
	if (j->start_wall_ms && j->end_wall_ms) {
		buf_addc(&b, ' ');
		render_duration(&b, render_job_ms(j, 0));
	}
	add_attempts(&b, j);
	if (r) {
		buf_adds(&b, ": ");
		render_culprit(&b, j, r);
	} else if (j->why && *j->why) {
		buf_addf(&b, ": %s", j->why);
	}
	session_say(s, "%s", buf_str(&b));
	if (r && r->exception && !tail_has(&r->tail, r->exception))
		session_say(s, "  %s", r->exception);
	if (r && !workers_first(r->workers, r->n_workers)) /* a launcher's last lines are not the cause */
		say_tail(s, &r->tail);
	if (r && j->why && *j->why && !strstr(buf_str(&b), j->why) && !story_says_why(j)) /* not the same words again */
		session_say(s, "  %s", j->why);
	story_say_cause(j, say_line, s);
	buf_finish(&b);
}

static void json_notice(struct session *s, const char *text)
{
	struct buf b;
	struct out *o = json_begin(&b, "notice");

	out_uint(o, "job", NULL, s->info->job);
	out_str(o, "text", NULL, text);
	json_done(s, o, &b);
}

static void say_one(struct session *s, const char *text)
{
	if (s->conf->json)
		json_notice(s, text);
	else
		session_say(s, "job %" PRIu64 ": %s", s->info->job, text);
}

/* What begins and ends, unlike the notices: once each time. */
void session_say_progress(struct session *s)
{
	const struct rec_job_progress *p = job_progress(s->info);
	bool hangs = p && p->hang;
	struct buf b;

	if (!s->conf->to_end)
		return;
	buf_init(&b);
	if (hangs && !s->told_hang) {
		job_hang_text(&b, s->info);
		say_one(s, buf_str(&b));
	} else if (p && !hangs && s->told_hang) {
		say_one(s, "goes on again");
	} else if (p && p->phase && p->note && strcmp(p->phase, "tokenising") == 0 && !s->told_tokenising) {
		buf_addf(&b, "tokenising: %s; that others wait is normal", p->note);
		say_one(s, buf_str(&b));
		s->told_tokenising = true;
	}
	if (p)
		s->told_hang = hangs;
	buf_finish(&b);
}

void session_say_notices(struct session *s)
{
	const struct rec_job_info *j = s->info;

	if (!s->conf->to_end)
		return;
	for (; s->told_notices < j->n_notices; s->told_notices++) {
		if (s->conf->json)
			json_notice(s, j->notices[s->told_notices]);
		else
			session_say(s, "job %" PRIu64 ": %s", j->job, j->notices[s->told_notices]);
	}
}

void session_say_end(struct session *s)
{
	const struct rec_job_info *j = s->info;
	struct out *o;
	struct buf b;

	if (!j)
		return;
	if (s->conf->json) {
		session_say_notices(s);
		o = json_begin(&b, "end");
		render_job(o, j, wall_ms());
		json_done(s, o, &b);
		return;
	}
	if (s->was_over)
		session_say(s, "job %" PRIu64 " has ended: %s; its output: nodectl logs %" PRIu64, j->job, j->state, j->job);
	if (session_job_code(j) || strcmp(j->state, "done") != 0 || j->restarts)
		say_verdict(s, j);
	session_say_notices(s);
}

void session_say_never(struct session *s)
{
	const struct rec_job_info *j = s->info;

	if (j && !MSG_HAS(j, job_info, start_wall_ms))
		session_complain(s, "%s %" PRIu64 " was never started: it has no output", j->n_attempts > 1 ?
				 "the last attempt of job" : "job", j->job);
}

/* The agent, or its word from the coordinator, was away while attempts followed each other. */
void session_say_missed(struct session *s, uint32_t next)
{
	uint32_t first = s->resumed && !streams_all_ended(&s->streams) ? s->attempt : s->attempt + 1;

	if (first + 1 == next)
		session_complain(s, "output of attempt %" PRIu32 " was missed: nodectl logs --attempt %" PRIu32 " %" PRIu64
				 " shows it", first, first, s->job);
	else if (first < next)
		session_complain(s, "output of the attempts %" PRIu32 "-%" PRIu32 " was missed: nodectl logs --attempt %" PRIu32
				 " %" PRIu64 " shows that of the first", first, next - 1, first, s->job);
}
