/* coord_checks.c - nodectl check: all checks over the last readings of all nodes
 *
 * Also what a check needs beyond one node's readings: what nodes are like
 * (tally), looked through again at most once a second; and the best that each
 * port was seen at. The latter is stored with the node, so that no restart makes a
 * degraded port the new normal; where a slower link is meant, 'nodectl resume'
 * forgets it.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/hostlist.h"
#include "core/check.h"

#define TALLY_NODES 64 /* of more than so many ... */
#define TALLY_MS 1000
#define BASES_MAX 64 /* ports of a node */
#define ROWS_A_PIECE 4096
#define SM_MOVES_MS 2500 /* longer than it takes until all ports are read */
#define HOUR_US INT64_C(3600000000)

/* ---- what nodes are like ------------------------------------------------------------------ */

void checks_finish(struct coord *c)
{
	free(c->tally);
	c->tally = NULL;
}

void checks_node_finish(struct node *n)
{
	free(n->bases);
	free(n->held_verdicts);
}

/* Only what has changed: of 10,000 nodes all took 110 ms. */
static void count_node(struct coord *c, struct node *n)
{
	const struct rec_readings *r = node_readings(n);

	if (n->tallied.counted && (r == NULL || n->tally_old))
		tally_take_back(c->tally, &n->tallied);
	if (r != NULL && !n->tallied.counted && !tally_put(c->tally, r, n->bases, n->n_bases, &n->tallied))
		c->oom = true;
	n->tally_old = false;
}

static void count_anew(struct coord *c)
{
	tally_clear(c->tally);
	for (size_t i = 0; i < c->n_nodes; i++)
		c->nodes[i]->tallied.counted = false;
}

void checks_untally(struct coord *c, struct node *n)
{
	if (c->tally != NULL)
		tally_take_back(c->tally, &n->tallied);
}

/* Small clusters are looked through whenever there is something new. NULL: no memory. */
static const struct tally *tally_of(struct coord *c)
{
	if (c->tally != NULL && (c->tally_of == c->readings_seen ||
				 (c->n_nodes > TALLY_NODES && mono_sub_ms(c->now, c->tally_at) < TALLY_MS)))
		return c->tally;
	if (c->tally == NULL)
		c->tally = calloc(1, sizeof(*c->tally));
	if (c->tally == NULL) {
		c->oom = true;
		return NULL;
	}
	if (c->tally->full || c->tally->no_memory)
		count_anew(c);
	for (size_t i = 0; i < c->n_nodes; i++)
		count_node(c, c->nodes[i]);
	c->tally_at = c->now;
	c->tally_of = c->readings_seen;
	return c->tally;
}

static bool is_listed(const struct rec_readings *r, const struct port_base *b)
{
	for (size_t i = 0; r != NULL && i < r->n_ports; i++)
		if (r->ports[i].port == b->port && strcmp(r->ports[i].device, b->device) == 0)
			return true;
	return false;
}

/* One that is not there any more gives its place to one that is new: renamed (rdma-core, a new kernel), or exchanged. */
static struct port_base *base_of_gone(struct node *n)
{
	for (size_t i = 0; i < n->n_bases; i++)
		if (!is_listed(node_readings(n), &n->bases[i]))
			return &n->bases[i];
	return NULL;
}

static struct port_base *base_for(struct coord *c, struct node *n, const struct rec_port *p)
{
	struct port_base *v;

	for (size_t i = 0; i < n->n_bases; i++)
		if (n->bases[i].port == p->port && strcmp(n->bases[i].device, p->device) == 0)
			return &n->bases[i];
	v = base_of_gone(n);
	if (v == NULL && n->n_bases == BASES_MAX)
		return NULL;
	if (v == NULL) {
		v = realloc(n->bases, (n->n_bases + 1) * sizeof(*v));
		if (v == NULL) {
			c->oom = true;
			return NULL;
		}
		n->bases = v;
		v += n->n_bases++;
	}
	memset(v, 0, sizeof(*v));
	snprintf(v->device, sizeof(v->device), "%s", p->device);
	v->port = p->port;
	return v;
}

