/* coord_peers.c - who may read what of a job, and at which node
 *
 *   where it was submitted   the job's nodes and spares: its specification, until the job is over
 *   where copies of it lie   the same, when the attempt is sent there (coord_specs.c)
 *   where it runs or ran     the nodes of those who watch it: its output, as long as they do
 *
 * A node is told the whole list of a job whenever it may have changed, and
 * those of all jobs after its registration. What it is not told anew it lets
 * fade (agent_peer.c). So nothing is remembered here, and after a restart of
 * either side nobody may what nobody asks for any more.
 */
#include "core/coord_internal.h"

#include <string.h>

struct peers {
	struct rec_peer *v;
	size_t n;
};

/* Their addresses are nothing to who lets them in: thousands would not fit one frame with them. */
static void add(struct peers *p, const struct node *n, const struct node *holder, bool spec_only)
{
	if (n == holder || n->removed || p->n == JOB_NODES_MAX)
		return;
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].node == n->name) {
			p->v[i].spec_only = p->v[i].spec_only && spec_only;
			return;
		}
	nodes_fill_peer(n, &p->v[p->n]);
	p->v[p->n].addrs = NULL;
	p->v[p->n].n_addrs = 0;
	p->v[p->n++].spec_only = spec_only;
}

static bool hands_out(const struct node *n, const struct job *j)
{
	return !j->saved && (strcmp(j->submit_node, n->name) == 0 || specs_is_source(j, n));
}

static const struct past *past_of(const struct job *j, uint32_t attempt)
{
	for (size_t i = 0; attempt != j->attempt && i < j->n_past; i++)
		if (j->past[i].attempt == attempt)
			return &j->past[i];
	return NULL;
}

size_t peers_nodes(struct coord *c, struct job *j, uint32_t attempt, struct node ***ret)
{
	const struct past *p = past_of(j, attempt);
	struct hostlist h = { 0 };
	size_t n = j->n_places;

	if (attempt != j->attempt && (p == NULL || p->nodes == NULL || hostlist_parse(p->nodes, &h, NULL) < 0))
		return 0;
	n = p != NULL ? h.count : n;
	*ret = arena_alloc(&c->out->arena, (n + 1) * sizeof(**ret));
	for (size_t i = 0; *ret != NULL && i < n; i++) {
		(*ret)[i] = p != NULL ? node_find(c, h.names[i]) : j->places[i].node;
		if ((*ret)[i] == NULL)
			(*ret)[i] = node_removed_find(c, h.names[i]);
	}
	hostlist_finish(&h);
	return *ret != NULL ? n : 0;
}

/* Does this watch read the job's output at this node? */
static bool reads_at(const struct watch *w, const struct node *n)
{
	const struct past *p = w->attempt != 0 ? past_of(w->job, w->attempt) : NULL;
	struct hostlist h;
	uint32_t i;
	bool has;

	if (p == NULL)
		return job_place_of(w->job, n, &i) != NULL;
	if (p->nodes == NULL || hostlist_parse(p->nodes, &h, NULL) < 0)
		return false;
	has = hostlist_has(&h, n->name);
	hostlist_finish(&h);
	return has;
}

static void collect(const struct node *n, struct job *j, struct peers *ret)
{
	bool out = hands_out(n, j);

	for (size_t i = 0; out && i < j->n_places; i++)
		add(ret, j->places[i].node, n, true);
	for (size_t i = 0; out && i < j->n_kept; i++)
		add(ret, j->kept[i].node, n, true);
	list_foreach(e, &j->watches) {
		const struct watch *w = list_entry(e, struct watch, of_job);

		if (w->link->node != NULL && reads_at(w, n))
			add(ret, w->link->node, n, false);
	}
}

static bool is_read_at(const struct job *j, const struct node *n)
{
	list_foreach(e, &j->watches)
		if (reads_at(list_entry(e, struct watch, of_job), n))
			return true;
	return false;
}

static size_t most(struct job *j)
{
	size_t n = j->n_places + j->n_kept;

	list_foreach(e, &j->watches)
		n++;
	return n;
}

