/* test_store.c - what is answered is on disk; groups commit in order; a full disk is survived */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sqlite3.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/store.h"

#define TEST(name) static void name(void **state)
#define ANSWERS 4096

static char dir[64];
static uv_loop_t loop;
static struct store *store;
static unsigned answers;
static uint64_t tickets[ANSWERS];
static int errors[ANSWERS];
static char last_text[256];
static unsigned want;
static atomic_bool no_sync; /* a disk that takes what is written, and fails to sync it */

/* In place of libc's, for SQLite. */
int fdatasync(int fd)
{
	if (!no_sync)
		return (int)syscall(SYS_fdatasync, fd);
	errno = EIO;
	return -1;
}

int fsync(int fd)
{
	return fdatasync(fd);
}

static void on_done(void *arg, uint64_t ticket, int error, const char *text)
{
	tickets[answers] = ticket;
	errors[answers] = error;
	snprintf(last_text, sizeof(last_text), "%s", text ? text : "");
	if (++answers == want)
		uv_stop(&loop);
}

static void open_store(void)
{
	struct err e = { 0 };

	answers = 0;
	if (store_open(dir, true, &store, &e) < 0 || store_start(store, &loop, on_done, NULL, &e) < 0)
		fail_msg("%s", e.text);
}

static void close_store(void)
{
	store_close(store);
	store = NULL;
	uv_run(&loop, UV_RUN_DEFAULT);
}

static int set_up(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/na-store-XXXXXX");
	assert_non_null(mkdtemp(dir));
	uv_loop_init(&loop);
	open_store();
	return 0;
}

