/* coord.c - the coordinator's frame: creation, dispatch of events, links, deadlines
 *
 * A step: note the event's clock, act on the event, then schedule queued jobs
 * and tell watchers once, whatever the number of changes.
 *
 * Links:  new -> (hello) -> node -> (node_register) -> ready
 *         new -> (hello) -> joining -> closed
 *         new -> (hello) -> client
 */
#include "core/coord_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "proto/features.h"

#define DEFAULT(v, d) ((v) != 0 ? (v) : (d))

struct coord *coord_create(const struct coord_conf *conf, mono_t now)
{
	struct coord *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->conf = *conf;
	c->conf.heartbeat_ms = DEFAULT(conf->heartbeat_ms, HEARTBEAT_MS);
	c->conf.node_lost_ms = DEFAULT(conf->node_lost_ms, NODE_LOST_MS);
	c->conf.unreachable_ms =
		DEFAULT(conf->unreachable_ms,
			unreachable_default_ms(c->conf.heartbeat_ms, c->conf.node_lost_ms));
	c->conf.prepare_ms = DEFAULT(conf->prepare_ms, 30000);
	c->conf.handshake_ms = DEFAULT(conf->handshake_ms, 10000);
	c->conf.history = DEFAULT(conf->history, 1000);
	c->conf.events_keep = DEFAULT(conf->events_keep, EVENTS_KEEP);
	c->conf.cordon_lift_ms = DEFAULT(conf->cordon_lift_ms, 300000);
	c->conf.quarantine_ms = DEFAULT(conf->quarantine_ms, 3600000);
	c->conf.lease_ms = DEFAULT(conf->lease_ms, c->conf.node_lost_ms);
	c->address = strdup(conf->address != NULL ? conf->address : "");
	list_init(&c->links);
	list_init(&c->jobs);
	list_init(&c->ended);
	list_init(&c->tokens);
	list_init(&c->pendings);
	list_init(&c->asked);
	list_init(&c->fixings);
	snprintf(c->boot_id, sizeof(c->boot_id), "%s", conf->boot_id != NULL ? conf->boot_id : "");
	c->now = c->began = c->prune_at = now;
	c->wake = c->log.flaps_at = MONO_NEVER;
	c->log.prune_at = now;
	c->log.next_id = 1;
	c->next_job = 1;
	if (c->address == NULL) {
		coord_destroy(c);
		return NULL;
	}
	return c;
}

static void link_free(struct coord *c, struct clink *l)
{
	list_foreach_safe(e, &l->watches)
		watch_free(c, list_entry(e, struct watch, of_link));
	map_del(&c->links_by_id, l->id);
	list_remove(&l->all);
	free(l);
}

void coord_destroy(struct coord *c)
{
	if (c == NULL)
		return;
	list_foreach_safe(e, &c->links)
		link_free(c, list_entry(e, struct clink, all));
	list_foreach_safe(e, &c->jobs)
		job_free(c, list_entry(e, struct job, all));
	list_foreach_safe(e, &c->pendings) {
		struct pending *p = list_entry(e, struct pending, all);

		free(p->reply);
		free(p);
	}
	tokens_free(c);
	for (size_t i = 0; i < c->n_nodes; i++)
		node_free(c->nodes[i]);
	while (c->removed != NULL) {
		struct node *n = c->removed;

		c->removed = n->next_removed;
		node_free(n);
	}
	topology_free(c);
	fix_free(c);
	checks_finish(c);
	queue_free(c);
	events_free(c);
	base_free(c);
	free(c->nodes);
	map_finish(&c->keys);
	map_finish(&c->links_by_id);
	map_finish(&c->jobs_by_id);
	free(c->address);
	free(c);
}

struct clink *coord_link(struct coord *c, uint64_t id)
{
	return map_get(&c->links_by_id, id);
}

bool coord_link_waits(const struct coord *c, uint64_t link)
{
	const struct clink *l = map_get(&c->links_by_id, link);

	return l != NULL && (l->n_watches > 0 || topology_asked(c, link) || fix_asked(c, link));
}

struct clink *coord_link_open(struct coord *c, uint64_t id)
{
	struct clink *l = coord_link(c, id);

	return l != NULL && l->state != CL_CLOSED ? l : NULL;
}

/* Never before now: a deadline in the past would look like one served late. */
void coord_wake_at(struct coord *c, mono_t t)
{
	c->wake = mono_min(c->wake, mono_before(t, c->now) ? c->now : t);
}

mono_t coord_deadline(const struct coord *c)
{
	return c->wake;
}

