/* agent_conns.c - the links the core knows, and what comes in on them
 *
 *   coordinator  dialled; everything to the core
 *   client       accepted on RUN/agent.sock; uid by SO_PEERCRED, name looked up first
 *   peer         accepted by TLS, key allowed by the core
 *   shim         dialled at RUN/shims/JOB.ATTEMPT.sock
 *
 * Bulk messages and DATA go to bulk.c, the rest to the core. Links to peers
 * that we dial belong to bulk_pool.c alone.
 *
 * A shim's link that breaks does not mean a dead shim: as long as its socket
 * answers we connect again, and the core hears of a new link first, of the
 * lost one after. Only a socket that nobody serves is told as a loss: what hinders
 * us (no descriptors left, a full backlog) says nothing of the shim, so it is
 * asked again.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "io/bulk.h"
#include "io/spools.h"

#define PENDING_MAX 256
#define SHIM_DIALS 5
#define REDIAL_MS 500

static const struct link_callbacks conn_callbacks, refused_callbacks;

/* ---- sending ---------------------------------------------------------- */

void conn_send(struct link *l, const struct msg *m)
{
	struct buf b;
	struct err e;

	buf_init(&b);
	if (msg_encode(m, &b, &e) == 0) {
		link_send_json(l, b.data, b.len);
	} else {
		log_error("cannot encode %s: %s", msg_name(m->type), e.text);
		link_close(l, "a message to it was lost"); /* better anew than waiting for it for ever */
	}
	buf_finish(&b);
}

void conn_refuse(struct link *l, uint32_t rid, const char *code, const char *fmt, ...)
{
	char text[1024];
	struct msg m;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	msg_init(&m, MSG_refused);
	if (rid != 0)
		MSG_SET(&m.u.refused, refused, rid, rid);
	m.u.refused.code = code;
	m.u.refused.text = text;
	conn_send(l, &m);
}

/* ---- life ------------------------------------------------------------- */

static struct conn *conn_new(struct agent_io *io, enum agent_link_kind kind)
{
	struct conn *c = agent_alloc(sizeof(*c));

	c->io = io;
	c->kind = kind;
	list_append(&io->conns, &c->at);
	return c;
}

static void conn_set_link(struct conn *c, struct link *l)
{
	c->link = l;
	c->id = link_id(l);
	if (map_put(&c->io->conn_by_id, c->id, c) != 0)
		agent_no_memory();
}

static void conn_free(struct conn *c)
{
	if (c->id != 0)
		map_del(&c->io->conn_by_id, c->id);
	if (c->io->coord == c)
		c->io->coord = NULL;
	upload_half(c, 0);
	upload_gone(c);
	list_remove(&c->at);
	free(c);
}

struct conn *conn_find(struct agent_io *io, uint64_t id)
{
	return map_get(&io->conn_by_id, id);
}

/* Tells the core of a new link; messages may follow. */
static void announce(struct conn *c)
{
	struct agent_event ev = { .type = AEV_LINK_UP, .link = c->id, .kind = c->kind,
				  .uid = c->uid, .user = c->user, .job = c->job,
				  .attempt = c->attempt };

	memcpy(ev.key, c->key, sizeof(ev.key));
	c->up = true;
	agent_feed(c->io, &ev);
}

static void tell_down(struct agent_io *io, uint64_t id, const char *why)
{
	struct agent_event ev = { .type = AEV_LINK_DOWN, .link = id, .text = why };

	agent_feed(io, &ev);
}

/* ---- the coordinator --------------------------------------------------- */

void conns_tell_addrs(struct agent_io *io)
{
	struct addr_text have[ADDRS_MAX];
	struct rec_addr recs[ADDRS_MAX];
	struct agent_event ev = { .type = AEV_ADDRS, .addrs = recs };

	memset(recs, 0, sizeof(recs));
	ev.n_addrs = addrs_list(io->addr_first, have);
	for (size_t i = 0; i < ev.n_addrs; i++) {
		recs[i].ip = have[i].ip;
		recs[i].ifname = have[i].ifname[0] ? have[i].ifname : NULL;
	}
	agent_feed(io, &ev);
}

