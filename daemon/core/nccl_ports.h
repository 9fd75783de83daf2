/* nccl_ports.h - the ports of a job's nodes, put side by side (for nccl_net.c)
 *
 * Good is a port that is Active and, on InfiniBand, has a LID; one that is
 * excluded by configuration is not there at all.
 */
#ifndef NA_CORE_NCCL_PORTS_H
#define NA_CORE_NCCL_PORTS_H

#include "core/nccl_net.h"

#define NET_IB_LAYER "InfiniBand"
#define NET_ETHERNET "Ethernet"
#define NET_GROUPS_MAX 32
#define NET_COMPARISONS 5

/* Of one node. */
struct node_ports {
	bool known;
	const char *unknown_why; /* a few words */
	const struct rec_port **v; /* all but excluded ones, in order of device names */
	size_t n;
	const char *other; /* a device whose link layer NCCL's own network does not know (EFA): not among them; NULL */
};

/* For placing jobs. */
enum ports_are { PORTS_UNKNOWN, PORTS_GOOD, PORTS_SOME_GOOD, PORTS_NONE_GOOD };
enum ports_are ports_are(const struct rec_readings *r); /* NULL: no readings */

/* Some of them, borrowed. */
struct net_ports {
	const struct rec_port **v;
	size_t n;
};

/* False: no memory. r: NULL when there are no readings. */
bool ports_look(struct arena *a, const struct rec_readings *r, struct node_ports *ret);
/* How many are there, and how many are good. layer: NULL for any. */
size_t ports_all(const struct node_ports *p, const char *layer);
size_t ports_good(const struct node_ports *p, const char *layer);
/* "mlx5_2 Initializing, mlx5_3 Down/Polling"; "none" where there is no port at all. */
const char *ports_ill(struct arena *a, const struct node_ports *p, const char *layer);
/* Those that are not good are the same on all nodes and merely Down: not in use. */
bool ports_idle_everywhere(const struct node_ports *p, size_t n, const char *layer);
/* Some node has good ones of the other layer, too. */
bool ports_other_layer(const struct node_ports *p, size_t n, const char *layer);
/* Good on all nodes by the same name, in ret[0..n-1] in the same order. False: names
 * differ so much that each node's own are better. v NULL: no memory. */
bool ports_common(struct arena *a, const struct node_ports *p, size_t n, const char *layer, struct net_ports *ret);
/* As many of each node: the fastest, in order of PCI addresses. How many. */
size_t ports_own(struct arena *a, const struct node_ports *p, size_t n, const char *layer, struct net_ports *ret);
/* Leaves out rails whose rate differs between the nodes, if others remain. A sentence
 * about it; NULL: all rates agree. */
const char *ports_drop_uneven(struct arena *a, struct net_ports *v, const struct net_node *nodes, size_t n);
/* "400", "12.5" */
const char *ports_rate_text(struct arena *a, uint32_t mbps);

/* Nodes with the same key. */
struct net_group {
	const char *key, *nodes; /* host list */
	size_t count;
};

/* Largest first; a key NULL is not known and in no group. At most NET_GROUPS_MAX. */
size_t net_group(struct arena *a, const struct net_node *nodes, const char *const *keys, size_t n,
		 struct net_group ret[NET_GROUPS_MAX]);
/* Comparison 0..NET_COMPARISONS-1 of the nodes, 0 of their Active ports: a sentence when they differ, or NULL. */
const char *net_compare(struct arena *a, const struct net_in *in, const struct node_ports *p, size_t which);

#endif
