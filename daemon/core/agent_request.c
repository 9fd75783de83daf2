/* agent_request.c - what local clients ask: passed on with who they are
 *
 * The agent puts uid, user and its own name on every request, whatever the
 * client wrote there. While the coordinator is away a request waits and is
 * sent again after registration: 'submit' is made idempotent by its client_id,
 * the others are so by nature. What only reads waits no longer than a person
 * does who wants to know what is wrong, and is told what this node knows.
 */
#include "core/agent_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AWAY_MS 2000 /* a link that is down so long is no matter of a moment */
#define SILENT_MS 3000 /* without a word of the coordinator since somebody asked */
#define JOBS_TOLD 8u

static void request_free(struct agent *a, struct request *r)
{
	specs_given_up(a, r->rid);
	list_remove(&r->all);
	arena_finish(&r->peer_arena);
	free(r->text);
	free(r);
}

void requests_free(struct agent *a)
{
	list_foreach_safe(e, &a->requests)
		request_free(a, list_entry(e, struct request, all));
}

static struct request *request_new(struct agent *a, struct alink *l, uint32_t client_rid)
{
	struct request *r;
	size_t n = 0;

	list_foreach(e, &a->requests)
		n += list_entry(e, struct request, all)->link == l->id;
	if (n >= REQUESTS_MAX) {
		act_refuse(a->out, l->id, client_rid, "busy", "%u requests of this client wait already",
			   REQUESTS_MAX);
		return NULL;
	}
	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		a->oom = true;
		return NULL;
	}
	if (++a->next_rid == 0)
		a->next_rid = 1;
	r->rid = a->next_rid;
	r->link = l->id;
	r->client_rid = client_rid;
	r->asked = a->now;
	r->until = mono_add_ms(a->now, a->conf.request_ms);
	arena_init(&r->peer_arena);
	list_append(&a->requests, &r->all);
	return r;
}

/* A coordinator of an older version would drop these options without a word. True: it is refused and gone. */
static bool refuse_unknown(struct agent *a, struct request *r)
{
	const char *option = features_option(r->needs & ~a->coord_features);
	char text[480];

	if (a->session != SE_READY || option == NULL)
		return false;
	features_say(text, sizeof(text), "coordinator", a->coordinator, a->coord_software, a->coord_features, option);
	act_refuse(a->out, r->link, r->client_rid, "version", "%s%s", text,
		   r->may_be_taken ? "; it was asked before, and whether it has taken the job: nodectl jobs" : "");
	request_free(a, r);
	return true;
}

static bool in_flight(const struct request *r)
{
	return r->sent && !r->answered;
}

/* At most so many unanswered ones are with the coordinator: answers can be
 * large, and this node's link carries its heartbeats as well. */
static void send_request(struct agent *a, struct request *r)
{
	struct action *act;
	size_t n = 0;

	if (a->session != SE_READY || r->sent)
		return;
	list_foreach(e, &a->requests)
		n += in_flight(list_entry(e, struct request, all));
	if (n >= REQUESTS_AT_ONCE)
		return;
	r->sent = true;
	r->may_be_taken = r->is_submit;
	specs_sent(a, r->rid, true);
	act = act_add(a->out, ACT_SEND);
	act->link = a->coord_link;
	act->text = arena_memdup(&a->out->arena, r->text, r->len);
	act->len = r->len;
	if (act->text == NULL)
		a->oom = true;
}

/* m: a shallow copy, with rid and identity filled in. */
static void pass_on(struct agent *a, struct request *r, struct msg *m)
{
	struct buf b;

	buf_init(&b);
	if (msg_encode(m, &b, NULL) == 0)
		r->text = buf_steal(&b, &r->len);
	buf_finish(&b);
	if (r->text == NULL)
		a->oom = true;
	else if (!refuse_unknown(a, r))
		send_request(a, r);
}

static void pass_submit(struct agent *a, struct alink *l, struct msg *m)
{
	struct rec_submit *s = &m->u.submit;
	struct request *r;

	if (a->ev->spec_hash == NULL) {
		act_refuse(a->out, l->id, s->rid, "bad-request",
			   "a job's specification must be sent before it is submitted");
		return;
	}
	r = request_new(a, l, s->rid);
	if (r == NULL)
		return;
	r->is_submit = true;
	r->needs = features_needed(s);
	specs_submitting(a, r->rid, a->ev->spec_hash);
	s->rid = r->rid;
	s->spec_hash = (struct bytes){ a->ev->spec_hash, 32 };
	s->spec_size = a->ev->spec_size;
	MSG_SET(s, submit, uid, l->uid);
	s->user = l->user;
	s->node = a->node;
	pass_on(a, r, m);
}

