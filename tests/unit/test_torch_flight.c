/* test_torch_flight.c - dumps of PyTorch's flight recorder: one that PyTorch wrote, and pieces put together here */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/torch_flight.h"
#include "shim/flight.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)

static uint8_t dump[1 << 20];
static size_t n;
static struct torch_flight f;

static void raw(const char *p, size_t len)
{
	assert_true(n + len <= sizeof(dump));
	memcpy(dump + n, p, len);
	n += len;
}

static void op(char c)
{
	raw(&c, 1);
}

static void text(const char *s)
{
	uint8_t head[2] = { 0x8c, (uint8_t)strlen(s) };

	raw((const char *)head, 2);
	raw(s, strlen(s));
}

static void number(const char *key, int32_t x)
{
	text(key);
	op('J');
	raw((const char *)&x, 4); /* these tests run on little endian hosts only */
}

static void status(const char *group, int32_t enqueued, int32_t completed)
{
	text(group);
	raw("}(", 2);
	number("last_enqueued_collective", enqueued);
	number("last_completed_collective", completed);
	op('u');
}

static void entry(int32_t group, int32_t seq, const char *name, const char *state, bool p2p)
{
	raw("}(", 2);
	number("pg_id", group);
	number("collective_seq_id", seq);
	text("profiling_name");
	text(name);
	text("is_p2p");
	op(p2p ? (char)0x88 : (char)0x89);
	text("input_sizes");
	raw("](](K\x01K\x02" "ee", 10);
	text("process_group");
	text("0");
	text("default_pg");
	op((char)0x86);
	text("state");
	text(state);
	op('u');
}

static void begin(void)
{
	n = 0;
	raw("\x80\x02}(", 4);
}

static void end(void)
{
	raw("u.", 2);
}

static int parse(void)
{
	/* on the heap, so that a byte too far is seen */
	uint8_t *p = malloc(n + !n);
	int r;

	memcpy(p, dump, n);
	r = torch_flight_parse(p, n, &f);
	free(p);
	return r;
}

TEST(what_pytorch_wrote_is_read)
{
	FILE *in = fopen("tests/fuzz/corpus/torch_flight/gloo-2.13", "rb");

	(void)state;
	assert_non_null(in);
	n = fread(dump, 1, sizeof(dump), in);
	fclose(in);
	assert_int_equal(parse(), 0);
	assert_true(f.has_status && f.has_last);
	assert_int_equal(f.enqueued, 4);
	assert_int_equal(f.started, -1);
	assert_int_equal(f.completed, 4);
	assert_int_equal(f.seq, 4);
	assert_string_equal(f.op, "broadcast");
	assert_string_equal(f.state, "scheduled");
}

TEST(the_default_group_and_its_newest_collective_count)
{
	(void)state;
	begin();
	text("pg_status");
	raw("}(", 2);
	status("1", 900, 900);
	status("0", 61, 60);
	op('u');
	text("entries");
	raw("](", 2);
	entry(0, 60, "nccl:all_reduce", "completed", false);
	entry(1, 900, "nccl:all_gather", "completed", false);
	entry(0, 99, "nccl:send", "started", true);
	entry(0, 61, "nccl:_all_gather_base", "started", false);
	op('e');
	end();
	assert_int_equal(parse(), 0);
	assert_int_equal(f.enqueued, 61);
	assert_int_equal(f.completed, 60);
	assert_int_equal(f.seq, 61);
	assert_string_equal(f.op, "_all_gather_base");
	assert_string_equal(f.state, "started");
}

TEST(names_of_fields_in_a_wrong_place_are_nothing)
{
	(void)state;
	begin();
	text("other");
	raw("}(", 2);
	status("0", 5, 5);
	op('u');
	end();
	assert_int_equal(parse(), -EINVAL);
	assert_false(f.has_status);
}

TEST(a_dump_that_is_being_written_is_tried_again)
{
	size_t whole;

	(void)state;
	begin();
	text("pg_status");
	raw("}(", 2);
	status("0", 61, 60);
	op('u');
	end();
	whole = n;
	assert_int_equal(parse(), 0);
	for (n = 0; n < whole; n++)
		assert_int_equal(parse(), -EAGAIN);
}

TEST(nothing_is_imported_or_called)
{
	(void)state;
	begin();
	text("pg_status");
	raw("cos\nsystem\n", 11);
	text("true");
	op((char)0x85);
	op('R');
	text("entries");
	raw("](", 2);
	entry(0, 7, "nccl:reduce", "started", false);
	op('e');
	end();
	assert_int_equal(parse(), 0);
	assert_false(f.has_status);
	assert_int_equal(f.seq, 7);
}

