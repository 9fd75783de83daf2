/* cmd_check_nccl.c - nodectl check nccl: the active check of NCCL, as a job like any other
 *
 * Asks which nodes and GPUs there are, works out what they should reach, and
 * starts `nodectl launch ... nodeagent-nccl` as its child: queue, ^C, lost
 * links and all that are launch's affair. What the conductor prints comes
 * through a pipe. What launch says on standard error is shown until the check
 * has begun, and again if no result has come. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/check_base.h"
#include "client/check_nccl.h"
#include "client/commands.h"
#include "client/status.h"
#include "client/term.h"
#include "common/hostlist.h"
#include "common/nccl_base.h"
#include "common/nccl_expect.h"

#define MIB_LEAST 128 /* as nodeagent-nccl */
#define MIB_MOST 1024
#define MIB_A_RANK 8
#define ARGS_MAX 64
#define PORTS_MAX 64
#define KEPT (64u << 10) /* of what launch says */

enum { NODES = 1, HOSTS, EXCLUDE, GPUS, PROCS, ENV_PREFIX, MIB, OPS, TIMEOUT, BISECT, NO_EXPECT, TOLERANCE,
       NO_BASELINE, NEW_BASELINE, HISTORY, VERBOSE };

static const struct opt opts[] = {
	{ NODES, 'N', "nodes", "N", "on N nodes (default: all of -w, else all that can take jobs)" },
	{ HOSTS, 'w', "hosts", "HOSTLIST", "on these nodes: gpu[01-04,07]" },
	{ EXCLUDE, 'x', "exclude", "HOSTLIST", "not on these nodes" },
	{ GPUS, 'G', "gpus-per-node", "N", "N GPUs of each node (default: all)" },
	{ PROCS, 0, "procs-per-node", "K", "K ranks on each node, where nobody manages GPUs" },
	{ ENV_PREFIX, 0, "env", "PREFIX", "NCCL and CUDA of this environment (conda or venv), as your training uses them" },
	{ MIB, 0, "mib", "N", "size of the arrays in MiB, 1 to 4096 (default 128, and 8 for each rank above 16, up to 1024)" },
	{ OPS, 0, "ops", "LIST", "only these of broadcast,reduce,all_reduce,all_gather,reduce_scatter,gather,send_recv" },
	{ TIMEOUT, 0, "timeout", "T", "until an operation counts as hung: 20s (default), 1m ..." },
	{ BISECT, 0, "bisect", NULL, "search for slow nodes and links even if nothing seems slow" },
	{ NO_EXPECT, 0, "no-expect", NULL, "do not compare with what this hardware should reach" },
	{ TOLERANCE, 0, "baseline-tolerance", "PERCENT", "so much below the baseline of earlier runs is not slow yet (default 10)" },
	{ NO_BASELINE, 0, "no-baseline", NULL, "do not compare with earlier runs, and do not keep this one" },
	{ NEW_BASELINE, 0, "new-baseline", NULL, "forget the earlier runs: this one begins the baseline (administrator)" },
	{ HISTORY, 0, "history", NULL, "start nothing: show the runs that are kept (-w: of these nodes)" },
	{ VERBOSE, 'v', "verbose", NULL, "each operation on each node" },
	{ 0 },
};

struct check {
	const char *nodes, *hosts, *exclude, *gpus, *procs, *prefix, *mib, *ops;
	char timeout[12]; /* seconds */
	bool bisect, no_expect, verbose, no_baseline, new_baseline, history, runs_only;
	uint32_t percent; /* of the baseline */
	/* found out */
	char n_nodes[12], n_gpus[12], inside[32], between[32], mib_text[12];
	char gpu[97]; /* of all nodes; "" where they differ: what to expect is known for one model */
	double low_between;
};

