/* actor_shim.c - shims and the processes of jobs
 *
 * A rank runs for as long as its plan says, then exits; a signal ends it
 * unless it ignores TERM. It may leave a process behind that holds its pipes.
 * When the shim itself is killed its ranks die with it (pdeathsig), what they
 * left behind does not.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/proc.h"
#include "tests/sim/kernel.h"
#include "tests/sim/sim.h"

static bool is_rank(const struct shim_actor *h, const struct worker *w)
{
	return w < h->workers + h->nprocs;
}

struct shim_actor *simshim_find(struct sim *s, uint32_t host, uint64_t job, uint32_t attempt)
{
	for (uint32_t i = s->n_shims; i > 0; i--) {
		struct shim_actor *h = s->shims[i - 1];

		if (h->host == host && h->job == job && h->attempt == attempt &&
		    h->boot == s->agents[host].boot)
			return h;
	}
	return NULL;
}

uint32_t simshim_alive(const struct shim_actor *h)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < h->n_workers; i++)
		n += h->workers[i].alive;
	return n;
}

struct shim_actor *simshim_spawn(struct sim *s, struct agent_actor *a, const struct rec_prepare *p,
				 const char *cookie)
{
	struct shim_actor *h = world_alloc(&s->w, sizeof(*h));

	if (s->n_shims == s->cap_shims) {
		uint32_t cap = s->cap_shims ? s->cap_shims * 2 : 32;
		struct shim_actor **v = world_alloc(&s->w, cap * sizeof(struct shim_actor *));

		if (s->n_shims > 0)
			memcpy(v, s->shims, s->n_shims * sizeof(struct shim_actor *));
		s->shims = v;
		s->cap_shims = cap;
	}
	h->proc.kind = PK_SHIM;
	h->proc.idx = h->idx = s->n_shims;
	h->host = a->idx;
	h->boot = a->boot;
	h->job = p->job;
	h->attempt = p->attempt;
	h->plan = plan_of_hash(s, p->spec_hash.p);
	h->cookie = cookie;
	h->rank_base = p->rank_base;
	h->nprocs = p->nprocs;
	h->node_rank = p->node_rank;
	h->nnodes = p->nnodes;
	h->n_workers = 2 * p->nprocs;
	h->workers = world_alloc(&s->w, h->n_workers * sizeof(*h->workers));
	h->closed = world_alloc(&s->w, h->nprocs * sizeof(bool));
	h->execs = world_alloc(&s->w, h->nprocs * sizeof(struct exec *));
	s->shims[s->n_shims++] = h;
	proc_start(&h->proc);
	h->proc.mono_ns = a->mono_ns;
	h->gpus_given = gpus_mask(a, p->gpu_ids);
	h->pid = kernel_fork(s, h, NULL, KERNEL_AGENT);
	h->sweep = sweep_create();
	h->core = shim_create(h->job, h->attempt, h->nprocs, h->pid, kernel_start_time(s, h->host, h->pid),
			      proc_mono(s, &h->proc));
	shim_actions_init(&h->acts);
	proc_arm(s, &h->proc, shim_deadline(h->core));
	return h;
}

void simshim_teardown(struct shim_actor *h)
{
	if (h->core == NULL)
		return;
	shim_destroy(h->core);
	h->core = NULL;
	sweep_destroy(h->sweep);
	h->sweep = NULL;
	shim_actions_finish(&h->acts);
}

static void gone(struct sim *s, struct shim_actor *h)
{
	net_proc_died(s, &h->proc, false);
	h->proc.up = false;
	h->proc.life++;
	h->agent = NULL;
	simshim_teardown(h);
	kernel_exit(s, h->host, h->pid);
	kernel_reap(s, h->host, h->pid);
}

/* The process is no more; nobody will hear how it ended. */
static void vanish(struct sim *s, struct shim_actor *h, struct worker *w)
{
	struct exec *x = is_rank(h, w) ? h->execs[w->local] : NULL;

	if (w->alive && x != NULL) {
		x->end = EX_VANISHED;
		x->over_at = s->w.now;
	}
	if (w->alive)
		kernel_exit(s, h->host, w->pid);
	w->alive = false;
}

