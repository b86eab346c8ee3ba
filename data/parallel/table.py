"""Pairs of sentences in a table: TSV, JSON lines, Parquet, or what `datasets` has loaded."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.parallel.text import ParallelText, Place
from data.tables import json_rows, tsv_rows

ENDINGS = {".tsv": "TSV", ".jsonl": "JSON lines", ".json": "JSON lines", ".parquet": "Parquet"}
_NESTED = "translation"


def read_table(file: Path, *, columns: tuple[str, str], named: bool) -> ParallelText:
    """A file's pairs.

    Args:
        file: a file ending in .tsv (a header, tabs and no quoting), .jsonl, .json (an object a line) or .parquet.
        columns: the columns of source and target, also as "outer.inner" of a nested one.
        named: whether the user has named both columns; otherwise they may stand inside a column `translation`.

    Raises:
        ValueError: The file is empty, malformed or of an unknown kind, or has no such column.
    """
    ending = file.suffix.lower()
    if ending not in ENDINGS:
        known = ", ".join(f"{kind} ({suffix})" for suffix, kind in ENDINGS.items())
        raise ValueError(f"{file}: tables ending in {file.suffix!r} are not known. Pairs are read from {known}.")
    if ending == ".tsv":
        return _read_tsv(file, columns)
    if ending == ".parquet":
        return pairs_of_arrow(_parquet(file), name=str(file), columns=columns, named=named)
    return _read_json(file, columns, named)


def pairs_of_arrow(table: Any, *, name: str, columns: tuple[str, str], named: bool) -> ParallelText:
    """The pairs of an Arrow table; arguments and errors as in `read_table`, `name` for messages."""
    import pyarrow.types as kinds

    if table.num_rows == 0:
        raise ValueError(f"{name} has columns ({', '.join(table.column_names)}) but no rows.")
    sides = []
    there = _arrow_paths(table.schema)
    for column in _resolved(columns, there, name=name, named=named):
        outer, *inner = [column] if column in table.column_names else column.split(".", 1)
        values = table.column(outer).combine_chunks()
        if inner:
            values = _field(values, inner[0])
        if kinds.is_dictionary(values.type):  # as pandas writes categories
            values = values.cast(values.type.value_type)
        if not (kinds.is_string(values.type) or kinds.is_large_string(values.type) or kinds.is_null(values.type)):
            raise ValueError(
                f"{name}: column {column!r} holds {values.type}, but must hold text. Name the right columns by "
                "data.corpus.source_column and target_column."
            )
        # What is missing is empty, and treated as every empty sentence is.
        sides.append([text or "" for text in values.to_pylist()])
    return ParallelText(sides[0], sides[1], Place((name,), "row"))


def _field(values: Any, name: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    # Chunks of no rows combine to a chunked array.
    return pc.struct_field(values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values, name)


def _arrow_paths(schema: Any) -> list[str]:
    import pyarrow.types as kinds

    paths = []
    for field in schema:
        paths.append(field.name)
        if kinds.is_struct(field.type):
            paths += [f"{field.name}.{inner.name}" for inner in field.type]
    return paths


def _parquet(file: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} is no Parquet file, whatever its ending says: {error}.") from None


def _read_tsv(file: Path, columns: tuple[str, str]) -> ParallelText:
    header, numbered = tsv_rows(file)
    found = _resolved(columns, header, name=f"{file}, line 1", named=True)
    for column in found:
        if header.count(column) > 1:
            raise ValueError(f"{file}, line 1: column {column!r} is there twice. Rename one of them.")
    places = [header.index(column) for column in found]
    rows = list(numbered)
    if not rows:
        raise ValueError(f"{file} has a header ({', '.join(header)}) but no rows.")
    source, target = ([row[place] for _, row in rows] for place in places)
    return ParallelText(source, target, Place((str(file),), "line", [number for number, _ in rows]))


def _read_json(file: Path, columns: tuple[str, str], named: bool) -> ParallelText:
    numbers: list[int] = []
    sides: tuple[list[str], list[str]] = ([], [])
    paths: Sequence[str] = ()
    for number, row in json_rows(file):
        where = f"{file}, line {number}"
        if not numbers:
            paths = _resolved(columns, _json_paths(row), name=where, named=named)
        for side, path in zip(sides, paths, strict=True):
            value = _value(row, path, where)
            if not isinstance(value, str | None):
                raise ValueError(f"{where}: {path!r} is {json.dumps(value)[:60]}, but must be text.")
            side.append(value or "")
        numbers.append(number)
    if not numbers:
        raise ValueError(f"{file} has no rows. It needs a JSON object a line.")
    return ParallelText(*sides, Place((str(file),), "line", numbers))


def _json_paths(row: dict[str, Any]) -> list[str]:
    paths = []
    for key, value in row.items():
        paths.append(key)
        if isinstance(value, dict):
            paths += [f"{key}.{inner}" for inner in value]
    return paths


def _value(row: dict[str, Any], path: str, where: str) -> Any:
    if path in row:
        return row[path]
    outer, _, inner = path.partition(".")
    nested = row.get(outer)
    if inner and isinstance(nested, dict) and inner in nested:
        return nested[inner]
    raise _missing(path, _json_paths(row), name=where)


def _resolved(columns: tuple[str, str], there: Sequence[str], *, name: str, named: bool) -> list[str]:
    """The columns by the names they have in this table."""
    resolved = []
    for column in columns:
        nested = f"{_NESTED}.{column}"
        if column in there:
            resolved.append(column)
        elif not named and nested in there:
            resolved.append(nested)
        else:
            raise _missing(column, there, name=name)
    return resolved


def _missing(column: str, there: Sequence[str], *, name: str) -> ValueError:
    nearest = difflib.get_close_matches(column, there, n=1, cutoff=0.0)
    names = nearest + [other for other in there if other not in nearest]
    return ValueError(
        f"{name}: column {column!r} is missing. There are: {', '.join(map(repr, names))}. Name the right ones by "
        "data.corpus.source_column and target_column, or the languages by data.source and data.target."
    )
