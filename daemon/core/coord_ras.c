/* coord_ras.c - asks NCCL's RAS how far a job's ranks are
 *
 * Where it may not be asked, PyTorch's flight recorders are (coord_flight.c).
 * On suspicion only, one rank for the whole job, and never when that could harm it
 * (nccl_ras_forbidden): each question costs the job memory (until 2.30.7 the answer is
 * not freed), and some versions crash. Counts are of collectives launched: equal ones
 * do not say that all is well.
 *
 * Not promised: an answer. A shim that is older, or a node that is gone, says nothing;
 * then the last answer stays, with its time.
 */
#include "core/coord_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

#define PAUSE_MS 30000
#define HANG_PAUSE_MS 5000 /* the shim's RAS_PAUSE_MS */
#define HANG_TIMES 6 /* in a row: a suspicion that lasts is asked about like any other then */

struct ras_of_job {
	uint32_t attempt;
	mono_t next, calm; /* not before; from then on the row begins anew */
	uint32_t in_row;
	size_t turn; /* the place that is asked next */
	char *forbidden; /* own: why it was not asked last; NULL: it was */
	struct msg last; /* own */
	bool have;
	bool told; /* in the story */
	uint32_t polls; /* answers in a row with this sum */
	int64_t wall_ms;
	mono_t at; /* when it came */
	char words[513];
	struct flight_of_job *flight; /* own; NULL: it was not asked */
};

void ras_free(struct job *j)
{
	if (j->ras == NULL)
		return;
	if (j->ras->have)
		msg_finish(&j->ras->last);
	free(j->ras->forbidden);
	flight_free(j->ras->flight);
	free(j->ras);
	j->ras = NULL;
}

static struct ras_of_job *of_job(struct coord *c, struct job *j)
{
	if (j->ras != NULL && j->ras->attempt != j->attempt)
		ras_free(j);
	if (j->ras == NULL) {
		j->ras = calloc(1, sizeof(*j->ras));
		c->oom = c->oom || j->ras == NULL;
	}
	if (j->ras != NULL)
		j->ras->attempt = j->attempt;
	return j->ras;
}

static void flight_done(struct coord *c, struct job *j, struct ras_of_job *x);

/* ---- asked ---------------------------------------------------------------------------- */

static struct node *whom(struct job *j, struct ras_of_job *x)
{
	for (size_t i = 0; i < j->n_places; i++) {
		struct place *p = &j->places[x->turn++ % j->n_places];

		if (p->phase == PL_RUNNING && p->node->link != NULL && !p->node->silent)
			return p->node;
	}
	return NULL;
}

/* False: it was asked a moment ago. */
static bool in_turn(struct coord *c, struct ras_of_job *x, bool hang)
{
	if (!mono_due(x->next, c->now))
		return false;
	if (mono_due(x->calm, c->now))
		x->in_row = 0;
	x->in_row++;
	x->next = mono_add_ms(c->now, hang && x->in_row < HANG_TIMES ? HANG_PAUSE_MS : PAUSE_MS);
	x->calm = mono_add_ms(c->now, 2 * PAUSE_MS);
	return true;
}

/* Of what was answered to the question before, something may never come: a node that is gone, an older shim. What
 * comes late is waited for: it is of the node whose rank does not answer. */
static void flight_asked(struct coord *c, struct job *j, struct ras_of_job *x)
{
	if (flight_waits(x->flight, c->now))
		return;
	if (flight_pending(x->flight))
		flight_done(c, j, x);
	flight_begin(c, j, &x->flight);
}

void ras_suspect(struct coord *c, struct job *j, bool hang)
{
	struct ras_of_job *x = j->state == JOB_RUNNING && !j->between ? of_job(c, j) : NULL;
	const char *why;
	struct node *n;
	struct arena a;
	struct msg m;

	if (x == NULL || !in_turn(c, x, hang))
		return;
	arena_init(&a);
	why = nccl_ras_forbidden(&a, j);
	free(x->forbidden);
	x->forbidden = why != NULL ? coord_strdup(c, why) : NULL;
	arena_finish(&a);
	if (x->forbidden != NULL && !flight_rests(x->flight, c->now)) {
		flight_asked(c, j, x);
		return;
	}
	n = x->forbidden == NULL ? whom(j, x) : NULL;
	if (n == NULL)
		return;
	msg_init(&m, MSG_ras_get);
	m.u.ras_get.job = j->id;
	m.u.ras_get.attempt = j->attempt;
	act_send(c->out, n->link->id, &m);
}

