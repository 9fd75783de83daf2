/* nccl_ports.c - see nccl_ports.h */
#include "core/nccl_ports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/hostlist.h"
#include "core/verdict.h"

static const char *layer_of(const struct rec_port *p)
{
	return p->link_layer != NULL && strcmp(p->link_layer, NET_ETHERNET) == 0 ? NET_ETHERNET : NET_IB_LAYER;
}

static bool is_known_layer(const struct rec_port *p)
{
	return p->link_layer == NULL || strcmp(p->link_layer, NET_IB_LAYER) == 0 || strcmp(p->link_layer, NET_ETHERNET) == 0;
}

static bool is_of(const struct rec_port *p, const char *layer)
{
	return layer == NULL || strcmp(layer_of(p), layer) == 0;
}

static bool without_lid(const struct rec_port *p)
{
	return strcmp(layer_of(p), NET_IB_LAYER) == 0 && MSG_HAS(p, port, lid) && (p->lid == 0 || p->lid == 0xffff);
}

static bool is_good(const struct rec_port *p)
{
	return p->state != NULL && strcmp(p->state, "Active") == 0 && !without_lid(p);
}

static bool same_name(const struct rec_port *x, const struct rec_port *y)
{
	return x->port == y->port && strcmp(x->device, y->device) == 0;
}

static int by_name(const void *a, const void *b)
{
	const struct rec_port *x = *(const struct rec_port *const *)a, *y = *(const struct rec_port *const *)b;
	int c = node_name_cmp(x->device, y->device);

	return c != 0 ? c : (x->port > y->port) - (x->port < y->port);
}

static int by_pci(const void *a, const void *b)
{
	const struct rec_port *x = *(const struct rec_port *const *)a, *y = *(const struct rec_port *const *)b;
	int c = x->pci != NULL && y->pci != NULL ? strcmp(x->pci, y->pci) : 0;

	return c != 0 ? c : by_name(a, b);
}

static int by_rate(const void *a, const void *b)
{
	const struct rec_port *x = *(const struct rec_port *const *)a, *y = *(const struct rec_port *const *)b;

	if (x->rate_mbps != y->rate_mbps)
		return x->rate_mbps > y->rate_mbps ? -1 : 1;
	return by_pci(a, b);
}

/* ---- one node ---------------------------------------------------------------------- */

static const char *why_unknown(const struct rec_readings *r)
{
	for (size_t i = 0; i < r->n_sources; i++)
		if ((strcmp(r->sources[i].name, "verbs") == 0 || strcmp(r->sources[i].name, "sysfs") == 0) &&
		    r->sources[i].text != NULL)
			return r->sources[i].text;
	return "nobody reads them";
}

static bool known(const struct rec_readings *r)
{
	if (verdict_ports_known(r))
		return true;
	for (size_t i = 0; i < r->n_sources; i++)
		if ((strcmp(r->sources[i].name, "verbs") == 0 || strcmp(r->sources[i].name, "sysfs") == 0) &&
		    r->sources[i].absent)
			return true; /* no such hardware */
	return false;
}

bool ports_look(struct arena *a, const struct rec_readings *r, struct node_ports *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->unknown_why = "no readings";
	if (r == NULL)
		return true;
	ret->known = known(r);
	if (!ret->known)
		ret->unknown_why = arena_printf(a, "%.120s", why_unknown(r));
	ret->v = arena_alloc(a, r->n_ports * sizeof(*ret->v) + 1);
	if (ret->v == NULL || ret->unknown_why == NULL)
		return false;
	for (size_t i = 0; ret->known && i < r->n_ports; i++) {
		if (r->ports[i].excluded)
			continue;
		if (is_known_layer(&r->ports[i]))
			ret->v[ret->n++] = &r->ports[i];
		else
			ret->other = r->ports[i].device;
	}
	qsort(ret->v, ret->n, sizeof(*ret->v), by_name);
	return true;
}

enum ports_are ports_are(const struct rec_readings *r)
{
	size_t all = 0, good = 0;

	if (r == NULL || !known(r))
		return PORTS_UNKNOWN;
	for (size_t i = 0; i < r->n_ports; i++) {
		all += !r->ports[i].excluded;
		good += !r->ports[i].excluded && is_good(&r->ports[i]);
	}
	return good == 0 ? PORTS_NONE_GOOD : good < all ? PORTS_SOME_GOOD : PORTS_GOOD;
}

size_t ports_all(const struct node_ports *p, const char *layer)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += is_of(p->v[i], layer);
	return n;
}

