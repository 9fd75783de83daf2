/* standalone.h - one user's cluster on this host: a coordinator and N agents below a supervisor */
#ifndef NA_IO_STANDALONE_H
#define NA_IO_STANDALONE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

#define VIRTUAL_NODES_MAX 1024

struct standalone_opts {
	const char *dir;
	unsigned nodes;
	uint16_t port; /* 0: the one of last time, or any */
	const char *config; /* NULL: none */
	char **coord_args; /* further options, NULL-terminated */
	char **agent_args;
	bool verbose;
};

int standalone_run(const struct standalone_opts *o);

/* ---- between standalone.c and standalone_make.c ------------------------- */

struct layout {
	char dir[PATH_MAX]; /* absolute */
	char run[PATH_MAX]; /* real place of DIR/run */
	char coord_socket[PATH_MAX];
	unsigned nodes, digits; /* node names: "node%0*u" */
	uint16_t port;
	int lock_fd, run_fd;
};

/* Makes DIR, takes its lock, finds the short run directory. */
int layout_open(struct layout *l, const struct standalone_opts *o, struct err *e);
/* Keys, database and node.ini of whatever is missing; the port in each
 * node.ini. In a child process, so that the supervisor never carries OpenSSL
 * or SQLite. */
int layout_make_nodes(struct layout *l, struct err *e);
/* Tells of nodes that are there and were not asked for this time, and of jobs that they hold. */
void layout_say_left_out(const struct layout *l);
/* DIR/nodectl.sock and DIR/coordinator.sock. */
int layout_links(const struct layout *l, struct err *e);
/* When nothing of the cluster runs: a run directory outside of DIR goes, unless a shim
 * still holds its place there. */
void layout_close(const struct layout *l);
void layout_node_name(const struct layout *l, unsigned i, char out[65]);

#endif
