/* bulk_serve.c - this node's spool for one reader
 *
 *   waiting --(the spool is there)--> opening --> ready --> (done)
 *
 *   waiting  the job is being prepared here, or is about to be
 *   opening  a pool thread opens the files
 *   ready    bytes flow within the reader's credit; when all is sent, the shim
 *            is armed and tells once when more has come: no polling
 *
 * The end: the shim says of each stream that it is closed; or the attempt is
 * over here; or the reader wanted only what is there now.
 *
 * A reader here (a client of this agent) gets the frames directly on its link,
 * under its own sid; 'part' is told instead of a follow_end.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "io/bulk_private.h"
#include "io/spools.h"

#define TURN_BYTES (1u << 20) /* of one reader before others have the loop */
#define APPEAR_MS 5000 /* a job we have not heard of yet may be on its way */
#define NOMEM_MS 1000

enum serve_state { SV_WAITING, SV_OPENING, SV_READY, SV_GONE };

struct serve {
	struct list at;
	struct bulk *b;
	struct conn *out;
	uint32_t sid;
	struct part *part;
	uint64_t job;
	uint32_t attempt;
	bool live, from_end, holes;
	uint64_t offset;
	uint32_t tail, fds;
	int64_t since_wall_ms;
	uint32_t *ranks;
	size_t n_ranks;
	struct rec_follow_from *from;
	size_t n_from;

	enum serve_state state;
	mono_t give_up; /* waiting for a job unknown here */
	uint64_t early_credit;
	struct spool_reader *r;
	bool full; /* the link holds enough; on_drain is awaited */
	bool final; /* nobody writes any more */
	bool more; /* has used up its turn */
	bool wants_arm; /* everything was sent; waits for the shim's word */
	bool busy; /* a pool thread works for it: must not be freed */
	mono_t again; /* was out of memory */
	uv_work_t req;
	int open_rc;
	struct err open_err;
	uint32_t owner, rank_base, nprocs;
	struct spool_read read;
};

static void pump(struct serve *s);
static void open_spool(struct serve *s);
static void end_writing(struct serve *s);

/* What the shim said before this reader came. */
static void tell_reader(struct bulk *b, struct serve *s, struct source *o)
{
	uint32_t base, n;

	if (!agent_local_ranks(b->io->core, s->job, s->attempt, &base, &n))
		return;
	for (size_t i = 0; i < o->n_outs; i++)
		if (o->outs[i].size || o->outs[i].eof || o->outs[i].lost)
			spool_reader_grown(s->r, base + (uint32_t)(i / 2), 1 + i % 2,
					   o->outs[i].size, o->outs[i].eof, o->outs[i].lost,
					   o->outs[i].given);
}

/* ---- life --------------------------------------------------------------------- */

static void serve_free(struct serve *s)
{
	spool_reader_close(s->r);
	free(s->ranks);
	free(s->from);
	free(s);
}

/* Takes it out of everything; memory goes when no pool thread uses it. */
void serve_stop(struct serve *s)
{
	list_remove(&s->at);
	s->state = SV_GONE;
	if (!s->busy)
		serve_free(s);
}

static void finish(struct serve *s, const char *text)
{
	struct part *part = s->part;
	struct msg m;

	if (part == NULL) {
		msg_init(&m, MSG_follow_end);
		m.u.follow_end.sid = s->sid;
		m.u.follow_end.text = text;
		conn_send(s->out->link, &m);
	}
	if (part != NULL)
		part_ended(part, text); /* lets go of us: serve_stop() */
	else
		serve_stop(s);
}

static void refuse(struct serve *s, const char *code, const char *text)
{
	if (s->part != NULL) {
		part_refused(s->part, text);
		return;
	}
	conn_refuse(s->out->link, s->sid, code, "%s", text);
	serve_stop(s);
}

struct serve *serve_find(struct bulk *b, const struct conn *out, uint32_t sid)
{
	list_foreach(e, &b->serves) {
		struct serve *s = list_entry(e, struct serve, at);

		if (s->out == out && s->sid == sid && s->part == NULL)
			return s;
	}
	return NULL;
}

