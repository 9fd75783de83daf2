/* abi.h - the part of the CUDA runtime and of NCCL that is used, as their
 * public headers document it
 *
 * Declared here so that building needs neither. Everything has been in
 * libcudart since CUDA 11.0, and in libnccl.so.2 since 2.4, but what is marked
 * "may lack". tests/testbeds/nccl_abi.sh compares the values with real headers.
 */
#ifndef NA_NCCL_ABI_H
#define NA_NCCL_ABI_H

#include <stddef.h>

typedef int cuda_ret; /* cudaError_t */
typedef struct cuda_stream *cuda_stream;
typedef struct cuda_event *cuda_event;

enum {
	CUDA_OK = 0,
	CUDA_INSUFFICIENT_DRIVER = 35,
	CUDA_NO_DEVICE = 100,
	CUDA_NOT_READY = 600,
};
#define CUDA_COPY_TO_DEVICE 1 /* cudaMemcpyKind */
#define CUDA_COPY_TO_HOST 2
#define CUDA_STREAM_NON_BLOCKING 1u

/* X(name, parameters, needed) */
#define CUDA_FUNCTIONS(X)                                                                          \
	X(cudaGetDeviceCount, (int *n), 1)                                                         \
	X(cudaSetDevice, (int device), 1)                                                          \
	X(cudaDeviceGetPCIBusId, (char *out, int size, int device), 1)                             \
	X(cudaRuntimeGetVersion, (int *version), 1) /* 13000 is 13.0 */                            \
	X(cudaDriverGetVersion, (int *version), 1) /* the CUDA that the driver can do; 0: none */  \
	X(cudaMalloc, (void **p, size_t bytes), 1)                                                 \
	X(cudaFree, (void *p), 1)                                                                  \
	X(cudaMemcpy, (void *to, const void *from, size_t bytes, int kind), 1)                     \
	X(cudaMemset, (void *p, int byte, size_t bytes), 1)                                        \
	X(cudaDeviceSynchronize, (void), 1)                                                        \
	X(cudaStreamCreateWithFlags, (cuda_stream *s, unsigned flags), 1)                          \
	X(cudaStreamQuery, (cuda_stream s), 1)                                                     \
	X(cudaStreamDestroy, (cuda_stream s), 1)                                                   \
	X(cudaEventCreate, (cuda_event *e), 1)                                                     \
	X(cudaEventDestroy, (cuda_event e), 1)                                                     \
	X(cudaEventRecord, (cuda_event e, cuda_stream s), 1)                                       \
	X(cudaEventElapsedTime, (float *ret_ms, cuda_event from, cuda_event to), 1)

typedef int nccl_ret; /* ncclResult_t */
typedef struct nccl_comm *nccl_comm;

enum {
	NCCL_OK = 0,
	NCCL_IN_PROGRESS = 7,
};

#define NCCL_FLOAT32 7 /* ncclDataType_t */
#define NCCL_SUM 0 /* ncclRedOp_t */

struct nccl_id { /* ncclUniqueId */
	char bytes[128];
};

/* ncclConfig_t as of 2.14: a library takes the struct of an older one. */
struct nccl_config {
	size_t size;
	unsigned magic, version;
	int blocking;
};
#define NCCL_CONFIG_MAGIC 0xcafebeefu
#define NCCL_CONFIG_VERSION 21400

/* X(name, parameters, needed) */
#define NCCL_FUNCTIONS(X)                                                                          \
	X(ncclGetVersion, (int *version), 1) /* 22809 is 2.28.9; up to 2.8 another code */         \
	X(ncclGetUniqueId, (struct nccl_id *id), 1)                                                \
	X(ncclCommInitRank, (nccl_comm *c, int n, struct nccl_id id, int rank), 1)                 \
	X(ncclCommInitRankConfig,                                                                  \
	  (nccl_comm *c, int n, struct nccl_id id, int rank, struct nccl_config *config), 0)       \
	X(ncclCommGetAsyncError, (nccl_comm c, nccl_ret *ret), 1)                                  \
	X(ncclCommAbort, (nccl_comm c), 1)                                                         \
	X(ncclCommDestroy, (nccl_comm c), 1)                                                       \
	X(ncclBroadcast, (const void *from, void *to, size_t n, int type, int root, nccl_comm c,   \
			  cuda_stream s), 1)                                                       \
	X(ncclReduce, (const void *from, void *to, size_t n, int type, int op, int root,           \
		       nccl_comm c, cuda_stream s), 1)                                             \
	X(ncclAllReduce, (const void *from, void *to, size_t n, int type, int op, nccl_comm c,     \
			  cuda_stream s), 1)                                                       \
	X(ncclAllGather, (const void *from, void *to, size_t n, int type, nccl_comm c,             \
			  cuda_stream s), 1)                                                       \
	X(ncclReduceScatter, (const void *from, void *to, size_t n, int type, int op, nccl_comm c, \
			      cuda_stream s), 1)                                                   \
	X(ncclSend, (const void *from, size_t n, int type, int peer, nccl_comm c, cuda_stream s),  \
	  1) /* since 2.7 */                                                                       \
	X(ncclRecv, (void *to, size_t n, int type, int peer, nccl_comm c, cuda_stream s), 1)       \
	X(ncclGroupStart, (void), 1)                                                               \
	X(ncclGroupEnd, (void), 1)

#endif
