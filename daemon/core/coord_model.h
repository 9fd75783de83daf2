/* coord_model.h - what the coordinator knows: nodes, links, jobs, places, ranks, tokens
 *
 * Memory only, but for what coord_rows.c turns into rows. Included by
 * coord_internal.h alone.
 */
#ifndef NA_CORE_COORD_MODEL_H
#define NA_CORE_COORD_MODEL_H

#include "common/hostlist.h"
#include "common/list.h"
#include "core/below.h"
#include "core/tally.h"
#include "core/coord.h"
#include "core/coord_events.h"
#include "core/map.h"
#include "core/verdict.h"

#define JOB_RANKS_MAX 65536u /* processes one job may start */
#define JOB_NODES_MAX 4096u /* nodes of one job: its peers must fit one frame */
#define NODE_JOBS_MAX 128u /* as the agents have it: what a node holds must fit its registration */
#define RIVAL_MS 1000 /* a word of the old session counts as life only so long after a rival came */
#define LOCAL_WATCHES_MAX 64u /* as an agent's REQUESTS_MAX for one client */
#define NODE_WATCHES_MAX 4096u /* all clients of one agent together */
#define FORMER_MAX 4u
#define RETURNS_MAX 3u /* then it is no mistake of one restart */
#define RETURNS_MS 300000
#define REFUSALS_MAX 20u /* refused joins told in the log in a minute: anybody can ask */
#define LATE_MS 1000 /* a deadline served so late: we were stopped, and did not listen */
#define HISTORY_RANKS 16u /* of an ended job that are kept one by one */
#define HISTORY_SUMS 16u /* kinds of ends that are told apart */
#define SAVE_RETRY_MS 1000 /* after the store has failed */
#define LEASE_MARGIN_MS 5000 /* a shim's last means comes SHIM_GUARD_MS after lease and grace; clocks that
                              * differ by 1 % in three minutes */
#define PAST_MAX 32u /* attempts remembered; each fits a row */
#define SPEC_SOURCES_MAX 8
#define START_ENV_MAX 16u /* variables of one 'start', as in messages.def */
#define BARRED_MAX 64u
#define SPARES_MAX 64u
#define EXIT_LOST 255u /* a rank's node was lost: as ssh says when the connection is */
#define EXIT_TIME_LIMIT 124u /* as timeout(1) */
#define EXIT_KILLED 143u /* 128 + SIGTERM */
#define RAN_MS_MAX UINT64_C(315360000000) /* ten years: who says more is mistaken */
#define STORY_MAX 64u /* moments of a job, as in messages.def */
#define MOMENT_TEXT_MAX 512u

/* A GPU of a node, kept while a reading shows it or a job holds it. */
struct gpu_slot {
	char id[65]; /* UUID, or "#index" */
	uint32_t index; /* when it was seen last */
	bool here; /* in the last readings */
	/* see coord_clean.c */
	uint64_t left_by, base; /* the job that had it last; bytes in use before that */
	bool has_base;
	mono_t left_since; /* that job's end */
	int64_t left_wall_ms; /* ... read from disk, and not yet put against our clock; 0: done */
};

struct node {
	char name[NODE_NAME_MAX + 1];
	uint8_t key[32];
	bool submit;
	uint32_t uid_min, uid_max;
	int64_t joined_wall_ms;
	bool named; /* a stored job has it; only while they are loaded */
	bool stand_in; /* only a name, for a stored job whose node is not known: no key */
	char boot_id[37]; /* of the last registration; "" before the first */
	bool removed; /* its key is out; kept while jobs name it */
	bool quarantined; /* two live agents with its key were seen */
	bool same_host; /* ... of one boot */

