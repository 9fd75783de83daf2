/* explain.h - how it is with a job, in plain words: nodectl why
 *
 * One paragraph that says the state and its reason, then what was seen (by whom, when),
 * what is not known, and what to do. Pure: everything comes in, texts live in the arena.
 * It judges nothing anew: it chooses what matters most among what others have judged.
 */
#ifndef NA_CORE_EXPLAIN_H
#define NA_CORE_EXPLAIN_H

#include "common/arena.h"
#include "proto/message.h"

/* A node of the job. */
struct explain_node {
	const char *name;
	const char *state; /* as in node_info */
	uint64_t silent_ms; /* since it was last heard */
	bool ever_read; /* there are readings */
	const struct rec_attention *v; /* what was judged of it */
	size_t n;
};

struct explain_in {
	const struct rec_job_info *job; /* in full: with ranks, story, nccl_nodes */
	const struct explain_node *nodes;
	size_t n_nodes;
	int64_t wall_ms; /* now */
};

/* NULL on ENOMEM. */
struct rec_explanation *explain(struct arena *a, const struct explain_in *in);

#endif
