/* hw.h - what is read from the hardware, and the sources it is read from
 *
 * Values only, no judgement. All zeroes means that nothing is known: a number
 * is known when it says so, a text when it is not empty. "Could not be read"
 * is thus never 0 and never well.
 *
 * Each source is a row of functions. They may block (a driver that hangs, a
 * name service that does not answer), so each source lives in a thread of its
 * own and shares nothing with the others. Texts are UTF-8, cut to their arrays.
 */
#ifndef NA_HW_HW_H
#define NA_HW_HW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/mono.h"

#define HW_GPUS_MAX 256
#define HW_PORTS_MAX 256
#define HW_PROCS_MAX 64 /* of one GPU */
#define HW_NUMA_MAX 256
#define HW_EVENTS_MAX 32
#define HW_PKEYS_SHOWN 32 /* entries of a port's table that are told */
#define HW_ANCESTORS_MAX 32
#define HW_PCI_SIZE 17 /* "0000:17:00.0" and NUL; a domain may take 8 digits */
#define HW_TEXT_SIZE 257 /* of texts for people */

struct hw_u32 {
	bool known;
	uint32_t v;
};

struct hw_u64 {
	bool known;
	uint64_t v;
};

static inline struct hw_u32 hw_u32(uint32_t v)
{
	return (struct hw_u32){ true, v };
}

static inline struct hw_u64 hw_u64(uint64_t v)
{
	return (struct hw_u64){ true, v };
}

/* Whether a source could be had. not ok: text says why; ok: what it is. */
struct hw_source {
	char name[17];
	bool ok;
	bool absent; /* not ok, for there is no such hardware: no fault */
	char text[HW_TEXT_SIZE];
	char version[33]; /* of the driver behind it */
};

struct hw_gpu_proc {
	uint32_t pid; /* as seen in this process's pid namespace */
	struct hw_u32 uid;
	char user[65];
	char name[65]; /* comm */
	struct hw_u64 mem; /* bytes */
	uint32_t ancestors[HW_ANCESTORS_MAX]; /* its parent's pid, and so on upwards */
	size_t n_ancestors;
};

struct hw_gpu {
	char uuid[65];
	char name[97];
	char pci[HW_PCI_SIZE]; /* rows are in the order of these addresses */
	struct hw_u32 numa;
	struct hw_u64 mem_total, mem_used; /* bytes */
	struct hw_u32 temp_c;
	struct hw_u32 power_mw, power_limit_mw;
	struct hw_u32 util; /* percent of the last sample (1/6 s to 1 s) in which a kernel ran */
	struct hw_u64 ecc_corrected, ecc_uncorrected; /* since the driver was loaded */
	struct hw_u64 throttle; /* why clocks are held down: NVML's bits */
	struct hw_u32 pstate;
	struct hw_u32 pcie_gen, pcie_gen_max, pcie_width, pcie_width_max;
	struct hw_u32 remap_corrected, remap_uncorrected;
	bool remap_pending, remap_failed; /* when these are known */
	struct hw_u32 nvlinks, nvlinks_all; /* active; that answer */
	struct hw_u32 persistence; /* 0 or 1 */
	struct hw_u32 fabric, fabric_status; /* NVML's: 1 not started, 2 in progress, 3 complete; known where there is one */
	struct hw_u32 mig, ecc_on; /* 0 or 1 */
	struct hw_u32 compute_mode; /* NVML's: 0 default, 2 prohibited, 3 exclusive */
	struct hw_u32 slow_c;
	struct hw_u32 xids; /* since the source began to listen; unknown: it cannot listen */
	struct hw_u32 xid; /* the last one's number */
	int64_t xid_wall_ms; /* when xid is known */
	struct hw_u32 xid_faults; /* the same of those that no program brings about by itself */
	struct hw_u32 xid_fault; /* the gravest of these (common/xid.h) */
	int64_t xid_fault_wall_ms; /* the last one's */
	char text[HW_TEXT_SIZE]; /* why it cannot be read */
	char note[HW_TEXT_SIZE]; /* which single values could not be, and why */
	bool procs_known;
	struct hw_gpu_proc *procs; /* in the arena of the readings */
	size_t n_procs;
};

struct hw_counter {
	const char *name;
	struct hw_u64 value, delta; /* delta: its growth in counters_s */
	bool stuck; /* at its maximum: it counts no more */
	char text[49]; /* why it could not be read */
};

struct hw_port {
	char device[65];
	uint32_t port;
	const char *state; /* Down Initializing Armed Active ActiveDefer; NULL: unknown */
	const char *phys_state; /* Sleep Polling Disabled Training LinkUp LinkErrorRecovery PhyTest */
	const char *speed; /* of a lane: SDR DDR QDR FDR10 FDR EDR HDR NDR XDR */
	const char *link_layer; /* InfiniBand Ethernet */
	struct hw_u32 rate_mbps; /* lanes times speed, as the port is now: meaningless when Down */
	struct hw_u32 lanes;
	struct hw_u32 lid, sm_lid;
	struct hw_u32 gids; /* entries in use */
	struct hw_u32 gid_v2; /* RoCE: the first entry that is RoCE v2 with an IPv4 address */
	struct hw_u32 mtu; /* active, bytes */
	struct hw_u32 numa;
	char gid[41]; /* index 0 */
	char fw[65], board[65], pci[HW_PCI_SIZE], netdev[33];
	int64_t since_wall_ms; /* when a change of state was seen; 0: none was */
	bool excluded; /* by configuration: its device is not asked anything */
	char text[HW_TEXT_SIZE]; /* what could not be read, and why */
	struct hw_counter *counters; /* of errors; in the arena of the readings; those that are 0 are not there */
	size_t n_counters;
	struct hw_u32 counters_s; /* so long they are watched, an hour at most; unknown: they are not */
	char counters_text[129]; /* why not */
	struct hw_u64 rx_bytes, tx_bytes;
	struct hw_u32 losses; /* times it ceased to be Active in the last hour */
	struct hw_u32 pkey, pkeys; /* index 0; in use */
	char pkey_table[HW_PKEYS_SHOWN * 5]; /* from index 0 on, in hexadecimal: "ffff,0,8001" */
};