	struct clink *link; /* registered session */
	struct clink *rival; /* a session of another boot, while 'link' may still be alive */
	mono_t rival_since;
	uint64_t incarnation;
	uint64_t former[FORMER_MAX]; /* incarnations whose live session another one has replaced */
	uint32_t n_former; /* so far; the last FORMER_MAX are kept */
	uint32_t returns; /* of such ones, since returns_since */
	mono_t returns_since;
	mono_t heard; /* last word, or when this coordinator began to wait for one; later by
	               * the time it was absent itself since */
	bool ever; /* heard at all in this life of the coordinator */
	mono_t spoke, spoke_before; /* its last word; the last one before it registered last. 0: none in our life */
	bool silent; /* unreachable_ms have passed */
	const char *logged; /* state that the log was told last; NULL: down */
	struct rec_addr *addrs; /* own copy */
	size_t n_addrs;
	uint32_t peer_port, cpus;
	bool keeps_specs; /* its agent keeps copies of specifications, and hands them out */
	bool sets_env; /* ... and sets variables that 'start' brings */
	bool fixes_sm; /* ... and has its launcher restart the subnet manager */
	bool tells_fix; /* ... and tells what became of that, when it was away meanwhile */
	char software[65];
	uint32_t jobs; /* places it holds in unfinished jobs */
	struct node *next_removed;

	bool probe; /* its agent sends readings */
	bool have_readings;
	struct msg readings; /* own copy */
	struct tally_part tallied; /* what of them is in coord.tally */
	bool tally_old; /* ... which is not these */
	mono_t readings_at;
	bool awaits_first;
	mono_t first_until; /* the first ones are waited for until then */
	bool has_skew;
	int64_t skew_us; /* its clock minus ours */
	uint64_t skew_error_us;
	struct gpu_slot *slots; /* its GPUs; masks are of these */
	uint32_t n_slots;
	uint64_t gpus_all; /* there for jobs, by the last readings */
	bool gpu_procs; /* ... and some process uses some GPU, or may */
	bool gpus_shared; /* there are other virtual nodes of its host */
	bool ever_gpus, ever_ports; /* of this session: some were seen */
	uint8_t ports_are; /* by the last readings: enum ports_are */
	uint64_t gpus_held; /* a job holds them */
	uint64_t gpus_ghost; /* of these: jobs that are over, and may still use them: until it is heard */
	struct stale { /* held alive there, and told to end */
		uint64_t job;
		uint32_t attempt;
	} *stale;
	size_t n_stale;
	uint64_t gpus_left; /* a job had them, and they are not seen to be as before it */
	uint64_t gpus_kept; /* of these: for so long that somebody has to look */
	struct port_base *bases; /* see coord_checks.c */
	size_t n_bases;
	struct held_verdict *held_verdicts; /* see coord_hold.c */
	size_t n_held_verdicts;
	struct seen *seen; /* verdicts that were passed on it last, see coord_verdicts.c */
	size_t n_seen;
	bool clock_off; /* as judged last */
	char *drain; /* own: why it is drained, maybe ""; NULL: it is not */
	char *drain_by; /* own */
	int64_t drain_wall_ms;
	struct rec_stuck_proc *stuck; /* own, in one piece: processes there that cannot be ended */
	size_t n_stuck;
	int64_t stuck_wall_ms; /* since when there are some */
	/* see coord_policy.c */
	char *unfit, *held; /* own: why it gets no new jobs by itself; quarantined; NULL: it is not */
	int64_t unfit_wall_ms, held_wall_ms;
	mono_t fit_since; /* unfit: no verdict is the reason any more since then */
	bool excused; /* an administrator knows */
	bool told_would; /* that it would be left out */
	mono_t kept_from; /* of one scheduling pass: who wants its GPUs must be gone by then */
	mono_t away_until; /* it is away, and a job keeps its place in the queue for so long; MONO_NEVER: none does */
	const char *told; /* its state that an event told last, "node.ok"; NULL: none */
	struct events *events; /* what happened there; NULL: nothing yet */
};

/* GPU_UNKNOWN: there may be some, and nobody knows in what state. */
enum gpu_truth { GPU_UNKNOWN, GPU_NONE, GPU_SOME };

enum link_state { CL_NEW, CL_NODE, CL_READY, CL_JOINING, CL_CLIENT, CL_CLOSED };

struct clink {
	uint64_t id;
	enum link_state state;
	enum coord_who who;
	uint8_t key[32];
	uint32_t uid;
	bool admin;
	char user[65];
	char address[46]; /* for the log */
	struct node *node;
	mono_t since;
	struct list all; /* coord.links */
	struct list watches; /* watch.of_link */
	uint32_t n_watches;
};

