"""A checkpoint for the tests of what comes after a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from core.training.checkpoints.saving import CheckpointConfig, RunCheckpoints
from tests.contracts.case import Case


def trained(
    case: Case, folder: Path, *, init_from: Path | None = None, skip: Sequence[str] = (), **settings: Any
) -> Path:
    """A checkpoint of one step in float64, from fresh weights or those of another checkpoint but for `skip`."""
    run = case.make(folder, **settings)
    if init_from is not None:
        run.module.init_from(init_from, skip=skip)
    checkpoints = RunCheckpoints(folder / "checkpoints", config=CheckpointConfig())
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        precision="64-true",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        default_root_dir=str(folder),
        callbacks=[checkpoints],
    )
    trainer.fit(run.module, datamodule=run.data)
    return checkpoints.last_path
