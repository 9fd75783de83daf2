/* agent_io.h - the agent role's private parts: everything is reachable from here
 *
 * agent_role.c    start, stop, the core's step, signals, the one deadline timer
 * agent_conns.c   links the core knows (coordinator, clients, peers, shims): routing
 * agent_upload.c  specifications that clients send, held-back submits
 * perform_agent.c an action becomes a side effect
 * shims.c chores.c adopt.c launcher_client.c ports.c prove.c specs.c addrs.c users.c
 * bulk*.c         everything about DATA frames
 * spools.c spools_disk.c  how much output is kept
 *
 * One thread owns all of it (the loop's). Work items on the thread pool get
 * copies and hand results back in their 'after' callback.
 */
#ifndef NA_IO_AGENT_IO_H
#define NA_IO_AGENT_IO_H

#include <uv.h>

#include "common/list.h"
#include "common/proc.h"
#include "core/agent.h"
#include "core/map.h"
#include "io/leaf.h"
#include "io/link.h"
#include "io/loop_util.h"
#include "io/lost.h"
#include "io/notify.h"
#include "io/roles.h"
#include "io/tls.h"

struct ports;
struct specs;
struct bulk;
struct launcher_client;
struct users;
struct probe;
struct spools;

struct agent_io {
	const struct agent_opts *opts;
	uv_loop_t loop;
	struct node_identity id;
	struct tls_context *tls;
	struct agent *core;
	struct actions acts;
	bool stepping;
	uint32_t own_uid;
	char boot_id[37];
	uint16_t peer_port;
	struct link_listener *listen_peers, *listen_clients;

	struct deadline_timer deadline; /* agent_deadline() */
	uv_idle_t idle; /* runs while 'later' holds something */
	struct list later; /* struct later */
	uv_signal_t sig_term, sig_int, sig_child;
	uv_poll_t parent;
	uv_timer_t stop_timer;
	uv_timer_t specs_old; /* the last resort: see on_specs_old() */
	struct notify notify; /* systemd */
	struct notify_timer notify_timer;
	bool stopping; /* AEV_STOP was fed */
	bool stop_waited; /* ... and 5 s have passed */
	bool told_ready;
	int exit_code;

	struct list conns; /* struct conn */
	struct list unsure; /* shims that are asked again soon */
	uv_timer_t redial;
	struct list uploaders; /* agent_upload.c: users with something unfinished */
	struct map conn_by_id;
	struct conn *coord; /* being dialled or up */
	char addr_first[64]; /* our address on the coordinator's link */

	struct list jobs; /* struct job_io */
	unsigned n_jobs;
	struct list children; /* shims that are our own children */
	int shims_dir; /* RUN/shims */
	char shims_path[256]; /* ... or a short way to it: sockets' names have 107 bytes */
	char shim_path[512];
	struct rlimit_saved {
		uint64_t cur, max;
	} nofile; /* before we raised it; what jobs get */

	struct users *users;
	struct ports *ports;
	struct specs *specs;
	struct bulk *bulk;
	struct spools *spools;
	struct launcher_client *launcher; /* NULL: single user */
	struct probe *probe; /* NULL: none */
};

/* What io keeps of a job on this node, from its first action to ACT_CLEAN. */
struct job_io {
	struct list at;
	uint64_t job;
	uint32_t attempt;
	uint32_t uid; /* whose the spool files are */
	bool uid_known;
	uint32_t rank_base, nprocs; /* nprocs 0: not known */
	struct spec_blob *spec; /* fetched, not yet handed to the shim */
	bool spawning;
	struct lost lost;
	bool told_given; /* the core, that its oldest output is given back */
	bool told_left; /* in the log, that processes of it could not be ended */
	struct proc_id started; /* its shim, by us or by the launcher, in this life of the agent; start time 0: not */
	struct proc_id shim; /* our child, or was; start time 0: never */
	char cookie[65]; /* of a shim that was started in this life of the agent */
	char leaf[LEAF_PATH_MAX]; /* its cgroup; "": none */
};
struct job_io *job_io_find(struct agent_io *io, uint64_t job, uint32_t attempt);
struct job_io *job_io_get(struct agent_io *io, uint64_t job, uint32_t attempt);
void job_io_drop(struct agent_io *io, uint64_t job, uint32_t attempt);

/* ---- agent_role.c: the core's step ----------------------------------- */

/* Fills in time and randomness, steps the core, performs its actions, kicks
 * bulk, sets the timer. Not to be called from inside perform_agent(). */
void agent_feed(struct agent_io *io, struct agent_event *ev);

/* An event to be fed in a later turn of the loop; what it points to lives in
 * its arena. agent_later_new() does not fail: without memory for a few bytes
 * the process ends, and its restart finds everything again. */
struct later {
	struct list at;
	struct arena arena;
	struct agent_event ev;
};
struct later *agent_later_new(enum agent_event_type type);
void agent_later(struct agent_io *io, struct later *l);
/* DONE with a ticket; text is copied (NULL when error is 0). */
void agent_done(struct agent_io *io, uint64_t ticket, int error, bool retry, const char *text);
/* error 0; text NULL: nothing to say */
void agent_done_well(struct agent_io *io, uint64_t ticket, uint32_t result, const char *text);
/* With an error, and what was reached before it. */
void agent_done_so_far(struct agent_io *io, uint64_t ticket, int error, uint32_t result, const char *text);
/* What `systemctl status` shows; when registration, jobs or launcher may have changed. */
void agent_tell_status(struct agent_io *io);
_Noreturn void agent_no_memory(void);
void *agent_alloc(size_t n); /* zeroed; never NULL */
/* Ends the loop; agent_run() returns 'code'. */
void agent_exit(struct agent_io *io, int code);

