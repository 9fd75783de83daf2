/* coord_place.c - which nodes a job gets, and which of their GPUs
 *
 * GPUs are given exclusively: as many of each node as asked for, by default all
 * of them. Who asks for none, or finds a node that has none, shares the node.
 * Taken are the nodes with the fewest free GPUs that suffice (whole nodes stay
 * whole), then those with the fewest jobs, ties in natural order of names; with
 * a host list, the first ones of the list that can be used. Node rank 0 is the
 * first node of the host list, or the first by name.
 *
 * A job on several nodes comes first to those whose InfiniBand or RoCE ports are
 * well. With --net ib it waits for these while others have none, if the cluster
 * has enough; if not, a new one is refused when its places are looked at
 * (coord_net.c), and one that was accepted waits until ports are mended.
 *
 * Who waits for GPUs keeps its nodes from later jobs, but for those that surely
 * end before it could start: see coord_queue.c.
 */
#include "core/coord_internal.h"
#include "core/nccl_ports.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN_MAX 4 /* nodes of which it is told why they cannot be used */
#define AWAY_MS 30000

enum fit {
	FIT_NEVER, /* it has not that many GPUs */
	FIT_AWAY, /* not reachable, cordoned, full, or its GPUs are not known */
	FIT_BUSY, /* its GPUs are in use */
	FIT_BEHIND, /* an earlier job waits for them, and this one might still run by then */
	FIT_NOW,
};

struct candidate {
	struct node *node;
	enum fit fit;
	uint64_t free; /* its free GPUs */
	uint32_t want; /* of them */
	bool last; /* it has no GPUs, and others have: only if they do not suffice */
	uint8_t ports; /* enum ports_are, the lower the better; 0 where the job does not mind */
	bool portless; /* it is away for that */
	bool barred; /* an attempt of the job has failed there: the same */
	size_t order; /* as if the job had never run */
};

/* The nodes a job may use at all, in the order of preference. */
struct choice {
	struct candidate *v;
	size_t n;
	bool listed;
	bool excluding;
};

static uint32_t count(uint64_t mask)
{
	return (uint32_t)__builtin_popcountll(mask);
}

/* ---- one node ------------------------------------------------------------------ */

/* Those it keeps since an earlier attempt, or as a spare, are as good as free. */
static uint64_t free_for(struct coord *c, const struct job *j, struct node *n)
{
	const struct place *own = job_kept_at(j, n);
	uint64_t mask, mine = own != NULL ? own->gpus & n->gpus_held : 0;

	n->gpus_held &= ~mine;
	mask = node_gpus_free(c, n, j->busy_gpus);
	n->gpus_held |= mine;
	return mask;
}

static void judge(struct coord *c, const struct job *j, struct candidate *x)
{
	enum gpu_truth truth = node_gpu_truth(x->node);
	bool none = !j->all_gpus && j->gpus == 0;
	uint32_t has = count(node_gpus(x->node));

	x->free = free_for(c, j, x->node);
	x->barred = restart_barred(j, x->node);
	x->want = j->all_gpus ? has : j->gpus;
	x->fit = FIT_NOW;
	if (!node_usable(x->node) || node_cordoned(x->node) || (truth == GPU_UNKNOWN && !none))
		x->fit = FIT_AWAY;
	else if (x->want > has)
		x->fit = FIT_NEVER;
	else if (x->want > count(x->free) || (x->want > 0 && x->node->n_stale > 0))
		x->fit = FIT_BUSY;
	else if (x->want > 0 && mono_before(x->node->kept_from, job_would_end(c, j)))
		x->fit = FIT_BEHIND;
	if (x->fit > FIT_AWAY && !specs_reach(c, j, x->node))
		x->fit = FIT_AWAY;
}

static int by_load(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	uint32_t fx = x->want > 0 ? count(x->free) : 0, fy = y->want > 0 ? count(y->free) : 0;

	if (x->last != y->last)
		return x->last ? 1 : -1;
	if (x->ports != y->ports)
		return x->ports < y->ports ? -1 : 1;
	if (fx != fy)
		return fx < fy ? -1 : 1;
	if (x->node->jobs != y->node->jobs)
		return x->node->jobs < y->node->jobs ? -1 : 1;
	return node_name_cmp(x->node->name, y->node->name);
}

static int by_name(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return node_name_cmp(x->node->name, y->node->name);
}

