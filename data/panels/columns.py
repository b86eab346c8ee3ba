"""Columns of a table as arrays: dates, numbers and ids, each with an error that names the line of what is none.

CSV is read as text and turned into values here: an error must show the file's exact text, and neither a column's type
nor a series called "NA" may depend on what other rows hold.
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from data.panels.table import Table, known_texts

_ISO_HELP = "Dates must be ISO 8601 (2013-02-28 or 2013-02-28T14:00). Set data.file.date_format for another form."
# Forms that can mean one date only, brought into the one that Arrow reads: 2012/1/1 0:00, 20120101, 2012-01.
_TO_ISO = (
    (r"^(\d{4})/(\d{1,2})$", r"\1-\2"),
    (r"^(\d{4})/(\d{1,2})/(\d{1,2})", r"\1-\2-\3"),
    (r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3"),
    (r"^(\d{4})-(\d{1,2})$", r"\1-\2-1"),
    (r"^(\d{4})-(\d)-", r"\1-0\2-"),
    (r"^(\d{4}-\d{2})-(\d)($|[T ])", r"\1-0\2\3"),
    (r"([T ])(\d):", r"\10\2:"),
    (r"(:\d{2})\.0+($|Z|[+-])", r"\1\2"),
)


def read_numbers(table: Table, name: str, *, hint: str = "") -> Float64[np.ndarray, "rows"]:
    """A column as float64, NaN where it is empty or says so (NaN, NA, null, none in any case).

    `hint` is what else a user can do about an entry that is no number.

    Raises:
        ValueError: An entry is no number, or infinite.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.arrow.column(name)
    if table.is_text(name):
        numbers = _cast(pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column), pa.float64())
        if numbers is None:
            texts = known_texts(column)
            numbers = _cast(texts, pa.float64())
        if numbers is None:
            row = _first_failure(texts, pa.float64())
            raise ValueError(
                f"{table.place(row)}: {name!r} is {column[row].as_py()!r}, which is no number. "
                f"Leave it empty where the value is missing.{hint}"
            )
    elif table.has_numbers(name):
        numbers = pc.cast(column, pa.float64(), safe=False)
    else:
        raise ValueError(f"{table.path}: column {name!r} holds {column.type}, but must hold numbers.")
    values = np.array(numbers.to_numpy(), np.float64)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        row = int(infinite[0])
        raise ValueError(
            f"{table.place(row)}: {name!r} is {column[row].as_py()!r}, which is infinite or beyond 64-bit floats "
            f"({len(infinite)} such in the file). Leave it empty where the value is missing."
        )
    return values


