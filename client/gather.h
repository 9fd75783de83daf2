/* gather.h - answers that come in pieces ("more"), put together again */
#ifndef NA_CLIENT_GATHER_H
#define NA_CLIENT_GATHER_H

#include "client/link.h"

/* 'all' points into the pieces and lives as long as they do. */
struct gathered {
	struct msg all; /* status or jobs */
	struct msg *pieces;
	size_t n;
};

/* link_call() for status_get and jobs_get. On failure nothing needs gather_finish. */
int gather_call(struct link *l, const struct msg *request, uint32_t rid, enum msg_type want,
		struct gathered *ret, struct err *e);
void gather_finish(struct gathered *g);

#endif
