/* sim.h - one simulated cluster: who takes part, what is known about it, what must hold
 *
 *   world.c        time, chance, memory, trace          net.c       connections
 *   sim.c          a run: the loop, crashes, the end    check*.c    invariants
 *   actor_coord.c  coordinator                scenario.c  what happens in a run
 *   kernel.c       processes, their pids, signals
 *   store.c, disk.c  its store: SQLite on a simulated disk
 *   actor_agent.c  agents, their files and side effects fault.c     things going wrong
 *   actor_launcher.c  who starts them
 *   actor_shim.c   shims and the processes of jobs      main.c      the command line
 *   actor_client.c people                               actor_rogue.c a node that lies
 *   check_again.c  attempts that follow each other   repeat.c    what is said of old ones
 *   check_due.c    what must happen by when          check_choice.c  which nodes, and where ranks meet
 *   actor_admin.c  who looks at the nodes               once_failed.c seeds that are always run
 *   stuck.c        processes that outlive SIGKILL
 *   hang.c         ranks that freeze
 *   leave.c        daemons that are asked to stop  gpus.c, gpus.h   GPUs and probes
 *
 * The cores are the real ones. Everything they ask for takes time or fails
 * here as it would in the world; nothing takes effect inside a step.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdarg.h>

#include "common/list.h"
#include "core/agent.h"
#include "core/coord.h"
#include "proto/message.h"
#include "shim/machine.h"
#include "shim/sweep.h"
#include "tests/sim/gpus.h"
#include "tests/sim/net.h"
#include "tests/sim/world.h"

#define NODES_MAX 8
#define CLIENTS_MAX 8
#define JOBS_MAX 512
#define RUN_UID 1000
#define MASTER_PORTS 8u

enum proc_kind { PK_COORD, PK_AGENT, PK_SHIM, PK_CLIENT, PK_ROGUE, PK_ADMIN, PK_LAUNCHER };

/* A process: what all kinds have in common. */
struct proc {
	enum proc_kind kind;
	uint32_t idx;
	bool up;
	uint32_t life; /* counts starts; events of an older life are dropped */
	int64_t resume_at; /* SIGSTOPped until then */
	uint64_t actions; /* performed so far, over all lives */
	int64_t armed; /* moment of the queued timer event, or NEVER */
	uint64_t timer_gen;
	int64_t mono_ns; /* its host's monotonic clock minus the world's */
	unsigned due_again; /* deadline steps in a row that did not move the deadline */
	struct conn **links; /* by link number of this life, from 1 */
	size_t n_links, cap_links;
};

/* What a job is, and what its processes will do. */
struct plan {
	uint32_t nnodes, ppn, grace_ms, time_s;
	const char *hosts; /* NULL: any */
	bool immediate;
	int gpus; /* of each node; -1: all */
	bool busy_gpus;
	int64_t run_ms;
	int fail_rank; /* -1: none */
	uint32_t fail_code, fail_sig;
	int64_t fail_ms;
	int also_fails; /* another rank, so much later or earlier; -1: none */
	int64_t also_us;
	int missing_host; /* the command is not there; -1: nowhere missing */
	uint32_t stubborn; /* permille of processes that ignore TERM */
	uint32_t leftover; /* permille of ranks that leave a process behind */
	uint32_t undying; /* permille of processes that outlive SIGKILL, see stuck.c */
	uint32_t unstartable; /* permille of ranks whose exec fails */
	uint32_t max_restarts, spares;
	bool restart_any;
	bool pulses; /* shims tell what ranks do: see hang.c */
	bool others_wait; /* for freeze_rank, or rank 0: they use nothing */
	uint32_t freeze_rank, freeze_attempts; /* in so many attempts; 0: in all */
	int64_t freeze_ms, thaw_ms; /* after its start; freeze_ms 0: it does not; thaw_ms 0: not in this attempt */
	bool freeze_in_disk; /* in state D; else T */
	const char *on_hang;
	uint32_t fail_attempts; /* fail_rank fails in so many; 0: in all */
};

/* ---- coordinator ---------------------------------------------------------- */

