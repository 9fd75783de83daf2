/* check_nccl.c - see check_nccl.h */
#include "client/check_nccl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/render.h"
#include "client/term.h"

static const char *str(const cJSON *m, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(m, key);

	return cJSON_IsString(v) ? v->valuestring : "";
}

static double num(const cJSON *m, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(m, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static bool is(const cJSON *m, const char *key, const char *value)
{
	return strcmp(str(m, key), value) == 0;
}

bool check_lines_add(struct check_lines *c, const char *line, size_t len)
{
	cJSON *m = json_parse(line, len, NULL), **more;

	if (m == NULL || str(m, "kind")[0] == '\0' || c->n == CHECK_LINES_MAX) {
		cJSON_Delete(m);
		return false;
	}
	more = realloc(c->line, (c->n + 1) * sizeof *more); /* NOLINT: a table of pointers */
	if (more == NULL) {
		c->oom = true;
		cJSON_Delete(m);
		return false;
	}
	c->line = more;
	c->line[c->n++] = m;
	c->begun = true;
	if (is(m, "kind", "end")) {
		c->ended = true;
		c->ok = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(m, "ok"));
	}
	return true;
}

void check_lines_finish(struct check_lines *c)
{
	for (size_t i = 0; i < c->n; i++)
		cJSON_Delete(c->line[i]);
	free(c->line);
	*c = (struct check_lines){ .n = 0 };
}

/* ---- text ------------------------------------------------------------------- */

static void clean(struct buf *b, const char *s)
{
	term_add_clean(b, s, strlen(s));
}

static void paragraph(struct buf *b, const char *first, const char *rest, struct buf *text, unsigned columns)
{
	term_add_wrapped(b, buf_str(text), first, rest, columns);
	buf_finish(text);
}

/* "NCCL 2.28.9, CUDA 13.0, driver 580.95.05: 2 nodes, 16 ranks, NVIDIA H100 80GB HBM3" */
static void text_env(const cJSON *m, struct buf *b, unsigned columns)
{
	const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(m, "nodes"), *first = cJSON_GetArrayItem(nodes, 0);
	struct buf t;

	buf_init(&t);
	buf_adds(&t, "NCCL ");
	clean(&t, str(first, "nccl"));
	buf_adds(&t, ", CUDA ");
	clean(&t, str(first, "cuda"));
	if (str(first, "driver")[0]) {
		buf_adds(&t, ", driver ");
		clean(&t, str(first, "driver"));
	}
	buf_adds(&t, ": ");
	render_count(&t, (uint64_t)cJSON_GetArraySize(nodes), "node", "nodes");
	buf_adds(&t, ", ");
	render_count(&t, (uint64_t)num(m, "ranks"), "GPU", "GPUs");
	if (str(first, "gpu")[0]) {
		buf_adds(&t, ", ");
		clean(&t, str(first, "gpu"));
	}
	buf_adds(&t, "; ");
	clean(&t, str(first, "nccl_path"));
	paragraph(b, "", "  ", &t, columns);
}

struct spread {
	double low, high;
	uint32_t n;
};

/* Of an operation, over all sets of this scope: the lowest that was compared under the same conditions. */
static double ratio_of(const struct check_lines *c, const char *scope, const char *name, bool *ret_other)
{
	double least = 0;

	for (size_t i = 0; i < c->n; i++) {
		const cJSON *op, *m = c->line[i];

		if (!is(m, "kind", "baseline") || !is(m, "scope", scope))
			continue;
		cJSON_ArrayForEach(op, cJSON_GetObjectItemCaseSensitive(m, "ops")) {
			double v = num(op, "ratio");

			if (is(op, "op", name) && v > 0 && (least == 0 || v < least)) {
				least = v;
				*ret_other = str(m, "other")[0] != '\0';
			}
		}
	}
	return least;
}

/* All results of one operation in one scope. */
static struct spread spread_of(const struct check_lines *c, const char *scope, const char *op)
{
	struct spread s = { .n = 0 };

	for (size_t i = 0; i < c->n; i++) {
		const cJSON *m = c->line[i];
		double v = num(m, "busbw");

		if (!is(m, "kind", "result") || !is(m, "scope", scope) || !is(m, "op", op))
			continue;
		s.low = s.n == 0 || v < s.low ? v : s.low;
		s.high = s.n == 0 || v > s.high ? v : s.high;
		s.n++;
	}
	return s;
}

static void cell(struct out *o, const char *title, const struct spread *s)
{
	if (s->n == 0)
		out_cell(o, title, OUT_RIGHT, OUT_PLAIN, "-");
	else if (s->high > s->low * 1.05)
		out_cell(o, title, OUT_RIGHT, OUT_PLAIN, "%.1f-%.1f", s->low, s->high);
	else
		out_cell(o, title, OUT_RIGHT, OUT_PLAIN, "%.1f", s->low);
}

/* "97 %", "~97 %" under other conditions; no column where nothing was compared. */
static void ratio_cell(struct out *o, const char *title, const struct check_lines *c, const char *scope, const char *op)
{
	bool other = false;
	double v = ratio_of(c, scope, op, &other);

	if (v > 0)
		out_cell(o, title, OUT_RIGHT, OUT_PLAIN, "%s%.0f %%", other ? "~" : "", 100 * v);
	else
		out_cell(o, title, OUT_RIGHT, OUT_PLAIN, "-");
}

static bool was_compared(const struct check_lines *c, const char *scope)
{
	for (size_t i = 0; i < c->n; i++)
		if (is(c->line[i], "kind", "baseline") && is(c->line[i], "scope", scope) && !is(c->line[i], "verdict", "none"))
			return true;
	return false;
}

/* "IB GDR", "SOCKET eth0 (why)", "P2P" */
static void transport(const struct check_lines *c, const char *scope, struct buf *b)
{
	for (size_t i = 0; i < c->n; i++) {
		const cJSON *m = c->line[i];

		if (!is(m, "kind", "result") || !is(m, "scope", scope))
			continue;
		if (is(m, "transport", "Socket")) {
			buf_adds(b, "SOCKET! ");
			clean(b, str(m, "interface"));
			if (str(m, "no_ib")[0]) {
				buf_adds(b, ": ");
				clean(b, str(m, "no_ib"));
			}
			return;
		}
		clean(b, str(m, "transport"));
		if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(m, "gdr")))
			buf_adds(b, " GDR");
		return;
	}
}

