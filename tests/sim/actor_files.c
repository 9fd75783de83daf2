/* actor_files.c - what an agent asks its host for: files, ports, processes, peers
 *
 * Each thing takes its time and may fail; what it writes is there from the
 * moment of the action, its answer comes later, so a crash may fall between.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proto/spec.h"
#include "tests/sim/sim.h"

/* Answer to an action, on its way. */
struct done {
	enum action_type type;
	uint64_t ticket, job;
	uint32_t attempt;
	int error;
	bool retry;
	const char *text;
	uint32_t result;
	bool unhold; /* the launch has failed: its record goes */
	const struct rec_prepare *prepare; /* what the action was about; own copy of the few fields */
	uint32_t node_rank, nprocs, port;
	int64_t until;
	uint32_t sources[10], n_sources, now, spec; /* hosts that are asked, in turn */
	bool keep;
	struct rec_proof_result *results;
	size_t n_results;
	struct rec_stuck_proc *stuck;
	size_t n_stuck;
};

static struct held_file *file_of(struct sim *s, struct agent_actor *a, uint64_t job,
				 uint32_t attempt, bool make)
{
	struct held_file *f = a->files;

	while (f != NULL && (f->job != job || f->attempt != attempt))
		f = f->next;
	if (f != NULL || !make)
		return f;
	f = world_alloc(&s->w, sizeof(*f));
	f->job = job;
	f->attempt = attempt;
	f->next = a->files;
	return a->files = f;
}

static struct status_file *status_of(struct agent_actor *a, uint64_t job, uint32_t attempt)
{
	struct status_file *f = a->status;

	while (f != NULL && (f->job != job || f->attempt != attempt))
		f = f->next;
	return f;
}

void simagent_write_status(struct sim *s, uint32_t host, uint64_t job, uint32_t attempt,
			   const char *text, size_t len)
{
	struct status_file *f = status_of(&s->agents[host], job, attempt);

	if (f == NULL)
		return;
	f->text = text;
	f->len = len;
}

bool simagent_has_status(struct sim *s, uint32_t host, uint64_t job, uint32_t attempt)
{
	const struct status_file *f = status_of(&s->agents[host], job, attempt);

	return f != NULL && f->text != NULL;
}

static struct done *answer(struct sim *s, const struct action *act)
{
	struct done *d = world_alloc(&s->w, sizeof(*d));

	d->type = act->type;
	d->ticket = act->ticket;
	d->job = act->job;
	d->attempt = act->attempt;
	return d;
}

static void answer_in(struct sim *s, struct agent_actor *a, struct done *d, int64_t lo, int64_t hi)
{
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, lo, hi), EV_DONE, &a->proc, 0, d);
}

static void fails(struct done *d, int error, bool retry, const char *text)
{
	d->error = -error;
	d->retry = retry;
	d->text = text;
}

/* ---- specifications ---------------------------------------------------------------- */

static uint32_t spec_of(const uint8_t hash[32])
{
	return hash[0] % CLIENTS_MAX;
}

void simagent_uploaded(struct agent_actor *a, struct conn *c, const uint8_t hash[32])
{
	a->specs[spec_of(hash)] = true;
	a->spec_holder[spec_of(hash)] = c;
}

static void drop_spec(struct agent_actor *a, uint32_t i)
{
	if (a->spec_holder[i] == NULL)
		a->specs[i] = false;
}

void simagent_uploader_gone(struct agent_actor *a, const struct conn *c)
{
	uint8_t hash[32];

	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		if (a->spec_holder[i] != c)
			continue;
		a->spec_holder[i] = NULL;
		plan_hash(i, hash);
		if (!agent_spec_needed(a->core, hash))
			drop_spec(a, i);
	}
}

void simagent_find_specs(struct agent_actor *a)
{
	uint8_t hash[32];

	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		plan_hash(i, hash);
		if (a->specs[i])
			agent_spec_found(a->core, hash);
	}
}

static void tidy_specs(struct agent_actor *a)
{
	uint8_t hash[32];

	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		plan_hash(i, hash);
		if (!agent_spec_needed(a->core, hash))
			drop_spec(a, i);
	}
}

