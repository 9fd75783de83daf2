/* coord_rows.c - the coordinator's state to and from stored rows
 *
 * Everything is written as messages of messages.def, so a field is named once.
 * A job in mid-life comes back as 'recovering': its nodes tell what became of it.
 */
#include "core/coord_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a job that is over boots and names of GPUs matter no more. */
static void row_of_places(struct arena *a, const struct job *j, struct rec_row_job *r)
{
	bool over = job_over(j), gpus = !over || !j->saved || j->gpus_left;

	r->places = arena_alloc(a, j->n_places * sizeof(*r->places) + 1);
	r->n_places = r->places != NULL ? j->n_places : 0;
	for (size_t i = 0; i < r->n_places; i++) {
		r->places[i].node = j->places[i].node->name;
		r->places[i].boot_id = over ? "" : j->places[i].boot_id;
		r->places[i].gpus = j->places[i].gpus_text;
		r->places[i].gpu_ids = gpus ? j->places[i].gpu_ids : NULL;
		r->places[i].gpu_base = gpus ? j->places[i].gpu_base : NULL;
		r->places[i].leased = j->places[i].leased;
	}
}

/* All of them while it is being ended, for they may decide; when it is over those that are kept. */
static void row_of_ranks(struct arena *a, struct coord *c, struct job *j, struct rec_row_job *r)
{
	uint32_t pick[HISTORY_RANKS];
	bool over = job_over(j);
	size_t n = over ? history_pick(j, pick) : j->n_ranks;

	r->ranks = arena_alloc(a, n * sizeof(*r->ranks) + 1);
	r->n_ranks = r->ranks != NULL ? n : 0;
	for (uint32_t i = 0; i < r->n_ranks; i++) {
		uint32_t at = over ? pick[i] : i;

		fill_rank(a, c, j, at, &r->ranks[i]);
		below_fill(&j->ranks[at].below, false, &r->ranks[i]); /* history: those that ended badly */
		if ((int64_t)at == j->first)
			continue;
		r->ranks[i].tail = (struct bytes){ NULL, 0 };
		bare_workers(a, &r->ranks[i]);
	}
}

void row_of_job(struct arena *a, struct coord *c, struct job *j, struct msg *m)
{
	struct rec_row_job *r = &m->u.row_job;

	msg_init(m, MSG_row_job);
	r->job = j->id;
	r->client_id = j->client_id;
	r->state = job_state_name(j->state);
	r->attempt = j->attempt;
	r->uid = j->uid;
	r->user = j->user;
	r->submit_node = j->submit_node;
	r->spec_hash = (struct bytes){ j->spec_hash, 32 };
	r->spec_size = j->spec_size;
	r->nnodes = j->nnodes;
	r->hosts = j->hosts;
	r->exclude = j->exclude;
	r->procs_per_node = j->ppn;
	r->name = j->name;
	r->command = j->command;
	r->grace_ms = j->grace_ms;
	r->time_s = j->time_s;
	r->immediate = j->immediate;
	r->with_stdin = j->with_stdin;
	r->per_node = j->per_node;
	if (!j->all_gpus)
		MSG_SET(r, row_job, gpus_per_node, j->gpus);
	r->busy_gpus = j->busy_gpus;
	r->first_settled = j->first_settled;
	story_fill(a, j, &r->story, &r->n_story);
	r->story_dropped = j->story.dropped;
	r->submit_wall_ms = j->submit_wall_ms;
	r->start_wall_ms = j->start_wall_ms;
	r->end_wall_ms = j->end_wall_ms;
	r->why = j->why;
	r->ending = j->ending;
	r->ending_code = j->ending_code;
	r->on_hang = on_hang_name(j);
	hang_fill_row(j, r);
	r->past_hang = hung_fill(a, j);
	r->n_past_hang = r->past_hang != NULL;
	restart_fill_row(a, c, j, r);
	r->notices = (const char **)j->notices;
	r->n_notices = j->n_notices;
	if (job_over(j))
		MSG_SET(r, row_job, exit_code, j->exit_code);
	row_of_places(a, j, r);
	if (j->first >= 0 && (r->first = arena_alloc(a, sizeof(*r->first))) != NULL) {
		fill_rank(a, c, j, (uint32_t)j->first, r->first);
		r->n_first = 1;
	}
	if (job_over(j)) {
		r->n_sums = history_fill_sums(a, j, &r->sums);
		r->others = j->saved ? j->others : why_others(a, j);
	}
	if (job_over(j) || j->state == JOB_ENDING || j->between)
		row_of_ranks(a, c, j, r);
	nccl_fill_row(a, j, r);
	cause_fill_clock(c, j, r);
	net_fill(j, &r->net, &r->n_net);
}

