/* coord_why.c - the end of a job in words: who was first, why, and how the others ended */
#include "core/coord_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/last_line.h"
#include "common/utf8.h"
#include "core/last_words.h"

#define GROUPS 4 /* ways to end that are told apart; all others are counted */
#define OPEN_US 60000000 /* what the clocks leave open is a number only below it */

/* "0.3 ms", "4.1 s" */
static void say_span(int64_t us, char *out, size_t size)
{
	if (us < 100000)
		snprintf(out, size, "%.1f ms", (double)us / 1000);
	else
		snprintf(out, size, "%.1f s", (double)us / 1e6);
}

static void add(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void add(char *out, size_t size, const char *fmt, ...)
{
	size_t n = strlen(out);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + n, size - n, fmt, ap);
	va_end(ap);
}

static const char *node_of(const struct job *j, uint32_t i)
{
	return j->places[i / j->ppn].node->name;
}

/* What its host knows, what happened near it, and what it said itself. */
static void add_causes(const struct rank *r, char *out, size_t size)
{
	if (r->cause != NULL)
		add(out, size, ": %s", r->cause);
	if (r->found != NULL)
		add(out, size, "%s %s", r->cause != NULL ? ";" : ":", r->found);
	below_say_exception(&r->below, out, size);
}

/* Of an end of its own making about which nothing better is known: what it wrote last. A launcher's last words are of its workers. */
static void add_last_words(const struct rank *r, char *out, size_t size)
{
	bool own = r->state == RK_EXITED ? r->code != 0 : r->state == RK_KILLED && last_words_signal(r->sig) != NULL;
	char line[LAST_LINE_SIZE];

	if (!own || r->ours || r->cause != NULL || r->below.exception != NULL || r->below.n_workers > 0)
		return;
	last_line((const char *)r->tail.p, r->tail.n, line);
	if (line[0] != '\0')
		add(out, size, "; its last line: \"%s\"", line);
}

static void say_code(const struct rank *r, char *out, size_t size)
{
	char shell[80];

	add(out, size, " exited with code %u", r->code);
	if (r->below.n_workers == 0 && last_words_code(r->code, shell, sizeof(shell)))
		add(out, size, " (%s)", shell);
}

static void say_signal(const struct rank *r, char *out, size_t size)
{
	const char *name = last_words_signal(r->sig);

	add(out, size, " was killed by signal %u", r->sig);
	if (name != NULL)
		add(out, size, " (%s)", name);
	if (r->core)
		add(out, size, " and dumped core");
}

/* "rank 3 (gpu02, GPU 1, pid 4711) exited with code 7" */
void cause_say(const struct job *j, uint32_t i, char *out, size_t size)
{
	const struct rank *r = &j->ranks[i];
	const char *node = node_of(j, i);
	char gpu[24] = "";

	if (r->has_gpu)
		snprintf(gpu, sizeof(gpu), ", GPU %u", r->gpu);
	if (below_say(&r->below, node, gpu, out, size)) {
		add_causes(r, out, size);
		return;
	}
	switch (r->state) {
	case RK_KILLED:
		snprintf(out, size, "rank %u (%s%s, pid %u)", i, node, gpu, r->pid);
		say_signal(r, out, size);
		break;
	case RK_FAILED:
		snprintf(out, size, "rank %u (%s) could not start: %s", i, node,
			 r->text != NULL ? r->text : "unknown reason");
		break;
	case RK_LOST:
		snprintf(out, size, "rank %u (%s) was lost: %s", i, node,
			 r->text != NULL ? r->text : "its node is gone");
		if (r->below.status_unknown)
			add(out, size, "; exit status unknown");
		break;
	default:
		snprintf(out, size, "rank %u (%s%s, pid %u)", i, node, gpu, r->pid);
		say_code(r, out, size);
	}
	add_causes(r, out, size);
	add_last_words(r, out, size);
}

/* ---- who else may have been first --------------------------------------------------- */

static void add_either(const struct job *j, char *out, size_t size)
{
	const struct rank *first = &j->ranks[j->first];
	char text[300], span[32];
	uint32_t n = 0, one = 0;
	int64_t open = 0;

	for (uint32_t i = 0; i < j->n_ranks; i++) {
		const struct rank *r = &j->ranks[i];

		if (!r->maybe_first)
			continue;
		if (n++ == 0)
			one = i;
		if (first->hi_us - r->lo_us > open)
			open = first->hi_us - r->lo_us;
	}
	if (n == 0)
		return;
	cause_say(j, one, text, sizeof(text));
	say_span(open, span, sizeof(span));
	add(out, size, "; may have been first as well%s%s%s: %s", open < OPEN_US ? ", for the clocks leave " : "", open < OPEN_US ? span : "",
	    open < OPEN_US ? " open" : "", text);
	if (n > 1)
		add(out, size, "; and %u other%s", n - 1, n == 2 ? "" : "s");
}

