/* cmd_check.c - nodectl check [ID]: what the checks of all nodes have found, and what they are
 *
 * The coordinator judges; equal findings of many nodes are put together here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/render.h"
#include "client/sentence.h"
#include "client/term.h"
#include "common/hostlist.h"

enum { HOSTS = 1, EXPLAIN, VERBOSE };

static const struct opt opts[] = {
	{ HOSTS, 'w', "hosts", "HOSTLIST", "of these nodes only: gpu[01-04,07]" },
	{ EXPLAIN, 0, "explain", NULL, "what the check reads, its threshold and who says so, the remedy" },
	{ VERBOSE, 'v', "verbose", NULL, "all checks, not only what is bad or warns; with an ID that is so anyway" },
	{ 0 },
};

struct wish {
	const char *id, *hosts;
	bool explain, verbose;
};

/* ---- in JSON ------------------------------------------------------------------------ */

static void json_row(struct out *o, const struct rec_check_row *r)
{
	out_start(o, NULL, OUT_ROW);
	out_str(o, "id", NULL, r->id);
	out_str(o, "node", NULL, r->node);
	out_str(o, "what", NULL, r->what);
	out_str(o, "verdict", NULL, r->verdict);
	out_str(o, "reading", NULL, r->reading);
	out_str(o, "text", NULL, r->text);
	out_str(o, "fix", NULL, r->fix);
	if (MSG_HAS(r, check_row, since_wall_ms))
		out_int(o, "since_ms", NULL, r->since_wall_ms);
	else
		out_null(o, "since_ms");
	out_end(o);
}

static void json_about(struct out *o, const struct rec_check_about *a)
{
	out_start(o, NULL, OUT_ROW);
	out_str(o, "id", NULL, a->id);
	out_str(o, "title", NULL, a->title);
	out_str(o, "reads", NULL, a->reads);
	out_str(o, "threshold", NULL, a->threshold);
	out_str(o, "source", NULL, a->source);
	out_str(o, "remedy", NULL, a->remedy);
	out_end(o);
}

static void json(struct out *o, const struct wish *w, const struct rec_checks *k)
{
	out_start(o, w->explain ? "about" : "checks", OUT_TABLE);
	for (size_t i = 0; i < k->n_about && w->explain; i++)
		json_about(o, &k->about[i]);
	for (size_t i = 0; i < k->n_rows && !w->explain; i++)
		json_row(o, &k->rows[i]);
	out_end(o);
	if (w->explain)
		return;
	out_uint(o, "nodes", NULL, k->nodes);
	out_uint(o, "ok", NULL, k->ok);
	out_uint(o, "warn", NULL, k->warn);
	out_uint(o, "bad", NULL, k->bad);
	out_uint(o, "unknown", NULL, k->unknown);
	out_uint(o, "unread", NULL, k->unread);
}

/* ---- for people ---------------------------------------------------------------------- */

static int grade(const struct rec_check_row *r)
{
	return strcmp(r->verdict, "bad") == 0 ? 0 : strcmp(r->verdict, "warn") == 0 ? 1 : strcmp(r->verdict, "unknown") == 0 ? 2 : 3;
}

static int worse(const void *pa, const void *pb)
{
	const struct rec_check_row *a = pa, *b = pb;
	int c = grade(a) - grade(b);

	if (c == 0)
		c = strcmp(a->id, b->id);
	if (c == 0)
		c = node_name_cmp(a->node, b->node);
	return c != 0 ? c : node_name_cmp(a->what != NULL ? a->what : "", b->what != NULL ? b->what : "");
}

