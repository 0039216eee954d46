#!/usr/bin/env bash
# Checks the engine's CUDA graphs and measures it at the published size, on a machine with one GPU and no network.
# Less than eight minutes. Needs Python with a CUDA torch, numpy, safetensors, tokenizers, soxr and torchaudio; pytest and
# transformers are used where they are. What is missing there can be brought along, in the folder gpu-packages:
#   pip install --target gpu-packages --no-deps safetensors tokenizers soxr
#   scripts/gpu_measure.sh [folder for the results]
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
mkdir -p "$out"
export PYTHONPATH=platform:model:safety:workers:.:gpu-packages NO_TORCH_COMPILE=1
python -c 'import torch; assert torch.cuda.is_available(), "no CUDA device"; print(torch.__version__, torch.cuda.get_device_name())' \
    | tee "$out/machine.txt"
if python -c 'import pytest' 2>/dev/null; then
    timeout 90 python -m pytest --noconftest -q tests/model/test_graphs.py | tee "$out/graphs.txt"
else
    echo 'pytest is not here: graphs are compared by the benchmark alone' | tee "$out/graphs.txt"
fi
timeout 380 python -m benchmarks.engine --size 7b | tee "$out/engine-7b.md"
