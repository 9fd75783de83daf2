/* test_oom_coord.c - every allocation of a coordinator's core fails once, in the middle of everything
 *
 * Two nodes, a client that submits again until it is told a number, an
 * administrator; a job of two ranks that ends well, one that is killed.
 * In run k the k-th allocation of the core fails. A step that lacks memory
 * ends the process, as the real one does: what it wanted to do is not done,
 * another one starts from the stored rows, links are made anew, what was on
 * the way is lost. In the end: each job once, no rank started twice, the right
 * codes, and everything forgotten by the nodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/coord.h"
#include "tests/unit/failmalloc.h"

#define NODES 2
#define JOBS 6 /* a number may be lost with a submit that was refused */
#define ROWS 64
#define QUEUE 256
#define ROUNDS 3000

enum part { PART_NONE, PART_READY, PART_RUNNING, PART_ENDED };

struct node {
	char name[8];
	uint64_t link; /* 0: not connected */
	enum part part[JOBS + 1]; /* by job number */
	bool pair[JOBS + 1]; /* the job of two ranks, which ends by itself */
	unsigned starts[JOBS + 1];
	uint32_t rank[JOBS + 1];
	uint32_t code[JOBS + 1];
};

struct row {
	int table;
	char key[80], *json;
};

struct in { /* an event on its way to the core */
	enum coord_event_type type;
	uint64_t link, ticket;
	char *json;
};

struct world {
	struct coord *c;
	struct actions acts;
	mono_t now;
	uint64_t next_link, admin;
	struct node node[NODES];
	struct row row[ROWS];
	size_t n_rows, n_in;
	struct in in[QUEUE];
	uint64_t job_of[2]; /* what the client was told: the pair, and the one that is killed */
	bool token_told, status_told;
	unsigned deaths, random;
};

static void sha(const void *p, size_t n, uint8_t out[32])
{
	memset(out, 0, 32);
	for (size_t i = 0; i < n; i++)
		out[i % 32] = (uint8_t)(out[i % 32] * 31 + ((const uint8_t *)p)[i] + 7);
}

static void key_of(const char *name, uint8_t key[32])
{
	memset(key, 0, 32);
	snprintf((char *)key, 32, "%s-key", name);
}

/* ---- what is on the way -------------------------------------------------- */

static void push(struct world *w, enum coord_event_type type, uint64_t link, uint64_t ticket, const struct msg *m)
{
	struct in *in = &w->in[w->n_in++];
	struct buf b;

	assert_true(w->n_in < QUEUE);
	*in = (struct in){ .type = type, .link = link, .ticket = ticket };
	if (m == NULL)
		return;
	buf_init(&b);
	assert_int_equal(msg_encode(m, &b, NULL), 0);
	in->json = buf_steal(&b, NULL);
}

static void say(struct world *w, uint64_t link, const struct msg *m)
{
	if (link != 0)
		push(w, CEV_MESSAGE, link, 0, m);
}

static void drop_all(struct world *w)
{
	for (size_t i = 0; i < w->n_in; i++)
		free(w->in[i].json);
	w->n_in = 0;
}

/* ---- the nodes -------------------------------------------------------------- */

static const char *part_name(enum part p)
{
	static const char *const names[] = { "gone", "ready", "running", "ended" };

	return names[p];
}

static void fill_rank(const struct node *n, uint64_t job, struct rec_rank_state *r)
{
	enum part p = n->part[job];

	memset(r, 0, sizeof(*r));
	r->rank = n->rank[job];
	r->state = p == PART_RUNNING ? "running" : p == PART_ENDED ? "exited" : "waiting";
	if (p == PART_ENDED && n->code[job] == 143) {
		r->state = "killed";
		r->sig = 15;
		r->ours = true;
	} else if (p == PART_ENDED) {
		MSG_SET(r, rank_state, code, n->code[job]);
	}
	if (p >= PART_RUNNING)
		r->pid = 77;
}

static void say_ranks(struct world *w, const struct node *n, uint64_t job, enum msg_type t)
{
	struct rec_rank_state r;
	struct msg m;

	fill_rank(n, job, &r);
	msg_init(&m, t);
	if (t == MSG_ranks)
		m.u.ranks = (struct rec_ranks){ .job = job, .attempt = 1, .ranks = &r, .n_ranks = 1 };
	else
		m.u.ended = (struct rec_ended){ .job = job, .attempt = 1, .ranks = &r, .n_ranks = 1 };
	say(w, n->link, &m);
}