static void dies(struct sim *s, struct shim_actor *h, struct worker *w)
{
	bool was = w->alive;

	vanish(s, h, w);
	if (was)
		gpus_left(s, h);
}

void simshim_kill9(struct sim *s, struct shim_actor *h)
{
	if (!h->proc.up)
		return;
	LINE(&s->w, proc_name(s, &h->proc), "KILLED after action %llu",
	     (unsigned long long)h->proc.actions);
	for (uint32_t i = 0; i < h->nprocs; i++)
		if (!stuck_now(s, &h->workers[i]))
			dies(s, h, &h->workers[i]);
	check_job(s, h->job)->lost_allowed = true;
	gone(s, h);
	check_shim_died(s, h);
}

void simshim_unborn(struct sim *s, struct shim_actor *h)
{
	if (h->proc.up)
		gone(s, h);
}

void simshim_host_gone(struct sim *s, struct shim_actor *h)
{
	for (uint32_t i = 0; i < h->n_workers; i++)
		vanish(s, h, &h->workers[i]);
	if (h->proc.up)
		gone(s, h);
}

/* By the cookie in their environment; the shim has it too. */
uint32_t simshim_sweep(struct sim *s, struct shim_actor *h)
{
	int n;

	kernel_as(s, h->host, KERNEL_AGENT);
	n = proc_sweep_env("NODEAGENT_COOKIE", h->cookie, 30, NULL);
	kernel_as(s, h->host, 0);
	return n > 0 ? (uint32_t)n : 0;
}

/* ---- processes ------------------------------------------------------------------ */

static void reap_later(struct sim *s, struct shim_actor *h)
{
	if (h->reap_queued)
		return;
	h->reap_queued = true;
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, 20000, 4 * MS), EV_REAP, &h->proc, 0, NULL);
}

static void close_later(struct sim *s, struct shim_actor *h)
{
	if (h->close_queued)
		return;
	h->close_queued = true;
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, 20000, 6 * MS), EV_CLOSED, &h->proc, 0, NULL);
}

static void exits_in(struct sim *s, struct shim_actor *h, struct worker *w, int64_t wait, int status)
{
	world_at(&s->w, s->w.now + wait, EV_EXIT, &h->proc, (uint64_t)status, w);
}

static void worker_exits(struct sim *s, struct shim_actor *h, struct worker *w, int status)
{
	struct exec *x = is_rank(h, w) ? h->execs[w->local] : NULL;

	if (!w->alive)
		return;
	if (stuck_now(s, w)) {
		exits_in(s, h, w, w->undying - s->w.now, status);
		return;
	}
	w->alive = false;
	gpus_left(s, h);
	w->status = status;
	kernel_exit(s, h->host, w->pid);
	if (x != NULL) {
		x->end = (status & 0x7f) != 0 ? EX_SIGNALLED : EX_EXITED;
		x->over_at = s->w.now;
		x->code = (uint32_t)status >> 8;
		x->sig = (uint32_t)status & 0x7f;
		LINE(&s->w, proc_name(s, &h->proc), "rank %u dies: code %u signal %u", x->rank, x->code,
		     x->sig);
	}
	reap_later(s, h);
	close_later(s, h);
}

static void plan_exit(struct sim *s, struct shim_actor *h, struct worker *w, int64_t after)
{
	const struct plan *p = h->plan;
	int64_t run = p->run_ms * MS;

	run += rng_range(&s->w.rng, 0, run / 8);
	if (p->also_fails == (int)(h->rank_base + w->local))
		exits_in(s, h, w, after + p->fail_ms * MS + p->also_us * 1000, 9 << 8);
	else if (p->fail_rank == (int)(h->rank_base + w->local) &&
		 (p->fail_attempts == 0 || h->attempt <= p->fail_attempts))
		exits_in(s, h, w, after + p->fail_ms * MS,
			 p->fail_sig != 0 ? (int)p->fail_sig : (int)p->fail_code << 8);
	else
		exits_in(s, h, w, hang_holds(h) ? 3600 * SECOND : after + run, 0);
}

