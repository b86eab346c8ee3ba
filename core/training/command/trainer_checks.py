"""Trainer settings under which a contract could not hold, refused with the reason."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from pytorch_lightning.cli import LightningArgumentParser
from pytorch_lightning.strategies import DDPStrategy

from core.training.checkpoints.files import SafeCheckpointIO

REFUSED_PRECISIONS = {
    "16-mixed": "a summed loss overflows fp16",
    "16-true": "a summed loss overflows fp16",
    "transformer-engine-float16": "a summed loss overflows fp16",
    "bf16-true": "small updates vanish in bf16 weights",
}

# A resumed run must share these with the run that it continues.
SHARED_SETTINGS = (
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
)


LIMITS = tuple(f"trainer.limit_{part}_batches" for part in ("train", "val", "test", "predict"))


def keep_limits_whole(parser: LightningArgumentParser) -> None:
    """Let 1 be one batch, as Lightning documents it, and 1.0 all of them.

    `Union[float, int]` and `Union[int, float]` are equal, and Python may give the one that was made first for the other: then a
    parser tries the float first, and makes 1.0 of 1.
    """
    for action in parser._actions:
        if action.dest in LIMITS:
            action._typehint = int | float | None  # type: ignore[attr-defined]


def hold_to_contracts(pl_trainer: pl.Trainer, *, has_idle_weights: bool = False) -> None:
    """Refuse what cannot hold; set what must.

    Args:
        pl_trainer: the trainer.
        has_idle_weights: whether some steps train a part of the weights alone.

    Raises:
        ValueError: naming the setting and what to do instead.
    """
    trainer: Any = pl_trainer
    if trainer.precision in REFUSED_PRECISIONS:
        raise ValueError(
            f"trainer.precision is {trainer.precision}, but {REFUSED_PRECISIONS[trainer.precision]}. "
            "Use bf16-mixed or 32-true."
        )
    if trainer.overfit_batches:
        raise ValueError(
            "trainer.overfit_batches replaces the batch plan. To overfit a little data, set "
            "trainer.limit_train_batches, or give a small data set."
        )
    limit, accumulation = trainer.limit_train_batches, trainer.accumulate_grad_batches
    if accumulation > 1 and (limit % accumulation if isinstance(limit, int) else limit != 1.0):
        raise ValueError(
            f"trainer.limit_train_batches is {limit}, which would cut a global batch of {accumulation} accumulated pieces. "
            f"Give it as a number of pieces that is a multiple of {accumulation}."
        )
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):
        raise ValueError(
            "GradientAccumulationScheduler would merge global batches that the plan keeps apart. Set "
            "trainer.accumulate_grad_batches, and data.batch_size for the size of a step."
        )
    if trainer.world_size > 1 and trainer._accelerator_connector.use_distributed_sampler:
        raise ValueError(
            "The batch plan already deals examples to processes: pass Trainer(use_distributed_sampler=False)."
        )
    if isinstance(trainer.strategy, DDPStrategy):
        # Nothing of ours keeps running statistics, and the synchronisation would hang uneven evaluation.
        settings = trainer.strategy._ddp_kwargs
        settings.setdefault("broadcast_buffers", False)
        if has_idle_weights:
            if settings.get("static_graph"):
                raise ValueError(
                    "trainer.strategy has static_graph: true, but not every step trains the same weights here: a part of them "
                    "thaws later. Leave static_graph out."
                )
            # Processes would wait for gradients that nobody makes.
            settings["find_unused_parameters"] = True
    trainer.strategy.checkpoint_io = SafeCheckpointIO()


def shared_settings(pl_trainer: pl.Trainer) -> dict[str, Any]:
    """The trainer's settings that decide what is learnt, as plain data."""
    values = {name: getattr(pl_trainer, name, None) for name in SHARED_SETTINGS}
    return {
        name: value if isinstance(value, int | float) or value is None else str(value) for name, value in values.items()
    }


def planned_steps(pl_trainer: pl.Trainer, *, num_batches: int) -> tuple[int | None, int]:
    """Optimiser steps of the whole run, None where it has no end in steps, and of an epoch.

    Args:
        pl_trainer: the trainer.
        num_batches: global batches of an epoch.
    """
    trainer: Any = pl_trainer
    limit, accumulation = trainer.limit_train_batches, trainer.accumulate_grad_batches
    pieces = num_batches * accumulation
    pieces = min(pieces, limit) if isinstance(limit, int) else int(pieces * limit)
    steps_an_epoch = max(-(-pieces // accumulation), 1)
    limits = [trainer.max_steps] if trainer.max_steps > 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        limits.append(trainer.max_epochs * steps_an_epoch)
    return (min(limits) if limits else None), steps_an_epoch
