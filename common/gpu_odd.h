/* gpu_odd.h - from where on a GPU's gauges are not as they should be: the probe tells such a change at once (its other
 * changes come with the next frame), and the checks judge by it */
#ifndef NA_COMMON_GPU_ODD_H
#define NA_COMMON_GPU_ODD_H

#define GPU_SLOW_C 90 /* of GPUs that do not tell theirs: A100 92, H100 90 to 95 */
#define GPU_NEAR_C 5
#define GPU_BUSY_UTIL 50
#define GPU_DEEP_PSTATE 8
#define GPU_LEFT_GIB 2 /* in use without any process: the driver itself takes 0.5 to 1 */

#endif
