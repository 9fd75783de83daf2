/* sm_find.c - see sm_find.h */
#include "core/sm_find.h"

#include <stdio.h>
#include <string.h>

#define LID_LAST 0xbfff /* beyond are multicast, and 0xffff is "none" */
#define PREFIX 19 /* of "fe80:0000:0000:0000:..." */

static bool is_lid(uint32_t lid)
{
	return lid > 0 && lid <= LID_LAST;
}

bool sm_port(const struct rec_port *p)
{
	return !p->excluded && (p->link_layer == NULL || strcmp(p->link_layer, "Ethernet") != 0);
}

/* As far as is told. */
static bool one_fabric(const struct rec_port *x, const struct rec_port *y)
{
	return x->gid == NULL || y->gid == NULL || strncmp(x->gid, y->gid, PREFIX) == 0;
}

/* Others may keep what they were told before their link was last down. */
static bool is_active(const struct rec_port *p)
{
	return p->state != NULL && strcmp(p->state, "Active") == 0;
}

static bool names_one(const struct rec_port *p)
{
	return sm_port(p) && is_active(p) && is_lid(p->sm_lid);
}

void sm_named(const struct sm_node *v, size_t n, struct sm_named *ret)
{
	ret->n = 0;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i].n_ports; k++) {
			const struct rec_port *p = &v[i].ports[k];
			size_t at = 0;

			if (!names_one(p))
				continue;
			while (at < ret->n && (ret->by[at]->sm_lid != p->sm_lid || !one_fabric(ret->by[at], p)))
				at++;
			if (at == ret->n && at < SM_NAMED_MAX)
				ret->by[ret->n++] = p;
		}
}

static bool is_meant(const struct rec_port *by, const struct rec_port *manager)
{
	return sm_port(manager) && manager->lid == by->sm_lid && one_fabric(by, manager);
}

const struct rec_port *sm_master_port(const struct sm_named *s, const struct sm_node *of)
{
	for (size_t k = 0; k < of->n_ports; k++)
		for (size_t i = 0; i < s->n; i++)
			if (is_meant(s->by[i], &of->ports[k]))
				return &of->ports[k];
	return NULL;
}

static bool is_here(const struct sm_node *v, size_t n, const struct rec_port *by)
{
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i].n_ports; k++)
			if (is_meant(by, &v[i].ports[k]))
				return true;
	return false;
}

uint32_t sm_lid_away(const struct sm_named *s, const struct sm_node *v, size_t n)
{
	for (size_t i = 0; i < s->n; i++)
		if (!is_here(v, n, s->by[i]))
			return s->by[i]->sm_lid;
	return 0;
}

/* It may have lost its LID (its host was booted anew): the one that others name may have been this. */
static bool has_bare_port(const struct sm_node *x)
{
	for (size_t k = 0; k < x->n_ports; k++)
		if (sm_port(&x->ports[k]) && x->ports[k].state != NULL &&
		    (strcmp(x->ports[k].state, "Initializing") == 0 || strcmp(x->ports[k].state, "Armed") == 0))
			return true;
	return false;
}

static const char *sm_of(const struct sm_node *x)
{
	return x->host != NULL ? x->host->sm : NULL;
}

/* Running counts most: of several that run the master; of several that do not, the one meant to run. */
static unsigned rank(const struct sm_named *s, const struct sm_node *x)
{
	if (sm_of(x) == NULL)
		return 0;
	return 1 + (x->host->sm_enabled ? 1u : 0) + (sm_master_port(s, x) != NULL ? 2u : 0) + (x->host->sm_running ? 4u : 0);
}

static void add_line(struct sm_found *r, const char *line)
{
	if (r->n_lines < SM_LINES_MAX)
		r->lines[r->n_lines++] = line;
}

static void tell_node(struct arena *a, const struct sm_named *s, const struct sm_node *x, struct sm_found *r)
{
	const struct rec_port *p = sm_master_port(s, x);
	const char *as = "";

	if (p != NULL)
		as = arena_printf(a, "%s (LID %u, %s)", x->host != NULL && x->host->sm_running ? ", the master" :
				  ", the last master", p->lid, p->device);
	if (sm_of(x) != NULL)
		add_line(r, arena_printf(a, "%s on %s: %s, %s%s", x->host->sm, x->name, x->host->sm_running ? "running" : "NOT running",
					 x->host->sm_enabled ? "enabled" : "not enabled for the next boot", as));
	else if (p != NULL)
		add_line(r, arena_printf(a, "%s: the ports name its LID %u (%s) as their subnet manager's, and no service is "
					 "installed there", x->name, p->lid, p->device));
}

