/* check_base.c - see check_base.h
 *
 * A set is complete when each operation that was asked for has a result, all
 * data exact: others are neither compared nor kept. A set of which the check itself
 * says something bad is compared, and kept as a run that does not count. */
#include "client/check_base.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/hostlist.h"
#include "common/nccl_base.h"
#include "proto/features.h"

#define OPS_MAX 16 /* as in messages.def, like the next ones */
#define PAGE 128
#define NODES_MAX 4096
#define ENV_MAX 512
#define SHOWN_MAX 20 /* findings */

extern char **environ;

/* What is said of one set. */
struct gained {
	const char *scope;
	const char *node; /* NULL: between */
	char *nodes; /* between: a host list */
	uint32_t ranks;
	bool wrong, bad;
	char gpu[97], nccl[25], driver[97], how[65];
	struct rec_nccl_speed speeds[OPS_MAX];
	size_t n;
};

struct gains {
	struct gained *v;
	size_t n;
	char env[ENV_MAX + 1];
};

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

/* ---- what was asked of NCCL ------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Those that change how NCCL goes to work; what it tells does not. */
static bool counts(const char *var)
{
	return strncmp(var, "NCCL_", 5) == 0 && strncmp(var, "NCCL_DEBUG", 10) != 0;
}

static uint64_t hash_of(const char *s)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *s != '\0'; s++)
		h = (h ^ (uint8_t)*s) * UINT64_C(1099511628211);
	return h;
}

static void read_env(char out[ENV_MAX + 1])
{
	const char **v;
	size_t n = 0, all = 0;
	struct buf b;

	out[0] = '\0';
	while (environ != NULL && environ[all] != NULL)
		all++;
	v = calloc(all + 1, sizeof(*v));
	for (size_t i = 0; v != NULL && i < all; i++)
		if (counts(environ[i]))
			v[n++] = environ[i];
	if (n > 0)
		qsort(v, n, sizeof(*v), by_text);
	buf_init(&b);
	for (size_t i = 0; i < n; i++)
		buf_addf(&b, "%s%s", i > 0 ? " " : "", v[i]);
	if (b.len > ENV_MAX || !utf8_valid(b.data != NULL ? b.data : "", b.len))
		snprintf(out, ENV_MAX + 1, "%zu NCCL_ variables, %016llx", n, (unsigned long long)hash_of(buf_str(&b)));
	else
		snprintf(out, ENV_MAX + 1, "%s", buf_str(&b));
	buf_finish(&b);
	free(v);
}

/* ---- sets ---------------------------------------------------------------------------- */

static const cJSON *env_line(const struct check_lines *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (is(c->line[i], "kind", "env"))
			return c->line[i];
	return NULL;
}

/* "580.1,575.2": each value once. */
static void add_value(char *out, size_t size, const char *value)
{
	size_t n = strlen(value), len = strlen(out);

	for (const char *at = out; n > 0 && (at = strstr(at, value)) != NULL; at += n)
		if ((at == out || at[-1] == ',') && (at[n] == '\0' || at[n] == ','))
			return;
	if (n > 0)
		snprintf(out + len, size - len, "%s%s", len > 0 ? "," : "", value);
}

/* Of the node, or of all nodes. */
static void take_conditions(const cJSON *nodes, struct gained *g)
{
	const cJSON *n;

	cJSON_ArrayForEach(n, nodes) {
		if (g->node != NULL && !is(n, "node", g->node))
			continue;
		add_value(g->gpu, sizeof(g->gpu), str(n, "gpu"));
		add_value(g->nccl, sizeof(g->nccl), str(n, "nccl"));
		add_value(g->driver, sizeof(g->driver), str(n, "driver"));
	}
}

static char *list_nodes(const cJSON *nodes)
{
	size_t n = (size_t)cJSON_GetArraySize(nodes), k = 0;
	const char **v = calloc(n + 1, sizeof(*v));
	const cJSON *m;
	char *text;

	if (v == NULL)
		return NULL;
	cJSON_ArrayForEach(m, nodes)
		v[k++] = str(m, "node");
	text = hostlist_format(v, k);
	if (text != NULL && strlen(text) > NODES_MAX)
		snprintf(text, NODES_MAX, "%zu nodes %016llx", k, (unsigned long long)hash_of(text));
	free(v);
	return text;
}

