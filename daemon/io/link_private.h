/* link_private.h - inside of link.c, link_out.c, link_tls.c, link_dial.c, listener.c, hub.c
 *
 *   DIALING   name resolution and connect (link_dial.c)
 *   HANDSHAKE TLS both ways; accepted links wait for admission (listener.c)
 *   UP        frames flow
 *   FLUSHING  link_close(): what is queued goes out, input is thrown away
 *   LINGER    our side is shut; waits for the other's end of file, at most 2 s
 *             in all (closing with unread input would reset the connection
 *             and could destroy what we sent last)
 *   DEAD      uv handles are closing; on_down from the last close callback
 */
#ifndef NA_IO_LINK_PRIVATE_H
#define NA_IO_LINK_PRIVATE_H

#include "common/list.h"
#include "io/link.h"
#include "io/tls.h"

#define LINK_FLUSH_MS 2000
#define LINK_ADMIT_MS 10000
#define LINK_ADDRESS_MAX 46
#define READ_SMALL 2048u /* a link at rest holds this much */
#define READ_BIG 262144u /* while bulk flows */
#define EAGER_FLUSH 131072u /* queued bytes that do not wait for the end of the loop's turn */

enum link_state { LS_DIALING, LS_HANDSHAKE, LS_UP, LS_FLUSHING, LS_LINGER, LS_DEAD };

/* ---- hub: what all links of one loop share (hub.c) ---------------------- */

/* Its prepare and check handles run just before and after the loop polls:
 * output queued by the callbacks of one turn leaves in one write per link. */
struct hub {
	uv_loop_t *loop;
	struct list entry; /* among the thread's hubs */
	unsigned refs;
	unsigned handles;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle; /* runs only while links are left dirty: keeps the loop from sleeping */
	uv_timer_t trim; /* one shot, armed by big buffers that have become empty */
	struct list dirty;
	struct list big;
	char *scratch; /* READ_BIG bytes; holds what was read from a TLS socket during its callback */
};

struct hub *hub_get(uv_loop_t *loop); /* NULL on ENOMEM */
void hub_put(struct hub *h);
char *hub_scratch(struct hub *h); /* NULL on ENOMEM */
void hub_mark(struct link *l); /* link_turn() is called before the loop sleeps */
void hub_mark_big(struct link *l); /* it has used much memory: link_trim() in a second */

/* ---- output queue (link_out.c) ------------------------------------------ */

/* A piece of the output: memory of the link's or a caller's buffer. */
struct seg {
	struct seg *next;
	char *base;
	size_t off, len; /* live bytes: base[off .. off+len) */
	size_t cap; /* may grow up to here; 0: never appended to */
};

struct queue {
	struct seg *head, *tail;
	size_t bytes;
};

/* Room for n bytes at the tail; the caller then calls queue_added(). NULL on ENOMEM. */
char *queue_room(struct queue *q, size_t n, size_t prefer);
void queue_added(struct queue *q, size_t n);
/* Takes buf (malloc'ed), even on failure. */
int queue_take(struct queue *q, char *buf, size_t off, size_t n);
void queue_consume(struct queue *q, size_t n);
void queue_clear(struct queue *q);

/* ---- link --------------------------------------------------------------- */

struct link_dial;

struct link {
	uint64_t id;
	struct hub *hub;
	const struct link_callbacks *cb; /* NULL until admitted */
	void *arg;
	enum link_state state;
	bool is_unix, paused;
	bool resume; /* unpaused: frames already read are to be dispatched */
	bool full; /* a send has answered 1; on_drain is owed */
	bool shut; /* our side of the connection is ended */
	bool broken; /* writing failed; the input may still say why */
	bool writing; /* 'write' is in flight */
	bool up_told;

	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} s;
	bool s_open; /* s is an initialised handle */
	uv_timer_t timer; /* the one deadline that counts in the present state */
	unsigned handles; /* open uv handles, s included */
	uv_write_t write;
	uv_shutdown_t shutdown;
	uint64_t deadline; /* loop time by which dialing and handshake must be over */
	uint32_t deadline_ms;

	struct frame_reader in;
	uint32_t want; /* room to offer the next read */
	size_t half; /* bytes in it, as on_half was told */
	struct queue plain; /* frames; for Unix sockets unused */
	struct queue wire; /* bytes for the socket */
	size_t flying; /* bytes of the write in flight */
	int64_t written; /* bytes that have left 'wire' */
	size_t high; /* queued bytes from which it is full */

	SSL *ssl;
	const char *rx; /* bytes from the socket that SSL has not taken yet */
	size_t rx_n;
	char *held; /* rx of a paused link lives here */
	size_t seen; /* bytes received before the handshake was over */
	uint64_t sealed; /* bytes since the last key update */
	uint8_t key[KEY_HASH], pin[KEY_HASH];
	bool has_key, has_pin;

	uint32_t uid;
	char address[LINK_ADDRESS_MAX], local[LINK_ADDRESS_MAX];
	char *why; /* first reason given wins */
	struct link_dial *dial;
	struct link_listener *listener; /* while pending */
	struct list pending, dirty, big;
};

/* link.c */
struct link *link_new(uv_loop_t *loop, const struct link_callbacks *cb, void *arg);
void link_init_stream(struct link *l); /* after uv_*_init of s */
void link_kill(struct link *l, const char *why); /* at once; on_down follows */
void link_killf(struct link *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int link_read(struct link *l); /* starts reading */
void link_is_up(struct link *l); /* calls on_up; the caller goes on with the input */
void link_arm(struct link *l, uint64_t ms);
void link_find_addresses(struct link *l);
void link_dispatch(struct link *l); /* frames of 'in' to the callbacks */
void link_turn(struct link *l); /* what is due once per turn of the loop */
void link_trim(struct link *l);
/* link_out.c */
/* link_tls.c */
int link_tls_start(struct link *l, struct tls_context *tls, bool server);
void link_tls_input(struct link *l);
void link_tls_seal(struct link *l); /* plain -> wire, a batch */
void link_tls_goodbye(struct link *l); /* close_notify */
int link_tls_hold(struct link *l); /* keeps rx beyond the read callback */
/* link_dial.c */
void link_dial_timeout(struct link *l);
void link_dial_abandon(struct link *l);
/* listener.c */
bool listener_admit(struct link *l); /* false: not wanted */
void listener_forget(struct link *l); /* no longer pending */

#endif
