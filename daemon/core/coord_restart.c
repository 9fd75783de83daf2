/* coord_restart.c - another attempt of a job whose node was lost, or whose rank failed
 *
 *   ending --(all of it is gone)--> between --(stored, backoff)--> preparing
 *
 * 'Between' is the state queued with the places of the attempt that is over:
 * its output can be read, and how its ranks ended is known. It holds no nodes
 * by them; the good ones and the spares are in 'kept'.
 *
 * A new attempt begins only when nothing of the old one can be alive: each of
 * its places has ended, or is proved gone, or its lease has passed. The lease
 * of a node's ranks is counted by the node from when it sent the word that we
 * answered, so it ends no later than lease_ms after we heard that word; node->heard
 * is that moment or a later one (also after a restart of ours, when a full term
 * is counted again). Who may hold ranks and keeps no lease is waited for until
 * it comes back, or until an administrator takes its node out.
 *
 * Not promised: that what a rank has started dies with it where agent and shim
 * are both killed; it is swept when the agent comes back.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"
#include "common/xid.h"

#define BACKOFF_MAX_S 60

/* ---- memory ----------------------------------------------------------------------------- */

static void past_free(struct past *p)
{
	free(p->nodes);
	free(p->why);
}

void restart_free(struct job *j)
{
	places_free(j->kept, j->n_kept);
	for (size_t i = 0; i < j->n_past; i++)
		past_free(&j->past[i]);
	free(j->past);
	for (size_t i = 0; i < j->n_barred; i++)
		free(j->barred[i]);
	free(j->barred);
}

bool restart_barred(const struct job *j, const struct node *n)
{
	for (size_t i = 0; i < j->n_barred; i++)
		if (strcmp(j->barred[i], n->name) == 0)
			return true;
	return false;
}

struct place *job_kept_at(const struct job *j, const struct node *n)
{
	for (size_t i = 0; i < j->n_kept; i++)
		if (j->kept[i].node == n)
			return &j->kept[i];
	return NULL;
}

/* The oldest gives way: so many bad nodes mean that something else is wrong. */
void restart_bar(struct coord *c, struct job *j, const char *node)
{
	char **v;

	for (size_t i = 0; i < j->n_barred; i++)
		if (strcmp(j->barred[i], node) == 0)
			return;
	if (j->n_barred == BARRED_MAX) {
		free(j->barred[0]);
		memmove(j->barred, j->barred + 1, --j->n_barred * sizeof(char *));
	}
	v = realloc(j->barred, (j->n_barred + 1) * sizeof(char *));
	if (v != NULL)
		j->barred = v;
	if (v == NULL || (v[j->n_barred] = coord_strdup(c, node)) == NULL)
		c->oom = true;
	else
		j->n_barred++;
}

/* The newest place for a record; the oldest is dropped when there are too many. */
struct past *restart_past(struct coord *c, struct job *j)
{
	struct past *v;

	if (j->n_past == PAST_MAX) {
		past_free(&j->past[0]);
		memmove(j->past, j->past + 1, --j->n_past * sizeof(*v));
	}
	v = realloc(j->past, (j->n_past + 1) * sizeof(*v));
	if (v == NULL) {
		c->oom = true;
		return NULL;
	}
	j->past = v;
	v += j->n_past++;
	memset(v, 0, sizeof(*v));
	return v;
}

/* ---- why it ended ------------------------------------------------------------------------ */

void restart_blame(struct job *j, enum end_cause cause, const struct node *n)
{
	if (j->cause != END_UNKNOWN || j->state == JOB_ENDING || job_over(j))
		return;
	j->cause = cause;
	snprintf(j->cause_node, sizeof(j->cause_node), "%s", n != NULL ? n->name : "");
}

/* An error of its own since then. Its fault is followed by those that end its programs: the
 * last Xid (all that an older agent tells) may be one of these. */
static bool had_fault(const struct rec_gpu *g, int64_t since_wall_ms)
{
	if (MSG_HAS(g, gpu, xid_fault_wall_ms) && g->xid_fault_wall_ms >= since_wall_ms)
		return true;
	return MSG_HAS(g, gpu, xid) && xid_is_fault(g->xid) && g->xid_wall_ms >= since_wall_ms;
}

