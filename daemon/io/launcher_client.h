/* launcher_client.h - asks nodeagent-launcher (root) to start, kill and clean up */
#ifndef NA_IO_LAUNCHER_CLIENT_H
#define NA_IO_LAUNCHER_CLIENT_H

#include "io/agent_io.h"
#include "launcher/launcher.h"

struct launcher_client;
/* text: launcher_reply's, whole (behind its NUL another string), or a sentence of our own with an empty one. */
typedef void (*launcher_cb)(void *arg, int error, uint32_t result, const char *text);

/* Starts the launcher over a socket pair, or connects to one that runs; anew when it dies. */
int launcher_client_create(struct agent_io *io, struct launcher_client **ret, struct err *e);
void launcher_client_destroy(struct launcher_client *l); /* NULL is fine; ends the launcher */
/* Fills in version and id. 'fds' (memfd, listening socket; LAUNCH only) are
 * sent and stay the caller's. Answers in a later turn of the loop, -EPIPE when
 * the launcher died meanwhile. cb may be NULL. */
void launcher_client_ask(struct launcher_client *l, struct launcher_request *r, const int fds[2],
			 launcher_cb cb, void *arg);
/* It is connected. NULL is fine: it is not. */
bool launcher_client_up(const struct launcher_client *l);
/* On SIGCHLD. */
void launcher_client_reap(struct launcher_client *l);

#endif
