/* actions.h - what a pure core asks the world to do
 *
 * A step fills a list of actions; io/perform.c (or the simulator) performs
 * them in order. Messages are encoded when the action is made, so an action
 * borrows nothing from the core. "Acting twice is harmless."
 */
#ifndef NA_CORE_ACTIONS_H
#define NA_CORE_ACTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "proto/message.h"

enum store_table { TABLE_CLUSTER, TABLE_NODE, TABLE_TOKEN, TABLE_JOB, TABLE_REVOKED, TABLE_EVENT, TABLE_BASE };

/* One row to write: key is the node's name, token's id, decimal job number, or a hash. */
struct store_row {
	enum store_table table;
	const char *key;
	const char *json; /* encoded row_* message; NULL deletes the row */
	size_t len;
	bool broken; /* could not be encoded: its transaction fails */
};

enum action_type {
	/* both */
	ACT_SEND, /* link, text, len: one JSON message */
	ACT_CLOSE, /* link, text: flush what was sent before, then close; the text is for the log */
	ACT_LOG, /* text: one line for the log; job when it concerns one */
	/* coordinator */
	ACT_PERSIST, /* ticket, rows: one durable transaction; answered by CEV_STORED, in order */
	ACT_DROP_KEY, /* key: close links of this key that the core does not know yet */
	ACT_EVENT, /* text, len: an event as a line of JSON, for the hook program. Not answered */
	/* agent; each is answered by AEV_DONE with its ticket unless said otherwise */
	ACT_DIAL, /* connect to the coordinator; answered by AEV_LINK_UP or AEV_DIAL_FAILED */
	ACT_FETCH, /* job, prepare: have the specification ready here (local store or a peer that has it); a copy
	            * on disk as well if prepare->keep: result 1; text: why there is none */
	ACT_LEASE, /* job, prepare: MASTER_PORT (when node_rank is 0), RAS ports, and listeners for proofs */
	ACT_SPAWN, /* job, prepare, cookie: held record, spool, shim; then AEV_LINK_UP kind shim */
	ACT_PROVE, /* job, proofs: try the connections */
	ACT_UNLISTEN, /* job: close the proof listeners. Not answered */
	ACT_LATCH, /* job: O_EXCL latch in the run directory; -EEXIST when it was taken before */
	ACT_SWEEP, /* job, cookie: the shim is dead; kill what it left. result: processes killed */
	ACT_CLEAN, /* job: drop lease, socket, latch and held record; spool stays. Not answered */
	ACT_REVOKE, /* key: close peer links of this key. Not answered */
	ACT_PEER_OUT, /* key, job: this peer may not read this job any more, unless agent_peer_may(). Not answered */
	ACT_DROP_SPEC, /* key: the hash of a specification that no job needs here any more. Not answered */
	ACT_CONTAINERS, /* job, shim_pid, pids: does one of them have a daemon start containers? result: 1 + index of
	                 * the pid below which it was found, UINT32_MAX: below the shim only; text: its command */
	ACT_READ, /* readings of GPUs are wanted now. Not answered but by AEV_READINGS */
	ACT_LOOK, /* procs: which of them live? result: bit i is set for the i-th */
	ACT_CONFIRM, /* job, shim_pid, cookie, prepare, procs: who cannot be killed by its shim's word. stuck: those of
	              * them of whom that is true, as the agent sees them itself */
	ACT_KEEP_SPEC, /* job, prepare (only what a fetch needs): have a copy of the specification on disk */
	ACT_TIDY_SPECS, /* all but those of agent_each_spec() may go. Not answered */
	ACT_FIX_SM, /* unit, enable, order, tell: the launcher is asked to restart the subnet manager. result: as in launcher_reply;
	             * text: why it did not go well, or empty */
};

struct action {
	enum action_type type;
	uint64_t link;
	const char *text;
	size_t len;
	uint64_t ticket;
	uint64_t job;
	uint32_t attempt;
	struct store_row *rows;
	size_t n_rows;
	const struct rec_prepare *prepare; /* deep copy in the list's arena */
	const char *prepare_json; /* the same, encoded (for the held record) */
	const struct rec_proof *proofs;
	size_t n_proofs;
	uint32_t shim_pid;
	const uint32_t *pids;
	size_t n_pids;
	const struct rec_stuck_proc *procs; /* LOOK: pid and start_time only */
	size_t n_procs;
	const char *cookie;
	uint64_t lineage;
	uint8_t key[32];
	uint32_t unit; /* enum sm_unit */
	bool enable;
	uint64_t order; /* FIX_SM: its number, or 0 */
	bool tell; /* ... what became of it: it is not carried out */
};

struct actions {
	struct action *v;
	size_t n, cap;
	struct arena arena;
	bool failed; /* out of memory: the step's effects are incomplete; the process must stop */
	unsigned invalid; /* messages left out because they broke their own limits: a bug, to be logged */
};

void actions_init(struct actions *a);
void actions_reset(struct actions *a);
void actions_finish(struct actions *a);
/* A zeroed action at the end of the list; never NULL (a spare one after failure). */
struct action *act_add(struct actions *a, enum action_type type);
void act_send(struct actions *a, uint64_t link, const struct msg *m);
void act_close(struct actions *a, uint64_t link, const char *why);
/* One transition, as "node gpu02: ok -> unreachable (silent for 3.6 s)". job 0: none. */
void act_log(struct actions *a, uint64_t job, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* refused{rid (0: none), code, text} */
void act_refuse(struct actions *a, uint64_t link, uint32_t rid, const char *code, const char *fmt,
		...) __attribute__((format(printf, 5, 6)));
/* Appends an encoded row to the PERSIST action 'p'. One that breaks its own limits makes
 * all of it fail with -EINVAL: what is not on disk must not be taken for stored. */
void act_row(struct actions *a, struct action *p, enum store_table table, const char *key,
	     const struct msg *m /* NULL deletes */);
const char *action_name(enum action_type t);

#endif
