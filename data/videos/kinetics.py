"""Kinetics as it is handed out: Kay et al., "The Kinetics Human Action Video Dataset", 2017, and its successors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.corpora import corpus_folder, existing_file
from data.media import MediaFiles, files_in, folders_in
from data.tables import read_columns
from data.videos.checks import PARTS, Entry, Part
from data.videos.corpus import Listed, Listing, VideoCorpusConfig


@dataclass(frozen=True, kw_only=True)
class Kinetics(VideoCorpusConfig):
    """A CSV a part with label, youtube_id, time_start and time_end, and clips called id_000010_000020.mp4.

    A clip lies in its part's folder, or there in one called like its class (spaces may be underscores). Videos vanish from
    where they were published, so that hardly any copy is whole: max_missing_share says how many may be missing. A source is a
    video, whatever was cut from it.
    """

    path: str
    """The folder; relative to the working directory or to UNROLL_DATA."""
    annotations: str = "annotations/{part}.csv"
    """The CSV files below it; {part} stands for what the part is called."""
    videos: str = "{part}"
    """Folders with the clips below it, likewise."""
    train: str = "train"
    """What the part to train on is called."""
    validation: str | None = "val"
    """The same of the part to validate on; null = take a share of the training clips."""
    test: str = "test"
    """The same of the part to test on. That of some editions has no labels: name the validation part, and set validation to
    null."""
    label_column: str = "label"
    """Column with the name of a clip's class."""
    id_column: str = "youtube_id"
    """Column with the video's identifier."""
    start_column: str = "time_start"
    """Column with the clip's begin in the video, whole seconds."""
    end_column: str = "time_end"
    """Column with its end."""
    ending: str = ".mp4"
    """What the files end in."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name for part in PARTS if (name := self._called(part)) is not None]
        if len(set(names)) < len(names):
            raise ValueError(f"data.corpus.train, validation and test must differ, got {', '.join(map(repr, names))}.")
        if "{part}" not in self.annotations:
            raise ValueError(
                f"data.corpus.annotations is {self.annotations!r}, but must have {{part}} where the part's name stands."
            )

    def _called(self, part: Part) -> str | None:
        name: str | None = getattr(self, part)
        return name

    def listing(self, *, cache_dir: str | None = None) -> Listing:
        """The clips in the order of the rows."""
        folder = corpus_folder(self.path)
        parts: dict[Part, Listed] = {}
        advice: dict[Part, str] = {}
        for part in PARTS:
            called = self._called(part)
            if called is None:
                continue
            name = self.annotations.replace("{part}", called)
            # One may do without a test part, as long as nothing asks for it.
            if part == "test" and not (folder / name).is_file():
                advice[part] = (
                    f"There is no file {folder / name}. Name the part's CSV by data.corpus.test and annotations."
                )
                continue
            file = existing_file(folder, name, key="annotations")
            entries = self._entries(folder, file, self.videos.replace("{part}", called))
            parts[part] = Listed(entries, MediaFiles(folder, [entry.name for entry in entries]), str(file))
        return Listing(parts, advice=advice)

    def _entries(self, root: Path, file: Path, folder: str) -> list[Entry]:
        columns = {
            self.label_column: "label_column",
            self.id_column: "id_column",
            self.start_column: "start_column",
            self.end_column: "end_column",
        }
        videos = root / folder
        folders = set(folders_in(videos)) if videos.is_dir() else set()
        flat = set(files_in(videos)) if videos.is_dir() else set()
        entries = []
        for where, (*texts, start, end) in read_columns(file, columns):
            for value, column in zip(texts, columns, strict=False):
                if not isinstance(value, str) or not value.strip():
                    raise ValueError(f"{where}: {column!r} is {value!r}, but must say something.")
            label, video = (value.strip() for value in texts)
            begin, until = _seconds(start, self.start_column, where), _seconds(end, self.end_column, where)
            name = f"{video}_{begin:06}_{until:06}{self.ending}"
            underscored = label.replace(" ", "_")
            below = next((each for each in (label, underscored) if each in folders), None)
            path = name if name in flat or below is None else f"{below}/{name}"
            entries.append(Entry((Path(folder) / path).as_posix(), label, video, where))
        return entries


def _seconds(value: Any, column: str, where: str) -> int:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not (seconds >= 0 and seconds == int(seconds) and seconds < 1e6):
        raise ValueError(f"{where}: {column!r} is {value!r}, but must be whole seconds from the start of the video.")
    return int(seconds)
