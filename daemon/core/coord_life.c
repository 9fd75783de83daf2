/* coord_life.c - what nodes report, how a job ends, and how it is found again
 *
 * After a restart of the coordinator, jobs in mid-life are 'recovering': each
 * of their nodes registers with what it holds. Once all have told (or are
 * given up): if any node has started, those that only stand ready are started
 * too and those that know nothing are lost; if none has, preparing begins anew.
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
	struct node *src = node_find(c, j->submit_node);
	struct rec_prepare *p;
	struct rec_peer peer;
	struct msg m;

	if (place_link(j, i) == NULL || src == NULL)
		return;
	nodes_fill_peer(src, &peer);
	msg_init(&m, MSG_prepare);
	p = &m.u.prepare;
	p->job = j->id;
	p->attempt = j->attempt;
	p->boot_id = j->places[i].boot_id;
	p->uid = j->uid;
	p->user = j->user;
	p->spec_hash = (struct bytes){ j->spec_hash, 32 };
	p->spec_size = j->spec_size;
	p->source = &peer;
	p->n_source = 1;
	p->node_rank = i;
	p->nnodes = j->nnodes;
	p->rank_base = i * j->ppn;
	p->nprocs = j->ppn;
	p->world = (uint32_t)j->n_ranks;
	p->grace_ms = j->grace_ms;
	p->with_stdin = j->with_stdin;
	p->name = j->name;
	p->per_node = j->per_node;
	p->submit_node = j->submit_node;
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
	act_send(c->out, place_link(j, i)->id, &m);
}

static void send_end(struct coord *c, struct clink *l, uint64_t job, uint32_t attempt,
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

static void send_forget(struct coord *c, struct clink *l, uint64_t job, uint32_t attempt)
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
		send_end(c, place_link(j, i), j->id, j->attempt, j->grace_ms, j->ending);
}

/* i == UINT32_MAX: the submitting node, when it is not one of the job's. */
void job_send_forget(struct coord *c, struct job *j, uint32_t i)
{
	struct node *n = i != UINT32_MAX ? j->places[i].node : node_find(c, j->submit_node);
	uint32_t at;

	if (n == NULL || n->link == NULL || (i == UINT32_MAX && job_place_of(j, n, &at) != NULL))
		return;
	send_forget(c, n->link, j->id, j->attempt);
}

/* ---- ranks ----------------------------------------------------------------------------- */

static int rank_state_from(const char *s)
{
	static const char *const names[] = { "waiting", "running", "exited", "killed", "failed", "lost" };

	for (int i = 0; i < 6; i++)
		if (strcmp(names[i], s) == 0)
			return i;
	return -1;
}

static bool rank_over(const struct rank *r)
{
	return r->state >= RK_EXITED;
}

static bool rank_bad(const struct rank *r)
{
	return rank_over(r) && !(r->state == RK_EXITED && r->code == 0);
}

static void copy_tail(struct coord *c, struct rank *r, struct bytes tail)
{
	uint8_t *p;

	if (tail.n == 0 || r->tail.n != 0)
		return;
	p = malloc(tail.n);
	if (p == NULL) {
		c->oom = true;
		return;
	}
	memcpy(p, tail.p, tail.n);
	r->tail = (struct bytes){ p, tail.n };
}

/* Only forward: a rank that is over stays as it is. */
void job_update_rank(struct coord *c, struct job *j, uint32_t node_rank,
		     const struct rec_rank_state *s)
{
	int state = rank_state_from(s->state);
	struct rank *r;

	if (state < 0 || s->rank / j->ppn != node_rank || s->rank >= j->n_ranks)
		return;
	r = &j->ranks[s->rank];
	if (s->lost_bytes > r->lost_bytes)
		r->lost_bytes = s->lost_bytes;
	if (rank_over(r) || state < (int)r->state)
		return;
	r->state = state;
	r->pid = s->pid != 0 ? s->pid : r->pid;
	r->code = s->code;
	r->sig = s->sig;
	r->ours = s->ours;
	r->core = s->core;
	r->start_wall_ms = s->start_wall_ms != 0 ? s->start_wall_ms : r->start_wall_ms;
	r->end_wall_ms = s->end_wall_ms;
	if (s->text != NULL && r->text == NULL)
		r->text = coord_strdup(c, s->text);
	copy_tail(c, r, s->tail);
}

