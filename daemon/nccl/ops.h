/* ops.h - the operations of the check: sizes, data, and how their speed is counted
 *
 * Pure. Sizes and factors are nccl-tests' (its doc/PERFORMANCE.md): algbw is
 * S/t, S the bytes of the whole array (for all-gather, reduce-scatter and
 * gather that of all ranks together), busbw is algbw times a factor that makes
 * it comparable with a link's speed whatever the number of ranks.
 *
 * The data are floats that hold small whole numbers, so that sums of up to
 * 8,000 ranks are exact (less than 2^24) and are compared exactly.
 */
#ifndef NA_NCCL_OPS_H
#define NA_NCCL_OPS_H

#include <stddef.h>
#include <stdint.h>

enum op { OP_BROADCAST, OP_REDUCE, OP_ALL_REDUCE, OP_ALL_GATHER, OP_REDUCE_SCATTER, OP_GATHER, OP_SEND_RECV, OP_N };

struct op_size {
	size_t send, recv; /* floats of each rank's buffers */
	size_t count; /* what the call is given */
	size_t bytes; /* S */
};

/* "all_reduce"; OP_N: not one. */
const char *op_name(enum op op);
enum op op_named(const char *name);
/* For S of about 'bytes' in a group of n ranks: whole floats, the same for every rank, at least one. */
struct op_size op_size(enum op op, uint32_t n, size_t bytes);
double op_bus_factor(enum op op, uint32_t n);

/* What rank 'rank' of the group puts into its send buffer. */
void op_fill(uint32_t rank, float *send, size_t count);
/* How many floats of the receive buffer are not what they must be; 'root' is
 * rank 0. Ranks that receive nothing have 0 wrong ones. *ret_first: the first. */
size_t op_wrong(enum op op, uint32_t n, uint32_t rank, const float *recv, size_t count, size_t *ret_first);

#endif
