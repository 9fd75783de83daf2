/* allreduce.c - a job to try a launcher with: all ranks meet over TCP and add up a vector
 *
 * Reads RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torch's env:// does.
 * Rank 0 listens at the port, everybody connects (trying again until the
 * deadline) and tells where it listens itself; then a ring, neighbour to
 * neighbour, reduces and gathers. The sum is compared with its closed form,
 * number by number. One line per rank; exit code 0, or 1 with what went wrong.
 *
 *   --size N        numbers in the vector (1048576)
 *   --steps N       reductions (1)              --sleep MS   between them
 *   --deadline S    for the meeting (30)        --verbose    a line per step
 *   --fail-rank R --fail-step S --fail-code C   that rank exits with C at that step; a code
 *                   of 128+n is death by signal n
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Where a rank listens for its left neighbour. */
struct place {
	struct sockaddr_storage addr;
	uint32_t len;
	uint32_t rank;
};

static int rank = -1, world = -1;
static int64_t deadline_ms;

static void __attribute__((format(printf, 1, 2), noreturn)) die(const char *fmt, ...)
{
	va_list ap;
	char text[512];

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "worker rank %d: %s\n", rank, text);
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void nap(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

static long number(const char *what, const char *text, long min, long max)
{
	char *end;
	errno = 0;
	long v = text ? strtol(text, &end, 10) : 0;

	if (!text || !*text || *end || errno || v < min || v > max)
		die("%s is %s%s%s, not a number from %ld to %ld", what, text ? "\"" : "",
		    text ? text : "missing", text ? "\"" : "", min, max);
	return v;
}

/* Waits for events on fd until the deadline. */
static void wait_for(int fd, short events, const char *what)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left = deadline_ms - now_ms();

	if (left <= 0 || poll(&p, 1, (int)left) == 0)
		die("%s: no answer in time", what);
}

static void send_all(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		wait_for(fd, POLLOUT, "sending");
		ssize_t k = send(fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (k < 0 && errno != EAGAIN && errno != EINTR)
			die("sending: %s", strerror(errno));
		if (k > 0)
			at += k, n -= (size_t)k;
	}
}

static void recv_all(int fd, void *p, size_t n)
{
	char *at = p;

	while (n) {
		wait_for(fd, POLLIN, "receiving");
		ssize_t k = recv(fd, at, n, MSG_DONTWAIT);

		if (k == 0)
			die("a peer closed its connection: another rank has ended");
		if (k < 0 && errno != EAGAIN && errno != EINTR)
			die("receiving: %s", strerror(errno));
		if (k > 0)
			at += k, n -= (size_t)k;
	}
}

/* Both directions at once, so that a ring of full buffers cannot stand still. */
static void exchange(int to, const void *out, size_t n_out, int from, void *in, size_t n_in)
{
	const char *o = out;
	char *i = in;

	while (n_out || n_in) {
		struct pollfd p[2] = { { .fd = n_out ? to : -1, .events = POLLOUT },
				       { .fd = n_in ? from : -1, .events = POLLIN } };
		if (poll(p, 2, 60000) == 0)
			die("the neighbours have said nothing for 60 s");
		if (p[0].revents) {
			ssize_t k = send(to, o, n_out, MSG_NOSIGNAL | MSG_DONTWAIT);

			if (k < 0 && errno != EAGAIN && errno != EINTR)
				die("sending to the right neighbour: %s", strerror(errno));
			if (k > 0)
				o += k, n_out -= (size_t)k;
		}
		if (p[1].revents) {
			ssize_t k = recv(from, i, n_in, MSG_DONTWAIT);

			if (k == 0)
				die("the left neighbour has ended");
			if (k < 0 && errno != EAGAIN && errno != EINTR)
				die("receiving from the left neighbour: %s", strerror(errno));
			if (k > 0)
				i += k, n_in -= (size_t)k;
		}
	}
}

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static int listen_at(int family, uint16_t port, uint16_t *ret_port)
{
	struct sockaddr_storage sa = { .ss_family = (sa_family_t)family };
	socklen_t len = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	in_port_t *at = family == AF_INET6 ? &((struct sockaddr_in6 *)&sa)->sin6_port
					   : &((struct sockaddr_in *)&sa)->sin_port;
	int one = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	*at = htons(port);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, world) < 0)
		die("MASTER_PORT %u: %s", port, strerror(errno));
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		die("getsockname: %s", strerror(errno));
	*ret_port = ntohs(*at);
	return fd;
}