/* A GPU that the attempt held cannot be used any more, or has had an error of its own since it started. */
static bool gpu_failed(const struct job *j, const struct place *p)
{
	const struct rec_readings *r = node_readings(p->node);
	int64_t skew_ms = p->node->has_skew ? p->node->skew_us / 1000 : 0;

	for (size_t i = 0; r != NULL && i < r->n_gpus; i++) {
		const struct rec_gpu *g = &r->gpus[i];

		if (!(p->gpus & node_gpu_bit(p->node, g)))
			continue;
		if (g->text != NULL)
			return true;
		if (j->start_wall_ms != 0 && had_fault(g, j->start_wall_ms + skew_ms))
			return true;
	}
	return false;
}

static const struct node *lost_node(const struct job *j)
{
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase == PL_LOST)
			return j->places[i].node;
	for (uint32_t k = 0; j->places != NULL && j->ranks != NULL && k < j->n_ranks; k++)
		if (j->ranks[k].state == RK_LOST)
			return j->places[k / j->ppn].node;
	return NULL;
}

/* By what no program and no user can do to a job of their own; shims and ranks they can end. */
bool restart_node_failed(const struct job *j)
{
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase == PL_LOST)
			return true;
	if (j->cause == END_NODE)
		return true;
	return j->first >= 0 && j->rank_no == NULL && (size_t)j->first / j->ppn < j->n_places &&
	       gpu_failed(j, &j->places[j->first / j->ppn]);
}

/* As a shell says it: 126 cannot be executed, 127 not found. */
static bool unstartable(const struct rank *r)
{
	return r->state == RK_FAILED || (r->state == RK_EXITED && (r->code == 126 || r->code == 127));
}

/* With all places over: a rank often dies of a lost node long before that is known. */
static enum end_cause find_cause(const struct coord *c, const struct job *j, const struct node **guilty)
{
	const struct rank *first = j->first >= 0 ? &j->ranks[j->first] : NULL;

	*guilty = NULL;
	if (j->cause >= END_OTHER || (first != NULL && unstartable(first)))
		return END_OTHER;
	*guilty = lost_node(j);
	if (*guilty != NULL)
		return END_NODE;
	if (j->cause == END_NODE) {
		*guilty = node_find(c, j->cause_node);
		return END_NODE;
	}
	if (first == NULL)
		return END_OTHER;
	if (!gpu_failed(j, &j->places[j->first / j->ppn]))
		return END_RANK;
	*guilty = j->places[j->first / j->ppn].node;
	return END_NODE;
}

bool restart_possible(const struct job *j)
{
	return !j->stopped && j->attempt > 0 && j->attempt <= j->max_restarts && j->cause < END_OTHER;
}

/* Whoever gave --max-restarts alone waits for a restart that --restart-on any alone would bring. */
void restart_say_not(struct coord *c, struct job *j)
{
	const struct node *guilty;

	if (j->max_restarts == 0 || j->restart_any || j->first < 0 || !restart_possible(j))
		return;
	if (find_cause(c, j, &guilty) == END_RANK)
		job_notice(c, j, "not started again: a process failed, and --restart-on is \"node\"; with --restart-on any it would be");
}

/* ---- is the old attempt gone? ----------------------------------------------------------------- */

/* When this place is surely empty; MONO_NEVER: nobody can know. */
static mono_t gone_by(const struct coord *c, const struct job *j, const struct place *p)
{
	int64_t ms = (int64_t)j->lease_ms + j->grace_ms + LEASE_MARGIN_MS;

	if (p->phase == PL_ENDED || p->gone)
		return c->now;
	if (!j->start_sent && !j->any_started && !j->restored)
		return c->now; /* no order to start ever went out */
	if (!p->leased && !p->node->removed)
		return MONO_NEVER;
	return mono_add_ms(p->node->heard, ms > c->conf.node_lost_ms ? ms : c->conf.node_lost_ms);
}

/* A process of it that became another user's is not gone with the rest: it was told to
 * the node that ended the job, which may not signal it. One in state D runs nothing any more. */
static const struct rec_stuck_proc *lives_on(const struct job *j, const struct place *p)
{
	for (size_t i = 0; !p->node->removed && i < p->node->n_stuck; i++)
		if (p->node->stuck[i].foreign && p->node->stuck[i].job == j->id)
			return &p->node->stuck[i];
	return NULL;
}

