/* coord_recover.c - a node has registered: what it holds, and what follows
 *
 * After a restart of the coordinator, jobs in mid-life are 'recovering': each
 * of their nodes registers with what it holds. Once all have told (or are
 * given up): if any node has started, those that only stand ready are started
 * too and those that know nothing are lost; if none has, preparing begins anew.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct rec_held *held_of(const struct rec_node_register *r, uint64_t job,
				      uint32_t attempt)
{
	for (size_t i = 0; i < r->n_held; i++)
		if (r->held[i].job == job && r->held[i].attempt == attempt)
			return &r->held[i];
	return NULL;
}

static bool held_started(const struct rec_held *h)
{
	return strcmp(h->phase, "starting") == 0 || strcmp(h->phase, "running") == 0;
}

/* Its agent was restarted and has not heard its shim: the latch is taken, and
 * whether the shim has gone is not known. Who knows tells the address too. */
static bool held_unknown(const struct rec_held *h)
{
	return strcmp(h->phase, "starting") == 0 && h->master_addr == NULL;
}

/* Its shim may also have ended before anything was started. */
static bool held_was_started(const struct rec_held *h)
{
	if (held_started(h))
		return true;
	if (strcmp(h->phase, "ended") != 0)
		return false; /* 'ready' may have seen an order to start, but waits for another */
	for (size_t i = 0; i < h->n_ranks; i++)
		if (strcmp(h->ranks[i].state, "waiting") != 0)
			return true;
	return false;
}

static void nobody_knows_master(struct coord *c, struct job *j)
{
	restart_blame(j, END_NODE, NULL); /* it is ours, and no node's in particular */
	job_end(c, j, 1, "coordinator and agents were restarted while it was started, and no node can "
			 "say any more where its rank 0 listens");
}

/* This place stands ready while others were started. Each 'start' carries the
 * address of rank 0; agents tell it with what they hold, and a started shim
 * tells it to an agent that was restarted. It is unknown only when coordinator
 * and agents were restarted and all started shims are gone: dead (their ranks
 * are lost then), or left long after their end; or they are of a version that
 * does not tell. To start the rest elsewhere would make two halves that wait for each
 * other, and to prepare the attempt anew would start ranks twice: so it ends. */
static void start_late(struct coord *c, struct job *j, uint32_t i)
{
	if (j->master_addr[0] == '\0') {
		nobody_knows_master(c, j);
		return;
	}
	j->places[i].phase = PL_STARTED;
	job_send_start(c, j, i);
}

static void start_the_rest(struct coord *c, struct job *j)
{
	j->state = JOB_RUNNING;
	j->start_sent = true;
	if (j->start_wall_ms == 0)
		j->start_wall_ms = c->wall_ms;
	j->run_since = mono_add_ms(c->now, -restart_ran_ms(c, j));
	if (j->time_s != 0) {
		j->run_until = mono_add_ms(j->run_since, 1000 * (int64_t)j->time_s - (int64_t)j->used_ms);
		coord_wake_at(c, j->run_until);
	}
	for (uint32_t i = 0; i < j->n_places; i++) {
		if (j->places[i].held_waiting && j->places[i].phase == PL_UNKNOWN)
			start_late(c, j, i);
		else if (j->places[i].missing)
			job_lose_place(c, j, i, "its node knows nothing of the job any more", true);
	}
}

static void prepare_anew(struct coord *c, struct job *j)
{
	j->restored = false;
	job_unprepared(j);
	j->prepare_until = mono_add_ms(c->now, c->conf.prepare_ms);
	coord_wake_at(c, j->prepare_until);
	if (j->max_restarts > 0) { /* others may hold a copy now; of who asks, some have been told */
		specs_choose(c, j);
		peers_tell_source(c, j);
	}
	for (uint32_t i = 0; i < j->n_places; i++) {
		if (j->places[i].phase >= PL_STARTED)
			continue;
		j->places[i].phase = PL_ASSIGNED;
		job_send_prepare(c, j, i);
	}
	specs_to_spares(c, j);
}

