/* coord_cordon.c - nodes that get no new jobs, and why
 *
 *   drained  an administrator has said so ('nodectl drain'), until he takes it back
 *   stuck    a process there outlives SIGKILL (state D), or became another user's and may
 *            not be signalled: until its agent says that it has gone, the host was
 *            rebooted, or an administrator says 'resume'
 *
 *   unfit, quarantined  by itself, where the configuration says so: see coord_policy.c
 *
 * All are stored, so a restart gives no work to such a node. What runs there
 * goes on. Not promised: that the sick process harms others; but it may hold
 * memory, GPUs and file systems, and what comes after it would meet the same.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STUCK_MAX 16 /* of one node, as in messages.def */

bool node_cordoned(const struct node *n)
{
	return n->drain != NULL || n->n_stuck > 0 || n->held != NULL || n->unfit != NULL;
}

/* ---- in words ------------------------------------------------------------------ */

static const char *why_drained(struct arena *a, const struct node *n)
{
	return arena_printf(a, "it is drained by %.64s%s%.256s", n->drain_by != NULL ? n->drain_by : "an administrator",
			    *n->drain != '\0' ? ": " : "", n->drain);
}

/* "process 4711 (python) of job 17 cannot be killed: state D (disk sleep) in nfs_wait" */
static const char *why_stuck(struct arena *a, const struct node *n)
{
	const struct rec_stuck_proc *p = &n->stuck[0];
	char job[40] = "", more[32] = "";

	if (MSG_HAS(p, stuck_proc, job))
		snprintf(job, sizeof(job), " of job %llu", (unsigned long long)p->job);
	if (n->n_stuck > 1)
		snprintf(more, sizeof(more), ", and %zu more", n->n_stuck - 1);
	return arena_printf(a, "process %u (%.64s)%s cannot be killed: %.128s%s", p->pid,
			    p->name != NULL ? p->name : "?", job, p->text != NULL ? p->text : "its state is not known",
			    more);
}

/* NULL: not cordoned. What an administrator has said comes first. */
const char *node_cordon_text(struct arena *a, const struct node *n)
{
	if (n->drain != NULL)
		return why_drained(a, n);
	return n->n_stuck > 0 ? why_stuck(a, n) : policy_why(a, n);
}

/* Before all others, so that a table's one word is about this. */
static void verdict_first(struct verdicts *v, const struct rec_attention *x, const char *is, int64_t since_wall_ms)
{
	size_t moved = v->n < VERDICTS_MAX ? v->n : VERDICTS_MAX - 1;

	if (x->text == NULL || x->brief == NULL)
		return;
	memmove(&v->v[1], &v->v[0], moved * sizeof(v->v[0]));
	memmove(&v->kind[1], &v->kind[0], moved * sizeof(v->kind[0]));
	v->v[0] = *x;
	MSG_SET(&v->v[0], attention, since_wall_ms, since_wall_ms);
	v->kind[0] = (struct verdict_kind){ .is = is };
	v->n = moved + 1;
}

/* What stands behind the names of one node or of several needs no "it is". */
static const char *without_it(const char *why)
{
	static const char it[] = "it is ";

	return why != NULL && strncmp(why, it, sizeof(it) - 1) == 0 ? why + sizeof(it) - 1 : why;
}

static void left_out(struct arena *a, const struct node *n, struct verdicts *v)
{
	struct rec_attention x = { .subject = n->name, .severity = "warn" };

	x.text = arena_printf(a, "%s; no new jobs there, running ones go on", without_it(policy_why(a, n)));
	x.fix = arena_printf(a, n->held != NULL ? "look at these jobs and the node, then: nodectl resume %s" :
						  "mend that, or give it jobs in spite of it: nodectl resume %s", n->name);
	x.brief = n->held != NULL ? "quarantined: jobs fail there" : "unfit: no new jobs";
	verdict_first(v, &x, n->held != NULL ? "quarantined" : "unfit", n->held != NULL ? n->held_wall_ms : n->unfit_wall_ms);
}

void cordon_verdicts(struct arena *a, const struct node *n, struct verdicts *v)
{
	struct rec_attention x = { .subject = n->name };

	if (n->unfit != NULL || n->held != NULL)
		left_out(a, n, v);
	if (n->drain != NULL) {
		x.severity = "warn";
		x.brief = arena_printf(a, "drained%s%.80s", *n->drain != '\0' ? ": " : "", n->drain);
		x.text = arena_printf(a, "%s; no new jobs there, running ones go on", without_it(why_drained(a, n)));
		x.fix = arena_printf(a, "nodectl resume %s", n->name);
		verdict_first(v, &x, "drained", n->drain_wall_ms);
	}
	if (n->n_stuck > 0) {
		x.severity = "bad";
		x.brief = "a process cannot be killed";
		x.text = arena_printf(a, "%s; no new jobs there until it is gone", why_stuck(a, n));
		x.fix = arena_printf(a, "mend what it waits for, or reboot %s; nodectl resume %s gives it jobs in spite "
				     "of it", n->name, n->name);
		verdict_first(v, &x, "unkillable", n->stuck_wall_ms);
	}
}

