/* test_spawn.c - what is remembered of programs that were started */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/proc.h"
#include "io/spawn.h"

#define TEST(name) static void name(void **state)

TEST(notes_of_what_was_started_go_with_it)
{
	char *argv[] = { (char *)"true", NULL }, *env[] = { NULL };
	struct proc_id last = { 0 };
	struct err e;

	for (int i = 0; i < 400; i++) {
		assert_int_equal(spawn_program("/bin/true", argv, env, NULL, 0, 0, 0, &last.pid, &e), 0);
		assert_int_equal(proc_start_time(last.pid, &last.start_time), 0);
		assert_true(spawn_is_ours(last.pid, last.start_time));
		waitpid(last.pid, NULL, 0);
		assert_true(spawn_notes() <= 64);
	}
	assert_false(spawn_is_ours(last.pid, last.start_time + 1));
	assert_false(spawn_is_ours(getpid(), 1));
}

TEST(notes_of_what_lives_are_kept)
{
	char *argv[] = { (char *)"sleep", (char *)"100", NULL }, *env[] = { NULL };
	struct proc_id all[150];
	struct err e;

	for (int i = 0; i < 150; i++) {
		assert_int_equal(spawn_program("/bin/sleep", argv, env, NULL, 0, 0, 0, &all[i].pid, &e), 0);
		assert_int_equal(proc_start_time(all[i].pid, &all[i].start_time), 0);
	}
	for (int i = 0; i < 150; i++) {
		assert_true(spawn_is_ours(all[i].pid, all[i].start_time));
		kill(all[i].pid, SIGKILL);
		waitpid(all[i].pid, NULL, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(notes_of_what_was_started_go_with_it),
		cmocka_unit_test(notes_of_what_lives_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
