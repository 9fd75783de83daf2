/* test_fix_sm.c - who may have root restart the subnet manager: nobody, until root's own file says so */
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

#include "launcher/fix_sm.h"

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static char dir[64], file[80], away[80];
static struct policy policy = { .fix_sm = file };

static int setup(void **state)
{
	snprintf(dir, sizeof dir, "/tmp/test_fix_sm.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof file, "%s/allow", dir);
	snprintf(away, sizeof away, "%s/else", dir);
	return 0;
}

static int teardown(void **state)
{
	remove(file);
	remove(away);
	return rmdir(dir);
}

static void make(const char *path, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static struct launcher_request request(void)
{
	return (struct launcher_request){ .version = LAUNCHER_VERSION, .op = LAUNCHER_FIX_SM, .id = 7, .nprocs = SM_OPENSM };
}

static void refused(int code, const char *words)
{
	struct err e = { 0 };

	assert_int_equal(fix_sm_allowed(&policy, &e), -code);
	if (!strstr(e.text, words))
		fail_msg("'%s' is not in '%s'", words, e.text);
}

static void malformed(const struct launcher_request *q)
{
	struct err e = { 0 };

	assert_int_equal(fix_sm_formed(q, &e), -EINVAL);
	assert_non_null(strstr(e.text, "malformed"));
}

static void the_request_is_three_numbers_and_nothing_else(void **state)
{
	struct launcher_request q = request();
	uint32_t *const numbers[] = { &q.attempt, &q.uid };

	make(file, 0644); /* that it is allowed makes nothing of these well-formed */
	for (uint32_t unit = 0; unit < 5; unit++) {
		q.nprocs = unit;
		if (!sm_unit_name(unit))
			malformed(&q);
	}
	q.nprocs = UINT32_MAX;
	malformed(&q);
	q = request();
	q.rank_base = 4;
	malformed(&q);
	for (size_t i = 0; i < 2; i++) {
		q = request();
		*numbers[i] = 1;
		malformed(&q);
	}
	q = request();
	q.user[sizeof q.user - 1] = 'x';
	malformed(&q);
	q = request();
	q.cookie[0] = 'a';
	malformed(&q);
}

static void without_the_file_nobody_may(void **state)
{
	refused(EPERM, "is not allowed on this node; root allows it there with: touch /tmp/test_fix_sm.");
	assert_int_equal(mkdir(file, 0700), 0);
	refused(EPERM, "must be a file that only root can change");
}

static void a_link_or_a_file_that_others_can_change_allows_nothing(void **state)
{
	make(away, 0644);
	assert_int_equal(symlink(away, file), 0);
	refused(EPERM, "must be a file that only root can change");
	remove(file);
	make(file, 0664);
	refused(EPERM, "must be a file that only root can change");
	chmod(file, 0646);
	refused(EPERM, "must be a file that only root can change");
}

static void a_file_that_is_not_roots_allows_nothing(void **state)
{
	make(file, 0644);
	if (geteuid() == 0)
		assert_int_equal(chown(file, 65534, 0), 0);
	refused(EPERM, "must be a file that only root can change");
}

static void a_directory_that_others_can_change_allows_nothing(void **state)
{
	if (geteuid() != 0)
		skip();
	make(file, 0644);
	chmod(dir, 0777);
	refused(EPERM, "can be changed by others");
	chmod(dir, 0755);
	assert_int_equal(chown(dir, 65534, 0), 0);
	refused(EPERM, "can be changed by others");
}

static void roots_own_file_allows_it(void **state)
{
	struct launcher_request q = request();
	struct err e;

	if (geteuid() != 0)
		skip();
	make(file, 0644);
	assert_int_equal(fix_sm_allowed(&policy, &e), 0);
	q.rank_base = 1 | LAUNCHER_FIX_TELL;
	q.nprocs = SM_OPENSMD;
	q.job = 77;
	assert_int_equal(fix_sm_formed(&q, &e), 0);
	remove(file); /* taken back at once */
	refused(EPERM, "is not allowed");
}

static void the_last_order_is_remembered_with_its_first_answer(void **state)
{
	struct launcher_request q = request(), other = request();
	struct err e;

	q.job = 77;
	other.job = 78;
	assert_null(fix_sm_past(77));
	fix_sm_end(&q, 0, 0, "has not begun");
	assert_null(fix_sm_past(77));
	assert_int_equal(fix_sm_begin(&q, (mono_t){ 0 }, &e), 0);
	assert_null(fix_sm_past(77));
	fix_sm_end(&other, 0, 0, "another");
	assert_null(fix_sm_past(77));
	fix_sm_end(&q, ETIME, 256, "late");
	fix_sm_end(&q, 0, 0, "again");
	assert_int_equal(fix_sm_past(77)->error, ETIME);
	assert_int_equal(fix_sm_past(77)->result, 256);
	assert_string_equal(fix_sm_past(77)->text, "late");
	assert_null(fix_sm_past(0));
	assert_null(fix_sm_past(78));
}

static void no_more_than_three_in_ten_minutes(void **state)
{
	const mono_t t = { (int64_t)5000 * 1000000000 }; /* later than the other tests' */
	struct launcher_request q = request();
	struct err e = { 0 };

	for (int i = 0; i < 3; i++)
		assert_int_equal(fix_sm_begin(&q, mono_add_ms(t, i * 100000), &e), 0);
	assert_int_equal(fix_sm_begin(&q, mono_add_ms(t, 300000), &e), -EBUSY);
	assert_non_null(strstr(e.text, "3 times in the last 10 minutes"));
	assert_non_null(strstr(e.text, "may be tried again in 300 s"));
	assert_int_equal(fix_sm_begin(&q, mono_add_ms(t, 599000), &e), -EBUSY);
	assert_int_equal(fix_sm_begin(&q, mono_add_ms(t, 600000), &e), 0); /* refused ones do not count */
	assert_int_equal(fix_sm_begin(&q, mono_add_ms(t, 600001), &e), -EBUSY);
}

static void there_are_two_names(void **state)
{
	assert_string_equal(sm_unit_name(SM_OPENSM), "opensm");
	assert_string_equal(sm_unit_name(SM_OPENSMD), "opensmd");
	assert_null(sm_unit_name(0));
	assert_null(sm_unit_name(3));
	assert_int_equal(sm_unit_of("opensm"), SM_OPENSM);
	assert_int_equal(sm_unit_of("opensmd"), SM_OPENSMD);
	assert_int_equal(sm_unit_of("opensm.service"), 0);
	assert_int_equal(sm_unit_of("../opensm"), 0);
	assert_int_equal(sm_unit_of(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_request_is_three_numbers_and_nothing_else),
		T(without_the_file_nobody_may),
		T(a_link_or_a_file_that_others_can_change_allows_nothing),
		T(a_file_that_is_not_roots_allows_nothing),
		T(a_directory_that_others_can_change_allows_nothing),
		T(roots_own_file_allows_it),
		T(the_last_order_is_remembered_with_its_first_answer),
		T(no_more_than_three_in_ten_minutes),
		T(there_are_two_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
