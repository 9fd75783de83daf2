/* conduct.h - the conductor of a check: a process beside rank 0, without GPU
 *
 * Tells the ranks step by step what to do and waits for their answers, each
 * wait with a deadline. So when something hangs, it knows who has said "I wait"
 * and who says nothing. What it finds goes to stdout, one JSON object a line;
 * the kinds and fields are described in docs/json.md, "nodectl check nccl".
 */
#ifndef NA_NCCL_CONDUCT_H
#define NA_NCCL_CONDUCT_H

#include "nccl/worker.h"

/* Exit codes of a check. */
enum {
	CHECK_GOOD = 0,
	CHECK_BAD = 1, /* wrong data, a hang, an error, or too slow */
	CHECK_USAGE = 2,
	CHECK_UNABLE = 3, /* no GPU, library or driver; different versions; ranks that never came */
	CHECK_LOST = 4, /* the conductor has gone */
};

/* Exit code. Takes the listener. */
int conduct(const struct check_options *o, const struct check_rank *me, int listener);

#endif