/* Where others will do. */
static int by_past(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->barred != y->barred)
		return x->barred ? 1 : -1;
	return x->order < y->order ? -1 : 1;
}

static int by_order(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->order < y->order ? -1 : 1;
}

/* ---- the candidates -------------------------------------------------------------- */

static void add(struct choice *ch, const struct hostlist *x, struct node *n)
{
	if (x->count == 0 || !hostlist_has(x, n->name))
		ch->v[ch->n++].node = n;
	else
		ch->excluding = true;
}

/* Of a job that was accepted: a node that it names may have left the cluster since. */
static int choose_listed(struct coord *c, const struct job *j, const struct hostlist *hosts, const struct hostlist *x,
			 struct choice *ret, struct err *e)
{
	ret->listed = true;
	ret->v = calloc(hosts->count, sizeof(*ret->v));
	if (ret->v == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < hosts->count; i++) {
		struct node *n = node_find(c, hosts->names[i]);

		if (n == NULL && j->stored)
			continue;
		if (n == NULL)
			return err_set(e, EINVAL,
				       "no node named %s in the cluster %s; 'nodectl nodes' lists them",
				       hosts->names[i], c->cluster);
		add(ret, x, n);
	}
	return 0;
}

static int choose_any(struct coord *c, const struct hostlist *x, struct choice *ret)
{
	ret->v = calloc(c->n_nodes + 1, sizeof(*ret->v));
	if (ret->v == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < c->n_nodes; i++)
		add(ret, x, c->nodes[i]);
	return 0;
}

/* Of a new job: later a node that it excludes may leave the cluster. */
static int check_excluded(struct coord *c, const struct hostlist *x, struct err *e)
{
	for (size_t i = 0; i < x->count; i++)
		if (node_find(c, x->names[i]) == NULL)
			return err_set(e, EINVAL,
				       "no node named %s, which is to be left out (-x), in the cluster %s; "
				       "'nodectl nodes' lists them",
				       x->names[i], c->cluster);
	return 0;
}

/* With spares, which later attempts do without. */
static uint32_t need(const struct job *j)
{
	return j->nnodes + (j->n_past == 0 ? j->want_spares : 0);
}

/* By default a job wants GPUs: nodes that have none are not for it where enough
 * others have some, free or not. */
static void prefer_gpus(const struct job *j, struct choice *ch)
{
	uint32_t with = 0, wanted = j->nnodes != 0 ? need(j) : 1;

	for (size_t i = 0; i < ch->n; i++)
		with += ch->v[i].want > 0 && ch->v[i].fit >= FIT_AWAY;
	for (size_t i = 0; i < ch->n && with > 0; i++) {
		ch->v[i].last = ch->v[i].want == 0;
		if (ch->v[i].last && with >= wanted && ch->v[i].fit == FIT_NOW)
			ch->v[i].fit = FIT_NEVER;
	}
}

static void prefer_ports(const struct job *j, struct choice *ch)
{
	size_t good = 0;

	for (size_t i = 0; i < ch->n; i++) {
		ch->v[i].ports = net_node_good(ch->v[i].node) ? ch->v[i].node->ports_are : PORTS_NONE_GOOD;
		good += net_node_good(ch->v[i].node) && ch->v[i].fit >= FIT_AWAY;
	}
	if (!net_wants_ib(j) || (good < (j->nnodes != 0 ? need(j) : ch->n) && !j->stored))
		return;
	for (size_t i = 0; i < ch->n; i++)
		if (!net_node_good(ch->v[i].node) && ch->v[i].fit > FIT_AWAY) {
			ch->v[i].fit = FIT_AWAY;
			ch->v[i].portless = true;
		}
}

/* Of a job that starts again: first what it has kept, last where it failed; and
 * there not at all when others will do. */
static void leave_out(const struct job *j, struct choice *ch)
{
	size_t others = 0;

	for (size_t i = 0; i < ch->n; i++) {
		ch->v[i].order = i + (job_kept_at(j, ch->v[i].node) != NULL ? 0 : ch->n);
		others += !ch->v[i].barred && ch->v[i].fit >= FIT_BUSY;
	}
	for (size_t i = 0; i < ch->n && others >= j->nnodes; i++)
		if (ch->v[i].barred)
			ch->v[i].fit = FIT_NEVER;
	qsort(ch->v, ch->n, sizeof(*ch->v), by_past);
	for (size_t i = 0; i < ch->n; i++)
		ch->v[i].order %= ch->n;
}

