/* ras.h - asks the RAS subsystem of the ranks' NCCL, once, beside everything else
 *
 *   greeting -> timeout -> format -> status -> (answer)
 *
 * In JSON only: where that is not known (before 2.28.7) no STATUS is sent, for the
 * text form can crash the job (nccl#2346). Any rank answers for the whole job; one
 * that is stopped takes the connection and says nothing, then the next is asked.
 * Nothing blocks; after RAS_MS it is over in any case.
 */
#ifndef NA_SHIM_RAS_H
#define NA_SHIM_RAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/mono.h"
#include "proto/message.h"

#define RAS_MS 12000
#define RAS_SILENT_MS 1000 /* to each line but STATUS */
#define RAS_PAUSE_MS 5000 /* not more often, whoever asks */

struct ras;

/* Polled in this epoll set with this data. NULL: no memory. */
struct ras *ras_create(int epoll_fd, uint64_t data);
void ras_destroy(struct ras *r);
/* addrs: "127.0.0.1:20011", copied; at most 64 are tried. False: one is under way, or it is too soon. */
bool ras_ask(struct ras *r, const char *const *addrs, size_t n, mono_t now);
void ras_ready(struct ras *r, mono_t now); /* epoll says so */
void ras_late(struct ras *r, mono_t now); /* ras_due() has come */
mono_t ras_due(const struct ras *r);
/* The answer, or why there is none, once; in the arena. */
bool ras_take(struct ras *r, struct arena *a, struct rec_ras_state *ret);

#endif