static uint32_t rank_code(const struct rank *r)
{
	if (r->state == RK_KILLED)
		return 128 + r->sig;
	if (r->state == RK_LOST)
		return EXIT_LOST;
	if (r->state == RK_FAILED)
		return r->code != 0 ? r->code : 127;
	return r->code;
}

/* "rank 3 (gpu02, pid 4711) exited with code 7" */
static void say_rank(const struct job *j, uint32_t i, char *out, size_t size)
{
	const struct rank *r = &j->ranks[i];
	const char *node = j->places[i / j->ppn].node->name;

	switch (r->state) {
	case RK_KILLED:
		snprintf(out, size, "rank %u (%s, pid %u) was killed by signal %u%s", i, node, r->pid,
			 r->sig, r->core ? " and dumped core" : "");
		break;
	case RK_FAILED:
		snprintf(out, size, "rank %u (%s) could not start: %s", i, node,
			 r->text != NULL ? r->text : "unknown reason");
		break;
	case RK_LOST:
		snprintf(out, size, "rank %u (%s) was lost: %s", i, node,
			 r->text != NULL ? r->text : "its node is gone");
		break;
	default:
		snprintf(out, size, "rank %u (%s, pid %u) exited with code %u", i, node, r->pid,
			 r->code);
	}
}

/* The first bad rank that did not die of our own signal, by end time then
 * number (the nodes' clocks; ordering by measured offsets comes later). */
