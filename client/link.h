/* link.h - the client's framed connection to an agent's (or coordinator's) Unix socket
 *
 * The descriptor is non-blocking; link_call() and link_open() wait with
 * poll(2) under a deadline, the other calls never wait.
 */
#ifndef NA_CLIENT_LINK_H
#define NA_CLIENT_LINK_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/mono.h"
#include "proto/frame.h"
#include "proto/message.h"

#define LINK_READ (512u << 10) /* bytes asked for at a time */
#define LINK_HELLO_MS 10000
#define LINK_ANSWER_MS 45000 /* an agent holds a request for 30 s while its coordinator is away */

struct link {
	int fd; /* -1: closed */
	struct frame_reader in;
	struct buf out;
	size_t sent; /* of out */
	uint32_t next_id; /* for rids and sids */
	bool ready; /* welcome received */
	uint32_t features; /* of the agent, from its welcome; see proto/features.h */
	char software[65];
	bool coordinator; /* whose socket it is, for the words: set before link_dial */
	char node[65]; /* whose agent it is, by its welcome; "" unknown */
	bool told_slow; /* that the answer takes long */
	/* For a caller that must hear signals while we wait: the mask to wait with,
	 * and what to do after one; true ends the wait with -EINTR. Survive link_close. */
	const sigset_t *open_mask; /* NULL: as it is */
	bool (*on_signal)(void *arg);
	void *signal_arg;
};

mono_t mono_now(void);

void link_init(struct link *l);
void link_close(struct link *l); /* usable again with link_dial */
/* Connects and queues hello. -ENOENT, -ECONNREFUSED, -EACCES ... and a
 * sentence with what to do; -EAGAIN when its queue is full. */
int link_dial(struct link *l, const char *path, struct err *e);
/* link_dial, then waits for welcome. -EPERM: refused (the other side's sentence). */
int link_open(struct link *l, const char *path, struct err *e);
/* To be called with the first message of a dialled link. */
int link_welcomed(struct link *l, const struct msg *m, struct err *e);

uint32_t link_id(struct link *l); /* a new rid or sid */
int link_send(struct link *l, const struct msg *m, struct err *e); /* queues */
int link_send_data(struct link *l, const struct data_header *h, const void *p, size_t n);
/* Writes what it can. 0 all written, 1 some left, -errno. */
int link_flush(struct link *l);
bool link_pending(const struct link *l);
/* Reads once: bytes read, 0 when there are none now, -EPIPE when closed, -errno. */
long link_fill(struct link *l);
/* 1 and a frame, 0, or -errno; see frame_next(). */
int link_next(struct link *l, struct frame *ret, struct err *e);

/* Sends a request and waits for the answer with its rid, of type 'want'.
 * 0 and *ret (msg_finish it); -EPERM and the sentence of a refusal, -EHOSTUNREACH
 * when the coordinator is away; -ETIME; -EPIPE when the other side is gone. */
int link_call(struct link *l, const struct msg *request, uint32_t rid, enum msg_type want,
	      struct msg *ret, struct err *e);
/* The next answer to the same request, for those that come in pieces. */
int link_answer(struct link *l, uint32_t rid, enum msg_type want, struct msg *ret, struct err *e);

#endif