void conns_dial_coordinator(struct agent_io *io)
{
	struct conn *c = conn_new(io, LINK_COORD);
	struct link *l = link_dial_tls(&io->loop, io->tls, io->id.coord_host, io->id.coord_port,
				       io->id.coord_key, 10000, &conn_callbacks, c);

	if (l == NULL)
		agent_no_memory();
	conn_set_link(c, l);
	io->coord = c;
}

/* Before the core hears of the link: registration names our addresses, the one
 * this link uses first. */
static void coordinator_up(struct conn *c)
{
	snprintf(c->io->addr_first, sizeof(c->io->addr_first), "%s", link_local_address(c->link));
	conns_tell_addrs(c->io);
	log_info("connected to the coordinator at %s:%u", c->io->id.coord_host, c->io->id.coord_port);
	announce(c);
}

static void coordinator_down(struct conn *c, const char *why)
{
	struct agent_io *io = c->io;
	uint64_t id = c->id;
	bool was_up = c->up;
	struct agent_event ev = { .type = AEV_DIAL_FAILED, .text = why };

	conn_free(c);
	log_warn("coordinator: %s", why);
	if (was_up)
		tell_down(io, id, why);
	else
		agent_feed(io, &ev);
}

/* ---- shims ------------------------------------------------------------- */

void conns_dial_shim(struct agent_io *io, uint64_t job, uint32_t attempt, uint64_t ticket,
		     uint32_t pid)
{
	struct conn *c = conn_new(io, LINK_SHIM);
	char path[108];
	struct link *l;

	c->job = job;
	c->attempt = attempt;
	c->ticket = ticket;
	c->shim_pid = pid;
	shims_socket_path(io, job, attempt, path);
	l = link_dial_unix(&io->loop, path, &conn_callbacks, c);
	if (l == NULL)
		agent_no_memory();
	conn_set_link(c, l);
}

static void shim_up(struct conn *c)
{
	struct agent_io *io = c->io;
	uint64_t ticket = c->ticket, lost = c->lost_id;
	struct later *l;

	c->ticket = 0;
	c->lost_id = 0;
	spools_shim_up(io->spools, c);
	bulk_shim_up(io->bulk, c);
	if (ticket != 0) { /* before announce(), which may end in anything */
		l = agent_later_new(AEV_DONE);
		l->ev.ticket = ticket;
		l->ev.result = c->shim_pid;
		agent_later(io, l);
	}
	announce(c);
	if (lost != 0)
		tell_down(io, lost, "connected anew");
}

/* Was it only the link? As long as something listens at the socket the shim lives. */
static bool shim_dial_again(struct conn *old)
{
	struct conn *c;

	if (old->dials >= SHIM_DIALS || job_io_find(old->io, old->job, old->attempt) == NULL)
		return false;
	conns_dial_shim(old->io, old->job, old->attempt, 0, old->shim_pid);
	c = list_entry(old->io->conns.prev, struct conn, at);
	c->dials = old->dials + 1;
	c->lost_id = old->up ? old->id : old->lost_id;
	return true;
}

/* A shim that may live: nothing can be learnt of it just now. */
struct unsure {
	struct list at;
	uint64_t job, lost;
	uint32_t attempt, pid;
	unsigned dials;
};

static void on_redial(uv_timer_t *t)
{
	struct agent_io *io = t->data;
	struct list due;

	list_init(&due);
	while (!list_empty(&io->unsure)) {
		struct list *e = io->unsure.next;

		list_remove(e);
		list_append(&due, e);
	}
	list_foreach_safe(e, &due) {
		struct unsure *u = list_entry(e, struct unsure, at);
		struct conn *c;

		if (job_io_find(io, u->job, u->attempt) != NULL) {
			conns_dial_shim(io, u->job, u->attempt, 0, u->pid);
			c = list_entry(io->conns.prev, struct conn, at);
			c->dials = u->dials;
			c->lost_id = u->lost;
		}
		free(u);
	}
}

