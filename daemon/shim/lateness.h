/* lateness.h - how long after an end the shim may have come to see it
 *
 * A rank that ends wakes the shim. From then until it reaps the rank the shim
 * waits for a processor or runs, and does not sleep: what the kernel has added
 * to both of its counts since the last sleep but one began (the end may have
 * come after that sleep) bounds that time from above.
 * On a host without such counts (/proc/self/schedstat) it is not known.
 */
#ifndef NA_SHIM_LATENESS_H
#define NA_SHIM_LATENESS_H

#include "common/mono.h"

#include <stdint.h>

/* Between the moment at which a process closes its sockets, from which its
 * peers learn of its end, and that at which it can be reaped: the kernel's way
 * through an exit, seen below 1 ms unless it is preempted there. */
#define LATENESS_LEAST_US 1000

struct lateness {
	int fd; /* -1: there are no such counts */
	uint64_t busy_ns[2]; /* ran and waited to run: at the last mark, and at the one before */
	mono_t at; /* of the last */
};

void lateness_open(struct lateness *l);
void lateness_close(struct lateness *l);

/* Before the shim sleeps; cheap: looks at most once in a millisecond, which
 * makes the bound that much wider when it is busy. */
void lateness_mark(struct lateness *l, mono_t now);

/* us, LATENESS_LEAST_US or more, for an end that is seen now. */
uint64_t lateness_us(const struct lateness *l);

#endif
