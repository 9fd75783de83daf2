/* xid.c - see xid.h */
#include "common/xid.h"

#include <stddef.h>

#define RESET "end what runs on it and reset it (nvidia-smi --gpu-reset) or reboot; if it comes back, have it replaced"
#define REBOOT "reboot the node (power off and on if that does not help); if it comes back, reseat or replace the GPU"
#define LATER "when no job runs there: nvidia-smi --gpu-reset, or reboot; if it comes back, have it replaced"
#define DEBUG "look at the job that ran there (nodectl jobs): compute-sanitizer and cuda-gdb find where; if other programs " \
	      "get it, too, on this GPU alone, test the GPU (dcgmi diag -r 3)"

static const struct xid {
	uint32_t number;
	enum xid_kind kind;
	const char *text, *fix;
} list[] = {
	{ 13, XID_PROGRAM, "an exception in a kernel, as the program's bad index or illegal instruction makes it", DEBUG },
	{ 31, XID_PROGRAM, "a page fault, as the program's illegal address makes it", DEBUG },
	{ 43, XID_PROGRAM, "a channel was stopped for an error of the program", DEBUG },
	{ 45, XID_PROGRAM, "a channel was cleaned up: the program was ended, or an earlier error ended it", "look at the Xid before it, if there is one" },
	{ 48, XID_GPU, "an uncorrectable memory error (double-bit ECC)", RESET },
	{ 61, XID_GPU, "its micro-controller has stopped (breakpoint or warning)", RESET },
	{ 62, XID_GPU, "its micro-controller has halted", RESET },
	{ 63, XID_WATCH, "a row of its memory is to be replaced at the next reset (row remapping, page retirement)", LATER },
	{ 64, XID_GPU, "a bad row of its memory could not be replaced (row remapping, page retirement failed)", RESET },
	{ 68, XID_PROGRAM, "an exception of the video engine, as a program makes it", DEBUG },
	{ 69, XID_PROGRAM, "an error of the graphics engine, as a program makes it", DEBUG },
	{ 74, XID_GPU, "an NVLink error", "dmesg | grep -i nvlink; reset the GPU, restart the fabric manager, or reboot; if it comes back, have it looked at" },
	{ 79, XID_GPU, "it has fallen off the bus", REBOOT },
	{ 92, XID_WATCH, "many correctable memory errors", "watch it (nvidia-smi -q -d ECC); if the number grows, have it replaced" },
	{ 94, XID_WATCH, "a contained memory error: the program that met it has ended, others go on", LATER },
	{ 95, XID_GPU, "an uncontained memory error: any program on it may have wrong data", RESET },
	{ 109, XID_PROGRAM, "a context switch took too long, as a kernel without end makes it", DEBUG },
	{ 119, XID_GPU, "its system processor (GSP) does not answer", RESET },
	{ 120, XID_GPU, "an error of its system processor (GSP)", RESET },
	{ 121, XID_WATCH, "corrected errors of the link between CPU and GPU (C2C)", LATER },
	{ 136, XID_WATCH, "the training of an NVLink failed", LATER },
	{ 137, XID_PROGRAM, "a remote access over NVLink to what is not mapped, as a program makes it", DEBUG },
	{ 140, XID_GPU, "a memory error that was not recovered from (ECC)", RESET },
	{ 143, XID_GPU, "it could not be initialised", REBOOT },
	{ 145, XID_WATCH, "an NVLink error (RLW)", LATER },
	{ 149, XID_WATCH, "an NVLink error (NETIR)", LATER },
	{ 154, XID_WATCH, "the driver asks for a recovery (reset or reboot)", "dmesg | grep 'Xid.*154' says which; nvidia-smi -q shows \"GPU Recovery Action\"" },
};

static const struct xid *find(uint32_t xid)
{
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++)
		if (list[i].number == xid)
			return &list[i];
	return NULL;
}

enum xid_kind xid_kind(uint32_t xid)
{
	const struct xid *x = find(xid);

	if (xid == 0)
		return XID_NONE;
	return x != NULL ? x->kind : XID_UNKNOWN;
}

const char *xid_text(uint32_t xid)
{
	const struct xid *x = find(xid);

	return x != NULL ? x->text : NULL;
}

const char *xid_fix(uint32_t xid)
{
	const struct xid *x = find(xid);

	return x != NULL ? x->fix : "look the Xid up in NVIDIA's list (docs.nvidia.com/deploy/xid-errors), and at dmesg";
}
