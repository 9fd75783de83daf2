/* attention.c - what needs a person, see attention.h
 *
 * Every matter becomes an item. A node's name within its sentences is taken
 * out first, so that "gpu03 is silent" and "gpu04 is silent" are seen to be
 * equal; what stands there in the end is the host list of all of them.
 *
 * No memory: there are fewer lines, never wrong ones. */
#include "client/attention.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/job_nccl.h"
#include "client/job_progress.h"
#include "client/render.h"
#include "client/sentence.h"
#include "common/arena.h"
#include "common/hostlist.h"

enum grade { BAD, JOB_HANGS, WARN, JOB_SUFFERS, JOB_WAITS, JOB_SAYS };

struct item {
	enum grade grade;
	const char *node; /* NULL: not about a node */
	const char *what; /* "mlx5_2", a subject that is no node, or a job's number; "" */
	const char *text, *fix;
	size_t at; /* first come, first shown, where nothing else decides */
};

struct items {
	struct arena arena;
	struct item *v;
	size_t n, cap;
	bool standalone; /* its nodes are processes of one host, and have no units */
};

static void add(struct items *all, struct item i)
{
	if (all->n == all->cap) {
		size_t cap = all->cap ? all->cap * 2 : 32;
		struct item *more = realloc(all->v, cap * sizeof(*more));

		if (!more)
			return;
		all->v = more;
		all->cap = cap;
	}
	i.at = all->n;
	all->v[all->n++] = i;
}

/* "gpu03 mlx5_2" or "gpu03: mlx5_2" is about mlx5_2 of gpu03; NULL: about something else. */
static const char *part_of(const char *subject, const char *node)
{
	if (!sentence_begins(subject, node))
		return NULL;
	subject += strlen(node);
	return subject + strspn(subject, " :");
}

static enum grade grade_of(const struct rec_attention *a)
{
	return strcmp(a->severity, "bad") == 0 ? BAD : WARN;
}

static void add_judgement(struct items *all, const struct rec_node_info *n,
			  const struct rec_attention *a)
{
	const char *part = part_of(a->subject, n->name), *node = part ? n->name : NULL;

	add(all, (struct item){ .grade = grade_of(a),
				.node = node,
				.what = part ? part : a->subject,
				.text = sentence_without(&all->arena, a->text, node),
				.fix = sentence_without(&all->arena, a->fix, node) });
}

static bool is_down(const struct rec_node_info *n)
{
	return strcmp(n->state, "down") == 0;
}

/* The boot of its last registration is kept, whatever the coordinator has been through since. */
static bool never_registered(const struct rec_node_info *n)
{
	return is_down(n) && !n->boot_id && !MSG_HAS(n, node_info, age_ms);
}

/* The usual remedy of a state that nobody has explained. */
static const char *fix_of_state(const struct items *all, const struct rec_node_info *n)
{
	if (strcmp(n->state, "degraded") == 0)
		return "";
	if (strcmp(n->state, "quarantined") == 0)
		return n->jobs ? "stop the one that should not be, then nodectl node-remove --force \001 (jobs hold it) and "
				 "join the other again" :
				 "stop the one that should not be, then nodectl node-remove \001 and join the other again";
	if (all->standalone)
		return is_down(n) ? "start nodeagentd --standalone again with enough --virtual-nodes, or take \001 out with "
				    "nodectl node-remove" :
				    "see whether its process is stopped: ps -C nodeagentd -o pid,stat,args";
	if (never_registered(n))
		return "on \001: systemctl enable --now nodeagentd; if it runs there, the network to this host";
	return "on \001: systemctl status nodeagentd, and the network to this host";
}

/* A state that nobody has explained: what is known of it. */
static void add_state(struct items *all, const struct rec_node_info *n)
{
	bool ill = strcmp(n->state, "degraded") == 0;
	struct buf b;

	buf_init(&b);
	buf_adds(&b, n->state);
	if (n->note && *n->note) {
		buf_addf(&b, ", %s", n->note);
	} else if (MSG_HAS(n, node_info, age_ms) && !ill) {
		buf_adds(&b, ", last heard ");
		render_age(&b, n->age_ms);
		buf_adds(&b, " ago");
	}
	add(all, (struct item){ .grade = ill ? WARN : BAD,
				.node = n->name,
				.what = "",
				.text = sentence_without(&all->arena, buf_str(&b), n->name),
				.fix = fix_of_state(all, n) });
	buf_finish(&b);
}

static void collect_node(struct items *all, const struct rec_node_info *n)
{
	for (size_t i = 0; i < n->n_attention; i++)
		add_judgement(all, n, &n->attention[i]);
	if (!n->n_attention && strcmp(n->state, "ok") != 0)
		add_state(all, n);
}

