/* workers.h - records of workers that outlive the message they came in */
#ifndef NA_PROTO_WORKERS_H
#define NA_PROTO_WORKERS_H

#include "proto/message.h"

#define WORKERS_MAX 16 /* in one rank_state */

/* A copy with its texts in one piece of memory: free() frees it all. NULL on
 * ENOMEM, and for none. More than WORKERS_MAX are cut off: *ret_n. */
struct rec_worker *workers_dup(const struct rec_worker *v, size_t n, size_t *ret_n);
bool worker_bad(const struct rec_worker *w); /* it has ended, and not with 0 */
/* The first that ended badly and not by our own signal; NULL: none. */
const struct rec_worker *workers_first(const struct rec_worker *v, size_t n);

#endif
