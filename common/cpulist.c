/* cpulist.c - see cpulist.h */
#include "common/cpulist.h"

#include <stdlib.h>

/* A number below the limit; the end of it in *p. */
static long number(const char **p)
{
	char *end;
	unsigned long v;

	if (**p < '0' || **p > '9')
		return -1;
	v = strtoul(*p, &end, 10);
	*p = end;
	return v < CPULIST_MAX ? (long)v : -1;
}

static int add_ranges(const char *p, cpu_set_t *set, size_t size)
{
	for (;;) {
		long from = number(&p), to = from;

		if (from >= 0 && *p == '-') {
			p++;
			to = number(&p);
		}
		if (from < 0 || to < from)
			return -1;
		for (long i = from; i <= to; i++)
			CPU_SET_S((size_t)i, size, set);
		if (*p == '\0')
			return 0;
		if (*p++ != ',')
			return -1;
	}
}

cpu_set_t *cpulist_parse(const char *text, size_t *ret_size)
{
	size_t size = CPU_ALLOC_SIZE(CPULIST_MAX);
	cpu_set_t *set = CPU_ALLOC(CPULIST_MAX);

	if (set == NULL)
		return NULL;
	CPU_ZERO_S(size, set);
	if (add_ranges(text, set, size) < 0) {
		CPU_FREE(set);
		return NULL;
	}
	*ret_size = size;
	return set;
}
