/* check_gpu.c - GPUs. Bits and states are NVML's (nvml.h). */
#include "core/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/gpu_odd.h"
#include "common/xid.h"

/* ---- present, errors, strangers --------------------------------------------------------- */

/* The probe's words for NVML's codes (hw/nvml_lib.c) begin so. */
static const char *gpu_is(const char *text)
{
	if (strncmp(text, "fell off the bus", 16) == 0)
		return "lost";
	return strncmp(text, "needs a reset", 13) == 0 ? "to be reset" : "not readable";
}

void check_gpu_present(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;

	if (g->shared_out)
		is->verdict = CHECK_SKIP;
	else if (g->text != NULL)
		check_say(is, CHECK_BAD, gpu_is(g->text), arena_printf(at->a, "cannot be read: %.250s", g->text),
			  "look at the kernel log (dmesg | grep -i nvrm); a GPU off the bus needs a reboot");
	else
		check_ok(is, g->name);
}

/* What cannot be read is not judged, and another virtual node's is its own affair. */
static bool readable(const struct check_at *at, struct check_is *is, bool known)
{
	if (at->gpu->shared_out)
		is->verdict = CHECK_SKIP;
	else if (at->gpu->text != NULL)
		is->reading = "the GPU cannot be read";
	else if (!known)
		is->reading = "the driver does not tell";
	else
		return true;
	return false;
}

void check_gpu_ecc(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;

	if (!readable(at, is, MSG_HAS(g, gpu, ecc_uncorrected)))
		return;
	check_ok(is, arena_printf(at->a, "%" PRIu64, g->ecc_uncorrected));
	if (g->ecc_uncorrected > 0)
		check_say(is, CHECK_WARN, "with memory errors",
			  arena_printf(at->a, "%" PRIu64 " uncorrectable memory errors since the driver was loaded", g->ecc_uncorrected),
			  "end what runs on it and reset or reboot; if they come back, have it replaced");
}

/* An older agent tells of the last one only: what was before it is taken for no better. */
static uint32_t xid_faults(const struct rec_gpu *g, uint32_t *ret_last)
{
	*ret_last = MSG_HAS(g, gpu, xid_fault) ? g->xid_fault : g->xid;
	if (MSG_HAS(g, gpu, xid_faults))
		return g->xid_faults;
	return g->xids == 1 && !xid_is_fault(g->xid) ? 0 : g->xids;
}

void check_gpu_xid(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;
	uint32_t n, last;
	const char *text;

	if (!readable(at, is, MSG_HAS(g, gpu, xids)))
		return;
	n = xid_faults(g, &last);
	check_ok(is, g->xids > n ? arena_printf(at->a, "%u, and %u that programs bring about (the last one was %u)", n, g->xids - n, g->xid)
				 : arena_printf(at->a, "%u", n));
	if (n == 0)
		return;
	text = xid_text(last);
	is->brief = arena_printf(at->a, "GPU %u Xid %u", g->index, last);
	check_say(is, xid_kind(last) == XID_GPU ? CHECK_BAD : CHECK_WARN, "with Xid errors",
		  arena_printf(at->a, "the driver reported Xid %u%s%s (%u in all)", last, text != NULL ? ": " : "", text != NULL ? text : "", n),
		  xid_fix(last));
}

static const char *users_of(struct arena *a, const struct rec_gpu *g)
{
	char who[300] = "";
	size_t len = 0;

	for (size_t i = 0; i < g->n_procs && len < 200; i++) {
		const struct rec_gpu_proc *p = &g->procs[i];

		len += (size_t)snprintf(who + len, sizeof(who) - len, "%s%.32s (pid %u%s%.32s)",
					len ? ", " : "", p->name != NULL ? p->name : "a process",
					p->pid, p->user != NULL ? " of " : "",
					p->user != NULL ? p->user : "");
	}
	return arena_strdup(a, who);
}

void check_gpu_strangers(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;

	if (!readable(at, is, true))
		return;
	if (g->procs_unknown && g->mig)
		check_ok(is, "cut up (MIG): what uses its parts is not told, and it is not given out");
	else if (g->procs_unknown)
		check_say(is, CHECK_WARN, "of unknown use", "the driver does not tell which processes use it; it is not given out",
			  "see that nobody uses it, and launch with --busy-gpus");
	else if (g->index < 64 && at->in->strange_gpus >> g->index & 1)
		check_say(is, CHECK_WARN, "used by strangers",
			  arena_printf(at->a, "in use by %s, which no job started; it is not given out", users_of(at->a, g)),
			  "end that process, or launch with --busy-gpus");
	else
		check_ok(is, g->n_procs > 0 ? arena_printf(at->a, "%zu processes, of jobs", g->n_procs) : "no process");
}

