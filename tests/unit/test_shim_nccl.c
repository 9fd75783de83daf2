/* test_shim_nccl.c - the pipe that NCCL's log goes into, and the questions to its RAS */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim/nccl.h"
#include "shim/ras.h"

#define TEST(name) static void name(void **state)

static mono_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (mono_t){ (int64_t)t.tv_sec * 1000000000 + t.tv_nsec };
}

/* ---- the log ------------------------------------------------------------------ */

/* As NCCL does it: by name, with "w", in another process. */
static void write_from_child(const char *path, const char *text)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		FILE *f = fopen(path, "w");

		_exit(f && fputs(text, f) >= 0 && fclose(f) == 0 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
}

TEST(other_processes_write_by_name_and_facts_come_out)
{
	struct nccl *n = nccl_create();
	struct rec_nccl_state s;
	struct arena a;

	assert_non_null(n);
	arena_init(&a);
	assert_false(nccl_tell(n, &a, &s)); /* nothing was said */
	assert_true(mono_is_never(nccl_due(n)));
	write_from_child(nccl_path(n), "h:11:12 [0] NCCL INFO NCCL version 2.28.9+cuda13.0\nh:11:12 [0] NCCL INFO Using net");
	nccl_read(n, now(), 1000);
	assert_false(mono_is_never(nccl_due(n)));
	write_from_child(nccl_path(n), "work IB\nh:13:14 [1] NCCL WARN NET/IB : mlx5_0:1 async fatal event: port error\n");
	nccl_read(n, now(), 2000);
	assert_true(nccl_tell(n, &a, &s));
	assert_string_equal(s.version, "2.28.9");
	assert_string_equal(s.net, "IB");
	assert_int_equal(s.net_wall_ms, 2000);
	assert_int_equal(s.procs, 2);
	assert_string_equal(s.trouble, "async-event");
	assert_int_equal(nccl_trouble_pid(n), 13);
	assert_true(mono_is_never(nccl_due(n)));
	arena_finish(&a);
	nccl_destroy(n);
}

TEST(a_line_that_is_too_long_is_cut_and_the_next_one_is_whole)
{
	struct nccl *n = nccl_create();
	struct rec_nccl_state s;
	struct arena a;
	char *text = malloc(20100);

	arena_init(&a);
	memset(text, 'x', 20000);
	strcpy(text + 20000, "\nh:1:2 [0] NCCL INFO Using network Socket\n");
	write_from_child(nccl_path(n), text);
	nccl_read(n, now(), 1);
	assert_true(nccl_tell(n, &a, &s));
	assert_string_equal(s.net, "Socket");
	free(text);
	arena_finish(&a);
	nccl_destroy(n);
}

TEST(where_a_variable_was_set_is_told)
{
	static const char *const env[] = { "HOME=/", "NCCL_IB_DISABLE=1", NULL }, *const none[] = { NULL };
	struct rec_nccl_state s;
	struct arena a;

	arena_init(&a);
	for (int i = 0; i < 3; i++) {
		struct nccl *n = nccl_create();

		nccl_env(n, i ? none : env, i < 2 ? none : env);
		write_from_child(nccl_path(n), "h:1:2 [0] NCCL INFO NCCL_IB_DISABLE set by environment to 1.\n");
		nccl_read(n, now(), 1);
		assert_true(nccl_tell(n, &a, &s));
		assert_true(s.ib_disabled);
		if (i == 0)
			assert_string_equal(s.set_by, "the job's environment");
		else
			assert_non_null(strstr(s.set_by, i == 1 ? "nccl.conf" : "nodeagent"));
		nccl_destroy(n);
	}
	arena_finish(&a);
}

/* ---- RAS ------------------------------------------------------------------------ */

static int listen_on(char out[64])
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof sa;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	snprintf(out, 64, "127.0.0.1:%u", ntohs(sa.sin_port));
	return fd;
}

