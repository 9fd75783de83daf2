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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_stream_that_ended_fires_no_more_though_a_child_holds_a_copy,
						fresh, gone),
		cmocka_unit_test_setup_teardown(a_stream_closed_from_our_side_fires_no_more, fresh, gone),
		cmocka_unit_test_setup_teardown(an_open_stream_still_fires_and_what_came_is_in_its_file,
						fresh, gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
