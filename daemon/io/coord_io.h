/* coord_io.h - inside of the coordinator role: coord_role.c, perform_coord.c, coord_links.c, coord_limits.c, coord_users.c */
#ifndef NA_IO_COORD_IO_H
#define NA_IO_COORD_IO_H

#include <uv.h>

#include "common/list.h"
#include "core/coord.h"
#include "io/hook.h"
#include "io/link.h"
#include "io/loop_util.h"
#include "io/notify.h"
#include "io/roles.h"
#include "io/store.h"
#include "io/tls.h"

#define LINK_BUCKETS 256
#define PENDING_MAX 256 /* connections without a finished handshake: a whole cluster comes back at once */
#define STRANGERS_MAX 64 /* connections with an unknown key, each for at most 10 s */
#define QUEUE_MAX (16u << 20) /* a link that does not take what it did not ask for is closed here */

struct coord_users;
struct local_user;

/* One admitted connection. */
struct coord_link {
	struct coord_role *role;
	struct link *l; /* NULL: down, but the answer about its uid is still to come */
	uint64_t id;
	struct list bucket;
	struct list stranger;
	struct list of_owner; /* local: user->links; else role->keys[]; oldest first */
	struct local_user *user; /* local: whose it is */
	enum coord_who who;
	uint8_t key[KEY_HASH];
	uint32_t uid;
	bool told; /* the core knows it */
	char name[65]; /* local, not told yet: behind the uid; empty: none */
	bool admin;
	bool asking; /* coord_users has it */
	bool spoke; /* something was said on it */
	mono_t heard; /* local: when, or when it came */
	bool turned_away; /* one too many: it hears so */
	bool leaving, dropped; /* turned away, or gave way to a newer one; and without time to hear it */
	bool full; /* its queue is above the limit: it is not read */
	bool held; /* not read: full, or its user's queues together are */
	bool looked; /* it was full at the last look at stalled links, and ever since */
	int64_t was_taken; /* then */
	size_t answer; /* bytes that it asked for itself and has not taken yet, about */
};

struct coord_role {
	const struct coord_opts *opts;
	uv_loop_t loop;
	struct coord *core;
	struct actions out;
	struct store *store;
	struct hook *hook; /* NULL: none is configured */
	struct tls_context *tls;
	struct link_listener *tcp, *local;
	struct coord_users *users;
	struct deadline_timer deadline;
	uv_signal_t term, intr;
	uv_poll_t parent;
	struct notify notify; /* systemd */
	struct notify_timer notify_timer;
	mono_t status_due;
	struct list links[LINK_BUCKETS];
	struct list strangers; /* oldest first */
	unsigned n_strangers;
	struct list local_users; /* coord_limits.c; those below too */
	struct list keys[LINK_BUCKETS]; /* links that are not local, by the first byte of their key */
	unsigned n_local, n_leaving; /* connections of all users but root and administrators */
	bool any_over;
	struct deadline_timer stalls;
	uint64_t asker; /* the link whose message this step is about; 0: none */
	char address[280]; /* HOST:PORT that others are told */
	bool stopping;
};

/* coord_role.c: fills in the clock and randomness, steps, performs, re-arms. */
void coord_role_step(struct coord_role *r, struct coord_event *ev);
/* Ends the process, to be started again. */
_Noreturn void coord_no_memory(void);
/* perform_coord.c: all of r->out, in order. */
void coord_perform(struct coord_role *r);

/* coord_links.c */
void coord_links_init(struct coord_role *r);
bool coord_links_admit(void *role, struct link *l, const struct link_who *who,
		       const struct link_callbacks **ret_cb, void **ret_arg);
struct coord_link *coord_link_find(struct coord_role *r, uint64_t id);
/* Closes every link of this key. */
void coord_links_drop_key(struct coord_role *r, const uint8_t key[KEY_HASH]);
void coord_link_refuse(struct coord_link *c, uint32_t rid, const char *code, const char *text);
void coord_links_close_all(struct coord_role *r, const char *why);

/* coord_limits.c: how much one user, or one node's key, may hold of us. */
void coord_limits_init(struct coord_role *r);
/* A new connection; c->who is known. It may be turned away, or take another's
 * place. False: far too many, it is to be dropped without a word. */
bool coord_limits_admit(struct coord_link *c);
/* Something was put into its queue; 'full': as link_send* said. */
void coord_limits_sent(struct coord_link *c, bool full);
/* Before that: n bytes, of an answer to what was asked here or (asked false)
 * of what comes by itself. False: it does not take what is sent to it. */
bool coord_limits_may_send(struct coord_link *c, size_t n, bool asked);
/* Its user is an administrator; also one that was to be turned away may stay. */
void coord_limits_admin(struct coord_link *c);
void coord_limits_drained(struct coord_link *c);
void coord_limits_gone(struct coord_link *c);

/* coord_users.c: a uid's name, and whether it may administer; asked on the
 * thread pool (a directory server may hang), kept for a minute. The answer
 * comes later, never from inside the call; name NULL: none known. */
struct coord_users *coord_users_create(uv_loop_t *loop);
void coord_users_destroy(struct coord_users *u); /* questions under way find nobody */
bool coord_users_admin(const struct coord_users *u, uint32_t uid); /* as far as known; at once */
int coord_users_ask(struct coord_users *u, uint32_t uid,
		    void (*answer)(void *arg, const char *name, bool admin), void *arg);

#endif
