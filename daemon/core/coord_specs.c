/* coord_specs.c - which specifications the nodes where jobs were submitted must keep
 *
 * A node keeps a job's specification until the job is over for good. It is
 * told so when the end is on disk ('forget' with 'over'), and at each
 * registration it gets the whole list of its unfinished jobs, in case it was
 * away when one ended.
 */
#include "core/coord_internal.h"

#include <string.h>

#define USES_A_PIECE 8192 /* below 1 MiB */

static void send_piece(struct coord *c, struct clink *l, const struct rec_spec_use *v, size_t n,
		       bool more)
{
	struct msg m;

	msg_init(&m, MSG_specs_used);
	m.u.specs_used.uses = (struct rec_spec_use *)v;
	m.u.specs_used.n_uses = n;
	m.u.specs_used.more = more;
	act_send(c->out, l->id, &m);
}

/* Also jobs that are not on disk yet: their submit may have come over an
 * earlier session, whose answer is lost. */
void specs_tell(struct coord *c, const struct node *n)
{
	struct arena a;
	struct rec_spec_use *v;
	size_t k = 0;

	arena_init(&a);
	v = arena_alloc(&a, USES_A_PIECE * sizeof(*v));
	if (v == NULL) {
		c->oom = true;
		return;
	}
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (j->saved || strcmp(j->submit_node, n->name) != 0)
			continue;
		if (k == USES_A_PIECE) {
			send_piece(c, n->link, v, k, true);
			k = 0;
		}
		memset(&v[k], 0, sizeof(v[k]));
		v[k].job = j->id;
		v[k++].hash = (struct bytes){ j->spec_hash, 32 };
	}
	send_piece(c, n->link, v, k, false);
	arena_finish(&a);
}

void specs_over(struct coord *c, const struct job *j)
{
	const struct node *n = node_find(c, j->submit_node);
	struct msg m;

	if (n == NULL || n->link == NULL)
		return;
	msg_init(&m, MSG_forget);
	m.u.forget.job = j->id;
	m.u.forget.attempt = j->attempt;
	m.u.forget.over = true;
	act_send(c->out, n->link->id, &m);
}
