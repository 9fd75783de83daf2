/* cmd_fix_sm.c - nodectl fix sm: the subnet manager found, restarted on its host, the ports waited for
 *
 * The coordinator finds it, and has it restarted by the launcher of its host where root allows that
 * there. Root on that very host needs nobody's leave: what the launcher may not do is then done here,
 * with the same systemctl and the same fixed words. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/fix_ports.h"
#include "client/status.h"
#include "common/sm_unit.h"
#include "proto/features.h"

#define WAIT_MS 60000
#define WAIT_MAX_MS 3600000

enum { HOST = 1, ENABLE, WAIT };
static const struct opt opts[] = {
	{ HOST, 'w', "host", "NODE", "the manager on this node (default: wherever it is)" },
	{ ENABLE, 0, "enable", NULL, "for the next boot, too" },
	{ WAIT, 0, "wait", "TIME", "for the ports to become Active, at most (default 60s; 0: not at all)" },
	{ 0 },
};

struct wish {
	const char *host;
	bool enable;
	uint64_t wait_ms;
	/* found */
	struct ctl via; /* how the coordinator is spoken to */
	struct command admin;
	bool coordinator; /* ... on its own socket */
	char node[65], unit[17];
	bool was_running, was_enabled;
	/* done */
	bool here; /* by ourselves, not by the launcher */
	bool unsure; /* it may still be going on */
	char trouble[1025]; /* it was restarted, and something else went wrong */
};

/* ---- asking -------------------------------------------------------------------------- */

/* The coordinator's own socket where it is there and may be used, else the agent's. */
static void find_way(struct ctl *c, struct wish *w)
{
	char path[4096];

	w->admin = *c->cmd;
	w->admin.admin = true;
	w->via = *c;
	w->via.cmd = &w->admin;
	if (c->socket || ctl_path(&w->via, path, sizeof(path)) != CTL_GO || access(path, R_OK | W_OK) != 0)
		w->via.cmd = c->cmd;
}

static int ask(struct wish *w, const char *node, bool look, struct msg *ret)
{
	struct msg m;
	struct link l;
	int r = ctl_connect(&w->via, &l);

	if (r != CTL_GO)
		return r;
	w->coordinator = strcmp(l.node, "coordinator") == 0;
	if (!(l.features & FEATURE_FIX_SM)) {
		link_close(&l);
		return ctl_fail(EXIT_REFUSED, "the %s here (version %s) is older than this command: have it updated",
				w->coordinator ? "coordinator" : "agent", l.software);
	}
	msg_init(&m, MSG_sm_fix);
	m.u.sm_fix.rid = link_id(&l);
	m.u.sm_fix.node = node;
	if (look)
		MSG_SET(&m.u.sm_fix, sm_fix, look, true);
	if (w->enable)
		MSG_SET(&m.u.sm_fix, sm_fix, enable, true);
	r = ctl_call(&l, &m, m.u.sm_fix.rid, MSG_sm_fixed, ret);
	link_close(&l);
	return r;
}

static int find(struct wish *w)
{
	const struct rec_sm_fixed *f;
	struct msg m = { 0 };
	int r = ask(w, w->host, true, &m);

	if (r != CTL_GO)
		return r;
	f = &m.u.sm_fixed;
	for (size_t i = 0; i < f->n_found; i++)
		ctl_say("%s", f->found[i]);
	snprintf(w->node, sizeof(w->node), "%s", f->node ? f->node : "");
	snprintf(w->unit, sizeof(w->unit), "%s", f->unit ? f->unit : "");
	w->was_running = f->running;
	w->was_enabled = f->enabled;
	if (f->code || !f->node || !sm_unit_of(f->unit))
		r = ctl_fail(EXIT_REFUSED, "%s", f->text ? f->text : "no subnet manager was found");
	msg_finish(&m);
	return r;
}

/* ---- restarting ---------------------------------------------------------------------- */

/* Are we root on the manager's own host? Its agent says whose host this is. */
static bool root_is_here(struct ctl *c, const struct wish *w)
{
	bool here = false;
	char path[4096];
	struct link l;
	struct err e;

	if (geteuid() != 0 || ctl_path(c, path, sizeof(path)) != CTL_GO)
		return false;
	link_init(&l);
	if (link_open(&l, path, &e) == 0) {
		here = strcmp(l.node, w->node) == 0;
		link_close(&l);
	}
	return here;
}

