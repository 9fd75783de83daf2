/* nvml_abi.h - the part of NVIDIA's management library that is used, as its
 * public API reference documents it
 *
 * Declared here so that building needs no CUDA. Of entry points with several
 * versions the oldest stable one whose struct never changed is taken; all have
 * been in libnvidia-ml.so.1 since driver 375 and are still there in 580.
 */
#ifndef NA_HW_NVML_ABI_H
#define NA_HW_NVML_ABI_H

#include <stddef.h>

typedef int nvml_ret;
typedef struct nvml_device *nvml_device; /* opaque */
typedef struct nvml_event_set *nvml_event_set;

enum { /* nvmlReturn_t */
	NVML_OK = 0,
	NVML_UNINITIALIZED = 1,
	NVML_NOT_SUPPORTED = 3,
	NVML_NO_PERMISSION = 4,
	NVML_INSUFFICIENT_SIZE = 7,
	NVML_INSUFFICIENT_POWER = 8,
	NVML_DRIVER_NOT_LOADED = 9,
	NVML_TIMEOUT = 10,
	NVML_IRQ_ISSUE = 11,
	NVML_FUNCTION_NOT_FOUND = 13,
	NVML_GPU_IS_LOST = 15,
	NVML_RESET_REQUIRED = 16,
	NVML_LIB_RM_VERSION_MISMATCH = 18,
	NVML_UNKNOWN = 999,
};

#define NVML_TEMPERATURE_GPU 0 /* nvmlTemperatureSensors_t */
#define NVML_THRESHOLD_SLOWDOWN 1 /* nvmlTemperatureThresholds_t */
#define NVML_LINKS_MAX 18 /* NVML_NVLINK_MAX_LINKS */
#define NVML_ECC_CORRECTED 0 /* nvmlMemoryErrorType_t */
#define NVML_ECC_UNCORRECTED 1
#define NVML_ECC_VOLATILE 0 /* nvmlEccCounterType_t: since the driver was loaded */
#define NVML_EVENT_XID 8ull /* nvmlEventTypeXidCriticalError */
#define NVML_VALUE_NOT_AVAILABLE (~0ull)

/* nvmlPciInfo_t of nvmlDeviceGetPciInfo_v3; _v2 ends with four reserved words
 * in place of busId, so the numbers can be read from either. */
struct nvml_pci {
	char bus_id_legacy[16];
	unsigned domain, bus, device;
	unsigned device_id, subsystem_id;
	char bus_id[32];
};
_Static_assert(sizeof(struct nvml_pci) == 68, "nvmlPciInfo_t");
_Static_assert(offsetof(struct nvml_pci, domain) == 16, "nvmlPciInfo_t");

/* nvmlMemory_t (v1): bytes */
struct nvml_memory {
	unsigned long long total, free, used;
};
_Static_assert(sizeof(struct nvml_memory) == 24, "nvmlMemory_t");

/* nvmlUtilization_t: percent */
struct nvml_utilization {
	unsigned gpu, memory;
};

/* nvmlGpuFabricInfo_t: a GPU's registration with the fabric manager, on boards with NVSwitches since H100 */
struct nvml_fabric {
	unsigned char cluster[16];
	int status; /* NVML's code, when it is complete */
	unsigned clique;
	unsigned char state; /* 0: there is no fabric */
};
_Static_assert(sizeof(struct nvml_fabric) == 28, "nvmlGpuFabricInfo_t");

/* nvmlProcessInfo_v1_t, of nvmlDeviceGetComputeRunningProcesses without suffix */
struct nvml_process {
	unsigned pid;
	unsigned long long used; /* bytes, or NVML_VALUE_NOT_AVAILABLE */
};
_Static_assert(sizeof(struct nvml_process) == 16, "nvmlProcessInfo_v1_t");

/* nvmlEventData_t; the first version ends before the instances. */
struct nvml_event {
	nvml_device device;
	unsigned long long type;
	unsigned long long data; /* Xid events: its number */
	unsigned gpu_instance, compute_instance;
};
_Static_assert(sizeof(struct nvml_event) == 32 || sizeof(void *) != 8, "nvmlEventData_t");

