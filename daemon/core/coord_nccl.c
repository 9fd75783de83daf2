/* coord_nccl.c - what a job's NCCL said, kept and put into words
 *
 * Each node's shim tells all it knows, again and again; the last word counts. Why a
 * node runs over TCP is judged once, when it first says so: by the readings of then,
 * for a port may be well again when somebody asks. Of a job that is over the words
 * remain, and they are in its row.
 *
 * Not promised: that the words before a restart of the coordinator are the same
 * after it while the job runs: agents tell theirs again, and ports are judged anew.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/nccl_ras.h"
#include "common/utf8.h"
#include "core/nccl_say.h"

struct told {
	struct msg m; /* own: job_nccl */
	bool have;
	bool judged, tcp; /* it runs over TCP, and why is known */
	struct nccl_why why;
	char trouble[769]; /* as it was first said; "": none */
};

struct nccl_of_job {
	uint32_t attempt;
	struct told *v; /* by place */
	size_t n;
	/* in words; own */
	char brief[129], why[513], reason[17], fix[257], trouble[769];
	bool socket;
	int64_t wall_ms;
	uint32_t nodes;
};

static void drop_told(struct nccl_of_job *x)
{
	for (size_t i = 0; i < x->n; i++)
		if (x->v[i].have)
			msg_finish(&x->v[i].m);
	free(x->v);
	x->v = NULL;
	x->n = 0;
}

void nccl_free(struct job *j)
{
	if (j->nccl == NULL)
		return;
	drop_told(j->nccl);
	free(j->nccl);
	j->nccl = NULL;
}

void nccl_squeeze(struct job *j)
{
	if (j->nccl != NULL)
		drop_told(j->nccl);
}

/* Of this attempt; what an earlier one said is forgotten. Words from disk stay until others come. */
static struct nccl_of_job *of_job(struct coord *c, struct job *j)
{
	struct nccl_of_job *x = j->nccl;

	if (x != NULL && x->attempt != j->attempt) {
		nccl_free(j);
		x = NULL;
	}
	if (x == NULL)
		x = j->nccl = calloc(1, sizeof(*x));
	if (x != NULL && x->v == NULL) {
		x->attempt = j->attempt;
		x->v = calloc(j->n_places, sizeof(*x->v));
		x->n = x->v != NULL ? j->n_places : 0;
	}
	if (x == NULL || x->v == NULL) {
		c->oom = true;
		return NULL;
	}
	return x;
}

/* ---- put into words ---------------------------------------------------------------- */

static struct nccl_node *see(struct arena *a, const struct job *j, const struct nccl_of_job *x)
{
	struct nccl_node *v = arena_alloc(a, (x->n + 1) * sizeof(*v));

	for (size_t i = 0; v != NULL && i < x->n; i++) {
		const struct node *n = j->places[i].node;

		v[i] = (struct nccl_node){ .node = n->name, .s = x->v[i].have ? x->v[i].m.u.job_nccl.nccl : NULL,
					   .r = node_readings(n), .addrs = n->addrs, .n_addrs = n->n_addrs,
					   .rank_base = (uint32_t)i * j->ppn, .n_ranks = j->ppn };
	}
	return v;
}

/* The first node's that has one; a known reason before "unknown". */
static void choose_why(struct nccl_of_job *x)
{
	const struct told *best = NULL;

	for (size_t i = 0; i < x->n; i++)
		if (x->v[i].tcp && (best == NULL || (strcmp(best->why.reason, "unknown") == 0 &&
						     strcmp(x->v[i].why.reason, "unknown") != 0)))
			best = &x->v[i];
	if (best == NULL)
		return; /* of one that was read from disk: until a node says so again */
	x->socket = true;
	snprintf(x->why, sizeof(x->why), "%s", best->why.text);
	snprintf(x->reason, sizeof(x->reason), "%s", best->why.reason);
	snprintf(x->fix, sizeof(x->fix), "%s", best->why.fix);
}

static void tell_network(struct coord *c, struct job *j, struct nccl_of_job *x, bool was)
{
	if (x->socket && !was)
		job_tell(c, j, NULL, 0, 0, "NCCL runs over TCP, not over InfiniBand: %.400s", x->why);
}

