/* nvml_read.c - the values of each GPU and the processes on it */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/xid.h"
#include "hw/nvml.h"
#include "hw/sysfs.h"

#define PID_LIMIT 4194304u /* PID_MAX_LIMIT of 64-bit Linux */
#define PROCS_ASKED 1024 /* more are a question of a mistake, not of a size */

static bool is_plain_no(nvml_ret r)
{
	return r == NVML_NOT_SUPPORTED || r == NVML_NO_PERMISSION || r == NVML_FUNCTION_NOT_FOUND;
}

/* Whether a call gave its value. What it says about the GPU is kept; a value
 * that fails for a reason of its own is missing, which the note tells: a GPU
 * whose temperature cannot be read computes as well as others. */
static bool got(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row, const char *what,
		nvml_ret r)
{
	if (r == NVML_OK)
		return true;
	if (nvml_gpu_trouble(r))
		g->trouble = nvml_gpu_trouble(r);
	else if (nvml_session_over(r))
		s->over = true;
	else if (!is_plain_no(r))
		hw_remark(row->note, sizeof row->note, "%s: error %d", what, r);
	return false;
}

/* Calls what the library has, unless the GPU is known to be in trouble by now:
 * each call to a lost one may take seconds. */
#define ASK(s, g, row, what, name, ...)                                                            \
	(!(g)->trouble && (s)->lib.name &&                                                         \
	 got(s, g, row, what, (s)->lib.name((g)->handle, __VA_ARGS__)))

static void read_memory(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row)
{
	struct nvml_memory m;

	if (!ASK(s, g, row, "memory", nvmlDeviceGetMemoryInfo, &m))
		return;
	row->mem_total = hw_u64(m.total);
	row->mem_used = hw_u64(m.used);
}

static void read_u32(bool ok, unsigned v, struct hw_u32 *ret)
{
	if (ok)
		*ret = hw_u32(v);
}

/* Together, for one is judged by the other: an idle GPU lets its link and its clocks down. */
static void read_gauges(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row)
{
	struct nvml_utilization u = { 0 };
	unsigned long long reasons = 0;
	int pstate = 32;
	unsigned v = 0;
	bool ok;

	ok = ASK(s, g, row, "temperature", nvmlDeviceGetTemperature, NVML_TEMPERATURE_GPU, &v);
	read_u32(ok, v, &row->temp_c);
	ok = ASK(s, g, row, "power", nvmlDeviceGetPowerUsage, &v);
	read_u32(ok, v, &row->power_mw);
	ok = ASK(s, g, row, "power limit", nvmlDeviceGetEnforcedPowerLimit, &v);
	read_u32(ok, v, &row->power_limit_mw);
	ok = ASK(s, g, row, "utilisation", nvmlDeviceGetUtilizationRates, &u); /* not with MIG */
	read_u32(ok && u.gpu <= 100, u.gpu, &row->util);
	if (ASK(s, g, row, "throttle reasons", nvmlDeviceGetCurrentClocksThrottleReasons, &reasons))
		row->throttle = hw_u64(reasons);
	ok = ASK(s, g, row, "power state", nvmlDeviceGetPerformanceState, &pstate);
	read_u32(ok && pstate >= 0 && pstate <= 15, (unsigned)pstate, &row->pstate); /* 32: unknown */
	ok = ASK(s, g, row, "PCIe generation", nvmlDeviceGetCurrPcieLinkGeneration, &v);
	read_u32(ok, v, &row->pcie_gen);
	ok = ASK(s, g, row, "PCIe width", nvmlDeviceGetCurrPcieLinkWidth, &v);
	read_u32(ok, v, &row->pcie_width);
}

