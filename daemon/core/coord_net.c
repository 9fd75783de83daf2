/* coord_net.c - NCCL's network for a job: which settings its ranks get
 *
 * Chosen when all else is ready, with the readings of that moment, anew for
 * each attempt (nccl_net.c chooses). It is kept with the job and stored with its
 * row, so that 'start' says the same to all nodes, also when it is said again by
 * a coordinator that was restarted. Only if its row was not written in time that
 * one chooses anew; NCCL_NET=IB of a --net ib is said in any case.
 *
 * A plan is the same for a job that nobody has submitted: it is placed, looked at
 * and taken back within one step.
 */
#include "core/coord_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/nccl_ports.h"

struct job_net {
	struct arena arena;
	struct rec_net_plan plan; /* all of it in the arena */
	struct hostlist *lists; /* of plan.sets, taken apart when nodes are told; NULL: not yet */
};

/* ---- kept with the job ----------------------------------------------------------- */

void net_free(struct job *j)
{
	if (j->net == NULL)
		return;
	for (size_t i = 0; j->net->lists != NULL && i < j->net->plan.n_sets; i++)
		hostlist_finish(&j->net->lists[i]);
	free(j->net->lists);
	arena_finish(&j->net->arena);
	free(j->net);
	j->net = NULL;
}

static const char *copy_text(struct coord *c, struct arena *a, const char *s)
{
	char *copy = s != NULL ? arena_strdup(a, s) : NULL;

	if (s != NULL && copy == NULL)
		c->oom = true;
	return copy;
}

static void copy_sets(struct coord *c, struct arena *a, const struct rec_net_plan *from, struct rec_net_plan *to)
{
	to->sets = arena_alloc(a, from->n_sets * sizeof(*to->sets) + 1);
	if (to->sets == NULL) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < from->n_sets; i++) {
		struct rec_net_set *s = &to->sets[i];

		*s = from->sets[i];
		s->name = copy_text(c, a, s->name);
		s->value = copy_text(c, a, s->value);
		s->why = copy_text(c, a, s->why);
		s->nodes = copy_text(c, a, s->nodes);
	}
	to->n_sets = from->n_sets;
}

static void copy_plan(struct coord *c, struct arena *a, const struct rec_net_plan *from, struct rec_net_plan *to)
{
	memset(to, 0, sizeof(*to));
	to->asked = copy_text(c, a, from->asked);
	to->text = copy_text(c, a, from->text);
	to->yours = arena_alloc(a, from->n_yours * sizeof(*to->yours) + 1);
	if (to->yours == NULL)
		c->oom = true;
	for (size_t i = 0; to->yours != NULL && i < from->n_yours; i++)
		to->yours[to->n_yours++] = copy_text(c, a, from->yours[i]);
	copy_sets(c, a, from, to);
}

/* In place of what was kept; 'from' may be a part of that. */
static void keep(struct coord *c, struct job *j, const struct rec_net_plan *from)
{
	struct job_net *n = calloc(1, sizeof(*n));

	if (n == NULL) {
		c->oom = true;
		return;
	}
	arena_init(&n->arena);
	copy_plan(c, &n->arena, from, &n->plan);
	net_free(j);
	j->net = n;
}

void net_asked(struct coord *c, struct job *j, const char *asked, const char *const *yours, size_t n_yours)
{
	struct rec_net_plan p = { .asked = asked, .yours = (const char **)yours, .n_yours = n_yours };

	if (asked != NULL || n_yours > 0)
		keep(c, j, &p);
}

void net_forget(struct coord *c, struct job *j)
{
	if (j->net != NULL && j->net->plan.text != NULL)
		keep(c, j, &(struct rec_net_plan){ .asked = j->net->plan.asked, .yours = j->net->plan.yours,
						   .n_yours = j->net->plan.n_yours });
}

void net_load(struct coord *c, struct job *j, const struct rec_net_plan *p)
{
	keep(c, j, p);
}

void net_fill(const struct job *j, struct rec_net_plan **ret, size_t *ret_n)
{
	*ret = j->net != NULL ? &j->net->plan : NULL;
	*ret_n = j->net != NULL;
}

