/* agent_spec.c - which of the specifications stored here are still needed
 *
 *   submit passed on --> submitted --> its job is over: may go
 *                   '--> refused: may go
 *   copy ordered --> being got --> kept --> its job is over: may go
 *                             '--> it cannot be: the job goes on without
 *
 * A job that may be started again has copies on its nodes and spares, so that no
 * attempt needs the node where it was submitted. What is held is told at each
 * registration: the coordinator remembers nothing of it.
 *
 * After each registration the coordinator names all unfinished jobs of this
 * node: that is the truth, and what it does not name may go, whatever was
 * missed meanwhile. Until it has, everything counts as needed, so a
 * coordinator that never does so (an older one) costs disk and no job.
 *
 * Several jobs may use one specification: it is known by its hash. A submit
 * without an answer keeps its own, also when the client has given up: the
 * coordinator may have taken it. One that was sent before the registration is
 * in the coordinator's list then; one sent after it may not be.
 */
#include "core/agent_internal.h"

#include <stdlib.h>
#include <string.h>

#define NOT_SENT UINT32_MAX
#define SPECS_TOLD 1024u /* at registration */

struct spec_use {
	uint32_t rid; /* of the submit that has no answer; 0: answered */
	uint32_t sent; /* ... and after which registration it was sent */
	uint64_t ticket; /* of the copy that is being got; 0: it is here */
	bool asked; /* ... ahead of time: no launch waits for it */
	uint64_t job; /* 0: found on disk, and not known whose */
	uint8_t hash[32];
	struct list all;
};

static struct spec_use *use_add(struct agent *a, const uint8_t hash[32])
{
	struct spec_use *u = calloc(1, sizeof(*u));

	if (u == NULL) {
		a->oom = true;
		return NULL;
	}
	memcpy(u->hash, hash, 32);
	list_append(&a->spec_uses, &u->all);
	return u;
}

static struct spec_use *use_of_submit(const struct agent *a, uint32_t rid)
{
	list_foreach(e, &a->spec_uses) {
		struct spec_use *u = list_entry(e, struct spec_use, all);

		if (rid != 0 && u->rid == rid)
			return u;
	}
	return NULL;
}

static void use_free(struct spec_use *u)
{
	list_remove(&u->all);
	free(u);
}

static bool used_otherwise(const struct agent *a, const struct spec_use *u)
{
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): those freed before are off the list */
	list_foreach(e, &a->spec_uses) {
		const struct spec_use *o = list_entry(e, struct spec_use, all);

		if (o != u && memcmp(o->hash, u->hash, 32) == 0)
			return true;
	}
	return false;
}

/* The last use of a specification takes it along. */
static void use_over(struct agent *a, struct spec_use *u)
{
	if (a->specs_known && !used_otherwise(a, u))
		memcpy(act_add(a->out, ACT_DROP_SPEC)->key, u->hash, 32);
	use_free(u);
}

void specs_free(struct agent *a)
{
	list_foreach_safe(e, &a->spec_uses)
		use_free(list_entry(e, struct spec_use, all));
}

/* ---- a submit ------------------------------------------------------------------ */

void specs_submitting(struct agent *a, uint32_t rid, const uint8_t hash[32])
{
	struct spec_use *u = use_add(a, hash);

	if (u == NULL)
		return;
	u->rid = rid;
	u->sent = NOT_SENT;
}

void specs_sent(struct agent *a, uint32_t rid, bool sent)
{
	struct spec_use *u = use_of_submit(a, rid);

	if (u != NULL)
		u->sent = sent ? a->registrations : NOT_SENT;
}

void specs_submitted(struct agent *a, const struct rec_submitted *s)
{
	struct spec_use *u = use_of_submit(a, s->rid);

	if (u == NULL)
		return;
	u->rid = 0;
	u->sent = 0;
	u->job = s->job;
	if (s->spec_unused)
		use_over(a, u);
}