/* The coordinator may have it, or be about to: nobody waits for its answers. */
static void take_back(struct agent *a, const struct request *r)
{
	struct msg m;

	msg_init(&m, MSG_unwatch);
	m.u.unwatch.rid = r->rid;
	session_send(a, &m);
}

static void unwatch(struct agent *a, struct alink *l, const struct rec_unwatch *u)
{
	list_foreach_safe(e, &a->requests) {
		struct request *r = list_entry(e, struct request, all);

		if (r->link != l->id || r->client_rid != u->rid || !r->is_watch)
			continue;
		take_back(a, r);
		request_free(a, r);
	}
}

/* Fills rid and identity in the copy; NULL when this is no request. */
static struct request *adopt_request(struct agent *a, struct alink *l, struct msg *m)
{
	struct request *r = NULL;

	switch (m->type) {
	case MSG_kill:
		r = request_new(a, l, m->u.kill.rid);
		m->u.kill.rid = r != NULL ? r->rid : 0;
		MSG_SET(&m->u.kill, kill, uid, l->uid);
		m->u.kill.user = l->user;
		break;
	case MSG_status_get:
		r = request_new(a, l, m->u.status_get.rid);
		m->u.status_get.rid = r != NULL ? r->rid : 0;
		MSG_SET(&m->u.status_get, status_get, uid, l->uid);
		break;
	case MSG_checks_get:
		r = request_new(a, l, m->u.checks_get.rid);
		m->u.checks_get.rid = r != NULL ? r->rid : 0;
		MSG_SET(&m->u.checks_get, checks_get, uid, l->uid);
		break;
	case MSG_jobs_get:
		r = request_new(a, l, m->u.jobs_get.rid);
		m->u.jobs_get.rid = r != NULL ? r->rid : 0;
		MSG_SET(&m->u.jobs_get, jobs_get, uid, l->uid);
		break;
	case MSG_events_get:
		r = request_new(a, l, m->u.events_get.rid);
		m->u.events_get.rid = r != NULL ? r->rid : 0;
		if (r != NULL)
			r->needs = FEATURE_EVENTS;
		MSG_SET(&m->u.events_get, events_get, uid, l->uid);
		break;
	case MSG_base_put:
		r = request_new(a, l, m->u.base_put.rid);
		m->u.base_put.rid = r != NULL ? r->rid : 0;
		if (r != NULL)
			r->needs = FEATURE_BASE;
		MSG_SET(&m->u.base_put, base_put, uid, l->uid);
		break;
	case MSG_base_get:
		r = request_new(a, l, m->u.base_get.rid);
		m->u.base_get.rid = r != NULL ? r->rid : 0;
		if (r != NULL)
			r->needs = FEATURE_BASE;
		MSG_SET(&m->u.base_get, base_get, uid, l->uid);
		break;
	case MSG_sm_fix:
		r = request_new(a, l, m->u.sm_fix.rid);
		m->u.sm_fix.rid = r != NULL ? r->rid : 0;
		if (r != NULL)
			r->needs = FEATURE_FIX_SM;
		MSG_SET(&m->u.sm_fix, sm_fix, uid, l->uid);
		break;
	case MSG_watch:
		r = request_new(a, l, m->u.watch.rid);
		m->u.watch.rid = r != NULL ? r->rid : 0;
		MSG_SET(&m->u.watch, watch, uid, l->uid);
		m->u.watch.node = a->node;
		if (r != NULL) {
			r->is_watch = true;
			r->job = m->u.watch.job;
		}
		break;
	default:
		break;
	}
	if (r != NULL && (m->type == MSG_status_get || m->type == MSG_jobs_get)) {
		r->is_read = true;
		session_hurry(a);
	}
	return r;
}

/* A question about a job that is not submitted. */
static void pass_plan(struct agent *a, struct alink *l, struct msg *m)
{
	struct rec_plan_get *g = &m->u.plan_get;
	struct request *r;
	struct rec_submit s;

	if (g->n_submit != 1) {
		act_refuse(a->out, l->id, g->rid, "bad-request", "a plan is made for one job");
		return;
	}
	r = request_new(a, l, g->rid);
	if (r == NULL)
		return;
	s = g->submit[0];
	MSG_SET(&s, submit, uid, l->uid);
	s.user = l->user;
	s.node = a->node;
	g->submit = &s;
	g->rid = r->rid;
	r->needs = features_of_plan();
	pass_on(a, r, m);
}

static uint32_t rid_of_admin(const struct msg *m)
{
	if (m->type == MSG_token_create)
		return m->u.token_create.rid;
	if (m->type == MSG_node_drain)
		return m->u.node_drain.rid;
	return m->type == MSG_node_remove ? m->u.node_remove.rid : 0;
}

