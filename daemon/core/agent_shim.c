/* agent_shim.c - what a job's shim says, its death, and finding it again
 *
 * A shim does not go back to an earlier phase. A dead one means: what it left
 * is swept, and only then the job's part is told as ended.
 */
#include "core/agent_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ajob_on_shim_up(struct agent *a, struct alink *l)
{
	struct ajob *j = ajob_find(a, l->job, l->attempt);

	if (j == NULL) {
		act_close(a->out, l->id, "no such job");
		return;
	}
	j->shim_link = l->id;
	j->shim_known = true;
	j->bye_sent = false;
	if (j->phase == AJ_SPAWNING)
		j->phase = AJ_SETUP;
}

void ajob_on_shim_down(struct agent *a, struct alink *l)
{
	struct ajob *j = ajob_find(a, l->job, l->attempt);

	if (j == NULL || j->shim_link != l->id)
		return;
	j->shim_link = 0;
	if (!ajob_alive(j) || j->phase == AJ_SWEEPING)
		return;
	j->phase = AJ_SWEEPING;
	ajob_action(a, j, ACT_SWEEP, &j->ticket_sweep);
}

/* Its shim has spoken after we had registered: it was told as 'starting', for
 * want of that word, and a new coordinator waits to hear what it is. */
static void tell_again(struct agent *a)
{
	if (a->told)
		session_register(a);
}

/* Adopted and still ready: it may be started, once its ports are leased anew. */
static void found_ready(struct agent *a, struct ajob *j)
{
	j->phase = AJ_READY;
	j->need_lease = true;
	tell_again(a);
}

/* Where rank 0 listens is on no disk: a shim that was started keeps it for an
 * agent that was restarted, and through it for a coordinator that was too. */
static void take_master(struct ajob *j, const struct rec_shim_hello *h)
{
	if (h->master_addr == NULL)
		return;
	snprintf(j->master_addr, sizeof(j->master_addr), "%s", h->master_addr);
	j->start_port = h->master_port;
}

#define RUN_MS_MAX (UINT64_C(1) << 40) /* a shim may say anything: the sum must fit the clock */

static void on_shim_hello(struct agent *a, struct ajob *j, const struct rec_shim_hello *h)
{
	bool adopting = j->phase == AJ_ADOPTING;

	j->shim_pid = h->pid;
	j->shim_proto = h->proto;
	take_master(j, h);
	if (MSG_HAS(h, shim_hello, run_ms) && mono_is_never(j->run_since) && h->run_ms < RUN_MS_MAX)
		j->run_since = mono_add_ms(a->now, -(int64_t)h->run_ms);
	report_update(a, j, h->ranks, h->n_ranks);
	if (strcmp(h->phase, "setup") == 0) {
		if (j->phase != AJ_SETUP && !adopting)
			return; /* a shim does not go back */
		j->phase = AJ_SETUP;
		j->need_lease = adopting;
		if (!j->end_wanted)
			ajob_send_setup(a, j);
	} else if (strcmp(h->phase, "failed") == 0) {
		/* shim_ready follows and brings the reason with its code */
		if (adopting)
			j->phase = AJ_SETUP;
	} else if (strcmp(h->phase, "ready") == 0) {
		if (adopting)
			found_ready(a, j);
		else if ((j->phase == AJ_LATCHING || j->phase == AJ_STARTING) && j->latched)
			ajob_send_go(a, j); /* said to a connection that broke */
	} else if ((strcmp(h->phase, "running") == 0 || strcmp(h->phase, "ending") == 0) &&
		   ajob_alive(j)) {
		struct arena ar;
		struct rec_ranks r = { 0 };

		j->phase = AJ_RUNNING;
		j->latched = true;
		containers_running(a, j);
		arena_init(&ar);
		r.n_ranks = report_fill(&ar, a, j, &r.ranks);
		report_ranks(a, j, &r);
		arena_finish(&ar);
		if (adopting)
			tell_again(a);
	} /* ended: shim_ended follows at once */
	if (j->end_wanted)
		ajob_send_shim_end(a, j);
	else
		lease_renew(a, j, true);
}