/* ---- drain and resume ------------------------------------------------------------ */

static void save(struct coord *c, struct action *p, struct node *n)
{
	if (n->removed)
		return;
	persist_node(c, p, n);
	c->have_dirty = true; /* who waits may go there now, or must hear why not */
}

void node_drain_free(struct node *n)
{
	free(n->drain);
	free(n->drain_by);
	n->drain = n->drain_by = NULL;
}

/* Owned copies; NULL when there is no memory. */
static struct rec_stuck_proc *copy_procs(struct coord *c, const struct rec_stuck_proc *v, size_t n)
{
	size_t bytes = n * sizeof(*v);
	struct rec_stuck_proc *copy;
	char *s;

	for (size_t i = 0; i < n; i++)
		bytes += (v[i].name ? strlen(v[i].name) + 1 : 0) + (v[i].text ? strlen(v[i].text) + 1 : 0);
	copy = malloc(bytes);
	if (copy == NULL) {
		c->oom = true;
		return NULL;
	}
	s = (char *)(copy + n);
	for (size_t i = 0; i < n; i++) {
		copy[i] = v[i];
		if (v[i].name != NULL) {
			copy[i].name = s;
			s = stpcpy(s, v[i].name) + 1;
		}
		if (v[i].text != NULL) {
			copy[i].text = s;
			s = stpcpy(s, v[i].text) + 1;
		}
	}
	return copy;
}

/* In place of those that were known; with n 0 it cannot fail. */
int node_set_stuck(struct coord *c, struct node *n, const struct rec_stuck_proc *v, size_t k)
{
	struct rec_stuck_proc *copy = k > 0 ? copy_procs(c, v, k) : NULL;

	if (k > 0 && copy == NULL)
		return -1;
	free(n->stuck);
	n->stuck = copy;
	n->n_stuck = k;
	coord_wake_at(c, c->now); /* another attempt may wait for one of them */
	return 0;
}

void cordon_tell(struct coord *c, const struct node *n, bool instead)
{
	struct msg m;

	if (n->link == NULL || (n->n_stuck == 0 && !instead))
		return;
	msg_init(&m, MSG_stuck_watch);
	m.u.stuck_watch.procs = n->stuck;
	m.u.stuck_watch.n_procs = n->n_stuck;
	if (instead)
		MSG_SET(&m.u.stuck_watch, stuck_watch, instead, true);
	act_send(c->out, n->link->id, &m);
}

static void drain_one(struct coord *c, struct node *n, const struct clink *l, const struct rec_node_drain *r)
{
	char uid[24];

	if (n->drain != NULL && r->why == NULL)
		return; /* it is drained: who did it, when and why stays */
	snprintf(uid, sizeof(uid), "uid %u", l->uid);
	node_drain_free(n);
	n->drain = coord_strdup(c, r->why != NULL ? r->why : "");
	n->drain_by = coord_strdup(c, l->user[0] != '\0' ? l->user : uid);
	n->drain_wall_ms = c->wall_ms;
	act_log(c->out, 0, "node %s: drained by %s%s%s", n->name, n->drain_by != NULL ? n->drain_by : "?",
		r->why != NULL ? ": " : "", r->why != NULL ? r->why : "");
	events_add(c, &(struct event_in){ .kind = "node.drain", .severity = "warn", .node = n->name },
		   "drained by %s%s%s: no new jobs start there", n->drain_by != NULL ? n->drain_by : "?",
		   r->why != NULL ? ": " : "", r->why != NULL ? r->why : "");
}

static void resume_one(struct coord *c, struct node *n, const struct clink *l)
{
	if (node_cordoned(n)) {
		act_log(c->out, 0, "node %s: resumed by %s", n->name, l->user);
		events_add(c, &(struct event_in){ .kind = "node.resume", .severity = "info", .node = n->name },
			   "resumed by %s: new jobs may start there", l->user[0] != '\0' ? l->user : "an administrator");
	}
	node_drain_free(n);
	policy_resume(n);
	checks_best_forget(c, n); /* a slower link may be meant */
	clean_forget(n, UINT64_MAX); /* GPUs that are not as before may be so for good */
	if (n->n_stuck == 0)
		return;
	node_set_stuck(c, n, NULL, 0);
	cordon_tell(c, n, true);
}

