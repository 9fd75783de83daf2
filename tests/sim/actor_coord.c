/* actor_coord.c - the coordinator's process and its durable store
 *
 * A transaction becomes durable some time after it was asked for and is
 * answered some time after that; a crash before the first loses it, a crash in
 * between keeps it unanswered. Order is kept, as the real store keeps it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/sim.h"

/* Not SHA-256, but as good here: the core only compares. */
static void mixing_hash(const void *p, size_t n, uint8_t out[32])
{
	const uint8_t *s = p;

	for (int k = 0; k < 4; k++) {
		uint64_t h = UINT64_C(0xcbf29ce484222325) + (uint64_t)k;

		for (size_t i = 0; i < n; i++)
			h = (h ^ s[i]) * UINT64_C(0x100000001b3);
		memcpy(out + 8 * k, &h, 8);
	}
}

/* ---- rows ----------------------------------------------------------------------- */

static struct row *row_find(const struct coord_actor *c, enum store_table table, const char *key)
{
	for (struct row *r = c->rows; r != NULL; r = r->next)
		if (r->table == table && strcmp(r->key, key) == 0)
			return r;
	return NULL;
}

static void row_apply(struct sim *s, const struct row *now)
{
	struct coord_actor *c = &s->coord;
	struct row *r = row_find(c, now->table, now->key);

	check_row(s, now);
	if (r == NULL) {
		r = world_alloc(&s->w, sizeof(*r));
		r->table = now->table;
		r->key = now->key;
		r->next = c->rows;
		c->rows = r;
	}
	r->json = now->json;
	r->len = now->len;
}

static struct row *row_copy(struct sim *s, const struct store_row *r)
{
	struct row *d = world_alloc(&s->w, sizeof(*d));

	d->table = r->table;
	d->key = world_copy(&s->w, r->key, strlen(r->key));
	if (r->json != NULL)
		d->json = world_copy(&s->w, r->json, r->len);
	d->len = r->len;
	return d;
}

static void put_row(struct sim *s, enum store_table table, const char *key, const struct msg *m)
{
	struct store_row r = { .table = table, .key = key };
	struct buf b;

	buf_init(&b);
	if (msg_encode(m, &b, NULL) < 0)
		sim_fail(s, "the simulator's own row %s can be encoded", key);
	r.json = b.data;
	r.len = b.len;
	row_apply(s, row_copy(s, &r));
	buf_finish(&b);
}

static void put_node(struct sim *s, const char *name, const uint8_t key[32])
{
	struct msg m;

	msg_init(&m, MSG_row_node);
	m.u.row_node.node = name;
	m.u.row_node.key = (struct bytes){ key, 32 };
	MSG_SET(&m.u.row_node, row_node, submit, true);
	MSG_SET(&m.u.row_node, row_node, uid_min, 1000);
	MSG_SET(&m.u.row_node, row_node, uid_max, 59999);
	put_row(s, TABLE_NODE, name, &m);
}

void simcoord_setup(struct sim *s)
{
	struct msg m;

	s->coord.proc.kind = PK_COORD;
	s->coord.rows = NULL;
	s->coord.lineage = rng_u64(&s->w.rng) | 1;
	msg_init(&m, MSG_row_cluster);
	m.u.row_cluster.cluster = "testing";
	m.u.row_cluster.lineage = s->coord.lineage;
	m.u.row_cluster.next_job = 1;
	put_row(s, TABLE_CLUSTER, "cluster", &m);
	for (uint32_t i = 0; i < s->n_agents; i++)
		put_node(s, s->agents[i].name, s->agents[i].key);
	if (s->rogue != NULL && memcmp(rogue_key(s), s->agents[0].key, 32) != 0)
		put_node(s, "zevil", rogue_key(s));
}

void simcoord_new_lineage(struct sim *s)
{
	simcoord_crash(s, rng_range(&s->w.rng, SECOND, 3 * SECOND));
	for (uint32_t i = 0; i < JOBS_MAX; i++)
		memset(&s->jobs[i], 0, sizeof(s->jobs[i]));
	simcoord_setup(s);
}

/* ---- life ------------------------------------------------------------------------- */

static void feed(struct sim *s, struct coord_event *ev);
static void perform_all(struct sim *s);

static void load_row(struct sim *s, const struct row *r)
{
	struct err e = { 0 };
	struct msg m;

	if (r->json == NULL)
		return;
	if (msg_decode(r->json, r->len, &m, &e) < 0) {
		sim_fail(s, "stored rows can be decoded (%s: %s)", r->key, e.text);
		return;
	}
	if (coord_load(s->coord.core, &m, &e) < 0)
		sim_fail(s, "stored rows can be loaded (%s: %s)", r->key, e.text);
	msg_finish(&m);
}

