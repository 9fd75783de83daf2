/* verbs_ports.h - ports by way of libibverbs, which also tells when they change
 *
 * Which devices there are is the kernel's list (sysfs); each is opened and kept
 * open for its events. One that cannot be opened has a reason in words.
 */
#ifndef NA_HW_VERBS_PORTS_H
#define NA_HW_VERBS_PORTS_H

#include "hw/ports.h"

struct verbs;

struct verbs *verbs_new(void); /* NULL: no memory */
void verbs_free(struct verbs *v);
/* Opens what is named and not open, closes what is not named any more, is
 * broken or about to be removed. What could not be opened is tried again after
 * a while. */
void verbs_sync(struct verbs *v, const struct sysfs *fs, const sysfs_name *names, size_t n,
		mono_t now);
/* Whether a device is open; if not, *ret_why says why. */
bool verbs_has(const struct verbs *v, const char *device, const char **ret_why);
/* Reads a port of an open device into its row. False: it failed, the row says how. */
bool verbs_port(struct verbs *v, const struct sysfs *fs, int device_fd, struct port_row *row,
		mono_t now);
/* As hw_ops.wait: true after an event. Rows whose GIDs have changed are due for
 * what changes seldom. */
bool verbs_wait(struct verbs *v, struct ports *ps, int wake_fd, int timeout_ms);

#endif
