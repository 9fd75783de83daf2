/* cmd_kill.c - nodectl kill ID: ends a job */
#include <inttypes.h>
#include <stdio.h>

#include "client/commands.h"

enum { GRACE = 1 };
static const struct opt opts[] = {
	{ GRACE, 0, "grace", "S", "time from SIGTERM to SIGKILL (default: the job's own, 30s)" },
	{ 0 },
};

static int report(const struct ctl *c, uint64_t job, const struct rec_ok *ok)
{
	char text[64];
	struct out *o;
	struct buf b;

	snprintf(text, sizeof(text), "job %" PRIu64 " is being ended", job);
	o = ctl_out(c, &b);
	out_uint(o, "job", NULL, job);
	out_data(o, "text", ok->text && *ok->text ? ok->text : text);
	return ctl_print(o, &b);
}

static int send(const struct ctl *c, struct msg *m)
{
	struct link l;
	struct msg answer;
	int r = ctl_connect(c, &l);

	if (r != CTL_GO)
		return r;
	m->u.kill.rid = link_id(&l);
	r = ctl_call(&l, m, m->u.kill.rid, MSG_ok, &answer);
	if (r == CTL_GO) {
		r = report(c, m->u.kill.job, &answer.u.ok);
		msg_finish(&answer);
	}
	link_close(&l);
	return r;
}

static int run(struct ctl *c)
{
	struct opts o;
	struct msg m;
	const char *value;
	uint64_t ms;
	struct err e;
	int id, out;

	msg_init(&m, MSG_kill);
	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &out)) != OPT_END) {
		if (out != CTL_GO)
			return out;
		if (id == GRACE) {
			if (opts_duration("--grace", value, 86400000, &ms, &e) < 0)
				return ctl_usage(c, "%s", e.text);
			MSG_SET(&m.u.kill, kill, grace_ms, (uint32_t)ms);
			continue;
		}
		if (m.u.kill.job)
			return ctl_usage(c, "one job at a time: nodectl kill %s", c->cmd->args);
		if ((out = ctl_job_id(c, value, &m.u.kill.job)) != CTL_GO)
			return out;
	}
	if (!m.u.kill.job)
		return ctl_usage(c, "which job? nodectl jobs lists them");
	m.u.kill.why = "ended with nodectl kill";
	return send(c, &m);
}

const struct command cmd_kill = {
	.verb = "kill",
	.args = "[--grace S] ID",
	.brief = "end a job: SIGTERM to all its processes, then SIGKILL",
	.help = "Ends a job. All its processes get SIGTERM at once, and SIGKILL when the grace is over. "
		"Only a job's owner and the administrator may do that.",
	.opts = opts,
	.run = run,
};