static void text_how(const struct check_lines *c, struct buf *b)
{
	for (int k = 0; k < 2; k++) {
		const char *scope = k == 0 ? "inside" : "between";
		struct buf how;

		buf_init(&how);
		transport(c, scope, &how);
		if (how.len > 0) {
			buf_adds(b, k == 0 ? "in a node: " : "between nodes: ");
			buf_adds(b, buf_str(&how));
			buf_addc(b, '\n');
		}
		buf_finish(&how);
	}
}

static bool has_scope(const struct check_lines *c, const char *scope)
{
	for (size_t i = 0; i < c->n; i++)
		if (is(c->line[i], "kind", "result") && is(c->line[i], "scope", scope))
			return true;
	return false;
}

static void text_results(const struct check_lines *c, struct buf *b, unsigned columns)
{
	static const char *const ops[] = { "broadcast", "reduce", "all_reduce", "all_gather", "reduce_scatter",
					   "gather", "send_recv" };
	bool inside = has_scope(c, "inside"), between = has_scope(c, "between");
	bool inside_was = was_compared(c, "inside"), between_was = was_compared(c, "between");
	struct out *o = out_text_create(b, columns, false);

	if (!inside && !between) {
		out_destroy(o);
		return;
	}
	out_start(o, NULL, OUT_OBJECT);
	out_start(o, NULL, OUT_TABLE);
	for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
		struct spread in = spread_of(c, "inside", ops[k]), out = spread_of(c, "between", ops[k]);

		if (in.n + out.n == 0)
			continue;
		out_start(o, NULL, OUT_ROW);
		out_str(o, NULL, "BUSBW GB/S", ops[k]);
		if (inside)
			cell(o, "IN A NODE", &in);
		if (inside_was)
			ratio_cell(o, "OF BASELINE", c, "inside", ops[k]);
		if (between)
			cell(o, "BETWEEN NODES", &out);
		if (between_was)
			ratio_cell(o, "OF ITS BASELINE", c, "between", ops[k]);
		out_end(o);
	}
	out_end(o);
	out_end(o);
	out_destroy(o);
}

