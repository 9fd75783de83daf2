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

/* How the ports of one node are in a partition by this index. */
enum membership { IS_OUT, IS_LIMITED, IS_FULL };

static enum membership member_at(const struct net_ports *v, uint32_t index, uint16_t base)
{
	enum membership m = IS_FULL;

	for (size_t k = 0; k < v->n; k++) {
		struct table t;

		read_table(v->v[k], &t);
		if (index >= t.n || (t.v[index] & BASE) != base)
			return IS_OUT;
		if (!(t.v[index] & FULL))
			m = IS_LIMITED;
	}
	return m;
}

/* The first index by which all of its ports are in it, as full members where there is a choice. */
static enum membership member(const struct net_ports *v, uint16_t base, uint32_t *ret_index)
{
	enum membership best = IS_OUT;

	for (uint32_t i = 0; i < PKEY_TABLE_MAX && best != IS_FULL; i++) {
		enum membership m = member_at(v, i, base);

		if (m > best) {
			best = m;
			*ret_index = i;
		}
	}
	return best;
}

static bool all_told(const struct net_ports *v, size_t n)
{
	struct table t;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i].n; k++) {
			read_table(v[i].v[k], &t);
			if (t.n == 0)
				return false;
		}
	return true;
}

/* Two limited members do not hear each other. */
static bool serves(const struct net_ports *v, size_t n, uint16_t base, bool at_0, uint32_t *index)
{
	size_t limited = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t at = 0;
		enum membership m = at_0 ? member_at(&v[i], 0, base) : member(&v[i], base, &at);

		if (m == IS_OUT)
			return false;
		limited += m == IS_LIMITED;
		index[i] = at;
	}
	return limited < 2;
}

static uint16_t first_key(const struct rec_port *p)
{
	struct table t;

	read_table(p, &t);
	return t.n > 0 ? t.v[0] : 0;
}

/* ---- in words ----------------------------------------------------------------------- */

/* "0x7fff", "0x7fff (limited)", "0x7fff and 0x0001" */
static const char *say_node(struct arena *a, const struct net_ports *v)
{
	uint16_t key = first_key(v->v[0]);
	const char *limited = key & FULL ? "" : " (limited)";

	if ((key & BASE) == 0)
		return "none";
	for (size_t k = 1; k < v->n; k++)
		if (((first_key(v->v[k]) ^ key) & BASE) != 0)
			return arena_printf(a, "0x%04x and 0x%04x", key & BASE, first_key(v->v[k]) & BASE);
	return arena_printf(a, "0x%04x%s", key & BASE, limited);
}

