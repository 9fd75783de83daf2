/* main.c - sim: runs the real cores through many small histories of a cluster
 *
 * A run is named by a scenario and a seed (and, in the exhaustive mode, by the
 * process that is crashed and after which of its actions). The same name gives
 * the same run, to the byte.
 */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/disk.h"
#include "tests/sim/exhaust.h"
#include "tests/sim/sim.h"

static const char usage[] =
	"usage: sim [--seeds N] [--first S] [--scenario NAME] [--trace] [--verbose] [--keep-going]\n"
	"       sim --exhaustive [--scenario NAME] [--first S] [--seeds N] [--pairs N] [--part K/N]\n"
	"       sim --selftest\n"
	"\n"
	"  --seeds N        so many seeds, spread over the scenarios (default 1000)\n"
	"  --first S        begin with seed S (default 1, after the seeds that failed once)\n"
	"  --scenario NAME  this scenario only; --list names them\n"
	"  --trace          print all that happens\n"
	"  --verbose        a line for each scenario\n"
	"  --exhaustive     crash every process, and every host, after each of its actions in turn\n"
	"  --pairs N        then N pairs of crashes of each scenario, the second within what follows the first\n"
	"  --part K/N       the K-th of N parts of that\n"
	"  --coverage       how often what went wrong, and which scenarios ran\n"
	"  --selftest       a seed gives the same run twice\n"
	"  --crash WHO:N    crash WHO (coord, power, agentI, rebootI, shimI,\n"
	"                   launcherI, clientI) after its action N; given\n"
	"                   twice: the second one so many actions after the first crash\n"
	"  --seconds T      stop after T seconds, however many seeds were run\n"
	"  --keep-going     a line for each seed that fails, and on with the next; exit code 1 at the end\n";

static struct {
	uint64_t seeds, first;
	const char *scenario;
	unsigned pairs, part, parts;
	bool coverage, trace, verbose, exhaustive, selftest, tail, list, first_given, keep_going;
	bool failed; /* one has, before this process took over from another */
	double seconds;
	struct crash_plan crash;
} opt = { .seeds = 1000, .first = 1, .parts = 1 };

#define PATIENCE_S 60 /* with a run, for --keep-going: most take 5 ms */

struct sim sim; /* large: the stack is no place for it */
static struct totals {
	uint64_t runs, events, starts, finals[3], faults;
	double virtual_s;
} totals[128]; /* by scenario */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- when something is wrong ---------------------------------------------------- */

static void say_how(FILE *f)
{
	char crash[128];

	exhaust_text(&sim.crash, crash, sizeof(crash));
	fprintf(f, "replay:   %s --scenario %s --first %" PRIu64 " --seeds 1%s --trace\n",
		program_invocation_name, sim.sc->name, sim.seed, crash);
}

