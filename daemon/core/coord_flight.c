/* coord_flight.c - PyTorch's flight recorder of all ranks of a job, put together to one answer
 *
 * Where NCCL's RAS must not be asked (most NCCL in use has no JSON), each node is asked for
 * what its ranks' recorders say: how many collectives of the default group each has enqueued.
 * When all have answered, or at the next question, it becomes an answer like that of RAS.
 *
 * Not promised: ranks whose job has no recorder on; then one node's word ends the asking for
 * a minute: its ranks may be about to make theirs. A rank that wrote no dump in time is named as one that does not answer.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define RANKS_MAX 65536
#define COUNTS_MAX 1024 /* of rec_ras_state */
#define OFF_MS 60000
#define WAIT_MS 9000 /* a shim answers within 6 s (FLIGHT_MS), and slowest where a rank writes nothing */

struct flight_rank {
	bool have; /* it was told of in this round */
	bool dumped;
	uint32_t pid;
	uint64_t seq;
	char op[33];
};

struct flight_of_job {
	bool off; /* somebody has said that there is none, and why, and nobody in this round that there are */
	bool some;
	mono_t off_until;
	char why[161];
	uint32_t waiting; /* nodes that have not answered this round */
	uint32_t without; /* that have no recorder */
	bool *due; /* by place: it is one of these */
	mono_t until; /* so long they have */
	struct flight_rank *v; /* by rank */
	size_t n;
};

void flight_free(struct flight_of_job *f)
{
	if (f != NULL) {
		free(f->v);
		free(f->due);
	}
	free(f);
}

const char *flight_off_why(const struct flight_of_job *f)
{
	return f != NULL && f->off ? f->why : NULL;
}

bool flight_rests(const struct flight_of_job *f, mono_t now)
{
	return f != NULL && f->off && !mono_due(f->off_until, now);
}

bool flight_waits(const struct flight_of_job *f, mono_t now)
{
	return f != NULL && f->waiting > 0 && !mono_due(f->until, now);
}

bool flight_pending(const struct flight_of_job *f)
{
	return f != NULL && f->waiting > 0;
}

uint32_t flight_unheard(const struct flight_of_job *f)
{
	return f != NULL ? f->waiting + f->without : 0;
}

void flight_begin(struct coord *c, const struct job *j, struct flight_of_job **f)
{
	struct msg m;

	if (*f == NULL)
		*f = calloc(1, sizeof(**f));
	if (*f != NULL && (*f)->due == NULL)
		(*f)->due = calloc(j->n_places + 1, sizeof(*(*f)->due)); /* of one attempt: as many in each round */
	if (*f == NULL || (*f)->due == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < (*f)->n; i++)
		(*f)->v[i].have = false;
	(*f)->waiting = 0;
	(*f)->some = false;
	(*f)->without = 0;
	(*f)->until = mono_add_ms(c->now, WAIT_MS);
	for (size_t i = 0; i < j->n_places; i++) {
		const struct place *p = &j->places[i];

		(*f)->due[i] = false;
		if (p->phase != PL_RUNNING || p->node->link == NULL || p->node->silent)
			continue;
		msg_init(&m, MSG_flight_get);
		m.u.flight_get.job = j->id;
		m.u.flight_get.attempt = j->attempt;
		act_send(c->out, p->node->link->id, &m);
		(*f)->due[i] = true;
		(*f)->waiting++;
	}
}

static bool make_room(struct coord *c, struct flight_of_job *f, uint32_t rank)
{
	size_t n = (size_t)rank + 1;
	struct flight_rank *v;

	if (n <= f->n)
		return true;
	if (n > RANKS_MAX)
		return false;
	n = n < 2 * f->n ? 2 * f->n : n;
	n = n < 64 ? 64 : n;
	v = realloc(f->v, n * sizeof(*v));
	if (v == NULL) {
		c->oom = true;
		return false;
	}
	memset(v + f->n, 0, (n - f->n) * sizeof(*v));
	f->v = v;
	f->n = n;
	return true;
}

/* An answer to the question before is no answer of another node to this one. */
static void heard(struct flight_of_job *f, const struct job *j, const struct node *n)
{
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].node == n && f->due[i]) {
			f->due[i] = false;
			f->waiting--;
			return;
		}
}

