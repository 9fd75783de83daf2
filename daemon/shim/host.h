/* host.h - everything one shim process has, and how it performs the machine's wishes */
#ifndef NA_SHIM_HOST_H
#define NA_SHIM_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "common/nccl_conf.h"
#include "common/arena.h"
#include "common/err.h"
#include "common/progress.h"
#include "proto/spec.h"
#include "shim/channel.h"
#include "shim/feed.h"
#include "shim/flight.h"
#include "shim/lateness.h"
#include "shim/machine.h"
#include "shim/nccl.h"
#include "shim/oom.h"
#include "shim/output.h"
#include "shim/ras.h"
#include "shim/pulse.h"
#include "shim/reader.h"
#include "shim/stacks.h"
#include "shim/sweep.h"
#include "shim/trainlog.h"
#include "shim/workers.h"

/* Descriptors the shim is started with. */
#define FD_SPEC 3
#define FD_LISTEN 4
#define FD_STATUS 5
#define FD_STAMPS 6
#define FD_SPOOL 7 /* the spool's directory, or: FD_STATUS, FD_STAMPS and all of FD_OUTPUT */
#define FD_OUTPUT 10 /* + 2 * local + (0 stdout, 1 stderr) */

/* What an epoll event is about: kind in the upper half, stream in the lower. */
enum poll_kind { POLL_SIGNALS, POLL_LISTEN, POLL_CONN, POLL_STREAM, POLL_FEED, POLL_WORKER, POLL_READER, POLL_NCCL, POLL_RAS,
		 POLL_FLIGHT, POLL_STACKS };

struct host {
	uint64_t job;
	uint32_t attempt;
	uint32_t nprocs;
	struct nccl_conf nccl; /* what the user's and this host's files set */
	const char *cookie; /* from our environment, or NULL */
	uid_t agent_uid; /* (uid_t)-1: none */
	struct rlimit nofile; /* as we were started: the ranks' */
	int ep, signals;
	int spool_fd; /* its files are made when there is something for them; -1: all were given */
	int status_fd; /* -1: not made yet */
	bool done;

	struct shim *machine;
	struct output *out;
	struct sweep *sweep;
	struct oom oom;
	struct lateness late;
	struct feed feed;
	struct workers *workers; /* NULL: not one launcher per node */
	struct reader *reader; /* NULL: not needed yet */
	struct nccl *nccl_said; /* NULL: its log is not read */
	struct ras *ras; /* NULL: nobody has asked yet */
	struct flight *flight; /* the same */
	const char **ras_addrs; /* of local ranks */
	uint32_t n_ras_addrs;
	bool nccl_anew; /* this agent has not heard it yet */
	bool below_changed; /* workers, since the machine was told */
	uint32_t round; /* of workers */
	uint64_t round_from[2], round_end[2]; /* their output begins here; and ended there when all of them were over */
	struct stacks *stacks; /* of n_stacks ranks; NULL: nobody looks */
	uint32_t n_stacks;
	struct pulse *pulse; /* NULL: not looked at */
	struct trainlog *trainlog; /* NULL: none is known */
	struct progress step; /* as it was told last */
	mono_t step_at; /* it changed */
	bool signalled; /* a signal of ours went to the ranks */
	char *spoken[SHIM_TAILS]; /* of the first local ranks: the exception that their output ended with before that; NULL: none */
	uint32_t n_searched; /* ranks whose output was searched for an exception */
	struct channel conn;
	int guard; /* the kernel's timer that kills us, when there is one */
	bool has_guard;
	bool armed; /* the agent waits for shim_grown */
	bool conn_out, feed_out; /* polled for writing */

	char *blob; /* the specification */
	struct spec spec;
	struct rec_shim_setup setup; /* strings in setup_arena */
	struct arena setup_arena;
	char *path; /* of the command */

	/* answers to actions, stepped after the list they come from */
	struct shim_event answers[4];
	size_t n_answers;
	struct err err;
	struct arena scratch; /* until the answers are stepped */
	struct shim_rank_event *started; /* nprocs */
	struct shim_rank_event *reaped; /* nprocs */
	char cause[256]; /* of those reaped in this round */
	struct shim_rank_event *closed; /* 3 * nprocs: streams that ended in this round, and ranks that lost their first output */
	bool *lost_said; /* of each rank: the machine knows that output is lost */
	size_t n_closed;
};

mono_t host_now(void);
int64_t host_wall_us(void);
int64_t host_wall_ms(void);
int64_t host_boot_ms(void);
int host_poll(struct host *h, int fd, enum poll_kind kind, uint32_t index, uint32_t events);

/* Feeds one event (now and wall_ms are filled in), performs what comes of it,
 * and feeds the answers, until nothing is left. */
void host_step(struct host *h, struct shim_event ev);
/* Streams closed while reading become one event. */
void host_step_closed(struct host *h);
/* Reads a stream; remembers its end. Bytes moved. */
size_t host_read(struct host *h, uint32_t stream, int64_t wall_ms, size_t max);
/* below.c: workers of the launcher, and exceptions. Nothing of these steps the
 * machine but below_tell(). */
void below_began(struct host *h);
void below_look(struct host *h);
void below_ended(struct host *h, uint32_t index);
void below_read(struct host *h);
void below_reaped(struct host *h, pid_t pid, int status);
void below_signal(struct host *h); /* before one goes out */
/* What came to light of a rank that was reaped: for SEV_REAPED; in h->scratch. */
const struct shim_below *below_rank(struct host *h, const struct shim_rank_event *re);
void below_tell(struct host *h);
bool below_by_kill(const struct host *h); /* the first worker that ended badly did so by SIGKILL, not ours */
mono_t below_due(const struct host *h);
void below_finish(struct host *h);
/* job_nccl.c: what the ranks' NCCL says. The value for NCCL_DEBUG_FILE, or NULL. */
struct env;
const char *job_nccl_begin(struct host *h, const struct rec_shim_go *go);
void job_nccl_env(struct host *h, struct env *env); /* as the ranks get it */
/* News go to the agent; 'now': before something else does. */
void job_nccl_tell(struct host *h, bool now);
void job_ras_asked(struct host *h);
void job_flight_asked(struct host *h);
void job_flight_ready(struct host *h);
mono_t job_nccl_due(const struct host *h);
void job_nccl_finish(struct host *h);
/* job_stacks.c: where the ranks are, for people */
void job_stacks_asked(struct host *h);
void job_stacks_read(struct host *h);
void job_stacks_end(struct host *h); /* before a signal goes out: its process is none of the job's */
/* vitals.c: what the ranks do, and how far they are. Past the machine, to the agent. */
void vitals_began(struct host *h);
mono_t vitals_due(const struct host *h);
void vitals_look(struct host *h);
void vitals_finish(struct host *h);
/* shim_stdin: a grant, or that the rank reads no more. */
void host_grant(struct host *h, bool anew);

#endif
