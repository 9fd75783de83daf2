/* node.c - agents and what stands for their core and pool; shims, ranks, and their disk */
#include "tests/sim/output/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/spool.h"
#include "io/spools.h"

struct host hosts[HOSTS];

/* ---- the disk: what is written is noted, and may fail ---------------------------- */

#define FDS 1024
static struct truth *file_of[FDS];
static struct shim *writing; /* whose turn it is */

ssize_t __real_write(int fd, const void *p, size_t n);
ssize_t __wrap_write(int fd, const void *p, size_t n);
int __real_fallocate(int fd, int mode, off_t from, off_t n);
int __wrap_fallocate(int fd, int mode, off_t from, off_t n);
int __real_spool_stream(int dir, uint32_t rank, uint32_t stream);
int __wrap_spool_stream(int dir, uint32_t rank, uint32_t stream);

int __real_spool_stamps(int dir);
int __wrap_spool_stamps(int dir);

static bool is_full(void)
{
	return writing != NULL && writing->host->full_until > now && permille(700);
}

ssize_t __wrap_write(int fd, const void *p, size_t n)
{
	struct truth *t = fd >= 0 && fd < FDS ? file_of[fd] : NULL;
	ssize_t w;

	if (t != NULL && is_full()) {
		errno = permille(800) ? ENOSPC : EIO;
		if (n < 2 || permille(500))
			return -1;
		n = 1 + chance(n - 1); /* the last blocks still had room */
	}
	w = __real_write(fd, p, n);
	if (t == NULL || w <= 0)
		return w;
	if (t->n + (size_t)w > t->cap) {
		t->cap = 2 * (t->n + (size_t)w);
		t->p = realloc(t->p, t->cap);
	}
	memcpy(t->p + t->n, p, (size_t)w);
	t->most = t->n += (size_t)w;
	return w;
}

int __wrap_fallocate(int fd, int mode, off_t from, off_t n)
{
	struct truth *t = fd >= 0 && fd < FDS ? file_of[fd] : NULL;
	int r;

	if (permille(20)) {
		errno = ENOSPC;
		return -1;
	}
	r = __real_fallocate(fd, mode, from, n);
	if (t != NULL && r == 0 && (uint64_t)(from + n) > t->given)
		t->given = (uint64_t)(from + n);
	return r;
}

int __wrap_spool_stamps(int dir)
{
	return writing->stamps = is_full() ? -ENOSPC : __real_spool_stamps(dir);
}

int __wrap_spool_stream(int dir, uint32_t rank, uint32_t stream)
{
	int fd = is_full() ? -ENOSPC : __real_spool_stream(dir, rank, stream);

	if (fd >= 0 && fd < FDS)
		file_of[fd] = &writing->host->truth[writing->attempt][2 * (rank % PPN) + stream];
	return fd;
}

/* ---- ranks and shims ---------------------------------------------------------------- */

char byte_at(uint32_t attempt, uint32_t rank, uint32_t fd, uint64_t at)
{
	static char line[LINE + 1];
	static uint64_t key = UINT64_MAX;
	uint64_t k = at / LINE << 16 | attempt << 12 | rank << 4 | fd;

	if (k != key)
		snprintf(line, sizeof(line), "%u.%02u.%u %024llu\n", attempt, rank, fd, (unsigned long long)(at / LINE));
	key = k;
	return line[at % LINE];
}

static void ranks_write(struct shim *s)
{
	char buf[8192];

	for (uint32_t i = 0; i < STREAMS; i++) {
		uint64_t left = s->target[i] - s->written[i];
		size_t n = 1 + chance(permille(200) ? sizeof(buf) : 300);
		ssize_t w;

		if (s->wr[i] < 0)
			continue;
		n = n < left ? n : left;
		for (size_t k = 0; k < n; k++)
			buf[k] = byte_at(s->attempt, s->host->i * PPN + i / 2, 1 + i % 2, s->written[i] + k);
		w = n > 0 ? __real_write(s->wr[i], buf, n) : 0;
		s->written[i] += w > 0 ? (uint64_t)w : 0;
		if (s->written[i] == s->target[i]) {
			close(s->wr[i]);
			s->wr[i] = -1;
		}
	}
}

