/* hang.c - ranks that freeze, shims that tell of it, and what must be said
 *
 * A rank stops making progress at some time after its start, is stopped (T) or waits
 * for a disk (D), and goes on at another time, or never in this attempt. Its shim
 * looks as pulse.c does: every 5 s, every second while some rank is idle. What the
 * others do meanwhile is the plan's: they compute, or they wait.
 *
 *   H1  such a rank is named, the right one, within 30 s where nothing else goes wrong
 *   H2  of each freezing it is told once, whoever dies, and it is told at all
 *   H3  that it goes on is not told while it is frozen
 *   H4  nothing else is a hang, however long a rank works while others wait
 *
 * What is on disk counts for H2: what a coordinator has told nobody but itself may be told again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

#define LOOK_NS (5 * SECOND)
#define IDLE_LOOK_NS SECOND
#define TELL_NS (5 * SECOND)
#define NAMED_NS (30 * SECOND)
#define RANKS 64
#define FOR_EVER (3600 * SECOND)

enum { HANG_BEGINS, HANG_NAMED, HANG_OVER };

struct hang_of_shim {
	int64_t began, looked, told;
	int64_t idle_since[RANKS], state_since[RANKS]; /* as seen at a look; 0: not so */
	bool again;
	bool frozen; /* it has begun to be */
};

static bool may_freeze(const struct shim_actor *h, uint32_t local)
{
	const struct plan *p = h->plan;

	return p->freeze_ms > 0 && p->freeze_rank == h->rank_base + local &&
	       (p->freeze_attempts == 0 || h->attempt <= p->freeze_attempts);
}

static bool is_frozen(const struct sim *s, const struct shim_actor *h, uint32_t local)
{
	const struct plan *p = h->plan;
	int64_t ran = h->hang != NULL ? s->w.now - h->hang->began : 0;

	return h->hang != NULL && may_freeze(h, local) && ran >= p->freeze_ms * MS &&
	       (p->thaw_ms == 0 || ran < p->thaw_ms * MS);
}

/* All of an attempt in which one freezes and never thaws wait for it. */
bool hang_holds(const struct shim_actor *h)
{
	const struct plan *p = h->plan;

	return p->freeze_ms > 0 && p->thaw_ms == 0 && (p->freeze_attempts == 0 || h->attempt <= p->freeze_attempts);
}

/* ---- what the shim sees ---------------------------------------------------------------- */

static bool waits(const struct sim *s, const struct shim_actor *h, uint32_t local)
{
	if (is_frozen(s, h, local))
		return true;
	return h->plan->others_wait && h->rank_base + local != (h->plan->freeze_ms > 0 ? h->plan->freeze_rank : 0);
}

static bool look(struct sim *s, struct shim_actor *h)
{
	struct hang_of_shim *x = h->hang;
	bool changed = x->again, idle = false;

	for (uint32_t i = 0; i < h->nprocs && i < RANKS; i++) {
		bool w = h->workers[i].alive && waits(s, h, i), f = w && is_frozen(s, h, i);

		changed = changed || w != (x->idle_since[i] != 0) || f != (x->state_since[i] != 0);
		if (w && x->idle_since[i] == 0)
			x->idle_since[i] = x->looked; /* the end of the last look that saw it work */
		if (f && x->state_since[i] == 0)
			x->state_since[i] = s->w.now;
		x->idle_since[i] = w ? x->idle_since[i] : 0;
		x->state_since[i] = f ? x->state_since[i] : 0;
		idle = idle || w;
	}
	x->looked = s->w.now;
	world_at(&s->w, s->w.now + (idle ? IDLE_LOOK_NS : LOOK_NS), EV_PULSE, &h->proc, 0, NULL);
	return changed || (idle && s->w.now - x->told >= TELL_NS);
}

