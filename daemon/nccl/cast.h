/* cast.h - the ranks of a check as the conductor sees them */
#ifndef NA_NCCL_CAST_H
#define NA_NCCL_CAST_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "nccl/wire.h"

struct player {
	struct wire wire;
	cJSON *here; /* who it is, before CUDA is loaded; NULL: nothing was heard */
	cJSON *hello; /* NULL: has not come */
	cJSON *reply; /* to the last question; NULL: none yet */
	bool asked;
	bool gone; /* its connection has ended */
	uint32_t gone_as; /* as the which of all, from 1 */
	bool silent; /* has let a deadline pass: is not asked any more */
	uint32_t node; /* index in the cast's nodes */
	uint32_t team; /* who is asked the same and waits for the same */
	bool stopped; /* was told to wait no longer */
};

struct cast {
	struct player *players; /* by rank */
	uint32_t world;
	char **nodes; /* names, in the order of their first rank */
	uint32_t n_nodes;
	int listener;
	uint32_t n_gone;
	const char *job;
	volatile sig_atomic_t ended; /* somebody wants us to end: waits become short */
};

int cast_init(struct cast *c, uint32_t world, const char *job, int listener);
void cast_finish(struct cast *c);
/* Until all have come (CUDA and NCCL are loaded there, or cannot be) or the time has passed; true:
 * all. Then nodes are known. Of those that have not come 'here' and 'gone' tell how far they got. */
bool cast_assemble(struct cast *c, int timeout_ms);

/* A question to one rank; the answer comes with cast_gather. Takes the line.
 * One that fails or goes ends its whole team's waiting: the others would wait in vain. */
void cast_ask(struct cast *c, uint32_t rank, uint32_t team, struct buf *line);
/* Until all that were asked have answered, have gone, or the time has passed;
 * who has said nothing by then counts as silent. */
void cast_gather(struct cast *c, int timeout_ms);
bool cast_is_able(const struct cast *c, uint32_t rank); /* here, and never silent */
/* "rank 3 (gpu02, GPU 1, pid 4711)"; in a static buffer of a few. */
const char *cast_name(const struct cast *c, uint32_t rank);

#endif
