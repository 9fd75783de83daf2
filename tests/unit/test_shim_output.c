/* test_shim_output.c - a rank's pipes: read, kept in the spool, closed at their end */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/output.h"

static char dir[32];
static int spool, poll_set;
static struct output *out;

static int fresh(void **state)
{
	strcpy(dir, "/tmp/nauo.XXXXXX");
	assert_non_null(mkdtemp(dir));
	spool = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	poll_set = epoll_create1(EPOLL_CLOEXEC);
	out = output_create_in(1, spool);
	assert_true(spool >= 0 && poll_set >= 0 && out);
	output_watched(out, poll_set);
	return 0;
}

static int gone(void **state)
{
	output_destroy(out);
	unlinkat(spool, "0.out", 0);
	unlinkat(spool, "stamps", 0);
	close(poll_set);
	close(spool);
	return rmdir(dir);
}

/* Opens and polls stdout; the write end. */
static int open_polled(int *ret_read_fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int wr;

	assert_int_equal(output_open(out, 0, ret_read_fd, &wr), 0);
	assert_int_equal(epoll_ctl(poll_set, EPOLL_CTL_ADD, *ret_read_fd, &ev), 0);
	return wr;
}

static int events_now(void)
{
	struct epoll_event ev[4];

	return epoll_wait(poll_set, ev, 4, 0);
}

static void a_stream_that_ended_fires_no_more_though_a_child_holds_a_copy(void **state)
{
	int rd, wr = open_polled(&rd), childs = dup(rd);
	bool closed = false;

	assert_int_equal(write(wr, "bye\n", 4), 4);
	close(wr);
	assert_int_equal(events_now(), 1);
	assert_int_equal(output_read(out, 0, 1, 0, &closed), 4);
	assert_true(closed);
	assert_false(output_is_open(out, 0));
	assert_int_equal(events_now(), 0);
	close(childs);
}

static void a_stream_closed_from_our_side_fires_no_more(void **state)
{
	int rd, wr = open_polled(&rd), childs = dup(rd);

	output_close(out, 0, 1);
	close(wr);
	assert_false(output_is_open(out, 0));
	assert_int_equal(events_now(), 0);
	close(childs);
}

static void an_open_stream_still_fires_and_what_came_is_in_its_file(void **state)
{
	char back[8] = "";
	int rd, fd, wr = open_polled(&rd);
	bool closed = true;

	assert_int_equal(write(wr, "one", 3), 3);
	assert_int_equal(output_read(out, 0, 1, 0, &closed), 3);
	assert_false(closed);
	assert_int_equal(write(wr, "two", 3), 3);
	assert_int_equal(events_now(), 1);
	close(wr);
	output_close(out, 0, 1);
	fd = openat(spool, "0.out", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, back, sizeof back), 6);
	assert_string_equal(back, "onetwo");
	close(fd);
}

/* ---- limits -------------------------------------------------------------- */

#define KIB 1024u

/* n bytes 'c' through the pipe of stdout. */
static void pass(int wr, char c, size_t n)
{
	static char block[64 * KIB];
	bool closed;

	memset(block, c, sizeof block);
	while (n > 0) {
		size_t now = n < sizeof block ? n : sizeof block;

		assert_int_equal(write(wr, block, now), now);
		assert_int_equal(output_read(out, 0, 1, 0, &closed), now);
		n -= now;
	}
}

static struct rec_grown report(void)
{
	struct rec_grown g[2] = { { 0 } };

	assert_int_equal(output_report(out, g, 2), 1);
	return g[0];
}

static char byte_at(int fd, off_t at)
{
	char c = 0;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	return c;
}