struct watch {
	struct clink *link;
	struct job *job;
	uint32_t rid;
	uint32_t attempt; /* an earlier one is asked for; 0: the latest */
	uint32_t peers_attempt; /* peers of this attempt were sent */
	bool settled_sent;
	struct list of_link, of_job;
};

enum job_state { JOB_QUEUED, JOB_PREPARING, JOB_RUNNING, JOB_ENDING, JOB_DONE, JOB_FAILED, JOB_LOST };

enum place_phase {
	PL_UNKNOWN, /* after a restart of the coordinator: its node has not told yet */
	PL_ASSIGNED, /* prepare is (to be) sent */
	PL_PREPARED,
	PL_PROVED,
	PL_STARTED, /* start was sent */
	PL_RUNNING, /* its ranks were reported */
	PL_ENDED, /* everything of it is gone, final states known */
	PL_LOST, /* given up */
};

struct place {
	struct node *node;
	char boot_id[37]; /* the boot that was chosen; another one refuses */
	enum place_phase phase;
	bool gone; /* PL_LOST: and it is proved that nothing of it lives */
	bool leased; /* its shim ends the ranks by itself when the lease passes */
	bool lapsed; /* and has done so: nobody's fault */
	bool missing; /* recovering: registered, but does not hold the job */
	bool held_waiting; /* recovering: holds it, not started; also when its agent was restarted
	                    * and its shim has not spoken: it registers again when that is ready */
	uint32_t master_port, proof_port;
	uint64_t gpus; /* that it holds there: slots of the node */
	char *gpu_base; /* own: bytes in use before the job, NULL: not known */
	char *gpus_text, *gpu_ids; /* own: indices as they were given, "0,1,5"; and names; NULL: none */
	mono_t ended_at; /* PL_ENDED: since when all of it is known to be dead */
	uint64_t reached; /* bit i: reached address i of node rank 0 */
	char *proof_text; /* own: why not; or NULL */
	bool told_lost; /* its last word has told of output that was lost */
	bool told_away; /* the story says that its node cannot be reached */
	char ifname[33]; /* its interface of the proved connections; "": not known */
	uint32_t mtu; /* of it; 0: not known */
};

struct rank {
	enum { RK_WAITING, RK_RUNNING, RK_EXITED, RK_KILLED, RK_FAILED, RK_LOST } state;
	uint32_t pid, code, sig;
	bool ours, core;
	int64_t start_wall_ms, end_wall_ms;
	int64_t lo_us, hi_us; /* its end was between these, by our monotonic clock; hi 0: it has not ended */
	int64_t mono_us; /* its end by its host's monotonic clock; 0: not known */
	int64_t late_us; /* its shim saw it up to this much later */
	bool by_wall; /* ... read from disk, and still by the wall clock */
	bool rough; /* ... they were, and somebody may have set it meanwhile */
	bool timed; /* lo and hi come from clocks that were compared */
	bool maybe_first; /* its end may have come before that of the job's first */
	bool has_gpu;
	uint32_t gpu; /* the one it used */
	uint32_t gpu_pid; /* which process that was; 0: not known any more */
	uint64_t lost_bytes;
	char *text, *cause; /* own copies or NULL */
	char *found; /* beside its cause: what happened near it; or NULL */
	struct bytes tail; /* own copy */
	struct below below;
};

/* Ranks that ended in the same way. */
struct rank_sum {
	int state; /* of struct rank */
	uint32_t code, sig;
	bool ours;
	uint32_t n;
};

struct moment {
	int64_t wall_us; /* by the coordinator's clock */
	uint64_t error_us; /* the true time is within +- this */
	char node[NODE_NAME_MAX + 1]; /* "": of no node */
	char *text; /* own */
};

struct story {
	struct moment *v;
	size_t n, cap;
	uint32_t dropped; /* from the middle */
};

/* Why an attempt ends, where its ranks do not tell; stored. From END_OTHER on no other one follows. */
enum end_cause { END_UNKNOWN, END_RANK, END_NODE, END_OTHER, END_USER };

/* An attempt that is over. */
struct past {
	uint32_t attempt, exit_code;
	int64_t start_wall_ms, end_wall_ms;
	char *nodes, *why;
	char guilty[NODE_NAME_MAX + 1];
};

