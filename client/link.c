/* link.c - the client's framed connection, see link.h */
#include "client/link.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "proto/features.h"

mono_t mono_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_t){ (int64_t)t.tv_sec * 1000000000 + t.tv_nsec };
}

void link_init(struct link *l)
{
	memset(l, 0, sizeof(*l));
	l->fd = -1;
	frame_reader_init(&l->in, FRAME_MAX);
	buf_init(&l->out);
}

void link_close(struct link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	l->ready = false;
	l->sent = 0;
	frame_reader_finish(&l->in);
	frame_reader_init(&l->in, FRAME_MAX);
	buf_finish(&l->out);
}

/* The owner of the path, or of the first directory on the way there that may not be entered. */
static bool owner_of(const char *path, uid_t *ret)
{
	char way[PATH_MAX];
	struct stat st;
	char *slash;

	snprintf(way, sizeof(way), "%s", path);
	while (stat(way, &st) != 0) {
		slash = strrchr(way, '/');
		if (!slash || slash == way)
			return false;
		*slash = '\0';
	}
	*ret = st.st_uid;
	return true;
}

/* A standalone cluster is its user's, all others are the administrator's: root's, or a service's. */
static int not_mine(const char *path, struct err *e)
{
	uid_t uid;
	const struct passwd *pw = owner_of(path, &uid) && uid >= 1000 ? getpwuid(uid) : NULL;

	if (pw)
		return err_set(e, EACCES, "you may not use %s: this cluster is for %s only, who started it", path, pw->pw_name);
	return err_set(e, EACCES, "you may not use %s: this socket belongs to the administrator", path);
}

/* One sentence: what, where, what to do. */
static int cannot_connect(const struct link *l, const char *path, int code, struct err *e)
{
	struct stat st;

	switch (code) {
	case ENOENT:
		if (l->coordinator)
			return err_set(e, code, "there is no coordinator's socket at %s; this is done on the coordinator's "
						"host, while it runs: or name its place with --dir, --socket or NODEAGENT_DIR",
				       path);
		return err_set(e, code, "there is no agent at %s; start nodeagentd, or name its place "
					"with --dir, --socket or NODEAGENT_DIR", path);
	case ECONNREFUSED:
		if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
			return err_set(e, code, "%s is no socket: name the agent's with --socket, or its place with --dir or NODEAGENT_DIR",
				       path);
		return err_set(e, code, "nobody answers at %s: the %s has stopped; start nodeagentd again",
			       path, l->coordinator ? "coordinator" : "agent");
	case EACCES:
		return not_mine(path, e);
	case EAGAIN:
		return err_set(e, code, "the %s at %s does not take new connections; look at its log "
					"(journalctl -u %s)", l->coordinator ? "coordinator" : "agent", path,
			       l->coordinator ? "nodeagent-coordinator" : "nodeagentd");
	default:
		return err_set(e, code, "cannot connect to %s: %s", path, strerror(code));
	}
}

static int send_hello(struct link *l, struct err *e)
{
	struct msg m;

	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = NA_SOFTWARE;
	m.u.hello.role = "client";
	return link_send(l, &m, e);
}

/* A socket's name has at most 107 bytes; a longer one is reached by a
 * descriptor of the socket itself. That descriptor in *ret_fd, or -1. */
static int short_way(const char *path, struct sockaddr_un *a, int *ret_fd)
{
	*ret_fd = -1;
	if (strlen(path) < sizeof(a->sun_path)) {
		memcpy(a->sun_path, path, strlen(path) + 1);
		return 0;
	}
	*ret_fd = open(path, O_PATH | O_CLOEXEC);
	if (*ret_fd < 0)
		return -errno;
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d", *ret_fd);
	return 0;
}

