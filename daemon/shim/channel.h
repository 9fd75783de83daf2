/* channel.h - the one connection to the agent
 *
 * The newest agent wins: an old one may hang in a half-dead process. Only
 * uid 0, our own uid and the agent's may connect. A connection that breaks,
 * breaks the rules or does not read is closed; the agent comes back.
 */
#ifndef NA_SHIM_CHANNEL_H
#define NA_SHIM_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "proto/frame.h"
#include "proto/message.h"

struct channel {
	int fd; /* -1: none */
	bool want_write; /* poll for writing too */
	bool broken; /* nobody listens; the end comes with the last byte to read */
	uint64_t serial; /* another one with every connection */
	struct frame_reader in;
	struct buf out;
	size_t sent; /* of out */
};

void channel_init(struct channel *c);
void channel_finish(struct channel *c);
/* Takes a connection from the listener. True when there is a new one: the
 * former is closed. agent_uid: (uid_t)-1 when there is none. */
bool channel_accept(struct channel *c, int listener, uid_t agent_uid);
void channel_close(struct channel *c);
/* False when the connection is lost (closed by the call). */
bool channel_send(struct channel *c, const char *json, size_t len);
bool channel_send_msg(struct channel *c, const struct msg *m);
bool channel_flush(struct channel *c);
/* Receives once. False when the connection is lost (closed by the call). */
bool channel_receive(struct channel *c);
/* 1 and a frame, 0 none now, -1 lost (closed by the call). */
int channel_next(struct channel *c, struct frame *ret);

#endif