static void copy_request(struct serve *s, const struct rec_follow *f)
{
	if (f->n_ranks > 0) {
		s->ranks = agent_alloc(f->n_ranks * sizeof(*s->ranks));
		for (size_t i = 0; i < f->n_ranks; i++)
			s->ranks[s->n_ranks++] = (uint32_t)strtoul(f->ranks[i], NULL, 10);
	}
	if (f->n_from > 0) {
		s->from = agent_alloc(f->n_from * sizeof(*s->from));
		memcpy(s->from, f->from, f->n_from * sizeof(*s->from));
		s->n_from = f->n_from;
	}
}

struct serve *serve_start(struct bulk *b, struct conn *out, uint32_t sid, struct part *part,
			  const struct rec_follow *f)
{
	struct serve *s = agent_alloc(sizeof(*s));

	s->b = b;
	s->out = out;
	s->sid = sid;
	s->part = part;
	s->job = f->job;
	s->attempt = f->attempt;
	s->live = f->live;
	s->from_end = f->from_end;
	s->holes = f->holes;
	s->offset = f->offset;
	s->tail = f->tail;
	s->since_wall_ms = f->since_wall_ms;
	s->fds = f->fds;
	s->early_credit = f->credit;
	s->give_up = s->again = MONO_NEVER;
	copy_request(s, f);
	list_append(&b->serves, &s->at);
	b->used = true;
	/* while it is being prepared the spool is made at an unknown moment: before the shim */
	if (source_known(b, s->job, s->attempt) && !source_over(b, s->job, s->attempt) &&
	    source_shim(b, s->job, s->attempt) == NULL)
		s->state = SV_WAITING;
	else
		open_spool(s);
	return s;
}

/* ---- opening --------------------------------------------------------------------- */

static void open_work(uv_work_t *req)
{
	struct serve *s = list_entry(req, struct serve, req);
	struct spool_where w = { .spool_dir = s->b->io->opts->spool_dir, .job = s->job,
				 .attempt = s->attempt, .owner = s->owner, .rank_base = s->rank_base,
				 .nprocs = s->nprocs, .ranks = s->ranks,
				 .n_ranks = s->n_ranks, .from_end = s->from_end, .from = s->from,
				 .n_from = s->n_from, .offset = s->offset, .tail = s->tail,
				 .since_wall_ms = s->since_wall_ms, .fds = s->fds, .holes = s->holes };

	s->open_rc = spool_reader_open(&w, &s->r, &s->open_err);
}

static void no_spool(struct serve *s)
{
	bool over = source_known(s->b, s->job, s->attempt) && source_over(s->b, s->job, s->attempt);
	char text[ERR_TEXT_MAX + 256], limits[160];

	if (s->open_rc == -ENOENT && over && !agent_attempt_began(s->b->io->core, s->job, s->attempt)) {
		finish(s, NULL); /* it ended while being prepared: nothing was ever written */
		return;
	}
	if (s->open_rc == -ENOENT && s->live && !over && mono_is_never(s->give_up)) {
		s->give_up = mono_add_ms(clock_mono(), APPEAR_MS);
		bulk_due(s->b, s->give_up);
	}
	if (s->open_rc == -ENOENT && s->live && !over && mono_before(clock_mono(), s->give_up)) {
		s->state = SV_WAITING;
		return;
	}
	spools_say_limits(s->b->io->spools, limits, sizeof(limits));
	if (s->open_rc == -ENOENT)
		snprintf(text, sizeof(text), "node %s holds no output of job %" PRIu64 ".%u (any more): %s",
			 s->b->io->id.node, s->job, s->attempt, limits);
	else
		snprintf(text, sizeof(text), "node %s cannot read it: %s", s->b->io->id.node,
			 s->open_err.text);
	refuse(s, s->open_rc == -ENOENT ? "not-found" : "internal", text);
}

static void opened(uv_work_t *req, int status)
{
	struct serve *s = list_entry(req, struct serve, req);
	struct source *o;

	s->busy = false;
	if (s->state == SV_GONE) {
		serve_free(s);
		return;
	}
	if (s->open_rc != 0) {
		no_spool(s);
		return;
	}
	s->state = SV_READY;
	spool_reader_credit(s->r, s->early_credit);
	if (!s->live || source_over(s->b, s->job, s->attempt)) {
		s->final = true;
		spool_reader_final(s->r);
	} else {
		o = source_get(s->b, s->job, s->attempt);
		tell_reader(s->b, s, o);
	}
	pump(s);
}

