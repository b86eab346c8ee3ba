"""Pictures with their captions, and what every form they come in promises."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt8

from data.corpora import some
from data.images.reading import read_image
from data.media import MediaStore
from data.module import notify

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True)
class CaptionCorpus:
    """The pictures of one part in the order they are listed in; each is read when it is asked for.

    It can be pickled, for the processes that prepare batches.
    """

    names: list[str]
    """Of each picture: its path below the folder of pictures, or its number; no two are equal."""
    captions: list[list[str]]
    """Of each picture: what was said of it, as read, at least one caption, none of white space."""
    images: MediaStore
    """Where the pictures are."""
    extras: list[dict[str, Any]] | None = None
    """Of each picture: whatever else the file says of it (Karpathy); None where it says nothing."""

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.captions) == len(self.images) > 0
        assert self.extras is None or len(self.extras) == len(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def load(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """A picture, 8-bit RGB.

        Raises:
            data.images.reading.ImageProblem: it cannot be read; the message has its file or its row.
        """
        return read_image(self.images.source(row), name=self.images.called(row))

    def identity(self, row: int) -> str:
        """Tells a picture from others and from itself after a change, without decoding it: for the keys of a cache.

        Raises:
            ValueError: its file is gone.
        """
        return self.images.identity(row)

    @cached_property
    def fingerprint(self) -> str:
        """Tells one corpus from another by names and captions, wherever it lies."""
        return hashlib.sha256(json.dumps([self.names, self.captions]).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class CaptionCorpusConfig(ABC):
    """Where the pictures and captions of each part are."""

    max_missing_share: float = 0.01
    """Share of a part's pictures that may be missing: they are left out, and named. More are an error."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_missing_share <= 1:
            raise ValueError(f"data.corpus.max_missing_share must be from 0 to 1, got {self.max_missing_share}.")

    @abstractmethod
    def read(self, part: Part, *, cache_dir: str | None = None) -> CaptionCorpus:
        """The pictures of a part that have a caption.

        Args:
            part: train, validation or test.
            cache_dir: where `datasets` keeps what it has prepared; None = its default. Nothing else uses it.

        Raises:
            ValueError: they cannot be read as they are meant; the message says where and what to change.
        """


@dataclass(frozen=True)
class Entry:
    """What a file says of one picture."""

    name: str
    captions: list[str]
    where: str
    """Its place, for messages: "captions.txt, line 3"."""
    extras: dict[str, Any] | None = None


def made_corpus(
    entries: Sequence[Entry], images: MediaStore, *, part: Part, place: str, max_missing_share: float
) -> CaptionCorpus:
    """The corpus of a part, without what cannot be used, which is counted and reported.

    Args:
        entries: all pictures of the part, no two of the same name.
        images: the same ones.
        part: its name, for messages.
        place: where the entries come from, for messages.
        max_missing_share: see `CaptionCorpusConfig`.

    Raises:
        ValueError: more pictures are missing than may be, one has none but empty captions, or nothing is left.
    """
    assert len(entries) == len(images)
    present = images.present()
    missing = [entry.name for entry, is_there in zip(entries, present, strict=True) if not is_there]
    if len(missing) > max_missing_share * len(entries):
        raise ValueError(
            f"{place}: {len(missing)} of the {len(entries)} pictures of the part {part!r} are not in {images.place} "
            f"({some(missing)}), and data.corpus.max_missing_share={max_missing_share} allows {max_missing_share:.1%} of "
            "them. Check where data.corpus looks for pictures, or raise max_missing_share to do without them."
        )
    rows, captions, bare, num_empty = [], [], [], 0
    for row, (entry, is_there) in enumerate(zip(entries, present, strict=True)):
        if not is_there:
            continue
        said = [caption for caption in entry.captions if caption.strip()]
        if entry.captions and not said:
            raise ValueError(
                f"{entry.where}: the picture {entry.name!r} has {len(entry.captions)} captions, all of them empty. Write one, "
                "or remove the picture from the file."
            )
        num_empty += len(entry.captions) - len(said)
        if said:
            rows.append(row)
            captions.append(said)
        else:
            bare.append(entry.name)
    left_out = [
        f"{len(names)} {why} ({some(names)})"
        for names, why in ((missing, f"that are not in {images.place}"), (bare, "without a caption"))
        if names
    ]
    said_of_it = f"{place}, {part}: of {len(entries)} pictures, left out are {' and '.join(left_out)}."
    if not rows:
        raise ValueError(
            f"{said_of_it if left_out else f'{place}, {part}: no picture is listed.'} Nothing is left in the part {part!r}. "
            f"Check data.corpus, and what it says of {part}."
        )
    if left_out:
        notify(said_of_it)
    if num_empty:
        notify(f"{place}, {part}: {num_empty} empty captions are left out; their pictures have others.")
    kept = [entries[row] for row in rows]
    return CaptionCorpus(
        names=[entry.name for entry in kept],
        captions=captions,
        images=images.take(rows),
        extras=[entry.extras or {} for entry in kept] if any(entry.extras for entry in kept) else None,
    )


def check_unique(names: Sequence[tuple[str, str]], *, advice: str) -> None:
    """Raises ValueError where a name is there twice.

    Args:
        names: each name, and its place for the message.
        advice: what to change.
    """
    seen: dict[str, str] = {}
    for name, where in names:
        if name in seen:
            raise ValueError(
                f"{where}: the picture {name!r} is there a second time; the first is {seen[name]}. {advice}"
            )
        seen[name] = where


def check_apart(parts: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Raises ValueError where a picture is in two parts: what is tested would have been trained on.

    Args:
        parts: the place of each part, for the message, and the names of its pictures.
    """
    seen: dict[str, str] = {}
    for place, names in parts:
        twice = [name for name in dict.fromkeys(names) if name in seen]
        if twice:
            raise ValueError(
                f"{place} and {seen[twice[0]]} share {len(twice)} pictures ({some(twice)}). What is evaluated must not have "
                "been trained on: leave each picture in one of them."
            )
        seen.update(dict.fromkeys(names, place))
