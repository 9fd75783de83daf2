/* devices.c - what the lists of GPUs and of ports have in common, see devices.h */
#include "client/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/render.h"
#include "client/status.h"

enum { HOSTS = 1 };
const struct opt devices_opts[] = {
	{ HOSTS, 'w', "hosts", "HOSTLIST", "of these nodes only: gpu[01-04,07]" },
	{ 0 },
};

static int by_trouble(const void *pa, const void *pb, void *arg)
{
	const struct device_kind *kind = arg;
	const struct device *a = pa, *b = pb;
	int c = a->rank - b->rank;

	if (!c)
		c = node_name_cmp(a->n->name, b->n->name);
	return c ? c : kind->compare(a, b);
}

static bool wanted(const struct hostlist *hosts, const struct rec_node_info *n)
{
	return !hosts || !hosts->count || hostlist_has(hosts, n->name);
}

int devices_find(const struct device_kind *kind, const struct rec_status *s,
		 const struct hostlist *hosts, struct devices *ret)
{
	struct devices d = { .wall_ms = s->wall_ms, .node = true };
	size_t total = 0;

	for (size_t i = 0; i < s->n_nodes; i++)
		total += kind->count(&s->nodes[i]);
	d.v = calloc(total + 1, sizeof(*d.v));
	if (!d.v)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_nodes; i++) {
		const struct rec_node_info *n = &s->nodes[i];
		size_t count = wanted(hosts, n) ? kind->count(n) : 0;

		for (size_t k = 0; k < count; k++) {
			kind->get(n, k, &d.v[d.n]);
			d.v[d.n++].n = n;
		}
	}
	qsort_r(d.v, d.n, sizeof(*d.v), by_trouble, (void *)(uintptr_t)kind);
	*ret = d;
	return 0;
}

void devices_finish(struct devices *d)
{
	free(d->v);
}

/* ---- cells --------------------------------------------------------------- */

void devices_node_cell(struct out *o, const struct devices *d, const struct device *one)
{
	if (d->node)
		out_cell(o, "NODE", OUT_SHRINK, OUT_PLAIN, "%s", one->n->name);
}

void devices_numa_cell(struct out *o, bool known, uint32_t numa)
{
	if (known)
		out_cell(o, "NUMA", OUT_SPARE | OUT_RIGHT, OUT_PLAIN, "%u", numa);
	else
		out_cell(o, "NUMA", OUT_SPARE | OUT_RIGHT, OUT_PLAIN, "?");
}

void devices_add_age(struct buf *b, const struct devices *d, int64_t then_ms)
{
	if (d->wall_ms < then_ms)
		buf_addc(b, '?');
	else
		render_age(b, (uint64_t)(d->wall_ms - then_ms));
}

/* ---- the commands -------------------------------------------------------- */

static int parse(struct ctl *c, struct hostlist *hosts)
{
	struct opts o;
	const char *value;
	struct err e;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == OPT_OPERAND)
			return ctl_usage(c, "\"%s\" is one word too many; for one node: nodectl %s -w %s", value,
					 c->cmd->verb, value);
		hostlist_finish(hosts);
		memset(hosts, 0, sizeof(*hosts));
		if (hostlist_parse(value, hosts, &e) < 0)
			return ctl_usage(c, "-w: %s", e.text);
	}
	return CTL_GO;
}

static void print_json(struct out *o, const struct device_kind *kind, const struct devices *d)
{
	out_start(o, kind->key, OUT_TABLE);
	for (size_t i = 0; i < d->n; i++) {
		out_start(o, NULL, OUT_ROW);
		out_str(o, "node", NULL, d->v[i].n->name);
		kind->json(o, &d->v[i]);
		out_end(o);
	}
	out_end(o);
}

static int print(const struct ctl *c, const struct device_kind *kind, const struct rec_status *s,
		 const struct hostlist *hosts)
{
	struct devices d;
	struct out *o;
	struct buf b;

	for (size_t i = 0; i < hosts->count; i++)
		if (!status_node(s, hosts->names[i]))
			return status_no_node(c, s, hosts->names[i]);
	if (devices_find(kind, s, hosts, &d) < 0)
		return ctl_fail(EXIT_REFUSED, "out of memory");
	o = ctl_out(c, &b);
	if (c->json)
		print_json(o, kind, &d);
	else if (d.n)
		kind->table(o, &d);
	else
		out_data(o, NULL, kind->none);
	devices_finish(&d);
	return ctl_print(o, &b);
}

int devices_run(struct ctl *c, const struct device_kind *kind)
{
	struct status_wish wish = { .detail = true };
	struct hostlist hosts = { 0 };
	struct gathered g;
	int r = parse(c, &hosts);

	if (hosts.count == 1)
		wish.node = hosts.names[0];
	if (r == CTL_GO)
		r = status_get(c, &wish, &g);
	if (r == CTL_GO) {
		r = print(c, kind, &g.all.u.status, &hosts);
		gather_finish(&g);
	}
	hostlist_finish(&hosts);
	return r;
}
