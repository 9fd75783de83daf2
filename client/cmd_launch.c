/* cmd_launch.c - nodectl launch: options into a specification and a request
 *
 * Everything that can be wrong on the command line is found here, before the
 * agent hears a word. What happens then is session.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/commands.h"
#include "client/launch.h"
#include "client/net_plan.h"
#include "common/base64.h"
#include "common/hostlist.h"
#include "common/json.h"
#include "proto/spec.h"

enum {
	NODES = 1, HOSTS, EXCLUDE, GPUS, BUSY_GPUS, PER_NODE, PER_GPU, PROCS, ENV, CLEAN_ENV, CWD, NAME, DETACH,
	STDIN, TIME, GRACE, IMMEDIATE, DRY_RUN, LABEL, NO_LABEL,
	MAX_RESTARTS, RESTART_ON, SPARES, ON_HANG, NET, NO_PREFLIGHT,
};

static const struct opt opts[] = {
	{ NODES, 'N', "nodes", "N", "how many nodes (default: 1, or all of -w)" },
	{ HOSTS, 'w', "hosts", "HOSTLIST", "on these nodes: gpu[01-04,07]" },
	{ EXCLUDE, 'x', "exclude", "HOSTLIST", "not on these nodes" },
	{ GPUS, 'G', "gpus-per-node", "N", "N GPUs of each node for this job alone (default: all; 0: none)" },
	{ BUSY_GPUS, 0, "busy-gpus", NULL, "also GPUs that processes of no job use" },
	{ PER_NODE, 0, "per-node", NULL, "one process on each node (default)" },
	{ PER_GPU, 0, "per-gpu", NULL, "one process for each GPU; needs -G N" },
	{ PROCS, 0, "procs-per-node", "K", "K processes on each node" },
	{ ENV, 0, "env", "NAME[=VALUE]", "set a variable, or pass on one that is dropped otherwise" },
	{ CLEAN_ENV, 0, "clean-env", NULL, "pass on only HOME USER LOGNAME SHELL PATH LANG LC_* TERM TZ" },
	{ CWD, 0, "cwd", "DIR", "working directory (default: this one)" },
	{ NAME, 0, "name", "TEXT", "what the job is called" },
	{ DETACH, 0, "detach", NULL, "print 'job ID' and leave" },
	{ STDIN, 0, "stdin", NULL, "standard input goes to rank 0" },
	{ TIME, 0, "time", "T", "end the job after 30m, 12h, 2d, 1:30:00 ..." },
	{ GRACE, 0, "grace", "S", "time from SIGTERM to SIGKILL (default 30s)" },
	{ IMMEDIATE, 0, "immediate", NULL, "now or not at all: do not wait in the queue" },
	{ MAX_RESTARTS, 0, "max-restarts", "N", "start the job again, up to N times, when a node is lost (default 0)" },
	{ RESTART_ON, 0, "restart-on", "node|any", "any: also when a process has failed (default: node)" },
	{ SPARES, 0, "spares", "K", "hold K further nodes, idle, for restarts" },
	{ NET, 0, "net", "auto|ib|socket", "NCCL's network between nodes; ib: fail rather than use sockets (default: auto)" },
	{ ON_HANG, 0, "on-hang", "[stacks,]report|kill|restart", "what is done about a job that hangs (default: report)" },
	{ DRY_RUN, 0, "dry-run", NULL, "show what would be started, and start nothing" },
	{ LABEL, 0, "label", NULL, "begin each line of output with [node:rank]" },
	{ NO_LABEL, 0, "no-label", NULL, "never do (default: when there is more than one process)" },
	{ NO_PREFLIGHT, 0, "no-preflight", NULL, NULL },
	{ 0 },
};

/* Options of later versions are refused: ignoring one would be a silent lie. */
static int not_yet(const struct ctl *c, int id)
{
	(void)id;
	return ctl_usage(c, "--no-preflight is not in this version: there is no preflight to leave out");
}

static int take_list(const struct ctl *c, const char *option, const char *text, struct hostlist *h)
{
	struct err e;

	hostlist_finish(h);
	memset(h, 0, sizeof(*h));
	if (hostlist_parse(text, h, &e) < 0)
		return ctl_usage(c, "%s: %s", option, e.text);
	return CTL_GO;
}

