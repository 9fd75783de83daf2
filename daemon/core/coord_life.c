/* coord_life.c - what nodes report, and how a job ends
 *
 * Places are given up on proof or after node_lost_ms; the first bad rank that
 * did not die of our own signal decides. How a job is found again after a
 * registration or a restart is coord_recover.c's.
 */
#include "core/coord_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

struct place *job_place_of(struct job *j, const struct node *n, uint32_t *ret_rank)
{
	for (uint32_t i = 0; i < j->n_places; i++)
		if (j->places[i].node == n) {
			*ret_rank = i;
			return &j->places[i];
		}
	return NULL;
}

static struct clink *place_link(const struct job *j, uint32_t i)
{
	return j->places[i].node->link;
}

/* ---- what is sent to a place -------------------------------------------------------- */

void job_send_prepare(struct coord *c, struct job *j, uint32_t i)
{
	struct rec_prepare *p;
	struct rec_peer source;
	struct msg m;

	if (place_link(j, i) == NULL)
		return;
	msg_init(&m, MSG_prepare);
	p = &m.u.prepare;
	p->job = j->id;
	p->attempt = j->attempt;
	p->boot_id = j->places[i].boot_id;
	p->uid = j->uid;
	p->user = j->user;
	specs_fill(c, j, i, p, &source);
	p->node_rank = i;
	p->nnodes = j->nnodes;
	p->rank_base = i * j->ppn;
	p->nprocs = j->ppn;
	p->world = (uint32_t)j->n_ranks;
	p->grace_ms = j->grace_ms;
	p->with_stdin = j->with_stdin && j->attempt == 1; /* what was read is not read again */
	p->name = j->name;
	p->per_node = j->per_node;
	p->submit_node = j->submit_node;
	if (j->max_restarts > 0) {
		MSG_SET(p, prepare, lease_ms, j->lease_ms);
		MSG_SET(p, prepare, max_restarts, j->max_restarts);
	}
	/* A driver that is absent for a moment is there again when ranks start: hidden all the same. */
	if (j->places[i].node->ever_gpus || node_gpu_truth(j->places[i].node) != GPU_NONE) {
		p->gpus = j->places[i].gpus_text != NULL ? j->places[i].gpus_text : "";
		p->gpu_ids = j->places[i].gpu_ids;
	}
	act_send(c->out, place_link(j, i)->id, &m);
}

void job_send_start(struct coord *c, struct job *j, uint32_t i)
{
	struct msg m;

	if (place_link(j, i) == NULL || j->master_addr[0] == '\0')
		return;
	msg_init(&m, MSG_start);
	m.u.start.job = j->id;
	m.u.start.attempt = j->attempt;
	m.u.start.boot_id = j->places[i].boot_id;
	m.u.start.master_addr = j->master_addr;
	m.u.start.master_port = j->master_port;
	if (i == 0 && j->master_ifname[0] != '\0')
		m.u.start.ifname = j->master_ifname;
	net_fill_start(c, j, i, &m.u.start);
	act_send(c->out, place_link(j, i)->id, &m);
}

void life_send_end(struct coord *c, struct clink *l, uint64_t job, uint32_t attempt,
		     uint32_t grace_ms, const char *why)
{
	struct msg m;

	msg_init(&m, MSG_end);
	m.u.end.job = job;
	m.u.end.attempt = attempt;
	m.u.end.grace_ms = grace_ms;
	m.u.end.why = why;
	act_send(c->out, l->id, &m);
}

void life_send_forget(struct coord *c, struct clink *l, uint64_t job, uint32_t attempt)
{
	struct msg m;

	msg_init(&m, MSG_forget);
	m.u.forget.job = job;
	m.u.forget.attempt = attempt;
	act_send(c->out, l->id, &m);
}

void job_send_end(struct coord *c, struct job *j, uint32_t i)
{
	if (place_link(j, i) != NULL)
		life_send_end(c, place_link(j, i), j->id, j->attempt, j->grace_ms, j->ending);
}

void job_send_forget(struct coord *c, struct job *j, uint32_t i)
{
	if (place_link(j, i) != NULL)
		life_send_forget(c, place_link(j, i), j->id, j->attempt);
}

/* ---- ending ------------------------------------------------------------------------------ */

