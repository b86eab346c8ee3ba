"""Where the time of a run goes: work a second, padding, waiting for data; and the norm of its gradient, and memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only

from core.training.checkpoints.saving import RunCheckpoints
from core.training.module import ApplicationModule
from core.training.process.group import gather_over_processes
from core.training.watching.workload import Workload, peak_gpu_memory, peak_memory

NOTHING = Workload(0, 0, 0)


@dataclass(frozen=True)
class Work:
    """Work of all processes, and the seconds of their mean: they take their steps together."""

    units: float = 0.0
    steps: float = 0.0
    slots: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def per_second(self) -> float:
        """Units a second of training."""
        return self.units / self.seconds if self.seconds else 0.0

    @property
    def padding_waste(self) -> float:
        """Share of the time steps that are padding, 0 to 1."""
        return 1.0 - self.steps / self.slots if self.slots else 0.0

    @property
    def wait_share(self) -> float:
        """Share of the time that was spent waiting for data, 0 to 1."""
        return self.waited / self.seconds if self.seconds else 0.0


class Throughput(pl.Callback):
    """Measures what a run works on and waits for, logs it, and says it at the end.

    Logged at the end of each epoch, over all processes: `train/<unit>_per_second`, `train/padding_waste` (share of the
    batches' time steps that are padding), `train/data_wait_share` (share of the time in which the step waits for its next
    batch), `train/memory_mb` (peak of the largest process) and, on GPUs, `train/gpu_memory_mb`. Logged with the steps that
    are logged: `train/gradient_norm`, of all weights together, before clipping. Neither validation nor our checkpoints
    count as time of training. No number of the run is changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.whole = Work()
        """Of all epochs that are over, those before an interruption included."""
        self.memory: dict[str, float] = {}
        """Peaks over all processes, MB: `memory_mb` and, on GPUs, `gpu_memory_mb`."""
        self.unit = ""
        self._epoch_before = Work()
        self._load = NOTHING
        self._start: float | None = None
        self._apart = 0.0
        self._apart_start: float | None = None
        self._left = Work()
        self._saved_epoch = Work()
        self._waited_before = 0.0
        self._trainer: pl.Trainer | None = None
        self._fit_start: float | None = None
        self._fit_before = 0.0
        self._is_training = True

    # The clock -------------------------------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """What is counted; a finished run that is started again has figures without a further step."""
        self.unit = pl_module.unit if isinstance(pl_module, ApplicationModule) else ""
        self._is_training = stage == "fit"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that resumes within an epoch starts its clock here, and goes on with the sums of that epoch."""
        self._trainer = trainer
        self._fit_start = time.perf_counter()
        self._start_clock(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        # A run that was interrupted in the validation at an epoch's end may resume with the next epoch.
        self.whole, self._epoch_before = self.whole + self._epoch_before, Work()
        self._start_clock(trainer)

    def _start_clock(self, trainer: pl.Trainer) -> None:
        self._start = time.perf_counter()
        self._load, self._left = NOTHING, Work()
        self._apart, self._apart_start = -_checkpoint_seconds(trainer), None
        self._waited_before = _waited(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation begins."""
        self._apart_start = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is over."""
        self._apart, self._apart_start = self._seconds_apart(), None

    def _seconds_apart(self) -> float:
        running = 0.0 if self._apart_start is None else time.perf_counter() - self._apart_start
        return self._apart + running

    # What is counted -------------------------------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a piece that is done, and log the gradient's norm where a step is logged."""
        if not isinstance(pl_module, ApplicationModule):
            return
        self._load = self._load + pl_module.workload(batch)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and trainer.global_step % every == 0:
            norm = math.hypot(*pl_module.gradient_norms().values())
            pl_module.log("train/gradient_norm", norm, on_step=True, on_epoch=False)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what this epoch was."""
        epoch = self._epoch_before + self._since_clock_start()
        self.whole += epoch
        self._epoch_before, self._saved_epoch, self._start = Work(), Work(), None
        self._look_at_memory(pl_module.device)
        if self.unit:
            pl_module.log(f"train/{self.unit}_per_second", epoch.per_second)
            pl_module.log("train/padding_waste", epoch.padding_waste)
        pl_module.log("train/data_wait_share", epoch.wait_share)
        for name, peak in self.memory.items():
            pl_module.log(f"train/{name}", peak)

    def _since_clock_start(self) -> Work:
        """The work of all processes since the clock was started; a collective call."""
        return _joined(gather_over_processes(astuple(self._ours())))

    def _ours(self) -> Work:
        if self._start is None:
            return self._left
        assert self._trainer is not None
        seconds = time.perf_counter() - self._start - self._seconds_apart() - _checkpoint_seconds(self._trainer)
        units, steps, slots = map(float, self._load)
        return Work(units, steps, slots, seconds, _waited(self._trainer) - self._waited_before)

    def _look_at_memory(self, device: torch.device) -> None:
        found = {"memory_mb": peak_memory(), "gpu_memory_mb": peak_gpu_memory(device)}
        for of_process in gather_over_processes(found):
            for name, peak in of_process.items():
                if peak is not None:
                    self.memory[name] = max(peak, self.memory.get(name, 0.0))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop the clock; what was done since it was started still counts."""
        self._left, self._start = self._ours(), None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say it."""
        self._fit_before, self._fit_start = self.fit_seconds, None
        work = f", {self.whole.per_second:.1f} {self.unit}/s" if self.unit else ""
        _say(f"Trained for {self.train_seconds:.1f} s{work}, of which {100 * self.wait_share:.1f} % waiting for data.")

    # The whole run ---------------------------------------------------------------------------------------------------

    def figures(self, *, to_the_end: bool = True) -> dict[str, float]:
        """Figures of the run, as `metrics.json` and the last line have them.

        Args:
            to_the_end: up to now, which all processes ask for together; or up to the last checkpoint, which any may.
        """
        work = self.whole + (self._epoch_before + self._since_clock_start() if to_the_end else self._saved_epoch)
        figures = {"data_wait_share": round(work.wait_share, 5)}
        if self.unit:
            figures |= {
                f"{self.unit}_per_second": round(work.per_second, 2),
                "padding_waste": round(work.padding_waste, 5),
            }
        return figures | {name: round(peak, 1) for name, peak in self.memory.items()}

    @property
    def train_seconds(self) -> float:
        """Seconds of training in the epochs that are over."""
        return self.whole.seconds

    @property
    def wait_seconds(self) -> float:
        """Seconds of them in which the step waited for data."""
        return self.whole.waited

    @property
    def wait_share(self) -> float:
        """Share of the training time that was spent waiting for data, 0 to 1."""
        return self.whole.wait_share

    @property
    def fit_seconds(self) -> float:
        """Seconds of training and validation, those before an interruption (up to the last checkpoint) included."""
        running = 0.0 if self._fit_start is None else time.perf_counter() - self._fit_start
        return self._fit_before + running

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, of all processes: a resumed run reports those of the whole run, and of its whole epochs."""
        self._saved_epoch = self._epoch_before + self._since_clock_start()
        return {
            "fit": self.fit_seconds,
            "whole": asdict(self.whole),
            "epoch": asdict(self._saved_epoch),
            "memory": dict(self.memory),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the sums of the interrupted run; not those of a checkpoint that is tested."""
        if not self._is_training:
            return
        self._fit_before = state_dict["fit"]
        if "whole" not in state_dict:
            return  # from before work was counted: all figures but the seconds are then those of the rest of the run
        self.whole, self._epoch_before = Work(**state_dict["whole"]), Work(**state_dict["epoch"])
        self.memory = dict(state_dict["memory"])


def _joined(processes: Iterable[tuple[float, ...]]) -> Work:
    """Sums of what the processes worked on, means of their seconds."""
    rows = [Work(*row) for row in processes]
    total = sum(rows, Work())
    return Work(total.units, total.steps, total.slots, total.seconds / len(rows), total.waited / len(rows))


def _waited(trainer: pl.Trainer) -> float:
    waited: float = getattr(trainer.train_dataloader, "wait_seconds", 0.0)
    return waited


def _checkpoint_seconds(trainer: pl.Trainer) -> float:
    return sum(each.seconds_spent for each in trainer.checkpoint_callbacks if isinstance(each, RunCheckpoints))


@rank_zero_only
def _say(message: str) -> None:
    print(message, flush=True)
