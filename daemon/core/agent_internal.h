/* agent_internal.h - what the agent's files share; nobody else includes it
 *
 *   agent.c          creation, dispatch of events, accepted links
 *   agent_session.c  the link to the coordinator
 *   agent_request.c  what local clients ask, passed on to the coordinator
 *   agent_job.c      life of a job's part on this node
 *   agent_prepare.c  may its part be, the shim's setup, connections tried
 *   agent_shim.c     what its shim says, its death, finding it again
 *   agent_lease.c    how long jobs that may restart run without the coordinator
 *   agent_report.c   states of ranks, and what is told about them
 *   agent_stuck.c    processes that outlive SIGKILL, until they are gone
 *   below.c          what is below a rank (for the coordinator as well)
 *   agent_happened.c what may be why a process ended
 *   agent_fix.c      the subnet manager restarted by the launcher
 *   agent_containers.c  jobs that have a daemon start containers
 *   agent_peer.c     which peers may speak to us, and about what
 *   agent_spec.c     which specifications must be kept
 */
#ifndef NA_CORE_AGENT_INTERNAL_H
#define NA_CORE_AGENT_INTERNAL_H

#include "common/list.h"
#include "core/agent.h"
#include "core/below.h"
#include "core/skew.h"
#include "core/map.h"
#include "proto/features.h"

#define NODE_JOBS_MAX 128u
#define NODE_RANKS_MAX 4096u
#define HAPPENINGS_MAX 32u
#define START_ENV_MAX 16u /* variables of one 'start', as in messages.def */
#define CLIENT_LINKS_MAX 256u /* connections one user may have open to this agent */
#define CLIENT_HELLO_MS 10000
#define REQUESTS_MAX 64u /* unanswered ones of one client */
#define REQUESTS_AT_ONCE 16u /* passed on to the coordinator, not answered yet */

#define ASKED 16u /* pings whose answers may be on their way */

enum session_state { SE_DOWN, SE_DIALING, SE_HELLO, SE_REGISTERING, SE_READY };

struct alink {
	uint64_t id;
	enum agent_link_kind kind;
	bool greeted; /* hello was exchanged */
	bool closing; /* we have hung up */
	mono_t since;
	uint32_t uid;
	char user[65];
	uint8_t key[32];
	uint64_t job;
	uint32_t attempt;
	struct list all;
};

/* A client's request on its way. A watch stays after its first answer. */
struct request {
	uint32_t rid; /* ours */
	uint64_t link;
	uint32_t client_rid;
	bool is_watch, is_submit, is_read, answered; /* read: of what is so; a person waits for it */
	bool sent; /* in this session */
	uint32_t needs; /* a submit: features */
	bool may_be_taken; /* a submit that the coordinator may have read */
	uint64_t job; /* watch */
	mono_t asked, until;
	char *text; /* as sent to the coordinator, for sending again; own copy */
	size_t len;
	struct arena peer_arena; /* watch: where the output lies */
	bool peers_go_on; /* ... and some of them are still to come */
	struct rec_peer *peers;
	size_t n_peers;
	uint32_t attempt;
	struct list all;
};

enum job_phase {
	AJ_FETCHING, /* specification and leases are being got */
	AJ_SPAWNING,
	AJ_SETUP, /* shim is there and checks */
	AJ_READY,
	AJ_LATCHING, /* start has come; the latch is being taken */
	AJ_STARTING, /* go was sent */
	AJ_RUNNING, /* ranks were reported */
	AJ_SWEEPING, /* the shim is dead; what it left is being killed */
	AJ_FAILED, /* could not prepare; waits for 'end' */
	AJ_ENDED, /* nothing lives; waits for 'forget' */
	AJ_ADOPTING, /* after our restart: waits for the shim's word */
	AJ_UNKNOWN, /* after our restart: it was started, and what we held of it cannot be read */
	AJ_PHASES
};

struct local_rank {
	char state[16];
	uint32_t pid, code, sig;
	bool core, ours;
	int64_t start_wall_ms, end_wall_ms;
	int64_t end_us, end_mono_us; /* 0: not known so well */
	uint64_t late_us;
	uint64_t lost_bytes;
	char *text;
	char *cause; /* own copy or NULL */
	struct bytes tail;
	struct below below;
};

