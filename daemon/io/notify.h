/* notify.h - tells systemd how we are (its datagram protocol, by hand)
 *
 * Without NOTIFY_SOCKET every call does nothing.
 */
#ifndef NA_IO_NOTIFY_H
#define NA_IO_NOTIFY_H

#include <stdbool.h>

#include <uv.h>

/* "READY=1", "STOPPING=1", "STATUS=...": newline-separated. Never blocks;
 * a message that cannot be sent is lost. */
void notify_send(const char *state);
/* WATCHDOG=1 at half of WATCHDOG_USEC from the loop, so it also proves that
 * the loop turns. The timer (the caller's, not yet initialised) stays unused
 * and uninitialised when there is no watchdog for this process: then false. */
bool notify_watchdog(uv_loop_t *loop, uv_timer_t *timer);

#endif
