/* nccl_pkey.c - see nccl_pkey.h */
#include "core/nccl_pkey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BASE 0x7fffu /* which partition */
#define FULL 0x8000u

/* Of one port; n 0: not told. */
struct table {
	uint16_t v[PKEY_TABLE_MAX];
	size_t n;
};

static void read_table(const struct rec_port *p, struct table *ret)
{
	const char *s = p->pkey_table;

	ret->n = 0;
	while (s != NULL && *s != '\0' && ret->n < PKEY_TABLE_MAX) {
		char *end;
		unsigned long v = strtoul(s, &end, 16);

		if (end == s || v > 0xffff || (*end != '\0' && *end != ','))
			break; /* of nobody's making */
		ret->v[ret->n++] = (uint16_t)v;
		s = *end == ',' ? end + 1 : end;
	}
	if (ret->n == 0 && MSG_HAS(p, port, pkey)) /* of an older probe */
		ret->v[ret->n++] = (uint16_t)p->pkey;
}

/* The tables of all ports, read once: they are looked at for each key and index. */
struct tables {
	const struct net_ports *v;
	size_t n; /* nodes */
	const struct table *t;
	size_t each; /* ports of a node, at most */
};

static const struct table *table_of(const struct tables *x, size_t i, size_t k)
{
	return &x->t[i * x->each + k];
}

static bool read_tables(struct arena *a, const struct net_ports *v, size_t n, struct tables *ret)
{
	struct table *t;

	*ret = (struct tables){ .v = v, .n = n };
	for (size_t i = 0; i < n; i++)
		ret->each = v[i].n > ret->each ? v[i].n : ret->each;
	t = arena_alloc(a, (n * ret->each + 1) * sizeof(*t));
	for (size_t i = 0; t != NULL && i < n; i++)
		for (size_t k = 0; k < v[i].n; k++)
			read_table(v[i].v[k], &t[i * ret->each + k]);
	ret->t = t;
	return t != NULL;
}

/* How the ports of one node are in a partition by this index. */
enum membership { IS_OUT, IS_LIMITED, IS_FULL };

static enum membership member_at(const struct tables *x, size_t i, uint32_t index, uint16_t base)
{
	enum membership m = IS_FULL;

	for (size_t k = 0; k < x->v[i].n; k++) {
		const struct table *t = table_of(x, i, k);

		if (index >= t->n || (t->v[index] & BASE) != base)
			return IS_OUT;
		if (!(t->v[index] & FULL))
			m = IS_LIMITED;
	}
	return m;
}

/* The first index by which all of its ports are in it, as full members where there is a choice. */
static enum membership member(const struct tables *x, size_t node, uint16_t base, uint32_t *ret_index)
{
	enum membership best = IS_OUT;

	for (uint32_t i = 0; i < table_of(x, node, 0)->n && best != IS_FULL; i++) {
		enum membership m = member_at(x, node, i, base);

		if (m > best) {
			best = m;
			*ret_index = i;
		}
	}
	return best;
}

static bool all_told(const struct tables *x)
{
	for (size_t i = 0; i < x->n; i++)
		for (size_t k = 0; k < x->v[i].n; k++)
			if (table_of(x, i, k)->n == 0)
				return false;
	return true;
}

/* Two limited members do not hear each other. */
static bool serves(const struct tables *x, uint16_t base, bool at_0, uint32_t *index)
{
	size_t limited = 0;

	for (size_t i = 0; i < x->n; i++) {
		uint32_t at = 0;
		enum membership m = at_0 ? member_at(x, i, 0, base) : member(x, i, base, &at);

		if (m == IS_OUT)
			return false;
		limited += m == IS_LIMITED;
		index[i] = at;
	}
	return limited < 2;
}

static uint16_t first_key(const struct tables *x, size_t i, size_t k)
{
	const struct table *t = table_of(x, i, k);

	return t->n > 0 ? t->v[0] : 0;
}

/* ---- in words ----------------------------------------------------------------------- */

/* "0x7fff", "0x7fff (limited)", "0x7fff and 0x0001" */
static const char *say_node(struct arena *a, const struct tables *x, size_t i)
{
	uint16_t key = first_key(x, i, 0);
	const char *limited = key & FULL ? "" : " (limited)";

	if ((key & BASE) == 0)
		return "none";
	for (size_t k = 1; k < x->v[i].n; k++)
		if (((first_key(x, i, k) ^ key) & BASE) != 0)
			return arena_printf(a, "0x%04x and 0x%04x", key & BASE, first_key(x, i, k) & BASE);
	return arena_printf(a, "0x%04x%s", key & BASE, limited);
}

