"""The LightningModule under every application: the loss contract, the seeds, the position, the checkpoint's content."""

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

from core.nn.losses import SummedLoss
from core.training.checkpoint_io import FORMAT, KEY, read_checkpoint
from core.training.optimisation import Constant, OptimizerConfig, ScheduleConfig
from core.training.plain import from_plain, to_plain
from core.training.resume import (
    PlannedData,
    Position,
    environment,
    environment_changes,
    lightning_progress,
    refuse_changed_settings,
)
from core.training.running_sums import RunningSums
from core.training.seeding import seed_step, seeded
from core.training.trainer_checks import hold_to_contracts, planned_steps, shared_settings
from core.training.warm_start import initialise_from

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


class ApplicationModule(pl.LightningModule):
    """Base of the applications' LightningModules.

    A subclass says how its network is built from config and preprocessing, and what its losses are; everything that
    must be right once for all applications stands here.

    The loss contract (contract 4): `training_loss` returns a sum and a count. Lightning averages gradients over
    processes and divides them by the number of accumulated pieces; before the optimiser step (and before clipping) this
    is undone and the gradient divided by the count of the whole global batch. So 1 x 64, 4 accumulated x 16 and
    2 processes x 32 examples give the same step, whatever the lengths.

    Args:
        optimizer: the optimiser.
        schedule: how the learning rate moves.
        seed: seed of initial weights and dropout; the command line links it to `seed_everything`.
    """

    application: ClassVar[str]
    free_in_evaluation: ClassVar[tuple[str, ...]] = ("optimizer", "schedule", "seed")
    """Settings and preprocessing that a test may have otherwise than the training had."""

    def __init__(
        self,
        *,
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = Constant(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.network: nn.Module | None = None
        self.preprocessing: dict[str, Any] = {}
        self.position = Position()
        self.training_sums = RunningSums()
        self.evaluation_sums = RunningSums()
        self.evaluation_metrics: dict[str, float] = {}
        self._init_from: tuple[str, Sequence[str]] | None = None
        self._count: Tensor | None = None
        self._finite: Tensor | None = None

    # What an application defines -------------------------------------------------------------------------------------

    @abstractmethod
    def build_network(self, preprocessing: Mapping[str, Any]) -> nn.Module:
        """The network for data with this preprocessing (vocabulary sizes, number of series ...)."""

    @abstractmethod
    def training_loss(self, batch: Any) -> SummedLoss:
        """Summed loss and count of one piece."""

    @abstractmethod
    def evaluation_values(self, batch: Any) -> Mapping[str, SummedLoss]:
        """Every metric of one evaluation piece as a sum and a count; filler examples (weight 0) count nothing."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The module's own settings as plain data: enough to build it again, and what a resumed run must share."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The module that `settings` described."""

    # Building --------------------------------------------------------------------------------------------------------

    def build(self, preprocessing: Mapping[str, Any]) -> nn.Module:
        """Build the network, its initial weights a function of the seed alone."""
        with seeded(self.seed, "weights"):
            network = self.build_network(preprocessing)
        self.network = network
        self.preprocessing = dict(preprocessing)
        return network

    def init_from(self, path: str | Path, *, skip: Sequence[str] = ()) -> None:
        """Fine-tune: when training starts, take the weights of a checkpoint; everything else comes from the config."""
        self._init_from = (str(path), skip)

    def setup(self, stage: str) -> None:
        """Hold the trainer to the contracts.

        Raises:
            ValueError: for a trainer setting under which a contract cannot hold.
        """
        hold_to_contracts(self.trainer)

    def configure_model(self) -> None:
        """Build the network from the data's preprocessing; Lightning calls this in the precision of the run."""
        if self.network is not None:
            return
        network = self.build(self._data().preprocessing())
        if self._init_from and self.trainer.state.fn == TrainerFn.FITTING:
            path, skip = self._init_from
            initialise_from(network, path, application=self.application, skip=skip)

    def _data(self) -> PlannedData:
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise ValueError(
                "The network is built from the data's preprocessing: pass a DataModule to the trainer, or call "
                "module.build(preprocessing) first."
            )
        return cast("PlannedData", datamodule)

    def configure_optimizers(self) -> Any:
        """The configured optimiser with its schedule, stepped once an optimiser step."""
        optimizer = self.optimizer.build(self.named_parameters())
        # Counted from the position and the plan, not from estimated_stepping_batches, which would make the loaders
        # before the position of a resumed run is known.
        num_steps, steps_an_epoch = self._planned_steps()
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: self.schedule.factor(step=step, num_steps=num_steps, steps_an_epoch=steps_an_epoch),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _planned_steps(self) -> tuple[int, int]:
        plan = getattr(getattr(self.trainer, "datamodule", None), "plan", None)
        num_steps, steps_an_epoch = planned_steps(self.trainer, num_batches=plan("train").num_batches if plan else 1)
        if num_steps is None and self.schedule.depends_on_num_steps:
            raise ValueError(
                f"The schedule {type(self.schedule).__name__} needs to know how long training is: set trainer.max_epochs "
                "or trainer.max_steps, or use Constant or Exponential."
            )
        return num_steps or 1, steps_an_epoch

    def _schedule_horizon(self) -> int | None:
        return self._planned_steps()[0] if self.schedule.depends_on_num_steps else None

    # Training --------------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums; a run that resumes within an epoch skips this hook and keeps them."""
        self.position.epoch = self.current_epoch
        self.position.batch = 0
        self.training_sums.reset()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the piece by its position, and keep the loggers' step at the optimiser's."""
        index, piece = divmod(batch_idx, self.trainer.accumulate_grad_batches)
        seed_step(self.seed, epoch=self.current_epoch, batch=index, piece=piece, rank=self.global_rank)
        if piece == 0:
            # Lightning counts one step too many when it skips a validation that was done before the interruption.
            self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.global_step

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The summed loss of one piece; its count is kept until the optimiser steps."""
        loss = self.training_loss(batch)
        count = loss.count.detach().double()
        self._count = count if self._count is None else self._count + count
        self.training_sums.add({"loss": loss})
        finite = torch.isfinite(loss.sum.detach())
        self._finite = finite if self._finite is None else self._finite & finite
        trainer: Any = self.trainer
        # As Lightning counts: it writes what was logged in the last step of every n.
        if trainer.log_every_n_steps and (self.global_step + 1) % trainer.log_every_n_steps == 0:
            self.require_finite()
            mean = float(loss.sum.detach()) / max(float(loss.count), 1.0)
            self.log("train/loss_piece", mean, prog_bar=True, on_step=True, on_epoch=False)
        return loss.sum

    def require_finite(self) -> None:
        """Stop a run that has diverged, on all processes together; called before a checkpoint is written.

        Raises:
            ValueError: where a loss since the last call was not finite.
        """
        finite, self._finite = self._finite, None
        if finite is None or self.trainer.strategy.reduce_boolean_decision(bool(finite), all=True):
            return
        raise ValueError(
            f"The training loss is no longer finite (by step {self.global_step}, epoch {self.current_epoch}). Lower "
            "model.optimizer.lr, set trainer.gradient_clip_val, or look for outliers in the data. The checkpoints "
            "written before are finite."
        )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn the mean of summed losses that Lightning and DDP leave into sum / count over the global batch."""
        assert self._count is not None
        count = self._sum_over_processes(self._count)
        self._count = None
        scale = self.trainer.world_size * self.trainer.accumulate_grad_batches / count.clamp(min=1.0)
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, scale.to(gradients[0].dtype))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count a finished global batch."""
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            self.position.batch += 1
            self.position.total_batches += 1

    def on_train_epoch_end(self) -> None:
        """Log the exact mean loss of the epoch over all processes."""
        for name, value in self.training_sums.means(self._sum_over_processes).items():
            self.log(f"train/{name}", value, prog_bar=name == "loss")

    def _sum_over_processes(self, tensor: Tensor) -> Tensor:
        reduced = self.trainer.strategy.reduce(tensor.clone(), reduce_op="sum")
        assert isinstance(reduced, Tensor)
        return reduced

    # Evaluation ------------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Start the metrics' sums."""
        self.evaluation_sums.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add one piece to the metrics."""
        self.evaluation_sums.add(self.evaluation_values(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over all processes."""
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Start the metrics' sums."""
        self.evaluation_sums.reset()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add one piece to the metrics."""
        self.evaluation_sums.add(self.evaluation_values(batch))

    def on_test_epoch_end(self) -> None:
        """Log the metrics over all processes."""
        self._log_evaluation("test")

    def _log_evaluation(self, prefix: str) -> None:
        # Kept beside Lightning's own copy, which is rounded to float32.
        self.evaluation_metrics = self.evaluation_sums.means(self._sum_over_processes)
        for name, value in self.evaluation_metrics.items():
            self.log(f"{prefix}/{name}", value, prog_bar=prefix == "val" and name == "loss")
        self.evaluation_sums.reset()

    # Checkpoints -----------------------------------------------------------------------------------------------------

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
            "training_sums": self.training_sums.state_dict(),
            "environment": environment(),
        }

    def _position_now(self) -> Position:
        position = Position(**self.position.to_plain())
        # A callback that saves at the end of a step comes before the hook of ours that counts it.
        position.batch += self.global_step - position.total_batches
        position.global_step = position.total_batches = self.global_step
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        if position.batch >= batches:
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
            # A test may be of other data and may be measured otherwise, but not of another network or preprocessing.
            for settings in (before, now):
                settings["model"] = _without(settings["model"], self.free_in_evaluation)
                settings["preprocessing"] = _without(settings["preprocessing"], self.free_in_evaluation)
                settings["data"] = settings["trainer"] = settings[STEPS] = None
            refuse_changed_settings(before, now, purpose="The checkpoint was trained with other settings")
            return
        refuse_changed_settings(before, now)
        warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch")
        warning = environment_changes(stored["environment"])
        if warning:
            rank_zero_warn(warning)
        self.position = Position(**stored["position"])
        self.training_sums.load_state_dict(stored["training_sums"])
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
        state = checkpoint["state_dict"]
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
