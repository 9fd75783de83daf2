/* nccl_net.c - see nccl_net.h */
#include "core/nccl_net.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/nccl_pkey.h"
#include "core/nccl_ports.h"

struct choosing {
	struct arena *a;
	const struct net_in *in;
	struct net_out *out;
	struct node_ports *ports; /* of each node */
	const char *layer; /* of those to use */
	bool oom;
};

bool net_want_from(const char *word, enum net_want *ret)
{
	if (word == NULL || strcmp(word, "auto") == 0)
		*ret = NET_AUTO;
	else if (strcmp(word, "ib") == 0)
		*ret = NET_IB;
	else if (strcmp(word, "socket") == 0)
		*ret = NET_SOCKET;
	else
		return false;
	return true;
}

/* ---- what is said --------------------------------------------------------------- */

#define SAY(c, ...) said((c), arena_printf((c)->a, __VA_ARGS__))

static const char *said(struct choosing *c, const char *text)
{
	if (text == NULL)
		c->oom = true;
	return text;
}

static void notice(struct choosing *c, const char *text)
{
	if (text != NULL && c->out->n_notices < NET_NOTICES_MAX)
		c->out->notices[c->out->n_notices++] = text;
}

static bool is_yours(const struct choosing *c, const char *name)
{
	for (size_t i = 0; i < c->in->n_yours; i++)
		if (strcmp(c->in->yours[i], name) == 0)
			return true;
	return false;
}

static void add_set(struct choosing *c, const struct rec_net_set *s)
{
	struct rec_net_plan *p = &c->out->plan;

	if (s->name != NULL && p->n_sets < NET_SETS_MAX)
		p->sets[p->n_sets++] = *s;
}

/* nodes: host list, NULL: all of them. What the owner has set stays his. */
static void set(struct choosing *c, const char *name, const char *value, const char *nodes, const char *why)
{
	if (value != NULL && !is_yours(c, name))
		add_set(c, &(struct rec_net_set){ .name = name, .value = value, .nodes = nodes, .why = why });
}

static void show_yours(struct choosing *c)
{
	for (size_t i = 0; i < c->in->n_yours; i++) {
		struct rec_net_set s = { .name = c->in->yours[i], .why = "set by the job's owner: left alone" };

		MSG_SET(&s, net_set, yours, true);
		add_set(c, &s);
	}
}

