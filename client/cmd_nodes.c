/* cmd_nodes.c - nodectl nodes: a row for each node, however many there are */
#include "client/node_json.h"
#include "client/nodes.h"
#include "client/status.h"
#include "client/term.h"

static void print_json(struct out *o, const struct rec_status *s)
{
	out_start(o, "nodes", OUT_TABLE);
	for (size_t i = 0; i < s->n_nodes; i++) {
		out_start(o, NULL, OUT_ROW);
		node_json(o, &s->nodes[i], false);
		out_end(o);
	}
	out_end(o);
}

static int run(struct ctl *c)
{
	struct nodes_view view = { .age = true, .columns = term_columns(1) };
	struct gathered g;
	struct out *o;
	struct buf b;
	int r = ctl_operands(c, NULL, 0);

	if (r == CTL_GO)
		r = status_get(c, &(struct status_wish){ .detail = c->json }, &g);
	if (r != CTL_GO)
		return r;
	o = ctl_out(c, &b);
	if (c->json)
		print_json(o, &g.all.u.status);
	else if (g.all.u.status.n_nodes)
		nodes_table(o, &g.all.u.status, &view);
	else
		out_data(o, NULL, "no nodes yet; nodectl token create lets one join");
	gather_finish(&g);
	return ctl_print(o, &b);
}

const struct command cmd_nodes = {
	.verb = "nodes",
	.args = "",
	.brief = "the nodes: state, GPUs, ports, clock, jobs",
	.run = run,
};
