"""A run that is asked to end saves at the end of a batch, on all processes together, and says so.

Nothing is saved inside a signal handler, where half a step may be done: handlers take note (`core.training.process.signals`),
and the note is read between two batches. In training the processes learn of each other's note in the sum that they exchange at
every step anyway; in evaluation they ask each other after each batch.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from core.training.averaging import weights_in_training
from core.training.checkpoints.saving import RunCheckpoints
from core.training.process.signals import Interrupted, is_catching, received


class Preemption(pl.Callback):
    """Ends a run that has been sent a signal, its state saved.

    Training ends before its next batch. A validation within a training is left: the checkpoint says that it is to come, and
    the run that resumes begins with it. Tests have no state, and just end.

    Args:
        checkpoints: what writes the run's last.ckpt; None where nothing is trained.
    """

    def __init__(self, checkpoints: RunCheckpoints | None) -> None:
        super().__init__()
        self.checkpoints = checkpoints
        self._first_step = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lightning's own handlers save, or speak to other processes, wherever the signal finds them: leave them out.

        And so with the exchange before every batch that tells of them, for which a GPU would be waited for each time.
        """
        if is_catching():
            connector: Any = trainer._signal_connector
            connector.register_signal_handlers = lambda: None
            loop: Any = trainer.fit_loop.epoch_loop
            loop._broadcast_sigterm_tensor = lambda: None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A start makes one step at least: so a run that is interrupted again and again gets on all the same."""
        self._first_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Between two steps: save and end."""
        if batch_idx % trainer.accumulate_grad_batches or trainer.global_step == self._first_step:
            return
        module: Any = pl_module
        # Other processes' notes came with the last step; of one process it is known now.
        if module.stop_agreed if trainer.world_size > 1 else received():
            self._save_and_end(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Within a validation: leave it, and let the run that resumes do it."""
        module: Any = pl_module
        if trainer.sanity_checking or module.is_within_step or not _agreed(trainer):
            return
        if trainer.state.fn != TrainerFn.FITTING:
            raise Interrupted(_name())
        module.position.validation_pending = True
        with weights_in_training(trainer):
            self._save_and_end(trainer)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """There is nothing to save."""
        if _agreed(trainer):
            raise Interrupted(_name())

    def _save_and_end(self, trainer: pl.Trainer) -> None:
        if self.checkpoints is None:
            raise Interrupted(_name())
        self.checkpoints.save_now(trainer)
        raise Interrupted(_name(), saved=str(self.checkpoints.last_path))


def _agreed(trainer: pl.Trainer) -> bool:
    here = received() is not None
    return here if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(here, all=False)


def _name() -> str:
    return received() or "a signal to another process"
