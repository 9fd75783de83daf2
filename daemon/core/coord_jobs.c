/* coord_jobs.c - life of a job, seen from the coordinator
 *
 *   queued -> preparing -> running -> ending -> done | failed | lost
 *
 *   queued     stored; waits for nodes that can be used
 *   preparing  nodes chosen and stored (the durable intent names each node's
 *              boot id); prepare -> prepared, prove -> proved
 *   running    the barrier was passed: start is sent to all
 *   ending     somebody decided: a rank, the user, a limit, a lost node; end is
 *              sent to all, and each place is waited for or given up
 *
 * A place is given up only on proof (another boot, a job its node does not
 * know) or after node_lost_ms. What a node says counts for its own ranks only.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/spec.h"

#define MINUTE_NS INT64_C(60000000000)

const char *job_state_name(enum job_state s)
{
	static const char *const names[] = { "queued", "preparing", "running", "ending",
					     "done",   "failed",    "lost" };

	return names[s];
}

/* 'running' only once a node has said so (after a restart it says it again);
 * 'ending' and an end only once they are on disk. */
const char *job_shown_state(const struct job *j)
{
	if (j->saved)
		return job_state_name(j->state);
	if (j->recovering && !j->end_stored)
		return "recovering";
	if (j->end_stored)
		return j->awaits_gone && !j->stopped ? "restarting" : "ending";
	if (restart_waits(j))
		return "restarting"; /* or killed there, and that is not on disk yet */
	if (j->n_places == 0)
		return "queued";
	for (size_t i = 0; (j->start_sent || j->any_started) && i < j->n_places; i++)
		if (j->places[i].phase >= PL_RUNNING)
			return "running";
	return j->restored ? "recovering" : "preparing";
}

bool job_over(const struct job *j)
{
	return j->state >= JOB_DONE;
}

struct job *job_find(const struct coord *c, uint64_t id)
{
	return map_get(&c->jobs_by_id, id);
}

void rank_finish(struct rank *r)
{
	free(r->text);
	free(r->cause);
	free(r->found);
	free((void *)r->tail.p);
	below_free(&r->below);
}

static void free_ranks(struct job *j)
{
	for (size_t i = 0; i < j->n_ranks; i++)
		rank_finish(&j->ranks[i]);
	free(j->ranks);
	free(j->rank_no);
	free(j->sums);
	free(j->others);
	j->ranks = NULL;
	j->rank_no = NULL;
	j->sums = NULL;
	j->others = NULL;
	j->n_ranks = j->n_sums = 0;
}

void job_free(struct coord *c, struct job *j)
{
	list_foreach_safe(e, &j->watches)
		watch_free(c, list_entry(e, struct watch, of_job));
	map_del(&c->jobs_by_id, j->id);
	list_remove(&j->all);
	list_remove(&j->of_ended);
	free_ranks(j);
	places_free(j->places, j->n_places);
	free(j->hosts);
	free(j->exclude);
	free(j->name);
	free(j->command);
	free(j->ending);
	hung_free(j);
	free(j->proof_why);
	free(j->why);
	for (size_t i = 0; i < j->n_notices; i++)
		free(j->notices[i]);
	hang_free(j);
	story_free(j);
	restart_free(j);
	net_free(j);
	nccl_free(j);
	ras_free(j);
	free(j->copies);
	free(j);
}

int job_alloc_ranks(struct job *j)
{
	free_ranks(j);
	j->ranks = calloc((size_t)j->nnodes * j->ppn, sizeof(*j->ranks));
	if (j->ranks == NULL)
		return -ENOMEM;
	j->n_ranks = (size_t)j->nnodes * j->ppn;
	return 0;
}

void job_changed(struct coord *c, struct job *j)
{
	j->dirty = true;
	c->have_dirty = true;
}

/* ---- who may ask -------------------------------------------------------------- */

/* A node may vouch for its users about what runs on it and nowhere else. */
static bool wholly_on(const struct job *j, const struct node *n)
{
	return j->n_places == 1 && j->places[0].node == n && j->n_past == 0;
}

bool may_touch_job(const struct clink *l, uint32_t uid, const struct job *j)
{
	if (l->who == WHO_LOCAL)
		return l->admin || uid == j->uid;
	return uid == j->uid && l->node != NULL &&
	       (l->node->submit || strcmp(l->node->name, j->submit_node) == 0 || wholly_on(j, l->node));
}

