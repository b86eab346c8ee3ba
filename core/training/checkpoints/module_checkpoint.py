"""What a checkpoint says of a module, and how a run or the trained module comes back from it (contracts 5 and 6)."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from core.training.averaging import require_average_callback, weights_to_use
from core.training.checkpoints.elastic import Cut, RandomDraws, trainer_settings_in_pieces
from core.training.checkpoints.files import FORMAT, KEY, read_checkpoint
from core.training.checkpoints.plain import from_plain, to_plain
from core.training.command.trainer_checks import shared_settings
from core.training.optimisation import OptimizerConfig, ScheduleConfig
from core.training.process.group import gather_over_processes
from core.training.resume import (
    PlannedData,
    Position,
    environment,
    environment_changes,
    lightning_progress,
    refuse_changed_settings,
)
from core.training.running_sums import RunningSums
from core.training.truncated_bptt import StreamStates

STEPS = "steps of the schedule (trainer.max_epochs, trainer.max_steps)"
STORED_SETTINGS = {
    "model": "settings",
    "preprocessing": "preprocessing",
    "data": "data",
    "trainer": "trainer",
    STEPS: "horizon",
}


def _without(settings: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


class CheckpointedModule(pl.LightningModule):
    """A module that a checkpoint alone can build again, and whose run continues exactly where it stopped.

    Args:
        optimizer: the optimiser.
        schedule: how the learning rate moves.
        seed: seed of initial weights and dropout.
    """

    application: ClassVar[str]
    free_in_evaluation: ClassVar[tuple[str, ...]] = ("optimizer", "schedule", "seed")
    """Settings and preprocessing that a test may have otherwise than the training had."""

    def __init__(self, *, optimizer: OptimizerConfig, schedule: ScheduleConfig, seed: int) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.network: nn.Module | None = None
        self.preprocessing: dict[str, Any] = {}
        self.position = Position()
        self.training_sums = RunningSums()
        self.training_states = StreamStates()
        self.random_draws = RandomDraws()

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The module's own settings as plain data: enough to build it again, and what a resumed run must share."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The module that `settings` described."""

    @abstractmethod
    def build(self, preprocessing: Mapping[str, Any]) -> nn.Module:
        """Build the network for data with this preprocessing."""

    @abstractmethod
    def _schedule_horizon(self) -> int | None:
        """Steps of the whole run where the schedule depends on them."""

    @abstractmethod
    def _steps_an_epoch(self) -> int:
        """Optimiser steps of an epoch."""

    def _data(self) -> PlannedData:
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                "The network is built from the data's preprocessing: pass a DataModule to the trainer, or call "
                "module.build(preprocessing) first."
            )
        return cast("PlannedData", datamodule)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put under the key `unroll` all that using or resuming this run needs, as plain data."""
        checkpoint[KEY] = {
            "format": FORMAT,
            "application": self.application,
            "settings": to_plain(self.settings()),
            "preprocessing": to_plain(self.preprocessing),
            "data": to_plain(self._data().settings()) if getattr(self.trainer, "datamodule", None) else {},
            "horizon": self._schedule_horizon(),
            "trainer": shared_settings(self.trainer),
            "position": self._position_now().to_plain(),
            "training_sums": self._training_sums_of_all(),
            "streams": self.training_states.state_dict(),
            "environment": environment(),
            "pieces": {
                "processes": self.trainer.world_size,
                "accumulation": self.trainer.accumulate_grad_batches,
                "random": self.random_draws.any,
            },
        }

    def _training_sums_of_all(self) -> dict[str, Tensor]:
        totals: dict[str, Tensor] = {}
        for of_process in gather_over_processes(self.training_sums.state_dict()):
            for name, total in of_process.items():
                totals[name] = totals[name] + total if name in totals else total
        return totals

    def _position_now(self) -> Position:
        position = Position(**self.position.to_plain())
        # A callback that saves at the end of a step comes before the hook of ours that counts it.
        position.batch += self.global_step - position.total_batches
        position.global_step = position.total_batches = self.global_step
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        # An epoch whose last validation is still to come has not ended.
        if position.batch >= batches and not position.validation_pending:
            position.epoch, position.batch = position.epoch + 1, 0
        # Other ends (max_time, max_steps) are the trainer's, and may be moved.
        position.stopped = any(
            isinstance(callback, EarlyStopping) and callback.stopped_epoch > 0
            for callback in self.trainer.callbacks  # type: ignore[attr-defined]
        )
        return position

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint belongs here and, in training, set the run to its position.

        Raises:
            ValueError: for another application, or settings that changed since the checkpoint.
        """
        stored = checkpoint.get(KEY)
        if stored is None or stored["application"] != self.application:
            found = stored["application"] if stored else "no application of Unroll"
            raise ValueError(f"A checkpoint of {found} cannot be loaded into {self.application}.")
        if getattr(self, "_trainer", None) is None or getattr(self.trainer, "datamodule", None) is None:
            return
        data = self._data()
        before = {key: stored[name] for key, name in STORED_SETTINGS.items()}
        now = {
            "model": to_plain(self.settings()),
            "preprocessing": to_plain(self.preprocessing),
            "data": to_plain(data.settings()),
            "trainer": shared_settings(self.trainer),
            STEPS: self._schedule_horizon() if self.trainer.state.fn == TrainerFn.FITTING else None,
        }
        if self.trainer.state.fn != TrainerFn.FITTING:
            checkpoint["state_dict"] = weights_to_use(checkpoint)
            # A test may be of other data and may be measured otherwise, but not of another network or preprocessing.
            for settings in (before, now):
                settings["model"] = _without(settings["model"], self.free_in_evaluation)
                settings["preprocessing"] = _without(settings["preprocessing"], self.free_in_evaluation)
                settings["data"] = settings["trainer"] = settings[STEPS] = None
            refuse_changed_settings(before, now, purpose="The checkpoint was trained with other settings")
            return
        cut = Cut(processes=self.trainer.world_size, accumulation=self.trainer.accumulate_grad_batches)
        # Checkpoints of earlier versions do not say how batches were cut.
        pieces = stored.get("pieces")
        if pieces is not None:
            before["trainer"] = trainer_settings_in_pieces(
                before["trainer"],
                stored=pieces["accumulation"],
                now=cut.accumulation,
                steps_an_epoch=self._steps_an_epoch(),
            )
        refuse_changed_settings(before, now)
        if pieces is not None:
            self.random_draws.goes_on(pieces, now=cut)
        require_average_callback(checkpoint, self.trainer.callbacks)  # type: ignore[attr-defined]
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
        warning = environment_changes(stored["environment"])
        if warning:
            rank_zero_warn(warning)
        self.position = Position(**stored["position"])
        # The sums of all processes, to which each adds its own: only one goes on with them. The others know their names,
        # because an epoch may end without a further step.
        sums = stored["training_sums"]
        if not self.trainer.is_global_zero:
            sums = {name: torch.zeros_like(total) for name, total in sums.items()}
        self.training_sums.load_state_dict(sums)
        self.training_states.load_state_dict(stored["streams"])
        checkpoint["loops"] = lightning_progress(
            checkpoint["loops"], self.position, accumulation=self.trainer.accumulate_grad_batches
        )
        self.trainer.should_stop = self.position.stopped
        data.start_at(self.position.epoch, self.position.batch)

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """The trained module, in evaluation mode, from a checkpoint alone.

        Raises:
            ValueError: see `read_checkpoint`.
        """
        checkpoint = read_checkpoint(path, application=cls.application)
        module = cls.from_settings(checkpoint[KEY]["settings"])
        module.build(checkpoint[KEY]["preprocessing"])
        state = weights_to_use(checkpoint)
        # The precision of the run that wrote it: anything narrower would lose what it learnt.
        dtypes = {value.dtype for value in state.values() if value.is_floating_point()}
        if len(dtypes) == 1:
            module.to(dtypes.pop())
        module.load_state_dict(state)
        return module.eval()

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Lightning's usual way to load a checkpoint; the same as `from_checkpoint`."""
        if args or kwargs:
            raise ValueError("A checkpoint of Unroll holds its settings: load_from_checkpoint takes the path alone.")
        return cls.from_checkpoint(checkpoint_path)

    def _optimisation_settings(self) -> dict[str, Any]:
        return {"optimizer": to_plain(self.optimizer), "schedule": to_plain(self.schedule), "seed": self.seed}

    @staticmethod
    def _optimisation_from(settings: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "optimizer": from_plain(OptimizerConfig, settings["optimizer"]),
            "schedule": from_plain(ScheduleConfig, settings["schedule"]),  # type: ignore[type-abstract]
            "seed": settings["seed"],
        }