static void open_spool(struct serve *s)
{
	struct job_io *j = job_io_find(s->b->io, s->job, s->attempt);

	s->state = SV_OPENING;
	s->busy = true;
	s->owner = j != NULL && j->uid_known	  ? j->uid
		   : s->b->io->opts->single_user ? s->b->io->own_uid
						 : SPOOL_ANY_OWNER;
	s->rank_base = j != NULL ? j->rank_base : 0;
	s->nprocs = j != NULL ? j->nprocs : 0;
	uv_queue_work(&s->b->io->loop, &s->req, open_work, opened);
}

/* ---- sending ------------------------------------------------------------------------ */

/* 0, 1 when the link has enough for now, negative when it is closing. */
static int emit(struct serve *s, struct data_header *h, char *buf, size_t n)
{
	int rc;

	h->sid = s->sid;
	if (buf != NULL)
		rc = link_send_data_take(s->out->link, h, buf, n);
	else
		rc = link_send_data(s->out->link, h, "", 0);
	if (s->part != NULL && rc >= 0)
		part_sent(s->part, n, rc);
	s->full = rc == 1;
	return rc;
}

static void read_work(uv_work_t *req)
{
	spool_read_blocking(&list_entry(req, struct serve, req)->read);
}

static void read_after(uv_work_t *req, int status)
{
	struct serve *s = list_entry(req, struct serve, req);
	struct data_header h;
	char *buf;
	size_t n;

	s->busy = false;
	if (s->state == SV_GONE) {
		free(s->read.buf);
		serve_free(s);
		return;
	}
	if (spool_read_done(s->r, &s->read, &h, &buf, &n) == SPOOL_SEND && emit(s, &h, buf, n) < 0)
		return; /* the link's end stops us */
	if (!s->final && source_over(s->b, s->job, s->attempt))
		end_writing(s);
	else
		pump(s);
}

static void read_disk(struct serve *s)
{
	s->busy = true;
	uv_queue_work(&s->b->io->loop, &s->req, read_work, read_after);
}

static void wait_for_more(struct serve *s)
{
	s->wants_arm = true;
	source_arm(s->b, source_get(s->b, s->job, s->attempt));
}

static void try_later(struct serve *s)
{
	s->again = mono_add_ms(clock_mono(), NOMEM_MS);
	bulk_due(s->b, s->again);
}

static void next_turn(struct serve *s)
{
	s->more = true;
	serve_more(s->b);
}

static void pump(struct serve *s)
{
	struct data_header h;
	size_t n, sent = 0;
	char *buf;

	while (s->state == SV_READY && !s->busy && !s->full) {
		if (sent >= TURN_BYTES) {
			next_turn(s);
			return;
		}
		switch (spool_reader_next(s->r, &h, &buf, &n, &s->read)) {
		case SPOOL_SEND:
			sent += n + 64;
			if (emit(s, &h, buf, n) < 0)
				return;
			break;
		case SPOOL_DISK:
			read_disk(s);
			return;
		case SPOOL_WAIT:
			wait_for_more(s);
			return;
		case SPOOL_CREDIT:
			return;
		case SPOOL_DONE:
			finish(s, spool_reader_trouble(s->r));
			return;
		case SPOOL_NOMEM:
			try_later(s);
			return;
		}
	}
}

void serve_credit(struct serve *s, uint64_t bytes)
{
	if (s->state != SV_READY) {
		s->early_credit += bytes;
		return;
	}
	spool_reader_credit(s->r, bytes);
	pump(s);
}

/* ---- what happens around us ------------------------------------------------------------ */

static void each_of(struct bulk *b, const struct source *o, void (*f)(struct serve *s, void *arg),
		    void *arg)
{
	list_foreach_safe(e, &b->serves) {
		struct serve *s = list_entry(e, struct serve, at);

		if (s->job == o->job && s->attempt == o->attempt)
			f(s, arg);
	}
}

struct grown_args {
	const struct rec_shim_grown *g;
	uint32_t base, n;
};

static void apply_grown(struct serve *s, void *arg)
{
	const struct grown_args *a = arg;

	if (s->state != SV_READY)
		return;
	for (size_t i = 0; i < a->g->n_outs; i++) {
		const struct rec_grown *w = &a->g->outs[i];

		if (w->local < a->n && (w->fd == 1 || w->fd == 2))
			spool_reader_grown(s->r, a->base + w->local, (uint8_t)w->fd, w->size, w->eof,
					   w->lost, w->given);
	}
	s->wants_arm = false;
	pump(s);
}

