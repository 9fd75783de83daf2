/* conduct.c - see conduct.h */
#include "nccl/conduct.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nccl/bisect.h"
#include "nccl/cast.h"
#include "nccl/library.h"
#include "nccl/report.h"
#include "nccl/team.h"

#define ALL_REDUCE (UINT32_C(1) << OP_ALL_REDUCE)

struct conductor {
	struct cast cast;
	const struct check_options *o;
	int code;
	uint32_t *ranks; /* of all teams of a step, one after the other */
	struct team *teams;
};

static struct cast *stage; /* for the signal's handler */

static void on_term(int sig)
{
	(void)sig;
	stage->ended = true;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void worse(struct conductor *k, int code)
{
	if (k->code == CHECK_GOOD)
		k->code = code;
}

/* ---- before anything is measured -------------------------------------------------- */

enum { NOT_HEARD, HANGS, ENDED };

static int how_far(const struct player *p)
{
	return p->here == NULL ? NOT_HEARD : p->gone ? ENDED : HANGS;
}

/* "rank 3 (gpu02, GPU 1, pid 77), rank 4 (...) and 5 more" of those who got so far; how many. */
static uint32_t name_missing(const struct conductor *k, int far, char *out, size_t size)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < k->cast.world; i++)
		if (k->cast.players[i].hello == NULL && how_far(&k->cast.players[i]) == far && n++ < 4)
			snprintf(out + strlen(out), size - strlen(out), "%s%s", n > 1 ? ", " : "", cast_name(&k->cast, i));
	if (n > 4)
		snprintf(out + strlen(out), size - strlen(out), " and %u more", n - 4);
	return n;
}

static bool all_have_come(struct conductor *k)
{
	static const char *const fixes[] = {
		"see what those processes say: nodectl logs",
		"CUDA does not start there: look at that GPU and its driver (nodectl gpus, dmesg on its node)",
		"see what those processes say: nodectl logs; dmesg on that node",
	};

	if (cast_assemble(&k->cast, k->o->come_timeout_ms))
		return true;
	if (k->cast.ended && k->cast.n_gone == 0) {
		report_problem("it was ended before all ranks had come", NULL);
		return false;
	}
	for (int far = ENDED; far >= NOT_HEARD; far--) {
		char list[800] = "", text[1000];
		uint32_t n = name_missing(k, far, list, sizeof list);

		if (n == 0 || (far != ENDED && k->cast.n_gone > 0)) /* one has ended: the others were not waited for */
			continue;
		if (far == ENDED)
			snprintf(text, sizeof text, "%s %s ended while CUDA and NCCL were loaded", list, n > 1 ? "have" : "has");
		else if (far == HANGS)
			snprintf(text, sizeof text, "%s %s after %d s: CUDA is loaded and the GPU opened, without end", list,
				 n > 1 ? "hang" : "hangs", k->o->come_timeout_ms / 1000);
		else
			snprintf(text, sizeof text, "%s of %u did not come within %d s", list, k->cast.world, k->o->come_timeout_ms / 1000);
		report_problem(text, fixes[far]);
	}
	return false;
}

static bool lacks(const struct conductor *k, uint32_t i, const char *error)
{
	return strcmp(wire_str(k->cast.players[i].hello, "error"), error) == 0;
}

/* "node1" or "node1 and 63 more" that lack the same. */
static void report_lack(struct conductor *k, uint32_t first, const char *error)
{
	uint32_t more = 0, node = k->cast.players[first].node, last = node;
	char text[900];

	for (uint32_t i = first + 1; i < k->cast.world; i++) {
		more += lacks(k, i, error) && k->cast.players[i].node != last && k->cast.players[i].node != node;
		last = k->cast.players[i].node;
	}
	if (more > 0)
		snprintf(text, sizeof text, "%.64s and %u more: %.700s", k->cast.nodes[node], more, error);
	else
		snprintf(text, sizeof text, "%.64s: %.700s", k->cast.nodes[node], error);
	report_problem(text, NULL);
}

/* Ranks that lack something: no GPU, no library. Each lack is told once. */
static bool all_are_able(struct conductor *k)
{
	bool able = true;

	for (uint32_t i = 0; i < k->cast.world; i++) {
		const char *error = wire_str(k->cast.players[i].hello, "error");
		bool told = false;

		for (uint32_t b = 0; b < i && error[0] != '\0' && !told; b++)
			told = lacks(k, b, error);
		if (error[0] == '\0')
			continue;
		able = false;
		if (!told)
			report_lack(k, i, error);
	}
	return able;
}