size_t ports_good(const struct node_ports *p, const char *layer)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += is_of(p->v[i], layer) && is_good(p->v[i]);
	return n;
}

static size_t say_state(const struct rec_port *p, char *out, size_t size)
{
	const char *phys = p->state != NULL && strcmp(p->state, "Down") == 0 ? p->phys_state : NULL;
	char name[72];

	snprintf(name, sizeof(name), p->port == 1 ? "%.50s" : "%.50s:%u", p->device, p->port);
	return (size_t)snprintf(out, size, "%s %s%s%s", name,
				p->state == NULL ? "of unknown state" : is_good(p) || !without_lid(p) ||
				strcmp(p->state, "Active") != 0 ? p->state : "Active without a LID",
				phys != NULL ? "/" : "", phys != NULL ? phys : "");
}

const char *ports_ill(struct arena *a, const struct node_ports *p, const char *layer)
{
	char text[200] = "";
	size_t len = 0, more = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (is_good(p->v[i]) || !is_of(p->v[i], layer))
			continue;
		if (len > 80) {
			more++;
			continue;
		}
		if (len > 0)
			len += (size_t)snprintf(text + len, sizeof(text) - len, ", ");
		len += say_state(p->v[i], text + len, sizeof(text) - len);
	}
	if (more > 0)
		snprintf(text + len, sizeof(text) - len, " and %zu more", more);
	return len > 0 ? arena_strdup(a, text) : p->n == 0 ? "it has none" : "its ports are of another link layer";
}

/* ---- all of them ----------------------------------------------------------------------- */

static const struct rec_port *find(const struct node_ports *p, const struct rec_port *x)
{
	for (size_t i = 0; i < p->n; i++)
		if (same_name(p->v[i], x))
			return p->v[i];
	return NULL;
}

static bool is_idle(const struct rec_port *x)
{
	return x != NULL && x->state != NULL && strcmp(x->state, "Down") == 0;
}

/* Each node against the first one: with thousands of nodes not all against all. */
bool ports_idle_everywhere(const struct node_ports *p, size_t n, const char *layer)
{
	for (size_t i = 0; i < n; i++) {
		if (ports_all(&p[i], layer) - ports_good(&p[i], layer) != ports_all(&p[0], layer) - ports_good(&p[0], layer))
			return false;
		for (size_t k = 0; k < p[i].n; k++) {
			const struct rec_port *x = p[i].v[k];

			if (is_of(x, layer) && !is_good(x) && (!is_idle(x) || !is_idle(find(&p[0], x))))
				return false;
		}
	}
	return true;
}

bool ports_other_layer(const struct node_ports *p, size_t n, const char *layer)
{
	for (size_t i = 0; i < n; i++)
		if (ports_good(&p[i], NULL) > ports_good(&p[i], layer))
			return true;
	return false;
}

static bool good_everywhere(const struct node_ports *p, size_t n, const struct rec_port *x, const char *layer)
{
	for (size_t i = 0; i < n; i++) {
		const struct rec_port *y = find(&p[i], x);

		if (y == NULL || !is_good(y) || !is_of(y, layer))
			return false;
	}
	return true;
}

/* The first node's names, whatever their state, are those of all others. */
static bool names_agree(const struct node_ports *p, size_t n, const char *layer)
{
	for (size_t i = 1; i < n; i++) {
		if (ports_all(&p[i], layer) != ports_all(&p[0], layer))
			return false;
		for (size_t k = 0; k < p[0].n; k++)
			if (is_of(p[0].v[k], layer) && find(&p[i], p[0].v[k]) == NULL)
				return false;
	}
	return true;
}

static size_t fewest_good(const struct node_ports *p, size_t n, const char *layer)
{
	size_t least = SIZE_MAX;

	for (size_t i = 0; i < n; i++)
		if (ports_good(&p[i], layer) < least)
			least = ports_good(&p[i], layer);
	return least;
}

static bool make_room(struct arena *a, const struct node_ports *p, size_t n, struct net_ports *ret)
{
	bool ok = true;

	for (size_t i = 0; i < n; i++) {
		ret[i] = (struct net_ports){ arena_alloc(a, p[i].n * sizeof(*ret[i].v) + 1), 0 };
		ok = ok && ret[i].v != NULL;
	}
	return ok;
}