/* ---- answered ---------------------------------------------------------------------------- */

static bool has_address(const struct node *n, const char *ip)
{
	for (size_t i = 0; i < n->n_addrs; i++)
		if (strcmp(n->addrs[i].ip, ip) == 0)
			return true;
	return false;
}

static int64_t rank_at(const struct job *j, size_t place, uint32_t pid)
{
	for (uint32_t i = (uint32_t)place * j->ppn; i < (place + 1) * j->ppn && i < j->n_ranks; i++) {
		const struct rank *r = &j->ranks[i];

		if (r->pid == pid)
			return i;
		for (size_t k = 0; k < r->below.n_workers; k++)
			if (r->below.workers[k].pid == pid)
				return r->below.workers[k].rank;
	}
	return -1;
}

/* Of ranks below launchers only what was found there is known. */
static const char *node_of(const struct job *j, uint32_t rank)
{
	bool below = false;

	for (uint32_t i = 0; i < j->n_ranks; i++)
		for (size_t k = 0; k < j->ranks[i].below.n_workers; k++) {
			below = true;
			if (j->ranks[i].below.workers[k].rank == rank)
				return j->places[i / j->ppn].node->name;
		}
	return !below && rank < j->n_ranks ? j->places[rank / j->ppn].node->name : NULL;
}

/* Several virtual nodes have one address: then the pid tells which it is. */
static int64_t rank_by_process(const struct job *j, const char *host, uint32_t pid, const char **ret_node)
{
	*ret_node = NULL;
	for (size_t i = 0; host != NULL && i < j->n_places; i++) {
		int64_t rank;

		if (!has_address(j->places[i].node, host) && strncmp(host, "127.", 4) != 0)
			continue;
		rank = pid != 0 ? rank_at(j, i, pid) : -1;
		if (rank >= 0 || *ret_node == NULL)
			*ret_node = j->places[i].node->name;
		if (rank >= 0)
			return rank;
	}
	return -1;
}

int64_t ras_rank(const struct job *j, const struct rec_ras_state *s, const char *host, uint32_t pid, uint32_t told,
		 const char **ret_node)
{
	if (!s->flight)
		return rank_by_process(j, host, pid, ret_node);
	*ret_node = node_of(j, told);
	return told;
}

/* "rank 5 on gpu02"; of a process that is not known: "rank 5 of its communicator (10.0.0.2, pid 77)" */
static void name(const struct job *j, const struct rec_ras_state *s, const char *host, uint32_t pid, uint32_t of_comm, char *out,
		 size_t size)
{
	const char *node;
	int64_t rank = ras_rank(j, s, host, pid, of_comm, &node);

	if (rank >= 0 && node != NULL)
		snprintf(out, size, "rank %lld on %s", (long long)rank, node);
	else if (rank >= 0)
		snprintf(out, size, "rank %lld", (long long)rank);
	else
		snprintf(out, size, "rank %u of its communicator (%s, pid %u)", of_comm, node != NULL ? node : host != NULL ? host : "?",
			 pid);
}

static void add_unheard(struct ras_of_job *x, uint32_t n)
{
	size_t len = strlen(x->words);

	if (n > 0)
		snprintf(x->words + len, sizeof(x->words) - len, "; of %u node%s nothing is known", n, n == 1 ? "" : "s");
}

static void put_words(const struct job *j, struct ras_of_job *x, const struct rec_ras_state *s)
{
	uint32_t unheard = s->flight ? flight_unheard(x->flight) : 0;
	char who[200];

	x->words[0] = '\0';
	if (s->text != NULL)
		return;
	for (size_t i = 0; i < s->n_counts; i++)
		if (s->counts[i].missing) {
			name(j, s, s->counts[i].host, s->counts[i].pid, s->counts[i].rank, who, sizeof(who));
			snprintf(x->words, sizeof(x->words), "%s does not answer (%u of %u ranks do not)", who, s->missing, s->size);
			add_unheard(x, unheard);
			return;
		}
	if (s->coll != NULL) {
		name(j, s, s->behind_host, s->behind_pid, s->behind_rank, who, sizeof(who));
		snprintf(x->words, sizeof(x->words), "%s has %s %llu %ss, others %llu", who, s->flight ? "enqueued" : "launched",
			 (unsigned long long)s->count, s->coll, (unsigned long long)s->most);
		if (s->n_behind > 1)
			snprintf(x->words + strlen(x->words), sizeof(x->words) - strlen(x->words), "; %u ranks are behind",
				 s->n_behind);
		add_unheard(x, unheard);
		return;
	}
	if (s->flight && unheard > 0) {
		snprintf(x->words, sizeof(x->words), "%u rank%s enqueued equally many collectives in the default group", s->size,
			 s->size == 1 ? " has" : "s have");
		add_unheard(x, unheard);
	} else if (s->flight)
		snprintf(x->words, sizeof(x->words), "all ranks have enqueued equally many collectives in the default group");
	else
		snprintf(x->words, sizeof(x->words), "all ranks have launched equally many collectives, in %u communicator%s",
			 s->comms, s->comms == 1 ? "" : "s");
}