static void read_ecc(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row)
{
	unsigned long long v;

	if (ASK(s, g, row, "corrected ECC errors", nvmlDeviceGetTotalEccErrors, NVML_ECC_CORRECTED,
		NVML_ECC_VOLATILE, &v))
		row->ecc_corrected = hw_u64(v);
	if (ASK(s, g, row, "uncorrectable ECC errors", nvmlDeviceGetTotalEccErrors,
		NVML_ECC_UNCORRECTED, NVML_ECC_VOLATILE, &v))
		row->ecc_uncorrected = hw_u64(v);
}

/* ---- links, clocks, rows ---------------------------------------------------- */

/* The probe is to take less than 0.2 % of a core with 8 GPUs, and a question that the library must pass on to the GPU
 * costs 0.2 ms of CPU, all links of a GPU 2 ms (tests/bench/nvml_cost.c; docs/measurements.md). So what changes by a
 * reset or an administrator's wish only is asked for seldom; so are links and rows, for the driver tells of what happens to
 * them by an Xid (74, 149 and others; 63, 64), and after one all is asked at once. Where no Xids are listened to, or a GPU
 * has not joined its fabric, all is asked for soon. */
#define SLOW_MS 30000
#define SOON_MS 3500 /* where a fault shows: within 5 s */
#define FABRIC_COMPLETE 3

static void read_links(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row)
{
	uint32_t active = 0, all = 0;

	/* a link that there is not is an invalid argument or not supported: no remark */
	for (unsigned i = 0; i < NVML_LINKS_MAX && s->lib.nvmlDeviceGetNvLinkState && !g->trouble; i++) {
		int on = 0;
		nvml_ret r = s->lib.nvmlDeviceGetNvLinkState(g->handle, i, &on);

		if (nvml_gpu_trouble(r) || nvml_session_over(r)) {
			got(s, g, row, "NVLink", r);
			return;
		}
		if (r != NVML_OK)
			break;
		all++;
		active += on == 1;
	}
	if (s->lib.nvmlDeviceGetNvLinkState && !g->trouble) {
		row->nvlinks = hw_u32(active);
		row->nvlinks_all = hw_u32(all);
	}
}

static void read_rows(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row)
{
	unsigned corrected = 0, uncorrected = 0, pending = 0, failed = 0;

	if (!ASK(s, g, row, "remapped rows", nvmlDeviceGetRemappedRows, &corrected, &uncorrected, &pending, &failed))
		return;
	row->remap_corrected = hw_u32(corrected);
	row->remap_uncorrected = hw_u32(uncorrected);
	row->remap_pending = pending != 0;
	row->remap_failed = failed != 0;
}

static void read_fabric(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row)
{
	struct nvml_fabric f = { .state = 0 };
	bool ok = ASK(s, g, row, "NVLink fabric", nvmlDeviceGetGpuFabricInfo, &f) && f.state != 0;

	read_u32(ok, f.state, &row->fabric);
	read_u32(ok, (unsigned)f.status, &row->fabric_status);
}

static bool is_joining(const struct hw_gpu *row)
{
	return row->fabric.known && (row->fabric.v != FABRIC_COMPLETE || row->fabric_status.v != 0);
}

static void read_soon(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row)
{
	int mode = 0;
	bool ok;

	read_gauges(s, g, row);
	ok = ASK(s, g, row, "persistence", nvmlDeviceGetPersistenceMode, &mode);
	read_u32(ok, mode != 0, &row->persistence);
	ok = ASK(s, g, row, "compute mode", nvmlDeviceGetComputeMode, &mode);
	read_u32(ok && mode >= 0, (unsigned)mode, &row->compute_mode);
}

