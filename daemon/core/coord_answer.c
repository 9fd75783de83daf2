/* coord_answer.c - what clients ask: status, jobs, watching one job
 *
 * Everybody may see that jobs exist, whose they are and where they run (as in
 * any queue); ranks, output and causes are for the owner and administrators.
 */
#include "core/coord_internal.h"


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fill_rank(struct arena *a, const struct coord *c, const struct job *j, uint32_t rank,
	       struct rec_rank_state *r)
{
	const struct rank *k = &j->ranks[rank];

	if (j->rank_no != NULL)
		rank = j->rank_no[rank];
	memset(r, 0, sizeof(*r));
	r->rank = rank;
	r->state = rank_state_name((int)k->state);
	r->pid = k->pid;
	if (k->state == RK_EXITED || k->state == RK_FAILED)
		MSG_SET(r, rank_state, code, k->code);
	r->sig = k->sig;
	r->core = k->core;
	r->ours = k->ours;
	r->start_wall_ms = k->start_wall_ms;
	r->end_wall_ms = k->end_wall_ms;
	r->text = k->text;
	r->tail = k->tail;
	r->node = j->places[rank / j->ppn].node->name;
	r->lost_bytes = k->lost_bytes;
	below_fill(&k->below, true, r);
	r->maybe_first = k->maybe_first;
	r->cause = k->found == NULL ? k->cause :
		   k->cause == NULL ? k->found :
				      arena_printf(a, "%.250s; %.250s", k->cause, k->found);
	if (k->has_gpu)
		MSG_SET(r, rank_state, gpu, k->gpu);
	cause_fill_time(c, k, r);
}

static void fill_held_gpus(struct arena *a, const struct job *j, struct rec_job_info *i)
{
	const char **v = arena_alloc(a, j->n_places * sizeof(*v) + 1);
	bool any = false;

	for (size_t k = 0; v != NULL && k < j->n_places; k++) {
		v[k] = j->places[k].gpus_text != NULL ? j->places[k].gpus_text : "";
		any = any || j->places[k].gpus_text != NULL;
	}
	if (v == NULL || !any)
		return;
	i->gpus = v;
	i->n_gpus = j->n_places > 4096 ? 4096 : j->n_places;
}

static void fill_nodes(struct arena *a, struct coord *c, const struct job *j,
		       struct rec_job_info *i)
{
	const char **v = arena_alloc(a, j->n_places * sizeof(*v) + 1);
	char *text;

	if (v == NULL) {
		c->oom = true;
		return;
	}
	for (size_t k = 0; k < j->n_places; k++)
		v[k] = j->places[k].node->name;
	i->node_names = v;
	i->n_node_names = j->n_places > 4096 ? 4096 : j->n_places;
	fill_held_gpus(a, j, i);
	text = hostlist_format(v, j->n_places);
	if (text != NULL && strlen(text) <= 4096)
		i->nodes = arena_strdup(a, text);
	free(text);
}

/* Of the rank that decided, all is told; of the others not what each worker said. */
void bare_workers(struct arena *a, struct rec_rank_state *r)
{
	struct rec_worker *v;

	if (r->n_workers == 0)
		return;
	v = arena_alloc(a, r->n_workers * sizeof(*v));
	if (v == NULL) {
		r->n_workers = 0;
		return;
	}
	memcpy(v, r->workers, r->n_workers * sizeof(*v));
	for (size_t i = 0; i < r->n_workers; i++)
		v[i].exception = NULL;
	r->workers = v;
}

static void fill_either(struct arena *a, struct coord *c, struct job *j, struct rec_job_info *i)
{
	for (uint32_t k = 0; j->first >= 0 && k < j->n_ranks && i->n_either < 8; k++) {
		if (!j->ranks[k].maybe_first)
			continue;
		if (i->either == NULL)
			i->either = arena_alloc(a, 8 * sizeof(*i->either));
		if (i->either == NULL)
			return;
		fill_rank(a, c, j, k, &i->either[i->n_either]);
		i->either[i->n_either++].tail = (struct bytes){ NULL, 0 };
	}
}

static void fill_ranks(struct arena *a, struct coord *c, struct job *j, bool all,
		       struct rec_job_info *i)
{
	uint32_t running = 0;

