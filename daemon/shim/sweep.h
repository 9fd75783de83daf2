/* sweep.h - signals to processes of the job, never to a stranger
 *
 * A process found below us is named by pid and start time, seen below us once
 * more after that was read, and only then signalled by that name.
 */
#ifndef NA_SHIM_SWEEP_H
#define NA_SHIM_SWEEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/arena.h"

struct sweep;

struct sweep *sweep_create(void); /* NULL on ENOMEM */
void sweep_destroy(struct sweep *s);
/* Sends sig (and SIGCONT after SIGTERM, for what is stopped) to every living
 * descendant for which skip() is false; skip may be NULL. 'count': remember
 * whom it hit for sweep_hits(). Number signalled, 0 also when /proc fails. */
uint32_t sweep_signal(struct sweep *s, int sig, bool count, bool (*skip)(void *arg, pid_t pid),
		      void *arg);
/* To all of the job: the groups of ranks that run, and every other descendant. */
struct shim;
void sweep_signal_all(struct sweep *s, const struct shim *machine, uint32_t nprocs, int sig);
/* Those who live in spite of it, or may not be signalled, named and with what they wait
 * for, up to 'max'; strings in the arena. Number of them. */
struct rec_stuck_proc;
size_t sweep_stuck(struct arena *a, struct rec_stuck_proc *v, size_t max);
/* Distinct processes hit so far by counting calls. */
uint32_t sweep_hits(const struct sweep *s);

#endif
