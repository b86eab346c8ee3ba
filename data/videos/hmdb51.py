"""HMDB51 and JHMDB as they are handed out.

Kuehne et al., "HMDB: A Large Video Database for Human Motion Recognition", ICCV 2011; Jhuang et al., "Towards Understanding
Action Recognition", ICCV 2013.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.corpora import corpus_folder, folder_below
from data.media import MediaFiles, files_in, folders_in
from data.module import notify
from data.parallel.files import read_lines
from data.videos.checks import Entry, Part, unknown_class
from data.videos.corpus import Listed, Listing, VideoCorpusConfig
from data.videos.ucf101 import check_split

# What follows the source and the class in a clip's name: visible body parts, camera motion, number of people, point of view,
# quality, number of the clip. All 6,766 names of the published splits have it.
_NAME = re.compile(r"(?P<source>.+)_[hulf]_(?:nm|cm)_np\d+_(?:fr|ba|le|ri)_(?:goo|med|bad)_\d+")
_PARTS: dict[str, Part | None] = {"0": None, "1": "train", "2": "test"}


@dataclass(frozen=True, kw_only=True)
class HMDB51(VideoCorpusConfig):
    """Clips `class/source_class_f_nm_np1_ba_med_3.avi` and a list a class, class_test_split1.txt: a clip and 0, 1 or 2 a line.

    A clip is to train on (1), to test on (2), or unused in this split (0). It was cut from what its name has before the class,
    and a source counts within its class: so the three splits keep them apart, while of some 1,340 sources 133 to 149 (films,
    mostly) are in both parts with different classes. There is no validation part.
    """

    path: str
    """The folder; relative to the working directory or to UNROLL_DATA."""
    videos: str = "videos"
    """Folder with a folder a class."""
    lists: str = "testTrainMulti_7030_splits"
    """Folder with the lists."""
    split: int = 1
    """Which of the splits: 1 reads class_test_split1.txt of every class."""
    ending: str | None = None
    """Ending of the clips where they were converted (".mp4"); null = that of the lists (.avi)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_split(self.split, self.ending)

    def listing(self, *, cache_dir: str | None = None) -> Listing:
        """The clips in the order of classes, which is that of their names, and of the lines."""
        folder = corpus_folder(self.path)
        lists = folder_below(folder, self.lists, of="lists of clips", key="lists")
        videos = folder_below(folder, self.videos, of="videos", key="videos")
        end = f"_test_split{self.split}.txt"
        files = files_in(lists)
        class_names = tuple(name.removesuffix(end) for name in files if name.endswith(end))
        if not class_names:
            splits = sorted({found[1] for name in files if (found := re.search(r"_test_split(\d+)\.txt$", name))})
            raise ValueError(
                f"{lists} has no list class{end}. Splits with lists: {', '.join(splits) or 'none'}. Choose one by "
                "data.corpus.split, or name the folder of the lists by data.corpus.lists."
            )
        folders = folders_in(videos)
        entries: dict[Part, list[Entry]] = {"train": [], "test": []}
        num_unused = 0
        for class_name in class_names:
            if class_name not in folders:
                where = str(lists / f"{class_name}{end}")
                raise unknown_class(class_name, folders, where=where, place=f"the folders in {videos}")
            for part, entry in self._read_list(lists / f"{class_name}{end}", class_name):
                if part is None:
                    num_unused += 1
                else:
                    entries[part].append(entry)
        if num_unused:
            notify(f"{lists}: {num_unused} clips are in neither part of split {self.split}, and not used.")
        return Listing(
            {
                part: Listed(of, MediaFiles(videos, [entry.name for entry in of]), f"{lists}, split {self.split}")
                for part, of in entries.items()
            },
            class_names=class_names,
            class_place=str(lists),
        )

    def _read_list(self, file: Path, class_name: str) -> list[tuple[Part | None, Entry]]:
        clips = []
        for number, line in enumerate(read_lines(file), start=1):
            if not line.strip():
                continue
            where = f"{file}, line {number}"
            name, _, part = line.strip().rpartition(" ")
            name = name.strip()
            if not name or part not in _PARTS:
                raise ValueError(
                    f"{where}: {line.strip()[:80]!r} is no clip with its part. A line must be the name of a clip and 0 "
                    "(unused), 1 (to train on) or 2 (to test on)."
                )
            found = _NAME.fullmatch(PurePosixPath(name).stem)
            source = found["source"].removesuffix(f"_{class_name}") if found else ""
            if found is None or source == found["source"]:
                raise ValueError(
                    f"{where}: the name {name!r} does not say what the clip was cut from. It must be "
                    f"'source_{class_name}_f_nm_np1_ba_med_3.avi'; list clips with other names by the class SplitTable."
                )
            path = PurePosixPath(class_name, name)
            path = path.with_suffix(self.ending) if self.ending else path
            clips.append((_PARTS[part], Entry(str(path), class_name, f"{class_name}/{source}", where)))
        return clips