static int accept_one(int listener, const char *what)
{
	wait_for(listener, POLLIN, what);
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		die("accept: %s", strerror(errno));
	no_delay(fd);
	return fd;
}

static int dial(const struct sockaddr *sa, socklen_t len, const char *what)
{
	int err = 0;

	while (now_ms() < deadline_ms) {
		int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			die("socket: %s", strerror(errno));
		if (connect(fd, sa, len) == 0) {
			no_delay(fd);
			return fd;
		}
		err = errno;
		close(fd);
		nap(10);
	}
	die("%s: %s", what, err ? strerror(err) : "out of time");
}

static void set_port(struct sockaddr_storage *sa, uint16_t port)
{
	if (sa->ss_family == AF_INET6)
		((struct sockaddr_in6 *)sa)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)sa)->sin_port = htons(port);
}

/* Rank 0: learns from every rank where it listens, and tells all. */
static void host_meeting(int master, struct place *places)
{
	int fds[world];

	for (int i = 1; i < world; i++) {
		int fd = accept_one(master, "waiting for the other ranks at MASTER_PORT");
		uint32_t said[2];
		struct place p = { .len = sizeof(p.addr) };

		recv_all(fd, said, sizeof(said));
		if (said[0] == 0 || said[0] >= (uint32_t)world || places[said[0]].len)
			die("two ranks say that they are rank %u", said[0]);
		if (getpeername(fd, (struct sockaddr *)&p.addr, &p.len) < 0)
			die("getpeername: %s", strerror(errno));
		set_port(&p.addr, (uint16_t)said[1]);
		p.rank = said[0];
		places[p.rank] = p;
		fds[p.rank] = fd;
	}
	for (int i = 1; i < world; i++) {
		send_all(fds[i], places, sizeof(*places) * (size_t)world);
		close(fds[i]);
	}
}

/* Meets everybody; leaves with a connection to each neighbour. */
static void meet(const char *addr, const char *port, int *ret_right, int *ret_left)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	struct place *places = calloc((size_t)world, sizeof(*places));
	int e = getaddrinfo(addr, port, &hints, &found);
	uint16_t own, got;

	if (e)
		die("MASTER_ADDR %s: %s", addr, gai_strerror(e));
	if (!places)
		die("out of memory");
	int family = found->ai_addr->sa_family;
	int listener = listen_at(family, 0, &own);

	memcpy(&places[0].addr, found->ai_addr, found->ai_addrlen);
	places[0].len = found->ai_addrlen;
	set_port(&places[0].addr, own);
	if (rank == 0) {
		int master = listen_at(family, (uint16_t)number("MASTER_PORT", port, 1, 65535), &got);

		host_meeting(master, places);
		close(master);
	} else {
		char what[300];
		uint32_t say[2] = { (uint32_t)rank, own };
		snprintf(what, sizeof(what), "rank 0 at %s:%s", addr, port);
		int fd = dial(found->ai_addr, found->ai_addrlen, what);

		send_all(fd, say, sizeof(say));
		recv_all(fd, places, sizeof(*places) * (size_t)world);
		close(fd);
	}
	freeaddrinfo(found);
	/* Everybody listens already: connecting first cannot block anybody. */
	struct place *right = &places[(rank + 1) % world];

	*ret_right = dial((struct sockaddr *)&right->addr, right->len, "the right neighbour");
	*ret_left = accept_one(listener, "waiting for the left neighbour");
	close(listener);
	free(places);
}

static size_t part_begin(size_t n, int part)
{
	return n * (size_t)part / (size_t)world;
}

