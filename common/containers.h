/* containers.h - is this process a client that has a daemon start containers?
 *
 * What 'docker run' starts is a child of the daemon, not of the job: it does not
 * end with it, and holds its GPUs. podman, enroot and apptainer start what they
 * run themselves: no concern here.
 */
#ifndef NA_COMMON_CONTAINERS_H
#define NA_COMMON_CONTAINERS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/proc.h"

struct container_client {
	pid_t pid;
	pid_t below; /* the one of 'roots' that it descends from, or is; 0: only from 'top' */
	char text[128]; /* "docker run --gpus all train:latest", cut, printable, without values of variables */
};

/* Looks at 'top' and all below it. 1: found the first; 0: none; -errno. Blocks a
 * little (/proc). */
int container_find(pid_t top, const pid_t *roots, size_t n_roots, struct container_client *ret);
/* Does this command line (NUL-terminated words, n bytes) have a daemon start something? */
bool container_command(const char *words, size_t n, char *out, size_t size);

#endif
