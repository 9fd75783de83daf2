/* status.c - asking for the state of the cluster, see status.h */
#include "client/status.h"

#include <stdlib.h>
#include <string.h>

void status_request(struct msg *m, const struct status_wish *wish)
{
	msg_init(m, MSG_status_get);
	m->u.status_get.detail = wish->detail;
	m->u.status_get.topology = wish->topology;
	m->u.status_get.node = wish->node;
}

int status_get(const struct ctl *c, const struct status_wish *wish, struct gathered *ret)
{
	struct link l;
	struct msg m;
	int r = ctl_connect(c, &l);

	if (r != CTL_GO)
		return r;
	status_request(&m, wish);
	m.u.status_get.rid = link_id(&l);
	r = ctl_gather(&l, &m, m.u.status_get.rid, MSG_status, ret);
	link_close(&l);
	return r;
}

bool status_has_none(const struct ctl *c, const char *group)
{
	char path[4096];
	struct gathered g;
	struct link l;
	struct msg m;
	struct err e;
	bool none;

	if (ctl_path(c, path, sizeof(path)) != CTL_GO)
		return false;
	link_init(&l);
	l.coordinator = c->cmd->admin;
	if (link_open(&l, path, &e) < 0)
		return false;
	msg_init(&m, MSG_checks_get);
	m.u.checks_get.rid = link_id(&l);
	m.u.checks_get.id = group;
	none = gather_call(&l, &m, m.u.checks_get.rid, MSG_checks, &g, &e) == 0;
	if (none) {
		const struct rec_checks *k = &g.all.u.checks;

		none = k->nodes > 0 && k->unread == 0 && k->ok + k->warn + k->bad + k->unknown == 0;
		gather_finish(&g);
	}
	link_close(&l);
	return none;
}

const struct rec_node_info *status_node(const struct rec_status *s, const char *name)
{
	for (size_t i = 0; i < s->n_nodes; i++)
		if (strcmp(s->nodes[i].name, name) == 0)
			return &s->nodes[i];
	return NULL;
}

static int suggest(const struct rec_status *s, const char *name)
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

int status_no_node(const struct ctl *c, const struct rec_status *s, const char *name)
{
	struct gathered all;
	int r;

	if (s->n_nodes)
		return suggest(s, name);
	/* asked for one node, we know no others */
	r = status_get(c, &(struct status_wish){ 0 }, &all);
	if (r != CTL_GO)
		return r;
	r = suggest(&all.all.u.status, name);
	gather_finish(&all);
	return r;
}
