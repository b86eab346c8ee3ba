"""Checks the networks of `core.nn` on a GPU against the CPU, then times them there.

    bash scripts/gpu_check.sh [--device cuda] [--small] [--parity_only] [--output FOLDER] [--record FILE]

Parity: every recurrent layer against its cell in a plain float64 loop on the CPU (outputs, states, all gradients, with
and without padding, in evaluation and training), and every other network against itself there; float64 to 1e-10, float32
(without TF32) to 1e-4, bfloat16 to 0.1. Then the table of `benchmarks.recurrent` on the same device. FOLDER receives
parity.json and benchmarks.json, FILE both in short: the cases counted, the worst of each precision, and the table. Needs
torch, torchvision, pytorch-lightning and jaxtyping; ends within nine minutes, with status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from scripts import parity_networks, parity_recurrent, provenance
from scripts.parity import TOLERANCES, Outcome, run

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "jaxtyping")
SECONDS = 530
"""For everything; what the parity leaves is the timing's."""


def main(arguments: list[str] | None = None) -> int:
    """Compare, write, time; 1 if anything differs."""
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help="where to compute (default: cuda where there is one)")
    parser.add_argument("--small", action="store_true", help="a part of the cases, and tiny timings")
    parser.add_argument("--parity_only", action="store_true", help="no timing")
    parser.add_argument("--output", type=Path, default=Path("runs/gpu_check"), help="folder for the records")
    parser.add_argument("--record", type=Path, help="file for a summary, such as benchmarks/results/gpu_check.json")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"there is no {given.device} for PyTorch {torch.__version__} here. Leave --device out, or say cpu."
        )
    if given.record is not None and given.record.is_dir():
        parser.error(f"--record must be a file to write, but {given.record} is a folder.")
    for folder in (given.output, *([given.record.parent] if given.record else [])):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"{folder} cannot be made, for {error.strerror}: {error.filename}.")
    start = time.monotonic()
    commit = _commit()
    forbid_tf32()
    checks = chain(parity_recurrent.checks(small=given.small), parity_networks.checks(small=given.small))
    outcomes = run(checks, device, report=_print_failure)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    _print_summary(outcomes)
    about = {"commit": commit, "device": given.device, "machine": _machine(device), "versions": _versions()}
    took = {"duration_s": round(time.monotonic() - start, 1)}
    record = {**about, **took, "failed": len(failed), "checks": [asdict(outcome) for outcome in outcomes]}
    _write(given.output / "parity.json", record)
    rows = given.output / "benchmarks.json"
    rows.unlink(missing_ok=True)  # of an earlier check
    timed = True
    if not given.parity_only:
        timed = _time(given, rows, seconds=SECONDS - (time.monotonic() - start))
    if given.record is not None:
        table = json.loads(rows.read_text(encoding="utf-8")) if rows.is_file() else []
        _write(given.record, {**about, "parity": _summary(outcomes), "rows": table})
    return 1 if failed or not timed else 0


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}", flush=True)


def forbid_tf32() -> None:
    """Float32 with 24 bits of precision: cuDNN would round the factors of convolutions and recurrences to 11."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _print_failure(outcome: Outcome) -> None:
    if outcome.passed:
        return
    found = "" if outcome.error is None else f"differs by {outcome.error:.1e} (tolerance {outcome.tolerance:.0e}): "
    print(f"FAILED {outcome.name} [{outcome.precision}]: {found}{outcome.message}", file=sys.stderr, flush=True)


def _summary(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """By precision: how many cases there were, how many failed, and the worst of what could be measured."""
    total, failed = Counter(o.precision for o in outcomes), Counter(o.precision for o in outcomes if not o.passed)
    lines = []
    for precision in total:
        measured = [outcome for outcome in outcomes if outcome.precision == precision and outcome.error is not None]
        worst = max(measured, key=lambda outcome: outcome.error or 0.0, default=None)
        lines.append(
            {
                "precision": precision,
                "cases": total[precision],
                "failed": failed[precision],
                "worst": None if worst is None else worst.error,
                "allowed": TOLERANCES[precision],
                "worst_case": None if worst is None else f"{worst.name}: {worst.message}",
            }
        )
    return lines


def _print_summary(outcomes: list[Outcome]) -> None:
    print(f"{'precision':<12}{'cases':>6}{'failed':>8}{'worst':>10}{'allowed':>10}  worst case")
    for line in _summary(outcomes):
        worst = "-" if line["worst"] is None else f"{line['worst']:.1e}"
        print(
            f"{line['precision']:<12}{line['cases']:>6}{line['failed']:>8}{worst:>10}{line['allowed']:>10.0e}  "
            f"{line['worst_case'] or '-'}"
        )


def _time(given: argparse.Namespace, rows: Path, *, seconds: float) -> bool:
    """The timings, in a process of their own with a time limit; whether they came to their end, and without a difference."""
    command = [sys.executable, "-m", "benchmarks.recurrent", "--device", given.device]
    command += ["--pairs", "3" if given.small else "5", "--output", str(rows.resolve())]
    command += ["--small"] if given.small else []
    # The libraries' own switch: the benchmarks set none.
    environment = {**os.environ, "NVIDIA_TF32_OVERRIDE": "0"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, timeout=max(1.0, seconds), check=False)
    except subprocess.TimeoutExpired:
        print(f"FAILED benchmarks: not done in the {seconds:.0f} s that were left", file=sys.stderr)
        return False
    if done.returncode != 0:
        print(f"FAILED benchmarks: status {done.returncode}, see above", file=sys.stderr)
    return done.returncode == 0


def _commit() -> str | None:
    """What is checked; None where this is no checkout, or there is no git."""
    try:
        return provenance.commit()
    except (OSError, subprocess.CalledProcessError):
        return None


def _machine(device: torch.device) -> str:
    if device.type != "cuda":
        return provenance.machine()
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB; {provenance.machine()}"


def _versions() -> dict[str, Any]:
    versions: dict[str, Any] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions | {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    sys.exit(main())