struct row {
	struct row *next;
	enum store_table table;
	const char *key, *json; /* json NULL: deleted */
	size_t len;
};

struct coord_actor {
	struct proc proc;
	struct coord *core;
	struct actions acts;
	struct row *rows; /* answered as stored, or found after a crash */
	struct maybe *maybes; /* since the last transaction that was */
	struct store_row initial[NODES_MAX + 2]; /* what the database is made with */
	size_t n_initial;
	struct list queued, writing; /* of struct store_job; of this life */
	struct list kept; /* not answered: it is not known whether they are on the disk */
	bool committing;
	int64_t answer_at;
	bool host_down; /* without power */
	uint32_t boots; /* of its host */
	int64_t stopped; /* for so long in all, up to resume_at: it did not listen then */
	uint64_t lineage;
};

/* ---- agent ------------------------------------------------------------------ */

/* RUN/shims/JOB.ATTEMPT.*: gone with the boot. */
struct held_file {
	struct held_file *next;
	uint64_t job;
	uint32_t attempt;
	bool held, latched;
	const char *prepare;
	size_t prepare_len;
	const char *cookie;
	uint64_t lineage;
};

/* STATE/spool/JOB.ATTEMPT/status: stays. */
struct status_file {
	struct status_file *next;
	uint64_t job;
	uint32_t attempt;
	const char *text;
	size_t len;
};

/* Ports that an agent process holds. */
struct lease {
	struct lease *next;
	uint64_t job;
	uint32_t life, port; /* and the next one */
	bool listening;
};

struct agent_actor {
	struct proc proc;
	uint32_t idx;
	char name[16], boot_id[37], ip[16];
	uint8_t key[32];
	bool host_up;
	uint32_t boot;
	struct agent *core;
	struct actions acts;
	struct held_file *files;
	struct status_file *status;
	struct lease *leases;
	struct proc launcher; /* when there is one on each host */
	int64_t launcher_up_at;
	struct ask *asks;
	struct conn *session; /* it is registered over this one; NULL: with no coordinator of now */
	bool ever; /* registered with any */
	int64_t heard; /* its last word there came, or the coordinator began to wait for one */
	int64_t heard_awake; /* the same, less the time that the coordinator was stopped */
	int64_t back_at; /* it was heard again after node_lost_ms or more */
	int64_t removed_at; /* the administrator was told that it is out; 0: it is in */
	int64_t away_since; /* it could have been here since then; see check_due.c */
	uint32_t away_life; /* ... of the coordinator */
	int64_t told, told_since; /* the coordinator's last word came; without a gap since */
	bool leaving, leave_waited; /* asked to stop; long enough not to wait for a registration */
	int64_t leave_down;
	bool cut_up, cut_down; /* to and from the coordinator */
	bool cut_peers; /* no connections with other nodes */
	uint32_t disk_full; /* permille of status writes that fail */
	bool specs[CLIENTS_MAX]; /* specifications on its disk, by plan */
	bool had_spec[CLIENTS_MAX]; /* it has fetched it once, to keep it */
	bool dead; /* its host has lost power for good */
	struct conn *spec_holder[CLIENTS_MAX]; /* the connection that has sent it, while it is open */
	struct gpu_host *gpus; /* NULL: no probe runs here */
	uint32_t share, share_of; /* a virtual node's; 0 of 0: all of them */
	bool probe_silent, probe_out; /* it says nothing; it is not running */
	bool probe_out_told;
	uint32_t order_known; /* to this life of the agent: gpu_host.order of what it has; 0: nothing */
	int64_t read_at; /* when its last readings were taken */
	struct told_gpus told_gpus;
	bool cordoned; /* the coordinator knows of a process there that cannot be killed */
	bool may_be_drained; /* he has asked for it, and was not told that it is taken back */
	bool drained; /* the administrator was told so, and has not taken it back */
	int64_t mono_ns, wall_us; /* its clocks minus the world's */
	struct said *said; /* see repeat.c */
};

/* ---- shim ------------------------------------------------------------------- */

