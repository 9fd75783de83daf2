/* place.h - which rank a process says it is: the environment of a launcher's worker
 *
 * torchrun, deepspeed and their like start each worker with RANK, LOCAL_RANK and
 * WORLD_SIZE of its own. What they start besides (and what a worker starts)
 * carries the same variables as its parent. Pure.
 */
#ifndef NA_SHIM_PLACE_H
#define NA_SHIM_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct place {
	bool valid; /* RANK, LOCAL_RANK and WORLD_SIZE are there, and are numbers that fit */
	uint32_t rank, local_rank, world;
	uint32_t round; /* TORCHELASTIC_RESTART_COUNT, or 0 */
	uint64_t mark; /* of all variables that launchers set: equal for equal places */
	const char *error_file; /* TORCHELASTIC_ERROR_FILE, in 'env'; NULL: none */
};

/* env: n bytes as in /proc/PID/environ, each variable ends in NUL (the last may not). */
void place_read(const char *env, size_t n, struct place *ret);

#endif
