/* lost.h - output of a job that its shim has no room for: when the log is told
 *
 *   fine --(a stream has lost something)--> losing: said, with the first rank
 *   losing --(output for LOST_QUIET_MS and none lost, or the job's end)--> fine: said, with how much
 *
 * Once for all ranks of the job: they share one disk, and there may be thousands. A
 * disk that is full now and then tells so twice a minute at most.
 *
 * Not promised: that a loss is known before somebody follows the output, or a rank
 * ends: shims tell nothing unasked.
 */
#ifndef NA_IO_LOST_H
#define NA_IO_LOST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/mono.h"
#include "proto/message.h"

#define LOST_QUIET_MS 60000

struct lost {
	struct lost_rank {
		uint64_t of[2], all; /* bytes lost, as told last: of stdout and stderr, and of both */
	} *ranks;
	uint32_t n;
	bool losing;
	uint64_t before; /* lost when it began */
	mono_t at; /* the last loss that was told */
};

enum lost_say { LOST_NOTHING, LOST_BEGINS, LOST_ENDS };

/* A message of the shim of so many ranks, the first of which is rank_base. BEGINS: *ret is the
 * rank; ENDS: the bytes since it began. Without memory nothing is said. */
enum lost_say lost_step(struct lost *l, uint32_t nprocs, uint32_t rank_base, const struct msg *m, mono_t now,
			uint64_t *ret);
void lost_finish(struct lost *l);

#endif