struct hw_mount {
	char path[129], type[33];
	struct hw_u64 total, available; /* bytes */
	struct hw_u64 inodes, inodes_free;
	bool hung; /* it has not answered for wait_ms */
	uint64_t wait_ms;
	char text[65]; /* why it could not be asked */
};

struct hw_host {
	struct hw_u32 cpus; /* online */
	struct hw_u32 numa_nodes;
	struct hw_u64 mem_total, mem_available; /* bytes */
	struct hw_u64 clock_error_us; /* the kernel's estimate; unknown unless synchronised */
	bool clock_known, clock_synced;
	struct hw_mount *mounts; /* in the arena of the readings */
	size_t n_mounts;
	struct hw_u64 memlock, nofile, nproc; /* of who started us; UINT64_MAX: no limit */
	struct hw_u64 hugepages, hugepages_free, hugepage_size;
	struct hw_u32 peermem, open_modules, fabricmanager, nvswitch; /* 0 or 1 */
	const char *sm; /* subnet manager that is installed: opensm opensmd; NULL: none; see sm.h */
	bool sm_running, sm_enabled;
};

/* Something that has happened and may end a process. */
struct hw_event {
	const char *kind; /* oom oom-job xid fault port, or one of kmsg_faults.c */
	int64_t mono_us; /* when it was read; no two of one source are equal */
	char text[HW_TEXT_SIZE]; /* a clause */
	struct hw_u32 pid, xid;
	struct hw_u64 job; /* named in the log by its cgroup */
	char pci[HW_PCI_SIZE]; /* of the GPU or port */
	char device[65]; /* net device of the port */
};

/* How near two devices are; a and b are PCI addresses of GPUs or names of RDMA devices. */
struct hw_affinity {
	char a[65], b[65];
	const char *how; /* PIX PXB PHB NODE SYS */
};

struct hw_numa {
	uint32_t numa;
	char cpus[1025]; /* "0-31,64-95" */
	struct hw_u64 mem; /* bytes */
};

/* One poll of one source: each fills in its own part and leaves the rest. */
struct hw_readings {
	struct arena arena; /* holds the arrays */
	struct hw_source sources[2];
	size_t n_sources;
	struct hw_gpu *gpus;
	size_t n_gpus;
	struct hw_port *ports;
	size_t n_ports;
	struct hw_host *host;
	struct hw_event *events; /* the last ones, oldest first */
	size_t n_events;
	struct hw_affinity *affinity;
	size_t n_affinity;
	struct hw_numa *numa;
	size_t n_numa;
};

struct hw_options {
	const char *sysfs; /* in place of /sys; NULL: /sys, and verbs may be used */
	const char *proc; /* in place of /proc; NULL: /proc */
	const char *kmsg; /* in place of /dev/kmsg */
	const char *nvml; /* path of the library; NULL: libnvidia-ml.so.1 */
	bool others_start_jobs; /* our parent's limits are not those of jobs */
	const char *const *exclude; /* RDMA devices not to ask anything */
	size_t n_exclude;
};

struct hw_ops {
	const char *name; /* of the source, until its first poll says more */
	int period_ms; /* between polls; -1: only when asked */
	/* How long nothing new can be found, from now; 0: not known. NULL: never known. */
	int (*idle_ms)(void *source);
	/* NULL: no memory. That the hardware or a library is absent is no failure. */
	void *(*open)(const struct hw_options *o);
	/* Fills in *ret (zeroed). What cannot be read says so in texts. */
	void (*poll)(void *source, struct hw_readings *ret);
	/* Sleeps until wake_fd is readable, at most timeout_ms (-1: no limit), or
	 * until something has happened that poll should look at: true. NULL: only
	 * wake_fd matters. */
	bool (*wait)(void *source, int wake_fd, int timeout_ms);
	void (*close)(void *source);
};

extern const struct hw_ops hw_nvml; /* gpus */
extern const struct hw_ops hw_ports; /* ports: verbs, or sysfs where verbs cannot be had */
extern const struct hw_ops hw_host; /* host */
extern const struct hw_ops hw_kmsg; /* events */
extern const struct hw_ops hw_topology; /* affinity, numa; asked again when devices change */

/* Fills in a source's line; fmt NULL: no text. */
void hw_say(struct hw_source *s, const char *name, bool ok, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Copies text, cut to fit and made UTF-8. 'size' is the array's. */
void hw_copy(char *out, size_t size, const char *text);
/* Adds "; "-separated remarks to a text. */
void hw_remark(char *text, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* poll(2) on wake_fd alone, for sources without descriptors. */
void hw_sleep(int wake_fd, int timeout_ms);
mono_t hw_now(void);
int64_t hw_wall_ms(void);

#endif
