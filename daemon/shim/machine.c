/* machine.c - the transitions of machine.h
 *
 * Each event updates the state first; settle() then sees what has become due
 * (all ranks over? nobody left? pipes read out? status written?) and asks for
 * the next thing. settle() may run any number of times: it acts once.
 *
 * KILL never comes before the grace of shim_end has passed, even when the
 * ranks are over: their children may be saving a checkpoint. Only what
 * outlives ranks that ended by themselves is given SHIM_LEFTOVER_MS.
 */
#include "shim/machine_internal.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

void shim_actions_init(struct shim_actions *a)
{
	memset(a, 0, sizeof *a);
}

void shim_actions_finish(struct shim_actions *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->v[i].text);
	a->n = 0;
}

struct shim_action *shim_act(struct shim_actions *a, enum shim_action_type type)
{
	struct shim_action *act;

	assert(a->n < SHIM_ACTIONS_MAX);
	act = &a->v[a->n++];
	*act = (struct shim_action){ .type = type };
	return act;
}

struct shim *shim_create(uint64_t job, uint32_t attempt, uint32_t nprocs, uint32_t pid,
			 uint64_t start_time, mono_t now)
{
	struct shim *s;

	assert(nprocs >= 1 && nprocs <= 4096);
	s = calloc(1, sizeof *s + nprocs * sizeof s->ranks[0]);
	if (!s)
		return NULL;

	s->job = job;
	s->attempt = attempt;
	s->nprocs = nprocs;
	s->pid = pid;
	s->start_time = start_time;
	s->phase = SHIM_SETUP;
	s->gone = true;
	s->absent_at = mono_add_ms(now, SHIM_ABSENT_MS);
	s->kill_at = s->sweep_at = s->stuck_at = s->drain_at = s->rewrite_at = s->exit_at = s->lease_at =
		MONO_NEVER;
	return s;
}

void shim_destroy(struct shim *s)
{
	if (!s)
		return;

	for (uint32_t i = 0; i < s->nprocs; i++) {
		free(s->ranks[i].text);
		free(s->ranks[i].cause);
		free(s->ranks[i].tail);
		free(s->ranks[i].exception);
		free(s->ranks[i].workers);
	}
	free(s->fail_text);
	free(s->remark);
	free(s);
}

enum shim_phase shim_phase(const struct shim *s)
{
	return s->phase;
}

uint32_t shim_running(const struct shim *s)
{
	return s->n_running;
}

bool shim_started(const struct shim *s)
{
	return s->started;
}

int32_t shim_rank_pid(const struct shim *s, uint32_t local)
{
	return local < s->nprocs && s->ranks[local].phase == RANK_RUNNING ? s->ranks[local].pid : 0;
}

mono_t shim_deadline(const struct shim *s)
{
	mono_t t = mono_min(mono_min(s->absent_at, s->exit_at), s->lease_at);

	t = mono_min(t, mono_min(s->kill_at, mono_min(s->sweep_at, s->stuck_at)));
	return mono_min(t, mono_min(s->drain_at, s->rewrite_at));
}

/* ---- setup and start ------------------------------------------------- */

static bool before_start(const struct shim *s)
{
	return s->phase == SHIM_SETUP || s->phase == SHIM_READY || s->phase == SHIM_FAILED;
}

static void fail(struct shim *s, uint32_t code, const char *text, struct shim_actions *a)
{
	s->phase = SHIM_FAILED;
	s->fail_code = code ? code : 1;
	s->fail_text = strdup(text ? text : "the job could not be prepared");
	tell_ready(s, a);
}

static void on_setup(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	const struct rec_shim_setup *m = &ev->msg->u.shim_setup;

	if (s->phase != SHIM_SETUP) { /* a new agent asks again */
		if (s->phase == SHIM_READY || s->phase == SHIM_FAILED)
			tell_ready(s, a);
		return;
	}
	if (s->checking)
		return;

	s->have_setup = true;
	s->rank_base = m->rank_base;
	s->grace_ms = m->grace_ms;
	if (m->nprocs != s->nprocs) {
		fail(s, 1, "the shim was started for another number of ranks than the job has", a);
		return;
	}
	s->checking = true;
	shim_act(a, SACT_CHECK)->setup = m;
}

