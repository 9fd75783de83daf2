/* agent_session.c - the agent's link to the coordinator
 *
 *   down --(backoff)--> dialing --> hello --> registering --> ready
 *     ^--------------------------------------------------------'
 *
 * Registration carries everything this node holds, so whatever could not be
 * said while the link was down is said then. Nothing is ended because of a
 * lost link.
 */
#include "core/agent_internal.h"

#include <stdio.h>
#include <string.h>

#define DIAL_MS 12000
#define ANSWER_MS 10000
#define HURRY_MS 1000 /* between attempts to connect because somebody asks */
#define ADOPT_WAIT_MS 1000 /* shims found at start get this long to tell their state */

static uint32_t random32(const struct agent *a)
{
	uint32_t v;

	memcpy(&v, a->ev->random, sizeof(v));
	return v;
}

/* Doubles up to the maximum; jitter of half of it keeps 10,000 agents from
 * coming back in step. */
static void back_off(struct agent *a)
{
	uint32_t half = a->backoff_ms / 2;

	a->session = SE_DOWN;
	a->session_until = mono_add_ms(a->now, half + random32(a) % (half + 1));
	a->backoff_ms = a->backoff_ms * 2 < a->conf.backoff_max_ms ? a->backoff_ms * 2
								    : a->conf.backoff_max_ms;
}

void session_on_down(struct agent *a, const char *why)
{
	bool was_ready = a->session == SE_READY;

	if (was_ready)
		a->down_since = a->now;
	specs_session_over(a);
	a->coord_link = 0;
	a->told = false;
	a->next_ping = MONO_NEVER;
	if (why != NULL && (was_ready || a->session == SE_DIALING || a->down_why[0] == '\0'))
		snprintf(a->down_why, sizeof(a->down_why), "%s", why);
	back_off(a);
}

static void give_up_link(struct agent *a, const char *why)
{
	act_close(a->out, a->coord_link, why);
	session_on_down(a, why);
}

void session_on_up(struct agent *a)
{
	struct msg m;

	if (a->session != SE_DIALING) {
		act_close(a->out, a->ev->link, "not wanted any more");
		return;
	}
	a->coord_link = a->ev->link;
	a->session = SE_HELLO;
	a->session_until = mono_add_ms(a->now, ANSWER_MS);
	a->heard = a->now;
	a->skew = a->mono_skew = (struct skew){ .n = 0 }; /* it may be another host's clock now */
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = NA_SOFTWARE;
	m.u.hello.role = "agent";
	m.u.hello.node = a->node;
	act_send(a->out, a->coord_link, &m);
}

/* Whoever asks late: it has run no longer for that. */
static uint64_t ran_ms(const struct agent *a, const struct ajob *j)
{
	int64_t ms = mono_sub_ms(j->phase == AJ_ENDED ? j->ended_at : a->now, j->run_since);

	return ms > 0 ? (uint64_t)ms : 0;
}

static void fill_held(struct arena *ar, struct agent *a, const struct ajob *j, struct rec_held *h)
{
	memset(h, 0, sizeof(*h));
	h->job = j->job;
	h->attempt = j->attempt;
	h->phase = ajob_phase_name(j->phase);
	if (j->phase == AJ_ADOPTING)
		h->phase = j->latched ? "starting" : "preparing";
	if (j->phase == AJ_SWEEPING)
		h->phase = j->latched ? "running" : "preparing";
	if (j->master_addr[0] != '\0') {
		h->master_addr = j->master_addr;
		h->master_port = j->start_port;
	}
	if (!mono_is_never(j->run_since))
		MSG_SET(h, held, run_ms, ran_ms(a, j));
	if (lease_kept(j))
		MSG_SET(h, held, leased, true);
	if (j->lapsed)
		MSG_SET(h, held, lapsed, true);
	h->n_ranks = report_fill(ar, a, j, &h->ranks);
}

