/* ports.h - MASTER_PORT and NCCL_RAS_ADDR ports, leased host-wide
 *
 * A lease on port N is a bound abstract Unix socket named nodeagent-port-N:
 * scoped by network namespace exactly as ports are, and gone with its holder,
 * whatever killed it. (Lock files are neither, hence no flock.) It keeps agents
 * of one host apart; other programs are seen by trying to bind the port.
 *
 * Not promised: that nobody takes the port between our closing the listener
 * and the rank's opening its own. The range lies below the ephemeral ports, so
 * it would have to be asked for by number.
 */
#ifndef NA_IO_PORTS_H
#define NA_IO_PORTS_H

#include <uv.h>

#include "common/buf.h"
#include "common/err.h"
#include "proto/message.h"

struct ports;

#define PORTS_FIRST 20000u

/* min, max 0: 20000 up to below the ephemeral range (at most 32767). */
int ports_create(uv_loop_t *loop, uint32_t min, uint32_t max, struct ports **ret, struct err *e);
void ports_destroy(struct ports *p); /* at exit: leases end with the descriptors */

struct ports_given {
	uint32_t master_port; /* 0 unless node_rank is 0 */
	uint32_t proof_port; /* 0 for jobs of one node */
	const uint32_t *ras; /* nprocs ports on 127.0.0.1; borrowed until release */
	size_t n_ras;
};
/* Microseconds a port (abstract names and binds touch no disk), so made on the
 * loop. With several nodes, MASTER_PORT and the proof port are listened on
 * until ports_unlisten. Repeated: the same answer. */
int ports_lease(struct ports *p, const struct rec_prepare *prep, struct ports_given *ret,
		struct err *e);
void ports_unlisten(struct ports *p, uint64_t job); /* all attempts */
void ports_release(struct ports *p, uint64_t job, uint32_t attempt);
/* All leased ports as decimal numbers, one space after each; "" when there are none. */
void ports_text(struct ports *p, uint64_t job, uint32_t attempt, struct buf *b);
/* After a restart: the lease on a port that a living job uses. Best effort: the
 * port itself is in use by then, so others pass it over anyway. */
void ports_retake(struct ports *p, uint64_t job, uint32_t attempt, uint32_t port);

#endif
