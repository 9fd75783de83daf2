/* listener.c - accepts connections, bounds those that have not proved anything yet
 *
 * Accepts by hand on a uv_poll handle: so the answer to "no descriptor left"
 * is ours. A spare descriptor is given up to accept the connection and close
 * it: the other side learns at once, and the loop does not spin.
 *
 * A TLS connection is pending until its handshake is over and 'admit' has
 * said yes. Beyond max_pending the oldest goes: it has had its chance. */
#include "io/link_private.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "io/sockets.h"

#define BACKLOG 1024
#define ACCEPT_BATCH 64
#define PAUSE_MS 100 /* when not even the spare descriptor could be had back */

struct link_listener {
	uv_loop_t *loop;
	struct tls_context *tls; /* NULL: Unix socket */
	link_admit admit;
	void *arg;
	unsigned max_pending, n_pending;
	struct list pending; /* oldest first */
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned handles;
	int fd, spare;
	bool short_of_fds; /* told already */
	char *path; /* Unix: unlinked at the end */
	dev_t dev;
	ino_t ino;
};

static void on_acceptable(uv_poll_t *p, int status, int events);

/* ---- pending ------------------------------------------------------------ */

void listener_forget(struct link *l)
{
	if (!l->listener)
		return;

	list_remove(&l->pending);
	l->listener->n_pending--;
	l->listener = NULL;
}

bool listener_admit(struct link *l)
{
	struct link_listener *s = l->listener;
	struct link_who who = {
		.key = l->has_key ? l->key : NULL,
		.uid = l->uid,
		.address = l->address,
	};
	const struct link_callbacks *cb = NULL;
	void *arg = NULL;

	listener_forget(l);
	if (!s->admit(s->arg, l, &who, &cb, &arg))
		return false;

	l->cb = cb;
	l->arg = arg;
	return true;
}

static void make_room(struct link_listener *s)
{
	struct link *oldest;

	if (s->n_pending < s->max_pending)
		return;

	oldest = list_entry(s->pending.next, struct link, pending);
	log_debug("%s: dropped, too many connections have not finished their handshake",
		  oldest->address);
	link_kill(oldest, "too many connections have not finished their handshake");
}

/* ---- accepted ----------------------------------------------------------- */

static void start_tls(struct link_listener *s, struct link *l)
{
	make_room(s);
	l->listener = s;
	s->n_pending++;
	list_append(&s->pending, &l->pending);
	l->state = LS_HANDSHAKE;
	l->deadline_ms = LINK_ADMIT_MS;
	link_arm(l, LINK_ADMIT_MS);
	link_find_addresses(l);
	if (link_tls_start(l, s->tls, true) < 0 || link_read(l) < 0)
		link_kill(l, "out of memory");
}

static void start_unix(struct link_listener *s, struct link *l, int fd)
{
	struct ucred c;
	socklen_t n = sizeof(c);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) < 0) {
		link_kill(l, "the peer's uid is not known");
		return;
	}

	l->uid = c.uid;
	l->is_unix = true;
	link_set_max(l, FRAME_MAX);
	l->listener = s;
	s->n_pending++;
	list_append(&s->pending, &l->pending);
	if (!listener_admit(l))
		link_kill(l, "not admitted");
	else if (link_read(l) < 0)
		link_kill(l, "out of memory");
	else if (l->state != LS_DEAD)
		link_is_up(l);
}

/* Takes fd. */
static void accepted(struct link_listener *s, int fd)
{
	struct link *l = link_new(s->loop, NULL, NULL);
	int r;

	if (!l) {
		close(fd);
		return;
	}

	if (s->tls) {
		socket_tune(fd);
		uv_tcp_init(s->loop, &l->s.tcp);
		link_init_stream(l);
		r = uv_tcp_open(&l->s.tcp, fd);
	} else {
		uv_pipe_init(s->loop, &l->s.pipe, 0);
		link_init_stream(l);
		r = uv_pipe_open(&l->s.pipe, fd);
	}
	if (r < 0) {
		close(fd);
		link_kill(l, uv_strerror(r));
	} else if (s->tls) {
		start_tls(s, l);
	} else {
		start_unix(s, l, fd);
	}
}

/* ---- no descriptor left ------------------------------------------------- */

static void on_pause_over(uv_timer_t *t)
{
	struct link_listener *s = t->data;

	if (s->spare < 0)
		s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uv_poll_start(&s->poll, UV_READABLE, on_acceptable);
}

static void turn_away(struct link_listener *s)
{
	int fd;

	if (!s->short_of_fds)
		log_warn("no file descriptor left: new connections are closed "
			 "(raise LimitNOFILE, now %ld)", sysconf(_SC_OPEN_MAX));
	s->short_of_fds = true;

	if (s->spare >= 0)
		close(s->spare);
	fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (s->spare < 0) {
		uv_poll_stop(&s->poll);
		uv_timer_start(&s->timer, on_pause_over, PAUSE_MS, 0);
	}
}

static void on_acceptable(uv_poll_t *p, int status, int events)
{
	struct link_listener *s = p->data;

	for (int i = 0; i < ACCEPT_BATCH && !uv_is_closing((uv_handle_t *)p); i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			s->short_of_fds = false;
			accepted(s, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			   errno == ENOBUFS) {
			turn_away(s);
			return;
		} else if (errno == EAGAIN) {
			return;
		} /* else the connection is gone again: next */
	}
}

/* ---- birth and death ---------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct link_listener *s = h->data;

	if (--s->handles > 0)
		return;

	free(s->path);
	free(s);
}

static void unlink_own(struct link_listener *s)
{
	struct stat st;

	/* Not one that somebody else has put there since. */
	if (s->path && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->path);
}