/* The last place to be gone, if that is not now. */
static const struct place *still_there(const struct coord *c, const struct job *j, mono_t *ret_at)
{
	const struct place *last = NULL;

	*ret_at = c->now;
	for (size_t i = 0; i < j->n_places; i++) {
		mono_t t = lives_on(j, &j->places[i]) != NULL ? MONO_NEVER : gone_by(c, j, &j->places[i]);

		if (mono_due(t, c->now) || (last != NULL && !mono_before(*ret_at, t)))
			continue;
		last = &j->places[i];
		*ret_at = t;
	}
	return last;
}

/* ---- from one attempt to the next --------------------------------------------------------------- */

static bool same_order(const char *list, const char *const *v, size_t n)
{
	struct hostlist h;
	bool same;

	if (list == NULL || hostlist_parse(list, &h, NULL) < 0)
		return false;
	same = h.count == n;
	for (size_t i = 0; same && i < n; i++)
		same = strcmp(h.names[i], v[i]) == 0;
	hostlist_finish(&h);
	return same;
}

/* A host list that keeps the order of node ranks; with commas only where the short one does not. */
static char *in_order(const char *const *v, size_t n)
{
	char *list = hostlist_format(v, n);
	struct buf b;

	if (same_order(list, v, n))
		return list;
	free(list);
	buf_init(&b);
	for (size_t i = 0; i < n; i++)
		buf_addf(&b, "%s%s", i > 0 ? "," : "", v[i]);
	list = buf_steal(&b, NULL);
	buf_finish(&b);
	return list;
}

static void note_past(struct coord *c, struct job *j, const struct node *guilty)
{
	const char **v = arena_alloc(&c->out->arena, j->n_places * sizeof(*v) + 1);
	struct past *p = restart_past(c, j);
	char text[512] = "";

	if (v == NULL || p == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < j->n_places; i++)
		v[i] = j->places[i].node->name;
	p->attempt = j->attempt;
	p->start_wall_ms = j->start_wall_ms;
	p->end_wall_ms = c->wall_ms;
	p->nodes = in_order(v, j->n_places);
	if (p->nodes != NULL && strlen(p->nodes) > 4096)
		p->nodes[0] = '\0';
	if (j->first >= 0)
		cause_say(j, (uint32_t)j->first, text, sizeof(text));
	else if (j->ending != NULL)
		snprintf(text, sizeof(text), "%s", j->ending);
	p->why = coord_strdup(c, utf8_scrub(text));
	p->exit_code = j->first >= 0 ? rank_code(&j->ranks[j->first]) : j->ending_code;
	snprintf(p->guilty, sizeof(p->guilty), "%s", guilty != NULL ? guilty->name : "");
}

void restart_note_end(struct coord *c, struct job *j)
{
	const struct node *guilty;

	if (j->max_restarts == 0 || j->n_places == 0 || j->between)
		return; /* killed between two attempts: the last one is noted */
	find_cause(c, j, &guilty);
	note_past(c, j, guilty);
	if (j->n_past > 0)
		j->past[j->n_past - 1].exit_code = j->exit_code;
}

static void bar_lost(struct coord *c, struct job *j, const struct node *guilty)
{
	if (guilty != NULL)
		restart_bar(c, j, guilty->name);
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase == PL_LOST)
			restart_bar(c, j, j->places[i].node->name);
}

static bool worth_keeping(const struct job *j, const struct place *p)
{
	return p->phase == PL_ENDED && !p->node->removed && !p->node->quarantined &&
	       !restart_barred(j, p->node);
}

/* What the job holds goes from its places to 'kept', or is given back. */
static void keep_good(struct coord *c, struct job *j)
{
	struct place *v = realloc(j->kept, (j->n_kept + j->n_places) * sizeof(*v));

	if (v == NULL) {
		c->oom = true;
		return;
	}
	j->kept = v;
	for (size_t i = 0; i < j->n_places; i++) {
		struct place *p = &j->places[i];

		clean_begin(c, p, j->id, j->start_wall_ms != 0);
		if (!worth_keeping(j, p)) {
			p->node->jobs--;
			place_release(p);
		} else {
			v[j->n_kept++] = (struct place){ .node = p->node, .gpus = p->gpus,
							 .gpus_text = p->gpus_text,
							 .gpu_ids = p->gpu_ids,
							 .gpu_base = p->gpu_base };
			snprintf(v[j->n_kept - 1].boot_id, sizeof(v->boot_id), "%s", p->boot_id);
			p->gpus_text = p->gpu_ids = p->gpu_base = NULL;
		}
		free(p->gpus_text);
		free(p->gpu_ids);
		free(p->gpu_base);
		p->gpus_text = p->gpu_ids = p->gpu_base = NULL;
		p->gpus = 0;
	}
}

