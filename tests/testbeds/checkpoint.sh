#!/bin/bash
# checkpoint.sh [BUILD] - test bed: a real PyTorch training comes back at its step after a node is lost
#
# torchrun over three nodes' agents, gloo, one checkpoint every few steps; the
# agent, the shim and the ranks of one node are killed, and with --max-restarts the
# job goes on from its last checkpoint: its weights must be, bit for bit, those of a
# run that nothing happened to. PyTorch as in torch.sh (.check/torch, or
# TORCH_PYTHON). No GPU is used. Leaves nothing running.
set -eu
cd "$(dirname "$0")/../.."
python=${TORCH_PYTHON:-.check/torch/bin/python}
if ! "$python" -c 'import torch' 2>/dev/null; then
	[ -z "${TORCH_PYTHON:-}" ] || {
		echo "checkpoint.sh: $python has no torch" >&2
		exit 1
	}
	python3 -m venv .check/torch
	.check/torch/bin/pip install --quiet torch numpy || {
		echo "checkpoint.sh: PyTorch cannot be installed from here; TORCH_PYTHON=/path/to/python names one that has it" >&2
		exit 1
	}
fi
PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 tests/testbeds/checkpoint.py "${1:-build}" "$python"
