#!/bin/bash
# torch.sh [BUILD] - test bed: ranks below the real torchrun, of PyTorch for the CPU
#
# Makes a virtual environment with PyTorch from the Python index that pip is set up
# for (about 200 MB for the CPU's; more where only CUDA's is there), unless
# TORCH_PYTHON names a Python that has it. No GPU is used. Leaves nothing behind
# but the environment, in .check/torch.
set -eu
cd "$(dirname "$0")/../.."
python=${TORCH_PYTHON:-.check/torch/bin/python}
if ! "$python" -c 'import torch' 2>/dev/null; then
	[ -z "${TORCH_PYTHON:-}" ] || {
		echo "torch.sh: $python has no torch" >&2
		exit 1
	}
	python3 -m venv .check/torch
	.check/torch/bin/pip install --quiet torch numpy || {
		echo "torch.sh: PyTorch cannot be installed from here; TORCH_PYTHON=/path/to/python names one that has it" >&2
		exit 1
	}
fi
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/testbeds/torch_workers.py "${1:-build}" "$python"
