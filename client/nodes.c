/* nodes.c - the table of nodes, see nodes.h */
#include "client/nodes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/attention.h"
#include "client/reading.h"
#include "client/render.h"
#include "client/term.h"
#include "common/arena.h"
#include "common/hostlist.h"

/* What a row shows of a node. */
struct row {
	const struct rec_node_info *n;
	int rank;
	const char *gpus, *ib, *job;
	const char *skew, *note; /* of this node alone */
	const char *skew_about, *note_about; /* of it among others: what must be equal */
};

/* Rows [first, first + count) of the sorted array are equal. */
struct group {
	const struct row *first;
	size_t count;
};

struct table {
	struct arena arena;
	struct row *rows;
	struct group *groups;
	size_t n, n_groups;
	bool gpus, ib, skew, job, note; /* somebody has such data, or should have */
	bool age; /* has a column of its own */
	int64_t wall_ms; /* the coordinator's now */
	const struct rec_status *s;
};

int nodes_rank(const struct rec_node_info *n)
{
	static const char *const worst[] = { "quarantined", "down", "unreachable", "degraded" };
	const struct rec_attention *a = attention_worst(n);

	for (int i = 0; i < 4; i++)
		if (strcmp(n->state, worst[i]) == 0)
			return i;
	if (strcmp(n->state, "ok") != 0)
		return 3; /* a state of a later version */
	if (!a)
		return 6;
	return strcmp(a->severity, "bad") == 0 ? 4 : 5;
}

/* ---- the cells of one row ------------------------------------------------ */

static const char *keep(struct table *t, struct buf *b)
{
	const char *s = arena_strdup(&t->arena, buf_str(b));

	buf_reset(b);
	return s ? s : "?";
}

/* "6/8"; "-" where there are none, "?" for what is not known. */
static const char *share(struct table *t, struct buf *b, bool known, uint32_t total, bool part_known,
			 uint32_t part)
{
	if (!known)
		return "?";
	if (!total)
		return "-";
	if (part_known)
		buf_addf(b, "%u/%u", part, total);
	else
		buf_addf(b, "?/%u", total);
	return keep(t, b);
}

/* The job holds it and runs nothing there: see --spares. */
static bool is_spare(const struct rec_status *s, const char *id, const char *node)
{
	uint64_t job = strtoull(id, NULL, 10);

	for (size_t i = 0; i < s->n_jobs; i++)
		for (size_t k = 0; s->jobs[i].job == job && k < s->jobs[i].n_spares; k++)
			if (strcmp(s->jobs[i].spares[k], node) == 0)
				return true;
	return false;
}

static const char *job_cell(struct table *t, struct buf *b, const struct rec_node_info *n)
{
	if (!n->n_job_ids)
		return "-";
	for (size_t i = 0; i < n->n_job_ids; i++)
		buf_addf(b, "%s%s%s", i ? "," : "", n->job_ids[i], is_spare(t->s, n->job_ids[i], n->name) ? " spare" : "");
	return keep(t, b);
}

static void add_age(struct buf *b, uint64_t ms, bool about)
{
	if (about)
		reading_age_about(b, ms);
	else
		render_age(b, ms);
}

/* "mlx5_2 Initializing 3m"; from an older coordinator, the beginning of its sentence. */
static void add_trouble(struct table *t, struct buf *b, const struct rec_node_info *n, bool about)
{
	if (!n->brief) {
		attention_short(b, attention_worst(n), n->name);
		return;
	}
	buf_adds(b, n->brief);
	if (MSG_HAS(n, node_info, brief_since_wall_ms) && n->brief_since_wall_ms <= t->wall_ms) {
		bool said = strchr(n->brief, ':') != NULL; /* an administrator's words may end in anything */

		buf_adds(b, said ? " (" : " ");
		add_age(b, (uint64_t)t->wall_ms - (uint64_t)n->brief_since_wall_ms, about);
		buf_adds(b, said ? ")" : "");
	}
}

/* The coordinator's words for a state, or its worst judgement, or how long ago
 * the node was heard; of one that has gone, the time always counts. */
static const char *note_cell(struct table *t, struct buf *b, const struct rec_node_info *n, bool about)
{
	bool gone = strcmp(n->state, "unreachable") == 0 || strcmp(n->state, "down") == 0;

	gone = gone && MSG_HAS(n, node_info, age_ms);
	if (n->note && *n->note) {
		if (gone && !t->age) {
			add_age(b, n->age_ms, about);
			buf_adds(b, ": ");
		}
		buf_adds(b, n->note);
	} else if (n->n_attention) {
		add_trouble(t, b, n, about);
	} else if (gone && !t->age) {
		buf_adds(b, "last heard ");
		add_age(b, n->age_ms, about);
		buf_adds(b, " ago");
	}
	return b->len ? keep(t, b) : "";
}

