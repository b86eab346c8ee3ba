"""Which rows of a panel train, validate and test: always in the order of time."""

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from data.panels.panel import Panel


@dataclass(frozen=True)
class SplitConfig(ABC):
    """Which rows of each series train, validate and test."""

    @abstractmethod
    def part_ends(self, panel: Panel) -> Int64[np.ndarray, "num_series 3"]:
        """Ends of the training, validation and test part, rows from the start of each series; they may lie beyond it."""


@dataclass(frozen=True)
class SplitByRows(SplitConfig):
    """Parts of fixed length, counted from the start of each series (the ETT benchmarks: 8640, 2880, 2880)."""

    train: int
    """Rows to train on, at least 1."""
    validation: int
    """Rows after them to validate on."""
    test: int | None = None
    """Rows after those to test on; null = all the rest."""

    def __post_init__(self) -> None:
        if self.train < 1 or self.validation < 0 or (self.test is not None and self.test < 0):
            raise ValueError(
                f"A split by rows needs train >= 1, validation >= 0 and test >= 0 or null, "
                f"got {self.train}, {self.validation}, {self.test}."
            )

    def part_ends(self, panel: Panel) -> Int64[np.ndarray, "num_series 3"]:
        """The same rows in every series."""
        ends = np.empty((panel.num_series, 3), np.int64)
        ends[:, 0] = self.train
        ends[:, 1] = self.train + self.validation
        ends[:, 2] = panel.lengths if self.test is None else ends[:, 1] + self.test
        return ends


@dataclass(frozen=True)
class SplitByFraction(SplitConfig):
    """Parts as fractions of each series: train and test are rounded down, validation is what lies between."""

    train: float = 0.7
    """Fraction to train on, above 0."""
    validation: float = 0.1
    """Fraction after it to validate on."""
    test: float = 0.2
    """Fraction after that to test on. If the three are less than 1 together, the last rows are left out."""

    def __post_init__(self) -> None:
        total = self.train + self.validation + self.test
        if self.train <= 0 or self.validation < 0 or self.test < 0 or total > 1 + 1e-9:
            raise ValueError(
                f"A split by fractions needs train > 0, validation >= 0, test >= 0 and a sum of at most 1, "
                f"got {self.train}, {self.validation}, {self.test} (sum {total:g})."
            )

    def part_ends(self, panel: Panel) -> Int64[np.ndarray, "num_series 3"]:
        """The same shares of every series."""
        lengths = panel.lengths
        ends = np.empty((panel.num_series, 3), np.int64)
        # 0.29 x 100 is 28.999999999999996: a fraction that gives a whole number of rows must get them all.
        ends[:, 0] = np.floor(lengths * self.train + 1e-6)
        ends[:, 2] = np.floor(lengths * (self.train + self.validation + self.test) + 1e-6)
        num_test = np.floor(lengths * self.test + 1e-6).astype(np.int64)
        ends[:, 1] = np.maximum(ends[:, 2] - num_test, ends[:, 0])
        return ends


@dataclass(frozen=True)
class SplitByDate(SplitConfig):
    """Parts by the calendar: the same dates for every series. ISO 8601; a date alone is its midnight."""

    validation_from: str
    """First date to validate on; all before is for training."""
    test_from: str
    """First date to test on."""
    until: str | None = None
    """First date left out; null = to the end of each series."""

    def __post_init__(self) -> None:
        dates = [
            _parse_date(name, text)
            for name, text in (
                ("validation_from", self.validation_from),
                ("test_from", self.test_from),
                ("until", self.until),
            )
            if text is not None
        ]
        if any(later < earlier for earlier, later in itertools.pairwise(dates)):
            raise ValueError(
                f"A split by date needs validation_from <= test_from <= until, "
                f"got {self.validation_from}, {self.test_from}, {self.until}."
            )

    def part_ends(self, panel: Panel) -> Int64[np.ndarray, "num_series 3"]:
        """The rows before the same dates in every series."""
        ends = np.empty((panel.num_series, 3), np.int64)
        ends[:, 0] = _rows_before(panel, _parse_date("validation_from", self.validation_from))
        ends[:, 1] = _rows_before(panel, _parse_date("test_from", self.test_from))
        ends[:, 2] = panel.lengths if self.until is None else _rows_before(panel, _parse_date("until", self.until))
        return ends


def split_boundaries(panel: Panel, split: SplitConfig) -> Int64[np.ndarray, "num_series 4"]:
    """Where the parts of each series lie: [train start, train end, validation end, test end], rows from its start.

    A part may be empty (a series that ended before the test part begins). Its targets lie wholly within the part;
    contexts may reach back before it, as the benchmarks of long-term forecasting have it (Zhou et al., "Informer",
    AAAI 2021, and its published code).

    Raises:
        ValueError: Not one series has a row to train on.
    """
    lengths = panel.lengths
    boundaries = np.zeros((panel.num_series, 4), np.int64)
    boundaries[:, 1:] = np.minimum(split.part_ends(panel), lengths[:, None])
    if not boundaries[:, 1].any():
        raise ValueError(
            f"No series has a row to train on with {split}: the panel begins at {panel.timestamps.min()} and its "
            f"longest series has {lengths.max()} rows."
        )
    return boundaries


def _parse_date(name: str, text: str) -> np.datetime64:
    date: np.datetime64
    try:
        date = np.datetime64(text, "s")
    except ValueError:
        date = np.datetime64("NaT", "s")
    if np.isnat(date):
        raise ValueError(
            f"{name} is {text!r}, which is no date. Dates must be ISO 8601 (2013-02-28 or 2013-02-28T14:00)."
        )
    return date


def _rows_before(panel: Panel, date: np.datetime64) -> Int64[np.ndarray, "num_series"]:
    before = np.zeros(len(panel.timestamps) + 1, np.int64)
    np.cumsum(panel.timestamps < date, out=before[1:])
    return np.diff(before[panel.offsets])