/* "partition 0x7fff on gpu[01-03]; 0x0001 on gpu04". The node that stands alone, or n. */
static const char *say_nodes(struct arena *a, const struct net_ports *v, const struct net_node *nodes, size_t n, size_t *ret_alone)
{
	const char **keys = arena_alloc(a, n * sizeof(*keys) + 1);
	struct net_group g[NET_GROUPS_MAX];
	char text[300] = "";
	size_t groups, len = 0;

	*ret_alone = n;
	if (keys == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if ((keys[i] = say_node(a, &v[i])) == NULL)
			return NULL;
	groups = net_group(a, nodes, keys, n, g);
	for (size_t i = 0; i < groups && len < 200; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s on %.60s", i ? "; " : "", g[i].key, g[i].nodes);
	for (size_t i = 0; groups == 2 && n > 2 && g[1].count == 1 && i < n; i++)
		if (strcmp(keys[i], g[1].key) == 0)
			*ret_alone = i;
	return arena_strdup(a, text);
}

static bool conclude_none(struct arena *a, const struct net_ports *v, const struct net_node *nodes, size_t n, struct pkey_choice *ret)
{
	const char *who = say_nodes(a, v, nodes, n, &ret->guilty);
	bool one = true;

	for (size_t i = 0; i < n; i++)
		one = one && member_at(&v[i], 0, first_key(v[0].v[0]) & BASE) != IS_OUT;
	ret->is = PKEY_NONE;
	if (one && (first_key(v[0].v[0]) & BASE) != 0)
		ret->why = arena_printf(a, "the nodes are limited members of their partition, and limited members do not hear each other: "
					"%s (the subnet manager's partitions.conf: =full)", who);
	else
		ret->why = arena_printf(a, "the nodes have no partition key in common as full members: partition %s "
					"(the subnet manager's partitions.conf)", who);
	return who != NULL && ret->why != NULL;
}

/* ---- choosing --------------------------------------------------------------------------- */

static bool find_index(const struct net_ports *v, size_t n, struct pkey_choice *ret, uint16_t *ret_base)
{
	struct table t;

	read_table(v[0].v[0], &t);
	for (size_t i = 0; i < t.n; i++) {
		*ret_base = t.v[i] & BASE;
		if (*ret_base != 0 && serves(v, n, *ret_base, false, ret->index))
			return true;
	}
	return false;
}

static bool rail_is(const struct net_ports *v, size_t n, size_t k, uint16_t key)
{
	for (size_t i = 0; i < n; i++)
		if (first_key(v[i].v[k]) != key)
			return false;
	return true;
}

/* The key that most rails have on all nodes, by index 0 and as full members; 0: none. */
static uint16_t most_rails(const struct net_ports *v, size_t n, size_t *ret_count)
{
	uint16_t best = 0;

	*ret_count = 0;
	for (size_t k = 0; k < v[0].n; k++) {
		uint16_t key = first_key(v[0].v[k]);
		size_t count = 0;

		for (size_t m = 0; (key & FULL) && (key & BASE) && m < v[0].n; m++)
			count += rail_is(v, n, m, key);
		if (count > *ret_count) {
			*ret_count = count;
			best = key;
		}
	}
	return best;
}

static void drop_rails(struct net_ports *v, size_t n, uint16_t key)
{
	size_t kept = 0, all = v[0].n;

	for (size_t k = 0; k < all; k++) {
		if (!rail_is(v, n, k, key))
			continue;
		for (size_t i = 0; i < n; i++)
			v[i].v[kept] = v[i].v[k];
		kept++;
	}
	for (size_t i = 0; i < n; i++)
		v[i].n = kept;
}

/* Which of the rails was it, and where? */
static const char *say_rail(struct arena *a, const struct net_ports *v, const struct net_node *nodes, size_t n, uint16_t key)
{
	for (size_t k = 0; k < v[0].n; k++)
		for (size_t i = 0; i < n; i++)
			if (first_key(v[i].v[k]) != key)
				return arena_printf(a, "%.64s of %.64s is %s of partition 0x%04x", v[i].v[k]->device, nodes[i].name,
						    first_key(v[i].v[k]) & FULL ? "a member" : "a limited member",
						    first_key(v[i].v[k]) & BASE);
	return "";
}

static bool leave_out(struct arena *a, struct net_ports *v, const struct net_node *nodes, size_t n, struct pkey_choice *ret)
{
	size_t stay, all = v[0].n;
	uint16_t key = most_rails(v, n, &stay);

	if (stay == 0)
		return conclude_none(a, v, nodes, n, ret);
	ret->is = PKEY_DROPPED;
	ret->why = arena_printf(a, "NCCL gets %zu of %zu ports, those of partition 0x%04x: %s", stay, all, key & BASE,
				say_rail(a, v, nodes, n, key));
	drop_rails(v, n, key);
	return ret->why != NULL;
}

bool pkeys_choose(struct arena *a, struct net_ports *v, const struct net_node *nodes, size_t n, bool rails, struct pkey_choice *ret)
{
	uint16_t base;
	size_t alone;
	const char *who;

	*ret = (struct pkey_choice){ .is = PKEY_FINE, .guilty = n };
	ret->index = arena_alloc(a, n * sizeof(*ret->index) + 1);
	if (ret->index == NULL)
		return false;
	for (size_t i = 0; i < n; i++)
		if (v[i].n == 0)
			return true;
	base = first_key(v[0].v[0]) & BASE;
	if (n < 2 || !all_told(v, n) || (base != 0 && serves(v, n, base, true, ret->index)))
		return true;
	if (find_index(v, n, ret, &base)) {
		who = say_nodes(a, v, nodes, n, &alone);
		ret->is = PKEY_INDEX;
		ret->why = arena_printf(a, "the index of partition 0x%04x, which all nodes have; index 0 is %s", base, who);
		return who != NULL && ret->why != NULL;
	}
	return rails ? leave_out(a, v, nodes, n, ret) : conclude_none(a, v, nodes, n, ret);
}