static void fill(struct table *t, struct row *r, const struct rec_node_info *n)
{
	struct buf b;

	buf_init(&b);
	r->n = n;
	r->rank = nodes_rank(n);
	r->gpus = share(t, &b, MSG_HAS(n, node_info, gpus), n->gpus, MSG_HAS(n, node_info, gpus_busy),
			n->gpus_busy);
	r->ib = share(t, &b, MSG_HAS(n, node_info, ports), n->ports, MSG_HAS(n, node_info, ports_active),
		      n->ports_active);
	r->job = job_cell(t, &b, n);
	reading_skew(&b, n);
	r->skew = keep(t, &b);
	reading_skew_about(&b, n);
	r->skew_about = keep(t, &b);
	r->note = note_cell(t, &b, n, false);
	r->note_about = note_cell(t, &b, n, true);
	t->gpus |= n->gpus > 0 || n->gpus_unknown;
	t->ib |= n->ports > 0 || n->ports_unknown;
	t->skew |= MSG_HAS(n, node_info, skew_us) && !n->skew_ref;
	t->job |= n->n_job_ids > 0;
	t->note |= *r->note != '\0';
	buf_finish(&b);
}

/* What has no column must part no nodes either. */
static void hide(struct table *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct row *r = &t->rows[i];

		if (!t->gpus)
			r->gpus = "";
		if (!t->ib)
			r->ib = "";
		if (!t->skew)
			r->skew_about = "";
	}
}

/* ---- order and groups ---------------------------------------------------- */

static int by_look(const struct row *a, const struct row *b)
{
	int c = a->rank - b->rank;

	if (!c)
		c = strcmp(a->n->state, b->n->state);
	if (!c)
		c = strcmp(a->gpus, b->gpus);
	if (!c)
		c = strcmp(a->ib, b->ib);
	if (!c)
		c = strcmp(a->job, b->job);
	if (!c)
		c = strcmp(a->skew_about, b->skew_about);
	return c ? c : strcmp(a->note_about, b->note_about);
}

static int by_look_and_name(const void *pa, const void *pb)
{
	const struct row *a = pa, *b = pb;
	int c = by_look(a, b);

	return c ? c : node_name_cmp(a->n->name, b->n->name);
}

static int by_trouble(const void *pa, const void *pb)
{
	const struct row *a = ((const struct group *)pa)->first, *b = ((const struct group *)pb)->first;
	int c = a->rank - b->rank;

	return c ? c : node_name_cmp(a->n->name, b->n->name);
}

static void find_groups(struct table *t, bool group)
{
	if (group)
		qsort(t->rows, t->n, sizeof(*t->rows), by_look_and_name);
	for (size_t i = 0, end; i < t->n; i = end) {
		for (end = i + 1; group && end < t->n && by_look(&t->rows[i], &t->rows[end]) == 0; end++)
			;
		t->groups[t->n_groups++] = (struct group){ &t->rows[i], end - i };
	}
	qsort(t->groups, t->n_groups, sizeof(*t->groups), by_trouble);
}

/* ---- printing ------------------------------------------------------------ */

/* "gpu[02,04,.. (57)": as many as there is room for, and how many there are. */
static void add_cut_list(struct buf *b, const char *list, size_t count, unsigned room)
{
	char tail[32];
	unsigned used, n = (unsigned)snprintf(tail, sizeof(tail), ".. (%zu)", count);
	size_t cut = term_fit(list, room - n, &used), whole = cut;

	while (whole && !strchr(",[-", list[whole - 1])) /* half a number would be another node */
		whole--;
	buf_add(b, list, whole ? whole : cut);
	buf_adds(b, tail);
}

static void add_names(struct buf *b, const struct group *g, unsigned room)
{
	const char **names = calloc(g->count, sizeof(*names));
	char *list = NULL;

	for (size_t i = 0; names && i < g->count; i++)
		names[i] = g->first[i].n->name;
	if (names)
		list = hostlist_format(names, g->count);
	if (list && term_width(list) <= room)
		buf_adds(b, list);
	else
		add_cut_list(b, list ? list : "", g->count, room);
	free(list);
	free(names);
}

static void name_cell(struct out *o, const struct group *g, unsigned columns)
{
	unsigned room = columns / 4; /* less than a NOTE takes, which then gives way first */
	struct buf b;

	buf_init(&b);
	if (g->count == 1)
		buf_adds(&b, g->first->n->name);
	else
		add_names(&b, g, room < 20 ? 20 : room);
	out_cell(o, "NODE", OUT_SHRINK, OUT_PLAIN, "%s", buf_str(&b));
	buf_finish(&b);
}

