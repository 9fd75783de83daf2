/* bulk.h - everything about DATA: output, standard input, specifications
 *
 *   bulk.c        who may, and where to; what comes from links is dealt out
 *   bulk_follow.c a client's 'follow': fan-out to the job's nodes
 *   bulk_part.c   one of these nodes: credit, checks, retries
 *   bulk_serve.c  this node's spool for one reader (a peer, or a client here)
 *   bulk_source.c what the shim has told of its files
 *   bulk_spool.c  the files themselves
 *   bulk_stdin.c  standard input, from a client to a shim
 *   bulk_fetch.c  a specification from a node that has it
 *   bulk_pool.c   links to other agents: dialled on demand, shared, closed when idle
 *
 * Bytes only: lines and labels are the client's business. Memory is bounded by
 * credit whatever clients and peers do.
 */
#ifndef NA_IO_BULK_H
#define NA_IO_BULK_H

#include "io/agent_io.h"
#include "io/specs.h"

int bulk_create(struct agent_io *io, struct bulk **ret);

/* From links of clients, of peers that dialled us, and of shims. */
void bulk_message(struct bulk *b, struct conn *c, const struct msg *m);
void bulk_data(struct bulk *b, struct conn *c, const struct data_header *h, const char *p, size_t n);
void bulk_conn_drained(struct bulk *b, struct conn *c);
void bulk_conn_gone(struct bulk *b, struct conn *c);
void bulk_shim_up(struct bulk *b, struct conn *c);
/* Read in passing: whether a watched job is over. */
void bulk_job_update(struct bulk *b, const struct rec_job_update *u);
/* After each step of the core: links, peers, permissions may have changed. */
void bulk_kick(struct bulk *b);
void bulk_revoke(struct bulk *b, const uint8_t key[32]);
/* This peer may not read or feed this job any more. */
void bulk_peer_out(struct bulk *b, struct conn *c, uint64_t job);

/* prepare->spec_hash from here, or from prepare->source or one of its copies, within
 * 15 s. May answer from inside the call when it lies in memory. */
void bulk_fetch_spec(struct bulk *b, const struct rec_prepare *p, specs_cb cb, void *arg);

#endif
