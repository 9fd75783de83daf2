/* agent.c - the agent's frame: creation, dispatch of events, accepted links */
#include "core/agent_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define DEFAULT(v, d) ((v) != 0 ? (v) : (d))

struct agent *agent_create(const struct agent_conf *conf, mono_t now)
{
	struct agent *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->conf = *conf;
	a->conf.heartbeat_ms = DEFAULT(conf->heartbeat_ms, 1000);
	a->conf.silence_ms = DEFAULT(conf->silence_ms, 5000);
	a->silence_ms = a->conf.silence_ms;
	a->conf.request_ms = DEFAULT(conf->request_ms, 30000);
	a->conf.backoff_min_ms = DEFAULT(conf->backoff_min_ms, 200);
	a->conf.backoff_max_ms = DEFAULT(conf->backoff_max_ms, 15000);
	snprintf(a->node, sizeof(a->node), "%s", conf->node);
	snprintf(a->boot_id, sizeof(a->boot_id), "%s", conf->boot_id);
	a->coordinator = strdup(conf->coordinator != NULL ? conf->coordinator : "?");
	a->spool_dir = strdup(conf->spool_dir != NULL ? conf->spool_dir : "its spool directory");
	list_init(&a->links);
	list_init(&a->requests);
	list_init(&a->jobs);
	list_init(&a->peer_sets);
	a->stuck_at = a->read_at = MONO_NEVER;
	a->peers_due = MONO_NEVER;
	list_init(&a->spec_uses);
	arena_init(&a->addr_arena);
	a->began = a->now = a->down_since = a->dialed_at = now;
	a->session = SE_DOWN;
	a->session_until = now;
	a->next_ping = a->readings_until = MONO_NEVER;
	a->backoff_ms = a->conf.backoff_min_ms;
	snprintf(a->down_why, sizeof(a->down_why), "not connected yet");
	if (a->coordinator == NULL || a->spool_dir == NULL) {
		agent_destroy(a);
		return NULL;
	}
	return a;
}

static void link_free(struct agent *a, struct alink *l)
{
	map_del(&a->links_by_id, l->id);
	list_remove(&l->all);
	free(l);
}

void agent_destroy(struct agent *a)
{
	if (a == NULL)
		return;
	specs_free(a); /* before the requests, which would ask for actions */
	requests_free(a);
	readings_free(a);
	peers_free(a);
	list_foreach_safe(e, &a->jobs)
		ajob_free(a, list_entry(e, struct ajob, all));
	list_foreach_safe(e, &a->links)
		link_free(a, list_entry(e, struct alink, all));
	map_finish(&a->links_by_id);
	arena_finish(&a->addr_arena);
	free(a->coordinator);
	free(a->spool_dir);
	free(a);
}

struct alink *agent_link(struct agent *a, uint64_t id)
{
	return map_get(&a->links_by_id, id);
}

char *agent_strdup(struct agent *a, const char *s)
{
	char *p = s != NULL ? strdup(s) : NULL;

	if (s != NULL && p == NULL)
		a->oom = true;
	return p != NULL ? utf8_scrub(p) : NULL;
}

/* ---- links --------------------------------------------------------------------- */

static size_t links_of_uid(const struct agent *a, uint32_t uid)
{
	size_t n = 0;

	list_foreach(e, &a->links) {
		const struct alink *l = list_entry(e, struct alink, all);

		n += l->kind == LINK_CLIENT && l->uid == uid;
	}
	return n;
}

static bool owes_hello(const struct alink *l)
{
	return !l->greeted && !l->closing && (l->kind == LINK_CLIENT || l->kind == LINK_PEER);
}

/* Beyond the limit the oldest connection of this user that has said nothing
 * gives way; only when all of them are in use the new one is turned away. */