void checks_best_save(struct coord *c, const struct node *n, struct rec_row_node *r)
{
	r->best = arena_alloc(&c->out->arena, n->n_bases * sizeof(*r->best) + 1);
	if (r->best == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < n->n_bases; i++) {
		struct rec_port_best *b = &r->best[r->n_best++];

		memset(b, 0, sizeof(*b));
		b->device = n->bases[i].device;
		b->port = n->bases[i].port;
		MSG_SET(b, port_best, rate_mbps, n->bases[i].rate_mbps);
		MSG_SET(b, port_best, lanes, n->bases[i].lanes);
		b->pci = n->bases[i].pci[0] != '\0' ? n->bases[i].pci : NULL;
	}
}

int checks_best_load(struct node *n, const struct rec_row_node *r)
{
	size_t k = r->n_best < BASES_MAX ? r->n_best : BASES_MAX;

	n->bases = k > 0 ? calloc(k, sizeof(*n->bases)) : NULL;
	if (k > 0 && n->bases == NULL)
		return -ENOMEM;
	for (n->n_bases = 0; n->n_bases < k; n->n_bases++) {
		const struct rec_port_best *b = &r->best[n->n_bases];
		struct port_base *to = &n->bases[n->n_bases];

		snprintf(to->device, sizeof(to->device), "%s", b->device);
		to->port = b->port;
		to->rate_mbps = b->rate_mbps;
		to->lanes = b->lanes;
		snprintf(to->pci, sizeof(to->pci), "%s", b->pci != NULL ? b->pci : "");
	}
	return 0;
}

/* What is read while it is not Active means nothing. True: a port is better than ever. */
static bool note_best(struct coord *c, struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	bool better = false;

	for (size_t i = 0; r != NULL && i < r->n_ports; i++) {
		const struct rec_port *p = &r->ports[i];
		struct port_base *b;

		if (p->excluded || !check_is_active(p) || (b = base_for(c, n, p)) == NULL)
			continue;
		if (p->pci != NULL && strcmp(p->pci, b->pci) != 0) {
			snprintf(b->pci, sizeof(b->pci), "%s", p->pci);
			better = true;
		}
		if (MSG_HAS(p, port, rate_mbps) && p->rate_mbps > b->rate_mbps) {
			b->rate_mbps = p->rate_mbps;
			better = true;
		}
		if (MSG_HAS(p, port, lanes) && p->lanes > b->lanes) {
			b->lanes = p->lanes;
			better = true;
		}
		if (MSG_HAS(p, port, sm_lid) && p->sm_lid != b->sm_lid) {
			b->sm_lid = p->sm_lid;
			c->sm_moved = c->now;
		}
	}
	return better;
}

/* An administrator's word: as it is now it is meant to be. */
void checks_best_forget(struct coord *c, struct node *n)
{
	free(n->bases);
	n->bases = NULL;
	n->n_bases = 0;
	note_best(c, n); /* what is now is the measure */
	c->readings_seen++;
	n->tally_old = true;
}

void checks_note(struct coord *c, struct node *n)
{
	struct pending *pd;

	c->readings_seen++;
	n->tally_old = true;
	if (note_best(c, n) && !n->removed)
		persist_node(c, coord_persist(c, &pd), n);
}

void checks_fill(struct coord *c, struct node *n, struct verdict_in *in)
{
	in->peers = tally_of(c);
	in->sm_moves = mono_sub_ms(c->now, c->sm_moved) < SM_MOVES_MS;
	in->bases = n->bases;
	in->n_bases = n->n_bases;
	in->has_happened = n->link != NULL && n->probe;
	evidence_fill(c, n, HOUR_US, in->kmsg);
}

/* ---- the answer ----------------------------------------------------------------------------- */

struct answer {
	struct coord *c;
	struct clink *l;
	const struct rec_checks_get *g;
	struct arena a; /* of one piece */
	struct msg m;
	size_t bytes;
	uint32_t nodes, unread, count[CHECK_VERDICTS];
};

