"""When checkpoints are written: `last.ckpt` to resume from, `best.ckpt` to use."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from pytorch_lightning.trainer.states import TrainerFn

from core.training.checkpoints.files import link_checkpoint

STEPS_BETWEEN_CLOCK_CHECKS = 10


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written."""

    every_n_steps: int | None = None
    """Optimiser steps between two writings of last.ckpt; None: by the clock alone."""
    every_minutes: float | None = 10.0
    """Minutes between two writings of last.ckpt; None: by steps and epochs alone."""
    every_n_epochs: int = 1
    """Epochs at the end of which last.ckpt is written, as at the end of training; more where an epoch takes seconds."""
    monitor: str | None = "val/loss"
    """Metric whose best value writes best.ckpt; None: best.ckpt is the last one."""
    mode: Literal["min", "max"] = "min"
    """Whether a smaller or a larger value of the metric is better; not read without one."""

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise ValueError(f"checkpoint.mode must be min or max, got {self.mode!r}.")
        if self.every_n_steps is not None and self.every_n_steps < 1:
            raise ValueError(f"checkpoint.every_n_steps must be at least 1, got {self.every_n_steps}.")
        if self.every_minutes is not None and self.every_minutes <= 0:
            raise ValueError(f"checkpoint.every_minutes must be positive, got {self.every_minutes}.")
        if self.every_n_epochs < 1:
            raise ValueError(f"checkpoint.every_n_epochs must be at least 1, got {self.every_n_epochs}.")


class RunCheckpoints(Checkpoint):
    """Writes `last.ckpt` and `best.ckpt` into one folder.

    A checkpoint due after a step is written just before the next one. Whatever belongs to the step is over by then -
    validation, early stopping, schedulers, the hooks at the end of an epoch - so that every checkpoint says the same
    thing: so many global batches of this epoch are done. Resuming needs no other case.

    Args:
        folder: where the two files go.
        config: when they are written.
    """

    def __init__(self, folder: str | Path, *, config: CheckpointConfig) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.config = config
        self.best_score = math.inf if config.mode == "min" else -math.inf
        self._best_due = False
        self._epoch_ended = False
        self._last_saved_step = 0
        self._last_saved_time = time.monotonic()
        self.seconds_spent = 0.0
        self._is_training = True

    @property
    def last_path(self) -> Path:
        """The checkpoint to resume from."""
        return self.folder / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """The checkpoint to use."""
        return self.folder / "best.ckpt"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """What a checkpoint says of the run is taken up in training alone; its test, which reads the best one, follows it."""
        self._is_training = stage == "fit"

    def tested_path(self) -> Path:
        """The checkpoint that stands for the run: the best, or said aloud the last where nothing was validated.

        Raises:
            ValueError: where there is neither.
        """
        if self.best_path.is_file():
            return self.best_path
        if not self.last_path.is_file():
            raise ValueError(
                f"There was nothing left to train, and {self.folder} holds no checkpoint to test. Resume a finished run in "
                "its own folder, or raise trainer.max_epochs."
            )
        rank_zero_warn(
            f"No validation has improved {self.config.monitor} (training ended before the first one, or its values are "
            "not finite), so there is no best.ckpt; last.ckpt is tested instead."
        )
        return self.last_path

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note whether the monitored metric has improved."""
        if trainer.sanity_checking:
            self._check_monitors(trainer)
            return
        if trainer.state.fn != TrainerFn.FITTING or self.config.monitor is None:
            return
        self._check_monitors(trainer)
        value = float(trainer.callback_metrics[self.config.monitor])
        if value < self.best_score if self.config.mode == "min" else value > self.best_score:
            self.best_score = value
            self._best_due = True

    def _check_monitors(self, trainer: pl.Trainer) -> None:
        """Misspelt metrics are found in the sanity check, not after an epoch."""
        monitors = {"checkpoint.monitor": self.config.monitor}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and not callback._check_on_train_epoch_end:
                monitors["monitor of EarlyStopping"] = callback.monitor
        for name, monitor in monitors.items():
            if monitor is not None and monitor not in trainer.callback_metrics:
                known = ", ".join(sorted(trainer.callback_metrics)) or "none"
                raise ValueError(f"{name} is '{monitor}', which is not logged. Logged: {known}.")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run resumed in another folder has no best.ckpt there yet: its next validation makes one."""
        if not self.best_path.is_file():
            self.best_score = math.inf if self.config.mode == "min" else -math.inf

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The end of an epoch is worth keeping, unless epochs are short."""
        self._epoch_ended = (trainer.current_epoch + 1) % self.config.every_n_epochs == 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Before a step: write what was due after the previous one."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._save_what_is_due(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the last step."""
        self._epoch_ended = True
        self._save_what_is_due(trainer)

    def save_now(self, trainer: pl.Trainer) -> None:
        """Write last.ckpt, and best.ckpt where it is due, whatever the interval."""
        self._save_what_is_due(trainer, at_once=True)

    def _save_what_is_due(self, trainer: pl.Trainer, *, at_once: bool = False) -> None:
        if self.config.monitor is None and self._epoch_ended:
            self._best_due = True
        last_due = at_once or self._epoch_ended or self._interval_over(trainer)
        if last_due:
            # Noted before writing, so that the file itself says when it was written.
            self._last_saved_step = trainer.global_step
            self._epoch_ended = False
        best_due, self._best_due = self._best_due, False
        due = [path for is_due, path in ((best_due, self.best_path), (last_due, self.last_path)) if is_due]
        if due:
            require_finite = getattr(trainer.lightning_module, "require_finite", None)
            if require_finite is not None:
                require_finite()
            start = time.monotonic()
            self._write(trainer, due)
            self.seconds_spent += time.monotonic() - start
        if last_due:
            self._last_saved_time = time.monotonic()

    def _write(self, trainer: pl.Trainer, paths: list[Path]) -> None:
        """The state of the run once, under as many names as are due."""
        trainer.save_checkpoint(paths[0])
        if len(paths) > 1:
            if trainer.is_global_zero:
                for path in paths[1:]:
                    link_checkpoint(paths[0], path)
            # The end of training reads what stands there on every process.
            trainer.strategy.barrier("RunCheckpoints._write")

    def _interval_over(self, trainer: pl.Trainer) -> bool:
        step = trainer.global_step
        if step == self._last_saved_step:
            return False
        if self.config.every_n_steps is not None and step % self.config.every_n_steps == 0:
            return True
        if self.config.every_minutes is None:
            return False
        over = time.monotonic() - self._last_saved_time >= 60 * self.config.every_minutes
        if trainer.world_size == 1:
            return over
        # Clocks differ between processes, and asking at every step would cost a synchronisation each.
        return step % STEPS_BETWEEN_CLOCK_CHECKS == 0 and trainer.strategy.reduce_boolean_decision(over, all=False)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: the best score so far and when it last saved."""
        return {"best_score": self.best_score, "last_saved_step": self._last_saved_step, "seconds": self.seconds_spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score of the interrupted run; nothing of a checkpoint that is tested."""
        if not self._is_training:
            return
        self.best_score = state_dict["best_score"]
        self._last_saved_step = state_dict["last_saved_step"]
        self.seconds_spent = state_dict["seconds"]