static void put(struct coord *c, struct job *j, struct nccl_of_job *x, uint32_t i)
{
	struct told *t = &x->v[i];
	struct nccl_node *v;
	bool was = x->socket;
	struct arena a;

	arena_init(&a);
	v = see(&a, j, x);
	if (v == NULL) {
		c->oom = true;
		return;
	}
	if (!t->judged && v[i].s->net != NULL && (nccl_on_socket(&v[i], x->n) || v[i].s->sends_net > 0)) {
		t->judged = true;
		t->tcp = nccl_on_socket(&v[i], x->n);
		if (t->tcp)
			nccl_say_why(&v[i], &t->why);
	}
	nccl_say_brief(v, x->n, x->brief, sizeof(x->brief));
	choose_why(x);
	if (t->trouble[0] == '\0') {
		nccl_say_trouble(v, x->n, i, t->trouble, sizeof(t->trouble));
		utf8_scrub(t->trouble);
		if (t->trouble[0] != '\0' && strcmp(t->trouble, x->trouble) != 0)
			job_tell(c, j, j->places[i].node->name, 0, 0, "NCCL: %.450s", t->trouble);
		if (t->trouble[0] != '\0' && x->trouble[0] == '\0')
			snprintf(x->trouble, sizeof(x->trouble), "%s", t->trouble);
		if (t->trouble[0] != '\0')
			ras_suspect(c, j, false);
	}
	x->nodes = 0;
	for (size_t k = 0; k < x->n; k++)
		x->nodes += x->v[k].have;
	x->wall_ms = c->wall_ms;
	tell_network(c, j, x, was);
	arena_finish(&a);
}

void nccl_on_told(struct coord *c, struct node *n, const struct rec_job_nccl *m)
{
	struct job *j = job_find(c, m->job);
	struct nccl_of_job *x;
	struct msg whole, copy;
	struct buf b;
	uint32_t i;

	if (m->n_nccl != 1 || !job_open_at(j, n, m->attempt) || job_place_of(j, n, &i) == NULL)
		return;
	x = of_job(c, j);
	if (x == NULL)
		return;
	msg_init(&whole, MSG_job_nccl);
	whole.u.job_nccl = *m;
	buf_init(&b);
	if (msg_encode(&whole, &b, NULL) == 0 && msg_decode(b.data, b.len, &copy, NULL) == 0) {
		if (x->v[i].have)
			msg_finish(&x->v[i].m);
		x->v[i].m = copy;
		x->v[i].have = true;
		x->v[i].m.u.job_nccl.nccl->node = j->places[i].node->name;
		put(c, j, x, i);
		job_changed(c, j);
	} else {
		c->oom = true;
	}
	buf_finish(&b);
}

/* ---- who has not begun ---------------------------------------------------------------- */

static const struct rec_nccl_state *said_by(const struct nccl_of_job *x, size_t i)
{
	return x->v[i].have ? x->v[i].m.u.job_nccl.nccl : NULL;
}

/* That a node has not said it counts only where it is heard. */
bool nccl_late(const struct job *j, char *out, size_t size, const char **ret_node)
{
	const struct nccl_of_job *x = j->nccl;
	uint32_t left = 0, most = 0;

	if (x == NULL || x->v == NULL || x->attempt != j->attempt || j->n_places < x->n)
		return false; /* the next attempt could not be stored: this one's places are gone */
	for (size_t i = 0; i < x->n; i++) {
		const struct rec_nccl_state *s = said_by(x, i);

		if (s == NULL)
			continue;
		left += s->inits > s->inits_done ? s->inits - s->inits_done : 0;
		most = s->procs > most ? s->procs : most;
		if (s->unread != NULL)
			return false;
	}
	for (size_t i = 0; left > 0 && i < x->n; i++) {
		const struct rec_nccl_state *s = said_by(x, i);
		const struct node *n = j->places[i].node;
		uint32_t procs = s != NULL ? s->procs : 0;

		if (procs >= most || n->link == NULL || n->silent)
			continue;
		if (j->ppn == 1 && most == 1)
			snprintf(out, size, "rank %zu on %s", i, n->name);
		else if (procs == 0)
			snprintf(out, size, "the process%s of %s", most > 1 ? "es" : "", n->name);
		else
			snprintf(out, size, "%u of %u processes of %s", most - procs, most, n->name);
		*ret_node = n->name;
		return true;
	}
	return false;
}

/* ---- RAS ------------------------------------------------------------------------------ */

static bool over_somewhere(const struct job *j)
{
	for (uint32_t i = 0; i < j->n_ranks; i++)
		if (rank_is_over(&j->ranks[i]) || j->ranks[i].below.found > j->ranks[i].below.alive)
			return true;
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].node->link == NULL || j->places[i].node->silent)
			return true;
	return false;
}

/* Asking while a communicator is being made, or (until 2.29.2) with several of them and a rank that
 * is missing, crashes the job: nccl#2346, nccl#1762. What is not known counts as such a time. */
