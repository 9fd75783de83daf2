/* gpu.h - one rank's GPU: buffers, a communicator, one operation at a time
 *
 * Every wait has a deadline and asks instead of blocking, so that a peer that
 * does not come costs time only; afterwards the communicator is aborted. What
 * the driver itself blocks in cannot be ended from here.
 */
#ifndef NA_NCCL_GPU_H
#define NA_NCCL_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "nccl/library.h"
#include "nccl/ops.h"

struct gpu {
	struct library *lib;
	char pci[17];
	char name[97]; /* "": not known */
	size_t floats; /* of each device buffer */
	float *send, *recv, *host;
	cuda_stream stream;
	cuda_event begin, end;
	nccl_comm comm;
	bool joining; /* the communicator is not ready yet */
	uint32_t n, rank; /* in the communicator */
	bool (*stop)(void *of); /* asked while waiting: true ends it as a deadline does; NULL: never */
	void *stop_of;
};

struct op_result {
	double us; /* of one operation, by the GPU's clock */
	size_t wrong, first_wrong; /* floats */
};

/* 'bytes': the largest S. Errors: a sentence that names the GPU. */
int gpu_open(struct gpu *g, struct library *lib, int device, size_t bytes, struct err *e);
/* -ETIMEDOUT: the others have not come. Leave afterwards, whatever came of it. */
int gpu_join(struct gpu *g, const struct nccl_id *id, uint32_t n, uint32_t rank, int timeout_ms, struct err *e);
/* Once, and looks at what came. -ETIMEDOUT: it is not through. */
int gpu_verify(struct gpu *g, enum op op, size_t bytes, int timeout_ms, struct op_result *ret, struct err *e);
/* 'times' times in a row, after a gpu_verify of the same; looks at what the last one brought. */
int gpu_time(struct gpu *g, enum op op, size_t bytes, uint32_t times, int timeout_ms, struct op_result *ret,
	     struct err *e);
void gpu_leave(struct gpu *g, bool abort);
void gpu_close(struct gpu *g); /* after leaving; of a half-open one, too */

#endif
