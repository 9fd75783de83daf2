/* coord_topology.c - a node's topology is asked for when somebody wants to see it
 *
 * It is large and hardly ever looked at, so agents keep it: the question is
 * passed on, and the status that was asked for is sent when the answer comes,
 * or without it after a while.
 */
#include "core/coord_internal.h"

#include <stdlib.h>

#define WAIT_MS 5000
#define ASKED_MAX 64

struct asked {
	uint32_t rid; /* ours */
	uint64_t link; /* who wants it */
	struct rec_status_get get; /* its strings are not used later */
	struct node *node;
	mono_t until;
	struct list all;
};

static void answer(struct coord *c, struct asked *x, const struct rec_topology *t)
{
	struct clink *l = coord_link_open(c, x->link);

	if (l != NULL)
		answer_one_node(c, l, &x->get, x->node, t);
	list_remove(&x->all);
	free(x);
}

bool topology_asked(const struct coord *c, uint64_t link)
{
	list_foreach(e, &c->asked)
		if (list_entry(e, struct asked, all)->link == link)
			return true;
	return false;
}

bool topology_ask(struct coord *c, struct clink *l, const struct rec_status_get *g, struct node *n)
{
	struct asked *x;
	struct msg m;
	size_t some = 0;

	list_foreach(e, &c->asked)
		some++;
	if (n->link == NULL || n->silent || some >= ASKED_MAX)
		return false;
	x = calloc(1, sizeof(*x));
	if (x == NULL) {
		c->oom = true;
		return false;
	}
	x->rid = ++c->next_asked;
	x->link = l->id;
	x->get = *g;
	x->get.node = NULL;
	x->node = n;
	x->until = mono_add_ms(c->now, WAIT_MS);
	coord_wake_at(c, x->until);
	list_append(&c->asked, &x->all);
	msg_init(&m, MSG_topology_get);
	m.u.topology_get.rid = x->rid;
	act_send(c->out, n->link->id, &m);
	return true;
}

void topology_on(struct coord *c, struct node *n, const struct rec_topology *t)
{
	list_foreach_safe(e, &c->asked) {
		struct asked *x = list_entry(e, struct asked, all);

		if (x->rid == t->rid && x->node == n) {
			answer(c, x, t);
			return;
		}
	}
}

void topology_deadlines(struct coord *c)
{
	list_foreach_safe(e, &c->asked) {
		struct asked *x = list_entry(e, struct asked, all);

		if (mono_due(x->until, c->now))
			answer(c, x, NULL);
		else
			coord_wake_at(c, x->until);
	}
}

void topology_free(struct coord *c)
{
	list_foreach_safe(e, &c->asked)
		free(list_entry(e, struct asked, all));
}