	for (size_t k = 0; k < j->n_ranks; k++)
		running += j->ranks[k].state == RK_RUNNING;
	MSG_SET(i, job_info, running, running);
	if (j->first >= 0 && (i->first = arena_alloc(a, sizeof(*i->first))) != NULL) {
		fill_rank(a, c, j, (uint32_t)j->first, i->first);
		i->n_first = 1;
	}
	fill_either(a, c, j, i);
	if (job_settled(j))
		i->others = j->saved ? j->others : why_others(a, j);
	if (job_over(j))
		i->n_sums = history_fill_sums(a, j, &i->sums);
	if (!all)
		return;
	i->ranks = arena_alloc(a, j->n_ranks * sizeof(*i->ranks) + 1);
	i->n_ranks = i->ranks != NULL ? j->n_ranks : 0;
	for (uint32_t k = 0; k < i->n_ranks; k++) {
		fill_rank(a, c, j, k, &i->ranks[k]);
		if ((int64_t)k != j->first)
			i->ranks[k].tail = (struct bytes){ NULL, 0 };
		if ((int64_t)k != j->first)
			bare_workers(a, &i->ranks[k]);
	}
}

/* While it is settled but not over (a node is silent): the code is decided. */
static const char *settled_why(struct arena *a, const struct job *j)
{
	const struct node *away = NULL;
	char text[700];

	for (size_t k = 0; k < j->n_places; k++)
		if (j->places[k].phase < PL_ENDED && j->places[k].node->silent)
			away = j->places[k].node;
	snprintf(text, sizeof(text), "%s", j->ending != NULL ? j->ending : "ending");
	if (j->first >= 0)
		why_of_first(j, text, sizeof(text));
	if (away == NULL)
		return arena_printf(a, "%s", text);
	if (away->removed)
		return arena_printf(a, "%s; node %s was taken out of the cluster: its ranks count as lost soon", text,
				    away->name);
	return arena_printf(a, "%s; node %s does not answer: its ranks are ended when it returns", text, away->name);
}

void fill_job(struct arena *a, struct coord *c, struct job *j, bool ranks, struct rec_job_info *i)
{
	bool settled = job_settled(j);

	memset(i, 0, sizeof(*i));
	i->job = j->id;
	i->attempt = j->attempt;
	i->state = job_shown_state(j);
	i->name = j->name;
	i->user = j->user;
	MSG_SET(i, job_info, uid, j->uid);
	i->nnodes = j->nnodes;
	i->world = j->nnodes * j->ppn;
	i->procs_per_node = j->ppn;
	i->command = j->command;
	i->submit_wall_ms = j->submit_wall_ms;
	i->start_wall_ms = j->start_wall_ms;
	i->end_wall_ms = j->end_wall_ms;
	i->time_s = j->time_s;
	i->submit_node = j->submit_node;
	if (!j->all_gpus)
		MSG_SET(i, job_info, gpus_per_node, j->gpus);
	if (j->cause == END_USER && j->state == JOB_FAILED)
		MSG_SET(i, job_info, asked, true);
	i->notices = (const char **)j->notices;
	i->n_notices = j->n_notices;
	i->why = j->why != NULL ? j->why : j->ending != NULL ? j->ending : prepare_waits(a, c, j);
	if (strcmp(i->state, "restarting") == 0)
		i->why = restart_why(a, c, j);
	restart_fill_info(a, j, i);
	if (ranks)
		net_fill(j, &i->net, &i->n_net);
	if (settled && !j->saved)
		i->why = settled_why(a, j);
	if (j->saved)
		MSG_SET(i, job_info, exit_code, j->exit_code);
	else if (settled)
		MSG_SET(i, job_info, exit_code,
			j->first >= 0	    ? rank_code(&j->ranks[j->first]) :
			j->ending_code != 0 ? j->ending_code :
					      1);
	if (j->state == JOB_QUEUED && j->n_past == 0 && !mono_is_never(j->start_by))
		MSG_SET(i, job_info, start_by_wall_ms, c->wall_ms + mono_sub_ms(j->start_by, c->now));
	hang_fill(a, c, j, i);
	if (ranks) {
		i->past_hang = hung_fill(a, j);
		i->n_past_hang = i->past_hang != NULL;
	}
	if (j->n_places == 0)
		return;
	nccl_fill_info(a, j, ranks, i);
	if (ranks)
		ras_fill_info(a, j, i);
	fill_nodes(a, c, j, i);
	fill_ranks(a, c, j, ranks, i);
	if (j->master_addr[0] != '\0')
		i->master = arena_printf(a, strchr(j->master_addr, ':') ? "[%s]:%u" : "%s:%u",
					 j->master_addr, j->master_port);
}

