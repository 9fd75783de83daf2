/* ports.c - see ports.h */
#include "io/ports.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/list.h"
#include "io/sockets.h"

#define PORT_TORCHRUN 29500 /* the default of everybody else */
#define PORT_NCCL_RAS 28028 /* NCCL's default */
#define VISITORS_MAX 4096

struct lease {
	struct list at;
	struct ports *ports;
	uint64_t job;
	uint32_t attempt;
	uint32_t master_port, proof_port;
	int *fds; /* the abstract sockets */
	size_t n_fds, cap;
	uint32_t *ras;
	size_t n_ras;
	struct door *doors[2]; /* MASTER_PORT's and the proof port's listeners */
};

/* A listener for proofs. Visitors connect, say nothing and close first. */
struct door {
	uv_tcp_t tcp;
	struct list visitors;
	unsigned n;
};

struct visitor {
	uv_tcp_t tcp;
	struct list at;
	struct door *door; /* NULL: closing */
};

struct ports {
	uv_loop_t *loop;
	uint32_t min, max;
	struct list leases;
};

/* What a search has met, for the sentence when it fails. */
struct search {
	uint32_t next; /* port to try */
	uint32_t left;
	uint32_t leased, used;
	int error; /* something else than "in use" */
};

/* ---- one port -------------------------------------------------------- */