bool refuse_job(struct coord *c, struct clink *l, uint32_t rid, uint64_t id, const struct job *j,
		uint32_t uid)
{
	if (j == NULL || !j->stored)
		coord_refuse(c, l, rid, "not-found",
			     "there is no job %llu; 'nodectl jobs --all' lists them",
			     (unsigned long long)id);
	else if (!may_touch_job(l, uid, j) && uid == j->uid && l->node != NULL)
		coord_refuse(c, l, rid, "denied", "job %llu is yours, but node %s may not speak for its users about "
			     "what runs elsewhere: ask on %s, where it was submitted, or on a submit node",
			     (unsigned long long)id, l->node->name, j->submit_node);
	else if (!may_touch_job(l, uid, j))
		coord_refuse(c, l, rid, "denied", "job %llu is not yours: it belongs to %s",
			     (unsigned long long)id, j->user);
	else
		return false;
	return true;
}

bool request_uid(struct coord *c, struct clink *l, uint32_t rid, bool has_uid, uint32_t claimed,
		 uint32_t *ret)
{
	const struct node *n = l->node;
	uint32_t lo = 1000, hi = 59999;

	if (l->who == WHO_LOCAL) {
		*ret = l->uid;
		return true;
	}
	if (n != NULL && n->submit) {
		lo = n->uid_min;
		hi = n->uid_max;
	}
	if (n != NULL && has_uid && claimed >= lo && claimed <= hi) {
		*ret = claimed;
		return true;
	}
	coord_refuse(c, l, rid, "denied",
		     "node %s may not speak for uid %u: it was enrolled for uids %u-%u; an administrator can enrol it again: "
		     "'nodectl node-remove %s', 'nodectl token create --submit --uids %u-%u', and 'nodeagentd join' there%s",
		     n != NULL ? n->name : "?", claimed, lo, hi, n != NULL ? n->name : "NAME", claimed < lo ? claimed : lo,
		     claimed > hi ? claimed : hi, claimed == 0 ? "; root's jobs run only on nodes with allow_root = yes" : "");
	return false;
}

/* ---- submit ------------------------------------------------------------------- */

static struct job *job_of_client_id(struct coord *c, const char *id, uint32_t uid)
{
	for (struct list *e = c->jobs.prev; e != &c->jobs; e = e->prev) {
		struct job *j = list_entry(e, struct job, all);

		if (j->uid == uid && strcmp(j->client_id, id) == 0)
			return j;
	}
	return NULL;
}

static void send_submitted(struct coord *c, uint64_t link, uint32_t rid, uint64_t job)
{
	struct msg m;

	msg_init(&m, MSG_submitted);
	m.u.submitted.rid = rid;
	m.u.submitted.job = job;
	act_send(c->out, link, &m);
}

static void send_known(struct coord *c, const struct clink *l, uint32_t rid, const struct job *j)
{
	struct msg m;

	msg_init(&m, MSG_submitted);
	m.u.submitted.rid = rid;
	m.u.submitted.job = j->id;
	m.u.submitted.spec_unused = j->saved || strcmp(j->submit_node, l->node->name) != 0;
	act_send(c->out, l->id, &m);
}

/* A plain node may start jobs on itself only. */
bool job_stays_home(struct coord *c, struct clink *l, const struct rec_submit *s, uint32_t rid)
{
	struct hostlist h;
	bool own = true;

	if (l->node->submit)
		return true;
	if (s->hosts != NULL) {
		own = hostlist_parse(s->hosts, &h, NULL) == 0;
		if (own) {
			own = h.count == 1 && strcmp(h.names[0], l->node->name) == 0;
			hostlist_finish(&h);
		}
	}
	if (own && s->nnodes <= 1)
		return true;
	coord_refuse(c, l, rid, "denied",
		     "node %s may start jobs on itself only; submit from the head host, or have it "
		     "enrolled with 'nodectl token create --submit'",
		     l->node->name);
	return false;
}