static void read_slow(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row)
{
	unsigned v = 0, then = 0;
	int mode = 0, pending = 0;
	bool ok;

	ok = ASK(s, g, row, "MIG", nvmlDeviceGetMigMode, &v, &then); /* by which use and processes may not be told */
	read_u32(ok, v != 0, &row->mig);
	ok = ASK(s, g, row, "ECC", nvmlDeviceGetEccMode, &mode, &pending);
	read_u32(ok, mode != 0, &row->ecc_on);
	read_fabric(s, g, row);
	read_links(s, g, row);
	read_rows(s, g, row);
	ok = ASK(s, g, row, "PCIe maximum generation", nvmlDeviceGetMaxPcieLinkGeneration, &v);
	read_u32(ok, v, &row->pcie_gen_max);
	ok = ASK(s, g, row, "PCIe maximum width", nvmlDeviceGetMaxPcieLinkWidth, &v);
	read_u32(ok, v, &row->pcie_width_max);
	ok = ASK(s, g, row, "slowdown temperature", nvmlDeviceGetTemperatureThreshold, NVML_THRESHOLD_SLOWDOWN, &v);
	read_u32(ok, v, &row->slow_c);
}

static void take_seldom(const struct nvml_gpu *g, struct hw_gpu *row)
{
	row->temp_c = g->soon.temp_c;
	row->power_mw = g->soon.power_mw;
	row->power_limit_mw = g->soon.power_limit_mw;
	row->util = g->soon.util;
	row->throttle = g->soon.throttle;
	row->pstate = g->soon.pstate;
	row->pcie_gen = g->soon.pcie_gen;
	row->nvlinks = g->slow.nvlinks;
	row->nvlinks_all = g->slow.nvlinks_all;
	row->remap_corrected = g->slow.remap_corrected;
	row->remap_uncorrected = g->slow.remap_uncorrected;
	row->remap_pending = g->slow.remap_pending;
	row->remap_failed = g->slow.remap_failed;
	row->persistence = g->soon.persistence;
	row->compute_mode = g->soon.compute_mode;
	row->pcie_width = g->soon.pcie_width;
	row->mig = g->slow.mig;
	row->ecc_on = g->slow.ecc_on;
	row->fabric = g->slow.fabric;
	row->fabric_status = g->slow.fabric_status;
	row->pcie_gen_max = g->slow.pcie_gen_max;
	row->pcie_width_max = g->slow.pcie_width_max;
	row->slow_c = g->slow.slow_c;
	if (g->soon.note[0])
		hw_remark(row->note, sizeof row->note, "%s", g->soon.note);
	if (g->slow.note[0])
		hw_remark(row->note, sizeof row->note, "%s", g->slow.note);
}

static void read_seldom(struct nvml_source *s, struct nvml_gpu *g, mono_t now)
{
	bool soon = mono_due(g->soon_due, now);
	bool heard = g->listened && !s->deaf;

	if (mono_due(g->slow_due, now) || (soon && (!heard || is_joining(&g->slow)))) {
		g->slow = (struct hw_gpu){ .uuid = "" };
		read_slow(s, g, &g->slow);
		g->slow_due = mono_add_ms(now, mono_before(now, g->watch_until) ? SOON_MS : SLOW_MS);
	}
	if (soon) {
		g->soon = (struct hw_gpu){ .uuid = "" };
		read_soon(s, g, &g->soon);
		g->soon_due = mono_add_ms(now, SOON_MS);
	}
}

/* ---- processes ------------------------------------------------------------ */

/* The fourth field of /proc/PID/stat, behind a name that may hold anything. 0: not to be had. */
static uint32_t parent_of(int proc, uint32_t pid)
{
	char path[32], text[SYSFS_TEXT];
	const char *end;
	unsigned ppid;
	char state;

	snprintf(path, sizeof path, "%u/stat", pid);
	if (sysfs_read(proc, path, text, sizeof text) <= 0)
		return 0;
	end = strrchr(text, ')');
	return end && sscanf(end + 1, " %c %u", &state, &ppid) == 2 && ppid <= PID_LIMIT ? ppid : 0;
}

/* By these its job is known: a job's shim is the parent of whatever lost its own. */
static void find_ancestors(int proc, struct hw_gpu_proc *p)
{
	uint32_t pid = parent_of(proc, p->pid);

	for (; pid > 1 && p->n_ancestors < HW_ANCESTORS_MAX; pid = parent_of(proc, pid))
		p->ancestors[p->n_ancestors++] = pid;
}

