#!/usr/bin/env bash
# Parity of every network on a GPU with the CPU, then timings there: `bash scripts/gpu_check.sh --help`.
# Runs in .venv, or in the Python that is named (PYTHON=...) or found, which needs torch, torchvision, pytorch-lightning
# and jaxtyping; packages in a folder of their own are found through PYTHONPATH.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
exec "$PYTHON" -m scripts.gpu_check "$@"