int link_dial(struct link *l, const char *path, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int r, way;

	r = short_way(path, &a, &way);
	if (r < 0)
		return cannot_connect(l, path, -r, e);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = l->fd >= 0 && connect(l->fd, (struct sockaddr *)&a, sizeof(a)) == 0 ? 0 : errno;
	if (way >= 0)
		close(way);
	if (l->fd < 0)
		return err_set(e, r, "cannot make a socket: %s", strerror(r));
	if (r != 0) {
		link_close(l);
		return cannot_connect(l, path, r, e);
	}
	return send_hello(l, e);
}

int link_welcomed(struct link *l, const struct msg *m, struct err *e)
{
	int r;

	if (m->type == MSG_refused)
		return err_set(e, EPERM, "%s", m->u.refused.text);
	if (m->type != MSG_welcome)
		return err_set(e, EPROTO, "the agent began with \"%s\" in place of a welcome", msg_name(m->type));
	r = proto_compatible(NA_PROTO, m->u.welcome.proto, "the agent", e);
	if (r < 0)
		return r;
	l->ready = true;
	l->features = features_of(&m->u.welcome);
	snprintf(l->software, sizeof(l->software), "%s", m->u.welcome.software);
	snprintf(l->node, sizeof(l->node), "%s", m->u.welcome.node != NULL ? m->u.welcome.node : "");
	return 0;
}

uint32_t link_id(struct link *l)
{
	return ++l->next_id;
}

int link_send(struct link *l, const struct msg *m, struct err *e)
{
	struct buf text;
	int r;

	buf_init(&text);
	r = msg_encode(m, &text, e);
	if (r == 0) {
		r = frame_add_json(&l->out, text.data, text.len);
		if (r < 0)
			err_set(e, -r, "the request is too large (%zu bytes)", text.len);
	}
	buf_finish(&text);
	return r;
}

int link_send_data(struct link *l, const struct data_header *h, const void *p, size_t n)
{
	char *room = buf_reserve(&l->out, FRAME_HEADER + DATA_HEADER + n);

	if (!room)
		return -ENOMEM;
	frame_put_data(room, h, n);
	if (n)
		memcpy(room + FRAME_HEADER + DATA_HEADER, p, n);
	l->out.len += FRAME_HEADER + DATA_HEADER + n;
	return 0;
}

bool link_pending(const struct link *l)
{
	return l->sent < l->out.len;
}

int link_flush(struct link *l)
{
	while (l->sent < l->out.len) {
		ssize_t n = send(l->fd, l->out.data + l->sent, l->out.len - l->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -errno;
		l->sent += (size_t)n;
	}
	buf_reset(&l->out);
	l->sent = 0;
	return 0;
}

long link_fill(struct link *l)
{
	size_t room;
	char *p = frame_reader_space(&l->in, LINK_READ, &room);
	ssize_t n;

	if (!p)
		return -ENOMEM;
	do
		n = read(l->fd, p, room);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	frame_reader_got(&l->in, (size_t)n);
	return n;
}

int link_next(struct link *l, struct frame *ret, struct err *e)
{
	return frame_next(&l->in, ret, e);
}

#define SLOW_MS 1000 /* then people are told what is waited for */

/* 0 also after a signal: the caller looks again. */
static int wait_for(struct link *l, mono_t deadline, struct err *e)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	int64_t left = mono_sub_ms(deadline, mono_now()) + 1; /* LINK_ANSWER_MS at most */
	int64_t most = l->told_slow || left < SLOW_MS ? left : SLOW_MS;
	struct timespec t = { most / 1000, most % 1000 * 1000000 };

	if (left <= 1)
		return err_set(e, ETIME, "the agent did not answer in time; look at its log (journalctl -u nodeagentd)");
	if (link_pending(l))
		p.events |= POLLOUT;
	switch (ppoll(&p, 1, &t, l->open_mask)) {
	case 0:
		if (!l->told_slow && left > SLOW_MS)
			fprintf(stderr, "nodectl: no answer yet; waiting for the coordinator, %d s at most\n",
				(int)(left - SLOW_MS + 999) / 1000);
		l->told_slow = true;
		return 0;
	case -1:
		break;
	default:
		return 0;
	}
	if (errno != EINTR)
		return err_set(e, errno, "cannot wait for the agent: %s", strerror(errno));
	if (l->on_signal && l->on_signal(l->signal_arg))
		return err_set(e, EINTR, "interrupted");
	return 0;
}

