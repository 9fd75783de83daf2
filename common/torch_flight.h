/* torch_flight.h - PyTorch's flight recorder: what its dump of one rank says of the last collective
 *
 * The dump is a pickle of one dictionary (torch/csrc/distributed/c10d/FlightRecorder.hpp, versions 2.x):
 *
 *   {"pg_status": {"0": {"last_enqueued_collective": 61, "last_started_collective": 61,
 *                        "last_completed_collective": 60}, ...},
 *    "entries": [{"pg_id": 0, "collective_seq_id": 61, "profiling_name": "nccl:all_reduce",
 *                 "state": "started", "is_p2p": False, ...}, ...], ...}
 *
 * Read without executing anything: values, lists and dictionaries only; what a pickle would call
 * or import is taken as its first argument, or as nothing. Of process group 0, the default one: it
 * holds all ranks. Pure. The input is a user's file and may be anything.
 */
#ifndef NA_COMMON_TORCH_FLIGHT_H
#define NA_COMMON_TORCH_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TORCH_FLIGHT_MAX (16u << 20) /* of a dump; 2,000 entries without stacks are about 1 MB */

struct torch_flight {
	bool has_status;
	int64_t enqueued, started, completed; /* sequence numbers of collectives; -1: none, or not known */
	bool has_last;
	uint64_t seq; /* the newest entry that is a collective */
	char op[33]; /* "all_reduce" */
	char state[17]; /* "scheduled" "started" "completed" */
};

/* 0; -EAGAIN: it ends before its end, for it is being written; -EINVAL: it is no such pickle; -ENOMEM */
int torch_flight_parse(const uint8_t *p, size_t n, struct torch_flight *ret);

#endif
