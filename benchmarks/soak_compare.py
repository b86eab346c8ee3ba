"""What is left of a run, and where two runs that should be the same differ."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from core.training.checkpoints.files import read_checkpoint

CHECKPOINTS = ("last.ckpt", "best.ckpt")
# How long something took, and what follows from that, differs between two runs that are the same.
OF_THE_CLOCK = re.compile(r"second|minute|wait|time|throughput|memory|(^|/)(fit|train)$", re.IGNORECASE)
MOST_SHOWN = 6


def differences_of_runs(run_dir: Path, reference: Path) -> list[str]:
    """What differs between two runs: checkpoints with their optimiser states, logged metrics, test metrics; by name.

    Args:
        run_dir: folder of the run that was interrupted.
        reference: folder of the run that was not.
    """
    found: list[str] = []
    for name in CHECKPOINTS:
        ours, theirs = (folder / "checkpoints" / name for folder in (run_dir, reference))
        if not ours.is_file():
            found.append(f"{name} is missing")
            continue
        stored = [read_checkpoint(path) for path in (ours, theirs)]
        for checkpoint in stored:
            # Lightning's counters; what they were is not used (core/training/resume.py), the position is compared.
            del checkpoint["loops"]
        found += differences(*stored, where=name)
    found += differences(logged(run_dir), logged(reference), where="logged")
    if not (run_dir / "metrics.json").is_file():
        return [*found, "metrics.json is missing"]
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (run_dir, reference))
    return found + differences(ours, theirs, where="metrics.json")


def logged(run_dir: Path) -> dict[str, str]:
    """Every logged value as it was written, under `step:name`.

    A resumed run goes on in a file of its own. A step that both files have is that of the resumed run, whose predecessor
    was killed after it had logged the step and before it was in a checkpoint.
    """
    values: dict[str, str] = {}
    for path in sorted(run_dir.rglob("metrics.csv"), key=_by_numbers):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name != "step":
                        values[f"{row['step']}:{name}"] = value
    return values


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    """Version 10 comes after version 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def differences(ours: Any, theirs: Any, *, where: str) -> list[str]:
    """Where two values of plain data and tensors differ, bit for bit, times left out; the first few of them, by path."""
    found = list(_differences(ours, theirs, where))
    if len(found) > MOST_SHOWN:
        found = [*found[:MOST_SHOWN], f"... and {len(found) - MOST_SHOWN} more in {where}"]
    return found


def _differences(ours: Any, theirs: Any, where: str) -> Iterator[str]:
    if type(ours) is not type(theirs):
        yield f"{where}: {type(ours).__name__}, not {type(theirs).__name__}"
    elif isinstance(ours, dict):
        for key in sorted(ours.keys() | theirs.keys(), key=str):
            # A tensor is never a time, whatever its name reminds of.
            if OF_THE_CLOCK.search(str(key)) and isinstance(ours.get(key, theirs.get(key)), float | str):
                continue
            if key not in ours or key not in theirs:
                yield f"{where}.{key}: {'missing' if key not in ours else 'not in the uninterrupted run'}"
            else:
                yield from _differences(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        if len(ours) != len(theirs):
            yield f"{where}: {len(ours)} entries, not {len(theirs)}"
        for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from _differences(one, other, f"{where}.{number}")
    elif isinstance(ours, torch.Tensor):
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            yield f"{where}: {ours.dtype} {tuple(ours.shape)}, not {theirs.dtype} {tuple(theirs.shape)}"
        elif not torch.equal(ours, theirs):
            yield f"{where}: differs by up to {float((ours.double() - theirs.double()).abs().max()):.2e}"
    elif repr(ours) != repr(theirs):  # which tells apart what differs in the last bit, and takes NaN for NaN
        yield f"{where}: {ours!r}, not {theirs!r}"