/* The first has lost its peers, or waited for them in vain: one of them may have raised long before, and not ended. */
static void add_spoken(const struct job *j, char *out, size_t size)
{
	const char *said = j->ranks[j->first].below.exception;

	if (said == NULL || !last_words_of_peer(said))
		return;
	for (uint32_t i = 0; i < j->n_ranks; i++) {
		const struct rank *r = &j->ranks[i];

		if ((int64_t)i == j->first || !rank_bad(r) || r->maybe_first || r->below.exception == NULL || last_words_of_peer(r->below.exception))
			continue;
		add(out, size, "; but rank %u (%s, pid %u) %s: %s", i, node_of(j, i), r->pid,
		    r->ours ? "had raised before and did not end, so the others waited for it" : "has lost no peer, and may be what they waited for",
		    r->below.exception);
		return;
	}
}

void why_of_first(const struct job *j, char *out, size_t size)
{
	cause_say(j, (uint32_t)j->first, out, size);
	add_either(j, out, size);
	add_spoken(j, out, size);
	utf8_scrub(out);
}

/* ---- the others ------------------------------------------------------------------------ */

struct group {
	enum how { BY_TERM, BY_KILL, ON_SIGNAL, EXITED, KILLED, FAILED, LOST, WELL } how;
	uint32_t number; /* code or signal */
	uint32_t n;
	int64_t after_us; /* the first one, after the job's first; negative: not known */
};

static enum how how_of(const struct rank *r, uint32_t *number)
{
	*number = 0;
	if (r->ours && r->state == RK_KILLED)
		return r->sig == 9 ? BY_KILL : BY_TERM;
	if (r->ours)
		return ON_SIGNAL;
	*number = r->state == RK_KILLED ? r->sig : r->code;
	if (r->state == RK_EXITED)
		return r->code == 0 ? WELL : EXITED;
	return r->state == RK_KILLED ? KILLED : r->state == RK_LOST ? LOST : FAILED;
}

static int64_t after(const struct rank *r, const struct rank *first)
{
	if (!r->timed || !first->timed)
		return -1;
	return (r->lo_us + r->hi_us) / 2 - (first->lo_us + first->hi_us) / 2;
}

/* False: it is one way too many. */
static bool count(struct group *v, size_t *n, const struct rank *r, const struct rank *first)
{
	int64_t us = after(r, first);
	uint32_t number;
	enum how how = how_of(r, &number);
	size_t i;

	for (i = 0; i < *n; i++)
		if (v[i].how == how && v[i].number == number)
			break;
	if (i == GROUPS)
		return false;
	if (i == *n)
		v[(*n)++] = (struct group){ .how = how, .number = number, .after_us = us };
	v[i].n++;
	if (us >= 0 && (v[i].after_us < 0 || us < v[i].after_us))
		v[i].after_us = us;
	return true;
}

static void add_group(const struct group *g, char *out, size_t size)
{
	char span[32];

	switch (g->how) {
	case BY_TERM:
		add(out, size, "%u by our SIGTERM", g->n);
		break;
	case BY_KILL:
		add(out, size, "%u by our SIGKILL", g->n);
		break;
	case ON_SIGNAL:
		add(out, size, "%u ended on our SIGTERM", g->n);
		break;
	case EXITED:
		add(out, size, "%u exited with code %u", g->n, g->number);
		break;
	case KILLED:
		add(out, size, "%u killed by signal %u", g->n, g->number);
		break;
	case FAILED:
		add(out, size, "%u could not start", g->n);
		break;
	case LOST:
		add(out, size, "%u lost with %s node", g->n, g->n == 1 ? "its" : "their");
		return;
	case WELL:
		add(out, size, "%u ended well", g->n);
		return;
	}
	if (g->after_us < 0)
		return;
	say_span(g->after_us, span, sizeof(span));
	add(out, size, " %s%s later", g->n == 1 ? "" : "from ", span);
}

const char *why_others(struct arena *a, const struct job *j)
{
	struct group v[GROUPS] = { { .n = 0 } };
	uint32_t all = 0, more = 0;
	char text[512];
	size_t n = 0;

	for (uint32_t i = 0; j->first >= 0 && i < j->n_ranks; i++) {
		if ((int64_t)i == j->first || !rank_is_over(&j->ranks[i]) || j->ranks[i].maybe_first)
			continue;
		all++;
		more += !count(v, &n, &j->ranks[i], &j->ranks[j->first]);
	}
	if (all == 0)
		return NULL;
	snprintf(text, sizeof(text), "%u other rank%s (collateral): ", all, all == 1 ? "" : "s");
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			add(text, sizeof(text), ", ");
		add_group(&v[i], text, sizeof(text));
	}
	if (more > 0)
		add(text, sizeof(text), ", %u in other ways", more);
	return arena_strdup(a, text);
}