static void limit_links(struct agent *a, struct alink *l)
{
	if (links_of_uid(a, l->uid) <= CLIENT_LINKS_MAX)
		return;
	list_foreach(e, &a->links) {
		struct alink *o = list_entry(e, struct alink, all);

		if (o == l || o->kind != LINK_CLIENT || o->uid != l->uid || !owes_hello(o))
			continue;
		o->closing = true;
		act_close(a->out, o->id, "too many connections of one user");
		return;
	}
	act_refuse(a->out, l->id, 0, "busy", "your user has %u connections to this agent open",
		   CLIENT_LINKS_MAX);
	l->closing = true;
	act_close(a->out, l->id, "too many connections of one user");
}

static void hello_deadlines(struct agent *a)
{
	bool some = false;

	if (!a->ungreeted)
		return;
	list_foreach(e, &a->links) {
		struct alink *l = list_entry(e, struct alink, all);

		if (!owes_hello(l))
			continue;
		if (mono_due(mono_add_ms(l->since, CLIENT_HELLO_MS), a->now)) {
			l->closing = true;
			act_close(a->out, l->id, "no hello in time");
		}
		some = some || owes_hello(l);
	}
	a->ungreeted = some;
}

static mono_t hello_deadline(const struct agent *a)
{
	mono_t t = MONO_NEVER;

	if (!a->ungreeted)
		return t;
	list_foreach(e, &a->links) {
		const struct alink *l = list_entry(e, struct alink, all);

		if (owes_hello(l))
			t = mono_min(t, mono_add_ms(l->since, CLIENT_HELLO_MS));
	}
	return t;
}

static void on_link_up(struct agent *a)
{
	struct alink *l;

	if (a->ev->kind == LINK_COORD) {
		session_on_up(a);
		return;
	}
	l = calloc(1, sizeof(*l));
	if (l == NULL || map_put(&a->links_by_id, a->ev->link, l) < 0) {
		free(l);
		a->oom = true;
		return;
	}
	l->id = a->ev->link;
	l->kind = a->ev->kind;
	l->uid = a->ev->uid;
	snprintf(l->user, sizeof(l->user), "%s", a->ev->user != NULL ? a->ev->user : "");
	memcpy(l->key, a->ev->key, sizeof(l->key));
	l->job = a->ev->job;
	l->attempt = a->ev->attempt;
	l->since = a->now;
	list_append(&a->links, &l->all);
	if (l->kind == LINK_CLIENT)
		limit_links(a, l);
	a->ungreeted = a->ungreeted || l->kind == LINK_CLIENT || l->kind == LINK_PEER;
	if (l->kind == LINK_SHIM)
		ajob_on_shim_up(a, l);
}

static void on_link_down(struct agent *a)
{
	struct alink *l;

	if (a->ev->link == a->coord_link && a->coord_link != 0) {
		session_on_down(a, a->ev->text);
		return;
	}
	l = agent_link(a, a->ev->link);
	if (l == NULL)
		return;
	if (l->kind == LINK_SHIM)
		ajob_on_shim_down(a, l);
	if (l->kind == LINK_CLIENT)
		requests_of_link_gone(a, l->id);
	link_free(a, l);
}

static void greet(struct agent *a, struct alink *l, const struct rec_hello *h)
{
	struct err e;
	struct msg m;

	if (proto_compatible(NA_PROTO, h->proto, h->role, &e) < 0) {
		act_refuse(a->out, l->id, 0, "version", "%s", e.text);
		act_close(a->out, l->id, "versions too far apart");
		return;
	}
	if (strcmp(h->role, l->kind == LINK_CLIENT ? "client" : "peer") != 0) {
		act_refuse(a->out, l->id, 0, "denied", "role %.20s is not served here", h->role);
		act_close(a->out, l->id, "role not allowed");
		return;
	}
	l->greeted = true;
	msg_init(&m, MSG_welcome);
	m.u.welcome.proto = NA_PROTO;
	m.u.welcome.software = NA_SOFTWARE;
	features_fill(&m.u.welcome);
	m.u.welcome.node = a->node;
	act_send(a->out, l->id, &m);
}