/* What the nodes have told of their ranks may have decided the job: then
 * nothing more is started. */
static void end_if_over(struct coord *c, struct job *j)
{
	life_judge(c, j);
	for (uint32_t i = 0; j->state == JOB_PREPARING && i < j->n_places; i++)
		if (j->places[i].phase == PL_ENDED)
			life_end_if_cut_short(c, j, i);
}

/* Recovering ends when every place has told or is given up. */
static void recover_decide(struct coord *c, struct job *j)
{
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase == PL_UNKNOWN && !j->places[i].missing &&
		    !j->places[i].held_waiting)
			return;
	j->recovering = false;
	free(j->why);
	j->why = NULL;
	end_if_over(c, j);
	if (j->state == JOB_PREPARING && j->any_started)
		start_the_rest(c, j);
	else if (j->state == JOB_PREPARING)
		prepare_anew(c, j);
	life_judge(c, j);
	job_check_final(c, j);
	job_changed(c, j);
}

static void note_started(struct coord *c, struct job *j, uint32_t i, const struct rec_held *h)
{
	j->any_started = true;
	if (j->places[i].phase < PL_RUNNING)
		j->places[i].phase = PL_RUNNING;
	if (j->master_addr[0] == '\0' && h->master_addr != NULL) {
		snprintf(j->master_addr, sizeof(j->master_addr), "%s", h->master_addr);
		j->master_port = h->master_port;
	}
	if (h->run_ms > j->ran_ms && h->run_ms < RAN_MS_MAX)
		j->ran_ms = h->run_ms;
	for (size_t k = 0; k < h->n_ranks; k++)
		if (h->ranks[k].start_wall_ms != 0 &&
		    (j->start_wall_ms == 0 || h->ranks[k].start_wall_ms < j->start_wall_ms))
			j->start_wall_ms = h->ranks[k].start_wall_ms;
	(void)c;
}

/* The node holds nothing of this job. */
static void not_held(struct coord *c, struct job *j, uint32_t i)
{
	struct place *p = &j->places[i];

	if (j->state == JOB_ENDING && p->phase < PL_STARTED && !j->recovering) {
		job_place_ended(c, j, i); /* nothing had begun there */
	} else if (j->recovering && j->state == JOB_ENDING) {
		place_ended(c, p);
	} else if (j->recovering) {
		p->missing = true;
	} else if (p->phase >= PL_STARTED) {
		job_lose_place(c, j, i, "its node knows nothing of the job any more", true);
	}
}

/* The start was lost on the way. */
static void start_again(struct coord *c, struct job *j, uint32_t i)
{
	if (j->master_addr[0] != '\0')
		job_send_start(c, j, i);
	else
		nobody_knows_master(c, j);
}

/* It may have been taken for started: its shim has found the order too old since. */
static void stands_ready(struct place *p)
{
	p->held_waiting = true;
	p->missing = false;
	p->phase = PL_UNKNOWN;
}

static void is_held(struct coord *c, struct job *j, uint32_t i, const struct rec_held *h)
{
	struct place *p = &j->places[i];

	p->leased = p->leased || h->leased;
	p->lapsed = p->lapsed || h->lapsed;
	if (j->recovering && j->state == JOB_PREPARING && held_unknown(h))
		return; /* it registers again when its shim has spoken */
	if (held_was_started(h))
		note_started(c, j, i, h);
	else if (j->recovering && strcmp(h->phase, "ended") != 0)
		stands_ready(p);
	for (size_t k = 0; k < h->n_ranks; k++)
		job_update_rank(c, j, i, &h->ranks[k]);
	if (strcmp(h->phase, "ended") == 0)
		place_ended(c, p);
	else if (j->state == JOB_ENDING)
		job_send_end(c, j, i);
	else if (j->state == JOB_RUNNING && !held_started(h) && p->phase < PL_ENDED)
		start_again(c, j, i);
}