static void say_prepared(struct world *w, struct node *n, uint64_t job)
{
	struct msg m;

	msg_init(&m, MSG_prepared);
	m.u.prepared = (struct rec_prepared){ .job = job, .attempt = 1, .ok = true, .master_port = 20000, .proof_port = 40000 };
	say(w, n->link, &m);
}

static void node_proves(struct world *w, struct node *n, const struct rec_prove *p)
{
	const char *ip = "10.0.0.1";
	struct rec_proof_result r[4] = { 0 };
	struct msg m;

	for (size_t i = 0; i < p->n_targets; i++)
		r[i] = (struct rec_proof_result){ .kind = p->targets[i].kind, .node = p->targets[i].node, .reached = &ip, .n_reached = 1 };
	msg_init(&m, MSG_proved);
	m.u.proved = (struct rec_proved){ .job = p->job, .attempt = 1, .results = r, .n_results = p->n_targets };
	say(w, n->link, &m);
}

/* rid 1: two nodes, rid 2: one. */
static const uint8_t spec[32] = { 1 };

static void submit(struct world *w, uint32_t rid)
{
	struct msg m;

	msg_init(&m, MSG_submit);
	m.u.submit = (struct rec_submit){ .rid = rid, .client_id = rid == 1 ? "first" : "second", .nnodes = 3 - rid,
					  .command = "true", .spec_hash = { spec, 32 }, .spec_size = 10, .user = "li" };
	MSG_SET(&m.u.submit, submit, uid, 1000);
	if (rid == 2) { /* one node and a spare */
		MSG_SET(&m.u.submit, submit, max_restarts, 1);
		MSG_SET(&m.u.submit, submit, spares, 1);
	}
	say(w, w->node[0].link, &m);
}

static void say_kept(struct world *w, const struct node *n, uint64_t job)
{
	struct msg m;

	msg_init(&m, MSG_spec_kept);
	m.u.spec_kept = (struct rec_spec_kept){ .job = job, .hash = { spec, 32 } };
	say(w, n->link, &m);
}

/* An attempt starts once on a node: whoever says it again is told how it stands. */
static void node_starts(struct world *w, struct node *n, uint64_t job)
{
	if (n->part[job] == PART_READY) {
		n->part[job] = PART_RUNNING;
		n->starts[job]++;
	}
	say_ranks(w, n, job, MSG_ranks);
	if (n->pair[job] && n->part[job] == PART_RUNNING) { /* the other one runs until it is killed */
		n->part[job] = PART_ENDED;
		n->code[job] = 0;
		say_ranks(w, n, job, MSG_ended);
	}
}

static void node_ends(struct world *w, struct node *n, uint64_t job)
{
	if (n->part[job] == PART_RUNNING)
		n->code[job] = 143;
	if (n->part[job] != PART_NONE)
		n->part[job] = PART_ENDED;
	say_ranks(w, n, job, MSG_ended);
}

static void to_node(struct world *w, struct node *n, const struct msg *m)
{
	switch (m->type) {
	case MSG_prepare:
		assert_true(m->u.prepare.job <= JOBS);
		n->rank[m->u.prepare.job] = m->u.prepare.rank_base;
		n->pair[m->u.prepare.job] = m->u.prepare.nnodes == 2;
		if (n->part[m->u.prepare.job] == PART_NONE)
			n->part[m->u.prepare.job] = PART_READY;
		if (n->part[m->u.prepare.job] == PART_READY)
			say_prepared(w, n, m->u.prepare.job);
		else
			say_ranks(w, n, m->u.prepare.job, MSG_ranks);
		break;
	case MSG_prove:
		node_proves(w, n, &m->u.prove);
		break;
	case MSG_start:
		node_starts(w, n, m->u.start.job);
		break;
	case MSG_end:
		node_ends(w, n, m->u.end.job);
		break;
	case MSG_forget:
		n->part[m->u.forget.job] = PART_NONE;
		break;
	case MSG_spec_keep:
		say_kept(w, n, m->u.spec_keep.job);
		break;
	case MSG_submitted: /* of the client behind the first node; rid 1 or 2 */
		assert_true(w->job_of[m->u.submitted.rid - 1] == 0 || w->job_of[m->u.submitted.rid - 1] == m->u.submitted.job);
		w->job_of[m->u.submitted.rid - 1] = m->u.submitted.job;
		break;
	case MSG_refused: /* for lack of memory, too: asked again */
		assert_string_not_equal(m->u.refused.code, "denied");
		if (m->u.refused.rid == 1 || m->u.refused.rid == 2)
			submit(w, m->u.refused.rid);
		break;
	default:
		break;
	}
}

