/* output.c - see output.h
 *
 * read(2) and write(2) through one buffer, not splice(2): measured, splice is
 * no quicker for large writes and a third as quick for many small ones (one
 * page fragment at a time), and it cannot append. */
#include "shim/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/spool.h"

#define CHUNK (256u << 10) /* stays in the second-level cache */
#define READ_MAX (64u << 20) /* one call; a stream fed for ever must not stop the others */
#define STAMP_MS 100
#define TAIL_ROOM ((size_t)2 * OUTPUT_TAIL_MAX)
#define PIPE_SIZE (1u << 20)
/* A user may hold 64 MiB in pipes (pipe-user-pages-soft); beyond, his own get two pages. */
#define BIG_PIPES 16
#define LARGER_PIPES 64
#define LARGER_SIZE (256u << 10)
/* Holes begin and end at multiples of this: of every block size there is, so that
 * a block is either whole or gone, and never zeroes that look like output. */
#define HOLE_ALIGN (64u << 10)
#define STAMPS_MAX (64u << 20) /* then the older half goes */

struct stream {
	int pipe_fd; /* -1 when closed */
	int file; /* -1: not made yet */
	bool changed, eof;
	bool stamped;
	uint64_t size; /* bytes in the file */
	uint64_t given; /* ... of which so many, from its begin, are given back */
	uint64_t lost;
	int64_t stamp_wall_ms;
	char *tail; /* TAIL_ROOM bytes */
	size_t tail_len;
};

struct output {
	uint32_t n;
	int spool_fd; /* where files are made; -1: all were given */
	int stamps_fd; /* -1: not made yet */
	int epoll_fd; /* where the caller polls our read ends; -1: nowhere */
	uint32_t rank_base;
	uint32_t n_changed;
	uint64_t keep; /* 0: everything */
	uint64_t kept;
	bool no_holes; /* its file system has none */
	bool holeless;
	struct buf stamps;
	uint64_t stamps_size, stamps_given;
	char chunk[CHUNK];
	struct stream streams[];
};

static struct output *create(uint32_t nprocs)
{
	struct output *o = calloc(1, sizeof *o + 2 * (size_t)nprocs * sizeof o->streams[0]);

	if (!o)
		return NULL;

	o->n = 2 * nprocs;
	o->spool_fd = o->stamps_fd = o->epoll_fd = -1;
	buf_init(&o->stamps);
	for (uint32_t i = 0; i < o->n; i++)
		o->streams[i].pipe_fd = o->streams[i].file = -1;
	return o;
}

struct output *output_create(uint32_t nprocs, int first_fd, int stamps_fd)
{
	struct output *o = create(nprocs);

	if (!o)
		return NULL;

	o->stamps_fd = stamps_fd;
	for (uint32_t i = 0; i < o->n; i++)
		o->streams[i].file = first_fd + (int)i;
	return o;
}

struct output *output_create_in(uint32_t nprocs, int spool_fd)
{
	struct output *o = create(nprocs);

	if (o)
		o->spool_fd = spool_fd;
	return o;
}

void output_destroy(struct output *o)
{
	if (!o)
		return;

	for (uint32_t i = 0; i < o->n; i++) {
		if (o->streams[i].pipe_fd >= 0)
			close(o->streams[i].pipe_fd);
		free(o->streams[i].tail);
	}
	buf_finish(&o->stamps);
	free(o);
}

void output_set_rank_base(struct output *o, uint32_t rank_base)
{
	o->rank_base = rank_base;
}

void output_watched(struct output *o, int epoll_fd)
{
	o->epoll_fd = epoll_fd;
}

static void set_changed(struct output *o, struct stream *s)
{
	if (!s->changed)
		o->n_changed++;
	s->changed = true;
}

static void enlarge(const struct output *o, uint32_t stream, int fd)
{
	if (stream < LARGER_PIPES)
		fcntl(fd, F_SETPIPE_SZ, o->n <= BIG_PIPES ? PIPE_SIZE : LARGER_SIZE);
}

int output_open(struct output *o, uint32_t stream, int *ret_read_fd, int *ret_write_fd)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;

	/* the reading end only: a rank's end must block as pipes do */
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	enlarge(o, stream, fds[0]);
	o->streams[stream].pipe_fd = fds[0];
	*ret_read_fd = fds[0];
	*ret_write_fd = fds[1];
	return 0;
}

static void keep_tail(struct stream *s, const char *p, size_t n)
{
	if (!s->tail && !(s->tail = malloc(TAIL_ROOM)))
		return;

	if (n > OUTPUT_TAIL_MAX) {
		p += n - OUTPUT_TAIL_MAX;
		n = OUTPUT_TAIL_MAX;
	}
	if (s->tail_len + n > TAIL_ROOM) { /* rarely: half of it moves */
		memmove(s->tail, s->tail + s->tail_len - OUTPUT_TAIL_MAX, OUTPUT_TAIL_MAX);
		s->tail_len = OUTPUT_TAIL_MAX;
	}
	memcpy(s->tail + s->tail_len, p, n);
	s->tail_len += n;
}

