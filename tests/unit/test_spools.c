/* test_spools.c - the spool directory: what lies there, what of it goes, and how it goes */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/spools_disk.h"

#define TEST(name) static void name(void **state)

static char dir[64];
static int root;

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/na_spools_XXXXXX");
	assert_non_null(mkdtemp(dir));
	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return root < 0;
}

static int teardown(void **state)
{
	char cmd[96];

	close(root);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

/* A directory with so many KiB in a file, last written then. */
static void make(const char *name, unsigned kib, time_t at)
{
	const struct timespec times[2] = { { .tv_sec = at }, { .tv_sec = at } };
	static char block[1024];
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(mkdir(path, 0750), 0);
	snprintf(path, sizeof(path), "%s/%s/0.out", dir, name);
	fd = open(path, O_WRONLY | O_CREAT, 0640);
	for (unsigned i = 0; i < kib; i++)
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool there(const char *name)
{
	struct stat st;

	return fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* "4 7" for the jobs that go, in order. */
static const char *going(const struct spool_list *l)
{
	static char out[128];
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].goes)
			n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%u", n ? " " : "", (unsigned)l->v[i].job);
	return out;
}

TEST(names_are_read_strictly)
{
	static const struct {
		const char *name;
		enum spool_kind kind;
	} rows[] = {
		{ "1.1", SPOOL_ATTEMPT },     { "18446744073709551615.65535", SPOOL_ATTEMPT },
		{ "1.1.gone", SPOOL_GONE },   { "1.1.old-123", SPOOL_ASIDE },
		{ "18446744073709551616.1", SPOOL_NONE }, { "01.1", SPOOL_NONE },
		{ "1.", SPOOL_NONE },	      { ".1", SPOOL_NONE },
		{ "1", SPOOL_NONE },	      { "1.1.", SPOOL_NONE },
		{ "1.1.old-", SPOOL_NONE },   { "1.1.old-1x", SPOOL_NONE },
		{ "1.1.gone2", SPOOL_NONE },  { "lost+found", SPOOL_NONE },
		{ "", SPOOL_NONE },	      { "1.1x", SPOOL_NONE },
	};
	uint64_t job;
	uint32_t attempt;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(spool_parse_name(rows[i].name, &job, &attempt), rows[i].kind);
}

TEST(the_oldest_go_until_all_fits_and_what_lives_stays)
{
	const struct spool_live live[] = { { 1, 1 } };
	struct spool_list l;

	make("1.1", 400, 100); /* the oldest, but alive */
	make("2.1", 400, 400);
	make("3.1", 400, 200);
	make("4.1", 400, 300);
	make("not-ours", 400, 1);
	assert_int_equal(spools_scan(dir, live, 1, NULL, &l), 0);
	assert_int_equal(l.n, 4);
	assert_true(l.v[0].live);
	assert_true(l.v[0].bytes >= 400 * 1024 && l.v[0].bytes < 500 * 1024);
	assert_int_equal(l.v[1].wall_ms, 400000);
	assert_int_equal(spools_choose(&l, 2000 * 1024, 0), 0);
	assert_int_equal(spools_choose(&l, 1300 * 1024, 0), 1);
	assert_string_equal(going(&l), "3");
	assert_int_equal(spools_choose(&l, 900 * 1024, 0), 2);
	assert_string_equal(going(&l), "3 4");
	assert_int_equal(spools_choose(&l, 0, 0), 3);
	assert_string_equal(going(&l), "2 3 4");
	spools_list_finish(&l);
}

TEST(what_is_too_old_goes_whatever_room_there_is)
{
	const struct spool_live live[] = { { 1, 1 } };
	struct spool_list l;

	make("1.1", 1, 100);
	make("2.1", 1, 100);
	make("3.1", 1, 200);
	make("4.2.old-5", 1, 100);
	make("5.1.gone", 1, 900); /* half removed */
	assert_int_equal(spools_scan(dir, live, 1, NULL, &l), 0);
	assert_int_equal(spools_choose(&l, UINT64_MAX, 150000), 3);
	assert_string_equal(going(&l), "2 4 5");
	spools_list_finish(&l);
}

TEST(what_has_ended_is_not_measured_again)
{
	const struct spool_live live[] = { { 1, 1 } };
	struct spool_list first, second;

	make("1.1", 1, 100);
	make("2.1", 1, 100);
	assert_int_equal(spools_scan(dir, live, 1, NULL, &first), 0);
	first.v[0].bytes = first.v[1].bytes = 77;
	assert_int_equal(spools_scan(dir, live, 0, &first, &second), 0); /* 1.1 has ended since */
	assert_int_not_equal(second.v[0].bytes, 77);
	assert_int_equal(second.v[1].bytes, 77);
	spools_list_finish(&first);
	spools_list_finish(&second);
}

TEST(an_attempt_is_removed_and_nothing_else)
{
	struct err e;

	make("7.1", 1, 1);
	make("7.2", 1, 1);
	make("7.1.old-9", 1, 1);
	make("7.1.gone", 1, 1); /* of a removal that was interrupted */
	assert_int_equal(spool_remove(root, 7, 1, SPOOL_ATTEMPT, &e), 0);
	assert_false(there("7.1"));
	assert_false(there("7.1.gone"));
	assert_true(there("7.2") && there("7.1.old-9"));
	assert_int_equal(spool_remove(root, 7, 1, SPOOL_ATTEMPT, &e), 0); /* twice is harmless */
	assert_int_equal(spool_remove(root, 7, 1, SPOOL_ASIDE, &e), 0);
	assert_false(there("7.1.old-9"));
	assert_true(there("7.2"));
}

TEST(links_are_removed_and_not_followed)
{
	char path[160], target[128];
	struct err e;
	int fd;

	snprintf(target, sizeof(target), "%s/precious", dir);
	fd = open(target, O_WRONLY | O_CREAT, 0600);
	close(fd);
	make("7.1", 1, 1);
	snprintf(path, sizeof(path), "%s/7.1/1.out", dir);
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(spool_remove(root, 7, 1, SPOOL_ATTEMPT, &e), 0);
	assert_true(there("precious"));
	snprintf(path, sizeof(path), "%s/8.1", dir);
	assert_int_equal(symlink(dir, path), 0); /* in place of a spool */
	assert_true(spool_remove(root, 8, 1, SPOOL_ATTEMPT, &e) < 0);
	assert_true(there("precious"));
}

TEST(a_directory_within_stays_and_is_told)
{
	char path[160];
	struct err e;

	make("7.1", 1, 1);
	snprintf(path, sizeof(path), "%s/7.1/sub", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_true(spool_remove(root, 7, 1, SPOOL_ATTEMPT, &e) < 0);
	assert_non_null(strstr(e.text, "7.1.gone"));
	assert_true(there("7.1.gone/sub"));
	assert_false(there("7.1.gone/0.out"));
}

TEST(no_spool_at_all_is_no_error)
{
	struct spool_list l;

	assert_int_equal(spools_scan("/tmp/na_spools_none", NULL, 0, NULL, &l), 0);
	assert_int_equal(l.n, 0);
	assert_int_equal(spools_choose(&l, 0, 1), 0);
	assert_true(spools_default_limit(dir) > 0);
	assert_int_equal(spools_default_limit("/tmp/na_spools_none"), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(names_are_read_strictly),
		T(the_oldest_go_until_all_fits_and_what_lives_stays),
		T(what_is_too_old_goes_whatever_room_there_is),
		T(what_has_ended_is_not_measured_again),
		T(an_attempt_is_removed_and_nothing_else),
		T(links_are_removed_and_not_followed),
		T(a_directory_within_stays_and_is_told),
		T(no_spool_at_all_is_no_error),
	};

	return cmocka_run_group_tests_name("spools", tests, NULL, NULL);
}