static int64_t find_first(const struct job *j, bool also_ours)
{
	int64_t best = -1;

	for (uint32_t i = 0; i < j->n_ranks; i++) {
		const struct rank *r = &j->ranks[i];

		if (!rank_bad(r) || (r->ours && !also_ours))
			continue;
		if (best < 0 || (r->end_wall_ms != 0 && r->end_wall_ms < j->ranks[best].end_wall_ms))
			best = i;
	}
	return best;
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
	if (j->ending == NULL) {
		j->ending = coord_strdup(c, utf8_scrub(text));
		j->ending_code = code;
	}
	j->state = JOB_ENDING;
	j->prepare_until = j->run_until = MONO_NEVER;
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

/* The decision is on disk, or cannot be written now: then it is acted upon all
 * the same, and written later. Without this order a restarted coordinator
 * would take ranks that died of our own signal for the cause. */
void job_end_stored(struct coord *c, struct job *j, int error)
{
	if (error == 0) {
		j->end_stored = true;
		job_changed(c, j);
	} else if (!job_over(j)) {
		j->retry_save = mono_add_ms(c->now, SAVE_RETRY_MS);
		coord_wake_at(c, j->retry_save);
	}
	for (uint32_t i = 0; !job_over(j) && i < j->n_places; i++)
		if (j->places[i].phase < PL_ENDED)
			job_send_end(c, j, i);
}

/* A bad rank while the job runs ends it: the first one decides. */
static void judge_ranks(struct coord *c, struct job *j)
{
	char text[512];

	if (j->state == JOB_ENDING || job_over(j))
		return;
	j->first = find_first(j, false);
	if (j->first < 0)
		return;
	say_rank(j, (uint32_t)j->first, text, sizeof(text));
	job_end(c, j, rank_code(&j->ranks[j->first]), "%s", text);
}

static uint32_t decided_code(const struct job *j)
{
	return j->first >= 0 ? rank_code(&j->ranks[j->first]) : j->ending_code;
}

bool job_settled(const struct job *j)
{
	if (j->saved)
		return true;
	if (j->state != JOB_ENDING || !j->end_stored)
		return false;
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase < PL_ENDED && !j->places[i].node->silent)
			return false;
	return j->n_places > 0;
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

static void add_notice(struct coord *c, struct job *j, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* At most 16, each within the message's 512 bytes; the first ones tell most. */
static void add_notice(struct coord *c, struct job *j, const char *fmt, ...)
{
	char text[500];
	va_list ap;

	if (j->n_notices == sizeof(j->notices) / sizeof(j->notices[0]))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	j->notices[j->n_notices] = coord_strdup(c, utf8_scrub(text));
	if (j->notices[j->n_notices] != NULL)
		j->n_notices++;
}

static void add_lost_notice(struct coord *c, struct job *j)
{
	for (uint32_t i = 0; i < j->n_ranks; i++)
		if (j->ranks[i].lost_bytes > 0)
			add_notice(c, j,
				       "%llu bytes of rank %u's output were lost: the disk of node %s "
				       "was full",
				       (unsigned long long)j->ranks[i].lost_bytes, i,
				       j->places[i / j->ppn].node->name);
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
	char text[512];

	if (j->ending == NULL && j->first < 0)
		j->first = find_first(j, true);
	if (j->first >= 0) {
		say_rank(j, (uint32_t)j->first, text, sizeof(text));
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
		decide(c, j);
	}
	save_final(c, j);
}

static void node_reports(struct coord *c, struct job *j, uint32_t i,
			 const struct rec_rank_state *v, size_t n)
{
	for (size_t k = 0; k < n; k++)
		job_update_rank(c, j, i, &v[k]);
	judge_ranks(c, j);
}

void job_place_ended(struct coord *c, struct job *j, uint32_t i)
{
	struct place *p = &j->places[i];
	bool bad = false, waiting = false;

	if (p->phase >= PL_ENDED)
		return;
	p->phase = PL_ENDED;
	for (uint32_t k = i * j->ppn; k < (i + 1) * j->ppn; k++) {
		bad = bad || rank_bad(&j->ranks[k]);
		waiting = waiting || !rank_over(&j->ranks[k]);
	}
	/* Ended there without our asking: the node was told to stop its jobs. */
	if (bad || waiting)
		job_end(c, j, EXIT_KILLED, "node %s ended its part of the job", p->node->name);
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

/* The node speaks of a job whose part there was given up, or is over: end it.
 * Jobs newer than our memory are not ours to end. */
void jobs_stale(struct coord *c, struct node *n, uint64_t id, uint32_t attempt)
{
	struct job *j = job_find(c, id);
	uint32_t i;

	if (id >= c->next_job || (j != NULL && j->attempt == attempt && !job_over(j) &&
				  job_place_of(j, n, &i) != NULL && j->places[i].phase != PL_LOST))
		return;
	send_end(c, n->link, id, attempt, j != NULL ? j->grace_ms : 30000, "the job is over");
}

void jobs_on_ranks(struct coord *c, struct node *n, const struct rec_ranks *r)
{
	uint32_t i;
	struct job *j = reported_job(c, n, r->job, r->attempt, &i);

	if (j == NULL || job_over(j) || j->places[i].phase >= PL_ENDED) {
		jobs_stale(c, n, r->job, r->attempt);
		return;
	}
	if (j->places[i].phase == PL_STARTED) {
		j->places[i].phase = PL_RUNNING;
		job_changed(c, j);
	}
	node_reports(c, j, i, r->ranks, r->n_ranks);
}

void jobs_on_ended(struct coord *c, struct node *n, const struct rec_ended *r)
{
	uint32_t i;
	struct job *j = reported_job(c, n, r->job, r->attempt, &i);

	if (j == NULL || j->saved) {
		if (j != NULL || r->job < c->next_job)
			send_forget(c, n->link, r->job, r->attempt);
		return;
	}
	if (job_over(j))
		return; /* being saved; forget follows */
	if (r->text != NULL && j->places[i].phase < PL_ENDED)
		add_notice(c, j, "node %s: %s", n->name, r->text);
	node_reports(c, j, i, r->ranks, r->n_ranks);
	job_place_ended(c, j, i);
}

/* ---- loss --------------------------------------------------------------------------------- */

void job_lose_place(struct coord *c, struct job *j, uint32_t i, const char *why)
{
	struct place *p = &j->places[i];

	if (p->phase >= PL_ENDED)
		return;
	p->phase = PL_LOST;
	for (uint32_t k = i * j->ppn; k < (i + 1) * j->ppn; k++) {
		if (rank_over(&j->ranks[k]))
			continue;
		j->ranks[k].state = RK_LOST;
		j->ranks[k].end_wall_ms = c->wall_ms;
		free(j->ranks[k].text);
		j->ranks[k].text = coord_strdup(c, why);
	}
	judge_ranks(c, j);
	job_check_final(c, j);
}

void jobs_node_lost(struct coord *c, struct node *n, const char *why)
{
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		uint32_t i;

		if (job_over(j) || !j->stored || job_place_of(j, n, &i) == NULL)
			continue;
		job_lose_place(c, j, i, why);
	}
}

void jobs_node_state(struct coord *c, struct node *n)
{
	c->have_dirty = true;
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		uint32_t i;

		if (!job_over(j) && job_place_of(j, n, &i) != NULL)
			j->dirty = true;
	}
}

/* ---- a node is back, and tells what it holds ------------------------------------------------- */

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

/* By a node's monotonic clock; by the wall clock only when all agents were
 * restarted as well, and then never a negative time. */
static int64_t already_ran(const struct coord *c, const struct job *j)
{
	if (j->ran_ms != 0)
		return (int64_t)j->ran_ms;
	return c->wall_ms > j->start_wall_ms ? c->wall_ms - j->start_wall_ms : 0;
}

static void start_the_rest(struct coord *c, struct job *j)
{
	j->state = JOB_RUNNING;
	j->start_sent = true;
	if (j->start_wall_ms == 0)
		j->start_wall_ms = c->wall_ms;
	if (j->time_s != 0) {
		j->run_until = mono_add_ms(c->now, 1000 * (int64_t)j->time_s - already_ran(c, j));
		coord_wake_at(c, j->run_until);
	}
	for (uint32_t i = 0; i < j->n_places; i++) {
		if (j->places[i].held_ready && j->places[i].phase == PL_UNKNOWN &&
		    j->master_addr[0] == '\0') {
			/* Those that were started have forgotten where rank 0 listens. */
			job_end(c, j, 1, "coordinator and agents were restarted while it was started");
		} else if (j->places[i].held_ready && j->places[i].phase == PL_UNKNOWN) {
			j->places[i].phase = PL_STARTED;
			job_send_start(c, j, i);
		} else if (j->places[i].missing) {
			job_lose_place(c, j, i, "its node knows nothing of the job any more");
		}
	}
}

static void prepare_anew(struct coord *c, struct job *j)
{
	j->restored = false;
	j->prepare_until = mono_add_ms(c->now, c->conf.prepare_ms);
	coord_wake_at(c, j->prepare_until);
	for (uint32_t i = 0; i < j->n_places; i++) {
		if (j->places[i].phase >= PL_STARTED)
			continue;
		j->places[i].phase = PL_ASSIGNED;
		job_send_prepare(c, j, i);
	}
}

/* A place that is over although its ranks were never started, or not ended by
 * themselves: the job cannot go on. */
static void end_if_cut_short(struct coord *c, struct job *j)
{
	for (uint32_t k = 0; j->state == JOB_PREPARING && k < j->n_ranks; k++)
		if (j->places[k / j->ppn].phase == PL_ENDED && !rank_over(&j->ranks[k]))
			job_end(c, j, EXIT_KILLED, "node %s ended its part of the job",
				j->places[k / j->ppn].node->name);
}

/* Recovering ends when every place has told or is given up. */
static void recover_decide(struct coord *c, struct job *j)
{
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase == PL_UNKNOWN && !j->places[i].missing &&
		    !j->places[i].held_ready)
			return;
	j->recovering = false;
	free(j->why);
	j->why = NULL;
	end_if_cut_short(c, j);
	if (j->state == JOB_PREPARING && j->any_started)
		start_the_rest(c, j);
	else if (j->state == JOB_PREPARING)
		prepare_anew(c, j);
	judge_ranks(c, j);
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
	if (h->run_ms > j->ran_ms)
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
		p->phase = PL_ENDED;
	} else if (j->recovering) {
		p->missing = true;
	} else if (p->phase >= PL_STARTED) {
		job_lose_place(c, j, i, "its node knows nothing of the job any more");
	}
}