#define ANSWERS_MAX 4 /* of a shim, to questions about a hang; each new question allows so many */

struct ajob {
	uint64_t job;
	uint32_t attempt;
	uint32_t answers_due;
	enum job_phase phase;
	struct msg prepare; /* decoded copy, own arena */
	char *prepare_json;
	char cookie[33];
	bool fetched, leased, latched, need_lease;
	bool shim_known; /* a shim was started (or adopted) */
	bool end_wanted, bye_sent;
	bool lapsed; /* its lease has passed */
	uint32_t shim_proto; /* 0: it has not spoken yet */
	int64_t lease_told; /* to the shim: the newest */
	uint32_t end_grace_ms;
	uint64_t ticket_fetch, ticket_lease, ticket_spawn, ticket_prove, ticket_latch, ticket_sweep, ticket_confirm;
	uint64_t shim_link; /* 0: none now */
	uint32_t shim_pid; /* as it said itself; 0: not yet */
	bool setup_sent;
	uint32_t master_port, proof_port;
	char **ras; /* n_ras own copies */
	size_t n_ras;
	char ifname[33];
	char *start_env[START_ENV_MAX]; /* own: as 'start' brought it */
	size_t n_start_env;
	char master_addr[46];
	uint32_t start_port; /* MASTER_PORT as in 'start' */
	bool proving_wanted; /* a prove came while the leases were being renewed */
	bool go_sent;
	uint64_t start_link; /* session that 'start' came over */
	mono_t sweep_at; /* the last sweep failed: again then */
	mono_t sweep_until; /* ... and the job ends although somebody lives; never: nobody was found living */
	mono_t look_at; /* for clients of container daemons, see agent_containers.c; never: told, or not running */
	uint32_t look_pause_ms;
	uint64_t ticket_look;
	mono_t run_since; /* go was sent; MONO_NEVER when not known (adopted, and its shim has not spoken) */
	struct local_rank *ranks; /* nprocs */
	struct msg pulse; /* own copy of the shim's last, or of type none */
	mono_t pulse_at;
	char *fail_text;
	uint32_t fail_code;
	bool fail_retry;
	char *end_text;
	mono_t ended_at;
	struct msg nccl; /* own copy of its shim's last word of NCCL's log */
	bool has_nccl;
	struct list all;
};

#define STUCK_MAX 16u

/* A process that outlives SIGKILL. */
struct stuck {
	uint32_t pid;
	uint64_t start_time, job;
	bool has_job, foreign;
	char name[65], text[129];
};

/* Something that may be why a process ended, see agent_happened.c. */
struct agent_happening {
	int64_t mono_us; /* by the host's monotonic clock; no two are equal */
	char kind[17];
	char text[257];
	uint32_t pid, xid; /* 0: none */
	uint64_t job; /* whose process it was; 0: not known */
	bool has_rank; /* it was this rank itself */
	uint32_t rank;
	char gpu_id[65], device[65]; /* "": none */
};

struct agent {
	struct agent_conf conf;
	uint32_t silence_ms; /* conf's, or three of the coordinator's heartbeats */
	char node[65], boot_id[37];
	char *coordinator, *spool_dir;
	mono_t began;

	enum session_state session;
	uint64_t coord_link;
	mono_t session_until; /* dial, hello, registration deadline; or next dial */
	mono_t next_ping, heard;
	bool told; /* registration is sent: news may follow it */
	uint32_t backoff_ms;
	uint64_t ping_seq;
	struct asked { /* when pings were sent */
		uint64_t seq;
		int64_t boot_ms;
	} asked[ASKED];
	int64_t register_boot_ms; /* the first registration of this session was sent */
	int64_t lease_base; /* the newest word that was answered was sent; 0: none yet */
	struct skew skew, mono_skew; /* against the coordinator of this session */
	mono_t down_since;
	mono_t dialed_at;
	char down_why[256];
	uint32_t coord_features; /* of the one we are registered with, or were last */
	char coord_software[65];
	uint64_t lineage; /* of the coordinator we last spoke to; 0 unknown */
	bool submit;