void restart_drop_kept(struct coord *c, struct job *j)
{
	if (j->n_kept > 0)
		c->have_dirty = true; /* others may wait for them */
	for (size_t i = 0; i < j->n_kept; i++) {
		j->kept[i].node->jobs--;
		place_release(&j->kept[i]);
	}
	places_free(j->kept, j->n_kept);
	j->kept = NULL;
	j->n_kept = 0;
}

static void store(struct coord *c, struct job *j)
{
	struct pending *pd;
	struct action *p = coord_persist(c, &pd);

	pd->kind = PD_RESTART;
	pd->job = j->id;
	j->between_saving = true;
	persist_job(c, p, j);
}

static void tell_over(struct coord *c, struct job *j)
{
	uint32_t code = j->first >= 0 ? rank_code(&j->ranks[j->first]) : j->ending_code;

	if (j->delay_ms > 0)
		job_tell(c, j, NULL, 0, 0, "attempt %u is over (exit code %u); attempt %u in %.1f s", j->attempt, code,
			 j->attempt + 1, (double)j->delay_ms / 1000);
	else
		job_tell(c, j, NULL, 0, 0, "attempt %u is over (exit code %u); attempt %u follows", j->attempt, code,
			 j->attempt + 1);
}

/* The longest that anybody knows of: by our clock, or by a node's monotonic clock.
 * By the wall clock only when coordinator and agents were restarted, with shims of an
 * older version, and then never a negative time. */
int64_t restart_ran_ms(const struct coord *c, const struct job *j)
{
	int64_t ms = (int64_t)j->ran_ms, wall_ms = c->wall_ms - j->start_wall_ms;

	if (!mono_is_never(j->run_since) && mono_sub_ms(c->now, j->run_since) > ms)
		return mono_sub_ms(c->now, j->run_since);
	if (ms == 0 && mono_is_never(j->run_since) && j->start_wall_ms != 0 && wall_ms > 0)
		return wall_ms;
	return ms;
}

static void begin(struct coord *c, struct job *j, const struct node *guilty)
{
	j->used_ms += (uint64_t)restart_ran_ms(c, j);
	j->run_since = MONO_NEVER;
	j->ran_ms = 0;
	j->node_failed = restart_node_failed(j); /* while its places are known */
	note_past(c, j, guilty);
	bar_lost(c, j, guilty);
	j->delay_ms = 0;
	if (j->attempt > 1 || guilty == NULL) {
		uint32_t s = j->attempt < 7 ? UINT32_C(1) << (j->attempt - 1) : BACKOFF_MAX_S;

		j->delay_ms = 1000 * (s < BACKOFF_MAX_S ? s : BACKOFF_MAX_S);
	}
	tell_over(c, j);
	keep_good(c, j);
	j->state = JOB_QUEUED;
	j->between = true;
	j->between_stored = false;
	j->recovering = j->awaits_gone = false;
	j->cause = END_UNKNOWN;
	j->cause_node[0] = '\0';
	j->first = -1;
	j->first_settled = j->settling = false;
	j->settle_at = j->started_at = MONO_NEVER;
	free(j->ending);
	j->ending = NULL;
	j->ending_code = 0;
	free(j->why);
	j->why = NULL;
	j->retry_save = MONO_NEVER;
	store(c, j);
	job_changed(c, j);
}

/* All places are over. True: another attempt follows, now or when the old one is gone. */
bool restart_next(struct coord *c, struct job *j)
{
	const struct place *p;
	const struct node *guilty;
	enum end_cause cause;
	mono_t at;

	if (!restart_possible(j) || (j->ending == NULL && j->first < 0))
		return false;
	cause = find_cause(c, j, &guilty);
	if (cause != END_NODE && !(cause == END_RANK && j->restart_any))
		return false;
	p = still_there(c, j, &at);
	if (p == NULL) {
		begin(c, j, guilty);
		return true;
	}
	if (!mono_is_never(at))
		coord_wake_at(c, at);
	j->awaits_gone = true;
	job_changed(c, j);
	return true;
}

/* ---- between two attempts -------------------------------------------------------------------------- */

