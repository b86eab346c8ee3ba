"""A file of features: what it holds, then the rows in float16, mapped into memory when they are read.

    8 bytes    the format
    8 bytes    size of the header, little-endian
    header     `Contents` as JSON
    zeros      up to a multiple of 4,096 bytes
    rows       float16, item after item
    marks      only while it is built: one byte an item, 1 once its rows are on the disk

It is built as `<stem>.part` and renamed to `<stem>.features` when it is whole. The stem ends in a hash of the header, so
a file never changes what it holds, and a damaged header is noticed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from data.paths import CACHE_VARIABLE

Rows = npt.NDArray[np.float16]
Indices = npt.NDArray[np.int64]

WHOLE, UNFINISHED = ".features", ".part"

_FORMAT = b"unroll-1"
_ALIGNMENT = 4096


class DamagedFileError(Exception):
    """A file of features that is not as it was written; the message says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a file of features holds."""

    slot: str
    """Name by which people know the features, e.g. flickr8k-train."""
    key: dict[str, str]
    """What decides the features besides the items: weights, transform ..."""
    row_shape: tuple[int, ...]
    """Shape of a row."""
    identities: tuple[str, ...]
    """The items, each once."""
    lengths: tuple[int, ...] | None
    """Rows of each item; None: one row an item."""

    @cached_property
    def header(self) -> bytes:
        """All of it as JSON."""
        plain = {name: getattr(self, name) for name in ("slot", "key", "row_shape", "identities", "lengths")}
        return json.dumps(plain, sort_keys=True).encode("ascii")

    @cached_property
    def stem(self) -> str:
        """Name of the file without its ending."""
        return f"{self.slot}-{hashlib.sha256(self.header).hexdigest()[:16]}"

    @cached_property
    def starts(self) -> Indices:
        """First row of each item, and behind the last item the number of rows: `(num_items + 1,)`."""
        lengths = (
            np.ones(len(self.identities), np.int64) if self.lengths is None else np.asarray(self.lengths, np.int64)
        )
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    @cached_property
    def items(self) -> dict[str, int]:
        """Rows of each item by its identity."""
        return dict(zip(self.identities, np.diff(self.starts).tolist(), strict=True))

    @property
    def offset(self) -> int:
        """Bytes before the rows."""
        return -(-(len(_FORMAT) + 8 + len(self.header)) // _ALIGNMENT) * _ALIGNMENT

    @property
    def row_nbytes(self) -> int:
        """Bytes of a row."""
        return 2 * math.prod(self.row_shape)

    @property
    def end(self) -> int:
        """Bytes of the whole file."""
        return self.offset + int(self.starts[-1]) * self.row_nbytes

    def differences(self, other: Contents) -> list[str]:
        """Names of what decides the features and is not the same in another file."""
        names = sorted(self.key.keys() | other.key.keys())
        differing = [name for name in names if self.key.get(name) != other.key.get(name)]
        kinds = [(contents.row_shape, contents.lengths is None) for contents in (self, other)]
        return differing + (["shape of the rows"] if kinds[0] != kinds[1] else [])


class FeatureRows:
    """The rows of a file, mapped into memory. While it is open, no other process removes the file as out of date.

    Args:
        path: the file, whole or unfinished.

    Attributes:
        contents: what the file holds.
        rows: float16 `(num_rows, *row_shape)`.
        done: bool `(num_items,)`, items whose rows are in the file.

    Raises:
        FileNotFoundError: there is no such file, or it is being removed.
        DamagedFileError: it is not as it was written.
        ValueError: it may not be read, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = path.open("rb")
        except NotADirectoryError as error:
            raise FileNotFoundError(path) from error
        except PermissionError as error:
            raise ValueError(
                f"{path} cannot be read ({error.strerror}). Name another folder by {CACHE_VARIABLE}."
            ) from error
        # The mapping keeps a duplicate of the descriptor, and with it the lock, for as long as it lives.
        with file:
            if not lock(file, exclusive=False) or os.fstat(file.fileno()).st_nlink == 0:
                raise FileNotFoundError(path)
            self.contents = contents = _read_contents(file, stem=path.stem)
            size = os.fstat(file.fileno()).st_size
            num_items = len(contents.identities)
            sizes = {contents.end} if path.suffix == WHOLE else {contents.end, contents.end + num_items}
            if size not in sizes:
                raise DamagedFileError(f"{size:,} bytes instead of {contents.end:,}")
            self.done: npt.NDArray[np.bool_] = np.ones(num_items, np.bool_)
            if size != contents.end:
                file.seek(contents.end)
                self.done = np.frombuffer(file.read(num_items), np.uint8) == 1
            shape = (int(contents.starts[-1]), *contents.row_shape)
            self.rows: Rows = np.asarray(np.memmap(file, np.float16, "r", contents.offset, shape))


