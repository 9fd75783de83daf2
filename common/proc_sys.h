/* proc_sys.h - the system calls behind proc.h and orphans.h
 *
 * Apart, so that the simulator can put a kernel of its own there, where pids
 * are few and come again soon. Nothing here decides anything.
 */
#ifndef NA_COMMON_PROC_SYS_H
#define NA_COMMON_PROC_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"

pid_t proc_sys_self(void);
pid_t proc_sys_group(pid_t pid); /* -1: no such process */
/* A whole small file, NUL-terminated. Length or -errno. */
ssize_t proc_sys_file(const char *path, char *out, size_t size);
/* The environment of a process, all that exec() can have given it, into b. 0 or -errno. */
int proc_sys_environ(pid_t pid, struct buf *b);

/* All processes, in no order: NULL and errno, or what is closed in the end. */
void *proc_sys_list(void);
pid_t proc_sys_next(void *list); /* 0 at the end */
void proc_sys_list_close(void *list);

int proc_sys_pidfd(pid_t pid); /* or -errno */
int proc_sys_pidfd_signal(int fd, int sig); /* 0 or -errno */
void proc_sys_pidfd_close(int fd);
int proc_sys_kill(pid_t pid, int sig); /* as kill(): 0 or -errno; below -1: a group */

int64_t proc_sys_ms(void); /* monotonic */
void proc_sys_pause(long ns);

#endif
