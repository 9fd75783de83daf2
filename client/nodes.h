/* nodes.h - the table of nodes: trouble first, equal ones in one row where there are many
 *
 * A column whose data nobody has is absent; GPUs and ports that should be known
 * and are not are "?", and never no column. Two nodes share a row only if all
 * that the row shows is true of both: clocks and ages then stand there as
 * "<10ms" and "<10m", see reading.h.
 */
#ifndef NA_CLIENT_NODES_H
#define NA_CLIENT_NODES_H

#include "client/out.h"
#include "proto/message.h"

#define NODES_ALONE 20 /* up to so many each has its own row, if the screen is long enough */

struct nodes_view {
	bool group;
	bool age; /* a column that tells when each was last heard */
	unsigned columns; /* of the page: how long a list of names may be */
};

void nodes_table(struct out *o, const struct rec_status *s, const struct nodes_view *view);
/* "4 nodes, 1 degraded" */
void nodes_count(struct buf *b, const struct rec_status *s);
/* "GPUs 16 busy / 32"; "GPUs ?" where they should be known; nothing where there are none. */
void nodes_gpus(struct buf *b, const struct rec_status *s);
/* 0 the worst: how much trouble the node's state and attention mean. */
int nodes_rank(const struct rec_node_info *n);

#endif