class PartFile:
    """A file that is being built, by one process at a time: a new one, or one that an earlier process left unfinished.

    Args:
        folder: where it lies.
        contents: what it is to hold.

    Attributes:
        done: bool `(num_items,)`, items whose rows are on the disk.

    Raises:
        ValueError: in all its methods, where the folder cannot be written to. Nothing of the file is left then.
    """

    def __init__(self, folder: Path, contents: Contents) -> None:
        self.contents = contents
        self.path = folder / f"{contents.stem}{UNFINISHED}"
        try:
            self.done = FeatureRows(self.path).done
        except (FileNotFoundError, DamagedFileError):
            self.done = np.zeros(len(contents.identities), np.bool_)
            self._create()

    def _create(self) -> None:
        with writing(self.path, discard=True):
            with self.path.open("wb") as file:
                file.write(_FORMAT + len(self.contents.header).to_bytes(8, "little") + self.contents.header)
                file.flush()
                file.truncate(self.contents.end + len(self.done))
                os.fsync(file.fileno())
            _sync_folder(self.path.parent)

    def write(self, items: Indices, rows: Rows) -> None:
        """Put the rows of some items, in ascending order, on the disk.

        Not through a mapping: a full disk is an error when written to, but kills a process that maps.
        """
        contents = self.contents
        first, behind = contents.starts[items], contents.starts[items + 1]
        at = np.concatenate([[0], np.cumsum(behind - first)])
        runs = [0, *(np.flatnonzero(first[1:] != behind[:-1]) + 1).tolist(), len(items)]
        self.done[items] = True
        marked = slice(int(items[0]), int(items[-1]) + 1)
        with writing(self.path, discard=True), self.path.open("r+b") as file:
            for begin, end in pairwise(runs):
                file.seek(contents.offset + int(first[begin]) * contents.row_nbytes)
                file.write(np.ascontiguousarray(rows[at[begin] : at[end]]).data)
            file.flush()
            # The marks must never be on the disk before the rows are.
            os.fsync(file.fileno())
            file.seek(contents.end + marked.start)
            file.write(self.done[marked].tobytes())

    def finish(self) -> Path:
        """Give the file, now that all items are done, the name under which it is found."""
        assert self.done.all()
        whole = self.path.with_suffix(WHOLE)
        with writing(self.path, discard=True):
            with self.path.open("r+b") as file:
                file.truncate(self.contents.end)
                os.fsync(file.fileno())
            os.replace(self.path, whole)
            _sync_folder(whole.parent)
        return whole


def lock(file: IO[Any], *, exclusive: bool, wait: bool = False) -> bool:
    """Whether the lock of an open file is had; another process has it otherwise. It ends with the process.

    Raises:
        ValueError: the file system has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise ValueError(
            f"{file.name} cannot be locked ({error.strerror}), which keeps processes from each other's features. Name a "
            f"folder on another file system by {CACHE_VARIABLE}."
        ) from error
    return True


def check_room(folder: Path, contents: Contents) -> None:
    """Notice a disk that is too small now, not when it is full.

    Raises:
        ValueError: naming what is missing.
    """
    part = folder / f"{contents.stem}{UNFINISHED}"
    # Holes take no room: what counts is the blocks that an unfinished file has already.
    needed = contents.end - (part.stat().st_blocks * 512 if part.exists() else 0)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder} has {free / 1e6:,.1f} MB free, but the features {contents.slot} need {needed / 1e6:,.1f} MB more. Make "
            f"room there, or name another folder by {CACHE_VARIABLE}."
        )


def unlock(file: IO[Any]) -> None:
    """Give a lock back now. Closing the file would not, where a process forked meanwhile has inherited it."""
    fcntl.flock(file, fcntl.LOCK_UN)


@contextmanager
def writing(path: Path, *, discard: bool = False) -> Iterator[None]:
    """Turn an error of writing into one that a user can act on.

    Args:
        path: what is written.
        discard: remove it then, so that a full disk is not kept full by something unfinished.
    """
    try:
        yield
    except OSError as error:
        if discard:
            with suppress(OSError):  # what cannot be written may not be there to be removed either
                path.unlink()
        raise ValueError(
            f"{path} cannot be written ({error.strerror}). Make room there, or name another folder by {CACHE_VARIABLE}."
        ) from error


def _sync_folder(folder: Path) -> None:
    # A new name reaches the disk with its folder, not with its file.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_contents(file: IO[bytes], *, stem: str) -> Contents:
    if file.read(len(_FORMAT)) != _FORMAT:
        raise DamagedFileError("it does not begin as a file of features does")
    size = int.from_bytes(file.read(8), "little")
    left = os.fstat(file.fileno()).st_size - file.tell()
    header = file.read(size) if size <= left else b""
    if f"-{hashlib.sha256(header).hexdigest()[:16]}" != stem[-17:]:
        raise DamagedFileError("its header is not the one that was written")
    plain = json.loads(header)
    lengths = plain["lengths"]
    return Contents(
        slot=plain["slot"],
        key=plain["key"],
        row_shape=tuple(plain["row_shape"]),
        identities=tuple(plain["identities"]),
        lengths=None if lengths is None else tuple(lengths),
    )
