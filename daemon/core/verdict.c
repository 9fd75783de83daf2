/* verdict.c - runs the checks over a node's readings; what warns or is bad is its attention
 *
 * See verdict.h; the checks are in check.c and its neighbours. */
#include "core/verdict.h"

#include <stdio.h>
#include <string.h>

#include "core/check.h"

/* A device may have 64 bytes as a node may, a subject 128. */
static const char *port_name(struct arena *a, const struct rec_port *p)
{
	return p->port == 1 ? arena_printf(a, "%.50s", p->device)
			    : arena_printf(a, "%.50s/%u", p->device, p->port);
}

/* What a source is called is no part of whom the trouble befalls. */
static void tell(struct arena *a, const struct check_at *at, const struct check_is *is, struct verdicts *out)
{
	const char *what = at->check->scope == OF_SOURCE ? NULL : at->what;
	const char *subject = what != NULL ? arena_printf(a, "%s %s", at->in->node, what) : at->in->node;
	const char *brief = is->brief;

	if (brief == NULL)
		brief = what != NULL ? arena_printf(a, "%s %s", what, is->is) : is->is;
	if (out->n == VERDICTS_MAX || subject == NULL || is->text == NULL)
		return;
	out->kind[out->n] = (struct verdict_kind){ at->check->noun, is->is, at->check->id };
	out->v[out->n++] = (struct rec_attention){ .severity = is->verdict == CHECK_BAD ? "bad" : "warn",
						   .subject = subject, .text = is->text, .fix = is->fix, .brief = brief };
}

/* When its state changed, by the coordinator's clock; its own may be wrong. */
static void add_since(const struct check_at *at, struct verdicts *out, size_t i)
{
	const struct verdict_in *in = at->in;
	const struct rec_port *p = at->port;
	int64_t ahead_ms = in->has_skew && !in->is_ref ? in->skew_us / 1000 : 0, since;

	if (p != NULL && at->check->judge == check_port_state && i < out->n && p->state != NULL &&
	    MSG_HAS(p, port, since_wall_ms) && !__builtin_sub_overflow(p->since_wall_ms, ahead_ms, &since))
		MSG_SET(&out->v[i], attention, since_wall_ms, since);
}

/* silent: its source's own line says all. */
static void run(const struct check_at *at, bool silent, struct verdicts *out)
{
	struct check_is is = { .verdict = CHECK_UNKNOWN };
	struct check_found f = { .check = at->check, .id = at->check->id, .what = at->what };
	size_t before = out->n;

	at->check->judge(at, &is);
	if (is.verdict == CHECK_SKIP)
		return;
	if (silent && is.verdict != CHECK_UNKNOWN) {
		is = (struct check_is){ .verdict = CHECK_UNKNOWN, .reading = "its source does not answer" };
	} else if (!is.untold && (is.verdict == CHECK_WARN || is.verdict == CHECK_BAD)) {
		tell(at->a, at, &is, out);
		add_since(at, out, before);
	}
	f.is = is;
	if (at->in->rows != NULL)
		checks_add(at->a, at->in->rows, &f);
}

static void run_all(struct check_at *at, enum check_scope scope, bool silent, struct verdicts *out)
{
	for (const struct check *c = check_table; c->id != NULL; c++) {
		at->check = c;
		if (c->scope == scope)
			run(at, silent, out);
	}
}

void verdict_node(struct arena *a, const struct verdict_in *in, struct verdicts *out)
{
	const struct rec_readings *r = in->readings;
	struct check_at at = { .a = a, .in = in, .r = r, .host = r != NULL && r->n_host ? r->host : NULL };
	bool no_ports = r != NULL && verdict_is_out(r, "verbs", "sysfs"), no_gpus = r != NULL && verdict_is_out(r, "nvml", "nvml");

	out->n = 0;
	run_all(&at, OF_NODE, false, out);
	for (size_t i = 0; r != NULL && i < r->n_sources; i++) {
		at.source = &r->sources[i];
		at.what = r->sources[i].name;
		run_all(&at, OF_SOURCE, false, out);
	}
	for (size_t i = 0; r != NULL && i < r->n_ports; i++) {
		at.port = &r->ports[i];
		at.what = port_name(a, at.port);
		run_all(&at, OF_PORT, no_ports, out);
	}
	at.port = NULL;
	for (size_t i = 0; r != NULL && i < r->n_gpus; i++) {
		at.gpu = &r->gpus[i];
		at.what = arena_printf(a, "GPU %u", at.gpu->index);
		run_all(&at, OF_GPU, no_gpus, out);
	}
}

