/* check_history.c - nodectl check nccl --history: the runs that the coordinator keeps */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/check_base.h"
#include "common/hostlist.h"

struct kept {
	struct msg *pages;
	size_t n_pages;
	const struct rec_nccl_set **sets;
	size_t n;
};

static void kept_finish(struct kept *k)
{
	for (size_t i = 0; i < k->n_pages; i++)
		msg_finish(&k->pages[i]);
	free(k->pages);
	free(k->sets);
}

/* Takes the page over. */
static int add_page(struct kept *k, struct msg *m)
{
	struct msg *pages = realloc(k->pages, (k->n_pages + 1) * sizeof(*pages));
	const struct rec_nccl_set **sets = NULL;

	if (pages != NULL) {
		k->pages = pages;
		sets = realloc(k->sets, (k->n + m->u.base_list.n_sets + 1) * sizeof(*sets)); /* NOLINT: a table of pointers */
	}
	if (sets == NULL) {
		msg_finish(m);
		return -ENOMEM;
	}
	k->sets = sets;
	k->pages[k->n_pages++] = *m;
	for (size_t i = 0; i < m->u.base_list.n_sets; i++)
		k->sets[k->n++] = &m->u.base_list.sets[i]; /* in the page's memory, wherever its head lies */
	return 0;
}

static int fetch(struct link *l, const char *nodes, struct kept *k, struct err *e)
{
	bool more = true;
	struct msg q, m;
	int r = 0;

	msg_init(&q, MSG_base_get);
	q.u.base_get.nodes = nodes;
	while (r == 0 && more) {
		q.u.base_get.rid = link_id(l);
		r = link_call(l, &q, q.u.base_get.rid, MSG_base_list, &m, e);
		if (r < 0)
			return r;
		more = m.u.base_list.more && m.u.base_list.n_sets > 0;
		MSG_SET(&q.u.base_get, base_get, after, m.u.base_list.last);
		r = add_page(k, &m);
	}
	return r < 0 ? err_set(e, ENOMEM, "out of memory") : 0;
}

/* Inside before between, then by name; of one set's conditions the newest first. */
static int in_order(const void *x, const void *y)
{
	const struct rec_nccl_set *a = *(const struct rec_nccl_set *const *)x, *b = *(const struct rec_nccl_set *const *)y;
	int r = strcmp(b->scope, a->scope); /* "inside" > "between" */

	if (r == 0)
		r = node_name_cmp(a->nodes, b->nodes);
	if (r == 0 && a->n_runs > 0 && b->n_runs > 0)
		r = a->runs[a->n_runs - 1].wall_ms > b->runs[b->n_runs - 1].wall_ms ? -1 : 1;
	return r;
}

static uint32_t speed_of(const struct rec_nccl_speed *v, size_t n, const char *op)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i].op, op) == 0)
			return v[i].mb_s;
	return 0;
}

/* The operation that is shown: all_reduce where it is there. */
static const char *shown_op(const struct rec_nccl_run *r)
{
	if (r->n_speeds == 0 || speed_of(r->speeds, r->n_speeds, "all_reduce") > 0)
		return "all_reduce";
	return r->speeds[0].op;
}

/* settings: somebody's differ from none, and have to be told apart. */
static void text_run(struct out *o, const struct rec_nccl_set *s, const struct rec_nccl_run *r, bool settings)
{
	const char *op = shown_op(r);
	uint32_t is = speed_of(r->speeds, r->n_speeds, op), base = speed_of(s->base, s->n_base, op);
	time_t t = (time_t)(r->wall_ms / 1000);
	char when[32];
	struct tm tm;

	strftime(when, sizeof(when), "%Y-%m-%d %H:%M", localtime_r(&t, &tm));
	out_start(o, NULL, OUT_ROW);
	out_cell(o, "WHERE", OUT_SHRINK, OUT_PLAIN, "%s%s", strcmp(s->scope, "inside") == 0 ? "" : "between ", s->nodes);
	out_cell(o, "GPUS", OUT_RIGHT, OUT_PLAIN, "%u", s->ranks);
	out_str(o, NULL, "WHEN", when);
	out_cell(o, "GB/S", OUT_RIGHT, OUT_PLAIN, "%.1f", is / 1000.0);
	if (base > 0)
		out_cell(o, "OF BASE", OUT_RIGHT, OUT_PLAIN, "%.0f %%", 100.0 * is / base);
	else
		out_cell(o, "OF BASE", OUT_RIGHT, OUT_PLAIN, "-");
	out_cell(o, "COUNTS", 0, r->good ? OUT_PLAIN : OUT_WARN, "%s", r->good ? "yes" : "no");
	if (settings)
		out_cell(o, "SETTINGS", OUT_SHRINK, OUT_PLAIN, "%s", s->env != NULL && *s->env ? s->env : "-");
	out_cell(o, "OVER", OUT_SPARE, OUT_PLAIN, "%s", r->how != NULL ? r->how : "-");
	out_cell(o, "NCCL", OUT_SPARE, OUT_PLAIN, "%s", s->nccl != NULL ? s->nccl : "-");
	out_cell(o, "MIB", OUT_SPARE | OUT_RIGHT, OUT_PLAIN, "%u", s->mib);
	out_cell(o, "OPERATION", OUT_SPARE, OUT_PLAIN, "%s", op);
	out_cell(o, "BY", OUT_SPARE, OUT_PLAIN, "%s", r->by != NULL ? r->by : "-");
	out_cell(o, "DRIVER", OUT_SPARE, OUT_PLAIN, "%s", s->driver != NULL && *s->driver ? s->driver : "-");
	out_cell(o, "GPU", OUT_SPARE, OUT_PLAIN, "%s", s->gpu != NULL && *s->gpu ? s->gpu : "-");
	out_end(o);
}

