/* coord_prepare.c - from chosen nodes to the start: prepare -> prepared, prove -> proved, start
 *
 * Every node has its command and environment, its ports and its leases, and
 * every connection the ranks will want was tried, before any rank is started.
 */
#include "core/coord_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/spec.h"

#define UNREADY_MS 2000 /* specification, shim and ports take well below a second */
#define SUSPECT_MS 500 /* after a node that has died would be silent */

void job_unprepared(struct job *j)
{
	free(j->proof_why);
	j->proof_why = NULL;
	j->suspect = NULL;
	j->proof_until = MONO_NEVER;
	j->leases_ticket = 0;
	j->leases_stored = j->start_waits = false;
}

void job_go_prepare(struct coord *c, struct job *j)
{
	char nodes[256];

	job_unprepared(j);
	story_nodes(j, nodes, sizeof(nodes));
	job_tell(c, j, NULL, 0, 0, "placed on %s, attempt %u", nodes, j->attempt);
	j->prepare_until = mono_add_ms(c->now, c->conf.prepare_ms);
	j->late_look = mono_add_ms(c->now, UNREADY_MS);
	coord_wake_at(c, j->prepare_until);
	coord_wake_at(c, j->late_look);
	free(j->why);
	j->why = NULL;
	specs_choose(c, j);
	peers_tell_source(c, j);
	for (uint32_t i = 0; i < j->n_places; i++) {
		j->places[i].phase = PL_ASSIGNED;
		job_send_prepare(c, j, i);
	}
	specs_to_spares(c, j);
	job_changed(c, j);
}

const char *prepare_waits(struct arena *a, const struct coord *c, const struct job *j)
{
	const struct node *first = NULL;
	char more[40] = "";
	size_t n = 0;

	if (j->state != JOB_PREPARING || j->recovering || !mono_is_never(j->late_look) || mono_is_never(j->prepare_until))
		return NULL;
	for (size_t i = 0; i < j->n_places; i++) {
		if (j->places[i].phase >= PL_PREPARED)
			continue;
		first = first != NULL ? first : j->places[i].node;
		n++;
	}
	if (first == NULL)
		return NULL;
	if (n > 1)
		snprintf(more, sizeof(more), " and %zu more", n - 1);
	if (strcmp(first->name, j->submit_node) == 0)
		return arena_printf(a, "waiting for %s%s to be ready: its shim is being started, and looks at directory and command",
				    first->name, more);
	return arena_printf(a, "waiting for %s%s to be ready: it fetches command and environment from %s (can it reach that one?), or "
			    "its shim is being started", first->name, more, j->submit_node);
}

void prepare_deadline(struct coord *c, struct job *j)
{
	if (j->state != JOB_PREPARING || mono_is_never(j->late_look))
		return;
	if (!mono_due(j->late_look, c->now)) {
		coord_wake_at(c, j->late_look);
		return;
	}
	j->late_look = MONO_NEVER;
	if (prepare_waits(&c->out->arena, c, j) != NULL)
		job_changed(c, j);
}

/* Which of its shims keep the lease: on disk before any of them may go. A
 * coordinator that is started anew would else take them for such that do not, and
 * wait for a dead node until an administrator speaks. It is written while the
 * connections are tried. */
void job_store_leases(struct coord *c, struct job *j)
{
	struct pending *pd;
	struct action *p = coord_persist(c, &pd);

	pd->kind = PD_LEASES;
	pd->job = j->id;
	j->leases_ticket = pd->ticket;
	j->retry_save = MONO_NEVER;
	persist_job(c, p, j);
}

void job_go_start(struct coord *c, struct job *j)
{
	struct pending *pd;

	if (j->max_restarts > 0 && !j->leases_stored) {
		j->start_waits = true;
		return;
	}
	if (!net_choose_job(c, j))
		return;
	job_unprepared(j);
	j->state = JOB_RUNNING;
	j->start_sent = true;
	j->started_at = c->now;
	j->start_wall_ms = c->wall_ms;
	j->run_since = c->now;
	j->prepare_until = MONO_NEVER;
	if (j->time_s != 0) {
		j->run_until = mono_add_ms(c->now, 1000 * (int64_t)j->time_s - (int64_t)j->used_ms);
		coord_wake_at(c, j->run_until);
	}
	for (uint32_t i = 0; i < j->n_places; i++) {
		j->places[i].phase = PL_STARTED;
		job_send_start(c, j, i);
	}
	job_tell(c, j, NULL, 0, 0, "started: %zu process%s, rank 0 at %s", j->n_ranks,
		 j->n_ranks == 1 ? "" : "es", j->places[0].node->name);
	story_soon(c, j);
	if (j->max_restarts > 0) /* since when: its time counts against the limit of all attempts */
		persist_job(c, coord_persist(c, &pd), j);
	job_changed(c, j);
}

static bool is_loopback(const char *ip)
{
	return strncmp(ip, "127.", 4) == 0 || strcmp(ip, "::1") == 0;
}