static void begin_piece(struct answer *x)
{
	arena_init(&x->a);
	msg_init(&x->m, MSG_checks);
	x->m.u.checks.rid = x->g->rid;
	x->m.u.checks.wall_ms = x->c->wall_ms;
	x->bytes = 0;
}

static void send_piece(struct answer *x, bool more)
{
	struct rec_checks *k = &x->m.u.checks;

	k->more = more;
	if (!more) {
		MSG_SET(k, checks, nodes, x->nodes);
		MSG_SET(k, checks, ok, x->count[CHECK_OK]);
		MSG_SET(k, checks, warn, x->count[CHECK_WARN]);
		MSG_SET(k, checks, bad, x->count[CHECK_BAD]);
		MSG_SET(k, checks, unknown, x->count[CHECK_UNKNOWN]);
		MSG_SET(k, checks, unread, x->unread);
	}
	act_send(x->c->out, x->l->id, &x->m);
	arena_finish(&x->a);
	begin_piece(x);
}

/* Rows outlive the node's arena: texts are copied into the piece's. */
static const char *keep(struct answer *x, const char *text)
{
	return text != NULL ? arena_strdup(&x->a, text) : NULL;
}

static void add_row(struct answer *x, const struct node *n, const struct check_found *f, int64_t since)
{
	struct rec_checks *k = &x->m.u.checks;
	struct rec_check_row *r;

	x->count[f->is.verdict]++;
	if ((f->is.verdict == CHECK_OK && !x->g->all) || (f->is.verdict == CHECK_UNKNOWN && x->g->no_unknown))
		return;
	if (k->rows == NULL)
		k->rows = arena_alloc(&x->a, ROWS_A_PIECE * sizeof(*k->rows));
	if (k->rows == NULL) {
		x->c->oom = true;
		return;
	}
	r = &k->rows[k->n_rows++];
	memset(r, 0, sizeof(*r));
	r->id = f->id;
	r->node = n->name;
	r->what = keep(x, f->what);
	r->verdict = check_verdict_name(f->is.verdict);
	if (f->is.reading != NULL)
		r->reading = arena_printf(&x->a, "%.256s", f->is.reading);
	if (f->is.verdict == CHECK_WARN || f->is.verdict == CHECK_BAD) {
		r->text = keep(x, f->is.text);
		r->fix = keep(x, f->is.fix);
	}
	if (since != 0)
		MSG_SET(r, check_row, since_wall_ms, since);
	x->bytes += 200 + text_weight(r->what) + text_weight(r->reading) + text_weight(r->text) + text_weight(r->fix);
	if (k->n_rows == ROWS_A_PIECE || x->bytes > PIECE_BYTES)
		send_piece(x, true);
}

/* The attention that came of this row knows since when, and a remedy that more than one node's readings went into. */
static int64_t since_of(const struct verdicts *v, struct check_found *f, bool *told)
{
	for (size_t i = 0; f->is.text != NULL && i < v->n; i++)
		if (v->v[i].text == f->is.text && v->v[i].brief != NULL) {
			told[i] = true;
			f->is.fix = v->v[i].fix;
			return MSG_HAS(&v->v[i], attention, since_wall_ms) ? v->v[i].since_wall_ms : 0;
		}
	return 0;
}

/* Verdicts that the coordinator passes itself: cordoned, not released, flapping. */
static void add_own(struct answer *x, const struct node *n, const struct verdicts *v, size_t i)
{
	const struct rec_attention *t = &v->v[i];
	bool gpu = v->kind[i].noun != NULL && strcmp(v->kind[i].noun, "GPU") == 0;
	size_t len = strlen(n->name);
	struct check_found f = { .id = v->kind[i].id != NULL ? v->kind[i].id : gpu ? "gpu.released" : "node.cordon" };

	if (t->subject[len] == ' ')
		f.what = t->subject + len + 1;
	f.is = (struct check_is){ .verdict = strcmp(t->severity, "bad") == 0 ? CHECK_BAD : CHECK_WARN, .text = t->text, .fix = t->fix };
	if (x->g->id == NULL || check_matches(&(struct check){ .id = f.id }, x->g->id))
		add_row(x, n, &f, MSG_HAS(t, attention, since_wall_ms) ? t->since_wall_ms : 0);
}

