/* cudart.c - a CUDA runtime that is none: "device" memory is the process's own
 *
 * For tests of nodeagent-nccl where there is no GPU; goes with tests/fake/nccl.c.
 *   FAKE_CUDA_GPUS   how many GPUs there are (8); 0: none; -1: no driver
 *   FAKE_CUDA_STOP_RANK, FAKE_CUDA_EXIT_RANK  this rank (by RANK) is stopped, or ends, when it takes its GPU
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nccl/abi.h"

struct cuda_event {
	unsigned ops; /* asked for before it */
};

/* In tests/fake/nccl.c, which is loaded later. */
static void *ask(const char *name)
{
	return dlsym(RTLD_DEFAULT, name);
}

/* When so many of its operations were over, in the time that is told. */
static double told_ms(unsigned ops)
{
	double (*f)(unsigned);
	void *p = ask("fake_nccl_ms");

	memcpy(&f, &p, sizeof f);
	return f ? f(ops) : 0;
}

static unsigned asked(void)
{
	unsigned (*f)(void);
	void *p = ask("fake_nccl_asked");

	memcpy(&f, &p, sizeof f);
	return f ? f() : 0;
}

static int gpus(void)
{
	const char *v = getenv("FAKE_CUDA_GPUS");

	return v ? atoi(v) : 8;
}

#define EXPORT __attribute__((visibility("default")))
#define FAKE(name, params) EXPORT cuda_ret name params; EXPORT cuda_ret name params

FAKE(cudaGetDeviceCount, (int *n))
{
	if (gpus() < 0)
		return CUDA_INSUFFICIENT_DRIVER;
	*n = gpus();
	return *n ? CUDA_OK : CUDA_NO_DEVICE;
}

static bool is_my_rank(const char *name)
{
	const char *v = getenv(name), *rank = getenv("RANK");

	return v && rank && atoi(v) == atoi(rank);
}

FAKE(cudaSetDevice, (int device))
{
	if (is_my_rank("FAKE_CUDA_STOP_RANK"))
		raise(SIGSTOP);
	if (is_my_rank("FAKE_CUDA_EXIT_RANK"))
		_exit(7);
	return device >= 0 && device < gpus() ? CUDA_OK : CUDA_NO_DEVICE;
}

FAKE(cudaDeviceGetPCIBusId, (char *out, int size, int device))
{
	snprintf(out, (size_t)size, "0000:%02X:00.0", 0x10 + device);
	return CUDA_OK;
}

FAKE(cudaRuntimeGetVersion, (int *version))
{
	*version = 12040;
	return CUDA_OK;
}

FAKE(cudaDriverGetVersion, (int *version))
{
	*version = gpus() < 0 ? 0 : 12040;
	return CUDA_OK;
}

FAKE(cudaMalloc, (void **p, size_t bytes))
{
	*p = malloc(bytes);
	return *p ? CUDA_OK : 2;
}

FAKE(cudaFree, (void *p))
{
	free(p);
	return CUDA_OK;
}

FAKE(cudaMemcpy, (void *to, const void *from, size_t bytes, int kind))
{
	(void)kind;
	memcpy(to, from, bytes);
	return CUDA_OK;
}

FAKE(cudaMemset, (void *p, int byte, size_t bytes))
{
	memset(p, byte, bytes);
	return CUDA_OK;
}

FAKE(cudaDeviceSynchronize, (void))
{
	return CUDA_OK;
}

FAKE(cudaStreamCreateWithFlags, (cuda_stream *s, unsigned flags))
{
	(void)flags;
	*s = NULL;
	return CUDA_OK;
}

FAKE(cudaStreamDestroy, (cuda_stream s))
{
	(void)s;
	return CUDA_OK;
}

FAKE(cudaStreamQuery, (cuda_stream s))
{
	int (*f)(void);
	void *p = ask("fake_nccl_busy");

	(void)s;
	memcpy(&f, &p, sizeof f);
	return f && f() ? CUDA_NOT_READY : CUDA_OK;
}

FAKE(cudaEventCreate, (cuda_event *e))
{
	*e = calloc(1, sizeof **e);
	return *e ? CUDA_OK : 2;
}

FAKE(cudaEventDestroy, (cuda_event e))
{
	free(e);
	return CUDA_OK;
}

FAKE(cudaEventRecord, (cuda_event e, cuda_stream s))
{
	(void)s;
	e->ops = asked();
	return CUDA_OK;
}

FAKE(cudaEventElapsedTime, (float *ret_ms, cuda_event from, cuda_event to))
{
	*ret_ms = (float)(told_ms(to->ops) - told_ms(from->ops));
	return CUDA_OK;
}

EXPORT const char *cudaGetErrorString(cuda_ret r);
EXPORT const char *cudaGetErrorString(cuda_ret r)
{
	return r == CUDA_OK ? "no error" : "a made error";
}