/* A dead process's memory comes back with it; what stays belongs to nobody that can be ended. In a container NVML lists
 * no process, and the memory of a GPU that a job has is the job's. */
void check_gpu_memory(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;

	if (!readable(at, is, MSG_HAS(g, gpu, mem_used) && !g->procs_unknown))
		return;
	check_ok(is, arena_printf(at->a, "%s in use, %zu process%s", check_bytes(at->a, g->mem_used), g->n_procs, g->n_procs == 1 ? "" : "es"));
	if (g->n_procs > 0 || g->mem_used >> 30 < GPU_LEFT_GIB || (g->index < 64 && at->in->held_gpus >> g->index & 1))
		return;
	check_say(is, CHECK_WARN, "with leftover memory",
		  arena_printf(at->a, "%s of its memory are in use, and no process is there that has it: jobs do not get it",
			       check_bytes(at->a, g->mem_used)),
		  arena_printf(at->a, "fuser -v /dev/nvidia%u shows who holds it (a container's, a zombie); else nvidia-smi --gpu-reset or "
			       "reboot when no job runs there", g->index));
}

/* ---- memory, clocks, heat, power ------------------------------------------------------------ */

#define BANK_ROWS 8 /* that can be replaced in one bank, at least */

void check_gpu_remap(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;

	if (!readable(at, is, MSG_HAS(g, gpu, remap_uncorrected)))
		return;
	check_ok(is, arena_printf(at->a, "%u after uncorrectable errors, %u after correctable ones%s%s", g->remap_uncorrected,
				  g->remap_corrected, g->remap_pending ? ", one pending" : "", g->remap_failed ? ", one failed" : ""));
	if (g->remap_failed)
		check_say(is, CHECK_BAD, "with unmendable memory", "a row of its memory is bad and could not be replaced",
			  "have it replaced: NVIDIA takes this as a reason");
	else if (g->remap_pending)
		check_say(is, CHECK_WARN, "to be reset", "a row of its memory is bad and is replaced at its next reset; until then errors may come back",
			  "when no job runs there: nvidia-smi --gpu-reset, or reboot");
	else if (g->remap_uncorrected >= BANK_ROWS)
		check_say(is, CHECK_WARN, "with worn memory",
			  arena_printf(at->a, "%u rows of its memory were replaced after uncorrectable errors", g->remap_uncorrected),
			  "watch it; if the number grows, have it replaced");
}

static const struct throttle {
	uint64_t bit;
	enum check_verdict verdict;
	const char *name, *text, *fix;
} throttles[] = {
	{ 0x40, CHECK_BAD, "slowed by heat", "the hardware holds its clocks down because it is too hot", "look at fans, air flow and the room" },
	{ 0x80, CHECK_BAD, "slowed by power brake", "the board's power brake holds its clocks down: power supplies do not give enough",
	  "look at the power supplies and their cables (ipmitool sel list)" },
	{ 0x08, CHECK_BAD, "slowed by hardware", "the hardware holds its clocks down to half or less (HW slowdown)",
	  "nvidia-smi -q -d PERFORMANCE; look at heat, power supplies and cables" },
	{ 0x20, CHECK_WARN, "slowed by heat", "the driver holds its clocks down because GPU or memory is hot", "look at fans, air flow and the room" },
};

void check_gpu_throttle(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;

	if (!readable(at, is, MSG_HAS(g, gpu, throttle)))
		return;
	check_ok(is, g->throttle == 0 ? "not held down" :
		 (g->throttle & 0xec) == 0 ? "idle or by setting" :
		 g->throttle == 4 ? "at its power limit, as under full load" :
		 arena_printf(at->a, "reasons 0x%llx", (unsigned long long)g->throttle));
	for (size_t i = 0; i < sizeof(throttles) / sizeof(throttles[0]); i++)
		if (g->throttle & throttles[i].bit) {
			check_say(is, throttles[i].verdict, throttles[i].name, throttles[i].text, throttles[i].fix);
			return;
		}
}

