/* spawn.h - starts a program with exactly these descriptors, environment and limits
 *
 * In place of uv_spawn, whose parent waits on the loop for the exec, and of
 * posix_spawn, which cannot set a limit. For a thread of the pool.
 */
#ifndef NA_IO_SPAWN_H
#define NA_IO_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/* 'to': the child is not given it, but puts itself into the cgroup whose cgroup.procs it is;
 * it goes on where that fails. */
#define SPAWN_CGROUP (-1)

struct spawn_fd {
	int from, to;
};

/* The child: own session, default signals, umask 022, /dev/null as 0, 1 and 2
 * (unless mapped), the mapped descriptors, nothing else. 0 and the pid of our
 * child, or -errno and a sentence (also when the exec failed). */
int spawn_program(const char *path, char *const argv[], char *const env[], const struct spawn_fd *map,
		  size_t n, uint64_t nofile_cur, uint64_t nofile_max, pid_t *ret, struct err *e);

/* Whether spawn_program() has started this process; for every thread. A child of
 * ours that it has not came to us otherwise: see orphans.h. */
bool spawn_is_ours(pid_t pid, uint64_t start_time);
/* The same for the loop: true as well while another thread is starting something. */
bool spawn_may_be_ours(pid_t pid, uint64_t start_time);
/* How many it has in mind: for tests. */
size_t spawn_notes(void);

#endif
