"""Reads a panel of series from a CSV or Parquet file, long (a row a series and date) or wide (a column a series)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, Shaped

from data.panels.alignment import Fill, Rows, align
from data.panels.columns import read_dates, read_ids, read_numbers
from data.panels.frequency import parse_frequency
from data.panels.panel import Panel
from data.panels.table import Table, open_table

DATE_NAMES = ("date", "ds", "datetime", "timestamp")
_DEFAULT_ID, _DEFAULT_DATE, _DEFAULT_VALUE = "unique_id", "ds", "y"


@dataclass(frozen=True)
class PanelFileConfig:
    """How a file of series is laid out.

    Raises:
        ValueError: A setting has no effect on the layout chosen, or an unknown value.
    """

    layout: Literal["auto", "long", "wide"] = "auto"
    """long: one row for each series and date; wide: one row for each date, one column for each series; auto: long where
    the file has id_column and value_column."""
    id_column: str = _DEFAULT_ID
    """Long: the column that names the series, text or whole numbers."""
    date_column: str = _DEFAULT_DATE
    """The column of dates. In a wide file also one called date, datetime or timestamp, or else the first."""
    value_column: str = _DEFAULT_VALUE
    """Long: the column of observations; empty where missing."""
    columns: list[str] | None = None
    """Wide: the columns that are series, in this order; null = every column of numbers."""
    date_format: str | None = None
    """strptime form of the dates ("%d/%m/%Y %H:%M"); null = ISO 8601, also with slashes (2012/01/31)."""
    frequency: str | None = None
    """Step of all series as a pandas offset alias ("h", "15min", "D", "B", "MS"); null = found from the dates."""
    fill: Fill = "error"
    """What a date missing from the calendar gets: missing = unknown, previous = what the row before says, zero; error =
    the file is refused. A date that is there with no value stays unknown."""

    def __post_init__(self) -> None:
        for key, value, known in (
            ("layout", self.layout, ("auto", "long", "wide")),
            ("fill", self.fill, ("error", "missing", "previous", "zero")),
        ):
            if value not in known:
                raise ValueError(f"{key} is {value!r}. Known: {', '.join(known)}.")
        if self.frequency is not None:
            parse_frequency(self.frequency)
        if self.layout == "long":
            self.check_unused("long")
        elif self.layout == "wide":
            self.check_unused("wide")
        if self.columns is not None and not self.columns:
            raise ValueError("columns is an empty list. Name the series, or leave it out for every column of numbers.")
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            raise ValueError(f"columns names a series twice: {self.columns}.")

    def check_unused(self, layout: Literal["long", "wide"]) -> None:
        """Raises ValueError for a key that a file of this layout does not use."""
        if layout == "long" and self.columns is not None:
            raise ValueError(
                f"columns ({', '.join(self.columns)}) names the series of a wide file, but the layout is long, where "
                f"{self.id_column!r} does. Leave columns out, or set data.file.layout: wide."
            )
        if layout == "wide":
            for key, value, default in (
                ("id_column", self.id_column, _DEFAULT_ID),
                ("value_column", self.value_column, _DEFAULT_VALUE),
            ):
                if value != default:
                    raise ValueError(
                        f"{key} ({value!r}) is for long files, but the layout is wide. Leave it out, or set "
                        f"layout: long."
                    )


def read_panel(
    path: str | Path, config: PanelFileConfig, *, cache_dir: str | None = None, notify: Callable[[str], None]
) -> Panel:
    """Reads a file of series; see `PanelFileConfig` for its form.

    Series of a long file come in the order of their first rows, those of a wide one in the order of their columns. Rows
    may be in any order. A CSV row that ends early has its last fields missing.

    Args:
        path: A file ending in .csv or .parquet.
        config: The form of the file.
        cache_dir: Where `datasets` keeps the file's Arrow form; None = its default.
        notify: Told, in a sentence each, what was done beyond plain reading: sorting, filling, conversion to UTC,
            columns left out.

    Raises:
        ValueError: The file cannot be read as it is meant; the message says where and what to change.
    """
    table = open_table(str(path), cache_dir=cache_dir)
    if _is_long(table, config):
        config.check_unused("long")
        return _read_long(table, config, notify)
    config.check_unused("wide")
    return _read_wide(table, config, notify)


def _is_long(table: Table, config: PanelFileConfig) -> bool:
    if config.layout != "auto":
        return config.layout == "long"
    has_id = config.id_column in table.columns
    # A key that was set, or an id column without values, shows what the file is meant to be: a name misspelt elsewhere
    # must not turn it into a wide file.
    named = config.id_column != _DEFAULT_ID or config.value_column != _DEFAULT_VALUE
    return has_id or named


def _read_long(table: Table, config: PanelFileConfig, notify: Callable[[str], None]) -> Panel:
    table.need(config.id_column, key="id_column")
    table.need(config.date_column, key="date_column")
    table.need(config.value_column, key="value_column (or layout: wide)")
    codes, series_ids = read_ids(table, config.id_column)
    timestamps = read_dates(table, config.date_column, date_format=config.date_format, notify=notify)
    values = read_numbers(table, config.value_column)
    order = _order(codes, timestamps)
    if order is None:
        order = np.arange(len(codes))
    else:
        codes, timestamps, values = codes[order], timestamps[order], values[order]
        # Series that take turns are in order; only dates that go back within one are worth a word.
        backward = (np.diff(order) < 0) & (np.diff(codes) == 0)
        if backward.any():
            notify(f"{table.path}: rows were not in the order of their dates and have been sorted.")
    offsets = np.searchsorted(codes, np.arange(len(series_ids) + 1)).astype(np.int64)
    names = [f"series {name!r}" for name in series_ids]
    calendar = align(
        Rows(table, names, offsets, timestamps, order), frequency=config.frequency, fill=config.fill, notify=notify
    )
    return Panel(
        series_ids=series_ids,
        values=calendar.spread(values, config.fill),
        offsets=calendar.offsets,
        timestamps=calendar.timestamps,
        frequency=calendar.frequency.alias,
    )


def _read_wide(table: Table, config: PanelFileConfig, notify: Callable[[str], None]) -> Panel:
    date_column = _wide_date_column(table, config)
    series_ids = _wide_series(table, config, date_column, notify)
    timestamps = read_dates(table, date_column, date_format=config.date_format, notify=notify)
    hint = "" if config.columns is not None else " If the column is no series, set data.file.columns to those that are."
    columns = [read_numbers(table, name, hint=hint) for name in series_ids]
    order = _order(np.zeros(len(timestamps), np.int64), timestamps)
    if order is not None:
        notify(f"{table.path}: rows were not in the order of their dates and have been sorted.")
    else:
        order = np.arange(len(timestamps))
    offsets = np.array([0, len(timestamps)])
    calendar = align(
        Rows(table, ["the file"], offsets, timestamps[order], order),
        frequency=config.frequency,
        fill=config.fill,
        notify=notify,
    )
    return Panel(
        series_ids=series_ids,
        values=np.concatenate([calendar.spread(column[order], config.fill) for column in columns]),
        offsets=np.arange(len(series_ids) + 1) * len(calendar.timestamps),
        timestamps=np.tile(calendar.timestamps, len(series_ids)),
        frequency=calendar.frequency.alias,
    )


def _wide_date_column(table: Table, config: PanelFileConfig) -> str:
    if config.date_column in table.columns:
        return config.date_column
    if config.date_column != _DEFAULT_DATE:
        table.need(config.date_column, key="date_column")
    for known in DATE_NAMES:
        for name in table.columns:
            if name.lower() == known:
                return name
    return table.columns[0]


def _wide_series(table: Table, config: PanelFileConfig, date_column: str, notify: Callable[[str], None]) -> list[str]:
    if config.columns is not None:
        for name in config.columns:
            table.need(name, key="columns")
            if name == date_column:
                raise ValueError(f"{table.path}: columns names {name!r}, which is the column of dates. Take it out.")
        return list(config.columns)
    others = [name for name in table.columns if name != date_column]
    # A column without a name is the row count that a table program wrote along.
    series = [name for name in others if not name.startswith("Unnamed: ") and table.has_numbers(name)]
    if not series:
        raise ValueError(
            f"{table.path}: no column of numbers beside the dates ({date_column!r}). There are: "
            f"{', '.join(map(repr, table.columns))}."
        )
    left_out = [name for name in others if name not in series]
    if left_out:
        notify(f"{table.path}: columns that hold no numbers are left out: {', '.join(map(repr, left_out))}.")
    return series


def _order(
    codes: Int64[np.ndarray, "rows"], timestamps: Shaped[np.ndarray, "rows"]
) -> Int64[np.ndarray, "rows"] | None:
    """Rows sorted by series and date, equal ones as in the file; None where they are already."""
    same = codes[1:] == codes[:-1]
    if np.all((codes[1:] > codes[:-1]) | (same & (timestamps[1:] >= timestamps[:-1]))):
        return None
    return np.lexsort((timestamps, codes)).astype(np.int64, copy=False)
