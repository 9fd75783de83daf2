/* mounts.h - mounted file systems: how full, and whether they answer at all
 *
 * statvfs of a dead server's file system does not return, so each is asked in a
 * thread of its own, and nobody waits for it; one that has not answered for
 * MOUNT_HUNG_MS hangs. It is not asked again before it has answered.
 */
#ifndef NA_HW_MOUNTS_H
#define NA_HW_MOUNTS_H

#include <sys/statvfs.h>

#include "hw/hw.h"

#define MOUNTS_MAX 32
#define MOUNT_HUNG_MS 3000
#define MOUNT_PERIOD_MS 1500 /* with the former below 5 s: so long a fault may go unseen */

struct mount_entry {
	char path[129], type[33], device[16]; /* "98:0" */
	bool read_only;
};

struct mounts;
struct mounts *mounts_new(void); /* NULL: no memory */
void mounts_free(struct mounts *m); /* who hangs is left alone */
/* Asks those of interest in this mountinfo, and tells what they said last. */
void mounts_poll(struct mounts *m, const char *mountinfo, struct arena *a, struct hw_host *h);

/* One line of /proc/self/mountinfo. False: malformed, or its path does not fit. */
bool mountinfo_parse(const char *line, struct mount_entry *ret);
/* Disks and network file systems where people's data lie, and a /tmp in memory; no read-only images. */
bool mount_of_interest(const struct mount_entry *e);

extern int (*mounts_statvfs)(const char *path, struct statvfs *ret); /* for tests */

#endif