static struct gained *gained_of(struct gains *g, const cJSON *m, const cJSON *env)
{
	const char *node = is(m, "scope", "inside") ? str(m, "node") : NULL;
	const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(env, "nodes");
	struct gained *v;

	for (size_t i = g->n; i-- > 0;)
		if (node == NULL ? g->v[i].node == NULL : g->v[i].node != NULL && strcmp(g->v[i].node, node) == 0)
			return &g->v[i];
	v = realloc(g->v, (g->n + 1) * sizeof(*v));
	if (v == NULL)
		return NULL;
	g->v = v;
	v = &v[g->n];
	*v = (struct gained){ .scope = node != NULL ? "inside" : "between", .node = node, .ranks = (uint32_t)num(m, "ranks") };
	if (node == NULL && (v->nodes = list_nodes(nodes)) == NULL)
		return NULL;
	/* some are left out who hang: it is not what these nodes do together */
	v->bad = node == NULL && num(m, "ranks") != num(env, "ranks");
	v->wrong = v->bad;
	take_conditions(nodes, v);
	g->n++;
	return v;
}

static void take_how(const cJSON *m, struct gained *g)
{
	bool socket = is(m, "transport", "Socket");

	if (g->how[0] == '\0')
		snprintf(g->how, sizeof(g->how), "%.50s%s", socket ? "SOCKET" : str(m, "transport"),
			 cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(m, "gdr")) ? " GDR" : "");
}

static void take_result(const cJSON *m, struct gained *g)
{
	double v = num(m, "busbw") * 1000 + 0.5;

	g->wrong = g->wrong || num(m, "wrong") > 0;
	take_how(m, g);
	if (g->n < OPS_MAX && strlen(str(m, "op")) <= 16)
		g->speeds[g->n++] = (struct rec_nccl_speed){ .op = str(m, "op"), .mb_s = v < 4294967295.0 ? (uint32_t)v : 4294967295u };
}

/* Does this line say something bad of that set? Of a search, of what goes on between nodes. */
static bool blames(const cJSON *m, const struct gained *g)
{
	if (!is(m, "severity", "bad") || (!is(m, "kind", "finding") && !is(m, "kind", "problem")))
		return false;
	if (is(m, "scope", "inside"))
		return g->node != NULL && is(m, "node", g->node);
	return g->node == NULL;
}

static void gather(const struct check_lines *c, const struct base_wish *w, struct gains *g)
{
	const cJSON *env = env_line(c);
	size_t n = 0;

	for (size_t i = 0; i < c->n && env != NULL; i++) {
		struct gained *of = is(c->line[i], "kind", "result") ? gained_of(g, c->line[i], env) : NULL;

		if (of != NULL)
			take_result(c->line[i], of);
	}
	for (size_t k = 0; k < g->n; k++) {
		if (g->v[k].wrong || g->v[k].n < w->n_ops || g->v[k].ranks == 0) {
			free(g->v[k].nodes);
			continue;
		}
		g->v[n] = g->v[k];
		for (size_t i = 0; i < c->n; i++)
			g->v[n].bad = g->v[n].bad || blames(c->line[i], &g->v[n]);
		n++;
	}
	g->n = n;
	read_env(g->env);
}

static void gains_finish(struct gains *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->v[i].nodes);
	free(g->v);
}

/* ---- asking ---------------------------------------------------------------------------- */

static bool path_of_coordinator(const struct ctl *c, char *path, size_t size)
{
	struct command cmd = *c->cmd;
	struct ctl k = *c;

	cmd.admin = true;
	k.cmd = &cmd;
	return c->socket == NULL && ctl_path(&k, path, size) == CTL_GO && access(path, W_OK) == 0;
}

bool check_base_may_keep(const struct ctl *c)
{
	char path[4096];

	return path_of_coordinator(c, path, sizeof(path));
}

