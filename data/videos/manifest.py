"""What a scan has found, as a file of JSON lines beside the videos, so that a training needs not look into them again."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from data.videos.decoding import VideoInfo


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """One file of a scan."""

    path: str
    info: VideoInfo | None
    """What is in it; None where not even that can be told. Of a file with an error, it is what its header promises."""
    error: str | None
    """What is wrong, without the path: "is empty (0 bytes)."; None = nothing was found to be."""
    was_decoded: bool
    """Whether every frame was looked at; else breaks in the middle would not have been seen."""
    num_bytes: int
    """Size of the file; -1 where it cannot be told."""
    modified_ns: int
    """When it was last changed, nanoseconds since 1970."""

    @property
    def is_usable(self) -> bool:
        """Whether it is a video in which nothing wrong was found."""
        return self.error is None and self.info is not None

    def is_current(self) -> bool:
        """Whether the file still has the size and date it was scanned with."""
        return (self.num_bytes, self.modified_ns) == file_state(self.path)


def file_state(path: str | Path) -> tuple[int, int]:
    """Bytes, and nanoseconds since 1970 at the last change; (-1, 0) for a file that is not there."""
    try:
        state = os.stat(path)
    except OSError:
        return -1, 0
    return state.st_size, state.st_mtime_ns


_OF_INFO = [field.name for field in dataclasses.fields(VideoInfo) if field.name != "path"]
_OF_RESULT = ["error", "was_decoded", "num_bytes", "modified_ns"]


def write_manifest(results: Iterable[ScanResult], file: str | Path, *, folder: str | Path) -> None:
    """Write results, a line each, whole or not at all.

    Args:
        results: of a scan.
        file: the manifest; its folder is made.
        folder: where the videos are; paths are written relative to it, with slashes, so that both can be moved.

    Raises:
        ValueError: a video is not in the folder.
    """
    rows = []
    for result in results:
        try:
            path = Path(result.path).relative_to(folder).as_posix()
        except ValueError:
            raise ValueError(f"{result.path} is not in {folder}, the folder of the manifest {file}.") from None
        info = {name: getattr(result.info, name, None) for name in _OF_INFO}
        rows.append(json.dumps({"path": path, **info, **{name: getattr(result, name) for name in _OF_RESULT}}))
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def read_manifest(file: str | Path, *, folder: str | Path) -> list[ScanResult]:
    """The results in a manifest, in its order; paths lie in the folder. Whether they are current is left to ask.

    Raises:
        ValueError: it cannot be read, or a line is none of a manifest; the message has the line.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ValueError(f"The manifest {file} cannot be read: {reason}. {_REMEDY}") from error
    return [_result(line, Path(folder), f"{file}, line {number}") for number, line in enumerate(lines, start=1) if line]


_REMEDY = "Make it by python -m scripts.scan_videos."


def _result(line: str, folder: Path, place: str) -> ScanResult:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: no JSON ({error.msg}). {_REMEDY}") from None
    expected = ["path", *_OF_INFO, *_OF_RESULT]
    if not isinstance(row, dict) or sorted(row) != sorted(expected):
        raise ValueError(f"{place}: expected an object with {', '.join(expected)}, got {line[:200]}. {_REMEDY}")
    path = str(folder / str(row["path"]))
    info = None
    if row["num_frames"] is not None:
        info = VideoInfo(path=path, **{name: _checked(VideoInfo, name, row[name], place) for name in _OF_INFO})
    return ScanResult(
        path=path, info=info, **{name: _checked(ScanResult, name, row[name], place) for name in _OF_RESULT}
    )


def _checked(of: type, name: str, value: Any, place: str) -> Any:
    kind = get_type_hints(of)[name]
    if kind is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{place}: {name!r} is {value!r}, but must be {getattr(kind, '__name__', kind)}. {_REMEDY}")
    return value