struct job *job_new(struct coord *c, struct clink *l, const struct rec_submit *s, uint32_t uid)
{
	struct job *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		c->oom = true;
		return NULL;
	}
	j->id = c->next_job;
	j->first = -1;
	j->uid = uid;
	snprintf(j->client_id, sizeof(j->client_id), "%s", s->client_id);
	snprintf(j->user, sizeof(j->user), "%s", s->user != NULL ? s->user : "");
	snprintf(j->submit_node, sizeof(j->submit_node), "%s", l->node->name);
	memcpy(j->spec_hash, s->spec_hash.p, 32);
	j->spec_size = s->spec_size;
	j->nnodes = s->nnodes;
	j->ppn = s->procs_per_node != 0 ? s->procs_per_node : 1;
	j->grace_ms = MSG_HAS(s, submit, grace_ms) ? s->grace_ms : 30000;
	j->time_s = s->time_s;
	j->immediate = s->immediate;
	j->with_stdin = s->with_stdin;
	j->per_node = s->per_node;
	j->all_gpus = !MSG_HAS(s, submit, gpus_per_node);
	j->gpus = s->gpus_per_node;
	j->busy_gpus = s->busy_gpus;
	j->hosts = coord_strdup(c, s->hosts);
	if (j->hosts == NULL && !l->node->submit)
		j->hosts = coord_strdup(c, l->node->name);
	j->exclude = coord_strdup(c, s->exclude);
	j->name = coord_strdup(c, s->name);
	j->command = coord_strdup(c, s->command);
	j->submit_wall_ms = c->wall_ms;
	j->prepare_until = j->run_until = j->retry_save = j->story_save = MONO_NEVER;
	j->end_by = j->start_by = j->restart_at = j->run_since = MONO_NEVER;
	j->max_restarts = s->max_restarts;
	j->restart_any = s->restart_any;
	j->on_hang = (enum on_hang)on_hang_from(s->on_hang); /* checked before */
	j->hang_stacks = s->hang_stacks;
	j->want_spares = s->max_restarts > 0 ? s->spares : 0;
	j->settle_at = j->started_at = MONO_NEVER;
	list_init(&j->all);
	list_init(&j->of_ended);
	list_init(&j->watches);
	net_asked(c, j, s->net, s->net_yours, s->n_net_yours);
	return j;
}

/* Chooses nodes; a job that cannot start now may wait. False: refused, freed. */
static bool place_new(struct coord *c, struct clink *l, struct job *j, uint32_t rid)
{
	struct err e = { 0 };
	int r = place_job(c, j, &e);

	if (r == 1) {
		j->state = JOB_PREPARING;
	} else if (r == 0 && !j->immediate) {
		j->state = JOB_QUEUED;
	} else {
		coord_refuse(c, l, rid, r == 0 ? "busy" : "bad-request", "%s",
			     r == 0 ? j->why : e.text);
		job_free(c, j);
		return false;
	}
	return true;
}

void jobs_on_submit(struct coord *c, struct clink *l, const struct rec_submit *s)
{
	struct pending *pd;
	struct action *p;
	struct job *j;
	uint32_t uid;

	if (l->who != WHO_NODE) {
		coord_refuse(c, l, s->rid, "bad-request",
			     "jobs are submitted through a node's agent, not on the coordinator's own "
			     "socket; run this on a node, or name its agent's socket with --socket");
		return;
	}
	if (!request_uid(c, l, s->rid, MSG_HAS(s, submit, uid), s->uid, &uid) || !net_known(c, l, s->net, s->rid))
		return;
	if (s->spec_hash.n != 32 || s->spec_size == 0) {
		coord_refuse(c, l, s->rid, "bad-request", "the job came without a specification");
		return;
	}
	if (on_hang_from(s->on_hang) < 0) {
		coord_refuse(c, l, s->rid, "bad-request", "--on-hang %s is not known here: report, kill or restart", s->on_hang);
		return;
	}
	j = job_of_client_id(c, s->client_id, uid);
	if (j != NULL && j->stored) {
		send_known(c, l, s->rid, j);
		return;
	}
	if (j != NULL) {
		j->ack_link = l->id;
		j->ack_rid = s->rid;
		return;
	}
	if (!job_stays_home(c, l, s, s->rid))
		return;
	if (c->have_dirty) /* its node was silent until this word: who waits for it comes first */
		jobs_schedule(c);
	j = job_new(c, l, s, uid);
	if (j == NULL || !place_new(c, l, j, s->rid))
		return;
	job_tell(c, j, j->submit_node, 0, 0, "submitted by %s", j->user);
	c->next_job++;
	j->ack_link = l->id;
	j->ack_rid = s->rid;
	list_append(&c->jobs, &j->all);
	if (map_put(&c->jobs_by_id, j->id, j) < 0)
		c->oom = true;
	p = coord_persist(c, &pd);
	pd->kind = PD_SUBMIT;
	pd->job = j->id;
	persist_job(c, p, j);
}

