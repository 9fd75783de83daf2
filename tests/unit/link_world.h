/* link_world.h - two ends of a link over real sockets, and what each has seen
 *
 * Everything runs on one loop in this process. Addresses and directories are
 * of this run; nothing outside loopback is touched. */
#ifndef NA_TESTS_LINK_WORLD_H
#define NA_TESTS_LINK_WORLD_H

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

#define UNUSED __attribute__((unused)) /* not every test needs all of it */
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

UNUSED static uv_loop_t loop;
UNUSED static char dir[64];
UNUSED static struct tls_context *tls_a, *tls_b;
UNUSED static struct link_listener *listener;
UNUSED static uint16_t port;
UNUSED static struct end dialer, acceptor;
UNUSED static bool in_call; /* set around link_* calls: callbacks must not run then */
UNUSED static bool refuse;
UNUSED static unsigned admitted;

UNUSED static void on_up(struct link *l, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	x->l = l;
	x->ups++;
}

UNUSED static void on_json(struct link *l, const char *text, size_t n, void *arg)
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

UNUSED static void on_data(struct link *l, const struct data_header *h, const char *p, size_t n, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	assert_int_equal(h->offset, x->data_bytes);
	if (n > 0)
		assert_int_equal((uint8_t)p[n - 1], (uint8_t)(h->offset >> 18));
	x->data_bytes += n;
}

UNUSED static void on_drain(struct link *l, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	x->drains++;
}

UNUSED static void on_down(struct link *l, const char *why, void *arg)
{
	struct end *x = arg;

	assert_false(in_call);
	x->l = NULL;
	x->downs++;
	snprintf(x->why, sizeof(x->why), "%s", why);
}

UNUSED static void on_bad(struct link *l, int error, const char *why, void *arg)
{
	char text[256];
	int n = snprintf(text, sizeof(text), "%d: %s", error, why);

	assert_int_equal(link_send_json(l, text, (size_t)n), 0);
}

UNUSED static const struct link_callbacks callbacks = {
	.on_up = on_up, .on_json = on_json, .on_data = on_data, .on_drain = on_drain, .on_down = on_down,
};
UNUSED static const struct link_callbacks polite = {
	.on_up = on_up, .on_json = on_json, .on_down = on_down, .on_bad = on_bad,
};
UNUSED static const struct link_callbacks control = {
	.on_up = on_up, .on_json = on_json, .on_down = on_down,
};

UNUSED static bool admit(void *arg, struct link *l, const struct link_who *who,
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

UNUSED static struct tls_context *identity(const char *name)
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

UNUSED static int set_up_all(void **state)
{
	log_setup("test", LOG_LVL_ERROR);
	snprintf(dir, sizeof(dir), "/tmp/na-link-XXXXXX");
	assert_non_null(mkdtemp(dir));
	tls_a = identity("a");
	tls_b = identity("b");
	return 0;
}

UNUSED static int tear_down_all(void **state)
{
	char cmd[128];

	tls_context_destroy(tls_a);
	tls_context_destroy(tls_b);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

UNUSED static int set_up(void **state)
{
	memset(&dialer, 0, sizeof(dialer));
	memset(&acceptor, 0, sizeof(acceptor));
	listener = NULL;
	refuse = false;
	admitted = 0;
	port = 0;
	return uv_loop_init(&loop);
}

UNUSED static int tear_down(void **state)
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

UNUSED static void listen_tls(unsigned max_pending)
{
	struct err e = { 0 };

	if (link_listen_tls(&loop, tls_b, "127.0.0.1", &port, max_pending, admit, NULL, &listener, &e) < 0)
		fail_msg("%s", e.text);
}

/* Accepted links get these callbacks. */
UNUSED static void listen_unix_for(const struct link_callbacks *cb)
{
	char path[128];
	struct err e = { 0 };

	snprintf(path, sizeof(path), "%s/sock", dir);
	if (link_listen_unix(&loop, path, 0600, admit, (void *)(uintptr_t)cb, &listener, &e) < 0)
		fail_msg("%s", e.text);
}

UNUSED static void listen_unix(void)
{
	listen_unix_for(&callbacks);
}

UNUSED static void dial_tls(const uint8_t *pin, uint32_t deadline)
{
	in_call = true;
	dialer.l = link_dial_tls(&loop, tls_a, "127.0.0.1", port, pin, deadline, &callbacks, &dialer);
	in_call = false;
	assert_non_null(dialer.l);
}

UNUSED static void dial_unix(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/sock", dir);
	in_call = true;
	dialer.l = link_dial_unix(&loop, path, &callbacks, &dialer);
	in_call = false;
}

UNUSED static void on_tick(uv_timer_t *t)
{
}

/* Runs the loop until *counter reaches n, at most 5 s. */
UNUSED static void wait_for(unsigned *counter, unsigned n)
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

UNUSED static void run_ms(unsigned ms)
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

UNUSED static void connect_tls(void)
{
	listen_tls(8);
	dial_tls(tls_own_key(tls_b), 5000);
	wait_for(&acceptor.ups, 1);
	assert_int_equal(dialer.ups, 1);
}

UNUSED static void connect_unix(void)
{
	listen_unix();
	dial_unix();
	wait_for(&acceptor.ups, 1);
	wait_for(&dialer.ups, 1);
}

UNUSED static int raw_connect(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

UNUSED static bool closed_by_peer(int fd)
{
	char b[4096];
	ssize_t n;

	while ((n = recv(fd, b, sizeof(b), MSG_DONTWAIT)) > 0)
		;
	return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

#endif