void session_register(struct agent *a)
{
	struct rec_node_register *r;
	struct arena ar;
	struct msg m;

	arena_init(&ar);
	msg_init(&m, MSG_node_register);
	r = &m.u.node_register;
	r->node = a->node;
	r->boot_id = a->boot_id;
	r->incarnation = a->conf.incarnation;
	r->peer_port = a->conf.peer_port;
	r->addrs = a->addrs;
	r->n_addrs = a->n_addrs;
	r->cpus = a->conf.cpus;
	r->software = NA_SOFTWARE;
	if (a->conf.probe)
		MSG_SET(r, node_register, probe, true);
	if (a->lineage != 0)
		MSG_SET(r, node_register, lineage, a->lineage);
	list_foreach(e, &a->jobs)
		r->n_held++;
	r->held = arena_alloc(&ar, r->n_held * sizeof(*r->held) + 1);
	r->n_held = 0;
	if (r->held == NULL) /* "nothing is held" would be a lie */
		a->oom = true;
	list_foreach(e, &a->jobs)
		if (r->held != NULL)
			fill_held(&ar, a, list_entry(e, struct ajob, all),
				  &r->held[r->n_held++]);
	report_fit(&ar, r->held, r->n_held);
	r->n_keys = peers_keys(&ar, a, &r->keys);
	MSG_SET(r, node_register, keeps_specs, true);
	MSG_SET(r, node_register, sets_env, true);
	MSG_SET(r, node_register, fixes_sm, true);
	MSG_SET(r, node_register, tells_fix, true);
	r->specs = specs_held(&ar, a);
	if (r->keys == NULL || r->specs.p == NULL)
		a->oom = true;
	act_send(a->out, a->coord_link, &m);
	specs_registering(a);
	if (!a->told)
		a->register_boot_ms = a->boot_ms;
	a->told = true;
	arena_finish(&ar);
}

/* The lineage that our jobs belong to is told first; then this one is ours
 * when we hold nothing. */
static void on_welcome(struct agent *a, const struct rec_welcome *w)
{
	if (a->session != SE_HELLO)
		return;
	if (list_empty(&a->jobs))
		a->lineage = w->lineage;
	a->coord_features = features_of(w);
	snprintf(a->coord_software, sizeof(a->coord_software), "%s", w->software);
	if (MSG_HAS(w, welcome, heartbeat_ms) && w->heartbeat_ms >= 100)
		a->conf.heartbeat_ms = w->heartbeat_ms;
	a->silence_ms = 3 * a->conf.heartbeat_ms;
	if (a->silence_ms < a->conf.silence_ms)
		a->silence_ms = a->conf.silence_ms;
	a->session = SE_REGISTERING;
	a->session_until = mono_add_ms(a->now, ANSWER_MS);
	if (!ajobs_adopting(a) || mono_due(mono_add_ms(a->began, ADOPT_WAIT_MS), a->now))
		session_register(a);
	else
		a->session_until = mono_add_ms(a->began, ADOPT_WAIT_MS);
}

static void on_registered(struct agent *a, const struct rec_node_registered *r)
{
	if (a->session != SE_REGISTERING)
		return;
	a->session = SE_READY;
	a->session_until = MONO_NEVER;
	a->submit = r->submit;
	a->backoff_ms = a->conf.backoff_min_ms;
	a->down_why[0] = '\0';
	a->next_ping = a->now;
	lease_on_registered(a);
	readings_send(a);
	peers_registered(a);
	requests_again(a);
	stuck_registered(a);
	ajobs_tell_unknown(a);
	nccl_again(a);
	pulses_registered(a);
}

static void on_pong(struct agent *a, const struct rec_pong *p)
{
	bool first = a->mono_skew.n == 0;

	lease_on_pong(a, p->seq);
	if (MSG_HAS(p, pong, sent_us) && MSG_HAS(p, pong, came_us) && MSG_HAS(p, pong, answered_us))
		skew_add(&a->skew, p->sent_us, p->came_us, p->answered_us, a->ev->wall_us, a->now);
	if (MSG_HAS(p, pong, sent_mono_us) && MSG_HAS(p, pong, came_mono_us))
		skew_add(&a->mono_skew, p->sent_mono_us, p->came_mono_us, p->came_mono_us, a->now.ns / 1000,
			 a->now);
	if (!first || a->mono_skew.n == 0)
		return;
	report_times(a);
	happened_again(a);
}

