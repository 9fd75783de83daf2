/* nccl_net.h - which network NCCL shall use in a job, from what its nodes read
 *
 * Pure: readings in, variables with their reasons out. What NCCL would do by
 * itself is known (facts of its source): it drops a port that is not Active
 * without a word, and speaks TCP when none is left; a node that speaks TCP and
 * one that speaks InfiniBand wait for each other for ever.
 *
 *   --net socket  NCCL_NET=Socket, NCCL_IB_DISABLE=1
 *   --net ib      NCCL_NET=IB, so that NCCL cannot fall back; refused when a node
 *                 has no port to use
 *   auto          the ports that are good on all nodes; where one node has none,
 *                 NCCL_NET=Socket for all of them, and a notice says why
 *
 * NCCL_IB_HCA names the ports exactly ("=mlx5_0:1,mlx5_1:1"). Where the nodes
 * name them alike it is what is good on all; a rail whose rate differs between
 * nodes is left out if others remain. Where names differ each node gets its own
 * list, all of one length. Which GPU uses which of them NCCL knows best: of the
 * ports it is allowed it takes the nearest, so order says nothing and a subset
 * for a job on some GPUs would only take away; 'gpu.nic' tells who has lost his.
 *
 * Partition keys are compared (nccl_pkey.h): ports that do not hear each other
 * are no ports, and where another index of the table serves, NCCL_IB_PKEY says so.
 *
 * What the job's owner has set is left alone. A job on one node gets nothing,
 * unless --net was said. Not promised: that the fabric joins the ports (rails); 'nodectl check nccl' tells that.
 */
#ifndef NA_CORE_NCCL_NET_H
#define NA_CORE_NCCL_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "proto/message.h"

#define NET_SETS_MAX 64 /* as in messages.def */
#define NET_NOTICES_MAX 8
#define NET_HCAS_MAX 32 /* NCCL reads no more names (MAX_IB_DEVS) */

enum net_want { NET_AUTO, NET_IB, NET_SOCKET };

/* A node of the job, in node rank order. */
struct net_node {
	const char *name;
	const struct rec_readings *r; /* NULL: not known */
	const char *ifname; /* that the other nodes were reached by; NULL or "": not known */
	uint32_t mtu; /* of its interface that carried the proved connections; 0: not known */
	bool sets_env; /* its agent sets what it is told */
	uint32_t gpus; /* that the job has there */
};

struct net_in {
	enum net_want want;
	bool all_gpus; /* the job takes what each node has, so it should be equal */
	const struct net_node *nodes;
	size_t n;
	const char *const *yours; /* names that the owner has set */
	size_t n_yours;
	uint32_t cluster, cluster_good; /* nodes of the cluster, and those that have an Active port; 0: not known */
};

struct net_out {
	struct rec_net_plan plan;
	const char *notices[NET_NOTICES_MAX];
	size_t n_notices;
	const char *refusal; /* the job must not start: a sentence; NULL: it may */
	size_t guilty; /* the one node that is why; n: none in particular */
};

/* ib, socket; "auto" or NULL. False: no such word. */
bool net_want_from(const char *word, enum net_want *ret);
/* Strings are made in the arena, or borrowed. 0 or -ENOMEM. */
int net_choose(struct arena *a, const struct net_in *in, struct net_out *ret);

#endif
