/* machine_tell.c - what the machine says: states of ranks as messages */
#include "shim/machine_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXTS_MAX 64 /* "could not start" is the same sentence for all: keep messages under 1 MiB */

static const char *const phase_names[] = {
	[SHIM_SETUP] = "setup",	    [SHIM_READY] = "ready",   [SHIM_FAILED] = "failed",
	[SHIM_RUNNING] = "running", [SHIM_ENDING] = "ending", [SHIM_ENDED] = "ended",
};
static const char *const event_names[SEV_TYPE_COUNT] = {
	[SEV_AGENT_UP] = "agent-up", [SEV_AGENT_DOWN] = "agent-down", [SEV_MESSAGE] = "message",
	[SEV_CHECKED] = "checked",   [SEV_STARTED] = "started",	      [SEV_REAPED] = "reaped",
	[SEV_CLOSED] = "closed",     [SEV_WRITTEN] = "written",	      [SEV_TERM] = "term",
	[SEV_DEADLINE] = "deadline", [SEV_WORKERS] = "workers",
};
static const char *const action_names[SACT_TYPE_COUNT] = {
	[SACT_SEND] = "send",	  [SACT_HANG_UP] = "hang-up", [SACT_CHECK] = "check",
	[SACT_START] = "start",	  [SACT_SIGNAL] = "signal",   [SACT_SWEEP] = "sweep", [SACT_STUCK] = "stuck",
	[SACT_CLOSE] = "close",	  [SACT_WRITE] = "write",     [SACT_EXIT] = "exit",
	[SACT_GUARD] = "guard",
};

const char *shim_phase_name(enum shim_phase p)
{
	return phase_names[p];
}

const char *shim_event_name(enum shim_event_type t)
{
	return event_names[t];
}

const char *shim_action_name(enum shim_action_type t)
{
	return action_names[t];
}

static const char *const rank_names[] = {
	[RANK_WAITING] = "waiting", [RANK_RUNNING] = "running", [RANK_EXITED] = "exited",
	[RANK_KILLED] = "killed",   [RANK_FAILED] = "failed",
};

static void hang_up(struct shim *s, struct shim_actions *a)
{
	if (!s->agent)
		return;
	s->agent = false;
	shim_act(a, SACT_HANG_UP);
}

static int encode(const struct msg *m, struct shim_actions *a, enum shim_action_type type)
{
	struct shim_action *act;
	struct buf b;
	char *text;
	size_t len;

	buf_init(&b);
	if (msg_encode(m, &b, NULL) < 0 || !(text = buf_steal(&b, &len))) {
		buf_finish(&b);
		return -ENOMEM;
	}

	act = shim_act(a, type);
	act->text = text;
	act->len = len;
	return 0;
}

static void send_msg(struct shim *s, const struct msg *m, struct shim_actions *a)
{
	if (s->agent && encode(m, a, SACT_SEND) < 0)
		hang_up(s, a);
}

static void fill_rank(const struct shim *s, const struct rank *r, uint32_t *texts, bool tails,
		      struct rec_rank_state *out)
{
	*out = (struct rec_rank_state){ .rank = s->rank_base + (uint32_t)(r - s->ranks),
					.state = rank_names[r->phase] };
	if (r->pid)
		MSG_SET(out, rank_state, pid, (uint32_t)r->pid);
	if (r->phase == RANK_EXITED || r->phase == RANK_FAILED)
		MSG_SET(out, rank_state, code, r->code);
	if (r->phase == RANK_KILLED)
		MSG_SET(out, rank_state, sig, r->sig);
	if (r->core)
		MSG_SET(out, rank_state, core, true);
	if (r->ours)
		MSG_SET(out, rank_state, ours, true);
	if (r->start_wall_ms)
		MSG_SET(out, rank_state, start_wall_ms, r->start_wall_ms);
	if (r->end_wall_ms)
		MSG_SET(out, rank_state, end_wall_ms, r->end_wall_ms);
	if (r->end_us) {
		MSG_SET(out, rank_state, end_us, r->end_us);
		MSG_SET(out, rank_state, end_mono_us, r->ended.ns / 1000);
	}
	if (r->end_us && r->late_us)
		MSG_SET(out, rank_state, late_us, r->late_us);
	if (r->lost)
		MSG_SET(out, rank_state, lost_bytes, r->lost);
	if (r->text && (*texts)++ < TEXTS_MAX)
		MSG_SET(out, rank_state, text, r->text);
	if (r->cause && (*texts)++ < TEXTS_MAX)
		MSG_SET(out, rank_state, cause, r->cause);
	if (r->tail && tails)
		MSG_SET(out, rank_state, tail, ((struct bytes){ (uint8_t *)r->tail, r->tail_len }));
	if (!tails) /* short of room */
		return;
	out->exception = r->exception;
	out->workers = r->workers;
	out->n_workers = r->n_workers;
	out->workers_found = r->found;
	out->workers_alive = r->alive;
}

/* All ranks, or the changed ones. The array is the caller's to free; NULL on
 * ENOMEM. Before shim_setup their numbers are unknown: none. */
static struct rec_rank_state *list_ranks(struct shim *s, bool all, bool tails, size_t *ret_n)
{
	struct rec_rank_state *v = calloc(s->nprocs, sizeof *v);
	uint32_t texts = 0;
	size_t n = 0;

	if (!v)
		return NULL;

