/* coord_specs.c - who has the specification of a job, and who must keep it
 *
 * The node where a job was submitted keeps it until the job is over for good. Of
 * a job that may be started again the nodes of each attempt and its spares keep a
 * copy, so that no attempt needs the first node, which is often the one that was
 * lost. Nodes tell what they hold when they register and when they have got
 * a copy; here that is only remembered.
 *
 * The nodes of an attempt are sent to the first node if it is there, and to some
 * others that hold a copy. Whoever fetches compares the hash.
 *
 * All are told when the end is on disk ('forget' with 'over'), and at each
 * registration a node gets the whole list of unfinished jobs that it keeps
 * something for, in case it was away when one ended.
 */
#include "core/coord_internal.h"

#include <stdlib.h>
#include <string.h>

#define USES_A_PIECE 8192 /* below 1 MiB */

/* ---- who holds it ------------------------------------------------------------------ */

static bool holds(const struct job *j, const struct node *n)
{
	for (size_t i = 0; i < j->n_copies; i++)
		if (j->copies[i] == n)
			return true;
	return false;
}

static void add_copy(struct coord *c, struct job *j, struct node *n)
{
	struct node **v;

	if (holds(j, n))
		return;
	v = realloc(j->copies, (j->n_copies + 1) * sizeof(struct node *));
	if (v == NULL) {
		c->oom = true;
		return;
	}
	j->copies = v;
	v[j->n_copies++] = n;
}

static void remove_copy(struct job *j, const struct node *n)
{
	for (size_t i = 0; i < j->n_copies; i++)
		if (j->copies[i] == n) {
			memmove(&j->copies[i], &j->copies[i + 1], (j->n_copies - i - 1) * sizeof(struct node *));
			j->n_copies--;
			return;
		}
}

static bool answers(const struct node *n)
{
	return n != NULL && n->link != NULL && !n->silent && !n->quarantined;
}

static bool is_among(const struct rec_node_register *r, const uint8_t hash[32])
{
	for (size_t i = 0; i + 32 <= r->specs.n; i += 32)
		if (memcmp(r->specs.p + i, hash, 32) == 0)
			return true;
	return false;
}

static void note_held(struct coord *c, struct node *n, const struct rec_node_register *r)
{
	n->keeps_specs = r->keeps_specs;
	n->sets_env = r->sets_env;
	n->fixes_sm = r->fixes_sm;
	n->tells_fix = r->tells_fix;
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (j->saved || j->max_restarts == 0)
			continue;
		if (n->keeps_specs && is_among(r, j->spec_hash))
			add_copy(c, j, n);
		else
			remove_copy(j, n);
	}
}

void specs_node_left(struct coord *c, const struct node *n)
{
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		size_t left = 0;

		remove_copy(j, n);
		for (size_t i = 0; i < j->n_sources; i++)
			if (j->sources[i] != n)
				j->sources[left++] = j->sources[i];
		j->n_sources = left;
	}
}

/* ---- what they must keep --------------------------------------------------------------- */

static void send_piece(struct coord *c, struct clink *l, const struct rec_spec_use *v, size_t n,
		       bool more)
{
	struct msg m;

	msg_init(&m, MSG_specs_used);
	m.u.specs_used.uses = (struct rec_spec_use *)v;
	m.u.specs_used.n_uses = n;
	m.u.specs_used.more = more;
	act_send(c->out, l->id, &m);
}

static bool must_keep(const struct job *j, const struct node *n)
{
	return !j->saved && (strcmp(j->submit_node, n->name) == 0 || holds(j, n));
}

/* Also jobs that are not on disk yet: their submit may have come over an
 * earlier session, whose answer is lost. */
static void tell_used(struct coord *c, const struct node *n)
{
	struct arena a;
	struct rec_spec_use *v;
	size_t k = 0;

	arena_init(&a);
	v = arena_alloc(&a, USES_A_PIECE * sizeof(*v));
	if (v == NULL) {
		c->oom = true;
		return;
	}
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (!must_keep(j, n))
			continue;
		if (k == USES_A_PIECE) {
			send_piece(c, n->link, v, k, true);
			k = 0;
		}
		memset(&v[k], 0, sizeof(v[k]));
		v[k].job = j->id;
		v[k++].hash = (struct bytes){ j->spec_hash, 32 };
	}
	send_piece(c, n->link, v, k, false);
	arena_finish(&a);
}