static void collect_job(struct items *all, const struct rec_job_info *j)
{
	const char *id = arena_printf(&all->arena, "%" PRIu64, j->job), *text;

	if (!id || render_job_over(j))
		return;
	if (job_nccl_alarm(j, &text, &all->arena))
		add(all, (struct item){ .grade = JOB_SUFFERS, .what = id, .text = text,
					.fix = arena_printf(&all->arena, "nodectl why %s", id) });
	if (strcmp(j->state, "queued") == 0 && j->why && *j->why)
		add(all, (struct item){ .grade = JOB_WAITS, .what = id, .text = j->why, .fix = "" });
	if (job_progress(j) && job_progress(j)->hang)
		add(all, (struct item){ .grade = JOB_HANGS, .what = id, .text = job_progress(j)->hang,
					.fix = job_progress(j)->fix ? job_progress(j)->fix : "" });
	for (size_t i = 0; i < j->n_notices; i++)
		add(all, (struct item){ .grade = JOB_SAYS, .what = id, .text = j->notices[i], .fix = "" });
}

/* ---- equal matters side by side ------------------------------------------ */

static int same_matter(const struct item *a, const struct item *b)
{
	int c = (int)a->grade - (int)b->grade;

	if (!c)
		c = strcmp(a->text, b->text);
	if (!c)
		c = strcmp(a->fix, b->fix);
	return c ? c : !a->node - !b->node;
}

static int by_matter(const void *pa, const void *pb)
{
	const struct item *a = pa, *b = pb;
	int c = same_matter(a, b);

	if (!c && a->node)
		c = node_name_cmp(a->node, b->node);
	if (!c && (a->node || a->grade < JOB_WAITS))
		c = node_name_cmp(a->what, b->what);
	return c ? c : (a->at > b->at) - (a->at < b->at);
}

/* The parts of one node that a matter is about: "mlx5_2,mlx5_5". */
struct owner {
	const char *node, *parts;
};

static int by_parts(const void *pa, const void *pb)
{
	const struct owner *a = pa, *b = pb;
	int c = strcmp(a->parts, b->parts);

	return c ? c : node_name_cmp(a->node, b->node);
}

/* "mlx5_2,mlx5_5"; of GPUs "GPU 3" and "GPUs 0, 3". */
static void add_parts(struct buf *b, const struct item *v, size_t n)
{
	static const char gpu[] = "GPU ";
	bool gpus = n > 1 && strcmp(v[n - 1].what, v[0].what) != 0;

	for (size_t i = 0; i < n; i++)
		gpus = gpus && strncmp(v[i].what, gpu, strlen(gpu)) == 0;
	for (size_t i = 0; i < n; i++) {
		if (i && strcmp(v[i].what, v[i - 1].what) == 0)
			continue;
		if (gpus)
			buf_addf(b, "%s%s", b->len ? ", " : "GPUs ", v[i].what + strlen(gpu));
		else
			buf_addf(b, "%s%s", b->len ? "," : "", v[i].what);
	}
}

/* v[0..n) is sorted by node, then by part. */
static size_t find_owners(struct arena *arena, const struct item *v, size_t n, struct owner *ret)
{
	size_t found = 0;
	struct buf parts;

	buf_init(&parts);
	for (size_t i = 0, end; i < n; i = end) {
		buf_reset(&parts);
		for (end = i; end < n && strcmp(v[end].node, v[i].node) == 0; end++)
			;
		add_parts(&parts, v + i, end - i);
		ret[found] = (struct owner){ v[i].node, arena_strdup(arena, buf_str(&parts)) };
		found += ret[found].parts != NULL;
	}
	buf_finish(&parts);
	return found;
}

static void add_names(struct buf *b, const struct owner *v, size_t n)
{
	const char **names = calloc(n, sizeof(*names));
	char *list = NULL;

	for (size_t i = 0; names && i < n; i++)
		names[i] = v[i].node;
	if (names)
		list = hostlist_format(names, n);
	buf_adds(b, list ? list : "?");
	free(list);
	free(names);
}

/* "gpu[03-09] mlx5_2,mlx5_5; gpu12 mlx5_1": sorts the owners by their parts. */
static void add_owners(struct buf *b, struct owner *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_parts);
	for (size_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && strcmp(v[end].parts, v[i].parts) == 0; end++)
			;
		if (i)
			buf_adds(b, "; ");
		add_names(b, v + i, end - i);
		if (*v[i].parts)
			buf_addf(b, " %s", v[i].parts);
	}
}

/* One line about v[0..n), which are the same matter. */
struct line {
	enum grade grade;
	const char *first; /* node, for the order; NULL */
	size_t at;
	const char *text;
};