static void fork_one(struct sim *s, struct shim_actor *h, uint32_t local, int64_t after)
{
	struct worker *w = &h->workers[local], *left = &h->workers[h->nprocs + local];
	struct exec *x = world_alloc(&s->w, sizeof(*x));

	x->job = h->job;
	x->attempt = h->attempt;
	x->rank = h->rank_base + local;
	x->host = h->host;
	x->boot = h->boot;
	x->began = s->w.now;
	x->next = s->execs;
	s->execs = x;
	h->execs[local] = x;
	w->local = left->local = local;
	if (rng_chance(&s->w.rng, h->plan->unstartable)) {
		x->unstartable = true;
		x->end = EX_EXITED;
		x->over_at = s->w.now;
		x->code = 126;
		h->closed[local] = true;
		w->reaped = left->reaped = true;
		return;
	}
	w->alive = true;
	w->pid = kernel_fork(s, h, w, h->pid);
	w->stubborn = rng_chance(&s->w.rng, h->plan->stubborn);
	left->alive = rng_chance(&s->w.rng, h->plan->leftover);
	left->reaped = !left->alive;
	if (left->alive)
		left->pid = kernel_fork(s, h, left, w->pid);
	left->stubborn = rng_chance(&s->w.rng, 300);
	stuck_begin(s, h, w);
	stuck_begin(s, h, left);
	plan_exit(s, h, w, after);
}

static void signal_one(struct sim *s, struct shim_actor *h, struct worker *w, int sig)
{
	struct exec *x = is_rank(h, w) ? h->execs[w->local] : NULL;

	if (!w->alive || sig == SIGCONT)
		return;
	if (x != NULL)
		x->signalled = true;
	w->killed = w->killed || sig == SIGKILL;
	if (sig == SIGKILL)
		exits_in(s, h, w, rng_range(&s->w.rng, 10000, 3 * MS), SIGKILL);
	else if (!w->stubborn)
		exits_in(s, h, w, rng_range(&s->w.rng, 10000, 300 * MS),
			 rng_chance(&s->w.rng, 300) ? (int)rng_below(&s->w.rng, 2) << 8 : SIGTERM);
}

/* ---- actions ---------------------------------------------------------------------- */

static void do_start(struct sim *s, struct shim_actor *h)
{
	int64_t after = rng_range(&s->w.rng, MS, 30 * MS);

	check_start(s, h);
	gpus_started(s, h);
	h->started = true;
	s->n_starts++;
	for (uint32_t i = 0; i < h->nprocs; i++)
		fork_one(s, h, i, after + 100000);
	world_at(&s->w, s->w.now + after, EV_STARTED, &h->proc, 0, NULL);
}

void simshim_signal(struct sim *s, struct shim_actor *h, struct worker *w, int sig)
{
	if (h->proc.up)
		signal_one(s, h, w, sig);
	else if (stuck_now(s, w))
		w->killed = w->killed || sig == SIGKILL; /* it waits for it */
	else if (sig == SIGKILL)
		dies(s, h, w);
}

void simshim_hit(struct sim *s, struct shim_actor *h, int sig)
{
	sim_fail(s, "a shim that is alive is not swept (%s, signal %d)", proc_name(s, &h->proc), sig);
}

bool simshim_may_go(const struct sim *s, const struct shim_actor *h, const struct worker *w)
{
	return w->alive && !stuck_now(s, w) && !is_rank(h, w);
}

void simshim_goes(struct sim *s, struct shim_actor *h, struct worker *w)
{
	if (h->proc.up)
		worker_exits(s, h, w, 0);
	else
		dies(s, h, w);
}

