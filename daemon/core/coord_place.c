/* coord_place.c - which nodes a job gets
 *
 * Nodes are shared until GPUs are counted: a job takes the nodes with the
 * fewest jobs, ties in natural order of names; with a host list, the first
 * ones of the list that are usable. Node rank 0 is the first node of the host
 * list, or the first by name.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The nodes a job may use at all, in the order of preference. */
struct choice {
	struct node **v;
	size_t n;
};

static bool excluded(const struct hostlist *x, const char *name)
{
	return x->count > 0 && hostlist_has(x, name);
}

static int by_load(const void *a, const void *b)
{
	const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;

	if (x->jobs != y->jobs)
		return x->jobs < y->jobs ? -1 : 1;
	return node_name_cmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
	return node_name_cmp((*(struct node *const *)a)->name, (*(struct node *const *)b)->name);
}

static int choose_listed(struct coord *c, const struct hostlist *hosts, const struct hostlist *x,
			 struct choice *ret, struct err *e)
{
	ret->v = calloc(hosts->count, sizeof(struct node *));
	if (ret->v == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < hosts->count; i++) {
		struct node *n = node_find(c, hosts->names[i]);

		if (n == NULL)
			return err_set(e, EINVAL,
				       "no node named %s in the cluster %s; 'nodectl nodes' lists them",
				       hosts->names[i], c->cluster);
		if (!excluded(x, n->name))
			ret->v[ret->n++] = n;
	}
	return 0;
}

static int choose_any(struct coord *c, const struct hostlist *x, struct choice *ret)
{
	ret->v = calloc(c->n_nodes + 1, sizeof(struct node *));
	if (ret->v == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_nodes; i++)
		if (!excluded(x, c->nodes[i]->name))
			ret->v[ret->n++] = c->nodes[i];
	qsort(ret->v, ret->n, sizeof(struct node *), by_load);
	return 0;
}

/* Says for what the job waits: "waiting for 2 nodes: gpu03 is unreachable, ..." */
static void say_waiting(struct coord *c, struct job *j, const struct choice *ch, size_t usable)
{
	char list[400] = "";
	size_t len = 0, shown = 0, missing = 0;

	for (size_t i = 0; i < ch->n; i++) {
		if (node_usable(ch->v[i]))
			continue;
		missing++;
		if (shown == 4 || len > 300)
			continue;
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s is %s",
					shown ? ", " : "", ch->v[i]->name,
					ch->v[i]->jobs >= NODE_JOBS_MAX ? "full" : node_state(ch->v[i]));
		shown++;
	}
	if (missing > shown)
		snprintf(list + len, sizeof(list) - len, " and %zu more", missing - shown);
	coord_set_text(c, &j->why, "waiting for %u node%s, %zu of %zu can be used: %s", j->nnodes,
		       j->nnodes == 1 ? "" : "s", usable, ch->n, list);
}

static int take_nodes(struct coord *c, struct job *j, struct node **v)
{
	struct place *p = calloc(j->nnodes, sizeof(*p));

	if (p == NULL || job_alloc_ranks(j) < 0) {
		free(p);
		c->oom = true;
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < j->nnodes; i++) {
		p[i].node = v[i];
		p[i].phase = PL_ASSIGNED;
		snprintf(p[i].boot_id, sizeof(p[i].boot_id), "%s", v[i]->boot_id);
		v[i]->jobs++;
	}
	free(j->places);
	j->places = p;
	j->n_places = j->nnodes;
	j->attempt++;
	return 0;
}

static int place_from(struct coord *c, struct job *j, struct choice *ch, bool listed,
		      struct err *e)
{
	size_t usable = 0, n = 0;

	if (j->nnodes > ch->n)
		return err_set(e, EINVAL, "%u node%s asked for, but %s %zu", j->nnodes,
			       j->nnodes == 1 ? " was" : "s were",
			       listed ? "the host list less the excluded ones has"
				      : "this cluster less the excluded ones has",
			       ch->n);
	for (size_t i = 0; i < ch->n; i++)
		usable += node_usable(ch->v[i]);
	if (usable < j->nnodes) {
		say_waiting(c, j, ch, usable);
		return 0;
	}
	for (size_t i = 0; i < ch->n && n < j->nnodes; i++)
		if (node_usable(ch->v[i]))
			ch->v[n++] = ch->v[i];
	if (!listed)
		qsort(ch->v, n, sizeof(struct node *), by_name);
	return take_nodes(c, j, ch->v) < 0 ? -ENOMEM : 1;
}

int place_job(struct coord *c, struct job *j, struct err *e)
{
	struct hostlist hosts = { 0 }, x = { 0 };
	struct choice ch = { 0 };
	int r = 0;

	if (j->hosts != NULL)
		r = hostlist_parse(j->hosts, &hosts, e);
	if (r == 0 && j->exclude != NULL)
		r = hostlist_parse(j->exclude, &x, e);
	if (r == 0)
		r = hosts.count > 0 ? choose_listed(c, &hosts, &x, &ch, e)
				    : choose_any(c, &x, &ch);
	if (r == 0 && j->nnodes == 0)
		j->nnodes = hosts.count > 0 ? (uint32_t)ch.n : 1;
	if (r == 0 && j->nnodes == 0)
		r = err_set(e, EINVAL, "the host list less the excluded ones is empty");
	if (r == 0 && (uint64_t)j->nnodes * j->ppn > JOB_RANKS_MAX)
		r = err_set(e, EINVAL, "%u nodes x %u processes are more than the %u one job may have",
			    j->nnodes, j->ppn, JOB_RANKS_MAX);
	if (r == 0 && j->nnodes > JOB_NODES_MAX)
		r = err_set(e, EINVAL, "%u nodes are more than the %u one job may have", j->nnodes,
			    JOB_NODES_MAX);
	if (r == 0)
		r = place_from(c, j, &ch, hosts.count > 0, e);
	free(ch.v);
	hostlist_finish(&hosts);
	hostlist_finish(&x);
	return r == -E2BIG ? -EINVAL : r;
}