const char *nccl_ras_forbidden(struct arena *a, const struct job *j)
{
	const struct nccl_of_job *x = j->nccl;
	bool several = false, old = false;

	if (x == NULL || x->attempt != j->attempt || x->n == 0)
		return "NCCL's log says nothing, so it is not known whether its RAS may be asked";
	for (size_t i = 0; i < x->n; i++) {
		const struct rec_nccl_state *s = x->v[i].have ? x->v[i].m.u.job_nccl.nccl : NULL;

		if (s == NULL || s->inits == 0 || s->version == NULL)
			return arena_printf(a, "NCCL on %s has not said that it is ready", j->places[i].node->name);
		if (!nccl_ras_has_json(s->version))
			return arena_printf(a, "NCCL %s is older than 2.28.7, whose RAS does not answer in JSON: log, counters and "
					       "processes are looked at instead", s->version);
		if (s->inits != s->inits_done)
			return arena_printf(a, "a communicator is being made on %s, and NCCL's RAS must not be asked then",
					    j->places[i].node->name);
		several = several || s->inits > s->procs;
		old = old || !nccl_ras_safe_missing(s->version);
	}
	if (several && old && over_somewhere(j))
		return "a rank may be missing, and asking NCCL's RAS before 2.29.2 can crash a job that has several communicators "
		       "then (nccl#1762)";
	return NULL;
}

/* ---- told and stored ------------------------------------------------------------------ */

static const char *or_null(struct arena *a, const char *s)
{
	return s[0] != '\0' ? arena_strdup(a, s) : NULL;
}

static struct rec_nccl_sum *fill_sum(struct arena *a, const struct job *j)
{
	const struct nccl_of_job *x = j->nccl;
	char late[160];
	const char *node;
	struct rec_nccl_sum *s;

	if (x == NULL || (x->brief[0] == '\0' && x->trouble[0] == '\0'))
		return NULL;
	s = arena_alloc(a, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->brief = arena_strdup(a, x->brief);
	s->socket = x->socket;
	s->why = or_null(a, x->why);
	s->reason = or_null(a, x->reason);
	s->fix = or_null(a, x->fix);
	s->trouble = or_null(a, x->trouble);
	s->wall_ms = x->wall_ms;
	s->nodes = x->nodes;
	if (nccl_late(j, late, sizeof(late), &node))
		s->late = arena_strdup(a, late);
	return s->brief != NULL ? s : NULL;
}

#define NODES_TOLD 16u

/* Trouble, then TCP, then the others. */
static unsigned weight(const struct told *t)
{
	return !t->have ? 0 : t->trouble[0] != '\0' ? 3 : t->tcp ? 2 : 1;
}

static void fill_nodes(struct arena *a, const struct nccl_of_job *x, struct rec_job_info *i)
{
	struct rec_nccl_state *v = arena_alloc(a, NODES_TOLD * sizeof(*v));

	if (v == NULL)
		return;
	for (unsigned w = 3; w > 0; w--)
		for (size_t k = 0; k < x->n && i->n_nccl_nodes < NODES_TOLD; k++)
			if (weight(&x->v[k]) == w)
				v[i->n_nccl_nodes++] = *x->v[k].m.u.job_nccl.nccl;
	i->nccl_nodes = v;
}

void nccl_fill_info(struct arena *a, const struct job *j, bool detail, struct rec_job_info *i)
{
	if (j->nccl == NULL || j->nccl->attempt != j->attempt)
		return;
	i->nccl = fill_sum(a, j);
	i->n_nccl = i->nccl != NULL;
	if (detail)
		fill_nodes(a, j->nccl, i);
}

void nccl_fill_row(struct arena *a, const struct job *j, struct rec_row_job *r)
{
	if (j->nccl == NULL || j->nccl->attempt != j->attempt)
		return;
	r->nccl = fill_sum(a, j);
	r->n_nccl = r->nccl != NULL;
}

static void take(char *out, size_t size, const char *s)
{
	snprintf(out, size, "%s", s != NULL ? s : "");
}

void nccl_load(struct coord *c, struct job *j, const struct rec_row_job *r)
{
	const struct rec_nccl_sum *s = r->nccl;
	struct nccl_of_job *x;

	if (r->n_nccl != 1)
		return;
	x = calloc(1, sizeof(*x));
	if (x == NULL) {
		c->oom = true;
		return;
	}
	x->attempt = r->attempt;
	take(x->brief, sizeof(x->brief), s->brief);
	take(x->why, sizeof(x->why), s->why);
	take(x->reason, sizeof(x->reason), s->reason);
	take(x->fix, sizeof(x->fix), s->fix);
	take(x->trouble, sizeof(x->trouble), s->trouble);
	x->socket = s->socket;
	x->wall_ms = s->wall_ms;
	x->nodes = s->nodes;
	j->nccl = x;
}