void conns_init(struct agent_io *io)
{
	list_init(&io->conns);
	list_init(&io->unsure);
	uv_timer_init(&io->loop, &io->redial);
	io->redial.data = io;
}

/* True: it is asked again later, and the core hears nothing yet. */
static bool shim_ask_later(struct conn *c, uint64_t lost)
{
	struct agent_io *io = c->io;
	enum shim_answer answer = SHIM_GONE;
	struct unsure *u;

	if (job_io_find(io, c->job, c->attempt) != NULL)
		answer = shims_socket_ask(io, c->job, c->attempt);
	if (answer == SHIM_GONE || (answer == SHIM_LISTENS && c->dials >= SHIM_DIALS))
		return false;
	u = agent_alloc(sizeof(*u));
	*u = (struct unsure){ .job = c->job, .lost = lost, .attempt = c->attempt, .pid = c->shim_pid,
			      .dials = c->dials + (answer == SHIM_LISTENS) };
	list_append(&io->unsure, &u->at);
	if (!uv_is_active((uv_handle_t *)&io->redial))
		uv_timer_start(&io->redial, on_redial, REDIAL_MS, 0);
	return true;
}

static void shim_down(struct conn *c, const char *why)
{
	struct agent_io *io = c->io;
	uint64_t id = c->id, ticket = c->ticket, lost = c->lost_id;
	bool was_up = c->up, again = was_up && shim_dial_again(c);
	char text[256];

	again = again || (ticket == 0 && shim_ask_later(c, was_up ? id : lost));
	if (again) {
		bulk_conn_gone(io->bulk, c);
		conn_free(c);
		return;
	}
	if (ticket != 0) {
		snprintf(text, sizeof(text), "the job's shim does not answer: %s", why);
		agent_done(io, ticket, -ECONNREFUSED, true, text);
		shims_abandon(io, c->job, c->attempt);
	} else if (!was_up && lost == 0) {
		c->link = NULL;
		announce(c); /* adopted, and dead before we reached it: the core waits for this link */
		was_up = true;
	}
	bulk_conn_gone(io->bulk, c);
	conn_free(c);
	if (lost != 0)
		tell_down(io, lost, why);
	if (was_up)
		tell_down(io, id, why);
}

/* ---- clients ----------------------------------------------------------- */

static void client_named(void *arg, const char *name)
{
	struct conn *c = arg;

	if (name != NULL) {
		snprintf(c->user, sizeof(c->user), "%s", name);
	} else if (c->io->opts->single_user) {
		/* containers: a uid without an entry is called by its number */
		snprintf(c->user, sizeof(c->user), "%u", c->uid);
	} else {
		conn_refuse(c->link, 0, "denied", "uid %u has no name on this host", c->uid);
		link_close(c->link, "uid without a name");
		return;
	}
	link_pause(c->link, false);
	announce(c);
}

static void client_up(struct conn *c)
{
	link_pause(c->link, true);
	users_name(c->io->users, c->uid, client_named, c);
}

/* ---- what comes in ----------------------------------------------------- */

static bool is_bulk(const struct conn *c, enum msg_type t)
{
	switch (t) {
	case MSG_spec_get:
	case MSG_follow:
	case MSG_follow_end:
	case MSG_credit:
	case MSG_unfollow:
	case MSG_stdin_open:
		return c->kind == LINK_CLIENT || c->kind == LINK_PEER;
	case MSG_shim_grown:
	case MSG_shim_stdin:
		return c->kind == LINK_SHIM;
	default:
		return false;
	}
}

