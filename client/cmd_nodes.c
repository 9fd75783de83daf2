/* cmd_nodes.c - nodectl nodes: the table of nodes */
#include <string.h>

#include "client/commands.h"
#include "client/render.h"
#include "client/status.h"

int status_ask(struct link *l, struct gathered *ret)
{
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = link_id(l);
	return ctl_gather(l, &m, m.u.status_get.rid, MSG_status, ret);
}

void status_nodes(struct out *o, const struct rec_status *s)
{
	out_start(o, "nodes", OUT_TABLE);
	for (size_t i = 0; i < s->n_nodes; i++) {
		out_start(o, NULL, OUT_ROW);
		render_node_row(o, &s->nodes[i]);
		out_end(o);
	}
	out_end(o);
}

void status_count_states(struct buf *b, const struct rec_status *s)
{
	static const char *const states[] = { "unreachable", "down", "quarantined" };

	for (size_t k = 0; k < sizeof(states) / sizeof(states[0]); k++) {
		size_t n = 0;

		for (size_t i = 0; i < s->n_nodes; i++)
			n += strcmp(s->nodes[i].state, states[k]) == 0;
		if (n)
			buf_addf(b, ", %zu %s", n, states[k]);
	}
}

static int run(struct ctl *c)
{
	struct gathered g;
	struct link l;
	struct out *o;
	struct buf b;
	int r = ctl_operands(c, NULL, 0);

	if (r == CTL_GO)
		r = ctl_connect(c, &l);
	if (r != CTL_GO)
		return r;
	r = status_ask(&l, &g);
	if (r == CTL_GO) {
		o = ctl_out(c, &b);
		status_nodes(o, &g.all.u.status);
		gather_finish(&g);
		r = ctl_print(o, &b);
	}
	link_close(&l);
	return r;
}

const struct command cmd_nodes = {
	.verb = "nodes",
	.args = "",
	.brief = "the nodes: state, jobs, when last heard",
	.run = run,
};