bool coord_find_key(const struct coord *c, const uint8_t key[32])
{
	return node_of_key(c, key) != NULL;
}

char *coord_strdup(struct coord *c, const char *s)
{
	char *p = s != NULL ? strdup(s) : NULL;

	if (s != NULL && p == NULL)
		c->oom = true;
	return p;
}

void coord_set_text(struct coord *c, char **dst, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	free(*dst);
	*dst = coord_strdup(c, utf8_scrub(text));
}

void coord_refuse(struct coord *c, struct clink *l, uint32_t rid, const char *code, const char *fmt,
		  ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	act_refuse(c->out, l->id, rid, code, "%s", text);
}

struct action *coord_persist(struct coord *c, struct pending **ret)
{
	struct action *a = act_add(c->out, ACT_PERSIST);
	struct pending *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		static struct pending nobody;

		c->oom = true;
		free(nobody.reply);
		memset(&nobody, 0, sizeof(nobody));
		list_init(&nobody.all);
		*ret = &nobody;
		return a;
	}
	p->ticket = a->ticket = ++c->next_ticket;
	p->kind = PD_QUIET;
	list_append(&c->pendings, &p->all);
	*ret = p;
	return a;
}

/* ---- links --------------------------------------------------------------- */

static void on_link_up(struct coord *c)
{
	struct clink *l = calloc(1, sizeof(*l));

	if (l == NULL || map_put(&c->links_by_id, c->ev->link, l) < 0) {
		free(l);
		c->oom = true;
		return;
	}
	l->id = c->ev->link;
	l->who = c->ev->who;
	memcpy(l->key, c->ev->key, sizeof(l->key));
	l->uid = c->ev->uid;
	l->admin = c->ev->admin;
	snprintf(l->user, sizeof(l->user), "%s", c->ev->user != NULL ? c->ev->user : "");
	snprintf(l->address, sizeof(l->address), "%s",
		 c->ev->address != NULL ? c->ev->address : "an unknown address");
	l->since = c->now;
	list_init(&l->watches);
	list_append(&c->links, &l->all);
	coord_wake_at(c, mono_add_ms(c->now, c->conf.handshake_ms));
}

static void on_link_down(struct coord *c)
{
	struct clink *l = coord_link(c, c->ev->link);

	if (l == NULL)
		return;
	node_link_gone(c, l);
	link_free(c, l);
}

void coord_close(struct coord *c, struct clink *l, const char *why)
{
	list_foreach_safe(e, &l->watches)
		watch_free(c, list_entry(e, struct watch, of_link));
	l->state = CL_CLOSED;
	act_close(c->out, l->id, why);
}

static void send_welcome(struct coord *c, struct clink *l)
{
	struct msg m;

	msg_init(&m, MSG_welcome);
	m.u.welcome.proto = NA_PROTO;
	m.u.welcome.software = NA_SOFTWARE;
	features_fill(&m.u.welcome);
	m.u.welcome.node = "coordinator";
	m.u.welcome.cluster = c->cluster;
	MSG_SET(&m.u.welcome, welcome, lineage, c->lineage);
	MSG_SET(&m.u.welcome, welcome, heartbeat_ms, c->conf.heartbeat_ms);
	act_send(c->out, l->id, &m);
}

/* Which role may come over which kind of link. */
static enum link_state state_for_role(const struct clink *l, const char *role)
{
	static const struct {
		const char *role;
		enum coord_who who;
		enum link_state next;
	} rows[] = {
		{ "agent", WHO_NODE, CL_NODE },
		{ "join", WHO_STRANGER, CL_JOINING },
		{ "join", WHO_NODE, CL_JOINING },
		{ "client", WHO_LOCAL, CL_CLIENT },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].who == l->who && strcmp(rows[i].role, role) == 0)
			return rows[i].next;
	return CL_CLOSED;
}

static void on_hello(struct coord *c, struct clink *l, const struct rec_hello *h)
{
	struct err e;

	if (proto_compatible(NA_PROTO, h->proto, h->role, &e) < 0) {
		coord_refuse(c, l, 0, "version", "%s", e.text);
		coord_close(c, l, "versions too far apart");
		return;
	}
	l->state = state_for_role(l, h->role);
	if (l->state == CL_CLOSED && l->who == WHO_STRANGER)
		coord_refuse(c, l, 0, "denied",
			     "this node's key is not (or no longer) known to the cluster %s: "
			     "enrol it again with 'nodectl token create' on the head host and "
			     "'nodeagentd join' here",
			     c->cluster);
	else if (l->state == CL_CLOSED)
		coord_refuse(c, l, 0, "denied", "role %.20s is not served on this connection",
			     h->role);
	if (l->state == CL_CLOSED)
		coord_close(c, l, "role not allowed");
	else
		send_welcome(c, l);
}

