/* topology.h - how near GPUs and NICs of a node are to each other, as matrices */
#ifndef NA_CLIENT_TOPOLOGY_H
#define NA_CLIENT_TOPOLOGY_H

#include "client/out.h"
#include "proto/message.h"

/* As nvidia-smi topo -m where that fits into the columns: GPUs by GPUs and
 * NICs. Else GPUs by GPUs, then NICs by GPUs, in as many tables as it takes.
 * Then the NUMA nodes, their CPUs and what hangs on them. */
void topology_tables(struct out *o, const struct rec_node_info *n, unsigned columns);

#endif
