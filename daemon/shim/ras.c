/* ras.c - see ras.h */
#include "shim/ras.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/nccl_ras.h"

#define ADDRS_MAX 64
#define COUNTS_MAX 1024 /* as in messages.def */

enum state { IDLE, GREETING, TIMEOUT, FORMAT, STATUS, DONE };

static const char *const lines[] = { [GREETING] = "CLIENT PROTOCOL 2\n", [TIMEOUT] = "TIMEOUT 5\n",
				     [FORMAT] = "SET FORMAT json\n", [STATUS] = "STATUS\n" };

struct ras {
	int ep;
	uint64_t data;
	enum state state;
	int fd;
	bool sent; /* the line of this state */
	mono_t until, line_until, next;
	char addrs[ADDRS_MAX][64];
	size_t n, at;
	struct buf in;
	char why[256]; /* there is no answer */
};

struct ras *ras_create(int epoll_fd, uint64_t data)
{
	struct ras *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->ep = epoll_fd;
	r->data = data;
	r->fd = -1;
	r->until = r->line_until = MONO_NEVER;
	r->next = (mono_t){ 0 };
	buf_init(&r->in);
	return r;
}

static void hang_up(struct ras *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	buf_reset(&r->in);
}

void ras_destroy(struct ras *r)
{
	if (!r)
		return;
	hang_up(r);
	buf_finish(&r->in);
	free(r);
}

static void over(struct ras *r)
{
	r->state = DONE;
	r->until = r->line_until = MONO_NEVER;
}

/* Only where NCCL was told to listen: our own addresses, or what the user set. */
static int address(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;
	const char *colon = strrchr(text, ':');
	char host[64];
	int port = colon ? atoi(colon + 1) : 0, n;

	memset(ret, 0, sizeof *ret);
	if (port <= 0 || port > 65535)
		return -EINVAL;
	n = (int)(colon - text);
	snprintf(host, sizeof host, "%.*s", text[0] == '[' ? n - 2 : n, text[0] == '[' ? text + 1 : text);
	if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		*ret_len = sizeof *v4;
		return 0;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
		return -EINVAL;
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)port);
	*ret_len = sizeof *v6;
	return 0;
}

static int dial(struct ras *r, const char *text)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.u64 = r->data };
	struct sockaddr_storage sa;
	socklen_t len;

	if (address(text, &sa, &len) < 0)
		return -EINVAL;
	r->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->fd < 0)
		return -errno;
	if ((connect(r->fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS) ||
	    epoll_ctl(r->ep, EPOLL_CTL_ADD, r->fd, &ev) < 0) {
		int rc = -errno;

		hang_up(r);
		return rc;
	}
	return 0;
}

/* The one before has failed for r->why. */
static void try_next(struct ras *r, mono_t now)
{
	hang_up(r);
	while (r->at < r->n) {
		int rc = dial(r, r->addrs[r->at++]);

		if (rc == 0) {
			r->state = GREETING;
			r->sent = false;
			r->line_until = mono_add_ms(now, RAS_SILENT_MS);
			return;
		}
		snprintf(r->why, sizeof r->why, "%s: %s", r->addrs[r->at - 1], strerror(-rc));
	}
	over(r);
}

bool ras_ask(struct ras *r, const char *const *addrs, size_t n, mono_t now)
{
	if ((r->state != IDLE && r->state != DONE) || !mono_due(r->next, now))
		return false;
	r->n = r->at = 0;
	for (size_t i = 0; i < n && r->n < ADDRS_MAX; i++)
		if (strlen(addrs[i]) < sizeof r->addrs[0])
			strcpy(r->addrs[r->n++], addrs[i]);
	r->until = mono_add_ms(now, RAS_MS);
	r->next = mono_add_ms(now, RAS_PAUSE_MS);
	snprintf(r->why, sizeof r->why, "no rank has an address to ask at");
	try_next(r, now);
	return true;
}

/* ---- the talk -------------------------------------------------------------------------- */

static void watch(struct ras *r, bool writing)
{
	struct epoll_event ev = { .events = EPOLLIN | (writing ? (uint32_t)EPOLLOUT : 0), .data.u64 = r->data };

	epoll_ctl(r->ep, EPOLL_CTL_MOD, r->fd, &ev);
}