struct job {
	uint64_t id;
	enum job_state state;
	uint32_t attempt;
	bool stored; /* the submit is on disk: it may be acted upon */
	bool placing; /* its nodes are on their way to disk: nothing is asked of them yet */
	bool recovering; /* read from disk in mid-life; waiting for its nodes' word */
	bool restored; /* read from disk in mid-life, and not prepared anew */
	bool any_started; /* recovering: at least one node holds it started */
	bool start_sent; /* the barrier was passed in this or an earlier life */
	bool saving; /* the final state is on its way to disk */
	bool saved; /* final state durable */
	bool gpus_left; /* ... and what is needed to know its GPUs clean is kept with it */
	bool end_stored; /* that it is to end is durable */
	bool end_told; /* ... or could not be made so: its nodes are told */
	bool dirty; /* watchers must hear */
	const char *logged; /* state that the log was told last; NULL: none */
	bool unwatched; /* a node's watch has ended: its places must hear */
	char client_id[65];
	uint32_t uid;
	char user[65];
	char submit_node[NODE_NAME_MAX + 1];
	uint8_t spec_hash[32];
	uint32_t spec_size;
	uint32_t nnodes, ppn, grace_ms, time_s;
	bool immediate, with_stdin, per_node;
	bool all_gpus, busy_gpus;
	uint32_t gpus; /* of each node, unless all */
	char *hosts, *exclude, *name, *command; /* own copies or NULL */
	int64_t submit_wall_ms, start_wall_ms, end_wall_ms;
	uint64_t ran_ms; /* longest time that a node, or our own row, says this attempt has run */
	mono_t late_look; /* being prepared: who is not ready by then is told */
	mono_t prepare_until, run_until, retry_save;
	mono_t end_by; /* ENDING: when its GPUs are free at the latest; MONO_NEVER: not yet thought of */
	mono_t start_by; /* QUEUED: when it can start at the latest; MONO_NEVER: nobody knows */

	struct place *places; /* nnodes of them once placed, node rank order */
	size_t n_places;
	struct rank *ranks; /* nnodes * ppn; of a saved job those that are kept */
	size_t n_ranks;
	uint32_t *rank_no; /* saved: their numbers; NULL: all are there, in order */
	struct rank_sum *sums; /* saved */
	size_t n_sums;
	char *others; /* saved: why_others() */
	char master_addr[46];
	char master_ifname[33];
	uint32_t master_port;

	char *ending; /* why it is being ended */
	uint32_t ending_code; /* meaningful with 'ending' and no 'first' */
	int64_t first; /* rank whose end decided, by its place in 'ranks'; or -1 */
	bool first_settled; /* it stays */
	bool settling; /* ... and that is on its way to disk */
	mono_t settle_at; /* it could not be written: again then */
	mono_t started_at; /* start was sent; MONO_NEVER: not in this life of the coordinator */
	uint32_t exit_code;
	char *why; /* what it waits for, or why it ended */
	char *notices[16];
	size_t n_notices;
	bool hang_stacks; /* ... and their stacks are written before */
	enum on_hang { ON_HANG_REPORT, ON_HANG_KILL, ON_HANG_RESTART } on_hang;
	uint32_t hung_attempt; /* this one was told to hang, and not to go on again; 0: none */
	int64_t hung_wall_ms;
	struct past_hang *past_hang; /* the last one, see coord_hung.c; NULL: there was none */
	struct job_hang *hang; /* what its ranks do, see coord_hang.c; NULL: nobody has told */
	struct story story;
	mono_t story_save; /* its last moments are on no disk yet: then they are written */
	bool told_restart; /* of this life of the coordinator */

