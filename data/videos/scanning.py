"""Looks into many videos beforehand, in parallel: what can be read, and what is wrong with the others."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from data.videos.decoding import VideoInfo, probe
from data.videos.files import VideoProblem, open_video
from data.videos.manifest import ScanResult, file_state

# Files that a worker takes at a time: a few, so that none idles at the end.
_CHUNK = 4
# Seconds between two states of the bar: often in a terminal, seldom in a file.
_IN_TERMINAL, _IN_FILE = 0.1, 30.0


def scan(
    paths: Sequence[str | Path], *, num_workers: int = 0, decode: bool = True, show_progress: bool = True
) -> list[ScanResult]:
    """Look into videos; one that cannot be read is a result, too.

    A file that ends the process that decodes it (they have been found) is named as well, and costs no other result.

    Args:
        paths: the files.
        num_workers: processes; 0 = this one.
        decode: decode every frame, which finds damage in the middle and changes of size, and counts frames exactly; else
            headers and first frames are read, some hundred times quicker.
        show_progress: a bar on stderr.

    Returns:
        A result for each path, in their order.
    """
    files = [str(path) for path in paths]
    results: list[ScanResult] = []
    with tqdm(
        total=len(files),
        desc="scanning",
        unit=" videos",
        disable=not show_progress,
        mininterval=_IN_TERMINAL if sys.stderr.isatty() else _IN_FILE,
    ) as bar:
        for result in _examined(files, num_workers, decode):
            results.append(result)
            bar.update()
    return results


def _examined(files: list[str], num_workers: int, decode: bool) -> Iterator[ScanResult]:
    examine = functools.partial(_examine, decode=decode)
    if num_workers == 0:
        yield from map(examine, files)
        return
    done = 0
    while done < len(files):
        try:
            for result in _in_processes(examine, files[done:], num_workers):
                yield result
                done += 1
        except BrokenProcessPool:
            # One of those at work has ended its process. Each by itself: the one it was is named, the others are not lost.
            for file in files[done : done + (num_workers + 1) * _CHUNK]:
                yield _examined_alone(examine, file)
                done += 1


def _in_processes(
    examine: functools.partial[ScanResult], files: Sequence[str], num_workers: int
) -> Iterator[ScanResult]:
    # Not forked: this process may have threads, which a forked one would lack at random places.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(num_workers, len(files)), mp_context=context)
    try:
        yield from pool.map(examine, files, chunksize=_CHUNK)
    finally:
        # Without this, stopping by Ctrl-C would wait for all the files that are left.
        pool.shutdown(cancel_futures=True)


def _examined_alone(examine: functools.partial[ScanResult], file: str) -> ScanResult:
    try:
        return next(_in_processes(examine, [file], 1))
    except BrokenProcessPool:
        num_bytes, modified = file_state(file)
        return ScanResult(
            path=file,
            info=None,
            error="ends the process that decodes it: it is badly damaged, or too large for the memory.",
            was_decoded=True,
            num_bytes=num_bytes,
            modified_ns=modified,
        )


def _examine(path: str, *, decode: bool) -> ScanResult:
    num_bytes, modified = file_state(path)
    info, error = None, None
    try:
        info = probe(path)
        if decode:
            info = _counted(info)
    except VideoProblem as problem:
        error = problem.reason
    except Exception as other:  # hours of scanning are not to end at one file
        error = f"cannot be examined: {type(other).__name__}: {other}"
    return ScanResult(path=path, info=info, error=error, was_decoded=decode, num_bytes=num_bytes, modified_ns=modified)


def _counted(info: VideoInfo) -> VideoInfo:
    with open_video(info.path) as video:
        num_frames = sum(1 for _ in video.frames())
    return dataclasses.replace(info, num_frames=num_frames, is_exact=True)
