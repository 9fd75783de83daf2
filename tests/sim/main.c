/* main.c - sim: runs the real cores through many small histories of a cluster
 *
 * A run is named by a scenario and a seed (and, in the exhaustive mode, by the
 * process that is crashed and after which of its actions). The same name gives
 * the same run, to the byte.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/sim.h"

static const char usage[] =
	"usage: sim [--seeds N] [--first S] [--scenario NAME] [--trace] [--verbose]\n"
	"       sim --exhaustive [--scenario NAME] [--first S] [--seeds N]\n"
	"       sim --selftest\n"
	"\n"
	"  --seeds N        so many seeds, spread over the scenarios (default 1000)\n"
	"  --first S        begin with seed S (default 1, after the seeds that failed once)\n"
	"  --scenario NAME  this scenario only; --list names them\n"
	"  --trace          print all that happens\n"
	"  --verbose        a line for each scenario\n"
	"  --exhaustive     crash every process after each of its actions in turn\n"
	"  --selftest       a seed gives the same run twice\n"
	"  --crash WHO:N    crash WHO (coord, agentI, rebootI, shimI) after its action N\n"
	"  --seconds T      stop after T seconds, however many seeds were run\n";

static struct {
	uint64_t seeds, first;
	const char *scenario;
	bool trace, verbose, exhaustive, selftest, tail, list, first_given;
	double seconds;
	struct crash_plan crash;
} opt = { .seeds = 1000, .first = 1 };

static struct sim sim; /* large: the stack is no place for it */
static struct totals {
	uint64_t runs, events, starts, finals[3], faults;
	double virtual_s;
} totals[64];

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- when something is wrong ---------------------------------------------------- */

static void crash_text(const struct crash_plan *c, char *out, size_t size)
{
	static const char *const kinds[] = { "coord", "agent", "shim" };

	out[0] = '\0';
	if (c->active && c->kind == PK_COORD)
		snprintf(out, size, " --crash coord:%" PRIu64, c->after);
	else if (c->active)
		snprintf(out, size, " --crash %s%u:%" PRIu64,
			 c->reboot ? "reboot" : kinds[c->kind], c->idx, c->after);
}

static void say_how(FILE *f)
{
	char crash[64];

	crash_text(&sim.crash, crash, sizeof(crash));
	fprintf(f, "replay:   %s --scenario %s --first %" PRIu64 " --seeds 1%s --trace\n",
		program_invocation_name, sim.sc->name, sim.seed, crash);
}

/* Once more with text, for the last lines before it. */
static int report(const struct scenario *sc, uint64_t seed, const struct crash_plan *crash)
{
	struct crash_plan again = { 0 };

	if (crash != NULL) {
		again = *crash;
		again.done = false;
	}
	if (!sim.w.text) {
		sim.w.text = true;
		sim_run(&sim, sc, seed, &again);
	}
	world_tail(&sim.w, 60);
	printf("\nscenario: %s\nseed:     %" PRIu64 "\nbroken:   %s\n", sc->name, seed, sim.failure);
	say_how(stdout);
	return 1;
}

/* An assertion of a core, or the sanitizer: the same run again, for its trace. */
static void on_abort(int sig)
{
	char seed[32], crash[64], *arg = crash;

	if (sim.sc == NULL)
		_exit(1);
	if (opt.tail || opt.trace) {
		world_tail(&sim.w, 60);
		printf("\nscenario: %s\nseed:     %" PRIu64 "\nbroken:   a core's own assertion, or the "
		       "sanitizer (see above)\n",
		       sim.sc->name, sim.seed);
		say_how(stdout);
		fflush(stdout);
		_exit(1);
	}
	fflush(stdout);
	snprintf(seed, sizeof(seed), "%" PRIu64, sim.seed);
	crash_text(&sim.crash, crash, sizeof(crash));
	if (strlen(crash) > 9)
		arg = crash + 9;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	execl("/proc/self/exe", program_invocation_name, "--scenario", sim.sc->name, "--first", seed,
	      "--seeds", "1", "--tail", strlen(crash) > 9 ? "--crash" : NULL, arg, NULL);
	_exit(1);
}

/* The sanitizers end by abort(), so that on_abort() sees it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "abort_on_error=1:detect_leaks=1";
}

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "abort_on_error=1:print_stacktrace=1";
}

/* ---- runs ------------------------------------------------------------------------- */

static const struct scenario *scenario_find(const char *name)
{
	for (size_t i = 0; i < n_scenarios; i++)
		if (strcmp(scenarios[i].name, name) == 0)
			return &scenarios[i];
	return NULL;
}

