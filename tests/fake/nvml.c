/* nvml.c - a library like libnvidia-ml.so.1 without a GPU behind it
 *
 * What it shows comes from the file that the environment's FAKE_NVML names, else
 * from that beside the library with ".conf" behind its name; read again whenever
 * it has changed:
 *
 *   init CODE          what nvmlInit_v2 answers
 *   count N            GPUs; number I of NVML's has the PCI bus 16*(N-I): not its order
 *   lost I CODE        every call for this GPU answers CODE
 *   refuse I           no permission to use it
 *   temp I CELSIUS
 *   mem I MIB          in use (1024)
 *   fail I CODE CALL    one call for this GPU answers CODE: memory temp power limit util ecc procs pci uuid events
 *                      rows fabric wait (for events, of any GPU in the set)
 *   proc I PID BYTES   a process with a context (BYTES -: not available)
 *   xid I NUMBER       each line that is new is one event
 *   set I VALUE NAME    NAME of throttle pstate gen genmax width widthmax remapc remapu pending failed links persist slow
 *                      ecc (uncorrected errors) limit (W) util (%) linksdown (that answer and are not active)
 *                      fabric (its state, 0: none) fabricstatus mig eccmode compute
 *   driver VERSION     the library's; told when a session begins
 *   name I WORD        its model: "NVIDIA WORD"
 *   hang               nvmlDeviceGetCount_v2 does not return while this is there
 *   freeze             the same, inside the kernel (state D) as far as anybody can see
 *
 * FAKE_OLD: as an old driver's, without events, ECC and v3 of PCI. FAKE_OLDER:
 * without what nothing works without.
 */
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/hw/nvml_abi.h"

#define GPUS_MAX 64
#define PROCS_MAX 256
#define EVENTS_MAX 4096
#define NO_UTIL 1000 /* as processes are */

enum setting { THROTTLE, PSTATE, GEN, GENMAX, WIDTH, WIDTHMAX, REMAPC, REMAPU, PENDING, FAILED, LINKS, PERSIST, SLOW,
	       ECCU, LIMITW, UTILP, LINKSDOWN, FABRIC, FABRICSTATUS, MIG, ECCMODE, COMPUTE, SETTINGS };
static const char *const setting_names[] = { "throttle", "pstate", "gen", "genmax", "width", "widthmax", "remapc", "remapu", "pending",
					     "failed", "links", "persist", "slow", "ecc", "limit", "util", "linksdown", "fabric", "fabricstatus", "mig", "eccmode", "compute" };
static const unsigned healthy[] = { [GEN] = 5, [GENMAX] = 5, [WIDTH] = 16, [WIDTHMAX] = 16, [PERSIST] = 1, [SLOW] = 95, [LIMITW] = 700, [UTILP] = NO_UTIL, [ECCMODE] = 1,
				    [SETTINGS] = 0 };

enum call { MEMORY, TEMP, POWER, LIMIT, UTIL, ECC, PROCS, PCI, UUID, EVENTS, ROWS, FABRICS, WAIT, FAILS };
static const char *const call_names[] = { "memory", "temp", "power", "limit", "util", "ecc", "procs", "pci", "uuid", "events", "rows", "fabric", "wait" };

struct nvml_device {
	unsigned index;
	int code; /* 0: well */
	bool refused;
	unsigned temp;
	char name[32];
	unsigned long long mem; /* 0: 1 GiB */
	unsigned set[SETTINGS];
	int fails[FAILS]; /* by call, 0: well */
	struct nvml_process procs[PROCS_MAX];
	unsigned n_procs;
};

struct nvml_event_set {
	unsigned long long members; /* a bit for each GPU */
};

static struct nvml_device gpus[GPUS_MAX];
static unsigned count, n_xids;
static struct {
	unsigned gpu;
	unsigned long long number;
} xids[EVENTS_MAX];
static int init_code;
static bool hanging, freezing;
static char driver[32];
static struct timespec read_at;

#define X(name, params, needed) nvml_ret name params;
NVML_FUNCTIONS(X)
#undef X

static void take_proc(struct nvml_device *g, unsigned pid, const char *bytes)
{
	struct nvml_process *p = &g->procs[g->n_procs++];

	p->pid = pid;
	p->used = *bytes == '-' ? NVML_VALUE_NOT_AVAILABLE : strtoull(bytes, NULL, 10);
}