/* The candidates of a job, each judged. */
static int choose(struct coord *c, const struct job *j, struct choice *ret, struct err *e)
{
	struct hostlist hosts = { 0 }, x = { 0 };
	int r = 0;

	if (j->hosts != NULL)
		r = hostlist_parse(j->hosts, &hosts, e);
	if (r == 0 && j->exclude != NULL)
		r = hostlist_parse(j->exclude, &x, e);
	if (r == 0 && !j->stored)
		r = check_excluded(c, &x, e);
	if (r == 0)
		r = hosts.count > 0 ? choose_listed(c, j, &hosts, &x, ret, e) : choose_any(c, &x, ret);
	for (size_t i = 0; r == 0 && i < ret->n; i++)
		judge(c, j, &ret->v[i]);
	if (r == 0 && j->all_gpus && !ret->listed)
		prefer_gpus(j, ret);
	if (r == 0 && net_minds_ports(j))
		prefer_ports(j, ret);
	if (r == 0 && !ret->listed)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_load);
	if (r == 0 && j->n_past > 0)
		leave_out(j, ret);
	hostlist_finish(&hosts);
	hostlist_finish(&x);
	return r;
}

static size_t count_fit(const struct choice *ch, enum fit at_least)
{
	size_t n = 0;

	for (size_t i = 0; i < ch->n; i++)
		n += ch->v[i].fit >= at_least;
	return n;
}

/* ---- what a job waits for ---------------------------------------------------------- */

/* "since 3 h", "(just started)": coarse, so that the sentence does not change all the time. */
static void since(char out[24], int64_t ms)
{
	int64_t min = ms / 60000;

	if (min < 1)
		snprintf(out, 24, "(just started)");
	else if (min < 60)
		snprintf(out, 24, "since %lld min", (long long)min);
	else
		snprintf(out, 24, "since %lld h", (long long)(min / 60));
}

static const struct job *holder(struct coord *c, const struct node *n)
{
	uint32_t at;

	list_foreach(e, &c->jobs) {
		struct job *j = list_entry(e, struct job, all);
		const struct place *p = j->saved ? NULL : job_place_of(j, n, &at);

		if (p != NULL && p->gpus != 0)
			return j;
		p = j->saved ? NULL : job_kept_at(j, n);
		if (p != NULL && p->gpus != 0)
			return j;
	}
	return NULL;
}

static bool procs_unknown(const struct node *n)
{
	const struct rec_readings *r = node_readings(n);

	for (size_t i = 0; r != NULL && i < r->n_gpus; i++)
		if (r->gpus[i].procs_unknown && r->gpus[i].text == NULL)
			return true;
	return false;
}

/* "gpu03 gets no new jobs: it is drained by root: new NIC" */
static size_t why_cordoned(const struct node *n, char *out, size_t size)
{
	const char *why;
	struct arena a;
	int len;

	arena_init(&a);
	why = node_cordon_text(&a, n);
	len = snprintf(out, size, "%s gets no new jobs: %.200s", n->name, why != NULL ? why : "it is cordoned");
	arena_finish(&a);
	return (size_t)len;
}

/* "gpu03 has no Active port (mlx5_0 Initializing)" */
static size_t why_portless(const struct node *n, char *out, size_t size)
{
	struct node_ports p;
	struct arena a;
	const char *ill;
	int len;

	arena_init(&a);
	if (!ports_look(&a, node_readings(n), &p))
		len = snprintf(out, size, "%s has no Active port", n->name);
	else if (!p.known)
		len = snprintf(out, size, "the ports of %s are not known (%.80s)", n->name, p.unknown_why);
	else if ((ill = ports_ill(&a, &p, NULL)) != NULL)
		len = snprintf(out, size, "%s has no Active port (%.100s)", n->name, ill);
	else
		len = snprintf(out, size, "%s has no Active port", n->name);
	arena_finish(&a);
	return (size_t)len;
}

