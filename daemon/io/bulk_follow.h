/* bulk_follow.h - inside of bulk_follow.c (the whole) and bulk_part.c (one node of it) */
#ifndef NA_IO_BULK_FOLLOW_H
#define NA_IO_BULK_FOLLOW_H

#include "io/bulk_private.h"

enum part_state { PT_WAITING, PT_LINKING, PT_STREAMING, PT_DONE };

struct progress {
	uint32_t rank;
	uint8_t fd;
	bool eof;
	uint64_t offset;
};

struct part {
	struct follow *f;
	struct rec_peer peer; /* in the follow's arena */
	enum part_state state;
	struct pool_user user;
	struct serve *serve; /* this very node */
	uint64_t outstanding; /* granted, not come yet */
	mono_t retry_at;
	mono_t heard; /* last frame, or when it was asked */
	uint32_t delay_ms;
	unsigned tries;
	char why[400];
	struct progress *seen; /* by rank, then fd */
	size_t n_seen, cap_seen;
};

struct follow {
	struct list at;
	struct bulk *b;
	struct conn *client;
	uint32_t sid;
	uint64_t job;
	uint32_t attempt; /* being followed; 0: none yet */
	bool fixed; /* the client named the attempt */
	uint32_t from_attempt; /* that 'from' is about; 0: whichever comes first */
	bool live, from_end, holes;
	uint64_t offset;
	uint32_t tail, fds;
	int64_t since_wall_ms;
	char (*ranks)[9];
	const char **rank_list;
	size_t n_ranks;
	struct rec_follow_from *from;
	size_t n_from;
	mono_t permit_until;

	bool started;
	struct arena arena; /* the parts' peers */
	struct part *parts;
	size_t n_parts, left;
	uint64_t cap, unacked, outstanding;
	size_t turn; /* who is granted next */
	bool full; /* the client's link holds enough */
	struct buf missing;
	unsigned n_missing;
};

/* bulk_follow.c */
bool follow_job_over(struct bulk *b, uint64_t job);
/* This attempt of it is: perhaps another one follows. */
bool follow_attempt_over(struct bulk *b, uint64_t job, uint32_t attempt);
/* As the coordinator says; 0: not known. */
uint32_t follow_procs_per_node(struct bulk *b, uint64_t job);

/* bulk_part.c */
void part_begin(struct part *p); /* first, or again; ends nothing from inside */
void part_stop(struct part *p); /* the follow goes: the node is told, memory is given back */
/* Due at 'now', or when next. */
mono_t part_tick(struct part *p, mono_t now);
/* The job is over: a last try, and then it must speak. */
void part_hurry(struct part *p, mono_t now);
/* Gives the nodes what they may be given now. */
void follow_grant(struct follow *f);

#endif
