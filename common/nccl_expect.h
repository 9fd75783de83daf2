/* nccl_expect.h - how fast NCCL should be on known hardware
 *
 * busbw of all_reduce as nccl-tests counts it (doc/PERFORMANCE.md), in GB/s of
 * 10^9 bytes, with one large array (128 MiB and more). Pure; 0: not known.
 */
#ifndef NA_COMMON_NCCL_EXPECT_H
#define NA_COMMON_NCCL_EXPECT_H

#include <stddef.h>
#include <stdint.h>

/* The least that n GPUs of one node should reach together, by the GPU's name as
 * NVML says it. From Azure's node health checks (azurehpc-health-checks conf/),
 * for all GPUs of a node: H100 460, H200 431, A100 228, two H100 NVL 208. A800 and
 * H800 have the same chips with 400 of 600 and 400 of 900 GB/s of NVLink: in
 * proportion. Two H100 or H200 SXM: nine tenths of 284, measured here
 * (docs/measurements.md). */
double nccl_expect_inside(const char *gpu, uint32_t n);

/* The least between nodes, by the rates of a node's Active ports (Mb/s, raw):
 * 0.7 of their sum. Published results of good clusters are 0.75 (Google A3 Plus,
 * 8 x 200 Gb/s: 150 GB/s) to 0.9 of it. */
double nccl_expect_between(const uint32_t *rate_mbps, size_t n);

#endif
