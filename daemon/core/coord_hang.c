/* coord_hang.c - what running jobs do: evidence from their nodes, judged by hang.c
 *
 * Of each node of a job the last word about its ranks' processes is kept, with the job
 * and for its attempt only. It is judged when such a word comes and every few seconds;
 * what begins to hang, or goes on again, is told: in the job's story, in the log, and to
 * whoever watches the job.
 *
 * That a hang was told is on disk with the story, so neither is told twice over a restart.
 * One that was told stays while a node is not heard, or its shim says nothing, or nothing moves though
 * the verdict is not yet there again (after a restart: it takes up to half a minute): that it goes on
 * again must be seen. Nothing is done about a job on such old evidence.
 *
 * Stacks are asked for when a hang is told, once: a coordinator that dies right then has not asked.
 *
 * Not promised: evidence that outlives this coordinator; agents tell again when they
 * register. A node whose shim tells nothing (an older one, or pulse = 0) is not known,
 * and then there is no verdict but for dead workers.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "core/hang.h"

#define JUDGE_MS 5000
#define AT_ONCE 64 /* places of a job that is judged with each word of them */
#define FRESH_MS 15000 /* three words that idle ranks are due */
#define GPU_FRESH_MS 15000 /* readings come every 10 s */
#define GPU_RESTS_PERCENT 5
#define GPU_FULL_PERCENT 95
#define LOW_POWER_PERCENT 33 /* of the limit; spinning: 118 W of 400 W (nccl#2428); a small DDP on two H100: 287-350 W of 700 W */
#define FLOW_MUCH 1000000 /* bytes a second of a node's ports together: a collective, or storage */
#define FLOW_LITTLE 100000 /* keep-alives, and our own words over IPoIB, are less */
#define FLOW_SPAN_MS 4000 /* counters are read every 5 s: what comes sooner is of the same look */
#define FLOW_FRESH_MS 15000 /* readings come every 10 s */
#define ACT_MS 30000 /* after it was told: who has stopped a rank on purpose has so long to let it go on */
#define PATIENT_ACT_MS 120000 /* ... where that may be a wait before NCCL: hubs and loggers give up after 60 to 90 s */
#define COUNTS_FRESH_MS 12000
#define COUNTS_KNOWN_MS 75000
#define AGE_MAX_MS (INT64_C(1) << 40)

struct told_pulse {
	struct msg msg; /* own copy, or of type none */
	mono_t at;
};

/* What the ports of a node have carried, in and out. */
struct told_flow {
	bool known; /* bytes are of readings that came at 'at' */
	bool some; /* FLOW_MUCH or more between the last two */
	uint64_t bytes;
	mono_t at;
	mono_t flat_since; /* less than FLOW_LITTLE since then; never: more, or not known */
};

struct job_hang {
	uint32_t attempt;
	struct told_pulse *v; /* by place */
	struct told_flow *flows; /* by place */
	size_t n;
	bool has_step;
	int64_t step_gap_ms; /* between the last two; 0: there was one only */
	struct rec_train_step step; /* its texts are below */
	char loss[25], source[17];
	mono_t step_at;
	mono_t judged;
	mono_t judge_at, stalled_since, dead_since; /* each never: not */
	mono_t hang_at; /* it was found first, in this life of the coordinator */
	struct hang_out out;
	bool kept; /* 'out' is of before: some rank is not known now */
	char threads[257]; /* its copy: out.threads points into a message */
	char node[65]; /* ... and out.node to a node that may be removed; "": none */
};

void hang_free(struct job *j)
{
	struct job_hang *h = j->hang;

	for (size_t i = 0; h != NULL && i < h->n; i++)
		msg_finish(&h->v[i].msg);
	if (h != NULL) {
		free(h->v);
		free(h->flows);
	}
	free(h);
	j->hang = NULL;
}

static struct job_hang *hang_of(struct coord *c, struct job *j)
{
	struct job_hang *h;

	if (j->hang != NULL && (j->hang->attempt != j->attempt || j->hang->n != j->n_places))
		hang_free(j);
	if (j->hang != NULL)
		return j->hang;
	h = calloc(1, sizeof(*h));
	if (h != NULL) {
		h->v = calloc(j->n_places, sizeof(*h->v));
		h->flows = calloc(j->n_places, sizeof(*h->flows));
	}
	if (h == NULL || h->v == NULL || h->flows == NULL) {
		if (h != NULL) {
			free(h->v);
			free(h->flows);
		}
		free(h);
		c->oom = true;
		return NULL;
	}
	h->n = j->n_places;
	h->attempt = j->attempt;
	h->step_at = h->stalled_since = h->dead_since = MONO_NEVER;
	h->judge_at = c->now;
	h->out.phase = "";
	j->hang = h;
	return h;
}