void request_from_client(struct agent *a, struct alink *l, const struct msg *m)
{
	struct msg copy = *m; /* pointers stay borrowed for this step */
	struct request *r;

	if (m->type == MSG_submit) {
		pass_submit(a, l, &copy);
		return;
	}
	if (m->type == MSG_plan_get) {
		pass_plan(a, l, &copy);
		return;
	}
	if (m->type == MSG_unwatch) {
		unwatch(a, l, &m->u.unwatch);
		return;
	}
	r = adopt_request(a, l, &copy);
	if (r != NULL)
		pass_on(a, r, &copy);
	else if (rid_of_admin(m) != 0)
		act_refuse(a->out, l->id, rid_of_admin(m), "denied",
			   "administrators' commands are run on the coordinator's host");
}

/* ---- answers --------------------------------------------------------------------- */

static struct request *find(struct agent *a, uint32_t rid)
{
	list_foreach(e, &a->requests) {
		struct request *r = list_entry(e, struct request, all);

		if (r->rid == rid)
			return r;
	}
	return NULL;
}

/* Where an answer carries its rid; NULL when it is no answer. */
static uint32_t *answer_rid(struct msg *m)
{
	switch (m->type) {
	case MSG_submitted:
		return &m->u.submitted.rid;
	case MSG_status:
		return &m->u.status.rid;
	case MSG_jobs:
		return &m->u.jobs.rid;
	case MSG_checks:
		return &m->u.checks.rid;
	case MSG_events:
		return &m->u.events.rid;
	case MSG_base_told:
		return &m->u.base_told.rid;
	case MSG_base_list:
		return &m->u.base_list.rid;
	case MSG_sm_fixed:
		return &m->u.sm_fixed.rid;
	case MSG_ok:
		return &m->u.ok.rid;
	case MSG_refused:
		return &m->u.refused.rid;
	case MSG_job_update:
		return &m->u.job_update.rid;
	case MSG_token:
		return &m->u.token.rid;
	case MSG_plan:
		return &m->u.plan.rid;
	default:
		return NULL;
	}
}

/* Those of many nodes come in pieces. */
static void add_peers(struct agent *a, struct request *r, const struct rec_job_update *u)
{
	struct rec_peer *v = arena_alloc(&r->peer_arena, (r->n_peers + u->n_peers) * sizeof(*v));
	struct rec_peer *more = peers_copy(&r->peer_arena, u->peers, u->n_peers);

	if (v == NULL || more == NULL) {
		a->oom = true;
		return;
	}
	if (r->n_peers > 0)
		memcpy(v, r->peers, r->n_peers * sizeof(*v));
	memcpy(v + r->n_peers, more, u->n_peers * sizeof(*v));
	r->peers = v;
	r->n_peers += u->n_peers;
}

/* Remembers where the output lies and hides it from the client. */
static void keep_peers(struct agent *a, struct request *r, struct rec_job_update *u)
{
	r->answered = true;
	for (size_t i = 0; i < u->n_peers; i++)
		peers_unrevoke(a, &u->peers[i]);
	if (u->n_job == 1)
		r->attempt = u->job[0].attempt;
	if (u->n_peers > 0 && !r->peers_go_on) {
		arena_finish(&r->peer_arena);
		r->peers = NULL;
		r->n_peers = 0;
	}
	if (u->n_peers > 0)
		add_peers(a, r, u);
	r->peers_go_on = u->more;
	u->peers = NULL;
	u->n_peers = 0;
}

/* Long answers come in pieces. */
static bool more_follows(const struct msg *m)
{
	return (m->type == MSG_status && m->u.status.more) ||
	       (m->type == MSG_jobs && m->u.jobs.more) || (m->type == MSG_checks && m->u.checks.more);
}

static void send_waiting(struct agent *a)
{
	list_foreach(e, &a->requests)
		send_request(a, list_entry(e, struct request, all));
}

bool request_on_answer(struct agent *a, const struct msg *m)
{
	struct msg copy = *m;
	uint32_t *rid = answer_rid(&copy);
	struct request *r;

	if (rid == NULL)
		return false;
	if (m->type == MSG_submitted)
		specs_submitted(a, &m->u.submitted);
	else if (m->type == MSG_refused)
		specs_refused(a, *rid);
	r = find(a, *rid);
	if (r == NULL)
		return true; /* the client has left */
	*rid = r->client_rid;
	if (m->type == MSG_job_update)
		keep_peers(a, r, &copy.u.job_update);
	if (m->type == MSG_job_update && m->u.job_update.more)
		return true; /* who follows its output needs them all */
	act_send(a->out, r->link, &copy);
	if (!more_follows(m) && (!r->is_watch || m->type == MSG_refused))
		request_free(a, r);
	if (!more_follows(m))
		send_waiting(a);
	return true;
}

