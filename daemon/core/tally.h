/* tally.h - what most things of a kind are like: the measure where nobody says what is right
 *
 * Ports of one model have one rate, nodes have one driver. Values are counted
 * per kind and model; things that differ from nearly all others stand out.
 */
#ifndef NA_CORE_TALLY_H
#define NA_CORE_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/message.h"

enum tally_kind {
	TALLY_RATE, /* Mb/s of Active ports of a model, and of a name */
	TALLY_LANES,
	TALLY_FIRMWARE, /* of ports of a model */
	TALLY_PKEY,
	TALLY_DRIVER, /* of nodes */
	TALLY_GPUS, /* number of GPUs of nodes that have any of a model */
	TALLY_NVLINKS, /* of GPUs of a model */
	TALLY_PCIE, /* generation and width that GPUs of a model can have */
	TALLY_LIMIT, /* W, of GPUs of a model */
	TALLY_PORTS, /* number of RDMA ports of nodes of one make that have any */
	TALLY_SM, /* SM LID of Active InfiniBand ports of one name: rails may have fabrics of their own */
	TALLY_ECC, /* "1" where ECC is on, of GPUs of a model */
	TALLY_DOWN, /* "1" of ports of one name that are Down, "0" of the others */
	TALLY_WENT, /* "1" of ports of one name that are Down and were Active */
};

#define TALLY_SLOTS 1024 /* a power of two, and never full */
#define TALLY_MAX 256 /* different values in all; what comes later is not counted */

struct tally_entry {
	uint8_t kind;
	uint32_t hash; /* of these three, or another one's */
	char model[66], value[66];
	uint32_t n;
};

struct tally_part;
struct port_base;
struct tally {
	uint32_t nodes; /* with readings */
	uint32_t nodes_init; /* with a port that waits for a subnet manager */
	uint32_t nodes_active; /* with an Active InfiniBand port */
	bool full; /* something was not counted, or values that nobody has any more fill it */
	bool no_memory;
	size_t n;
	struct tally_entry v[TALLY_MAX];
	struct tally_part *part; /* of the node that is being counted; NULL: nobody wants it back */
	uint16_t slots[TALLY_SLOTS]; /* by hash, or behind it: 1 + index in v; 0: free */
};

/* How a value stands among its like. */
struct tally_view {
	const char *most; /* the value of more than half of them; NULL: there is none */
	uint32_t n_most, n_same, n_all; /* with it; with the value asked about; of this kind and model */
};

/* What one node has brought: that it can be taken back when it says something else. */
struct tally_part {
	bool counted, init, active;
	uint16_t *v; /* indices in tally.v */
	size_t n, cap;
};

void tally_clear(struct tally *t); /* parts are of no use afterwards */
/* bases: of its ports that were Active. False: no memory; what was counted of it cannot be taken back whole. */
bool tally_put(struct tally *t, const struct rec_readings *r, const struct port_base *bases, size_t n_bases, struct tally_part *part);
void tally_take_back(struct tally *t, struct tally_part *part);
/* For good. */
void tally_node(struct tally *t, const struct rec_readings *r);
void tally_add(struct tally *t, enum tally_kind kind, const char *model, const char *value);
void tally_look(const struct tally *t, enum tally_kind kind, const char *model, const char *value,
		struct tally_view *ret);
/* The model of a port's device, which ports that may be compared have in common. */
const char *tally_port_model(const struct rec_port *p);
/* What ports of this name, of all nodes, are counted under for TALLY_RATE, TALLY_LANES, TALLY_DOWN and TALLY_WENT. */
const char *tally_port_name(const struct rec_port *p, char out[66]);
/* That of a node's GPUs: hosts of different make are not alike. "": not known. */
const char *tally_gpu_model(const struct rec_readings *r);
/* The same, and of nodes without GPUs (login, storage) what their adapters are. */
const char *tally_make(const struct rec_readings *r, char out[66]);

#endif