/* Who it is: the owner of /proc/PID and its comm. Of another pid namespace, or
 * with hidepid, or gone by now: only the pid stays. */
static void name_process(struct nvml_source *s, int proc, struct hw_gpu_proc *p)
{
	char path[32], text[SYSFS_TEXT];
	struct stat st;

	snprintf(path, sizeof path, "%u", p->pid);
	if (fstatat(proc, path, &st, 0) < 0)
		return;
	p->uid = hw_u32(st.st_uid);
	usernames_get(s->users, st.st_uid, p->user, sizeof p->user);
	snprintf(path, sizeof path, "%u/comm", p->pid);
	if (sysfs_read(proc, path, text, sizeof text) > 0)
		hw_copy(p->name, sizeof p->name, text);
	find_ancestors(proc, p);
}

static void add_memory(struct hw_u64 *sum, unsigned long long used)
{
	if (used != NVML_VALUE_NOT_AVAILABLE)
		*sum = hw_u64(sum->v + used);
}

/* One entry for each pid: a process may have several contexts. */
static size_t gather(const struct nvml_process *list, unsigned n, struct hw_gpu_proc *out)
{
	size_t found = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t k = 0;

		while (k < found && out[k].pid != list[i].pid)
			k++;
		if (k == HW_PROCS_MAX || list[i].pid == 0 || list[i].pid > PID_LIMIT)
			continue;
		if (k == found)
			out[found++] = (struct hw_gpu_proc){ .pid = list[i].pid };
		add_memory(&out[k].mem, list[i].used);
	}
	return found;
}

/* This one decides whether the GPU may be given out, so an error that nobody
 * knows counts as trouble of the GPU. */
static bool ask_processes(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row,
			  unsigned *n, struct nvml_process *list)
{
	nvml_ret r;

	if (g->trouble || !s->lib.nvmlDeviceGetComputeRunningProcesses)
		return false;
	r = s->lib.nvmlDeviceGetComputeRunningProcesses(g->handle, n, list);
	if (r == NVML_OK || r == NVML_INSUFFICIENT_SIZE) /* too many to tell: not known */
		return r == NVML_OK;
	if (nvml_gpu_trouble(r) || nvml_session_over(r) || is_plain_no(r))
		return got(s, g, row, "processes", r);
	hw_remark(row->text, sizeof row->text, "the driver does not tell which processes use it: error %d", r);
	return false;
}

static int read_processes(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row,
			  struct arena *a)
{
	struct nvml_process list[PROCS_ASKED];
	struct hw_gpu_proc procs[HW_PROCS_MAX];
	unsigned n = PROCS_ASKED;
	int proc;

