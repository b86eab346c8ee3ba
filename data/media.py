"""Where the pictures or clips of a corpus are: files in a folder, or rows of a data set of Hugging Face that hold them."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class MediaStore(ABC):
    """Pictures or clips by row, none of them opened; can be pickled."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where they are, for messages."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def source(self, row: int) -> Path | bytes:
        """What to decode: a file, or the bytes of one."""

    @abstractmethod
    def called(self, row: int) -> str:
        """What messages call it: its file, or its row."""

    @abstractmethod
    def identity(self, row: int) -> str:
        """Tells one from others, and from itself after a change; `ValueError` where its file is gone."""

    @abstractmethod
    def present(self) -> list[bool]:
        """Of each row, whether there is anything to read."""

    @abstractmethod
    def take(self, rows: Sequence[int]) -> MediaStore:
        """Those of some rows alone."""


class MediaFiles(MediaStore):
    """Files below a folder.

    Args:
        folder: the folder.
        names: path of each, relative to the folder.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.names = list(names)

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def __len__(self) -> int:
        return len(self.names)

    def source(self, row: int) -> Path:
        """The file."""
        return self.folder / self.names[row]

    def called(self, row: int) -> str:
        """The file's path."""
        return str(self.folder / self.names[row])

    def identity(self, row: int) -> str:
        """Path below the folder, size and time of the last change."""
        return _file_identity(self.folder / self.names[row], name=self.names[row])

    def present(self) -> list[bool]:
        """Each folder is listed once, which a shared file system takes better than a question a file."""
        listed: dict[Path, set[str]] = {}
        found = []
        for name in self.names:
            file = self.folder / name
            if file.parent not in listed:
                listed[file.parent] = set(files_in(file.parent)) if file.parent.is_dir() else set()
            found.append(file.name in listed[file.parent])
        return found

    def take(self, rows: Sequence[int]) -> MediaFiles:
        """The files of some rows."""
        return MediaFiles(self.folder, [self.names[row] for row in rows])


class DatasetMedia(MediaStore):
    """A column of pictures or clips of a `datasets.Dataset`, as bytes or as paths of files; `datasets` decodes none of them.

    Args:
        dataset: that column alone, of type `Image(decode=False)` or `Video(decode=False)`.
        name: what messages call the data set.
        rows: the row of each in the data set; None = all of them.
    """

    def __init__(self, dataset: Any, *, name: str, rows: Sequence[int] | None = None) -> None:
        self.dataset = dataset
        self.name = name
        self.rows = list(range(len(dataset)) if rows is None else rows)
        # Whoever asks for the content of a row asks for its name too.
        self._last: tuple[int, dict[str, Any]] | None = None

    @property
    def place(self) -> str:
        """The data set."""
        return self.name

    def __len__(self) -> int:
        return len(self.rows)

    def _held(self, row: int) -> dict[str, Any]:
        if self._last is None or self._last[0] != row:
            (held,) = self.dataset[self.rows[row]].values()
            self._last = row, held or {"bytes": None, "path": None}
        return self._last[1]

    def source(self, row: int) -> Path | bytes:
        """The bytes where the row holds them, or else the file."""
        held = self._held(row)
        content: bytes | None = held["bytes"]
        return Path(held["path"]) if content is None else content

    def called(self, row: int) -> str:
        """The data set, the row (the first is 1) and the path."""
        path = self._held(row)["path"]
        return f"{self.name}, row {self.rows[row] + 1}" + (f" ({path})" if path else "")

    def identity(self, row: int) -> str:
        """A hash of the bytes; of a file its path, size and time of the last change."""
        held = self._held(row)
        if held["bytes"] is not None:
            return hashlib.sha256(held["bytes"]).hexdigest()
        return _file_identity(Path(held["path"]), name=held["path"])

    def paths(self) -> list[tuple[str | None, bool]]:
        """Of each the path, if any, and whether the row holds its bytes, which are not looked at."""
        import pyarrow.compute as pc

        (column,) = self.dataset.column_names
        found: list[tuple[str | None, bool]] = []
        # In pieces, for a data set that is a selection of another copies what it is asked for.
        for table in self.dataset.with_format("arrow").iter(batch_size=1000):
            for chunk in table.column(column).chunks:
                paths = pc.struct_field(chunk, "path").to_pylist()
                has_bytes = pc.is_valid(pc.struct_field(chunk, "bytes")).to_pylist()
                found += zip(paths, has_bytes, strict=True)
        return [found[row] for row in self.rows]

    def present(self) -> list[bool]:
        """Whether there are bytes or a file."""
        return [has_bytes or (path is not None and os.path.isfile(path)) for path, has_bytes in self.paths()]

    def take(self, rows: Sequence[int]) -> DatasetMedia:
        """Those of some rows."""
        return DatasetMedia(self.dataset, name=self.name, rows=[self.rows[row] for row in rows])


def files_in(folder: Path) -> list[str]:
    """Names of the files in a folder, sorted.

    Raises:
        ValueError: the folder cannot be read.
    """
    return _names_in(folder, folders=False)


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones.

    Raises:
        ValueError: the folder cannot be read.
    """
    return [name for name in _names_in(folder, folders=True) if not name.startswith(".")]


def _names_in(folder: Path, *, folders: bool) -> list[str]:
    try:
        with os.scandir(folder) as found:
            return sorted(entry.name for entry in found if (entry.is_dir() if folders else entry.is_file()))
    except OSError as error:
        raise ValueError(
            f"The folder {folder} cannot be read ({error.strerror}). Check that it is a folder, that its disk is there, and "
            "that this user may list it (ls)."
        ) from error


def _file_identity(file: Path, *, name: str) -> str:
    try:
        found = file.stat()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}.") from error
    return f"{Path(name).as_posix()}|{found.st_size}|{found.st_mtime_ns}"
