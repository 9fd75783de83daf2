/* fix_sm.h - the subnet manager's unit, restarted by root for the agent where root allows it
 *
 * Off unless the file FIX_SM_FILE is there: a regular file that only root can change, in
 * directories of which the same is true. It is not read; that it is there is all. Looked
 * for at each request. The request holds numbers: which of two units, whether to enable it,
 * and the order's own; it can name nothing.
 *
 * The last order and what became of it are remembered, so that an agent that was restarted
 * meanwhile can ask; not beyond the launcher's own end. No more than FIX_SM_MOST restarts in
 * FIX_SM_SPAN_S: each disturbs the fabric, and a loop of a client must not do that.
 */
#ifndef NA_LAUNCHER_FIX_SM_H
#define NA_LAUNCHER_FIX_SM_H

#include <stddef.h>

#include "common/mono.h"
#include "common/sm_unit.h"
#include "launcher/launch.h"

#define FIX_SM_FILE "/etc/nodeagent/allow-fix-sm"
#define FIX_SM_MOST 3
#define FIX_SM_SPAN_S 600

struct fix_sm_past {
	int error; /* or 0 */
	uint32_t result;
	char text[LAUNCHER_TEXT_MAX];
};

/* 0 or -EINVAL. */
int fix_sm_formed(const struct launcher_request *q, struct err *e);
/* This host allows it: 0 or -EPERM. */
int fix_sm_allowed(const struct policy *p, struct err *e);
/* It is about to be carried out: 0, or -EBUSY when that was done too often of late. */
int fix_sm_begin(const struct launcher_request *q, mono_t now, struct err *e);
/* Its answer, if it is the one that has begun; the first one counts. */
void fix_sm_end(const struct launcher_request *q, int error, uint32_t result, const char *text);
/* What became of this order; NULL: not known, or not over yet. */
const struct fix_sm_past *fix_sm_past(uint64_t order);
/* 0: systemctl has ended, *ret_result as in launcher_reply, text empty or why it did not go well;
 * -ETIME or -errno and a sentence. Blocks for half a minute: only in a child. */
int fix_sm_run(const struct launcher_request *q, uint32_t *ret_result, char *text, size_t size);

#endif