	if (!ask_processes(s, g, row, &n, list))
		return 0;
	row->procs_known = true;
	if (n == 0)
		return 0;
	row->n_procs = gather(list, n < PROCS_ASKED ? n : PROCS_ASKED, procs);
	row->procs = arena_memdup(a, procs, row->n_procs * sizeof *procs);
	if (!row->procs)
		return -ENOMEM;
	proc = open(s->o->proc ? s->o->proc : "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return 0;
	for (size_t i = 0; i < row->n_procs; i++)
		name_process(s, proc, &row->procs[i]);
	close(proc);
	return 0;
}

/* ---- one GPU -------------------------------------------------------------- */

/* What could not be had may be there now: then all are listed anew. */
static void look_again(struct nvml_source *s, struct nvml_gpu *g)
{
	nvml_device d;
	nvml_ret r = s->lib.nvmlDeviceGetHandleByIndex_v2(g->number, &d);
	char pci[HW_PCI_SIZE];

	if (r == NVML_OK)
		r = nvml_address(&s->lib, d, pci);
	g->trouble = nvml_gpu_trouble(r);
	s->over = s->over || r == NVML_OK || nvml_session_over(r);
	g->odd = r;
}

static void say(const struct nvml_gpu *g, struct hw_gpu *row)
{
	if (g->trouble)
		hw_copy(row->text, sizeof row->text, g->trouble);
	else if (!g->handle && g->odd && !is_plain_no(g->odd))
		hw_remark(row->text, sizeof row->text, "the driver answers with error %d", g->odd);
	else if (!g->handle)
		hw_copy(row->text, sizeof row->text, "the driver does not show it");
}

/* ---- a reset ----------------------------------------------------------------- */

/* What was counted before the last poll is of the GPU as it was; what came since may be of the new one. */
static void forget_xids(struct nvml_gpu *g)
{
	struct hw_gpu *row = &g->row;

	row->xids.v -= g->before.xids < row->xids.v ? g->before.xids : row->xids.v;
	row->xid_faults.v -= g->before.faults < row->xid_faults.v ? g->before.faults : row->xid_faults.v;
	if (row->xids.v == 0)
		row->xid = (struct hw_u32){ .known = false };
	if (row->xid_faults.v == 0)
		row->xid_fault = (struct hw_u32){ .known = false };
	else
		row->xid_fault = xid_is_fault(row->xid.v) ? row->xid : row->xid_fault;
}

/* NVML does not tell of a reset, but three things come of it alone: one that was lost or asked for a reset
 * answers again, a row that waited for it is replaced, and errors that are counted since the last one begin anew
 * (or an administrator has cleared them). */
static void look_for_reset(struct nvml_gpu *g, struct hw_gpu *row)
{
	struct nvml_before *b = &g->before;
	bool ecc = row->ecc_uncorrected.known && row->ecc_corrected.known;
	uint64_t errors = row->ecc_uncorrected.v + row->ecc_corrected.v;
	bool rows = row->remap_corrected.known;

	if (g->handle && !g->trouble) {
		if (b->troubled || (b->remap_pending && rows && !row->remap_pending) || (ecc && b->ecc.known && errors < b->ecc.v)) {
			forget_xids(g);
			row->xids = g->row.xids;
			row->xid = g->row.xid;
			row->xid_faults = g->row.xid_faults;
			row->xid_fault = g->row.xid_fault;
			g->soon_due = g->slow_due = hw_now();
		}
		b->troubled = false;
		b->remap_pending = rows ? row->remap_pending : b->remap_pending;
		b->ecc = ecc ? hw_u64(errors) : b->ecc;
	} else {
		b->troubled = b->troubled || g->trouble;
	}
	b->xids = g->row.xids.v;
	b->faults = g->row.xid_faults.v;
}

static int read_gpu(struct nvml_source *s, struct nvml_gpu *g, struct hw_gpu *row, struct arena *a)
{
	int rc = 0;

	*row = g->row;
	g->trouble = NULL; /* asked anew: it may have been reset */
	if (!g->handle) {
		look_again(s, g);
	} else {
		read_seldom(s, g, s->now);
		read_memory(s, g, row);
		read_ecc(s, g, row);
		rc = read_processes(s, g, row, a);
		if (g->trouble) /* what it said before does not count, and all is asked when it answers again */
			g->soon_due = g->slow_due = s->now;
		else if (!s->over)
			take_seldom(g, row);
	}
	look_for_reset(g, row);
	say(g, row);
	return rc;
}

int nvml_read_all(struct nvml_source *s, struct hw_readings *ret)
{
	int rc = 0;

	if (s->n == 0)
		return 0;
	s->now = hw_now();
	ret->gpus = arena_alloc(&ret->arena, s->n * sizeof *ret->gpus);
	if (!ret->gpus)
		return -ENOMEM;
	for (size_t i = 0; i < s->n && rc == 0; i++)
		rc = read_gpu(s, &s->gpus[i], &ret->gpus[i], &ret->arena);
	ret->n_gpus = rc == 0 ? s->n : 0;
	return rc;
}
