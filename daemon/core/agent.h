/* agent.h - one node: its link to the coordinator, its jobs, its local clients
 *
 * Pure, like coord.h. Bulk (output, stdin, specifications) does not pass
 * here: io/bulk.c moves it and asks agent_may_*() first.
 *
 * A lost coordinator link does not end jobs: their shims keep them, and what
 * happened meanwhile is told on return. Cannot tell a dead coordinator from a
 * cut link; both mean "try again".
 */
#ifndef NA_CORE_AGENT_H
#define NA_CORE_AGENT_H

#include "common/mono.h"
#include "core/actions.h"

struct agent;

struct agent_conf {
	const char *node; /* copied, as all strings here */
	const char *boot_id; /* the kernel's */
	const char *coordinator; /* HOST:PORT, for sentences */
	const char *spool_dir; /* the same; NULL: "its spool directory" */
	uint64_t incarnation; /* random, new for each start */
	uint32_t peer_port;
	uint32_t cpus;
	uint32_t heartbeat_ms; /* 1000 */
	uint32_t silence_ms; /* no word from the coordinator: drop the link: 5000, or longer with a
	                      * coordinator that wants fewer heartbeats */
	uint32_t request_ms; /* a client's request waits this long for the coordinator: 30000 */
	uint32_t backoff_min_ms, backoff_max_ms; /* 200, 15000 */
	bool single_user; /* no launcher: serves own_uid only */
	uint32_t own_uid;
	bool probe; /* readings will come (AEV_READINGS): GPUs are managed */
	bool no_nccl_log; /* jobs' NCCL is not asked to write one */
	bool no_ras; /* ... nor how far it is */
	uint32_t gpu_share, gpu_share_of; /* virtual nodes: GPUs i with i % of == share are ours; of <= 1: all */
	uint32_t pulse_ms; /* shims look at what their ranks do this often; 0: never */
	bool allow_root;
	uint32_t uid_min, uid_max; /* uids that may run here (launcher mode) */
};

enum agent_event_type {
	AEV_LINK_UP, /* link, kind, and what the kind says */
	AEV_LINK_DOWN, /* link, text: why */
	AEV_DIAL_FAILED, /* text: why */
	AEV_MESSAGE, /* link, msg; for submit also spec_hash, spec_size of what this link uploaded */
	AEV_DEADLINE,
	AEV_DONE, /* ticket, error, text, result, ... of an action */
	AEV_ADOPT, /* before the first other event, once per held record found: held, latched,
	            * ended (the shim's final report, if it left one) or alive (it is being connected);
	            * held NULL: ranks of job and attempt were started, and its record cannot be read */
	AEV_STOP, /* end all jobs of this node (standalone shutdown); agent_idle() tells when done */
	AEV_ADDRS, /* addrs: this node's addresses have become known or changed */
	AEV_READINGS, /* msg: readings of the probe; or NULL: there are none, text says why */
};

enum agent_link_kind { LINK_COORD, LINK_CLIENT, LINK_PEER, LINK_SHIM };

struct agent_event {
	enum agent_event_type type;
	mono_t now;
	int64_t wall_ms, wall_us; /* one clock, two units */
	int64_t boot_ms; /* CLOCK_BOOTTIME */
	uint8_t random[64];
	uint64_t link; /* never reused within a life of the process */
	enum agent_link_kind kind;
	uint32_t uid; /* LINK_CLIENT */
	const char *user;
	uint8_t key[32]; /* LINK_PEER */
	uint64_t job; /* LINK_SHIM; AEV_ADOPT */
	uint32_t attempt;
	const struct msg *msg;
	const uint8_t *spec_hash; /* 32 bytes or NULL */
	uint32_t spec_size;
	uint64_t ticket;
	int error; /* 0 or -errno */
	int exit_code; /* 126/127 when the command is at fault, else 0 */
	bool retry; /* the failure is this node's, not the job's */
	const char *text; /* one sentence when error != 0; after a sweep: who lives on, or NULL */
	uint32_t result; /* DONE of ACT_FETCH, ACT_KEEP_SPEC: 1: a copy is on disk */
	const struct rec_stuck_proc *stuck; /* DONE of ACT_SWEEP: of those, who got SIGKILL and lives */
	size_t n_stuck;
	/* DONE of ACT_LEASE */
	uint32_t master_port, proof_port;
	const char *const *ras; /* nprocs addresses "127.0.0.1:PORT" */
	size_t n_ras;
	/* DONE of ACT_PROVE */
	const struct rec_proof_result *results;
	size_t n_results;
	const char *ifname; /* interface that carried the proved connections */
	uint32_t mtu; /* of it; 0: not known */
	/* ADOPT */
	const struct rec_row_held *held;
	bool latched;
	bool alive;
	const struct rec_shim_ended *ended;
	/* ADDRS */
	const struct rec_addr *addrs;
	size_t n_addrs;
};

struct agent *agent_create(const struct agent_conf *conf, mono_t now);
void agent_destroy(struct agent *a);
int agent_step(struct agent *a, const struct agent_event *ev, struct actions *out);
mono_t agent_deadline(const struct agent *a);

bool agent_registered(const struct agent *a);
bool agent_idle(const struct agent *a); /* after AEV_STOP: no job of ours is alive */

/* For the TLS listener: may this key open a peer link now? */
bool agent_peer_allowed(const struct agent *a, const uint8_t key[32]);
/* This key is out: it is not dialled either. */
bool agent_peer_revoked(const struct agent *a, const uint8_t key[32]);
/* For io/bulk.c. All answer from the present state. */
/* The peer with this key may read this job's output and feed its stdin. */
bool agent_peer_may(const struct agent *a, const uint8_t key[32], uint64_t job);
/* ... or at least fetch its specification. */
bool agent_peer_may_fetch(const struct agent *a, const uint8_t key[32], uint64_t job);
/* The client on this link watches this job (the coordinator has said yes). */
bool agent_client_may(const struct agent *a, uint64_t link, uint64_t job);
/* Where the watched job's output lies, from the last job_update: borrowed until
 * the next step. The job's current attempt in *ret_attempt. 0 when not watched. */
size_t agent_job_peers(const struct agent *a, uint64_t link, uint64_t job,
		       const struct rec_peer **ret, uint32_t *ret_attempt);
/* The local part of a job: rank_base and nprocs. False when it is not here. */
bool agent_local_ranks(const struct agent *a, uint64_t job, uint32_t attempt,
		       uint32_t *ret_base, uint32_t *ret_n);
/* A rank of it was started here, as far as is known. */
bool agent_attempt_began(const struct agent *a, uint64_t job, uint32_t attempt);
/* The link to the shim, 0 when there is none now. */
uint64_t agent_shim_link(const struct agent *a, uint64_t job, uint32_t attempt);

/* Before the first event: this one lies on disk. */
void agent_spec_found(struct agent *a, const uint8_t hash[32]);
/* Must the specification with this hash be kept? Everything must, until the coordinator
 * has told which jobs are unfinished. */
bool agent_spec_needed(const struct agent *a, const uint8_t hash[32]);
bool agent_specs_known(const struct agent *a);
/* All that must be kept; once known. May name one twice. */
void agent_each_spec(const struct agent *a, void (*f)(void *arg, const uint8_t hash[32]), void *arg);

/* For tests and the simulator. */
void agent_check(const struct agent *a);
void agent_each_job(const struct agent *a,
		    void (*f)(void *arg, uint64_t job, uint32_t attempt, const char *phase),
		    void *arg);

#endif
