/* nccl_say.h - what NCCL's log means, in words
 *
 * Pure. The words never say that NCCL is not in use: over TCP it is, and slowly.
 */
#ifndef NA_CORE_NCCL_SAY_H
#define NA_CORE_NCCL_SAY_H

#include "proto/message.h"

/* One node of the job. */
struct nccl_node {
	const char *node;
	const struct rec_nccl_state *s; /* NULL: it has said nothing */
	const struct rec_readings *r; /* as they were when it spoke; NULL: not known */
	const struct rec_addr *addrs;
	size_t n_addrs;
	uint32_t rank_base, n_ranks; /* processes that we start */
};

struct nccl_why {
	const char *reason; /* user port library container memlock none unknown */
	char text[512]; /* "... because ..." without that word */
	char fix[256]; /* "": none */
};

/* Runs it over TCP where a network matters: between nodes, or it has said that it sends over it. */
bool nccl_on_socket(const struct nccl_node *n, size_t n_nodes);
/* "NCCL 2.28.9, IB x8 GDR"; "": nothing is known. */
void nccl_say_brief(const struct nccl_node *v, size_t n, char *out, size_t size);
/* Why this node runs over TCP. */
void nccl_say_why(const struct nccl_node *n, struct nccl_why *ret);
/* The first trouble of node v[i], with the other end where its address is known; "": none. */
void nccl_say_trouble(const struct nccl_node *v, size_t n, size_t i, char *out, size_t size);

#endif