	struct ras_of_job *ras; /* see coord_ras.c; NULL: not asked */
	struct nccl_of_job *nccl; /* see coord_nccl.c; NULL: nothing was said */
	/* see coord_restart.c */
	uint32_t max_restarts, want_spares;
	uint32_t lease_ms; /* of this attempt: the configuration may change while it runs */
	bool restart_any;
	bool stopped; /* its user said so: no attempt follows */
	bool between; /* 'places' are those of an attempt that is over */
	bool between_saving, between_stored;
	bool awaits_gone; /* its attempt is over, and may still live somewhere: another one waits for that */
	uint64_t leases_ticket; /* who keeps a lease is on its way to disk; 0: it is not */
	bool leases_stored;
	bool start_waits; /* ... and all else is ready */
	enum end_cause cause;
	bool node_failed; /* the attempt before: see restart_node_failed() */
	char cause_node[NODE_NAME_MAX + 1]; /* END_NODE: which; "": none in particular */
	struct place *kept; /* nodes held, not run on: spares; between attempts good ones too */
	size_t n_kept;
	struct past *past;
	size_t n_past;
	char **barred;
	size_t n_barred;
	int64_t delay_ms;
	mono_t restart_at; /* backoff; never: none */
	mono_t run_since; /* of this attempt; never: it does not run */
	char *proof_why; /* own: a connection was not proved; NULL: none so far */
	const struct node *suspect; /* ... to this node, which may be dead: by proof_until we know */
	mono_t proof_until;
	uint64_t used_ms; /* by those before */

	/* see coord_specs.c: nodes that have told that they hold its specification, and those of
	 * them that this attempt is sent to for it */
	struct node **copies;
	size_t n_copies;
	struct node *sources[SPEC_SOURCES_MAX];
	size_t n_sources;

	struct job_net *net; /* see coord_net.c; NULL: nothing was asked or chosen */

	/* the client to be told when the submit is stored */
	uint64_t ack_link;
	uint32_t ack_rid;
	struct list all; /* coord.jobs, by id */
	struct list of_ended; /* coord.ended, when it is saved */
	struct list watches; /* watch.of_job */
};

struct token {
	char id[33];
	uint8_t secret_hash[32];
	int64_t expires_wall_ms;
	uint32_t uses;
	char *nodes;
	bool submit;
	uint32_t uid_min, uid_max;
	struct list all;
};

/* What to do when a transaction is durable. */
struct pending {
	uint64_t ticket;
	enum { PD_SUBMIT, PD_PLACED, PD_END, PD_SETTLE, PD_FINAL, PD_RESTART, PD_LEASES, PD_STORY, PD_REPLY, PD_JOIN, PD_FIX, PD_QUIET } kind;
	uint64_t job;
	uint64_t link; /* REPLY, JOIN */
	uint32_t rid; /* ..., FIX */
	char node[NODE_NAME_MAX + 1]; /* JOIN */
	uint8_t key[32];
	char token[33]; /* JOIN */
	char *reply; /* REPLY: encoded answer; own copy */
	size_t reply_len;
	struct list all;
};

/* See coord_base.c. */
struct base_log {
	struct kept_base *v; /* in the order of their keys */
	size_t n, cap;
};

struct coord {
	struct coord_conf conf;
	char *address;
	char cluster[65];
	uint64_t lineage, next_job;
	struct node **nodes; /* natural order of names; removed ones are not in it */
	size_t n_nodes, cap_nodes;
	struct node *removed; /* taken out, kept because jobs may name them */
	struct map keys; /* first 8 bytes of a key -> node */
	struct map links_by_id;
	struct map jobs_by_id;
	struct list links, jobs, tokens, pendings;
	uint64_t next_ticket;
	struct list ended; /* jobs that are over and kept, those first that ended first */
	size_t n_ended;
	char boot_id[37]; /* of the coordinator's own host; "" unknown */
	struct list asked; /* topologies */
	struct list fixings; /* see coord_fix.c */
	uint32_t next_asked;
	struct tally *tally; /* what nodes are like, see coord_checks.c; NULL: not looked yet */
	mono_t tally_at;
	mono_t sm_moved; /* a port was last seen with another SM LID than before */
	uint64_t readings_seen, tally_of;
	mono_t wake; /* lower bound of the next deadline */
	bool have_dirty, have_unwatched;
	struct hold *holds; /* of one scheduling pass, see coord_queue.c */
	size_t n_holds;
	bool know_holds;
	mono_t prune_at; /* history by age */
	mono_t refusals_since; /* of joins, in the log */
	uint32_t refusals;
	struct event_log log; /* see coord_events.c */
	struct base_log base; /* see coord_base.c */
	mono_t began;
	bool began_stepping; /* there was an event: it is known what time it is */

	/* of the step under way */
	const struct coord_event *ev;
	struct actions *out;
	mono_t now;
	int64_t wall_ms;
	bool oom;
};

#endif