TEST(garbage_is_refused)
{
	static const char *const bad[] = { "", "x", "\x80\x02u.", "\x80\x02" "e.", "\x80\x02s.", "\x80\x02" "a.", "\x80\x02R.",
					   "\x80\x02h\x05.", "\x80\x02q\x05.", "\x80\x02t.", "\x80\x02i", "\x80\x02N." };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		n = 0;
		raw(bad[i], strlen(bad[i]));
		assert_int_equal(parse(), i == 0 ? -EAGAIN : -EINVAL);
	}
}

TEST(a_hostile_one_takes_neither_time_nor_memory)
{
	(void)state;
	n = 0;
	raw("\x80\x02", 2);
	while (n < sizeof(dump))
		op('(');
	assert_int_equal(parse(), -EAGAIN);
	n = 2;
	while (n < sizeof(dump) - 1)
		raw("](", 2);
	assert_int_equal(parse(), -EAGAIN);
	n = 2;
	raw("N", 1);
	op('r');
	raw("\xff\xff\xff\xff", 4);
	assert_int_equal(parse(), -EINVAL);
}

TEST(without_memory_it_says_so)
{
	(void)state;
	begin();
	text("pg_status");
	raw("}(", 2);
	status("0", 61, 60);
	op('u');
	end();
	EACH_FAILING_MALLOC({
		int r = torch_flight_parse(dump, n, &f);

		if (r != 0)
			assert_int_equal(r, -ENOMEM);
		else
			assert_int_equal(f.enqueued, 61);
	})
}

/* ---- asked for one (shim/flight.c) ---- */

static void write_dump(const char *path, int32_t enqueued, time_t stamp)
{
	const struct timespec at[2] = { { stamp, 0 }, { stamp, 0 } };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	n = 0;
	begin();
	text("pg_status");
	raw("}(", 2);
	status("0", enqueued, 60);
	op('u');
	end();
	assert_int_equal(write(fd, dump, n), n);
	assert_int_equal(futimens(fd, at), 0);
	close(fd);
}

/* It lies on a file server whose clock is an hour behind; one of an earlier question lies there, too. */
TEST(a_dump_is_new_by_whatever_clock)
{
	char dir[] = "/tmp/flight-XXXXXX", fifo[64], file[64], env_fifo[128], env_dump[128];
	const char *env[] = { env_fifo, env_dump, NULL };
	struct flight_rank v[FLIGHT_RANKS] = { { .rank = 3, .pid = 77 } };
	struct flight *x = flight_create();
	struct pollfd p = { .events = POLLIN };
	time_t behind = time(NULL) - 3600;
	size_t n_v = 1;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(fifo, sizeof(fifo), "%s/p3.pipe", dir);
	snprintf(file, sizeof(file), "%s/d3", dir);
	snprintf(env_fifo, sizeof(env_fifo), "TORCH_NCCL_DEBUG_INFO_PIPE_FILE=%s/p", dir);
	snprintf(env_dump, sizeof(env_dump), "TORCH_FR_DUMP_TEMP_FILE=%s/d", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	p.fd = open(fifo, O_RDONLY | O_NONBLOCK);
	write_dump(file, 8, behind - 60);
	assert_true(flight_ask(x, env, v, 1));
	assert_int_equal(poll(&p, 1, 5000), 1);
	write_dump(file, 61, behind);
	close(p.fd);
	p.fd = flight_fd(x);
	assert_int_equal(poll(&p, 1, FLIGHT_MS + 5000), 1);
	assert_true(flight_take(x, v, &n_v));
	assert_true(n_v == 1 && v[0].asked && v[0].have);
	assert_int_equal(v[0].last.enqueued, 61);
	flight_destroy(x);
	unlink(fifo);
	unlink(file);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_pytorch_wrote_is_read),
		cmocka_unit_test(the_default_group_and_its_newest_collective_count),
		cmocka_unit_test(names_of_fields_in_a_wrong_place_are_nothing),
		cmocka_unit_test(a_dump_that_is_being_written_is_tried_again),
		cmocka_unit_test(nothing_is_imported_or_called),
		cmocka_unit_test(garbage_is_refused),
		cmocka_unit_test(a_hostile_one_takes_neither_time_nor_memory),
		cmocka_unit_test(without_memory_it_says_so),
		cmocka_unit_test(a_dump_is_new_by_whatever_clock),
	};

	return cmocka_run_group_tests_name("torch_flight", tests, NULL, NULL);
}
