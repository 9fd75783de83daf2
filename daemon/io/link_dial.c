/* link_dial.c - the side that connects: names, addresses, Unix sockets
 *
 * Every address of a name is tried in the resolver's order; each gets a fair
 * share of what is left of the deadline, so that one black hole does not eat
 * it all. Numeric addresses do not wake the thread pool. */
#include "io/link_private.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/sockets.h"

#define UNIX_RETRY_MS 10 /* its backlog is full */
#define UNIX_TRIES 200

/* Outlives the link while the resolver has it. */
struct link_dial {
	struct link *l; /* NULL: the link is gone */
	struct tls_context *tls;
	uv_getaddrinfo_t lookup;
	bool looking;
	struct addrinfo *found, *next;
	uv_poll_t *attempt; /* waits for fd to be connected */
	int fd;
	int last_error;
	unsigned tries;
	uint16_t port;
	char host[256]; /* or path of a Unix socket */
};

static void try_next(struct link_dial *d);

static void on_attempt_closed(uv_handle_t *h)
{
	free(h);
}

/* Ends the attempt; the descriptor stays. */
static void stop_attempt(struct link_dial *d)
{
	if (d->attempt)
		uv_close((uv_handle_t *)d->attempt, on_attempt_closed);
	d->attempt = NULL;
}

static void drop_attempt(struct link_dial *d)
{
	stop_attempt(d);
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

static void dial_free(struct link_dial *d)
{
	drop_attempt(d);
	if (d->found)
		uv_freeaddrinfo(d->found);
	free(d);
}

void link_dial_abandon(struct link *l)
{
	struct link_dial *d = l->dial;

	if (!d)
		return;

	l->dial = NULL;
	d->l = NULL;
	if (d->looking)
		uv_cancel((uv_req_t *)&d->lookup); /* its callback frees d */
	else
		dial_free(d);
}

/* ---- connected ---------------------------------------------------------- */

static uint64_t left_ms(struct link *l)
{
	uint64_t now;

	uv_update_time(l->hub->loop);
	now = uv_now(l->hub->loop);
	return l->deadline > now ? l->deadline - now : 0;
}

static void start_tls(struct link *l, struct tls_context *tls)
{
	link_find_addresses(l);
	if (link_tls_start(l, tls, false) < 0) {
		link_kill(l, "out of memory");
		return;
	}

	l->state = LS_HANDSHAKE;
	link_arm(l, left_ms(l));
	link_tls_input(l);
}

static void connected(struct link *l)
{
	struct tls_context *tls = l->dial->tls;
	int fd = l->dial->fd, r;

	stop_attempt(l->dial);
	if (l->is_unix) {
		uv_pipe_init(l->hub->loop, &l->s.pipe, 0);
		link_init_stream(l);
		r = uv_pipe_open(&l->s.pipe, fd);
	} else {
		socket_tune(fd);
		uv_tcp_init(l->hub->loop, &l->s.tcp);
		link_init_stream(l);
		r = uv_tcp_open(&l->s.tcp, fd);
	}
	if (r == 0)
		l->dial->fd = -1; /* the stream's now */
	if (r == 0)
		r = link_read(l);
	link_dial_abandon(l);

	if (r < 0)
		link_kill(l, uv_strerror(r));
	else if (l->is_unix)
		link_is_up(l);
	else
		start_tls(l, tls);
}

/* ---- TCP ---------------------------------------------------------------- */

static void on_attempt(uv_poll_t *p, int status, int events)
{
	struct link_dial *d = p->data;
	socklen_t n = sizeof(int);
	int error = 0;

	/* libuv says EBADF for any failed connect; the socket knows better. */
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
		error = errno;
	if (error == 0) {
		connected(d->l);
		return;
	}
	d->last_error = -error;
	drop_attempt(d);
	try_next(d);
}

static int attempt(struct link_dial *d, const struct sockaddr *a, socklen_t n)
{
	d->fd = socket(a->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->fd < 0)
		return -errno;
	if (connect(d->fd, a, n) < 0 && errno != EINPROGRESS)
		return -errno;

	d->attempt = malloc(sizeof(*d->attempt));
	if (!d->attempt)
		return -ENOMEM;
	d->attempt->data = d;
	if (uv_poll_init(d->l->hub->loop, d->attempt, d->fd) < 0) {
		free(d->attempt);
		d->attempt = NULL;
		return -ENOMEM;
	}
	return uv_poll_start(d->attempt, UV_WRITABLE, on_attempt);
}

/* A fair share of the time left for each address left. */
static void arm_attempt(struct link_dial *d)
{
	uint64_t n = 1;

	for (struct addrinfo *a = d->next; a; a = a->ai_next)
		n++;
	link_arm(d->l, left_ms(d->l) / n);
}

static void try_next(struct link_dial *d)
{
	struct addrinfo *a;
	int r;

	while ((a = d->next)) {
		d->next = a->ai_next;
		r = attempt(d, a->ai_addr, a->ai_addrlen);
		if (r == 0) {
			arm_attempt(d);
			return;
		}
		d->last_error = r;
		drop_attempt(d);
	}
	link_kill(d->l, d->last_error ? uv_strerror(d->last_error) : "no address");
}

static void on_found(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
	struct link_dial *d = list_entry(req, struct link_dial, lookup);

	d->looking = false;
	d->found = found;
	if (!d->l) {
		dial_free(d);
	} else if (status < 0) {
		link_killf(d->l, "cannot find the address of '%s': %s", d->host, uv_strerror(status));
	} else {
		d->next = found;
		try_next(d);
	}
}

static void resolve(struct link_dial *d)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct sockaddr_storage numeric;
	char port[8];
	socklen_t n;
	int r;

	if (socket_numeric(d->host, d->port, &numeric, &n)) {
		r = attempt(d, (struct sockaddr *)&numeric, n);
		if (r < 0)
			link_kill(d->l, uv_strerror(r));
		return;
	}

	snprintf(port, sizeof(port), "%u", d->port);
	d->looking = true;
	r = uv_getaddrinfo(d->l->hub->loop, &d->lookup, on_found, d->host, port, &hints);
	if (r < 0) {
		d->looking = false;
		link_kill(d->l, uv_strerror(r));
	}
}