/* The first rank whose member differs from rank 0's. */
static const char *first_other(const struct cast *c, const char *key, uint32_t *ret_rank)
{
	for (uint32_t i = 1; i < c->world; i++) {
		const cJSON *a = c->players[0].hello, *b = c->players[i].hello;

		if (wire_num(a, key) != wire_num(b, key) || strcmp(wire_str(a, key), wire_str(b, key)) != 0) {
			*ret_rank = i;
			return c->nodes[c->players[i].node];
		}
	}
	return NULL;
}

/* NCCL refuses other versions, or hangs; other drivers and GPUs are worth a word. */
static bool all_are_equal(struct conductor *k)
{
	struct cast *c = &k->cast;
	char text[400], a[24], b[24];
	const char *node;
	uint32_t i;

	if ((node = first_other(c, "driver", &i)) != NULL) {
		snprintf(text, sizeof text, "the NVIDIA driver is %.30s on %.64s, %.30s on %.64s",
			 wire_str(c->players[0].hello, "driver"), c->nodes[0], wire_str(c->players[i].hello, "driver"), node);
		report_warning(text, "install the same driver everywhere");
	}
	if ((node = first_other(c, "gpu", &i)) != NULL) {
		snprintf(text, sizeof text, "%.64s has %.60s, %.64s has %.60s", c->nodes[0],
			 wire_str(c->players[0].hello, "gpu"), node, wire_str(c->players[i].hello, "gpu"));
		report_warning(text, "results are those of the slowest");
	}
	if (first_other(c, "cuda", &i) != NULL)
		report_warning("the CUDA runtime is not the same on all nodes", "use the same environment on all nodes");
	node = first_other(c, "nccl", &i);
	if (node == NULL)
		return true;
	library_nccl_text((int)wire_num(c->players[0].hello, "nccl"), a);
	library_nccl_text((int)wire_num(c->players[i].hello, "nccl"), b);
	snprintf(text, sizeof text, "NCCL is %s on %.64s (%.80s), %s on %.64s (%.80s): it was not started", a, c->nodes[0],
		 wire_str(c->players[0].hello, "nccl_path"), b, node, wire_str(c->players[i].hello, "nccl_path"));
	report_problem(text, "use the same environment on all nodes");
	return false;
}

/* ---- teams ---------------------------------------------------------------------------- */

/* The ranks of some nodes as a team; false: fewer than two, or one of them hangs. */
static bool fill_team(struct conductor *k, struct team *t, uint32_t *room, const uint32_t *nodes, size_t n)
{
	*t = (struct team){ .ranks = room };
	for (size_t m = 0; m < n; m++)
		for (uint32_t i = 0; i < k->cast.world; i++) {
			if (k->cast.players[i].node != nodes[m])
				continue;
			if (!cast_is_able(&k->cast, i))
				return false;
			t->ranks[t->n++] = i;
		}
	return t->n > 1;
}

static void finish_teams(struct conductor *k, size_t n)
{
	teams_leave(&k->cast, k->teams, n, k->o->timeout_ms);
}

static void judge_data(struct conductor *k, const struct team *t)
{
	for (int op = 0; op < OP_N; op++)
		if (t->op[op].wrong > 0) {
			char text[300];

			snprintf(text, sizeof text, "%s gives wrong data: %zu number%s on %u of %u ranks, the first is element %zu of %s",
				 op_name((enum op)op), t->op[op].wrong, t->op[op].wrong > 1 ? "s" : "", t->op[op].wrong_ranks, t->n,
				 t->op[op].wrong_first, cast_name(&k->cast, t->op[op].wrong_rank));
			report_problem(text, "that GPU, its memory or a link corrupts data: take the node out (nodectl drain) "
					     "and run NVIDIA's diagnostics");
			worse(k, CHECK_BAD);
		}
}

static void report_team(struct conductor *k, const struct team *t, const char *scope, const char *node)
{
	report_results(&k->cast, t, scope, node);
	judge_data(k, t);
	if (!t->failed)
		return;
	report_failed(&k->cast, t, scope, node);
	worse(k, CHECK_BAD);
}

/* ---- inside of nodes -------------------------------------------------------------------- */

static int by_size(const void *x, const void *y)
{
	const double *a = x, *c = y;

	return *a < *c ? -1 : *a > *c;
}