/* It is written while the answer is on its way, unless nobody wants it any more. */
static void got_spec(struct agent_actor *a, struct done *d)
{
	uint8_t hash[32];

	plan_hash(d->spec, hash);
	if (!d->keep || !agent_spec_needed(a->core, hash))
		return;
	a->specs[d->spec] = a->had_spec[d->spec] = true;
	d->result = 1;
}

/* The source answers a request for it. */
static void hand_out(struct sim *s, struct agent_actor *a, struct agent_actor *src, struct done *d)
{
	if (src->specs[d->spec]) {
		got_spec(a, d);
		return;
	}
	if (check_job(s, d->job)->final[0] == '\0')
		sim_fail(s, "a specification is kept as long as a job may need it (job %llu, %s)",
			 (unsigned long long)d->job, src->name);
	fails(d, ENOENT, false, "the node does not hold the specification");
}

/* ---- one action each ------------------------------------------------------------- */

static void do_dial(struct sim *s, struct agent_actor *a)
{
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS, 6 * MS), EV_DIALED, &a->proc, 0, NULL);
}

static uint32_t agent_of_key(const struct sim *s, const uint8_t *key)
{
	for (uint32_t i = 0; i < s->n_agents; i++)
		if (memcmp(s->agents[i].key, key, 32) == 0)
			return i;
	return NODES_MAX;
}

static void ask_there(struct sim *s, struct done *d, const struct rec_peer *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t host = agent_of_key(s, v[i].key.p);

		if (host < NODES_MAX && d->n_sources < 10)
			d->sources[d->n_sources++] = host;
	}
}

static void do_fetch(struct sim *s, struct agent_actor *a, const struct action *act)
{
	const struct rec_prepare *p = act->prepare;
	struct done *d = answer(s, act);

	d->spec = spec_of(p->spec_hash.p);
	d->keep = p->keep;
	if (a->specs[d->spec])
		d->sources[d->n_sources++] = a->idx;
	if (!p->copies_first)
		ask_there(s, d, p->source, p->n_source);
	ask_there(s, d, p->copies, p->n_copies);
	if (p->copies_first)
		ask_there(s, d, p->source, p->n_source);
	d->until = s->w.now + 5 * SECOND;
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS, 10 * MS), EV_FETCH, &a->proc, 0, d);
}

/* A source answers when it knows that we may ask: its 'allow' may still be on
 * its way. Meanwhile the others are asked. */
void simagent_fetch_poll(struct sim *s, struct agent_actor *a, const struct event *e)
{
	struct done *d = e->p;
	struct agent_actor *src = d->n_sources > 0 ? &s->agents[d->sources[d->now++ % d->n_sources]] : NULL;
	bool there = src != NULL && src->proc.up && src->proc.resume_at <= s->w.now &&
		     (src == a || (!src->cut_peers && !a->cut_peers));

	if (there && rng_chance(&s->w.rng, s->fetch_fails))
		fails(d, EIO, false, "the specification could not be read");
	else if (there && src == a && d->n_sources > 1 && !a->specs[d->spec]) {
		world_at(&s->w, s->w.now + MS, EV_FETCH, &a->proc, 0, d); /* its own was nobody's any more: the others are asked */
		return;
	} else if (there && (src == a || agent_peer_may_fetch(src->core, a->key, d->job)))
		hand_out(s, a, src, d);
	else if (s->w.now < d->until) {
		world_at(&s->w, s->w.now + 50 * MS, EV_FETCH, &a->proc, 0, d);
		return;
	} else {
		fails(d, EHOSTUNREACH, false, SPEC_NOT_FETCHED "any: none hands it out");
	}
	answer_in(s, a, d, MS, 10 * MS);
}

static void do_lease(struct sim *s, struct agent_actor *a, const struct action *act)
{
	struct done *d = answer(s, act);
	struct lease *l = world_alloc(&s->w, sizeof(*l));

	d->nprocs = act->prepare->nprocs;
	d->node_rank = act->prepare->node_rank;
	if (rng_chance(&s->w.rng, s->lease_fails))
		fails(d, EADDRINUSE, true, "no free port in 20000-30000");
	l->job = act->job;
	l->port = d->port = 20000 + 2 * s->n_leases++;
	l->life = a->proc.life;
	l->listening = d->error == 0;
	l->next = a->leases;
	a->leases = l;
	answer_in(s, a, d, MS / 10, 5 * MS);
}

