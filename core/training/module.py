"""The LightningModule under every application: the loss contract, the seeds, training and evaluation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from core.nn.losses import SummedLoss
from core.training.checkpoints.module_checkpoint import CheckpointedModule
from core.training.command.trainer_checks import hold_to_contracts, planned_steps
from core.training.non_finite import FiniteGuard, Search, locate_in_backward, locate_in_forward
from core.training.optimisation import Constant, OptimizerConfig, Part, ScheduleConfig
from core.training.process.group import gather_over_processes, sum_over_processes
from core.training.process.seeding import seed_step, seeded
from core.training.process.signals import received
from core.training.running_sums import RunningSums
from core.training.truncated_bptt import Snapshot, StreamStates
from core.training.warm_start import initialise_from
from core.training.watching.workload import Workload


class ApplicationModule(CheckpointedModule):
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

    unit: ClassVar[str]
    """What throughput is counted in, a plural: tokens, windows, images, frames."""

    def __init__(
        self,
        *,
        optimizer: OptimizerConfig = OptimizerConfig(),
        schedule: ScheduleConfig = Constant(),
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule, seed=seed)
        self.evaluation_sums = RunningSums()
        self.evaluation_states = StreamStates()
        self.evaluation_metrics: dict[str, float] = {}
        self._evaluation_rows: dict[int, Any] = {}
        self._init_from: tuple[str, Sequence[str]] | None = None
        self.taken_weights: frozenset[str] = frozenset()
        """Names of the network's weights that came from the checkpoint of `init_from`."""
        self._count: Tensor | None = None
        self.stop_agreed = False
        """Whether a process had been sent a signal by the last step, as all processes know."""
        self._guard = FiniteGuard()
        self._loss_again: Callable[[], Tensor] | None = None
        self._gradient_norms: Tensor | None = None

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

    def evaluation_rows(self, batch: Any) -> Mapping[int, Any]:
        """Plain data of each real example by its number, for metrics that need all of them together; none by default."""
        return {}

    def metrics_of_rows(self, rows: Mapping[int, Any], *, part: str) -> Mapping[str, float]:
        """Metrics of the rows of all processes, in the order of their numbers; `part` is `validation` or `test`."""
        return {}

    @abstractmethod
    def workload(self, batch: Any) -> Workload:
        """What a piece of a training batch holds, in `unit` and in time steps; without waiting for a device."""

    def facts(self) -> dict[str, Any]:
        """What else belongs into `metrics.json`, as plain data: how a metric was computed, say; nothing by default."""
        return {}

    @property
    def has_idle_weights(self) -> bool:
        """Whether some steps train a part of the weights alone; False by default."""
        return False

    # Building --------------------------------------------------------------------------------------------------------

    def build(self, preprocessing: Mapping[str, Any]) -> nn.Module:
        """Build the network, its initial weights a function of the seed alone."""
        # Lightning asks for it on the device of the run, whose generator would draw others; it moves the network itself.
        with torch.device("cpu"), seeded(self.seed, "weights"):
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
        hold_to_contracts(self.trainer, has_idle_weights=self.has_idle_weights)

    def configure_model(self) -> None:
        """Build the network from the data's preprocessing; Lightning calls this in the precision of the run."""
        if self.network is not None:
            return
        network = self.build(self._data().preprocessing())
        if self._init_from and self.trainer.state.fn == TrainerFn.FITTING:
            path, skip = self._init_from
            fresh = initialise_from(network, path, application=self.application, skip=skip)
            self.taken_weights = frozenset(network.state_dict()) - frozenset(fresh)

    def configure_optimizers(self) -> Any:
        """The configured optimiser with its schedule, stepped once an optimiser step."""
        # Counted from the position and the plan, not from estimated_stepping_batches, which would make the loaders
        # before the position of a resumed run is known.
        num_steps, steps_an_epoch = self._planned_steps()
        optimizer, factors = self.optimizer.build(
            self.optimised_parts(num_steps=num_steps, steps_an_epoch=steps_an_epoch)
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimised_parts(self, *, num_steps: int, steps_an_epoch: int) -> Sequence[Part]:
        """The parameters in parts, each with what its learning rate is multiplied by; one part by default.

        Args:
            num_steps: optimiser steps of the run.
            steps_an_epoch: of an epoch.
        """

        def factor(step: int) -> float:
            return self.schedule.factor(step=step, num_steps=num_steps, steps_an_epoch=steps_an_epoch)

        return [Part(list(self.named_parameters()), factor)]

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

    def _steps_an_epoch(self) -> int:
        return self._planned_steps()[1]

    # Training --------------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums and streams; a run that resumes within an epoch skips this hook and keeps them."""
        self.position.epoch = self.current_epoch
        self.position.batch = 0
        self.training_sums.reset()
        self.training_states.reset()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the piece by its position, and keep the loggers' step at the optimiser's."""
        self._seed_piece(batch_idx)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            # Lightning counts one step too many when it skips a validation that was done before the interruption.
            self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.global_step

    def _seed_piece(self, batch_idx: int) -> None:
        index, turn = divmod(batch_idx, self.trainer.accumulate_grad_batches)
        # Numbered as the sampler deals them, so that a piece draws the same whoever computes it.
        piece = turn * self.trainer.world_size + self.global_rank
        seed_step(self.seed, epoch=self.current_epoch, batch=index, piece=piece)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The summed loss of one piece; its count is kept until the optimiser steps."""
        self._loss_again = partial(self._compute_again, batch, batch_idx, self.training_states.snapshot())
        with self.random_draws.watched(self.device):
            loss = self.training_loss(batch)
        count = loss.count.detach().double()
        self._count = count if self._count is None else self._count + count
        self.training_sums.add({"loss": loss})
        self._guard.see(loss.sum, locate=partial(self._locate, locate_in_forward))
        trainer: Any = self.trainer
        # As Lightning counts: it writes what was logged in the last step of every n.
        if trainer.log_every_n_steps and (self.global_step + 1) % trainer.log_every_n_steps == 0:
            self.require_finite()
            mean = float(loss.sum.detach()) / max(float(loss.count), 1.0)
            self.log("train/loss_piece", mean, prog_bar=True, on_step=True, on_epoch=False)
        return loss.sum

    def _compute_again(self, batch: Any, batch_idx: int, states: Snapshot) -> Tensor:
        """The loss of a piece a second time, exactly as the first; nothing of the run is changed by it."""
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            torch.random.fork_rng(devices),
            self.training_states.preserved(at=states),
            self.trainer.precision_plugin.forward_context(),
        ):
            self._seed_piece(batch_idx)
            return self.training_loss(batch).sum

    def _locate(self, search: Search) -> str:
        assert self.network is not None
        assert self._loss_again is not None
        return search(self.network, self._loss_again, prefix="network")

    def require_finite(self) -> None:
        """Stop a run that has diverged, on all processes together; called before a checkpoint is written.

        Raises:
            ValueError: where a loss or a gradient since the last call was not finite, saying where it began.
        """
        finite = self._guard.finite_since()
        if self.trainer.strategy.reduce_boolean_decision(finite, all=True):
            return
        if not finite and self._guard.where is None:
            self._guard.where = self._locate(locate_in_forward)
        where = " ".join(dict.fromkeys(found for found in gather_over_processes(self._guard.where) if found))
        raise ValueError(
            f"The training loss or its gradient is no longer finite (by step {self.global_step}, epoch "
            f"{self.current_epoch}). {where} Lower model.optimizer.lr, set trainer.gradient_clip_val, or look for outliers "
            "in the data. The checkpoints written before are finite."
        )

    def on_after_backward(self) -> None:
        """Take note of gradients that are not finite before they reach the weights."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        if gradients:
            self._gradient_norms = torch.stack(torch._foreach_norm(gradients))
            self._guard.see(self._gradient_norms, locate=partial(self._locate, locate_in_backward))

    def gradient_norms(self) -> dict[str, float]:
        """The norm of each weight's gradient at the last optimiser step, before clipping."""
        if self._gradient_norms is None:
            return {}
        names = [name for name, parameter in self.named_parameters() if parameter.grad is not None]
        return dict(zip(names, self._gradient_norms.tolist(), strict=True))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn the mean of summed losses that Lightning and DDP leave into sum / count over the global batch."""
        assert self._count is not None
        if self.trainer.world_size > 1:
            # One exchange for both; Lightning waits for one of its own at every batch of several processes anyway.
            asked = self._count.new_tensor(float(received() is not None))
            count, stops = self._sum_over_processes(torch.stack([self._count, asked]))
            self.stop_agreed = bool(stops)
        else:
            count = self._count
        self._count = None
        scale = self.trainer.world_size * self.trainer.accumulate_grad_batches / count.clamp(min=1.0)
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, scale.to(gradients[0].dtype))
        if self._gradient_norms is not None:
            self._gradient_norms = self._gradient_norms * scale

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
        return tensor if self.trainer.world_size == 1 else sum_over_processes(tensor)

    # Evaluation ------------------------------------------------------------------------------------------------------

    @property
    def is_within_step(self) -> bool:
        """Whether pieces of a global batch have been computed whose step is still to come."""
        return self._count is not None

    def on_validation_epoch_start(self) -> None:
        """Start the metrics' sums and the streams."""
        trainer: Any = self.trainer
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.position.validation_pending = False
            # The last step's number, as always in a validation; one that is caught up on after a resumption knows no step yet.
            trainer.fit_loop.epoch_loop._batches_that_stepped = max(self.global_step - 1, 0)
        self._start_evaluation()

    def _start_evaluation(self) -> None:
        self.evaluation_sums.reset()
        self.evaluation_states.reset()
        self._evaluation_rows = {}

    def _evaluate(self, batch: Any) -> None:
        self.evaluation_sums.add(self.evaluation_values(batch))
        self._evaluation_rows.update(self.evaluation_rows(batch))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add one piece to the metrics."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over all processes."""
        self._log_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Start the metrics' sums and the streams."""
        self._start_evaluation()

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add one piece to the metrics."""
        self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Log the metrics over all processes."""
        self._log_evaluation("test")

    def _log_evaluation(self, prefix: str) -> None:
        # Kept beside Lightning's own copy, which is rounded to float32.
        self.evaluation_metrics = self.evaluation_sums.means(self._sum_over_processes)
        rows: dict[int, Any] = {}
        for part in gather_over_processes(self._evaluation_rows):
            rows.update(part)
        if rows:
            part_name = {"val": "validation"}.get(prefix, prefix)
            self.evaluation_metrics.update(self.metrics_of_rows(dict(sorted(rows.items())), part=part_name))
        for name, value in self.evaluation_metrics.items():
            self.log(f"{prefix}/{name}", value, prog_bar=prefix == "val" and name == "loss")
        self._start_evaluation()