static void take_fail(struct nvml_device *g, int code, const char *call)
{
	for (int i = 0; i < FAILS; i++)
		if (!strcmp(call, call_names[i]))
			g->fails[i] = code;
}

static void take_setting(struct nvml_device *g, unsigned value, const char *name)
{
	for (int i = 0; i < SETTINGS; i++)
		if (!strcmp(name, setting_names[i]))
			g->set[i] = value;
}

static nvml_ret answer(nvml_device g, enum call c)
{
	return g->code ? g->code : g->fails[c];
}

static void take_line(const char *line)
{
	char word[16] = "", rest[32] = "";
	unsigned a = 0, b = 0;

	if (sscanf(line, "%15s %u %u %31s", word, &a, &b, rest) < 1)
		return;
	if (!strcmp(word, "init"))
		init_code = (int)a;
	else if (!strcmp(word, "count"))
		count = a < GPUS_MAX ? a : GPUS_MAX;
	else if (!strcmp(word, "driver"))
		sscanf(line, "driver %31s", driver);
	else if (!strcmp(word, "hang"))
		hanging = true;
	else if (!strcmp(word, "freeze"))
		freezing = true;
	else if (a >= GPUS_MAX)
		return;
	else if (!strcmp(word, "name"))
		sscanf(line, "name %*u %31[^\n]", gpus[a].name);
	else if (!strcmp(word, "lost"))
		gpus[a].code = (int)b;
	else if (!strcmp(word, "refuse"))
		gpus[a].refused = true;
	else if (!strcmp(word, "temp"))
		gpus[a].temp = b;
	else if (!strcmp(word, "mem"))
		gpus[a].mem = (unsigned long long)b << 20;
	else if (!strcmp(word, "fail"))
		take_fail(&gpus[a], (int)b, rest);
	else if (!strcmp(word, "set"))
		take_setting(&gpus[a], b, rest);
	else if (!strcmp(word, "proc") && gpus[a].n_procs < PROCS_MAX)
		take_proc(&gpus[a], b, rest);
	else if (!strcmp(word, "xid") && n_xids < EVENTS_MAX) {
		xids[n_xids].gpu = a;
		xids[n_xids++].number = b;
	}
}

static const char *conf_path(void)
{
	static char path[4096];
	const char *named = getenv("FAKE_NVML");
	Dl_info self;

	if (named)
		return named;
	if (!dladdr((void *)&read_at, &self) || !self.dli_fname)
		return NULL;
	snprintf(path, sizeof path, "%s.conf", self.dli_fname);
	return path;
}

static void read_file(void)
{
	const char *path = conf_path();
	char line[128];
	struct stat st;
	FILE *f;

	if (!path || stat(path, &st) < 0 || !memcmp(&st.st_mtim, &read_at, sizeof read_at))
		return;
	f = fopen(path, "re");
	if (!f)
		return;
	read_at = st.st_mtim;
	memset(gpus, 0, sizeof gpus);
	for (unsigned i = 0; i < GPUS_MAX; i++) {
		gpus[i] = (struct nvml_device){ .index = i, .temp = 40 + i };
		memcpy(gpus[i].set, healthy, sizeof gpus[i].set);
	}
	count = n_xids = 0;
	snprintf(driver, sizeof driver, "580.95.05");
	init_code = NVML_OK;
	hanging = freezing = false;
	while (fgets(line, sizeof line, f))
		take_line(line);
	fclose(f);
}

nvml_ret nvmlInit_v2(void)
{
	read_file();
	return init_code;
}

nvml_ret nvmlShutdown(void)
{
	return NVML_OK;
}

nvml_ret nvmlSystemGetDriverVersion(char *text, unsigned size)
{
	read_file();
	snprintf(text, size, "%s", driver);
	return NVML_OK;
}