static void on_coord_message(struct agent *a, const struct msg *m)
{
	if (session_on_message(a, m) || request_on_answer(a, m))
		return;
	if (a->session != SE_READY)
		return;
	switch (m->type) {
	case MSG_prepare:
		ajob_on_prepare(a, &m->u.prepare);
		break;
	case MSG_prove:
		ajob_on_prove(a, &m->u.prove);
		break;
	case MSG_start:
		ajob_on_start(a, &m->u.start);
		break;
	case MSG_end:
		ajob_on_end(a, &m->u.end);
		break;
	case MSG_forget:
		ajob_on_forget(a, &m->u.forget);
		break;
	case MSG_specs_used:
		specs_on_used(a, &m->u.specs_used);
		break;
	case MSG_spec_keep:
		specs_on_keep(a, &m->u.spec_keep);
		break;
	case MSG_allow:
		peers_on_allow(a, &m->u.allow);
		break;
	case MSG_revoke:
		peers_on_revoke(a, &m->u.revoke);
		break;
	case MSG_ras_get:
		ras_on_get(a, &m->u.ras_get);
		break;
	case MSG_sm_fix:
		fix_on_order(a, &m->u.sm_fix);
		break;
	case MSG_flight_get:
		flight_on_get(a, &m->u.flight_get);
		break;
	case MSG_stacks_get:
		stacks_on_get(a, &m->u.stacks_get);
		break;
	case MSG_stuck_watch:
		stuck_on_watch(a, &m->u.stuck_watch);
		break;
	case MSG_topology_get:
		readings_topology(a, &m->u.topology_get);
		break;
	default:
		break;
	}
}

static void on_message(struct agent *a)
{
	const struct msg *m = a->ev->msg;
	struct alink *l;

	if (a->ev->link == a->coord_link && a->coord_link != 0) {
		a->heard = a->now;
		on_coord_message(a, m);
		return;
	}
	l = agent_link(a, a->ev->link);
	if (l == NULL || l->closing)
		return;
	if (l->kind == LINK_SHIM) {
		ajob_on_shim_message(a, l, m);
		return;
	}
	if (!l->greeted) {
		if (m->type == MSG_hello)
			greet(a, l, &m->u.hello);
		else
			act_close(a->out, l->id, "spoke before hello");
		return;
	}
	if (l->kind == LINK_CLIENT)
		request_from_client(a, l, m);
}

/* ---- the rest --------------------------------------------------------------------- */

static void on_addrs(struct agent *a)
{
	size_t n = a->ev->n_addrs;

	arena_finish(&a->addr_arena);
	a->addrs = arena_alloc(&a->addr_arena, n * sizeof(*a->addrs) + 1);
	a->n_addrs = 0;
	for (size_t i = 0; a->addrs != NULL && i < n; i++) {
		struct rec_addr *d = &a->addrs[a->n_addrs++];

		d->ip = arena_strdup(&a->addr_arena, a->ev->addrs[i].ip);
		if (a->ev->addrs[i].ifname != NULL)
			d->ifname = arena_strdup(&a->addr_arena, a->ev->addrs[i].ifname);
		if (d->ip == NULL)
			a->oom = true;
	}
	if (a->addrs == NULL)
		a->oom = true;
	if (a->session == SE_READY)
		session_register(a);
}

static void on_stop(struct agent *a)
{
	if (a->stopping)
		return;
	a->stopping = true;
	a->stop_at = a->now;
	ajobs_stop(a);
}

