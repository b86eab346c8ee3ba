"""UCF101 as it is handed out: Soomro et al., "UCF101", CRCV-TR-12-01, 2012, and sets of the same form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.corpora import corpus_folder, existing_file, folder_below
from data.media import MediaFiles
from data.parallel.files import read_lines
from data.videos.checks import Entry, Part, unknown_class
from data.videos.corpus import Listed, Listing, VideoCorpusConfig

_NAME = re.compile(r"v_.+_(?P<group>g\d+)_c\d+")
_LINE = re.compile(r"(?P<path>\S.*?)(?:\s+(?P<number>\d+))?")


@dataclass(frozen=True, kw_only=True)
class UCF101(VideoCorpusConfig):
    """Clips `class/v_class_g08_c01.avi`, classInd.txt with a number and a name a class, a list of clips a part.

    The clips of a class were cut from 25 groups, g01 to g25, which begin anew in every class; the three splits keep them
    apart. There is no validation part.
    """

    path: str
    """The folder; relative to the working directory or to UNROLL_DATA."""
    videos: str = "UCF-101"
    """Folder with a folder a class."""
    lists: str = "ucfTrainTestlist"
    """Folder with classInd.txt and the lists."""
    split: int = 1
    """Which of the splits: 1 reads trainlist01.txt and testlist01.txt."""
    ending: str | None = None
    """Ending of the clips where they were converted (".mp4"); null = that of the lists (.avi)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_split(self.split, self.ending)

    def listing(self, *, cache_dir: str | None = None) -> Listing:
        """The clips in the order of the lists, the classes in that of their numbers."""
        folder = corpus_folder(self.path)
        lists = folder_below(folder, self.lists, of="lists of clips", key="lists")
        videos = folder_below(folder, self.videos, of="videos", key="videos")
        class_file = existing_file(lists, "classInd.txt", key="lists")
        numbers = _read_classes(class_file)
        parts: dict[Part, Listed] = {}
        for part in ("train", "test"):
            file = existing_file(lists, f"{part}list{self.split:02}.txt", key="split")
            entries = self._read_list(file, numbers, class_file)
            parts[part] = Listed(entries, MediaFiles(videos, [entry.name for entry in entries]), str(file))
        return Listing(parts, class_names=tuple(sorted(numbers, key=numbers.__getitem__)), class_place=str(class_file))

    def _read_list(self, file: Path, numbers: dict[str, int], class_file: Path) -> list[Entry]:
        entries = []
        for line_number, line in enumerate(read_lines(file), start=1):
            where = f"{file}, line {line_number}"
            found = _LINE.fullmatch(line.strip())
            if found is None:
                continue
            path = PurePosixPath(found["path"])
            name = _NAME.fullmatch(path.stem)
            if len(path.parts) != 2 or name is None:
                raise ValueError(
                    f"{where}: {line.strip()[:80]!r} is no clip. A line must be 'class/v_class_g08_c01.avi', with or without "
                    "the number of the class behind it."
                )
            class_name = path.parts[0]
            if class_name not in numbers:
                raise unknown_class(class_name, numbers, where=where, place=str(class_file))
            if found["number"] is not None and int(found["number"]) != numbers[class_name]:
                raise ValueError(
                    f"{where}: the class {class_name!r} has the number {found['number']} here, but {numbers[class_name]} in "
                    f"{class_file}. Correct one of them."
                )
            path = path.with_suffix(self.ending) if self.ending else path
            entries.append(Entry(str(path), class_name, f"{class_name}/{name['group']}", where))
        return entries


def check_split(split: int, ending: str | None) -> None:
    """Raises ValueError where a split or an ending is none."""
    if split < 1:
        raise ValueError(f"data.corpus.split must be at least 1 (the published ones are 1, 2 and 3), got {split}.")
    if ending is not None and not re.fullmatch(r"\.\w+", ending):
        raise ValueError(f"data.corpus.ending must be a dot and letters, as '.mp4', or null, got {ending!r}.")


def _read_classes(file: Path) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for line_number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        number, _, name = line.strip().partition(" ")
        name = name.strip()
        if not number.isdecimal() or not name or name in numbers or int(number) in numbers.values():
            raise ValueError(
                f"{file}, line {line_number}: {line.strip()!r} is no class. A line must be a number and a name, each of them "
                "once: '1 ApplyEyeMakeup'."
            )
        numbers[name] = int(number)
    return numbers