/* The lease's descriptor, -EADDRINUSE when somebody holds it. */
static int take_name(uint32_t port)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int len = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "nodeagent-port-%u", port);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return -errno;
	if (bind(fd, (void *)&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* A listening socket on all addresses, v4 and v6; port 0: any. */
static int listen_all(uint32_t port)
{
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	struct sockaddr_in s4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int on = 1, off = 0, rc, fd;

	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		rc = bind(fd, (void *)&s6, sizeof(s6));
		if (rc != 0 && errno == EADDRNOTAVAIL) { /* IPv6 is disabled */
			close(fd);
			fd = -1;
		}
	}
	if (fd < 0) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (fd < 0)
			return -errno;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		rc = bind(fd, (void *)&s4, sizeof(s4));
	}
	if (rc == 0 && listen(fd, 1024) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* Could 127.0.0.1:port be bound right now? */
static int test_loopback(uint32_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return -errno;
	if (bind(fd, (void *)&sa, sizeof(sa)) != 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* ---- searching ------------------------------------------------------- */

static int keep_fd(struct lease *l, int fd)
{
	if (l->n_fds == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 8;
		int *v = realloc(l->fds, cap * sizeof(*v));

		if (v == NULL) {
			close(fd);
			return -ENOMEM;
		}
		l->fds = v;
		l->cap = cap;
	}
	l->fds[l->n_fds++] = fd;
	return 0;
}

static uint32_t step(const struct ports *p, struct search *s)
{
	uint32_t port = s->next;

	s->next = port == p->max ? p->min : port + 1;
	s->left--;
	return port;
}

/* Leases the next port that is free. 'ret_listener' NULL: loopback, test only.
 * 0 and the port, or -errno with counts in *s. */
static int find_port(struct ports *p, struct lease *l, struct search *s, uint32_t *ret,
		     int *ret_listener)
{
	while (s->left > 0) {
		uint32_t port = step(p, s);
		int name, rc;

		if (port == PORT_NCCL_RAS || port == PORT_TORCHRUN)
			continue;
		name = take_name(port);
		if (name == -EADDRINUSE) {
			s->leased++;
			continue;
		}
		if (name < 0)
			return name;
		rc = ret_listener != NULL ? listen_all(port) : test_loopback(port);
		if (rc >= 0) {
			if (ret_listener != NULL)
				*ret_listener = rc;
			*ret = port;
			rc = keep_fd(l, name);
			if (rc != 0 && ret_listener != NULL)
				close(*ret_listener);
			return rc;
		}
		close(name);
		if (rc != -EADDRINUSE && rc != -EACCES)
			return rc;
		s->used++;
	}
	return -EADDRINUSE;
}

static int explain(const struct ports *p, const struct search *s, int rc, const char *what,
		   struct err *e)
{
	if (rc == -EADDRINUSE)
		return err_set(e, EADDRINUSE,
			       "no free port in %u-%u for %s: %u leased by running jobs, %u in use by "
			       "other programs; widen the range: [agent] port_min and [agent] "
			       "port_max",
			       p->min, p->max, what, s->leased, s->used);
	if (rc == -EMFILE || rc == -ENFILE)
		return err_set(e, rc, "cannot lease a port for %s: too many open files; raise "
				      "LimitNOFILE of the agent", what);
	return err_set(e, rc, "cannot lease a port for %s: %s", what, strerror(-rc));
}

/* ---- listeners for proofs -------------------------------------------- */

static void visitor_closed(uv_handle_t *h)
{
	free(list_entry(h, struct visitor, tcp));
}

static void visitor_leaves(struct visitor *v, bool reset)
{
	struct door *d = v->door;

	if (d == NULL)
		return;
	v->door = NULL;
	d->n--;
	list_remove(&v->at);
	/* The one who closes first is left with TIME_WAIT. If that must be us, a
	 * reset leaves nothing behind on the port that the rank will bind. */
	if (!reset || uv_tcp_close_reset(&v->tcp, visitor_closed) != 0)
		uv_close((uv_handle_t *)&v->tcp, visitor_closed);
}

static void nothing_to_hear(uv_handle_t *h, size_t n, uv_buf_t *buf)
{
	static char scratch[64];

	*buf = uv_buf_init(scratch, sizeof(scratch));
}

static void visitor_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	if (n != 0)
		visitor_leaves(list_entry(s, struct visitor, tcp), n > 0);
}

static void visitor_came(uv_stream_t *s, int status)
{
	struct door *d = list_entry(s, struct door, tcp);
	struct visitor *v = status == 0 ? calloc(1, sizeof(*v)) : NULL;

	if (v == NULL)
		return;
	uv_tcp_init(s->loop, &v->tcp);
	v->door = d;
	d->n++;
	list_append(&d->visitors, &v->at);
	if (uv_accept(s, (uv_stream_t *)&v->tcp) != 0 || d->n > VISITORS_MAX ||
	    uv_read_start((uv_stream_t *)&v->tcp, nothing_to_hear, visitor_read) != 0)
		visitor_leaves(v, true);
}

static void door_closed(uv_handle_t *h)
{
	free(list_entry(h, struct door, tcp));
}

static void door_close(struct door *d)
{
	if (d == NULL)
		return;
	list_foreach_safe(l, &d->visitors)
		visitor_leaves(list_entry(l, struct visitor, at), true);
	uv_close((uv_handle_t *)&d->tcp, door_closed);
}

/* Takes the listening descriptor, also on failure. */
static int door_open(uv_loop_t *loop, int fd, struct door **ret)
{
	struct door *d = calloc(1, sizeof(*d));
	int rc;

	if (d == NULL) {
		close(fd);
		return -ENOMEM;
	}
	list_init(&d->visitors);
	uv_tcp_init(loop, &d->tcp);
	rc = uv_tcp_open(&d->tcp, fd);
	if (rc != 0)
		close(fd);
	else
		rc = uv_listen((uv_stream_t *)&d->tcp, 1024, visitor_came);
	if (rc != 0) {
		door_close(d);
		return rc;
	}
	*ret = d;
	return 0;
}

/* ---- leases ---------------------------------------------------------- */

static struct lease *find(struct ports *p, uint64_t job, uint32_t attempt)
{
	list_foreach(e, &p->leases) {
		struct lease *l = list_entry(e, struct lease, at);

		if (l->job == job && l->attempt == attempt)
			return l;
	}
	return NULL;
}

static struct lease *lease_new(struct ports *p, uint64_t job, uint32_t attempt)
{
	struct lease *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->ports = p;
	l->job = job;
	l->attempt = attempt;
	list_append(&p->leases, &l->at);
	return l;
}

static void close_doors(struct lease *l)
{
	for (size_t i = 0; i < 2; i++) {
		door_close(l->doors[i]);
		l->doors[i] = NULL;
	}
}

static void drop(struct lease *l)
{
	close_doors(l);
	for (size_t i = 0; i < l->n_fds; i++)
		close(l->fds[i]);
	list_remove(&l->at);
	free(l->fds);
	free(l->ras);
	free(l);
}

/* Rank 0's node: MASTER_PORT, listened on when others are going to prove it. */
static int lease_master(struct ports *p, struct lease *l, struct search *s, bool listen,
			struct err *e)
{
	int fd, rc = find_port(p, l, s, &l->master_port, &fd);

	if (rc != 0)
		return explain(p, s, rc, "MASTER_PORT", e);
	if (!listen) {
		close(fd); /* nobody connected: nothing lingers */
		return 0;
	}
	rc = door_open(p->loop, fd, &l->doors[0]);
	return rc == 0 ? 0 : err_set(e, rc, "cannot listen on port %u: %s", l->master_port, strerror(-rc));
}

static int lease_proof(struct ports *p, struct lease *l, struct err *e)
{
	int fd = listen_all(0), rc = fd;

	if (fd >= 0) {
		l->proof_port = socket_local_port(fd);
		rc = door_open(p->loop, fd, &l->doors[1]);
	}
	return rc >= 0 ? 0 : err_set(e, rc, "cannot listen on an ephemeral port: %s", strerror(-rc));
}

static int lease_ras(struct ports *p, struct lease *l, struct search *s, uint32_t n, struct err *e)
{
	l->ras = calloc(n ? n : 1, sizeof(*l->ras));
	if (l->ras == NULL)
		return err_set(e, ENOMEM, "out of memory");
	while (l->n_ras < n) {
		int rc = find_port(p, l, s, &l->ras[l->n_ras], NULL);

		if (rc != 0)
			return explain(p, s, rc, "NCCL_RAS_ADDR", e);
		l->n_ras++;
	}
	return 0;
}

/* Where the search begins: spread by job and by node, since virtual nodes share
 * the host's ports and 64 of them, beginning at the same one, tried 2,000. */
static uint32_t start_of(const struct ports *p, const struct rec_prepare *prep)
{
	uint64_t x = (prep->job * 0x9e3779b97f4a7c15u + prep->attempt) ^
		     ((uint64_t)prep->node_rank * 0xd6e8feb86659fd93u);

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return p->min + (uint32_t)((x ^ (x >> 31)) % (p->max - p->min + 1));
}

static void give(const struct lease *l, struct ports_given *ret)
{
	*ret = (struct ports_given){ l->master_port, l->proof_port, l->ras, l->n_ras };
}

int ports_lease(struct ports *p, const struct rec_prepare *prep, struct ports_given *ret,
		struct err *e)
{
	struct search s = { .next = start_of(p, prep), .left = p->max - p->min + 1 };
	struct lease *l = find(p, prep->job, prep->attempt);
	int rc = 0;

	if (l != NULL) {
		give(l, ret);
		return 0;
	}
	l = lease_new(p, prep->job, prep->attempt);
	if (l == NULL)
		return err_set(e, ENOMEM, "out of memory");
	if (prep->node_rank == 0)
		rc = lease_master(p, l, &s, prep->nnodes > 1, e);
	if (rc == 0 && prep->nnodes > 1)
		rc = lease_proof(p, l, e);
	if (rc == 0)
		rc = lease_ras(p, l, &s, prep->nprocs, e);
	if (rc != 0) {
		drop(l);
		return rc;
	}
	give(l, ret);
	return 0;
}

void ports_unlisten(struct ports *p, uint64_t job)
{
	list_foreach(e, &p->leases) {
		struct lease *l = list_entry(e, struct lease, at);

		if (l->job == job)
			close_doors(l);
	}
}

void ports_release(struct ports *p, uint64_t job, uint32_t attempt)
{
	struct lease *l = find(p, job, attempt);

	if (l != NULL)
		drop(l);
}

void ports_text(struct ports *p, uint64_t job, uint32_t attempt, struct buf *b)
{
	struct lease *l = find(p, job, attempt);

	if (l == NULL)
		return;
	if (l->master_port != 0)
		buf_addf(b, "%u ", l->master_port);
	for (size_t i = 0; i < l->n_ras; i++)
		buf_addf(b, "%u ", l->ras[i]);
}

void ports_retake(struct ports *p, uint64_t job, uint32_t attempt, uint32_t port)
{
	struct lease *l = find(p, job, attempt);
	int fd = take_name(port);

	if (fd < 0)
		return;
	if (l == NULL)
		l = lease_new(p, job, attempt);
	if (l == NULL)
		close(fd);
	else
		keep_fd(l, fd); /* closes it when there is no room: best effort */
}

/* ---- the range ------------------------------------------------------- */

static uint32_t below_ephemeral(void)
{
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	unsigned low = 32768;

	if (f != NULL) {
		if (fscanf(f, "%u", &low) != 1)
			low = 32768;
		fclose(f);
	}
	return low > 32768 ? 32767 : low - 1;
}

int ports_create(uv_loop_t *loop, uint32_t min, uint32_t max, struct ports **ret, struct err *e)
{
	struct ports *p;

	if (min == 0)
		min = PORTS_FIRST;
	if (max == 0)
		max = below_ephemeral();
	if (min > max || max > 65535 || min < 1024)
		return err_set(e, EINVAL,
			       "ports %u-%u: not a usable range (1024-65535; by default 20000 up to below "
			       "net.ipv4.ip_local_port_range); set [agent] port_min and [agent] port_max",
			       min, max);
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return err_set(e, ENOMEM, "out of memory");
	p->loop = loop;
	p->min = min;
	p->max = max;
	list_init(&p->leases);
	*ret = p;
	return 0;
}

void ports_destroy(struct ports *p)
{
	if (p == NULL)
		return;
	list_foreach_safe(e, &p->leases)
		drop(list_entry(e, struct lease, at));
	free(p);
}