/* One that answers each line with the next of these; NULL: closes. */
static pid_t answer(int fd, const char *const *say)
{
	pid_t pid = fork();

	if (pid == 0) {
		int k = accept(fd, NULL, NULL);
		char line[256];

		alarm(20);
		for (; *say; say++) {
			if (read(k, line, sizeof line) <= 0 || write(k, *say, strlen(*say)) < 0)
				break;
		}
		close(k);
		_exit(0);
	}
	close(fd);
	return pid;
}

static struct rec_ras_state ask(const char *const *addrs, size_t n, struct arena *a)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct ras *r = ras_create(ep, 7);
	struct rec_ras_state s = { .text = "?" };
	mono_t end = mono_add_ms(now(), 15000);

	assert_true(ras_ask(r, addrs, n, now()));
	assert_false(ras_ask(r, addrs, n, now())); /* one at a time */
	while (!ras_take(r, a, &s)) {
		struct epoll_event ev;

		assert_true(mono_before(now(), end));
		if (epoll_wait(ep, &ev, 1, 50) == 1)
			ras_ready(r, now());
		if (mono_due(ras_due(r), now()))
			ras_late(r, now());
	}
	assert_true(mono_is_never(ras_due(r)));
	assert_false(ras_ask(r, addrs, n, now())); /* too soon */
	ras_destroy(r);
	close(ep);
	return s;
}

/* A stopped rank takes the connection and says nothing; one is dead; the third answers for all. */
TEST(any_rank_answers_for_the_job)
{
	static const char *const say[] = { "SERVER PROTOCOL 2\n", "OK\n", "OK\r\n",
					   "{\"nccl_version\": \"2.28.9\", \"communicators\": [{\"hash\": \"1\", \"size\": 1, \"ranks\": "
					   "[{\"rank\": 0, \"host\": \"10.0.0.1\", \"pid\": 5, \"collective_counts\": {\"AllReduce\": 9}}]}]}",
					   NULL };
	char stopped[64], dead[64], good[64];
	const char *addrs[] = { "nonsense", stopped, dead, good };
	struct rec_ras_state s;
	struct arena a;
	pid_t pid;
	int silent = listen_on(stopped);

	close(listen_on(dead));
	pid = answer(listen_on(good), say);
	arena_init(&a);
	s = ask(addrs, 4, &a);
	if (s.text)
		fail_msg("%s", s.text);
	assert_string_equal(s.version, "2.28.9");
	assert_int_equal(s.n_counts, 1);
	assert_int_equal(s.counts[0].all_reduce, 9);
	assert_int_equal(s.sum, 9);
	assert_null(s.coll);
	waitpid(pid, NULL, 0);
	arena_finish(&a);
	close(silent);
}

TEST(what_is_no_answer_is_told)
{
	static const char *const older[] = { "SERVER PROTOCOL 2\n", "OK\n", "ERROR: Unknown command set format json\n", NULL };
	static const char *const cut[] = { "SERVER PROTOCOL 2\n", "OK\n", "OK\n", "{\"nccl_version\": ", NULL };
	static const char *const closed[] = { "SERVER PROTOCOL 2\n", "OK\n", "OK\n", NULL };
	static const char *const other[] = { "HTTP/1.1 400 Bad Request\n", NULL };
	static const char *const *const say[] = { older, cut, closed, other };
	static const char *const why[] = { "older than 2.28.7", "cannot be read", "closed", "HTTP/1.1" };

	for (int i = 0; i < 4; i++) {
		char addr[64];
		const char *addrs[] = { addr };
		struct rec_ras_state s;
		struct arena a;
		pid_t pid = answer(listen_on(addr), say[i]);

		arena_init(&a);
		s = ask(addrs, 1, &a);
		assert_non_null(s.text);
		if (!strstr(s.text, why[i]))
			fail_msg("%d: %s", i, s.text);
		waitpid(pid, NULL, 0);
		arena_finish(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_processes_write_by_name_and_facts_come_out),
		cmocka_unit_test(a_line_that_is_too_long_is_cut_and_the_next_one_is_whole),
		cmocka_unit_test(where_a_variable_was_set_is_told),
		cmocka_unit_test(any_rank_answers_for_the_job),
		cmocka_unit_test(what_is_no_answer_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
