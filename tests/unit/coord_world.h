/* coord_world.h - a coordinator's core with its disk and what it has sent, for tests */
#ifndef NA_TESTS_COORD_WORLD_H
#define NA_TESTS_COORD_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/coord.h"

#define UNUSED __attribute__((unused)) /* not every test needs all of it */

#define MAX_SENT 4096
#define MAX_ROWS 4096

struct sent {
	uint64_t link;
	char *text;
};

struct row {
	int table;
	char key[80];
	char *json;
};

/* A coordinator, its disk, and what it has sent. */
struct world {
	struct coord *c;
	struct actions acts;
	mono_t now;
	int64_t wall_ms;
	uint64_t next_link;
	struct sent sent[MAX_SENT];
	size_t n_sent;
	struct row rows[MAX_ROWS];
	size_t n_rows;
	struct {
		uint64_t ticket;
		struct row rows[256];
		size_t n;
	} queue[64];
	size_t n_queue;
	bool disk_full;
	char log[65536]; /* one line each */
	uint64_t closed[64];
	size_t n_closed;
	uint8_t random;
	const char *boot; /* of the coordinator's host; NULL: not known */
	uint32_t ppn; /* ranks per node of what is submitted; 0: one */
	uint64_t job; /* that prepared(), ranks() and ended() speak of: 1 */
	bool ours; /* ranks that nodes hold died of our signal */
	bool keeps_specs; /* nodes that register say that they keep copies */
	const uint8_t *has_spec; /* ... and, not NULL, that they hold this one */
	bool no_master; /* nodes that were started cannot say where rank 0 listens */
};

UNUSED static void fake_sha(const void *p, size_t n, uint8_t out[32])
{
	memset(out, 0, 32);
	for (size_t i = 0; i < n; i++)
		out[i % 32] = (uint8_t)(out[i % 32] * 31 + ((const uint8_t *)p)[i] + 7);
}

UNUSED static void take_actions(struct world *w)
{
	for (size_t i = 0; i < w->acts.n; i++) {
		struct action *a = &w->acts.v[i];

		if (a->type == ACT_SEND) {
			assert_true(w->n_sent < MAX_SENT);
			w->sent[w->n_sent].link = a->link;
			w->sent[w->n_sent++].text = strndup(a->text, a->len);
		} else if (a->type == ACT_LOG) {
			size_t at = strlen(w->log);

			snprintf(w->log + at, sizeof(w->log) - at, "%s\n", a->text);
		} else if (a->type == ACT_CLOSE) {
			w->closed[w->n_closed++ % 64] = a->link;
		} else if (a->type == ACT_PERSIST) {
			w->queue[w->n_queue].ticket = a->ticket;
			for (size_t k = 0; k < a->n_rows; k++) {
				struct row *r = &w->queue[w->n_queue].rows[k];

				r->table = a->rows[k].table;
				snprintf(r->key, sizeof(r->key), "%s", a->rows[k].key);
				r->json = a->rows[k].json ? strndup(a->rows[k].json, a->rows[k].len)
							  : NULL;
			}
			w->queue[w->n_queue++].n = a->n_rows;
		}
	}
	actions_reset(&w->acts);
}

UNUSED static void feed(struct world *w, struct coord_event *ev)
{
	ev->now = w->now;
	ev->wall_ms = w->wall_ms;
	memset(ev->random, ++w->random, sizeof(ev->random));
	assert_int_equal(coord_step(w->c, ev, &w->acts), 0);
	coord_check(w->c);
	assert_int_equal(w->acts.invalid, 0);
	take_actions(w);
}

UNUSED static void write_row(struct world *w, struct row *r)
{
	size_t i;

	for (i = 0; i < w->n_rows; i++)
		if (w->rows[i].table == r->table && strcmp(w->rows[i].key, r->key) == 0)
			break;
	if (i == w->n_rows)
		w->rows[w->n_rows++] = *r;
	else {
		free(w->rows[i].json);
		w->rows[i] = *r;
	}
}

/* The disk answers what was asked of it first. */
UNUSED static void store_one(struct world *w)
{
	struct coord_event ev = { .type = CEV_STORED, .ticket = w->queue[0].ticket };

	for (size_t k = 0; k < w->queue[0].n; k++) {
		if (w->disk_full)
			free(w->queue[0].rows[k].json);
		else
			write_row(w, &w->queue[0].rows[k]);
	}
	memmove(&w->queue[0], &w->queue[1], --w->n_queue * sizeof(w->queue[0]));
	ev.error = w->disk_full ? -28 : 0;
	ev.text = "no space left on device";
	feed(w, &ev);
}