/* What decides, whatever we set. */
static const char *decided_by_owner(const struct choosing *c)
{
	static const char *const names[] = { "NCCL_IB_DISABLE", "NCCL_NET", "NCCL_NET_PLUGIN" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (is_yours(c, names[i]))
			return names[i];
	return NULL;
}

static void conclude(struct choosing *c, const char *text)
{
	const char *name = decided_by_owner(c);

	if (name != NULL && text != NULL)
		text = SAY(c, "%.400s; but %s, which its owner has set, decides", text, name);
	c->out->plan.text = text;
}

static void refuse(struct choosing *c, size_t guilty, const char *text)
{
	c->out->refusal = text;
	c->out->guilty = guilty;
}

/* ---- no InfiniBand ---------------------------------------------------------------- */

static void use_sockets(struct choosing *c, const char *why)
{
	set(c, "NCCL_NET", "Socket", NULL, why);
}

static void choose_socket(struct choosing *c)
{
	use_sockets(c, "--net socket");
	set(c, "NCCL_IB_DISABLE", "1", NULL, "--net socket");
	conclude(c, "sockets (TCP): asked for with --net socket");
}

/* Said in any case: an order to start that is sent again by a coordinator that has
 * just begun, and knows no ports yet, must not lose it. */
static bool must_be_ib(struct choosing *c)
{
	if (c->in->want == NET_IB)
		set(c, "NCCL_NET", "IB", NULL, "--net ib: NCCL fails rather than fall back to sockets");
	return true;
}

/* Somebody's agent would drop what it is told. */
static bool agents_too_old(struct choosing *c)
{
	for (size_t i = 0; i < c->in->n; i++) {
		const struct net_node *n = &c->in->nodes[i];

		if (n->sets_env)
			continue;
		if (c->in->want != NET_AUTO)
			refuse(c, c->in->n, SAY(c, "--net %s cannot be had on node %s: its agent is of an older version and would "
						"not set NCCL's variables; update it, or leave --net out",
						c->in->want == NET_IB ? "ib" : "socket", n->name));
		conclude(c, SAY(c, "left to NCCL: the agent of %s is of an older version", n->name));
		return true;
	}
	return false;
}

static bool nobody_reads(const struct choosing *c)
{
	for (size_t i = 0; i < c->in->n; i++)
		if (c->in->nodes[i].r != NULL)
			return false;
	return true;
}

/* Somebody's ports are not known: nothing can be chosen for all. */
static bool some_unknown(struct choosing *c)
{
	for (size_t i = 0; i < c->in->n; i++) {
		const char *name = c->in->nodes[i].name;

		if (c->ports[i].known)
			continue;
		if (c->in->want == NET_IB)
			refuse(c, i, SAY(c, "--net ib: the ports of node %s are not known (%s); see nodectl ports -w %s",
					 name, c->ports[i].unknown_why, name));
		conclude(c, SAY(c, "left to NCCL: the ports of %s are not known (%s)", name, c->ports[i].unknown_why));
		if (c->in->want != NET_IB && !nobody_reads(c))
			notice(c, SAY(c, "network left to NCCL, which may fall back to sockets: the ports of %s are not known (%s)",
				      name, c->ports[i].unknown_why));
		return true;
	}
	return false;
}

/* "gpu02 has no Active port (mlx5_0 Down/Polling)", and how many more have none. */
static const char *who_has_none(struct choosing *c, const char *layer, size_t *ret_first, size_t *ret_count)
{
	*ret_count = 0;
	for (size_t i = c->in->n; i-- > 0;)
		if (ports_good(&c->ports[i], layer) == 0) {
			*ret_first = i;
			++*ret_count;
		}
	if (*ret_count == 0)
		return NULL;
	return SAY(c, "%s has no Active%s%s port (%s)%s", c->in->nodes[*ret_first].name, layer != NULL ? " " : "",
		   layer == NULL ? "" : strcmp(layer, NET_ETHERNET) == 0 ? "RoCE" : layer,
		   ports_ill(c->a, &c->ports[*ret_first], layer),
		   *ret_count > 1 ? arena_printf(c->a, ", nor have %zu other nodes of the job", *ret_count - 1) : "");
}

static bool any_ports(const struct choosing *c)
{
	for (size_t i = 0; i < c->in->n; i++)
		if (c->ports[i].n > 0)
			return true;
	return false;
}

/* NULL: the nodes have a link layer in common, c->layer. */
static const char *why_none_common(struct choosing *c, size_t *ret_guilty)
{
	size_t first = c->in->n, count;
	const char *text;

	*ret_guilty = c->in->n;
	if (who_has_none(c, NET_IB_LAYER, &first, &count) == NULL)
		c->layer = NET_IB_LAYER;
	else if (who_has_none(c, NET_ETHERNET, &first, &count) == NULL)
		c->layer = NET_ETHERNET;
	if (c->layer != NULL)
		return NULL;
	text = who_has_none(c, NULL, &first, &count);
	if (text != NULL) {
		if (count == 1)
			*ret_guilty = first;
		return text;
	}
	who_has_none(c, NET_IB_LAYER, &first, &count);
	return SAY(c, "%s has Active RoCE ports only and other nodes InfiniBand: these do not meet", c->in->nodes[first].name);
}

/* Devices that need a plug-in of NCCL's: to say "Socket" would take it away. */
static bool for_plugins(struct choosing *c)
{
	for (size_t i = 0; i < c->in->n && c->in->want == NET_AUTO; i++) {
		if (c->ports[i].other == NULL)
			continue;
		conclude(c, SAY(c, "left to NCCL and its plug-ins: %.64s of %s is neither InfiniBand nor RoCE", c->ports[i].other,
				c->in->nodes[i].name));
		return true;
	}
	return false;
}

/* "; 3 of the cluster's 8 nodes have Active ports" */
static const char *elsewhere(struct choosing *c)
{
	if (c->in->cluster == 0 || c->in->cluster_good >= c->in->n)
		return "";
	return SAY(c, "; of the cluster's %u nodes %u %s an Active port", c->in->cluster, c->in->cluster_good,
		   c->in->cluster_good == 1 ? "has" : "have");
}

/* Their ports cannot be used. */
static void no_way(struct choosing *c, size_t guilty, const char *why)
{
	if (c->in->want == NET_IB) {
		refuse(c, guilty, SAY(c, "--net ib: %s%s; mend it, leave the node out with -x, or let --net ib be", why, elsewhere(c)));
		return;
	}
	use_sockets(c, why);
	conclude(c, SAY(c, "SOCKET: %s", why));
	notice(c, SAY(c, "SOCKET: NCCL is told to use TCP on all nodes, many times slower: %s", why));
}

static bool none_common(struct choosing *c)
{
	size_t guilty;
	const char *why;

	if (!any_ports(c) && for_plugins(c))
		return true;
	if (!any_ports(c)) {
		if (c->in->want == NET_IB)
			refuse(c, c->in->n, SAY(c, "--net ib: none of the job's nodes has an InfiniBand or RoCE port"));
		conclude(c, "sockets (TCP): none of the job's nodes has an InfiniBand or RoCE port");
		return true;
	}
	why = why_none_common(c, &guilty);
	if (why == NULL)
		return c->layer == NULL; /* no memory */
	if (for_plugins(c))
		return true;
	no_way(c, guilty, why);
	return true;
}

/* ---- which ports -------------------------------------------------------------------- */

/* What is not used on each node, unless it is so everywhere and nobody expects it. */
static void tell_ill(struct choosing *c, size_t used)
{
	char text[400] = "";
	size_t len = 0, shown = 0, more = 0;

	for (size_t i = 0; i < c->in->n; i++) {
		struct node_ports *p = &c->ports[i];
		size_t good = ports_good(p, c->layer), all = ports_all(p, c->layer);

		if (good == all)
			continue;
		if (shown == 3 || len > 280) {
			more++;
			continue;
		}
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s: %.120s, %zu of %zu Active", shown++ ? "; " : "",
					c->in->nodes[i].name, ports_ill(c->a, p, c->layer), good, all);
		len = len < sizeof(text) ? len : sizeof(text) - 1;
	}
	if (shown == 0 || ports_idle_everywhere(c->ports, c->in->n, c->layer))
		return;
	if (more > 0)
		snprintf(text + len, sizeof(text) - len, "; and %zu more nodes", more);
	notice(c, SAY(c, "NCCL gets %zu port%s on each node, the same on all: %s", used, used == 1 ? "" : "s", text));
}