/* ---- evidence ------------------------------------------------------------------- */

static int64_t age(uint64_t ms, mono_t at, mono_t now)
{
	int64_t more = mono_sub_ms(now, at);

	return (ms < (uint64_t)AGE_MAX_MS ? (int64_t)ms : AGE_MAX_MS) + more;
}

static const struct rec_gpu *gpu_of_pid(const struct rec_readings *r, uint32_t pid)
{
	for (size_t i = 0; i < r->n_gpus; i++)
		for (size_t k = 0; k < r->gpus[i].n_procs; k++)
			if (r->gpus[i].procs[k].pid == pid)
				return &r->gpus[i];
	return NULL;
}

static void take_gpu(const struct coord *c, const struct node *n, struct hang_rank *ret)
{
	const struct rec_readings *r = node_readings(n);
	const struct rec_gpu *g = r != NULL ? gpu_of_pid(r, ret->pid) : NULL;

	if (g == NULL || mono_sub_ms(c->now, n->readings_at) > GPU_FRESH_MS || !MSG_HAS(g, gpu, util))
		return;
	ret->gpu = g->util >= GPU_FULL_PERCENT ? GPU_FULL : g->util > GPU_RESTS_PERCENT ? GPU_WORKS : GPU_RESTS;
	ret->has_power = MSG_HAS(g, gpu, power_mw) && MSG_HAS(g, gpu, power_limit_mw) && g->power_limit_mw > 0;
	ret->low_power = ret->has_power &&
			 (uint64_t)g->power_mw * 100 < (uint64_t)g->power_limit_mw * LOW_POWER_PERCENT;
}

static void take_pulse(const struct coord *c, const struct node *n, const struct told_pulse *t,
		       const struct rec_rank_pulse *p, struct hang_rank *ret)
{
	*ret = (struct hang_rank){ .rank = p->rank, .pid = p->pid, .node = n->name, .wchan = p->wchan, .threads = p->threads,
				   .cpu_permille = p->cpu_permille, .procs = p->procs, .write_bps = p->write_bps };
	ret->known = n->link != NULL && !n->silent;
	ret->flushes = MSG_HAS(p, rank_pulse, flushes) && p->flushes;
	ret->idle = MSG_HAS(p, rank_pulse, idle_ms);
	ret->state = p->state != NULL ? p->state[0] : '\0';
	ret->idle_ms = ret->idle ? age(p->idle_ms, t->at, c->now) : 0;
	ret->state_ms = MSG_HAS(p, rank_pulse, state_ms) ? age(p->state_ms, t->at, c->now) : 0;
	if (ret->idle && mono_sub_ms(c->now, t->at) > FRESH_MS)
		ret->known = false; /* it would have been told again: its shim is stopped, perhaps */
	take_gpu(c, n, ret);
}

static size_t count_all(const struct job_hang *h, const struct job *j)
{
	size_t n = j->n_ranks;

	for (size_t i = 0; i < h->n; i++)
		n += h->v[i].msg.type == MSG_pulse ? h->v[i].msg.u.pulse.n_ranks : 0;
	return n;
}

/* The first worker that ended badly, below a launcher that lives. */
static bool take_dead(struct arena *a, const struct job *j, uint32_t rank, struct hang_rank *ret)
{
	const struct rank *r = &j->ranks[rank];
	const struct rec_worker *w = workers_first(r->below.workers, r->below.n_workers);

	if (r->state != RK_RUNNING || w == NULL || r->below.alive == 0)
		return false;
	*ret = (struct hang_rank){ .rank = w->rank, .pid = w->pid, .node = j->places[rank / j->ppn].node->name,
				   .dead = true };
	if (strcmp(w->state, "killed") == 0)
		ret->dead_how = arena_printf(a, "was killed by signal %u", w->sig);
	else if (strcmp(w->state, "exited") == 0)
		ret->dead_how = arena_printf(a, "exited with code %u", w->code);
	return true;
}

