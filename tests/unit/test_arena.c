/* test_arena.c - an arena's memory is zeroed, aligned, and freed at once */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdalign.h>
#include <string.h>

#include "common/arena.h"
#include "tests/unit/failmalloc.h"

#define TEST(name) static void name(void **state)

TEST(every_allocation_is_zeroed_aligned_and_its_own)
{
	unsigned char *all[2000];
	struct arena a;

	arena_init(&a);
	for (size_t i = 0; i < 2000; i++) {
		size_t n = i * 37 % 5000;

		all[i] = arena_alloc(&a, n);
		assert_non_null(all[i]);
		assert_int_equal((uintptr_t)all[i] % alignof(max_align_t), 0);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(all[i][k], 0);
		memset(all[i], (int)(i % 251) + 1, n);
	}
	for (size_t i = 0; i < 2000; i++) {
		for (size_t k = 0; k < i * 37 % 5000; k++)
			assert_int_equal(all[i][k], i % 251 + 1);
	}
	arena_finish(&a);
}

TEST(a_huge_request_does_not_waste_the_current_block)
{
	struct arena a;
	struct arena_block *head;
	char *small;

	arena_init(&a);
	small = arena_alloc(&a, 16);
	head = a.head;
	assert_non_null(arena_alloc(&a, 1 << 20));
	assert_ptr_equal(a.head, head);
	assert_ptr_equal(arena_alloc(&a, 16), small + 16);
	arena_finish(&a);
	assert_null(a.head);
}

TEST(copies_end_with_a_nul)
{
	struct arena a;
	char *p;

	arena_init(&a);
	assert_string_equal(arena_strdup(&a, "text"), "text");
	p = arena_memdup(&a, "a\0b", 3);
	assert_memory_equal(p, "a\0b\0", 4);
	assert_string_equal(arena_memdup(&a, NULL, 0), "");
	assert_string_equal(arena_printf(&a, "%s-%d", "x", 7), "x-7");
	arena_finish(&a);
	assert_string_equal(arena_strdup(&a, "usable again"), "usable again");
	arena_finish(&a);
}

TEST(no_memory_is_null)
{
	struct arena a;

	arena_init(&a);
	fail_malloc_at(0);
	assert_null(arena_printf(&a, "%d", 1));
	assert_true(fail_malloc_off());
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_memdup(&a, "", SIZE_MAX));
	arena_finish(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_is_zeroed_aligned_and_its_own),
		cmocka_unit_test(a_huge_request_does_not_waste_the_current_block),
		cmocka_unit_test(copies_end_with_a_nul),
		cmocka_unit_test(no_memory_is_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
