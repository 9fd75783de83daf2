/* sysfs.h - small text files beneath a root that is not trusted to be sysfs
 *
 * With --sysfs-root, and in containers, anything may lie there: FIFOs, links
 * that lead away, files without end. Nothing here waits, reads more than asked
 * for, or reads what is no regular file. Real sysfs has links for directories
 * only (class/infiniband/DEV, DEV/device), so a link is followed for those, and
 * where it ends must still be beneath the root.
 */
#ifndef NA_HW_SYSFS_H
#define NA_HW_SYSFS_H

#include <limits.h>
#include <stddef.h>

#include "hw/hw.h"

#define SYSFS_TEXT 256 /* enough for what is read; longer contents are cut */

struct sysfs {
	int root; /* -1: there is none */
	char real[PATH_MAX]; /* its true name */
};

/* 0 or -errno; s is usable (and all of it absent) after a failure too. */
int sysfs_open(struct sysfs *s, const char *path);
void sysfs_close(struct sysfs *s);
/* The directory 'name' in 'at' (a descriptor of ours). A descriptor; -EXDEV
 * when it is not beneath the root, or -errno. */
int sysfs_dir(const struct sysfs *s, int at, const char *name);
/* The kernel's name of an open directory: no link is left in it. 0 or -errno. */
int sysfs_real(int fd, char out[PATH_MAX]);
/* Text of a file: up to its first newline or NUL byte, without blanks at its
 * end. Length, or -errno: -ENOTSUP for what is no regular file. 'out' is "" then. */
int sysfs_read(int at, const char *name, char *out, size_t size);
/* "no regular file", "absent" or strerror's words, for a negative errno. */
const char *sysfs_why(int error);
/* Names in a directory for which 'want' is true, in natural order, each of at
 * most 64 bytes. Number of names, or -errno; more than max are not looked at. */
typedef char sysfs_name[65];
int sysfs_list(int at, const char *name, bool (*want)(const char *), sysfs_name *out, size_t max);
/* numa_node in the directory 'at': unknown when absent or -1 */
struct hw_u32 sysfs_numa(int at);
/* numa_node of a PCI device, "0000:17:00.0" */
struct hw_u32 sysfs_pci_numa(const struct sysfs *s, const char *pci);

#endif
