#!/usr/bin/env bash
# Installs Debian's Slurm for `make test-cluster`, where it is not there yet. Needs root.
set -uo pipefail
if command -v slurmctld slurmd munged sbatch >/dev/null; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "make test-cluster needs Slurm (slurmctld, slurmd, munged, sbatch): on Debian or Ubuntu, run it as root." >&2
    exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
printf 'set-up: Slurm ... '
export DEBIAN_FRONTEND=noninteractive
packages=(slurm-wlm slurmctld slurmd slurm-client munge)
if ! { apt-get install -y --no-install-recommends "${packages[@]}" ||
    { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; }; } >"$log" 2>&1; then
    echo failed
    tail -n 25 "$log" >&2
    exit 1
fi
echo done
