/* nccl_pkey.h - partition keys of the ports that a job is to use (for nccl_net.c)
 *
 * Ports of InfiniBand hear each other only in one partition: the low 15 bits of
 * a key of both are equal, and one of the two is a full member (the high bit).
 * NCCL uses one index of the table for all ports of a process, NCCL_IB_PKEY, 0
 * by default; which key stands there the subnet manager decides.
 */
#ifndef NA_CORE_NCCL_PKEY_H
#define NA_CORE_NCCL_PKEY_H

#include "core/nccl_ports.h"

#define PKEY_TABLE_MAX 32

enum pkey_is {
	PKEY_FINE, /* the key at index 0 serves, or nobody tells the keys of some port */
	PKEY_INDEX, /* another one: index[i] of node i */
	PKEY_DROPPED, /* ports of other partitions have been taken out of v */
	PKEY_NONE, /* they cannot hear each other */
};

struct pkey_choice {
	enum pkey_is is;
	uint32_t *index; /* of PKEY_INDEX: of each node */
	const char *why; /* a sentence, unless fine */
	size_t guilty; /* of PKEY_NONE: the one node that is in another partition; n: none in particular */
};

/* v: the chosen ports of n nodes. rails: v[i].v[k] of all nodes belong together, so
 * that some can be left out. False: no memory. */
bool pkeys_choose(struct arena *a, struct net_ports *v, const struct net_node *nodes, size_t n, bool rails,
		  struct pkey_choice *ret);

#endif
