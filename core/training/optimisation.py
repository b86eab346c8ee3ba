"""Optimisers and learning-rate schedules by config."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import nn
from torch.optim import Optimizer

OptimizerName = Literal["adam", "adamw", "sgd"]


class Part(NamedTuple):
    """Parameters whose learning rate moves together."""

    named_parameters: Sequence[tuple[str, nn.Parameter]]
    factor: Callable[[int], float]
    """Optimiser step -> factor on the optimiser's learning rate."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam by default; AdamW where weights decay."""

    name: OptimizerName = "adam"
    """adam (Kingma & Ba 2015), adamw (Loshchilov & Hutter 2019) or sgd with momentum 0.9 (Nesterov)."""
    lr: float = 1e-3
    """Learning rate at the schedule's peak."""
    weight_decay: float = 0.0
    """Decay of weights a step, relative to lr (decoupled in adamw); biases and norms do not decay. Not for adam."""

    def __post_init__(self) -> None:
        if self.name not in get_args(OptimizerName):
            raise ValueError(f"optimizer.name must be one of {', '.join(get_args(OptimizerName))}, got {self.name!r}.")
        if self.lr <= 0:
            raise ValueError(f"optimizer.lr must be positive, got {self.lr}.")
        if self.weight_decay < 0:
            raise ValueError(f"optimizer.weight_decay cannot be negative, got {self.weight_decay}.")
        if self.weight_decay and self.name == "adam":
            raise ValueError(
                f"optimizer.weight_decay is {self.weight_decay}, but adam mixes decay into its moments, where it does "
                "little of what is meant. Set optimizer.name to adamw or weight_decay to 0."
            )

    def build(self, parts: Sequence[Part]) -> tuple[Optimizer, list[Callable[[int], float]]]:
        """The optimiser over the parameters that require a gradient, and the factor of each of its groups."""
        groups, factors = [], []
        for part in parts:
            trained = [parameter for _, parameter in part.named_parameters if parameter.requires_grad]
            decayed = [parameter for parameter in trained if parameter.ndim > 1]
            kept = [parameter for parameter in trained if parameter.ndim <= 1]
            for parameters, weight_decay in ((decayed, self.weight_decay), (kept, 0.0)):
                if parameters:
                    groups.append({"params": parameters, "weight_decay": weight_decay})
                    factors.append(part.factor)
        return self._over(groups), factors

    def _over(self, groups: list[dict[str, Any]]) -> Optimizer:
        if self.name == "sgd":
            return torch.optim.SGD(groups, lr=self.lr, momentum=0.9, nesterov=True)
        # One fused call a step where the device has it, instead of one for each tensor.
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        optimizer = kind(groups, lr=self.lr, fused=True)
        # Of a fused optimiser Lightning believes that it unscales gradients itself, and refuses to clip them under mixed
        # precision. There is no scaler here: half precision is bf16.
        optimizer._step_supports_amp_scaling = False
        return optimizer


@dataclass(frozen=True)
class ScheduleConfig(ABC):
    """How the learning rate moves: a factor on the optimiser's lr, computed from the position alone."""

    depends_on_num_steps: ClassVar[bool] = False

    @abstractmethod
    def factor(self, *, step: int, num_steps: int, steps_an_epoch: int) -> float:
        """Factor on the learning rate at optimiser step `step` of `num_steps`."""


@dataclass(frozen=True)
class Constant(ScheduleConfig):
    """Always the optimiser's lr."""

    def factor(self, *, step: int, num_steps: int, steps_an_epoch: int) -> float:
        """One."""
        return 1.0


@dataclass(frozen=True)
class Exponential(ScheduleConfig):
    """Constant for some epochs, then multiplied by `decay` before each further one."""

    constant_epochs: int = 3
    """Epochs at the full rate."""
    decay: float = 0.9
    """Factor an epoch after that, above 0 and at most 1."""

    def __post_init__(self) -> None:
        if self.constant_epochs < 0:
            raise ValueError(f"schedule.constant_epochs cannot be negative, got {self.constant_epochs}.")
        if not 0 < self.decay <= 1:
            raise ValueError(f"schedule.decay must be above 0 and at most 1, got {self.decay}.")

    def factor(self, *, step: int, num_steps: int, steps_an_epoch: int) -> float:
        """1, then decay ** epochs beyond `constant_epochs`."""
        epoch = step // steps_an_epoch
        return self.decay ** max(epoch + 1 - self.constant_epochs, 0)


@dataclass(frozen=True)
class Cosine(ScheduleConfig):
    """Linear warm-up, then half a cosine down to a floor at the end of training (Loshchilov & Hutter 2017, eq. 5)."""

    depends_on_num_steps: ClassVar[bool] = True

    warmup_share: float = 0.05
    """Share of all steps over which the rate rises linearly from 0."""
    floor: float = 0.01
    """Factor at the last step."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"schedule.warmup_share must be at least 0 and below 1, got {self.warmup_share}.")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"schedule.floor must be between 0 and 1, got {self.floor}.")

    def factor(self, *, step: int, num_steps: int, steps_an_epoch: int) -> float:
        """Rising to 1 over the warm-up, then falling to `floor`."""
        warmup = self.warmup_share * num_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        # The last step is number num_steps - 1. A warm-up up to it leaves nothing to fall over.
        remaining = num_steps - 1 - warmup
        progress = min((step - warmup) / remaining, 1.0) if remaining > 0 else 0.0
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class InverseSquareRoot(ScheduleConfig):
    """Linear warm-up, then falling with the square root of the step (Vaswani et al. 2017, section 5.3)."""

    warmup_steps: int = 1000
    """Optimiser steps over which the rate rises linearly from 0; at its end it is the optimiser's lr."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 1:
            raise ValueError(f"schedule.warmup_steps must be at least 1, got {self.warmup_steps}.")

    def factor(self, *, step: int, num_steps: int, steps_an_epoch: int) -> float:
        """(step + 1) / warmup_steps until it is 1, then its inverse square root."""
        progress = (step + 1) / self.warmup_steps
        return min(progress, math.sqrt(1 / progress))