static void admins_wishes(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_status_get);
	m.u.status_get.rid = 1;
	m.u.status_get.detail = true;
	say(w, w->admin, &m);
	if (!w->token_told) {
		msg_init(&m, MSG_token_create);
		m.u.token_create.rid = 2;
		say(w, w->admin, &m);
	}
	msg_init(&m, MSG_jobs_get);
	m.u.jobs_get.rid = 3;
	m.u.jobs_get.all = true;
	say(w, w->admin, &m);
	msg_init(&m, MSG_checks_get);
	m.u.checks_get.rid = 4;
	m.u.checks_get.all = true;
	say(w, w->admin, &m);
}

static void to_admin(struct world *w, const struct msg *m)
{
	w->token_told = w->token_told || m->type == MSG_token;
	w->status_told = w->status_told || m->type == MSG_status;
	if (m->type == MSG_refused)
		admins_wishes(w);
}

/* ---- the core's wishes ---------------------------------------------------------- */

static void write_row(struct world *w, const struct store_row *r)
{
	size_t i = 0;

	while (i < w->n_rows && (w->row[i].table != (int)r->table || strcmp(w->row[i].key, r->key) != 0))
		i++;
	if (i == w->n_rows) {
		assert_true(++w->n_rows < ROWS);
		w->row[i].table = r->table;
		snprintf(w->row[i].key, sizeof(w->row[i].key), "%s", r->key);
	}
	free(w->row[i].json);
	w->row[i].json = r->json != NULL ? strndup(r->json, r->len) : NULL;
}

static void deliver(struct world *w, const struct action *a)
{
	struct msg m;

	assert_int_equal(msg_decode(a->text, a->len, &m, NULL), 0);
	for (int i = 0; i < NODES; i++)
		if (w->node[i].link == a->link)
			to_node(w, &w->node[i], &m);
	if (w->admin == a->link)
		to_admin(w, &m);
	msg_finish(&m);
}

static void perform(struct world *w)
{
	for (size_t i = 0; i < w->acts.n; i++) {
		const struct action *a = &w->acts.v[i];

		if (a->type == ACT_SEND) {
			deliver(w, a);
		} else if (a->type == ACT_PERSIST) {
			for (size_t k = 0; k < a->n_rows; k++)
				write_row(w, &a->rows[k]);
			push(w, CEV_STORED, 0, a->ticket, NULL);
		}
	}
	actions_reset(&w->acts);
}

static void start(struct world *w);

/* As the real one: nothing of the step is done, another process begins from what is stored. */
static void die(struct world *w)
{
	w->deaths++;
	actions_reset(&w->acts);
	coord_destroy(w->c);
	w->c = NULL;
	drop_all(w);
	for (int i = 0; i < NODES; i++)
		w->node[i].link = 0;
	w->admin = 0;
	start(w);
}

static bool step(struct world *w, struct coord_event *ev)
{
	int r;

	ev->now = w->now;
	ev->wall_ms = 1700000000000 + w->now.ns / 1000000;
	memset(ev->random, (int)++w->random, sizeof(ev->random));
	fail_malloc_hold(false);
	r = coord_step(w->c, ev, &w->acts);
	fail_malloc_hold(true);
	assert_true(r == 0 || r == -ENOMEM);
	if (r != 0 || w->acts.failed) {
		die(w);
		return false;
	}
	coord_check(w->c);
	assert_int_equal(w->acts.invalid, 0);
	perform(w);
	return true;
}

/* ---- links ------------------------------------------------------------------------- */

static uint64_t link_up(struct world *w, enum coord_who who, const char *name, const char *role)
{
	struct coord_event ev = { .type = CEV_LINK_UP, .link = ++w->next_link, .who = who, .uid = 1000, .admin = who == WHO_LOCAL };
	struct msg m;

	if (name != NULL)
		key_of(name, ev.key);
	if (!step(w, &ev))
		return 0;
	msg_init(&m, MSG_hello);
	m.u.hello = (struct rec_hello){ .proto = NA_PROTO, .software = "test", .role = role };
	say(w, ev.link, &m);
	return ev.link;
}

