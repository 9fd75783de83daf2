/* coord_sm.c - the subnet manager: on which hosts it is installed, whether it runs, and what that
 * means for ports that wait for one
 *
 * A manager on a switch, in a container or started by hand is seen by the LID that Active ports
 * name, or not at all. So nobody is told that there is none, only what is known.
 */
#include "core/coord_internal.h"

#include <string.h>

#include "core/sm_find.h"

static const struct rec_host *host_of(const struct node *n)
{
	const struct rec_readings *r = node_readings(n);

	return r != NULL && r->n_host && r->host->sm != NULL ? r->host : NULL;
}

/* Hosts that have one; *ret_runs: those where it runs; the first of either kind. */
static size_t find(const struct coord *c, size_t *ret_runs, const struct node **ret_on, const struct node **ret_off)
{
	size_t n = 0;

	*ret_runs = 0;
	*ret_on = *ret_off = NULL;
	for (size_t i = 0; i < c->n_nodes; i++) {
		const struct node *at = c->nodes[i];
		const struct rec_host *h = host_of(at);

		if (h == NULL)
			continue;
		n++;
		*ret_runs += h->sm_running;
		if (h->sm_running && *ret_on == NULL)
			*ret_on = at;
		/* one that is enabled is the one that is meant to run */
		if (!h->sm_running && (*ret_off == NULL || (h->sm_enabled && !host_of(*ret_off)->sm_enabled)))
			*ret_off = at;
	}
	return n;
}

struct sm_node *sm_nodes(struct arena *a, const struct coord *c)
{
	struct sm_node *v = arena_alloc(a, (c->n_nodes + 1) * sizeof(*v));

	for (size_t i = 0; v != NULL && i < c->n_nodes; i++) {
		const struct rec_readings *r = node_readings(c->nodes[i]);

		v[i] = (struct sm_node){ .name = c->nodes[i]->name };
		if (r == NULL)
			continue;
		v[i].host = r->n_host > 0 ? r->host : NULL;
		v[i].ports = r->ports;
		v[i].n_ports = r->n_ports;
	}
	return v;
}

/* ", and this is the master by the ports' SM LID" */
static const char *part_of(struct arena *a, const struct coord *c, const struct node *n)
{
	const struct sm_node *v = sm_nodes(a, c);
	struct sm_named s;

	if (v == NULL)
		return "";
	sm_named(v, c->n_nodes, &s);
	for (size_t i = 0; i < c->n_nodes; i++)
		if (c->nodes[i] == n && s.n > 0)
			return sm_master_port(&s, &v[i]) != NULL ? " (this is the master, by the ports' SM LID)" :
								   " (this is not the master, by the ports' SM LID)";
	return "";
}

static bool waits_for_sm(const struct verdict_kind *k)
{
	static const char *const kinds[] = { "Initializing", "Armed", "without LID", "without SM" };

	for (size_t i = 0; k->noun != NULL && strcmp(k->noun, "port") == 0 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(k->is, kinds[i]) == 0)
			return true;
	return false;
}

static void add(struct verdicts *v, const char *id, const char *is, struct rec_attention x)
{
	if (v->n == VERDICTS_MAX || x.text == NULL || x.fix == NULL)
		return;
	v->kind[v->n] = (struct verdict_kind){ .is = is, .id = id };
	v->v[v->n++] = x;
}

/* No node has one: it is not to be looked for here, if the ports that are Active name a LID of nobody's. */
static const char *fix_away(struct arena *a, const struct coord *c)
{
	const struct sm_node *v = sm_nodes(a, c);
	struct sm_named s;
	uint32_t lid;

	if (v == NULL)
		return NULL;
	sm_named(v, c->n_nodes, &s);
	lid = sm_lid_away(&s, v, c->n_nodes);
	return lid == 0 ? NULL : arena_printf(a, "Active ports name LID %u as the subnet manager's, and no node has it: look at it on its "
					      "switch or host (sminfo)", lid);
}

static bool some_wait(const struct verdicts *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (waits_for_sm(&v->kind[i]))
			return true;
	return false;
}

/* Hosts with Ethernet only have opensm as well, by a package that wanted it, and need none. */
static bool is_wanted(const struct coord *c)
{
	for (size_t i = 0; i < c->n_nodes; i++) {
		const struct rec_readings *r = node_readings(c->nodes[i]);

		for (size_t k = 0; r != NULL && k < r->n_ports; k++)
			if (sm_port(&r->ports[k]))
				return true;
	}
	return false;
}

static void judge_host(struct arena *a, const struct coord *c, const struct node *n, size_t runs, struct verdicts *v)
{
	const struct rec_host *h = host_of(n);

	if (h == NULL || !is_wanted(c))
		return;
	/* where another one runs it may be the one in reserve */
	if (!h->sm_running && h->sm_enabled && runs == 0)
		add(v, "sm.running", "subnet manager down", (struct rec_attention){
			.severity = "bad", .subject = n->name, .brief = arena_printf(a, "%s is down", h->sm),
			.text = arena_printf(a, "%s is enabled here and does not run, nor does one on another node: ports that are Active stay "
					     "so, but one that comes up anew is not configured (Initializing)", h->sm),
			.fix = "nodectl fix sm" });
	if (!h->sm_running)
		return;
	if (!h->sm_enabled)
		add(v, "sm.enabled", "subnet manager not enabled", (struct rec_attention){
			.severity = "warn", .subject = n->name, .brief = arena_printf(a, "%s not enabled", h->sm),
			.text = arena_printf(a, "%s runs, but is not enabled: after the next boot no port that comes up is "
					     "configured", h->sm),
			.fix = "nodectl fix sm --enable" });
	if (runs > 1)
		add(v, "sm.several", "several subnet managers", (struct rec_attention){
			.severity = "warn", .subject = n->name, .brief = arena_printf(a, "%zu subnet managers", runs),
			.text = arena_printf(a, "%s runs here%s, and on %zu other node%s: on one fabric only one is the "
					     "master, and two that differ in their settings undo each other's work", h->sm,
					     part_of(a, c, n), runs - 1, runs == 2 ? "" : "s"),
			.fix = "on one fabric let one run, or all with the same settings and priorities" });
}

/* Of most nodes nothing is to be said: all of them are not looked through for each. */
static bool asks_for_sm(const struct node *n, const struct verdicts *v)
{
	const struct rec_host *h = host_of(n);

	return (h != NULL && (h->sm_running || h->sm_enabled)) || some_wait(v);
}

void sm_verdicts(struct arena *a, const struct coord *c, const struct node *n, struct verdicts *v)
{
	const struct node *on, *off;
	const char *fix = NULL;
	size_t runs;
	bool none;

	if (!asks_for_sm(n, v))
		return;
	none = find(c, &runs, &on, &off) == 0;
	if (none && !some_wait(v))
		return;
	if (none)
		fix = fix_away(a, c);
	else if (on == NULL)
		fix = arena_printf(a, "%s on %s is not running: nodectl fix sm", host_of(off)->sm, off->name);
	else
		fix = arena_printf(a, "%s on %s runs, and this port is left out, or it hangs: nodectl fix sm -w %s",
				   host_of(on)->sm, on->name, on->name);
	for (size_t i = 0; fix != NULL && i < v->n; i++)
		if (waits_for_sm(&v->kind[i]))
			v->v[i].fix = fix;
	judge_host(a, c, n, runs, v);
}
