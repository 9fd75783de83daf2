/* nccl_base.c - see nccl_base.h */
#include "common/nccl_base.h"

#include <stdlib.h>

static int by_size(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

	return a < b ? -1 : a > b;
}

uint32_t nccl_base_median(uint32_t *v, size_t n)
{
	if (n == 0)
		return 0;
	qsort(v, n, sizeof(*v), by_size);
	return n % 2 != 0 ? v[n / 2] : (uint32_t)(((uint64_t)v[n / 2 - 1] + v[n / 2]) / 2);
}

uint32_t nccl_base_next(uint32_t before, uint32_t *v, size_t n)
{
	uint32_t now = nccl_base_median(v, n);

	return n >= NCCL_BASE_SURE && before > now ? before : now;
}

bool nccl_base_slow(uint32_t mb_s, uint32_t base, uint32_t percent)
{
	return (uint64_t)mb_s * 100 < (uint64_t)base * (percent != 0 ? percent : NCCL_BASE_PERCENT);
}