static void register_node(struct world *w, struct node *n)
{
	struct rec_addr addr = { .ip = "10.0.0.1", .ifname = "eth0" };
	struct rec_rank_state ranks[JOBS + 1];
	struct rec_held held[JOBS + 1];
	size_t n_held = 0;
	struct msg m;

	for (uint64_t j = 1; j <= JOBS; j++) {
		if (n->part[j] == PART_NONE)
			continue;
		fill_rank(n, j, &ranks[n_held]);
		held[n_held] = (struct rec_held){ .job = j, .attempt = 1, .phase = part_name(n->part[j]), .ranks = &ranks[n_held], .n_ranks = 1 };
		if (n->part[j] == PART_RUNNING)
			held[n_held].master_addr = "10.0.0.1", held[n_held].master_port = 20000;
		n_held++;
	}
	msg_init(&m, MSG_node_register);
	m.u.node_register = (struct rec_node_register){ .node = n->name, .boot_id = "boot-1", .incarnation = 1, .peer_port = 7000,
							.addrs = &addr, .n_addrs = 1, .held = held, .n_held = n_held,
							.specs = { spec, 32 } };
	MSG_SET(&m.u.node_register, node_register, keeps_specs, true);
	say(w, n->link, &m);
}

/* Asked for again after every registration, as an agent does for its clients. */
static void clients_wishes(struct world *w)
{
	struct msg m;

	submit(w, 1);
	submit(w, 2);
	msg_init(&m, MSG_watch);
	m.u.watch = (struct rec_watch){ .rid = 5, .job = w->job_of[0] != 0 ? w->job_of[0] : 1 };
	MSG_SET(&m.u.watch, watch, uid, 1000);
	say(w, w->node[0].link, &m);
}

static void connect_all(struct world *w)
{
	for (int i = 0; i < NODES; i++) {
		struct node *n = &w->node[i];

		if (n->link != 0)
			continue;
		n->link = link_up(w, WHO_NODE, n->name, "agent");
		if (n->link == 0)
			return; /* it has died, and begun anew */
		register_node(w, n);
		if (i == 0)
			clients_wishes(w);
	}
	if (w->admin == 0) {
		w->admin = link_up(w, WHO_LOCAL, NULL, "client");
		if (w->admin != 0)
			admins_wishes(w);
	}
}

/* ---- the process ----------------------------------------------------------------------- */

static int load_rows(struct world *w)
{
	struct err e;
	int r = 0;

	for (size_t i = 0; i < w->n_rows && r == 0; i++) {
		struct msg m;

		if (w->row[i].json == NULL)
			continue;
		assert_int_equal(msg_decode(w->row[i].json, strlen(w->row[i].json), &m, NULL), 0);
		fail_malloc_hold(false);
		r = coord_load(w->c, &m, &e);
		fail_malloc_hold(true);
		msg_finish(&m);
	}
	return r;
}

static bool try_start(struct world *w)
{
	struct coord_conf conf = { .address = "head:7070", .sha256 = sha };
	int r;

	fail_malloc_hold(false);
	w->c = coord_create(&conf, w->now);
	fail_malloc_hold(true);
	r = w->c != NULL ? load_rows(w) : -ENOMEM;
	assert_true(r == 0 || r == -ENOMEM);
	if (r == 0) {
		fail_malloc_hold(false);
		coord_loaded(w->c, &w->acts);
		fail_malloc_hold(true);
	}
	if (r == 0 && !w->acts.failed) {
		perform(w);
		return true;
	}
	w->deaths++;
	actions_reset(&w->acts);
	coord_destroy(w->c);
	w->c = NULL;
	return false;
}

static void start(struct world *w)
{
	while (!try_start(w))
		;
}

static void first_rows(struct world *w)
{
	uint8_t key[32];
	struct msg m;
	struct buf b;

	for (int i = -1; i < NODES; i++) {
		struct store_row r = { .table = i < 0 ? TABLE_CLUSTER : TABLE_NODE, .key = i < 0 ? "cluster" : w->node[i].name };

		msg_init(&m, i < 0 ? MSG_row_cluster : MSG_row_node);
		if (i < 0) {
			m.u.row_cluster = (struct rec_row_cluster){ .cluster = "lab", .lineage = 42, .next_job = 1 };
		} else {
			key_of(w->node[i].name, key);
			m.u.row_node = (struct rec_row_node){ .node = w->node[i].name, .key = { key, 32 }, .submit = i == 0, .joined_wall_ms = 1 };
			MSG_SET(&m.u.row_node, row_node, uid_min, 1000);
			MSG_SET(&m.u.row_node, row_node, uid_max, 59999);
		}
		buf_init(&b);
		assert_int_equal(msg_encode(&m, &b, NULL), 0);
		r.json = b.data;
		r.len = b.len;
		write_row(w, &r);
		buf_finish(&b);
	}
}

/* ---- a life ------------------------------------------------------------------------------ */