static size_t why_not(struct coord *c, const struct candidate *x, char *out, size_t size)
{
	bool left = x->fit == FIT_BUSY && count(x->free | (x->node->gpus_left & node_gpus(x->node))) >= x->want;
	const struct job *h = x->fit == FIT_BUSY && !left ? holder(c, x->node) : NULL;
	const char *name = x->node->name;
	char age[24];

	if (node_usable(x->node) && x->fit == FIT_AWAY && node_cordoned(x->node))
		return why_cordoned(x->node, out, size);
	if (x->portless)
		return why_portless(x->node, out, size);
	if (h != NULL) {
		since(age, h->start_wall_ms != 0 ? c->wall_ms - h->start_wall_ms : 0);
		return (size_t)snprintf(out, size, "%s runs job %llu of %.32s %s", name,
					(unsigned long long)h->id, h->user, age);
	}
	if (x->fit == FIT_BUSY && x->node->n_stale > 0)
		return (size_t)snprintf(out, size, "%s has not ended job %llu yet", name,
					(unsigned long long)x->node->stale[0].job);
	if (left)
		return (size_t)snprintf(out, size, "%s of %s %s since job %llu has ended",
					x->node->gpus_kept != 0 ? "GPUs" : "the memory of GPUs", name,
					x->node->gpus_kept != 0 ? "are not released" : "is not back",
					(unsigned long long)clean_left_by(x->node));
	if (x->fit == FIT_BUSY && count(node_gpus_free(c, x->node, true)) < x->want)
		return (size_t)snprintf(out, size, "jobs on other nodes of its host hold GPUs of %s", name);
	if (x->fit == FIT_BUSY)
		return (size_t)snprintf(out, size, "GPUs of %s are used by processes of no job%s", name,
					procs_unknown(x->node) ? ", or it is not known by which" : "");
	if (x->fit == FIT_BEHIND)
		return (size_t)snprintf(out, size, "an earlier job waits for %s%s", name,
					c->now.ns < x->node->kept_from.ns ? " and may start before this one ends" : "");
	if (!node_usable(x->node))
		return (size_t)snprintf(out, size, "%s is %s", name,
					x->node->jobs >= NODE_JOBS_MAX ? "full" : node_state(x->node));
	if (x->fit == FIT_NEVER && x->barred)
		return (size_t)snprintf(out, size, "%s is left out: an attempt failed there", name);
	if (x->fit == FIT_NEVER)
		return (size_t)snprintf(out, size, "%s shows %u GPU%s", name, count(node_gpus(x->node)),
					count(node_gpus(x->node)) == 1 ? "" : "s");
	return (size_t)snprintf(out, size, "the GPUs of %s are not known%s%.150s", name,
				x->node->awaits_first ? " yet" : ": ",
				x->node->awaits_first ? "" : node_gpus_why(x->node));
}

static void describe(const struct job *j, const struct choice *ch, char out[64])
{
	uint32_t most = j->gpus;

	for (size_t i = 0; j->all_gpus && i < ch->n; i++)
		most = ch->v[i].want > most ? ch->v[i].want : most;
	snprintf(out, 64, "%u node%s", need(j), need(j) == 1 ? "" : "s");
	if (most > 0)
		snprintf(out + strlen(out), 64 - strlen(out), " with %u free GPU%s", most,
			 most == 1 ? "" : "s");
	if (net_wants_ib(j))
		snprintf(out + strlen(out), 64 - strlen(out), "%s an Active port", most > 0 ? " and" : " with");
}

/* The first ones by name: the order in which they would be taken changes from moment to moment. */
static size_t first_by_name(const struct choice *ch, enum fit fit, const struct candidate *ret[SHOWN_MAX], size_t *ret_all)
{
	size_t n = 0;

	for (size_t i = 0; i < ch->n; i++) {
		size_t at = n;

		if (ch->v[i].fit != fit)
			continue;
		(*ret_all)++;
		while (at > 0 && strcmp(ch->v[i].node->name, ret[at - 1]->node->name) < 0)
			at--;
		if (at == SHOWN_MAX)
			continue;
		n += n < SHOWN_MAX;
		memmove(&ret[at + 1], &ret[at], (n - 1 - at) * sizeof(*ret));
		ret[at] = &ch->v[i];
	}
	return n;
}

