/* exhaust.h - a crash after every action of a scenario; pairs of crashes, sampled */
#ifndef SIM_EXHAUST_H
#define SIM_EXHAUST_H

#include "tests/sim/sim.h"

struct exhaust {
	uint64_t seeds, first;
	unsigned pairs; /* of each scenario and seed */
	unsigned part, parts; /* every parts-th run is ours */
	bool verbose;
	uint64_t runs, singles, doubles; /* made so far */
	uint64_t turn;
};

/* 0, or 1 after a report. */
int exhaust_scenario(struct exhaust *x, const struct scenario *sc);

/* "WHO:N", as on the command line. */
void exhaust_who(const struct crash *c, char *out, size_t size);
bool exhaust_parse(const char *text, struct crash_plan *add_to);
/* " --crash WHO:N --crash WHO:N", or "". */
void exhaust_text(const struct crash_plan *c, char *out, size_t size);

/* main.c */
extern struct sim sim;
bool sim_run_counted(const struct scenario *sc, uint64_t seed, const struct crash_plan *crash);
int sim_report(const struct scenario *sc, uint64_t seed, const struct crash_plan *crash); /* 1 */

#endif
