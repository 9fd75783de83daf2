/* spools.h - how much output a node keeps: of each job, of all, and for how long
 *
 * A job that lives may keep spool_per_job bytes here, and all of them together
 * no more than spool_per_node: with many jobs each one's share is smaller. Their
 * shims are told (shim_spool) and give back the oldest output themselves.
 *
 * The output of jobs that are over goes when it is older than spool_keep, and the
 * oldest first when all together takes more than spool_per_node. It is looked
 * at every 10 s while jobs are here, after each end, and once an hour.
 *
 * Not promised: that the limit holds between two looks; what lives and what is
 * left of ended jobs may take twice as much for 10 s.
 */
#ifndef NA_IO_SPOOLS_H
#define NA_IO_SPOOLS_H

#include "io/agent_io.h"

struct spools;

void spools_create(struct agent_io *io, struct spools **ret);
/* A shim has connected: it is told what it may keep. */
void spools_shim_up(struct spools *s, struct conn *shim);
/* After each step of the core: jobs may have come or gone. */
void spools_kick(struct spools *s);
/* What a spool that is not here any more may have gone for; a few words. */
void spools_say_limits(const struct spools *s, char *out, size_t size);

#endif
