/* verdict.h - what readings mean, in words, and what to do about it
 *
 * Pure judgement of one node's readings. What is not known is not judged as
 * well: it is said to be unknown where that matters.
 */
#ifndef NA_CORE_VERDICT_H
#define NA_CORE_VERDICT_H

#include <stdbool.h>

#include "common/arena.h"
#include "proto/message.h"

#define VERDICTS_MAX 64 /* of one node */

/* A clock this far off is told: 500 ms, more than measuring it can be wrong.
 * torchrun's c10d heartbeats (3 x 5 s, compared between hosts:
 * torch/distributed/elastic/rendezvous/dynamic_rendezvous.py) evict live nodes
 * at about 15 s; lines of two nodes' logs cannot be put in order long before. */
#define SKEW_BAD_US 500000
/* ... and this far while the kernel says that nobody steers it: it goes on drifting. */
#define SKEW_UNSTEERED_US 100000

struct tally;
struct checks;

/* The best that a port was seen at since it was first seen Active. */
struct port_base {
	char device[65];
	uint32_t port, rate_mbps, lanes;
	uint32_t sm_lid; /* the last one; 0: not known */
	char pci[17]; /* "": not known */
};

/* What the kernel's log told in the last hour, of one kind. */
struct kmsg_seen {
	const char *kind; /* as in messages.def; NULL: not in use */
	uint32_t n;
	const char *last; /* the newest one's words */
};
#define KMSG_KINDS_MAX 24

struct verdict_in {
	const char *node;
	const struct rec_readings *readings; /* NULL: none yet */
	bool has_skew, is_ref;
	int64_t skew_us;
	uint64_t skew_error_us;
	uint64_t strange_gpus; /* bit i: a process of no job of ours uses GPU i */
	uint64_t held_gpus; /* ... a job of ours has it */
	bool has_happened; /* its agent tells what happens; if so, in the last hour: */
	struct kmsg_seen kmsg[KMSG_KINDS_MAX];
	const struct tally *peers; /* what nodes are like, this one too; NULL: not known */
	bool sm_moves; /* ports have got another SM LID a moment ago: others may yet */
	const struct port_base *bases;
	size_t n_bases;
	struct checks *rows; /* what each check has found is added; NULL: nobody asks */
};

/* What is the same in verdicts that speak of the same trouble. */
struct verdict_kind {
	const char *noun; /* what it befalls: "port", "GPU"; NULL: the node */
	const char *is; /* "Initializing": without numbers that change */
	const char *id; /* of the check; NULL: the coordinator's own */
};

/* v[i].since_wall_ms is set where the readings tell, else it is the caller's to know. */
struct verdicts {
	struct rec_attention v[VERDICTS_MAX];
	struct verdict_kind kind[VERDICTS_MAX];
	size_t n;
};

/* Is its clock surely off by more than people stand? What the verdict and the mark come from. */
bool verdict_clock_off(const struct verdict_in *in);
/* Texts live in the arena, or for ever. */
void verdict_node(struct arena *a, const struct verdict_in *in, struct verdicts *out);
/* The worst in a few words, those of its kind counted: "2 GPUs lost"; NULL:
 * there are none. The time: since when the oldest of these is so, or 0. */
const char *verdict_brief(struct arena *a, const struct verdicts *v, int64_t *ret_since_wall_ms);
/* Is there one of severity "bad"? */
bool verdict_bad(const struct verdicts *v);
/* Ports that are judged, and those of them that carry traffic. */
void verdict_count_ports(const struct rec_readings *r, uint32_t *ret_all, uint32_t *ret_active);
/* There are lines of these sources, and none is ok. */
bool verdict_is_out(const struct rec_readings *r, const char *name, const char *or_name);
/* So it is, and not because the host has no such hardware. */
bool verdict_is_unread(const struct rec_readings *r, const char *name, const char *or_name);
bool verdict_ports_known(const struct rec_readings *r);
/* Is it known that there are none, for no driver of them is loaded? */
bool verdict_is_absent(const struct rec_readings *r);

#endif
