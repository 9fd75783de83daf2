/* machine.h - the life of a shim: one attempt of one job on one node
 *
 *      setup -> ready -> running -> ending -> ended -> (exit)
 *        |        |                   ^
 *        +-> failed +--- shim_end ----+
 *
 *   setup    waits for shim_setup, then has cwd and command checked
 *   ready    waits for shim_go
 *   failed   the check said no; waits for shim_bye, shim_end or the agent
 *   running  ranks were started: exactly once in the shim's life
 *   ending   told to end, or all ranks are over: whatever is left of the job
 *            is signalled, reaped and drained
 *   ended    the agent was told, or the status file is written (or was tried);
 *            waits for shim_bye
 *
 * The status file is for an agent that comes when we are gone. While one is
 * connected it is told first, and has a second to settle the matter; most jobs
 * never need the file.
 *
 * Pure: no system call, no clock, no environment. Time and facts come in the
 * event, wishes go out as actions, to be performed in order before the next
 * step. The agent may go and come at any time; whatever it missed is in the
 * shim_hello (and, when ended, the shim_ended) that each connection begins with.
 *
 * A job that may be started elsewhere has a lease, renewed by the agent. When it
 * passes, the ranks are ended as by shim_end; for the case that we are stopped then,
 * a timer of the kernel kills us, and the ranks with us, a little after their grace.
 *
 * A rank that ends does not end the others: the coordinator decides that.
 * Output, stdin, shim_arm and shim_grown do not pass here (output.c, main.c).
 *
 * Memory is taken by shim_create; a step takes some only to encode messages
 * and to keep output tails. When a message cannot be made the step asks for
 * SACT_HANG_UP: the agent comes back and is told everything again.
 */
#ifndef NA_SHIM_MACHINE_H
#define NA_SHIM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mono.h"
#include "proto/message.h"

/* Times the agent cannot set. */
#define SHIM_BYE_MS 600000 /* without shim_bye an ended shim leaves after this */
#define SHIM_ABSENT_MS 600000 /* nothing started and no agent for this long: give up */
#define SHIM_LEFTOVER_MS 2000 /* TERM to KILL for what outlives the last rank */
#define SHIM_SWEEP_MS 50 /* KILL is repeated this often until nobody is left */
#define SHIM_STUCK_MS 30000 /* after the first KILL: who still lives cannot be ended; the agent is told */
#define SHIM_DRAIN_MS 1000 /* all are dead and a pipe is still open: a stranger holds it */
#define SHIM_WRITE_MS 1000 /* told, and no shim_bye: the status file is written after all */
#define SHIM_GUARD_MS 2000 /* lease and grace have passed, and this: the kernel kills us */
#define SHIM_REWRITE_MS 10000 /* the status file could not be written: again after this */
#define SHIM_TAILS 16 /* output tails (and exceptions) kept, of the first ranks that failed */
#define SHIM_TAIL_MAX 4096

enum shim_phase { SHIM_SETUP, SHIM_READY, SHIM_FAILED, SHIM_RUNNING, SHIM_ENDING, SHIM_ENDED };

enum shim_event_type {
	SEV_AGENT_UP, /* an agent has connected; it replaces the one before, if any */
	SEV_AGENT_DOWN, /* the connection is gone (not said when SEV_AGENT_UP replaced it) */
	SEV_MESSAGE, /* msg from the agent; types the machine does not know are ignored */
	SEV_CHECKED, /* answer to SACT_CHECK: error, code, text; without an error the text is a remark */
	SEV_STARTED, /* answer to SACT_START: every local rank in 'ranks': pid, or error, code,
	              * text; and gone when not one child lives */
	SEV_REAPED, /* children were reaped: 'ranks' that were among them (maybe none) with status,
	             * tail and lost; gone when no descendant lives now */
	SEV_WORKERS, /* 'ranks' whose 'below' has changed */
	SEV_CLOSED, /* streams read to their end: local, lost, and streams (1 or 2) closed; none: its
	             * first output was lost */
	SEV_WRITTEN, /* answer to SACT_WRITE: error */
	SEV_TERM, /* the shim itself got SIGTERM: like shim_end with the grace of shim_setup; when all
	           * is over and in the status file, no agent is waited for */
	SEV_DEADLINE, /* shim_deadline() has come */
	SEV_TYPE_COUNT
};

/* What is known of the processes below a rank, and what was said at the end. */
struct shim_below {
	const struct rec_worker *workers; /* as in rank_state; copied */
	size_t n_workers;
	uint32_t found, alive;
	const char *exception; /* NULL: none */
	const char *spoken; /* the one that had been written before a signal of ours; NULL: none */
};