static void ranks_end(struct shim *s)
{
	for (uint32_t i = 0; i < STREAMS; i++) {
		if (s->wr[i] >= 0)
			close(s->wr[i]);
		s->wr[i] = -1;
	}
}

/* As main.c of the shim does: told once for each time that it is asked. */
static void report_growth(struct shim *s)
{
	struct rec_grown outs[STREAMS];
	struct msg m;

	if (!s->armed || s->link == NULL || !output_changed(s->out))
		return;
	msg_init(&m, MSG_shim_grown);
	m.u.shim_grown.outs = outs;
	m.u.shim_grown.n_outs = output_report(s->out, outs, STREAMS);
	s->armed = false;
	conn_send(s->link, &m);
}

static void tell_ended(struct shim *s)
{
	struct rec_rank_state ranks[1] = { { .rank = 0, .state = "exited" } };
	struct msg m;

	if (s->link == NULL)
		return;
	msg_init(&m, MSG_shim_ended);
	m.u.shim_ended.ranks = ranks;
	m.u.shim_ended.n_ranks = 1;
	conn_send(s->link, &m);
}

static void close_files(const struct shim *s)
{
	for (int fd = 0; fd < FDS; fd++)
		if (file_of[fd] >= s->host->truth[s->attempt] && file_of[fd] < s->host->truth[s->attempt] + STREAMS) {
			file_of[fd] = NULL;
			close(fd);
		}
}

/* What the shim says of itself must be what came to pass. */
static void check_output(const struct shim *s)
{
	for (uint32_t i = 0; i < STREAMS; i++) {
		const struct truth *t = &s->host->truth[s->attempt][i];

		if (output_size(s->out, i) != t->n)
			broken("stream %u of host %u: the shim says %llu bytes, its file has %zu", i, s->host->i,
			       (unsigned long long)output_size(s->out, i), t->n);
		if (i % 2 == 1 && t[-1].n + t->n + output_lost(s->out, i / 2) != s->written[i - 1] + s->written[i])
			broken("rank %u of host %u: %llu bytes written, %zu in files, %llu counted as lost", i / 2, s->host->i,
			       (unsigned long long)(s->written[i - 1] + s->written[i]), t[-1].n + t->n,
			       (unsigned long long)output_lost(s->out, i / 2));
	}
}

static void shim_round(struct event *e)
{
	struct shim *s = e->a;
	bool open = false, closed;

	if (!s->alive || s->ended)
		return;
	ranks_write(s);
	writing = s;
	for (uint32_t i = 0; i < STREAMS; i++) {
		if (permille(700))
			output_read(s->out, i, now / MS, permille(300) ? 1 + chance(5000) : 0, &closed);
		open = open || output_is_open(s->out, i);
	}
	if (permille(100))
		output_flush_stamps(s->out);
	if (permille(30) && s->keep)
		output_keep(s->out, s->keep);
	writing = NULL;
	report_growth(s);
	if (open) {
		later(1 + (int64_t)chance(permille(100) ? 200 : 10), shim_round, s, 0);
		return;
	}
	check_output(s);
	for (uint32_t i = 0; i < PPN; i++)
		s->host->truth[s->attempt][2 * i].lost = output_lost(s->out, i);
	s->ended = true;
	trace("host %u: shim of attempt %u has ended", s->host->i, s->attempt);
	tell_ended(s);
	shim_gone(s->host, s->attempt);
}

static void on_dial_shim(struct event *e)
{
	struct host *h = e->b;
	struct shim *s = h->shims[e->y];
	struct conn *c;

	if (h->life != e->x || !h->up || s == NULL || !h->known[e->y])
		return;
	if (!s->alive) {
		h->over[e->y] = true; /* what it left was swept */
		host_kick(h);
		return;
	}
	c = conn_new(h, LINK_SHIM);
	c->job = JOB;
	c->attempt = (uint32_t)e->y;
	s->link = link_peer(wire_new(L_AGENT, c, L_SHIM, s));
	c->link = link_peer(s->link);
	c->id = c->link->id;
	s->armed = false;
	output_forget_reports(s->out);
	if (s->ended)
		tell_ended(s);
	bulk_shim_up(h->io->bulk, c);
	host_kick(h);
}

