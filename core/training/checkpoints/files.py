"""Checkpoint files that are whole or absent, and that can be read without running code (contract 6)."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

FORMAT = 1
KEY = "unroll"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""What file systems say that have no second names, or not that many."""


class SafeCheckpointIO(CheckpointIO):
    """Writes to a temporary name and renames; reads with `weights_only=True` whatever the caller asks for.

    A run killed while it saves leaves the previous checkpoint as it was. A checkpoint from a stranger cannot run code.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` so that `path` holds either the old or the new file, never a part.

        Raises:
            ValueError: where the disk is full.
        """
        target = Path(path)
        with _full_disk_named(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with _whole_or_absent(target) as file:
                torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint as plain data; see `read_checkpoint`."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint; one that is gone already is no error."""
        Path(path).unlink(missing_ok=True)


def link_checkpoint(source: Path, target: Path) -> None:
    """Let `target` name the same checkpoint as `source`, whole or not at all: a second name, or a copy where none can be had.

    A checkpoint is never changed where it stands: whichever of the two is written next leaves the other as it is.

    Raises:
        ValueError: where the disk is full.
    """
    second = target.with_name(f".{target.name}.{os.getpid()}.part")
    second.unlink(missing_ok=True)
    with _full_disk_named(target):
        try:
            os.link(source, second)
            os.replace(second, target)
        except OSError as error:
            second.unlink(missing_ok=True)
            if error.errno not in _NO_LINKS:
                raise
            with source.open("rb") as there, _whole_or_absent(target) as here:
                shutil.copyfileobj(there, here)


@contextmanager
def _full_disk_named(target: Path) -> Iterator[None]:
    """Say which file found no room."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        raise ValueError(disk_full_message(target)) from error


@contextmanager
def _whole_or_absent(target: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `target` once all is written."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            # Without it the rename can reach the disk before the bytes do.
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a disk without space, or an exhausted quota, is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        # torch reports a failed write as an error of its own, which says nothing of the disk.
        error = error.__cause__ or error.__context__
    return False


def disk_full_message(path: Path) -> str:
    """What to do where the disk of `path` is full."""
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    try:
        free = f"{shutil.disk_usage(folder).free / 1e6:.1f} MB free"
    except OSError:
        free = "nothing free"
    kept = f" What {path} held before is whole." if path.is_file() else ""
    return (
        f"The disk of {folder} is full or its quota exhausted ({free}): {path} could not be written.{kept} Make room and "
        "go on with --ckpt_path last, or copy the run to another disk first."
    )


@contextmanager
def full_disk_explained(run_dir: Path) -> Iterator[None]:
    """Say what to do where a log, a table or a picture of a run finds no room on its disk.

    Raises:
        ValueError: the disk is full.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        named = error.filename if isinstance(error, OSError) else None
        raise ValueError(disk_full_message(Path(named or run_dir / "logs"))) from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def read_checkpoint(path: str | Path, *, application: str | None = None) -> dict[str, Any]:
    """Read a checkpoint of Unroll, on the CPU, as plain data and tensors alone.

    Args:
        path: the file.
        application: when given, the application that the checkpoint must belong to.

    Raises:
        ValueError: where the file is missing, cut short, holds more than plain data, is no checkpoint of Unroll, or
            belongs to another application or a newer version.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(found) for found in path.parent.glob("*.ckpt"))[:5]
        hint = f" Checkpoints there: {', '.join(near)}." if near else ""
        raise ValueError(f"{path}: there is no such checkpoint file.{hint}")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            cut_short = file.read(2) in (b"PK", b"")
        if cut_short:
            raise ValueError(
                f"{path}: not a whole checkpoint ({path.stat().st_size} bytes); it was cut short. "
                "Use an earlier one, or copy it again."
            )
        raise ValueError(f"{path}: refused, because it is no checkpoint of Unroll, and reading it could run code.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: refused, because it is not plain data and tensors alone (or no checkpoint at all), and reading "
            f"anything else could run code. Checkpoints written by Unroll are plain data. ({_first_line(error)})"
        ) from error
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{path}: not a whole checkpoint ({path.stat().st_size} bytes); it was cut short or damaged. "
            f"Use an earlier one, or copy it again. ({_first_line(error)})"
        ) from error
    if not isinstance(checkpoint, dict) or KEY not in checkpoint:
        raise ValueError(f"{path}: not a checkpoint of Unroll; it has no key '{KEY}'.")
    header = checkpoint[KEY]
    if header["format"] > FORMAT:
        raise ValueError(f"{path}: written by a newer version (format {header['format']}, this one reads {FORMAT}).")
    if application is not None and header["application"] != application:
        raise ValueError(
            f"{path}: a checkpoint of '{header['application']}', but '{application}' was asked for. "
            f"Run python -m apps.{header['application']} instead, or give a checkpoint of {application}."
        )
    return checkpoint


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:160] if text else type(error).__name__
