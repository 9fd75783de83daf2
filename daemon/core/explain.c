/* explain.c - see explain.h */
#include "core/explain.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/utf8.h"
#include "core/last_words.h"

#define SEEN_MAX 24
#define LIST_MAX 8

struct words {
	struct arena *a;
	const struct explain_in *in;
	const struct rec_job_info *j;
	struct rec_explanation *e;
	char text[1025]; /* the paragraph so far */
};

static void say(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void saw(struct words *w, int64_t wall_ms, const char *source, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static void unknown(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void todo(struct words *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct words *w, const char *fmt, ...)
{
	size_t n = strlen(w->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->text + n, sizeof(w->text) - n, fmt, ap);
	va_end(ap);
}

static const char *keep(struct words *w, const char *fmt, va_list ap)
{
	char text[513];

	vsnprintf(text, sizeof(text), fmt, ap);
	return arena_strdup(w->a, utf8_scrub(text));
}

static void saw(struct words *w, int64_t wall_ms, const char *source, const char *fmt, ...)
{
	struct rec_fact *f = &w->e->seen[w->e->n_seen];
	va_list ap;

	if (w->e->n_seen == SEEN_MAX)
		return;
	va_start(ap, fmt);
	f->text = keep(w, fmt, ap);
	va_end(ap);
	if (f->text == NULL)
		return;
	f->source = source;
	if (wall_ms != 0)
		MSG_SET(f, fact, wall_ms, wall_ms);
	w->e->n_seen++;
}

static void add(struct words *w, const char **v, size_t *n, const char *fmt, va_list ap)
{
	const char *text = *n < LIST_MAX ? keep(w, fmt, ap) : NULL;

	for (size_t i = 0; text != NULL && i < *n; i++)
		if (strcmp(v[i], text) == 0)
			return;
	if (text != NULL)
		v[(*n)++] = text;
}

static void unknown(struct words *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(w, w->e->unknown, &w->e->n_unknown, fmt, ap);
	va_end(ap);
}

static void todo(struct words *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(w, w->e->todo, &w->e->n_todo, fmt, ap);
	va_end(ap);
}

/* ---- what there is ---------------------------------------------------------------- */

static const char *why(const struct words *w, const char *otherwise)
{
	return w->j->why != NULL && w->j->why[0] != '\0' ? w->j->why : otherwise;
}

static bool is(const struct words *w, const char *state)
{
	return strcmp(w->j->state, state) == 0;
}

static const struct rec_nccl_sum *nccl(const struct words *w)
{
	return w->j->n_nccl > 0 ? w->j->nccl : NULL;
}

static const char *nodes_text(const struct words *w)
{
	return w->j->nodes != NULL && w->j->nodes[0] != '\0' ? w->j->nodes : "its nodes";
}

/* What ends a sentence whose last words are others'. */
static const char *stop(const char *text)
{
	size_t n = strlen(text);

	return n > 0 && strchr(".!?", text[n - 1]) != NULL ? "" : ".";
}

/* "95 s", "12 min", "3 h" */
static const char *span(struct words *w, int64_t ms)
{
	int64_t s = ms > 0 ? ms / 1000 : 0;

	return s < 120	? arena_printf(w->a, "%" PRId64 " s", s) :
	       s < 7200 ? arena_printf(w->a, "%" PRId64 " min", s / 60) :
			  arena_printf(w->a, "%" PRId64 " h", s / 3600);
}

/* A node that does not answer now; NULL: all do. */
static const struct explain_node *away(const struct words *w)
{
	for (size_t i = 0; i < w->in->n_nodes; i++)
		if (strcmp(w->in->nodes[i].state, "unreachable") == 0 || strcmp(w->in->nodes[i].state, "down") == 0)
			return &w->in->nodes[i];
	return NULL;
}

static const struct rec_attention *worst(const struct words *w, const char *severity)
{
	for (size_t i = 0; i < w->in->n_nodes; i++)
		for (size_t k = 0; k < w->in->nodes[i].n; k++)
			if (strcmp(w->in->nodes[i].v[k].severity, severity) == 0)
				return &w->in->nodes[i].v[k];
	return NULL;
}

static uint32_t unready(const struct words *w, uint32_t *ret_begun)
{
	uint32_t begun = 0, ready = 0;

	for (size_t i = 0; i < w->j->n_nccl_nodes; i++) {
		begun += w->j->nccl_nodes[i].inits;
		ready += w->j->nccl_nodes[i].inits_done;
	}
	*ret_begun = begun;
	return begun > ready ? begun - ready : 0;
}

/* ---- the paragraph, by state -------------------------------------------------------- */

static void say_queued(struct words *w)
{
	const struct rec_job_info *j = w->j;

	say(w, "It waits and has not been started: %s.", why(w, "nobody has looked at it yet"));
	if (MSG_HAS(j, job_info, start_by_wall_ms) && j->start_by_wall_ms > w->in->wall_ms)
		say(w, " It can start in %s at the latest, if no node fails.", span(w, j->start_by_wall_ms - w->in->wall_ms));
	else
		unknown(w, "when it can start: what it waits for has no known end");
	saw(w, j->submit_wall_ms, "the coordinator", "submitted by %s at %s, for %u node%s", j->user, j->submit_node != NULL ?
	    j->submit_node : "?", j->nnodes, j->nnodes == 1 ? "" : "s");
	todo(w, "nodectl status");
	todo(w, "nodectl kill %" PRIu64 " takes it out of the queue", j->job);
}

static void say_preparing(struct words *w)
{
	say(w, "It is being prepared on %s: directory, command, ports and the way to rank 0 are checked, and nothing runs "
	       "until all nodes are ready", nodes_text(w));
	if (w->j->why != NULL && w->j->why[0] != '\0')
		say(w, " (%s)", w->j->why);
	say(w, ".");
	todo(w, "nodectl attach %" PRIu64 " shows it go on", w->j->job);
}

static void say_slow(struct words *w, const struct rec_nccl_sum *s)
{
	say(w, "Slow, not broken: NCCL runs over TCP and not over InfiniBand: %s.", s->why != NULL ? s->why : "why is not known");
	if (s->reason != NULL && strcmp(s->reason, "user") == 0)
		unknown(w, "whether InfiniBand passes traffic between %s: nodectl check nccl tells", nodes_text(w));
}

static const struct rec_job_progress *progress(const struct words *w)
{
	return w->j->n_progress > 0 ? w->j->progress : NULL;
}

/* A node that is not heard goes first: what hangs there is old news. */
static void say_hang(struct words *w, const struct rec_job_progress *p)
{
	const struct rec_nccl_sum *s = nccl(w);
	const struct rec_attention *bad = worst(w, "bad");

	say(w, "It hangs: %s.", p->hang);
	if (w->j->on_hang != NULL)
		say(w, " It is %s half a minute after this was seen, unless it goes on: --on-hang %s.",
		    strcmp(w->j->on_hang, "restart") == 0 ? "started again" : "ended", w->j->on_hang);
	if (s != NULL && s->trouble != NULL)
		say(w, " NCCL said before: %s.", s->trouble);
	else if (bad != NULL)
		say(w, " One of its nodes is not well: %s: %s", bad->subject, bad->text);
	if (p->fix != NULL)
		todo(w, "%s", p->fix);
}

static const struct rec_rank_state *ended_well(const struct words *w, size_t *ret_well, size_t *ret_running)
{
	const struct rec_rank_state *first = NULL;

	*ret_well = *ret_running = 0;
	for (size_t i = 0; i < w->j->n_ranks; i++) {
		const struct rec_rank_state *r = &w->j->ranks[i];

		*ret_running += strcmp(r->state, "running") == 0;
		if (strcmp(r->state, "exited") != 0 || r->code != 0)
			continue;
		(*ret_well)++;
		if (first == NULL || r->end_wall_ms < first->end_wall_ms)
			first = r;
	}
	return first;
}

/* Whether the others wait for it only the program knows. False: all run. */
static bool say_ended_well(struct words *w)
{
	size_t well, running;
	const struct rec_rank_state *r = ended_well(w, &well, &running);

	if (r == NULL || running == 0)
		return false;
	say(w, "It runs, and rank %u on %s has ended with code 0%s", r->rank, r->node != NULL ? r->node : "its node",
	    r->end_wall_ms != 0 ? arena_printf(w->a, " %s ago", span(w, w->in->wall_ms - r->end_wall_ms)) : "");
	if (well > 1)
		say(w, ", as %zu other%s", well - 1, well == 2 ? " has" : "s have");
	say(w, ", while %zu run%s on: if they wait for it, they wait in vain.", running, running == 1 ? "s" : "");
	todo(w, "nodectl logs %" PRIu64 " --rank %u", w->j->job, r->rank);
	return true;
}

static void say_running(struct words *w)
{
	const struct rec_job_progress *p = progress(w);
	const struct rec_nccl_sum *s = nccl(w);
	const struct explain_node *n = away(w);
	const struct rec_attention *bad = worst(w, "bad"), *warn = worst(w, "warn");
	uint32_t begun, left = unready(w, &begun);

	if (p != NULL && p->hang != NULL && n == NULL)
		say_hang(w, p);
	else if (s != NULL && s->trouble != NULL)
		say(w, "It runs, and NCCL has met trouble: %s%s", s->trouble, stop(s->trouble));
	else if (n != NULL)
		say(w, "It runs as far as is known: node %s has not been heard for %s. Its ranks are left alone, for they may well "
		       "go on.", n->name, span(w, (int64_t)n->silent_ms));
	else if (s != NULL && s->socket)
		say_slow(w, s);
	else if (bad != NULL)
		say(w, "It runs, on a node that is not well: %s: %s", bad->subject, bad->text);
	else if (s != NULL && left > 0)
		say(w, "It runs and begins: of %u communicators of NCCL %u are not ready yet%s%s%s.", begun, left, s->late != NULL ? "; " : "",
		    s->late != NULL ? s->late : "", s->late != NULL ? " has not come to it, the others wait" : "");
	else if (s != NULL && strchr(s->brief, '!') != NULL)
		say(w, "It runs, and its nodes differ: %s.", s->brief);
	else if (say_ended_well(w))
		;
	else if (warn != NULL)
		say(w, "It runs. One thing about its nodes: %s: %s", warn->subject, warn->text);
	else
		say(w, "It runs, and nothing is known to be wrong with it%s%s.", s != NULL ? ": " : "", s != NULL ? s->brief : "");
	todo(w, "nodectl logs %" PRIu64 " -f", w->j->job);
}

/* What is known of such an end; the words of the first rank, else those of the job. */
static void todo_end(struct words *w)
{
	const struct rec_rank_state *f = w->j->n_first > 0 ? w->j->first : NULL;
	const char *node = f != NULL && f->node != NULL ? f->node : nodes_text(w);
	const char *fix = f != NULL ? last_words_fix(w->a, f->exception, node) : NULL;

	if (fix == NULL && w->j->why != NULL) /* which may quote another rank, of another node */
		fix = last_words_fix(w->a, w->j->why, strstr(w->j->why, "; but rank ") != NULL ? nodes_text(w) : node);
	if (fix != NULL)
		todo(w, "%s", fix);
}

/* That the attempt it speaks of hung when it ended; NULL: it did not, or went on again. */
static const struct rec_past_hang *hung(const struct words *w)
{
	const struct rec_past_hang *p = w->j->n_past_hang > 0 ? w->j->past_hang : NULL;

	return p != NULL && p->attempt == w->j->attempt && !MSG_HAS(p, past_hang, over_wall_ms) ? p : NULL;
}

static void say_hung(struct words *w)
{
	const struct rec_past_hang *p = hung(w);

	if (p == NULL || (w->j->why != NULL && strstr(w->j->why, "it hung, and") != NULL))
		return; /* that is why it was ended */
	if (w->j->end_wall_ms > p->wall_ms)
		say(w, " It had hung for %s: %s.", span(w, w->j->end_wall_ms - p->wall_ms), p->text);
	else
		say(w, " It hung: %s.", p->text);
}

static void say_over(struct words *w)
{
	const struct rec_job_info *j = w->j;
	const struct rec_nccl_sum *s = nccl(w);

	if (is(w, "done")) {
		say(w, "It ended well.");
	} else {
		const char *text = why(w, "why is not known");

		say(w, "%s: %s%s", j->asked ? "It was ended" : is(w, "lost") ? "It was lost" : "It failed", text, stop(text));
		if (MSG_HAS(j, job_info, exit_code))
			say(w, " Its exit code is %u.", j->exit_code);
		say_hung(w);
		todo_end(w);
		if (j->start_wall_ms != 0 || j->n_attempts > 1) /* else nothing has run that could have said something */
			todo(w, "nodectl logs %" PRIu64, j->job);
	}
	if (s != NULL && s->trouble != NULL)
		say(w, " NCCL said before: %s%s", s->trouble, stop(s->trouble));
	else if (s != NULL && s->socket)
		say(w, " It ran over TCP and not over InfiniBand: %s.", s->why != NULL ? s->why : "why is not known");
}

static void say_state(struct words *w)
{
	if (is(w, "queued"))
		say_queued(w);
	else if (is(w, "preparing"))
		say_preparing(w);
	else if (is(w, "running"))
		say_running(w);
	else if (is(w, "ending"))
		say(w, "It is being ended: %s.", why(w, "why is not known")), say_hung(w);
	else if (is(w, "restarting"))
		say(w, "An attempt is over and another one follows: %s.", why(w, "its nodes are being made ready"));
	else if (is(w, "recovering"))
		say(w, "How it is with it is not known yet: the coordinator was restarted and waits for the word of its nodes. "
		       "Its ranks are not touched by that."), say_hung(w);
	else
		say_over(w);
}

/* ---- what was seen ------------------------------------------------------------------- */

static void saw_end(struct words *w)
{
	const struct rec_rank_state *f = w->j->first;
	const char *where;

	if (w->j->n_first == 0)
		return;
	where = f->node != NULL ? f->node : "its node";
	saw(w, f->at_us / 1000, arena_printf(w->a, "the shim on %s", where), "rank %u %s%s", f->rank, strcmp(f->state, "exited") == 0 ?
	    arena_printf(w->a, "exited with code %u", f->code) : strcmp(f->state, "killed") == 0 ?
	    arena_printf(w->a, "was killed by signal %u", f->sig) : f->state, f->maybe_first ? ", perhaps not as the first" : "");
	if (f->exception != NULL)
		saw(w, 0, "its output", "%s", f->exception);
	if (f->cause != NULL)
		saw(w, 0, arena_printf(w->a, "%s itself", where), "%s", f->cause);
	if (w->j->others != NULL)
		saw(w, 0, "the other shims", "%s", w->j->others);
	if (w->j->n_either > 0)
		unknown(w, "whether rank %u or rank %u was the first: the clocks of their nodes do not tell", f->rank,
			w->j->either[0].rank);
	if (f->exception == NULL && strcmp(f->state, "exited") == 0 && f->code != 0)
		unknown(w, "why rank %u ended so: no exception was found in its output", f->rank);
	if (!is(w, "done"))
		todo(w, "nodectl logs %" PRIu64 " --rank %u", w->j->job, f->rank);
}

/* The same of all nodes is one fact. */
static void saw_net(struct words *w)
{
	const struct rec_job_info *j = w->j;

	for (size_t i = 0; i < j->n_nccl_nodes; i++) {
		const struct rec_nccl_state *s = &j->nccl_nodes[i];
		size_t same = 0, before = 0;

		for (size_t k = 0; s->net != NULL && k < j->n_nccl_nodes; k++)
			if (j->nccl_nodes[k].net != NULL && strcmp(j->nccl_nodes[k].net, s->net) == 0) {
				before += k < i;
				same++;
			}
		if (s->unread != NULL)
			unknown(w, "what NCCL does: %s", s->unread);
		if (s->net == NULL || before > 0)
			continue;
		saw(w, s->net_wall_ms, arena_printf(w->a, "NCCL's log on %s%s", s->node, same > 1 ?
		    arena_printf(w->a, " and %zu other%s", same - 1, same > 2 ? "s" : "") : ""), "Using network %s", s->net);
	}
	for (size_t i = 0; i < j->n_nccl_nodes; i++)
		if (j->nccl_nodes[i].trouble != NULL && j->nccl_nodes[i].text != NULL)
			saw(w, j->nccl_nodes[i].trouble_wall_ms, arena_printf(w->a, "NCCL's log on %s", j->nccl_nodes[i].node),
			    "%s", j->nccl_nodes[i].text);
}

/* NCCL's own words on its trouble may be well known. */
static void todo_trouble(struct words *w)
{
	for (size_t i = 0; i < w->j->n_nccl_nodes; i++) {
		const struct rec_nccl_state *s = &w->j->nccl_nodes[i];
		const char *fix = s->trouble != NULL ? last_words_fix(w->a, s->text, s->node) : NULL;

		if (fix != NULL) {
			todo(w, "%s", fix);
			return;
		}
	}
}

static void saw_nccl(struct words *w)
{
	const struct rec_nccl_sum *s = nccl(w);

	saw_net(w);
	if (s == NULL) {
		if (is(w, "running") && w->e->n_unknown == 0)
			unknown(w, "which network NCCL uses: none of its processes has loaded NCCL, or its log cannot be seen");
		return;
	}
	if (w->j->n_nccl_nodes == 0)
		saw(w, s->wall_ms, "NCCL's log", "%s", s->brief);
	if (s->fix != NULL)
		todo(w, "%s", s->fix);
	todo_trouble(w);
	if (s->socket || s->trouble != NULL)
		todo(w, "nodectl check nccl -w %s%s", nodes_text(w), is(w, "running") ? ", when the job is over" : "");
}

/* What its processes do. */
static void saw_progress(struct words *w)
{
	const struct rec_job_progress *p = progress(w);

	if (p == NULL || !is(w, "running"))
		return;
	if (p->hang != NULL) {
		saw(w, MSG_HAS(p, job_progress, hang_wall_ms) ? p->hang_wall_ms : 0, "its processes", "%s", p->hang);
		if (p->threads != NULL)
			saw(w, 0, "its processes", "its threads: %s", p->threads);
	} else if (p->phase != NULL && p->note != NULL) {
		saw(w, 0, "its processes", "%s: %s", p->phase, p->note);
	}
}

/* The last hang of which nothing is seen any more: its processes are gone, or go on. */
static void saw_hung(struct words *w)
{
	const struct rec_past_hang *p = w->j->n_past_hang > 0 ? w->j->past_hang : NULL;
	const struct rec_job_progress *now = progress(w);

	if (p == NULL || (now != NULL && now->hang != NULL && is(w, "running")))
		return;
	saw(w, p->wall_ms, "its processes", "%sit hung: %s%s", p->attempt != w->j->attempt ?
	    arena_printf(w->a, "in attempt %u ", p->attempt) : "", p->text, MSG_HAS(p, past_hang, over_wall_ms) ?
	    arena_printf(w->a, "; it went on again after %s", span(w, p->over_wall_ms - p->wall_ms)) : "");
	if (p->threads != NULL)
		saw(w, 0, "its processes", "%s threads: %s", MSG_HAS(p, past_hang, rank) ? arena_printf(w->a, "rank %u's", p->rank) :
		    "that rank's", p->threads);
	if (p->counts != NULL)
		saw(w, p->counts_wall_ms, p->flight ? "PyTorch's flight recorder" : "NCCL's RAS", "%s", p->counts);
}

/* That RAS cannot be asked matters where there is NCCL, or something hangs: of a job without NCCL it is noise. */
static void saw_ras(struct words *w)
{
	const struct rec_ras_state *r = w->j->n_ras > 0 ? w->j->ras : NULL;
	const struct rec_job_progress *p = progress(w);
	bool matters = is(w, "running") && (nccl(w) != NULL || (p != NULL && p->hang != NULL));

	if (r != NULL && r->words != NULL && !(w->j->n_past_hang > 0 && w->j->past_hang->counts != NULL && !is(w, "running")))
		saw(w, r->wall_ms, r->flight ? "PyTorch's flight recorder" : "NCCL's RAS", "%s", r->words);
	else if (r != NULL && r->text != NULL && matters)
		unknown(w, "how far its ranks are by NCCL's RAS: %s", r->text);
}

static void saw_nodes(struct words *w)
{
	for (size_t i = 0; i < w->in->n_nodes; i++) {
		const struct explain_node *n = &w->in->nodes[i];

		for (size_t k = 0; k < n->n; k++) {
			saw(w, n->v[k].since_wall_ms, arena_printf(w->a, "readings of %s", n->name), "%s: %s", n->v[k].subject,
			    n->v[k].text);
			if (n->v[k].fix != NULL && strcmp(n->v[k].severity, "bad") == 0)
				todo(w, "%s", n->v[k].fix);
		}
		if (strcmp(n->state, "ok") != 0 && strcmp(n->state, "degraded") != 0)
			saw(w, 0, "the coordinator", "node %s is %s, last heard %s ago", n->name, n->state,
			    span(w, (int64_t)n->silent_ms));
		if (!n->ever_read)
			unknown(w, "how GPUs and ports of %s are: there are no readings", n->name);
	}
}

static void saw_attempt(struct words *w, const struct rec_attempt_info *x)
{
	const char *why = x->why != NULL && x->why[0] != '\0' ? x->why : NULL;

	if (why == NULL && MSG_HAS(x, attempt_info, exit_code) && x->exit_code != 0)
		why = arena_printf(w->a, "it ended with code %u", x->exit_code);
	saw(w, x->end_wall_ms, "the coordinator", "attempt %u: %s", x->attempt, why != NULL ? why : "it ended well");
}

static void saw_rest(struct words *w)
{
	for (size_t i = 0; i < w->j->n_notices; i++)
		saw(w, 0, "its notices", "%s", w->j->notices[i]);
	for (size_t i = 0; i < w->j->n_attempts; i++)
		saw_attempt(w, &w->j->attempts[i]);
}

struct rec_explanation *explain(struct arena *a, const struct explain_in *in)
{
	struct words w = { .a = a, .in = in, .j = in->job };
	struct rec_explanation *e = arena_alloc(a, sizeof(*e));

	if (e == NULL)
		return NULL;
	w.e = e;
	e->seen = arena_alloc(a, SEEN_MAX * sizeof(*e->seen));
	e->unknown = arena_alloc(a, LIST_MAX * sizeof(*e->unknown));
	e->todo = arena_alloc(a, LIST_MAX * sizeof(*e->todo));
	if (e->seen == NULL || e->unknown == NULL || e->todo == NULL)
		return NULL;
	say_state(&w);
	saw_end(&w);
	saw_progress(&w);
	saw_hung(&w);
	saw_nccl(&w);
	saw_ras(&w);
	saw_nodes(&w);
	saw_rest(&w);
	e->verdict = arena_strdup(a, utf8_scrub(w.text));
	return e->verdict != NULL ? e : NULL;
}