static void dial_shim(struct host *h, uint32_t attempt)
{
	struct event *e = later(1 + (int64_t)chance(permille(100) ? 2000 : 30), on_dial_shim, NULL, h->life);

	e->b = h;
	e->y = attempt;
}

void shim_start(struct host *h, uint32_t attempt, uint64_t each, uint64_t keep)
{
	struct shim *s = calloc(1, sizeof(*s));
	int spool, rd;
	struct err e;

	*s = (struct shim){ .host = h, .attempt = attempt, .alive = true, .keep = keep };
	spool = spool_open(h->spool, (gid_t)-1, &e);
	if (spool < 0 || spool_begin(spool, JOB, attempt, &s->dir, &e) < 0)
		broken("no spool: %s", e.text);
	close(spool);
	s->out = output_create_in(PPN, s->dir);
	output_set_rank_base(s->out, h->i * PPN);
	if (keep)
		output_keep(s->out, keep);
	for (uint32_t i = 0; i < STREAMS; i++) {
		if (output_open(s->out, i, &rd, &s->wr[i]) < 0)
			broken("no pipe");
		fcntl(s->wr[i], F_SETFL, O_NONBLOCK);
		s->target[i] = permille(150) ? 0 : chance(i % 2 ? each / 4 + 1 : each + 1);
	}
	h->shims[attempt] = s;
	dial_shim(h, attempt);
	later(1, shim_round, s, 0);
}

static void shim_free(struct shim *s)
{
	ranks_end(s);
	if (s->out != NULL) {
		close_files(s);
		output_destroy(s->out);
		if (s->stamps > 0)
			close(s->stamps);
		close(s->dir);
	}
	s->out = NULL;
	s->alive = false;
}

/* kill -9: what is in the pipes and in its memory is gone; what was written stays. */
void shim_kill(struct shim *s)
{
	if (s == NULL || !s->alive)
		return;
	trace("host %u: shim of attempt %u is killed", s->host->i, s->attempt);
	counts.kills++;
	s->host->shim_killed[s->attempt] = s->host->shim_killed[s->attempt] || !s->ended;
	if (s->link != NULL)
		link_forget(s->link);
	s->link = NULL;
	shim_free(s);
	if (!s->ended)
		shim_gone(s->host, s->attempt);
	s->ended = true;
}

void shim_frame(struct link *l, struct event *e)
{
	struct shim *s = l->owner;
	struct msg m;

	if (msg_decode(e->data, e->n, &m, NULL) != 0)
		broken("a shim cannot read what it is sent");
	if (m.type == MSG_shim_arm) {
		s->armed = true;
		report_growth(s);
	}
	msg_finish(&m);
}

void shim_down(struct link *l)
{
	struct shim *s = l->owner;

	if (s->link == l)
		s->link = NULL;
}

/* ---- agents ------------------------------------------------------------------------------ */

struct host *host_of_key(const uint8_t *key)
{
	for (unsigned i = 0; i < HOSTS; i++)
		if (memcmp(hosts[i].key, key, 32) == 0)
			return &hosts[i];
	return NULL;
}

const uint8_t *tls_own_key(const struct tls_context *t)
{
	return (const uint8_t *)t; /* a host's key stands for it */
}

struct conn *conn_new(struct host *h, enum agent_link_kind kind)
{
	struct conn *c = calloc(1, sizeof(*c));

	c->io = h->io;
	c->kind = kind;
	list_append(&h->io->conns, &c->at);
	return c;
}

static struct host *host_of(const struct agent *a)
{
	return a->h;
}

struct conn *conn_find(struct agent_io *io, uint64_t id)
{
	list_foreach(e, &io->conns)
		if (list_entry(e, struct conn, at)->id == id)
			return list_entry(e, struct conn, at);
	return NULL;
}

struct job_io *job_io_find(struct agent_io *io, uint64_t j, uint32_t attempt)
{
	struct host *h = io->core->h;

	return attempt <= ATTEMPTS && h->known[attempt] ? &h->jio[attempt] : NULL;
}

static struct watch *watch_of(const struct host *h, uint64_t link)
{
	for (size_t i = 0; i < 64; i++)
		if (h->watches[i].used && h->watches[i].link == link)
			return (struct watch *)&h->watches[i];
	return NULL;
}

bool agent_client_may(const struct agent *a, uint64_t link, uint64_t j)
{
	const struct watch *w = watch_of(a->h, link);

	return w != NULL && w->answered;
}