def read_ids(table: Table, name: str) -> tuple[Int64[np.ndarray, "rows"], list[str]]:
    """(number of each row's series, names of the series in the order of their first rows).

    Raises:
        ValueError: An id is empty, or the column holds neither text nor whole numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    column = table.arrow.column(name)
    if not table.is_text(name) and not kinds.is_integer(column.type):
        raise ValueError(f"{table.path}: ids must be text or whole numbers, but column {name!r} holds {column.type}.")
    texts = pc.cast(column, pa.large_string())
    empty = pc.fill_null(pc.equal(texts, ""), True)
    if pc.any(empty).as_py():
        row = pc.index(empty, True).as_py()
        raise ValueError(f"{table.place(row)}: {name!r} is empty, but every row must name its series.")
    encoded = pc.dictionary_encode(texts).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def read_dates(
    table: Table, name: str, *, date_format: str | None, notify: Callable[[str], None]
) -> Shaped[np.ndarray, "rows"]:
    """A column as datetime64[s]; time zones are converted to UTC, which `notify` is told.

    Raises:
        ValueError: An entry is no date or finer than a second, only some have a time zone, or `date_format` is set for
            a column of real timestamps.
    """
    import pyarrow as pa
    import pyarrow.types as kinds

    column = table.arrow.column(name)
    if not table.is_text(name):
        if not (kinds.is_timestamp(column.type) or kinds.is_date(column.type)):
            raise ValueError(
                f"{table.path}: column {name!r} holds {column.type}, but must hold timestamps or text. "
                f"Set data.file.date_column if the dates are in another one."
            )
        if date_format is not None:
            raise ValueError(
                f"{table.path}: column {name!r} holds real timestamps, so date_format ({date_format!r}) does nothing. "
                f"Leave it out."
            )
        if getattr(column.type, "tz", None) is not None:
            notify(f"{table.path}: dates in {name!r} were converted from {column.type.tz} to UTC.")
        unit = column.type.unit if kinds.is_timestamp(column.type) else "s"
        return _whole_seconds(table, name, column.cast(pa.timestamp(unit)))
    if date_format is not None:
        return _parse_format(table, name, date_format, notify)
    stamps = _cast(column, pa.timestamp("us"))
    if stamps is None:
        texts = _to_iso(column)
        stamps = _cast(texts, pa.timestamp("us"))
        if stamps is None:
            stamps = _cast(texts, pa.timestamp("us", "UTC"))
            if stamps is None:
                raise ValueError(_date_message(table, name, texts))
            notify(f"{table.path}: dates in {name!r} have a time zone and were converted to UTC.")
    return _whole_seconds(table, name, stamps)


def _parse_format(
    table: Table, name: str, date_format: str, notify: Callable[[str], None]
) -> Shaped[np.ndarray, "rows"]:
    import pandas as pd

    if "%" not in date_format:
        raise ValueError(f"date_format is {date_format!r}, which has no field. Write it as '%d/%m/%Y %H:%M'.")
    zoned = "%z" in date_format
    texts = table.arrow.column(name).to_pandas()
    try:
        dates = pd.to_datetime(texts, format=date_format, errors="coerce", utc=zoned)
    except ValueError as error:
        raise ValueError(f"date_format is {date_format!r}, which cannot be read: {error}.") from None
    if zoned:
        notify(f"{table.path}: dates in {name!r} have a time zone and were converted to UTC.")
        dates = dates.dt.tz_localize(None)
    stamps = dates.to_numpy()
    if np.isnat(stamps).any():
        row = int(np.isnat(stamps).argmax())
        raise ValueError(
            f"{table.place(row)}: {name!r} is {texts.iloc[row]!r}, which is no date of the form {date_format!r}. "
            f"Correct the row or date_format."
        )
    return np.asarray(stamps.astype("datetime64[s]"))


def _whole_seconds(table: Table, name: str, stamps: Any) -> Shaped[np.ndarray, "rows"]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if stamps.null_count:
        row = pc.index(pc.is_null(stamps), True).as_py()
        raise ValueError(f"{table.place(row)}: {name!r} is empty, but every row needs a date.")
    ticks = np.asarray(stamps.cast(pa.int64()).to_numpy())
    seconds, fractions = np.divmod(ticks, {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[stamps.type.unit])
    if fractions.any():
        row = int((fractions != 0).argmax())
        raise ValueError(
            f"{table.place(row)}: {name!r} is {table.arrow.column(name)[row].as_py()!s}. Fractions of a second are not "
            f"supported: round the dates."
        )
    return seconds.astype("datetime64[s]")


def _to_iso(texts: Any) -> Any:
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(texts)
    for pattern, replacement in _TO_ISO:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def _date_message(table: Table, name: str, texts: Any) -> str:
    """Why a column that is not dates throughout is not; `texts` is the column in ISO form where that was possible."""
    import pyarrow as pa

    naive, zoned = pa.timestamp("us"), pa.timestamp("us", "UTC")
    row = _first_failure(texts, naive)
    if _cast(texts.slice(row, 1), zoned) is not None:
        other = _first_failure(texts, zoned)
        if _cast(texts.slice(other, 1), naive) is not None:
            return (
                f"{table.place(*sorted((row, other)))}: only one of these dates has a time zone "
                f"({table.arrow.column(name)[row].as_py()!r} and {table.arrow.column(name)[other].as_py()!r}). "
                f"Give all of them one, or none."
            )
        row = other
    text = table.arrow.column(name)[row].as_py()
    where = f"{table.place(row)}: {name!r} is"
    if text is None or not text.strip():
        return f"{where} empty, but every row needs a date."
    if re.match(r"\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}", text):
        return (
            f"{where} {text!r}, which may begin with the day or with the month. "
            f"Set data.file.date_format: '%d/%m/%Y' or '%m/%d/%Y', with the marks and the time of day as in the file."
        )
    if re.fullmatch(r"\s*\d{4}\s*", text):
        return f"{where} {text!r}, which may be a year or a count. If it is a year, set data.file.date_format: '%Y'."
    return f"{where} {text!r}, which is no date.\n{_ISO_HELP}"


def _cast(texts: Any, kind: Any) -> Any | None:
    """The column as another type, or None where an entry does not cast."""
    import pyarrow as pa

    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return None


def _first_failure(texts: Any, kind: Any) -> int:
    """First row that does not cast, found by halving: Arrow says that one fails, not which."""
    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        if _cast(texts.slice(low, middle - low), kind) is not None:
            low = middle
        else:
            high = middle
    return low
