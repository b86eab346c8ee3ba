"""Features of a frozen encoder, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float16, Int64, UInt8

from data.features.building import Builder, Encode, alone, find, remove_unused, say
from data.features.file import Contents, DamagedFileError, FeatureRows, Indices, Rows

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FrozenEncoder:
    """What an application hands over so that images are encoded once, and their features kept."""

    encode: Callable[[UInt8[Tensor, "batch 3 height width"]], Float[Tensor, "batch regions features"]]
    """The encoder, without gradients."""
    fingerprint: Callable[[], str]
    """Tells one encoder from another, weights included; asked for when the first batch is."""
    row_shape: tuple[int, int]
    """Regions and features of an image."""
    epochs: int | None = None
    """Epochs of training before the encoder thaws; None: never, and then evaluation takes features as well."""


class PaddedFeatures(NamedTuple):
    """Features of items that have several rows each."""

    features: Float16[Tensor, "batch time *row"]
    """Zero behind the length of an item."""
    lengths: Int64[Tensor, "batch"]
    """Rows of each item."""


class FeatureCache:
    """Features of the items of a data set, in float16 in a file that is mapped into memory: made by `open_or_build`.

    Rounding to float16 changes a feature by at most 2^-11 = 0.05 % of itself, and one below 6.1e-5 by at most 3e-8.

    A file belongs to a slot, such as flickr8k-train, and to a key: all that decides the features besides the items. A
    slot keeps one file: features are large, and those of another key are mostly those of an encoder or a transform
    that has been given up. Once the features of the present key are whole, the earlier ones are removed, and both is
    said, with what differs. They stay where another process still reads them. Two configurations that are used in turn
    get a slot each, by its name.

    It may be opened by several processes at once, also on several nodes with a common file system: one computes, the
    others wait for it, and one of them goes on where it dies. Open it before anything in which the processes wait for
    each other, as a collective operation, which would time out. Worker processes get it by fork or by pickle, without
    the data.

    Attributes:
        path: the file.
        num_computed: items that were computed when it was opened; 0 where all were there.
    """

    def __init__(self, opened: FeatureRows, *, identities: Sequence[str], num_computed: int) -> None:
        self.path = opened.path
        self.num_computed = num_computed
        contents = opened.contents
        place = dict(zip(contents.identities, range(len(contents.identities)), strict=True))
        items = np.fromiter((place[identity] for identity in identities), np.int64, len(identities))
        self._starts: Indices = contents.starts[items]
        self._lengths: Indices | None = None if contents.lengths is None else np.diff(contents.starts)[items]
        self._opened: FeatureRows | None = opened
        self._dropped = False

    @classmethod
    def open_or_build(
        cls,
        folder: Path,
        *,
        name: str,
        key: Mapping[str, str],
        identities: Sequence[str],
        encode: Encode,
        row_shape: tuple[int, ...],
        batch_size: int = 64,
        lengths: Sequence[int] | None = None,
        description: str = "features",
        notify_waiting: Callable[[str], None] | None = None,
    ) -> Self:
        """The features from the cache; those that are not there are computed first, with a progress bar on stderr.

        A process that is killed has lost the batch it was in, no more: the next call goes on behind the last whole one.
        Items may come, go or change their order: what is there under the same key and identity is copied. A file that
        holds more than is asked for serves as it is, so that a run on a part of a data set costs nothing.

        Args:
            folder: the cache; the files lie in its subfolder `features`.
            name: the slot: letters, digits, dots, dashes and underscores.
            key: what decides the features besides the items (weights, transform, precision ...), by names that are
                shown when they differ.
            identities: an item each, something that changes when the item does: path, size and time of change, or a
                hash of what it holds. Items of the same identity are computed once.
            encode: features of the items of these numbers, `(len(items), *row_shape)`, in any floating-point type, on
                any device; with `lengths` the rows of all these items, one item after the other.
            row_shape: shape of a row.
            batch_size: items an `encode`.
            lengths: rows of each item, such as frames of a clip; None: one row an item.
            description: what the features are called in messages.
            notify_waiting: says that another process computes; None: on stderr. Processes of one run give
                `data.module.notify`, and it is said once and not once a process.

        Raises:
            ValueError: an argument is not as described, a feature is not finite in float16, or the folder cannot be
                written to.
        """
        wanted = _contents(name, key=key, identities=identities, row_shape=row_shape, lengths=lengths)
        if batch_size < 1:
            raise ValueError(f"batch_size of the {description} must be at least 1, got {batch_size}.")
        folder = folder / "features"
        opened, num_computed = find(folder, wanted), 0
        if opened is None:
            with alone(folder / f"{name}.lock", label=f"{description} {name}", notify=notify_waiting or say):
                opened = find(folder, wanted)
                if opened is None:
                    builder = Builder(folder, wanted, encode=encode, label=f"{description} {name}")
                    numbers = {identity: number for number, identity in reversed(list(enumerate(identities)))}
                    opened = builder.build([numbers[identity] for identity in wanted.identities], batch_size=batch_size)
                    num_computed = builder.num_computed
        return cls(opened, identities=identities, num_computed=num_computed)

    def __len__(self) -> int:
        return len(self._starts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    @property
    def lengths(self) -> npt.NDArray[np.int64] | None:
        """Rows of each item `(num_items,)`, or None where each has one."""
        return self._lengths

    def take(self, rows: npt.NDArray[np.int64]) -> Float16[Tensor, "batch *row"]:
        """Features of the items of these numbers, of which each has one row.

        Raises:
            IndexError: there is no such item.
            ValueError: items have several rows, or the file is no longer there.
        """
        if self._lengths is not None:
            raise ValueError("Items have several rows each: take_padded gives them with their lengths.")
        import torch

        return torch.from_numpy(np.take(self._rows(), self._starts[self._checked(rows)], axis=0))

    def take_padded(self, rows: npt.NDArray[np.int64]) -> PaddedFeatures:
        """Features of the items of these numbers, of which each has several rows, padded to the longest of them.

        Raises:
            IndexError: there is no such item.
            ValueError: items have one row each, or the file is no longer there.
        """
        if self._lengths is None:
            raise ValueError("Items have one row each: take gives them.")
        import torch

        lengths = self._lengths[self._checked(rows)]
        steps = np.arange(lengths.max(initial=0))[None]
        # Behind its end an item reads its last row again, which is at hand, and is then overwritten: one gather in all.
        features = np.take(self._rows(), self._starts[rows][:, None] + np.minimum(steps, lengths[:, None] - 1), axis=0)
        features[steps >= lengths[:, None]] = 0
        return PaddedFeatures(torch.from_numpy(features), torch.from_numpy(lengths))

    def drop(self) -> bool:
        """Give the features up, as for an encoder that is to be trained. Returns whether the file is gone.

        Where other processes still read it, it stays until the last of them drops it.
        """
        self._opened, self._dropped = None, True
        return remove_unused(self.path)

    def _rows(self) -> Rows:
        if self._opened is None:
            if self._dropped:
                raise ValueError(f"The features in {self.path} were dropped: nothing can be taken from them.")
            try:
                self._opened = FeatureRows(self.path)
            except (FileNotFoundError, DamagedFileError) as error:
                raise ValueError(
                    f"{self.path} was removed or damaged while it was in use ({error}). Start again: the features are "
                    "computed anew."
                ) from error
        return self._opened.rows

    def _checked(self, rows: Indices) -> Indices:
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"Items are 0 to {len(self) - 1:,}, got {rows.min():,} to {rows.max():,}.")
        return rows


def _contents(
    name: str,
    *,
    key: Mapping[str, str],
    identities: Sequence[str],
    row_shape: tuple[int, ...],
    lengths: Sequence[int] | None,
) -> Contents:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"Name of features must consist of letters, digits, dots, dashes and underscores, got {name!r}."
        )
    if not identities:
        raise ValueError(f"There are no items to compute features of ({name}).")
    if any(size < 1 for size in row_shape):
        raise ValueError(f"row_shape of the features {name} must have sizes of at least 1, got {row_shape}.")
    if lengths is None:
        distinct = dict.fromkeys(identities, 1)
    else:
        if len(lengths) != len(identities):
            raise ValueError(f"{name}: {len(identities):,} items, but {len(lengths):,} lengths.")
        distinct = {}
        for identity, length in zip(identities, lengths, strict=True):
            if length < 1 or distinct.setdefault(identity, int(length)) != length:
                raise ValueError(
                    f"{name}: item {identity} has a length of {length}; it must be at least 1, and the same wherever the "
                    "item is listed."
                )
    return Contents(
        slot=name,
        key=dict(key),
        row_shape=tuple(row_shape),
        identities=tuple(distinct),
        lengths=None if lengths is None else tuple(distinct.values()),
    )


def slot_name(corpus: object) -> str:
    """A readable name of where a corpus comes from, the same in every run.

    Args:
        corpus: a config with a `path` or a `name_or_folder`.
    """
    where = str(getattr(corpus, "path", None) or getattr(corpus, "name_or_folder", None) or type(corpus).__name__)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(where).name).strip(".-_")
    return f"{name or type(corpus).__name__}-{hashlib.sha256(where.encode()).hexdigest()[:6]}"