	struct arena addr_arena;
	struct rec_addr *addrs;
	size_t n_addrs;

	struct map links_by_id;
	struct list links, requests, jobs;
	struct list peer_sets; /* who may speak about a job, besides its source */
	size_t n_allowed;
	mono_t peers_due; /* not later than the first of them fades away */
	uint8_t (*revoked)[32]; /* keys that are out, whatever an older order says */
	size_t n_revoked;
	struct list spec_uses;
	bool specs_known; /* the coordinator has named all its jobs that were submitted here */
	bool specs_listed; /* it is about to: some of the pieces have come */
	uint32_t registrations; /* sent so far */
	uint32_t spec_lists_due; /* answers to those of this session that are still out */
	bool ungreeted; /* some link owes us a hello */
	uint32_t next_rid;
	uint64_t next_ticket;
	bool stopping;
	mono_t stop_at;

	struct stuck stuck[STUCK_MAX];
	size_t n_stuck;
	uint64_t ticket_stuck;
	mono_t stuck_at; /* the next look */

	uint64_t ticket_fix; /* the launcher restarts the subnet manager; 0: it does not */
	uint32_t fix_rid, fix_unit;
	uint64_t fix_order;
	bool fix_tell; /* it is only asked what became of that order */

	bool have_readings;
	struct msg readings; /* own copy, with jobs filled in */
	mono_t readings_kept; /* when they came */
	mono_t readings_until; /* the probe's next word is due */
	struct agent_happening happened[HAPPENINGS_MAX]; /* the last ones */
	size_t n_happened;
	int64_t log_mono_us; /* the kernel's log was looked through up to here */
	uint32_t oom_pid; /* its last victim's job */
	uint64_t oom_job;
	mono_t read_at; /* it is asked for one; never: nobody waits for it */
	uint32_t read_pause_ms;

	const struct agent_event *ev;
	struct actions *out;
	mono_t now;
	int64_t boot_ms;
	bool oom;
};

/* agent.c */
struct alink *agent_link(struct agent *a, uint64_t id);
char *agent_strdup(struct agent *a, const char *s);

/* agent_session.c */
void session_begin(struct agent *a);
void session_on_up(struct agent *a);
void session_on_down(struct agent *a, const char *why);
/* True when the message was the session's own business. */
bool session_on_message(struct agent *a, const struct msg *m);
void session_deadlines(struct agent *a);
/* Before any event: a session that was silent for too long (we may have been
 * stopped ourselves) is given up, and nothing it said meanwhile is obeyed. */
void session_fence(struct agent *a);
mono_t session_deadline(const struct agent *a);
/* To the coordinator, behind the registration; what is not sent now is told by the next one. */
void session_hurry(struct agent *a); /* somebody waits: the pause before the next attempt is cut short */
void session_send(struct agent *a, const struct msg *m);
void session_register(struct agent *a);

/* agent_request.c */
void request_from_client(struct agent *a, struct alink *l, const struct msg *m);
/* True when it was the answer to a client's request. */
bool request_on_answer(struct agent *a, const struct msg *m);
void requests_again(struct agent *a);
void requests_of_link_gone(struct agent *a, uint64_t link);
void requests_deadlines(struct agent *a);
mono_t requests_deadline(const struct agent *a);
void requests_free(struct agent *a);

