/* test_nccl_ras.c - replies of NCCL's RAS, as its versions write them */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/nccl_ras.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)

static struct nccl_ras r;
static struct err e;

static void take(const char *text)
{
	int rc = nccl_ras_parse(text, strlen(text), &r, &e);

	if (rc)
		fail_msg("%s", e.text);
}

#define HEAD "{\"nccl_version\": \"2.28.9\",\n \"cuda_runtime_version\": 13000, \"cuda_driver_version\": 13000,\n" \
	     " \"timestamp\": \"2025-11-25 10:00:00\", \"communicators_count\": 1,\n \"communicators\": [\n"
#define TAIL "],\n \"ras\": {\"collection_time_sec\": 0.001, \"timeouts_count\": 0}\n}\n"
#define RANK(n, pid, all) \
	"{\"rank\": " n ", \"host\": \"10.0.0.1<45001>\", \"pid\": " pid ", \"cuda_dev\": " n ", \"nvml_dev\": " n "," \
	"\"status\": {\"init_state\": 0, \"async_error\": 0, \"finalize_called\": false, \"destroy_flag\": 0, " \
	"\"abort_flag\": false}, \"collective_counts\": {\"Broadcast\": 1, \"Reduce\": 0, \"AllGather\": 2, " \
	"\"ReduceScatter\": 0, \"AllReduce\": " all "}}"
/* as 2.28.9 writes a missing rank: no comma after nvml_dev */
#define MISSING "{\"rank\": 2, \"host\": \"10.0.0.2\", \"pid\": 77, \"cuda_dev\": 0, \"nvml_dev\": 0\n" \
		"\t\"status\": {\"unresponsive\": true, \"considered_dead\": false}}"

/* The counts are those seen on two H100s with one rank held back. */
TEST(a_rank_that_is_held_back_is_named)
{
	struct ras_behind b;

	take(HEAD "{\"hash\": \"0xa2fc\", \"secondary_hash\": \"0x1\", \"size\": 2, \"ranks_count\": 2, "
		  "\"missing_ranks_count\": 0, \"ranks\": [" RANK("1", "4712", "215") ", " RANK("0", "4711", "216") "], "
		  "\"missing_ranks\": []}" TAIL);
	assert_string_equal(r.version, "2.28.9");
	assert_int_equal(r.n_comms, 1);
	assert_string_equal(r.comms[0].hash, "0xa2fc");
	assert_int_equal(r.comms[0].size, 2);
	assert_int_equal(r.comms[0].ranks[0].pid, 4711);
	assert_string_equal(r.comms[0].ranks[0].host, "10.0.0.1");
	assert_int_equal(r.comms[0].ranks[0].counts[RAS_ALL_REDUCE], 216);
	assert_int_equal(nccl_ras_sum(&r), 216 + 215 + 2 * 3);
	assert_true(nccl_ras_behind(&r, &b));
	assert_int_equal(b.rank->rank, 1);
	assert_int_equal(b.coll, RAS_ALL_REDUCE);
	assert_int_equal(b.count, 215);
	assert_int_equal(b.most, 216);
	assert_int_equal(b.n_behind, 1);
	nccl_ras_finish(&r);
}

TEST(a_missing_rank_is_read_though_its_comma_is_missing)
{
	struct ras_behind b;

	take(HEAD "{\"hash\": \"0xa\", \"size\": 3, \"ranks\": [" RANK("0", "1", "5") "," RANK("1", "2", "5") "], "
		  "\"missing_ranks\": [" MISSING "]}" TAIL);
	assert_int_equal(r.comms[0].n_ranks, 3);
	assert_int_equal(r.comms[0].n_missing, 1);
	assert_true(r.comms[0].ranks[2].missing && r.comms[0].ranks[2].unresponsive && !r.comms[0].ranks[2].dead);
	assert_int_equal(r.comms[0].ranks[2].pid, 77);
	assert_false(nccl_ras_behind(&r, &b)); /* it has no counts: it is not behind with 0 */
	nccl_ras_finish(&r);
}

TEST(equal_counts_name_nobody_and_ranks_that_begin_are_left_out)
{
	struct ras_behind b;

	take(HEAD "{\"hash\": 7, \"size\": 2, \"ranks\": [" RANK("0", "1", "5") "," RANK("1", "2", "5") "," 
		  "{\"rank\": 2, \"pid\": 3, \"status\": {\"init_state\": 7}}]}" TAIL);
	assert_string_equal(r.comms[0].hash, "7");
	assert_false(nccl_ras_behind(&r, &b));
	assert_int_equal(r.comms[0].ranks[2].init_state, 7);
	assert_int_equal(r.comms[0].ranks[2].cuda_dev, -1);
	nccl_ras_finish(&r);
}