/* ---- messages -------------------------------------------------------------- */

static void on_ping(struct coord *c, struct clink *l, const struct rec_ping *p)
{
	struct msg m;

	msg_init(&m, MSG_pong);
	m.u.pong.seq = p->seq;
	if (MSG_HAS(p, ping, sent_us)) {
		MSG_SET(&m.u.pong, pong, sent_us, p->sent_us);
		MSG_SET(&m.u.pong, pong, came_us, c->ev->wall_us);
		MSG_SET(&m.u.pong, pong, answered_us, c->ev->wall_us);
	}
	if (MSG_HAS(p, ping, sent_mono_us)) {
		MSG_SET(&m.u.pong, pong, sent_mono_us, p->sent_mono_us);
		MSG_SET(&m.u.pong, pong, came_mono_us, c->now.ns / 1000);
	}
	act_send(c->out, l->id, &m);
}

/* A registered node, or one about to register. */
static void node_message(struct coord *c, struct clink *l, const struct msg *m)
{
	struct node *n = l->node;

	if (m->type == MSG_node_register) {
		nodes_on_register(c, l, &m->u.node_register);
		return;
	}
	if (l->state != CL_READY || n == NULL || n->link != l) {
		if (m->type != MSG_ping)
			return; /* said before it registered, or by a session that was replaced */
		on_ping(c, l, &m->u.ping);
		return;
	}
	node_heard(c, n);
	if (l->state == CL_CLOSED)
		return; /* quarantined by this very word */
	switch (m->type) {
	case MSG_ping:
		readings_on_ping(c, n, &m->u.ping);
		on_ping(c, l, &m->u.ping);
		break;
	case MSG_readings:
		readings_on(c, n, m);
		break;
	case MSG_happened:
		evidence_on_happened(c, n, &m->u.happened);
		break;
	case MSG_topology:
		topology_on(c, n, &m->u.topology);
		break;
	case MSG_stuck:
		cordon_on_stuck(c, n, &m->u.stuck);
		break;
	case MSG_sm_fixed:
		fix_on_done(c, n, &m->u.sm_fixed);
		break;
	case MSG_stacks:
		hang_on_stacks(c, n, &m->u.stacks);
		break;
	case MSG_ras:
		ras_on_answer(c, n, &m->u.ras);
		break;
	case MSG_job_nccl:
		nccl_on_told(c, n, &m->u.job_nccl);
		break;
	case MSG_pulse:
		hang_on_pulse(c, n, m);
		break;
	case MSG_notice:
		jobs_on_notice(c, n, &m->u.notice);
		break;
	case MSG_spec_kept:
		specs_kept(c, n, &m->u.spec_kept);
		break;
	case MSG_prepared:
		jobs_on_prepared(c, n, &m->u.prepared);
		break;
	case MSG_proved:
		jobs_on_proved(c, n, &m->u.proved);
		break;
	case MSG_ranks:
		jobs_on_ranks(c, n, &m->u.ranks);
		break;
	case MSG_ended:
		jobs_on_ended(c, n, &m->u.ended);
		break;
	default:
		break;
	}
}

/* Requests: from a local client, or passed on by a registered agent. */
static bool request(struct coord *c, struct clink *l, const struct msg *m)
{
	switch (m->type) {
	case MSG_submit:
		jobs_on_submit(c, l, &m->u.submit);
		return true;
	case MSG_kill:
		jobs_on_kill(c, l, &m->u.kill);
		return true;
	case MSG_status_get:
		answer_status(c, l, &m->u.status_get);
		return true;
	case MSG_checks_get:
		answer_checks(c, l, &m->u.checks_get);
		return true;
	case MSG_jobs_get:
		answer_jobs(c, l, &m->u.jobs_get);
		return true;
	case MSG_watch:
		answer_watch(c, l, &m->u.watch);
		return true;
	case MSG_unwatch:
		answer_unwatch(c, l, &m->u.unwatch);
		return true;
	case MSG_events_get:
		events_answer(c, l, &m->u.events_get);
		return true;
	case MSG_base_put:
		base_on_put(c, l, &m->u.base_put);
		return true;
	case MSG_base_get:
		base_answer(c, l, &m->u.base_get);
		return true;
	case MSG_token_create:
		nodes_on_token_create(c, l, &m->u.token_create);
		return true;
	case MSG_node_remove:
		nodes_on_remove(c, l, &m->u.node_remove);
		return true;
	case MSG_plan_get:
		net_on_plan(c, l, &m->u.plan_get);
		return true;
	case MSG_node_drain:
		nodes_on_drain(c, l, &m->u.node_drain);
		return true;
	case MSG_sm_fix:
		fix_on_request(c, l, &m->u.sm_fix);
		return true;
	default:
		return false;
	}
}

