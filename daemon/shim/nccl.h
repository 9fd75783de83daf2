/* nccl.h - what the ranks' NCCL says in its log
 *
 * NCCL is told to write its log into a pipe of ours, which it opens by the name
 * /proc/SHIM/fd/N: so do torchrun's workers, who inherit the variable and no
 * descriptor. Against files in a directory this needs no place where the job's user
 * may write, has no size, and leaves nothing behind. What nobody reads is not kept:
 * only the facts of common/nccl_log.h are.
 *
 * Not promised: a process that does not see our /proc (another pid namespace with a /proc of
 * its own: 'unshare -pf --mount-proc', 'apptainer --pid') cannot open it, and NCCL then writes
 * to its standard output. Nobody knows before the start what a command will do; for such jobs
 * there is NODEAGENT_NCCL_LOG=0. Docker passes no environment on, so there nothing is set.
 */
#ifndef NA_SHIM_NCCL_H
#define NA_SHIM_NCCL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/mono.h"
#include "proto/message.h"

struct nccl;

/* NULL: no memory, or no pipe. */
struct nccl *nccl_create(void);
void nccl_destroy(struct nccl *n);
int nccl_fd(const struct nccl *n); /* to poll for reading */
const char *nccl_path(const struct nccl *n); /* for NCCL_DEBUG_FILE */
/* The job's own environment, and that of its ranks: what was set there, and where else it may come from. */
void nccl_env(struct nccl *n, const char *const *env, const char *const *ranks);
/* NCCL does not write here, and why: a constant. Told once. */
void nccl_unread(struct nccl *n, const char *why, mono_t now);
/* Reads what is there, at most 256 KiB. */
void nccl_read(struct nccl *n, mono_t now, int64_t wall_ms);
/* When there is something to tell: a little after the first change. MONO_NEVER: nothing. */
mono_t nccl_due(const struct nccl *n);
/* A line that told of trouble was written by this process; 0: none yet. */
uint32_t nccl_trouble_pid(const struct nccl *n);
/* All of it, and it counts as told. False: nothing has been said yet, or no memory. */
bool nccl_tell(struct nccl *n, struct arena *a, struct rec_nccl_state *ret);

#endif
