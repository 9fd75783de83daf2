/* job_gpus.c - the GPUs that a job holds, see job_gpus.h
 *
 * The coordinator lists them in the order of node ranks. Lists of jobs come
 * without the names in that order; then a node is not named at all. */
#include "client/job_gpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/reading.h"
#include "common/hostlist.h"

#define INDICES_MAX 1024 /* GPUs of a node, as in messages.def */

static const char *node_of(const struct rec_job_info *j, size_t i)
{
	return i < j->n_node_names ? j->node_names[i] : NULL;
}

unsigned job_gpus_count(const struct rec_job_info *j)
{
	unsigned n = 0, first, last;

	for (size_t i = 0; i < j->n_gpus; i++)
		for (const char *list = j->gpus[i]; reading_range(&list, &first, &last);)
			n += last - first + 1;
	return n;
}

/* ---- for people ---------------------------------------------------------- */

struct share {
	const char *gpus, *node;
	size_t rank;
};

static int by_gpus(const void *pa, const void *pb)
{
	const struct share *a = pa, *b = pb;
	int c = strcmp(a->gpus, b->gpus);

	return c ? c : (a->rank > b->rank) - (a->rank < b->rank);
}

static void add_nodes(struct buf *b, const struct share *v, size_t n)
{
	const char **names = calloc(n, sizeof(*names));
	char *list = NULL;
	bool known = names != NULL;

	for (size_t i = 0; names && i < n; i++) {
		names[i] = v[i].node;
		known = known && v[i].node;
	}
	if (known)
		list = hostlist_format(names, n);
	if (list)
		buf_addf(b, " of %s", list);
	else
		buf_addf(b, " of %zu nodes", n);
	free(list);
	free(names);
}

/* Of a job that holds none (yet). */
static void add_wish(struct buf *b, uint32_t n)
{
	if (n)
		buf_addf(b, "%u of each node wanted", n);
	else
		buf_adds(b, "none wanted");
}

void job_gpus_text(struct buf *b, const struct rec_job_info *j)
{
	struct share *v = calloc(j->n_gpus + 1, sizeof(*v));

	if (!j->n_gpus && MSG_HAS(j, job_info, gpus_per_node))
		add_wish(b, j->gpus_per_node);
	for (size_t i = 0; v && i < j->n_gpus; i++)
		v[i] = (struct share){ *j->gpus[i] ? j->gpus[i] : "none", node_of(j, i), i };
	if (v)
		qsort(v, j->n_gpus, sizeof(*v), by_gpus);
	for (size_t i = 0, end; v && i < j->n_gpus; i = end) {
		for (end = i + 1; end < j->n_gpus && strcmp(v[end].gpus, v[i].gpus) == 0; end++)
			;
		buf_addf(b, "%s%s", i ? "; " : "", v[i].gpus);
		add_nodes(b, v + i, end - i);
	}
	free(v);
}

/* ---- for programs -------------------------------------------------------- */

static void indices_json(struct out *o, const char *list)
{
	char digits[INDICES_MAX][12];
	const char *names[INDICES_MAX];
	unsigned first, last;
	size_t n = 0;

	while (reading_range(&list, &first, &last))
		for (; first <= last && n < INDICES_MAX; first++, n++) {
			snprintf(digits[n], sizeof(digits[n]), "%u", first);
			names[n] = digits[n];
		}
	out_nums(o, "gpus", NULL, names, n);
}

void job_gpus_json(struct out *o, const struct rec_job_info *j)
{
	if (MSG_HAS(j, job_info, gpus_per_node))
		out_uint(o, "gpus_per_node", NULL, j->gpus_per_node);
	else
		out_null(o, "gpus_per_node");
	out_start(o, "gpus", OUT_TABLE);
	for (size_t i = 0; i < j->n_gpus; i++) {
		out_start(o, NULL, OUT_ROW);
		out_str(o, "node", NULL, node_of(j, i));
		indices_json(o, j->gpus[i]);
		out_end(o);
	}
	out_end(o);
}
