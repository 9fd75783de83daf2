/* sm.h - is a subnet manager (opensm) installed on this host, running, enabled for the next boot?
 *
 * From files only: systemd's units, the links that enable them, the unit's cgroup. A
 * manager that runs otherwise (by hand, in a container, on a switch) is not seen.
 */
#ifndef NA_HW_SM_H
#define NA_HW_SM_H

#include "hw/hw.h"

/* sysfs: as in hw_options; units are then looked for in SYSFS/systemd. Fills the sm_ fields. */
void sm_read(const char *sysfs, struct hw_host *h);

#endif
