"""Clips in a folder a class, and a table that says of each what it was cut from and which part it is of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.corpora import corpus_folder, existing_file, folder_below
from data.media import MediaFiles, folders_in
from data.parallel.files import read_lines
from data.tables import ENDINGS, read_columns
from data.videos.checks import PARTS, Entry, Part, unknown_class
from data.videos.corpus import Listed, Listing, VideoCorpusConfig


@dataclass(frozen=True, kw_only=True)
class SplitTable(VideoCorpusConfig):
    """A folder with clips (videos/class/clip.mp4) and a CSV, TSV, JSON-lines or Parquet table, a clip a row.

    Published splits of clips cut from films keep a source out of the test part class by class only: JHMDB's first split has
    25 sources in both parts, never with the same class. Such a split needs groups_within_class.
    """

    path: str
    """The folder; relative to the working directory, to UNROLL_DATA, or one of the embedded sets."""
    table: str = "split.csv"
    """The table in it."""
    videos: str = "videos"
    """Folder with all clips; "." = the folder itself."""
    class_folders: bool = True
    """Whether a clip lies in a folder called like its class; otherwise the table has its whole path below `videos`."""
    class_column: str = "class"
    """Column with the name of a clip's class."""
    file_column: str = "file"
    """Column with a clip's file."""
    group_column: str | None = "group"
    """Column with what a clip was cut from (a film, a person, a day); null = not known, every clip counts as a source."""
    groups_within_class: bool = False
    """Whether the same group in two classes counts as two sources."""
    subset_column: str = "subset"
    """Column with the part of a clip."""
    train: str = "train"
    """What the subset column says of clips to train on."""
    validation: str | None = None
    """The same of clips to validate on; null = "validation", which no clip need be."""
    test: str = "test"
    """The same of clips to test on."""
    class_file: str | None = None
    """File below the folder with the names of all classes in their order, one a line; null = those of the table, sorted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self._subsets())) < len(PARTS):
            raise ValueError(
                f"data.corpus.train, validation and test must differ, got {', '.join(map(repr, self._subsets()))}."
            )
        if self.groups_within_class and self.group_column is None:
            raise ValueError(
                "data.corpus.groups_within_class says how to read groups, but group_column is null. Name the column, or leave "
                "groups_within_class out."
            )

    def _subsets(self) -> dict[str, Part]:
        return {self.train: "train", self.validation or "validation": "validation", self.test: "test"}

    def listing(self, *, cache_dir: str | None = None) -> Listing:
        """The clips in the order of their rows."""
        folder = corpus_folder(self.path)
        file = existing_file(folder, self.table, key="table")
        if file.suffix.lower() not in ENDINGS:
            known = ", ".join(f"{kind} ({suffix})" for suffix, kind in ENDINGS.items())
            raise ValueError(f"{file}: tables ending in {file.suffix!r} are not known. Splits are read from {known}.")
        videos = folder_below(folder, self.videos, of="videos", key="videos")
        class_names = self._classes(folder)
        folders = set(folders_in(videos)) if self.class_folders else None
        entries: dict[Part, list[Entry]] = {part: [] for part in PARTS}
        for where, values in read_columns(file, self._columns()):
            part, entry = self._entry(values, where)
            if class_names is None and folders is not None and entry.class_name not in folders:
                raise unknown_class(entry.class_name, folders, where=where, place=f"the folders in {videos}")
            entries[part].append(entry)
        if self.validation is not None and not entries["validation"]:
            raise ValueError(
                f"{file}: no row has {self.validation!r} in {self.subset_column!r}, which data.corpus.validation calls the "
                "clips to validate on. Leave validation out to have a share of the training clips taken."
            )
        return Listing(
            {
                part: Listed(of, MediaFiles(videos, [entry.name for entry in of]), str(file))
                for part, of in entries.items()
            },
            class_names=class_names,
            class_place=str(folder / self.class_file) if self.class_file else str(file),
        )

    def _columns(self) -> dict[str, str]:
        return {
            self.class_column: "class_column",
            self.file_column: "file_column",
            self.subset_column: "subset_column",
            **({self.group_column: "group_column"} if self.group_column is not None else {}),
        }

    def _entry(self, values: list[Any], where: str) -> tuple[Part, Entry]:
        texts = [_text(value, column, where) for value, column in zip(values, self._columns(), strict=True)]
        class_name, file, subset, *groups = texts
        subsets = self._subsets()
        if subset not in subsets:
            raise ValueError(
                f"{where}: {self.subset_column!r} is {subset!r}. Known: {', '.join(map(repr, subsets))}. Name what the table "
                "calls its parts by data.corpus.train, validation and test."
            )
        group = "/".join([class_name, *groups]) if self.groups_within_class else groups[0] if groups else None
        name = f"{class_name}/{file}" if self.class_folders else file
        return subsets[subset], Entry(name, class_name, group, where)

    def _classes(self, folder: Path) -> tuple[str, ...] | None:
        if self.class_file is None:
            return None
        file = existing_file(folder, self.class_file, key="class_file")
        names = [line.strip() for line in read_lines(file) if line.strip()]
        twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if twice is not None or not names:
            raise ValueError(
                f"{file}: "
                + (f"the class {twice!r} is there twice." if names else "no class is named.")
                + " It must hold the "
                "name of another class in every line."
            )
        return tuple(names)


def _text(value: Any, column: str, where: str) -> str:
    """What a column says, which must be something; a number that other kinds of tables hold is read as CSV has it."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text:
        raise ValueError(f"{where}: {column!r} is {value!r}, but must say something.")
    return text