static void on_checked(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	if (!s->checking)
		return;

	s->checking = false;
	if (s->phase != SHIM_SETUP)
		return;
	if (ev->error) {
		fail(s, ev->code, ev->text, a);
		return;
	}
	s->phase = SHIM_READY;
	if (ev->text != NULL && s->remark == NULL)
		s->remark = strdup(ev->text); /* no memory: then it is not told */
	tell_ready(s, a);
}

/* It lay in our socket while we were stopped: the job may be over since. */
static bool is_stale(const struct rec_shim_go *m, mono_t now)
{
	return MSG_HAS(m, shim_go, until_mono_ms) && now.ns / 1000000 > m->until_mono_ms;
}

/* ---- lease ----------------------------------------------------------- */

static void guard(struct shim *s, int64_t boot_ms, struct shim_actions *a)
{
	s->guard_boot_ms = boot_ms;
	shim_act(a, SACT_GUARD)->boot_ms = boot_ms;
}

static void take_lease(struct shim *s, const struct shim_event *ev, int64_t until,
		       struct shim_actions *a)
{
	s->lease_boot_ms = until;
	s->lease_at = mono_add_ms(ev->now, until - ev->boot_ms);
	guard(s, until + s->grace_ms + SHIM_GUARD_MS, a);
}

static bool lease_passed(const struct shim *s, const struct shim_event *ev)
{
	return s->lease_boot_ms != 0 && ev->boot_ms >= s->lease_boot_ms;
}

/* Whatever lay in our socket meanwhile: the moment says until when it is good. */
static void on_lease(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	int64_t until = ev->msg->u.shim_lease.until_boot_ms;

	if (s->phase == SHIM_RUNNING && s->lease_boot_ms != 0 && until > s->lease_boot_ms)
		take_lease(s, ev, until, a);
}

static void on_go(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	const struct rec_shim_go *m = &ev->msg->u.shim_go;

	if (s->phase != SHIM_READY) {
		tell_ranks(s, true, a);
		return;
	}

	if (is_stale(m, ev->now) ||
	    (MSG_HAS(m, shim_go, lease_boot_ms) && ev->boot_ms >= m->lease_boot_ms)) {
		tell_hello(s, a); /* the agent decides anew */
		return;
	}
	s->phase = SHIM_RUNNING;
	s->started = s->starting = true;
	s->started_at = s->now;
	s->gone = false;
	snprintf(s->master_addr, sizeof s->master_addr, "%s", m->master_addr);
	s->master_port = m->master_port;
	if (MSG_HAS(m, shim_go, lease_boot_ms))
		take_lease(s, ev, m->lease_boot_ms, a);
	shim_act(a, SACT_START)->go = m;
}

static void signal_all(struct shim *s, int sig, struct shim_actions *a)
{
	bool ranks = s->n_running > 0;

	if (sig == SIGKILL)
		s->sent_kill = true;
	else
		s->sent_term = true;
	shim_act(a, ranks ? SACT_SIGNAL : SACT_SWEEP)->sig = sig;
}

static void rank_started(struct shim *s, const struct shim_event *ev,
			 const struct shim_rank_event *re)
{
	struct rank *r = &s->ranks[re->local];

	assert(re->local < s->nprocs && r->phase == RANK_WAITING);
	r->dirty = true;
	if (re->pid > 0) {
		r->phase = RANK_RUNNING;
		r->pid = re->pid;
		r->start_wall_ms = ev->wall_ms;
		r->open = 2;
		s->n_running++;
		s->n_open += 2;
		return;
	}

	r->phase = RANK_FAILED;
	r->code = re->code ? re->code : 1;
	r->end_wall_ms = ev->wall_ms;
	r->end_us = ev->wall_us;
	r->ended = ev->now;
	r->text = strdup(re->text ? re->text : "could not be started");
}