static void drop_file(struct agent_actor *a, uint64_t job, uint32_t attempt)
{
	struct held_file **f = &a->files;

	while (*f != NULL && ((*f)->job != job || (*f)->attempt != attempt))
		f = &(*f)->next;
	if (*f != NULL)
		*f = (*f)->next;
}

/* A spool of this name is another cluster's: it is moved aside. */
static void make_spool(struct sim *s, struct agent_actor *a, uint64_t job, uint32_t attempt)
{
	struct status_file *st = status_of(a, job, attempt);

	if (st == NULL) {
		st = world_alloc(&s->w, sizeof(*st));
		st->next = a->status;
		a->status = st;
	}
	st->job = job;
	st->attempt = attempt;
	st->text = NULL;
}

static void do_spawn(struct sim *s, struct agent_actor *a, const struct action *act)
{
	struct done *d = answer(s, act);
	struct held_file *f = file_of(s, a, act->job, act->attempt, true);
	struct shim_actor *h;

	if (f->held) {
		fails(d, EEXIST, false, "the record of this attempt exists already");
		answer_in(s, a, d, MS / 10, MS);
		return;
	}
	f->held = true;
	f->prepare = world_copy(&s->w, act->prepare_json, strlen(act->prepare_json));
	f->prepare_len = strlen(act->prepare_json);
	f->cookie = world_copy(&s->w, act->cookie, strlen(act->cookie));
	f->lineage = act->lineage;
	if (rng_chance(&s->w.rng, s->spawn_fails)) {
		drop_file(a, act->job, act->attempt);
		fails(d, EAGAIN, true, "no more processes");
		answer_in(s, a, d, MS / 10, 20 * MS);
		return;
	}
	make_spool(s, a, act->job, act->attempt);
	h = simshim_spawn(s, a, act->prepare, f->cookie);
	if (s->launchers) {
		launcher_launch(s, a, d, h);
		return;
	}
	world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS, 20 * MS), EV_CONNECT, &a->proc, 0, h);
	answer_in(s, a, d, MS, 25 * MS);
}

static void tell_swept(struct sim *s, struct agent_actor *a, struct done *d, struct shim_actor *h,
		       uint32_t swept)
{
	d->result = swept;
	if (h == NULL || simshim_alive(h) == 0)
		return;
	fails(d, ETIME, true, "pid 1 (python, state D) could not be ended");
	d->stuck = world_alloc(&s->w, 16 * sizeof(*d->stuck));
	d->n_stuck = stuck_list(s, h, d->stuck, 16);
}

void files_launcher_answered(struct sim *s, struct agent_actor *a, struct done *d, bool kill,
			     struct shim_actor *h, int error, const char *text, uint32_t swept)
{
	if (error != 0)
		fails(d, error, true, text);
	else if (kill)
		tell_swept(s, a, d, h, swept);
	else
		world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS / 10, MS), EV_CONNECT, &a->proc, 0, h);
	d->unhold = error != 0 && !kill;
	answer_in(s, a, d, MS / 10, MS);
}

static bool listens(const struct agent_actor *a, uint64_t job, uint32_t port)
{
	for (const struct lease *l = a->leases; l != NULL; l = l->next)
		if (l->job == job && l->life == a->proc.life && l->listening && (l->port == port || l->port + 1 == port))
			return a->proc.up;
	return false;
}

static void do_prove(struct sim *s, struct agent_actor *a, const struct action *act)
{
	struct done *d = answer(s, act);

	d->results = world_alloc(&s->w, act->n_proofs * sizeof(*d->results) + 1);
	d->n_results = act->n_proofs;
	for (size_t i = 0; i < act->n_proofs; i++) {
		struct rec_proof_result *r = &d->results[i];
		const struct rec_proof *p = &act->proofs[i];
		uint32_t to = 0;

		while (to + 1 < s->n_agents && strcmp(s->agents[to].name, p->node) != 0)
			to++;
		r->kind = world_copy(&s->w, p->kind, strlen(p->kind));
		r->node = s->agents[to].name;
		r->text = "10.0.0.9:20001: connection refused";
		if (a->cut_peers || s->agents[to].cut_peers || !listens(&s->agents[to], act->job, p->port) ||
		    rng_chance(&s->w.rng, s->prove_fails))
			continue;
		r->reached = world_alloc(&s->w, sizeof(char *));
		r->reached[0] = s->agents[to].ip;
		r->n_reached = 1;
		r->text = NULL;
	}
	answer_in(s, a, d, MS / 2, 8 * MS);
}

