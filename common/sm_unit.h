/* sm_unit.h - the subnet manager's unit of systemd: its two names, and systemctl run on it
 *
 * For root only: nodeagent-launcher where its policy lets it, and root's own nodectl.
 * systemctl is named by its whole path and given fixed words; no shell, no PATH, an
 * environment that is a constant.
 */
#ifndef NA_COMMON_SM_UNIT_H
#define NA_COMMON_SM_UNIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

#define SM_SYSTEMCTL "/usr/bin/systemctl"
#define SM_RESTART_MS 20000 /* systemd goes on with it afterwards */
#define SM_ENABLE_MS 10000
#define SM_LAST_MAX 200

/* Debian and upstream name it opensm, MLNX_OFED and DOCA opensmd. Numbers are on the wire. */
enum sm_unit { SM_OPENSM = 1, SM_OPENSMD = 2 };

struct sm_ran {
	uint32_t code; /* exit status, or 128 + signal */
	bool enabling; /* it is that of 'enable'; else of 'restart' */
	char last[SM_LAST_MAX + 1]; /* the last line of its output, printable ASCII; "" none */
};

const char *sm_unit_name(uint32_t unit); /* "opensm"; NULL: it is none */
uint32_t sm_unit_of(const char *name); /* 0: it is none */
/* systemctl restart, then enable where that is wished and the first went well. 0 and *ret: both ran
 * to their end, well or not; -ETIME: the deadline has passed, and it was killed; or -errno. Both
 * with a sentence. Blocks, for 31 s at most. */
int sm_unit_restart(uint32_t unit, bool enable, struct sm_ran *ret, struct err *e);

#endif