static void on_started(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	assert(s->starting && ev->n_ranks == s->nprocs);
	s->starting = false;
	s->gone = ev->gone;
	for (size_t i = 0; i < ev->n_ranks; i++)
		rank_started(s, ev, &ev->ranks[i]);
	/* shim_end overtook the start */
	if (s->phase == SHIM_ENDING && s->n_running)
		signal_all(s, SIGTERM, a);
}

/* ---- ranks end ------------------------------------------------------- */

static bool by_our_signal(const struct shim *s, const struct rank *r)
{
	if (r->phase == RANK_EXITED)
		return s->sent_term || s->sent_kill;
	return (r->sig == SIGTERM && s->sent_term) || (r->sig == SIGKILL && s->sent_kill);
}

static void keep_tail(struct shim *s, struct rank *r, const struct bytes *tail)
{
	size_t skip = tail->n > SHIM_TAIL_MAX ? tail->n - SHIM_TAIL_MAX : 0;

	if (!tail->n || r->ours || s->n_tails == SHIM_TAILS)
		return;
	if (r->phase == RANK_EXITED && r->code == 0)
		return;

	r->tail = malloc(tail->n - skip);
	if (!r->tail)
		return;
	memcpy(r->tail, tail->p + skip, tail->n - skip);
	r->tail_len = tail->n - skip;
	s->n_tails++;
}

/* Not when the end is told: it is what counts then. */
static void on_workers(struct shim *s, const struct shim_event *ev)
{
	for (size_t i = 0; i < ev->n_ranks && s->phase != SHIM_ENDED; i++) {
		assert(ev->ranks[i].local < s->nprocs);
		below_rank_take(s, &s->ranks[ev->ranks[i].local], ev->ranks[i].below);
	}
}

static void rank_reaped(struct shim *s, const struct shim_event *ev,
			const struct shim_rank_event *re)
{
	struct rank *r = &s->ranks[re->local];

	assert(re->local < s->nprocs && r->phase == RANK_RUNNING && s->n_running > 0);
	s->n_running--;
	r->dirty = true;
	r->end_wall_ms = re->end_us != 0 ? re->end_us / 1000 : ev->wall_ms;
	r->end_us = re->end_us;
	r->ended = re->ended;
	r->late_us = re->late_us;
	r->lost = re->lost;
	if (WIFSIGNALED(re->status)) {
		r->phase = RANK_KILLED;
		r->sig = (uint32_t)WTERMSIG(re->status);
		r->core = WCOREDUMP(re->status);
	} else {
		r->phase = RANK_EXITED;
		r->code = (uint32_t)WEXITSTATUS(re->status);
	}
	r->ours = by_our_signal(s, r);
	below_rank_ended(s, r, re->below);
	keep_tail(s, r, &re->tail);
	if (re->cause && !r->ours)
		r->cause = strdup(re->cause);
}

static void on_reaped(struct shim *s, const struct shim_event *ev)
{
	for (size_t i = 0; i < ev->n_ranks; i++)
		rank_reaped(s, ev, &ev->ranks[i]);
	s->gone = ev->gone;
	if (ev->gone)
		s->orphans = ev->orphans;
	assert(!s->gone || s->n_running == 0);
}

static void on_closed(struct shim *s, const struct shim_event *ev)
{
	for (size_t i = 0; i < ev->n_ranks; i++) {
		const struct shim_rank_event *re = &ev->ranks[i];
		struct rank *r = &s->ranks[re->local];

		assert(re->local < s->nprocs && re->streams <= r->open && re->streams <= s->n_open);
		r->open -= re->streams;
		s->n_open -= re->streams;
		r->dirty = r->dirty || (r->lost == 0 && re->lost > 0 && r->phase == RANK_RUNNING);
		r->lost = re->lost;
	}
}

/* ---- the end --------------------------------------------------------- */

