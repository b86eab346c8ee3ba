"""Where the pictures of a corpus are: files in a folder, or rows of a data set of Hugging Face that hold them."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from data.images.reading import ImageProblem, read_image


class ImageStore(ABC):
    """Pictures by row, each read when it is asked for; can be pickled."""

    @property
    @abstractmethod
    def place(self) -> str:
        """Where they are, for messages."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """A picture, 8-bit RGB; `ImageProblem` where it cannot be read."""

    @abstractmethod
    def identity(self, row: int) -> str:
        """Tells a picture from others, and from itself after a change."""

    @abstractmethod
    def present(self) -> list[bool]:
        """Of each row, whether there is anything to read."""

    @abstractmethod
    def take(self, rows: Sequence[int]) -> ImageStore:
        """Those of some rows alone."""


class ImageFiles(ImageStore):
    """Files below a folder.

    Args:
        folder: the folder.
        names: path of each picture, relative to the folder.
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

    def load(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The file, decoded."""
        return read_image(self.folder / self.names[row])

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
                listed[file.parent] = _files_in(file.parent)
            found.append(file.name in listed[file.parent])
        return found

    def take(self, rows: Sequence[int]) -> ImageFiles:
        """The files of some rows."""
        return ImageFiles(self.folder, [self.names[row] for row in rows])


class DatasetImages(ImageStore):
    """A column of pictures of a `datasets.Dataset`, as bytes or as paths of files; `datasets` decodes none of them.

    Args:
        dataset: that column alone, of type `Image(decode=False)`.
        name: what messages call the data set.
        rows: the row of each picture in the data set.
    """

    def __init__(self, dataset: Any, *, name: str, rows: Sequence[int]) -> None:
        self.dataset = dataset
        self.name = name
        self.rows = list(rows)

    @property
    def place(self) -> str:
        """The data set."""
        return self.name

    def __len__(self) -> int:
        return len(self.rows)

    def _held(self, row: int) -> dict[str, Any]:
        (held,) = self.dataset[self.rows[row]].values()
        return held or {"bytes": None, "path": None}

    def _called(self, row: int, path: str | None) -> str:
        return f"{self.name}, row {self.rows[row] + 1}" + (f" ({path})" if path else "")

    def load(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The bytes or the file, decoded."""
        held = self._held(row)
        name = self._called(row, held["path"])
        source = held["bytes"]
        return read_image(Path(held["path"]) if source is None else source, name=name)

    def identity(self, row: int) -> str:
        """A hash of the bytes; of a file its path, size and time of the last change."""
        held = self._held(row)
        if held["bytes"] is not None:
            return hashlib.sha256(held["bytes"]).hexdigest()
        return _file_identity(Path(held["path"]), name=held["path"])

    def present(self) -> list[bool]:
        """Whether there are bytes or a file; the bytes themselves are not looked at."""
        import pyarrow.compute as pc

        (column,) = self.dataset.column_names
        found: list[bool] = []
        # In pieces, for a data set that is a selection of another copies what it is asked for.
        for table in self.dataset.with_format("arrow").iter(batch_size=1000):
            for chunk in table.column(column).chunks:
                has_bytes = pc.is_valid(pc.struct_field(chunk, "bytes")).to_pylist()
                paths = pc.struct_field(chunk, "path").to_pylist()
                found += [
                    bytes_too or (path is not None and os.path.isfile(path))
                    for bytes_too, path in zip(has_bytes, paths, strict=True)
                ]
        return [found[row] for row in self.rows]

    def take(self, rows: Sequence[int]) -> DatasetImages:
        """Those of some rows."""
        return DatasetImages(self.dataset, name=self.name, rows=[self.rows[row] for row in rows])


def _files_in(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as found:
        return {entry.name for entry in found if entry.is_file()}


def _file_identity(file: Path, *, name: str) -> str:
    try:
        found = file.stat()
    except OSError as error:
        raise ImageProblem(f"{file} cannot be read: {error.strerror}.") from error
    return f"{Path(name).as_posix()}|{found.st_size}|{found.st_mtime_ns}"