/* agent_job.c */
struct ajob *ajob_find(const struct agent *a, uint64_t job, uint32_t attempt);
void ajob_on_prepare(struct agent *a, const struct rec_prepare *p);
void ajob_on_prove(struct agent *a, const struct rec_prove *p);
void ajob_on_start(struct agent *a, const struct rec_start *s);
void ajob_on_end(struct agent *a, const struct rec_end *e);
void ajob_on_forget(struct agent *a, const struct rec_forget *f);
void ajob_on_done(struct agent *a);
void ajob_on_adopt(struct agent *a);
void ajob_on_shim_up(struct agent *a, struct alink *l);
void ajob_on_shim_down(struct agent *a, struct alink *l);
void ajob_on_shim_message(struct agent *a, struct alink *l, const struct msg *m);
void ajobs_stop(struct agent *a);
void ajobs_deadlines(struct agent *a);
mono_t ajobs_deadline(const struct agent *a);
bool ajobs_adopting(const struct agent *a);
void ajobs_tell_unknown(struct agent *a); /* after each registration */
void ajob_free(struct agent *a, struct ajob *j);
/* Takes an encoded prepare message into memory of its own; NULL when it cannot. */
struct ajob *ajob_new(struct agent *a, const char *json, size_t len);
/* An action about this job; with a ticket when it is to be answered. */
struct action *ajob_action(struct agent *a, struct ajob *j, enum action_type t, uint64_t *ticket);
void ajob_send_shim(struct agent *a, struct ajob *j, const struct msg *m);
void ajob_send_shim_end(struct agent *a, struct ajob *j);
void ajob_send_setup(struct agent *a, struct ajob *j);
void ajob_send_go(struct agent *a, struct ajob *j);
void ajob_failed(struct agent *a, struct ajob *j, uint32_t code, bool retry, const char *text);
void ajob_ended(struct agent *a, struct ajob *j);
void ajob_end(struct agent *a, struct ajob *j, uint32_t grace_ms);
const char *ajob_phase_name(enum job_phase p); /* as in 'held' */
bool ajob_alive(const struct ajob *j);

/* agent_lease.c */
bool lease_kept(const struct ajob *j); /* its shim ends the ranks by itself */
int64_t lease_until(const struct agent *a, const struct ajob *j); /* CLOCK_BOOTTIME, ms; 0: none, or not known */
/* To its shim, when that is worth a message; 'anew': in any case. */
void lease_renew(struct agent *a, struct ajob *j, bool anew);
void lease_asked(struct agent *a, uint64_t seq);
void lease_on_pong(struct agent *a, uint64_t seq);
void lease_on_registered(struct agent *a);
void leases_fence(struct agent *a);
mono_t leases_deadline(const struct agent *a);

/* agent_report.c */
void report_update(struct agent *a, struct ajob *j, const struct rec_rank_state *v, size_t n);
/* All ranks not over yet become 'state' with this text. */
void report_rest(struct agent *a, struct ajob *j, const char *state, uint32_t code,
		 const char *text);
void report_prepared(struct agent *a, struct ajob *j);
void report_ranks(struct agent *a, struct ajob *j, const struct rec_ranks *r);
void report_ended(struct agent *a, struct ajob *j);
/* States of all local ranks, in arena memory. */
size_t report_fill(struct arena *ar, struct agent *a, const struct ajob *j,
		   struct rec_rank_state **ret);
/* Leaves words out until all that is held fits a registration: of workers but the first
 * bad one always, then of the jobs that are held longest. */
void report_fit(struct arena *ar, struct rec_held *held, size_t n);
/* The first word about the clocks has come: when what is over has ended. */
void report_times(struct agent *a);

/* agent_stuck.c */
void stuck_met(struct agent *a, uint64_t job, const struct rec_stuck_proc *v, size_t n);
void stuck_registered(struct agent *a);
void stuck_claimed(struct agent *a, struct ajob *j, const struct rec_shim_stuck *s);
void stuck_confirmed(struct agent *a, struct ajob *j);
void stuck_on_watch(struct agent *a, const struct rec_stuck_watch *w);
void stuck_deadlines(struct agent *a);
bool stuck_on_done(struct agent *a); /* was it for us? */

/* agent_fix.c */
void fix_on_order(struct agent *a, const struct rec_sm_fix *r);
bool fix_on_done_agent(struct agent *a); /* was it for us? */

/* agent_containers.c */
void containers_running(struct agent *a, struct ajob *j); /* its ranks were started, or found running */
void containers_deadlines(struct agent *a);
mono_t containers_deadline(const struct agent *a);
void containers_done(struct agent *a, struct ajob *j);