/* "waiting for 2 nodes with 8 free GPUs: gpu03 runs job 12 of li since 3 h; ..." */
static void say_waiting(struct coord *c, struct job *j, const struct choice *ch)
{
	static const enum fit first_things_first[] = { FIT_BUSY, FIT_BEHIND, FIT_AWAY, FIT_NEVER };
	/* what it never fits on is worth saying when only that is left */
	size_t kinds = count_fit(ch, FIT_AWAY) >= need(j) ? 3 : 4;
	char list[700] = "", what[64];
	size_t len = 0, shown = 0, missing = 0;

	for (size_t k = 0; k < kinds; k++) {
		const struct candidate *v[SHOWN_MAX];
		size_t n = first_by_name(ch, first_things_first[k], v, &missing);

		for (size_t i = 0; i < n && shown < SHOWN_MAX && len <= 300; i++) {
			if (shown++ > 0)
				len += (size_t)snprintf(list + len, sizeof(list) - len, "; ");
			len += why_not(c, v[i], list + len, sizeof(list) - len);
		}
	}
	if (missing > shown)
		len += (size_t)snprintf(list + len, sizeof(list) - len, " and %zu more", missing - shown);
	if (need(j) > ch->n)
		snprintf(list + len, sizeof(list) - len, "%sothers that it may use have left the cluster",
			 missing > 0 ? "; " : "");
	describe(j, ch, what);
	coord_set_text(c, &j->why, "%s %s%s, %zu of %zu can be used: %s",
		       j->immediate ? "not now:" : "waiting for", what,
		       j->immediate ? " asked for" : "", count_fit(ch, FIT_NOW), ch->n, list);
}

/* ---- taking -------------------------------------------------------------------------- */

static void give_back(struct place *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		v[i].node->jobs--;
		place_release(&v[i]);
	}
	places_free(v, n);
}

/* Virtual nodes of one host hear at different moments that indices have shifted:
 * both may count the same GPU as free, so each is looked at again when those
 * before it have theirs. False: not enough are left. */
static bool take_node(struct coord *c, struct job *j, struct place *p, const struct candidate *x)
{
	uint64_t free = free_for(c, j, x->node);

	if (count(free) < x->want)
		return false;
	p->node = x->node;
	p->phase = PL_ASSIGNED;
	snprintf(p->boot_id, sizeof(p->boot_id), "%s", x->node->boot_id);
	if (place_take_gpus(c, p, free, x->want) < 0)
		c->oom = true;
	p->node->jobs++;
	return true;
}

static void hold_kept(struct job *j, bool hold)
{
	for (size_t i = 0; i < j->n_kept; i++) {
		j->kept[i].node->jobs += hold ? 1 : -1u;
		if (hold)
			place_hold(&j->kept[i]);
		else
			place_release(&j->kept[i]);
	}
}

/* Beside the places: those of the first attempt, and later what is there. */
static void take_spares(struct coord *c, struct job *j, const struct choice *ch, size_t n)
{
	struct place *v = calloc(j->want_spares + 1, sizeof(*v));

	if (v == NULL) {
		c->oom = true;
		return;
	}
	places_free(j->kept, j->n_kept);
	j->kept = v;
	j->n_kept = 0;
	for (size_t i = j->nnodes; i < n && j->n_kept < j->want_spares; i++)
		if (ch->v[i].fit == FIT_NOW && !ch->v[i].barred && take_node(c, j, &v[j->n_kept], &ch->v[i]))
			j->n_kept++;
}

static void say_again(struct coord *c, struct job *j, const struct choice *ch)
{
	for (uint32_t i = 0; i < j->nnodes; i++)
		if (ch->v[i].barred)
			job_notice(c, j, "attempt %u uses node %s again, where an earlier one failed: no other node "
				   "will do", j->attempt, ch->v[i].node->name);
}

/* 1, 0: not now, or -ENOMEM. 'n' of the candidates are there for it. */
static int take_nodes(struct coord *c, struct job *j, const struct choice *ch, size_t n)
{
	struct place *p = calloc(j->nnodes, sizeof(*p)), *old;
	size_t n_old;

	hold_kept(j, false);
	for (uint32_t i = 0; p != NULL && i < j->nnodes; i++) {
		if (take_node(c, j, &p[i], &ch->v[i]))
			continue;
		coord_set_text(c, &j->why, "waiting for %s: GPUs of its host have just come or gone, and not all "
			       "virtual nodes there have noticed", ch->v[i].node->name);
		give_back(p, i);
		hold_kept(j, true);
		return 0;
	}
	if (p == NULL || job_alloc_ranks(j) < 0) {
		give_back(p, p != NULL ? j->nnodes : 0);
		hold_kept(j, true);
		c->oom = true;
		return -ENOMEM;
	}
	old = j->places;
	n_old = j->n_places;
	j->places = p;
	j->n_places = j->nnodes;
	peers_moved(c, j, old, n_old);
	places_free(old, n_old);
	j->attempt++;
	net_forget(c, j);
	c->know_holds = false;
	j->between = false;
	j->start_wall_ms = 0;
	j->ran_ms = 0;
	j->lease_ms = c->conf.lease_ms;
	if (j->want_spares > 0 || j->n_kept > 0)
		take_spares(c, j, ch, n);
	say_again(c, j, ch);
	return 1;
}

