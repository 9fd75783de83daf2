/* status.h - asking for the state of the cluster, and finding a node in the answer */
#ifndef NA_CLIENT_STATUS_H
#define NA_CLIENT_STATUS_H

#include "client/commands.h"

struct status_wish {
	bool detail; /* GPUs, ports and sources of each node */
	bool topology; /* needs 'node' */
	const char *node; /* this one only; NULL: all */
};

/* A request, but for its rid. */
void status_request(struct msg *m, const struct status_wish *wish);
/* Asks over a link of its own; CTL_GO, or the exit code after the sentence. */
int status_get(const struct ctl *c, const struct status_wish *wish, struct gathered *ret);

/* Is it certain that no node has what this group of checks is about, a GPU ("gpu.") or an RDMA port ("ib.")?
 * False also when nobody answers, of which it says nothing. */
bool status_has_none(const struct ctl *c, const char *group);

const struct rec_node_info *status_node(const struct rec_status *s, const char *name);
/* The exit code after a sentence that names a similar node. */
int status_no_node(const struct ctl *c, const struct rec_status *s, const char *name);

#endif
