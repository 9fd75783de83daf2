/* leaf.h - a cgroup of its own for each attempt, for an agent without root
 *
 * Where the agent's own cgroup (v2) belongs to its user (a unit with Delegate=yes,
 * a unit of the user's own systemd) each shim is started in a new one beneath it,
 * "nodeagent-JOB.ATTEMPT-" and the begin of the job's cookie: agents of one user may
 * share a cgroup, and so may clusters. What a dead shim leaves is killed there with
 * one write, whatever it has become: another session, another environment, another
 * user (sudo). The record of the held job names it, for an agent may be started
 * again somewhere else. Else, or where it fails: the cookie and the orphans, as always.
 *
 * For threads of the pool, but for leaf_find().
 */
#ifndef NA_IO_LEAF_H
#define NA_IO_LEAF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/proc.h"

#define LEAF_PATH_MAX 1024

/* Once, at the start; logs why there are none. */
void leaf_find(void);
/* The path that an attempt's will have; "": none. */
void leaf_path(char out[LEAF_PATH_MAX], uint64_t job, uint32_t attempt, const char *cookie);
/* Makes it: cgroup.procs, open for writing, or -errno. */
int leaf_make(const char *path);
/* As cgroup_kill_in(); 0 too when there is none (any more). */
int leaf_kill(const char *path, int wait_ms, struct proc_id *ret_left);
/* Waits up to wait_ms until it is empty. 0 when it is gone, or -errno. */
int leaf_remove(const char *path, int wait_ms);

#endif
