/* test_specs.c - specifications: stored by hash, found again, checked, forgotten in time */
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
#include <time.h>
#include <unistd.h>

#include "common/base64.h"
#include "io/specs.h"
#include "io/tls.h"
#include "proto/spec.h"

#define TEST(name) static void name(void **state)

static uv_loop_t loop;
static char dir[64];
static struct specs *specs;

#define LI 1000
#define WANG 1001

static struct specs_limits limits;

static struct {
	unsigned calls;
	int rc;
	uint8_t hash[32];
	size_t n;
	char first;
	char text[256];
} seen;

static void done(void *arg, int rc, struct spec_blob *b, const char *text)
{
	seen.calls++;
	seen.rc = rc;
	seen.text[0] = 0;
	if (text != NULL)
		snprintf(seen.text, sizeof(seen.text), "%s", text);
	if (b == NULL)
		return;
	memcpy(seen.hash, b->hash, 32);
	seen.n = b->n;
	seen.first = b->n > 0 ? b->p[0] : 0;
}

static void wait_call(void)
{
	for (unsigned i = 0; seen.calls == 0 && i < 5000; i++)
		uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(seen.calls, 1);
	seen.calls = 0;
}

static void open_store(void)
{
	struct err e;

	assert_int_equal(specs_create(&loop, dir, &limits, &specs, &e), 0);
}