static void stamp(struct output *o, uint32_t stream, int64_t wall_ms)
{
	struct stream *s = &o->streams[stream];
	int64_t age = wall_ms - s->stamp_wall_ms;

	if (s->stamped && age >= 0 && age < STAMP_MS)
		return;

	s->stamped = true;
	s->stamp_wall_ms = wall_ms;
	buf_addf(&o->stamps, "%" PRId64 " %" PRIu32 " %u %" PRIu64 "\n", wall_ms,
		 o->rank_base + stream / 2, 1 + stream % 2, s->size);
}

/* ---- giving back --------------------------------------------------------- */

/* The descriptor is open for appending only; that does not hinder it. */
static bool punch(struct output *o, int fd, uint64_t from, uint64_t to)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) == 0)
		return true;
	if (errno != EINTR && errno != ENOSPC)
		o->no_holes = true;
	return false;
}

/* The stream of which most is kept, and how much of it could go: all but its end. */
static struct stream *largest(struct output *o, uint64_t *ret_room)
{
	struct stream *most = NULL;

	for (uint32_t i = 0; i < o->n; i++)
		if (!most || o->streams[i].size - o->streams[i].given > most->size - most->given)
			most = &o->streams[i];
	*ret_room = most ? most->size / HOLE_ALIGN * HOLE_ALIGN - most->given : 0;
	return most;
}

/* The oldest of the largest streams goes, an eighth more than needed: not each
 * write is to cost a system call. A stream is not made smaller at a time than half. */
static void make_room(struct output *o)
{
	uint64_t aim = o->keep - o->keep / 8, room, n;

	while (o->kept > aim && !o->no_holes) {
		struct stream *s = largest(o, &room);

		n = o->kept - aim < room / 2 ? o->kept - aim : room / 2;
		n = (n + HOLE_ALIGN - 1) / HOLE_ALIGN * HOLE_ALIGN;
		if (n > room)
			n = room;
		if (n == 0 || s->file < 0 || !punch(o, s->file, s->given, s->given + n))
			return;
		s->given += n;
		o->kept -= n;
		set_changed(o, s);
	}
}

void output_keep(struct output *o, uint64_t bytes)
{
	o->keep = bytes;
	if (bytes && o->kept > bytes)
		make_room(o);
}

uint64_t output_given(const struct output *o)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < o->n; i++)
		n += o->streams[i].given;
	return n;
}

bool output_holeless(const struct output *o)
{
	return o->holeless;
}

static void wrote_stamps(struct output *o, uint64_t n)
{
	uint64_t half = o->stamps_given + STAMPS_MAX / 2;

	o->stamps_size += n;
	if (o->stamps_size - o->stamps_given < STAMPS_MAX || o->no_holes)
		return;
	if (punch(o, o->stamps_fd, o->stamps_given, half))
		o->stamps_given = half;
}

void output_flush_stamps(struct output *o)
{
	ssize_t n;

	if (o->stamps.len == 0)
		return;

	/* Best effort: on a full disk the output itself is what counts. */
	if (o->stamps_fd < 0)
		o->stamps_fd = spool_stamps(o->spool_fd);
	n = o->stamps_size - o->stamps_given < STAMPS_MAX ? write(o->stamps_fd, o->stamps.data, o->stamps.len) : 0;
	if (n > 0)
		wrote_stamps(o, (uint64_t)n);
	buf_reset(&o->stamps);
}

static void store(struct output *o, uint32_t stream, const char *p, size_t n)
{
	struct stream *s = &o->streams[stream];
	ssize_t w;

	if (s->file < 0)
		s->file = spool_stream(o->spool_fd, o->rank_base + stream / 2, stream % 2);
	if (s->file < 0) {
		s->lost += n;
		return;
	}
	if (o->keep && o->no_holes && o->kept + n > o->keep) {
		o->holeless = true;
		s->lost += n;
		return;
	}
	while (n > 0) {
		w = write(s->file, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			s->lost += n;
			return;
		}
		s->size += (uint64_t)w;
		o->kept += (uint64_t)w;
		p += w;
		n -= (size_t)w;
	}
	if (o->keep && o->kept > o->keep)
		make_room(o);
}

static void ended(struct output *o, struct stream *s)
{
	if (s->pipe_fd >= 0 && o->epoll_fd >= 0)
		epoll_ctl(o->epoll_fd, EPOLL_CTL_DEL, s->pipe_fd, NULL);
	if (s->pipe_fd >= 0)
		close(s->pipe_fd);
	s->pipe_fd = -1;
	s->eof = true;
	set_changed(o, s);
}

size_t output_read(struct output *o, uint32_t stream, int64_t wall_ms, size_t max,
		   bool *ret_closed)
{
	struct stream *s = &o->streams[stream];
	size_t moved = 0;
	ssize_t n = 0;

	*ret_closed = false;
	if (s->pipe_fd < 0)
		return 0;
	if (max == 0)
		max = READ_MAX;

	while (moved < max) {
		n = read(s->pipe_fd, o->chunk, CHUNK);
		if (n <= 0)
			break;
		stamp(o, stream, wall_ms);
		store(o, stream, o->chunk, (size_t)n);
		keep_tail(s, o->chunk, (size_t)n);
		set_changed(o, s);
		moved += (size_t)n;
	}
	if (moved < max && (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))) {
		ended(o, s);
		*ret_closed = true;
	}
	return moved;
}