/* "=mlx5_0:1,mlx5_1:1"; NULL: names of a length that no driver gives, or no memory. */
static const char *hca_text(struct choosing *c, const struct net_ports *v)
{
	char list[1900] = "=";
	size_t len = 1;

	for (size_t i = 0; i < v->n && i < NET_HCAS_MAX; i++) {
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%.64s:%u", i ? "," : "", v->v[i]->device,
					v->v[i]->port);
		if (len >= sizeof(list))
			return NULL;
	}
	return said(c, arena_strdup(c->a, list));
}

/* One index for the process: only where all its ports agree. */
static const char *gid_text(struct choosing *c, const struct net_ports *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (!MSG_HAS(v->v[i], port, gid_v2) || v->v[i]->gid_v2 != v->v[0]->gid_v2)
			return NULL;
	return v->n > 0 ? SAY(c, "%u", v->v[0]->gid_v2) : NULL;
}

/* A variable whose value differs between nodes, a row for each value. How many nodes have one. */
static size_t set_values(struct choosing *c, const char *name, const char *const *keys, const char *why)
{
	struct net_group g[NET_GROUPS_MAX];
	size_t n, nodes = 0;

	n = net_group(c->a, c->in->nodes, keys, c->in->n, g);
	for (size_t k = 0; k < n; k++) {
		set(c, name, g[k].key, g[k].count < c->in->n ? g[k].nodes : NULL, why);
		nodes += g[k].count;
	}
	return nodes;
}

static size_t set_each(struct choosing *c, const char *name, const struct net_ports *v,
		       const char *(*text)(struct choosing *, const struct net_ports *), const char *why)
{
	const char **keys = arena_alloc(c->a, c->in->n * sizeof(*keys));

	if (keys == NULL) {
		c->oom = true;
		return c->in->n;
	}
	for (size_t i = 0; i < c->in->n; i++)
		keys[i] = text(c, &v[i]);
	return set_values(c, name, keys, why);
}

