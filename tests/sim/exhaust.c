/* exhaust.c - see exhaust.h
 *
 * Every action of every process is counted in a run without crashes; then the
 * same run again for each of them, with a crash right after it. The
 * coordinator and each agent are killed, and so are their hosts (power failure,
 * reboot), each shim, launcher and client. For a pair the second crash is of any of
 * them, so many actions after the first one.
 */
#include "tests/sim/exhaust.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VICTIMS_MAX 128

static const struct {
	const char *name;
	enum proc_kind kind;
	enum crash_how how;
	bool numbered;
} names[] = {
	{ "coord", PK_COORD, CR_KILL, false }, { "power", PK_COORD, CR_HOST, false },
	{ "agent", PK_AGENT, CR_KILL, true },  { "reboot", PK_AGENT, CR_HOST, true },
	{ "shim", PK_SHIM, CR_KILL, true },    { "client", PK_CLIENT, CR_KILL, true },
	{ "launcher", PK_LAUNCHER, CR_KILL, true },
};
#define NAMES (sizeof(names) / sizeof(names[0]))

/* ---- as text --------------------------------------------------------------------- */

void exhaust_who(const struct crash *c, char *out, size_t size)
{
	for (size_t i = 0; i < NAMES; i++)
		if (names[i].kind == c->kind && names[i].how == c->how && names[i].numbered)
			snprintf(out, size, "%s%u:%" PRIu64, names[i].name, c->idx, c->after);
		else if (names[i].kind == c->kind && names[i].how == c->how)
			snprintf(out, size, "%s:%" PRIu64, names[i].name, c->after);
}

bool exhaust_parse(const char *text, struct crash_plan *p)
{
	const char *colon = strchr(text, ':');

	if (colon == NULL || p->n == 2)
		return false;
	for (size_t i = 0; i < NAMES; i++) {
		size_t n = strlen(names[i].name);

		if (strncmp(text, names[i].name, n) != 0)
			continue;
		p->v[p->n++] = (struct crash){ names[i].kind, names[i].how,
					       (uint32_t)strtoul(text + n, NULL, 10),
					       strtoull(colon + 1, NULL, 10) };
		return true;
	}
	return false;
}

void exhaust_text(const struct crash_plan *c, char *out, size_t size)
{
	char who[40];

	out[0] = '\0';
	for (unsigned i = 0; i < c->n; i++) {
		size_t n = strlen(out);

		exhaust_who(&c->v[i], who, sizeof(who));
		snprintf(out + n, size - n, " --crash %s", who);
	}
}

/* ---- all of them ------------------------------------------------------------------- */

struct victims {
	struct crash v[VICTIMS_MAX]; /* after: its last action */
	size_t n;
};

static void add(struct victims *v, enum proc_kind kind, enum crash_how how, uint32_t idx,
		uint64_t actions)
{
	if (v->n < VICTIMS_MAX && actions > 0)
		v->v[v->n++] = (struct crash){ kind, how, idx, actions };
}

/* Of the run that was just made. */
static void find_victims(struct victims *v)
{
	v->n = 0;
	add(v, PK_COORD, CR_KILL, 0, sim.coord.proc.actions);
	add(v, PK_COORD, CR_HOST, 0, sim.coord.proc.actions);
	for (uint32_t i = 0; i < sim.n_agents; i++) {
		add(v, PK_AGENT, CR_KILL, i, sim.agents[i].proc.actions);
		add(v, PK_AGENT, CR_HOST, i, sim.agents[i].proc.actions);
		add(v, PK_LAUNCHER, CR_KILL, i, sim.agents[i].launcher.actions);
	}
	for (uint32_t i = 0; i < sim.n_shims; i++)
		add(v, PK_SHIM, CR_KILL, i, sim.shims[i]->proc.actions);
	for (uint32_t i = 0; i < sim.n_clients; i++)
		add(v, PK_CLIENT, CR_KILL, i, sim.clients[i].proc.actions);
}

static int run_one(struct exhaust *x, const struct scenario *sc, uint64_t seed,
		   const struct crash_plan *plan)
{
	if (x->turn++ % x->parts != x->part)
		return 0;
	x->runs++;
	x->singles += plan->n == 1;
	x->doubles += plan->n == 2;
	return sim_run_counted(sc, seed, plan) ? 0 : sim_report(sc, seed, plan);
}

static int singles(struct exhaust *x, const struct scenario *sc, uint64_t seed, const struct victims *v)
{
	struct crash_plan plan = { .n = 1 };
	int bad = 0;

	for (size_t k = 0; k < v->n && !bad; k++) {
		plan.v[0] = v->v[k];
		for (uint64_t i = 1; i <= v->v[k].after && !bad; i++) {
			plan.v[0].after = i;
			bad = run_one(x, sc, seed, &plan);
		}
	}
	return bad;
}

static struct crash some(struct rng *r, const struct victims *v)
{
	struct crash c = v->v[rng_below(r, v->n)];

	c.after = 1 + rng_below(r, c.after);
	return c;
}

static int doubles(struct exhaust *x, const struct scenario *sc, uint64_t seed, const struct victims *v)
{
	struct crash_plan plan = { .n = 2 };
	struct rng r;
	int bad = 0;

	rng_seed(&r, seed * 1000003 + (uint64_t)(sc - scenarios));
	for (unsigned i = 0; i < x->pairs && v->n > 0 && !bad; i++) {
		plan.v[0] = some(&r, v);
		plan.v[1] = some(&r, v);
		if (rng_chance(&r, 500)) /* soon after: in the middle of what the first one has broken */
			plan.v[1].after = 1 + plan.v[1].after % 12;
		bad = run_one(x, sc, seed, &plan);
	}
	return bad;
}

int exhaust_scenario(struct exhaust *x, const struct scenario *sc)
{
	static struct victims v;
	uint64_t before = x->runs;
	int bad = 0;

	for (uint64_t seed = x->first; seed < x->first + x->seeds && !bad; seed++) {
		x->runs++;
		if (!sim_run_counted(sc, seed, NULL))
			return sim_report(sc, seed, NULL);
		find_victims(&v);
		bad = singles(x, sc, seed, &v);
		if (!bad)
			bad = doubles(x, sc, seed, &v);
	}
	if (x->verbose && !bad)
		printf("%-21s %6" PRIu64 " runs\n", sc->name, x->runs - before);
	return bad;
}