/* ... everything asked of it so far. */
UNUSED static void store(struct world *w)
{
	while (w->n_queue > 0)
		store_one(w);
}

UNUSED static void forget_sent(struct world *w)
{
	for (size_t i = 0; i < w->n_sent; i++)
		free(w->sent[i].text);
	w->n_sent = 0;
}

/* The last message of this type to this link, decoded; false when none. */
UNUSED static bool last_to(struct world *w, uint64_t link, enum msg_type t, struct msg *ret)
{
	struct err e;

	for (size_t i = w->n_sent; i-- > 0;) {
		if (w->sent[i].link != link)
			continue;
		assert_int_equal(msg_decode(w->sent[i].text, strlen(w->sent[i].text), ret, &e), 0);
		if (ret->type == t)
			return true;
		msg_finish(ret);
	}
	return false;
}

UNUSED static bool was_told(struct world *w, uint64_t link, enum msg_type t)
{
	struct msg m;
	bool yes = last_to(w, link, t, &m);

	if (yes)
		msg_finish(&m);
	return yes;
}

UNUSED static void say(struct world *w, uint64_t link, struct msg *m)
{
	struct coord_event ev = { .type = CEV_MESSAGE, .link = link, .msg = m };

	feed(w, &ev);
}

UNUSED static void tick(struct world *w, int64_t ms)
{
	mono_t end = mono_add_ms(w->now, ms);

	w->wall_ms += ms;
	for (int i = 0; i < 1000; i++) {
		struct coord_event ev = { .type = CEV_DEADLINE };
		mono_t next = coord_deadline(w->c);

		if (mono_before(end, next) || mono_is_never(next))
			break;
		w->now = mono_before(w->now, next) ? next : mono_add_ms(w->now, 1);
		feed(w, &ev);
	}
	w->now = end;
}

UNUSED static void key_of(const char *name, uint8_t key[32])
{
	memset(key, 0, 32);
	snprintf((char *)key, 32, "%s-key", name);
}

UNUSED static uint64_t link_up(struct world *w, enum coord_who who, const char *name, const char *role)
{
	struct coord_event ev = { .type = CEV_LINK_UP, .link = ++w->next_link, .who = who };
	struct msg m;

	if (name != NULL)
		key_of(name, ev.key);
	ev.uid = 1000;
	ev.admin = who == WHO_LOCAL;
	feed(w, &ev);
	msg_init(&m, MSG_hello);
	m.u.hello.proto = NA_PROTO;
	m.u.hello.software = "test";
	m.u.hello.role = role;
	say(w, w->next_link, &m);
	return w->next_link;
}

UNUSED static void link_down(struct world *w, uint64_t link)
{
	struct coord_event ev = { .type = CEV_LINK_DOWN, .link = link };

	feed(w, &ev);
}

/* Registers a node holding one job in a phase (NULL: nothing). */
UNUSED static uint64_t node_up_held(struct world *w, const char *name, const char *boot, uint64_t job,
			     const char *phase, const char *rank_state, uint32_t rank,
			     uint32_t code)
{
	uint64_t l = link_up(w, WHO_NODE, name, "agent");
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct rec_rank_state rs = { .rank = rank, .state = rank_state, .ours = w->ours };
	struct rec_held h = { .job = job, .attempt = 1, .phase = phase, .ranks = &rs };
	struct msg m;

	MSG_SET(&rs, rank_state, code, code);
	h.n_ranks = rank_state != NULL;
	if (phase != NULL && strcmp(phase, "ready") != 0 && !w->no_master)
		h.master_addr = "10.0.0.1", h.master_port = 20000;
	msg_init(&m, MSG_node_register);
	m.u.node_register.node = name;
	m.u.node_register.boot_id = boot;
	m.u.node_register.incarnation = l;
	m.u.node_register.peer_port = 7000;
	m.u.node_register.addrs = &addr;
	m.u.node_register.n_addrs = 1;
	m.u.node_register.held = &h;
	m.u.node_register.n_held = phase != NULL;
	if (w->keeps_specs)
		MSG_SET(&m.u.node_register, node_register, keeps_specs, true);
	MSG_SET(&m.u.node_register, node_register, sets_env, true);
	if (w->has_spec != NULL)
		m.u.node_register.specs = (struct bytes){ w->has_spec, 32 };
	say(w, l, &m);
	return l;
}

UNUSED static uint64_t node_up(struct world *w, const char *name)
{
	return node_up_held(w, name, "boot-1", 0, NULL, NULL, 0, 0);
}

UNUSED static void load(struct world *w, struct msg *m)
{
	struct err e;

	assert_int_equal(coord_load(w->c, m, &e), 0);
}

