/* test_fetch.c - a specification from several nodes that have it, or say so
 *
 * The store and its hashes are the real ones; links to peers are not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "io/bulk_fetch.c"
#include "io/tls.h"

#define TEST(name) static void name(void **state)
#define SIZE 10

static const char good[SIZE + 1] = "train.py 1", bad[SIZE + 1] = "train.py 2";
static const uint8_t own_key[32] = { 0xee };

static struct agent_io io;
static struct bulk bulk;
static char dir[64];
static struct pool_user *user; /* attached now */
static char asked[400]; /* names, in order */

static struct {
	unsigned calls;
	int rc;
	char text[900], bytes[SIZE + 1];
} seen;

/* ---- what is around it ------------------------------------------------------- */

void pool_attach(struct pool *p, const struct rec_peer *peer, struct pool_user *u)
{
	size_t n = strlen(asked);

	assert_null(user);
	user = u;
	snprintf(asked + n, sizeof(asked) - n, "%s%s", n > 0 ? " " : "", peer->node);
}

void pool_detach(struct pool_user *u)
{
	if (user == u)
		user = NULL;
}

struct link *pool_link(const struct pool_user *u)
{
	return NULL;
}

void conn_send(struct link *l, const struct msg *m)
{
	assert_int_equal(m->type, MSG_spec_get);
}

void conn_refuse(struct link *l, uint32_t rid, const char *code, const char *fmt, ...)
{
	fail();
}

struct conn *conn_find(struct agent_io *x, uint64_t id)
{
	return NULL;
}

int link_send_data(struct link *l, const struct data_header *h, const void *p, size_t n)
{
	fail();
	return 0;
}

size_t link_queued(const struct link *l)
{
	return 0;
}

bool bulk_own_key(const struct bulk *b, struct bytes key)
{
	return memcmp(key.p, own_key, 32) == 0;
}

void bulk_copy_peer(struct arena *ar, const struct rec_peer *p, struct rec_peer *ret)
{
	*ret = *p;
}

uint32_t bulk_backoff(uint32_t *delay_ms)
{
	return 20;
}

void bulk_due(struct bulk *b, mono_t at)
{
}

void *agent_alloc(size_t n)
{
	return calloc(1, n);
}

void agent_no_memory(void)
{
	abort();
}

/* ---- a fetch ------------------------------------------------------------------------ */

static void fetched(void *arg, int rc, struct spec_blob *b, const char *text)
{
	seen.calls++;
	seen.rc = rc;
	snprintf(seen.text, sizeof(seen.text), "%s", text != NULL ? text : "");
	if (b != NULL)
		snprintf(seen.bytes, sizeof(seen.bytes), "%.*s", (int)b->n, b->p);
}

static int setup(void **state)
{
	struct specs_limits limits = { 1 << 20, 1 << 20 };
	struct err e;

	strcpy(dir, "/tmp/test_fetch.XXXXXX");
	assert_non_null(mkdtemp(dir));
	memset(&io, 0, sizeof(io));
	uv_loop_init(&io.loop);
	snprintf(io.id.node, sizeof(io.id.node), "self");
	assert_int_equal(specs_create(&io.loop, dir, &limits, &io.specs, &e), 0);
	memset(&bulk, 0, sizeof(bulk));
	bulk.io = &io;
	list_init(&bulk.fetches);
	memset(&seen, 0, sizeof(seen));
	asked[0] = '\0';
	user = NULL;
	return 0;
}

static void close_handle(uv_handle_t *h, void *arg)
{
	uv_close(h, NULL);
}

static int teardown(void **state)
{
	char path[80];

	uv_run(&io.loop, UV_RUN_DEFAULT);
	uv_walk(&io.loop, close_handle, NULL);
	uv_run(&io.loop, UV_RUN_DEFAULT);
	specs_destroy(io.specs);
	snprintf(path, sizeof(path), "%s/specs", dir);
	return rmdir(path) + rmdir(dir) + uv_loop_close(&io.loop);
}

/* Until somebody is asked, or it is over. */
static void wait_for_it(void)
{
	for (unsigned i = 0; user == NULL && seen.calls == 0 && i < 2000; i++) {
		uv_run(&io.loop, UV_RUN_NOWAIT);
		fetch_tick(&bulk, clock_mono());
		usleep(1000);
	}
	assert_true(user != NULL || seen.calls == 1);
}

