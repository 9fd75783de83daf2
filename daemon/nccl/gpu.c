/* gpu.c - see gpu.h */
#include "nccl/gpu.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WARM 5 /* as nccl-tests */

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Short at first: small operations are over soon. */
static void nap(unsigned round)
{
	nanosleep(&(struct timespec){ 0, round < 200 ? 20000 : 1000000 }, NULL);
}

static int cuda_failed(const struct gpu *g, cuda_ret r, const char *what, struct err *e)
{
	return err_set(e, EIO, "%s failed on GPU %s: %s", what, g->pci[0] ? g->pci : "?", g->lib->cudaGetErrorString(r));
}

static int nccl_failed(const struct gpu *g, nccl_ret r, const char *what, struct err *e)
{
	const char *more = g->lib->ncclGetLastError ? g->lib->ncclGetLastError(g->comm) : NULL;

	return err_set(e, EIO, "%s failed on GPU %s: %s%s%.400s", what, g->pci, g->lib->ncclGetErrorString(r),
		       more && *more ? ": " : "", more ? more : "");
}

/* ---- the device ------------------------------------------------------------- */

/* By the driver's own library: the runtime's struct of properties changes its size. */
static void read_name(struct gpu *g, int device)
{
	int (*get)(char *, int, int) = NULL;
	void *driver = dlopen("libcuda.so.1", RTLD_NOW), *p = driver ? dlsym(driver, "cuDeviceGetName") : NULL;

	memcpy(&get, &p, sizeof p);
	if (get == NULL || get(g->name, sizeof g->name, device) != 0)
		g->name[0] = '\0';
}

static int no_device(const struct library *lib, cuda_ret r, int n, int device, struct err *e)
{
	if (r == CUDA_INSUFFICIENT_DRIVER && !lib->driver[0])
		return err_set(e, ENODEV, "no NVIDIA driver on this host: the check needs GPUs");
	if (r == CUDA_INSUFFICIENT_DRIVER)
		return err_set(e, ENODEV, "driver %s is too old for CUDA %d.%d of %s: update the driver, or test an "
			       "environment with an older CUDA", lib->driver, lib->cuda_runtime / 1000,
			       lib->cuda_runtime % 1000 / 10, lib->cuda_path);
	if (r != CUDA_OK && r != CUDA_NO_DEVICE)
		return err_set(e, ENODEV, "no GPU can be used: %s", lib->cudaGetErrorString(r));
	return err_set(e, ENODEV, "local rank %d has no GPU: %d can be seen (CUDA_VISIBLE_DEVICES=%s)", device, n,
		       getenv("CUDA_VISIBLE_DEVICES") ? getenv("CUDA_VISIBLE_DEVICES") : "");
}

static int make_buffers(struct gpu *g, size_t bytes, struct err *e)
{
	cuda_ret r;

	g->floats = bytes / sizeof(float) + 1;
	g->host = malloc(g->floats * sizeof(float));
	if (!g->host)
		return err_set(e, ENOMEM, "no memory for %zu MiB", bytes >> 20);
	if ((r = g->lib->cudaMalloc((void **)&g->send, g->floats * sizeof(float))) != CUDA_OK ||
	    (r = g->lib->cudaMalloc((void **)&g->recv, g->floats * sizeof(float))) != CUDA_OK)
		return cuda_failed(g, r, "taking memory", e);
	if ((r = g->lib->cudaStreamCreateWithFlags(&g->stream, CUDA_STREAM_NON_BLOCKING)) != CUDA_OK ||
	    (r = g->lib->cudaEventCreate(&g->begin)) != CUDA_OK || (r = g->lib->cudaEventCreate(&g->end)) != CUDA_OK)
		return cuda_failed(g, r, "making a stream", e);
	return 0;
}

int gpu_open(struct gpu *g, struct library *lib, int device, size_t bytes, struct err *e)
{
	int n = 0;
	cuda_ret r;

	*g = (struct gpu){ .lib = lib };
	r = lib->cudaGetDeviceCount(&n);
	if (r != CUDA_OK || device >= n)
		return no_device(lib, r, r == CUDA_OK ? n : 0, device, e);
	lib->cudaDeviceGetPCIBusId(g->pci, sizeof g->pci, device);
	r = lib->cudaSetDevice(device);
	if (r != CUDA_OK)
		return cuda_failed(g, r, "taking the GPU", e);
	r = make_buffers(g, bytes, e);
	if (r == 0)
		read_name(g, device);
	return r;
}

void gpu_close(struct gpu *g)
{
	free(g->host);
	if (g->begin)
		g->lib->cudaEventDestroy(g->begin);
	if (g->end)
		g->lib->cudaEventDestroy(g->end);
	if (g->stream)
		g->lib->cudaStreamDestroy(g->stream);
	if (g->send)
		g->lib->cudaFree(g->send);
	if (g->recv)
		g->lib->cudaFree(g->recv);
}

/* ---- waiting ---------------------------------------------------------------- */

