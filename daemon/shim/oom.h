/* oom.h - did the kernel's OOM killer strike?
 *
 * By the counts of our cgroup (memory.events; memory.oom_control in cgroup v1)
 * and of the host (/proc/vmstat), which need no privilege and are raised before
 * the victim dies. They do not name it.
 */
#ifndef NA_SHIM_OOM_H
#define NA_SHIM_OOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct oom {
	char events[512]; /* file with our cgroup's count; "": there is none */
	uint64_t limit; /* bytes that our cgroup may use; 0: none is known */
	bool host_known, cgroup_known;
	uint64_t host, cgroup; /* counts at the last look */
};

/* Looks for the files below 'root' ("": the system's own) and takes the counts. */
void oom_begin(struct oom *o, const char *root);
/* What they say of a rank that has ended just now, badly: killed is that it was
 * by SIGKILL. False: nothing. Counts are taken anew by oom_look(). */
bool oom_say(const struct oom *o, const char *root, bool killed, char *out, size_t size);
void oom_look(struct oom *o, const char *root);

/* The number after "oom_kill " at the beginning of a line. */
bool oom_count(const char *text, uint64_t *ret);
/* The path of our cgroup in /proc/self/cgroup's text: of the memory controller
 * where v1 has it (then *ret_v1), else of v2. False: none, or not below us. */
bool oom_own_cgroup(const char *text, char *out, size_t size, bool *ret_v1);

#endif