/* A process of a job: a rank, or what a rank left behind. */
struct worker {
	bool alive, reaped;
	uint32_t local, pid;
	bool stubborn, swept, killed;
	int64_t undying; /* no signal ends it before */
	int status; /* as waitpid */
};

struct shim_actor {
	struct proc proc;
	uint32_t idx, host, boot, pid;
	uint64_t job;
	uint32_t attempt;
	const struct plan *plan;
	const char *cookie;
	uint32_t gpus_given, gpus; /* bits: by its prepare; that its ranks see */
	uint32_t go_order; /* order_known when it was told to start */
	const char *visible; /* CUDA_VISIBLE_DEVICES; NULL: left alone */
	uint32_t rank_base, nprocs, node_rank, nnodes;
	struct shim *core;
	struct sweep *sweep;
	struct shim_actions acts;
	struct conn *agent; /* the newest connection */
	struct worker *workers; /* 2 * nprocs: ranks, then leftovers */
	uint32_t n_workers;
	bool *closed; /* per rank: its streams were reported closed */
	bool reap_queued, close_queued;
	bool gave_up; /* it has told of processes that it cannot end */
	uint64_t guard_gen; /* of SACT_GUARD */
	struct hang_of_shim *hang; /* NULL: it does not tell */
	bool started, told_end;
	int64_t term_at; /* its ranks were told to end; 0: not yet */
	int64_t over_at; /* it was seen to be at its end; 0: not yet */
	struct exec **execs; /* per rank */
	const char *to_write;
	size_t to_write_len;
};

/* ---- client ------------------------------------------------------------------ */

enum client_stage { CS_IDLE, CS_DIALING, CS_SUBMITTING, CS_WATCHING, CS_DONE, CS_GONE };

struct client {
	struct proc proc;
	uint32_t idx, agent;
	struct plan *plan;
	uint32_t plan_no;
	char client_id[24];
	enum client_stage stage;
	struct conn *conn;
	uint32_t rid, submit_rid, watch_rid, kill_rid;
	uint64_t job; /* that it knows of */
	uint64_t acked_job; /* that it was ever told */
	bool twice; /* sends submit twice on one link */
	bool crashed; /* once at least */
	/* what it was told */
	int rank_of_state; /* see check.c */
	uint32_t attempt, coord_life;
	char state[16];
	bool settled, over;
	uint32_t exit_code;
	char refused[32];
	/* what it will do */
	const char *kill_in; /* kills when it sees this state; NULL: never */
	int64_t kill_after;
	uint32_t kill_grace_ms; /* 0: the job's own */
	int64_t kill_sent; /* and not answered yet; 0: none */
	bool kill_done, kill_wanted;
	bool local_watch; /* watches at the coordinator's own socket */
	bool late; /* comes when all is healed: its job must end well */
	int64_t vanish_after; /* leaves this long after the submit is acknowledged; 0: stays */
};

/* ---- what is known from outside ------------------------------------------------ */

enum exec_end { EX_RUNNING, EX_EXITED, EX_SIGNALLED, EX_VANISHED /* with shim or host */ };

/* One execution of one rank: at most one may ever exist. */
struct exec {
	struct exec *next;
	uint64_t job;
	uint32_t attempt, rank, host, boot;
	enum exec_end end;
	uint32_t code, sig;
	bool signalled; /* its shim had sent it a signal before it ended */
	bool unstartable;
	int64_t began, over_at, reaped_at; /* 0: not yet */
};

struct ready_mark {
	struct ready_mark *next;
	uint32_t attempt, node_rank, host, boot;
	bool shim; /* its shim was ready; else: its agent has said so */
};