static void kill_now(struct shim *s, mono_t now, struct shim_actions *a)
{
	/* What cannot die (a driver that hangs) is not asked 20 times a second for ever. */
	s->pause_ms = s->pause_ms ? s->pause_ms * 2 : SHIM_SWEEP_MS;
	if (s->pause_ms > 2000)
		s->pause_ms = 2000;
	s->kill_at = MONO_NEVER;
	s->sweep_at = mono_add_ms(now, s->pause_ms);
	if (mono_is_never(s->stuck_at) && !s->stuck)
		s->stuck_at = mono_add_ms(now, SHIM_STUCK_MS);
	/* while we can still ask, nobody needs to kill us */
	if (s->guard_boot_ms && s->guard_boot_ms < s->boot_ms + s->pause_ms + SHIM_GUARD_MS)
		guard(s, s->boot_ms + s->pause_ms + SHIM_GUARD_MS, a);
	if (!s->starting)
		signal_all(s, SIGKILL, a);
}

static void end(struct shim *s, mono_t now, uint32_t grace_ms, struct shim_actions *a)
{
	if (s->phase == SHIM_ENDED) {
		tell_ended(s, a);
		return;
	}

	bool first = s->phase == SHIM_RUNNING;

	s->phase = SHIM_ENDING;
	s->absent_at = s->lease_at = MONO_NEVER;
	if (!s->started || (s->gone && !s->starting) || !mono_is_never(s->sweep_at))
		return; /* nobody to end, or being killed already */
	if (first && !s->starting)
		signal_all(s, SIGTERM, a);
	s->kill_at = mono_min(s->kill_at, mono_add_ms(now, grace_ms));
	if (mono_due(s->kill_at, now))
		kill_now(s, now, a);
}

static void leftovers(struct shim *s, mono_t now, struct shim_actions *a)
{
	if (!mono_is_never(s->kill_at) || !mono_is_never(s->sweep_at))
		return; /* they have been told, their time is running */

	uint32_t ms = s->grace_ms < SHIM_LEFTOVER_MS ? s->grace_ms : SHIM_LEFTOVER_MS;

	signal_all(s, SIGTERM, a);
	s->kill_at = mono_add_ms(now, ms);
	if (ms == 0)
		kill_now(s, now, a);
}

static void write_status(struct shim *s, mono_t now, struct shim_actions *a)
{
	s->rewrite_at = MONO_NEVER;
	s->writing = tell_write(s, a) == 0;
	if (!s->writing)
		s->rewrite_at = mono_add_ms(now, 1000);
}

static void has_ended(struct shim *s, mono_t now, struct shim_actions *a)
{
	s->phase = SHIM_ENDED;
	s->exit_at = mono_add_ms(now, SHIM_BYE_MS);
	tell_ended(s, a);
}

/* The host goes down, or so it seems, and the file says all: who comes later
 * reads it. Waiting would hold up the shutdown. */
static bool may_go(const struct shim *s)
{
	return s->terminated && s->written && !s->agent && s->phase == SHIM_ENDED;
}

static void on_written(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	if (!s->writing)
		return;

	s->writing = false;
	s->written = ev->error == 0;
	s->unwritten = ev->error != 0;
	s->hopeless = ev->error == -ENOENT || ev->error == -EROFS;
	if (ev->error && !s->no_tails) {
		s->no_tails = true;
		write_status(s, ev->now, a);
		return;
	}
	if (s->leaving) {
		shim_act(a, SACT_EXIT);
		return;
	}
	if (ev->error)
		s->rewrite_at = mono_add_ms(ev->now, SHIM_REWRITE_MS);
	if (s->phase != SHIM_ENDED)
		has_ended(s, ev->now, a);
	if (may_go(s))
		shim_act(a, SACT_EXIT);
}

/* Ended, and told to go by someone who may not have passed the end on. */
static void leave(struct shim *s, mono_t now, struct shim_actions *a)
{
	s->leaving = true;
	if (!s->written && !s->writing)
		write_status(s, now, a);
	if (!s->writing)
		shim_act(a, SACT_EXIT);
}