int check_base_link(const struct ctl *c, struct link *l, struct err *e)
{
	char path[4096];
	int r;

	link_init(l);
	if (path_of_coordinator(c, path, sizeof(path))) {
		l->coordinator = true;
		if (link_open(l, path, e) == 0 && (l->features & FEATURE_BASE))
			return 0;
		link_close(l);
		link_init(l);
	}
	if (ctl_path(c, path, sizeof(path)) != CTL_GO)
		return err_set(e, ENAMETOOLONG, "the path of the socket is too long");
	r = link_open(l, path, e);
	if (r == 0 && !(l->features & FEATURE_BASE)) {
		r = err_set(e, ENOTSUP, "the agent here (version %s) knows no baselines: have it updated", l->software);
		link_close(l);
	}
	return r;
}

static void fill(const struct gained *g, const struct base_wish *w, const char *env, struct rec_nccl_set *s,
		 struct rec_nccl_run *run)
{
	*run = (struct rec_nccl_run){ .good = !g->bad, .how = g->how[0] != '\0' ? g->how : NULL, .speeds = (struct rec_nccl_speed *)g->speeds,
				      .n_speeds = g->n };
	*s = (struct rec_nccl_set){ .scope = g->scope, .nodes = g->node != NULL ? g->node : g->nodes, .ranks = g->ranks, .mib = w->mib,
				    .gpu = g->gpu, .env = env, .nccl = g->nccl, .driver = g->driver, .runs = run, .n_runs = 1 };
}

/* ---- what comes of it -------------------------------------------------------------------- */

static void add_line(struct check_lines *c, cJSON *m)
{
	cJSON **more = m != NULL ? realloc(c->line, (c->n + 1) * sizeof *more) : NULL; /* NOLINT: a table of pointers */

	if (more == NULL) {
		c->oom = true;
		cJSON_Delete(m);
		return;
	}
	c->line = more;
	c->line[c->n++] = m;
}

static uint32_t base_of(const struct rec_nccl_told *t, const char *op)
{
	for (size_t i = 0; i < t->n_base; i++)
		if (strcmp(t->base[i].op, op) == 0)
			return t->base[i].mb_s;
	return 0;
}

static double rounded(double v)
{
	return (double)(int64_t)(v * 1000 + 0.5) / 1000;
}

/* The operation furthest below its baseline, or nearest to it; all_reduce where others are as bad;
 * -1: none has one. */
static int worst_of(const struct gained *g, const struct rec_nccl_told *t)
{
	double least = 0;
	int worst = -1;

	for (size_t i = 0; i < g->n; i++) {
		uint32_t base = base_of(t, g->speeds[i].op);
		double ratio = base > 0 ? (double)g->speeds[i].mb_s / base : 0;
		double much = strcmp(g->speeds[i].op, "all_reduce") == 0 ? 1.01 : worst < 0 ? 1 : 0.99;

		if (base > 0 && (worst < 0 || ratio < least * much)) {
			worst = (int)i;
			least = ratio;
		}
	}
	return worst;
}

static const char *verdict_of(const struct gained *g, const struct rec_nccl_told *t, const struct base_wish *w)
{
	int k = worst_of(g, t);

	if (k < 0)
		return "none";
	return nccl_base_slow(g->speeds[k].mb_s, base_of(t, g->speeds[k].op), w->percent) ? "slow" : "ok";
}

static void line_base(struct check_lines *c, const struct gained *g, const struct rec_nccl_told *t, const struct base_wish *w, bool kept)
{
	cJSON *m = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(m, "ops");

	cJSON_AddStringToObject(m, "kind", "baseline");
	cJSON_AddStringToObject(m, "scope", g->scope);
	cJSON_AddStringToObject(m, "nodes", g->node != NULL ? g->node : g->nodes);
	cJSON_AddStringToObject(m, "verdict", verdict_of(g, t, w));
	cJSON_AddNumberToObject(m, "limit", w->percent / 100.0);
	cJSON_AddNumberToObject(m, "good", t->good);
	if (MSG_HAS(t, nccl_told, last_wall_ms))
		cJSON_AddNumberToObject(m, "last_ms", (double)t->last_wall_ms);
	if (t->other != NULL)
		cJSON_AddStringToObject(m, "other", t->other);
	if (t->how != NULL)
		cJSON_AddStringToObject(m, "how", t->how);
	cJSON_AddBoolToObject(m, "kept", kept);
	cJSON_AddBoolToObject(m, "counts", kept && !g->bad && (w->anew || strcmp(verdict_of(g, t, w), "slow") != 0));
	for (size_t i = 0; i < g->n; i++) {
		uint32_t base = base_of(t, g->speeds[i].op);
		cJSON *op = cJSON_CreateObject();

		cJSON_AddStringToObject(op, "op", g->speeds[i].op);
		cJSON_AddNumberToObject(op, "busbw", g->speeds[i].mb_s / 1000.0);
		if (base > 0) {
			cJSON_AddNumberToObject(op, "baseline", base / 1000.0);
			cJSON_AddNumberToObject(op, "ratio", rounded((double)g->speeds[i].mb_s / base));
		}
		cJSON_AddItemToArray(list, op);
	}
	add_line(c, m);
}