static int restart_here(struct wish *w)
{
	struct sm_ran ran;
	struct err e;
	int r;

	ctl_say("restarting %s here, as root, %d s at most", w->unit, SM_RESTART_MS / 1000);
	w->here = true;
	r = sm_unit_restart(sm_unit_of(w->unit), w->enable, &ran, &e);
	if (r == -ETIME) {
		w->unsure = !ran.enabling;
		snprintf(w->trouble, sizeof(w->trouble), "%s", e.text);
		return CTL_GO;
	}
	if (r < 0)
		return ctl_fail(EXIT_REFUSED, "%s", e.text);
	if (ran.code == 0)
		return CTL_GO;
	snprintf(w->trouble, sizeof(w->trouble), "systemctl %s %s ended with %u%s%s", ran.enabling ? "enable" : "restart", w->unit,
		 ran.code, *ran.last ? ": " : "; see: journalctl -u ", *ran.last ? ran.last : w->unit);
	return ran.enabling ? CTL_GO : ctl_fail(EXIT_REFUSED, "%s", w->trouble);
}

/* What root here may do by itself, when nobody else can for it: why not. NULL: it is something else. */
static const char *about_rights(const char *code)
{
	static const char *const codes[][2] = {
		{ "off", "root has not allowed it to the launcher there" },
		{ "no-launcher", "its agent has no nodeagent-launcher" },
		{ "old", "its agent or its launcher is older than this command" },
	};

	for (size_t i = 0; code && i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strcmp(codes[i][0], code) == 0)
			return codes[i][1];
	return NULL;
}

static int restart(struct ctl *c, struct wish *w)
{
	const struct rec_sm_fixed *f;
	const char *rights;
	struct msg m = { 0 };
	int r;

	if (!w->coordinator)
		return root_is_here(c, w) ? restart_here(w) :
			ctl_fail(EXIT_REFUSED, "restarting it is for administrators: run this on the coordinator's host, as root or a "
				 "member of the group nodeagent-admin; or type as root:  %s# systemctl restart %s%s%s", w->node, w->unit,
				 w->enable ? " && systemctl enable " : "", w->enable ? w->unit : "");
	ctl_say("restarting %s on %s by its launcher, %d s at most", w->unit, w->node, SM_RESTART_MS / 1000);
	r = ask(w, w->node, false, &m);
	if (r == EXIT_UNREACHABLE)
		ctl_say("what becomes of it is an event: nodectl events -k fix; or look on %s: systemctl status %s", w->node, w->unit);
	if (r != CTL_GO)
		return r;
	f = &m.u.sm_fixed;
	snprintf(w->trouble, sizeof(w->trouble), "%s", f->code && f->text ? f->text : "");
	w->unsure = f->code && (strcmp(f->code, "late") == 0 || strcmp(f->code, "unknown") == 0) && !f->restarted;
	rights = about_rights(f->code);
	if (rights && root_is_here(c, w)) {
		ctl_say("the launcher of %s does not do it: %s", w->node, rights);
		*w->trouble = '\0';
		r = restart_here(w);
	} else if (!f->restarted && !w->unsure) {
		r = ctl_fail(EXIT_REFUSED, "%s", *w->trouble ? w->trouble : "it was not restarted");
	}
	msg_finish(&m);
	return r;
}

/* ---- told ---------------------------------------------------------------------------- */

