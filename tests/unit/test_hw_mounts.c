/* test_hw_mounts.c - file systems of interest, how full they are, and one that does not answer */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hw/mounts.h"
#include "tests/unit/tree.h"

#define TEST(name) static void name(void **state)

/* of a host with a dead NFS server, shortened */
static const char table[] =
	"22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n"
	"23 22 0:5 / /dev rw shared:2 - devtmpfs udev rw\n"
	"25 23 0:23 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw\n"
	"31 22 259:1 / /boot/efi rw shared:8 - vfat /dev/nvme0n1p1 rw\n"
	"44 22 0:44 / /data rw,relatime shared:20 - nfs4 192.168.20.14:/data rw,hard\n"
	"45 22 259:2 /home /home rw shared:1 - ext4 /dev/nvme0n1p2 rw\n"
	"46 22 0:50 / /mnt/two\\040words rw - fuse.sshfs li@nas:/ rw\n"
	"47 22 0:51 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n"
	"48 22 0:52\n";

static char root[64], path[96];
static struct arena arena;
static pthread_mutex_t dead = PTHREAD_MUTEX_INITIALIZER; /* held: the server does not answer */

static bool read_only;

static int answer(const char *p, struct statvfs *v)
{
	if (strcmp(p, "/data") == 0) {
		pthread_mutex_lock(&dead);
		pthread_mutex_unlock(&dead);
	}
	if (strcmp(p, "/mnt/two words") == 0) {
		errno = EACCES;
		return -1;
	}
	memset(v, 0, sizeof *v);
	v->f_frsize = 4096;
	v->f_blocks = 1000;
	v->f_bavail = 10;
	v->f_flag = read_only ? ST_RDONLY : 0;
	return 0;
}

TEST(lines_of_mountinfo_are_understood_or_not)
{
	struct mount_entry e;

	assert_true(mountinfo_parse("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw", &e));
	assert_string_equal(e.path, "/mnt2");
	assert_string_equal(e.type, "ext3");
	assert_string_equal(e.device, "98:0");
	assert_true(mount_of_interest(&e));
	assert_true(mountinfo_parse("36 35 98:0 / /a\\040b\\134c rw - xfs /dev/sda rw", &e));
	assert_string_equal(e.path, "/a b\\c");
	assert_false(mountinfo_parse("", &e) || mountinfo_parse("36 35 98:0 / /x rw", &e) || mountinfo_parse("36 35 98:0 / x rw - xfs a b", &e));
	assert_false(mountinfo_parse("1 2 3:4 / /\\000 rw - xfs a b", &e));
	assert_true(mountinfo_parse("1 2 3:4 / /run/user/1 rw - fuse.portal p rw", &e) && !mount_of_interest(&e));
}

TEST(images_and_memory_are_passed_over_but_for_tmp)
{
	static const struct {
		const char *line;
		bool want;
	} v[] = {
		{ "36 35 7:0 / /mnt/image ro,relatime - ext4 /dev/loop0 ro", false }, { "36 35 7:0 / /mnt/data rw,relatime - ext4 /dev/loop0 rw", true },
		{ "36 35 7:0 / /mnt/models ro - nfs4 s:/m ro", true }, /* it may hang */
		{ "36 35 7:0 / /mnt/root row - ext4 /dev/loop0 rw", true }, { "36 35 7:0 / / ro - ext4 /dev/sda ro", true },
		{ "36 35 0:9 / /tmp rw - tmpfs tmpfs rw", true }, { "36 35 0:9 / /var/tmp rw - tmpfs tmpfs rw", true },
		{ "36 35 0:9 / /scratch rw - tmpfs tmpfs rw", false },
	};
	struct mount_entry e;

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		assert_true(mountinfo_parse(v[i].line, &e));
		if (mount_of_interest(&e) != v[i].want)
			fail_msg("%s", v[i].line);
	}
}

static const struct hw_mount *find(const struct hw_host *h, const char *p)
{
	for (size_t i = 0; i < h->n_mounts; i++)
		if (strcmp(h->mounts[i].path, p) == 0)
			return &h->mounts[i];
	return NULL;
}

TEST(one_that_does_not_answer_hangs_and_costs_the_others_nothing)
{
	struct mounts *m = mounts_new();
	struct hw_host h = { 0 };

	mounts_statvfs = answer;
	pthread_mutex_lock(&dead);
	mounts_poll(m, path, &arena, &h);
	assert_int_equal(h.n_mounts, 4); /* /home is the same file system as / */
	assert_int_equal(find(&h, "/")->total.v, 4096000);
	assert_int_equal(find(&h, "/")->available.v, 40960);
	assert_true(find(&h, "/dev/shm")->total.known);
	assert_string_equal(find(&h, "/mnt/two words")->text, "Permission denied");
	assert_false(find(&h, "/data")->hung || find(&h, "/data")->total.known); /* not yet */
	usleep((MOUNT_HUNG_MS + 100) * 1000);
	h = (struct hw_host){ 0 };
	mounts_poll(m, path, &arena, &h);
	assert_true(find(&h, "/data")->hung && find(&h, "/data")->wait_ms >= MOUNT_HUNG_MS);
	assert_false(find(&h, "/")->hung);
	pthread_mutex_unlock(&dead); /* the server is back */
	usleep(100000);
	h = (struct hw_host){ 0 };
	mounts_poll(m, path, &arena, &h);
	assert_true(!find(&h, "/data")->hung && find(&h, "/data")->total.known);
	tree_file(root, "mountinfo", "22 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw");
	h = (struct hw_host){ 0 };
	mounts_poll(m, path, &arena, &h);
	assert_int_equal(h.n_mounts, 1);
	mounts_free(m);
}

/* The squashfs of a live system has no room by its nature. */
TEST(of_one_that_is_read_only_nobody_misses_room)
{
	struct mounts *m = mounts_new();
	struct hw_host h = { 0 };

	mounts_statvfs = answer;
	tree_file(root, "mountinfo", "22 1 7:0 / / ro - squashfs /dev/loop0 ro");
	read_only = true;
	mounts_poll(m, path, &arena, &h);
	read_only = false;
	assert_int_equal(find(&h, "/")->total.v, 4096000);
	assert_false(find(&h, "/")->available.known);
	mounts_free(m);
}

TEST(who_hangs_is_left_alone_when_we_go)
{
	struct mounts *m = mounts_new();
	struct hw_host h = { 0 };

	mounts_statvfs = answer;
	pthread_mutex_lock(&dead);
	mounts_poll(m, path, &arena, &h);
	mounts_free(m);
	pthread_mutex_unlock(&dead);
	usleep(100000); /* it frees what it was given */
}

static int setup(void **state)
{
	tree_make(root);
	tree_file(root, "mountinfo", table);
	snprintf(path, sizeof path, "%s/mountinfo", root);
	arena_init(&arena);
	return 0;
}

static int teardown(void **state)
{
	arena_finish(&arena);
	tree_remove(root);
	return 0;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(images_and_memory_are_passed_over_but_for_tmp),
		CASE(lines_of_mountinfo_are_understood_or_not),
		CASE(one_that_does_not_answer_hangs_and_costs_the_others_nothing),
		CASE(of_one_that_is_read_only_nobody_misses_room),
		CASE(who_hangs_is_left_alone_when_we_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