static const char *less_excluded(const struct choice *ch)
{
	return ch->excluding ? " less the excluded ones" : "";
}

static int too_few(const struct job *j, const struct choice *ch, size_t possible, struct err *e)
{
	const char *where = ch->listed ? "the host list" : "this cluster";
	const char *less = less_excluded(ch);

	if (j->want_spares > 0 && need(j) > ch->n)
		return err_set(e, EINVAL, "%u node%s and %u spare%s were asked for, but %s%s has %zu", j->nnodes,
			       j->nnodes == 1 ? "" : "s", j->want_spares, j->want_spares == 1 ? "" : "s", where,
			       less, ch->n);
	if (j->nnodes > ch->n)
		return err_set(e, EINVAL, "%u node%s asked for, but %s%s has %zu", j->nnodes,
			       j->nnodes == 1 ? " was" : "s were", where, less, ch->n);
	return err_set(e, EINVAL,
		       "%u node%s with %u GPU%s%s asked for, but %s%s has %zu of that size "
		       "('nodectl gpus' lists them)",
		       j->nnodes, j->nnodes == 1 ? "" : "s", j->gpus, j->gpus == 1 ? "" : "s",
		       j->nnodes == 1 ? " was" : " each were", where, less, possible);
}

static int by_time(const void *a, const void *b)
{
	const mono_t *x = a, *y = b;

	return mono_before(*x, *y) ? -1 : mono_before(*y, *x);
}

/* As far as is known now: where another one waits as well, not before that one. */
static mono_t can_have(struct coord *c, const struct candidate *x)
{
	mono_t at = node_free_at(c, x->node, x->free, x->want);

	if (x->want > 0 && !mono_is_never(x->node->kept_from) && mono_before(at, x->node->kept_from))
		return x->node->kept_from;
	return at;
}

/* When it can start at the latest, if nobody else takes what it waits for;
 * MONO_NEVER: nobody knows. */
static mono_t can_start(struct coord *c, const struct job *j, const struct choice *ch)
{
	mono_t *v = malloc((ch->n + 1) * sizeof(*v)), at = MONO_NEVER;
	size_t n = 0;

	for (size_t i = 0; v != NULL && i < ch->n; i++)
		if (ch->v[i].fit >= FIT_BUSY)
			v[n++] = can_have(c, &ch->v[i]);
	if (n > 0 && n >= need(j)) {
		qsort(v, n, sizeof(*v), by_time);
		at = v[need(j) - 1];
	}
	free(v);
	return at;
}

/* Does it stand first in line for all nodes it could use? */
static bool is_first(const struct choice *ch)
{
	for (size_t i = 0; i < ch->n; i++)
		if (ch->v[i].fit >= FIT_BUSY && !mono_is_never(ch->v[i].node->kept_from))
			return false;
	return true;
}

/* Its agent or we were restarted, or a connection broke: most likely it is back long before
 * a later job that got in now would be over. How many GPUs it has is then what it had. */
static bool soon_back(struct coord *c, const struct job *j, const struct candidate *x)
{
	const struct node *n = x->node;
	mono_t until = mono_add_ms(n->heard, AWAY_MS < c->conf.node_lost_ms ? AWAY_MS : c->conf.node_lost_ms);

	if (n->removed || n->quarantined || node_cordoned(n) || n->boot_id[0] == '\0')
		return false;
	if (n->link != NULL && !n->silent)
		return n->awaits_first && node_gpu_truth(n) == GPU_UNKNOWN;
	if (mono_due(until, c->now) || (n->ever && !j->all_gpus && j->gpus > count(n->gpus_all)))
		return false;
	coord_wake_at(c, until);
	x->node->away_until = until;
	return true;
}