size_t agent_job_peers(const struct agent *a, uint64_t link, uint64_t j, const struct rec_peer **ret, uint32_t *ret_attempt)
{
	static struct rec_peer v[HOSTS];
	static char names[HOSTS][8];
	const struct watch *w = watch_of(a->h, link);

	if (w == NULL || !w->answered || job.attempt == 0)
		return 0;
	for (unsigned i = 0; i < HOSTS; i++) {
		snprintf(names[i], sizeof(names[i]), "n%u", i);
		v[i] = (struct rec_peer){ .node = names[i], .port = 1, .key = { hosts[i].key, 32 } };
	}
	*ret = v;
	*ret_attempt = w->fixed ? w->fixed : job.attempt;
	return HOSTS;
}

bool agent_local_ranks(const struct agent *a, uint64_t j, uint32_t attempt, uint32_t *ret_base, uint32_t *ret_n)
{
	if (attempt > ATTEMPTS || !a->h->known[attempt])
		return false;
	*ret_base = a->h->i * PPN;
	*ret_n = PPN;
	return true;
}

bool agent_attempt_began(const struct agent *a, uint64_t j, uint32_t attempt)
{
	return attempt <= ATTEMPTS && a->h->known[attempt] && a->h->shims[attempt] != NULL;
}

uint64_t agent_shim_link(const struct agent *a, uint64_t j, uint32_t attempt)
{
	list_foreach(e, &a->h->io->conns) {
		const struct conn *c = list_entry(e, struct conn, at);

		if (c->kind == LINK_SHIM && c->attempt == attempt && a->h->known[attempt])
			return c->id;
	}
	return 0;
}

bool agent_peer_may(const struct agent *a, const uint8_t key[32], uint64_t j)
{
	return host_of(a)->allowed[host_of_key(key)->i];
}

void agent_each_job(const struct agent *a, void (*f)(void *, uint64_t, uint32_t, const char *), void *arg)
{
	for (uint32_t i = 1; i <= ATTEMPTS; i++)
		if (a->h->known[i])
			f(arg, JOB, i, a->h->over[i] ? "ended" : "running");
}

void spools_say_limits(const struct spools *s, char *out, size_t size)
{
	snprintf(out, size, "limits");
}

/* Standard input and specifications are not here. */
void stdin_open(struct bulk *b, struct conn *c, const struct rec_stdin_open *m) {}
bool stdin_data(struct bulk *b, struct conn *c, const struct data_header *h, const char *p, size_t n) { return false; }
void stdin_shim(struct bulk *b, struct conn *shim, const struct rec_shim_stdin *m) {}
void stdin_shim_gone(struct bulk *b, const struct conn *shim) {}
void stdin_conn_gone(struct bulk *b, const struct conn *c) {}
void stdin_peer_out(struct bulk *b, const struct conn *c, uint64_t j) {}
void stdin_close(struct bulk *b, const struct conn *c, uint32_t sid) {}
void fetch_serve(struct bulk *b, struct conn *peer, const struct rec_spec_get *m) {}
mono_t fetch_tick(struct bulk *b, mono_t t) { return MONO_NEVER; }

void host_kick(struct host *h)
{
	if (h->up)
		bulk_kick(h->io->bulk);
}

static void conn_drop(struct conn *c)
{
	struct bulk *b = c->io->bulk;
	struct watch *w = watch_of(c->io->core->h, c->id);

	if (w != NULL)
		w->used = false;
	list_remove(&c->at);
	bulk_conn_gone(b, c);
	free(c);
}

void agent_down(struct link *l)
{
	struct conn *c = l->owner;
	struct host *h = c->io->core->h;
	uint32_t attempt = c->kind == LINK_SHIM ? c->attempt : 0;

	l->owner = NULL;
	c->link = NULL;
	conn_drop(c);
	if (attempt && h->known[attempt] && !h->over[attempt])
		dial_shim(h, attempt);
	host_kick(h);
}

bool agent_drained(struct link *l)
{
	struct conn *c = l->owner;

	bulk_conn_drained(c->io->bulk, c);
	return true;
}

/* ---- watches ------------------------------------------------------------------------------- */

