"""Slows a run down so that it can be killed where it is meant to be, and says where it is."""

import os
import time

import pytorch_lightning as pl

VARIABLE = "UNROLL_SOAK_PACE"
"""Names the file that the first process adds a line to whenever the run moves on: `step 7`, `validation 7`, `test 24`."""


class Pace(pl.Callback):
    """Waits after every batch; nothing of the run is changed by it.

    Args:
        seconds: how long it waits.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def _say(self, trainer: pl.Trainer, where: str) -> None:
        if trainer.is_global_zero:
            with open(os.environ[VARIABLE], "a", encoding="utf-8") as file:
                file.write(f"{where} {trainer.global_step}\n")

    def on_train_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        """A step begins."""
        self._say(trainer, "step")

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        """A step is over, but for what belongs to it."""
        time.sleep(self.seconds)

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        """The run validates."""
        if not trainer.sanity_checking:
            self._say(trainer, "validation")

    def on_validation_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        """A batch of validation is over."""
        time.sleep(self.seconds)

    def on_test_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
        """Training is over."""
        self._say(trainer, "test")

    def on_test_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        """A batch of the test is over."""
        time.sleep(self.seconds)
