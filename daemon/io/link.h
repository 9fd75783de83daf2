/* link.h - one framed connection on the libuv loop: TLS over TCP, or a Unix socket
 *
 * Owns its uv handles; they are freed in their close callbacks, nowhere else.
 * All callbacks run on the loop, never from inside a link_* call. After
 * on_down the link is gone. Knows nothing of messages' meaning.
 */
#ifndef NA_IO_LINK_H
#define NA_IO_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "proto/frame.h"

struct link;
struct tls_context; /* tls.h */

struct link_callbacks {
	/* Connected and, with TLS, both keys proved. First call. */
	void (*on_up)(struct link *l, void *arg);
	void (*on_json)(struct link *l, const char *text, size_t n, void *arg);
	/* NULL: DATA frames end the link. Payload borrowed for the call. */
	void (*on_data)(struct link *l, const struct data_header *h, const char *payload, size_t n,
			void *arg);
	/* Queued output fell below half of the limit after link_send* said "full". May be NULL. */
	void (*on_drain)(struct link *l, void *arg);
	/* Last call, also when the connection never came up. 'why' is a phrase:
	 * "connection refused", "closed by the other side", "silent for 5 s". */
	void (*on_down)(struct link *l, const char *why, void *arg);
	/* What came in is not of this protocol: too long, of an unknown type, malformed.
	 * What is sent now still goes out; the link closes after. May be NULL: closed at once. */
	void (*on_bad)(struct link *l, int error, const char *why, void *arg);
	/* So many bytes have come that are no complete message yet, or wait for a pause
	 * to end: it has changed. May be NULL. */
	void (*on_half)(struct link *l, size_t bytes, void *arg);
};

#define LINK_HIGH (4u << 20) /* queued bytes from which link_send* reports full, unless set otherwise */

/* Dials; on_up or on_down follows. 'pin' (32 bytes) is the key the other side
 * must have. deadline_ms covers name resolution, TCP and TLS. NULL on ENOMEM. */
struct link *link_dial_tls(uv_loop_t *loop, struct tls_context *tls, const char *host,
			   uint16_t port, const uint8_t *pin, uint32_t deadline_ms,
			   const struct link_callbacks *cb, void *arg);
struct link *link_dial_unix(uv_loop_t *loop, const char *path, const struct link_callbacks *cb,
			    void *arg);

/* Listener. The 'admit' callback is asked after TLS (key set) or accept (uid
 * set) and returns true after filling callbacks and argument for the new
 * link; false closes it. Pending (not yet admitted) connections are limited
 * to 'max_pending'; beyond that the oldest pending one is dropped, so that
 * idle attackers cannot keep others out. 10 s from accept to admit. */
struct link_listener;
struct link_who {
	const uint8_t *key; /* TLS: 32 bytes */
	uint32_t uid; /* Unix */
	const char *address; /* numeric, for logs and choice of addresses */
};
typedef bool (*link_admit)(void *arg, struct link *l, const struct link_who *who,
			   const struct link_callbacks **ret_cb, void **ret_arg);
/* *port 0: any, the chosen one is returned. host NULL: all addresses, v6 and v4.
 * -errno and a sentence ("127.0.0.1:7070: address already in use"). */
int link_listen_tls(uv_loop_t *loop, struct tls_context *tls, const char *host, uint16_t *port,
		    unsigned max_pending, link_admit admit, void *arg,
		    struct link_listener **ret, struct err *e);
/* Removes a stale socket first, but not one that answers. */
int link_listen_unix(uv_loop_t *loop, const char *path, unsigned mode, link_admit admit,
		     void *arg, struct link_listener **ret, struct err *e);
void link_listener_close(struct link_listener *s);

uint64_t link_id(const struct link *l); /* unique in this process, from 1 */
const uint8_t *link_key(const struct link *l); /* TLS peer's key, or NULL */
const char *link_address(const struct link *l); /* peer's, numeric */
const char *link_local_address(const struct link *l); /* ours, numeric; "" for Unix */
/* At first: FRAME_MAX_UNAUTH for an accepted TLS link (raise it in 'admit' or
 * after hello), FRAME_MAX for one we dialed and for Unix sockets. */
void link_set_max(struct link *l, uint32_t frame_max);
void link_set_high(struct link *l, size_t high);
/* 0; 1 when queued output exceeds that limit (still queued); -ENOTCONN when the
 * link is not up; -EMSGSIZE beyond FRAME_MAX; -ENOMEM: nothing was queued, and the
 * link closes, so that both sides know.
 * Frames of one turn of the loop leave together at its end. */
int link_send_json(struct link *l, const char *text, size_t n);
/* Copies header and payload. Same returns. */
int link_send_data(struct link *l, const struct data_header *h, const void *payload, size_t n);
/* Takes ownership of 'buf' (malloc'ed; DATA_ROOM bytes before the payload are
 * the link's to write headers into): no copy. Same returns; freed also on failure. */
#define DATA_ROOM (FRAME_HEADER + DATA_HEADER)
int link_send_data_take(struct link *l, const struct data_header *h, char *buf, size_t payload_n);
/* Writes what the kernel takes now, instead of at the end of the turn. */
void link_flush(struct link *l);
size_t link_queued(const struct link *l);
/* A measure of what the other side has taken so far, to be compared with an
 * earlier one while output has waited all the time: it grows as the other side
 * reads (Unix: by whole pieces of at most 64 KiB) or acknowledges (TCP), and may
 * shrink by what the kernel adds to the bytes that wait. */
int64_t link_taken(const struct link *l);
/* Stops reading (back-pressure) or goes on. */
void link_pause(struct link *l, bool paused);
/* Sends what is queued (at most 2 s), then closes; on_down follows with 'why'. */
void link_close(struct link *l, const char *why);
/* Closes at once; what is queued is lost. on_down follows. */
void link_drop(struct link *l, const char *why);
/* From now on these callbacks (used when ownership moves). */
void link_set_callbacks(struct link *l, const struct link_callbacks *cb, void *arg);

#endif
