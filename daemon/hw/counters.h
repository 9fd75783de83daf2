/* counters.h - a port's counters: read seldom, told as what they have grown
 *
 * Lifetime values say little. Growth is kept in 5-minute buckets of the last
 * hour. Error counters are narrow and stick at their maximum (IBTA; kernel's
 * sysfs.c: 16, 8 or 4 bits), wider ones exist (mlx5); one that becomes smaller
 * was set to 0 by somebody (perfquery -R), and those of 64 bits wrap.
 *
 * On some boards (HGX B200 with restricted functions) reading makes the driver
 * complain in the kernel's log each time: then the device is asked less and
 * less, and in the end no more.
 */
#ifndef NA_HW_COUNTERS_H
#define NA_HW_COUNTERS_H

#include "hw/hw.h"
#include "hw/sysfs.h"

#define COUNTERS_MS 3500
#define COUNTER_BUCKETS 12
#define COUNTER_BUCKET_MS 300000
#define COUNTERS_LAST 6 /* complaints; then never again */

enum counter_id {
	CNT_SYMBOL_ERROR, CNT_LINK_ERROR_RECOVERY, CNT_LINK_DOWNED, CNT_RCV_ERRORS, CNT_RCV_REMOTE,
	CNT_XMIT_DISCARDS, CNT_LOCAL_INTEGRITY, CNT_BUFFER_OVERRUN, CNT_LOCAL_ACK_TIMEOUT, CNT_RNR_NAK,
	CNT_OUT_OF_SEQUENCE, CNT_RCV_DATA, CNT_XMIT_DATA, CNT_COUNT,
};

struct counter_row {
	bool known; /* last is one */
	bool stuck;
	int error; /* -errno of the last try, -ENODATA: the file says that it has none */
	uint64_t last;
	uint64_t grown[COUNTER_BUCKETS];
};

struct port_counters {
	struct counter_row c[CNT_COUNT];
	mono_t since, due; /* since: MONO_NEVER until the first try */
	int64_t bucket; /* the one under way: its number since 'since' */
	unsigned complaints, seen; /* heeded; of the log, at the last look */
	bool begun, any; /* any: some could be read at the last try */
};

/* When it is due, and the device is not to be left alone. port_fd: its directory. */
void counters_read(struct port_counters *pc, int port_fd, const char *pci, mono_t now);
/* Fills in counters, counters_s, counters_text, rx_bytes, tx_bytes. The array lives in the arena. */
void counters_publish(const struct port_counters *pc, mono_t now, struct arena *a, struct hw_port *p);
/* The kernel's log complained of this device (any thread). */
void counters_complain(const char *pci);

/* For tests and the fuzzer: one value at one time; "N/A (no PMA)" and the like are -ENODATA. */
void counter_take(struct counter_row *c, enum counter_id id, uint64_t value, int64_t buckets_passed, int64_t bucket);
int counter_text(const char *text, uint64_t *ret);

#endif
