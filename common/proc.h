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

struct proc_id {
	pid_t pid;
	uint64_t start_time;
};

struct proc_stat {
	pid_t pid, ppid, session;
	char name[16]; /* printable ASCII, '?' for the rest */
	char state; /* as in proc(5) */
	bool dead; /* nothing is left of it but its exit status */
	bool exiting;
	uint64_t start_time;
};

/* 0 or -ESRCH. */
int proc_read(pid_t pid, struct proc_stat *ret);
/* /proc/PID/NAME up to size - 1 bytes, NUL-terminated. Length or -errno. */
ssize_t proc_read_file(pid_t pid, const char *name, char *out, size_t size);
/* All children of 'parent', dead ones too. 0 or -errno. */
int proc_children(pid_t parent, void (*f)(void *arg, const struct proc_stat *child), void *arg);
/* For people: "pid 4711 (sleep, state S)". */
void proc_tell(pid_t pid, uint64_t start_time, char out[48]);

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
 * finds none or 'deadline_ms' has passed. Number killed; or -ETIME, and one that
 * lives in *ret_left (may be NULL); or -errno. Blocks. */
int proc_sweep_env(const char *name, const char *value, int deadline_ms, struct proc_id *ret_left);

#endif
