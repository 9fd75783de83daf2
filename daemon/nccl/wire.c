/* wire.c - see wire.h */
#include "nccl/wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SEND_TIMEOUT_S 5

void wire_init(struct wire *w, int fd)
{
	w->fd = fd;
	buf_init(&w->in);
}

void wire_finish(struct wire *w)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	buf_finish(&w->in);
}

int wire_send(struct wire *w, struct buf *line)
{
	size_t at = 0;

	buf_addc(line, '\n');
	if (w->fd < 0)
		return -ENOTCONN;
	if (buf_failed(line))
		return -ENOMEM;
	while (at < line->len) {
		ssize_t n = send(w->fd, line->data + at, line->len - at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	return 0;
}

int wire_fill(struct wire *w)
{
	char *room;
	ssize_t n;

	if (w->in.len >= WIRE_LINE_MAX)
		return -EMSGSIZE;
	room = buf_reserve(&w->in, WIRE_LINE_MAX);
	if (room == NULL)
		return -ENOMEM;
	n = recv(w->fd, room, WIRE_LINE_MAX, MSG_DONTWAIT);
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	w->in.len += (size_t)n;
	return (int)n;
}

cJSON *wire_next(struct wire *w, bool *ret_bad)
{
	char *end = w->in.len > 0 ? memchr(w->in.data, '\n', w->in.len) : NULL;
	cJSON *m = NULL;

	*ret_bad = false;
	if (end == NULL)
		return NULL;
	m = json_parse(w->in.data, (size_t)(end - w->in.data), NULL);
	*ret_bad = m == NULL || !cJSON_IsObject(m);
	buf_drop(&w->in, (size_t)(end - w->in.data) + 1);
	return m;
}

const char *wire_str(const cJSON *m, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(m, key);

	return cJSON_IsString(v) ? v->valuestring : "";
}

double wire_num(const cJSON *m, const char *key)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(m, key);

	return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

bool wire_is(const cJSON *m, const char *what)
{
	return strcmp(wire_str(m, "m"), what) == 0;
}

void wire_begin(struct jw *w, struct buf *b, const char *what)
{
	jw_init(w, b);
	jw_obj(w);
	jw_key(w, "m");
	jw_str(w, what);
}

void wire_id_text(const struct nccl_id *id, char out[257])
{
	for (size_t i = 0; i < sizeof id->bytes; i++)
		snprintf(out + 2 * i, 3, "%02x", (unsigned char)id->bytes[i]);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool wire_id_parse(const char *text, struct nccl_id *ret)
{
	if (strlen(text) != 2 * sizeof ret->bytes)
		return false;
	for (size_t i = 0; i < sizeof ret->bytes; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		ret->bytes[i] = (char)(high * 16 + low);
	}
	return true;
}

/* ---- meeting ------------------------------------------------------------------- */

static struct addrinfo *resolve(const char *address, const char *port, int flags, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV }, *list = NULL;
	int r = getaddrinfo(address, port, &hints, &list);

	if (r != 0)
		err_set(e, EHOSTUNREACH, "MASTER_ADDR %s port %s: %s", address, port, gai_strerror(r));
	return r == 0 ? list : NULL;
}

static void set_up(int fd)
{
	struct timeval t = { .tv_sec = SEND_TIMEOUT_S };
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int wire_listen(const char *address, const char *port, int *ret_fd, struct err *e)
{
	struct addrinfo *a = resolve(address, port, AI_PASSIVE, e);
	int fd, one = 1;

	if (a == NULL)
		return -EHOSTUNREACH;
	fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (fd < 0 || bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
		int code = errno;

		if (fd >= 0)
			close(fd);
		freeaddrinfo(a);
		return err_set(e, code, "rank 0 cannot listen at %s port %s: %s", address, port, strerror(code));
	}
	set_up(fd); /* what it accepts takes these over */
	freeaddrinfo(a);
	*ret_fd = fd;
	return 0;
}

static int try_connect(const struct addrinfo *a, int timeout_ms)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), code = 0;
	struct timeval t = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t); /* of connect, too */
	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
		set_up(fd);
		return fd;
	}
	code = errno;
	close(fd);
	return -code;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int wire_connect(const char *address, const char *port, int timeout_ms, int *ret_fd, struct err *e)
{
	struct addrinfo *a = resolve(address, port, 0, e);
	int64_t until = now_ms() + timeout_ms;
	int r = -ETIMEDOUT;

	if (a == NULL)
		return -EHOSTUNREACH;
	for (;;) {
		int64_t left = until - now_ms();

		r = left > 0 ? try_connect(a, left < 1000 ? (int)left : 1000) : r;
		if (r >= 0 || left <= 0)
			break;
		nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
	}
	freeaddrinfo(a);
	if (r < 0)
		return err_set(e, -r, "rank 0 does not answer at %s port %s within %d s: %s", address, port,
			       timeout_ms / 1000, strerror(-r));
	*ret_fd = r;
	return 0;
}
