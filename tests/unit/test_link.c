/* test_link.c - links over real sockets: pins, limits, deadlines */
#include "link_world.h"

#define TEST(name) static void name(void **state)

/* ---- identity ----------------------------------------------------------- */

TEST(both_sides_learn_the_other_key)
{
	connect_tls();
	assert_memory_equal(link_key(dialer.l), tls_own_key(tls_b), 32);
	assert_memory_equal(link_key(acceptor.l), tls_own_key(tls_a), 32);
	assert_string_equal(link_address(acceptor.l), "127.0.0.1");
	assert_string_equal(link_local_address(dialer.l), "127.0.0.1");
	assert_int_not_equal(link_id(dialer.l), link_id(acceptor.l));
}

TEST(wrong_pin_ends_the_link_before_our_key_is_shown)
{
	listen_tls(8);
	dial_tls(tls_own_key(tls_a), 5000);
	wait_for(&dialer.downs, 1);
	assert_int_equal(dialer.ups, 0);
	assert_int_equal(admitted, 0);
	assert_non_null(strstr(dialer.why, "another key"));
}

TEST(a_key_that_is_not_wanted_is_closed)
{
	refuse = true;
	listen_tls(8);
	dial_tls(tls_own_key(tls_b), 5000);
	wait_for(&dialer.downs, 1);
	assert_int_equal(acceptor.ups, 0);
}

TEST(a_key_file_that_others_can_read_is_refused)
{
	struct tls_context *t = NULL;
	struct err e = { 0 };
	char path[128];

	tls_context_destroy(identity("open"));
	snprintf(path, sizeof(path), "%s/open/key.pem", dir);
	chmod(path, 0640);
	snprintf(path, sizeof(path), "%s/open", dir);
	assert_int_equal(tls_context_create(path, &t, &e), -EPERM);
	assert_non_null(strstr(e.text, "can be read by others"));
}

TEST(a_lost_certificate_is_made_again)
{
	struct tls_context *t = NULL;
	struct err e = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "%s/b/cert.pem", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/b", dir);
	assert_int_equal(tls_context_create(path, &t, &e), 0);
	assert_memory_equal(tls_own_key(t), tls_own_key(tls_b), 32);
	tls_context_destroy(t);
}

TEST(a_connection_refused_says_so)
{
	listen_tls(1);
	link_listener_close(listener);
	listener = NULL;
	run_ms(5);
	dial_tls(tls_own_key(tls_b), 1000);
	wait_for(&dialer.downs, 1);
	assert_string_equal(dialer.why, "connection refused");
}

TEST(a_name_that_does_not_exist_says_so)
{
	dialer.l = link_dial_tls(&loop, tls_a, "no-such-host.invalid", 1, NULL, 4000, &callbacks, &dialer);
	wait_for(&dialer.downs, 1);
	assert_non_null(strstr(dialer.why, "no-such-host.invalid"));
}

TEST(a_link_closed_while_its_name_is_looked_up_goes_down_once)
{
	dialer.l = link_dial_tls(&loop, tls_a, "localhost", 1, NULL, 4000, &callbacks, &dialer);
	link_close(dialer.l, "changed my mind");
	wait_for(&dialer.downs, 1);
	assert_string_equal(dialer.why, "changed my mind");
	run_ms(50);
	assert_int_equal(dialer.downs, 1);
}

TEST(a_name_with_several_addresses_is_tried_through)
{
	listen_tls(8);
	dialer.l = link_dial_tls(&loop, tls_a, "localhost", port, tls_own_key(tls_b), 4000, &callbacks,
				 &dialer);
	wait_for(&dialer.ups, 1);
	wait_for(&acceptor.ups, 1);
}

TEST(a_silent_server_meets_the_dialers_deadline)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	getsockname(fd, (struct sockaddr *)&a, &n);
	port = ntohs(a.sin_port);
	dial_tls(tls_own_key(tls_b), 200);
	wait_for(&dialer.downs, 1);
	assert_string_equal(dialer.why, "no TLS handshake within 0.2 s");
	close(fd);
}

/* ---- limits on strangers ------------------------------------------------ */

TEST(random_bytes_close_the_connection)
{
	char junk[512];
	int fd;

	listen_tls(8);
	fd = raw_connect();
	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = (char)(i * 7 + 3);
	assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
	run_ms(50);
	assert_true(closed_by_peer(fd));
	assert_int_equal(admitted, 0);
	close(fd);
}

TEST(the_oldest_pending_connection_makes_room)
{
	int fd[6];

	listen_tls(4);
	for (int i = 0; i < 6; i++) {
		fd[i] = raw_connect();
		run_ms(10);
	}
	for (int i = 0; i < 6; i++)
		assert_int_equal(closed_by_peer(fd[i]), i < 2);

	/* Idle ones keep nobody out. */
	dial_tls(tls_own_key(tls_b), 2000);
	wait_for(&dialer.ups, 1);
	wait_for(&acceptor.ups, 1);
	for (int i = 0; i < 6; i++)
		close(fd[i]);
}

TEST(without_descriptors_the_excess_is_closed_and_service_returns)
{
	struct rlimit was, low;
	int fd[3], n = 0, filler[64];

	listen_tls(8);
	for (int i = 0; i < 3; i++)
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	getrlimit(RLIMIT_NOFILE, &was);
	low = was;
	low.rlim_cur = 64;
	setrlimit(RLIMIT_NOFILE, &low);
	while (n < 64 && (filler[n] = dup(0)) >= 0)
		n++;

	for (int i = 0; i < 3; i++) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

		a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		assert_int_equal(connect(fd[i], (struct sockaddr *)&a, sizeof(a)), 0);
	}
	run_ms(50);
	for (int i = 0; i < 3; i++)
		assert_true(closed_by_peer(fd[i]));
	while (n > 0)
		close(filler[--n]);
	setrlimit(RLIMIT_NOFILE, &was);

	dial_tls(tls_own_key(tls_b), 2000);
	wait_for(&acceptor.ups, 1);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

