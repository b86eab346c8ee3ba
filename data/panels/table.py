"""A CSV or Parquet file as Arrow columns, and the way back from a row to its line in the file."""

import csv
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDINGS = {".csv": "CSV", ".parquet": "Parquet"}
MISSING_TEXTS = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none")
_ROWS_A_CHUNK = 200_000


@dataclass(frozen=True)
class Table:
    """A file's rows in the file's order, header and blank lines not counted."""

    path: str
    columns: list[str]
    arrow: Any
    """pyarrow.Table, memory-mapped."""

    @property
    def is_csv(self) -> bool:
        """Whether rows have line numbers and all columns are text."""
        return Path(self.path).suffix.lower() == ".csv"

    def place(self, *rows: int) -> str:
        """Where rows stand: "demo.csv, line 318", or "demo.parquet, rows 4 and 9" (counted from 1)."""
        numbers = _line_numbers(self.path, rows) if self.is_csv else [row + 1 for row in rows]
        what = ("line" if self.is_csv else "row") + ("s" if len(rows) > 1 else "")
        return f"{self.path}, {what} {' and '.join(str(number) for number in numbers)}"

    def need(self, name: str, *, key: str) -> None:
        """Raises ValueError where column `name`, which config key `key` asks for, is not there."""
        if name not in self.columns:
            nearest = difflib.get_close_matches(name, self.columns, n=1, cutoff=0.0)
            there = nearest + [column for column in self.columns if column not in nearest]
            hint = ""
            if len(self.columns) == 1 and any(mark in self.columns[0] for mark in ";\t|"):
                hint = " The file seems to be separated by another mark than a comma: write it with commas."
            raise ValueError(
                f"{self.path}: column {name!r} is missing. There are: {', '.join(map(repr, there))}. "
                f"Set data.file.{key} to the right one.{hint}"
            )

    def is_text(self, name: str) -> bool:
        """Whether a column is stored as text, as every one of a CSV file is."""
        import pyarrow.types as kinds

        kind = self.arrow.schema.field(name).type
        return bool(kinds.is_string(kind) or kinds.is_large_string(kind))

    def has_numbers(self, name: str) -> bool:
        """Whether a column is of numbers: one entry at least reads as one, or all entries are missing."""
        import pyarrow.compute as pc
        import pyarrow.types as kinds

        if not self.is_text(name):
            kind = self.arrow.schema.field(name).type
            is_number = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)
            return bool(is_number or kinds.is_null(kind))
        texts = known_texts(self.arrow.column(name)).drop_null()
        number = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?[iI][nN][fF]"
        return len(texts) == 0 or bool(pc.any(pc.match_substring_regex(texts, number)).as_py())


def open_table(path: str, *, cache_dir: str | None) -> Table:
    """Reads a file through `datasets`: into Arrow on disk once, from the cache after that.

    Raises:
        ValueError: The file is missing, of an unknown kind, empty or malformed.
    """
    file = Path(path)
    if file.suffix.lower() not in ENDINGS:
        known = " and ".join(f"{kind} ({ending})" for ending, kind in ENDINGS.items())
        raise ValueError(f"{path}: files ending in {file.suffix!r} are not known. A panel is read from {known}.")
    if not file.is_file():
        raise ValueError(_missing_message(file))
    if file.stat().st_size == 0:
        raise ValueError(f"{path} is empty: it needs a header and rows.")
    columns = _csv_header(path) if file.suffix.lower() == ".csv" else _parquet_columns(path)
    table = _load(path, columns, cache_dir)
    return Table(path=path, columns=columns, arrow=table)


