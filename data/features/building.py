"""The slot of a data set's features: finds what is there, and computes what is missing, in one process of all."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data.features.file import (
    UNFINISHED,
    WHOLE,
    Contents,
    DamagedFileError,
    FeatureRows,
    Indices,
    PartFile,
    Rows,
    check_room,
    lock,
    unlock,
    writing,
)

if TYPE_CHECKING:
    from torch import Tensor

Encode = Callable[[list[int]], "Tensor | npt.NDArray[Any]"]

_LARGEST = float(np.finfo(np.float16).max)


class Builder:
    """Computes what is missing, in the one process that is `alone` in the slot.

    Args:
        folder: where the files are.
        wanted: what is to be there.
        encode: features of the items of these numbers; see `FeatureCache.open_or_build`.
        label: what the features are called in messages.

    Attributes:
        num_computed: items given to `encode` so far.
    """

    def __init__(self, folder: Path, wanted: Contents, *, encode: Encode, label: str) -> None:
        self.folder = folder
        self.wanted = wanted
        self.encode = encode
        self.label = label
        self.num_computed = 0

    def build(self, numbers: list[int], *, batch_size: int) -> FeatureRows:
        """Compute or copy what is missing, then remove what is out of date.

        Args:
            numbers: those by which `encode` knows the items.
            batch_size: items an `encode`.
        """
        start = time.perf_counter()
        earlier = self._earlier()
        check_room(self.folder, self.wanted)
        part = PartFile(self.folder, self.wanted)
        num_before = int(part.done.sum())
        outdated = [old.path for old in earlier]
        while earlier:  # none may stay open: what this process itself reads would not be removed
            self._copy(earlier.pop(), part, batch_size=batch_size)
        num_copied = int(part.done.sum()) - num_before
        missing = np.flatnonzero(~part.done)
        with _progress(self.label, total=len(part.done), num_done=num_before + num_copied) as advance:
            for at in range(0, len(missing), batch_size):
                items = missing[at : at + batch_size]
                part.write(items, self._encoded(items, [numbers[item] for item in items.tolist()]))
                self.num_computed += len(items)
                advance(len(items))
        opened = FeatureRows(part.finish())
        counts = {"computed": self.num_computed, "copied": num_copied, "there from an interrupted run": num_before}
        say(
            f"{self.label}: {', '.join(f'{count:,} {what}' for what, count in counts.items() if count)}, in "
            f"{time.perf_counter() - start:.1f} s; {self.wanted.end / 1e6:,.1f} MB in {opened.path}"
        )
        for path in outdated:
            if not remove_unused(path):
                say(f"{self.label}: {path} stays, because a process still reads it or it may not be removed.")
        return opened

    def _earlier(self) -> list[FeatureRows]:
        """What the slot holds besides, after saying what is the matter with it."""
        earlier = []
        for path in _files(self.folder, self.wanted.slot, WHOLE, UNFINISHED):
            try:
                old = FeatureRows(path)
            except FileNotFoundError:
                continue
            except DamagedFileError as error:
                say(f"{self.label}: {path} is damaged ({error}) and is replaced.")
                with writing(path):
                    path.unlink()
                continue
            if path.stem == self.wanted.stem:
                continue  # unfinished, and continued now
            earlier.append(old)
            if differing := self.wanted.differences(old.contents):
                why = f"other {', '.join(differing)}"
            else:
                before, now = old.contents.items.items(), self.wanted.items.items()
                why = f"{len(now - before):,} items are new and {len(before - now):,} are gone"
            say(
                f"{self.label}: rebuilt, because those in {path} ({old.contents.end / 1e6:,.1f} MB) are out of date: {why}. "
                "They are removed afterwards."
            )
        return earlier

    def _copy(self, old: FeatureRows, part: PartFile, *, batch_size: int) -> None:
        if self.wanted.differences(old.contents):
            return
        there = dict(zip(old.contents.items.items(), range(len(old.done)), strict=True))
        pairs = [
            (item, there[identity])
            for item, identity in enumerate(self.wanted.items.items())
            if not part.done[item] and identity in there and old.done[there[identity]]
        ]
        starts = old.contents.starts
        for at in range(0, len(pairs), batch_size):
            batch = pairs[at : at + batch_size]
            rows = [old.rows[starts[source] : starts[source + 1]] for _, source in batch]
            part.write(np.array([item for item, _ in batch]), np.concatenate(rows))

    def _encoded(self, items: Indices, numbers: list[int]) -> Rows:
        features = self.encode(numbers)
        starts = self.wanted.starts
        counts = starts[items + 1] - starts[items]
        expected = (int(counts.sum()), *self.wanted.row_shape)
        if tuple(features.shape) != expected:
            raise ValueError(f"{self.label}: encode must give the shape {expected}, got {tuple(features.shape)}.")
        if not isinstance(features, np.ndarray):
            features = features.detach().half().cpu().numpy()
        with np.errstate(over="ignore"):
            half: Rows = features.astype(np.float16, copy=False)
        # Infinity and NaN have all bits of the exponent set; on integers the test is five times as fast as isfinite.
        if (half.view(np.uint16) & 0x7FFF).max() >= 0x7C00:
            row = int(np.flatnonzero(~np.isfinite(half.reshape(len(half), -1)).all(1))[0])
            number = int(np.searchsorted(np.cumsum(counts), row, side="right"))
            raise ValueError(
                f"{self.label}: item {numbers[number]:,} ({self.wanted.identities[items[number]]}) has a feature that is not "
                f"finite or beyond {_LARGEST:,.0f}, the largest number in float16, in which features are kept. Check the "
                "encoder's weights and the item, or do not keep features of this encoder."
            )
        return half


def find(folder: Path, wanted: Contents) -> FeatureRows | None:
    """A whole file with all that is wanted, and perhaps more. Needs no lock on the slot: a file never changes."""
    exact = folder / f"{wanted.stem}{WHOLE}"
    for path in (exact, *(path for path in _files(folder, wanted.slot, WHOLE) if path != exact)):
        try:
            opened = FeatureRows(path)
        except (FileNotFoundError, DamagedFileError):
            continue  # the builder says what is the matter
        there = opened.contents
        if not wanted.differences(there) and wanted.items.items() <= there.items.items():
            return opened
    return None


def _files(folder: Path, slot: str, *endings: str) -> list[Path]:
    return sorted(
        path
        for ending in endings
        for path in folder.glob(f"{slot}-*{ending}")
        if re.fullmatch("[0-9a-f]{16}", path.stem.removeprefix(f"{slot}-"))
    )


def remove_unused(path: Path) -> bool:
    """Whether a file is gone; one that a process still reads is not removed."""
    try:
        # Over NFS an exclusive lock needs a file that is open for writing.
        with path.open("r+b") as file:
            if not lock(file, exclusive=True):
                return False
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except OSError:  # somebody else's, or on a file system that is read only
        return False
    return True


@contextmanager
def alone(path: Path, *, label: str, notify: Callable[[str], None]) -> Iterator[None]:
    """Be the only process that builds in a slot.

    Args:
        path: the file to lock. It stays: removed, two processes could lock it, one of them without a name.
        label: what is built.
        notify: says that another process is at it.

    Raises:
        ValueError: the folder cannot be written to, or its file system has no locks.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    with file:
        if not lock(file, exclusive=True):
            notify(f"{label}: another process is computing them; waiting for it ({path}).")
            lock(file, exclusive=True, wait=True)
        try:
            # Over NFS a node remembers which names were not there; a change of its own makes it look again.
            with writing(path.parent), tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}-"):
                pass
            yield
        finally:
            unlock(file)


@contextmanager
def _progress(label: str, *, total: int, num_done: int) -> Iterator[Callable[[int], None]]:
    from tqdm import tqdm

    at_terminal = sys.stderr.isatty()
    if not at_terminal and num_done < total:
        say(f"{label}: {total - num_done:,} of {total:,} items are to be computed.")
    with tqdm(
        desc=label, total=total, initial=num_done, unit="item", file=sys.stderr, disable=not at_terminal, leave=False
    ) as bar:
        yield bar.update


def say(message: str) -> None:
    """Tell the user. Not by `data.module.notify`: whoever builds speaks, which need not be a run's first process."""
    print(message, file=sys.stderr, flush=True)
