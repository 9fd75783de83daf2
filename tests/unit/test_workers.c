/* test_workers.c - real processes below us that look like a launcher's workers
 *
 * This program plays the shim: the launcher is a child of it, which starts
 * workers (itself again, with an environment) and reaps them or does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim/place.h"
#include "shim/procfs.h"
#include "shim/workers.h"

static const char *me;

/* ---- places ------------------------------------------------------------- */

#define ENV(...) place_read((const char[]){ __VA_ARGS__ }, sizeof((const char[]){ __VA_ARGS__ }) - 1, &p)

static void a_place_is_read_from_an_environment(void **state)
{
	struct place p, q;

	ENV("HOME=/root\0RANK=5\0LOCAL_RANK=1\0WORLD_SIZE=8\0TORCHELASTIC_RESTART_COUNT=2\0TORCHELASTIC_ERROR_FILE=/tmp/e\0");
	assert_true(p.valid && p.rank == 5 && p.local_rank == 1 && p.world == 8 && p.round == 2);
	assert_string_equal(p.error_file, "/tmp/e");
	q = p;
	ENV("WORLD_SIZE=8\0TORCHELASTIC_ERROR_FILE=/tmp/e\0RANK=5\0X=1\0LOCAL_RANK=1\0TORCHELASTIC_RESTART_COUNT=2\0");
	assert_true(p.mark == q.mark); /* other variables and their order do not count */
	ENV("WORLD_SIZE=8\0TORCHELASTIC_ERROR_FILE=/tmp/f\0RANK=5\0X=1\0LOCAL_RANK=1\0TORCHELASTIC_RESTART_COUNT=2\0");
	assert_true(p.mark != q.mark);
}

static void what_is_no_place(void **state)
{
	struct place p;

	ENV("");
	assert_false(p.valid);
	ENV("RANK=5\0LOCAL_RANK=1\0");
	assert_false(p.valid);
	ENV("RANK=8\0LOCAL_RANK=1\0WORLD_SIZE=8\0");
	assert_false(p.valid);
	ENV("RANK=-1\0LOCAL_RANK=1\0WORLD_SIZE=8\0");
	assert_false(p.valid);
	ENV("RANK=\0LOCAL_RANK=1\0WORLD_SIZE=8\0");
	assert_false(p.valid);
	ENV("RANK=99999999999999999999\0LOCAL_RANK=1\0WORLD_SIZE=8\0");
	assert_false(p.valid);
	ENV("\0\0\0RANK\0=\0RANK=1\0LOCAL_RANK=1\0WORLD_SIZE=2");
	assert_true(p.valid); /* the last one's NUL may be cut off */
	ENV("RANK=1\0LOCAL_RANK=1\0WORLD_SIZE=2\0TORCHELASTIC_ERROR_FILE=/cut");
	assert_true(p.valid && !p.error_file); /* a path must be whole */
}

/* ---- processes ------------------------------------------------------------ */

struct stage {
	int ep;
	struct workers *w;
	pid_t launcher;
	int to, from; /* its orders and answers */
	pid_t pids[8];
};

static void put_env(const char *name, int v)
{
	char text[16];

	snprintf(text, sizeof text, "%d", v);
	setenv(name, text, 1);
}

/* What the worker does is its argument: "wait", or an exit code. */
static pid_t start_worker(int rank, int round, const char *what)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	put_env("RANK", rank);
	put_env("LOCAL_RANK", rank % 4);
	put_env("WORLD_SIZE", 8);
	put_env("TORCHELASTIC_RESTART_COUNT", round);
	execl(me, me, "worker", what, (char *)NULL);
	_exit(99);
}

/* Orders: "s RANK ROUND" starts one, "k PID SIG", "r PID" reaps, "q". */
static int launcher_main(void)
{
	char line[64];

	setvbuf(stdin, NULL, _IONBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		int a = 0, b = 0, answer = 0;

		sscanf(line + 1, "%d %d", &a, &b);
		if (*line == 's')
			answer = start_worker(a, b, "wait");
		else if (*line == 'k')
			answer = kill(a, b);
		else if (*line == 'r')
			answer = waitpid(a, NULL, 0);
		else
			return 0;
		printf("%d\n", answer);
		fflush(stdout);
	}
	return 0;
}

static int order(struct stage *s, char what, int a, int b)
{
	char line[64];
	int n = snprintf(line, sizeof line, "%c %d %d\n", what, a, b);

	assert_int_equal(write(s->to, line, (size_t)n), n);
	n = (int)read(s->from, line, sizeof line - 1);
	assert_true(n > 0);
	line[n] = '\0';
	return atoi(line);
}

