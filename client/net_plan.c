/* net_plan.c - see net_plan.h */
#include "client/net_plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "client/link.h"
#include "common/hostlist.h"
#include "common/json.h"
#include "common/nccl_conf.h"
#include "proto/features.h"

#define YOURS_MAX 48 /* of the 64 that a message takes: ours need room, too */

/* ---- shown -------------------------------------------------------------------- */

static const char *value_in(char *const *values, const char *name)
{
	size_t n = strlen(name);

	for (; values && *values; values++)
		if (strncmp(*values, name, n) == 0 && (*values)[n] == '=')
			return env_is_secret(name, n) ? NULL : *values + n + 1;
	return NULL;
}

static void set_row(struct out *o, const struct rec_net_set *s, bool nodes, char *const *values)
{
	const char *value = s->yours ? value_in(values, s->name) : s->value;
	struct buf b;

	buf_init(&b);
	out_start(o, NULL, OUT_ROW);
	out_str(o, "name", "SETTING", s->name);
	out_str(o, "value", NULL, value);
	out_str(o, "nodes", NULL, s->nodes);
	if (nodes)
		out_cell(o, "NODES", OUT_SHRINK, OUT_PLAIN, "%s", s->nodes ? s->nodes : "all");
	out_bool(o, "yours", NULL, s->yours);
	out_str(o, "why", NULL, s->why);
	buf_addf(&b, "%s%s%s", value ? value : s->yours ? "(yours)" : "-", s->why ? "  " : "", s->why ? s->why : "");
	out_attr(o, &(struct out_attr){ .title = "VALUE, AND WHY", .kind = OUT_STR, .s = buf_str(&b), .flags = OUT_WRAP,
					.tone = s->yours ? OUT_WARN : OUT_PLAIN });
	out_end(o);
	buf_finish(&b);
}

void net_plan_render(struct out *o, const struct rec_net_plan *p, bool one_node, char *const *values)
{
	bool nodes = false;

	if (!p) {
		out_null(o, "net");
		out_null(o, "net_text");
	} else {
		out_str(o, "net", NULL, p->asked ? p->asked : "auto");
		out_str(o, "net_text", p->text && (!one_node || p->n_sets) ? "network" : NULL, p->text);
	}
	for (size_t i = 0; p && i < p->n_sets; i++)
		nodes |= p->sets[i].nodes != NULL;
	out_start(o, "net_settings", OUT_TABLE);
	for (size_t i = 0; p && i < p->n_sets; i++)
		set_row(o, &p->sets[i], nodes, values);
	out_end(o);
}

/* ---- what the job brings along --------------------------------------------------- */

static bool is_about_net(const char *var)
{
	return strncmp(var, "NCCL_", 5) == 0 || strncmp(var, "GLOO_SOCKET_IFNAME=", 19) == 0 ||
	       strncmp(var, "TP_SOCKET_IFNAME=", 17) == 0;
}

/* In the environment, and says the opposite of --net. */
static const char *contradiction(const struct launch *w, const char *net)
{
	bool ib = strcmp(net, "ib") == 0;
	const char *disable = value_in(w->env.env, "NCCL_IB_DISABLE"), *kind = value_in(w->env.env, "NCCL_NET");

	if (ib && disable && *disable && strcmp(disable, "0") != 0)
		return "NCCL_IB_DISABLE";
	if (!kind || !*kind)
		return NULL;
	if (ib ? strcasecmp(kind, "Socket") == 0 : strcasecmp(kind, "Socket") != 0)
		return "NCCL_NET";
	return NULL;
}

static void add_yours(struct launch *w, const char *name, size_t n)
{
	struct rec_submit *m = &w->request.u.submit;

	if (n > 64 || m->n_net_yours == YOURS_MAX || !utf8_valid(name, n))
		return;
	w->yours[m->n_net_yours] = strndup(name, n);
	m->n_net_yours += w->yours[m->n_net_yours] != NULL;
}

/* In files of NCCL's; the shims look at those of their own hosts. */
static void add_conf(struct launch *w)
{
	struct nccl_conf conf = { 0 };

	nccl_conf_read(value_in(w->env.env, "HOME"), value_in(w->env.env, "NCCL_CONF_FILE"), &conf);
	for (size_t i = 0; i < conf.n; i++)
		if (!value_in(w->env.env, conf.names[i]))
			add_yours(w, conf.names[i], strlen(conf.names[i]));
}

