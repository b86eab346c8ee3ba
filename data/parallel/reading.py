"""Reads a corpus of sentences and their translations: text files, a table, or a data set of Hugging Face."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.parallel.files import mismatch_message, read_lines
from data.parallel.table import ENDINGS, pairs_of_arrow, read_table
from data.parallel.text import ParallelText, Place
from data.paths import find_data

__all__ = ["CorpusConfig", "HuggingFace", "ParallelText", "Place", "Table", "TextFiles"]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(ABC):
    """Where the pairs of each part are."""

    @abstractmethod
    def read(self, part: str, *, source: str, target: str, cache_dir: str | None = None) -> ParallelText:
        """The pairs of a part, as they are.

        Args:
            part: train, validation or test.
            source: code of the language to translate from.
            target: code of the language to translate to.
            cache_dir: where `datasets` keeps what it has prepared; None = its default. Nothing else uses it.

        Raises:
            ValueError: They cannot be read as they are meant; the message says where and what to change.
        """


@dataclass(frozen=True, kw_only=True)
class TextFiles(CorpusConfig):
    """A folder of text files, a sentence a line: train.en and train.de, whose lines belong together."""

    path: str
    """The folder; relative to the working directory, to UNROLL_DATA, or one of the embedded sets."""
    train: str = "train"
    """Name of the files to train on, without the language code that they end in."""
    validation: str = "val"
    """Name of the files to validate on."""
    test: str = "test"
    """Name of the files to test on."""

    def read(self, part: str, *, source: str, target: str, cache_dir: str | None = None) -> ParallelText:
        """Lines end at a newline alone; other separators of Unicode stand inside a sentence."""
        folder = _folder(self.path)
        name = _name_of(self, part)
        files = [_existing(folder, name, language, part=part) for language in (source, target)]
        sides = [read_lines(file) for file in files]
        if len(sides[0]) != len(sides[1]):
            raise ValueError(mismatch_message(*sides, source_file=files[0], target_file=files[1]))
        return ParallelText(sides[0], sides[1], Place((str(files[0]), str(files[1])), "line"))


@dataclass(frozen=True, kw_only=True)
class Table(CorpusConfig):
    """A folder of tables, a pair a row: TSV with a header and no quoting, JSON lines or Parquet, by the files' endings."""

    path: str
    """The folder; relative to the working directory, to UNROLL_DATA, or one of the embedded sets."""
    train: str = "train.tsv"
    """File to train on."""
    validation: str = "validation.tsv"
    """File to validate on."""
    test: str = "test.tsv"
    """File to test on."""
    source_column: str | None = None
    """Column of the sentences to translate, "outer.inner" if nested; null = the one called like the language, if need be
    within a column `translation`."""
    target_column: str | None = None
    """Column of their translations; null = likewise."""

    def read(self, part: str, *, source: str, target: str, cache_dir: str | None = None) -> ParallelText:
        """Rows without a line of their own (blank ones) are no pairs."""
        folder, name = _folder(self.path), _name_of(self, part)
        file = folder / name
        if not file.is_file():
            there = sorted(found.name for found in folder.iterdir() if found.suffix.lower() in ENDINGS)
            raise ValueError(
                f"{file} does not exist. Tables in {folder}: {', '.join(there) or 'none'}. Name that of the part {part!r} by "
                f"data.corpus.{part}."
            )
        columns = (self.source_column or source, self.target_column or target)
        return read_table(file, columns=columns, named=None not in (self.source_column, self.target_column))