/* Given up before: nothing of it lives there. */
static bool shows_gone(const struct place *p, const struct rec_node_register *r, const struct rec_held *h)
{
	return p->phase == PL_LOST &&
	       (strcmp(p->boot_id, r->boot_id) != 0 || h == NULL || strcmp(h->phase, "ended") == 0);
}

/* It could not tell yet when it registered; its word that all is over there has come before this one. */
static void over_when_heard(struct coord *c, struct job *j, uint32_t i, const struct rec_held *h)
{
	if (held_was_started(h))
		note_started(c, j, i, h);
	recover_decide(c, j);
}

static void place_up(struct coord *c, struct job *j, uint32_t i, const struct rec_node_register *r,
		     bool *again)
{
	struct place *p = &j->places[i];
	const struct rec_held *h = held_of(r, j->id, j->attempt);
	enum place_phase before = p->phase;

	if (shows_gone(p, r, h))
		job_place_gone(c, j, i);
	if (p->phase >= PL_ENDED) {
		if (j->recovering && h != NULL)
			over_when_heard(c, j, i, h);
		return;
	}
	if (strcmp(p->boot_id, r->boot_id) != 0) {
		job_lose_place(c, j, i, "its node was rebooted", true);
		if (j->recovering)
			recover_decide(c, j);
		return;
	}
	if (h == NULL)
		not_held(c, j, i);
	else
		is_held(c, j, i, h);
	cause_improve(c, j);
	if (j->between)
		return; /* that was the last of its places */
	if (j->recovering) {
		recover_decide(c, j);
		return;
	}
	if (j->state == JOB_PREPARING && before < PL_STARTED)
		*again = true;
	life_judge(c, j);
	if (p->phase == PL_ENDED && before != PL_ENDED) {
		p->phase = before; /* let job_place_ended see the change */
		job_place_ended(c, j, i);
	}
}

/* What the node holds that nobody waits for: old attempts, ended or pruned
 * jobs, and what is alive at a place that is over (its agent said so, was
 * restarted, and has found a shim there that stood ready). That must go before
 * the job is forgotten: an agent forgets nothing that is alive. Another
 * lineage's jobs, and jobs newer than our own memory (a database restored from
 * a backup), are not ours to end. */
static void tidy_held(struct coord *c, struct node *n, const struct rec_node_register *r)
{
	gpus_told_anew(c, n);
	if (MSG_HAS(r, node_register, lineage) && r->lineage != c->lineage)
		return;
	for (size_t k = 0; k < r->n_held; k++) {
		const struct rec_held *h = &r->held[k];
		struct job *j = job_find(c, h->job);

		if (h->job >= c->next_job)
			continue;
		if (strcmp(h->phase, "ended") != 0)
			jobs_stale(c, n, h->job, h->attempt);
		else if (j == NULL || j->attempt != h->attempt || j->saved || restart_waits(j))
			life_send_forget(c, n->link, h->job, h->attempt);
		/* else 'forget' follows when the end is on disk */
	}
}

void jobs_node_up(struct coord *c, struct node *n, const struct rec_node_register *r, bool fresh)
{
	list_foreach_safe(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		bool again = false;
		uint32_t i;

		if (!j->stored || j->placing || j->saved || job_place_of(j, n, &i) == NULL)
			continue;
		if (job_over(j)) { /* its end is on its way to disk; then its GPUs are given back, or kept */
			if (shows_gone(&j->places[i], r, held_of(r, j->id, j->attempt)))
				j->places[i].gone = true;
			continue;
		}
		place_up(c, j, i, r, &again);
		/* Its listeners and ports may be gone: all prepare once more (idempotent). */
		if (again && j->state == JOB_PREPARING)
			prepare_anew(c, j);
		j->dirty = true;
	}
	tidy_held(c, n, r);
	jobs_node_state(c, n);
	(void)fresh;
}
