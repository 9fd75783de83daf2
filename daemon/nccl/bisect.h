/* bisect.h - which node, link or part of the fabric is slow: what to measure next, and what it means
 *
 * Pure. In rounds; the groups of one round are disjoint and measured at once.
 *  1. All nodes in pairs. A good pair clears both; a bad one makes two suspects.
 *  2. Suspects with cleared nodes, as many at a time as there are cleared ones,
 *     so about log2(n) rounds at most. Bad with two different good partners: the
 *     node. Bad with one and good with another: their link.
 *  3. Pairs that were bad though both are cleared, once more: bad again, the link.
 *  4. When no pair is bad: groups of 4, 8, ... up to all. The first size that is
 *     slow tells how far up the fabric the bottleneck is.
 *
 * A figure is bad when it is below 'floor', or, with no floor, below 0.8 of the
 * upper quartile of the first round's (0.8 and the quartile are our choice: pairs
 * on one leaf switch differ by less, a lost rail of eight costs 0.12, a port at
 * half its rate 0.5 of a node with one). Two nodes alone, without a floor, have
 * nothing to be compared with.
 */
#ifndef NA_NCCL_BISECT_H
#define NA_NCCL_BISECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BISECT_RATIO 0.8

struct bisect;

/* Node indices of one group: nodes[at .. at+n). */
struct bisect_group {
	uint32_t at, n;
};

struct bisect_round {
	const uint32_t *nodes; /* borrowed until the next round */
	const struct bisect_group *groups;
	size_t n_groups; /* 0: all is known */
};

enum bisect_kind {
	BISECT_NODE, /* a: slow with every good partner */
	BISECT_LINK, /* a and b: slow with each other only */
	BISECT_ALL, /* every pair is below the floor */
	BISECT_FABRIC, /* pairs are good, groups of 'size' are not */
	BISECT_UNSURE, /* a: bad, and no good node is left to try it with */
};

struct bisect_finding {
	enum bisect_kind kind;
	uint32_t a, b, size;
	double got, usual; /* GB/s; got < 0: it did not work at all */
};

/* NULL: no memory. n >= 1. floor_gbps 0: none. */
struct bisect *bisect_create(uint32_t n, double floor_gbps);
void bisect_destroy(struct bisect *b);
struct bisect_round bisect_next(struct bisect *b);
/* What group k of the last round reached; negative: it failed. Each is told once. */
void bisect_tell(struct bisect *b, size_t k, double gbps);
uint32_t bisect_rounds(const struct bisect *b); /* begun so far */
/* Borrowed. */
size_t bisect_findings(const struct bisect *b, const struct bisect_finding **ret);

#endif
