/* test_bulk_spool.c - reading a spool: credit, turns, offsets, LOST, EOF, and hostile files */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/bulk_spool.h"
#include "io/link.h"

#define TEST(name) static void name(void **state)

static char dir[64], root[96], spool[128];

static void path_of(const char *name, char out[256])
{
	snprintf(out, 256, "%s/%s", spool, name);
}

/* Bytes 'c', appended. */
static void put(const char *name, char c, size_t n)
{
	char path[256], *p = malloc(n + 1);
	int fd;

	path_of(name, path);
	memset(p, c, n);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0640);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	close(fd);
	free(p);
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/na_spool_XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(root, sizeof(root), "%s/spool", dir);
	mkdir(root, 0755);
	snprintf(spool, sizeof(spool), "%s/7.1", root);
	mkdir(spool, 0750);
	return 0;
}

static int teardown(void **state)
{
	char cmd[96];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

static struct spool_where where(void)
{
	return (struct spool_where){ .spool_dir = root, .job = 7, .attempt = 1, .owner = getuid() };
}

static struct spool_reader *open_reader(const struct spool_where *w)
{
	struct spool_reader *r = NULL;
	struct err e;

	assert_int_equal(spool_reader_open(w, &r, &e), 0);
	return r;
}

/* As the agent does, with the disk read made at once. */
static enum spool_next next(struct spool_reader *r, struct data_header *h, char **buf, size_t *n)
{
	struct spool_read read;
	enum spool_next x = spool_reader_next(r, h, buf, n, &read);

	while (x == SPOOL_DISK) {
		spool_read_blocking(&read);
		x = spool_read_done(r, &read, h, buf, n);
		if (x == SPOOL_WAIT)
			x = spool_reader_next(r, h, buf, n, &read);
	}
	return x;
}

static struct data_header must_send(struct spool_reader *r, size_t want)
{
	struct data_header h;
	char *buf = NULL;
	size_t n = 0;

	assert_int_equal(next(r, &h, &buf, &n), SPOOL_SEND);
	assert_int_equal(n, want);
	free(buf);
	return h;
}

static enum spool_next peek(struct spool_reader *r)
{
	struct data_header h;
	char *buf = NULL;
	size_t n;
	enum spool_next x = next(r, &h, &buf, &n);

	assert_int_not_equal(x, SPOOL_SEND);
	return x;
}

/* ---- credit, turns, offsets ------------------------------------------------ */

TEST(bytes_come_whole_and_in_order_with_their_offsets)
{
	struct spool_where w = where();
	struct spool_reader *r;
	struct data_header h;
	char *buf;
	size_t n, at = 0;

	put("0.out", 'a', 300000);
	put("0.out", 'b', 300000);
	r = open_reader(&w);
	spool_reader_credit(r, 1 << 20);
	spool_reader_final(r);
	while (next(r, &h, &buf, &n) == SPOOL_SEND) {
		assert_int_equal(h.rank, 0);
		assert_int_equal(h.fd, 1);
		assert_int_equal(h.offset, at);
		if (h.flags & DATA_EOF)
			continue;
		for (size_t i = 0; i < n; i++)
			assert_int_equal(buf[DATA_ROOM + i], at + i < 300000 ? 'a' : 'b');
		at += n;
		free(buf);
	}
	assert_int_equal(at, 600000);
	assert_int_equal(peek(r), SPOOL_DONE);
	spool_reader_close(r);
}

TEST(never_more_than_the_credit)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 1000);
	r = open_reader(&w);
	assert_int_equal(peek(r), SPOOL_CREDIT);
	spool_reader_credit(r, 300);
	must_send(r, 300);
	assert_int_equal(peek(r), SPOOL_CREDIT);
	spool_reader_credit(r, 1000);
	assert_int_equal(must_send(r, 700).offset, 300);
	assert_int_equal(spool_reader_credit_left(r), 300);
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_close(r);
}

