"""Clips with their classes, and what every form they come in promises."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from data.corpora import some
from data.media import MediaStore
from data.module import notify
from data.videos.carving import carved
from data.videos.checks import PARTS, Entry, Part, check_classes, check_clips, check_groups

DEFAULT_VALIDATION_SHARE = 0.1


class Clip(NamedTuple):
    """One clip of a part."""

    name: str
    """Its path below the folder of the corpus, or its split and row; no two of a corpus are equal."""
    label: int
    """Its class, a place in `class_names`."""
    group: str | None
    """What it was cut from; None where nothing says so."""


@dataclass(frozen=True, kw_only=True)
class VideoCorpus:
    """The clips of one part in the order they are listed in; none is opened. It can be pickled, for worker processes."""

    clips: list[Clip]
    class_names: tuple[str, ...]
    """All classes in a fixed order, the same for every part, though a part may lack some."""
    videos: MediaStore
    """Where the clips are, in the same order."""

    def __post_init__(self) -> None:
        assert len(self.clips) == len(self.videos) > 0

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, row: int) -> Clip:
        return self.clips[row]

    @cached_property
    def labels(self) -> Int64[np.ndarray, "clips"]:
        """Class of each clip."""
        return np.array([clip.label for clip in self.clips], np.int64)

    @property
    def counts(self) -> Int64[np.ndarray, "classes"]:
        """Clips of each class: for `data.videos.balance`."""
        return np.bincount(self.labels, minlength=len(self.class_names)).astype(np.int64)

    def source(self, row: int) -> Path | bytes:
        """What to decode: a file, or the bytes of one."""
        return self.videos.source(row)

    def called(self, row: int) -> str:
        """What messages call a clip: its file, or its place in a data set."""
        return self.videos.called(row)

    def identity(self, row: int) -> str:
        """Tells a clip from others and from itself after a change, without decoding it: for the keys of a cache.

        Raises:
            ValueError: its file is gone.
        """
        return self.videos.identity(row)

    @cached_property
    def fingerprint(self) -> str:
        """Tells one corpus from another by names, classes and groups, wherever it lies."""
        return hashlib.sha256(json.dumps([self.clips, self.class_names]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Listed:
    """The clips that one part lists, before anything is checked."""

    entries: list[Entry]
    videos: MediaStore
    """Where they are, in the same order."""
    place: str
    """What lists them, for messages."""

    def take(self, rows: Sequence[int]) -> Listed:
        """Some of them alone."""
        return Listed([self.entries[row] for row in rows], self.videos.take(rows), self.place)


@dataclass(frozen=True)
class Listing:
    """All that a form of a corpus says."""

    parts: Mapping[Part, Listed]
    """The parts that it lists, "train" always among them; a part without an entry counts as not listed."""
    class_names: tuple[str, ...] | None = None
    """All classes in their order, where something says so; None = those of the clips, sorted."""
    class_place: str = ""
    """What says so, for messages."""
    advice: dict[Part, str] = field(default_factory=dict)
    """Of a part that it does not list: where it was looked for and what to change."""


@dataclass(frozen=True, kw_only=True)
class VideoCorpusConfig(ABC):
    """Where the clips of each part are, and of which class each is."""

    max_missing_share: float = 0.01
    """Share of a part's clips that may be missing: they are left out, and named. More are an error."""
    allow_shared_groups: bool = False
    """Take a split as it is though clips of one source are on both of its sides; otherwise it is refused."""
    validation_share: float | None = None
    """Share of the training clips to validate on, in whole sources and evenly over classes, where nothing lists clips to
    validate on; null = 0.1; 0 = validate on the test part and train on all clips, as papers without a validation part do."""
    split_seed: int = 0
    """Seed of what is taken out for validation. It is not the run's, so that runs with different seeds validate on the same
    clips."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_missing_share <= 1:
            raise ValueError(f"data.corpus.max_missing_share must be from 0 to 1, got {self.max_missing_share}.")
        if self.validation_share is not None and not 0 <= self.validation_share < 1:
            raise ValueError(
                f"data.corpus.validation_share must be at least 0 and below 1, or null, got {self.validation_share}."
            )
        if self.split_seed < 0:
            raise ValueError(f"data.corpus.split_seed cannot be negative, got {self.split_seed}.")

    @abstractmethod
    def listing(self, *, cache_dir: str | None = None) -> Listing:
        """What is listed, of all parts, with no more checks than reading it takes; errors as in `read`."""

    def read(self, part: Part, *, cache_dir: str | None = None) -> VideoCorpus:
        """The clips of a part.

        All parts are looked at, whichever is asked for: the classes are those of all, and whoever only tests must hear of a
        split that cannot be trusted, too. Only of this part is it asked whether the clips are there.

        Args:
            part: train, validation or test.
            cache_dir: where `datasets` keeps what it has prepared; None = its default. Nothing else uses it.

        Raises:
            ValueError: they cannot be read as they are meant; the message says where and what to change.
        """
        assert part in PARTS
        listing = self.listing(cache_dir=cache_dir)
        parts = {each: listed for each, listed in listing.parts.items() if listed.entries}
        if "train" not in parts:
            raise _nothing_listed("train", listing)
        entries = {each: listed.entries for each, listed in parts.items()}
        check_clips(entries)
        class_names = check_classes(entries, listing.class_names, place=listing.class_place or parts["train"].place)
        check_groups(entries, allowed=self.allow_shared_groups)
        if part != "test":
            parts = self._with_validation(parts, asked_for=part)
        if part not in parts:
            raise _nothing_listed(part, listing)
        return self._present(parts[part], class_names, part)

    def _with_validation(self, parts: dict[Part, Listed], *, asked_for: Part) -> dict[Part, Listed]:
        """The parts, with one to validate on."""
        train = parts["train"]
        if "validation" in parts:
            if self.validation_share is not None:
                raise ValueError(
                    f"data.corpus.validation_share is {self.validation_share}, but {parts['validation'].place} lists "
                    f"{len(parts['validation'].entries)} clips to validate on, and none is taken from the training part. Leave "
                    "validation_share out."
                )
            return parts
        share = DEFAULT_VALIDATION_SHARE if self.validation_share is None else self.validation_share
        if share == 0:
            if "test" not in parts:
                raise ValueError(
                    f"{train.place}: data.corpus.validation_share is 0, which means to validate on the test part, but there is "
                    "none. Set it above 0 to validate on that share of the training clips."
                )
            if asked_for == "validation":
                notify(
                    f"{train.place}: validation is on the test part (validation_share is 0). A score of the test part is then "
                    "only worth something for the last epoch, not for one that was chosen by it."
                )
            return {**parts, "validation": parts["test"]}
        entries = train.entries
        taken = carved(
            [entry.class_name for entry in entries],
            [f"clip {entry.name}" if entry.group is None else f"group {entry.group}" for entry in entries],
            share=share,
            seed=self.split_seed,
        )
        if not taken.any():
            raise ValueError(
                f"{train.place}: nothing lists clips to validate on, and a share of {share:g} of the {len(entries)} training "
                "clips cannot be taken without splitting a source or emptying a class. Raise data.corpus.validation_share, or "
                "set it to 0 to validate on the test part."
            )
        validation = train.take(np.flatnonzero(taken).tolist())
        if asked_for == "train":
            notify(
                f"{train.place}: {(~taken).sum()} of {len(entries)} training clips; the others are taken to validate on."
            )
        else:
            notify(_said_of_carving(train, validation, share, self.split_seed))
        return {**parts, "train": train.take(np.flatnonzero(~taken).tolist()), "validation": validation}

    def _present(self, listed: Listed, class_names: tuple[str, ...], part: Part) -> VideoCorpus:
        """The corpus of a part, without clips that are missing, which are counted and reported."""
        entries, videos, place = listed.entries, listed.videos, listed.place
        present = videos.present()
        gone = [entry for entry, is_there in zip(entries, present, strict=True) if not is_there]
        named = some([f"{entry.name} ({entry.where.removeprefix(f'{place}, ')})" for entry in gone])
        if len(gone) > self.max_missing_share * len(entries):
            raise ValueError(
                f"{place}: {len(gone)} of the {len(entries)} clips of the part {part!r} are not in {videos.place}: {named}. "
                f"data.corpus.max_missing_share={self.max_missing_share} allows {self.max_missing_share:.1%} of them. Check "
                "where data.corpus looks for clips, or raise max_missing_share to do without them."
            )
        rows = [row for row, is_there in enumerate(present) if is_there]
        left = {entries[row].class_name for row in rows}
        lost = [name for name in dict.fromkeys(entry.class_name for entry in gone) if name not in left]
        if not rows or (part == "train" and lost):
            raise ValueError(
                f"{place}, {part}: {len(gone)} of {len(entries)} clips are missing ({named}), and nothing is left of the "
                f"classes {some(lost)}. Bring their clips to {videos.place}, or take these classes out of the split."
            )
        if gone:
            notify(
                f"{place}, {part}: of {len(entries)} clips, {len(gone)} that are not in {videos.place} are left out: {named}."
            )
        numbers = {name: number for number, name in enumerate(class_names)}
        clips = [Clip(entry.name, numbers[entry.class_name], entry.group) for entry in entries]
        return VideoCorpus(clips=[clips[row] for row in rows], class_names=class_names, videos=videos.take(rows))


def _nothing_listed(part: Part, listing: Listing) -> ValueError:
    place = listing.parts[part].place if part in listing.parts else "data.corpus"
    others = ", ".join(
        f"{each} ({len(listed.entries)} clips)" for each, listed in listing.parts.items() if listed.entries
    )
    advice = listing.advice.get(part, f"Check data.corpus, and what it says of {part}.")
    return ValueError(
        f"{place}: no clip is listed for the part {part!r}. Parts with clips: {others or 'none'}. {advice}"
    )


def _said_of_carving(train: Listed, validation: Listed, share: float, seed: int) -> str:
    groups = {entry.group for entry in validation.entries} - {None}
    what = f"all clips of {len(groups)} of {len({entry.group for entry in train.entries} - {None})} sources, "
    alone = sum(entry.group is None for entry in train.entries)
    unsure = (
        f" Of {alone} training clips nothing says what they were cut from: clips of one source may be on both sides."
        if alone
        else ""
    )
    classes = dict.fromkeys(entry.class_name for entry in train.entries)
    without = [name for name in classes if name not in {entry.class_name for entry in validation.entries}]
    return (
        f"{train.place}: nothing lists clips to validate on. {len(validation.entries)} of {len(train.entries)} training clips "
        f"({len(validation.entries) / len(train.entries):.1%}; {what if groups else ''}validation_share {share:g}, "
        f"split_seed {seed}) are taken for it.{unsure}"
        + (f" Classes without a clip to validate on: {some(without)}." if without else "")
    )
