/* spawn.h - one rank: a new session, three descriptors, nothing else of ours
 *
 * The child borrows our memory until it executes (CLONE_VM and CLONE_VFORK),
 * so the cost does not grow with the shim, and we wait for that moment.
 */
#ifndef NA_SHIM_SPAWN_H
#define NA_SHIM_SPAWN_H

#include <sys/resource.h>
#include <sys/types.h>

struct spawn;

/* path: for execve. argv is borrowed. nofile: limit of open files a rank is
 * given (ours is raised). cpus: what the rank is bound to ("0-31,64"), or NULL.
 * NULL on ENOMEM. */
struct spawn *spawn_create(const char *path, const char *const *argv, const struct rlimit *nofile,
			   const char *cpus);
void spawn_destroy(struct spawn *s);
/* pid > 0 once the child has executed the command, or -errno. fds: what
 * becomes 0, 1 and 2; each above 2 and still the caller's to close. */
pid_t spawn_rank(struct spawn *s, char **env, const int fds[3]);

#endif
