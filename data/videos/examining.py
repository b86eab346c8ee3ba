"""What is in each video of a corpus, found once and kept: number of frames and rate, or what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from data.corpora import some
from data.module import notify
from data.videos.corpus import VideoCorpus
from data.videos.files import VideoProblem
from data.videos.scanning import scan

_MANY = 2_000
# Goes up when what is kept changes its meaning.
_VERSION = 1


class Examined(NamedTuple):
    """The usable videos of a part, as files."""

    rows: list[int]
    """Their rows in the corpus."""
    paths: list[str]
    num_frames: list[int]
    fps: list[float]


def examine(corpus: VideoCorpus, *, name: str, folder: Path, max_broken_share: float, num_workers: int = 0) -> Examined:
    """Look into the videos of a part; those that cannot be read are left out, counted and named.

    Only the beginning of a file is decoded, so a break in its middle is found when its frames are read, or by a scan
    (`python -m scripts.scan_videos`). What was found is kept in the cache, and used for as long as files have the size and date
    they had.

    Args:
        corpus: the part.
        name: slot of the cache, as `jhmdb-train`.
        folder: the cache.
        max_broken_share: share of the videos that may be broken.
        num_workers: processes that look; 0 = this one.

    Raises:
        ValueError: more are broken, or the cache cannot be written.
    """
    paths = [str(_file_of(corpus, row, folder)) for row in range(len(corpus))]
    identities = [corpus.identity(row) for row in range(len(corpus))]
    file = folder / "videos" / f"{name}.json"
    known = _read(file)
    missing = [row for row, identity in enumerate(identities) if identity not in known]
    if missing:
        results = scan(
            [paths[row] for row in missing],
            decode=False,
            num_workers=num_workers,
            # What is over in some seconds needs no bar in a log.
            show_progress=len(missing) > _MANY or sys.stderr.isatty(),
        )
        for row, result in zip(missing, results, strict=True):
            info = result.info if result.error is None else None
            known[identities[row]] = (
                {"error": result.error or "is no video."}
                if info is None
                else {"num_frames": info.num_frames, "fps": info.fps}
            )
        # Of files that have changed nobody will ask again.
        _write(file, {identity: known[identity] for identity in identities})
    found = [known[identity] for identity in identities]
    broken = [f"{corpus.called(row)} {each['error']}" for row, each in enumerate(found) if "error" in each]
    if len(broken) > max_broken_share * len(corpus):
        raise ValueError(
            f"{len(broken)} of the {len(corpus)} videos cannot be read, and data.max_broken_share={max_broken_share} allows "
            f"{max_broken_share:.1%} of them: {some(broken)}. Repair or remove them (python -m scripts.scan_videos lists all), "
            "or raise max_broken_share to do without them."
        )
    if broken:
        notify(f"{name}: {len(broken)} of {len(corpus)} videos cannot be read and are left out: {some(broken)}.")
    rows = [row for row, each in enumerate(found) if "error" not in each]
    return Examined(
        rows,
        [paths[row] for row in rows],
        [found[row]["num_frames"] for row in rows],
        [found[row]["fps"] for row in rows],
    )


def _file_of(corpus: VideoCorpus, row: int, folder: Path) -> Path:
    """The video as a file; one that a data set holds as bytes is written to the cache, once."""
    source = corpus.source(row)
    if isinstance(source, Path):
        return source
    path = folder / "videos" / "files" / f"{hashlib.sha256(source).hexdigest()[:32]}.video"
    if not path.is_file():
        _replace(path, source)
    return path


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}  # it is made anew
    videos = kept.get("videos", {}) if kept.get("version") == _VERSION else {}
    return dict(videos)


def _write(file: Path, videos: dict[str, dict[str, Any]]) -> None:
    _replace(file, json.dumps({"version": _VERSION, "videos": videos}).encode())


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all; of processes that write the same at once, any."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            file.write(content)
        os.replace(file.name, path)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror or error}). Name another cache folder by data.cache_dir or "
            "UNROLL_CACHE."
        ) from error


class BrokenVideos:
    """Videos that turn out to be broken while they are read: each gives way to another, and too many end the run.

    Which one steps in follows from the broken one alone, so that a run that resumes sees the same. Each process that reads
    counts those that it has met itself.

    Args:
        num_videos: of the part.
        max_share: of them that may be broken.
    """

    def __init__(self, num_videos: int, *, max_share: float) -> None:
        self.num_videos = num_videos
        self.max_share = max_share
        self.problems: dict[int, str] = {}

    def add(self, number: int, problem: VideoProblem) -> int:
        """Note one, say so once, and name the one to take instead.

        Raises:
            ValueError: they are too many.
        """
        if number not in self.problems:
            self.problems[number] = str(problem)
            if len(self.problems) > self.max_share * self.num_videos:
                raise ValueError(
                    f"{len(self.problems)} of {self.num_videos} training videos broke off while they were read, and "
                    f"data.max_broken_share={self.max_share} allows {self.max_share:.1%} of them: "
                    f"{some(list(self.problems.values()))}. Find all of them with python -m scripts.scan_videos."
                ) from problem
            notify(f"{problem} Another video takes its place in training ({len(self.problems)} so far).")
        return (number + 1) % self.num_videos
