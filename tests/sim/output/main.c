/* main.c - sim-output [--seeds N] [--first N] [--seconds T] [--verbose]
 *
 * Each seed is one run. The first that breaks something ends it with code 1 and three lines:
 * scenario, seed, broken. The last line of a good one counts what went wrong in the runs.
 */
#include "tests/sim/output/flow.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t seed = 1;

void broken(const char *fmt, ...)
{
	va_list ap;

	printf("scenario: output\nseed: %" PRIu64 "\nbroken: ", seed);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\nreplay: build/sim-output --first %" PRIu64 " --seeds 1 --verbose\n", seed);
	for (unsigned i = 0; i < HOSTS; i++)
		host_end(&hosts[i]);
	exit(1);
}

static uint64_t value(int argc, char **argv, const char *name, uint64_t other)
{
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return strtoull(argv[i + 1], NULL, 10);
	return other;
}

int main(int argc, char **argv)
{
	uint64_t first = value(argc, argv, "--first", 1), n = value(argc, argv, "--seeds", 1000);
	time_t until = time(NULL) + (time_t)value(argc, argv, "--seconds", 1u << 30);

	signal(SIGPIPE, SIG_IGN);
	for (int i = 1; i < argc; i++)
		verbose = verbose || strcmp(argv[i], "--verbose") == 0;
	for (seed = first; seed < first + n && time(NULL) < until; seed++)
		run(seed);
	printf("%" PRIu64 " runs: %" PRIu64 " bytes of output read and right; %" PRIu64 " connections cut, %" PRIu64 " agents, %" PRIu64
	       " shims and %" PRIu64 " hosts killed; %" PRIu64 " times told of loss, %" PRIu64 " of output given back, %" PRIu64
	       " of output that is missing\n", counts.runs, counts.bytes, counts.cuts, counts.crashes, counts.kills, counts.powers,
	       counts.losses, counts.gaps, counts.missing);
	return 0;
}