TEST(a_flooding_rank_does_not_keep_others_waiting)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 4 << 20);
	put("1.out", 'b', 100);
	put("2.err", 'c', 100);
	r = open_reader(&w);
	spool_reader_credit(r, 8 << 20);
	assert_int_equal(must_send(r, SPOOL_CHUNK).rank, 0);
	assert_int_equal(must_send(r, 100).rank, 1);
	assert_int_equal(must_send(r, 100).fd, 2);
	assert_int_equal(must_send(r, SPOOL_CHUNK).offset, SPOOL_CHUNK);
	spool_reader_close(r);
}

TEST(a_reader_continues_where_it_was)
{
	struct rec_follow_from from[] = { { .rank = 3, .fd = 1, .offset = 100 },
					  { .rank = 3, .fd = 1, .offset = 400 }, /* the last one counts */
					  { .rank = 3, .fd = 2, .offset = 10 } };
	struct spool_where w = where();
	struct spool_reader *r;

	put("3.out", 'a', 1000);
	put("3.err", 'b', 10);
	w.from = from;
	w.n_from = 3;
	r = open_reader(&w);
	spool_reader_credit(r, 1 << 20);
	assert_int_equal(must_send(r, 600).offset, 400);
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_close(r);
}

TEST(from_the_end_only_what_comes_later)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 1000);
	w.from_end = true;
	r = open_reader(&w);
	spool_reader_credit(r, 1 << 20);
	assert_int_equal(peek(r), SPOOL_WAIT);
	put("0.out", 'b', 50);
	spool_reader_grown(r, 0, 1, 1050, false, 0, 0);
	assert_int_equal(must_send(r, 50).offset, 1000);
	spool_reader_close(r);
}

/* ---- where to begin -------------------------------------------------------------- */

static void put_text(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	path_of(name, path);
	f = fopen(path, "a");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* What comes next, of any stream. */
static void must_read(struct spool_reader *r, uint64_t offset, const char *text)
{
	struct data_header h;
	char *buf = NULL;
	size_t n = 0;

	assert_int_equal(next(r, &h, &buf, &n), SPOOL_SEND);
	assert_int_equal(h.offset, offset);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf + DATA_ROOM, text, n);
	free(buf);
}

static struct spool_reader *reader_of(struct spool_where *w)
{
	struct spool_reader *r = open_reader(w);

	spool_reader_credit(r, 8 << 20);
	return r;
}

TEST(the_last_lines_of_each_stream)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put_text("0.out", "one\ntwo\nthree\nfour");
	put_text("1.out", "five\nsix\nseven\n");
	put_text("2.out", "eight\n");
	w.tail = 2;
	r = reader_of(&w);
	must_read(r, 8, "three\nfour");
	must_read(r, 5, "six\nseven\n");
	must_read(r, 0, "eight\n");
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_close(r);
}

TEST(the_last_lines_may_begin_many_blocks_before_the_end)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put_text("0.out", "first\n");
	put("0.out", 'a', 200000);
	put_text("0.out", "\n");
	put("0.out", 'b', 70000);
	put_text("0.out", "\nlast\n");
	w.tail = 3;
	r = reader_of(&w);
	assert_int_equal(must_send(r, 200001 + 70001 + 5 > SPOOL_CHUNK ? SPOOL_CHUNK : 200001 + 70001 + 5).offset, 6);
	spool_reader_close(r);
}

TEST(from_an_offset_or_the_end_of_what_is_shorter)
{
	struct rec_follow_from from = { .rank = 1, .fd = 1, .offset = 1 };
	struct spool_where w = where();
	struct spool_reader *r;

	put_text("0.out", "0123456789");
	put_text("1.out", "abcdef");
	put_text("2.out", "xy");
	w.offset = 4;
	w.from = &from; /* where a reader has been counts first */
	w.n_from = 1;
	r = reader_of(&w);
	must_read(r, 4, "456789");
	must_read(r, 1, "bcdef");
	assert_int_equal(peek(r), SPOOL_WAIT);
	put_text("2.out", "z");
	spool_reader_grown(r, 2, 1, 3, false, 0, 0);
	must_read(r, 2, "z");
	spool_reader_close(r);
}