/* Who waits for GPUs keeps the nodes it could use from later jobs that might
 * still run when it could start; but not when it could not run even if all of
 * them were free. */
static void reserve(struct coord *c, struct job *j, struct choice *ch)
{
	size_t could = count_fit(ch, FIT_BUSY);
	mono_t at;

	for (size_t i = 0; could < need(j) && i < ch->n; i++)
		could += ch->v[i].fit == FIT_AWAY && soon_back(c, j, &ch->v[i]);
	if (could < need(j))
		return;
	at = can_start(c, j, ch);
	j->start_by = is_first(ch) ? at : MONO_NEVER;
	for (size_t i = 0; i < ch->n; i++)
		if (ch->v[i].want > 0 && ch->v[i].fit >= FIT_BUSY)
			ch->v[i].node->kept_from = mono_min(ch->v[i].node->kept_from,
							    mono_is_never(at) ? c->now : at);
}

static int place_from(struct coord *c, struct job *j, struct choice *ch, struct err *e)
{
	size_t possible = count_fit(ch, FIT_AWAY), n = 0;
	int r;

	/* What was accepted is not refused because of what one reading says. */
	if (need(j) > possible && !j->stored)
		return too_few(j, ch, possible, e);
	if (count_fit(ch, FIT_NOW) < need(j)) {
		say_waiting(c, j, ch);
		if (!j->immediate || j->stored)
			reserve(c, j, ch);
		return 0;
	}
	for (size_t i = 0; i < ch->n && n < j->nnodes + j->want_spares; i++)
		if (ch->v[i].fit == FIT_NOW)
			ch->v[n++] = ch->v[i];
	if (!ch->listed)
		qsort(ch->v, j->nnodes, sizeof(*ch->v), by_name);
	else if (j->n_past > 0)
		qsort(ch->v, j->nnodes, sizeof(*ch->v), by_order);
	r = take_nodes(c, j, ch, n);
	if (r == 0 && (!j->immediate || j->stored)) {
		ch->n = n;
		reserve(c, j, ch);
	}
	return r;
}

static int check_size(const struct job *j, const struct choice *ch, struct err *e)
{
	if (j->nnodes == 0 && j->want_spares > 0)
		return err_set(e, EINVAL, "the host list%s has %zu node%s, and %u spare%s leave none to run on",
			       less_excluded(ch), ch->n, ch->n == 1 ? "" : "s", j->want_spares,
			       j->want_spares == 1 ? "" : "s");
	if (j->nnodes == 0)
		return err_set(e, EINVAL, "the host list%s is empty", less_excluded(ch));
	if ((uint64_t)j->nnodes * j->ppn > JOB_RANKS_MAX)
		return err_set(e, EINVAL, "%u nodes x %u processes are more than the %u one job may have",
			       j->nnodes, j->ppn, JOB_RANKS_MAX);
	if (j->nnodes > JOB_NODES_MAX)
		return err_set(e, EINVAL, "%u nodes are more than the %u one job may have", j->nnodes,
			       JOB_NODES_MAX);
	return 0;
}

int place_job(struct coord *c, struct job *j, struct err *e)
{
	struct choice ch = { 0 };
	int r;

	j->start_by = MONO_NEVER;
	r = choose(c, j, &ch, e);
	if (r == 0 && j->nnodes == 0)
		j->nnodes = !ch.listed ? 1 : ch.n > j->want_spares ? (uint32_t)ch.n - j->want_spares : 0;
	if (r == 0)
		r = check_size(j, &ch, e);
	if (r == 0)
		r = place_from(c, j, &ch, e);
	free(ch.v);
	if (r == -ENOMEM) /* no answer: it must neither end an acknowledged job nor refuse a good one */
		c->oom = true;
	return r == -E2BIG ? -EINVAL : r;
}

/* Its turn has not come for another reason (it is not on disk yet), but those
 * behind it do not overtake it. */
void place_reserve(struct coord *c, struct job *j)
{
	struct choice ch = { 0 };
	struct err e = { 0 };
	int r = choose(c, j, &ch, &e);

	if (r == 0)
		reserve(c, j, &ch);
	else if (r == -ENOMEM)
		c->oom = true;
	free(ch.v);
}
