"""What an experiment is, what it leaves behind, and when three seeds tell two networks apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Settings = Mapping[str, Any]
"""Sizes of an experiment, plain values."""

Verdict = Literal["yes", "no", "not told apart"]


class Curve(TypedDict):
    """A measurement along an axis."""

    x: list[float]
    y: list[float]


class Measured(NamedTuple):
    """What one run of one case with one seed found."""

    values: dict[str, float]
    """By the key of the column; one that a case does not have is left out."""
    curves: dict[str, Curve]
    """For the picture, by name; the x of all seeds are the same."""


class Column(NamedTuple):
    """A figure of the cases."""

    key: str
    title: str
    unit: str


class Finding(NamedTuple):
    """A statement the numbers were asked about."""

    statement: str
    held: Verdict
    figures: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One claim, measured."""

    name: str
    """Name of its result file and picture."""
    lines: tuple[str, ...]
    """Lines of the notes, N1 to N17."""
    claim: str
    """What the notes say."""
    settings: Settings
    """Sizes of the published run."""
    tiny: Settings
    """What changes in a run of seconds, which shows that it runs and nothing else."""
    cases: tuple[str, ...]
    """What is held against each other."""
    columns: tuple[Column, ...]
    """Figures of a case; the first decides the choice of a learning rate, less is better."""
    run: Callable[[str, Settings], Measured]
    """One case under settings, which then have `lr` where `rates` are given; the seed is set."""
    findings: Callable[[Record], list[Finding]]
    """What the numbers say to the claim."""
    draw: Callable[[Record, Figure], None]
    """The picture."""
    rates: tuple[float, ...] = ()
    """Learning rates tried for every case with a seed of their own; empty where nothing is learnt."""
    tuning: Settings = field(default_factory=dict)
    """What changes while rates are tried: fewer updates, another test year."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of the runs; a count needs one."""


class Record:
    """The result file of an experiment, read by name."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self._rows = {(row["name"], row["measure"]): row for row in content["rows"]}

    @property
    def settings(self) -> Settings:
        """Sizes of the run."""
        settings: Settings = self.content["settings"]
        return settings

    def values(self, case: str, measure: str) -> list[float]:
        """One value a seed."""
        values: list[float] = self._rows[case, measure]["values"]
        return values

    def mean(self, case: str, measure: str) -> float:
        """Mean over the seeds."""
        return float(self._rows[case, measure]["mean"])

    def spread(self, case: str, measure: str) -> float:
        """Standard deviation over the seeds."""
        return float(self._rows[case, measure]["spread"])

    def curves(self, name: str) -> dict[str, list[Curve]]:
        """By case, one a seed."""
        return {case: curves[name] for case, curves in self.content["curves"].items() if name in curves}

    def figures(self, cases: Sequence[str], measure: str) -> str:
        """The means beside each other, for a sentence."""
        return " against ".join(
            f"{figure(self.mean(case, measure))} ± {figure(self.spread(case, measure))}" for case in cases
        )

    def less(self, case: str, other: str, measure: str, *, statement: str) -> Finding:
        """Whether the measure of one case is less than that of another in every pair of seeds."""
        return Finding(
            statement,
            told_apart(self.values(case, measure), self.values(other, measure)),
            self.figures((case, other), measure),
        )


def told_apart(less: Sequence[float], more: Sequence[float]) -> Verdict:
    """Whether every value of the one is below every value of the other: no seed decides it."""
    if max(less) < min(more):
        return "yes"
    return "no" if max(more) < min(less) else "not told apart"


def holds(condition: bool) -> Verdict:
    """A statement that is true or false."""
    return "yes" if condition else "no"


def figure(value: float) -> str:
    """Three significant digits, as a document shows them."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = f"{value:.3g}"
        return f"{value:.0f}" if "e" in digits else digits
    return f"{value:.1e}"


def rows_of(experiment: Experiment, found: Mapping[str, Sequence[Measured]]) -> list[dict[str, Any]]:
    """Rows of the result file: every case, every column that it has."""
    rows = []
    for case in experiment.cases:
        for column in experiment.columns:
            if column.key not in found[case][0].values:
                continue
            values = [significant(measured.values[column.key]) for measured in found[case]]
            rows.append(
                {
                    "name": case,
                    "measure": column.key,
                    "unit": column.unit,
                    "mean": significant(mean(values)),
                    "spread": significant(stdev(values)) if len(values) > 1 else 0.0,
                    "values": values,
                }
            )
    return rows


def significant(value: float) -> float:
    """Four significant digits, counts whole: what a result file keeps."""
    return float(value) if float(value).is_integer() else float(f"{value:.4g}")
