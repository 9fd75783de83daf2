#!/bin/sh
# nccl_abi.sh [FOLDER_WITH_NCCL_H [FOLDER_WITH_CUDA_HEADERS]] - compiles nccl_abi.c against real headers of CUDA and NCCL
#
# Says "agrees" with the versions, or the compiler says what differs.
set -eu
cd "$(dirname "$0")/../.."
nccl=${1:-/usr/include} cuda=${2:-/usr/local/cuda/include}
if [ ! -e "$nccl/nccl.h" ] || [ ! -e "$cuda/cuda_runtime_api.h" ]; then
	echo "no nccl.h in $nccl or no CUDA headers in $cuda: give their folders"
	exit 3
fi
"${CC:-gcc}" -std=gnu11 -I. -I"$nccl" -I"$cuda" -fsyntax-only tests/testbeds/nccl_abi.c
echo "agrees with NCCL $(sed -n 's/^#define NCCL_VERSION_CODE *//p' "$nccl/nccl.h"), CUDA $(sed -n 's/^#define CUDART_VERSION *//p' "$cuda/cuda_runtime_api.h")"
