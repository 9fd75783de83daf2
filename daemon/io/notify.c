/* notify.c - READY=1, STOPPING=1, WATCHDOG=1 to $NOTIFY_SOCKET; see sd_notify(3) */
#include "io/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_send(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = path ? strlen(path) : 0;
	int fd;

	if (n < 2 || n >= sizeof(a.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;

	memcpy(a.sun_path, path, n);
	if (path[0] == '@') /* abstract name */
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&a,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
	close(fd);
}

static void on_watchdog(uv_timer_t *t)
{
	notify_send("WATCHDOG=1");
}

bool notify_watchdog(uv_loop_t *loop, uv_timer_t *timer)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");
	uint64_t half_ms = usec ? strtoull(usec, NULL, 10) / 2000 : 0;

	if (half_ms == 0 || (pid && strtol(pid, NULL, 10) != getpid()))
		return false;

	uv_timer_init(loop, timer);
	uv_timer_start(timer, on_watchdog, half_ms, half_ms);
	uv_unref((uv_handle_t *)timer);
	return true;
}