/* What its shim has found here that is no reason to refuse it. */
static void on_remark(struct agent *a, const struct ajob *j, const char *text)
{
	struct msg m;

	msg_init(&m, MSG_notice);
	m.u.notice.job = j->job;
	m.u.notice.attempt = j->attempt;
	m.u.notice.text = arena_printf(&a->out->arena, "%.500s", text);
	if (m.u.notice.text != NULL)
		session_send(a, &m);
}

static void on_shim_ready(struct agent *a, struct ajob *j, const struct rec_shim_ready *r)
{
	if (j->phase != AJ_SETUP)
		return;
	if (!r->ok) {
		ajob_failed(a, j, MSG_HAS(r, shim_ready, code) ? r->code : 1, false, r->text);
		return;
	}
	j->phase = AJ_READY;
	if (r->text != NULL)
		on_remark(a, j, r->text);
	if (j->end_wanted)
		ajob_send_shim_end(a, j);
	else if (!j->need_lease)
		report_prepared(a, j);
}

/* Output that the disk had no room for: how much, where, and what to do; one
 * sentence for all ranks. */
static void tell_lost(struct agent *a, struct ajob *j)
{
	unsigned long long bytes = 0;
	unsigned n = 0;
	char text[500];

	for (uint32_t i = 0; i < j->prepare.u.prepare.nprocs; i++) {
		bytes += j->ranks[i].lost_bytes;
		n += j->ranks[i].lost_bytes != 0;
	}
	if (n == 0)
		return;
	snprintf(text, sizeof(text), "%.180s%s%llu bytes of output of %u process%s were lost, for there was no room in "
		 "%.180s; remove files there", j->end_text != NULL ? j->end_text : "",
		 j->end_text != NULL ? "; " : "", bytes, n, n == 1 ? "" : "es", a->spool_dir);
	free(j->end_text);
	j->end_text = agent_strdup(a, text);
}

static void on_shim_ended(struct agent *a, struct ajob *j, const struct rec_shim_ended *r)
{
	bool adopting = j->phase == AJ_ADOPTING;

	report_update(a, j, r->ranks, r->n_ranks);
	if (j->phase == AJ_ENDED || j->phase == AJ_FAILED)
		return;
	j->lapsed = j->lapsed || r->lapsed;
	if (r->text != NULL && j->end_text == NULL)
		j->end_text = agent_strdup(a, r->text);
	tell_lost(a, j);
	ajob_ended(a, j);
	if (adopting)
		tell_again(a);
}

/* The shim of a job that nobody asks for any more: it was given up, and is over now. */
static void on_late_end(struct agent *a, const struct alink *l)
{
	struct msg m;

	msg_init(&m, MSG_shim_bye);
	MSG_SET(&m.u.shim_bye, shim_bye, settled, true);
	act_send(a->out, l->id, &m);
}

/* The first of its oldest output has gone; how much it was is told at the end. */
static void on_shim_given(struct agent *a, const struct ajob *j)
{
	struct msg m;

	msg_init(&m, MSG_notice);
	m.u.notice.job = j->job;
	m.u.notice.attempt = j->attempt;
	m.u.notice.text = "it writes more than is kept here (spool_per_job, spool_per_node): from now on its oldest output "
			  "is given back";
	session_send(a, &m);
}

