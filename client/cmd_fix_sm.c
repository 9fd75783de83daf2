/* cmd_fix_sm.c - nodectl fix sm: the subnet manager's host found, the manager restarted, the ports waited for
 *
 * Restarted by root on that very host only; else the command to type there is
 * told. systemctl is named by its whole path and given fixed words. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/status.h"

#define WAIT_MS 60000
#define WAIT_MAX_MS 3600000
#define LOOK_MS 500
#define SYSTEMCTL "/usr/bin/systemctl"

enum { HOST = 1, ENABLE, WAIT };
static const struct opt opts[] = {
	{ HOST, 'w', "host", "NODE", "the manager on this node (default: the only one there is)" },
	{ ENABLE, 0, "enable", NULL, "for the next boot, too" },
	{ WAIT, 0, "wait", "TIME", "for the ports to become Active, at most (default 60s; 0: not at all)" },
	{ 0 },
};

struct wish {
	const char *host;
	bool enable;
	uint64_t wait_ms;
	char node[65], unit[17]; /* found */
	bool running, enabled;
};

/* ---- where it is ------------------------------------------------------------------- */

static const struct rec_host *sm_of(const struct rec_node_info *n)
{
	return n->n_host && n->host->sm ? n->host : NULL;
}

static void say_found(const struct rec_status *s)
{
	for (size_t i = 0; i < s->n_nodes; i++) {
		const struct rec_host *h = sm_of(&s->nodes[i]);

		if (h)
			fprintf(stderr, "%s on %s: %s, %s\n", h->sm, s->nodes[i].name, h->sm_running ? "running" : "NOT running",
				h->sm_enabled ? "enabled" : "not enabled for the next boot");
	}
}

/* The one named; else the only one; else, of several, the only one that runs or is enabled. */
static const struct rec_node_info *choose(const struct rec_status *s, const char *host)
{
	const struct rec_node_info *best = NULL;
	unsigned best_rank = 0, equal = 0;

	for (size_t i = 0; i < s->n_nodes; i++) {
		const struct rec_host *h = sm_of(&s->nodes[i]);
		unsigned rank = !h ? 0 : 1 + (h->sm_enabled ? 1u : 0) + (h->sm_running ? 2u : 0);

		if (host && strcmp(host, s->nodes[i].name) != 0)
			continue;
		equal = rank > best_rank ? 1 : equal + (rank > 0 && rank == best_rank);
		if (rank > best_rank) {
			best = &s->nodes[i];
			best_rank = rank;
		}
	}
	return equal == 1 ? best : NULL;
}

static int find(struct ctl *c, struct wish *w, const struct rec_status *s)
{
	const struct rec_node_info *n = choose(s, w->host);
	size_t some = 0;

	if (w->host && !status_node(s, w->host))
		return status_no_node(c, s, w->host);
	say_found(s);
	for (size_t i = 0; i < s->n_nodes; i++)
		some += sm_of(&s->nodes[i]) != NULL;
	if (w->host && !n)
		return ctl_fail(EXIT_REFUSED, "neither opensm nor opensmd is installed as a service on %s, as far as its probe can see",
				w->host);
	if (!some)
		return ctl_fail(EXIT_REFUSED, "no node has opensm or opensmd installed as a service, as far as their probes can see: the "
				"manager is on a switch, on a host outside the cluster, or there is none; ask for it with: sminfo");
	if (!n)
		return ctl_fail(EXIT_REFUSED, "several nodes have a subnet manager; name one: nodectl fix sm -w NODE");
	snprintf(w->node, sizeof(w->node), "%s", n->name);
	snprintf(w->unit, sizeof(w->unit), "%s", sm_of(n)->sm);
	w->running = sm_of(n)->sm_running;
	w->enabled = sm_of(n)->sm_enabled;
	if (strcmp(w->unit, "opensm") != 0 && strcmp(w->unit, "opensmd") != 0)
		return ctl_fail(EXIT_REFUSED, "%s names a subnet manager that is not known here", n->name);
	return CTL_GO;
}

/* ---- restarting ---------------------------------------------------------------------- */

static int systemctl(const char *verb, const char *unit)
{
	char *argv[] = { (char *)"systemctl", (char *)verb, (char *)unit, NULL };
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		execve(SYSTEMCTL, argv, env);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return ctl_fail(EXIT_REFUSED, "%s %s %s failed; see: journalctl -u %s", SYSTEMCTL, verb, unit, unit);
	fprintf(stderr, "%s: %s %s done\n", unit, verb, unit);
	return CTL_GO;
}

