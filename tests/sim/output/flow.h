/* flow.h - the way of a rank's output in one process: what takes part, what is known, what must hold
 *
 *   rank -> pipe -> shim -> spool -> agent (-> another agent) -> client
 *
 *   main.c    the command line       world.c   time, chance, wires; what stands for uv
 *   run.c     a run and its faults   node.c    agents, shims, ranks, their disk
 *   pool.c    links between agents   client.c  readers, and what must hold of what they saw
 *
 * Real: daemon/shim/output.c, common/spool.c's names, daemon/io/bulk_{follow,part,serve,source,spool,begin}.c
 * and bulk.c, client/streams.c. Files and pipes are the kernel's own (under /dev/shm), their failures are
 * ours: write, fallocate and making a file are wrapped. Time is virtual.
 *
 * Not here: standard input, cgroups, the dialling and TLS of links, the client's session (client.c does what
 * client/session.c does, and is checked against it by nobody but its reader).
 */
#ifndef SIM_OUTPUT_FLOW_H
#define SIM_OUTPUT_FLOW_H

#include "client/streams.h"
#include "io/bulk_private.h"
#include "shim/output.h"

#define JOB 7
#define HOSTS 3
#define PPN 2
#define ATTEMPTS 3
#define CLIENTS 4
#define STREAMS (2 * PPN) /* of one host */
#define LINE 32 /* bytes, its newline included */
#define MS INT64_C(1000000)

/* ---- world.c ----------------------------------------------------------------- */

extern int64_t now; /* ns */
extern bool verbose;
uint64_t chance(uint64_t n); /* 0 .. n-1 */
bool permille(unsigned p);
void trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The run is over: an invariant does not hold. */
_Noreturn void broken(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

struct event {
	int64_t at;
	uint64_t seq;
	void (*f)(struct event *e);
	void *a;
	void *b;
	uint64_t x, y;
	char *data;
	size_t n;
	struct data_header h;
};
struct event *later(int64_t ms, void (*f)(struct event *e), void *a, uint64_t x);
bool next_event(int64_t until); /* false: none before that */
void world_begin(uint64_t seed);
void world_end(void);

enum link_role { L_CLIENT, L_AGENT, L_SHIM, L_POOL };
struct wire;
struct link { /* one end */
	struct wire *w;
	unsigned end;
	uint64_t id;
	enum link_role role;
	void *owner; /* client, conn, shim or pool_link; NULL: let go */
	bool up, full;
	size_t queued; /* on their way to the other end */
};
struct link *wire_new(enum link_role ra, void *a, enum link_role rb, void *b); /* end a; b: link_peer() */
struct link *link_peer(struct link *l);
/* The connection breaks; each end learns of it after a while (at once: where it is named). */
void wire_cut(struct link *l, bool slowly);
void link_forget(struct link *l); /* its owner is no more: nothing is told it */
void wires_cut_some(void);
size_t wires_up(void);

/* ---- node.c -------------------------------------------------------------------- */

struct truth { /* what lies in a file of the spool */
	char *p;
	size_t n, cap;
	size_t most; /* before the power was gone */
	uint64_t given; /* its begin, back to the disk */
	uint64_t lost; /* as the shim counted when it ended */
};

struct shim {
	struct host *host;
	uint32_t attempt;
	bool alive, ended, armed;
	struct output *out;
	int dir, stamps, wr[STREAMS];
	uint64_t written[STREAMS], target[STREAMS];
	struct link *link; /* to its agent; NULL */
	uint64_t keep;
};

struct agent { /* what the core would know */
	struct host *h;
};

struct watch {
	bool used, answered;
	uint64_t link;
	uint32_t rid, fixed;
};

struct host {
	unsigned i;
	bool up, cut_off;
	bool lost_power;
	uint32_t life;
	struct agent core;
	struct agent_io *io;
	struct agent_opts opts;
	char spool[64];
	uint8_t key[32];
	struct watch watches[64];
	bool allowed[HOSTS];
	bool known[ATTEMPTS + 1], over[ATTEMPTS + 1], removed[ATTEMPTS + 1], shim_killed[ATTEMPTS + 1];
	struct job_io jio[ATTEMPTS + 1];
	struct shim *shims[ATTEMPTS + 1];
	struct truth truth[ATTEMPTS + 1][STREAMS];
	int64_t full_until; /* its disk */
	bool idle_on;
};
extern struct host hosts[HOSTS];

void host_begin(struct host *h, unsigned i);
void host_end(struct host *h);
void agent_start(struct host *h);
void agent_crash(struct host *h);
void host_power_loss(struct host *h);
void shim_start(struct host *h, uint32_t attempt, uint64_t each, uint64_t keep);
void shim_kill(struct shim *s);
void host_forget(struct host *h, uint32_t attempt);
void host_remove_spool(struct host *h, uint32_t attempt);
void host_kick(struct host *h);
struct conn *conn_new(struct host *h, enum agent_link_kind kind);
struct host *host_of_key(const uint8_t *key);
void agent_frame(struct link *l, struct event *e); /* NULL data header flags: see world.c */
void agent_down(struct link *l);
void shim_frame(struct link *l, struct event *e);
void shim_down(struct link *l);
void pool_frame(struct link *l, struct event *e);
void pool_down(struct link *l);
void update_watches(void); /* the job has changed: its watchers hear of it */
bool agent_drained(struct link *l);

/* The process of this pool is no more: nothing that it does leaves it. */
void pool_mute(struct pool *p);

/* ---- run.c: what the coordinator knows ---------------------------------------------- */

struct job {
	uint32_t attempt, attempts; /* now, and at most */
	bool between, settled, started[ATTEMPTS + 1], over[ATTEMPTS + 1];
};
extern struct job job;
void fill_info(struct rec_job_info *i, struct rec_attempt_info past[ATTEMPTS + 1], uint32_t shown);
void run(uint64_t seed);
void shim_gone(struct host *h, uint32_t attempt); /* nothing of it lives on that host */

/* ---- client.c ----------------------------------------------------------------------- */

void clients_begin(void);
void clients_end(void);
void client_start(unsigned i, bool live, uint32_t fixed);
bool clients_done(void);
void client_frame(struct link *l, struct event *e);
void client_down(struct link *l);
void clients_check(void);
bool clients_were_told(void); /* that something is missing */
char byte_at(uint32_t attempt, uint32_t rank, uint32_t fd, uint64_t at); /* of what the rank writes */
extern struct flow_counts {
	uint64_t runs, bytes, gaps, losses, cuts, crashes, kills, powers, resumed, missing;
} counts;

#endif