/* A line is shorter than any socket's room: it goes out whole or the connection is no good. */
static bool say(struct ras *r)
{
	size_t n = strlen(lines[r->state]);

	if (r->sent)
		return true;
	if (send(r->fd, lines[r->state], n, MSG_NOSIGNAL) != (ssize_t)n) {
		snprintf(r->why, sizeof r->why, "%s: %s", r->addrs[r->at - 1], strerror(errno));
		return false;
	}
	r->sent = true;
	watch(r, false);
	return true;
}

static void refused(struct ras *r, const char *line)
{
	if (r->state == FORMAT)
		snprintf(r->why, sizeof r->why, "its NCCL is older than 2.28.7, whose RAS does not answer in JSON");
	else
		snprintf(r->why, sizeof r->why, "NCCL's RAS says: %.200s", line);
	over(r);
	hang_up(r);
}

/* One complete line was read in a state before STATUS. */
static void on_line(struct ras *r, const char *line, mono_t now)
{
	bool good = r->state == GREETING ? strncasecmp(line, "SERVER PROTOCOL", 15) == 0 : strncasecmp(line, "OK", 2) == 0;

	if (!good) {
		refused(r, line);
		return;
	}
	r->state++;
	r->sent = false;
	r->line_until = r->state == STATUS ? r->until : mono_add_ms(now, RAS_SILENT_MS);
	if (!say(r))
		try_next(r, now);
}

static void take_lines(struct ras *r, mono_t now)
{
	char line[1024];

	while (r->fd >= 0 && r->state < STATUS) {
		const char *nl = r->in.len ? memchr(r->in.data, '\n', r->in.len) : NULL;
		size_t n = nl ? (size_t)(nl - r->in.data) : 0;

		if (!nl && r->in.len < sizeof line)
			return;
		if (!nl || n >= sizeof line) {
			refused(r, "a line that is too long");
			return;
		}
		memcpy(line, r->in.data, n);
		line[n && line[n - 1] == '\r' ? n - 1 : n] = '\0';
		buf_drop(&r->in, n + 1);
		on_line(r, line, now);
	}
}

/* The end of the reply is the end of the connection. */
static void ended(struct ras *r, mono_t now)
{
	if (r->state == STATUS && r->in.len) {
		over(r);
		close(r->fd);
		r->fd = -1;
		r->why[0] = '\0';
		return;
	}
	snprintf(r->why, sizeof r->why, "%s: the connection was closed", r->addrs[r->at - 1]);
	try_next(r, now);
}

void ras_ready(struct ras *r, mono_t now)
{
	char bytes[65536];
	ssize_t n;
	int error = 0;
	socklen_t len = sizeof error;

	if (r->fd < 0 || r->state == DONE)
		return;
	if (!r->sent && getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error) {
		snprintf(r->why, sizeof r->why, "%s: %s", r->addrs[r->at - 1], strerror(error));
		try_next(r, now);
		return;
	}
	if (!say(r)) {
		try_next(r, now);
		return;
	}
	n = recv(r->fd, bytes, sizeof bytes, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		ended(r, now);
		return;
	}
	if (r->in.len + (size_t)n > NCCL_RAS_REPLY_MAX) {
		refused(r, "an answer that is too long");
		return;
	}
	buf_add(&r->in, bytes, (size_t)n);
	take_lines(r, now);
}

void ras_late(struct ras *r, mono_t now)
{
	if (r->state == IDLE || r->state == DONE)
		return;
	snprintf(r->why, sizeof r->why, "%s: no answer", r->addrs[r->at ? r->at - 1 : 0]);
	if (mono_due(r->until, now) || r->state == STATUS) {
		hang_up(r);
		over(r);
	} else if (mono_due(r->line_until, now)) {
		try_next(r, now);
	}
}

mono_t ras_due(const struct ras *r)
{
	return mono_min(r->until, r->line_until);
}

/* ---- what is told ------------------------------------------------------------------------ */

static const struct ras_comm *largest(const struct nccl_ras *x)
{
	const struct ras_comm *best = NULL;

	for (size_t i = 0; i < x->n_comms; i++)
		if (!best || x->comms[i].n_ranks > best->n_ranks)
			best = &x->comms[i];
	return best;
}