/* ---- status -------------------------------------------------------------------------- */

bool job_holds(struct job *j, const struct node *n)
{
	uint32_t at;

	return (job_place_of(j, n, &at) != NULL && !j->between) || job_kept_at(j, n) != NULL;
}

static void fill_node_jobs(struct arena *a, struct coord *c, const struct node *n,
			   struct rec_node_info *i)
{
	const char **v = arena_alloc(a, 64 * sizeof(*v));

	if (v == NULL || n->jobs == 0)
		return;
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (!job_over(j) && job_holds(j, n) && i->n_job_ids < 64)
			v[i->n_job_ids++] = arena_printf(a, "%llu", (unsigned long long)j->id);
	}
	i->job_ids = v;
}

static void fill_verdicts(struct arena *a, struct coord *c, struct node *n, struct rec_node_info *i)
{
	struct verdicts *v = arena_alloc(a, sizeof(*v));
	int64_t since;
	bool off;

	if (v == NULL)
		return;
	off = verdicts_of(a, c, n, v, NULL);
	if (n->has_skew)
		MSG_SET(i, node_info, skew_bad, off);
	i->attention = v->v;
	i->n_attention = v->n;
	i->brief = verdict_brief(a, v, &since);
	if (i->brief != NULL)
		MSG_SET(i, node_info, brief_since_wall_ms, since);
	if (verdict_bad(v) && strcmp(i->state, "ok") == 0)
		i->state = "degraded";
}

/* Whether jobs may have GPUs is a guess where nobody has looked (node_gpu_truth);
 * a number that is shown is not: it was read, or there is "?". */
static void count_gpus(struct coord *c, const struct node *n, struct rec_node_info *i)
{
	const struct rec_readings *r = node_readings(n);
	const struct rec_source *s = r != NULL ? readings_source(r, "nvml") : NULL;
	enum gpu_truth truth = node_gpu_truth(n);
	uint64_t mine = node_gpus(n);

	if (s != NULL && truth != GPU_UNKNOWN) {
		MSG_SET(i, node_info, gpus, (uint32_t)__builtin_popcountll(mine));
		MSG_SET(i, node_info, gpus_busy,
			(uint32_t)__builtin_popcountll(mine & ~node_gpus_free(c, n, false)));
	} else {
		i->gpus_unknown = n->ever_gpus || (n->link != NULL && n->probe);
	}
}

static void count_ports(const struct node *n, struct rec_node_info *i)
{
	const struct rec_readings *r = node_readings(n);
	uint32_t all, active;

	if (r != NULL && verdict_ports_known(r)) {
		verdict_count_ports(r, &all, &active);
		MSG_SET(i, node_info, ports, all);
		MSG_SET(i, node_info, ports_active, active);
	} else {
		i->ports_unknown = n->ever_ports || (n->link != NULL && n->probe);
	}
}

/* Only of a node that can be asked: what it said before it went is not shown as now. */
static void fill_readings(struct arena *a, struct coord *c, struct node *n, struct rec_node_info *i)
{
	const struct rec_readings *r = node_readings(n);

	if (n->link != NULL && n->has_skew) {
		MSG_SET(i, node_info, skew_us, n->skew_us);
		MSG_SET(i, node_info, skew_error_us, n->skew_error_us);
	}
	i->skew_ref = node_is_ref(c, n);
	if (n->link != NULL)
		fill_verdicts(a, c, n, i);
	count_gpus(c, n, i);
	count_ports(n, i);
	if (r != NULL && r->n_host && MSG_HAS(r->host, host, clock_synced))
		MSG_SET(i, node_info, clock_synced, r->host->clock_synced);
}

static void *copy_rows(struct arena *a, const void *rows, size_t n, size_t size)
{
	return n > 0 ? arena_memdup(a, rows, n * size) : NULL;
}