static void text_verbose(const struct check_lines *c, struct buf *b, unsigned columns)
{
	struct out *o = out_text_create(b, columns, false);

	out_start(o, NULL, OUT_OBJECT);
	out_start(o, NULL, OUT_TABLE);
	for (size_t i = 0; i < c->n; i++) {
		const cJSON *m = c->line[i];

		if (!is(m, "kind", "result"))
			continue;
		out_start(o, NULL, OUT_ROW);
		out_str(o, NULL, "WHERE", is(m, "scope", "inside") ? str(m, "node") : "between");
		out_cell(o, "RANKS", OUT_RIGHT, OUT_PLAIN, "%.0f", num(m, "ranks"));
		out_str(o, NULL, "OPERATION", str(m, "op"));
		out_cell(o, "BYTES", OUT_RIGHT, OUT_PLAIN, "%.0f", num(m, "bytes"));
		out_cell(o, "US", OUT_RIGHT, OUT_PLAIN, "%.1f", num(m, "time_us"));
		out_cell(o, "ALGBW GB/S", OUT_RIGHT, OUT_PLAIN, "%.1f", num(m, "algbw"));
		out_cell(o, "BUSBW GB/S", OUT_RIGHT, OUT_PLAIN, "%.1f", num(m, "busbw"));
		out_cell(o, "WRONG", OUT_RIGHT, num(m, "wrong") > 0 ? OUT_BAD : OUT_PLAIN, "%.0f", num(m, "wrong"));
		out_end(o);
	}
	out_end(o);
	out_end(o);
	out_destroy(o);
}

/* Ranks of a hang: the first few of each kind. */
static void text_ranks(const cJSON *m, struct buf *b, unsigned columns)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(m, "ranks_state"), *r;
	unsigned shown = 0, all = 0;

	cJSON_ArrayForEach(r, list) {
		struct buf t;

		if (str(r, "text")[0] && !is(r, "is", "waits") && strstr(str(m, "text"), str(r, "text")) != NULL && !str(r, "said")[0])
			continue; /* the headline says it */
		if (all++ >= 8)
			continue;
		shown++;
		buf_init(&t);
		clean(&t, str(r, "rank"));
		buf_addf(&t, " %s", is(r, "is", "silent") ? "does not answer" : is(r, "is", "gone") ? "has ended" : str(r, "is"));
		if (is(r, "is", "waits"))
			buf_adds(&t, " in ");
		else if (str(r, "text")[0])
			buf_adds(&t, ": ");
		clean(&t, str(r, "text"));
		if (str(r, "said")[0]) {
			buf_adds(&t, "; NCCL says: ");
			clean(&t, str(r, "said"));
		}
		paragraph(b, "    ", "      ", &t, columns);
	}
	if (all > shown)
		buf_addf(b, "    and %u more\n", all - shown);
}

static void text_said(const cJSON *m, struct buf *b, unsigned columns)
{
	struct buf t;

	buf_init(&t);
	buf_adds(&t, is(m, "severity", "bad") ? "BAD " : is(m, "severity", "note") ? "" : "WARN ");
	if (is(m, "scope", "inside") && str(m, "node")[0]) {
		clean(&t, str(m, "node"));
		buf_adds(&t, ": ");
	}
	clean(&t, str(m, "text"));
	paragraph(b, "", "    ", &t, columns);
	text_ranks(m, b, columns);
	if (str(m, "fix")[0] == '\0')
		return;
	buf_init(&t);
	buf_adds(&t, "do: ");
	clean(&t, str(m, "fix"));
	paragraph(b, "    ", "        ", &t, columns);
}

/* What should be reached, and how much of it the slowest does. */
static void text_expected(const struct check_lines *c, struct buf *b, unsigned columns)
{
	static const char *const words[] = { "in a node", "between nodes" };
	struct buf t;
	unsigned said = 0;

	buf_init(&t);
	for (size_t k = 0; k < 2; k++) {
		double least = k == 0 ? c->expect_inside : c->expect_between;
		struct spread s = spread_of(c, k == 0 ? "inside" : "between", "all_reduce");

		if (least > 0 && s.n > 0)
			buf_addf(&t, "%s%s %.1f (%.0f %% reached)", said++ > 0 ? ", " : "", words[k], least, 100 * s.low / least);
	}
	if (said > 0)
		paragraph(b, "expected of all_reduce at least: ", "  ", &t, columns);
	else
		buf_finish(&t);
}

/* The names of sets without a baseline, or with another reason; the first ones. */
static void add_names(const struct check_lines *c, struct buf *t, bool (*wanted)(const cJSON *))
{
	unsigned n = 0;

	for (size_t i = 0; i < c->n; i++) {
		if (!is(c->line[i], "kind", "baseline") || !wanted(c->line[i]))
			continue;
		if (n++ < 3) {
			buf_adds(t, n > 1 ? ", " : "");
			buf_adds(t, is(c->line[i], "scope", "inside") ? "inside " : "between ");
			clean(t, str(c->line[i], "nodes"));
		}
	}
	if (n > 3)
		buf_addf(t, " and %u more", n - 3);
}

static bool has_none(const cJSON *m)
{
	return is(m, "verdict", "none");
}

static bool has_other(const cJSON *m)
{
	return !has_none(m) && str(m, "other")[0] != '\0';
}

static bool is_true(const cJSON *m, const char *key)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(m, key));
}