/* "gpu01" is where it was submitted, "gpu09" has left the cluster; "self" holds a copy, as others believe. */
static void fetch(const char *const *copies, size_t n, bool copies_first, const char *source)
{
	static const uint8_t key[32] = { 1 };
	static struct rec_addr addr = { .ip = "10.0.0.1" };
	struct rec_peer src = { .node = source, .key = { key, 32 }, .addrs = &addr, .n_addrs = 1, .port = 7000 }, v[8];
	uint8_t hash[32];
	struct rec_prepare p = { .job = 1, .spec_hash = { hash, 32 }, .spec_size = SIZE, .source = &src, .n_source = 1,
				 .copies = v, .n_copies = n, .copies_first = copies_first };

	tls_sha256(good, SIZE, hash);
	if (strcmp(source, "gpu09") == 0)
		src.n_addrs = 0;
	for (size_t i = 0; i < n; i++) {
		v[i] = (struct rec_peer){ .node = copies[i], .key = { key, 32 }, .addrs = &addr, .n_addrs = 1 };
		if (strcmp(copies[i], "self") == 0)
			v[i].key.p = own_key;
	}
	bulk_fetch_spec(&bulk, &p, fetched, NULL);
	wait_for_it();
}

static void sends(const char *p, size_t n)
{
	struct data_header h = { .fd = 3, .flags = DATA_EOF };
	struct pool_user *u = user;

	u->ops->up(u);
	u->ops->data(u, &h, p, n);
	wait_for_it();
}

static void refuses(void)
{
	struct pool_user *u = user;
	struct msg m;

	msg_init(&m, MSG_refused);
	m.u.refused.code = "denied";
	m.u.refused.text = "not now";
	u->ops->json(u, &m);
	wait_for_it();
}

static const char *const two[] = { "gpu02", "gpu03" };

TEST(the_first_one_that_has_it_will_do)
{
	fetch(two, 2, false, "gpu01");
	sends(good, SIZE);
	assert_int_equal(seen.rc, 0);
	assert_string_equal(seen.bytes, good);
	assert_string_equal(asked, "gpu01");
}

TEST(who_refuses_is_followed_by_the_next_and_asked_again_later)
{
	fetch(two, 2, true, "gpu01");
	refuses();
	refuses();
	refuses();
	refuses();
	sends(good, SIZE);
	assert_int_equal(seen.rc, 0);
	assert_string_equal(asked, "gpu02 gpu03 gpu01 gpu02 gpu03");
}

TEST(what_has_another_hash_is_not_taken_and_its_sender_not_asked_again)
{
	fetch(two, 2, true, "gpu01");
	sends(bad, SIZE);
	assert_int_equal(seen.calls, 0);
	sends(good, SIZE - 1); /* nor what is too short */
	refuses();
	sends(good, SIZE);
	assert_int_equal(seen.rc, 0);
	assert_string_equal(seen.bytes, good);
	assert_string_equal(asked, "gpu02 gpu03 gpu01 gpu01");
}

TEST(when_all_have_sent_something_else_it_fails)
{
	fetch(two, 1, false, "gpu01");
	sends(bad, SIZE);
	sends(bad, SIZE);
	assert_int_equal(seen.rc, -EBADMSG);
	assert_non_null(strstr(seen.text, SPEC_NOT_FETCHED "gpu02"));
	assert_non_null(strstr(seen.text, "the last of 2"));
	assert_string_equal(asked, "gpu01 gpu02");
}

TEST(who_is_silent_is_left_for_the_next_one)
{
	fetch(two, 2, false, "gpu01");
	user->ops->up(user);
	fetch_tick(&bulk, mono_add_ms(clock_mono(), STUCK_MS - 500));
	assert_string_equal(asked, "gpu01");
	fetch_tick(&bulk, mono_add_ms(clock_mono(), STUCK_MS + 1));
	wait_for_it();
	assert_string_equal(asked, "gpu01 gpu02");
	sends(good, SIZE);
	assert_int_equal(seen.rc, 0);
}

TEST(after_15_s_it_fails_whoever_is_left)
{
	fetch(two, 2, false, "gpu01");
	refuses();
	fetch_tick(&bulk, mono_add_ms(clock_mono(), FETCH_MS + 1));
	assert_int_equal(seen.rc, -ETIMEDOUT);
	assert_non_null(strstr(seen.text, "not now"));
	assert_null(user);
}

TEST(who_has_left_and_oneself_are_not_asked)
{
	static const char *const v[] = { "self", "gpu03" };

	fetch(v, 2, false, "gpu09");
	assert_string_equal(asked, "gpu03");
	sends(good, SIZE);
	assert_int_equal(seen.rc, 0);
}

TEST(with_nobody_left_what_was_found_here_is_told)
{
	fetch(NULL, 0, false, "gpu09");
	assert_int_equal(seen.rc, -ENOENT);
	assert_non_null(strstr(seen.text, SPEC_NOT_FETCHED "self itself"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(the_first_one_that_has_it_will_do),
		T(who_refuses_is_followed_by_the_next_and_asked_again_later),
		T(what_has_another_hash_is_not_taken_and_its_sender_not_asked_again),
		T(when_all_have_sent_something_else_it_fails),
		T(who_is_silent_is_left_for_the_next_one),
		T(after_15_s_it_fails_whoever_is_left),
		T(who_has_left_and_oneself_are_not_asked),
		T(with_nobody_left_what_was_found_here_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
