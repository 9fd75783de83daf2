/* test_pulse.c - real processes that compute, write, sleep, or are stopped */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/proc.h"
#include "shim/pulse.h"

#define TEST(name) static void name(void **state)
#define PERIOD_MS 300

enum way { SLEEP, SPIN, CHILD_SPINS };

static mono_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_t){ (int64_t)t.tv_sec * 1000000000 + t.tv_nsec };
}

static void spin(void)
{
	for (volatile unsigned long i = 0;; i++)
		;
}

static pid_t start(enum way w)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (w == CHILD_SPINS && fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		spin();
	}
	if (w == SPIN)
		spin();
	while (true)
		pause();
}

static void finish(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static struct pulse_target target(pid_t pid, uint32_t rank)
{
	struct pulse_target t = { .rank = rank, .pid = pid };

	assert_int_equal(proc_start_time(pid, &t.start_time), 0);
	return t;
}

static void wait_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&t, NULL);
}

/* So many looks, one each period; the last one's word. */
static struct rec_rank_pulse after(struct pulse *p, const struct pulse_target *t, unsigned looks)
{
	struct rec_rank_pulse r;

	for (unsigned i = 0; i < looks; i++) {
		pulse_look(p, t, 1, now());
		wait_ms(PERIOD_MS);
	}
	pulse_look(p, t, 1, now());
	assert_int_equal(pulse_list(p, now(), &r, 1), 1);
	return r;
}

TEST(what_counts_as_progress)
{
	assert_false(pulse_is_progress(&(struct pulse_use){ .span_ms = 5000 }));
	assert_false(pulse_is_progress(&(struct pulse_use){ .span_ms = 5000, .cpu_ms = 140, .moved = 100000 }));
	assert_true(pulse_is_progress(&(struct pulse_use){ .span_ms = 5000, .cpu_ms = 150 }));
	assert_true(pulse_is_progress(&(struct pulse_use){ .span_ms = 5000, .disk_written = 1 }));
	assert_true(pulse_is_progress(&(struct pulse_use){ .span_ms = 5000, .disk_read = 4096 }));
	assert_true(pulse_is_progress(&(struct pulse_use){ .span_ms = 5000, .moved = 6000000 }));
}

TEST(a_host_that_writes_back_is_told_from_one_that_does_not)
{
	assert_false(pulse_flushes(1000000, 0)); /* the first look */
	assert_false(pulse_flushes(0, 1000));
	assert_false(pulse_flushes(10, 1000)); /* somebody's log */
	assert_true(pulse_flushes(10000, 1000));
	assert_false(pulse_flushes(1000000, 60000)); /* nobody knows when in that minute */
}

TEST(who_waits_for_files_is_known_by_state_or_place)
{
	assert_true(pulse_waits_for_files('S', "request_wait_answer"));
	assert_true(pulse_waits_for_files('S', "fuse_get_req"));
	assert_true(pulse_waits_for_files('D', "nfs_wait_bit_killable"));
	assert_true(pulse_waits_for_files('D', ""));
	assert_false(pulse_waits_for_files('S', "futex_wait_queue"));
	assert_false(pulse_waits_for_files('S', ""));
}

TEST(one_that_sleeps_is_idle)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	pid_t pid = start(SLEEP);
	struct pulse_target t = target(pid, 3);
	struct rec_rank_pulse r = after(p, &t, 3);

	assert_true(r.rank == 3 && r.pid == (uint32_t)pid && r.procs == 1);
	assert_true(MSG_HAS(&r, rank_pulse, idle_ms) && r.idle_ms >= 2 * PERIOD_MS);
	assert_string_equal(r.state, "S");
	if (r.wchan) /* not in every container */
		assert_true(r.threads && strncmp(r.threads, "1 ", 2) == 0 && strcmp(r.threads + 2, r.wchan) == 0);
	finish(pid);
	pulse_destroy(p);
}

TEST(one_that_computes_is_not)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	pid_t pid = start(SPIN);
	struct pulse_target t = target(pid, 0);
	struct rec_rank_pulse r = after(p, &t, 2);

	assert_false(MSG_HAS(&r, rank_pulse, idle_ms));
	assert_true(r.cpu_permille > 30);
	finish(pid);
	pulse_destroy(p);
}