static void fill(const struct sim *s, const struct shim_actor *h, uint32_t local, struct rec_rank_pulse *r)
{
	const struct hang_of_shim *x = h->hang;

	*r = (struct rec_rank_pulse){ .rank = h->rank_base + local, .pid = h->workers[local].pid, .state = "R" };
	r->has |= MSG_BIT(rank_pulse, pid);
	MSG_SET(r, rank_pulse, procs, 1);
	if (x->idle_since[local] == 0) {
		MSG_SET(r, rank_pulse, cpu_permille, 1000);
		return;
	}
	r->state = x->state_since[local] == 0 ? "S" : h->plan->freeze_in_disk ? "D" : "T";
	r->wchan = x->state_since[local] == 0 ? "futex_do_wait" : h->plan->freeze_in_disk ? "nfs_wait_bit_killable" : "do_signal_stop";
	MSG_SET(r, rank_pulse, idle_ms, (uint64_t)(s->w.now - x->idle_since[local]) / MS);
	if (x->state_since[local] != 0)
		MSG_SET(r, rank_pulse, state_ms, (uint64_t)(s->w.now - x->state_since[local]) / MS);
}

static void tell(struct sim *s, struct shim_actor *h)
{
	struct rec_rank_pulse v[RANKS];
	struct msg m;
	struct buf b;

	msg_init(&m, MSG_pulse);
	m.u.pulse.job = h->job;
	m.u.pulse.attempt = h->attempt;
	m.u.pulse.ranks = v;
	for (uint32_t i = 0; i < h->nprocs && i < RANKS; i++)
		if (h->workers[i].alive)
			fill(s, h, i, &v[m.u.pulse.n_ranks++]);
	h->hang->told = s->w.now;
	h->hang->again = false;
	buf_init(&b);
	if (msg_encode(&m, &b, NULL) < 0)
		sim_fail(s, "the shim's own pulse can be encoded");
	else
		net_send(s, h->agent, 1, b.data, b.len);
	buf_finish(&b);
}

void hang_pulse(struct sim *s, struct shim_actor *h)
{
	if (h->hang == NULL || !h->proc.up || simshim_alive(h) == 0)
		return;
	if (look(s, h) && h->agent != NULL)
		tell(s, h);
}

/* Somebody new listens. */
void hang_listened(struct shim_actor *h)
{
	if (h->hang != NULL)
		h->hang->again = true;
}

static void freezes_at(struct sim *s, struct shim_actor *h, uint32_t local)
{
	int64_t at = h->hang->began + h->plan->freeze_ms * MS;

	if (!may_freeze(h, local))
		return;
	world_at(&s->w, at, EV_HANG, NULL, HANG_BEGINS, h);
	world_at(&s->w, at + NAMED_NS, EV_HANG, NULL, HANG_NAMED, h);
	if (h->plan->thaw_ms > 0)
		world_at(&s->w, h->hang->began + h->plan->thaw_ms * MS - 1, EV_HANG, NULL, HANG_OVER, h);
}

/* Its ranks were started. */
void hang_began(struct sim *s, struct shim_actor *h)
{
	if (!h->plan->pulses)
		return;
	s->hangs = true;
	h->hang = world_alloc(&s->w, sizeof(*h->hang));
	h->hang->began = h->hang->looked = s->w.now;
	h->hang->again = true;
	for (uint32_t i = 0; i < h->nprocs; i++)
		freezes_at(s, h, i);
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS, LOOK_NS), EV_PULSE, &h->proc, 0, NULL);
}

/* ---- what must be said -------------------------------------------------------------------- */

static bool still_frozen(const struct sim *s, const struct shim_actor *h)
{
	for (uint32_t i = 0; i < h->nprocs; i++)
		if (h->workers[i].alive && is_frozen(s, h, i))
			return true;
	return false;
}

