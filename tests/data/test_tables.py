"""Tables of every kind give the same rows; what is wrong in one is named with its place."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from data.tables import ENDINGS, read_columns

ROWS = [("run", "a.mp4", "x"), ("clap, twice", 'the "b".mp4', "y"), ("größer", "c d.mp4", "z")]
NAMES = ("class", "file", "group")
WANTED = {"file": "file_column", "class": "class_column"}


def write(path: Path, rows: list[tuple[str, str, str]] = ROWS) -> Path:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([NAMES, *rows])
    elif path.suffix == ".tsv":
        path.write_text("".join("\t".join(row) + "\n" for row in [NAMES, *rows]), encoding="utf-8")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table(dict(zip(NAMES, zip(*rows, strict=True), strict=True))), path)
    else:
        path.write_text(
            "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in rows), encoding="utf-8"
        )
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_gives_the_columns_in_the_order_asked_for(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / f"split{ending}")
    found = read_columns(file, WANTED)
    assert [values for _, values in found] == [[row[1], row[0]] for row in ROWS]
    assert len({place for place, _ in found}) == len(ROWS)
    assert all(place.startswith(str(file)) for place, _ in found)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / f"split{ending}")
    with pytest.raises(
        ValueError, match=r"column 'fil' is missing\. There are: 'file', .*by data\.corpus\.file_column"
    ):
        read_columns(file, {"fil": "file_column"})


def test_an_unknown_kind_and_a_table_without_rows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "split.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"'\.xlsx' are not known\. Tables are read from CSV \(\.csv\)"):
        read_columns(tmp_path / "split.xlsx", WANTED)
    with pytest.raises(ValueError, match=r"has no rows\. It needs at least one"):
        read_columns(write(tmp_path / "split.csv", []), WANTED)
