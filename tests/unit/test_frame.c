/* test_frame.c - a byte stream is cut into frames, however it arrives */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)

/* Hands n bytes to the reader as the network would. */
static void feed(struct frame_reader *r, const char *p, size_t n)
{
	size_t room = 0;
	char *to = frame_reader_space(r, n, &room);

	assert_non_null(to);
	assert_true(room >= n);
	memcpy(to, p, n);
	frame_reader_got(r, n);
}

static void add_frame(struct buf *b, uint8_t type, size_t len, char fill)
{
	char head[FRAME_HEADER], *to;

	frame_put_header(head, type, (uint32_t)len);
	buf_add(b, head, sizeof(head));
	to = buf_reserve(b, len + 1);
	memset(to, fill, len);
	b->len += len;
}

static void check_frame(struct frame_reader *r, uint8_t type, size_t len, char fill)
{
	struct frame f;

	assert_int_equal(frame_next(r, &f, NULL), 1);
	assert_int_equal(f.type, type);
	assert_int_equal(f.len, len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(f.data[i], fill);
}

TEST(frames_arrive_whole_whatever_the_pieces)
{
	static const size_t sizes[] = { 0, 1, 2, 100, 4096, 70000, 3 };
	struct buf all;

	buf_init(&all);
	for (size_t i = 0; i < 7; i++)
		add_frame(&all, i % 2 ? FRAME_DATA : FRAME_JSON, sizes[i], (char)('a' + i));
	for (size_t piece = 1; piece < all.len; piece = piece * 3 / 2 + 1) {
		struct frame_reader r;
		struct frame f;
		size_t seen = 0;

		frame_reader_init(&r, FRAME_MAX);
		for (size_t at = 0; at < all.len; at += piece) {
			feed(&r, all.data + at, all.len - at < piece ? all.len - at : piece);
			while (frame_next(&r, &f, NULL) == 1) {
				assert_int_equal(f.type, seen % 2 ? FRAME_DATA : FRAME_JSON);
				assert_int_equal(f.len, sizes[seen]);
				if (f.len)
					assert_int_equal(f.data[f.len - 1], 'a' + (int)seen);
				seen++;
			}
		}
		assert_int_equal(seen, 7);
		frame_reader_finish(&r);
	}
	buf_finish(&all);
}

TEST(the_length_is_checked_before_anything_is_kept)
{
	struct frame_reader r;
	struct frame f;
	struct err e;
	size_t room;

	frame_reader_init(&r, FRAME_MAX_UNAUTH);
	feed(&r, "\x00\x01\x00\x01\x01", 5);
	assert_int_equal(frame_next(&r, &f, &e), -EMSGSIZE);
	assert_non_null(strstr(e.text, "65537"));
	assert_int_equal(frame_next(&r, &f, &e), -EMSGSIZE);
	assert_non_null(frame_reader_space(&r, 1, &room));
	assert_true(r.in.cap < 4096);
	frame_reader_finish(&r);
}

TEST(the_limit_can_be_raised_once_the_peer_is_known)
{
	struct frame_reader r;
	struct buf b;

	buf_init(&b);
	add_frame(&b, FRAME_JSON, FRAME_MAX_UNAUTH, 'x');
	add_frame(&b, FRAME_DATA, FRAME_MAX, 'y');
	frame_reader_init(&r, FRAME_MAX_UNAUTH);
	feed(&r, b.data, b.len);
	check_frame(&r, FRAME_JSON, FRAME_MAX_UNAUTH, 'x');
	frame_reader_set_max(&r, FRAME_MAX);
	check_frame(&r, FRAME_DATA, FRAME_MAX, 'y');
	frame_reader_finish(&r);
	buf_finish(&b);
}

TEST(an_unknown_type_is_refused_even_before_its_bytes_come)
{
	struct frame_reader r;
	struct frame f;

	frame_reader_init(&r, FRAME_MAX);
	feed(&r, "\x00\x00\x00\x05", 4);
	assert_int_equal(frame_next(&r, &f, NULL), 0);
	feed(&r, "\x03", 1);
	assert_int_equal(frame_next(&r, &f, NULL), -EPROTO);
	frame_reader_finish(&r);
}

TEST(room_for_a_long_frame_is_made_once)
{
	struct frame_reader r;
	struct buf b;
	const char *base;
	size_t at = 1000;

	buf_init(&b);
	add_frame(&b, FRAME_DATA, FRAME_MAX, 'z');
	frame_reader_init(&r, FRAME_MAX);
	feed(&r, b.data, at);
	feed(&r, b.data + at, 1000);
	at += 1000;
	base = r.in.data;
	while (at < b.len) {
		size_t n = b.len - at < 65536 ? b.len - at : 65536;

		feed(&r, b.data + at, n);
		at += n;
		assert_ptr_equal(r.in.data, base); /* neither moved nor grown */
	}
	check_frame(&r, FRAME_DATA, FRAME_MAX, 'z');
	frame_reader_finish(&r);
	buf_finish(&b);
}

TEST(an_idle_reader_gives_a_large_buffer_back)
{
	struct frame_reader r;
	struct frame f;
	struct buf b;

	buf_init(&b);
	add_frame(&b, FRAME_JSON, FRAME_MAX, 'x');
	frame_reader_init(&r, FRAME_MAX);
	feed(&r, b.data, b.len);
	check_frame(&r, FRAME_JSON, FRAME_MAX, 'x');
	assert_int_equal(frame_next(&r, &f, NULL), 0);
	assert_int_equal(r.in.cap, 0);
	frame_reader_finish(&r);
	buf_finish(&b);
}

/* A reader that is always a bit behind must not move its backlog each time. */
TEST(a_stream_that_never_drains_is_moved_rarely)
{
	struct frame_reader r;
	struct buf b;
	size_t moved = 0, total = 0;

	buf_init(&b);
	add_frame(&b, FRAME_DATA, 4096, 'x');
	frame_reader_init(&r, FRAME_MAX);
	feed(&r, b.data, 2000);
	for (int i = 0; i < 5000; i++) {
		size_t pos = r.pos, left = r.in.len - r.pos;

		feed(&r, b.data + 2000, b.len - 2000);
		if (r.pos < pos)
			moved += left;
		feed(&r, b.data, 2000);
		check_frame(&r, FRAME_DATA, 4096, 'x');
		total += b.len;
	}
	assert_true(moved <= total);
	assert_true(r.in.cap <= 65536);
	frame_reader_finish(&r);
	buf_finish(&b);
}

TEST(json_frames_are_appended_with_their_header)
{
	struct buf b;

	buf_init(&b);
	assert_int_equal(frame_add_json(&b, "{}", 2), 0);
	assert_int_equal(frame_add_json(&b, "", 0), 0);
	assert_int_equal(b.len, 12);
	assert_memory_equal(b.data, "\0\0\0\2\1{}\0\0\0\0\1", 12);
	assert_int_equal(frame_add_json(&b, NULL, FRAME_MAX + 1), -EMSGSIZE);
	assert_int_equal(b.len, 12);
	buf_finish(&b);
}

TEST(a_data_frame_has_these_bytes)
{
	const struct data_header h = { .sid = 0x01020304, .rank = 0x05060708, .fd = 2,
				       .flags = DATA_EOF, .offset = UINT64_C(0x1112131415161718) };
	static const char want[] = "\x00\x00\x00\x1B\x02"
				   "\x01\x02\x03\x04\x05\x06\x07\x08\x02\x01\x00\x00"
				   "\x11\x12\x13\x14\x15\x16\x17\x18\x00\x00\x00\x00";
	char head[FRAME_HEADER + DATA_HEADER];
	struct frame_reader r;
	struct data_header back;
	const char *payload;
	struct frame f;
	size_t n;

	frame_put_data(head, &h, 3);
	assert_memory_equal(head, want, sizeof(head));
	frame_reader_init(&r, FRAME_MAX);
	feed(&r, head, sizeof(head));
	feed(&r, "abc", 3);
	assert_int_equal(frame_next(&r, &f, NULL), 1);
	assert_int_equal(frame_get_data(&f, &back, &payload, &n, NULL), 0);
	assert_int_equal(back.sid, h.sid);
	assert_int_equal(back.rank, h.rank);
	assert_int_equal(back.fd, 2);
	assert_int_equal(back.flags, DATA_EOF);
	assert_true(back.offset == h.offset);
	assert_int_equal(n, 3);
	assert_memory_equal(payload, "abc", 3);
	frame_reader_finish(&r);
}

TEST(a_short_data_frame_or_a_strange_stream_is_refused)
{
	char body[DATA_HEADER] = { 0 };
	struct frame f = { .type = FRAME_DATA, .data = body, .len = DATA_HEADER - 1 };
	struct data_header h;
	const char *payload;
	size_t n;

	assert_int_equal(frame_get_data(&f, &h, &payload, &n, NULL), -EPROTO);
	f.len = DATA_HEADER;
	assert_int_equal(frame_get_data(&f, &h, &payload, &n, NULL), 0);
	assert_int_equal(n, 0);
	body[8] = 4;
	assert_int_equal(frame_get_data(&f, &h, &payload, &n, NULL), -EPROTO);
	body[8] = (char)0xFF;
	assert_int_equal(frame_get_data(&f, &h, &payload, &n, NULL), -EPROTO);
}

TEST(every_failing_malloc_is_reported)
{
	EACH_FAILING_MALLOC({
		struct frame_reader r;
		struct buf b;
		size_t room;

		buf_init(&b);
		frame_reader_init(&r, FRAME_MAX);
		if (frame_reader_space(&r, 100, &room))
			assert_true(room >= 100);
		if (frame_add_json(&b, "{}", 2))
			assert_int_equal(frame_add_json(&b, "{}", 2), -ENOMEM);
		frame_reader_finish(&r);
		buf_finish(&b);
	});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_arrive_whole_whatever_the_pieces),
		cmocka_unit_test(the_length_is_checked_before_anything_is_kept),
		cmocka_unit_test(the_limit_can_be_raised_once_the_peer_is_known),
		cmocka_unit_test(an_unknown_type_is_refused_even_before_its_bytes_come),
		cmocka_unit_test(room_for_a_long_frame_is_made_once),
		cmocka_unit_test(an_idle_reader_gives_a_large_buffer_back),
		cmocka_unit_test(a_stream_that_never_drains_is_moved_rarely),
		cmocka_unit_test(json_frames_are_appended_with_their_header),
		cmocka_unit_test(a_data_frame_has_these_bytes),
		cmocka_unit_test(a_short_data_frame_or_a_strange_stream_is_refused),
		cmocka_unit_test(every_failing_malloc_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