void specs_refused(struct agent *a, uint32_t rid)
{
	struct spec_use *u = use_of_submit(a, rid);

	if (u != NULL)
		use_over(a, u);
}

void specs_given_up(struct agent *a, uint32_t rid)
{
	struct spec_use *u = use_of_submit(a, rid);

	if (u != NULL && u->sent == NOT_SENT)
		use_over(a, u);
}

/* ---- a copy ----------------------------------------------------------------------- */

void specs_copying(struct agent *a, uint64_t job, const uint8_t hash[32], uint64_t ticket, bool asked)
{
	struct spec_use *u = use_add(a, hash);

	if (u == NULL)
		return;
	u->job = job;
	u->ticket = ticket;
	u->asked = asked;
}

static bool has(const struct agent *a, const uint8_t hash[32])
{
	list_foreach(e, &a->spec_uses) {
		const struct spec_use *u = list_entry(e, struct spec_use, all);

		if (u->ticket == 0 && memcmp(u->hash, hash, 32) == 0)
			return true;
	}
	return false;
}

static void tell_kept(struct agent *a, uint64_t job, const uint8_t hash[32])
{
	struct msg m;

	msg_init(&m, MSG_spec_kept);
	m.u.spec_kept.job = job;
	m.u.spec_kept.hash = (struct bytes){ hash, 32 };
	session_send(a, &m);
}

static bool asked_already(const struct agent *a, uint64_t job)
{
	list_foreach(e, &a->spec_uses) {
		const struct spec_use *u = list_entry(e, struct spec_use, all);

		if (u->asked && u->ticket != 0 && u->job == job)
			return true;
	}
	return false;
}

/* Local policy decides about running it, not about keeping it for another. */
void specs_on_keep(struct agent *a, const struct rec_spec_keep *m)
{
	struct action *act;
	struct rec_prepare *p;

	if (m->hash.n != 32 || asked_already(a, m->job))
		return;
	if (has(a, m->hash.p)) {
		specs_copying(a, m->job, m->hash.p, 0, true); /* what has it may be over before this job */
		tell_kept(a, m->job, m->hash.p);
		return;
	}
	act = act_add(a->out, ACT_KEEP_SPEC);
	p = arena_alloc(&a->out->arena, sizeof(*p));
	if (p == NULL) {
		a->oom = true;
		return;
	}
	memset(p, 0, sizeof(*p));
	p->job = m->job;
	p->uid = m->uid;
	p->spec_hash = (struct bytes){ arena_memdup(&a->out->arena, m->hash.p, 32), 32 };
	p->spec_size = m->size;
	p->copies = peers_copy(&a->out->arena, m->copies, m->n_copies);
	p->n_copies = m->n_copies;
	p->keep = true;
	a->oom = a->oom || p->spec_hash.p == NULL || p->copies == NULL;
	for (size_t i = 0; i < m->n_copies; i++)
		peers_unrevoke(a, &m->copies[i]);
	act->job = m->job;
	act->prepare = p;
	act->ticket = ++a->next_ticket;
	specs_copying(a, m->job, m->hash.p, act->ticket, true);
}

/* result 1: it is on disk. */
void specs_on_done(struct agent *a)
{
	list_foreach_safe(e, &a->spec_uses) {
		struct spec_use *u = list_entry(e, struct spec_use, all);

		if (u->ticket == 0 || u->ticket != a->ev->ticket)
			continue;
		if (a->ev->error != 0 || a->ev->result != 1) {
			if (a->ev->error == 0 || u->asked) /* else the job's own failure tells it */
				act_log(a->out, u->job, "job %llu: no copy of its specification is kept here: %.300s",
					(unsigned long long)u->job, a->ev->text != NULL ? a->ev->text : "?");
			use_free(u);
			return;
		}
		u->ticket = 0;
		u->sent = a->registrations; /* a list that is on its way may not have it */
		tell_kept(a, u->job, u->hash);
		return;
	}
}

