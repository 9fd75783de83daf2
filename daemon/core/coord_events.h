/* coord_events.h - what happened in the cluster, kept for people
 *
 * An event is a row on disk, bounded by conf.events_keep and conf.events_days.
 * Nobody waits for it: it goes to disk with what is written anyway, or a second
 * later by itself. What a crash takes away in that second is told again where
 * the state of the cluster still shows it, and never twice.
 *
 * The same subject that changes FLAP_TIMES times within FLAP_MS is told once as
 * flapping, and again when it has been the same for FLAP_MS.
 */
#ifndef NA_CORE_COORD_EVENTS_H
#define NA_CORE_COORD_EVENTS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/mono.h"
#include "proto/message.h"

#define EVENTS_KEEP 5000u
#define FLAP_TIMES 6u
#define FLAP_MS 600000

struct coord;
struct clink;
struct node;
struct err;

struct event_in {
	const char *kind; /* "node.down" */
	const char *severity; /* info warn bad */
	const char *node; /* or NULL */
	uint64_t job; /* 0: none */
	uint32_t attempt;
	uint64_t about; /* a subject that may flap; 0: told each time */
	const char *src, *brief; /* of verdicts, see messages.def; or NULL */
	int64_t wall_ms; /* when; 0: now */
	bool has_user; /* see messages.def */
	uint32_t by_user;
};

struct event_log {
	struct kept_event **v; /* the oldest first */
	size_t n, cap, n_unsaved, n_flying; /* neither on disk nor on the way to it; on the way */
	uint64_t next_id;
	mono_t save_at; /* unsaved ones go to disk by themselves then */
	mono_t prune_at;
	struct flap *flaps;
	size_t n_flaps;
	mono_t flaps_at; /* one of them may have settled then */
	bool asked_back; /* nodes that have not come back after our start were told */
};

void events_add(struct coord *c, const struct event_in *in, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A node's state, once for each change, also over our own restart: "down". */
void events_node(struct coord *c, struct node *n, const char *state, const char *why);
/* A verdict on a node came, or is gone; 'key' names it. */
void events_verdict(struct coord *c, const struct node *n, uint64_t key, bool came, const char *src,
		    const struct rec_attention *x /* NULL: gone */, const char *brief);
/* Is there one of this kind about this attempt (0: any) of the job? */
bool events_has_job(const struct coord *c, const char *kind, uint64_t job, uint32_t attempt);
/* Jobs (distinct) that failed because of what ended on this node since then, and since the last
 * 'resume' of it; the newest first, at most n of them. Of those that failed by themselves one of each user. */
size_t events_failures(const struct coord *c, const char *node, int64_t since_wall_ms, uint64_t *ret, size_t n);

int events_load(struct coord *c, const struct rec_row_event *r, struct err *e);
void events_loaded(struct coord *c);
void events_flush(struct coord *c); /* at the end of each step */
void events_stop(struct coord *c); /* all that is left goes to disk now */
void events_stored(struct coord *c, uint64_t ticket, int error);
void events_free(struct coord *c);
void events_answer(struct coord *c, struct clink *l, const struct rec_events_get *g);

#endif