struct jobrec {
	bool seen; /* a row of it was durable */
	bool in_memory; /* of the coordinator, at the last look */
	char client_id[24];
	char final[16]; /* durable final state, or "" */
	uint32_t exit_code;
	uint32_t attempt; /* durable */
	bool between; /* ... and over */
	uint32_t leased_attempt; /* the last one whose shims all keep a lease, durable */
	uint32_t unleased; /* bits: hosts of its places that are not known to keep the lease */
	uint32_t leased; /* bits: that are, in this attempt, on disk */
	uint32_t chosen_attempt; /* the last one that was looked at, see check_again.c */
	bool acked;
	uint32_t proved_attempt, proved_by; /* bits: hosts that have told what they reached in it */
	uint32_t n_frozen, told_on, told_hung_attempt; /* see hang.c */
	uint64_t lost_ranks; /* bits: ranks of this attempt that were given up */
	bool kill_asked, time_limited, prepare_failed, lost_allowed;
	struct plan *plan;
	struct ready_mark *marks;
	int64_t since, over_at;
	int64_t told_first; /* as settled, to a client; -1: nobody yet, or without one */
	bool told_settled;
	/* in the coordinator's memory, see check_gpus.c */
	bool queued, again; /* again: for another attempt, ahead of all others */
	uint32_t gpus_held[NODES_MAX], nodes_held; /* bits */
	const struct agent_actor *source; /* has its command and environment; NULL: not known */
	uint32_t placed_attempt; /* the last one that was looked at */
	bool was_placed; /* it had nodes, see check_queue.c */
	int64_t over_by; /* the first in line: when those before it are over; 0: nobody knows */
	uint32_t stuck_attempt; /* as placed_attempt, for stuck.c */
	int64_t fits_since; /* it could have been placed since; 0: it could not */
	/* see check_due.c */
	int64_t start_sent; /* the first order to start was sent; 0: not yet */
	int64_t kill_confirmed; /* its owner was told so; 0: not */
	uint32_t kill_attempt, kill_grace_ms; /* its attempt was this one; with this grace, 0: its own */
	uint32_t preparing; /* this attempt, in the coordinator's memory; 0: it is not */
	int64_t preparing_since;
	int64_t submit_wall_ms; /* of the job that has this number now */
	/* see check_choice.c */
	uint32_t looked_attempt; /* the last one that was looked at */
	int64_t between_at; /* that an attempt is over was on disk */
	uint32_t between_life; /* ... of the coordinator of that time */
	uint32_t port_attempt, n_ports, ports[MASTER_PORTS]; /* that its rank 0's node has leased for this attempt */
	uint32_t met_attempt, met_port;
	uint32_t retry_attempt; /* the last one that some node refused, where another one may do */
	uint32_t barred; /* bits: hosts where an attempt has failed, on disk */
	/* see check_silence.c: of the coordinator's memory, at its last step */
	uint32_t memory_attempt, memory_life;
	uint64_t memory_lost, told_over; /* bits: ranks that are given up; whose end has come to it before */
	bool pruned; /* it was the oldest of too many that are over */
};

enum crash_how { CR_KILL, CR_HOST /* with its host: power failure, reboot */ };

/* One or two crashes, each after an action: the second one's are counted from
 * the first crash on, so it falls into what comes of that. */
struct crash {
	enum proc_kind kind;
	enum crash_how how;
	uint32_t idx;
	uint64_t after; /* this many actions */
};

struct crash_plan {
	struct crash v[2];
	unsigned n, done;
	uint64_t from; /* actions of the next one's victim that do not count */
};

/* A fault that waits for an agent's or the coordinator's n-th action: things
 * go wrong where something happens, not only at some time. */
struct trigger {
	enum proc_kind kind;
	uint32_t idx;
	uint64_t after;
	struct fault *fault; /* NULL: none, or done */
};
#define TRIGGERS_MAX 4

struct scenario;

struct sim {
	struct world w;
	const struct scenario *sc;
	uint64_t seed;
	struct coord_actor coord;
	struct agent_actor agents[NODES_MAX];
	struct shim_actor **shims;
	struct client clients[CLIENTS_MAX];
	struct plan plans[CLIENTS_MAX];
	struct proc rogue_proc, admin_proc;
	struct rogue *rogue;
	struct admin *admin;
	uint32_t n_agents, n_clients, n_shims, cap_shims, n_conns, next_pid;
	struct conn *conns;
	struct exec *execs;
	struct jobrec jobs[JOBS_MAX];