void persist_job(struct coord *c, struct action *p, struct job *j)
{
	struct arena a;
	struct msg m;
	char key[24];

	arena_init(&a);
	row_of_job(&a, c, j, &m);
	/* Whether it runs its nodes tell: a restart takes it for one that is being started. */
	if (j->state == JOB_RUNNING)
		m.u.row_job.state = job_state_name(JOB_PREPARING);
	story_saved(j);
	snprintf(key, sizeof(key), "%llu", (unsigned long long)j->id);
	act_row(c->out, p, TABLE_JOB, key, &m);
	arena_finish(&a);
}

void persist_node(struct coord *c, struct action *p, const struct node *n)
{
	struct msg m;

	msg_init(&m, MSG_row_node);
	m.u.row_node.node = n->name;
	m.u.row_node.key = (struct bytes){ n->key, 32 };
	m.u.row_node.submit = n->submit;
	MSG_SET(&m.u.row_node, row_node, uid_min, n->uid_min);
	MSG_SET(&m.u.row_node, row_node, uid_max, n->uid_max);
	m.u.row_node.joined_wall_ms = n->joined_wall_ms;
	m.u.row_node.boot_id = n->boot_id[0] != '\0' ? n->boot_id : NULL;
	m.u.row_node.drain = n->drain;
	m.u.row_node.drain_by = n->drain_by;
	if (n->drain != NULL)
		m.u.row_node.drain_wall_ms = n->drain_wall_ms;
	m.u.row_node.stuck = n->stuck;
	m.u.row_node.n_stuck = n->n_stuck;
	if (n->n_stuck > 0)
		m.u.row_node.stuck_wall_ms = n->stuck_wall_ms;
	m.u.row_node.unfit = n->unfit;
	m.u.row_node.unfit_wall_ms = n->unfit != NULL ? n->unfit_wall_ms : 0;
	m.u.row_node.held = n->held;
	m.u.row_node.held_wall_ms = n->held != NULL ? n->held_wall_ms : 0;
	checks_best_save(c, n, &m.u.row_node);
	if (n->excused)
		MSG_SET(&m.u.row_node, row_node, excused, true);
	fix_fill_row(&c->out->arena, c, n, &m.u.row_node);
	act_row(c->out, p, TABLE_NODE, n->name, &m);
}

void persist_revoked(struct coord *c, struct action *p, const struct node *n, bool out)
{
	char key[65];
	struct msg m;

	for (int i = 0; i < 32; i++)
		snprintf(key + 2 * i, 3, "%02x", n->key[i]);
	msg_init(&m, MSG_row_revoked);
	m.u.row_revoked.node = n->name;
	m.u.row_revoked.key = (struct bytes){ n->key, 32 };
	m.u.row_revoked.removed_wall_ms = c->wall_ms;
	act_row(c->out, p, TABLE_REVOKED, key, out ? &m : NULL);
}

void persist_token(struct coord *c, struct action *p, const struct token *t)
{
	struct msg m;

	msg_init(&m, MSG_row_token);
	m.u.row_token.id = t->id;
	m.u.row_token.secret_hash = (struct bytes){ t->secret_hash, 32 };
	m.u.row_token.expires_wall_ms = t->expires_wall_ms;
	m.u.row_token.uses = t->uses;
	m.u.row_token.nodes = t->nodes;
	m.u.row_token.submit = t->submit;
	MSG_SET(&m.u.row_token, row_token, uid_min, t->uid_min);
	MSG_SET(&m.u.row_token, row_token, uid_max, t->uid_max);
	act_row(c->out, p, TABLE_TOKEN, t->id, t->uses > 0 ? &m : NULL);
}

void persist_cluster(struct coord *c, struct action *p)
{
	struct msg m;

	msg_init(&m, MSG_row_cluster);
	m.u.row_cluster.cluster = c->cluster;
	m.u.row_cluster.lineage = c->lineage;
	m.u.row_cluster.next_job = c->next_job;
	act_row(c->out, p, TABLE_CLUSTER, "cluster", &m);
}

/* ---- and back ---------------------------------------------------------------- */

static int load_cluster(struct coord *c, const struct rec_row_cluster *r)
{
	snprintf(c->cluster, sizeof(c->cluster), "%s", r->cluster);
	c->lineage = r->lineage;
	if (r->next_job > c->next_job)
		c->next_job = r->next_job;
	return 0;
}