UNUSED static void add_node(struct world *w, const char *name, bool submit)
{
	uint8_t key[32];
	struct msg m;
	struct buf b;
	struct row r = { .table = TABLE_NODE };

	key_of(name, key);
	msg_init(&m, MSG_row_node);
	m.u.row_node.node = name;
	m.u.row_node.key = (struct bytes){ key, 32 };
	m.u.row_node.submit = submit;
	MSG_SET(&m.u.row_node, row_node, uid_min, 1000);
	MSG_SET(&m.u.row_node, row_node, uid_max, 59999);
	m.u.row_node.joined_wall_ms = 1;
	load(w, &m);
	buf_init(&b);
	assert_int_equal(msg_encode(&m, &b, NULL), 0);
	snprintf(r.key, sizeof(r.key), "%s", name);
	r.json = buf_steal(&b, NULL);
	write_row(w, &r);
}

UNUSED static void begin(struct world *w)
{
	struct coord_conf conf = { .address = "head:7070", .sha256 = fake_sha, .boot_id = w->boot };
	struct msg m;

	w->c = coord_create(&conf, w->now);
	assert_non_null(w->c);
	msg_init(&m, MSG_row_cluster);
	m.u.row_cluster.cluster = "lab";
	m.u.row_cluster.lineage = 42;
	m.u.row_cluster.next_job = 1;
	load(w, &m);
}

UNUSED static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	w->now = (mono_t){ 1000000000 };
	w->wall_ms = 1700000000000;
	w->job = 1;
	actions_init(&w->acts);
	begin(w);
	add_node(w, "gpu01", true);
	add_node(w, "gpu02", false);
	add_node(w, "gpu03", false);
	coord_loaded(w->c, &w->acts);
	*state = w;
	return 0;
}

UNUSED static int teardown(void **state)
{
	struct world *w = *state;

	coord_destroy(w->c);
	forget_sent(w);
	for (size_t i = 0; i < w->n_rows; i++)
		free(w->rows[i].json);
	for (size_t q = 0; q < w->n_queue; q++)
		for (size_t k = 0; k < w->queue[q].n; k++)
			free(w->queue[q].rows[k].json);
	actions_finish(&w->acts);
	free(w);
	return 0;
}

/* Kills the coordinator and starts another from what is on disk. */
UNUSED static void restart(struct world *w)
{
	struct err e;

	coord_destroy(w->c);
	forget_sent(w);
	begin(w);
	for (size_t i = 0; i < w->n_rows; i++) {
		struct msg m;

		if (w->rows[i].json == NULL)
			continue;
		assert_int_equal(msg_decode(w->rows[i].json, strlen(w->rows[i].json), &m, &e), 0);
		load(w, &m);
		msg_finish(&m);
	}
	coord_loaded(w->c, &w->acts);
	w->n_queue = 0;
}

UNUSED static void submit_as(struct world *w, uint64_t link, const char *client_id, uint32_t nnodes,
		      const char *hosts, uint32_t uid)
{
	static const uint8_t hash[32] = { 1 };
	struct msg m;

	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = client_id;
	m.u.submit.nnodes = nnodes;
	if (w->ppn > 1)
		MSG_SET(&m.u.submit, submit, procs_per_node, w->ppn);
	m.u.submit.hosts = hosts;
	m.u.submit.command = "true";
	m.u.submit.spec_hash = (struct bytes){ hash, 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, uid);
	m.u.submit.user = "li";
	say(w, link, &m);
}

UNUSED static void submit_excluding(struct world *w, uint64_t link, const char *client_id,
			     uint32_t nnodes, const char *exclude)
{
	static const uint8_t hash[32] = { 1 };
	struct msg m;

	msg_init(&m, MSG_submit);
	m.u.submit.rid = 9;
	m.u.submit.client_id = client_id;
	m.u.submit.nnodes = nnodes;
	m.u.submit.exclude = exclude;
	m.u.submit.command = "true";
	m.u.submit.spec_hash = (struct bytes){ hash, 32 };
	m.u.submit.spec_size = 10;
	MSG_SET(&m.u.submit, submit, uid, 1000);
	say(w, link, &m);
}

UNUSED static void submit(struct world *w, uint64_t link, const char *client_id, uint32_t nnodes)
{
	submit_as(w, link, client_id, nnodes, NULL, 1000);
}

UNUSED static void prepared(struct world *w, uint64_t link, bool ok)
{
	struct msg m;

	msg_init(&m, MSG_prepared);
	m.u.prepared.job = w->job;
	m.u.prepared.attempt = 1;
	m.u.prepared.ok = ok;
	m.u.prepared.master_port = 20000;
	m.u.prepared.proof_port = 40000;
	if (!ok) {
		m.u.prepared.text = "command 'foo' not found";
		MSG_SET(&m.u.prepared, prepared, code, 127);
	}
	say(w, link, &m);
}

