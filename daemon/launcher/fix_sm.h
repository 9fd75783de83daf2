/* fix_sm.h - the subnet manager's unit, restarted by root for the agent where root allows it
 *
 * Off unless the file FIX_SM_FILE is there: a regular file that only root can change, in
 * directories of which the same is true. It is not read; that it is there is all. Looked
 * for at each request. The request holds two numbers: which of two units, and whether to
 * enable it; it can name nothing.
 */
#ifndef NA_LAUNCHER_FIX_SM_H
#define NA_LAUNCHER_FIX_SM_H

#include <stddef.h>

#include "common/sm_unit.h"
#include "launcher/launch.h"

#define FIX_SM_FILE "/etc/nodeagent/allow-fix-sm"

/* The request is well-formed (else -EINVAL), and this host allows it (else -EPERM). */
int fix_sm_allowed(const struct policy *p, const struct launcher_request *q, struct err *e);
/* 0: systemctl has ended, *ret_result as in launcher_reply, text empty or why it did not go well;
 * -ETIME or -errno and a sentence. Blocks for half a minute: only in a child. */
int fix_sm_run(const struct launcher_request *q, uint32_t *ret_result, char *text, size_t size);

#endif
