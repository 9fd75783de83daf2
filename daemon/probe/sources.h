/* sources.h - one thread for each source of readings
 *
 * A source that hangs in a driver or a library costs nothing but its own
 * readings: they stay what they were and are marked. Of what a source
 * publishes only the latest is kept, so a slow taker costs no memory.
 */
#ifndef NA_PROBE_SOURCES_H
#define NA_PROBE_SOURCES_H

#include <pthread.h>

#include "hw/hw.h"

#define SOURCES_MAX 8
#define SOURCE_STUCK_MS 10000 /* in one poll: it hangs */

struct source {
	const struct hw_ops *ops;
	const struct hw_options *options;
	int wake_fd, notify_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* of the following */
	struct hw_readings *fresh; /* published, not yet taken */
	mono_t fresh_at, busy_since; /* busy_since MONO_NEVER: not in a poll */
	bool stop;
	/* the taker's: */
	struct hw_readings *taken; /* NULL: never read */
	mono_t taken_at;
	bool stuck;
};

struct sources {
	struct source list[SOURCES_MAX];
	size_t n;
	int notify_fd; /* readable when something was published */
};

/* Starts a thread for each row of ops (ends with NULL). 0 or -errno. */
int sources_start(struct sources *s, const struct hw_ops *const *ops, const struct hw_options *o);
/* Takes what was published since the last call and looks who is stuck. True
 * when anything is new. */
bool sources_take(struct sources *s, mono_t now);
/* True when each has been read at least once. */
bool sources_complete(const struct sources *s);
/* Has a source polled now. */
void sources_wake(struct source *src);
/* Ends the threads and frees all. False when one hangs: then nothing is freed,
 * and the process should leave by _exit(). */
bool sources_stop(struct sources *s);

#endif