void check_gpu_temp(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;
	uint32_t slow = MSG_HAS(g, gpu, slow_c) && g->slow_c > 0 ? g->slow_c : GPU_SLOW_C;

	if (!readable(at, is, MSG_HAS(g, gpu, temp_c)))
		return;
	check_ok(is, arena_printf(at->a, "%u C, slows down at %u C", g->temp_c, slow));
	if (g->temp_c + GPU_NEAR_C >= slow)
		check_say(is, g->temp_c >= slow ? CHECK_BAD : CHECK_WARN, "hot",
			  arena_printf(at->a, "%u C; it slows down at %u C", g->temp_c, slow),
			  "look at fans, air flow and the room; nodectl gpus shows the others'");
}

static bool same_model(const struct rec_gpu *g, const struct rec_gpu *h)
{
	return g->name != NULL && h->name != NULL && strcmp(g->name, h->name) == 0;
}

void check_gpu_power(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;
	size_t higher = 0, like = 0;
	struct tally_view v = { 0 };
	uint32_t most;

	if (!readable(at, is, MSG_HAS(g, gpu, power_limit_mw)))
		return;
	if (at->in->peers != NULL && g->name != NULL)
		tally_look(at->in->peers, TALLY_LIMIT, g->name, NULL, &v);
	most = v.most != NULL ? (uint32_t)strtoul(v.most, NULL, 10) : 0;
	check_ok(is, arena_printf(at->a, "limit %u W%s", g->power_limit_mw / 1000,
				  MSG_HAS(g, gpu, pstate) ? arena_printf(at->a, ", state P%u", g->pstate) : ""));
	for (size_t i = 0; i < at->r->n_gpus; i++) {
		const struct rec_gpu *h = &at->r->gpus[i];

		if (!same_model(g, h) || !MSG_HAS(h, gpu, power_limit_mw))
			continue;
		like++;
		higher += h->power_limit_mw / 1000 > g->power_limit_mw / 1000;
	}
	if (higher * 2 > like)
		check_say(is, CHECK_WARN, "with a lower limit",
			  arena_printf(at->a, "its power limit is %u W, lower than that of %zu of its %zu equals here", g->power_limit_mw / 1000,
				       higher, like - 1), arena_printf(at->a, "nvidia-smi -i %u -pl WATTS", g->index));
	else if (most > g->power_limit_mw / 1000)
		check_say(is, CHECK_WARN, "with a lower limit",
			  arena_printf(at->a, "its power limit is %u W, %u of %u GPUs of its model have %u W", g->power_limit_mw / 1000,
				       v.n_most, v.n_all, most), arena_printf(at->a, "nvidia-smi -i %u -pl %u", g->index, most));
	else if (MSG_HAS(g, gpu, pstate) && MSG_HAS(g, gpu, util) && g->pstate >= GPU_DEEP_PSTATE && g->util >= GPU_BUSY_UTIL)
		check_say(is, CHECK_WARN, "slow though busy",
			  arena_printf(at->a, "it is busy (%u %%) in power state P%u, which is for idle GPUs", g->util, g->pstate),
			  "nvidia-smi -q -d PERFORMANCE,CLOCK; reset it or reboot when no job runs");
}

/* ---- links ------------------------------------------------------------------------------ */

/* The maximum is of GPU and slot together, and it is trained at boot: a bad slot is seen by its like only. */
static bool less_than_its_like(const struct check_at *at, char *most, size_t size)
{
	const struct rec_gpu *g = at->gpu;
	struct tally_view v = { 0 };
	unsigned gen, width;

	if (at->in->peers == NULL || g->name == NULL || !MSG_HAS(g, gpu, pcie_gen_max))
		return false;
	tally_look(at->in->peers, TALLY_PCIE, g->name, NULL, &v);
	if (v.most == NULL || sscanf(v.most, "%u x%u", &gen, &width) != 2) // NOLINT(cert-err34-c): ours, see tally.c
		return false;
	snprintf(most, size, "generation %u with %u", gen, width);
	return g->pcie_gen_max < gen || g->pcie_width_max < width;
}