void hang_event(struct sim *s, const struct event *e)
{
	struct shim_actor *h = e->p;
	const struct jobrec *j = check_job(s, h->job);

	if (!still_frozen(s, h))
		return;
	if (e->a == HANG_BEGINS && !h->hang->frozen) {
		h->hang->frozen = true;
		check_job(s, h->job)->n_frozen++;
		LINE(&s->w, proc_name(s, &h->proc), "rank %u FREEZES", h->plan->freeze_rank);
	}
	if (j->final[0] != '\0' || j->told_hung_attempt == h->attempt || s->coord.proc.life == 0)
		return;
	if (e->a == HANG_NAMED && s->n_faults == 0 && s->crash.done == 0)
		sim_fail(s, "H1: a rank that freezes is named within 30 s (job %" PRIu64 ", rank %u)", h->job,
			 h->plan->freeze_rank);
	if (e->a == HANG_OVER && s->healed)
		sim_fail(s, "H2: a hang is told, whoever died meanwhile (job %" PRIu64 ", rank %u)", h->job,
			 h->plan->freeze_rank);
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static void named(struct sim *s, const struct rec_row_job *r, const char *text)
{
	const struct plan *p = check_job(s, r->job)->plan;
	char who[64];

	if (p == NULL)
		p = plan_of_hash(s, r->spec_hash.p);
	if (p->freeze_ms == 0) {
		sim_fail(s, "H4: a rank that works, and others that wait for it, are no hang (job %" PRIu64 ": %s)", r->job, text);
		return;
	}
	snprintf(who, sizeof(who), "hangs: rank %u on ", p->freeze_rank);
	if (!begins(text, who))
		sim_fail(s, "H1: the rank that is named is the one that is frozen (job %" PRIu64 ", rank %u: %s)", r->job,
			 p->freeze_rank, text);
}

static bool job_is_frozen(const struct sim *s, uint64_t job)
{
	for (uint32_t i = 0; i < s->n_shims; i++)
		if (s->shims[i]->job == job && s->shims[i]->hang != NULL && still_frozen(s, s->shims[i]))
			return true;
	return false;
}

static void count(const struct rec_row_job *r, uint32_t *ret_hangs, uint32_t *ret_on)
{
	*ret_hangs = *ret_on = 0;
	for (size_t i = 0; i < r->n_story; i++) {
		*ret_hangs += begins(r->story[i].text, "hangs: ");
		*ret_on += begins(r->story[i].text, "goes on again");
	}
}

/* In the coordinator's memory, after each of its steps. */
void hang_look_job(struct sim *s, const struct rec_row_job *r)
{
	struct jobrec *j = check_job(s, r->job);
	uint32_t hangs, on;

	if (!s->hangs)
		return;
	count(r, &hangs, &on);
	for (size_t i = 0; i < r->n_story && hangs > 0; i++)
		if (begins(r->story[i].text, "hangs: "))
			named(s, r, r->story[i].text);
	if (MSG_HAS(r, row_job, hung_attempt) && hangs > 0)
		j->told_hung_attempt = r->hung_attempt;
	if (on > j->told_on && job_is_frozen(s, r->job))
		sim_fail(s, "H3: a rank that is frozen does not go on again (job %" PRIu64 ")", r->job);
	j->told_on = on;
}

/* On disk. */
void hang_row(struct sim *s, const struct rec_row_job *r)
{
	const struct jobrec *j = check_job(s, r->job);
	uint32_t hangs, on;

	if (!s->hangs)
		return;
	count(r, &hangs, &on);
	if (hangs > j->n_frozen || on > hangs)
		sim_fail(s, "H2: a hang is told once (job %" PRIu64 ": %u times of %u, %u times that it goes on)", r->job, hangs,
			 j->n_frozen, on);
}

/* May the coordinator end this job because it hangs? */
bool hang_ends(const struct sim *s, const struct shim_actor *h)
{
	return h->plan->on_hang != NULL && s->jobs[h->job % JOBS_MAX].told_hung_attempt >= h->attempt;
}
