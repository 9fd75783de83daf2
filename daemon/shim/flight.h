/* flight.h - asks PyTorch's flight recorder of local ranks for a dump, and reads it, beside the loop
 *
 * Where the user has it on: with TORCH_NCCL_DEBUG_INFO_PIPE_FILE=STEM each rank makes the FIFO
 * STEM<rank>.pipe, unless TORCH_FR_BUFFER_SIZE (before: TORCH_NCCL_TRACE_BUFFER_SIZE) is 0, which
 * was the default of older versions. A byte in it makes a thread of that process write
 * <dump stem><rank>, also while its collectives hang.
 *
 * These are the job's own files, and may lie where every access hangs: one thread does it all,
 * which is left alone when it does not come back. One question at a time.
 */
#ifndef NA_SHIM_FLIGHT_H
#define NA_SHIM_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/torch_flight.h"

#define FLIGHT_RANKS 256 /* of a node; more are not asked */
#define FLIGHT_MS 6000 /* PyTorch looks at its FIFO every second */

struct flight_rank {
	uint32_t rank, pid; /* rank: of the whole job, as in RANK */
	bool asked; /* it has such a FIFO, and reads it */
	bool have;
	struct torch_flight last;
};

struct flight;

struct flight *flight_create(void); /* NULL: no memory, no descriptor */
void flight_destroy(struct flight *f);
int flight_fd(const struct flight *f); /* readable when there is an answer */
/* Is it on in this environment? Else why not: a sentence, static. */
const char *flight_off(const char *const *env);
/* False: one is under way, or no memory. env: "NAME=value" strings; what is needed is copied. */
bool flight_ask(struct flight *f, const char *const *env, const struct flight_rank *v, size_t n);
/* The answer, once: the ranks as they were asked, each with what its dump says. */
bool flight_take(struct flight *f, struct flight_rank ret[FLIGHT_RANKS], size_t *ret_n);

#endif