/* ---- kill --------------------------------------------------------------------- */

static void tell_kill(struct coord *c, const struct clink *l, struct job *j, const struct rec_kill *k,
		      uint32_t uid)
{
	const char *who = uid == j->uid ? j->user : l->who == WHO_LOCAL ? l->user : k->user;
	char by[80];

	if (who != NULL && who[0] != '\0')
		snprintf(by, sizeof(by), "%.64s", who);
	else
		snprintf(by, sizeof(by), "uid %u", uid);
	job_tell(c, j, l->node != NULL ? l->node->name : NULL, 0, 0, "%s asked for its end, with a grace of %u.%u s",
		 by, j->grace_ms / 1000, j->grace_ms % 1000 / 100);
}

/* What was ended by it, where no rank was there to be: NULL where there may be one. */
static const char *kill_waiting(const struct job *j)
{
	if (j->state != JOB_QUEUED)
		return NULL;
	return j->n_past > 0 ? "it waited for its restart: it is cancelled, no rank was running" :
			       "it waited for its nodes: it is cancelled, no rank had been started";
}

void jobs_on_kill(struct coord *c, struct clink *l, const struct rec_kill *k)
{
	struct job *j = job_find(c, k->job);
	struct pending *pd;
	struct action *p;
	struct buf b;
	struct msg m;
	const char *waited;
	uint32_t uid;

	if (!request_uid(c, l, k->rid, MSG_HAS(k, kill, uid), k->uid, &uid))
		return;
	if (refuse_job(c, l, k->rid, k->job, j, uid))
		return;
	msg_init(&m, MSG_ok);
	m.u.ok.rid = k->rid;
	if (job_over(j)) {
		m.u.ok.text = "the job had already ended";
		if (j->saved) {
			act_send(c->out, l->id, &m);
			return;
		}
		p = coord_persist(c, &pd); /* as long as it is not on disk a restart would run it */
		persist_job(c, p, j);
		reply_when_stored(c, pd, l, k->rid, &m);
		return;
	}
	if (MSG_HAS(k, kill, grace_ms) && (j->state != JOB_ENDING || k->grace_ms < j->grace_ms)) {
		j->grace_ms = k->grace_ms;
		job_hurry(c, j);
	}
	tell_kill(c, l, j, k, uid);
	j->stopped = true;
	restart_blame(j, END_USER, NULL);
	waited = kill_waiting(j);
	job_end(c, j, EXIT_KILLED, "%s%s%s", k->why != NULL ? k->why : "ended by its owner",
		waited != NULL ? "; " : "", waited != NULL ? waited : "");
	if (waited != NULL)
		m.u.ok.text = arena_printf(&c->out->arena, "job %llu: %s", (unsigned long long)j->id, waited);
	p = coord_persist(c, &pd);
	persist_job(c, p, j);
	buf_init(&b);
	pd->kind = PD_REPLY;
	pd->link = l->id;
	pd->rid = k->rid;
	if (msg_encode(&m, &b, NULL) == 0)
		pd->reply = buf_steal(&b, &pd->reply_len);
	buf_finish(&b);
	if (pd->reply == NULL)
		c->oom = true;
	job_check_final(c, j);
}

/* ---- stored ------------------------------------------------------------------------ */

void job_unplace(struct coord *c, struct job *j)
{
	restart_drop_kept(c, j);
	for (size_t i = 0; i < j->n_places; i++) {
		j->places[i].node->jobs--;
		place_release(&j->places[i]);
	}
	places_free(j->places, j->n_places);
	j->places = NULL;
	j->n_places = 0;
	free_ranks(j);
}

static void submit_stored(struct coord *c, struct job *j, int error, const char *text)
{
	struct clink *l = coord_link_open(c, j->ack_link);

	if (error != 0) {
		if (l != NULL)
			coord_refuse(c, l, j->ack_rid, "unavailable",
				     "the coordinator could not save the job, so it was not taken: %s",
				     text != NULL ? text : "store error");
		job_unplace(c, j);
		specs_over(c, j); /* a node that has registered meanwhile was told to keep it */
		job_free(c, j);
		c->have_dirty = true; /* others may wait for what it had */
		return;
	}
	j->stored = true;
	if (l != NULL)
		send_submitted(c, l->id, j->ack_rid, j->id);
	if (j->state == JOB_PREPARING)
		job_go_prepare(c, j);
	job_changed(c, j);
}

