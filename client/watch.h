/* watch.h - the status again twice a second, drawn in place */
#ifndef NA_CLIENT_WATCH_H
#define NA_CLIENT_WATCH_H

#include "client/status.h"

/* Writes the page about s. */
typedef void watch_page(const struct ctl *c, struct out *o, const struct rec_status *s);

/* Until ^C or another signal, or nobody reads. Returns the exit code; the
 * terminal is as it was before. With --json two lines a second. */
int watch_status(const struct ctl *c, const struct status_wish *wish, watch_page *page);

#endif
