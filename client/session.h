/* session.h - one job followed by one client: launch, attach and logs
 *
 *   dial -> greeting -> live --(link lost)--> dial, for up to 60 s
 *
 * Live: submit if there is something to submit, watch (whoever watches may
 * follow), follow the output, feed standard input if wanted; until the job is
 * settled and its output is written. After a lost link everything is asked for again
 * and the output goes on at the exact byte.
 *
 * Leaving never ends the job; only the second ^C, SIGTERM to launch and `kill` do.
 */
#ifndef NA_CLIENT_SESSION_H
#define NA_CLIENT_SESSION_H

#include "client/link.h"
#include "client/streams.h"

struct session_conf {
	const char *path; /* the agent's socket */
	bool json;
	enum labels labels;
	const struct msg *submit; /* NULL: 'job' exists */
	const struct buf *spec; /* with submit */
	uint64_t job;
	bool detach; /* submit, print the id, leave */
	bool feed_stdin;
	bool to_end; /* the job's end is ours to wait for and tell; else only its output */
	bool live, from_end; /* see message 'follow' */
	/* where the output begins, see message 'follow'; 0: not asked for */
	uint32_t attempt;
	uint64_t offset;
	uint32_t tail;
	int64_t since_wall_ms;
	uint32_t fds;
	uint64_t head; /* lines of each stream, then no more */
	const struct span *ranks;
	size_t n_ranks;
	const struct rec_job_info *info; /* what is known of the job already; may be NULL */
};

enum {
	EXIT_REFUSED = 1,
	EXIT_USAGE = 2,
	EXIT_UNREACHABLE = 3,
	EXIT_HUP = 129,
	EXIT_INT = 130,
	EXIT_QUIT = 131,
	EXIT_PIPE = 141,
	EXIT_TERM = 143,
};

/* Takes over an open link and closes it. The exit code of nodectl. */
int session_run(const struct session_conf *conf, struct link *link);

#endif