/* name, parameters, whether nothing works without it */
#define NVML_FUNCTIONS(X)                                                                          \
	X(nvmlInit_v2, (void), true)                                                               \
	X(nvmlShutdown, (void), true)                                                              \
	X(nvmlSystemGetDriverVersion, (char *text, unsigned size), false)                          \
	X(nvmlDeviceGetCount_v2, (unsigned *count), true)                                          \
	X(nvmlDeviceGetHandleByIndex_v2, (unsigned index, nvml_device *device), true)              \
	X(nvmlDeviceGetPciInfo_v3, (nvml_device device, struct nvml_pci *pci), false)              \
	X(nvmlDeviceGetPciInfo_v2, (nvml_device device, struct nvml_pci *pci), false)              \
	X(nvmlDeviceGetUUID, (nvml_device device, char *text, unsigned size), false)               \
	X(nvmlDeviceGetName, (nvml_device device, char *text, unsigned size), false)               \
	X(nvmlDeviceGetMemoryInfo, (nvml_device device, struct nvml_memory *memory), false)        \
	X(nvmlDeviceGetTemperature, (nvml_device device, int sensor, unsigned *celsius), false)    \
	X(nvmlDeviceGetPowerUsage, (nvml_device device, unsigned *milliwatts), false)              \
	X(nvmlDeviceGetEnforcedPowerLimit, (nvml_device device, unsigned *milliwatts), false)      \
	X(nvmlDeviceGetUtilizationRates, (nvml_device device, struct nvml_utilization *u), false)  \
	X(nvmlDeviceGetCurrentClocksThrottleReasons, (nvml_device device, unsigned long long *reasons), false) \
	X(nvmlDeviceGetPerformanceState, (nvml_device device, int *pstate), false)                 \
	X(nvmlDeviceGetCurrPcieLinkGeneration, (nvml_device device, unsigned *v), false)           \
	X(nvmlDeviceGetMaxPcieLinkGeneration, (nvml_device device, unsigned *v), false)            \
	X(nvmlDeviceGetCurrPcieLinkWidth, (nvml_device device, unsigned *v), false)                \
	X(nvmlDeviceGetMaxPcieLinkWidth, (nvml_device device, unsigned *v), false)                 \
	X(nvmlDeviceGetRemappedRows, (nvml_device device, unsigned *corrected, unsigned *uncorrected, \
				      unsigned *pending, unsigned *failed), false)                 \
	X(nvmlDeviceGetNvLinkState, (nvml_device device, unsigned link, int *active), false)       \
	X(nvmlDeviceGetPersistenceMode, (nvml_device device, int *mode), false)                    \
	X(nvmlDeviceGetGpuFabricInfo, (nvml_device device, struct nvml_fabric *fabric), false)     \
	X(nvmlDeviceGetMigMode, (nvml_device device, unsigned *current, unsigned *pending), false) \
	X(nvmlDeviceGetEccMode, (nvml_device device, int *current, int *pending), false)           \
	X(nvmlDeviceGetComputeMode, (nvml_device device, int *mode), false)                        \
	X(nvmlDeviceGetTemperatureThreshold, (nvml_device device, int which, unsigned *celsius), false) \
	X(nvmlDeviceGetTotalEccErrors,                                                             \
	  (nvml_device device, int type, int counter, unsigned long long *count), false)           \
	X(nvmlDeviceGetComputeRunningProcesses,                                                    \
	  (nvml_device device, unsigned *count, struct nvml_process *processes), false)            \
	X(nvmlEventSetCreate, (nvml_event_set * set), false)                                       \
	X(nvmlEventSetFree, (nvml_event_set set), false)                                           \
	X(nvmlDeviceRegisterEvents, (nvml_device device, unsigned long long types,                 \
				     nvml_event_set set), false)                                   \
	X(nvmlEventSetWait, (nvml_event_set set, struct nvml_event *event, unsigned timeout_ms),   \
	  false)

#endif
