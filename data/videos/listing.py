"""Which files of a folder are videos, by their endings; none is opened."""

from __future__ import annotations

import os
from pathlib import Path

VIDEO_ENDINGS = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".wmv", ".asf", ".flv", ".3gp",
     ".3g2", ".ogv", ".vob", ".mxf", ".h264", ".hevc", ".ivf", ".y4m", ".divx", ".gif")
)  # fmt: skip


def list_videos(folder: str | Path) -> tuple[list[Path], int]:
    """All videos in a folder and in its folders, in the order of their paths; hidden files are none.

    Returns:
        The paths, and the number of other files.

    Raises:
        ValueError: there is no such folder, it or one in it cannot be read, or it holds no video.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "not there"
        raise ValueError(f"{folder} is {kind}. Give the folder that holds the videos.")
    files = sorted(
        (Path(parent) / name for parent, _, names in os.walk(folder, onerror=_refuse) for name in names),
        key=lambda file: file.parts,
    )
    videos = [file for file in files if file.suffix.lower() in VIDEO_ENDINGS and not file.name.startswith(".")]
    others = len(files) - len(videos)
    if not videos:
        raise ValueError(
            f"{folder} holds no video, but {others} other files. Videos are told by their endings: "
            f"{', '.join(sorted(VIDEO_ENDINGS))}."
        )
    return videos, others


def _refuse(error: OSError) -> None:
    # What `os.walk` does by itself is to leave the folder out in silence.
    raise ValueError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error
