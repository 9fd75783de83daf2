/* devices.h - what the lists of GPUs and of ports have in common
 *
 * nodectl gpus and nodectl ports show devices of many nodes, nodectl node
 * those of one. Trouble comes first, then the natural order of nodes.
 */
#ifndef NA_CLIENT_DEVICES_H
#define NA_CLIENT_DEVICES_H

#include "client/commands.h"
#include "common/hostlist.h"

struct device {
	const struct rec_node_info *n;
	const struct rec_gpu *gpu; /* one of both */
	const struct rec_port *port;
	int rank; /* 0: the most trouble */
};

struct devices {
	struct device *v; /* freed by devices_finish */
	size_t n;
	int64_t wall_ms; /* now, by the coordinator's clock; 0: not known */
	bool node; /* the table names the node */
};

struct device_kind {
	const char *key; /* of the JSON array */
	const char *none; /* what is said in place of an empty table */
	size_t (*count)(const struct rec_node_info *n);
	/* Number i of node n; fills in all but .n */
	void (*get)(const struct rec_node_info *n, size_t i, struct device *ret);
	int (*compare)(const struct device *a, const struct device *b); /* of one node */
	void (*table)(struct out *o, const struct devices *d);
	void (*json)(struct out *o, const struct device *d); /* members of an object */
};

extern const struct device_kind devices_gpus, devices_ports;
extern const struct opt devices_opts[]; /* -w */

/* nodectl gpus, nodectl ports */
int devices_run(struct ctl *c, const struct device_kind *kind);
/* The devices of the nodes in 'hosts' (NULL: of all), in order. -ENOMEM. */
int devices_find(const struct device_kind *kind, const struct rec_status *s,
		 const struct hostlist *hosts, struct devices *ret);
void devices_finish(struct devices *d);

/* Cells that several tables have. */
void devices_node_cell(struct out *o, const struct devices *d, const struct device *one);
void devices_numa_cell(struct out *o, bool known, uint32_t numa);
/* "3m": what has passed since then, by the coordinator's clock. */
void devices_add_age(struct buf *b, const struct devices *d, int64_t then_ms);

#endif
