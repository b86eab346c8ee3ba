"""Resuming exactly where a run stopped (contract 5).

The position of a run is a number of *global batches*, not of pieces, so it means the same on any number of processes
and with any accumulation. Lightning's own progress counters are derived from it when a checkpoint is loaded.
"""

from __future__ import annotations

import copy
import platform
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from pytorch_lightning.__version__ import version as lightning_version

from core.training.checkpoints.plain import differences
from core.training.process.matmul import uses_onednn_matmul


class PlannedData(Protocol):
    """What resuming asks of a DataModule."""

    def start_at(self, epoch: int, batch: int) -> None:
        """Continue training after `batch` global batches of `epoch`."""
        ...

    def settings(self) -> dict[str, Any]:
        """The settings that decide what is learnt, as plain data."""
        ...

    def preprocessing(self) -> dict[str, Any]:
        """What a checkpoint must hold to treat new data as the training data was."""
        ...


@dataclass
class Position:
    """Where a run stands.

    Attributes:
        epoch: epochs done.
        batch: global batches done in the present epoch.
        total_batches: global batches done since the start.
        global_step: optimiser steps done since the start.
        stopped: whether training has ended early (early stopping), so that there is nothing to continue.
        validation_pending: whether the validation that is due after these batches is still to be done.
    """

    epoch: int = 0
    batch: int = 0
    total_batches: int = 0
    global_step: int = 0
    stopped: bool = False
    validation_pending: bool = False

    def to_plain(self) -> dict[str, Any]:
        """As plain data for the checkpoint."""
        return asdict(self)


def environment() -> dict[str, Any]:
    """What bit-identical results depend on besides the checkpoint: versions, kind of CPU, number of threads."""
    return {
        "torch": str(torch.__version__),  # a subclass of str is no plain data
        "lightning": lightning_version,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "onednn_matmul": uses_onednn_matmul(),
    }


def environment_changes(stored: dict[str, Any]) -> str | None:
    """A sentence naming what differs from the machine that wrote the checkpoint, or None."""
    changes = differences(stored, environment())
    if not changes:
        return None
    return (
        "This run continues in another environment than it was saved in, so its numbers can differ in the last bits: "
        + "; ".join(changes)
        + "."
    )


def refuse_changed_settings(
    stored: dict[str, Any],
    now: dict[str, Any],
    *,
    purpose: str = "Resuming continues a run exactly, but these settings have changed since the checkpoint",
) -> None:
    """A resumed run continues the interrupted one; anything else would silently be a third run.

    Raises:
        ValueError: naming each setting that has changed.
    """
    changes = differences(stored, now)
    if changes:
        raise ValueError(
            f"{purpose}:\n  " + "\n  ".join(changes) + "\nRestore them, or use --init_from to start a new run from the "
            "weights of the checkpoint."
        )


def lightning_progress(loops: dict[str, Any], position: Position, *, accumulation: int) -> dict[str, Any]:
    """The loop state with which Lightning continues at `position`.

    Args:
        loops: the loop state that Lightning stored; only its form is used, never its counters.
        position: where the run stands.
        accumulation: pieces a process computes for one optimiser step in the run that continues.
    """
    loops = copy.deepcopy(loops)
    fit = loops["fit_loop"]
    _zero_counters(fit)
    # An epoch under way is started but not processed: so Lightning knows that it must continue it.
    under_way = 1 if position.batch else 0  # also where only the validation at its end is left
    for counters in fit["epoch_progress"].values():
        counters.update(
            ready=position.epoch + under_way,
            started=position.epoch + under_way,
            processed=position.epoch,
            completed=position.epoch,
        )
    batches = fit["epoch_loop.batch_progress"]
    _set_all(batches["total"], position.total_batches * accumulation)
    _set_all(batches["current"], position.batch * accumulation)
    steps = fit["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    for kind in ("step", "zero_grad"):
        _set_all(steps[kind]["total"], position.global_step)
        _set_all(steps[kind]["current"], position.batch)
    _set_all(fit["epoch_loop.scheduler_progress"]["total"], position.global_step)
    _set_all(fit["epoch_loop.scheduler_progress"]["current"], position.batch)
    fit["epoch_loop.state_dict"]["_batches_that_stepped"] = position.global_step
    if position.validation_pending:
        # A validation that has begun and not ended: Lightning runs it before it goes on.
        fit["epoch_loop.val_loop.batch_progress"]["total"].update(ready=1, started=1, processed=0, completed=0)
    return loops


def _set_all(counters: dict[str, Any], value: int) -> None:
    for key in counters:
        counters[key] = value


def _zero_counters(state: dict[str, Any]) -> None:
    for key, value in state.items():
        if isinstance(value, dict):
            _zero_counters(value)
        elif isinstance(value, bool):
            state[key] = False
        elif isinstance(value, int):
            state[key] = 0
