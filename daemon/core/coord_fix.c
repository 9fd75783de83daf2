/* coord_fix.c - nodectl fix sm: the subnet manager found, and restarted by the launcher of its host
 *
 *   looked for   everybody may ask, over any agent
 *   restarted    administrators, on our own socket: the node's agent is told which of two units, and
 *                asks its launcher; that one's policy decides (root's own file on that host)
 *
 * One at a time for a node. What became of it is an event, also when whoever asked has left.
 *
 *   saved --(on disk)--> sent --(told)--> over
 *                          |  --(nothing heard for WAIT_MS, or we were restarted)--> owed
 *   sent, owed: --(its agent registers)--> it is asked what became of it
 *
 * An order is on disk until its end is known, and has a number: launchers carry it out once and remember
 * the last one, so agent and coordinator may be restarted meanwhile. Not promised: that it is known when the
 * launcher was restarted as well; then that is said, and where to look.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/sm_unit.h"
#include "core/sm_find.h"

#define WAIT_MS 40000 /* longer than a launcher takes, and shorter than nodectl waits */

struct fixing {
	uint32_t rid; /* ours */
	uint64_t order; /* known to its launcher by it */
	enum { FIX_SAVED, FIX_SENT, FIX_OWED } state;
	uint64_t link; /* 0: nobody waits for the answer */
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
		if (strcmp(list_entry(e, struct fixing, all)->node, node) == 0 && list_entry(e, struct fixing, all)->state != FIX_OWED)
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

static void save(struct coord *c, const struct node *n, struct pending **ret)
{
	struct action *p = coord_persist(c, ret);

	persist_node(c, p, n);
}

static void send_order(struct coord *c, struct fixing *x, const struct node *n, bool tell)
{
	struct msg m;

	if (mono_is_never(x->until)) { /* else whoever waits does so from then on */
		x->until = mono_add_ms(c->now, WAIT_MS);
		coord_wake_at(c, x->until);
	}
	msg_init(&m, MSG_sm_fix);
	m.u.sm_fix.rid = x->rid;
	MSG_SET(&m.u.sm_fix, sm_fix, unit, x->unit);
	MSG_SET(&m.u.sm_fix, sm_fix, enable, x->enable);
	MSG_SET(&m.u.sm_fix, sm_fix, order, x->order);
	if (tell)
		MSG_SET(&m.u.sm_fix, sm_fix, tell, true);
	act_send(c->out, n->link->id, &m);
}

static void forget(struct fixing *x)
{
	list_remove(&x->all);
	free(x);
}

/* The one that is owed is not asked for any more when there is a newer one. */
static void forget_owed(struct coord *c, const char *node)
{
	list_foreach_safe(e, &c->fixings)
		if (strcmp(list_entry(e, struct fixing, all)->node, node) == 0)
			forget(list_entry(e, struct fixing, all));
}

static void order(struct coord *c, struct clink *l, const struct rec_sm_fix *r, const struct node *n, const struct rec_host *h)
{
	struct fixing *x = calloc(1, sizeof(*x));
	struct pending *pd;

	if (x == NULL) {
		c->oom = true;
		return;
	}
	forget_owed(c, n->name);
	x->rid = ++c->next_asked;
	x->order = (uint64_t)c->wall_ms << 10 | (x->rid & 1023);
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
	x->until = MONO_NEVER;
	list_append(&c->fixings, &x->all);
	act_log(c->out, 0, "node %s: %s asks for a restart of %s%s", x->node, x->who, h->sm, x->enable ? ", and to enable it" : "");
	save(c, n, &pd);
	pd->kind = PD_FIX;
	pd->rid = x->rid;
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

static bool is_code(const struct rec_sm_fixed *a, const char *code)
{
	return a->code != NULL && strcmp(a->code, code) == 0;
}

/* One that was refused for being too often is no event: its client may be a loop. */
static void tell_event(struct coord *c, const struct fixing *x, const struct rec_sm_fixed *a)
{
	const char *unit = sm_unit_name(x->unit);
	bool all = a->restarted && a->code == NULL;
	bool unsure = !a->restarted && (is_code(a, "late") || is_code(a, "unknown")); /* systemd may have gone on with it */
	const char *was = a->restarted ? "was restarted" : unsure ? "may or may not have been restarted" : "was not restarted";

	act_log(c->out, 0, "node %s: %s %s%s%s", x->node, unit, was, a->text != NULL ? ": " : "", a->text != NULL ? a->text : "");
	if (is_code(a, "busy"))
		return;
	events_add(c, &(struct event_in){ .kind = "fix.sm", .severity = all ? "info" : "warn", .node = x->node },
		   "%s %s%s, as %s asked%s%s%s", unit, was, !x->enable ? "" : all ? " and enabled" : " (and enabled)", x->who,
		   x->state == FIX_OWED ? " before" : "", a->text != NULL ? ": " : "", a->text != NULL ? a->text : "");
}

static void reply(struct coord *c, struct fixing *x, const struct rec_sm_fixed *a)
{
	struct clink *l = coord_link_open(c, x->link);
	struct msg m;

	x->link = 0;
	if (l == NULL)
		return;
	msg_init(&m, MSG_sm_fixed);
	m.u.sm_fixed = *a;
	m.u.sm_fixed.rid = x->client_rid;
	m.u.sm_fixed.node = x->node;
	m.u.sm_fixed.unit = sm_unit_name(x->unit);
	MSG_SET(&m.u.sm_fixed, sm_fixed, running, x->was_running);
	MSG_SET(&m.u.sm_fixed, sm_fixed, enabled, x->was_enabled);
	act_send(c->out, l->id, &m);
}

/* The event goes to disk with the row. */
static void finish(struct coord *c, struct fixing *x, const struct rec_sm_fixed *a)
{
	const struct node *n = node_find(c, x->node);
	struct pending *pd;

	tell_event(c, x, a);
	reply(c, x, a);
	forget(x);
	if (n != NULL)
		save(c, n, &pd);
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

void fix_on_stored(struct coord *c, uint32_t rid, int error, const char *text)
{
	list_foreach_safe(e, &c->fixings) {
		struct fixing *x = list_entry(e, struct fixing, all);
		const struct node *n = node_find(c, x->node);
		struct rec_sm_fixed a = { .code = "failed" };

		if (x->rid != rid || x->state != FIX_SAVED)
			continue;
		if (error == 0 && n != NULL && n->link != NULL) {
			x->state = FIX_SENT;
			send_order(c, x, n, false);
			return;
		}
		if (error == 0)
			a.code = "away";
		a.text = error != 0 ? arena_printf(&c->out->arena, "the coordinator could not save the order, and has not given it: %s",
						   text != NULL ? text : "store error") :
			 arena_printf(&c->out->arena, "%s has left meanwhile; when it is back, or on it as root: systemctl restart %s",
				      x->node, sm_unit_name(x->unit));
		finish(c, x, &a);
		return;
	}
}

void fix_registered(struct coord *c, const struct node *n, bool fresh)
{
	list_foreach_safe(e, &c->fixings) {
		struct fixing *x = list_entry(e, struct fixing, all);
		struct rec_sm_fixed a = { .code = "unknown" };

		if (x->state == FIX_SAVED || strcmp(x->node, n->name) != 0)
			continue;
		if (n->tells_fix) {
			send_order(c, x, n, true);
			continue;
		}
		if (!fresh && x->state == FIX_SENT)
			continue; /* the connection was lost, or its addresses are others: it goes on there */
		a.text = arena_printf(&c->out->arena, "the agent on %s was away meanwhile; look there: systemctl status %s", x->node,
				      sm_unit_name(x->unit));
		finish(c, x, &a);
	}
}

static const char *say_late(struct coord *c, const struct fixing *x, const struct node *n)
{
	struct arena *a = &c->out->arena;
	const char *unit = sm_unit_name(x->unit);

	if (n != NULL && n->link != NULL && !n->silent)
		return arena_printf(a, "%s has not answered within %d s; look there: systemctl status %s", x->node, WAIT_MS / 1000, unit);
	return arena_printf(a, "%s has not answered within %d s, and is not reachable: what became of it is an event when it is back "
			    "(nodectl events -k fix); or look there: systemctl status %s", x->node, WAIT_MS / 1000, unit);
}

void fix_deadlines(struct coord *c)
{
	list_foreach_safe(e, &c->fixings) {
		struct fixing *x = list_entry(e, struct fixing, all);
		const struct node *n = node_find(c, x->node);
		struct rec_sm_fixed a = { .code = "late" };

		if (x->state == FIX_OWED && n == NULL) {
			forget(x); /* it was taken out of the cluster */
			continue;
		}
		if (!mono_due(x->until, c->now)) {
			coord_wake_at(c, x->until);
			continue;
		}
		a.text = say_late(c, x, n);
		if (x->state == FIX_SENT) {
			tell_event(c, x, &a);
			reply(c, x, &a);
		}
		x->state = FIX_OWED;
		x->until = MONO_NEVER;
	}
}

/* ---- kept on disk ---------------------------------------------------------------------- */

void fix_fill_row(struct arena *a, const struct coord *c, const struct node *n, struct rec_row_node *r)
{
	list_foreach(e, &c->fixings) {
		const struct fixing *x = list_entry(e, struct fixing, all);

		if (strcmp(x->node, n->name) != 0 || (r->fixing = arena_alloc(a, sizeof(*r->fixing))) == NULL)
			continue;
		*r->fixing = (struct rec_fixing){ 0 };
		r->n_fixing = 1;
		r->fixing->order = x->order;
		r->fixing->unit = x->unit;
		r->fixing->who = x->who;
		if (x->enable)
			MSG_SET(r->fixing, fixing, enable, true);
		return;
	}
}

int fix_load(struct coord *c, const struct rec_row_node *r)
{
	struct fixing *x;

	if (r->n_fixing == 0 || sm_unit_name(r->fixing->unit) == NULL)
		return 0;
	x = calloc(1, sizeof(*x));
	if (x == NULL)
		return -ENOMEM;
	x->rid = ++c->next_asked;
	x->order = r->fixing->order;
	x->state = FIX_OWED;
	snprintf(x->node, sizeof(x->node), "%s", r->node);
	snprintf(x->who, sizeof(x->who), "%s", r->fixing->who != NULL ? r->fixing->who : "somebody");
	x->unit = r->fixing->unit;
	x->enable = r->fixing->enable;
	x->until = MONO_NEVER;
	list_append(&c->fixings, &x->all);
	return 0;
}

void fix_free(struct coord *c)
{
	list_foreach_safe(e, &c->fixings)
		free(list_entry(e, struct fixing, all));
}
