/* nvml_cost.c - what each question to NVIDIA's management library costs, on a host with GPUs
 *
 * nvml_cost [ROUNDS]: asks the first GPU each of what nodeagent-probe asks, once in each of ROUNDS (10) rounds, two
 * seconds apart as the probe does (the library keeps some answers for a moment: asked at once again, they cost
 * nothing), and prints the microseconds of CPU (user and system) that one takes, and that it takes when asked at once again.
 * Opens the system's library, asks only, and changes nothing.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "hw/nvml_abi.h"

static struct {
#define X(name, params, needed) nvml_ret(*name) params;
	NVML_FUNCTIONS(X)
#undef X
} lib;


static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#define QUESTIONS 40
static struct {
	const char *name;
	double cold, warm; /* seconds */
	nvml_ret last;
} table[QUESTIONS];
static int n_table;

#define ASK(what_, call_)                                                                                                          \
	do {                                                                                                                       \
		double a_ = seconds(CLOCK_PROCESS_CPUTIME_ID), b_;                                                                 \
                                                                                                                                   \
		table[n_table].last = call_;                                                                                       \
		b_ = seconds(CLOCK_PROCESS_CPUTIME_ID);                                                                            \
		call_;                                                                                                             \
		table[n_table].warm += seconds(CLOCK_PROCESS_CPUTIME_ID) - b_;                                                     \
		table[n_table].cold += b_ - a_;                                                                                    \
		table[n_table++].name = what_;                                                                                     \
	} while (0)
#define COST(name, ...)                                                                                                            \
	if (lib.name)                                                                                                              \
	ASK(#name, lib.name(__VA_ARGS__))

static nvml_ret links(nvml_device d)
{
	nvml_ret r = NVML_OK;
	int on;

	for (unsigned i = 0; i < NVML_LINKS_MAX && r == NVML_OK; i++)
		r = lib.nvmlDeviceGetNvLinkState(d, i, &on);
	return r;
}

static void ask_all(nvml_device d, nvml_event_set set)
{
	unsigned u = 0, a = 0, b = 0, c = 0, n = 0;
	unsigned long long wide = 0;
	struct nvml_utilization use;
	struct nvml_process procs[64];
	struct nvml_fabric fabric;
	struct nvml_memory memory;
	struct nvml_event event;
	int i = 0, k = 0;

	COST(nvmlDeviceGetCount_v2, &n);
	COST(nvmlDeviceGetMemoryInfo, d, &memory);
	COST(nvmlDeviceGetTemperature, d, NVML_TEMPERATURE_GPU, &u);
	COST(nvmlDeviceGetPowerUsage, d, &u);
	COST(nvmlDeviceGetEnforcedPowerLimit, d, &u);
	COST(nvmlDeviceGetUtilizationRates, d, &use);
	COST(nvmlDeviceGetCurrentClocksThrottleReasons, d, &wide);
	COST(nvmlDeviceGetPerformanceState, d, &i);
	COST(nvmlDeviceGetCurrPcieLinkGeneration, d, &u);
	COST(nvmlDeviceGetMaxPcieLinkGeneration, d, &u);
	COST(nvmlDeviceGetCurrPcieLinkWidth, d, &u);
	COST(nvmlDeviceGetMaxPcieLinkWidth, d, &u);
	COST(nvmlDeviceGetRemappedRows, d, &a, &b, &c, &u);
	ASK("18 of nvmlDeviceGetNvLinkState", links(d));
	COST(nvmlDeviceGetPersistenceMode, d, &i);
	COST(nvmlDeviceGetGpuFabricInfo, d, &fabric);
	COST(nvmlDeviceGetMigMode, d, &a, &b);
	COST(nvmlDeviceGetEccMode, d, &i, &k);
	COST(nvmlDeviceGetComputeMode, d, &i);
	COST(nvmlDeviceGetTemperatureThreshold, d, NVML_THRESHOLD_SLOWDOWN, &u);
	COST(nvmlDeviceGetTotalEccErrors, d, NVML_ECC_UNCORRECTED, NVML_ECC_VOLATILE, &wide);
	COST(nvmlDeviceGetComputeRunningProcesses, d, (n = 64, &n), procs);
	if (set)
		COST(nvmlEventSetWait, set, &event, 500);
}

int main(int argc, char **argv)
{
	void *so = dlopen("libnvidia-ml.so.1", RTLD_NOW);
	const struct timespec pause = { 1, 0 }; /* and a second passes in waiting for events */
	int rounds = argc > 1 ? atoi(argv[1]) : 10;
	nvml_event_set set = NULL;
	nvml_device d;

	if (!so) {
		fprintf(stderr, "nvml_cost: %s: is the NVIDIA driver installed?\n", dlerror());
		return 1;
	}
#define X(name, params, needed) *(void **)&lib.name = dlsym(so, #name);
	NVML_FUNCTIONS(X)
#undef X
	if (!lib.nvmlInit_v2 || lib.nvmlInit_v2() != NVML_OK || lib.nvmlDeviceGetHandleByIndex_v2(0, &d) != NVML_OK) {
		fprintf(stderr, "nvml_cost: no GPU answers\n");
		return 1;
	}
	if (lib.nvmlEventSetCreate && lib.nvmlEventSetCreate(&set) == NVML_OK)
		lib.nvmlDeviceRegisterEvents(d, NVML_EVENT_XID, set);
	for (int i = 0; i < rounds; i++) {
		nanosleep(&pause, NULL);
		n_table = 0;
		ask_all(d, set);
	}
	for (int i = 0; i < n_table; i++)
		printf("%-46s %8.1f us, at once again %8.1f us  error %d\n", table[i].name, table[i].cold / rounds * 1e6, table[i].warm / rounds * 1e6,
		       table[i].last);
	return 0;
}
