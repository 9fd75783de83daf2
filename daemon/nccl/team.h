/* team.h - ranks that share a communicator, and how their operations went
 *
 * Several teams, of different ranks, go step by step side by side. */
#ifndef NA_NCCL_TEAM_H
#define NA_NCCL_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "nccl/cast.h"
#include "nccl/ops.h"
#include "nccl/worker.h"

struct team_op {
	bool done;
	double us; /* mean of its ranks', as nccl-tests takes it */
	double slowest_us;
	size_t wrong; /* floats, of all ranks */
	uint32_t wrong_rank; /* the first rank with wrong ones */
	size_t wrong_first; /* ... and which of its floats */
	uint32_t wrong_ranks; /* how many have some */
	size_t bytes; /* S */
	double algbw, busbw; /* GB/s, 10^9 */
};

struct team {
	uint32_t *ranks; /* their order is the communicator's; [0] is the root */
	uint32_t n;
	struct team_op op[OP_N];
	bool failed;
	char doing[32]; /* when it failed */
	struct {
		uint32_t p2p, shm, sends, gdr; /* channels of all ranks */
		char net[33], via[64], ib_why[200];
		bool mixed; /* ranks differ in their network */
	} how;
	char id[257];
};

/* All operations of 'ops' on all teams. A team that fails leaves the rest alone. */
void teams_run(struct cast *c, struct team *teams, size_t n, const struct check_options *o, uint32_t ops);
/* Afterwards, and after team_blame: it is the answers that are blamed. */
void teams_leave(struct cast *c, struct team *teams, size_t n, int timeout_ms);
/* What stands in the way of a failed team: those silent or gone are blamed first,
 * then errors, and last those that wait. Texts of one line each, in *out (JSON array). */
void team_blame(const struct cast *c, const struct team *t, struct jw *out);

#endif
