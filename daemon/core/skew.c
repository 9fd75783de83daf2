/* skew.c - see skew.h */
#include "core/skew.h"

#include <string.h>

#define DRIFT_PPM 15
#define TRIP_MAX_US 60000000 /* the link is given up long before */
#define ROUNDING_US 1000 /* wall clocks of virtual machines are set in small steps */

static int64_t error_of(const struct skew_sample *x, mono_t now)
{
	int64_t age_us = (now.ns - x->at.ns) / 1000;

	return x->trip_us / 2 + (age_us > 0 ? age_us : -age_us) * DRIFT_PPM / 1000000 + 1;
}

static const struct skew_sample *best(const struct skew *s, mono_t now)
{
	const struct skew_sample *b = NULL;

	for (unsigned i = 0; i < s->n; i++)
		if (b == NULL || error_of(&s->v[i], now) < error_of(b, now))
			b = &s->v[i];
	return b;
}

static bool contradicts(const struct skew *s, const struct skew_sample *x, mono_t now)
{
	const struct skew_sample *b = best(s, now);
	int64_t d = b != NULL ? x->offset_us - b->offset_us : 0;

	if (d < 0)
		d = -d;
	return b != NULL && d > error_of(b, now) + error_of(x, now) + ROUNDING_US;
}

void skew_add(struct skew *s, int64_t sent_us, int64_t came_us, int64_t answered_us,
	      int64_t back_us, mono_t now)
{
	struct skew_sample x = { .at = now };
	int64_t trip, held, out, in;

	if (__builtin_sub_overflow(back_us, sent_us, &trip) ||
	    __builtin_sub_overflow(answered_us, came_us, &held) || held < 0 ||
	    __builtin_sub_overflow(sent_us, came_us, &out) ||
	    __builtin_sub_overflow(back_us, answered_us, &in))
		return;
	if (trip < held || trip - held > TRIP_MAX_US)
		return;
	x.trip_us = trip - held;
	x.offset_us = out / 2 + in / 2;
	if (contradicts(s, &x, now))
		s->n = s->next = 0;
	s->v[s->next] = x;
	s->next = (s->next + 1) % SKEW_SAMPLES;
	if (s->n < SKEW_SAMPLES)
		s->n++;
}

bool skew_get(const struct skew *s, mono_t now, int64_t *ret_offset_us, uint64_t *ret_error_us)
{
	const struct skew_sample *b = best(s, now);

	if (b == NULL)
		return false;
	*ret_offset_us = b->offset_us;
	*ret_error_us = (uint64_t)error_of(b, now);
	return true;
}

bool skew_map(const struct skew *s, mono_t t, int64_t *ret_theirs_us, uint64_t *ret_error_us)
{
	const struct skew_sample *b = best(s, t);

	if (b == NULL || __builtin_sub_overflow(t.ns / 1000, b->offset_us, ret_theirs_us))
		return false;
	*ret_error_us = (uint64_t)error_of(b, t);
	return true;
}