/* Nodes with other GPUs, or another number of them, are not to be measured by each other. */
static bool alike(const struct conductor *k, const struct team *a, const struct team *b)
{
	return a->n == b->n && strcmp(wire_str(k->cast.players[a->ranks[0]].hello, "gpu"),
				      wire_str(k->cast.players[b->ranks[0]].hello, "gpu")) == 0;
}

/* What is usual among nodes like this one; 0: it is the only one. */
static double usual_inside(const struct conductor *k, const struct team *t, size_t n, double *sorted)
{
	size_t m = 0;

	for (size_t i = 0; i < n; i++)
		if (k->teams[i].op[OP_ALL_REDUCE].done && alike(k, t, &k->teams[i]))
			sorted[m++] = k->teams[i].op[OP_ALL_REDUCE].busbw;
	qsort(sorted, m, sizeof *sorted, by_size);
	return m > 1 ? BISECT_RATIO * sorted[m * 3 / 4] : 0;
}

/* What nodes reach: against what is expected, or else against each other. */
static void judge_insides(struct conductor *k, size_t n)
{
	double *sorted = calloc(n + 1, sizeof *sorted), usual = 0;
	const struct team *of = NULL;

	if (sorted == NULL)
		return;
	for (size_t i = 0; i < n; i++) {
		const struct team *t = &k->teams[i];

		if (of == NULL || !alike(k, of, t)) /* mostly all are alike */
			usual = k->o->floor_inside > 0 ? k->o->floor_inside : usual_inside(k, t, n, sorted);
		of = t;
		if (!t->op[OP_ALL_REDUCE].done || t->op[OP_ALL_REDUCE].busbw >= usual)
			continue;
		report_slow(k->cast.nodes[k->cast.players[t->ranks[0]].node], t->op[OP_ALL_REDUCE].busbw, usual,
			    k->o->floor_inside > 0 ? "at least expected" : "others like it at least");
		worse(k, CHECK_BAD);
	}
	free(sorted);
}

static void check_insides(struct conductor *k)
{
	uint32_t at = 0;
	size_t n = 0;

	for (uint32_t node = 0; node < k->cast.n_nodes; node++) {
		if (!fill_team(k, &k->teams[n], k->ranks + at, &node, 1))
			continue;
		at += k->teams[n++].n;
	}
	if (n == 0)
		return;
	teams_run(&k->cast, k->teams, n, k->o, k->o->ops);
	for (size_t i = 0; i < n; i++)
		report_team(k, &k->teams[i], "inside", k->cast.nodes[k->cast.players[k->teams[i].ranks[0]].node]);
	judge_insides(k, n);
	finish_teams(k, n);
}

/* ---- between nodes ---------------------------------------------------------------------- */

/* Node indices that can still take part. */
static size_t able_nodes(const struct conductor *k, uint32_t *nodes)
{
	size_t n = 0;

	for (uint32_t node = 0; node < k->cast.n_nodes; node++) {
		bool able = true;

		for (uint32_t i = 0; i < k->cast.world; i++)
			able = able && (k->cast.players[i].node != node || cast_is_able(&k->cast, i));
		if (able)
			nodes[n++] = node;
	}
	return n;
}

/* True: a search is worth while. */
static bool check_between(struct conductor *k, const uint32_t *nodes, size_t n)
{
	const struct team_op *r = &k->teams[0].op[OP_ALL_REDUCE];
	bool slow;

	if (n < 2 || !fill_team(k, &k->teams[0], k->ranks, nodes, n))
		return false;
	teams_run(&k->cast, k->teams, 1, k->o, k->o->ops);
	report_team(k, &k->teams[0], "between", NULL);
	slow = r->done && k->o->floor_between > 0 && r->busbw < k->o->floor_between;
	if (slow) {
		report_slow(NULL, r->busbw, k->o->floor_between, "between nodes at least expected");
		worse(k, CHECK_BAD);
	}
	slow = slow || k->teams[0].failed;
	finish_teams(k, 1);
	return slow;
}