static void pings(struct world *w)
{
	struct msg m;

	for (int i = 0; i < NODES; i++) {
		msg_init(&m, MSG_ping);
		m.u.ping.seq = 1;
		say(w, w->node[i].link, &m);
	}
}

static bool row_says(const struct world *w, uint64_t job, const char *state, uint32_t code)
{
	char key[24];
	struct msg m;
	bool good = false;

	snprintf(key, sizeof(key), "%llu", (unsigned long long)job);
	for (size_t i = 0; i < w->n_rows; i++) {
		if (w->row[i].table != TABLE_JOB || strcmp(w->row[i].key, key) != 0 || w->row[i].json == NULL)
			continue;
		assert_int_equal(msg_decode(w->row[i].json, strlen(w->row[i].json), &m, NULL), 0);
		good = strcmp(m.u.row_job.state, state) == 0 && m.u.row_job.exit_code == code && m.u.row_job.attempt == 1;
		msg_finish(&m);
	}
	return good;
}

static bool running(const struct world *w, uint64_t job)
{
	for (int i = 0; i < NODES; i++)
		if (w->node[i].part[job] == PART_RUNNING)
			return true;
	return false;
}

static bool over(const struct world *w)
{
	for (int i = 0; i < NODES; i++)
		for (int j = 1; j <= JOBS; j++)
			if (w->node[i].part[j] != PART_NONE)
				return false;
	return w->token_told && w->status_told && row_says(w, w->job_of[0], "done", 0) &&
	       row_says(w, w->job_of[1], "failed", 143);
}

static void kill_second(struct world *w)
{
	struct msg m;

	msg_init(&m, MSG_kill);
	m.u.kill.rid = 7;
	m.u.kill.job = w->job_of[1];
	MSG_SET(&m.u.kill, kill, uid, 1000);
	say(w, w->node[0].link, &m);
}

static void one_round(struct world *w)
{
	struct in in;
	struct msg m;
	struct coord_event ev;

	connect_all(w);
	if (w->n_in == 0) {
		if (w->job_of[1] != 0 && running(w, w->job_of[1]))
			kill_second(w);
		w->now = mono_add_ms(w->now, 500);
		ev = (struct coord_event){ .type = CEV_DEADLINE };
		if (mono_due(coord_deadline(w->c), w->now) && !step(w, &ev))
			return;
		pings(w);
		return;
	}
	in = w->in[0];
	memmove(&w->in[0], &w->in[1], --w->n_in * sizeof(in));
	ev = (struct coord_event){ .type = in.type, .link = in.link, .ticket = in.ticket, .msg = in.json ? &m : NULL };
	if (in.json != NULL)
		assert_int_equal(msg_decode(in.json, strlen(in.json), &m, NULL), 0);
	step(w, &ev);
	if (in.json != NULL)
		msg_finish(&m);
	free(in.json);
}

/* Each job of the two on its nodes, once; and no other. */
static void check_starts(const struct world *w)
{
	for (uint64_t j = 1; j <= JOBS; j++) {
		unsigned a = w->node[0].starts[j], b = w->node[1].starts[j];

		assert_int_equal(a + b, j == w->job_of[0] ? 2 : j == w->job_of[1] ? 1 : 0);
		assert_true(a <= 1 && b <= 1);
	}
}

static unsigned life(void)
{
	struct world *w = calloc(1, sizeof(*w));
	unsigned deaths, rounds = 0;

	w->now = (mono_t){ 1000000000 };
	actions_init(&w->acts);
	for (int i = 0; i < NODES; i++)
		snprintf(w->node[i].name, sizeof(w->node[i].name), "gpu%02d", i + 1);
	first_rows(w);
	start(w);
	while (!over(w) && ++rounds < ROUNDS)
		one_round(w);
	if (!over(w))
		fail_msg("not over after %u rounds and %u deaths: jobs %u and %u", rounds, w->deaths,
			 (unsigned)w->job_of[0], (unsigned)w->job_of[1]);
	check_starts(w);
	deaths = w->deaths;
	coord_destroy(w->c);
	drop_all(w);
	for (size_t i = 0; i < w->n_rows; i++)
		free(w->row[i].json);
	actions_finish(&w->acts);
	free(w);
	return deaths;
}

static void each_allocation_of_a_coordinators_life_may_fail(void **state)
{
	unsigned deaths, n = fail_malloc_lives(life, "a coordinator's", &deaths);

	assert_true(n >= 150);
	assert_true(deaths > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_allocation_of_a_coordinators_life_may_fail),
	};

	fail_malloc_cjson();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