int net_plan_yours(const struct ctl *c, struct launch *w)
{
	struct rec_submit *m = &w->request.u.submit;
	const char *against = m->net ? contradiction(w, m->net) : NULL;

	if (against)
		return ctl_usage(c, "--net %s contradicts %s=%s in the job's environment, which would win: leave one of them "
				    "out (unset %s)", m->net, against, value_in(w->env.env, against), against);
	w->yours = calloc(YOURS_MAX, sizeof(*w->yours));
	if (!w->yours)
		return ctl_fail(EXIT_REFUSED, "out of memory");
	for (size_t i = 0; i < w->env.count; i++)
		if (is_about_net(w->env.env[i]))
			add_yours(w, w->env.env[i], strcspn(w->env.env[i], "="));
	add_conf(w);
	m->net_yours = (const char **)w->yours;
	return CTL_GO;
}

/* ---- asked ------------------------------------------------------------------------- */

static int ask(const struct ctl *c, const struct launch *w, struct msg *ret, struct err *e)
{
	struct rec_submit s = w->request.u.submit;
	char path[4096];
	struct link l;
	struct msg m;
	int r = ctl_path(c, path, sizeof(path));

	if (r != CTL_GO)
		return err_set(e, EINVAL, "the path of the socket is too long");
	link_init(&l);
	r = link_open(&l, path, e);
	if (r < 0)
		return r;
	if (features_of_plan() & ~l.features) {
		r = err_set(e, ENOTSUP, "the agent at %s (version %s) makes no plans", path, l.software);
	} else {
		s.client_id = "plan";
		s.spec_size = 1; /* it is not sent */
		msg_init(&m, MSG_plan_get);
		m.u.plan_get.rid = link_id(&l);
		m.u.plan_get.submit = &s;
		m.u.plan_get.n_submit = 1;
		r = link_call(&l, &m, m.u.plan_get.rid, MSG_plan, ret, e);
	}
	link_close(&l);
	return r;
}

static void no_plan(struct out *o, const struct launch *w, const struct err *e)
{
	const char *asked = w->request.u.submit.net;
	char text[1200];

	snprintf(text, sizeof(text), "not known: %.1000s", e->text);
	out_null(o, "plan_nodes");
	out_str(o, "plan_text", "network", text);
	out_str(o, "net", NULL, asked ? asked : "auto");
	out_null(o, "net_text");
	out_start(o, "net_settings", OUT_TABLE);
	out_end(o);
	out_start(o, "plan_notices", OUT_LINES);
	out_end(o);
}

/* A list for people, names for programs. */
static void nodes_line(struct out *o, const char *nodes, bool starts)
{
	struct hostlist h = { 0 };

	if (nodes && hostlist_parse(nodes, &h, NULL) == 0)
		out_strs(o, "plan_nodes", NULL, (const char *const *)h.names, h.count);
	else
		out_null(o, "plan_nodes");
	out_str(o, NULL, nodes && starts ? "now it would get" : NULL, nodes);
	hostlist_finish(&h);
}

bool net_plan_ask(const struct ctl *c, const struct launch *w, struct out *o)
{
	const struct rec_plan *p;
	bool starts;
	struct msg m;
	struct err e;

	msg_init(&m, MSG_plan);
	if (ask(c, w, &m, &e) < 0) {
		no_plan(o, w, &e);
		return true;
	}
	p = &m.u.plan;
	starts = p->text == NULL;
	nodes_line(o, p->nodes, starts);
	out_str(o, "plan_text", p->text ? p->nodes ? "it would not start" : "it would wait, or not be taken" : NULL, p->text);
	if (starts || !p->nodes || c->json) /* else it is refused, and nothing of this would be set */
		net_plan_render(o, p->n_net ? p->net : NULL, w->request.u.submit.nnodes == 1, w->env.env);
	out_start(o, "plan_notices", OUT_LINES);
	for (size_t i = 0; i < p->n_notices; i++)
		out_line(o, OUT_WARN, p->notices[i]);
	out_end(o);
	msg_finish(&m);
	return starts;
}