static int print(struct ctl *c, const struct wish *w, const struct fix_ports *before, const struct fix_ports *now, int64_t ms)
{
	struct buf b;
	struct out *o = ctl_out(c, &b);
	bool enabled = w->was_enabled || (w->enable && !*w->trouble);
	char text[400], ports[200];

	if (now->waiting > 0)
		snprintf(ports, sizeof(ports), "%zu port%s not Active", now->waiting, now->waiting == 1 ? " is" : "s are");
	else if (before->waiting > 0)
		snprintf(ports, sizeof(ports), "%zu port%s that waited %s Active after %.1f s (%zu of %zu)", before->waiting,
			 before->waiting == 1 ? "" : "s", before->waiting == 1 ? "is" : "are", (double)ms / 1000, now->active, now->all);
	else
		snprintf(ports, sizeof(ports), "no port waited for it (%zu of %zu are Active)", now->active, now->all);
	snprintf(text, sizeof(text), "%s on %s %s%s: %s", w->unit, w->node, w->unsure ? "is being restarted" : "was restarted",
		 w->enable && !*w->trouble ? " and enabled" : "", ports);

	out_str(o, "node", NULL, w->node);
	out_str(o, "unit", NULL, w->unit);
	out_str(o, "by", NULL, w->here ? "root" : "launcher");
	out_bool(o, "was_running", NULL, w->was_running);
	out_bool(o, "enabled", NULL, enabled);
	out_str(o, "trouble", NULL, *w->trouble ? w->trouble : NULL);
	out_uint(o, "waited_for", NULL, before->waiting);
	out_uint(o, "waiting", NULL, now->waiting);
	out_uint(o, "active", NULL, now->active);
	out_uint(o, "ports", NULL, now->all);
	out_num(o, "seconds", NULL, (double)ms / 1000);
	out_data(o, "text", text);
	return ctl_print(o, &b);
}

static int wait_and_tell(struct ctl *c, struct wish *w, const struct fix_ports *before)
{
	struct fix_ports now;
	int64_t ms = 0;
	int r, printed;

	if (*w->trouble)
		ctl_say("warning: %s", w->trouble);
	else if (!w->enable && !w->was_enabled)
		ctl_say("warning: %s is not enabled: after the next boot it does not run; nodectl fix sm --enable", w->unit);
	fix_ports_init(&now);
	r = w->wait_ms > 0 ? fix_ports_wait(&w->via, w->wait_ms, &now, &ms) : fix_ports_look(&w->via, &now);
	if (r == CTL_GO) {
		printed = print(c, w, before, &now, ms);
		if (now.waiting > 0 && w->wait_ms > 0)
			fix_ports_say_left(&w->via, before, w->node, w->unit);
		if (now.waiting > 0 && w->wait_ms > 0)
			r = ctl_fail(EXIT_REFUSED, "after %llu s %zu port%s still not Active: %s", (unsigned long long)w->wait_ms / 1000,
				     now.waiting, now.waiting == 1 ? " is" : "s are", buf_str(&now.names));
		else
			r = printed != 0 ? printed : *w->trouble ? EXIT_REFUSED : 0;
	}
	fix_ports_finish(&now);
	return r;
}

static int fix(struct ctl *c, struct wish *w)
{
	struct fix_ports before;
	int r;

	find_way(c, w);
	fix_ports_init(&before);
	r = fix_ports_look(&w->via, &before);
	if (r == CTL_GO && before.all == 0 && status_has_none(&w->via, "ib."))
		ctl_say("no node of this cluster has an RDMA port: there is nothing that a subnet manager would configure");
	if (r == CTL_GO)
		r = find(w);
	if (r == CTL_GO)
		r = restart(c, w);
	if (r == CTL_GO)
		r = wait_and_tell(c, w, &before);
	fix_ports_finish(&before);
	return r;
}

static int run(struct ctl *c)
{
	struct wish w = { .wait_ms = WAIT_MS };
	const char *value;
	struct opts o;
	struct err e;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == HOST)
			w.host = value;
		else if (id == ENABLE)
			w.enable = true;
		else if (id == WAIT && strcmp(value, "0") == 0)
			w.wait_ms = 0;
		else if (id == WAIT && opts_duration("--wait", value, WAIT_MAX_MS, &w.wait_ms, &e) < 0)
			return ctl_usage(c, "%s", e.text);
		else if (id == OPT_OPERAND)
			return ctl_usage(c, "\"%s\" is one word too many: nodectl %s %s", value, c->cmd->verb, c->cmd->args);
	}
	return fix(c, &w);
}

const struct command cmd_fix_sm = {
	.verb = "fix sm",
	.args = "[--enable] [-w NODE] [--wait TIME]",
	.brief = "restart the subnet manager, and wait for the ports (administrator)",
	.help = "Tells where the InfiniBand subnet manager is, has opensm or opensmd restarted on its node, and waits until no "
		"port is Initializing or Armed any more. On the coordinator's host, for root and the group nodeagent-admin: the "
		"launcher of that node does it where root has allowed it there (touch /etc/nodeagent/allow-fix-sm). Root on the "
		"manager's own node needs neither. Anybody else is told where it is and what to type.",
	.opts = opts,
	.run = run,
};
