/* test_nccl_ops.c - data and figures of the check of NCCL, and what hardware should reach */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/nccl_expect.h"
#include "nccl/library.h"
#include "nccl/ops.h"

#define TEST(name) static void name(void **state)
#define RANKS 5
#define BYTES 1000

/* The right result, computed here the slow way. */
static void reference(enum op op, uint32_t n, uint32_t rank, float **in, const struct op_size *s, float *out)
{
	for (size_t i = 0; i < s->recv; i++) {
		float sum = 0;
		size_t at = op == OP_REDUCE_SCATTER ? rank * s->count + i : i;

		for (uint32_t r = 0; r < n && at < s->send; r++)
			sum += in[r][at];
		if (op == OP_BROADCAST)
			out[i] = in[0][i];
		else if (op == OP_ALL_GATHER || op == OP_GATHER)
			out[i] = in[i / s->count][i % s->count];
		else if (op == OP_SEND_RECV)
			out[i] = in[(rank + n - 1) % n][i];
		else
			out[i] = sum;
	}
}

static bool receives(enum op op, uint32_t rank)
{
	return rank == 0 || (op != OP_REDUCE && op != OP_GATHER);
}

TEST(right_data_is_right_and_any_other_number_is_seen)
{
	for (int op = 0; op < OP_N; op++) {
		struct op_size s = op_size((enum op)op, RANKS, BYTES);
		float *in[RANKS], *out = calloc(s.recv, sizeof *out);

		for (uint32_t r = 0; r < RANKS; r++) {
			in[r] = calloc(s.send, sizeof(float));
			op_fill(r, in[r], s.send);
		}
		for (uint32_t r = 0; r < RANKS; r++) {
			size_t first = 99999;

			reference((enum op)op, RANKS, r, in, &s, out);
			assert_int_equal(op_wrong((enum op)op, RANKS, r, out, s.count, &first), 0);
			for (size_t i = 0; i < s.recv && receives((enum op)op, r); i++) {
				float was = out[i];

				out[i] += 1;
				assert_int_equal(op_wrong((enum op)op, RANKS, r, out, s.count, &first), 1);
				assert_int_equal(first, i);
				out[i] = was;
			}
		}
		for (uint32_t r = 0; r < RANKS; r++)
			free(in[r]);
		free(out);
	}
}

TEST(another_ranks_part_or_another_place_is_seen)
{
	struct op_size s = op_size(OP_ALL_GATHER, 2, 8000);
	float *in = calloc(s.send, sizeof *in), *out = calloc(s.recv, sizeof *out);
	size_t first;

	op_fill(0, in, s.send);
	memcpy(out, in, s.send * sizeof *in);
	memcpy(out + s.count, in, s.send * sizeof *in); /* rank 0's twice */
	assert_true(op_wrong(OP_ALL_GATHER, 2, 0, out, s.count, &first) > s.count / 2);
	memcpy(out, in + 1, (s.send - 1) * sizeof *in); /* shifted by one */
	assert_true(op_wrong(OP_BROADCAST, 2, 0, out, s.count, &first) > s.count / 2);
	free(in);
	free(out);
}

TEST(sums_are_exact_for_thousands_of_ranks)
{
	float sum = 0, one;
	double exact = 0;

	for (uint32_t r = 0; r < 8000; r++) {
		op_fill(r, &one, 1);
		sum += one;
		exact += (double)one;
	}
	assert_true((double)sum == exact && exact < 16777216);
}

/* nccl-tests, doc/PERFORMANCE.md */
TEST(sizes_and_factors_are_those_of_nccl_tests)
{
	struct op_size s = op_size(OP_ALL_GATHER, 8, 1 << 20);

	assert_int_equal(s.bytes, 1 << 20);
	assert_int_equal(s.send * 8, s.recv);
	s = op_size(OP_REDUCE_SCATTER, 8, 1 << 20);
	assert_int_equal(s.send, s.recv * 8);
	s = op_size(OP_ALL_REDUCE, 8, 3);
	assert_int_equal(s.count, 1);
	assert_true(op_bus_factor(OP_ALL_REDUCE, 2) == 1 && op_bus_factor(OP_ALL_REDUCE, 8) == 1.75);
	assert_true(op_bus_factor(OP_ALL_GATHER, 8) == 0.875 && op_bus_factor(OP_BROADCAST, 8) == 1);
	for (int op = 0; op < OP_N; op++)
		assert_int_equal(op_named(op_name((enum op)op)), op);
	assert_int_equal(op_named("all-reduce"), OP_N);
}

TEST(versions_read_as_people_write_them)
{
	char text[24];

	library_nccl_text(22809, text);
	assert_string_equal(text, "2.28.9");
	library_nccl_text(21003, text);
	assert_string_equal(text, "2.10.3");
	library_nccl_text(2708, text);
	assert_string_equal(text, "2.7.8");
}

TEST(only_known_hardware_is_expected_anything_of)
{
	const uint32_t rails[] = { 200000, 200000, 200000, 200000, 200000, 200000, 200000, 200000 };

	assert_true(nccl_expect_inside("NVIDIA H100 80GB HBM3", 8, 1024) == 333);
	assert_true(nccl_expect_inside("NVIDIA H100 80GB HBM3", 8, 128) < 270); /* it reaches 300 and more */
	assert_true(nccl_expect_inside("NVIDIA H100 80GB HBM3", 8, 64) == 0);
	assert_true(nccl_expect_inside("NVIDIA H100 80GB HBM3", 2, 128) == 255);
	assert_true(nccl_expect_inside("NVIDIA H100 NVL", 2, 1024) == 187);
	assert_true(nccl_expect_inside("NVIDIA A800-SXM4-80GB", 8, 1024) == 137);
	assert_true(nccl_expect_inside("NVIDIA H800 PCIe", 8, 1024) == 0);
	assert_true(nccl_expect_inside("NVIDIA H100 80GB HBM3", 4, 1024) == 0);
	assert_true(nccl_expect_inside("NVIDIA GeForce RTX 4090", 8, 1024) == 0);
	assert_true(nccl_expect_inside(NULL, 8, 1024) == 0);
	assert_true(nccl_expect_between(rails, 8, 1024) > 139 && nccl_expect_between(rails, 8, 1024) < 141);
	assert_true(nccl_expect_between(rails, 8, 128) > 111 && nccl_expect_between(rails, 8, 128) < 113);
	assert_true(nccl_expect_between(rails, 8, 8) == 0);
	assert_true(nccl_expect_between(rails, 0, 1024) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_data_is_right_and_any_other_number_is_seen),
		cmocka_unit_test(another_ranks_part_or_another_place_is_seen),
		cmocka_unit_test(sums_are_exact_for_thousands_of_ranks),
		cmocka_unit_test(sizes_and_factors_are_those_of_nccl_tests),
		cmocka_unit_test(versions_read_as_people_write_them),
		cmocka_unit_test(only_known_hardware_is_expected_anything_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