/* It is held: what it reads at the moment does not count. */
static bool is_held(const struct node *n, const struct verdicts *v, const bool *told, const struct check_found *f)
{
	size_t len = strlen(n->name);

	for (size_t i = 0; i < v->n; i++) {
		const char *what = v->v[i].subject[len] == ' ' ? v->v[i].subject + len + 1 : NULL;

		if (told[i] || v->kind[i].id == NULL || strcmp(v->kind[i].id, f->id) != 0)
			continue;
		if (f->check->scope == OF_NODE || (what != NULL && f->what != NULL && strcmp(what, f->what) == 0))
			return true;
	}
	return false;
}

static void add_reach(struct answer *x, const struct node *n)
{
	const char *state = node_state(n);
	struct check_found f = { .id = "node.reachable" };

	if (x->g->id != NULL && !check_matches(&(struct check){ .id = f.id }, x->g->id))
		return;
	check_ok(&f.is, state);
	if (strcmp(state, "ok") != 0)
		check_say(&f.is, CHECK_BAD, state, arena_printf(&x->a, "the node is %s: it is not read", state),
			  "see whether it is switched on and whether nodeagentd runs there; nodectl nodes tells how long");
	add_row(x, n, &f, 0);
}

/* Nothing is known of what was asked for. A driver that is not there is an answer. */
static bool is_unread(const struct answer *x, const struct node *n)
{
	const struct rec_readings *r = node_readings(n);
	bool gpu = x->g->id != NULL && strncmp(x->g->id, "gpu.", 4) == 0, port = x->g->id != NULL && strncmp(x->g->id, "ib.", 3) == 0;

	if (r == NULL || readings_source(r, "probe") != NULL)
		return true;
	return (gpu && verdict_is_unread(r, "nvml", "nvml")) || (port && verdict_is_unread(r, "verbs", "sysfs"));
}

static void add_node(struct answer *x, struct node *n)
{
	struct verdicts *v;
	struct checks rows = { .n = 0 };
	bool told[VERDICTS_MAX] = { false };
	struct arena a; /* the node's: readings of hundreds of ports do not pile up */

	arena_init(&a);
	v = arena_alloc(&a, sizeof(*v));
	x->nodes++;
	x->unread += is_unread(x, n);
	add_reach(x, n);
	if (v != NULL && n->link != NULL) {
		verdicts_of(&a, x->c, n, v, &rows);
		for (size_t i = 0; i < rows.n; i++)
			since_of(v, &rows.v[i], told); /* all first: it marks what has a row */
		for (size_t i = 0; i < rows.n; i++)
			if (check_matches(rows.v[i].check, x->g->id) && !is_held(n, v, told, &rows.v[i]))
				add_row(x, n, &rows.v[i], since_of(v, &rows.v[i], told));
		for (size_t i = 0; i < v->n; i++)
			if (!told[i])
				add_own(x, n, v, i);
	}
	x->c->oom = x->c->oom || v == NULL || rows.oom;
	arena_finish(&a);
}

/* ---- what checks are -------------------------------------------------------------------------- */