/* Once more with text, for the last lines before it. */
int sim_report(const struct scenario *sc, uint64_t seed, const struct crash_plan *crash)
{
	struct crash_plan again = { 0 };

	if (crash != NULL) {
		again = *crash;
		again.done = 0;
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

/* For --keep-going: all of it in a line. */
static void say_failed(const struct scenario *sc, uint64_t seed, const char *broken)
{
	opt.failed = true;
	printf("FAILED %s %" PRIu64 ": %s\n", sc->name, seed, broken);
	fflush(stdout);
}

/* What is left of this process cannot be trusted: another one takes over behind this seed. */
static void go_on_elsewhere(int sig)
{
	char first[24], seeds[24], why[80], *args[12] = { program_invocation_name };
	uint64_t ran = sim.seed - opt.first + 1;
	sigset_t set;
	int n = 1;

	snprintf(why, sizeof(why), sig == SIGALRM ? "it takes longer than %d s" : "signal %d (an assertion?)",
		 sig == SIGALRM ? PATIENCE_S : sig);
	say_failed(sim.sc, sim.seed, why);
	printf("%" PRIu64 " runs, then a new process\n", ran);
	fflush(stdout);
	snprintf(first, sizeof(first), "%" PRIu64, sim.seed + 1);
	snprintf(seeds, sizeof(seeds), "%" PRIu64, opt.seeds - ran);
	args[n++] = (char *)"--keep-going";
	args[n++] = (char *)"--failed";
	args[n++] = (char *)"--first";
	args[n++] = first;
	args[n++] = (char *)"--seeds";
	args[n++] = seeds;
	if (opt.scenario != NULL) {
		args[n++] = (char *)"--scenario";
		args[n++] = (char *)opt.scenario;
	}
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	execv("/proc/self/exe", args);
	_exit(1);
}

/* An assertion of a core, or the sanitizer: the same run again, for its trace. */
static void on_abort(int sig)
{
	char seed[32], first[40], second[40], *args[16] = { program_invocation_name, (char *)"--scenario" };
	int n = 2;
	sigset_t set;

	if (sim.sc == NULL)
		_exit(1);
	if (opt.keep_going)
		go_on_elsewhere(sig);
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
	args[n++] = (char *)sim.sc->name;
	args[n++] = (char *)"--first";
	args[n++] = seed;
	args[n++] = (char *)"--seeds";
	args[n++] = (char *)"1";
	args[n++] = (char *)"--tail";
	if (sim.crash.n > 0) {
		exhaust_who(&sim.crash.v[0], first, sizeof(first));
		args[n++] = (char *)"--crash";
		args[n++] = first;
	}
	if (sim.crash.n > 1) {
		exhaust_who(&sim.crash.v[1], second, sizeof(second));
		args[n++] = (char *)"--crash";
		args[n++] = second;
	}
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	execv("/proc/self/exe", args);
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

	assert(n_scenarios <= sizeof(totals) / sizeof(totals[0]));
	t->runs++;
	t->events += sim.w.steps;
	t->starts += sim.n_starts;
	t->faults += sim.n_faults;
	t->virtual_s += (double)sim.w.now / 1e9;
	for (int i = 0; i < 3; i++)
		t->finals[i] += sim.n_final[i];
}

bool sim_run_counted(const struct scenario *sc, uint64_t seed, const struct crash_plan *crash)
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

/* What is rare in these takes more seeds to be met. */
static const struct {
	const char *scenario;
	unsigned times;
} often[] = {
	{ "start-interrupted", 5 }, { "gpus-shared", 4 }, { "power", 3 },	 { "gpus", 2 },
	{ "dies-unseen", 2 },	    { "launcher", 2 },	  { "agent-restarts", 2 }, { "coordinator-restarts", 2 },
	{ "stopped-shim", 6 },	    { "old-order", 2 },	  { "disk-full", 2 },	 { "again-chaos", 3 },
	{ "gpus-driver", 2 },	    { "gpus-return", 4 }, { "clock-set", 2 },
};

static unsigned times_of(const struct scenario *sc)
{
	for (size_t i = 0; i < sizeof(often) / sizeof(often[0]); i++)
		if (strcmp(often[i].scenario, sc->name) == 0)
			return often[i].times;
	return 1;
}

/* All but the two of chaos, each as often as said above. */
static const struct scenario *in_turn(uint64_t n)
{
	static uint64_t all;

	if (all == 0)
		for (size_t i = 0; i + 2 < n_scenarios; i++)
			all += times_of(&scenarios[i]);
	n %= all;
	for (size_t i = 0;; i++) {
		uint64_t times = times_of(&scenarios[i]);

		if (n < times)
			return &scenarios[i];
		n -= times;
	}
}

/* A seed alone names its scenario too, unless one is given. */
static const struct scenario *scenario_of(uint64_t seed)
{
	if (opt.scenario != NULL)
		return scenario_find(opt.scenario);
	/* of eight seeds two are chaos, one is chaos with GPUs */
	return seed % 8 == 4   ? &scenarios[n_scenarios - 2]
	       : seed % 4 == 2 ? &scenarios[n_scenarios - 1]
			       : in_turn(seed / 8 * 5 + (seed % 8 + 1) / 2);
}

static int run_once_failed(void)
{
	for (size_t i = 0; i < n_once_failed; i++) {
		const struct scenario *sc = scenario_find(once_failed[i].scenario);

		if (!sim_run_counted(sc, once_failed[i].seed, NULL))
			return sim_report(sc, once_failed[i].seed, NULL);
	}
	return 0;
}

#define NO_JUMP "15: a jump of the wall clock changes no timeout"

/* 15: with and without jumps of the wall clock all happens at the same time. The
 * run with them was just made. */
static bool same_without_jumps(const struct scenario *sc, uint64_t seed)
{
	uint64_t shape = sim.w.shape;

	/* over a restart of the coordinator a time limit is counted by the wall clock */
	if (sim.coord.proc.life > 1)
		return true;
	if (sim_run_without_jumps(&sim, sc, seed) && sim.w.shape == shape)
		return true;
	if (opt.keep_going)
		return false;
	printf("\nscenario: %s\nseed:     %" PRIu64 "\nbroken:   " NO_JUMP "\n", sc->name, seed);
	return false;
}

static int sweep(void)
{
	const struct crash_plan *crash = opt.crash.n > 0 ? &opt.crash : NULL;
	double from = seconds();
	uint64_t n = 0;

	if (!opt.first_given && opt.scenario == NULL && crash == NULL && !opt.keep_going && run_once_failed() != 0)
		return 1;
	for (; n < opt.seeds; n++) {
		const struct scenario *sc = scenario_of(opt.first + n);

		if (opt.seconds > 0 && n % 16 == 0 && seconds() - from > opt.seconds)
			break;
		if (opt.keep_going)
			alarm(PATIENCE_S);
		if (!sim_run_counted(sc, opt.first + n, crash)) {
			if (!opt.keep_going)
				return sim_report(sc, opt.first + n, crash);
			say_failed(sc, opt.first + n, sim.failure);
		} else if (strcmp(sc->name, "wall-clock") == 0 && crash == NULL && !opt.trace &&
			   !same_without_jumps(sc, opt.first + n)) {
			if (!opt.keep_going)
				return 1;
			say_failed(sc, opt.first + n, NO_JUMP);
		}
	}
	alarm(0);
	summary(seconds() - from, n);
	return opt.failed;
}

static int exhaustive(void)
{
	struct exhaust x = { .seeds = opt.seeds == 1000 ? 1 : opt.seeds, .first = opt.first, .pairs = opt.pairs,
			     .part = opt.part, .parts = opt.parts, .verbose = opt.verbose };
	double from = seconds();
	uint32_t n = 0;

	for (size_t i = 0; i < n_scenarios; i++) {
		if (opt.scenario != NULL ? strcmp(scenarios[i].name, opt.scenario) != 0
					 : !scenarios[i].exhaustive)
			continue;
		n++;
		if (exhaust_scenario(&x, &scenarios[i]) != 0)
			return 1;
	}
	opt.verbose = false;
	printf("%u scenarios: %" PRIu64 " with one crash, %" PRIu64 " with two\n", n, x.singles, x.doubles);
	summary(seconds() - from, x.runs);
	return 0;
}

/* ---- selftest -------------------------------------------------------------------------- */

static int selftest(void)
{
	for (size_t i = 0; i < n_scenarios; i++)
		for (uint64_t seed = opt.first; seed < opt.first + 3; seed++) {
			uint64_t hash;
			bool first = sim_run_counted(&scenarios[i], seed, NULL);

			hash = sim.w.hash;
			if (sim_run_counted(&scenarios[i], seed, NULL) == first && sim.w.hash == hash)
				continue;
			printf("scenario %s, seed %" PRIu64 ": two runs differ\n", scenarios[i].name,
			       seed);
			return 1;
		}
	printf("%zu scenarios: a seed gives the same run twice\n", n_scenarios);
	return 0;
}

/* ---- the command line --------------------------------------------------------------------- */

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seeds", 1, NULL, 'n' },   { "first", 1, NULL, 'f' },	   { "scenario", 1, NULL, 's' },
		{ "trace", 0, NULL, 't' },   { "verbose", 0, NULL, 'v' },  { "exhaustive", 0, NULL, 'x' },
		{ "selftest", 0, NULL, 'S' }, { "crash", 1, NULL, 'c' },   { "tail", 0, NULL, 'T' },
		{ "list", 0, NULL, 'l' },    { "pairs", 1, NULL, 'p' },  { "part", 1, NULL, 'P' },
		{ "coverage", 0, NULL, 'C' },    { "seconds", 1, NULL, 'd' }, { "help", 0, NULL, 'h' },
		{ "keep-going", 0, NULL, 'k' }, { "failed", 0, NULL, 'F' },
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
		case 'p':
			opt.pairs = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'P':
			if (sscanf(optarg, "%u/%u", &opt.part, &opt.parts) != 2 || opt.part < 1 ||
			    opt.part > opt.parts)
				return false;
			opt.part--;
			break;
		case 'C':
			opt.coverage = true;
			break;
		case 'd':
			opt.seconds = strtod(optarg, NULL);
			break;
		case 'k':
			opt.keep_going = true;
			break;
		case 'F':
			opt.failed = true;
			break;
		case 'c':
			if (!exhaust_parse(optarg, &opt.crash))
				return false;
			break;
		default:
			return false;
		}
	}
	return optind == argc && (opt.scenario == NULL || scenario_find(opt.scenario) != NULL);
}

