/* fix_ports.h - ports that wait for a subnet manager, until they are Active */
#ifndef NA_CLIENT_FIX_PORTS_H
#define NA_CLIENT_FIX_PORTS_H

#include "client/commands.h"

#define FIX_NAMES 6 /* of those that wait, in a sentence */

struct fix_ports {
	size_t all, active; /* InfiniBand ports that are judged, and of these */
	size_t waiting; /* Initializing or Armed */
	struct buf names; /* "gpu01 mlx5_0 Initializing, ..." */
};

void fix_ports_init(struct fix_ports *p);
void fix_ports_finish(struct fix_ports *p);
/* As they are now; CTL_GO, or the exit code after the sentence. */
int fix_ports_look(const struct ctl *c, struct fix_ports *p);
/* Until none waits, or ms have passed; says on standard error what is waited for. *ret_ms: how long it
 * took. CTL_GO in both cases; or the exit code. */
int fix_ports_wait(const struct ctl *c, uint64_t ms, struct fix_ports *p, int64_t *ret_ms);
/* On standard error: each one that still waits, and what is judged of it; then whether the manager at
 * 'node' runs. 'before': as it was before the restart. */
void fix_ports_say_left(const struct ctl *c, const struct fix_ports *before, const char *node, const char *unit);

#endif