static void count(const struct scenario *sc)
{
	struct totals *t = &totals[sc - scenarios];

	t->runs++;
	t->events += sim.w.steps;
	t->starts += sim.n_starts;
	t->faults += sim.n_faults;
	t->virtual_s += (double)sim.w.now / 1e9;
	for (int i = 0; i < 3; i++)
		t->finals[i] += sim.n_final[i];
}

static bool run(const struct scenario *sc, uint64_t seed, const struct crash_plan *crash)
{
	bool good = sim_run(&sim, sc, seed, crash);

	count(sc);
	return good;
}

static void summary(double took, uint64_t runs)
{
	for (size_t i = 0; i < n_scenarios && opt.verbose; i++) {
		const struct totals *t = &totals[i];

		if (t->runs == 0)
			continue;
		printf("%-21s %6" PRIu64 " runs, %5.0f events and %5.1f s each; done %" PRIu64
		       ", failed %" PRIu64 ", lost %" PRIu64 "; %" PRIu64 " faults\n",
		       scenarios[i].name, t->runs, (double)t->events / (double)t->runs,
		       t->virtual_s / (double)t->runs, t->finals[0], t->finals[1], t->finals[2],
		       t->faults);
	}
	printf("%" PRIu64 " runs in %.1f s: %.0f a second\n", runs, took, (double)runs / took);
}

/* A seed alone names its scenario too, unless one is given. */
static const struct scenario *scenario_of(uint64_t seed)
{
	if (opt.scenario != NULL)
		return scenario_find(opt.scenario);
	/* every second seed is chaos, one of four of these with GPUs */
	return seed % 8 == 4   ? &scenarios[n_scenarios - 2]
	       : seed % 2 == 0 ? &scenarios[n_scenarios - 1]
			       : &scenarios[seed / 2 % (n_scenarios - 1)];
}

static int run_once_failed(void)
{
	for (size_t i = 0; i < n_once_failed; i++) {
		const struct scenario *sc = scenario_find(once_failed[i].scenario);

		if (!run(sc, once_failed[i].seed, NULL))
			return report(sc, once_failed[i].seed, NULL);
	}
	return 0;
}

static int sweep(void)
{
	const struct crash_plan *crash = opt.crash.active ? &opt.crash : NULL;
	double from = seconds();
	uint64_t n = 0;

	if (!opt.first_given && opt.scenario == NULL && crash == NULL && run_once_failed() != 0)
		return 1;
	for (; n < opt.seeds; n++) {
		const struct scenario *sc = scenario_of(opt.first + n);

		if (opt.seconds > 0 && n % 16 == 0 && seconds() - from > opt.seconds)
			break;
		if (!run(sc, opt.first + n, crash))
			return report(sc, opt.first + n, crash);
	}
	summary(seconds() - from, n);
	return 0;
}

/* ---- a crash after every action ------------------------------------------------------ */

static int crash_each(const struct scenario *sc, uint64_t seed, struct crash_plan plan,
		      uint64_t actions, uint64_t *runs)
{
	for (uint64_t i = 1; i <= actions; i++) {
		plan.active = true;
		plan.done = false;
		plan.after = i;
		++*runs;
		if (!run(sc, seed, &plan))
			return report(sc, seed, &plan);
	}
	return 0;
}

static int exhaust(const struct scenario *sc, uint64_t seed, uint64_t *runs)
{
	uint64_t coord, agents[NODES_MAX], shims[64];
	uint32_t n_agents, n_shims;
	int bad = 0;

	++*runs;
	if (!run(sc, seed, NULL))
		return report(sc, seed, NULL);
	coord = sim.coord.proc.actions;
	n_agents = sim.n_agents;
	n_shims = sim.n_shims < 64 ? sim.n_shims : 64;
	for (uint32_t i = 0; i < n_agents; i++)
		agents[i] = sim.agents[i].proc.actions;
	for (uint32_t i = 0; i < n_shims; i++)
		shims[i] = sim.shims[i]->proc.actions;
	bad = crash_each(sc, seed, (struct crash_plan){ .kind = PK_COORD }, coord, runs);
	for (uint32_t i = 0; i < n_agents && !bad; i++)
		bad = crash_each(sc, seed, (struct crash_plan){ .kind = PK_AGENT, .idx = i }, agents[i],
				 runs);
	for (uint32_t i = 0; i < n_agents && !bad; i++)
		bad = crash_each(sc, seed,
				 (struct crash_plan){ .kind = PK_AGENT, .idx = i, .reboot = true },
				 agents[i], runs);
	for (uint32_t i = 0; i < n_shims && !bad; i++)
		bad = crash_each(sc, seed, (struct crash_plan){ .kind = PK_SHIM, .idx = i }, shims[i],
				 runs);
	return bad;
}