static void placed_stored(struct coord *c, struct job *j, int error)
{
	j->placing = false;
	if (j->state != JOB_PREPARING)
		return;
	if (error == 0) {
		job_go_prepare(c, j);
		return;
	}
	peers_unplaced(c, j);
	job_unplace(c, j);
	peers_withdraw(c, j);
	j->attempt--;
	j->state = JOB_QUEUED;
	j->retry_save = mono_add_ms(c->now, SAVE_RETRY_MS);
	coord_wake_at(c, j->retry_save);
	coord_set_text(c, &j->why, "the coordinator cannot save its state (disk full?); trying again");
	job_changed(c, j); /* it keeps its place before later ones */
}

static void leases_stored(struct coord *c, struct job *j, const struct pending *p, int error)
{
	if (j->state != JOB_PREPARING || j->leases_ticket != p->ticket)
		return; /* it was prepared anew, or is ended */
	j->leases_ticket = 0;
	if (error != 0) {
		j->retry_save = mono_add_ms(c->now, SAVE_RETRY_MS);
		coord_wake_at(c, j->retry_save);
		return;
	}
	j->leases_stored = true;
	if (j->start_waits)
		job_go_start(c, j);
}

static void final_stored(struct coord *c, struct job *j, int error)
{
	j->saving = false;
	if (error != 0) {
		j->retry_save = mono_add_ms(c->now, SAVE_RETRY_MS);
		coord_wake_at(c, j->retry_save);
		return;
	}
	j->saved = true;
	history_add(c, j);
	for (uint32_t i = 0; i < j->n_places; i++) {
		if (!j->between) {
			j->places[i].node->jobs--;
			place_release_final(&j->places[i]);
			clean_begin(c, &j->places[i], j->id, j->start_wall_ms != 0);
		}
		job_send_forget(c, j, i);
	}
	restart_drop_kept(c, j);
	specs_over(c, j);
	peers_tell_source(c, j);
	j->gpus_left = clean_awaited(j);
	history_squeeze(j);
	job_changed(c, j);
	history_prune(c, j);
}

void jobs_on_stored(struct coord *c, const struct pending *p, int error, const char *text)
{
	struct job *j = job_find(c, p->job);

	if (j == NULL)
		return;
	if (p->kind == PD_SUBMIT)
		submit_stored(c, j, error, text);
	else if (p->kind == PD_PLACED)
		placed_stored(c, j, error);
	else if (p->kind == PD_LEASES)
		leases_stored(c, j, p, error);
	else if (p->kind == PD_END)
		job_end_stored(c, j, error);
	else if (p->kind == PD_SETTLE)
		cause_settled(c, j, error);
	else if (p->kind == PD_FINAL)
		final_stored(c, j, error);
	else if (p->kind == PD_STORY)
		story_stored(c, j, error);
	else if (p->kind == PD_RESTART)
		restart_stored(c, j, error);
}

/* ---- scheduling and deadlines ---------------------------------------------------------- */

static void try_place(struct coord *c, struct job *j)
{
	struct err e = { 0 };
	char *before = coord_strdup(c, j->why);
	mono_t start_by = j->start_by;
	int r = place_job(c, j, &e);
	struct pending *pd;
	struct action *p;

	if (r == 1) {
		j->state = JOB_PREPARING;
		j->placing = true;
		p = coord_persist(c, &pd);
		pd->kind = PD_PLACED;
		pd->job = j->id;
		persist_job(c, p, j);
	} else if (r < 0) {
		job_end(c, j, 1, "%s", e.text);
		job_check_final(c, j);
	} else if (before == NULL || j->why == NULL || strcmp(before, j->why) != 0 ||
		   start_by.ns / MINUTE_NS != j->start_by.ns / MINUTE_NS) {
		job_changed(c, j);
	}
	free(before);
}

/* In order of submission. Who waits for GPUs keeps later jobs away from the
 * nodes it could use, or a large job would never get them all at once, but for
 * those that are over in time (coord_queue.c); jobs without GPUs share nodes and
 * hold up nobody. */
