/* notify.h - tells systemd how we are: the datagrams of sd_notify(3)
 *
 * By hand: it is one datagram, and libsystemd would be one more library on
 * every host, in root's program too.
 */
#ifndef NA_COMMON_NOTIFY_H
#define NA_COMMON_NOTIFY_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
	struct sockaddr_un to;
	socklen_t len; /* 0: nobody listens, and every call does nothing */
	uint64_t watchdog_ms; /* WATCHDOG=1 is expected this often; 0: not at all */
	char status[256]; /* told last */
};

/* From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, which are then taken out
 * of the environment: no child may speak for us. Before the first thread. */
void notify_init(struct notify *n);
/* "READY=1", "STOPPING=1", ...; newline-separated. Never blocks; a message that
 * cannot be sent is lost. */
void notify_send(const struct notify *n, const char *state);
/* STATUS=..., shown by systemctl status; sent only when it is another one. */
void notify_status(struct notify *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