TEST(from_a_time_on_by_the_stamps)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put_text("0.out", "old\nnew\nnewer\n");
	put_text("0.err", "all old\n");
	put_text("1.out", "all new\n");
	put_text("stamps", "1000 0 1 0\n1000 0 2 0\nrubbish\n2000 0 1 4\n2500 1 1 0\n3000 0 1 8\n2600 99 1 0\n");
	w.since_wall_ms = 1500;
	r = reader_of(&w);
	must_read(r, 4, "new\nnewer\n");
	must_read(r, 0, "all new\n");
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_close(r);
}

TEST(only_one_of_the_two_streams)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put_text("0.out", "out");
	put_text("0.err", "err");
	w.fds = 2;
	r = reader_of(&w);
	assert_int_equal(spool_reader_streams(r), 1);
	must_read(r, 0, "err");
	spool_reader_close(r);
}

/* ---- what was given back ----------------------------------------------------------- */

static void punch(const char *name, size_t n)
{
	char path[256];
	int fd;

	path_of(name, path);
	fd = open(path, O_WRONLY);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)n), 0);
	close(fd);
}

static void must_be_given(struct spool_reader *r, uint64_t offset)
{
	struct data_header h = must_send(r, 0);

	assert_int_equal(h.flags, DATA_GIVEN);
	assert_int_equal(h.offset, offset);
}

TEST(what_was_given_back_is_skipped_and_said)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 131072);
	put("0.out", 'b', 1000);
	punch("0.out", 131072);
	w.holes = true;
	r = reader_of(&w);
	must_be_given(r, 131072);
	assert_int_equal(must_send(r, 1000).offset, 131072);
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_close(r);
}

/* The hole comes between the read and its sending: what was read may be zeroes. */
TEST(what_is_given_back_while_it_is_read_is_not_sent)
{
	struct spool_where w = where();
	struct spool_read read = { 0 };
	struct spool_reader *r;
	struct data_header h;
	char *buf;
	size_t n;

	put("0.out", 'a', 400000);
	w.holes = true;
	r = reader_of(&w);
	assert_int_equal(must_send(r, SPOOL_CHUNK).offset, 0);
	/* as the thread pool does */
	read = (struct spool_read){ .file = open("/dev/null", O_RDONLY), .stream = 0, .got = 1000,
				    .buf = malloc(DATA_ROOM + 1000) };
	punch("0.out", 327680);
	assert_int_equal(spool_read_done(r, &read, &h, &buf, &n), SPOOL_WAIT);
	assert_null(read.buf);
	must_be_given(r, 327680);
	assert_int_equal(must_send(r, 400000 - 327680).offset, 327680);
	close(read.file);
	spool_reader_close(r);
}

/* A file system may make zeroes of a part of a block: the shim's word counts. */
TEST(what_the_shim_says_is_gone_is_not_read_at_all)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 1000);
	w.holes = true;
	r = reader_of(&w);
	spool_reader_grown(r, 0, 1, 1000, false, 0, 600);
	must_be_given(r, 600);
	assert_int_equal(must_send(r, 400).offset, 600);
	spool_reader_close(r);
}

TEST(an_older_reader_is_told_that_it_cannot_skip)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 131072);
	put("0.out", 'b', 1000);
	punch("0.out", 65536);
	r = reader_of(&w);
	spool_reader_final(r);
	assert_int_equal(must_send(r, 0).flags, DATA_EOF);
	assert_non_null(strstr(spool_reader_trouble(r), "cannot skip"));
	spool_reader_close(r);
}

TEST(the_last_lines_end_at_what_was_given_back)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 65536);
	put_text("0.out", "one\ntwo\n");
	punch("0.out", 65536);
	w.tail = 10;
	w.holes = true;
	r = reader_of(&w);
	must_be_given(r, 65536); /* eight of them are gone */
	must_read(r, 65536, "one\ntwo\n");
	spool_reader_close(r);
	w.tail = 1; /* of which nothing is */
	r = reader_of(&w);
	must_read(r, 65540, "two\n");
	spool_reader_close(r);
}

