/* topology.c - how near GPUs and NICs of a node are to each other, see topology.h */
#include "client/topology.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "client/reading.h"
#include "client/term.h"
#include "common/arena.h"
#include "common/hostlist.h"

#define GAP 2u
#define ROW_MAX 20u /* devices in a row of one table */

/* Devices by name: GPUs first, each kind in natural order. */
struct devs {
	const char **names;
	size_t n, gpus;
	const char **how; /* n by n; NULL: not known */
};

static bool is_gpu(const char *name)
{
	return strncmp(name, "gpu", 3) == 0 && isdigit((unsigned char)name[3]);
}

static int by_name(const void *pa, const void *pb)
{
	const char *a = *(const char *const *)pa, *b = *(const char *const *)pb;
	int c = is_gpu(b) - is_gpu(a);

	return c ? c : node_name_cmp(a, b);
}

static size_t place(const struct devs *d, const char *name)
{
	const char **at = bsearch(&name, d->names, d->n, sizeof(*d->names), by_name);

	return (size_t)(at - d->names); /* every name is there */
}

/* False: nothing to show. */
static bool collect(const struct rec_node_info *n, struct devs *d)
{
	size_t count = n->n_topology * 2, kept = 0;

	memset(d, 0, sizeof(*d));
	d->names = calloc(count + 1, sizeof(*d->names));
	if (!d->names)
		return false;
	for (size_t i = 0; i < n->n_topology; i++) {
		d->names[i * 2] = n->topology[i].a;
		d->names[i * 2 + 1] = n->topology[i].b;
	}
	qsort(d->names, count, sizeof(*d->names), by_name);
	for (size_t i = 0; i < count; i++)
		if (!kept || strcmp(d->names[kept - 1], d->names[i]) != 0)
			d->names[kept++] = d->names[i];
	d->n = kept;
	while (d->gpus < kept && is_gpu(d->names[d->gpus]))
		d->gpus++;
	d->how = calloc(kept * kept + 1, sizeof(*d->how));
	for (size_t i = 0; d->how && i < n->n_topology; i++) {
		size_t a = place(d, n->topology[i].a), b = place(d, n->topology[i].b);

		d->how[a * kept + b] = d->how[b * kept + a] = n->topology[i].how;
	}
	return d->how && kept;
}

/* Which devices make the rows, and which the columns. */
struct span {
	size_t from, to;
};

/* Columns that a table of these takes, or would. */
static unsigned width(const struct devs *d, struct span rows, struct span cols)
{
	unsigned first = 0, all = 0;

	for (size_t i = rows.from; i < rows.to; i++)
		if (term_width(d->names[i]) > first)
			first = term_width(d->names[i]);
	for (size_t i = cols.from; i < cols.to; i++) {
		unsigned w = term_width(d->names[i]);

		all += GAP + (w < 4 ? 4 : w); /* "NODE" */
	}
	return first + all;
}

static void matrix_row(struct out *o, const struct devs *d, size_t row, struct span cols)
{
	out_start(o, NULL, OUT_ROW);
	out_cell(o, "", 0, OUT_PLAIN, "%s", d->names[row]);
	for (size_t i = cols.from; i < cols.to; i++) {
		const char *how = d->how[row * d->n + i];

		out_cell(o, d->names[i], 0, OUT_PLAIN, "%s", i == row ? "X" : how ? how : "?");
	}
	out_end(o);
}

/* One table, or several side by side one below the other. */
static void matrix(struct out *o, const struct devs *d, struct span rows, struct span cols, unsigned columns)
{
	while (rows.from < rows.to && cols.from < cols.to) {
		struct span part = cols;

		while (part.to > part.from + 1 &&
		       (part.to - part.from > ROW_MAX || width(d, rows, part) > columns))
			part.to--;
		out_start(o, "topology", OUT_TABLE);
		for (size_t i = rows.from; i < rows.to; i++)
			matrix_row(o, d, i, part);
		out_end(o);
		cols.from = part.to;
	}
}

