/* cmd_node_remove.c - nodectl node-remove NAME */
#include <stdio.h>

#include "client/commands.h"
#include "common/hostlist.h"

enum { FORCE = 1 };
static const struct opt opts[] = {
	{ FORCE, 0, "force", NULL, "also while jobs run there, or wait for it to come back" },
	{ 0 },
};

static int read_line(struct ctl *c, const char **ret_name, bool *ret_force)
{
	struct opts o;
	const char *value;
	int id, out;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &out)) != OPT_END) {
		if (out != CTL_GO)
			return out;
		if (id == FORCE)
			*ret_force = true;
		else if (*ret_name)
			return ctl_usage(c, "\"%s\" is one word too many: nodectl %s %s", value, c->cmd->verb, c->cmd->args);
		else
			*ret_name = value;
	}
	if (!*ret_name)
		return ctl_usage(c, "which node? nodectl nodes lists them");
	return CTL_GO;
}

static int run(struct ctl *c)
{
	const char *name = NULL;
	bool force = false;
	char text[NODE_NAME_MAX + 64];
	struct msg m, answer;
	struct out *o;
	struct buf b;
	struct link l;
	int r = read_line(c, &name, &force);

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
	if (force)
		MSG_SET(&m.u.node_remove, node_remove, force, true);
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
	.args = "[--force] NAME",
	.brief = "take a node out of the cluster (administrator)",
	.help = "Takes a node out of the cluster: its key is no longer accepted and its connections are closed. "
		"To come back it joins again with a new token. Refused while jobs hold the node, unless with --force: "
		"their ranks there count as lost. Works on the coordinator's host only.",
	.opts = opts,
	.run = run,
	.admin = true,
};
