/* beside.h - threads beside the shim's loop, for files that may lie where every access hangs
 *
 * What such a thread and the loop share holds a struct beside, and is freed by whoever of
 * them lets it go last: a thread that does not come back is left alone, and keeps it.
 */
#ifndef NA_SHIM_BESIDE_H
#define NA_SHIM_BESIDE_H

#include <pthread.h>
#include <stdbool.h>

struct beside {
	pthread_mutex_t lock; /* of all that is shared */
	int fd; /* an eventfd, for the loop to poll */
	unsigned users;
};

bool beside_open(struct beside *b); /* false: no descriptor. One user: the caller */
void beside_hold(struct beside *b); /* one more */
bool beside_let_go(struct beside *b); /* true: nobody is left, it is closed: free what it is in */
void beside_ring(struct beside *b); /* fd becomes readable */
void beside_heard(struct beside *b); /* not again until there is more */

/* A detached thread with a small stack. False: there is none. */
bool beside_start(void *(*run)(void *), void *arg);

#endif