static void set_gids(struct choosing *c, const struct net_ports *v)
{
	static const char name[] = "NCCL_IB_GID_INDEX";

	if (strcmp(c->layer, NET_ETHERNET) != 0 || is_yours(c, name))
		return;
	if (set_each(c, name, v, gid_text, "the RoCE v2 entry of the GID table") < c->in->n)
		add_set(c, &(struct rec_net_set){ .name = name, .why = "left to NCCL elsewhere: the RoCE v2 entry of the GID table "
						  "is not known, or not the same for all ports of a node" });
}

static const char *rates_of(struct choosing *c, const struct net_ports *v)
{
	for (size_t i = 1; i < v->n; i++)
		if (v->v[i]->rate_mbps != v->v[0]->rate_mbps)
			return "";
	return v->n > 0 && v->v[0]->rate_mbps != 0 ?
		       SAY(c, " of %s Gb/s", ports_rate_text(c->a, v->v[0]->rate_mbps)) : "";
}

static const char *layer_word(const struct choosing *c)
{
	return c->layer != NULL && strcmp(c->layer, NET_ETHERNET) == 0 ? "RoCE" : "InfiniBand";
}

static const char pkey_name[] = "NCCL_IB_PKEY";

/* The owner of the job may know more of its partitions than we do. */
static bool owner_minds_pkeys(const struct choosing *c)
{
	return is_yours(c, pkey_name) || is_yours(c, "NCCL_IB_HCA");
}

static void set_pkeys(struct choosing *c, const uint32_t *index, const char *why)
{
	const char **keys = arena_alloc(c->a, c->in->n * sizeof(*keys));

	if (keys == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < c->in->n; i++)
		keys[i] = SAY(c, "%u", index[i]);
	set_values(c, pkey_name, keys, why);
}

/* False: the ports do not hear each other, which has been said. */
static bool hear_each_other(struct choosing *c, struct net_ports *v, bool rails)
{
	struct pkey_choice k;

	if (strcmp(c->layer, NET_IB_LAYER) != 0 || owner_minds_pkeys(c))
		return true;
	if (!pkeys_choose(c->a, v, c->in->nodes, c->in->n, rails, &k)) {
		c->oom = true;
		return true;
	}
	if (k.is == PKEY_NONE)
		no_way(c, k.guilty, k.why);
	if (k.is == PKEY_DROPPED)
		notice(c, k.why);
	if (k.is == PKEY_INDEX)
		set_pkeys(c, k.index, k.why);
	return k.is != PKEY_NONE;
}

/* False: they do not hear each other. */
static bool choose_common(struct choosing *c, struct net_ports *v)
{
	const char *others = ports_other_layer(c->ports, c->in->n, c->layer) ? "; ports of the other link layer are left out" : "";
	const char *slow = ports_drop_uneven(c->a, v, c->in->nodes, c->in->n);
	const struct net_ports *first = &v[0];

	for (size_t i = 0; i < c->in->n; i++)
		if (v[i].v == NULL)
			return true;
	if (!hear_each_other(c, v, true))
		return false;
	notice(c, slow);
	set(c, "NCCL_IB_HCA", hca_text(c, first), NULL, SAY(c, "ports%s that are Active on all %zu nodes%s%s", rates_of(c, first), c->in->n,
				    slow != NULL ? ", at equal rates" : "", others));
	tell_ill(c, first->n);
	conclude(c, SAY(c, "%s: %zu port%s%s on each node%s", layer_word(c), first->n, first->n == 1 ? "" : "s",
			rates_of(c, first), c->in->want == NET_IB ? ", as asked for with --net ib" : ""));
	return true;
}

