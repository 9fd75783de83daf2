/* nccl_ras.h - what NCCL's RAS subsystem answers to STATUS in JSON
 *
 * JSON exists since NCCL 2.28.7. Up to 2.28.9 it lacks a comma where a rank is
 * missing (jsonWriteMissingRank, mended in 2.29.2): that is mended before it is
 * read. Counts are collectives *launched*, of each communicator and since its
 * begin; send and recv are not counted. Equal counts do not mean that all is well:
 * ranks that all wait in the same collective have them too.
 *
 * Asking can crash a job of NCCL <= 2.28.9 while a communicator is being made
 * (nccl#1762, nccl#2346): the caller knows from the log that none is. Pure.
 */
#ifndef NA_COMMON_NCCL_RAS_H
#define NA_COMMON_NCCL_RAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define NCCL_RAS_REPLY_MAX (8u << 20) /* bytes; a longer reply is refused */
#define NCCL_RAS_COMMS_MAX 4096
#define NCCL_RAS_RANKS_MAX 65536 /* of all communicators together */

/* In the order of 'counts'. */
enum ras_coll { RAS_BROADCAST, RAS_REDUCE, RAS_ALL_GATHER, RAS_REDUCE_SCATTER, RAS_ALL_REDUCE, RAS_COLLS };

struct ras_rank {
	uint32_t rank; /* of this communicator: not always the job's */
	char host[64]; /* numeric address, without port */
	uint32_t pid; /* with the host: which process of the job it is; 0: not told */
	int32_t cuda_dev, nvml_dev; /* -1: not told */
	bool missing; /* it did not answer: no counts */
	bool unresponsive, dead; /* of missing ones: NCCL's own word */
	int32_t init_state; /* 0 ready, 7 in progress, else an error (ncclResult_t) */
	int32_t async_error; /* ncclResult_t */
	bool finalizing, destroyed, aborted;
	uint64_t counts[RAS_COLLS];
};

struct ras_comm {
	char hash[40];
	uint32_t size; /* ranks it should have */
	uint32_t n_missing;
	struct ras_rank *ranks; /* n_ranks, ascending; missing ones among them */
	size_t n_ranks;
};

struct nccl_ras {
	char version[24]; /* "2.28.9" */
	double collection_s; /* how long it asked around; < 0: not told */
	uint32_t timeouts; /* legs that did not answer in time */
	struct ras_comm *comms;
	size_t n_comms;
};

/* 0; -EINVAL: not such a reply (a sentence in e); -E2BIG, -ENOMEM. *ret is untouched
 * on failure, else nccl_ras_finish() frees it. */
int nccl_ras_parse(const char *text, size_t len, struct nccl_ras *ret, struct err *e);
void nccl_ras_finish(struct nccl_ras *r); /* zeroes it; a zeroed one is fine */

/* One rank that has launched fewer of one collective than the most that another has. */
struct ras_behind {
	const struct ras_comm *comm;
	const struct ras_rank *rank;
	enum ras_coll coll;
	uint64_t count, most;
	size_t n_behind; /* ranks of this communicator that have fewer than the most, of this collective */
};

/* Who is behind the others: of the collectives in which ranks differ, that with the
 * fewest ranks behind, then the widest gap; of it the rank with the least. False: all
 * counts of each communicator are equal, or there is nothing to compare. Only ranks
 * that are ready count. With n_behind near the communicator's size it is rather one
 * rank that has gone ahead. */
bool nccl_ras_behind(const struct nccl_ras *r, struct ras_behind *ret);
/* All counts in one number: equal in two replies means that nothing was launched between. */
uint64_t nccl_ras_sum(const struct nccl_ras *r);
/* "all-reduce" */
const char *ras_coll_name(enum ras_coll c);

/* RAS of this version answers in JSON; false also when it is not known. */
bool nccl_ras_has_json(const char *version);
/* ... and (2.29.2) may be asked while a rank is missing, of a job with several communicators. */
bool nccl_ras_safe_missing(const char *version);

#endif
