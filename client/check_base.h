/* check_base.h - a check's results beside those of earlier ones, which the coordinator keeps
 *
 * Adds to the lines of a check: "baseline" for each set that was compared (or
 * could not be), "finding" for each that is slow, "problem" when nobody could be asked.
 */
#ifndef NA_CLIENT_CHECK_BASE_H
#define NA_CLIENT_CHECK_BASE_H

#include "client/check_nccl.h"
#include "client/commands.h"

struct base_wish {
	bool anew; /* what was kept is to be forgotten first */
	uint32_t percent; /* below so much of a baseline is slow */
	uint32_t mib;
	uint32_t n_ops; /* each set must have so many */
};

/* After the check's end. Something slow makes lines->ok false. */
void check_base(const struct ctl *c, struct check_lines *lines, const struct base_wish *w);
/* Is the coordinator's own socket here, and may we write to it? */
bool check_base_may_keep(const struct ctl *c);
/* The link over which runs are kept where that may be, else the agent's. 0, or -errno and the sentence. */
int check_base_link(const struct ctl *c, struct link *l, struct err *e);
/* nodectl check nccl --history; nodes NULL: of all. The exit code. */
int check_history(struct ctl *c, const char *nodes);

#endif