TEST(a_stranger_may_not_send_a_big_frame)
{
	char *big = calloc(1, FRAME_MAX_UNAUTH + 1);

	connect_tls();
	assert_int_equal(link_send_json(dialer.l, big, FRAME_MAX_UNAUTH), 0);
	wait_for(&acceptor.jsons, 1);
	link_send_json(dialer.l, big, FRAME_MAX_UNAUTH + 1);
	wait_for(&acceptor.downs, 1);
	assert_int_equal(acceptor.jsons, 1);
	wait_for(&dialer.downs, 1);
	free(big);
}

TEST(a_raised_limit_lets_a_full_frame_through_and_no_more)
{
	char *big = malloc(FRAME_MAX + 1);

	memset(big, ' ', FRAME_MAX + 1);
	connect_tls();
	link_set_max(acceptor.l, FRAME_MAX);
	assert_int_equal(link_send_json(dialer.l, big, FRAME_MAX + 1), -EMSGSIZE);
	assert_true(link_send_json(dialer.l, big, FRAME_MAX) >= 0);
	wait_for(&acceptor.jsons, 1);
	assert_int_equal(acceptor.json_max, FRAME_MAX);
	free(big);
}

TEST(an_unknown_frame_type_ends_a_unix_link)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	listen_unix();
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/sock", dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(write(fd, "\0\0\0\1\x7fx", 6), 6);
	wait_for(&acceptor.downs, 1);
	assert_int_equal(acceptor.ups, 1);
	close(fd);
}

/* What a raw client gets back until the end. */
static size_t read_to_end(int fd, char *out, size_t size)
{
	size_t n = 0;

	for (;;) {
		ssize_t r;

		uv_run(&loop, UV_RUN_NOWAIT);
		r = recv(fd, out + n, size - 1 - n, MSG_DONTWAIT);
		if (r == 0 || (r < 0 && errno != EAGAIN))
			break;
		n += r > 0 ? (size_t)r : 0;
	}
	out[n] = '\0';
	return n;
}

TEST(who_cares_to_says_what_was_wrong_before_the_link_closes)
{
	static const struct {
		const char *bytes;
		size_t n;
		int error;
		const char *words;
	} rows[] = {
		{ "\x7f\xff\xff\xff\1{", 6, -EMSGSIZE, "2147483647 bytes" },
		{ "\0\0\0\1\x7fx", 6, -EPROTO, "frame type 127" },
		{ "\0\0\0\1\2x", 6, -EPROTO, "bulk data" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sockaddr_un a = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		char got[512], number[16];
		size_t n;

		listen_unix_for(&polite);
		snprintf(a.sun_path, sizeof(a.sun_path), "%s/sock", dir);
		assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
		assert_int_equal(write(fd, rows[i].bytes, rows[i].n), (ssize_t)rows[i].n);
		n = read_to_end(fd, got, sizeof(got));
		assert_true(n > 5);
		snprintf(number, sizeof(number), "%d: ", rows[i].error);
		assert_memory_equal(got + 5, number, strlen(number));
		assert_non_null(strstr(got + 5, rows[i].words));
		close(fd);
		wait_for(&acceptor.downs, 1);
		acceptor.downs = acceptor.ups = 0;
		link_listener_close(listener);
		listener = NULL;
		uv_run(&loop, UV_RUN_NOWAIT);
	}
}

TEST(a_truncated_frame_is_just_a_closed_link)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	listen_unix();
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/sock", dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(write(fd, "\0\0\1\0\1{", 6), 6);
	wait_for(&acceptor.ups, 1);
	close(fd);
	wait_for(&acceptor.downs, 1);
	assert_string_equal(acceptor.why, "closed by the other side");
	assert_int_equal(acceptor.jsons, 0);
}

TEST(bulk_on_a_control_link_ends_it)
{
	struct data_header h = { .fd = 1 };

	connect_tls();
	link_set_callbacks(acceptor.l, &control, &acceptor);
	link_send_data(dialer.l, &h, "x", 1);
	wait_for(&acceptor.downs, 1);
	assert_non_null(strstr(acceptor.why, "bulk data"));
	wait_for(&dialer.downs, 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(both_sides_learn_the_other_key),
		T(wrong_pin_ends_the_link_before_our_key_is_shown),
		T(a_key_that_is_not_wanted_is_closed),
		T(a_key_file_that_others_can_read_is_refused),
		T(a_lost_certificate_is_made_again),
		T(a_connection_refused_says_so),
		T(a_name_that_does_not_exist_says_so),
		T(a_link_closed_while_its_name_is_looked_up_goes_down_once),
		T(a_name_with_several_addresses_is_tried_through),
		T(a_silent_server_meets_the_dialers_deadline),
		T(random_bytes_close_the_connection),
		T(the_oldest_pending_connection_makes_room),
		T(without_descriptors_the_excess_is_closed_and_service_returns),
		T(a_stranger_may_not_send_a_big_frame),
		T(a_raised_limit_lets_a_full_frame_through_and_no_more),
		T(an_unknown_frame_type_ends_a_unix_link),
		T(who_cares_to_says_what_was_wrong_before_the_link_closes),
		T(a_truncated_frame_is_just_a_closed_link),
		T(bulk_on_a_control_link_ends_it),
	};

	return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