/* rid of a message that we cannot read otherwise; 0 when it has none. */
static uint32_t rid_of(const char *text, size_t n)
{
	cJSON *j = json_parse(text, n, NULL);
	const cJSON *r = j != NULL ? cJSON_GetObjectItemCaseSensitive(j, "rid") : NULL;
	uint32_t rid = 0;

	if (r != NULL && cJSON_IsNumber(r) && r->valuedouble >= 1 && r->valuedouble <= 4294967295.0)
		rid = (uint32_t)r->valuedouble;
	cJSON_Delete(j);
	return rid;
}

static void undecodable(struct conn *c, const char *text, size_t n, int rc, const struct err *e)
{
	if (c->kind == LINK_CLIENT && rc == -ENOTSUP)
		conn_refuse(c->link, rid_of(text, n), "bad-request",
			    "this nodeagentd (" NA_SOFTWARE ") does not know this request: %s", e->text);
	else if (c->kind == LINK_CLIENT)
		conn_refuse(c->link, rid_of(text, n), "bad-request", "%s", e->text);
	else if (rc != -ENOTSUP) {
		log_warn("a malformed message from %s: %s", c->kind == LINK_COORD ? "the coordinator" :
			 c->kind == LINK_PEER ? link_address(c->link) : "a shim", e->text);
		link_close(c->link, "malformed message");
	}
}

static void say_lost(const struct conn *c, const struct job_io *j, const struct msg *m, enum lost_say say, uint64_t n)
{
	const char *dir = c->io->opts->spool_dir;

	if (say == LOST_BEGINS)
		log_job(LOG_LVL_WARN, c->job, c->attempt, "its output is being lost (rank %llu%s): there is no room in %s; "
			"remove files there", (unsigned long long)n, j->nprocs > 1 ? ", perhaps others" : "", dir);
	else if (say == LOST_ENDS && m->type == MSG_shim_ended)
		log_job(LOG_LVL_WARN, c->job, c->attempt, "it has ended; %llu bytes of its output were lost, for there was "
			"no room in %s", (unsigned long long)n, dir);
	else if (say == LOST_ENDS)
		log_job(LOG_LVL_WARN, c->job, c->attempt, "its output finds room again in %s; %llu bytes were lost", dir,
			(unsigned long long)n);
}

/* The job's last word may be the first of it: then begin and end are said. */
static void log_full_disk(const struct conn *c, const struct msg *m)
{
	struct job_io *j = job_io_find(c->io, c->job, c->attempt);
	enum lost_say say;
	uint64_t n = 0;

	while (j != NULL && (say = lost_step(&j->lost, j->nprocs, j->rank_base, m, clock_mono(), &n)) != LOST_NOTHING)
		say_lost(c, j, m, say, n);
}

/* Once a job: its user is told while it runs, if anybody follows its output. */
static void feed_given(struct conn *c, struct agent_event *ev, const struct msg *m)
{
	struct job_io *j = job_io_find(c->io, c->job, c->attempt); /* NULL: it is cleaned up */

	for (size_t i = 0; j != NULL && !j->told_given && i < m->u.shim_grown.n_outs; i++) {
		if (m->u.shim_grown.outs[i].given == 0)
			continue;
		j->told_given = true;
		ev->msg = m;
		agent_feed(c->io, ev);
	}
}

void conn_on_json(struct link *l, const char *text, size_t n, void *arg)
{
	struct conn *c = arg;
	struct agent_event ev = { .type = AEV_MESSAGE, .link = c->id, .kind = c->kind };
	struct msg m;
	struct err e;
	int rc;

	if (!c->up) /* refused at the door, or on its way out */
		return;
	rc = msg_decode(text, n, &m, &e);
	if (rc != 0) {
		undecodable(c, text, n, rc, &e);
		return;
	}
	if (c->kind == LINK_SHIM)
		log_full_disk(c, &m);
	if (is_bulk(c, m.type)) {
		bulk_message(c->io->bulk, c, &m);
		if (m.type == MSG_shim_grown)
			feed_given(c, &ev, &m);
	} else if (c->kind == LINK_CLIENT && m.type == MSG_submit) {
		upload_submit(c, &m, text, n);
	} else {
		if (c->kind == LINK_SHIM)
			c->dials = 0; /* it speaks: this link is sound */
		if (c->kind == LINK_COORD && m.type == MSG_job_update)
			bulk_job_update(c->io->bulk, &m.u.job_update);
		ev.msg = &m;
		agent_feed(c->io, &ev);
	}
	msg_finish(&m);
}