void job_end(struct coord *c, struct job *j, uint32_t code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (job_over(j) || j->state == JOB_ENDING)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	hang_on_end(c, j);
	if (j->ending == NULL) {
		j->ending = coord_strdup(c, utf8_scrub(text));
		j->ending_code = code;
	}
	if (j->cause == END_UNKNOWN)
		j->cause = END_OTHER;
	if (j->first >= 0 && j->n_ranks > 1)
		job_tell(c, j, NULL, 0, 0, "all others are ended: SIGTERM, and SIGKILL %u.%u s later",
			 j->grace_ms / 1000, j->grace_ms % 1000 / 100);
	else if (j->first < 0)
		job_tell(c, j, NULL, 0, 0, "to be ended: %.480s", j->ending != NULL ? j->ending : "");
	j->state = JOB_ENDING;
	j->prepare_until = j->run_until = j->end_by = MONO_NEVER;
	coord_wake_at(c, c->now); /* silence of its nodes counts from here */
	job_changed(c, j);
	job_store_end(c, j);
}

void job_store_end(struct coord *c, struct job *j)
{
	struct pending *pd;
	struct action *p = coord_persist(c, &pd);

	pd->kind = PD_END;
	pd->job = j->id;
	j->retry_save = MONO_NEVER;
	persist_job(c, p, j);
}

/* Ending already, and its grace has become shorter: its nodes are told again
 * (they take the shorter one). Before the decision is stored nobody was told. */
void job_hurry(struct coord *c, struct job *j)
{
	if (j->state != JOB_ENDING || !j->end_told)
		return;
	for (uint32_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase < PL_ENDED)
			job_send_end(c, j, i);
}

/* The decision is on disk, or cannot be written now: then it is acted upon all
 * the same, and written later. Without this order a restarted coordinator
 * would take ranks that died of our own signal for the cause. */
void job_end_stored(struct coord *c, struct job *j, int error)
{
	if (j->state != JOB_ENDING && !job_over(j))
		return; /* another attempt is on its way */
	if (error == 0) {
		j->end_stored = true;
		job_changed(c, j);
	} else if (!job_over(j)) {
		j->retry_save = mono_add_ms(c->now, SAVE_RETRY_MS);
		coord_wake_at(c, j->retry_save);
	}
	j->end_told = true;
	for (uint32_t i = 0; !job_over(j) && i < j->n_places; i++)
		if (j->places[i].phase < PL_ENDED)
			job_send_end(c, j, i);
}

/* A bad rank while the job runs ends it: the first one decides. */
void life_judge(struct coord *c, struct job *j)
{
	char text[512];

	if (j->state == JOB_ENDING || j->between || job_over(j))
		return;
	j->first = cause_find(j, false);
	if (j->first < 0)
		return;
	cause_mark_either(j);
	evidence_attach(c, j);
	cause_tell_death(c, j, (uint32_t)j->first);
	cause_say(j, (uint32_t)j->first, text, sizeof(text));
	restart_blame(j, END_RANK, NULL);
	job_end(c, j, rank_code(&j->ranks[j->first]), "%s", text);
}

static uint32_t decided_code(const struct job *j)
{
	return j->first >= 0 ? rank_code(&j->ranks[j->first]) : j->ending_code;
}

bool job_may_settle(const struct job *j)
{
	if (j->state != JOB_ENDING || !j->end_stored || j->between || restart_possible(j))
		return false;
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase < PL_ENDED && !j->places[i].node->silent)
			return false;
	return j->n_places > 0;
}

bool job_settled(const struct job *j)
{
	return j->saved || (job_may_settle(j) && (j->first < 0 || (j->first_settled && !j->settling)));
}

static void save_final(struct coord *c, struct job *j)
{
	struct pending *pd;
	struct action *p = coord_persist(c, &pd);

	pd->kind = PD_FINAL;
	pd->job = j->id;
	j->saving = true;
	j->retry_save = MONO_NEVER;
	persist_job(c, p, j);
	job_changed(c, j);
}

/* At most 16, each within the message's 512 bytes; the first ones tell most. */
void job_notice(struct coord *c, struct job *j, const char *fmt, ...)
{
	char text[500];
	va_list ap;

	if (j->n_notices == sizeof(j->notices) / sizeof(j->notices[0]))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	job_tell(c, j, NULL, 0, 0, "%s", text);
	j->notices[j->n_notices] = coord_strdup(c, utf8_scrub(text));
	if (j->notices[j->n_notices] != NULL)
		j->n_notices++;
}

static unsigned long long lost_at(const struct job *j, uint32_t place)
{
	unsigned long long bytes = 0;

	for (uint32_t k = place * j->ppn; k < (place + 1) * j->ppn; k++)
		bytes += j->ranks[k].lost_bytes;
	return bytes;
}

/* Of nodes that have not said it themselves, and where: their last word was not heard. */
static void add_lost_notice(struct coord *c, struct job *j)
{
	for (uint32_t i = 0; i < j->n_places; i++)
		if (!j->places[i].told_lost && lost_at(j, i) > 0)
			job_notice(c, j, "node %s: %llu bytes of output were lost, for there was no room in its "
				   "spool directory; remove files there", j->places[i].node->name,
				   lost_at(j, i));
}

