/* test_link_order.c - links over real sockets: order, closing, back-pressure, speed */
#include "link_world.h"

#define TEST(name) static void name(void **state)

/* ---- order, closing, back-pressure -------------------------------------- */

static void many_small_frames(void)
{
	char text[32];

	acceptor.echo = true;
	for (int i = 0; i < 20000; i++) {
		int n = snprintf(text, sizeof(text), "{\"n\":%d}", i);

		assert_true(link_send_json(dialer.l, text, (size_t)n) >= 0);
	}
	wait_for(&dialer.jsons, 20000);
	assert_string_equal(dialer.last, "{\"n\":19999}");
}

TEST(many_small_frames_come_back_in_order_over_tls)
{
	connect_tls();
	many_small_frames();
}

TEST(many_small_frames_come_back_in_order_over_unix)
{
	connect_unix();
	many_small_frames();
}

static void last_word(void)
{
	/* The other side is told even while it goes on sending. */
	acceptor.close_on_json = acceptor.echo = true;
	for (int i = 0; i < 50; i++)
		link_send_json(dialer.l, "{\"last\":\"word\"}", 15);
	wait_for(&dialer.downs, 1);
	assert_int_equal(acceptor.jsons, 1);
	assert_int_equal(dialer.jsons, 1);
	assert_string_equal(dialer.last, "{\"last\":\"word\"}");
	assert_string_equal(dialer.why, "closed by the other side");
	wait_for(&acceptor.downs, 1);
	assert_string_equal(acceptor.why, "asked to");
}

TEST(what_was_sent_before_close_arrives_over_tls)
{
	connect_tls();
	last_word();
}

TEST(what_was_sent_before_close_arrives_over_unix)
{
	connect_unix();
	last_word();
}

TEST(a_close_meets_a_stuck_reader_in_two_seconds)
{
	static char block[PAYLOAD];
	struct data_header h = { .fd = 1 };
	uint64_t t0;

	connect_unix();
	link_pause(acceptor.l, true);
	while (link_send_data(dialer.l, &h, block, sizeof(block)) == 0)
		h.offset += sizeof(block);
	run_ms(20);
	t0 = uv_hrtime();
	link_close(dialer.l, "enough");
	assert_int_equal(link_send_json(dialer.l, "{}", 2), -ENOTCONN);
	wait_for(&dialer.downs, 1);
	assert_in_range((uv_hrtime() - t0) / 1000000, 1900, 2300);
	link_pause(acceptor.l, false);
}

static int send_block(struct end *x, struct data_header *h)
{
	char *b = malloc(DATA_ROOM + PAYLOAD);
	int r;

	memset(b + DATA_ROOM, 0, PAYLOAD);
	b[DATA_ROOM + PAYLOAD - 1] = (char)(h->offset >> 18);
	r = link_send_data_take(x->l, h, b, PAYLOAD);
	h->offset += PAYLOAD;
	return r;
}

static void pause_holds_the_sender(void)
{
	struct data_header h = { .fd = 1 };
	uint64_t got;

	in_call = true;
	link_pause(acceptor.l, true);
	while (send_block(&dialer, &h) == 0)
		;
	in_call = false;
	run_ms(50);
	assert_true(link_queued(dialer.l) > LINK_HIGH / 2);
	assert_int_equal(dialer.drains, 0);
	got = acceptor.data_bytes;
	run_ms(50);
	assert_int_equal(acceptor.data_bytes, got);
	in_call = true;
	link_pause(acceptor.l, false);
	in_call = false;
	wait_for(&dialer.drains, 1);
	run_ms(50);
	assert_int_equal(acceptor.data_bytes, h.offset);
	assert_int_equal(link_queued(dialer.l), 0);
}

TEST(pause_holds_the_sender_over_tls)
{
	connect_tls();
	link_set_max(acceptor.l, FRAME_MAX);
	pause_holds_the_sender();
}

TEST(pause_holds_the_sender_over_unix)
{
	connect_unix();
	pause_holds_the_sender();
}

static void on_json_pause(struct link *l, const char *text, size_t n, void *arg)
{
	struct end *x = arg;

	x->jsons++;
	link_pause(l, true);
}

static const struct link_callbacks pausers = {
	.on_up = on_up, .on_json = on_json_pause, .on_down = on_down,
};