/* GPUs with the jobs that hold them. */
static struct rec_gpu *fill_gpus(struct arena *a, struct coord *c, const struct node *n,
				 const struct rec_readings *r)
{
	struct rec_gpu *v = copy_rows(a, r->gpus, r->n_gpus, sizeof(*v));

	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		uint32_t at;
		const struct place *p = job_over(j) ? NULL : job_place_of(j, n, &at);

		if (!job_over(j) && job_kept_at(j, n) != NULL)
			p = job_kept_at(j, n);
		for (size_t i = 0; p != NULL && v != NULL && i < r->n_gpus; i++)
			if (p->gpus & node_gpu_bit(n, &v[i]))
				MSG_SET(&v[i], gpu, job, j->id);
	}
	return v;
}

static void fill_detail(struct arena *a, struct coord *c, const struct node *n,
			struct rec_node_info *i)
{
	const struct rec_readings *r = node_readings(n);
	uint64_t age;

	if (r == NULL)
		return;
	i->gpu_list = fill_gpus(a, c, n, r);
	i->n_gpu_list = i->gpu_list != NULL ? r->n_gpus : 0;
	i->port_list = r->ports;
	i->n_port_list = r->n_ports;
	i->host = r->host;
	i->n_host = r->n_host;
	i->sources = copy_rows(a, r->sources, r->n_sources, sizeof(*r->sources));
	i->n_sources = i->sources != NULL ? r->n_sources : 0;
	age = (uint64_t)mono_sub_ms(c->now, n->readings_at);
	for (size_t k = 0; k < i->n_sources; k++)
		if (MSG_HAS(&i->sources[k], source, age_ms))
			i->sources[k].age_ms += age;
}

static void fill_node(struct arena *a, struct coord *c, struct node *n, struct rec_node_info *i)
{
	memset(i, 0, sizeof(*i));
	i->name = n->name;
	i->state = node_state(n);
	if (n->ever)
		MSG_SET(i, node_info, age_ms, (uint64_t)mono_sub_ms(c->now, n->heard));
	MSG_SET(i, node_info, jobs, n->jobs);
	i->cpus = n->cpus;
	i->software = n->software[0] != '\0' ? n->software : NULL;
	i->boot_id = n->boot_id[0] != '\0' ? n->boot_id : NULL;
	i->address = n->n_addrs > 0 ? n->addrs[0].ip : NULL;
	i->submit = n->submit;
	if (n->quarantined)
		i->note = n->same_host ? "two agents on its host used its key; remove it and enrol it again"
				       : "two machines used its key; remove it and enrol it again";
	else if (!n->ever)
		i->note = n->boot_id[0] != '\0' ? "not heard since the coordinator started" :
						 "joined but never heard";
	else if (n->link == NULL)
		i->note = "its agent has ended or is cut off";
	else if (n->silent)
		i->note = "silent; its jobs are left alone";
	i->cordon = node_cordon_text(a, n);
	if (i->cordon != NULL) {
		MSG_SET(i, node_info, cordon_since_wall_ms, n->drain != NULL ? n->drain_wall_ms :
							    n->n_stuck > 0   ? n->stuck_wall_ms :
							    n->held != NULL  ? n->held_wall_ms :
									       n->unfit_wall_ms);
		i->drained = n->drain != NULL;
		i->cordon_by = n->drain != NULL ? "drain" : n->n_stuck > 0 ? "stuck" : n->held != NULL ? "quarantine" : "unfit";
	}
	fill_node_jobs(a, c, n, i);
	fill_readings(a, c, n, i);
}

/* An answer must fit one frame, so long ones are sent in pieces. */
#define NODES_A_PIECE 500
#define NODE_BYTES (768u << 10) /* of one node, which is never parted */

static void status_begin(struct coord *c, struct msg *m, uint32_t rid)
{
	msg_init(m, MSG_status);
	m->u.status.rid = rid;
	m->u.status.cluster = c->cluster;
	m->u.status.coordinator = NA_SOFTWARE;
	m->u.status.wall_ms = c->wall_ms;
}

static void status_piece(struct coord *c, struct clink *l, struct msg *m, struct arena *a,
			 bool more)
{
	m->u.status.more = more;
	act_send(c->out, l->id, m);
	arena_finish(a);
	status_begin(c, m, m->u.status.rid);
}

/* Users choose names and commands, and a control character takes six bytes. */
size_t text_weight(const char *s)
{
	size_t n = 0;

	for (; s != NULL && *s != '\0'; s++)
		n += (unsigned char)*s < 0x20 || *s == 0x7f ? 6 : *s == '"' || *s == '\\' ? 2 : 1;
	return n;
}