static void is_held(struct coord *c, struct job *j, uint32_t i, const struct rec_held *h)
{
	struct place *p = &j->places[i];

	if (held_was_started(h))
		note_started(c, j, i, h);
	else if (j->recovering && strcmp(h->phase, "ended") != 0)
		p->held_ready = strcmp(h->phase, "ready") == 0, p->missing = !p->held_ready;
	for (size_t k = 0; k < h->n_ranks; k++)
		job_update_rank(c, j, i, &h->ranks[k]);
	if (strcmp(h->phase, "ended") == 0)
		p->phase = PL_ENDED;
	else if (j->state == JOB_ENDING)
		job_send_end(c, j, i);
	else if (j->state == JOB_RUNNING && !held_started(h) && p->phase < PL_ENDED)
		job_send_start(c, j, i); /* the start was lost on the way */
}

static void place_up(struct coord *c, struct job *j, uint32_t i, const struct rec_node_register *r,
		     bool *again)
{
	struct place *p = &j->places[i];
	const struct rec_held *h = held_of(r, j->id, j->attempt);
	enum place_phase before = p->phase;

	if (p->phase >= PL_ENDED)
		return;
	if (strcmp(p->boot_id, r->boot_id) != 0) {
		job_lose_place(c, j, i, "its node was rebooted");
		if (j->recovering)
			recover_decide(c, j);
		return;
	}
	if (h == NULL)
		not_held(c, j, i);
	else
		is_held(c, j, i, h);
	if (j->recovering) {
		recover_decide(c, j);
		return;
	}
	if (j->state == JOB_PREPARING && before < PL_STARTED)
		*again = true;
	judge_ranks(c, j);
	if (p->phase == PL_ENDED && before != PL_ENDED) {
		p->phase = before; /* let job_place_ended see the change */
		job_place_ended(c, j, i);
	}
}

