/* nvml.h - what nvml.c (session, GPUs, events) and nvml_read.c (values) share */
#ifndef NA_HW_NVML_H
#define NA_HW_NVML_H

#include "common/err.h"
#include "hw/hw.h"
#include "hw/nvml_lib.h"
#include "hw/usernames.h"

struct nvml_gpu {
	nvml_device handle; /* NULL: cannot be had, see trouble or odd */
	unsigned number; /* NVML's own */
	bool listened; /* its Xids are told when they come */
	mono_t watch_until; /* one has come: all is asked for soon */
	mono_t hurry_again; /* the next one makes all be asked for at once from then on */
	const char *trouble; /* why it cannot be read */
	nvml_ret odd; /* else why its handle or address cannot be had */
	mono_t soon_due; /* when what shows a fault is asked for again */
	mono_t slow_due; /* when what stays is, or changes with an Xid */
	struct hw_gpu soon, slow; /* what they said */
	struct hw_gpu row; /* what stays, and Xid counts; the rest is filled in for each poll */
	struct nvml_before {
		bool troubled; /* it was lost, or needed a reset */
		bool remap_pending;
		struct hw_u64 ecc; /* uncorrected, corrected, added up: since its last reset */
		uint32_t xids, faults;
	} before; /* at the last poll: by these a reset is known */
};

struct nvml_source {
	const struct hw_options *o;
	struct nvml_lib lib; /* lib.handle NULL: no session */
	struct err why; /* there is no session */
	bool absent; /* ... and no NVIDIA GPU on the bus either */
	mono_t retry;
	mono_t now; /* when this poll began */
	char driver[64];
	struct nvml_gpu *gpus;
	size_t n;
	unsigned count; /* NVML's */
	unsigned refused; /* of these, not ours to use */
	unsigned listening; /* GPUs whose events are in the set */
	nvml_event_set set;
	bool listen_again;
	bool deaf; /* waiting for events failed when it was tried last */
	bool over; /* the driver said that the session is */
	struct usernames *users;
};

/* Its PCI address, as the kernel writes it. */
nvml_ret nvml_address(const struct nvml_lib *l, nvml_device d, char out[HW_PCI_SIZE]);
/* Reads all GPUs of an open session. -ENOMEM. */
int nvml_read_all(struct nvml_source *s, struct hw_readings *ret);

#endif