	/* the world's manners */
	uint32_t node_lost_ms, prepare_ms, request_ms;
	bool slow_net;
	uint32_t slow_store; /* permille of transactions that take long */
	uint32_t fetch_fails, lease_fails, spawn_fails, prove_fails; /* permille */
	struct crash_plan crash;
	struct trigger triggers[TRIGGERS_MAX];
	uint32_t n_triggers;
	bool sharp; /* the clocks are known so well that only close ends may come out as 'either' */
	bool jumped; /* it did */
	bool launchers; /* between agents and shims */
	struct told *told; /* events on the disk */
	bool no_events; /* a clock that is set is an event, and one more write: runs are compared without */
	bool no_jumps; /* the wall clock stays, all else is the same */
	bool no_kills; /* nobody may be signalled in this run */
	int64_t silence; /* that faults may have caused so far */
	bool loss_allowed; /* something was done that may lose a node's ranks */
	bool removal; /* of a node, by the administrator */
	bool gpus; /* some host has a probe */
	bool strangers; /* used some GPU: what was in use before a job may have been theirs */
	bool hangs; /* some shim tells what its ranks do */
	bool policy; /* nodes with a bad verdict are left out */
	bool unfit[NODES_MAX]; /* ... on disk */
	uint32_t n_cordons, n_cordons_told;
	bool gpus_linger; /* memory may come back very late */
	bool undying; /* some process may outlive SIGKILL */
	bool leases; /* some jobs may be started again */
	bool repeats; /* agents say again what they have said of attempts that are over */
	bool must_end_well; /* what is started again has enough left to do so */
	bool old_shims; /* shims are of a version that knows no leases */
	bool disk_was_full;
	int64_t disk_well_at; /* since then it is not */
	bool reason_lost; /* a coordinator died while it was: so may be why a job was ended */
	bool no_progress_checks; /* outcome is not predicted */
	int64_t unwell_at; /* something was in the way until then */
	int64_t due_at; /* the next look of check_due.c */
	uint32_t history; /* so many jobs that are over are kept; 0: all */
	uint32_t n_leases; /* of ports so far */

	int64_t heal_at, give_up_at;
	bool healed, finished;
	uint64_t n_starts, n_final[3], n_faults; /* for the summary */

	bool failed;
	char failure[700];
};

/* ---- sim.c ---------------------------------------------------------------------- */

void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The whole run; false: an invariant did not hold. */
bool sim_run(struct sim *s, const struct scenario *sc, uint64_t seed, const struct crash_plan *crash);
bool sim_run_without_jumps(struct sim *s, const struct scenario *sc, uint64_t seed);
void sim_finish(struct sim *s);
const char *proc_name(const struct sim *s, const struct proc *p);
/* Called after each action: true when the process has just been crashed. */
bool proc_acted(struct sim *s, struct proc *p, uint32_t type, const void *text, size_t len);
void proc_arm(struct sim *s, struct proc *p, mono_t deadline);
void proc_start(struct proc *p);
mono_t proc_mono(const struct sim *s, const struct proc *p); /* by its host's clock */
/* True: the timer is the one that was armed, and the deadline has come. */
bool proc_due(struct sim *s, struct proc *p, uint64_t gen, mono_t deadline);
void proc_stepped(struct sim *s, struct proc *p, bool by_deadline, mono_t deadline);

/* ---- actor_coord.c ---------------------------------------------------------------- */

void simcoord_setup(struct sim *s);
void simcoord_start(struct sim *s);
void simcoord_crash(struct sim *s, int64_t down_ns);
void simcoord_power(struct sim *s, int64_t down_ns); /* its host loses power */
void simcoord_leave(struct sim *s, int64_t down_ns); /* it writes what is queued, and goes */
void simcoord_teardown(struct sim *s);
void simcoord_event(struct sim *s, const struct event *e);
void simcoord_link_up(struct sim *s, struct conn *c);
void simcoord_link_down(struct sim *s, struct conn *c);
void simcoord_message(struct sim *s, struct conn *c, const struct msg *m);
void simcoord_new_lineage(struct sim *s); /* its database is lost, it is made anew */