static int load_node(struct coord *c, const struct rec_row_node *r, struct err *e)
{
	struct node *n;

	if (r->key.n != 32 || !node_name_valid(r->node) || node_find(c, r->node) != NULL)
		return err_set(e, EINVAL, "stored node %s makes no sense", r->node);
	n = calloc(1, sizeof(*n));
	if (n == NULL)
		return -ENOMEM;
	snprintf(n->name, sizeof(n->name), "%s", r->node);
	snprintf(n->boot_id, sizeof(n->boot_id), "%s", r->boot_id ? r->boot_id : "");
	memcpy(n->key, r->key.p, 32);
	n->submit = r->submit;
	n->uid_min = r->uid_min;
	n->uid_max = r->uid_max;
	n->joined_wall_ms = r->joined_wall_ms;
	n->drain = coord_strdup(c, r->drain);
	n->drain_by = coord_strdup(c, r->drain_by);
	n->drain_wall_ms = r->drain_wall_ms;
	n->stuck_wall_ms = r->stuck_wall_ms;
	n->unfit = coord_strdup(c, r->unfit);
	n->unfit_wall_ms = r->unfit_wall_ms;
	n->held = coord_strdup(c, r->held);
	n->held_wall_ms = r->held_wall_ms;
	n->excused = r->excused;
	n->fit_since = MONO_NEVER;
	if (checks_best_load(n, r) < 0 || fix_load(c, r) < 0)
		c->oom = true;
	node_set_stuck(c, n, r->stuck, r->n_stuck); /* no memory: said by c->oom */
	n->heard = c->began; /* a full term before it can be lost */
	if (node_insert(c, n) < 0) {
		free(n);
		return -ENOMEM;
	}
	return 0;
}

static int load_revoked(struct coord *c, const struct rec_row_revoked *r, struct err *e)
{
	struct node *n;

	if (r->key.n != 32 || !node_name_valid(r->node))
		return err_set(e, EINVAL, "stored key of %s, which is out, makes no sense", r->node);
	n = calloc(1, sizeof(*n));
	if (n == NULL)
		return -ENOMEM;
	snprintf(n->name, sizeof(n->name), "%s", r->node);
	memcpy(n->key, r->key.p, 32);
	n->removed = true;
	n->heard = c->began;
	n->next_removed = c->removed;
	c->removed = n;
	return 0;
}

static int load_token(struct coord *c, const struct rec_row_token *r, struct err *e)
{
	struct token *t;

	if (r->secret_hash.n != 32)
		return err_set(e, EINVAL, "stored token %s makes no sense", r->id);
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return -ENOMEM;
	snprintf(t->id, sizeof(t->id), "%s", r->id);
	memcpy(t->secret_hash, r->secret_hash.p, 32);
	t->expires_wall_ms = r->expires_wall_ms;
	t->uses = r->uses;
	t->nodes = coord_strdup(c, r->nodes);
	t->submit = r->submit;
	t->uid_min = r->uid_min;
	t->uid_max = r->uid_max;
	list_append(&c->tokens, &t->all);
	return 0;
}

static int state_from_name(const char *name, enum job_state *ret)
{
	for (int s = JOB_QUEUED; s <= JOB_LOST; s++)
		if (strcmp(job_state_name((enum job_state)s), name) == 0) {
			*ret = (enum job_state)s;
			return 0;
		}
	return -EINVAL;
}

/* One for each name: a long history names the same nodes again and again. */
static struct node *stand_in_for(struct coord *c, const char *name)
{
	struct node *n = c->removed;

	while (n != NULL && !(n->stand_in && strcmp(n->name, name) == 0))
		n = n->next_removed;
	if (n != NULL)
		return n;
	n = calloc(1, sizeof(*n));
	if (n == NULL)
		return NULL;
	snprintf(n->name, sizeof(n->name), "%s", name);
	n->removed = n->stand_in = true;
	n->heard = c->began;
	n->next_removed = c->removed;
	c->removed = n;
	return n;
}

/* Nodes may be loaded after jobs, so places are resolved in coord_loaded();
 * until then a placeholder node carries the name. */
/* Of a job that is over no names of GPUs: they are given back. */
static int load_place(struct coord *c, struct place *p, const struct rec_row_place *r, bool over)
{
	p->node = stand_in_for(c, r->node);
	if (p->node == NULL)
		return -ENOMEM;
	p->leased = r->leased;
	p->gpu_base = coord_strdup(c, r->gpu_base);
	snprintf(p->boot_id, sizeof(p->boot_id), "%s", r->boot_id);
	if (over && r->gpu_ids == NULL) {
		p->gpus_text = coord_strdup(c, r->gpus);
		return 0;
	}
	return place_load_gpus(p, r->gpus, r->gpu_ids);
}

