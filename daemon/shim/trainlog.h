/* trainlog.h - the end of a training's own log, read beside the loop
 *
 * The file may lie on a file system that hangs, so a thread of its own reads it, one
 * at a time; while it hangs nothing is known, and nobody waits. A plain file only, no
 * link, and no more than its last 8 KB. One that is there before the first look is of
 * an earlier run into the same directory, and tells nothing until it is written to.
 */
#ifndef NA_SHIM_TRAINLOG_H
#define NA_SHIM_TRAINLOG_H

#include <stdbool.h>

#include "common/progress.h"

struct trainlog;

struct trainlog *trainlog_create(const char *path); /* copied; NULL: no memory */
void trainlog_destroy(struct trainlog *t); /* does not wait for a read that hangs */
/* Begins a read, unless one is under way, and says what the last one found.
 * False: nothing yet. */
bool trainlog_look(struct trainlog *t, struct progress *ret);

#endif