/* ---- ports and sources ----------------------------------------------------------------- */

void verdict_count_ports(const struct rec_readings *r, uint32_t *ret_all, uint32_t *ret_active)
{
	*ret_all = *ret_active = 0;
	for (size_t i = 0; i < r->n_ports; i++) {
		*ret_all += !r->ports[i].excluded;
		*ret_active += !r->ports[i].excluded && check_is_active(&r->ports[i]);
	}
}

bool verdict_ports_known(const struct rec_readings *r)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if ((strcmp(r->sources[i].name, "verbs") == 0 || strcmp(r->sources[i].name, "sysfs") == 0) && r->sources[i].ok)
			return true;
	return false;
}

bool verdict_is_absent(const struct rec_readings *r)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if ((strcmp(r->sources[i].name, "verbs") == 0 || strcmp(r->sources[i].name, "sysfs") == 0) && r->sources[i].absent)
			return true;
	return false;
}

/* There are lines of these sources, and none is ok. */
bool verdict_is_out(const struct rec_readings *r, const char *name, const char *or_name)
{
	bool there = false;

	for (size_t i = 0; i < r->n_sources; i++) {
		const struct rec_source *s = &r->sources[i];

		if (strcmp(s->name, name) != 0 && strcmp(s->name, or_name) != 0)
			continue;
		if (s->ok)
			return false;
		there = true;
	}
	return there;
}

bool verdict_is_unread(const struct rec_readings *r, const char *name, const char *or_name)
{
	if (!verdict_is_out(r, name, or_name))
		return false;
	for (size_t i = 0; i < r->n_sources; i++) {
		const struct rec_source *s = &r->sources[i];

		if (!s->absent && (strcmp(s->name, name) == 0 || strcmp(s->name, or_name) == 0))
			return true;
	}
	return false;
}

/* ---- in a few words ---------------------------------------------------------------------- */

static bool same_kind(const struct verdicts *v, size_t i, size_t k)
{
	return v->kind[i].noun != NULL && v->kind[k].noun != NULL &&
	       strcmp(v->kind[i].noun, v->kind[k].noun) == 0 && strcmp(v->kind[i].is, v->kind[k].is) == 0;
}

static const char *worst_brief(struct arena *a, const struct verdicts *v, int64_t *ret_since_wall_ms)
{
	size_t worst = 0, count = 0;
	int64_t since = 0;

	while (worst < v->n && strcmp(v->v[worst].severity, "bad") != 0)
		worst++;
	if (worst == v->n)
		worst = 0;
	for (size_t i = worst; i < v->n; i++) {
		const struct rec_attention *x = &v->v[i];

		if (i != worst && !same_kind(v, worst, i))
			continue;
		count++;
		if (MSG_HAS(x, attention, since_wall_ms) && (since == 0 || x->since_wall_ms < since))
			since = x->since_wall_ms;
	}
	*ret_since_wall_ms = since;
	if (count < 2)
		return v->n > 0 ? v->v[worst].brief : NULL;
	return arena_printf(a, "%zu %ss %s", count, v->kind[worst].noun, v->kind[worst].is);
}

/* A bad verdict does not hide that the node gets no jobs by somebody's word. */
const char *verdict_brief(struct arena *a, const struct verdicts *v, int64_t *ret_since_wall_ms)
{
	const char *text = worst_brief(a, v, ret_since_wall_ms);
	bool drained = v->n > 0 && v->kind[0].is != NULL && strcmp(v->kind[0].is, "drained") == 0;

	return text == NULL || !drained || text == v->v[0].brief ? text : arena_printf(a, "drained; %s", text);
}

bool verdict_bad(const struct verdicts *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (strcmp(v->v[i].severity, "bad") == 0)
			return true;
	return false;
}
