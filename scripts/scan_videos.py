"""Looks into all videos of a folder, and writes what it finds: frames, rate, size, or what is wrong.

    python -m scripts.scan_videos --input FOLDER --output FILE [--quick] [--num-workers N] [--strict]

FILE has a JSON object a line, one for each video (paths are relative to FOLDER); data.videos.manifest reads it. Every frame is
decoded, so that damage in the middle is found; --quick reads headers and first frames only. Exit status: 0, also when videos
are broken, unless --strict is given (then 1); 2 for a mistake.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.paths import find_data
from data.videos.listing import list_videos
from data.videos.manifest import ScanResult, write_manifest
from data.videos.scanning import scan

MAX_SHOWN = 20
_MAX_VALUES = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan, write and sum up; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--input", required=True, metavar="FOLDER", help="where the videos are, in folders of any depth"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the manifest to write")
    parser.add_argument("--quick", action="store_true", help="read headers and first frames only")
    parser.add_argument(
        "--num-workers", type=int, default=0, metavar="N", help="processes; 0 = this one alone (default)"
    )
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a video is broken")
    given = parser.parse_args(arguments)
    try:
        if given.num_workers < 0:
            raise ValueError(f"--num-workers cannot be negative, got {given.num_workers}.")
        _check_output(given.output)
        folder = find_data(given.input)
        videos, num_others = list_videos(folder)
        results = scan(videos, num_workers=given.num_workers, decode=not given.quick)
        write_manifest(results, given.output, folder=folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in summary(results, folder=folder, num_others=num_others):
        print(line)
    print(f"Wrote {given.output}")
    return int(given.strict and not all(result.is_usable for result in results))


def _check_output(file: Path) -> None:
    """Before the scan, which may take hours."""
    if file.is_dir():
        raise ValueError(f"--output {file} is a folder. Name the file to write.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output {file}: its folder cannot be made ({error.strerror}).") from error


def summary(results: Sequence[ScanResult], *, folder: Path, num_others: int) -> list[str]:
    """What was found, in lines: how many are well, which ones are broken and why, and what those that are well are like."""
    broken = [result for result in results if not result.is_usable]
    how = "every frame decoded" if results[0].was_decoded else "headers and first frames only"
    lines = [f"{folder}: {len(results)} videos, {len(results) - len(broken)} well, {len(broken)} broken ({how})"]
    if num_others:
        lines.append(f"{num_others} other files were left out, by their endings")
    for result in broken[:MAX_SHOWN]:
        lines.append(f"  {Path(result.path).relative_to(folder)} {result.error}")
    if len(broken) > MAX_SHOWN:
        lines.append(f"  and {len(broken) - MAX_SHOWN} more")
    infos = [result.info for result in results if result.is_usable and result.info]
    if infos:
        frames = [info.num_frames for info in infos]
        hours = sum(info.duration for info in infos) / 3600
        lines += [
            f"frames: {min(frames)} to {max(frames)}, median {statistics.median(frames):g}",
            f"in all: {sum(frames)} frames, {hours:.2f} hours",
            f"frames a second: {_most_frequent(f'{info.fps:.4g}' for info in infos)}",
            f"height x width: {_most_frequent(f'{info.height} x {info.width}' for info in infos)}",
        ]
        estimated = sum(not info.is_exact for info in infos)
        if estimated:
            lines.append(f"{estimated} numbers of frames are those of headers, or estimates")
    return lines


def _most_frequent(values: Iterable[str]) -> str:
    counts = Counter(values)
    # The most frequent first; of as frequent ones in the order of their names, so that the text is always the same.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{value} ({number})" for value, number in ordered[:_MAX_VALUES])
    return shown + (f" and {len(ordered) - _MAX_VALUES} others" if len(ordered) > _MAX_VALUES else "")


if __name__ == "__main__":
    sys.exit(main())