static int exhaustive(void)
{
	double from = seconds();
	uint64_t runs = 0;

	for (size_t i = 0; i < n_scenarios; i++) {
		uint64_t before = runs, n = opt.seeds == 1000 ? 1 : opt.seeds;

		if (opt.scenario != NULL ? strcmp(scenarios[i].name, opt.scenario) != 0
					 : !scenarios[i].exhaustive)
			continue;
		for (uint64_t k = 0; k < n; k++)
			if (exhaust(&scenarios[i], opt.first + k, &runs) != 0)
				return 1;
		if (opt.verbose)
			printf("%-21s %6" PRIu64 " runs\n", scenarios[i].name, runs - before);
	}
	opt.verbose = false;
	summary(seconds() - from, runs);
	return 0;
}

/* ---- selftest -------------------------------------------------------------------------- */

/* 15: with and without jumps of the wall clock all happens at the same time. */
static int jumps(void)
{
	const struct scenario *sc = scenario_find("wall-clock");
	uint64_t shape;

	for (uint64_t seed = opt.first; seed < opt.first + 300; seed++) {
		if (!run(sc, seed, NULL))
			return report(sc, seed, NULL);
		shape = sim.w.shape;
		/* over a restart of the coordinator a time limit is counted by the wall clock */
		if (sim.coord.proc.life > 1)
			continue;
		if (sim_run_without_jumps(&sim, sc, seed) && sim.w.shape == shape)
			continue;
		printf("scenario wall-clock, seed %" PRIu64 ": 15: a jump of the wall clock changes no "
		       "timeout\n", seed);
		return 1;
	}
	return 0;
}

static int selftest(void)
{
	for (size_t i = 0; i < n_scenarios; i++)
		for (uint64_t seed = opt.first; seed < opt.first + 3; seed++) {
			uint64_t hash;
			bool first = run(&scenarios[i], seed, NULL);

			hash = sim.w.hash;
			if (run(&scenarios[i], seed, NULL) == first && sim.w.hash == hash)
				continue;
			printf("scenario %s, seed %" PRIu64 ": two runs differ\n", scenarios[i].name,
			       seed);
			return 1;
		}
	printf("%zu scenarios: a seed gives the same run twice\n", n_scenarios);
	return jumps();
}

/* ---- the command line --------------------------------------------------------------------- */

static bool parse_crash(const char *text)
{
	struct crash_plan *c = &opt.crash;
	const char *colon = strchr(text, ':');

	if (colon == NULL)
		return false;
	c->active = true;
	c->after = strtoull(colon + 1, NULL, 10);
	c->reboot = strncmp(text, "reboot", 6) == 0;
	c->kind = strncmp(text, "coord", 5) == 0 ? PK_COORD
		  : strncmp(text, "shim", 4) == 0 ? PK_SHIM
						  : PK_AGENT;
	c->idx = (uint32_t)strtoul(text + strcspn(text, "0123456789:"), NULL, 10);
	return true;
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seeds", 1, NULL, 'n' },   { "first", 1, NULL, 'f' },	   { "scenario", 1, NULL, 's' },
		{ "trace", 0, NULL, 't' },   { "verbose", 0, NULL, 'v' },  { "exhaustive", 0, NULL, 'x' },
		{ "selftest", 0, NULL, 'S' }, { "crash", 1, NULL, 'c' },   { "tail", 0, NULL, 'T' },
		{ "list", 0, NULL, 'l' },    { "seconds", 1, NULL, 'd' }, { "help", 0, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
		switch (c) {
		case 'n':
			opt.seeds = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			opt.first = strtoull(optarg, NULL, 10);
			opt.first_given = true;
			break;
		case 's':
			opt.scenario = optarg;
			break;
		case 't':
			opt.trace = true;
			break;
		case 'v':
			opt.verbose = true;
			break;
		case 'x':
			opt.exhaustive = true;
			break;
		case 'S':
			opt.selftest = true;
			break;
		case 'T':
			opt.tail = true;
			break;
		case 'l':
			opt.list = true;
			break;
		case 'd':
			opt.seconds = strtod(optarg, NULL);
			break;
		case 'c':
			if (!parse_crash(optarg))
				return false;
			break;
		default:
			return false;
		}
	}
	return optind == argc && (opt.scenario == NULL || scenario_find(opt.scenario) != NULL);
}

int main(int argc, char **argv)
{
	int r;

	if (!parse(argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	for (size_t i = 0; i < n_scenarios && opt.list; i++)
		puts(scenarios[i].name);
	if (opt.list)
		return 0;
	signal(SIGABRT, on_abort);
	sim.w.text = opt.trace || opt.tail;
	sim.w.print = opt.trace;
	simstore_init();
	if (opt.selftest)
		r = selftest();
	else if (opt.exhaustive)
		r = exhaustive();
	else
		r = sweep();
	sim_finish(&sim);
	return r;
}
