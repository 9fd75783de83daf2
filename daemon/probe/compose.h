/* compose.h - one message out of what the sources have read last */
#ifndef NA_PROBE_COMPOSE_H
#define NA_PROBE_COMPOSE_H

#include "common/buf.h"
#include "common/err.h"
#include "probe/sources.h"

enum compose_what {
	COMPOSE_ALL,
	/* Without what is never still (temperature, power, utilisation, memory in
	 * use, corrected errors, ages): two of these differ when something of
	 * interest has changed. Not for sending. */
	COMPOSE_MATERIAL,
};

/* JSON text of a 'readings' message of at most FRAME_MAX bytes: topology, then
 * processes are left out when it would be longer. 0 or -errno. */
int compose(const struct sources *s, enum compose_what what, mono_t now, struct buf *ret,
	    struct err *e);
/* A number that is another one when GPUs or RDMA devices have come or gone. */
uint64_t compose_devices(const struct sources *s);

#endif