/* Once of an attempt: numbers change with each answer, and the first says who. */
static void tell(struct coord *c, struct job *j, struct ras_of_job *x)
{
	const struct rec_ras_state *s = x->last.u.ras.ras;

	if (x->told || (s->coll == NULL && s->missing == 0) || x->words[0] == '\0')
		return;
	x->told = true;
	job_tell(c, j, NULL, 0, 0, "%s: %.450s", s->flight ? "PyTorch's flight recorder" : "NCCL's RAS", x->words);
}

/* From now on it is what is known. */
static void keep(struct coord *c, struct job *j, struct ras_of_job *x, const struct rec_ras *r)
{
	struct msg whole, copy;
	uint64_t before = 0;
	bool had;
	struct buf b;

	msg_init(&whole, MSG_ras);
	whole.u.ras = *r;
	buf_init(&b);
	if (msg_encode(&whole, &b, NULL) == 0 && msg_decode(b.data, b.len, &copy, NULL) == 0) {
		had = x->have && x->last.u.ras.ras->text == NULL;
		before = had ? x->last.u.ras.ras->sum : 0;
		if (x->have)
			msg_finish(&x->last);
		x->last = copy;
		x->have = true;
		x->polls = copy.u.ras.ras->text != NULL ? 0 : had && before == copy.u.ras.ras->sum ? x->polls + 1 : 1;
		x->wall_ms = c->wall_ms;
		x->at = c->now;
		put_words(j, x, x->last.u.ras.ras);
		utf8_scrub(x->words);
		tell(c, j, x);
		job_changed(c, j);
	} else {
		c->oom = true;
	}
	buf_finish(&b);
}

static void flight_done(struct coord *c, struct job *j, struct ras_of_job *x)
{
	struct rec_ras_state s;
	struct arena a;

	arena_init(&a);
	if (flight_whole(&a, x->flight, &s))
		keep(c, j, x, &(struct rec_ras){ .job = j->id, .attempt = j->attempt, .ras = &s, .n_ras = 1 });
	arena_finish(&a);
}

void ras_on_answer(struct coord *c, struct node *n, const struct rec_ras *r)
{
	struct job *j = job_find(c, r->job);
	struct ras_of_job *x;

	if (r->n_ras != 1 || !job_open_at(j, n, r->attempt) || (x = of_job(c, j)) == NULL)
		return;
	if (!r->ras->flight)
		keep(c, j, x, r);
	else if (flight_part(c, j, n, x->flight, r->ras))
		flight_done(c, j, x);
	else
		return;
	hang_on_counts(c, j);
}

/* ---- told --------------------------------------------------------------------------------- */

const struct rec_ras_state *ras_last(const struct job *j, uint32_t *ret_polls, mono_t *ret_at)
{
	const struct ras_of_job *x = j->ras;

	if (x == NULL || x->attempt != j->attempt || !x->have)
		return NULL;
	*ret_polls = x->polls;
	*ret_at = x->at;
	return x->last.u.ras.ras;
}

void ras_fill_info(struct arena *a, const struct job *j, struct rec_job_info *i)
{
	const struct ras_of_job *x = j->ras;

	if (x == NULL || x->attempt != j->attempt || (!x->have && x->forbidden == NULL))
		return;
	i->ras = arena_alloc(a, sizeof(*i->ras));
	if (i->ras == NULL)
		return;
	if (x->have) {
		*i->ras = *x->last.u.ras.ras;
		i->ras->n_counts = 0;
		i->ras->words = x->words[0] != '\0' ? x->words : NULL;
		MSG_SET(i->ras, ras_state, wall_ms, x->wall_ms);
	}
	if (x->forbidden != NULL && i->ras->text == NULL && i->ras->words == NULL) {
		const char *off = flight_off_why(x->flight);

		i->ras->text = off != NULL ? arena_printf(a, "%.140s; %.110s", x->forbidden, off) : x->forbidden;
	}
	i->n_ras = 1;
}