@dataclass(frozen=True, kw_only=True)
class HuggingFace(CorpusConfig):
    """A data set of the Hugging Face hub, or a folder: one that `save_to_disk` wrote, or of files that `datasets` knows."""

    name_or_folder: str
    """Name on the hub (owner/name), or a folder; a folder that exists is preferred."""
    config_name: str | None = None
    """Which of its configurations, as "de-en"; null = its only one."""
    train: str = "train"
    """Split to train on."""
    validation: str = "validation"
    """Split to validate on."""
    test: str = "test"
    """Split to test on."""
    source_column: str | None = None
    """Column of the sentences to translate, "outer.inner" if nested; null = the one called like the language, if need be
    within a column `translation`."""
    target_column: str | None = None
    """Column of their translations; null = likewise."""

    def read(self, part: str, *, source: str, target: str, cache_dir: str | None = None) -> ParallelText:
        """Whatever `datasets` can load, as text."""
        split = _name_of(self, part)
        splits = self.load_splits(cache_dir)
        if split not in splits:
            raise ValueError(
                f"{self.name_or_folder} has no split {split!r}. There are: {', '.join(map(repr, splits))}. Name that of the "
                f"part {part!r} by data.corpus.{part}."
            )
        columns = (self.source_column or source, self.target_column or target)
        return pairs_of_arrow(
            splits[split].with_format("arrow")[:],
            name=f"{self.name_or_folder}, split {split!r}",
            columns=columns,
            named=None not in (self.source_column, self.target_column),
        )

    def load_splits(self, cache_dir: str | None) -> Any:
        """All splits as `datasets` gives them."""
        import datasets

        from data.panels.table import _quiet_datasets

        folder = _folder_if_any(self.name_or_folder)
        saved = folder is not None and any(
            (folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")
        )
        if saved and self.config_name is not None:
            raise ValueError(
                f"config_name is {self.config_name!r}, but {folder} was written by save_to_disk and has no configurations. "
                "Leave config_name out."
            )
        load: Callable[[], Any] = (
            (lambda: datasets.load_from_disk(str(folder)))
            if saved
            else (
                lambda: datasets.load_dataset(str(folder or self.name_or_folder), self.config_name, cache_dir=cache_dir)
            )
        )
        try:
            with _quiet_datasets():
                loaded = load()
        except Exception as error:  # whatever a builder, a file format or the network may raise
            cause = error.__cause__ or error
            what = (
                f"The folder {folder}"
                if folder
                else f"{self.name_or_folder!r}, which is no folder here, taken for a name on the hub,"
            )
            raise ValueError(
                f"{what} could not be loaded by `datasets`: {str(cause).strip() or type(cause).__name__}\nCheck "
                "data.corpus.name_or_folder and config_name, and the network if it is a name on the hub."
            ) from error
        return loaded if isinstance(loaded, dict) else {self.train: loaded}


def _name_of(config: Any, part: str) -> str:
    assert part in PARTS
    name: str = getattr(config, part)
    return name


def _folder(path: str) -> Path:
    folder = find_data(path)
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file. Give the folder it lies in as data.corpus.path, and its name by train.")
    return folder


def _folder_if_any(path: str) -> Path | None:
    try:
        folder = find_data(path)
    except ValueError:
        return None
    return folder if folder.is_dir() else None


def _existing(folder: Path, name: str, language: str, *, part: str) -> Path:
    file = folder / f"{name}.{language}"
    if file.is_file():
        return file
    of_part = sorted(
        found.name.removeprefix(f"{name}.") for found in folder.glob("*") if found.name.startswith(f"{name}.")
    )
    if of_part:
        raise ValueError(
            f"{file} does not exist. Languages that {folder} has {name!r} in: {', '.join(of_part)}. Choose among them by "
            "data.source and data.target."
        )
    there = sorted({found.stem for found in folder.iterdir() if found.suffix == f".{language}" and found.is_file()})
    if there:
        raise ValueError(
            f"{file} does not exist. In the language {language!r} there are: {', '.join(there)}. Name that of the part "
            f"{part!r} by data.corpus.{part}."
        )
    files = sorted(found.name for found in folder.iterdir() if found.is_file())
    some = ", ".join(files[:10]) + (" ..." if len(files) > 10 else "")
    raise ValueError(
        f"{file} does not exist, nor any file in the language {language!r}. Files in {folder}: {some or 'none'}. They must be "
        "called part.language, as train.en."
    )