/* At least how long a record's JSON may get. */
static size_t node_weight(const struct rec_node_info *i)
{
	size_t n = 1000 + 24 * i->n_job_ids;

	for (size_t k = 0; k < i->n_attention; k++)
		n += 150 + text_weight(i->attention[k].subject) + text_weight(i->attention[k].text) +
		     text_weight(i->attention[k].fix) + text_weight(i->attention[k].brief);
	for (size_t k = 0; k < i->n_port_list; k++)
		n += 900 + text_weight(i->port_list[k].text);
	for (size_t k = 0; k < i->n_gpu_list; k++) {
		n += 1000 + text_weight(i->gpu_list[k].text) + text_weight(i->gpu_list[k].note);
		for (size_t p = 0; p < i->gpu_list[k].n_procs; p++)
			n += 200 + text_weight(i->gpu_list[k].procs[p].name);
	}
	for (size_t k = 0; k < i->n_sources; k++)
		n += 100 + text_weight(i->sources[k].text);
	return n;
}

static size_t nccl_weight(const struct rec_job_info *i)
{
	const struct rec_nccl_sum *s = i->nccl;

	return 900 * i->n_nccl_nodes + (s == NULL ? 0 : 200 + text_weight(s->brief) + text_weight(s->why) +
	       text_weight(s->fix) + text_weight(s->trouble));
}

size_t job_weight(const struct rec_job_info *i)
{
	size_t progress = i->n_progress == 0 ? 0 : 300 + text_weight(i->progress[0].hang) +
			  text_weight(i->progress[0].fix) + text_weight(i->progress[0].note) +
			  text_weight(i->progress[0].threads);

	return 800 + progress + text_weight(i->name) + text_weight(i->command) + text_weight(i->nodes) +
	       text_weight(i->why) + text_weight(i->user) + nccl_weight(i);
}

/* One node's hostile agent must not keep everybody from an answer. */
static void slim(struct rec_node_info *i)
{
	static const char note[] = "it shows more devices or processes than an answer can hold";

	if (node_weight(i) <= NODE_BYTES)
		return;
	i->note = i->note != NULL ? i->note : note;
	for (size_t k = 0; k < i->n_gpu_list; k++) /* our copy */
		i->gpu_list[k].n_procs = 0;
	if (node_weight(i) > NODE_BYTES)
		i->n_gpu_list = i->n_port_list = i->n_sources = 0;
	if (node_weight(i) > NODE_BYTES)
		i->n_attention = 0;
}

/* What is in m at the end, in bytes or a little more, is still to be sent. */
static size_t status_nodes(struct coord *c, struct clink *l, bool detail, struct msg *m,
			   struct arena *a)
{
	struct rec_node_info *v = NULL;
	size_t n = 0, bytes = 0;

	for (size_t i = 0; i < c->n_nodes; i++) {
		if (v == NULL)
			v = arena_alloc(a, NODES_A_PIECE * sizeof(*v));
		if (v == NULL)
			break;
		fill_node(a, c, c->nodes[i], &v[n]);
		if (detail)
			fill_detail(a, c, c->nodes[i], &v[n]);
		slim(&v[n]);
		bytes += node_weight(&v[n++]);
		m->u.status.nodes = v;
		m->u.status.n_nodes = n;
		if (i + 1 < c->n_nodes && (n == NODES_A_PIECE || bytes > PIECE_BYTES)) {
			status_piece(c, l, m, a, true);
			v = NULL;
			n = bytes = 0;
		}
	}
	return bytes;
}

uint32_t asker(const struct clink *l, uint32_t claimed)
{
	return l->who == WHO_LOCAL ? l->uid : claimed;
}

void fill_brief(struct arena *a, struct coord *c, struct job *j, bool mine, struct rec_job_info *i)
{
	fill_job(a, c, j, false, i);
	if (!mine && i->command != NULL) {
		/* arguments may hold secrets: the program's name is enough for others */
		i->command = arena_memdup(a, i->command, strcspn(i->command, " "));
		i->why = NULL;
		if (i->nccl != NULL) /* our copy */
			i->nccl->why = i->nccl->fix = i->nccl->trouble = i->nccl->late = NULL;
		if (i->n_progress > 0)
			hang_hide(i->progress);
	}
	i->n_first = i->n_either = i->n_sums = 0;
	i->others = NULL;
	i->n_notices = 0;
	i->n_attempts = i->n_barred = 0;
	i->n_node_names = 0;
	i->n_gpus = 0;
}

