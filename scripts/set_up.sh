#!/usr/bin/env bash
# Makes .venv with the pinned packages of constraints.txt. `make` calls it when they have changed.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step() { # name, advice, command ...
    local name=$1 advice=$2
    shift 2
    printf 'set-up: %s ... ' "$name"
    if "$@" >"$log" 2>&1; then
        echo done
    else
        echo failed
        tail -n 25 "$log" >&2
        printf '\nset-up failed at: %s\n%s\n' "$name" "$advice" >&2
        exit 1
    fi
}

step 'Python 3.11 or newer' "Install it, or name it: make PYTHON=/path/to/python3.11 ..." \
    "$PYTHON" -c 'import sys; sys.exit(f"found {sys.version}" if sys.version_info < (3, 11) else 0)'
step 'virtual environment .venv' "On Debian: apt-get install python3-venv" \
    "$PYTHON" -m venv .venv
step 'packages (several GB the first time, some minutes)' "Check the network and the free disk space, then run make again." \
    .venv/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev,pretrained]'
step 'torch and torchvision fit together' "Both must be builds of the same kind; remove .venv and run make again." \
    .venv/bin/python -c 'import torch, torchvision; torchvision.ops.nms'
touch .venv/.installed
