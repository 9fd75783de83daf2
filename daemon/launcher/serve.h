/* serve.h - the launcher's loop: connections, requests, children under a deadline
 *
 * Never waits on a name service, a file system of a user or a job: children do.
 * On SIGTERM nothing new is begun; what was begun is ended and answered.
 */
#ifndef NA_LAUNCHER_SERVE_H
#define NA_LAUNCHER_SERVE_H

#include <stdbool.h>

#include "common/notify.h"
#include "launcher/launch.h"

/* Both are borrowed for ever. 0 or -errno. */
int serve_init(const struct policy *policy, const struct notify *notify);
/* Takes ownership; connections are taken from it. */
void serve_listener(int fd);
/* Takes ownership of a connected socket. False (closed) when its peer is neither
 * root nor the agent's user. */
bool serve_connection(int fd);
/* Waits for something to happen and deals with it. */
void serve_round(void);
/* No connection and no child at work. */
bool serve_idle(void);
/* We were told to stop, and no child is at work. */
bool serve_stopped(void);

#endif
