"""What the contracts must know of an application to exercise it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch

from core.training.cli import Application
from core.training.module import ApplicationModule
from data.module import PlannedDataModule


class Run(NamedTuple):
    """A module with its data, both fresh."""

    module: ApplicationModule
    data: PlannedDataModule


@dataclass(frozen=True, kw_only=True)
class Case:
    """How the contracts exercise an application, or one way of training it that has a code path of its own.

    Attributes:
        name: how the tests list it.
        entry: the application's command line.
        make: `make(folder, variant=..., dropout=..., num_workers=...)`, a small run on data written to `folder`.
        variants: networks that the invariance must hold for.
        config: `config(folder)`: a YAML text of the same run for the command line.
        pad: the same batch with more padding, filled with junk.
        select: the chosen examples of a batch.
        predict_args: arguments of `predict` beside the checkpoint, from a folder.
        lengths: `lengths(batch)`: valid steps of each example.
        rows_file: file in the run folder with what was predicted for each test example, where the application writes one.
        process_tests: names of the tests in several processes that say something of this application alone; None for all.
        is_further: True for a further way of training an application. What its command line says to a mistake, and does
            with files (contract 8), is tested with its first case alone.
    """

    name: str
    entry: Application
    make: Callable[..., Run]
    variants: tuple[str, ...]
    config: Callable[[Path], str]
    pad: Callable[[Any, int, float], Any]
    select: Callable[[Any, torch.Tensor], Any]
    predict_args: Callable[[Path], list[str]]
    lengths: Callable[[Any], torch.Tensor] = attrgetter("lengths")
    rows_file: str | None = None
    process_tests: tuple[str, ...] | None = None
    is_further: bool = False

    @property
    def application(self) -> str:
        """Its folder under `apps`."""
        return self.entry.name


def in_double(batch: Any) -> Any:
    """The batch in float64; what is no tensor, such as where a chunk stands in its stream, as it is."""
    return batch._replace(
        **{
            name: part.double()
            for name, part in batch._asdict().items()
            if isinstance(part, torch.Tensor) and part.is_floating_point()
        }
    )
