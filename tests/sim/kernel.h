/* kernel.h - processes of the simulated hosts, as common/proc.c sees them
 *
 * The real common/proc.c and daemon/shim/sweep.c run over this in place of
 * common/proc_sys.c. Pids are few: whoever has been reaped may have a stranger
 * for a successor at once, also in the middle of a look at /proc. A signal that
 * reaches a stranger breaks invariant 23.
 *
 * Not played: cgroups, the subreaper of a single user's agent (its orphans go to
 * init here), systems without pidfd.
 */
#ifndef SIM_KERNEL_H
#define SIM_KERNEL_H

#include <stdint.h>

struct sim;
struct shim_actor;
struct worker;

void kernel_begin(struct sim *s);
/* w NULL: the shim itself. The parent's pid; 1: init. */
uint32_t kernel_fork(struct sim *s, struct shim_actor *h, struct worker *w, uint32_t parent);
void kernel_exit(struct sim *s, uint32_t host, uint32_t pid); /* a zombie, if somebody cares */
void kernel_reap(struct sim *s, uint32_t host, uint32_t pid);
void kernel_reboot(struct sim *s, uint32_t host);
uint64_t kernel_start_time(struct sim *s, uint32_t host, uint32_t pid);
/* Who calls from here on; pid 0: nobody. */
void kernel_as(struct sim *s, uint32_t host, uint32_t pid);
#define KERNEL_AGENT 2 /* and what it asks to sweep for it */

struct kernel_stats {
	uint64_t forks, reused, changed_hands, signals;
};
extern struct kernel_stats kernel_stats; /* since the program began */

#endif
