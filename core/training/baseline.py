"""The baseline beside every result: the same data, trainer and optimiser with another network."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger

from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from core.training.module import ApplicationModule
from core.training.preemption import Preemption

FOLDER = "baseline"


@dataclass(frozen=True)
class BaselineConfig:
    """The feed-forward baseline (notes N1) trained after the run, so that its result never stands alone."""

    enabled: bool = True
    """Train it. A config's max_epochs may stay where the command line says false."""
    max_epochs: int | None = None
    """Epochs at most; None: as many as the run."""

    def __post_init__(self) -> None:
        if self.max_epochs is not None and self.max_epochs < 1:
            raise ValueError(f"baseline.max_epochs must be at least 1, got {self.max_epochs}.")


def train_baseline(
    module: ApplicationModule,
    data: pl.LightningDataModule,
    *,
    config: BaselineConfig,
    trainer_settings: dict[str, Any],
    checkpoint: CheckpointConfig,
    run_dir: Path,
) -> tuple[ApplicationModule, dict[str, float]]:
    """Train and test the baseline in `<run_dir>/baseline`.

    A baseline that was interrupted continues from its own last checkpoint; one that is done is only tested.

    Args:
        module: the untrained baseline.
        data: the run's DataModule, set up.
        config: how long.
        trainer_settings: arguments of the run's trainer, not yet used by another trainer.
        checkpoint: when checkpoints are written.
        run_dir: the run's folder.

    Returns:
        The baseline with its best weights, and its test metrics.
    """
    folder = run_dir / FOLDER
    checkpoints = RunCheckpoints(folder / "checkpoints", config=checkpoint)
    settings = copy.copy(trainer_settings)
    settings["default_root_dir"] = str(folder)
    # Callbacks of the run (a learning-rate monitor, say) may need a logger.
    settings["logger"] = CSVLogger(folder, name="csv")
    settings["callbacks"] = [*(settings.get("callbacks") or []), Preemption(checkpoints), checkpoints]
    if config.max_epochs is not None:
        settings["max_epochs"] = config.max_epochs
        every = settings.get("check_val_every_n_epoch")
        if every is not None:  # shorter than the run, it is measured once at least
            settings["check_val_every_n_epoch"] = min(every, config.max_epochs)
    trainer = pl.Trainer(**settings)
    data.start_at(0, 0)  # type: ignore[attr-defined]  # the run itself may have been resumed
    resume = str(checkpoints.last_path) if checkpoints.last_path.is_file() else None
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    return module, test_metrics(trainer, module, data, checkpoints.tested_path())


def test_metrics(
    trainer: pl.Trainer, module: ApplicationModule, data: pl.LightningDataModule, ckpt_path: Path
) -> dict[str, float]:
    """The test metrics of a checkpoint, over all processes, without their prefix; the module then has its weights."""
    module.evaluation_metrics = {}
    trainer.test(module, datamodule=data, ckpt_path=str(ckpt_path), verbose=False)
    if not module.evaluation_metrics:
        raise ValueError("The test measured nothing: trainer.limit_test_batches is 0.")
    return dict(module.evaluation_metrics)
