"""A folder a class: the names of the folders are the classes, and nothing else is written down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.corpora import corpus_folder, some
from data.media import MediaFiles, folders_in
from data.module import notify
from data.videos.carving import carved
from data.videos.checks import PARTS, Entry, Part
from data.videos.corpus import Listed, Listing, VideoCorpusConfig
from data.videos.listing import list_videos


@dataclass(frozen=True, kw_only=True)
class ClassFolders(VideoCorpusConfig):
    """Folders of clips: train/class/clip.mp4, test/... and, if there is one, validation/...; or class/clip.mp4 alone.

    Clips are told by their endings. Those without folders of parts are split by test_share.
    """

    path: str
    """The folder; relative to the working directory, to UNROLL_DATA, or one of the embedded sets."""
    train: str = "train"
    """Folder with a folder a class, to train on."""
    validation: str = "validation"
    """The same to validate on; it need not be there."""
    test: str = "test"
    """The same to test on."""
    test_share: float | None = None
    """Share of all clips to test on, in whole sources and evenly over classes, where the folders of the classes lie in `path`
    itself; null = there is a folder a part."""
    group_pattern: str | None = None
    """Regular expression that finds in a clip's path below its class what it was cut from: its first parenthesis, or all it
    matches ("^(.+)_[0-9]+[.]" for what precedes the last number). null = not known, every clip counts as a source."""
    groups_within_class: bool = False
    """Whether the same group in two classes counts as two sources."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise ValueError(f"data.corpus.test_share must be above 0 and below 1, or null, got {self.test_share}.")
        names = [self._folder(part) for part in PARTS]
        if len(set(names)) < len(names):
            raise ValueError(f"data.corpus.train, validation and test must differ, got {', '.join(map(repr, names))}.")
        if self.groups_within_class and self.group_pattern is None:
            raise ValueError(
                "data.corpus.groups_within_class says how to read groups, but group_pattern is null. Give the pattern, or "
                "leave groups_within_class out."
            )
        try:
            re.compile(self.group_pattern or "")
        except re.error as error:
            raise ValueError(
                f"data.corpus.group_pattern is {self.group_pattern!r}, no regular expression: {error}."
            ) from None

    def _folder(self, part: Part) -> str:
        name: str = getattr(self, part)
        return name

    def listing(self, *, cache_dir: str | None = None) -> Listing:
        """The clips in the order of classes and names."""
        folder = corpus_folder(self.path)
        there = folders_in(folder)
        if self.test_share is not None:
            if self.train in there and self.test in there:
                raise ValueError(
                    f"{folder} has the folders {self.train!r} and {self.test!r}, but data.corpus.test_share is "
                    f"{self.test_share}, with which its folders are the classes. Leave test_share out, or, if these are "
                    "classes, name other folders by data.corpus.train and test."
                )
            return Listing(self._split(self._listed(folder, "."), self.test_share))
        parts: dict[Part, Listed] = {}
        advice: dict[Part, str] = {}
        for part in PARTS:
            if self._folder(part) in there:
                parts[part] = self._listed(folder, self._folder(part))
            else:
                advice[part] = (
                    f"There is no folder {folder / self._folder(part)}. Folders in {folder}: {some(there) or 'none'}. Name the "
                    f"right one by data.corpus.{part}; if these are the classes, set data.corpus.test_share."
                )
        others = [name for name in there if name not in {self._folder(part) for part in PARTS}]
        if others and parts:
            notify(f"{folder}: folders that are of no part are left out: {some(others)}.")
        return Listing(parts, advice=advice)

    def _listed(self, root: Path, name: str) -> Listed:
        folder = root / name
        entries = []
        num_others = 0
        for class_name in folders_in(folder):
            clips, others = list_videos(folder / class_name)
            num_others += others
            entries += [self._entry(root, clip, folder / class_name) for clip in clips]
        if num_others:
            notify(f"{folder}: {num_others} files that are no videos by their endings are left out.")
        return Listed(entries, MediaFiles(root, [entry.name for entry in entries]), str(folder))

    def _entry(self, root: Path, clip: Path, class_folder: Path) -> Entry:
        group = None
        if self.group_pattern is not None:
            name = clip.relative_to(class_folder).as_posix()
            found = re.search(self.group_pattern, name)
            group = found and (found[1] if found.re.groups else found[0])
            if not group:
                raise ValueError(
                    f"{clip}: data.corpus.group_pattern, {self.group_pattern!r}, finds nothing in the name {name!r}. Every "
                    "clip's name must say what it was cut from, or none: then leave group_pattern out."
                )
            if self.groups_within_class:
                group = f"{class_folder.name}/{group}"
        return Entry(clip.relative_to(root).as_posix(), class_folder.name, group, str(clip))

    def _split(self, listed: Listed, share: float) -> dict[Part, Listed]:
        entries = listed.entries
        if not entries:
            return {"train": listed}
        taken = carved(
            [entry.class_name for entry in entries],
            [f"clip {entry.name}" if entry.group is None else f"group {entry.group}" for entry in entries],
            share=share,
            seed=self.split_seed,
        )
        unsure = " Nothing says what they were cut from: clips of one source may be on both sides."
        notify(
            f"{listed.place}: {taken.sum()} of {len(entries)} clips ({taken.mean():.1%}; test_share {share:g}, split_seed "
            f"{self.split_seed}) are to test on.{'' if self.group_pattern else unsure}"
        )
        return {
            "train": listed.take(np.flatnonzero(~taken).tolist()),
            "test": listed.take(np.flatnonzero(taken).tolist()),
        }