static void do_signal(struct sim *s, struct shim_actor *h, const struct shim_action *a)
{
	check_signal(s, h, a->sig);
	kernel_as(s, h->host, h->pid);
	if (a->type == SACT_SWEEP)
		sweep_signal(h->sweep, a->sig, true, NULL, NULL);
	else
		sweep_signal_all(h->sweep, h->core, h->nprocs, a->sig);
	kernel_as(s, h->host, 0);
}

static void do_write(struct sim *s, struct shim_actor *h, const struct shim_action *a)
{
	h->to_write = world_copy(&s->w, a->text, a->len);
	h->to_write_len = a->len;
	if (rng_chance(&s->w.rng, 200) && s->agents[h->host].disk_full == 0)
		simagent_write_status(s, h->host, h->job, h->attempt, h->to_write, a->len);
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS / 10, 8 * MS), EV_WRITTEN, &h->proc, 0,
		 NULL);
}

/* A shim of an older version keeps no leases, and says so. */
static const char *spoken(struct sim *s, const struct shim_action *a)
{
	char *text = a->text, *proto = s->old_shims ? strstr(text, "\"proto\":2") : NULL;

	if (proto != NULL)
		proto[8] = '1';
	return text;
}

static void perform(struct sim *s, struct shim_actor *h, const struct shim_action *a)
{
	switch (a->type) {
	case SACT_SEND:
		if (h->agent == NULL)
			sim_fail(s, "a shim sends only to an agent that is there");
		else
			net_send(s, h->agent, 1, spoken(s, a), a->len);
		break;
	case SACT_HANG_UP:
		net_close(s, h->agent, 1, "hung up");
		h->agent = NULL;
		break;
	case SACT_CHECK:
		h->visible = NULL;
		if (a->setup->gpus != NULL)
			h->visible = world_copy(&s->w, a->setup->gpus, strlen(a->setup->gpus));
		world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS / 10, 20 * MS), EV_CHECKED, &h->proc,
			 0, NULL);
		break;
	case SACT_START:
		choice_go(s, h, a->go);
		if (a->go->gpus != NULL)
			h->visible = world_copy(&s->w, a->go->gpus, strlen(a->go->gpus));
		do_start(s, h);
		break;
	case SACT_SIGNAL:
	case SACT_SWEEP:
		do_signal(s, h, a);
		break;
	case SACT_STUCK:
		stuck_tell(s, h);
		break;
	case SACT_CLOSE:
		h->close_queued = true;
		world_at(&s->w, s->w.now + MS, EV_CLOSED, &h->proc, 1, NULL);
		break;
	case SACT_GUARD:
		h->guard_gen++;
		if (a->boot_ms != 0)
			world_at(&s->w, world_of_boot(&s->w, a->boot_ms), EV_GUARD, &h->proc, h->guard_gen, NULL);
		break;
	case SACT_WRITE:
		do_write(s, h, a);
		break;
	case SACT_EXIT:
		if (simshim_alive(h) > 0)
			sim_fail(s, "a shim leaves only when nothing of its job lives (%s)",
				 proc_name(s, &h->proc));
		gone(s, h);
		break;
	case SACT_TYPE_COUNT:
		break;
	}
}

static int64_t host_wall_us(const struct sim *s, const struct shim_actor *h)
{
	return world_wall_us(&s->w) + s->agents[h->host].wall_us;
}