static void text_why_other(const struct check_lines *c, struct buf *t, bool (*wanted)(const cJSON *))
{
	for (size_t i = 0; i < c->n; i++)
		if (is(c->line[i], "kind", "baseline") && wanted(c->line[i]) && str(c->line[i], "other")[0]) {
			buf_adds(t, " (");
			clean(t, str(c->line[i], "other"));
			buf_adds(t, ")");
			return;
		}
}

static void text_baseline(const struct check_lines *c, struct buf *b, unsigned columns)
{
	unsigned n = 0, none = 0, other = 0, kept = 0, count = 0;
	double limit = 0;
	struct buf t;

	for (size_t i = 0; i < c->n; i++) {
		const cJSON *m = c->line[i];

		if (!is(m, "kind", "baseline"))
			continue;
		n++;
		none += has_none(m);
		other += has_other(m);
		kept += is_true(m, "kept");
		count += is_true(m, "counts");
		limit = num(m, "limit");
	}
	if (n == 0)
		return;
	buf_init(&t);
	if (none < n)
		buf_addf(&t, "below %.0f %% of a baseline is slow%s; ", 100 * limit,
			 limit > 0.899 && limit < 0.901 ? " (as nccl-tests has it)" : "");
	if (other > 0) {
		buf_adds(&t, "~ under other conditions: ");
		add_names(c, &t, has_other);
		text_why_other(c, &t, has_other);
		buf_adds(&t, "; ");
	}
	if (none > 0) {
		buf_adds(&t, "no baseline yet: ");
		add_names(c, &t, has_none);
		text_why_other(c, &t, has_none);
		buf_adds(&t, "; ");
	}
	if (kept == 0)
		buf_adds(&t, "this run is not kept: only an administrator's, on the coordinator's host");
	else if (count == n)
		buf_adds(&t, "this run is kept");
	else
		buf_addf(&t, "this run is kept, and %s for the baseline", count == 0 ? "does not count" : "counts in part");
	paragraph(b, "baseline: ", "  ", &t, columns);
}

static bool all_exact(const struct check_lines *c)
{
	bool any = false;

	for (size_t i = 0; i < c->n; i++) {
		if (!is(c->line[i], "kind", "result"))
			continue;
		any = true;
		if (num(c->line[i], "wrong") > 0)
			return false;
	}
	return any;
}

void check_lines_text(const struct check_lines *c, struct buf *b, unsigned columns, bool verbose)
{
	double seconds = 0;

	for (size_t i = 0; i < c->n; i++) {
		if (is(c->line[i], "kind", "env"))
			text_env(c->line[i], b, columns);
		if (is(c->line[i], "kind", "end"))
			seconds = num(c->line[i], "seconds");
	}
	if (verbose)
		text_verbose(c, b, columns);
	else
		text_results(c, b, columns);
	text_how(c, b);
	text_expected(c, b, columns);
	text_baseline(c, b, columns);
	for (size_t i = 0; i < c->n; i++)
		if (is(c->line[i], "kind", "problem") || is(c->line[i], "kind", "finding"))
			text_said(c->line[i], b, columns);
	if (c->ended)
		buf_addf(b, "%s%s; %.1f s\n", c->ok ? "ok" : "NOT ok", all_exact(c) ? ", data exact" : "", seconds);
}

/* ---- JSON ------------------------------------------------------------------- */

static void json_list(const struct check_lines *c, struct buf *b, const char *kind, const char *key)
{
	bool first = true;

	buf_addf(b, ",\"%s\":[", key);
	for (size_t i = 0; i < c->n; i++) {
		char *text;

		if (!is(c->line[i], "kind", kind))
			continue;
		text = cJSON_PrintUnformatted(c->line[i]);
		if (text == NULL)
			continue;
		buf_adds(b, first ? "" : ",");
		buf_adds(b, text);
		first = false;
		cJSON_free(text);
	}
	buf_addc(b, ']');
}

void check_lines_json(const struct check_lines *c, struct buf *b)
{
	double seconds = 0;

	for (size_t i = 0; i < c->n; i++)
		if (is(c->line[i], "kind", "end"))
			seconds = num(c->line[i], "seconds");
	buf_addf(b, "{\"check\":\"nccl\",\"ok\":%s,\"seconds\":%.3f", c->ended && c->ok ? "true" : "false", seconds);
	json_list(c, b, "env", "env");
	json_list(c, b, "result", "results");
	json_list(c, b, "problem", "problems");
	json_list(c, b, "finding", "findings");
	json_list(c, b, "baseline", "baselines");
	buf_addf(b, ",\"expected\":{\"inside\":%.1f,\"between\":%.1f}}\n", c->expect_inside, c->expect_between);
}
