/* bulk_spool.c - see bulk_spool.h
 *
 * A stream is in the ready list while it has something to send: bytes, a LOST
 * note or its EOF. The list is served in turns of at most SPOOL_CHUNK, so a
 * rank that floods does not keep others waiting.
 *
 * The oldest bytes of a file may be given back at any time: it begins with a hole
 * then. What was read is sent only when its first byte is still there after the
 * read; else it may be zeroes, and the reader is told where the stream goes on (GIVEN).
 *
 * Reads that the page cache can answer are made on the loop (RWF_NOWAIT never
 * blocks); the rest is left to the caller's thread pool.
 */
#include "io/bulk_spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/list.h"
#include "common/spool.h"
#include "io/bulk_begin.h"
#include "io/link.h"

#define OPEN_MAX_FILES 256 /* more streams than this are opened for each turn anew */
#define STREAMS_MAX 16384

struct stream {
	struct list ready;
	uint32_t rank;
	uint8_t fd;
	bool final; /* nobody writes any more */
	bool eof_sent;
	int file; /* -1: not open now */
	uint64_t offset, size;
	uint64_t lost, lost_sent;
	uint64_t given; /* all before is known to be gone */
};

struct spool_reader {
	int dir;
	uint32_t owner;
	struct stream *v; /* by rank, then fd */
	size_t n, cap;
	size_t left; /* EOF not yet sent */
	size_t open;
	struct list ready;
	uint64_t credit;
	bool nowait; /* the file system knows RWF_NOWAIT */
	bool holes; /* the reader understands GIVEN */
	char trouble[256];
	bool told;
};

/* ---- opening --------------------------------------------------------- */

static int open_beneath(int dir, const char *name, int flags)
{
	static bool no_openat2; /* before Linux 5.6, or forbidden by a sandbox */
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	if (!no_openat2) {
		int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));

		if (fd >= 0)
			return fd;
		if (errno != ENOSYS && errno != EPERM)
			return -errno;
		no_openat2 = errno == ENOSYS;
	}
	/* one component without '/': O_NOFOLLOW alone keeps it beneath */
	int fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW);

	return fd >= 0 ? fd : -errno;
}

