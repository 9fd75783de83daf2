/* coord_explain.c - gathers what explain.c puts into one paragraph
 *
 * Of a job that is over its nodes are not asked: how they are now is not how they
 * were then. What mattered then is in its causes and its story.
 */
#include "core/coord_internal.h"

#include "core/explain.h"

#define NODES_LOOKED_AT 64u /* the explanation has room for few of them anyway */

static bool see(struct arena *a, struct coord *c, struct node *n, struct explain_node *ret)
{
	struct verdicts *v = arena_alloc(a, sizeof(*v));

	if (v == NULL)
		return false;
	*ret = (struct explain_node){ .name = n->name, .state = node_state(n), .ever_read = node_readings(n) != NULL || !n->probe };
	if (n->ever)
		ret->silent_ms = (uint64_t)mono_sub_ms(c->now, n->heard);
	if (n->link == NULL)
		return true;
	verdicts_of(a, c, n, v, NULL);
	ret->v = v->v;
	ret->n = v->n;
	return true;
}

void explain_fill(struct arena *a, struct coord *c, struct job *j, struct rec_job_info *i)
{
	struct explain_in in = { .job = i, .wall_ms = c->wall_ms };
	size_t n = j->n_places < NODES_LOOKED_AT ? j->n_places : NODES_LOOKED_AT;
	struct explain_node *v = arena_alloc(a, (n + 1) * sizeof(*v));

	for (size_t k = 0; v != NULL && !job_over(j) && !j->between && k < n; k++)
		if (see(a, c, j->places[k].node, &v[in.n_nodes]))
			in.n_nodes++;
	in.nodes = v;
	i->explained = v != NULL ? explain(a, &in) : NULL;
	i->n_explained = i->explained != NULL;
	c->oom = c->oom || i->explained == NULL;
}