/* One rank of a small communicator is a better finding than many of a large one. */
TEST(of_several_the_clearest_is_taken)
{
	struct ras_behind b;

	take(HEAD "{\"hash\": \"1\", \"ranks\": [" RANK("0", "1", "9") "," RANK("1", "2", "5") "," RANK("2", "3", "5") "]},"
		  "{\"hash\": \"2\", \"ranks\": [" RANK("0", "1", "9") "," RANK("1", "2", "8") "," RANK("2", "3", "9") "]}" TAIL);
	assert_true(nccl_ras_behind(&r, &b));
	assert_string_equal(b.comm->hash, "2");
	assert_int_equal(b.rank->rank, 1);
	nccl_ras_finish(&r);
}

TEST(what_is_no_such_reply_is_refused)
{
	static const char *const bad[] = { "", "ERROR: Unknown command set format json", "[]", "{}", "{\"communicators\": 3}",
					   HEAD, "{\"communicators\": []} x" };

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_true(nccl_ras_parse(bad[i], strlen(bad[i]), &r, &e) == -EINVAL);
		assert_true(strlen(e.text) > 5);
	}
	assert_int_equal(r.n_comms, 0);
}

TEST(values_of_a_wrong_kind_are_as_if_absent)
{
	take("{\"nccl_version\": 5, \"communicators\": [null, {\"size\": -1, \"ranks\": [3, {\"rank\": 1e300, \"pid\": \"x\", "
	     "\"collective_counts\": {\"AllReduce\": -5}}]}]}");
	assert_int_equal(r.n_comms, 2);
	assert_int_equal(r.comms[1].size, 0);
	assert_int_equal(r.comms[1].ranks[1].rank, 0);
	assert_int_equal(nccl_ras_sum(&r), 0);
	assert_true(r.collection_s < 0);
	nccl_ras_finish(&r);
}

TEST(too_many_ranks_are_refused)
{
	size_t n = NCCL_RAS_RANKS_MAX + 1, len = 0;
	char *text = malloc(2 * n + 100);

	len += (size_t)sprintf(text, "{\"communicators\":[{\"ranks\":[1");
	for (size_t i = 1; i < n; i++)
		len += (size_t)sprintf(text + len, ",1");
	len += (size_t)sprintf(text + len, "]}]}");
	assert_int_equal(nccl_ras_parse(text, len, &r, &e), -E2BIG);
	free(text);
}

TEST(memory_that_runs_out_is_told)
{
	static const char text[] = HEAD "{\"hash\": \"1\", \"ranks\": [" RANK("0", "1", "9") "]}" TAIL;
	int rc = 1;

	fail_malloc_cjson();
	EACH_FAILING_MALLOC({
		rc = nccl_ras_parse(text, sizeof text - 1, &r, &e);
		if (rc == 0)
			nccl_ras_finish(&r);
	})
	assert_int_equal(rc, 0);
}

TEST(json_begins_with_2_28_7)
{
	assert_true(nccl_ras_has_json("2.28.7") && nccl_ras_has_json("2.28.9") && nccl_ras_has_json("2.30") &&
		    nccl_ras_has_json("3.0.0"));
	assert_false(nccl_ras_has_json("2.28.3") || nccl_ras_has_json("2.21.5") || nccl_ras_has_json("") ||
		     nccl_ras_has_json(NULL) || nccl_ras_has_json("x"));
	assert_string_equal(ras_coll_name(RAS_REDUCE_SCATTER), "reduce-scatter");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rank_that_is_held_back_is_named),
		cmocka_unit_test(a_missing_rank_is_read_though_its_comma_is_missing),
		cmocka_unit_test(equal_counts_name_nobody_and_ranks_that_begin_are_left_out),
		cmocka_unit_test(of_several_the_clearest_is_taken),
		cmocka_unit_test(what_is_no_such_reply_is_refused),
		cmocka_unit_test(values_of_a_wrong_kind_are_as_if_absent),
		cmocka_unit_test(too_many_ranks_are_refused),
		cmocka_unit_test(memory_that_runs_out_is_told),
		cmocka_unit_test(json_begins_with_2_28_7),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
