/* test_explain.c - how it is with a job, in plain words */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "core/explain.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)

static struct rec_job_info j;
static struct rec_nccl_sum nccl;
static struct rec_nccl_state ns[2];
static struct rec_rank_state first;
static struct rec_attention bad, warn;
static struct explain_node nodes[2];
static struct explain_in in;
static struct arena a;

static int fresh(void **state)
{
	j = (struct rec_job_info){ .job = 17, .state = "running", .user = "li", .nodes = "gpu[01-02]", .nnodes = 2,
				   .submit_wall_ms = 1000, .submit_node = "head" };
	nccl = (struct rec_nccl_sum){ .brief = "NCCL 2.28.9, IB x8 GDR", .wall_ms = 5000, .nodes = 2 };
	for (int i = 0; i < 2; i++) {
		ns[i] = (struct rec_nccl_state){ .node = i ? "gpu02" : "gpu01", .net = "IB" };
		MSG_SET(&ns[i], nccl_state, inits, 8);
		MSG_SET(&ns[i], nccl_state, inits_done, 8);
		nodes[i] = (struct explain_node){ .name = i ? "gpu02" : "gpu01", .state = "ok", .ever_read = true };
	}
	first = (struct rec_rank_state){ .rank = 11, .state = "exited", .code = 1, .node = "gpu02" };
	bad = (struct rec_attention){ .severity = "bad", .subject = "gpu02 mlx5_2", .text = "cable is up; no subnet manager.",
				      .fix = "nodectl fix sm" };
	warn = (struct rec_attention){ .severity = "warn", .subject = "gpu01", .text = "clock is not synchronised." };
	in = (struct explain_in){ .job = &j, .nodes = nodes, .n_nodes = 2, .wall_ms = 100000 };
	return 0;
}

static void with_nccl(void)
{
	j.nccl = &nccl;
	j.n_nccl = 1;
	j.nccl_nodes = ns;
	j.n_nccl_nodes = 2;
}

static const struct rec_explanation *now(const char *begin)
{
	const struct rec_explanation *e;

	arena_finish(&a);
	e = explain(&a, &in);
	assert_non_null(e);
	if (strncmp(e->verdict, begin, strlen(begin)) != 0)
		fail_msg("\"%s\" is not \"%s...\"", e->verdict, begin);
	assert_null(strstr(e->verdict, "(null)"));
	return e;
}

static bool has(const char *const *v, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (strstr(v[i], text))
			return true;
	return false;
}

static const struct rec_fact *seen(const struct rec_explanation *e, const char *text)
{
	for (size_t i = 0; i < e->n_seen; i++)
		if (strstr(e->seen[i].text, text))
			return &e->seen[i];
	fail_msg("\"%s\" was not seen", text);
	return NULL;
}

#define UNKNOWN(e, text) assert_true(has((const char *const *)(e)->unknown, (e)->n_unknown, text))
#define DO(e, text) assert_true(has((const char *const *)(e)->todo, (e)->n_todo, text))

TEST(a_job_that_waits_says_for_what_and_until_when)
{
	const struct rec_explanation *e;

	j.state = "queued";
	j.nodes = NULL;
	in.n_nodes = 0;
	j.why = "waiting for 2 free nodes";
	e = now("It waits and has not been started: waiting for 2 free nodes.");
	UNKNOWN(e, "when it can start");
	DO(e, "nodectl kill 17");
	MSG_SET(&j, job_info, start_by_wall_ms, 100000 + 600000);
	e = now("It waits and has not been started: waiting for 2 free nodes. It can start in 10 min at the latest");
	assert_int_equal(e->n_unknown, 0);
}

TEST(states_without_ranks_of_interest)
{
	j.state = "preparing";
	now("It is being prepared on gpu[01-02]:");
	j.state = "recovering";
	now("How it is with it is not known yet");
	j.state = "ending";
	j.why = "killed by li";
	now("It is being ended: killed by li.");
	j.state = "restarting";
	now("An attempt is over and another one follows: killed by li.");
	j.state = "done";
	now("It ended well.");
}