bool net_known(struct coord *c, struct clink *l, const char *asked, uint32_t rid)
{
	enum net_want want;

	if (net_want_from(asked, &want))
		return true;
	coord_refuse(c, l, rid, "bad-request", "--net %.8s is not known to this coordinator (version %s): auto, ib or socket",
		     asked, NA_SOFTWARE);
	return false;
}

/* ---- choosing ----------------------------------------------------------------------- */

static struct net_node *look_at_nodes(struct arena *a, const struct job *j)
{
	struct net_node *v = arena_alloc(a, j->n_places * sizeof(*v) + 1);

	for (size_t i = 0; v != NULL && i < j->n_places; i++) {
		const struct place *p = &j->places[i];

		v[i] = (struct net_node){
			.name = p->node->name, .r = node_readings(p->node), .sets_env = p->node->sets_env,
			.gpus = (uint32_t)__builtin_popcountll(p->gpus),
			.mtu = p->mtu,
			.ifname = i == 0 && j->master_ifname[0] != '\0' ? j->master_ifname : p->ifname,
		};
	}
	return v;
}

static enum net_want want_of(const struct job *j)
{
	enum net_want want = NET_AUTO;

	if (j->net != NULL)
		net_want_from(j->net->plan.asked, &want); /* checked when it came */
	return want;
}

bool net_node_good(const struct node *n)
{
	return n->ports_are == PORTS_GOOD || n->ports_are == PORTS_SOME_GOOD;
}

bool net_wants_ib(const struct job *j)
{
	return want_of(j) == NET_IB;
}

bool net_minds_ports(const struct job *j)
{
	return want_of(j) == NET_IB || (want_of(j) == NET_AUTO && j->nnodes > 1);
}

static void count_cluster(const struct coord *c, struct net_in *in)
{
	in->cluster = (uint32_t)c->n_nodes;
	for (size_t i = 0; i < c->n_nodes; i++)
		in->cluster_good += net_node_good(c->nodes[i]);
}

/* Texts live in the arena. 0 or -ENOMEM. */
static int choose(const struct coord *c, struct arena *a, const struct job *j, struct net_out *ret)
{
	struct net_in in = { .nodes = look_at_nodes(a, j), .n = j->n_places, .all_gpus = j->all_gpus };

	if (in.nodes == NULL)
		return -ENOMEM;
	in.want = want_of(j);
	if (in.want == NET_IB)
		count_cluster(c, &in);
	if (j->net != NULL) {
		in.yours = j->net->plan.yours;
		in.n_yours = j->net->plan.n_yours;
	}
	return net_choose(a, &in, ret);
}

static void refuse(struct coord *c, struct job *j, const struct net_out *out)
{
	if (out->guilty < j->n_places)
		restart_blame(j, END_NODE, j->places[out->guilty].node);
	job_end(c, j, 1, "%s", out->refusal);
	job_check_final(c, j);
}

/* The interfaces are the agent's own affair: it has proved them. */
static bool is_ours(const struct rec_net_set *s)
{
	return s->value != NULL && strstr(s->name, "_SOCKET_IFNAME") == NULL;
}

static bool sets_any(const struct rec_net_plan *p)
{
	for (size_t i = 0; i < p->n_sets; i++)
		if (is_ours(&p->sets[i]))
			return true;
	return false;
}

bool net_choose_job(struct coord *c, struct job *j)
{
	struct net_out out;
	struct arena a;
	bool may;

	arena_init(&a);
	if (choose(c, &a, j, &out) < 0) {
		c->oom = true;
		arena_finish(&a);
		return true;
	}
	keep(c, j, &out.plan);
	may = out.refusal == NULL;
	if (!may)
		refuse(c, j, &out);
	for (size_t i = 0; may && i < out.n_notices; i++)
		job_notice(c, j, "%s", out.notices[i]);
	if (may && sets_any(&out.plan) && out.plan.text != NULL)
		job_tell(c, j, NULL, 0, 0, "network: %s", out.plan.text);
	arena_finish(&a);
	return may;
}

/* ---- to the nodes --------------------------------------------------------------------- */