#ifndef FAKE_OLDER
/* A thread that waits for its vfork child is in state D. */
static __attribute__((noinline)) void freeze(const char *path)
{
	struct timespec was = read_at;
	struct stat st;

	if (vfork() != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (stat(path, &st) == 0 && !memcmp(&st.st_mtim, &was, sizeof was))
		usleep(20000);
	_exit(0);
}

nvml_ret nvmlDeviceGetCount_v2(unsigned *ret)
{
	read_file();
	while (hanging) {
		usleep(20000);
		read_file();
	}
	while (freezing) {
		freeze(conf_path());
		read_file();
	}
	if (init_code != NVML_OK)
		return init_code;
	*ret = count;
	return NVML_OK;
}
#endif

nvml_ret nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml_device *ret)
{
	if (index >= count)
		return 2; /* invalid argument */
	if (gpus[index].refused)
		return NVML_NO_PERMISSION;
	if (gpus[index].code)
		return gpus[index].code;
	*ret = &gpus[index];
	return NVML_OK;
}

static void place(nvml_device g, struct nvml_pci *pci)
{
	pci->domain = 0;
	pci->bus = 16 * (count - g->index);
	pci->device = 0;
}

#ifdef FAKE_OLD
nvml_ret nvmlDeviceGetPciInfo_v2(nvml_device g, struct nvml_pci *pci)
{
	memset(pci, 0, 52);
#else
nvml_ret nvmlDeviceGetPciInfo_v3(nvml_device g, struct nvml_pci *pci)
{
	memset(pci, 0, sizeof *pci);
#endif
	place(g, pci);
	return answer(g, PCI);
}

nvml_ret nvmlDeviceGetUUID(nvml_device g, char *text, unsigned size)
{
	snprintf(text, size, "GPU-00000000-0000-0000-0000-%012u", g->index);
	return answer(g, UUID);
}

nvml_ret nvmlDeviceGetName(nvml_device g, char *text, unsigned size)
{
	snprintf(text, size, "NVIDIA %s", g->name[0] ? g->name : "Pretence 80GB");
	return g->code;
}

nvml_ret nvmlDeviceGetMemoryInfo(nvml_device g, struct nvml_memory *m)
{
	m->total = 80ull << 30;
	m->used = g->mem ? g->mem : 1ull << 30;
	m->free = m->total - m->used;
	return answer(g, MEMORY);
}

nvml_ret nvmlDeviceGetTemperature(nvml_device g, int sensor, unsigned *ret)
{
	*ret = g->temp;
	return answer(g, TEMP);
}

nvml_ret nvmlDeviceGetPowerUsage(nvml_device g, unsigned *ret)
{
	*ret = 70000 + g->index;
	return answer(g, POWER);
}

nvml_ret nvmlDeviceGetEnforcedPowerLimit(nvml_device g, unsigned *ret)
{
	*ret = g->set[LIMITW] * 1000;
	return answer(g, LIMIT);
}

nvml_ret nvmlDeviceGetUtilizationRates(nvml_device g, struct nvml_utilization *u)
{
	u->gpu = g->set[UTILP] != NO_UTIL ? g->set[UTILP] : g->n_procs ? 99 : 0;
	u->memory = 0;
	return answer(g, UTIL);
}

nvml_ret nvmlDeviceGetComputeRunningProcesses(nvml_device g, unsigned *n, struct nvml_process *list)
{
	if (answer(g, PROCS))
		return answer(g, PROCS);
	if (*n < g->n_procs) {
		*n = g->n_procs;
		return NVML_INSUFFICIENT_SIZE;
	}
	memcpy(list, g->procs, g->n_procs * sizeof *list);
	*n = g->n_procs;
	return NVML_OK;
}

#ifndef FAKE_OLD
nvml_ret nvmlDeviceGetCurrentClocksThrottleReasons(nvml_device g, unsigned long long *ret)
{
	*ret = g->set[THROTTLE];
	return g->code;
}

nvml_ret nvmlDeviceGetPerformanceState(nvml_device g, int *ret)
{
	*ret = (int)g->set[PSTATE];
	return g->code;
}

#define GETTER(name, setting)                                                                      \
	nvml_ret name(nvml_device g, unsigned *ret)                                                \
	{                                                                                          \
		*ret = g->set[setting];                                                            \
		return g->code;                                                                    \
	}
GETTER(nvmlDeviceGetCurrPcieLinkGeneration, GEN)
GETTER(nvmlDeviceGetMaxPcieLinkGeneration, GENMAX)
GETTER(nvmlDeviceGetCurrPcieLinkWidth, WIDTH)
GETTER(nvmlDeviceGetMaxPcieLinkWidth, WIDTHMAX)

nvml_ret nvmlDeviceGetRemappedRows(nvml_device g, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
	*corrected = g->set[REMAPC];
	*uncorrected = g->set[REMAPU];
	*pending = g->set[PENDING];
	*failed = g->set[FAILED];
	return answer(g, ROWS);
}

nvml_ret nvmlDeviceGetNvLinkState(nvml_device g, unsigned link, int *active)
{
	*active = link < g->set[LINKS];
	return link < NVML_LINKS_MAX && g->set[LINKS] + g->set[LINKSDOWN] ? g->code : NVML_NOT_SUPPORTED;
}

nvml_ret nvmlDeviceGetPersistenceMode(nvml_device g, int *ret)
{
	*ret = (int)g->set[PERSIST];
	return g->code;
}

nvml_ret nvmlDeviceGetGpuFabricInfo(nvml_device g, struct nvml_fabric *ret)
{
	*ret = (struct nvml_fabric){ .state = (unsigned char)g->set[FABRIC], .status = (int)g->set[FABRICSTATUS] };
	return answer(g, FABRICS);
}

nvml_ret nvmlDeviceGetMigMode(nvml_device g, unsigned *now, unsigned *then)
{
	*now = *then = g->set[MIG];
	return g->code;
}

nvml_ret nvmlDeviceGetEccMode(nvml_device g, int *now, int *then)
{
	*now = *then = (int)g->set[ECCMODE];
	return g->code;
}

nvml_ret nvmlDeviceGetComputeMode(nvml_device g, int *ret)
{
	*ret = (int)g->set[COMPUTE];
	return g->code;
}

nvml_ret nvmlDeviceGetTemperatureThreshold(nvml_device g, int which, unsigned *ret)
{
	*ret = g->set[SLOW];
	return which == NVML_THRESHOLD_SLOWDOWN ? g->code : 2;
}

nvml_ret nvmlDeviceGetTotalEccErrors(nvml_device g, int type, int counter, unsigned long long *ret)
{
	*ret = type == NVML_ECC_CORRECTED ? 5 : g->set[ECCU];
	return counter == NVML_ECC_VOLATILE ? answer(g, ECC) : 2;
}

nvml_ret nvmlEventSetCreate(nvml_event_set *ret)
{
	*ret = calloc(1, sizeof **ret);
	return *ret ? NVML_OK : 20;
}

nvml_ret nvmlEventSetFree(nvml_event_set set)
{
	free(set);
	return NVML_OK;
}

nvml_ret nvmlDeviceRegisterEvents(nvml_device g, unsigned long long types, nvml_event_set set)
{
	if (types != NVML_EVENT_XID)
		return 2;
	if (g->fails[EVENTS])
		return g->fails[EVENTS];
	set->members |= 1ull << g->index;
	return g->code;
}

/* Sleeps until the file's folder changes: the real library does not look every
 * now and then either, and what this one costs counts as the probe's. */
static int changes(void)
{
	static int fd = -1;
	const char *path = conf_path(), *end = path ? strrchr(path, '/') : NULL;
	char folder[4096];

	if (fd >= 0 || !end)
		return fd;
	fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	snprintf(folder, sizeof folder, "%.*s", (int)(end - path), path);
	inotify_add_watch(fd, folder, IN_CLOSE_WRITE | IN_MOVED_TO);
	return fd;
}

static bool take_xid(nvml_event_set set, struct nvml_event *ev)
{
	static unsigned given;

	for (; given < n_xids; given++)
		if (set->members >> xids[given].gpu & 1) {
			ev->device = &gpus[xids[given].gpu];
			ev->type = NVML_EVENT_XID;
			ev->data = xids[given++].number;
			return true;
		}
	return false;
}

nvml_ret nvmlEventSetWait(nvml_event_set set, struct nvml_event *ev, unsigned timeout_ms)
{
	struct pollfd p = { .fd = changes(), .events = POLLIN };
	char events[4096];

	read_file();
	for (unsigned i = 0; i < count; i++)
		if (set->members >> i & 1 && gpus[i].fails[WAIT])
			return gpus[i].fails[WAIT];
	if (take_xid(set, ev))
		return NVML_OK;
	if (poll(&p, 1, (int)timeout_ms) <= 0)
		return NVML_TIMEOUT;
	while (read(p.fd, events, sizeof events) > 0)
		;
	read_file();
	return take_xid(set, ev) ? NVML_OK : NVML_TIMEOUT;
}
#endif