/* store.c: its database, as the real store writes it, on a simulated disk (disk.c) */
struct txn;
void simstore_init(void); /* once */
void simstore_finish(void);
void simstore_begin(struct sim *s); /* of a run */
/* A row that the database is made with; before the first open. */
void simstore_initial(struct sim *s, enum store_table table, const char *key, const char *json,
		      size_t len);
/* What is in it; false: its disk fails just now. */
bool simstore_open(struct sim *s, struct row **ret);
void simstore_write(struct sim *s, const struct action *a);
void simstore_commit(struct sim *s); /* EV_COMMIT */
void simstore_look(struct sim *s); /* ... 1: whether it is known now what is on the disk */
void simstore_answer(const struct txn *t, struct coord_event *ev); /* EV_STORED */
void simstore_crash(struct sim *s, bool power);
void simstore_close(struct sim *s);
void simstore_anew(struct sim *s); /* it is lost, and made again */
void simstore_drop(struct sim *s); /* at the end of a run */

/* ---- actor_agent.c ----------------------------------------------------------------- */

void simagent_setup(struct sim *s, uint32_t i);
void simagent_start(struct sim *s, struct agent_actor *a);
void simagent_crash(struct sim *s, struct agent_actor *a, int64_t down_ns);
void simagent_reboot(struct sim *s, struct agent_actor *a, int64_t down_ns);
void simagent_gone(struct sim *s, struct agent_actor *a, int64_t down_ns); /* the process ends */
void simagent_teardown(struct agent_actor *a);
void simagent_event(struct sim *s, struct agent_actor *a, const struct event *e);
void simagent_link_up(struct sim *s, struct agent_actor *a, struct conn *c, int side);
void simagent_link_down(struct sim *s, struct agent_actor *a, struct conn *c, int side,
		     const char *why);
void simagent_message(struct sim *s, struct agent_actor *a, struct conn *c, int side,
		   const struct msg *m);
void simagent_feed(struct sim *s, struct agent_actor *a, struct agent_event *ev);

/* actor_files.c: what an agent asks the world for */
void simagent_perform(struct sim *s, struct agent_actor *a, const struct action *act);
void simagent_done(struct sim *s, struct agent_actor *a, const struct event *e);
void simagent_find_specs(struct agent_actor *a); /* before its first event */
/* Its host loses power for good. */
void simagent_lost(struct sim *s, struct agent_actor *a);
void simagent_fetch_poll(struct sim *s, struct agent_actor *a, const struct event *e);
void simagent_uploaded(struct agent_actor *a, struct conn *c, const uint8_t hash[32]);
void simagent_uploader_gone(struct agent_actor *a, const struct conn *c);
void simagent_adopt_all(struct sim *s, struct agent_actor *a);
bool simagent_has_status(struct sim *s, uint32_t host, uint64_t job, uint32_t attempt);
void simagent_write_status(struct sim *s, uint32_t host, uint64_t job, uint32_t attempt,
			const char *text, size_t len);

struct done;
/* The launcher has answered, or has died; h: what it was about. */
void files_launcher_answered(struct sim *s, struct agent_actor *a, struct done *d, bool kill,
			     struct shim_actor *h, int error, const char *text, uint32_t swept);

/* ---- actor_launcher.c ------------------------------------------------------------------ */

void launcher_setup(struct agent_actor *a);
void launcher_reboot(struct sim *s, struct agent_actor *a);
void launcher_launch(struct sim *s, struct agent_actor *a, struct done *d, struct shim_actor *h);
void launcher_kill(struct sim *s, struct agent_actor *a, struct done *d, struct shim_actor *h);
void launcher_crash(struct sim *s, struct agent_actor *a, int64_t down_ns);
void launcher_event(struct sim *s, struct agent_actor *a, const struct event *e);

/* ---- leave.c --------------------------------------------------------------------------- */

