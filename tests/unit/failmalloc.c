/* failmalloc.c - makes a chosen allocation fail; see failmalloc.h */
#include "tests/unit/failmalloc.h"

#include <stdio.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

static bool armed, failed, held;
static long left, seen;

void fail_malloc_at(long n)
{
	armed = true;
	failed = false;
	held = false;
	left = n;
	seen = 0;
}

bool fail_malloc_off(void)
{
	armed = false;
	return failed;
}

bool fail_malloc_hold(bool hold)
{
	bool was = held;

	held = hold;
	return was;
}

long fail_malloc_seen(void)
{
	return seen;
}

static bool fails(void)
{
	if (!armed || held)
		return false;
	seen++;
	if (left-- > 0)
		return false;
	armed = false;
	failed = true;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return fails() ? NULL : __real_strndup(s, n);
}

void fail_malloc_cjson(void)
{
	cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = __wrap_malloc, .free_fn = free });
}

unsigned fail_malloc_lives(unsigned (*life)(void), const char *whose, unsigned *ret_deaths)
{
	unsigned n = 0, deaths = 0;

	do {
		fail_malloc_at((long)n++);
		fail_malloc_hold(true);
		deaths += life();
	} while (fail_malloc_off());
	printf("%u allocations of %s core have failed, %u of them ended the process\n", n - 1, whose, deaths);
	*ret_deaths = deaths;
	return n - 1;
}