/* Once, not for each of thousands of nodes. */
static void take_apart(struct coord *c, struct job_net *n)
{
	if (n->lists != NULL)
		return;
	n->lists = calloc(n->plan.n_sets + 1, sizeof(*n->lists));
	if (n->lists == NULL)
		c->oom = true;
	for (size_t i = 0; n->lists != NULL && i < n->plan.n_sets; i++)
		if (n->plan.sets[i].nodes != NULL && hostlist_parse(n->plan.sets[i].nodes, &n->lists[i], NULL) == -ENOMEM)
			c->oom = true;
}

static bool is_for(const struct job_net *n, size_t set, const char *node)
{
	return n->plan.sets[set].nodes == NULL || (n->lists != NULL && hostlist_has(&n->lists[set], node));
}

void net_fill_start(struct coord *c, struct job *j, uint32_t i, struct rec_start *s)
{
	struct arena *a = &c->out->arena;
	const struct rec_net_plan *p;
	struct net_out out;

	if (j->net == NULL || j->net->plan.text == NULL) {
		if (choose(c, a, j, &out) == 0)
			keep(c, j, &out.plan);
		else
			c->oom = true;
	}
	p = j->net != NULL ? &j->net->plan : NULL;
	if (p != NULL)
		take_apart(c, j->net);
	s->env = arena_alloc(a, START_ENV_MAX * sizeof(*s->env));
	for (size_t k = 0; p != NULL && s->env != NULL && k < p->n_sets && s->n_env < START_ENV_MAX; k++) {
		if (!is_ours(&p->sets[k]) || !is_for(j->net, k, j->places[i].node->name))
			continue;
		s->env[s->n_env] = arena_printf(a, "%s=%s", p->sets[k].name, p->sets[k].value);
		if (s->env[s->n_env] != NULL)
			s->n_env++;
		else
			c->oom = true;
	}
}

/* ---- plans ------------------------------------------------------------------------------ */

/* Of a job that has its places for this moment. */
static void say_plan(struct coord *c, const struct job *j, struct rec_plan *p)
{
	struct arena *a = &c->out->arena;
	const char **names = arena_alloc(a, j->n_places * sizeof(*names) + 1);
	struct net_out *out = arena_alloc(a, sizeof(*out));
	char *list;

	if (names == NULL || out == NULL || choose(c, a, j, out) < 0) {
		c->oom = true;
		return;
	}
	for (size_t i = 0; i < j->n_places; i++)
		names[i] = j->places[i].node->name;
	list = hostlist_format(names, j->n_places);
	p->nodes = list != NULL && strlen(list) <= 4096 ? arena_strdup(a, list) : NULL;
	free(list);
	p->net = &out->plan;
	p->n_net = 1;
	p->notices = out->notices;
	p->n_notices = out->n_notices;
	p->text = out->refusal;
}

static void plan(struct coord *c, struct clink *l, const struct rec_plan_get *g, const struct rec_submit *s, uint32_t uid)
{
	struct job *j = job_new(c, l, s, uid);
	struct err e = { 0 };
	struct msg m;
	int r;

	if (j == NULL)
		return;
	j->immediate = true; /* it keeps nobody from any node */
	msg_init(&m, MSG_plan);
	m.u.plan.rid = g->rid;
	r = place_job(c, j, &e);
	if (r == 1)
		say_plan(c, j, &m.u.plan);
	else
		m.u.plan.text = arena_printf(&c->out->arena, "%.1000s", r == 0 && j->why != NULL ? j->why : e.text);
	act_send(c->out, l->id, &m);
	job_unplace(c, j);
	job_free(c, j);
}

void net_on_plan(struct coord *c, struct clink *l, const struct rec_plan_get *g)
{
	static const uint8_t no_hash[32];
	struct rec_submit s;
	uint32_t uid;

	if (l->who != WHO_NODE || g->n_submit != 1) {
		coord_refuse(c, l, g->rid, "bad-request", "a plan is asked for through a node's agent, for one job");
		return;
	}
	s = g->submit[0];
	s.spec_hash = (struct bytes){ no_hash, sizeof(no_hash) };
	if (!request_uid(c, l, g->rid, MSG_HAS(&s, submit, uid), s.uid, &uid) || !net_known(c, l, s.net, g->rid) ||
	    !job_stays_home(c, l, &s, g->rid))
		return;
	if (c->have_dirty)
		jobs_schedule(c); /* who waits comes first, as when it were submitted */
	plan(c, l, g, &s, uid);
}
