"""What the `predict` of every application needs: where it computes, where it writes, how far it is."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytorch_lightning as pl
import torch

STANDARD = "-"
"""Standard input or output in the place of a file."""

# More names than these are counted, not listed.
_MOST_LISTED = 20


def check_output(path: str, option: str, *, overwrite: bool) -> None:
    """Refuse to write what would replace something, before any work is done.

    Raises:
        ValueError: there is a folder of that name, or a file that is not to be replaced.
    """
    if path == STANDARD:
        return
    if Path(path).is_dir():
        raise ValueError(f"{option} {path} is a folder. Name a file in it.")
    if Path(path).exists() and not overwrite:
        raise ValueError(f"{option} {path} exists. Choose another name, or replace it with --overwrite true.")


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


@contextlib.contextmanager
def progress_bar(total: int | None, *, unit: str, shown: bool) -> Iterator[Callable[[], object]]:
    """What to call for each that is done: a bar moves on standard error, where that is a terminal and it is to be shown."""
    if not (shown and sys.stderr.isatty()):
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, file=sys.stderr, smoothing=0.1) as bar:
        yield bar.update


def told_problems(problems: Sequence[object]) -> str:
    """Names the first of what could not be read on standard error, and gives the sentence that says how many there are."""
    for problem in problems[:_MOST_LISTED]:
        print(problem, file=sys.stderr)
    if not problems:
        return ""
    listed = f" The first {_MOST_LISTED} are listed above." if len(problems) > _MOST_LISTED else ""
    return f" {len(problems)} could not be read and are skipped.{listed}"


def rounding(precision: str | None, *modules: pl.LightningModule) -> contextlib.AbstractContextManager[object]:
    """What modules predict under: bfloat16 products of float32 weights as in training, or as the checkpoint has them.

    Args:
        precision: bf16-mixed, as `trainer.precision` calls it; None for that of the checkpoint.
        modules: what predicts.

    Raises:
        ValueError: for another precision.
    """
    if precision is None:
        return contextlib.nullcontext()
    if precision != "bf16-mixed":
        raise ValueError(f"--precision must be bf16-mixed, or left out for that of the checkpoint, got {precision}.")
    for module in modules:
        module.float()  # float64 is left alone by autocast
    return torch.autocast(modules[0].device.type, dtype=torch.bfloat16)


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
