"""What the steps of a run work on: units, padding and memory, counted so that it holds over pieces and processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

MEGABYTE = 1e6


class Workload(NamedTuple):
    """What one piece of a batch holds; filler examples (weight 0) have slots alone.

    Numbers are Python's or tensors of one element on whatever device, which nobody reads before the epoch ends: reading
    would wait for a GPU.
    """

    units: Tensor | int
    """In the application's unit: tokens, windows, images, frames."""
    steps: Tensor | int
    """Valid time steps, over all padded sides."""
    slots: Tensor | int
    """Time steps with their padding."""

    @classmethod
    def of_lengths(
        cls, lengths: Tensor, *, size: Tensor | int, weight: Tensor, units: Tensor | None = None
    ) -> Workload:
        """The work of a padded batch.

        Args:
            lengths: valid steps of each row, int64 (rows,).
            size: steps of each row with its padding.
            weight: of each row, (rows,).
            units: of each row, (rows,); None: its steps.
        """
        counts = weight > 0
        steps = (lengths * counts).sum()
        return cls(steps if units is None else (units * counts).sum(), steps, size * len(lengths))

    def __add__(self, other: Workload) -> Workload:  # type: ignore[override]  # sums, not a longer tuple
        return Workload(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))


def peak_memory() -> float:
    """The most main memory that this process has had resident so far, in MB (10^6 bytes); its loaders' workers not counted."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage, in which a process inherits the peak of the one that started it.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024 / MEGABYTE
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / MEGABYTE


def device_name(device: torch.device) -> str:
    """What computes: the name of a GPU as its maker gives it, or the kind of any other device (`cpu`)."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_gpu_memory(device: torch.device) -> float | None:
    """The most memory that tensors have had on a GPU so far, in MB (10^6 bytes); None elsewhere."""
    return torch.cuda.max_memory_allocated(device) / MEGABYTE if device.type == "cuda" else None
