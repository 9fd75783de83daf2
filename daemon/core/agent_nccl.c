/* agent_nccl.c - what shims read in NCCL's log, passed on
 *
 * Of each job only the last word is kept: it holds all that is known. After a
 * registration it is told again, for a coordinator keeps it in memory only.
 */
#include "core/agent_internal.h"

#include <string.h>

static void tell(struct agent *a, const struct ajob *j)
{
	struct msg m;

	msg_init(&m, MSG_job_nccl);
	m.u.job_nccl.job = j->job;
	m.u.job_nccl.attempt = j->attempt;
	m.u.job_nccl.nccl = j->nccl.u.shim_nccl.nccl;
	m.u.job_nccl.n_nccl = 1;
	session_send(a, &m);
}

/* Without memory the word before stays: this one is not said again, and the next one will be. */
void nccl_on_shim(struct agent *a, struct ajob *j, const struct msg *m)
{
	struct msg copy;
	struct buf b;

	if (m->u.shim_nccl.n_nccl != 1)
		return;
	buf_init(&b);
	if (msg_encode(m, &b, NULL) == 0 && msg_decode(b.data, b.len, &copy, NULL) == 0) {
		if (j->has_nccl)
			msg_finish(&j->nccl);
		j->nccl = copy;
		j->has_nccl = true;
		tell(a, j);
	} else {
		a->oom = true;
	}
	buf_finish(&b);
}

void nccl_again(struct agent *a)
{
	list_foreach(e, &a->jobs) {
		const struct ajob *j = list_entry(e, struct ajob, all);

		if (j->has_nccl)
			tell(a, j);
	}
}

/* ---- RAS: passed on both ways ----------------------------------------------------- */

void ras_on_get(struct agent *a, const struct rec_ras_get *g)
{
	struct ajob *j = ajob_find(a, g->job, g->attempt);
	struct msg m;

	if (j == NULL || j->phase != AJ_RUNNING)
		return;
	j->answers_due = ANSWERS_MAX;
	msg_init(&m, MSG_ras_get);
	m.u.ras_get = *g;
	ajob_send_shim(a, j, &m);
}

void flight_on_get(struct agent *a, const struct rec_flight_get *g)
{
	struct ajob *j = ajob_find(a, g->job, g->attempt);
	struct msg m;

	if (j == NULL || j->phase != AJ_RUNNING)
		return;
	j->answers_due = ANSWERS_MAX;
	msg_init(&m, MSG_flight_get);
	m.u.flight_get = *g;
	ajob_send_shim(a, j, &m);
}

/* Whose answer it is the link says, not the shim. A shim is its user's: what nobody asked for is not passed on. */
void ras_on_shim(struct agent *a, struct ajob *j, const struct rec_ras *r)
{
	struct msg m;

	if (j->answers_due == 0)
		return;
	j->answers_due--;
	msg_init(&m, MSG_ras);
	m.u.ras = *r;
	m.u.ras.job = j->job;
	m.u.ras.attempt = j->attempt;
	session_send(a, &m);
}