/* Each node has names of its own: as many for each, the fastest. */
static bool choose_own(struct choosing *c, struct net_ports *v)
{
	size_t k = ports_own(c->a, c->ports, c->in->n, c->layer, v), named;

	for (size_t i = 0; i < c->in->n; i++)
		if (v[i].v == NULL)
			return true;
	if (!hear_each_other(c, v, false))
		return false;
	notice(c, SAY(c, "the nodes name their Active ports differently: NCCL gets %zu on each node by its own names; whether "
		      "they reach each other nodectl check nccl tells", k));
	tell_ill(c, k);
	conclude(c, SAY(c, "%s: %zu port%s on each node, by each node's own names", layer_word(c), k, k == 1 ? "" : "s"));
	named = set_each(c, "NCCL_IB_HCA", v, hca_text, SAY(c, "a node's %zu fastest Active ports: names differ between nodes", k));
	if (named < c->in->n)
		notice(c, SAY(c, "too many ways to name ports: on %zu nodes NCCL chooses them by itself", c->in->n - named));
	return true;
}

static void choose_ports(struct choosing *c)
{
	struct net_ports *v = arena_alloc(c->a, c->in->n * sizeof(*v));
	bool may;

	if (v == NULL) {
		c->oom = true;
		return;
	}
	may = ports_common(c->a, c->ports, c->in->n, c->layer, v) ? choose_common(c, v) : choose_own(c, v);
	for (size_t i = 0; i < c->in->n; i++)
		if (v[i].v == NULL) {
			c->oom = true;
			return;
		}
	if (may)
		set_gids(c, v);
}

/* ---- interfaces ----------------------------------------------------------------------- */

static const char *const ifname_names[] = { "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME" };

/* The shim sets these by itself, from what its own agent has proved. */
static void show_ifnames(struct choosing *c)
{
	const char *why = "the interface of the proved route between the nodes";
	struct net_group g[NET_GROUPS_MAX];
	const char **keys = arena_alloc(c->a, c->in->n * sizeof(*keys) + 1);
	size_t n;

	for (size_t i = 0; keys != NULL && i < c->in->n; i++)
		keys[i] = c->in->nodes[i].ifname != NULL && c->in->nodes[i].ifname[0] != '\0' ? c->in->nodes[i].ifname : NULL;
	n = keys != NULL ? net_group(c->a, c->in->nodes, keys, c->in->n, g) : 0;
	for (size_t i = 0; n == 0 && c->in->n > 1 && i < sizeof(ifname_names) / sizeof(ifname_names[0]); i++)
		if (!is_yours(c, ifname_names[i]))
			add_set(c, &(struct rec_net_set){ .name = ifname_names[i], .why = "the interface of the proved route: "
					"known when the nodes have tried their connections" });
	for (size_t k = 0; k < n; k++)
		for (size_t i = 0; i < sizeof(ifname_names) / sizeof(ifname_names[0]); i++)
			set(c, ifname_names[i], g[k].key, n > 1 ? g[k].nodes : NULL, why);
}

int net_choose(struct arena *a, const struct net_in *in, struct net_out *ret)
{
	struct choosing c = { .a = a, .in = in, .out = ret };

	assert(in->n > 0);
	memset(ret, 0, sizeof(*ret));
	ret->guilty = in->n;
	ret->plan.asked = in->want == NET_IB ? "ib" : in->want == NET_SOCKET ? "socket" : NULL;
	ret->plan.yours = (const char **)in->yours;
	ret->plan.n_yours = in->n_yours;
	ret->plan.sets = arena_alloc(a, NET_SETS_MAX * sizeof(*ret->plan.sets));
	c.ports = arena_alloc(a, in->n * sizeof(*c.ports) + 1);
	if (ret->plan.sets == NULL || c.ports == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < in->n; i++)
		if (!ports_look(a, in->nodes[i].r, &c.ports[i]))
			return -ENOMEM;
	if (in->want == NET_AUTO && in->n == 1)
		conclude(&c, "one node: nothing to choose");
	else if (agents_too_old(&c))
		; /* nothing would be set */
	else if (in->want == NET_SOCKET)
		choose_socket(&c);
	else if (must_be_ib(&c) && !some_unknown(&c) && !none_common(&c))
		choose_ports(&c);
	if (ret->refusal != NULL)
		ret->plan.text = ret->refusal;
	show_ifnames(&c);
	show_yours(&c);
	/* how many ports are Active is told already where something was said of them */
	for (size_t i = ret->n_notices > 0 || ret->refusal != NULL ? 1 : 0; in->n > 1 && i < NET_COMPARISONS; i++)
		notice(&c, net_compare(a, in, c.ports, i));
	return c.oom ? -ENOMEM : 0;
}