void agent_spec_found(struct agent *a, const uint8_t hash[32])
{
	use_add(a, hash);
}

/* Each once. */
struct bytes specs_held(struct arena *ar, const struct agent *a)
{
	uint8_t *v = arena_alloc(ar, SPECS_TOLD * 32);
	struct bytes b = { v, 0 };

	list_foreach(e, &a->spec_uses) {
		const struct spec_use *u = list_entry(e, struct spec_use, all);
		bool told = v == NULL || u->rid != 0 || u->ticket != 0 || b.n == SPECS_TOLD * 32;

		for (size_t i = 0; !told && i < b.n; i += 32)
			told = memcmp(v + i, u->hash, 32) == 0;
		if (told)
			continue;
		memcpy(v + b.n, u->hash, 32);
		b.n += 32;
	}
	return b;
}

/* ---- what the coordinator says --------------------------------------------------- */

void specs_on_over(struct agent *a, uint64_t job)
{
	list_foreach_safe(e, &a->spec_uses) {
		struct spec_use *u = list_entry(e, struct spec_use, all);

		if (u->rid == 0 && u->job == job)
			use_over(a, u);
	}
}

void specs_registering(struct agent *a)
{
	a->registrations++;
	a->spec_lists_due++;
	a->specs_known = false;
}

void specs_session_over(struct agent *a)
{
	a->spec_lists_due = 0;
	a->specs_listed = false;
}

/* The list says it better, except of what was sent after we asked for it, and
 * of copies that were not here then. */
static bool is_listed(const struct agent *a, const struct spec_use *u)
{
	if (u->ticket != 0)
		return false;
	if (u->rid == 0)
		return u->sent != a->registrations;
	return u->sent != NOT_SENT && u->sent != a->registrations;
}

static void forget_listed(struct agent *a)
{
	list_foreach_safe(e, &a->spec_uses) {
		struct spec_use *u = list_entry(e, struct spec_use, all);

		if (is_listed(a, u))
			use_free(u);
	}
}

/* Copies that came while we registered: no word of them may have been heard. */
static void tell_unlisted(struct agent *a)
{
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): those freed before are off the list */
	list_foreach(e, &a->spec_uses) {
		const struct spec_use *u = list_entry(e, struct spec_use, all);

		if (u->rid == 0 && u->ticket == 0 && u->sent == a->registrations)
			tell_kept(a, u->job, u->hash);
	}
}

void specs_on_used(struct agent *a, const struct rec_specs_used *m)
{
	a->specs_known = false;
	if (!a->specs_listed)
		forget_listed(a);
	a->specs_listed = true;
	for (size_t i = 0; i < m->n_uses; i++) {
		struct spec_use *u = NULL;

		if (m->uses[i].hash.n == 32)
			u = use_add(a, m->uses[i].hash.p);
		if (u != NULL)
			u->job = m->uses[i].job;
	}
	if (m->more)
		return;
	a->specs_listed = false;
	if (a->spec_lists_due > 0)
		a->spec_lists_due--;
	if (a->spec_lists_due > 0)
		return; /* we have registered once more meanwhile: only that answer is complete */
	a->specs_known = true;
	tell_unlisted(a);
	act_add(a->out, ACT_TIDY_SPECS);
}

/* ---- asked by io ------------------------------------------------------------------- */

bool agent_specs_known(const struct agent *a)
{
	return a->specs_known;
}

bool agent_spec_needed(const struct agent *a, const uint8_t hash[32])
{
	if (!a->specs_known)
		return true;
	list_foreach(e, &a->spec_uses)
		if (memcmp(list_entry(e, struct spec_use, all)->hash, hash, 32) == 0)
			return true;
	return false;
}

void agent_each_spec(const struct agent *a, void (*f)(void *arg, const uint8_t hash[32]), void *arg)
{
	list_foreach(e, &a->spec_uses)
		f(arg, list_entry(e, struct spec_use, all)->hash);
}