static size_t gather(struct arena *a, struct coord *c, struct job *j, struct hang_rank *v)
{
	struct job_hang *h = j->hang;
	bool dead = false;
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++) {
		const struct rec_pulse *p = &h->v[i].msg.u.pulse;

		if (h->v[i].msg.type != MSG_pulse) {
			v[n++] = (struct hang_rank){ .rank = (uint32_t)i * j->ppn, .node = j->places[i].node->name };
			continue;
		}
		for (size_t k = 0; k < p->n_ranks; k++)
			take_pulse(c, j->places[i].node, &h->v[i], &p->ranks[k], &v[n++]);
	}
	for (uint32_t k = 0; j->per_node && k < j->n_ranks; k++) {
		if (!take_dead(a, j, k, &v[n]))
			continue;
		dead = true;
		if (mono_is_never(h->dead_since))
			h->dead_since = c->now;
		v[n++].dead_ms = mono_sub_ms(c->now, h->dead_since);
	}
	if (!dead)
		h->dead_since = MONO_NEVER;
	return n;
}

/* What NCCL's RAS has counted, as long as it is news: ranks that went on since would seem to stand
 * still. Shorter than HANG_SPIN_MS, or old counts alone could make a hang; of one that is known
 * RAS is asked every 30 s only. */
static void take_counts(const struct coord *c, const struct job *j, struct hang_rank *v, struct hang_in *in)
{
	const struct rec_ras_state *s;
	uint32_t polls;
	mono_t at;

	s = ras_last(j, &polls, &at);
	if (s == NULL || s->text != NULL || mono_sub_ms(c->now, at) > (j->hang->out.hang ? COUNTS_KNOWN_MS : COUNTS_FRESH_MS))
		return;
	in->polls = polls;
	in->elsewhere = s->coll != NULL; /* its counts are of the largest communicator only */
	for (size_t i = 0; i < s->n_counts; i++) {
		const struct rec_ras_count *x = &s->counts[i];
		const char *node;
		int64_t rank = x->missing ? -1 : ras_rank(j, s, x->host, x->pid, x->rank, &node);

		for (size_t k = 0; k < in->n && rank >= 0; k++) {
			if (v[k].dead || v[k].rank != rank)
				continue;
			v[k].counted = true;
			v[k].count[OP_BROADCAST] = x->broadcast;
			v[k].count[OP_REDUCE] = x->reduce;
			v[k].count[OP_ALL_GATHER] = x->all_gather;
			v[k].count[OP_REDUCE_SCATTER] = x->reduce_scatter;
			v[k].count[OP_ALL_REDUCE] = x->all_reduce;
			v[k].count[OP_ANY] = x->seq;
		}
	}
}

/* ---- ports ------------------------------------------------------------------------ */

/* Of all ports together; false: none is counted. */
static bool port_bytes(const struct rec_readings *r, uint64_t *ret)
{
	bool any = false;

	*ret = 0;
	for (size_t i = 0; r != NULL && i < r->n_ports; i++) {
		const struct rec_port *p = &r->ports[i];

		if (!MSG_HAS(p, port, rx_bytes) || !MSG_HAS(p, port, tx_bytes))
			continue;
		*ret += p->rx_bytes + p->tx_bytes; /* wraps as they do */
		any = true;
	}
	return any;
}

/* What was known is of another link, or of counters that began anew. */
static void flow_begin(struct told_flow *f, bool known, uint64_t bytes, mono_t at)
{
	*f = (struct told_flow){ .known = known, .bytes = bytes, .at = at, .flat_since = MONO_NEVER };
}

static void flow_look(struct told_flow *f, const struct node *n)
{
	uint64_t bytes, delta;
	int64_t ms;

	if (!port_bytes(node_readings(n), &bytes)) {
		flow_begin(f, false, 0, n->readings_at);
		return;
	}
	if (!f->known || bytes < f->bytes) {
		flow_begin(f, true, bytes, n->readings_at);
		return;
	}
	delta = bytes - f->bytes;
	ms = mono_sub_ms(n->readings_at, f->at);
	if (ms < FLOW_SPAN_MS)
		return;
	f->some = delta / (uint64_t)ms >= FLOW_MUCH / 1000;
	if (delta / (uint64_t)ms >= FLOW_LITTLE / 1000)
		f->flat_since = MONO_NEVER;
	else if (mono_is_never(f->flat_since))
		f->flat_since = f->at;
	f->bytes = bytes;
	f->at = n->readings_at;
}

