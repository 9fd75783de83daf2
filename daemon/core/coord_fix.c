/* coord_fix.c - nodectl fix sm: the subnet manager found, and restarted by the launcher of its host
 *
 *   looked for   everybody may ask, over any agent
 *   restarted    administrators, on our own socket: the node's agent is told which of two units, and
 *                asks its launcher; that one's policy decides (root's own file on that host)
 *
 * One at a time for a node. What became of it is an event, also when whoever asked has left.
 *
 * Not promised: that an order is carried out once only. An agent that was restarted while its launcher
 * worked says nothing, and the administrator is told to look.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/sm_unit.h"
#include "core/sm_find.h"

#define WAIT_MS 40000 /* longer than a launcher takes, and shorter than nodectl waits */

struct fixing {
	uint32_t rid; /* ours */
	uint64_t link;
	uint32_t client_rid;
	char node[NODE_NAME_MAX + 1];
	char who[65];
	uint32_t unit;
	bool enable, was_running, was_enabled;
	mono_t until;
	struct list all;
};

/* ---- found ---------------------------------------------------------------------------- */

static void answer(struct coord *c, struct clink *l, const struct sm_found *f, struct rec_sm_fixed *a)
{
	struct msg m;

	if (f->node != NULL) {
		a->node = f->node->name;
		a->unit = f->node->host->sm;
		MSG_SET(a, sm_fixed, running, f->node->host->sm_running);
		MSG_SET(a, sm_fixed, enabled, f->node->host->sm_enabled);
		MSG_SET(a, sm_fixed, master, f->master);
	}
	a->found = (const char **)f->lines;
	a->n_found = f->n_lines;
	msg_init(&m, MSG_sm_fixed);
	m.u.sm_fixed = *a;
	act_send(c->out, l->id, &m);
}

/* ---- ordered ---------------------------------------------------------------------------- */

static bool is_under_way(const struct coord *c, const char *node)
{
	list_foreach(e, &c->fixings)
		if (strcmp(list_entry(e, struct fixing, all)->node, node) == 0)
			return true;
	return false;
}

bool fix_asked(const struct coord *c, uint64_t link)
{
	list_foreach(e, &c->fixings)
		if (list_entry(e, struct fixing, all)->link == link)
			return true;
	return false;
}

/* Why its agent cannot be told; NULL: it can. *ret_code: of sm_fixed. */
static const char *hindrance(struct coord *c, const struct node *n, const char *unit, const char **ret_code)
{
	struct arena *a = &c->out->arena;

	if (n->link == NULL || n->silent) {
		*ret_code = "away";
		return arena_printf(a, "%s is not reachable; when it is, or on it as root: systemctl restart %s", n->name, unit);
	}
	if (!n->fixes_sm) {
		*ret_code = "old";
		return arena_printf(a, "the agent on %s (version %s) is older than 'nodectl fix sm': have it updated; or type there, as "
				    "root: systemctl restart %s", n->name, n->software[0] != '\0' ? n->software : "unknown", unit);
	}
	*ret_code = "busy";
	return is_under_way(c, n->name) ? arena_printf(a, "%s on %s is being restarted already", unit, n->name) : NULL;
}

static void order(struct coord *c, struct clink *l, const struct rec_sm_fix *r, const struct node *n, const struct rec_host *h)
{
	struct fixing *x = calloc(1, sizeof(*x));
	struct msg m;

	if (x == NULL) {
		c->oom = true;
		return;
	}
	x->rid = ++c->next_asked;
	x->link = l->id;
	x->client_rid = r->rid;
	snprintf(x->node, sizeof(x->node), "%s", n->name);
	snprintf(x->who, sizeof(x->who), "%s", l->user);
	if (l->user[0] == '\0')
		snprintf(x->who, sizeof(x->who), "uid %u", l->uid);
	x->unit = sm_unit_of(h->sm);
	x->enable = r->enable;
	x->was_running = h->sm_running;
	x->was_enabled = h->sm_enabled;
	x->until = mono_add_ms(c->now, WAIT_MS);
	coord_wake_at(c, x->until);
	list_append(&c->fixings, &x->all);
	act_log(c->out, 0, "node %s: %s asks for a restart of %s%s", x->node, x->who, h->sm, x->enable ? ", and to enable it" : "");
	msg_init(&m, MSG_sm_fix);
	m.u.sm_fix.rid = x->rid;
	MSG_SET(&m.u.sm_fix, sm_fix, unit, x->unit);
	MSG_SET(&m.u.sm_fix, sm_fix, enable, x->enable);
	act_send(c->out, n->link->id, &m);
}