/* What the present state makes due. */
static void settle(struct shim *s, mono_t now, struct shim_actions *a)
{
	if (s->starting || s->n_running)
		return;
	if (s->phase == SHIM_RUNNING)
		s->phase = SHIM_ENDING;
	s->lease_at = MONO_NEVER;
	if (s->phase != SHIM_ENDING)
		return;
	if (s->started && !s->gone) {
		leftovers(s, now, a);
		return;
	}

	s->kill_at = s->sweep_at = s->stuck_at = MONO_NEVER;
	s->stuck = false;
	if (s->guard_boot_ms)
		guard(s, 0, a);
	if (s->n_open) {
		if (mono_is_never(s->drain_at) && !s->stranger)
			s->drain_at = mono_add_ms(now, SHIM_DRAIN_MS);
		return;
	}
	s->drain_at = MONO_NEVER;
	if (s->writing || !mono_is_never(s->rewrite_at))
		return;
	if (!s->agent) {
		write_status(s, now, a);
		return;
	}
	has_ended(s, now, a);
	s->rewrite_at = mono_add_ms(now, SHIM_WRITE_MS);
}

/* Said to each agent that comes, as long as it is so. */
static void tell_stuck(const struct shim *s, struct shim_actions *a)
{
	if (s->stuck && s->agent)
		shim_act(a, SACT_STUCK);
}

static void on_deadline(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	mono_t now = ev->now;

	if (mono_due(s->exit_at, now) && (s->written || s->hopeless)) {
		s->exit_at = MONO_NEVER;
		shim_act(a, SACT_EXIT);
		return;
	}
	if (mono_due(s->exit_at, now)) /* nobody else knows how it ended */
		s->exit_at = mono_add_ms(now, SHIM_BYE_MS);
	if (mono_due(s->absent_at, now))
		end(s, now, 0, a);
	if (s->phase == SHIM_RUNNING && lease_passed(s, ev)) {
		s->lapsed = true;
		end(s, now, s->grace_ms, a);
	} else if (mono_due(s->lease_at, now)) {
		s->lease_at = mono_add_ms(now, s->lease_boot_ms - ev->boot_ms);
	}
	if (mono_due(s->kill_at, now) || mono_due(s->sweep_at, now))
		kill_now(s, now, a);
	if (mono_due(s->stuck_at, now) && !s->starting) {
		s->stuck_at = MONO_NEVER;
		s->stuck = true;
		tell_stuck(s, a);
	}
	if (mono_due(s->drain_at, now)) {
		s->drain_at = MONO_NEVER;
		s->stranger = true;
		shim_act(a, SACT_CLOSE);
	}
	if (mono_due(s->rewrite_at, now))
		write_status(s, now, a);
}

/* ---- the agent ------------------------------------------------------- */

static void on_agent_up(struct shim *s, struct shim_actions *a)
{
	s->agent = true;
	s->absent_at = MONO_NEVER;
	tell_hello(s, a);
	if (s->phase == SHIM_FAILED)
		tell_ready(s, a); /* hello does not carry the code */
	if (s->phase == SHIM_ENDED)
		tell_ended(s, a);
	tell_stuck(s, a);
}

static void on_bye(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	if (before_start(s) || (s->phase == SHIM_ENDED && ev->msg->u.shim_bye.settled))
		shim_act(a, SACT_EXIT);
	else if (s->phase == SHIM_ENDED)
		leave(s, ev->now, a);
}

static void on_agent_down(struct shim *s, mono_t now, struct shim_actions *a)
{
	s->agent = false;
	if (s->phase == SHIM_ENDED && !s->written && !s->writing)
		write_status(s, now, a);
	else if (may_go(s))
		shim_act(a, SACT_EXIT);
}