TEST(what_its_children_do_counts)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	pid_t pid = start(CHILD_SPINS);
	struct pulse_target t = target(pid, 0);
	struct rec_rank_pulse r = after(p, &t, 3);

	assert_int_equal(r.procs, 2);
	assert_false(MSG_HAS(&r, rank_pulse, idle_ms));
	finish(pid);
	pulse_destroy(p);
}

TEST(one_that_is_stopped_is_told_at_once_and_again_when_it_goes_on)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	pid_t pid = start(SPIN);
	struct pulse_target t = target(pid, 0);
	struct rec_rank_pulse r = after(p, &t, 2);

	pulse_told(p, now());
	assert_string_equal(r.state, "R");
	kill(pid, SIGSTOP);
	wait_ms(PERIOD_MS);
	pulse_look(p, &t, 1, now()); /* this one has still seen it compute, perhaps */
	wait_ms(PERIOD_MS);
	assert_true(pulse_look(p, &t, 1, now()));
	pulse_list(p, now(), &r, 1);
	assert_string_equal(r.state, "T");
	assert_true(MSG_HAS(&r, rank_pulse, state_ms) && MSG_HAS(&r, rank_pulse, idle_ms));
	pulse_told(p, now());
	wait_ms(PERIOD_MS);
	assert_false(pulse_look(p, &t, 1, now())); /* nothing new */
	kill(pid, SIGCONT);
	wait_ms(PERIOD_MS);
	assert_true(pulse_look(p, &t, 1, now()));
	pulse_list(p, now(), &r, 1);
	assert_false(MSG_HAS(&r, rank_pulse, state_ms));
	finish(pid);
	pulse_destroy(p);
}

static void write_mb(int n)
{
	static char data[1 << 20];
	FILE *f = fopen("build-pulse.tmp", "w");

	assert_non_null(f);
	unlink("build-pulse.tmp");
	for (int i = 0; i < n; i++)
		assert_int_equal(fwrite(data, sizeof data, 1, f), 1);
	fclose(f);
}

TEST(one_that_writes_to_a_disk_is_not_idle)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	struct pulse_target t = target(getpid(), 0);
	struct rec_rank_pulse r;

	pulse_look(p, &t, 1, now());
	write_mb(8);
	wait_ms(PERIOD_MS);
	pulse_look(p, &t, 1, now());
	pulse_list(p, now(), &r, 1);
	assert_false(MSG_HAS(&r, rank_pulse, idle_ms));
	pulse_destroy(p);
}

static void burn_ms(uint64_t ms)
{
	clock_t end = clock() + (clock_t)(ms * CLOCKS_PER_SEC / 1000);

	while (clock() < end)
		;
}

/* A look at ourselves is CPU of our own: of a second it is little, also where others use the CPUs. */
static struct rec_rank_pulse at_rest(struct pulse *p, const struct pulse_target *t)
{
	struct rec_rank_pulse r = { .pid = 0 };

	for (int i = 0; i < 20 && !MSG_HAS(&r, rank_pulse, idle_ms); i++) {
		pulse_look(p, t, 1, now());
		wait_ms(1000);
		pulse_look(p, t, 1, now());
		pulse_list(p, now(), &r, 1);
	}
	assert_true(MSG_HAS(&r, rank_pulse, idle_ms));
	return r;
}

TEST(one_that_answers_our_question_is_idle_all_the_same)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	struct pulse_target t = target(getpid(), 0);
	struct rec_rank_pulse r = at_rest(p, &t);

	pulse_asked(p, now());
	burn_ms(150);
	write_mb(2);
	pulse_look(p, &t, 1, now());
	burn_ms(600); /* the first one takes its time */
	pulse_answered(p, now());
	pulse_look(p, &t, 1, now());
	pulse_list(p, now(), &r, 1);
	assert_true(MSG_HAS(&r, rank_pulse, idle_ms) && r.idle_ms >= 2 * PERIOD_MS);
	burn_ms(150); /* and that is no answer any more */
	pulse_look(p, &t, 1, now());
	pulse_list(p, now(), &r, 1);
	assert_false(MSG_HAS(&r, rank_pulse, idle_ms));
	pulse_asked(p, now()); /* who did something before goes on */
	burn_ms(150);
	pulse_look(p, &t, 1, now());
	pulse_list(p, now(), &r, 1);
	assert_false(MSG_HAS(&r, rank_pulse, idle_ms));
	pulse_destroy(p);
}

/* The clock is ours: of each of its seconds 100 ms are CPU, three times what work is known by. */
static struct rec_rank_pulse works_for(struct pulse *p, const struct pulse_target *t, mono_t *at, int seconds, int ask_each)
{
	struct rec_rank_pulse r;