static const char *why_away(struct arena *a, const struct sm_node *v, size_t n, uint32_t lid, const char *installed)
{
	size_t silent = 0;

	for (size_t i = 0; i < n; i++)
		silent += v[i].host == NULL;
	return arena_printf(a, "the ports name LID %u as their subnet manager's, which no node here has%s: it is on a switch or on a "
			    "host outside the cluster; look at it there (sminfo, as root, tells its GUID; on a managed switch: show "
			    "ib sm)%s%s", lid, silent > 0 ? " that tells of its ports now" : "",
			    installed != NULL ? "; to restart the one here all the same: nodectl fix sm -w " : "",
			    installed != NULL ? installed : "");
}

/* Nobody has the service. */
static const char *why_none(struct arena *a, const struct sm_named *s, const struct sm_node *v, size_t n)
{
	uint32_t lid = sm_lid_away(s, v, n);

	for (size_t i = 0; i < n; i++)
		if (sm_master_port(s, &v[i]) != NULL)
			return arena_printf(a, "the subnet manager is on %s, but not as the service opensm or opensmd: in a container, "
					    "or started by hand; restart it there as it was started", v[i].name);
	if (lid != 0)
		return why_away(a, v, n, lid, NULL);
	return "no node has opensm or opensmd installed as a service, as far as their probes can see: the manager is on a switch, on "
	       "a host outside the cluster, or there is none; ask for it with: sminfo";
}

static const char *why_several(struct arena *a, const struct sm_named *s, const struct sm_node *v, size_t n, unsigned best)
{
	const char *names = "";
	size_t k = 0;

	for (size_t i = 0; names != NULL && i < n; i++)
		if (rank(s, &v[i]) == best && k++ < 8)
			names = arena_printf(a, "%s%s%s", names, k > 1 ? ", " : "", v[i].name);
	return arena_printf(a, "several nodes have a subnet manager (%s%s), and nothing tells which one is meant; name one: nodectl fix sm "
			    "-w NODE", names, k > 8 ? " ..." : "");
}

static void choose(struct arena *a, const struct sm_named *s, const struct sm_node *v, size_t n, struct sm_found *r)
{
	const struct sm_node *best = NULL;
	unsigned best_rank = 0, equal = 0;
	bool some_master = false, some_bare = false;
	uint32_t lid = sm_lid_away(s, v, n);

	for (size_t i = 0; i < n; i++) {
		unsigned k = rank(s, &v[i]);

		equal = k > best_rank ? 1 : equal + (k > 0 && k == best_rank);
		if (k > best_rank) {
			best = &v[i];
			best_rank = k;
		}
		some_master = some_master || sm_master_port(s, &v[i]) != NULL;
		some_bare = some_bare || (k > 0 && has_bare_port(&v[i]));
	}
	if (best == NULL)
		r->why = why_none(a, s, v, n);
	else if (lid != 0 && !some_master && !some_bare)
		r->why = why_away(a, v, n, lid, best->name);
	else if (equal > 1)
		r->why = why_several(a, s, v, n, best_rank);
	else
		r->node = best;
}

bool sm_find(struct arena *a, const struct sm_node *v, size_t n, const char *wanted, struct sm_found *ret)
{
	struct sm_named s;

	memset(ret, 0, sizeof(*ret));
	sm_named(v, n, &s);
	for (size_t i = 0; i < n; i++) {
		tell_node(a, &s, &v[i], ret);
		if (wanted != NULL && strcmp(v[i].name, wanted) == 0 && sm_of(&v[i]) != NULL)
			ret->node = &v[i];
	}
	if (wanted == NULL)
		choose(a, &s, v, n, ret);
	else if (ret->node == NULL)
		ret->why = arena_printf(a, "neither opensm nor opensmd is installed as a service on %s, as far as its probe can see",
					wanted);
	if (ret->node != NULL)
		ret->master = sm_master_port(&s, ret->node) != NULL;
	for (size_t i = 0; i < ret->n_lines; i++)
		if (ret->lines[i] == NULL)
			return false;
	return ret->node != NULL || ret->why != NULL;
}
