/* sockets.c - socket options and addresses, no loop */
#include "io/sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>

#define USER_TIMEOUT_MS 20000
#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_INTERVAL_S 3
#define KEEPALIVE_PROBES 4

static void set_int(int fd, int level, int name, int value)
{
	/* Fails on a socket that is dying already; its next read tells. */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

void socket_tune(int fd)
{
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS);
}

int socket_unix_address(const char *path, struct sockaddr_un *ret, struct err *e)
{
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof(ret->sun_path))
		return err_set(e, ENAMETOOLONG,
			       "%s: a Unix socket's path may have at most %zu bytes, this one has %zu",
			       path, sizeof(ret->sun_path) - 1, n);

	memset(ret, 0, sizeof(*ret));
	ret->sun_family = AF_UNIX;
	memcpy(ret->sun_path, path, n + 1);
	return 0;
}

int socket_unix_connect(const char *path)
{
	struct sockaddr_un a;
	int fd, r = socket_unix_address(path, &a, NULL);

	if (r < 0)
		return r;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

uint16_t socket_local_port(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a = { 0 };
	socklen_t n = sizeof(a);

	if (getsockname(fd, &a.any, &n) != 0)
		return 0;
	return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

bool socket_numeric(const char *host, uint16_t port, struct sockaddr_storage *ret,
		    socklen_t *ret_len)
{
	memset(ret, 0, sizeof(*ret));
	if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret) == 0)
		*ret_len = sizeof(struct sockaddr_in);
	else if (uv_ip6_addr(host, port, (struct sockaddr_in6 *)ret) == 0)
		*ret_len = sizeof(struct sockaddr_in6);
	else
		return false;
	return true;
}

int socket_parse_host_port(const char *text, char host[256], uint16_t *port, struct err *e)
{
	const char *colon = strrchr(text, ':');
	const char *begin = text, *end = colon;
	char *rest;
	unsigned long n;

	if (colon && text[0] == '[') {
		begin = text + 1;
		end = colon > text && colon[-1] == ']' ? colon - 1 : NULL;
	} else if (colon && memchr(text, ':', (size_t)(colon - text))) {
		end = NULL; /* an IPv6 address without brackets */
	}
	if (!end || end == begin || end - begin > 255)
		return err_set(e, EINVAL, "'%s' is not HOST:PORT (IPv6: [ADDRESS]:PORT)", text);

	n = strtoul(colon + 1, &rest, 10);
	if (colon[1] < '0' || colon[1] > '9' || *rest != '\0' || n == 0 || n > 65535)
		return err_set(e, EINVAL, "'%s' is not HOST:PORT: a port is a number from 1 to 65535",
			       text);
	memcpy(host, begin, (size_t)(end - begin));
	host[end - begin] = '\0';
	*port = (uint16_t)n;
	return 0;
}

void socket_format_host_port(const char *host, uint16_t port, char *out, size_t size)
{
	snprintf(out, size, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}