TEST(what_nccls_ras_cannot_tell_is_told_of_jobs_with_nccl_or_that_hang)
{
	struct rec_ras_state ras = { .text = "NCCL's log says nothing" };
	struct rec_job_progress p = { .phase = "hung", .hang = "rank 1 is stopped" };
	const struct rec_explanation *e;

	j.ras = &ras;
	j.n_ras = 1;
	e = now("It runs, and nothing is known to be wrong with it.");
	assert_int_equal(e->n_unknown, 1);
	j.progress = &p;
	j.n_progress = 1;
	e = now("It hangs: rank 1 is stopped.");
	UNKNOWN(e, "how far its ranks are by NCCL's RAS: NCCL's log says nothing");
	j.n_progress = 0;
	with_nccl();
	e = now("It runs, and nothing is known to be wrong with it");
	UNKNOWN(e, "how far its ranks are");
	j.state = "ending";
	e = now("It is being ended");
	assert_int_equal(e->n_unknown, 0);
}

TEST(of_a_running_job_the_worst_comes_first)
{
	const struct rec_explanation *e = now("It runs, and nothing is known to be wrong with it.");

	UNKNOWN(e, "which network NCCL uses");
	with_nccl();
	e = now("It runs, and nothing is known to be wrong with it: NCCL 2.28.9, IB x8 GDR.");
	assert_string_equal(seen(e, "Using network IB")->source, "NCCL's log on gpu01 and 1 other");
	nodes[0].v = &warn;
	nodes[0].n = 1;
	now("It runs. One thing about its nodes: gpu01: clock is not synchronised.");
	nccl.brief = "NCCL 2.28.9, IB x7-8!";
	now("It runs, and its nodes differ: NCCL 2.28.9, IB x7-8!.");
	ns[1].inits_done = 6;
	now("It runs and begins: of 16 communicators of NCCL 2 are not ready yet.");
	nodes[1].v = &bad;
	nodes[1].n = 1;
	e = now("It runs, on a node that is not well: gpu02 mlx5_2: cable is up");
	DO(e, "nodectl fix sm");
	nccl.socket = true;
	nccl.reason = "user";
	nccl.why = "NCCL_IB_DISABLE=1 is set";
	nccl.fix = "relaunch without NCCL_IB_DISABLE";
	e = now("Slow, not broken: NCCL runs over TCP and not over InfiniBand: NCCL_IB_DISABLE=1 is set.");
	UNKNOWN(e, "whether InfiniBand passes traffic between gpu[01-02]");
	DO(e, "relaunch without NCCL_IB_DISABLE");
	DO(e, "nodectl check nccl -w gpu[01-02]");
	nodes[1].state = "unreachable";
	nodes[1].silent_ms = 9000;
	now("It runs as far as is known: node gpu02 has not been heard for 9 s.");
	nccl.trouble = "rank 3 on gpu01 mlx5_1: no path to the peer";
	now("It runs, and NCCL has met trouble: rank 3 on gpu01 mlx5_1: no path to the peer.");
}

TEST(a_job_that_hangs_says_so_first)
{
	struct rec_job_progress p = { .phase = "hung", .hang = "rank 1 on gpu01 (pid 7) is stopped (SIGSTOP, state T) for 12 s",
				      .fix = "on gpu01: kill -CONT 7", .threads = "4 do_signal_stop" };
	const struct rec_explanation *e;

	j.progress = &p;
	j.n_progress = 1;
	MSG_SET(&p, job_progress, hang_wall_ms, 9000);
	e = now("It hangs: rank 1 on gpu01 (pid 7) is stopped (SIGSTOP, state T) for 12 s.");
	DO(e, "on gpu01: kill -CONT 7");
	assert_int_equal(seen(e, "is stopped")->wall_ms, 9000);
	seen(e, "its threads: 4 do_signal_stop");
	j.on_hang = "kill";
	now("It hangs: rank 1 on gpu01 (pid 7) is stopped (SIGSTOP, state T) for 12 s. It is ended half a minute after this was seen");
	j.on_hang = NULL;
	nodes[1].v = &bad;
	nodes[1].n = 1;
	now("It hangs: rank 1 on gpu01 (pid 7) is stopped (SIGSTOP, state T) for 12 s. One of its nodes is not well: gpu02 mlx5_2: cable");
	with_nccl();
	nccl.trouble = "rank 3 on gpu01 mlx5_1: no path to the peer";
	now("It hangs: rank 1 on gpu01 (pid 7) is stopped (SIGSTOP, state T) for 12 s. NCCL said before: rank 3 on gpu01");
	nodes[1].state = "unreachable";
	now("It runs, and NCCL has met trouble");
	p.hang = NULL;
	p.phase = "tokenising";
	p.note = "rank 0 on gpu01 (pid 5): 97 % CPU, 128 processes";
	j.n_nccl = 0;
	nodes[1].state = "ok";
	nodes[1].n = 0;
	e = now("It runs, and nothing is known to be wrong with it.");
	assert_string_equal(seen(e, "tokenising: rank 0 on gpu01")->source, "its processes");
}