/* Of a job on one node the ports carry nothing: what they do is another's. */
static void take_flow(const struct coord *c, const struct job *j, struct hang_in *in)
{
	struct job_hang *h = j->hang;
	mono_t flat = mono_add_ms(c->now, -AGE_MAX_MS);
	bool all = h->n > 1;

	for (size_t i = 0; i < h->n && h->n > 1; i++) {
		struct told_flow *f = &h->flows[i];
		bool fresh;

		flow_look(f, j->places[i].node);
		fresh = f->known && mono_sub_ms(c->now, f->at) <= FLOW_FRESH_MS;
		if (fresh && f->some)
			in->flow = FLOW_SOME;
		all = all && fresh && !mono_is_never(f->flat_since);
		if (all && mono_before(flat, f->flat_since))
			flat = f->flat_since;
	}
	if (!all)
		return;
	in->flow = FLOW_NONE;
	in->flow_ms = mono_sub_ms(c->now, flat);
}

/* ---- the verdict ------------------------------------------------------------------ */

/* They are with their nodes in less than the time until something is done about the job. */
static void ask_for_stacks(struct coord *c, struct job *j)
{
	uint32_t n = 0;
	struct msg m;

	msg_init(&m, MSG_stacks_get);
	m.u.stacks_get.job = j->id;
	m.u.stacks_get.attempt = j->attempt;
	for (size_t i = 0; i < j->n_places; i++) {
		const struct place *p = &j->places[i];

		if (p->phase != PL_RUNNING || p->node->link == NULL || p->node->silent)
			continue;
		act_send(c->out, p->node->link->id, &m);
		n++;
	}
	job_tell(c, j, NULL, 0, 0, "the stacks of its ranks on %u node%s go to their standard error", n, n == 1 ? "" : "s");
}

void hang_on_stacks(struct coord *c, struct node *n, const struct rec_stacks *s)
{
	struct job *j = job_find(c, s->job);

	if (s->text == NULL || !job_open_at(j, n, s->attempt))
		return;
	job_tell(c, j, n->name, 0, 0, "stacks: %.250s", s->text);
	job_changed(c, j);
}

/* What changed is told; a hang that goes on only grows older. */
static void tell(struct coord *c, struct job *j, const struct hang_out *was)
{
	struct job_hang *h = j->hang;
	bool told = j->hung_attempt == j->attempt;

	if (h->out.hang && !was->hang)
		h->hang_at = c->now;
	if (h->out.hang && !told) {
		j->hung_attempt = j->attempt;
		j->hung_wall_ms = c->wall_ms;
		hung_note(c, j, &h->out, h->node, h->threads);
		job_tell(c, j, NULL, 0, 0, "hangs: %.480s", h->out.text);
		act_log(c->out, j->id, "job %llu hangs: %s", (unsigned long long)j->id, h->out.text);
		events_hang(c, j, h->out.node);
		if (j->hang_stacks)
			ask_for_stacks(c, j);
		job_changed(c, j);
	} else if (told && !h->out.hang && !h->out.blind && h->out.moves) {
		j->hung_attempt = 0;
		job_tell(c, j, NULL, 0, 0, "goes on again");
		act_log(c->out, j->id, "job %llu goes on again", (unsigned long long)j->id);
		hung_over(c, j);
		job_changed(c, j);
	} else if (strcmp(h->out.phase, was->phase) != 0 && strcmp(h->out.phase, "tokenising") == 0) {
		job_changed(c, j); /* it is told that this is no hang */
	}
}

int on_hang_from(const char *s)
{
	static const char *const words[] = { "report", "kill", "restart" };

	for (int i = 0; s != NULL && i < 3; i++)
		if (strcmp(s, words[i]) == 0)
			return i;
	return s == NULL ? ON_HANG_REPORT : -1;
}

const char *on_hang_name(const struct job *j)
{
	return j->on_hang == ON_HANG_KILL ? "kill" : j->on_hang == ON_HANG_RESTART ? "restart" : NULL;
}

/* As its user has asked for, when it has not gone on for a while. It is no node's fault as far as
 * anybody knows; one that cannot end a process gets no new jobs by that (coord_cordon.c). */
static void act(struct coord *c, struct job *j)
{
	const struct job_hang *h = j->hang;
	int64_t wait_ms = h->out.patient ? PATIENT_ACT_MS : ACT_MS;
	char text[400];

	if (!h->out.hang || h->kept || j->on_hang == ON_HANG_REPORT || mono_sub_ms(c->now, h->hang_at) < wait_ms)
		return;
	snprintf(text, sizeof(text), "it hung, and --on-hang %s was asked for: %.300s", on_hang_name(j), h->out.text);
	if (j->on_hang == ON_HANG_RESTART)
		restart_blame(j, END_NODE, NULL);
	job_end(c, j, 1, "%s", text);
	job_check_final(c, j);
}

