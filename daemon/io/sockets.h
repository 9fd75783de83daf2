/* sockets.h - plain socket helpers of dialer and listener */
#ifndef NA_IO_SOCKETS_H
#define NA_IO_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/err.h"

/* No delay, keepalive, and 20 s until unacknowledged data ends the connection. */
void socket_tune(int fd);
/* -ENAMETOOLONG and a sentence beyond 107 bytes. */
int socket_unix_address(const char *path, struct sockaddr_un *ret, struct err *e);
/* A connected non-blocking socket, or -errno. Unix sockets answer at once. */
int socket_unix_connect(const char *path);
/* The local port of a bound TCP socket, v4 or v6; 0: it has none. */
uint16_t socket_local_port(int fd);
/* Numeric v4 or v6 address. False when 'host' is a name. */
bool socket_numeric(const char *host, uint16_t port, struct sockaddr_storage *ret,
		    socklen_t *ret_len);
/* HOST:PORT or [IPV6]:PORT, port 1..65535. -EINVAL and a sentence. */
int socket_parse_host_port(const char *text, char host[256], uint16_t *port, struct err *e);
void socket_format_host_port(const char *host, uint16_t port, char *out, size_t size);

#endif
