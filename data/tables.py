"""The columns of a CSV, TSV, JSON-lines or Parquet file, row by row, each with its place for messages."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from data.parallel.files import read_lines, read_text

ENDINGS = {".csv": "CSV", ".tsv": "TSV", ".jsonl": "JSON lines", ".json": "JSON lines", ".parquet": "Parquet"}

Rows = Iterator[tuple[str, list[Any]]]


def read_columns(file: Path, columns: dict[str, str]) -> list[tuple[str, list[Any]]]:
    """Place and values of each row.

    Args:
        file: CSV and TSV have a header; CSV is quoted as RFC 4180 says, TSV is not; JSON lines hold an object a line.
        columns: those to read, each with the setting that names it.

    Raises:
        ValueError: the file is malformed, without rows or of an unknown kind, or lacks a column.
    """
    readers = {".csv": _csv, ".tsv": _tsv, ".jsonl": _json_lines, ".json": _json_lines, ".parquet": _parquet}
    ending = file.suffix.lower()
    if ending not in readers:
        known = ", ".join(f"{kind} ({suffix})" for suffix, kind in ENDINGS.items())
        raise ValueError(f"{file}: tables ending in {file.suffix!r} are not known. Tables are read from {known}.")
    rows = list(readers[ending](file, columns))
    if not rows:
        raise ValueError(f"{file} has no rows. It needs at least one.")
    return rows


def _csv(file: Path, columns: dict[str, str]) -> Rows:
    # Strict: a quote that nobody closes would otherwise make one field of all the rows behind it.
    reader = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
    places: list[int] = []
    header: list[str] = []
    begin = 1
    try:
        for fields in reader:
            line, begin = begin, reader.line_num + 1
            if not fields or (len(fields) == 1 and not fields[0].strip()):
                continue
            if not header:
                header = [name.strip() for name in fields]
                places = _places(header, columns, where=f"{file}, line {line}")
                continue
            if len(fields) != len(header):
                raise ValueError(
                    f"{file}, line {line}: {len(fields)} fields under a header of {len(header)}. Put text that holds a comma "
                    "in double quotes."
                )
            yield f"{file}, line {line}", [fields[place] for place in places]
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {begin}: {error}. Put text that holds a comma, a quote or a line's end in double quotes, and double "
            "the quotes in it."
        ) from None


def _tsv(file: Path, columns: dict[str, str]) -> Rows:
    header, rows = tsv_rows(file)
    places = _places(header, columns, where=f"{file}, line 1")
    for number, fields in rows:
        yield f"{file}, line {number}", [fields[place] for place in places]


def tsv_rows(file: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The header of a table separated by tabs without quoting, and its rows, each with the number of its line; not empty lines.

    Raises:
        ValueError: the file is empty; while rows are taken: one has another number of fields than the header.
    """
    lines = read_lines(file)
    header = lines[0].split("\t")
    return header, _tsv_fields(file, lines, num_fields=len(header))


def _tsv_fields(file: Path, lines: list[str], *, num_fields: int) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) != num_fields:
            raise ValueError(
                f"{file}, line {number}: {len(fields)} fields under a header of {num_fields}. Fields are separated by single "
                "tabs, quotes have no meaning, and no field can hold a tab."
            )
        yield number, fields


def _json_lines(file: Path, columns: dict[str, str]) -> Rows:
    for number, row in json_rows(file):
        where = f"{file}, line {number}"
        for column, key in columns.items():
            if column not in row:
                raise missing_column(column, list(row), where=where, key=key)
        yield where, [row[column] for column in columns]


def json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one a line, each with the number of its line; not empty lines.

    Raises:
        ValueError: the file is empty, or a line is no object.
    """
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}, column {error.colno}: no JSON ({error.msg}). Each line must be one JSON object."
            ) from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: {line.strip()[:60]!r} is no JSON object. Each line must be one.")
        _check_characters(row, where)
        yield number, row


def _check_characters(row: dict[str, Any], where: str) -> None:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise ValueError(
            f"{where}: {half} is half of a character, without the other half. Text that was cut in the middle of one was "
            "written so; leave it out."
        ) from None


def _parquet(file: Path, columns: dict[str, str]) -> Rows:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        there = parquet.read_schema(file).names
        _places(there, columns, where=str(file))
        table = parquet.read_table(file, columns=list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} is no Parquet file, whatever its ending says: {error}.") from None
    values = zip(*(table.column(column).to_pylist() for column in columns), strict=True)
    for number, row in enumerate(values, start=1):
        yield f"{file}, row {number}", list(row)


def _places(header: Sequence[str], columns: dict[str, str], *, where: str) -> list[int]:
    for column, key in columns.items():
        if column not in header:
            raise missing_column(column, header, where=where, key=key)
        if header.count(column) > 1:
            raise ValueError(f"{where}: column {column!r} is there twice. Rename one of them.")
    return [header.index(column) for column in columns]


def missing_column(column: str, there: Collection[str], *, where: str, key: str) -> ValueError:
    """What to raise where a table lacks a column: names those there are, the most alike first."""
    nearest = difflib.get_close_matches(column, there, n=1, cutoff=0.0)
    names: Sequence[str] = nearest + [other for other in there if other not in nearest]
    return ValueError(
        f"{where}: column {column!r} is missing. There are: {', '.join(map(repr, names))}. Name the right one by "
        f"data.corpus.{key}."
    )
