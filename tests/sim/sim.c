/* sim.c - one run: the loop, crashes after actions, the end */
#include "tests/sim/kernel.h"
#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

#define STEPS_MAX 400000
#define LIVENESS_NS (260 * SECOND) /* and this long after the last one all must be over */

void sim_fail(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->failed)
		return;
	s->failed = true;
	va_start(ap, fmt);
	vsnprintf(s->failure, sizeof(s->failure), fmt, ap);
	va_end(ap);
	LINE(&s->w, "CHECK", "%s", s->failure);
}

const char *proc_name(const struct sim *s, const struct proc *p)
{
	static char names[4][40];
	static unsigned turn;
	char *out = names[turn++ % 4];

	switch (p->kind) {
	case PK_COORD:
		return "coord";
	case PK_AGENT:
		return s->agents[p->idx].name;
	case PK_SHIM:
		snprintf(out, sizeof(names[0]), "shim%u:%llu@%s", p->idx,
			 (unsigned long long)s->shims[p->idx]->job,
			 s->agents[s->shims[p->idx]->host].name);
		return out;
	case PK_CLIENT:
		snprintf(out, sizeof(names[0]), "client%u", p->idx);
		return out;
	case PK_ADMIN:
		return "admin";
	case PK_LAUNCHER:
		snprintf(out, sizeof(names[0]), "launch@%s", s->agents[p->idx].name);
		return out;
	case PK_ROGUE:
		break;
	}
	return "rogue";
}

/* ---- processes ---------------------------------------------------------------- */

void proc_start(struct proc *p)
{
	p->life++;
	p->up = true;
	p->armed = NEVER;
	p->due_again = 0;
	p->resume_at = -NEVER / 2;
	p->links = NULL;
	p->n_links = p->cap_links = 0;
}

mono_t proc_mono(const struct sim *s, const struct proc *p)
{
	return (mono_t){ world_mono(&s->w).ns + p->mono_ns };
}

/* Timers of the real loop have whole milliseconds and come late. */
void proc_arm(struct sim *s, struct proc *p, mono_t deadline)
{
	int64_t at;

	if (!p->up || mono_is_never(deadline))
		return;
	at = deadline.ns - (proc_mono(s, p).ns - s->w.now);
	if (at < s->w.now)
		at = s->w.now;
	if (p->armed <= at)
		return;
	p->armed = at;
	world_at(&s->w, at + MS / 2, EV_TIMER, p, ++p->timer_gen, NULL);
}

bool proc_due(struct sim *s, struct proc *p, uint64_t gen, mono_t deadline)
{
	if (gen != p->timer_gen)
		return false;
	p->armed = NEVER;
	if (mono_due(deadline, proc_mono(s, p)))
		return true;
	proc_arm(s, p, deadline);
	return false;
}

/* A deadline that stays due would spin the real loop. */
void proc_stepped(struct sim *s, struct proc *p, bool by_deadline, mono_t deadline)
{
	if (!by_deadline || !mono_due(deadline, proc_mono(s, p)))
		p->due_again = 0;
	else if (++p->due_again > 50)
		sim_fail(s, "a deadline that was served moves on (%s asks for the same one again)",
			 proc_name(s, p));
}

static const struct proc *victim(const struct sim *s, const struct crash *c)
{
	switch (c->kind) {
	case PK_COORD:
		return &s->coord.proc;
	case PK_AGENT:
		return &s->agents[c->idx].proc;
	case PK_SHIM:
		return c->idx < s->n_shims ? &s->shims[c->idx]->proc : NULL;
	case PK_CLIENT:
		return &s->clients[c->idx].proc;
	case PK_LAUNCHER:
		return &s->agents[c->idx].launcher;
	default:
		return NULL;
	}
}

static void next_crash(struct sim *s)
{
	const struct proc *p;

	if (++s->crash.done == s->crash.n)
		return;
	p = victim(s, &s->crash.v[s->crash.done]);
	s->crash.from = p != NULL ? p->actions : 0;
}

static void crash_now(struct sim *s, const struct crash *c)
{
	int64_t down = rng_range(&s->w.rng, 50 * MS, 3 * SECOND);

	next_crash(s);
	s->n_faults++;
	due_disturbed(s, down);
	fault_silences(s, c->how == CR_HOST ? 5 * SECOND + down : down);
	switch (c->kind) {
	case PK_COORD:
		if (c->how == CR_HOST)
			simcoord_power(s, SECOND + down);
		else
			simcoord_crash(s, down);
		break;
	case PK_AGENT:
		if (c->how == CR_HOST)
			simagent_reboot(s, &s->agents[c->idx], 5 * SECOND + down);
		else
			simagent_crash(s, &s->agents[c->idx], down);
		break;
	case PK_SHIM:
		simshim_kill9(s, s->shims[c->idx]);
		break;
	case PK_CLIENT:
		client_crash(s, &s->clients[c->idx], down);
		break;
	case PK_LAUNCHER:
		launcher_crash(s, &s->agents[c->idx], down);
		break;
	default:
		break;
	}
}

