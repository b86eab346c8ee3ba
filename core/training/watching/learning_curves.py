"""How a run has learnt, as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.training.watching.figures import COLOURS, INK, MUTED, new_figure, save_figure

Panel = tuple[str, tuple[str, ...]]
"""What is drawn, with its unit, and the names of the metrics."""


def plot_learning_curves(run_dir: Path, path: Path, *, panels: Sequence[Panel]) -> bool:
    """Metrics by epoch, from the run's CSV log; False, and no picture, where there is no log."""
    epochs = read_epochs(run_dir)
    if not epochs:
        return False
    figure, axes = new_figure(1, len(panels), width=8.5, height=3.2)
    for axis, (label, names) in zip(axes.flat, panels, strict=True):
        for number, name in enumerate(names):
            points = [(epoch + 1, values[name]) for epoch, values in epochs.items() if name in values]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, color=COLOURS[number], marker="o", markersize=3)
        axis.set_xlabel("epoch", fontsize=9, color=MUTED)
        axis.set_title(label, loc="left", color=INK, fontsize=10)
        axis.xaxis.get_major_locator().set_params(integer=True)
        if axis.lines:  # a run may end before its first validation
            axis.legend(frameon=False, fontsize=8.5)
    save_figure(figure, path)
    return True


def read_epochs(run_dir: Path) -> dict[int, dict[str, float]]:
    """What the CSV logger wrote of each epoch; a run that resumed has written into more than one file."""
    epochs: dict[int, dict[str, float]] = {}
    for file in sorted((run_dir / "csv").rglob("metrics.csv"), key=lambda found: found.stat().st_mtime):
        with file.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                values: dict[str, Any] = {
                    name: float(value) for name, value in row.items() if value and name != "epoch"
                }
                if row.get("epoch"):
                    epochs.setdefault(int(float(row["epoch"])), {}).update(values)
    return epochs
