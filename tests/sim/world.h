/* world.h - virtual time, chance, memory and the trace of one simulated run
 *
 * Everything that happens is an event in one queue, ordered by (virtual time,
 * sequence number); no pointer and no real clock takes part in the order, so
 * the same seed gives the same run. Memory of a run is taken from one pool and
 * given back all at once.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mono.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
#define NEVER INT64_MAX

struct rng {
	uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); /* 0..n-1; n >= 1 */
int64_t rng_range(struct rng *r, int64_t lo, int64_t hi); /* lo..hi */
bool rng_chance(struct rng *r, uint32_t permille);
void rng_fill(struct rng *r, void *p, size_t n);

struct proc;

enum event_kind {
	EV_TIMER, /* a: generation; the core's deadline */
	EV_PUMP, /* p: conn, a: direction */
	EV_DIALED, /* agent: the outcome of ACT_DIAL */
	EV_COMMIT, /* coordinator: p: transaction becomes durable */
	EV_STORED, /* coordinator: p: transaction is answered */
	EV_RESTART, /* a process comes (back) up */
	EV_DONE, /* agent: p: done */
	EV_FETCH, /* agent: p: fetch under way */
	EV_CONNECT, /* agent: connects to the shim p */
	EV_CHECKED, /* shim */
	EV_STARTED, /* shim */
	EV_EXIT, /* p: worker process ends by itself or by a signal; a: its signal generation */
	EV_REAP, /* shim: the dead are reaped */
	EV_CLOSED, /* shim: streams were read to their end */
	EV_WRITTEN, /* shim */
	EV_GUARD, /* shim: the kernel's timer that kills it; a: which */
	EV_CLIENT, /* client: a: what */
	EV_ROGUE, /* lying node: a: what */
	EV_PROBE, /* agent: its probe; a: what, p: what it has read */
	EV_LEAVE, /* agent is asked to stop; a: what */
	EV_LAUNCHER, /* launcher: a: what, p: ask */
	EV_ADMIN, /* administrator: a: what */
	EV_FAULT, /* p: fault */
	EV_REPEAT, /* agent: p: what it says again */
	EV_PULSE, /* shim: looks at what its ranks do */
	EV_HANG, /* p: shim; a: what, see hang.c */
	EV_CHECK, /* a deferred check; a: which */
	EV_KINDS
};

struct event {
	int64_t at; /* virtual monotonic ns */
	uint64_t seq;
	enum event_kind kind;
	uint32_t life; /* of proc when it was made: a later life never sees it */
	struct proc *proc; /* NULL: the world's own */
	uint64_t a;
	void *p;
};

struct pool_block;
struct world {
	struct rng rng; /* what the world does */
	struct rng core_rng; /* what cores are handed: how often they are stepped changes no history */
	int64_t now; /* ns since the run began */
	int64_t wall_offset_ms;
	uint64_t seq, steps;
	struct event *heap;
	size_t n, cap;
	uint64_t hash; /* of all that happened */
	uint64_t shape; /* the same without contents: who, when, what kind */
	struct pool_block *blocks, *current;
	/* text of the last lines, only when asked for */
	bool text; /* keep lines */
	bool print; /* and print them at once */
	char (*lines)[4000]; /* rows of jobs are long */
	size_t n_lines;
};

#define WORLD_LINES 400

void world_begin(struct world *w, uint64_t seed); /* keeps the memory of the run before */
void world_finish(struct world *w);
void *world_alloc(struct world *w, size_t n); /* zeroed; lives until the next begin */
void *world_copy(struct world *w, const void *p, size_t n); /* one NUL after it */
char *world_printf(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void world_at(struct world *w, int64_t at, enum event_kind kind, struct proc *p, uint64_t a,
	      void *arg);
bool world_pop(struct world *w, struct event *ret); /* sets now; false: nothing left */
/* p is stopped until then; what waits for it already stays in order. */
void world_stop(struct world *w, struct proc *p, int64_t until);
mono_t world_mono(const struct world *w);
int64_t world_wall_us(const struct world *w);
int64_t world_boot(const struct world *w); /* CLOCK_BOOTTIME of every host, ms */
int64_t world_of_boot(const struct world *w, int64_t boot_ms);
const char *event_kind_name(enum event_kind k);

void world_mix(struct world *w, uint64_t v); /* both hashes */
void world_mix_bytes(struct world *w, const void *p, size_t n); /* contents only */
void world_line(struct world *w, const char *who, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void world_tail(const struct world *w, size_t n);

/* Formatting is only paid for when somebody reads. */
#define LINE(w, who, ...)                                                                  \
	do {                                                                               \
		if ((w)->text)                                                             \
			world_line(w, who, __VA_ARGS__);                                   \
	} while (0)

#endif
