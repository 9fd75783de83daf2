/* coord_policy.c - nodes that are left out by themselves, where the administrator has said so
 *
 *   unfit       cordon_on = bad: while there is a verdict "bad" on it, and for
 *               cordon_lift after it has gone. Not for its clock: that misleads people only, nor for a
 *               subnet manager that is down: that is the fabric's trouble, and the host is well
 *   quarantined quarantine_after = N: N different jobs failed by what ended on it first
 *               within quarantine_within, until an administrator's 'resume'. Of those that a
 *               user can bring about one of each user counts
 *
 * Both are stored. Nobody is left out by these when that would leave fewer than
 * half of the nodes that are there: then it is a fault of all, and told as an event.
 * 'resume' holds as long as the verdict that was there at that time.
 *
 * Not promised: that it was the node. Programs of several users may fail here that
 * fail wherever they run; so the default is to leave nobody out.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define JOBS_NAMED 16u

void policy_free(struct node *n)
{
	free(n->unfit);
	free(n->held);
	n->unfit = n->held = NULL;
}

/* Would at least half of the nodes that are there get jobs without this one? */
static bool enough_are_left(const struct coord *c)
{
	size_t here = 0, out = 0;

	for (size_t i = 0; i < c->n_nodes; i++) {
		const struct node *n = c->nodes[i];

		if (n->link == NULL || n->silent || n->quarantined)
			continue;
		here++;
		out += node_cordoned(n);
	}
	return 2 * (out + 1) <= here;
}

static void tell(struct coord *c, const struct node *n, const char *kind, const char *severity, const char *what,
		 const char *why)
{
	events_add(c, &(struct event_in){ .kind = kind, .severity = severity, .node = n->name }, "%s%s%s", what,
		   *why != '\0' ? ": " : "", why);
	act_log(c->out, 0, "node %s: %s%s%s", n->name, what, *why != '\0' ? ": " : "", why);
}

static void save(struct coord *c, struct node *n)
{
	struct pending *pd;

	if (n->removed)
		return;
	persist_node(c, coord_persist(c, &pd), n);
	c->have_dirty = true; /* who waits may go there now, or must hear why not */
}

/* ---- unfit --------------------------------------------------------------------- */

static const struct rec_attention *worst(const struct verdicts *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (strcmp(v->v[i].severity, "bad") == 0 && strcmp(v->kind[i].is, "clock") != 0 &&
		    strcmp(v->kind[i].is, "subnet manager down") != 0)
			return &v->v[i];
	return NULL;
}

static void leave_out(struct coord *c, struct node *n, const char *why)
{
	if (!c->conf.cordon_on_bad) {
		if (!n->told_would)
			tell(c, n, "cordon.off", "info", "would get no new jobs with cordon_on = bad", why);
		n->told_would = true;
		return;
	}
	if (!enough_are_left(c)) {
		if (!n->told_would)
			tell(c, n, "cordon.not", "bad", "still gets jobs, for fewer than half of the nodes would be left", why);
		n->told_would = true;
		return;
	}
	n->unfit = coord_strdup(c, why);
	n->unfit_wall_ms = c->wall_ms;
	n->fit_since = MONO_NEVER;
	tell(c, n, "cordon", "warn", "no new jobs", why);
	save(c, n);
}

static void take_in(struct coord *c, struct node *n)
{
	if (mono_is_never(n->fit_since))
		n->fit_since = c->now;
	if (!mono_due(mono_add_ms(n->fit_since, c->conf.cordon_lift_ms), c->now))
		return; /* readings come every 10 s: then again */
	free(n->unfit);
	n->unfit = NULL;
	tell(c, n, "uncordon", "info", "what was wrong is over: new jobs may start there", "");
	save(c, n);
}

/* v: what its readings say, without what is said of cordons. Away, it is as it was. */
void policy_on_verdicts(struct coord *c, struct node *n, const struct verdicts *v)
{
	const struct rec_attention *x = worst(v);
	char why[300];

	if (n->removed || node_readings(n) == NULL)
		return;
	if (x == NULL) {
		n->told_would = false;
		if (n->excused) {
			n->excused = false;
			save(c, n);
		}
		if (n->unfit != NULL)
			take_in(c, n);
		return;
	}
	n->fit_since = MONO_NEVER;
	if (n->unfit != NULL || n->excused)
		return;
	snprintf(why, sizeof(why), "%.100s: %.180s", x->subject, x->brief != NULL ? x->brief : x->text);
	leave_out(c, n, utf8_scrub(why));
}

/* ---- quarantine ------------------------------------------------------------------- */

static void say_jobs(char *out, size_t size, const uint64_t *v, size_t n, uint32_t within_ms)
{
	size_t len = (size_t)snprintf(out, size, "%zu job%s failed there within %u min (", n, n == 1 ? "" : "s",
				      within_ms / 60000);

	for (size_t i = n; i-- > 0;)
		len += (size_t)snprintf(out + len, size - len, "%llu%s", (unsigned long long)v[i], i > 0 ? ", " : ")");
}

void policy_on_failure(struct coord *c, const char *node)
{
	struct node *n = node_find(c, node);
	uint64_t jobs[JOBS_NAMED];
	char why[500];
	size_t k;

	if (c->conf.quarantine_after == 0 || n == NULL || n->held != NULL)
		return;
	k = events_failures(c, node, c->wall_ms - c->conf.quarantine_ms, jobs, c->conf.quarantine_after);
	if (k < c->conf.quarantine_after)
		return;
	say_jobs(why, sizeof(why), jobs, k, c->conf.quarantine_ms);
	if (!enough_are_left(c)) {
		tell(c, n, "quarantine.not", "bad", "still gets jobs, for fewer than half of the nodes would be left", why);
		return;
	}
	n->held = coord_strdup(c, why);
	n->held_wall_ms = c->wall_ms;
	tell(c, n, "quarantine", "bad", "no new jobs until 'nodectl resume'", why);
	save(c, n);
}

/* An administrator's word: what is wrong with it now is no reason any more. Saved by the caller. */
void policy_resume(struct node *n)
{
	n->excused = n->unfit != NULL;
	policy_free(n);
}

const char *policy_why(struct arena *a, const struct node *n)
{
	if (n->held != NULL)
		return arena_printf(a, "it is quarantined: %s", n->held);
	return n->unfit != NULL ? arena_printf(a, "it is unfit for jobs: %s", n->unfit) : NULL;
}