void check_gpu_pcie(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;
	bool busy = MSG_HAS(g, gpu, util) && g->util >= GPU_BUSY_UTIL;
	bool gens = MSG_HAS(g, gpu, pcie_gen) && MSG_HAS(g, gpu, pcie_gen_max);
	char most[48];

	if (!readable(at, is, MSG_HAS(g, gpu, pcie_width) && MSG_HAS(g, gpu, pcie_width_max)))
		return;
	check_ok(is, gens ? arena_printf(at->a, "generation %u of %u, x%u of x%u", g->pcie_gen, g->pcie_gen_max, g->pcie_width,
					 g->pcie_width_max)
			  : arena_printf(at->a, "x%u of x%u", g->pcie_width, g->pcie_width_max));
	if (g->pcie_width < g->pcie_width_max)
		check_say(is, CHECK_WARN, "on a narrow link",
			  arena_printf(at->a, "its PCIe link has %u lanes of %u", g->pcie_width, g->pcie_width_max),
			  "reseat the GPU or its riser; look for AER in dmesg");
	else if (less_than_its_like(at, most, sizeof(most)))
		check_say(is, CHECK_WARN, "in a lesser slot",
			  arena_printf(at->a, "its PCIe link can have generation %u with %u lanes here, that of most GPUs of its model %s", g->pcie_gen_max,
				       g->pcie_width_max, most), "reseat the GPU or its riser; compare the BIOS's setting of the slot; look for AER in dmesg");
	else if (gens && busy && g->pcie_gen < g->pcie_gen_max)
		check_say(is, CHECK_WARN, "on a slow link",
			  arena_printf(at->a, "busy, and its PCIe link runs at generation %u of %u", g->pcie_gen, g->pcie_gen_max),
			  "reseat the GPU or its riser; look for AER in dmesg, and at the BIOS's setting of the slot");
}

/* Links of boards with NVSwitch or a full mesh (SXM): NVIDIA's data sheets. An
 * A800 has two thirds of an A100's. Others depend on how they are bridged. */
static const struct {
	const char *model;
	uint32_t links;
} sxm_links[] = { { "A100-SXM", 12 }, { "A800-SXM", 8 }, { "H100 80GB HBM3", 18 }, { "H800", 8 }, { "H200", 18 }, { "B200", 18 } };

static uint32_t links_of(const char *name)
{
	/* cards, with bridges or without: "H200 NVL", "H800 PCIe" */
	if (name != NULL && (strstr(name, "NVL") != NULL || strstr(name, "PCIe") != NULL))
		return 0;
	for (size_t i = 0; name != NULL && i < sizeof(sxm_links) / sizeof(sxm_links[0]); i++)
		if (strstr(name, sxm_links[i].model) != NULL)
			return sxm_links[i].links;
	return 0;
}

void check_gpu_nvlink(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;
	uint32_t want = links_of(g->name), most = 0;
	struct tally_view v = { 0 };

	if (!readable(at, is, MSG_HAS(g, gpu, nvlinks)))
		return;
	if (at->in->peers != NULL && g->name != NULL)
		tally_look(at->in->peers, TALLY_NVLINKS, g->name, NULL, &v);
	most = v.most != NULL ? (uint32_t)strtoul(v.most, NULL, 10) : 0;
	if (g->nvlinks == 0 && most == 0 && (want == 0 || at->r->n_gpus < 2)) {
		is->verdict = CHECK_SKIP; /* none, as it is meant: alone (a virtual machine's), or without bridges */
		return;
	}
	check_ok(is, arena_printf(at->a, "%u active", g->nvlinks));
	if (g->nvlinks < want && g->nvlinks > 0)
		check_say(is, CHECK_BAD, "short of NVLinks",
			  arena_printf(at->a, "%u NVLinks are active, its model has %u", g->nvlinks, want),
			  "dmesg | grep -i nvlink; reset the GPU, restart the fabric manager, or reboot");
	else if (g->nvlinks == 0 && want == 0)
		check_say(is, CHECK_WARN, "without NVLinks",
			  arena_printf(at->a, "no NVLink is active, and %u of %u GPUs of its model have %u: it has no bridge, or that is down",
				       v.n_most, v.n_all, most),
			  "if it has a bridge: dmesg | grep -i nvlink; reseat the bridge, reset the GPU, or reboot");
	else if (g->nvlinks < most)
		check_say(is, CHECK_BAD, "short of NVLinks",
			  arena_printf(at->a, "%u NVLinks are active, %u of %u GPUs of its model have %u", g->nvlinks, v.n_most, v.n_all, most),
			  "dmesg | grep -i nvlink; reset the GPU, restart the fabric manager, or reboot");
	else if (g->nvlinks == 0)
		check_say(is, CHECK_WARN, "without NVLinks",
			  arena_printf(at->a, "no NVLink is active, its model has %u: NCCL goes over PCIe", want),
			  "dmesg | grep -i nvlink; restart the fabric manager, or reboot; right in a virtual machine that is given none");
}