static bool same_text(const char *a, const char *b)
{
	return (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
}

struct findings {
	const struct rec_check_row *rows;
	const char **fixes; /* of each its remedy without the node's name; NULL: no memory, then as they are */
	bool *shown;
	size_t n;
};

static bool same_fix(const struct findings *f, size_t a, size_t b)
{
	if (f->fixes == NULL || f->rows[a].fix == NULL || f->rows[b].fix == NULL)
		return same_text(f->rows[a].fix, f->rows[b].fix);
	return strcmp(f->fixes[a], f->fixes[b]) == 0;
}

/* Of several nodes, ports or GPUs, and else alike? A remedy may have the node's or the port's name in it. */
static bool alike(const struct findings *f, size_t i, size_t k)
{
	const struct rec_check_row *a = &f->rows[i], *b = &f->rows[k];

	return strcmp(a->id, b->id) == 0 && strcmp(a->verdict, b->verdict) == 0 && same_text(a->text, b->text) &&
	       (same_fix(f, i, k) || !same_text(a->what, b->what)) && (a->text != NULL || same_text(a->reading, b->reading));
}

static const char *noun_of(const char *id)
{
	return strncmp(id, "ib.", 3) == 0 ? " ports" : strncmp(id, "gpu.", 4) == 0 ? " GPUs" : "";
}

/* Rows that are equal, and become one. */
struct equals {
	char *nodes; /* "gpu[01-04]", or NULL: no memory */
	size_t count;
	bool one_thing; /* the same port or GPU of each */
	bool by_name; /* their remedies differ by the node's name only */
};

/* Those equal to row i; they are marked as shown. */
static void find_equals(const struct findings *f, size_t i, struct equals *ret)
{
	const struct rec_check_row *first = &f->rows[i];
	const char **names = calloc(f->n - i, sizeof(*names));
	bool equal_fixes = true, one_fix = true;
	size_t k = 0;

	*ret = (struct equals){ .one_thing = true };
	for (size_t m = i; names != NULL && m < f->n; m++) {
		const struct rec_check_row *r = &f->rows[m];

		if (strcmp(r->id, first->id) != 0 || grade(r) != grade(first))
			break;
		if (f->shown[m] || !alike(f, i, m))
			continue;
		if (k == 0 || strcmp(names[k - 1], r->node) != 0)
			names[k++] = r->node;
		ret->one_thing = ret->one_thing && same_text(first->what, r->what);
		equal_fixes = equal_fixes && same_text(first->fix, r->fix);
		one_fix = one_fix && same_fix(f, i, m);
		ret->count++;
		f->shown[m] = true;
	}
	ret->by_name = one_fix && !equal_fixes;
	ret->nodes = names != NULL ? hostlist_format(names, k) : NULL;
	free(names);
}

/* "gpu[01-04] mlx5_2", "gpu[01-04] 32 ports": where equal rows are from. */
static void add_where(struct buf *b, const struct rec_check_row *r, const struct equals *e)
{
	buf_adds(b, e->nodes != NULL ? e->nodes : "?");
	if (!e->one_thing && *noun_of(r->id) != '\0')
		buf_addf(b, " %zu%s", e->count, noun_of(r->id));
	else if (!e->one_thing)
		buf_addf(b, " (%zu)", e->count);
	else if (r->what != NULL)
		buf_addf(b, " %s", r->what);
}

static void add_row(struct out *o, const struct rec_check_row *r, const char *nodes)
{
	static const char *const words[] = { "BAD", "WARN", "unknown", "ok" };
	static const enum out_tone tones[] = { OUT_BAD, OUT_WARN, OUT_DIM, OUT_GOOD };
	int g = grade(r);

	out_start(o, NULL, OUT_ROW);
	out_cell(o, "VERDICT", 0, tones[g], "%s", words[g]);
	out_cell(o, "CHECK", 0, OUT_PLAIN, "%s", r->id);
	out_cell(o, "WHERE", OUT_SHRINK, OUT_PLAIN, "%s", nodes);
	if (r->fix != NULL)
		out_cell(o, "", OUT_WRAP, OUT_PLAIN, "%s  fix: %s", r->text != NULL ? r->text : "", r->fix);
	else
		out_cell(o, "", OUT_WRAP, OUT_PLAIN, "%s", r->text != NULL ? r->text : r->reading != NULL ? r->reading : "");
	out_end(o);
}

#define ROWS_OF_A_CHECK 4 /* that differ; of a room that is too hot each GPU has a temperature of its own */

static bool same_check(const struct rec_check_row *a, const struct rec_check_row *b)
{
	return strcmp(a->id, b->id) == 0 && strcmp(a->verdict, b->verdict) == 0;
}

/* How many findings of row i's check are not shown yet, from i on; their nodes. */
static size_t count_rest(const struct rec_check_row *rows, size_t n, size_t i, const bool *shown, const char **names, size_t *ret_names)
{
	size_t rest = 0;

	*ret_names = 0;
	for (size_t m = i; m < n && same_check(&rows[m], &rows[i]); m++) {
		if (shown[m])
			continue;
		rest++;
		if (*ret_names == 0 || strcmp(names[*ret_names - 1], rows[m].node) != 0)
			names[(*ret_names)++] = rows[m].node;
	}
	return rest;
}

/* "and 37 more like these: nodectl check gpu.temp". True: they are marked as shown. */
static bool add_rest(struct out *o, const struct rec_check_row *rows, size_t n, size_t i, bool *shown)
{
	const char **names = calloc(n - i + 1, sizeof(*names));
	size_t k, rest = names != NULL ? count_rest(rows, n, i, shown, names, &k) : 0;
	char *where = rest > 1 ? hostlist_format(names, k) : NULL;
	struct rec_check_row r = rows[i];
	struct buf b;

	free(names);
	if (where == NULL)
		return false;
	buf_init(&b);
	buf_addf(&b, "and %zu more like these: nodectl check %s", rest, r.id);
	r.text = buf_str(&b);
	r.fix = NULL;
	add_row(o, &r, where);
	for (size_t m = i; m < n && same_check(&rows[m], &rows[i]); m++)
		shown[m] = true;
	buf_finish(&b);
	free(where);
	return true;
}

/* Row i and those equal to it. */
static void add_equals(struct out *o, const struct findings *f, size_t i, bool all)
{
	struct rec_check_row r = f->rows[i];
	struct buf where, fix;
	struct equals e;

	find_equals(f, i, &e);
	if (all || grade(&r) < 2) {
		buf_init(&where);
		buf_init(&fix);
		add_where(&where, &r, &e);
		if (e.by_name && e.nodes != NULL) {
			sentence_fill(&fix, f->fixes[i], e.nodes);
			r.fix = buf_str(&fix);
		}
		add_row(o, &r, buf_str(&where));
		buf_finish(&fix);
		buf_finish(&where);
	}
	free(e.nodes);
}

/* Unknown ones are counted, and shown when asked for: a host without GPUs has many. */
static void add_rows(struct out *o, const struct findings *f, bool all)
{
	size_t of_check = 0, last = 0;

	for (size_t i = 0; i < f->n; i++) {
		const struct rec_check_row *r = &f->rows[i];

		if (f->shown[i])
			continue;
		of_check = i > 0 && same_check(&f->rows[last], r) ? of_check + 1 : 0;
		last = i;
		if (!all && grade(r) < 2 && of_check >= ROWS_OF_A_CHECK && add_rest(o, f->rows, f->n, i, f->shown))
			continue;
		add_equals(o, f, i, all);
	}
}

static void table(struct out *o, const struct wish *w, struct rec_check_row *rows, size_t n)
{
	struct findings f = { rows, calloc(n + 1, sizeof(*f.fixes)), calloc(n + 1, sizeof(*f.shown)), n };
	struct arena arena;

	arena_init(&arena);
	if (n > 1)
		qsort(rows, n, sizeof(*rows), worse);
	for (size_t i = 0; f.fixes != NULL && i < n; i++)
		f.fixes[i] = sentence_without(&arena, rows[i].fix, rows[i].node);
	out_start(o, "checks", OUT_TABLE);
	if (f.shown != NULL)
		add_rows(o, &f, w->verbose || w->id != NULL);
	out_end(o);
	free(f.shown);
	free(f.fixes);
	arena_finish(&arena);
}

static void add_count(struct buf *b, uint32_t n, const char *what, bool *first)
{
	if (n == 0)
		return;
	buf_addf(b, "%s%u %s", *first ? ": " : ", ", n, what);
	*first = false;
}

/* Such checks are about what is wrong only, and nothing was found: "0 checks" would be a riddle. */
static void add_nothing(struct buf *b, const struct wish *w, const struct rec_checks *k)
{
	if (k->nodes == 1)
		buf_addf(b, "%s has nothing to say of this one node", w->id);
	else
		buf_addf(b, "%s has nothing to say of these %u nodes", w->id, k->nodes);
	if (k->unread > 0)
		buf_addf(b, ", of which %u %s not read, or not yet (nodectl check -v tells why)", k->unread, k->unread == 1 ? "is" : "are");
	else if (strncmp(w->id, "sm.", 3) == 0)
		buf_adds(b, ": a subnet manager that runs where it is enabled is well");
}

/* "412 checks on 8 nodes: 2 bad, 1 warn, 9 unknown, 1 node not read" */
static void counts(struct out *o, const struct wish *w, const struct rec_checks *k)
{
	uint64_t all = (uint64_t)k->ok + k->warn + k->bad + k->unknown;
	bool first = true;
	struct buf b;

	buf_init(&b);
	if (all == 0 && w->id != NULL) {
		add_nothing(&b, w, k);
		out_data(o, NULL, buf_str(&b));
		buf_finish(&b);
		return;
	}
	buf_addf(&b, "%llu check%s on %u node%s", (unsigned long long)all, all == 1 ? "" : "s", k->nodes, k->nodes == 1 ? "" : "s");
	add_count(&b, k->bad, "bad", &first);
	add_count(&b, k->warn, "warn", &first);
	add_count(&b, k->unknown, "unknown", &first);
	add_count(&b, k->unread, k->unread == 1 ? "node not read" : "nodes not read", &first);
	if (first)
		buf_adds(&b, all != 0 ? ": all ok" : "");
	out_data(o, NULL, buf_str(&b));
	buf_finish(&b);
}

static void about(struct out *o, const struct rec_checks *k)
{
	if (k->n_about == 1) {
		const struct rec_check_about *a = &k->about[0];

		out_start(o, NULL, OUT_OBJECT);
		out_str(o, "id", "check", a->id);
		out_str(o, "title", "what", a->title);
		out_str(o, "reads", "reading", a->reads);
		out_str(o, "threshold", "threshold", a->threshold);
		out_str(o, "source", "source", a->source);
		out_str(o, "remedy", "remedy", a->remedy);
		out_end(o);
		return;
	}
	out_start(o, "about", OUT_TABLE);
	for (size_t i = 0; i < k->n_about; i++) {
		out_start(o, NULL, OUT_ROW);
		out_cell(o, "CHECK", 0, OUT_PLAIN, "%s", k->about[i].id);
		out_cell(o, "THRESHOLD", OUT_WRAP, OUT_PLAIN, "%s: %s", k->about[i].title, k->about[i].threshold);
		out_end(o);
	}
	out_end(o);
}

/* ---- the command ---------------------------------------------------------------------- */

static int ask(const struct ctl *c, const struct wish *w, struct gathered *ret)
{
	struct link l;
	struct msg m;
	int r = ctl_connect(c, &l);

	if (r != CTL_GO)
		return r;
	msg_init(&m, MSG_checks_get);
	m.u.checks_get.rid = link_id(&l);
	m.u.checks_get.nodes = w->hosts;
	m.u.checks_get.id = w->id;
	m.u.checks_get.all = w->verbose || w->id != NULL;
	m.u.checks_get.explain = w->explain;
	/* what table() would not show: of thousands of nodes it is most of the answer */
	if (!c->json && !w->verbose && w->id == NULL)
		MSG_SET(&m.u.checks_get, checks_get, no_unknown, true);
	r = ctl_gather(&l, &m, m.u.checks_get.rid, MSG_checks, ret);
	link_close(&l);
	return r;
}

/* No GPU or port that was asked for is there to be checked. Other checks are about what is wrong only:
 * of a subnet manager that runs there is nothing to say, and that is well. */
static bool is_empty(const struct wish *w, const struct rec_checks *k)
{
	return w->id != NULL && !w->explain && k->ok + k->warn + k->bad + k->unknown == 0 &&
	       (strncmp(w->id, "gpu.", 4) == 0 || strncmp(w->id, "ib.", 3) == 0);
}

static int say_empty(const struct wish *w, const struct rec_checks *k)
{
	const char *what = strncmp(w->id, "gpu.", 4) == 0 ? "no GPU" : "no RDMA port";
	const char *which = w->hosts != NULL ? "asked for" : "of this cluster";
	/* one check of a group may be about some kinds of them only: links of GPUs without any */
	const char *about = w->id[0] != '\0' && w->id[strlen(w->id) - 1] == '.' ? "" : " that it is about";

	uint32_t rest = k->nodes - k->unread;
	char others[128] = "";

	if (k->unread > 0 && rest > 0)
		snprintf(others, sizeof(others), "; the other %u ha%s %s%s", rest, rest == 1 ? "s" : "ve", what, about);
	if (k->unread > 0)
		return ctl_fail(EXIT_UNREACHABLE, "%s checked nothing: %u of the %u node%s %s %s not read, or not yet (nodectl check -v tells why)%s",
				w->id, k->unread, k->nodes, k->nodes == 1 ? "" : "s", which, k->unread == 1 ? "is" : "are", others);
	if (k->nodes == 1)
		return ctl_fail(EXIT_UNREACHABLE, "%s checked nothing: the one node %s has %s%s", w->id, which, what, about);
	return ctl_fail(EXIT_UNREACHABLE, "%s checked nothing: the %u nodes %s have %s%s", w->id, k->nodes, which, what, about);
}

static int print(const struct ctl *c, const struct wish *w, const struct rec_checks *k)
{
	struct buf b;
	struct out *o = ctl_out(c, &b);
	int r;

	if (c->json)
		json(o, w, k);
	else if (w->explain)
		about(o, k);
	else if (!is_empty(w, k)) {
		table(o, w, k->rows, k->n_rows);
		counts(o, w, k);
	}
	r = ctl_print(o, &b);
	if (r == 0 && is_empty(w, k))
		return say_empty(w, k);
	return r != 0 ? r : !w->explain && k->bad > 0;
}

static int run(struct ctl *c)
{
	struct wish w = { .id = NULL };
	struct gathered g;
	struct opts o;
	const char *value;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == OPT_OPERAND && w.id != NULL)
			return ctl_usage(c, "\"%s\" is one word too many; nodes are named with -w", value);
		if (id == OPT_OPERAND)
			w.id = value;
		else if (id == HOSTS)
			w.hosts = value;
		else if (id == EXPLAIN)
			w.explain = true;
		else
			w.verbose = true;
	}
	if (w.id != NULL && strlen(w.id) > 48)
		return ctl_usage(c, "\"%.60s\" is no check; nodectl check --explain lists them", w.id);
	r = ask(c, &w, &g);
	if (r != CTL_GO)
		return r == EXIT_REFUSED ? EXIT_UNREACHABLE : r; /* 1 means that something is bad */
	r = print(c, &w, &g.all.u.checks);
	gather_finish(&g);
	return r;
}

const struct command cmd_check = {
	.verb = "check",
	.args = "[ID] [-w HOSTLIST] [-v] [--explain]",
	.brief = "ports, GPUs and nodes: what is not as it should be, and what to do",
	.help = "Runs all checks over what the nodes have read last, and shows what is bad or warns. ID is one check "
		"(ib.state) or, with a dot at its end, a group of them (gpu.): then all of it is shown, also what is ok. --explain tells what it reads, where the limit is "
		"and who says so. What could not be read is unknown, never ok. Exit code: 0 nothing is bad, 1 something is, 2 the "
		"command line is wrong, 3 there is no such check or node, nothing to be checked by it, or nobody answers.",
	.opts = opts,
	.run = run,
};