static void send_over(struct coord *c, const struct node *n, uint64_t job, uint32_t attempt)
{
	struct msg m;

	if (n == NULL || n->link == NULL)
		return;
	msg_init(&m, MSG_forget);
	m.u.forget.job = job;
	m.u.forget.attempt = attempt;
	m.u.forget.over = true;
	act_send(c->out, n->link->id, &m);
}

/* Its places too: their word of a copy may be on its way. */
void specs_over(struct coord *c, struct job *j)
{
	const struct node *n = node_find(c, j->submit_node);

	send_over(c, n, j->id, j->attempt);
	for (size_t i = 0; i < j->n_copies; i++)
		if (j->copies[i] != n)
			send_over(c, j->copies[i], j->id, j->attempt);
	for (uint32_t i = 0; j->max_restarts > 0 && i < j->n_places; i++)
		if (j->places[i].node != n && !holds(j, j->places[i].node))
			send_over(c, j->places[i].node, j->id, j->attempt);
	free(j->copies);
	j->copies = NULL;
	j->n_copies = 0;
}

/* ---- where an attempt finds it ------------------------------------------------------------ */

bool specs_is_source(const struct job *j, const struct node *n)
{
	for (size_t i = 0; i < j->n_sources; i++)
		if (j->sources[i] == n)
			return true;
	return false;
}

static void add_sources(struct job *j, const char *but, bool all)
{
	for (size_t i = 0; i < j->n_copies && j->n_sources < SPEC_SOURCES_MAX; i++) {
		struct node *n = j->copies[i];

		if (strcmp(n->name, but) != 0 && (all || answers(n)) && !specs_is_source(j, n))
			j->sources[j->n_sources++] = n;
	}
}

/* Those that answer; when nobody does, any: one may be back in time. */
void specs_choose(struct coord *c, struct job *j)
{
	struct node *before[SPEC_SOURCES_MAX];
	size_t n = j->n_sources;

	memcpy(before, j->sources, n * sizeof(struct node *));
	j->n_sources = 0;
	add_sources(j, j->submit_node, false);
	if (j->n_sources == 0 && !answers(node_find(c, j->submit_node)))
		add_sources(j, j->submit_node, true);
	for (size_t i = 0; i < n; i++)
		if (!specs_is_source(j, before[i]))
			peers_tell(c, before[i], j);
}

/* Into the step's arena; each place begins with another one. */
static void fill_copies(struct coord *c, const struct job *j, const struct node *to, uint32_t i,
			struct rec_peer **ret, size_t *ret_n)
{
	*ret_n = 0;
	*ret = arena_alloc(&c->out->arena, (SPEC_SOURCES_MAX + 1) * sizeof(**ret));
	if (*ret == NULL) {
		c->oom = true;
		return;
	}
	for (size_t k = 0; k < j->n_sources; k++) {
		const struct node *n = j->sources[(k + i) % j->n_sources];

		if (n != to)
			nodes_fill_peer(n, &(*ret)[(*ret_n)++]);
	}
}

void specs_fill(struct coord *c, struct job *j, uint32_t i, struct rec_prepare *p, struct rec_peer *source)
{
	static const uint8_t nobody[32];
	const struct node *first = node_find(c, j->submit_node), *to = j->places[i].node;

	p->spec_hash = (struct bytes){ j->spec_hash, 32 };
	p->spec_size = j->spec_size;
	if (first != NULL)
		nodes_fill_peer(first, source);
	else /* it has left the cluster */
		*source = (struct rec_peer){ .node = j->submit_node, .key = { nobody, 32 } };
	p->source = source;
	p->n_source = 1;
	if (j->max_restarts == 0 || !to->keeps_specs)
		return;
	MSG_SET(p, prepare, keep, true);
	fill_copies(c, j, to, i, &p->copies, &p->n_copies);
	if (!answers(first))
		MSG_SET(p, prepare, copies_first, true);
}

/* ---- copies ahead of time --------------------------------------------------------------------- */

