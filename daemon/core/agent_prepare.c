/* agent_prepare.c - may this node's part of a job be, and what its shim is set up with
 *
 * Refused is what the node cannot or may not do; all that is known again after a
 * second 'prepare' is answered from what is known.
 */
#include "core/agent_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/utf8.h"

/* ---- preparing ---------------------------------------------------------------------- */

/* 'retry': another node may do. */
static void refuse_prepare(struct agent *a, const struct rec_prepare *p, bool retry, char *text)
{
	struct msg m;

	msg_init(&m, MSG_prepared);
	m.u.prepared.job = p->job;
	m.u.prepared.attempt = p->attempt;
	m.u.prepared.text = utf8_scrub(text);
	MSG_SET(&m.u.prepared, prepared, code, 1);
	if (retry)
		MSG_SET(&m.u.prepared, prepared, retry, true);
	session_send(a, &m);
}

/* All that a node holds must fit its registration. */
static bool full(const struct agent *a, const struct rec_prepare *p)
{
	size_t jobs = 1, ranks = p->nprocs;

	list_foreach(e, &a->jobs) {
		jobs++;
		ranks += list_entry(e, struct ajob, all)->prepare.u.prepare.nprocs;
	}
	return jobs > NODE_JOBS_MAX || ranks > NODE_RANKS_MAX;
}

static bool share_a_gpu(const char *x, const char *y)
{
	for (; x != NULL && *x != '\0'; x += strspn(x, ",")) {
		size_t n = strcspn(x, ",");

		for (const char *p = y; p != NULL && *p != '\0'; p += strspn(p, ",")) {
			size_t k = strcspn(p, ",");

			if (n == k && strncmp(x, p, n) == 0)
				return true;
			p += k;
		}
		x += n;
	}
	return false;
}

static bool all_named(const struct rec_prepare *p)
{
	return p->gpu_ids != NULL && strchr(p->gpu_ids, '#') == NULL;
}

/* The coordinator counts GPUs; this is for the day it is wrong. */
static const struct ajob *holder_of_gpus(const struct agent *a, const struct rec_prepare *p)
{
	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		const struct rec_prepare *theirs = &j->prepare.u.prepare;
		bool named = all_named(p) && all_named(theirs);

		if (ajob_alive(j) && (named ? share_a_gpu(p->gpu_ids, theirs->gpu_ids)
					    : share_a_gpu(p->gpus, theirs->gpus)))
			return j;
	}
	return NULL;
}

/* An older attempt must be gone, and a newer one leaves nothing to do for this. */
static bool other_attempt(const struct agent *a, const struct rec_prepare *p)
{
	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (j->job == p->job && (j->attempt > p->attempt || ajob_alive(j)))
			return true;
	}
	return false;
}

/* Another node may do. */
static bool node_can(struct agent *a, const struct rec_prepare *p, char text[256])
{
	struct job_gpus gpus;

	if (strcmp(p->boot_id, a->boot_id) != 0)
		snprintf(text, 256, "it was rebooted since it was chosen");
	else if (full(a, p))
		snprintf(text, 256, "it holds %u jobs or %u ranks already, the most it may",
			 NODE_JOBS_MAX, NODE_RANKS_MAX);
	else if (a->stopping)
		snprintf(text, 256, "it is being stopped");
	else if (other_attempt(a, p))
		snprintf(text, 256, "another attempt of the job is there");
	else if (holder_of_gpus(a, p) != NULL)
		snprintf(text, 256, "job %llu still holds GPUs that it was given",
			 (unsigned long long)holder_of_gpus(a, p)->job);
	else if (!readings_gpus(a, &a->out->arena, p, &gpus))
		snprintf(text, 256, "a GPU that it was to use is not there any more (%.150s)",
			 p->gpu_ids);
	else
		return true;
	return false;
}

/* Local policy; the launcher checks it again as root. */
static bool policy_allows(struct agent *a, const struct rec_prepare *p)
{
	bool can = true;
	char text[256];

	if (!node_can(a, p, text))
		can = false;
	else if (a->conf.single_user && p->uid != a->conf.own_uid)
		snprintf(text, sizeof(text),
			 "its agent runs without root, as uid %u, and serves only that user; the "
			 "job is of uid %u (%.40s)",
			 a->conf.own_uid, p->uid, p->user);
	else if (!a->conf.single_user && p->uid == 0 && !a->conf.allow_root)
		snprintf(text, sizeof(text),
			 "jobs of root are not allowed there (allow_root = yes in nodeagentd.conf)");
	else if (!a->conf.single_user && p->uid != 0 &&
		 (p->uid < a->conf.uid_min || p->uid > a->conf.uid_max))
		snprintf(text, sizeof(text), "uid %u (%.40s) is outside of the allowed %u-%u", p->uid,
			 p->user, a->conf.uid_min, a->conf.uid_max);
	else if (p->nprocs == 0 || p->n_source != 1 || p->spec_hash.n != 32)
		snprintf(text, sizeof(text), "the order to prepare makes no sense");
	else
		return true;
	refuse_prepare(a, p, !can, text);
	return false;
}