void output_say(struct output *o, uint32_t stream, const char *p, size_t n, int64_t wall_ms)
{
	struct stream *s = &o->streams[stream];

	stamp(o, stream, wall_ms);
	if (s->tail_len > 0 && s->tail[s->tail_len - 1] != '\n')
		store(o, stream, "\n", 1);
	store(o, stream, p, n);
	set_changed(o, s);
}

bool output_is_open(const struct output *o, uint32_t stream)
{
	return o->streams[stream].pipe_fd >= 0;
}

void output_close(struct output *o, uint32_t stream, int64_t wall_ms)
{
	bool closed;

	output_read(o, stream, wall_ms, 0, &closed);
	if (!closed)
		ended(o, &o->streams[stream]);
}

uint64_t output_lost(const struct output *o, uint32_t local)
{
	const struct stream *s = &o->streams[2 * (size_t)local];

	return s[0].lost + s[1].lost;
}

static bool blank(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != ' ' && p[i] != '\n' && p[i] != '\r' && p[i] != '\t')
			return false;
	return true;
}

static struct bytes last_lines(const struct stream *s)
{
	size_t n = s->tail_len < OUTPUT_TAIL_MAX ? s->tail_len : OUTPUT_TAIL_MAX;
	const char *end = s->tail + s->tail_len, *p = end;
	unsigned lines = 0;

	while ((size_t)(end - p) < n) {
		if (p[-1] == '\n' && p != end && ++lines == OUTPUT_TAIL_LINES)
			break;
		p--;
	}
	/* a line that began before what we kept is not shown, unless it is all there is */
	if (p == end - n && s->tail_len > n && p[-1] != '\n' && lines > 0)
		p = (const char *)memchr(p, '\n', n) + 1;
	return (struct bytes){ (const uint8_t *)p, (size_t)(end - p) };
}

struct bytes output_tail(const struct output *o, uint32_t local)
{
	const struct stream *s = &o->streams[2 * (size_t)local + 1];

	if (!s->tail_len || blank(s->tail, s->tail_len))
		s--;
	if (!s->tail_len || blank(s->tail, s->tail_len))
		return (struct bytes){ NULL, 0 };
	return last_lines(s);
}

/* Our descriptor writes only. Its file is the job's user's, as we are; the name of
 * its directory may be closed to him, the link of the descriptor is not. */
static char *read_back(int file, uint64_t from, size_t max, size_t *ret_n)
{
	char path[48], *p = NULL;
	off_t size;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	size = lseek(fd, 0, SEEK_END);
	if (size > 0 && (uint64_t)size > from && (uint64_t)size - from < max)
		max = (size_t)((uint64_t)size - from);
	if (size > 0 && (uint64_t)size > from)
		p = malloc(max);
	n = p ? pread(fd, p, max, size - (off_t)max) : -1;
	close(fd);
	if (n <= 0) {
		free(p);
		return NULL;
	}
	*ret_n = (size_t)n;
	return p;
}

uint64_t output_size(const struct output *o, uint32_t stream)
{
	return o->streams[stream].size;
}

char *output_window(const struct output *o, uint32_t stream, uint64_t from, size_t max, size_t *ret_n)
{
	const struct stream *s = &o->streams[stream];
	size_t n = s->tail_len;
	char *p;

	if (from < s->given)
		from = s->given;
	p = s->file >= 0 && !s->lost ? read_back(s->file, from, max, ret_n) : NULL;

	if (p || s->size + s->lost <= from)
		return p;
	if (s->size + s->lost - from < n)
		n = (size_t)(s->size + s->lost - from);
	p = n ? malloc(n) : NULL;
	if (!p)
		return NULL;
	memcpy(p, s->tail + s->tail_len - n, n);
	*ret_n = n;
	return p;
}

void output_forget_reports(struct output *o)
{
	for (uint32_t i = 0; i < o->n; i++) {
		struct stream *s = &o->streams[i];

		if (s->size || s->lost || s->eof)
			set_changed(o, s);
	}
}

size_t output_report(struct output *o, struct rec_grown *out, size_t max)
{
	size_t n = 0;

	for (uint32_t i = 0; i < o->n && n < max && o->n_changed; i++) {
		struct stream *s = &o->streams[i];
		struct rec_grown *g = &out[n];

		if (!s->changed)
			continue;
		*g = (struct rec_grown){ .local = i / 2, .fd = 1 + i % 2, .size = s->size };
		if (s->eof)
			MSG_SET(g, grown, eof, true);
		if (s->lost)
			MSG_SET(g, grown, lost, s->lost);
		if (s->given)
			MSG_SET(g, grown, given, s->given);
		s->changed = false;
		o->n_changed--;
		n++;
	}
	return n;
}

bool output_changed(const struct output *o)
{
	return o->n_changed > 0;
}
