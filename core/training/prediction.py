"""What the `predict` of every application needs: where it computes, where it writes, how far it is."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

STANDARD = "-"
"""Standard input or output in the place of a file."""


@contextlib.contextmanager
def writable(path: str, option: str) -> Iterator[IO[str]]:
    """A file that has its name only when it is whole; standard output as it is."""
    if path == STANDARD:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Input is UTF-8 whatever the terminal's settings are, and so is output.
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever reads has seen enough, as `head` has; flushing once more at exit would be an error again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        return
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ValueError(f"{option} {path} cannot be written ({error.strerror}). Choose another folder.") from error
    try:
        with file:
            yield file
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def progress_bar(total: int | None, *, unit: str) -> Any:
    """What is done, on standard error."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, file=sys.stderr, smoothing=0.1)


def usable_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: there is none here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used here ({str(error).splitlines()[0]}).") from error
    return device
