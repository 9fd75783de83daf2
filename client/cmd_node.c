/* cmd_node.c - nodectl node NAME: all that is known of one node */
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "client/render.h"
#include "client/status.h"

static const struct rec_node_info *find(const struct rec_status *s, const char *name)
{
	for (size_t i = 0; i < s->n_nodes; i++)
		if (strcmp(s->nodes[i].name, name) == 0)
			return &s->nodes[i];
	return NULL;
}

static int no_such_node(const struct rec_status *s, const char *name)
{
	const char **names = calloc(s->n_nodes + 1, sizeof(*names)), *close;
	int r;

	for (size_t i = 0; names && i < s->n_nodes; i++)
		names[i] = s->nodes[i].name;
	close = names ? opts_nearest(name, names) : NULL;
	if (close)
		r = ctl_fail(EXIT_REFUSED, "there is no node \"%s\"; did you mean \"%s\"?", name, close);
	else
		r = ctl_fail(EXIT_REFUSED, "there is no node \"%s\"; nodectl nodes lists them", name);
	free(names);
	return r;
}

/* For people in lines; programs get the same object as in status. */
static int print_node(const struct ctl *c, const struct rec_node_info *n)
{
	struct out *o;
	struct buf b, age;

	o = ctl_out(c, &b);
	if (c->json) {
		render_node_row(o, n);
		return ctl_print(o, &b);
	}
	buf_init(&age);
	if (MSG_HAS(n, node_info, age_ms)) {
		render_age(&age, n->age_ms);
		buf_adds(&age, " ago");
	}
	out_str(o, NULL, "node", n->name);
	out_str(o, NULL, "state", n->state);
	if (n->note && *n->note)
		out_str(o, NULL, "note", n->note);
	out_str(o, NULL, "heard", age.len ? buf_str(&age) : "never");
	out_nums(o, NULL, "jobs", n->job_ids, n->n_job_ids);
	out_str(o, NULL, "address", n->address);
	if (n->cpus)
		out_uint(o, NULL, "cpus", n->cpus);
	out_str(o, NULL, "software", n->software);
	out_str(o, NULL, "boot id", n->boot_id);
	out_str(o, NULL, "may submit", n->submit ? "yes, jobs on any node" : "jobs on itself only");
	buf_finish(&age);
	return ctl_print(o, &b);
}

static int run(struct ctl *c)
{
	const struct rec_node_info *n;
	const char *name;
	struct gathered g;
	struct link l;
	int r = ctl_operands(c, &name, 1);

	if (r == CTL_GO)
		r = ctl_connect(c, &l);
	if (r != CTL_GO)
		return r;
	r = status_ask(&l, &g);
	if (r == CTL_GO) {
		n = find(&g.all.u.status, name);
		r = n ? print_node(c, n) : no_such_node(&g.all.u.status, name);
		gather_finish(&g);
	}
	link_close(&l);
	return r;
}

const struct command cmd_node = {
	.verb = "node",
	.args = "NAME",
	.brief = "one node: its state, its jobs, its host",
	.run = run,
};