static void on_message(struct coord *c)
{
	struct clink *l = coord_link(c, c->ev->link);
	const struct msg *m = c->ev->msg;

	if (l == NULL || l->state == CL_CLOSED)
		return;
	if (l->state == CL_NEW) {
		if (m->type == MSG_hello)
			on_hello(c, l, &m->u.hello);
		else
			coord_close(c, l, "spoke before hello");
		return;
	}
	if (l->state == CL_JOINING) {
		if (m->type == MSG_join)
			nodes_on_join(c, l, &m->u.join);
		return;
	}
	if (l->state == CL_CLIENT) {
		if (request(c, l, m))
			return;
		if (m->type == MSG_ping)
			on_ping(c, l, &m->u.ping);
		else if (m->type == MSG_follow || m->type == MSG_stdin_open)
			coord_refuse(c, l, 0, "bad-request",
				     "output is read through a node's agent, not on the coordinator's "
				     "own socket; run this on a node, or name its agent's socket with "
				     "--socket");
		return;
	}
	if (l->state == CL_READY && l->node != NULL && l->node->link == l) {
		node_heard(c, l->node); /* first: what is asked for may depend on it */
		if (l->state == CL_CLOSED || request(c, l, m))
			return; /* or quarantined by this very word */
	}
	node_message(c, l, m);
}

/* ---- deadlines -------------------------------------------------------------- */

static void link_deadlines(struct coord *c)
{
	list_foreach_safe(e, &c->links) {
		struct clink *l = list_entry(e, struct clink, all);
		mono_t until = mono_add_ms(l->since, c->conf.handshake_ms);

		if (l->state != CL_NEW && l->state != CL_JOINING && l->state != CL_NODE)
			continue;
		if (mono_due(until, c->now))
			coord_close(c, l, "no hello or registration in time");
		else
			coord_wake_at(c, until);
	}
}

static void on_deadline(struct coord *c)
{
	if (!mono_due(c->wake, c->now))
		return;
	c->wake = MONO_NEVER;
	link_deadlines(c);
	node_deadlines(c);
	readings_deadlines(c);
	topology_deadlines(c);
	fix_deadlines(c);
	clean_deadlines(c);
	jobs_deadlines(c);
}

/* ---- stored ------------------------------------------------------------------ */

static void reply_stored(struct coord *c, const struct pending *p)
{
	struct clink *l = coord_link_open(c, p->link);
	struct action *a;

	if (l == NULL)
		return;
	if (c->ev->error != 0) {
		coord_refuse(c, l, p->rid, "unavailable",
			     "the coordinator could not save this: %s",
			     c->ev->text != NULL ? c->ev->text : "store error");
		return;
	}
	a = act_add(c->out, ACT_SEND);
	a->link = p->link;
	a->text = arena_memdup(&c->out->arena, p->reply, p->reply_len);
	a->len = p->reply_len;
	if (a->text == NULL)
		c->oom = true;
}

static void on_stored(struct coord *c)
{
	events_stored(c, c->ev->ticket, c->ev->error);
	list_foreach_safe(e, &c->pendings) {
		struct pending *p = list_entry(e, struct pending, all);

		if (p->ticket != c->ev->ticket)
			continue;
		list_remove(&p->all);
		if (p->kind == PD_REPLY)
			reply_stored(c, p);
		else if (p->kind == PD_JOIN)
			nodes_joined(c, p, c->ev->error);
		else if (p->kind == PD_FIX)
			fix_on_stored(c, p->rid, c->ev->error, c->ev->text);
		else if (p->kind != PD_QUIET)
			jobs_on_stored(c, p, c->ev->error, c->ev->text);
		free(p->reply);
		free(p);
		return;
	}
}

/* ---- the step ------------------------------------------------------------------ */

/* Stopped, on a paused machine or waiting for a dead disk, we have not heard
 * anybody: a node whose agent was restarted meanwhile could not reach us, and
 * has not been silent. It shows in a deadline that is served late; while a
 * node's silence counts there is one every second or so. */