static void send(struct coord *c, const struct node *n, const struct job *j,
		 const struct peers *p)
{
	struct msg m;

	msg_init(&m, MSG_allow);
	m.u.allow.job = j->id;
	m.u.allow.peers = p->v;
	m.u.allow.n_peers = p->n;
	m.u.allow.whole = true;
	act_send(c->out, n->link->id, &m);
}

void peers_tell(struct coord *c, const struct node *n, struct job *j)
{
	struct peers p = { 0 };

	if (n->link == NULL)
		return;
	p.v = arena_alloc(&c->out->arena, (most(j) + 1) * sizeof(*p.v));
	if (p.v == NULL) {
		c->oom = true;
		return;
	}
	collect(n, j, &p);
	send(c, n, j, &p);
}

/* Somebody else than the node itself takes part; or did, in an attempt before. */
static bool is_asked(const struct job *j, const struct node *n)
{
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].node != n)
			return true;
	return j->max_restarts > 0;
}

void peers_tell_source(struct coord *c, struct job *j)
{
	const struct node *src = node_find(c, j->submit_node);

	if (src != NULL && is_asked(j, src))
		peers_tell(c, src, j);
	for (size_t i = 0; i < j->n_sources; i++)
		if (j->sources[i] != src && is_asked(j, j->sources[i]))
			peers_tell(c, j->sources[i], j);
}

/* Its nodes were never asked to fetch anything; but who has it may have registered meanwhile. */
void peers_withdraw(struct coord *c, struct job *j)
{
	const struct node *src = node_find(c, j->submit_node);

	if (src != NULL)
		peers_tell(c, src, j);
	for (size_t i = 0; i < j->n_sources; i++)
		if (j->sources[i] != src)
			peers_tell(c, j->sources[i], j);
}

void peers_tell_places(struct coord *c, struct job *j)
{
	struct node **v;
	uint32_t i;

	for (i = 0; i < j->n_places; i++)
		peers_tell(c, j->places[i].node, j);
	for (size_t k = 0; k < j->n_past; k++) {
		size_t n = peers_nodes(c, j, j->past[k].attempt, &v);

		for (size_t m = 0; m < n; m++)
			if (v[m] != NULL && job_place_of(j, v[m], &i) == NULL)
				peers_tell(c, v[m], j);
	}
}

void peers_unplaced(struct coord *c, struct job *j)
{
	const struct peers nobody = { 0 };

	list_foreach(e, &j->watches)
		list_entry(e, struct watch, of_job)->peers_attempt = 0;
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].node->link != NULL)
			send(c, j->places[i].node, j, &nobody);
}

void peers_moved(struct coord *c, struct job *j, const struct place *old, size_t n)
{
	uint32_t i;

	for (size_t k = 0; k < n; k++)
		if (job_place_of(j, old[k].node, &i) == NULL)
			peers_tell(c, old[k].node, j);
}

void peers_tell_all(struct coord *c, const struct node *n)
{
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (!j->stored)
			continue; /* is told when it is, or was never a job */
		if (hands_out(n, j) ? j->n_places > 0 : is_read_at(j, n))
			peers_tell(c, n, j);
	}
}

void peers_unwatched(struct coord *c, struct job *j)
{
	j->unwatched = c->have_unwatched = true;
}

void peers_flush(struct coord *c)
{
	if (!c->have_unwatched)
		return;
	c->have_unwatched = false;
	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);

		if (!j->unwatched)
			continue;
		j->unwatched = false;
		peers_tell_places(c, j);
	}
}

/* The keys it lets in, and knows from a time when we, or an earlier life of
 * ours, may not have reached it with a 'revoke'. */
void peers_check_keys(struct coord *c, const struct clink *l, const struct rec_node_register *r)
{
	struct msg m;

	msg_init(&m, MSG_revoke);
	for (size_t i = 0; i < r->n_keys; i++) {
		if (r->keys[i].key.n != 32 || node_of_key(c, r->keys[i].key.p) != NULL)
			continue;
		m.u.revoke.key = r->keys[i].key;
		act_send(c->out, l->id, &m);
	}
}
