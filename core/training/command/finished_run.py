"""What is left of a run when it ends: its metrics beside those of the baselines, as a file and as a table."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.training.module import ApplicationModule

Metrics = Mapping[str, float]

METRICS_FILE = "metrics.json"
TEST_FILE = "test_metrics.json"


@dataclass
class FinishedRun:
    """A tested run, handed to its application for tables and pictures.

    Attributes:
        module: with the weights of best.ckpt.
        data: its DataModule, set up.
        run_dir: its folder.
        metrics: the test metrics, baselines that are measured in the same pass under `<baseline>/<metric>`.
        baseline: the feed-forward baseline (notes N1), trained on the same data in the same way; None where not wanted.
        baseline_metrics: its test metrics.
        facts: what else is worth keeping: seconds, steps, parameters, share of time spent waiting for data.
    """

    module: Any
    data: Any
    run_dir: Path
    metrics: Metrics
    baseline: ApplicationModule | None = None
    baseline_metrics: Metrics = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def forecasters(self) -> dict[str, dict[str, float]]:
        """Metrics by who made them: `ours` first, then each baseline."""
        table: dict[str, dict[str, float]] = {"ours": {}}
        for name, value in self.metrics.items():
            who, _, metric = name.rpartition("/")
            table.setdefault(who or "ours", {})[metric] = value
        if self.baseline_metrics:
            table["feed_forward"] = {name: value for name, value in self.baseline_metrics.items() if "/" not in name}
        return table

    def write(self) -> Path:
        """Write `metrics.json` into the run's folder, or `test_metrics.json` for a test without a training."""
        table = self.forecasters()
        content = {
            "metrics": strict(table.pop("ours")),
            "baselines": {who: strict(values) for who, values in table.items()},
            **self.facts,
        }
        path = self.run_dir / (METRICS_FILE if self.facts else TEST_FILE)
        write_whole(path, json.dumps(content, indent=2, default=str) + "\n")
        return path


def strict(values: Metrics) -> dict[str, float | None]:
    """Metrics as JSON has them."""
    # NaN and infinity are no JSON; a metric without a value (no series has a MASE unit, say) is null.
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by tempfile, whose files only their owner may read: a run's folder is often shared.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def format_table(rows: Mapping[str, Metrics], metrics: Sequence[str], *, names: Mapping[str, str] | None = None) -> str:
    """Metrics as a table for the terminal; one row a forecaster, absent values as a dash."""
    names = names or {}
    labels = {who: names.get(who, who) for who in rows}
    width = max(len(label) for label in labels.values())
    header = " " * width + "".join(f"{metric:>12}" for metric in metrics)
    lines = [header, "-" * len(header)]
    for who, values in rows.items():
        lines.append(f"{labels[who]:<{width}}" + "".join(f"{_number(values.get(metric)):>12}" for metric in metrics))
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    # Whole numbers as long as they fit their column.
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