static void fill_count(struct arena *a, const struct ras_rank *k, struct rec_ras_count *c)
{
	c->rank = k->rank <= 16777215 ? k->rank : 16777215;
	c->host = arena_strdup(a, k->host);
	c->pid = k->pid <= 4194304 ? k->pid : 0;
	c->missing = k->missing;
	if (k->missing)
		return;
	MSG_SET(c, ras_count, broadcast, k->counts[RAS_BROADCAST]);
	MSG_SET(c, ras_count, reduce, k->counts[RAS_REDUCE]);
	MSG_SET(c, ras_count, all_gather, k->counts[RAS_ALL_GATHER]);
	MSG_SET(c, ras_count, reduce_scatter, k->counts[RAS_REDUCE_SCATTER]);
	MSG_SET(c, ras_count, all_reduce, k->counts[RAS_ALL_REDUCE]);
}

static void fill_behind(struct arena *a, const struct nccl_ras *x, struct rec_ras_state *s)
{
	struct ras_behind b;

	if (!nccl_ras_behind(x, &b))
		return;
	s->coll = ras_coll_name(b.coll);
	MSG_SET(s, ras_state, behind_rank, b.rank->rank <= 16777215 ? b.rank->rank : 16777215);
	s->behind_host = arena_strdup(a, b.rank->host);
	s->behind_pid = b.rank->pid <= 4194304 ? b.rank->pid : 0;
	MSG_SET(s, ras_state, count, b.count);
	MSG_SET(s, ras_state, most, b.most);
	MSG_SET(s, ras_state, n_behind, (uint32_t)b.n_behind);
}

/* It does not answer, or has launched fewer of some collective than another one. */
static bool is_late(const struct ras_rank *k, const uint64_t most[RAS_COLLS])
{
	for (size_t op = 0; op < RAS_COLLS && !k->missing; op++)
		if (k->counts[op] < most[op])
			return true;
	return k->missing;
}

/* Of more ranks than have room those that are late come first: the others are as far as the furthest. */
static void fill_counts(struct arena *a, const struct ras_comm *c, struct rec_ras_state *s)
{
	uint64_t most[RAS_COLLS] = { 0 };

	s->counts = arena_alloc(a, (c->n_ranks < COUNTS_MAX ? c->n_ranks : COUNTS_MAX) * sizeof *s->counts + 1);
	for (size_t i = 0; i < c->n_ranks; i++)
		for (size_t op = 0; op < RAS_COLLS && !c->ranks[i].missing; op++)
			most[op] = c->ranks[i].counts[op] > most[op] ? c->ranks[i].counts[op] : most[op];
	for (int late = 1; late >= 0; late--)
		for (size_t i = 0; s->counts && i < c->n_ranks && s->n_counts < COUNTS_MAX; i++)
			if (is_late(&c->ranks[i], most) == (late == 1))
				fill_count(a, &c->ranks[i], &s->counts[s->n_counts++]);
}

static void fill(struct arena *a, const struct nccl_ras *x, struct rec_ras_state *s)
{
	const struct ras_comm *c = largest(x);
	uint32_t missing = 0;

	s->version = arena_strdup(a, x->version);
	MSG_SET(s, ras_state, comms, (uint32_t)x->n_comms);
	for (size_t i = 0; i < x->n_comms; i++)
		missing += x->comms[i].n_missing;
	MSG_SET(s, ras_state, missing, missing);
	MSG_SET(s, ras_state, sum, nccl_ras_sum(x));
	fill_behind(a, x, s);
	if (!c)
		return;
	s->comm = arena_strdup(a, c->hash);
	MSG_SET(s, ras_state, size, c->size <= 16777215 ? c->size : 16777215);
	fill_counts(a, c, s);
}

bool ras_take(struct ras *r, struct arena *a, struct rec_ras_state *ret)
{
	struct nccl_ras x;
	struct err e;

	if (r->state != DONE)
		return false;
	r->state = IDLE;
	*ret = (struct rec_ras_state){ .text = NULL };
	if (r->why[0]) {
		ret->text = arena_strdup(a, r->why);
	} else if (nccl_ras_parse(r->in.data, r->in.len, &x, &e) < 0) {
		ret->text = arena_printf(a, "NCCL's RAS answered with what cannot be read: %.180s", e.text);
	} else {
		fill(a, &x, ret);
		nccl_ras_finish(&x);
	}
	buf_finish(&r->in); /* it may have been some MiB */
	return true;
}
