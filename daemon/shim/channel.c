/* channel.c - see channel.h */
#include "shim/channel.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define OUT_MAX (16u << 20) /* an agent this far behind is as good as gone */
#define RECV_SIZE (64u << 10)

void channel_init(struct channel *c)
{
	*c = (struct channel){ .fd = -1 };
	frame_reader_init(&c->in, FRAME_MAX);
	buf_init(&c->out);
}

void channel_close(struct channel *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->sent = 0;
	c->want_write = c->broken = false;
	buf_finish(&c->out);
	frame_reader_finish(&c->in);
	frame_reader_init(&c->in, FRAME_MAX);
}

void channel_finish(struct channel *c)
{
	channel_close(c);
	frame_reader_finish(&c->in);
}

static bool welcome(int fd, uid_t agent_uid)
{
	struct ucred cred;
	socklen_t len = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || len != sizeof cred)
		return false;
	return cred.uid == 0 || cred.uid == geteuid() ||
	       (agent_uid != (uid_t)-1 && cred.uid == agent_uid);
}

bool channel_accept(struct channel *c, int listener, uid_t agent_uid)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return false;
	if (!welcome(fd, agent_uid)) {
		close(fd);
		return false;
	}

	channel_close(c);
	c->fd = fd;
	c->serial++;
	return true;
}

static bool lost(struct channel *c)
{
	channel_close(c);
	return false;
}

bool channel_flush(struct channel *c)
{
	while (c->sent < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			c->want_write = true;
			return true;
		}
		if (n < 0) {
			/* what it said before it left (shim_bye) is still to be read */
			c->broken = true;
			break;
		}
		c->sent += (size_t)n;
	}
	c->want_write = false;
	c->sent = 0;
	buf_reset(&c->out);
	return true;
}

bool channel_send(struct channel *c, const char *json, size_t len)
{
	if (c->fd < 0)
		return false;
	if (c->broken)
		return true;
	if (frame_add_json(&c->out, json, len) < 0 || buf_failed(&c->out) ||
	    c->out.len - c->sent > OUT_MAX)
		return lost(c);
	return channel_flush(c);
}

bool channel_send_msg(struct channel *c, const struct msg *m)
{
	struct buf b;
	bool ok;

	if (c->fd < 0)
		return false;
	buf_init(&b);
	ok = msg_encode(m, &b, NULL) == 0 && !buf_failed(&b);
	ok = ok ? channel_send(c, b.data, b.len) : lost(c);
	buf_finish(&b);
	return ok;
}

bool channel_receive(struct channel *c)
{
	size_t room;
	char *p = frame_reader_space(&c->in, RECV_SIZE, &room);
	ssize_t n;

	if (!p)
		return lost(c);
	n = recv(c->fd, p, room, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return lost(c);
	frame_reader_got(&c->in, (size_t)n);
	return true;
}

int channel_next(struct channel *c, struct frame *ret)
{
	int r;

	if (c->fd < 0)
		return 0;
	r = frame_next(&c->in, ret, NULL);
	if (r < 0) {
		lost(c);
		return -1;
	}
	return r;
}