static void on_allow(struct event *e)
{
	struct host *to = e->a;

	if (to->life != e->x || !to->up)
		return;
	to->allowed[e->y] = true;
}

static void on_update(struct event *e)
{
	struct host *h = e->b;
	struct conn *c = h->life == e->x && h->up ? conn_find(h->io, e->y) : NULL;
	struct watch *w = c != NULL ? watch_of(h, c->id) : NULL;
	struct rec_attempt_info past[ATTEMPTS + 1];
	struct rec_job_info info;
	struct msg m;

	if (w == NULL)
		return;
	msg_init(&m, MSG_job_update);
	fill_info(&info, past, w->fixed ? w->fixed : job.attempt);
	m.u.job_update.rid = w->rid;
	m.u.job_update.job = &info;
	m.u.job_update.n_job = 1;
	m.u.job_update.settled = job.settled;
	w->answered = true;
	for (unsigned i = 0; i < HOSTS; i++)
		if (hosts[i].up)
			later((int64_t)chance(permille(200) ? 300 : 5), on_allow, &hosts[i], hosts[i].life)->y = h->i;
	bulk_job_update(h->io->bulk, &m.u.job_update);
	conn_send(c->link, &m);
	bulk_kick(h->io->bulk);
}

static void update(struct host *h, const struct watch *w, int64_t ms)
{
	struct event *e = later(ms, on_update, NULL, h->life);

	e->b = h;
	e->y = w->link;
}

void update_watches(void)
{
	for (unsigned i = 0; i < HOSTS; i++)
		for (size_t k = 0; hosts[i].up && k < 64; k++)
			if (hosts[i].watches[k].used)
				update(&hosts[i], &hosts[i].watches[k], (int64_t)chance(permille(100) ? 1500 : 10));
}

static void take_watch(struct host *h, const struct conn *c, const struct rec_watch *r)
{
	for (size_t i = 0; i < 64; i++) {
		struct watch *w = &h->watches[i];

		if (w->used)
			continue;
		*w = (struct watch){ .used = true, .link = c->id, .rid = r->rid, .fixed = r->attempt };
		update(h, w, (int64_t)chance(permille(100) ? 1500 : 20));
		return;
	}
}

void agent_frame(struct link *l, struct event *e)
{
	struct conn *c = l->owner;
	struct host *h = c->io->core->h;
	struct msg m;

	if (e->x)
		return; /* DATA: nobody sends us any here */
	if (msg_decode(e->data, e->n, &m, NULL) != 0)
		broken("an agent cannot read what it is sent: %.*s", (int)e->n, e->data);
	if (m.type == MSG_watch) {
		take_watch(h, c, &m.u.watch);
	} else if (m.type == MSG_shim_ended) {
		h->over[c->attempt] = true;
		bulk_kick(h->io->bulk);
	} else {
		bulk_message(h->io->bulk, c, &m);
		bulk_kick(h->io->bulk);
	}
	msg_finish(&m);
}

/* ---- life ------------------------------------------------------------------------------------ */

void agent_start(struct host *h)
{
	h->up = true;
	h->life++;
	h->io = calloc(1, sizeof(*h->io));
	h->io->opts = &h->opts;
	h->io->core = &h->core;
	h->io->tls = (struct tls_context *)h->key;
	h->io->own_uid = getuid();
	snprintf(h->io->id.node, sizeof(h->io->id.node), "n%u", h->i);
	list_init(&h->io->conns);
	bulk_create(h->io, &h->io->bulk);
	for (uint32_t i = 1; i <= ATTEMPTS; i++)
		if (h->known[i] && !h->over[i])
			dial_shim(h, i);
}

static void on_restart(struct event *e)
{
	struct host *h = e->a;

	if (!h->up) {
		trace("host %u: its agent is back", h->i);
		agent_start(h);
	}
}