static int tear_down(void **state)
{
	char cmd[128];

	close_store();
	assert_int_equal(uv_loop_close(&loop), 0);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

static void on_tick(uv_timer_t *t)
{
	fail_msg("no answer within 10 s");
}

static void wait_answers(unsigned n)
{
	uv_timer_t t;

	uv_timer_init(&loop, &t);
	uv_timer_start(&t, on_tick, 10000, 0);
	want = n;
	if (answers < n)
		uv_run(&loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&t, NULL);
	uv_run(&loop, UV_RUN_NOWAIT);
	assert_int_equal(answers, n);
}

static void put(uint64_t ticket, enum store_table t, const char *key, const char *json)
{
	struct store_row row = { .table = t, .key = key, .json = json, .len = json ? strlen(json) : 0 };

	assert_int_equal(store_write(store, ticket, &row, 1), 0);
}

struct seen {
	unsigned n[5];
	char last[64];
};

static int on_row(void *arg, enum store_table t, const char *key, const char *json, size_t len,
		  struct err *e)
{
	struct seen *s = arg;

	assert_int_equal(strlen(json), len);
	s->n[t]++;
	snprintf(s->last, sizeof(s->last), "%s=%s", key, json);
	return 0;
}

static struct seen reopen(void)
{
	struct seen seen = { 0 };
	struct err e = { 0 };

	close_store();
	assert_int_equal(store_open(dir, false, &store, &e), 0);
	assert_int_equal(store_each(store, on_row, &seen, &e), 0);
	assert_int_equal(store_start(store, &loop, on_done, NULL, &e), 0);
	answers = 0;
	return seen;
}

TEST(what_was_answered_is_there_after_a_reopen)
{
	struct seen seen;

	put(1, TABLE_NODE, "gpu1", "{\"a\":1}");
	put(2, TABLE_NODE, "gpu2", "{}");
	put(3, TABLE_JOB, "7", "{}");
	put(4, TABLE_NODE, "gpu2", NULL);
	put(5, TABLE_NODE, "gpu1", "{\"a\":2}");
	wait_answers(5);
	seen = reopen();
	assert_int_equal(seen.n[TABLE_NODE], 1);
	assert_int_equal(seen.n[TABLE_JOB], 1);
	put(6, TABLE_JOB, "7", NULL);
	wait_answers(1);
	seen = reopen();
	assert_string_equal(seen.last, "gpu1={\"a\":2}");
}

TEST(many_writes_share_commits_and_are_answered_in_order)
{
	char key[16];

	for (uint64_t i = 0; i < 2000; i++) {
		snprintf(key, sizeof(key), "%d", (int)i);
		put(100 + i, TABLE_JOB, key, "{}");
	}
	wait_answers(2000);
	for (uint64_t i = 0; i < 2000; i++) {
		assert_int_equal(tickets[i], 100 + i);
		assert_int_equal(errors[i], 0);
	}
	assert_true(store_commits(store) < 200);
	print_message("2000 writes in %u commits\n", (unsigned)store_commits(store));
}

/* As act_row() leaves a message that breaks its own limits. */
TEST(a_row_that_could_not_be_written_down_fails_with_all_beside_it)
{
	struct actions acts;
	struct action *bad, *good;
	struct msg job, token;

	actions_init(&acts);
	bad = act_add(&acts, ACT_PERSIST);
	bad->ticket = 1;
	msg_init(&job, MSG_row_job); /* most of what it must have is missing */
	msg_init(&token, MSG_row_cluster);
	token.u.row_cluster.cluster = "lab";
	token.u.row_cluster.lineage = 42;
	token.u.row_cluster.next_job = 1;
	act_row(&acts, bad, TABLE_CLUSTER, "beside", &token);
	act_row(&acts, bad, TABLE_JOB, "7", &job);
	assert_int_equal(acts.invalid, 1);
	assert_false(acts.failed);
	assert_int_equal(store_write(store, 1, bad->rows, bad->n_rows), 0);
	good = act_add(&acts, ACT_PERSIST);
	act_row(&acts, good, TABLE_CLUSTER, "after", &token);
	assert_int_equal(store_write(store, 2, good->rows, good->n_rows), 0);
	actions_finish(&acts);
	wait_answers(2);
	assert_int_equal(tickets[0], 1);
	assert_int_equal(errors[0], -EINVAL);
	assert_int_equal(tickets[1], 2);
	assert_int_equal(errors[1], 0);
}

TEST(an_empty_transaction_is_answered)
{
	assert_int_equal(store_write(store, 9, NULL, 0), 0);
	wait_answers(1);
	assert_int_equal(errors[0], 0);
}

TEST(what_is_queued_at_close_is_kept)
{
	struct seen seen;

	put(1, TABLE_TOKEN, "t", "{}");
	seen = reopen();
	assert_int_equal(seen.n[TABLE_TOKEN], 1);
}

TEST(a_full_disk_is_told_and_survived)
{
	char *big = malloc(400001);

	memset(big, 'x', 400000);
	big[400000] = '\0';
	put(1, TABLE_JOB, "1", "{}");
	wait_answers(1);
	store_limit_pages(store, 20);
	put(2, TABLE_JOB, "2", big);
	wait_answers(2);
	assert_int_equal(errors[1], -ENOSPC);
	assert_non_null(strstr(last_text, "the disk is full"));

	/* A small neighbour of the same group is not taken down. */
	put(3, TABLE_JOB, "3", big);
	put(4, TABLE_JOB, "4", "{}");
	wait_answers(4);
	assert_int_equal(errors[2], -ENOSPC);
	assert_int_equal(errors[3], 0);

	store_limit_pages(store, 0);
	put(5, TABLE_JOB, "2", big);
	wait_answers(5);
	assert_int_equal(errors[4], 0);
	assert_int_equal(reopen().n[TABLE_JOB], 3);
	free(big);
}

TEST(a_second_coordinator_is_refused_by_pid)
{
	struct store *second = NULL;
	struct err e = { 0 };
	char pid[32];

	assert_int_equal(store_open(dir, false, &second, &e), -EBUSY);
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	assert_non_null(strstr(e.text, pid));
}

TEST(a_database_that_is_absent_or_newer_or_rubbish_is_refused)
{
	struct store *s = NULL;
	struct err e = { 0 };
	char cmd[256];

	close_store();
	snprintf(cmd, sizeof(cmd), "mkdir %s/x", dir);
	assert_int_equal(system(cmd), 0);
	snprintf(cmd, sizeof(cmd), "%s/x", dir);
	assert_int_equal(store_open(cmd, false, &s, &e), -ENOENT);
	assert_non_null(strstr(e.text, "nodeagentd init"));
	snprintf(cmd, sizeof(cmd), "head -c 8192 /dev/urandom > %s/x/state.db", dir);
	assert_int_equal(system(cmd), 0);
	snprintf(cmd, sizeof(cmd), "%s/x", dir);
	assert_int_equal(store_open(cmd, false, &s, &e), -EUCLEAN);
	open_store();
}

TEST(a_database_of_before_a_table_was_added_gets_it)
{
	char path[PATH_MAX];
	sqlite3 *sql;

	close_store();
	snprintf(path, sizeof(path), "%s/state.db", dir);
	assert_int_equal(sqlite3_open(path, &sql), SQLITE_OK);
	assert_int_equal(sqlite3_exec(sql, "DROP TABLE revoked; DROP TABLE base", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(sql);
	open_store();
	put(1, TABLE_REVOKED, "ab", "{}");
	wait_answers(1);
	assert_int_equal(errors[0], 0);
	assert_int_equal(reopen().n[TABLE_REVOKED], 1);
}

/* The process dies right after the answer: the row is there. */
TEST(an_answered_write_survives_a_sudden_death)
{
	int status;
	pid_t pid;

	close_store();
	pid = fork();
	if (pid == 0) {
		uv_loop_fork(&loop);
		open_store();
		put(1, TABLE_NODE, "n", "{}");
		wait_answers(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	open_store();
	assert_int_equal(reopen().n[TABLE_NODE], 1);
}

static void on_pause(uv_timer_t *t)
{
	uv_stop(&loop);
}

static void pause_ms(uint64_t ms)
{
	uv_timer_t t;

	uv_timer_init(&loop, &t);
	uv_timer_start(&t, on_pause, ms, 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&t, NULL);
	uv_run(&loop, UV_RUN_NOWAIT);
}

/* In a process that dies: one write, then one whose sync fails. */
static void in_a_process_of_its_own(void (*f)(void))
{
	int status;
	pid_t pid;

	close_store();
	pid = fork();
	if (pid == 0) {
		uv_loop_fork(&loop);
		open_store();
		put(1, TABLE_NODE, "n", "{}");
		wait_answers(1);
		no_sync = true;
		put(2, TABLE_JOB, "7", "{}");
		pause_ms(200);
		f();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	open_store();
}

static void it_syncs_again(void)
{
	if (answers != 1)
		_exit(1);
	no_sync = false;
	wait_answers(2);
	if (tickets[1] != 2 || errors[1] != -EIO)
		_exit(2);
}

/* SQLite has written it, and would find it when it reads the file again. */
TEST(a_write_whose_sync_failed_is_answered_when_something_else_is_in_its_place)
{
	in_a_process_of_its_own(it_syncs_again);
	assert_int_equal(reopen().n[TABLE_JOB], 0);
}

static void another_write_follows(void)
{
	no_sync = false;
	put(3, TABLE_NODE, "n2", "{}");
	wait_answers(3);
	if (tickets[1] != 2 || errors[1] != -EIO || tickets[2] != 3 || errors[2] != 0)
		_exit(2);
}

TEST(a_write_that_follows_one_whose_sync_failed_takes_its_place)
{
	struct seen seen;

	in_a_process_of_its_own(another_write_follows);
	seen = reopen();
	assert_int_equal(seen.n[TABLE_JOB], 0);
	assert_int_equal(seen.n[TABLE_NODE], 2);
}

static void nothing_is_said(void)
{
	pause_ms(1500);
	if (answers != 1)
		_exit(1);
}

TEST(a_write_whose_sync_fails_again_and_again_may_be_found_and_was_not_refused)
{
	in_a_process_of_its_own(nothing_is_said);
	assert_int_equal(reopen().n[TABLE_NODE], 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_was_answered_is_there_after_a_reopen),
		T(many_writes_share_commits_and_are_answered_in_order),
		T(a_row_that_could_not_be_written_down_fails_with_all_beside_it),
		T(an_empty_transaction_is_answered),
		T(what_is_queued_at_close_is_kept),
		T(a_full_disk_is_told_and_survived),
		T(a_second_coordinator_is_refused_by_pid),
		T(a_database_that_is_absent_or_newer_or_rubbish_is_refused),
		T(a_database_of_before_a_table_was_added_gets_it),
		T(an_answered_write_survives_a_sudden_death),
		T(a_write_whose_sync_failed_is_answered_when_something_else_is_in_its_place),
		T(a_write_that_follows_one_whose_sync_failed_takes_its_place),
		T(a_write_whose_sync_fails_again_and_again_may_be_found_and_was_not_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