static void do_latch(struct sim *s, struct agent_actor *a, const struct action *act)
{
	struct held_file *f = file_of(s, a, act->job, act->attempt, true);
	struct done *d = answer(s, act);

	if (f->latched)
		fails(d, EEXIST, false, "started before");
	f->latched = true;
	answer_in(s, a, d, MS / 10, 3 * MS);
}

static void do_sweep(struct sim *s, struct agent_actor *a, const struct action *act)
{
	struct shim_actor *h = simshim_find(s, a->idx, act->job, act->attempt);
	struct done *d = answer(s, act);

	if (s->launchers) {
		launcher_kill(s, a, d, h);
		return;
	}
	tell_swept(s, a, d, h, h != NULL ? simshim_sweep(s, h) : 0);
	answer_in(s, a, d, MS, 50 * MS);
}

static void do_look(struct sim *s, struct agent_actor *a, const struct action *act)
{
	struct done *d = answer(s, act);

	d->result = stuck_look(s, a, act);
	answer_in(s, a, d, MS / 10, 5 * MS);
}

/* Its shim has said so, and the agent looks: who is named and lives is. */
static void do_confirm(struct sim *s, struct agent_actor *a, const struct action *act)
{
	uint32_t alive = stuck_look(s, a, act);
	struct done *d = answer(s, act);

	d->stuck = world_alloc(&s->w, 16 * sizeof(*d->stuck));
	for (size_t i = 0; i < act->n_procs; i++)
		if (alive >> i & 1) {
			d->stuck[d->n_stuck] = (struct rec_stuck_proc){ .pid = act->procs[i].pid, .name = "python" };
			d->stuck[d->n_stuck].start_time = act->procs[i].start_time;
			d->stuck[d->n_stuck++].text = "state D (disk sleep)";
		}
	answer_in(s, a, d, 500 * MS, 520 * MS);
}

static void do_clean(struct sim *s, struct agent_actor *a, const struct action *act)
{
	struct shim_actor *h = simshim_find(s, a->idx, act->job, act->attempt);

	if (h != NULL && stuck_mortal(s, h) > 0)
		sim_fail(s, "a job's records are dropped only when nothing of it lives (%s, job %llu: "
			    "%u processes)", a->name, (unsigned long long)act->job, simshim_alive(h));
	drop_file(a, act->job, act->attempt);
}

static void note_order(struct sim *s, const struct conn *c, const char *text, size_t len)
{
	if (len > 13 && memcmp(text + 6, "shim_go", 7) == 0)
		gpus_go_sent(s, s->shims[c->end[1].proc->idx]);
}

static void do_link(struct sim *s, struct agent_actor *a, const struct action *act)
{
	int side;
	struct conn *c = net_of_link(&a->proc, act->link, &side);

	if (c != NULL && c->kind == CONN_SHIM && act->type == ACT_SEND)
		note_order(s, c, act->text, act->len);
	if (c == NULL || c->end[side].gone || c->end[side].closing)
		sim_fail(s, "no message is sent on a closed link (%s, link %llu, %s %.*s)", a->name,
			 (unsigned long long)act->link, action_name(act->type), (int)act->len,
			 act->text != NULL ? act->text : "");
	else if (act->type == ACT_SEND) {
		if (c->kind == CONN_CONTROL)
			repeat_said(s, a, act->text, act->len);
		net_send(s, c, side, act->text, act->len);
	} else
		net_close(s, c, side, act->text);
}

