/* nccl_abi.c - do daemon/nccl/abi.h's values and structs agree with the real headers? See nccl_abi.sh */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <stddef.h>

#include "daemon/nccl/abi.h"

#define SAME(a, b) _Static_assert((long long)(a) == (long long)(b), #a " is not " #b)

SAME(CUDA_OK, cudaSuccess);
SAME(CUDA_INSUFFICIENT_DRIVER, cudaErrorInsufficientDriver);
SAME(CUDA_NO_DEVICE, cudaErrorNoDevice);
SAME(CUDA_NOT_READY, cudaErrorNotReady);
SAME(CUDA_COPY_TO_DEVICE, cudaMemcpyHostToDevice);
SAME(CUDA_COPY_TO_HOST, cudaMemcpyDeviceToHost);
SAME(CUDA_STREAM_NON_BLOCKING, cudaStreamNonBlocking);
SAME(NCCL_OK, ncclSuccess);
SAME(NCCL_IN_PROGRESS, ncclInProgress);
SAME(NCCL_FLOAT32, ncclFloat32);
SAME(NCCL_SUM, ncclSum);
SAME(sizeof(struct nccl_id), sizeof(ncclUniqueId));
SAME(sizeof(cudaError_t), sizeof(cuda_ret));
SAME(sizeof(ncclResult_t), sizeof(nccl_ret));
SAME(sizeof(ncclDataType_t), sizeof(int));
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 14, 0)
SAME(offsetof(struct nccl_config, magic), offsetof(ncclConfig_t, magic));
SAME(offsetof(struct nccl_config, version), offsetof(ncclConfig_t, version));
SAME(offsetof(struct nccl_config, blocking), offsetof(ncclConfig_t, blocking));
static const ncclConfig_t usual = NCCL_CONFIG_INITIALIZER;
#endif

/* Parameters: a pointer to each real function must fit. */
typedef ncclResult_t (*init_fits)(ncclComm_t *, int, ncclUniqueId, int);
typedef ncclResult_t (*reduce_fits)(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, int, ncclComm_t, cudaStream_t);
typedef ncclResult_t (*scatter_fits)(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t);
typedef ncclResult_t (*send_fits)(const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
static init_fits const a = ncclCommInitRank;
static reduce_fits const b = ncclReduce;
static scatter_fits const c = ncclReduceScatter;
static send_fits const d = ncclSend;

int main(void)
{
	return a == 0 || b == 0 || c == 0 || d == 0 || usual.magic != NCCL_CONFIG_MAGIC;
}
