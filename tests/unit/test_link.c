/* test_link.c - links over real sockets: pins, limits, deadlines, back-pressure, speed
 *
 * Everything runs on one loop in this process. Addresses and directories are
 * of this run; nothing outside loopback is touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "io/link.h"
#include "io/tls.h"

#define TEST(name) static void name(void **state)
#define PAYLOAD (256u << 10)

/* One end of a link and what it saw. */
struct end {
	struct link *l;
	unsigned ups, downs, jsons, drains;
	uint64_t data_bytes, want_bytes;
	char why[256];
	char last[64];
	size_t json_max;
	bool close_on_json, echo;
};

static uv_loop_t loop;
static char dir[64];
static struct tls_context *tls_a, *tls_b;
static struct link_listener *listener;
static uint16_t port;
static struct end dialer, acceptor;
static bool in_call; /* set around link_* calls: callbacks must not run then */
static bool refuse;
static unsigned admitted;

static void on_up(struct link *l, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	x->l = l;
	x->ups++;
}

static void on_json(struct link *l, const char *text, size_t n, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	x->jsons++;
	x->json_max = n > x->json_max ? n : x->json_max;
	snprintf(x->last, sizeof(x->last), "%.*s", (int)n, text);
	in_call = true;
	if (x->echo)
		link_send_json(l, text, n);
	if (x->close_on_json)
		link_close(l, "asked to");
	in_call = false;
}

static void on_data(struct link *l, const struct data_header *h, const char *p, size_t n, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	assert_int_equal(h->offset, x->data_bytes);
	if (n > 0)
		assert_int_equal((uint8_t)p[n - 1], (uint8_t)(h->offset >> 18));
	x->data_bytes += n;
}

static void on_drain(struct link *l, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	x->drains++;
}

static void on_down(struct link *l, const char *why, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	x->l = NULL;
	x->downs++;
	snprintf(x->why, sizeof(x->why), "%s", why);
}

static void on_bad(struct link *l, int error, const char *why, void *arg)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "%d: %s", error, why);

	assert_int_equal(link_send_json(l, text, (size_t)n), 0);
}

static const struct link_callbacks callbacks = {
	.on_up = on_up, .on_json = on_json, .on_data = on_data, .on_drain = on_drain, .on_down = on_down,
};
static const struct link_callbacks polite = {
	.on_up = on_up, .on_json = on_json, .on_down = on_down, .on_bad = on_bad,
};
static const struct link_callbacks control = {
	.on_up = on_up, .on_json = on_json, .on_down = on_down,
};

static bool admit(void *arg, struct link *l, const struct link_who *who,
		  const struct link_callbacks **ret_cb, void **ret_arg)
{
	if (refuse)
		return false;
	admitted++;
	*ret_cb = arg ? arg : &callbacks;
	*ret_arg = &acceptor;
	return true;
}

/* ---- fixture ------------------------------------------------------------ */

static struct tls_context *identity(const char *name)
{
	struct tls_context *t = NULL;
	char path[128];
	struct err e = { 0 };

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	mkdir(path, 0700);
	if (tls_make_identity(path, &e) < 0 || tls_context_create(path, &t, &e) < 0)
		fail_msg("%s", e.text);
	return t;
}

static int set_up_all(void **state)
{
	log_setup("test", LOG_LVL_ERROR);
	snprintf(dir, sizeof(dir), "/tmp/na-link-XXXXXX");
	assert_non_null(mkdtemp(dir));
	tls_a = identity("a");
	tls_b = identity("b");
	return 0;
}

static int tear_down_all(void **state)
{
	char cmd[128];

	tls_context_destroy(tls_a);
	tls_context_destroy(tls_b);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static int set_up(void **state)
{
	memset(&dialer, 0, sizeof(dialer));
	memset(&acceptor, 0, sizeof(acceptor));
	listener = NULL;
	refuse = false;
	admitted = 0;
	port = 0;
	return uv_loop_init(&loop);
}

static int tear_down(void **state)
{
	if (dialer.l)
		link_close(dialer.l, "over");
	if (acceptor.l)
		link_close(acceptor.l, "over");
	link_listener_close(listener);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	return 0;
}

static void listen_tls(unsigned max_pending)
{
	struct err e = { 0 };

	if (link_listen_tls(&loop, tls_b, "127.0.0.1", &port, max_pending, admit, NULL, &listener, &e) < 0)
		fail_msg("%s", e.text);
}

/* Accepted links get these callbacks. */
static void listen_unix_for(const struct link_callbacks *cb)
{
	char path[128];
	struct err e = { 0 };

	snprintf(path, sizeof(path), "%s/sock", dir);
	if (link_listen_unix(&loop, path, 0600, admit, (void *)(uintptr_t)cb, &listener, &e) < 0)
		fail_msg("%s", e.text);
}

static void listen_unix(void)
{
	listen_unix_for(&callbacks);
}

static void dial_tls(const uint8_t *pin, uint32_t deadline)
{
	in_call = true;
	dialer.l = link_dial_tls(&loop, tls_a, "127.0.0.1", port, pin, deadline, &callbacks, &dialer);
	in_call = false;
	assert_non_null(dialer.l);
}

static void dial_unix(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/sock", dir);
	in_call = true;
	dialer.l = link_dial_unix(&loop, path, &callbacks, &dialer);
	in_call = false;
}

static void on_tick(uv_timer_t *t)
{
}

/* Runs the loop until *counter reaches n, at most 5 s. */
static void wait_for(unsigned *counter, unsigned n)
{
	uint64_t until = uv_hrtime() + UINT64_C(5000000000);
	uv_timer_t tick;

	uv_timer_init(&loop, &tick);
	uv_timer_start(&tick, on_tick, 10, 10);
	while (*counter < n && uv_hrtime() < until)
		uv_run(&loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&tick, NULL);
	uv_run(&loop, UV_RUN_NOWAIT);
	assert_int_equal(*counter, n);
}

static void run_ms(unsigned ms)
{
	uint64_t until = uv_hrtime() + ms * UINT64_C(1000000);
	uv_timer_t tick;

	uv_timer_init(&loop, &tick);
	uv_timer_start(&tick, on_tick, 5, 5);
	while (uv_hrtime() < until)
		uv_run(&loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&tick, NULL);
	uv_run(&loop, UV_RUN_NOWAIT);
}

static void connect_tls(void)
{
	listen_tls(8);
	dial_tls(tls_own_key(tls_b), 5000);
	wait_for(&acceptor.ups, 1);
	assert_int_equal(dialer.ups, 1);
}

static void connect_unix(void)
{
	listen_unix();
	dial_unix();
	wait_for(&acceptor.ups, 1);
	wait_for(&dialer.ups, 1);
}

static int raw_connect(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static bool closed_by_peer(int fd)
{
	char b[4096];
	ssize_t n;

	while ((n = recv(fd, b, sizeof(b), MSG_DONTWAIT)) > 0)
		;
	return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

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
