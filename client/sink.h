/* sink.h - a descriptor that output goes to, written without ever waiting
 *
 * O_NONBLOCK belongs to the open file, which the shell and others share, so
 * it is not set on descriptors that were given to us: pipes and terminals are
 * opened again through /proc for a description of our own. Where that is not
 * allowed, writes are small ones after poll(2) has said yes. Files never wait.
 */
#ifndef NA_CLIENT_SINK_H
#define NA_CLIENT_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/label.h"

struct sink {
	int fd; /* -1: failed, everything is dropped */
	int given; /* the descriptor we were given */
	bool own; /* fd is ours */
	bool careful; /* it may block: ask first, then small writes only */
	bool socket; /* ssh without a terminal gives one */
	bool widened;
	bool terminal;
	int error; /* -errno of the first failed write */
	struct label_out out;
	size_t written; /* of out.buf */
};

void sink_init(struct sink *s, int fd);
void sink_finish(struct sink *s);
size_t sink_pending(const struct sink *s);
/* 0 all written, 1 some left, -errno (once; afterwards output is dropped). */
int sink_flush(struct sink *s);
/* Bytes as they are, straight from 'p' when nothing is before them. */
void sink_pass(struct sink *s, const struct label_stream *from, const char *p, size_t n);
/* True when both descriptors are the same terminal, pipe or file. */
bool sink_same(int a, int b);

#endif