void simagent_perform(struct sim *s, struct agent_actor *a, const struct action *act)
{
	switch (act->type) {
	case ACT_SEND:
	case ACT_CLOSE:
		do_link(s, a, act);
		break;
	case ACT_LOG:
		break;
	case ACT_DIAL:
		do_dial(s, a);
		break;
	case ACT_FETCH:
	case ACT_KEEP_SPEC:
		do_fetch(s, a, act);
		break;
	case ACT_LEASE:
		do_lease(s, a, act);
		break;
	case ACT_SPAWN:
		do_spawn(s, a, act);
		break;
	case ACT_PROVE:
		do_prove(s, a, act);
		break;
	case ACT_UNLISTEN:
		for (struct lease *l = a->leases; l != NULL; l = l->next)
			l->listening = l->listening && l->job != act->job;
		break;
	case ACT_LATCH:
		do_latch(s, a, act);
		break;
	case ACT_SWEEP:
		do_sweep(s, a, act);
		break;
	case ACT_CONTAINERS:
	case ACT_READ:
		break; /* there are none here, and the probe speaks often enough */
	case ACT_LOOK:
		do_look(s, a, act);
		break;
	case ACT_CONFIRM:
		do_confirm(s, a, act);
		break;
	case ACT_CLEAN:
		do_clean(s, a, act);
		break;
	case ACT_REVOKE:
	case ACT_PEER_OUT:
		break; /* peers have no links here */
	case ACT_DROP_SPEC:
		drop_spec(a, spec_of(act->key));
		break;
	case ACT_TIDY_SPECS:
		tidy_specs(a);
		break;
	default:
		sim_fail(s, "an agent asks only for what it may (%s)", action_name(act->type));
	}
}

/* ---- answers -------------------------------------------------------------------- */

void simagent_done(struct sim *s, struct agent_actor *a, const struct event *e)
{
	static const char *const ras[16] = {
		"127.0.0.1:21000", "127.0.0.1:21001", "127.0.0.1:21002", "127.0.0.1:21003",
		"127.0.0.1:21004", "127.0.0.1:21005", "127.0.0.1:21006", "127.0.0.1:21007",
	};
	const struct done *d = e->p;
	struct agent_event ev = { .type = AEV_DONE, .ticket = d->ticket, .error = d->error };

	if (d->unhold)
		drop_file(a, d->job, d->attempt);
	ev.retry = d->retry;
	ev.text = d->text;
	ev.result = d->result;
	if (d->type == ACT_LEASE && d->error == 0) {
		ev.master_port = d->node_rank == 0 ? d->port : 0;
		ev.proof_port = d->port + 1;
		ev.ras = ras;
		ev.n_ras = d->nprocs < 8 ? d->nprocs : 8;
	}
	ev.stuck = d->stuck;
	ev.n_stuck = d->n_stuck;
	if (d->type == ACT_PROVE) {
		ev.results = d->results;
		ev.n_results = d->n_results;
		ev.ifname = "eth0";
	}
	LINE(&s->w, a->name, "done: %s %llu: %d %s", action_name(d->type),
	     (unsigned long long)d->job, d->error, d->text != NULL ? d->text : "");
	simagent_feed(s, a, &ev);
}

/* ---- after a restart ---------------------------------------------------------------- */

static void adopt_one(struct sim *s, struct agent_actor *a, const struct held_file *f)
{
	struct shim_actor *h = simshim_find(s, a->idx, f->job, f->attempt);
	const struct status_file *st = status_of(a, f->job, f->attempt);
	struct agent_event ev = { .type = AEV_ADOPT, .job = f->job, .attempt = f->attempt };
	struct rec_row_held held = { .job = f->job, .attempt = f->attempt };
	struct msg m;

	msg_init(&m, MSG_none);
	held.boot_id = a->boot_id;
	held.lineage = f->lineage;
	held.cookie = f->cookie;
	held.prepare = (struct bytes){ (const uint8_t *)f->prepare, f->prepare_len };
	ev.held = &held;
	ev.latched = f->latched;
	ev.alive = h != NULL && h->proc.up;
	if (!ev.alive && st != NULL && st->text != NULL) {
		if (msg_decode(st->text, st->len, &m, NULL) < 0)
			sim_fail(s, "a status file can be read back");
		ev.ended = &m.u.shim_ended;
	}
	LINE(&s->w, a->name, "adopts %llu.%u: %s%s%s", (unsigned long long)f->job, f->attempt,
	     f->latched ? "latched " : "", ev.alive ? "alive " : "", ev.ended ? "ended" : "");
	if (ev.alive)
		world_at(&s->w, s->w.now + rng_range(&s->w.rng, MS, 20 * MS), EV_CONNECT, &a->proc, 0,
			 h);
	simagent_feed(s, a, &ev);
	msg_finish(&m);
}

void simagent_adopt_all(struct sim *s, struct agent_actor *a)
{
	struct held_file *f, *next;

	for (f = a->files; f != NULL && a->proc.up; f = next) {
		next = f->next;
		if (f->held)
			adopt_one(s, a, f);
	}
}
