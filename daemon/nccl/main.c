/* main.c - nodeagent-nccl: one rank of the active check of NCCL
 *
 * A rank of an ordinary job: who it is and where rank 0 listens comes from the
 * environment that `nodectl launch` gives. Rank 0 forks the conductor before
 * anything of CUDA is loaded, so that it can tell of rank 0, too.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nccl/conduct.h"
#include "nccl/ops.h"
#include "nccl/wire.h"
#include "nccl/worker.h"

#define MIB ((size_t)1 << 20)
#define MIB_MAX 4096
#define CONDUCTOR_END_MS 10000
#define FOLLOW_S 1
#define INIT_LEAST_MS 5000 /* a communicator of many ranks is not made in less */
#define COME_LEAST_MS 10000 /* CUDA without persistence mode takes seconds for each GPU */

static const char help[] =
	"usage: nodeagent-nccl [OPTION]...\n"
	"One rank of the check of NCCL; `nodectl check nccl` starts it on all nodes.\n"
	"\n"
	"  --env PREFIX      libraries of this environment (conda or venv); else the loader's\n"
	"  --mib N           size of the arrays, 1 to 4096 (128)\n"
	"  --ops LIST        of broadcast,reduce,all_reduce,all_gather,reduce_scatter,gather,send_recv\n"
	"  --timeout S       of one operation (20); twice for a communicator, thrice until all have come\n"
	"  --bisect          search for slow nodes and links also when nothing seems slow\n"
	"  --expect-inside GBPS   busbw of all_reduce that a node's GPUs should reach\n"
	"  --expect-between GBPS  ... and all nodes together\n"
	"  --help\n"
	"\n"
	"Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, and NODEAGENT_NODE,\n"
	"NODEAGENT_JOB, NODEAGENT_ATTEMPT where set. Rank 0 prints one JSON object a line.\n"
	"Exit code: 0 good, 1 bad, 2 usage, 3 cannot be run here, 4 rank 0 has gone.\n";

enum { OPT_ENV = 256, OPT_MIB, OPT_OPS, OPT_TIMEOUT, OPT_BISECT, OPT_INSIDE, OPT_BETWEEN, OPT_HELP };

static const struct option options[] = {
	{ "env", required_argument, NULL, OPT_ENV },
	{ "mib", required_argument, NULL, OPT_MIB },
	{ "ops", required_argument, NULL, OPT_OPS },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "bisect", no_argument, NULL, OPT_BISECT },
	{ "expect-inside", required_argument, NULL, OPT_INSIDE },
	{ "expect-between", required_argument, NULL, OPT_BETWEEN },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static int usage(const char *what, const char *value, const char *wanted)
{
	fprintf(stderr, "nodeagent-nccl: %s%s%s: %s\n", what, value != NULL ? " " : "", value != NULL ? value : "", wanted);
	return CHECK_USAGE;
}

static bool number(const char *text, double low, double high, double *ret)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end != '\0' || !(v >= low && v <= high))
		return false;
	*ret = v;
	return true;
}