static void matrices(struct out *o, const struct devs *d, unsigned columns)
{
	struct span gpus = { 0, d->gpus }, nics = { d->gpus, d->n }, all = { 0, d->n };

	if (d->n <= ROW_MAX && width(d, gpus, all) <= columns) {
		matrix(o, d, gpus, all, columns);
		return;
	}
	matrix(o, d, gpus, gpus, columns);
	matrix(o, d, nics, gpus, columns);
}

/* ---- NUMA ---------------------------------------------------------------- */

/* Appends the names as a host list: "mlx5_[0-3]". Takes the array. */
static void add_list(struct buf *b, const char **names, size_t n)
{
	char *list = n ? hostlist_format(names, n) : NULL;

	buf_adds(b, list ? list : "-");
	free(list);
	free(names);
}

static void numa_gpus(struct buf *b, const struct rec_node_info *n, uint32_t numa)
{
	const char **names = calloc(n->n_gpu_list + 1, sizeof(*names));
	size_t count = 0;
	struct arena a;

	arena_init(&a);
	for (size_t i = 0; names && i < n->n_gpu_list; i++) {
		const struct rec_gpu *g = &n->gpu_list[i];

		if (MSG_HAS(g, gpu, numa) && g->numa == numa)
			names[count] = arena_printf(&a, "gpu%u", g->index);
		count += names[count] != NULL;
	}
	add_list(b, names, count);
	arena_finish(&a);
}

static void numa_nics(struct buf *b, const struct rec_node_info *n, uint32_t numa)
{
	const char **names = calloc(n->n_port_list + 1, sizeof(*names));
	size_t count = 0;

	for (size_t i = 0; names && i < n->n_port_list; i++)
		if (MSG_HAS(&n->port_list[i], port, numa) && n->port_list[i].numa == numa)
			names[count++] = n->port_list[i].device; /* of two ports: twice, listed once */
	add_list(b, names, count);
}

static void numa_row(struct out *o, const struct rec_node_info *n, const struct rec_numa *u)
{
	struct buf b;

	buf_init(&b);
	out_start(o, NULL, OUT_ROW);
	out_cell(o, "NUMA", OUT_RIGHT, OUT_PLAIN, "%u", u->numa);
	out_cell(o, "CPUS", OUT_SHRINK, OUT_PLAIN, "%s", u->cpus ? u->cpus : "?");
	if (MSG_HAS(u, numa, mem))
		reading_bytes(&b, u->mem);
	out_cell(o, "MEM", OUT_RIGHT, OUT_PLAIN, "%s", b.len ? buf_str(&b) : "?");
	buf_reset(&b);
	numa_gpus(&b, n, u->numa);
	out_cell(o, "GPUS", 0, OUT_PLAIN, "%s", buf_str(&b));
	buf_reset(&b);
	numa_nics(&b, n, u->numa);
	out_cell(o, "NICS", OUT_SHRINK, OUT_PLAIN, "%s", buf_str(&b));
	out_end(o);
	buf_finish(&b);
}

void topology_tables(struct out *o, const struct rec_node_info *n, unsigned columns)
{
	struct devs d;

	if (collect(n, &d))
		matrices(o, &d, columns);
	out_start(o, "numa", OUT_TABLE);
	for (size_t i = 0; i < n->n_numa; i++)
		numa_row(o, n, &n->numa[i]);
	out_end(o);
	if (d.n)
		out_data(o, NULL, "\nPIX one PCIe switch, PXB several, PHB the CPU's host bridge, NODE one NUMA node, SYS between "
				  "NUMA nodes");
	else if (n->n_numa)
		out_data(o, NULL, "\nThere are no two GPUs or NICs here to relate to each other.");
	else
		out_data(o, NULL, "\nThe topology is not known.");
	free(d.names);
	free(d.how);
}
