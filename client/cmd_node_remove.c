/* cmd_node_remove.c - nodectl node-remove NAME */
#include <stdio.h>

#include "client/commands.h"
#include "common/hostlist.h"

static int run(struct ctl *c)
{
	const char *name;
	char text[NODE_NAME_MAX + 64];
	struct msg m, answer;
	struct out *o;
	struct buf b;
	struct link l;
	int r = ctl_operands(c, &name, 1);

	if (r != CTL_GO)
		return r;
	if (!node_name_valid(name))
		return ctl_usage(c, "\"%s\" is no name of a node", name);
	r = ctl_connect(c, &l);
	if (r != CTL_GO)
		return r;
	msg_init(&m, MSG_node_remove);
	m.u.node_remove.rid = link_id(&l);
	m.u.node_remove.node = name;
	r = ctl_call(&l, &m, m.u.node_remove.rid, MSG_ok, &answer);
	if (r == CTL_GO) {
		const char *said = answer.u.ok.text;

		snprintf(text, sizeof(text), "%s is removed: its key is no longer accepted", name);
		o = ctl_out(c, &b);
		out_str(o, "node", NULL, name);
		out_data(o, "text", said && *said ? said : text);
		r = ctl_print(o, &b);
		msg_finish(&answer);
	}
	link_close(&l);
	return r;
}

const struct command cmd_node_remove = {
	.verb = "node-remove",
	.args = "NAME",
	.brief = "take a node out of the cluster (administrator)",
	.help = "Takes a node out of the cluster: its key is no longer accepted and its connections are closed. "
		"To come back it joins again with a new token. Works on the coordinator's host only.",
	.run = run,
	.admin = true,
};
