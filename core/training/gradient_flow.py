"""Watches how far back the gradient reaches while a network trains (notes N11).

Switched on from a config by

trainer.callbacks: [{class_path: core.training.gradient_flow.GradientFlow, init_args: {every_n_steps: 100}}]
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn

from core.nn.gradient_flow import decades_lost, layer_names, network_gradient_norms
from core.nn.recurrent import Recurrent
from core.training.command.finished_run import write_whole
from core.training.module import ApplicationModule

TABLE, PICTURE = "gradient_flow.csv", "gradient_flow.png"
COLUMNS = ("step", "layer", "time", "norm")


class Measurement(NamedTuple):
    """||dL/dh(t)|| of one layer and direction at one optimiser step; NaN where no sequence has the time step."""

    step: int
    layer: str
    norms: list[float]


class GradientFlow(pl.Callback):
    """Measures ||dL/dh(t)|| of every recurrent layer and the gradient norm of every weight, and says what it means.

    L is the summed training loss of the batch at hand, h(t) the hidden state after step t; the measurement runs the
    recurrent layers step by step, without dropout, on the first process (`core.nn.gradient_flow`), which takes as long as
    about four training steps. It changes no number of the run, and may be added to a run that resumes.

    Into the run folder go `gradient_flow.csv` (step, layer, time, norm) and a picture, `gradient_flow.png`; to the
    loggers, `gradient_flow/<layer>` (powers of ten that the gradient loses on its way through the sequence) and
    `gradient_norm/<weight>` (before clipping), which is all that there is of a network without recurrent layers. Where a
    loss stands at every step, each step's own gradient hides what the steps after it pass back: the measurement says most
    where the loss follows the sequence.

    Args:
        every_n_steps: optimiser steps between two measurements; the first step is measured.
        vanishing_decades: warn, once a layer, where the gradient falls by more powers of ten than this from the end of the
            sequence that the loss is nearest to, to the other.
        exploding_decades: the same where it grows.
    """

    def __init__(
        self, *, every_n_steps: int = 100, vanishing_decades: float = 6.0, exploding_decades: float = 3.0
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"GradientFlow: every_n_steps must be at least 1, got {every_n_steps}.")
        for name, value in (("vanishing_decades", vanishing_decades), ("exploding_decades", exploding_decades)):
            if not value > 0:
                raise ValueError(f"GradientFlow: {name} must be positive, got {value}.")
        super().__init__()
        self.every_n_steps = every_n_steps
        self.vanishing_decades = vanishing_decades
        self.exploding_decades = exploding_decades
        self.measurements: list[Measurement] = []
        self._warned: set[str] = set()
        self._due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the measurements of the interrupted run, up to where it is resumed."""
        table = _folder(trainer) / TABLE
        before = read_table(table) if trainer.global_step and table.is_file() else []
        self.measurements = [measured for measured in before if measured.step < trainer.global_step]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure the batch before the network learns from it."""
        first_piece = batch_idx % trainer.accumulate_grad_batches == 0
        if first_piece:
            self._due = trainer.global_step % self.every_n_steps == 0
        if not (first_piece and self._due and trainer.is_global_zero):
            return
        assert isinstance(pl_module, ApplicationModule)
        measured = self.measure(pl_module, batch)
        self.measurements += measured
        lost = {one.layer: decades_lost(torch.tensor(one.norms), reverse=_is_reverse(one.layer)) for one in measured}
        self._log(trainer, {f"gradient_flow/{layer}": value for layer, value in lost.items()})
        for layer, value in lost.items():
            self._judge(layer, value, step=trainer.global_step)
        if measured and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            write_table(_folder(trainer) / TABLE, self.measurements)

    @staticmethod
    def measure(pl_module: ApplicationModule, batch: Any) -> list[Measurement]:
        """The gradient's way through the recurrent layers for one batch; generators, gradients and states stay as they are."""
        layers = _recurrent_layers(pl_module)
        if not layers:
            return []
        assert pl_module.network is not None
        devices = [pl_module.device] if pl_module.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices),
            pl_module.training_states.preserved(),
            pl_module.trainer.precision_plugin.forward_context(),
        ):
            found = network_gradient_norms(pl_module.network, lambda: pl_module.training_loss(batch).sum)
        return [
            Measurement(pl_module.global_step, f"{name}.{layer}", norms.tolist())
            for name, of_network in found.items()
            for layer, norms in zip(layer_names(layers[name]), of_network, strict=True)
        ]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the norm of each weight's gradient of a measured step."""
        if self._due and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            assert isinstance(pl_module, ApplicationModule)
            self._log(trainer, {f"gradient_norm/{name}": norm for name, norm in pl_module.gradient_norms().items()})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the picture."""
        if trainer.is_global_zero and self.measurements and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            from core.training.watching.gradient_flow_plot import draw

            draw(self.measurements, _folder(trainer) / PICTURE)

    def state_dict(self) -> dict[str, Any]:
        """What has been warned of: a resumed run does not repeat it."""
        return {"warned": sorted(self._warned)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what has been warned of."""
        self._warned = set(state_dict["warned"])

    @staticmethod
    def _log(trainer: pl.Trainer, values: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _judge(self, layer: str, lost: float, *, step: int) -> None:
        if -self.exploding_decades <= lost <= self.vanishing_decades or layer in self._warned:
            return
        self._warned.add(layer)
        if lost > 0:
            falls = "vanishes altogether" if math.isinf(lost) else f"falls by a factor of 10^{lost:.1f}"
            rank_zero_warn(
                f"Vanishing gradient in {layer} (step {step}): on its way back through the sequence it {falls}, so the "
                "network hardly learns from its far end. Use an lstm or gru, a shorter sequence, or pooling over all steps."
            )
        else:
            rank_zero_warn(
                f"Exploding gradient in {layer} (step {step}): on its way back through the sequence it grows by a factor of "
                f"10^{-lost:.1f}. Set trainer.gradient_clip_val, lower the learning rate, or use an lstm or gru."
            )


def write_table(path: Path, measurements: list[Measurement]) -> None:
    """One row a step, layer and time step."""
    rows = [",".join(COLUMNS)]
    for one in measurements:
        rows += [f"{one.step},{one.layer},{time},{norm:.9g}" for time, norm in enumerate(one.norms)]
    write_whole(path, "\n".join(rows) + "\n")


def read_table(path: Path) -> list[Measurement]:
    """What `write_table` wrote.

    Raises:
        ValueError: for another file, naming the line.
    """
    measurements: dict[tuple[int, str], list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != COLUMNS:
            raise ValueError(f"{path}, line 1: expected the columns {','.join(COLUMNS)}. Move the file away.")
        for row in reader:
            try:
                step, layer, _, norm = row
                measurements.setdefault((int(step), layer), []).append(float(norm))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected {','.join(COLUMNS)}, got {','.join(row)}. Move the file away."
                ) from error
    return [Measurement(step, layer, norms) for (step, layer), norms in measurements.items()]


def _folder(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir)


def _recurrent_layers(pl_module: ApplicationModule) -> dict[str, Recurrent]:
    modules = pl_module.network.named_modules() if pl_module.network is not None else ()
    return {name: module for name, module in modules if isinstance(module, Recurrent)}


def _is_reverse(layer: str) -> bool:
    return layer.endswith("_reverse")