TEST(a_hang_stays_in_the_words_of_a_job_that_was_killed)
{
	struct rec_past_hang p = { .attempt = 1, .wall_ms = 40000, .text = "rank 5 on gpu02 (pid 9) has launched 215 all-reduces, all others 216",
				   .threads = "1 nfs_wait", .counts = "rank 5 is behind" };
	const struct rec_explanation *e;

	MSG_SET(&p, past_hang, rank, 5);
	MSG_SET(&p, past_hang, counts_wall_ms, 90000);
	j.state = "failed";
	MSG_SET(&j, job_info, attempt, 1);
	j.end_wall_ms = 95000;
	j.why = "li ended it with SIGTERM";
	j.past_hang = &p;
	j.n_past_hang = 1;
	e = now("It failed: li ended it with SIGTERM. It had hung for 55 s: rank 5 on gpu02 (pid 9) has launched 215");
	assert_string_equal(seen(e, "it hung: rank 5")->source, "its processes");
	assert_int_equal(seen(e, "it hung: rank 5")->wall_ms, 40000);
	assert_non_null(seen(e, "rank 5's threads: 1 nfs_wait"));
	assert_string_equal(seen(e, "rank 5 is behind")->source, "NCCL's RAS");
	j.state = "ending";
	j.end_wall_ms = 0;
	now("It is being ended: li ended it with SIGTERM. It hung: rank 5");
	j.state = "failed";
	j.why = "it hung, and --on-hang kill was asked for: rank 5";
	assert_null(strstr(now("It failed: it hung, and --on-hang kill")->verdict, "It had hung")); /* once is enough */
	MSG_SET(&p, past_hang, over_wall_ms, 70000); /* it was not that */
	j.why = "rank 3 exited with code 1";
	e = now("It failed: rank 3 exited with code 1.");
	assert_null(strstr(e->verdict, "hung"));
	assert_non_null(seen(e, "it went on again after 30 s"));
	MSG_SET(&j, job_info, attempt, 2);
	j.state = "running";
	j.why = NULL;
	assert_non_null(seen(now("It runs"), "in attempt 1 it hung: rank 5"));
}

TEST(a_log_that_is_not_read_is_said_to_be_so)
{
	with_nccl();
	j.n_nccl = 0;
	ns[0] = (struct rec_nccl_state){ .node = "gpu01", .unread = "the job sets NCCL_DEBUG itself" };
	UNKNOWN(now("It runs"), "the job sets NCCL_DEBUG itself");
}

TEST(a_failed_job_has_its_first_cause)
{
	const struct rec_explanation *e;

	j.state = "failed";
	in.n_nodes = 0;
	j.why = "rank 11 (gpu02, pid 40112) exited with code 1";
	MSG_SET(&j, job_info, exit_code, 1);
	j.first = &first;
	j.n_first = 1;
	first.at_us = 7000000;
	e = now("It failed: rank 11 (gpu02, pid 40112) exited with code 1. Its exit code is 1.");
	assert_string_equal(seen(e, "rank 11 exited with code 1")->source, "the shim on gpu02");
	assert_int_equal(seen(e, "rank 11 exited")->wall_ms, 7000);
	UNKNOWN(e, "why rank 11 ended so");
	DO(e, "nodectl logs 17 --rank 11");
	first.exception = "ValueError: bad at train.py:42";
	e = now("It failed");
	seen(e, "ValueError");
	assert_int_equal(e->n_unknown, 0);
	j.state = "lost";
	now("It was lost: ");
	with_nccl();
	nccl.trouble = "gpu01: another rank ended first";
	j.n_nccl_nodes = 0;
	e = now("It was lost: rank 11 (gpu02, pid 40112) exited with code 1. Its exit code is 1. NCCL said before: gpu01");
}