def known_texts(column: Any) -> Any:
    """Texts without the white space around them, null where they say that the value is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(pc.utf8_lower(texts), pa.array(MISSING_TEXTS, texts.type))
    return pc.if_else(missing, pa.scalar(None, texts.type), texts)


def _load(path: str, columns: Sequence[str], cache_dir: str | None) -> Any:
    import glob

    from datasets import Dataset, Features, Value
    from datasets.exceptions import DatasetGenerationError

    # A path is a pattern to `datasets`: "a[1].csv" would look for a1.csv.
    pattern = glob.escape(str(Path(path).absolute()))
    try:
        with _quiet_datasets():
            if Path(path).suffix.lower() == ".csv":
                dataset = Dataset.from_csv(
                    pattern,
                    features=Features({name: Value("large_string") for name in columns}),
                    cache_dir=cache_dir,
                    keep_in_memory=False,
                    names=list(columns),
                    header=0,
                    na_filter=False,
                    chunksize=_ROWS_A_CHUNK,
                )
            else:
                dataset = Dataset.from_parquet(pattern, cache_dir=cache_dir, keep_in_memory=False)
    except DatasetGenerationError as error:
        if Path(path).suffix.lower() == ".csv":
            _diagnose_csv(path, len(columns))
        raise ValueError(f"{path} could not be read: {str(error.__cause__ or error).strip()}") from error
    return dataset.data.table


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """No progress bars, and no error lines of `datasets` beside our own; the process's settings come back after."""
    import datasets

    verbosity = datasets.logging.get_verbosity()
    showed_bars = not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if showed_bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if showed_bars:
            datasets.enable_progress_bars()


def _csv_rows(path: str) -> Iterator[tuple[int, list[str]]]:
    """(line it begins on, fields) of every row that is not blank, the header first."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        begin = 1
        for fields in reader:
            if len(fields) > 1 or (fields and fields[0].strip()):
                yield begin, fields
            begin = reader.line_num + 1


def _line_numbers(path: str, rows: Sequence[int]) -> list[int]:
    lines: dict[int, int] = {}
    for row, (line, _) in enumerate(_csv_rows(path), start=-1):
        if row in rows:
            lines[row] = line
            if len(lines) == len(set(rows)):
                break
    return [lines[row] for row in rows]


def _csv_header(path: str) -> list[str]:
    try:
        rows = _csv_rows(path)
        _, header = next(rows, (0, []))
        line, first = next(rows, (0, []))
    except UnicodeDecodeError:
        _diagnose_csv(path, 0)
        raise
    if not header:
        raise ValueError(f"{path} is empty: it needs a header and rows.")
    if not first:
        raise ValueError(f"{path} has a header ({', '.join(header)}) but no rows.")
    # pandas would take the fields too many for an index and move all columns aside.
    if len(first) > len(header):
        raise ValueError(_width_message(path, line, len(first), len(header)))
    names = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(header)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: column {twice!r} is in the header twice. Rename one of them.")
    return names


def _parquet_columns(path: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file, whatever its ending says: {error}.") from None
    if metadata.num_rows == 0:
        raise ValueError(f"{path} has columns ({', '.join(metadata.schema.names)}) but no rows.")
    return list(metadata.schema.to_arrow_schema().names)


def _diagnose_csv(path: str, num_columns: int) -> None:
    """Raises ValueError with the line where a CSV file is malformed, if that can be found."""
    with open(path, "rb") as file:
        for line, raw in enumerate(file, start=1):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {line}: not UTF-8 text ({raw[error.start : error.start + 4]!r}). Save it as UTF-8."
                ) from None
    for line, fields in _csv_rows(path):
        if len(fields) > num_columns:
            raise ValueError(_width_message(path, line, len(fields), num_columns))


def _width_message(path: str, line: int, num_fields: int, num_columns: int) -> str:
    return (
        f"{path}, line {line}: {num_fields} fields under a header of {num_columns}. "
        f"Put text that holds a comma in double quotes, and end no row with a comma."
    )


def _missing_message(file: Path) -> str:
    if file.is_dir():
        return f"{file} is a folder; give one CSV or Parquet file."
    folder = file.parent
    if not folder.is_dir():
        return f"{file} does not exist, and neither does its folder."
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    alike = difflib.get_close_matches(file.name, names, n=3) or names[:3]
    there = f"Files like it in {folder}: {', '.join(alike)}" if alike else f"{folder} has no CSV or Parquet file"
    return f"{file} does not exist. {there}."