static void age_cell(struct out *o, const struct rec_node_info *n)
{
	struct buf b;

	buf_init(&b);
	if (MSG_HAS(n, node_info, age_ms))
		render_age(&b, n->age_ms);
	out_cell(o, "AGE", 0, OUT_PLAIN, "%s", b.len ? buf_str(&b) : "never");
	buf_finish(&b);
}

static enum out_tone warn_if(bool bad)
{
	return bad ? OUT_WARN : OUT_PLAIN;
}

static bool ports_missing(const struct rec_node_info *n)
{
	return MSG_HAS(n, node_info, ports_active) && n->ports_active < n->ports;
}

static void print_row(struct out *o, const struct table *t, const struct group *g,
		      const struct nodes_view *view)
{
	const struct row *r = g->first;
	const struct rec_node_info *n = r->n;
	bool alone = g->count == 1;

	out_start(o, NULL, OUT_ROW);
	name_cell(o, g, view->columns);
	out_cell(o, "STATE", 0, render_tone(n->state), "%s", n->state);
	if (t->gpus)
		out_cell(o, "GPUS", 0, OUT_PLAIN, "%s", r->gpus);
	if (t->ib)
		out_cell(o, "IB", 0, warn_if(ports_missing(n)), "%s", r->ib);
	if (t->skew)
		out_cell(o, "SKEW", 0, warn_if(reading_skew_bad(n)), "%s", alone ? r->skew : r->skew_about);
	if (t->job)
		out_cell(o, "JOB", OUT_SHRINK, OUT_PLAIN, "%s", r->job);
	if (view->age)
		age_cell(o, n);
	if (t->note)
		/* with the state of the cluster the whole is told below */
		out_cell(o, "NOTE", view->age ? OUT_WRAP : OUT_SHRINK, OUT_PLAIN, "%s", alone ? r->note : r->note_about);
	out_end(o);
}

void nodes_table(struct out *o, const struct rec_status *s, const struct nodes_view *view)
{
	struct table t = { .n = s->n_nodes, .age = view->age, .wall_ms = s->wall_ms, .s = s };

	arena_init(&t.arena);
	t.rows = arena_alloc(&t.arena, (t.n + 1) * sizeof(*t.rows));
	t.groups = arena_alloc(&t.arena, (t.n + 1) * sizeof(*t.groups));
	out_start(o, "nodes", OUT_TABLE);
	if (t.rows && t.groups) {
		for (size_t i = 0; i < t.n; i++)
			fill(&t, &t.rows[i], &s->nodes[i]);
		hide(&t);
		find_groups(&t, view->group);
		for (size_t i = 0; i < t.n_groups; i++)
			print_row(o, &t, &t.groups[i], view);
	}
	out_end(o);
	arena_finish(&t.arena);
}

/* Nobody has read that there are any; of 'missing' nodes nothing is known. */
static void no_sum(struct buf *b, const struct rec_status *s, size_t missing)
{
	buf_adds(b, "GPUs ?");
	if (missing < s->n_nodes) {
		buf_adds(b, " on ");
		render_count(b, missing, "node", "nodes");
	}
}

void nodes_gpus(struct buf *b, const struct rec_status *s)
{
	uint64_t busy = 0, total = 0;
	size_t known = 0, missing = 0;
	bool unknown = false; /* somewhere there should be some */

	for (size_t i = 0; i < s->n_nodes; i++) {
		const struct rec_node_info *n = &s->nodes[i];

		known += MSG_HAS(n, node_info, gpus) && (!n->gpus || MSG_HAS(n, node_info, gpus_busy));
		unknown |= n->gpus_unknown;
		missing += !MSG_HAS(n, node_info, gpus);
		total += n->gpus;
		busy += n->gpus_busy;
	}
	if (!total) {
		if (unknown)
			no_sum(b, s, missing);
		return;
	}
	if (known)
		buf_addf(b, "GPUs %" PRIu64 " busy / %" PRIu64, busy, total);
	else
		buf_addf(b, "GPUs ? busy / %" PRIu64, total);
	if (known && known < s->n_nodes) {
		buf_adds(b, ", ? on ");
		render_count(b, s->n_nodes - known, "node", "nodes");
	}
}

void nodes_count(struct buf *b, const struct rec_status *s)
{
	static const char *const states[] = { "degraded", "unreachable", "down", "quarantined" };

	render_count(b, s->n_nodes, "node", "nodes");
	for (size_t k = 0; k < sizeof(states) / sizeof(states[0]); k++) {
		size_t n = 0;

		for (size_t i = 0; i < s->n_nodes; i++)
			n += strcmp(s->nodes[i].state, states[k]) == 0;
		if (n)
			buf_addf(b, ", %zu %s", n, states[k]);
	}
}