/* The usual ring: world-1 steps that add, world-1 that hand round. */
static void ring(double *v, double *tmp, size_t n, int right, int left)
{
	for (int s = 0; s < 2 * (world - 1); s++) {
		int back = s < world - 1 ? s : s - 1 - (world - 1);
		int out = ((rank - back) % world + world) % world, in = (out - 1 + world) % world;
		size_t ob = part_begin(n, out), on = part_begin(n, out + 1) - ob;
		size_t ib = part_begin(n, in), in_n = part_begin(n, in + 1) - ib;

		exchange(right, v + ob, on * sizeof(*v), left, tmp, in_n * sizeof(*v));
		if (s < world - 1)
			for (size_t i = 0; i < in_n; i++)
				v[ib + i] += tmp[i];
		else
			memcpy(v + ib, tmp, in_n * sizeof(*v));
	}
}

/* Rank r gives (r+1) * (i%1000 + 1) + step: small whole numbers, exact in a double. */
static void fill(double *v, size_t n, long step)
{
	for (size_t i = 0; i < n; i++)
		v[i] = (double)(rank + 1) * (double)(i % 1000 + 1) + (double)step;
}

static void check(const double *v, size_t n, long step)
{
	double ranks = (double)world * (world + 1) / 2;

	for (size_t i = 0; i < n; i++) {
		double want = ranks * (double)(i % 1000 + 1) + (double)world * (double)step;

		if (v[i] != want)
			die("step %ld: number %zu is %.17g, should be %.17g", step, i, v[i], want);
	}
}

static void fail_now(long code)
{
	if (code > 128) {
		signal((int)code - 128, SIG_DFL);
		raise((int)code - 128);
	}
	exit((int)code);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", 1, NULL, 'n' },	{ "steps", 1, NULL, 's' },
		{ "sleep", 1, NULL, 'z' },	{ "deadline", 1, NULL, 'd' },
		{ "verbose", 0, NULL, 'v' },	{ "fail-rank", 1, NULL, 'r' },
		{ "fail-step", 1, NULL, 't' },	{ "fail-code", 1, NULL, 'c' },
		{ NULL, 0, NULL, 0 },
	};
	long size = 1048576, steps = 1, pause_ms = 0, deadline_s = 30;
	long fail_rank = -1, fail_step = 0, fail_code = 1;
	bool verbose = false;
	char host[HOST_NAME_MAX + 1] = "?";
	int o, right, left;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (o) {
		case 'n': size = number("--size", optarg, 1, 1L << 32); break;
		case 's': steps = number("--steps", optarg, 1, LONG_MAX); break;
		case 'z': pause_ms = number("--sleep", optarg, 0, 86400000); break;
		case 'd': deadline_s = number("--deadline", optarg, 1, 86400); break;
		case 'v': verbose = true; break;
		case 'r': fail_rank = number("--fail-rank", optarg, 0, INT_MAX); break;
		case 't': fail_step = number("--fail-step", optarg, 0, LONG_MAX); break;
		case 'c': fail_code = number("--fail-code", optarg, 1, 192); break;
		default: return 2;
		}
	}
	rank = (int)number("RANK", getenv("RANK"), 0, INT_MAX - 1);
	world = (int)number("WORLD_SIZE", getenv("WORLD_SIZE"), rank + 1, 65536);
	if (!getenv("MASTER_ADDR") || !getenv("MASTER_PORT"))
		die("MASTER_ADDR or MASTER_PORT is missing from the environment");
	deadline_ms = now_ms() + deadline_s * 1000;
	gethostname(host, sizeof(host) - 1);
	const char *node = getenv("NODEAGENT_NODE") ? getenv("NODEAGENT_NODE") : host;
	double *v = calloc((size_t)size, sizeof(*v)), *tmp = calloc((size_t)size, sizeof(*tmp));

	if (!v || !tmp)
		die("out of memory");
	meet(getenv("MASTER_ADDR"), getenv("MASTER_PORT"), &right, &left);
	for (long step = 0; step < steps; step++) {
		if (rank == fail_rank && step == fail_step)
			fail_now(fail_code);
		fill(v, (size_t)size, step);
		ring(v, tmp, (size_t)size, right, left);
		check(v, (size_t)size, step);
		if (verbose) {
			printf("step %ld\n", step);
			fflush(stdout);
		}
		if (pause_ms)
			nap(pause_ms);
	}
	printf("rank %d of %d on %s: sum of %ld numbers is right\n", rank, world, node, size);
	free(v);
	free(tmp);
	return 0;
}
