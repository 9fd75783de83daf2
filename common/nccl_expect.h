/* nccl_expect.h - how fast NCCL should be on known hardware
 *
 * busbw of all_reduce as nccl-tests counts it (doc/PERFORMANCE.md), in GB/s of
 * 10^9 bytes, with arrays of so many MiB. Small arrays do not reach what large ones
 * do: of less than 128 MiB nothing is expected, of less than 1 GiB a fifth less. Pure;
 * 0: not known.
 */
#ifndef NA_COMMON_NCCL_EXPECT_H
#define NA_COMMON_NCCL_EXPECT_H

#include <stddef.h>
#include <stdint.h>

/* The least that n GPUs of one node should reach together, by the GPU's name as
 * NVML says it. H100 and H200: nine tenths of the 370 that NVLink gives without
 * NVLS (nccl-tests#212; NVLS may be off, and with it 460 of Azure's health checks
 * take 16 GiB: "256M is too small"). A100: nine tenths of Azure's 228
 * (azurehpc-health-checks conf/), two H100 NVL of its 208. A800 and H800 have the
 * same chips with 400 of 600 and 400 of 900 GB/s of NVLink: in proportion. Two H100
 * or H200 SXM: nine tenths of 284, measured here at 128 MiB (docs/measurements.md). */
double nccl_expect_inside(const char *gpu, uint32_t n, uint32_t mib);

/* The least between nodes, by the rates of the ports that a node's GPUs use (Mb/s,
 * raw): 0.7 of their sum. Published results of good clusters are 0.75 (Google A3 Plus,
 * 8 x 200 Gb/s, 2 GiB: 150 GB/s) to 0.9 of it. */
double nccl_expect_between(const uint32_t *rate_mbps, size_t n, uint32_t mib);

#endif
