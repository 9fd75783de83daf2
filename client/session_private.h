/* session_private.h - what the parts of a session share; see session.h */
#ifndef NA_CLIENT_SESSION_PRIVATE_H
#define NA_CLIENT_SESSION_PRIVATE_H

#include <signal.h>

#include "client/session.h"

#define SESSION_CREDIT (4u << 20) /* output bytes that may be on their way to us */

enum phase { PHASE_DIAL, PHASE_GREETING, PHASE_LIVE };

struct session {
	const struct session_conf *conf;
	struct link *link;
	struct streams streams;
	enum phase phase;
	mono_t retry_at, greet_until, give_up_at, live_since;
	int retry_ms;
	bool told_lost;

	uint64_t job; /* 0: not known yet */
	uint32_t rid_submit, rid_watch, rid_kill, sid;
	uint32_t attempt; /* whose output comes; 0: not known */
	bool resumed; /* asked for again after a lost connection, and not told yet of which attempt it is */
	uint32_t told_attempt; /* the user knows of this one */
	uint32_t told_end; /* ... and why this one ended */
	bool told_hang, told_tokenising;
	size_t told_notices; /* the first ones of the job's list, which only grows */
	struct msg update; /* the last job_update; type MSG_none: none yet */
	const struct rec_job_info *info;
	bool settled, output_over, refollow;
	mono_t idle_since; /* last output, or settled */

	mono_t may_tell_at; /* no word about waiting before */
	bool answered; /* the coordinator has said what becomes of the job, since the link is up */
	bool was_over; /* before we came: see session_say_end */
	bool told_slow; /* that it has not */
	char told_why[256], told_state[17];
	mono_t told_at, say_again_at; /* that it waits; when to look for other numbers in why */

	int interrupts; /* presses that count */
	mono_t interrupt_until;
	bool killing, terminated;
	mono_t number_until; /* killing without a number: how long one is waited for */

	uint32_t sid_stdin, stdin_credit;
	uint64_t stdin_sent;
	bool stdin_over;

	bool closing; /* all is said: only what is written remains */
	bool done; /* leave now */
	int code;
};

/* session.c */
void session_begin(struct session *s);
void session_watch(struct session *s);
void session_follow(struct session *s);
/* Without a number yet: said as soon as there is one; waits for that, but not for ever. */
void session_kill(struct session *s, const char *why);
void session_lost(struct session *s);
void session_leave(struct session *s, int code);

/* session_frames.c: everything that arrives */
void session_receive(struct session *s);

/* session_user.c: signals and standard input */
void session_signals_install(bool all);
/* The mask under which ppoll() waits. */
const sigset_t *session_signals_mask(void);
void session_signals_act(struct session *s);
bool session_wants_stdin(const struct session *s);
void session_read_stdin(struct session *s);
void session_open_stdin(struct session *s);

/* session_say.c: words */
void session_say(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "nodectl: ...", in JSON mode too. */
void session_complain(struct session *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void session_say_submitted(struct session *s);
void session_say_waiting(struct session *s, mono_t now);
void session_say_running(struct session *s, const char *then);
/* Why an attempt has ended when another is to follow, and that that has begun. */
void session_say_restart(struct session *s);
/* What is known of the job's life beside its states: each once, when it comes. */
void session_say_notices(struct session *s);
void session_say_progress(struct session *s); /* that it hangs, or goes on again */
/* Nobody has answered yet: what for, and until when that is waited for. */
void session_say_slow(struct session *s, mono_t now);
void session_say_end(struct session *s);
/* Of which attempts the output was not shown, or not to its end, now that 'next' is. */
void session_say_missed(struct session *s, uint32_t next);
/* To one who only reads: that a job which is over was never started. */
void session_say_never(struct session *s);
/* Exit code of a job that has ended. */
int session_job_code(const struct rec_job_info *j);

#endif
