"""Puts the rows of a file on one calendar: the frequency, the dates that are missing, what fills them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from data.panels.frequency import (
    Frequency,
    Positions,
    describe_seconds,
    infer_frequency,
    parse_frequency,
    positions,
    steps_after,
    within_series_steps,
)
from data.panels.table import Table

Fill = Literal["error", "missing", "previous", "zero"]


@dataclass(frozen=True)
class Rows:
    """Rows of a file sorted by series and date; every series has one."""

    table: Table
    series_names: Sequence[str]
    """How a message calls each series: "series 'a'"; for a file with one calendar for all, "the file"."""
    offsets: Int64[np.ndarray, "bounds"]
    timestamps: Shaped[np.ndarray, "total"]
    file_rows: Int64[np.ndarray, "total"]
    """Where each row stands in the file."""

    def check_repeated(self) -> None:
        """Raises ValueError where a series has a date twice, with both lines."""
        steps, rows = within_series_steps(self.timestamps, self.offsets)
        again = rows[steps == 0]
        if len(again):
            first = again[np.argmin(np.maximum(self.file_rows[again], self.file_rows[again + 1]))]
            both = sorted((int(self.file_rows[first]), int(self.file_rows[first + 1])))
            others = f" ({len(again)} such rows in the file)" if len(again) > 1 else ""
            raise ValueError(
                f"{self.table.place(*both)}: {self.name(first)} has {show(self.timestamps[first])} twice{others}. "
                f"Keep one row for each date."
            )

    def name(self, row: int | np.int64) -> str:
        """The name of the series that a row belongs to."""
        return self.series_names[int(np.searchsorted(self.offsets, row, side="right")) - 1]


@dataclass(frozen=True)
class Calendar:
    """The gap-free calendar of all series, and where the rows of the file go on it."""

    frequency: Frequency
    offsets: Int64[np.ndarray, "bounds"]
    timestamps: Shaped[np.ndarray, "filled"]
    targets: Int64[np.ndarray, "total"] | None
    """Place of each row of the file; None where every row stays where it is."""

    def spread(self, values: Float64[np.ndarray, "total"], fill: Fill) -> Float64[np.ndarray, "filled"]:
        """Values on the calendar. What a row of the file says, missing or not, is never changed by `fill`."""
        if self.targets is None:
            return values
        spread = np.full(len(self.timestamps), 0.0 if fill == "zero" else np.nan)
        spread[self.targets] = values
        if fill == "previous":
            source = np.zeros(len(spread), np.int64)
            source[self.targets] = self.targets
            # The first row of a series is always one of the file: no value crosses over from another series.
            spread = spread[np.maximum.accumulate(source)]
        return spread


def align(rows: Rows, *, frequency: str | None, fill: Fill, notify: Callable[[str], None]) -> Calendar:
    """Puts every row on the calendar of one frequency.

    Raises:
        ValueError: A date is repeated, no frequency can be found, series differ in it, a date is none of its calendar,
            or dates are missing and `fill` is "error".
    """
    rows.check_repeated()
    lengths = np.diff(rows.offsets)
    if frequency is not None:
        found = parse_frequency(frequency)
        origin = f"frequency is set to {found.alias!r}"
    else:
        inferred = infer_frequency(rows.timestamps, rows.offsets)
        if inferred is None:
            raise ValueError(_no_frequency_message(rows))
        found = inferred
        origin = f"the file's frequency, by its longest series, is {found.alias!r}"
    places = positions(rows.timestamps, rows.offsets, found)
    _check_one_frequency(rows, places, origin)
    new_lengths = places.steps[rows.offsets[1:] - 1] + 1
    missing = new_lengths - lengths
    num_missing = int(missing.sum())
    if num_missing == 0:
        return Calendar(found, rows.offsets, rows.timestamps, None)
    series_with_gaps = int((missing > 0).sum())
    total = f"{num_missing} {'date is' if num_missing == 1 else 'dates are'} missing in {series_with_gaps} series"
    if len(rows.series_names) == 1:
        total = f"{num_missing} {'date is' if num_missing == 1 else 'dates are'} missing in all"
    if fill == "error":
        steps, before = within_series_steps(places.steps.astype("datetime64[s]"), rows.offsets)
        row = before[np.argmax(steps > 1)]
        date = steps_after(rows.timestamps[row], found, num_steps=1)[0]
        raise ValueError(
            f"{rows.table.place(int(rows.file_rows[row]))}: after this row {rows.name(row)} has none for {show(date)}; "
            f"{total} ({origin}). Add the rows, or set data.file.fill: missing (unknown), previous (as the row before) or zero."
        )
    notify(f"{rows.table.path}: {total}; filled in with {fill!r}.")
    offsets = np.concatenate([[0], np.cumsum(new_lengths)]).astype(np.int64)
    targets = np.repeat(offsets[:-1], lengths) + places.steps
    return Calendar(found, offsets, _full_calendar(places, found, offsets), targets)


def show(timestamp: np.datetime64) -> str:
    """A date in ISO 8601, without the time of day where that is midnight."""
    return str(timestamp).removesuffix("T00:00:00")


def _full_calendar(
    places: Positions, frequency: Frequency, offsets: Int64[np.ndarray, "bounds"]
) -> Shaped[np.ndarray, "filled"]:
    lengths = np.diff(offsets)
    steps = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    starts = np.repeat(places.first, lengths)
    if places.grid is None:
        if frequency.seconds is None:
            raise AssertionError("only steps of a fixed length have no grid")
        return np.asarray((starts + steps * frequency.seconds).astype("datetime64[s]"))
    return np.asarray(places.grid[starts + steps * places.stride])


def _check_one_frequency(rows: Rows, places: Positions, origin: str) -> None:
    """A series off the calendar, or on every second date of it only, has another frequency than the file."""
    seconds, _ = within_series_steps(rows.timestamps, rows.offsets)
    series = np.repeat(np.arange(len(rows.series_names)), np.diff(rows.offsets) - 1)
    if places.off.any():
        row = int(places.off.argmax())
        at = int(np.searchsorted(rows.offsets, row, side="right")) - 1
        own = np.unique(seconds[series == at])
        regular = f" It steps by {describe_seconds(int(own[0]))}." if len(own) == 1 else ""
        raise ValueError(
            f"{rows.table.place(int(rows.file_rows[row]))}: {rows.name(row)} has {show(rows.timestamps[row])}, but "
            f"{origin} and has no such date.{regular} All series must have one frequency: correct the date, "
            f"set data.file.frequency, or split the file."
        )
    steps, _ = within_series_steps(places.steps.astype("datetime64[s]"), rows.offsets)
    shortest = np.full(len(rows.series_names), np.iinfo(np.int64).max)
    np.minimum.at(shortest, series, steps)
    # Two rows with a step of two say nothing: that may as well be a gap.
    coarser = np.flatnonzero((np.bincount(series, minlength=len(shortest)) >= 2) & (shortest > 1))
    if len(coarser):
        at = int(coarser[0])
        raise ValueError(
            f"{rows.table.path}: {rows.series_names[at]} steps by {describe_seconds(int(seconds[series == at].min()))} "
            f"or more, but {origin}. All series must have one frequency: set data.file.frequency, or split the file."
        )


def _no_frequency_message(rows: Rows) -> str:
    longest = int(np.diff(rows.offsets).max())
    if longest < 3:
        return (
            f"{rows.table.path}: the longest series has {longest} {'row' if longest == 1 else 'rows'}, and a frequency "
            f"shows in 3 at least. Set data.file.frequency, for example 'D' (daily) or 'MS' (first of the month)."
        )
    at = int(np.diff(rows.offsets).argmax())
    first = rows.timestamps[rows.offsets[at] : rows.offsets[at] + 3]
    return (
        f"{rows.table.path}: the dates of {rows.series_names[at]} ({', '.join(show(date) for date in first)} ...) "
        f"follow no known frequency. Set data.file.frequency, for example 'D' (daily) or 'MS' (first of the month)."
    )
