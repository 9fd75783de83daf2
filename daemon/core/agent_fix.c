/* agent_fix.c - the coordinator's order to restart the subnet manager here, passed to the launcher
 *
 * Numbers in, an exit status and a line out. Whether it may be done is the launcher's word,
 * not ours: this agent has no rights. It remembers nothing either: when it was restarted meanwhile
 * the coordinator asks ('tell') what became of its order, and the launcher knows the last one.
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
	if (a->ticket_fix != 0 && r->order != 0 && r->order == a->fix_order) {
		a->fix_rid = r->rid; /* the session was another when it began */
		return;
	}
	if (a->ticket_fix != 0) {
		refuse(a, r->rid, "busy", "the subnet manager is being restarted on this node already");
		return;
	}
	x = act_add(a->out, ACT_FIX_SM);
	x->unit = r->unit;
	x->enable = r->enable;
	x->order = a->fix_order = r->order;
	x->tell = a->fix_tell = r->tell;
	a->fix_rid = r->rid;
	a->fix_unit = r->unit;
	a->ticket_fix = x->ticket = ++a->next_ticket;
}

static const char *code_of(int error)
{
	switch (error) {
	case -EPERM:
		return "off";
	case -EPROTO: /* "does not know operation 6" */
	case -EINVAL: /* nor the number of an order */
		return "old";
	case -ENOENT:
	case -EPIPE: /* its child goes on */
		return "unknown";
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

static bool is_old(int error)
{
	return error == -EPROTO || error == -EINVAL;
}

/* Who could not be asked has not said no. */
static void say_error(struct agent *a, struct rec_sm_fixed *s)
{
	int error = a->ev->error;

	s->code = code_of(error);
	if (error == -EPIPE || (a->fix_tell && (is_old(error) || error == -EAGAIN))) {
		s->code = "unknown";
		s->text = arena_printf(&a->out->arena, "nodeagent-launcher on %s has ended meanwhile; whether it was carried out: systemctl "
				       "status %s", a->node, sm_unit_name(a->fix_unit));
	} else if (is_old(error)) {
		s->text = "nodeagent-launcher on this node is older than its agent and does not know how to do this: have it "
			  "updated, then: systemctl restart nodeagent-launcher";
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
		say_error(a, &s);
		if ((result & ENABLING) != 0)
			MSG_SET(&s, sm_fixed, restarted, true); /* that went well, and 'enable' did not end */
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