/* A loopback address means something only on the same host (same kernel boot):
 * elsewhere another program's port might answer there. */
static bool add_proof(struct coord *c, const struct job *j, uint32_t from, struct rec_proof *t,
		      const char *kind, uint32_t to, uint32_t port)
{
	const struct node *n = j->places[to].node;
	bool one_host = strcmp(j->places[from].boot_id, j->places[to].boot_id) == 0;
	struct rec_addr *v = arena_alloc(&c->out->arena, n->n_addrs * sizeof(*v) + 1);

	memset(t, 0, sizeof(*t));
	t->kind = kind;
	t->node = n->name;
	t->addrs = v;
	t->port = port;
	for (size_t i = 0; v != NULL && i < n->n_addrs; i++)
		if (one_host || !is_loopback(n->addrs[i].ip))
			v[t->n_addrs++] = n->addrs[i];
	return v != NULL;
}

static void send_prove(struct coord *c, struct job *j, uint32_t i)
{
	uint32_t next = (i + 1) % (uint32_t)j->n_places;
	struct rec_proof t[2];
	struct msg m;
	size_t n = 0;

	msg_init(&m, MSG_prove);
	if (i != 0 && !add_proof(c, j, i, &t[n++], "master", 0, j->places[0].master_port))
		c->oom = true;
	if (!add_proof(c, j, i, &t[n++], "ephemeral", next, j->places[next].proof_port))
		c->oom = true;
	m.u.prove.job = j->id;
	m.u.prove.attempt = j->attempt;
	m.u.prove.targets = t;
	m.u.prove.n_targets = n;
	if (j->places[i].node->link != NULL)
		act_send(c->out, j->places[i].node->link->id, &m);
}

/* Every node tries rank 0's MASTER_PORT, and an ephemeral port of the next
 * node. Node rank 0 comes last: its turn also tells it to stop listening, so
 * that no rank of another node can meet the agent's listener in place of rank 0. */
static void go_prove(struct coord *c, struct job *j)
{
	for (uint32_t i = 1; i < j->n_places; i++)
		send_prove(c, j, i);
}

bool job_all_places(const struct job *j, enum place_phase at_least)
{
	for (size_t i = 0; i < j->n_places; i++)
		if (j->places[i].phase < at_least)
			return false;
	return true;
}

static bool answers(const struct node *n)
{
	return n != NULL && n->link != NULL && !n->silent && !n->removed;
}

/* It could not get command and environment: that may well be the fault of the node that has them. */
static bool not_fetched(const struct rec_prepared *r)
{
	return r->text != NULL && strncmp(r->text, SPEC_NOT_FETCHED, strlen(SPEC_NOT_FETCHED)) == 0;
}

void jobs_on_prepared(struct coord *c, struct node *n, const struct rec_prepared *r)
{
	struct job *j = job_find(c, r->job);
	struct place *p;
	uint32_t i;

	if (j == NULL || j->attempt != r->attempt || job_over(j)) {
		jobs_stale(c, n, r->job, r->attempt);
		return;
	}
	p = job_place_of(j, n, &i);
	if (p == NULL || p->phase >= PL_RUNNING || j->recovering)
		return;
	if (!r->ok && (j->state == JOB_PREPARING || j->state == JOB_RUNNING)) {
		/* Also when 'start' is on its way: its shim died before it came. It still owes us 'ended'. */
		if (r->retry || (not_fetched(r) && !answers(node_find(c, j->submit_node))) ||
		    (j->attempt > 1 && r->code != 126 && r->code != 127)) /* it could be prepared before */
			restart_blame(j, END_NODE, not_fetched(r) ? NULL : n);
		job_end(c, j, MSG_HAS(r, prepared, code) ? r->code : 1, "node %s: %s", n->name,
			r->text != NULL ? r->text : "it cannot prepare the job");
		job_check_final(c, j);
		return;
	}
	if (!r->ok || j->state != JOB_PREPARING || p->phase >= PL_STARTED)
		return;
	p->phase = PL_PREPARED;
	job_unprepared(j);
	p->leased = r->leased;
	p->master_port = r->master_port;
	p->proof_port = r->proof_port;
	if (!job_all_places(j, PL_PREPARED)) {
		if (mono_is_never(j->late_look))
			job_changed(c, j); /* whom it waits for was told, and is another now */
		return;
	}
	j->master_port = j->places[0].master_port;
	job_tell(c, j, NULL, 0, 0, j->n_places > 1 ? "prepared on all nodes" : "prepared");
	if (j->max_restarts > 0)
		job_store_leases(c, j);
	if (j->n_places > 1) {
		go_prove(c, j);
		return;
	}
	snprintf(j->master_addr, sizeof(j->master_addr), "127.0.0.1");
	job_go_start(c, j);
}

static int64_t addr_index(const struct node *n, const char *ip)
{
	for (size_t i = 0; i < n->n_addrs && i < 64; i++)
		if (strcmp(n->addrs[i].ip, ip) == 0)
			return (int64_t)i;
	return -1;
}