static int take_number(const struct ctl *c, const char *option, const char *text, uint64_t min,
		       uint64_t max, uint32_t *ret)
{
	uint64_t n;
	struct err e;

	if (opts_uint(option, text, min, max, &n, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	*ret = (uint32_t)n;
	return CTL_GO;
}

static int take_time(const struct ctl *c, int id, const char *text, struct rec_submit *m)
{
	uint64_t ms;
	struct err e;

	if (opts_duration(id == TIME ? "--time" : "--grace", text,
			  id == TIME ? UINT64_C(31536000000) : 86400000, &ms, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	if (id == GRACE) {
		MSG_SET(m, submit, grace_ms, (uint32_t)ms);
		return CTL_GO;
	}
	if (!ms)
		return ctl_usage(c, "--time %s leaves no time at all", text);
	m->time_s = (uint32_t)((ms + 999) / 1000);
	return CTL_GO;
}

static int take_name(const struct ctl *c, const char *text, struct rec_submit *m)
{
	size_t n = strlen(text);

	if (!n || n > 128 || !utf8_valid(text, n))
		return ctl_usage(c, "--name takes 1 to 128 bytes of UTF-8");
	m->name = text;
	return CTL_GO;
}

static int take_restart_on(const struct ctl *c, const char *text, struct rec_submit *m)
{
	m->restart_any = strcmp(text, "any") == 0;
	m->has |= MSG_BIT(submit, restart_any); /* it was said */
	if (!m->restart_any && strcmp(text, "node") != 0)
		return ctl_usage(c, "--restart-on takes node (a node was lost) or any (a process has failed, too), not %s",
				 text);
	return CTL_GO;
}

static int take_net(const struct ctl *c, const char *text, struct rec_submit *m)
{
	m->net = strcmp(text, "auto") == 0 ? NULL : text;
	if (m->net && strcmp(text, "ib") != 0 && strcmp(text, "socket") != 0)
		return ctl_usage(c, "--net takes auto, ib (InfiniBand or RoCE, never sockets) or socket (TCP), not %s", text);
	return CTL_GO;
}

static int take_on_hang(const struct ctl *c, const char *text, struct rec_submit *m)
{
	static const char *const words[] = { "stacks", "report", "kill", "restart" };
	const char *p = text;

	m->on_hang = NULL;
	m->hang_stacks = false;
	while (true) {
		size_t len = strcspn(p, ","), i = 0;

		while (i < 4 && !(strlen(words[i]) == len && strncmp(p, words[i], len) == 0))
			i++;
		if (i == 4 || (i == 0 ? m->hang_stacks : m->on_hang != NULL))
			return ctl_usage(c, "--on-hang takes report (tell who is behind), kill (end the job) or restart (start it "
					    "again, with --max-restarts), and stacks before it (stacks,kill), not %s", text);
		if (i == 0)
			m->hang_stacks = true;
		else
			m->on_hang = words[i];
		if (p[len] == '\0')
			break;
		p += len + 1;
	}
	if (m->on_hang == NULL)
		m->on_hang = "report";
	return CTL_GO;
}

static int add_env(struct launch *w, const char *value)
{
	const char **more = realloc(w->choices, (w->n_choices + 1) * sizeof(*more));

	if (!more)
		return ctl_fail(EXIT_REFUSED, "out of memory");
	more[w->n_choices++] = value;
	w->choices = more;
	return CTL_GO;
}

static int take_option(struct ctl *c, int id, const char *value, struct launch *w)
{
	struct rec_submit *m = &w->request.u.submit;

	switch (id) {
	case NODES:
		return take_number(c, "-N", value, 1, 65536, &m->nnodes);
	case HOSTS:
		m->hosts = value;
		return take_list(c, "-w", value, &w->hosts);
	case EXCLUDE:
		m->exclude = value;
		return take_list(c, "-x", value, &w->exclude);
	case GPUS:
		m->has |= MSG_BIT(submit, gpus_per_node); /* 0 is an answer, too */
		return take_number(c, "-G", value, 0, 1024, &m->gpus_per_node);
	case BUSY_GPUS:
		m->busy_gpus = true;
		return CTL_GO;
	case PER_NODE:
		w->per_node = true;
		return CTL_GO;
	case PER_GPU:
		w->per_gpu = true;
		return CTL_GO;
	case PROCS:
		return take_number(c, "--procs-per-node", value, 1, 4096, &m->procs_per_node);
	case ENV:
		return add_env(w, value);
	case CWD:
		w->cwd = value;
		return CTL_GO;
	case NAME:
		return take_name(c, value, m);
	case TIME:
	case GRACE:
		return take_time(c, id, value, m);
	case CLEAN_ENV:
		w->clean_env = true;
		return CTL_GO;
	case DETACH:
		w->detach = true;
		return CTL_GO;
	case STDIN:
		m->with_stdin = true;
		return CTL_GO;
	case IMMEDIATE:
		m->immediate = true;
		return CTL_GO;
	case MAX_RESTARTS:
		return take_number(c, "--max-restarts", value, 0, 1000, &m->max_restarts);
	case RESTART_ON:
		return take_restart_on(c, value, m);
	case NET:
		return take_net(c, value, m);
	case SPARES:
		return take_number(c, "--spares", value, 0, 64, &m->spares);
	case ON_HANG:
		return take_on_hang(c, value, m);
	case DRY_RUN:
		w->dry_run = true;
		return CTL_GO;
	case LABEL:
	case NO_LABEL:
		w->labels = id == LABEL ? LABELS_ON : LABELS_OFF;
		return CTL_GO;
	default:
		return not_yet(c, id);
	}
}

/* "-w gpu[01-04] -x gpu03" means three nodes. */
static uint32_t count_hosts(const struct launch *w)
{
	uint32_t n = 0;

	for (size_t i = 0; i < w->hosts.count; i++)
		n += !hostlist_has(&w->exclude, w->hosts.names[i]);
	return n;
}

static int check_nodes(const struct ctl *c, struct launch *w)
{
	struct rec_submit *m = &w->request.u.submit;

	if (w->hosts.count && m->nnodes > w->hosts.count)
		return ctl_usage(c, "-N %u asks for more nodes than -w %s names (%zu)", m->nnodes, m->hosts,
				 w->hosts.count);
	if (m->spares && w->hosts.count && !m->nnodes)
		return ctl_usage(c, "--spares %u with -w: say with -N how many of these nodes the job runs on", m->spares);
	if (w->hosts.count && m->nnodes + m->spares > count_hosts(w))
		return ctl_usage(c, "-N %u and --spares %u ask for more nodes than -w %s leaves (%u)", m->nnodes,
				 m->spares, m->hosts, count_hosts(w));
	if (w->hosts.count && !m->nnodes) {
		m->nnodes = count_hosts(w);
		if (!m->nnodes)
			return ctl_usage(c, "-x %s leaves none of -w %s", m->exclude, m->hosts);
	}
	if (!m->nnodes)
		m->nnodes = 1;
	return CTL_GO;
}

/* How many processes on each node, and that the command is made for it. */
static int check_processes(const struct ctl *c, struct launch *w)
{
	struct rec_submit *m = &w->request.u.submit;
	const char *starter;

	if (w->per_node + w->per_gpu + (m->procs_per_node != 0) > 1)
		return ctl_usage(c, "--per-node, --per-gpu and --procs-per-node exclude each other");
	if (m->busy_gpus && MSG_HAS(m, submit, gpus_per_node) && !m->gpus_per_node)
		return ctl_usage(c, "--busy-gpus says which GPUs may be used, and -G 0 that none are wanted");
	if (w->per_gpu) {
		if (!m->gpus_per_node)
			return ctl_usage(c, "--per-gpu needs to know how many GPUs that are: give -G N with it");
		starter = launch_own_workers(w->argv);
		if (starter)
			return ctl_usage(c, "%s starts a worker for each GPU by itself: leave --per-gpu out, so that "
					    "it is started once on each node", starter);
		m->procs_per_node = m->gpus_per_node;
	}
	m->per_node = !m->procs_per_node;
	if (!m->procs_per_node)
		m->procs_per_node = 1;
	return CTL_GO;
}

static int check_restarts(const struct ctl *c, const struct rec_submit *m)
{
	if (!m->max_restarts && (m->spares || MSG_HAS(m, submit, restart_any)))
		return ctl_usage(c, "%s means something only with --max-restarts N", m->spares ? "--spares" : "--restart-on");
	if (!m->max_restarts && m->on_hang && strcmp(m->on_hang, "restart") == 0)
		return ctl_usage(c, "--on-hang restart needs --max-restarts N: how often, at most");
	if (m->max_restarts && m->with_stdin)
		return ctl_usage(c, "--stdin can be read once only: a job with --max-restarts cannot have it");
	return CTL_GO;
}

/* What single options cannot know of each other. */
static int check(const struct ctl *c, struct launch *w)
{
	int r;

	if (w->detach && w->request.u.submit.with_stdin)
		return ctl_usage(c, "--stdin needs this nodectl to stay; leave --detach out");
	r = check_restarts(c, &w->request.u.submit);
	if (r != CTL_GO)
		return r;
	r = check_nodes(c, w);
	if (r != CTL_GO)
		return r;
	if (!w->argv)
		return ctl_usage(c, "what is to be started? nodectl launch -N 2 -- COMMAND [ARG...]");
	if (!w->argv[0][0])
		return ctl_usage(c, "the command is empty");
	return check_processes(c, w);
}

static int parse(struct ctl *c, struct launch *w)
{
	struct opts o;
	const char *value;
	int id, r;

	ctl_options(c, &o);
	while (!w->argv && (id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == OPT_OPERAND)
			w->argv = c->argv + o.next - 1; /* the rest is the command's */
		else if ((r = take_option(c, id, value, w)) != CTL_GO)
			return r;
	}
	return check(c, w);
}

static int submit(struct ctl *c, struct launch *w, const struct buf *spec)
{
	struct session_conf conf = { .to_end = true, .live = true };
	uint8_t random[16];
	struct link l;
	int r;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return ctl_fail(EXIT_REFUSED, "no random numbers: %s", strerror(errno));
	hex_encode(w->client_id, random, sizeof(random));
	w->request.u.submit.client_id = w->client_id;
	w->request.u.submit.spec_size = (uint32_t)spec->len;
	r = ctl_path(c, w->path, sizeof(w->path));
	if (r == CTL_GO)
		r = ctl_connect(c, &l);
	if (r != CTL_GO)
		return r;
	conf.path = w->path;
	conf.json = c->json;
	conf.labels = w->labels;
	conf.submit = &w->request;
	conf.spec = spec;
	conf.detach = w->detach;
	conf.feed_stdin = w->request.u.submit.with_stdin;
	return session_run(&conf, &l);
}

static int start(struct ctl *c, struct launch *w)
{
	struct buf spec;
	struct err e;
	int r = launch_prepare(w, &e);

	if (r < 0)
		return ctl_usage(c, "%s", e.text);
	r = net_plan_yours(c, w);
	if (r != CTL_GO)
		return r;
	launch_warn(w);
	launch_command_text(w->argv, w->command, sizeof(w->command));
	w->request.u.submit.command = w->command;
	buf_init(&spec);
	r = spec_encode(w->dir, w->argv, w->env.env, &spec, &e);
	if (r < 0)
		r = ctl_usage(c, "%s", e.text);
	else if (w->dry_run)
		r = launch_dry_run(c, w);
	else
		r = submit(c, w, &spec);
	buf_finish(&spec);
	return r;
}

static int run(struct ctl *c)
{
	struct launch w = { 0 };
	int r;

	msg_init(&w.request, MSG_submit);
	r = parse(c, &w);
	if (r == CTL_GO)
		r = start(c, &w);
	hostlist_finish(&w.hosts);
	hostlist_finish(&w.exclude);
	envset_finish(&w.env);
	free(w.choices);
	free(w.dir);
	free(w.warnings);
	for (size_t i = 0; w.yours && i < w.request.u.submit.n_net_yours; i++)
		free(w.yours[i]);
	free(w.yours);
	return r;
}

const struct command cmd_launch = {
	.verb = "launch",
	.args = "[options] [--] COMMAND [ARG...]",
	.brief = "start a command on nodes and follow it to its end",
	.help = "Starts COMMAND on the nodes, shows its output and ends with its exit code: that of the first "
		"process that failed (128 + signal if it was killed), 0 when all succeed. The job does not need "
		"this program: it goes on when the terminal closes, and nodectl attach comes back to it. ^C tells "
		"what runs; a second one within 3 s ends the job.",
	.opts = opts,
	.run = run,
};