static int load_places(struct coord *c, struct job *j, const struct rec_row_job *r)
{
	if (r->n_places == 0)
		return 0;
	j->places = calloc(r->n_places, sizeof(*j->places));
	if (j->places == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < r->n_places; i++) {
		if (load_place(c, &j->places[i], &r->places[i], job_over(j)) < 0)
			return -ENOMEM;
		j->n_places++;
	}
	return job_alloc_ranks(j);
}

static int load_kept(struct coord *c, struct job *j, const struct rec_row_job *r)
{
	if (r->n_kept == 0 || job_over(j)) /* it was written while it still held them */
		return 0;
	j->kept = calloc(r->n_kept, sizeof(*j->kept));
	if (j->kept == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < r->n_kept; i++) {
		if (load_place(c, &j->kept[i], &r->kept[i], false) < 0)
			return -ENOMEM;
		j->n_kept++;
	}
	return 0;
}

static void load_ranks(struct coord *c, struct job *j, const struct rec_row_job *r)
{
	assert(j->ppn > 0); /* load_job() has seen to it */
	for (size_t i = 0; i < r->n_ranks; i++)
		job_update_rank(c, j, r->ranks[i].rank / j->ppn, &r->ranks[i]);
	if (r->n_first == 1 && r->first[0].rank < j->n_ranks) {
		job_update_rank(c, j, r->first[0].rank / j->ppn, &r->first[0]);
		j->first = r->first[0].rank;
	}
}

static void load_job_fields(struct coord *c, struct job *j, const struct rec_row_job *r)
{
	j->id = r->job;
	j->attempt = r->attempt;
	j->uid = r->uid;
	j->spec_size = r->spec_size;
	j->nnodes = r->nnodes;
	j->ppn = r->procs_per_node;
	j->grace_ms = r->grace_ms;
	j->time_s = r->time_s;
	j->immediate = r->immediate;
	j->with_stdin = r->with_stdin;
	j->per_node = r->per_node;
	j->all_gpus = !MSG_HAS(r, row_job, gpus_per_node);
	j->gpus = r->gpus_per_node;
	j->busy_gpus = r->busy_gpus;
	j->submit_wall_ms = r->submit_wall_ms;
	j->start_wall_ms = r->start_wall_ms;
	j->end_wall_ms = r->end_wall_ms;
	j->exit_code = r->exit_code;
	j->ending_code = r->ending_code;
	snprintf(j->client_id, sizeof(j->client_id), "%s", r->client_id);
	snprintf(j->user, sizeof(j->user), "%s", r->user);
	snprintf(j->submit_node, sizeof(j->submit_node), "%s", r->submit_node);
	memcpy(j->spec_hash, r->spec_hash.p, 32);
	j->hosts = coord_strdup(c, r->hosts);
	j->exclude = coord_strdup(c, r->exclude);
	j->name = coord_strdup(c, r->name);
	j->command = coord_strdup(c, r->command);
	j->why = coord_strdup(c, r->why);
	j->ending = coord_strdup(c, r->ending);
	for (size_t i = 0; i < r->n_notices && j->n_notices < 16; i++)
		j->notices[j->n_notices++] = coord_strdup(c, r->notices[i]);
	story_load(c, j, r->story, r->n_story, r->story_dropped);
	j->stored = true;
	j->first = -1;
	j->first_settled = r->first_settled || (r->exit_code != 0 && r->n_first > 0);
	j->late_look = MONO_NEVER;
	j->prepare_until = j->run_until = j->retry_save = j->story_save = MONO_NEVER;
	j->end_by = j->start_by = j->restart_at = j->run_since = MONO_NEVER;
	j->on_hang = on_hang_from(r->on_hang) > 0 ? (enum on_hang)on_hang_from(r->on_hang) : ON_HANG_REPORT;
	hang_load(j, r);
	if (r->n_past_hang == 1)
		hung_load(c, j, r->past_hang);
	restart_load(c, j, r);
	nccl_load(c, j, r);
	j->settle_at = j->started_at = MONO_NEVER;
	if (r->n_net == 1)
		net_load(c, j, r->net);
	list_init(&j->watches);
}

/* Keeps the list in order of job numbers whatever the order of rows. */
static void insert_by_id(struct coord *c, struct job *j)
{
	struct list *at = c->jobs.prev;

	while (at != &c->jobs && list_entry(at, struct job, all)->id > j->id)
		at = at->prev;
	list_append(at->next, &j->all);
}