/* ---- Unix sockets ------------------------------------------------------- */

static void dial_unix(struct link_dial *d)
{
	int r = socket_unix_connect(d->host);

	if (r >= 0) {
		d->fd = r;
		connected(d->l);
	} else if (r == -EAGAIN && ++d->tries < UNIX_TRIES) {
		link_arm(d->l, UNIX_RETRY_MS);
	} else {
		link_kill(d->l, uv_strerror(r));
	}
}

void link_dial_timeout(struct link *l)
{
	struct link_dial *d = l->dial;

	if (l->is_unix) {
		dial_unix(d);
	} else if (d->next) {
		d->last_error = -ETIMEDOUT;
		drop_attempt(d);
		try_next(d);
	} else {
		link_killf(l, "no answer within %g s", l->deadline_ms / 1000.0);
	}
}

/* ---- interface ---------------------------------------------------------- */

static struct link *dial_new(uv_loop_t *loop, const char *host, const struct link_callbacks *cb,
			     void *arg)
{
	struct link_dial *d = calloc(1, sizeof(*d));
	struct link *l = d ? link_new(loop, cb, arg) : NULL;

	if (!l) {
		free(d);
		return NULL;
	}

	/* Whom we dial, we know: by its pinned key or by the file system. */
	link_set_max(l, FRAME_MAX);
	l->state = LS_DIALING;
	l->dial = d;
	d->l = l;
	d->fd = -1;
	snprintf(d->host, sizeof(d->host), "%s", host);
	return l;
}

struct link *link_dial_tls(uv_loop_t *loop, struct tls_context *tls, const char *host,
			   uint16_t port, const uint8_t *pin, uint32_t deadline_ms,
			   const struct link_callbacks *cb, void *arg)
{
	struct link *l = dial_new(loop, host, cb, arg);

	if (!l)
		return NULL;

	if (pin)
		memcpy(l->pin, pin, KEY_HASH);
	l->has_pin = pin != NULL;
	l->dial->tls = tls;
	l->dial->port = port;
	uv_update_time(loop);
	l->deadline_ms = deadline_ms;
	l->deadline = uv_now(loop) + deadline_ms;
	link_arm(l, deadline_ms);
	if (strlen(host) >= sizeof(l->dial->host))
		link_kill(l, "the host name is too long");
	else
		resolve(l->dial);
	return l;
}

struct link *link_dial_unix(uv_loop_t *loop, const char *path, const struct link_callbacks *cb,
			    void *arg)
{
	struct link *l = dial_new(loop, path, cb, arg);

	if (!l)
		return NULL;

	l->is_unix = true;
	link_arm(l, 0); /* connects on the loop's next turn: no callback from here */
	return l;
}