static void send_keep(struct coord *c, struct job *j, const struct node *to)
{
	const struct node *first = node_find(c, j->submit_node);
	struct rec_spec_keep *k;
	struct msg m;

	if (to->link == NULL || !to->keeps_specs || holds(j, to) || to == first)
		return;
	msg_init(&m, MSG_spec_keep);
	k = &m.u.spec_keep;
	k->job = j->id;
	k->hash = (struct bytes){ j->spec_hash, 32 };
	k->size = j->spec_size;
	k->uid = j->uid;
	fill_copies(c, j, to, 0, &k->copies, &k->n_copies);
	if (k->copies != NULL && first != NULL) {
		size_t at = answers(first) ? 0 : k->n_copies;

		memmove(k->copies + at + 1, k->copies + at, (k->n_copies++ - at) * sizeof(*k->copies));
		nodes_fill_peer(first, &k->copies[at]);
	}
	if (k->n_copies > 0)
		act_send(c->out, to->link->id, &m);
}

static bool wants_copies(const struct job *j)
{
	return j->max_restarts > 0 && j->stored && !job_over(j) && !j->between &&
	       (j->state == JOB_PREPARING || j->state == JOB_RUNNING);
}

void specs_to_spares(struct coord *c, struct job *j)
{
	for (size_t i = 0; wants_copies(j) && i < j->n_kept; i++)
		send_keep(c, j, j->kept[i].node);
}

/* Who was asked for a copy was told the hash. Another one would be sent the job's nodes, and
 * learn from their questions what it may then ask for elsewhere: the hash is the key to it. */
void specs_kept(struct coord *c, struct node *n, const struct rec_spec_kept *m)
{
	uint64_t job = m->job;
	struct job *j = job_find(c, job);

	if (j != NULL && !j->saved && (m->hash.n != 32 || memcmp(m->hash.p, j->spec_hash, 32) != 0))
		return;
	if (j != NULL && !j->saved)
		add_copy(c, j, n);
	else if (job < c->next_job) /* a newer one is not ours to judge */
		send_over(c, n, job, j != NULL ? j->attempt : 0);
}

void specs_registered(struct coord *c, struct node *n, const struct rec_node_register *r)
{
	note_held(c, n, r);
	tell_used(c, n);
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (strcmp(j->submit_node, n->name) == 0)
			specs_to_spares(c, j);
		else if (wants_copies(j) && job_kept_at(j, n) != NULL)
			send_keep(c, j, n);
	}
}

/* ---- may the job be placed? ---------------------------------------------------------------------- */

static bool copy_answers(const struct job *j)
{
	for (size_t i = 0; i < j->n_copies; i++)
		if (answers(j->copies[i]))
			return true;
	return false;
}

bool specs_reach(struct coord *c, const struct job *j, const struct node *n)
{
	return answers(node_find(c, j->submit_node)) || n->keeps_specs;
}

/* Nodes of the attempts so far may hold one and not have told it: not since we were
 * restarted. */
static bool may_be_held(struct coord *c, struct job *j)
{
	struct node **v;

	for (size_t i = 0; i < j->n_kept; i++)
		if (j->kept[i].node->link == NULL && !j->kept[i].node->removed)
			return true;
	for (size_t k = 0; k < j->n_past; k++) {
		size_t n = peers_nodes(c, j, j->past[k].attempt, &v);

		for (size_t i = 0; i < n; i++)
			if (v[i] != NULL && v[i]->link == NULL && !v[i]->removed)
				return true;
	}
	return false;
}

static void say_waits(struct coord *c, struct job *j, const struct node *first)
{
	const char *why;

	if (first == NULL)
		why = arena_printf(&c->out->arena, "waiting for a node that has its command and environment: node %s, "
				   "where it was submitted, was taken out of the cluster, and the nodes of its "
				   "earlier attempts do not answer", j->submit_node);
	else
		why = arena_printf(&c->out->arena, "waiting for node %s (%s), where it was submitted: its command and "
				   "environment are there%s", first->name, node_state(first),
				   j->n_past > 0 ? ", and on no other node that answers" : "");
	if (why == NULL) {
		c->oom = true;
	} else if (j->why == NULL || strcmp(j->why, why) != 0) {
		coord_set_text(c, &j->why, "%s", why);
		job_changed(c, j);
	}
	j->start_by = MONO_NEVER;
}

bool specs_there(struct coord *c, struct job *j)
{
	const struct node *first = node_find(c, j->submit_node);

	if (answers(first) || copy_answers(j))
		return true;
	if (first == NULL && j->n_copies == 0 && !may_be_held(c, j)) {
		job_end(c, j, 1, "node %s, where it was submitted, was taken out of the cluster, and the job's command "
			"and environment with it: submit it again", j->submit_node);
		job_check_final(c, j);
		return false;
	}
	say_waits(c, j, first);
	return false;
}