void ajob_on_shim_message(struct agent *a, struct alink *l, const struct msg *m)
{
	struct ajob *j = ajob_find(a, l->job, l->attempt);

	if (j == NULL && m->type == MSG_shim_ended)
		on_late_end(a, l);
	if (j == NULL || j->shim_link != l->id)
		return;
	switch (m->type) {
	case MSG_shim_hello:
		on_shim_hello(a, j, &m->u.shim_hello);
		break;
	case MSG_shim_ready:
		on_shim_ready(a, j, &m->u.shim_ready);
		break;
	case MSG_ranks:
		report_update(a, j, m->u.ranks.ranks, m->u.ranks.n_ranks);
		if (j->phase == AJ_STARTING) {
			j->phase = AJ_RUNNING;
			containers_running(a, j);
		}
		report_ranks(a, j, &m->u.ranks);
		break;
	case MSG_shim_grown:
		on_shim_given(a, j);
		break;
	case MSG_pulse:
		pulse_on_shim(a, j, m);
		break;
	case MSG_shim_stuck:
		stuck_claimed(a, j, &m->u.shim_stuck);
		break;
	case MSG_shim_nccl:
		nccl_on_shim(a, j, m);
		break;
	case MSG_stacks:
		stacks_on_shim(a, j, &m->u.stacks);
		break;
	case MSG_ras:
		ras_on_shim(a, j, &m->u.ras);
		break;
	case MSG_shim_ended:
		on_shim_ended(a, j, &m->u.shim_ended);
		break;
	default:
		break;
	}
}

/* ---- after our own restart --------------------------------------------------------------------- */

/* It may live, and it may be dead: so it counts as alive, for ever, or until another
 * boot. It has no ranks that we know of, no shim that we would know how to ask, and
 * whatever is wanted of it is not answered. */
static void adopt_unknown(struct agent *a)
{
	static const uint8_t hash[32];
	struct rec_peer nobody = { .node = a->node, .key = { hash, 32 } };
	struct ajob *j = NULL;
	struct msg m;
	struct buf b;

	msg_init(&m, MSG_prepare);
	m.u.prepare.job = a->ev->job;
	m.u.prepare.attempt = a->ev->attempt;
	m.u.prepare.boot_id = a->boot_id;
	m.u.prepare.user = "?";
	m.u.prepare.spec_hash = (struct bytes){ hash, 32 };
	m.u.prepare.source = &nobody;
	m.u.prepare.n_source = 1;
	buf_init(&b);
	if (msg_encode(&m, &b, NULL) == 0)
		j = ajob_new(a, b.data, b.len);
	buf_finish(&b);
	if (j == NULL)
		a->oom = true;
	else
		j->phase = AJ_UNKNOWN;
}

void ajobs_tell_unknown(struct agent *a)
{
	struct msg m;

	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (j->phase != AJ_UNKNOWN)
			continue;
		msg_init(&m, MSG_notice);
		m.u.notice.job = j->job;
		m.u.notice.attempt = j->attempt;
		m.u.notice.text = "what it holds of this job cannot be read any more, so whether its processes live is not "
				  "known, and they count as alive; look there for processes with this number in "
				  "NODEAGENT_JOB and end them, then reboot the host, or nodectl node-remove --force it";
		session_send(a, &m);
	}
}

void ajob_on_adopt(struct agent *a)
{
	const struct rec_row_held *h = a->ev->held;
	struct ajob *j;

	if (h == NULL) {
		adopt_unknown(a);
		return;
	}
	if (strcmp(h->boot_id, a->boot_id) != 0 || ajob_find(a, h->job, h->attempt) != NULL)
		return;
	j = ajob_new(a, (const char *)h->prepare.p, h->prepare.n);
	if (j == NULL)
		return;
	snprintf(j->cookie, sizeof(j->cookie), "%s", h->cookie);
	a->lineage = h->lineage;
	j->fetched = j->leased = true;
	j->latched = a->ev->latched;
	j->shim_known = true;
	if (a->ev->ended != NULL) {
		report_update(a, j, a->ev->ended->ranks, a->ev->ended->n_ranks);
		j->lapsed = a->ev->ended->lapsed;
		j->end_text = a->ev->ended->text != NULL ? agent_strdup(a, a->ev->ended->text) : NULL;
		tell_lost(a, j);
		j->phase = AJ_ENDED;
		j->ended_at = a->now;
	} else if (a->ev->alive) {
		j->phase = AJ_ADOPTING;
	} else {
		j->phase = AJ_SWEEPING;
		ajob_action(a, j, ACT_SWEEP, &j->ticket_sweep);
	}
}
