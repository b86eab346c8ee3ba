"""Where the time of an epoch goes: steps a second, and how long the step waits for data."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only


class Throughput(pl.Callback):
    """Measures the share of training time in which the step waits for its next batch, and says it at the end.

    Validation is not counted. The share is logged each epoch as `train/data_wait_share`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch_start = 0.0
        self._validation = 0.0
        self._validation_start = 0.0
        self._waited_before = 0.0
        self.train_seconds = 0.0
        self.wait_seconds = 0.0
        self._fit_start: float | None = None
        self._fit_before = 0.0
        self._is_over = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that resumes within an epoch starts its clock here."""
        self._fit_start = time.perf_counter()
        self._is_over = False
        self._start_epoch()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._epoch_start = time.perf_counter()
        self._validation = 0.0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation begins."""
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is over."""
        self._validation += time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the share of this epoch."""
        seconds = time.perf_counter() - self._epoch_start - self._validation
        waited_in_all: Any = getattr(trainer.train_dataloader, "wait_seconds", 0.0)
        waited = waited_in_all - self._waited_before
        self._waited_before = waited_in_all
        self.train_seconds += seconds
        self.wait_seconds += waited
        pl_module.log("train/data_wait_share", waited / max(seconds, 1e-9))

    @property
    def fit_seconds(self) -> float:
        """Seconds of training and validation, those before an interruption (up to the last checkpoint) included."""
        running = 0.0 if self._fit_start is None else time.perf_counter() - self._fit_start
        return self._fit_before + running

    def state_dict(self) -> dict[str, Any]:
        """The seconds so far: a resumed run reports those of the whole run."""
        return {"fit": self.fit_seconds, "train": self.train_seconds, "wait": self.wait_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the seconds of the interrupted run; not those of a checkpoint that is tested once training is over."""
        if self._is_over:
            return
        self._fit_before = state_dict["fit"]
        self.train_seconds, self.wait_seconds = state_dict["train"], state_dict["wait"]

    @property
    def wait_share(self) -> float:
        """Share of the training time so far that was spent waiting for data, 0 to 1."""
        return self.wait_seconds / self.train_seconds if self.train_seconds else 0.0

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say it."""
        self._fit_before, self._fit_start = self.fit_seconds, None
        self._is_over = True
        _say(f"Trained for {self.train_seconds:.1f} s, of which {100 * self.wait_share:.1f} % waiting for data.")


@rank_zero_only
def _say(message: str) -> None:
    print(message, flush=True)