static const struct check own_checks[] = {
	{ .id = "node.reachable", .title = "the node answers", .reads = "its agent's connection and pings",
	  .threshold = "bad: down, unreachable or quarantined", .source = "ours: three pings missed",
	  .remedy = "see whether it is switched on and whether nodeagentd runs there" },
	{ .id = "node.cordon", .title = "the node gets jobs", .reads = "nodectl drain; processes that outlive SIGKILL",
	  .threshold = "warn: drained; bad: a process cannot be killed", .source = "the administrator; the kernel (state D)",
	  .remedy = "nodectl resume NODE" },
	{ .id = "gpu.released", .title = "GPU memory comes back after a job", .reads = "nvmlDeviceGetMemoryInfo before and after",
	  .threshold = "bad: more in use than before the job, longer than a minute after it", .source = "ours: the driver takes some seconds",
	  .remedy = "nvidia-smi --gpu-reset with nodeagentd stopped; else reboot" },
	{ .id = "sm.running", .title = "the subnet manager runs", .reads = "systemd's units opensm and opensmd: enabled, and processes in the "
	  "unit's cgroup, or in that of an opensm@PORT that it has started. One on a switch, in a container or started by hand is not seen",
	  .threshold = "bad: enabled on this node, none runs on any node, and some node has an "
	  "InfiniBand port", .source = "ours: who enabled it wants it",
	  .remedy = "nodectl fix sm; journalctl -u 'opensm*' says why it ended" },
	{ .id = "sm.enabled", .title = "the subnet manager comes back after a boot", .reads = "as sm.running: links in TARGET.wants",
	  .threshold = "warn: it runs and is not enabled", .source = "ours: after the next boot ports stay Initializing",
	  .remedy = "nodectl fix sm --enable" },
	{ .id = "sm.several", .title = "one subnet manager", .reads = "as sm.running, of all nodes",
	  .threshold = "warn: more than one runs", .source = "ours: one with other settings undoes the master's work when it takes over",
	  .remedy = "let one run, or all with the same settings and priorities" },
	{ .id = NULL },
};

static void explain(struct answer *x, const struct check *list)
{
	struct rec_checks *k = &x->m.u.checks;

	for (const struct check *c = list; c->id != NULL && k->about != NULL; c++)
		if (check_matches(c, x->g->id) && k->n_about < 256)
			k->about[k->n_about++] = (struct rec_check_about){ .id = c->id, .title = c->title, .reads = c->reads,
				.threshold = c->threshold, .source = c->source, .remedy = c->remedy };
}

static bool known_id(const char *id)
{
	bool known = id == NULL;

	for (const struct check *c = check_table; c->id != NULL; c++)
		known = known || check_matches(c, id);
	for (const struct check *c = own_checks; c->id != NULL; c++)
		known = known || check_matches(c, id);
	return known;
}

static void refuse_id(struct coord *c, struct clink *l, const struct rec_checks_get *g)
{
	char group[72];

	if (snprintf(group, sizeof(group), "%s.", g->id) < (int)sizeof(group) && known_id(group)) {
		coord_refuse(c, l, g->rid, "not-found", "there is no check \"%s\"; with a dot at its end, %s, it is a group of them",
			     g->id, group);
		return;
	}
	coord_refuse(c, l, g->rid, "not-found", "there is no check \"%s\"; nodectl check --explain lists them", g->id);
}

/* False: it was refused. */
static bool take_nodes(struct answer *x)
{
	struct hostlist hl = { 0 };
	struct err e;

	if (x->g->nodes == NULL) {
		for (size_t i = 0; i < x->c->n_nodes; i++)
			add_node(x, x->c->nodes[i]);
		return true;
	}
	if (hostlist_parse(x->g->nodes, &hl, &e) < 0) {
		coord_refuse(x->c, x->l, x->g->rid, "bad-request", "%s", e.text);
		return false;
	}
	for (size_t i = 0; i < hl.count; i++)
		if (node_find(x->c, hl.names[i]) == NULL) {
			coord_refuse(x->c, x->l, x->g->rid, "not-found",
				     "no node named %s in this cluster; 'nodectl nodes' lists them", hl.names[i]);
			hostlist_finish(&hl);
			return false;
		}
	for (size_t i = 0; i < hl.count; i++)
		add_node(x, node_find(x->c, hl.names[i]));
	hostlist_finish(&hl);
	return true;
}

void answer_checks(struct coord *c, struct clink *l, const struct rec_checks_get *g)
{
	struct answer x = { .c = c, .l = l, .g = g };
	bool go = true;

	if (!known_id(g->id)) {
		refuse_id(c, l, g);
		return;
	}
	begin_piece(&x);
	if (g->explain) {
		x.m.u.checks.about = arena_alloc(&x.a, 256 * sizeof(*x.m.u.checks.about));
		explain(&x, check_table);
		explain(&x, own_checks);
	} else {
		go = take_nodes(&x);
	}
	if (go)
		send_piece(&x, false);
	arena_finish(&x.a);
}
