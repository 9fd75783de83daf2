/* orphans.h - what the dead shims of a child subreaper have left to it
 *
 * The processes of a dead shim become children of the subreaper that has
 * started it, whatever their environment. So do orphans of whoever else was
 * its descendant, and nothing tells the two apart. Hence:
 *
 *   started by us, in our session, or older than the shim  a stranger for certain
 *   we have strangers for descendants, or are process 1    'doubt': named, and left alone
 *   else                                                   the shim's: SIGKILL
 *
 * One that cannot be ended (setuid programs, state D) holds up the sweep that
 * has met it first, not the others; who may not be signalled holds up none.
 *
 * Not promised: that an orphan is killed by the sweep for its own shim; two
 * that die at once share. No lock inside: one pass at a time.
 */
#ifndef NA_COMMON_ORPHANS_H
#define NA_COMMON_ORPHANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/proc.h"

struct orphans {
	bool (*started)(pid_t pid, uint64_t start_time); /* by us */
	const char *doubt; /* a sentence; NULL: none */
	struct buf met; /* of struct met: live orphans that a sweep has found */
};

struct orphan_sweep {
	struct proc_id shim; /* start time 0: was not our child, nothing of it comes to us */
	uint32_t killed; /* have ended since */
};

/* Before becoming a subreaper. */
void orphans_init(struct orphans *o, bool (*started)(pid_t pid, uint64_t start_time));
void orphans_finish(struct orphans *o);
/* Sends the signals and reaps the dead. How many live that are worth waiting
 * for, or -errno. */
int orphans_pass(struct orphans *o, struct orphan_sweep *s);
/* Who lives on of those that sweeps for this shim have met: sentences, "" for nobody. */
void orphans_tell(const struct orphans *o, const struct orphan_sweep *s, char *out, size_t size);

/* Those of them that got their SIGKILL, or may not be signalled, and live, as lines of left.h. */
void orphans_left(const struct orphans *o, const struct orphan_sweep *s, char *lines, size_t size);

#endif