TEST(only_the_ranks_that_were_asked_for)
{
	uint32_t ranks[] = { 5 };
	struct spool_where w = where();
	struct spool_reader *r;

	put("4.out", 'a', 10);
	put("5.out", 'a', 10);
	put("stamps", 'x', 10);
	put("status", 'x', 10);
	w.ranks = ranks;
	w.n_ranks = 1;
	r = open_reader(&w);
	assert_int_equal(spool_reader_streams(r), 1);
	spool_reader_credit(r, 100);
	assert_int_equal(must_send(r, 10).rank, 5);
	spool_reader_close(r);
}

TEST(growth_is_sent_when_the_shim_tells)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 0);
	put("0.err", 'a', 0);
	r = open_reader(&w);
	spool_reader_credit(r, 1 << 20);
	assert_int_equal(peek(r), SPOOL_WAIT);
	put("0.err", 'b', 20);
	spool_reader_grown(r, 0, 2, 20, false, 0, 0);
	assert_int_equal(must_send(r, 20).fd, 2);
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_grown(r, 99, 1, 20, true, 0, 0); /* not ours: ignored */
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_close(r);
}

TEST(what_has_grown_since_the_word_is_sent_too)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 10);
	r = open_reader(&w);
	spool_reader_credit(r, 1 << 20);
	must_send(r, 10);
	put("0.out", 'b', 5);
	must_send(r, 5); /* without another word */
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_close(r);
}

/* ---- LOST and EOF ------------------------------------------------------------- */

TEST(lost_bytes_are_told_after_what_was_kept_without_credit)
{
	struct spool_where w = where();
	struct spool_reader *r;
	struct data_header h;

	put("0.out", 'a', 100);
	r = open_reader(&w);
	spool_reader_credit(r, 100);
	spool_reader_grown(r, 0, 1, 100, false, 4096, 0);
	must_send(r, 100);
	h = must_send(r, 0);
	assert_int_equal(h.flags, DATA_LOST);
	assert_int_equal(h.offset, 4096);
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_grown(r, 0, 1, 100, false, 4096, 0); /* nothing new */
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_grown(r, 0, 1, 100, true, 5000, 0);
	assert_int_equal(must_send(r, 0).flags, DATA_LOST);
	assert_int_equal(must_send(r, 0).flags, DATA_EOF);
	assert_int_equal(peek(r), SPOOL_DONE);
	spool_reader_close(r);
}

TEST(each_stream_ends_once)
{
	struct spool_where w = where();
	struct spool_reader *r;
	struct data_header h;

	put("0.out", 'a', 100);
	put("0.err", 'a', 0);
	r = open_reader(&w);
	spool_reader_credit(r, 1000);
	must_send(r, 100);
	spool_reader_grown(r, 0, 1, 100, true, 0, 0);
	h = must_send(r, 0);
	assert_int_equal(h.flags, DATA_EOF);
	assert_int_equal(h.offset, 100);
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_final(r);
	assert_int_equal(must_send(r, 0).fd, 2);
	assert_int_equal(peek(r), SPOOL_DONE);
	spool_reader_final(r);
	assert_int_equal(peek(r), SPOOL_DONE);
	spool_reader_close(r);
}

TEST(a_final_look_does_not_chase_a_growing_file)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 100);
	r = open_reader(&w);
	spool_reader_credit(r, 1000);
	spool_reader_final(r);
	put("0.out", 'b', 100);
	must_send(r, 100);
	assert_int_equal(must_send(r, 0).flags, DATA_EOF);
	assert_int_equal(peek(r), SPOOL_DONE);
	spool_reader_close(r);
}

TEST(many_streams_do_not_need_as_many_descriptors)
{
	struct spool_where w = where();
	struct spool_reader *r;
	char name[32];
	size_t sent = 0, ends = 0;
	struct data_header h;
	char *buf;
	size_t n;

	for (unsigned i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "%u.out", i);
		put(name, 'a', 10);
	}
	r = open_reader(&w);
	spool_reader_credit(r, 1 << 20);
	spool_reader_final(r);
	while (next(r, &h, &buf, &n) == SPOOL_SEND) {
		sent += n;
		ends += (h.flags & DATA_EOF) != 0;
		free(buf);
	}
	assert_int_equal(sent, 20000);
	assert_int_equal(ends, 2000);
	assert_null(spool_reader_trouble(r));
	spool_reader_close(r);
}

