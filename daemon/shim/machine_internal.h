/* machine_internal.h - what machine.c, machine_below.c and machine_tell.c share; nobody else includes it */
#ifndef NA_SHIM_MACHINE_INTERNAL_H
#define NA_SHIM_MACHINE_INTERNAL_H

#include "shim/machine.h"

enum rank_phase { RANK_WAITING, RANK_RUNNING, RANK_EXITED, RANK_KILLED, RANK_FAILED };

struct rank {
	enum rank_phase phase;
	int32_t pid;
	uint32_t code;
	uint32_t sig;
	uint32_t open; /* streams not yet read to their end */
	bool core;
	bool ours;
	bool dirty; /* changed since it was last reported */
	int64_t start_wall_ms, end_wall_ms;
	int64_t end_us; /* end_wall_ms, finer */
	mono_t ended;
	uint64_t late_us; /* ... and up to this much before */
	uint64_t lost;
	char *text; /* owned */
	char *cause; /* owned */
	char *tail; /* owned */
	size_t tail_len;
	char *exception; /* owned */
	struct rec_worker *workers; /* owned, of workers_dup() */
	size_t n_workers;
	uint32_t found, alive;
};

struct shim {
	uint64_t job;
	uint32_t attempt;
	uint32_t nprocs;
	uint32_t pid;
	uint64_t start_time;
	enum shim_phase phase;
	bool agent; /* one is connected */
	/* shim_setup */
	bool have_setup;
	bool checking;
	uint32_t rank_base;
	uint32_t grace_ms;
	uint32_t fail_code;
	char *fail_text; /* owned; NULL: out of memory */
	char *remark; /* owned; it is ready, and this was found; NULL: nothing */
	/* shim_go */
	char master_addr[46]; /* "": not started */
	uint32_t master_port;
	int64_t lease_boot_ms; /* 0: no lease */
	int64_t guard_boot_ms; /* 0: none */
	int64_t boot_ms; /* of this step */
	bool lapsed;
	/* start to end */
	bool started; /* SACT_START was asked for */
	bool starting; /* and not answered */
	mono_t started_at;
	mono_t now; /* of the step under way */
	bool gone; /* no child lives */
	bool sent_term, sent_kill;
	uint32_t n_running;
	uint32_t n_open;
	uint32_t n_tails;
	uint32_t n_exceptions;
	uint32_t orphans;
	uint32_t pause_ms; /* until the next KILL */
	bool stuck; /* somebody has outlived SIGKILL for long */
	uint64_t given; /* output bytes given back */
	bool holeless; /* ... or dropped instead */
	bool stranger; /* a pipe was held open from outside */
	bool writing; /* SACT_WRITE is not answered */
	bool no_tails; /* the status file is short of room */
	bool unwritten; /* and could not be written */
	bool written; /* the status file says all */
	bool hopeless; /* nor will it ever be: its directory is gone */
	bool terminated; /* SIGTERM has come: the host may be going down */
	bool leaving; /* told to go, once the status file is written or was tried */
	/* each MONO_NEVER when not armed */
	mono_t absent_at, kill_at, sweep_at, stuck_at, drain_at, rewrite_at, exit_at, lease_at;
	struct rank ranks[];
};

struct shim_action *shim_act(struct shim_actions *a, enum shim_action_type type);

/* What became known of the processes below a rank; NULL: nothing. */
void below_rank_take(struct shim *s, struct rank *r, const struct shim_below *b);
/* The same for a rank that has just ended: whose end was it? */
void below_rank_ended(struct shim *s, struct rank *r, const struct shim_below *b);

/* Each appends SACT_SEND when an agent is connected, SACT_HANG_UP on ENOMEM. */
void tell_hello(struct shim *s, struct shim_actions *a);
void tell_ready(struct shim *s, struct shim_actions *a);
void tell_ranks(struct shim *s, bool all, struct shim_actions *a);
void tell_ended(struct shim *s, struct shim_actions *a);
/* SACT_WRITE; -ENOMEM. */
int tell_write(struct shim *s, struct shim_actions *a);

#endif