void requests_again(struct agent *a)
{
	list_foreach_safe(e, &a->requests) {
		struct request *r = list_entry(e, struct request, all);

		r->sent = r->peers_go_on = false;
		specs_sent(a, r->rid, false);
		refuse_unknown(a, r); /* another coordinator may have come */
	}
	/* Watches first: they are few, and already answered ones do not count. */
	list_foreach(e, &a->requests) {
		struct request *r = list_entry(e, struct request, all);

		if (r->is_watch)
			send_request(a, r);
	}
	send_waiting(a);
}

void requests_of_link_gone(struct agent *a, uint64_t link)
{
	list_foreach_safe(e, &a->requests) {
		struct request *r = list_entry(e, struct request, all);

		if (r->link != link)
			continue;
		if (r->is_watch)
			take_back(a, r);
		request_free(a, r);
	}
}

/* A watch that was answered once stays for as long as its client does. */
static bool waits(const struct request *r)
{
	return !(r->is_watch && r->answered);
}

/* When nobody should wait for it any longer. */
static mono_t due(const struct agent *a, const struct request *r)
{
	int64_t silent = a->conf.heartbeat_ms + 1000 > SILENT_MS ? a->conf.heartbeat_ms + 1000 : SILENT_MS;
	mono_t away = mono_add_ms(a->down_since, AWAY_MS), t;

	if (!r->is_read)
		return r->until;
	if (a->session == SE_READY)
		t = mono_add_ms(mono_before(r->asked, a->heard) ? a->heard : r->asked, silent);
	else if (a->session == SE_DOWN) /* it was tried when this one asked */
		t = away;
	else
		t = mono_add_ms(mono_before(r->asked, a->down_since) ? a->down_since : r->asked, AWAY_MS);
	return mono_min(t, r->until);
}

/* "; node gpu01 itself holds job 3 (running), job 5 (preparing)" */
static const char *what_we_know(struct agent *a)
{
	struct arena *ar = &a->out->arena;
	const char *text = "";
	size_t n = 0;

	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (n++ < JOBS_TOLD)
			text = arena_printf(ar, "%s%s job %llu (%s)", text, n > 1 ? "," : "", (unsigned long long)j->job,
					    ajob_phase_name(j->phase));
	}
	if (n == 0)
		return arena_printf(ar, "; node %s itself holds no job", a->node);
	if (n > JOBS_TOLD)
		text = arena_printf(ar, "%s and %zu more", text, n - JOBS_TOLD);
	return arena_printf(ar, "; running jobs go on: node %s itself holds%s", a->node, text);
}

static void give_up(struct agent *a, const struct request *r)
{
	const char *then = r->may_be_taken ?
		"; whether it took the job is not known: nodectl jobs tells, once it answers" : "";

	if (r->is_read)
		then = what_we_know(a);
	if (a->session == SE_READY)
		act_refuse(a->out, r->link, r->client_rid, "unavailable",
			   "the coordinator at %s did not answer within %lld s%s", a->coordinator,
			   (long long)mono_sub_ms(a->now, r->asked) / 1000, then);
	else
		act_refuse(a->out, r->link, r->client_rid, "unavailable",
			   "this node (%s) has no connection to the coordinator at %s (%s, for %lld s)%s%s",
			   a->node, a->coordinator, a->down_why, (long long)mono_sub_ms(a->now, a->down_since) / 1000,
			   r->is_read ? "" : "; running jobs go on", then);
}

void requests_deadlines(struct agent *a)
{
	list_foreach_safe(e, &a->requests) {
		struct request *r = list_entry(e, struct request, all);

		if (!waits(r) || !mono_due(due(a, r), a->now))
			continue;
		if (r->is_watch)
			take_back(a, r);
		give_up(a, r);
		request_free(a, r);
	}
}

mono_t requests_deadline(const struct agent *a)
{
	mono_t t = MONO_NEVER;

	list_foreach(e, &a->requests) {
		const struct request *r = list_entry(e, struct request, all);

		if (waits(r))
			t = mono_min(t, due(a, r));
	}
	return t;
}

/* ---- asked by io/bulk.c -------------------------------------------------------------- */

static const struct request *watch_of(const struct agent *a, uint64_t link, uint64_t job)
{
	list_foreach(e, &a->requests) {
		const struct request *r = list_entry(e, struct request, all);

		if (r->is_watch && r->answered && r->link == link && r->job == job)
			return r;
	}
	return NULL;
}

bool agent_client_may(const struct agent *a, uint64_t link, uint64_t job)
{
	return watch_of(a, link, job) != NULL;
}

size_t agent_job_peers(const struct agent *a, uint64_t link, uint64_t job,
		       const struct rec_peer **ret, uint32_t *ret_attempt)
{
	const struct request *r = watch_of(a, link, job);

	if (r == NULL || r->n_peers == 0)
		return 0;
	*ret = r->peers;
	*ret_attempt = r->attempt;
	return r->n_peers;
}
