/* sm_find.h - where the subnet manager is, from what nodes tell of their services and ports
 *
 * Known are services of systemd (opensm, opensmd) on nodes that are heard, and the LID that
 * configured ports name as their manager's: that of the last master, for ports keep it when
 * it dies. A LID that is nobody's here is that of a switch or of a host outside the cluster.
 *
 * Not seen: a second manager that is standby on a switch; a manager in a container or started
 * by hand, but for its LID. Fabrics with the same GID prefix are taken for one.
 */
#ifndef NA_CORE_SM_FIND_H
#define NA_CORE_SM_FIND_H

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "proto/message.h"

#define SM_LINES_MAX 16 /* as in messages.def */
#define SM_NAMED_MAX 64 /* fabrics; more are passed over */

/* Borrowed. */
struct sm_node {
	const char *name;
	const struct rec_host *host; /* NULL: not told */
	const struct rec_port *ports;
	size_t n_ports;
};

struct sm_found {
	const struct sm_node *node; /* the one to restart; NULL: see 'why' */
	bool master; /* the ports name it */
	const char *lines[SM_LINES_MAX]; /* "opensm on gpu01: running, enabled, master (LID 1, mlx5_0)" */
	size_t n_lines;
	const char *why; /* none was chosen: what is known, and what to do */
};

/* 'wanted': on this node only; NULL: wherever it is. Texts are in the arena; false: no memory. */
bool sm_find(struct arena *a, const struct sm_node *v, size_t n, const char *wanted, struct sm_found *ret);

/* A port that a manager configures: Ethernet and excluded ones wait for none. */
bool sm_port(const struct rec_port *p);

/* What Active ports name as their manager, each once. */
struct sm_named {
	const struct rec_port *by[SM_NAMED_MAX]; /* one that names it */
	size_t n;
};
void sm_named(const struct sm_node *v, size_t n, struct sm_named *ret);
/* The port of this node that is named; NULL: none is. */
const struct rec_port *sm_master_port(const struct sm_named *s, const struct sm_node *of);
/* The LID that some port names, and no port here has; 0: there is none. */
uint32_t sm_lid_away(const struct sm_named *s, const struct sm_node *v, size_t n);

#endif