bool ports_common(struct arena *a, const struct node_ports *p, size_t n, const char *layer, struct net_ports *ret)
{
	size_t common = 0;

	for (size_t k = 0; k < p[0].n; k++)
		common += good_everywhere(p, n, p[0].v[k], layer);
	if (common == 0 || (!names_agree(p, n, layer) && common < fewest_good(p, n, layer)))
		return false;
	if (!make_room(a, p, n, ret))
		return true;
	for (size_t k = 0; k < p[0].n; k++) {
		if (!good_everywhere(p, n, p[0].v[k], layer))
			continue;
		for (size_t i = 0; i < n; i++)
			ret[i].v[ret[i].n++] = find(&p[i], p[0].v[k]);
	}
	return true;
}

size_t ports_own(struct arena *a, const struct node_ports *p, size_t n, const char *layer, struct net_ports *ret)
{
	size_t least = fewest_good(p, n, layer);

	if (!make_room(a, p, n, ret))
		return least;
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < p[i].n; k++)
			if (is_of(p[i].v[k], layer) && is_good(p[i].v[k]))
				ret[i].v[ret[i].n++] = p[i].v[k];
		qsort(ret[i].v, ret[i].n, sizeof(*ret[i].v), by_rate);
		ret[i].n = least;
		qsort(ret[i].v, ret[i].n, sizeof(*ret[i].v), by_pci);
	}
	return least;
}

const char *ports_rate_text(struct arena *a, uint32_t mbps)
{
	return mbps % 1000 == 0 ? arena_printf(a, "%u", mbps / 1000) : arena_printf(a, "%u.%u", mbps / 1000, mbps % 1000 / 100);
}

/* ---- rates --------------------------------------------------------------------------------- */

static bool even(const struct net_ports *v, size_t n, size_t k)
{
	for (size_t i = 1; i < n; i++)
		if (v[i].v[k]->rate_mbps != v[0].v[k]->rate_mbps)
			return false;
	return true;
}