static void add_slow_ops(struct buf *b, const struct gained *g, const struct rec_nccl_told *t, const struct base_wish *w, int worst)
{
	unsigned more = 0;

	for (size_t i = 0; i < g->n; i++) {
		uint32_t base = base_of(t, g->speeds[i].op);

		if ((int)i == worst || !nccl_base_slow(g->speeds[i].mb_s, base, w->percent))
			continue;
		if (more++ < 3)
			buf_addf(b, "%s %s (%.0f %%)", more == 1 ? "; so are" : ",", g->speeds[i].op, 100.0 * g->speeds[i].mb_s / base);
	}
	if (more > 3)
		buf_addf(b, " and %u more", more - 3);
}

static void add_day(struct buf *b, int64_t wall_ms)
{
	time_t t = (time_t)(wall_ms / 1000);
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%d", localtime_r(&t, &tm));
	buf_adds(b, text);
}

/* "all_reduce reaches 210.3 GB/s, 74 % of its baseline of 284.0 (5 good runs, the last 2026-11-24)" */
static void slow_text(struct buf *b, const struct gained *g, const struct rec_nccl_told *t, const struct base_wish *w)
{
	int k = worst_of(g, t);
	uint32_t base = base_of(t, g->speeds[k].op);

	if (g->node == NULL)
		buf_adds(b, "between nodes: ");
	buf_addf(b, "%s reaches %.1f GB/s, %.0f %% of ", g->speeds[k].op, g->speeds[k].mb_s / 1000.0, 100.0 * g->speeds[k].mb_s / base);
	buf_addf(b, t->good > 0 ? "its baseline of %.1f (" : "%.1f (", base / 1000.0);
	if (t->good > 0)
		buf_addf(b, "%u good run%s", t->good, t->good > 1 ? "s" : "");
	if (MSG_HAS(t, nccl_told, last_wall_ms)) {
		buf_adds(b, t->good > 1 ? ", the last " : ", ");
		add_day(b, t->last_wall_ms);
	}
	if (t->other != NULL)
		buf_addf(b, "%s%s", t->good > 0 ? "; " : "", t->other);
	buf_adds(b, ")");
	add_slow_ops(b, g, t, w, k);
	if (t->how != NULL && g->how[0] != '\0' && strcmp(t->how, g->how) != 0)
		buf_addf(b, "; data went over %s then, over %s now", t->how, g->how);
}

/* Once in a while one operation of a run is slow by chance (docs/measurements.md). */
static bool may_be_chance(const struct gained *g, const struct rec_nccl_told *t, const struct base_wish *w)
{
	unsigned n = 0;

	for (size_t i = 0; i < g->n; i++)
		n += nccl_base_slow(g->speeds[i].mb_s, base_of(t, g->speeds[i].op), w->percent);
	return n == 1 && g->n > 2;
}

static const char *fix_of(const struct gained *g, const struct rec_nccl_told *t, const struct base_wish *w)
{
	if (may_be_chance(g, t, w))
		return "run the check again: one operation alone may be slow by chance; if it is to stay so: nodectl check nccl --new-baseline";
	if (t->other != NULL)
		return "see whether that is the reason; if it is to stay so: nodectl check nccl --new-baseline";
	if (g->node != NULL)
		return "see what has changed: its NVLinks and PCIe (nvidia-smi nvlink -s), throttling, other processes; if it is to "
		       "stay so: nodectl check nccl --new-baseline";
	return "see what has changed: nodectl ports, nodectl check ib.; nodectl check nccl --bisect finds the node or link; if it is to "
	       "stay so: nodectl check nccl --new-baseline";
}