int agent_step(struct agent *a, const struct agent_event *ev, struct actions *out)
{
	a->ev = ev;
	a->out = out;
	a->now = ev->now;
	a->boot_ms = ev->boot_ms;
	if (ev->type != AEV_LINK_DOWN) /* nothing is sent there any more */
		leases_fence(a);
	session_fence(a);
	switch (ev->type) {
	case AEV_LINK_UP:
		on_link_up(a);
		break;
	case AEV_LINK_DOWN:
		on_link_down(a);
		break;
	case AEV_DIAL_FAILED:
		session_on_down(a, ev->text);
		break;
	case AEV_MESSAGE:
		on_message(a);
		break;
	case AEV_DEADLINE:
		break;
	case AEV_DONE:
		specs_on_done(a);
		if (!stuck_on_done(a) && !fix_on_done_agent(a))
			ajob_on_done(a);
		break;
	case AEV_ADOPT:
		ajob_on_adopt(a);
		break;
	case AEV_STOP:
		on_stop(a);
		break;
	case AEV_ADDRS:
		on_addrs(a);
		break;
	case AEV_READINGS:
		readings_on_event(a);
		break;
	}
	leases_fence(a);
	hello_deadlines(a);
	session_deadlines(a);
	requests_deadlines(a);
	ajobs_deadlines(a);
	stuck_deadlines(a);
	containers_deadlines(a);
	readings_deadlines_agent(a);
	peers_deadlines(a);
	a->ev = NULL;
	a->out = NULL;
	return a->oom || out->failed ? -ENOMEM : 0;
}

mono_t agent_deadline(const struct agent *a)
{
	mono_t t = mono_min(session_deadline(a), requests_deadline(a));

	t = mono_min(t, a->readings_until);
	t = mono_min(t, mono_min(a->peers_due, mono_min(a->stuck_at, a->read_at)));
	t = mono_min(t, leases_deadline(a));
	return mono_min(t, mono_min(hello_deadline(a), mono_min(ajobs_deadline(a), containers_deadline(a))));
}

bool agent_registered(const struct agent *a)
{
	return a->session == SE_READY;
}

/* While stopping: nothing is alive, and the coordinator has it, or was given
 * two seconds to take it. */
bool agent_idle(const struct agent *a)
{
	bool told = true;

	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (j->phase == AJ_UNKNOWN)
			continue; /* nobody here can end it */
		if (ajob_alive(j))
			return false;
		told = told && (a->session != SE_READY ||
				mono_due(mono_add_ms(j->ended_at, 2000), a->now));
	}
	return told;
}

bool agent_local_ranks(const struct agent *a, uint64_t job, uint32_t attempt, uint32_t *ret_base,
		       uint32_t *ret_n)
{
	const struct ajob *j = ajob_find(a, job, attempt);

	if (j == NULL)
		return false;
	*ret_base = j->prepare.u.prepare.rank_base;
	*ret_n = j->prepare.u.prepare.nprocs;
	return true;
}

bool agent_attempt_began(const struct agent *a, uint64_t job, uint32_t attempt)
{
	const struct ajob *j = ajob_find(a, job, attempt);

	for (uint32_t i = 0; j != NULL && i < j->prepare.u.prepare.nprocs; i++)
		if (j->ranks[i].start_wall_ms != 0)
			return true;
	return false;
}

uint64_t agent_shim_link(const struct agent *a, uint64_t job, uint32_t attempt)
{
	const struct ajob *j = ajob_find(a, job, attempt);

	return j != NULL ? j->shim_link : 0;
}

void agent_check(const struct agent *a)
{
	assert((a->session == SE_READY || a->session == SE_REGISTERING || a->session == SE_HELLO) ==
	       (a->coord_link != 0));
	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		assert(j->phase < AJ_PHASES);
		assert(!j->go_sent || j->latched);
		assert(j->phase != AJ_READY || j->shim_known);
		assert(j->phase != AJ_ENDED || !ajob_alive(j));
	}
}

void agent_each_job(const struct agent *a,
		    void (*f)(void *, uint64_t, uint32_t, const char *), void *arg)
{
	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		f(arg, j->job, j->attempt, ajob_phase_name(j->phase));
	}
}