static void on_data(struct link *l, const struct data_header *h, const char *p, size_t n, void *arg)
{
	struct conn *c = arg;

	if (!c->up)
		return;
	if (c->kind == LINK_CLIENT && h->sid == 0 && h->fd == 3)
		upload_data(c, h, p, n);
	else if (c->kind == LINK_CLIENT || c->kind == LINK_PEER)
		bulk_data(c->io->bulk, c, h, p, n);
	else
		link_close(l, "data where none belongs");
}

static void on_drain(struct link *l, void *arg)
{
	struct conn *c = arg;

	if (c->held_back) {
		c->held_back = false;
		if (c->held_submit == NULL)
			link_pause(l, false);
	}
	bulk_conn_drained(c->io->bulk, c);
}

static void on_up(struct link *l, void *arg)
{
	struct conn *c = arg;

	link_set_max(l, FRAME_MAX);
	switch (c->kind) {
	case LINK_COORD:
		coordinator_up(c);
		break;
	case LINK_CLIENT:
		client_up(c);
		break;
	case LINK_SHIM:
		shim_up(c);
		break;
	case LINK_PEER:
		announce(c);
		break;
	}
}

static void on_down(struct link *l, const char *why, void *arg)
{
	struct conn *c = arg;
	struct agent_io *io = c->io;
	uint64_t id = c->id;
	bool was_up = c->up;

	if (c->kind == LINK_COORD) {
		coordinator_down(c, why);
		return;
	}
	if (c->kind == LINK_SHIM) {
		shim_down(c, why);
		return;
	}
	users_forget(io->users, c);
	bulk_conn_gone(io->bulk, c);
	conn_free(c);
	if (was_up)
		tell_down(io, id, why);
}

static void on_bad(struct link *l, int error, const char *why, void *arg)
{
	const struct conn *c = arg;

	if (c->kind == LINK_CLIENT)
		conn_refuse(l, 0, error == -EMSGSIZE ? "too-large" : "bad-request", "%s", why);
}

static void on_half(struct link *l, size_t bytes, void *arg)
{
	struct conn *c = arg;

	if (c->kind != LINK_CLIENT || upload_half(c, bytes))
		return;
	conn_refuse(l, 0, "busy", "your user's connections to this node have sent more than 32 MiB of messages "
		    "without their ends; try again when some of these commands are through or ended");
	link_close(l, "too much of unfinished messages of one user");
}

static const struct link_callbacks conn_callbacks = {
	.on_up = on_up,
	.on_json = conn_on_json,
	.on_data = on_data,
	.on_drain = on_drain,
	.on_down = on_down,
	.on_bad = on_bad,
	.on_half = on_half,
};

/* ---- at the door ------------------------------------------------------- */

static void refused_up(struct link *l, void *arg)
{
	struct agent_io *io = arg;

	conn_refuse(l, 0, "denied",
		    "this agent (%s) runs without root and serves uid %u only; ask the administrator "
		    "for a system-wide one, or start your own with nodeagentd --standalone",
		    io->id.node, io->own_uid);
	link_close(l, "uid not served");
}

static void refused_json(struct link *l, const char *text, size_t n, void *arg)
{
}

static void refused_data(struct link *l, const struct data_header *h, const char *p, size_t n,
			 void *arg)
{
}

static void refused_down(struct link *l, const char *why, void *arg)
{
}

static const struct link_callbacks refused_callbacks = {
	.on_up = refused_up,
	.on_json = refused_json,
	.on_data = refused_data,
	.on_down = refused_down,
};

