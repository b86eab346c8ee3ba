"""Folders of a test run, and what an earlier run that was ended in its midst has left in them and running."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

OWNER = "owner"
"""In each folder: the process whose folder it is."""


@contextlib.contextmanager
def own_folder(prefix: str) -> Iterator[Path]:
    """A folder that other users may enter, as a cluster's shared folder is; at its end it goes, and what runs in it.

    Args:
        prefix: of its name; what dead owners have left under this prefix is cleared away first.

    Raises:
        RuntimeError: another test run is using such a folder now.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        owner = left / OWNER
        if owner.is_file() and Path("/proc", owner.read_text()).is_dir():
            raise RuntimeError(f"process {owner.read_text()} runs these tests now, in {left}: let it end first.")
        _clear(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    (folder / OWNER).write_text(str(os.getpid()))
    try:
        yield folder
    finally:
        _clear(folder)


def _clear(folder: Path) -> None:
    for _ in range(100):
        numbers = _running_in(folder)
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        if not numbers:
            break
        time.sleep(0.1)
    shutil.rmtree(folder)


def _running_in(folder: Path) -> list[int]:
    """Processes with the folder in their command line: daemons, batch scripts and runs all have it there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        # One may end while it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found