/* agent_readings.c */
void readings_on_event(struct agent *a);
/* agent_pulse.c */
void pulse_on_shim(struct agent *a, struct ajob *j, const struct msg *m);
void pulses_registered(struct agent *a); /* the last ones are told once more */
void readings_send(struct agent *a);
void readings_topology(struct agent *a, const struct rec_topology_get *g);
void readings_deadlines_agent(struct agent *a);
void readings_free(struct agent *a);
void readings_wanted(struct agent *a); /* GPUs have been left: somebody waits until they are seen free */
/* CPUs near these GPUs ("0-31,64-95"), or NULL: no reason to bind. */
struct job_gpus {
	const char *indices; /* as they are counted now: "0,1"; NULL: GPUs are not managed here */
	const char *visible; /* for CUDA_VISIBLE_DEVICES: indices, or UUIDs */
};
/* The GPUs of a job, found by name in the last readings. False: one is not there. */
bool readings_gpus(struct agent *a, struct arena *ar, const struct rec_prepare *p,
		   struct job_gpus *ret);
const char *readings_visible(struct agent *a, const struct rec_prepare *p, const char **ret_indices);
const char *readings_cpus(struct agent *a, struct arena *ar, const char *gpus);

/* agent_nccl.c */
void nccl_on_shim(struct agent *a, struct ajob *j, const struct msg *m);
void nccl_again(struct agent *a); /* after each registration */
void ras_on_get(struct agent *a, const struct rec_ras_get *g);
void flight_on_get(struct agent *a, const struct rec_flight_get *g);
void stacks_on_get(struct agent *a, const struct rec_stacks_get *g);
void stacks_on_shim(struct agent *a, struct ajob *j, const struct rec_stacks *s);
void ras_on_shim(struct agent *a, struct ajob *j, const struct rec_ras *r);

/* agent_happened.c */
/* New readings: with those before them still there. */
void happened_on_readings(struct agent *a, const struct rec_readings *r);
void happened_again(struct agent *a); /* the last ones are told once more */

/* agent_peer.c */
void peers_on_allow(struct agent *a, const struct rec_allow *m);
void peers_forget_job(struct agent *a, uint64_t job);
void peers_on_revoke(struct agent *a, const struct rec_revoke *m);
/* The coordinator names this key now: its machine was enrolled again with it. */
void peers_unrevoke(struct agent *a, const struct rec_peer *p);
/* Just registered: whoever is not named again may no more, after a while. */
void peers_registered(struct agent *a);
void peers_deadlines(struct agent *a);
/* Of everybody who may come in; in arena memory, but borrowing the keys. */
size_t peers_keys(struct arena *ar, const struct agent *a, struct rec_key_hash **ret);
void peers_free(struct agent *a);
/* Deep copy into an arena; NULL on ENOMEM. */
struct rec_peer *peers_copy(struct arena *ar, const struct rec_peer *v, size_t n);

/* agent_spec.c */
/* A submit goes on its way: kept until it is refused or its job is over. */
void specs_submitting(struct agent *a, uint32_t rid, const uint8_t hash[32]);
/* The request with this rid was sent to the coordinator, or must be sent anew. */
void specs_sent(struct agent *a, uint32_t rid, bool sent);
void specs_submitted(struct agent *a, const struct rec_submitted *s);
void specs_refused(struct agent *a, uint32_t rid);
/* Its client left: nothing is to be feared if the coordinator never saw it. */
void specs_given_up(struct agent *a, uint32_t rid);
void specs_on_over(struct agent *a, uint64_t job);
/* A registration is being sent: its answer brings a list. */
void specs_registering(struct agent *a);
void specs_session_over(struct agent *a);
void specs_on_used(struct agent *a, const struct rec_specs_used *m);
/* A copy is being got by the action with this ticket; 'asked': ahead of time, as specs_on_keep() does. */
void specs_copying(struct agent *a, uint64_t job, const uint8_t hash[32], uint64_t ticket, bool asked);
void specs_on_keep(struct agent *a, const struct rec_spec_keep *m);
void specs_on_done(struct agent *a);
/* The hashes of what is here, one after the other, for the registration; p NULL on ENOMEM. */
struct bytes specs_held(struct arena *ar, const struct agent *a);
void specs_free(struct agent *a);

#endif
