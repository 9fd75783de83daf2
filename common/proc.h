/* proc.h - processes named so that a signal cannot hit a stranger
 *
 * A process is (pid, start time in clock ticks since boot, boot id). Signals
 * go through a pidfd that was opened and then checked against the start time;
 * without pidfd (before Linux 5.3) the start time is checked right before kill.
 */
#ifndef NA_COMMON_PROC_H
#define NA_COMMON_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct buf;

/* 0 and the start time (field 22 of /proc/PID/stat), or -ESRCH. */
int proc_start_time(pid_t pid, uint64_t *ret);
/* Kernel boot id as 36 characters plus NUL; -errno on failure. */
int proc_boot_id(char out[37]);
/* 0; -ESRCH when no such process or another start time. Never pid <= 1. */
int proc_signal(pid_t pid, uint64_t start_time, int sig);
/* True for a zombie or a gone process. */
int proc_dead(pid_t pid, uint64_t start_time);
/* All live (not zombie) descendants of 'root', children first found first.
 * Number found (may exceed max), or -errno. */
int proc_descendants(pid_t root, pid_t *out, size_t max);
/* SIGKILLs every process whose environment holds the variable 'name=value'
 * (as started; /proc/PID/environ), except this one; repeats until a pass
 * finds none or 'deadline_ms' has passed. Number killed, or -ETIME. Blocks. */
int proc_sweep_env(const char *name, const char *value, int deadline_ms);

/* For a child subreaper: children that it has not started ('mine' says no) are
 * orphans of children of its that died. One pass: SIGKILL to those that live,
 * the dead are reaped. 'hit' remembers whom it was sent to (empty at first;
 * emptied when nobody lives): each adds to *count once. How many lived, or -errno. */
int proc_sweep_orphans(bool (*mine)(void *arg, pid_t pid, uint64_t start_time), void *arg,
		       struct buf *hit, uint32_t *count);

#endif