static void take_master_result(struct job *j, struct place *p, const struct rec_proof_result *r)
{
	p->reached = 0;
	for (size_t i = 0; i < r->n_reached; i++) {
		int64_t at = addr_index(j->places[0].node, r->reached[i]);

		if (at >= 0)
			p->reached |= UINT64_C(1) << at;
	}
	free(p->proof_text);
	p->proof_text = r->text != NULL ? strdup(r->text) : NULL;
}

/* Rank 0's address that all the others have just reached. */
static bool choose_master(struct job *j)
{
	const struct node *zero = j->places[0].node;
	uint64_t common = UINT64_MAX;

	for (size_t i = 1; i < j->n_places; i++)
		common &= j->places[i].reached;
	for (size_t i = 0; i < zero->n_addrs && i < 64; i++) {
		if (!(common >> i & 1))
			continue;
		snprintf(j->master_addr, sizeof(j->master_addr), "%s", zero->addrs[i].ip);
		snprintf(j->master_ifname, sizeof(j->master_ifname), "%s",
			 zero->addrs[i].ifname != NULL ? zero->addrs[i].ifname : "");
		return true;
	}
	return false;
}

/* A node that has died while connections are tried is only known as one that cannot be reached,
 * until it is silent. What may restart waits for that: it ends for good only where the node lives. */
static void not_proved(struct coord *c, struct job *j, const struct node *suspect, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static void not_proved(struct coord *c, struct job *j, const struct node *suspect, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (j->proof_why != NULL)
		return; /* the first one stays */
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (j->max_restarts == 0 || suspect == NULL) {
		job_end(c, j, 1, "%s", text);
		return;
	}
	j->proof_why = coord_strdup(c, text);
	j->suspect = suspect;
	j->proof_until = answers(suspect) ? mono_add_ms(c->now, c->conf.unreachable_ms + SUSPECT_MS) : c->now;
	j->proof_until = mono_min(j->proof_until, j->prepare_until);
	coord_wake_at(c, j->proof_until);
}

void job_proof_deadline(struct coord *c, struct job *j)
{
	if (j->proof_why == NULL || j->state != JOB_PREPARING)
		return;
	if (!mono_due(j->proof_until, c->now)) {
		coord_wake_at(c, j->proof_until);
		return;
	}
	if (answers(j->suspect)) {
		job_end(c, j, 1, "%s", j->proof_why);
	} else {
		restart_blame(j, END_NODE, j->suspect);
		job_end(c, j, 1, "node %s was lost while the connections between the nodes were tried",
			j->suspect->name);
	}
	job_check_final(c, j);
}

static void no_master(struct coord *c, struct job *j)
{
	const struct node *zero = j->places[0].node;

	for (size_t i = 1; i < j->n_places; i++) {
		if (j->places[i].reached != 0)
			continue;
		not_proved(
			c, j, zero,
			"node %s cannot reach node %s, where rank 0 would listen on port %u (%s); "
			"open the port range between the nodes, or leave one of them out with -x",
			j->places[i].node->name, zero->name, j->master_port,
			j->places[i].proof_text != NULL ? j->places[i].proof_text : "");
		return;
	}
	job_end(c, j, 1,
		"no address of node %s (rank 0) can be reached by all the job's nodes: each sees "
		"another one; give the nodes one common network, or choose others with -w",
		zero->name);
}

void jobs_on_proved(struct coord *c, struct node *n, const struct rec_proved *r)
{
	struct job *j = job_find(c, r->job);
	struct place *p;
	uint32_t me;

	if (j == NULL || j->attempt != r->attempt || j->state != JOB_PREPARING || j->recovering)
		return;
	p = job_place_of(j, n, &me);
	if (p == NULL || p->phase != PL_PREPARED)
		return;
	for (size_t i = 0; i < r->n_results; i++) {
		const struct rec_proof_result *x = &r->results[i];

		if (strcmp(x->kind, "master") == 0) {
			take_master_result(j, p, x);
		} else if (x->n_reached == 0) {
			not_proved(
				c, j, j->places[(me + 1) % j->n_places].node,
				"node %s cannot reach an ephemeral port of node %s (%s): NCCL and Gloo "
				"use such ports; let the firewall pass TCP between the nodes",
				n->name, x->node, x->text != NULL ? x->text : "no answer");
			job_check_final(c, j);
			return;
		}
	}
	p->phase = PL_PROVED;
	snprintf(p->ifname, sizeof(p->ifname), "%s", r->ifname != NULL ? r->ifname : "");
	p->mtu = r->mtu;
	for (size_t i = 1; i < j->n_places; i++)
		if (j->places[i].phase < PL_PROVED)
			return;
	if (!choose_master(j)) {
		no_master(c, j);
		job_check_final(c, j);
	} else if (j->places[0].phase < PL_PROVED) {
		send_prove(c, j, 0);
	} else {
		job_go_start(c, j);
	}
}