/* ---- hostile spools --------------------------------------------------------------- */

/* The stream ends at once, another one is served, and a sentence says what was wrong. */
static void bad_file_is_left_out(const char *what)
{
	struct spool_where w = where();
	struct spool_reader *r = open_reader(&w);
	const char *trouble;
	size_t got = 0;
	struct data_header h;
	char *buf;
	size_t n;

	spool_reader_credit(r, 1000);
	spool_reader_final(r);
	while (next(r, &h, &buf, &n) == SPOOL_SEND) {
		if (n > 0)
			assert_int_equal(h.rank, 1);
		got += n;
		free(buf);
	}
	assert_int_equal(got, 10);
	trouble = spool_reader_trouble(r);
	assert_non_null(trouble);
	assert_non_null(strstr(trouble, what));
	assert_null(spool_reader_trouble(r));
	spool_reader_close(r);
}

TEST(a_symbolic_link_is_not_followed)
{
	char path[256];

	put("1.out", 'a', 10);
	path_of("0.out", path);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	bad_file_is_left_out("symbolic link");
}

TEST(a_file_with_another_name_elsewhere_is_not_read)
{
	char path[256], other[128];

	put("1.out", 'a', 10);
	put("0.out", 'a', 10);
	path_of("0.out", path);
	snprintf(other, sizeof(other), "%s/other", dir);
	assert_int_equal(link(path, other), 0);
	bad_file_is_left_out("more than one link");
}

TEST(a_fifo_does_not_hang_us)
{
	char path[256];

	put("1.out", 'a', 10);
	path_of("0.out", path);
	assert_int_equal(mkfifo(path, 0600), 0);
	bad_file_is_left_out("not a regular file");
}

TEST(a_directory_is_not_output)
{
	char path[256];

	put("1.out", 'a', 10);
	path_of("0.out", path);
	assert_int_equal(mkdir(path, 0700), 0);
	bad_file_is_left_out("not a regular file");
}

TEST(a_file_that_comes_with_its_first_byte_is_read_from_its_beginning)
{
	struct spool_where w = where();
	struct spool_reader *r;
	struct data_header h;

	w.rank_base = 4;
	w.nprocs = 2;
	w.from_end = true;
	r = open_reader(&w);
	spool_reader_credit(r, 1000);
	assert_int_equal(spool_reader_streams(r), 4);
	assert_int_equal(peek(r), SPOOL_WAIT);
	put("5.err", 'x', 10);
	spool_reader_grown(r, 5, 2, 10, false, 0, 0);
	h = must_send(r, 10);
	assert_int_equal(h.rank, 5);
	assert_int_equal(h.offset, 0);
	spool_reader_final(r);
	for (int i = 0; i < 4; i++) { /* the end of each, file or not */
		h = must_send(r, 0);
		assert_true(h.flags & DATA_EOF);
	}
	assert_int_equal(peek(r), SPOOL_DONE);
	assert_null(spool_reader_trouble(r));
	spool_reader_close(r);
}

TEST(a_file_that_should_be_there_and_is_not_is_said)
{
	struct spool_where w = where();
	struct spool_reader *r;

	w.nprocs = 1;
	r = open_reader(&w);
	spool_reader_credit(r, 1000);
	spool_reader_grown(r, 0, 1, 10, false, 0, 0); /* written, and removed by its owner */
	must_send(r, 0);
	assert_non_null(strstr(spool_reader_trouble(r), "rank 0"));
	spool_reader_close(r);
}

TEST(a_file_of_another_owner_is_not_read)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("0.out", 'a', 10);
	w.owner = getuid() + 1;
	r = open_reader(&w);
	spool_reader_credit(r, 100);
	assert_int_equal(must_send(r, 0).flags, DATA_EOF);
	assert_non_null(strstr(spool_reader_trouble(r), "another user"));
	spool_reader_close(r);
}