static int load_job(struct coord *c, const struct rec_row_job *r, struct err *e)
{
	struct job *j = calloc(1, sizeof(*j));
	enum job_state s;

	if (j == NULL)
		return -ENOMEM;
	list_init(&j->all);
	list_init(&j->of_ended);
	list_init(&j->watches);
	if (r->job == 0 || r->spec_hash.n != 32 || r->procs_per_node == 0 || state_from_name(r->state, &s) < 0 ||
	    (uint64_t)r->nnodes * r->procs_per_node > JOB_RANKS_MAX ||
	    (r->n_places != 0 && r->n_places != r->nnodes) || job_find(c, r->job) != NULL) {
		free(j);
		return err_set(e, EINVAL, "stored job %llu makes no sense",
			       (unsigned long long)r->job);
	}
	load_job_fields(c, j, r);
	j->state = s == JOB_RUNNING ? JOB_PREPARING : s; /* whether it was started its nodes know */
	j->end_stored = j->end_told = s == JOB_ENDING;
	insert_by_id(c, j);
	if (load_places(c, j, r) < 0 || load_kept(c, j, r) < 0 || map_put(&c->jobs_by_id, j->id, j) < 0)
		return -ENOMEM;
	load_ranks(c, j, r);
	cause_loaded(c, j, r);
	if (j->id >= c->next_job)
		c->next_job = j->id + 1;
	if (job_over(j)) {
		j->saved = true;
		history_add(c, j);
		for (size_t i = 0; i < j->n_places; i++)
			j->gpus_left = j->gpus_left || (j->places[i].gpu_ids != NULL && j->start_wall_ms != 0);
		history_load(c, j, r);
	}
	return 0;
}

int coord_load(struct coord *c, const struct msg *row, struct err *e)
{
	int r = 0;

	switch (row->type) {
	case MSG_row_cluster:
		r = load_cluster(c, &row->u.row_cluster);
		break;
	case MSG_row_node:
		r = load_node(c, &row->u.row_node, e);
		break;
	case MSG_row_revoked:
		r = load_revoked(c, &row->u.row_revoked, e);
		break;
	case MSG_row_token:
		r = load_token(c, &row->u.row_token, e);
		break;
	case MSG_row_job:
		r = load_job(c, &row->u.row_job, e);
		break;
	case MSG_row_event:
		r = events_load(c, &row->u.row_event, e);
		break;
	case MSG_row_base:
		r = base_load(c, row, e);
		break;
	default:
		r = err_set(e, EINVAL, "a stored row is of type %s", msg_name(row->type));
	}
	return c->oom ? -ENOMEM : r;
}

static void resolve(struct coord *c, struct place *v, size_t count, bool held)
{
	for (size_t i = 0; i < count; i++) {
		struct node *n = node_find(c, v[i].node->name);

		if (n == NULL)
			n = node_removed_find(c, v[i].node->name);
		if (n != NULL)
			v[i].node = n;
		if (!held)
			continue;
		v[i].node->jobs++;
		place_hold_loaded(c, &v[i]);
	}
}

static void resolve_places(struct coord *c, struct job *j)
{
	resolve(c, j->places, j->n_places, !job_over(j) && !j->between);
	resolve(c, j->kept, j->n_kept, !job_over(j));
}

static void name_places(const struct place *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		v[i].node->named = true;
}

/* Those that no job names, for its node is here. */
static void free_stand_ins(struct coord *c)
{
	struct node **at = &c->removed;

	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		name_places(j->places, j->n_places);
		name_places(j->kept, j->n_kept);
	}
	while (*at != NULL) {
		struct node *n = *at;

		if (!n->stand_in || n->named) {
			at = &n->next_removed;
			continue;
		}
		*at = n->next_removed;
		node_free(n);
	}
}

void coord_loaded(struct coord *c, struct actions *out)
{
	list_foreach(e, &c->jobs)
		resolve_places(c, list_entry(e, struct job, all));
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		clean_loaded(c, j);
		if (!job_over(j) && j->between)
			restart_loaded(c, j);
		if (job_over(j) || j->n_places == 0 || j->between)
			continue;
		j->recovering = j->restored = true;
		j->logged = job_shown_state(j);
		if (j->ending == NULL)
			coord_set_text(c, &j->why,
				       "the coordinator was restarted; waiting for the job's nodes");
	}
	free_stand_ins(c);
	history_loaded(c);
	events_loaded(c);
	c->out = out;
	events_jobs_loaded(c);
	c->out = NULL;
	coord_wake_at(c, c->now);
	c->have_dirty = true;
}
