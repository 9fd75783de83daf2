/* streams.h - the output of a job's ranks, on its way to standard output and error
 *
 * Keeps for each (rank, fd) how far it has come, so that after a lost
 * connection nothing is shown twice. Decides about labels when the first
 * bytes arrive: by then the job is known.
 */
#ifndef NA_CLIENT_STREAMS_H
#define NA_CLIENT_STREAMS_H

#include "client/opts.h"
#include "client/sink.h"
#include "common/list.h"
#include "common/mono.h"
#include "proto/frame.h"
#include "proto/message.h"

enum labels { LABELS_AUTO, LABELS_ON, LABELS_OFF };

#define STREAMS_QUIET_MS 200 /* after so long the begin of a line is shown on a terminal */
#define STREAMS_FULL (1u << 20) /* unwritten bytes from which no more are asked for */

struct stream;
struct streams {
	struct sink sinks[2]; /* standard output, standard error */
	bool same; /* both are one place: only sinks[0] is written */
	struct stream **tab; /* rank * 2 + fd - 1 */
	size_t cap;
	struct list waiting; /* streams with the begin of a line, on a terminal */
	const struct rec_job_info *job; /* borrowed */
	const struct span *ranks; /* asked for; NULL: all */
	size_t n_ranks;
	/* as asked for */
	uint64_t first_offset; /* where streams begin */
	bool any_begin; /* they begin somewhere else, which only the nodes know */
	uint32_t fds; /* 1 standard output only, 2 standard error only */
	uint64_t head; /* lines of each stream; 0: all */
	enum labels mode;
	bool json, decided, labelled, raw;
	uint64_t owed; /* bytes taken for which no credit was given back */
};

void streams_init(struct streams *st, enum labels mode, bool json);
void streams_finish(struct streams *st);
void streams_job(struct streams *st, const struct rec_job_info *job);
void streams_data(struct streams *st, const struct data_header *h, const char *p, size_t n,
		  mono_t now);
/* All that 'head' asks for has come. */
bool streams_enough(const struct streams *st);
/* 0, or -errno of standard output, once. */
int streams_flush(struct streams *st);
size_t streams_pending(const struct streams *st);
/* When a begin of a line is to be shown; MONO_NEVER. */
mono_t streams_due(const struct streams *st);
void streams_tick(struct streams *st, mono_t now);
/* Of each stream that there is the end has come. */
bool streams_all_ended(const struct streams *st);
/* No more output will come: last lines without an end are written. */
void streams_end(struct streams *st);
/* The same, and what comes then begins at offset 0: it is another attempt's. */
void streams_restart(struct streams *st);
/* Offsets to continue at, malloc'ed; *n may be 0. */
struct rec_follow_from *streams_from(const struct streams *st, size_t max, size_t *n);
/* A line of our own on standard error, kept apart from the ranks' lines. */
/* A sentence: cleaned, and wrapped on a terminal. */
void streams_tell(struct streams *st, const char *text);
void streams_say(struct streams *st, const char *text);
/* A terminal has shown "^C" at the begin of a line: take it away. */
void streams_wipe_echo(struct streams *st);
/* A JSON document (one line, with its end) on standard output. */
void streams_json(struct streams *st, const struct buf *line);
/* The node of a rank, or NULL. */
const char *streams_node(const struct rec_job_info *job, uint32_t rank);

#endif
