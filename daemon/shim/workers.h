/* workers.h - finds and follows the ranks below torchrun, deepspeed and their like
 *
 * They are no children of ours, so nobody tells us of them. We walk down from
 * our rank through the kernel's lists of children; a process that has RANK,
 * LOCAL_RANK and WORLD_SIZE in its environment, and not the same ones as our
 * rank, is a worker; what a worker starts is left alone. Each is held by a pidfd,
 * which says at once that it has ended. How it ended is its parent's to know: we
 * read it from the zombie, the kernel (Linux 6.15) or torchrun's last lines, and
 * say "unknown" when none of them tells.
 *
 * A round ends when all workers are over and others, of another restart count or
 * parent, are found: the former are forgotten then. At most FOLLOWED_MAX are
 * followed, and as many as fit a message told of.
 *
 * Not promised: that one that lives shorter than the time between two looks is
 * seen; torchrun's last lines make up for it where there are any.
 */
#ifndef NA_SHIM_WORKERS_H
#define NA_SHIM_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/elastic.h"
#include "common/mono.h"
#include "proto/workers.h"

#define FOLLOWED_MAX 128
#define SURVIVED_US 120000000 /* a launcher that lives on so long has come to terms with a worker's end */
#define BAD_TOLD 8 /* of WORKERS_MAX: those that ended badly, the first ones */

struct worker {
	pid_t pid, parent;
	uint64_t start_time;
	uint32_t rank, local_rank, round;
	int pidfd; /* -1: none; its end is seen at the next look */
	bool over, known, ours; /* known: status says how */
	bool told; /* by torchrun's last lines only: its times are guesses */
	bool examined; /* for its exception; the caller's */
	int status;
	int64_t end_us, end_mono_us;
	uint32_t order; /* of the end: 1, 2, ... */
	char *error_file, *logs[2]; /* own; NULL: none, or the output goes where the rank's goes */
	char *exception; /* own */
};

struct workers;

/* Pidfds are polled in this epoll set, with data 'kind' << 32 | index. NULL on ENOMEM. */
struct workers *workers_create(int epoll_fd, uint32_t kind);
void workers_destroy(struct workers *w);
/* The rank that a launcher was started as. */
void workers_begin(struct workers *w, pid_t root, mono_t now);
void workers_stop(struct workers *w); /* no more looks */
mono_t workers_due(const struct workers *w); /* next look, or MONO_NEVER */

/* Looks for new ones, and for ends that no pidfd tells. True: something has changed. */
bool workers_look(struct workers *w, mono_t now);
/* Pidfd 'index' is readable. The worker, or NULL: it was over already. */
struct worker *workers_ended(struct workers *w, uint32_t index);
/* We have reaped a process: one that its launcher has left to us? */
struct worker *workers_reaped(struct workers *w, pid_t pid, int status);
/* A signal of ours goes out: who is alive now and ends later does so by our doing. */
void workers_signalled(struct workers *w);
/* torchrun's last lines. True: something has changed. */
bool workers_summary(struct workers *w, const struct elastic_failure *v, size_t n);

uint64_t worker_id(const struct worker *w); /* for reader.h */
struct worker *workers_by_id(struct workers *w, uint64_t id);
bool worker_ended_badly(const struct worker *w);
/* The first that ended badly, not by our signal; NULL: none. */
struct worker *workers_guilty(struct workers *w);
/* The launcher has ended: were it for a worker's end, it would have done so
 * earlier (torchrun gives the others 30 s). Forgets all; true: it was so. */
bool workers_survived(struct workers *w);
/* In the order of rank_state. How many of out[WORKERS_MAX]; borrowed until the next call of any. */
size_t workers_list(struct workers *w, struct rec_worker out[WORKERS_MAX]);
/* The i-th of those that live; NULL: there are no more. */
const struct worker *workers_live(const struct workers *w, size_t i);
uint32_t workers_round(const struct workers *w); /* 0, 1, ...: how often others took their places */
uint32_t workers_found(const struct workers *w);
uint32_t workers_alive(const struct workers *w);
/* Those that are dead and whose pidfd was not heard yet. True: there was one. */
bool workers_collect(struct workers *w);
/* The next that ended badly, not by our signal, and was not examined; by their end. NULL: none. */
struct worker *workers_unexamined(struct workers *w);

#endif