static void close_handle(uv_handle_t *h, void *arg)
{
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

/* What the pool still does. */
static void settle(void)
{
	uv_run(&loop, UV_RUN_DEFAULT);
}

/* As at the agent's end and next start: nothing in memory survives. */
static void close_store(void)
{
	settle();
	uv_walk(&loop, close_handle, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	specs_destroy(specs);
	specs = NULL;
}

static int setup(void **state)
{
	memset(&seen, 0, sizeof(seen));
	limits = (struct specs_limits){ .total = 64 << 20, .user = 32 << 20 };
	snprintf(dir, sizeof(dir), "/tmp/na_specs_XXXXXX");
	assert_non_null(mkdtemp(dir));
	uv_loop_init(&loop);
	open_store();
	return 0;
}

static int teardown(void **state)
{
	char cmd[96];

	if (specs != NULL)
		close_store();
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return uv_loop_close(&loop) + system(cmd);
}

static char *bytes(char c, size_t n)
{
	char *p = malloc(n + 1);

	memset(p, c, n);
	return p;
}

static void store_as(uint32_t uid, char c, size_t n)
{
	specs_store(specs, bytes(c, n), n, uid, done, NULL);
	wait_call();
}

static void store(char c, size_t n)
{
	store_as(LI, c, n);
}

/* As when its client has left and nothing else needs it. */
static void store_and_leave(char c, size_t n)
{
	store(c, n);
	specs_release(specs, seen.hash, true);
	settle();
}

static void path_of(const uint8_t hash[32], char out[256])
{
	char name[65];

	hex_encode(name, hash, 32);
	snprintf(out, 256, "%s/specs/%s.%d", dir, name, LI);
}

static bool is_there(const uint8_t hash[32])
{
	char path[256];

	path_of(hash, path);
	return access(path, F_OK) == 0;
}

TEST(what_is_stored_lies_under_its_hash_for_its_owner_only)
{
	uint8_t want[32];
	char path[256], *p = bytes('a', 5000);
	struct stat st;

	tls_sha256(p, 5000, want);
	free(p);
	store('a', 5000);
	assert_int_equal(seen.rc, 0);
	assert_memory_equal(seen.hash, want, 32);
	path_of(want, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 5000);
	assert_int_equal(st.st_mode & 0777, 0600);
}

TEST(it_is_found_in_memory_and_after_a_restart)
{
	uint8_t hash[32];

	store('b', 100000);
	memcpy(hash, seen.hash, 32);
	specs_load(specs, hash, done, NULL);
	wait_call();
	assert_int_equal(seen.rc, 0);
	close_store();
	open_store();
	seen.n = 0;
	specs_load(specs, hash, done, NULL);
	wait_call();
	assert_int_equal(seen.rc, 0);
	assert_int_equal(seen.n, 100000);
	assert_int_equal(seen.first, 'b');
}

TEST(what_was_never_stored_is_not_there)
{
	uint8_t hash[32] = { 1, 2, 3 };

	specs_load(specs, hash, done, NULL);
	wait_call();
	assert_int_equal(seen.rc, -ENOENT);
	assert_non_null(strstr(seen.text, "No such file"));
}

TEST(a_torn_file_counts_as_absent_and_is_mended_by_the_next_submit)
{
	uint8_t hash[32];
	char path[256];

	store('c', 5000);
	memcpy(hash, seen.hash, 32);
	close_store();
	path_of(hash, path);
	assert_int_equal(truncate(path, 4000), 0);
	open_store();
	specs_load(specs, hash, done, NULL);
	wait_call();
	assert_int_equal(seen.rc, -ENOENT);
	assert_non_null(strstr(seen.text, "damaged"));
	store('c', 5000);
	close_store();
	open_store();
	specs_load(specs, hash, done, NULL);
	wait_call();
	assert_int_equal(seen.rc, 0);
}

TEST(a_symbolic_link_is_not_followed)
{
	uint8_t hash[32] = { 9 };
	char path[256];

	path_of(hash, path);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	close_store();
	open_store();
	specs_load(specs, hash, done, NULL);
	wait_call();
	assert_int_not_equal(seen.rc, 0);
}

TEST(an_empty_one_and_the_largest_are_fine)
{
	store('d', 0);
	assert_int_equal(seen.rc, 0);
	assert_int_equal(seen.n, 0);
	store('e', SPEC_MAX);
	assert_int_equal(seen.rc, 0);
	close_store();
	open_store();
	specs_load(specs, seen.hash, done, NULL);
	wait_call();
	assert_int_equal(seen.n, SPEC_MAX);
}

TEST(stored_twice_it_is_one_file_made_young_again)
{
	struct timespec old[2] = { { 1000000, 0 }, { 1000000, 0 } };
	char path[256];
	struct stat st;

	store('f', 100);
	path_of(seen.hash, path);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	store('f', 100);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_mtime > 1000000);
}

TEST(old_ones_go_when_asked_and_young_and_held_ones_stay)
{
	struct timespec old[2] = { { time(NULL) - 8 * 86400, 0 }, { time(NULL) - 8 * 86400, 0 } };
	char aged[256], young[256];

	store('g', 100);
	path_of(seen.hash, aged);
	store('h', 100);
	path_of(seen.hash, young);
	assert_int_equal(utimensat(AT_FDCWD, aged, old, 0), 0);
	close_store();
	open_store();
	store('g', 100); /* again: it is young now, and held */
	assert_int_equal(utimensat(AT_FDCWD, aged, old, 0), 0);
	specs_drop_old(specs);
	settle();
	assert_int_equal(access(aged, F_OK), 0);
	close_store();
	open_store();
	specs_drop_old(specs);
	settle();
	assert_int_equal(access(aged, F_OK), -1);
	assert_int_equal(access(young, F_OK), 0);
}

TEST(what_is_not_needed_goes_and_what_is_held_stays)
{
	uint8_t hash[32];

	store('l', 100);
	memcpy(hash, seen.hash, 32);
	specs_drop(specs, hash); /* the client is still there: it may submit it */
	settle();
	assert_true(is_there(hash));
	specs_release(specs, hash, false);
	settle();
	assert_false(is_there(hash));
	store_and_leave('m', 100);
	assert_true(is_there(seen.hash)); /* a job needs it */
	specs_drop(specs, seen.hash);
	settle();
	assert_false(is_there(seen.hash));
}

TEST(two_clients_hold_one_file)
{
	store('n', 100);
	store('n', 100);
	specs_release(specs, seen.hash, false);
	settle();
	assert_true(is_there(seen.hash));
	specs_release(specs, seen.hash, false);
	settle();
	assert_false(is_there(seen.hash));
}

TEST(an_order_to_remove_does_not_touch_what_a_younger_one_has_stored)
{
	struct specs_disk *d;
	uint8_t hash[32];
	struct err e;

	assert_int_equal(specs_disk_open(dir, &limits, &d, &e), 0);
	assert_int_equal(specs_disk_store(d, "o", 1, LI, 5, hash, &e), 0);
	specs_disk_release(d, hash);
	specs_disk_drop(d, hash, 4); /* the pool took its time */
	assert_true(is_there(hash));
	specs_disk_keep_only(d, NULL, 0, 4);
	assert_true(is_there(hash));
	specs_disk_drop(d, hash, 6);
	assert_false(is_there(hash));
	specs_disk_close(d);
}

TEST(only_those_that_are_wanted_stay_also_after_a_restart)
{
	uint8_t(*wanted)[32] = malloc(32), p[32], q[32], held[32];

	store('p', 100);
	memcpy(p, seen.hash, 32);
	store('q', 100);
	memcpy(q, seen.hash, 32);
	close_store();
	open_store();
	store('r', 100);
	memcpy(held, seen.hash, 32);
	memcpy(wanted, q, 32);
	specs_keep_only(specs, wanted, 1);
	settle();
	assert_false(is_there(p));
	assert_true(is_there(q));
	assert_true(is_there(held));
}

TEST(one_user_fills_his_own_share_only)
{
	uint8_t first[32];

	limits = (struct specs_limits){ .total = 1 << 20, .user = 100 << 10 };
	close_store();
	open_store();
	store_and_leave('s', 60 << 10);
	memcpy(first, seen.hash, 32);
	store('t', 60 << 10);
	assert_int_equal(seen.rc, -EDQUOT);
	assert_non_null(strstr(seen.text, "specs_user_max"));
	assert_non_null(strstr(seen.text, "0.10 MiB"));
	store('s', 60 << 10); /* the same once more takes no room */
	assert_int_equal(seen.rc, 0);
	specs_release(specs, seen.hash, true);
	store_as(WANG, 't', 60 << 10);
	assert_int_equal(seen.rc, 0);
	specs_drop(specs, first);
	settle();
	store('u', 60 << 10);
	assert_int_equal(seen.rc, 0);
}

TEST(whose_files_are_whose_is_known_after_a_restart)
{
	limits = (struct specs_limits){ .total = 1 << 20, .user = 100 << 10 };
	close_store();
	open_store();
	store('v', 60 << 10);
	close_store();
	open_store();
	store_as(WANG, 'w', 60 << 10);
	assert_int_equal(seen.rc, 0);
	store('x', 60 << 10);
	assert_int_equal(seen.rc, -EDQUOT);
}

TEST(all_users_together_have_a_limit_and_small_files_count_as_blocks)
{
	limits = (struct specs_limits){ .total = 16 << 10, .user = 12 << 10 };
	close_store();
	open_store();
	for (char c = 'a'; c < 'd'; c++) {
		store(c, 1);
		assert_int_equal(seen.rc, 0);
	}
	store('d', 1);
	assert_int_equal(seen.rc, -EDQUOT);
	store_as(WANG, 'e', 1);
	assert_int_equal(seen.rc, 0);
	store_as(WANG, 'f', 1);
	assert_int_equal(seen.rc, -EDQUOT);
	assert_non_null(strstr(seen.text, "(specs_max)"));
}

TEST(what_0_1_has_stored_is_found_and_removed)
{
	uint8_t hash[32];
	char now[256], then[256];

	store('y', 5000);
	memcpy(hash, seen.hash, 32);
	close_store();
	path_of(hash, now);
	snprintf(then, sizeof(then), "%.*s", (int)(strrchr(now, '.') - now), now);
	assert_int_equal(rename(now, then), 0);
	open_store();
	specs_load(specs, hash, done, NULL);
	wait_call();
	assert_int_equal(seen.rc, 0);
	specs_drop(specs, hash);
	settle();
	assert_int_equal(access(then, F_OK), -1);
}

static void collect(void *arg, const uint8_t hash[32])
{
	memcpy(arg, hash, 32);
	seen.calls++;
}

TEST(what_lies_there_is_found_at_the_start)
{
	uint8_t stored[32], found[32] = { 0 };

	store('m', 100);
	memcpy(stored, seen.hash, 32);
	close_store();
	open_store();
	specs_each(specs, collect, found);
	assert_int_equal(seen.calls, 1);
	assert_memory_equal(found, stored, 32);
}

TEST(what_came_from_elsewhere_must_have_its_hash)
{
	uint8_t hash[32];
	char *p = bytes('i', 100);

	tls_sha256(p, 100, hash);
	specs_verify(specs, p, 100, hash, done, NULL);
	wait_call();
	assert_int_equal(seen.rc, 0);
	specs_verify(specs, bytes('j', 100), 100, hash, done, NULL);
	wait_call();
	assert_int_equal(seen.rc, -EBADMSG);
	hash[0] ^= 1;
	specs_load(specs, hash, done, NULL); /* and was not put anywhere */
	wait_call();
	assert_int_equal(seen.rc, -ENOENT);
}

TEST(a_full_disk_is_told_and_leaves_nothing)
{
	char path[160];

	if (geteuid() == 0)
		skip(); /* root writes anywhere */
	snprintf(path, sizeof(path), "%s/specs", dir);
	chmod(path, 0500);
	store('k', 100);
	assert_int_not_equal(seen.rc, 0);
	assert_non_null(strstr(seen.text, "cannot store the specification"));
	chmod(path, 0700);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(what_is_stored_lies_under_its_hash_for_its_owner_only),
		T(it_is_found_in_memory_and_after_a_restart),
		T(what_was_never_stored_is_not_there),
		T(a_torn_file_counts_as_absent_and_is_mended_by_the_next_submit),
		T(a_symbolic_link_is_not_followed),
		T(an_empty_one_and_the_largest_are_fine),
		T(stored_twice_it_is_one_file_made_young_again),
		T(old_ones_go_when_asked_and_young_and_held_ones_stay),
		T(what_is_not_needed_goes_and_what_is_held_stays),
		T(two_clients_hold_one_file),
		T(an_order_to_remove_does_not_touch_what_a_younger_one_has_stored),
		T(only_those_that_are_wanted_stay_also_after_a_restart),
		T(one_user_fills_his_own_share_only),
		T(whose_files_are_whose_is_known_after_a_restart),
		T(all_users_together_have_a_limit_and_small_files_count_as_blocks),
		T(what_0_1_has_stored_is_found_and_removed),
		T(what_lies_there_is_found_at_the_start),
		T(what_came_from_elsewhere_must_have_its_hash),
		T(a_full_disk_is_told_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