TEST(a_directory_that_others_may_write_is_refused)
{
	struct spool_where w = where();
	struct spool_reader *r;
	struct err e;

	chmod(spool, 0777);
	assert_int_equal(spool_reader_open(&w, &r, &e), -EPERM);
	assert_non_null(strstr(e.text, "others could write"));
}

TEST(a_directory_behind_a_symbolic_link_is_refused)
{
	struct spool_where w = where();
	struct spool_reader *r;
	struct err e;
	char moved[160];

	snprintf(moved, sizeof(moved), "%s/elsewhere", dir);
	assert_int_equal(rename(spool, moved), 0);
	assert_int_equal(symlink(moved, spool), 0);
	assert_int_not_equal(spool_reader_open(&w, &r, &e), 0);
}

TEST(a_spool_that_is_not_there_is_named_so)
{
	struct spool_where w = where();
	struct spool_reader *r;
	struct err e;

	w.job = 8;
	assert_int_equal(spool_reader_open(&w, &r, &e), -ENOENT);
}

TEST(names_that_are_no_ranks_are_ignored)
{
	struct spool_where w = where();
	struct spool_reader *r;

	put("00.out", 'a', 1);
	put("01.out", 'a', 1);
	put("-1.out", 'a', 1);
	put(".out", 'a', 1);
	put("99999999.out", 'a', 1);
	put("1.outx", 'a', 1);
	put("1.log", 'a', 1);
	r = open_reader(&w);
	assert_int_equal(spool_reader_streams(r), 0);
	assert_int_equal(peek(r), SPOOL_DONE);
	spool_reader_close(r);
}

TEST(a_file_that_shrinks_or_lies_harms_nobody)
{
	struct spool_where w = where();
	struct spool_reader *r;
	char path[256];

	put("0.out", 'a', 1000);
	r = open_reader(&w);
	spool_reader_credit(r, 100);
	must_send(r, 100);
	path_of("0.out", path);
	assert_int_equal(truncate(path, 10), 0);
	spool_reader_credit(r, 10000);
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_grown(r, 0, 1, UINT64_MAX, false, 0, 0);
	assert_int_equal(peek(r), SPOOL_WAIT);
	spool_reader_final(r);
	assert_int_equal(must_send(r, 0).flags, DATA_EOF);
	spool_reader_close(r);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(bytes_come_whole_and_in_order_with_their_offsets),
		T(never_more_than_the_credit),
		T(a_flooding_rank_does_not_keep_others_waiting),
		T(a_reader_continues_where_it_was),
		T(from_the_end_only_what_comes_later),
		T(the_last_lines_of_each_stream),
		T(the_last_lines_may_begin_many_blocks_before_the_end),
		T(from_an_offset_or_the_end_of_what_is_shorter),
		T(from_a_time_on_by_the_stamps),
		T(only_one_of_the_two_streams),
		T(what_was_given_back_is_skipped_and_said),
		T(what_is_given_back_while_it_is_read_is_not_sent),
		T(what_the_shim_says_is_gone_is_not_read_at_all),
		T(an_older_reader_is_told_that_it_cannot_skip),
		T(the_last_lines_end_at_what_was_given_back),
		T(only_the_ranks_that_were_asked_for),
		T(growth_is_sent_when_the_shim_tells),
		T(what_has_grown_since_the_word_is_sent_too),
		T(lost_bytes_are_told_after_what_was_kept_without_credit),
		T(each_stream_ends_once),
		T(a_final_look_does_not_chase_a_growing_file),
		T(many_streams_do_not_need_as_many_descriptors),
		T(a_symbolic_link_is_not_followed),
		T(a_file_with_another_name_elsewhere_is_not_read),
		T(a_fifo_does_not_hang_us),
		T(a_directory_is_not_output),
		T(a_file_that_comes_with_its_first_byte_is_read_from_its_beginning),
		T(a_file_that_should_be_there_and_is_not_is_said),
		T(a_file_of_another_owner_is_not_read),
		T(a_directory_that_others_may_write_is_refused),
		T(a_directory_behind_a_symbolic_link_is_refused),
		T(a_spool_that_is_not_there_is_named_so),
		T(names_that_are_no_ranks_are_ignored),
		T(a_file_that_shrinks_or_lies_harms_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