static bool is_over(const struct gpu *g, int64_t until_ms, unsigned round)
{
	return now_ms() > until_ms || (round % 64 == 63 && g->stop != NULL && g->stop(g->stop_of));
}

static int timed_out(struct err *e)
{
	return err_set(e, ETIMEDOUT, "not through in time");
}

/* Until the communicator has taken what it was asked for. */
static int await_comm(struct gpu *g, int64_t until_ms, const char *what, struct err *e)
{
	nccl_ret state = NCCL_IN_PROGRESS, r;

	for (unsigned round = 0; state == NCCL_IN_PROGRESS; round++) {
		r = g->lib->ncclCommGetAsyncError(g->comm, &state);
		if (r != NCCL_OK)
			return nccl_failed(g, r, what, e);
		if (state != NCCL_IN_PROGRESS)
			break;
		if (is_over(g, until_ms, round))
			return timed_out(e);
		nap(round);
	}
	return state == NCCL_OK ? 0 : nccl_failed(g, state, what, e);
}

static int await_stream(struct gpu *g, int64_t until_ms, const char *what, struct err *e)
{
	for (unsigned round = 0;; round++) {
		cuda_ret r = g->lib->cudaStreamQuery(g->stream);
		nccl_ret state = NCCL_OK;

		if (r == CUDA_OK)
			return 0;
		if (r != CUDA_NOT_READY)
			return cuda_failed(g, r, what, e);
		if (round % 16 == 0 && g->lib->ncclCommGetAsyncError(g->comm, &state) == NCCL_OK &&
		    state != NCCL_OK && state != NCCL_IN_PROGRESS)
			return nccl_failed(g, state, what, e);
		if (is_over(g, until_ms, round))
			return timed_out(e);
		nap(round);
	}
}

/* ---- the communicator ---------------------------------------------------------- */

int gpu_join(struct gpu *g, const struct nccl_id *id, uint32_t n, uint32_t rank, int timeout_ms, struct err *e)
{
	struct nccl_config config = { .size = sizeof config, .magic = NCCL_CONFIG_MAGIC,
				      .version = NCCL_CONFIG_VERSION, .blocking = 0 };
	int64_t until = now_ms() + timeout_ms;
	nccl_ret r;

	g->n = n;
	g->rank = rank;
	g->comm = NULL;
	g->joining = true;
	/* before 2.14 nothing but waiting helps: the conductor's deadline then names this rank as one that waits */
	if (g->lib->ncclCommInitRankConfig)
		r = g->lib->ncclCommInitRankConfig(&g->comm, (int)n, *id, (int)rank, &config);
	else
		r = g->lib->ncclCommInitRank(&g->comm, (int)n, *id, (int)rank);
	if (r != NCCL_OK && r != NCCL_IN_PROGRESS)
		return nccl_failed(g, r, "making the communicator", e);
	r = await_comm(g, until, "making the communicator", e);
	g->joining = r != 0;
	return r;
}

void gpu_leave(struct gpu *g, bool abort)
{
	if (g->comm == NULL)
		return;
	if (abort || g->joining)
		g->lib->ncclCommAbort(g->comm);
	else
		g->lib->ncclCommDestroy(g->comm);
	g->comm = NULL;
}

/* ---- operations ------------------------------------------------------------------ */

/* Rank 0 gets all parts; its own goes the same way. */
static nccl_ret gather(struct gpu *g, size_t count)
{
	const struct library *l = g->lib;
	nccl_ret r = l->ncclGroupStart(), last;

	if (r == NCCL_OK)
		r = l->ncclSend(g->send, count, NCCL_FLOAT32, 0, g->comm, g->stream);
	for (uint32_t k = 0; k < g->n && g->rank == 0 && (r == NCCL_OK || r == NCCL_IN_PROGRESS); k++)
		r = l->ncclRecv(g->recv + k * count, count, NCCL_FLOAT32, (int)k, g->comm, g->stream);
	last = l->ncclGroupEnd();
	return r == NCCL_OK || r == NCCL_IN_PROGRESS ? last : r;
}

/* Each to the next one, in a ring. */
static nccl_ret send_recv(struct gpu *g, size_t count)
{
	const struct library *l = g->lib;
	nccl_ret r = l->ncclGroupStart(), last;

	if (r == NCCL_OK)
		r = l->ncclSend(g->send, count, NCCL_FLOAT32, (int)((g->rank + 1) % g->n), g->comm, g->stream);
	if (r == NCCL_OK || r == NCCL_IN_PROGRESS)
		r = l->ncclRecv(g->recv, count, NCCL_FLOAT32, (int)((g->rank + g->n - 1) % g->n), g->comm, g->stream);
	last = l->ncclGroupEnd();
	return r == NCCL_OK || r == NCCL_IN_PROGRESS ? last : r;
}