void link_listener_close(struct link_listener *s)
{
	if (!s)
		return;

	while (!list_empty(&s->pending))
		link_kill(list_entry(s->pending.next, struct link, pending), "shutting down");
	unlink_own(s);
	uv_close((uv_handle_t *)&s->poll, on_closed);
	uv_close((uv_handle_t *)&s->timer, on_closed);
	close(s->fd);
	if (s->spare >= 0)
		close(s->spare);
}

/* Takes fd, a listening socket. */
static int listener_new(uv_loop_t *loop, int fd, struct tls_context *tls, unsigned max_pending,
			link_admit admit, void *arg, struct link_listener **ret)
{
	struct link_listener *s = calloc(1, sizeof(*s));

	if (!s) {
		close(fd);
		return -ENOMEM;
	}

	*s = (struct link_listener){ .loop = loop, .tls = tls, .admit = admit, .arg = arg,
				     .max_pending = max_pending > 0 ? max_pending : 1,
				     .handles = 2, .fd = fd };
	list_init(&s->pending);
	s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
	s->poll.data = s;
	s->timer.data = s;
	if (uv_poll_init(loop, &s->poll, fd) < 0) {
		close(fd);
		if (s->spare >= 0)
			close(s->spare);
		free(s);
		return -ENOMEM;
	}
	uv_timer_init(loop, &s->timer);
	uv_poll_start(&s->poll, UV_READABLE, on_acceptable);
	*ret = s;
	return 0;
}

/* ---- TCP ---------------------------------------------------------------- */

static int bind_tcp(const struct sockaddr *a, socklen_t n, uint16_t *port)
{
	int fd = socket(a->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, zero = 0, r;

	if (fd < 0)
		return -errno;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    (a->sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero)) < 0) ||
	    bind(fd, a, n) < 0 || listen(fd, BACKLOG) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*port = socket_local_port(fd);
	return fd;
}

/* A name is looked up right here, blocking: listening happens at start-up only. */
static int bind_name(const char *host, uint16_t *port, struct err *e)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *found;
	char service[8];
	int r;

	snprintf(service, sizeof(service), "%u", *port);
	r = getaddrinfo(host, service, &hints, &found);
	if (r != 0)
		return err_set(e, EADDRNOTAVAIL, "cannot find the address of '%s': %s", host,
			       gai_strerror(r));
	r = bind_tcp(found->ai_addr, found->ai_addrlen, port);
	freeaddrinfo(found);
	return r < 0 ? err_set(e, -r, "%s:%u: %s", host, *port, uv_strerror(r)) : r;
}

static int bind_host(const char *host, uint16_t *port, struct err *e)
{
	struct sockaddr_storage a;
	socklen_t n = 0;
	int fd = -EAFNOSUPPORT;

	if (host && !socket_numeric(host, *port, &a, &n))
		return bind_name(host, port, e);
	if (host) {
		fd = bind_tcp((struct sockaddr *)&a, n, port);
	} else {
		if (socket_numeric("::", *port, &a, &n))
			fd = bind_tcp((struct sockaddr *)&a, n, port);
		if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) { /* no IPv6 here */
			socket_numeric("0.0.0.0", *port, &a, &n);
			fd = bind_tcp((struct sockaddr *)&a, n, port);
		}
	}
	if (fd < 0)
		return err_set(e, -fd, "%s:%u: %s", host ? host : "*", *port, uv_strerror(fd));
	return fd;
}

int link_listen_tls(uv_loop_t *loop, struct tls_context *tls, const char *host, uint16_t *port,
		    unsigned max_pending, link_admit admit, void *arg,
		    struct link_listener **ret, struct err *e)
{
	int r, fd = bind_host(host, port, e);

	if (fd < 0)
		return fd;

	r = listener_new(loop, fd, tls, max_pending, admit, arg, ret);
	return r < 0 ? err_set(e, -r, "out of memory") : 0;
}

/* ---- Unix --------------------------------------------------------------- */

static int remove_stale(const char *path, struct err *e)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set(e, errno, "%s: %s", path, strerror(errno));
	fd = socket_unix_connect(path); /* a symbolic link may lead to somebody's, too */
	if (fd >= 0)
		close(fd);
	if (fd >= 0 || fd == -EAGAIN)
		return err_set(e, EADDRINUSE, "%s: another process listens there", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, EEXIST, "%s is in the way: it is not a socket", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_set(e, errno, "cannot remove the stale socket %s: %s", path,
			       strerror(errno));
	return 0;
}

static int bind_unix(const char *path, unsigned mode, struct stat *ret, struct err *e)
{
	struct sockaddr_un a;
	int fd, r = socket_unix_address(path, &a, e);

	if (r == 0)
		r = remove_stale(path, e);
	if (r < 0)
		return r;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* Linux makes the file with the socket's own mode less the umask: never wider
	 * than asked, even for a moment; chmod then gives what the umask took. */
	if (fd < 0 || fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    chmod(path, mode) < 0 || listen(fd, BACKLOG) < 0 || lstat(path, ret) < 0) {
		r = err_set(e, errno, "cannot listen on %s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return r;
	}
	return fd;
}

int link_listen_unix(uv_loop_t *loop, const char *path, unsigned mode, link_admit admit,
		     void *arg, struct link_listener **ret, struct err *e)
{
	struct stat st = { 0 };
	int r, fd = bind_unix(path, mode, &st, e);

	if (fd < 0)
		return fd;

	r = listener_new(loop, fd, NULL, 1, admit, arg, ret);
	if (r < 0)
		return err_set(e, -r, "out of memory");
	(*ret)->path = strdup(path);
	(*ret)->dev = st.st_dev;
	(*ret)->ino = st.st_ino;
	return 0;
}
