/* probe.h - the agent's nodeagent-probe: kept running, heard */
#ifndef NA_IO_PROBE_H
#define NA_IO_PROBE_H

#include "io/agent_io.h"

/* False: there is none (not built, or not wanted): no readings will come. */
bool probe_create(struct agent_io *io);
void probe_begin(struct agent_io *io); /* once the core is there */
void probe_reap(struct agent_io *io); /* on SIGCHLD */
void probe_ask(struct agent_io *io); /* for readings of the GPUs, now */
void probe_end(struct agent_io *io);

#endif
