/* output.h - from the ranks' pipes to the spool files
 *
 * A rank never waits for a reader and never sees an error of the disk: what
 * cannot be written is counted and dropped, and the next chunk is tried again.
 * Streams are numbered 2*local + (0 stdout, 1 stderr).
 *
 * Not promised: that bytes reach the disk at once (page cache, no fsync).
 */
#ifndef NA_SHIM_OUTPUT_H
#define NA_SHIM_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/message.h"

#define OUTPUT_TAIL_MAX 4096
#define OUTPUT_TAIL_LINES 10

struct output;

/* Spool file of stream i is descriptor first_fd + i (append mode). NULL on ENOMEM. */
struct output *output_create(uint32_t nprocs, int first_fd, int stamps_fd);
/* Or: each file is made in the spool's directory when its first byte comes. */
struct output *output_create_in(uint32_t nprocs, int spool_fd);
void output_destroy(struct output *o);
/* The caller polls the read ends with this epoll set: each is taken out before it is
 * closed. (A child between fork and exec holds copies, so that closing alone leaves a
 * pipe in the set that fires without end.) */
void output_watched(struct output *o, int epoll_fd);
void output_set_rank_base(struct output *o, uint32_t rank_base);

/* Makes the stream's pipe: the read end stays here (to be polled), the write
 * end is the caller's, both close-on-exec. 0 or -errno. */
int output_open(struct output *o, uint32_t stream, int *ret_read_fd, int *ret_write_fd);

/* Moves what is in the pipe now, at most 'max' bytes (0: no limit but a
 * generous one). Returns bytes moved; *ret_closed when the end was reached, after
 * which the stream is closed. */
size_t output_read(struct output *o, uint32_t stream, int64_t wall_ms, size_t max,
		   bool *ret_closed);
bool output_is_open(const struct output *o, uint32_t stream);
/* Reads what is there and closes. One that was never open counts as ended, too. */
void output_close(struct output *o, uint32_t stream, int64_t wall_ms);
void output_flush_stamps(struct output *o);

/* Beyond so many bytes (0: no limit) the oldest output is given back to the disk,
 * where its file system can; else what comes later is dropped, and counted as lost.
 * Offsets stay the same: a file begins with a hole then. */
void output_keep(struct output *o, uint64_t bytes);
uint64_t output_given(const struct output *o); /* back, of all streams */
bool output_holeless(const struct output *o); /* something was dropped for want of holes */

/* Lines of ours, each whole, into a stream that is open: after a line of the rank's, which is
 * ended for that where it was not. They are no part of its tail. */
void output_say(struct output *o, uint32_t stream, const char *p, size_t n, int64_t wall_ms);

uint64_t output_lost(const struct output *o, uint32_t local);
/* The last lines of stderr, or of stdout when stderr is empty. Borrowed until
 * the next output_read; may be empty. */
struct bytes output_tail(const struct output *o, uint32_t local);
/* Bytes of the stream in its file so far. */
uint64_t output_size(const struct output *o, uint32_t stream);
/* The last 'max' bytes of a stream, none from before offset 'from': out of its file
 * or, where that cannot be read, what is kept of it. malloc'ed; NULL: nothing. */
char *output_window(const struct output *o, uint32_t stream, uint64_t from, size_t max, size_t *ret_n);

/* Everything counts as new: a new agent knows nothing. */
void output_forget_reports(struct output *o);
/* Fills up to max records with what changed since the last call. */
size_t output_report(struct output *o, struct rec_grown *out, size_t max);
bool output_changed(const struct output *o);

#endif