/* What the node holds that nobody waits for: old attempts, ended or pruned
 * jobs. Another lineage's jobs, and jobs newer than our own memory (a database
 * restored from a backup), are not ours to end. */
static void tidy_held(struct coord *c, struct node *n, const struct rec_node_register *r)
{
	if (MSG_HAS(r, node_register, lineage) && r->lineage != c->lineage)
		return;
	for (size_t k = 0; k < r->n_held; k++) {
		const struct rec_held *h = &r->held[k];
		struct job *j = job_find(c, h->job);
		uint32_t i;

		if (h->job >= c->next_job)
			continue;
		if (j != NULL && j->attempt == h->attempt && !j->saved &&
		    (strcmp(h->phase, "ended") == 0 ||
		     (job_place_of(j, n, &i) != NULL && j->places[i].phase != PL_LOST)))
			continue; /* 'forget' follows when the end is on disk */
		if (strcmp(h->phase, "ended") == 0)
			send_forget(c, n->link, h->job, h->attempt);
		else
			send_end(c, n->link, h->job, h->attempt, j != NULL ? j->grace_ms : 30000,
				 "the job is over");
	}
}

static void allow_again(struct coord *c, struct node *n, struct job *j)
{
	struct rec_peer peers[1];
	struct msg m;

	/* Watchers' nodes that follow its output. */
	list_foreach(e, &j->watches) {
		struct watch *w = list_entry(e, struct watch, of_job);

		if (w->link->node == NULL || w->link->node == n)
			continue;
		nodes_fill_peer(w->link->node, peers);
		msg_init(&m, MSG_allow);
		m.u.allow.job = j->id;
		m.u.allow.peers = peers;
		m.u.allow.n_peers = 1;
		act_send(c->out, n->link->id, &m);
	}
}

void jobs_node_up(struct coord *c, struct node *n, const struct rec_node_register *r, bool fresh)
{
	list_foreach_safe(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		bool again = false;
		uint32_t i;

		if (job_over(j) || !j->stored || job_place_of(j, n, &i) == NULL)
			continue;
		place_up(c, j, i, r, &again);
		allow_again(c, n, j);
		/* Its listeners and ports may be gone: all prepare once more (idempotent). */
		if (again && j->state == JOB_PREPARING)
			prepare_anew(c, j);
		j->dirty = true;
	}
	tidy_held(c, n, r);
	jobs_node_state(c, n);
	(void)fresh;
}
