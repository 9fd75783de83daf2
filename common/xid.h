/* xid.h - what the NVIDIA driver's Xid numbers mean (NVIDIA's Xid catalogue, docs.nvidia.com/deploy/xid-errors) */
#ifndef NA_COMMON_XID_H
#define NA_COMMON_XID_H

#include <stdbool.h>
#include <stdint.h>

/* In the order of what is told when several came. */
enum xid_kind {
	XID_NONE,
	XID_PROGRAM, /* a program can bring it about by itself: no fault of the GPU */
	XID_UNKNOWN, /* not in our list, or of either */
	XID_WATCH, /* the GPU's own; it goes on working, and is to be reset or watched */
	XID_GPU, /* the GPU's own: it is not to be used before a reset, reboot or repair */
};

enum xid_kind xid_kind(uint32_t xid); /* 0: XID_NONE */
/* "it has fallen off the bus", "an uncorrectable memory error (double-bit ECC)"; NULL: not in our list */
const char *xid_text(uint32_t xid);
/* What to do about it, never NULL. */
const char *xid_fix(uint32_t xid);

static inline bool xid_is_fault(uint32_t xid)
{
	return xid_kind(xid) != XID_PROGRAM;
}

#endif
