/* net.h - connections between simulated processes
 *
 * A connection is two queues of messages, one each way, in order. A message is
 * the text that the sender's core encoded; it is decoded when it arrives. A
 * connection between hosts can be slow, cut in one or both directions (what is
 * under way waits, as TCP would retransmit it), reset, or die silently with
 * its host. Between processes of one host it can only break with a process.
 */
#ifndef SIM_NET_H
#define SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;
struct proc;
struct msg;

enum conn_kind {
	CONN_CONTROL, /* agent (or liar) -> coordinator */
	CONN_CLIENT, /* client -> agent */
	CONN_LOCAL, /* client -> coordinator */
	CONN_SHIM, /* agent -> shim */
};

enum net_what { NET_UP, NET_MSG, NET_DOWN };

struct netmsg {
	struct netmsg *next;
	int64_t at;
	enum net_what what;
	size_t len;
	const char *text; /* NET_MSG: JSON; NET_DOWN: why */
};

/* What is on its way to end i. */
struct net_dir {
	struct netmsg *head, *tail;
	int64_t last_at;
	bool pumping; /* an event for its head is queued */
	bool own; /* news from the own side: no cut holds it up */
};

struct net_end {
	struct proc *proc;
	uint32_t life;
	uint64_t link; /* its number there */
	bool up; /* was told */
	bool closing; /* its core has closed it: hears nothing more but 'down' */
	bool gone; /* was told it is down, or the process is */
};

struct conn {
	struct conn *next;
	uint32_t id;
	enum conn_kind kind;
	int host; /* whose cable it runs over; -1: stays on one host */
	uint64_t job; /* SHIM */
	uint32_t attempt;
	struct net_end end[2]; /* 0 dialled, 1 accepted */
	struct net_dir dir[2]; /* dir[i] leads to end i */
	bool orphan; /* an end died without a word: the other hears when its host is back */
};

struct conn *net_open(struct sim *s, enum conn_kind kind, struct proc *from, struct proc *to,
		      int host);
/* The connection behind a link number of this process; NULL when it is gone. */
struct conn *net_of_link(struct proc *p, uint64_t link, int *ret_side);
void net_send(struct sim *s, struct conn *c, int side, const char *text, size_t len);
void net_close(struct sim *s, struct conn *c, int side, const char *why);
void net_reset(struct sim *s, struct conn *c, const char *why);
/* Nobody listens: the dialling side is told 'up' and at once 'down'. */
void net_refuse(struct sim *s, struct conn *c);
/* The process is gone; 'silent': with its host, so nobody says goodbye. */
void net_proc_died(struct sim *s, struct proc *p, bool silent);
void net_host_back(struct sim *s, int host); /* orphans of it are reset now */
void net_coord_back(struct sim *s); /* the same for the coordinator's host */
void net_host_reset(struct sim *s, int host); /* all control connections over its cable */
void net_healed(struct sim *s, int host); /* what was held up goes on */
void net_pump(struct sim *s, struct conn *c, int d);

#endif
