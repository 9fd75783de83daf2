/* test_lost.c - a full disk is told when it begins and when it ends, and not each time */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "io/lost.h"

#define TEST(name) static void name(void **state)

static mono_t now = { 1000000000 };
static uint64_t said;

static enum lost_say grown(struct lost *l, uint32_t local, uint32_t fd, uint64_t lost)
{
	struct rec_grown g = { .local = local, .fd = fd, .size = 100 };
	struct msg m;

	MSG_SET(&g, grown, lost, lost);
	msg_init(&m, MSG_shim_grown);
	m.u.shim_grown.outs = &g;
	m.u.shim_grown.n_outs = 1;
	return lost_step(l, 2, 6, &m, now, &said);
}

static enum lost_say ended(struct lost *l, uint32_t rank, uint64_t lost)
{
	struct rec_rank_state r = { .rank = rank, .state = "exited", .lost_bytes = lost };
	struct msg m;

	msg_init(&m, MSG_shim_ended);
	m.u.shim_ended.ranks = &r;
	m.u.shim_ended.n_ranks = 1;
	return lost_step(l, 2, 6, &m, now, &said);
}

static void wait_ms(int64_t ms)
{
	now = mono_add_ms(now, ms);
}

TEST(it_is_said_once_and_again_only_after_it_had_recovered)
{
	struct lost l = { 0 };

	assert_int_equal(grown(&l, 0, 1, 0), LOST_NOTHING);
	assert_int_equal(grown(&l, 1, 2, 10), LOST_BEGINS);
	assert_int_equal(said, 7);
	for (int i = 1; i <= 30; i++) { /* room for some, none for others: for half an hour */
		wait_ms(LOST_QUIET_MS - 1);
		assert_int_equal(grown(&l, 0, 1, 0), LOST_NOTHING);
		assert_int_equal(grown(&l, 0, 1, (uint64_t)i), LOST_NOTHING);
		assert_int_equal(grown(&l, 1, 2, 10), LOST_NOTHING);
	}
	lost_finish(&l);
}

TEST(its_end_is_told_with_what_was_lost_since_it_began)
{
	struct lost l = { 0 };

	assert_int_equal(grown(&l, 0, 1, 10), LOST_BEGINS);
	assert_int_equal(said, 6);
	assert_int_equal(grown(&l, 1, 1, 5), LOST_NOTHING);
	wait_ms(LOST_QUIET_MS);
	assert_int_equal(grown(&l, 0, 1, 10), LOST_ENDS);
	assert_int_equal(said, 15);
	assert_int_equal(grown(&l, 0, 1, 10), LOST_NOTHING);
	assert_int_equal(grown(&l, 0, 1, 17), LOST_BEGINS);
	assert_int_equal(ended(&l, 6, 18), LOST_ENDS); /* both streams of rank 6 */
	assert_int_equal(said, 8);
	assert_int_equal(grown(&l, 0, 2, 1), LOST_NOTHING); /* which of its streams that was: nothing new */
	lost_finish(&l);
}

TEST(a_loss_that_nobody_followed_is_told_when_a_rank_has_ended)
{
	struct lost l = { 0 };

	assert_int_equal(ended(&l, 7, 0), LOST_NOTHING);
	assert_int_equal(ended(&l, 7, 1000), LOST_BEGINS);
	assert_int_equal(said, 7);
	assert_int_equal(ended(&l, 99, 1000), LOST_ENDS); /* not of this node: only the end counts */
	assert_int_equal(said, 1000);
	lost_finish(&l);
}

TEST(without_ranks_nothing_is_said)
{
	struct lost l = { 0 };
	struct msg m;

	msg_init(&m, MSG_shim_ended);
	assert_int_equal(lost_step(&l, 0, 0, &m, now, &said), LOST_NOTHING);
	lost_finish(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_said_once_and_again_only_after_it_had_recovered),
		cmocka_unit_test(its_end_is_told_with_what_was_lost_since_it_began),
		cmocka_unit_test(a_loss_that_nobody_followed_is_told_when_a_rank_has_ended),
		cmocka_unit_test(without_ranks_nothing_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
