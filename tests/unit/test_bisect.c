/* test_bisect.c - fabrics with known faults: what the search says of them, and in how many rounds */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "nccl/bisect.h"

#define GOOD_GBPS 100.0

/* A made fabric: nodes with their own speed, one slow link, a size above which all is slow. */
struct fabric {
	uint32_t n;
	double speed[512]; /* 0: as GOOD_GBPS; negative: fails */
	uint32_t la, lb; /* the slow link, la != lb */
	double link;
	uint32_t slow_from; /* nodes of a group; 0: never */
	uint64_t seed; /* figures differ by +-3 % */
};

static double noise(struct fabric *f)
{
	f->seed = f->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return 0.97 + 0.06 * (double)(f->seed >> 40) / (double)(1 << 24);
}

static double measure(struct fabric *f, const uint32_t *nodes, uint32_t n)
{
	bool has_a = false, has_b = false;
	double slowest = GOOD_GBPS;

	for (uint32_t i = 0; i < n; i++) {
		double s = f->speed[nodes[i]] != 0 ? f->speed[nodes[i]] : GOOD_GBPS;

		slowest = s < slowest ? s : slowest;
		has_a = has_a || nodes[i] == f->la;
		has_b = has_b || nodes[i] == f->lb;
	}
	if (f->la != f->lb && has_a && has_b && f->link < slowest)
		slowest = f->link;
	if (f->slow_from && n >= f->slow_from && slowest > 50)
		slowest = 50;
	return slowest < 0 ? -1 : slowest * noise(f);
}

/* All rounds; no node twice in one. */
static struct bisect *search(struct fabric *f, double floor_gbps)
{
	struct bisect *b = bisect_create(f->n, floor_gbps);

	assert_non_null(b);
	for (;;) {
		struct bisect_round r = bisect_next(b);
		bool in[512] = { false };

		if (r.n_groups == 0)
			return b;
		assert_true(bisect_rounds(b) < 40);
		for (size_t k = 0; k < r.n_groups; k++) {
			for (uint32_t i = 0; i < r.groups[k].n; i++) {
				uint32_t node = r.nodes[r.groups[k].at + i];

				assert_true(node < f->n && !in[node]);
				in[node] = true;
			}
			bisect_tell(b, k, measure(f, r.nodes + r.groups[k].at, r.groups[k].n));
		}
	}
}

static void healthy_fabrics_of_any_size_have_no_findings(void **state)
{
	(void)state;
	for (uint32_t n = 1; n <= 130; n++) {
		struct fabric f = { .n = n, .seed = n };
		struct bisect *b = search(&f, 0);
		const struct bisect_finding *v;

		assert_int_equal(bisect_findings(b, &v), 0);
		bisect_destroy(b);
	}
}

static uint32_t log2_up(uint32_t n)
{
	uint32_t k = 0;

	while ((UINT32_C(1) << k) < n)
		k++;
	return k;
}

static void a_slow_node_is_named_wherever_it_is(void **state)
{
	(void)state;
	for (uint32_t n = 4; n <= 65; n++)
		for (uint32_t bad = 0; bad < n; bad++) {
			struct fabric f = { .n = n, .seed = n * 100 + bad };
			struct bisect *b;
			const struct bisect_finding *v;

			f.speed[bad] = bad % 3 == 0 ? -1 : 50;
			b = search(&f, 0);
			assert_int_equal(bisect_findings(b, &v), 1);
			assert_int_equal(v[0].kind, BISECT_NODE);
			assert_int_equal(v[0].a, bad);
			assert_true(bisect_rounds(b) <= 1 + log2_up(n));
			bisect_destroy(b);
		}
}

static void a_slow_link_is_not_taken_for_a_slow_node(void **state)
{
	(void)state;
	for (uint32_t n = 6; n <= 40; n += 2) {
		struct fabric f = { .n = n, .la = 2, .lb = 3, .link = 40, .seed = n };
		struct bisect *b = search(&f, 0);
		const struct bisect_finding *v;

		assert_int_equal(bisect_findings(b, &v), 1);
		assert_int_equal(v[0].kind, BISECT_LINK);
		assert_true((v[0].a == 2 && v[0].b == 3) || (v[0].a == 3 && v[0].b == 2));
		assert_true(v[0].got < 45 && v[0].usual > 90);
		bisect_destroy(b);
	}
}

static void several_bad_nodes_are_all_named(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed < 400; seed++) {
		uint32_t n = 8 + seed % 120, bad = 1 + seed % (n / 4), found = 0;
		struct fabric f = { .n = n, .seed = seed };
		struct bisect *b;
		const struct bisect_finding *v;
		size_t k;

		for (uint32_t i = 0; i < bad; i++)
			f.speed[(i * 7919 + seed * 31) % n] = 55;
		bad = 0;
		for (uint32_t i = 0; i < n; i++)
			bad += f.speed[i] != 0;
		b = search(&f, 0);
		k = bisect_findings(b, &v);
		for (size_t i = 0; i < k; i++) {
			assert_int_equal(v[i].kind, BISECT_NODE);
			assert_true(f.speed[v[i].a] != 0);
			found++;
		}
		assert_int_equal(found, bad);
		bisect_destroy(b);
	}
}

static void a_bottleneck_above_pairs_is_the_fabric(void **state)
{
	struct fabric f = { .n = 32, .slow_from = 16, .seed = 3 };
	struct bisect *b = search(&f, 0);
	const struct bisect_finding *v;

	(void)state;
	assert_true(bisect_findings(b, &v) >= 1);
	assert_int_equal(v[0].kind, BISECT_FABRIC);
	assert_int_equal(v[0].size, 16);
	bisect_destroy(b);
}

static void when_all_are_slow_only_a_floor_can_tell(void **state)
{
	struct fabric f = { .n = 8, .slow_from = 2, .seed = 5 };
	struct bisect *b = search(&f, 0);
	const struct bisect_finding *v;

	(void)state;
	assert_int_equal(bisect_findings(b, &v), 0);
	bisect_destroy(b);
	b = search(&f, 80);
	assert_int_equal(bisect_findings(b, &v), 1);
	assert_int_equal(v[0].kind, BISECT_ALL);
	bisect_destroy(b);
}

static void a_dead_node_of_three_is_found(void **state)
{
	(void)state;
	for (uint32_t bad = 0; bad < 3; bad++) {
		struct fabric f = { .n = 3, .seed = bad + 1 };
		struct bisect *b;
		const struct bisect_finding *v;

		f.speed[bad] = -1;
		b = search(&f, 0);
		/* one good pair at most is left: it may stay unsure, but nobody else is blamed */
		assert_true(bisect_findings(b, &v) >= 1);
		for (size_t i = 0; i < bisect_findings(b, &v); i++)
			assert_true(v[i].kind == BISECT_ALL || v[i].a == bad);
		bisect_destroy(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(healthy_fabrics_of_any_size_have_no_findings),
		cmocka_unit_test(a_slow_node_is_named_wherever_it_is),
		cmocka_unit_test(a_slow_link_is_not_taken_for_a_slow_node),
		cmocka_unit_test(several_bad_nodes_are_all_named),
		cmocka_unit_test(a_bottleneck_above_pairs_is_the_fabric),
		cmocka_unit_test(when_all_are_slow_only_a_floor_can_tell),
		cmocka_unit_test(a_dead_node_of_three_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
