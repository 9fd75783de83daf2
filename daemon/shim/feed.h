/* feed.h - standard input of the first local rank: from the agent into a pipe
 *
 * The agent may send what it has been granted; we grant again as the rank
 * takes it. A new connection is granted the room there is: what an old agent
 * had in flight is the agents' business.
 */
#ifndef NA_SHIM_FEED_H
#define NA_SHIM_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define FEED_ROOM (256u << 10)

struct feed {
	int fd; /* write end of the pipe; -1: none, or closed */
	bool used; /* this job has standard input */
	bool eof; /* the agent said so; close when all is written */
	struct buf queue;
	size_t written; /* of queue */
	uint32_t granted; /* and not yet used by the agent */
};

void feed_init(struct feed *f);
void feed_finish(struct feed *f);
/* Makes the pipe; the read end is the caller's. 0 or -errno. */
int feed_open(struct feed *f, int *ret_read_fd);
/* Bytes to grant now (0: not worth a message); counted as granted. 'anew': to
 * an agent that has just connected. */
uint32_t feed_grant(struct feed *f, bool anew);
/* More than was granted: -EPROTO. To a closed feed: dropped. */
int feed_add(struct feed *f, const void *p, size_t n, bool eof);
/* Writes what the pipe takes; closes at the end, or when nobody reads. */
void feed_flush(struct feed *f);
bool feed_waiting(const struct feed *f); /* for room in the pipe */
void feed_close(struct feed *f);

#endif
