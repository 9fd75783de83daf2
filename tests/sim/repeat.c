/* repeat.c - what an agent says once more, of an attempt that is over
 *
 * Agents repeat what they were not answered for, and what they have found on
 * their disks. Here one says again what it has ever said of an attempt, while the
 * next one of the same job is being prepared or runs there: nobody takes it for
 * news of that one.
 */
#include <string.h>

#include "tests/sim/sim.h"

struct said {
	struct said *next;
	uint64_t job;
	uint32_t attempt;
	bool early; /* matters only while the next one is being prepared */
	const char *text;
	size_t len;
};

static bool about_attempt(const struct msg *m, uint64_t *job, uint32_t *attempt)
{
	switch (m->type) {
	case MSG_ranks:
		*job = m->u.ranks.job;
		*attempt = m->u.ranks.attempt;
		return true;
	case MSG_ended:
		*job = m->u.ended.job;
		*attempt = m->u.ended.attempt;
		return true;
	case MSG_prepared:
		*job = m->u.prepared.job;
		*attempt = m->u.prepared.attempt;
		return true;
	case MSG_proved:
		*job = m->u.proved.job;
		*attempt = m->u.proved.attempt;
		return true;
	default:
		return false;
	}
}

void repeat_said(struct sim *s, struct agent_actor *a, const char *text, size_t len)
{
	struct said *x;
	struct msg m;

	if (!s->repeats || msg_decode(text, len, &m, NULL) < 0)
		return;
	x = world_alloc(&s->w, sizeof(*x));
	if (about_attempt(&m, &x->job, &x->attempt)) {
		x->early = m.type == MSG_prepared || m.type == MSG_proved;
		x->text = world_copy(&s->w, text, len);
		x->len = len;
		x->next = a->said;
		a->said = x;
	}
	msg_finish(&m);
}

void repeat_soon(struct sim *s, struct agent_actor *a, uint64_t job, uint32_t attempt)
{
	for (struct said *x = a->said; x != NULL; x = x->next) {
		int64_t most = x->early || rng_chance(&s->w.rng, 300) ? 40 * MS : 3 * SECOND;

		if (x->job == job && x->attempt < attempt && rng_chance(&s->w.rng, x->early ? 900 : 400))
			world_at(&s->w, s->w.now + rng_range(&s->w.rng, 0, most), EV_REPEAT, &a->proc, 0, x);
	}
}

void repeat_event(struct sim *s, struct agent_actor *a, const struct event *e)
{
	const struct said *x = e->p;

	if (a->session == NULL || a->session->end[0].gone || a->session->end[0].closing)
		return;
	LINE(&s->w, a->name, "says AGAIN %.3900s", x->text);
	net_send(s, a->session, 0, x->text, x->len);
}