/* "partition 0x7fff on gpu[01-03]; 0x0001 on gpu04". The node that stands alone, or n. */
static const char *say_nodes(struct arena *a, const struct tables *x, const struct net_node *nodes, size_t *ret_alone)
{
	size_t n = x->n;
	const char **keys = arena_alloc(a, n * sizeof(*keys) + 1);
	struct net_group g[NET_GROUPS_MAX];
	char text[300] = "";
	size_t groups, len = 0;

	*ret_alone = n;
	if (keys == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if ((keys[i] = say_node(a, x, i)) == NULL)
			return NULL;
	groups = net_group(a, nodes, keys, n, g);
	for (size_t i = 0; i < groups && len < 200; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s on %.60s", i ? "; " : "", g[i].key, g[i].nodes);
	for (size_t i = 0; groups == 2 && n > 2 && g[1].count == 1 && i < n; i++)
		if (strcmp(keys[i], g[1].key) == 0)
			*ret_alone = i;
	return arena_strdup(a, text);
}

static bool conclude_none(struct arena *a, const struct tables *x, const struct net_node *nodes, struct pkey_choice *ret)
{
	const char *who = say_nodes(a, x, nodes, &ret->guilty);
	uint16_t key = first_key(x, 0, 0) & BASE;
	bool one = true;

	for (size_t i = 0; i < x->n; i++)
		one = one && member_at(x, i, 0, key) != IS_OUT;
	ret->is = PKEY_NONE;
	if (one && key != 0)
		ret->why = arena_printf(a, "the nodes are limited members of their partition, and limited members do not hear each other: "
					"%s (the subnet manager's partitions.conf: =full)", who);
	else
		ret->why = arena_printf(a, "the nodes have no partition key in common as full members: partition %s "
					"(the subnet manager's partitions.conf)", who);
	return who != NULL && ret->why != NULL;
}

/* ---- choosing --------------------------------------------------------------------------- */

static bool find_index(const struct tables *x, struct pkey_choice *ret, uint16_t *ret_base)
{
	const struct table *t = table_of(x, 0, 0);

	for (size_t i = 0; i < t->n; i++) {
		*ret_base = t->v[i] & BASE;
		if (*ret_base != 0 && serves(x, *ret_base, false, ret->index))
			return true;
	}
	return false;
}

static bool rail_is(const struct tables *x, size_t k, uint16_t key)
{
	for (size_t i = 0; i < x->n; i++)
		if (first_key(x, i, k) != key)
			return false;
	return true;
}

/* The key that most rails have on all nodes, by index 0 and as full members; 0: none. */
static uint16_t most_rails(const struct tables *x, size_t *ret_count)
{
	uint16_t best = 0;

	*ret_count = 0;
	for (size_t k = 0; k < x->v[0].n; k++) {
		uint16_t key = first_key(x, 0, k);
		size_t count = 0;

		for (size_t m = 0; (key & FULL) && (key & BASE) && m < x->v[0].n; m++)
			count += rail_is(x, m, key);
		if (count > *ret_count) {
			*ret_count = count;
			best = key;
		}
	}
	return best;
}

/* x: as they were before any was left out */
static void drop_rails(const struct tables *x, struct net_ports *v, size_t n, uint16_t key)
{
	size_t kept = 0, all = v[0].n;

	for (size_t k = 0; k < all; k++) {
		if (!rail_is(x, k, key))
			continue;
		for (size_t i = 0; i < n; i++)
			v[i].v[kept] = v[i].v[k];
		kept++;
	}
	for (size_t i = 0; i < n; i++)
		v[i].n = kept;
}

/* Which of the rails was it, and where? */
static const char *say_rail(struct arena *a, const struct tables *x, const struct net_node *nodes, uint16_t key)
{
	for (size_t k = 0; k < x->v[0].n; k++)
		for (size_t i = 0; i < x->n; i++)
			if (first_key(x, i, k) != key)
				return arena_printf(a, "%.64s of %.64s is %s of partition 0x%04x", x->v[i].v[k]->device, nodes[i].name,
						    first_key(x, i, k) & FULL ? "a member" : "a limited member",
						    first_key(x, i, k) & BASE);
	return "";
}

static bool leave_out(struct arena *a, const struct tables *x, struct net_ports *v, const struct net_node *nodes, size_t n,
		      struct pkey_choice *ret)
{
	size_t stay, all = v[0].n;
	uint16_t key = most_rails(x, &stay);

	if (stay == 0)
		return conclude_none(a, x, nodes, ret);
	ret->is = PKEY_DROPPED;
	ret->why = arena_printf(a, "NCCL gets %zu of %zu ports, those of partition 0x%04x: %s", stay, all, key & BASE,
				say_rail(a, x, nodes, key));
	drop_rails(x, v, n, key);
	return ret->why != NULL;
}

bool pkeys_choose(struct arena *a, struct net_ports *v, const struct net_node *nodes, size_t n, bool rails, struct pkey_choice *ret)
{
	uint16_t base;
	size_t alone;
	const char *who;
	struct tables x;

	*ret = (struct pkey_choice){ .is = PKEY_FINE, .guilty = n };
	ret->index = arena_alloc(a, n * sizeof(*ret->index) + 1);
	if (ret->index == NULL)
		return false;
	for (size_t i = 0; i < n; i++)
		if (v[i].n == 0)
			return true;
	if (n < 2)
		return true;
	if (!read_tables(a, v, n, &x))
		return false;
	base = first_key(&x, 0, 0) & BASE;
	if (!all_told(&x) || (base != 0 && serves(&x, base, true, ret->index)))
		return true;
	if (find_index(&x, ret, &base)) {
		who = say_nodes(a, &x, nodes, &alone);
		ret->is = PKEY_INDEX;
		ret->why = arena_printf(a, "the index of partition 0x%04x, which all nodes have; index 0 is %s", base, who);
		return who != NULL && ret->why != NULL;
	}
	return rails ? leave_out(a, &x, v, nodes, n, ret) : conclude_none(a, &x, nodes, ret);
}