/* What a node of many faults says stays within what a message holds. */
TEST(there_is_never_more_than_a_message_holds)
{
	static struct rec_attention many[64];
	static char ugly[1025];
	const struct rec_explanation *e;

	memset(ugly, 'x', sizeof(ugly) - 1);
	for (int i = 0; i < 64; i++)
		many[i] = (struct rec_attention){ .severity = "bad", .subject = "gpu01 mlx5_2", .text = ugly, .fix = i & 1 ? "a" : ugly };
	nodes[0].v = nodes[1].v = many;
	nodes[0].n = nodes[1].n = 64;
	e = now("It runs, on a node that is not well");
	assert_int_equal(e->n_seen, 24);
	assert_true(strlen(e->verdict) <= 1024 && strlen(e->seen[0].text) <= 512);
	assert_int_equal(e->n_todo, 3); /* equal ones once: logs, a, the long one cut */
}

TEST(a_well_known_end_has_its_remedy)
{
	const struct rec_explanation *e;

	j.state = "failed";
	j.first = &first;
	j.n_first = 1;
	j.why = "rank 11 (gpu02, pid 5) exited with code 127; its last line: x.sh: torchrun: command not found.";
	e = now("It failed: rank 11 (gpu02, pid 5) exited with code 127; its last line: x.sh: torchrun: command not found."); /* one stop */
	assert_true(has(e->todo, e->n_todo, "the path is there on gpu02"));
	first.exception = "OSError: [Errno 122] Disk quota exceeded";
	e = now("It failed");
	assert_true(has(e->todo, e->n_todo, "quota -s (or lfs quota) on gpu02"));
	first.exception = "DistBackendError: NCCL error";
	j.why = "rank 11 (gpu02, pid 5) exited with code 1: DistBackendError: NCCL error; but rank 0 (gpu01, pid 7) had raised before and did not end, "
		"so the others waited for it: OSError: [Errno 122] Disk quota exceeded";
	e = now("It failed");
	assert_true(has(e->todo, e->n_todo, "quota -s (or lfs quota) on gpu[01-02]")); /* not on that of the first */
	with_nccl();
	j.state = "running";
	nccl.trouble = "rank 3 on gpu02: a CUDA call failed";
	ns[1].trouble = "cuda";
	ns[1].text = "Cuda failure 802 'system not yet initialized'";
	e = now("It runs, and NCCL has met trouble: rank 3 on gpu02: a CUDA call failed.");
	assert_true(has(e->todo, e->n_todo, "nvidia-fabricmanager"));
}

TEST(a_rank_that_ended_well_while_others_run_is_told)
{
	struct rec_rank_state v[3] = { { .rank = 0, .state = "running", .node = "gpu01" }, { .rank = 1, .state = "running", .node = "gpu01" },
				       { .rank = 2, .state = "exited", .node = "gpu02", .end_wall_ms = 70000 } };

	j.ranks = v;
	j.n_ranks = 3;
	now("It runs, and rank 2 on gpu02 has ended with code 0 30 s ago, while 2 run on: if they wait for it, they wait in vain.");
	v[1] = v[2];
	v[1].rank = 1;
	v[1].end_wall_ms = 69000;
	now("It runs, and rank 1 on gpu02 has ended with code 0 31 s ago, as 1 other has, while 1 runs on");
	v[2].code = 3; /* the job is about to be ended: not this */
	v[1].state = v[0].state;
	now("It runs, and nothing is known to be wrong");
}

TEST(memory_that_runs_out_costs_words_and_nothing_else)
{
	j.state = "failed";
	j.first = &first;
	j.n_first = 1;
	with_nccl();
	EACH_FAILING_MALLOC({
		explain(&a, &in);
		arena_finish(&a);
	})
}

#define T(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_job_that_waits_says_for_what_and_until_when),
		T(states_without_ranks_of_interest),
		T(what_nccls_ras_cannot_tell_is_told_of_jobs_with_nccl_or_that_hang),
		T(of_a_running_job_the_worst_comes_first),
		T(a_job_that_hangs_says_so_first),
		T(a_hang_stays_in_the_words_of_a_job_that_was_killed),
		T(a_log_that_is_not_read_is_said_to_be_so),
		T(a_failed_job_has_its_first_cause),
		T(a_well_known_end_has_its_remedy),
		T(a_rank_that_ended_well_while_others_run_is_told),
		T(there_is_never_more_than_a_message_holds),
		T(memory_that_runs_out_costs_words_and_nothing_else),
	};
	int failed;

	arena_init(&a);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_finish(&a);
	return failed;
}