static bool all_good(const struct job *j)
{
	for (size_t i = 0; i < j->n_ranks; i++)
		if (j->ranks[i].state != RK_EXITED || j->ranks[i].code != 0)
			return false;
	return true;
}

static void decide(struct coord *c, struct job *j)
{
	char text[1024];

	if (j->ending == NULL && j->first < 0)
		j->first = cause_find(j, true);
	cause_mark_either(j);
	evidence_attach(c, j);
	if (j->first >= 0) {
		why_of_first(j, text, sizeof(text));
		coord_set_text(c, &j->why, "%s", text);
		j->state = j->ranks[j->first].state == RK_LOST ? JOB_LOST : JOB_FAILED;
	} else if (j->ending != NULL) {
		coord_set_text(c, &j->why, "%s", j->ending);
		j->state = JOB_FAILED;
	} else if (!all_good(j)) {
		coord_set_text(c, &j->why, "it ended before all of its ranks were started");
		j->ending_code = 1;
		j->state = JOB_FAILED;
	} else {
		free(j->why);
		j->why = NULL;
		j->state = JOB_DONE;
	}
	j->exit_code = j->state == JOB_DONE ? 0 : decided_code(j);
	j->end_wall_ms = c->wall_ms;
	j->recovering = false;
	add_lost_notice(c, j);
	if (j->state == JOB_DONE)
		job_tell(c, j, NULL, 0, 0, "done");
	else
		job_tell(c, j, NULL, 0, 0, "%s, exit code %u", j->cause == END_USER ? "ended" : job_state_name(j->state), j->exit_code);
	restart_say_not(c, j);
	restart_note_end(c, j);
}

/* All places accounted for: the outcome is decided and saved. */
void job_check_final(struct coord *c, struct job *j)
{
	if (j->saving || j->saved)
		return;
	if (!job_over(j)) {
		if (j->state == JOB_QUEUED)
			return;
		for (size_t i = 0; i < j->n_places; i++)
			if (j->places[i].phase < PL_ENDED)
				return;
		if (restart_next(c, j))
			return;
		decide(c, j);
	}
	save_final(c, j);
}

static void node_reports(struct coord *c, struct job *j, uint32_t i,
			 const struct rec_rank_state *v, size_t n)
{
	for (size_t k = 0; k < n; k++)
		job_update_rank(c, j, i, &v[k]);
	cause_improve(c, j);
	life_judge(c, j);
}

/* Ended there without our asking: the node was told to stop its jobs, or its
 * lease was over. A rank may well exit with 0 when it is told to end, and has not
 * done its work. Who stops a node's jobs wants no other attempt of them. */
void life_end_if_cut_short(struct coord *c, struct job *j, uint32_t i)
{
	for (uint32_t k = i * j->ppn; k < (i + 1) * j->ppn; k++)
		if (!rank_is_over(&j->ranks[k]) || rank_bad(&j->ranks[k]) || j->ranks[k].ours) {
			restart_blame(j, j->places[i].lapsed ? END_NODE : END_OTHER, NULL);
			job_end(c, j, EXIT_KILLED, "node %s ended its part of the job: %s", j->places[i].node->name,
				j->places[i].lapsed ? "it had not heard the coordinator for longer than a "
						      "job that may restart is allowed to run alone" :
						      "nodeagentd was stopped there");
		}
}

void job_place_ended(struct coord *c, struct job *j, uint32_t i)
{
	struct place *p = &j->places[i];

	if (p->phase == PL_LOST)
		job_place_gone(c, j, i);
	if (p->phase >= PL_ENDED)
		return;
	place_ended(c, p);
	life_end_if_cut_short(c, j, i);
	job_changed(c, j); /* it may be settled now */
	job_check_final(c, j);
}

/* The job and place a node speaks about; NULL when it is not its business. */
static struct job *reported_job(struct coord *c, struct node *n, uint64_t id, uint32_t attempt,
				uint32_t *ret_i)
{
	struct job *j = job_find(c, id);

	if (j == NULL || j->attempt != attempt || !j->stored || job_place_of(j, n, ret_i) == NULL)
		return NULL;
	return j;
}

/* This node's part of the attempt has not come to its end yet. */
bool job_open_at(struct job *j, const struct node *n, uint32_t attempt)
{
	uint32_t i;

	return j != NULL && j->attempt == attempt && !job_over(j) &&
	       job_place_of(j, n, &i) != NULL && j->places[i].phase < PL_ENDED;
}

/* The node speaks of a job whose part there was given up, or is over: end it.
 * Jobs newer than our memory are not ours to end. */
