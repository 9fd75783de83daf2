/* status.h - what status, nodes and node share */
#ifndef NA_CLIENT_STATUS_H
#define NA_CLIENT_STATUS_H

#include "client/gather.h"
#include "client/out.h"

/* Asks for the status over an open link; CTL_GO, or the exit code after the sentence. */
int status_ask(struct link *l, struct gathered *ret);
/* The table "nodes". */
void status_nodes(struct out *o, const struct rec_status *s);
/* ", 1 unreachable, 2 down": nodes that are not ok. */
void status_count_states(struct buf *b, const struct rec_status *s);

#endif