static int gone(int r, struct err *e)
{
	if (r == -EPIPE || r == -ECONNRESET)
		return err_set(e, EPIPE, "the agent closed the connection");
	return err_set(e, -r, "the connection to the agent broke: %s", strerror(-r));
}

/* The next JSON message, waiting for it; other frames and unknown messages are passed over. */
static int receive(struct link *l, mono_t deadline, struct msg *ret, struct err *e)
{
	struct frame f;

	for (;;) {
		long n;
		int r;

		while ((r = link_next(l, &f, e)) == 1) {
			if (f.type != FRAME_JSON)
				continue;
			r = msg_decode(f.data, f.len, ret, e);
			if (r != -ENOTSUP)
				return r;
		}
		if (r < 0)
			return r;

		/* what it has said counts, even if it no longer listens */
		r = link_flush(l);
		n = link_fill(l);
		if (n < 0)
			return gone(r < 0 ? r : (int)n, e);
		if (n == 0 && (r = wait_for(l, deadline, e)) < 0)
			return r;
	}
}

int link_open(struct link *l, const char *path, struct err *e)
{
	mono_t deadline = mono_add_ms(mono_now(), LINK_HELLO_MS);
	struct msg m;
	int r;

	/* a full queue of connections empties in moments */
	while ((r = link_dial(l, path, e)) == -EAGAIN && mono_before(mono_now(), deadline))
		poll(NULL, 0, 10);
	if (r < 0)
		return r;

	r = receive(l, deadline, &m, e);
	if (r == 0) {
		r = link_welcomed(l, &m, e);
		msg_finish(&m);
	}
	if (r < 0)
		link_close(l);
	return r;
}

/* The rid that an answer carries; 0 for other messages. */
static uint32_t answer_rid(const struct msg *m)
{
	switch (m->type) {
	case MSG_refused:
		return m->u.refused.rid;
	case MSG_ok:
		return m->u.ok.rid;
	case MSG_status:
		return m->u.status.rid;
	case MSG_events:
		return m->u.events.rid;
	case MSG_base_told:
		return m->u.base_told.rid;
	case MSG_base_list:
		return m->u.base_list.rid;
	case MSG_jobs:
		return m->u.jobs.rid;
	case MSG_checks:
		return m->u.checks.rid;
	case MSG_submitted:
		return m->u.submitted.rid;
	case MSG_token:
		return m->u.token.rid;
	case MSG_plan:
		return m->u.plan.rid;
	case MSG_sm_fixed:
		return m->u.sm_fixed.rid;
	default:
		return 0;
	}
}

int link_answer(struct link *l, uint32_t rid, enum msg_type want, struct msg *ret, struct err *e)
{
	mono_t deadline = mono_add_ms(mono_now(), LINK_ANSWER_MS);
	struct msg m = { 0 };
	int r;

	while ((r = receive(l, deadline, &m, e)) == 0) {
		if (m.type == want && answer_rid(&m) == rid) {
			*ret = m;
			return 0;
		}
		if (m.type == MSG_refused && (m.u.refused.rid == rid || !m.u.refused.rid))
			r = err_set(e, strcmp(m.u.refused.code, "unavailable") == 0 ? EHOSTUNREACH : EPERM, "%s",
				    m.u.refused.text);
		msg_finish(&m);
		if (r < 0)
			break;
	}
	return r;
}

int link_call(struct link *l, const struct msg *request, uint32_t rid, enum msg_type want,
	      struct msg *ret, struct err *e)
{
	int r = link_send(l, request, e);

	return r < 0 ? r : link_answer(l, rid, want, ret, e);
}