static void begin(struct stage *s, bool polled)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	s->launcher = fork();
	if (s->launcher == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		put_env("RANK", 0);
		put_env("LOCAL_RANK", 0);
		put_env("WORLD_SIZE", 2);
		execl(me, me, "launcher", (char *)NULL);
		_exit(99);
	}
	close(in[0]);
	close(out[1]);
	s->to = in[1];
	s->from = out[0];
	s->ep = epoll_create1(EPOLL_CLOEXEC);
	s->w = workers_create(polled ? s->ep : -1, 7);
	assert_non_null(s->w);
	assert_int_equal(order(s, 'k', getpid(), 0), 0); /* it has its environment now */
	workers_begin(s->w, s->launcher, (mono_t){ 0 });
}

static void finish(struct stage *s)
{
	workers_destroy(s->w);
	for (int i = 0; i < 8; i++)
		if (s->pids[i] > 0)
			kill(s->pids[i], SIGKILL);
	close(s->to);
	waitpid(s->launcher, NULL, 0);
	close(s->from);
	close(s->ep);
}

/* A worker that has its own environment already. */
static pid_t worker(struct stage *s, int rank, int round)
{
	struct buf b;
	struct place p = { .valid = false };
	pid_t pid = order(s, 's', rank, round);

	buf_init(&b);
	for (int i = 0; i < 2000 && !(p.valid && p.rank == (uint32_t)rank && p.world == 8); i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
		if (procfs_environ(pid, &b) == 0)
			place_read(buf_str(&b), b.len, &p);
	}
	buf_finish(&b);
	assert_true(p.valid);
	for (int i = 0; i < 8; i++)
		if (s->pids[i] == 0) {
			s->pids[i] = pid;
			break;
		}
	return pid;
}

/* The next pidfd that becomes readable. */
static struct worker *next_end(struct stage *s)
{
	struct epoll_event ev;

	assert_int_equal(epoll_wait(s->ep, &ev, 1, 10000), 1);
	assert_int_equal(ev.data.u64 >> 32, 7);
	return workers_ended(s->w, (uint32_t)ev.data.u64);
}

static void workers_are_found_and_their_children_are_not(void **state)
{
	struct stage s = { .ep = -1 };
	struct rec_worker v[WORKERS_MAX];
	pid_t a, b;

	begin(&s, true);
	workers_look(s.w, (mono_t){ 1 });
	assert_int_equal(workers_found(s.w), 0);
	b = worker(&s, 5, 0);
	a = worker(&s, 4, 0);
	assert_true(workers_look(s.w, (mono_t){ 2 }));
	assert_false(workers_look(s.w, (mono_t){ 3 }));
	assert_int_equal(workers_found(s.w), 2);
	assert_int_equal(workers_list(s.w, v), 2);
	assert_true(v[0].rank == 4 && v[0].local_rank == 0 && v[0].pid == (uint32_t)a);
	assert_true(v[1].rank == 5 && v[1].local_rank == 1 && v[1].pid == (uint32_t)b);
	assert_string_equal(v[0].state, "running");
	finish(&s);
}

static void the_first_to_die_is_guilty_and_its_signal_known(void **state)
{
	struct stage s = { .ep = -1 };
	struct rec_worker v[WORKERS_MAX];
	struct worker *k;
	pid_t a, b;

	begin(&s, true);
	a = worker(&s, 4, 0);
	b = worker(&s, 5, 0);
	workers_look(s.w, (mono_t){ 1 });
	order(&s, 'k', b, SIGKILL);
	k = next_end(&s);
	assert_true(k && k->pid == b && k->known && WIFSIGNALED(k->status) && WTERMSIG(k->status) == SIGKILL);
	order(&s, 'k', a, SIGTERM);
	assert_non_null(next_end(&s));
	assert_ptr_equal(workers_guilty(s.w), k);
	assert_int_equal(workers_list(s.w, v), 2);
	assert_true(v[0].pid == (uint32_t)b && v[0].sig == SIGKILL && v[1].sig == SIGTERM && v[0].end_us <= v[1].end_us);
	assert_int_equal(workers_alive(s.w), 0);
	finish(&s);
}

static void one_that_nobody_tells_of_is_unknown(void **state)
{
	struct stage s = { .ep = -1 };
	struct rec_worker v[WORKERS_MAX];
	pid_t a;

	begin(&s, false); /* no pidfd can be polled: none is held */
	a = worker(&s, 4, 0);
	workers_look(s.w, (mono_t){ 1 });
	order(&s, 'k', a, SIGKILL);
	order(&s, 'r', a, 0);
	assert_true(workers_look(s.w, (mono_t){ 2 }));
	assert_int_equal(workers_list(s.w, v), 1);
	assert_string_equal(v[0].state, "unknown");
	assert_false(MSG_HAS(&v[0], worker, sig) || MSG_HAS(&v[0], worker, code));
	assert_non_null(workers_guilty(s.w));
	/* torchrun's last lines say it after all */
	assert_true(workers_summary(s.w, &(struct elastic_failure){ .rank = 4, .pid = 1, .code = -9, .root = true }, 1));
	workers_list(s.w, v);
	assert_true(v[0].sig == SIGKILL && v[0].pid == (uint32_t)a);
	assert_string_equal(v[0].state, "killed");
	assert_false(workers_summary(s.w, &(struct elastic_failure){ .rank = 4, .code = 3, .root = true }, 1));
	finish(&s);
}

