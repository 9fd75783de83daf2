/* nvml_lib.h - libnvidia-ml.so.1, opened at run time */
#ifndef NA_HW_NVML_LIB_H
#define NA_HW_NVML_LIB_H

#include <stdbool.h>

#include "common/err.h"
#include "hw/nvml_abi.h"

/* A function that the library does not have is NULL. */
struct nvml_lib {
	void *handle; /* NULL: not open */
#define X(name, params, needed) nvml_ret(*name) params;
	NVML_FUNCTIONS(X)
#undef X
};

/* Opens the library (NULL: the system's) and initialises it. 0, or -ENOENT and
 * one sentence: what is missing and what to do. */
int nvml_lib_open(struct nvml_lib *lib, const char *path, struct err *e);
void nvml_lib_close(struct nvml_lib *lib);
/* Why a GPU cannot be read; NULL for what is no failure of the GPU. */
const char *nvml_gpu_trouble(nvml_ret r);
/* The session with the driver is over: everything must be opened again. */
bool nvml_session_over(nvml_ret r);

#endif