static void feed(struct sim *s, struct shim_actor *h, struct shim_event *ev)
{
	if (!h->proc.up || s->failed)
		return;
	ev->now = proc_mono(s, &h->proc);
	ev->wall_us = host_wall_us(s, h);
	ev->wall_ms = ev->wall_us / 1000;
	ev->boot_ms = world_boot(&s->w);
	shim_step(h->core, ev, &h->acts);
	shim_check(h->core);
	proc_stepped(s, &h->proc, ev->type == SEV_DEADLINE, shim_deadline(h->core));
	for (size_t i = 0; i < h->acts.n; i++) {
		const struct shim_action *a = &h->acts.v[i];

		LINE(&s->w, proc_name(s, &h->proc), "%s %.*s", shim_action_name(a->type),
		     (int)(a->len > 3900 ? 3900 : a->len), a->text != NULL ? a->text : "");
		perform(s, h, a);
		if (!h->proc.up)
			return;
		if (proc_acted(s, &h->proc, a->type, a->text, a->len) || s->failed)
			return;
	}
	proc_arm(s, &h->proc, shim_deadline(h->core));
}

/* ---- events -------------------------------------------------------------------------- */

static void checked(struct sim *s, struct shim_actor *h)
{
	struct shim_event ev = { .type = SEV_CHECKED };

	if (h->plan->missing_host == (int)h->host) {
		ev.error = -ENOENT;
		ev.code = 127;
		ev.text = "train.py: command not found";
	}
	feed(s, h, &ev);
	if (h->proc.up && shim_phase(h->core) == SHIM_READY)
		check_shim_ready(s, h);
}

/* Dead ones count until they are reaped. */
static bool has_children(const struct shim_actor *h)
{
	for (uint32_t i = 0; i < h->n_workers; i++)
		if (h->workers[i].alive || !h->workers[i].reaped)
			return true;
	return false;
}

/* Of the launchers that its ranks are. */
static void find_workers(struct sim *s, struct shim_actor *h)
{
	struct shim_event ev = { .type = SEV_WORKERS };
	struct shim_rank_event v[64] = { { 0 } };

	for (uint32_t i = 0; i < h->nprocs && i < 64; i++)
		if (h->workers[i].alive)
			v[ev.n_ranks++] = (struct shim_rank_event){
				.local = i, .below = below_make(s, h->rank_base + i, false, 0, false)
			};
	ev.ranks = v;
	if (ev.n_ranks > 0)
		feed(s, h, &ev);
}

static void started(struct sim *s, struct shim_actor *h)
{
	struct shim_event ev = { .type = SEV_STARTED };
	struct shim_rank_event v[64] = { { 0 } };

	for (uint32_t i = 0; i < h->nprocs && i < 64; i++) {
		v[i].local = i;
		if (h->execs[i]->unstartable) {
			h->execs[i]->reaped_at = s->w.now;
			v[i].error = -EACCES;
			v[i].code = 126;
			v[i].text = "permission denied";
		} else {
			v[i].pid = (int32_t)h->workers[i].pid;
		}
	}
	ev.ranks = v;
	ev.n_ranks = h->nprocs;
	ev.gone = !has_children(h);
	feed(s, h, &ev);
	find_workers(s, h);
	hang_began(s, h);
}

/* A host that is busy lets its shim see an end up to 5 ms late, and the shim says so. Not of
 * the world's chance: what else happens in a seed stays the same. */
static int64_t seen_late_us(const struct sim *s, const struct shim_actor *h, uint32_t local)
{
	uint64_t x = ((uint64_t)s->w.now + local) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)h->rank_base << 7;

	x ^= x >> 29;
	return x % 4 == 0 ? (int64_t)(x / 4 % 5000) : 0;
}

