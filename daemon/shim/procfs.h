/* procfs.h - what /proc and pidfds tell of processes that are not our children
 *
 * Nothing here blocks: no file of a user's is opened.
 */
#ifndef NA_SHIM_PROCFS_H
#define NA_SHIM_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"

/* Children of all threads of 'pid', at most max. Dear (all of /proc) where the
 * kernel has no list of children: *ret_dear. */
size_t procfs_children(pid_t pid, pid_t *out, size_t max, bool *ret_dear);
/* The environment a process was started with, at most 1 MiB of it. 0 or -errno:
 * another user's, gone, a zombie. */
int procfs_environ(pid_t pid, struct buf *ret);
/* A pidfd of that very process, close-on-exec, or -errno. */
int procfs_open(pid_t pid, uint64_t start_time);
/* How a process that has ended did so, as waitpid says it. Its parent may have
 * reaped it already: then only Linux 6.15 and later know. False: nobody can tell. */
bool procfs_status(pid_t pid, uint64_t start_time, int pidfd, int *ret_status);
/* The path that descriptor fd of a process is open on, when it is a path of a
 * plain file as far as its name tells ("/..." but not "/dev/..."). malloc'ed or NULL. */
char *procfs_path(pid_t pid, int fd);

#endif