/* An agent that keeps the lease too may be first; after its restart only we know why. */
static void on_end(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	if (s->phase == SHIM_RUNNING && lease_passed(s, ev))
		s->lapsed = true;
	end(s, ev->now, ev->msg->u.shim_end.grace_ms, a);
}

static void on_message(struct shim *s, const struct shim_event *ev, struct shim_actions *a)
{
	if (!s->agent)
		return;

	switch (ev->msg->type) {
	case MSG_shim_setup:
		on_setup(s, ev, a);
		break;
	case MSG_shim_go:
		on_go(s, ev, a);
		break;
	case MSG_shim_lease:
		on_lease(s, ev, a);
		break;
	case MSG_shim_end:
		on_end(s, ev, a);
		break;
	case MSG_shim_bye:
		on_bye(s, ev, a);
		break;
	default:
		break;
	}
}

static void on_term(struct shim *s, mono_t now, struct shim_actions *a)
{
	s->terminated = true;
	if (s->phase == SHIM_ENDED)
		leave(s, now, a);
	else
		end(s, now, s->grace_ms, a);
}

void shim_step(struct shim *s, const struct shim_event *ev, struct shim_actions *out)
{
	shim_actions_finish(out);
	s->now = ev->now;
	s->given = ev->given;
	s->holeless = ev->holeless;
	s->boot_ms = ev->boot_ms;
	switch (ev->type) {
	case SEV_AGENT_UP:
		on_agent_up(s, out);
		break;
	case SEV_AGENT_DOWN:
		on_agent_down(s, ev->now, out);
		break;
	case SEV_MESSAGE:
		on_message(s, ev, out);
		break;
	case SEV_CHECKED:
		on_checked(s, ev, out);
		break;
	case SEV_STARTED:
		on_started(s, ev, out);
		break;
	case SEV_REAPED:
		on_reaped(s, ev);
		break;
	case SEV_WORKERS:
		on_workers(s, ev);
		break;
	case SEV_CLOSED:
		on_closed(s, ev);
		break;
	case SEV_WRITTEN:
		on_written(s, ev, out);
		break;
	case SEV_TERM:
		on_term(s, ev->now, out);
		break;
	case SEV_DEADLINE:
		on_deadline(s, ev, out);
		break;
	case SEV_TYPE_COUNT:
		break;
	}
	tell_ranks(s, false, out); /* before all else: others wait for it */
	settle(s, ev->now, out);
	if (!s->agent && before_start(s) && mono_is_never(s->absent_at))
		s->absent_at = mono_add_ms(ev->now, SHIM_ABSENT_MS);
}

void shim_check(const struct shim *s)
{
	uint32_t running = 0, open = 0, tails = 0;

	for (uint32_t i = 0; i < s->nprocs; i++) {
		const struct rank *r = &s->ranks[i];

		running += r->phase == RANK_RUNNING;
		open += r->open;
		tails += r->tail != NULL;
		assert(s->started || r->phase == RANK_WAITING);
		assert(s->starting || !s->started || r->phase != RANK_WAITING);
		assert((r->phase == RANK_WAITING || r->phase == RANK_FAILED) == (r->pid == 0));
	}
	assert(running == s->n_running && open == s->n_open && tails == s->n_tails);
	assert(!s->started || !before_start(s));
	assert(s->phase != SHIM_RUNNING || s->starting || s->n_running);
	assert(mono_is_never(s->lease_at) || (s->phase == SHIM_RUNNING && s->lease_boot_ms && s->guard_boot_ms));
	if (s->phase == SHIM_ENDED)
		assert(!running && !open && !s->starting && (s->gone || !s->started) &&
		       mono_is_never(s->kill_at) && mono_is_never(s->sweep_at));
	if (s->phase == SHIM_RUNNING)
		assert(shim_deadline(s).ns == s->lease_at.ns);
	/* an ending that nothing drives would never end */
	if (s->phase == SHIM_ENDING)
		assert(s->writing || s->starting || s->stranger ||
		       !mono_is_never(shim_deadline(s)));
}