void leave_agent(struct sim *s, struct agent_actor *a, int64_t down_ns);
void leave_coord(struct sim *s, int64_t down_ns);
void leave_event(struct sim *s, struct agent_actor *a, const struct event *e);
void leave_if_idle(struct sim *s, struct agent_actor *a); /* after each of its steps */

/* ---- actor_shim.c -------------------------------------------------------------------- */

struct shim_actor *simshim_spawn(struct sim *s, struct agent_actor *a, const struct rec_prepare *p,
			      const char *cookie);
struct shim_actor *simshim_find(struct sim *s, uint32_t host, uint64_t job, uint32_t attempt);
void simshim_kill9(struct sim *s, struct shim_actor *h); /* SIGKILL to the shim itself */
void simshim_unborn(struct sim *s, struct shim_actor *h); /* it was never started */
void simshim_host_gone(struct sim *s, struct shim_actor *h);
uint32_t simshim_sweep(struct sim *s, struct shim_actor *h); /* kills what it left; number */
uint32_t simshim_alive(const struct shim_actor *h); /* processes of the job */
/* A signal from whoever: to one of its processes, to the shim itself. */
void simshim_signal(struct sim *s, struct shim_actor *h, struct worker *w, int sig);
void simshim_hit(struct sim *s, struct shim_actor *h, int sig);
/* What a rank has left may end at any time. */
bool simshim_may_go(const struct sim *s, const struct shim_actor *h, const struct worker *w);
void simshim_goes(struct sim *s, struct shim_actor *h, struct worker *w);
void simshim_teardown(struct shim_actor *h);
void simshim_event(struct sim *s, struct shim_actor *h, const struct event *e);
void simshim_link_up(struct sim *s, struct shim_actor *h, struct conn *c);
void simshim_link_down(struct sim *s, struct shim_actor *h, struct conn *c);
void simshim_message(struct sim *s, struct shim_actor *h, struct conn *c, const struct msg *m);

/* ---- stuck.c ------------------------------------------------------------------------- */

void stuck_begin(struct sim *s, struct shim_actor *h, struct worker *w); /* maybe it is one of those */
bool stuck_now(const struct sim *s, const struct worker *w);
uint32_t stuck_mortal(const struct sim *s, struct shim_actor *h); /* alive, and could die */
size_t stuck_list(const struct sim *s, const struct shim_actor *h, struct rec_stuck_proc *v, size_t max);
void stuck_tell(struct sim *s, struct shim_actor *h);
uint32_t stuck_look(const struct sim *s, const struct agent_actor *a, const struct action *act);
void stuck_row(struct sim *s, const struct store_row *r); /* is to be stored */
void stuck_loaded(struct sim *s, const char *json, size_t len);

/* ---- actor_client.c -------------------------------------------------------------------- */

struct client *client_add(struct sim *s, uint32_t agent, int64_t at); /* with a plan of its own */
void client_start_at(struct sim *s, struct client *k, int64_t at);
void client_crash(struct sim *s, struct client *k, int64_t down_ns);
void client_event(struct sim *s, struct client *k, const struct event *e);
void client_link_up(struct sim *s, struct client *k, struct conn *c);
void client_link_down(struct sim *s, struct client *k, struct conn *c);
void client_message(struct sim *s, struct client *k, struct conn *c, const struct msg *m);
void plan_hash(uint32_t plan_no, uint8_t out[32]);
struct plan *plan_of_hash(struct sim *s, const uint8_t *hash);

/* ---- actor_rogue.c ----------------------------------------------------------------------- */

enum rogue_role { ROGUE_LIAR, ROGUE_CLONE };
/* A node "evil" of its own that lies, or a second machine with agent 0's key. */
void rogue_add(struct sim *s, enum rogue_role role, int64_t at);
void rogue_event(struct sim *s, const struct event *e);
void rogue_link_up(struct sim *s, struct conn *c);
void rogue_link_down(struct sim *s, struct conn *c);
void rogue_message(struct sim *s, struct conn *c, const struct msg *m);
const uint8_t *rogue_key(const struct sim *s);
bool rogue_quiet(struct sim *s); /* for the end of the run */
void rogue_outcome(struct sim *s);