void answer_one_node(struct coord *c, struct clink *l, const struct rec_status_get *g,
		     struct node *n, const struct rec_topology *t)
{
	struct rec_node_info i;
	struct arena a;
	struct msg m;

	arena_init(&a);
	status_begin(c, &m, g->rid);
	fill_node(&a, c, n, &i);
	fill_detail(&a, c, n, &i);
	slim(&i);
	if (t != NULL) {
		i.topology = t->topology;
		i.n_topology = t->n_topology;
		i.numa = t->numa;
		i.n_numa = t->n_numa;
	}
	m.u.status.nodes = &i;
	m.u.status.n_nodes = 1;
	status_piece(c, l, &m, &a, false);
}

static void one_node(struct coord *c, struct clink *l, const struct rec_status_get *g)
{
	struct node *n = node_find(c, g->node);

	if (n == NULL)
		coord_refuse(c, l, g->rid, "not-found",
			     "no node named %s in this cluster; 'nodectl nodes' lists them", g->node);
	else if (!g->topology || !topology_ask(c, l, g, n))
		answer_one_node(c, l, g, n, NULL);
}

void answer_status(struct coord *c, struct clink *l, const struct rec_status_get *g)
{
	struct rec_job_info *info;
	struct arena a;
	size_t bytes;
	struct msg m;

	if (g->node != NULL) {
		one_node(c, l, g);
		return;
	}
	arena_init(&a);
	status_begin(c, &m, g->rid);
	bytes = status_nodes(c, l, g->detail, &m, &a);
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (job_over(j) || !j->stored)
			continue;
		if (m.u.status.n_jobs == JOBS_A_PIECE || bytes > PIECE_BYTES) {
			status_piece(c, l, &m, &a, true);
			bytes = 0;
		}
		if (m.u.status.jobs == NULL)
			m.u.status.jobs = arena_alloc(&a, JOBS_A_PIECE * sizeof(*m.u.status.jobs));
		if (m.u.status.jobs == NULL)
			break;
		info = &m.u.status.jobs[m.u.status.n_jobs++];
		fill_brief(&a, c, j, may_touch_job(l, asker(l, g->uid), j), info);
		bytes += job_weight(info);
	}
	status_piece(c, l, &m, &a, false);
}

/* ---- watching ------------------------------------------------------------------------------ */

void watch_free(struct coord *c, struct watch *w)
{
	if (w->link->who == WHO_NODE)
		peers_unwatched(c, w->job);
	w->link->n_watches--;
	list_remove(&w->of_link);
	list_remove(&w->of_job);
	free(w);
}

/* Who reads an earlier attempt is told of its nodes as if they were the job's. */
static void show_earlier(struct arena *a, struct rec_job_info *i, uint32_t attempt, struct node **nodes, size_t n)
{
	const char **v = arena_alloc(a, n * sizeof(*v) + 1);

	for (size_t k = 0; v != NULL && k < n; k++)
		v[k] = nodes[k] != NULL ? nodes[k]->name : "?";
	i->attempt = attempt;
	i->node_names = v;
	i->n_node_names = v == NULL ? 0 : n > 4096 ? 4096 : n;
	i->nodes = NULL;
}

#define PEERS_BYTES (384u << 10) /* beside a job that has as many names of nodes, and a history */

/* As JSON, about. */
static size_t peer_weight(const struct rec_peer *p)
{
	size_t bytes = 100 + strlen(p->node);

	for (size_t i = 0; i < p->n_addrs; i++)
		bytes += 24 + strlen(p->addrs[i].ip) + (p->addrs[i].ifname != NULL ? strlen(p->addrs[i].ifname) : 0);
	return bytes;
}

/* Thousands of nodes with many addresses do not fit one frame. */
static void send_in_pieces(struct coord *c, struct watch *w, struct msg *m)
{
	struct rec_job_update *u = &m->u.job_update;
	struct rec_peer *all = u->peers;
	size_t n = u->n_peers, at = 0;

	do {
		size_t bytes = 0, k = 0;

		while (at + k < n && (k == 0 || bytes + peer_weight(&all[at + k]) <= PEERS_BYTES))
			bytes += peer_weight(&all[at + k++]);
		u->peers = n > 0 ? &all[at] : NULL;
		u->n_peers = k;
		at += k;
		u->more = at < n;
		act_send(c->out, w->link->id, m);
	} while (at < n);
}

