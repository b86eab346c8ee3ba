"""The stages of a training: what is frozen at first may be trained later, at learning rates of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from core.training.optimisation import ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class TrainingStage:
    """Some epochs; the schedule of the learning rate runs from its begin to its end in each stage."""

    epochs: int
    """How many."""
    lr: float | None = None
    """Learning rate at the schedule's peak, of all but the encoder; null = model.optimizer.lr."""
    encoder_lr: float | None = None
    """The same of what may be trained of the encoder; null = the encoder stays as it is."""

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs of a stage must be at least 1, got {self.epochs}.")
        for name in ("lr", "encoder_lr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} of a stage must be positive, or null, got {value}.")


AnyStage = TypeVar("AnyStage", bound=TrainingStage)


@dataclass(frozen=True)
class Stages(Generic[AnyStage]):
    """The stages of a run, one after the other; the last one goes on for as long as the run does."""

    stages: Sequence[AnyStage]

    def at(self, epoch: int) -> AnyStage:
        """The stage that an epoch belongs to."""
        return self.stages[self._number(epoch)]

    def _number(self, epoch: int) -> int:
        end = 0
        for number, stage in enumerate(self.stages):
            end += stage.epochs
            if epoch < end:
                return number
        return len(self.stages) - 1

    @property
    def frozen_epochs(self) -> int | None:
        """Epochs before the encoder is trained for the first time; None where it never is."""
        begin = 0
        for stage in self.stages:
            if stage.encoder_lr is not None:
                return begin
            begin += stage.epochs
        return None

    @property
    def num_epochs(self) -> int:
        """Of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def num_reached(self, num_epochs: float) -> int:
        """How many stages a run of so many epochs comes to."""
        begins = [sum(stage.epochs for stage in self.stages[:number]) for number in range(len(self.stages))]
        return sum(begin < num_epochs for begin in begins)

    def rates(
        self, schedule: ScheduleConfig, *, step: int, num_steps: int, steps_an_epoch: int, peak: float
    ) -> tuple[float, float]:
        """Factors on `peak` at an optimiser step: of all but the encoder, and of the encoder.

        Args:
            schedule: how the rate moves within a stage.
            step: optimiser step of the run.
            num_steps: optimiser steps of the run.
            steps_an_epoch: of an epoch.
            peak: the optimiser's learning rate.
        """
        number = self._number(step // steps_an_epoch)
        begin = steps_an_epoch * sum(stage.epochs for stage in self.stages[:number])
        stage, is_last = self.stages[number], number == len(self.stages) - 1
        length = num_steps - begin if is_last else stage.epochs * steps_an_epoch
        factor = schedule.factor(step=step - begin, num_steps=max(length, 1), steps_an_epoch=steps_an_epoch)
        own = peak if stage.lr is None else stage.lr
        return factor * own / peak, factor * (stage.encoder_lr or 0.0) / peak
