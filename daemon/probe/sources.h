/* sources.h - one thread for each source of readings
 *
 * A source that hangs in a driver or a library costs nothing but its own
 * readings: they are old then, and marked. It hangs when a poll takes longer
 * than SOURCE_STUCK_MS, or a wait so much longer than it was told to. Sooner it
 * is late: that is said, its last readings still hold.
 *
 * Not late is one that is slow by habit, or has no CPU to run on (a loaded host),
 * or was frozen with all of the process. One without readings is at its start,
 * which takes an NVIDIA driver without persistence 2 s and more for each GPU: it
 * has SOURCE_START_MS, unless one has hung in the process before (again).
 *
 * Of what a source publishes only the latest is kept, so a slow taker costs no memory.
 */
#ifndef NA_PROBE_SOURCES_H
#define NA_PROBE_SOURCES_H

#include <pthread.h>
#include <sys/types.h>

#include "hw/hw.h"

#define SOURCES_MAX 8
#define SOURCE_LATE_MS 2000 /* with a period of 2 s, and a look again, a hang is told within 5 s */
#define SOURCE_LATE_TIMES 3 /* ... and longer than so often what it mostly takes */
#define SOURCE_LOOK_MS 500 /* until it is looked at again: who was frozen has answered by then */
#define SOURCE_STUCK_MS 10000 /* late by so much: it hangs */
#define SOURCE_START_MS 30000

struct source {
	const struct hw_ops *ops;
	const struct hw_options *options;
	int wake_fd, notify_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* of the following */
	struct hw_readings *fresh; /* published, not yet taken */
	mono_t fresh_at;
	mono_t due; /* what it does should have ended; MONO_NEVER: it waits to be woken */
	int64_t usual_ms; /* the longest of the last polls, nearly */
	uint64_t cpu_ns; /* that its thread had used when it began what it does */
	pid_t tid; /* of its thread */
	bool stop;
	/* the taker's: */
	struct hw_readings *taken; /* NULL: never read */
	mono_t taken_at;
	bool again; /* one has hung in the process before: nothing is put down to a start */
	bool late; /* it has not answered for a while, and may hang */
	mono_t late_due, late_look; /* when that was seen first: what was due, and when it is looked at again */
	bool stuck;
	mono_t stuck_since; /* when stuck: its last sign of life was due */
	bool in_kernel; /* when overdue: where no signal reaches it */
	mono_t thawed; /* ... a moment before */
};

struct sources {
	struct source list[SOURCES_MAX];
	size_t n;
	int notify_fd; /* readable when something was published */
};

/* Starts a thread for each row of ops (ends with NULL). again: see struct source. 0 or -errno. */
int sources_start(struct sources *s, const struct hw_ops *const *ops, const struct hw_options *o, bool again);
/* Takes what was published since the last call and looks who is stuck. True
 * when anything is new. */
bool sources_take(struct sources *s, mono_t now);
/* When to look again though nobody has published: one may be late or hang by then. MONO_NEVER: no need. */
mono_t sources_look(struct sources *s, mono_t now);
/* The name of a source that has hung for so long, when it ends with its process.
 * NULL while none has, or while one hangs inside the kernel (state D): a process
 * with such a thread does not end, whoever kills it. Those are marked. */
const char *sources_overdue(struct sources *s, int64_t patience_ms, mono_t now);
/* True when each has been read at least once. */
bool sources_complete(const struct sources *s);
/* Has a source polled now. */
void sources_wake(struct source *src);
/* Ends the threads and frees all. False when one hangs: then nothing is freed,
 * and the process should leave by _exit(). */
bool sources_stop(struct sources *s);

#endif
