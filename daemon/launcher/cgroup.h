/* cgroup.h - one cgroup (v2) per attempt, beneath the launcher's own
 *
 * Needs no controller: it is there so that nothing of a job can hide. Without
 * a writable cgroup v2 tree everything here says -ENOSYS, and the sweeps for the
 * job's cookie and for orphans (serve.c) have to do.
 */
#ifndef NA_LAUNCHER_CGROUP_H
#define NA_LAUNCHER_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/proc.h"

/* Finds the tree; to be called once, at the start. 0 or -ENOSYS and why not. */
int cgroup_find(struct err *e);
bool cgroup_found(void);
/* Makes the attempt's cgroup and moves the calling process into it. */
int cgroup_enter(uint64_t job, uint32_t attempt, struct err *e);
/* SIGKILLs everything in it. Number of processes seen, or -errno (-ENOENT: no such
 * cgroup). *ret_left: one that lives all the same, or pid 0. */
int cgroup_kill(uint64_t job, uint32_t attempt, struct proc_id *ret_left);
/* Removes it; it must be empty. 0 also when there is none; -EBUSY. */
int cgroup_remove(uint64_t job, uint32_t attempt);
/* Removes all that are empty: of jobs that ended while nobody was there. */
void cgroup_remove_empty(void);

#endif