bool session_on_message(struct agent *a, const struct msg *m)
{
	switch (m->type) {
	case MSG_welcome:
		on_welcome(a, &m->u.welcome);
		return true;
	case MSG_node_registered:
		on_registered(a, &m->u.node_registered);
		return true;
	case MSG_pong:
		on_pong(a, &m->u.pong);
		return true;
	case MSG_refused:
		if (MSG_HAS(&m->u.refused, refused, rid))
			return false;
		if (strcmp(m->u.refused.code, "replaced") != 0)
			a->backoff_ms = a->conf.backoff_max_ms; /* a refusal will not go away soon */
		give_up_link(a, m->u.refused.text);
		snprintf(a->down_why, sizeof(a->down_why), "%.250s", m->u.refused.text);
		return true;
	default:
		return false;
	}
}

void session_send(struct agent *a, const struct msg *m)
{
	if (a->session == SE_READY || (a->session == SE_REGISTERING && a->told))
		act_send(a->out, a->coord_link, m);
}

static void dial(struct agent *a)
{
	act_add(a->out, ACT_DIAL);
	a->dialed_at = a->now;
	a->session = SE_DIALING;
	a->session_until = mono_add_ms(a->now, DIAL_MS);
}

void session_hurry(struct agent *a)
{
	if (a->session == SE_DOWN && mono_due(mono_add_ms(a->dialed_at, HURRY_MS), a->now))
		dial(a);
}

static void ping(struct agent *a)
{
	struct rec_ping *p;
	uint64_t error;
	int64_t skew;
	struct msg m;

	msg_init(&m, MSG_ping);
	p = &m.u.ping;
	p->seq = ++a->ping_seq;
	lease_asked(a, p->seq);
	MSG_SET(p, ping, sent_us, a->ev->wall_us);
	MSG_SET(p, ping, sent_mono_us, a->now.ns / 1000);
	if (skew_get(&a->skew, a->now, &skew, &error)) {
		MSG_SET(p, ping, skew_us, skew);
		MSG_SET(p, ping, skew_error_us, error);
	}
	act_send(a->out, a->coord_link, &m);
	/* From now, not from the last deadline: after a pause of ours one ping is enough. */
	a->next_ping = mono_add_ms(a->now, a->conf.heartbeat_ms);
}

void session_fence(struct agent *a)
{
	char why[96];

	if (a->ev->type == AEV_LINK_DOWN && a->ev->link == a->coord_link)
		return; /* it is gone by itself */
	if (a->session == SE_READY &&
	    mono_due(mono_add_ms(a->heard, a->silence_ms), a->now)) {
		snprintf(why, sizeof(why), "no word from the coordinator for %u s",
			 a->silence_ms / 1000);
		give_up_link(a, why);
	} else if ((a->session == SE_HELLO || (a->session == SE_REGISTERING && a->told)) &&
		   mono_due(a->session_until, a->now)) {
		give_up_link(a, "the coordinator did not answer the registration");
	}
}

void session_deadlines(struct agent *a)
{
	if (a->session == SE_READY) {
		if (mono_due(a->next_ping, a->now))
			ping(a);
		return;
	}
	if (a->session == SE_REGISTERING && !a->told &&
	    (!ajobs_adopting(a) || mono_due(a->session_until, a->now))) {
		a->session_until = mono_add_ms(a->now, ANSWER_MS);
		session_register(a);
		return;
	}
	if (!mono_due(a->session_until, a->now))
		return;
	if (a->session == SE_DOWN) {
		dial(a);
	} else if (a->session == SE_DIALING) {
		session_on_down(a, "no answer while connecting");
	}
}

mono_t session_deadline(const struct agent *a)
{
	if (a->session == SE_READY)
		return mono_min(a->next_ping, mono_add_ms(a->heard, a->silence_ms));
	return a->session_until;
}
