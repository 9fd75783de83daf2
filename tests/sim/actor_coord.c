/* actor_coord.c - the coordinator's process and its host
 *
 * Its store is in store.c: a transaction becomes durable some time after it was
 * asked for and is answered some time after that. The process may die and come
 * back, at once or with its host, which forgets what was not synced then.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/disk.h"
#include "tests/sim/sim.h"

#define SAVED_WITHIN (5 * SECOND) /* what could not be written is written, when the disk is well again */

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

/* ---- the rows of init ----------------------------------------------------------------- */

static void put_row(struct sim *s, enum store_table table, const char *key, const struct msg *m)
{
	struct buf b;

	buf_init(&b);
	if (msg_encode(m, &b, NULL) < 0)
		sim_fail(s, "the simulator's own row %s can be encoded", key);
	simstore_initial(s, table, key, b.data, b.len);
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
	simstore_anew(s);
	simcoord_setup(s);
}

/* ---- life ------------------------------------------------------------------------- */

static void feed(struct sim *s, struct coord_event *ev);
static void perform_all(struct sim *s);

static void load_row(struct sim *s, const struct row *r)
{
	struct err e = { 0 };
	struct msg m;

	if (msg_decode(r->json, r->len, &m, &e) < 0) {
		sim_fail(s, "stored rows can be decoded (%s: %s)", r->key, e.text);
		return;
	}
	stuck_loaded(s, r->json, r->len);
	if (coord_load(s->coord.core, &m, &e) < 0)
		sim_fail(s, "stored rows can be loaded (%s: %s)", r->key, e.text);
	msg_finish(&m);
}

/* In any order: one is as good as any. */
static void load_rows(struct sim *s, struct row *rows)
{
	struct row *v[JOBS_MAX];
	size_t n = 0;

	for (struct row *r = rows; r != NULL && n < JOBS_MAX; r = r->next)
		v[n++] = r;
	for (size_t i = n; i > 1; i--) {
		size_t k = rng_below(&s->w.rng, i);
		struct row *t = v[k];

		v[k] = v[i - 1];
		v[i - 1] = t;
	}
	for (size_t i = 0; i < n && !s->failed; i++)
		load_row(s, v[i]);
}

void simcoord_teardown(struct sim *s)
{
	struct coord_actor *c = &s->coord;

	simstore_drop(s);
	if (c->core == NULL)
		return;
	coord_destroy(c->core);
	c->core = NULL;
	actions_finish(&c->acts);
}

/* May happen in the middle of a list of actions: the core goes, the list is
 * not looked at again. */
static void gone(struct sim *s, int64_t down_ns, bool with_host)
{
	struct coord_actor *c = &s->coord;

	if (disk_is_bad() || (s->disk_was_full && s->w.now - s->disk_well_at < SAVED_WITHIN))
		s->reason_lost = true;
	net_proc_died(s, &c->proc, with_host);
	if (c->proc.resume_at > s->w.now)
		c->stopped -= c->proc.resume_at - s->w.now;
	c->proc.up = false;
	c->proc.life++;
	c->proc.resume_at = 0;
	simcoord_teardown(s);
	world_at(&s->w, s->w.now + down_ns, EV_RESTART, &c->proc, with_host, NULL);
}

void simcoord_start(struct sim *s)
{
	struct coord_actor *c = &s->coord;
	char boot_id[37];
	struct coord_conf conf = {
		.heartbeat_ms = 1000,
		.unreachable_ms = 3500,
		.node_lost_ms = s->node_lost_ms,
		.prepare_ms = s->prepare_ms,
		.handshake_ms = 10000,
		.history = s->history != 0 ? s->history : 1000,
		.no_events = s->no_events,
		.cordon_on_bad = s->policy,
		.cordon_lift_ms = s->policy ? 3000 : 0,
		.address = "head:7070",
		.boot_id = boot_id,
		.sha256 = mixing_hash,
	};
	struct row *rows = NULL;

	snprintf(boot_id, sizeof(boot_id), "0000ffff-%04x-4000-8000-%012llx", c->boots,
		 (unsigned long long)(s->seed & 0xffffffffffff));
	proc_start(&c->proc);
	silence_begins(s);
	c->answer_at = 0;
	LINE(&s->w, "coord", "starts, life %u", c->proc.life);
	if (!simstore_open(s, &rows)) {
		if (!s->failed)
			gone(s, SECOND, false); /* it says why; systemd starts it again */
		return;
	}
	c->core = coord_create(&conf, proc_mono(s, &c->proc));
	load_rows(s, rows);
	choice_begins(s);
	actions_init(&c->acts);
	coord_loaded(c->core, &c->acts);
	load_looked(s, rows);
	perform_all(s);
	if (c->proc.up)
		proc_arm(s, &c->proc, coord_deadline(c->core));
}

void simcoord_crash(struct sim *s, int64_t down_ns)
{
	struct coord_actor *c = &s->coord;

	if (!c->proc.up)
		return;
	LINE(&s->w, "coord", "CRASHES after action %llu", (unsigned long long)c->proc.actions);
	simstore_crash(s, false);
	gone(s, down_ns, false);
}

/* May fall between a crash and the restart, too. */
void simcoord_power(struct sim *s, int64_t down_ns)
{
	struct coord_actor *c = &s->coord;

	if (!c->proc.up)
		return;
	LINE(&s->w, "coord", "HOST LOSES POWER after action %llu", (unsigned long long)c->proc.actions);
	simstore_crash(s, true);
	c->host_down = true;
	gone(s, down_ns, true);
}

void simcoord_leave(struct sim *s, int64_t down_ns)
{
	struct coord_actor *c = &s->coord;

	if (!c->proc.up)
		return;
	LINE(&s->w, "coord", "LEAVES");
	simstore_close(s);
	gone(s, down_ns, false);
}

static void restart(struct sim *s, bool booted)
{
	if (booted) {
		s->coord.host_down = false;
		s->coord.boots++;
		s->coord.proc.mono_ns = 20 * SECOND - world_mono(&s->w).ns; /* since it was switched on */
		net_coord_back(s);
	}
	simcoord_start(s);
}

static const uint8_t *key_of(const struct sim *s, const struct conn *c)
{
	const struct proc *from = c->end[0].proc;

	return from->kind == PK_ROGUE	? rogue_key(s)
	       : from->kind == PK_ADMIN ? admin_key(s)
					: s->agents[from->idx].key;
}

/* ---- actions ------------------------------------------------------------------------ */

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
	case ACT_EVENT:
		break;
	case ACT_LOG:
		break;
	case ACT_PERSIST:
		simstore_write(s, a);
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
		     (int)(a->len > 3900 ? 3900 : a->len), a->text != NULL && a->len > 0 ? a->text : "");
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
	ev->now = proc_mono(s, &c->proc);
	ev->wall_us = world_wall_us(&s->w);
	ev->wall_ms = ev->wall_us / 1000;
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

	switch (e->kind) {
	case EV_RESTART:
		restart(s, e->a != 0);
		return;
	case EV_COMMIT:
		if (e->a != 0)
			simstore_look(s);
		else
			simstore_commit(s);
		return;
	case EV_TIMER:
		if (!proc_due(s, &c->proc, e->a, coord_deadline(c->core)))
			return;
		ev.type = CEV_DEADLINE;
		break;
	case EV_STORED:
		simstore_answer(e->p, &ev);
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