/* What never happens is not tested. */
static void coverage(void)
{
	const struct disk_stats *d = &disk_stats;

	fault_coverage();
	printf("coordinator's disk: %" PRIu64 " writes, %" PRIu64 " syncs; %" PRIu64 " writes lost with the "
	       "power, %" PRIu64 " torn; %" PRIu64 " without room, %" PRIu64 " failed, %" PRIu64
	       " cut short by a crash\n",
	       d->writes, d->syncs, d->lost, d->torn, d->full, d->bad, d->cut_short);
	for (size_t i = 0; i < n_scenarios; i++)
		printf("%-21s %9" PRIu64 " runs, %" PRIu64 " starts\n", scenarios[i].name, totals[i].runs,
		       totals[i].starts);
}

int main(int argc, char **argv)
{
	static const int fatal[] = { SIGABRT, SIGALRM, SIGSEGV, SIGBUS, SIGFPE };
	int r;

	if (!parse(argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	for (size_t i = 0; i < n_scenarios && opt.list; i++)
		puts(scenarios[i].name);
	if (opt.list)
		return 0;
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		if (fatal[i] == SIGABRT || opt.keep_going)
			signal(fatal[i], on_abort);
	sim.w.text = opt.trace || opt.tail;
	sim.w.print = opt.trace;
	simstore_init();
	if (opt.selftest)
		r = selftest();
	else if (opt.exhaustive)
		r = exhaustive();
	else
		r = sweep();
	if (opt.coverage)
		coverage();
	sim_finish(&sim);
	return r;
}
