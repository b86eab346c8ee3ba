"""Averages of weights: a moving one while a run goes on, or one over checkpoints.

The average forgets the noise of single steps, and mostly does better than the weights themselves. In a checkpoint the weights
stay what they are, for the run to go on with; the average stands beside them, and is what everything else takes
(`weights_to_use`). Lightning's own callback hands the average to training when it ends, so that a run that goes on later is
another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from core.training.checkpoints.files import KEY, SafeCheckpointIO, read_checkpoint
from core.training.checkpoints.plain import differences

AVERAGE = "averaged_state_dict"
_DECAY = "average_decay"


def weights_to_use(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The average of a checkpoint where it has one, else its weights: what is tested, predicted with and fine-tuned."""
    state: dict[str, Tensor] = checkpoint.get(AVERAGE) or checkpoint["state_dict"]
    return state


class ExponentialAverage(pl.Callback):
    """A moving average of all weights, which is validated, tested and saved beside them.

    After optimiser step t: average = d average + (1 - d) weights, with d = min(decay, (1 + t) / (10 + t)), so that the
    beginning is soon forgotten. Source: Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the
    warm-up is that of TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, decay: float = 0.999) -> None:
        """A moving average of all weights, which is validated, tested and saved beside them.

        Args:
            decay: share of the average that a step keeps, in (0, 1); it reaches back about 1 / (1 - decay) steps.
        """
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ExponentialAverage.decay must be in (0, 1), got {decay}.")
        self.decay = decay
        self._average: dict[str, Tensor] = {}
        self._step = 0
        self.is_in_place = False
        """Whether the module has the average just now, in a validation."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights as they are, unless a checkpoint brings the average."""
        if not self._average:
            self._average = {name: weight.detach().clone() for name, weight in pl_module.named_parameters()}
        # A resumed run reads its average on the CPU.
        self._average = {name: self._average[name].to(weight.device) for name, weight in pl_module.named_parameters()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Only now does a resumed run know its step: a piece that ends no step must not count as one."""
        self._step = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Once an optimiser step, however many pieces it has."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        decay = min(self.decay, (1 + self._step) / (10 + self._step))
        weights = dict(pl_module.named_parameters())
        averages = [self._average[name] for name in weights]
        torch._foreach_lerp_(averages, [weight.detach() for weight in weights.values()], 1 - decay)

    @contextmanager
    def _exchanged(self, pl_module: pl.LightningModule) -> Iterator[None]:
        self._exchange(pl_module)
        try:
            yield
        finally:
            self._exchange(pl_module)

    @torch.no_grad()
    def _exchange(self, pl_module: pl.LightningModule) -> None:
        for name, weight in pl_module.named_parameters():
            held = weight.detach().clone()
            weight.copy_(self._average[name])
            self._average[name] = held

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate the average; by itself (not within a training) a validation is of whatever was loaded."""
        if trainer.state.fn == "fit":
            self._exchange(pl_module)
            self.is_in_place = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the weights."""
        if trainer.state.fn == "fit":
            self._exchange(pl_module)
            self.is_in_place = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average beside the weights, under the names that they have there."""
        if not self._average:
            return
        with self._exchanged(pl_module):
            checkpoint[AVERAGE] = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
        checkpoint[_DECAY] = self.decay

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with the average of the interrupted run.

        Raises:
            ValueError: the run had none, or another decay.
        """
        if trainer.state.fn != "fit":
            return
        if AVERAGE not in checkpoint or checkpoint[_DECAY] != self.decay:
            had = f"decay {checkpoint[_DECAY]}" if AVERAGE in checkpoint else "no average of its weights"
            raise ValueError(
                f"The interrupted run had {had}, this one has ExponentialAverage with decay {self.decay}: to resume it, the "
                "callbacks must be the same. To start a new run from its weights, use --init_from."
            )
        stored = checkpoint[AVERAGE]
        self._average = {name: stored[name].clone() for name, _ in pl_module.named_parameters()}


@contextmanager
def weights_in_training(trainer: pl.Trainer) -> Iterator[None]:
    """Within a validation: the module has the weights that are trained, and not their average."""
    with ExitStack() as stack:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ExponentialAverage) and callback.is_in_place:
                stack.enter_context(callback._exchanged(trainer.lightning_module))
        yield


def require_average_callback(checkpoint: dict[str, Any], callbacks: Sequence[Any]) -> None:
    """Refuse to resume a run that averaged its weights without averaging them.

    Raises:
        ValueError: saying what is missing.
    """
    if AVERAGE in checkpoint and not any(isinstance(callback, ExponentialAverage) for callback in callbacks):
        raise ValueError(
            f"The interrupted run averaged its weights (decay {checkpoint[_DECAY]}), this one does not: to resume it, add "
            "core.training.averaging.ExponentialAverage to trainer.callbacks. To start a new run, use --init_from."
        )


def average_checkpoints(paths: Sequence[str | Path], output: str | Path) -> None:
    """Write a checkpoint with the mean of the weights of several, to be tested and predicted with.

    All must be of one run, or of runs that continue each other: weights of independent runs have no mean that works.

    Args:
        paths: at least two checkpoints of the same application, settings and preprocessing.
        output: the file to write; it cannot be resumed from.

    Raises:
        ValueError: the checkpoints do not fit each other.
    """
    if len(paths) < 2:
        raise ValueError(f"An average needs at least two checkpoints, got {len(paths)}.")
    first = read_checkpoint(paths[0])
    totals = {
        name: value.double() if value.is_floating_point() else value for name, value in weights_to_use(first).items()
    }
    for path in paths[1:]:
        other = read_checkpoint(path, application=first[KEY]["application"])
        weights = weights_to_use(other)
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        if other[KEY]["settings"].get("network") != first[KEY]["settings"].get("network") or shapes != {
            name: tuple(value.shape) for name, value in totals.items()
        }:
            raise ValueError(
                f"{path} has another network than {paths[0]}: only checkpoints of one run can be averaged."
            )
        changes = differences(first[KEY]["preprocessing"], other[KEY]["preprocessing"])
        if changes:
            raise ValueError(
                f"{path} was trained on data prepared otherwise than that of {paths[0]} ({'; '.join(changes[:3])}): only "
                "checkpoints of one run can be averaged."
            )
        for name, value in weights.items():
            if value.is_floating_point():
                totals[name] += value.double()
    averaged = {
        name: (total / len(paths)).to(weights_to_use(first)[name].dtype) if total.is_floating_point() else total
        for name, total in totals.items()
    }
    kept = {name: first[name] for name in ("pytorch-lightning_version", KEY)}
    SafeCheckpointIO().save_checkpoint({**kept, "state_dict": averaged, AVERAGE: averaged, _DECAY: None}, output)
