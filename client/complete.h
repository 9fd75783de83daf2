/* complete.h - words for the completion of shells: nodectl --complete WHAT */
#ifndef NA_CLIENT_COMPLETE_H
#define NA_CLIENT_COMPLETE_H

#include "client/commands.h"

/* Prints nodes, jobs (that have not ended), all-jobs, checks, or launch-values
 * (the options of launch that take a value), one a line. Somebody has pressed
 * Tab: it never says why there is nothing, and is gone soon. */
int complete(struct ctl *c, const char *what);

#endif