/* One rank in STARTED, REAPED, WORKERS or CLOSED. */
struct shim_rank_event {
	uint32_t local;
	/* STARTED */
	int32_t pid; /* > 0, or 0 with: */
	int error; /* -errno */
	uint32_t code; /* 126, 127 or 1 */
	const char *text;
	/* REAPED */
	int status; /* as waitpid gives it */
	int64_t end_us; /* when, by the wall clock */
	mono_t ended;
	uint64_t late_us; /* it may have ended up to this much before: host_late_us() */
	const char *cause; /* what the host knows of it; or NULL */
	struct bytes tail; /* last output, may be empty */
	/* REAPED, WORKERS */
	const struct shim_below *below; /* NULL: nothing new */
	/* CLOSED */
	uint32_t streams;
	/* REAPED, CLOSED */
	uint64_t lost; /* output bytes of this rank dropped so far, both streams */
};

struct shim_event {
	enum shim_event_type type;
	mono_t now;
	int64_t wall_ms, wall_us; /* one clock, two units */
	int64_t boot_ms; /* CLOCK_BOOTTIME */
	const struct msg *msg; /* MESSAGE; borrowed for the step and its actions */
	const struct shim_rank_event *ranks; /* STARTED, REAPED, WORKERS, CLOSED */
	size_t n_ranks;
	bool gone; /* STARTED, REAPED */
	uint32_t orphans; /* with gone: distinct processes SACT_SWEEP has signalled so far */
	uint64_t given; /* any: output bytes given back so far, for want of room */
	bool holeless; /* any: output was dropped, for the file system has no holes */
	int error; /* CHECKED, WRITTEN: 0 or -errno */
	uint32_t code; /* CHECKED: exit code for the client, 1 126 127 */
	const char *text; /* CHECKED, WRITTEN: one sentence when error != 0 */
};

enum shim_action_type {
	SACT_SEND, /* text, len: one JSON message to the agent */
	SACT_HANG_UP, /* out of memory: close the agent's connection (no SEV_AGENT_DOWN for it) */
	SACT_CHECK, /* setup: check cwd and command; answered by SEV_CHECKED */
	SACT_START, /* go: start all ranks; answered by SEV_STARTED. At most once in a life */
	SACT_SIGNAL, /* sig to all ranks' sessions and all other descendants. Not answered */
	SACT_SWEEP, /* sig to all descendants (the ranks are over); counted as orphans. Not answered
	             * but by SEV_REAPED with gone */
	SACT_STUCK, /* tell the agent who lives in spite of SIGKILL (shim_stuck). Not answered */
	SACT_CLOSE, /* close all output streams, whoever holds them; answered by SEV_CLOSED */
	SACT_GUARD, /* kill this process at boot_ms (CLOCK_BOOTTIME), whatever it does then; replaces the
	             * one before; 0: not at all. Not answered */
	SACT_WRITE, /* text, len: the status file's new content; answered by SEV_WRITTEN */
	SACT_EXIT, /* leave. Nothing follows */
	SACT_TYPE_COUNT
};

struct shim_action {
	enum shim_action_type type;
	int sig;
	int64_t boot_ms;
	char *text; /* owned by the list */
	size_t len;
	const struct rec_shim_setup *setup; /* borrowed from the event's msg */
	const struct rec_shim_go *go;
};

#define SHIM_ACTIONS_MAX 10 /* a step never has more */

struct shim_actions {
	struct shim_action v[SHIM_ACTIONS_MAX];
	size_t n;
};

struct shim;

/* start_time is the shim's own (proc_start_time), for shim_hello. nprocs
 * 1..4096. NULL on ENOMEM. */
struct shim *shim_create(uint64_t job, uint32_t attempt, uint32_t nprocs, uint32_t pid,
			 uint64_t start_time, mono_t now);
void shim_destroy(struct shim *s); /* NULL is fine */

/* The list is reset first. Cannot fail. */
void shim_step(struct shim *s, const struct shim_event *ev, struct shim_actions *out);
/* When to send SEV_DEADLINE; MONO_NEVER while nothing is awaited: a running
 * job costs no wake-up. */
mono_t shim_deadline(const struct shim *s);

void shim_actions_init(struct shim_actions *a);
void shim_actions_finish(struct shim_actions *a); /* frees the texts; usable again */

enum shim_phase shim_phase(const struct shim *s);
const char *shim_phase_name(enum shim_phase p); /* as in shim_hello */
const char *shim_event_name(enum shim_event_type t);
const char *shim_action_name(enum shim_action_type t);
uint32_t shim_running(const struct shim *s); /* ranks alive */
bool shim_started(const struct shim *s); /* SACT_START has been asked for */
/* Local rank's pid while it lives, else 0. */
int32_t shim_rank_pid(const struct shim *s, uint32_t local);

/* For tests and the simulator: asserts the machine's own consistency. */
void shim_check(const struct shim *s);

#endif
