/* skew.h - how far this clock is from the coordinator's, measured over the control link
 *
 * NTP's four timestamps (RFC 5905, section 8), taken with the heartbeat. Of the
 * last samples the one with the smallest error counts: half its round trip,
 * plus what two clocks may drift apart since (15 ppm, PHI in RFC 5905). The
 * true offset is within +- error as long as both directions took some time.
 *
 * The same is done with both monotonic clocks, which nobody sets: moments are
 * put in order by them (skew_map).
 *
 * Not promised: more than the wall clocks' own resolution, or anything while
 * the link is down: then the error grows.
 */
#ifndef NA_CORE_SKEW_H
#define NA_CORE_SKEW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/mono.h"

#define SKEW_SAMPLES 8

struct skew_sample {
	int64_t offset_us; /* ours minus theirs */
	int64_t trip_us;
	mono_t at;
};

struct skew {
	struct skew_sample v[SKEW_SAMPLES];
	unsigned n, next;
};

/* All in microseconds of the wall clock of who took it. A sample that makes no
 * sense (time ran backwards, a clock was set meanwhile) is dropped; one that
 * contradicts the others means that a clock was set: only it is kept. */
void skew_add(struct skew *s, int64_t sent_us, int64_t came_us, int64_t answered_us,
	      int64_t back_us, mono_t now);
/* False before the first sample. */
bool skew_get(const struct skew *s, mono_t now, int64_t *ret_offset_us, uint64_t *ret_error_us);
/* Where the samples are of two monotonic clocks: a moment of ours by theirs. */
bool skew_map(const struct skew *s, mono_t t, int64_t *ret_theirs_us, uint64_t *ret_error_us);

#endif
