/* cgroup.h - one cgroup (v2) per attempt, in the tree that we may use
 *
 * Needs no controller: it is there so that nothing of a job can hide. The
 * launcher makes them beneath its own (root), and so does the agent of a single
 * user where that subtree is his (systemd: Delegate=yes, or a user unit).
 * No libraries here: the launcher uses this.
 */
#ifndef NA_COMMON_CGROUP_H
#define NA_COMMON_CGROUP_H

#include <limits.h>

#include "common/err.h"
#include "common/proc.h"

/* Our own cgroup's directory, when processes may be put beneath it; its path within
 * the tree ("" for the root). A descriptor, or -ENOSYS and why not. */
int cgroup_open_own(char ret_path[PATH_MAX], struct err *e);
/* One that was made in an earlier life of ours, perhaps somewhere else. A descriptor or -errno. */
int cgroup_open_path(const char *path);
/* DIR/NAME/FILE, or DIR/NAME itself (file NULL). A descriptor or -errno. */
int cgroup_open(int dir, const char *name, const char *file, int flags);
/* SIGKILLs everything in DIR/NAME (beneath it, too, where there is cgroup.kill) and waits up to
 * wait_ms for its end. Number of processes seen, of those beneath at least one, or -errno
 * (-ENOENT: no such cgroup). *ret_left: one that lives in it all the same, or pid 0. */
int cgroup_kill_in(int dir, const char *name, int wait_ms, struct proc_id *ret_left);

#endif
