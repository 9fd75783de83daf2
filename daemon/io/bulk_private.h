/* bulk_private.h - inside of bulk*.c */
#ifndef NA_IO_BULK_PRIVATE_H
#define NA_IO_BULK_PRIVATE_H

#include "io/bulk.h"
#include "io/bulk_spool.h"

struct pool;
struct follow;
struct part;
struct serve;

struct bulk {
	struct agent_io *io;
	struct pool *pool;
	struct list follows; /* of our clients */
	struct list serves; /* of this node's spool */
	struct list sources; /* shims' words about their files */
	struct list feeds; /* standard inputs */
	struct list fetches;
	struct list seen; /* watched jobs */
	unsigned n_seen;
	struct deadline_timer tick; /* retries and time limits; armed only while there are some */
	uv_idle_t more; /* serves that have used up their turn */
	bool used; /* big buffers were used since the last trim */
	mono_t trim_at;
};

/* Something is due at 'at'; the tick's handlers look at everything they have. */
void bulk_due(struct bulk *b, mono_t at);
bool bulk_own_key(const struct bulk *b, struct bytes key);
/* Deep copy. Ends the process without memory (a few bytes). */
void bulk_copy_peer(struct arena *ar, const struct rec_peer *p, struct rec_peer *ret);
/* 20 ms, doubled up to 10 s. */
uint32_t bulk_backoff(uint32_t *delay_ms);

/* ---- bulk_pool.c: links to other agents --------------------------------- */

struct pool_user;
struct pool_user_ops {
	void (*up)(struct pool_user *u); /* the link is there: ask */
	/* credit, follow_end, or refused with our sid as rid */
	void (*json)(struct pool_user *u, const struct msg *m);
	void (*data)(struct pool_user *u, const struct data_header *h, const char *p, size_t n);
	void (*down)(struct pool_user *u, const char *why); /* detached already */
};
struct pool_user {
	struct list at;
	struct pool_link *link; /* NULL: not attached */
	const struct pool_user_ops *ops;
	uint32_t sid;
	bool told_up;
};
struct pool *pool_create(struct bulk *b);
/* 'up' or 'down' follows, never from inside this call. */
void pool_attach(struct pool *p, const struct rec_peer *peer, struct pool_user *u);
void pool_detach(struct pool_user *u); /* harmless when not attached */
struct link *pool_link(const struct pool_user *u);
const char *pool_address(const struct pool_user *u);
void pool_revoke(struct pool *p, const uint8_t key[32]);
mono_t pool_tick(struct pool *p, mono_t now);

/* ---- bulk_source.c -------------------------------------------------------- */

/* One job's output on this node, as its shim tells of it. */
struct source {
	struct list at;
	uint64_t job;
	uint32_t attempt;
	bool armed; /* the shim will tell when files grow */
	struct source_out {
		uint64_t size, lost, given;
		bool eof;
	} *outs; /* 2*local + fd-1 */
	size_t n_outs;
	/* standard input of its first rank */
	uint64_t stdin_credit;
	bool stdin_closed;
};
struct source *source_get(struct bulk *b, uint64_t job, uint32_t attempt);
struct source *source_find(struct bulk *b, uint64_t job, uint32_t attempt);
/* Nobody writes to this attempt's spool any more, or it is not known here. */
bool source_over(struct bulk *b, uint64_t job, uint32_t attempt);
struct conn *source_shim(struct bulk *b, uint64_t job, uint32_t attempt);

bool source_known(struct bulk *b, uint64_t job, uint32_t attempt);
void source_note(struct source *o, const struct rec_grown *g);
/* Has the shim tell, once, when files have grown. */
void source_arm(struct bulk *b, struct source *o);
void source_drop_unused(struct bulk *b);

/* ---- bulk_serve.c --------------------------------------------------------- */

/* 'part' NULL: a peer's request, answered on its link. */
struct serve *serve_start(struct bulk *b, struct conn *out, uint32_t sid, struct part *part,
			  const struct rec_follow *f);
void serve_stop(struct serve *s);
void serve_credit(struct serve *s, uint64_t bytes);
struct serve *serve_find(struct bulk *b, const struct conn *out, uint32_t sid);
bool serve_reads(struct bulk *b, uint64_t job, uint32_t attempt);
void serve_kick(struct bulk *b);
void serve_grown(struct bulk *b, struct conn *shim, const struct rec_shim_grown *g);
void serve_shim_up(struct bulk *b, struct conn *shim);
void serve_drained(struct bulk *b, const struct conn *out);
void serve_conn_gone(struct bulk *b, const struct conn *out);
void serve_peer_out(struct bulk *b, const struct conn *out, uint64_t job);
mono_t serve_tick(struct bulk *b, mono_t now);
void serve_more(struct bulk *b);

/* ---- bulk_follow.c --------------------------------------------------------- */

void follow_open(struct bulk *b, struct conn *client, const struct rec_follow *f);
/* False: no follow of this sid. */
bool follow_credit(struct bulk *b, struct conn *client, const struct rec_credit *c);
void follow_close(struct bulk *b, struct conn *client, uint32_t sid);
void follow_kick(struct bulk *b);
void follow_drained(struct bulk *b, const struct conn *client);
void follow_conn_gone(struct bulk *b, const struct conn *client);
void follow_job_update(struct bulk *b, const struct rec_job_update *u);
mono_t follow_tick(struct bulk *b, mono_t now);
/* From the local serve. */
void part_sent(struct part *p, size_t n, int link_full);
void part_ended(struct part *p, const char *text);
void part_refused(struct part *p, const char *text);

/* ---- bulk_stdin.c ----------------------------------------------------------- */

void stdin_open(struct bulk *b, struct conn *c, const struct rec_stdin_open *m);
/* False: not ours. */
bool stdin_data(struct bulk *b, struct conn *c, const struct data_header *h, const char *p, size_t n);
void stdin_shim(struct bulk *b, struct conn *shim, const struct rec_shim_stdin *m);
void stdin_shim_gone(struct bulk *b, const struct conn *shim);
void stdin_conn_gone(struct bulk *b, const struct conn *c);
void stdin_peer_out(struct bulk *b, const struct conn *c, uint64_t job);
void stdin_close(struct bulk *b, const struct conn *c, uint32_t sid);

/* ---- bulk_fetch.c ------------------------------------------------------------ */

void fetch_serve(struct bulk *b, struct conn *peer, const struct rec_spec_get *m);
mono_t fetch_tick(struct bulk *b, mono_t now);

#endif