static void line_slow(struct check_lines *c, const struct gained *g, const struct rec_nccl_told *t, const struct base_wish *w)
{
	cJSON *m = cJSON_CreateObject();
	struct buf b;

	buf_init(&b);
	slow_text(&b, g, t, w);
	cJSON_AddStringToObject(m, "kind", "finding");
	cJSON_AddStringToObject(m, "severity", t->other != NULL ? "warn" : "bad");
	cJSON_AddStringToObject(m, "what", "baseline");
	cJSON_AddStringToObject(m, "scope", g->scope);
	if (g->node != NULL)
		cJSON_AddStringToObject(m, "node", g->node);
	cJSON_AddStringToObject(m, "text", buf_str(&b));
	cJSON_AddStringToObject(m, "fix", fix_of(g, t, w));
	buf_finish(&b);
	add_line(c, m);
	if (t->other == NULL)
		c->ok = false;
}

static void line_note(struct check_lines *c, const char *text)
{
	cJSON *m = cJSON_CreateObject();

	cJSON_AddStringToObject(m, "kind", "problem");
	cJSON_AddStringToObject(m, "severity", "warn");
	cJSON_AddStringToObject(m, "text", text);
	add_line(c, m);
}

/* The answer about n sets. */
static void take_told(struct check_lines *c, const struct gained *g, size_t n, const struct rec_base_told *r,
		      const struct base_wish *w, unsigned *slow)
{
	for (size_t i = 0; i < n && i < r->n_told; i++) {
		const struct rec_nccl_told *t = &r->told[i];

		line_base(c, &g[i], t, w, r->kept);
		if (w->anew || strcmp(verdict_of(&g[i], t, w), "slow") != 0)
			continue;
		if (++*slow <= SHOWN_MAX)
			line_slow(c, &g[i], t, w);
		else
			c->ok = c->ok && t->other != NULL;
	}
}

/* So many sets at a time. */
static int ask_some(struct link *l, struct check_lines *c, const struct gained *g, size_t n, const struct base_wish *w,
		    const char *env, unsigned *slow, struct err *e)
{
	struct rec_nccl_set sets[PAGE];
	struct rec_nccl_run runs[PAGE];
	struct msg q, m;
	int r;

	for (size_t i = 0; i < n; i++)
		fill(&g[i], w, env, &sets[i], &runs[i]);
	msg_init(&q, MSG_base_put);
	q.u.base_put.rid = link_id(l);
	q.u.base_put.sets = sets;
	q.u.base_put.n_sets = n;
	MSG_SET(&q.u.base_put, base_put, percent, w->percent);
	MSG_SET(&q.u.base_put, base_put, keep, l->coordinator);
	MSG_SET(&q.u.base_put, base_put, anew, w->anew);
	r = link_call(l, &q, q.u.base_put.rid, MSG_base_told, &m, e);
	if (r < 0)
		return r;
	take_told(c, g, n, &m.u.base_told, w, slow);
	msg_finish(&m);
	return 0;
}

void check_base(const struct ctl *c, struct check_lines *lines, const struct base_wish *w)
{
	struct gains g = { .n = 0 };
	unsigned slow = 0;
	struct link l;
	struct err e;
	int r = 0;

	gather(lines, w, &g);
	if (g.n > 0)
		r = check_base_link(c, &l, &e);
	for (size_t at = 0; at < g.n && r == 0; at += PAGE)
		r = ask_some(&l, lines, g.v + at, g.n - at < PAGE ? g.n - at : PAGE, w, g.env, &slow, &e);
	if (r < 0) {
		char text[400];

		snprintf(text, sizeof(text), "not compared with earlier runs: %.300s", e.text);
		line_note(lines, text);
	}
	if (slow > SHOWN_MAX) {
		char text[100];

		snprintf(text, sizeof(text), "%u more are below their baselines: --json names them", slow - SHOWN_MAX);
		line_note(lines, text);
	}
	if (g.n > 0)
		link_close(&l);
	gains_finish(&g);
}