static void send_update(struct coord *c, struct watch *w)
{
	static const struct node nobody = { .name = "?", .removed = true };
	uint32_t at = w->attempt != 0 ? w->attempt : w->job->attempt;
	struct job *j = w->job;
	struct node **nodes;
	size_t n;
	struct rec_job_info info;
	struct arena a;
	struct msg m;

	arena_init(&a);
	msg_init(&m, MSG_job_update);
	fill_job(&a, c, j, false, &info);
	m.u.job_update.rid = w->rid;
	m.u.job_update.job = &info;
	m.u.job_update.n_job = 1;
	m.u.job_update.settled = job_settled(j);
	w->settled_sent = m.u.job_update.settled;
	n = peers_nodes(c, j, at, &nodes);
	if (at != j->attempt)
		show_earlier(&a, &info, at, nodes, n);
	if (w->peers_attempt != at && n > 0 && w->link->who == WHO_NODE) {
		struct rec_peer *p = arena_alloc(&a, n * sizeof(*p));

		for (size_t i = 0; p != NULL && i < n; i++)
			nodes_fill_peer(nodes[i] != NULL ? nodes[i] : &nobody, &p[i]);
		m.u.job_update.peers = p;
		m.u.job_update.n_peers = p != NULL ? n : 0;
		w->peers_attempt = at;
		peers_tell_places(c, j);
	}
	send_in_pieces(c, w, &m);
	arena_finish(&a);
}

void answer_watch(struct coord *c, struct clink *l, const struct rec_watch *r)
{
	struct job *j = job_find(c, r->job);
	struct node **nodes;
	struct watch *w;
	uint32_t uid;

	if (!request_uid(c, l, r->rid, MSG_HAS(r, watch, uid), r->uid, &uid))
		return;
	if (refuse_job(c, l, r->rid, r->job, j, uid))
		return;
	if (r->attempt > j->attempt || (r->attempt != 0 && peers_nodes(c, j, r->attempt, &nodes) == 0)) {
		coord_refuse(c, l, r->rid, "not-found", "job %llu has no attempt %u: 'nodectl job %llu' lists them",
			     (unsigned long long)j->id, r->attempt, (unsigned long long)j->id);
		return;
	}
	if (l->n_watches >= (l->who == WHO_NODE ? NODE_WATCHES_MAX : LOCAL_WATCHES_MAX)) {
		coord_refuse(c, l, r->rid, "busy", "%u jobs are watched on this connection already; "
			     "end some of these commands first", l->n_watches);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (w == NULL) {
		c->oom = true;
		return;
	}
	w->link = l;
	w->job = j;
	w->rid = r->rid;
	w->attempt = r->attempt;
	l->n_watches++;
	list_append(&l->watches, &w->of_link);
	list_append(&j->watches, &w->of_job);
	send_update(c, w);
}

void answer_unwatch(struct coord *c, struct clink *l, const struct rec_unwatch *u)
{
	list_foreach_safe(e, &l->watches) {
		struct watch *w = list_entry(e, struct watch, of_link);

		if (w->rid == u->rid)
			watch_free(c, w);
	}
}

/* Neither command nor causes: they may hold what is the user's alone. */
static void log_job(struct coord *c, struct job *j)
{
	const char *was = j->logged != NULL ? j->logged : "new";
	char text[512] = "";

	if (!j->stored)
		return;
	j->logged = job_shown_state(j);
	if (strcmp(was, j->logged) == 0)
		return;
	if (j->saved)
		snprintf(text, sizeof(text), " (exit code %u)", j->exit_code);
	else if (strcmp(was, "new") == 0)
		snprintf(text, sizeof(text), " (of %s, from %s: %u node%s, %u process%s each)", j->user,
			 j->submit_node, j->nnodes, j->nnodes == 1 ? "" : "s", j->ppn,
			 j->ppn == 1 ? "" : "es");
	act_log(c->out, j->id, "job %llu: %s -> %s%s", (unsigned long long)j->id, was, j->logged, text);
	events_job(c, j);
}

void watches_flush(struct coord *c)
{
	c->have_dirty = false;
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (!j->dirty)
			continue;
		j->dirty = false;
		cause_settle(c, j);
		log_job(c, j);
		list_foreach(f, &j->watches)
			send_update(c, list_entry(f, struct watch, of_job));
	}
}