	for (int i = 0; i < seconds; i++) {
		if (ask_each && i % ask_each == 0)
			pulse_asked(p, *at);
		burn_ms(100);
		*at = mono_add_ms(*at, 1000);
		pulse_look(p, t, 1, *at);
	}
	pulse_list(p, *at, &r, 1);
	return r;
}

TEST(one_that_works_while_we_ask_again_and_again_is_not_idle_for_long)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	struct pulse_target t = target(getpid(), 0);
	struct rec_rank_pulse r = at_rest(p, &t);
	mono_t at = now();

	r = works_for(p, &t, &at, 18, 6); /* as the coordinator asks when nothing is answered */
	assert_false(MSG_HAS(&r, rank_pulse, idle_ms));
	pulse_destroy(p);
}

TEST(what_was_done_in_a_long_time_between_two_looks_is_no_answer)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	struct pulse_target t = target(getpid(), 0);
	struct rec_rank_pulse r = at_rest(p, &t);
	mono_t at = now();

	pulse_asked(p, at);
	burn_ms(2500);
	pulse_look(p, &t, 1, mono_add_ms(at, 30000));
	pulse_list(p, mono_add_ms(at, 30000), &r, 1);
	assert_false(MSG_HAS(&r, rank_pulse, idle_ms));
	pulse_destroy(p);
}

/* Bytes that went to a disk; what is written to memory (tmpfs) is no such thing. */
static unsigned long long written(void)
{
	unsigned long long n = 0;
	char line[64];
	FILE *f = fopen("/proc/self/io", "r");

	while (f && fgets(line, sizeof line, f))
		sscanf(line, "write_bytes: %llu", &n);
	if (f)
		fclose(f);
	return n;
}

static void read_mb(int n)
{
	static char data[16 << 20];
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);

	for (int i = 0; i < n; i += 16)
		assert_int_equal(read(fd, data, sizeof data), sizeof data);
	close(fd);
}

static void is_progress_though_we_asked(void (*use)(int), int mb)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	struct pulse_target t = target(getpid(), 0);
	struct rec_rank_pulse r = at_rest(p, &t);

	pulse_asked(p, now());
	use(mb);
	pulse_look(p, &t, 1, now());
	pulse_list(p, now(), &r, 1);
	assert_false(MSG_HAS(&r, rank_pulse, idle_ms));
	pulse_destroy(p);
}

TEST(more_than_an_answer_is_progress)
{
	unsigned long long before = written();

	is_progress_though_we_asked(read_mb, 1040);
	write_mb(1);
	if (written() > before)
		is_progress_though_we_asked(write_mb, 20);
}

TEST(others_take_their_places)
{
	struct pulse *p = pulse_create(PERIOD_MS, now());
	pid_t a = start(SLEEP), b = start(SLEEP);
	struct pulse_target t[2] = { target(a, 0), target(b, 1) };
	struct rec_rank_pulse r[2];

	assert_true(pulse_look(p, t, 2, now()));
	pulse_told(p, now());
	assert_true(pulse_look(p, &t[1], 1, now()));
	assert_int_equal(pulse_list(p, now(), r, 2), 1);
	assert_int_equal(r[0].rank, 1);
	finish(a);
	finish(b);
	pulse_look(p, t, 2, now()); /* both are gone: nothing is known of them, and nothing breaks */
	pulse_destroy(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_counts_as_progress),
		cmocka_unit_test(a_host_that_writes_back_is_told_from_one_that_does_not),
		cmocka_unit_test(who_waits_for_files_is_known_by_state_or_place),
		cmocka_unit_test(one_that_sleeps_is_idle),
		cmocka_unit_test(one_that_computes_is_not),
		cmocka_unit_test(what_its_children_do_counts),
		cmocka_unit_test(one_that_is_stopped_is_told_at_once_and_again_when_it_goes_on),
		cmocka_unit_test(one_that_writes_to_a_disk_is_not_idle),
		cmocka_unit_test(one_that_answers_our_question_is_idle_all_the_same),
		cmocka_unit_test(one_that_works_while_we_ask_again_and_again_is_not_idle_for_long),
		cmocka_unit_test(what_was_done_in_a_long_time_between_two_looks_is_no_answer),
		cmocka_unit_test(more_than_an_answer_is_progress),
		cmocka_unit_test(others_take_their_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