static void one_frame_per_pause(void)
{
	link_set_callbacks(acceptor.l, &pausers, &acceptor);
	for (int i = 0; i < 10; i++)
		link_send_json(dialer.l, "{}", 2);
	for (unsigned i = 1; i <= 10; i++) {
		wait_for(&acceptor.jsons, i);
		run_ms(5);
		assert_int_equal(acceptor.jsons, i);
		link_pause(acceptor.l, false);
		assert_int_equal(acceptor.jsons, i);
	}
}

TEST(a_pause_in_a_callback_holds_the_next_frame_over_tls)
{
	connect_tls();
	one_frame_per_pause();
}

TEST(a_pause_in_a_callback_holds_the_next_frame_over_unix)
{
	connect_unix();
	one_frame_per_pause();
}

/* ---- Unix listener ------------------------------------------------------ */

TEST(a_stale_socket_is_replaced_and_a_live_one_is_not)
{
	struct link_listener *second = NULL;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct err e = { 0 };
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/sock", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd);
	listen_unix();
	assert_int_equal(stat(a.sun_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(link_listen_unix(&loop, a.sun_path, 0600, admit, NULL, &second, &e), -EADDRINUSE);
	link_listener_close(listener);
	listener = NULL;
	assert_int_equal(stat(a.sun_path, &st), -1);
}

TEST(a_path_over_107_bytes_is_refused_with_a_sentence)
{
	char path[200];
	struct err e = { 0 };

	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	assert_int_equal(link_listen_unix(&loop, path, 0600, admit, NULL, &listener, &e), -ENAMETOOLONG);
	assert_non_null(strstr(e.text, "107"));
}

/* ---- speed (printed, not judged) ---------------------------------------- */

static void speed(const char *what, uint64_t total)
{
	struct data_header h = { .fd = 1 };
	uint64_t t0 = uv_hrtime();
	double s;

	while (acceptor.data_bytes < total) {
		while (h.offset < total && link_queued(dialer.l) < LINK_HIGH / 4)
			send_block(&dialer, &h);
		uv_run(&loop, UV_RUN_ONCE);
	}
	s = (double)(uv_hrtime() - t0) / 1e9;
	print_message("%s: %.2f GB/s, both ends on one core\n", what, (double)total / s / 1e9);
}

#if defined(__SANITIZE_ADDRESS__)
#define SPEED_BYTES (256ull << 20)
#else
#define SPEED_BYTES (4096ull << 20)
#endif

TEST(speed_of_bulk_over_unix)
{
	connect_unix();
	speed("Unix socket", SPEED_BYTES);
}

TEST(speed_of_bulk_over_tls)
{
	connect_tls();
	link_set_max(acceptor.l, FRAME_MAX);
	speed("TLS", SPEED_BYTES / 2);
}

TEST(speed_of_handshakes)
{
	uint64_t t0 = uv_hrtime();
	unsigned n = 0;

	listen_tls(64);
	while (uv_hrtime() - t0 < 500000000) {
		dial_tls(tls_own_key(tls_b), 2000);
		wait_for(&dialer.ups, ++n);
		wait_for(&acceptor.ups, n);
		link_close(dialer.l, "next");
		wait_for(&dialer.downs, n);
		wait_for(&acceptor.downs, n);
	}
	print_message("TLS connections: %.2f ms each, both sides\n",
		      (double)(uv_hrtime() - t0) / 1e6 / n);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(many_small_frames_come_back_in_order_over_tls),
		T(many_small_frames_come_back_in_order_over_unix),
		T(what_was_sent_before_close_arrives_over_tls),
		T(what_was_sent_before_close_arrives_over_unix),
		T(a_close_meets_a_stuck_reader_in_two_seconds),
		T(pause_holds_the_sender_over_tls),
		T(pause_holds_the_sender_over_unix),
		T(a_pause_in_a_callback_holds_the_next_frame_over_tls),
		T(a_pause_in_a_callback_holds_the_next_frame_over_unix),
		T(a_stale_socket_is_replaced_and_a_live_one_is_not),
		T(a_path_over_107_bytes_is_refused_with_a_sentence),
		T(speed_of_bulk_over_unix),
		T(speed_of_bulk_over_tls),
		T(speed_of_handshakes),
	};

	return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