static const char *say_uneven(struct arena *a, const struct net_ports *v, const struct net_node *nodes, size_t n, size_t k)
{
	const char **keys = arena_alloc(a, n * sizeof(*keys) + 1);
	struct net_group g[NET_GROUPS_MAX];
	char text[240] = "";
	size_t groups, len = 0;

	if (keys == NULL)
		return "";
	for (size_t i = 0; i < n; i++)
		keys[i] = arena_printf(a, "%s Gb/s", ports_rate_text(a, v[i].v[k]->rate_mbps));
	groups = net_group(a, nodes, keys, n, g);
	for (size_t i = 0; i < groups && len < 160; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s on %.60s", i ? ", " : "", g[i].key, g[i].nodes);
	return arena_printf(a, "%.64s is %s", v[0].v[k]->device, text);
}

const char *ports_drop_uneven(struct arena *a, struct net_ports *v, const struct net_node *nodes, size_t n)
{
	const char *first = NULL;
	size_t uneven = 0, kept = 0, all = v[0].n;

	for (size_t i = 0; i < n; i++)
		if (v[i].v == NULL)
			return NULL;
	for (size_t k = 0; k < all; k++)
		if (!even(v, n, k) && uneven++ == 0)
			first = say_uneven(a, v, nodes, n, k);
	if (uneven == 0)
		return NULL;
	if (uneven == all)
		return arena_printf(a, "the slowest port sets the pace: rates differ between the nodes: %s", first);
	for (size_t k = 0; k < all; k++) {
		if (!even(v, n, k))
			continue;
		for (size_t i = 0; i < n; i++)
			v[i].v[kept] = v[i].v[k];
		kept++;
	}
	for (size_t i = 0; i < n; i++)
		v[i].n = kept;
	return arena_printf(a, "NCCL gets %zu of %zu ports: a slow one would slow down all: %s", kept, all, first);
}

/* ---- comparisons ------------------------------------------------------------------------------ */

static int by_count(const void *a, const void *b)
{
	const struct net_group *x = a, *y = b;

	return (y->count > x->count) - (y->count < x->count);
}

static const char *names_of(struct arena *a, const struct net_node *nodes, const char *const *keys, size_t n, const char *key,
			    size_t *ret_count)
{
	const char **names = arena_alloc(a, n * sizeof(*names) + 1), *copy;
	char *list;

	*ret_count = 0;
	for (size_t i = 0; names != NULL && i < n; i++)
		if (keys[i] != NULL && strcmp(keys[i], key) == 0)
			names[(*ret_count)++] = nodes[i].name;
	list = names != NULL ? hostlist_format(names, *ret_count) : NULL;
	copy = list != NULL && strlen(list) <= 4096 ? arena_strdup(a, list) : arena_printf(a, "%zu nodes", *ret_count);
	free(list);
	return copy != NULL ? copy : "";
}

size_t net_group(struct arena *a, const struct net_node *nodes, const char *const *keys, size_t n,
		 struct net_group ret[NET_GROUPS_MAX])
{
	size_t groups = 0;

	for (size_t i = 0; i < n && groups < NET_GROUPS_MAX; i++) {
		size_t k = 0;

		while (keys[i] != NULL && k < groups && strcmp(ret[k].key, keys[i]) != 0)
			k++;
		if (keys[i] == NULL || k < groups)
			continue;
		ret[groups].key = keys[i];
		ret[groups].nodes = names_of(a, nodes, keys, n, keys[i], &ret[groups].count);
		groups++;
	}
	if (groups > 1)
		qsort(ret, groups, sizeof(*ret), by_count);
	return groups;
}

static const char *key_driver(struct arena *a, const struct net_in *in, const struct node_ports *p, size_t i)
{
	const struct rec_readings *r = in->nodes[i].r;

	(void)a, (void)p;
	for (size_t k = 0; r != NULL && k < r->n_sources; k++)
		if (strcmp(r->sources[k].name, "nvml") == 0 && r->sources[k].ok && r->sources[k].text != NULL &&
		    strncmp(r->sources[k].text, "driver ", 7) == 0)
			return r->sources[k].text + 7;
	return NULL;
}

static const char *key_gpus(struct arena *a, const struct net_in *in, const struct node_ports *p, size_t i)
{
	(void)p;
	return in->all_gpus ? arena_printf(a, "%u", in->nodes[i].gpus) : NULL;
}

static const char *key_mtu(struct arena *a, const struct net_in *in, const struct node_ports *p, size_t i)
{
	(void)p;
	return in->nodes[i].mtu != 0 ? arena_printf(a, "%u", in->nodes[i].mtu) : NULL;
}

static const char *key_layers(struct arena *a, const struct net_in *in, const struct node_ports *p, size_t i)
{
	size_t ib = ports_all(&p[i], NET_IB_LAYER), roce = ports_all(&p[i], NET_ETHERNET);

	(void)a, (void)in;
	if (!p[i].known)
		return NULL;
	return ib > 0 && roce > 0 ? "InfiniBand and RoCE" : ib > 0 ? "InfiniBand" : roce > 0 ? "RoCE" : "no port";
}

/* "7 at 400 Gb/s, 1 at 100 Gb/s" */
static const char *key_ports(struct arena *a, const struct net_in *in, const struct node_ports *p, size_t i)
{
	const struct rec_port *v[256];
	char text[160] = "";
	size_t n = 0, len = 0;

	(void)in;
	if (!p[i].known || p[i].n == 0)
		return NULL;
	for (size_t k = 0; k < p[i].n && n < 256; k++)
		if (is_good(p[i].v[k]))
			v[n++] = p[i].v[k];
	if (n == 0)
		return "none";
	qsort(v, n, sizeof(v[0]), by_rate);
	for (size_t k = 0, end; k < n && len < 100; k = end) {
		for (end = k; end < n && v[end]->rate_mbps == v[k]->rate_mbps;)
			end++;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%zu at %s Gb/s", k ? ", " : "", end - k,
					ports_rate_text(a, v[k]->rate_mbps));
	}
	return arena_strdup(a, text);
}

static const struct {
	const char *what, *then;
	const char *(*key)(struct arena *a, const struct net_in *in, const struct node_ports *p, size_t i);
} comparisons[NET_COMPARISONS] = {
	{ "Active ports differ", "", key_ports },
	{ "link layers differ", "", key_layers },
	{ "NVIDIA drivers differ", "; NCCL may fail or hang", key_driver },
	{ "GPUs of the nodes differ", "; launchers that start a process for each GPU expect equal numbers", key_gpus },
	{ "MTUs of the interfaces between the nodes differ", "; large messages may be lost on the way, and jobs hang with their first data", key_mtu },
};

const char *net_compare(struct arena *a, const struct net_in *in, const struct node_ports *p, size_t which)
{
	const char **keys = arena_alloc(a, in->n * sizeof(*keys) + 1);
	struct net_group g[NET_GROUPS_MAX];
	char text[400] = "";
	size_t groups, len = 0;

	for (size_t i = 0; keys != NULL && i < in->n; i++)
		keys[i] = comparisons[which].key(a, in, p, i);
	groups = keys != NULL ? net_group(a, in->nodes, keys, in->n, g) : 0;
	if (groups < 2)
		return NULL;
	for (size_t i = 0; i < groups && len < 280; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.60s on %.60s", i ? "; " : "", g[i].key, g[i].nodes);
	return arena_printf(a, "%s: %s%s", comparisons[which].what, text, comparisons[which].then);
}