static void schedule_one(struct coord *c, struct job *j)
{
	if (j->stored && !mono_before(c->now, j->retry_save))
		j->retry_save = MONO_NEVER;
	if (!j->stored || !mono_is_never(j->retry_save) || !restart_due(c, j))
		place_reserve(c, j);
	else if (specs_there(c, j))
		try_place(c, j);
}

/* Those that restart come first. Only the first of them keeps its good nodes
 * when they do not suffice: two could wait for each other's for ever. */
static void schedule_restarts(struct coord *c)
{
	bool waits = false;

	list_foreach_safe(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (j->state != JOB_QUEUED || j->n_past == 0)
			continue;
		schedule_one(c, j);
		if (j->state == JOB_QUEUED && waits && mono_is_never(j->restart_at))
			restart_drop_kept(c, j);
		waits = waits || j->state == JOB_QUEUED;
	}
}

void jobs_schedule(struct coord *c)
{
	queue_begin(c);
	schedule_restarts(c);
	list_foreach_safe(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (j->state == JOB_QUEUED && j->n_past == 0)
			schedule_one(c, j);
	}
}

static void say_who_is_late(struct coord *c, struct job *j)
{
	char list[300] = "";
	size_t len = 0, shown = 0, late = 0;
	const struct node *away = NULL;
	bool proving = job_all_places(j, PL_PREPARED);

	for (size_t i = 0; i < j->n_places; i++) {
		if (j->places[i].phase >= (proving ? PL_PROVED : PL_PREPARED))
			continue;
		if (!node_usable(j->places[i].node))
			away = j->places[i].node;
		if (late++ < 4 && len < 200) {
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s (%s)",
						shown++ ? ", " : "", j->places[i].node->name,
						node_state(j->places[i].node));
		}
	}
	if (late > shown)
		snprintf(list + len, sizeof(list) - len, " and %zu more", late - shown);
	if (away != NULL)
		restart_blame(j, END_NODE, away);
	if (j->start_waits) {
		restart_blame(j, END_NODE, NULL); /* it is ours, and no node's in particular */
		job_end(c, j, 1, "not started within %u s: the coordinator cannot save its state (disk full?)",
			c->conf.prepare_ms / 1000);
		return;
	}
	job_end(c, j, 1, "not ready within %u s (%s): %s", c->conf.prepare_ms / 1000,
		proving ? "trying the connections between the nodes" : "preparing the processes",
		list);
}

static void job_deadlines(struct coord *c, struct job *j)
{
	job_proof_deadline(c, j);
	prepare_deadline(c, j);
	if (j->state == JOB_PREPARING && mono_due(j->prepare_until, c->now)) {
		say_who_is_late(c, j);
		job_check_final(c, j);
	}
	if (j->state == JOB_RUNNING && mono_due(j->run_until, c->now)) {
		job_end(c, j, EXIT_TIME_LIMIT, "its time limit of %u s was reached", j->time_s);
		job_check_final(c, j);
	}
	if (mono_due(j->retry_save, c->now)) {
		if (job_over(j) && !j->saved && !j->saving)
			job_check_final(c, j);
		else if (j->state == JOB_ENDING && !j->end_stored)
			job_store_end(c, j);
		else if (j->state == JOB_PREPARING && job_all_places(j, PL_PREPARED) && !j->leases_stored)
			job_store_leases(c, j);
		else if (j->state == JOB_PREPARING)
			j->retry_save = MONO_NEVER;
		job_changed(c, j);
	}
	/* Killed while queued, and its end was not written before a restart; or another
	 * attempt waits until this one is surely gone. */
	if (j->state == JOB_ENDING && job_all_places(j, PL_ENDED))
		job_check_final(c, j);
	if (j->state == JOB_QUEUED)
		restart_deadline(c, j);
	if (j->state == JOB_PREPARING)
		coord_wake_at(c, j->prepare_until);
	if (j->state == JOB_RUNNING)
		coord_wake_at(c, j->run_until);
	if (!mono_due(j->retry_save, c->now))
		coord_wake_at(c, j->retry_save);
	if (j->restored && !j->told_restart)
		job_tell(c, j, NULL, 0, 0, "the coordinator was restarted");
	j->told_restart = true;
	hang_deadline(c, j);
	story_deadline(c, j);
	cause_deadline(c, j);
}

void jobs_deadlines(struct coord *c)
{
	list_foreach_safe(e, &c->jobs)
		job_deadlines(c, list_entry(e, struct job, all));
	history_deadline(c);
}
