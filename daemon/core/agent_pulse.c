/* agent_pulse.c - what the shims tell of what their ranks do: kept, and passed on
 *
 * The last word of each is told again to a coordinator that we register with anew,
 * grown older by the time it lay here.
 */
#include "core/agent_internal.h"

#include <errno.h>

static struct rec_rank_pulse *aged(struct agent *a, const struct rec_pulse *p, uint64_t ms)
{
	struct rec_rank_pulse *v = arena_memdup(&a->out->arena, p->ranks, p->n_ranks * sizeof(*v));

	for (size_t i = 0; v != NULL && i < p->n_ranks; i++) {
		if (MSG_HAS(&v[i], rank_pulse, idle_ms))
			v[i].idle_ms += ms;
		if (MSG_HAS(&v[i], rank_pulse, state_ms))
			v[i].state_ms += ms;
	}
	return v;
}

static void tell(struct agent *a, struct ajob *j)
{
	uint64_t ms = (uint64_t)mono_sub_ms(a->now, j->pulse_at);
	struct rec_train_step step;
	struct msg m;

	msg_init(&m, MSG_pulse);
	m.u.pulse = j->pulse.u.pulse;
	m.u.pulse.job = j->job; /* whatever the shim says */
	m.u.pulse.attempt = j->attempt;
	m.u.pulse.ranks = aged(a, &j->pulse.u.pulse, ms);
	if (m.u.pulse.ranks == NULL) {
		a->oom = true;
		return;
	}
	if (m.u.pulse.n_step > 0) {
		step = m.u.pulse.step[0];
		if (MSG_HAS(&step, train_step, age_ms))
			step.age_ms += ms;
		m.u.pulse.step = &step;
	}
	session_send(a, &m);
}

void pulse_on_shim(struct agent *a, struct ajob *j, const struct msg *m)
{
	struct msg copy;
	int r;

	if (!ajob_alive(j))
		return;
	r = msg_copy(m, &copy);
	if (r == -ENOMEM)
		a->oom = true;
	if (r < 0)
		return;
	msg_finish(&j->pulse);
	j->pulse = copy;
	j->pulse_at = a->now;
	tell(a, j);
}

void pulses_registered(struct agent *a)
{
	list_foreach(e, &a->jobs) {
		struct ajob *j = list_entry(e, struct ajob, all);

		if (j->pulse.type == MSG_pulse && ajob_alive(j))
			tell(a, j);
	}
}

/* ---- stacks: passed on both ways ------------------------------------------------- */

void stacks_on_get(struct agent *a, const struct rec_stacks_get *g)
{
	struct ajob *j = ajob_find(a, g->job, g->attempt);
	struct msg m;

	if (j == NULL || j->phase != AJ_RUNNING)
		return;
	j->answers_due = ANSWERS_MAX;
	msg_init(&m, MSG_stacks_get);
	m.u.stacks_get = *g;
	ajob_send_shim(a, j, &m);
}

void stacks_on_shim(struct agent *a, struct ajob *j, const struct rec_stacks *s)
{
	struct msg m;

	if (j->answers_due == 0)
		return;
	j->answers_due--;
	msg_init(&m, MSG_stacks);
	m.u.stacks = *s;
	m.u.stacks.job = j->job;
	m.u.stacks.attempt = j->attempt;
	session_send(a, &m);
}