static void node_line(struct arena *arena, struct buf *b, const struct item *v, size_t n)
{
	struct owner *owners = calloc(n, sizeof(*owners));
	struct buf names;
	size_t count;

	if (!owners)
		return;
	buf_init(&names);
	count = find_owners(arena, v, n, owners);
	add_names(&names, owners, count);
	add_owners(b, owners, count);
	buf_adds(b, ": ");
	sentence_fill(b, v->text, buf_str(&names));
	if (*v->fix) {
		buf_adds(b, "  fix: ");
		sentence_fill(b, v->fix, buf_str(&names));
	}
	buf_finish(&names);
	free(owners);
}

/* A subject of its own: a job, a service, the cluster. */
static void other_line(struct buf *b, const struct item *v, size_t n)
{
	if (v->grade >= JOB_SUFFERS || v->grade == JOB_HANGS)
		buf_adds(b, n > 1 ? "jobs " : "job ");
	for (size_t i = 0; i < n; i++)
		if (!i || strcmp(v[i].what, v[i - 1].what) != 0)
			buf_addf(b, "%s%s", i ? "," : "", v[i].what);
	if (v->grade == JOB_WAITS) {
		buf_adds(b, n > 1 ? " wait" : " waits");
		render_waiting(b, v->text);
	} else {
		buf_addf(b, v->grade == JOB_HANGS ? " hangs: %s" : ": %s", v->text);
	}
	if (*v->fix)
		buf_addf(b, "  fix: %s", v->fix);
}

static int by_weight(const void *pa, const void *pb)
{
	const struct line *a = pa, *b = pb;
	int c = (int)a->grade - (int)b->grade;

	if (!c)
		c = !!a->first - !!b->first; /* what is about all comes before what is about some */
	if (!c && a->first)
		c = node_name_cmp(a->first, b->first);
	return c ? c : (a->at > b->at) - (a->at < b->at);
}

static size_t fold(struct items *all, struct line *lines)
{
	size_t count = 0;
	struct buf b;

	buf_init(&b);
	qsort(all->v, all->n, sizeof(*all->v), by_matter);
	for (size_t i = 0, end; i < all->n; i = end) {
		const struct item *v = &all->v[i];

		for (end = i + 1; end < all->n && same_matter(v, &all->v[end]) == 0; end++)
			;
		buf_reset(&b);
		if (v->node)
			node_line(&all->arena, &b, v, end - i);
		else
			other_line(&b, v, end - i);
		lines[count] = (struct line){ v->grade, v->node, v->at, arena_strdup(&all->arena, buf_str(&b)) };
		count += lines[count].text && *lines[count].text;
	}
	buf_finish(&b);
	qsort(lines, count, sizeof(*lines), by_weight);
	return count;
}

static void print(struct out *o, struct items *all)
{
	static const enum out_tone tones[] = { [BAD] = OUT_BAD, [JOB_HANGS] = OUT_BAD, [WARN] = OUT_WARN,
						[JOB_SUFFERS] = OUT_WARN };
	struct line *lines = calloc(all->n + 1, sizeof(*lines));
	size_t n = lines && all->n ? fold(all, lines) : 0;

	out_start(o, "attention", OUT_LINES);
	for (size_t i = 0; i < n; i++)
		out_line(o, lines[i].grade <= JOB_SUFFERS ? tones[lines[i].grade] : OUT_PLAIN, lines[i].text);
	out_end(o);
	free(lines);
	free(all->v);
	arena_finish(&all->arena);
}

static bool standalone(const char *cluster)
{
	return cluster && strcmp(cluster, NA_STANDALONE) == 0;
}

void attention_lines(struct out *o, const struct rec_status *s)
{
	struct items all = { .standalone = standalone(s->cluster) };

	arena_init(&all.arena);
	for (size_t i = 0; i < s->n_nodes; i++)
		collect_node(&all, &s->nodes[i]);
	for (size_t i = 0; i < s->n_jobs; i++)
		collect_job(&all, &s->jobs[i]);
	print(o, &all);
}

void attention_of_node(struct out *o, const char *cluster, const struct rec_node_info *n)
{
	struct items all = { .standalone = standalone(cluster) };

	arena_init(&all.arena);
	collect_node(&all, n);
	print(o, &all);
}

const struct rec_attention *attention_worst(const struct rec_node_info *n)
{
	for (size_t i = 0; i < n->n_attention; i++)
		if (grade_of(&n->attention[i]) == BAD)
			return &n->attention[i];
	return n->n_attention ? &n->attention[0] : NULL;
}

void attention_short(struct buf *b, const struct rec_attention *a, const char *node)
{
	const char *part = part_of(a->subject, node), *what = part ? part : a->subject;
	const char *end = strstr(a->text, ". ");
	size_t n = end ? (size_t)(end - a->text) : strlen(a->text);

	if (n && a->text[n - 1] == '.')
		n--;
	if (*what)
		buf_addf(b, "%s ", what);
	buf_add(b, a->text, n);
}
