/* sentence.h - a node's name within a sentence: taken out, and the names of several put there
 *
 * So that "nodectl resume gpu03" and "nodectl resume gpu04" are seen to be equal,
 * and become "nodectl resume gpu[03-04]". */
#ifndef NA_CLIENT_SENTENCE_H
#define NA_CLIENT_SENTENCE_H

#include <stdbool.h>

#include "common/arena.h"
#include "common/buf.h"

#define SENTENCE_NODES '\001' /* in a sentence: the names of the nodes */

/* s begins with this name, and the name ends there: "gpu01." does, "gpu01.lab" and "gpu011" do not. */
bool sentence_begins(const char *s, const char *node);
/* A copy with SENTENCE_NODES for the name. text NULL, or no memory: "". node NULL: 'text' itself. */
const char *sentence_without(struct arena *a, const char *text, const char *node);
/* The other way. */
void sentence_fill(struct buf *b, const char *text, const char *names);

#endif