static void note_own_absence(struct coord *c)
{
	int64_t late_ms = mono_is_never(c->wake) ? 0 : mono_sub_ms(c->now, c->wake);

	if (late_ms < LATE_MS)
		return;
	nodes_forgive(c, late_ms);
	c->wake = c->now;
}

int coord_step(struct coord *c, const struct coord_event *ev, struct actions *out)
{
	c->ev = ev;
	c->out = out;
	c->now = ev->now;
	c->wall_ms = ev->wall_ms;
	note_own_absence(c);
	if (!c->began_stepping) {
		cause_first_event(c);
		c->began_stepping = true;
	}
	switch (ev->type) {
	case CEV_LINK_UP:
		on_link_up(c);
		break;
	case CEV_LINK_DOWN:
		on_link_down(c);
		break;
	case CEV_MESSAGE:
		on_message(c);
		break;
	case CEV_DEADLINE:
		on_deadline(c);
		break;
	case CEV_STORED:
		on_stored(c);
		break;
	case CEV_HOOK:
		events_add(c, &(struct event_in){ .kind = ev->text != NULL ? "hook.failed" : "hook.ok",
						  .severity = ev->text != NULL ? "warn" : "info" }, "%s",
			   ev->text != NULL ? ev->text : "the hook program works again");
		break;
	}
	if (c->have_dirty) {
		jobs_schedule(c);
		watches_flush(c);
	}
	peers_flush(c);
	events_flush(c);
	c->ev = NULL;
	c->out = NULL;
	return c->oom || out->failed ? -ENOMEM : 0;
}

void coord_stopping(struct coord *c, struct actions *out)
{
	c->out = out;
	events_stop(c);
	c->out = NULL;
}

void coord_count(const struct coord *c, struct coord_counts *ret)
{
	*ret = (struct coord_counts){ .nodes = c->n_nodes };
	for (size_t i = 0; i < c->n_nodes; i++)
		ret->nodes_ok += strcmp(node_state(c->nodes[i]), "ok") == 0;
	list_foreach(e, &c->jobs)
		ret->jobs += !job_over(list_entry(e, struct job, all));
}

void coord_each_job(const struct coord *c, void (*f)(void *, const struct rec_row_job *), void *arg)
{
	list_foreach(e, &c->jobs) {
		struct arena a;
		struct msg m;

		arena_init(&a);
		row_of_job(&a, (struct coord *)c, list_entry(e, struct job, all), &m);
		f(arg, &m.u.row_job);
		arena_finish(&a);
	}
}

bool coord_writes(const struct coord *c)
{
	list_foreach(e, &c->jobs) {
		const struct job *j = list_entry(e, struct job, all);

		if (!mono_is_never(j->story_save) || !mono_is_never(j->retry_save))
			return true;
	}
	return !list_empty(&c->pendings);
}

static uint32_t places_at(const struct place *v, size_t n, const struct node *at)
{
	uint32_t k = 0;

	for (size_t i = 0; i < n; i++)
		k += v[i].node == at;
	return k;
}

/* How many jobs hold it: places of those that are not over on disk, and what restarts keep. */
static uint32_t holders(const struct coord *c, const struct node *n)
{
	uint32_t k = 0;

	list_foreach(e, &c->jobs) {
		const struct job *j = list_entry(e, struct job, all);

		if (!j->saved && !j->between)
			k += places_at(j->places, j->n_places, n);
		k += places_at(j->kept, j->n_kept, n);
	}
	return k;
}

void coord_check(const struct coord *c)
{
	for (size_t i = 0; i < c->n_nodes; i++) {
		const struct node *n = c->nodes[i];

		assert(i == 0 || node_name_cmp(c->nodes[i - 1]->name, n->name) < 0);
		assert(n->link == NULL || n->link->node == n);
		assert(n->link == NULL || n->link->state == CL_READY || n->link->state == CL_CLOSED);
		assert(!n->removed);
		assert(n->jobs == holders(c, n));
	}
	list_foreach(e, &c->jobs) {
		const struct job *j = list_entry(e, struct job, all);

		assert(map_get(&c->jobs_by_id, j->id) == j);
		assert(j->id < c->next_job);
		assert(j->first < (int64_t)j->n_ranks);
		assert(j->n_places == 0 || j->n_places == j->nnodes);
		for (size_t i = 0; job_over(j) && i < j->n_places; i++)
			assert(j->places[i].phase == PL_ENDED || j->places[i].phase == PL_LOST ||
			       j->places[i].phase == PL_UNKNOWN);
	}
}
