/* worker.h - one rank: does what the conductor says, and answers */
#ifndef NA_NCCL_WORKER_H
#define NA_NCCL_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct check_options {
	const char *prefix; /* of the environment under test; NULL: as the loader finds */
	size_t bytes; /* S of the operations */
	int timeout_ms; /* of an operation */
	int init_timeout_ms; /* of a communicator */
	int come_timeout_ms; /* until all ranks are there */
	uint32_t ops; /* bit i: enum op i */
	bool bisect; /* search even if nothing is slow; else only when something is */
	double floor_inside, floor_between; /* GB/s of all-reduce busbw that are expected; 0: not known */
};

/* Who this rank is, from the environment its launcher gave. */
struct check_rank {
	uint32_t rank, world, local;
	const char *node, *job, *address, *port;
};

/* Exit code of the process. Errors are told on stderr, in a sentence. */
int worker_run(const struct check_options *o, const struct check_rank *me);

#endif