UNUSED static void proved(struct world *w, uint64_t link, bool master, bool reached)
{
	const char *ip = "10.0.0.1";
	struct rec_proof_result r[2] = { { .kind = "master", .node = "gpu01" },
					 { .kind = "ephemeral", .node = "x" } };
	struct msg m;

	for (int i = 0; i < 2; i++) {
		r[i].reached = &ip;
		r[i].n_reached = 1;
	}
	r[0].n_reached = reached;
	r[0].text = "10.0.0.1:20000: connection refused";
	msg_init(&m, MSG_proved);
	m.u.proved.job = w->job;
	m.u.proved.attempt = 1;
	m.u.proved.results = master ? r : r + 1;
	m.u.proved.n_results = master ? 2 : 1;
	say(w, link, &m);
}

UNUSED static void ranks(struct world *w, uint64_t link, uint32_t rank, const char *state, uint32_t code)
{
	struct rec_rank_state r = { .rank = rank, .state = state, .pid = 77 };
	struct msg m;

	MSG_SET(&r, rank_state, code, code);
	msg_init(&m, MSG_ranks);
	m.u.ranks.job = w->job;
	m.u.ranks.attempt = 1;
	m.u.ranks.ranks = &r;
	m.u.ranks.n_ranks = 1;
	say(w, link, &m);
}

UNUSED static void ended(struct world *w, uint64_t link, uint32_t rank, const char *state, uint32_t code,
		  bool ours)
{
	struct rec_rank_state r = { .rank = rank, .state = state, .pid = 77, .ours = ours };
	struct msg m;

	MSG_SET(&r, rank_state, code, code);
	if (ours)
		r.sig = 15;
	msg_init(&m, MSG_ended);
	m.u.ended.job = w->job;
	m.u.ended.attempt = 1;
	m.u.ended.ranks = &r;
	m.u.ended.n_ranks = 1;
	say(w, link, &m);
}

UNUSED static const char *state_of(struct world *w, const char *node, char out[32])
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 1;
	say(w, l, &m);
	strcpy(out, "absent");
	for (size_t k = 0; k < w->n_sent; k++) { /* it comes in pieces */
		if (w->sent[k].link != l)
			continue;
		assert_int_equal(msg_decode(w->sent[k].text, strlen(w->sent[k].text), &m, NULL), 0);
		for (size_t i = 0; m.type == MSG_status && i < m.u.status.n_nodes; i++)
			if (strcmp(m.u.status.nodes[i].name, node) == 0)
				snprintf(out, 32, "%s", m.u.status.nodes[i].state);
		msg_finish(&m);
	}
	link_down(w, l);
	return out;
}

/* The job as 'nodectl job' shows it; strings live until msg_finish(m). */
UNUSED static struct rec_job_info *job_one(struct world *w, struct msg *m)
{
	uint64_t l = link_up(w, WHO_LOCAL, NULL, "client");

	msg_init(m, MSG_jobs_get);
	m->u.jobs_get.rid = 1;
	MSG_SET(&m->u.jobs_get, jobs_get, job, w->job);
	say(w, l, m);
	if (!last_to(w, l, MSG_jobs, m))
		return NULL;
	link_down(w, l);
	return m->u.jobs.jobs;
}

UNUSED static void assert_job(struct world *w, const char *state, int code)
{
	struct msg m;
	struct rec_job_info *i = job_one(w, &m);

	assert_non_null(i);
	assert_string_equal(i->state, state);
	if (code >= 0) {
		assert_true(MSG_HAS(i, job_info, exit_code));
		assert_int_equal(i->exit_code, code);
	}
	msg_finish(&m);
}

/* Two nodes up, job 1 submitted on both with 'ppn' ranks on each, and running. */
UNUSED static void running_pair_of(struct world *w, uint64_t *a, uint64_t *b, uint32_t ppn)
{
	*a = node_up(w, "gpu01");
	*b = node_up(w, "gpu02");
	store(w);
	w->ppn = ppn;
	submit(w, *a, "c1", 2);
	store(w);
	prepared(w, *a, true);
	prepared(w, *b, true);
	proved(w, *b, true, true);
	proved(w, *a, false, true);
	for (uint32_t i = 0; i < 2 * ppn; i++)
		ranks(w, i < ppn ? *a : *b, i, "running", 0);
}

UNUSED static void running_pair(struct world *w, uint64_t *a, uint64_t *b)
{
	running_pair_of(w, a, b, 1);
}

#endif