static void reap(struct sim *s, struct shim_actor *h)
{
	struct shim_event ev = { .type = SEV_REAPED };
	struct shim_rank_event v[64] = { { 0 } };
	int64_t late;

	h->reap_queued = false;
	for (uint32_t i = 0; i < h->n_workers && i < 64; i++) {
		struct worker *w = &h->workers[i];

		if (w->alive || w->reaped)
			continue;
		w->reaped = true;
		kernel_reap(s, h->host, w->pid);
		if (!is_rank(h, w))
			continue;
		late = seen_late_us(s, h, i);
		h->execs[i]->reaped_at = s->w.now - 1000 * (late / 2);
		v[ev.n_ranks].late_us = (uint64_t)late;
		v[ev.n_ranks].ended = proc_mono(s, &h->proc);
		v[ev.n_ranks].end_us = host_wall_us(s, h);
		v[ev.n_ranks].local = i;
		v[ev.n_ranks].tail = (struct bytes){ (const uint8_t *)"last words\n", 11 };
		v[ev.n_ranks].below = below_make(s, h->rank_base + i, true, w->status, h->execs[i]->signalled);
		v[ev.n_ranks++].status = w->status;
	}
	ev.ranks = v;
	ev.gone = simshim_alive(h) == 0;
	ev.orphans = sweep_hits(h->sweep);
	feed(s, h, &ev);
}

static void closed(struct sim *s, struct shim_actor *h, bool all)
{
	struct shim_event ev = { .type = SEV_CLOSED };
	struct shim_rank_event v[64] = { { 0 } };

	h->close_queued = false;
	for (uint32_t i = 0; i < h->nprocs && i < 64; i++) {
		bool held = h->workers[i].alive || h->workers[h->nprocs + i].alive;

		if (h->closed[i] || (held && !all))
			continue;
		h->closed[i] = true;
		v[ev.n_ranks].local = i;
		v[ev.n_ranks++].streams = 2;
	}
	ev.ranks = v;
	if (ev.n_ranks > 0)
		feed(s, h, &ev);
}

static void written(struct sim *s, struct shim_actor *h)
{
	struct shim_event ev = { .type = SEV_WRITTEN };

	if (rng_chance(&s->w.rng, s->agents[h->host].disk_full)) {
		ev.error = -ENOSPC;
		ev.text = "no space left on device";
	} else {
		simagent_write_status(s, h->host, h->job, h->attempt, h->to_write, h->to_write_len);
	}
	feed(s, h, &ev);
}

void simshim_event(struct sim *s, struct shim_actor *h, const struct event *e)
{
	struct shim_event ev = { .type = SEV_DEADLINE };

	switch (e->kind) {
	case EV_TIMER:
		if (proc_due(s, &h->proc, e->a, shim_deadline(h->core)))
			feed(s, h, &ev);
		break;
	case EV_CHECKED:
		checked(s, h);
		break;
	case EV_STARTED:
		started(s, h);
		break;
	case EV_EXIT:
		worker_exits(s, h, e->p, (int)e->a);
		break;
	case EV_REAP:
		reap(s, h);
		break;
	case EV_CLOSED:
		closed(s, h, e->a != 0);
		break;
	case EV_WRITTEN:
		written(s, h);
		break;
	case EV_PULSE:
		hang_pulse(s, h);
		break;
	case EV_GUARD: /* the kernel's: also while it is stopped */
		if (e->a == h->guard_gen)
			simshim_kill9(s, h);
		break;
	default:
		break;
	}
}

/* ---- the agent's connections: the newest wins --------------------------------------------- */

void simshim_link_up(struct sim *s, struct shim_actor *h, struct conn *c)
{
	struct shim_event ev = { .type = SEV_AGENT_UP };

	if (h->agent != NULL)
		net_close(s, h->agent, 1, "a newer agent");
	h->agent = c;
	hang_listened(h);
	feed(s, h, &ev);
}

void simshim_link_down(struct sim *s, struct shim_actor *h, struct conn *c)
{
	struct shim_event ev = { .type = SEV_AGENT_DOWN };

	if (h->agent != c)
		return;
	h->agent = NULL;
	feed(s, h, &ev);
}

void simshim_message(struct sim *s, struct shim_actor *h, struct conn *c, const struct msg *m)
{
	struct shim_event ev = { .type = SEV_MESSAGE, .msg = m };

	if (h->agent != c)
		return;
	if (m->type == MSG_shim_end)
		check_shim_told(s, h, m->u.shim_end.grace_ms);
	feed(s, h, &ev);
}