static void judge(struct coord *c, struct job *j)
{
	struct job_hang *h = j->hang;
	struct hang_out was = h->out;
	struct hang_in in = { .nodes = j->nnodes, .has_step = h->has_step };
	struct hang_rank *v;
	struct arena a;
	char late[160];

	if (nccl_late(j, late, sizeof(late), &in.late_node))
		in.late = late;
	arena_init(&a);
	v = arena_alloc(&a, (count_all(h, j) + h->n + 1) * sizeof(*v));
	if (v != NULL) {
		in.v = v;
		in.n = gather(&a, c, j, v);
		in.run_ms = mono_is_never(j->run_since) ? 0 : mono_sub_ms(c->now, j->run_since);
		in.stalled_ms = mono_is_never(h->stalled_since) ? 0 : mono_sub_ms(c->now, h->stalled_since);
		in.step_ms = h->has_step ? mono_sub_ms(c->now, h->step_at) : 0;
		in.step_gap_ms = h->step_gap_ms;
		take_flow(c, j, &in);
		take_counts(c, j, v, &in);
		hang_judge(&in, &h->out);
		h->kept = was.hang && !h->out.hang && h->out.blind;
		utf8_scrub(h->out.text); /* cut, perhaps in a letter */
		utf8_scrub(h->out.fix);
		utf8_scrub(h->out.note);
		if (!h->out.stalled)
			h->stalled_since = MONO_NEVER;
		else if (mono_is_never(h->stalled_since))
			h->stalled_since = c->now;
		if (!h->kept) {
			snprintf(h->threads, sizeof(h->threads), "%s", h->out.threads != NULL ? h->out.threads : "");
			snprintf(h->node, sizeof(h->node), "%s", h->out.node != NULL ? h->out.node : "");
		}
		h->out.threads = NULL;
		if (h->kept)
			h->out = was;
		else
			tell(c, j, &was);
		h->out.node = NULL; /* it may be removed before this is judged again */
	} else {
		c->oom = true;
	}
	arena_finish(&a);
	h->judged = c->now;
	h->judge_at = mono_add_ms(c->now, JUDGE_MS);
	coord_wake_at(c, h->judge_at);
	if (h->out.stalled)
		ras_suspect(c, j, true);
	act(c, j);
}

/* ---- what comes --------------------------------------------------------------------- */

/* A pause in which it hung, or was saved, does not make all that follow so slow. */
static void took(struct job_hang *h, int64_t ms)
{
	if (h->step_gap_ms > 0 && ms > 4 * h->step_gap_ms)
		ms = 4 * h->step_gap_ms;
	h->step_gap_ms = ms > 0 ? ms : 0;
}

/* Of several nodes that tell of one, the one that is further. */
static void take_step(struct coord *c, struct job_hang *h, const struct rec_train_step *s)
{
	mono_t at;

	if (h->has_step && h->step.step > s->step && h->step.steps == s->steps)
		return;
	at = mono_add_ms(c->now, -(int64_t)(s->age_ms < (uint64_t)AGE_MAX_MS ? s->age_ms : (uint64_t)AGE_MAX_MS));
	if (h->has_step && h->step.step != s->step)
		took(h, mono_sub_ms(at, h->step_at));
	h->has_step = true;
	h->step = *s;
	h->step.loss = h->step.source = NULL; /* its memory goes with the message */
	snprintf(h->loss, sizeof(h->loss), "%s", s->loss != NULL ? s->loss : "");
	snprintf(h->source, sizeof(h->source), "%s", s->source != NULL ? s->source : "");
	h->step_at = at;
}

/* Each judgement looks at all ranks, and each node's word asks for one: of a large job not more often
 * than every millisecond for each of its nodes, or the coordinator does nothing else. */
static void judge_soon(struct coord *c, struct job *j)
{
	struct job_hang *h = j->hang;
	mono_t at = mono_add_ms(h->judged, h->n < JUDGE_MS ? (int64_t)h->n : JUDGE_MS);

	if (h->n <= AT_ONCE || mono_due(at, c->now)) {
		judge(c, j);
		return;
	}
	h->judge_at = mono_min(h->judge_at, at);
	coord_wake_at(c, h->judge_at);
}