static void beyond_its_limit_the_oldest_output_is_given_back_and_offsets_stay(void **state)
{
	int rd, wr = open_polled(&rd), fd;
	struct rec_grown g;
	struct stat st;

	output_keep(out, 1024 * KIB);
	pass(wr, 'a', 1000 * KIB);
	assert_int_equal(output_given(out), 0);
	pass(wr, 'b', 1000 * KIB);
	g = report();
	assert_int_equal(g.size, 2000 * KIB);
	assert_true(g.given >= 976 * KIB && g.given < 1300 * KIB);
	assert_int_equal(g.given % (64 * KIB), 0);
	assert_int_equal(g.lost, 0);
	assert_int_equal(output_given(out), g.given);
	assert_false(output_holeless(out));
	fd = openat(spool, "0.out", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 2000 * KIB);
	assert_true((uint64_t)st.st_blocks * 512 <= 1100 * KIB);
	assert_int_equal(lseek(fd, 0, SEEK_DATA), g.given);
	assert_int_equal(byte_at(fd, 2000 * KIB - 1), 'b');
	close(fd);
	close(wr);
}

static void a_limit_that_shrinks_counts_at_once_and_none_keeps_all(void **state)
{
	int rd, wr = open_polled(&rd);

	pass(wr, 'a', 1024 * KIB);
	assert_int_equal(output_given(out), 0);
	output_keep(out, 256 * KIB);
	assert_true(output_given(out) >= 768 * KIB);
	assert_true(output_given(out) < 1024 * KIB);
	output_keep(out, 0);
	pass(wr, 'a', 1024 * KIB);
	assert_true(output_given(out) < 1024 * KIB);
	close(wr);
}

/* A limit below what holes can be made of: the end of a stream is never taken. */
static void the_newest_output_stays_whatever_the_limit(void **state)
{
	int rd, wr = open_polled(&rd), fd;

	output_keep(out, 100);
	pass(wr, 'a', 300 * KIB);
	pass(wr, 'z', 10);
	fd = openat(spool, "0.out", O_RDONLY | O_CLOEXEC);
	assert_int_equal(byte_at(fd, 300 * KIB + 9), 'z');
	assert_int_equal(output_lost(out, 0), 0);
	close(fd);
	close(wr);
}

/* A file system without holes: a pipe stands for it, which cannot be punched either. */
static void without_holes_what_comes_beyond_the_limit_is_dropped_and_counted(void **state)
{
	int fds[2], rd, wr;
	bool closed;

	output_destroy(out);
	assert_int_equal(pipe(fds), 0);
	fds[1] = fcntl(fds[1], F_DUPFD, 100);
	assert_int_equal(dup2(fds[1], 101), 101);
	out = output_create(1, 100, spool);
	output_watched(out, poll_set);
	output_set_rank_base(out, 0);
	wr = open_polled(&rd);
	output_keep(out, 64 * KIB);
	for (int i = 0; i < 3; i++) {
		static char block[40 * KIB];

		assert_int_equal(write(wr, block, sizeof block), sizeof block);
		assert_int_equal(output_read(out, 0, 1, 0, &closed), sizeof block);
		if (i < 2)
			assert_int_equal(read(fds[0], block, sizeof block), sizeof block);
	}
	assert_true(output_holeless(out));
	assert_int_equal(output_given(out), 0);
	assert_int_equal(output_lost(out, 0), 40 * KIB);
	close(wr);
	close(fds[0]);
	close(100);
	close(101);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_stream_that_ended_fires_no_more_though_a_child_holds_a_copy,
						fresh, gone),
		cmocka_unit_test_setup_teardown(a_stream_closed_from_our_side_fires_no_more, fresh, gone),
		cmocka_unit_test_setup_teardown(an_open_stream_still_fires_and_what_came_is_in_its_file,
						fresh, gone),
		cmocka_unit_test_setup_teardown(beyond_its_limit_the_oldest_output_is_given_back_and_offsets_stay,
						fresh, gone),
		cmocka_unit_test_setup_teardown(a_limit_that_shrinks_counts_at_once_and_none_keeps_all, fresh, gone),
		cmocka_unit_test_setup_teardown(the_newest_output_stays_whatever_the_limit, fresh, gone),
		cmocka_unit_test_setup_teardown(without_holes_what_comes_beyond_the_limit_is_dropped_and_counted,
						fresh, gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