static void json_speeds(struct out *o, const char *key, const struct rec_nccl_speed *v, size_t n)
{
	out_start(o, key, OUT_TABLE);
	for (size_t i = 0; i < n; i++) {
		out_start(o, NULL, OUT_ROW);
		out_str(o, "op", NULL, v[i].op);
		out_num(o, "busbw", NULL, v[i].mb_s / 1000.0);
		out_end(o);
	}
	out_end(o);
}

static void json_run(struct out *o, const struct rec_nccl_run *r)
{
	out_start(o, NULL, OUT_ROW);
	out_int(o, "time_ms", NULL, r->wall_ms);
	out_str(o, "by", NULL, r->by);
	out_bool(o, "counts", NULL, r->good);
	out_str(o, "transport", NULL, r->how);
	json_speeds(o, "speeds", r->speeds, r->n_speeds);
	out_end(o);
}

static void json_set(struct out *o, const struct rec_nccl_set *s)
{
	out_start(o, NULL, OUT_ROW);
	out_str(o, "scope", NULL, s->scope);
	out_str(o, "nodes", NULL, s->nodes);
	out_uint(o, "ranks", NULL, s->ranks);
	out_uint(o, "mib", NULL, s->mib);
	out_str(o, "gpu", NULL, s->gpu);
	out_str(o, "nccl", NULL, s->nccl);
	out_str(o, "driver", NULL, s->driver);
	out_str(o, "settings", NULL, s->env);
	out_uint(o, "good", NULL, s->good);
	out_bool(o, "slow", NULL, s->slow);
	json_speeds(o, "baseline", s->base, s->n_base);
	out_start(o, "runs", OUT_TABLE);
	for (size_t i = 0; i < s->n_runs; i++)
		json_run(o, &s->runs[i]);
	out_end(o);
	out_end(o);
}

static int show(struct ctl *c, const struct kept *k)
{
	bool settings = false;
	struct buf b;
	struct out *o;

	if (k->n == 0 && !c->json) {
		puts("no run is kept yet: an administrator's 'nodectl check nccl' on the coordinator's host is");
		return 0;
	}
	for (size_t i = 0; i < k->n; i++)
		settings = settings || (k->sets[i]->env != NULL && *k->sets[i]->env);
	o = ctl_out(c, &b);
	out_start(o, "sets", OUT_TABLE);
	for (size_t i = 0; i < k->n; i++)
		if (c->json)
			json_set(o, k->sets[i]);
		else
			for (size_t r = k->sets[i]->n_runs; r-- > 0;)
				text_run(o, k->sets[i], &k->sets[i]->runs[r], settings);
	out_end(o);
	return ctl_print(o, &b);
}

int check_history(struct ctl *c, const char *nodes)
{
	struct kept k = { .n = 0 };
	struct hostlist h;
	struct link l;
	struct err e;
	int r;

	if (nodes != NULL) {
		if (hostlist_parse(nodes, &h, &e) < 0)
			return ctl_usage(c, "-w: %s", e.text);
		hostlist_finish(&h);
	}
	r = check_base_link(c, &l, &e);
	if (r == 0) {
		r = fetch(&l, nodes, &k, &e);
		link_close(&l);
	}
	if (r < 0) {
		kept_finish(&k);
		return ctl_fail(r == -EPERM || r == -ENOTSUP ? EXIT_REFUSED : EXIT_UNREACHABLE, "%s", e.text);
	}
	if (k.n > 0)
		qsort(k.sets, k.n, sizeof(*k.sets), in_order);
	r = show(c, &k);
	kept_finish(&k);
	return r;
}
