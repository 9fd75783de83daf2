/* out.c - see out.h */
#include "probe/out.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

bool out_gone(short poll_revents)
{
	/* a pipe's writing end says POLLERR, a socket POLLHUP */
	return poll_revents & (POLLERR | POLLHUP | POLLNVAL);
}

/* A writable pipe takes PIPE_BUF bytes without waiting; a socket is asked not to wait. */
static ssize_t put(int fd, const char *p, size_t n)
{
	ssize_t done = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (done < 0 && errno == ENOTSOCK)
		done = write(fd, p, n < PIPE_BUF ? n : PIPE_BUF);
	return done;
}

int out_write(int fd, const void *p, size_t n, int stall_ms)
{
	const char *at = p;

	while (n > 0) {
		struct pollfd w = { .fd = fd, .events = POLLOUT };
		int ready = poll(&w, 1, stall_ms);
		ssize_t done;

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return ready == 0 ? -ETIMEDOUT : -errno;
		if (out_gone(w.revents))
			return -EPIPE;
		done = put(fd, at, n);
		if (done < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (done < 0)
			return -errno;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}