void fix_on_request(struct coord *c, struct clink *l, const struct rec_sm_fix *r)
{
	struct rec_sm_fixed a = { .rid = r->rid };
	struct sm_node *v = sm_nodes(&c->out->arena, c);
	struct sm_found f;
	struct node *n;

	if (r->node != NULL && node_find(c, r->node) == NULL) {
		coord_refuse(c, l, r->rid, "not-found", "no node named %s in the cluster %s; 'nodectl nodes' lists them", r->node,
			     c->cluster);
		return;
	}
	if (v == NULL || !sm_find(&c->out->arena, v, c->n_nodes, r->node, &f)) {
		c->oom = true;
		return;
	}
	if (f.node != NULL && sm_unit_of(f.node->host->sm) == 0) {
		f.why = "the node names a subnet manager that is not known here";
		f.node = NULL;
	}
	if (f.node == NULL) {
		a.code = "none";
		a.text = f.why;
	}
	if (f.node == NULL || r->look) {
		answer(c, l, &f, &a);
		return;
	}
	if (!admin_only(c, l, r->rid, "restarting the subnet manager"))
		return;
	n = node_find(c, f.node->name);
	a.text = n != NULL ? hindrance(c, n, f.node->host->sm, &a.code) : "the node has gone";
	if (a.text != NULL)
		answer(c, l, &f, &a);
	else
		order(c, l, r, n, f.node->host);
}

/* ---- done ---------------------------------------------------------------------------- */

static void tell_event(struct coord *c, const struct fixing *x, const struct rec_sm_fixed *a)
{
	const char *unit = sm_unit_name(x->unit);
	bool all = a->restarted && a->code == NULL;
	bool late = !a->restarted && a->code != NULL && strcmp(a->code, "late") == 0; /* systemd may have gone on with it */
	const char *was = a->restarted ? "was restarted" : late ? "may or may not have been restarted" : "was not restarted";

	act_log(c->out, 0, "node %s: %s %s%s%s", x->node, unit, was, a->text != NULL ? ": " : "", a->text != NULL ? a->text : "");
	events_add(c, &(struct event_in){ .kind = "fix.sm", .severity = all ? "info" : "warn", .node = x->node },
		   "%s %s%s, as %s asked%s%s", unit, was, !x->enable ? "" : all ? " and enabled" : " (and enabled)", x->who,
		   a->text != NULL ? ": " : "", a->text != NULL ? a->text : "");
}

static void finish(struct coord *c, struct fixing *x, struct rec_sm_fixed *a)
{
	struct clink *l = coord_link_open(c, x->link);
	struct msg m;

	tell_event(c, x, a);
	if (l != NULL) {
		msg_init(&m, MSG_sm_fixed);
		m.u.sm_fixed = *a;
		m.u.sm_fixed.rid = x->client_rid;
		m.u.sm_fixed.node = x->node;
		m.u.sm_fixed.unit = sm_unit_name(x->unit);
		MSG_SET(&m.u.sm_fixed, sm_fixed, running, x->was_running);
		MSG_SET(&m.u.sm_fixed, sm_fixed, enabled, x->was_enabled);
		act_send(c->out, l->id, &m);
	}
	list_remove(&x->all);
	free(x);
}

void fix_on_done(struct coord *c, const struct node *n, const struct rec_sm_fixed *said)
{
	struct rec_sm_fixed a = { .code = said->code, .text = said->text };

	if (MSG_HAS(said, sm_fixed, exit_code))
		MSG_SET(&a, sm_fixed, exit_code, said->exit_code);
	if (MSG_HAS(said, sm_fixed, restarted))
		MSG_SET(&a, sm_fixed, restarted, said->restarted);
	list_foreach_safe(e, &c->fixings) {
		struct fixing *x = list_entry(e, struct fixing, all);

		if (x->rid == said->rid && strcmp(x->node, n->name) == 0) {
			finish(c, x, &a);
			return;
		}
	}
}

void fix_deadlines(struct coord *c)
{
	list_foreach_safe(e, &c->fixings) {
		struct fixing *x = list_entry(e, struct fixing, all);
		struct rec_sm_fixed a = { .code = "late" };

		if (!mono_due(x->until, c->now)) {
			coord_wake_at(c, x->until);
			continue;
		}
		a.text = arena_printf(&c->out->arena, "%s has not answered within %d s; look there: systemctl status %s", x->node,
				      WAIT_MS / 1000, sm_unit_name(x->unit));
		finish(c, x, &a);
	}
}

void fix_free(struct coord *c)
{
	list_foreach_safe(e, &c->fixings)
		free(list_entry(e, struct fixing, all));
}