/* In any order: both directions of the list are as good as any. */
static void load_rows(struct sim *s)
{
	struct row *v[JOBS_MAX];
	size_t n = 0;

	for (struct row *r = s->coord.rows; r != NULL && n < JOBS_MAX; r = r->next)
		v[n++] = r;
	for (size_t i = n; i > 1; i--) {
		size_t k = rng_below(&s->w.rng, i);
		struct row *t = v[k];

		v[k] = v[i - 1];
		v[i - 1] = t;
	}
	for (size_t i = 0; i < n; i++)
		load_row(s, v[i]);
}

void simcoord_start(struct sim *s)
{
	struct coord_actor *c = &s->coord;
	struct coord_conf conf = {
		.heartbeat_ms = 1000,
		.unreachable_ms = 3500,
		.node_lost_ms = s->node_lost_ms,
		.prepare_ms = s->prepare_ms,
		.handshake_ms = 10000,
		.history = 1000,
		.address = "head:7070",
		.sha256 = mixing_hash,
	};

	proc_start(&c->proc);
	silence_begins(s);
	c->store_free = 0;
	c->first_txn = NULL;
	c->next_txn = &c->first_txn;
	LINE(&s->w, "coord", "starts, life %u", c->proc.life);
	c->core = coord_create(&conf, world_mono(&s->w));
	load_rows(s);
	actions_init(&c->acts);
	coord_loaded(c->core, &c->acts);
	perform_all(s);
	if (c->proc.up)
		proc_arm(s, &c->proc, coord_deadline(c->core));
}

void simcoord_teardown(struct sim *s)
{
	struct coord_actor *c = &s->coord;

	if (c->core == NULL)
		return;
	coord_destroy(c->core);
	c->core = NULL;
	actions_finish(&c->acts);
}

/* May happen in the middle of a list of actions: the core goes, the list is
 * not looked at again. */
void simcoord_crash(struct sim *s, int64_t down_ns)
{
	struct coord_actor *c = &s->coord;

	if (!c->proc.up)
		return;
	LINE(&s->w, "coord", "CRASHES after action %llu", (unsigned long long)c->proc.actions);
	net_proc_died(s, &c->proc, false);
	if (c->proc.resume_at > s->w.now)
		c->stopped -= c->proc.resume_at - s->w.now;
	c->proc.up = false;
	c->proc.life++;
	c->proc.resume_at = 0;
	simcoord_teardown(s);
	world_at(&s->w, s->w.now + down_ns, EV_RESTART, &c->proc, 0, NULL);
}

static const uint8_t *key_of(const struct sim *s, const struct conn *c)
{
	const struct proc *from = c->end[0].proc;

	return from->kind == PK_ROGUE	? rogue_key(s)
	       : from->kind == PK_ADMIN ? admin_key(s)
					: s->agents[from->idx].key;
}

/* ---- actions ------------------------------------------------------------------------ */

static void persist(struct sim *s, const struct action *a)
{
	struct coord_actor *c = &s->coord;
	struct txn *t = world_alloc(&s->w, sizeof(*t));
	struct row **end = &t->rows;
	int64_t from = c->store_free > s->w.now ? c->store_free : s->w.now;
	int64_t durable = from + rng_range(&s->w.rng, MS / 10, 4 * MS);

	if (rng_chance(&s->w.rng, s->slow_store))
		durable += rng_range(&s->w.rng, 0, 800 * MS);
	t->ticket = a->ticket;
	*c->next_txn = t;
	c->next_txn = &t->next;
	c->n_txns++;
	for (size_t i = 0; i < a->n_rows; i++) {
		silence_row(s, &a->rows[i]);
		gpus_row(s, &a->rows[i]);
		*end = row_copy(s, &a->rows[i]);
		end = &(*end)->next;
	}
	c->store_free = durable + rng_range(&s->w.rng, 10000, MS);
	world_at(&s->w, durable, EV_COMMIT, &c->proc, 0, t);
	world_at(&s->w, c->store_free, EV_STORED, &c->proc, 0, t);
}

static void commit(struct sim *s, struct txn *t)
{
	t->done = true;
	if (s->coord.disk_full) {
		t->error = -ENOSPC;
		LINE(&s->w, "store", "no space for transaction %llu", (unsigned long long)t->ticket);
		return;
	}
	for (const struct row *r = t->rows; r != NULL; r = r->next) {
		LINE(&s->w, "store", "%llu: %s = %.300s", (unsigned long long)t->ticket, r->key,
		     r->json != NULL ? r->json : "(deleted)");
		row_apply(s, r);
	}
}

void simcoord_commit_all(struct sim *s)
{
	for (struct txn *t = s->coord.first_txn; t != NULL; t = t->next)
		if (!t->done)
			commit(s, t);
}

