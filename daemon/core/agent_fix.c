/* agent_fix.c - the coordinator's order to restart the subnet manager here, passed to the launcher
 *
 * Two numbers in, an exit status and a line out. Whether it may be done is the launcher's word,
 * not ours: this agent has no rights.
 */
#include "core/agent_internal.h"

#include <errno.h>

#include "common/sm_unit.h"

#define ENABLING 256u /* LAUNCHER_ENABLING */

static void answer(struct agent *a, uint32_t rid, struct rec_sm_fixed *s)
{
	struct msg m;

	msg_init(&m, MSG_sm_fixed);
	m.u.sm_fixed = *s;
	m.u.sm_fixed.rid = rid;
	session_send(a, &m);
}

static void refuse(struct agent *a, uint32_t rid, const char *code, const char *text)
{
	answer(a, rid, &(struct rec_sm_fixed){ .code = code, .text = text });
}

void fix_on_order(struct agent *a, const struct rec_sm_fix *r)
{
	const char *unit = sm_unit_name(r->unit);
	struct action *x;

	if (unit == NULL) {
		refuse(a, r->rid, "failed", "the order names no subnet manager that is known here");
		return;
	}
	if (a->conf.single_user) {
		refuse(a, r->rid, "no-launcher", arena_printf(&a->out->arena, "the agent on %s runs without nodeagent-launcher, for one "
			"user, and has no right to do this; type there, as root: systemctl restart %s%s%s", a->node, unit,
			r->enable ? " && systemctl enable " : "", r->enable ? unit : ""));
		return;
	}
	if (a->ticket_fix != 0) {
		refuse(a, r->rid, "busy", "the subnet manager is being restarted on this node already");
		return;
	}
	x = act_add(a->out, ACT_FIX_SM);
	x->unit = r->unit;
	x->enable = r->enable;
	a->fix_rid = r->rid;
	a->ticket_fix = x->ticket = ++a->next_ticket;
}

static const char *code_of(int error)
{
	switch (error) {
	case -EPERM:
		return "off";
	case -EPROTO: /* "does not know operation 6" */
		return "old";
	case -EPIPE:
	case -EAGAIN:
		return "no-launcher";
	case -EBUSY:
		return "busy";
	case -ETIME:
	case -ETIMEDOUT:
		return "late";
	default:
		return "failed";
	}
}

bool fix_on_done_agent(struct agent *a)
{
	struct rec_sm_fixed s = { .text = a->ev->text };
	uint32_t result = a->ev->result;

	if (a->ev->ticket == 0 || a->ev->ticket != a->ticket_fix)
		return false;
	a->ticket_fix = 0;
	if (a->ev->error != 0) {
		s.code = code_of(a->ev->error);
		if ((result & ENABLING) != 0)
			MSG_SET(&s, sm_fixed, restarted, true); /* that went well, and 'enable' did not end */
		if (a->ev->error == -EPROTO)
			s.text = "nodeagent-launcher on this node is older than its agent and does not know how to do this: have it "
				 "updated, then: systemctl restart nodeagent-launcher";
	} else {
		MSG_SET(&s, sm_fixed, exit_code, result & 255);
		MSG_SET(&s, sm_fixed, restarted, result == 0 || (result & ENABLING) != 0);
		if ((result & 255) != 0)
			s.code = "failed";
		if (s.text != NULL && *s.text == '\0')
			s.text = NULL;
	}
	answer(a, a->fix_rid, &s);
	return true;
}