static bool is_here(const struct ctl *c, const char *node)
{
	bool here = false;
	struct link l;

	if (ctl_connect(c, &l) == CTL_GO) {
		here = strcmp(l.node, node) == 0;
		link_close(&l);
	}
	return here;
}

static int restart(const struct ctl *c, const struct wish *w)
{
	int r;

	if (geteuid() != 0 || !is_here(c, w->node)) {
		fprintf(stderr, "restarting it takes root on its host; type there:  %s# systemctl restart %s%s%s\n", w->node, w->unit,
			w->enable ? " && systemctl enable " : "", w->enable ? w->unit : "");
		return EXIT_REFUSED;
	}
	r = systemctl("restart", w->unit);
	if (r == CTL_GO && w->enable)
		r = systemctl("enable", w->unit);
	else if (r == CTL_GO && !w->enabled)
		fprintf(stderr, "warning: %s is not enabled: after the next boot it does not run; nodectl fix sm --enable\n", w->unit);
	return r;
}

/* ---- waiting --------------------------------------------------------------------------- */

static bool waits(const struct rec_port *p)
{
	bool ib = !p->link_layer || strcmp(p->link_layer, "Ethernet") != 0;

	return ib && !p->excluded && p->state && (strcmp(p->state, "Initializing") == 0 || strcmp(p->state, "Armed") == 0);
}

/* "gpu01 mlx5_0 Initializing, ..." and how many. */
static size_t list_waiting(const struct rec_status *s, struct buf *b)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_nodes; i++)
		for (size_t k = 0; k < s->nodes[i].n_port_list; k++) {
			const struct rec_port *p = &s->nodes[i].port_list[k];

			if (!waits(p))
				continue;
			if (n++ < 4)
				buf_addf(b, "%s%s %s %s", n > 1 ? ", " : "", s->nodes[i].name, p->device, p->state);
		}
	if (n > 4)
		buf_addf(b, " and %zu more", n - 4);
	return n;
}

static int look(const struct ctl *c, struct buf *b, size_t *ret_n)
{
	struct gathered g;
	int r = status_get(c, &(struct status_wish){ .detail = true }, &g);

	if (r != CTL_GO)
		return r;
	buf_reset(b);
	*ret_n = list_waiting(&g.all.u.status, b);
	gather_finish(&g);
	return CTL_GO;
}

static int wait_for_ports(const struct ctl *c, const struct wish *w)
{
	mono_t end = mono_add_ms(mono_now(), (int64_t)w->wait_ms);
	size_t n = 0, before = SIZE_MAX;
	struct buf b;
	int r;

	buf_init(&b);
	for (;;) {
		r = look(c, &b, &n);
		if (r != CTL_GO || n == 0 || mono_due(end, mono_now()))
			break;
		if (n != before)
			fprintf(stderr, "waiting for %zu port%s: %s\n", n, n == 1 ? "" : "s", buf_str(&b));
		before = n;
		poll(NULL, 0, LOOK_MS);
	}
	if (r == CTL_GO && n > 0)
		r = ctl_fail(EXIT_REFUSED, "after %llu s %zu port%s still not Active: %s; read its log (journalctl -u %s)",
			     (unsigned long long)w->wait_ms / 1000, n, n == 1 ? " is" : "s are", buf_str(&b), w->unit);
	else if (r == CTL_GO)
		fprintf(stderr, "no port waits for a subnet manager any more\n");
	buf_finish(&b);
	return r;
}

static int fix(struct ctl *c, struct wish *w)
{
	struct gathered g;
	struct out *o;
	struct buf b;
	int r = status_get(c, &(struct status_wish){ .detail = true }, &g);

	if (r != CTL_GO)
		return r;
	r = find(c, w, &g.all.u.status);
	gather_finish(&g);
	if (r == CTL_GO)
		r = restart(c, w);
	if (r == CTL_GO && w->wait_ms > 0)
		r = wait_for_ports(c, w);
	if (r != CTL_GO)
		return r;
	o = ctl_out(c, &b);
	out_str(o, "node", NULL, w->node);
	out_str(o, "unit", NULL, w->unit);
	out_bool(o, "was_running", NULL, w->running);
	out_bool(o, "enabled", NULL, w->enabled || w->enable);
	out_data(o, NULL, "done");
	return ctl_print(o, &b);
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
	.brief = "restart the subnet manager, and wait for the ports",
	.help = "Finds the node where opensm or opensmd is installed as a service, restarts it, and waits until no InfiniBand "
		"port is Initializing or Armed any more. Restarting takes root on that very node; elsewhere the command to "
		"type there is told. A manager on a switch or outside the cluster is not seen.",
	.opts = opts,
	.run = run,
};
