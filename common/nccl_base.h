/* nccl_base.h - what a run of 'check nccl' is compared with: the statistic of earlier ones
 *
 * The baseline of an operation is made of the last NCCL_BASE_RUNS good runs of
 * the same set, by their median: one lucky or disturbed run does not move it.
 * As of NCCL_BASE_SURE runs it is the highest median there ever was: with the
 * median of the last runs alone, a link that gets a little worse each week would
 * take its baseline along, and never be slow. A run below the baseline counts not.
 *
 * Slow is what is below NCCL_BASE_PERCENT of it: nccl-tests fails below 0.9 of
 * NCCL_TESTS_MIN_BW, the figure that it is told (src/common.cu).
 *
 * Pure.
 */
#ifndef NA_COMMON_NCCL_BASE_H
#define NA_COMMON_NCCL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NCCL_BASE_RUNS 5u
#define NCCL_BASE_SURE 3u
#define NCCL_BASE_PERCENT 90u

/* Sorts v. Of an even number the mean of the two in the middle; n 0: 0. */
uint32_t nccl_base_median(uint32_t *v, size_t n);
/* With the last good runs, this one included (n of them, at most NCCL_BASE_RUNS; sorts v): the
 * new baseline. before 0: there was none. */
uint32_t nccl_base_next(uint32_t before, uint32_t *v, size_t n);
/* percent 0: NCCL_BASE_PERCENT; base 0: nothing is slow. */
bool nccl_base_slow(uint32_t mb_s, uint32_t base, uint32_t percent);

#endif
