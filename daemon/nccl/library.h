/* library.h - the CUDA runtime and NCCL of the environment under test
 *
 * Nothing is linked: what a training would load is loaded, and told. With a
 * prefix (of a conda environment or a venv) the places where Python packages
 * keep them are looked at first; without one, and after it, the loader's own
 * search, then /usr/local/cuda.
 */
#ifndef NA_NCCL_LIBRARY_H
#define NA_NCCL_LIBRARY_H

#include "common/err.h"
#include "nccl/abi.h"

#define LIBRARY_PATH_SIZE 512

struct library {
	void *cuda_handle, *nccl_handle;
#define X(name, params, needed) cuda_ret(*name) params;
	CUDA_FUNCTIONS(X)
#undef X
	const char *(*cudaGetErrorString)(cuda_ret);
#define X(name, params, needed) nccl_ret(*name) params;
	NCCL_FUNCTIONS(X)
#undef X
	const char *(*ncclGetErrorString)(nccl_ret);
	const char *(*ncclGetLastError)(nccl_comm); /* NULL before 2.13 */
	char cuda_path[LIBRARY_PATH_SIZE], nccl_path[LIBRARY_PATH_SIZE];
	int nccl_version; /* as ncclGetVersion: 22809 */
	int cuda_runtime, cuda_driver; /* 13000; driver 0: none is loaded */
	char driver[32]; /* the kernel module's version, "580.95.05"; "": none */
};

/* The prefix may be NULL. -ENOENT: a library is missing, or too old; the
 * sentence says which, where it was looked for, and what brings it. */
int library_load(struct library *lib, const char *prefix, struct err *e);

/* "2.28.9" of a version code, also of the older code up to 2.8. */
void library_nccl_text(int code, char out[24]);

#endif