static void what_ends_after_our_signal_is_ours(void **state)
{
	struct stage s = { .ep = -1 };
	pid_t a, b;

	begin(&s, true);
	a = worker(&s, 4, 0);
	b = worker(&s, 5, 0);
	workers_look(s.w, (mono_t){ 1 });
	order(&s, 'k', a, SIGKILL); /* dead, and its pidfd not heard yet */
	for (int i = 0; i < 2000 && !workers_collect(s.w); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	workers_signalled(s.w);
	order(&s, 'k', b, SIGTERM);
	assert_true(next_end(&s)->ours);
	assert_int_equal(workers_guilty(s.w)->pid, a);
	finish(&s);
}

static void another_round_takes_the_place_of_one_that_is_over(void **state)
{
	struct stage s = { .ep = -1 };
	struct rec_worker v[WORKERS_MAX];
	pid_t a;

	begin(&s, true);
	a = worker(&s, 4, 0);
	workers_look(s.w, (mono_t){ 1 });
	order(&s, 'k', a, SIGKILL);
	next_end(&s);
	worker(&s, 5, 0); /* the same round: found late */
	assert_true(workers_look(s.w, (mono_t){ 2 }));
	assert_int_equal(workers_round(s.w), 0);
	assert_int_equal(workers_found(s.w), 2);
	order(&s, 'k', s.pids[1], SIGTERM);
	next_end(&s);
	worker(&s, 4, 1);
	assert_true(workers_look(s.w, (mono_t){ 3 }));
	assert_int_equal(workers_round(s.w), 1);
	assert_int_equal(workers_list(s.w, v), 1);
	assert_true(v[0].rank == 4 && strcmp(v[0].state, "running") == 0);
	assert_null(workers_guilty(s.w));
	finish(&s);
}

static void one_that_was_not_seen_is_told_by_the_launcher(void **state)
{
	const struct elastic_failure f[] = { { .rank = 4, .local_rank = 0, .pid = 9998, .code = -15 },
					     { .rank = 5, .local_rank = 1, .pid = 9999, .code = 3, .root = true } };
	struct stage s = { .ep = -1 };
	struct rec_worker v[WORKERS_MAX];
	pid_t a;

	begin(&s, true);
	a = worker(&s, 4, 0);
	workers_look(s.w, (mono_t){ 1 });
	order(&s, 'k', a, SIGTERM);
	next_end(&s);
	assert_true(workers_summary(s.w, f, 2));
	assert_int_equal(workers_list(s.w, v), 2);
	assert_true(v[0].rank == 5 && v[0].code == 3 && v[0].pid == 9999);
	assert_true(v[1].rank == 4 && v[1].sig == SIGTERM && v[1].pid == (uint32_t)a);
	assert_int_equal(workers_guilty(s.w)->rank, 5);
	assert_false(workers_survived(s.w));
	finish(&s);
}

static void looks_become_rare(void **state)
{
	struct stage s = { .ep = -1 };
	const int64_t s1 = 1000000000;

	begin(&s, true);
	assert_int_equal(mono_sub_ms(workers_due(s.w), (mono_t){ 0 }), 250);
	workers_look(s.w, (mono_t){ 1 * s1 });
	assert_int_equal(mono_sub_ms(workers_due(s.w), (mono_t){ 1 * s1 }), 250);
	workers_look(s.w, (mono_t){ 20 * s1 });
	assert_int_equal(mono_sub_ms(workers_due(s.w), (mono_t){ 20 * s1 }), 1000);
	workers_look(s.w, (mono_t){ 200 * s1 });
	assert_int_equal(mono_sub_ms(workers_due(s.w), (mono_t){ 200 * s1 }), 30000);
	worker(&s, 4, 0);
	workers_look(s.w, (mono_t){ 230 * s1 });
	assert_int_equal(mono_sub_ms(workers_due(s.w), (mono_t){ 230 * s1 }), 5000);
	workers_stop(s.w);
	assert_true(mono_is_never(workers_due(s.w)));
	finish(&s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_place_is_read_from_an_environment),
		cmocka_unit_test(what_is_no_place),
		cmocka_unit_test(workers_are_found_and_their_children_are_not),
		cmocka_unit_test(the_first_to_die_is_guilty_and_its_signal_known),
		cmocka_unit_test(one_that_nobody_tells_of_is_unknown),
		cmocka_unit_test(what_ends_after_our_signal_is_ours),
		cmocka_unit_test(another_round_takes_the_place_of_one_that_is_over),
		cmocka_unit_test(one_that_was_not_seen_is_told_by_the_launcher),
		cmocka_unit_test(looks_become_rare),
	};

	me = argv[0];
	if (argc > 1 && strcmp(argv[1], "launcher") == 0)
		return launcher_main();
	if (argc > 1) { /* a worker, and what a worker starts */
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pause();
		}
		pause();
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
