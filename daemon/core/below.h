/* below.h - what is known of the processes below a rank, kept by agent and coordinator */
#ifndef NA_CORE_BELOW_H
#define NA_CORE_BELOW_H

#include "proto/workers.h"

struct below {
	char *exception; /* own; NULL: none */
	struct rec_worker *workers; /* own */
	size_t n_workers;
	uint32_t found, alive;
	bool status_unknown; /* of the rank itself */
};

/* What a report has to say replaces what was known. Without memory the former stays. */
void below_take(struct below *b, const struct rec_rank_state *s);
/* Pointers are borrowed. live: those that run, too. */
void below_fill(const struct below *b, bool live, struct rec_rank_state *s);
void below_free(struct below *b);
/* "rank 5 (gpu02, GPU 3, below the launcher, pid 4711) was killed by signal 9", of the worker
 * whose end was the first; 'gpu' is ", GPU 3" or "". False: there is none. */
bool below_say(const struct below *b, const char *node, const char *gpu, char *out, size_t size);
/* Its pid; 0: there is none. */
uint32_t below_pid(const struct below *b);
/* The signal that has killed it; 0: none. */
uint32_t below_signal(const struct below *b);
/* Appends ": ValueError: bad at train.py:42". */
void below_say_exception(const struct below *b, char *out, size_t size);

#endif