/* ---- agent_conns.c ---------------------------------------------------- */

struct conn {
	struct list at;
	struct agent_io *io;
	struct link *link;
	uint64_t id;
	enum agent_link_kind kind;
	bool up; /* the core knows it */
	bool held_back; /* LINK_CLIENT: not read until it takes what it was sent */
	uint32_t uid;
	char user[65];
	uint8_t key[32];
	uint64_t job;
	uint32_t attempt;
	/* LINK_SHIM: the launch that waits for this link, 0 when adopted */
	uint64_t ticket;
	uint32_t shim_pid;
	unsigned dials; /* in a row that came to nothing */
	uint64_t lost_id; /* the link that this one replaces; the core is told after */
	size_t half; /* LINK_CLIENT: bytes of a message that is not complete */
	/* LINK_CLIENT: the specification it sends before 'submit' */
	char *upload;
	size_t upload_n, upload_cap;
	enum { UPLOAD_NONE, UPLOAD_GROWING, UPLOAD_STORING, UPLOAD_STORED, UPLOAD_FAILED } upload_state;
	bool upload_over; /* its EOF has come */
	uint8_t spec_hash[32];
	uint32_t spec_size;
	char upload_code[32], upload_error[512];
	char *held_submit; /* waits until the specification is stored */
	size_t held_n;
};
void conns_init(struct agent_io *io);
int conns_listen_peers(struct agent_io *io, struct err *e); /* before the core exists: it tells the port */
int conns_listen_clients(struct agent_io *io, struct err *e);
void conns_dial_coordinator(struct agent_io *io);
void conns_tell_addrs(struct agent_io *io); /* AEV_ADDRS, now */
/* Connects to a shim's socket; ticket != 0: the launch to be answered. */
void conns_dial_shim(struct agent_io *io, uint64_t job, uint32_t attempt, uint64_t ticket,
		     uint32_t pid);
struct conn *conn_find(struct agent_io *io, uint64_t id);
void conns_revoke(struct agent_io *io, const uint8_t key[32]);
/* What this peer reads of a job ends, and its link when nothing else concerns it. */
void conns_peer_out(struct agent_io *io, const uint8_t key[32], uint64_t job);
void conn_send(struct link *l, const struct msg *m);
void conn_refuse(struct link *l, uint32_t rid, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* A JSON message of this link; also one that was held back. */
void conn_on_json(struct link *l, const char *text, size_t n, void *conn);

/* ---- agent_upload.c ---------------------------------------------------- */

/* DATA sid 0 fd 3 .. EOF: the specification of the next submit. */
void upload_data(struct conn *c, const struct data_header *h, const char *p, size_t n);
/* n bytes of its next message have come. False: of all its user's connections
 * together that is too much. */
bool upload_half(struct conn *c, size_t n);
/* The connection ends: what it has stored is kept only if something needs it. */
void upload_gone(struct conn *c);
void upload_submit(struct conn *c, const struct msg *m, const char *text, size_t n);

/* ---- perform_agent.c -------------------------------------------------- */

void perform_agent(struct agent_io *io, const struct action *a);

/* ---- addrs.c ---------------------------------------------------------- */

#define ADDRS_MAX 32
struct addr_text {
	char ip[46];
	char ifname[33];
};
/* This host's addresses, best first; 'first' (may be "") is where the
 * coordinator's link leaves: it comes first, whatever it is. */
size_t addrs_list(const char *first, struct addr_text out[ADDRS_MAX]);
/* Interface that has this address; "" when none. */
uint32_t addrs_mtu(const char *ifname); /* 0: not known */
void addrs_ifname(const char *ip, char out[33]);

/* ---- users.c: uid <-> name, never on the loop -------------------------- */

int users_create(struct agent_io *io, struct users **ret);
void users_destroy(struct users *u);
/* Calls back in a later turn of the loop: name, or NULL when the uid has none. */
void users_name(struct users *u, uint32_t uid, void (*cb)(void *arg, const char *name), void *arg);
void users_forget(struct users *u, void *arg); /* the caller is going: no call back */
/* Blocks. 0, or -errno and a sentence that names both sides. */
int users_check(uint32_t uid, const char *user, struct err *e);

/* ---- shims.c, chores.c, adopt.c -------------------------------------------------- */

int shims_start(struct agent_io *io, struct err *e);
/* Of an agent that has no launcher: who is an orphan of its jobs. Before it has children. */
void chores_start(void);
void shims_spawn(struct agent_io *io, const struct action *a);
void shims_containers(struct agent_io *io, const struct action *a);
void shims_latch(struct agent_io *io, const struct action *a);
void shims_sweep(struct agent_io *io, const struct action *a);
/* Its shim was started and cannot be reached: it is ended, for nobody will ask it to leave. */
void shims_abandon(struct agent_io *io, uint64_t job, uint32_t attempt);
void shims_clean(struct agent_io *io, uint64_t job, uint32_t attempt);
enum shim_answer {
	SHIM_GONE, /* nobody listens there */
	SHIM_LISTENS,
	SHIM_UNSURE, /* it could not be asked: no descriptors, a full backlog */
};
enum shim_answer shims_socket_ask(const struct agent_io *io, uint64_t job, uint32_t attempt);
void shims_socket_path(const struct agent_io *io, uint64_t job, uint32_t attempt, char out[108]);
/* On SIGCHLD: reaps those shims that are our children. */
void shims_reap(struct agent_io *io);
/* On SIGCHLD, after all that know their children. */
void shims_reap_orphans(void);
/* Feeds AEV_ADOPT for each held record and connects to the living shims. Blocks; before the loop runs. */
void adopt_all(struct agent_io *io);

/* ---- prove.c ----------------------------------------------------------- */

void prove_start(struct agent_io *io, const struct action *a);

#endif