void serve_grown(struct bulk *b, struct conn *shim, const struct rec_shim_grown *g)
{
	struct source *o = source_get(b, shim->job, shim->attempt);
	struct grown_args a = { .g = g };

	o->armed = false;
	if (!agent_local_ranks(b->io->core, shim->job, shim->attempt, &a.base, &a.n))
		return;
	for (size_t i = 0; i < g->n_outs; i++)
		if (g->outs[i].local < a.n && (g->outs[i].fd == 1 || g->outs[i].fd == 2))
			source_note(o, &g->outs[i]);
	each_of(b, o, apply_grown, &a);
}

static void arm_again(struct serve *s, void *arg)
{
	if (s->wants_arm)
		source_arm(s->b, arg);
}

void serve_shim_up(struct bulk *b, struct conn *shim)
{
	struct source *o = source_find(b, shim->job, shim->attempt);

	if (o != NULL)
		o->armed = false; /* whatever was asked, was asked of another link */
}

static void end_writing(struct serve *s)
{
	s->final = true;
	s->wants_arm = false;
	spool_reader_final(s->r);
	pump(s);
}

static void kick(struct serve *s)
{
	struct bulk *b = s->b;
	bool here = source_known(b, s->job, s->attempt), over = source_over(b, s->job, s->attempt);

	if (s->state == SV_WAITING) {
		if (here ? over || source_shim(b, s->job, s->attempt) != NULL :
			   mono_is_never(s->give_up) || mono_due(s->give_up, clock_mono()))
			open_spool(s);
	} else if (s->state == SV_READY && !s->final && over) {
		if (!s->busy) /* else when its read has come back */
			end_writing(s);
	} else if (s->state == SV_READY && s->wants_arm) {
		arm_again(s, source_get(b, s->job, s->attempt));
	}
}

bool serve_reads(struct bulk *b, uint64_t job, uint32_t attempt)
{
	list_foreach(e, &b->serves) {
		const struct serve *s = list_entry(e, struct serve, at);

		if (s->job == job && s->attempt == attempt)
			return true;
	}
	return false;
}

void serve_kick(struct bulk *b)
{
	list_foreach_safe(e, &b->serves)
		kick(list_entry(e, struct serve, at));
	source_drop_unused(b);
}

void serve_drained(struct bulk *b, const struct conn *out)
{
	list_foreach_safe(e, &b->serves) {
		struct serve *s = list_entry(e, struct serve, at);

		if (s->out != out || !s->full)
			continue;
		s->full = false;
		pump(s);
	}
}

void serve_conn_gone(struct bulk *b, const struct conn *out)
{
	list_foreach_safe(e, &b->serves) {
		struct serve *s = list_entry(e, struct serve, at);

		if (s->out == out && s->part == NULL) /* those of parts end with their follow */
			serve_stop(s);
	}
}

void serve_peer_out(struct bulk *b, const struct conn *out, uint64_t job)
{
	list_foreach_safe(e, &b->serves) {
		struct serve *s = list_entry(e, struct serve, at);

		if (s->out == out && s->part == NULL && s->job == job)
			refuse(s, "denied", "nobody on your node watches this job any more");
	}
}

static void on_more(uv_idle_t *h)
{
	struct bulk *b = h->data;

	uv_idle_stop(h);
	list_foreach_safe(e, &b->serves) {
		struct serve *s = list_entry(e, struct serve, at);

		if (!s->more)
			continue;
		s->more = false;
		pump(s);
	}
}

void serve_more(struct bulk *b)
{
	uv_idle_start(&b->more, on_more);
}

mono_t serve_tick(struct bulk *b, mono_t now)
{
	mono_t next = MONO_NEVER;

	list_foreach_safe(e, &b->serves) {
		struct serve *s = list_entry(e, struct serve, at);

		if (mono_due(s->again, now)) {
			s->again = MONO_NEVER;
			pump(s);
			continue;
		}
		if (s->state == SV_WAITING && mono_due(s->give_up, now) &&
		    !source_known(b, s->job, s->attempt)) {
			open_spool(s); /* a last look; its failure is told */
			continue;
		}
		next = mono_min(next, s->again);
		if (s->state == SV_WAITING && !mono_due(s->give_up, now))
			next = mono_min(next, s->give_up);
	}
	return next;
}
