/* label.h - puts the output of many ranks into one stream without cutting lines
 *
 * Pure: bytes in, bytes appended to a buffer; no descriptors, no clock.
 * One label_out is one place that people read: a descriptor, or standard
 * output and standard error together when both are the same terminal or file.
 * One label_stream is one (rank, fd).
 *
 * A line ends with "\n", "\r" or "\r\n"; the bytes are kept. Each line is
 * written whole, its label before it, so taking the labels away gives back
 * the exact bytes of each stream, with these exceptions:
 *   - a last line without an end gets a newline if the stream is labelled;
 *   - a line that is open (longer than LABEL_HELD_MAX, or shown early on a
 *     terminal by label_show) while another stream has something to say is
 *     closed by a newline; what follows of it gets a label again. Without
 *     labels this newline is added on terminals only: elsewhere every byte
 *     that is written came from a rank.
 * On a terminal the cursor's line is cleared before something is written over
 * a line that ended with "\r".
 */
#ifndef NA_CLIENT_LABEL_H
#define NA_CLIENT_LABEL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"

#define LABEL_MAX 96 /* "[" node ":" rank "] " */
#define LABEL_HELD_MAX (1u << 20)

struct label_stream {
	char label[LABEL_MAX];
	unsigned label_len; /* 0: unlabelled */
	struct buf held; /* begin of a line whose end has not come */
};

struct label_out {
	struct buf buf; /* to be written; the caller takes bytes from the front */
	const struct label_stream *open; /* whose unfinished line the output ends with */
	bool cr; /* the last byte was '\r' */
	bool terminal;
};

void label_out_init(struct label_out *o, bool terminal);
void label_out_finish(struct label_out *o);
/* 'label' NULL or empty: none. Cut to LABEL_MAX - 1 bytes. */
void label_stream_init(struct label_stream *s, const char *label);
void label_stream_finish(struct label_stream *s);

void label_feed(struct label_out *o, struct label_stream *s, const char *p, size_t n);
/* Shows the begin of a line (a prompt, a progress bar) before its end has come. */
void label_show(struct label_out *o, struct label_stream *s);
/* Nothing follows on this stream. */
void label_eof(struct label_out *o, struct label_stream *s);
/* Bytes passed through as they are, for the only rank of a job. */
void label_raw(struct label_out *o, const struct label_stream *s, const char *p, size_t n);
/* Only keeps the books for bytes that the caller has written by itself. */
void label_passed(struct label_out *o, const struct label_stream *s, const char *p, size_t n);
/* A line of our own, without its end, which is added. */
void label_line(struct label_out *o, const char *text);

#endif