void hang_on_pulse(struct coord *c, struct node *n, const struct msg *m)
{
	const struct rec_pulse *p = &m->u.pulse;
	struct job *j = job_find(c, p->job);
	struct job_hang *h;
	struct msg copy;
	uint32_t i;
	int r;

	if (!job_open_at(j, n, p->attempt) || j->state != JOB_RUNNING || job_place_of(j, n, &i) == NULL)
		return;
	h = hang_of(c, j);
	if (h == NULL)
		return;
	r = msg_copy(m, &copy);
	if (r == -ENOMEM)
		c->oom = true;
	if (r < 0)
		return;
	msg_finish(&h->v[i].msg);
	h->v[i].msg = copy;
	h->v[i].at = c->now;
	if (p->n_step > 0)
		take_step(c, h, &p->step[0]);
	judge_soon(c, j);
}

void hang_on_counts(struct coord *c, struct job *j)
{
	if (j->hang != NULL && j->state == JOB_RUNNING && j->hang->attempt == j->attempt && j->hang->n == j->n_places && j->hang->out.stalled)
		judge_soon(c, j);
}

/* How it was in the end is more than what was told first. */
void hang_on_end(struct coord *c, struct job *j)
{
	const struct job_hang *h = j->hang;

	if (h == NULL || h->attempt != j->attempt || !h->out.hang || j->hung_attempt != j->attempt)
		return;
	hung_note(c, j, &h->out, h->node, h->threads);
	hung_counts(c, j);
}

void hang_fill_row(const struct job *j, struct rec_row_job *r)
{
	r->hang_stacks = j->hang_stacks;
	if (j->hung_attempt == 0 || j->hung_attempt != j->attempt || job_over(j))
		return;
	MSG_SET(r, row_job, hung_attempt, j->hung_attempt);
	MSG_SET(r, row_job, hung_wall_ms, j->hung_wall_ms);
}

void hang_load(struct job *j, const struct rec_row_job *r)
{
	j->hung_attempt = MSG_HAS(r, row_job, hung_attempt) ? r->hung_attempt : 0;
	j->hung_wall_ms = MSG_HAS(r, row_job, hung_wall_ms) ? r->hung_wall_ms : 0;
	j->hang_stacks = r->hang_stacks;
}

void hang_deadline(struct coord *c, struct job *j)
{
	if (j->hang == NULL)
		return;
	if (j->state != JOB_RUNNING || j->hang->attempt != j->attempt || j->hang->n != j->n_places)
		hang_free(j);
	else if (mono_due(j->hang->judge_at, c->now))
		judge(c, j);
	else
		coord_wake_at(c, j->hang->judge_at);
}

/* ---- what is shown -------------------------------------------------------------------- */

static void fill_step(struct arena *a, const struct coord *c, const struct job_hang *h, struct rec_job_progress *p)
{
	struct rec_train_step *s = arena_memdup(a, &h->step, sizeof(*s));

	if (s == NULL)
		return;
	s->loss = h->loss[0] != '\0' ? h->loss : NULL;
	s->source = h->source[0] != '\0' ? h->source : NULL;
	MSG_SET(s, train_step, age_ms, (uint64_t)mono_sub_ms(c->now, h->step_at));
	p->step = s;
	p->n_step = 1;
}

/* Which rank does what, and where, is its owner's. */
void hang_hide(struct rec_job_progress *p)
{
	if (p->hang != NULL)
		p->hang = "it does not go on by itself; its owner is told who is behind";
	p->fix = p->threads = p->note = NULL;
	p->has &= ~MSG_BIT(job_progress, hang_rank);
}

void hang_fill(struct arena *a, const struct coord *c, const struct job *j, struct rec_job_info *i)
{
	const struct job_hang *h = j->hang;
	struct rec_job_progress *p;

	i->on_hang = on_hang_name(j);
	i->hang_stacks = j->hang_stacks;
	if (h == NULL || j->state != JOB_RUNNING || h->attempt != j->attempt)
		return;
	p = arena_alloc(a, sizeof(*p));
	if (p == NULL)
		return;
	memset(p, 0, sizeof(*p));
	p->phase = h->out.phase[0] != '\0' ? h->out.phase : NULL;
	p->note = h->out.note[0] != '\0' ? h->out.note : NULL;
	if (h->out.hang) {
		p->hang = h->out.text;
		p->threads = h->threads[0] != '\0' ? h->threads : NULL;
		p->fix = h->out.fix[0] != '\0' ? h->out.fix : NULL;
		MSG_SET(p, job_progress, hang_wall_ms, j->hung_wall_ms);
		if (h->out.has_rank)
			MSG_SET(p, job_progress, hang_rank, h->out.rank);
	}
	if (h->has_step)
		fill_step(a, c, h, p);
	i->progress = p;
	i->n_progress = 1;
}