	for (uint32_t i = 0; s->have_setup && i < s->nprocs; i++)
		if (all || s->ranks[i].dirty)
			fill_rank(s, &s->ranks[i], &texts, tails, &v[n++]);
	*ret_n = n;
	return v;
}

static void clean(struct shim *s)
{
	for (uint32_t i = 0; i < s->nprocs; i++)
		s->ranks[i].dirty = false;
}

void tell_hello(struct shim *s, struct shim_actions *a)
{
	struct msg m;
	struct rec_shim_hello *h = &m.u.shim_hello;

	msg_init(&m, MSG_shim_hello);
	h->proto = NA_SHIM_PROTO;
	h->job = s->job;
	h->attempt = s->attempt;
	h->pid = s->pid;
	h->start_time = s->start_time;
	h->phase = shim_phase_name(s->phase);
	if (s->phase == SHIM_FAILED)
		h->text = s->fail_text ? s->fail_text : "out of memory";
	if (s->started) { /* an agent that was restarted does not know it any more */
		h->master_addr = s->master_addr;
		h->master_port = s->master_port;
		MSG_SET(h, shim_hello, run_ms, (uint64_t)mono_sub_ms(s->now, s->started_at));
	}
	h->ranks = list_ranks(s, true, true, &h->n_ranks);
	if (!h->ranks) {
		hang_up(s, a);
		return;
	}

	send_msg(s, &m, a);
	free(h->ranks);
	clean(s);
}

void tell_ready(struct shim *s, struct shim_actions *a)
{
	struct msg m;
	struct rec_shim_ready *r = &m.u.shim_ready;

	msg_init(&m, MSG_shim_ready);
	r->ok = s->phase != SHIM_FAILED;
	if (!r->ok) {
		MSG_SET(r, shim_ready, code, s->fail_code);
		r->text = s->fail_text ? s->fail_text : "out of memory";
	} else {
		r->text = s->remark;
	}
	send_msg(s, &m, a);
}

static bool any_dirty(const struct shim *s)
{
	for (uint32_t i = 0; i < s->nprocs; i++)
		if (s->ranks[i].dirty)
			return true;
	return false;
}

void tell_ranks(struct shim *s, bool all, struct shim_actions *a)
{
	struct msg m;
	struct rec_ranks *r = &m.u.ranks;

	if (!s->agent) {
		clean(s); /* the next hello tells everything */
		return;
	}
	if (!s->have_setup || (!all && !any_dirty(s)))
		return;

	msg_init(&m, MSG_ranks);
	r->job = s->job;
	r->attempt = s->attempt;
	r->ranks = list_ranks(s, all, true, &r->n_ranks);
	if (!r->ranks) {
		hang_up(s, a);
		return;
	}

	send_msg(s, &m, a);
	free(r->ranks);
	clean(s);
}

static bool any_lost(const struct shim *s)
{
	for (uint32_t i = 0; i < s->nprocs; i++)
		if (s->ranks[i].lost)
			return true;
	return false;
}

/* Something worth telling, or NULL. */
static const char *remarks(const struct shim *s, char *out, size_t size)
{
	size_t n = 0;

	out[0] = '\0';
	if (s->orphans)
		n += (size_t)snprintf(out + n, size - n,
				      "%u process%s outlived the ranks and %s ended; ", s->orphans,
				      s->orphans == 1 ? "" : "es",
				      s->orphans == 1 ? "was" : "were");
	if (s->stranger)
		n += (size_t)snprintf(out + n, size - n,
				      "output was held open by a process outside the job; ");
	if (s->given)
		n += (size_t)snprintf(out + n, size - n,
				      "%.1f MB of the oldest output were given back, to keep within spool_per_job and "
				      "spool_per_node; ", (double)s->given / 1e6);
	if (s->holeless)
		n += (size_t)snprintf(out + n, size - n,
				      "its spool's file system cannot give back old output, so what came beyond "
				      "spool_per_job was dropped; ");
	if (s->lapsed)
		n += (size_t)snprintf(out + n, size - n,
				      "its lease passed: the coordinator was not heard, and the job may be "
				      "started elsewhere; ");
	if (s->unwritten && !any_lost(s)) /* a full disk is told of by the agent, who knows where it is */
		n += (size_t)snprintf(out + n, size - n, "the status file could not be written; ");
	if (n < 2)
		return NULL;

	out[n - 2] = '\0';
	return out;
}

static int add_ended(struct shim *s, bool tails, struct shim_actions *a, enum shim_action_type type)
{
	struct msg m;
	struct rec_shim_ended *e = &m.u.shim_ended;
	char text[512];
	int r;

	msg_init(&m, MSG_shim_ended);
	e->ranks = list_ranks(s, true, tails, &e->n_ranks);
	if (!e->ranks)
		return -ENOMEM;

	if (s->orphans)
		MSG_SET(e, shim_ended, orphans, s->orphans);
	e->text = remarks(s, text, sizeof text);
	if (s->lapsed)
		MSG_SET(e, shim_ended, lapsed, true);
	r = encode(&m, a, type);
	free(e->ranks);
	return r;
}

void tell_ended(struct shim *s, struct shim_actions *a)
{
	if (s->agent && add_ended(s, true, a, SACT_SEND) < 0)
		hang_up(s, a);
}

int tell_write(struct shim *s, struct shim_actions *a)
{
	return add_ended(s, !s->no_tails, a, SACT_WRITE);
}
