/* env.h - the environment of each rank
 *
 * Pure: no getenv, no system call. The job's variables and those that are
 * equal for all ranks of the node are made once and shared; a rank costs a
 * few short strings in one scratch buffer that the next rank overwrites.
 *
 * Three kinds of names:
 *   ours      set by us; what the caller had under that name is stale (a shell
 *             inside another job) and is dropped
 *   defaults  set by us unless the job has them. All NCCL_* are of this kind
 *   dropped   never passed on: they make torch wait for a store nobody hosts
 */
#ifndef NA_SHIM_ENV_H
#define NA_SHIM_ENV_H

#include <stdbool.h>
#include <stdint.h>

#include "common/nccl_conf.h"
#include "proto/message.h"
#include "proto/spec.h"

struct env_job {
	uint64_t job;
	uint32_t attempt;
	const char *cookie; /* NULL: none */
	const struct rec_shim_setup *setup;
	const struct rec_shim_go *go;
	const struct nccl_conf *conf; /* has settings that ours would win over, so we leave them; NULL: none */
	const char *nccl_file; /* where NCCL is to write its log; NULL: it is not asked to */
};

struct env;

/* NULL on ENOMEM. The spec and everything in *job must outlive the result. */
struct env *env_create(const struct spec *spec, const struct env_job *job);
void env_destroy(struct env *e);
/* NULL-terminated, for execve; valid until the next call. */
char **env_rank(struct env *e, uint32_t local);

/* NCCL writes its log for us: no variable of the job says otherwise. */
bool env_nccl_log(const struct env *e);

/* Value of a variable in an environment of "NAME=value" strings, or NULL. */
const char *env_get(const char *const *env, const char *name);

#endif