static bool admit_client(void *arg, struct link *l, const struct link_who *who,
			 const struct link_callbacks **ret_cb, void **ret_arg)
{
	struct agent_io *io = arg;
	struct conn *c;

	if (io->opts->single_user && who->uid != io->own_uid && who->uid != 0) {
		*ret_cb = &refused_callbacks;
		*ret_arg = io;
		return true;
	}
	c = conn_new(io, LINK_CLIENT);
	c->uid = who->uid;
	conn_set_link(c, l);
	*ret_cb = &conn_callbacks;
	*ret_arg = c;
	return true;
}

static bool admit_peer(void *arg, struct link *l, const struct link_who *who,
		       const struct link_callbacks **ret_cb, void **ret_arg)
{
	struct agent_io *io = arg;
	struct conn *c;

	if (who->key == NULL || !agent_peer_allowed(io->core, who->key)) {
		log_debug("peer %s refused: no job here concerns it", who->address);
		return false;
	}
	c = conn_new(io, LINK_PEER);
	memcpy(c->key, who->key, sizeof(c->key));
	conn_set_link(c, l);
	*ret_cb = &conn_callbacks;
	*ret_arg = c;
	return true;
}

/* The port of our last life, when any will do: peers in the middle of reading
 * a job's output know that one. 0: none. */
static uint16_t former_port(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned port = 0;

	if (f == NULL)
		return 0;
	if (fscanf(f, "%u", &port) != 1 || port > 65535)
		port = 0;
	fclose(f);
	return (uint16_t)port;
}

static void note_port(const char *path, uint16_t port)
{
	FILE *f = fopen(path, "we");

	if (f == NULL)
		return;
	fprintf(f, "%u\n", port);
	fclose(f);
}

static int listen_peers(struct agent_io *io, struct err *e)
{
	return link_listen_tls(&io->loop, io->tls, io->opts->listen_host, &io->peer_port, PENDING_MAX,
			       admit_peer, io, &io->listen_peers, e);
}

int conns_listen_peers(struct agent_io *io, struct err *e)
{
	char path[512];
	int rc;

	io->peer_port = io->opts->peer_port;
	if (io->peer_port != 0)
		return listen_peers(io, e);
	snprintf(path, sizeof(path), "%s/peer.port", io->opts->run_dir);
	io->peer_port = former_port(path);
	rc = listen_peers(io, e);
	if (rc == -EADDRINUSE) {
		io->peer_port = 0;
		rc = listen_peers(io, e);
	}
	if (rc == 0)
		note_port(path, io->peer_port);
	return rc;
}

int conns_listen_clients(struct agent_io *io, struct err *e)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/agent.sock", io->opts->run_dir);
	/* open to all: who may do what is decided by uid, not by the file's mode */
	return link_listen_unix(&io->loop, io->opts->socket_path ? io->opts->socket_path : path, 0666,
				admit_client, io, &io->listen_clients, e);
}

void conns_revoke(struct agent_io *io, const uint8_t key[32])
{
	list_foreach(l, &io->conns) {
		struct conn *c = list_entry(l, struct conn, at);

		if (c->kind == LINK_PEER && memcmp(c->key, key, 32) == 0)
			link_close(c->link, "its key was revoked");
	}
	bulk_revoke(io->bulk, key);
}

void conns_peer_out(struct agent_io *io, const uint8_t key[32], uint64_t job)
{
	bool may_stay = agent_peer_allowed(io->core, key);

	if (agent_peer_may(io->core, key, job))
		return;
	list_foreach(l, &io->conns) {
		struct conn *c = list_entry(l, struct conn, at);

		if (c->kind != LINK_PEER || memcmp(c->key, key, 32) != 0)
			continue;
		bulk_peer_out(io->bulk, c, job);
		if (!may_stay)
			link_close(c->link, "no job here concerns it any more");
	}
}