static bool read_ops(char *list, uint32_t *ret)
{
	uint32_t ops = 0;
	char *save = NULL;

	for (char *w = strtok_r(list, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
		enum op op = op_named(w);

		if (op == OP_N)
			return false;
		ops |= UINT32_C(1) << op;
	}
	*ret = ops;
	return ops != 0;
}

/* 0, or an exit code; -1: help was printed. */
static int read_option(int c, struct check_options *o)
{
	double v;

	switch (c) {
	case OPT_ENV:
		o->prefix = optarg;
		return optarg[0] == '/' ? 0 : usage("--env", optarg, "an absolute path is needed");
	case OPT_MIB:
		if (!number(optarg, 1, MIB_MAX, &v))
			return usage("--mib", optarg, "1 to 4096");
		o->bytes = (size_t)v * MIB;
		return 0;
	case OPT_OPS:
		return read_ops(optarg, &o->ops) ? 0 : usage("--ops", NULL, "names of operations, with commas; see --help");
	case OPT_TIMEOUT:
		if (!number(optarg, 1, 600, &v))
			return usage("--timeout", optarg, "1 to 600 seconds");
		o->timeout_ms = (int)(v * 1000);
		o->init_timeout_ms = 2 * o->timeout_ms > INIT_LEAST_MS ? 2 * o->timeout_ms : INIT_LEAST_MS;
		o->come_timeout_ms = 3 * o->timeout_ms > COME_LEAST_MS ? 3 * o->timeout_ms : COME_LEAST_MS;
		return 0;
	case OPT_BISECT:
		o->bisect = true;
		return 0;
	case OPT_INSIDE:
		return number(optarg, 0, 1e6, &o->floor_inside) ? 0 : usage("--expect-inside", optarg, "GB/s");
	case OPT_BETWEEN:
		return number(optarg, 0, 1e6, &o->floor_between) ? 0 : usage("--expect-between", optarg, "GB/s");
	case OPT_HELP:
		fputs(help, stdout);
		return -1;
	default:
		return CHECK_USAGE;
	}
}

static bool env_number(const char *name, uint32_t *ret)
{
	const char *text = getenv(name);
	double v;

	if (text == NULL || !number(text, 0, 16777215, &v))
		return false;
	*ret = (uint32_t)v;
	return true;
}

static int read_rank(struct check_rank *me)
{
	static char host[65], job[64];

	if (!env_number("RANK", &me->rank) || !env_number("WORLD_SIZE", &me->world) ||
	    !env_number("LOCAL_RANK", &me->local) || me->rank >= me->world)
		return usage("RANK, WORLD_SIZE or LOCAL_RANK", NULL, "missing or wrong: start it with nodectl check nccl");
	me->address = getenv("MASTER_ADDR");
	me->port = getenv("MASTER_PORT");
	if (me->address == NULL || me->port == NULL)
		return usage("MASTER_ADDR or MASTER_PORT", NULL, "missing: start it with nodectl check nccl");
	me->node = getenv("NODEAGENT_NODE");
	if (me->node == NULL || me->node[0] == '\0') {
		gethostname(host, sizeof host - 1);
		me->node = host;
	}
	snprintf(job, sizeof job, "%.30s.%.30s", getenv("NODEAGENT_JOB") ? getenv("NODEAGENT_JOB") : "0",
		 getenv("NODEAGENT_ATTEMPT") ? getenv("NODEAGENT_ATTEMPT") : "0");
	me->job = job;
	return 0;
}

/* The conductor's pid; 0 in ranks that have none; -1: it cannot be. */
static pid_t start_conductor(const struct check_options *o, const struct check_rank *me)
{
	struct err e;
	int fd;
	pid_t pid;

	if (me->rank != 0)
		return 0;
	if (wire_listen(me->address, me->port, &fd, &e) < 0) {
		fprintf(stderr, "nodeagent-nccl: %s\n", e.text);
		return -1;
	}
	pid = fork();
	if (pid == 0)
		_exit(conduct(o, me, fd));
	close(fd);
	if (pid < 0)
		fprintf(stderr, "nodeagent-nccl: no process for the conductor: %s\n", strerror(errno));
	return pid;
}

/* Its last words are the check's result. */
static int await_conductor(pid_t pid, int code)
{
	int status = 0;

	for (int ms = 0; ms < CONDUCTOR_END_MS; ms += 10) {
		pid_t r = waitpid(pid, &status, WNOHANG);

		if (r == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : CHECK_LOST;
		if (r < 0)
			break;
		nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
	}
	return code;
}

static void on_alarm(int sig)
{
	(void)sig;
	signal(SIGTERM, SIG_DFL);
	raise(SIGTERM);
}

/* When one rank ends its job is ended: those that follow leave a little later, so that the conductor
 * sees who was first, however busy its host is. */
static void on_term(int sig)
{
	(void)sig;
	alarm(FOLLOW_S);
}

int main(int argc, char **argv)
{
	struct check_options o = { .bytes = 128 * MIB, .timeout_ms = 20000, .init_timeout_ms = 40000, .come_timeout_ms = 60000,
				   .ops = (UINT32_C(1) << OP_N) - 1 };
	struct check_rank me;
	pid_t conductor;
	int c, r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		r = read_option(c, &o);
		if (r != 0)
			return r < 0 ? 0 : r;
	}
	if (optind < argc)
		return usage(argv[optind], NULL, "not an option; see --help");
	r = read_rank(&me);
	if (r != 0)
		return r;
	signal(SIGPIPE, SIG_IGN);
	conductor = start_conductor(&o, &me);
	if (conductor < 0)
		return CHECK_LOST;
	signal(SIGALRM, on_alarm);
	signal(SIGTERM, on_term);
	r = worker_run(&o, &me);
	return conductor > 0 ? await_conductor(conductor, r) : r;
}