static int open_dir(const struct spool_where *w, struct err *e)
{
	char name[SPOOL_NAME_MAX];
	struct stat st;
	int spool, dir;

	spool = open(w->spool_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (spool < 0)
		return err_set(e, errno, "%s: %s", w->spool_dir, strerror(errno));
	spool_name(name, w->job, w->attempt);
	dir = open_beneath(spool, name, O_RDONLY | O_DIRECTORY);
	close(spool);
	if (dir < 0)
		return err_set(e, dir, "%s/%s: %s", w->spool_dir, name, strerror(-dir));
	if (fstat(dir, &st) != 0 || (st.st_uid != 0 && st.st_uid != geteuid()) ||
	    (st.st_mode & 022) != 0) {
		close(dir);
		return err_set(e, EPERM, "%s/%s: others could write there; not read",
			       w->spool_dir, name);
	}
	return dir;
}

/* "17.out" -> 17, 1. Nothing else is a stream. */
static bool stream_name(const char *name, uint32_t *ret_rank, uint8_t *ret_fd)
{
	unsigned long v = 0;
	size_t i = 0;

	while (name[i] >= '0' && name[i] <= '9' && i < 8)
		v = v * 10 + (unsigned long)(name[i++] - '0');
	if (i == 0 || v > 16777215 || (i > 1 && name[0] == '0'))
		return false;
	if (strcmp(name + i, ".out") == 0)
		*ret_fd = 1;
	else if (strcmp(name + i, ".err") == 0)
		*ret_fd = 2;
	else
		return false;
	*ret_rank = (uint32_t)v;
	return true;
}

static bool wanted_fd(const struct spool_where *w, uint8_t fd)
{
	return (w->fds != 1 && w->fds != 2) || w->fds == fd;
}

static bool wanted(const struct spool_where *w, uint32_t rank)
{
	if (w->ranks == NULL)
		return true;
	for (size_t i = 0; i < w->n_ranks; i++)
		if (w->ranks[i] == rank)
			return true;
	return false;
}

static int add_stream(struct spool_reader *r, uint32_t rank, uint8_t fd)
{
	if (r->n == STREAMS_MAX)
		return -E2BIG;
	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 16;
		struct stream *v = realloc(r->v, cap * sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		r->v = v;
		r->cap = cap;
	}
	r->v[r->n++] = (struct stream){ .rank = rank, .fd = fd, .file = -1 };
	return 0;
}

static int by_rank(const void *pa, const void *pb)
{
	const struct stream *a = pa, *b = pb;

	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	return (int)a->fd - (int)b->fd;
}

/* A rank's file is made when its first byte comes: it need not be there yet. */
static int expect_streams(struct spool_reader *r, const struct spool_where *w, struct err *e)
{
	int rc = 0;

	for (uint32_t i = 0; i < w->nprocs && rc == 0; i++) {
		if (!wanted(w, w->rank_base + i))
			continue;
		if (wanted_fd(w, 1))
			rc = add_stream(r, w->rank_base + i, 1);
		if (rc == 0 && wanted_fd(w, 2))
			rc = add_stream(r, w->rank_base + i, 2);
	}
	return rc == 0 ? 0 : err_set(e, rc, "spool of job %" PRIu64 ": %s", w->job, strerror(-rc));
}

static int list_streams(struct spool_reader *r, const struct spool_where *w, struct err *e)
{
	int fd = dup(r->dir), rc = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (d == NULL) {
		rc = err_set(e, errno, "spool of job %" PRIu64 ": %s", w->job, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == 0 && (de = readdir(d)) != NULL) {
		uint32_t rank;
		uint8_t f;

		if (stream_name(de->d_name, &rank, &f) && wanted(w, rank) && wanted_fd(w, f))
			rc = add_stream(r, rank, f);
	}
	closedir(d);
	if (rc != 0)
		return err_set(e, rc, "spool of job %" PRIu64 ": %s", w->job, strerror(-rc));
	if (r->n > 0)
		qsort(r->v, r->n, sizeof(*r->v), by_rank);
	return 0;
}

static struct stream *find_stream(struct spool_reader *r, uint32_t rank, uint8_t fd)
{
	struct stream key = { .rank = rank, .fd = fd };

	return r->n ? bsearch(&key, r->v, r->n, sizeof(*r->v), by_rank) : NULL;
}

static void note_trouble(struct spool_reader *r, const struct stream *s, const char *what)
{
	if (r->trouble[0] == 0)
		snprintf(r->trouble, sizeof(r->trouble), "output of rank %u (%u.%s) is missing: %s",
			 s->rank, s->rank, s->fd == 1 ? "out" : "err", what);
}

/* Opens the stream's file and checks what it is; the answer is never trusted
 * later on without fstat of the same descriptor. */
static int open_file(struct spool_reader *r, struct stream *s, struct stat *st)
{
	char name[32];
	const char *bad = NULL;
	int fd;

	snprintf(name, sizeof(name), "%u.%s", s->rank, s->fd == 1 ? "out" : "err");
	fd = open_beneath(r->dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd == -ENOENT && s->size == 0 && s->offset == 0)
		return fd; /* nothing was written yet */
	if (fd < 0) {
		note_trouble(r, s, fd == -ELOOP ? "it is a symbolic link" : strerror(-fd));
		return fd;
	}
	if (fstat(fd, st) != 0)
		bad = strerror(errno);
	else if (!S_ISREG(st->st_mode))
		bad = "it is not a regular file";
	else if (st->st_nlink != 1)
		bad = "it has more than one link";
	else if (r->owner != SPOOL_ANY_OWNER && st->st_uid != r->owner)
		bad = "it belongs to another user";
	if (bad != NULL) {
		note_trouble(r, s, bad);
		close(fd);
		return -EPERM;
	}
	s->file = fd;
	r->open++;
	return 0;
}

static void close_file(struct spool_reader *r, struct stream *s)
{
	if (s->file < 0)
		return;
	close(s->file);
	s->file = -1;
	r->open--;
}

static void make_ready(struct spool_reader *r, struct stream *s)
{
	if (!s->eof_sent && list_empty(&s->ready))
		list_append(&r->ready, &s->ready);
}

/* The stream cannot be read: it ends here, and the trouble says so. */
static void give_up(struct spool_reader *r, struct stream *s)
{
	close_file(r, s);
	s->size = s->offset;
	s->final = true;
	make_ready(r, s);
}

/* Where the reader has been before, if it says so. */
static bool read_before(const struct spool_where *w, struct stream *s)
{
	/* the last one named counts: readers add what they got themselves (bulk_part.c) */
	for (size_t i = w->n_from; i-- > 0;)
		if (w->from[i].rank == s->rank && w->from[i].fd == s->fd) {
			s->offset = w->from[i].offset;
			return true;
		}
	return false;
}

/* Of a stream that the reader has not read before. With a time the stamps tell, later. */
static uint64_t begin_at(const struct spool_where *w, const struct stream *s)
{
	if (w->from_end || w->since_wall_ms != 0)
		return s->size;
	if (w->tail != 0)
		return begin_of_tail(s->file, s->size, w->tail);
	return w->offset < s->size ? w->offset : s->size;
}

struct since {
	struct spool_reader *r;
	const struct spool_where *w;
};

/* The first stamp of a stream from that time on counts: later ones lie behind it. */
static void on_stamp(void *arg, uint32_t rank, uint32_t fd, uint64_t offset)
{
	struct since *a = arg;
	struct stream *s = fd == 1 || fd == 2 ? find_stream(a->r, rank, (uint8_t)fd) : NULL;
	struct stream before = { .rank = rank, .fd = (uint8_t)fd };

	if (s == NULL || offset >= s->offset || read_before(a->w, &before))
		return;
	s->offset = offset;
	make_ready(a->r, s);
}

/* Their file is the user's, too; numbers in it can only misplace his own reader. */
static void begin_by_stamps(struct spool_reader *r, const struct spool_where *w)
{
	struct since a = { r, w };
	struct stat st;
	int fd = open_beneath(r->dir, "stamps", O_RDONLY | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
		begin_since(fd, w->since_wall_ms, on_stamp, &a);
	close(fd);
}

/* Fewer lines are there than were asked for, for the older ones were given back: that is to be said. */
static void lines_are_gone(const struct spool_reader *r, struct stream *s)
{
	if (!r->holes || s->offset == 0 || s->offset != begin_of_data(s->file, 0, s->size))
		return;
	s->given = s->offset;
	s->offset = 0;
}

static void first_look(struct spool_reader *r, const struct spool_where *w, struct stream *s)
{
	bool before = read_before(w, s);
	struct stat st;
	int rc;

	list_init(&s->ready);
	rc = open_file(r, s, &st);
	if (rc == -ENOENT && s->offset == 0)
		return;
	if (rc != 0) {
		give_up(r, s);
		return;
	}
	s->size = (uint64_t)st.st_size;
	if (!before)
		s->offset = begin_at(w, s);
	if (!before && w->tail != 0)
		lines_are_gone(r, s);
	if (r->open > OPEN_MAX_FILES)
		close_file(r, s);
	if (s->offset < s->size)
		make_ready(r, s);
}

/* It has this name still? While we looked around it may have been taken away: what
 * was no longer there would look like what never was. 0 or -errno. */
static int still_there(const struct spool_reader *r, const struct spool_where *w, struct err *e)
{
	int dir = open_dir(w, e);
	struct stat was, is;
	bool same = dir >= 0 && fstat(dir, &is) == 0 && fstat(r->dir, &was) == 0 && is.st_ino == was.st_ino &&
		    is.st_dev == was.st_dev;

	if (dir >= 0)
		close(dir);
	return dir < 0 ? dir : same ? 0 : err_set(e, ENOENT, "spool of job %" PRIu64 ": it was taken away", w->job);
}

int spool_reader_open(const struct spool_where *w, struct spool_reader **ret, struct err *e)
{
	struct spool_reader *r = calloc(1, sizeof(*r));
	int rc;

	if (r == NULL)
		return err_set(e, ENOMEM, "out of memory");
	list_init(&r->ready);
	r->owner = w->owner;
	r->nowait = true;
	r->holes = w->holes;
	rc = r->dir = open_dir(w, e);
	if (rc >= 0)
		rc = w->nprocs ? expect_streams(r, w, e) : list_streams(r, w, e);
	r->left = r->n;
	for (size_t i = 0; i < r->n && rc >= 0; i++)
		first_look(r, w, &r->v[i]);
	if (rc >= 0)
		rc = still_there(r, w, e);
	if (rc < 0) {
		spool_reader_close(r);
		return rc;
	}
	if (w->since_wall_ms != 0)
		begin_by_stamps(r, w);
	*ret = r;
	return 0;
}

void spool_reader_close(struct spool_reader *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n; i++)
		close_file(r, &r->v[i]);
	if (r->dir >= 0)
		close(r->dir);
	free(r->v);
	free(r);
}

/* ---- what is told ---------------------------------------------------- */

void spool_reader_credit(struct spool_reader *r, uint64_t bytes)
{
	r->credit += bytes;
}

uint64_t spool_reader_credit_left(const struct spool_reader *r)
{
	return r->credit;
}

void spool_reader_grown(struct spool_reader *r, uint32_t rank, uint8_t fd, uint64_t size, bool eof,
			uint64_t lost, uint64_t given)
{
	struct stream *s = find_stream(r, rank, fd);

	if (s == NULL || s->final)
		return;
	if (size > s->size)
		s->size = size;
	if (lost > s->lost)
		s->lost = lost;
	if (given > s->given && given <= s->size)
		s->given = given;
	s->final = eof;
	if (s->offset < s->size || s->lost > s->lost_sent || s->final)
		make_ready(r, s);
}


const char *spool_reader_trouble(struct spool_reader *r)
{
	if (r->trouble[0] == 0 || r->told)
		return NULL;
	r->told = true;
	return r->trouble;
}

size_t spool_reader_streams(const struct spool_reader *r)
{
	return r->n;
}

/* ---- what is sent ---------------------------------------------------- */

static void header(const struct stream *s, uint8_t flags, uint64_t offset, struct data_header *h)
{
	*h = (struct data_header){ .rank = s->rank, .fd = s->fd, .flags = flags, .offset = offset };
}

/* The file may have grown since the shim's last word; one fstat spares a round
 * trip. A file that shrank (its owner can do that) ends at our offset. */
static int look_again(struct spool_reader *r, struct stream *s)
{
	struct stat st;
	int rc = s->file < 0 ? open_file(r, s, &st) : 0;

	if (rc == -ENOENT && s->size == 0)
		return 0;
	if (rc != 0)
		return -EIO;
	if (fstat(s->file, &st) != 0)
		return -errno;
	s->size = (uint64_t)st.st_size > s->offset ? (uint64_t)st.st_size : s->offset;
	return 0;
}

/* A last look at each size: from here on a file's growth is not chased. */
void spool_reader_final(struct spool_reader *r)
{
	for (size_t i = 0; i < r->n; i++) {
		struct stream *s = &r->v[i];

		if (s->eof_sent)
			continue;
		if (!s->final && look_again(r, s) != 0)
			s->size = s->offset;
		s->final = true;
		if (r->open > OPEN_MAX_FILES)
			close_file(r, s);
		make_ready(r, s);
	}
}

/* Everything in the file is sent: a LOST note, the EOF, or out of the list. */
static bool at_end(struct spool_reader *r, struct stream *s, struct data_header *h)
{
	if (s->lost > s->lost_sent) {
		s->lost_sent = s->lost;
		header(s, DATA_LOST, s->lost, h);
		return true;
	}
	list_remove(&s->ready);
	if (!s->final)
		return false;
	s->eof_sent = true;
	r->left--;
	close_file(r, s);
	header(s, DATA_EOF, s->offset, h);
	return true;
}

static void took(struct spool_reader *r, struct stream *s, size_t n, struct data_header *h)
{
	header(s, 0, s->offset, h);
	s->offset += n;
	r->credit -= n;
	list_remove(&s->ready);
	list_append(&r->ready, &s->ready);
	if (r->open > OPEN_MAX_FILES)
		close_file(r, s);
}

/* -EAGAIN: not in the page cache (or unknown whether it is). */
static long read_cached(struct spool_reader *r, const struct stream *s, char *p, size_t n)
{
	struct iovec iov = { p, n };
	ssize_t got;

	if (!r->nowait)
		return -EAGAIN;
	got = preadv2(s->file, &iov, 1, (off_t)s->offset, RWF_NOWAIT);
	if (got >= 0)
		return got;
	if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) {
		r->nowait = false;
		return -EAGAIN;
	}
	return errno == EINTR ? -EAGAIN : -errno;
}

static enum spool_next read_some(struct spool_reader *r, struct stream *s, struct data_header *h,
				 char **ret_buf, size_t *ret_n, struct spool_read *read)
{
	uint64_t there = s->size - s->offset;
	size_t want = there < SPOOL_CHUNK ? (size_t)there : SPOOL_CHUNK;
	char *buf;
	long got;

	if (want > r->credit)
		want = (size_t)r->credit;
	buf = malloc(DATA_ROOM + want);
	if (buf == NULL)
		return SPOOL_NOMEM;
	got = read_cached(r, s, buf + DATA_ROOM, want);
	*read = (struct spool_read){ s->file, s->offset, want, buf, got, (size_t)(s - r->v) };
	if (got == -EAGAIN)
		return SPOOL_DISK;
	return spool_read_done(r, read, h, ret_buf, ret_n);
}

void spool_read_blocking(struct spool_read *read)
{
	do
		read->got = pread(read->file, read->buf + DATA_ROOM, read->want, (off_t)read->offset);
	while (read->got < 0 && errno == EINTR);
	if (read->got < 0)
		read->got = -errno;
}

enum spool_next spool_read_done(struct spool_reader *r, struct spool_read *read,
				struct data_header *h, char **ret_buf, size_t *ret_n)
{
	struct stream *s = &r->v[read->stream];
	uint64_t first;

	if (read->got <= 0) {
		free(read->buf); /* NOLINT(clang-analyzer-unix.Malloc): a new one each time, by a compound literal */
		read->buf = NULL;
		if (read->got < 0) {
			note_trouble(r, s, strerror((int)-read->got));
			give_up(r, s);
		} else {
			s->size = s->offset;
		}
		return SPOOL_WAIT;
	}
	first = begin_of_data(s->file, s->offset, s->size);
	if (first > s->offset || s->given > s->offset) { /* it may have been read after it was gone */
		s->given = first > s->given ? first : s->given;
		free(read->buf);
		read->buf = NULL;
		return SPOOL_WAIT;
	}
	took(r, s, (size_t)read->got, h);
	*ret_buf = read->buf;
	*ret_n = (size_t)read->got;
	return SPOOL_SEND;
}

/* Is there anything to read? A file that cannot be opened again ends here. */
static bool bytes_left(struct spool_reader *r, struct stream *s)
{
	struct stat st;

	if (s->offset >= s->size && s->final)
		return false;
	if (s->offset >= s->size && look_again(r, s) != 0)
		give_up(r, s);
	else if (s->offset < s->size && s->file < 0 && open_file(r, s, &st) != 0)
		give_up(r, s);
	return s->offset < s->size;
}

/* Its oldest bytes are gone: the stream goes on where the rest begins. */
static bool skip_given(struct spool_reader *r, struct stream *s, struct data_header *h)
{
	if (s->given <= s->offset)
		return false;
	if (!r->holes) {
		note_trouble(r, s, "its oldest part was given back, which the nodeagent of the reading node "
				   "cannot skip; upgrade it");
		give_up(r, s);
		return false;
	}
	s->offset = s->given;
	header(s, DATA_GIVEN, s->offset, h);
	return true;
}

enum spool_next spool_reader_next(struct spool_reader *r, struct data_header *h, char **ret_buf,
				  size_t *ret_n, struct spool_read *read)
{
	while (!list_empty(&r->ready)) {
		struct stream *s = list_entry(r->ready.next, struct stream, ready);
		bool given = skip_given(r, s, h);
		enum spool_next next;

		if (given || !bytes_left(r, s)) {
			if (!given && !at_end(r, s, h))
				continue;
			*ret_buf = NULL;
			*ret_n = 0;
			return SPOOL_SEND;
		}
		if (r->credit == 0)
			return SPOOL_CREDIT;
		next = read_some(r, s, h, ret_buf, ret_n, read);
		if (next != SPOOL_WAIT)
			return next;
	}
	return r->left == 0 ? SPOOL_DONE : SPOOL_WAIT;
}
