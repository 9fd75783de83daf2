/* cmd_drain.c - nodectl drain NODES, nodectl resume NODES: nodes that get no new jobs */
#include <stdlib.h>
#include <string.h>

#include "client/commands.h"
#include "common/hostlist.h"

#define WHY_MAX 256

enum { WHY = 1 };
static const struct opt drain_opts[] = {
	{ WHY, 0, "why", "TEXT", "what is told to those who wait for the nodes, and in all lists" },
	{ 0 },
};

static int ask(struct ctl *c, const char *list, const char *why, bool resume, struct msg *ret)
{
	struct msg m;
	struct link l;
	int r = ctl_connect(c, &l);

	if (r != CTL_GO)
		return r;
	msg_init(&m, MSG_node_drain);
	m.u.node_drain.rid = link_id(&l);
	m.u.node_drain.nodes = list;
	m.u.node_drain.why = why;
	if (resume)
		MSG_SET(&m.u.node_drain, node_drain, resume, true);
	r = ctl_call(&l, &m, m.u.node_drain.rid, MSG_ok, ret);
	link_close(&l);
	return r;
}

static int print(struct ctl *c, const struct hostlist *h, bool resume, const char *text)
{
	struct buf b;
	struct out *o = ctl_out(c, &b);

	out_strs(o, "nodes", NULL, (const char *const *)h->names, h->count);
	out_bool(o, "drained", NULL, !resume);
	out_data(o, "text", text != NULL ? text : "done");
	return ctl_print(o, &b);
}

static int change(struct ctl *c, const char *list, const char *why, bool resume)
{
	struct hostlist h;
	struct msg answer;
	struct err e;
	int r;

	if (hostlist_parse(list, &h, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	r = ask(c, list, why, resume, &answer);
	if (r == CTL_GO) {
		r = print(c, &h, resume, answer.u.ok.text);
		msg_finish(&answer);
	}
	hostlist_finish(&h);
	return r;
}

/* The nodes, and the value of --why where the command has it. */
static int read_line(struct ctl *c, const char **ret_list, const char **ret_why)
{
	struct opts o;
	const char *value;
	int id, out;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &out)) != OPT_END) {
		if (out != CTL_GO)
			return out;
		if (id == WHY)
			*ret_why = value;
		else if (*ret_list != NULL)
			return ctl_usage(c, "\"%s\" is one word too many: nodectl %s %s", value, c->cmd->verb,
					 c->cmd->args);
		else
			*ret_list = value;
	}
	if (*ret_list == NULL)
		return ctl_usage(c, "the nodes are missing: nodectl %s %s", c->cmd->verb, c->cmd->args);
	if (*ret_why != NULL && strlen(*ret_why) > WHY_MAX)
		return ctl_usage(c, "--why may have %d bytes at most", WHY_MAX);
	return CTL_GO;
}

static int run_drain(struct ctl *c)
{
	const char *list = NULL, *why = NULL;
	int r = read_line(c, &list, &why);

	return r == CTL_GO ? change(c, list, why, false) : r;
}

static int run_resume(struct ctl *c)
{
	const char *list = NULL, *why = NULL;
	int r = read_line(c, &list, &why);

	return r == CTL_GO ? change(c, list, NULL, true) : r;
}

const struct command cmd_drain = {
	.verb = "drain",
	.args = "[--why TEXT] NODES",
	.brief = "give these nodes no new jobs (administrator)",
	.help = "The nodes (a host list: gpu[01-04],gpu07) get no new jobs; what runs there goes on. Jobs that wait for "
		"them are told why. It holds over restarts, until nodectl resume. Works on the coordinator's host only.",
	.opts = drain_opts,
	.run = run_drain,
	.admin = true,
};

const struct command cmd_resume = {
	.verb = "resume",
	.args = "NODES",
	.brief = "give them jobs again (administrator)",
	.help = "The nodes (a host list) get jobs again after nodectl drain. Also those that were left out because a "
		"process there cannot be killed: it may still hold memory, GPUs or files. Works on the coordinator's "
		"host only.",
	.run = run_resume,
	.admin = true,
};
