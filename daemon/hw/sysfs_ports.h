/* sysfs_ports.h - ports as /sys/class/infiniband shows them */
#ifndef NA_HW_SYSFS_PORTS_H
#define NA_HW_SYSFS_PORTS_H

#include "hw/port_text.h"
#include "hw/ports.h"

/* Names of the devices, at most 'max', in natural order. Number, or -errno:
 * -ENOENT when the class is absent, that is, no driver of RDMA is loaded. */
int sysfs_devices(const struct sysfs *fs, sysfs_name *out, size_t max);
/* The directory of a device; a descriptor, or -errno. */
int sysfs_device(const struct sysfs *fs, const char *device);
/* Numbers of its ports; how many. */
size_t sysfs_port_numbers(int device_fd, uint32_t out[HW_PORTS_MAX]);

/* Reads one port into its row; 'slow' by way of sysfs_port_slow(). */
void sysfs_port(const struct sysfs *fs, int device_fd, struct port_row *row, mono_t now);
/* What changes seldom, when due: link layer, firmware, board, PCI address,
 * NUMA node, interface, GIDs in use. */
void sysfs_port_slow(const struct sysfs *fs, int device_fd, struct port_row *row, mono_t now);
/* Its counters, when due. */
void sysfs_port_counters(const struct sysfs *fs, int device_fd, struct port_row *row, mono_t now);
/* Its state as of now; NULL: it cannot be read. */
const char *sysfs_port_state(const struct sysfs *fs, const struct hw_port *p);
/* "rate" alone, for verbs too old to tell a speed. */
bool sysfs_port_rate(const struct sysfs *fs, int device_fd, uint32_t port, struct port_rate *ret);
/* PCI address and NUMA node only: nothing of this asks the device. */
void sysfs_port_place(const struct sysfs *fs, int device_fd, struct hw_port *p);

#endif