/* ---- actor_admin.c ----------------------------------------------------------------------- */

void admin_add(struct sim *s, int64_t at); /* asks for the status all the time, from then on */
/* Takes this node out then; joins it again so long after, with the same key (0: never). */
void admin_removes(struct sim *s, uint32_t host, int64_t at, int64_t back_after);
/* Lets no new jobs come to this node, and then again. */
void admin_drains(struct sim *s, uint32_t host, int64_t at, int64_t resume_after);
/* Tells of runs of check nccl from then on. */
void admin_checks(struct sim *s, int64_t at);
bool admin_done(const struct sim *s); /* for the end of the run */
const uint8_t *admin_key(const struct sim *s); /* of the machine that joins */
void admin_event(struct sim *s, const struct event *e);
void admin_link_up(struct sim *s, struct conn *c);
void admin_link_down(struct sim *s, struct conn *c);
void admin_message(struct sim *s, struct conn *c, const struct msg *m);

/* ---- fault.c ------------------------------------------------------------------------------- */

enum fault_kind {
	FT_COORD_CRASH, /* for: down */
	FT_COORD_POWER, /* its host loses power */
	FT_AGENT_CRASH,
	FT_REBOOT,
	FT_SHIM_KILL, /* a living shim of that host */
	FT_CUT, /* both ways; for: how long */
	FT_CUT_UP,
	FT_CUT_DOWN,
	FT_RESET,
	FT_STOP_AGENT, /* SIGSTOP */
	FT_STOP_COORD,
	FT_STOP_SHIM, /* a living one of that host; its ranks go on */
	FT_AGENT_LEAVE, /* asked to end its jobs and to stop; for: until it is started again */
	FT_COORD_LEAVE, /* asked to stop */
	FT_DISK_FULL,
	FT_DISK_BAD, /* the coordinator's: writes and syncs fail */
	FT_CUT_PEERS,
	FT_WALL_JUMP,
	FT_LINEAGE,
	FT_LAUNCHER_CRASH,
	FT_STOP_LAUNCHER,
	FT_CLIENT_CRASH, /* one of them; for: until it comes back with its client id */
	FT_HOST_LOST, /* power loss; it never comes back */
	FT_GPU_STRANGER, /* from here on: one GPU of that host, or all; for: how long */
	FT_GPU_LOST,
	FT_GPU_GONE,
	FT_GPU_UNCLEAR,
	FT_DRIVER_BROKEN,
	FT_DRIVER_ABSENT,
	FT_PROBE_SILENT,
	FT_PROBE_OUT,
	FT_PORT_BAD, /* its InfiniBand port is Initializing */
	FT_END, /* of the one before */
	FT_KINDS
};

void fault_at(struct sim *s, int64_t at, enum fault_kind kind, uint32_t host, int64_t lasts);
/* When this agent (host), or for coordinator's faults the coordinator, has performed n actions. */
void fault_at_action(struct sim *s, uint64_t n, enum fault_kind kind, uint32_t host, int64_t lasts);
void fault_triggered(struct sim *s, struct trigger *t);
void fault_event(struct sim *s, const struct event *e);
/* Nodes may have been silent for so long because of a crash or a fault. */
void fault_silences(struct sim *s, int64_t lasts);
void fault_coverage(void); /* prints how often each kind has happened */
void fault_heal(struct sim *s);
void fault_random(struct sim *s, int64_t at); /* of any kind but LINEAGE; at -1: at some action */

#include "tests/sim/check.h"

/* ---- scenario.c ------------------------------------------------------------------------------ */

struct scenario {
	const char *name;
	uint32_t nodes; /* at least */
	void (*setup)(struct sim *s);
	bool exhaustive; /* worth a crash after every action */
};

extern const struct scenario scenarios[];
extern const size_t n_scenarios;

/* ---- once_failed.c --------------------------------------------------------------------------- */

struct once_failed {
	const char *scenario;
	uint64_t seed;
};

extern const struct once_failed once_failed[];
extern const size_t n_once_failed;

#endif
