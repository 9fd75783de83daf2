/* cpulist.h - lists of CPUs as the kernel writes them: "0-31,64-95" */
#ifndef NA_COMMON_CPULIST_H
#define NA_COMMON_CPULIST_H

#include <sched.h>
#include <stddef.h>

#define CPULIST_MAX 8192 /* CPUs: the kernel's own limit (NR_CPUS) */

/* An allocated set for sched_setaffinity(), and its size in bytes; CPU_FREE it.
 * NULL when the text is no such list, names no CPU or one beyond the limit, or
 * memory is short. */
cpu_set_t *cpulist_parse(const char *text, size_t *ret_size);

#endif
