"""How evenly clips are spread over classes, and weights of a loss that make up for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64

WeightKind = Literal["inverse_frequency", "effective_number"]
WEIGHT_KINDS: tuple[WeightKind, ...] = get_args(WeightKind)


def class_weights(
    counts: Int64[np.ndarray, "classes"], kind: WeightKind, *, beta: float = 0.999
) -> Float64[np.ndarray, "classes"]:
    """What a clip of each class counts in the loss; on average over all training clips 1, so that the loss keeps its scale.

    Args:
        counts: training clips of each class, at least 1.
        kind: inverse_frequency: 1 / n, so that all classes count alike. effective_number: (1 - beta) / (1 - beta^n), which
            gives classes of many clips more: a further clip of many shows little that is new. Cui et al., "Class-Balanced Loss
            Based on Effective Number of Samples", CVPR 2019, eq. 4.
        beta: of the effective number, at least 0 (no weights) and below 1 (towards it: inverse frequency). No other kind
            looks at it.

    Returns:
        Weight of each class, above 0.

    Raises:
        ValueError: a class has no clip, or the kind or beta is none.
    """
    if kind not in WEIGHT_KINDS:
        raise ValueError(f"Weights of classes are one of {', '.join(WEIGHT_KINDS)}, got {kind!r}.")
    if len(counts) == 0 or counts.min() < 1:
        empty = np.flatnonzero(counts < 1).tolist()
        raise ValueError(
            f"Weights need at least one clip to train on of every class; classes {empty} (from 0) have none."
        )
    if kind == "inverse_frequency":
        raw = 1 / counts
    else:
        if not 0 <= beta < 1:
            raise ValueError(f"beta of the effective number must be at least 0 and below 1, got {beta}.")
        # 1 - beta^n without the loss of digits that beta near 1 would bring.
        raw = np.ones(len(counts)) if beta == 0 else 1 / -np.expm1(counts * math.log(beta))
    weights: Float64[np.ndarray, "classes"] = raw * (counts.sum() / (counts * raw).sum())
    return weights


@dataclass(frozen=True)
class ClassBalance:
    """Clips of each class in each part."""

    class_names: Sequence[str]
    counts: Mapping[str, Int64[np.ndarray, "classes"]]
    """Of each part, clips of each class."""

    def __post_init__(self) -> None:
        if not self.class_names or any(len(counts) != len(self.class_names) for counts in self.counts.values()):
            raise ValueError(
                f"Each part needs a count for each of {len(self.class_names)} classes, got "
                f"{', '.join(f'{len(counts)} ({part})' for part, counts in self.counts.items())}."
            )

    def smallest(self, part: str) -> tuple[str, int]:
        """Name and clips of the class with the fewest clips; the first of several."""
        place = int(self.counts[part].argmin())
        return self.class_names[place], int(self.counts[part][place])

    def largest(self, part: str) -> tuple[str, int]:
        """Name and clips of the class with the most clips; the first of several."""
        place = int(self.counts[part].argmax())
        return self.class_names[place], int(self.counts[part][place])

    def ratio(self, part: str) -> float:
        """Clips of the largest class for one of the smallest; inf where that has none."""
        fewest, most = int(self.counts[part].min()), int(self.counts[part].max())
        return most / fewest if fewest else math.inf

    def majority_share(self, part: str) -> float:
        """Accuracy of whoever always says the part's largest class; 0 for a part without clips."""
        total = int(self.counts[part].sum())
        return int(self.counts[part].max()) / total if total else 0.0

    def table(self) -> str:
        """A line a class, the largest of the first part first, and the sums; a line a part that says how even it is."""
        parts = list(self.counts)
        order = np.argsort(-self.counts[parts[0]], kind="stable") if parts else range(len(self.class_names))
        rows = [["class", *parts]]
        rows += [[self.class_names[row], *(str(self.counts[part][row]) for part in parts)] for row in order]
        rows.append(["all", *(str(self.counts[part].sum()) for part in parts)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in cells
            ).rstrip()
            for cells in (enumerate(zip(row, widths, strict=True)) for row in rows)
        ]
        return "\n".join(lines + [self._line(part) for part in parts])

    def summary(self, part: str) -> str:
        """How many clips and classes a part has, and how even they are, in a line."""
        return f"{self.counts[part].sum()} clips of {len(self.class_names)} classes; {self._line(part)}"

    def _line(self, part: str) -> str:
        (small, fewest), (large, most) = self.smallest(part), self.largest(part)
        return (
            f"{part}: {fewest} ({small}) to {most} ({large}) clips a class, imbalance {self.ratio(part):.3g}; the largest "
            f"class alone is {self.majority_share(part):.1%}."
        )