/* One round of the search: groups of nodes side by side. */
static void run_round(struct conductor *k, struct bisect *b, const struct bisect_round *r, const uint32_t *nodes)
{
	size_t *group = calloc(r->n_groups + 1, sizeof *group), n = 0;
	uint32_t *members = calloc(k->cast.n_nodes, sizeof *members), at = 0;

	for (size_t g = 0; g < r->n_groups && group != NULL && members != NULL; g++) {
		for (uint32_t i = 0; i < r->groups[g].n; i++)
			members[i] = nodes[r->nodes[r->groups[g].at + i]];
		bisect_tell(b, g, -1);
		if (!fill_team(k, &k->teams[n], k->ranks + at, members, r->groups[g].n))
			continue; /* one of them hangs: as good as no speed */
		group[n] = g;
		at += k->teams[n++].n;
	}
	teams_run(&k->cast, k->teams, n, k->o, ALL_REDUCE);
	for (size_t i = 0; i < n && group != NULL; i++)
		if (!k->teams[i].failed && k->teams[i].op[OP_ALL_REDUCE].wrong == 0)
			bisect_tell(b, group[i], k->teams[i].op[OP_ALL_REDUCE].busbw);
	finish_teams(k, n);
	free(group);
	free(members);
}

static void search(struct conductor *k, const uint32_t *nodes, size_t n)
{
	struct bisect *b = bisect_create((uint32_t)n, 0);
	const struct bisect_finding *f;
	struct bisect_round r;
	size_t found;

	if (b == NULL)
		return;
	while (!k->cast.ended && (r = bisect_next(b)).n_groups > 0)
		run_round(k, b, &r, nodes);
	found = bisect_findings(b, &f);
	for (size_t i = 0; i < found; i++) {
		struct bisect_finding named = f[i];

		named.a = nodes[f[i].a];
		named.b = nodes[f[i].b];
		report_finding(&k->cast, &named, bisect_rounds(b));
		worse(k, CHECK_BAD);
	}
	if (found == 0) {
		char text[200];

		snprintf(text, sizeof text, "no pair and no group of these %zu nodes is slower than the others (%u rounds)", n,
			 bisect_rounds(b));
		report_note(text, n < 4 ? "one of few nodes cannot be told from the others: check together with more" : NULL);
	}
	bisect_destroy(b);
}

/* One GPU has nobody to speak with. */
static bool has_pairs(struct conductor *k)
{
	if (k->cast.world > 1)
		return true;
	report_problem("there is one GPU only, and NCCL's operations need two: nothing was checked",
		       "check on more GPUs of the node (-G), or on more nodes (-N)");
	return false;
}

static void check_all(struct conductor *k)
{
	uint32_t *nodes = calloc(k->cast.n_nodes, sizeof *nodes);
	size_t n;
	bool slow;

	if (nodes == NULL)
		return;
	check_insides(k);
	n = able_nodes(k, nodes);
	if (n < k->cast.n_nodes && k->cast.n_nodes > 1)
		report_warning("nodes that hang are left out of what follows", NULL);
	slow = !k->cast.ended && check_between(k, nodes, n);
	n = able_nodes(k, nodes);
	if ((slow || k->o->bisect) && n > 2 && !k->cast.ended)
		search(k, nodes, n);
	free(nodes);
}

static void dismiss(struct conductor *k)
{
	for (uint32_t i = 0; i < k->cast.world; i++) {
		struct buf b;
		struct jw w;

		buf_init(&b);
		wire_begin(&w, &b, "quit");
		jw_key(&w, "code");
		jw_int(&w, k->code);
		jw_end_obj(&w);
		cast_ask(&k->cast, i, 0, &b);
	}
}

int conduct(const struct check_options *o, const struct check_rank *me, int listener)
{
	struct conductor k = { .o = o };
	double since = seconds();

	if (cast_init(&k.cast, me->world, me->job, listener) < 0 ||
	    (k.ranks = calloc(me->world, sizeof *k.ranks)) == NULL ||
	    (k.teams = calloc(me->world, sizeof *k.teams)) == NULL) {
		report_problem("no memory", NULL);
		return CHECK_UNABLE;
	}
	stage = &k.cast;
	signal(SIGTERM, on_term);
	signal(SIGINT, on_term);
	if (!all_have_come(&k) || !all_are_able(&k) || !all_are_equal(&k) || !has_pairs(&k)) {
		worse(&k, CHECK_UNABLE);
	} else {
		report_env(&k.cast);
		check_all(&k);
	}
	if (k.cast.ended)
		worse(&k, CHECK_BAD);
	report_end(k.code == CHECK_GOOD, seconds() - since, k.cast.ended ? "ended from outside" : NULL);
	dismiss(&k);
	cast_finish(&k.cast);
	free(k.ranks);
	free(k.teams);
	return k.code;
}
