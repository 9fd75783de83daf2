/* sink.c - a descriptor that output goes to, see sink.h */
#include "client/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAREFUL 4096 /* a pipe that polls writable takes so much at once */
#define PIPE_SIZE (1 << 20)

static int open_again(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void sink_init(struct sink *s, int fd)
{
	struct stat st;
	bool waits;

	memset(s, 0, sizeof(*s));
	s->fd = s->given = fd;
	s->terminal = isatty(fd);
	label_out_init(&s->out, s->terminal);

	waits = fstat(fd, &st) == 0 && !S_ISREG(st.st_mode);
	s->socket = waits && S_ISSOCK(st.st_mode);
	if (!waits || s->socket)
		return;
	s->fd = open_again(fd);
	s->own = s->fd >= 0;
	if (s->own)
		return;
	s->fd = fd;
	s->careful = true;
}

void sink_finish(struct sink *s)
{
	if (s->own && s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	label_out_finish(&s->out);
}

size_t sink_pending(const struct sink *s)
{
	return s->out.buf.len - s->written;
}

bool sink_same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino && x.st_rdev == y.st_rdev;
}

/* A bigger pipe halves the number of wake-ups; asked for once it has filled up. */
static void widen(struct sink *s)
{
	if (!s->widened && !s->terminal)
		fcntl(s->fd, F_SETPIPE_SZ, PIPE_SIZE);
	s->widened = true;
}

static void fail(struct sink *s, int error)
{
	if (s->own)
		close(s->fd);
	s->fd = -1;
	s->own = false;
	s->error = -error;
}

static ssize_t write_once(struct sink *s, const char *p, size_t n)
{
	struct pollfd ask = { .fd = s->fd, .events = POLLOUT };

	if (s->socket)
		return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (!s->careful)
		return write(s->fd, p, n);
	if (poll(&ask, 1, 0) == 0) {
		errno = EAGAIN;
		return -1;
	}
	return write(s->fd, p, n < CAREFUL ? n : CAREFUL);
}

/* Bytes written, 0 when the descriptor takes none now, -1 after a failure. */
static ssize_t write_some(struct sink *s, const char *p, size_t n)
{
	ssize_t w;

	if (s->fd < 0)
		return (ssize_t)n; /* dropped */
	w = write_once(s, p, n);
	if (w >= 0)
		return w;
	if (errno == EAGAIN) {
		widen(s);
		return 0;
	}
	if (errno == EINTR)
		return 0;
	fail(s, errno);
	return -1;
}

int sink_flush(struct sink *s)
{
	struct buf *b = &s->out.buf;
	int before = s->error;

	while (s->written < b->len) {
		ssize_t n = write_some(s, b->data + s->written, b->len - s->written);

		if (n > 0)
			s->written += (size_t)n;
		if (n == 0)
			break;
	}
	if (s->written == b->len) {
		buf_reset(b);
		s->written = 0;
	} else if (s->written > b->len / 2) {
		buf_drop(b, s->written);
		s->written = 0;
	}
	if (s->error && !before)
		return s->error;
	return b->len ? 1 : 0;
}

void sink_pass(struct sink *s, const struct label_stream *from, const char *p, size_t n)
{
	label_passed(&s->out, from, p, n);
	while (n && !s->out.buf.len) {
		ssize_t w = write_some(s, p, n);

		if (w <= 0)
			break;
		p += w;
		n -= (size_t)w;
	}
	if (n)
		buf_add(&s->out.buf, p, n);
}