static bool all_known(struct coord *c, struct clink *l, const struct rec_node_drain *r, const struct hostlist *h)
{
	for (size_t i = 0; i < h->count; i++)
		if (node_find(c, h->names[i]) == NULL) {
			coord_refuse(c, l, r->rid, "not-found",
				     "no node named %s in the cluster %s, so nothing was done; 'nodectl nodes' lists them",
				     h->names[i], c->cluster);
			return false;
		}
	return h->count > 0;
}

static const char *tell_done(struct coord *c, const struct rec_node_drain *r, const struct hostlist *h)
{
	struct arena *a = &c->out->arena;
	uint32_t jobs = 0;

	for (size_t i = 0; i < h->count; i++)
		jobs += node_find(c, h->names[i])->jobs;
	if (r->resume)
		return arena_printf(a, "%.800s: new jobs may start there", r->nodes);
	return arena_printf(a, "%.800s: no new jobs start there; %s", r->nodes,
			    jobs > 0 ? "what runs there goes on, see nodectl status" : "nothing runs there");
}

/* At once, and answered when it is on disk; all of them, or none. */
void nodes_on_drain(struct coord *c, struct clink *l, const struct rec_node_drain *r)
{
	struct hostlist h;
	struct pending *pd;
	struct action *p;
	struct msg m;
	struct err e;

	if (!admin_only(c, l, r->rid, r->resume ? "resuming a node" : "draining a node"))
		return;
	if (hostlist_parse(r->nodes, &h, &e) < 0) {
		coord_refuse(c, l, r->rid, "bad-request", "%s", e.text);
		return;
	}
	if (all_known(c, l, r, &h)) {
		p = coord_persist(c, &pd);
		for (size_t i = 0; i < h.count; i++) {
			struct node *n = node_find(c, h.names[i]);

			if (r->resume)
				resume_one(c, n, l);
			else
				drain_one(c, n, l, r);
			save(c, p, n);
		}
		msg_init(&m, MSG_ok);
		m.u.ok.rid = r->rid;
		m.u.ok.text = tell_done(c, r, &h);
		reply_when_stored(c, pd, l, r->rid, &m);
	}
	hostlist_finish(&h);
}

/* ---- processes that cannot be ended ------------------------------------------------ */

static bool same(const struct rec_stuck_proc *x, const struct rec_stuck_proc *y)
{
	return x->pid == y->pid && x->start_time == y->start_time;
}

static bool is_in(const struct rec_stuck_proc *x, const struct rec_stuck_proc *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (same(x, &v[i]))
			return true;
	return false;
}

static void log_stuck(struct coord *c, const struct node *n)
{
	struct arena a;

	arena_init(&a);
	if (n->n_stuck > 0)
		act_log(c->out, 0, "node %s: no new jobs: %s", n->name, why_stuck(&a, n));
	if (n->n_stuck > 0)
		events_add(c, &(struct event_in){ .kind = "node.stuck", .severity = "bad", .node = n->name },
			   "no new jobs: %s", why_stuck(&a, n));
	else
		events_add(c, &(struct event_in){ .kind = "node.unstuck", .severity = "info", .node = n->name },
			   "what could not be killed is gone");
	if (n->n_stuck == 0)
		act_log(c->out, 0, "node %s: what could not be killed is gone%s", n->name,
			n->drain != NULL ? "; the node stays drained" : ": it gets jobs again");
	arena_finish(&a);
}

void cordon_on_stuck(struct coord *c, struct node *n, const struct rec_stuck *s)
{
	struct rec_stuck_proc v[STUCK_MAX]; /* borrows from both */
	size_t k = 0, kept;
	struct pending *pd;

	for (size_t i = 0; i < n->n_stuck; i++)
		if (!is_in(&n->stuck[i], s->gone, s->n_gone))
			v[k++] = n->stuck[i];
	kept = k;
	for (size_t i = 0; i < s->n_procs && k < STUCK_MAX; i++)
		if (!is_in(&s->procs[i], v, k))
			v[k++] = s->procs[i];
	if (kept == n->n_stuck && k == kept)
		return;
	if (n->n_stuck == 0)
		n->stuck_wall_ms = c->wall_ms;
	if (node_set_stuck(c, n, v, k) < 0)
		return;
	log_stuck(c, n);
	save(c, coord_persist(c, &pd), n);
}

/* Nothing of an earlier boot lives. Saved with the new boot id. */
void cordon_rebooted(struct coord *c, struct node *n)
{
	if (n->n_stuck == 0)
		return;
	act_log(c->out, 0, "node %s: rebooted, so the process that could not be killed is gone", n->name);
	node_set_stuck(c, n, NULL, 0);
	c->have_dirty = true;
}