static void make_cookie(struct agent *a, struct ajob *j)
{
	for (int i = 0; i < 16; i++)
		snprintf(j->cookie + 2 * i, 3, "%02x", a->ev->random[16 + i]);
}

static void prepare_again(struct agent *a, struct ajob *j)
{
	switch (j->phase) {
	case AJ_READY:
		if (j->need_lease && j->ticket_lease == 0)
			ajob_action(a, j, ACT_LEASE, &j->ticket_lease);
		else if (!j->need_lease)
			report_prepared(a, j);
		break;
	case AJ_FAILED:
		report_prepared(a, j);
		break;
	case AJ_ENDED:
		report_ended(a, j);
		break;
	default:
		break; /* the answer comes when it is known */
	}
}

void ajob_on_prepare(struct agent *a, const struct rec_prepare *p)
{
	struct ajob *j = ajob_find(a, p->job, p->attempt);
	struct msg copy;
	struct buf b;

	if (p->n_source == 1)
		peers_unrevoke(a, &p->source[0]);
	for (size_t i = 0; i < p->n_copies; i++)
		peers_unrevoke(a, &p->copies[i]);
	if (j != NULL) {
		prepare_again(a, j);
		return;
	}
	if (!policy_allows(a, p))
		return;
	msg_init(&copy, MSG_prepare);
	copy.u.prepare = *p;
	buf_init(&b);
	if (msg_encode(&copy, &b, NULL) == 0)
		j = ajob_new(a, b.data, b.len);
	buf_finish(&b);
	if (j == NULL) {
		char text[] = "it is out of memory";

		refuse_prepare(a, p, true, text);
		return;
	}
	make_cookie(a, j);
	j->phase = AJ_FETCHING;
	ajob_action(a, j, ACT_FETCH, &j->ticket_fetch);
	if (j->prepare.u.prepare.keep)
		specs_copying(a, j->job, j->prepare.u.prepare.spec_hash.p, j->ticket_fetch, false);
	ajob_action(a, j, ACT_LEASE, &j->ticket_lease);
}

void ajob_send_setup(struct agent *a, struct ajob *j)
{
	const struct rec_prepare *p = &j->prepare.u.prepare;
	const char *indices;
	struct msg m;
	struct rec_shim_setup *s = &m.u.shim_setup;

	msg_init(&m, MSG_shim_setup);
	s->rank_base = p->rank_base;
	s->nprocs = p->nprocs;
	s->world = p->world;
	s->node_rank = p->node_rank;
	s->nnodes = p->nnodes;
	s->grace_ms = p->grace_ms;
	s->node = a->node;
	s->name = p->name;
	s->per_node = p->per_node;
	s->with_stdin = p->with_stdin && p->rank_base == 0;
	if (p->lease_ms != 0)
		MSG_SET(s, shim_setup, lease_ms, p->lease_ms);
	if (p->max_restarts != 0)
		MSG_SET(s, shim_setup, max_restarts, p->max_restarts);
	s->no_nccl_log = a->conf.no_nccl_log;
	s->no_ras = a->conf.no_ras;
	if (a->conf.pulse_ms != 0)
		MSG_SET(s, shim_setup, pulse_ms, a->conf.pulse_ms);
	s->gpus = readings_visible(a, p, &indices);
	if (!p->per_node) /* a launcher places its own workers */
		s->cpus = readings_cpus(a, &a->out->arena, indices);
	ajob_send_shim(a, j, &m);
}

void ajob_on_prove(struct agent *a, const struct rec_prove *r)
{
	struct ajob *j = ajob_find(a, r->job, r->attempt);
	struct rec_proof *copy;
	struct action *x;

	if (j == NULL || j->phase != AJ_READY)
		return;
	/* Node rank 0 is asked last: all others have reached it. From here on its
	 * port is free for rank 0; preparing again would need new listeners. */
	if (j->prepare.u.prepare.node_rank == 0) {
		act_add(a->out, ACT_UNLISTEN)->job = j->job;
		j->need_lease = true;
	}
	x = ajob_action(a, j, ACT_PROVE, &j->ticket_prove);
	copy = arena_alloc(&a->out->arena, r->n_targets * sizeof(*copy) + 1);
	if (copy == NULL) {
		a->oom = true;
		return;
	}
	for (size_t i = 0; i < r->n_targets; i++) {
		struct rec_addr *ad = arena_alloc(&a->out->arena,
						  r->targets[i].n_addrs * sizeof(*ad) + 1);

		copy[i].kind = arena_strdup(&a->out->arena, r->targets[i].kind);
		copy[i].node = arena_strdup(&a->out->arena, r->targets[i].node);
		copy[i].port = r->targets[i].port;
		copy[i].addrs = ad;
		for (size_t k = 0; ad != NULL && k < r->targets[i].n_addrs; k++) {
			ad[k].ip = arena_strdup(&a->out->arena, r->targets[i].addrs[k].ip);
			copy[i].n_addrs++;
			if (ad[k].ip == NULL)
				a->oom = true;
		}
		if (copy[i].kind == NULL || copy[i].node == NULL || ad == NULL)
			a->oom = true;
	}
	x->proofs = copy;
	x->n_proofs = r->n_targets;
}