bool proc_acted(struct sim *s, struct proc *p, uint32_t type, const void *text, size_t len)
{
	if (type == ACT_LOG) /* nothing happens: a crash after it is one after what came before */
		return false;
	p->actions++;
	world_mix(&s->w, (uint64_t)p->kind << 40 | (uint64_t)p->idx << 16 | type);
	if (len > 0)
		world_mix_bytes(&s->w, text, len);
	for (uint32_t i = 0; i < s->n_triggers; i++) {
		struct trigger *t = &s->triggers[i];

		if (t->fault != NULL && t->kind == p->kind && t->idx == p->idx && p->actions >= t->after)
			fault_triggered(s, t);
	}
	if (s->crash.done < s->crash.n) {
		const struct crash *c = &s->crash.v[s->crash.done];

		if (c->kind == p->kind && c->idx == p->idx && p->actions >= s->crash.from + c->after)
			crash_now(s, c);
	}
	return !p->up;
}

/* ---- the loop ------------------------------------------------------------------ */

static void dispatch(struct sim *s, const struct event *e)
{
	if (e->kind == EV_PUMP) {
		net_pump(s, e->p, (int)e->a);
		return;
	}
	if (e->kind == EV_FAULT) {
		fault_event(s, e);
		return;
	}
	if (e->kind == EV_HANG) {
		hang_event(s, e);
		return;
	}
	if (e->kind == EV_CHECK) {
		check_deferred(s, e);
		return;
	}
	switch (e->proc->kind) {
	case PK_COORD:
		simcoord_event(s, e);
		break;
	case PK_AGENT:
		simagent_event(s, &s->agents[e->proc->idx], e);
		break;
	case PK_SHIM:
		simshim_event(s, s->shims[e->proc->idx], e);
		break;
	case PK_CLIENT:
		client_event(s, &s->clients[e->proc->idx], e);
		break;
	case PK_ROGUE:
		rogue_event(s, e);
		break;
	case PK_ADMIN:
		admin_event(s, e);
		break;
	case PK_LAUNCHER:
		launcher_event(s, &s->agents[e->proc->idx], e);
		break;
	}
}

static void mix_event(struct sim *s, const struct event *e)
{
	uint64_t who = e->proc == NULL ? 0
				       : (uint64_t)(e->proc->kind + 1) << 32 | e->proc->idx;

	world_mix(&s->w, (uint64_t)e->at);
	world_mix(&s->w, who << 8 | e->kind);
}

static void loop(struct sim *s)
{
	struct event e;

	while (!s->failed && !s->finished && world_pop(&s->w, &e)) {
		if (s->w.steps > STEPS_MAX) {
			sim_fail(s, "a run needs less than %d events (something talks without end)",
				 STEPS_MAX);
			return;
		}
		if (!s->healed && s->w.now >= s->heal_at)
			fault_heal(s);
		mix_event(s, &e);
		dispatch(s, &e);
		if (s->healed && !s->failed && check_quiet(s))
			s->finished = true;
		else if (s->healed && s->w.now > s->give_up_at)
			check_liveness(s);
	}
	if (!s->failed && !s->finished)
		check_liveness(s);
}

static void reset(struct sim *s, const struct scenario *sc, uint64_t seed,
		  const struct crash_plan *crash)
{
	struct world w = s->w;

	memset(s, 0, sizeof(*s));
	s->w = w;
	s->sc = sc;
	s->seed = seed;
	if (crash != NULL)
		s->crash = *crash;
	world_begin(&s->w, seed);
	s->n_agents = sc->nodes;
	s->node_lost_ms = (uint32_t)rng_range(&s->w.rng, 12, 25) * 1000;
	s->prepare_ms = 12000;
	s->request_ms = 30000;
	s->slow_store = 20;
	s->launchers = rng_chance(&s->w.rng, 500);
	s->next_pid = 1000;
	s->heal_at = 0;
	simstore_begin(s);
	kernel_begin(s);
}

static bool run(struct sim *s, const struct scenario *sc, uint64_t seed,
		const struct crash_plan *crash, bool no_jumps)
{
	reset(s, sc, seed, crash);
	s->no_jumps = no_jumps;
	for (uint32_t i = 0; i < s->n_agents; i++)
		simagent_setup(s, i);
	sc->setup(s);
	simcoord_setup(s);
	s->give_up_at = s->heal_at + LIVENESS_NS;
	simcoord_start(s);
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (s->agents[i].host_up)
			simagent_start(s, &s->agents[i]);
	loop(s);
	if (!s->failed)
		check_outcomes(s);
	simcoord_teardown(s);
	for (uint32_t i = 0; i < s->n_agents; i++)
		simagent_teardown(&s->agents[i]);
	for (uint32_t i = 0; i < s->n_shims; i++)
		simshim_teardown(s->shims[i]);
	return !s->failed;
}

bool sim_run(struct sim *s, const struct scenario *sc, uint64_t seed, const struct crash_plan *crash)
{
	return run(s, sc, seed, crash, false);
}

bool sim_run_without_jumps(struct sim *s, const struct scenario *sc, uint64_t seed)
{
	return run(s, sc, seed, NULL, true);
}

void sim_finish(struct sim *s)
{
	world_finish(&s->w);
	simstore_finish();
}
