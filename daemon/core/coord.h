/* coord.h - the coordinator: registry, placement, life of jobs, what clients ask
 *
 * Pure: no clock, no system call, no randomness of its own. Everything comes
 * in an event; everything to be done goes out as actions. It keeps its whole
 * state in memory; what must survive is persisted before it is acted upon.
 *
 * Not promised: that an unreachable node's ranks are dead. Silence only makes
 * a node 'unreachable'; ranks are counted lost after node_lost_ms.
 */
#ifndef NA_CORE_COORD_H
#define NA_CORE_COORD_H

#include "common/mono.h"
#include "core/actions.h"

struct coord;

#define HEARTBEAT_MS 1000u
#define NODE_LOST_MS 120000u

/* Three and a half heartbeats, and no less than of the usual ones; but who counts as lost is silent. */
static inline uint32_t unreachable_default_ms(uint32_t heartbeat_ms, uint32_t node_lost_ms)
{
	uint32_t ms = (heartbeat_ms > HEARTBEAT_MS ? heartbeat_ms : HEARTBEAT_MS) / 2 * 7;
	uint32_t most = node_lost_ms > 6 * heartbeat_ms ? node_lost_ms - 3 * heartbeat_ms : 3 * heartbeat_ms;

	return ms < most ? ms : most;
}

struct coord_conf { /* 0: the default */
	uint32_t heartbeat_ms; /* agents ping this often: HEARTBEAT_MS */
	uint32_t unreachable_ms; /* silence until 'unreachable': unreachable_default_ms() */
	uint32_t node_lost_ms; /* silence until its ranks count as lost: NODE_LOST_MS */
	uint32_t prepare_ms; /* deadline of all of 'preparing': 30000 */
	uint32_t handshake_ms; /* link up to hello: 10000 */
	uint32_t history; /* ended jobs kept: 1000 */
	uint32_t lease_ms; /* of jobs that may restart: node_lost_ms */
	uint32_t history_days; /* ... for so long; 0: whatever their age */
	uint32_t events_keep; /* events kept, a few more at times: EVENTS_KEEP */
	uint32_t events_days; /* ... for so long; 0: whatever their age */
	bool cordon_on_bad; /* a node with a bad verdict gets no new jobs */
	uint32_t cordon_lift_ms; /* ... until that is over for so long: 300000 */
	uint32_t quarantine_after; /* so many jobs failed on a node: no new ones; 0: never; 16 at most */
	uint32_t quarantine_ms; /* ... within this time: 3600000 */
	bool no_events; /* none are kept: for tests that compare what is written */
	bool hook; /* ACT_EVENT is wanted */
	const char *address; /* HOST:PORT that joining nodes are told; copied */
	const char *boot_id; /* of this host, or NULL: which nodes share its clock; copied */
	/* SHA-256, handed in because the core links no library */
	void (*sha256)(const void *p, size_t n, uint8_t out[32]);
};

enum coord_event_type {
	CEV_LINK_UP, /* link, who */
	CEV_LINK_DOWN, /* link */
	CEV_MESSAGE, /* link, msg */
	CEV_DEADLINE, /* coord_deadline() has come */
	CEV_STORED, /* ticket, error (0 or -errno), text */
	CEV_HOOK, /* text: the hook program fails now, a sentence; NULL: it works again */
};

enum coord_who {
	WHO_NODE, /* TLS peer whose key is in the registry (coord_find_key) */
	WHO_STRANGER, /* TLS peer with an unknown key: may only join */
	WHO_LOCAL, /* the coordinator's own Unix socket; uid from SO_PEERCRED */
};

struct coord_event {
	enum coord_event_type type;
	mono_t now;
	int64_t wall_ms, wall_us; /* one clock, two units */
	uint8_t random[64]; /* fresh for every event */
	uint64_t link; /* never reused within a life of the process */
	enum coord_who who;
	uint8_t key[32];
	uint32_t uid;
	bool admin; /* WHO_LOCAL: uid 0, the coordinator's own uid, or group nodeagent-admin */
	const char *user; /* WHO_LOCAL: name of uid, or NULL */
	const char *address; /* LINK_UP, others: the peer's, numeric, for the log; or NULL */
	const struct msg *msg;
	uint64_t ticket;
	int error;
	const char *text;
};

/* NULL on ENOMEM. */
struct coord *coord_create(const struct coord_conf *conf, mono_t now);
void coord_destroy(struct coord *c);
/* Feeds the stored rows, in any order, before the first step; then coord_loaded().
 * -EINVAL names a row that makes no sense. */
int coord_load(struct coord *c, const struct msg *row, struct err *e);
void coord_loaded(struct coord *c, struct actions *out);

/* The process is about to end: what nobody has waited for goes to disk. */
void coord_stopping(struct coord *c, struct actions *out);

/* 0, or -ENOMEM (actions incomplete: stop the process, the database is right). */
int coord_step(struct coord *c, const struct coord_event *ev, struct actions *out);
mono_t coord_deadline(const struct coord *c);

/* For the TLS layer: is this the key of an enrolled node? */
bool coord_find_key(const struct coord *c, const uint8_t key[32]);

/* Does somebody wait at this link: for what happens to a job, or for an answer? */
bool coord_link_waits(const struct coord *c, uint64_t link);

struct coord_counts {
	size_t nodes, nodes_ok, jobs; /* jobs: not over yet */
};
void coord_count(const struct coord *c, struct coord_counts *ret);

/* For tests and the simulator: calls f for every job with its row and its
 * live ranks; checks the core's own consistency (asserts). */
void coord_each_job(const struct coord *c,
		    void (*f)(void *arg, const struct rec_row_job *row), void *arg);
void coord_check(const struct coord *c);
/* Something of a job is on its way to the disk, or will be tried again. */
bool coord_writes(const struct coord *c);

#endif