void jobs_stale(struct coord *c, struct node *n, uint64_t id, uint32_t attempt)
{
	struct job *j = job_find(c, id);

	if (id >= c->next_job || job_open_at(j, n, attempt))
		return;
	gpus_stale(c, n, id, attempt);
	life_send_end(c, n->link, id, attempt, j != NULL ? j->grace_ms : 30000, "the job is over");
}

void jobs_on_ranks(struct coord *c, struct node *n, const struct rec_ranks *r)
{
	uint32_t i;
	struct job *j = reported_job(c, n, r->job, r->attempt, &i);
	unsigned long long lost;

	if (j == NULL || job_over(j) || j->places[i].phase >= PL_ENDED) {
		jobs_stale(c, n, r->job, r->attempt);
		return;
	}
	if (j->places[i].phase == PL_STARTED) {
		j->places[i].phase = PL_RUNNING;
		job_changed(c, j);
	}
	lost = lost_at(j, i);
	node_reports(c, j, i, r->ranks, r->n_ranks);
	if (lost == 0 && lost_at(j, i) > 0 && !job_over(j)) {
		job_notice(c, j, "node %s: there is no room in its spool directory: output of the job is being lost; remove files "
			   "there", n->name);
		job_changed(c, j);
	}
}

void jobs_on_ended(struct coord *c, struct node *n, const struct rec_ended *r)
{
	uint32_t i;
	struct job *j = reported_job(c, n, r->job, r->attempt, &i);
	bool said;

	gpus_stale_ended(c, n, r->job, r->attempt);
	if (j != NULL && job_over(j))
		place_gone_late(c, &j->places[i]);
	if (j == NULL || j->saved || restart_waits(j)) {
		if (j != NULL || r->job < c->next_job)
			life_send_forget(c, n->link, r->job, r->attempt);
		return;
	}
	if (job_over(j) || j->between)
		return; /* being saved; forget follows */
	said = r->text != NULL && j->places[i].phase < PL_ENDED;
	j->places[i].lapsed = j->places[i].lapsed || r->lapsed;
	if (said)
		job_notice(c, j, "node %s: %s", n->name, r->text);
	node_reports(c, j, i, r->ranks, r->n_ranks);
	j->places[i].told_lost = said && lost_at(j, i) > 0;
	job_place_ended(c, j, i);
}

/* Told once, whatever agent says it again. */
void jobs_on_notice(struct coord *c, struct node *n, const struct rec_notice *r)
{
	uint32_t i;
	struct job *j = reported_job(c, n, r->job, r->attempt, &i);
	size_t before = j != NULL ? j->n_notices : 0;
	char text[600];

	if (j == NULL || job_over(j))
		return;
	snprintf(text, sizeof(text), "node %s: %s", n->name, r->text);
	for (size_t k = 0; k < j->n_notices; k++)
		if (strncmp(j->notices[k], text, strlen(j->notices[k])) == 0)
			return;
	job_notice(c, j, "%s", text);
	if (j->n_notices != before)
		job_changed(c, j);
}

/* ---- loss --------------------------------------------------------------------------------- */

void job_lose_place(struct coord *c, struct job *j, uint32_t i, const char *why, bool proved)
{
	struct place *p = &j->places[i];

	if (p->phase >= PL_ENDED)
		return;
	p->phase = PL_LOST;
	job_tell(c, j, p->node->name, 0, 0, "given up: %.480s", why);
	p->gone = proved;
	for (uint32_t k = i * j->ppn; k < (i + 1) * j->ppn; k++) {
		if (rank_is_over(&j->ranks[k]))
			continue;
		j->ranks[k].state = RK_LOST;
		j->ranks[k].end_wall_ms = c->wall_ms;
		cause_lost_time(c, j, i, &j->ranks[k]);
		free(j->ranks[k].text);
		j->ranks[k].text = coord_strdup(c, why);
	}
	cause_improve(c, j);
	life_judge(c, j);
	job_check_final(c, j);
}

void job_place_gone(struct coord *c, struct job *j, uint32_t i)
{
	if (j->places[i].gone)
		return;
	j->places[i].gone = true;
	job_check_final(c, j); /* another attempt may wait for this */
}

void jobs_node_lost(struct coord *c, struct node *n, const char *why)
{
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		uint32_t i;

		if (job_over(j) || !j->stored || job_place_of(j, n, &i) == NULL)
			continue;
		job_lose_place(c, j, i, why, false);
	}
}

void jobs_node_state(struct coord *c, struct node *n)
{
	c->have_dirty = true;
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		uint32_t i;

		if (job_over(j) || job_place_of(j, n, &i) == NULL)
			continue;
		j->dirty = true;
		story_node_state(c, j, i);
	}
}