static void agent_stop(struct host *h)
{
	struct bulk *b = h->io->bulk;
	bool known[ATTEMPTS + 1];

	h->up = false;
	h->life++;
	pool_mute(b->pool);
	list_foreach_safe(e, &h->io->conns) {
		struct conn *c = list_entry(e, struct conn, at);

		if (c->link != NULL)
			link_forget(c->link);
		conn_drop(c);
	}
	memset(h->watches, 0, sizeof(h->watches));
	memset(h->allowed, 0, sizeof(h->allowed));
	memcpy(known, h->known, sizeof(known));
	memset(h->known, 0, sizeof(h->known));
	source_drop_unused(b);
	memcpy(h->known, known, sizeof(known));
	pool_tick(b->pool, MONO_NEVER); /* as far as this world goes: its end */
	list_foreach_safe(e, &b->seen) {
		list_remove(e);
		free(e); /* it is their first member */
	}
	free(b);
	free(h->io);
	h->io = NULL;
}

void agent_crash(struct host *h)
{
	if (!h->up)
		return;
	trace("host %u: its agent is killed", h->i);
	counts.crashes++;
	agent_stop(h);
	later((int64_t)chance(permille(150) ? 6000 : 300), on_restart, h, 0);
}

/* Nothing of the output is synced: of each file some begin is left, and /run is empty. */
void host_power_loss(struct host *h)
{
	char path[128];

	trace("host %u: the power is gone", h->i);
	counts.powers++;
	agent_crash(h);
	h->lost_power = true;
	for (uint32_t a = 1; a <= ATTEMPTS; a++) {
		shim_kill(h->shims[a]);
		h->known[a] = h->over[a] = false;
		for (uint32_t i = 0; i < STREAMS && !h->removed[a]; i++) {
			struct truth *t = &h->truth[a][i];

			snprintf(path, sizeof(path), "%s/%d.%u/%u.%s", h->spool, JOB, a, h->i * PPN + i / 2, i % 2 ? "err" : "out");
			if (t->n == 0 || permille(500))
				continue;
			t->n = t->given + chance(t->n - t->given + 1);
			if (truncate(path, (off_t)t->n) != 0)
				broken("%s: %s", path, strerror(errno));
		}
	}
}

/* The coordinator knows the end: the agent lets go of the attempt, its spool stays. */
void host_forget(struct host *h, uint32_t attempt)
{
	if (!h->known[attempt] || !h->over[attempt] || !h->up)
		return;
	h->known[attempt] = false;
	list_foreach_safe(e, &h->io->conns) {
		struct conn *c = list_entry(e, struct conn, at);

		if (c->kind != LINK_SHIM || c->attempt != attempt)
			continue;
		link_forget(c->link);
		conn_drop(c);
	}
	host_kick(h);
}

void host_remove_spool(struct host *h, uint32_t attempt)
{
	struct err e;
	int spool;

	if (h->known[attempt] || h->removed[attempt])
		return;
	trace("host %u: the spool of attempt %u is taken away", h->i, attempt);
	spool = spool_open(h->spool, (gid_t)-1, &e);
	if (spool < 0 || spool_remove(spool, JOB, attempt, SPOOL_ATTEMPT, &e) != 0)
		broken("%s", e.text);
	close(spool);
	h->removed[attempt] = true;
}

void host_begin(struct host *h, unsigned i)
{
	uint32_t life = h->life;

	memset(h, 0, sizeof(*h));
	h->i = i;
	h->life = life + 1;
	h->core.h = h;
	memset(h->key, (int)(i + 1), sizeof(h->key));
	snprintf(h->spool, sizeof(h->spool), "%s/na_flow.%d.%u", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid(), i);
	h->opts.spool_dir = h->spool;
	h->opts.single_user = true;
	for (uint32_t a = 1; a <= ATTEMPTS; a++)
		h->jio[a] = (struct job_io){ .job = JOB, .attempt = a, .uid = getuid(), .uid_known = true, .rank_base = i * PPN,
					     .nprocs = PPN };
	agent_start(h);
}

void host_end(struct host *h)
{
	struct err e;
	int spool;

	if (h->up)
		agent_stop(h);
	spool = spool_open(h->spool, (gid_t)-1, &e);
	for (uint32_t a = 1; a <= ATTEMPTS; a++) {
		if (h->shims[a] != NULL)
			shim_free(h->shims[a]);
		free(h->shims[a]);
		h->shims[a] = NULL;
		for (uint32_t i = 0; i < STREAMS; i++)
			free(h->truth[a][i].p);
		if (spool >= 0)
			spool_remove(spool, JOB, a, SPOOL_ATTEMPT, &e);
	}
	if (spool >= 0)
		close(spool);
	rmdir(h->spool);
}