static int take_timeout(const struct ctl *c, const char *value, struct check *k)
{
	uint64_t ms;
	struct err e;

	if (opts_duration("--timeout", value, 600000, &ms, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	if (ms < 1000)
		return ctl_usage(c, "--timeout %s: 1s to 10m", value);
	snprintf(k->timeout, sizeof(k->timeout), "%u", (unsigned)((ms + 999) / 1000));
	return CTL_GO;
}

static int take_tolerance(const struct ctl *c, const char *value, struct check *k)
{
	uint64_t n;
	struct err e;

	if (opts_uint("--baseline-tolerance", value, 1, 99, &n, &e) < 0)
		return ctl_usage(c, "%s", e.text);
	k->percent = 100 - (uint32_t)n;
	return CTL_GO;
}

static int take(const struct ctl *c, int id, const char *value, struct check *k)
{
	uint64_t n;
	struct err e;

	k->runs_only = k->runs_only || (id != HOSTS && id != HISTORY && id != VERBOSE);
	switch (id) {
	case NODES: k->nodes = value; break;
	case HOSTS: k->hosts = value; break;
	case EXCLUDE: k->exclude = value; break;
	case GPUS: k->gpus = value; break;
	case PROCS: k->procs = value; break;
	case ENV_PREFIX: k->prefix = value; break;
	case MIB: k->mib = value; break;
	case OPS: k->ops = value; break;
	case TIMEOUT: break;
	case BISECT: k->bisect = true; break;
	case NO_EXPECT: k->no_expect = true; break;
	case TOLERANCE: break;
	case NO_BASELINE: k->no_baseline = true; break;
	case NEW_BASELINE: k->new_baseline = true; break;
	case HISTORY: k->history = true; break;
	default: k->verbose = true; break;
	}
	if (id == ENV_PREFIX && value[0] != '/')
		return ctl_usage(c, "--env %s: give the environment's absolute path, which must be the same on all nodes", value);
	if ((id == NODES && opts_uint("-N", value, 1, 65536, &n, &e) < 0) ||
	    (id == GPUS && opts_uint("-G", value, 1, 1024, &n, &e) < 0) ||
	    (id == PROCS && opts_uint("--procs-per-node", value, 1, 1024, &n, &e) < 0) ||
	    (id == MIB && opts_uint("--mib", value, 1, 4096, &n, &e) < 0))
		return ctl_usage(c, "%s", e.text);
	if (id == TOLERANCE)
		return take_tolerance(c, value, k);
	return id == TIMEOUT ? take_timeout(c, value, k) : CTL_GO;
}

static const char *const op_names[] = { "broadcast", "reduce", "all_reduce", "all_gather", "reduce_scatter", "gather",
					"send_recv", NULL };

static int check_ops(const struct ctl *c, const char *list)
{
	for (const char *at = list;; at++) {
		size_t n = strcspn(at, ",");
		const char *const *name = op_names;

		while (*name != NULL && (strlen(*name) != n || strncmp(*name, at, n) != 0))
			name++;
		if (*name == NULL)
			return ctl_usage(c, "--ops: \"%.*s\" is none of broadcast, reduce, all_reduce, all_gather, reduce_scatter, "
					    "gather, send_recv", (int)n, at);
		at += n;
		if (*at == '\0')
			return CTL_GO;
	}
}

/* ---- what there is, and what it should reach -------------------------------------- */

static bool wanted(const struct hostlist *in, const struct hostlist *out, const char *name)
{
	return (in->count == 0 || hostlist_has(in, name)) && !hostlist_has(out, name);
}

static uint32_t mib_of(const struct check *k)
{
	return k->mib != NULL ? (uint32_t)strtoul(k->mib, NULL, 10) : MIB_LEAST;
}

static size_t rates_of(const struct rec_node_info *n, const char *layer, uint32_t rate[PORTS_MAX])
{
	size_t k = 0;

	for (size_t i = 0; i < n->n_port_list && k < PORTS_MAX; i++) {
		const struct rec_port *p = &n->port_list[i];

		if (!p->excluded && p->state != NULL && strcmp(p->state, "Active") == 0 && MSG_HAS(p, port, rate_mbps) &&
		    strcmp(p->link_layer != NULL ? p->link_layer : "InfiniBand", layer) == 0)
			rate[k++] = p->rate_mbps;
	}
	return k;
}

static int fastest_first(const void *x, const void *y)
{
	const uint32_t *a = x, *b = y;

	return (*a < *b) - (*a > *b);
}

/* Of InfiniBand if there is any, and no more ports than GPUs: those for storage and for people are not used. */
static double between_of(const struct check *k, const struct rec_node_info *n, uint32_t gpus)
{
	uint32_t rate[PORTS_MAX], used = k->gpus != NULL ? (uint32_t)strtoul(k->gpus, NULL, 10) : gpus;
	size_t all = rates_of(n, "InfiniBand", rate);

	if (all == 0)
		all = rates_of(n, "Ethernet", rate);
	if (all > 0)
		qsort(rate, all, sizeof(rate[0]), fastest_first);
	return nccl_expect_between(rate, all < used ? all : used, mib_of(k));
}

static uint32_t gpus_of(const struct rec_node_info *n)
{
	return MSG_HAS(n, node_info, gpus) ? n->gpus : 0;
}

static const char *model_of(const struct rec_node_info *n)
{
	return n->n_gpu_list > 0 && n->gpu_list[0].name != NULL ? n->gpu_list[0].name : "";
}

/* Of the nodes that are meant: how many, the fewest GPUs, the slowest network. */
static int look(const struct ctl *c, struct check *k, const struct hostlist *in, const struct hostlist *out,
		const struct rec_status *s)
{
	uint32_t n = 0, fewest = 0;
	double slowest = 0;

	for (size_t i = 0; i < s->n_nodes; i++) {
		const struct rec_node_info *node = &s->nodes[i];
		bool able = node->cordon == NULL && (strcmp(node->state, "ok") == 0 || strcmp(node->state, "degraded") == 0);
		uint32_t gpus = gpus_of(node);
		double between = between_of(k, node, gpus);

		if (!wanted(in, out, node->name) || (in->count == 0 && (!able || (gpus == 0 && !k->procs))))
			continue;
		if (gpus == 0 && !k->procs)
			return ctl_fail(EXIT_UNREACHABLE, "%s has no GPU that a job may have: nodectl gpus tells why; the check "
					"needs GPUs (--procs-per-node where nobody manages them)", node->name);
		if (n == 0)
			snprintf(k->gpu, sizeof(k->gpu), "%.96s", model_of(node));
		else if (strcmp(k->gpu, model_of(node)) != 0)
			k->gpu[0] = '\0';
		fewest = n == 0 || gpus < fewest ? gpus : fewest;
		slowest = n == 0 || between < slowest ? between : slowest;
		n++;
	}
	if (n == 0)
		return ctl_fail(EXIT_UNREACHABLE, "no node has a GPU that a job may have: nodectl gpus tells why; the check "
				"needs GPUs (--procs-per-node where nobody manages them)");
	snprintf(k->n_nodes, sizeof(k->n_nodes), "%u", n);
	snprintf(k->n_gpus, sizeof(k->n_gpus), "%u", fewest);
	k->low_between = slowest;
	return CTL_GO;
}

/* A ring cuts an array into as many pieces as there are ranks: below some MiB a piece it is latency that is
 * measured, and a healthy fabric would look slow. */
static void choose_size(struct check *k)
{
	unsigned long nodes = strtoul(k->nodes != NULL ? k->nodes : k->n_nodes, NULL, 10);
	unsigned long each = strtoul(k->procs != NULL ? k->procs : k->gpus != NULL ? k->gpus : k->n_gpus, NULL, 10);
	unsigned long mib = nodes * each * MIB_A_RANK;

	if (k->mib != NULL || mib <= MIB_LEAST)
		return;
	snprintf(k->mib_text, sizeof(k->mib_text), "%lu", mib < MIB_MOST ? mib : (unsigned long)MIB_MOST);
	k->mib = k->mib_text;
}

static void expect(struct check *k)
{
	unsigned long gpus = strtoul(k->gpus != NULL ? k->gpus : k->n_gpus, NULL, 10);
	double inside = nccl_expect_inside(k->gpu, (uint32_t)gpus, mib_of(k));

	if (k->no_expect || k->procs != NULL)
		return;
	if (inside > 0 && k->gpu[0] != '\0')
		snprintf(k->inside, sizeof(k->inside), "%.1f", inside);
	if (k->low_between > 0)
		snprintf(k->between, sizeof(k->between), "%.1f", k->low_between);
}

static int find_out(struct ctl *c, struct check *k)
{
	const struct status_wish wish = { .detail = true };
	struct hostlist in = { 0 }, out = { 0 };
	struct gathered g;
	struct err e;
	int r = CTL_GO;

	if (k->hosts != NULL && hostlist_parse(k->hosts, &in, &e) < 0)
		return ctl_usage(c, "-w: %s", e.text);
	if (k->exclude != NULL && hostlist_parse(k->exclude, &out, &e) < 0)
		r = ctl_usage(c, "-x: %s", e.text);
	if (r == CTL_GO)
		r = status_get(c, &wish, &g);
	if (r == CTL_GO) {
		for (size_t i = 0; i < in.count && r == CTL_GO; i++)
			if (status_node(&g.all.u.status, in.names[i]) == NULL) {
				status_no_node(c, &g.all.u.status, in.names[i]);
				r = EXIT_UNREACHABLE; /* 1 is a bad result */
			}
		if (r == CTL_GO)
			r = look(c, k, &in, &out, &g.all.u.status);
		gather_finish(&g);
	}
	hostlist_finish(&in);
	hostlist_finish(&out);
	if (r == CTL_GO) {
		choose_size(k);
		expect(k);
	}
	return r;
}

/* ---- launch ------------------------------------------------------------------------ */

struct args {
	const char *v[ARGS_MAX];
	size_t n;
};

static void add(struct args *a, const char *word)
{
	if (a->n + 1 < ARGS_MAX)
		a->v[a->n++] = word;
}

static void add_option(struct args *a, const char *name, const char *value)
{
	if (value == NULL || value[0] == '\0')
		return;
	add(a, name);
	add(a, value);
}

static void build(const struct ctl *c, const struct check *k, struct args *a)
{
	add(a, "nodectl");
	add(a, "launch");
	add_option(a, "--dir", c->dir);
	add_option(a, "--socket", c->socket);
	add_option(a, "-N", k->nodes != NULL ? k->nodes : k->n_nodes);
	add_option(a, "-w", k->hosts);
	add_option(a, "-x", k->exclude);
	if (k->procs != NULL) {
		add_option(a, "-G", "0");
		add_option(a, "--procs-per-node", k->procs);
	} else {
		add_option(a, "-G", k->gpus != NULL ? k->gpus : k->n_gpus);
		add(a, "--per-gpu");
	}
	add_option(a, "--cwd", "/");
	add_option(a, "--name", "check nccl");
	add(a, "--no-label");
	add(a, "--");
	add(a, "nodeagent-nccl");
	add_option(a, "--env", k->prefix);
	add_option(a, "--mib", k->mib);
	add_option(a, "--ops", k->ops);
	add_option(a, "--timeout", k->timeout);
	add_option(a, "--expect-inside", k->inside);
	add_option(a, "--expect-between", k->between);
	if (k->bisect)
		add(a, "--bisect");
	a->v[a->n] = NULL;
}

static pid_t spawn(const struct args *a, int ret_out[2])
{
	int out[2], err[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -1;
	if (pipe2(err, O_CLOEXEC) < 0) {
		close(out[0]);
		close(out[1]);
		return -1;
	}
	pid = fork();
	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		dup2(out[1], 1);
		dup2(err[1], 2);
		execv("/proc/self/exe", (char *const *)a->v); /* NOLINT: execv takes no const */
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	ret_out[0] = out[0];
	ret_out[1] = err[0];
	return pid;
}

struct reading {
	struct check_lines lines;
	struct buf out, said; /* unfinished line; what launch said since the check began */
};

/* Whole lines out of the buffer. */
static void take_lines(struct reading *r)
{
	char *end;

	while (r->out.len > 0 && (end = memchr(r->out.data, '\n', r->out.len)) != NULL) {
		size_t len = (size_t)(end - r->out.data);

		if (!check_lines_add(&r->lines, r->out.data, len)) {
			buf_add(&r->said, r->out.data, len + 1); /* somebody else's words: a library's */
		}
		buf_drop(&r->out, len + 1);
	}
	if (r->out.len > KEPT)
		buf_reset(&r->out);
}

static bool read_into(int fd, struct buf *b)
{
	char *room = buf_reserve(b, 16384);
	ssize_t n = room != NULL ? read(fd, room, 16384) : 0;

	if (n > 0)
		b->len += (size_t)n;
	return n > 0 || (n < 0 && errno == EINTR);
}

static bool read_said(int fd, struct reading *r)
{
	size_t before = r->said.len;
	bool more = read_into(fd, &r->said);

	if (!r->lines.begun && r->said.len > before) {
		write_all(2, r->said.data + before, r->said.len - before);
		r->said.len = before;
	}
	if (r->said.len > KEPT)
		buf_drop(&r->said, r->said.len - KEPT / 2);
	return more;
}

static void read_all(const int fds[2], struct reading *r)
{
	struct pollfd p[2] = { { .fd = fds[0], .events = POLLIN }, { .fd = fds[1], .events = POLLIN } };

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0)
			continue; /* a signal: launch has it too, and says what comes of it */
		if (p[0].fd >= 0 && p[0].revents) {
			if (!read_into(p[0].fd, &r->out))
				p[0].fd = -1;
			take_lines(r);
		}
		if (p[1].fd >= 0 && p[1].revents && !read_said(p[1].fd, r))
			p[1].fd = -1;
	}
}

static void show(const struct ctl *c, const struct check *k, const struct check_lines *lines)
{
	struct buf b;

	buf_init(&b);
	if (c->json)
		check_lines_json(lines, &b);
	else
		check_lines_text(lines, &b, term_columns(1), k->verbose);
	if (!buf_failed(&b))
		write_all(1, b.data, b.len);
	buf_finish(&b);
}

static uint32_t count_ops(const char *list)
{
	uint32_t n = 1;

	for (const char *at = list; at != NULL && *at != '\0'; at++)
		n += *at == ',';
	return list == NULL ? sizeof(op_names) / sizeof(op_names[0]) - 1 : n;
}

/* Beside earlier runs; the exit code. */
static int compare(const struct ctl *c, const struct check *k, struct check_lines *lines, int code)
{
	const struct base_wish w = { .anew = k->new_baseline, .percent = k->percent, .n_ops = count_ops(k->ops),
				     .mib = mib_of(k) };

	lines->expect_inside = strtod(k->inside, NULL);
	lines->expect_between = strtod(k->between, NULL);
	if (!lines->ended || k->no_baseline)
		return code;
	check_base(c, lines, &w);
	return code == 0 && !lines->ok ? 1 : code;
}

static int launch(const struct ctl *c, const struct check *k)
{
	struct reading r = { .lines = { .n = 0 } };
	struct args a = { .n = 0 };
	int fds[2], status = 0, code;
	pid_t pid;

	build(c, k, &a);
	signal(SIGINT, SIG_IGN); /* launch asks what ^C is to mean */
	pid = spawn(&a, fds);
	if (pid < 0)
		return ctl_fail(EXIT_REFUSED, "the check cannot be started: %s", strerror(errno));
	buf_init(&r.out);
	buf_init(&r.said);
	read_all(fds, &r);
	close(fds[0]);
	close(fds[1]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	code = compare(c, k, &r.lines, code);
	if (r.lines.n > 0 || code == 0)
		show(c, k, &r.lines);
	if (!r.lines.ended) {
		write_all(2, r.said.data, r.said.len);
		if (code == 0)
			code = ctl_fail(EXIT_REFUSED, "the check ended without a result");
		else if (code == EXIT_REFUSED && !r.lines.begun)
			code = EXIT_UNREACHABLE; /* it has not run at all; 1 is a bad result */
	}
	check_lines_finish(&r.lines);
	buf_finish(&r.out);
	buf_finish(&r.said);
	return code;
}

static int run(struct ctl *c)
{
	struct check k = { .percent = NCCL_BASE_PERCENT };
	struct opts o;
	const char *value;
	int id, r;

	ctl_options(c, &o);
	while ((id = ctl_option(c, &o, &value, &r)) != OPT_END) {
		if (r != CTL_GO)
			return r;
		if (id == OPT_OPERAND)
			return ctl_usage(c, "\"%s\" is one word too many; nodes are named with -w", value);
		r = take(c, id, value, &k);
		if (r != CTL_GO)
			return r;
	}
	if (k.gpus != NULL && k.procs != NULL)
		return ctl_usage(c, "-G and --procs-per-node exclude each other: there is one rank for each GPU");
	if (k.no_baseline && k.new_baseline)
		return ctl_usage(c, "--no-baseline and --new-baseline exclude each other");
	if (k.history)
		return k.runs_only ? ctl_usage(c, "--history starts nothing: it goes with -w only") : check_history(c, k.hosts);
	if (k.new_baseline && !check_base_may_keep(c))
		return ctl_fail(EXIT_REFUSED, "a new baseline is for administrators: run it on the coordinator's host, as root or as a "
				"member of the group nodeagent-admin");
	r = k.ops != NULL ? check_ops(c, k.ops) : CTL_GO;
	if (r == CTL_GO)
		r = find_out(c, &k);
	return r == CTL_GO ? launch(c, &k) : r;
}

const struct command cmd_check_nccl = {
	.verb = "check nccl",
	.args = "[-w nodes] [--env PREFIX] [--bisect]",
	.brief = "NCCL's operations over GPUs and network: right, fast, or whose fault",
	.help = "Starts a rank on each GPU as a job of its own, runs NCCL's operations inside each node and between "
		"all, looks at every number, and compares the speed (busbw, as nccl-tests counts it) with what such "
		"hardware reaches, with the other nodes and with earlier runs (an administrator's runs on the coordinator's "
		"host are kept: --history). A hang ends at a deadline, with the ranks named that do "
		"not answer. When nodes are slow together, pairs of them are tried until node, link or fabric is "
		"known. Exit code: 0 good, 1 bad, 3 it cannot be run.",
	.opts = opts,
	.run = run,
};
