/* xid.c - see xid.h */
#include "common/xid.h"

#include <stddef.h>

#define RESET "end what runs on it and reset it (nvidia-smi --gpu-reset) or reboot; if it comes back, have it replaced"
#define REBOOT "reboot the node (power off and on if that does not help); if it comes back, reseat or replace the GPU"
#define LATER "when no job runs there: nvidia-smi --gpu-reset, or reboot; if it comes back, have it replaced"
#define NVLINK5 "dmesg | grep 'Xid.*NVLINK' says whether it was fatal; a fatal one, or Xid 154 beside it: reset the GPU; if it comes back, have it looked at"
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
	{ 46, XID_GPU, "it has stopped processing", RESET },
	{ 48, XID_GPU, "an uncorrectable memory error (double-bit ECC)", RESET },
	{ 54, XID_GPU, "its auxiliary power is not connected", "look at its power cables and at the power supplies (ipmitool sel list), then reboot" },
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
	{ 144, XID_WATCH, "an NVLink error (SAW)", NVLINK5 },
	{ 145, XID_WATCH, "an NVLink error (RLW)", NVLINK5 },
	{ 146, XID_WATCH, "an NVLink error (TLW)", NVLINK5 },
	{ 147, XID_WATCH, "an NVLink error (TREX)", NVLINK5 },
	{ 148, XID_WATCH, "an NVLink error (NVLPW_CTRL)", NVLINK5 },
	{ 149, XID_WATCH, "an NVLink error (NETIR)", NVLINK5 },
	{ 150, XID_WATCH, "an NVLink error (MSE)", NVLINK5 },
	{ 154, XID_WATCH, "the driver asks for a recovery (reset or reboot)", "dmesg | grep 'Xid.*154' says which; nvidia-smi -q shows \"GPU Recovery Action\"" },
	{ 155, XID_WATCH, "an NVLink was taken down by software", LATER },
	{ 156, XID_WATCH, "a part of it is retired for its errors: the next reset takes it out of use", LATER },
	{ 157, XID_WATCH, "a part of it is bad, and nothing is left to replace it", "it may go on and meet the same again; have it looked at" },
	{ 158, XID_GPU, "a fatal timeout", RESET },
	{ 160, XID_WATCH, "a channel of its memory was retired", "watch it; if more follow, have it looked at" },
	{ 161, XID_WATCH, "a channel of its memory is bad and could not be retired", "watch it; if it comes again, have it looked at" },
	{ 167, XID_GPU, "a fatal timeout of PCIe", REBOOT },
	{ 169, XID_GPU, "an internal micro-controller (SEC2) has halted", RESET },
	{ 171, XID_GPU, "an uncorrectable error of its DRAM, as told with Xid 48", RESET },
	{ 172, XID_GPU, "an uncorrectable error of its SRAM, as told with Xid 48", RESET },
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