/* Connections with this key, known to the core as a node's or not. */
static void drop_key(struct sim *s, const uint8_t *key)
{
	for (struct conn *c = s->conns; c != NULL; c = c->next)
		if (c->kind == CONN_CONTROL && c->end[1].life == s->coord.proc.life &&
		    memcmp(key_of(s, c), key, 32) == 0)
			net_close(s, c, 1, "its key is out");
}

static void perform(struct sim *s, const struct action *a)
{
	struct coord_actor *c = &s->coord;
	struct conn *conn;
	int side;

	switch (a->type) {
	case ACT_SEND:
	case ACT_CLOSE:
		conn = net_of_link(&c->proc, a->link, &side);
		if (conn == NULL || conn->end[side].gone || conn->end[side].closing)
			sim_fail(s, "no message is sent on a closed link (coordinator, link %llu, %s %.*s)",
				 (unsigned long long)a->link, action_name(a->type), (int)a->len,
				 a->text != NULL ? a->text : "");
		else if (a->type == ACT_SEND) {
			check_sent(s, conn, side, a->text, a->len);
			removed_sent(s, conn, side, a->text, a->len);
			net_send(s, conn, side, a->text, a->len);
		}
		else
			net_close(s, conn, side, a->text);
		break;
	case ACT_LOG:
		break;
	case ACT_PERSIST:
		persist(s, a);
		break;
	case ACT_DROP_KEY:
		drop_key(s, a->key);
		break;
	default:
		sim_fail(s, "the coordinator asks only for what it may (%s)", action_name(a->type));
	}
}

static void perform_all(struct sim *s)
{
	struct coord_actor *c = &s->coord;

	for (size_t i = 0; i < c->acts.n; i++) {
		const struct action *a = &c->acts.v[i];

		LINE(&s->w, "coord", "%s %llu %.*s", action_name(a->type),
		     (unsigned long long)(a->link != 0 ? a->link : a->ticket),
		     (int)(a->len > 330 ? 330 : a->len), a->text != NULL && a->len > 0 ? a->text : "");
		perform(s, a);
		if (proc_acted(s, &c->proc, a->type, a->text, a->len) || s->failed)
			return;
	}
	actions_reset(&c->acts);
}

static void feed(struct sim *s, struct coord_event *ev)
{
	struct coord_actor *c = &s->coord;
	int r;

	if (!c->proc.up || s->failed)
		return;
	ev->now = world_mono(&s->w);
	ev->wall_ms = world_wall(&s->w);
	rng_fill(&s->w.core_rng, ev->random, sizeof(ev->random));
	r = coord_step(c->core, ev, &c->acts);
	if (r < 0 || c->acts.failed)
		sim_fail(s, "a step does not fail while there is memory (coordinator)");
	coord_check(c->core);
	proc_stepped(s, &c->proc, ev->type == CEV_DEADLINE, coord_deadline(c->core));
	check_coord(s);
	perform_all(s);
	if (c->proc.up)
		proc_arm(s, &c->proc, coord_deadline(c->core));
}

/* ---- events ---------------------------------------------------------------------------- */

void simcoord_event(struct sim *s, const struct event *e)
{
	struct coord_actor *c = &s->coord;
	struct coord_event ev = { 0 };
	const struct txn *t = e->p;

	switch (e->kind) {
	case EV_RESTART:
		simcoord_start(s);
		return;
	case EV_COMMIT:
		commit(s, e->p);
		return;
	case EV_TIMER:
		if (!proc_due(s, &c->proc, e->a, coord_deadline(c->core)))
			return;
		ev.type = CEV_DEADLINE;
		break;
	case EV_STORED:
		ev.type = CEV_STORED;
		ev.ticket = t->ticket;
		ev.error = t->error;
		ev.text = t->error != 0 ? "no space left on device" : NULL;
		break;
	default:
		return;
	}
	feed(s, &ev);
}

void simcoord_link_up(struct sim *s, struct conn *c)
{
	struct coord_event ev = { .type = CEV_LINK_UP, .link = c->end[1].link };

	if (c->kind == CONN_LOCAL) {
		ev.who = WHO_LOCAL;
		ev.uid = RUN_UID;
		ev.user = "ann";
		ev.admin = c->end[0].proc->kind == PK_ADMIN;
	} else {
		memcpy(ev.key, key_of(s, c), 32);
		ev.who = coord_find_key(s->coord.core, ev.key) ? WHO_NODE : WHO_STRANGER;
	}
	feed(s, &ev);
}

void simcoord_link_down(struct sim *s, struct conn *c)
{
	struct coord_event ev = { .type = CEV_LINK_DOWN, .link = c->end[1].link };

	feed(s, &ev);
}

void simcoord_message(struct sim *s, struct conn *c, const struct msg *m)
{
	struct coord_event ev = { .type = CEV_MESSAGE, .link = c->end[1].link, .msg = m };

	feed(s, &ev);
}