void restart_stored(struct coord *c, struct job *j, int error)
{
	j->between_saving = false;
	if (j->state != JOB_QUEUED || !j->between)
		return; /* killed meanwhile */
	if (error != 0) {
		j->retry_save = mono_add_ms(c->now, SAVE_RETRY_MS);
		coord_wake_at(c, j->retry_save);
		return;
	}
	j->between_stored = true;
	j->end_stored = j->end_told = j->start_sent = j->any_started = j->restored = false;
	j->master_addr[0] = '\0';
	for (uint32_t i = 0; i < j->n_places; i++)
		job_send_forget(c, j, i);
	if (j->delay_ms > 0) {
		j->restart_at = mono_add_ms(c->now, j->delay_ms);
		coord_wake_at(c, j->restart_at);
	}
	job_changed(c, j);
}

/* Without places: the next attempt was chosen, and could not be stored. */
bool restart_waits(const struct job *j)
{
	return j->between ? j->between_stored : j->n_past > 0 && j->n_places == 0;
}

/* It may be placed now. */
bool restart_due(struct coord *c, struct job *j)
{
	if (!j->between)
		return true;
	if (!j->between_stored && !j->between_saving)
		store(c, j);
	return j->between_stored && mono_is_never(j->restart_at);
}

void restart_deadline(struct coord *c, struct job *j)
{
	if (mono_due(j->restart_at, c->now)) {
		j->restart_at = MONO_NEVER;
		job_changed(c, j);
	} else {
		coord_wake_at(c, j->restart_at);
	}
}

/* Read from disk. */
void restart_loaded(struct coord *c, struct job *j)
{
	for (size_t i = 0; i < j->n_places; i++) {
		j->places[i].phase = PL_ENDED;
		j->places[i].ended_at = c->now;
	}
	j->between_stored = true;
	j->restart_at = mono_add_ms(c->now, 1000);
	coord_wake_at(c, j->restart_at);
}

/* What is not known to be gone yet, and how long that may take. */
static const char *gone_why(struct arena *a, const struct coord *c, const struct job *j)
{
	mono_t at;
	const struct place *p = still_there(c, j, &at);

	if (p == NULL)
		return "";
	if (lives_on(j, p) != NULL)
		return arena_printf(a, "; process %u (%.64s) of the one before lives on node %s as another user, whom "
				    "nodeagent may not signal: waiting until it is ended there, or node %s is resumed "
				    "(nodectl resume %s)", lives_on(j, p)->pid, lives_on(j, p)->name != NULL ?
				    lives_on(j, p)->name : "?", p->node->name, p->node->name, p->node->name);
	if (mono_is_never(at))
		return arena_printf(a, "; the one before may still run on node %s, which does not answer and keeps no "
				    "lease: waiting until it does, or is taken out (nodectl node-remove --force %s)",
				    p->node->name, p->node->name);
	if (p->node->link != NULL && !p->node->silent)
		return arena_printf(a, "; waiting until node %s has ended the one before", p->node->name);
	return arena_printf(a, "; waiting until the one before has surely ended on node %s, which does not answer: at "
			    "most %lld s", p->node->name, (long long)mono_sub_ms(at, c->now) / 1000 + 1);
}

/* "restarting in 4 s: attempt 2 of 4; node gpu03 is left out" */
const char *restart_why(struct arena *a, const struct coord *c, const struct job *j)
{
	const char *left = "", *in = "", *gone = j->awaits_gone ? gone_why(a, c, j) : "";
	const char *why = !j->awaits_gone && j->why != NULL ? j->why : NULL;

	if (j->n_barred > 0)
		left = arena_printf(a, "; node %s is left out", j->barred[j->n_barred - 1]);
	if (j->n_barred > 1)
		left = arena_printf(a, "; %zu nodes are left out", j->n_barred);
	if (!mono_is_never(j->restart_at))
		in = arena_printf(a, " in %lld s", (long long)(mono_sub_ms(j->restart_at, c->now) + 999) / 1000);
	return arena_printf(a, "restarting%s: attempt %u of %u%s%s%s%s", in, j->attempt + 1, j->max_restarts + 1, left,
			    gone, why != NULL ? "; " : "", why != NULL ? why : "");
}

/* ---- told and stored ------------------------------------------------------------------------------------ */