bool flight_part(struct coord *c, const struct job *j, const struct node *n, struct flight_of_job *f, const struct rec_ras_state *s)
{
	uint32_t before = f != NULL ? f->waiting : 0;

	if (before == 0)
		return false;
	if (s->n_counts > 0) {
		f->some = true;
		f->off = false;
	} else if (s->text != NULL && !f->some) {
		f->off = true;
		f->off_until = mono_add_ms(c->now, OFF_MS);
		snprintf(f->why, sizeof(f->why), "%.160s", s->text);
		utf8_scrub(f->why);
	}
	for (size_t i = 0; i < s->n_counts; i++) {
		const struct rec_ras_count *x = &s->counts[i];
		struct flight_rank *r;

		if (!make_room(c, f, x->rank))
			continue;
		r = &f->v[x->rank];
		*r = (struct flight_rank){ .have = true, .dumped = !x->missing, .pid = x->pid, .seq = x->seq };
		if (x->op != NULL)
			snprintf(r->op, sizeof(r->op), "%s", x->op);
	}
	heard(f, j, n);
	f->without += s->n_counts == 0 && f->waiting < before;
	return f->waiting == 0;
}

/* ---- put together --------------------------------------------------------------------- */

/* Those that do not answer and those that are behind first: the list has an end. */
static void add_counts(const struct flight_of_job *f, struct rec_ras_state *s, bool late)
{
	for (size_t i = 0; i < f->n && s->n_counts < COUNTS_MAX; i++) {
		const struct flight_rank *r = &f->v[i];
		struct rec_ras_count *x = &s->counts[s->n_counts];

		if (!r->have || (!r->dumped || r->seq < s->most) != late)
			continue;
		memset(x, 0, sizeof(*x));
		x->rank = (uint32_t)i;
		x->pid = r->pid;
		x->missing = !r->dumped;
		if (r->dumped)
			MSG_SET(x, ras_count, seq, r->seq);
		x->op = r->op[0] != '\0' ? r->op : NULL;
		s->n_counts++;
	}
}

static void sum_up(const struct flight_of_job *f, struct rec_ras_state *s)
{
	const struct flight_rank *behind = NULL;

	for (size_t i = 0; i < f->n; i++) {
		const struct flight_rank *r = &f->v[i];

		s->size += r->have;
		s->missing += r->have && !r->dumped;
		if (!r->have || !r->dumped)
			continue;
		s->sum += r->seq;
		s->most = r->seq > s->most ? r->seq : s->most;
		if (behind == NULL || r->seq < behind->seq)
			behind = r;
	}
	if (behind == NULL || behind->seq == s->most)
		return;
	for (size_t i = 0; i < f->n; i++)
		s->n_behind += f->v[i].have && f->v[i].dumped && f->v[i].seq < s->most;
	s->coll = "collective";
	s->count = behind->seq;
	s->behind_rank = (uint32_t)(behind - f->v);
	s->behind_pid = behind->pid;
}

bool flight_whole(struct arena *a, const struct flight_of_job *f, struct rec_ras_state *s)
{
	memset(s, 0, sizeof(*s));
	s->counts = arena_alloc(a, COUNTS_MAX * sizeof(*s->counts));
	if (f == NULL || s->counts == NULL)
		return false;
	sum_up(f, s);
	if (s->size == 0 || s->missing == s->size)
		return false;
	MSG_SET(s, ras_state, flight, true);
	MSG_SET(s, ras_state, comms, 1);
	MSG_SET(s, ras_state, size, s->size);
	MSG_SET(s, ras_state, missing, s->missing);
	MSG_SET(s, ras_state, sum, s->sum);
	if (s->coll != NULL) {
		MSG_SET(s, ras_state, behind_rank, s->behind_rank);
		MSG_SET(s, ras_state, behind_pid, s->behind_pid);
		MSG_SET(s, ras_state, count, s->count);
		MSG_SET(s, ras_state, most, s->most);
		MSG_SET(s, ras_state, n_behind, s->n_behind);
	}
	add_counts(f, s, true);
	add_counts(f, s, false);
	return true;
}
