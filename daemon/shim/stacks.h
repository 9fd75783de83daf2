/* stacks.h - where the threads of a rank are, for people, when it hangs
 *
 * A child of ours looks, with a deadline for all of it: /proc or a tool may hang as the rank
 * does, and the shim goes on draining pipes. Of each process it says, one line each:
 *
 *   - its threads, grouped: the system call each is in, on which file, and where in the
 *     kernel it waits (and the kernel's stack, where that can be read: root only)
 *   - the stacks of its code, by the first of these that is on the job's PATH or beside
 *     the program it runs: py-spy (which does not stop the process: --nonblocking),
 *     eu-stack, gdb. The last two stop it for a moment: only one that can be stopped (not
 *     in D, not stopped already), and one that was left stopped is set going again
 *   - what is not there, and why
 *
 * No signal goes to the process: a handler that prints stacks may be there, or the
 * default, which ends it, and nobody can tell which.
 *
 * Not promised: all of it. Processes below a rank are counted, not looked at.
 */
#ifndef NA_SHIM_STACKS_H
#define NA_SHIM_STACKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STACKS_MS 20000 /* for all of them; less than a hang is given before it is acted upon */
#define STACKS_TOOL_MS 6000 /* for one run of a tool */
#define STACKS_BYTES (1u << 20)
#define STACKS_RANKS 64

struct stacks_target {
	uint32_t rank, local; /* local: whose standard error it goes to */
	pid_t pid;
	uint64_t start_time;
};

struct stacks;

/* path: PATH of the job, or NULL. NULL: no memory, no process. */
struct stacks *stacks_begin(const struct stacks_target *v, size_t n, const char *path);
/* Ends what is still under way; its child is reaped by whoever reaps. */
void stacks_destroy(struct stacks *s);
int stacks_fd(const struct stacks *s); /* to poll for reading */
pid_t stacks_pid(const struct stacks *s);
/* Takes what is there. True: that was all. */
bool stacks_read(struct stacks *s);
/* Then: the next piece and the rank whose it is. Whole lines. False: no more. */
bool stacks_next(struct stacks *s, uint32_t *ret_local, const char **ret, size_t *ret_n);

/* ---- what the child does ---------------------------------------------------- */

/* Writes it to fd. Blocks, for STACKS_MS at most unless the kernel does not answer. */
void stacks_collect(int fd, const struct stacks_target *v, size_t n, const char *path);

#endif
