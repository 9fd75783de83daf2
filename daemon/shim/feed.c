/* feed.c - see feed.h */
#include "shim/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define GRANT_MIN (FEED_ROOM / 4)

void feed_init(struct feed *f)
{
	*f = (struct feed){ .fd = -1 };
	buf_init(&f->queue);
}

void feed_close(struct feed *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	f->written = 0;
	buf_finish(&f->queue);
}

void feed_finish(struct feed *f)
{
	feed_close(f);
}

int feed_open(struct feed *f, int *ret_read_fd)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;

	fcntl(fds[1], F_SETFL, O_NONBLOCK); /* our end only */
	f->fd = fds[1];
	f->used = true;
	*ret_read_fd = fds[0];
	return 0;
}

uint32_t feed_grant(struct feed *f, bool anew)
{
	size_t taken;
	uint32_t n;

	if (f->fd < 0 || f->eof)
		return 0;
	if (anew)
		f->granted = 0;
	taken = f->queue.len - f->written + f->granted;
	n = taken < FEED_ROOM ? (uint32_t)(FEED_ROOM - taken) : 0;
	if (n < GRANT_MIN && !(anew && n))
		return 0;
	f->granted += n;
	return n;
}

int feed_add(struct feed *f, const void *p, size_t n, bool eof)
{
	if (n > f->granted)
		return f->fd < 0 ? 0 : -EPROTO;
	f->granted -= (uint32_t)n;
	if (f->fd < 0 || f->eof)
		return 0;

	buf_drop(&f->queue, f->written);
	f->written = 0;
	buf_add(&f->queue, p, n);
	f->eof = eof;
	if (buf_failed(&f->queue))
		feed_close(f); /* better an early end than a hole */
	else
		feed_flush(f);
	return 0;
}

void feed_flush(struct feed *f)
{
	while (f->fd >= 0 && f->written < f->queue.len) {
		ssize_t n = write(f->fd, f->queue.data + f->written, f->queue.len - f->written);

		if (n > 0)
			f->written += (size_t)n;
		else if (errno == EAGAIN)
			return;
		else if (errno != EINTR)
			feed_close(f);
	}
	if (f->fd < 0)
		return;
	f->written = 0;
	buf_reset(&f->queue);
	if (f->eof)
		feed_close(f);
}

bool feed_waiting(const struct feed *f)
{
	return f->fd >= 0 && f->written < f->queue.len;
}
