/* nccl_expect.c - see nccl_expect.h */
#include "common/nccl_expect.h"

#include <stdbool.h>
#include <string.h>

#define LEAST_MIB 128
#define LARGE_MIB 1024
#define OF_LESS 0.8

static const struct {
	const char *name; /* part of it */
	uint32_t n;
	double least;
	bool at_least_mib; /* measured at LEAST_MIB */
} rows[] = {
	{ "PCIe", 0, 0, false }, /* bridges differ */
	{ "H100 NVL", 2, 187, false },
	{ "H100 80GB HBM3", 8, 333, false },
	{ "H100 80GB HBM3", 2, 255, true },
	{ "H200 NVL", 0, 0, false }, /* bridges differ */
	{ "H200", 8, 333, false },
	{ "H200", 2, 255, true },
	{ "A100-SXM", 8, 205, false },
	{ "A800-SXM", 8, 137, false },
	{ "H800", 8, 148, false },
};

double nccl_expect_inside(const char *gpu, uint32_t n, uint32_t mib)
{
	for (size_t i = 0; gpu != NULL && mib >= LEAST_MIB && i < sizeof rows / sizeof rows[0]; i++)
		if (strstr(gpu, rows[i].name) != NULL && (rows[i].n == n || rows[i].n == 0))
			return rows[i].at_least_mib || mib >= LARGE_MIB ? rows[i].least : OF_LESS * rows[i].least;
	return 0;
}

double nccl_expect_between(const uint32_t *rate_mbps, size_t n, uint32_t mib)
{
	double sum = 0;

	for (size_t i = 0; i < n && mib >= LEAST_MIB; i++)
		sum += rate_mbps[i];
	return (mib >= LARGE_MIB ? 1 : OF_LESS) * 0.7 * sum / 8000;
}