static nccl_ret start(struct gpu *g, enum op op, size_t count)
{
	const struct library *l = g->lib;

	switch (op) {
	case OP_BROADCAST:
		return l->ncclBroadcast(g->send, g->recv, count, NCCL_FLOAT32, 0, g->comm, g->stream);
	case OP_REDUCE:
		return l->ncclReduce(g->send, g->recv, count, NCCL_FLOAT32, NCCL_SUM, 0, g->comm, g->stream);
	case OP_ALL_REDUCE:
		return l->ncclAllReduce(g->send, g->recv, count, NCCL_FLOAT32, NCCL_SUM, g->comm, g->stream);
	case OP_ALL_GATHER:
		return l->ncclAllGather(g->send, g->recv, count, NCCL_FLOAT32, g->comm, g->stream);
	case OP_REDUCE_SCATTER:
		return l->ncclReduceScatter(g->send, g->recv, count, NCCL_FLOAT32, NCCL_SUM, g->comm, g->stream);
	case OP_GATHER:
		return gather(g, count);
	default:
		return send_recv(g, count);
	}
}

static int start_many(struct gpu *g, enum op op, size_t count, uint32_t times, int64_t until_ms, struct err *e)
{
	int r = 0;

	for (uint32_t i = 0; i < times && r == 0; i++) {
		nccl_ret n = start(g, op, count);

		if (n != NCCL_OK && n != NCCL_IN_PROGRESS)
			return nccl_failed(g, n, op_name(op), e);
		r = await_comm(g, until_ms, op_name(op), e);
	}
	return r;
}

/* 'warm' times before the clock runs: the first ones wake the GPU and its links. */
static int start_and_await(struct gpu *g, enum op op, size_t count, uint32_t warm, uint32_t times, int timeout_ms,
			   struct op_result *ret, struct err *e)
{
	int64_t until = now_ms() + timeout_ms;
	float ms = 0;
	cuda_ret c;
	int r = start_many(g, op, count, warm, until, e);

	if (r < 0)
		return r;
	c = g->lib->cudaEventRecord(g->begin, g->stream);
	if (c != CUDA_OK)
		return cuda_failed(g, c, op_name(op), e);
	r = start_many(g, op, count, times, until, e);
	if (r < 0)
		return r;
	c = g->lib->cudaEventRecord(g->end, g->stream);
	if (c != CUDA_OK)
		return cuda_failed(g, c, op_name(op), e);
	r = await_stream(g, until, op_name(op), e);
	if (r < 0)
		return r;
	c = g->lib->cudaEventElapsedTime(&ms, g->begin, g->end);
	if (c != CUDA_OK)
		return cuda_failed(g, c, op_name(op), e);
	ret->us = (double)ms * 1000 / times;
	return 0;
}

/* What was there before must not pass for a result. */
static int put_data(struct gpu *g, const struct op_size *s, struct err *e)
{
	cuda_ret r;

	op_fill(g->rank, g->host, s->send);
	r = g->lib->cudaMemcpy(g->send, g->host, s->send * sizeof(float), CUDA_COPY_TO_DEVICE);
	if (r == CUDA_OK)
		r = g->lib->cudaMemset(g->recv, 0xff, s->recv * sizeof(float));
	if (r == CUDA_OK) /* the stream does not wait for these by itself */
		r = g->lib->cudaDeviceSynchronize();
	return r == CUDA_OK ? 0 : cuda_failed(g, r, "copying", e);
}

/* Is what has come what must have come? */
static int look(struct gpu *g, enum op op, const struct op_size *s, struct op_result *ret, struct err *e)
{
	cuda_ret c = g->lib->cudaMemcpy(g->host, g->recv, s->recv * sizeof(float), CUDA_COPY_TO_HOST);

	if (c != CUDA_OK)
		return cuda_failed(g, c, "copying", e);
	ret->wrong = op_wrong(op, g->n, g->rank, g->host, s->count, &ret->first_wrong);
	return 0;
}

int gpu_verify(struct gpu *g, enum op op, size_t bytes, int timeout_ms, struct op_result *ret, struct err *e)
{
	struct op_size s = op_size(op, g->n, bytes);
	struct op_result out = { .us = 0 };
	int r;

	if (s.send > g->floats || s.recv > g->floats)
		return err_set(e, EINVAL, "%zu bytes are more than the buffers hold", s.bytes);
	r = put_data(g, &s, e);
	if (r == 0)
		r = start_and_await(g, op, s.count, 0, 1, timeout_ms, &out, e);
	if (r < 0)
		return r;
	r = look(g, op, &s, &out, e);
	if (r == 0)
		*ret = out;
	return r;
}

int gpu_time(struct gpu *g, enum op op, size_t bytes, uint32_t times, int timeout_ms, struct op_result *ret,
	     struct err *e)
{
	struct op_size s = op_size(op, g->n, bytes);
	struct op_result out = { .us = 0 };
	int r = start_and_await(g, op, s.count, WARM, times, timeout_ms, &out, e);

	if (r == 0) /* what was sent is still there; under load other bits fall over than alone */
		r = look(g, op, &s, &out, e);
	if (r == 0)
		*ret = out;
	return r;
}
