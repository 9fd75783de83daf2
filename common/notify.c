/* notify.c - see notify.h */
#include "common/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A path, or '@' and an abstract name; other kinds (vsock) are for machines. */
static void find_socket(struct notify *n)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof(n->to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;

	n->to.sun_family = AF_UNIX;
	memcpy(n->to.sun_path, path, len);
	if (path[0] == '@')
		n->to.sun_path[0] = '\0';
	n->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

static void find_watchdog(struct notify *n)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (n->len > 0 && usec && (!pid || strtol(pid, NULL, 10) == getpid()))
		n->watchdog_ms = strtoull(usec, NULL, 10) / 1000;
}

void notify_init(struct notify *n)
{
	static const char *const names[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" };

	memset(n, 0, sizeof(*n));
	find_socket(n);
	find_watchdog(n);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unsetenv(names[i]);
}

void notify_send(const struct notify *n, const char *state)
{
	int fd;

	if (n->len == 0)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&n->to,
		     n->len);
	close(fd);
}

void notify_status(struct notify *n, const char *fmt, ...)
{
	char text[sizeof(n->status)], line[sizeof(n->status) + 8];
	va_list ap;

	if (n->len == 0)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (strcmp(text, n->status) == 0)
		return;

	memcpy(n->status, text, sizeof(text));
	snprintf(line, sizeof(line), "STATUS=%s", text);
	notify_send(n, line);
}