void check_gpu_persistence(const struct check_at *at, struct check_is *is)
{
	if (!readable(at, is, MSG_HAS(at->gpu, gpu, persistence)))
		return;
	check_ok(is, at->gpu->persistence ? "on" : "off");
	if (!at->gpu->persistence)
		check_say(is, CHECK_WARN, "without persistence",
			  "persistence mode is off: the driver unloads it when nobody uses it, and each start takes seconds",
			  "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1");
	is->untold = true;
}

enum { FABRIC_COMPLETE = 3, COMPUTE_PROHIBITED = 2, COMPUTE_EXCLUSIVE = 3 }; /* NVML's */

void check_gpu_fabric(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;

	if (!readable(at, is, true))
		return;
	if (!MSG_HAS(g, gpu, fabric)) {
		is->verdict = CHECK_SKIP; /* there is none */
		return;
	}
	check_ok(is, "it has joined");
	if (g->fabric != FABRIC_COMPLETE)
		check_say(is, CHECK_BAD, "outside of the NVLink fabric",
			  arena_printf(at->a, "it has not joined the NVLink fabric (%s): CUDA does not start (error 802)",
				       g->fabric == 2 ? "in progress" : "not started"),
			  "systemctl restart nvidia-fabricmanager, of the very version of the driver, when no job runs there; see its log");
	else if (g->fabric_status != 0)
		check_say(is, CHECK_BAD, "outside of the NVLink fabric",
			  arena_printf(at->a, "its joining of the NVLink fabric failed (NVML's error %u)", g->fabric_status),
			  "see the fabric manager's log (/var/log/fabricmanager.log); dmesg | grep -i nvswitch");
	/* where that is not there it is told itself */
	is->untold = at->host != NULL && MSG_HAS(at->host, host, fabricmanager) && !at->host->fabricmanager;
}

void check_gpu_mode(const struct check_at *at, struct check_is *is)
{
	const struct rec_gpu *g = at->gpu;
	struct tally_view v = { 0 };

	if (!readable(at, is, MSG_HAS(g, gpu, compute_mode) || MSG_HAS(g, gpu, ecc_on) || MSG_HAS(g, gpu, mig)))
		return;
	if (at->in->peers != NULL && g->name != NULL)
		tally_look(at->in->peers, TALLY_ECC, g->name, "0", &v);
	check_ok(is, arena_printf(at->a, "compute mode %s, ECC %s%s", !MSG_HAS(g, gpu, compute_mode) ? "unknown" : g->compute_mode == 0 ? "default" :
				  g->compute_mode == COMPUTE_EXCLUSIVE ? "exclusive" : "other", !MSG_HAS(g, gpu, ecc_on) ? "unknown" : g->ecc_on ? "on" : "off",
				  g->mig ? ", MIG" : ""));
	if (g->compute_mode == COMPUTE_PROHIBITED)
		check_say(is, CHECK_BAD, "closed to programs", "its compute mode is Prohibited: no CUDA program can use it",
			  arena_printf(at->a, "nvidia-smi -i %u -c DEFAULT", g->index));
	else if (MSG_HAS(g, gpu, ecc_on) && !g->ecc_on && v.most != NULL && strcmp(v.most, "1") == 0)
		check_say(is, CHECK_WARN, "without ECC",
			  arena_printf(at->a, "ECC is off, and on at %u of %u GPUs of its model: memory errors go unnoticed there", v.n_most, v.n_all),
			  arena_printf(at->a, "nvidia-smi -i %u -e 1, and reset it or reboot when no job runs there", g->index));
}

/* ---- of a node ------------------------------------------------------------------------------ */

/* No GPU and no driver: nothing to check. */
static bool has_gpus(const struct check_at *at, struct check_is *is)
{
	const struct rec_readings *r = at->r;

	if (r == NULL || verdict_is_out(r, "nvml", "nvml")) {
		for (size_t i = 0; r != NULL && i < r->n_sources; i++)
			if (strcmp(r->sources[i].name, "nvml") == 0 && r->sources[i].absent)
				is->verdict = CHECK_SKIP;
		is->reading = "the driver does not answer";
		return false;
	}
	if (r->n_gpus == 0)
		is->verdict = CHECK_SKIP;
	return r->n_gpus > 0;
}

