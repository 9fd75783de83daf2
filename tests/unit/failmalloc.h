/* failmalloc.h - makes a chosen allocation fail
 *
 * For tests linked with --wrap=malloc,... (WRAP in the Makefile): sees
 * allocations of our own objects, not those inside shared libraries (give
 * cJSON fail_malloc_cjson()). One thread.
 */
#ifndef NA_TESTS_FAILMALLOC_H
#define NA_TESTS_FAILMALLOC_H

#include <stdbool.h>

/* The n-th allocation from now fails once (0: the next one). */
void fail_malloc_at(long n);
/* Ends that. True when an allocation did fail. */
bool fail_malloc_off(void);
/* While held, allocations are the test's own: they neither fail nor count. Returns what it was. */
bool fail_malloc_hold(bool hold);
/* Allocations that counted since fail_malloc_at(). */
long fail_malloc_seen(void);
/* Lets cJSON allocate through the same counter. Call it once, first. */
void fail_malloc_cjson(void);

/* Runs life() with the first, the second, ... allocation failing, of those that it makes while they are not held (they
 * are when it begins), until one goes through without. How many there were, and the sum of what life() has returned:
 * how often the process has ended. Prints both. */
unsigned fail_malloc_lives(unsigned (*life)(void), const char *whose, unsigned *ret_deaths);

/* Runs the statement with the first, the second, ... allocation failing, until it
 * gets through without one. */
#define EACH_FAILING_MALLOC(...)                                                                   \
	for (long fm_n = 0, fm_more = 1; fm_more; fm_n++) {                                        \
		fail_malloc_at(fm_n);                                                              \
		__VA_ARGS__;                                                                       \
		fm_more = fail_malloc_off();                                                       \
	}

#endif