size_t restart_fill_past(struct arena *a, const struct job *j, struct rec_attempt_info **ret)
{
	struct rec_attempt_info *v = arena_alloc(a, j->n_past * sizeof(*v) + 1);

	for (size_t i = 0; v != NULL && i < j->n_past; i++) {
		const struct past *p = &j->past[i];

		memset(&v[i], 0, sizeof(v[i]));
		v[i].attempt = p->attempt;
		v[i].nodes = p->nodes;
		v[i].start_wall_ms = p->start_wall_ms;
		v[i].end_wall_ms = p->end_wall_ms;
		MSG_SET(&v[i], attempt_info, exit_code, p->exit_code);
		v[i].why = p->why;
		v[i].guilty = p->guilty[0] != '\0' ? p->guilty : NULL;
	}
	*ret = v;
	return v != NULL ? j->n_past : 0;
}

void restart_fill_info(struct arena *a, const struct job *j, struct rec_job_info *i)
{
	const char **v;

	if (j->max_restarts == 0)
		return;
	MSG_SET(i, job_info, max_restarts, j->max_restarts);
	MSG_SET(i, job_info, restarts, j->attempt > 0 ? j->attempt - 1 : 0);
	if (j->restart_any)
		MSG_SET(i, job_info, restart_any, true);
	i->n_attempts = restart_fill_past(a, j, &i->attempts);
	i->barred = (const char **)j->barred;
	i->n_barred = j->n_barred;
	v = arena_alloc(a, j->n_kept * sizeof(*v) + 1);
	for (size_t k = 0; v != NULL && k < j->n_kept && k < SPARES_MAX; k++)
		v[i->n_spares++] = j->kept[k].node->name;
	i->spares = v;
}

void restart_fill_row(struct arena *a, const struct coord *c, const struct job *j, struct rec_row_job *r)
{
	if (j->max_restarts == 0)
		return;
	r->max_restarts = j->max_restarts;
	r->restart_any = j->restart_any;
	r->spares = j->want_spares;
	r->n_attempts = restart_fill_past(a, j, &r->attempts);
	r->barred = (const char **)j->barred;
	r->n_barred = j->n_barred;
	r->between = j->between;
	r->stopped = j->stopped;
	r->lease_ms = j->lease_ms;
	r->cause = j->cause;
	r->cause_node = j->cause_node[0] != '\0' ? j->cause_node : NULL;
	if (j->used_ms != 0)
		MSG_SET(r, row_job, used_ms, j->used_ms);
	if (j->state == JOB_ENDING) /* of one that runs its nodes tell */
		MSG_SET(r, row_job, ran_ms, (uint64_t)restart_ran_ms(c, j));
	r->kept = arena_alloc(a, j->n_kept * sizeof(*r->kept) + 1);
	for (size_t i = 0; r->kept != NULL && i < j->n_kept; i++) {
		r->kept[i] = (struct rec_row_place){ .node = j->kept[i].node->name,
						     .boot_id = j->kept[i].boot_id,
						     .gpus = j->kept[i].gpus_text,
						     .gpu_ids = j->kept[i].gpu_ids,
						     .gpu_base = j->kept[i].gpu_base };
		r->n_kept++;
	}
}

void restart_load(struct coord *c, struct job *j, const struct rec_row_job *r)
{
	j->max_restarts = r->max_restarts;
	j->restart_any = r->restart_any;
	j->want_spares = r->spares;
	j->between = r->between;
	j->stopped = r->stopped;
	j->lease_ms = r->lease_ms;
	j->cause = r->cause <= END_USER ? (enum end_cause)r->cause : END_OTHER;
	j->used_ms = r->used_ms;
	j->ran_ms = r->ran_ms < RAN_MS_MAX ? r->ran_ms : RAN_MS_MAX;
	if (j->ran_ms != 0) /* it goes on until all of it is gone */
		j->run_since = mono_add_ms(c->began, -(int64_t)j->ran_ms);
	snprintf(j->cause_node, sizeof(j->cause_node), "%s", r->cause_node != NULL ? r->cause_node : "");
	for (size_t i = 0; i < r->n_barred; i++)
		restart_bar(c, j, r->barred[i]);
	for (size_t i = 0; i < r->n_attempts; i++) {
		const struct rec_attempt_info *a = &r->attempts[i];
		struct past *p = restart_past(c, j);

		if (p == NULL)
			return;
		p->attempt = a->attempt;
		p->nodes = coord_strdup(c, a->nodes);
		p->start_wall_ms = a->start_wall_ms;
		p->end_wall_ms = a->end_wall_ms;
		p->exit_code = a->exit_code;
		p->why = coord_strdup(c, a->why);
		snprintf(p->guilty, sizeof(p->guilty), "%s", a->guilty != NULL ? a->guilty : "");
	}
}