void check_gpu_driver(const struct check_at *at, struct check_is *is)
{
	const char *version = NULL;
	struct tally_view v = { 0 };

	if (!has_gpus(at, is))
		return;
	for (size_t i = 0; i < at->r->n_sources; i++)
		if (strcmp(at->r->sources[i].name, "nvml") == 0 && at->r->sources[i].version != NULL)
			version = at->r->sources[i].version;
	if (version == NULL) {
		is->reading = "its version is not known";
		return;
	}
	check_ok(is, version);
	if (at->in->peers != NULL)
		tally_look(at->in->peers, TALLY_DRIVER, "", version, &v);
	is->brief = arena_printf(at->a, "driver %.32s", version);
	if (v.most != NULL && v.n_same < v.n_most)
		check_say(is, CHECK_WARN, "driver", arena_printf(at->a, "its NVIDIA driver is %.32s, that of %u of %u nodes %.32s", version,
			  v.n_most, v.n_all, v.most), "install the same driver on all nodes, and reboot");
	else if (v.most == NULL && v.n_all > v.n_same)
		check_say(is, CHECK_WARN, "driver", arena_printf(at->a, "its NVIDIA driver is %.32s, and %u other nodes have others", version,
			  v.n_all - v.n_same), "install the same driver on all nodes, and reboot");
}

void check_gpu_count(const struct check_at *at, struct check_is *is)
{
	struct tally_view v = { 0 };
	const char *model;
	char text[16];
	unsigned most;

	if (!has_gpus(at, is))
		return;
	model = tally_gpu_model(at->r);
	check_ok(is, arena_printf(at->a, "%zu", at->r->n_gpus));
	snprintf(text, sizeof(text), "%u", (unsigned)at->r->n_gpus);
	if (at->in->peers != NULL)
		tally_look(at->in->peers, TALLY_GPUS, model, text, &v);
	most = v.most != NULL ? (unsigned)strtoul(v.most, NULL, 10) : 0;
	if (most > at->r->n_gpus) {
		is->brief = arena_printf(at->a, "%zu GPUs of %u", at->r->n_gpus, most);
		check_say(is, CHECK_WARN, "GPU count",
			  arena_printf(at->a, "it has %zu GPUs, %u of %u nodes have %u (%.60s)", at->r->n_gpus, v.n_most, v.n_all, most,
				       *model != '\0' ? model : "of unknown model"),
			  "lspci | grep -i nvidia, dmesg | grep -i nvrm; a GPU that is missing needs a reboot, or to be reseated");
	}
}

void check_gpu_fabricmanager(const struct check_at *at, struct check_is *is)
{
	if (!has_gpus(at, is))
		return;
	if (at->host == NULL || !MSG_HAS(at->host, host, nvswitch)) {
		is->reading = "not read";
		return;
	}
	if (!at->host->nvswitch) {
		is->verdict = CHECK_SKIP;
		return;
	}
	if (!MSG_HAS(at->host, host, fabricmanager)) {
		is->reading = "processes cannot be seen";
		return;
	}
	check_ok(is, "it runs");
	if (!at->host->fabricmanager) {
		is->brief = "no fabric manager";
		check_say(is, CHECK_BAD, "fabric manager", "there are NVSwitches, and the fabric manager does not run: CUDA does not start (error 802)",
			  "systemctl enable --now nvidia-fabricmanager, of the very version of the driver");
	}
}

void check_gpu_peermem(const struct check_at *at, struct check_is *is)
{
	bool ib = false;

	if (!has_gpus(at, is))
		return;
	for (size_t i = 0; i < at->r->n_ports; i++)
		ib = ib || (!at->r->ports[i].excluded && check_is_active(&at->r->ports[i]));
	if (!ib) {
		is->verdict = CHECK_SKIP;
		return;
	}
	if (at->host == NULL || !MSG_HAS(at->host, host, peermem)) {
		is->reading = "not read";
		return;
	}
	check_ok(is, at->host->peermem ? "loaded" : "not loaded; with the open kernel modules NCCL uses dma-buf");
	if (at->host->peermem)
		return;
	if (!MSG_HAS(at->host, host, open_modules)) {
		is->verdict = CHECK_UNKNOWN;
		is->reading = "not loaded; whether dma-buf serves in its place is not known";
	} else if (!at->host->open_modules) {
		check_say(is, CHECK_WARN, "peermem", "nvidia_peermem is not loaded: NCCL copies through host memory, at half the speed or less",
			  "modprobe nvidia_peermem, and a line in /etc/modules-load.d; look for GDRDMA in NCCL's log");
		is->brief = "no nvidia_peermem";
	}
	is->untold = true;
}
